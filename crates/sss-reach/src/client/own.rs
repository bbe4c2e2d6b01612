//! Wishes of a host about its servers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sss_proto::{AddressScope, RouteClass};
use sss_wire::params::MAX_CANDIDATES;
use sss_wire::reach::records::Register;

use super::homes::Homes;

/// Use that a host makes of the relays of its servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RelayUse {
    /// None: a peer that is not reached directly is not reached.
    Never,
    /// Packets go through a relay until they go directly, and if that fails; a channel there stands by.
    #[default]
    Allowed,
    /// Those who are found by a server are reached through its relay, and no packet is sent to them directly. The
    /// server tells nobody this host's address.
    Always,
}

impl RelayUse {
    /// The best class of routes to those who are found.
    pub(super) fn best(self) -> RouteClass {
        match self {
            Self::Always => RouteClass::Relay,
            Self::Never | Self::Allowed => RouteClass::Direct,
        }
    }
}

/// Statements of this host to its servers, and its use of them.
pub(super) struct Own {
    pub(super) register: Register,
    /// Addresses that routers let in for it.
    pub(super) mapped: Vec<SocketAddr>,
    /// Use of their relays.
    pub(super) relay: RelayUse,
    /// The choice among its servers.
    pub(super) homes: Homes,
    /// Addresses on the networks that this host is in.
    local: Vec<LocalAddress>,
    /// Of these, those that a peer in the same network is told of, as far as this host may be reached directly.
    pub(super) candidates: Vec<SocketAddr>,
}

/// An address of this host on a network that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAddress {
    /// The address, and the port of this host's socket.
    pub address: SocketAddr,
    /// Bits of the network's prefix.
    pub prefix: u8,
}

impl LocalAddress {
    /// Returns whether an address is on the same network.
    fn is_beside(&self, other: IpAddr) -> bool {
        let ((own, bits), (other, others)) = (bits(self.address.ip()), bits(other));
        let rest = bits.saturating_sub(self.prefix.into());
        bits == others && (own ^ other).checked_shr(rest).unwrap_or(0) == 0
    }
}

/// The bits of an address, and their number.
fn bits(ip: IpAddr) -> (u128, u32) {
    match ip {
        IpAddr::V4(ip) => (ip.to_bits().into(), Ipv4Addr::BITS),
        IpAddr::V6(ip) => (ip.to_bits(), Ipv6Addr::BITS),
    }
}

impl Own {
    /// Wishes of a host that is on no network yet.
    pub(super) fn new(register: Register, relay: RelayUse, homes: Homes) -> Self {
        Self {
            register,
            mapped: Vec::new(),
            relay,
            homes,
            local: Vec::new(),
            candidates: Vec::new(),
        }
    }

    /// Takes in which networks this host is in now.
    pub(super) fn set_local(&mut self, local: Vec<LocalAddress>) {
        let may_be = self.relay != RelayUse::Always;
        let addresses = local.iter().map(|local| local.address);
        let told = addresses.filter(|address| may_be && is_private(address.ip()));
        self.candidates = told.take(MAX_CANDIDATES).collect();
        self.local = local;
    }

    /// Returns whether packets may go to a candidate of a peer: it is on a network that this host is in.
    pub(super) fn is_near(&self, candidate: SocketAddr) -> bool {
        let is_beside = |local: &LocalAddress| local.is_beside(candidate.ip());
        candidate.port() >= FIRST_PORT && is_private(candidate.ip()) && self.local.iter().any(is_beside)
    }
}

/// Lowest port of a candidate: below are services of other kinds, which a stranger is not to have packets sent to.
const FIRST_PORT: u16 = 1024;

fn is_private(ip: IpAddr) -> bool {
    AddressScope::from(ip) == AddressScope::Private
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(relay: RelayUse, local: &[(&str, u8)]) -> Own {
        let local = local.iter().map(|(address, prefix)| LocalAddress {
            address: address.parse().unwrap(),
            prefix: *prefix,
        });
        let mut own = Own::new(Register::default(), relay, Homes::default());
        own.set_local(local.collect());
        own
    }

    // spec: RCH-42
    #[test]
    fn four_private_addresses_are_named_and_none_by_whoever_is_reached_by_relays_alone() {
        let local = [
            ("127.0.0.1:7757", 8),
            ("203.0.113.7:7757", 24),
            ("169.254.1.1:7757", 16),
            ("192.168.1.2:7757", 24),
            ("[fe80::1]:7757", 64),
            ("[2001:db8::1]:7757", 64),
            ("[fd00::1]:7757", 64),
            ("10.0.0.1:7757", 8),
            ("172.16.0.1:7757", 12),
            ("172.17.0.1:7757", 16),
        ];
        let named: Vec<String> = own(RelayUse::Allowed, &local)
            .candidates
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            named,
            ["192.168.1.2:7757", "[fd00::1]:7757", "10.0.0.1:7757", "172.16.0.1:7757"]
        );
        assert_eq!(own(RelayUse::Never, &local).candidates.len(), 4);
        assert_eq!(own(RelayUse::Always, &local).candidates, []);
    }

    // spec: RCH-42
    #[test]
    fn candidates_are_near_on_private_networks_of_ones_own_alone() {
        let own = own(
            RelayUse::Allowed,
            &[
                ("192.168.1.2:7757", 24),
                ("[fd00::1]:7757", 64),
                ("203.0.113.7:7757", 24),
            ],
        );
        let is_near = |text: &str| own.is_near(text.parse().unwrap());
        for near in ["192.168.1.2:7757", "192.168.1.255:1024", "[fd00::9:9:9:9]:65535"] {
            assert!(is_near(near), "{near}");
        }
        for far in [
            "192.168.0.2:7757",
            "192.168.2.2:7757",
            "192.168.1.3:0",
            "192.168.1.3:53",
            "192.168.1.3:1023",
            "203.0.113.8:7757",
            "127.0.0.1:7757",
            "[fd00:0:0:1::1]:7757",
            "[::ffff:192.168.2.2]:7757",
        ] {
            assert!(!is_near(far), "{far}");
        }
    }
}
