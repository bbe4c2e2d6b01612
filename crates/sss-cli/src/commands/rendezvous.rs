//! `sss rendezvous`: a registration server.

#[cfg_attr(not(feature = "redis"), path = "rendezvous/directory_absent.rs")]
mod directory;
#[cfg_attr(not(feature = "tls"), path = "rendezvous/tunnels_absent.rs")]
mod tunnels;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use sss::{Eid, Host, Quotas, RelayLimits, RendezvousServer, ServerStats};
use tokio::net::TcpListener;

use crate::cli::{some_seconds, whole};
use crate::commands::metrics;
use crate::error::Error;
use crate::identity;
use crate::interrupt;
use crate::listen::{ListenArgs, until_asked_to_end};
use crate::output::{Output, count, size};
use crate::place::{DEFAULT_PORT, Place};
use crate::server_at::Tls;
use crate::servers::{IfMissing, each_once, read_lines};
use crate::transfer::rate::Rate;

/// Run a server by which hosts find each other by their EIDs, also behind NATs
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss rendezvous                     for everybody who knows where it is
  sss rendezvous --allow-file hosts  for hosts whose EIDs are in a file
  sss rendezvous --relay             carries packets where nothing else works
  sss rendezvous --relay --tls [::]:443  also where UDP is blocked
  sss rendezvous --stats 60          tells each minute what it does
  sss rendezvous --redis redis://db --public-addr 203.0.113.5  one of several

Run it where everybody can reach it by UDP. It prints `listening EID@IP:PORT`
for each of its addresses, then what others give to use it:
  sss serve ~/photos --server EID@HOST:PORT    registers; prints its own EID
  sss get sss1q.../2026 --server EID@HOST:PORT finds that host, wherever it is
To give it once for all commands, put EID@HOST:PORT into SSS_SERVER or into the
file ~/.config/sss/servers. It introduces hosts to each other, and relays
nothing without --relay. It learns who they are, where, and who looks for whom;
not what they say. Keep its identity: with another one, all who use it have to
be told.")]
pub(crate) struct RendezvousArgs {
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
    /// The file with this host's identity [default: as `sss id`]
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// Register at most so many hosts at a time
    #[arg(long, value_name = "N", default_value = "1048576", value_parser = whole::<u32>(1..=16_777_216), allow_hyphen_values = true)]
    pub(crate) max_clients: u32,
    /// Seconds that a registration lasts; hosts renew it three times in that, which also keeps their NATs open
    #[arg(long, value_name = "SECONDS", default_value = "60", hide_short_help = true, value_parser = whole::<u16>(6..=600), allow_hyphen_values = true)]
    pub(crate) lease: u16,
    /// Serve only the hosts whose EIDs are in this file, one a line, with # before comments; read at the start
    #[arg(long, value_name = "FILE")]
    pub(crate) allow_file: Option<PathBuf>,
    /// Relay packets between hosts that registered here and do not reach each other in another way, such as two behind
    /// symmetric NATs: all of their traffic goes through this machine, which cannot read it
    #[arg(long)]
    pub(crate) relay: bool,
    /// Relay at most so many bytes per second in all, such as 500K, 2M or 1.5M (K: 1024); when that is used up, all get
    /// the same share [default: 1G]
    #[arg(long, value_name = "RATE", requires = "relay", allow_hyphen_values = true)]
    pub(crate) relay_rate: Option<Rate>,
    /// Take tunnels of TLS at this address too (port 443 is what firewalls let pass), from hosts to which UDP is
    /// blocked: others give EID@HOST:PORT+tls. TLS only carries: hosts are authenticated by their EIDs inside, and do
    /// not look at the certificate, which is made at each start unless one is given
    #[arg(long, value_name = "IP:PORT", requires = "relay")]
    pub(crate) tls: Option<SocketAddr>,
    /// The certificate to show, with those it needs behind it, as PEM: for firewalls that look at it
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls",
        requires = "tls_key",
        hide_short_help = true
    )]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of that certificate, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", hide_short_help = true)]
    pub(crate) tls_key: Option<PathBuf>,
    /// Let Prometheus read what the server does at http://ADDR/metrics; whoever reaches that address can
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Share a directory in Redis with other servers, each with its own identity and --public-addr: a host that has
    /// registered with one of them is found by those who know another. Without --public-addr, others are sent to the
    /// first address that is printed. Redis does not encrypt: keep it in a network that is yours
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,
    /// The address that others give, as HOST or HOST:PORT, where it is another than this machine's (may be given
    /// several times)
    #[arg(long, value_name = "HOST[:PORT]", value_parser = public)]
    pub(crate) public_addr: Vec<Place>,
    /// Tell so often on standard error what the server has done
    #[arg(long, value_name = "SECONDS", value_parser = some_seconds, allow_hyphen_values = true)]
    pub(crate) stats: Option<Duration>,
}

/// Time that clients have to hear that the server is going.
const FAREWELL: Duration = Duration::from_millis(500);

