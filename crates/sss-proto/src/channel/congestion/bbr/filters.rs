//! The largest and the smallest of late: bandwidth, aggregation of acknowledgements, round-trip time (REC-10).

use std::time::Duration;

use crate::time::Instant;

/// A round trip not confirmed for so long is looked for (PROBE_RTT).
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// A smallest round trip that was not met for so long is given up for what PROBE_RTT finds.
const MIN_RTT_WINDOW: Duration = Duration::from_secs(10);
/// A round trip that is longer by no more than this part confirms the smallest one.
const CONFIRMING_PART: u32 = 64;
/// A path is another one if its least is longer by this part.
const LONGER_PART: u32 = 4;
/// Round trips in each half of the window of the aggregation filter.
const AGGREGATION_ROUNDS: u64 = 5;

/// The largest of the values in the present period and in the one before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MaxFilter([f64; 2]);

impl MaxFilter {
    pub(super) fn get(&self) -> f64 {
        self.0[0].max(self.0[1])
    }

    pub(super) fn update(&mut self, value: f64) {
        self.0[1] = self.0[1].max(value);
    }

    /// Forgets what was larger than this.
    pub(super) fn limit(&mut self, value: f64) {
        self.0 = self.0.map(|v| v.min(value));
    }

    /// A period ends. One in which nothing was seen does not count.
    pub(super) fn advance(&mut self) {
        if self.0[1] > 0.0 {
            self.0 = [self.0[1], 0.0];
        }
    }
}

/// The smallest round-trip time, and whether it is time to look for it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MinRtt {
    value: Option<Duration>,
    /// The time when a packet last took that long.
    confirmed: Instant,
    /// The time when that was, or when it was last looked for.
    probed: Instant,
    /// The smallest while it is looked for.
    candidate: Option<Duration>,
}

impl MinRtt {
    pub(super) fn get(&self) -> Option<Duration> {
        self.value
    }

    pub(super) fn update(&mut self, now: Instant, rtt: Duration) {
        self.candidate = Some(self.candidate.map_or(rtt, |c| c.min(rtt)));
        if self.value.is_none_or(|value| rtt <= value + value / CONFIRMING_PART) {
            self.value = Some(self.value.map_or(rtt, |value| value.min(rtt)));
            self.confirmed = now;
            self.probed = now;
        }
    }

    /// The least of all measurements on the path is this one: it has become longer (REC-1).
    pub(super) fn renew(&mut self, now: Instant, least: Duration) {
        if self.value.is_some_and(|value| least > value + value / LONGER_PART) {
            self.value = Some(least);
            self.confirmed = now;
            self.probed = now;
        }
    }

    /// Returns whether it is to be looked for.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.value.is_some() && now > self.probed + PROBE_INTERVAL
    }

    /// The search begins.
    pub(super) fn search(&mut self) {
        self.candidate = None;
    }

    /// The search is over.
    pub(super) fn found(&mut self, now: Instant) {
        self.probed = now;
        if now > self.confirmed + MIN_RTT_WINDOW
            && let Some(found) = self.candidate
        {
            self.value = Some(found);
            self.confirmed = now;
        }
    }
}

/// By how many bytes acknowledgements were ahead of the measured bandwidth, at most: what else than the bandwidth-delay
/// product has to be in flight so that the path does not fall silent between bunches of acknowledgements.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Aggregation {
    largest: MaxFilter,
    /// The time when the present bunch began, and what has come since.
    since: Instant,
    bytes: u64,
    rounds: u64,
}

impl Aggregation {
    pub(super) fn get(&self) -> u64 {
        self.largest.get() as u64
    }

    /// Begins anew: for a time nothing was sent.
    pub(super) fn restart(&mut self, now: Instant) {
        self.since = now;
        self.bytes = 0;
    }

    /// So many bytes were acknowledged, while the path is taken to carry `bandwidth` bytes per second and `window` may
    /// be in flight.
    pub(super) fn update(&mut self, now: Instant, acked: u64, bandwidth: f64, window: u64) {
        let mut expected = bandwidth * now.since(self.since).as_secs_f64();
        if self.bytes as f64 <= expected {
            self.restart(now);
            expected = 0.0;
        }
        self.bytes = self.bytes.saturating_add(acked);
        self.largest.update((self.bytes as f64 - expected).min(window as f64));
    }

    pub(super) fn on_round(&mut self) {
        self.rounds += 1;
        if self.rounds.is_multiple_of(AGGREGATION_ROUNDS) {
            self.largest.advance();
        }
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

    // spec: REC-10
    #[test]
    fn the_largest_is_remembered_for_two_periods() {
        let mut filter = MaxFilter::default();
        filter.update(5.0);
        filter.update(3.0);
        filter.advance();
        assert_eq!(filter.get(), 5.0);
        filter.advance();
        assert_eq!(filter.get(), 5.0, "nothing was seen");
        filter.update(2.0);
        assert_eq!(filter.get(), 5.0);
        filter.advance();
        assert_eq!(filter.get(), 2.0);
    }

    // spec: REC-10
    #[test]
    fn the_smallest_round_trip_is_looked_for_and_given_up_in_the_end() {
        let mut rtt = MinRtt::default();
        assert!(!rtt.is_due(at(60_000)));
        rtt.update(at(0), ms(50));
        rtt.update(at(3000), ms(60));
        assert!(!rtt.is_due(at(5000)) && rtt.is_due(at(5001)));
        rtt.update(at(4000), Duration::from_micros(50_700));
        assert!(!rtt.is_due(at(9000)), "as good as the smallest");
        assert_eq!(rtt.get(), Some(ms(50)));
        rtt.search();
        rtt.update(at(9100), ms(70));
        rtt.found(at(9200));
        assert_eq!(rtt.get(), Some(ms(50)), "only 5 s old");
        rtt.search();
        rtt.update(at(14_300), ms(75));
        rtt.update(at(14_400), ms(80));
        rtt.found(at(14_500));
        assert_eq!(rtt.get(), Some(ms(75)));
        rtt.update(at(14_600), ms(40));
        assert_eq!(rtt.get(), Some(ms(40)));
    }

    // spec: REC-10
    #[test]
    fn bunches_of_acknowledgements_are_allowed_for() {
        let mut aggregation = Aggregation::default();
        // 100 bytes per ms; 1000 bytes each 10 ms at once.
        for n in 1..10 {
            aggregation.update(at(10 * n), 1000, 100_000.0, 10_000);
            aggregation.on_round();
        }
        assert_eq!(aggregation.get(), 1000);
        for n in 100..1200 {
            aggregation.update(at(n), 100, 100_000.0, 10_000);
            if n % 100 == 0 {
                aggregation.on_round();
            }
        }
        assert_eq!(aggregation.get(), 100);
        aggregation.update(at(1300), 1_000_000, 100_000.0, 10_000);
        assert_eq!(aggregation.get(), 10_000, "never more than a window");
    }
}
