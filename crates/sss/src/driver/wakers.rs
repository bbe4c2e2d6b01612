//! Registry of who waits for what. An entry exists only while somebody waits: who gives up is taken out at once
//! ([`crate::waiting`]).
//!
//! Everything here happens under the host's lock, so no waker is called or dropped here, and nobody is told anything:
//! what is to be done comes back as [`Notices`], or as the entry that was taken out.

use std::net::SocketAddr;
use std::task::Waker;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use sss_proto::{
    CloseReason, DatagramFate, DatagramId, Event, Interest, LinkStatus, ListenerId, PeerId, Route, StreamId,
};
use sss_wire::Eid;
use tokio::sync::{oneshot, watch};

use super::notices::{Notice, Notices};
use super::slots::{List, Slots, Ticket};

type Map<K, V> = HashMap<K, V, RandomState>;

/// Trees without anybody who waits that are kept, at least.
const KEPT_TREES: usize = 64;
/// Streams for which the memory of a tree without anybody who waits is kept.
const KEPT_STREAMS: usize = 256;

/// Everybody who waits for something of a host.
#[derive(Default)]
pub(crate) struct Waiters {
    slots: Slots<Key, Waiter>,
    lists: Lists,
    receipts: Map<(PeerId, DatagramId), oneshot::Sender<DatagramFate>>,
    /// Wakers that others have taken the place of, to be dropped when the host is not locked.
    replaced: Vec<Waker>,
}

/// A thing that any number of tasks may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Stream(StreamId, Interest),
    /// For the handle of a stream to be gone.
    Released(StreamId),
    Acceptable(ListenerId),
    /// For a channel to a peer.
    Connected(PeerId),
    /// For the end of a peer's tree.
    Closed(PeerId),
    Probe(SocketAddr),
    /// For the end of the driver.
    Stopped,
}

/// The sides of a stream that take an exclusive handle: one task each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Read,
    Write,
}

/// Way in which somebody is told.
#[derive(Debug)]
pub(crate) enum Waiter {
    Task(Waker),
    Closed(oneshot::Sender<CloseReason>),
    Found(oneshot::Sender<Eid>),
    Over(oneshot::Sender<()>),
}

/// The lists in which the entries stand.
#[derive(Default)]
struct Lists {
    /// Each in a place of its own: the map is half empty.
    trees: Map<PeerId, Box<Tree>>,
    /// With so many trees, those are removed for which nobody waits.
    sweep_at: usize,
    listeners: Map<ListenerId, Listener>,
    released: Map<StreamId, List>,
    probes: Map<SocketAddr, List>,
    stopped: List,
}

/// Those who wait for something of one peer: all of what ends with its tree.
///
/// It stays when nobody is left, so that a task that waits again and again makes no room for it again and again.
#[derive(Default)]
struct Tree {
    sides: Map<StreamId, Sides>,
    streams: StreamLists,
    connected: List,
    closed: List,
    link: Option<watch::Sender<LinkStatus>>,
}

/// A thing that is waited for of a stream.
type Wait = (StreamId, Interest);

/// Those who wait for something of streams. With many peers, most have one who waits for one thing: that takes no
/// table.
#[derive(Default)]
struct StreamLists {
    one: Option<(Wait, List)>,
    others: Map<Wait, List>,
}

impl StreamLists {
    fn is_empty(&self) -> bool {
        self.one.is_none() && self.others.is_empty()
    }

    /// The list of those who wait for something, made if there is none.
    fn list(&mut self, wait: Wait) -> &mut List {
        let is_other = |one: &(Wait, List)| one.0 != wait;
        if self.one.as_ref().is_some_and(is_other) || self.others.contains_key(&wait) {
            return self.others.entry(wait).or_default();
        }
        &mut self.one.get_or_insert((wait, List::default())).1
    }

    fn remove(&mut self, wait: Wait) -> Option<List> {
        match self.one.take_if(|one| one.0 == wait) {
            Some((_, list)) => Some(list),
            None if self.others.is_empty() => None,
            None => self.others.remove(&wait),
        }
    }

    /// All lists. None is left.
    fn drain(&mut self) -> impl Iterator<Item = List> {
        let one = self.one.take().map(|(_, list)| list);
        one.into_iter().chain(self.others.drain().map(|(_, list)| list))
    }
}

/// The tasks that hold the sides of a stream.
#[derive(Default)]
struct Sides {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Those who accept.
#[derive(Default)]
struct Listener {
    accepting: List,
    /// The last task that called a poll function.
    polling: Option<Waker>,
}

impl Sides {
    fn of(&mut self, side: Side) -> &mut Option<Waker> {
        match side {
            Side::Read => &mut self.reader,
            Side::Write => &mut self.writer,
        }
    }

