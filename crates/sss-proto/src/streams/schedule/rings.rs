//! The rings of the scheduler: entries in lists that are closed to rings, and which of them is at its front.

use slab::Slab;

use crate::streams::tree::index::NONE;

/// The level at which a stream's own data competes with its children.
const OWN_LEVEL: i8 = 0;
/// The number of levels a set of rings that nobody uses keeps space for.
const KEPT_LEVELS: usize = 8;
/// The number of such sets that are kept.
const KEPT: usize = 64;

/// Streams below one another of which each but the lowest has only the next one below it that has something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) top: u32,
    pub(super) bottom: u32,
}

/// Owner of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// The data of the stream, in this slot, whose rings these are.
    Own(u32),
    /// The subtree of a child, which is the uppermost stream of the chain.
    Chain(Chain),
}

/// A place in a ring.
#[derive(Debug)]
struct Entry {
    who: Who,
    prev: u32,
    next: u32,
    /// Bytes that may still be sent before others have got as many.
    deficit: i32,
    /// Bytes that were sent in this turn.
    turn: i32,
    level: i8,
    /// The rings it is in; that of the trunk is in none.
    home: Option<u32>,
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
    own: Slot,
    /// The entry of the chain that ends at the stream.
    up: Slot,
}

/// A slot: of the entry of the chain that a stream is on, or of a stream's rings. Without one, how many bytes were sent
/// beyond a share: by the stream; or by what competes alone below it, when that had a competitor last.
#[derive(Clone, Copy, Debug)]
pub(in crate::streams) struct Slot(i32);

impl Slot {
    /// No entry, and no debt.
    pub(in crate::streams) const NONE: Self = Self(-1);

    pub(super) fn taken(slot: u32) -> Self {
        i32::try_from(slot).map_or(Self::NONE, Self)
    }

    fn left(deficit: i32) -> Self {
        Self(deficit.min(0).saturating_sub(1))
    }

    pub(super) fn index(self) -> Option<u32> {
        u32::try_from(self.0).ok()
    }

