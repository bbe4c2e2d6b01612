//! Introductions that this host has heard of: callers that want to reach it (RCH-13).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use sss_proto::{Instant, Network};

/// Introductions remembered.
const MAX: usize = 64;
/// Time for which one is remembered.
const LIFE: Duration = Duration::from_secs(10);

/// A bounded table of introductions, shared fairly by the networks of the callers.
#[derive(Debug)]
pub(super) struct Introduced<T> {
    /// The latest last.
    all: VecDeque<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    name: [u8; 8],
    network: Network,
    began: Instant,
    what: T,
}

impl<T> Default for Introduced<T> {
    fn default() -> Self {
        Self { all: VecDeque::new() }
    }
}

impl<T> Introduced<T> {
    /// Remembers an introduction by its name, from a caller at this address. If there is no room, the oldest of the
    /// network with the most gives way, provided that the newcomer's has fewer by two at least. Returns whether it is
    /// remembered.
    pub(super) fn insert(&mut self, now: Instant, name: [u8; 8], caller: IpAddr, what: T) -> bool {
        self.expire(now);
        let network = Network::from(caller);
        if self.all.len() >= MAX && !self.make_room(network) {
            return false;
        }
        self.all.push_back(Entry {
            name,
            network,
            began: now,
            what,
        });
        true
    }

    pub(super) fn get_mut(&mut self, name: &[u8; 8]) -> Option<&mut T> {
        self.entry(name).map(|entry| &mut entry.what)
    }

    /// All of them, the oldest first.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.all.iter_mut().map(|entry| &mut entry.what)
    }

    /// All of them with their names, the oldest first.
    pub(super) fn named_mut(&mut self) -> impl Iterator<Item = (&[u8; 8], &mut T)> {
        self.all.iter_mut().map(|entry| (&entry.name, &mut entry.what))
    }

    /// All of them, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.all.iter().map(|entry| &entry.what)
    }

    /// Forgets those whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.all.pop_front_if(|entry| entry.began + LIFE <= now).is_some() {}
    }

    /// Returns when the oldest one is to be forgotten.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.all.front().map(|entry| entry.began + LIFE)
    }

    fn entry(&mut self, name: &[u8; 8]) -> Option<&mut Entry<T>> {
        self.all.iter_mut().find(|entry| entry.name == *name)
    }

    fn make_room(&mut self, newcomer: Network) -> bool {
        let count = |network| self.all.iter().filter(|entry| entry.network == network).count();
        // The oldest of those that have as many.
        let most = self.all.iter().rev().max_by_key(|entry| count(entry.network));
        let Some(greediest) = most.map(|entry| entry.network) else {
            return false;
        };
        if count(greediest) < count(newcomer).saturating_add(2) {
            return false;
        }
        let oldest = self.all.iter().position(|entry| entry.network == greediest);
        oldest.and_then(|at| self.all.remove(at)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn network(n: u8) -> IpAddr {
        IpAddr::from([198, 51, 100, n])
    }

    // spec: RCH-13
    #[test]
    fn at_most_64_are_remembered_and_no_network_keeps_others_out() {
        let mut table = Introduced::default();
        let mut name = 0_u64;
        let mut insert = |table: &mut Introduced<u8>, ms, n| {
            name += 1;
            table.insert(at(ms), name.to_be_bytes(), network(n), n)
        };
        assert_eq!((0..200).filter(|ms| insert(&mut table, *ms, 1)).count(), 64);
        // Seven networks that flood keep an eighth out no more than each other.
        for n in 2..=8 {
            for ms in 200..300 {
                insert(&mut table, ms, n);
            }
        }
        for newcomer in 9..=20 {
            assert!(insert(&mut table, 300, newcomer), "{newcomer}");
        }
        assert_eq!(table.all.len(), 64);
        let shares: Vec<_> = (1..=8)
            .map(|n| table.iter_mut().filter(|of| **of == n).count())
            .collect();
        assert!(shares.iter().all(|share| (5..=8).contains(share)), "{shares:?}");
        table.expire(at(10_300));
        assert_eq!(table.next_timer(), None);
    }
}
