//! Phases of a sender: finding the bandwidth, emptying the queue, using the path, probing it (REC-11).
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

use crate::time::{Instant, Span};

/// Growth of the pacing rate in a round trip at the start: 4 ln 2.
const STARTUP_PACING: f64 = 2.77;
const DRAIN_PACING: f64 = 0.5;
const DOWN_PACING: f64 = 0.9;
pub(super) const UP_PACING: f64 = 1.25;
const WINDOW_GAIN: f64 = 2.0;
const UP_WINDOW_GAIN: f64 = 2.25;
/// The same where others hold the queue: round trips are longer there.
const HELD_WINDOW_GAIN: f64 = 2.5;
/// Probing is over when round trips have become longer by this part of the smallest one, or bandwidth has not grown by
/// this factor in so many.
pub(super) const UP_QUEUE_PART: u32 = 10;
const UP_GROWTH: f64 = 1.05;
pub(super) const UP_IDLE_ROUNDS: u32 = 3;
/// The part of the bandwidth-delay product in flight while the smallest round trip is looked for, and for how long.
pub(super) const PROBE_RTT_GAIN: f64 = 0.5;
pub(super) const PROBE_RTT_TIME: Duration = Duration::from_millis(200);
/// The pipe is full when the bandwidth has not grown by this factor in so many round trips.
const FULL_GROWTH: f64 = 1.25;
const FULL_ROUNDS: u32 = 3;
/// From one probe for bandwidth to the next it is this long, and up to a second more; or so many round trips, as with a
/// Reno sender whose window is as large.
const PROBE_WAIT: Duration = Duration::from_secs(2);
const PROBE_WAIT_SPREAD_NANOS: u64 = 1_000_000_000;
pub(super) const MAX_PROBE_ROUNDS: f64 = 63.0;
/// Beside others it is as many round trips with a queue as this part of the product has datagrams, at least so many;
/// and up to twice as many, so that senders do not probe in step.
const CROWDED_PART: f64 = 8.0;
const CROWDED_ROUNDS: f64 = 4.0;
/// A queue is held by others that do not give way when it takes this part of the smallest round trip, in so many round
/// trips in a row, to a sender whose product has so many datagrams, and that has lost nothing in it for so long.
pub(super) const HELD_QUEUE: f64 = 0.9;
pub(super) const HELD_ROUNDS: u32 = 6;
pub(super) const HELD_LEAST: u64 = 8;
pub(super) const HELD_QUIET: Duration = Duration::from_secs(5);

/// A phase of the sender.
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

    pub(super) fn window_gain(self, is_held: bool) -> f64 {
        match self {
            Self::Up if is_held => HELD_WINDOW_GAIN,
            Self::Up => UP_WINDOW_GAIN,
            Self::ProbeRtt(_) => PROBE_RTT_GAIN,
            _ => WINDOW_GAIN,
        }
    }
}

/// Detects that more in flight does not bring more bandwidth.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FullPipe {
    pub(super) bandwidth: f64,
    pub(super) rounds: u32,
    is_reached: bool,
}

impl FullPipe {
    pub(super) fn is_reached(&self) -> bool {
        self.is_reached
    }

    /// Returns whether the bandwidth has not grown in the latest round trip.
    pub(super) fn is_near(&self) -> bool {
        self.rounds > 0
    }

    pub(super) fn reach(&mut self) {
        self.is_reached = true;
    }

    /// A round trip that was not limited by the application has ended.
    pub(super) fn on_round(&mut self, bandwidth: f64) {
        if bandwidth >= self.bandwidth * FULL_GROWTH {
            self.bandwidth = bandwidth;
            self.rounds = 0;
        } else {
            self.rounds += 1;
            self.is_reached |= self.rounds >= FULL_ROUNDS;
        }
    }
}

/// Results of sending more.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BandwidthProbe {
    /// The smallest round trip of the round trip before.
    pub(super) rtt: Option<Span>,
    /// The bandwidth reached, in bytes per second, and round trips in which it has not grown.
    pub(super) bandwidth: f64,
    pub(super) idle_rounds: u32,
}

impl BandwidthProbe {
    pub(super) fn on_round(&mut self, bandwidth: f64, is_bounded: bool) {
        if bandwidth > self.bandwidth * UP_GROWTH || is_bounded {
            self.bandwidth = bandwidth;
            self.idle_rounds = 0;
        } else {
            self.idle_rounds += 1;
        }
    }
}

/// Progress of the cycle of probing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cycle {
    /// Round trips since the present phase began.
    pub(super) rounds: u32,
    pub(super) probe: BandwidthProbe,
    /// The time when probing ended last, what time is to pass until the next, and round trips since.
    pub(super) probed: Instant,
    pub(super) wait: Duration,
    pub(super) rounds_since: u32,
    /// Round trips in a row in which a queue stood all the time, and a number from 1 to 2 by which more of them are
    /// waited for.
    pub(super) queued_rounds: u32,
    spread: f64,
    /// Round trips in a row in which others may have held the queue.
    pub(super) held_rounds: u32,
    /// The bandwidth when probing ended last.
    pub(super) probed_bandwidth: f64,
    /// The samples of a probe are not all there yet.
    pub(super) is_pending: bool,
    /// Nothing was in flight before what is in flight now.
    pub(super) is_restart: bool,
    random: u64,
}

impl Cycle {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rounds: 0,
            probe: BandwidthProbe::default(),
            probed: Instant::default(),
            wait: PROBE_WAIT,
            rounds_since: 0,
            queued_rounds: 0,
            spread: 1.0,
            held_rounds: 0,
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

    pub(super) fn enter(&mut self) {
        self.rounds = 0;
    }

    /// Probing is over: draws when it begins again, so that senders do not probe in step.
    pub(super) fn wait(&mut self, now: Instant) {
        // The generator of Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators".
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        self.probed = now;
        self.wait = PROBE_WAIT + Duration::from_nanos(z % PROBE_WAIT_SPREAD_NANOS);
        self.rounds_since = 0;
        self.queued_rounds = 0;
        self.spread = 1.0 + (z >> 32) as f64 / f64::from(u32::MAX);
    }

    /// Returns whether others hold the queue, and will not give way.
    pub(super) fn is_held(&self) -> bool {
        self.held_rounds >= HELD_ROUNDS
    }

    /// The queue is not held any more, if it was.
    pub(super) fn release(&mut self) {
        self.held_rounds = 0;
    }

    /// Returns whether others are on the path, and it is time to see what they leave: the sooner the less this sender
    /// has, `product` datagrams in flight, so that shares become equal.
    pub(super) fn is_crowded(&self, product: f64) -> bool {
        let rounds = (product / CROWDED_PART).max(CROWDED_ROUNDS);
        f64::from(self.queued_rounds) >= rounds * self.spread
    }
}
