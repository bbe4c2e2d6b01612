//! `sss ticket`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use sss::{BuildError, Host};

use crate::cli::whole;
use crate::commands::{qr, secret_file};
use crate::error::{Error, Exit};
use crate::identity;
use crate::output::Output;
use crate::place::{DEFAULT_PORT, Place};
use crate::servers::{ServerArgs, each_once};
use crate::stun;
use crate::ticket::Ticket;

/// Longest string of a record in the DNS, in bytes.
const MAX_STRING: usize = 255;

/// Print the ticket that `sss serve` would have, without serving
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss ticket --ticket-file t                   for `sss serve --ticket-file t`
  sss ticket --public                          for `sss serve --public`
  sss ticket --ticket-file t --at nas.example  at a name
  sss ticket --ticket-file t --qr              to be scanned from this screen
  sss ticket --ticket-file t --stun stun.example
                                               where the router lets it be seen
  sss ticket --public --dns nas.example --at nas.example
                                               for the zone of nas.example

The ticket names this machine's addresses and the registration servers that
are known. With --at it names those places in place of the addresses, and with
--no-addresses only the servers. With --dns it is printed as the line of a
zone, and names no addresses but those of --at: all the world reads it.")]
pub(crate) struct TicketArgs {
    /// The file with the secret of the ticket, as of `sss serve`; made if it is not there
    #[arg(long, value_name = "FILE")]
    pub(crate) ticket_file: Option<PathBuf>,
    /// Without a secret, for a host that serves everybody
    #[arg(long, conflicts_with = "ticket_file")]
    pub(crate) public: bool,
    /// A place where the host can be reached: HOST or HOST:PORT (may be given several times)
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with = "no_addresses", value_parser = at)]
    pub(crate) at: Vec<Place>,
    /// Print the record by which the DNS tells of the host: then `dns:NAME` is enough for everybody
    #[arg(long, value_name = "NAME", requires = "public", conflicts_with = "ticket_file", value_parser = in_dns)]
    pub(crate) dns: Option<String>,
    /// Name no address: servers find the host, or --mdns on the same local network
    #[arg(long)]
    pub(crate) no_addresses: bool,
    /// UDP port that the host listens at
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PORT, value_parser = whole::<u16>(1..=65_535), allow_hyphen_values = true)]
    pub(crate) port: u16,
    #[command(flatten)]
    pub(crate) servers: ServerArgs,
    /// Show it as a QR code, too
    #[arg(long)]
    pub(crate) qr: bool,
    /// The file with this host's identity [default: as `sss id`]
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
}

fn at(text: &str) -> Result<Place, String> {
    let place = Place::parse(text, Some(DEFAULT_PORT)).map_err(|error| error.to_string())?;
    match place.is_nobodys() {
        true => Err(format!("no host is ever at {}", place.host())),
        false => Ok(place),
    }
}

fn in_dns(text: &str) -> Result<String, String> {
    Place::resolvable(text).ok_or_else(|| format!("{text:?} is no name in the DNS, such as nas.example"))
}

/// Prints the ticket.
pub(crate) async fn run(mut args: TicketArgs, output: Output) -> Result<(), Error> {
    args.check_stun()?;
    args.servers = args.servers.with_stun_file()?;
    let secret = match (&args.ticket_file, args.public) {
        (Some(file), _) => Some(secret_file::load_or_create(file)?),
        (None, true) => None,
        (None, false) => return Err(for_whom()),
    };
    let servers = args.servers.enough_with(&[])?;
    let relay_only = args.servers.relay.relay_only;
    if relay_only && !args.at.is_empty() {
        let what = "--at tells where the host is, and with --relay-only nobody is told, and nothing comes directly";
        return Err(Error::new(Exit::Usage, what, "leave one of the two out"));
    }
    let identity = identity::load(args.identity.as_deref(), output)?;
    let eid = identity.eid();
    let is_for_all = args.dns.is_some() && args.at.is_empty();
    // Where the host is reached by relays alone, its ticket does not tell where it is.
    let is_unplaced = args.no_addresses || relay_only;
    let is_placed = !args.at.is_empty();
    let places = match (args.at, is_unplaced || is_for_all) {
        (_, true) => Vec::new(),
        (places, _) if is_placed => each_once(places),
        _ => here(args.port, &args.servers, output).await?,
    };
    if places.is_empty() && servers.is_empty() && !args.servers.mdns.is_on() {
        let next = match is_for_all {
            true => "give --at with a name or an address that all the world may know, or --server",
            false => "give --server, or --mdns where all are on one local network, or leave --no-addresses out",
        };
        return Err(Error::new(
            Exit::Usage,
            "nobody finds a host by a ticket without a place and a server",
            next,
        ));
    }
    if args.dns.is_some() {
        warn_of_loopback(&places, output);
    }
    if !is_placed {
        note_if_useless(&places, output);
    }
    let ticket = Ticket::new(eid, places, secret).with_servers(servers).to_string();
    let record = args.dns.map(|name| record(&name, &ticket));
    let mut fact = json!({"event": "ticket", "eid": eid.to_string(), "ticket": ticket});
    if let Some(record) = &record {
        fact["dns"] = json!(record);
    }
    output.fact(record.as_ref().unwrap_or(&ticket), &fact);
    if args.qr {
        qr::show(&ticket, output)?;
    }
    Ok(())
}

