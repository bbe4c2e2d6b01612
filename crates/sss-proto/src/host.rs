//! A host: one identity, its peers, and the sorting of datagrams among them.
//!
//! Up: [`Host::handle`] sorts the datagrams of a batch ([`receive`]), opens them in place, and hands the frames to
//! their peers; packets of the [negotiation](negotiate) are answered at once. Down: [`Host::poll`] gives what is owed
//! to nobody's channel first ([`outbox`]), then events, then lets the peers that have something to send fill the
//! buffer, in turn ([`ready`]); answers to strangers that took no work go between them. What follows from a change of a
//! peer is in [`peers`], what the application does with a stream in [`stream`].

mod aside;
mod census;
mod demux;
mod ending;
mod ghosts;
mod negotiate;
mod outbox;
mod peers;
mod probes;
mod ready;
mod receive;
mod relays;
mod seeking;
mod services;
mod stats;
mod stream;
#[cfg(test)]
mod tests;
mod timers;

use std::net::IpAddr;
use std::sync::Arc;

use rand::RngExt;
use sss_crypto::{StaticKey, schedule};
use sss_wire::services::{ProtocolInfo, SERVICE, ServiceInfo};
use sss_wire::{Code, Eid, long, reach};
use zeroize::Zeroizing;

pub use ending::fail;
pub use seeking::{Introduced, begun_with};
pub use services::{Visibility, check_names};
pub use stats::HostStats;
pub use stream::Stream;

use crate::channel::ChannelInfo;
use crate::config::Config;
use crate::entropy::{Entropy, Randomness};
use crate::error::{CloseReason, ListenError, NegotiationError, OpenError};
use crate::ids::{ListenerId, PeerId, StreamId, TreeId};
use crate::io::{Ecn, Event, Input, LinkStatus, Output, Transmit, TransmitBuf};
use crate::limit::{Limit, Rule};
use crate::local_host::{History, LocalHost, Process};
use crate::negotiation::{ChannelIds, Greeter, GreeterStats, Responder, attempt_name};
use crate::peer::{Arrival, Context, Peer, PeerStats};
use crate::route::Route;
use crate::seen::{PathHint, Seen, Sightings};
use crate::streams::{DatagramStats, HostBudget, StreamInfo, SubtreeDelivery, SubtreeInfo, TreeNode};
use crate::time::Instant;
use crate::token::Token;
use aside::Aside;
use negotiate::Admission;
use outbox::Outbox;
use peers::Peers;
use probes::Probes;
use receive::{Reception, Scratch};
use relays::Relays;

/// Bytes that tell hosts with the same identity apart, at most.
const MAX_CONTEXT: usize = 255;

/// One host of the protocol, without IO. See the crate's documentation.
pub struct Host {
    local: LocalHost,
    peers: Peers,
    admission: Admission,
    outbox: Outbox,
    probes: Probes,
    relays: Relays,
    /// Stateless resets.
    resets: Limit,
    stats: HostStats,
    scratch: Scratch,
    aside: Aside,
    tokens: Vec<Token>,
    /// A peer has more to do than is done in one call: others are to have their turn, and then it goes on.
    is_busy: bool,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("eid", &self.local.eid)
            .finish_non_exhaustive()
    }
}

