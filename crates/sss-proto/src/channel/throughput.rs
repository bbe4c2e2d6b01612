//! The bandwidth that a channel gets: how fast the peer acknowledges. For people and applications; nothing is
//! controlled by it.

use std::time::Duration;

use crate::time::Instant;

/// The shortest time over which the rate is measured. Shorter ones would show bursts of acknowledgements, not
/// bandwidth.
const SHORTEST: Duration = Duration::from_millis(100);
/// Nanoseconds in a second.
const NANOS: u128 = 1_000_000_000;

/// The rate at which bytes are acknowledged, in windows of a round trip, or of [`SHORTEST`] if that is longer. An
/// acknowledgement costs an addition and a comparison.
///
/// A window ends with the first acknowledgement that comes when its time is over, and lasts until then: silences count,
/// and what is acknowledged in a burst after one is no peak.
#[derive(Debug, Default)]
pub(super) struct Throughput {
    delivered: u64,
    /// The time when the present window began, or zero before the first one.
    since: Instant,
    /// Bytes acknowledged in it; no more than can be counted.
    bytes: u32,
    /// The end of the latest window with at least half of the peak, in whole seconds.
    peaked: u32,
    latest: u64,
    /// The highest rate on the present path.
    peak: u64,
}

impl Throughput {
    /// So many bytes were newly acknowledged.
    pub(super) fn on_acked(&mut self, now: Instant, bytes: u64, rtt: Duration) {
        self.delivered += bytes;
        if self.since == Instant::default() {
            // How long these were under way is not known.
            self.since = now;
            return;
        }
        self.bytes = self.bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        let elapsed = now.since(self.since);
        if elapsed < rtt.max(SHORTEST) {
            return;
        }
        let rate = u128::from(self.bytes) * NANOS / elapsed.as_nanos().max(1);
        self.latest = u64::try_from(rate).unwrap_or(u64::MAX);
        self.peak = self.peak.max(self.latest);
        if self.latest >= self.peak / 2 {
            let seconds = u128::from(now.as_nanos()) / NANOS;
            self.peaked = u32::try_from(seconds).unwrap_or(u32::MAX);
        }
        (self.since, self.bytes) = (now, 0);
    }

    /// The path is another one: what it carries is not known.
    pub(super) fn begin_path(&mut self) {
        (self.since, self.bytes) = (Instant::default(), 0);
        (self.latest, self.peak, self.peaked) = (0, 0, 0);
    }

    /// Bytes acknowledged so far.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Bytes per second in the latest window that is over; 0 before the first one is.
    pub(super) fn latest(&self) -> u64 {
        self.latest
    }

    /// The highest rate of any window on the present path, in bytes per second.
    pub(super) fn peak(&self) -> u64 {
        self.peak
    }

    /// Returns when it was last at least half of that, or a moment less than a second before.
    pub(super) fn peaked(&self) -> Instant {
        Instant::default() + Duration::from_secs(u64::from(self.peaked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    /// `bytes` are acknowledged in each millisecond.
    fn feed(throughput: &mut Throughput, ms: std::ops::RangeInclusive<u64>, bytes: u64, rtt: u64) {
        for now in ms {
            throughput.on_acked(at(now), bytes, Duration::from_millis(rtt));
        }
    }

    #[test]
    fn a_steady_flow_is_measured_exactly() {
        for rtt in [1, 20, 300] {
            let mut throughput = Throughput::default();
            feed(&mut throughput, 0..=50, 1250, rtt);
            assert_eq!(throughput.latest(), 0, "no window is over");
            feed(&mut throughput, 51..=1000, 1250, rtt);
            assert_eq!((throughput.latest(), throughput.peak()), (1_250_000, 1_250_000));
            assert_eq!(throughput.delivered(), 1001 * 1250);
        }
    }

    #[test]
    fn the_latest_follows_and_the_peak_stays() {
        let mut throughput = Throughput::default();
        feed(&mut throughput, 0..=900, 1000, 300);
        feed(&mut throughput, 901..=2400, 100, 300);
        assert_eq!((throughput.latest(), throughput.peak()), (100_000, 1_000_000));
    }

    // spec: REC-15
    #[test]
    fn another_path_has_another_peak() {
        let mut throughput = Throughput::default();
        feed(&mut throughput, 100..=1100, 1000, 100);
        assert_eq!((throughput.peak(), throughput.peaked()), (1_000_000, at(1000)));
        throughput.begin_path();
        assert_eq!((throughput.peak(), throughput.peaked()), (0, Instant::default()));
        feed(&mut throughput, 1500..=2000, 100, 100);
        assert_eq!((throughput.peak(), throughput.peaked()), (100_000, at(2000)));
        assert_eq!(throughput.delivered(), 1_051_100, "is of the channel");
    }

    #[test]
    fn a_burst_after_silence_is_no_peak() {
        let mut throughput = Throughput::default();
        feed(&mut throughput, 0..=1000, 100, 20);
        throughput.on_acked(at(11_000), 1_000_000, Duration::from_millis(20));
        assert_eq!((throughput.latest(), throughput.peak()), (100_000, 100_000));
    }
}
