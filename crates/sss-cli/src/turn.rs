//! TURN servers: how they are named, and what is told of them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use sss::{Host, HostBuilder, Link, Route, TurnError, TurnReport, TurnServer, TurnState, TurnTransport};
use thiserror::Error as Failure;

use crate::error::{Error, Exit};
use crate::identity;
use crate::place::{Place, PlaceError};

/// Variable of the environment that names TURN servers, separated by spaces.
const VARIABLE: &str = "SSS_TURN";
/// File in the user's configuration directory that names TURN servers, one a line.
const FILE: &str = "turn";
/// Bytes of such a file that are looked at.
const MOST: u64 = 64 << 10;
/// The port where TURN servers are, unless another is named (RFC 8656).
const PORT: u16 = 3478;
/// Time for a TURN server to answer, and pause between two looks.
const SETTLING: Duration = Duration::from_secs(6);
const PAUSE: Duration = Duration::from_millis(20);

/// Argument that names TURN servers.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TurnArgs {
    /// A TURN server, by which hosts are reached where their own packets do not get through (at most 4), or @FILE with
    /// one a line, which others do not see in the list of processes [default: SSS_TURN in the environment, else the
    /// file `turn` in the user's configuration directory, else none]
    #[arg(long, value_name = "turn:USER:PASSWORD@HOST[:PORT][?transport=tcp]")]
    turn: Vec<TurnAt>,
}

/// A TURN server as it is written, or a file of them.
#[derive(Clone, PartialEq, Eq)]
enum TurnAt {
    Server(TurnServer),
    File(PathBuf),
}

/// Reason why a text is no [`TurnAt`]. None shows a password.
#[derive(Clone, Debug, PartialEq, Eq, Failure)]
enum TurnAtError {
    #[error("that is turn:USER:PASSWORD@HOST[:PORT], and ?transport=tcp behind it for TCP")]
    Form,
    #[error("it is asked over UDP, or with ?transport=tcp behind it over TCP, and in no other way")]
    Transport,
    #[error("its user name or password has a % that no two hexadecimal digits follow: % itself is %25")]
    Escape,
    #[error("{0}")]
    Place(#[from] PlaceError),
}

impl fmt::Debug for TurnAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(server) => server.fmt(f),
            Self::File(path) => path.fmt(f),
        }
    }
}

impl FromStr for TurnAt {
    type Err = TurnAtError;

    fn from_str(text: &str) -> Result<Self, TurnAtError> {
        if let Some(path) = text.strip_prefix('@') {
            return Ok(Self::File(path.into()));
        }
        let rest = text.strip_prefix("turn:").ok_or(TurnAtError::Form)?;
        let (credentials, place) = rest.rsplit_once('@').ok_or(TurnAtError::Form)?;
        let (user, password) = credentials.split_once(':').ok_or(TurnAtError::Form)?;
        let (place, transport) = match place.split_once('?') {
            None | Some((_, "transport=udp")) => (place.trim_end_matches("?transport=udp"), TurnTransport::Udp),
            Some((place, "transport=tcp")) => (place, TurnTransport::Tcp),
            Some(_) => return Err(TurnAtError::Transport),
        };
        if user.is_empty() {
            return Err(TurnAtError::Form);
        }
        let place = Place::parse(place, Some(PORT))?.to_string();
        let server = TurnServer::new(place, unescaped(user)?, unescaped(password)?);
        Ok(Self::Server(server.transport(transport)))
    }
}

/// Text with what RFC 3986 writes as `%` and two digits.
fn unescaped(text: &str) -> Result<String, TurnAtError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let value = digit().zip(digit()).map(|(high, low)| high * 16 + low);
                value
                    .and_then(|value| u8::try_from(value).ok())
                    .ok_or(TurnAtError::Escape)?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| TurnAtError::Escape)
}

impl TurnArgs {
    /// The servers of the command line, else those of the environment, else those of the user's file.
    ///
    /// # Errors
    /// If one of them cannot be understood, or others can read a file of them.
    pub(crate) fn known(&self) -> Result<Vec<TurnServer>, Error> {
        if !self.turn.is_empty() {
            return resolved(self.turn.iter().cloned());
        }
        if let Ok(text) = std::env::var(VARIABLE) {
            let named: Result<Vec<_>, _> = text.split_whitespace().map(str::parse).collect();
            let next = "correct it, or give --turn";
            let named = named.map_err(|error| Error::new(Exit::Usage, format!("{VARIABLE}: {error}"), next))?;
            return resolved(named.into_iter());
        }
        match identity::config_directory().map(|directory| directory.join(FILE)) {
            Ok(path) if path.exists() => read(&path),
            _ => Ok(Vec::new()),
        }
    }

    /// The host has them. What is wrong with them was told before.
    pub(crate) fn apply(&self, builder: HostBuilder) -> HostBuilder {
        let servers = self.known().unwrap_or_default();
        servers.into_iter().fold(builder, HostBuilder::turn)
    }
}

fn resolved(named: impl Iterator<Item = TurnAt>) -> Result<Vec<TurnServer>, Error> {
    let mut servers = Vec::new();
    for one in named {
        match one {
            TurnAt::Server(server) => servers.push(server),
            TurnAt::File(path) => servers.extend(read(&path)?),
        }
    }
    Ok(servers)
}

