//! BBR (draft-ietf-ccwg-bbr, version 3 of the algorithm): a model of the path instead of a reaction to loss (REC-9 to
//! REC-13).
//!
//! An acknowledgement passes through in this order:
//!
//! 1. what arrived how fast ([`rate`]), and whether a round trip is over ([`Round`]);
//! 2. the model: bandwidth, smallest round trip, aggregation ([`filters`]);
//! 3. the phase, which says by what factor of the model is sent ([`phase`]);
//! 4. the window: that factor of the bandwidth-delay product, within what congestion has shown to be too much
//!    ([`Bounds`]).
//!
//! Loss comes before, and lowers the bounds if it means congestion ([`loss`]).

mod filters;
mod loss;
mod phase;
mod rate;

use std::time::Duration;

use super::{AckSample, Cause, Control, Departed, Signal, careful_growth, initial_window};
use crate::time::Instant;
use filters::{Aggregation, MaxFilter, MinRtt};
use loss::{LostInRound, UsualDelay, UsualLoss};
use phase::{Cycle, FullPipe, Phase};
use rate::{DeliveryRate, RateSample};

/// Less than this many datagrams in flight cannot keep acknowledgements coming.
const MIN_WINDOW: u64 = 4;
/// What is left of a bound on congestion, unless more has just arrived.
const BETA: f64 = 0.7;
/// So much less than the bandwidth is sent, so that queues shrink.
const PACING_MARGIN: f64 = 0.99;
/// If less than this part of what is sent arrives, the rest waits in a queue.
const ARRIVING: f64 = 0.96;
/// The part of the upper bound that is left to others while this sender does not push.
const HEADROOM: f64 = 0.15;
/// The window is in use when less than so many datagrams of it are left.
const SLACK: u64 = 3;

/// The BBR controller.
#[derive(Debug)]
pub(in super::super) struct Bbr {
    datagram: u16,
    window: u64,
    /// The window before a time in which little is to be in flight.
    prior_window: u64,
    phase: Phase,
    rate: DeliveryRate,
    path: PathModel,
    bounds: Bounds,
    round: Round,
    full: FullPipe,
    cycle: Cycle,
    loss: LossView,
}

/// What the path is taken to be.
#[derive(Debug, Default)]
struct PathModel {
    /// Bytes per second.
    bandwidth: MaxFilter,
    min_rtt: MinRtt,
    aggregation: Aggregation,
}

impl PathModel {
    /// The bandwidth-delay product at a bandwidth, in bytes; `None` before both are known.
    fn product(&self, bandwidth: f64) -> Option<f64> {
        let rtt = self.min_rtt.get()?;
        (bandwidth > 0.0).then_some(bandwidth * rtt.as_secs_f64())
    }
}

/// What congestion has shown to be too much.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    /// Bytes per second, and bytes in flight, until the path is probed the next time.
    bandwidth: Option<f64>,
    in_flight: Option<u64>,
    /// Bytes in flight, until probing finds that more is possible.
    upper: Option<u64>,
}

/// A round trip: from the departure of a packet to its acknowledgement.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// It is over when a packet is acknowledged that left when so much was delivered.
    end: u64,
    /// The last acknowledgement ended one.
    is_start: bool,
    present: Seen,
    previous: Seen,
}

/// The most that samples of a round trip had, but for its time.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Bytes per second.
    rate: f64,
    /// Bytes delivered in the time of one packet's round trip.
    delivered: u64,
    /// The smallest round-trip time.
    rtt: Option<Duration>,
}

impl Round {
    fn update(&mut self, sample: &RateSample, delivered: u64, rtt: Option<Duration>) {
        self.is_start = sample.prior >= self.end;
        if self.is_start {
            self.begin(delivered);
        }
        self.present.rate = self.present.rate.max(sample.rate.unwrap_or_default());
        self.present.delivered = self.present.delivered.max(sample.delivered);
        self.present.rtt = self.present.rtt.into_iter().chain(rtt).min();
    }

    /// A round trip begins now.
    fn begin(&mut self, delivered: u64) {
        self.end = delivered;
        self.previous = std::mem::take(&mut self.present);
    }

    fn rate(&self) -> f64 {
        self.present.rate.max(self.previous.rate)
    }

    fn delivered(&self) -> u64 {
        self.present.delivered.max(self.previous.delivered)
    }
}

/// What is known about loss.
#[derive(Debug, Default)]
struct LossView {
    usual: UsualLoss,
    delay: UsualDelay,
    round: LostInRound,
    /// Packets sent at or before this moment belong to congestion that was reacted to.
    reacted: Option<Instant>,
    /// What was before the last reaction.
    before: Option<Before>,
}

