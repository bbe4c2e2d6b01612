//! Deadlines at which datagrams are given up (STR-35).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::ids::StreamKey;
use crate::time::Instant;

const SMALLEST: usize = 64;

/// The deadlines of datagrams. O(log n) to add one and to take the first.
///
/// Entries of datagrams that were settled stay until they come first, or until they are the most: the length
/// stays in proportion to the entries that matter.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    heap: BinaryHeap<Reverse<(Instant, StreamKey)>>,
    compact_at: usize,
}

impl Deadlines {
    /// Adds an entry. `matters` tells which entries to keep.
    pub(crate) fn push(&mut self, at: Instant, key: StreamKey, matters: impl Fn(StreamKey) -> bool) {
        if self.heap.len() >= self.compact_at.max(SMALLEST) {
            self.heap.retain(|Reverse((_, key))| matters(*key));
            self.compact_at = 2 * self.heap.len();
        }
        self.heap.push(Reverse((at, key)));
    }

    /// The first deadline of those that matter.
    pub(crate) fn first(&mut self, matters: impl Fn(StreamKey) -> bool) -> Option<Instant> {
        while let Some(Reverse((at, key))) = self.heap.peek() {
            if matters(*key) {
                return Some(*at);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes an entry whose deadline is less than `ahead` away.
    pub(crate) fn pop_due(&mut self, now: Instant, ahead: Duration) -> Option<StreamKey> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > now + ahead {
            return None;
        }
        self.heap.pop().map(|Reverse((_, key))| key)
    }

    pub(crate) fn clear(&mut self) {
        self.heap.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> StreamKey {
        StreamKey { index, generation: 0 }
    }

    #[test]
    fn comes_out_in_order_and_forgets_what_is_settled() {
        let at = Instant::from_nanos;
        let mut deadlines = Deadlines::default();
        for index in 0..1000u32 {
            deadlines.push(at(u64::from(index * 7919 % 1000)), key(index), |k| k.index % 100 == 0);
        }
        assert!(deadlines.heap.len() < 200, "{} entries", deadlines.heap.len());
        assert_eq!(deadlines.first(|k| k.index == 100), Some(at(900)));
        assert_eq!(deadlines.pop_due(at(899), Duration::ZERO), None);
        assert_eq!(deadlines.pop_due(at(899), Duration::from_nanos(1)), Some(key(100)));
    }
}
