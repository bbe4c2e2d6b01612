//! The host's identity: a private key in a file that only its owner can read.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sss::Identity;

use crate::error::{Error, Exit};

/// What the line with the key begins with.
const LABEL: &str = "sss-identity-1 ";
/// More is no identity file.
const MAX_FILE: u64 = 4096;

/// The platform's directory for the tool's files.
pub(crate) fn config_directory() -> Result<PathBuf, Error> {
    let directories = directories::ProjectDirs::from("", "", "sss").ok_or_else(|| {
        let next = "set HOME, or name the file with --identity or --file";
        Error::new(
            Exit::Failed,
            "this user has no home directory to keep an identity in",
            next,
        )
    })?;
    Ok(directories.config_dir().to_owned())
}

/// Where the identity is unless another file is named.
pub(crate) fn default_file() -> Result<PathBuf, Error> {
    Ok(config_directory()?.join("identity"))
}

/// Makes the directory of a private file, if it is missing.
pub(crate) fn make_directory_of(file: &Path) -> Result<(), Error> {
    let Some(directory) = file.parent().filter(|d| !d.as_os_str().is_empty()) else {
        return Ok(());
    };
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| Error::local(directory, "make the directory", &error))
}

/// The identity in a file; made now if there is no file.
pub(crate) fn load_or_create(file: Option<&Path>) -> Result<Identity, Error> {
    let file = match file {
        Some(file) => file.to_owned(),
        None => default_file()?,
    };
    match load(&file)? {
        Some(identity) => Ok(identity),
        None => create(&file),
    }
}

/// The identity in a file. `None`: there is no file.
///
/// # Errors
/// If others can read the file, or it holds no identity.
pub(crate) fn load(file: &Path) -> Result<Option<Identity>, Error> {
    let opened = match fs::File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| Error::local(file, "read the identity in", &error))?,
    };
    let failed = |error: io::Error| Error::local(file, "read the identity in", &error);
    let mode = opened.metadata().map_err(failed)?.mode();
    if mode & 0o077 != 0 {
        let what = format!(
            "others can read or change the private key in {} (mode {:o})",
            file.display(),
            mode & 0o777
        );
        return Err(Error::new(Exit::Failed, what, format!("chmod 600 {}", file.display())));
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    let read = (&opened).take(MAX_FILE).read_to_string(&mut text);
    let key = read.ok().and_then(|_| parse(&text)).ok_or_else(|| {
        let what = format!("{} is not an identity file", file.display());
        let next = "name another file, or move it away: `sss id` makes a new one";
        Error::new(Exit::Failed, what, next)
    })?;
    Ok(Some(Identity::from_bytes(*key)))
}

/// Makes a new identity and keeps it in a file that is not there yet. If another process was faster, its identity is the result.
pub(crate) fn create(file: &Path) -> Result<Identity, Error> {
    let failed = |error: &io::Error| Error::local(file, "keep the identity in", error);
    make_directory_of(file)?;
    let identity = Identity::generate();
    let temporary = write_temporary(file, &identity).map_err(|e| failed(&e))?;
    match temporary.persist_noclobber(file) {
        Ok(_) => Ok(identity),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            load(file)?.ok_or_else(|| failed(&error.error))
        }
        Err(error) => Err(failed(&error.error)),
    }
}

/// Makes a new identity in place of the one in a file.
pub(crate) fn replace(file: &Path) -> Result<Identity, Error> {
    let failed = |error: &io::Error| Error::local(file, "keep the identity in", error);
    make_directory_of(file)?;
    let identity = Identity::generate();
    let temporary = write_temporary(file, &identity).map_err(|e| failed(&e))?;
    temporary.persist(file).map_err(|e| failed(&e.error))?;
    Ok(identity)
}

fn write_temporary(file: &Path, identity: &Identity) -> io::Result<tempfile::NamedTempFile> {
    let directory = file
        .parent()
        .filter(|d| !d.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    let mut temporary = builder
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(directory)?;
    let key = identity.to_bytes();
    let mut hex = zeroize::Zeroizing::new(String::with_capacity(64));
    key.iter().for_each(|byte| push_hex(&mut hex, *byte));
    let text = zeroize::Zeroizing::new(format!(
        "# Private key of {}: keep it secret.\n{LABEL}{}\n",
        identity.eid(),
        hex.as_str()
    ));
    temporary.write_all(text.as_bytes())?;
    temporary.as_file().sync_all()?;
    Ok(temporary)
}

fn push_hex(out: &mut String, byte: u8) {
    for digit in [byte >> 4, byte & 15] {
        out.extend(char::from_digit(digit.into(), 16));
    }
}

fn parse(text: &str) -> Option<zeroize::Zeroizing<[u8; 32]>> {
    let line = text.lines().find_map(|line| line.strip_prefix(LABEL))?.trim();
    if line.len() != 64 || !line.is_ascii() {
        return None;
    }
    let mut key = zeroize::Zeroizing::new([0; 32]);
    for (i, byte) in key.iter_mut().enumerate() {
        let at = i.saturating_mul(2);
        *byte = u8::from_str_radix(line.get(at..at.saturating_add(2))?, 16).ok()?;
    }
    Some(key)
}

/// Appends a line to a private file, in one write.
pub(crate) fn append_line(file: &Path, line: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut opened = OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
    opened.write_all(format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("new/dir/identity");
        assert!(load(&file).unwrap().is_none());
        let made = load_or_create(Some(&file)).unwrap();
        assert_eq!(load_or_create(Some(&file)).unwrap().eid(), made.eid());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert!(fs::read_to_string(&file).unwrap().contains(&made.eid().to_string()));

        assert_eq!(create(&file).unwrap().eid(), made.eid(), "the first one stays");
        assert_ne!(replace(&file).unwrap().eid(), made.eid());
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_that_others_can_read_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("identity");
        create(&file).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(load(&file).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn other_files_are_not_taken_for_identities() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("identity");
        for text in [
            "",
            "hello",
            "sss-identity-1 1234",
            &format!("{LABEL}{}", "g".repeat(64)),
            &format!("{LABEL}{}", "é".repeat(32)),
        ] {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(
                load(&file).unwrap_err().to_string().contains("not an identity file"),
                "{text}"
            );
        }
    }
}
