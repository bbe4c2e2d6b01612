//! Registration servers: which ones are known, and what is told of registrations.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use sss::{Eid, FoundBy, Host, HostBuilder, Over, RegistrationError, RegistrationState, RelayUse, Spraying};

use crate::diagnosis;
use crate::error::{Error, Exit, SERVER_ADVICE};
use crate::identity;
use crate::mdns::MdnsArgs;
use crate::output::Output;
use crate::place::Place;
use crate::port_mapping::MappingArgs;
use crate::server_at::{ServerAt, ServerError};
use crate::stun::{self, StunArgs};
use crate::target::Target;
use crate::turn::TurnArgs;

/// Variable of the environment that names servers, separated by spaces or commas.
const VARIABLE: &str = "SSS_SERVER";
/// File in the user's configuration directory that names servers, one a line.
const FILE: &str = "servers";
/// File in the user's configuration directory that names STUN servers, one a line.
const STUN_FILE: &str = "stun";
/// Time without a registration after which that is said.
const GRACE: Duration = Duration::from_secs(5);
/// Pauses between looks at registrations: while one is missing, and later.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));

/// Arguments that say at which servers hosts are looked for, and this one is found.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServerArgs {
    /// A registration server, as `sss rendezvous` prints it (may be given several times), with `+tls` or `+tls:PORT`
    /// behind it if it takes TLS where UDP is blocked [default: SSS_SERVER in the environment, else the file `servers`
    /// in the user's configuration directory, else none]
    #[arg(long, value_name = "EID@HOST[:PORT][+tls]")]
    pub(crate) server: Vec<ServerAt>,
    /// Use no registration server, not even one that a ticket names
    #[arg(long, conflicts_with = "server")]
    pub(crate) no_server: bool,
    #[command(flatten)]
    pub(crate) relay: RelayArgs,
    #[command(flatten)]
    pub(crate) mapping: MappingArgs,
    #[command(flatten)]
    pub(crate) turn: TurnArgs,
    #[command(flatten)]
    pub(crate) mdns: MdnsArgs,
    #[command(flatten)]
    pub(crate) stun: StunArgs,
    /// Keep to the local network: send nothing to other addresses than private and link-local ones, take nothing from
    /// them, and use no server
    #[arg(long, conflicts_with_all = ["server", "relay_only"])]
    pub(crate) lan_only: bool,
}

/// Arguments that say which use is made of servers that relay.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct RelayArgs {
    /// Send nothing through servers that relay: a host that is not reached directly is not reached
    #[arg(long, conflicts_with = "relay_only")]
    pub(crate) no_relay: bool,
    /// Send packets through a server that relays alone, and nothing directly
    #[arg(long)]
    pub(crate) relay_only: bool,
    /// Do not guess the ports of NATs where nothing but a relay helps, and refuse it to others
    #[arg(long)]
    pub(crate) no_spraying: bool,
}

impl RelayArgs {
    fn of_host(self) -> RelayUse {
        match (self.no_relay, self.relay_only) {
            (true, _) => RelayUse::Never,
            (_, true) => RelayUse::Always,
            _ => RelayUse::Allowed,
        }
    }

    /// The switch by which no ports are guessed, if there is one.
    pub(crate) fn without_spraying(self) -> Option<&'static str> {
        let switches = [
            (self.no_spraying, "--no-spraying"),
            (self.no_relay, "--no-relay"),
            (self.relay_only, "--relay-only"),
        ];
        switches
            .into_iter()
            .find_map(|(is_given, name)| is_given.then_some(name))
    }

    fn spraying(self) -> Spraying {
        match self.no_spraying {
            true => Spraying::Off,
            false => Spraying::On,
        }
    }
}

impl ServerArgs {
    /// Returns whether no server is to be used, whoever names it.
    pub(crate) fn is_without(&self) -> bool {
        self.forbidden_by().is_some()
    }

