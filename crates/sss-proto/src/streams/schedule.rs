//! Which stream sends next (STR-22): at each node of the tree strictly by level, and within a level by deficit round
//! robin (Shreedhar and Varghese, 1996).
//!
//! Where two or more compete, which are the stream's own data and the subtrees of children that have something to send,
//! the stream has *rings*, one for each level, with an *entry* for each competitor. Where only one competes there is
//! nothing to choose, and nothing is kept: an entry stands for a *chain*, from a child of the stream whose rings these
//! are down to the first stream that has rings itself or whose own data alone is to be sent. The chain from the root
//! down is the *trunk*, and is in no ring.
//!
//! An entry may send as long as its deficit is positive; then it gains a quantum and goes to the end. A quantum is a
//! packet, or more where a round of all who compete is over in a moment all the same (STR-80). What is sent is
//! subtracted at every node up to the root. Frames are not cut to fit the deficit, so it may become negative. An entry
//! that leaves its ring loses what is left of its deficit, and takes along what it owes.
//!
//! Datagrams with a deadline have their shares as all others, but the one of a stream and level whose deadline is first
//! has the turn of whichever comes (STR-78): it is complete sooner, and the others no later.
//!
//! Choosing takes a step for each stream with rings on the way down, however deep the tree is. When a stream is the
//! first or the last on its way to have something to send, a note is made at each stream up to the next that has rings.
//! Idle streams and siblings cost nothing.

mod rings;
mod urgent;

use super::tree::index::ROOT;
use super::tree::node::Flags;
use super::tree::table::Table;
use crate::channel::Outlook;
use crate::rare::Rare;
use crate::time::Instant;
pub(super) use rings::Slot;
use rings::{Chain, Rings, Who};
use urgent::Urgent;

/// The smallest quantum, in bytes.
const MIN_QUANTUM: usize = 1200;
/// The largest datagram is a little below.
const MAX_QUANTUM: usize = 1 << 16;

/// A turn to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// The stream that sends.
    pub(super) index: u32,
    /// The stream whose share it is.
    pub(super) of: u32,
}

/// The scheduler of a tree.
#[derive(Debug)]
pub(super) struct Scheduler {
    /// Those of streams that have something to send, and have had since the last rest.
    rings: Rare<Rings>,
    urgent: Urgent,
    /// The chain from the root down, while there is something to send.
    trunk: Option<u32>,
    /// Streams with something to send.
    active: usize,
    /// Bytes that each may send in a round, if that is more than a packet.
    share: u32,
    quantum: i32,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self {
            rings: Rare::new(),
            urgent: Urgent::default(),
            trunk: None,
            active: 0,
            share: 0,
            quantum: MIN_QUANTUM as i32,
        }
    }
}

impl Scheduler {
    /// Returns whether any stream has something to send.
    pub(super) fn has_active(&self) -> bool {
        self.active > 0
    }

    /// Gives back spare memory.
    pub(super) fn rest(&mut self) {
        if let Some(rings) = self.rings.get_mut() {
            rings.rest();
        }
        self.rings.rest(Rings::is_empty);
        self.urgent.rest();
    }

    /// Lets turns be long by what may leave `next`, where more than a packet waits for each of several, of what was
    /// never sent; else they are short. Returns what may leave if something has a deadline.
    pub(super) fn look_ahead(&mut self, unsent: u64, next: impl FnOnce() -> Outlook) -> Option<Outlook> {
        let is_much = self.active > 1 && unsent > (self.active * MIN_QUANTUM) as u64;
        let has_deadlines = self.has_deadlines();
        if !is_much && !has_deadlines {
            self.share = 0;
            return None;
        }
        let next = next();
        self.set_round(&next);
        has_deadlines.then_some(next)
    }

    /// Lets all who compete send together, in a round, what leaves in the time of a burst; or a packet each.
    fn set_round(&mut self, next: &Outlook) {
        self.share = u32::try_from(next.in_burst_time() / self.active.max(1)).unwrap_or(u32::MAX);
    }

    /// Sets what an entry may send in a round: at least one packet of the present size.
    pub(super) fn set_quantum(&mut self, packet: usize) {
        self.quantum = packet.max(self.share as usize).clamp(MIN_QUANTUM, MAX_QUANTUM) as i32;
    }