/// Reasons why a connection cannot even be tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The negotiation cannot begin.
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    /// The first stream cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// The loop.
impl Host {
    /// A host with the given identity. All its randomness comes from `entropy`: that of the operating system, or 32
    /// bytes in simulations. To be polled soon: its age counts from then on (MIG-30).
    pub fn new(config: Config, identity: StaticKey, entropy: impl Into<Entropy>) -> Self {
        let (backlog, limits, seeks) = (config.streams.backlog, config.peers, config.seeks);
        let mut rng = Randomness::new(entropy.into());
        let eid = Eid::from_public_key(&identity.public());
        let reset_key = reset_key(&identity, &config);
        let peers = Peers::new(backlog, limits);
        let responder = Responder::new(&config, peers.networks().clone(), &mut rng);
        let (refusals, resets) = [Rule::ANSWERS; 2].map(|rule| Limit::new(rule, rng.random())).into();
        Self {
            local: LocalHost {
                ids: ChannelIds::new(config.channel_id_len, config.shard, &mut rng),
                key: identity,
                eid,
                config: Arc::new(config),
                process: Process::new(&mut rng),
                rng,
                reset_key,
                budget: HostBudget::default(),
                history: History::default(),
                has_many_ghosts: false,
                sightings: Sightings::default(),
                servers: Vec::new(),
            },
            peers,
            admission: Admission { responder, refusals },
            outbox: Outbox::default(),
            probes: Probes::default(),
            relays: Relays::default(),
            resets,
            stats: HostStats::default(),
            scratch: Scratch::default(),
            aside: Aside::new(seeks),
            tokens: Vec::new(),
            is_busy: false,
        }
    }

    /// This host's name.
    pub fn eid(&self) -> Eid {
        self.local.eid
    }

    /// Returns what was received, sent and dropped so far.
    pub fn stats(&self) -> HostStats {
        let mut stats = self.stats.clone();
        stats.streams_refused = self.peers.streams_refused;
        stats
    }

    /// Takes in datagrams, or the passing of time. Bad packets are counted and dropped.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Datagrams(batch) => self.reception(now, Arrival::of(&batch)).receive(batch),
            Input::Admitted { remote, local, packet } => {
                let arrival = Arrival {
                    route: Route::udp(remote),
                    local,
                    ecn: Ecn::NotEct,
                };
                self.reception(now, arrival).receive_admitted(packet);
            }
            Input::Stray(packet) => {
                if let Err(reason) = self.peers.on_reset(&mut self.local, now, packet) {
                    self.stats.count_drop(reason);
                }
            }
            Input::Tick => {}
        }
        self.run_timers(now);
    }

    /// Gives out what is to be sent or told next. To be called until it answers [`Output::Wake`].
    pub fn poll(&mut self, now: Instant, buf: &mut TransmitBuf) -> Output {
        self.local.process.note(now);
        self.run_timers(now);
        if let Some(transmit) = self.outbox.transmit(buf) {
            self.stats.count_sent(buf, transmit.segment);
            return Output::Transmit(transmit);
        }
        loop {
            if let Some(event) = self.poll_event() {
                return Output::Event(event);
            }
            if std::mem::take(&mut self.is_busy) {
                return Output::Wake(Some(now));
            }
            let peers_wait = !self.peers.ready.is_empty();
            if let Some(transmit) = self.outbox.transmit_hint(peers_wait, buf) {
                self.stats.count_sent(buf, transmit.segment);
                return Output::Transmit(transmit);
            }
            let Some(index) = self.peers.ready.pop() else {
                return Output::Wake(self.peers.next_timer());
            };
            self.outbox.note_turn();
            if let Some(transmit) = self.transmit_for(now, index, buf) {
                return Output::Transmit(transmit);
            }
        }
    }

    /// The next event alone. A driver that lets the application act on all events of a receive batch before it polls
    /// for datagrams gets acknowledgements and answers into the same packets.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.peers.events.pop_front();
        event.or_else(|| self.aside.pop_stray().map(Event::Stray))
    }

    fn reception(&mut self, now: Instant, arrival: Arrival) -> Reception<'_> {
        Reception {
            now,
            arrival,
            local: &mut self.local,
            relays: &mut self.relays,
            peers: &mut self.peers,
            admission: &mut self.admission,
            outbox: &mut self.outbox,
            probes: &mut self.probes,
            resets: &mut self.resets,
            stats: &mut self.stats,
            scratch: &mut self.scratch,
            aside: &mut self.aside,
        }
    }

    /// Lets one peer fill the buffer. It stays ready, behind the others, as long as there may be more.
    fn transmit_for(&mut self, now: Instant, index: u32, buf: &mut TransmitBuf) -> Option<Transmit> {
        buf.clear();
        let peer = self.peers.at(index)?;
        let mut context = Context::new(now, &mut self.local);
        let transmit = peer.transmit(&mut context, buf, &mut self.tokens);
        let has_work = peer.streams().has_work();
        if transmit.is_some() || has_work {
            self.peers.mark_if_ready(now, index);
        }
        match transmit {
            Some(transmit) => self.stats.count_sent(buf, transmit.segment),
            None => self.is_busy = has_work,
        }
        self.peers.settle_but_timer(&mut self.local, index);
        transmit
    }

    fn run_timers(&mut self, now: Instant) {
        self.peers.run_timers(now, &mut self.local, self.outbox.attempts());
    }

    /// Returns whether some peer may have something to send.
    pub fn is_ready(&self) -> bool {
        !self.peers.ready.is_empty()
    }
}

