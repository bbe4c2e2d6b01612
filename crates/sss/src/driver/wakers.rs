//! Who waits for what. An entry exists only while somebody waits.

use std::net::SocketAddr;
use std::task::Waker;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use sss_proto::{CloseReason, DatagramFate, DatagramId, Event, LinkStatus, ListenerId, PeerId, StreamId};
use sss_wire::Eid;
use tokio::sync::{oneshot, watch};

/// Everybody who waits for something of a host.
#[derive(Default)]
pub(crate) struct Waiters {
    streams: HashMap<StreamId, StreamWaiters, RandomState>,
    listeners: HashMap<ListenerId, Vec<Waker>, RandomState>,
    peers: HashMap<PeerId, Vec<PeerWaiter>, RandomState>,
    released: HashMap<StreamId, oneshot::Sender<()>, RandomState>,
    datagrams: HashMap<(PeerId, DatagramId), oneshot::Sender<DatagramFate>, RandomState>,
    links: HashMap<PeerId, watch::Sender<LinkStatus>, RandomState>,
    probes: HashMap<SocketAddr, Vec<oneshot::Sender<Eid>>, RandomState>,
    stopped: Vec<oneshot::Sender<()>>,
}

/// What of a stream a task may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Readable,
    Writable,
    Substream,
    Drained,
    /// For everything written to be sent.
    Sent,
    /// For everything written to be acknowledged.
    Acknowledged,
    Consumed,
    /// For a datagram to arrive.
    Datagram,
    /// For room for a datagram.
    DatagramRoom,
}

/// Those who wait for a stream. Reading and writing take an exclusive handle: one task each.
#[derive(Default)]
struct StreamWaiters {
    reader: Option<Waker>,
    writer: Option<Waker>,
    others: Vec<(Wait, Waker)>,
}

impl StreamWaiters {
    fn add(&mut self, wait: Wait, waker: &Waker) {
        match wait {
            Wait::Readable => set(&mut self.reader, waker),
            Wait::Writable => set(&mut self.writer, waker),
            other => {
                if !self
                    .others
                    .iter()
                    .any(|(w, known)| *w == other && known.will_wake(waker))
                {
                    self.others.push((other, waker.clone()));
                }
            }
        }
    }

    fn take(&mut self, wait: Wait, wakes: &mut Vec<Waker>) {
        match wait {
            Wait::Readable => wakes.extend(self.reader.take()),
            Wait::Writable => wakes.extend(self.writer.take()),
            other => wakes.extend(self.others.extract_if(.., |(w, _)| *w == other).map(|(_, waker)| waker)),
        }
    }

    fn take_all(self, wakes: &mut Vec<Waker>) {
        wakes.extend(self.reader);
        wakes.extend(self.writer);
        wakes.extend(self.others.into_iter().map(|(_, waker)| waker));
    }

    fn is_empty(&self) -> bool {
        self.reader.is_none() && self.writer.is_none() && self.others.is_empty()
    }
}

fn set(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(known) => known.clone_from(waker),
        none => *none = Some(waker.clone()),
    }
}

/// Somebody who waits for a turn of a peer's channel.
enum PeerWaiter {
    Connected(oneshot::Sender<Result<(), CloseReason>>),
    Closed(oneshot::Sender<CloseReason>),
}

impl PeerWaiter {
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Connected(tx) => tx.is_closed(),
            Self::Closed(tx) => tx.is_closed(),
        }
    }
}

impl Waiters {
    /// Remembers a task that waits for something of a stream.
    pub(crate) fn wait(&mut self, stream: StreamId, wait: Wait, waker: &Waker) {
        self.streams.entry(stream).or_default().add(wait, waker);
    }

    /// Adds to `wakes` all who wait for a stream.
    pub(crate) fn wake_waiting_for(&mut self, stream: StreamId, wakes: &mut Vec<Waker>) {
        if let Some(waiters) = self.streams.remove(&stream) {
            waiters.take_all(wakes);
        }
    }

