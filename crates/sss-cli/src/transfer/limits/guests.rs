//! Sessions: how many each peer and all may have, and who gives way when there is no place.
//!
//! 1. A process that was killed leaves its session until its streams end. When its peer comes back and finds no place,
//!    the oldest of its sessions that cannot be reached gives way.
//! 2. Identities cost nothing, and addresses do. When the places of all are taken, one that cannot be reached gives
//!    way, of the network that has most of those; or else a session of the network that has most: of those that were
//!    not let in, or else of those that ask for nothing, whoever has done nothing for longest; or else, for the sake of
//!    a network that has less, the one that has been at work for longest.
//! 3. Of those who wait for a place, the network that has fewest gets it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sss::{Eid, Network, Peer};
use tokio::sync::Notify;

use super::IsGone;
use super::shares::{Owner, Session, Share, Shares};

/// Time that a session has to give way.
const MOMENT: Duration = Duration::from_secs(2);

/// Time after which those that cannot be reached are looked for again.
const LOOK: Duration = Duration::from_millis(250);

/// All sessions.
pub(crate) struct Guests {
    /// Places, shared by network.
    shares: Shares,
    /// Places that each peer may have, wherever its processes are.
    own: Shares,
    /// Sessions of one peer, at most.
    most: u64,
    there: Mutex<There>,
}

#[derive(Default)]
struct There {
    next: u64,
    guests: BTreeMap<u64, Guest>,
    /// Those that could not be reached when that was last looked for; who goes first is the last.
    gone: Vec<u64>,
    looked: Option<Instant>,
}

/// Peer of a session.
#[derive(Clone, Copy)]
pub(crate) struct Who {
    pub(crate) eid: Eid,
    /// Network it came from. Without a channel there is none: all of those are counted as one.
    pub(crate) network: Option<Network>,
}

struct Guest {
    who: Who,
    is_gone: IsGone,
    is_let_in: bool,
    /// Requests at hand.
    requests: usize,
    /// Time of the last change of the two above.
    since: Instant,
    sent_away: Arc<Notify>,
    /// Set if it was sent away: it holds its place until it has gone.
    is_leaving: bool,
}

/// Order in which sessions give way: first those that were not let in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Outside,
    /// It asks for nothing.
    Idle,
    AtWork,
}

/// The place of a session. It is free again when this is dropped.
pub(crate) struct Place {
    guests: Arc<Guests>,
    id: u64,
    sent_away: Arc<Notify>,
    _shares: [Share; 2],
}

/// A request of a session that is at hand until this is dropped.
pub(crate) struct Work {
    guests: Arc<Guests>,
    id: u64,
}

impl Who {
    /// The peer of a session.
    pub(crate) fn of(eid: Eid, peer: &Peer) -> Self {
        let network = peer.info().map(|info| Network::from(&info.route));
        Self { eid, network }
    }

    /// The owner of what its requests hold.
    pub(crate) fn owner(self) -> Owner {
        Owner::of(self.eid, self.network)
    }
}

impl Guests {
    /// Room for `total` sessions, of which one peer gets at most `most`.
    pub(crate) fn new(total: u64, most: u64) -> Self {
        Self {
            shares: Shares::without_reserve(total, most),
            own: Shares::new(u64::MAX / 4, most),
            most,
            there: Mutex::default(),
        }
    }

    /// Takes a place for a session of a peer, which `is_gone` looks after. `None`: there is none.
    ///
    /// Cancel safe: who was sent away for it goes all the same.
    pub(crate) async fn place(self: &Arc<Self>, who: Who, is_gone: IsGone) -> Option<Place> {
        let shares = match self.try_get(who) {
            Some(shares) => shares,
            None if self.make_room(who) => tokio::time::timeout(MOMENT, self.get(who)).await.ok()?,
            None => return None,
        };
        let sent_away = Arc::new(Notify::new());
        let mut there = self.there();
        let id = there.next;
        there.next = id.saturating_add(1);
        let guest = Guest {
            who,
            is_gone,
            is_let_in: false,
            requests: 0,
            since: Instant::now(),
            sent_away: sent_away.clone(),
            is_leaving: false,
        };
        there.guests.insert(id, guest);
        drop(there);
        Some(Place {
            guests: self.clone(),
            id,
            sent_away,
            _shares: shares,
        })
    }

