//! The peers of a host, and what follows from their changes: under which names they are found, when they are called
//! again, whose turn it is to send, and what the application is told.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::hash_table::Entry;
use hashbrown::{HashMap, HashTable};
use slab::Slab;
use sss_wire::{Code, Eid};

use super::census::{Census, Full};
use super::demux::Demux;
use super::ghosts::Ghosts;
use super::ready::ReadyQueue;
use super::services::{Recipient, Services};
use super::timers::Timers;
use crate::config::PeerLimits;
use crate::error::DropReason;
use crate::ids::{ListenerId, PeerId, StreamKey};
use crate::io::{Datagram, Event, LinkStatus};
use crate::local_host::LocalHost;
use crate::nearby::{Nearby, Networks};
use crate::network::Network;
use crate::peer::{Context, Peer, Unheard};
use crate::route::Route;
use crate::time::Instant;

/// Trees whose peers are asked whether they are there, when there is no room for another one.
const LOOKED_FOR: usize = 128;

type Slots = Slab<Box<Peer>>;

/// Slots of the peers on whose channels new streams are opened, by the EIDs that the peers have.
#[derive(Default)]
struct ByEid {
    table: HashTable<u32>,
    hasher: RandomState,
    overtaken: Overtaken,
}

impl ByEid {
    fn get(&self, slots: &Slots, eid: &Eid) -> Option<u32> {
        let hash = self.hasher.hash_one(Some(eid));
        self.table.find(hash, |slot| eid_at(slots, *slot) == Some(eid)).copied()
    }

    /// Sets the slot for an EID: that of a peer which has it.
    fn set(&mut self, slots: &Slots, eid: &Eid, slot: u32) {
        let entry = self.table.entry(
            self.hasher.hash_one(Some(eid)),
            |slot| eid_at(slots, *slot) == Some(eid),
            |slot| self.hasher.hash_one(eid_at(slots, *slot)),
        );
        match entry {
            Entry::Occupied(mut entry) => *entry.get_mut() = slot,
            Entry::Vacant(entry) => drop(entry.insert(slot)),
        }
    }

    fn remove(&mut self, slots: &Slots, eid: &Eid) {
        let hash = self.hasher.hash_one(Some(eid));
        if let Ok(entry) = self.table.find_entry(hash, |slot| eid_at(slots, *slot) == Some(eid)) {
            entry.remove();
        }
    }
}

/// Slots of trees that this host has begun, and beside which new streams are opened on another one. They are few: the
/// peer has begun a tree too, or one of which nothing was left here was followed by another.
#[derive(Default)]
struct Overtaken(HashMap<Eid, Vec<u32>, RandomState>);

impl Overtaken {
    fn add(&mut self, eid: Eid, slot: u32) {
        self.0.entry(eid).or_default().push(slot);
    }

    /// A tree is not to be found here any more, if it was.
    fn remove(&mut self, eid: &Eid, slot: u32) {
        if let Some(slots) = self.0.get_mut(eid) {
            slots.retain(|other| *other != slot);
            if slots.is_empty() {
                self.0.remove(eid);
            }
        }
    }

    fn of(&self, eid: &Eid) -> impl Iterator<Item = u32> {
        self.0.get(eid).into_iter().flatten().copied()
    }
}

fn eid_at(slots: &Slots, slot: u32) -> Option<&Eid> {
    slots.get(slot as usize).map(|peer| peer.eid())
}

/// The peers, by slot and by EID, and the queues that they are in.
pub(super) struct Peers {
    /// Each in a place of its own: a table of them would be half empty, and be copied whenever it grows.
    slots: Slots,
    by_eid: ByEid,
    generation: u32,
    pub(super) demux: Demux,
    pub(super) services: Services,
    pub(super) ready: ReadyQueue,
    timers: Timers,
    census: Census,
    ghosts: Ghosts,
    nearby: Nearby,
    pub(super) events: VecDeque<Event>,
    /// Streams to services that were refused.
    pub(super) streams_refused: u64,
}

/// Which there are.
impl Peers {
    /// No peers, of which there may be so many; services that let so many streams of each wait.
    pub(super) fn new(backlog: usize, limits: PeerLimits) -> Self {
        Self {
            slots: Slab::new(),
            by_eid: ByEid::default(),
            generation: 0,
            demux: Demux::new(),
            services: Services::new(backlog),
            ready: ReadyQueue::default(),
            timers: Timers::default(),
            census: Census::new(limits),
            ghosts: Ghosts::new(limits.unheard),
            nearby: Nearby::default(),
            events: VecDeque::new(),
            streams_refused: 0,
        }
    }

