//! `sss serve`.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};
use sss::{
    Congestion, DropReason, Eid, FoundBy, Host, HostStats, ListenError, Padding, PeerLimits, PostQuantum, Route,
    WindowConfig,
};
use sss_files::{PROTOCOL, Refusal, RelPath, SERVICE, Status};

use crate::cli::{key_log_has_a_place, some_size, target};
use crate::commands::{access_log, calls, ping, qr, relay_check, routes, search, secret_file, ticket};
use crate::error::{Error, Exit};
use crate::identity;
use crate::interrupt;
use crate::listen::{ListenArgs, until_asked_to_end};
use crate::mdns;
use crate::output::Output;
use crate::place::Place;
use crate::port_mapping;
use crate::server_at::ServerAt;
use crate::servers::{self, ServerArgs};
use crate::stun;
use crate::target::Target;
use crate::ticket::{Secret, Ticket};
use crate::transfer::limits::descriptors_left;
use crate::transfer::safe_path::Root;
use crate::transfer::served::Served;
use crate::transfer::server::{FileService, Terms};
use crate::turn;

/// Serve a directory to other hosts
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss serve ~/photos                  read only, to whoever has the ticket
  sss serve ~/photos --ticket-file t  the same ticket after a restart
  sss serve . --allow sss1q...        only this host may connect
  sss serve . --public                to everybody who can reach it
  sss serve . --write                 others may put files
  sss serve . --server sss1q...@HOST  found by its EID alone, also behind a NAT
  sss serve . --mdns                  found by its EID alone in this network
  sss serve . --mdns --lan-only       only in this network
  sss serve . --listed photos         found by anybody who searches the word
  sss serve . --server .. --port-mapping  the router lets others in, if it can

Prints `listening EID@IP:PORT` for each address at which it can be reached,
then `ticket TICKET`, and runs until it is stopped. Whoever has the ticket
gives it in place of the address: `sss get TICKET/PATH`, or, so that nobody
else on that machine sees it, `sss get @/PATH --ticket FILE`. Each request is
logged. Also answers `sss ping` and `sss services`. Symbolic links are served
as links and never followed. With --server (see `sss rendezvous`) it says when
it is `registered`: then its EID alone is enough, as in `sss get EID/PATH`, and
so is the ticket when the addresses in it have changed.")]
pub(crate) struct ServeArgs {
    /// The directory
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
    #[command(flatten)]
    pub(crate) servers: ServerArgs,
    /// Let clients write below the directory
    #[arg(long)]
    pub(crate) write: bool,
    /// Take no more than SIZE (such as 500M or 20G) for everything below the directory [default: what the disk holds]
    #[arg(long, value_name = "SIZE", requires = "write", value_parser = some_size, allow_hyphen_values = true)]
    pub(crate) quota: Option<u64>,
    /// Let only this host connect, without a ticket (may be given several times)
    #[arg(long, value_name = "EID", conflicts_with_all = ["public", "ticket_file"])]
    pub(crate) allow: Vec<Eid>,
    /// Let everybody read, and write with --write, without a ticket
    #[arg(long, conflicts_with = "ticket_file")]
    pub(crate) public: bool,
    /// Keep the secret of the ticket in this file, so that the ticket stays the same [default: a new one at each start]
    #[arg(long, value_name = "FILE")]
    pub(crate) ticket_file: Option<PathBuf>,
    /// Let anybody find this host who searches the registration servers for one of these words, separated by spaces
    #[arg(long, value_name = "WORDS", value_parser = words)]
    pub(crate) listed: Option<String>,
    /// Text that those who search read about it, at most 1024 bytes
    #[arg(long, value_name = "TEXT", requires = "listed", value_parser = profile)]
    pub(crate) profile: Option<String>,
    /// Show the ticket as a QR code, too
    #[arg(long, conflicts_with_all = ["public", "allow"])]
    pub(crate) qr: bool,
    /// Also call this host, which calls this one at the same time: so NATs of both let the other in, without a server
    /// (may be given several times; see --stun)
    #[arg(long, value_name = "EID@HOST:PORT", value_parser = target(), conflicts_with = "relay_only")]
    pub(crate) call: Vec<Target>,
    /// Tell nobody the EID who only asks an address who is there, as `sss ping HOST` does
    #[arg(long)]
    pub(crate) hidden: bool,
    /// The file with this host's identity [default: as `sss id`]
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// Congestion control: cubic, or bbr for paths that lose packets by chance
    #[arg(long, value_name = "NAME", default_value_t)]
    pub(crate) congestion: Congestion,
    /// Protection against quantum computers of the future: required, preferred (unless the peer has it off), or off
    #[arg(long, value_name = "POLICY", default_value_t)]
    pub(crate) pq: PostQuantum,
    /// Hide sizes of packets: none, buckets (powers of two), or constant (all of one size)
    #[arg(long, value_name = "POLICY", default_value_t)]
    pub(crate) padding: Padding,
    /// Append the keys of all channels to the file that SSSKEYLOGFILE names: whoever has it reads all
    #[arg(long, hide_short_help = true)]
    pub(crate) key_log: bool,
}

