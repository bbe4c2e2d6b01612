//! The idle timeout, keepalives, and flows that break off (CHN-2, CHN-3, CHN-18).

use std::time::Duration;

use sss_wire::constants::{MIN_FLOW, MIN_SILENCE};

use crate::time::{Instant, Span};

/// Probe timeouts that the idle timeout is at least.
const MIN_IDLE_PROBES: u32 = 3;

/// Probe timeouts for which a flow breaks off before the peer is asked (CHN-18).
const SILENCE_PROBES: u32 = 2;

/// Time without a packet after which a channel that stands by sends PING (MIG-27).
const STANDBY: Duration = Duration::from_secs(25);

/// Moments at which something was heard or said lately.
#[derive(Debug)]
pub(super) struct Activity {
    /// Zero: never.
    idle_timeout: Span,
    keepalive: Span,
    /// True if a stream is open.
    is_kept_alive: bool,
    /// Set if another channel carries the streams (MIG-27).
    stands_by: bool,
    last_received: Instant,
    /// The time when the idle timeout was last restarted.
    restarted: Instant,
    /// True if an ack-eliciting packet was sent since something was received.
    has_spoken: bool,
    /// Ack-eliciting packets that were received since the peer was last asked why they broke off; at most [`MIN_FLOW`].
    flow: u32,
    last_keepalive: Instant,
    ping: bool,
}

impl Activity {
    /// `idle_timeout` zero means never.
    pub(super) fn new(now: Instant, idle_timeout: Duration, keepalive: Duration) -> Self {
        Self {
            idle_timeout: idle_timeout.into(),
            keepalive: keepalive.into(),
            is_kept_alive: false,
            stands_by: false,
            last_received: now,
            restarted: now,
            has_spoken: false,
            flow: 0,
            last_keepalive: now,
            ping: false,
        }
    }

    /// The peer's idle timeout is known: the smaller of the two that are not zero is in force.
    pub(super) fn set_peer_timeout(&mut self, theirs: Duration) {
        let timeout = match (self.idle_timeout(), theirs) {
            (Duration::ZERO, timeout) | (timeout, Duration::ZERO) => timeout,
            (ours, theirs) => ours.min(theirs),
        };
        self.idle_timeout = timeout.into();
    }

    pub(super) fn idle_timeout(&self) -> Duration {
        self.idle_timeout.get()
    }

    pub(super) fn set_keepalive(&mut self, wanted: bool, stands_by: bool) {
        self.is_kept_alive = wanted;
        self.stands_by = stands_by;
    }

    /// The time when something was last received.
    pub(super) fn last_received(&self) -> Instant {
        self.last_received
    }

    /// A packet was received and opened.
    pub(super) fn on_received(&mut self, now: Instant, ack_eliciting: bool) {
        self.flow = MIN_FLOW.min(self.flow + u32::from(ack_eliciting));
        self.last_received = now;
        self.restarted = now;
        self.has_spoken = false;
        self.ping = false;
    }

    /// An ack-eliciting packet was sent.
    pub(super) fn on_eliciting_sent(&mut self, now: Instant) {
        if !self.has_spoken {
            self.has_spoken = true;
            self.restarted = now;
        }
        self.ping = false;
    }

    /// Returns when the channel ends for lack of a sign of life.
    pub(super) fn idle_time(&self, probe_timeout: Duration) -> Option<Instant> {
        let idle_timeout = self.idle_timeout();
        let timeout = idle_timeout.max(probe_timeout.saturating_mul(MIN_IDLE_PROBES));
        (!idle_timeout.is_zero()).then(|| self.restarted + timeout)
    }

    /// Returns when the peer is to be asked for a sign of life.
    pub(super) fn keepalive_time(&self) -> Option<Instant> {
        let half = self.idle_timeout() / 2;
        let keepalive = if self.stands_by { STANDBY } else { self.keepalive.get() };
        let interval = if half.is_zero() { keepalive } else { keepalive.min(half) };
        let since = self.last_received.max(self.last_keepalive);
        (self.is_kept_alive && !interval.is_zero()).then(|| since + interval)
    }

    /// The time for a keepalive has come: PING is to be sent.
    pub(super) fn on_keepalive(&mut self, now: Instant) {
        self.last_keepalive = now;
        self.ping = true;
    }

    /// Returns when the peer is to be asked why a flow of packets broke off, where nothing else is under way to tell
    /// (CHN-18).
    pub(super) fn broken_off_time(&self, probe_timeout: Duration) -> Option<Instant> {
        let silence = probe_timeout.saturating_mul(SILENCE_PROBES).max(MIN_SILENCE);
        (self.carries() && self.flow >= MIN_FLOW).then(|| self.last_received + silence)
    }

