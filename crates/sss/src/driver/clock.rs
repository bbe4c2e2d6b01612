//! The core's clock: nanoseconds since the host was made.

use std::time::{Duration, Instant as StdInstant};

use sss_proto::Instant;

/// Translates between the system's monotonic clock and the core's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    base: StdInstant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            base: StdInstant::now(),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        let nanos = self.base.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The system's moment for one of the core's, at most a day away.
    pub(crate) fn to_std(self, at: Instant) -> StdInstant {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let elapsed = self.base.elapsed();
        self.base + Duration::from_nanos(at.as_nanos()).min(elapsed + DAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_survive_translation_and_far_ones_are_cut() {
        let clock = Clock::start();
        let at = Instant::from_nanos(5_000_000);
        assert_eq!(clock.to_std(at) - clock.base, Duration::from_millis(5));
        assert!(clock.to_std(Instant::from_nanos(u64::MAX)) < clock.base + Duration::from_secs(25 * 3600));
    }
}
