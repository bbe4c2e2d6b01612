//! The key log: a file with the secrets of all channels, for those who read captures (docs/spec/protection.md).

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[cfg(unix)]
use rustix::fs::{FileType, Mode, OFlags};
#[cfg(unix)]
use rustix::io::Errno;
use sss_proto::ChannelSecret;

use crate::error::BuildError;

/// Variable of the environment that names the file.
const VARIABLE: &str = "SSSKEYLOGFILE";

/// A file to which secrets are appended. Several hosts, and processes, may share it: a line is written in one call.
#[derive(Debug)]
pub(crate) struct KeyLogFile {
    file: File,
    has_failed: bool,
    /// Set if the file may end within a line.
    is_cut: bool,
}

impl KeyLogFile {
    /// The file that the environment names, if it names one. Says so in the log.
    pub(crate) fn of_environment() -> Result<Option<Self>, BuildError> {
        let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) else {
            return Ok(None);
        };
        let path = PathBuf::from(path);
        let log = Self::open(&path).map_err(|source| BuildError::KeyLog {
            path: path.clone(),
            source,
        })?;
        tracing::warn!(
            path = %path.display(),
            "{VARIABLE} is set: the keys of all channels go into a file, and whoever reads it can read what is sent"
        );
        Ok(Some(log))
    }

    fn open(path: &Path) -> io::Result<Self> {
        let file = open_private(path)?;
        Ok(Self {
            is_cut: file.metadata()?.len() > 0,
            file,
            has_failed: false,
        })
    }

    /// Appends lines. What cannot be written is missing, and the first time, the log says so.
    pub(super) fn append(&mut self, secrets: impl Iterator<Item = ChannelSecret>) {
        for secret in secrets {
            // What somebody else left there, or a full disk, is no part of this line.
            let mut line = secret.line();
            if self.is_cut {
                line.insert(0, '\n');
            }
            line.push('\n');
            let written = self.file.write_all(line.as_bytes());
            self.is_cut = written.is_err();
            if let Err(error) = written
                && !std::mem::replace(&mut self.has_failed, true)
            {
                tracing::warn!(%error, "the key log cannot be written: lines are missing");
            }
        }
    }
}

/// Opens a file for appending that nobody else can have, or read: a new one, or one that is there under no other name,
/// belongs to this user, and is closed to all others. Never waits, as for a pipe that nobody reads.
#[cfg(unix)]
fn open_private(path: &Path) -> io::Result<File> {
    let flags =
        OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let unfit = |why| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    let file = match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => File::from(file),
        Err(Errno::LOOP) => return unfit("it is a symbolic link"),
        Err(Errno::NXIO) => return unfit("it is no regular file"),
        Err(error) => return Err(error.into()),
    };
    let stat = rustix::fs::fstat(&file)?;
    match () {
        () if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => unfit("it is no regular file"),
        () if stat.st_uid != rustix::process::geteuid().as_raw() => unfit("it belongs to somebody else"),
        () if Mode::from_raw_mode(stat.st_mode).intersects(Mode::RWXG | Mode::RWXO) => {
            unfit("others may read or write it (`chmod 600` closes it to them)")
        }
        () if stat.st_nlink != 1 => unfit("it has other names"),
        () => Ok(file),
    }
}

/// Opens a file for appending.
#[cfg(not(unix))]
fn open_private(path: &Path) -> io::Result<File> {
    std::fs::OpenOptions::new().append(true).create(true).open(path)
}
