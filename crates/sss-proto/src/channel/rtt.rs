//! Round-trip time: latest, minimum, smoothed, variation (RFC 9002 section 5; REC-1).

use std::num::NonZeroU64;
use std::time::Duration;

use crate::time::{Instant, Span};

/// Precision of clocks and timers; the least that a timeout adds to a measurement.
pub(in crate::channel) const GRANULARITY: Duration = Duration::from_millis(1);
/// Two periods are alike if all their measurements are within this part of the least.
const FLAT_PART: u64 = 8;
/// Assumed before anything was measured.
const INITIAL: Duration = Duration::from_millis(333);

/// The estimate of a path's round-trip time.
#[derive(Clone, Debug)]
pub(super) struct Rtt {
    latest: Span,
    /// The same without the time that the peer waited.
    adjusted: Span,
    smoothed: Span,
    variation: Span,
    /// `None` before the first measurement.
    min: Option<Span>,
    periods: Periods,
}

/// The latest times of a round trip each.
#[derive(Clone, Debug, Default)]
struct Periods {
    /// The beginning of the present one.
    began: Instant,
    /// The present one first.
    measured: [Period; 4],
    /// Of each: from one measurement to the next it became longer by half.
    is_step: [bool; 4],
}

/// The least and the most that was measured in a time of a round trip, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Period {
    least: Option<NonZeroU64>,
    most: u64,
}

impl Period {
    fn add(&mut self, rtt: Duration) {
        let nanos = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX);
        let rtt = NonZeroU64::new(nanos).unwrap_or(NonZeroU64::MIN);
        self.least = Some(self.least.map_or(rtt, |least| least.min(rtt)));
        self.most = self.most.max(rtt.get());
    }
}

impl Periods {
    /// Those of an estimate whose first measurement is `rtt`.
    fn beginning_with(now: Instant, rtt: Duration) -> Self {
        let mut periods = Self {
            began: now,
            ..Self::default()
        };
        periods.add(rtt, false);
        periods
    }

    /// Takes in a measurement of the present period.
    fn add(&mut self, rtt: Duration, is_step: bool) {
        self.measured[0].add(rtt);
        self.is_step[0] |= is_step;
    }

    /// The present one is over. The oldest is forgotten.
    fn advance(&mut self, now: Instant) {
        let ([first, second, third, _], [is_first, is_second, is_third, _]) = (self.measured, self.is_step);
        *self = Self {
            began: now,
            measured: [Period::default(), first, second, third],
            is_step: [false, is_first, is_second, is_third],
        };
    }

    /// Returns the round trip of a path that has become longer: at once, and evenly. One of the two oldest periods had
    /// a round trip of two thirds, the two latest are alike, and there was a step. A queue grows with each packet.
    fn longer_path(&self) -> Option<Duration> {
        let [first, second, third, fourth] = &self.measured;
        let least = first.least?.min(second.least?).get();
        let before = third.least.into_iter().chain(fourth.least).min()?.get();
        let is_flat = first.most.max(second.most) - least <= least / FLAT_PART;
        let is_step = self.is_step[1] || self.is_step[2];
        let is_longer = least >= before.saturating_add(before / 2);
        (is_step && is_flat && is_longer).then(|| Duration::from_nanos(least))
    }
}

