//! Which stream sends next (STR-22): deficit round robin (Shreedhar and Varghese, 1996) at each node of the tree.
//!
//! Each stream that has, or once had, children with something to send has a *ring* of those children, and of itself if it
//! has data of its own. Only streams with something to send are in rings. An entry may send as long as its
//! deficit is positive; then the deficit gains a quantum and the entry goes to the end. What is sent is
//! subtracted at every level up to the root. Entries that have nothing to send any more are dropped when they
//! come to the front.

use slab::Slab;

use super::node::{Flags, NONE, ROOT};
use super::queue::KeyQueue;
use super::table::Table;
use crate::ids::StreamKey;

/// The entry of a stream's own data in its ring.
const OWN: StreamKey = StreamKey {
    index: NONE,
    generation: 0,
};

/// The smallest quantum, in bytes.
const MIN_QUANTUM: usize = 1200;
/// The largest datagram is a little below.
const MAX_QUANTUM: usize = 1 << 16;

/// The ring of one stream. Levels of priority would choose among several rings here, the highest that is not empty.
#[derive(Debug, Default)]
struct Interior {
    ring: KeyQueue,
    own_deficit: i32,
}

/// The rings of a tree.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    interiors: Slab<Interior>,
    /// Streams with something to send.
    active: usize,
    quantum: i32,
    /// The way from the root to the stream picked last, without the stream itself.
    path: Vec<u32>,
}

/// What is at the front of a ring.
enum Front {
    Own,
    Child(u32),
    Nothing,
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
        if table[index].sched.interior != NONE {
            self.queue_own(table, index);
        }
        let mut at = index;
        while at != ROOT && !table[at].has(Flags::QUEUED) {
            let parent = table[at].place.parent;
            self.make_ring(table, parent);
            self.queue_child(table, parent, at);
            at = parent;
        }
    }

    /// A stream has nothing to send any more.
    pub(super) fn deactivate(&mut self, table: &mut Table, index: u32) {
        if table[index].take(Flags::ACTIVE) {
            self.active -= 1;
        }
    }

    /// A stream is retired.
    pub(super) fn forget(&mut self, table: &mut Table, index: u32) {
        self.deactivate(table, index);
        let interior = std::mem::replace(&mut table[index].sched.interior, NONE);
        self.interiors.try_remove(interior as usize);
    }

    fn make_ring(&mut self, table: &mut Table, index: u32) {
        if table[index].sched.interior == NONE {
            let slot = self.interiors.insert(Interior::default());
            table[index].sched.interior = u32::try_from(slot).unwrap_or(NONE);
            if table[index].has(Flags::ACTIVE) {
                self.queue_own(table, index);
            }
        }
    }

    fn queue_own(&mut self, table: &mut Table, index: u32) {
        if !table[index].has(Flags::OWN_QUEUED) {
            table[index].set(Flags::OWN_QUEUED);
            self.push(table, index, OWN);
        }
    }

    fn queue_child(&mut self, table: &mut Table, parent: u32, child: u32) {
        table[child].set(Flags::QUEUED);
        let key = table.key(child);
        self.push(table, parent, key);
    }

    fn push(&mut self, table: &Table, index: u32, entry: StreamKey) {
        if let Some(interior) = self.interiors.get_mut(table[index].sched.interior as usize) {
            interior.ring.push(entry, |k| k == OWN || table.find(k).is_some());
        }
    }

    /// The stream whose turn it is.
    pub(super) fn pick(&mut self, table: &mut Table) -> Option<u32> {
        while self.active > 0 {
            if let Some(index) = self.descend(table) {
                return Some(index);
            }
        }
        None
    }

    /// Goes down from the root along the rings. `None` if that ended at a stream that has nothing to send, which
    /// has then been taken out of its parent's ring.
    fn descend(&mut self, table: &mut Table) -> Option<u32> {
        self.path.clear();
        let mut at = ROOT;
        loop {
            match self.front(table, at) {
                Front::Own => return Some(at),
                Front::Child(child) => {
                    self.path.push(at);
                    at = child;
                }
                Front::Nothing => break,
            }
        }
        match self.path.last() {
            Some(parent) => {
                let slot = table[*parent].sched.interior as usize;
                if let Some(interior) = self.interiors.get_mut(slot) {
                    interior.ring.pop();
                }
                let node = &mut table[at];
                node.clear(Flags::QUEUED);
                node.sched.deficit = node.sched.deficit.min(0);
            }
            None => {
                debug_assert!(self.active == 0, "an active stream is in no ring");
                self.active = 0;
            }
        }
        None
    }

    fn front(&mut self, table: &mut Table, index: u32) -> Front {
        let Some(interior) = self.interiors.get_mut(table[index].sched.interior as usize) else {
            return if table[index].has(Flags::ACTIVE) {
                Front::Own
            } else {
                Front::Nothing
            };
        };
        while let Some(entry) = interior.ring.front() {
            if entry == OWN {
                if !table[index].has(Flags::ACTIVE) {
                    table[index].clear(Flags::OWN_QUEUED);
                    interior.own_deficit = interior.own_deficit.min(0);
                    interior.ring.pop();
                } else if interior.own_deficit > 0 {
                    return Front::Own;
                } else {
                    interior.own_deficit += self.quantum;
                    interior.ring.rotate();
                }
            } else if let Some(child) = table.find(entry) {
                let deficit = &mut table[child].sched.deficit;
                if *deficit > 0 {
                    return Front::Child(child);
                }
                *deficit += self.quantum;
                interior.ring.rotate();
            } else {
                interior.ring.pop();
            }
        }
        Front::Nothing
    }

    /// The stream picked last has sent `bytes`.
    pub(super) fn charge(&mut self, table: &mut Table, index: u32, bytes: usize) {
        let bytes = bytes as i32;
        if let Some(interior) = self.interiors.get_mut(table[index].sched.interior as usize) {
            interior.own_deficit -= bytes;
        }
        table[index].sched.deficit -= bytes;
        for at in self.path.iter().skip(1) {
            table[*at].sched.deficit -= bytes;
        }
    }
}
