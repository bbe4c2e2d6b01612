//! Times at which peers want to be called again.

use std::collections::BTreeSet;

use crate::time::Instant;

/// The timers of all peers, one each: O(log peers) to change, O(1) to read the next.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeSet<(Instant, u32)>,
    /// The entry that each peer has in the queue.
    armed: Vec<Option<Instant>>,
}

impl Timers {
    /// Sets the moment for `peer`, or removes it.
    pub(crate) fn set(&mut self, peer: u32, at: Option<Instant>) {
        let index = peer as usize;
        if index >= self.armed.len() {
            self.armed.resize(index + 1, None);
        }
        let Some(slot) = self.armed.get_mut(index) else {
            return;
        };
        if *slot == at {
            return;
        }
        if let Some(old) = slot.take() {
            self.queue.remove(&(old, peer));
        }
        if let Some(new) = at {
            self.queue.insert((new, peer));
        }
        *slot = at;
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
}
