//! `sss doctor`.

mod guessed;
mod named;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use sss::{
    Eid, Explanation, FoundBy, Host, LeaseAt, NatKind, Over, Registration, RegistrationState, Route, RouteClass,
    Seconds, SprayOutcome,
};

use crate::caller::{Caller, place_of};
use crate::cli::{ConnectArgs, target};
use crate::connector::{Times, build_with, nowhere};
use crate::diagnosis::{self, Diagnosis};
use crate::error::{Error, Exit};
use crate::identity;
use crate::interrupt;
use crate::mdns;
use crate::output::{Output, milliseconds, wrapped};
use crate::place::Place;
use crate::port_mapping::{self, Examined};
use crate::screen;
use crate::server_at::ServerAt;
use crate::servers::{self, ServerArgs};
use crate::stun;
use crate::target::Target;
use crate::turn;
use named::{InDns, Named};

/// Time for the servers to answer.
const ASKING: Duration = Duration::from_secs(5);
/// Time for another port of a server to answer, once the server has.
const TELLING: Duration = Duration::from_millis(600);
const PAUSE: Duration = Duration::from_millis(20);
/// Time to see whether a connection that began through a relay becomes a direct one.
const SETTLING: Duration = Duration::from_secs(2);
const FAREWELL: Duration = Duration::from_millis(300);
/// Columns where there is no terminal.
const COLUMNS: usize = 80;
/// Columns of the names of what is told.
const NAMES: usize = 11;

/// Tell what this machine's network is like, and why a host is reached or is not
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss doctor                          addresses, servers, NAT
  sss doctor sss1q... --server ..     the way to a host, and what was tried
  sss doctor --mdns                   how many hosts are on this local network
  sss doctor sss1q... --mdns          whether it is one of them
  sss doctor --stun stun.example      also where it is seen from outside
  sss doctor --port-mapping           also what the router does when it is asked
                                      to let a port in, and whether that works

