//! The replay window: which sequence numbers were opened (PRT-5).

use sss_wire::constants::REPLAY_WINDOW;

const WORDS: usize = REPLAY_WINDOW as usize / 64;

/// A bitmap of the last [`REPLAY_WINDOW`] sequence numbers up to the highest opened one.
///
/// Bit `n % REPLAY_WINDOW` stands for number `n`. It is only as long as the highest number so far asks for, so that a
/// channel on which little was said needs little.
#[derive(Debug)]
pub(super) struct ReplayWindow {
    bits: Vec<u64>,
    /// One more than the highest number opened.
    next: u64,
}

impl ReplayWindow {
    pub(super) fn new() -> Self {
        Self {
            bits: Vec::new(),
            next: 0,
        }
    }

    /// One more than the highest number opened, 0 if none was.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Marks an authenticated number as seen. False if it must be dropped: seen before, or below the window.
    pub(super) fn accept(&mut self, seq: u64) -> bool {
        if seq >= self.next {
            self.reach(seq);
            self.advance(seq);
        } else if self.next - 1 - seq >= REPLAY_WINDOW {
            return false;
        }
        let (word, bit) = position(seq);
        let Some(word) = self.bits.get_mut(word) else {
            return false;
        };
        let seen = *word & bit != 0;
        *word |= bit;
        !seen
    }

    /// Makes room for the bit of a number that is higher than all before. Until there is room for a whole window, the
    /// bits are those of all numbers from 0 on, each at its place.
    fn reach(&mut self, seq: u64) {
        let needed = usize::try_from(seq / 64).map_or(WORDS, |word| word.saturating_add(1).min(WORDS));
        if needed > self.bits.len() {
            let words = needed.next_power_of_two().min(WORDS);
            self.bits.reserve_exact(words - self.bits.len());
            self.bits.resize(words, 0);
        }
    }

    /// Moves the window so that `seq` is its highest number, clearing what enters it.
    fn advance(&mut self, seq: u64) {
        if seq == self.next {
            let (word, bit) = position(seq);
            if let Some(word) = self.bits.get_mut(word) {
                *word &= !bit;
            }
        } else if seq - self.next >= REPLAY_WINDOW {
            self.bits.fill(0);
        } else {
            self.clear(self.next, seq);
        }
        self.next = seq.saturating_add(1);
    }

    /// Clears the bits of `from..=to`, fewer than a whole window, a word at a time.
    fn clear(&mut self, from: u64, to: u64) {
        let mut at = from;
        while at <= to {
            let word_end = at | 63;
            let mut mask = u64::MAX << (at & 63);
            if to < word_end {
                mask &= u64::MAX >> (63 - (to & 63));
            }
            if let Some(word) = self.bits.get_mut(position(at).0) {
                *word &= !mask;
            }
            at = word_end.saturating_add(1);
        }
    }
}

fn position(seq: u64) -> (usize, u64) {
    let index = seq % REPLAY_WINDOW;
    ((index / 64) as usize, 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    // spec: PRT-5
    #[test]
    fn threat_14_agrees_with_a_set_under_random_input() {
        for seed in 0..8 {
            println!("seed {seed}");
            let mut rng = StdRng::seed_from_u64(seed);
            let mut window = ReplayWindow::new();
            let mut seen = HashSet::new();
            let mut highest: Option<u64> = None;
            for _ in 0..40_000 {
                let top = highest.unwrap_or(0);
                let seq = match rng.random_range(0..100) {
                    0..50 => top + 1,
                    50..70 => top + rng.random_range(0..200),
                    70..90 => top.saturating_sub(rng.random_range(0..300)),
                    90..98 => top.saturating_sub(rng.random_range(0..2 * REPLAY_WINDOW)),
                    98 => top + rng.random_range(0..REPLAY_WINDOW + 100),
                    _ => top + rng.random_range(0..3 * REPLAY_WINDOW),
                };
                let in_window = highest.is_none_or(|h| seq > h || h - seq < REPLAY_WINDOW);
                let expected = in_window && seen.insert(seq);
                assert_eq!(window.accept(seq), expected, "number {seq}, highest {highest:?}");
                highest = Some(highest.map_or(seq, |h| h.max(seq)));
            }
        }
    }

    // spec: PRT-5
    #[test]
    fn threat_14_the_lower_edge_is_exact() {
        let mut window = ReplayWindow::new();
        assert!(window.accept(REPLAY_WINDOW));
        assert!(!window.accept(0), "at the lower edge");
        assert!(window.accept(1), "just above it");
        assert!(!window.accept(1));
        assert!(!window.accept(REPLAY_WINDOW));
    }

    #[test]
    fn it_is_as_long_as_the_numbers_so_far_ask_for() {
        let mut window = ReplayWindow::new();
        let mut words = Vec::new();
        for seq in [0, 63, 64, 200, 8191, REPLAY_WINDOW - 1, REPLAY_WINDOW, u64::MAX - 1] {
            assert!(window.accept(seq));
            words.push(window.bits.capacity());
        }
        assert_eq!(words, [1, 1, 2, 4, 128, WORDS, WORDS, WORDS]);
    }

    #[test]
    fn the_largest_number_does_not_wrap() {
        let mut window = ReplayWindow::new();
        assert!(window.accept(u64::MAX - 1));
        assert!(!window.accept(u64::MAX - 1));
        assert!(!window.accept(3));
    }
}