    /// A stream has something to send.
    pub(super) fn activate(&mut self, table: &mut Table, index: u32) {
        if table[index].has(Flags::ACTIVE) {
            return;
        }
        table[index].set(Flags::ACTIVE);
        self.active += 1;
        if table[index].is_datagram() {
            self.urgent.enter(&table[index].place, index);
        }
        if table[index].sched.slot.is_taken() {
            let interior = self.rings_of(table, index);
            self.rings.make().enter_own(interior, self.quantum);
        } else {
            self.begin_chain(table, index);
        }
    }

    /// A stream is the first to have something to send on its way up to the next that has rings, or is to have them.
    fn begin_chain(&mut self, table: &mut Table, bottom: u32) {
        let mut top = bottom;
        while top != ROOT && !table[table[top].place.parent].sched.slot.is_taken() {
            self.rings.make().step();
            top = table[top].place.parent;
        }
        let chain = Chain { top, bottom };
        let entry = if top == ROOT {
            let trunk = self.rings.make().apart(chain);
            self.trunk = Some(trunk);
            trunk
        } else {
            let interior = self.rings_of(table, table[top].place.parent);
            let slot = table[top].sched.slot;
            self.rings
                .make()
                .enter_chain(interior, (chain, table[top].place.level), slot, self.quantum)
        };
        let mut at = bottom;
        loop {
            let debt = std::mem::replace(&mut table[at].sched.slot, Slot::taken(entry));
            if at == top {
                break;
            }
            at = table[at].place.parent;
            table[at].sched.below = debt;
        }
    }

    /// The rings of a stream on a chain, which ends there if the stream had none: what competed alone so far gets an
    /// entry.
    fn rings_of(&mut self, table: &mut Table, index: u32) -> u32 {
        let sched = &mut table[index].sched;
        if let Some(interior) = sched.below.index() {
            return interior;
        }
        let upper = sched.slot;
        let interior = self.rings.make().open(upper);
        let debt = std::mem::replace(&mut sched.below, Slot::taken(interior));
        let bottom = self.rings.make().end_at(upper, index);
        match bottom {
            Some(bottom) if bottom != index => {
                let mut top = bottom;
                while table[top].place.parent != index {
                    top = table[top].place.parent;
                }
                let chain = Chain { top, bottom };
                let level = table[top].place.level;
                let entry = self
                    .rings
                    .make()
                    .enter_chain(interior, (chain, level), debt, self.quantum);
                self.name(table, chain, entry);
            }
            _ => self.rings.make().enter_own(interior, self.quantum),
        }
        interior
    }

    /// The streams of a chain are in another entry from now on.
    fn name(&mut self, table: &mut Table, chain: Chain, entry: u32) {
        if let Some(interior) = table[chain.bottom].sched.below.index() {
            self.rings.make().set_up(interior, Slot::taken(entry));
        }
        let mut at = chain.bottom;
        loop {
            self.rings.make().step();
            table[at].sched.slot = Slot::taken(entry);
            if at == chain.top {
                return;
            }
            at = table[at].place.parent;
        }
    }

    /// A stream has nothing to send any more.
    pub(super) fn deactivate(&mut self, table: &mut Table, index: u32) {
        if !table[index].take(Flags::ACTIVE) {
            return;
        }
        self.active -= 1;
        if table[index].is_datagram() {
            self.urgent.leave(&table[index].place, index);
        }
        if let Some(interior) = table[index].sched.below.index() {
            self.rings.make().leave_own(interior);
            self.join_if_alone(table, index);
        } else {
            self.end_chain(table, index);
        }
    }

    /// Nothing of a chain has anything to send any more.
    fn end_chain(&mut self, table: &mut Table, bottom: u32) {
        let Some((chain, debt)) = self.rings.make().remove(table[bottom].sched.slot) else {
            return;
        };
        let mut at = bottom;
        while at != chain.top {
            self.rings.make().step();
            let parent = table[at].place.parent;
            table[at].sched.slot = std::mem::replace(&mut table[parent].sched.below, Slot::NONE);
            at = parent;
        }
        table[at].sched.slot = debt;
        if at == ROOT {
            self.trunk = None;
        } else {
            self.join_if_alone(table, table[at].place.parent);
        }
    }