    /// Forgets a stream whose handle is gone, and gives those who wait for it all the same.
    pub(crate) fn forget(&mut self, stream: StreamId) -> impl Iterator<Item = Waker> + use<> {
        if !self.released.is_empty() {
            self.released.remove(&stream);
        }
        let waiters = if self.streams.is_empty() {
            None
        } else {
            self.streams.remove(&stream)
        };
        let others = waiters.map(|w| w.others).unwrap_or_default();
        others
            .into_iter()
            .filter(|(wait, _)| *wait == Wait::Drained)
            .map(|(_, waker)| waker)
    }

    /// Ends, without a message, when the handle of a stream is gone, or the driver has stopped.
    pub(crate) fn released(&mut self, stream: StreamId) -> oneshot::Receiver<()> {
        let (tx, rx) = oneshot::channel();
        self.released.insert(stream, tx);
        rx
    }

    /// Remembers a task that waits to accept.
    pub(crate) fn wait_acceptable(&mut self, listener: ListenerId, waker: &Waker) {
        let wakers = self.listeners.entry(listener).or_default();
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    /// Forgets all who wait to accept, and gives them.
    pub(crate) fn take_acceptors(&mut self, listener: ListenerId) -> Vec<Waker> {
        self.listeners.remove(&listener).unwrap_or_default()
    }

    /// Tells whether the channel of a peer is made or failed.
    pub(crate) fn connected(&mut self, peer: PeerId) -> oneshot::Receiver<Result<(), CloseReason>> {
        let (tx, rx) = oneshot::channel();
        self.add_peer_waiter(peer, PeerWaiter::Connected(tx));
        rx
    }

    /// Tells when the channel of a peer has ended.
    pub(crate) fn closed(&mut self, peer: PeerId) -> oneshot::Receiver<CloseReason> {
        let (tx, rx) = oneshot::channel();
        self.add_peer_waiter(peer, PeerWaiter::Closed(tx));
        rx
    }

    /// Follows the way to a peer, which is `now` so.
    pub(crate) fn watch_link(&mut self, peer: PeerId, now: LinkStatus) -> watch::Receiver<LinkStatus> {
        let links = &mut self.links;
        links.retain(|_, link| link.receiver_count() > 0);
        links.entry(peer).or_insert_with(|| watch::channel(now).0).subscribe()
    }

    fn add_peer_waiter(&mut self, peer: PeerId, waiter: PeerWaiter) {
        let waiters = self.peers.entry(peer).or_default();
        waiters.retain(|w| !w.is_abandoned());
        waiters.push(waiter);
    }

    /// Tells what becomes of a datagram.
    pub(crate) fn settled(&mut self, peer: PeerId, datagram: DatagramId) -> oneshot::Receiver<DatagramFate> {
        let (tx, rx) = oneshot::channel();
        self.datagrams.insert((peer, datagram), tx);
        rx
    }

    /// Tells who is at an address.
    pub(crate) fn probe(&mut self, address: SocketAddr) -> oneshot::Receiver<Eid> {
        let (tx, rx) = oneshot::channel();
        let waiters = self.probes.entry(address).or_default();
        waiters.retain(|w| !w.is_closed());
        waiters.push(tx);
        rx
    }

    /// Forgets those probers of an address that gave up.
    pub(crate) fn forget_probes(&mut self, address: SocketAddr) {
        if let Entry::Occupied(mut entry) = self.probes.entry(address) {
            entry.get_mut().retain(|w| !w.is_closed());
            if entry.get().is_empty() {
                entry.remove();
            }
        }
    }

    /// Tells when the driver has stopped.
    pub(crate) fn stopped(&mut self) -> oneshot::Receiver<()> {
        let (tx, rx) = oneshot::channel();
        self.stopped.push(tx);
        rx
    }

    /// Adds to `wakes` those whom an event concerns.
    pub(crate) fn on_event(&mut self, event: Event, wakes: &mut Vec<Waker>) {
        match event {
            Event::Readable(stream) => self.wake_stream(stream, Wait::Readable, wakes),
            Event::Writable(stream) => self.wake_stream(stream, Wait::Writable, wakes),
            Event::SubstreamReady(stream) => self.wake_stream(stream, Wait::Substream, wakes),
            Event::Drained(stream) => self.wake_stream(stream, Wait::Drained, wakes),
            Event::Sent(stream) => self.wake_stream(stream, Wait::Sent, wakes),
            Event::Acknowledged(stream) => self.wake_stream(stream, Wait::Acknowledged, wakes),
            Event::Consumed(stream) => self.wake_stream(stream, Wait::Consumed, wakes),
            Event::DatagramReadable(stream) => self.wake_stream(stream, Wait::Datagram, wakes),
            Event::DatagramWritable(stream) => self.wake_stream(stream, Wait::DatagramRoom, wakes),
            Event::DatagramSettled(peer, datagram, fate) => {
                if let Some(waiter) = self.datagrams.remove(&(peer, datagram)) {
                    // Whoever dropped the receipt is not interested.
                    let _ = waiter.send(fate);
                }
            }
            Event::Acceptable(listener) => wakes.append(&mut self.take_acceptors(listener)),
            Event::Connected(peer, _) => self.on_connected(peer),
            Event::Disconnected(peer, _, reason) => self.on_disconnected(peer, &reason, wakes),
            Event::Link(peer, status) => self.on_link(peer, status),
            Event::ProbeReply(address, eid) => {
                for waiter in self.probes.remove(&address).unwrap_or_default() {
                    // A prober that gave up is not interested.
                    let _ = waiter.send(eid);
                }
            }
            // A core of a later version: nobody here can wait for it.
            other => debug_assert!(false, "the driver does not know the event {other:?}"),
        }
    }

    fn wake_stream(&mut self, stream: StreamId, wait: Wait, wakes: &mut Vec<Waker>) {
        if let Entry::Occupied(mut entry) = self.streams.entry(stream) {
            entry.get_mut().take(wait, wakes);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
    }

    fn on_connected(&mut self, peer: PeerId) {
        let Some(waiters) = self.peers.get_mut(&peer) else {
            return;
        };
        for waiter in waiters.extract_if(.., |w| matches!(w, PeerWaiter::Connected(_))) {
            if let PeerWaiter::Connected(tx) = waiter {
                let _ = tx.send(Ok(()));
            }
        }
        if waiters.is_empty() {
            self.peers.remove(&peer);
        }
    }

    fn on_link(&mut self, peer: PeerId, status: LinkStatus) {
        if status == LinkStatus::Up {
            self.on_connected(peer);
        }
        if let Some(link) = self.links.get(&peer) {
            link.send_replace(status);
        }
    }

    fn on_disconnected(&mut self, peer: PeerId, reason: &CloseReason, wakes: &mut Vec<Waker>) {
        if let Some(link) = self.links.remove(&peer) {
            link.send_replace(LinkStatus::Down(reason.clone()));
        }
        for waiter in self.peers.remove(&peer).unwrap_or_default() {
            let _ = match waiter {
                PeerWaiter::Connected(tx) => tx.send(Err(reason.clone())).is_ok(),
                PeerWaiter::Closed(tx) => tx.send(reason.clone()).is_ok(),
            };
        }
        for (_, waiters) in self.streams.extract_if(|stream, _| stream.peer() == peer) {
            waiters.take_all(wakes);
        }
    }

    /// Wakes all who accept: nothing more will come.
    pub(crate) fn wake_acceptors(&mut self, wakes: &mut Vec<Waker>) {
        wakes.extend(self.listeners.drain().flat_map(|(_, wakers)| wakers));
    }

    /// Wakes everybody: the driver has stopped.
    pub(crate) fn wake_all(&mut self, wakes: &mut Vec<Waker>) {
        self.wake_acceptors(wakes);
        for (_, waiters) in self.streams.drain() {
            waiters.take_all(wakes);
        }
        self.peers.clear();
        self.released.clear();
        self.datagrams.clear();
        self.links.clear();
        self.probes.clear();
        for waiter in self.stopped.drain(..) {
            let _ = waiter.send(());
        }
    }
}
