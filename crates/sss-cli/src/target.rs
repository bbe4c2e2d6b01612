//! `EID@HOST:PORT/PATH`, `EID/PATH`, `TICKET/PATH`, `dns:NAME/PATH`: which host, where it is, and what there.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use sss::Eid;
use sss_files::{PathError, RelPath};
use thiserror::Error;

use crate::place::{DEFAULT_PORT, Place, PlaceError};
use crate::server_at::ServerAt;
use crate::ticket::{Secret, Ticket, TicketError};

/// Host, and path, that a command is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Identity that it must have. `None`: whoever is known, or trusted now, to be there.
    pub(crate) eid: Option<Eid>,
    /// The DNS is asked about this name, in lower case, or was, and the identity is what it said.
    pub(crate) name: Option<String>,
    /// Places where it may be. None: servers have to find it, or, without an EID, it is `@`, whatever a ticket says
    /// that is given elsewhere.
    pub(crate) places: Vec<Place>,
    /// Registration servers that find it, beside those that this user knows.
    pub(crate) servers: Vec<ServerAt>,
    /// The secret that the host asks for, if that is known.
    pub(crate) secret: Option<Secret>,
    /// Empty: the served directory itself.
    pub(crate) path: RelPath,
    /// The path was written with a slash at its end: it is a directory.
    pub(crate) is_directory: bool,
}

