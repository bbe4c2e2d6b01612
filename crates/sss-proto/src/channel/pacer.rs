//! Pacing: packets leave at the rate of the window, in short bursts (REC-7).

use std::time::Duration;

use super::congestion::initial_window;
use crate::time::Instant;

/// A burst holds what the rate gives in this time: drivers' timers are not finer.
const BURST_TIME: Duration = Duration::from_millis(1);
/// Datagrams that a burst may hold at any rate.
const MIN_BURST_DATAGRAMS: f64 = 2.0;
/// The same where the rate is measured, once the start is over.
const MODEL_BURST_TIME: Duration = Duration::from_millis(4);
const MODEL_BURST_DATAGRAMS: f64 = 4.0;
/// Time by which a driver may wake the pacer late without its rate becoming less.
const LATENESS: Duration = Duration::from_millis(4);
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

    /// Bytes per second that leave in the long run.
    pub(super) fn per_second(self) -> u64 {
        let of_window = self.window as f64 / self.smoothed.as_secs_f64().max(1e-9);
        self.model.unwrap_or(of_window) as u64
    }

    /// Bytes that may leave at once, if nobody was late.
    fn burst(self, per_nano: f64) -> f64 {
        if self.model.is_some() && !self.slow_start {
            let least = f64::from(self.datagram) * MODEL_BURST_DATAGRAMS;
            return least.max(per_nano * MODEL_BURST_TIME.as_nanos() as f64);
        }
        let least = f64::from(self.datagram) * MIN_BURST_DATAGRAMS;
        least.max(per_nano * BURST_TIME.as_nanos() as f64)
    }
}

/// Bytes that a channel may send in some time to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outlook {
    now: Instant,
    in_flight: u64,
    rate: Rate,
}

impl Outlook {
    pub(super) fn new(now: Instant, in_flight: u64, rate: Rate) -> Self {
        Self { now, in_flight, rate }
    }

    /// After slow start, with the smallest datagrams.
    #[cfg(test)]
    pub(crate) fn of(now: Instant, in_flight: u64, window: u64, smoothed: Duration) -> Self {
        let rate = Rate {
            window,
            smoothed,
            slow_start: false,
            model: None,
            datagram: 1232,
        };
        Self::new(now, in_flight, rate)
    }

    pub(crate) fn round_trip(&self) -> Duration {
        self.rate.smoothed
    }

    /// Returns how many bytes leave in the time of a burst.
    pub(crate) fn in_burst_time(&self) -> usize {
        (self.rate.per_nano() * BURST_TIME.as_nanos() as f64) as usize
    }

    /// Returns how many bytes may leave until `end`: as many as the pace lets out, and no more than the window has room
    /// for. That is what is free of it now, and what becomes free as what is under way is acknowledged in the course of
    /// a round trip; after that the window is no limit.
    pub(crate) fn until(&self, end: Instant) -> u64 {
        let (time, per_nano) = (end.since(self.now), self.rate.per_nano());
        let paced = |time: Duration| (time.as_nanos() as f64 * per_nano) as u64;
        let round = self.rate.smoothed.as_nanos().max(1) as f64;
        let freed = self.in_flight as f64 * (time.as_nanos() as f64 / round).min(1.0);
        let free = self.rate.window.saturating_sub(self.in_flight) + freed as u64;
        let windowed = free.saturating_add(paced(time.saturating_sub(self.rate.smoothed)));
        windowed.min((self.rate.burst(per_nano) as u64).saturating_add(paced(time)))
    }
}

/// A token bucket, refilled at the pacing rate.
#[derive(Debug)]
pub(super) struct Pacer {
    /// Bytes that may leave now. Below zero after packets that did not ask.
    tokens: f64,
    refilled: Instant,
    /// The time when the last packet left that counts; `None` before the first.
    sent: Option<Instant>,
    /// The time when to ask again, once the bucket was found empty, and the tokens wanted then, for a new run of
    /// packets.
    resume: Option<(Instant, f64)>,
}

