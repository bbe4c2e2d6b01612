//! CUBIC (RFC 9438), whose slow start ends as [`start`] says.

mod glide;
mod start;
mod train;

use std::time::Duration;

use super::control::{AckSample, Control, Signal, careful_growth, initial_window, minimum_window};
use crate::rare::Rare;
use crate::time::Instant;
use glide::Glide;
use start::Start;

/// `C` of RFC 9438 section 5, in segments per second cubed.
const C: f64 = 0.4;
/// Multiplicative decrease factor (RFC 9438 section 4.6).
const BETA: f64 = 0.7;
/// Additive increase factor of the Reno-friendly region: `3 (1 - BETA) / (1 + BETA)`.
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// The window is in use when less than so many datagrams of it are left.
const SLACK: u64 = 3;

/// The CUBIC controller.
#[derive(Debug)]
pub(in super::super) struct Cubic {
    datagram: u16,
    window: u64,
    /// Slow start ends here; `u64::MAX` before the first congestion.
    threshold: u64,
    /// Packets sent at or before this moment belong to a congestion event that was reacted to.
    recovery_start: Option<Instant>,
    /// Nothing that was sent since was acknowledged: what is in flight is below the window, and comes back to it.
    is_recovering: bool,
    glide: Glide,
    curve: Curve,
    usage: Usage,
    start: Start,
    /// State before the last reaction to congestion.
    before: Rare<Before>,
}

/// State that is restored when a reaction turns out to have been to no congestion.
#[derive(Clone, Copy, Debug)]
struct Before {
    window: u64,
    threshold: u64,
    curve: Curve,
    /// The rate that slow start was to end with.
    expected: Option<f64>,
}

/// The cubic function of the present congestion avoidance stage.
#[derive(Clone, Copy, Debug, Default)]
struct Curve {
    /// The window at the last reduction, in bytes (`W_max`).
    max: f64,
    /// The time when the stage began; `None` if the next acknowledgement begins it.
    epoch: Option<Instant>,
    /// Seconds from the epoch until the window is back at `max` (`K`).
    k: f64,
    /// The window that Reno would have, in bytes (`W_est`).
    reno: f64,
    /// The window before the last reduction (`cwnd_prior`).
    prior: f64,
    last_ack: Instant,
    /// The part of the window by which it grows in a round trip.
    growth: f64,
}

/// Part of the window that was in use during this round trip and the one before (REC-8).
#[derive(Debug, Default)]
struct Usage {
    present: Round,
    previous: Round,
    /// The round ends when this number is acknowledged.
    round_end: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// The most that was in flight, in bytes.
    peak: u64,
    /// True if that was all the window allowed at some time.
    is_full: bool,
}

impl Usage {
    /// Takes in an acknowledgement that came while the window was `window`; `slack` is what may be left of it.
    fn note(&mut self, sample: &AckSample, window: u64, slack: u64) {
        self.present.peak = self.present.peak.max(sample.in_flight);
        self.present.is_full |= sample.in_flight + slack > window;
        if sample.largest >= self.round_end {
            self.round_end = sample.next;
            self.previous = std::mem::take(&mut self.present);
        }
    }

    fn peak(&self) -> u64 {
        self.present.peak.max(self.previous.peak)
    }

    fn is_full(&self) -> bool {
        self.present.is_full || self.previous.is_full
    }
}

impl Curve {
    /// `W_cubic(t)` in bytes (RFC 9438 figure 1).
    fn at(&self, seconds: f64, datagram: f64) -> f64 {
        let x = seconds - self.k;
        C * datagram * x * x * x + self.max
    }

    /// Begins a stage at window `window` (RFC 9438 figure 2).
    fn begin(&mut self, now: Instant, window: f64, datagram: f64) {
        self.epoch = Some(now);
        self.max = self.max.max(window);
        self.k = ((self.max - window) / datagram / C).cbrt();
        self.reno = window;
    }

    /// The window after an acknowledgement of `bytes` at window `window`.
    fn grow(&mut self, sample: &AckSample, window: f64, datagram: f64) -> f64 {
        if self.epoch.is_none() {
            self.begin(sample.now, window, datagram);
        }
        let elapsed = sample.now.since(self.epoch.unwrap_or(sample.now)).as_secs_f64();
        let alpha = if self.reno >= self.prior { 1.0 } else { ALPHA };
        let bytes = sample.bytes as f64;
        self.reno += alpha * datagram * bytes / window;
        if self.at(elapsed, datagram) < self.reno && window < self.reno {
            self.growth = alpha * datagram / window;
            return self.reno;
        }
        let target = self.at(elapsed + sample.smoothed.as_secs_f64(), datagram);
        let target = target.clamp(window, 1.5 * window);
        self.growth = (target - window) / window;
        window + (target - window) * bytes / window
    }

    /// The time without use does not count (RFC 9438 section 5.8).
    fn pause(&mut self, now: Instant) {
        let idle = now.since(self.last_ack);
        if let Some(epoch) = &mut self.epoch {
            *epoch = *epoch + idle;
        }
    }
}

impl Cubic {
    pub(in super::super) fn new(datagram: u16) -> Self {
        Self {
            datagram,
            window: initial_window(datagram),
            threshold: u64::MAX,
            recovery_start: None,
            is_recovering: false,
            glide: Glide::default(),
            curve: Curve::default(),
            usage: Usage::default(),
            start: Start::default(),
            before: Rare::new(),
        }
    }

