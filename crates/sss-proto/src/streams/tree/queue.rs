//! Queues of streams from which entries are not removed when a stream goes.

use std::collections::VecDeque;

use crate::ids::StreamKey;
use crate::rare::Rare;

const SMALLEST: usize = 64;

/// A queue of keys. An entry whose stream has gone, or has no more business in the queue, is left behind, and
/// is dropped when it comes to the front or when the queue has doubled, so that its length stays in
/// proportion to the entries that matter.
#[derive(Debug, Default)]
pub(crate) struct KeyQueue(Rare<Entries>);

#[derive(Debug, Default)]
struct Entries {
    keys: VecDeque<StreamKey>,
    compact_at: usize,
}

impl KeyQueue {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.get().is_none_or(|entries| entries.keys.is_empty())
    }

    #[inline]
    pub(crate) fn front(&self) -> Option<StreamKey> {
        self.0.get()?.keys.front().copied()
    }

    pub(crate) fn pop(&mut self) -> Option<StreamKey> {
        self.0.get_mut()?.keys.pop_front()
    }

    pub(crate) fn clear(&mut self) {
        self.0 = Rare::default();
    }

    /// Gives back spare memory.
    pub(crate) fn rest(&mut self) {
        self.0.rest(|entries| entries.keys.is_empty());
    }

    /// Puts a key back that was just taken out.
    pub(crate) fn push_front(&mut self, key: StreamKey) {
        self.0.make().keys.push_front(key);
    }

    /// Appends a key. `matters` tells which entries to keep.
    pub(crate) fn push(&mut self, key: StreamKey, matters: impl Fn(StreamKey) -> bool) {
        let Entries { keys, compact_at } = self.0.make();
        if keys.len() >= (*compact_at).max(SMALLEST) {
            keys.retain(|k| matters(*k));
            *compact_at = 2 * keys.len();
        }
        keys.push_back(key);
    }

    /// The entries, oldest first.
    pub(crate) fn drain(mut self) -> impl Iterator<Item = StreamKey> {
        self.0
            .get_mut()
            .map(|entries| std::mem::take(&mut entries.keys))
            .into_iter()
            .flatten()
    }
}

#[cfg(test)]
impl KeyQueue {
    pub(crate) fn len(&self) -> usize {
        self.0.get().map_or(0, |entries| entries.keys.len())
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = StreamKey> {
        self.0
            .get()
            .into_iter()
            .flat_map(|entries| entries.keys.iter().copied())
    }
}
