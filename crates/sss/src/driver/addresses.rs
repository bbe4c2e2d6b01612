//! The addresses of this machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use sss_reach::LocalAddress;

/// Changes of the network.
#[derive(Default)]
pub(crate) struct Moving {
    /// Set if the network of this machine has changed, and the driver has not taken note of it.
    pub(crate) is_due: bool,
    /// A host with one peer and no service takes another port when it moves.
    pub(crate) takes_new_port: bool,
}

/// Reach of an address, the farthest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Global,
    /// RFC 1918, RFC 6598 (carriers' NAT), RFC 4193.
    Private,
    /// RFC 3927. Those of IPv6 are left out: without the name of an interface, which means nothing elsewhere, nobody
    /// can use them.
    LinkLocal,
    Loopback,
}

/// The addresses under which a socket bound to `bound` can be reached: global ones first, loopback last, and of equals
/// the one that this machine uses towards other networks first. Found without sending anything.
///
/// For an unspecified address these are the addresses of all interfaces that are up, of the families that the socket
/// takes.
pub(crate) fn usable(bound: SocketAddr) -> Vec<SocketAddr> {
    if !bound.ip().is_unspecified() {
        return vec![bound];
    }
    let preferred = preferred_sources().into_iter().flatten();
    let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let mut found: Vec<(Reach, IpAddr)> = Vec::new();
    for ip in preferred.chain(of_interfaces()).chain(loopback) {
        let takes = bound.is_ipv6() || ip.is_ipv4();
        if let Some(reach) = reach(ip)
            && takes
            && !found.contains(&(reach, ip))
            && is_local(ip)
        {
            found.push((reach, ip));
        }
    }
    found.sort_by_key(|(reach, _)| *reach);
    found
        .into_iter()
        .map(|(_, ip)| SocketAddr::new(ip, bound.port()))
        .collect()
}

/// Returns whether a socket can be bound to `ip` now: it is an address of this machine, and no longer tentative.
fn is_local(ip: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(ip, 0)).is_ok()
}

/// Returns whether packets to `remote`, which left from `local` if that is known, leave from another address now. Found
/// without sending anything: the system names the address that it would use.
pub(crate) fn has_moved(remote: SocketAddr, local: Option<IpAddr>, bound: SocketAddr) -> bool {
    let ip = remote.ip().to_canonical();
    let any: IpAddr = if ip.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let source = if bound.ip().is_unspecified() {
        let socket = UdpSocket::bind(SocketAddr::new(any, 0));
        // With its scope, without which nothing goes to a link-local address.
        let probe = socket.and_then(|s| s.connect(canonical(remote)).and_then(|()| s.local_addr()));
        let by_translator = || preferred_sources()[1].filter(|_| ip.is_ipv4() && local.is_some_and(|l| l.is_ipv6()));
        match probe.map_or_else(|_| by_translator(), |address| Some(address.ip())) {
            Some(source) => source,
            // Unreachable now: to move would help nothing.
            None => return false,
        }
    } else {
        bound.ip().to_canonical()
    };
    local.is_none_or(|local| local.to_canonical() != source)
}

/// Returns whether this machine has a way to an address. Found without sending anything.
#[cfg(feature = "stun")]
pub(crate) fn has_way(to: SocketAddr) -> bool {
    let any: IpAddr = match to.is_ipv4() {
        true => Ipv4Addr::UNSPECIFIED.into(),
        false => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((any, 0)).is_ok_and(|socket| socket.connect(to).is_ok())
}

/// Returns whether a socket bound to `bound` is there for nobody any more, because this machine has lost the address.
/// Loopback is never lost.
pub(super) fn has_vanished(mut bound: SocketAddr) -> bool {
    if bound.ip().is_unspecified() || bound.ip().is_loopback() {
        return false;
    }
    bound.set_port(0);
    UdpSocket::bind(bound).is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// The addresses of the interfaces that are up, and under which this machine can be reached. None if the system does
/// not tell.
pub(super) fn of_interfaces() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::debug!(%error, "the interfaces cannot be listed");
        Vec::new()
    });
    let up = interfaces.into_iter().filter(if_addrs::Interface::is_oper_up);
    up.map(|interface| interface.ip())
        .filter(|ip| reach(*ip).is_some())
        .collect()
}

/// The addresses that a socket bound to `bound` has on the networks that this machine is in, first those from which it
/// sends to other networks: of many, only the first are told to others. None if the system does not tell.
pub(crate) fn networks(bound: SocketAddr) -> Vec<LocalAddress> {
    let takes = |ip: IpAddr| match bound.ip() {
        any if any.is_unspecified() => bound.is_ipv6() || ip.is_ipv4(),
        own => own.to_canonical() == ip,
    };
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default().into_iter();
    let up = interfaces.filter(|interface| interface.is_oper_up() && !interface.is_loopback());
    let local = up.filter_map(|interface| {
        let prefix = match &interface.addr {
            if_addrs::IfAddr::V4(v4) => v4.prefixlen,
            if_addrs::IfAddr::V6(v6) => v6.prefixlen,
        };
        let address = SocketAddr::new(interface.ip(), bound.port());
        takes(interface.ip()).then_some(LocalAddress { address, prefix })
    });
    let preferred = preferred_sources();
    sorted(local.collect(), &preferred)
}

/// The addresses with those that are preferred first.
fn sorted(mut local: Vec<LocalAddress>, preferred: &[Option<IpAddr>]) -> Vec<LocalAddress> {
    local.sort_by_key(|one| !preferred.contains(&Some(one.address.ip())));
    local
}