Nothing is sent but what a command sends that connects, and nothing is stored.
--timeout holds for DNS, servers and host together, and for --mdns;
--port-mapping, and ports that are guessed, may take longer.")]
pub(crate) struct DoctorArgs {
    /// The host that is to be reached: EID, EID@HOST, dns:NAME, or a ticket
    #[arg(value_name = "EID", value_parser = target())]
    pub(crate) target: Option<Target>,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// Host that is to be reached, and places where it may be.
type Wanted = (Eid, Vec<Place>);

/// Outcome of an attempt to reach a host.
struct Attempt {
    eid: Eid,
    places: Vec<Place>,
    time: Duration,
    result: Result<(), Error>,
}

/// Findings about this machine's network, and about the way to a host.
struct Findings {
    explanation: Explanation,
    in_dns: Option<InDns>,
    attempt: Option<Attempt>,
    stun: Option<stun::Examined>,
    router: Option<Examined>,
    lan: Option<mdns::Examined>,
    turn: Vec<turn::Examined>,
    /// The switch by which no ports are guessed.
    without_spraying: Option<&'static str>,
}

/// Examines, and tells.
pub(crate) async fn run(mut args: DoctorArgs, output: Output) -> Result<(), Error> {
    args.connect.servers = args.connect.servers.with_stun_file()?;
    let begun = Instant::now();
    let Named { target, in_dns } = named::look_up(args.target, &args.connect, output).await?;
    let named = target.as_ref().map_or(&[][..], |target| &target.servers);
    let servers = args.connect.servers.enough_with(named)?;
    args.connect.servers.note_turn(&servers, output);
    let wanted = match target {
        Some(target) => Some((target.eid.ok_or_else(nobody)?, target.places)),
        None => None,
    };
    let identity = identity::load(args.connect.identity.as_deref(), output)?;
    if wanted.as_ref().is_some_and(|(eid, _)| *eid == identity.eid()) {
        return Err(itself());
    }
    let times = Times {
        connect: args.connect.timeout,
        silence: args.connect.patience,
    };
    let bind = match &args.connect.bind {
        Some(bind) => Some(bind.address(0).await?),
        None => None,
    };
    let host = build_with(identity, bind, times, |host| {
        servers::register(
            host.post_quantum(args.connect.pq).lease_at(LeaseAt::All),
            (&servers, &args.connect.servers),
            FoundBy::Nobody,
        )
    })
    .await?;
    let caller = Caller {
        host: host.clone(),
        servers,
        timeout: args.connect.timeout.saturating_sub(begun.elapsed()),
        needs_server: false,
        relay_only: args.connect.servers.relay.relay_only,
        waiting: None,
    };
    let examined = interrupt::or(examine(caller, (wanted, in_dns, &args.connect.servers), output)).await;
    let _ = host.close_within(FAREWELL).await;
    examined
}

/// Error for the own EID.
fn itself() -> Error {
    let next = "leave it out to examine this host's own network; or run it on the machine that is to reach this one";
    Error::new(Exit::Usage, "that is the EID of this host itself", next)
}

/// Error for a target without an EID.
fn nobody() -> Error {
    let next = "give EID or EID@HOST, or leave it out; `sss ping HOST` tells the EID";
    Error::new(Exit::Usage, "it is not known whose way is to be explained", next)
}

async fn examine(
    mut caller: Caller,
    (wanted, in_dns, args): (Option<Wanted>, Option<InDns>, &ServerArgs),
    output: Output,
) -> Result<(), Error> {
    let host = caller.host.clone();
    let host = &host;
    let budget = Budget::new(caller.timeout, (!caller.servers.is_empty(), wanted.is_some()));
    let begun = Instant::now();
    answered(host, budget.answers).await;
    told(host).await;
    caller.timeout = budget.left(begun.elapsed());
    stun::settled(host).await;
    port_mapping::settled(host).await;
    turn::settled(host).await;
    let (attempt, cut_short) = match wanted {
        Some(wanted) => (Some(attempt(&caller, wanted, args.forbidden_by()).await), None),
        None => (None, mdns::survey(host, caller.timeout).await),
    };
    let about = attempt.as_ref().map_or_else(|| host.eid(), |attempt| attempt.eid);
    let explanation = host.explain(&about);
    let is_silent = |one: &&Registration| !matches!(one.state, RegistrationState::Registered { .. });
    let silent: Vec<Eid> = explanation
        .registrations
        .iter()
        .filter(is_silent)
        .map(|one| one.server)
        .collect();
    let (mut unreached, mut diagnosis) = (caller.servers.clone(), None);
    unreached.retain(|server| silent.contains(&server.eid));
    if !unreached.is_empty() {
        diagnosis = Some(diagnosis::of_all(host, &unreached, budget.diagnosis).await);
    }
    let (stun, router) = (stun::examined(host), port_mapping::examined(host));
    let mut advice = advice(
        &explanation,
        (attempt.as_ref(), args),
        diagnosis.as_ref().map(Diagnosis::advice),
    );
    let diagnosis = diagnosis.map(|diagnosis| diagnosis.what);
    advice.extend(stun.iter().flat_map(|stun| stun.advice.iter().cloned()));
    advice.extend(router.iter().flat_map(|router| router.advice.iter().cloned()));
    let lan = mdns::examined(host, attempt.as_ref().map(|attempt| &attempt.eid), cut_short);
    advice.extend(lan.iter().flat_map(|lan| lan.advice.iter().cloned()));
    let turn = turn::examined(host);
    advice.extend(turn.iter().filter_map(|one| one.advice.clone()));
    let findings = Findings {
        explanation,
        in_dns,
        attempt,
        stun,
        router,
        lan,
        turn,
        without_spraying: args.relay.without_spraying(),
    };
    let text = text(host, &caller.servers, &findings, (diagnosis.as_deref(), &advice));
    let fact = fact(host, &caller.servers, &findings, (diagnosis.as_deref(), &advice));
    output.fact(text, &fact);
    match (findings.in_dns.and_then(|in_dns| in_dns.error()), findings.attempt) {
        (Some(error), _) => Err(error),
        (None, Some(attempt)) => attempt.result,
        (None, None) => Ok(()),
    }
}

/// Parts of the time that the examination may take.
#[derive(Clone, Copy, Debug)]
struct Budget {
    all: Duration,
    /// For the servers to answer.
    answers: Duration,
    /// For asking who is there in place of servers that have not.
    diagnosis: Duration,
}

impl Budget {
    /// If a host is to be reached, that has half of it, and more where the servers answer at once; all of it if there
    /// are none.
    fn new(all: Duration, (has_servers, is_host_wanted): (bool, bool)) -> Self {
        let diagnosis = match has_servers {
            true => diagnosis::ASKING.min(all / 4),
            false => Duration::ZERO,
        };
        let answers = match is_host_wanted {
            true => all / 2,
            false => all.saturating_sub(diagnosis),
        };
        Self {
            all,
            answers: ASKING.min(answers),
            diagnosis,
        }
    }