    /// Returns whether streams depend on the channel.
    pub(super) fn carries(&self) -> bool {
        self.is_kept_alive && !self.stands_by
    }

    /// A flow broke off: PING is to be sent, once.
    pub(super) fn on_broken_off(&mut self) {
        self.flow = 0;
        self.ping = true;
    }

    /// PING is to be sent.
    pub(super) fn ask(&mut self) {
        self.ping = true;
    }

    /// Returns whether PING is to be sent.
    pub(super) fn wants_ping(&self) -> bool {
        self.ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTO: Duration = Duration::from_millis(100);

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn at(s: u64) -> Instant {
        Instant::from_nanos(s * 1_000_000_000)
    }

    // spec: CHN-2
    #[test]
    fn the_smaller_timeout_that_is_not_zero_is_in_force() {
        for (ours, theirs, expected) in [(60, 30, 30), (30, 60, 30), (0, 60, 60), (60, 0, 60), (0, 0, 0)] {
            let mut activity = Activity::new(at(0), secs(ours), secs(15));
            activity.set_peer_timeout(secs(theirs));
            assert_eq!(activity.idle_timeout(), secs(expected));
        }
        assert_eq!(Activity::new(at(0), secs(0), secs(15)).idle_time(PTO), None);
    }

    // spec: CHN-2
    #[test]
    fn idle_restarts_on_receipt_and_on_the_first_packet_sent_after_one() {
        let mut activity = Activity::new(at(0), secs(60), secs(15));
        activity.on_received(at(10), false);
        assert_eq!(activity.idle_time(PTO), Some(at(70)));
        activity.on_eliciting_sent(at(20));
        assert_eq!(activity.idle_time(PTO), Some(at(80)));
        activity.on_eliciting_sent(at(30));
        assert_eq!(activity.idle_time(PTO), Some(at(80)));
        activity.on_received(at(31), false);
        assert_eq!(activity.idle_time(PTO), Some(at(91)));
    }

    #[test]
    fn idle_is_at_least_3_pto() {
        let activity = Activity::new(at(0), secs(1), secs(15));
        assert_eq!(activity.idle_time(secs(2)), Some(at(6)));
    }

    // spec: CHN-3
    #[test]
    fn keepalive_only_while_wanted_and_at_most_half_the_idle_timeout() {
        let mut activity = Activity::new(at(0), secs(60), secs(15));
        assert_eq!(activity.keepalive_time(), None);
        activity.set_keepalive(true, false);
        assert_eq!(activity.keepalive_time(), Some(at(15)));
        activity.on_received(at(10), false);
        assert_eq!(activity.keepalive_time(), Some(at(25)));
        activity.on_keepalive(at(25));
        assert!(activity.wants_ping());
        activity.on_eliciting_sent(at(25));
        assert!(!activity.wants_ping());
        assert_eq!(activity.keepalive_time(), Some(at(40)));
        activity.set_peer_timeout(secs(10));
        assert_eq!(activity.keepalive_time(), Some(at(30)));
    }

    // spec: CHN-18
    #[test]
    fn a_flow_that_breaks_off_is_asked_for_once() {
        let mut activity = Activity::new(at(0), secs(60), secs(15));
        activity.set_keepalive(true, false);
        for _ in 1..MIN_FLOW {
            activity.on_received(at(1), true);
        }
        activity.on_received(at(1), false);
        assert_eq!(activity.broken_off_time(PTO), None);
        activity.on_received(at(1), true);
        assert_eq!(activity.broken_off_time(PTO), Some(at(1) + MIN_SILENCE.max(PTO * 2)));
        assert_eq!(activity.broken_off_time(secs(1)), Some(at(3)));
        activity.on_received(at(2), false);
        assert_eq!(activity.broken_off_time(secs(1)), Some(at(4)));
        activity.set_keepalive(true, true);
        assert_eq!(
            activity.broken_off_time(PTO),
            None,
            "another channel carries the streams"
        );
        activity.set_keepalive(false, false);
        assert_eq!(activity.broken_off_time(PTO), None, "nobody waits for anything");
        activity.set_keepalive(true, false);
        activity.on_broken_off();
        assert!(activity.wants_ping());
        activity.on_eliciting_sent(at(4));
        assert_eq!((activity.wants_ping(), activity.broken_off_time(PTO)), (false, None));
    }
}