    fn is_empty(&self) -> bool {
        self.reader.is_none() && self.writer.is_none()
    }
}

impl Tree {
    fn is_empty(&self) -> bool {
        let nobody = self.sides.is_empty() && self.streams.is_empty() && self.link.is_none();
        nobody && self.connected.is_empty() && self.closed.is_empty()
    }

    fn take_side(&mut self, stream: StreamId, side: Side) -> Option<Waker> {
        let Entry::Occupied(mut sides) = self.sides.entry(stream) else {
            return None;
        };
        let waker = sides.get_mut().of(side).take();
        if sides.get().is_empty() {
            sides.remove();
            self.give_back();
        }
        waker
    }

    fn take_sides(&mut self, stream: StreamId) -> Option<Sides> {
        if self.sides.is_empty() {
            return None;
        }
        let sides = self.sides.remove(&stream);
        self.give_back();
        sides
    }

    /// Gives memory back after many have waited.
    fn give_back(&mut self) {
        give_back(&mut self.sides);
        give_back(&mut self.streams.others);
    }
}

/// Gives the memory of a map back that is empty and had many entries. How many it has room for does not tell: those
/// that were removed may still take it up.
fn give_back<K: Eq + std::hash::Hash, V>(map: &mut Map<K, V>) {
    let kept = 2 * KEPT_STREAMS * size_of::<(K, V)>();
    if map.is_empty() && map.allocation_size() > kept {
        *map = Map::default();
    }
}

impl Lists {
    /// Those who wait for something of a peer, made if there are none.
    fn tree(&mut self, peer: PeerId) -> &mut Tree {
        if self.trees.len() >= self.sweep_at.max(KEPT_TREES) && !self.trees.contains_key(&peer) {
            self.trees.retain(|_, tree| !tree.is_empty());
            self.sweep_at = self.trees.len() * 2;
        }
        self.trees.entry(peer).or_default()
    }

    fn list(&mut self, key: Key) -> &mut List {
        match key {
            Key::Stream(stream, wait) => self.tree(stream.peer()).streams.list((stream, wait)),
            Key::Released(stream) => self.released.entry(stream).or_default(),
            Key::Acceptable(listener) => &mut self.listeners.entry(listener).or_default().accepting,
            Key::Connected(peer) => &mut self.tree(peer).connected,
            Key::Closed(peer) => &mut self.tree(peer).closed,
            Key::Probe(address) => self.probes.entry(address).or_default(),
            Key::Stopped => &mut self.stopped,
        }
    }

    /// Removes a list from which the last has been taken.
    fn tidy(&mut self, key: Key) {
        match key {
            Key::Stream(stream, wait) => {
                if let Some(tree) = self.trees.get_mut(&stream.peer()) {
                    tree.streams.remove((stream, wait));
                    tree.give_back();
                }
            }
            Key::Released(stream) => drop(self.released.remove(&stream)),
            Key::Acceptable(listener) => {
                if let Entry::Occupied(entry) = self.listeners.entry(listener)
                    && entry.get().polling.is_none()
                {
                    entry.remove();
                }
            }
            Key::Probe(address) => drop(self.probes.remove(&address)),
            Key::Connected(_) | Key::Closed(_) | Key::Stopped => {}
        }
    }
}

/// Entering and leaving.
impl Waiters {
    /// Puts a task where it waits for `key`, unless it is there already under `ticket`.
    pub(crate) fn enter(&mut self, ticket: &mut Ticket, key: Key, waker: &Waker) {
        match self.slots.get_mut(*ticket) {
            Some(Waiter::Task(known)) if known.will_wake(waker) => {}
            Some(Waiter::Task(known)) => self.replaced.push(std::mem::replace(known, waker.clone())),
            _ => *ticket = self.add(key, Waiter::Task(waker.clone())),
        }
    }

    /// Puts somebody where it is waited for `key`.
    pub(crate) fn add(&mut self, key: Key, waiter: Waiter) -> Ticket {
        self.slots.push(self.lists.list(key), key, waiter)
    }

    /// Takes somebody out who does not wait any more.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Option<Waiter> {
        let key = self.slots.key(ticket)?;
        let list = self.lists.list(key);
        let waiter = self.slots.remove(list, ticket);
        if list.is_empty() {
            self.lists.tidy(key);
        }
        waiter
    }

    /// Puts the task that holds a side of a stream where it waits for that side.
    pub(crate) fn wait(&mut self, stream: StreamId, side: Side, waker: &Waker) {
        let sides = self.lists.tree(stream.peer()).sides.entry(stream).or_default();
        self.replaced.extend(replace(sides.of(side), waker));
    }

