//! Entries of the datagrams of a tree's streams.

use std::collections::BTreeSet;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::deadlines::Deadlines;
use super::mailbox::Debt;
use super::options::DatagramStats;
use crate::streams::tree::queue::KeyQueue;
use crate::time::Instant;

/// A datagram of this host that is a node of the tree.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) id: u64,
    pub(super) size: u64,
    /// Part of it that counts as queued on its stream.
    pub(super) queued: u64,
    pub(super) is_reliable: bool,
    pub(super) is_tracked: bool,
    pub(super) is_settled: bool,
    /// Its deadline is so near that nothing more of it is sent.
    pub(super) is_overdue: bool,
    /// It is given up then.
    pub(super) deadline: Option<Instant>,
}

/// A datagram of the peer that is a node of the tree.
#[derive(Debug)]
pub(super) struct Arriving {
    pub(super) size: u64,
    /// True if it may still arrive whole: its parent counts it.
    pub(super) is_coming: bool,
    /// Until it has arrived whole.
    pub(super) debt: Option<Debt>,
}

impl Arriving {
    /// The size of one that has not arrived whole, and what it owes.
    pub(super) fn owing(&mut self) -> Option<(u64, &mut Debt)> {
        let size = self.size;
        self.debt.as_mut().map(|debt| (size, debt))
    }
}

/// Entries of the datagrams that there are, and counters of all that there were.
#[derive(Debug)]
pub(super) struct Books {
    /// Datagrams of this host that are nodes of the tree, by slot. Never iterated.
    pub(super) sending: HashMap<u32, Message, FixedState>,
    /// Datagrams that left without state and whose fate was asked for.
    pub(super) flying: BTreeSet<u64>,
    /// Datagrams of the peer that are nodes of the tree, by slot. Never iterated.
    pub(super) arriving: HashMap<u32, Arriving, FixedState>,
    /// Those of them that wait for the budget.
    pub(super) waiting: KeyQueue,
    pub(super) deadlines: Deadlines,
    pub(super) stats: DatagramStats,
}

impl Books {
    /// Empty ones.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            sending: HashMap::with_hasher(FixedState::with_seed(seed)),
            flying: BTreeSet::new(),
            arriving: HashMap::with_hasher(FixedState::with_seed(seed)),
            waiting: KeyQueue::default(),
            deadlines: Deadlines::default(),
            stats: DatagramStats::default(),
        }
    }

    /// Gives back spare memory, of each kind of which there is none.
    pub(super) fn rest(&mut self) {
        if self.sending.is_empty() {
            self.sending.shrink_to_fit();
            self.deadlines = Deadlines::default();
        }
        if self.arriving.is_empty() {
            self.arriving.shrink_to_fit();
            self.waiting = KeyQueue::default();
        }
    }

    /// Returns whether this host has none to send.
    pub(super) fn has_none_to_send(&self) -> bool {
        self.sending.is_empty()
    }
}

#[cfg(test)]
impl Books {
    /// Returns for how many there is room in memory.
    pub(super) fn room(&self) -> usize {
        let queues = self.deadlines.room() + self.waiting.spare();
        self.sending.capacity() + self.arriving.capacity() + queues
    }
}
