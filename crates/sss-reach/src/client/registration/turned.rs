//! The registration that goes from the relayed address of a TURN allocation (RCH-48, RCH-49).

use std::net::SocketAddr;
use std::time::Duration;

use sss_proto::{Host, Instant, Link, Route, TurnId};

use super::{Registration, State};
use crate::client::own::Own;
use crate::client::tunnel::Hearing;
use crate::client::turn::{Allocated, Cause, is_without_way};

/// Time for which a server that is not reached from a relayed address either is not tried from one again.
const PAUSE: Duration = Duration::from_secs(30);

/// Time for which LEASE waits where an allocation is lost, and the server has no way for this host: another one is
/// there soon, as a rule, and tokens are few.
const GRACE: Duration = Duration::from_secs(2);

/// Use that a registration makes of the allocation.
#[derive(Default)]
pub(super) struct Turned {
    /// The allocation that is there.
    allocated: Option<Allocated>,
    /// The reason why the lease is there, if it is.
    cause: Option<Cause>,
    /// The allocation by which REGISTER was tried.
    hinted: Option<TurnId>,
    /// It is not used before.
    not_before: Instant,
    /// The server's other port has said that the server relays nothing.
    relays_nothing: bool,
    /// The server had no way for this host where that is now: it is not asked again when an allocation is lost.
    is_cut_off: bool,
}

impl Registration {
    /// There is an allocation.
    pub(in crate::client) fn set_turn(&mut self, allocated: Option<Allocated>) {
        self.turned.allocated = allocated;
    }

    /// The server's other port has said whether the server relays.
    pub(super) fn note_relays(&mut self, relays_nothing: bool) {
        self.turned.relays_nothing = relays_nothing;
    }

    /// Returns whether the lease goes by an allocation.
    pub(in crate::client) fn is_turned(&self) -> bool {
        matches!(self.leased, Some((_, Link::Turn(..))))
    }

    /// Returns whether there is an allocation that it has not tried yet, and by which its server may be reached.
    pub(in crate::client) fn may_use(&self, allocated: Allocated) -> bool {
        !self.is_turned() && self.turned.hinted != Some(allocated.id) && self.turn_link().is_some()
    }

    /// Returns whether UDP from the host's own socket is to be tried, while the lease goes by an allocation.
    pub(super) fn may_hear_udp(&self) -> bool {
        self.turned.cause == Some(Cause::Silence)
    }

    /// Returns from when on an allocation is wanted. It is where it is used.
    pub(in crate::client) fn turn_wanted_at(&self, own: &Own) -> Option<Instant> {
        if self.is_turned() {
            return Some(Instant::default());
        }
        if self.turned.is_cut_off && self.leased.is_some() {
            return Some(self.turned.not_before);
        }
        let by_silence = match self.hearing() {
            hearing @ (Hearing::Asked(_) | Hearing::Missed(_)) => self.tunnel.misses_udp_at(hearing),
            Hearing::ByUdp if is_without_way(own, self.seen(), self.turned.relays_nothing) => Some(Instant::default()),
            Hearing::ByUdp | Hearing::ByTunnel | Hearing::Unasked => None,
        };
        by_silence.map(|at| at.max(self.turned.not_before))
    }

    /// The link to an address by which the server is spoken to: its packets leave from where it sees this host.
    pub(in crate::client) fn way_to(&self, address: SocketAddr) -> Link {
        let leased = self.leased.as_ref().map(|(_, at)| *at);
        leased.map_or(Link::Udp(address), |at| link_beside(at, address))
    }

    /// The server at the end of an allocation: at an address of the same family.
    pub(super) fn turn_link(&self) -> Option<Link> {
        let allocated = self.turned.allocated?;
        let mut addresses = self.server.addresses.iter();
        let address = addresses.find(|address| address.is_ipv4() == allocated.relayed.is_ipv4())?;
        Some(Link::Turn(allocated.id, *address))
    }

    /// The tunnel is not opened before.
    pub(in crate::client) fn hold_tunnel(&mut self, until: Instant) {
        self.tunnel.hold(until);
    }

    /// Goes by the allocation from now on.
    pub(in crate::client) fn use_turn(&mut self, now: Instant, host: &mut Host, (allocated, own): (Allocated, &Own)) {
        let Some(link) = self.turn_link() else {
            return;
        };
        let is_cut_off = self.turned.is_cut_off || is_without_way(own, self.seen(), self.turned.relays_nothing);
        if let Some((lease, before @ Link::Udp(_))) = &mut self.leased {
            let cause = match lease.silent_since() {
                Some(_) if !is_cut_off => Cause::Silence,
                _ => Cause::NoWay,
            };
            let before = std::mem::replace(before, link);
            lease.on_moved(now);
            self.turned.cause = Some(cause);
            self.turned.is_cut_off = cause == Cause::NoWay;
            if cause == Cause::Silence {
                self.tunnel.on_used(now);
            }
            // The handles there are of the lease's former address (RCH-17).
            host.network_changed(now, |route, _| route.link == before && route.handle.is_some());
            return;
        }
        self.turned.hinted = Some(allocated.id);
        match &self.state {
            State::Asking(_) => host.add_hints(now, &self.server.eid, &[Route::over(link)]),
            State::Pausing(_) => self.retry(now),
            State::Idle | State::Settled | State::Over => {}
        }
    }

    /// REGISTERED has come by an allocation.
    pub(super) fn on_registered_by_turn(&mut self, now: Instant) {
        self.turned.cause = Some(Cause::Silence);
        self.tunnel.on_used(now);
    }

    /// The allocation is lost: the server is spoken to by UDP, until there is another.
    pub(in crate::client) fn on_turn_lost(&mut self, now: Instant) {
        self.turned.allocated = None;
        self.turned.hinted = None;
        let pause = if self.turned.is_cut_off { GRACE } else { Duration::ZERO };
        self.leave_turn(now + pause);
    }

    /// This host has come into another network: its NAT may be another one.
    pub(super) fn forget_nat(&mut self) {
        self.turned.is_cut_off = false;
    }

    /// A lease that goes by an allocation goes by UDP again, from then on.
    pub(super) fn leave_turn(&mut self, now: Instant) {
        self.turned.cause = None;
        let Some((lease, at @ Link::Turn(..))) = &mut self.leased else {
            return;
        };
        match self.server.addresses.first() {
            Some(address) => {
                *at = Link::Udp(*address);
                lease.on_moved(now);
            }
            None => self.begin_anew(now),
        }
    }

    /// Leaves the allocation if the server is not heard by it either.
    pub(in crate::client) fn leave_dead_turn(&mut self, now: Instant, host: &mut Host) {
        let is_dead = match &self.leased {
            Some((lease, Link::Turn(..))) => lease.is_lost(now),
            _ => false,
        };
        if is_dead {
            let gone = self.leased.as_ref().map(|(_, at)| *at);
            self.turned.not_before = now + PAUSE;
            self.leave_turn(now);
            host.network_changed(now, |route, _| Some(route.link) == gone);
        }
    }
}

/// The link to an address by which a server is spoken to.
pub(in crate::client) fn link_beside(server: Link, address: SocketAddr) -> Link {
    match server {
        Link::Turn(allocation, _) => Link::Turn(allocation, address),
        Link::Udp(_) | Link::Socket(..) | Link::Tunnel(_) => Link::Udp(address),
    }
}
