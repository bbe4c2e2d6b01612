//! A number of things of one kind, shared fairly by peers.
//!
//! 1. A peer gets no more than what is free beyond that (dynamic thresholds, as Choudhury and Hahne share the buffers
//!    of a switch, 1998): peers that take all they can get leave as much as each of them has, for whoever comes next.
//! 2. Whoever waits and has least is served first, and among equals whoever waits longest.
//!
//! So a peer that takes all it can get delays itself, and nobody else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sss::Eid;
use tokio::sync::oneshot;

/// Things of one kind: how many there are, and who has them.
#[derive(Clone)]
pub(crate) struct Shares(Arc<Mutex<State>>);

struct State {
    total: u64,
    /// The most that one peer may have.
    most: u64,
    used: u64,
    peers: BTreeMap<Eid, Holder>,
    /// Peers that wait: what they have, since when they wait, who they are.
    waiting: BTreeSet<(u64, u64, Eid)>,
    turn: u64,
}

#[derive(Default)]
struct Holder {
    used: u64,
    /// Place in `waiting`, while somebody waits.
    since: u64,
    queue: VecDeque<Waiter>,
}

struct Waiter {
    count: u64,
    grant: oneshot::Sender<Share>,
}

/// Some of the things. They go back when it is dropped.
pub(crate) struct Share {
    of: Shares,
    eid: Eid,
    count: u64,
}

/// The wait of some while somebody else has more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pressure {
    /// Peer that has most.
    pub(crate) greediest: Eid,
    /// Number of those of other peers who wait.
    pub(crate) waiting: usize,
    /// Somebody waits who has nothing, or not half of an equal part.
    pub(crate) is_grave: bool,
}

