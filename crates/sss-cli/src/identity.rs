//! Place of the tool's identity, and of other private files. What is in an identity file is the library's affair.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sss::{Identity, IdentityError};

use crate::error::{Error, Exit};
use crate::output::Output;

/// Largest file of servers or EIDs that is read, in bytes.
pub(crate) const MOST: u64 = 8 << 20;

/// Advises what to do where there can be no directory for the tool's files.
const SET_HOME: &str = "set HOME or XDG_CONFIG_HOME to a directory where this user may write, or name the file with \
                        --identity or --file";

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
    let directory = directories.config_dir();
    // It would be another one for each directory that the command is run in.
    if !directory.is_absolute() {
        let what = format!(
            "HOME is no absolute path: {} is where an identity would be",
            directory.display()
        );
        let next = "set HOME to a path that begins with /, or XDG_CONFIG_HOME";
        return Err(Error::new(Exit::Failed, what, next));
    }
    Ok(directory.to_owned())
}

/// Checks that there is a file that can be read to its end: opening a FIFO waits for whoever writes to it.
///
/// # Errors
/// If there is none, or it is too large.
pub(crate) fn check_is_file(path: &Path) -> Result<(), Error> {
    match fs::metadata(path) {
        Ok(there) if there.is_file() && there.len() <= MOST => Ok(()),
        Ok(_) => {
            let what = format!("{} is no file of at most {} MiB", path.display(), MOST >> 20);
            Err(Error::new(Exit::Failed, what, "move it away, or name a file"))
        }
        Err(error) => Err(Error::local(path, "read", &error)),
    }
}

/// Returns where the identity is unless another file is named.
pub(crate) fn default_file() -> Result<PathBuf, Error> {
    Ok(config_directory()?.join("identity"))
}

/// Makes the directory of a private file if that is the one of this user's files, and missing. Any other has to be
/// there: who names a file in a directory that is not has mistyped it, more often than not.
///
/// # Errors
/// If it cannot be made, or is not there.
pub(crate) fn make_directory_of(file: &Path) -> Result<(), Error> {
    check_directory_of(file)?;
    let Some(directory) = directory_of(file).filter(|directory| is_own(directory)) else {
        return Ok(());
    };
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| {
        use io::ErrorKind as Kind;
        let told = Error::local(directory, "make the directory", &error);
        match error.kind() {
            // It is HOME, which nobody has named, that is wrong.
            Kind::NotFound | Kind::NotADirectory | Kind::PermissionDenied | Kind::ReadOnlyFilesystem => {
                told.advising(SET_HOME)
            }
            _ => told,
        }
    })
}

/// Checks that a file that may be missing can be made: its directory is there, or is that of this user's files.
///
/// # Errors
/// If it is not.
pub(crate) fn check_directory_of(file: &Path) -> Result<(), Error> {
    let Some(directory) = directory_of(file).filter(|directory| !is_own(directory)) else {
        return Ok(());
    };
    match fs::metadata(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (shown, file) = (printable(directory), file.file_name().unwrap_or_default());
            let what = format!("there is no directory {shown} for the file {}", printable(file));
            Err(Error::new(Exit::Failed, what, "make it, or name a file elsewhere"))
        }
        // What else is wrong with it is told when it is used.
        _ => Ok(()),
    }
}

/// The directory that has to be there for a file.
fn directory_of(file: &Path) -> Option<&Path> {
    file.parent().filter(|directory| !directory.as_os_str().is_empty())
}

fn is_own(directory: &Path) -> bool {
    config_directory().is_ok_and(|own| own == directory)
}

fn printable(path: impl AsRef<OsStr>) -> String {
    sss_files::printable(path.as_ref().as_bytes())
}

/// Returns whether there is an identity, before [`load`] makes one.
pub(crate) fn exists(file: Option<&Path>) -> bool {
    file.is_some() || default_file().is_ok_and(|file| file.exists())
}

/// The identity in the file that was named, which must be there; or that of this user, which is made when it is first
/// needed.
pub(crate) fn load(file: Option<&Path>, output: Output) -> Result<Identity, Error> {
    let Some(file) = file else {
        let file = default_file()?;
        let is_new = !file.exists();
        make_directory_of(&file)?;
        let identity = Identity::load_or_create(&file)?;
        if is_new {
            output.note(format!("made a new identity for this user, in {}", printable(&file)));
        }
        return Ok(identity);
    };
    Ok(Identity::load(file)?)
}

/// Makes a new identity in a file that is not there yet.
pub(crate) fn create(file: &Path) -> Result<Identity, Error> {
    make_directory_of(file)?;
    let identity = Identity::generate();
    identity.save(file)?;
    Ok(identity)
}

/// Makes a new identity in place of the one in a file.
pub(crate) fn replace(file: &Path) -> Result<Identity, Error> {
    make_directory_of(file)?;
    let identity = Identity::generate();
    identity.replace(file)?;
    Ok(identity)
}

impl From<IdentityError> for Error {
    fn from(error: IdentityError) -> Self {
        let what = error.to_string();
        let next = match &error {
            IdentityError::Permissions { path, .. } | IdentityError::NotAnIdentity { path } if path.is_dir() => {
                let what = format!("{} is a directory, and no identity", path.display());
                return Self::new(Exit::Failed, what, "name the file in it");
            }
            IdentityError::Permissions { path, .. } => format!("chmod 600 {}", path.display()),
            IdentityError::NotFound { path } => format!(
                "check the name; or make a new one: sss id --new --file {}",
                path.display()
            ),
            IdentityError::NotAnIdentity { .. } => {
                "name another file, or move it away: `sss id` makes a new one".to_owned()
            }
            IdentityError::Exists { .. } => "name another file with --file, or give --force to replace it: \
                 peers will then take this host for another one"
                .to_owned(),
            IdentityError::Io { path, source } => return Self::local(path, "use the identity in", source),
            _ => "check the name".to_owned(),
        };
        Self::new(Exit::Failed, what, next)
    }
}

/// Appends a line to a private file, in one write.
pub(crate) fn append_line(file: &Path, line: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut opened = OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
    opened.write_all(format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    const TEXT: Output = Output::new(false);

    #[test]
    fn directories_that_are_named_are_not_made_and_stay_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("new/identity");
        for made in [create(&file), replace(&file)] {
            let said = made.unwrap_err().to_string();
            assert!(
                said.contains("there is no directory") && said.contains("for the file identity"),
                "{said}"
            );
        }
        let directory = file.parent().unwrap();
        assert!(!directory.exists());
        fs::create_dir(directory).unwrap();
        let made = create(&file).unwrap();
        assert_eq!(load(Some(&file), TEXT).unwrap().eid(), made.eid());
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(create(&file).unwrap_err().to_string().contains("--force"));
        assert_ne!(replace(&file).unwrap().eid(), made.eid());
        assert_eq!(fs::metadata(directory).unwrap().mode() & 0o777, 0o755);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("identity");
        let said = |file: &Path| load(Some(file), TEXT).unwrap_err().to_string();
        let missing = said(&file);
        assert!(
            missing.contains("no identity") && missing.contains("sss id --new --file"),
            "{missing}"
        );
        assert!(!file.exists());
        let directory = said(dir.path());
        assert!(
            directory.contains("is a directory") && !directory.contains("chmod"),
            "{directory}"
        );
        create(&file).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let open = said(&file);
        assert!(open.contains("-> chmod 600"), "{open}");
        fs::write(&file, "hello").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let other = said(&file);
        assert!(
            other.contains("not an identity file") && other.contains("-> "),
            "{other}"
        );
    }
}
