//! Streams that wait for room to be opened.

use super::openings::Acceptor;
use super::queue::KeyQueue;
use crate::ids::StreamKey;

/// Streams that wait to be opened, those for one acceptor in a queue of their own: whoever has no room stops nobody else.
#[derive(Debug, Default)]
pub(super) struct Openers {
    queues: Vec<Queue>,
    /// Where to look for the next.
    turn: usize,
    /// Somebody may have room again.
    is_due: bool,
}

#[derive(Debug)]
struct Queue {
    acceptor: Acceptor,
    keys: KeyQueue,
    /// Whoever is woken would find too little.
    is_stalled: bool,
}

impl Openers {
    /// Whether [`Self::next`] may find one.
    pub(super) fn is_due(&self) -> bool {
        self.is_due
    }

    /// There may be room.
    pub(super) fn retry(&mut self) {
        for queue in &mut self.queues {
            queue.is_stalled = false;
        }
        self.is_due = !self.queues.is_empty();
    }

    /// There may be room for those who wait for this acceptor.
    pub(super) fn retry_for(&mut self, acceptor: &Acceptor) {
        if let Some(queue) = self.queues.iter_mut().find(|q| q.acceptor == *acceptor) {
            queue.is_stalled = false;
            self.is_due = true;
        }
    }

    /// There is no room for this acceptor. Returns who waits for it.
    pub(super) fn stall(&mut self, acceptor: Acceptor) -> &mut KeyQueue {
        let found = self.queues.iter().position(|q| q.acceptor == acceptor);
        let at = found.unwrap_or(self.queues.len());
        if found.is_none() {
            self.queues.push(Queue {
                acceptor,
                keys: KeyQueue::default(),
                is_stalled: true,
            });
        }
        let queue = &mut self.queues[at];
        queue.is_stalled = true;
        &mut queue.keys
    }

    /// The next that may be opened, for each acceptor in turn.
    pub(super) fn next(&mut self, is_waiting: impl Fn(StreamKey) -> bool) -> Option<StreamKey> {
        let count = self.queues.len();
        for _ in 0..count {
            self.turn = (self.turn + 1) % count;
            let queue = self.queues.get_mut(self.turn).filter(|q| !q.is_stalled);
            let Some(queue) = queue else {
                continue;
            };
            while let Some(key) = queue.keys.pop() {
                if is_waiting(key) {
                    return Some(key);
                }
            }
        }
        self.queues.retain(|q| !q.keys.is_empty());
        self.is_due = false;
        None
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
impl Openers {
    /// Whether nobody waits.
    pub(super) fn is_unused(&self) -> bool {
        self.queues.is_empty()
    }
}
