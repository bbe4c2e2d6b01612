//! The networks in which established peers are (NEG-39).

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::limit::Standing;
use crate::network::Network;

/// The network of each peer that has a channel, by slot.
#[derive(Debug, Default)]
pub(crate) struct Nearby {
    of: Vec<Option<Network>>,
    networks: Networks,
}

/// The networks, and how many peers there are in each. A clone shows the same: a greeter that was lent looks there too,
/// at any time. It changes only when a channel is made, moves, or ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Networks(Arc<RwLock<HashMap<Network, u32, RandomState>>>);

impl Networks {
    /// Returns how a sender in that network stands.
    pub(crate) fn standing(&self, network: Network) -> Standing {
        match self.read().contains_key(&network) {
            true => Standing::Established,
            false => Standing::Stranger,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Network, u32, RandomState>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Network, u32, RandomState>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nearby {
    /// The networks of all.
    pub(crate) fn networks(&self) -> &Networks {
        &self.networks
    }

    /// Notes that the peer in a slot is reached in that network now, or not at all.
    ///
    /// It is said after each packet, and is seldom new.
    #[inline]
    pub(crate) fn set(&mut self, index: u32, at: Option<Network>) {
        if self.of.get(index as usize).copied().flatten() != at {
            self.change(index as usize, at);
        }
    }

    #[cold]
    fn change(&mut self, slot: usize, at: Option<Network>) {
        if self.of.len() <= slot {
            self.of.resize(slot + 1, None);
        }
        let Some(noted) = self.of.get_mut(slot) else {
            return;
        };
        let before = std::mem::replace(noted, at);
        let mut peers = self.networks.write();
        if let Some(network) = at {
            *peers.entry(network).or_default() += 1;
        }
        if let Some(network) = before
            && let Some(count) = peers.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                peers.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_known_as_long_as_one_of_its_peers_is_there() {
        let at = |n: u8| Network::V4(n.into());
        let mut nearby = Nearby::default();
        let networks = nearby.networks().clone();
        let has = |network| networks.standing(network) == Standing::Established;
        for (index, n) in [(3, 1), (9, 1), (4, 2), (3, 1)] {
            nearby.set(index, Some(at(n)));
        }
        assert!(has(at(1)) && has(at(2)) && !has(at(3)));
        nearby.set(3, Some(at(3)));
        assert!(has(at(1)) && has(at(3)));
        for index in 0..100 {
            nearby.set(index, None);
        }
        assert!(networks.read().is_empty() && nearby.of.len() == 10);
    }
}
