//! TURN servers: how they are named, and what is told of them.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use serde_json::{Value, json};
use sss::{Host, HostBuilder, Link, Route, TurnError, TurnReport, TurnServer, TurnState, TurnTransport};
use thiserror::Error as Failure;

use crate::error::{Error, Exit};
use crate::identity;
use crate::output::Output;
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
/// Pause between two looks whether one has failed: shorter than that before it is asked again.
const LOOK: Duration = Duration::from_millis(200);

/// Servers of one host, at most, and bytes of a user name or a password, at most.
const MOST_SERVERS: usize = 4;
const MOST_BYTES: usize = 508;

/// Argument that names TURN servers.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TurnArgs {
    /// A TURN server, by which hosts are reached where their own packets do not get through (at most 4), or @FILE with
    /// one a line, which others do not see in the list of processes [default: SSS_TURN in the environment, else the
    /// file `turn` in the user's configuration directory, else none]
    #[arg(
        long,
        value_name = "turn:USER:PASSWORD@HOST[:PORT][?transport=tcp]",
        value_parser = OsStringValueParser::new().map(Given)
    )]
    turn: Vec<Given>,
    /// Those that are named, once they were read: a pipe has them only once.
    #[arg(skip)]
    read: Arc<OnceLock<Vec<TurnServer>>>,
}

/// Text of an argument. It is understood after the command line was, whose errors show what is wrong with them.
#[derive(Clone)]
struct Given(OsString);

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Given(..)")
    }
}

/// Reason why a text names no TURN server. None shows a part of it, as it may be a part of the password.
#[derive(Clone, Debug, PartialEq, Eq, Failure)]
enum TurnAtError {
    #[error("that is turn:USER:PASSWORD@HOST[:PORT], and ?transport=tcp behind it for TCP")]
    Form,
    #[error("turns: is TLS, and it is asked over UDP, or with turn: and ?transport=tcp behind it over TCP")]
    Tls,
    #[error("it is asked over UDP, or with ?transport=tcp behind it over TCP, and in no other way")]
    Transport,
    #[error("its user name or password has a % that no two hexadecimal digits follow: % itself is %25")]
    Escape,
    #[error("its user name or password is not UTF-8")]
    NotUtf8,
    #[error("it has more than one @: one in the user name or the password is written %40")]
    At,
    #[error("its port is no number from 1 to 65535 (and an @ in the password is written %40)")]
    Port,
    #[error(
        "what stands behind its @ is no host, such as turn.example, 192.0.2.7:3478 or [2001:db8::7] (and an @ in the \
         password is written %40)"
    )]
    Host,
    #[error("no host is ever at the address behind its @")]
    Nobody,
    #[error("its user name has {0} bytes, and {MOST_BYTES} are allowed")]
    LongUser(usize),
    #[error("its password has {0} bytes, and {MOST_BYTES} are allowed")]
    LongPassword(usize),
}

/// Reads a server as it is written.
fn server(text: &str) -> Result<TurnServer, TurnAtError> {
    let (scheme, rest) = text.split_once(':').ok_or(TurnAtError::Form)?;
    match scheme {
        _ if scheme.eq_ignore_ascii_case("turn") => {}
        _ if scheme.eq_ignore_ascii_case("turns") => return Err(TurnAtError::Tls),
        _ => return Err(TurnAtError::Form),
    }
    let (credentials, place) = rest.split_once('@').ok_or(TurnAtError::Form)?;
    if place.contains('@') {
        return Err(TurnAtError::At);
    }
    let (user, password) = credentials.split_once(':').ok_or(TurnAtError::Form)?;
    let (place, transport) = match place.split_once('?') {
        None => (place, TurnTransport::Udp),
        Some((place, "transport=udp")) => (place, TurnTransport::Udp),
        Some((place, "transport=tcp")) => (place, TurnTransport::Tcp),
        Some(_) => return Err(TurnAtError::Transport),
    };
    if user.is_empty() {
        return Err(TurnAtError::Form);
    }
    let (user, password) = (unescaped(user)?, unescaped(password)?);
    if user.len() > MOST_BYTES {
        return Err(TurnAtError::LongUser(user.len()));
    }
    if password.len() > MOST_BYTES {
        return Err(TurnAtError::LongPassword(password.len()));
    }
    let place = Place::parse(place, Some(PORT)).map_err(|error| match error {
        PlaceError::Port(_) | PlaceError::NoPort(_) => TurnAtError::Port,
        _ => TurnAtError::Host,
    })?;
    if place.is_nobodys() {
        return Err(TurnAtError::Nobody);
    }
    Ok(TurnServer::new(place.to_string(), user, password).transport(transport))
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
    String::from_utf8(bytes).map_err(|_| TurnAtError::NotUtf8)
}

impl TurnArgs {
    /// Returns whether the command line names some.
    pub(crate) fn is_given(&self) -> bool {
        !self.turn.is_empty()
    }