    /// Takes out the task that waits for a side of a stream.
    pub(crate) fn unwait(&mut self, stream: StreamId, side: Side) -> Option<Waker> {
        self.lists.trees.get_mut(&stream.peer())?.take_side(stream, side)
    }

    /// Puts the task that polls a listener where it waits, instead of the one that did so before.
    pub(crate) fn wait_acceptable(&mut self, listener: ListenerId, waker: &Waker) {
        let polling = &mut self.lists.listeners.entry(listener).or_default().polling;
        self.replaced.extend(replace(polling, waker));
    }

    /// Tells what becomes of a datagram.
    pub(crate) fn settled(&mut self, peer: PeerId, datagram: DatagramId) -> oneshot::Receiver<DatagramFate> {
        let (tx, rx) = oneshot::channel();
        self.receipts.insert((peer, datagram), tx);
        rx
    }

    /// Takes out whoever is to be told what becomes of a datagram.
    pub(crate) fn unsettled(&mut self, peer: PeerId, datagram: DatagramId) -> Option<oneshot::Sender<DatagramFate>> {
        self.receipts.remove(&(peer, datagram))
    }

    /// Follows the way to a peer, which is `now` so.
    pub(crate) fn watch_link(&mut self, peer: PeerId, now: LinkStatus) -> watch::Receiver<LinkStatus> {
        let link = &mut self.lists.tree(peer).link;
        link.get_or_insert_with(|| watch::channel(now).0).subscribe()
    }

    /// Takes out what tells of the way to a peer, if nobody follows it any more.
    pub(crate) fn unwatch_link(&mut self, peer: PeerId) -> Option<watch::Sender<LinkStatus>> {
        let tree = self.lists.trees.get_mut(&peer)?;
        tree.link.take_if(|link| link.receiver_count() == 0)
    }

    /// Wakers that others have taken the place of since the last time.
    pub(crate) fn take_replaced(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.replaced)
    }

    /// Returns how many wait.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        let trees = self.lists.trees.values();
        let sides = trees.map(|tree| {
            let sides = tree.sides.values();
            let tasks: usize = sides
                .map(|s| usize::from(s.reader.is_some()) + usize::from(s.writer.is_some()))
                .sum();
            tasks + usize::from(tree.link.is_some())
        });
        let polling = self.lists.listeners.values().filter(|l| l.polling.is_some()).count();
        self.slots.len() + sides.sum::<usize>() + polling + self.receipts.len()
    }
}

/// The waker whose place `waker` takes, if it is not of the same task.
fn replace(slot: &mut Option<Waker>, waker: &Waker) -> Option<Waker> {
    match slot {
        Some(known) if known.will_wake(waker) => None,
        slot => slot.replace(waker.clone()),
    }
}

/// Waking.
impl Waiters {
    /// All who wait for a stream, or have its handle.
    pub(crate) fn wake_waiting_for(&mut self, stream: StreamId, notices: &mut Notices) {
        let Some(tree) = self.lists.trees.get_mut(&stream.peer()) else {
            return;
        };
        if let Some(sides) = tree.take_sides(stream) {
            notices.wakers.extend(sides.reader.into_iter().chain(sides.writer));
        }
        if tree.streams.is_empty() {
            return;
        }
        for wait in Interest::ALL {
            if let Some(list) = tree.streams.remove((stream, wait)) {
                self.slots.wake(list, notices);
            }
        }
        tree.give_back();
    }

    /// All who wait for a stream whose handle is gone: the core will not tell them of one that was let go.
    pub(crate) fn forget(&mut self, stream: StreamId, notices: &mut Notices) {
        if !self.lists.released.is_empty()
            && let Some(list) = self.lists.released.remove(&stream)
        {
            self.slots.wake(list, notices);
        }
        self.wake_waiting_for(stream, notices);
    }

    /// All who accept from a listener.
    pub(crate) fn wake_acceptors(&mut self, listener: ListenerId, notices: &mut Notices) {
        if let Some(listener) = self.lists.listeners.remove(&listener) {
            notices.wakers.extend(listener.polling);
            self.slots.wake(listener.accepting, notices);
        }
    }

    /// All who accept: nothing more will come.
    pub(crate) fn wake_all_acceptors(&mut self, notices: &mut Notices) {
        for (_, listener) in self.lists.listeners.drain() {
            notices.wakers.extend(listener.polling);
            self.slots.wake(listener.accepting, notices);
        }
    }

