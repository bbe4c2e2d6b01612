//! Queues of streams from which entries are not removed when a stream goes.

use std::collections::VecDeque;

use crate::ids::StreamKey;

const SMALLEST: usize = 64;

/// A queue of keys. An entry whose stream has gone, or has no more business in the queue, is left behind, and
/// is dropped when it comes to the front or when the queue has doubled, so that its length stays in
/// proportion to the entries that matter.
#[derive(Debug, Default)]
pub(crate) struct KeyQueue {
    keys: VecDeque<StreamKey>,
    compact_at: usize,
}

impl KeyQueue {
    pub(crate) const fn new() -> Self {
        Self {
            keys: VecDeque::new(),
            compact_at: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) fn front(&self) -> Option<StreamKey> {
        self.keys.front().copied()
    }

    pub(crate) fn pop(&mut self) -> Option<StreamKey> {
        self.keys.pop_front()
    }

    pub(crate) fn clear(&mut self) {
        self.keys.clear();
    }

    /// Gives back spare memory.
    pub(crate) fn rest(&mut self) {
        self.keys.shrink_to_fit();
    }

    /// Puts a key back that was just taken out.
    pub(crate) fn push_front(&mut self, key: StreamKey) {
        self.keys.push_front(key);
    }

    /// Appends a key. `matters` tells which entries to keep.
    pub(crate) fn push(&mut self, key: StreamKey, matters: impl Fn(StreamKey) -> bool) {
        if self.keys.len() >= self.compact_at.max(SMALLEST) {
            self.keys.retain(|k| matters(*k));
            self.compact_at = 2 * self.keys.len();
        }
        self.keys.push_back(key);
    }

    /// The entries, oldest first.
    pub(crate) fn drain(self) -> impl Iterator<Item = StreamKey> {
        self.keys.into_iter()
    }
}

#[cfg(test)]
impl KeyQueue {
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = StreamKey> {
        self.keys.iter().copied()
    }
}

#[cfg(test)]
impl KeyQueue {
    /// Returns how much of what it takes a rest may give back.
    pub(crate) fn spare(&self) -> usize {
        self.keys.capacity()
    }
}