    /// Time for the host to be reached, when so much has gone.
    fn left(&self, gone: Duration) -> Duration {
        let left = self.all.saturating_sub(gone).saturating_sub(self.diagnosis);
        left.max(self.diagnosis)
    }
}

/// Waits until every server has answered, or has not for a while.
async fn answered(host: &Host, limit: Duration) {
    let until = Instant::now() + limit;
    let is_pending = |state: &RegistrationState| {
        matches!(state, RegistrationState::Resolving | RegistrationState::Asking)
            || matches!(state, RegistrationState::Registered { rtt: None, .. })
    };
    while Instant::now() < until && host.registrations().iter().any(|one| is_pending(&one.state)) {
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits for the other port of a server, which tells the kind of the NAT.
async fn told(host: &Host) {
    let until = Instant::now() + TELLING;
    while Instant::now() < until && host.explain(&host.eid()).nat == NatKind::Some {
        tokio::time::sleep(PAUSE).await;
    }
}

async fn attempt(caller: &Caller, (eid, places): Wanted, forbidden_by: Option<&str>) -> Attempt {
    let begun = Instant::now();
    let is_nowhere = places.is_empty() && caller.servers.is_empty() && mdns::failed(&caller.host).is_none();
    let asked = match is_nowhere {
        true => Err(nowhere(eid, forbidden_by)),
        false => caller.ask(&eid, || caller.host.services_of(eid).hints(&places)).await,
    };
    // What it took to be sure that there was no time left does not count.
    let time = match asked {
        Ok(_) => begun.elapsed(),
        Err(_) => begun.elapsed().min(caller.timeout),
    };
    let is_direct = || {
        let route = caller.host.explain(&eid).route;
        route.is_none_or(|route| route.class() == RouteClass::Direct)
    };
    let settled = Instant::now() + SETTLING;
    let is_guessing = || {
        let spray = caller.host.explain(&eid).spray;
        spray.is_some_and(|report| report.outcome == SprayOutcome::UnderWay)
    };
    while asked.is_ok() && (is_guessing() || !is_direct() && Instant::now() < settled) {
        tokio::time::sleep(PAUSE).await;
    }
    let result = asked.map(|_| ());
    Attempt {
        eid,
        places,
        time,
        result,
    }
}

/// The place of a route: that of a tunnel has no address.
fn place(route: Route) -> String {
    match route.class() {
        RouteClass::Turn | RouteClass::Tunnel => place_of(route),
        _ => route.to_string(),
    }
}

fn families(addresses: &[SocketAddr]) -> Vec<&'static str> {
    let elsewhere = addresses.iter().filter(|address| !address.ip().is_loopback());
    let (mut v4, mut v6) = (false, false);
    for address in elsewhere {
        match address.ip().to_canonical().is_ipv4() {
            true => v4 = true,
            false => v6 = true,
        }
    }
    let both = [(v4, "IPv4"), (v6, "IPv6")];
    both.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect()
}

fn nat_words(nat: NatKind) -> &'static str {
    match nat {
        NatKind::None => "none on the way to the servers",
        NatKind::Some => "there is one; a second server, or another port of the server's, would tell its kind",
        NatKind::SamePort => "one that keeps its port for all: others can be let in",
        NatKind::OtherPorts => "one that takes another port for each peer",
        _ => "not known: no server has told this host's address",
    }
}

/// Says what would help.
fn advice(
    explanation: &Explanation,
    (attempt, args): (Option<&Attempt>, &ServerArgs),
    about_servers: Option<&str>,
) -> Vec<String> {
    let mut advice = Vec::new();
    if families(&explanation.addresses).is_empty() {
        advice.push("connect this machine to a network".to_owned());
    }
    // Whoever is found without a server needs none.
    if !args.lan_only && explanation.registrations.is_empty() && explanation.route.is_none() {
        advice.push("name a registration server with --server: hosts are found by their EIDs then".to_owned());
    }
    advice.extend(about_servers.map(str::to_owned));
    // Whoever has reached the peer needs no other server.
    if explanation.nat == NatKind::OtherPorts && explanation.route.is_none() {
        advice.push(
            "use a server that relays, `sss rendezvous --relay`, or a TURN server: with hosts behind NATs one of \
                 them is needed"
                .to_owned(),
        );
    }
    if explanation.registrations.iter().any(is_over_tls) {
        advice.push(
            "UDP does not get through from here, so that all goes through the server: let UDP to the server's port pass \
             the firewall, and it is faster"
                .to_owned(),
        );
    }
    let is_relayed = explanation
        .route
        .is_some_and(|route| route.class() == RouteClass::Relay);
    if is_relayed && attempt.is_some() && !args.relay.relay_only {
        advice.push(
            "packets go through a relay: an open UDP port at one of the two hosts lets them go directly, unless the \
             other one has --relay-only"
                .to_owned(),
        );
    }
    advice
}

fn state(registration: &Registration) -> String {
    match &registration.state {
        RegistrationState::Registered {
            observed, rtt, over, ..
        } => {
            let rtt = rtt.map_or_else(String::new, |rtt| format!(", {:.1} ms", milliseconds(rtt)));
            match observed {
                Some(lent) if *over == Over::Turn => format!("registered by TURN{rtt}, sees this host at {lent}"),
                Some(observed) => format!("registered{rtt}, sees this host at {observed}"),
                None => format!("registered over TLS{rtt}: UDP gets no answer"),
            }
        }
        RegistrationState::Failed(why) => format!("not registered: {why}"),
        RegistrationState::Resolving => "its name is not found yet".to_owned(),
        _ => "has not answered".to_owned(),
    }
}

/// Places where the host was tried without a server: those that were given, and those that mDNS has found.
fn tried(findings: &Findings, attempt: &Attempt) -> Vec<String> {
    let mut tried: Vec<String> = attempt.places.iter().map(ToString::to_string).collect();
    for place in findings.lan.iter().flat_map(|lan| &lan.found) {
        if !tried.contains(place) {
            tried.push(place.clone());
        }
    }
    tried
}

fn over_name(over: Over) -> &'static str {
    match over {
        Over::Tls => "tls",
        Over::Turn => "turn",
        _ => "udp",
    }
}

