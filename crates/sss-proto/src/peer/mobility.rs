//! Decision when a tree needs another channel, and status of the way to the peer (docs/spec/migration.md).

use std::time::Duration;

use sss_wire::constants::STALL_GRACE;

use super::purpose::Purpose;
use super::standby::{Beside, Renewable};
use super::tree::SharedTree;
use crate::error::CloseReason;
use crate::io::LinkStatus;
use crate::pace::Pace;
use crate::rare::Rare;
use crate::role::Role;
use crate::route::{Route, RouteClass};
use crate::time::{Instant, Span};

/// Addresses kept of a peer.
const MAX_HINTS: usize = 8;
/// Pause between a failed attempt and the next one, when the carrier works.
const RETRY: Duration = Duration::from_secs(10);
/// A failed renewal is tried again after this part of the interval, or after [`RETRY`].
const RENEWAL_RETRY: u32 = 4;

/// A tree without streams is kept no longer without a channel: one of the peer's may be under way (MIG-14).
const EMPTY_LINGER: Duration = Duration::from_secs(60);

/// A carrier through a relay is given this part of [`STALL_GRACE`] (MIG-11).
const RELAYED_GRACE: u32 = 4;

/// The status of a way that nothing is wrong with.
static UP: LinkStatus = LinkStatus::Up;

/// Wishes of the host (MIG-10, MIG-14). Zero: never renewed; not kept without a channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    pub(super) renew: Span,
    pub(super) linger: Span,
}

/// Knowledge about the way to the peer.
pub(crate) struct Mobility {
    policy: Policy,
    /// Addresses at which the peer may be, the latest first.
    hints: Vec<Route>,
    /// `None`: up.
    status: Rare<LinkStatus>,
    /// The tree has ended: the status is the last.
    is_over: bool,
    /// Times that it was up, and then was not.
    outages: u64,
    /// The time when the carrier stopped working.
    trouble: Option<Instant>,
    /// This host has moved, and no new channel was made since.
    has_moved: bool,
    /// It has channels from where it was.
    is_to_leave: bool,
    /// No attempt begins before.
    retry_at: Instant,
    /// An address was learned since the trouble began, and not tried yet.
    is_hinted: bool,
    /// Pace at which a silent peer is tried again.
    pace: Pace,
    /// Channels of other classes that are wanted.
    pub(super) beside: Beside,
}

