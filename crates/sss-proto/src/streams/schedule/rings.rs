//! The rings of the scheduler: entries in lists that are closed to rings, and which of them is at its front.

use slab::Slab;

use crate::streams::node::NONE;

/// The level at which a stream's own data competes with its children.
const OWN_LEVEL: i8 = 0;
/// How many levels a set of rings that nobody uses keeps space for.
const KEPT_LEVELS: usize = 8;
/// How many such sets are kept.
const KEPT: usize = 64;

/// What an entry stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// The data of the stream whose rings these are.
    Own,
    /// The subtree of a child.
    Child(u32),
}

/// A place in a ring.
#[derive(Debug)]
struct Entry {
    who: Who,
    prev: u32,
    next: u32,
    /// Bytes that may still be sent before the next entry's turn comes.
    deficit: i32,
    level: i8,
}

/// The entries of one level.
#[derive(Debug)]
struct Ring {
    level: i8,
    /// The entry whose turn it is.
    head: u32,
}

/// The rings of one stream.
#[derive(Debug)]
struct Interior {
    /// None is empty. In ascending order of their levels.
    rings: Vec<Ring>,
    /// The entry of the stream's own data.
    own: Seat,
}

/// The entry of a stream in a ring; without one, how many bytes it has sent beyond its share.
#[derive(Clone, Copy, Debug)]
pub(in crate::streams) struct Seat(i32);

impl Seat {
    /// No entry, and no debt.
    pub(in crate::streams) const NONE: Self = Self(-1);

    fn taken(entry: u32) -> Self {
        i32::try_from(entry).map_or(Self::NONE, Self)
    }

    fn left(deficit: i32) -> Self {
        Self(deficit.min(0).saturating_sub(1))
    }

    fn entry(self) -> Option<u32> {
        u32::try_from(self.0).ok()
    }

    /// Whether there is an entry.
    pub(super) fn is_taken(self) -> bool {
        self.0 >= 0
    }

    /// The deficit with which an entry begins.
    fn deficit(self, quantum: i32) -> i32 {
        quantum.saturating_add(self.0.min(-1) + 1)
    }
}

/// All rings of a tree. Interiors and entries are named by their slots.
#[derive(Debug, Default)]
pub(super) struct Rings {
    interiors: Slab<Interior>,
    entries: Slab<Entry>,
    spare: Vec<Vec<Ring>>,
    #[cfg(test)]
    pub(super) steps: u64,
}

impl Rings {
    /// Counts what takes time.
    #[inline]
    pub(super) fn step(&mut self) {
        #[cfg(test)]
        {
            self.steps += 1;
        }
    }

    /// A set of rings, without any yet.
    pub(super) fn open(&mut self) -> u32 {
        let rings = self.spare.pop().unwrap_or_default();
        slot(self.interiors.insert(Interior { rings, own: Seat::NONE }))
    }

    /// Gives up a set of rings that has no entries.
    pub(super) fn close(&mut self, interior: u32) {
        let Some(mut closed) = self.interiors.try_remove(interior as usize) else {
            return;
        };
        debug_assert!(closed.rings.is_empty(), "rings with entries are closed");
        if self.spare.len() < KEPT && closed.rings.capacity() <= KEPT_LEVELS {
            closed.rings.clear();
            self.spare.push(closed.rings);
        }
    }

    /// Enters a stream's own data in its rings.
    pub(super) fn enter_own(&mut self, interior: u32, quantum: i32) {
        let before = self.interiors.get(interior as usize).map_or(Seat::NONE, |i| i.own);
        let own = self.enter(interior, (Who::Own, OWN_LEVEL), before.deficit(quantum));
        self.set_own(interior, own);
    }

    /// Removes a stream's own data from its rings, if it is there.
    pub(super) fn leave_own(&mut self, interior: u32) {
        let before = self.interiors.get(interior as usize).map_or(Seat::NONE, |i| i.own);
        let own = self.leave(interior, before);
        self.set_own(interior, own);
    }

    fn set_own(&mut self, interior: u32, own: Seat) {
        if let Some(interior) = self.interiors.get_mut(interior as usize) {
            interior.own = own;
        }
    }

    /// Enters a child, which `seat` tells of, in the ring of its level. Takes time in the logarithm of the number of levels.
    pub(super) fn enter_child(&mut self, interior: u32, (child, level): (u32, i8), seat: Seat, quantum: i32) -> Seat {
        self.enter(interior, (Who::Child(child), level), seat.deficit(quantum))
    }

