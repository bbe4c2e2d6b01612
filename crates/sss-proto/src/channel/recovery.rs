//! Round-trip time and loss: knowledge that acknowledgements bring.

use std::time::Duration;

use super::loss::LossDetector;
use super::loss_rate::LossRate;
use super::rtt::Rtt;
use crate::time::{Instant, Span};

/// Round-trip time and loss.
pub(super) struct Recovery {
    pub(super) rtt: Rtt,
    pub(super) loss: LossDetector,
    pub(super) loss_rate: LossRate,
    /// The longest that the peer holds back an acknowledgement.
    pub(super) peer_ack_delay: Span,
    /// Numbers below this one tell no round trip: sent on another path, more than once, or before a suspension.
    pub(super) path_start: u64,
}

impl Recovery {
    /// The time after which a probe is sent, without backoff (REC-4).
    pub(super) fn probe_timeout(&self) -> Duration {
        self.rtt.probe_timeout(self.peer_ack_delay.get())
    }

    /// Nothing that was sent before the number `next` tells a round trip, if this host was suspended: what answers it
    /// has waited here (REC-1).
    pub(super) fn note_suspension(&mut self, now: Instant, next: u64) {
        if self.loss.was_suspended(now, &self.rtt, self.peer_ack_delay.get()) {
            self.path_start = next;
        }
    }
}
