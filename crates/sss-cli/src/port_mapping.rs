//! Ports that the router lets in: the switch, and what is told of them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use sss::{
    Host, HostBuilder, MappedPort, MappingError, MappingProtocol, MappingReport, Pinhole, PortMapping, Proof,
    Registration, RegistrationState,
};

use crate::output::Output;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Time for a router and servers to come to an end with it.
const SETTLING: Duration = Duration::from_secs(25);

/// Argument that says whether the router is asked for a port.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct MappingArgs {
    /// Ask the router of this network, by PCP, NAT-PMP or UPnP, to let packets to this host in from everywhere; that of
    /// IPv6 by PCP
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
    words: String,
    /// Words about the router of IPv6, if there is one.
    pinhole: Option<String>,
    pub(crate) advice: Vec<String>,
    pub(crate) fact: Value,
}

impl Examined {
    /// The findings with their names.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let pinhole = self.pinhole.iter().map(|words| ("pinhole", words.as_str()));
        [("mapping", self.words.as_str())].into_iter().chain(pinhole)
    }
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

/// Address that the router of IPv6 lets in.
fn let_in(report: &MappingReport) -> Option<SocketAddr> {
    let port = report.pinhole.as_ref()?.port.as_ref().ok()?;
    Some(port.outside)
}

/// Findings about the router of IPv6.
fn pinhole_words(host: &Host, pinhole: &Pinhole) -> String {
    let port = match &pinhole.port {
        Ok(port) => port,
        Err(why) => return format!("the router at {} lets nothing in by IPv6: PCP: {why}", pinhole.router),
    };
    let registrations = host.registrations();
    let is_seen = registrations
        .iter()
        .any(|one| matches!(one.state, RegistrationState::Registered { observed: Some(at), .. } if at == port.outside));
    let seen = match is_seen {
        _ if port.outside != port.inside => "which is another than the own: it translates IPv6",
        true => "where a server sees this host",
        false if registrations.is_empty() => "the own address",
        false => "the own address; no server sees this host there",
    };
    format!("{} by {}, {seen}", port.outside, port.protocol.name())
}

fn kind(why: &MappingError) -> &'static str {
    match why {
        MappingError::Silent => "silent",
        MappingError::Refused(_) => "refused",
        MappingError::Elsewhere(_) => "elsewhere",
        _ => "useless",
    }
}

fn pinhole_fact(pinhole: &Pinhole) -> Value {
    let port = pinhole.port.as_ref().ok();
    let failure = pinhole.port.as_ref().err();
    json!({
        "router": pinhole.router.to_string(),
        "address": port.map(|port| port.outside.to_string()),
        "seconds": port.and_then(|port| port.lifetime).map(|lifetime| lifetime.as_secs()),
        "kind": failure.map(kind),
        "error": failure.map(ToString::to_string),
    })
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
    if report.pinhole.as_ref().is_some_and(|pinhole| pinhole.port.is_err()) {
        advice.push(
            "if the router keeps out what comes by IPv6: switch PCP on in its pages, or have it let the UDP port of this \
             host's IPv6 address in"
                .to_owned(),
        );
    }
    let lifetime = report.port.and_then(|port| port.lifetime);
    let failed = report
        .failures
        .iter()
        .map(|(protocol, why)| json!({"protocol": protocol.name(), "kind": kind(why), "error": why.to_string()}));
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
        "ipv6": report.pinhole.as_ref().map(pinhole_fact),
    });
    let pinhole = report.pinhole.as_ref();
    Some(Examined {
        words,
        pinhole: pinhole.map(|pinhole| pinhole_words(host, pinhole)),
        advice,
        fact,
    })
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
    let mut told_let_in = None;
    while let Some(report) = host.port_mapping().filter(|_| !host.is_closed()) {
        let let_in = let_in(&report);
        if let_in != told_let_in {
            tell_let_in(let_in, output);
            told_let_in = let_in;
        }
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
            None if let_in.is_some() => None,
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

/// Tells which IPv6 address the router lets in, or that it does no longer.
fn tell_let_in(address: Option<SocketAddr>, output: Output) {
    let text = match address {
        Some(address) => format!("let in at {address} by the router of IPv6 (PCP)"),
        None => "no longer let in by the router of IPv6".to_owned(),
    };
    let address = address.map(|address| address.to_string());
    output.prose(
        text,
        &json!({"event": "pinhole", "address": address, "protocol": "PCP"}),
    );
}