    /// The switch that forbids the use of servers.
    pub(crate) fn forbidden_by(&self) -> Option<&'static str> {
        let switches = [(self.no_server, "--no-server"), (self.lan_only, "--lan-only")];
        switches.into_iter().find_map(|(is_on, name)| is_on.then_some(name))
    }

    /// The servers of the command line, else those of the environment, else those of the user's file.
    ///
    /// # Errors
    /// If one of them cannot be understood.
    pub(crate) fn known(&self) -> Result<Vec<ServerAt>, Error> {
        self.check_relay_only()?;
        self.check_stun()?;
        self.check_turn()?;
        if self.is_without() {
            return Ok(Vec::new());
        }
        if !self.server.is_empty() {
            return Ok(each_once(self.server.clone()));
        }
        let named = match std::env::var(VARIABLE) {
            Ok(text) => of_environment(&text)?,
            // Who has no home has no file there.
            Err(_) => match identity::config_directory() {
                Ok(directory) => read_lines(&directory.join(FILE), IfMissing::Nothing)?,
                Err(_) => Vec::new(),
            },
        };
        Ok(each_once(named))
    }

    /// As [`Self::known`], and beside them those that a ticket names: they are asked unless that would tell whoever has
    /// written the ticket where this host is.
    ///
    /// # Errors
    /// As [`Self::known`].
    pub(crate) fn with(&self, more: &[ServerAt]) -> Result<Vec<ServerAt>, Error> {
        let mut servers = self.known()?;
        if !self.is_without() && !self.relay.relay_only {
            servers.extend(
                more.iter()
                    .filter(|server| !servers.contains(server))
                    .cloned()
                    .collect::<Vec<_>>(),
            );
        }
        Ok(servers)
    }
}

impl ServerArgs {
    /// Checks that nothing that tells where this host is stands beside `--relay-only`.
    fn check_relay_only(&self) -> Result<(), Error> {
        let switches = [
            (self.mdns.is_on(), "--mdns tells the local network where this host is"),
            (self.mapping.is_on(), "--port-mapping is for packets that come directly"),
            (self.stun.is_on(), "--stun is for packets that come directly"),
        ];
        match switches.iter().find(|(is_on, _)| *is_on && self.relay.relay_only) {
            None => Ok(()),
            Some((_, why)) => {
                let what = format!("{why}, and with --relay-only nobody is told, and nothing comes directly");
                Err(Error::new(Exit::Usage, what, "leave one of the two out"))
            }
        }
    }

    /// Checks that STUN servers are few, and may be asked.
    fn check_stun(&self) -> Result<(), Error> {
        if self.lan_only && self.stun.is_on() {
            let what =
                "--stun asks a server how this host is seen from outside, and with --lan-only nothing is sent there";
            return Err(Error::new(Exit::Usage, what, "leave one of the two out"));
        }
        match self.stun.count() > stun::MOST {
            false => Ok(()),
            true => {
                let what = format!("at most {} STUN servers are asked", stun::MOST);
                Err(Error::new(
                    Exit::Usage,
                    what,
                    "two are enough to tell what kind of NAT there is",
                ))
            }
        }
    }

    /// Checks that TURN servers may be asked, and are known.
    fn check_turn(&self) -> Result<(), Error> {
        if self.lan_only && self.turn.is_given() {
            let what =
                "--turn names a server that sends packets on to anywhere, and with --lan-only nothing is sent there";
            return Err(Error::new(Exit::Usage, what, "leave one of the two out"));
        }
        // What is wrong with them is told now.
        if self.turn.is_given() || !self.is_without() {
            self.turn.known()?;
        }
        Ok(())
    }

    /// Says of TURN servers of the command line that they are of no use, if they are.
    pub(crate) fn note_turn(&self, servers: &[ServerAt], output: Output) {
        if !self.turn.is_given() || !servers.is_empty() {
            return;
        }
        let next = match self.no_server {
            true => "leave --no-server out, or --turn",
            false => "name one with --server EID@HOST, or leave --turn out",
        };
        let text = format!("TURN is of no use without a registration server, which tells hosts of it\n  -> {next}");
        output.prose_aside(&text, &json!({"event": "note", "text": text}));
    }

    /// The same, with the STUN servers of the user's file if none are given: for commands that tell others where this
    /// host is.
    ///
    /// # Errors
    /// If the file cannot be understood.
    pub(crate) fn with_stun_file(mut self) -> Result<Self, Error> {
        let is_without = self.is_without() || self.relay.relay_only;
        if let Some(directory) = identity::config_directory().ok().filter(|_| !is_without) {
            self.stun
                .or_else(|| read_lines(&directory.join(STUN_FILE), IfMissing::Nothing))?;
        }
        Ok(self)
    }

