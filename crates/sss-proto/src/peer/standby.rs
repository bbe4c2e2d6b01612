//! Channels side by side, of several classes, or through two relays: one carries the streams, and the others stand by
//! (MIG-25 to MIG-29, MIG-31).

use std::time::Duration;

use super::channels::{ChannelSerial, Origin, TreeChannels};
use crate::channel::overdue_at;
use crate::role::Role;
use crate::route::{Link, Route, RouteClass};
use crate::time::Instant;

/// Times after which better routes are tried, once a channel of a lesser class carries the streams; then always after
/// the last.
const UPGRADES: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(25), Duration::from_secs(60)];

/// Relays that are kept in reserve: one that the carrier may lead through, and another.
const RELAYS: usize = 2;

/// Age of a carrier at which a channel through a relay is made to stand by: a short conversation needs none.
const STANDBY_AFTER: Duration = Duration::from_secs(2);

/// Times from one attempt to make it to the next, where nothing comes of it; then always the last.
const RETRIES: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(60)];

/// A channel that was asked for a sign of life, since the carrier may not work any more.
#[derive(Debug, Default)]
pub(super) struct Standby {
    asked: Option<(ChannelSerial, Instant)>,
    /// It has answered, and takes over then, unless the carrier works again; or none is asked before.
    next: Option<Instant>,
}

/// The time when routes better than the carrier's are tried again (MIG-28).
#[derive(Debug, Default)]
pub(super) struct Upgrade {
    /// Attempts so far, and when the next is due. `None`: the carrier is of the best class.
    next: Option<(usize, Instant)>,
    /// The peer was heard by a direct route, and none was tried since.
    is_open: bool,
}

