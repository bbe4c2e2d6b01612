//! A host's knowledge of its ways to others.

use std::net::{IpAddr, SocketAddr};

use sss_proto::{NegotiationError, Route};
use sss_reach::{Over, Registration, RegistrationState, SprayReport};
use sss_wire::Eid;

use crate::host::Host;

/// Knowledge of a host about its network, and about the way to a peer, as of one moment. Nothing is tried for it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// Addresses of this machine, as by [`Host::local_addrs`].
    pub addresses: Vec<SocketAddr>,
    /// The state of each registration.
    pub registrations: Vec<Registration>,
    /// TURN servers, as by [`Host::turn`].
    #[cfg(feature = "turn")]
    pub turn: Vec<crate::turn::TurnReport>,
    /// Translator of addresses between this host and its servers.
    pub nat: NatKind,
    /// Findings of STUN servers; `None` if none are asked.
    #[cfg(feature = "stun")]
    pub stun: Option<crate::StunReport>,
    /// Servers that have named a way to the peer of late.
    pub found_by: Vec<Eid>,
    /// The route that carries the streams; `None` as long as there is no channel.
    pub route: Option<Route>,
    /// Outcome of guessing the ports of NATs, if that was tried with the peer.
    pub spray: Option<SprayReport>,
    /// The result of an attempt that is under way, if it ended now: what it has tried, for how long, and what was
    /// seen there. `None` if there is none.
    pub attempt: Option<NegotiationError>,
}

/// Network address translator (NAT, RFC 4787) on the way to a host's servers, as far as they show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NatKind {
    /// No server has told.
    Unknown,
    /// The servers see an address of this machine. A firewall may be there all the same.
    None,
    /// There is one; only one port of a server has told, so that its kind is not known.
    Some,
    /// It takes the same address and port for several servers (endpoint-independent mapping): others are let in by
    /// PUNCH.
    SamePort,
    /// It takes another for each (a "symmetric" NAT): if both hosts have one, they need a relay.
    OtherPorts,
}

impl NatKind {
    /// Its name, for machines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::None => "none",
            Self::Some => "some",
            Self::SamePort => "same port",
            Self::OtherPorts => "other ports",
        }
    }

    /// The kind that follows from what servers at some addresses see. What they see by IPv6 tells nothing about the NAT
    /// of IPv4.
    fn of(mut seen: Vec<(SocketAddr, SocketAddr)>, own: &[SocketAddr]) -> Self {
        let is_own = |ip: IpAddr| own.iter().any(|other| other.ip().to_canonical() == ip.to_canonical());
        let had_any = !seen.is_empty();
        seen.retain(|(_, observed)| !is_own(observed.ip()));
        seen.sort_unstable();
        seen.dedup_by_key(|(at, _)| *at);
        let v4 = seen
            .iter()
            .filter(|(_, observed)| observed.ip().to_canonical().is_ipv4());
        let mut mapped = v4.map(|(_, observed)| *observed);
        match (mapped.next(), mapped.next()) {
            _ if !had_any => Self::Unknown,
            (None, _) if seen.is_empty() => Self::None,
            (Some(first), Some(second)) if first == second && mapped.all(|other| other == first) => Self::SamePort,
            (Some(_), Some(_)) => Self::OtherPorts,
            _ => Self::Some,
        }
    }
}

impl Host {
    /// Tells what this host knows of its network, and of the way to `eid`: for people who ask why a peer is not
    /// reached, or only by a relay.
    pub fn explain(&self, eid: &Eid) -> Explanation {
        let addresses = self.local_addrs();
        let registrations = self.registrations();
        let (route, attempt, spray) = self.shared().call(|inner, now| {
            let peers = inner.core.peers();
            let peer = peers.iter().find(|(_, other)| other == eid).map(|(id, _)| *id);
            let route = peer.and_then(|id| inner.core.channel_info(id)).map(|info| info.route);
            let attempt = peer.and_then(|id| inner.core.negotiation_failure(now, id));
            (route, attempt, inner.rendezvous.spray_report(eid))
        });
        let observed = registrations.iter().flat_map(|one| match one.state {
            RegistrationState::Registered {
                at,
                observed: Some(observed),
                seen_elsewhere,
                over: Over::Udp,
                ..
            } => {
                // Another port of the server's: which one does not matter here.
                let other = SocketAddr::new(at.ip(), 0);
                [Some((at, observed)), seen_elsewhere.map(|seen| (other, seen))]
            }
            _ => [None; 2],
        });
        let observed = observed.flatten();
        #[cfg(feature = "stun")]
        let stun = self.stun();
        #[cfg(feature = "stun")]
        let observed = observed.chain(stun.iter().flat_map(crate::StunReport::seen));
        Explanation {
            nat: NatKind::of(observed.collect(), &addresses),
            #[cfg(feature = "stun")]
            stun,
            addresses,
            #[cfg(feature = "turn")]
            turn: self.turn(),
            registrations,
            found_by: self.found_by(eid),
            route,
            spray,
            attempt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_tell_what_kind_of_nat_there_is() {
        let own: SocketAddr = "192.168.1.2:7000".parse().unwrap();
        let kind = |seen: &[(&str, &str)]| {
            let seen = seen
                .iter()
                .map(|(at, observed)| (at.parse().unwrap(), observed.parse().unwrap()));
            NatKind::of(seen.collect(), &[own])
        };
        let (one, two) = ("198.51.100.1:1", "198.51.100.2:1");
        assert_eq!(kind(&[]), NatKind::Unknown);
        assert_eq!(kind(&[(one, "192.168.1.2:7000")]), NatKind::None);
        assert_eq!(kind(&[(one, "203.0.113.1:9")]), NatKind::Some);
        assert_eq!(
            kind(&[(one, "203.0.113.1:9"), (one, "203.0.113.1:9")]),
            NatKind::Some,
            "one server"
        );
        assert_eq!(
            kind(&[(one, "203.0.113.1:9"), (two, "203.0.113.1:9")]),
            NatKind::SamePort
        );
        assert_eq!(
            kind(&[(one, "203.0.113.1:9"), (two, "203.0.113.1:10")]),
            NatKind::OtherPorts
        );
        assert_eq!(
            kind(&[(one, "203.0.113.1:9"), ("[2001:db8::1]:1", "[2001:db8::9]:9")]),
            NatKind::Some
        );
    }
}
