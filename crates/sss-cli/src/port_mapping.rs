//! Ports that the router lets in: the switch, and what is told of them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use sss::{
    Host, HostBuilder, MappedPort, MappingError, MappingProtocol, MappingReport, PortMapping, Proof, Registration,
    RegistrationState,
};

use crate::output::Output;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Time for a router and servers to come to an end with it.
const SETTLING: Duration = Duration::from_secs(25);

/// Argument that says whether the router is asked for a port.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct MappingArgs {
    /// Ask the router of this network, by PCP, NAT-PMP or UPnP, to let packets to this host in from everywhere
    #[arg(long)]
    pub(crate) port_mapping: bool,
}

impl MappingArgs {
    /// Returns whether it is.
    pub(crate) fn is_on(self) -> bool {
        self.port_mapping
    }

    /// The host asks, if it is to.
    pub(crate) fn apply(self, builder: HostBuilder) -> HostBuilder {
        match self.port_mapping {
            true => builder.port_mapping(PortMapping::On),
            false => builder,
        }
    }
}

/// Port that the router lets in, as far as it is known whether anything comes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapped {
    pub(crate) outside: SocketAddr,
    pub(crate) protocol: MappingProtocol,
    /// The best that a server has found; `None` if the router's outer address is none that a server sees.
    pub(crate) proof: Option<Proof>,
}

/// The port of a host, if its router has given one.
pub(crate) fn mapped(host: &Host) -> Option<Mapped> {
    let port = host.port_mapping()?.port?;
    let registrations = host.registrations();
    let proofs = registrations.iter().filter_map(|one| match one.state {
        RegistrationState::Registered {
            mapped: Some((address, proof)),
            ..
        } => Some(proof).filter(|_| address == port.outside),
        _ => None,
    });
    let rank = |proof: &Proof| match proof {
        Proof::Proven => 2,
        Proof::Asked => 1,
        _ => 0,
    };
    Some(Mapped {
        outside: port.outside,
        protocol: port.protocol,
        proof: proofs.max_by_key(rank),
    })
}

/// Failures in a sentence.
pub(crate) fn failures(failures: &[(MappingProtocol, MappingError)]) -> String {
    let words = failures
        .iter()
        .map(|(protocol, why)| format!("{}: {why}", protocol.name()));
    words.collect::<Vec<_>>().join("; ")
}

/// The reason why there is no port.
fn why_none(report: &MappingReport) -> String {
    match report.router {
        Some(router) => format!("the router at {router} lets no port in: {}", failures(&report.failures)),
        None => "there is no router that could let a port in".to_owned(),
    }
}

/// Findings about the router, for people and for machines.
pub(crate) struct Examined {
    pub(crate) words: String,
    pub(crate) advice: Vec<String>,
    pub(crate) fact: Value,
}

/// Something that is wrong with the port that a router has given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    /// Nothing comes through.
    Dead,
    /// The outer address is of a private network: there is another NAT.
    Private,
    /// Servers see another address.
    OtherAddress,
    /// It lasts until it is taken back.
    Permanent,
    /// It is another port than was asked for.
    OtherPort,
}

impl Problem {
    fn name(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Private => "private address",
            Self::OtherAddress => "other address",
            Self::Permanent => "permanent",
            Self::OtherPort => "other port",
        }
    }

    /// Advice to whoever has it; none, if it does no harm.
    fn advice(self) -> Option<&'static str> {
        match self {
            Self::Dead => Some(
                "the router lets in less than it says: restart or update it, or forward the port by hand; or a firewall \
                 of the provider is before it",
            ),
            Self::Private => Some(
                "the router is behind another NAT, its provider's or another router's: ask the provider for a public \
                 address, or have the other router forward the port",
            ),
            Self::OtherAddress => Some(
                "the servers see another address than the router says: another NAT or another line is on the way there",
            ),
            Self::Permanent => Some(
                "the router takes ports for good only: if this program is killed, the port stays open until somebody \
                 closes it in the router's pages",
            ),
            Self::OtherPort => None,
        }
    }

    fn all_of(host: &Host, port: &MappedPort) -> Vec<Self> {
        let mut problems = Vec::new();
        let proof = mapped(host).and_then(|mapped| mapped.proof);
        let registrations = host.registrations();
        let is_seen = |one: &Registration| matches!(one.state, RegistrationState::Registered { observed: Some(at), .. } if at.is_ipv4());
        if proof == Some(Proof::Dead) {
            problems.push(Self::Dead);
        }
        match proof {
            None if is_private(port.outside.ip()) => problems.push(Self::Private),
            None if registrations.iter().any(is_seen) => problems.push(Self::OtherAddress),
            _ => {}
        }
        if port.lifetime.is_none() {
            problems.push(Self::Permanent);
        }
        if port.asked != port.outside.port() {
            problems.push(Self::OtherPort);
        }
        problems
    }
}

