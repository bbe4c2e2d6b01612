//! The handles by which this host takes what relays forward (CHN-17).

use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use sss_wire::Eid;

use super::Host;
use crate::route::{Link, RelayHandle, Route};
use crate::time::Instant;

/// Handles known at a time, at most.
const MAX_HANDLES: usize = 1 << 16;

/// The routes through relays that this host was told of.
#[derive(Default)]
pub(super) struct Relays {
    /// Each route, and when something came by it, or it was told.
    known: HashMap<Route, Instant, RandomState>,
}

impl Relays {
    /// Adds a route; whether there was room for it.
    pub(super) fn add(&mut self, now: Instant, route: Route) -> bool {
        let route = route.canonical();
        let has_room = self.known.len() < MAX_HANDLES || self.known.contains_key(&route);
        if has_room {
            self.known.insert(route, now);
        }
        has_room
    }

    /// Returns whether packets are taken by that route: one has come.
    pub(super) fn hear(&mut self, now: Instant, route: &Route) -> bool {
        let heard = self.known.get_mut(&route.canonical());
        heard.map(|at| *at = now).is_some()
    }

    /// Removes the routes by which nothing has come for so long, and returns them.
    pub(super) fn take_silent(&mut self, now: Instant, silence: Duration) -> HashSet<Route, RandomState> {
        let silent = self.known.extract_if(|_, heard| now.since(*heard) >= silence);
        silent.map(|(route, _)| route).collect()
    }
}

impl Host {
    /// Takes packets that the relay at the end of a link forwards with this handle, from now on. To be called before a
    /// route through it is tried. Returns false if that was one handle too many: the host takes at most 65,536.
    #[must_use = "without it, no answer comes through"]
    pub fn add_relay(&mut self, now: Instant, link: Link, handle: RelayHandle) -> bool {
        self.relays.add(now, Route::through(link, handle))
    }

    /// The host `eid` can be reached by a route through a relay, of which [`Self::add_relay`] was told. A channel there
    /// stands by for a direct one, and the route is tried when the peer does not answer (MIG-29). Nothing is sent now,
    /// and nothing happens if the peer is not known.
    pub fn note_relay(&mut self, eid: &Eid, route: Route) {
        if let Some(index) = self.peers.by_eid(eid) {
            if let Some(peer) = self.peers.at(index) {
                peer.transport_mut().note_relay(route);
            }
            self.peers.settle(&mut self.local, index);
        }
    }

    /// Forgets the handles by which nothing has come for so long: packets with them are counted as
    /// [`DropReason::UnknownHandle`], and the routes are not tried again. A channel on one is left without an answer.
    ///
    /// [`DropReason::UnknownHandle`]: crate::DropReason::UnknownHandle
    pub fn remove_silent_relays(&mut self, now: Instant, silence: Duration) {
        let silent = self.relays.take_silent(now, silence);
        if !silent.is_empty() {
            self.peers.forget_routes(|route| silent.contains(&route.canonical()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::TunnelId;

    fn at(s: u64) -> Instant {
        Instant::from_nanos(s * 1_000_000_000)
    }

    #[test]
    fn handles_are_known_at_their_own_relay_and_are_bounded() {
        let link = |text: &str| Link::Udp(text.parse().unwrap());
        let (one, other) = (link("192.0.2.1:1"), link("192.0.2.2:1"));
        let mut relays = Relays::default();
        assert!(relays.add(at(0), Route::through(one, RelayHandle(7))));
        assert!(relays.hear(at(0), &Route::through(link("[::ffff:192.0.2.1]:1"), RelayHandle(7))));
        assert!(!relays.hear(at(0), &Route::through(one, RelayHandle(8))));
        assert!(!relays.hear(at(0), &Route::through(other, RelayHandle(7))));
        let tunnel = |n: usize| Route::through(Link::Tunnel(TunnelId(1)), RelayHandle(n as u32));
        let added = 1 + (0..MAX_HANDLES + 9).filter(|n| relays.add(at(0), tunnel(*n))).count();
        assert_eq!((added, relays.known.len()), (MAX_HANDLES, MAX_HANDLES));
    }

    // spec: CHN-17
    #[test]
    fn handles_by_which_nothing_comes_are_forgotten() {
        let tunnel = |n: u32| Route::through(Link::Tunnel(TunnelId(1)), RelayHandle(n));
        let mut relays = Relays::default();
        (1..=3).for_each(|n| assert!(relays.add(at(0), tunnel(n))));
        assert!(relays.hear(at(30), &tunnel(2)));
        let silence = Duration::from_secs(60);
        assert!(relays.take_silent(at(59), silence).is_empty());
        let silent = relays.take_silent(at(60), silence);
        assert_eq!(silent, [1, 3].map(tunnel).into_iter().collect());
        assert!(relays.hear(at(60), &tunnel(2)) && !relays.hear(at(60), &tunnel(1)));
    }
}
