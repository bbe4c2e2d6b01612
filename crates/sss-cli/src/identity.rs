//! Place of the tool's identity, and of other private files. What is in an identity file is the library's affair.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sss::{Identity, IdentityError};

use crate::error::{Error, Exit};

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

/// Returns where the identity is unless another file is named.
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
    make_directory_of(&file)?;
    Ok(Identity::load_or_create(&file)?)
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
            IdentityError::Permissions { path, .. } => format!("chmod 600 {}", path.display()),
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

    #[test]
    fn missing_directories_are_made_for_the_owner_and_others_stay_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("new/dir/identity");
        let made = load_or_create(Some(&file)).unwrap();
        assert_eq!(load_or_create(Some(&file)).unwrap().eid(), made.eid());
        let directory = file.parent().unwrap();
        assert_eq!(fs::metadata(directory).unwrap().mode() & 0o777, 0o700);

        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(create(&file).unwrap_err().to_string().contains("--force"));
        assert_ne!(replace(&file).unwrap().eid(), made.eid());
        assert_eq!(fs::metadata(directory).unwrap().mode() & 0o777, 0o755);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("identity");
        create(&file).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let said = load_or_create(Some(&file)).unwrap_err().to_string();
        assert!(said.contains("-> chmod 600"), "{said}");
        fs::write(&file, "hello").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let said = load_or_create(Some(&file)).unwrap_err().to_string();
        assert!(said.contains("not an identity file") && said.contains("-> "), "{said}");
    }
}
