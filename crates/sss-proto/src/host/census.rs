//! The trees that others began with this host, and how many of them there may be (NEG-35).

use std::collections::BTreeSet;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashTable};
use sss_wire::Eid;

use crate::config::PeerLimits;
use crate::network::Network;
use crate::streams::NetworkBudget;

/// Trees that are looked at for one that can go, at most.
const LOOKED_AT: usize = 1024;
/// No slot. A host has no memory for so many trees.
const NONE: u32 = u32::MAX;

/// The trees that were accepted, in the order in which they were, by slot.
#[derive(Debug)]
pub(super) struct Census {
    limits: PeerLimits,
    members: Members,
    all: Queue,
    /// By the EID of their members, which alone have it: an EID is long, and most have one tree.
    of_eid: HashTable<Queue>,
    hasher: RandomState,
    of_network: HashMap<Network, Queue, RandomState>,
    /// Networks by the number of their trees.
    ranked: BTreeSet<(u32, Network)>,
    /// Budgets of receive windows, of networks in `of_network`.
    budgets: HashMap<Network, NetworkBudget, RandomState>,
}

/// The trees, by slot.
#[derive(Debug, Default)]
struct Members(Vec<Option<Member>>);

/// A tree, and its place in three queues.
#[derive(Clone, Copy, Debug)]
struct Member {
    eid: Eid,
    network: Network,
    places: [Place; 3],
}

/// The queues in which a tree is.
#[derive(Clone, Copy, Debug)]
enum Of {
    All,
    Eid,
    Network,
}

/// The slots of the trees before and after one in a queue; [`NONE`] at its ends.
#[derive(Clone, Copy, Debug)]
struct Place {
    older: u32,
    newer: u32,
}

/// The ends of a queue of trees, in the order in which they were accepted.
#[derive(Clone, Copy, Debug)]
struct Queue {
    oldest: u32,
    newest: u32,
    len: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            oldest: NONE,
            newest: NONE,
            len: 0,
        }
    }
}

impl Members {
    fn get(&self, slot: u32) -> Option<&Member> {
        self.0.get(slot as usize)?.as_ref()
    }

    fn place(&mut self, of: Of, slot: u32) -> Option<&mut Place> {
        let member = self.0.get_mut(slot as usize)?.as_mut()?;
        member.places.get_mut(of as usize)
    }

    /// Puts a tree into a slot, in no queue yet.
    fn insert(&mut self, slot: u32, eid: Eid, network: Network) {
        let index = slot as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, None);
        }
        let nowhere = Place {
            older: NONE,
            newer: NONE,
        };
        if let Some(member) = self.0.get_mut(index) {
            let places = [nowhere; 3];
            *member = Some(Member { eid, network, places });
        }
    }

    /// Forgets a tree that is in no queue any more.
    fn remove(&mut self, slot: u32) {
        if let Some(member) = self.0.get_mut(slot as usize) {
            *member = None;
        }
    }

    /// The EID of the trees in a queue.
    fn eid_of(&self, queue: &Queue) -> Option<&Eid> {
        self.get(queue.oldest).map(|member| &member.eid)
    }
}

impl Queue {
    /// Adds the newest tree.
    fn push(&mut self, members: &mut Members, of: Of, slot: u32) {
        match members.place(of, self.newest) {
            Some(newest) => newest.newer = slot,
            None => self.oldest = slot,
        }
        if let Some(place) = members.place(of, slot) {
            place.older = self.newest;
        }
        self.newest = slot;
        self.len += 1;
    }

    /// Takes out a tree that is in it.
    fn take_out(&mut self, members: &mut Members, of: Of, slot: u32) {
        let Some(Place { older, newer }) = members.place(of, slot).copied() else {
            return;
        };
        match members.place(of, older) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
        match members.place(of, newer) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        self.len -= 1;
    }

    fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The slots, that of the oldest tree first.
    fn slots(self, members: &Members, of: Of) -> impl Iterator<Item = u32> {
        let is_there = |slot: &u32| *slot != NONE;
        std::iter::successors(Some(self.oldest).filter(is_there), move |slot| {
            let place = members.get(*slot)?.places.get(of as usize)?;
            Some(place.newer).filter(is_there)
        })
    }
}

/// Limit that is reached, and the oldest trees under it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// Of one EID, or of one network.
    OfSome(Vec<u32>),
    OfAll(Vec<u32>),
}

impl Census {
    pub(super) fn new(limits: PeerLimits) -> Self {
        Self {
            limits,
            members: Members::default(),
            all: Queue::default(),
            of_eid: HashTable::new(),
            hasher: RandomState::default(),
            of_network: HashMap::default(),
            ranked: BTreeSet::new(),
            budgets: HashMap::default(),
        }
    }

    /// Notes that the peer in a slot has begun a tree, from that network: the budget that all of that network share.
    pub(super) fn enter(&mut self, index: u32, eid: Eid, network: Network) -> NetworkBudget {
        self.leave(index);
        let (members, hasher) = (&mut self.members, &self.hasher);
        let of_eid = self.of_eid.entry(
            hasher.hash_one(Some(&eid)),
            |queue| members.eid_of(queue) == Some(&eid),
            |queue| hasher.hash_one(members.eid_of(queue)),
        );
        let of_eid = of_eid.or_insert_with(Queue::default).into_mut();
        members.insert(index, eid, network);
        self.all.push(members, Of::All, index);
        of_eid.push(members, Of::Eid, index);
        let of_network = self.of_network.entry(network).or_default();
        self.ranked.remove(&(of_network.len, network));
        of_network.push(members, Of::Network, index);
        self.ranked.insert((of_network.len, network));
        self.budgets.entry(network).or_default().clone()
    }

    /// Returns where the peer in a slot has come from, if it has begun the tree.
    pub(super) fn network(&self, index: u32) -> Option<Network> {
        self.members.get(index).map(|member| member.network)
    }

    /// Notes that the tree in a slot has ended, if there was one.
    pub(super) fn leave(&mut self, index: u32) {
        let Some(&Member { eid, network, .. }) = self.members.get(index) else {
            return;
        };
        let members = &mut self.members;
        self.all.take_out(members, Of::All, index);
        let hash = self.hasher.hash_one(Some(&eid));
        if let Ok(mut of_eid) = self
            .of_eid
            .find_entry(hash, |queue| members.eid_of(queue) == Some(&eid))
        {
            of_eid.get_mut().take_out(members, Of::Eid, index);
            if of_eid.get().is_empty() {
                of_eid.remove();
            }
        }
        if let Entry::Occupied(mut of_network) = self.of_network.entry(network) {
            self.ranked.remove(&(of_network.get().len, network));
            of_network.get_mut().take_out(members, Of::Network, index);
            if of_network.get().is_empty() {
                of_network.remove();
                self.budgets.remove(&network);
            } else {
                self.ranked.insert((of_network.get().len, network));
            }
        }
        members.remove(index);
    }

    /// The trees that an EID has begun.
    fn of_eid(&self, eid: &Eid) -> Option<Queue> {
        let is_of_eid = |queue: &Queue| self.members.eid_of(queue) == Some(eid);
        self.of_eid.find(self.hasher.hash_one(Some(eid)), is_of_eid).copied()
    }

    /// Returns the slot of the newest tree that an EID has begun, beside one.
    pub(super) fn newest_of(&self, eid: &Eid, beside: u32) -> Option<u32> {
        let newest = self.of_eid(eid)?.newest;
        if newest != beside {
            return Some(newest);
        }
        let before = self.members.get(newest)?.places[Of::Eid as usize].older;
        (before != NONE).then_some(before)
    }

    /// Returns the slot of the newest tree of the network that has most, if that has more than another would have with
    /// one more.
    pub(super) fn newest_of_most(&self, beside: Network) -> Option<u32> {
        let (count, most) = self.ranked.last()?;
        let others = self.of_network.get(&beside).map_or(0, |queue| queue.len);
        let is_richer = *count > others + 1;
        let newest = self.of_network.get(most)?.newest;
        is_richer.then_some(newest)
    }