/// Floods.
impl Host {
    /// Gives the [greeter](Greeter) away, so that it can do its part on another thread: it is to be given all HELLOs
    /// and HELLO_Ks, and what it admits goes to [`Self::handle`] as [`Input::Admitted`]. Until it is
    /// [given back](Self::give_back), all others are dropped here. `None` while it is away.
    pub fn lend_greeter(&mut self) -> Option<Greeter> {
        self.admission.responder.lend_greeter(&mut self.local.rng)
    }

    /// Takes the greeter of this host back, and counts what it did since its counters were last taken.
    pub fn give_back(&mut self, mut greeter: Greeter) {
        self.note_greeted(&greeter.take_stats());
        self.admission.responder.give_back(greeter);
    }

    /// Counts what the greeter has done while it is lent.
    pub fn note_greeted(&mut self, stats: &GreeterStats) {
        self.stats.add(stats);
    }

    /// Returns how many HELLOs and HELLO_Ks were told to prove their address, or dropped, because there were too many.
    pub fn greetings_denied(&self) -> u64 {
        self.stats.greetings_denied
    }
}

/// PRT-11: the same after a restart, and another for each host that has the same identity.
fn reset_key(identity: &StaticKey, config: &Config) -> Zeroizing<[u8; 32]> {
    let context = [&config.port.to_be_bytes(), config.instance.as_bytes()].concat();
    let mut key = Zeroizing::new([0; 32]);
    let context = context.get(..context.len().min(MAX_CONTEXT)).unwrap_or_default();
    schedule::label(&*identity.to_bytes(), "reset key", context, &mut *key);
    key
}

/// A peer that says what it should not.
#[cfg(any(test, fuzzing))]
impl Host {
    /// Makes the next packet to a peer, with a plaintext that is given. Returns where it is to go, and its bytes;
    /// nothing if there is no open channel, or the plaintext is empty or too long.
    pub fn forge(&mut self, now: Instant, peer: PeerId, plaintext: &[u8]) -> Option<(Route, Vec<u8>)> {
        self.peers.get_mut(peer)?.forge(now, plaintext)
    }
}

/// Services.
impl Host {
    /// Takes streams that peers open towards `service`, speaking `protocol`.
    ///
    /// # Errors
    /// If the pair is taken, the service name is reserved, or a name is empty or longer than 255 bytes; or if the host
    /// has ended.
    pub fn listen(&mut self, service: &str, protocol: &str) -> Result<ListenerId, ListenError> {
        let service = ServiceInfo::new(service, "", vec![ProtocolInfo::new(protocol, "")]);
        self.offer(&service, Visibility::Listed)
    }

    /// Takes streams that peers open towards `service`, speaking any of its protocols, and describes it to peers that
    /// ask what there is. [`Self::stream_info`] tells which protocol a stream was opened for.
    ///
    /// # Errors
    /// If one of the pairs is taken, the service name is reserved, no protocol is given, a name is empty or longer than
    /// 255 bytes, or a description is longer than 1024; or if the host has ended. Then nothing is offered.
    pub fn offer(&mut self, service: &ServiceInfo, visibility: Visibility) -> Result<ListenerId, ListenError> {
        self.local.process.check_listening()?;
        self.peers.services.offer(service, visibility)
    }