    pub(super) fn get(&self, id: PeerId) -> Option<&Peer> {
        let peer = self.slots.get(id.index as usize).map(Box::as_ref);
        peer.filter(|peer| peer.id() == id)
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        let peer = self.slots.get_mut(id.index as usize).map(Box::as_mut);
        peer.filter(|peer| peer.id() == id)
    }

    pub(super) fn at(&mut self, index: u32) -> Option<&mut Peer> {
        self.slots.get_mut(index as usize).map(Box::as_mut)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.slots.iter().map(|(_, peer)| &**peer)
    }

    /// The peer on whose channel new streams to an EID are opened.
    pub(super) fn by_eid(&self, eid: &Eid) -> Option<u32> {
        self.by_eid.get(&self.slots, eid)
    }

    /// The time when the tree was begun on which new streams to an EID are opened.
    pub(super) fn begun_with(&self, eid: &Eid) -> Option<Instant> {
        let index = usize::try_from(self.by_eid(eid)?).ok()?;
        self.slots.get(index)?.tree().began()
    }

    /// The networks of peers with a channel.
    pub(super) fn networks(&self) -> &Networks {
        self.nearby.networks()
    }

    /// A route leads nowhere any more: no attempt begins by it.
    pub(super) fn forget_routes(&mut self, is_gone: impl Fn(&Route) -> bool) {
        for (_, peer) in &mut self.slots {
            peer.transport_mut().forget_hints(&is_gone);
        }
    }

    /// The peer whose attempt it is.
    pub(super) fn by_attempt(&mut self, attempt: &[u8; 8]) -> Option<(u32, &mut Peer)> {
        let index = self.demux.attempt(attempt)?;
        Some((index, self.at(index)?))
    }

    /// A peer without anything. Its id names the slot that is free now: it is to be inserted before any other.
    pub(super) fn make(&mut self, now: Instant, local: &mut LocalHost, eid: Eid) -> Peer {
        self.generation = self.generation.wrapping_add(1);
        let id = PeerId {
            index: u32::try_from(self.slots.vacant_key()).unwrap_or(u32::MAX),
            generation: self.generation,
        };
        Peer::new(id, eid, &mut Context::new(now, local))
    }

    pub(super) fn insert(&mut self, peer: Peer) -> u32 {
        let eid = *peer.eid();
        let before = self.by_eid(&eid);
        let index = self.insert_unlisted(peer);
        self.by_eid.set(&self.slots, &eid, index);
        // Those that others have begun are found in the census.
        if let Some(before) = before.filter(|before| self.census.network(*before).is_none()) {
            self.by_eid.overtaken.add(eid, before);
        }
        index
    }

    /// As [`Self::insert`], but new streams are not opened there.
    pub(super) fn insert_unlisted(&mut self, peer: Peer) -> u32 {
        u32::try_from(self.slots.insert(Box::new(peer))).unwrap_or(u32::MAX)
    }

    /// Takes the peer out of the directory; its slot stays while the application holds its streams. New streams go to
    /// the newest of the trees that are left (NEG-20).
    fn forget_eid(&mut self, index: u32) {
        let Some(peer) = self.slots.get(index as usize) else {
            return;
        };
        let eid = *peer.eid();
        self.by_eid.overtaken.remove(&eid, index);
        if self.by_eid(&eid) != Some(index) {
            return;
        }
        let left = self.by_eid.overtaken.of(&eid).chain(self.census.newest_of(&eid, index));
        let newest = left.max_by_key(|slot| self.slots.get(*slot as usize).map(|peer| peer.id().generation));
        match newest {
            Some(newest) => {
                self.by_eid.overtaken.remove(&eid, newest);
                self.by_eid.set(&self.slots, &eid, newest);
            }
            None => self.by_eid.remove(&self.slots, &eid),
        }
    }

    /// Frees the slot of a peer that is down and of whose streams the application holds none.
    pub(super) fn remove_if_unused(&mut self, index: u32) {
        let Some(peer) = self.slots.get(index as usize) else {
            return;
        };
        if peer.is_gone() && peer.is_unused() && !self.ready.contains(index) {
            self.timers.set(index, None);
            self.slots.remove(index as usize);
        }
    }
}

/// Carrying out what follows from a change.
impl Peers {
    /// Carries a change of a peer to the rest of the host: names, timer, events, and its end.
    pub(super) fn settle(&mut self, local: &mut LocalHost, index: u32) {
        self.settle_but_timer(local, index);
        self.set_stale_timers();
    }