    /// Reads the servers of the command line, else those of the environment, else those of the user's file; once.
    ///
    /// # Errors
    /// If one of them cannot be understood, there are too many, or others can read a file of them.
    pub(crate) fn known(&self) -> Result<Vec<TurnServer>, Error> {
        if let Some(servers) = self.read.get() {
            return Ok(servers.clone());
        }
        let servers = self.named()?;
        if servers.len() > MOST_SERVERS {
            let what = format!(
                "at most {MOST_SERVERS} TURN servers are asked, and {} are named",
                servers.len()
            );
            return Err(Error::new(Exit::Usage, what, "leave some out: one is enough"));
        }
        Ok(self.read.get_or_init(|| servers).clone())
    }

    fn named(&self) -> Result<Vec<TurnServer>, Error> {
        if self.is_given() {
            let given = self.turn.iter().map(|given| given.0.as_os_str());
            return resolved(
                given,
                ("--turn", "correct it; `sss COMMAND --help` tells how it is written"),
            );
        }
        if let Some(text) = std::env::var_os(VARIABLE) {
            let words = text.as_bytes().split(u8::is_ascii_whitespace);
            let words = words.filter(|word| !word.is_empty()).map(OsStr::from_bytes);
            return resolved(words, (VARIABLE, "correct it, or give --turn"));
        }
        match identity::config_directory().map(|directory| directory.join(FILE)) {
            Ok(path) if path.exists() => {
                // Nobody has said that it may be a pipe.
                identity::check_is_file(&path)?;
                read(&path)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The host has them. What is wrong with them was told before.
    pub(crate) fn apply(&self, builder: HostBuilder) -> HostBuilder {
        let servers = self.known().unwrap_or_default();
        servers.into_iter().fold(builder, HostBuilder::turn)
    }
}

/// The servers that words name, and files that they name. `by` says where the words stand, and what to do about those
/// that are wrong.
fn resolved<'a>(words: impl Iterator<Item = &'a OsStr>, by: (&str, &str)) -> Result<Vec<TurnServer>, Error> {
    let (name, next) = by;
    let mut servers = Vec::new();
    for word in words {
        if let Some(path) = word.as_bytes().strip_prefix(b"@") {
            let path = Path::new(OsStr::from_bytes(path));
            let found = read(path)?;
            if found.is_empty() {
                let what = format!("{name}: {} names no TURN server", shown(path));
                return Err(Error::new(
                    Exit::Failed,
                    what,
                    "write one a line: turn:USER:PASSWORD@HOST",
                ));
            }
            servers.extend(found);
            continue;
        }
        let one = word.to_str().ok_or(TurnAtError::NotUtf8).and_then(server);
        servers.push(one.map_err(|error| Error::new(Exit::Usage, format!("{name}: {error}"), next))?);
    }
    Ok(servers)
}

/// A path, for people.
fn shown(path: &Path) -> String {
    sss_files::printable(path.as_os_str().as_bytes()).to_string()
}

/// Reads a file of servers, one a line, or a pipe. What stands behind `#` is for people, at the start of a line or
/// behind a space: passwords may have one.
fn read(path: &Path) -> Result<Vec<TurnServer>, Error> {
    let wrong = |error: io::Error| Error::local(path, "read the TURN servers in", &error);
    let shown = shown(path);
    let file = File::open(path).map_err(wrong)?;
    let meta = file.metadata().map_err(wrong)?;
    if meta.is_file() && meta.mode() & 0o077 != 0 {
        let what = format!("others can read the passwords in {shown}, or change them");
        return Err(Error::new(Exit::Failed, what, format!("chmod 600 {shown}")));
    }
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > MOST) {
        let what = format!("{shown} is larger than {} KiB", MOST >> 10);
        return Err(Error::new(
            Exit::Failed,
            what,
            "name a file of TURN servers, one a line",
        ));
    }
    let mut servers = Vec::new();
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let one = str::from_utf8(line)
            .map_err(|_| TurnAtError::NotUtf8)
            .map(without_comment);
        match one.and_then(|text| (!text.is_empty()).then(|| server(text)).transpose()) {
            Ok(one) => servers.extend(one),
            Err(error) => {
                let what = format!("line {number} of {shown}: {error}");
                return Err(Error::new(Exit::Failed, what, "correct or remove that line"));
            }
        }
    }
    Ok(servers)
}

/// A line without the comment in it.
fn without_comment(line: &str) -> &str {
    let comment = line.match_indices('#').map(|(at, _)| at);
    let mut comment = comment.filter(|at| {
        line.get(..*at)
            .is_some_and(|before| before.trim_end().len() < *at || *at == 0)
    });
    let line = match comment.next() {
        Some(at) => line.get(..at).unwrap_or_default(),
        None => line,
    };
    line.trim()
}