impl Rtt {
    /// An estimate that begins with a measurement of the negotiation, if there is one.
    pub(super) fn new(measured: Option<Duration>) -> Self {
        let duration = measured.unwrap_or(INITIAL);
        let first = Span::from(duration);
        Self {
            latest: first,
            adjusted: first,
            smoothed: first,
            variation: (duration / 2).into(),
            min: measured.map(Span::from),
            periods: Periods::default(),
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
    pub(super) fn update(&mut self, now: Instant, latest: Duration, ack_delay: Duration) {
        let adjusted = self.adjust(latest, ack_delay);
        let (before, smoothed) = (self.adjusted(), self.smoothed());
        let is_step = adjusted >= before + before / 2;
        self.latest = latest.into();
        self.adjusted = adjusted.into();
        if now.since(self.periods.began) >= smoothed {
            self.next_period(now);
        }
        self.periods.add(adjusted, is_step);
        let Some(min) = self.min else {
            *self = Self {
                periods: Periods::beginning_with(now, latest),
                ..Self::new(Some(latest))
            };
            return;
        };
        self.min = Some(min.min(latest.into()));
        let deviation = smoothed.abs_diff(adjusted);
        self.variation = ((self.variation() * 3 + deviation) / 4).into();
        self.smoothed = ((smoothed * 7 + adjusted) / 8).into();
    }

    /// A measurement without the time that the peer waited, unless that would be less than the minimum.
    fn adjust(&self, latest: Duration, ack_delay: Duration) -> Duration {
        let least = self.min().unwrap_or(latest).min(latest) + ack_delay;
        if latest >= least { latest - ack_delay } else { latest }
    }

    /// A period is over. The least is not that of another path for ever (REC-1).
    fn next_period(&mut self, now: Instant) {
        if let Some(longer) = self.periods.longer_path() {
            self.min = Some(longer.into());
        }
        self.periods.advance(now);
    }

    pub(super) fn smoothed(&self) -> Duration {
        self.smoothed.get()
    }

    pub(super) fn variation(&self) -> Duration {
        self.variation.get()
    }

    pub(super) fn latest(&self) -> Duration {
        self.latest.get()
    }

    /// The latest measurement, without the time that the peer says it waited.
    pub(super) fn adjusted(&self) -> Duration {
        self.adjusted.get()
    }

    /// The least that was measured, if anything was.
    pub(super) fn min(&self) -> Option<Duration> {
        self.min.map(Span::get)
    }

    /// The probe timeout without backoff, for a peer that delays acknowledgements by at most `max_ack_delay` (REC-4).
    pub(super) fn probe_timeout(&self, max_ack_delay: Duration) -> Duration {
        self.smoothed() + (self.variation() * 4).max(GRANULARITY) + max_ack_delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

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
        rtt.update(at(0), ms(100), ms(25));
        assert_eq!((rtt.smoothed(), rtt.variation()), (ms(100), ms(50)));
        // adjusted = 150 - 10 = 140: deviation 40, variation (150 + 40) / 4, smoothed (700 + 140) / 8.
        rtt.update(at(0), ms(150), ms(10));
        assert_eq!(rtt.variation(), Duration::from_micros(47_500));
        assert_eq!(rtt.smoothed(), ms(105));
        assert_eq!((rtt.min(), rtt.latest()), (Some(ms(100)), ms(150)));
    }

    // spec: REC-1
    #[test]
    fn a_bound_is_a_guess_and_no_measurement() {
        let mut rtt = Rtt::at_most(ms(40));
        assert_eq!((rtt.smoothed(), rtt.min()), (ms(40), None));
        rtt.update(at(0), ms(30), ms(0));
        assert_eq!((rtt.smoothed(), rtt.min()), (ms(30), Some(ms(30))));
        assert_eq!(Rtt::at_most(ms(5000)).smoothed(), ms(333));
    }

    #[test]
    fn a_delay_that_would_go_below_the_minimum_is_not_subtracted() {
        let mut rtt = Rtt::new(Some(ms(100)));
        rtt.update(at(0), ms(110), ms(25));
        assert_eq!(rtt.smoothed(), (ms(700) + ms(110)) / 8);
    }

    // spec: REC-4
    #[test]
    fn probe_timeout_has_a_floor_for_the_variation() {
        let mut rtt = Rtt::new(Some(Duration::from_micros(100)));
        for _ in 0..50 {
            rtt.update(at(0), Duration::from_micros(100), Duration::ZERO);
        }
        assert_eq!(rtt.probe_timeout(ms(25)), Duration::from_micros(100) + ms(1) + ms(25));
        let rtt = Rtt::new(Some(ms(40)));
        assert_eq!(rtt.probe_timeout(ms(25)), ms(40 + 80 + 25));
    }

    // spec: REC-1
    #[test]
    fn the_least_is_that_of_a_longer_path_soon() {
        let mut rtt = Rtt::new(Some(ms(50)));
        for now in 0..1000 {
            rtt.update(at(now), ms(50 + now % 3), ms(0));
        }
        for now in 1000..1600 {
            rtt.update(at(now), ms(160 + now % 3), ms(0));
        }
        assert_eq!(rtt.min(), Some(ms(160)));
        rtt.update(at(1601), ms(50), ms(0));
        assert_eq!(rtt.min(), Some(ms(50)));
    }

    // spec: REC-1
    #[test]
    fn a_queue_is_no_longer_path() {
        let mut rtt = Rtt::new(Some(ms(50)));
        // It fills up in 200 ms, falls by a third, and fills up again; then it stands.
        for now in 0..10_000 {
            let wait = match now {
                0..200 => now / 4,
                200..8000 => 34 + (now - 200) % 2000 / 125,
                _ => 50,
            };
            rtt.update(at(now), ms(50 + wait), ms(0));
        }
        assert_eq!(rtt.min(), Some(ms(50)));
    }

    // spec: REC-1
    #[test]
    fn a_queue_that_comes_at_once_is_no_longer_path_unless_it_is_half_of_it() {
        for (wait, least) in [(20, 50), (26, 76)] {
            let mut rtt = Rtt::new(Some(ms(50)));
            for now in 0..2000 {
                // A burst of somebody else, and then a queue that stands.
                let wait = match now {
                    0..1000 => 0,
                    1000 => 30,
                    _ => wait + now % 3,
                };
                rtt.update(at(now), ms(50 + wait), ms(0));
            }
            assert_eq!(rtt.min(), Some(ms(least)), "a queue of {wait} ms");
        }
    }

    // spec: REC-1
    #[test]
    fn acknowledgements_that_are_held_back_are_no_longer_path() {
        let mut rtt = Rtt::new(Some(ms(40)));
        for now in 0..2000 {
            // A sender of little: for a time each acknowledgement comes late, and says so.
            let held = if now < 1000 { ms(0) } else { ms(20) };
            rtt.update(at(now), ms(40) + held, held);
        }
        assert_eq!(
            (rtt.min(), rtt.adjusted(), rtt.latest()),
            (Some(ms(40)), ms(40), ms(60))
        );
    }
}
