//! Channels of several classes side by side: one carries the streams, and the others stand by (MIG-25 to MIG-28).

use std::time::Duration;

use super::channels::{ChannelSerial, Origin, TreeChannel, TreeChannels};
use crate::role::Role;
use crate::route::{Route, RouteClass};
use crate::time::Instant;

/// Times after which better routes are tried, once a channel of a lesser class carries the streams; then always after
/// the last.
const UPGRADES: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(25), Duration::from_secs(60)];

/// Age of a direct carrier at which a channel through a relay is made to stand by: a short conversation needs none.
const STANDBY_AFTER: Duration = Duration::from_secs(2);

/// Times from one attempt to make it to the next, where nothing comes of it; then always the last.
const RETRIES: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(60)];

/// A channel that was asked for a sign of life, since the carrier may not work any more.
#[derive(Debug, Default)]
pub(super) struct Standby {
    asked: Option<(ChannelSerial, Instant)>,
    /// It has answered: it takes over then, unless the carrier works again.
    takes_over_at: Option<Instant>,
}

/// The time when routes better than the carrier's are tried again (MIG-28).
#[derive(Debug, Default)]
pub(super) struct Upgrade {
    /// Attempts so far, and when the next is due. `None`: the carrier is of the best class.
    next: Option<(usize, Instant)>,
    /// The peer was heard by a direct route, and none was tried since.
    is_open: bool,
}

/// The way through a relay to a peer that is reached directly (MIG-29).
#[derive(Debug, Default)]
pub(super) struct Reserve {
    route: Option<Route>,
    tries: usize,
    /// No attempt begins before.
    at: Instant,
}

/// Wishes for channels of other classes than the carrier's.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub(super) upgrade: Upgrade,
    pub(super) reserve: Reserve,
}

/// A channel that may have to be renewed: how it came to be, and its class.
pub(super) type Renewable<'a> = (&'a Origin, RouteClass);

impl Upgrade {
    /// A channel of that class carries the streams, and works.
    pub(super) fn on_carried(&mut self, now: Instant, class: RouteClass) {
        if class == RouteClass::Direct {
            *self = Self::default();
        } else if self.next.is_none() {
            let pause = if self.is_open { Duration::ZERO } else { pause(0) };
            self.next = Some((0, now + pause));
        }
    }

    /// The peer was heard by a direct route.
    pub(super) fn on_open(&mut self) {
        self.is_open = true;
        self.hurry();
    }

    /// Routes were learned: they are tried at once.
    pub(super) fn hurry(&mut self) {
        if let Some((_, at)) = &mut self.next {
            *at = Instant::default();
        }
    }

    /// An attempt has begun.
    pub(super) fn on_attempt(&mut self, now: Instant) {
        self.is_open = false;
        if let Some((tries, at)) = &mut self.next {
            *tries += 1;
            *at = now + pause(*tries);
        }
    }

    /// Returns when the next attempt is due.
    pub(super) fn at(&self) -> Option<Instant> {
        self.next.map(|(_, at)| at)
    }
}

impl Reserve {
    pub(super) fn set(&mut self, route: Route) {
        self.route = Some(route);
    }

    pub(super) fn forget(&mut self, mut is_gone: impl FnMut(&Route) -> bool) {
        self.route.take_if(|route| is_gone(route));
    }

    pub(super) fn route(&self) -> Option<&Route> {
        self.route.as_ref()
    }

    /// Returns when a channel is to be made there, if a carrier that nothing stands by for is to have one: its
    /// initiator makes it.
    pub(super) fn at(&self, (carrier, class): Renewable<'_>) -> Option<Instant> {
        let is_wanted = self.route.is_some() && class == RouteClass::Direct && carrier.role == Role::Initiator;
        is_wanted.then(|| self.at.max(carrier.made + STANDBY_AFTER))
    }

    /// An attempt has begun.
    pub(super) fn on_attempt(&mut self, now: Instant) {
        self.at = now + after(RETRIES, self.tries);
        self.tries += 1;
    }
}

fn pause(tries: usize) -> Duration {
    after(UPGRADES, tries)
}

/// The time after so many tries: beyond the list, the last of it.
fn after<const N: usize>(times: [Duration; N], tries: usize) -> Duration {
    times.get(tries).or(times.last()).copied().unwrap_or_default()
}

impl TreeChannels {
    /// Returns whether there may be channels of several classes.
    pub(super) fn is_mixed(&self) -> bool {
        if self.len() < 2 {
            return false;
        }
        let mut classes = self.open().map(TreeChannel::class);
        let first = classes.next();
        classes.any(|class| Some(class) != first)
    }