impl Mobility {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            hints: Vec::new(),
            status: Rare::new(),
            is_over: false,
            outages: 0,
            trouble: None,
            has_moved: false,
            is_to_leave: false,
            retry_at: Instant::default(),
            is_hinted: false,
            pace: Pace::Eager,
            beside: Beside::default(),
        }
    }

    /// The tree begins, with this host in that role.
    pub(super) fn on_tree_begun(&mut self, role: Role) {
        self.pace = match role {
            Role::Initiator => Pace::Eager,
            Role::Responder => Pace::Patient,
        };
    }

    /// The pace of an attempt.
    pub(super) fn pace(&self, purpose: Purpose) -> Pace {
        match purpose {
            Purpose::Trouble => self.pace,
            Purpose::First | Purpose::Move | Purpose::Renewal(_) | Purpose::Upgrade(_) | Purpose::Standby(_) => {
                Pace::Eager
            }
        }
    }

    /// The time for which the carrier is stalled before another channel is attempted (MIG-11). Through a relay, and
    /// with the help of its server, a peer is found that may not know yet that it is to come back. A relay that is gone
    /// does not come back as the path between two hosts does, and is not waited for where another one is known.
    fn grace(&self, channels: [Option<Renewable<'_>>; 2]) -> Duration {
        if let Some((_, route)) = channels[0].filter(|(_, route)| route.class() == RouteClass::Relay) {
            return match self.beside.reserve.is_beside(route) {
                true => Duration::ZERO,
                false => STALL_GRACE / RELAYED_GRACE,
            };
        }
        let known = self.hints.iter().chain(self.beside.reserve.routes());
        let used = channels.into_iter().flatten().map(|(_, route)| route.class());
        match used
            .chain(known.map(Route::class))
            .any(|class| class == RouteClass::Relay)
        {
            true => Pace::Eager.grace(),
            false => self.pace.grace(),
        }
    }

    /// The routes remembered, the latest first.
    pub(crate) fn hints(&self) -> &[Route] {
        &self.hints
    }

    /// The state of the way to the peer.
    pub(crate) fn status(&self) -> &LinkStatus {
        self.status.get().unwrap_or(&UP)
    }

    pub(super) fn outages(&self) -> u64 {
        self.outages
    }

    /// Returns when the carrier stopped working, if it does not work.
    pub(super) fn trouble_since(&self) -> Option<Instant> {
        self.trouble
    }

    /// Returns whether streams wait for a channel, rather than ending, when there is none (MIG-14).
    pub(super) fn lingers(&self) -> bool {
        !self.policy.linger.get().is_zero()
    }

    /// Remembers routes; returns whether there was a new one.
    pub(super) fn add_hints(&mut self, hints: &[Route]) -> bool {
        let mut is_new = false;
        for hint in hints {
            if !self.hints.contains(hint) {
                self.hints.insert(0, *hint);
                is_new = true;
            }
        }
        self.hints.truncate(MAX_HINTS);
        is_new
    }

    pub(super) fn forget_hints(&mut self, mut is_gone: impl FnMut(&Route) -> bool) {
        self.hints.retain(|hint| !is_gone(hint));
        self.beside.reserve.forget(&mut is_gone);
    }

    /// Returns how the peer may be reached for a purpose: by the routes of its open channels, and those that were said
    /// to lead there.
    pub(super) fn routes(&self, purpose: Purpose, mut routes: Vec<Route>) -> Vec<Route> {
        // What reaches a peer first goes there with the introduction (RCH-16).
        let reserve = match purpose {
            Purpose::First => &[],
            _ => self.beside.reserve.routes(),
        };
        for route in self.hints.iter().chain(reserve) {
            if !routes.contains(route) {
                routes.push(*route);
            }
        }
        routes.retain(|route| purpose.is_served_by(route));
        routes
    }

    pub(super) fn retry_now(&mut self) {
        self.retry_at = Instant::default();
    }

    /// The application knows another address: in trouble, it is tried at once.
    pub(super) fn on_hint(&mut self) {
        self.is_hinted = self.trouble.is_some();
        self.beside.upgrade.hurry();
        self.retry_now();
    }

    /// The peer hears this host by a direct route: that is tried as soon as a lesser one carries the streams.
    pub(super) fn on_open(&mut self) {
        self.beside.upgrade.on_open();
    }

    /// The address of this host on the way to the peer is another one (MIG-13).
    pub(super) fn on_moved(&mut self) {
        self.has_moved = true;
        self.is_to_leave = self.lingers();
    }

    /// Returns whether the channels there are lead from where this host is no more. Where streams do not wait for
    /// another one, they are kept.
    pub(super) fn is_to_leave(&self) -> bool {
        self.is_to_leave
    }

    /// The channels there are can go on being used.
    #[cfg(test)]
    pub(super) fn stay(&mut self) {
        self.is_to_leave = false;
    }

    /// The channels there were are not used any more; the peer was at the end of these routes, the likeliest first.
    pub(super) fn on_left(&mut self, now: Instant, last: &[Route]) {
        self.is_to_leave = false;
        self.trouble.get_or_insert(now);
        // The hint added last is the first one. A relay is in reserve, unless its handle is left behind (RCH-19).
        let direct = last.iter().filter(|route| route.handle.is_none());
        direct.rev().for_each(|route| {
            self.add_hints(&[*route]);
        });
    }

    /// There is no channel. Returns the status if it has changed: after a move it takes a moment to make one, which is
    /// no trouble yet.
    pub(super) fn review_move(&mut self, now: Instant) -> Option<LinkStatus> {
        let is_long = self.trouble.is_some_and(|since| since + STALL_GRACE <= now);
        if self.has_moved && is_long && *self.status() == UP {
            return self.set_status(LinkStatus::Stalled);
        }
        None
    }

    /// A new channel is to carry the streams.
    pub(super) fn on_channel_made(&mut self) {
        self.has_moved = false;
        self.is_to_leave = false;
    }

    /// The carrier works. Returns the status if it has changed.
    pub(super) fn on_working(&mut self, now: Instant, class: RouteClass) -> Option<LinkStatus> {
        self.trouble = None;
        self.beside.upgrade.on_carried(now, class);
        self.set_status(LinkStatus::Up)
    }

    /// The carrier does not answer. Returns the status if it has changed.
    pub(super) fn on_stalled(&mut self, now: Instant) -> Option<LinkStatus> {
        self.trouble.get_or_insert(now);
        self.set_status(LinkStatus::Stalled)
    }

    /// There is no channel any more. Returns the status if it has changed.
    pub(super) fn on_detached(&mut self, now: Instant, reason: CloseReason) -> Option<LinkStatus> {
        self.trouble.get_or_insert(now);
        self.retry_now();
        self.set_status(LinkStatus::Down(reason))
    }

    /// The tree has ended.
    pub(super) fn on_end(&mut self, reason: CloseReason) {
        self.status = Rare::of(LinkStatus::Down(reason));
        self.is_over = true;
    }

    fn set_status(&mut self, status: LinkStatus) -> Option<LinkStatus> {
        if *self.status() == status || self.is_over {
            return None;
        }
        self.outages += u64::from(*self.status() == UP);
        self.status = match status {
            LinkStatus::Up => Rare::new(),
            ref status => Rare::of(status.clone()),
        };
        Some(status)
    }

    /// Returns when and why the next attempt begins, if none is under way. `carrier` is the open channel that carries
    /// the streams, if one does; `standby` one of another class that does not.
    pub(super) fn next_attempt(
        &self,
        tree: &SharedTree,
        (carrier, standby): (Option<Renewable<'_>>, Option<Renewable<'_>>),
        has_streams: bool,
    ) -> Option<(Instant, Purpose)> {
        let first = tree.more_from()?.max(self.retry_at);
        if self.has_moved {
            return Some((first, Purpose::Move));
        }
        let Some(carrier) = carrier else {
            return has_streams.then_some((first, Purpose::Trouble));
        };
        if let Some(since) = self.trouble {
            // A hint that came since is tried at once.
            let grace = if self.is_hinted {
                Duration::ZERO
            } else {
                self.grace([Some(carrier), standby])
            };
            return Some((first.max(since + grace), Purpose::Trouble));
        }
        if !has_streams {
            return None;
        }
        let renewal = self.renewal(first, carrier);
        let upgrade = self
            .beside
            .upgrade
            .at()
            .map(|at| (first.max(at), Purpose::Upgrade(carrier.1.class())));
        let standby = match standby {
            // One of its class is replaced with it (MIG-31).
            Some((_, route)) if route.class() == carrier.1.class() => None,
            Some(standby) => self.renewal(first, standby),
            None => self
                .beside
                .reserve
                .at(carrier)
                .map(|(at, besides)| (first.max(at), Purpose::Standby(besides))),
        };
        match (upgrade, standby) {
            (None, None) => renewal,
            others => [renewal, others.0, others.1]
                .into_iter()
                .flatten()
                .min_by_key(|(at, _)| *at),
        }
    }

    /// Returns when a channel is renewed (MIG-10).
    fn renewal(&self, first: Instant, (origin, route): Renewable<'_>) -> Option<(Instant, Purpose)> {
        let renew = self.policy.renew.get();
        let age = match origin.role {
            Role::Initiator => renew,
            Role::Responder => renew.saturating_add(renew / 4),
        };
        (!renew.is_zero()).then(|| (first.max(origin.made + age), Purpose::Renewal(route.class())))
    }

    /// An attempt has begun, or was to begin and no address is known: the next one is later.
    pub(super) fn on_attempt(&mut self, now: Instant, purpose: Purpose) {
        self.is_hinted = false;
        match purpose {
            Purpose::Upgrade(_) => self.beside.upgrade.on_attempt(now),
            Purpose::Standby(_) => self.beside.reserve.on_attempt(now),
            Purpose::First | Purpose::Trouble | Purpose::Move | Purpose::Renewal(_) => {}
        }
        let pause = match purpose {
            Purpose::Renewal(_) => RETRY.min(self.policy.renew.get() / RENEWAL_RETRY),
            Purpose::Move => Duration::from_secs(1),
            Purpose::First | Purpose::Trouble | Purpose::Upgrade(_) | Purpose::Standby(_) => Duration::from_millis(250),
        };
        self.retry_at = now + pause;
    }

    /// Returns whether the peer comes back by itself, and need not be looked for.
    pub(super) fn is_waited_for(&self, purpose: Purpose) -> bool {
        purpose == Purpose::Trouble && self.pace == Pace::Patient && !self.is_hinted
    }

    /// Returns whether the peer comes back by itself where this host does not find it.
    pub(super) fn waits_for_peer(&self) -> bool {
        self.pace == Pace::Patient
    }

    /// No attempt begins for a while.
    pub(super) fn put_off(&mut self, now: Instant) {
        self.retry_at = now + RETRY;
    }

    /// Returns when a tree without an open channel is given up.
    pub(super) fn linger_end(&self, has_streams: bool) -> Option<Instant> {
        let linger = self.policy.linger.get();
        let linger = if has_streams { linger } else { linger.min(EMPTY_LINGER) };
        Some(self.trouble? + linger)
    }

    /// Returns why a tree that lingered to the end is given up.
    pub(super) fn reason_of_silence(&self, now: Instant) -> CloseReason {
        match self.status() {
            LinkStatus::Down(reason @ CloseReason::PeerRestarted) => reason.clone(),
            _ => CloseReason::Idle(self.trouble.map_or(Duration::ZERO, |since| now.since(since))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::channels::Origin;
    use super::*;
    use crate::route::{Link, RelayHandle};

    // spec: MIG-11, MIG-31
    #[test]
    fn who_knows_a_relay_does_not_wait_for_the_peer_to_come_back() {
        let origin = Origin {
            role: Role::Responder,
            made: Instant::default(),
            continues: false,
            stands_by: false,
        };
        let relay = Route::through(Link::Udp(([192, 0, 2, 9], 443).into()), RelayHandle(7));
        let other = Route::through(Link::Udp(([192, 0, 2, 10], 443).into()), RelayHandle(7));
        let by_address = Route::udp(([192, 0, 2, 1], 443).into());
        let [direct, relayed] = [&by_address, &relay].map(|route| Some((&origin, route)));
        let mobility = |routes: &[Route], reserve: Option<Route>| {
            let mut mobility = Mobility::new(Policy {
                renew: Duration::ZERO.into(),
                linger: Duration::ZERO.into(),
            });
            mobility.on_tree_begun(Role::Responder);
            mobility.add_hints(routes);
            reserve.into_iter().for_each(|route| mobility.beside.reserve.set(route));
            mobility
        };
        let alone = mobility(&[by_address], None);
        assert_eq!(alone.grace([direct, None]), STALL_GRACE * 5);
        assert_eq!(alone.grace([relayed, None]), STALL_GRACE / 4);
        assert_eq!(alone.grace([direct, relayed]), STALL_GRACE);
        assert_eq!(mobility(&[relay], None).grace([direct, None]), STALL_GRACE);
        assert_eq!(mobility(&[], Some(relay)).grace([direct, None]), STALL_GRACE);
        let grace = |reserve| mobility(&[], Some(reserve)).grace([relayed, None]);
        assert_eq!((grace(relay), grace(other)), (STALL_GRACE / 4, Duration::ZERO));
    }

    // spec: RCH-16, MIG-29
    #[test]
    fn a_relay_in_reserve_is_no_way_for_a_first_attempt_or_to_something_better() {
        let direct = Route::udp(([192, 0, 2, 1], 443).into());
        let relay = Route::through(Link::Udp(([192, 0, 2, 9], 443).into()), RelayHandle(7));
        let mut mobility = Mobility::new(Policy {
            renew: Duration::ZERO.into(),
            linger: Duration::ZERO.into(),
        });
        mobility.add_hints(&[direct]);
        mobility.beside.reserve.set(relay);
        for (purpose, expected) in [
            (Purpose::First, &[direct][..]),
            (Purpose::Trouble, &[direct, relay]),
            (Purpose::Move, &[direct, relay]),
            (Purpose::Renewal(RouteClass::Direct), &[direct]),
            (Purpose::Upgrade(RouteClass::Relay), &[direct]),
            (Purpose::Standby(None), &[relay]),
            (Purpose::Standby(Some(relay.link)), &[]),
        ] {
            assert_eq!(mobility.routes(purpose, Vec::new()), expected, "{purpose:?}");
        }
    }
}
