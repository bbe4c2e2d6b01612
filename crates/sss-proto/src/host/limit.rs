//! Limit to the answers a second to senders of which nothing is known.

use crate::time::Instant;

/// At most so many stateless resets, or refusals, a second.
#[derive(Debug, Default)]
pub(super) struct Limit {
    second: u64,
    sent: u32,
}

impl Limit {
    const PER_SECOND: u32 = 100;

    pub(super) fn allow(&mut self, now: Instant) -> bool {
        let second = now.as_nanos() / 1_000_000_000;
        if second != self.second {
            *self = Self { second, sent: 0 };
        }
        self.sent += 1;
        self.sent <= Self::PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: PRT-12
    #[test]
    fn at_most_100_resets_a_second() {
        let mut limit = Limit::default();
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        assert_eq!((0..500).filter(|_| limit.allow(at(10))).count(), 100);
        assert!(limit.allow(at(1000)));
    }
}