    /// Returns whether there is a slot.
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
    /// Returns whether nothing has anything to send.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.interiors.is_empty()
    }

    /// Gives back spare memory.
    pub(super) fn rest(&mut self) {
        if self.is_empty() {
            self.interiors = Slab::new();
            self.entries = Slab::new();
        }
        self.spare = Vec::new();
    }

    /// Counts what takes time.
    #[inline]
    pub(super) fn step(&mut self) {
        #[cfg(test)]
        {
            self.steps += 1;
        }
    }

    /// A set of rings, without any yet, of a stream at which the chain of the entry `up` ends.
    pub(super) fn open(&mut self, up: Slot) -> u32 {
        let rings = self.spare.pop().unwrap_or_default();
        let own = Slot::NONE;
        slot(self.interiors.insert(Interior { rings, own, up }))
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

    /// The chain that ends at the stream of these rings is in another entry now.
    pub(super) fn set_up(&mut self, interior: u32, up: Slot) {
        if let Some(interior) = self.interiors.get_mut(interior as usize) {
            interior.up = up;
        }
    }

    /// Enters a stream's own data in its rings.
    pub(super) fn enter_own(&mut self, interior: u32, quantum: i32) {
        let Some(Interior { own, up, .. }) = self.interiors.get(interior as usize) else {
            return;
        };
        let owner = up.index().and_then(|up| self.bottom(up)).unwrap_or(NONE);
        let own = self.enter(interior, (Who::Own(owner), OWN_LEVEL), own.deficit(quantum));
        self.set_own(interior, Slot::taken(own));
    }

    /// Removes a stream's own data from its rings, if it is there.
    pub(super) fn leave_own(&mut self, interior: u32) {
        let before = self.interiors.get(interior as usize).map_or(Slot::NONE, |i| i.own);
        if let Some((_, own)) = self.remove(before) {
            self.set_own(interior, own);
        }
    }

    fn set_own(&mut self, interior: u32, own: Slot) {
        if let Some(interior) = self.interiors.get_mut(interior as usize) {
            interior.own = own;
        }
    }

    /// Enters a chain, of whose uppermost stream `slot` tells what it owes, in the ring of its level. Takes time in the
    /// logarithm of the number of levels.
    pub(super) fn enter_chain(&mut self, interior: u32, (chain, level): (Chain, i8), slot: Slot, quantum: i32) -> u32 {
        self.enter(interior, (Who::Chain(chain), level), slot.deficit(quantum))
    }

    /// An entry that is in no ring.
    pub(super) fn apart(&mut self, chain: Chain) -> u32 {
        let id = slot(self.entries.vacant_key());
        slot(self.entries.insert(Entry {
            who: Who::Chain(chain),
            prev: id,
            next: id,
            deficit: 0,
            turn: 0,
            level: OWN_LEVEL,
            home: None,
        }))
    }

    /// Appends an entry to the ring of its level.
    fn enter(&mut self, interior: u32, (who, level): (Who, i8), deficit: i32) -> u32 {
        self.step();
        let id = slot(self.entries.vacant_key());
        self.entries.insert(Entry {
            who,
            prev: id,
            next: id,
            deficit,
            turn: 0,
            level,
            home: Some(interior),
        });
        self.append(interior, id, level);
        id
    }

    fn append(&mut self, interior: u32, id: u32, level: i8) {
        let Some(interior) = self.interiors.get_mut(interior as usize) else {
            return;
        };
        match interior.rings.binary_search_by_key(&level, |r| r.level) {
            Ok(at) => {
                let head = interior.rings.get(at).map_or(id, |r| r.head);
                self.link(id, head);
            }
            Err(at) => interior.rings.insert(at, Ring { level, head: id }),
        }
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

    /// Takes an entry out of its ring.
    fn unlink(&mut self, id: u32) {
        let Some(Entry {
            prev,
            next,
            level,
            home,
            ..
        }) = self.entries.get(id as usize)
        else {
            return;
        };
        let (prev, next, level, home) = (*prev, *next, *level, *home);
        if let Some(prev) = self.entries.get_mut(prev as usize) {
            prev.next = next;
        }
        if let Some(next) = self.entries.get_mut(next as usize) {
            next.prev = prev;
        }
        if let Some(interior) = home.and_then(|home| self.interiors.get_mut(home as usize))
            && let Ok(at) = interior.rings.binary_search_by_key(&level, |r| r.level)
        {
            if next == id {
                interior.rings.remove(at);
            } else if let Some(ring) = interior.rings.get_mut(at)
                && ring.head == id
            {
                ring.head = next;
            }
        }
    }

    /// Removes an entry, if there is one; returns the chain that it stands for, of one stream if it is that stream's
    /// own data, and the slot that is left. What is left of its deficit is lost; what it owes is kept in the slot.
    pub(super) fn remove(&mut self, slot: Slot) -> Option<(Chain, Slot)> {
        self.step();
        let id = slot.index()?;
        self.unlink(id);
        let entry = self.entries.try_remove(id as usize)?;
        let debt = entry.home.map_or(Slot::NONE, |_| Slot::left(entry.deficit));
        let chain = match entry.who {
            Who::Chain(chain) => chain,
            Who::Own(owner) => Chain {
                top: owner,
                bottom: owner,
            },
        };
        Some((chain, debt))
    }

    /// Moves an entry to the ring of another level, if it stands for the subtree of this stream beside others.
    pub(super) fn set_level(&mut self, slot: Slot, (stream, level): (u32, i8), quantum: i32) {
        let Some(id) = slot.index() else {
            return;
        };
        let entry = self.entries.get(id as usize);
        let Some((Who::Chain(chain), Some(home))) = entry.map(|e| (e.who, e.home)) else {
            return;
        };
        if chain.top != stream {
            return;
        }
        self.step();
        self.unlink(id);
        if let Some(entry) = self.entries.get_mut(id as usize) {
            (entry.deficit, entry.turn) = (Slot::left(entry.deficit).deficit(quantum), 0);
            (entry.prev, entry.next, entry.level) = (id, id, level);
        }
        self.append(home, id, level);
    }

    /// The only entry of a set of rings, if it has no more.
    pub(super) fn only(&self, interior: u32) -> Option<Slot> {
        match self.interiors.get(interior as usize)?.rings[..] {
            [Ring { head, .. }] => {
                let is_alone = self.entries.get(head as usize)?.next == head;
                is_alone.then_some(Slot::taken(head))
            }
            _ => None,
        }
    }

    /// The stream at which the chain of an entry ends.
    pub(super) fn bottom(&self, entry: u32) -> Option<u32> {
        match self.entries.get(entry as usize)?.who {
            Who::Chain(chain) => Some(chain.bottom),
            Who::Own(owner) => Some(owner),
        }
    }

    /// Lets the chain of an entry end at another stream; returns where it ended before.
    pub(super) fn end_at(&mut self, slot: Slot, bottom: u32) -> Option<u32> {
        match &mut self.entries.get_mut(slot.index()? as usize)?.who {
            Who::Chain(chain) => Some(std::mem::replace(&mut chain.bottom, bottom)),
            Who::Own(_) => None,
        }
    }

    /// Returns whose turn it is: in the highest level, the first with a positive deficit whose turn is not yet as long
    /// as a quantum. Those before it go to the end, and get a quantum each if they have nothing left. What one has left
    /// of a time when turns were longer, it sends in turns as short as all others'.
    pub(super) fn front(&mut self, interior: u32, quantum: i32) -> Option<Who> {
        loop {
            self.step();
            let ring = self.interiors.get_mut(interior as usize)?.rings.last_mut()?;
            let entry = self.entries.get_mut(ring.head as usize)?;
            if entry.deficit <= 0 {
                entry.deficit = entry.deficit.saturating_add(quantum);
            } else if entry.turn < quantum {
                return Some(entry.who);
            }
            entry.turn = 0;
            ring.head = entry.next;
        }
    }

    /// The entry of a stream's own data in its rings.
    pub(super) fn own(&self, interior: u32) -> Option<Slot> {
        self.interiors.get(interior as usize).map(|i| i.own)
    }

    /// One of those at the highest level of some rings.
    pub(super) fn highest(&self, interior: u32) -> Option<Who> {
        let ring = self.interiors.get(interior as usize)?.rings.last()?;
        self.entries.get(ring.head as usize).map(|e| e.who)
    }

    /// The nearest competitor at a higher level of an entry, or of one whose part it is.
    pub(super) fn higher(&self, mut slot: Slot) -> Option<Who> {
        loop {
            let entry = self.entries.get(slot.index()? as usize)?;
            let home = entry.home?;
            let interior = self.interiors.get(home as usize)?;
            if interior.rings.last()?.level > entry.level {
                return self.highest(home);
            }
            slot = interior.up;
        }
    }

    /// An entry has sent so many bytes. Returns the entry of the chain above.
    pub(super) fn spend(&mut self, slot: Slot, bytes: i32) -> Option<Slot> {
        self.step();
        let entry = self.entries.get_mut(slot.index()? as usize)?;
        let home = entry.home?;
        entry.deficit = entry.deficit.saturating_sub(bytes);
        entry.turn = entry.turn.saturating_add(bytes);
        self.interiors.get(home as usize).map(|i| i.up)
    }

    /// A stream's own data has sent so many bytes.
    pub(super) fn spend_own(&mut self, interior: u32, bytes: i32) {
        if let Some(interior) = self.interiors.get(interior as usize) {
            self.spend(interior.own, bytes);
        }
    }
}

/// There are not more entries than streams, whose slots have 32 bits.
fn slot(slot: usize) -> u32 {
    u32::try_from(slot).unwrap_or(NONE)
}

#[cfg(test)]
impl Rings {
    /// Returns how much of what it takes a rest may give back.
    pub(crate) fn spare(&self) -> usize {
        self.interiors.capacity() + self.entries.capacity() + self.spare.capacity()
    }
}
