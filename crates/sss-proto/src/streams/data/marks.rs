//! Record marks that arrived in order and were not read yet: where they are, in about a byte each.

use std::collections::VecDeque;

/// Capacity that an unused list keeps.
const KEPT: usize = 64;

/// Positions of marks, lowest first.
///
/// The first is kept as it is, each other one as the number of bytes between it and the mark before, 7 bits to a byte
/// (LEB128). A record of `n` bytes takes no more than `n + 1` bytes in this way, which is what it and its mark are
/// charged (STR-30). A direction without marks pays nothing.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    first: Option<u64>,
    last: u64,
    gaps: VecDeque<u8>,
}

impl Marks {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn clear(&mut self) {
        self.first = None;
        self.gaps.clear();
        self.gaps.shrink_to(KEPT);
    }

    /// Adds a mark at `position`, behind all others.
    pub(crate) fn push(&mut self, position: u64) {
        if self.first.is_none() {
            self.first = Some(position);
        } else {
            let mut gap = position.saturating_sub(self.last.saturating_add(1));
            while gap >= 0x80 {
                self.gaps.push_back(gap as u8 | 0x80);
                gap >>= 7;
            }
            self.gaps.push_back(gap as u8);
        }
        self.last = position;
    }

    /// Returns how many bytes there are from `position` to the first mark; without marks, as many as one likes.
    pub(crate) fn distance(&self, position: u64) -> u64 {
        self.first.map_or(u64::MAX, |first| first.saturating_sub(position))
    }

    /// Takes the first mark out.
    pub(crate) fn pop(&mut self) {
        let Some(first) = self.first.take() else {
            return;
        };
        let (mut gap, mut shift) = (0, 0);
        while let Some(byte) = self.gaps.pop_front() {
            gap |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                self.first = Some(first.saturating_add(1).saturating_add(gap));
                break;
            }
            shift += 7;
        }
    }

    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        self.gaps.capacity()
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn agrees_with_a_list_of_positions() {
        for seed in 0..50 {
            let mut rng = StdRng::seed_from_u64(seed);
            let (mut marks, mut model) = (Marks::default(), VecDeque::new());
            let (mut end, mut charged) = (0, 0);
            for _ in 0..2000 {
                if rng.random_ratio(11, 20) {
                    let longest = [1, 2, 200, 20_000, 1 << 60][rng.random_range(0..5)];
                    let len = rng.random_range(0..longest);
                    if end + len > sss_wire::varint::MAX {
                        break;
                    }
                    marks.push(end + len);
                    model.push_back(end + len);
                    end += len + 1;
                    charged += len + 1;
                } else {
                    marks.pop();
                    model.pop_front();
                }
                let first = model.front().copied();
                assert_eq!(marks.is_empty(), first.is_none(), "seed {seed}");
                let from = first.map_or(end, |f| f - f.min(5));
                assert_eq!(
                    marks.distance(from),
                    first.map_or(u64::MAX, |f| f - from),
                    "seed {seed}"
                );
            }
            assert!(marks.gaps.len() as u64 <= charged, "seed {seed}");
        }
    }

    // spec: STR-30
    #[test]
    fn a_mark_takes_a_byte() {
        let mut marks = Marks::default();
        for i in 0..1 << 20 {
            marks.push(2 * i);
        }
        assert!(marks.memory() <= 2 << 20, "{} bytes", marks.memory());
        marks.clear();
        assert!(marks.is_empty() && marks.memory() <= KEPT);
    }
}
