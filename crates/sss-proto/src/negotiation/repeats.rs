//! Repetition of the packets of an attempt: when, and for how long (NEG-15, MIG-12).

use std::time::Duration;

use rand::{Rng, RngExt};

use crate::error::NegotiationError;
use crate::pace::Pace;
use crate::route::Route;
use crate::time::Instant;

/// Pause before HELLO is sent again. Half of the second that RFC 8085, section 3.1.1, has for what was never measured:
/// what is repeated are two packets, and whoever connects waits for them.
const FIRST_HELLO_INTERVAL: Duration = Duration::from_millis(500);
const MIN_INITIATE_INTERVAL: Duration = Duration::from_millis(50);
/// Bounds of a round trip that was not measured, since HELLO was sent more than once (NEG-15).
const UNMEASURED: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(1)];
const MAX_INTERVAL: Duration = Duration::from_secs(10);
/// The same for the first pauses, and the number of these: somebody may be waiting, and packets may only be lost.
const MAX_FIRST_INTERVAL: Duration = Duration::from_secs(2);
const FIRST_PAUSES: u32 = 8;
/// Time for which an attempt to reach a peer again waits for COOKIE, and then for ACCEPT (MIG-12).
const AGAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for which one to reach it in a better way waits for COOKIE (MIG-28).
const ONCE_TIMEOUT: Duration = Duration::from_secs(4);

/// Rule by which packets are repeated, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Schedule {
    /// To reach a peer for the first time: doubling pauses, until the attempt fails (NEG-15).
    First(Duration),
    /// To reach it again, after a silence that began then (MIG-12).
    Again(Instant, Pace),
    /// To reach it in a better way than now (MIG-28): doubling pauses, for a short time.
    Once,
}

impl Schedule {
    pub(crate) fn first(timeout: Duration) -> Self {
        Self::First(timeout)
    }

    pub(crate) fn again(trouble_since: Instant, pace: Pace) -> Self {
        Self::Again(trouble_since, pace)
    }

    pub(crate) fn once() -> Self {
        Self::Once
    }

    /// The longest pause between two transmissions, where there were so many before it.
    pub(super) fn longest_pause(self, now: Instant, pauses: u32) -> Duration {
        match self {
            Self::First(_) | Self::Once if pauses < FIRST_PAUSES => MAX_FIRST_INTERVAL,
            Self::First(_) | Self::Once => MAX_INTERVAL,
            Self::Again(since, pace) => pace.retry_interval(now.since(since)),
        }
    }

    /// The pause between the first two.
    fn first_pause(self, now: Instant) -> Duration {
        match self {
            Self::Again(_, Pace::Patient) => self.longest_pause(now, 0),
            _ => FIRST_HELLO_INTERVAL.min(self.longest_pause(now, 0)),
        }
    }

    pub(super) fn timeout(self) -> Duration {
        match self {
            Self::First(timeout) => timeout,
            Self::Again(..) => AGAIN_TIMEOUT,
            Self::Once => ONCE_TIMEOUT,
        }
    }
}

/// Step to be taken when an attempt's time has come.
pub(crate) enum InitiatorStep<'a> {
    /// Nothing yet.
    Wait,
    /// Send this packet, and then the one beside it, to these routes.
    Send(&'a [u8], Option<&'a [u8]>, &'a [Route]),
    /// INITIATE was not answered: begin again with HELLO, beside it (NEG-24).
    BeginAgain,
    /// Give up.
    Fail(NegotiationError),
}

/// The time when the present packet is sent again.
pub(super) struct Resend {
    pub(super) at: Instant,
    pub(super) interval: Duration,
    /// Transmissions of the packet so far.
    pub(super) sent: u32,
    /// The time of the latest one.
    pub(super) latest: Instant,
}

impl Resend {
    /// The first transmission is due at once.
    pub(super) fn new(now: Instant, schedule: Schedule) -> Self {
        Self {
            at: now,
            interval: schedule.first_pause(now),
            sent: 0,
            latest: now,
        }
    }

    /// The same for INITIATE, so long after the first HELLO (NEG-15).
    pub(super) fn initiate(now: Instant, rtt: Option<Duration>, since_hello: Duration) -> Self {
        let [least, most] = UNMEASURED;
        let interval = match rtt {
            Some(rtt) => (rtt * 4).max(MIN_INITIATE_INTERVAL),
            None => since_hello.clamp(least, most) * 2,
        };
        Self {
            at: now,
            interval,
            sent: 0,
            latest: now,
        }
    }

    /// Counts a transmission and sets the next: after the same pause once, then doubled, 25 percent less or more
    /// (NEG-15).
    pub(super) fn arm(&mut self, now: Instant, schedule: Schedule, rng: &mut dyn Rng) {
        let factor = rng.random_range(0.75..1.25);
        self.at = now + self.interval.mul_f64(factor);
        let grow = if self.sent == 0 { 1 } else { 2 };
        // That of the pause after the one that begins now.
        let longest = schedule.longest_pause(now, self.sent + 1);
        self.interval = (self.interval * grow).min(longest);
        self.sent += 1;
        self.latest = now;
    }

    /// One of HELLO and HELLO_K was answered: the other is sent again soon, and then as often as INITIATE would be
    /// (NEG-33).
    pub(super) fn ask_for_the_rest(&mut self, now: Instant) {
        let rtt = now.since(self.latest);
        self.at = self.at.min(now + rtt.max(MIN_INITIATE_INTERVAL));
        self.interval = self.interval.min((rtt * 4).max(MIN_INITIATE_INTERVAL));
    }
}
