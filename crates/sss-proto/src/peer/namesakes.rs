//! Other processes of the same identity, who answer for the peer where its tree has never been (MIG-4).

use std::time::Duration;

use sss_wire::constants::STALL_GRACE;

use crate::route::Route;
use crate::time::Instant;

/// Routes kept, of either kind.
const MAX: usize = 8;
/// Time after which who has begun the tree believes that its peer is gone, if nobody was heard who knows it: longer
/// than most outages, since another process may have been there before.
const BELIEVED: Duration = STALL_GRACE.saturating_mul(30);

/// Knowledge of where the peer of a tree was, and of who has answered in its place since it is looked for.
#[derive(Default)]
pub(super) struct Namesakes {
    /// Routes of channels that the tree has had, the latest last.
    homes: Vec<Route>,
    /// Routes at whose ends nobody knows the tree.
    met: Vec<Route>,
    /// The time when the first of them was met.
    since: Option<Instant>,
}

impl Namesakes {
    /// Notes where a channel of the tree has led.
    pub(super) fn note_home(&mut self, route: Route) {
        remember(&mut self.homes, route);
    }

    /// Returns whether a channel of the tree that is gone has led there.
    pub(super) fn is_home(&self, route: &Route) -> bool {
        self.homes.contains(route)
    }

    /// Returns whether it is known where a channel has led that is gone.
    pub(super) fn knows_home(&self) -> bool {
        !self.homes.is_empty()
    }

    /// Notes that somebody has answered there who does not know the tree.
    pub(super) fn meet(&mut self, now: Instant, route: Route) {
        remember(&mut self.met, route);
        self.since.get_or_insert(now);
    }

    /// Returns whether somebody is there who does not know the tree.
    pub(super) fn are_at(&self, route: &Route) -> bool {
        self.met.contains(route)
    }

    /// Returns when it is to be believed that the peer has lost the tree.
    pub(super) fn believed_at(&self) -> Option<Instant> {
        Some(self.since? + BELIEVED)
    }

    /// Forgets whom it has met: the peer was found, or is looked for from somewhere else.
    pub(super) fn part(&mut self) {
        self.met = Vec::new();
        self.since = None;
    }
}

fn remember(routes: &mut Vec<Route>, route: Route) {
    if routes.contains(&route) {
        return;
    }
    if routes.len() == MAX {
        routes.remove(0);
    }
    routes.push(route);
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: MIG-4
    #[test]
    fn a_few_routes_of_each_kind_are_kept_the_latest() {
        let route = |n: u8| Route::udp(([192, 0, 2, n], 443).into());
        let now = Instant::default();
        let mut namesakes = Namesakes::default();
        assert!(!namesakes.knows_home() && namesakes.believed_at().is_none());
        for n in 0..10 {
            namesakes.note_home(route(n));
            namesakes.meet(now + Duration::from_secs(n.into()), route(n + 100));
        }
        assert!(namesakes.knows_home());
        let homes: Vec<_> = (0..110).filter(|n| namesakes.is_home(&route(*n))).collect();
        let met: Vec<_> = (0..110).filter(|n| namesakes.are_at(&route(*n))).collect();
        assert_eq!((homes, met), ((2..10).collect(), (102..110).collect()));
        // It counts from the first.
        assert_eq!(namesakes.believed_at(), Some(now + BELIEVED));
        namesakes.part();
        assert!(!namesakes.are_at(&route(109)) && namesakes.is_home(&route(9)));
        assert_eq!(namesakes.believed_at(), None);
    }
}
