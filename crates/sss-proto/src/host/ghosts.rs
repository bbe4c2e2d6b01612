//! The trees of whose peers nothing is heard, and how many of them are kept for their peers to come back (NEG-35).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::network::Network;
use crate::time::Instant;

/// Silence for which all are kept: an outage of this host's own network is not to end most of what it has.
const GRACE: Duration = Duration::from_secs(30);

/// Time since when nothing is heard of a tree's peer, and the slot of the tree.
type Silence = (Instant, u32);

/// Slots of the trees whose peers are silent, by network.
#[derive(Debug)]
pub(super) struct Ghosts {
    limit: usize,
    /// Slots of which that was to be noted, and was not yet.
    changed: Vec<u32>,
    members: HashMap<u32, (Network, Instant), RandomState>,
    of_network: BTreeMap<Network, BTreeSet<Silence>>,
    /// Networks by the number of theirs; among equals the last is the one with the longest silence.
    ranked: BTreeSet<(usize, Reverse<Silence>, Network)>,
}

impl Ghosts {
    /// None, of which `limit` are kept.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            changed: Vec::new(),
            members: HashMap::default(),
            of_network: BTreeMap::new(),
            ranked: BTreeSet::new(),
        }
    }

    /// The peer in a slot is not heard any more, or heard again: that is to be noted.
    pub(super) fn note_change(&mut self, index: u32) {
        self.changed.push(index);
    }

    /// Takes the slots of which that is to be noted.
    pub(super) fn take_changed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.changed)
    }

    /// Notes that nothing is heard of the peer in a slot, which came from a network.
    pub(super) fn enter(&mut self, index: u32, network: Network, now: Instant) {
        if self.members.contains_key(&index) {
            return;
        }
        self.members.insert(index, (network, now));
        self.change(network, |silent| {
            silent.insert((now, index));
        });
    }

    /// Notes that the peer in a slot was heard, or its tree has ended.
    pub(super) fn leave(&mut self, index: u32) {
        if let Some((network, since)) = self.members.remove(&index) {
            self.change(network, |silent| {
                silent.remove(&(since, index));
            });
        }
    }

    /// Returns whether there are as many as are kept.
    pub(super) fn is_full(&self) -> bool {
        self.members.len() >= self.limit
    }

    /// The one that makes room for others: of the network that has most, the one that is silent for longest.
    pub(super) fn first(&self) -> Option<u32> {
        let (_, Reverse((_, index)), _) = self.ranked.last()?;
        Some(*index)
    }

    /// The one to be given up, if there are too many: of the network that has most, the one that is silent for longest.
    pub(super) fn surplus(&self, now: Instant) -> Option<u32> {
        if self.members.len() <= self.limit {
            return None;
        }
        let (_, Reverse((since, index)), _) = self.ranked.last()?;
        (*since + GRACE <= now).then_some(*index)
    }

    fn change(&mut self, network: Network, change: impl FnOnce(&mut BTreeSet<Silence>)) {
        let silent = self.of_network.entry(network).or_default();
        let rank = |silent: &BTreeSet<Silence>| Some((silent.len(), Reverse(*silent.first()?), network));
        if let Some(before) = rank(silent) {
            self.ranked.remove(&before);
        }
        change(silent);
        match rank(silent) {
            Some(after) => {
                self.ranked.insert(after);
            }
            None => {
                self.of_network.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::default() + Duration::from_secs(seconds)
    }

    fn from(n: u8) -> Network {
        Network::V4(n.into())
    }

    #[test]
    fn the_network_that_has_most_gives_up_the_one_that_is_silent_for_longest() {
        let mut ghosts = Ghosts::new(2);
        // One of a network alone, silent for longest; and four of another, of which one is heard again.
        for (index, network) in [(0, 1), (4, 2), (3, 2), (2, 2), (1, 2)] {
            ghosts.enter(
                index,
                from(network),
                at(u64::from(index != 0) * (10 - u64::from(index))),
            );
        }
        ghosts.leave(4);
        assert_eq!(ghosts.first(), Some(3));
        assert_eq!(ghosts.surplus(at(36)), None, "an outage of this host, perhaps");
        assert_eq!(ghosts.surplus(at(37)), Some(3));
        // Told again, it is silent for no shorter a time.
        ghosts.enter(3, from(2), at(40));
        assert_eq!(ghosts.surplus(at(40)), Some(3));
        ghosts.leave(3);
        assert_eq!(ghosts.surplus(at(40)), Some(2));
        ghosts.leave(2);
        assert_eq!(ghosts.surplus(at(40)), None, "so many are kept");
        ghosts.enter(9, from(3), at(20));
        assert_eq!(ghosts.surplus(at(60)), Some(0), "among equals");
        for index in 0..10 {
            ghosts.leave(index);
        }
        assert!(ghosts.members.is_empty() && ghosts.of_network.is_empty() && ghosts.ranked.is_empty());
    }
}
