//! End of slow start, before something is lost (REC-14).
//!
//! As in HyStart++ (RFC 9406) round-trip times that rise say that the path is full. It is not judged by the least of a
//! round, which shows the queue a round trip late, but by acknowledgements in a row that waited: where packets wait for
//! their turn, what is acknowledged in a time is the rate of the path, and slow start ends at what the path holds at
//! that rate. In the place of a conservative slow start there is a look back: with a window that is larger than that
//! rate needs, a path that carries no more shows that it is full, and where more arrives slow start goes on.

use std::time::Duration;

use super::super::control::AckSample;
use super::train::Trains;
use crate::rare::Rare;
use crate::time::Instant;

/// Bounds and divisor of the wait that counts (RFC 9406 section 4.3).
const MIN_WAIT: Duration = Duration::from_millis(4);
const MAX_WAIT: Duration = Duration::from_millis(16);
const WAIT_DIVISOR: u32 = 8;
/// Samples in a row that have to wait (RFC 9406 section 4.3, `N_RTT_SAMPLE`), or fewer that bring this part of the
/// window.
const SAMPLES: u32 = 8;
const FEW_SAMPLES: u32 = 4;
const FEW_DIVISOR: u64 = 4;
/// The part of a round trip that they have to last: what a busy host takes in at once was not measured at the path.
const SPAN_DIVISOR: u32 = 8;
/// The window at the end, as a part of what the path holds: with a queue that can be seen.
const LANDING: f64 = 1.2;
/// Slow start does not end with less than this part of its window: it doubles in a round trip, and not more.
const LEAST: (u64, u64) = (2, 5);
/// So many times the rate of the path is more than that.
const MORE: f64 = 1.1;
/// Rounds for which is looked back at what was measured while packets waited, the first one, in which the queue
/// shrinks, among them.
const ROUNDS: u32 = 4;

/// Slow start, and what comes just after it.
#[derive(Debug, Default)]
pub(super) struct Start {
    round: Round,
    /// The least round-trip time of the last round, and how much longer the mean was.
    last: Option<(Duration, Duration)>,
    waiting: Option<Waiting>,
    landing: Rare<Landing>,
    /// The rate in bytes per second with which slow start is to end: what the path carried before (REC-16), or that of
    /// trains.
    expected: Option<f64>,
    trains: Rare<Trains>,
    /// Bytes that the path holds at the rate of trains; zero if that is not known, or counts no more.
    pipe: u64,
    /// Trains count no more: slow start has ended once, or the rate was known before.
    is_known: bool,
}

/// One round trip.
#[derive(Debug, Default)]
struct Round {
    /// It ends when this number is acknowledged.
    end: u64,
    min: Option<Duration>,
    /// Samples, and their sum.
    samples: u32,
    sum: Duration,
}

/// Samples in a row that waited.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    samples: u32,
    /// Bytes acknowledged after the first of them.
    bytes: u64,
}

/// Slow start has ended, for now.
#[derive(Debug)]
struct Landing {
    /// The rate of the path, in bytes per second.
    rate: f64,
    rounds: u32,
    /// Rounds for which is looked back, if nothing is lost.
    most: u32,
    /// The time when the round began, and bytes acknowledged in it.
    since: Instant,
    bytes: u64,
}

impl Round {
    /// Takes in an acknowledgement. Returns whether the round ends with it.
    fn note(&mut self, sample: &AckSample) -> bool {
        if let Some(rtt) = sample.latest {
            self.min = Some(self.min.map_or(rtt, |min| min.min(rtt)));
            self.samples += 1;
            self.sum += rtt;
        }
        sample.largest >= self.end
    }

    /// Begins the next one. Returns this one.
    fn next(&mut self, sample: &AckSample) -> Self {
        let next = Self {
            end: sample.next,
            ..Self::default()
        };
        std::mem::replace(self, next)
    }

    /// The least round-trip time, and how much longer the mean was.
    fn measured(&self) -> Option<(Duration, Duration)> {
        let min = self.min?;
        Some((min, (self.sum / self.samples).saturating_sub(min)))
    }
}

impl Waiting {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            samples: 1,
            bytes: 0,
        }
    }

    fn is_enough(&self, window: u64) -> bool {
        let is_much = self.bytes >= window / FEW_DIVISOR;
        self.samples >= SAMPLES || self.samples >= FEW_SAMPLES && is_much
    }
}

impl Landing {
    fn new(rate: f64, now: Instant, most: u32) -> Self {
        Self {
            rate,
            rounds: 0,
            most,
            since: now,
            bytes: 0,
        }
    }

    /// Begins a round. Returns the rate of what arrived in the last one.
    fn next_round(&mut self, now: Instant) -> f64 {
        let rate = self.bytes as f64 / now.since(self.since).as_secs_f64().max(1e-9);
        self.rounds += 1;
        (self.since, self.bytes) = (now, 0);
        rate
    }
}