/// Time that clients have to hear that the host is going.
const FAREWELL: Duration = Duration::from_millis(500);
/// Peers, of all networks and of one (NEG-35).
const PEERS: usize = 4608;
const PEERS_OF_NETWORK: usize = 2048;
/// Peers of which nothing is heard, and that may come back.
const PEERS_UNHEARD: usize = 256;

/// Serves until it is stopped.
pub(crate) async fn run(mut args: ServeArgs, output: Output) -> Result<(), Error> {
    key_log_has_a_place(args.key_log)?;
    let secret = args.secret()?;
    args.servers = args.servers.with_stun_file()?;
    let called = calls::of_targets(&args.call)?;
    let servers = args.servers.enough_with(&[])?;
    args.servers.note_turn(&servers, output);
    if servers.is_empty() && args.listed.is_some() {
        let next = "name one with --server EID@HOST, in SSS_SERVER, or in the file `servers` beside the identity";
        return Err(Error::new(Exit::Usage, "--listed needs a registration server", next));
    }
    let relay_only = args.servers.relay.relay_only;
    let log = access_log::start(output);
    let terms = Terms {
        writable: args.write,
        quota: args.quota,
        secret: secret.clone(),
        log: log.clone(),
    };
    let service = service(&args.dir, terms)?;
    let identity = identity::load(args.identity.as_deref(), output)?;
    let own = identity.eid();
    called.check(&own)?;
    let builder = || {
        let builder = Host::builder()
            .identity(identity.clone())
            .congestion(args.congestion)
            .key_log(args.key_log)
            .post_quantum(args.pq)
            .padding(args.padding)
            .window(windows(args.write))
            .peer_limits(peer_limits())
            // Whoever hears the announcement could ask who it is.
            .answer_probes(!args.hidden && !args.servers.mdns.is_on())
            .allow_own_eid(true);
        let builder = servers::register(builder, (&servers, &args.servers), args.found_by());
        let (allowed, log) = (args.allow.clone(), log.clone());
        if allowed.is_empty() {
            return builder;
        }
        builder.accept_filter(move |eid, route| {
            let is_allowed = allowed.contains(eid);
            // It calls itself to see whether it is reached.
            let is_own = relay_only && *eid == own;
            if !is_allowed && !is_own {
                log(turned_away(*eid, route));
            }
            is_allowed
        })
    };
    let host = args.listen.host(builder).await?;
    enough_descriptors()?;
    start(&host, service)?;
    stun::settled(&host).await;
    stun::tell(&host, output);
    let ticket = announce(&host, (secret.clone(), &servers, relay_only), output);
    if let Some(ticket) = ticket.filter(|_| args.qr) {
        qr::show(&ticket, output)?;
    }
    calls::start(&host, called, output);
    tokio::spawn(announce_anew(host.clone(), (secret, servers.clone()), output));
    if !servers.is_empty() {
        tokio::spawn(routes::watch(host.clone(), output));
    }
    if relay_only {
        relay_check::start(&host, &identity, (&servers, &args.servers), output);
    }
    tokio::spawn(servers::watch(host.clone(), servers, output));
    tokio::spawn(turn::watch(host.clone(), output, None));
    tokio::spawn(port_mapping::watch(host.clone(), output));
    tokio::spawn(mdns::watch(host.clone(), output));
    interrupt::is_awaited();
    until_asked_to_end(&host).await?;
    output.note("stopped");
    output.machine(&[counted(&host.stats())]);
    // Whoever does not hear it finds out by itself.
    let _ = host.close_within(FAREWELL).await;
    Ok(())
}

