//! Links of this machine on which mDNS is spoken, and who is on them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use if_addrs::{IfAddr, Interface};
use sss_proto::is_lan;

use super::sockets::PORT;

/// Links that are used at most, and addresses of IPv4 of each.
const MAX_LINKS: usize = 16;
const MAX_ADDRESSES: usize = 4;

/// Link of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) index: u32,
    /// Addresses of this machine, each with the length of its network's prefix.
    pub(super) v4: Vec<(Ipv4Addr, u8)>,
    /// Link-local addresses of this machine, at most one.
    pub(super) v6: Option<Ipv6Addr>,
}

/// Addresses that a host takes packets at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    /// The address that its socket is bound to.
    pub(super) bound: SocketAddr,
    /// Set if it keeps to the local network.
    pub(super) lan_only: bool,
}

impl Link {
    /// Returns whether a sender speaks mDNS on this link: its address is of one of the link's own networks. Of IPv6,
    /// only link-local ones are, which name the link. Resolvers that know nothing of mDNS ask from other ports, and are
    /// not heard: answers would go to whoever is named as the sender.
    pub(super) fn has(&self, from: SocketAddr) -> bool {
        if from.port() != PORT {
            return false;
        }
        match from {
            SocketAddr::V4(from) => self.v4.iter().any(|own| is_of_network(*own, *from.ip())),
            SocketAddr::V6(from) => {
                self.v6.is_some() && from.ip().is_unicast_link_local() && from.scope_id() == self.index
            }
        }
    }

    /// The addresses that are told.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let v4 = self.v4.iter().map(|(ip, _)| IpAddr::V4(*ip));
        v4.chain(self.v6.map(IpAddr::V6)).collect()
    }
}

/// Returns whether an address is one of a host in this network: neither the network's own, nor that for all.
fn is_of_network((own, prefix): (Ipv4Addr, u8), ip: Ipv4Addr) -> bool {
    let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    let (own, ip) = (own.to_bits(), ip.to_bits());
    let is_special = prefix < 31 && (ip & hosts == 0 || ip & hosts == hosts);
    // A network of everybody is none.
    prefix > 0 && (own ^ ip) & !hosts == 0 && !is_special
}

/// The links on which a host is reached that takes packets there.
pub(super) fn of_machine(taken: Taken) -> std::io::Result<Vec<Link>> {
    let links = of_interfaces(if_addrs::get_if_addrs()?, taken);
    match taken.is_elsewhere() {
        true if links.is_empty() => Err(std::io::Error::other(ELSEWHERE)),
        _ => Ok(links),
    }
}

/// Reason why a host is on no link that is bound to one IPv6 address: nobody hears it there (RCH-35).
const ELSEWHERE: &str = "the host is bound to an IPv6 address that is not link-local, and others are tried where their \
                         messages come from: bind it to [::], or to an address of IPv4 or fe80::";

/// Tunnels, and whatever leads to one other host alone, are no local network.
fn of_interfaces(interfaces: Vec<Interface>, taken: Taken) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    for interface in interfaces {
        let is_link = interface.is_oper_up() && !interface.is_loopback() && !interface.is_p2p();
        let Some(index) = interface.index.filter(|_| is_link && taken.takes(interface.ip())) else {
            continue;
        };
        let at = links.iter().position(|link| link.index == index);
        let at = at.unwrap_or(links.len());
        if at == links.len() {
            if links.len() == MAX_LINKS {
                continue;
            }
            links.push(Link {
                name: interface.name.clone(),
                index,
                v4: Vec::new(),
                v6: None,
            });
        }
        let Some(link) = links.get_mut(at) else { continue };
        match interface.addr {
            IfAddr::V4(v4) if link.v4.len() < MAX_ADDRESSES => link.v4.push((v4.ip, v4.prefixlen)),
            IfAddr::V6(v6) => link.v6 = link.v6.or(Some(v6.ip)),
            IfAddr::V4(_) => {}
        }
    }
    links.sort_by_key(|link| link.index);
    links
}

impl Taken {
    /// Returns whether it takes packets at one address of IPv6 alone that mDNS is not sent from.
    fn is_elsewhere(self) -> bool {
        match self.bound.ip().to_canonical() {
            IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_loopback() && !ip.is_unicast_link_local(),
            IpAddr::V4(_) => false,
        }
    }