    /// Returns whether the sender uses the window, so that it may grow (REC-8). In slow start half of it is enough:
    /// what is acknowledged now was sent when the window was smaller.
    fn is_used(&self) -> bool {
        if self.in_slow_start() {
            self.window < 2 * self.usage.peak()
        } else {
            self.usage.is_full()
        }
    }

    fn slow_start(&mut self, sample: &AckSample) {
        if let Some(end) = self.start.on_acked(sample, self.window) {
            self.land(sample.now, end);
        }
        if self.in_slow_start() {
            if let Some(end) = self.start.on_train(sample) {
                self.threshold = end.max(self.window);
            }
            self.window = (self.window + sample.bytes).min(self.threshold);
            if !self.in_slow_start() {
                self.start.on_landed(sample.now);
            }
        }
    }

    /// Slow start is to end with this window. What is in flight beyond it may be lost: that was reacted to.
    fn land(&mut self, now: Instant, end: u64) {
        self.threshold = end.max(initial_window(self.datagram));
        if self.window >= self.threshold {
            self.window = self.threshold;
            self.begin_recovery(now);
        }
    }

    fn begin_recovery(&mut self, now: Instant) {
        self.recovery_start = Some(now);
        self.is_recovering = true;
        self.glide = Glide::default();
    }

    fn avoid_congestion(&mut self, sample: &AckSample) {
        if self.start.was_accident(sample) {
            self.threshold = u64::MAX;
            self.curve.epoch = None;
            return;
        }
        let grown = self.curve.grow(sample, self.window as f64, f64::from(self.datagram));
        self.window = grown as u64;
    }
}

impl Control for Cubic {
    fn window(&self) -> u64 {
        self.window + self.glide.excess()
    }

    fn in_slow_start(&self) -> bool {
        self.window < self.threshold
    }

    fn is_to_double(&self) -> bool {
        self.window < self.threshold / 2
    }

    fn growth(&self) -> f64 {
        if self.is_recovering {
            return f64::INFINITY;
        }
        careful_growth(self.datagram, self.window).max(self.curve.growth)
    }

    fn on_acked(&mut self, sample: &AckSample) {
        self.usage.note(sample, self.window, SLACK * u64::from(self.datagram));
        self.is_recovering = self.recovery_start.is_some_and(|start| sample.largest_sent <= start);
        self.glide = match self.is_recovering {
            true => self.glide.after(sample, self.window, BETA),
            false => Glide::default(),
        };
        if self.is_recovering || !self.is_used() {
            self.curve.pause(sample.now);
        } else if self.in_slow_start() {
            self.slow_start(sample);
        } else {
            self.avoid_congestion(sample);
        }
        self.curve.last_ack = sample.now;
    }

    fn on_congestion(&mut self, now: Instant, signal: &Signal) -> bool {
        let (expected, pipe) = self.start.end();
        if self.recovery_start.is_some_and(|start| signal.sent <= start) {
            return false;
        }
        self.begin_recovery(now);
        let was_slow_start = self.in_slow_start();
        self.before = Rare::of(Before {
            window: self.window,
            threshold: self.threshold,
            curve: self.curve,
            expected,
        });
        let window = self.window as f64;
        // Fast convergence (RFC 9438 section 4.7).
        let converging = window < self.curve.max;
        self.curve.max = if converging {
            window * (1.0 + BETA) / 2.0
        } else {
            window
        };
        self.curve.prior = window;
        self.curve.epoch = None;
        self.window = ((window * BETA) as u64).max(minimum_window(self.datagram));
        self.threshold = self.window;
        // At the end of slow start the queue is full, of what was sent too much.
        if !was_slow_start {
            self.glide = Glide::DUE;
        }
        // The queue was too short for a burst, or for what slow start ended with: not the path for what it holds.
        let was_burst = window <= 2.0 * initial_window(self.datagram) as f64;
        if was_burst || pipe as f64 <= window {
            self.threshold = self.window.max(pipe);
        }
        true
    }

    /// RFC 9438 section 4.9.
    fn on_false_congestion(&mut self) {
        if let Some(before) = std::mem::take(&mut self.before).get()
            && before.window > self.window
        {
            self.window = before.window;
            self.threshold = before.threshold;
            self.curve = before.curve;
            self.start.expect_again(before.expected);
            self.recovery_start = None;
            self.is_recovering = false;
            self.glide = Glide::default();
        }
    }

    fn on_persistent_congestion(&mut self) {
        self.before = Rare::new();
        self.window = minimum_window(self.datagram);
        self.recovery_start = None;
        self.is_recovering = false;
        self.glide = Glide::default();
        self.curve.epoch = None;
        self.start = Start::again();
    }

    fn begin_with(&mut self, window: u64) {
        if self.in_slow_start() {
            self.window = self.window.max(window);
        }
    }

    fn set_window(&mut self, window: u64) {
        self.window = window.max(minimum_window(self.datagram));
    }

    fn expect(&mut self, rate: f64, rtt: Duration) {
        self.threshold = self.start.expect(rate, rtt).max(initial_window(self.datagram));
    }

    fn retreat(&mut self, window: u64) {
        self.window = window.max(minimum_window(self.datagram));
        self.threshold = self.window;
        self.glide = Glide::default();
        self.curve = Curve::default();
    }

    fn grow_to(&mut self, window: u64) {
        self.threshold = self.threshold.max(window);
    }

    fn set_datagram(&mut self, datagram: u16) {
        self.datagram = datagram;
        let least = if self.threshold == u64::MAX {
            initial_window(datagram)
        } else {
            minimum_window(datagram)
        };
        self.window = self.window.max(least);
    }
}

#[cfg(test)]
mod tests;
