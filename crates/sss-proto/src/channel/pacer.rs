//! Pacing: packets leave at the rate of the window, in small bursts (REC-7).

use std::time::Duration;

use crate::time::Instant;

/// Smallest burst, in bytes and in datagrams.
const MIN_BURST: u64 = 64 << 10;
const MIN_BURST_DATAGRAMS: u64 = 10;
/// A burst may hold what the rate gives in this time: drivers' timers are not finer.
const BURST_TIME: Duration = Duration::from_millis(1);

/// The same where the rate is measured: a burst of that size is to fit into a short queue.
const MODEL_BURST_DATAGRAMS: f64 = 4.0;
const MODEL_BURST_TIME: Duration = Duration::from_millis(4);
/// No rate is below a byte in a millisecond.
const MIN_PER_NANO: f64 = 1e-6;

/// Quantities that the rate depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// The congestion window, in bytes.
    pub(super) window: u64,
    pub(super) smoothed: Duration,
    pub(super) slow_start: bool,
    /// Bytes per second, if the congestion controller says so itself.
    pub(super) model: Option<f64>,
    pub(super) datagram: u16,
}

impl Rate {
    /// Bytes per nanosecond.
    fn per_nano(self) -> f64 {
        if let Some(rate) = self.model {
            return (rate / 1e9).max(MIN_PER_NANO);
        }
        let gain = if self.slow_start { 2.0 } else { 1.25 };
        gain * self.window as f64 / (self.smoothed.as_nanos() as f64).max(1.0)
    }

    fn burst(self, per_nano: f64) -> f64 {
        if self.model.is_some() && !self.slow_start {
            let least = f64::from(self.datagram) * MODEL_BURST_DATAGRAMS;
            return least.max(per_nano * MODEL_BURST_TIME.as_nanos() as f64);
        }
        let least = MIN_BURST.max(MIN_BURST_DATAGRAMS * u64::from(self.datagram)) as f64;
        least.max(per_nano * BURST_TIME.as_nanos() as f64)
    }
}

/// A token bucket, refilled at the pacing rate.
#[derive(Debug)]
pub(super) struct Pacer {
    /// Bytes that may leave now. Below zero after packets that did not ask.
    tokens: f64,
    refilled: Instant,
    burst: f64,
    /// Tokens wanted before a new run of packets begins, once the bucket was found empty.
    resume_at: f64,
}

impl Pacer {
    /// A full bucket.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            tokens: MIN_BURST as f64,
            refilled: now,
            burst: MIN_BURST as f64,
            resume_at: 0.0,
        }
    }

    /// Returns whether a datagram may leave at `now`; else when to ask again. That is late enough for a good part of a
    /// burst.
    pub(super) fn check(&mut self, now: Instant, rate: Rate) -> Result<(), Instant> {
        // Within a batch the clock stands still, and so does the bucket.
        if now != self.refilled {
            self.refill(now, rate);
        }
        let datagram = f64::from(rate.datagram);
        if self.tokens >= self.resume_at.max(datagram) {
            self.resume_at = 0.0;
            return Ok(());
        }
        let per_nano = rate.per_nano();
        // A run of packets fills a segmented send: half a burst, but no more than what the rate gives in a timer's
        // tick.
        self.resume_at = (self.burst / 2.0)
            .min(per_nano * BURST_TIME.as_nanos() as f64)
            .max(datagram);
        let wait = (self.resume_at - self.tokens) / per_nano;
        Err(now + Duration::from_nanos(wait.clamp(1.0, 1e12) as u64))
    }

    fn refill(&mut self, now: Instant, rate: Rate) {
        let per_nano = rate.per_nano();
        self.burst = rate.burst(per_nano);
        let elapsed = now.since(self.refilled).as_nanos() as f64;
        self.tokens = (self.tokens + elapsed * per_nano).min(self.burst);
        self.refilled = now;
    }

    /// Counts a packet that left.
    pub(super) fn on_sent(&mut self, bytes: u64) {
        self.tokens -= bytes as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(window: u64, slow_start: bool) -> Rate {
        Rate {
            window,
            smoothed: Duration::from_millis(100),
            slow_start,
            model: None,
            datagram: 1232,
        }
    }

    /// Bytes that leave in `time` when the pacer is asked as often as it says.
    fn sent_in(time: Duration, rate: Rate, size: u64) -> u64 {
        let start = Instant::from_nanos(1);
        let mut pacer = Pacer::new(start);
        let mut now = start;
        let mut sent = 0;
        while now.since(start) < time {
            match pacer.check(now, rate) {
                Ok(()) => {
                    pacer.on_sent(size);
                    sent += size;
                }
                Err(later) => {
                    assert!(later > now);
                    now = later;
                }
            }
        }
        sent
    }

    // spec: REC-7
    #[test]
    fn the_long_term_rate_is_window_over_rtt_times_gain() {
        let time = Duration::from_secs(20);
        for (slow_start, gain) in [(false, 1.25), (true, 2.0)] {
            let sent = sent_in(time, rate(1_000_000, slow_start), 1232) as f64;
            let expected = gain * 1e6 * 10.0 * 20.0;
            assert!((sent / expected - 1.0).abs() < 0.02, "sent {sent}, expected {expected}");
        }
    }

    // spec: REC-7
    #[test]
    fn a_burst_is_bounded() {
        let start = Instant::from_nanos(1);
        let later = start + Duration::from_secs(60);
        for (window, datagram, expected) in [
            (100_000, 1232, 65_536),
            (100_000, 65_507, 655_070),
            (400_000_000, 1232, 5_000_000),
        ] {
            let mut pacer = Pacer::new(start);
            let rate = Rate {
                datagram,
                ..rate(window, false)
            };
            let mut sent = 0;
            while pacer.check(later, rate).is_ok() {
                pacer.on_sent(u64::from(datagram));
                sent += u64::from(datagram);
            }
            assert!(
                sent <= expected && sent + u64::from(datagram) > expected,
                "window {window}: {sent}"
            );
        }
    }
}