impl Shares {
    /// `total` things, of which one peer gets at most `most`.
    pub(crate) fn new(total: u64, most: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            total,
            most: most.min(total),
            used: 0,
            peers: BTreeMap::new(),
            waiting: BTreeSet::new(),
            turn: 0,
        })))
    }

    /// Waits for `count` things, or for as many as one peer may have.
    ///
    /// Cancel safe: what was granted meanwhile goes back.
    pub(crate) async fn get(&self, eid: Eid, count: u64) -> Share {
        let granted = self.queue(eid, count);
        match granted.await {
            Ok(share) => share,
            // Those who wait are dropped by themselves only.
            Err(_) => std::future::pending().await,
        }
    }

    /// `count` things, if they are free and nobody waits.
    pub(crate) fn try_get(&self, eid: Eid, count: u64) -> Option<Share> {
        let mut state = self.state();
        let count = count.min(state.most);
        if !state.waiting.is_empty() || !state.has_room(eid, count) {
            return None;
        }
        state.take(eid, count);
        drop(state);
        Some(self.share(eid, count))
    }

    /// Returns who has most, if somebody else waits and would still have less after getting something.
    pub(crate) fn pressure(&self) -> Option<Pressure> {
        let state = self.state();
        let (least, _, eid) = *state.waiting.first()?;
        let wanted = state.peers.get(&eid)?.queue.front()?.count;
        let (greediest, most) = state
            .peers
            .iter()
            .map(|(eid, peer)| (*eid, peer.used))
            .max_by_key(|p| p.1)?;
        if greediest == eid || most <= least.saturating_add(wanted) {
            return None;
        }
        let others = state.waiting.iter().filter(|w| w.2 != greediest);
        let waiting = others
            .filter_map(|w| state.peers.get(&w.2))
            .map(|peer| peer.queue.len());
        let equal_part = state.total / (state.peers.len() as u64).saturating_add(1);
        Some(Pressure {
            greediest,
            waiting: waiting.sum(),
            is_grave: least == 0 || least.saturating_add(wanted).saturating_mul(2) <= equal_part,
        })
    }

    /// Returns whether all are taken.
    pub(crate) fn is_full(&self) -> bool {
        let state = self.state();
        state.used >= state.total
    }

    /// Returns how many wait.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.state();
        let queues = state.waiting.iter().filter_map(|place| state.peers.get(&place.2));
        let waiters = queues.flat_map(|peer| &peer.queue);
        waiters.filter(|waiter| !waiter.grant.is_closed()).count()
    }

    fn queue(&self, eid: Eid, count: u64) -> oneshot::Receiver<Share> {
        let (grant, granted) = oneshot::channel();
        let mut state = self.state();
        let count = count.min(state.most);
        state.turn = state.turn.saturating_add(1);
        let turn = state.turn;
        state.change(eid, |peer| {
            if peer.queue.is_empty() {
                peer.since = turn;
            }
            peer.queue.push_back(Waiter { count, grant });
        });
        self.serve(state);
        granted
    }

    fn give_back(&self, eid: Eid, count: u64) {
        let mut state = self.state();
        state.used = state.used.saturating_sub(count);
        state.change(eid, |peer| peer.used = peer.used.saturating_sub(count));
        self.serve(state);
    }

    /// Grants what can be granted, and tells those who get it when the lock is free again: a share that nobody takes
    /// goes back at once.
    fn serve(&self, mut state: MutexGuard<'_, State>) {
        let mut granted = Vec::new();
        while let Some((eid, waiter)) = state.next() {
            granted.push((waiter.grant, self.share(eid, waiter.count)));
        }
        drop(state);
        for (grant, share) in granted {
            drop(grant.send(share));
        }
    }

    fn share(&self, eid: Eid, count: u64) -> Share {
        Share {
            of: self.clone(),
            eid,
            count,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&self, eid: Eid, count: u64) -> bool {
        let used = self.peers.get(&eid).map_or(0, |peer| peer.used);
        let wanted = used.saturating_add(count);
        wanted <= self.most && wanted <= self.free()
    }

    fn free(&self) -> u64 {
        self.total.saturating_sub(self.used)
    }

    fn take(&mut self, eid: Eid, count: u64) {
        self.used = self.used.saturating_add(count);
        self.change(eid, |peer| peer.used = peer.used.saturating_add(count));
    }

    /// The next who can be served, with what he gets taken already. Somebody for whom there is no room is not
    /// overtaken, unless it is his own peer that has too much.
    fn next(&mut self) -> Option<(Eid, Waiter)> {
        let (eid, count) = loop {
            match self.first()? {
                (eid, Some(count)) if count <= self.free() => break (eid, count),
                (_, Some(_)) => return None,
                // It does not wait any more. Only who comes first is looked at: nobody goes through all.
                (eid, None) => self.change(eid, |peer| peer.queue.retain(|waiter| !waiter.grant.is_closed())),
            }
        };
        let waiter = self.peers.get_mut(&eid)?.queue.pop_front()?;
        self.turn = self.turn.saturating_add(1);
        let turn = self.turn;
        self.used = self.used.saturating_add(count);
        self.change(eid, |peer| {
            peer.used = peer.used.saturating_add(count);
            // Whoever was served waits behind the others.
            peer.since = turn;
        });
        Some((eid, waiter))
    }

    /// The first of those who wait but for the fault of their own peer, and how much it wants; nothing if it does not
    /// wait any more.
    fn first(&self) -> Option<(Eid, Option<u64>)> {
        self.waiting.iter().find_map(|(_, _, eid)| {
            let front = self.peers.get(eid)?.queue.front()?;
            let count = front.count;
            match () {
                () if front.grant.is_closed() => Some((*eid, None)),
                () if count <= self.free() && !self.has_room(*eid, count) => None,
                () => Some((*eid, Some(count))),
            }
        })
    }

    /// Changes a peer, and its place among those who wait.
    fn change(&mut self, eid: Eid, change: impl FnOnce(&mut Holder)) {
        let peer = self.peers.entry(eid).or_default();
        self.waiting.remove(&(peer.used, peer.since, eid));
        change(peer);
        if !peer.queue.is_empty() {
            self.waiting.insert((peer.used, peer.since, eid));
        } else if peer.used == 0 {
            self.peers.remove(&eid);
        }
    }
}

