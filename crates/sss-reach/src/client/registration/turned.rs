//! The registration that goes from the relayed address of a TURN allocation (RCH-48, RCH-49).

use std::net::SocketAddr;
use std::time::Duration;

use sss_proto::{Host, Instant, Link, Route, TurnId};

use super::{Registration, State};
use crate::client::own::Own;
use crate::client::tunnel::Hearing;
use crate::client::turn::{Allocated, Cause, is_without_way};

/// Time for which a server that is not reached from a relayed address either is not tried from one again: the first
/// one, and the longest. It doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Time that REGISTER has by an allocation before it counts as not answered there.
const PATIENCE: Duration = Duration::from_secs(2);

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
    /// The allocation by which REGISTER was tried, and since when.
    hinted: Option<(TurnId, Instant)>,
    /// It is not used before.
    not_before: Instant,
    /// The latest pause, while the server was not heard by an allocation.
    pause: Duration,
    /// The latest allocation by which the server was heard.
    heard_by: Option<TurnId>,
    /// The one by which it was asked, and never heard.
    mute: Option<TurnId>,
    /// The server's other port has said that the server relays nothing.
    relays_nothing: bool,
    /// The server had no way for this host where that is now: it is not asked again when an allocation is lost.
    is_cut_off: bool,
}

/// There is an allocation.
pub(in crate::client) fn set_turn(tried: &mut Registration, allocated: Option<Allocated>) {
    tried.turned.allocated = allocated;
}

/// The server's other port has said whether the server relays.
pub(in crate::client) fn note_relays(tried: &mut Registration, relays_nothing: bool) {
    tried.turned.relays_nothing = relays_nothing;
}

/// Returns whether the lease goes by an allocation.
pub(in crate::client) fn is_turned(tried: &Registration) -> bool {
    matches!(tried.leased, Some((_, Link::Turn(..))))
}

/// Returns whether there is an allocation that it has not tried yet, and by which its server may be reached.
pub(in crate::client) fn may_use(tried: &Registration, allocated: Allocated) -> bool {
    let is_hinted = tried.turned.hinted.is_some_and(|(id, _)| id == allocated.id);
    !is_turned(tried) && !is_hinted && turn_link(tried).is_some()
}

/// Returns whether UDP from the host's own socket is to be tried, while the lease goes by an allocation.
pub(in crate::client) fn may_hear_udp(tried: &Registration) -> bool {
    tried.turned.cause == Some(Cause::Silence)
}

/// Returns from when on an allocation is wanted. It is where it is used.
pub(in crate::client) fn turn_wanted_at(tried: &Registration, own: &Own) -> Option<Instant> {
    if is_turned(tried) {
        return Some(Instant::default());
    }
    if tried.turned.is_cut_off && tried.leased.is_some() {
        return Some(tried.turned.not_before);
    }
    let by_silence = match tried.hearing() {
        hearing @ (Hearing::Asked(_) | Hearing::Missed(_)) => tried.tunnel.misses_udp_at(hearing),
        Hearing::ByUdp if is_without_way(own, tried.seen(), tried.turned.relays_nothing) => Some(Instant::default()),
        Hearing::ByUdp | Hearing::ByTunnel | Hearing::Unasked => None,
    };
    by_silence.map(|at| at.max(tried.turned.not_before))
}

/// The link to an address by which the server is spoken to: its packets leave from where it sees this host.
pub(in crate::client) fn way_to(tried: &Registration, address: SocketAddr) -> Link {
    let leased = tried.leased.as_ref().map(|(_, at)| *at);
    leased.map_or(Link::Udp(address), |at| link_beside(at, address))
}

/// The server at the end of an allocation: at an address of the same family.
pub(in crate::client) fn turn_link(tried: &Registration) -> Option<Link> {
    let allocated = tried.turned.allocated?;
    let mut addresses = tried.server.addresses.iter();
    let address = addresses.find(|address| address.is_ipv4() == allocated.relayed.is_ipv4())?;
    Some(Link::Turn(allocated.id, *address))
}

/// The tunnel is not opened before.
pub(in crate::client) fn hold_tunnel(tried: &mut Registration, until: Instant) {
    tried.tunnel.hold(until);
}

