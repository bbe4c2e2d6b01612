//! Hosts that are named in the DNS: `dns:NAME` (docs/spec/files.md, *Names in the DNS*).

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{NetError, runtime::TokioRuntimeProvider};
use hickory_resolver::proto::rr::RData;
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Resolver, TokioResolver};

use crate::error::{Error, Exit};
use crate::network;
use crate::target::Target;
use crate::ticket::Ticket;

/// Records of an answer that are looked at (FIL-48).
const MOST: usize = 32;
/// Port of servers.
const PORT: u16 = 53;

/// Arguments that say who is asked about names in the DNS.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct DnsArgs {
    /// The DNS server that is asked about hosts written dns:NAME, and about nothing else [default: those of this
    /// machine]
    #[arg(long = "dns", value_name = "IP[:PORT]", value_parser = server)]
    dns_server: Option<SocketAddr>,
}

fn server(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    let alone = || {
        text.trim_matches(['[', ']'])
            .parse()
            .ok()
            .map(|ip| SocketAddr::new(ip, PORT))
    };
    with_port.or_else(alone).ok_or_else(|| {
        format!("{text:?} is no address of a server: write 192.0.2.53, 192.0.2.53:{PORT} or [2001:db8::53]:{PORT}")
    })
}

/// The target with what the DNS says of it, if it is named there.
///
/// # Errors
/// If the DNS does not answer in time, or says nothing of that host, nothing that makes sense, or something else than
/// the target.
pub(crate) async fn resolved(target: Target, args: DnsArgs, limit: Duration) -> Result<Target, Error> {
    let Some(name) = target.name.clone() else {
        return Ok(target);
    };
    let owner = owner(&name);
    let (resolver, servers) = resolver(args).map_err(|error| {
        let what = format!("cannot ask the DNS about {name}: {error}");
        Error::new(
            Exit::Failed,
            what,
            "correct /etc/resolv.conf, or name a server with --dns",
        )
    })?;
    let asked = tokio::time::timeout(limit, ask(&resolver, &owner)).await;
    let found = asked.unwrap_or(Err(NetError::Timeout));
    let found = found.map_err(|error| not_found((&name, &owner), &servers, &error))?;
    let texts = found.answers().iter().filter_map(|record| match &record.data {
        RData::TXT(text) => Some(text.txt_data.concat()),
        _ => None,
    });
    let ticket = chosen(texts, &name, &owner)?;
    if let Some(expected) = target.eid.filter(|eid| *eid != ticket.eid()) {
        let what = format!("{name} is {} by the DNS, not {expected}", ticket.eid());
        let next = "ask who runs it which EID is right; EID@HOST needs no DNS";
        return Err(Error::new(Exit::Refused, what, next));
    }
    // Who has been named by its EID needs no other trust.
    let name = target.name.clone().filter(|_| target.eid.is_none());
    Ok(Target {
        name,
        ..target.with_ticket(&ticket)
    })
}

/// Asks for the records, until somebody answers: how often one server is asked is the resolver's.
async fn ask(resolver: &TokioResolver, owner: &str) -> Result<Lookup, NetError> {
    loop {
        match resolver.txt_lookup(owner).await {
            Err(NetError::Timeout) => {}
            answer => return answer,
        }
    }
}

/// The name of the records about a host, in full: no domain is put behind it.
fn owner(name: &str) -> String {
    format!("_sss.{name}.")
}

/// A resolver, and the servers that it asks.
fn resolver(args: DnsArgs) -> Result<(TokioResolver, Vec<SocketAddr>), NetError> {
    let (config, options) = match args.dns_server {
        None => read_system_conf()?,
        Some(server) => {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            let server = NameServerConfig::new(server.ip(), true, connections.into());
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            (config, ResolverOpts::default())
        }
    };
    let address = |server: &NameServerConfig| {
        let port = server.connections.first().map_or(PORT, |connection| connection.port);
        SocketAddr::new(server.ip, port)
    };
    let servers = config.name_servers().iter().map(address).collect();
    let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options);
    Ok((builder.build()?, servers))
}

/// Servers, for people: the port is told where it is another than usual.
fn listed(servers: &[SocketAddr]) -> String {
    let shown = servers.iter().map(|server| match server.port() {
        PORT => server.ip().to_string(),
        _ => server.to_string(),
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn not_found((name, owner): (&str, &str), servers: &[SocketAddr], error: &NetError) -> Error {
    if error.is_nx_domain() || error.is_no_records_found() {
        let what = format!("the DNS has no record of {name}: there is no TXT at {owner}");
        return Error::new(Exit::Unreachable, what, publish(name));
    }
    let asked = listed(servers);
    if !servers.is_empty() && !servers.iter().any(|server| network::has_route(*server)) {
        let what = format!("the DNS cannot be asked about {name}: this machine has no network that leads to {asked}");
        let next = "connect this machine to a network; or name another server with --dns, or give EID@HOST";
        return Error::new(Exit::Unreachable, what, next);
    }
    let what = match error {
        NetError::Timeout => format!("the DNS did not answer in time about {name}: {asked} was asked"),
        other => format!("the DNS does not tell about {name}: {other}; {asked} was asked"),
    };
    let next = "run the same command again; or name another server with --dns, or give EID@HOST";
    Error::new(Exit::Unreachable, what, next)
}

/// The ticket among the texts of an answer.
fn chosen(texts: impl Iterator<Item = Vec<u8>>, name: &str, owner: &str) -> Result<Ticket, Error> {
    let mut found: Option<Ticket> = None;
    let wrong = |what| Error::new(Exit::Refused, what, "tell who runs it; meanwhile EID@HOST needs no DNS");
    for text in texts.take(MOST) {
        let text = String::from_utf8_lossy(&text).into_owned();
        if !Ticket::is_meant_by(text.trim()) {
            continue;
        }
        let one: Ticket = text.trim().parse().map_err(|error| {
            wrong(format!(
                "the ticket of {name} in the DNS, TXT at {owner}, is none: {error}"
            ))
        })?;
        if found.as_ref().is_some_and(|other| *other != one) {
            return Err(wrong(format!(
                "the DNS has two tickets of {name}, TXT at {owner}: one would be right"
            )));
        }
        found = Some(one);
    }
    found.ok_or_else(|| {
        let what = format!("what the DNS has about {name}, TXT at {owner}, is no ticket");
        Error::new(Exit::Unreachable, what, publish(name))
    })
}

fn publish(name: &str) -> String {
    format!("whoever runs it publishes one: `sss ticket --public --dns {name}` prints it")
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: FIL-48
    #[test]
    fn of_many_records_some_are_looked_at() {
        let eid = sss::Identity::generate().eid();
        let place = crate::place::Place::name("nas.example", 7757).unwrap();
        let ticket = Ticket::new(eid, [place], None);
        let chosen_behind = |others: usize| {
            let others = std::iter::repeat_n(b"v=spf1 -all".to_vec(), others);
            chosen(
                others.chain([ticket.to_string().into_bytes()]),
                "nas.example",
                "_sss.nas.example.",
            )
        };
        assert_eq!(chosen_behind(MOST - 1).unwrap(), ticket);
        assert!(chosen_behind(MOST).is_err());
    }
}