/// What a reaction to congestion that was none gives back.
#[derive(Clone, Copy, Debug)]
struct Before {
    bounds: Bounds,
    /// The reaction ended the start.
    was_start: bool,
}

impl Bbr {
    /// A controller that knows nothing of the path. All that it draws at random comes from `seed`.
    pub(in super::super) fn new(datagram: u16, seed: u64) -> Self {
        Self {
            datagram,
            window: initial_window(datagram),
            prior_window: 0,
            phase: Phase::Startup,
            rate: DeliveryRate::default(),
            path: PathModel::default(),
            bounds: Bounds::default(),
            round: Round::default(),
            full: FullPipe::default(),
            cycle: Cycle::new(seed),
            loss: LossView::default(),
        }
    }

    fn min_window(&self) -> u64 {
        MIN_WINDOW * u64::from(self.datagram)
    }

    /// The bandwidth to go by, in bytes per second.
    fn bandwidth(&self) -> f64 {
        let most = self.path.bandwidth.get();
        self.bounds.bandwidth.map_or(most, |bound| most.min(bound))
    }

    /// What is in flight when this factor of the bandwidth-delay product is; before that is known, the initial window.
    fn in_flight(&self, gain: f64) -> u64 {
        self.path
            .product(self.bandwidth())
            .map_or_else(|| initial_window(self.datagram), |product| (gain * product) as u64)
            .max(self.min_window())
    }

    /// The upper bound, with room for others.
    fn headroom(&self) -> u64 {
        self.bounds.upper.map_or(u64::MAX, |upper| {
            ((upper as f64 * (1.0 - HEADROOM)) as u64).max(self.min_window())
        })
    }

    /// What may be in flight: the target of the phase, approached by what is acknowledged, within the bounds.
    fn set_window(&mut self, acked: u64) {
        let target = self.in_flight(self.phase.window_gain()) + self.path.aggregation.get();
        let grown = self.window + acked;
        if self.full.is_reached() {
            self.window = grown.min(target);
        } else if self.window < target || self.rate.delivered() < initial_window(self.datagram) {
            self.window = grown;
        }
        let bound = match self.phase {
            Phase::Cruise => self.headroom(),
            Phase::ProbeRtt(_) => self.headroom().min(self.in_flight(phase::PROBE_RTT_GAIN)),
            Phase::Startup => u64::MAX,
            _ => self.bounds.upper.unwrap_or(u64::MAX),
        };
        let bound = bound.min(self.bounds.in_flight.unwrap_or(u64::MAX));
        self.window = self.window.min(bound).max(self.min_window());
    }

    fn update_path(&mut self, ack: &AckSample, sample: Option<&RateSample>) {
        if let Some(rtt) = ack.latest {
            self.path.min_rtt.update(ack.now, rtt);
            if self.phase == Phase::Cruise {
                self.loss
                    .delay
                    .note(rtt, self.round.previous.rtt, self.path.min_rtt.get());
            }
        }
        if let Some(sample) = sample
            && let Some(rate) = sample.rate
            && (!sample.is_app_limited || rate >= self.path.bandwidth.get())
        {
            self.path.bandwidth.update(rate);
        }
        let bandwidth = self.bandwidth();
        self.path.aggregation.update(ack.now, ack.bytes, bandwidth, self.window);
        if self.round.is_start {
            self.path.aggregation.on_round();
        }
    }

    /// Lowers the bounds (REC-12): of a packet that was lost or marked, `in_flight` was in flight when it left.
    fn react(&mut self, now: Instant, in_flight: u64) {
        self.loss.before = Some(Before {
            bounds: self.bounds,
            was_start: self.phase == Phase::Startup,
        });
        self.loss.reacted = Some(now);
        self.loss.round = LostInRound::default();
        match self.phase {
            Phase::Startup => {
                self.bounds.upper = Some(self.in_flight(phase::UP_PACING).max(self.round.delivered()));
                self.full.reach();
                self.phase = Phase::Drain;
            }
            Phase::Refill | Phase::Up => {
                let least = self.in_flight(1.0).min(self.window) as f64 * BETA;
                self.bounds.upper = Some(in_flight.max(least as u64));
                self.enter_down(now);
            }
            _ => {
                let rate = self.round.rate().max(BETA * self.bandwidth());
                let held = self.bounds.in_flight.unwrap_or(self.window) as f64 * BETA;
                self.bounds.bandwidth = Some(rate);
                self.bounds.in_flight = Some(self.round.delivered().max(held as u64));
            }
        }
    }