impl Share {
    /// Gives back all but `count`.
    pub(crate) fn shrink(&mut self, count: u64) {
        let surplus = self.count.saturating_sub(count);
        if surplus > 0 {
            self.count = count;
            self.of.give_back(self.eid, surplus);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.give_back(self.eid, self.count);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn now<F: Future>(future: &mut Pin<Box<F>>) -> Option<F::Output> {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    fn eid(n: u8) -> Eid {
        Eid::from_public_key(&[n; 32])
    }

    fn used(shares: &Shares) -> u64 {
        shares.state().used
    }

    #[test]
    fn what_is_dropped_comes_back_and_nothing_is_remembered() {
        let shares = Shares::new(7, 3);
        let held: Vec<_> = (0..3).map(|_| shares.try_get(eid(1), 1).unwrap()).collect();
        assert!(shares.try_get(eid(1), 1).is_none(), "no peer has more than its part");
        let other = shares.try_get(eid(2), 3).unwrap();
        assert!(shares.try_get(eid(3), 2).is_none(), "there is not as much left");
        drop((held, other));
        assert_eq!(used(&shares), 0);
        assert!(shares.state().peers.is_empty());
    }

    #[test]
    fn whoever_has_least_is_served_first() {
        let shares = Shares::new(6, 6);
        let mut held: Vec<_> = (0..3).map(|_| shares.try_get(eid(1), 1).unwrap()).collect();
        let others = [4, 5, 6].map(|n| shares.try_get(eid(n), 1).unwrap());
        let mut greedy: Vec<_> = (0..9).map(|_| Box::pin(shares.get(eid(1), 1))).collect();
        assert!(greedy.iter_mut().all(|g| now(g).is_none()));
        let mut modest = Box::pin(shares.get(eid(2), 1));
        assert!(now(&mut modest).is_none());
        let pressure = shares.pressure().unwrap();
        assert_eq!((pressure.greediest, pressure.waiting), (eid(1), 1));
        held.pop();
        let got = now(&mut modest);
        assert!(got.is_some(), "nine were there before, but have more");
        assert!(greedy.iter_mut().all(|g| now(g).is_none()));
        assert_eq!(shares.pressure(), None, "the others wait for themselves only");
        drop((got, others));
        assert!(now(&mut greedy[0]).is_some());
    }

    #[test]
    fn whoever_takes_all_it_can_leaves_as_much_for_the_next() {
        let shares = Shares::new(60, 50);
        let held: Vec<_> = (1..=5)
            .map(|n| std::iter::from_fn(|| shares.try_get(eid(n), 1)).collect::<Vec<_>>())
            .collect();
        let counts: Vec<_> = held.iter().map(Vec::len).collect();
        assert_eq!(counts, [30, 15, 8, 4, 2]);
        let mut late = Box::pin(shares.get(eid(6), 1));
        assert!(now(&mut late).is_some(), "it does not have to wait for anybody");
    }

    #[test]
    fn whoever_has_too_much_for_what_it_wants_keeps_nobody_waiting() {
        let shares = Shares::new(20, 20);
        let _held = [shares.try_get(eid(1), 5).unwrap(), shares.try_get(eid(2), 6).unwrap()];
        let mut much = Box::pin(shares.get(eid(1), 8));
        assert!(now(&mut much).is_none());
        let mut little = Box::pin(shares.get(eid(2), 1));
        let _little = now(&mut little).unwrap();
        let mut more = Box::pin(shares.get(eid(3), 9));
        let mut small = Box::pin(shares.get(eid(4), 1));
        assert!(
            now(&mut more).is_none() && now(&mut small).is_none(),
            "it is not overtaken"
        );
    }

    #[test]
    fn equals_take_turns() {
        let shares = Shares::new(1, 1);
        let first = shares.try_get(eid(9), 1).unwrap();
        let mut waiting = Vec::new();
        for n in [1, 1, 1, 2, 2, 3] {
            let mut get = Box::pin(shares.get(eid(n), 1));
            assert!(now(&mut get).is_none());
            waiting.push((n, get));
        }
        drop(first);
        let mut order = Vec::new();
        while !waiting.is_empty() {
            let at = waiting.iter_mut().position(|(_, get)| now(get).is_some());
            order.push(waiting.remove(at.unwrap()).0);
        }
        assert_eq!(order, [1, 2, 3, 1, 2, 1]);
    }

    #[test]
    fn whoever_gives_up_waiting_gets_nothing() {
        let shares = Shares::new(1, 1);
        let held = shares.try_get(eid(1), 1).unwrap();
        let mut gone = Box::pin(shares.get(eid(2), 1));
        let mut stays = Box::pin(shares.get(eid(2), 1));
        assert!(now(&mut gone).is_none() && now(&mut stays).is_none());
        drop(gone);
        drop(held);
        assert!(now(&mut stays).is_some());
        drop(stays);
        assert_eq!(used(&shares), 0);
    }

    /// It takes no longer for each of them, the more there are: nobody goes through all.
    #[test]
    fn many_are_served_one_after_the_other() {
        let shares = Shares::new(1, 1);
        let held = shares.try_get(eid(1), 1).unwrap();
        let of = |n: u32| Eid::from_public_key(&std::array::from_fn(|at| n.to_be_bytes()[at % 4]));
        let mut waiting: Vec<_> = (1..=20_000).map(|n| Box::pin(shares.get(of(n), 1))).collect();
        assert!(waiting.iter_mut().all(|get| now(get).is_none()));
        drop(held);
        for (n, mut get) in waiting.into_iter().enumerate() {
            // Each third one does not wait any more.
            assert!(n % 3 == 0 || now(&mut get).is_some(), "{n}");
        }
        assert!(shares.state().peers.is_empty());
    }
}