    fn try_get(&self, who: Who) -> Option<[Share; 2]> {
        let own = self.own.try_get(Owner::of(who.eid, None), 1)?;
        Some([self.shares.try_get(who.owner(), 1)?, own])
    }

    async fn get(&self, who: Who) -> [Share; 2] {
        let own = self.own.get(Owner::of(who.eid, None), 1).await;
        [self.shares.get(who.owner(), 1).await, own]
    }

    /// Sends one away for the sake of a newcomer, if that is needed and there is one. Returns whether waiting for a
    /// place is of use: not where the newcomer's own sessions are in its way, and stay.
    fn make_room(&self, newcomer: Who) -> bool {
        let is_full = self.shares.is_full();
        self.there().make_room(newcomer, self.most, is_full)
    }

    fn there(&self) -> MutexGuard<'_, There> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl There {
    /// Sends one of its own away that cannot be reached, or, if the places of all are taken, somebody else's.
    fn make_room(&mut self, newcomer: Who, most: u64, is_full: bool) -> bool {
        let own = self.guests.iter().filter(|(_, guest)| guest.who.eid == newcomer.eid);
        let mut ghosts = own.clone().filter(|(_, guest)| guest.is_ghost());
        let has_most = own.clone().count() as u64 >= most;
        let ghost = ghosts.next().map(|(id, _)| *id);
        let goes = match ghost {
            Some(id) => Some(id),
            None if !is_full || has_most => None,
            None => self.gone(Instant::now()).or_else(|| self.of_most(newcomer.network)),
        };
        let Some(guest) = goes.and_then(|id| self.guests.get_mut(&id)) else {
            return !has_most;
        };
        guest.is_leaving = true;
        guest.sent_away.notify_one();
        true
    }

    /// Returns who gives way of those that cannot be reached: of the network that has most of them, the one that has
    /// done nothing for longest.
    fn gone(&mut self, now: Instant) -> Option<u64> {
        if self.looked.is_none_or(|at| now.saturating_duration_since(at) >= LOOK) {
            self.looked = Some(now);
            let ghosts: Vec<_> = self.guests.iter().filter(|(_, guest)| guest.is_ghost()).collect();
            let mut counts: HashMap<_, usize> = HashMap::new();
            for (_, ghost) in &ghosts {
                *counts.entry(ghost.who.network).or_default() += 1;
            }
            let rank = |(id, ghost): (&u64, &Guest)| {
                let count = counts.get(&ghost.who.network).copied();
                (count, Reverse(ghost.since), *id)
            };
            let mut ranked: Vec<_> = ghosts.into_iter().map(rank).collect();
            ranked.sort_unstable();
            self.gone = ranked.into_iter().map(|(.., id)| id).collect();
        }
        while let Some(id) = self.gone.pop() {
            if self.guests.get(&id).is_some_and(Guest::is_ghost) {
                return Some(id);
            }
        }
        None
    }

    /// Returns who gives way of the network that has most.
    fn of_most(&self, newcomer: Option<Network>) -> Option<u64> {
        let mut counts: HashMap<_, usize> = HashMap::new();
        for guest in self.guests.values().filter(|guest| !guest.is_leaving) {
            *counts.entry(guest.who.network).or_default() += 1;
        }
        let own = counts.get(&newcomer).copied().unwrap_or(0);
        // Among equals the newcomer's own: nobody else has to pay for it.
        let (network, count) = counts.into_iter().max_by_key(|(of, n)| (*n, *of == newcomer))?;
        let worst = if count > own { Rank::AtWork } else { Rank::Idle };
        let guests = self.guests.iter();
        let guests = guests.filter(|(_, guest)| !guest.is_leaving && guest.who.network == network);
        let ranked = guests.map(|(id, guest)| (guest.rank(), guest.since, *id));
        let first = ranked.filter(|(rank, ..)| *rank <= worst).min();
        first.map(|(.., id)| id)
    }
}