/// The window with which slow start ends at this rate.
fn held(rate: f64, base: Duration, usual: Duration) -> u64 {
    (rate * (base.mul_f64(LANDING) + 2 * usual).as_secs_f64()) as u64
}

impl Start {
    /// A slow start after one that congestion has ended: trains do not count.
    pub(super) fn again() -> Self {
        Self {
            is_known: true,
            ..Self::default()
        }
    }

    /// Takes in an acknowledgement of slow start. Returns the window with which it is to end, once that can be told.
    pub(super) fn on_acked(&mut self, sample: &AckSample, window: u64) -> Option<u64> {
        let last = self.last;
        self.note(sample);
        let last = last.filter(|_| self.landing.get().is_none())?;
        let rate = self.measure(sample, last, window)?;
        self.waiting = None;
        let (base, usual) = last;
        let end = held(rate, base, usual);
        if end < window / LEAST.1 * LEAST.0 {
            return None;
        }
        self.landing = Rare::of(Landing::new(rate, sample.now, ROUNDS));
        self.expected = None;
        self.forget_trains();
        Some(end)
    }

    fn forget_trains(&mut self) {
        self.is_known = true;
        self.trains = Rare::new();
    }

    /// Takes in an acknowledgement of slow start. Returns the window with which it is to end at the rate of the trains.
    pub(super) fn on_train(&mut self, sample: &AckSample) -> Option<u64> {
        if self.is_known {
            return None;
        }
        let trains = self.trains.make();
        trains.note(sample);
        let (rate, least) = (trains.rate()?, sample.least?);
        self.expected = Some(rate);
        self.pipe = (rate * least.as_secs_f64()) as u64;
        let usual = self.last.map_or(Duration::ZERO, |(_, usual)| usual);
        Some(held(rate, least, usual))
    }

    /// Counts a sample of the round. While samples wait, the last round is the last one without a queue.
    fn note(&mut self, sample: &AckSample) {
        if self.round.note(sample) {
            let measured = self.round.next(sample).measured();
            if self.waiting.is_none() {
                self.last = measured.or(self.last);
            }
        }
    }

    /// The rate of the path in bytes per second, if enough samples in a row waited.
    fn measure(&mut self, sample: &AckSample, (base, usual): (Duration, Duration), window: u64) -> Option<f64> {
        let wait = (base / WAIT_DIVISOR).clamp(MIN_WAIT, MAX_WAIT) + usual;
        if sample.latest.is_some_and(|rtt| rtt < base + wait) {
            self.waiting = None;
            return None;
        }
        let Some(waiting) = &mut self.waiting else {
            self.waiting = sample.latest.map(|_| Waiting::new(sample.now));
            return None;
        };
        waiting.samples += u32::from(sample.latest.is_some());
        waiting.bytes += sample.bytes;
        let span = sample.now.since(waiting.since);
        let is_enough = waiting.is_enough(window) && span >= base / SPAN_DIVISOR && !span.is_zero();
        is_enough.then(|| waiting.bytes as f64 / span.as_secs_f64())
    }

    /// Takes in an acknowledgement after the end. Returns whether slow start goes on, because more arrives than the
    /// path was thought to carry.
    pub(super) fn was_accident(&mut self, sample: &AckSample) -> bool {
        let Some(landing) = self.landing.get_mut() else {
            return false;
        };
        landing.bytes += sample.bytes;
        if !self.round.note(sample) {
            return false;
        }
        self.round.next(sample);
        let rate = landing.next_round(sample.now);
        let is_accident = landing.rounds > 1 && rate > MORE * landing.rate;
        if landing.rounds >= ROUNDS {
            self.pipe = 0;
        }
        if is_accident || landing.rounds >= landing.most {
            self.landing = Rare::new();
        }
        is_accident
    }

    /// The path carried this rate before, with this smallest round trip. Returns the window with which slow start is to
    /// end, unless what is measured ends it before.
    pub(super) fn expect(&mut self, rate: f64, rtt: Duration) -> u64 {
        self.expected = Some(rate);
        self.pipe = 0;
        self.forget_trains();
        held(rate, rtt, Duration::ZERO)
    }

    /// Slow start has ended at the window that was set. If it was for what was expected, that is looked back at.
    pub(super) fn on_landed(&mut self, now: Instant) {
        self.forget_trains();
        if let Some(rate) = self.expected.take() {
            self.landing = Rare::of(Landing::new(rate, now, u32::MAX));
        }
    }

    /// Something was lost: there is nothing to look back for. Returns the rate that was expected, and what the path
    /// holds at the rate of trains.
    pub(super) fn end(&mut self) -> (Option<f64>, u64) {
        self.landing = Rare::new();
        self.forget_trains();
        (self.expected.take(), std::mem::take(&mut self.pipe))
    }

    /// Nothing was lost after all.
    pub(super) fn expect_again(&mut self, expected: Option<f64>) {
        self.expected = expected;
    }
}
