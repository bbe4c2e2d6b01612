//! Round-trip time: latest, minimum, smoothed, variation (RFC 9002 section 5; REC-1).

use std::time::Duration;

/// Precision of clocks and timers; the least that a timeout adds to a measurement.
pub(in crate::channel) const GRANULARITY: Duration = Duration::from_millis(1);
/// Assumed before anything was measured.
const INITIAL: Duration = Duration::from_millis(333);

/// The estimate of a path's round-trip time.
#[derive(Clone, Debug)]
pub(super) struct Rtt {
    latest: Duration,
    smoothed: Duration,
    variation: Duration,
    /// `None` before the first measurement.
    min: Option<Duration>,
}

impl Rtt {
    /// An estimate that begins with a measurement of the negotiation, if there is one.
    pub(super) fn new(measured: Option<Duration>) -> Self {
        let first = measured.unwrap_or(INITIAL);
        Self {
            latest: first,
            smoothed: first,
            variation: first / 2,
            min: measured,
        }
    }

    /// An estimate of which it is known only that the round trip is not longer than `bound` (REC-1).
    pub(super) fn at_most(bound: Duration) -> Self {
        Self {
            min: None,
            ..Self::new(Some(bound.min(INITIAL)))
        }
    }

    /// Takes in a measurement. `ack_delay` is what the peer says it waited, already limited to what it may.
    pub(super) fn update(&mut self, latest: Duration, ack_delay: Duration) {
        self.latest = latest;
        let Some(min) = self.min else {
            *self = Self::new(Some(latest));
            return;
        };
        let min = min.min(latest);
        self.min = Some(min);
        let adjusted = if latest >= min + ack_delay {
            latest - ack_delay
        } else {
            latest
        };
        let deviation = self.smoothed.abs_diff(adjusted);
        self.variation = (self.variation * 3 + deviation) / 4;
        self.smoothed = (self.smoothed * 7 + adjusted) / 8;
    }

    pub(super) fn smoothed(&self) -> Duration {
        self.smoothed
    }

    pub(super) fn variation(&self) -> Duration {
        self.variation
    }

    pub(super) fn latest(&self) -> Duration {
        self.latest
    }

    /// The least that was measured, if anything was.
    pub(super) fn min(&self) -> Option<Duration> {
        self.min
    }

    /// The probe timeout without backoff, for a peer that delays acknowledgements by at most `max_ack_delay` (REC-4).
    pub(super) fn probe_timeout(&self, max_ack_delay: Duration) -> Duration {
        self.smoothed + (self.variation * 4).max(GRANULARITY) + max_ack_delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    // spec: REC-1
    #[test]
    fn starts_at_333_ms_or_at_what_was_measured() {
        let rtt = Rtt::new(None);
        assert_eq!((rtt.smoothed(), rtt.min()), (ms(333), None));
        assert_eq!(rtt.variation(), Duration::from_micros(166_500));
        let rtt = Rtt::new(Some(ms(40)));
        assert_eq!(
            (rtt.smoothed(), rtt.variation(), rtt.min()),
            (ms(40), ms(20), Some(ms(40)))
        );
    }

    // spec: REC-1
    #[test]
    fn first_sample_replaces_the_guess_and_later_ones_are_smoothed() {
        let mut rtt = Rtt::new(None);
        rtt.update(ms(100), ms(25));
        assert_eq!((rtt.smoothed(), rtt.variation()), (ms(100), ms(50)));
        // adjusted = 150 - 10 = 140: deviation 40, variation (150 + 40) / 4, smoothed (700 + 140) / 8.
        rtt.update(ms(150), ms(10));
        assert_eq!(rtt.variation(), Duration::from_micros(47_500));
        assert_eq!(rtt.smoothed(), ms(105));
        assert_eq!((rtt.min(), rtt.latest()), (Some(ms(100)), ms(150)));
    }

    // spec: REC-1
    #[test]
    fn a_bound_is_a_guess_and_no_measurement() {
        let mut rtt = Rtt::at_most(ms(40));
        assert_eq!((rtt.smoothed(), rtt.min()), (ms(40), None));
        rtt.update(ms(30), ms(0));
        assert_eq!((rtt.smoothed(), rtt.min()), (ms(30), Some(ms(30))));
        assert_eq!(Rtt::at_most(ms(5000)).smoothed(), ms(333));
    }

    #[test]
    fn a_delay_that_would_go_below_the_minimum_is_not_subtracted() {
        let mut rtt = Rtt::new(Some(ms(100)));
        rtt.update(ms(110), ms(25));
        assert_eq!(rtt.smoothed(), (ms(700) + ms(110)) / 8);
    }

    // spec: REC-4
    #[test]
    fn probe_timeout_has_a_floor_for_the_variation() {
        let mut rtt = Rtt::new(Some(Duration::from_micros(100)));
        for _ in 0..50 {
            rtt.update(Duration::from_micros(100), Duration::ZERO);
        }
        assert_eq!(rtt.probe_timeout(ms(25)), Duration::from_micros(100) + ms(1) + ms(25));
        let rtt = Rtt::new(Some(ms(40)));
        assert_eq!(rtt.probe_timeout(ms(25)), ms(40 + 80 + 25));
    }
}