    /// Takes no more streams, and refuses those not yet accepted.
    pub fn unlisten(&mut self, listener: ListenerId) {
        self.peers.unlisten(&mut self.local, listener);
    }

    /// The next stream that a peer opened towards the listener. On `None`,
    /// [`Event::Acceptable`](crate::Event::Acceptable) follows when there is one.
    pub fn accept(&mut self, listener: ListenerId) -> Option<(StreamId, Eid)> {
        loop {
            let (stream, eid) = self.peers.services.accept(listener)?;
            let accepted = self.stream(stream).accept_top_level();
            if accepted {
                self.stats.streams_accepted += 1;
                return Some((stream, eid));
            }
        }
    }
}

/// Peers.
impl Host {
    /// Opens a stream to a service of the host `eid`, on the channel there is, or by negotiating one
    /// by any of the routes in `hints`.
    ///
    /// The stream can be used at once. [`Event::Connected`](crate::Event::Connected) or
    /// [`Event::Disconnected`](crate::Event::Disconnected) follows if there was no channel.
    ///
    /// # Errors
    /// If no address is known, the EID is this host's own or unusable, or a name is empty or too long.
    pub fn connect(
        &mut self,
        now: Instant,
        eid: Eid,
        (service, protocol): (&str, &str),
        hints: &[Route],
    ) -> Result<StreamId, ConnectError> {
        if self.local.process.is_ending() {
            return Err(OpenError::Lost(self.local.process.end_reason()).into());
        }
        check_names(service, protocol)?;
        // NEG-19
        if eid == self.local.eid && !self.local.config.allow_own_eid {
            return Err(NegotiationError::OwnEid.into());
        }
        // RCH-40
        if (service, protocol) == (SERVICE, reach::PROTOCOL) {
            self.local.add_servers(hints);
        }
        let hints = &*self.local.permitted(hints)?;
        let known = self.peers.by_eid(&eid);
        let dormant = known.and_then(|i| self.peers.at(i)).filter(|p| p.is_dormant());
        let index = match (dormant, known) {
            // The peer may have lost a tree of which nothing is left here: a new one is begun.
            (Some(dormant), _) => {
                let addresses = [hints, dormant.transport().mobility().hints()].concat();
                let others = dormant.tree().latest();
                self.begin(now, eid, &addresses, others)?
            }
            (None, Some(index)) => index,
            (None, None) => self.begin(now, eid, hints, Vec::new())?,
        };
        let peer = self.peers.at(index).ok_or(NegotiationError::NoAddress)?;
        peer.transport_mut().add_hints(now, hints);
        let id = peer.id();
        let opened = peer.streams_mut().open_top_level(service, protocol);
        self.peers.settle_ready(&mut self.local, index);
        let key = opened?;
        Ok(StreamId { peer: id, key })
    }

    fn begin(&mut self, now: Instant, eid: Eid, hints: &[Route], others: Vec<TreeId>) -> Result<u32, NegotiationError> {
        let mut peer = self.peers.make(now, &mut self.local, eid);
        peer.connect(&mut Context::new(now, &mut self.local), hints, others)?;
        let index = self.peers.insert(peer);
        self.peers.settle(&mut self.local, index);
        Ok(index)
    }

    /// This host's addresses have changed: peers are reached on new channels, from where the host is now (MIG-13).
    ///
    /// `has_moved` is asked for each peer, with the route to it and the local address in use if the socket told it,
    /// whether the way to that peer has changed.
    pub fn network_changed(&mut self, now: Instant, mut has_moved: impl FnMut(&Route, Option<IpAddr>) -> bool) {
        let indices: Vec<u32> = self.peers.iter().map(|peer| peer.id().index).collect();
        for index in indices {
            if let Some(peer) = self.peers.at(index) {
                peer.transport_mut().on_network_change(&mut has_moved);
            }
            self.peers.settle(&mut self.local, index);
        }
        self.local.history.saved_paths.on_network_change(has_moved);
        self.run_timers(now);
    }

