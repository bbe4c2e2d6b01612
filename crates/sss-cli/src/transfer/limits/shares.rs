//! A number of things of one kind, shared fairly by networks, and in each network by peers: identities cost nothing,
//! and addresses do (hierarchical shares, as Kay and Lauder share a processor by users first, 1988).
//!
//! 1. A peer gets no more than what is free beyond that, and a network no more than twice as much (dynamic thresholds,
//!    as Choudhury and Hahne share the buffers of a switch, 1998): those that take all they can get leave as much as a
//!    peer has, for whoever comes next.
//! 2. Whoever waits and has least is served first: the network that has least, and its peer that has least; among
//!    equals who was not served yet, since it began to wait or to have something, and then whoever waits longest.
//!    So who comes to a crowd that waits for its next turn does not wait for the turns of them all. Likewise the
//!    sessions of a peer, which share what it gets ([`lines`]).
//! 3. [`Shares::who_gives_way`] finds for those who wait, first for those who have nothing at all, whoever has more
//!    than they would have then; or has more than they have now, if its turn is over (round robin): so each gets a
//!    turn, however many they are. Where others would get what is given back,
//!    it has to be one of their own network.
//!
//! So a peer that takes all it can get delays itself, and a crowd of them delays its own network, and nobody else.

mod giving;
mod lines;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sss::{Eid, Network};
use tokio::sync::oneshot;

pub(crate) use self::giving::{Cost, Holding};
use self::lines::Lines;
pub(crate) use self::lines::Session;

/// Number of those who wait that are looked at together.
const LOOKED_AT: usize = 512;

/// Things of one kind: how many there are, and who has them.
#[derive(Clone)]
pub(crate) struct Shares(Arc<Mutex<State>>);

/// Peer that has things, or wants some, and whom it shares them with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    group: Group,
    eid: Eid,
    session: Session,
}

/// Peers that have a share together: those of a network. Without a channel there is none: all of those are counted as
/// one.
type Group = Option<Network>;

struct State {
    total: u64,
    /// The most that one peer may have.
    most: u64,
    reserve: Reserve,
    used: u64,
    groups: BTreeMap<Group, Members>,
    /// Groups of which somebody waits.
    waiting: BTreeSet<(Rank, Group)>,
    turn: u64,
}

/// Part that networks leave for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reserve {
    /// Half of what they have (dynamic thresholds).
    Half,
    /// None: others have what they need given back.
    None,
}

/// Place among those who wait: the least is served first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Number of things that it has.
    used: u64,
    /// Set if it has been served.
    is_served: bool,
    /// Since when it waits, or when it was served.
    since: u64,
}

#[derive(Default)]
struct Members {
    /// Place in `waiting` of all groups, while somebody waits.
    rank: Rank,
    peers: BTreeMap<Eid, Holder>,
    /// Peers that wait.
    waiting: BTreeSet<(Rank, Eid)>,
}

#[derive(Default)]
struct Holder {
    /// Place in `waiting`, while somebody waits.
    rank: Rank,
    queue: Lines,
}

struct Waiter {
    count: u64,
    grant: oneshot::Sender<Share>,
}

/// Some of the things. They go back when it is dropped.
pub(crate) struct Share {
    of: Shares,
    owner: Owner,
    count: u64,
}

impl Owner {
    /// A peer that shares with its network.
    pub(crate) fn of(eid: Eid, network: Option<Network>) -> Self {
        Self {
            group: network,
            eid,
            session: 0,
        }
    }

    /// The same peer, in one of its sessions.
    pub(crate) fn in_session(self, session: Session) -> Self {
        Self { session, ..self }
    }

    /// Returns whether both are the same peer, in whatever sessions.
    fn is_same_peer(&self, other: &Self) -> bool {
        (self.group, self.eid) == (other.group, other.eid)
    }

    /// The peer.
    pub(crate) fn eid(&self) -> Eid {
        self.eid
    }
}

impl Shares {
    /// `total` things, of which one peer gets at most `most`.
    pub(crate) fn new(total: u64, most: u64) -> Self {
        Self::with_reserve(total, most, Reserve::Half)
    }

    /// As [`Self::new`], but a network may have all of them.
    pub(crate) fn without_reserve(total: u64, most: u64) -> Self {
        Self::with_reserve(total, most, Reserve::None)
    }

