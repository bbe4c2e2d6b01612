//! Which stream sends next (STR-22): at each node of the tree strictly by level, and within a level by deficit round robin
//! (Shreedhar and Varghese, 1996).
//!
//! A stream that has something to send, or below which there is such a stream, has an *entry* in one of its
//! parent's rings: that of its level. A stream with an entry of a child in its rings, and with data of its own, has an entry of its own
//! data there too, at level 0. Nothing else is in any ring, and a stream without children in its rings has no rings.
//!
//! An entry may send as long as its deficit is positive; then it gains a quantum and goes to the end. What
//! is sent is subtracted at every node up to the root. Frames are not cut to fit the deficit, so it may become negative.
//! An entry that leaves its ring loses what is left of its deficit, and takes along what it owes.
//!
//! Choosing takes a step for each node on the way down; entering and leaving take a step for each node that begins or ceases to
//! have something to send. Idle streams and siblings cost nothing.

mod rings;

use super::node::{Flags, NONE, ROOT};
use super::table::Table;
pub(super) use rings::Seat;
use rings::{Rings, Who};

/// The smallest quantum, in bytes.
const MIN_QUANTUM: usize = 1200;
/// The largest datagram is a little below.
const MAX_QUANTUM: usize = 1 << 16;

/// The scheduler of a tree.
#[derive(Debug)]
pub(super) struct Scheduler {
    rings: Rings,
    /// Streams with something to send.
    active: usize,
    quantum: i32,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self {
            rings: Rings::default(),
            active: 0,
            quantum: MIN_QUANTUM as i32,
        }
    }
}

impl Scheduler {
    /// Whether any stream has something to send.
    pub(super) fn has_active(&self) -> bool {
        self.active > 0
    }

    /// Sets what an entry may send in a round: at least one packet of the present size.
    pub(super) fn set_quantum(&mut self, packet: usize) {
        self.quantum = packet.clamp(MIN_QUANTUM, MAX_QUANTUM) as i32;
    }

    /// A stream has something to send.
    pub(super) fn activate(&mut self, table: &mut Table, index: u32) {
        if table[index].has(Flags::ACTIVE) {
            return;
        }
        table[index].set(Flags::ACTIVE);
        self.active += 1;
        let interior = table[index].sched.interior;
        if interior != NONE {
            self.rings.enter_own(interior, self.quantum);
            return;
        }
        let mut at = index;
        while at != ROOT && !table[at].sched.seat.is_taken() {
            let parent = table[at].place.parent;
            self.open_rings(table, parent);
            self.enter(table, at);
            at = parent;
        }
    }

    /// A stream is to have rings.
    fn open_rings(&mut self, table: &mut Table, index: u32) {
        if table[index].sched.interior != NONE {
            return;
        }
        let interior = self.rings.open();
        table[index].sched.interior = interior;
        if table[index].has(Flags::ACTIVE) {
            self.rings.enter_own(interior, self.quantum);
        }
    }

    /// A stream has nothing to send any more.
    pub(super) fn deactivate(&mut self, table: &mut Table, index: u32) {
        if !table[index].take(Flags::ACTIVE) {
            return;
        }
        self.active -= 1;
        let interior = table[index].sched.interior;
        if interior != NONE {
            self.rings.leave_own(interior);
            return;
        }
        let mut at = index;
        while at != ROOT && self.leave(table, at) {
            at = table[at].place.parent;
        }
    }

    /// Takes a stream out of its parent's rings. Returns whether there is nothing to send at or below the parent any more.
    fn leave(&mut self, table: &mut Table, index: u32) -> bool {
        let parent = table[index].place.parent;
        let interior = table[parent].sched.interior;
        let seat = &mut table[index].sched.seat;
        *seat = self.rings.leave(interior, *seat);
        if !self.rings.is_childless(interior) {
            return false;
        }
        self.rings.leave_own(interior);
        self.rings.close(interior);
        table[parent].sched.interior = NONE;
        !table[parent].has(Flags::ACTIVE)
    }

    /// Puts a stream into its parent's rings.
    fn enter(&mut self, table: &mut Table, index: u32) {
        let interior = table[table[index].place.parent].sched.interior;
        let node = &mut table[index];
        let child = (index, node.place.level);
        node.sched.seat = self.rings.enter_child(interior, child, node.sched.seat, self.quantum);
    }

    /// A stream competes at another level from now on (STR-23).
    pub(super) fn set_level(&mut self, table: &mut Table, index: u32, level: i8) {
        let before = std::mem::replace(&mut table[index].place.level, level);
        if level != before && table[index].sched.seat.is_taken() {
            let interior = table[table[index].place.parent].sched.interior;
            let seat = &mut table[index].sched.seat;
            *seat = self.rings.leave(interior, *seat);
            self.enter(table, index);
        }
    }

    /// A stream is retired. It has no children any more.
    pub(super) fn forget(&mut self, table: &mut Table, index: u32) {
        self.deactivate(table, index);
        debug_assert!(
            table[index].sched.interior == NONE,
            "a stream is retired before its children"
        );
    }

    /// The stream whose turn it is.
    pub(super) fn pick(&mut self, table: &Table) -> Option<u32> {
        let mut at = ROOT;
        loop {
            let interior = table[at].sched.interior;
            if interior == NONE {
                return table[at].has(Flags::ACTIVE).then_some(at);
            }
            match self.rings.front(interior, self.quantum)? {
                Who::Own => return Some(at),
                Who::Child(child) => at = child,
            }
        }
    }

    /// A stream has sent `bytes`.
    pub(super) fn charge(&mut self, table: &Table, index: u32, bytes: usize) {
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        self.rings.spend_own(table[index].sched.interior, bytes);
        let mut at = index;
        while at != ROOT {
            self.rings.spend(table[at].sched.seat, bytes);
            at = table[at].place.parent;
        }
    }
}

#[cfg(test)]
impl Scheduler {
    /// How many steps everything has taken so far.
    pub(super) fn steps(&self) -> u64 {
        self.rings.steps
    }
}

#[cfg(test)]
mod tests;
