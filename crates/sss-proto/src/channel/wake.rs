//! Time: when the channel is to be woken, and what it does then.

use std::time::Duration;

use super::sent::Sink;
use super::{Channel, Fate};
use crate::time::{Earliest, Instant};

/// Packets whose contents are sent again on a probe timeout (REC-4).
const REPEATED: usize = 2;
/// How long a peer has to answer that is asked whether it still knows the channel: in probe timeouts, and at least.
const ANSWER_TIMEOUTS: u32 = 6;
const MIN_ANSWER_TIME: Duration = Duration::from_millis(500);

/// What the owner has to know after a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimerEvent {
    /// Nothing; there may be something to send.
    None,
    /// Nothing was heard for this long: the channel has ended (CHN-2).
    Idle(Duration),
    /// The peer was asked whether it still knows the channel, and did not answer (NEG-20).
    Forgotten,
    /// The channel must be closed with AEAD_LIMIT (PRT-9).
    KeysUsedUp,
    /// The channel was closed long enough ago to be forgotten (CHN-12).
    Closed,
}

impl Channel {
    /// When [`Self::on_timer`] is to be called. After a call at some moment, always later than that.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        if !self.is_open() {
            return self.life.close.next_timer();
        }
        let done = self.life.timers_run;
        if self.keys.is_exhausted() {
            return Some(done.map_or(Instant::default(), |at| at + Duration::from_nanos(1)));
        }
        let mut next = Earliest::after(done);
        next.add(self.recovery_time());
        next.add(self.received.deadline());
        next.add(self.life.activity.idle_time(self.recovery.probe_timeout()));
        next.add(self.life.activity.keepalive_time());
        next.add(self.life.activity.answer_deadline());
        next.add(self.flow.resume);
        next.add(self.paths.next_timer());
        next.add(self.mtu.next_timer());
        next.add(self.keys.next_timer());
        next.get()
    }

    /// When something is to be declared lost, or else the peer to be probed.
    fn recovery_time(&self) -> Option<Instant> {
        // Before ACCEPT nothing can be acknowledged; INITIATE is repeated by the negotiation.
        if !self.keys.can_receive() {
            return None;
        }
        self.recovery.loss.loss_time.or_else(|| self.probe_time())
    }

    fn probe_time(&self) -> Option<Instant> {
        let (rtt, delay) = (&self.recovery.rtt, self.recovery.peer_ack_delay);
        self.sent
            .has_eliciting()
            .then(|| self.recovery.loss.probe_time(rtt, delay))
    }

    /// Does what is due at `now`. Tokens of packets that are lost, or whose contents are to be sent again, are appended
    /// to `fates`. Afterwards there may be something to send.
    pub(crate) fn on_timer(&mut self, now: Instant, fates: &mut Vec<Fate>) -> TimerEvent {
        self.life.timers_run = Some(now);
        if !self.is_open() {
            return if self.life.close.on_timer(now) {
                TimerEvent::Closed
            } else {
                TimerEvent::None
            };
        }
        if self.keys.is_exhausted() {
            return TimerEvent::KeysUsedUp;
        }
        let is_due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if is_due(self.life.activity.idle_time(self.recovery.probe_timeout())) {
            return TimerEvent::Idle(self.life.activity.idle_timeout());
        }
        if is_due(self.life.activity.answer_deadline()) {
            return TimerEvent::Forgotten;
        }
        if is_due(self.recovery_time()) {
            self.on_recovery_timer(now, fates);
        }
        if is_due(self.life.activity.keepalive_time()) {
            self.life.activity.on_keepalive(now);
            self.shrink();
        }
        self.keys.on_timer(now);
        self.mtu.on_timer(now);
        TimerEvent::None
    }

    /// Asks the peer whether it still knows the channel. If it does not answer within 6 PTO, at least 500 ms, the
    /// channel ends with [`TimerEvent::Forgotten`].
    pub(crate) fn probe_liveness(&mut self, now: Instant) {
        let grace = (self.recovery.probe_timeout() * ANSWER_TIMEOUTS).max(MIN_ANSWER_TIME);
        self.life.activity.expect_answer(now + grace);
    }

    fn on_recovery_timer(&mut self, now: Instant, fates: &mut Vec<Fate>) {
        let mut sink = Sink::new(fates);
        if self.recovery.loss.loss_time.is_some() {
            self.detect_losses(now, &mut sink);
        } else {
            self.counters.probe_timeouts += 1;
            self.recovery.loss.on_probe_timeout(now);
            if self.recovery.loss.probes_carry_data() {
                self.sent.repeat_oldest(REPEATED, &mut sink);
            }
        }
    }

    /// Gives memory back that a busy time needed.
    fn shrink(&mut self) {
        self.sent.shrink();
        self.recovery.loss.shrink();
        self.flow.controller.get_mut().shrink();
    }
}