    /// Those whom an event concerns.
    pub(crate) fn on_event(&mut self, event: Event, notices: &mut Notices) {
        match event {
            Event::Ready(stream, Interest::Read) => notices.wakers.extend(self.unwait(stream, Side::Read)),
            Event::Ready(stream, Interest::Write) => notices.wakers.extend(self.unwait(stream, Side::Write)),
            Event::Ready(stream, interest) => self.wake_stream(stream, interest, notices),
            Event::DatagramSettled(peer, datagram, fate) => {
                if let Some(to) = self.receipts.remove(&(peer, datagram)) {
                    notices.tell(Notice::Settled(to, Some(fate)));
                }
            }
            Event::Acceptable(listener) => self.wake_acceptors(listener, notices),
            Event::Connected(peer, _) => self.on_connected(peer, notices),
            Event::Disconnected(peer, _, reason) => self.on_disconnected(peer, &reason, notices),
            Event::Link(peer, status) => self.on_link(peer, status, notices),
            Event::ProbeReply(route, eid) => self.on_probe_reply(route, eid, notices),
            Event::Quiet(_) => {}
            // A core of a later version: nobody here can wait for it.
            other => debug_assert!(false, "the driver does not know the event {other:?}"),
        }
    }

    fn wake_stream(&mut self, stream: StreamId, wait: Interest, notices: &mut Notices) {
        let Some(tree) = self.lists.trees.get_mut(&stream.peer()) else {
            return;
        };
        if let Some(list) = tree.streams.remove((stream, wait)) {
            self.slots.wake(list, notices);
            tree.give_back();
        }
    }

    fn on_connected(&mut self, peer: PeerId, notices: &mut Notices) {
        if let Some(tree) = self.lists.trees.get_mut(&peer) {
            self.slots.wake(std::mem::take(&mut tree.connected), notices);
        }
    }

    fn on_link(&mut self, peer: PeerId, status: LinkStatus, notices: &mut Notices) {
        if status == LinkStatus::Up {
            self.on_connected(peer, notices);
        }
        if let Some(link) = self.lists.trees.get(&peer).and_then(|tree| tree.link.as_ref()) {
            notices.tell(Notice::Link(link.clone(), Some(status)));
        }
    }

    fn on_disconnected(&mut self, peer: PeerId, reason: &CloseReason, notices: &mut Notices) {
        let Some(mut tree) = self.lists.trees.remove(&peer) else {
            return;
        };
        if let Some(link) = tree.link.take() {
            notices.tell(Notice::Link(link, Some(LinkStatus::Down(reason.clone()))));
        }
        while let Some(waiter) = self.slots.pop(&mut tree.closed) {
            if let Waiter::Closed(to) = waiter {
                notices.tell(Notice::Closed(to, Some(reason.clone())));
            }
        }
        self.wake_tree(*tree, notices);
    }

    /// All who wait for something of a peer.
    fn wake_tree(&mut self, mut tree: Tree, notices: &mut Notices) {
        for (_, sides) in tree.sides.drain() {
            notices.wakers.extend(sides.reader.into_iter().chain(sides.writer));
        }
        for list in tree.streams.drain() {
            self.slots.wake(list, notices);
        }
        self.slots.wake(tree.connected, notices);
        self.slots.wake(tree.closed, notices);
        if let Some(link) = tree.link {
            notices.tell(Notice::Link(link, None));
        }
    }

    fn on_probe_reply(&mut self, route: Route, eid: Eid, notices: &mut Notices) {
        let address = route.direct_address();
        let Some(mut list) = address.and_then(|address| self.lists.probes.remove(&address)) else {
            return;
        };
        while let Some(waiter) = self.slots.pop(&mut list) {
            if let Waiter::Found(to) = waiter {
                notices.tell(Notice::Found(to, Some(eid)));
            }
        }
    }

    /// Everybody: the driver has stopped.
    pub(crate) fn wake_all(&mut self, notices: &mut Notices) {
        self.wake_all_acceptors(notices);
        for (_, tree) in std::mem::take(&mut self.lists.trees) {
            self.wake_tree(*tree, notices);
        }
        let lists = &mut self.lists;
        let others = lists.released.drain().map(|(_, list)| list);
        let others = others.chain(lists.probes.drain().map(|(_, list)| list));
        for list in others.chain([std::mem::take(&mut lists.stopped)]) {
            self.slots.wake(list, notices);
        }
        for (_, to) in self.receipts.drain() {
            notices.tell(Notice::Settled(to, None));
        }
    }
}

impl Slots<Key, Waiter> {
    /// Takes all of a list, wakes the tasks, and tells the others that it is over.
    fn wake(&mut self, mut list: List, notices: &mut Notices) {
        while let Some(waiter) = self.pop(&mut list) {
            match waiter {
                Waiter::Task(waker) => notices.wakers.push_back(waker),
                Waiter::Closed(to) => notices.tell(Notice::Closed(to, None)),
                Waiter::Found(to) => notices.tell(Notice::Found(to, None)),
                Waiter::Over(to) => notices.tell(Notice::Over(to)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
