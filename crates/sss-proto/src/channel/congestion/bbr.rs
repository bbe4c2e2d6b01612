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
//! Loss comes before, and lowers the bounds ([`reaction`]) if it means congestion ([`loss`]).

mod ceiling;
mod filters;
mod loss;
mod model;
mod phase;
mod rate;
mod reaction;

use std::time::Duration;

use super::control::{AckSample, Control, Departed, Signal, SignalKind, careful_growth, initial_window};
use crate::time::{Instant, Span};
use ceiling::Ceiling;
use loss::{LostLately, UsualDelay, UsualLoss};
use model::{Bounds, PathModel, Round};
use phase::{BandwidthProbe, Cycle, FullPipe, Phase};
use rate::{DeliveryRate, RateSample, SteadyRate};

/// Less than this many datagrams in flight cannot keep acknowledgements coming.
const MIN_WINDOW: u64 = 4;
/// Part of a bound that is left after congestion, unless more has just arrived.
const BETA: f64 = 0.7;
/// So much less than the bandwidth is sent, so that queues shrink.
const PACING_MARGIN: f64 = 0.99;
/// If less than this part of what is sent arrives, the rest waits in a queue.
const ARRIVING: f64 = 0.96;
/// The part of the upper bound that is left to others while this sender does not push.
const HEADROOM: f64 = 0.15;
/// Windows of a path that is known in the smallest round trip: the rate of slow start (REC-7).
const KNOWN_PACING: f64 = 2.0;
/// The window is in use when less than so many datagrams of it are left.
const SLACK: u64 = 3;