    /// The target without places, if nothing is to be sent there.
    ///
    /// # Errors
    /// If it is not known which host a relay is to reach.
    pub(crate) fn without_places(&self, mut target: Target) -> Result<Target, Error> {
        if self.relay.relay_only {
            if target.eid.is_none() {
                let next = "give it as EID/PATH, or by its ticket, and the server with --server EID@HOST";
                return Err(Error::new(Exit::Usage, "--relay-only needs the EID of the host", next));
            }
            target.places.clear();
        }
        Ok(target)
    }

    /// Those of the servers that a ticket names which are not asked.
    pub(crate) fn unasked<'a>(&self, named: &'a [ServerAt], asked: &[ServerAt]) -> Vec<&'a ServerAt> {
        let is_unasked = |server: &&ServerAt| self.relay.relay_only && !asked.contains(server);
        named.iter().filter(is_unasked).collect()
    }

    /// The servers of [`Self::with`], where there have to be some if others are reached by relays alone.
    ///
    /// # Errors
    /// As [`Self::with`], or if there is none.
    pub(crate) fn enough_with(&self, more: &[ServerAt]) -> Result<Vec<ServerAt>, Error> {
        let servers = self.with(more)?;
        if !servers.is_empty() || !self.relay.relay_only {
            return Ok(servers);
        }
        let what = "--relay-only needs a registration server that relays";
        Err(match more.first().filter(|_| !self.is_without()) {
            None => Error::new(Exit::Usage, what, "name it with --server EID@HOST"),
            Some(server) => {
                let what =
                    format!("{what}, and that of a ticket is not asked: it may be the peer's, and sees who comes");
                Error::new(Exit::Usage, what, format!("if you trust it: --server {server}"))
            }
        })
    }

    /// The target without names, if the local network is not to be left: resolvers ask whom they like.
    ///
    /// # Errors
    /// If names are all that is known.
    pub(crate) fn confined(&self, mut target: Target) -> Result<Target, Error> {
        if !self.lan_only {
            return Ok(target);
        }
        if let Some(name) = &target.name {
            return Err(not_asked(name));
        }
        let (names, places) = target.places.into_iter().partition(Place::is_name);
        target.places = places;
        let names: Vec<Place> = names;
        let is_looked_for = self.mdns.is_on() && target.eid.is_some();
        match names.first().filter(|_| target.places.is_empty() && !is_looked_for) {
            None => Ok(target),
            Some(name) => Err(not_asked(&name.host())),
        }
    }
}

/// List of what was named, in its order, without what was named before.
pub(crate) fn each_once<T: PartialEq>(named: Vec<T>) -> Vec<T> {
    let mut once: Vec<T> = Vec::with_capacity(named.len());
    for one in named {
        if !once.contains(&one) {
            once.push(one);
        }
    }
    once
}

fn not_asked(name: &str) -> Error {
    let what = format!("with --lan-only, nobody is asked where {name} is");
    let next = "give its IP address; or its EID alone, with --mdns";
    Error::new(Exit::Usage, what, next)
}

fn of_environment(text: &str) -> Result<Vec<ServerAt>, Error> {
    let words = text.split([' ', ',', '\t', '\n']).filter(|word| !word.is_empty());
    let parsed: Result<_, ServerError> = words.map(str::parse).collect();
    parsed.map_err(|error| {
        let next = "correct it, or give --server, or --no-server to do without";
        Error::new(Exit::Usage, format!("{VARIABLE}: {error}"), next)
    })
}

/// Meaning of a file that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfMissing {
    /// It says nothing.
    Nothing,
    /// That is an error.
    Fails,
}

/// Reads a file of one thing a line. What stands behind `#` is for people.
///
/// # Errors
/// If it cannot be read, or a line cannot be understood.
pub(crate) fn read_lines<T: FromStr<Err: fmt::Display>>(path: &Path, missing: IfMissing) -> Result<Vec<T>, Error> {
    let wrong = |error: io::Error| Error::local(path, "read", &error);
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && missing == IfMissing::Nothing => {
            return Ok(Vec::new());
        }
        _ => identity::check_is_file(path)?,
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(wrong)?;
    file.take(identity::MOST).read_to_end(&mut bytes).map_err(wrong)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        found.push(line.parse().map_err(|error| {
            let what = format!("line {number} of {}: {error}", path.display());
            Error::new(Exit::Failed, what, "correct or remove that line")
        })?);
    }
    Ok(found)
}

