//! The end of a channel (CHN-12).
//!
//! ```text
//!  Open -- close() --> Closing --+-- CLOSE, or 3 PTO, at most MAX_CLOSING --> Ended
//!    \---- CLOSE ----> Draining -+
//! ```

use std::time::Duration;

use sss_wire::Code;
use sss_wire::frame::{Close, Origin};

use crate::time::Instant;

/// Probe timeouts for which late packets are waited for.
const WAIT: u32 = 3;
/// The longest that a channel which has ended waits for late packets, however long its round trip (CHN-12).
pub const MAX_CLOSING: Duration = Duration::from_secs(3);

/// Returns when an ending that begins now is over. `probe_timeout` is without backoff.
fn end(now: Instant, probe_timeout: Duration) -> Instant {
    now + (probe_timeout * WAIT).min(MAX_CLOSING)
}

/// CLOSE with a code, and who closes with it.
pub(super) fn frame(code: Code, reason: &str) -> Close<'_> {
    let origin = if code.as_app().is_some() {
        Origin::Application
    } else {
        Origin::Protocol
    };
    Close { origin, code, reason }
}

/// State of a channel: open, or one of the steps of its end.
#[derive(Debug)]
pub(crate) enum CloseState {
    Open,
    /// CLOSE was or is to be sent.
    Closing(Box<Closing>),
    /// CLOSE was received: nothing more is sent.
    Draining {
        until: Instant,
    },
    /// It is to be forgotten.
    Ended,
}

/// A CLOSE of this host.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(super) code: Code,
    pub(super) reason: String,
    until: Instant,
    /// Packets received since.
    heard: u64,
    /// True if CLOSE is to be sent (again).
    is_due: bool,
    /// True if CLOSE was sent.
    was_sent: bool,
}

impl CloseState {
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// This host ends the channel.
    pub(super) fn close(&mut self, now: Instant, probe_timeout: Duration, code: Code, reason: String) {
        if self.is_open() {
            *self = Self::Closing(Box::new(Closing {
                code,
                reason,
                until: end(now, probe_timeout),
                heard: 0,
                is_due: true,
                was_sent: false,
            }));
        }
    }

    /// The peer ended the channel.
    pub(super) fn on_close(&mut self, now: Instant, probe_timeout: Duration) {
        match self {
            Self::Open => {
                *self = Self::Draining {
                    until: end(now, probe_timeout),
                }
            }
            Self::Closing(closing) => *self = Self::Draining { until: closing.until },
            Self::Draining { .. } | Self::Ended => {}
        }
    }

    /// A packet came for the channel that was closed: it is answered if it is the 1st, 2nd, 4th, 8th ...
    pub(crate) fn on_packet(&mut self) {
        if let Self::Closing(closing) = self {
            closing.heard += 1;
            closing.is_due |= closing.heard.is_power_of_two();
        }
    }

    /// The CLOSE to be sent now, if one is.
    pub(super) fn due(&self) -> Option<&Closing> {
        match self {
            Self::Closing(closing) if closing.is_due => Some(closing),
            _ => None,
        }
    }

    pub(super) fn on_sent(&mut self) {
        if let Self::Closing(closing) = self {
            closing.is_due = false;
            closing.was_sent = true;
        }
    }

    /// Returns whether this host has sent CLOSE, and waits for the answer.
    pub(crate) fn has_closed(&self) -> bool {
        matches!(self, Self::Closing(closing) if closing.was_sent)
    }

    /// A channel that is ending is to be forgotten by `latest`.
    pub(crate) fn hasten(&mut self, latest: Instant) {
        match self {
            Self::Closing(closing) => closing.until = closing.until.min(latest),
            Self::Draining { until } => *until = latest.min(*until),
            Self::Open | Self::Ended => {}
        }
    }

    /// Returns when the channel is to be forgotten, if it is ending.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        match self {
            Self::Closing(closing) => Some(closing.until),
            Self::Draining { until } => Some(*until),
            Self::Open | Self::Ended => None,
        }
    }

    /// Ends the channel when its time has come; returns whether it has ended.
    pub(super) fn on_timer(&mut self, now: Instant) -> bool {
        if self.next_timer().is_some_and(|at| now >= at) {
            *self = Self::Ended;
        }
        matches!(self, Self::Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTO: Duration = Duration::from_millis(10);

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    // spec: CHN-12
    #[test]
    fn close_is_sent_once_then_in_answer_with_exponentially_fewer_answers() {
        let mut state = CloseState::Open;
        state.close(at(0), PTO, Code::NONE, "done".to_owned());
        assert_eq!(state.due().unwrap().reason, "done");
        state.on_sent();
        assert!(state.due().is_none());
        let mut answered = Vec::new();
        for n in 1..=20 {
            state.on_packet();
            if state.due().is_some() {
                answered.push(n);
                state.on_sent();
            }
        }
        assert_eq!(answered, [1, 2, 4, 8, 16]);
        assert!(!state.on_timer(at(29)));
        assert!(state.on_timer(at(30)));
    }

    // spec: CHN-12
    #[test]
    fn an_answer_is_one_also_while_close_is_to_be_sent_again() {
        let mut state = CloseState::Open;
        state.close(at(0), PTO, Code::NONE, String::new());
        assert!(!state.has_closed(), "what has come is no answer");
        state.on_sent();
        state.on_packet();
        assert!(state.due().is_some() && state.has_closed());
    }

    // spec: CHN-12
    #[test]
    fn neither_side_waits_longer_than_3_seconds() {
        let minutes = Duration::from_secs(100);
        let mut closing = CloseState::Open;
        closing.close(at(0), minutes, Code::NONE, String::new());
        let mut draining = CloseState::Open;
        draining.on_close(at(0), minutes);
        for mut state in [closing, draining] {
            assert_eq!(state.next_timer(), Some(at(3000)));
            assert!(!state.on_timer(at(2999)));
            assert!(state.on_timer(at(3000)));
        }
    }

    // spec: CHN-12
    #[test]
    fn the_receiver_of_close_sends_nothing_and_waits_for_3_pto() {
        let mut state = CloseState::Open;
        state.on_close(at(5), PTO);
        state.on_packet();
        assert!(state.due().is_none() && !state.is_open());
        assert_eq!(state.next_timer(), Some(at(35)));
        assert!(state.on_timer(at(35)));
        state.close(at(36), PTO, Code::NONE, String::new());
        assert!(state.due().is_none());
    }
}
