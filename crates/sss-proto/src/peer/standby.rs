//! Channels of several classes side by side: one carries the streams, and the others stand by (MIG-25 to MIG-28).

use std::time::Duration;

use super::channels::{ChannelSerial, Origin, TreeChannel, TreeChannels};
use crate::route::RouteClass;
use crate::time::Instant;

/// Times after which better routes are tried, once a channel of a lesser class carries the streams; then always after
/// the last.
const UPGRADES: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(25), Duration::from_secs(60)];

/// A channel that was asked for a sign of life, since the carrier may not work any more.
#[derive(Debug, Default)]
pub(super) struct Standby {
    asked: Option<(ChannelSerial, Instant)>,
}

/// The time when routes better than the carrier's are tried again (MIG-28).
#[derive(Debug, Default)]
pub(super) struct Upgrade {
    /// Attempts so far, and when the next is due. `None`: the carrier is of the best class.
    next: Option<(usize, Instant)>,
}

/// A channel that may have to be renewed: how it came to be, and its class.
pub(super) type Renewable<'a> = (&'a Origin, RouteClass);

impl Upgrade {
    /// A channel of that class carries the streams, and works.
    pub(super) fn on_carried(&mut self, now: Instant, class: RouteClass) {
        if class == RouteClass::Direct {
            self.next = None;
        } else if self.next.is_none() {
            self.next = Some((0, now + pause(0)));
        }
    }

    /// Routes were learned: they are tried at once.
    pub(super) fn hurry(&mut self) {
        if let Some((_, at)) = &mut self.next {
            *at = Instant::default();
        }
    }

    /// An attempt has begun.
    pub(super) fn on_attempt(&mut self, now: Instant) {
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

fn pause(tries: usize) -> Duration {
    let [.., last] = UPGRADES;
    UPGRADES.get(tries).copied().unwrap_or(last)
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
                let has_waited = now.since(at) >= carrier.channel.flight().rtt();
                (has_waited && best.channel.was_heard_since(at)).then_some(serial)
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
}
