//! The names that streams have on the channel: LSID to stream and back.
//!
//! A stream is named by who opened it and its ordinal among the streams that were opened by the same host. LSIDs
//! follow from that and from the host's role on the channel (STR-2), so that streams that were announced on a channel
//! which came to nothing keep their ordinals on the next.
//!
//! The map holds slots alone: the names are in the streams' nodes.

use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::error::ProtocolError;
use crate::role::Role;
use crate::streams::tree::node::{Node, Opener};
use crate::streams::tree::opened::Opened;
use crate::streams::tree::table::Table;

/// The map gives memory back when it has room for this many times what it holds ..
const SPARSE: usize = 8;
/// .. and for more than this.
const KEPT: usize = 4096;

/// Streams that are neighbours in the map.
const BLOCK: u64 = 16;

/// The streams of a peer by LSID.
#[derive(Debug)]
pub(crate) struct LsidMap {
    role: Option<Role>,
    slots: HashTable<u32>,
    hasher: FixedState,
    /// The ordinal of the next stream to be announced by this host.
    next: u64,
    opened: Opened,
}

/// Name of a stream: its opener, and its number among the streams of that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name {
    opener: Opener,
    ordinal: u64,
}

impl Name {
    fn new(opener: Opener, ordinal: u64) -> Self {
        Self { opener, ordinal }
    }

    fn of(node: &Node) -> Self {
        Self::new(node.place.opener, node.ordinal)
    }

    /// Streams that were opened one after another are neighbours in the map: what is new is in the processor's cache,
    /// however many old streams there are. The upper bits, which the map compares first, tell neighbours apart.
    fn hash(self, hasher: &FixedState) -> u64 {
        let (block, within) = (self.ordinal / BLOCK, self.ordinal % BLOCK);
        let hash = hasher.hash_one(block << 1 | u64::from(self.opener == Opener::Peer));
        (hash - hash % BLOCK + within) ^ within.rotate_right(7)
    }
}

/// Meaning of an LSID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The stream in a slot.
    Live(u32),
    /// A stream that was retired.
    Retired,
    /// No stream that was ever opened.
    Never,
}

impl LsidMap {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            role: None,
            slots: HashTable::new(),
            hasher: FixedState::with_seed(seed),
            next: 0,
            opened: Opened::default(),
        }
    }

    pub(crate) fn set_role(&mut self, role: Role) {
        self.role = Some(role);
    }

    pub(crate) fn has_role(&self) -> bool {
        self.role.is_some()
    }

    /// STR-2
    pub(crate) fn lsid(&self, opener: Opener, ordinal: u64) -> u64 {
        let is_odd = matches!(self.role, Some(Role::Initiator)) == (opener == Opener::Own);
        2 * ordinal + if is_odd { 1 } else { 2 }
    }

    /// Returns who opened the stream `lsid`, which is not 0, and as the how manieth.
    pub(crate) fn name(&self, lsid: u64) -> (Opener, u64) {
        let is_odd = lsid % 2 == 1;
        let is_own = is_odd == matches!(self.role, Some(Role::Initiator));
        let opener = if is_own { Opener::Own } else { Opener::Peer };
        (opener, (lsid.max(1) - 1) / 2)
    }

    /// Returns what an LSID names among the streams of `table`.
    pub(crate) fn find(&self, table: &Table, lsid: u64) -> Found {
        let (opener, ordinal) = self.name(lsid);
        let name = Name::new(opener, ordinal);
        let is_named = |slot: &u32| table.get(*slot).is_some_and(|node| Name::of(node) == name);
        if let Some(slot) = self.slots.find(name.hash(&self.hasher), is_named) {
            return Found::Live(*slot);
        }
        let was_opened = match opener {
            Opener::Own => ordinal < self.next,
            Opener::Peer => self.opened.contains(ordinal),
        };
        if was_opened { Found::Retired } else { Found::Never }
    }

    /// The ordinal of the next stream to be announced by this host.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// This host announces the stream in a slot, whose ordinal is [`Self::next`].
    pub(crate) fn announce(&mut self, table: &Table, slot: u32) {
        self.attach(table, slot);
        self.next += 1;
    }

    /// The peer has opened the stream with this ordinal, which is new (STR-10).
    pub(crate) fn note_opened(&mut self, ordinal: u64) -> Result<(), ProtocolError> {
        self.opened.insert(ordinal)
    }

    /// The stream in a slot has a name from now on.
    pub(crate) fn attach(&mut self, table: &Table, slot: u32) {
        let hasher = &self.hasher;
        let hash = |slot: &u32| table.get(*slot).map_or(0, |node| Name::of(node).hash(hasher));
        self.slots.insert_unique(hash(&slot), slot, hash);
    }

    /// Gives back spare memory, if nothing has a name.
    pub(crate) fn rest(&mut self) {
        if self.slots.is_empty() {
            self.slots = HashTable::new();
        }
    }

    /// A stream that was just taken out of its slot has no name any more.
    pub(crate) fn detach(&mut self, table: &Table, slot: u32, node: &Node) {
        let hasher = &self.hasher;
        if let Ok(entry) = self.slots.find_entry(Name::of(node).hash(hasher), |s| *s == slot) {
            entry.remove();
        }
        if self.slots.capacity() > KEPT.max(SPARSE * self.slots.len()) {
            let hash = |slot: &u32| table.get(*slot).map_or(0, |node| Name::of(node).hash(hasher));
            self.slots.shrink_to(2 * self.slots.len(), hash);
        }
    }
}