/// Error for a ticket of which it is not said whether it has a secret.
fn for_whom() -> Error {
    let next = "give --ticket-file FILE, as `sss serve` has it, for a host that serves whoever has the ticket; or \
                --public for one that serves everybody";
    Error::new(Exit::Usage, "it is not said for whom the ticket is", next)
}

/// Says if a ticket holds addresses, and none of them leads others to this machine.
pub(crate) fn note_if_useless(places: &[Place], output: Output) {
    if places.is_empty() || !places.iter().all(Place::is_loopback) {
        return;
    }
    let text = "this machine has no network: the ticket holds no address that others can use\n  -> connect this machine \
                to a network, and make the ticket again";
    output.prose_aside(text, &json!({"event": "note", "text": text}));
}

/// Says which of the places are of no use in a zone.
fn warn_of_loopback(places: &[Place], output: Output) {
    for place in places.iter().filter(|place| place.is_loopback()) {
        let text = format!(
            "{} leads everybody who reads the zone to their own machine\n  -> give --at a name or an address that others \
             reach",
            place.host()
        );
        output.prose_aside(&text, &json!({"event": "note", "text": text}));
    }
}

/// Line of a zone (RFC 1035, section 5) with the ticket of a host (FIL-47).
fn record(name: &str, ticket: &str) -> String {
    let strings = ticket.as_bytes().chunks(MAX_STRING).map(String::from_utf8_lossy);
    let quoted: Vec<_> = strings.map(|part| format!("\"{part}\"")).collect();
    format!("_sss.{name}. 3600 IN TXT {}", quoted.join(" "))
}

impl TicketArgs {
    /// Checks that STUN servers are asked for a ticket that may name what they see.
    fn check_stun(&self) -> Result<(), Error> {
        let switches = [
            (!self.at.is_empty(), "--at"),
            (self.no_addresses, "--no-addresses"),
            (self.dns.is_some(), "--dns"),
        ];
        match switches.iter().find(|(is_on, _)| *is_on && self.servers.stun.is_on()) {
            None => Ok(()),
            Some((_, switch)) => {
                let what = format!("with {switch} the ticket does not name what a STUN server sees");
                Err(Error::new(Exit::Usage, what, "leave one of the two out"))
            }
        }
    }
}

/// Addresses of this machine, or those of its local networks, with a port; first those at which STUN servers see it.
async fn here(port: u16, args: &ServerArgs, output: Output) -> Result<Vec<Place>, Error> {
    let bound = match args.stun.is_on() {
        true => port,
        false => 0,
    };
    let host = |ip: IpAddr| {
        let builder = Host::builder().lan_only(args.lan_only).bind(SocketAddr::new(ip, bound));
        args.stun.apply(builder).build()
    };
    let host = match host(Ipv6Addr::UNSPECIFIED.into()).await {
        Err(error @ BuildError::PortInUse { .. }) => Err(error),
        Err(_) => host(Ipv4Addr::UNSPECIFIED.into()).await,
        host => host,
    };
    let host = host.map_err(|error| match error {
        BuildError::PortInUse { .. } if args.stun.is_on() => {
            let what = format!("UDP port {port} is in use, and STUN servers are to see it");
            let next = "`sss serve --stun ..` prints the ticket itself; or stop the program that has the port";
            Error::new(Exit::Failed, what, next)
        }
        other => other.into(),
    })?;
    stun::settled(&host).await;
    stun::tell(&host, output);
    let addresses = host.local_addrs();
    let elsewhere: Vec<_> = addresses.iter().filter(|address| !address.ip().is_loopback()).collect();
    let chosen = match elsewhere.is_empty() {
        true => addresses.iter().collect(),
        false => elsewhere,
    };
    let local = chosen.into_iter().map(|address| {
        let mut address = *address;
        address.set_port(port);
        address
    });
    Ok(stun::outside(&host)
        .into_iter()
        .chain(local)
        .map(Place::Address)
        .collect())
}