/// The ways through relays to a peer that is reached directly, or through another relay (MIG-29, MIG-31).
#[derive(Debug, Default)]
pub(super) struct Reserve {
    /// Each through a relay of its own: the latest last, at most [`RELAYS`].
    routes: Vec<Route>,
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

/// A channel that may have to be renewed: how it came to be, and its route.
pub(super) type Renewable<'a> = (&'a Origin, &'a Route);

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
        self.routes.retain(|known| known.is_by_other_relay(&route));
        if self.routes.len() >= RELAYS {
            self.routes.remove(0);
        }
        self.routes.push(route);
    }

    pub(super) fn forget(&mut self, mut is_gone: impl FnMut(&Route) -> bool) {
        self.routes.retain(|route| !is_gone(route));
    }

    /// The routes, the latest last.
    pub(super) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Returns whether one leads through another relay than a carrier that leads through one.
    pub(super) fn is_beside(&self, carrier: &Route) -> bool {
        self.routes.iter().any(|route| route.is_by_other_relay(carrier))
    }

    /// Returns when a channel is to be made there, if a carrier that nothing stands by for is to have one, and the link
    /// that it is not to go by, since the carrier does. The carrier's initiator makes it.
    pub(super) fn at(&self, (carrier, route): Renewable<'_>) -> Option<(Instant, Option<Link>)> {
        if self.routes.is_empty() {
            return None;
        }
        let (is_known, besides) = match route.class() {
            RouteClass::Direct => (true, None),
            RouteClass::Relay => (self.is_beside(route), Some(route.link)),
            RouteClass::Turn | RouteClass::Tunnel => (false, None),
        };
        let is_wanted = is_known && carrier.role == Role::Initiator;
        is_wanted.then(|| (self.at.max(carrier.made + STANDBY_AFTER), besides))
    }

    /// An attempt has begun.
    pub(super) fn on_attempt(&mut self, now: Instant) {
        self.at = now + after(RETRIES, self.tries);
        self.tries += 1;
    }

    /// A channel stands by.
    pub(super) fn on_made(&mut self) {
        self.tries = 0;
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
    /// Returns whether there may be channels that lead several ways.
    pub(super) fn is_mixed(&self) -> bool {
        if self.len() < 2 {
            return false;
        }
        let mut open = self.open();
        let first = open.next();
        open.any(|channel| first.is_some_and(|first| first.is_beside(channel)))
    }

    /// MIG-26: the channel that is to carry the streams in place of the carrier, if there is one. One of a better class
    /// is as soon as it works again. If the carrier is overdue, the best of the others is asked; it takes over if it
    /// answers, and the carrier has not by its first probe timeout, and for a round trip.
    pub(super) fn better(&mut self, now: Instant) -> Option<ChannelSerial> {
        self.standby.next = None;
        if self.len() < 2 {
            return None;
        }
        let carrier = self.carrier().filter(|c| c.is_open())?;
        let others = self.open().rev().filter(|c| c.is_beside(carrier) && c.can_carry());
        let best = others.min_by_key(|c| (c.channel.is_stalled(), c.class()))?;
        if best.class() < carrier.class() && best.channel.flight().probe_count() == 0 {
            return Some(best.serial());
        }
        let is_silent = carrier.channel.flight().probe_count() > 0;
        let overdue = overdue_at(&carrier.channel).filter(|_| !is_silent);
        if !is_silent && overdue.is_none_or(|at| now < at) {
            self.standby.asked = None;
            self.standby.next = overdue;
            return None;
        }
        let serial = best.serial();
        // A relay by which something comes is there: the loss of an acknowledgement is no reason to leave it.
        let is_there = |at| best.class() == carrier.class() && carrier.channel.was_heard_since(at);
        let probe_timeout = carrier.channel.probe_timeout();
        match self.standby.asked {
            Some((asked, at)) if asked == serial && !(is_there(at) && at + probe_timeout <= now) => {
                // The answer to a probe that came alone is held back for a while.
                let until = match carrier.channel.flight().is_flow() {
                    true => at + carrier.channel.flight().rtt(),
                    false => at + probe_timeout,
                };
                let has_answered = best.channel.was_heard_since(at) && is_silent && !is_there(at);
                self.standby.next = Some(until).filter(|until| has_answered && now < *until);
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

    /// Returns when a channel is to be asked, or one that was asked takes over.
    pub(super) fn next_takeover(&self) -> Option<Instant> {
        self.standby.next
    }

    /// Tells the channels whether streams of the peer are used: those that stay ask for signs of life then (CHN-3,
    /// MIG-27).
    pub(super) fn set_keepalive(&mut self, is_used: bool) {
        let carrier = self.carrier_serial();
        // Of one class, which may lead through two relays, the newest is enough.
        let mut kept = None;
        for channel in self.iter_mut().rev() {
            let is_carrier = Some(channel.serial()) == carrier;
            let class = Some(channel.class());
            let stands_by = !is_carrier && channel.can_carry() && kept != class;
            kept = if stands_by { class } else { kept };
            channel
                .channel
                .set_keepalive(is_used && (is_carrier || stands_by), stands_by);
        }
    }

    /// The oldest channel that stands by for a carrier that leads another way. One of another class is renewed by
    /// itself (MIG-27).
    pub(super) fn standing_by(&self) -> Option<Renewable<'_>> {
        if self.len() < 2 {
            return None;
        }
        let carrier = self.carrier()?;
        let mut others = self.open().filter(|c| c.is_beside(carrier) && c.can_carry());
        let works = others.find(|c| !c.channel.is_stalled());
        works.map(|c| (&c.origin, &c.channel.path().route))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{RelayHandle, TunnelId};

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

    // spec: MIG-29, MIG-31
    #[test]
    fn the_initiator_of_a_direct_carrier_makes_a_channel_through_a_relay_and_nobody_else() {
        let at = |s: u64| Instant::from_nanos(s * 1_000_000_000);
        let origin = |role| Origin {
            role,
            made: at(100),
            continues: false,
            stands_by: false,
        };
        let (ours, theirs) = (origin(Role::Initiator), origin(Role::Responder));
        let link = |n: u8| Link::Udp(([192, 0, 2, n], 443).into());
        let direct = Route::over(link(1));
        let [one, other] = [9, 10].map(|n| Route::through(link(n), RelayHandle(7)));
        let tunnel = Route::through(Link::Tunnel(TunnelId(1)), RelayHandle(7));
        let mut reserve = Reserve::default();
        assert_eq!(reserve.at((&ours, &direct)), None, "there is no relay");
        reserve.set(one);
        assert_eq!(reserve.at((&ours, &direct)), Some((at(102), None)));
        assert_eq!(reserve.at((&theirs, &direct)), None);
        assert_eq!(reserve.at((&ours, &one)), None, "it leads there itself");
        assert_eq!(reserve.at((&ours, &other)), Some((at(102), Some(other.link))));
        assert_eq!(reserve.at((&theirs, &other)), None);
        assert_eq!(reserve.at((&ours, &tunnel)), None, "a better way is tried as such");
        let mut pauses = Vec::new();
        for _ in 0..3 {
            let (now, _) = reserve.at((&ours, &direct)).unwrap();
            pauses.push(now);
            reserve.on_attempt(now);
        }
        assert_eq!(pauses, [102, 132, 192].map(at));
        reserve.on_made();
        reserve.on_attempt(at(300));
        assert_eq!(
            reserve.at((&ours, &direct)),
            Some((at(330), None)),
            "the pauses begin anew"
        );
        reserve.forget(|_| false);
        assert!(reserve.at((&ours, &direct)).is_some());
        reserve.forget(|_| true);
        assert_eq!(reserve.at((&ours, &direct)), None);
    }

    // spec: MIG-31
    #[test]
    fn two_relays_are_kept_in_reserve_each_with_its_latest_handle() {
        let route = |n: u8, handle| Route::through(Link::Udp(([192, 0, 2, n], 443).into()), RelayHandle(handle));
        let mut reserve = Reserve::default();
        for (n, handle) in [(9, 1), (10, 2), (9, 3)] {
            reserve.set(route(n, handle));
        }
        assert_eq!(reserve.routes(), [route(10, 2), route(9, 3)]);
        reserve.set(route(11, 4));
        assert_eq!(reserve.routes(), [route(9, 3), route(11, 4)]);
    }
}
