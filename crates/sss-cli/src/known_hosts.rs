//! File of the known hosts: lines of `HOST:PORT EID`.
//!
//! A host is known by its name or address; the port only tells which of its servers was meant. So a server that is
//! started again on another port is no stranger, and another key at the port of a known one is found out.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;

use sss::Eid;

use crate::error::{Error, Exit};
use crate::identity;
use crate::place::Place;

/// Largest file that is read, in bytes: some 80,000 hosts.
const MOST: u64 = 8 << 20;

/// The file of known hosts.
pub(crate) struct KnownHosts {
    file: PathBuf,
}

/// Judgement of the file on who was found at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It was there before.
    Known,
    /// It was at another port of the same host, and nobody else was at this one.
    Moved,
    /// It is known at this host, but somebody else was at this port.
    Swapped { was: Eid },
    /// It is not known at this host, and somebody else was at this port.
    Changed { was: Eid },
    /// Nobody was at this port. These are known at other ports of the host.
    New { others: Vec<Eid> },
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

    /// Judges who was found at a place.
    ///
    /// # Errors
    /// If a line cannot be understood: it might be about this host.
    pub(crate) fn judge(&self, place: &Place, found: Eid) -> Result<Standing, Error> {
        Ok(judge(&self.lines()?, place, found))
    }

    /// Returns who was at exactly this place last.
    ///
    /// # Errors
    /// As [`Self::judge`].
    pub(crate) fn at(&self, place: &Place) -> Result<Option<Eid>, Error> {
        let lines = self.lines()?;
        let there = |(at, _): &&(Place, Eid)| (at.host(), at.port()) == (place.host(), place.port());
        Ok(lines.iter().rfind(there).map(|(_, eid)| *eid))
    }

    fn lines(&self) -> Result<Vec<(Place, Eid)>, Error> {
        let text = self.read()?;
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            lines.push(parse(line).ok_or_else(|| {
                let what = format!("line {number} of {} is not `HOST:PORT EID`", self.file());
                Error::new(Exit::Failed, what, "correct or remove that line")
            })?);
        }
        Ok(lines)
    }

    /// All of it. What is no UTF-8 becomes a line that cannot be understood.
    fn read(&self) -> Result<String, Error> {
        let wrong = |error: io::Error| Error::local(&self.file, "read the known hosts in", &error);
        match fs::metadata(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // It is to be made when there is something to be remembered: whether it can be is told before.
                identity::check_directory_of(&self.file)?;
                return Ok(String::new());
            }
            Ok(there) if there.is_file() => {}
            Ok(_) => {
                let what = format!("{} is no file, and cannot have known hosts", self.file());
                return Err(Error::new(Exit::Failed, what, "name a file with --known-hosts"));
            }
            Err(error) => return Err(wrong(error)),
        }
        let mut bytes = Vec::new();
        let file = fs::File::open(&self.file).map_err(wrong)?;
        file.take(MOST.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(wrong)?;
        if bytes.len() as u64 > MOST {
            let what = format!(
                "{} has more than {} MiB, and cannot be a file of known hosts",
                self.file(),
                MOST >> 20
            );
            return Err(Error::new(Exit::Failed, what, "name another with --known-hosts"));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Remembers who is at a place.
    pub(crate) fn remember(&self, place: &Place, eid: Eid) -> Result<(), Error> {
        identity::make_directory_of(&self.file)?;
        let line = format!("{place} {eid}");
        // Another command may have been told the same meanwhile.
        if self.read()?.lines().last() == Some(&line) {
            return Ok(());
        }
        let written = identity::append_line(&self.file, &line);
        written.map_err(|error| Error::local(&self.file, "write the known hosts to", &error))
    }
}

/// Judges by the lines of the file. The last line about a port holds.
fn judge(lines: &[(Place, Eid)], place: &Place, found: Eid) -> Standing {
    let host = place.host();
    let mut others: Vec<Eid> = Vec::new();
    let mut was = None;
    for (at, eid) in lines.iter().filter(|(at, _)| at.host() == host) {
        if !others.contains(eid) {
            others.push(*eid);
        }
        if at.port() == place.port() {
            was = Some(*eid);
        }
    }
    match (was, others.contains(&found)) {
        (Some(was), _) if was == found => Standing::Known,
        (Some(was), true) => Standing::Swapped { was },
        (Some(was), false) => Standing::Changed { was },
        (None, true) => Standing::Moved,
        (None, false) => Standing::New { others },
    }
}

fn parse(line: &str) -> Option<(Place, Eid)> {
    let (place, eid) = line.split_once(char::is_whitespace)?;
    Some((Place::parse(place, None).ok()?, eid.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        Place::parse(text, None).unwrap()
    }

    #[test]
    fn who_was_remembered_is_known_at_that_host_only() {
        let dir = tempfile::tempdir().unwrap();
        let known = KnownHosts::new(Some(dir.path().join("known_hosts"))).unwrap();
        let (first, second) = (Eid::from_public_key(&[1; 32]), Eid::from_public_key(&[2; 32]));
        let judge = |at: &str, eid| known.judge(&place(at), eid).unwrap();
        let new = |others: &[Eid]| Standing::New {
            others: others.to_vec(),
        };
        assert_eq!(judge("127.0.0.1:4433", first), new(&[]));
        known.remember(&place("127.0.0.1:4433"), first).unwrap();
        assert_eq!(judge("127.0.0.1:4433", first), Standing::Known);
        let at = |text: &str| known.at(&place(text)).unwrap();
        assert_eq!((at("127.0.0.1:4433"), at("127.0.0.1:4434")), (Some(first), None));
        for elsewhere in ["[::1]:4433", "localhost:4433", "127.0.0.2:4433"] {
            assert_eq!(judge(elsewhere, first), new(&[]), "{elsewhere}");
        }
        assert_eq!(judge("127.0.0.1:4433", second), Standing::Changed { was: first });
        known.remember(&place("nas:4433"), second).unwrap();
        known.remember(&place("[fe80::1%eth0]:4433"), second).unwrap();
        assert_eq!(judge("nas:4433", second), Standing::Known);
        assert_eq!(judge("[fe80::1%eth0]:1", second), Standing::Moved);
        assert_eq!(judge("[fe80::1%eth1]:4433", second), new(&[]), "another link");
    }

    #[test]
    fn one_host_may_have_several_servers() {
        let [a, b, c] = [1, 2, 3].map(|n| Eid::from_public_key(&[n; 32]));
        let mut lines = vec![(place("nas:1"), a)];
        assert_eq!(
            judge(&lines, &place("nas:2"), a),
            Standing::Moved,
            "started again at another port"
        );
        assert_eq!(judge(&lines, &place("nas:2"), b), Standing::New { others: vec![a] });
        lines.push((place("nas:2"), b));
        assert_eq!(judge(&lines, &place("nas:2"), b), Standing::Known);
        assert_eq!(judge(&lines, &place("nas:2"), c), Standing::Changed { was: b });
        assert_eq!(judge(&lines, &place("nas:3"), c), Standing::New { others: vec![a, b] });
        assert_eq!(judge(&lines, &place("nas:2"), a), Standing::Swapped { was: b });
        // The user has said that they changed places.
        lines.push((place("nas:2"), a));
        assert_eq!(judge(&lines, &place("nas:2"), a), Standing::Known);
        assert_eq!(judge(&lines, &place("nas:1"), b), Standing::Swapped { was: a });
    }

    #[test]
    fn a_line_that_cannot_be_understood_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known_hosts");
        fs::write(&file, "# comment\n\n127.0.0.1:1 sss1broken\n").unwrap();
        let known = KnownHosts::new(Some(file)).unwrap();
        let error = known
            .judge(&place("127.0.0.1:1"), Eid::from_public_key(&[1; 32]))
            .unwrap_err();
        assert!(error.to_string().contains("line 3"), "{error}");
    }

    #[test]
    fn what_is_no_such_file_is_told_and_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let said = |file: PathBuf| {
            let known = KnownHosts::new(Some(file)).unwrap();
            let judged = known.judge(&place("127.0.0.1:1"), Eid::from_public_key(&[1; 32]));
            judged.unwrap_err().to_string()
        };
        assert!(said("/dev/zero".into()).contains("is no file"));
        let missing = said(dir.path().join("missing/known_hosts"));
        assert!(
            missing.contains("there is no directory") && missing.contains("for the file known_hosts"),
            "{missing}"
        );
        let file = dir.path().join("known_hosts");
        let large = fs::File::create(&file).unwrap();
        large.set_len(MOST + 1).unwrap();
        assert!(said(file.clone()).contains("8 MiB"));
        fs::write(&file, b"# \xff is one\n127.0.0.1:1 \xff\n").unwrap();
        assert!(said(file).contains("line 2"));
    }
}