impl Pacer {
    /// A bucket that holds an initial window.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            tokens: 0.0,
            refilled: now,
            sent: None,
            resume: None,
        }
    }

    /// Returns whether a datagram may leave at `now`; else when to ask again. That is late enough for a good part of a
    /// burst.
    pub(super) fn check(&mut self, now: Instant, rate: Rate) -> Result<(), Instant> {
        // Within a batch the clock stands still, and so does the bucket.
        if now != self.refilled || self.sent.is_none() {
            self.refill(now, rate);
        }
        let datagram = f64::from(rate.datagram);
        let wanted = self.resume.map_or(datagram, |(_, tokens)| tokens);
        if self.tokens >= wanted {
            self.resume = None;
            return Ok(());
        }
        let per_nano = rate.per_nano();
        // A run of packets fills a segmented send: half a burst, but no more than what the rate gives in a timer's
        // tick.
        let wanted = (rate.burst(per_nano) / 2.0)
            .min(per_nano * BURST_TIME.as_nanos() as f64)
            .max(datagram);
        let wait = (wanted - self.tokens) / per_nano;
        let at = now + Duration::from_nanos(wait.clamp(1.0, 1e12) as u64);
        self.resume = Some((at, wanted));
        Err(at)
    }

    fn refill(&mut self, now: Instant, rate: Rate) {
        let per_nano = rate.per_nano();
        let elapsed = now.since(self.refilled);
        // What a late driver did not ask for in time is made up for; what nobody wanted to send is not.
        let late = self
            .resume
            .map_or(Duration::ZERO, |(at, _)| now.since(at).min(LATENESS));
        let burst = rate.burst(per_nano) + late.as_nanos() as f64 * per_nano;
        self.tokens = (self.tokens + elapsed.as_nanos() as f64 * per_nano).min(burst);
        // A round trip after the last packet, the path may hold nothing more of them.
        if self.sent.is_none_or(|sent| now.since(sent) >= rate.smoothed) {
            self.tokens = self.tokens.max(initial_window(rate.datagram) as f64);
        }
        self.refilled = now;
    }

    /// Counts a packet that left.
    pub(super) fn on_sent(&mut self, now: Instant, bytes: u64) {
        self.tokens -= bytes as f64;
        self.sent = Some(now);
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
                    pacer.on_sent(now, size);
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

    /// Bytes that leave at `now`.
    fn burst_at(pacer: &mut Pacer, now: Instant, rate: Rate) -> u64 {
        let mut sent = 0;
        while pacer.check(now, rate).is_ok() {
            pacer.on_sent(now, u64::from(rate.datagram));
            sent += u64::from(rate.datagram);
        }
        sent
    }

    // spec: REC-7
    #[test]
    fn a_burst_is_what_the_rate_gives_in_a_millisecond_and_two_datagrams_at_least() {
        let (start, rtt) = (Instant::from_nanos(1), Duration::from_millis(100));
        for (window, expected) in [(100_000, 2 * 1232), (1_000_000, 12_500), (400_000_000, 5_000_000)] {
            let mut pacer = Pacer::new(start);
            let rate = rate(window, false);
            burst_at(&mut pacer, start, rate);
            let resume = pacer.check(start, rate).expect_err("the bucket is empty");
            for (late, more) in [(0, 0.0), (2, 2.0), (60, 4.0)] {
                let mut pacer = Pacer {
                    resume: Some((resume, 1.0)),
                    ..Pacer::new(start)
                };
                pacer.sent = Some(resume);
                let sent = burst_at(&mut pacer, resume + Duration::from_millis(late), rate) as f64;
                let most = expected as f64 + more * 1.25 * window as f64 / 100.0;
                assert!(sent <= most, "window {window}, {late} ms late: {sent}, {most}");
            }
            // Nobody asked for half a round trip: nothing is made up for.
            let mut pacer = Pacer::new(start);
            pacer.sent = Some(start);
            let sent = burst_at(&mut pacer, start + rtt / 2, rate);
            assert!(sent <= expected && sent + 1232 > expected, "window {window}: {sent}");
        }
    }

    // spec: REC-7
    #[test]
    fn an_initial_window_may_leave_at_once_where_nothing_left_for_a_round_trip() {
        let start = Instant::from_nanos(1);
        let mut pacer = Pacer::new(start);
        let rate = rate(100_000, false);
        assert_eq!(burst_at(&mut pacer, start, rate), 12_320);
        assert_eq!(burst_at(&mut pacer, start, rate), 0);
        let now = start + Duration::from_secs(1);
        assert_eq!(burst_at(&mut pacer, now, rate), 12_320);
        pacer.resume = None;
        let now = now + Duration::from_millis(99);
        assert_eq!(burst_at(&mut pacer, now, rate), 2 * 1232);
    }

    // spec: REC-7
    #[test]
    fn a_driver_that_is_late_keeps_the_rate() {
        let start = Instant::from_nanos(1);
        let rate = rate(10_000_000, false);
        let mut pacer = Pacer::new(start);
        let (mut now, mut sent) = (start, 0);
        while now.since(start) < Duration::from_secs(5) {
            sent += burst_at(&mut pacer, now, rate);
            let at = pacer.check(now, rate).expect_err("the bucket is empty");
            now = at + Duration::from_millis(2);
        }
        let expected = 1.25 * 1e8 * 5.0;
        assert!(
            (sent as f64 / expected - 1.0).abs() < 0.02,
            "sent {sent}, expected {expected}"
        );
    }

    // spec: STR-79
    #[test]
    fn as_much_leaves_in_a_time_as_the_pace_and_the_window_let_out() {
        let now = Instant::from_nanos(1);
        let until =
            |in_flight, ms| Outlook::new(now, in_flight, rate(100_000, false)).until(now + Duration::from_millis(ms));
        // What the window has room for, if the pace lets it out: 1.25 windows in 100 ms.
        assert_eq!(until(0, 40), 50_000 + 2464);
        assert_eq!([until(0, 100), until(0, 200)], [100_000, 225_000]);
        // A full window becomes free in the course of a round trip.
        assert_eq!(
            [until(100_000, 0), until(100_000, 50), until(100_000, 100)],
            [0, 50_000, 100_000]
        );
        assert_eq!(until(100_000, 180), 200_000);
        assert_eq!(until(140_000, 0), 0);
    }

    #[test]
    fn what_leaves_in_the_long_run_is_a_window_in_each_round_trip_or_what_the_model_says() {
        assert_eq!(rate(100_000, true).per_second(), 1_000_000);
        let modelled = Rate {
            model: Some(70_000.0),
            ..rate(100_000, false)
        };
        assert_eq!(modelled.per_second(), 70_000);
    }
}
