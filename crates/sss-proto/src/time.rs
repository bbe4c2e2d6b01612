//! The core's time.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment on the driver's monotonic clock, in nanoseconds since an arbitrary start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The moment `nanos` nanoseconds after the clock's start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`, zero if `earlier` is later.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, d: Duration) -> Instant {
        let nanos = u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(nanos))
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, d: Duration) -> Instant {
        let nanos = u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_sub(nanos))
    }
}

/// The earliest of several moments, as far as there are any.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Earliest {
    after: Option<Instant>,
    earliest: Option<Instant>,
}

impl Earliest {
    /// The earliest of those that are later than `after`.
    pub(crate) fn after(after: Option<Instant>) -> Self {
        Self { after, earliest: None }
    }

    #[inline]
    pub(crate) fn add(&mut self, at: Option<Instant>) {
        if let Some(at) = at
            && self.after.is_none_or(|after| at > after)
            && self.earliest.is_none_or(|earliest| at < earliest)
        {
            self.earliest = Some(at);
        }
    }

    /// `None` if there was none.
    pub(crate) fn get(self) -> Option<Instant> {
        self.earliest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_is_one_of_those_that_count() {
        let at = |n| Some(Instant::from_nanos(n));
        let earliest = |after, times: [Option<Instant>; 4]| {
            let mut earliest = Earliest::after(after);
            times.into_iter().for_each(|time| earliest.add(time));
            earliest.get()
        };
        assert_eq!(earliest(None, [at(3), None, at(2), at(4)]), at(2));
        assert_eq!(earliest(at(2), [at(3), None, at(2), at(4)]), at(3));
        assert_eq!(earliest(at(4), [at(3), None, at(2), at(4)]), None);
    }
}
