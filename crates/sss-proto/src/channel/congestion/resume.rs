//! Careful resume (RFC 9959): what an earlier channel found out about the path gives a later one a start (REC-15 to
//! REC-17).
//!
//! ```text
//!  reconnaissance --- all as before ---> unvalidated --- the first comes back ---> validating --- the last ---> over
//!        |                                    |                                        |
//!        +--- loss, another round trip: over  +------------- congestion ---------------+---> retreat ---> over
//!                                             +<------- if it turns out to be none -----+--------+
//! ```

use std::time::Duration;

use super::control::{AckSample, Control};
use crate::time::Instant;

/// The time for which is believed what was found out about a path (REC-15).
pub(crate) const LIFETIME: Duration = Duration::from_secs(60 * 60);
/// The part of the saved window that is tried (RFC 9959: no more than half).
const JUMP_DIVISOR: u64 = 2;
/// Bounds of the round trip, as parts of the saved one: half of it, ten times that.
const SHORTEST_DIVISOR: u32 = 2;
const LONGEST_FACTOR: u32 = 10;
/// After a retreat, slow start ends with this part of what has arrived.
const BETA: f64 = 0.7;

/// Knowledge of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SavedPath {
    /// Bytes in flight that the path carried.
    pub(crate) window: u64,
    /// Bytes per second that arrived.
    pub(crate) rate: u64,
    /// The smallest round trip.
    pub(crate) rtt: Duration,
    /// The time when this was last seen to be so.
    pub(crate) at: Instant,
}

impl SavedPath {
    /// Returns whether it is too old to be believed.
    pub(crate) fn is_outdated(&self, now: Instant) -> bool {
        now.since(self.at) > LIFETIME
    }

    /// Returns the window that may be tried.
    pub(crate) fn jump(&self) -> u64 {
        self.window / JUMP_DIVISOR
    }

    /// Returns whether a path with this smallest round trip may be the same one.
    fn is_like(&self, rtt: Duration) -> bool {
        rtt >= self.rtt / SHORTEST_DIVISOR && rtt <= self.rtt * LONGEST_FACTOR
    }
}

/// Use that a channel has made of what an earlier one found out about its path (REC-15 to REC-17).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResumeState {
    /// Nothing was known of the path.
    #[default]
    Unknown,
    /// Something is known, and the first packets have yet to show that the path is the same.
    Reconnaissance,
    /// Half of the window known from before is tried.
    Unvalidated,
    /// All of that was sent, and arrives.
    Validating,
    /// It has arrived: the channel had a start.
    Resumed,
    /// It was too much: the window has gone back to half of what did arrive.
    Retreated,
    /// It was not tried: the path seems to be another one, something was lost, or there was too little to send.
    Declined,
}

/// Careful resume of one channel, until it is over.
#[derive(Debug)]
pub(super) struct Resume {
    saved: SavedPath,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// So many bytes are to be acknowledged before more is tried.
    Reconnaissance(u64),
    /// More is sent than the path is known to carry.
    Trial(Trial, Part),
    /// So it was then, and some came to no good. The number of the last packet is known from the next acknowledgement
    /// on.
    Retreat(Trial, Part, Option<u64>),
}

/// Part of a trial.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// From the packet of this number on, more was sent, since then.
    Unvalidated(u64, Instant),
    /// Packets up to this number were more.
    Validating(u64),
}

/// The window that is tried.
#[derive(Clone, Copy, Debug)]
struct Trial {
    window: u64,
    rtt: Duration,
    /// Bytes that have arrived, or were under way before (`PipeSize`).
    pipe: u64,
}

impl Trial {
    /// Bytes per second: the window leaves in the course of a round trip.
    fn rate(&self) -> f64 {
        self.window as f64 / self.rtt.as_secs_f64().max(1e-9)
    }
}

impl Resume {
    /// The path may be the one of which this is known, if so many bytes arrive there as they did.
    pub(super) fn new(saved: SavedPath, initial_window: u64) -> Self {
        Self {
            saved,
            phase: Phase::Reconnaissance(initial_window),
        }
    }

    /// Knowledge, as long as nothing was made of it.
    pub(super) fn unused(&self) -> Option<SavedPath> {
        matches!(self.phase, Phase::Reconnaissance(_)).then_some(self.saved)
    }

    pub(super) fn state(&self) -> ResumeState {
        match self.phase {
            Phase::Reconnaissance(_) => ResumeState::Reconnaissance,
            Phase::Trial(_, Part::Unvalidated(..)) => ResumeState::Unvalidated,
            Phase::Trial(_, Part::Validating(_)) => ResumeState::Validating,
            Phase::Retreat(..) => ResumeState::Retreated,
        }
    }

    /// Bytes per second at which packets leave; `model` is what the controller says of that, if it says anything.
    pub(super) fn pacing_rate(&self, model: Option<f64>) -> Option<f64> {
        match &self.phase {
            Phase::Trial(trial, Part::Unvalidated(..)) => Some(trial.rate().max(model.unwrap_or_default())),
            // What the model is made from has still to come back.
            Phase::Trial(trial, Part::Validating(_)) => model.map(|rate| rate.max(trial.rate())),
            _ => model,
        }
    }