    fn with_reserve(total: u64, most: u64, reserve: Reserve) -> Self {
        Self(Arc::new(Mutex::new(State {
            total,
            most: most.min(total),
            reserve,
            used: 0,
            groups: BTreeMap::new(),
            waiting: BTreeSet::new(),
            turn: 0,
        })))
    }

    /// Waits for `count` things, or for as many as one peer may have.
    ///
    /// Cancel safe: what was granted meanwhile goes back.
    pub(crate) async fn get(&self, owner: Owner, count: u64) -> Share {
        let granted = self.queue(owner, count);
        match granted.await {
            Ok(share) => share,
            // Those who wait are dropped by themselves only.
            Err(_) => std::future::pending().await,
        }
    }

    /// `count` things, if they are free and nobody waits for them who has no more.
    pub(crate) fn try_get(&self, owner: Owner, count: u64) -> Option<Share> {
        let mut state = self.state();
        let count = count.min(state.most);
        let is_behind = state
            .first()
            .is_some_and(|(first, _)| state.used_by(first) <= state.used_by(owner));
        if is_behind || state.fits(owner, count).is_some() {
            return None;
        }
        state.take(owner, count);
        drop(state);
        Some(self.share(owner, count))
    }

    /// Returns which of these are to give back what they have for the sake of those who wait. Of equals the first.
    pub(crate) fn who_gives_way(&self, holdings: &[Holding]) -> BTreeSet<usize> {
        self.state().who_gives_way(holdings)
    }

    /// Returns whether more than a quarter is taken.
    pub(crate) fn is_scarce(&self) -> bool {
        let state = self.state();
        state.used > state.total / 4
    }

    /// Returns whether all are taken.
    pub(crate) fn is_full(&self) -> bool {
        let state = self.state();
        state.used >= state.total
    }

    /// Returns whether a peer waits for more.
    pub(crate) fn is_waiting(&self, owner: Owner) -> bool {
        let state = self.state();
        let peer = state
            .groups
            .get(&owner.group)
            .and_then(|group| group.peers.get(&owner.eid));
        peer.is_some_and(|peer| peer.queue.iter().any(|waiter| !waiter.grant.is_closed()))
    }