    /// Appends an entry to the ring of its level.
    fn enter(&mut self, interior: u32, (who, level): (Who, i8), deficit: i32) -> Seat {
        self.step();
        let id = slot(self.entries.vacant_key());
        self.entries.insert(Entry {
            who,
            prev: id,
            next: id,
            deficit,
            level,
        });
        let Some(interior) = self.interiors.get_mut(interior as usize) else {
            return Seat::NONE;
        };
        match interior.rings.binary_search_by_key(&level, |r| r.level) {
            Ok(at) => {
                let head = interior.rings.get(at).map_or(id, |r| r.head);
                self.link(id, head);
            }
            Err(at) => interior.rings.insert(at, Ring { level, head: id }),
        }
        Seat::taken(id)
    }

    /// Links an entry in before `head`, so that its turn comes last.
    fn link(&mut self, id: u32, head: u32) {
        let Some(first) = self.entries.get_mut(head as usize) else {
            return;
        };
        let last = std::mem::replace(&mut first.prev, id);
        if let Some(last) = self.entries.get_mut(last as usize) {
            last.next = id;
        }
        if let Some(entry) = self.entries.get_mut(id as usize) {
            entry.prev = last;
            entry.next = head;
        }
    }

    /// Removes an entry, if there is one. What is left of its deficit is lost; what it owes is kept in its seat.
    pub(super) fn leave(&mut self, interior: u32, seat: Seat) -> Seat {
        self.step();
        let Some(id) = seat.entry() else {
            return seat;
        };
        let Some(entry) = self.entries.try_remove(id as usize) else {
            return Seat::NONE;
        };
        if let Some(prev) = self.entries.get_mut(entry.prev as usize) {
            prev.next = entry.next;
        }
        if let Some(next) = self.entries.get_mut(entry.next as usize) {
            next.prev = entry.prev;
        }
        if let Some(interior) = self.interiors.get_mut(interior as usize)
            && let Ok(at) = interior.rings.binary_search_by_key(&entry.level, |r| r.level)
        {
            if entry.next == id {
                interior.rings.remove(at);
            } else if let Some(ring) = interior.rings.get_mut(at)
                && ring.head == id
            {
                ring.head = entry.next;
            }
        }
        Seat::left(entry.deficit)
    }

    /// Whether there is no entry but perhaps the stream's own.
    pub(super) fn is_childless(&self, interior: u32) -> bool {
        let Some(Interior { rings, own }) = self.interiors.get(interior as usize) else {
            return true;
        };
        match &rings[..] {
            [] => true,
            [ring] => {
                own.entry() == Some(ring.head)
                    && self
                        .entries
                        .get(ring.head as usize)
                        .is_some_and(|e| e.next == ring.head)
            }
            _ => false,
        }
    }

    /// Whose turn it is: in the highest level, the first with a positive deficit. Those before it get a quantum each, and go
    /// to the end.
    pub(super) fn front(&mut self, interior: u32, quantum: i32) -> Option<Who> {
        loop {
            self.step();
            let ring = self.interiors.get_mut(interior as usize)?.rings.last_mut()?;
            let entry = self.entries.get_mut(ring.head as usize)?;
            if entry.deficit > 0 {
                return Some(entry.who);
            }
            entry.deficit = entry.deficit.saturating_add(quantum);
            ring.head = entry.next;
        }
    }

    /// An entry has sent so many bytes.
    pub(super) fn spend(&mut self, seat: Seat, bytes: i32) {
        self.step();
        if let Some(entry) = seat.entry().and_then(|id| self.entries.get_mut(id as usize)) {
            entry.deficit = entry.deficit.saturating_sub(bytes);
        }
    }

    /// A stream's own data has sent so many bytes.
    pub(super) fn spend_own(&mut self, interior: u32, bytes: i32) {
        if let Some(interior) = self.interiors.get(interior as usize) {
            self.spend(interior.own, bytes);
        }
    }
}

#[cfg(test)]
impl Rings {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.interiors.is_empty()
    }
}

/// There are not more entries than streams, whose slots have 32 bits.
fn slot(slot: usize) -> u32 {
    u32::try_from(slot).unwrap_or(NONE)
}