    /// A packet leaves. Returns how it has ended, if it is over.
    pub(super) fn on_sent(&mut self, now: Instant, seq: u64, in_flight: u64, control: &mut dyn Control) -> Outcome {
        match &self.phase {
            // The application had no more to send: what was not tried in a round trip is not known.
            Phase::Trial(trial, Part::Unvalidated(_, since)) if now.since(*since) > trial.rtt => {
                let trial = *trial;
                self.validate(trial, seq, in_flight, control)
            }
            _ => None,
        }
    }

    /// Takes in an acknowledgement, of which the controller knows. Returns how it has ended, if it is over.
    pub(super) fn on_acked(&mut self, sample: &AckSample, control: &mut dyn Control) -> Outcome {
        match &mut self.phase {
            Phase::Reconnaissance(left) => {
                *left = left.saturating_sub(sample.bytes);
                if *left == 0 {
                    self.consider(sample, control)
                } else {
                    None
                }
            }
            Phase::Trial(trial, Part::Unvalidated(first, _)) => {
                trial.pipe += sample.bytes;
                let trial = *trial;
                if !control.in_slow_start() {
                    return Some(ResumeState::Resumed);
                }
                control.set_window(trial.window);
                match sample.largest >= *first {
                    true => self.validate(trial, sample.next, sample.in_flight, control),
                    false => None,
                }
            }
            Phase::Trial(trial, Part::Validating(last)) => {
                trial.pipe += sample.bytes;
                (sample.largest >= *last).then_some(ResumeState::Resumed)
            }
            Phase::Retreat(trial, _, last) => {
                trial.pipe += sample.bytes;
                let last = *last.get_or_insert(sample.next.saturating_sub(1));
                if sample.largest < last {
                    return None;
                }
                control.grow_to((trial.pipe as f64 * BETA) as u64);
                Some(ResumeState::Retreated)
            }
        }
    }

    /// The first packets have arrived. If all is as it was, the jump.
    fn consider(&mut self, sample: &AckSample, control: &mut dyn Control) -> Outcome {
        let Some(rtt) = sample.least.filter(|rtt| self.saved.is_like(*rtt)) else {
            return Some(ResumeState::Declined);
        };
        let (jump, window) = (self.saved.jump(), control.window());
        if self.saved.is_outdated(sample.now) || !control.in_slow_start() || window >= jump {
            return Some(ResumeState::Declined);
        }
        // Who has little to send needs no more, and would not find out whether there is more.
        if 2 * sample.in_flight < window {
            return None;
        }
        control.set_window(jump);
        control.expect(self.saved.rate as f64, self.saved.rtt);
        let trial = Trial {
            window: jump,
            rtt: sample.smoothed.max(rtt),
            pipe: sample.remaining,
        };
        self.phase = Phase::Trial(trial, Part::Unvalidated(sample.next, sample.now));
        None
    }

    /// All that was tried comes back from now on, and `next` is sent next: no more counts than was sent.
    fn validate(&mut self, mut trial: Trial, next: u64, in_flight: u64, control: &mut dyn Control) -> Outcome {
        trial.window = in_flight.max(trial.pipe).min(trial.window);
        control.set_window(trial.window);
        if in_flight <= trial.pipe {
            return Some(ResumeState::Declined);
        }
        self.phase = Phase::Trial(trial, Part::Validating(next.saturating_sub(1)));
        None
    }

    /// Packets were lost, or marked; the controller `has_reacted` if that is congestion. Returns how it has ended, if
    /// it is over.
    pub(super) fn on_congestion(&mut self, has_reacted: bool, control: &mut dyn Control) -> Outcome {
        match &self.phase {
            Phase::Reconnaissance(_) => Some(ResumeState::Declined),
            Phase::Trial(trial, part) if has_reacted => {
                let (trial, part) = (*trial, *part);
                self.phase = Phase::Retreat(trial, part, None);
                control.retreat(trial.pipe / 2);
                None
            }
            // What was sent after the retreat is too much as well: there is no way back.
            Phase::Retreat(..) if has_reacted => Some(ResumeState::Retreated),
            _ => None,
        }
    }

    /// Nothing that the controller has last reacted to was congestion: the trial goes on.
    pub(super) fn on_false_congestion(&mut self, control: &mut dyn Control) {
        if let Phase::Retreat(trial, part, _) = &self.phase {
            let (trial, part) = (*trial, *part);
            control.set_window(control.window().max(trial.window));
            self.phase = Phase::Trial(trial, part);
        }
    }

    /// Nothing arrived for a long time: the path is not what it was. Returns how it has ended.
    pub(super) fn on_persistent_congestion(&self) -> Outcome {
        Some(match self.phase {
            Phase::Reconnaissance(_) => ResumeState::Declined,
            _ => ResumeState::Retreated,
        })
    }

    /// The path is another one from now on: what has not arrived there counts no more. Returns how it has ended.
    pub(super) fn on_moved(&self, control: &mut dyn Control) -> Outcome {
        match &self.phase {
            Phase::Trial(trial, _) => control.set_window(control.window().min(trial.pipe)),
            Phase::Reconnaissance(_) | Phase::Retreat(..) => {}
        }
        Some(ResumeState::Declined)
    }
}

/// The end, if it is over.
type Outcome = Option<ResumeState>;

#[cfg(test)]
mod tests;