    /// As [`Self::settle`], for what happens with each packet: the peer is asked for its timer when the host is about
    /// to wait.
    pub(super) fn settle_but_timer(&mut self, local: &mut LocalHost, index: u32) {
        let Some(peer) = self.slots.get_mut(index as usize) else {
            return;
        };
        if let Some(change) = peer.take_name_change() {
            self.demux.apply(index, &change);
        }
        for end in peer.transport_mut().channels_mut().take_unheard() {
            match end {
                Unheard::Attempt(attempt, end) => local.history.note_end(&attempt, end),
                Unheard::Tree(ended) => local.history.note_tree_end(ended),
            }
        }
        for (path, saved) in peer.transport_mut().channels_mut().take_saved() {
            local.history.saved_paths.note(*peer.eid(), &path, saved);
        }
        if local.config.key_log {
            let secrets = peer.transport_mut().take_secrets();
            self.events.extend(secrets.into_iter().map(Event::Secret));
        }
        if local.config.seeks && peer.transport_mut().take_new_attempt() {
            self.events.push_back(Event::Seeking(peer.id(), *peer.eid()));
        }
        self.timers.note_change(index);
        let (id, has_ended) = (peer.id(), peer.tree().has_ended());
        self.nearby
            .set(index, peer.transport().network().filter(|_| !has_ended));
        if gather(peer, &mut self.services, &mut self.events, &mut self.streams_refused) {
            self.ghosts.note_change(index);
        }
        if has_ended {
            self.census.leave(index);
            self.ghosts.leave(index);
            self.services.forget(id);
            self.forget_eid(index);
            self.remove_if_unused(index);
        }
    }

    /// As [`Self::settle`]; and the peer may have something to send.
    pub(super) fn settle_ready(&mut self, local: &mut LocalHost, index: u32) {
        self.settle(local, index);
        self.mark_ready(index);
    }

    /// Ends the channel that a packet is a stateless reset of. False if it is none (PRT-13).
    ///
    /// # Errors
    /// If it is dropped all the same.
    pub(super) fn on_reset(&mut self, local: &mut LocalHost, now: Instant, packet: &[u8]) -> Result<bool, DropReason> {
        let token = packet.last_chunk::<16>();
        let Some((token, index)) = token.and_then(|token| Some((token, self.demux.reset_token(token)?))) else {
            return Ok(false);
        };
        let peer = self.at(index).ok_or(DropReason::UnknownChannel)?;
        peer.on_stateless_reset(now, token)?;
        self.settle_ready(local, index);
        Ok(true)
    }

    /// Puts a peer in the queue of those that may have something to send.
    pub(super) fn mark_ready(&mut self, index: u32) {
        if self.slots.contains(index as usize) {
            self.ready.insert(index);
        }
    }

    /// The same, after a packet has arrived or was sent. Most leave nothing to send.
    pub(super) fn mark_if_ready(&mut self, now: Instant, index: u32) {
        if self
            .slots
            .get(index as usize)
            .is_some_and(|peer| peer.may_transmit(now))
        {
            self.ready.insert(index);
        }
    }

    /// Runs `f` on a peer for the application, and carries the consequences to the host.
    pub(super) fn with<R>(&mut self, local: &mut LocalHost, id: PeerId, f: impl FnOnce(&mut Peer) -> R) -> Option<R> {
        let peer = self.slots.get_mut(id.index as usize).filter(|p| p.id() == id)?;
        let result = f(peer);
        if peer.has_output() {
            self.ready.insert(id.index);
        }
        if peer.is_settled() {
            if gather(peer, &mut self.services, &mut self.events, &mut self.streams_refused) {
                self.ghosts.note_change(id.index);
            }
        } else {
            self.settle(local, id.index);
        }
        Some(result)
    }

    /// Refuses streams that were not accepted and will not be.
    pub(super) fn unlisten(&mut self, local: &mut LocalHost, listener: ListenerId) {
        for (stream, _) in self.services.unlisten(listener) {
            self.streams_refused += 1;
            self.with(local, stream.peer, |peer| {
                peer.streams_mut().refuse(stream.key, Code::REFUSED_SERVICE);
            });
        }
    }
}

