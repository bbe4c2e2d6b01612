//! A host: one identity, its peers, and the sorting of datagrams among them.
//!
//! Up: `handle` sorts the datagrams of a batch ([`receive`]), opens them in place, and hands the frames to their peers.
//! Down: `poll` gives what is owed to nobody's channel first (replies of the negotiation), then events, then lets
//! the peers that have something to send fill the buffer, in turn.

mod api;
mod demux;
mod negotiate;
mod probes;
mod ready;
mod receive;
mod services;
mod stats;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use rand::SeedableRng;
use rand::rngs::StdRng;
use slab::Slab;
use sss_crypto::{StaticKey, schedule};
use sss_wire::Eid;

pub use api::ConnectError;
pub use services::Visibility;
pub use stats::HostStats;

use crate::config::Config;
use crate::ids::PeerId;
use crate::io::{Datagram, Ecn, Event, Input, Output, Transmit, TransmitBuf};
use crate::local_host::{History, LocalHost};
use crate::negotiation::{ChannelIds, Responder};
use crate::peer::{Context, Peer, Unheard};
use crate::seen::Sightings;
use crate::streams::HostBudget;
use crate::time::Instant;
use crate::token::Token;
use demux::Demux;
use probes::Probes;
use ready::ReadyQueue;
use services::{Route, Services};
use timers::Timers;

/// Replies of the negotiation that wait to be sent, at most.
const MAX_OUTBOX: usize = 1024;

/// One host of the protocol, without IO. See the crate's documentation.
pub struct Host {
    local: LocalHost,
    peers: Peers,
    demux: Demux,
    responder: Responder,
    services: Services,
    timers: Timers,
    queues: Queues,
    probes: Probes,
    resets: receive::Limit,
    /// Answers to hosts that are refused (NEG-23).
    refusals: receive::Limit,
    stats: HostStats,
    scratch: Scratch,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("eid", &self.local.eid)
            .finish_non_exhaustive()
    }
}

impl LocalHost {
    fn context(&mut self, now: Instant) -> Context<'_> {
        Context { now, host: self }
    }
}

/// What waits to be polled.
#[derive(Default)]
struct Queues {
    ready: ReadyQueue,
    outbox: VecDeque<Datagram>,
    events: VecDeque<Event>,
    /// A peer has more to do than is done in one call: others are to have their turn, and then it goes on.
    is_busy: bool,
}

/// Memory used again for every batch and packet.
#[derive(Default)]
struct Scratch {
    opened: Vec<receive::OpenedPacket>,
    tokens: Vec<Token>,
    touched: Vec<u32>,
}

/// The peers, by slot and by EID.
struct Peers {
    slots: Slab<Peer>,
    /// The peer on whose channel new streams to an EID are opened.
    by_eid: HashMap<Eid, u32, RandomState>,
    generation: u32,
}

impl Peers {
    fn get(&self, id: PeerId) -> Option<&Peer> {
        self.slots.get(id.index as usize).filter(|p| p.id() == id)
    }

    fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.slots.get_mut(id.index as usize).filter(|p| p.id() == id)
    }

    fn at(&mut self, index: u32) -> Option<&mut Peer> {
        self.slots.get_mut(index as usize)
    }

    /// The id that the next peer inserted will have.
    fn next_id(&mut self) -> PeerId {
        self.generation = self.generation.wrapping_add(1);
        PeerId {
            index: u32::try_from(self.slots.vacant_key()).unwrap_or(u32::MAX),
            generation: self.generation,
        }
    }

    fn insert(&mut self, peer: Peer) -> u32 {
        let eid = *peer.eid();
        let index = self.insert_unlisted(peer);
        self.by_eid.insert(eid, index);
        index
    }

    /// As [`Self::insert`], but new streams are not opened there.
    fn insert_unlisted(&mut self, peer: Peer) -> u32 {
        u32::try_from(self.slots.insert(peer)).unwrap_or(u32::MAX)
    }

    /// Takes the peer out of the directory; its slot stays while the application holds its streams.
    fn forget_eid(&mut self, index: u32) {
        let Some(peer) = self.slots.get(index as usize) else {
            return;
        };
        if self.by_eid.get(peer.eid()) == Some(&index) {
            self.by_eid.remove(peer.eid());
        }
    }
}

impl Host {
    /// A host with the given identity. All its randomness comes from `seed`, which must be fresh entropy
    /// outside of simulations.
    pub fn new(config: Config, identity: StaticKey, seed: [u8; 32]) -> Self {
        let backlog = config.streams.backlog;
        let mut rng = StdRng::from_seed(seed);
        let eid = Eid::from_public_key(&identity.public());
        let mut reset_key = [0; 32];
        schedule::label(&*identity.to_bytes(), "reset key", b"", &mut reset_key);
        let responder = Responder::new(&config, &mut rng);
        Self {
            local: LocalHost {
                ids: ChannelIds::new(config.channel_id_len, &mut rng),
                key: identity,
                eid,
                config: Arc::new(config),
                rng,
                reset_key,
                budget: HostBudget::default(),
                history: History::default(),
                sightings: Sightings::default(),
            },
            peers: Peers {
                slots: Slab::new(),
                by_eid: HashMap::default(),
                generation: 0,
            },
            demux: Demux::new(),
            responder,
            services: Services::new(backlog),
            timers: Timers::default(),
            queues: Queues::default(),
            probes: Probes::default(),
            resets: receive::Limit::default(),
            refusals: receive::Limit::default(),
            stats: HostStats::default(),
            scratch: Scratch::default(),
        }
    }

    /// This host's name.
    pub fn eid(&self) -> Eid {
        self.local.eid
    }

    /// What was received, sent and dropped so far.
    pub fn stats(&self) -> HostStats {
        self.stats.clone()
    }

