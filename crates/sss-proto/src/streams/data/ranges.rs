//! Small sorted sets of byte ranges.

use std::collections::VecDeque;
use std::ops::Range;

/// Disjoint, non-adjacent ranges in ascending order. Operations at either end take constant time, others
/// logarithmic time and a move of what lies behind.
#[derive(Debug, Default)]
pub(crate) struct Ranges(VecDeque<Range<u64>>);

impl Ranges {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn first(&self) -> Option<Range<u64>> {
        self.0.front().cloned()
    }

    pub(crate) fn pop_first(&mut self) -> Option<Range<u64>> {
        self.0.pop_front()
    }

    /// Adds a range, merged with those that it overlaps or touches.
    pub(crate) fn insert(&mut self, r: Range<u64>) {
        if r.is_empty() {
            return;
        }
        let from = self.0.partition_point(|x| x.end < r.start);
        let to = self.0.partition_point(|x| x.start <= r.end);
        if from == to {
            self.0.insert(from, r);
            return;
        }
        let start = self.0.get(from).map_or(r.start, |x| x.start.min(r.start));
        let end = self.0.get(to - 1).map_or(r.end, |x| x.end.max(r.end));
        self.0.drain(from + 1..to);
        if let Some(x) = self.0.get_mut(from) {
            *x = start..end;
        }
    }

    /// Takes a range out.
    pub(crate) fn remove(&mut self, r: &Range<u64>) {
        let from = self.0.partition_point(|x| x.end <= r.start);
        let to = self.0.partition_point(|x| x.start < r.end);
        if from >= to || r.is_empty() {
            return;
        }
        let left = self.0.get(from).map_or(0..0, |x| x.start..r.start);
        let right = self.0.get(to - 1).map_or(0..0, |x| r.end..x.end);
        self.0.drain(from..to);
        for piece in [right, left] {
            if !piece.is_empty() {
                self.0.insert(from, piece);
            }
        }
    }

    /// The ranges that overlap `r`, lowest first.
    pub(crate) fn overlapping(&self, r: Range<u64>) -> impl Iterator<Item = &Range<u64>> {
        let from = self.0.partition_point(|x| x.end <= r.start);
        self.0.range(from..).take_while(move |x| x.start < r.end)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn agrees_with_a_set_of_bytes() {
        for seed in 0..200 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut ranges = Ranges::default();
            let mut bytes = [false; 64];
            for _ in 0..40 {
                let start = rng.random_range(0..64usize);
                let end = rng.random_range(start..=64usize);
                let range = start as u64..end as u64;
                let adds = rng.random();
                bytes[start..end].fill(adds);
                if adds {
                    ranges.insert(range)
                } else {
                    ranges.remove(&range)
                }
                let mut seen = [false; 64];
                let mut last_end = None;
                for r in &ranges.0 {
                    assert!(
                        last_end.is_none_or(|e| e < r.start) && !r.is_empty(),
                        "seed {seed}: {ranges:?}"
                    );
                    last_end = Some(r.end);
                    seen[r.start as usize..r.end as usize].fill(true);
                }
                assert_eq!(seen, bytes, "seed {seed}");
                let overlapping = ranges.overlapping(10..20).count();
                let expected = ranges.0.iter().filter(|r| r.start < 20 && r.end > 10).count();
                assert_eq!(overlapping, expected, "seed {seed}");
            }
        }
    }
}
