//! The handles by which this host takes what relays forward (CHN-17).

use foldhash::fast::RandomState;
use hashbrown::HashSet;

use crate::route::Route;

/// Handles known at a time, at most.
const MAX_HANDLES: usize = 1 << 16;

/// The routes through relays that this host was told of.
#[derive(Default)]
pub(super) struct Relays {
    known: HashSet<Route, RandomState>,
}

impl Relays {
    /// Adds a route; whether there was room for it.
    pub(super) fn add(&mut self, route: Route) -> bool {
        let route = route.canonical();
        let has_room = self.known.len() < MAX_HANDLES || self.known.contains(&route);
        if has_room {
            self.known.insert(route);
        }
        has_room
    }

    pub(super) fn remove(&mut self, route: &Route) {
        self.known.remove(&route.canonical());
    }

    /// Returns whether packets are taken by that route.
    pub(super) fn knows(&self, route: &Route) -> bool {
        self.known.contains(&route.canonical())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{Link, RelayHandle, TunnelId};

    #[test]
    fn handles_are_known_at_their_own_relay_and_are_bounded() {
        let link = |text: &str| Link::Udp(text.parse().unwrap());
        let (one, other) = (link("192.0.2.1:1"), link("192.0.2.2:1"));
        let mut relays = Relays::default();
        assert!(relays.add(Route::through(one, RelayHandle(7))));
        assert!(relays.knows(&Route::through(link("[::ffff:192.0.2.1]:1"), RelayHandle(7))));
        assert!(!relays.knows(&Route::through(one, RelayHandle(8))));
        assert!(!relays.knows(&Route::through(other, RelayHandle(7))));
        relays.remove(&Route::through(one, RelayHandle(7)));
        assert!(!relays.knows(&Route::through(one, RelayHandle(7))));
        let tunnel = |n: usize| Route::through(Link::Tunnel(TunnelId(1)), RelayHandle(n as u32));
        let added = (0..MAX_HANDLES + 9).filter(|n| relays.add(tunnel(*n))).count();
        assert_eq!((added, relays.known.len()), (MAX_HANDLES, MAX_HANDLES));
    }
}