impl Guest {
    /// Returns whether it cannot be reached, and was not sent away.
    fn is_ghost(&self) -> bool {
        !self.is_leaving && (self.is_gone)()
    }

    fn rank(&self) -> Rank {
        match () {
            () if !self.is_let_in => Rank::Outside,
            () if self.requests == 0 => Rank::Idle,
            () => Rank::AtWork,
        }
    }
}

impl Place {
    /// The number of the session.
    pub(crate) fn session(&self) -> Session {
        self.id
    }

    /// Notes that the session was let in.
    pub(crate) fn let_in(&self) {
        self.guests.change(self.id, |guest| guest.is_let_in = true);
    }

    /// Notes that a request of the session is at hand.
    pub(crate) fn work(&self) -> Work {
        let guests = self.guests.clone();
        guests.change(self.id, |guest| guest.requests += 1);
        Work { guests, id: self.id }
    }

    /// Waits until the session has to give way.
    ///
    /// Cancel safe.
    pub(crate) async fn sent_away(&self) {
        self.sent_away.notified().await;
    }
}

impl Guests {
    fn change(&self, id: u64, change: impl FnOnce(&mut Guest)) {
        if let Some(guest) = self.there().guests.get_mut(&id) {
            change(guest);
            guest.since = Instant::now();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.guests.there().guests.remove(&self.id);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.guests
            .change(self.id, |guest| guest.requests = guest.requests.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Waker};

    use super::*;

    /// Somebody from a network.
    fn of(n: u8, network: u8) -> Who {
        Who {
            eid: Eid::from_public_key(&[n; 32]),
            network: Some(Network::from(IpAddr::from([10, 0, 0, network]))),
        }
    }

    #[tokio::test]
    async fn those_that_cannot_be_reached_give_way_to_others_of_the_same_peer() {
        let guests = Arc::new(Guests::new(64, 2));
        let gone = Arc::new(AtomicBool::new(false));
        let is_gone = gone.clone();
        let first = guests
            .place(of(1, 1), Arc::new(move || is_gone.load(Ordering::Relaxed)))
            .await
            .unwrap();
        let second = guests.place(of(1, 2), Arc::new(|| false)).await.unwrap();
        assert!(
            guests.place(of(1, 1), Arc::new(|| false)).await.is_none(),
            "both are there"
        );
        let other = guests.place(of(2, 1), Arc::new(|| true)).await.unwrap();
        gone.store(true, Ordering::Relaxed);
        let leaving = tokio::spawn(async move {
            first.sent_away().await;
            drop(first);
        });
        let third = guests
            .place(of(1, 1), Arc::new(|| false))
            .await
            .expect("the first gives way");
        leaving.await.unwrap();
        assert!(
            guests.place(of(1, 1), Arc::new(|| false)).await.is_none(),
            "nobody else does"
        );
        drop((second, third, other));
        assert!(guests.there().guests.is_empty());
    }

    /// Sends one away for the sake of somebody; returns its number in the order in which they came.
    fn goes(guests: &Guests, newcomer: Who) -> Option<u64> {
        let leaving = || {
            let there = guests.there();
            let leaving = there.guests.iter().filter(|(_, guest)| guest.is_leaving);
            leaving.map(|(id, _)| *id).collect::<Vec<u64>>()
        };
        let before = leaving();
        guests.make_room(newcomer);
        leaving().into_iter().find(|id| !before.contains(id))
    }

    // Threat 34: one that was sent away and has not gone yet still counts for its peer.
    #[tokio::test]
    async fn threat_34_who_makes_sessions_fast_sends_only_its_own_away() {
        let guests = Arc::new(Guests::new(64, 2));
        let other = guests.place(of(9, 1), Arc::new(|| false)).await.unwrap();
        let gone = [
            guests.place(of(1, 1), Arc::new(|| true)).await.unwrap(),
            guests.place(of(1, 1), Arc::new(|| true)).await.unwrap(),
        ];
        let waits = tokio::spawn({
            let guests = guests.clone();
            async move { guests.place(of(1, 1), Arc::new(|| true)).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished() && guests.there().guests[&gone[0].id].is_leaving);
        assert_eq!(goes(&guests, of(1, 1)), Some(gone[1].id));
        assert_eq!(goes(&guests, of(1, 1)), None);
        // Who has none does not wait for those, and nobody has to go for it.
        let third = guests.place(of(2, 2), Arc::new(|| false)).await.expect("there is room");
        waits.abort();
        assert!(!guests.there().guests[&other.id].is_leaving);
        drop((other, gone, third));
    }

    // Threat 34: identities cost nothing.
    #[tokio::test]
    async fn threat_34_a_session_of_the_network_that_has_most_gives_way() {
        let guests = Arc::new(Guests::new(7, 2));
        let mut places = Vec::new();
        // One of another network, and six of one: two at work, one at work that cannot be reached, two idle, one that
        // was not let in.
        for n in 0..7 {
            let place = guests
                .place(of(n, (n > 0).into()), Arc::new(move || n == 3))
                .await
                .unwrap();
            if n < 6 {
                place.let_in();
            }
            places.push(place);
        }
        drop(places[5].work());
        let _work = [places[1].work(), places[2].work(), places[3].work()];
        assert_eq!(goes(&guests, of(9, 9)), Some(3), "cannot be reached");
        assert_eq!(goes(&guests, of(9, 9)), Some(6), "not let in");
        assert_eq!(goes(&guests, of(9, 1)), Some(4), "idle for longest");
        assert_eq!(goes(&guests, of(9, 1)), Some(5), "idle since a moment ago");
        assert_eq!(
            goes(&guests, of(9, 1)),
            None,
            "those at work stay, for their own network"
        );
        assert_eq!(goes(&guests, of(9, 9)), Some(1), "and not for another one");
    }

    // Threat 34
    #[tokio::test]
    async fn threat_34_newcomers_get_in_behind_a_crowd_of_identities() {
        let guests = Arc::new(Guests::new(16, 2));
        let mut crowd = tokio::task::JoinSet::new();
        for n in 0..100 {
            let place = guests.place(of(n, 1), Arc::new(|| false)).await.expect("each gets in");
            place.let_in();
            crowd.spawn(async move { place.sent_away().await });
        }
        for network in [1, 2] {
            let place = guests
                .place(of(200, network), Arc::new(|| false))
                .await
                .expect("a place");
            assert_eq!(guests.there().guests.len(), 16);
            drop(place);
        }
    }

    // Threat 34: what a crowd left behind goes before anybody who is there, whatever their networks; and a place that
    // is free is for the network that has fewest, however many of another one wait.
    #[tokio::test]
    async fn threat_34_newcomers_get_the_places_of_those_that_are_gone_the_smallest_network_first() {
        let guests = Arc::new(Guests::new(6, 2));
        let mut places = Vec::new();
        // Four of one network at work; and one of each of two others, of which one is gone.
        for n in 0..6_u8 {
            let network = n.saturating_sub(3);
            let place = guests.place(of(n, network), Arc::new(move || n == 5)).await.unwrap();
            place.let_in();
            places.push((place.work(), place));
        }
        let mut crowd: Vec<_> = (10..20)
            .map(|n| Box::pin(guests.place(of(n, 0), Arc::new(|| false))))
            .collect();
        let mut context = Context::from_waker(Waker::noop());
        for newcomer in &mut crowd {
            assert!(newcomer.as_mut().poll(&mut context).is_pending());
        }
        let there = guests.there();
        let leaving = there.guests.iter().filter(|(_, guest)| guest.is_leaving);
        let leaving: Vec<u64> = leaving.map(|(id, _)| *id).collect();
        drop(there);
        assert_eq!(leaving, [5], "who is at work stays for the sake of its own network");
        let mut other = Box::pin(guests.place(of(9, 9), Arc::new(|| false)));
        assert!(other.as_mut().poll(&mut context).is_pending());
        drop(places.pop());
        assert!(
            crowd
                .iter_mut()
                .all(|newcomer| newcomer.as_mut().poll(&mut context).is_pending())
        );
        assert!(other.as_mut().poll(&mut context).is_ready());
    }
}
