//! Other processes of the same identity, who answer for the peer where its tree has never been (MIG-4).

use std::time::Duration;

use sss_wire::constants::STALL_GRACE;
use sss_wire::params::{OLD, Process};

use crate::rare::Rare;
use crate::route::Route;
use crate::time::Instant;

/// Routes kept, of either kind.
const MAX: usize = 8;
/// Time after which who has begun the tree believes that its peer is gone, if nobody was heard who knows it: longer
/// than most outages, since another process may have been there before.
const BELIEVED: Duration = STALL_GRACE.saturating_mul(30);

/// One of the peer's identity who has answered, and does not know the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answerer {
    /// The peer, or who has come in its place: the tree is lost.
    Peer,
    /// Another one, who was there beside the peer.
    Namesake,
    /// Either of them.
    Unknown,
}

/// Knowledge of who the peer of a tree is, where it was, and who has answered in its place since it is looked for.
#[derive(Default)]
pub(super) struct Namesakes {
    /// The latest time at which it is known to have been there, of channels that are gone.
    was_there: Instant,
    /// The name of its process, if it has told that.
    peer: Option<[u8; 8]>,
    places: Rare<Places>,
}

/// Routes at which the peer was, or somebody else has answered.
#[derive(Default)]
struct Places {
    /// Routes of channels that the tree has had, the latest last.
    homes: Vec<Route>,
    /// Routes at whose ends nobody knows the tree.
    met: Vec<Route>,
    /// The time when the first of them was met who may be the peer.
    since: Option<Instant>,
}

impl Namesakes {
    /// Notes with whom the tree was begun.
    pub(super) fn set_peer(&mut self, process: Option<Process>) {
        self.peer = process.map(|process| process.name);
    }

    /// Notes where a channel of the tree has led, and when the peer was there.
    pub(super) fn note_home(&mut self, route: Route, was_there: Instant) {
        remember(&mut self.places.make().homes, route);
        self.was_there = self.was_there.max(was_there);
    }

    /// Returns who does not know the tree, if that is to be seen from what it tells of itself (MIG-30). The channels
    /// that are left know when the peer was there.
    pub(super) fn recognise(&self, now: Instant, was_there: Instant, process: Process) -> Option<Answerer> {
        if self.peer == Some(process.name) {
            return Some(Answerer::Peer);
        }
        let silence = now.since(was_there.max(self.was_there));
        let was_beside = |age: u16| age >= OLD || Duration::from_secs(age.into()) >= silence;
        match process.age {
            Some(age) if !was_beside(age) => Some(Answerer::Peer),
            // It is another process, unless the peer's may be one that did not tell its name.
            _ => self.peer.map(|_| Answerer::Namesake),
        }
    }

    /// Returns whether a channel of the tree that is gone has led there.
    pub(super) fn is_home(&self, route: &Route) -> bool {
        self.places.get().is_some_and(|places| places.homes.contains(route))
    }

    /// Returns whether it is known where a channel has led that is gone.
    pub(super) fn knows_home(&self) -> bool {
        self.places.get().is_some_and(|places| !places.homes.is_empty())
    }

    /// Notes that somebody has answered there who does not know the tree.
    pub(super) fn meet(&mut self, now: Instant, route: Route, who: Answerer) {
        let places = self.places.make();
        remember(&mut places.met, route);
        if who != Answerer::Namesake {
            places.since.get_or_insert(now);
        }
    }

    /// Returns whether somebody is there who does not know the tree.
    pub(super) fn are_at(&self, route: &Route) -> bool {
        self.places.get().is_some_and(|places| places.met.contains(route))
    }

    /// Returns when it is to be believed that the peer has lost the tree.
    pub(super) fn believed_at(&self) -> Option<Instant> {
        Some(self.places.get()?.since? + BELIEVED)
    }

    /// Forgets whom it has met: the peer was found, or is looked for from somewhere else.
    pub(super) fn part(&mut self) {
        if let Some(places) = self.places.get_mut() {
            places.met = Vec::new();
            places.since = None;
        }
        self.places.rest(|places| places.homes.is_empty());
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
            namesakes.note_home(route(n), now);
            let at = now + Duration::from_secs(n.into());
            namesakes.meet(at, route(n + 100), Answerer::Unknown);
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

    // spec: MIG-30
    #[test]
    fn a_name_and_an_age_tell_who_answers() {
        use Answerer::{Namesake, Peer};
        let (own, other) = ([1; 8], [2; 8]);
        let now = Instant::default() + Duration::from_secs(10_000);
        let who = |peer: Option<[u8; 8]>, silence: Duration, name, age| {
            let mut namesakes = Namesakes::default();
            namesakes.set_peer(peer.map(|name| Process { name, age: None }));
            // One channel is gone, and another one knows of an earlier time.
            namesakes.note_home(Route::udp(([192, 0, 2, 1], 443).into()), now - silence);
            namesakes.recognise(now, now - silence - Duration::from_secs(1), Process { name, age })
        };
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        for (peer, silence, name, age, expected) in [
            (Some(own), minute, own, Some(1000), Some(Peer)),
            (Some(own), minute, own, None, Some(Peer)),
            (Some(own), minute, other, Some(59), Some(Peer)),
            (Some(own), minute, other, Some(60), Some(Namesake)),
            (Some(own), minute, other, None, Some(Namesake)),
            // An hour is any age beyond.
            (Some(own), 2 * hour, other, Some(3599), Some(Peer)),
            (Some(own), 2 * hour, other, Some(3600), Some(Namesake)),
            // The peer has not said who it is.
            (None, minute, other, Some(59), Some(Peer)),
            (None, minute, other, Some(60), None),
            (None, minute, other, None, None),
        ] {
            assert_eq!(
                who(peer, silence, name, age),
                expected,
                "{peer:?} {silence:?} {name:?} {age:?}"
            );
        }
    }
}
