//! Signs of life, and the end of a channel.

use std::time::Duration;

use super::close::CloseState;
use super::timers::Activity;
use crate::time::{Earliest, Instant};

/// Packets in a row that the peer need not acknowledge, before it is asked to: else it would never be known what it
/// has heard of. Fewer when acknowledgements are long.
const MAX_QUIET: u32 = 256;
const MAX_QUIET_LONG: u32 = 16;
const LONG_ACK: usize = 8;
/// Time without a packet after which a channel rests at first: longer than an acknowledgement waits. It is short, since
/// what channels have that were made a moment ago is a large part of the memory that many of them take.
const REST: Duration = Duration::from_millis(50);
/// Number of times that this is doubled, at most: a channel that is used now and then, as those of a host with very
/// many peers are, or that waits for long round trips, comes to rest after pauses longer than its own.
const MAX_DOUBLINGS: u8 = 5;
/// As if it had been doubled so often: for one that waits for acknowledgements, and may have to probe.
const WAITING: u8 = 2;
/// A channel that would rest again within so many [ticks](TICK) is used now and then: 2 s.
const SOON: u16 = 62;
const TICK: Duration = Duration::from_millis(32);

/// Consequences of a timer for the owner of the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimerEvent {
    /// Nothing; there may be something to send.
    None,
    /// Nothing comes where something should: a flow of packets broke off (CHN-18), or the first probe timeout has
    /// passed.
    Quiet,
    /// Nothing was heard for this long: the channel has ended (CHN-2).
    Idle(Duration),
    /// The channel must be closed with AEAD_LIMIT (PRT-9).
    KeysUsedUp,
    /// The channel was closed long enough ago to be forgotten (CHN-12).
    Closed,
}

/// Signs of life, and the end.
pub(super) struct Liveness {
    pub(super) activity: Activity,
    pub(super) close: CloseState,
    /// The time when timers last ran: what was due then waits only to be sent.
    pub(super) timers_run: Option<Instant>,
    /// Packets sent since one that must be acknowledged.
    pub(super) quiet: u32,
    /// The time when a packet was last sent.
    last_sent: Instant,
    rest: Rest,
}

/// Pauses after which a channel rests: twice as long when it was used soon after a rest, as the usual ones when it was
/// not. Four bytes, since there is one for each channel.
#[derive(Default)]
struct Rest {
    doublings: u8,
    /// Set if it has rested since the pause was last made longer.
    has_rested: bool,
    /// The time of that, in ticks. They begin anew after 35 minutes: a rest may be taken for a late one then.
    last: u16,
}

impl Rest {
    fn after(&self, is_waiting: bool) -> Duration {
        let least = if is_waiting { WAITING } else { 0 };
        REST * (1 << self.doublings.max(least))
    }

    /// It is to rest. Returns whether it does, or waits for longer from now on.
    fn begin(&mut self, now: Instant) -> bool {
        let ticks = now.as_nanos() / TICK.as_nanos() as u64;
        let now = (ticks % (1 << u16::BITS)) as u16;
        let is_soon = now.wrapping_sub(self.last) < SOON;
        match self.has_rested {
            true if is_soon && self.doublings < MAX_DOUBLINGS => {
                self.doublings += 1;
                self.has_rested = false;
                return false;
            }
            true if !is_soon => self.doublings = 0,
            _ => {}
        }
        self.has_rested = true;
        self.last = now;
        true
    }
}

impl Liveness {
    pub(super) fn new(activity: Activity) -> Self {
        Self {
            last_sent: activity.last_received(),
            activity,
            close: CloseState::Open,
            timers_run: None,
            quiet: 0,
            rest: Rest::default(),
        }
    }

    /// A packet was sent.
    pub(super) fn on_sent(&mut self, now: Instant, ack_eliciting: bool) {
        self.last_sent = now;
        if ack_eliciting {
            self.activity.on_eliciting_sent(now);
            self.quiet = 0;
        } else {
            self.quiet = self.quiet.saturating_add(1);
        }
    }

    /// Returns whether a packet that need not be acknowledged is to carry PING, when ACK names so many ranges.
    pub(super) fn owes_ping(&self, ranges: usize) -> bool {
        let max_quiet = if ranges > LONG_ACK { MAX_QUIET_LONG } else { MAX_QUIET };
        self.activity.wants_ping() || self.quiet >= max_quiet
    }

    /// Returns when nothing was sent or heard for so long that what can be made again is given back.
    pub(super) fn rest_time(&self, is_waiting: bool) -> Instant {
        self.last_sent.max(self.activity.last_received()) + self.rest.after(is_waiting)
    }

    /// That time has come. Returns whether it is given back, or kept for longer pauses from now on.
    pub(super) fn begin_rest(&mut self, now: Instant) -> bool {
        self.rest.begin(now)
    }

    /// The times at which something is due for lack of a sign of life.
    pub(super) fn add_times(&self, next: &mut Earliest, probe_timeout: Duration) {
        next.add(self.activity.idle_time(probe_timeout));
        next.add(self.activity.keepalive_time());
    }

    /// Returns when the peer is to be asked why a flow broke off. What is under way `asks` already.
    pub(super) fn broken_off_time(&self, asks: bool, probe_timeout: Duration) -> Option<Instant> {
        let at = self.activity.broken_off_time(probe_timeout);
        at.filter(|_| !asks && !self.activity.wants_ping())
    }

    /// Returns how a channel has ended of which nothing was heard for too long.
    pub(super) fn silence(&self, now: Instant, probe_timeout: Duration) -> Option<TimerEvent> {
        let is_due = self.activity.idle_time(probe_timeout).is_some_and(|at| now >= at);
        is_due.then(|| TimerEvent::Idle(self.activity.idle_timeout()))
    }
}