    /// The way to the only peer of a host that offers nothing: the route, and the local address in use if the
    /// socket told it. Such a host may take another port when it moves, and nobody misses it (MIG-13).
    pub fn sole_path(&self) -> Option<(Route, Option<IpAddr>)> {
        let mut peers = self.peers.iter();
        let only = peers.next().filter(|_| self.peers.services.is_empty())?;
        let path = only.transport().path()?;
        peers.next().is_none().then_some((path.route, path.local))
    }

    /// Routes by which the host `eid` may be reached. They are tried when it does not answer where it was, and at once
    /// by an attempt under way. The latest 8 of a peer are kept. Nothing happens if the peer is not known.
    pub fn add_hints(&mut self, now: Instant, eid: &Eid, hints: &[Route]) {
        if let (Some(index), Ok(hints)) = (self.peers.by_eid(eid), self.local.permitted(hints)) {
            if let Some(peer) = self.peers.at(index) {
                peer.transport_mut().add_hints(now, &hints);
            }
            self.peers.settle(&mut self.local, index);
            self.run_timers(now);
        }
    }

    /// The state of the way to a peer. `None` if the peer is not known any more.
    pub fn link_status(&self, peer: PeerId) -> Option<LinkStatus> {
        let mobility = self.peers.get(peer)?.transport().mobility();
        Some(mobility.status().clone())
    }

    /// Returns whether the peer's channel is established. `None` if the peer is not known any more.
    pub fn is_connected(&self, peer: PeerId) -> Option<bool> {
        self.peers.get(peer).map(Peer::is_up)
    }

    /// The peer's name. `None` if the peer is not known any more; it is known at least as long as the application holds
    /// a stream of it.
    pub fn peer_eid(&self, peer: PeerId) -> Option<Eid> {
        self.peers.get(peer).map(|peer| *peer.eid())
    }

    /// Returns why the peer's tree of streams ended, if it did.
    pub fn close_reason(&self, peer: PeerId) -> Option<CloseReason> {
        self.peers.get(peer)?.tree().close_reason().cloned()
    }

    /// Asks the host at the end of a route for its EID; [`Event::ProbeReply`](crate::Event::ProbeReply) follows if
    /// it answers. The answer is not authenticated. At most 1,024 questions are out at once; the oldest is forgotten
    /// then. Returns false if this host does not send anything there.
    pub fn probe(&mut self, route: Route) -> bool {
        if !self.local.may_use(&route) {
            return false;
        }
        let nonce = attempt_name(None, self.local.config.shard, &mut self.local.rng);
        self.probes.ask(nonce, route);
        self.outbox.reply((route, None), long::probe(&nonce));
        true
    }

    /// Ends the peer's tree of streams: CLOSE on each of its channels. What was not yet acknowledged is lost.
    pub fn disconnect(&mut self, now: Instant, peer: PeerId, code: Code, reason: &str) {
        self.peers
            .with(&mut self.local, peer, |peer| peer.close(now, code, reason));
    }

    /// Gives up the attempt to reach a peer for the first time, unless somebody waits for it: the application holds a
    /// stream of the peer, or has finished one that is still to be delivered. Returns whether it was given up; then
    /// [`Event::Disconnected`](crate::Event::Disconnected) follows. To be called when a `connect` whose time is over
    /// has released its stream.
    pub fn abandon(&mut self, now: Instant, peer: PeerId) -> bool {
        let given_up = self.peers.with(&mut self.local, peer, |peer| peer.abandon(now));
        self.peers.remove_if_unused(peer.index);
        given_up == Some(true)
    }

    /// Returns why the attempt under way to reach a peer would fail now: for a caller whose patience is shorter than
    /// the host's [`connect_timeout`](crate::Config::connect_timeout). `None` if no first attempt is under way.
    pub fn negotiation_failure(&self, now: Instant, peer: PeerId) -> Option<NegotiationError> {
        let attempts = self.peers.get(peer)?.transport().attempts();
        attempts.failure(now, &self.local.sightings)
    }