    /// Returns whether the host takes packets at an address of this machine, and mDNS is sent from it.
    fn takes(self, ip: IpAddr) -> bool {
        let is_sent_from = match ip {
            IpAddr::V4(v4) => !v4.is_unspecified(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        let takes = match self.bound.ip().to_canonical() {
            IpAddr::V6(bound) if bound.is_unspecified() => true,
            IpAddr::V4(bound) if bound.is_unspecified() => ip.is_ipv4(),
            bound => bound == ip,
        };
        is_sent_from && takes && (!self.lan_only || is_lan(ip))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use if_addrs::{IfOperStatus, Ifv4Addr, Ifv6Addr};

    use super::*;

    /// A link with 192.168.7.1/24 and fe80::1.
    pub(in crate::mdns) fn link(index: u32) -> Link {
        Link {
            name: format!("eth{index}"),
            index,
            v4: vec![(Ipv4Addr::new(192, 168, 7, 1), 24)],
            v6: Some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
        }
    }

    fn interface(index: u32, address: &str, prefixlen: u8) -> Interface {
        let addr = match address.parse().unwrap() {
            IpAddr::V4(ip) => IfAddr::V4(Ifv4Addr {
                ip,
                netmask: Ipv4Addr::UNSPECIFIED,
                prefixlen,
                broadcast: None,
            }),
            IpAddr::V6(ip) => IfAddr::V6(Ifv6Addr {
                ip,
                netmask: Ipv6Addr::UNSPECIFIED,
                prefixlen,
                broadcast: None,
            }),
        };
        Interface {
            name: format!("eth{index}"),
            addr,
            index: Some(index),
            oper_status: IfOperStatus::Up,
            is_p2p: false,
            #[cfg(windows)]
            adapter_name: String::new(),
        }
    }

    fn taken(bound: &str, lan_only: bool) -> Taken {
        let bound = bound.parse().unwrap();
        Taken { bound, lan_only }
    }

    // spec: RCH-35
    #[test]
    fn threat_43_only_senders_in_the_links_own_networks_are_on_it() {
        let link = link(3);
        let has = |text: &str| link.has(text.parse().unwrap());
        for on in ["192.168.7.2:5353", "192.168.7.254:5353", "[fe80::2%3]:5353"] {
            assert!(has(on), "{on}");
        }
        for off in [
            "192.168.7.2:5354",
            "[fe80::2%3]:7757",
            "192.168.8.2:5353",
            "192.168.7.0:5353",
            "192.168.7.255:5353",
            "8.8.8.8:5353",
            "127.0.0.1:5353",
            "224.0.0.251:5353",
            "0.0.0.0:5353",
            "[fe80::2%4]:5353",
            "[fe80::2]:5353",
            "[2001:db8::1%3]:5353",
            "[::1]:5353",
            "[ff02::fb%3]:5353",
            "[::ffff:192.168.7.2]:5353",
        ] {
            assert!(!has(off), "{off}");
        }
        let without_v6 = Link {
            v6: None,
            ..link.clone()
        };
        assert!(!without_v6.has("[fe80::2%3]:5353".parse().unwrap()));
        let of_all = Link {
            v4: vec![(Ipv4Addr::new(192, 168, 7, 1), 0)],
            ..link
        };
        assert!(!of_all.has("8.8.8.8:5353".parse().unwrap()));
    }

    #[test]
    fn links_are_those_on_which_the_host_takes_packets() {
        let all = || {
            vec![
                interface(1, "127.0.0.1", 8),
                interface(2, "192.168.7.1", 24),
                interface(2, "fe80::1", 64),
                interface(2, "2001:db8::1", 64),
                interface(3, "203.0.113.5", 24),
                Interface {
                    is_p2p: true,
                    ..interface(4, "10.8.0.1", 24)
                },
                Interface {
                    oper_status: IfOperStatus::Down,
                    ..interface(5, "10.9.0.1", 24)
                },
            ]
        };
        let found = |bound, lan_only| {
            let links = of_interfaces(all(), taken(bound, lan_only));
            let tell = |link: &Link| (link.index, link.v4.len(), link.v6.is_some());
            links.iter().map(tell).collect::<Vec<_>>()
        };
        assert_eq!(found("[::]:7", false), [(2, 1, true), (3, 1, false)]);
        assert_eq!(
            found("[::]:7", true),
            [(2, 1, true)],
            "a public address is none of a local network"
        );
        assert_eq!(found("0.0.0.0:7", false), [(2, 1, false), (3, 1, false)]);
        assert_eq!(found("192.168.7.1:7", false), [(2, 1, false)]);
        for none in ["127.0.0.1:7", "[::1]:7", "10.8.0.1:7", "[2001:db8::1]:7"] {
            assert_eq!(found(none, false), [], "{none}");
        }
    }

    #[test]
    fn a_host_that_is_bound_to_one_global_ipv6_address_is_told_why_it_is_not_announced() {
        let why = |bound| of_machine(taken(bound, false)).err().map(|error| error.to_string());
        for elsewhere in ["[2001:db8::1]:7", "[fd00::1]:7"] {
            assert_eq!(why(elsewhere).as_deref(), Some(ELSEWHERE), "{elsewhere}");
        }
        for other in [
            "[::1]:7",
            "[fe80::1%2]:7",
            "192.0.2.1:7",
            "[::ffff:192.0.2.1]:7",
            "[::]:7",
        ] {
            assert_eq!(why(other), None, "{other}");
        }
    }

    #[test]
    fn many_links_and_addresses_are_not_all_used() {
        let many = (1..100).flat_map(|index| (1..100).map(move |n| interface(index, &format!("10.{index}.0.{n}"), 24)));
        let links = of_interfaces(many.collect(), taken("[::]:7", false));
        assert_eq!(links.len(), MAX_LINKS);
        assert!(links.iter().all(|link| link.v4.len() == MAX_ADDRESSES));
    }
}
