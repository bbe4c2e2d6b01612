//! What this sender is about: finding the bandwidth, emptying the queue, using the path, probing it (REC-11).
//!
//! ```text
//!  STARTUP --- no more growth, or congestion ---> DRAIN --- queue is gone ---> DOWN
//!     ^                                                                         |
//!     |              +------------ time to probe ------------+--- queue is gone +
//!  (pipe was         v                                       v
//!   never full)    REFILL --- a round trip ---> UP          CRUISE --- time to probe ---> REFILL
//!     |                                         |
//!     |                 a queue, or congestion  +---> DOWN
//!  PROBE_RTT <--- from any of them, if the smallest round trip was not met for 5 s
//! ```
//!
//! From PROBE_RTT it goes back, to CRUISE if the pipe was full.

use std::time::Duration;

use super::super::AckSample;
use super::Bbr;
use crate::time::Instant;

/// Growth of the pacing rate in a round trip at the start: 4 ln 2.
const STARTUP_PACING: f64 = 2.77;
const DRAIN_PACING: f64 = 0.5;
const DOWN_PACING: f64 = 0.9;
pub(super) const UP_PACING: f64 = 1.25;
const WINDOW_GAIN: f64 = 2.0;
const UP_WINDOW_GAIN: f64 = 2.25;
/// Probing is over when round trips have become longer by this part of the smallest one, or bandwidth has not grown by
/// this factor in so many.
const UP_QUEUE_PART: u32 = 10;
const UP_GROWTH: f64 = 1.05;
const UP_IDLE_ROUNDS: u32 = 3;
/// The part of the bandwidth-delay product in flight while the smallest round trip is looked for, and for how long.
pub(super) const PROBE_RTT_GAIN: f64 = 0.5;
const PROBE_RTT_TIME: Duration = Duration::from_millis(200);
/// The pipe is full when the bandwidth has not grown by this factor in so many round trips.
const FULL_GROWTH: f64 = 1.25;
const FULL_ROUNDS: u32 = 3;
/// From one probe for bandwidth to the next it is this long, and up to a second more; or so many round trips, as with a
/// Reno sender whose window is as large.
const PROBE_WAIT: Duration = Duration::from_secs(2);
const PROBE_WAIT_SPREAD_NANOS: u64 = 1_000_000_000;
const MAX_PROBE_ROUNDS: f64 = 63.0;

/// What the sender is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Startup,
    Drain,
    Down,
    Cruise,
    Refill,
    Up,
    /// Until then, once that is known.
    ProbeRtt(Option<Instant>),
}

impl Phase {
    pub(super) fn pacing_gain(self) -> f64 {
        match self {
            Self::Startup => STARTUP_PACING,
            Self::Drain => DRAIN_PACING,
            Self::Down => DOWN_PACING,
            Self::Cruise | Self::Refill | Self::ProbeRtt(_) => 1.0,
            Self::Up => UP_PACING,
        }
    }

    pub(super) fn window_gain(self) -> f64 {
        match self {
            Self::Up => UP_WINDOW_GAIN,
            Self::ProbeRtt(_) => PROBE_RTT_GAIN,
            _ => WINDOW_GAIN,
        }
    }
}

/// Whether more in flight does not bring more bandwidth.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FullPipe {
    bandwidth: f64,
    rounds: u32,
    is_reached: bool,
}

impl FullPipe {
    pub(super) fn is_reached(&self) -> bool {
        self.is_reached
    }

    pub(super) fn reach(&mut self) {
        self.is_reached = true;
    }

    /// A round trip that was not limited by the application has ended.
    fn on_round(&mut self, bandwidth: f64) {
        if bandwidth >= self.bandwidth * FULL_GROWTH {
            self.bandwidth = bandwidth;
            self.rounds = 0;
        } else {
            self.rounds += 1;
            self.is_reached |= self.rounds >= FULL_ROUNDS;
        }
    }
}

