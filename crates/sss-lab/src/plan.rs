//! Addresses: who has which.
//!
//! The public network is cut in blocks, the first of them for servers and one for each site. In a site's block the
//! router has an address from the first to the sixth (the next when it is renumbered), and the upper half of sixteen is
//! a LAN with public addresses.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::prefix::Prefix;

/// The addresses that stand for the public network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Public {
    /// 198.18.0.0/15, which is for tests (RFC 2544).
    #[default]
    Benchmark,
    /// 45.45.45.0/24, which is like any other: for programs that refuse reserved ones.
    Ordinary,
}

/// Sites at most: blocks of the smaller network without that of the servers.
pub(crate) const SITES: usize = 15;

/// Addresses of a router outside, of which one is in use.
const ROUTER: u32 = 6;

/// The plan of addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) public: Public,
}

impl Plan {
    /// Two addresses of a server.
    pub(crate) fn server(self, number: usize) -> [Ipv4Addr; 2] {
        let first = self.block(0) + 1 + 2 * number as u32;
        [first, first + 1].map(Ipv4Addr::from_bits)
    }

    /// Two IPv6 addresses of a server.
    pub(crate) fn server_six(self, number: usize) -> [Ipv6Addr; 2] {
        let first = 1 + 2 * number as u16;
        [six(0, 0, first), six(0, 0, first + 1)]
    }

    /// The outer address of a site, after it was renumbered so often.
    pub(crate) fn outer(self, site: usize, renumbered: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.block(1 + site) + 1 + renumbered % ROUTER)
    }

    /// The LAN of a site with public addresses.
    pub(crate) fn public_lan(self, site: usize) -> Prefix {
        Prefix::new(Ipv4Addr::from_bits(self.block(1 + site) + 8), 29)
    }

    /// The LAN of a site with private addresses.
    pub(crate) fn private_lan(self, site: usize) -> Prefix {
        Prefix::new(Ipv4Addr::new(10, 0, 1 + site as u8, 0), 24)
    }

    /// The network between a site's router and its provider's NAT: the addresses of both.
    pub(crate) fn provider(self, site: usize) -> [Ipv4Addr; 2] {
        [1, 2].map(|last| Ipv4Addr::new(100, 64, 1 + site as u8, last))
    }

    /// The same in IPv6.
    pub(crate) fn provider_six(self, site: usize) -> [Ipv6Addr; 2] {
        [1, 2].map(|last| six(1 + site as u16, 2, last))
    }

    /// All IPv6 addresses of a site.
    pub(crate) fn network_six(self, site: usize) -> Prefix {
        Prefix::new(six(1 + site as u16, 0, 0), 56)
    }

    /// The outer IPv6 address of a site's router.
    pub(crate) fn outer_six(self, site: usize) -> Ipv6Addr {
        six(1 + site as u16, 0, 1)
    }

    /// IPv6 address in a LAN: 1 is the router, and then come the hosts.
    pub(crate) fn lan_six(self, site: usize, number: u32) -> Ipv6Addr {
        six(1 + site as u16, 1, number as u16)
    }

    fn block(self, number: usize) -> u32 {
        let (base, size) = match self.public {
            Public::Benchmark => (Ipv4Addr::new(198, 18, 0, 0), 256),
            Public::Ordinary => (Ipv4Addr::new(45, 45, 45, 0), 16),
        };
        base.to_bits() + number as u32 * size
    }
}

/// An address of 2001:2::/48, which is for tests (RFC 5180).
fn six(block: u16, network: u16, last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 2, 0, block << 8 | network, 0, 0, 0, last)
}

/// An address in a network.
pub(crate) fn nth(network: Prefix, number: u32) -> Option<Ipv4Addr> {
    match network.address {
        std::net::IpAddr::V4(first) => Some(Ipv4Addr::from_bits(first.to_bits() + number)),
        std::net::IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_the_address_of_another() {
        for public in [Public::Benchmark, Public::Ordinary] {
            let plan = Plan { public };
            let mut all: Vec<Ipv4Addr> = (0..3).flat_map(|number| plan.server(number)).collect();
            for site in 0..SITES {
                all.extend((0..ROUTER).map(|time| plan.outer(site, time)));
                all.extend((1..=6).filter_map(|host| nth(plan.public_lan(site), host)));
            }
            let public = match public {
                Public::Benchmark => Prefix::new(Ipv4Addr::new(198, 18, 0, 0), 15),
                Public::Ordinary => Prefix::new(Ipv4Addr::new(45, 45, 45, 0), 24),
            };
            assert!(all.iter().all(|address| public.contains((*address).into())));
            let number = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), number);
        }
    }

    #[test]
    fn a_renumbered_site_has_another_address() {
        let plan = Plan {
            public: Public::Benchmark,
        };
        assert_eq!(plan.outer(0, 0), Ipv4Addr::new(198, 18, 1, 1));
        assert_eq!(plan.outer(0, 1), Ipv4Addr::new(198, 18, 1, 2));
        assert_eq!(plan.outer(0, 6), plan.outer(0, 0));
        assert_eq!(nth(plan.public_lan(1), 2), Some(Ipv4Addr::new(198, 18, 2, 10)));
    }
}
