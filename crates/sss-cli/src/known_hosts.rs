//! File of the known hosts: lines of `IP:PORT EID`.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use sss::Eid;

use crate::error::{Error, Exit};
use crate::identity;

/// The file of known hosts.
pub(crate) struct KnownHosts {
    file: PathBuf,
}

impl KnownHosts {
    /// In `file`, or in the platform's directory.
    pub(crate) fn new(file: Option<PathBuf>) -> Result<Self, Error> {
        let file = match file {
            Some(file) => file,
            None => identity::config_directory()?.join("known_hosts"),
        };
        Ok(Self { file })
    }

    /// The file, for people.
    pub(crate) fn file(&self) -> std::path::Display<'_> {
        self.file.display()
    }

    /// Finds who is known to be at an address. The last line about it holds.
    ///
    /// # Errors
    /// If a line cannot be understood: it might be about this address.
    pub(crate) fn lookup(&self, address: SocketAddr) -> Result<Option<Eid>, Error> {
        let text = match fs::read_to_string(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| Error::local(&self.file, "read the known hosts in", &error))?,
        };
        let mut found = None;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (known, eid) = parse(line).ok_or_else(|| {
                let what = format!("line {number} of {} is not `IP:PORT EID`", self.file());
                Error::new(Exit::Failed, what, "correct or remove that line")
            })?;
            if known == address {
                found = Some(eid);
            }
        }
        Ok(found)
    }

    /// Remembers who is at an address.
    pub(crate) fn remember(&self, address: SocketAddr, eid: Eid) -> Result<(), Error> {
        identity::make_directory_of(&self.file)?;
        let written = identity::append_line(&self.file, &format!("{address} {eid}"));
        written.map_err(|error| Error::local(&self.file, "write the known hosts to", &error))
    }
}

fn parse(line: &str) -> Option<(SocketAddr, Eid)> {
    let (address, eid) = line.split_once(char::is_whitespace)?;
    Some((address.parse().ok()?, eid.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_remembered_is_found_at_that_address_only() {
        let dir = tempfile::tempdir().unwrap();
        let known = KnownHosts::new(Some(dir.path().join("config/known_hosts"))).unwrap();
        let here: SocketAddr = "127.0.0.1:4433".parse().unwrap();
        let there: SocketAddr = "[::1]:4433".parse().unwrap();
        let (first, second) = (Eid::from_public_key(&[1; 32]), Eid::from_public_key(&[2; 32]));
        assert_eq!(known.lookup(here).unwrap(), None);
        known.remember(here, first).unwrap();
        assert_eq!(known.lookup(here).unwrap(), Some(first));
        assert_eq!(known.lookup(there).unwrap(), None);
        known.remember(there, second).unwrap();
        known.remember(here, second).unwrap();
        assert_eq!(known.lookup(here).unwrap(), Some(second));
    }

    #[test]
    fn a_line_that_cannot_be_understood_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known_hosts");
        fs::write(&file, "# comment\n\n127.0.0.1:1 sss1broken\n").unwrap();
        let known = KnownHosts::new(Some(file)).unwrap();
        let error = known.lookup("127.0.0.1:1".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("line 3"), "{error}");
    }
}
