//! The file that keeps the secret of a server's ticket: 32 hexadecimal digits, readable by its owner only.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::error::{Error, Exit};
use crate::identity;
use crate::ticket::Secret;

/// Reads the secret, or makes the file with a new one if there is none.
///
/// # Errors
/// If others can read it, or it is something else.
pub(crate) fn load_or_create(path: &Path) -> Result<Secret, Error> {
    let wrong = |error: io::Error| Error::local(path, "use the ticket file", &error);
    // Opening a FIFO waits for whoever writes to it.
    match std::fs::metadata(path) {
        Ok(there) if !there.is_file() => {
            let what = format!("{} is no file, and cannot keep a ticket", path.display());
            Err(Error::new(Exit::Failed, what, "name a file with --ticket-file"))
        }
        Ok(_) => load(path, File::open(path).map_err(wrong)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            identity::check_directory_of(path)?;
            create(path).map_err(wrong)
        }
        Err(error) => Err(wrong(error)),
    }
}

fn create(path: &Path) -> io::Result<Secret> {
    let secret = Secret::random()?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let digits: String = secret.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(file, "{digits}")?;
    file.sync_all()?;
    Ok(secret)
}

fn load(path: &Path, file: File) -> Result<Secret, Error> {
    let shown = path.display();
    let meta = file.metadata().map_err(|error| Error::local(path, "read", &error))?;
    if meta.is_file() && meta.mode() & 0o077 != 0 {
        let what = format!("others can read the ticket file {shown}, or change it");
        return Err(Error::new(
            Exit::Failed,
            what,
            format!("chmod 600 {shown}, or remove it: then a new one is made"),
        ));
    }
    let mut text = String::new();
    let read = file.take(1024).read_to_string(&mut text);
    read.map_err(|error| Error::local(path, "read", &error))?;
    decode(text.trim()).ok_or_else(|| {
        let what = format!("{shown} is no ticket file: that is 32 hexadecimal digits");
        Error::new(
            Exit::Failed,
            what,
            "give --ticket-file another name: a new file is made if there is none",
        )
    })
}

fn decode(text: &str) -> Option<Secret> {
    let number = u128::from_str_radix(text, 16).ok();
    let number = number.filter(|_| text.len() == 2 * Secret::LEN && text.bytes().all(|b| b.is_ascii_hexdigit()))?;
    Some(Secret::from_bytes(number.to_be_bytes()))
}
