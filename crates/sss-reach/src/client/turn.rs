//! The allocation at a TURN server, for where the host's own socket is of no use (RCH-48, RCH-49): when it is wanted,
//! and which registrations go from its relayed address.

use std::net::SocketAddr;
use std::time::Duration;

use sss_proto::{Host, Instant, Link, TurnId};

use super::Client;
use super::own::{Own, RelayUse};
use super::registration::turned;

/// Time for which a tunnel waits, where both are wanted, until the TURN server has answered or not.
const GRACE: Duration = Duration::from_secs(2);
/// Time for which an allocation is kept that is not wanted any more: channels leave it meanwhile.
const LINGER: Duration = Duration::from_secs(10);

/// Order to whoever moves datagrams, about the TURN servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TurnOrder {
    /// To have an allocation at one of them, and another one whenever it is lost, until
    /// [`Close`](TurnOrder::Close): [`on_turn_opened`](crate::Rendezvous::on_turn_opened),
    /// [`on_turn_lost`](crate::Rendezvous::on_turn_lost) and [`on_turn_failed`](crate::Rendezvous::on_turn_failed)
    /// are to tell how that goes.
    Open,
    /// To give it back, and to have one at the next of them, after the last at the first: nothing has come through this
    /// one. [`on_turn_lost`](crate::Rendezvous::on_turn_lost) is to tell when it is gone.
    Next,
    /// To give it back. Nothing follows.
    Close,
}

/// An allocation that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocated {
    /// Its name.
    pub id: TurnId,
    /// Relayed address: what is sent to a peer leaves from there.
    pub relayed: SocketAddr,
}

/// Reason why a registration goes by an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The server is not heard by UDP (RCH-24).
    Silence,
    /// Peers would not get through to this host, and the server relays nothing.
    NoWay,
}

/// The allocation of a host. By default, there are no TURN servers.
#[derive(Debug, Default)]
pub(super) struct Turn {
    state: State,
    /// The time since which it is there, or asked for, and nobody wants it.
    idle_since: Option<Instant>,
    /// Nothing has come through the one that is there: the next server is asked.
    is_useless: bool,
    order: Option<TurnOrder>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// There are no servers.
    #[default]
    Absent,
    /// It is not wanted.
    Closed,
    Opening,
    Open(Allocated),
}

impl Turn {
    /// None is wanted yet, of a host that has TURN servers.
    pub(super) fn new(is_there: bool) -> Self {
        let state = if is_there { State::Closed } else { State::Absent };
        Self {
            state,
            ..Self::default()
        }
    }

    /// The allocation, if it is there.
    pub(super) fn open(&self) -> Option<Allocated> {
        match self.state {
            State::Open(allocated) => Some(allocated),
            State::Absent | State::Closed | State::Opening => None,
        }
    }

    /// Returns when something is to be done, if registrations want it from then on.
    fn next_timer(&self, wanted_at: Option<Instant>) -> Option<Instant> {
        match self.state {
            State::Absent => None,
            State::Closed => wanted_at,
            State::Opening | State::Open(_) => self.idle_since.map(|since| since + LINGER),
        }
    }

    /// Nothing has come through it: asks for one of the next server, once.
    fn pass(&mut self) {
        if !std::mem::replace(&mut self.is_useless, true) && self.order.is_none() {
            self.order = Some(TurnOrder::Next);
        }
    }

    /// Asks for it, or gives it back. Returns whether it was asked for just now.
    fn tend(&mut self, now: Instant, is_wanted: bool) -> bool {
        match (self.state, is_wanted) {
            (State::Absent, _) | (State::Closed, false) => {}
            (State::Closed, true) => {
                (self.state, self.idle_since) = (State::Opening, None);
                self.order = Some(TurnOrder::Open);
                return true;
            }
            (State::Opening | State::Open(_), true) => self.idle_since = None,
            (State::Opening | State::Open(_), false) => {
                let since = *self.idle_since.get_or_insert(now);
                if now >= since + LINGER {
                    (self.state, self.idle_since) = (State::Closed, None);
                    self.order = Some(TurnOrder::Close);
                }
            }
        }
        false
    }
}

/// The next order about the TURN servers.
pub(crate) fn poll_order(client: &mut Client) -> Option<TurnOrder> {
    client.carriers.turn.order.take()
}

/// Returns when the allocation is to be asked for, used or given back.
pub(super) fn next_timer(client: &Client) -> Option<Instant> {
    if matches!(client.carriers.turn.state, State::Absent) || client.leaving.is_some() {
        return None;
    }
    let wanted = client.registrations.iter();
    let wanted_at = wanted
        .filter_map(|tried| turned::turn_wanted_at(tried, &client.own))
        .min();
    let used_at = client.carriers.turn.open().and_then(|allocated| {
        let others = client
            .registrations
            .iter()
            .filter(|tried| turned::may_use(tried, allocated));
        others
            .filter_map(|tried| turned::turn_wanted_at(tried, &client.own))
            .min()
    });
    client
        .carriers
        .turn
        .next_timer(wanted_at)
        .into_iter()
        .chain(used_at)
        .min()
}

