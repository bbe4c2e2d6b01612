//! Times at which peers want to be called again.

use std::collections::BTreeSet;

use crate::time::Instant;

/// The timers of all peers, one each: O(log peers) to change, O(1) to read the next.
///
/// A peer changes with every packet, and is asked for its moment only when the host is about to wait: what has changed
/// since is stale until then.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeSet<(Instant, u32)>,
    slots: Vec<Slot>,
    stale: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The entry in the queue.
    armed: Option<Instant>,
    is_stale: bool,
}

impl Timers {
    /// The moment of `peer` may be another one by now.
    pub(crate) fn note_change(&mut self, peer: u32) {
        let slot = self.slot(peer);
        if !std::mem::replace(&mut slot.is_stale, true) {
            self.stale.push(peer);
        }
    }

    /// Takes a peer whose moment may be another one by now. It is to be [set](Self::set).
    pub(crate) fn pop_stale(&mut self) -> Option<u32> {
        let peer = self.stale.pop()?;
        self.slot(peer).is_stale = false;
        Some(peer)
    }

    /// Sets the moment for `peer`, or removes it.
    pub(crate) fn set(&mut self, peer: u32, at: Option<Instant>) {
        let before = std::mem::replace(&mut self.slot(peer).armed, at);
        if before == at {
            return;
        }
        if let Some(old) = before {
            self.queue.remove(&(old, peer));
        }
        if let Some(new) = at {
            self.queue.insert((new, peer));
        }
    }

    fn slot(&mut self, peer: u32) -> &mut Slot {
        let index = peer as usize;
        if index >= self.slots.len() {
            self.slots.resize(index + 1, Slot::default());
        }
        &mut self.slots[index]
    }

    /// The earliest moment of all.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes a peer whose moment has come.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let &(at, peer) = self.queue.first()?;
        if at > now {
            return None;
        }
        self.set(peer, None);
        Some(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pops_in_order_of_time_and_only_what_is_due() {
        let at = Instant::from_nanos;
        let mut timers = Timers::default();
        timers.set(3, Some(at(30)));
        timers.set(1, Some(at(10)));
        timers.set(2, Some(at(20)));
        timers.set(1, Some(at(40)));
        timers.set(3, None);
        assert_eq!(timers.next(), Some(at(20)));
        assert_eq!(timers.pop_due(at(19)), None);
        assert_eq!(timers.pop_due(at(40)), Some(2));
        assert_eq!(timers.pop_due(at(40)), Some(1));
        assert_eq!(timers.pop_due(at(40)), None);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn what_has_changed_is_named_once() {
        let mut timers = Timers::default();
        [2, 5, 2].into_iter().for_each(|peer| timers.note_change(peer));
        assert_eq!(
            [timers.pop_stale(), timers.pop_stale(), timers.pop_stale()],
            [Some(5), Some(2), None]
        );
        timers.note_change(2);
        assert_eq!(timers.pop_stale(), Some(2));
    }
}
