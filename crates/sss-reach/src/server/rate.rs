//! Limits of how often something may happen.

use std::time::Duration;

use sss_proto::Instant;

/// Longest time of which a bucket knows. Whoever has not asked for so long has all that may be there at once.
pub(super) const MEMORY: Duration = Duration::from_secs(10);

/// Limit of what may happen again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Times in a second, in the long run. With 0 it never happens.
    pub each_second: u16,
    /// Times at once, after a pause; at most ten times as many as in a second, at least 1.
    pub at_once: u16,
}

impl Rate {
    /// So many times in a second, and at once.
    pub const fn new(each_second: u16, at_once: u16) -> Self {
        Self { each_second, at_once }
    }
}

/// State of a limit (the generic cell rate algorithm, ITU-T I.371).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    /// The time when all that was let through has drained.
    drained: Instant,
}

impl Bucket {
    /// Returns whether it may happen once more, and counts it if so.
    pub(super) fn take(&mut self, now: Instant, rate: Rate) -> bool {
        let is_allowed = self.has_room(now, rate);
        if let Some(each) = each(rate).filter(|_| is_allowed) {
            self.drained = self.drained.max(now) + each;
        }
        is_allowed
    }

    /// Returns whether it may happen once more.
    pub(super) fn has_room(self, now: Instant, rate: Rate) -> bool {
        let Some(each) = each(rate) else {
            return false;
        };
        let most = (each * u32::from(rate.at_once.max(1))).min(MEMORY).max(each);
        self.drained.since(now) + each <= most
    }

    /// Returns whether it is as one of which nothing was taken.
    pub(super) fn is_full(self, now: Instant) -> bool {
        self.drained <= now
    }
}

/// Time for which one counts.
fn each(rate: Rate) -> Option<Duration> {
    Duration::from_secs(1).checked_div(u32::from(rate.each_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(1_000_000_000 + ms * 1_000_000)
    }

    fn allowed(bucket: &mut Bucket, ms: u64, rate: Rate) -> usize {
        (0..100).filter(|_| bucket.take(at(ms), rate)).count()
    }

    // spec: RCH-3
    #[test]
    fn so_many_pass_at_once_and_then_so_many_a_second() {
        let mut bucket = Bucket::default();
        let rate = Rate::new(2, 10);
        assert_eq!(allowed(&mut bucket, 0, rate), 10);
        assert_eq!(allowed(&mut bucket, 499, rate), 0);
        assert_eq!(allowed(&mut bucket, 500, rate), 1);
        assert_eq!(allowed(&mut bucket, 2500, rate), 4);
        assert!(!bucket.is_full(at(2500)));
        assert!(bucket.is_full(at(7500)));
        assert_eq!(allowed(&mut bucket, 100_000, rate), 10, "and no more after an hour");
        assert_eq!(allowed(&mut Bucket::default(), 0, Rate::new(0, 10)), 0);
        assert_eq!(allowed(&mut Bucket::default(), 0, Rate::new(1, 0)), 1);
        assert_eq!(allowed(&mut Bucket::default(), 0, Rate::new(1, 1000)), 10, "of 10 s");
    }
}