    /// Returns whose limit leaves no room for one more tree.
    pub(super) fn full(&self, eid: &Eid, network: Network) -> Option<Full> {
        let oldest = |queue: Queue, of| queue.slots(&self.members, of).take(LOOKED_AT).collect();
        let is_full = |queue: &Queue, limit| queue.len as usize >= limit;
        if let Some(queue) = self
            .of_eid(eid)
            .filter(|queue| is_full(queue, self.limits.trees_per_eid))
        {
            return Some(Full::OfSome(oldest(queue, Of::Eid)));
        }
        let of_network = self.of_network.get(&network).copied();
        if let Some(queue) = of_network.filter(|queue| is_full(queue, self.limits.trees_per_network)) {
            return Some(Full::OfSome(oldest(queue, Of::Network)));
        }
        is_full(&self.all, self.limits.trees).then(|| Full::OfAll(oldest(self.all, Of::All)))
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
        assert!(census.members.0.iter().all(Option::is_none) && census.all.is_empty());
        assert!(census.of_eid.is_empty() && census.of_network.is_empty());
        assert!(census.ranked.is_empty() && census.budgets.is_empty());
    }

    #[test]
    fn a_tree_is_small() {
        // Beside this: four bytes and a half for each place in the table of EIDs, half of which are taken at least.
        assert!(size_of::<Option<Member>>() <= 80, "{}", size_of::<Option<Member>>());
        assert!(size_of::<Queue>() <= 12);
    }

    #[test]
    fn queues_keep_their_order_whoever_leaves() {
        let mut census = Census::new(PeerLimits {
            trees: 0,
            trees_per_eid: 0,
            trees_per_network: 0,
            unheard: 0,
        });
        // What is to be found, in the order in which it was entered: slot, EID, address.
        let mut model: Vec<(u32, u8, u8)> = Vec::new();
        let mut draws = 1_u32;
        for _ in 0..4000 {
            draws = draws.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let [_, index, n, address] = draws.to_be_bytes();
            let (index, n, address) = (u32::from(index % 64), n % 5, address % 3);
            model.retain(|(slot, ..)| *slot != index);
            if draws % 7 < 4 {
                census.enter(index, eid(n), from(address));
                model.push((index, n, address));
            } else {
                census.leave(index);
            }
            let slots = |is_wanted: &dyn Fn(&(u32, u8, u8)) -> bool| -> Vec<u32> {
                model.iter().filter(|tree| is_wanted(tree)).map(|tree| tree.0).collect()
            };
            let of_eid = slots(&|tree| tree.1 == n);
            let others: Vec<u32> = of_eid.iter().copied().filter(|slot| *slot != index).collect();
            assert_eq!(census.newest_of(&eid(n), index), others.last().copied());
            let full = census.full(&eid(n), from(address));
            if of_eid.is_empty() {
                assert!(census.of_eid(&eid(n)).is_none());
            } else {
                assert_eq!(full, Some(Full::OfSome(of_eid)));
            }
            let of_network = slots(&|tree| tree.2 == address);
            let queue = census.of_network.get(&from(address)).copied().unwrap_or_default();
            let found: Vec<u32> = queue.slots(&census.members, Of::Network).collect();
            assert_eq!((found, queue.len as usize), (of_network.clone(), of_network.len()));
            let all: Vec<u32> = census.all.slots(&census.members, Of::All).collect();
            assert_eq!(all, slots(&|_| true));
            let lens = [0, 1, 2].map(|address| slots(&|tree| tree.2 == address).len());
            let ranked = (0..).zip(lens).filter(|(_, len)| *len > 0);
            let ranked: BTreeSet<(u32, Network)> = ranked.map(|(n, len)| (len as u32, from(n))).collect();
            assert_eq!(census.ranked, ranked);
            assert_eq!(census.budgets.len(), ranked.len());
        }
    }
}
