//! The core's time.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment on the driver's monotonic clock, in nanoseconds since an arbitrary start; the last that there is comes 2^64
/// \- 2 of them after that, in 584 years.
///
/// An `Option` of it takes no more memory than the moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(
    /// One more than the nanoseconds.
    NonZeroU64,
);

impl Instant {
    /// The clock's start.
    const START: Self = Self(NonZeroU64::MIN);

    /// The moment `nanos` nanoseconds after the clock's start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// Nanoseconds since the clock's start.
    pub const fn as_nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// The time from `earlier` to `self`, zero if `earlier` is later.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Default for Instant {
    fn default() -> Self {
        Self::START
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Instant").field(&self.as_nanos()).finish()
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
        NonZeroU64::new(self.0.get().saturating_sub(nanos)).map_or(Self::START, Instant)
    }
}

/// A duration as it is kept: in nanoseconds, and so in half the memory of a `Duration`. The longest is 584 years, and
/// stands for what is longer.
///
/// An `Option` of it takes no more memory than the duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(
    /// One more than the nanoseconds.
    NonZeroU64,
);

impl Span {
    /// The duration to count with.
    #[inline]
    pub(crate) const fn get(self) -> Duration {
        Duration::from_nanos(self.0.get() - 1)
    }
}

impl From<Duration> for Span {
    #[inline]
    fn from(duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(NonZeroU64::MIN.saturating_add(nanos))
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
    fn a_moment_that_may_not_be_there_takes_no_more_memory() {
        assert_eq!(size_of::<Option<Instant>>(), size_of::<u64>());
    }

    #[test]
    fn durations_are_kept_in_half_the_memory() {
        assert_eq!(size_of::<Option<Span>>(), size_of::<u64>());
        let longest = Duration::from_nanos(u64::MAX - 1);
        for duration in [
            Duration::ZERO,
            Duration::from_nanos(1),
            Duration::from_secs(333),
            longest,
        ] {
            assert_eq!(Span::from(duration).get(), duration);
        }
        assert_eq!(Span::from(Duration::MAX).get(), longest);
    }

    #[test]
    fn moments_end_where_the_clock_does() {
        let second = Duration::from_secs(1);
        let first = Instant::default();
        assert_eq!((first.as_nanos(), format!("{first:?}").as_str()), (0, "Instant(0)"));
        assert_eq!((first - second, (first + second).as_nanos()), (first, 1_000_000_000));
        assert_eq!(
            ((first + second) - second, (first + second).since(first)),
            (first, second)
        );
        assert_eq!((first + second) - 2 * second, first);
        assert_eq!((first + second) - Duration::MAX, first);
        let last = Instant::from_nanos(u64::MAX);
        assert_eq!((last - Duration::MAX, first.since(last)), (first, Duration::ZERO));
        assert_eq!((last, last.as_nanos()), (first + Duration::MAX, u64::MAX - 1));
        assert_eq!(
            (last + second, last.since(first)),
            (last, Duration::from_nanos(u64::MAX - 1))
        );
    }

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