    /// Takes in datagrams, or the passing of time. Bad packets are counted and dropped.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Datagrams(batch) => self.receive(now, batch),
            Input::Tick => {}
        }
        self.run_timers(now);
    }

    /// Gives out what is to be sent or told next. To be called until it answers [`Output::Wake`].
    pub fn poll(&mut self, now: Instant, buf: &mut TransmitBuf) -> Output {
        self.run_timers(now);
        if let Some(datagram) = self.queues.outbox.pop_front() {
            return Output::Transmit(self.send_outside(&datagram, buf));
        }
        loop {
            if let Some(event) = self.poll_event() {
                return Output::Event(event);
            }
            if std::mem::take(&mut self.queues.is_busy) {
                return Output::Wake(Some(now));
            }
            let Some(index) = self.queues.ready.pop() else {
                return Output::Wake(self.timers.next());
            };
            if let Some(transmit) = self.transmit_for(now, index, buf) {
                return Output::Transmit(transmit);
            }
        }
    }

    /// The next event alone. A driver that lets the application act on all events of a receive batch before it polls
    /// for datagrams gets acknowledgements and answers into the same packets.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.queues.events.pop_front()
    }

    /// Queues a datagram that belongs to no channel; drops it when too many wait.
    fn push_datagram(&mut self, remote: SocketAddr, bytes: Vec<u8>) {
        if self.queues.outbox.len() < MAX_OUTBOX {
            self.queues.outbox.push_back(Datagram { remote, bytes });
        }
    }

    fn send_outside(&mut self, datagram: &Datagram, buf: &mut TransmitBuf) -> Transmit {
        buf.put(&datagram.bytes);
        self.stats.datagrams_sent += 1;
        self.stats.bytes_sent += buf.len() as u64;
        Transmit {
            remote: datagram.remote,
            local: None,
            ecn: Ecn::NotEct,
            segment: buf.len(),
        }
    }

    /// Lets one peer fill the buffer. It stays ready, behind the others, as long as it does.
    fn transmit_for(&mut self, now: Instant, index: u32, buf: &mut TransmitBuf) -> Option<Transmit> {
        buf.clear();
        let peer = self.peers.at(index)?;
        let mut context = self.local.context(now);
        let transmit = peer.transmit(&mut context, buf, &mut self.scratch.tokens);
        let has_work = peer.streams().has_work();
        if transmit.is_some() || has_work {
            self.queues.ready.insert(index);
        }
        if transmit.is_some() {
            let datagrams = transmit.map_or(0, |t| buf.len().div_ceil(t.segment.max(1)));
            self.stats.datagrams_sent += datagrams as u64;
            self.stats.bytes_sent += buf.len() as u64;
        } else {
            self.queues.is_busy = has_work;
        }
        self.settle(index);
        transmit
    }

    fn run_timers(&mut self, now: Instant) {
        while let Some(index) = self.timers.pop_due(now) {
            let Some(peer) = self.peers.at(index) else {
                continue;
            };
            peer.on_timer(&mut self.local.context(now), &mut self.queues.outbox);
            self.settle(index);
            self.mark_ready(index);
        }
    }

    /// Whether some peer may have something to send.
    pub fn is_ready(&self) -> bool {
        !self.queues.ready.is_empty()
    }

    /// Puts a peer in the queue of those that may have something to send.
    fn mark_ready(&mut self, index: u32) {
        if self.peers.slots.contains(index as usize) {
            self.queues.ready.insert(index);
        }
    }

    /// Carries a change of a peer to the rest of the host: names, timer, events, and its end.
    fn settle(&mut self, index: u32) {
        let Some(peer) = self.peers.slots.get_mut(index as usize) else {
            return;
        };
        if let Some(change) = peer.take_name_change() {
            self.demux.apply(index, &change);
        }
        for end in peer.transport_mut().channels_mut().take_unheard() {
            match end {
                Unheard::Attempt(attempt, end) => self.local.history.note_end(&attempt, end),
                Unheard::Tree(ended) => self.local.history.note_tree_end(ended),
            }
        }
        self.timers.set(index, peer.next_timer());
        Self::collect(peer, &mut self.services, &mut self.queues.events, &mut self.stats);
        if peer.tree().has_ended() {
            self.services.forget(peer.id());
            self.peers.forget_eid(index);
            self.remove_if_unused(index);
        }
    }

    /// Moves a peer's events to the host's, and its new top-level streams to the listeners.
    fn collect(peer: &mut Peer, services: &mut Services, events: &mut VecDeque<Event>, stats: &mut HostStats) {
        while let Some(opened) = peer.streams_mut().take_incoming() {
            let (key, id) = (opened.key, peer.stream_id(opened.key));
            match services.route(&opened.service, &opened.protocol) {
                Ok(Route::Listener(listener)) => match services.push(listener, (id, *peer.eid())) {
                    Ok(true) => events.push_back(Event::Acceptable(listener)),
                    Ok(false) => {}
                    Err(code) => {
                        stats.streams_refused += 1;
                        peer.streams_mut().refuse(key, code);
                    }
                },
                Ok(Route::List) => peer.streams_mut().answer(key, services.list()),
                Err(code) => {
                    stats.streams_refused += 1;
                    peer.streams_mut().refuse(key, code);
                }
            }
        }
        while let Some(event) = peer.next_event() {
            events.push_back(event);
        }
    }

    /// Frees the slot of a peer that is down and of whose streams the application holds none.
    fn remove_if_unused(&mut self, index: u32) {
        let Some(peer) = self.peers.at(index) else {
            return;
        };
        if peer.is_gone() && peer.is_unused() && !self.queues.ready.contains(index) {
            self.timers.set(index, None);
            self.peers.slots.remove(index as usize);
        }
    }
}
