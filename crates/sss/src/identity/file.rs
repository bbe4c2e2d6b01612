//! Identities in files: docs/book/identity.md has the format.
//!
//! A new file is written under another name, readable by its owner only from its first moment, and then given its name
//! in one step. So nobody ever sees a part of a key, and of two processes that begin at once one comes first, and the
//! other finds it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

use super::Identity;

/// Beginning of the line with the key.
const LABEL: &str = "sss-identity-1 ";
/// The largest file that is looked into, in bytes.
const MAX_FILE: usize = 4096;

/// Reason why an identity could not be read from a file, or kept in one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// There is no such file, in a directory that exists.
    #[error("there is no identity in {path:?}: no such file")]
    NotFound {
        /// The file that was named.
        path: PathBuf,
    },
    /// The directory of the file does not exist, or is no directory.
    #[error("the directory {path:?} does not exist: make it first, or name another file")]
    NoDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// Others than the owner have rights on the file. Its key is not used, since others may have it.
    #[error("others can read or change the private key in {path:?} (mode {mode:o}): chmod 600 it")]
    Permissions {
        /// The file that was named.
        path: PathBuf,
        /// The file's permissions, as `chmod` takes them.
        mode: u32,
    },
    /// The file is something else.
    #[error("{path:?} is not an identity file")]
    NotAnIdentity {
        /// The file that was named.
        path: PathBuf,
    },
    /// There is a file of that name. It was not touched.
    #[error("{path:?} exists already")]
    Exists {
        /// The file that was named.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot use the identity file {path:?}: {source}")]
    Io {
        /// The file that was named.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// In files. These calls block for as long as the file system takes.
impl Identity {
    /// Reads the identity that [`Self::save`], [`Self::load_or_create`] or the tool `sss id` wrote.
    ///
    /// # Errors
    /// [`IdentityError::NotFound`] or [`IdentityError::NoDirectory`] if there is no file,
    /// [`IdentityError::Permissions`] if others than its owner have any right on it (Unix),
    /// [`IdentityError::NotAnIdentity`] if it is something else, and [`IdentityError::Io`] if it cannot be read.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, IdentityError> {
        let path = path.as_ref();
        let file = open(path).map_err(|error| from_io(path, error))?;
        check_permissions(path, &file)?;
        // Nothing of the key stays behind: the buffer never grows, and is erased.
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE + 1));
        let limit = u64::try_from(MAX_FILE + 1).unwrap_or(u64::MAX);
        file.take(limit)
            .read_to_end(&mut text)
            .map_err(|error| from_io(path, error))?;
        let key = parse(&text).ok_or_else(|| IdentityError::NotAnIdentity { path: path.to_owned() })?;
        Ok(Self::from_bytes(*key))
    }

    /// Reads the identity in a file; if there is none, makes one and keeps it there, as [`Self::save`] does.
    ///
    /// Several processes may do so at once: all get the same identity. The directory must exist, and is not changed.
    ///
    /// # Errors
    /// As [`Self::load`] and [`Self::save`]. An existing file is never replaced, whatever is in it.
    ///
    /// # Panics
    /// As [`Self::generate`].
    pub fn load_or_create(path: impl AsRef<Path>) -> Result<Self, IdentityError> {
        let path = path.as_ref();
        match Self::load(path) {
            Err(IdentityError::NotFound { .. }) => {}
            found => return found,
        }
        let identity = Self::generate();
        match identity.save(path) {
            Ok(()) => Ok(identity),
            // Somebody else was faster.
            Err(IdentityError::Exists { .. }) => Self::load(path),
            Err(error) => Err(error),
        }
    }

    /// Keeps the identity in a new file that only its owner can read (mode 0600 on Unix; elsewhere, with the rights
    /// that new files in that directory have). The file appears complete or not at all.
    ///
    /// # Errors
    /// [`IdentityError::Exists`] if there is a file of that name: see [`Self::replace`];
    /// [`IdentityError::NoDirectory`] if its directory is missing, and [`IdentityError::Io`] if it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), IdentityError> {
        let path = path.as_ref();
        self.write(path, place_new)
    }

    /// As [`Self::save`], in place of a file of that name, if there is one. Whatever it held is lost: if that was an
    /// identity, nobody can be that host any more.
    ///
    /// # Errors
    /// [`IdentityError::NoDirectory`] if its directory is missing, and [`IdentityError::Io`] if it cannot be written.
    pub fn replace(&self, path: impl AsRef<Path>) -> Result<(), IdentityError> {
        self.write(path.as_ref(), |from, to| fs::rename(from, to))
    }

    fn write(&self, path: &Path, place: fn(&Path, &Path) -> io::Result<()>) -> Result<(), IdentityError> {
        let temporary = Temporary::create(path).map_err(|error| from_io(path, error))?;
        let placed = temporary
            .write(self)
            .and_then(|()| place(&temporary.path, path))
            .map_err(|error| from_io(path, error));
        drop(temporary);
        placed?;
        sync_directory(directory_of(path));
        Ok(())
    }
}