/// Sees to the allocation, and which registrations go by it.
pub(super) fn tend(client: &mut Client, now: Instant, host: &mut Host) {
    if matches!(client.carriers.turn.state, State::Absent) || client.leaving.is_some() {
        return;
    }
    for registration in &mut client.registrations {
        turned::leave_dead_turn(registration, now, host);
    }
    pass_mute(client);
    let own = &client.own;
    let is_due = |tried: &super::Tried| turned::turn_wanted_at(tried, own).is_some_and(|at| at <= now);
    let is_wanted = client.registrations.iter().any(is_due);
    if client.carriers.turn.tend(now, is_wanted) {
        for registration in client.registrations.iter_mut().filter(|tried| is_due(tried)) {
            turned::hold_tunnel(registration, now + GRACE);
        }
    }
    if let Some(allocated) = client.carriers.turn.open() {
        let may_use = |tried: &&mut super::Tried| is_due(tried) && turned::may_use(tried, allocated);
        for registration in client.registrations.iter_mut().filter(may_use) {
            turned::use_turn(registration, now, host, (allocated, own));
        }
    }
}

/// Has the next TURN server asked, where a registration server was asked by the allocation, and none was heard by it.
fn pass_mute(client: &mut Client) {
    let mute: Vec<TurnId> = client.registrations.iter_mut().filter_map(turned::take_mute).collect();
    let Some(Allocated { id, .. }) = client.carriers.turn.open() else {
        return;
    };
    let is_heard = client.registrations.iter().any(|tried| turned::is_heard_by(tried, id));
    if mute.contains(&id) && !is_heard {
        client.carriers.turn.pass();
    }
}

/// There is an allocation.
pub(crate) fn on_opened(client: &mut Client, now: Instant, host: &mut Host, allocated: Allocated) {
    if !matches!(client.carriers.turn.state, State::Opening) {
        return;
    }
    client.carriers.turn.state = State::Open(allocated);
    client.carriers.turn.is_useless = false;
    for registration in &mut client.registrations {
        turned::set_turn(registration, Some(allocated));
    }
    client.on_timer(now, host);
}

/// The allocation is lost: whoever went by it is where it was before, until there is another.
pub(crate) fn on_lost(client: &mut Client, now: Instant, host: &mut Host, id: TurnId) {
    if client.carriers.turn.open().is_none_or(|allocated| allocated.id != id) {
        return;
    }
    let is_useless = client.carriers.turn.is_useless;
    client.carriers.turn.state = State::Opening;
    for registration in &mut client.registrations {
        turned::on_turn_lost(registration, now, is_useless);
    }
    host.network_changed(now, |route, _| is_by(&route.link, id));
    client.on_timer(now, host);
}

/// None of the servers gives an allocation now: what waits for that goes on without.
pub(crate) fn on_failed(client: &mut Client, now: Instant, host: &mut Host) {
    for registration in &mut client.registrations {
        turned::hold_tunnel(registration, now);
    }
    client.on_timer(now, host);
}

/// Returns whether packets leave from an allocation.
fn is_by(link: &Link, id: TurnId) -> bool {
    matches!(link, Link::Turn(by, _) if *by == id)
}

/// Returns whether a server's peers have no way to this host, nor it to them, wherever those let in only whom they send
/// to: its NAT gives another port to each destination, and nobody relays.
pub(super) fn is_without_way(own: &Own, seen: Option<(SocketAddr, Option<SocketAddr>)>, relays_nothing: bool) -> bool {
    let is_symmetric = matches!(seen, Some((one, Some(other))) if one != other);
    match own.relay {
        RelayUse::Always => false,
        RelayUse::Never => is_symmetric,
        RelayUse::Allowed => is_symmetric && relays_nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    // spec: RCH-48
    #[test]
    fn an_allocation_is_asked_for_when_it_is_wanted_and_given_back_ten_seconds_after_it_was() {
        let mut turn = Turn::new(true);
        assert_eq!(turn.next_timer(Some(at(3))), Some(at(3)));
        assert!(!turn.tend(at(2), false) && turn.order.is_none());
        assert!(turn.tend(at(3), true));
        assert_eq!(turn.order.take(), Some(TurnOrder::Open));
        assert!(!turn.tend(at(4), true) && turn.order.is_none(), "once");
        turn.tend(at(5), false);
        assert_eq!(turn.next_timer(None), Some(at(15)));
        turn.tend(at(14), false);
        assert_eq!(turn.order, None);
        turn.tend(at(15), false);
        assert_eq!(turn.order.take(), Some(TurnOrder::Close));
        // A host that has no TURN server asks for none.
        let mut none = Turn::new(false);
        assert!(!none.tend(at(3), true) && none.order.is_none());
        assert_eq!(none.next_timer(Some(at(3))), None);
    }

    // spec: RCH-49
    #[test]
    fn a_host_has_no_way_where_each_destination_sees_another_port_and_nobody_relays() {
        let own = |relay| Own::new(Default::default(), relay, Default::default());
        let seen = |other: u16| {
            let port = |port| SocketAddr::from(([203, 0, 113, 1], port));
            Some((port(7), Some(port(other))))
        };
        assert!(is_without_way(&own(RelayUse::Allowed), seen(8), true));
        assert!(!is_without_way(&own(RelayUse::Allowed), seen(8), false));
        assert!(!is_without_way(&own(RelayUse::Allowed), seen(7), true));
        assert!(!is_without_way(&own(RelayUse::Allowed), None, true));
        assert!(is_without_way(&own(RelayUse::Never), seen(8), false));
        assert!(!is_without_way(&own(RelayUse::Always), seen(8), true));
    }
}
