//! Addresses of others: what they are counted by, and where a host lets itself be sent.
//!
//! Strangers are counted by network, since whoever has one address of a network may have all of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::route::{Link, RelayHandle, Route, TunnelId};

/// Network of whoever is at the end of a route: what limits count by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// An address of IPv4.
    V4(u32),
    /// The first 64 bits of an address of IPv6.
    V6(u64),
    /// The server at the end of a tunnel.
    Tunnel(u32),
    /// A host behind a relay: the relay's own network, or its tunnel, and the handle.
    ///
    /// The relay's address says nothing of who is behind it: were all of its clients one network, each of them could
    /// use up what the others may have. A handle is good only after this host was told of it, so that nobody can have
    /// many at will.
    Relayed(u64, u32),
}

impl From<IpAddr> for Network {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6(u64::try_from(v6.to_bits() >> 64).unwrap_or(u64::MAX)),
        }
    }
}

impl From<&Route> for Network {
    fn from(route: &Route) -> Self {
        let link = match route.link {
            Link::Udp(address) | Link::Socket(_, address) | Link::Turn(_, address) => Self::from(address.ip()),
            Link::Tunnel(TunnelId(tunnel)) => Self::Tunnel(tunnel),
        };
        match (route.handle, link) {
            (None, link) => link,
            (Some(RelayHandle(handle)), Self::V4(at) | Self::Tunnel(at)) => Self::Relayed(at.into(), handle),
            (Some(RelayHandle(handle)), Self::V6(at) | Self::Relayed(at, _)) => Self::Relayed(at, handle),
        }
    }
}

/// Returns whether one host can be sent something by that route: never many, nor nobody (MIG-22).
pub fn is_usable(route: &Route) -> bool {
    route.address().is_none_or(is_of_one_host)
}

fn is_of_one_host(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let is_none = match ip {
        // 0.0.0.0/8 is this network, 240.0.0.0/4 reserved; broadcast is in it.
        IpAddr::V4(v4) => matches!(v4.octets(), [0 | 240.., ..]),
        IpAddr::V6(_) => false,
    };
    address.port() != 0 && !is_none && !ip.is_unspecified() && !ip.is_multicast()
}

/// Returns whether an address is one of this machine or of its own networks (RCH-37): loopback, link-local, or private
/// (RFC 1918, RFC 4193). Those that providers share among their customers (RFC 6598) are not.
pub fn is_lan(ip: IpAddr) -> bool {
    let is_shared = matches!(ip.to_canonical(), IpAddr::V4(v4) if is_shared(v4));
    AddressScope::from(ip) <= AddressScope::Private && !is_shared
}

/// Returns whether what goes by that route stays in the local network. What is in a tunnel, or sent by a TURN server,
/// does not, for all that is known.
pub(crate) fn stays_in_lan(route: &Route) -> bool {
    let is_by_turn = matches!(route.link, Link::Turn(..));
    !is_by_turn && route.address().is_some_and(|address| is_lan(address.ip()))
}

/// Part of the world in which an address means one host, the smallest first (MIG-22).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressScope {
    /// This machine.
    Loopback,
    /// The links of this host.
    Link,
    /// A private network (RFC 1918, RFC 6598, RFC 4193).
    Private,
    /// Everywhere.
    Global,
}

impl From<IpAddr> for AddressScope {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            ip if ip.is_loopback() => Self::Loopback,
            IpAddr::V4(v4) if v4.is_link_local() => Self::Link,
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Self::Link,
            IpAddr::V4(v4) if v4.is_private() || is_shared(v4) => Self::Private,
            IpAddr::V6(v6) if v6.is_unique_local() => Self::Private,
            _ => Self::Global,
        }
    }
}

/// Addresses that providers share among their customers (RFC 6598).
fn is_shared(v4: Ipv4Addr) -> bool {
    matches!(v4.octets(), [100, 64..=127, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: MIG-22
    #[test]
    fn the_reach_of_an_address_is_that_of_its_range() {
        let table = [
            (AddressScope::Loopback, "127.0.0.1 127.255.0.9 ::1 ::ffff:127.0.0.1"),
            (AddressScope::Link, "169.254.3.4 fe80::1 ::ffff:169.254.3.4"),
            (
                AddressScope::Private,
                "10.0.0.1 172.16.0.1 172.31.255.1 192.168.1.1 100.64.0.1 100.127.9.9",
            ),
            (AddressScope::Private, "fc00::1 fdff::1 ::ffff:10.1.2.3"),
            (
                AddressScope::Global,
                "9.255.255.255 172.32.0.1 192.169.0.1 100.128.0.1 100.63.0.1 2001:db8::1",
            ),
        ];
        for (reach, list) in table {
            for address in list.split(' ') {
                assert_eq!(
                    AddressScope::from(address.parse::<IpAddr>().unwrap()),
                    reach,
                    "{address}"
                );
            }
        }
    }

    #[test]
    fn a_network_is_one_address_of_ipv4_and_64_bits_of_ipv6() {
        let network = |text: &str| Network::from(text.parse::<IpAddr>().unwrap());
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.1"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:0:0:2"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
    }

    #[test]
    fn each_host_behind_a_relay_is_a_network_of_its_own() {
        let relay = |text: &str| Link::Udp(text.parse().unwrap());
        let network = |link, n| Network::from(&Route::through(link, RelayHandle(n)));
        for link in [
            relay("192.0.2.1:1"),
            relay("[2001:db8::1]:1"),
            Link::Tunnel(TunnelId(7)),
        ] {
            assert_ne!(network(link, 1), network(link, 2));
            assert_ne!(network(link, 1), Network::from(&Route::over(link)));
        }
        assert_ne!(network(relay("192.0.2.1:1"), 1), network(relay("192.0.2.2:1"), 1));
        assert_eq!(
            Network::from(&Route::over(relay("192.0.2.1:1"))),
            Network::from("192.0.2.1".parse::<IpAddr>().unwrap())
        );
    }
}