    /// Returns how many wait, or [`LOOKED_AT`] if they are more.
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiters().take(LOOKED_AT).count()
    }

    fn queue(&self, owner: Owner, count: u64) -> oneshot::Receiver<Share> {
        let (grant, granted) = oneshot::channel();
        let mut state = self.state();
        let count = count.min(state.most);
        state.turn = state.turn.saturating_add(1);
        let turn = state.turn;
        state.change(owner, |peer| {
            if peer.queue.is_empty() {
                peer.rank.since = turn;
            }
            // A peer that gives up waiting and begins again leaves nothing behind.
            peer.queue.retain_waiting();
            peer.queue.push_back(owner.session, Waiter { count, grant });
        });
        self.serve(state);
        granted
    }

    fn give_back(&self, owner: Owner, count: u64) {
        let mut state = self.state();
        state.used = state.used.saturating_sub(count);
        state.change(owner, |peer| {
            peer.rank.used = peer.rank.used.saturating_sub(count);
            peer.queue.give_back(owner.session, count);
        });
        self.serve(state);
    }

    /// Grants what can be granted, and tells those who get it when the lock is free again: a share that nobody takes
    /// goes back at once.
    fn serve(&self, mut state: MutexGuard<'_, State>) {
        let mut granted = Vec::new();
        while let Some((owner, waiter)) = state.next() {
            granted.push((waiter.grant, self.share(owner, waiter.count)));
        }
        drop(state);
        for (grant, share) in granted {
            drop(grant.send(share));
        }
    }

    fn share(&self, owner: Owner, count: u64) -> Share {
        Share {
            of: self.clone(),
            owner,
            count,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reason why somebody gets nothing now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scarcity {
    /// There are not as many.
    General,
    /// Its network has too much for them.
    Group,
    /// It has too much for them itself.
    Peer,
}

impl State {
    /// The number of things that a peer's group has, and that it has itself.
    fn used_by(&self, owner: Owner) -> (u64, u64) {
        let group = self.groups.get(&owner.group);
        group.map_or((0, 0), |group| {
            let own = group.peers.get(&owner.eid);
            (group.rank.used, own.map_or(0, |peer| peer.rank.used))
        })
    }

    fn fits(&self, owner: Owner, count: u64) -> Option<Scarcity> {
        let (of_group, own) = self.used_by(owner);
        let (of_group, own) = (of_group.saturating_add(count), own.saturating_add(count));
        let free = self.free();
        match () {
            () if count > free => Some(Scarcity::General),
            () if of_group > self.free_for_group() => Some(Scarcity::Group),
            () if own > self.most || own > free => Some(Scarcity::Peer),
            () => None,
        }
    }

    fn free(&self) -> u64 {
        self.total.saturating_sub(self.used)
    }

    /// The most that a network may have now.
    fn free_for_group(&self) -> u64 {
        match (self.reserve, self.free()) {
            (Reserve::None, 1..) => u64::MAX,
            (_, free) => free.saturating_mul(2),
        }
    }

    fn take(&mut self, owner: Owner, count: u64) {
        self.used = self.used.saturating_add(count);
        self.change(owner, |peer| peer.take(owner.session, count));
    }

    /// The next who can be served, with what he gets taken already. Somebody for whom there is no room is not
    /// overtaken, unless it is his own peer, or network, that has too much.
    fn next(&mut self) -> Option<(Owner, Waiter)> {
        let (owner, count) = loop {
            match self.first()? {
                (owner, Some(count)) if count <= self.free() => break (owner, count),
                (_, Some(_)) => return None,
                // It does not wait any more. Only who comes first is looked at: nobody goes through all.
                (owner, None) => self.change(owner, |peer| peer.queue.retain_waiting()),
            }
        };
        let group = self.groups.get_mut(&owner.group)?;
        self.turn = self.turn.saturating_add(1);
        let turn = self.turn;
        let (session, waiter) = group.peers.get_mut(&owner.eid)?.queue.pop_front(turn)?;
        let owner = owner.in_session(session);
        self.used = self.used.saturating_add(count);
        self.change(owner, |peer| {
            peer.take(session, count);
            // Whoever was served waits behind the others.
            peer.rank.since = turn;
        });
        Some((owner, waiter))
    }

    /// The first of those who wait but for the fault of their own peer or network, and how much it wants; nothing if it
    /// does not wait any more.
    fn first(&self) -> Option<(Owner, Option<u64>)> {
        // Whatever those behind want is too much for them.
        let bound = self.free_for_group();
        let poor = self.waiting.iter();
        let poor = poor.take_while(|(rank, _)| rank.used == 0 || rank.used < bound);
        poor.map(|(_, group)| self.first_of(*group)).find_map(|first| first)
    }

    fn first_of(&self, group: Group) -> Option<(Owner, Option<u64>)> {
        let members = self.groups.get(&group)?;
        let poor = members.waiting.iter();
        for (_, eid) in poor.take_while(|(rank, _)| rank.used == 0 || rank.used < self.free()) {
            let owner = Owner::of(*eid, group);
            let front = members.peers.get(eid)?.queue.front()?;
            match self.fits(owner, front.count) {
                _ if front.grant.is_closed() => return Some((owner, None)),
                Some(Scarcity::Group) => return None,
                Some(Scarcity::Peer) => {}
                Some(Scarcity::General) | None => return Some((owner, Some(front.count))),
            }
        }
        None
    }

    /// Changes a peer, and the places of it and its group among those who wait.
    fn change(&mut self, owner: Owner, change: impl FnOnce(&mut Holder)) {
        let group = self.groups.entry(owner.group).or_default();
        self.waiting.remove(&(group.rank, owner.group));
        group.change(owner.eid, change);
        if !group.waiting.is_empty() {
            self.waiting.insert((group.rank, owner.group));
        } else if group.peers.is_empty() {
            self.groups.remove(&owner.group);
        }
    }

    /// Those who wait, in the order in which they are served.
    fn waiters(&self) -> impl Iterator<Item = (Owner, u64)> {
        let groups = self.waiting.iter().filter_map(|(_, group)| {
            let members = self.groups.get(group)?;
            Some(members.waiting.iter().map(move |(_, eid)| (*group, *eid, members)))
        });
        let queues = groups.flatten().filter_map(|(group, eid, members)| {
            let queue = &members.peers.get(&eid)?.queue;
            Some(queue.iter().map(move |waiter| (Owner::of(eid, group), waiter)))
        });
        let waiters = queues.flatten().filter(|(_, waiter)| !waiter.grant.is_closed());
        waiters.map(|(owner, waiter)| (owner, waiter.count))
    }
}

impl Members {
    /// Changes a peer, and its place among those who wait.
    fn change(&mut self, eid: Eid, change: impl FnOnce(&mut Holder)) {
        let peer = self.peers.entry(eid).or_default();
        self.waiting.remove(&(peer.rank, eid));
        let before = peer.rank.used;
        change(peer);
        let now = peer.rank;
        self.rank.used = self.rank.used.saturating_sub(before).saturating_add(now.used);
        self.rank.is_served |= now.is_served;
        // It begins to wait, or one of it was served.
        if self.waiting.is_empty() || now.used > before {
            self.rank.since = self.rank.since.max(now.since);
        }
        if !peer.queue.is_empty() {
            self.waiting.insert((now, eid));
        } else if now.used == 0 {
            self.peers.remove(&eid);
        }
    }
}

impl Holder {
    fn take(&mut self, session: Session, count: u64) {
        self.queue.take(session, count);
        self.rank.used = self.rank.used.saturating_add(count);
        self.rank.is_served = true;
    }
}

impl Share {
    /// Gives back all but `count`.
    pub(crate) fn shrink(&mut self, count: u64) {
        let surplus = self.count.saturating_sub(count);
        if surplus > 0 {
            self.count = count;
            self.of.give_back(self.owner, surplus);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.give_back(self.owner, self.count);
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

    /// A peer that is alone in its network.
    fn eid(n: u8) -> Owner {
        Owner::of(Eid::from_public_key(&[n; 32]), Some(Network::V4(n.into())))
    }

    /// A peer of a network.
    fn of(n: u16, network: u8) -> Owner {
        let key = std::array::from_fn(|at| n.to_be_bytes()[at % 2]);
        let network = Network::from(std::net::IpAddr::from([10, 0, 0, network]));
        Owner::of(Eid::from_public_key(&key), Some(network))
    }

    fn holding(owner: Owner) -> Holding {
        Holding {
            owner,
            count: 1,
            is_over: false,
            cost: Cost::Delay,
        }
    }

    fn used(shares: &Shares) -> u64 {
        shares.state().used
    }

    #[test]
    fn a_session_does_not_wait_for_all_that_others_of_its_peer_want() {
        let shares = Shares::new(100, 4);
        let session = |n| eid(1).in_session(n);
        let held: Vec<_> = (0..4).map(|_| shares.try_get(session(1), 1).unwrap()).collect();
        let mut many: Vec<_> = (0..50).map(|_| Box::pin(shares.get(session(1), 1))).collect();
        let mut others: Vec<_> = (2..5).map(|n| Box::pin(shares.get(session(n), 1))).collect();
        let mut second = Box::pin(shares.get(session(2), 1));
        assert!(many.iter_mut().all(|one| now(one).is_none()));
        assert!(others.iter_mut().all(|one| now(one).is_none()) && now(&mut second).is_none());
        // What comes back goes to those who have nothing, in the order of their coming, and not to who asked first.
        let mut got = Vec::new();
        for (n, one) in held.into_iter().enumerate().take(3) {
            drop(one);
            got.push(now(&mut others[n]).expect("the next session"));
            assert!(now(&mut second).is_none() && now(&mut many[0]).is_none());
        }
        // Each has one now, the first session that which was dropped last.
        drop(got.remove(0));
        let again = now(&mut second).expect("it has nothing any more");
        drop(got);
        let first: Vec<_> = many.iter_mut().filter_map(now).collect();
        assert_eq!(first.len(), 3, "who is left gets the rest");
        drop(first);
        drop((again, many, others, second));
        assert_eq!(used(&shares), 0);
        assert!(shares.state().groups.is_empty());
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
        assert!(shares.state().groups.is_empty());
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
        let holdings = [4, 1, 1, 1, 5].map(|n| holding(eid(n)));
        assert_eq!(shares.who_gives_way(&holdings), [1].into(), "one waits who has less");
        held.pop();
        let got = now(&mut modest);
        assert!(got.is_some(), "nine were there before, but have more");
        assert!(greedy.iter_mut().all(|g| now(g).is_none()));
        let give_way = shares.who_gives_way(&holdings);
        assert_eq!(give_way, [].into(), "the others wait for themselves only");
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
        let of = |n: u32| {
            let eid = Eid::from_public_key(&std::array::from_fn(|at| n.to_be_bytes()[at % 4]));
            Owner::of(eid, Some(Network::V4(n)))
        };
        let mut waiting: Vec<_> = (1..=20_000).map(|n| Box::pin(shares.get(of(n), 1))).collect();
        assert!(waiting.iter_mut().all(|get| now(get).is_none()));
        drop(held);
        for (n, mut get) in waiting.into_iter().enumerate() {
            // Each third one does not wait any more.
            assert!(n % 3 == 0 || now(&mut get).is_some(), "{n}");
        }
        assert!(shares.state().groups.is_empty());
    }

    // Threat 34: identities cost nothing, and addresses do.
    #[test]
    fn threat_34_a_crowd_of_one_network_leaves_as_much_for_another() {
        let shares = Shares::new(60, 50);
        let crowd = (0..100).flat_map(|n| std::iter::from_fn(|| shares.try_get(of(n, 1), 1)).collect::<Vec<_>>());
        let crowd: Vec<_> = crowd.collect();
        assert_eq!(crowd.len(), 40);
        let mut own = Box::pin(shares.get(of(100, 1), 1));
        assert!(now(&mut own).is_none(), "its network has too much");
        let other: Vec<_> = std::iter::from_fn(|| shares.try_get(of(101, 2), 1)).collect();
        assert_eq!(other.len(), 10, "nobody has to give anything back for it");
        drop(crowd);
        assert!(now(&mut own).is_some());
    }

    // Threat 34
    #[test]
    fn threat_34_networks_take_turns_however_many_of_one_wait() {
        let shares = Shares::new(1, 1);
        let held = shares.try_get(of(0, 9), 1).unwrap();
        let owners = (0..100).map(|n| of(n, 1)).chain([of(200, 2), of(201, 2), of(300, 3)]);
        let mut waiting: Vec<_> = owners.map(|owner| (owner, Box::pin(shares.get(owner, 1)))).collect();
        assert!(waiting.iter_mut().all(|(_, get)| now(get).is_none()));
        drop(held);
        let mut order = Vec::new();
        while order.len() < 6 {
            let at = waiting.iter_mut().position(|(_, get)| now(get).is_some());
            order.push(waiting.remove(at.unwrap()).0);
        }
        assert_eq!(
            order,
            [of(0, 1), of(200, 2), of(300, 3), of(1, 1), of(201, 2), of(2, 1)]
        );
    }

    // Threat 34
    #[test]
    fn threat_34_the_network_that_has_most_gives_way_and_in_it_whoever_had_its_turn() {
        let shares = Shares::new(9, 9);
        let owners = [
            of(1, 1),
            of(2, 1),
            of(3, 1),
            of(4, 1),
            of(5, 1),
            of(6, 1),
            of(7, 2),
            of(7, 2),
            of(8, 3),
        ];
        let _held = owners.map(|owner| {
            shares.state().take(owner, 1);
            shares.share(owner, 1)
        });
        let mut holdings = owners.map(holding);
        let mut own = Box::pin(shares.get(of(9, 1), 1));
        assert!(now(&mut own).is_none());
        assert_eq!(
            shares.who_gives_way(&holdings),
            [].into(),
            "each of its network has one"
        );
        holdings[4].is_over = true;
        holdings[6].is_over = true;
        assert_eq!(shares.who_gives_way(&holdings), [4].into(), "its turn is over");
        drop(own);
        let mut others = [of(10, 4), of(11, 4)].map(|owner| Box::pin(shares.get(owner, 1)));
        assert!(others.iter_mut().all(|get| now(get).is_none()));
        assert_eq!(shares.who_gives_way(&holdings), [0, 1].into(), "its network has most");
        let mut crowd: Vec<_> = (20..40).map(|n| Box::pin(shares.get(of(n, 4), 1))).collect();
        assert!(crowd.iter_mut().all(|get| now(get).is_none()));
        let give_way = shares.who_gives_way(&holdings);
        assert_eq!(give_way, [0, 1, 2].into(), "three have as many as three");
    }

    // Threat 34: a crowd of small networks that is gone, and a peer that has much and is there.
    #[test]
    fn threat_34_those_that_are_gone_give_way_however_little_each_has() {
        let shares = Shares::new(16, 16);
        let owners: Vec<_> = [of(1, 1); 4]
            .into_iter()
            .chain((2..14).map(|n| of(n, n as u8)))
            .collect();
        let _held: Vec<_> = owners
            .iter()
            .map(|owner| {
                shares.state().take(*owner, 1);
                shares.share(*owner, 1)
            })
            .collect();
        let mut newcomer = Box::pin(shares.get(of(20, 1), 1));
        assert!(now(&mut newcomer).is_none());
        let costs = |others: Cost| {
            let cost = move |owner: &Owner| if *owner == of(1, 1) { Cost::Work } else { others };
            owners
                .iter()
                .map(move |owner| Holding {
                    cost: cost(owner),
                    ..holding(*owner)
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(
            shares.who_gives_way(&costs(Cost::Ghost)),
            [0].into(),
            "its network has most"
        );
        assert_eq!(shares.who_gives_way(&costs(Cost::Gone)), [4].into());
        let mut more = Box::pin(shares.get(of(1, 1), 1));
        assert!(now(&mut more).is_none());
        assert_eq!(
            shares.who_gives_way(&costs(Cost::Gone)),
            [4].into(),
            "whoever has its part gets no more for it"
        );
    }

    /// As in `many_are_served_one_after_the_other`.
    #[test]
    fn a_network_that_has_too_much_is_passed_over_as_a_whole() {
        let shares = Shares::new(30_000, 1);
        let crowd: Vec<_> = (0..20_000).map(|n| shares.try_get(of(n, 1), 1).unwrap()).collect();
        let mut waiting: Vec<_> = (20_000..40_000).map(|n| Box::pin(shares.get(of(n, 1), 1))).collect();
        assert!(waiting.iter_mut().all(|get| now(get).is_none()));
        for n in 0..20_000 {
            assert!(shares.try_get(of(n, 2), 1).is_some());
        }
        drop(crowd);
        assert!(waiting.iter_mut().all(|get| now(get).is_some()));
    }

    // Threat 34: a crowd of networks that has all, and of which each waits for more.
    #[test]
    fn threat_34_who_shares_a_network_with_some_of_a_large_crowd_has_one_of_those_give_way() {
        let shares = Shares::new(63, 63);
        let crowd = (1..=20).flat_map(|network| [1, 1, 2].map(|n| of(n, network)));
        let crowd: Vec<_> = crowd.chain([of(1, 20); 2]).collect();
        let mut held: Vec<_> = crowd.iter().map(|owner| shares.try_get(*owner, 1)).collect();
        for (share, owner) in held.iter_mut().zip(&crowd).filter(|(share, _)| share.is_none()) {
            shares.state().take(*owner, 1);
            *share = Some(shares.share(*owner, 1));
        }
        let more = crowd.iter().flat_map(|owner| [*owner; LOOKED_AT / 20]);
        let mut more: Vec<_> = more.map(|owner| Box::pin(shares.get(owner, 1))).collect();
        assert!(more.iter_mut().all(|more| now(more).is_none()));
        let mut newcomer = Box::pin(shares.get(of(3, 15), 1));
        assert!(now(&mut newcomer).is_none());
        let holdings: Vec<_> = crowd.iter().map(|owner| holding(*owner)).collect();
        let works = holdings.iter().map(|holding| Holding {
            cost: Cost::Work,
            ..*holding
        });
        let give_way = shares.who_gives_way(&works.collect::<Vec<_>>());
        assert_eq!(give_way, [42].into(), "what others give back others would get");
        held[42] = None;
        assert!(now(&mut newcomer).is_some());
    }

    // Threat 34: a crowd of networks of which each waits for its next turn.
    #[test]
    fn threat_34_who_comes_to_a_crowd_does_not_wait_for_the_turns_of_all() {
        let shares = Shares::new(4, 4);
        let held: Vec<_> = (1..=4).map(|n| shares.try_get(eid(n), 1).unwrap()).collect();
        let mut crowd: Vec<_> = (1..=4)
            .chain(10..20)
            .flat_map(|n| [n, n])
            .map(|n| (n, Box::pin(shares.get(eid(n), 1))))
            .collect();
        assert!(crowd.iter_mut().all(|(_, get)| now(get).is_none()));
        // Each is served once, and waits for more.
        let mut served = Vec::new();
        let mut turns = held;
        for _ in 0..14 {
            turns.remove(0);
            let at = crowd.iter_mut().position(|(_, get)| match now(get) {
                Some(share) => {
                    turns.push(share);
                    true
                }
                None => false,
            });
            served.push(crowd.remove(at.unwrap()).0);
        }
        let mut newcomer = Box::pin(shares.get(eid(30), 1));
        assert!(now(&mut newcomer).is_none());
        turns.remove(0);
        assert!(now(&mut newcomer).is_some(), "{served:?} had a turn each");
    }
}