    /// MIG-26: the channel that is to carry the streams in place of the carrier, if there is one. One of a better class
    /// is as soon as it works again. If the carrier does not answer, the best of the others is asked; it takes over if
    /// it answers, and the carrier has not by then.
    pub(super) fn better(&mut self, now: Instant) -> Option<ChannelSerial> {
        self.standby.takes_over_at = None;
        if self.len() < 2 {
            return None;
        }
        let carrier = self.carrier().filter(|c| c.is_open())?;
        let class = carrier.class();
        let others = self.open().rev().filter(|c| c.class() != class && c.can_carry());
        let best = others.min_by_key(|c| (c.channel.is_stalled(), c.class()))?;
        if best.class() < class && best.channel.flight().probe_count() == 0 {
            return Some(best.serial());
        }
        if carrier.channel.flight().probe_count() == 0 {
            self.standby.asked = None;
            return None;
        }
        let serial = best.serial();
        match self.standby.asked {
            Some((asked, at)) if asked == serial => {
                let until = at + carrier.channel.flight().rtt();
                let has_answered = best.channel.was_heard_since(at);
                self.standby.takes_over_at = Some(until).filter(|until| has_answered && now < *until);
                (has_answered && until <= now).then_some(serial)
            }
            _ => {
                self.standby.asked = Some((serial, now));
                if let Some(standby) = self.get_mut(serial) {
                    standby.channel.ask();
                }
                None
            }
        }
    }

    /// Returns when a channel that was asked takes over.
    pub(super) fn next_takeover(&self) -> Option<Instant> {
        self.standby.takes_over_at
    }

    /// Tells the channels whether streams of the peer are used: those that stay ask for signs of life then (CHN-3,
    /// MIG-27).
    pub(super) fn set_keepalive(&mut self, is_used: bool) {
        let carrier = self.carrier_serial();
        for channel in self.iter_mut() {
            let is_carrier = Some(channel.serial()) == carrier;
            let stands_by = !is_carrier && channel.can_carry();
            channel
                .channel
                .set_keepalive(is_used && (is_carrier || stands_by), stands_by);
        }
    }

    /// The oldest channel that stands by for a carrier of another class: it is renewed by itself (MIG-27).
    pub(super) fn standing_by(&self) -> Option<Renewable<'_>> {
        if self.len() < 2 {
            return None;
        }
        let class = self.carrier()?.class();
        let mut others = self.open().filter(|c| c.class() != class && c.can_carry());
        others.find(|c| !c.channel.is_stalled()).map(|c| (&c.origin, c.class()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: MIG-28
    #[test]
    fn better_routes_are_tried_after_5_and_30_seconds_then_each_minute_and_at_once_when_new() {
        let at = |s: u64| Instant::from_nanos(s * 1_000_000_000);
        let mut upgrade = Upgrade::default();
        upgrade.on_carried(at(0), RouteClass::Direct);
        assert_eq!(upgrade.at(), None);
        upgrade.on_carried(at(100), RouteClass::Relay);
        let mut times = Vec::new();
        for _ in 0..4 {
            let now = upgrade.at().unwrap();
            times.push(now);
            upgrade.on_carried(now, RouteClass::Relay);
            upgrade.on_attempt(now);
        }
        assert_eq!(times, [105, 130, 190, 250].map(at));
        upgrade.hurry();
        assert_eq!(upgrade.at(), Some(Instant::default()));
        upgrade.on_carried(at(300), RouteClass::Direct);
        assert_eq!(upgrade.at(), None);
    }

    // spec: MIG-29
    #[test]
    fn the_initiator_of_a_direct_carrier_makes_a_channel_through_a_relay_and_nobody_else() {
        let at = |s: u64| Instant::from_nanos(s * 1_000_000_000);
        let origin = |role| Origin {
            role,
            made: at(100),
            continues: false,
        };
        let (ours, theirs) = (origin(Role::Initiator), origin(Role::Responder));
        let mut reserve = Reserve::default();
        assert_eq!(reserve.at((&ours, RouteClass::Direct)), None, "there is no relay");
        let link = crate::route::Link::Udp(([192, 0, 2, 9], 443).into());
        reserve.set(Route::through(link, crate::route::RelayHandle(7)));
        assert_eq!(reserve.at((&ours, RouteClass::Direct)), Some(at(102)));
        assert_eq!(reserve.at((&theirs, RouteClass::Direct)), None);
        assert_eq!(
            reserve.at((&ours, RouteClass::Relay)),
            None,
            "it is such a channel itself"
        );
        let mut pauses = Vec::new();
        for _ in 0..3 {
            let now = reserve.at((&ours, RouteClass::Direct)).unwrap();
            pauses.push(now);
            reserve.on_attempt(now);
        }
        assert_eq!(pauses, [102, 132, 192].map(at));
        reserve.forget(|_| false);
        assert!(reserve.at((&ours, RouteClass::Direct)).is_some());
        reserve.forget(|_| true);
        assert_eq!(reserve.at((&ours, RouteClass::Direct)), None);
    }
}
