//! Reactions to what congestion shows: bounds until the next probe (REC-12), and a ceiling for longer (REC-20).

use super::loss::LostLately;
use super::phase::{self, Phase};
use super::{BETA, Bbr, Before};
use crate::time::Instant;

/// One whose product has fewer datagrams shares the path with many: losses lower its ceiling whatever they look like.
const MANY: u64 = 10;
/// From such a share of packets lost by chance on, this part of the product is never above the ceiling.
const LOSSY: f64 = 0.003;
const LOSSY_CEILING: f64 = 1.5;

impl Bbr {
    /// Lowers the bounds (REC-12): of a packet that was lost or marked, `in_flight` was in flight when it left.
    pub(super) fn react(&mut self, now: Instant, in_flight: u64) {
        self.loss.before = Some(Before {
            bounds: self.bounds,
            ceiling: self.loss.ceiling,
            was_start: self.phase == Phase::Startup,
        });
        self.loss.reacted = Some(now);
        self.loss.lately = LostLately::default();
        self.cycle.release();
        if self.phase != Phase::Startup {
            self.loss.ceiling.lower(self.window, self.min_window());
        }
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

    /// One of many senders has lost too much, which may be taken for chance: the ceiling is all that follows.
    pub(super) fn react_among_many(&mut self, now: Instant, in_flight: f64) {
        let is_small = self.in_flight(1.0) < MANY * u64::from(self.datagram) && self.phase != Phase::Startup;
        if is_small && self.loss.lately.is_too_much(in_flight) {
            self.loss.reacted = Some(now);
            self.loss.lately = LostLately::default();
            self.loss.ceiling.lower(self.window, self.min_window());
        }
    }

    /// The most that may be in flight because of the ceiling (REC-20).
    pub(super) fn most(&self) -> u64 {
        let is_apart = matches!(self.phase, Phase::Startup | Phase::ProbeRtt(_));
        if is_apart || self.cycle.is_held() {
            return u64::MAX;
        }
        let floor = match self.usual_loss() {
            Some(share) if share > LOSSY => self.in_flight(LOSSY_CEILING),
            _ => 0,
        };
        let gain = if self.phase == Phase::Up { phase::UP_PACING } else { 1.0 };
        self.loss.ceiling.times(gain).max(floor)
    }

    /// Returns the share of packets that may be lost by chance, beside the threshold.
    pub(super) fn chance(&self) -> f64 {
        match self.usual_loss() {
            Some(share) => share,
            // It may be a queue that never empties.
            None if self.path.is_full => 0.0,
            None => 1.0,
        }
    }

    /// The share of packets that are lost by chance, if it is known to be that.
    pub(super) fn usual_loss(&self) -> Option<f64> {
        self.loss.usual.share().filter(|_| self.path.is_varied())
    }
}