fn is_over_tls(registration: &Registration) -> bool {
    matches!(
        registration.state,
        RegistrationState::Registered { over: Over::Tls, .. }
    )
}

fn joined(words: impl IntoIterator<Item = impl ToString>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| word.to_string()).collect();
    words.join(", ")
}

/// Servers by their EIDs, as this user has named them.
fn named<'a>(servers: &'a [ServerAt], eids: &'a [Eid]) -> impl Iterator<Item = String> + 'a {
    let first = |eid: &Eid| servers.iter().find(|server| server.eid == *eid);
    eids.iter()
        .filter_map(move |eid| first(eid).map(|server| server.place.to_string()))
}

fn text(
    host: &Host,
    servers: &[ServerAt],
    findings: &Findings,
    (diagnosis, advice): (Option<&str>, &[String]),
) -> String {
    let (explanation, attempt) = (&findings.explanation, findings.attempt.as_ref());
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        let row = format!("{name:NAMES$} {value}");
        let _ = writeln!(
            text,
            "{}",
            wrapped(&row, Some(screen::output_width().unwrap_or(COLUMNS)), NAMES + 1)
        );
    };
    row("this host", &host.eid().to_string());
    row("addresses", &joined(&explanation.addresses));
    match families(&explanation.addresses)[..] {
        [] => row("families", "none but loopback: this machine is not connected"),
        ref families => row("families", &families.join(" and ")),
    }
    for registration in &explanation.registrations {
        let name = named(servers, &[registration.server]).next().unwrap_or_default();
        row("server", &format!("{name}: {}", state(registration)));
    }
    if let Some(diagnosis) = diagnosis {
        row("", diagnosis);
    }
    for words in findings.stun.iter().flat_map(|stun| &stun.words) {
        row("STUN", words);
    }
    if !explanation.registrations.is_empty() || findings.stun.is_some() {
        row("NAT", nat_words(explanation.nat));
    }
    findings.turn.iter().for_each(|one| row("TURN", &one.words));
    for (name, words) in findings.router.iter().flat_map(Examined::rows) {
        row(name, words);
    }
    if let Some(lan) = &findings.lan {
        row("mDNS", &lan.words);
    }
    if let Some(in_dns) = &findings.in_dns {
        row("DNS", &in_dns.words());
    }
    if let Some(attempt) = attempt {
        row("peer", &attempt.eid.to_string());
        let mut tried = tried(findings, attempt);
        let is_registered = |one: &&Registration| matches!(one.state, RegistrationState::Registered { .. });
        let asked = explanation.registrations.iter().filter(is_registered);
        let asked: Vec<Eid> = asked.map(|one| one.server).collect();
        tried.extend(named(servers, &asked).map(|place| format!("the server {place}")));
        row("tried", &joined(tried));
        let found_by = joined(named(servers, &explanation.found_by));
        match found_by.is_empty() {
            true if findings.lan.as_ref().is_some_and(|lan| !lan.found.is_empty()) => row("found by", "mDNS"),
            true => row("found by", "no server"),
            false => row("found by", &found_by),
        }
        match (&attempt.result, explanation.route) {
            (Ok(()), Some(route)) => {
                let ms = milliseconds(attempt.time);
                row(
                    "result",
                    &format!("reached in {ms:.1} ms; {} route now: {}", route.class(), place(route)),
                );
            }
            (Ok(()), None) => row("result", "reached, and lost again"),
            (Err(_), _) => row(
                "result",
                &format!("not reached, given up after {}", Seconds(attempt.time)),
            ),
        }
    }
    match (findings.without_spraying, &explanation.spray) {
        (Some(switch), _) => row("guessing", &format!("off, here and for peers: {switch}")),
        (None, Some(report)) => row("guessing", &guessed::words(report)),
        (None, None) => {}
    }
    for advice in advice {
        row("->", advice);
    }
    text.trim_end().to_owned()
}

