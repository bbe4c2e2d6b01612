//! Datagrams with a deadline, in the order in which those of one stream and level are sent: earliest deadline first
//! (Liu and Layland, 1973).

use std::collections::BTreeSet;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::streams::tree::node::Place;
use crate::time::Instant;

/// The deadlines of a tree's datagrams. O(log n) for each change; nothing is kept for datagrams without one.
#[derive(Debug, Default)]
pub(super) struct Urgent {
    /// By slot. Never iterated.
    deadlines: HashMap<u32, Instant, FixedState>,
    /// Those that have something to send: stream, level, deadline, slot.
    waiting: BTreeSet<(u32, i8, Instant, u32)>,
}

impl Urgent {
    pub(super) fn set(&mut self, index: u32, at: Instant) {
        self.deadlines.insert(index, at);
    }

    pub(super) fn deadline(&self, index: u32) -> Option<Instant> {
        // Most hosts have none: then nothing is hashed.
        if self.deadlines.is_empty() {
            return None;
        }
        self.deadlines.get(&index).copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.deadlines.is_empty()
    }

    /// A datagram has something to send. Its stream and level stay as they are as long as it is a node of the tree.
    pub(super) fn enter(&mut self, place: &Place, index: u32) {
        if let Some(at) = self.deadline(index) {
            self.waiting.insert((place.parent, place.level, at, index));
        }
    }

    /// A datagram has nothing to send any more.
    pub(super) fn leave(&mut self, place: &Place, index: u32) {
        if let Some(at) = self.deadline(index) {
            self.waiting.remove(&(place.parent, place.level, at, index));
        }
    }

    pub(super) fn forget(&mut self, index: u32) {
        if !self.deadlines.is_empty() {
            self.deadlines.remove(&index);
        }
    }

    /// Returns whether another datagram of the same stream and level waits whose deadline is later.
    pub(super) fn has_later(&self, place: &Place, index: u32) -> bool {
        let Some(at) = self.deadline(index) else {
            return false;
        };
        let later = (place.parent, place.level, at, u32::MAX)..;
        let next = self.waiting.range(later).next();
        next.is_some_and(|(parent, level, ..)| (*parent, *level) == (place.parent, place.level))
    }

    /// The datagram that is sent in the turn of this one.
    pub(super) fn before(&self, place: &Place, index: u32) -> u32 {
        if self.deadline(index).is_none() {
            return index;
        }
        let all = (place.parent, place.level, Instant::default(), 0)..;
        let first = self.waiting.range(all).next();
        first.map_or(index, |(_, _, _, first)| *first)
    }
}