/// The limits to their number (NEG-35).
impl Peers {
    /// Counts a tree that a peer has begun from a network.
    pub(super) fn count(&mut self, local: &LocalHost, index: u32, from: Network) {
        if let Some(peer) = self.slots.get_mut(index as usize) {
            let network = self.census.enter(index, *peer.eid(), from);
            let budget = local.budget.of_network(network);
            peer.streams_mut().set_host(budget, local.config.streams);
        }
    }

    /// Makes room for a tree that a peer wants to begin, by ending the oldest that has no stream; or else the oldest
    /// that may be the ghost of a process that is gone: nothing is heard of it. For the limit of all, any such ghost;
    /// or the newest one of the network that has most, whatever it does, if the peer's own would still have fewer.
    ///
    /// # Errors
    /// LIMIT if there is no such tree.
    pub(super) fn make_room(&mut self, now: Instant, local: &mut LocalHost, of: (&Eid, Network)) -> Result<(), Code> {
        while let Some(full) = self.census.full(of.0, of.1) {
            let (oldest, any) = match full {
                Full::OfSome(oldest) => (oldest, None),
                Full::OfAll(oldest) => {
                    let of_most = self.census.newest_of_most(of.1);
                    (oldest, self.ghosts.first().or(of_most))
                }
            };
            let find = |is_wanted: fn(&Peer) -> bool| {
                let mut found = oldest.iter().copied();
                found.find(|i| self.slots.get(*i as usize).is_some_and(|peer| is_wanted(peer)))
            };
            let goes = find(|peer| peer.streams().len() == 0).or_else(|| find(is_ghost));
            let Some(goes) = goes.or(any) else {
                self.look_for_ghosts(local, oldest.into_iter().take(LOOKED_FOR));
                return Err(Code::LIMIT);
            };
            if let Some(peer) = self.slots.get_mut(goes as usize) {
                peer.close(now, Code::LIMIT, "others need the room");
            }
            self.census.leave(goes);
            self.ghosts.leave(goes);
            self.settle_ready(local, goes);
        }
        Ok(())
    }

    /// Ends trees of whose peers nothing is heard, if they are too many.
    fn give_up_ghosts(&mut self, now: Instant, local: &mut LocalHost) {
        for index in self.ghosts.take_changed() {
            let peer = self.slots.get(index as usize);
            match (peer.is_some_and(|peer| is_ghost(peer)), self.census.network(index)) {
                (true, Some(network)) => self.ghosts.enter(index, network, now),
                _ => self.ghosts.leave(index),
            }
        }
        while let Some(index) = self.ghosts.surplus(now) {
            self.ghosts.leave(index);
            if let Some(peer) = self.slots.get_mut(index as usize) {
                peer.close(now, Code::LIMIT, "nothing was heard, and others need the room");
            }
            self.settle_ready(local, index);
        }
        local.has_many_ghosts = self.ghosts.is_full();
    }

    /// Those that do not answer are known to be gone when the peer tries again.
    fn look_for_ghosts(&mut self, local: &mut LocalHost, among: impl Iterator<Item = u32>) {
        for index in among {
            if let Some(peer) = self.slots.get_mut(index as usize) {
                peer.transport_mut().ask();
            }
            self.settle_ready(local, index);
        }
    }
}

/// Time.
impl Peers {
    /// A peer may want to be called at another moment: it is asked when the host is about to wait.
    pub(super) fn note_timer(&mut self, id: PeerId) {
        if self.get(id).is_some() {
            self.timers.note_change(id.index);
        }
    }

    /// Returns when [`Self::run_timers`] is to be called.
    pub(super) fn next_timer(&mut self) -> Option<Instant> {
        self.set_stale_timers();
        self.timers.next()
    }

    fn set_stale_timers(&mut self) {
        while let Some(index) = self.timers.pop_stale() {
            let at = self.slots.get_mut(index as usize).and_then(|peer| peer.next_timer());
            self.timers.set(index, at);
        }
    }

    /// Calls the peers whose time has come, as far as is known.
    pub(super) fn run_timers(&mut self, now: Instant, local: &mut LocalHost, outbox: &mut VecDeque<Datagram>) {
        while let Some(index) = self.timers.pop_due(now) {
            let Some(peer) = self.slots.get_mut(index as usize) else {
                continue;
            };
            peer.on_timer(&mut Context::new(now, local), outbox);
            self.settle_ready(local, index);
        }
        self.give_up_ghosts(now, local);
    }
}

/// Returns whether nothing is heard of a peer.
fn is_ghost(peer: &Peer) -> bool {
    !peer.tree().has_ended() && *peer.transport().mobility().status() != LinkStatus::Up
}