/// The BBR controller.
#[derive(Debug)]
pub(in super::super) struct Bbr {
    datagram: u16,
    window: u64,
    /// The window that the path is known to carry, if more is known than was measured (MIG-31); else 0.
    known: u64,
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

/// Loss on the path: what is usual, and what was lost lately.
#[derive(Debug, Default)]
struct LossView {
    usual: UsualLoss,
    delay: UsualDelay,
    lately: LostLately,
    /// Packets sent at or before this moment belong to congestion that was reacted to.
    reacted: Option<Instant>,
    /// The most that may be in flight, since more was too much once.
    ceiling: Ceiling,
    /// State before the last reaction.
    before: Option<Before>,
}

/// State that is restored when a reaction turns out to have been to no congestion.
#[derive(Clone, Copy, Debug)]
struct Before {
    bounds: Bounds,
    ceiling: Ceiling,
    /// The reaction ended the start.
    was_start: bool,
}

impl Bbr {
    /// A controller that knows nothing of the path. All that it draws at random comes from `seed`.
    pub(in super::super) fn new(datagram: u16, seed: u64) -> Self {
        Self {
            datagram,
            window: initial_window(datagram),
            known: 0,
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

    /// Bytes per second at which a path is tried of which more is known than was measured: signs of life, which are all
    /// that went there, tell nothing of it. At the start alone: then it is measured.
    fn known_rate(&self) -> f64 {
        let rtt = self.path.min_rtt.get().filter(|_| self.in_slow_start());
        rtt.map_or(0.0, |rtt| {
            KNOWN_PACING * self.known as f64 / rtt.as_secs_f64().max(1e-9)
        })
    }

    /// Returns what is in flight when this factor of the bandwidth-delay product is; before that is known, the initial
    /// window.
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

    /// Sets what may be in flight: the target of the phase, approached by what is acknowledged, within the bounds.
    fn update_window(&mut self, acked: u64) {
        let gain = self.phase.window_gain(self.cycle.is_held());
        let target = (self.in_flight(gain) + self.path.aggregation.get()).min(self.most());
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
        if let Some(least) = ack.least {
            self.path.min_rtt.renew(ack.now, least);
        }
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
            self.note_rate(rate, sample.delivered);
        }
        let bandwidth = self.bandwidth();
        self.path.aggregation.update(ack.now, ack.bytes, bandwidth, self.window);
    }

    /// A delivery rate was measured. At the start the path shows at once that it carries more; later the rate is of
    /// several round trips, if few packets make one.
    fn note_rate(&mut self, rate: f64, delivered: u64) {
        if !self.full.is_reached() {
            self.path.bandwidth.update(rate);
        } else if self.round.is_start
            && let Some(rate) = self.path.steady.add(rate, delivered, self.datagram)
        {
            self.path.bandwidth.update(rate);
        }
    }

    /// Returns whether a queue stood all the time of the last round trip.
    fn is_queued(&self) -> bool {
        let shortest = self.round.previous.rtt;
        shortest.is_some_and(|rtt| loss::is_queue(rtt, self.path.min_rtt.get(), Duration::ZERO))
    }

    /// A round trip in which a queue stood all the time, without a probe of this sender.
    fn on_queued_round(&mut self, now: Instant) {
        self.cycle.queued_rounds += 1;
        let queue = self.round.previous.rtt.zip(self.path.min_rtt.get());
        let is_long = queue.is_some_and(|(rtt, min)| rtt >= min.mul_f64(1.0 + phase::HELD_QUEUE));
        let is_small = self.in_flight(1.0) < phase::HELD_LEAST * u64::from(self.datagram);
        let has_lost = self.loss.reacted.is_some_and(|at| now.since(at) < phase::HELD_QUIET);
        if is_long && !is_small && !has_lost {
            self.cycle.held_rounds += 1;
        } else {
            self.cycle.release();
        }
        if !self.cycle.is_held() {
            self.follow_queue();
        }
    }

    /// If less arrived than was sent while a queue stood, the bandwidth was measured when others sent less.
    fn follow_queue(&mut self) {
        let rate = self.round.rate();
        let gain = self.phase.pacing_gain();
        // What is lost anyway waits nowhere.
        let arriving = ARRIVING * (1.0 - self.loss.usual.share().unwrap_or_default());
        if rate < arriving * gain * self.bandwidth() {
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

/// The phases.
impl Bbr {
    /// Does what an acknowledgement means for the phase.
    fn advance(&mut self, ack: &AckSample, is_app_limited: bool) {
        if self.round.is_start {
            self.on_round(ack, is_app_limited);
        }
        match self.phase {
            Phase::Startup if self.full.is_reached() => self.phase = Phase::Drain,
            Phase::Drain => {
                // What congestion ended was not all measured then.
                let product = self.in_flight(phase::UP_PACING);
                self.bounds.upper = self.bounds.upper.map(|upper| upper.max(product));
                if ack.remaining <= self.in_flight(1.0) {
                    self.enter_down(ack.now);
                    // A bound that was guessed is probed at once.
                    if self.bounds.upper.is_some() {
                        self.cycle.wait = Duration::ZERO;
                    }
                }
            }
            Phase::Down | Phase::Cruise if self.is_time_to_probe(ack.now) => self.enter_refill(),
            Phase::Down if ack.remaining <= self.in_flight(1.0) => self.enter_cruise(ack.now),
            // What fills the queue will not give way.
            Phase::Down if self.cycle.is_held() && self.cycle.rounds > 0 => self.enter_cruise(ack.now),
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
        self.loss.ceiling.on_round(self.datagram);
        if !self.full.is_reached() && !is_app_limited {
            self.full.on_round(self.path.bandwidth.get());
        }
        match self.phase {
            Phase::Down | Phase::Cruise if self.is_queued() => self.on_queued_round(ack.now),
            Phase::Down | Phase::Cruise => {
                self.cycle.queued_rounds = 0;
                self.cycle.release();
            }
            Phase::Up if !is_app_limited => {
                let is_bounded = self.is_held_by_upper_bound(ack);
                self.cycle.probe.on_round(self.bandwidth(), is_bounded);
            }
            _ => {}
        }
        if std::mem::take(&mut self.cycle.is_pending) && !is_app_limited {
            self.path.bandwidth.advance();
            self.path.longest.advance();
        }
    }

    fn is_time_to_probe(&self, now: Instant) -> bool {
        let product = self.packets(self.in_flight(1.0));
        now > self.cycle.probed + self.cycle.wait
            || f64::from(self.cycle.rounds_since) >= product.min(phase::MAX_PROBE_ROUNDS)
            || self.cycle.is_crowded(product)
            || self.cycle.is_held() && self.cycle.rounds_since >= phase::HELD_ROUNDS
    }

    /// Probing is over: less is sent than arrives, until the queue that it made is gone.
    fn enter_down(&mut self, now: Instant) {
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
        self.path.steady = SteadyRate::default();
        self.cycle.probe = BandwidthProbe {
            rtt: self.round.previous.rtt.map(Span::from),
            bandwidth: self.bandwidth(),
            idle_rounds: 0,
        };
        self.round.begin(self.rate.delivered());
    }

    fn probe_up(&mut self, ack: &AckSample) {
        self.raise_upper_bound(ack);
        let queue = self.path.min_rtt.get().unwrap_or_default() / phase::UP_QUEUE_PART;
        let probe = &self.cycle.probe;
        let has_queue = ack
            .latest
            .is_some_and(|rtt| rtt >= probe.rtt.map_or(queue, |before| before.get() + queue));
        // The first round trip in a long queue tells of what was sent before.
        let least = if self.cycle.is_held() { 2 } else { 1 };
        let is_measured = self.cycle.rounds >= least && self.path.steady.is_known();
        let is_idle = probe.idle_rounds >= phase::UP_IDLE_ROUNDS;
        if is_measured && (has_queue || is_idle) {
            self.path.is_full |= is_idle && !has_queue;
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
            None if ack.remaining <= self.in_flight(phase::PROBE_RTT_GAIN) => {
                self.phase = Phase::ProbeRtt(Some(ack.now + phase::PROBE_RTT_TIME));
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
        let rate = self.phase.pacing_gain() * bandwidth * PACING_MARGIN;
        (bandwidth > 0.0).then(|| rate.max(self.known_rate()))
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
            self.loss.lately.on_round();
            self.path.on_round(self.round.previous.rtt);
        }
        let packets = self.packets(ack.bytes);
        self.loss.lately.arrived(packets);
        if ack.latest.is_some_and(|rtt| self.path.is_short(rtt)) {
            self.loss.usual.note(ack.largest_sent, packets, false);
        }
        self.update_path(ack, sample.as_ref());
        self.advance(ack, sample.is_some_and(|s| s.is_app_limited));
        self.update_window(ack.bytes);
    }

    fn on_congestion(&mut self, now: Instant, signal: &Signal) -> bool {
        let in_flight = self.rate.in_flight_at(signal.seq).unwrap_or(self.window);
        let is_new = self.loss.reacted.is_none_or(|reacted| signal.sent > reacted);
        if let SignalKind::Loss(packets) = signal.kind {
            let in_queue = loss::is_queue(signal.rtt, self.path.min_rtt.get(), self.loss.delay.get());
            if !in_queue && self.path.is_short(signal.rtt) {
                self.loss.usual.note(signal.sent, packets as f64, true);
            }
            if is_new {
                self.loss.lately.lost(packets, in_queue);
            }
        }
        let at_start = self.phase == Phase::Startup;
        let packets = self.packets(in_flight);
        let is_congestion = match signal.kind {
            // At the start a queue stands before the pipe is full: bandwidth still grows.
            SignalKind::Mark => !at_start || self.full.is_near(),
            SignalKind::Loss(_) => {
                let chance = self.chance();
                self.loss.lately.is_congestion(packets, chance, at_start)
            }
        };
        match is_new {
            true if is_congestion => self.react(now, in_flight),
            true => self.react_among_many(now, packets),
            false => {}
        }
        is_new && is_congestion
    }

    fn on_false_congestion(&mut self) {
        let Some(before) = self.loss.before.take() else {
            return;
        };
        (self.bounds, self.loss.ceiling) = (before.bounds, before.ceiling);
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

    fn begin_with(&mut self, window: u64) {
        if self.in_slow_start() {
            self.window = self.window.max(window);
            self.known = self.window;
        }
    }

    fn set_window(&mut self, window: u64) {
        self.window = window.max(self.min_window());
    }

    /// The model has what arrived, and the reaction was to that.
    fn retreat(&mut self, window: u64) {
        self.window = window.max(self.min_window());
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