/// Goes by the allocation from now on.
pub(in crate::client) fn use_turn(
    tried: &mut Registration,
    now: Instant,
    host: &mut Host,
    (allocated, own): (Allocated, &Own),
) {
    let Some(link) = turn_link(tried) else {
        return;
    };
    let is_cut_off = tried.turned.is_cut_off || is_without_way(own, tried.seen(), tried.turned.relays_nothing);
    if let Some((lease, before @ Link::Udp(_))) = &mut tried.leased {
        let cause = match lease.silent_since() {
            Some(_) if !is_cut_off => Cause::Silence,
            _ => Cause::NoWay,
        };
        let before = std::mem::replace(before, link);
        lease.on_moved(now);
        tried.turned.cause = Some(cause);
        tried.turned.is_cut_off = cause == Cause::NoWay;
        if cause == Cause::Silence {
            tried.tunnel.on_used(now);
        }
        // The handles there are of the lease's former address (RCH-17).
        host.network_changed(now, |route, _| route.link == before && route.handle.is_some());
        return;
    }
    tried.turned.hinted = Some((allocated.id, now));
    match &tried.state {
        State::Asking(_) => host.add_hints(now, &tried.server.eid, &[Route::over(link)]),
        State::Pausing(_) => tried.retry(now),
        State::Idle | State::Settled | State::Over => {}
    }
}

/// REGISTERED has come by an allocation.
pub(in crate::client) fn on_registered_by_turn(tried: &mut Registration, now: Instant) {
    tried.turned.cause = Some(Cause::Silence);
    tried.tunnel.on_used(now);
}

/// The server has answered over a link.
pub(in crate::client) fn note_heard(tried: &mut Registration, link: Link) {
    if let Link::Turn(id, _) = link {
        tried.turned.heard_by = Some(id);
        tried.turned.pause = Duration::ZERO;
    }
}

/// Returns whether the server was heard by an allocation.
pub(in crate::client) fn is_heard_by(tried: &Registration, id: TurnId) -> bool {
    tried.turned.heard_by == Some(id)
}

/// An allocation by which the server was asked of late, and never heard.
pub(in crate::client) fn take_mute(tried: &mut Registration) -> Option<TurnId> {
    tried.turned.mute.take()
}

/// REGISTER was not answered.
pub(in crate::client) fn on_unanswered(tried: &mut Registration, now: Instant) {
    if let Some((id, since)) = tried.turned.hinted
        && now >= since + PATIENCE
        && !is_heard_by(tried, id)
    {
        tried.turned.mute = Some(id);
    }
}

/// The allocation is lost: the server is spoken to by UDP, until there is another. Unless it is given up because it was
/// of no use, the server is not to blame that it was not heard there.
pub(in crate::client) fn on_turn_lost(tried: &mut Registration, now: Instant, is_useless: bool) {
    tried.turned.allocated = None;
    tried.turned.hinted = None;
    if !is_useless {
        (tried.turned.not_before, tried.turned.pause) = (now, Duration::ZERO);
    }
    let pause = if tried.turned.is_cut_off { GRACE } else { Duration::ZERO };
    leave_turn(tried, now + pause);
}

/// This host has come into another network: its NAT may be another one.
pub(in crate::client) fn forget_nat(tried: &mut Registration) {
    tried.turned.is_cut_off = false;
}

/// A lease that goes by an allocation goes by UDP again, from then on.
pub(in crate::client) fn leave_turn(tried: &mut Registration, now: Instant) {
    tried.turned.cause = None;
    let Some((lease, at @ Link::Turn(..))) = &mut tried.leased else {
        return;
    };
    match tried.server.addresses.first() {
        Some(address) => {
            *at = Link::Udp(*address);
            lease.on_moved(now);
        }
        None => tried.begin_anew(now),
    }
}

/// Leaves the allocation if the server is not heard by it either.
pub(in crate::client) fn leave_dead_turn(tried: &mut Registration, now: Instant, host: &mut Host) {
    let (gone, id) = match &tried.leased {
        Some((lease, at @ Link::Turn(id, _))) if lease.is_lost(now) => (*at, *id),
        _ => return,
    };
    if !is_heard_by(tried, id) {
        tried.turned.mute = Some(id);
    }
    tried.turned.pause = (tried.turned.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
    tried.turned.not_before = now + tried.turned.pause;
    leave_turn(tried, now);
    host.network_changed(now, |route, _| route.link == gone);
}

/// The link to an address by which a server is spoken to.
pub(in crate::client) fn link_beside(server: Link, address: SocketAddr) -> Link {
    match server {
        Link::Turn(allocation, _) => Link::Turn(allocation, address),
        Link::Udp(_) | Link::Socket(..) | Link::Tunnel(_) => Link::Udp(address),
    }
}

/// The server has no way for this host.
#[cfg(test)]
pub(in crate::client) fn cut_off(tried: &mut Registration) {
    tried.turned.is_cut_off = true;
}
