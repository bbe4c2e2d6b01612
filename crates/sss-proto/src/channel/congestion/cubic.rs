//! CUBIC (RFC 9438) with the slow start exit of HyStart++ (RFC 9406).

use std::time::Duration;

use super::control::{AckSample, Control, Signal, careful_growth, initial_window, minimum_window};
use crate::time::Instant;

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
    curve: Curve,
    usage: Usage,
    hystart: HyStart,
    /// State before the last reaction to congestion.
    before: Option<Before>,
}

/// State that is restored when a reaction turns out to have been to no congestion.
#[derive(Clone, Copy, Debug)]
struct Before {
    window: u64,
    threshold: u64,
    curve: Curve,
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
            return self.reno;
        }
        let target = self.at(elapsed + sample.smoothed.as_secs_f64(), datagram);
        let target = target.clamp(window, 1.5 * window);
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
            curve: Curve::default(),
            usage: Usage::default(),
            hystart: HyStart::default(),
            before: None,
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
        let growth = match self.hystart.on_acked(sample) {
            Growth::Full => sample.bytes,
            Growth::Conservative => sample.bytes / CSS_GROWTH_DIVISOR,
            Growth::Over => {
                self.threshold = self.window;
                return;
            }
        };
        self.window = (self.window + growth).min(self.threshold);
    }
}

impl Control for Cubic {
    fn window(&self) -> u64 {
        self.window
    }

    fn in_slow_start(&self) -> bool {
        self.window < self.threshold
    }

    fn growth(&self) -> f64 {
        careful_growth(self.datagram, self.window)
    }

    fn on_acked(&mut self, sample: &AckSample) {
        self.usage.note(sample, self.window, SLACK * u64::from(self.datagram));
        let recovering = self.recovery_start.is_some_and(|start| sample.largest_sent <= start);
        if recovering || !self.is_used() {
            self.curve.pause(sample.now);
        } else if self.in_slow_start() {
            self.slow_start(sample);
        } else {
            let grown = self.curve.grow(sample, self.window as f64, f64::from(self.datagram));
            self.window = grown as u64;
        }
        self.curve.last_ack = sample.now;
    }

    fn on_congestion(&mut self, now: Instant, signal: &Signal) -> bool {
        if self.recovery_start.is_some_and(|start| signal.sent <= start) {
            return false;
        }
        self.recovery_start = Some(now);
        self.before = Some(Before {
            window: self.window,
            threshold: self.threshold,
            curve: self.curve,
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
        true
    }

    /// RFC 9438 section 4.9.
    fn on_false_congestion(&mut self) {
        if let Some(before) = self.before.take()
            && before.window > self.window
        {
            self.window = before.window;
            self.threshold = before.threshold;
            self.curve = before.curve;
            self.recovery_start = None;
        }
    }

    fn on_persistent_congestion(&mut self) {
        self.before = None;
        self.window = minimum_window(self.datagram);
        self.recovery_start = None;
        self.curve.epoch = None;
        self.hystart = HyStart::default();
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

/// Bounds and divisor of the round-trip increase that ends slow start (RFC 9406 section 4.3).
const MIN_RTT_THRESHOLD: Duration = Duration::from_millis(4);
const MAX_RTT_THRESHOLD: Duration = Duration::from_millis(16);
const MIN_RTT_DIVISOR: u32 = 8;
/// Samples that a round needs to be judged.
const RTT_SAMPLES: u32 = 8;
/// Conservative slow start: its growth, and how many rounds it lasts.
const CSS_GROWTH_DIVISOR: u64 = 4;
const CSS_ROUNDS: u32 = 5;

/// Speed at which the window grows in slow start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growth {
    Full,
    Conservative,
    /// Slow start is over.
    Over,
}

/// HyStart++: leaves slow start when the round-trip time rises, before something is lost.
#[derive(Debug, Default)]
struct HyStart {
    round_end: u64,
    samples: u32,
    round_min: Option<Duration>,
    last_round_min: Option<Duration>,
    /// In conservative slow start: the minimum of the round in which it began, and rounds since.
    conservative: Option<(Duration, u32)>,
}

impl HyStart {
    fn on_acked(&mut self, sample: &AckSample) -> Growth {
        if let Some(rtt) = sample.latest {
            self.samples += 1;
            self.round_min = Some(self.round_min.map_or(rtt, |min| min.min(rtt)));
        }
        self.judge();
        if sample.largest >= self.round_end {
            self.next_round(sample.next);
        }
        match self.conservative {
            None => Growth::Full,
            Some((_, rounds)) if rounds >= CSS_ROUNDS => Growth::Over,
            Some(_) => Growth::Conservative,
        }
    }

    fn judge(&mut self) {
        let (Some(current), Some(last)) = (self.round_min, self.last_round_min) else {
            return;
        };
        if self.samples < RTT_SAMPLES {
            return;
        }
        match self.conservative {
            None => {
                let threshold = (last / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESHOLD, MAX_RTT_THRESHOLD);
                if current >= last + threshold {
                    self.conservative = Some((current, 0));
                }
            }
            // The rise was an accident: back to slow start.
            Some((baseline, _)) if current < baseline => self.conservative = None,
            Some(_) => {}
        }
    }

    fn next_round(&mut self, next: u64) {
        self.round_end = next;
        self.last_round_min = self.round_min.or(self.last_round_min);
        self.round_min = None;
        self.samples = 0;
        if let Some((_, rounds)) = &mut self.conservative {
            *rounds += 1;
        }
    }
}

#[cfg(test)]
mod tests;
