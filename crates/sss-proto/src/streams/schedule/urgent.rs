//! Datagrams with a deadline, in the order in which those of one stream and level are sent: earliest deadline first
//! (Liu and Layland, 1973).

use std::collections::BTreeSet;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::rare::Rare;
use crate::streams::tree::node::Place;
use crate::time::Instant;

/// The deadlines of a tree's datagrams. O(log n) for each change; nothing is kept for datagrams without one.
#[derive(Debug, Default)]
pub(super) struct Urgent(Rare<Deadlines>);

/// The deadlines that there are.
#[derive(Debug, Default)]
struct Deadlines {
    /// By slot. Never iterated.
    deadlines: HashMap<u32, Instant, FixedState>,
    /// Those that have something to send: stream, level, deadline, slot.
    waiting: BTreeSet<(u32, i8, Instant, u32)>,
}

impl Urgent {
    pub(super) fn set(&mut self, index: u32, at: Instant) {
        self.0.make().deadlines.insert(index, at);
    }

    pub(super) fn deadline(&self, index: u32) -> Option<Instant> {
        // Most hosts have none: then nothing is hashed.
        let deadlines = &self.0.get()?.deadlines;
        if deadlines.is_empty() {
            return None;
        }
        deadlines.get(&index).copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.get().is_none_or(|urgent| urgent.deadlines.is_empty())
    }

    /// Gives back its memory, if there is none.
    pub(super) fn rest(&mut self) {
        self.0.rest(|urgent| urgent.deadlines.is_empty());
    }

    /// A datagram has something to send. Its stream and level stay as they are as long as it is a node of the tree.
    pub(super) fn enter(&mut self, place: &Place, index: u32) {
        if let Some(at) = self.deadline(index) {
            self.0.make().waiting.insert((place.parent, place.level, at, index));
        }
    }

    /// A datagram has nothing to send any more.
    pub(super) fn leave(&mut self, place: &Place, index: u32) {
        if let Some(at) = self.deadline(index)
            && let Some(urgent) = self.0.get_mut()
        {
            urgent.waiting.remove(&(place.parent, place.level, at, index));
        }
    }

    pub(super) fn forget(&mut self, index: u32) {
        if let Some(urgent) = self.0.get_mut()
            && !urgent.deadlines.is_empty()
        {
            urgent.deadlines.remove(&index);
        }
    }

    /// Returns whether another datagram of the same stream and level waits whose deadline is later.
    pub(super) fn has_later(&self, place: &Place, index: u32) -> bool {
        let (Some(at), Some(urgent)) = (self.deadline(index), self.0.get()) else {
            return false;
        };
        let later = (place.parent, place.level, at, u32::MAX)..;
        let next = urgent.waiting.range(later).next();
        next.is_some_and(|(parent, level, ..)| (*parent, *level) == (place.parent, place.level))
    }

    /// The datagram that is sent in the turn of this one.
    pub(super) fn before(&self, place: &Place, index: u32) -> u32 {
        let (Some(_), Some(urgent)) = (self.deadline(index), self.0.get()) else {
            return index;
        };
        let all = (place.parent, place.level, Instant::default(), 0)..;
        let first = urgent.waiting.range(all).next();
        first.map_or(index, |(_, _, _, first)| *first)
    }
}

#[cfg(test)]
impl Urgent {
    /// Returns how much of what it takes a rest may give back.
    pub(super) fn spare(&self) -> usize {
        usize::from(self.0.get().is_some())
    }
}