/// Returns whether an address is of no public network (RFC 1918, RFC 6598, RFC 3927).
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let is_carriers = matches!(v4.octets(), [100, 64..=127, ..]);
            v4.is_private() || is_carriers || v4.is_link_local() || v4.is_loopback() || v4.is_unspecified()
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Waits until the router has answered, and servers have tried the port; a while at most.
pub(crate) async fn settled(host: &Host) {
    let wait = async {
        while host.port_mapping().is_some_and(|report| report.is_asking) {
            tokio::time::sleep(PAUSE).await;
        }
        while mapped(host).is_some_and(|mapped| mapped.proof == Some(Proof::Asked)) {
            tokio::time::sleep(PAUSE).await;
        }
    };
    let _ = tokio::time::timeout(SETTLING, wait).await;
}

/// Findings about the router; `None` if it was not asked.
pub(crate) fn examined(host: &Host) -> Option<Examined> {
    let report = host.port_mapping()?;
    let problems = report.port.map_or_else(Vec::new, |port| Problem::all_of(host, &port));
    let proof = mapped(host).and_then(|mapped| mapped.proof);
    let proof_words = match proof {
        Some(Proof::Proven) => "reached from outside",
        Some(Proof::Dead) => "nothing comes through",
        Some(_) => "no server has said yet whether anything comes through",
        None if host.registrations().is_empty() => "no server was asked whether anything comes through",
        None => "no server sees this host at that address",
    };
    let words = match report.port {
        _ if report.is_asking => "the router has not answered yet".to_owned(),
        None => why_none(&report),
        Some(port) => {
            let mut words = format!("{} by {}, {proof_words}", port.outside, port.protocol.name());
            if !report.failures.is_empty() {
                words = format!("{words} ({})", failures(&report.failures));
            }
            words
        }
    };
    let mut advice: Vec<String> = problems
        .iter()
        .filter_map(|problem| problem.advice())
        .map(str::to_owned)
        .collect();
    if report.port.is_none() && report.router.is_some() {
        advice.push(
            "switch PCP, NAT-PMP or UPnP on in the router's pages, or have it forward the UDP port of this host there"
                .to_owned(),
        );
    }
    let lifetime = report.port.and_then(|port| port.lifetime);
    let failed = report.failures.iter().map(|(protocol, why)| {
        let kind = match why {
            MappingError::Silent => "silent",
            MappingError::Refused(_) => "refused",
            MappingError::Elsewhere(_) => "elsewhere",
            _ => "useless",
        };
        json!({"protocol": protocol.name(), "kind": kind, "error": why.to_string()})
    });
    let fact = json!({
        "router": report.router.map(|router| router.to_string()),
        "address": report.port.map(|port| port.outside.to_string()),
        "protocol": report.port.map(|port| port.protocol.name()),
        "seconds": lifetime.map(|lifetime| lifetime.as_secs()),
        "proof": proof.map(|proof| match proof {
            Proof::Proven => "proven",
            Proof::Dead => "dead",
            _ => "asked",
        }),
        "problems": problems.iter().map(|problem| problem.name()).collect::<Vec<_>>(),
        "failures": failed.collect::<Vec<_>>(),
    });
    Some(Examined { words, advice, fact })
}

/// Event for a port.
fn fact(mapped: Option<Mapped>) -> Value {
    json!({
        "event": "mapped",
        "address": mapped.map(|mapped| mapped.outside.to_string()),
        "protocol": mapped.map(|mapped| mapped.protocol.name()),
    })
}

/// Tells which address the router lets in, when it is proven, and when it is lost, for as long as the host is at work.
pub(crate) async fn watch(host: Host, output: Output) {
    let (mut told, mut doubted): (Option<Mapped>, Option<String>) = (None, None);
    while let Some(report) = host.port_mapping().filter(|_| !host.is_closed()) {
        let mapped = mapped(&host);
        let proven = mapped.filter(|mapped| mapped.proof == Some(Proof::Proven));
        match proven {
            Some(mapped) if told != proven => {
                let address = mapped.outside;
                let text = format!(
                    "reached at {address} too, where the router lets it in ({})",
                    mapped.protocol.name()
                );
                output.prose(text, &fact(proven));
            }
            None if told.is_some() => {
                output.prose("no longer reached through a port of the router", &fact(None));
            }
            _ => {}
        }
        told = proven;
        let doubt = match mapped {
            _ if report.is_asking => None,
            None => Some(why_none(&report)),
            Some(Mapped { outside, proof, .. }) => match proof {
                Some(Proof::Dead) => Some(format!(
                    "the router says that it lets {outside} in, and nothing comes through"
                )),
                None if host.registrations().is_empty() => Some(format!(
                    "the router says that it lets {outside} in; a registration server would tell whether it does"
                )),
                _ => None,
            },
        };
        if let Some(doubt) = doubt.filter(|doubt| doubted.as_ref() != Some(doubt)) {
            output.note(format!("{doubt}\n  -> `sss doctor --port-mapping` tells more"));
            doubted = Some(doubt);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