/// Serves until it is stopped.
pub(crate) async fn run(args: RendezvousArgs, output: Output) -> Result<(), Error> {
    let allowed: Option<HashSet<Eid>> = match &args.allow_file {
        Some(file) => Some(read_lines(file, IfMissing::Fails)?.into_iter().collect()),
        None => None,
    };
    let tls = tunnels::wanted(&args)?;
    let shared = directory::wanted(&args).await?;
    let has_run = identity::exists(args.identity.as_deref());
    let identity = identity::load(args.identity.as_deref(), output)?;
    let builder = || {
        let server = RendezvousServer::new().restarted(has_run).quotas(Quotas {
            ttl: Duration::from_secs(args.lease.into()),
            leases: usize::try_from(args.max_clients).unwrap_or(usize::MAX),
            ..Quotas::default()
        });
        let server = match args.relay {
            true => server.relay(relay_limits(args.relay_rate)),
            false => server,
        };
        let server = match allowed.clone() {
            Some(allowed) => server.allow(move |eid| allowed.contains(eid)),
            None => server,
        };
        let server = tunnels::with(server, tls.clone());
        let server = directory::with(server, shared.clone());
        let builder = Host::builder().identity(identity.clone()).answer_probes(true);
        builder.serve_rendezvous(server)
    };
    let host = args.listen.host(builder).await?;
    let metrics = match args.metrics {
        Some(address) => Some(metrics::bind(address).await?),
        None => None,
    };
    announce(&host, (&each_once(args.public_addr.clone()), &metrics), output);
    if let Some(metrics) = metrics {
        tokio::spawn(metrics::serve(metrics, host.clone()));
    }
    if let Some(allowed) = &allowed {
        output.note(format!("{} may use it", count(allowed.len() as u64, "host")));
    }
    tokio::spawn(directory::watch(host.clone(), shared, output));
    interrupt::is_awaited();
    tokio::select! {
        ended = until_asked_to_end(&host) => ended?,
        () = tell_now_and_then(&host, args.stats, output) => {}
    }
    if args.stats.is_some() {
        tell(&host, output);
    }
    output.note("stopped");
    // Whoever does not hear it finds out by itself.
    let _ = host.close_within(FAREWELL).await;
    Ok(())
}

/// Limits of a relay that carries so much in all.
fn relay_limits(rate: Option<Rate>) -> RelayLimits {
    let default = RelayLimits::default();
    RelayLimits {
        total_rate: rate.map_or(default.total_rate, Rate::bytes_per_second),
        ..default
    }
}

fn public(text: &str) -> Result<Place, String> {
    Place::parse(text, Some(DEFAULT_PORT)).map_err(|error| error.to_string())
}

/// Prints where it is, and what others give to use it.
fn announce(host: &Host, (public, metrics): (&[Place], &Option<TcpListener>), output: Output) {
    let eid = host.eid();
    let addresses = host.local_addrs();
    let tell = |what: &str, at: String| {
        let target = format!("{eid}@{at}");
        let fact = json!({ "event": "listening", "eid": eid.to_string(), "address": at, "target": target });
        output.prose(format!("{what} {target}"), &fact);
    };
    addresses
        .iter()
        .for_each(|address| tell("listening", address.to_string()));
    public.iter().for_each(|place| tell("public", place.to_string()));
    // Each `listening` has it for machines.
    let first = addresses.first().map(ToString::to_string);
    if let Some(place) = public.first().map(ToString::to_string).or(first) {
        let tls = Tls(tunnels::port(host));
        output.text(format!("others give --server {eid}@{place}{tls}"));
    }
    let other = host.rendezvous_stats().map_or(0, |stats| stats.other_port);
    if other > 0 {
        let fact = json!({"event": "other_port", "port": other});
        output.prose(
            format!("also UDP port {other}, to tell kinds of NATs: let it in"),
            &fact,
        );
    }
    if let Some(address) = tunnels::address(host) {
        let fact = json!({"event": "tls", "address": address.to_string()});
        output.prose(format!("tls {address}"), &fact);
    }
    if let Some(address) = metrics.as_ref().and_then(|listener| listener.local_addr().ok()) {
        let fact = json!({"event": "metrics", "address": address.to_string()});
        output.prose(format!("metrics http://{address}/metrics"), &fact);
    }
}

/// The number of tunnels of TLS that are open.
pub(super) fn open_tunnels(host: &Host) -> u64 {
    tunnels::open(host)
}

async fn tell_now_and_then(host: &Host, pause: Option<Duration>, output: Output) {
    let Some(pause) = pause else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(pause).await;
        tell(host, output);
    }
}

fn tell(host: &Host, output: Output) {
    let stats = host.rendezvous_stats().unwrap_or_default();
    let fact = json!({
        "event": "statistics",
        "registered": stats.leases,
        "introductions": stats.introductions,
        "introduced": stats.introduced,
        "renewed": stats.renewed,
        "refused": stats.refused,
        "dropped": stats.dropped,
        "relayed_pairs": stats.handles / 2,
        "relayed_packets": stats.relayed_packets,
        "relayed_bytes": stats.relayed_bytes,
        "not_relayed": stats.unrelayed,
        "tunnels": tunnels::open(host),
        "directory": stats.directory.is_used.then_some(stats.directory.is_up),
        "referred": stats.directory.referred,
    });
    output.prose_aside(text(&stats) + &tunnels::text(host), &fact);
}

fn text(stats: &ServerStats) -> String {
    let mut text = format!(
        "{} registered, {} introduced, {}, {} refused, {} dropped",
        count(stats.leases, "host"),
        stats.introduced,
        count(stats.renewed, "renewal"),
        stats.refused,
        stats.dropped,
    );
    if stats.handles > 0 || stats.relayed_packets > 0 {
        let packets = count(stats.relayed_packets, "packet");
        let pairs = count(stats.handles / 2, "pair");
        let bytes = size(stats.relayed_bytes);
        text += &format!("; {packets} of {bytes} relayed, {pairs} now, {} not", stats.unrelayed);
    }
    if stats.directory.is_used {
        let away = if stats.directory.is_up { "" } else { ", directory away" };
        text += &format!("; {} sent to other servers{away}", stats.directory.referred);
    }
    text
}
