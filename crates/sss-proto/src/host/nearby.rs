//! The networks in which established peers are (NEG-39).

use std::net::IpAddr;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::network::Network;

/// The network of each peer that has a channel, by slot, and how many there are in each.
#[derive(Debug, Default)]
pub(super) struct Nearby {
    of: Vec<Option<Network>>,
    peers: HashMap<Network, u32, RandomState>,
}

impl Nearby {
    /// Notes that the peer in a slot is reached at that address now, or not at all.
    pub(super) fn set(&mut self, index: u32, at: Option<IpAddr>) {
        let (slot, now) = (index as usize, at.map(Network::from));
        if self.of.len() <= slot {
            if now.is_none() {
                return;
            }
            self.of.resize(slot + 1, None);
        }
        let Some(noted) = self.of.get_mut(slot).filter(|noted| **noted != now) else {
            return;
        };
        let before = std::mem::replace(noted, now);
        if let Some(network) = now {
            *self.peers.entry(network).or_default() += 1;
        }
        if let Some(network) = before
            && let Some(count) = self.peers.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                self.peers.remove(&network);
            }
        }
    }

    /// Returns whether an established peer is in the network of an address.
    pub(super) fn has(&self, ip: IpAddr) -> bool {
        self.peers.contains_key(&Network::from(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_known_as_long_as_one_of_its_peers_is_there() {
        let at = |n: u8| IpAddr::from([192, 0, 2, n]);
        let mut nearby = Nearby::default();
        for (index, n) in [(3, 1), (9, 1), (4, 2), (3, 1)] {
            nearby.set(index, Some(at(n)));
        }
        assert!(nearby.has(at(1)) && nearby.has(at(2)) && !nearby.has(at(3)));
        nearby.set(3, Some(at(3)));
        assert!(nearby.has(at(1)) && nearby.has(at(3)));
        for index in 0..100 {
            nearby.set(index, None);
        }
        assert!(nearby.peers.is_empty() && nearby.of.len() == 10);
    }
}