fn read(path: &Path) -> Result<Vec<TurnServer>, Error> {
    let wrong = |error: io::Error| Error::local(path, "read the TURN servers in", &error);
    let shown = path.display();
    let file = File::open(path).map_err(wrong)?;
    let meta = file.metadata().map_err(wrong)?;
    if meta.is_file() && meta.mode() & 0o077 != 0 {
        let what = format!("others can read the passwords in {shown}, or change them");
        return Err(Error::new(Exit::Failed, what, format!("chmod 600 {shown}")));
    }
    let mut text = String::new();
    file.take(MOST).read_to_string(&mut text).map_err(wrong)?;
    let mut servers = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let what = |error: &dyn fmt::Display| format!("line {number} of {shown}: {error}");
        match line.parse() {
            Ok(TurnAt::Server(server)) => servers.push(server),
            Ok(TurnAt::File(_)) => return Err(Error::new(Exit::Failed, what(&TurnAtError::Form), "correct that line")),
            Err(error) => return Err(Error::new(Exit::Failed, what(&error), "correct or remove that line")),
        }
    }
    Ok(servers)
}

/// The TURN server by which a route goes.
pub(crate) fn server_of(host: &Host, route: Route) -> Option<String> {
    let Link::Turn(by, _) = route.link else {
        return None;
    };
    let mut reports = host.turn().into_iter();
    reports
        .find(|report| matches!(report.state, TurnState::Open { id, .. } if id == by))
        .map(|report| report.server)
}

/// Asks the servers, whether they are needed or not, and waits for what they say; a while at most.
pub(crate) async fn settled(host: &Host) {
    host.try_turn();
    let until = Instant::now() + SETTLING;
    let is_open = |report: &TurnReport| matches!(report.state, TurnState::Open { .. });
    let has_failed = |report: &TurnReport| matches!(report.state, TurnState::Failed(_));
    loop {
        let reports = host.turn();
        if reports.iter().any(is_open) || reports.iter().all(has_failed) || Instant::now() > until {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Findings about one server, for people and for machines.
pub(crate) struct Examined {
    pub(crate) words: String,
    pub(crate) advice: Option<String>,
    pub(crate) fact: Value,
}

/// Findings about each server.
pub(crate) fn examined(host: &Host) -> Vec<Examined> {
    host.turn().iter().map(examined_one).collect()
}

fn examined_one(report: &TurnReport) -> Examined {
    let name = &report.server;
    let (state, words, relayed, error) = match &report.state {
        TurnState::Open { at, relayed, .. } => {
            let words = format!("at {at}, lends this host {relayed}");
            ("open", words, Some(relayed.to_string()), None)
        }
        TurnState::Failed(why) => ("failed", why.to_string(), None, Some(why)),
        TurnState::Asking => ("asking", "has not answered yet".to_owned(), None, None),
        _ => ("idle", "not asked: another one has answered".to_owned(), None, None),
    };
    Examined {
        words: format!("{name}: {words}"),
        advice: error.map(|why| format!("TURN server {name}: {}", advice(why))),
        fact: json!({
            "server": name,
            "state": state,
            "relayed": relayed,
            "error": error.map(ToString::to_string),
            "sent": report.stats.sent,
            "received": report.stats.received,
        }),
    }
}

fn advice(why: &TurnError) -> &'static str {
    match why {
        TurnError::Unresolved(_) => "correct its name, or name its address",
        TurnError::Unauthorized => "correct user name and password: they may have been given for a limited time",
        TurnError::Refused(486, _) => {
            "its user has as many allocations as he may: end other programs, or wait 10 minutes"
        }
        TurnError::Refused(508, _) => "it has no room: try later, or another one",
        TurnError::Refused(..) => "ask whoever runs it what it allows",
        TurnError::Useless(_) => "whoever runs it is to set its outer address (coturn: external-ip)",
        TurnError::Malformed => "check that a TURN server is at that port",
        TurnError::Silent | TurnError::Unreachable(_) | TurnError::Closed(_) => {
            "check address, port and that it runs; where UDP is blocked, write ?transport=tcp behind it"
        }
        _ => "it is asked again where it is needed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<TurnServer, TurnAtError> {
        match text.parse()? {
            TurnAt::Server(server) => Ok(server),
            TurnAt::File(_) => Err(TurnAtError::Form),
        }
    }

    // spec: RCH-48
    #[test]
    fn a_server_is_written_as_a_uri_with_its_credentials_and_its_password_is_not_shown() {
        let server = parsed("turn:7:me:s%40c%25ret@turn.example?transport=tcp").unwrap();
        let expected = TurnServer::new("turn.example:3478", "7", "me:s@c%ret").transport(TurnTransport::Tcp);
        assert_eq!(server, expected);
        assert_eq!(server.to_string(), "turn.example:3478?transport=tcp");
        assert!(!format!("{server:?} {:?}", TurnAt::Server(server.clone())).contains("ret"));
        let server = parsed("turn:1700000000%3Ame:x@[2001:db8::1]:5349?transport=udp").unwrap();
        assert_eq!(server, TurnServer::new("[2001:db8::1]:5349", "1700000000:me", "x"));
        for wrong in [
            "turn.example",
            "turn:me@turn.example",
            "turn::x@a",
            "turn:a:b@c?transport=tls",
            "turn:a:b%4@c",
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    // spec: RCH-48
    #[test]
    fn a_file_of_servers_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("turn");
        std::fs::write(&path, "# mine\n\nturn:me:a#b@192.0.2.1\n").unwrap();
        let args = TurnArgs {
            turn: vec![TurnAt::File(path.clone())],
        };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(
            args.known()
                .is_err_and(|error| error.to_string().contains("others can read"))
        );
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(args.known().unwrap(), [TurnServer::new("192.0.2.1:3478", "me", "a#b")]);
    }
}