/// Descriptors that a server needs beside those that it has when it begins.
const LEAST_DESCRIPTORS: u64 = 4;

/// Checks that this process may open as many files as the list of its addresses needs, and the shortest request.
fn enough_descriptors() -> Result<(), Error> {
    match descriptors_left() < LEAST_DESCRIPTORS {
        true => Err(Error::too_many_open()),
        false => Ok(()),
    }
}

/// Datagrams received, sent and dropped, for machines.
fn counted(stats: &HostStats) -> Value {
    let dropped = DropReason::ALL.map(|reason| (reason.name().to_owned(), stats.dropped(reason).into()));
    json!({
        "event": "counted",
        "datagrams_received": stats.datagrams_received,
        "bytes_received": stats.bytes_received,
        "datagrams_sent": stats.datagrams_sent,
        "bytes_sent": stats.bytes_sent,
        "channels_made": stats.channels_made,
        "resets_sent": stats.resets_sent,
        "refusals_sent": stats.refusals_sent,
        "greetings_denied": stats.greetings_denied,
        "dropped": Map::from_iter(dropped),
    })
}

/// Words to be listed under.
fn words(text: &str) -> Result<String, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    for word in &words {
        search::word(word)?;
    }
    match words.len() {
        1..=search::MOST_WORDS => Ok(words.join(" ")),
        _ => Err(format!("a host is listed under 1 to {} words", search::MOST_WORDS)),
    }
}

fn profile(text: &str) -> Result<String, String> {
    match text.len() {
        ..=1024 => Ok(text.to_owned()),
        bytes => Err(format!("it has {bytes} bytes, and servers take 1024")),
    }
}

impl ServeArgs {
    /// Those who are to find the host.
    fn found_by(&self) -> FoundBy {
        match self.listed.clone() {
            Some(words) => FoundBy::Anybody {
                words,
                profile: self.profile.clone().unwrap_or_default(),
            },
            None => FoundBy::Known,
        }
    }

    /// The secret that clients have to show, if they have to.
    fn secret(&self) -> Result<Option<Secret>, Error> {
        if self.public || !self.allow.is_empty() {
            return Ok(None);
        }
        let secret = match &self.ticket_file {
            Some(file) => secret_file::load_or_create(file)?,
            None => Secret::random().map_err(|error| {
                let what = format!("cannot make a ticket: {error}");
                Error::new(Exit::Failed, what, "see the message of the system above")
            })?,
        };
        Ok(Some(secret))
    }
}

/// A host that may not connect, for the log.
fn turned_away(eid: Eid, route: Route) -> Served {
    Served {
        eid,
        address: Some(route),
        what: "connect",
        path: RelPath::default(),
        sent: 0,
        received: 0,
        time: Duration::ZERO,
        refusal: Some(Refusal::new(Status::Denied, "not allowed: see --allow")),
    }
}

/// Fewer peers than the library's default: each has a session or more, which costs more than its tree.
fn peer_limits() -> PeerLimits {
    PeerLimits::default().with(|limits| {
        limits.trees = PEERS;
        limits.trees_per_network = PEERS_OF_NETWORK;
        limits.unheard = PEERS_UNHEARD;
    })
}

/// Limits of what clients may send before it is read: requests are short, and only files that come in need more.
fn windows(writable: bool) -> WindowConfig {
    let (of_one, of_all) = if writable {
        (32 << 20, 96 << 20)
    } else {
        (1 << 20, 16 << 20)
    };
    WindowConfig::default().with(|window| {
        window.per_peer_budget = of_one;
        window.per_host_budget = of_all;
        window.max_message = 0;
        window.datagram_budget = 0;
    })
}