    /// In a round trip a queue stood all the time, and less arrived than was sent: the bandwidth was measured when
    /// others sent less.
    fn follow_queue(&mut self) {
        let rate = self.round.rate();
        let shortest = self.round.previous.rtt;
        let is_queued = shortest.is_some_and(|rtt| loss::is_queue(rtt, self.path.min_rtt.get(), Duration::ZERO));
        let gain = self.phase.pacing_gain();
        // What is lost anyway waits nowhere.
        let arriving = ARRIVING * (1.0 - self.loss.usual.share().unwrap_or_default());
        if is_queued && rate < arriving * gain * self.bandwidth() {
            let least = BETA * self.cycle.probed_bandwidth();
            self.path.bandwidth.limit(least.max(rate / gain));
        }
    }

    /// Raises the upper bound where all that it allows is in flight and arrives: by a datagram in the first round trip
    /// of probing, by two in the next, and so on.
    fn raise_upper_bound(&mut self, ack: &AckSample) {
        if self.is_held_by_upper_bound(ack)
            && let Some(upper) = &mut self.bounds.upper
        {
            let growth = u64::from(self.datagram) << self.cycle.rounds().min(16);
            *upper += (ack.bytes.saturating_mul(growth) / self.window.max(1)).min(ack.bytes);
        }
    }

    fn is_held_by_upper_bound(&self, ack: &AckSample) -> bool {
        let is_used = ack.in_flight + SLACK * u64::from(self.datagram) > self.window;
        is_used && self.bounds.upper.is_some_and(|upper| self.window >= upper)
    }

    fn packets(&self, bytes: u64) -> f64 {
        bytes as f64 / f64::from(self.datagram)
    }
}

impl Control for Bbr {
    fn window(&self) -> u64 {
        self.window
    }

    fn in_slow_start(&self) -> bool {
        self.phase == Phase::Startup
    }

    fn growth(&self) -> f64 {
        if self.phase == Phase::Up {
            self.phase.pacing_gain() - 1.0
        } else {
            careful_growth(self.datagram, self.window)
        }
    }

    fn pacing_rate(&self) -> Option<f64> {
        let bandwidth = self.bandwidth();
        (bandwidth > 0.0).then(|| self.phase.pacing_gain() * bandwidth * PACING_MARGIN)
    }

    fn on_sent(&mut self, packet: &Departed) {
        if packet.in_flight <= packet.bytes {
            self.path.aggregation.restart(packet.now);
            self.cycle.on_restart();
        }
        self.rate.on_sent(packet);
    }

    fn on_app_limited(&mut self, in_flight: u64) {
        self.rate.limit(in_flight);
    }

    fn on_acked(&mut self, ack: &AckSample) {
        let sample = self.rate.on_acked(ack, self.path.min_rtt.get());
        self.round.is_start = false;
        if let Some(sample) = &sample {
            self.round.update(sample, self.rate.delivered(), ack.latest);
        }
        if self.round.is_start {
            self.loss.round = LostInRound::default();
        }
        self.loss.usual.note(ack.largest_sent, self.packets(ack.bytes), false);
        self.update_path(ack, sample.as_ref());
        self.advance(ack, sample.is_some_and(|s| s.is_app_limited));
        self.set_window(ack.bytes);
    }

    fn on_congestion(&mut self, now: Instant, signal: &Signal) -> bool {
        let in_flight = self.rate.in_flight_at(signal.seq).unwrap_or(self.window);
        let is_new = self.loss.reacted.is_none_or(|reacted| signal.sent > reacted);
        if let Cause::Loss(packets) = signal.cause {
            let in_queue = loss::is_queue(signal.rtt, self.path.min_rtt.get(), self.loss.delay.get());
            if !in_queue {
                self.loss.usual.note(signal.sent, packets as f64, true);
            }
            if is_new {
                self.loss.round.add(packets, in_queue);
            }
        }
        let at_start = self.phase == Phase::Startup;
        let packets = self.packets(in_flight);
        let is_congestion =
            signal.cause == Cause::Mark || self.loss.round.is_congestion(packets, &self.loss.usual, at_start);
        if !is_new || !is_congestion {
            return false;
        }
        self.react(now, in_flight);
        true
    }

    fn on_false_congestion(&mut self) {
        let Some(before) = self.loss.before.take() else {
            return;
        };
        self.bounds = before.bounds;
        self.loss.reacted = None;
        if before.was_start {
            self.full = FullPipe::default();
            self.phase = Phase::Startup;
        }
    }

    /// The path is silent, and may be another one when it speaks again: what is sent first tells. The model stays, and
    /// with it how fast.
    fn on_persistent_congestion(&mut self) {
        self.loss.before = None;
        self.window = self.min_window();
    }

    fn set_datagram(&mut self, datagram: u16) {
        self.datagram = datagram;
        let least = if self.path.bandwidth.get() > 0.0 {
            self.min_window()
        } else {
            initial_window(datagram)
        };
        self.window = self.window.max(least);
    }

    fn shrink(&mut self) {
        self.rate.shrink();
    }
}

#[cfg(test)]
mod tests;