/// Moves a peer's events to the host's, and its new top-level streams to the listeners. Returns whether the way to the
/// peer has changed.
fn gather(peer: &mut Peer, services: &mut Services, events: &mut VecDeque<Event>, refused: &mut u64) -> bool {
    while let Some(opened) = peer.streams_mut().take_incoming() {
        let names = (&*opened.service, &*opened.protocol);
        match welcome(peer, opened.key, names, services) {
            Ok(None) => {}
            Ok(Some(listener)) => events.push_back(Event::Acceptable(listener)),
            Err(code) => {
                *refused += 1;
                peer.streams_mut().refuse(opened.key, code);
            }
        }
    }
    let mut has_changed = false;
    while let Some(event) = peer.next_event() {
        has_changed |= matches!(event, Event::Link(..));
        events.push_back(event);
    }
    has_changed
}

/// Finds who takes a stream that a peer has opened; it is answered here if the host itself does. Returns the listener
/// that is to be told.
///
/// # Errors
/// The code with which it is refused.
fn welcome(
    peer: &mut Peer,
    key: StreamKey,
    (service, protocol): (&[u8], &[u8]),
    services: &mut Services,
) -> Result<Option<ListenerId>, Code> {
    match services.route(service, protocol)? {
        Recipient::Listener(listener) => {
            let stream = peer.stream_id(key);
            let is_wanted = services.push(listener, (stream, *peer.eid()))?;
            Ok(is_wanted.then_some(listener))
        }
        Recipient::List => {
            peer.streams_mut().answer(key, services.list());
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use sss_crypto::StaticKey;

    use super::*;
    use crate::config::Config;
    use crate::error::CloseReason;
    use crate::host::Host;

    const NOW: Instant = Instant::from_nanos(1_000_000_000);

    // spec: NEG-20
    #[test]
    fn new_streams_go_to_the_newest_tree_of_an_eid_that_is_left() {
        for seed in 0..20 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut host = Host::new(Config::default(), StaticKey::from_bytes([1; 32]), [2; 32]);
            let eids: Vec<Eid> = (0..30).map(|n| Eid::from_public_key(&[n; 32])).collect();
            // The trees on which streams may be opened, in the order in which they were begun.
            let mut model: Vec<(Eid, PeerId)> = Vec::new();
            let mut unlisted = Vec::new();
            for _ in 0..1000 {
                let eid = eids[rng.random_range(0..eids.len())];
                let Host { peers, local, .. } = &mut host;
                let mut make = |peers: &mut Peers| {
                    let peer = peers.make(NOW, local, eid);
                    (peer.id(), peer)
                };
                match rng.random_range(0..10) {
                    kind @ 0..4 => {
                        let (id, peer) = make(peers);
                        let index = peers.insert(peer);
                        model.push((eid, id));
                        if kind < 2 {
                            let network = Network::V4(rng.random_range(0_u8..9).into());
                            peers.count(local, index, network);
                            peers.ghosts.enter(index, network, NOW);
                        }
                    }
                    4 => {
                        let (id, peer) = make(peers);
                        peers.insert_unlisted(peer);
                        unlisted.push(id);
                    }
                    5 if !unlisted.is_empty() => {
                        let id = unlisted.swap_remove(rng.random_range(0..unlisted.len()));
                        peers.with(local, id, |peer| peer.fail(CloseReason::PeerRestarted));
                    }
                    6.. if !model.is_empty() => {
                        let (_, id) = model.remove(rng.random_range(0..model.len()));
                        peers.with(local, id, |peer| peer.fail(CloseReason::PeerRestarted));
                    }
                    _ => {}
                }
                for eid in &eids {
                    let newest = model.iter().rfind(|tree| tree.0 == *eid).map(|tree| tree.1);
                    let found = host.peers.by_eid(eid);
                    assert_eq!(found, newest.map(|id| id.index), "seed {seed}");
                    assert!(
                        host.peers.by_eid.overtaken.of(eid).all(|slot| Some(slot) != found),
                        "seed {seed}"
                    );
                }
            }
            assert!(model.iter().all(|(_, id)| host.peers.get(*id).is_some()));
            for (_, id) in model {
                host.disconnect(NOW, id, Code::NONE, "");
            }
            assert!(host.peers.by_eid.overtaken.0.is_empty(), "seed {seed}");
            assert!(host.peers.by_eid.table.is_empty(), "seed {seed}");
            assert_eq!(host.peers.ghosts.first(), None, "seed {seed}");
        }
    }
}