/// What sending more has led to.
#[derive(Clone, Copy, Debug, Default)]
struct Probe {
    /// The smallest round trip of the round trip before.
    rtt: Duration,
    /// The bandwidth reached, in bytes per second, and round trips in which it has not grown.
    bandwidth: f64,
    idle_rounds: u32,
}

impl Probe {
    fn on_round(&mut self, bandwidth: f64, is_bounded: bool) {
        if bandwidth > self.bandwidth * UP_GROWTH || is_bounded {
            self.bandwidth = bandwidth;
            self.idle_rounds = 0;
        } else {
            self.idle_rounds += 1;
        }
    }
}

/// Where the cycle of probing is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cycle {
    /// Round trips since the present phase began.
    rounds: u32,
    probe: Probe,
    /// When probing ended last, what time is to pass until the next, and round trips since.
    probed: Instant,
    wait: Duration,
    rounds_since: u32,
    /// The bandwidth then.
    probed_bandwidth: f64,
    /// The samples of a probe are not all there yet.
    is_pending: bool,
    /// Nothing was in flight before what is in flight now.
    is_restart: bool,
    random: u64,
}

impl Cycle {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rounds: 0,
            probe: Probe::default(),
            probed: Instant::default(),
            wait: PROBE_WAIT,
            rounds_since: 0,
            probed_bandwidth: 0.0,
            is_pending: false,
            is_restart: false,
            random: seed,
        }
    }

    /// Round trips since the phase began.
    pub(super) fn rounds(&self) -> u32 {
        self.rounds
    }

    /// The bandwidth when probing was last over, in bytes per second.
    pub(super) fn probed_bandwidth(&self) -> f64 {
        self.probed_bandwidth
    }

    /// Something is sent after a time in which nothing was in flight.
    pub(super) fn on_restart(&mut self) {
        self.is_restart = true;
    }

    fn enter(&mut self) {
        self.rounds = 0;
    }

    /// Probing is over: draws when it begins again, so that senders do not probe in step.
    fn wait(&mut self, now: Instant) {
        // The generator of Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators".
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        self.probed = now;
        self.wait = PROBE_WAIT + Duration::from_nanos(z % PROBE_WAIT_SPREAD_NANOS);
        self.rounds_since = 0;
    }
}

impl Bbr {
    /// Does what an acknowledgement means for the phase.
    pub(super) fn advance(&mut self, ack: &AckSample, is_app_limited: bool) {
        if self.round.is_start {
            self.on_round(ack, is_app_limited);
        }
        match self.phase {
            Phase::Startup if self.full.is_reached() => self.phase = Phase::Drain,
            Phase::Drain if ack.remaining <= self.in_flight(1.0) => self.enter_down(ack.now),
            Phase::Down | Phase::Cruise if self.is_time_to_probe(ack.now) => self.enter_refill(),
            Phase::Down if ack.remaining <= self.in_flight(1.0) => self.enter_cruise(ack.now),
            Phase::Refill if self.cycle.rounds > 0 => self.enter_up(ack.now),
            Phase::Up => self.probe_up(ack),
            _ => {}
        }
        self.probe_rtt(ack);
        self.cycle.is_restart &= ack.remaining == 0;
    }

    fn on_round(&mut self, ack: &AckSample, is_app_limited: bool) {
        self.cycle.rounds += 1;
        self.cycle.rounds_since += 1;
        if !self.full.is_reached() && !is_app_limited {
            self.full.on_round(self.path.bandwidth.get());
        }
        match self.phase {
            Phase::Down | Phase::Cruise => self.follow_queue(),
            Phase::Up if !is_app_limited => {
                let is_bounded = self.is_held_by_upper_bound(ack);
                self.cycle.probe.on_round(self.bandwidth(), is_bounded);
            }
            _ => {}
        }
        if std::mem::take(&mut self.cycle.is_pending) && !is_app_limited {
            self.path.bandwidth.advance();
        }
    }