/// A file beside the one that is to be; removed when dropped, if it still has its name.
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    fn create(beside: &Path) -> io::Result<Self> {
        let name = beside.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{:016x}.tmp", u64::from_le_bytes(random)));
        let path = directory_of(beside).join(temporary);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path)?;
        Ok(Self { path, file })
    }

    fn write(&self, identity: &Identity) -> io::Result<()> {
        let key = identity.to_bytes();
        let mut text = Zeroizing::new(String::with_capacity(256));
        text.push_str(&format!(
            "# Private key of {}: keep it secret.\n{LABEL}",
            identity.eid()
        ));
        for byte in key.iter() {
            for digit in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(digit.into(), 16));
            }
        }
        text.push('\n');
        (&self.file).write_all(text.as_bytes())?;
        self.file.sync_all()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // It is gone if it was renamed.
        let _ = fs::remove_file(&self.path);
    }
}

/// Gives a file its name, unless there is one of that name.
fn place_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    match rustix::fs::renameat_with(
        rustix::fs::CWD,
        from,
        rustix::fs::CWD,
        to,
        rustix::fs::RenameFlags::NOREPLACE,
    ) {
        // Not all file systems can.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {}
        done => return Ok(done?),
    }
    fs::hard_link(from, to)
}

/// Opens a file to be read. A pipe that nobody writes to is opened at once as well, to be told what it is.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(target_os = "linux")]
    if let Ok(flags) = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()) {
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags);
    }
    options.open(path)
}

fn directory_of(path: &Path) -> &Path {
    let directory = path.parent().filter(|d| !d.as_os_str().is_empty());
    directory.unwrap_or(Path::new("."))
}

/// Makes a new name survive a power failure, where that is possible.
fn sync_directory(directory: &Path) {
    if let Ok(opened) = File::open(directory) {
        // The identity is kept all the same.
        let _ = opened.sync_all();
    }
}

fn from_io(path: &Path, error: io::Error) -> IdentityError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory if !directory_of(&path).is_dir() => {
            let path = directory_of(&path).to_owned();
            IdentityError::NoDirectory { path }
        }
        io::ErrorKind::NotFound => IdentityError::NotFound { path },
        io::ErrorKind::AlreadyExists => IdentityError::Exists { path },
        _ => IdentityError::Io { path, source: error },
    }
}

#[cfg(unix)]
fn check_permissions(path: &Path, file: &File) -> Result<(), IdentityError> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata().map_err(|error| from_io(path, error))?;
    let mode = metadata.mode() & 0o777;
    let path = path.to_owned();
    if !metadata.is_file() {
        Err(IdentityError::NotAnIdentity { path })
    } else if mode & 0o077 != 0 {
        Err(IdentityError::Permissions { path, mode })
    } else {
        Ok(())
    }
}

#[cfg(not(unix))]
fn check_permissions(_path: &Path, _file: &File) -> Result<(), IdentityError> {
    Ok(())
}

/// The key in a file: one line with the label, besides comments and empty lines.
fn parse(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    if text.len() > MAX_FILE {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let mut lines = text.lines().map(str::trim_end);
    let mut keys = lines.by_ref().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let digits = keys.next()?.strip_prefix(LABEL)?.as_bytes();
    if keys.next().is_some() || digits.len() != 64 {
        return None;
    }
    let mut key = Zeroizing::new([0; 32]);
    let digit = |c: u8| char::from(c).to_digit(16);
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = *pair else { return None };
        *byte = u8::try_from(digit(high)? << 4 | digit(low)?).ok()?;
    }
    Some(key)
}

#[cfg(all(test, unix))]
mod tests;