/// The host that is to be built registers with these servers, and makes the use of their relays, of its router, and of
/// the local network that the arguments say.
pub(crate) fn register(
    builder: HostBuilder,
    (servers, args): (&[ServerAt], &ServerArgs),
    found_by: FoundBy,
) -> HostBuilder {
    let builder = args.mdns.apply(builder, &found_by);
    let builder = builder
        .lan_only(args.lan_only)
        .found_by(found_by)
        .relay(args.relay.of_host())
        .spraying(args.relay.spraying());
    let builder = args.stun.apply(args.mapping.apply(builder));
    let builder = match args.is_without() {
        true => builder,
        false => args.turn.apply(builder),
    };
    servers.iter().fold(builder, |builder, server| {
        let builder = builder.rendezvous(server.eid, &server.place);
        with_tunnel(builder, server)
    })
}

/// The host may open a tunnel of TLS to a server that takes some.
#[cfg(feature = "tls")]
fn with_tunnel(builder: HostBuilder, server: &ServerAt) -> HostBuilder {
    match server.tls {
        Some(port) => builder.rendezvous_tls(server.eid, (server.place.host().as_str(), port)),
        None => builder,
    }
}

/// Without the feature `tls` there are no tunnels.
#[cfg(not(feature = "tls"))]
fn with_tunnel(builder: HostBuilder, _: &ServerAt) -> HostBuilder {
    builder
}

/// The servers that have found a peer.
pub(crate) fn found_by<'a>(host: &Host, peer: &Eid, servers: &'a [ServerAt]) -> Vec<&'a ServerAt> {
    let found_by = host.found_by(peer);
    let mut found: Vec<&ServerAt> = Vec::new();
    for server in servers.iter().filter(|server| found_by.contains(&server.eid)) {
        if !found.iter().any(|other| other.eid == server.eid) {
            found.push(server);
        }
    }
    found
}

/// Tells when a host is registered, and no longer is, for as long as it is at work.
pub(crate) async fn watch(host: Host, servers: Vec<ServerAt>, output: Output) {
    let begun = Instant::now();
    let mut watched: Vec<Watched> = Vec::new();
    for server in servers {
        if !watched.iter().any(|other| other.server.eid == server.eid) {
            watched.push(Watched {
                server,
                at: None,
                refusal: None,
                is_due: true,
                is_idle: false,
            });
        }
    }
    while !host.is_closed() {
        let registrations = host.registrations();
        for one in &mut watched {
            let registration = registrations.iter().find(|other| other.server == one.server.eid);
            one.note(registration.map(|registration| &registration.state), output);
        }
        let is_late = begun.elapsed() >= GRACE;
        for one in watched
            .iter_mut()
            .filter(|one| is_late && one.at.is_none() && one.is_due && !one.is_idle)
        {
            one.is_due = false;
            let (why, advice) = match one.refusal.take() {
                Some(why) => (why, SERVER_ADVICE),
                None => {
                    let diagnosis = diagnosis::of(&host, &one.server).await;
                    let advice = diagnosis.advice();
                    (diagnosis.what, advice)
                }
            };
            output.note(format!("not registered yet, trying on: {why}\n  -> {advice}"));
        }
        let is_complete = watched.iter().all(|one| one.at.is_some() || one.is_idle);
        tokio::time::sleep(if is_complete { PAUSES.1 } else { PAUSES.0 }).await;
    }
}

/// A host as its server sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// It comes from this address.
    At(SocketAddr),
    /// A TURN server lends it this address.
    ByTurn(SocketAddr),
    /// UDP gets no answer, and TLS does.
    OverTls,
}

/// A server with which a host is to be registered.
struct Watched {
    server: ServerAt,
    /// The registration that there is.
    at: Option<Seen>,
    /// Answer of a server that did not register the host.
    refusal: Option<String>,
    /// Set if it is to be said that the server does not answer.
    is_due: bool,
    /// Set if it is not needed, beside others.
    is_idle: bool,
}