/// The error of a command line whose own error shows a TURN server, and the password in it: one that is an argument,
/// and no value of `--turn`.
pub(crate) fn misplaced(shown: &str, args: impl Iterator<Item = OsString>) -> Option<Error> {
    let mut args = args.map(|arg| arg.to_string_lossy().into_owned());
    let is_shown = args.any(|arg| {
        let lower = arg.to_ascii_lowercase();
        let at = ["turn:", "turns:"].iter().filter_map(|scheme| lower.find(scheme)).min();
        at.and_then(|at| arg.get(at..))
            .is_some_and(|server| shown.contains(server))
    });
    is_shown.then(|| {
        let what = "a TURN server stands where something else is expected";
        Error::new(
            Exit::Usage,
            what,
            "write --turn before it; `sss COMMAND --help` names what a command takes",
        )
    })
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

/// Reasons why servers have failed, and what to do about it: none, if another one lends an address.
fn failures(host: &Host) -> Vec<(String, String)> {
    let reports = host.turn();
    if reports
        .iter()
        .any(|report| matches!(report.state, TurnState::Open { .. }))
    {
        return Vec::new();
    }
    let told = reports.into_iter().filter_map(|report| match report.state {
        TurnState::Failed(why) => {
            let (name, next) = (&report.server, advice(&report.server, &why));
            Some((
                format!("TURN server {name}: {why}"),
                format!("TURN server {name}: {next}"),
            ))
        }
        _ => None,
    });
    told.collect()
}

/// The error of a host that was not reached, and what is wrong with the TURN servers.
pub(crate) fn named_in(error: Error, host: &Host) -> Error {
    if error.exit != Exit::Unreachable {
        return error;
    }
    let add = |error: Error, (what, next): (String, String)| error.and(&what).advising_too(&next);
    failures(host).into_iter().fold(error, add)
}

/// Tells of each server that fails, once, for as long as the host is at work, or for that time.
pub(crate) async fn watch(host: Host, output: Output, limit: Option<Duration>) {
    let begun = Instant::now();
    let mut told = Vec::new();
    let count = host.turn().len();
    while told.len() < count && !host.is_closed() && limit.is_none_or(|limit| begun.elapsed() < limit) {
        for (what, next) in failures(&host) {
            if !told.contains(&what) {
                let text = format!("{what}\n  -> {next}");
                output.prose_aside(&text, &json!({"event": "note", "text": text}));
                told.push(what);
            }
        }
        tokio::time::sleep(LOOK).await;
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
        advice: error.map(|why| format!("TURN server {name}: {}", advice(name, why))),
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

fn advice(name: &str, why: &TurnError) -> &'static str {
    match why {
        TurnError::Unresolved(_) => "correct its name (an @ in the password is written %40), or name its address",
        TurnError::Unauthorized => "correct user name and password: they may have been given for a limited time",
        TurnError::Refused(486, _) => {
            "its user has as many allocations as he may: end other programs, or wait 10 minutes"
        }
        TurnError::Refused(508, _) => "it has no room: try later, or another one",
        TurnError::Refused(..) => "ask whoever runs it what it allows",
        TurnError::Useless(_) => "whoever runs it is to set its outer address (coturn: external-ip)",
        TurnError::Malformed => "check that a TURN server is at that port",
        TurnError::Silent | TurnError::Unreachable(_) | TurnError::Closed(_) if name.ends_with("?transport=tcp") => {
            "check address, port and that it runs, and takes TCP there"
        }
        TurnError::Silent | TurnError::Unreachable(_) | TurnError::Closed(_) => {
            "check address, port and that it runs; where UDP is blocked, write ?transport=tcp behind it"
        }
        _ => "it is asked again where it is needed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: RCH-48
    #[test]
    fn a_server_is_written_as_a_uri_with_its_credentials_and_its_password_is_not_shown() {
        let known = server("turn:7:me:s%40c%25ret@turn.example?transport=tcp").unwrap();
        let expected = TurnServer::new("turn.example:3478", "7", "me:s@c%ret").transport(TurnTransport::Tcp);
        assert_eq!(known, expected);
        assert_eq!(known.to_string(), "turn.example:3478?transport=tcp");
        assert!(!format!("{known:?} {:?}", Given("turn:7:me:s%40c%25ret@a".into())).contains("ret"));
        let known = server("turn:1700000000%3Ame:x@[2001:db8::1]:5349?transport=udp").unwrap();
        assert_eq!(known, TurnServer::new("[2001:db8::1]:5349", "1700000000:me", "x"));
        for wrong in [
            "turn.example",
            "turn:me@turn.example",
            "turn::x@a",
            "turn:a:b@c?transport=tls",
            "turn:a:b%4@c",
        ] {
            assert!(server(wrong).is_err(), "{wrong}");
        }
    }

    // spec: RCH-48
    #[test]
    fn a_file_of_servers_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("turn");
        std::fs::write(&path, "# mine\n\nTurn:me:a#b@192.0.2.1  # at home\n").unwrap();
        let mut named = OsString::from("@");
        named.push(&path);
        let args = TurnArgs {
            turn: vec![Given(named)],
            ..TurnArgs::default()
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
