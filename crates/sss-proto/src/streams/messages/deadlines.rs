//! Deadlines at which datagrams are given up (STR-35).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use crate::ids::StreamKey;
use crate::time::Instant;

const SMALLEST: usize = 64;

/// Entries that are looked at, at most, for each that is added.
const SWEPT: usize = 2;

/// A deadline, and the datagram that has it.
pub(crate) type Entry = (Instant, StreamKey);

/// The deadlines of datagrams. One that is no earlier than those before, as most are, costs the same however many there
/// are; another one O(log n).
///
/// Entries of datagrams that were settled stay until they come first, or until they are the most: the length
/// stays in proportion to the entries that matter.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    /// Those that came in their order.
    queue: VecDeque<Entry>,
    /// The others.
    heap: BinaryHeap<Reverse<Entry>>,
    compact_at: usize,
}

impl Deadlines {
    /// Adds an entry. `matters` tells which entries to keep.
    pub(crate) fn push(&mut self, at: Instant, key: StreamKey, matters: impl Fn(&Entry) -> bool) {
        for _ in 0..SWEPT {
            if self.queue.pop_front_if(|entry| !matters(entry)).is_none() {
                break;
            }
        }
        let len = self.queue.len() + self.heap.len();
        if len >= self.compact_at.max(SMALLEST) {
            self.queue.retain(&matters);
            self.heap.retain(|Reverse(entry)| matters(entry));
            self.compact_at = 2 * (self.queue.len() + self.heap.len());
        }
        if self.queue.back().is_none_or(|(last, _)| *last <= at) {
            self.queue.push_back((at, key));
        } else {
            self.heap.push(Reverse((at, key)));
        }
    }

    /// The first deadline of those that matter.
    pub(crate) fn first(&mut self, matters: impl Fn(&Entry) -> bool) -> Option<Instant> {
        loop {
            let entry = self.peek()?;
            if matters(&entry) {
                return Some(entry.0);
            }
            self.pop();
        }
    }

    /// Takes an entry whose deadline is less than `ahead` away.
    pub(crate) fn pop_due(&mut self, now: Instant, ahead: Duration) -> Option<Entry> {
        let entry = self.peek()?;
        if entry.0 > now + ahead {
            return None;
        }
        self.pop();
        Some(entry)
    }

    /// The entry whose deadline is first.
    fn peek(&self) -> Option<Entry> {
        let first = self.queue.front().copied();
        let other = self.heap.peek().map(|Reverse(entry)| *entry);
        first.into_iter().chain(other).min()
    }

    /// Takes it out.
    fn pop(&mut self) {
        let is_queued = match (self.queue.front(), self.heap.peek()) {
            (Some(first), Some(Reverse(other))) => first <= other,
            (first, _) => first.is_some(),
        };
        if is_queued {
            self.queue.pop_front();
        } else {
            self.heap.pop();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.heap.clear();
    }
}

#[cfg(test)]
impl Deadlines {
    /// Returns for how many there is room in memory.
    pub(super) fn room(&self) -> usize {
        self.queue.capacity() + self.heap.capacity()
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
            deadlines.push(at(u64::from(index * 7919 % 1000)), key(index), |(_, key)| {
                key.index % 100 == 0
            });
        }
        let len = deadlines.queue.len() + deadlines.heap.len();
        assert!(len < 200, "{len} entries");
        assert_eq!(deadlines.first(|(_, key)| key.index == 100), Some(at(900)));
        assert_eq!(deadlines.pop_due(at(899), Duration::ZERO), None);
        assert_eq!(
            deadlines.pop_due(at(899), Duration::from_nanos(1)),
            Some((at(900), key(100)))
        );
    }

    #[test]
    fn those_that_come_in_order_are_in_order_with_the_others_and_cost_nothing_when_settled() {
        let at = Instant::from_nanos;
        let mut deadlines = Deadlines::default();
        for index in 0..1000u32 {
            deadlines.push(at(u64::from(index)), key(index), |(_, key)| key.index + 10 > index);
            assert!(
                deadlines.queue.len() <= 11 && deadlines.heap.is_empty(),
                "{deadlines:?}"
            );
        }
        for (index, time) in [(2000, 995), (2001, 990), (2002, 2000)] {
            deadlines.push(at(time), key(index), |_| true);
        }
        let due = std::iter::from_fn(|| deadlines.pop_due(at(1000), Duration::ZERO));
        let due: Vec<u32> = due.map(|(_, key)| key.index).collect();
        assert_eq!(due, [990, 2001, 991, 992, 993, 994, 995, 2000, 996, 997, 998, 999]);
        assert_eq!(deadlines.first(|_| true), Some(at(2000)));
        assert_eq!(deadlines.first(|_| false), None);
        assert_eq!((deadlines.queue.len(), deadlines.heap.len()), (0, 0));
    }
}