impl Watched {
    fn note(&mut self, state: Option<&RegistrationState>, output: Output) {
        let place = &self.server.place;
        self.is_idle = state == Some(&RegistrationState::Idle);
        let at = match state {
            Some(RegistrationState::Registered {
                observed: Some(at),
                over: Over::Turn,
                ..
            }) => Some(Seen::ByTurn(*at)),
            Some(RegistrationState::Registered { observed, .. }) => Some(observed.map_or(Seen::OverTls, Seen::At)),
            _ => None,
        };
        self.refusal = match state {
            // Asking who is there tells more.
            Some(RegistrationState::Failed(RegistrationError::Lost(_))) => None,
            Some(RegistrationState::Failed(why)) => Some(format!("{place}: {why}")),
            _ => None,
        };
        match at {
            Some(seen) if self.at != at => {
                self.is_due = false;
                let (text, address) = match seen {
                    Seen::At(address) => (
                        format!("registered at {place}, which sees this host at {address}"),
                        Some(address.to_string()),
                    ),
                    Seen::ByTurn(address) => (
                        format!("registered at {place} by a TURN server, which lends this host {address}"),
                        Some(address.to_string()),
                    ),
                    Seen::OverTls => (
                        format!("registered at {place} over TLS, since UDP gets no answer"),
                        None,
                    ),
                };
                let fact = json!({
                    "event": "registered",
                    "server": self.server.to_string(),
                    "address": address,
                    "over": match seen {
                        Seen::At(_) => "udp",
                        Seen::ByTurn(_) => "turn",
                        Seen::OverTls => "tls",
                    },
                });
                output.prose(text, &fact);
            }
            None if self.at.is_some() && !self.is_idle => {
                let why = self.refusal.as_deref().unwrap_or("the server has forgotten this host");
                output.note(format!("no longer registered, trying again: {why}"));
            }
            _ => {}
        }
        self.at = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eid(n: u8) -> Eid {
        Eid::from_public_key(&[n; 32])
    }

    fn none() -> ServerArgs {
        ServerArgs {
            server: Vec::new(),
            no_server: false,
            relay: RelayArgs::default(),
            mapping: MappingArgs::default(),
            turn: TurnArgs::default(),
            mdns: MdnsArgs::default(),
            stun: StunArgs::default(),
            lan_only: false,
        }
    }

    #[test]
    fn the_environment_names_several() {
        let [a, b] = [1, 2].map(|n| format!("{}@192.0.2.{n}:1", eid(n)));
        for text in [format!("{a},{b}"), format!(" {a} , {b}\n")] {
            let shown: Vec<_> = of_environment(&text).unwrap().iter().map(ToString::to_string).collect();
            assert_eq!(shown, [a.clone(), b.clone()]);
        }
        assert_eq!(of_environment("").unwrap(), []);
        let error = of_environment(&format!("{a};{b}")).unwrap_err().to_string();
        assert!(error.contains("SSS_SERVER") && error.contains("--no-server"), "{error}");
    }

    #[test]
    fn who_is_named_twice_counts_once() {
        let [a, b] = [1, 2].map(|n| format!("{}@192.0.2.{n}", eid(n)).parse::<ServerAt>().unwrap());
        let server = vec![b.clone(), a.clone(), b.clone(), a.clone()];
        assert_eq!(ServerArgs { server, ..none() }.known().unwrap(), [b, a]);
    }

    #[test]
    fn a_file_has_one_a_line_and_comments() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("servers");
        assert_eq!(read_lines::<Eid>(&file, IfMissing::Nothing).unwrap(), []);
        assert!(read_lines::<Eid>(&file, IfMissing::Fails).is_err());
        fs::write(&file, format!("# ours\n\n {} # the first\n{}", eid(1), eid(2))).unwrap();
        assert_eq!(read_lines::<Eid>(&file, IfMissing::Fails).unwrap(), [eid(1), eid(2)]);
        fs::write(&file, format!("{}\nnonsense\n", eid(1))).unwrap();
        let error = read_lines::<ServerAt>(&file, IfMissing::Fails).unwrap_err().to_string();
        assert!(error.contains("line 1 of"), "{error}");
        let error = read_lines::<Eid>(&file, IfMissing::Fails).unwrap_err().to_string();
        assert!(error.contains("line 2 of"), "{error}");
        assert!(read_lines::<Eid>(dir.path(), IfMissing::Nothing).is_err());
    }

    #[test]
    fn servers_of_a_ticket_stand_beside_ours() {
        let [a, b] = [1, 2].map(|n| format!("{}@192.0.2.{n}", eid(n)).parse::<ServerAt>().unwrap());
        let args = ServerArgs {
            server: vec![a.clone()],
            ..none()
        };
        assert_eq!(args.with(&[b.clone(), a.clone()]).unwrap(), [a, b.clone()]);
        let without = [
            ServerArgs {
                no_server: true,
                ..none()
            },
            ServerArgs {
                lan_only: true,
                ..none()
            },
        ];
        for args in without {
            assert_eq!(args.with(std::slice::from_ref(&b)).unwrap(), []);
        }
    }
}
