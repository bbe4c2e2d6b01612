//! A number of things of one kind, shared fairly by peers.
//!
//! Whoever waits and has least is served first, and among equals whoever waits longest. So a peer that takes all it can
//! get delays itself, and others only until something comes back.

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
        Some(Pressure {
            greediest,
            waiting: waiting.sum(),
        })
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
        used.saturating_add(count) <= self.most && self.used.saturating_add(count) <= self.total
    }

    fn take(&mut self, eid: Eid, count: u64) {
        self.used = self.used.saturating_add(count);
        self.change(eid, |peer| peer.used = peer.used.saturating_add(count));
    }

    /// The next who can be served, with what he gets taken already. Somebody for whom there is no room is not
    /// overtaken, unless it is his own peer that has too much.
    fn next(&mut self) -> Option<(Eid, Waiter)> {
        self.forget_the_gone();
        let served = self.waiting.iter().find_map(|(used, _, eid)| {
            let count = self.peers.get(eid)?.queue.front()?.count;
            let is_own_fault = used.saturating_add(count) > self.most;
            (!is_own_fault).then_some((*eid, count))
        });
        let (eid, count) = served.filter(|(eid, count)| self.has_room(*eid, *count))?;
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

    /// Takes those out of the queues who do not wait any more.
    fn forget_the_gone(&mut self) {
        while let Some(eid) = self.waiting.iter().map(|w| w.2).find(|eid| {
            let front = self.peers.get(eid).and_then(|peer| peer.queue.front());
            front.is_none_or(|waiter| waiter.grant.is_closed())
        }) {
            self.change(eid, |peer| peer.queue.retain(|waiter| !waiter.grant.is_closed()));
        }
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
        let shares = Shares::new(4, 3);
        let held: Vec<_> = (0..3).map(|_| shares.try_get(eid(1), 1).unwrap()).collect();
        assert!(shares.try_get(eid(1), 1).is_none(), "no peer has more than its part");
        let other = shares.try_get(eid(2), 1).unwrap();
        assert!(shares.try_get(eid(2), 1).is_none(), "nothing is left");
        drop((held, other));
        assert_eq!(used(&shares), 0);
        assert!(shares.state().peers.is_empty());
    }

    #[test]
    fn whoever_has_least_is_served_first() {
        let shares = Shares::new(3, 3);
        let mut held: Vec<_> = (0..3).map(|_| shares.try_get(eid(1), 1).unwrap()).collect();
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
        drop(got);
        assert!(now(&mut greedy[0]).is_some());
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
}