#[cfg(test)]
impl LsidMap {
    /// Bytes of memory that the map takes.
    pub(crate) fn memory(&self) -> usize {
        self.slots.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use sss_crypto::mac16;

    use super::*;

    // spec: STR-2
    #[test]
    fn lsids_follow_from_role_and_ordinal() {
        let mut a = LsidMap::new(1);
        for (role, own, peer) in [
            (Role::Initiator, [1, 3, 5], [2, 4, 6]),
            (Role::Responder, [2, 4, 6], [1, 3, 5]),
        ] {
            a.set_role(role);
            for ordinal in 0..3 {
                let i = ordinal as usize;
                assert_eq!(a.lsid(Opener::Own, ordinal), own[i]);
                assert_eq!(a.lsid(Opener::Peer, ordinal), peer[i]);
                assert_eq!(a.name(own[i]), (Opener::Own, ordinal));
                assert_eq!(a.name(peer[i]), (Opener::Peer, ordinal));
            }
        }
    }

    // Threat 35: a peer opens streams whose names fall into one place of the map.
    #[test]
    fn threat_35_names_that_collide_in_one_tree_do_not_in_another() {
        const PLACES: u64 = 1 << 12;
        let place = |seed: u64, block: u64| {
            let hasher = FixedState::with_seed(seed);
            Name::new(Opener::Peer, block * BLOCK).hash(&hasher) / BLOCK % PLACES
        };
        // As random as a host's own.
        let seed = |n: u64| {
            mac16(&[1; 32], &[&n.to_be_bytes()])
                .first_chunk()
                .map_or(0, |b| u64::from_be_bytes(*b))
        };
        let colliding: Vec<u64> = (0..400_000).filter(|block| place(seed(0), *block) == 7).collect();
        assert!(colliding.len() > 50, "{}", colliding.len());
        for n in 1..20 {
            let mut places: Vec<u64> = colliding.iter().map(|block| place(seed(n), *block)).collect();
            places.sort_unstable();
            places.dedup();
            assert!(
                places.len() > colliding.len() * 3 / 4,
                "{} of {}",
                places.len(),
                colliding.len()
            );
        }
    }

    #[test]
    fn retired_and_unknown_are_told_apart() {
        let (mut a, mut table) = (LsidMap::new(1), Table::default());
        a.set_role(Role::Responder);
        let slot = insert(&mut table, Opener::Own, a.next());
        a.announce(&table, slot);
        assert_eq!(a.find(&table, 2), Found::Live(slot));
        let node = table.remove(slot).unwrap();
        a.detach(&table, slot, &node);
        assert_eq!(a.find(&table, 2), Found::Retired);
        assert_eq!(a.find(&table, 4), Found::Never);
        a.note_opened(2).unwrap();
        assert_eq!((a.find(&table, 5), a.find(&table, 3)), (Found::Retired, Found::Never));
    }

    fn insert(table: &mut Table, opener: Opener, ordinal: u64) -> u32 {
        let mut node = Node::new(0, 1, opener, None);
        node.ordinal = ordinal;
        table.insert(node).index
    }

    #[test]
    fn every_stream_is_found_and_memory_is_given_back() {
        let (mut a, mut table) = (LsidMap::new(3), Table::default());
        a.set_role(Role::Initiator);
        let slots: Vec<u32> = (0..100_000)
            .map(|n| {
                let opener = if n % 3 == 0 { Opener::Peer } else { Opener::Own };
                let slot = insert(&mut table, opener, n);
                a.attach(&table, slot);
                slot
            })
            .collect();
        let check = |a: &LsidMap, table: &Table, slot: u32| {
            let node = &table[slot];
            let lsid = a.lsid(node.place.opener, node.ordinal);
            assert_eq!(a.find(table, lsid), Found::Live(slot));
        };
        slots.iter().for_each(|slot| check(&a, &table, *slot));
        assert!(a.memory() <= 100_000 * 10 + 64, "{}", a.memory());
        let (gone, kept): (Vec<u32>, Vec<u32>) = slots.into_iter().partition(|slot| slot % 1000 != 7);
        for slot in gone {
            let node = table.remove(slot).unwrap();
            a.detach(&table, slot, &node);
        }
        kept.iter().for_each(|slot| check(&a, &table, *slot));
        assert!(a.memory() < 100_000, "{}", a.memory());
    }
}
