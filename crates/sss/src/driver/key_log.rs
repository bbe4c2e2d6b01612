//! The key log: a file with the secrets of all channels, for those who read captures (docs/spec/protection.md).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sss_proto::ChannelSecret;

use crate::error::BuildError;

/// Variable of the environment that names the file.
const VARIABLE: &str = "SSSKEYLOGFILE";

/// A file to which secrets are appended. Several hosts, and processes, may share it: a line is written in one call.
#[derive(Debug)]
pub(crate) struct KeyLogFile {
    file: File,
    has_failed: bool,
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
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Self {
            file: options.open(path)?,
            has_failed: false,
        })
    }

    /// Appends lines. What cannot be written is missing, and the first time, the log says so.
    pub(super) fn append(&mut self, secrets: impl Iterator<Item = ChannelSecret>) {
        for secret in secrets {
            let mut line = secret.line();
            line.push('\n');
            let written = self.file.write_all(line.as_bytes());
            if let Err(error) = written
                && !std::mem::replace(&mut self.has_failed, true)
            {
                tracing::warn!(%error, "the key log cannot be written: lines are missing");
            }
        }
    }
}
