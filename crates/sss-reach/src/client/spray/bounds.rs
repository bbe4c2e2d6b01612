//! Bounds of what others can make a host send, and the addresses that servers have named (RCH-31).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sss_proto::{Instant, Route};

/// Time for which an address is left alone after it was sprayed.
pub(super) const PAUSE: Duration = Duration::from_secs(3600);
/// Addresses that are sprayed within that time, at most.
const MAX_TARGETS: usize = 64;
/// Ways that are remembered.
const MAX_WAYS: usize = 1024;

/// The addresses that were sprayed of late, the latest last.
#[derive(Debug, Default)]
pub(super) struct Budget {
    spent: VecDeque<(IpAddr, Instant)>,
}

impl Budget {
    /// Returns whether an address may be sprayed now.
    pub(super) fn has(&mut self, now: Instant, target: IpAddr) -> bool {
        while self.spent.pop_front_if(|(_, at)| *at + PAUSE <= now).is_some() {}
        self.spent.len() < MAX_TARGETS && self.spent.iter().all(|(ip, _)| *ip != target)
    }

    /// An address is sprayed now.
    pub(super) fn spend(&mut self, now: Instant, target: IpAddr) {
        self.spent.push_back((target, now));
    }

    /// Whoever is at an address has turned out to be the peer: it does not count.
    pub(super) fn give_back(&mut self, target: IpAddr) {
        self.spent.retain(|(ip, _)| *ip != target);
    }
}

/// For routes through relays, the validated address of whoever is behind the handle, as its server has named it.
#[derive(Debug, Default)]
pub(super) struct Ways {
    all: VecDeque<(Route, SocketAddr)>,
}

impl Ways {
    /// A server has named a handle and an address of one host.
    pub(super) fn put(&mut self, relay: Route, address: SocketAddr) {
        self.all.retain(|(route, _)| *route != relay);
        self.all.push_back((relay, address));
        while self.all.len() > MAX_WAYS {
            self.all.pop_front();
        }
    }

    #[cfg(test)]
    pub(super) fn be_lied_to(&mut self, address: SocketAddr) {
        self.all.iter_mut().for_each(|(_, known)| *known = address);
    }

    pub(super) fn get(&self, relay: &Route) -> Option<SocketAddr> {
        let known = self.all.iter().find(|(route, _)| route == relay);
        known.map(|(_, address)| *address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: RCH-31
    #[test]
    fn an_address_is_sprayed_once_an_hour_and_no_more_than_64_are() {
        let at = |s: u64| Instant::from_nanos(s * 1_000_000_000);
        let target = |n: u8| IpAddr::from([198, 51, 100, n]);
        let mut budget = Budget::default();
        assert!(budget.has(at(0), target(1)));
        budget.spend(at(0), target(1));
        assert!(!budget.has(at(3599), target(1)));
        for n in 2..=64 {
            assert!(budget.has(at(10), target(n)));
            budget.spend(at(10), target(n));
        }
        assert!(!budget.has(at(3599), target(65)), "too many others");
        assert!(budget.has(at(3600), target(1)) && budget.has(at(3600), target(65)));
        assert!(!budget.has(at(3600), target(2)));
        budget.give_back(target(2));
        assert!(budget.has(at(3600), target(2)));
    }
}