fn fact(
    host: &Host,
    servers: &[ServerAt],
    findings: &Findings,
    (diagnosis, advice): (Option<&str>, &[String]),
) -> Value {
    let (explanation, attempt) = (&findings.explanation, findings.attempt.as_ref());
    let registered = explanation.registrations.iter().map(|registration| {
        let mut server = json!({
            "server": joined(servers.iter().filter(|server| server.eid == registration.server)),
            "addresses": registration.addresses,
            "state": state(registration),
        });
        if let RegistrationState::Registered {
            over, observed, rtt, ..
        } = registration.state
        {
            server["over"] = over_name(over).into();
            server["observed"] = observed.map(|observed| observed.to_string()).into();
            server["rtt_ms"] = rtt.map(milliseconds).into();
        }
        server
    });
    let mut fact = json!({
        "event": "doctor",
        "eid": host.eid().to_string(),
        "addresses": explanation.addresses,
        "families": families(&explanation.addresses),
        "servers": registered.collect::<Vec<_>>(),
        "nat": explanation.nat.name(),
        "diagnosis": diagnosis,
        "advice": advice,
        "stun": findings.stun.as_ref().map(|stun| stun.fact.clone()),
        "turn": findings.turn.iter().map(|one| one.fact.clone()).collect::<Vec<_>>(),
        "port_mapping": findings.router.as_ref().map(|router| router.fact.clone()),
        "guesses_ports": findings.without_spraying.is_none(),
        "dns": findings.in_dns.as_ref().map(InDns::fact),
        "mdns": findings.lan.as_ref().map(|lan| lan.fact.clone()),
    });
    if let Some(attempt) = attempt {
        let route = explanation.route;
        fact["peer"] = json!({
            "eid": attempt.eid.to_string(),
            "tried": tried(findings, attempt),
            "found_by": named(servers, &explanation.found_by).collect::<Vec<_>>(),
            "seconds": attempt.time.as_secs_f64(),
            "error": attempt.result.as_ref().err().map(|error| error.json()["error"].clone()),
            "route": route.map(|route| route.class().name()),
            "address": route.map(|route| route.to_string()),
            "spraying": explanation.spray.as_ref().map(guessed::fact),
        });
    }
    fact
}
