//! Which peers may have something to send.

use std::collections::VecDeque;

/// The peers that may have something to send, each at most once, in the order of their turns.
#[derive(Debug, Default)]
pub(super) struct ReadyQueue {
    queue: VecDeque<u32>,
    /// Which peers are in the queue.
    is_queued: Vec<bool>,
}

impl ReadyQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn contains(&self, peer: u32) -> bool {
        self.is_queued.get(peer as usize).copied().unwrap_or(false)
    }

    /// Puts a peer at the end of the queue, unless it is in it.
    pub(super) fn insert(&mut self, peer: u32) {
        let index = peer as usize;
        if index >= self.is_queued.len() {
            self.is_queued.resize(index + 1, false);
        }
        if let Some(is_queued) = self.is_queued.get_mut(index)
            && !std::mem::replace(is_queued, true)
        {
            self.queue.push_back(peer);
        }
    }

    /// Takes the peer whose turn it is.
    pub(super) fn pop(&mut self) -> Option<u32> {
        let peer = self.queue.pop_front()?;
        if let Some(is_queued) = self.is_queued.get_mut(peer as usize) {
            *is_queued = false;
        }
        Some(peer)
    }
}