    /// If only one is left in the rings of a stream, it needs none: the chain above goes on to where that one ends.
    fn join_if_alone(&mut self, table: &mut Table, index: u32) {
        let Some(interior) = table[index].sched.below.index() else {
            return;
        };
        let Some(last) = self.rings.get().and_then(|rings| rings.only(interior)) else {
            return;
        };
        let left = self.rings.make().remove(last);
        self.rings.make().close(interior);
        let Some((chain, debt)) = left else {
            return;
        };
        let sched = &mut table[index].sched;
        let upper = sched.slot;
        // The stream's own data owes nothing to anybody when nobody else is there.
        sched.below = if chain.bottom == index { Slot::NONE } else { debt };
        if chain.bottom != index
            && let Some(entry) = upper.index()
        {
            self.rings.make().end_at(upper, chain.bottom);
            self.name(table, chain, entry);
        }
    }

    /// A stream competes at another level from now on (STR-23).
    pub(super) fn set_level(&mut self, table: &mut Table, index: u32, level: i8) {
        let before = std::mem::replace(&mut table[index].place.level, level);
        if level != before {
            let slot = table[index].sched.slot;
            if let Some(rings) = self.rings.get_mut() {
                rings.set_level(slot, (index, level), self.quantum);
            }
        }
    }

    /// A datagram that has not had anything to send yet has a deadline.
    pub(super) fn set_deadline(&mut self, index: u32, at: Instant) {
        self.urgent.set(index, at);
    }

    /// The deadline of a datagram.
    pub(super) fn deadline(&self, index: u32) -> Option<Instant> {
        self.urgent.deadline(index)
    }

    /// Returns whether another datagram of the same stream and level waits whose deadline is later.
    pub(super) fn has_later(&self, table: &Table, index: u32) -> bool {
        self.urgent.has_later(&table[index].place, index)
    }

    /// Returns whether any datagram has a deadline.
    pub(super) fn has_deadlines(&self) -> bool {
        !self.urgent.is_empty()
    }

    /// A stream is retired. It has no children any more.
    pub(super) fn forget(&mut self, table: &mut Table, index: u32) {
        self.deactivate(table, index);
        if table[index].is_datagram() {
            self.urgent.forget(index);
        }
        debug_assert!(
            !table[index].sched.slot.is_taken(),
            "a stream is retired before its children"
        );
    }

    /// The stream whose turn it is, or the datagram that has the turn of another.
    pub(super) fn pick(&mut self, table: &Table) -> Option<Turn> {
        let rings = self.rings.get_mut()?;
        let mut at = rings.bottom(self.trunk?)?;
        while let Some(interior) = table[at].sched.below.index() {
            match rings.front(interior, self.quantum)? {
                Who::Own(_) => break,
                Who::Chain(chain) => at = chain.bottom,
            }
        }
        let index = match table[at].is_datagram() {
            true => self.urgent.before(&table[at].place, at),
            false => at,
        };
        Some(Turn { index, of: at })
    }

    /// A stream whose turn comes before that of this one, which has something to send, because of its level or that of
    /// one above it.
    pub(super) fn preferred(&self, table: &Table, index: u32) -> Option<u32> {
        let sched = &table[index].sched;
        let rings = self.rings.get()?;
        let own = sched.below.index().and_then(|interior| rings.own(interior));
        let mut at = match rings.higher(own.unwrap_or(sched.slot))? {
            Who::Own(owner) => return Some(owner),
            Who::Chain(chain) => chain.bottom,
        };
        while let Some(interior) = table[at].sched.below.index() {
            match rings.highest(interior)? {
                Who::Own(_) => break,
                Who::Chain(chain) => at = chain.bottom,
            }
        }
        Some(at)
    }

    /// `bytes` were sent that are of the share of a stream.
    pub(super) fn charge(&mut self, table: &Table, index: u32, bytes: usize) {
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        let sched = &table[index].sched;
        let Some(rings) = self.rings.get_mut() else {
            return;
        };
        if let Some(interior) = sched.below.index() {
            rings.spend_own(interior, bytes);
        }
        let mut slot = sched.slot;
        while let Some(upper) = rings.spend(slot, bytes) {
            slot = upper;
        }
    }
}

#[cfg(test)]
impl Scheduler {
    /// Returns how many steps everything has taken so far.
    pub(super) fn steps(&self) -> u64 {
        self.rings.get().map_or(0, |rings| rings.steps)
    }
}

#[cfg(test)]
impl Scheduler {
    /// Returns how much of what it takes a rest may give back.
    pub(crate) fn spare(&self) -> usize {
        self.rings.get().map_or(0, Rings::spare) + self.urgent.spare()
    }
}

#[cfg(test)]
mod tests;
