//! The trees that others began with this host, and how many of them there may be (NEG-35).

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sss_wire::Eid;

use crate::config::PeerLimits;
use crate::network::Network;
use crate::rare::Rare;
use crate::streams::NetworkBudget;

/// Trees that are looked at for one that can go, at most.
const LOOKED_AT: usize = 1024;

/// The trees that were accepted, in the order in which they were, by slot.
#[derive(Debug)]
pub(super) struct Census {
    limits: PeerLimits,
    next: u64,
    members: HashMap<u32, Member, RandomState>,
    all: Queue,
    of_eid: HashMap<Eid, Queue, RandomState>,
    of_network: HashMap<Network, Queue, RandomState>,
    /// Networks by the number of their trees.
    ranked: BTreeSet<(usize, Network)>,
    /// Budgets of receive windows, of networks in `of_network`.
    budgets: HashMap<Network, NetworkBudget, RandomState>,
}

/// Slots by the number of their tree. Most EIDs have one alone, and take no memory for others.
#[derive(Debug, Default)]
struct Queue {
    oldest: Option<(u64, u32)>,
    others: Rare<BTreeMap<u64, u32>>,
}

impl Queue {
    /// Adds a tree whose number is above all others.
    fn insert(&mut self, number: u64, slot: u32) {
        if self.oldest.is_none() {
            self.oldest = Some((number, slot));
        } else {
            self.others.make().insert(number, slot);
        }
    }

    fn remove(&mut self, number: u64) {
        if self.oldest.is_some_and(|oldest| oldest.0 == number) {
            self.oldest = self.others.get_mut().and_then(BTreeMap::pop_first);
        } else if let Some(others) = self.others.get_mut() {
            others.remove(&number);
        }
        self.others.rest(BTreeMap::is_empty);
    }

    fn len(&self) -> usize {
        usize::from(self.oldest.is_some()) + self.others.get().map_or(0, BTreeMap::len)
    }

    fn is_empty(&self) -> bool {
        self.oldest.is_none()
    }

    /// The slots, that of the oldest tree first.
    fn slots(&self) -> impl DoubleEndedIterator<Item = u32> {
        let oldest = self.oldest.map(|oldest| oldest.1);
        let others = self.others.get().into_iter().flat_map(BTreeMap::values);
        oldest.into_iter().chain(others.copied())
    }
}

/// Limit that is reached, and the oldest trees under it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// Of one EID, or of one network.
    OfSome(Vec<u32>),
    OfAll(Vec<u32>),
}

#[derive(Clone, Copy, Debug)]
struct Member {
    number: u64,
    eid: Eid,
    network: Network,
}

impl Census {
    pub(super) fn new(limits: PeerLimits) -> Self {
        Self {
            limits,
            next: 0,
            members: HashMap::default(),
            all: Queue::default(),
            of_eid: HashMap::default(),
            of_network: HashMap::default(),
            ranked: BTreeSet::new(),
            budgets: HashMap::default(),
        }
    }

    /// Notes that the peer in a slot has begun a tree, from that network: the budget that all of that network share.
    pub(super) fn enter(&mut self, index: u32, eid: Eid, network: Network) -> NetworkBudget {
        self.leave(index);
        let number = self.next;
        self.next += 1;
        self.members.insert(index, Member { number, eid, network });
        self.all.insert(number, index);
        self.of_eid.entry(eid).or_default().insert(number, index);
        let queue = self.of_network.entry(network).or_default();
        self.ranked.remove(&(queue.len(), network));
        queue.insert(number, index);
        self.ranked.insert((queue.len(), network));
        self.budgets.entry(network).or_default().clone()
    }

    /// Returns where the peer in a slot has come from, if it has begun the tree.
    pub(super) fn network(&self, index: u32) -> Option<Network> {
        self.members.get(&index).map(|member| member.network)
    }