    /// The operating system says something of a route. It is told by [`NegotiationError::NoAnswer`], and
    /// changes nothing else: anybody can forge it. The latest 1,024 routes are remembered.
    pub fn note_path(&mut self, now: Instant, route: Route, hint: PathHint) {
        let seen = match hint {
            PathHint::Unreachable => Seen::Unreachable,
            PathHint::TooLarge => Seen::TooLarge,
            PathHint::NoRoute => Seen::NoRoute,
            PathHint::Forbidden => Seen::Forbidden,
        };
        self.local.sightings.note(now, route, seen);
    }

    /// Returns whether nothing more is to be sent: no channel is open, opening or closing, and no stream waits for one.
    pub fn is_idle(&self) -> bool {
        self.outbox.is_empty() && self.peers.iter().all(Peer::is_idle)
    }

    /// The peers there are, those included whose tree ended while streams of it are still held.
    pub fn peers(&self) -> Vec<(PeerId, Eid)> {
        self.peers.iter().map(|p| (p.id(), *p.eid())).collect()
    }

    /// Returns what the peer's channel looks like. `None` before it is negotiated and after it ended.
    pub fn channel_info(&self, peer: PeerId) -> Option<ChannelInfo> {
        self.peers.get(peer)?.transport().info()
    }

    /// Totals of the peer over all its channels. `None` if the peer is not known any more.
    pub fn peer_stats(&self, peer: PeerId) -> Option<PeerStats> {
        self.peers.get(peer).map(Peer::stats)
    }

    /// A snapshot of the peer's streams, parents before children. Takes time in proportion to their number.
    pub fn tree(&self, peer: PeerId) -> Vec<TreeNode> {
        self.peers.get(peer).map(|p| p.report().tree()).unwrap_or_default()
    }

    /// Returns how many streams the peer's tree holds.
    pub fn stream_count(&self, peer: PeerId) -> usize {
        self.peers.get(peer).map_or(0, |p| p.streams().len())
    }
}

/// Streams.
impl Host {
    /// A stream, to be used.
    pub fn stream(&mut self, id: StreamId) -> Stream<'_> {
        Stream {
            peers: &mut self.peers,
            local: &mut self.local,
            id,
        }
    }

    /// The streams of a subtree of which something was sent, or is to be sent, and is not acknowledged; with the
    /// position up to which each was written. Takes time in proportion to the subtree.
    pub fn undelivered(&self, stream: StreamId) -> Vec<(StreamId, u64)> {
        let peer = stream.peer;
        let streams = self.peers.get(peer).map(|p| p.streams().undelivered(stream.key));
        let streams = streams.unwrap_or_default().into_iter();
        streams.map(|(key, end)| (StreamId { peer, key }, end)).collect()
    }

    /// Returns what became of everything that was sent below a stream. Takes time in proportion to the number of
    /// streams.
    pub fn delivery(&self, stream: StreamId) -> Option<SubtreeDelivery> {
        self.peers.get(stream.peer)?.streams().delivery(stream.key)
    }

    /// The largest datagram that the peer takes, in bytes; 0: none. The largest that there can be, as long as the peer
    /// has not said. `None` if the peer is not known any more.
    pub fn max_datagram_size(&self, peer: PeerId) -> Option<u64> {
        self.peers.get(peer).map(|p| p.streams().max_datagram())
    }

    /// Counters of the datagrams exchanged with a peer.
    pub fn datagram_stats(&self, peer: PeerId) -> Option<DatagramStats> {
        self.peers.get(peer).map(|p| p.streams().datagram_stats())
    }

    /// Returns what is known about a stream.
    pub fn stream_info(&self, stream: StreamId) -> Option<StreamInfo> {
        self.peers.get(stream.peer)?.report().stream(stream.key)
    }

    /// Sums over a stream and all streams below it. Takes time in proportion to their number.
    pub fn subtree_info(&self, stream: StreamId) -> Option<SubtreeInfo> {
        self.peers.get(stream.peer)?.streams().subtree_info(stream.key)
    }
}