    fn is_time_to_probe(&self, now: Instant) -> bool {
        let rounds = self.packets(self.in_flight(1.0)).min(MAX_PROBE_ROUNDS);
        now > self.cycle.probed + self.cycle.wait || f64::from(self.cycle.rounds_since) >= rounds
    }

    /// Probing is over: less is sent than arrives, until the queue that it made is gone.
    pub(super) fn enter_down(&mut self, now: Instant) {
        self.phase = Phase::Down;
        self.loss.usual.end(now);
        self.cycle.enter();
        self.cycle.wait(now);
        self.cycle.is_pending = true;
        self.cycle.probed_bandwidth = self.path.bandwidth.get();
        // All that was sent for the probe is acknowledged when this round trip is over.
        self.round.begin(self.rate.delivered());
    }

    fn enter_cruise(&mut self, now: Instant) {
        self.phase = Phase::Cruise;
        self.cycle.enter();
        self.loss.usual.begin(now);
    }

    /// A round trip at full rate before probing, without the bounds of the last one: so that the queue is as short as
    /// it can be, and the pipe full.
    fn enter_refill(&mut self) {
        self.phase = Phase::Refill;
        self.cycle.enter();
        self.forget_short_term();
        self.round.begin(self.rate.delivered());
    }

    fn forget_short_term(&mut self) {
        self.bounds.bandwidth = None;
        self.bounds.in_flight = None;
    }

    fn enter_up(&mut self, now: Instant) {
        self.phase = Phase::Up;
        self.loss.usual.end(now);
        self.cycle.enter();
        self.cycle.probe = Probe {
            rtt: self.round.previous.rtt.unwrap_or_default(),
            bandwidth: self.bandwidth(),
            idle_rounds: 0,
        };
        self.round.begin(self.rate.delivered());
    }

    fn probe_up(&mut self, ack: &AckSample) {
        self.raise_upper_bound(ack);
        let queue = self.path.min_rtt.get().unwrap_or_default() / UP_QUEUE_PART;
        let probe = &self.cycle.probe;
        let has_queue = ack.latest.is_some_and(|rtt| rtt >= probe.rtt + queue);
        if self.cycle.rounds > 0 && (has_queue || probe.idle_rounds >= UP_IDLE_ROUNDS) {
            self.enter_down(ack.now);
        }
    }

    /// Looks for the smallest round trip, if it is time to; but not when the queue was empty anyway.
    fn probe_rtt(&mut self, ack: &AckSample) {
        let Phase::ProbeRtt(until) = self.phase else {
            if self.path.min_rtt.is_due(ack.now) && !self.cycle.is_restart {
                self.enter_probe_rtt(ack);
            }
            return;
        };
        // What is sent now does not show what the path carries.
        self.rate.limit(ack.remaining);
        match until {
            None if ack.remaining <= self.in_flight(PROBE_RTT_GAIN) => {
                self.phase = Phase::ProbeRtt(Some(ack.now + PROBE_RTT_TIME));
                self.cycle.enter();
                self.round.begin(self.rate.delivered());
            }
            Some(until) if ack.now > until && self.cycle.rounds > 0 => self.leave_probe_rtt(ack.now),
            _ => {}
        }
    }

    fn enter_probe_rtt(&mut self, ack: &AckSample) {
        self.phase = Phase::ProbeRtt(None);
        self.prior_window = self.window;
        self.path.min_rtt.search();
        self.loss.usual.end(ack.now);
        self.cycle.enter();
    }

    fn leave_probe_rtt(&mut self, now: Instant) {
        self.path.min_rtt.found(now);
        self.forget_short_term();
        self.window = self.window.max(self.prior_window);
        if self.full.is_reached() {
            self.cycle.wait(now);
            self.enter_cruise(now);
        } else {
            self.phase = Phase::Startup;
        }
    }
}
