//! Time: when something is due for a channel, and what is done then.

use std::time::Duration;

use super::Channel;
use super::fate::Fate;
use super::liveness::TimerEvent;
use crate::time::{Earliest, Instant};

impl Channel {
    /// Returns when [`Self::on_timer`] is to be called. After a call at some moment, always later than that.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        if !self.is_open() {
            return self.liveness.close.next_timer();
        }
        let done = self.liveness.timers_run;
        if self.keys.is_exhausted() {
            return Some(done.map_or(Instant::default(), |at| at + Duration::from_nanos(1)));
        }
        // What was due at the last call waits to be sent, and for no time.
        let mut next = Earliest::after(done);
        next.add(self.recovery_time());
        next.add(self.received.deadline());
        let probe_timeout = self.flight.probe_timeout();
        self.liveness.add_times(&mut next, probe_timeout);
        next.add(self.liveness.broken_off_time(self.flight.asks(), probe_timeout));
        next.add(self.flight.flow.resume);
        next.add(self.paths.next_timer());
        next.add(self.flight.mtu.next_timer());
        next.add(self.keys.next_timer());
        next.add(rest_time(self));
        next.get()
    }

    /// Returns when something is to be declared lost, or else the peer to be probed.
    fn recovery_time(&self) -> Option<Instant> {
        // Before ACCEPT nothing can be acknowledged; INITIATE is repeated by the negotiation.
        if !self.keys.can_receive() {
            return None;
        }
        self.flight.recovery_time()
    }

    /// Does what is due at `now`. Tokens of packets that are lost, or whose contents are to be sent again, are appended
    /// to `fates`. Afterwards there may be something to send.
    pub(crate) fn on_timer(&mut self, now: Instant, fates: &mut Vec<Fate>) -> TimerEvent {
        self.liveness.timers_run = Some(now);
        if !self.is_open() {
            return if self.liveness.close.on_timer(now) {
                TimerEvent::Closed
            } else {
                TimerEvent::None
            };
        }
        if self.keys.is_exhausted() {
            return TimerEvent::KeysUsedUp;
        }
        if let Some(end) = self.liveness.silence(now, self.flight.probe_timeout()) {
            return end;
        }
        let is_due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        let probes = self.flight.recovery.loss.probe_count();
        if is_due(self.recovery_time()) {
            self.flight.on_recovery_timer(now, fates);
        }
        let is_first_probe = probes == 0 && self.flight.recovery.loss.probe_count() == 1;
        if is_due(self.liveness.activity.keepalive_time()) {
            self.liveness.activity.on_keepalive(now);
            self.flight.shrink();
        }
        self.keys.on_timer(now);
        self.flight.mtu.on_timer(now);
        let probe_timeout = self.flight.probe_timeout();
        if is_due(self.liveness.broken_off_time(self.flight.asks(), probe_timeout)) {
            self.liveness.activity.on_broken_off();
            return TimerEvent::Quiet;
        }
        match is_first_probe && self.liveness.activity.carries() {
            true => TimerEvent::Quiet,
            false => TimerEvent::None,
        }
    }
}

/// Returns whether anything but data may be to be sent now, or whether congestion control has to know that nothing is.
/// To be asked after each packet: it looks at little.
pub(crate) fn may_have_output(channel: &Channel, now: Instant) -> bool {
    !channel.is_open()
        || channel.wants_control(now)
        || channel.paths.is_moving()
        || channel.flight.mtu.wanted_probe().is_some()
        || channel.flight.flow.controller.notes_limits()
}

/// Returns when what can be made again is given back, if something is there.
fn rest_time(channel: &Channel) -> Option<Instant> {
    (!rests(channel)).then(|| channel.liveness.rest_time(channel.flight.sent.in_flight() > 0))
}

/// Gives back what a channel can make again, if nothing was sent or heard for long enough: keys as they are used, and
/// spare memory. Returns whether it was given back.
pub(crate) fn rest(channel: &mut Channel, now: Instant) -> bool {
    let is_due = rest_time(channel).is_some_and(|at| now >= at);
    let rests = is_due && channel.liveness.begin_rest(now);
    if rests {
        channel.keys.freeze();
        channel.flight.rest();
    }
    rests
}

/// Returns whether a channel rests: the next packet makes what it needs.
pub(crate) fn rests(channel: &Channel) -> bool {
    channel.keys.is_frozen()
}