    /// Notes that the tree in a slot has ended, if there was one.
    pub(super) fn leave(&mut self, index: u32) {
        let Some(member) = self.members.remove(&index) else {
            return;
        };
        self.all.remove(member.number);
        take_out(&mut self.of_eid, &member.eid, member.number);
        let count = self.count_of(&member.network);
        self.ranked.remove(&(count, member.network));
        take_out(&mut self.of_network, &member.network, member.number);
        match count {
            0 | 1 => {
                self.budgets.remove(&member.network);
            }
            _ => {
                self.ranked.insert((count - 1, member.network));
            }
        }
    }

    /// Returns the slot of the newest tree that an EID has begun, beside one.
    pub(super) fn newest_of(&self, eid: &Eid, beside: u32) -> Option<u32> {
        self.of_eid.get(eid)?.slots().rev().find(|slot| *slot != beside)
    }

    fn count_of(&self, network: &Network) -> usize {
        self.of_network.get(network).map_or(0, Queue::len)
    }

    /// Returns the slot of the newest tree of the network that has most, if that has more than another would have with
    /// one more.
    pub(super) fn newest_of_most(&self, beside: Network) -> Option<u32> {
        let (count, most) = self.ranked.last()?;
        let is_richer = *count > self.count_of(&beside) + 1;
        let newest = self.of_network.get(most)?.slots().next_back();
        newest.filter(|_| is_richer)
    }

    /// Returns whose limit leaves no room for one more tree.
    pub(super) fn full(&self, eid: &Eid, network: Network) -> Option<Full> {
        let limited = [
            (
                self.of_eid.get(eid),
                self.limits.trees_per_eid,
                Full::OfSome as fn(_) -> _,
            ),
            (
                self.of_network.get(&network),
                self.limits.trees_per_network,
                Full::OfSome,
            ),
            (Some(&self.all), self.limits.trees, Full::OfAll),
        ];
        let mut full = limited
            .into_iter()
            .filter_map(|(queue, limit, full)| Some((queue.filter(|q| q.len() >= limit)?, full)));
        full.next()
            .map(|(queue, full)| full(queue.slots().take(LOOKED_AT).collect()))
    }
}

fn take_out<K: Eq + Hash>(queues: &mut HashMap<K, Queue, RandomState>, key: &K, number: u64) {
    if let Some(queue) = queues.get_mut(key) {
        queue.remove(number);
        if queue.is_empty() {
            queues.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eid(n: u8) -> Eid {
        Eid::from_public_key(&[n; 32])
    }

    fn from(n: u8) -> Network {
        Network::V4(n.into())
    }

    #[test]
    fn each_limit_names_its_own_oldest_first() {
        let mut census = Census::new(PeerLimits {
            trees: 5,
            trees_per_eid: 2,
            trees_per_network: 3,
            unheard: 5,
        });
        for (index, n, address) in [(9, 1, 1), (8, 2, 1), (7, 1, 2)] {
            assert_eq!(census.full(&eid(n), from(address)), None);
            census.enter(index, eid(n), from(address));
        }
        assert_eq!(census.full(&eid(1), from(9)), Some(Full::OfSome(vec![9, 7])));
        assert_eq!(
            [7, 9, 8].map(|beside| census.newest_of(&eid(1), beside)),
            [Some(9), Some(7), Some(7)]
        );
        census.enter(6, eid(3), from(1));
        assert_eq!(census.full(&eid(4), from(1)), Some(Full::OfSome(vec![9, 8, 6])));
        census.enter(5, eid(4), from(3));
        assert_eq!(census.full(&eid(5), from(4)), Some(Full::OfAll(vec![9, 8, 7, 6, 5])));
        census.leave(9);
        assert_eq!(census.full(&eid(1), from(1)), None);
        for index in 0..10 {
            census.leave(index);
        }
        assert!(census.members.is_empty() && census.all.is_empty());
        assert!(census.of_eid.is_empty() && census.of_network.is_empty());
        assert!(census.ranked.is_empty() && census.budgets.is_empty());
    }
}