/// The addresses from which this machine sends to other networks, by IPv4 and by IPv6.
pub(crate) fn preferred_sources() -> [Option<IpAddr>; 2] {
    // Addresses reserved for documentation (RFC 5737, RFC 3849): every default route covers them.
    [
        source_address(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()).ok(),
        source_address(
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        )
        .ok(),
    ]
}

/// The address from which this machine would send to `far`.
fn source_address(any: IpAddr, far: IpAddr) -> io::Result<IpAddr> {
    const DISCARD: u16 = 9;
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(SocketAddr::new(far, DISCARD))?;
    Ok(socket.local_addr()?.ip())
}

/// `None` for addresses under which nobody can reach this machine.
fn reach(ip: IpAddr) -> Option<Reach> {
    if ip.is_unspecified() || ip.is_multicast() {
        return None;
    }
    if ip.is_loopback() {
        return Some(Reach::Loopback);
    }
    match ip {
        IpAddr::V4(v4) if v4.is_broadcast() => None,
        IpAddr::V4(v4) if v4.is_link_local() => Some(Reach::LinkLocal),
        IpAddr::V4(v4) if v4.is_private() || is_carrier_nat(v4) => Some(Reach::Private),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => None,
        IpAddr::V6(v6) if v6.is_unique_local() => Some(Reach::Private),
        _ => Some(Reach::Global),
    }
}

fn is_carrier_nat(ip: Ipv4Addr) -> bool {
    matches!(ip.octets(), [100, 64..=127, ..])
}

/// The address as the core knows it: IPv4 as IPv4, whatever the socket, and without a flow label.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
        },
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::socket;

    // spec: RCH-42
    #[test]
    fn the_address_that_leads_out_is_the_first_that_others_are_told() {
        let at = |text: &str| LocalAddress {
            address: text.parse().unwrap(),
            prefix: 24,
        };
        let local = ["172.17.0.1:7", "172.18.0.1:7", "192.168.1.2:7", "[fd00::1]:7"].map(at);
        let preferred = [Some("192.168.1.2".parse().unwrap()), None];
        let told = sorted(local.to_vec(), &preferred);
        assert_eq!(told, [local[2], local[0], local[1], local[3]]);
    }

    #[test]
    fn mapped_addresses_become_ipv4() {
        let mapped: SocketAddr = "[::ffff:192.0.2.7]:99".parse().unwrap();
        assert_eq!(canonical(mapped), "192.0.2.7:99".parse().unwrap());
        let v6: SocketAddr = "[2001:db8::7]:99".parse().unwrap();
        assert_eq!(canonical(v6), v6);
    }

    #[test]
    fn a_wildcard_has_usable_addresses_with_its_port() {
        for any in ["0.0.0.0:0", "[::]:0"] {
            let Ok(bound) = socket::bind(any.parse().unwrap(), 1 << 16) else {
                eprintln!("SKIPPED: {any} cannot be bound here");
                continue;
            };
            let port = bound.local_addr().port();
            let addrs = usable(bound.local_addr());
            assert!(
                addrs.contains(&SocketAddr::new([127, 0, 0, 1].into(), port)),
                "{addrs:?}"
            );
            assert!(addrs.iter().all(|a| !a.ip().is_unspecified() && a.port() == port));
            assert!(addrs.is_sorted_by_key(|a| reach(a.ip())), "{addrs:?}");
            assert!(any.starts_with('[') || addrs.iter().all(SocketAddr::is_ipv4));
        }
    }

    #[test]
    fn a_specific_address_is_its_own_only_one() {
        let address: SocketAddr = "127.0.0.1:5".parse().unwrap();
        assert_eq!(usable(address), [address]);
    }

    #[test]
    fn a_peer_with_a_link_local_address_is_left_from_where_its_link_says() {
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        let of_links = interfaces.iter().filter(|interface| interface.is_oper_up());
        let own = of_links.filter_map(|interface| match interface.ip() {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => Some((ip, interface.index?)),
            _ => None,
        });
        let own: Vec<_> = own.collect();
        if own.is_empty() {
            eprintln!("SKIPPED: no interface has a link-local address");
        }
        let any: SocketAddr = "[::]:7".parse().unwrap();
        for (ip, index) in own {
            let remote = |scope| SocketAddrV6::new("fe80::5555:1".parse().unwrap(), 9, 0, scope).into();
            assert!(!has_moved(remote(index), Some(ip.into()), any), "it is still there");
            let before: IpAddr = "fe80::5555:2".parse().unwrap();
            assert!(has_moved(remote(index), Some(before), any), "it is another address");
        }
    }

    #[test]
    fn only_an_address_that_this_machine_has_not_has_vanished() {
        assert!(has_vanished("203.0.113.7:5".parse().unwrap()));
        for there in ["127.0.0.1:5", "[::1]:5", "0.0.0.0:5", "[::]:5"] {
            assert!(!has_vanished(there.parse().unwrap()), "{there}");
        }
    }

    #[test]
    fn addresses_are_ranked_by_how_far_they_carry() {
        let rank = |text: &str| reach(text.parse().unwrap());
        for (reach, texts) in [
            (Some(Reach::Global), ["8.8.8.8", "2606:4700::1", "100.128.0.1"]),
            (Some(Reach::Private), ["10.1.2.3", "fd00::2", "100.64.0.1"]),
            (Some(Reach::Loopback), ["127.0.0.1", "::1", "127.9.9.9"]),
            (None, ["0.0.0.0", "ff02::1", "fe80::1"]),
            (None, ["::", "224.0.0.1", "255.255.255.255"]),
        ] {
            for text in texts {
                assert_eq!(rank(text), reach, "{text}");
            }
        }
        assert_eq!(rank("169.254.1.1"), Some(Reach::LinkLocal));
        assert!(Reach::Global < Reach::Private && Reach::LinkLocal < Reach::Loopback);
    }
}