/// Reason why a text is not a [`Target`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum TargetError {
    #[error("{0:?} has no valid EID before the @: {1}")]
    Eid(String, sss::EidError),
    #[error("{0}")]
    Place(#[from] PlaceError),
    #[error("{0}")]
    Ticket(#[from] TicketError),
    #[error("{0:?} begins as an EID does, and is none: {1}")]
    OnlyEid(String, sss::EidError),
    #[error("{0:?} is no name in the DNS: write it like dns:nas.example; where the host is stands in the record")]
    Dns(String),
    #[error("the name is missing: write it like dns:nas.example")]
    NoName,
    #[error("the path {0:?} cannot be used: {1}")]
    Path(String, PathError),
}

impl Target {
    /// Reads `[EID@]HOST[:PORT][/PATH]`, `[EID@]dns:NAME[/PATH]`, `EID[/PATH]`, `TICKET[/PATH]` or `@[/PATH]`. The path
    /// may have any bytes.
    ///
    /// # Errors
    /// Says which part is wrong, and how it is written.
    pub(crate) fn parse(text: &OsStr) -> Result<Self, TargetError> {
        let bytes = text.as_bytes();
        let slash = bytes.iter().position(|b| *b == b'/');
        let (host, path) = match slash.and_then(|at| bytes.split_at_checked(at)) {
            Some((host, path)) => (host, path),
            None => (bytes, &b""[..]),
        };
        let host = String::from_utf8_lossy(host).into_owned();
        let (path, is_directory) = relative(path)?;
        let host = if host == "@" {
            HostPart::elsewhere()
        } else if Ticket::is_meant_by(&host) {
            HostPart::ticket(&host.parse()?)
        } else {
            HostPart::address(&host)?
        };
        Ok(Self {
            eid: host.eid,
            name: host.name,
            places: host.places,
            servers: host.servers,
            secret: host.secret,
            path,
            is_directory,
        })
    }
}

impl Target {
    /// Returns whether it is `@`: it needs a ticket that is given elsewhere.
    pub(crate) fn needs_ticket(&self) -> bool {
        self.eid.is_none() && self.places.is_empty() && self.name.is_none()
    }

    /// The same path, at the host of a ticket.
    pub(crate) fn with_ticket(self, ticket: &Ticket) -> Self {
        let host = HostPart::ticket(ticket);
        Self {
            eid: host.eid,
            places: host.places,
            servers: host.servers,
            secret: host.secret,
            ..self
        }
    }

    /// Returns whether another target is about the same host.
    pub(crate) fn is_same_host(&self, other: &Self) -> bool {
        (self.eid, &self.name, &self.places, &self.servers, &self.secret)
            == (other.eid, &other.name, &other.places, &other.servers, &other.secret)
    }

    /// The place as which a host that is named in the DNS is known: its name, with the port of a host that is named
    /// without one.
    pub(crate) fn name_to_judge(&self) -> Option<Place> {
        Place::name(self.name.as_ref()?, DEFAULT_PORT)
    }

    /// The first of the places, for people.
    pub(crate) fn place(&self) -> String {
        match (self.places.first(), &self.name) {
            (Some(place), _) => place.to_string(),
            (None, Some(name)) => format!("{DNS}{name}"),
            (None, None) if self.needs_ticket() => "@".to_owned(),
            (None, None) => "an unknown address".to_owned(),
        }
    }
}

/// The part before the path.
struct HostPart {
    eid: Option<Eid>,
    name: Option<String>,
    places: Vec<Place>,
    servers: Vec<ServerAt>,
    secret: Option<Secret>,
}

impl HostPart {
    /// The host that is `@`.
    fn elsewhere() -> Self {
        Self {
            eid: None,
            name: None,
            places: Vec::new(),
            servers: Vec::new(),
            secret: None,
        }
    }

    fn ticket(ticket: &Ticket) -> Self {
        Self {
            eid: Some(ticket.eid()),
            name: None,
            places: ticket.places().to_vec(),
            servers: ticket.servers().to_vec(),
            secret: ticket.secret().cloned(),
        }
    }

    fn address(host: &str) -> Result<Self, TargetError> {
        let (eid, address) = match host.rsplit_once('@') {
            Some((eid, address)) => (Some(eid), Some(address)),
            None if is_meant_as_eid(host) => {
                let eid = host.parse().map_err(|e| TargetError::OnlyEid(host.to_owned(), e))?;
                return Ok(Self {
                    eid: Some(eid),
                    ..Self::elsewhere()
                });
            }
            None => (None, Some(host)),
        };
        let eid = eid.map(|text| text.parse().map_err(|e| TargetError::Eid(text.to_owned(), e)));
        let eid = eid.transpose()?;
        if let Some(name) = address.and_then(name_in_dns) {
            return Ok(Self {
                eid,
                name: Some(name?),
                ..Self::elsewhere()
            });
        }
        let place = address.map(|address| Place::parse(address, Some(DEFAULT_PORT)));
        Ok(Self {
            eid,
            places: place.transpose()?.into_iter().collect(),
            ..Self::elsewhere()
        })
    }
}

/// Beginning of a host that is named in the DNS.
const DNS: &str = "dns:";

/// The name in the DNS that a text is, or is meant to be. A number is the port of a host that is called `dns`.
fn name_in_dns(text: &str) -> Option<Result<String, TargetError>> {
    let (begin, name) = text.split_at_checked(DNS.len())?;
    let is_dns = begin.eq_ignore_ascii_case(DNS);
    if is_dns && name.is_empty() {
        return Some(Err(TargetError::NoName));
    }
    let is_port = name.bytes().all(|b| b.is_ascii_digit());
    if !is_dns || is_port {
        return None;
    }
    Some(Place::resolvable(name).ok_or_else(|| TargetError::Dns(text.to_owned())))
}

/// Characters behind `sss1` that no name of a host has, and every EID.
const LEAST_OF_EID: usize = 40;

/// Returns whether a text is an EID, or one with a mistake, and no name of a host: that would be asked for in the
/// clear.
fn is_meant_as_eid(text: &str) -> bool {
    let rest = text
        .split_at_checked(4)
        .filter(|(begin, _)| begin.eq_ignore_ascii_case("sss1"));
    rest.is_some_and(|(_, rest)| rest.len() >= LEAST_OF_EID && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// A path as people write it: one slash before, any number after.
fn relative(path: &[u8]) -> Result<(RelPath, bool), TargetError> {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let end = path
        .iter()
        .rposition(|b| *b != b'/')
        .map_or(0, |last| last.saturating_add(1));
    let trimmed = path.get(..end).unwrap_or(path);
    let parsed = RelPath::parse(trimmed);
    let parsed = parsed.map_err(|e| TargetError::Path(sss_files::printable(path), e))?;
    Ok((parsed, end < path.len()))
}

/// Without what is secret.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.eid, self.places.is_empty() && self.name.is_none()) {
            (Some(eid), true) => write!(f, "{eid}")?,
            (Some(eid), false) => write!(f, "{eid}@{}", self.place())?,
            (None, _) => f.write_str(&self.place())?,
        }
        if self.path.is_root() {
            Ok(())
        } else {
            write!(f, "/{}", self.path)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Target, TargetError> {
        Target::parse(OsStr::new(text))
    }

    #[test]
    fn all_parts_are_found() {
        let eid = Eid::from_public_key(&[7; 32]);
        let text = format!("{eid}@192.0.2.7:4433/some/path");
        let target = parse(&text).unwrap();
        assert_eq!(target.eid, Some(eid));
        assert_eq!(target.places, [Place::Address("192.0.2.7:4433".parse().unwrap())]);
        assert_eq!(target.path.as_bytes(), b"some/path");
        assert_eq!(target.to_string(), text);

        let target = parse("[2001:db8::7]:1").unwrap();
        assert_eq!(target.eid, None);
        assert!(target.path.is_root() && !target.is_directory);
        assert!(parse("[::1]:7/").unwrap().path.is_root());
    }

    #[test]
    fn hosts_have_names_and_the_port_may_be_missing() {
        let eid = Eid::from_public_key(&[7; 32]);
        for (text, place) in [
            ("localhost:4433/x", "localhost:4433"),
            ("nas/x", "nas:7757"),
            ("[fe80::1%eth0]:4433/x", "[fe80::1%eth0]:4433"),
            ("[::1]/x", "[::1]:7757"),
        ] {
            let target = parse(text).unwrap();
            assert_eq!((target.eid, target.place().as_str()), (None, place));
            let target = parse(&format!("{eid}@{text}")).unwrap();
            assert_eq!((target.eid, target.place().as_str()), (Some(eid), place));
            assert_eq!(target.to_string(), format!("{eid}@{place}/x"));
        }
    }

    #[test]
    fn a_slash_at_the_end_names_a_directory() {
        let target = parse("127.0.0.1:9/a/b//").unwrap();
        assert_eq!(target.path.as_bytes(), b"a/b");
        assert!(target.is_directory);
    }

    #[test]
    fn paths_may_have_any_bytes() {
        let target = Target::parse(OsStr::from_bytes(b"127.0.0.1:9/\xff@x")).unwrap();
        assert_eq!(target.path.as_bytes(), b"\xff@x");
    }

    // spec: FIL-44
    #[test]
    fn a_ticket_stands_where_a_host_stands() {
        let eid = Eid::from_public_key(&[7; 32]);
        let places = [
            Place::Address("192.0.2.7:4433".parse().unwrap()),
            Place::name("host.example", 1).unwrap(),
        ];
        let ticket = Ticket::new(eid, places.clone(), Some(Secret::from_bytes([9; 16])));
        for text in [ticket.to_string(), ticket.to_string().to_uppercase()] {
            let target = parse(&format!("{text}/a/b/")).unwrap();
            assert_eq!((target.eid, &target.places[..]), (Some(eid), &places[..]));
            assert_eq!(target.secret, Some(Secret::from_bytes([9; 16])));
            assert!(target.is_directory && target.path.as_bytes() == b"a/b");
            assert_eq!(
                target.to_string(),
                format!("{eid}@192.0.2.7:4433/a/b"),
                "the secret is not shown"
            );
            assert!(format!("{target:?}").contains("Secret(..)"));
        }
        let server: ServerAt = format!("{eid}@192.0.2.9").parse().unwrap();
        let found = Ticket::new(eid, [], None).with_servers([server.clone()]).to_string();
        let target = parse(&found).unwrap();
        assert_eq!((target.places.len(), &target.servers[..]), (0, &[server][..]));
        assert!(!target.needs_ticket());
        let text = ticket.to_string();
        let cut = parse(&text[..text.len() - 1]).unwrap_err().to_string();
        assert!(cut.contains("copied completely"), "{cut}");
    }

    #[test]
    fn an_eid_alone_is_a_host_that_servers_find() {
        let eid = Eid::from_public_key(&[7; 32]);
        let target = parse(&format!("{eid}/a/b")).unwrap();
        assert_eq!((target.eid, target.places.len()), (Some(eid), 0));
        assert!(!target.needs_ticket() && parse("@/a").unwrap().needs_ticket());
        assert_eq!(target.to_string(), format!("{eid}/a/b"));
        // Nobody is asked for a name that is an EID with a mistake.
        let text = eid.to_string();
        let cut = parse(&text[..text.len() - 1]).unwrap_err();
        assert!(matches!(cut, TargetError::OnlyEid(..)), "{cut}");
        for name in ["sss1", "sss1.example", "sss1qqq"] {
            assert_eq!(parse(name).unwrap().eid, None, "{name}");
        }
        let with_port = parse(&format!("{eid}:4433"));
        assert!(
            matches!(with_port, Err(TargetError::Place(PlaceError::OnlyEid(_)))),
            "{with_port:?}"
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_an_example() {
        for bad in [
            "",
            "/path",
            "::1:4433",
            "127.0.0.1:70000",
            "127.0.0.1:0",
            "nas:photos",
            "a b",
        ] {
            assert!(matches!(parse(bad), Err(TargetError::Place(_))), "{bad}");
        }
        assert!(matches!(parse("nonsense@127.0.0.1:1"), Err(TargetError::Eid(..))));
        for bad in ["127.0.0.1:1/../x", "127.0.0.1:1//etc", "127.0.0.1:1/a//b"] {
            assert!(matches!(parse(bad), Err(TargetError::Path(..))), "{bad}");
        }
    }
}