/// The service of a directory.
///
/// # Errors
/// If it is none, or cannot be opened.
pub(crate) fn service(dir: &Path, terms: Terms) -> Result<FileService, Error> {
    let wrong = |error: io::Error| Error::local(dir, "serve", &error);
    FileService::new(Root::open(dir).map_err(wrong)?, terms).map_err(wrong)
}

/// Answers requests for files, and pings, in tasks of their own.
pub(crate) fn start(host: &Host, service: FileService) -> Result<(), Error> {
    let defect = |error: ListenError| Error::new(Exit::Failed, error.to_string(), "report this as a defect");
    let files = if service.is_writable() {
        "Files, to be read and written"
    } else {
        "Files, to be read"
    };
    let files = host.service(SERVICE).describe(files);
    let files = files.protocol(PROTOCOL, "Lists and copies files and trees: sss ls, get, put");
    tokio::spawn(service.serve(files.listen().map_err(defect)?));
    let pings = host.service(ping::SERVICE).describe("Round trips");
    let pings = pings.protocol(ping::PROTOCOL, "Sends back what a substream says: sss ping");
    tokio::spawn(ping::serve(pings.listen().map_err(defect)?));
    Ok(())
}

/// Places that a ticket names: where the host is seen from outside first, and its own addresses.
fn places(outside: &[SocketAddr], addresses: &[SocketAddr]) -> Vec<Place> {
    let elsewhere = addresses.iter().filter(|address| !address.ip().is_loopback());
    let mut places: Vec<Place> = outside.iter().chain(elsewhere).copied().map(Place::Address).collect();
    if places.is_empty() {
        places.extend(addresses.iter().copied().map(Place::Address));
    }
    places
}

/// Prints where the host can be reached, and the ticket, if it asks for one: that is returned. It names the servers. If
/// the host is to be reached by their relays alone, neither tells an address.
pub(crate) fn announce(
    host: &Host,
    (secret, servers, relay_only): (Option<Secret>, &[ServerAt], bool),
    output: Output,
) -> Option<String> {
    let eid = host.eid();
    let (mut own, mut addresses) = (host.local_addrs(), stun::outside(host));
    if relay_only {
        own.clear();
        addresses.clear();
    }
    let places = places(&addresses, &own);
    addresses.append(&mut own);
    let ticket = secret.map(|secret| {
        Ticket::new(eid, places.iter().cloned(), Some(secret))
            .with_servers(servers.iter().cloned())
            .to_string()
    });
    let targets = addresses.iter().map(|address| format!("{eid}@{address}"));
    let alone = relay_only.then(|| eid.to_string());
    for (number, target) in targets.chain(alone).enumerate() {
        let mut fact = json!({
            "event": "listening",
            "eid": eid.to_string(),
            "address": addresses.get(number).map(ToString::to_string),
            "target": target,
        });
        if let Some(ticket) = &ticket {
            fact["ticket"] = ticket.clone().into();
        }
        output.prose(format!("listening {target}"), &fact);
    }
    // Each `listening` has it for machines.
    if let Some(ticket) = ticket.as_ref().filter(|_| !output.is_json()) {
        output.prose(format!("ticket {ticket}"), &json!(null));
    }
    // Whoever names the own machine means it.
    if ticket.is_some() && host.local_addr().ip().is_unspecified() {
        ticket::note_if_useless(&places, output);
    }
    ticket
}

/// Prints another ticket whenever the host is seen elsewhere from outside: those before lead nobody here any more.
async fn announce_anew(host: Host, (secret, servers): (Option<Secret>, Vec<ServerAt>), output: Output) {
    let of = host.clone();
    let anew = move |outside: &[SocketAddr]| {
        let Some(secret) = secret.clone() else {
            return;
        };
        let places = places(outside, &of.local_addrs());
        let ticket = Ticket::new(of.eid(), places, Some(secret)).with_servers(servers.iter().cloned());
        let fact = json!({"event": "ticket", "eid": of.eid().to_string(), "ticket": ticket.to_string()});
        output.prose(format!("ticket {ticket}"), &fact);
    };
    stun::watch(host, output, anew).await;
}
