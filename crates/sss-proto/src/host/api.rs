//! What the application asks of a host. After each call the driver polls the host.

use std::net::{IpAddr, SocketAddr};
use std::task::Poll;

use bytes::Bytes;
use rand::RngExt;
use sss_wire::services::{ProtocolInfo, ServiceInfo};
use sss_wire::{Code, Eid, long};

use super::{Host, Visibility};
use crate::channel::ChannelInfo;
use crate::error::{CloseReason, DatagramError, ListenError, NegotiationError, OpenError, ReadError, WriteError};
use crate::ids::{DatagramId, ListenerId, PeerId, StreamId, TreeId};
use crate::io::LinkStatus;
use crate::peer::{Peer, PeerStats};
use crate::seen::{PathHint, Seen};
use crate::streams::{
    DatagramOptions, DatagramStats, ListenMode, ReadOutcome, StreamInfo, SubtreeDelivery, SubtreeInfo, TreeNode,
};
use crate::time::Instant;

/// Why a connection cannot even be tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The negotiation cannot begin.
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    /// The first stream cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Services.
impl Host {
    /// Takes streams that peers open towards `service`, speaking `protocol`.
    ///
    /// # Errors
    /// If the pair is taken, the service name is reserved, or a name is empty or longer than 255 bytes.
    pub fn listen(&mut self, service: &str, protocol: &str) -> Result<ListenerId, ListenError> {
        let service = ServiceInfo::new(service, "", vec![ProtocolInfo::new(protocol, "")]);
        self.offer(&service, Visibility::Listed)
    }

    /// Takes streams that peers open towards `service`, speaking any of its protocols, and describes it to peers that
    /// ask what there is. [`Self::stream_info`] tells which protocol a stream was opened for.
    ///
    /// # Errors
    /// If one of the pairs is taken, the service name is reserved, no protocol is given, a name is empty or longer than
    /// 255 bytes, or a description is longer than 1024. Then nothing is offered.
    pub fn offer(&mut self, service: &ServiceInfo, visibility: Visibility) -> Result<ListenerId, ListenError> {
        self.services.offer(service, visibility)
    }

    /// Takes no more streams, and refuses those not yet accepted.
    pub fn unlisten(&mut self, listener: ListenerId) {
        for (stream, _) in self.services.unlisten(listener) {
            self.stats.streams_refused += 1;
            self.with_peer(stream.peer, |peer| {
                peer.streams_mut().refuse(stream.key, Code::REFUSED_SERVICE)
            });
        }
    }

    /// The next stream that a peer opened towards the listener. On `None`,
    /// [`Event::Acceptable`](crate::Event::Acceptable) follows when there is one.
    pub fn accept(&mut self, listener: ListenerId) -> Option<(StreamId, Eid)> {
        loop {
            let (stream, eid) = self.services.accept(listener)?;
            let accepted = self.with_peer(stream.peer, |peer| peer.streams_mut().accept_top_level(stream.key));
            if accepted == Some(true) {
                self.stats.streams_accepted += 1;
                return Some((stream, eid));
            }
        }
    }
}

/// Peers.
impl Host {
    /// Opens a stream to a service of the host `eid`, on the channel there is, or by negotiating one
    /// with any of the addresses in `hints`.
    ///
    /// The stream can be used at once. [`Event::Connected`](crate::Event::Connected) or
    /// [`Event::Disconnected`](crate::Event::Disconnected) follows if there was no channel.
    ///
    /// # Errors
    /// If no address is known, the EID is this host's own or unusable, or a name is too long.
    pub fn connect(
        &mut self,
        now: Instant,
        eid: Eid,
        (service, protocol): (&str, &str),
        hints: &[SocketAddr],
    ) -> Result<StreamId, ConnectError> {
        // NEG-19
        if eid == self.local.eid && !self.local.config.allow_own_eid {
            return Err(NegotiationError::OwnEid.into());
        }
        let known = self.peers.by_eid.get(&eid).copied();
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
        self.settle(index);
        self.mark_ready(index);
        let key = opened?;
        Ok(StreamId { peer: id, key })
    }

    fn begin(
        &mut self,
        now: Instant,
        eid: Eid,
        hints: &[SocketAddr],
        others: Vec<TreeId>,
    ) -> Result<u32, NegotiationError> {
        let id = self.peers.next_id();
        let mut peer = Peer::new(id, eid, &mut self.local.context(now));
        peer.connect(&mut self.local.context(now), hints, others)?;
        let index = self.peers.insert(peer);
        self.settle(index);
        Ok(index)
    }

    /// This host's addresses have changed: peers are reached on new channels, from where the host is now (MIG-13).
    ///
    /// `has_moved` is asked for each peer, with the peer's address and the local one in use if the socket told it,
    /// whether the way to that peer has changed.
    pub fn network_changed(&mut self, now: Instant, mut has_moved: impl FnMut(SocketAddr, Option<IpAddr>) -> bool) {
        let indices: Vec<u32> = self.peers.slots.iter().map(|(_, peer)| peer.id().index).collect();
        for index in indices {
            if let Some(peer) = self.peers.at(index) {
                peer.transport_mut().on_network_change(&mut has_moved);
            }
            self.settle(index);
        }
        self.run_timers(now);
    }

    /// Addresses at which the host `eid` may be found. They are tried when it does not answer where it was, and at once
    /// by an attempt under way. The latest 8 of a peer are kept. Nothing happens if the peer is not known.
    pub fn add_hints(&mut self, now: Instant, eid: &Eid, hints: &[SocketAddr]) {
        if let Some(index) = self.peers.by_eid.get(eid).copied() {
            if let Some(peer) = self.peers.at(index) {
                peer.transport_mut().add_hints(now, hints);
            }
            self.settle(index);
            self.run_timers(now);
        }
    }

    /// The state of the way to a peer. `None` if the peer is not known any more.
    pub fn link_status(&self, peer: PeerId) -> Option<LinkStatus> {
        let mobility = self.peers.get(peer)?.transport().mobility();
        Some(mobility.status().clone())
    }

    /// Whether the peer's channel is established. `None` if the peer is not known any more.
    pub fn is_connected(&self, peer: PeerId) -> Option<bool> {
        self.peers.get(peer).map(Peer::is_up)
    }

    /// The peer's name. `None` if the peer is not known any more; it is known at least as long as the application holds
    /// a stream of it.
    pub fn peer_eid(&self, peer: PeerId) -> Option<Eid> {
        self.peers.get(peer).map(|peer| *peer.eid())
    }

    /// Why the peer's tree of streams ended, if it did.
    pub fn close_reason(&self, peer: PeerId) -> Option<CloseReason> {
        self.peers.get(peer)?.tree().close_reason().cloned()
    }

    /// Asks the host at an address for its EID; [`Event::ProbeReply`](crate::Event::ProbeReply) follows if
    /// it answers. The answer is not authenticated. At most 1,024 questions are out at once; the oldest is forgotten
    /// then.
    pub fn probe(&mut self, address: SocketAddr) {
        let nonce: [u8; 8] = self.local.rng.random();
        self.probes.ask(nonce, address);
        self.push_datagram(address, long::probe(&nonce));
    }

    /// Ends the peer's tree of streams: CLOSE on each of its channels. What was not yet acknowledged is lost.
    pub fn disconnect(&mut self, now: Instant, peer: PeerId, code: Code, reason: &str) {
        self.with_peer(peer, |peer| peer.close(now, code, reason));
    }

    /// Ends the trees of all peers with CLOSE.
    pub fn shutdown(&mut self, now: Instant) {
        let ids: Vec<PeerId> = self.peers.slots.iter().map(|(_, peer)| peer.id()).collect();
        for id in ids {
            self.disconnect(now, id, Code::SHUTDOWN, "the host is shutting down");
        }
    }

    /// Gives up the attempt to reach a peer for the first time, unless somebody waits for it: the application holds a
    /// stream of the peer, or has finished one that is still to be delivered. Returns whether it was given up; then
    /// [`Event::Disconnected`](crate::Event::Disconnected) follows. To be called when a `connect` whose time is over
    /// has released its stream.
    pub fn abandon(&mut self, now: Instant, peer: PeerId) -> bool {
        let given_up = self.with_peer(peer, |peer| peer.abandon(now));
        self.remove_if_unused(peer.index);
        given_up == Some(true)
    }

    /// Why the attempt under way to reach a peer would fail now: for a caller whose patience is shorter than the host's
    /// [`connect_timeout`](crate::Config::connect_timeout). `None` if no first attempt is under way.
    pub fn negotiation_failure(&self, now: Instant, peer: PeerId) -> Option<NegotiationError> {
        let attempts = self.peers.get(peer)?.transport().attempts();
        attempts.failure(now, &self.local.sightings)
    }

    /// The operating system says something of the way to an address. It is told by [`NegotiationError::NoAnswer`], and
    /// changes nothing else: anybody can forge it. The latest 1,024 addresses are remembered.
    pub fn note_path(&mut self, now: Instant, remote: SocketAddr, hint: PathHint) {
        let seen = match hint {
            PathHint::Unreachable => Seen::Unreachable,
            PathHint::TooLarge => Seen::TooLarge,
        };
        self.local.sightings.note(now, remote, seen);
    }

    /// Whether nothing more is to be sent: no channel is open, opening or closing, and no stream waits for one.
    pub fn is_idle(&self) -> bool {
        self.queues.outbox.is_empty() && self.peers.slots.iter().all(|(_, peer)| peer.is_idle())
    }

    /// The peers there are, those included whose tree ended while streams of it are still held.
    pub fn peers(&self) -> Vec<(PeerId, Eid)> {
        self.peers.slots.iter().map(|(_, p)| (p.id(), *p.eid())).collect()
    }

    /// What the peer's channel looks like. `None` before it is negotiated and after it ended.
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

    /// How many streams the peer's tree holds.
    pub fn stream_count(&self, peer: PeerId) -> usize {
        self.peers.get(peer).map_or(0, |p| p.streams().len())
    }

    /// Runs `f` on a peer, and carries the consequences to the host.
    fn with_peer<R>(&mut self, id: PeerId, f: impl FnOnce(&mut Peer) -> R) -> Option<R> {
        let peer = self.peers.get_mut(id)?;
        let result = f(peer);
        if peer.has_output() {
            self.mark_ready(id.index);
        }
        self.after_call(id.index);
        Some(result)
    }

    /// What an application's call can have changed: events, and the end of the peer.
    fn after_call(&mut self, index: u32) {
        let Some(peer) = self.peers.at(index) else {
            return;
        };
        if peer.is_settled() {
            Self::collect(peer, &mut self.services, &mut self.queues.events, &mut self.stats);
        } else {
            self.settle(index);
        }
    }
}

/// Streams.
impl Host {
    /// Opens a child of a stream, without a round trip.
    ///
    /// # Errors
    /// If the tree ended, the peer let go of the parent, or the tree would be too deep.
    pub fn open_substream(&mut self, parent: StreamId) -> Result<StreamId, OpenError> {
        let peer = parent.peer;
        let opened = self.with_peer(peer, |p| p.streams_mut().open_substream(parent.key));
        let key = opened.unwrap_or(Err(OpenError::Gone))?;
        Ok(StreamId { peer, key })
    }

    /// The next child that the peer opened of a stream; `None` once the peer has let go of the stream and all that it
    /// had opened was given. If it is pending, the peer is asked to tell that, and
    /// [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If the tree ended.
    pub fn poll_accept_substream(&mut self, parent: StreamId) -> Poll<Result<Option<StreamId>, CloseReason>> {
        let peer = parent.peer;
        let accepted = self.with_peer(peer, |p| p.streams_mut().poll_accept_substream(parent.key));
        let accepted = accepted.unwrap_or(Poll::Ready(Err(CloseReason::Released)));
        accepted.map_ok(|key| key.map(|key| StreamId { peer, key }))
    }

    /// Says what happens to substreams that the peer opens of a stream until they are accepted; by default
    /// [`ListenMode::Inherit`]. Those that wait already are refused by `Reject`, and stay otherwise.
    pub fn set_listen_mode(&mut self, stream: StreamId, mode: ListenMode) {
        self.with_peer(stream.peer, |p| p.streams_mut().set_listen_mode(stream.key, mode));
    }

    /// Limits what the receive windows of a stream and all streams below it may have beyond 4096 bytes each, in bytes;
    /// `None`, the default: only the budgets of the peer and of the host do. Windows that are larger already shrink
    /// as they are used.
    pub fn set_budget(&mut self, stream: StreamId, bytes: Option<u64>) {
        self.with_peer(stream.peer, |p| p.streams_mut().set_budget(stream.key, bytes));
    }

    /// Takes as much of `data` as the stream's send buffer has room for, and says how many bytes: at least one, if
    /// there are any. If it is pending, [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If the sending side has ended.
    pub fn poll_write(&mut self, stream: StreamId, data: &[u8]) -> Poll<Result<usize, WriteError>> {
        self.with_peer(stream.peer, |p| p.streams_mut().poll_write(stream.key, data))
            .unwrap_or(Poll::Ready(Err(WriteError::Lost(CloseReason::Released))))
    }

    /// As [`Self::poll_write`], without a copy: takes bytes from the front of `chunk`.
    ///
    /// # Errors
    /// If the sending side has ended.
    pub fn poll_write_chunk(&mut self, stream: StreamId, chunk: &mut Bytes) -> Poll<Result<usize, WriteError>> {
        self.with_peer(stream.peer, |p| p.streams_mut().poll_write_chunk(stream.key, chunk))
            .unwrap_or(Poll::Ready(Err(WriteError::Lost(CloseReason::Released))))
    }

    /// Ready when the stream's send buffer has room for at least one byte. If it is pending,
    /// [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If the sending side has ended.
    pub fn poll_writable(&mut self, stream: StreamId) -> Poll<Result<(), WriteError>> {
        self.with_peer(stream.peer, |p| p.streams_mut().poll_writable(stream.key))
            .unwrap_or(Poll::Ready(Err(WriteError::Lost(CloseReason::Released))))
    }

    /// Ends a record: what was written since the last mark is one, and may be empty (STR-27). Always taken; wait for
    /// [`Self::poll_writable`] before.
    ///
    /// # Errors
    /// If the sending side has ended.
    pub fn write_mark(&mut self, stream: StreamId) -> Result<(), WriteError> {
        self.with_peer(stream.peer, |p| p.streams_mut().write_mark(stream.key))
            .unwrap_or(Err(WriteError::Lost(CloseReason::Released)))
    }

    /// Appends a copy of a whole record, and its mark. All of it is taken whatever its size, so that it cannot be torn;
    /// wait for [`Self::poll_writable`] before.
    ///
    /// # Errors
    /// If the sending side has ended. Then nothing was taken.
    pub fn write_record(&mut self, stream: StreamId, record: &[u8]) -> Result<(), WriteError> {
        self.with_peer(stream.peer, |p| p.streams_mut().write_record(stream.key, record))
            .unwrap_or(Err(WriteError::Lost(CloseReason::Released)))
    }

    /// As [`Self::write_record`], without a copy, unless the record is short.
    ///
    /// # Errors
    /// If the sending side has ended. Then nothing was taken.
    pub fn write_record_bytes(&mut self, stream: StreamId, record: Bytes) -> Result<(), WriteError> {
        self.with_peer(stream.peer, |p| p.streams_mut().write_record_bytes(stream.key, record))
            .unwrap_or(Err(WriteError::Lost(CloseReason::Released)))
    }

    /// Ends the sending side well, after what was written.
    ///
    /// # Errors
    /// If the sending side has ended otherwise.
    pub fn finish(&mut self, stream: StreamId) -> Result<(), WriteError> {
        self.with_peer(stream.peer, |p| p.streams_mut().finish(stream.key))
            .unwrap_or(Err(WriteError::Lost(CloseReason::Released)))
    }

    /// Ends the sending side at once: what was not yet delivered is not.
    pub fn reset(&mut self, stream: StreamId, code: Code, reason: &str) {
        self.with_peer(stream.peer, |p| p.streams_mut().reset(stream.key, code, reason));
    }

    /// Ends both directions of a stream and of all streams below it at once, at both hosts (STR-43). What was not yet
    /// delivered or read is lost; children that the peer opens meanwhile are refused.
    pub fn reset_tree(&mut self, stream: StreamId, code: Code, reason: &str) {
        self.with_peer(stream.peer, |p| p.streams_mut().reset_tree(stream.key, code, reason));
    }

    /// Asks the peer to stop sending, and discards what arrived unread.
    pub fn stop(&mut self, stream: StreamId, code: Code, reason: &str) {
        self.with_peer(stream.peer, |p| p.streams_mut().stop(stream.key, code, reason));
    }

    /// The next bytes in order, at most `max`; or the record mark behind those that were read last, once, unless `max`
    /// is 0. Bytes from both sides of a mark never come in one piece. If it is pending,
    /// [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If the peer reset the stream, or the tree ended before the stream did.
    pub fn poll_read(&mut self, now: Instant, stream: StreamId, max: usize) -> Poll<Result<ReadOutcome, ReadError>> {
        self.with_peer(stream.peer, |p| p.streams_mut().poll_read(now, stream.key, max))
            .unwrap_or(Poll::Ready(Err(ReadError::Lost(CloseReason::Released))))
    }

    /// Ready when everything sent on the stream, its end included, is acknowledged. If it is pending,
    /// [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If it never will be.
    pub fn poll_drained(&mut self, stream: StreamId) -> Poll<Result<(), WriteError>> {
        self.with_peer(stream.peer, |p| p.streams_mut().poll_drained(stream.key))
            .unwrap_or(Poll::Ready(Err(WriteError::Lost(CloseReason::Released))))
    }

    /// Ready when everything written to the stream so far was sent at least once. If it is pending,
    /// [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If it never will be.
    pub fn poll_sent(&mut self, stream: StreamId) -> Poll<Result<(), WriteError>> {
        self.with_peer(stream.peer, |p| p.streams_mut().poll_sent(stream.key))
            .unwrap_or(Poll::Ready(Err(WriteError::Lost(CloseReason::Released))))
    }

    /// Ready when everything written to the stream so far is acknowledged; it need not be finished. If it is pending,
    /// [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If it never will be.
    pub fn poll_acknowledged(&mut self, stream: StreamId) -> Poll<Result<(), WriteError>> {
        self.with_peer(stream.peer, |p| p.streams_mut().poll_acknowledged(stream.key))
            .unwrap_or(Poll::Ready(Err(WriteError::Lost(CloseReason::Released))))
    }

    /// Gives the stream another level among its siblings, from -128 to 127, higher first, 0 unless it was set: from the
    /// next packet on, as long as a stream of a higher level has something to send, none of a lower one is sent.
    /// Streams of the same level share equally.
    ///
    /// The level ranks what this host sends of the stream and of everything below it, among the children of the same
    /// parent and the parent's own data, which is at level 0.
    pub fn set_priority(&mut self, stream: StreamId, level: i8) {
        self.with_peer(stream.peer, |p| p.streams_mut().set_priority(stream.key, level));
    }

    /// Asks the peer to do the same for what it sends: the peer changes the level when the request arrives, without
    /// asking its application, which may change it again.
    pub fn request_priority(&mut self, stream: StreamId, level: i8) {
        self.with_peer(stream.peer, |p| p.streams_mut().request_priority(stream.key, level));
    }

    /// The streams of a subtree of which something was sent, or is to be sent, and is not acknowledged; with the
    /// position up to which each was written. Takes time in proportion to the subtree.
    pub fn undelivered(&self, stream: StreamId) -> Vec<(StreamId, u64)> {
        let peer = stream.peer;
        let streams = self.peers.get(peer).map(|p| p.streams().undelivered(stream.key));
        let streams = streams.unwrap_or_default().into_iter();
        streams.map(|(key, end)| (StreamId { peer, key }, end)).collect()
    }

    /// Ready when everything of a stream up to a position is acknowledged, and its end, if it has one. The application
    /// need not hold the stream. If it is pending, [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If the tree has ended before.
    pub fn poll_flushed(&mut self, stream: StreamId, end: u64) -> Poll<Result<(), CloseReason>> {
        self.with_peer(stream.peer, |p| p.streams_mut().poll_flushed(stream.key, end))
            .unwrap_or(Poll::Ready(Err(CloseReason::Released)))
    }

    /// What became of everything that was sent below a stream. Takes time in proportion to the number of streams.
    pub fn delivery(&self, stream: StreamId) -> Option<SubtreeDelivery> {
        self.peers.get(stream.peer)?.streams().delivery(stream.key)
    }

    /// Ready when the peer's application has read everything that was sent on the stream, its end included. If it is
    /// pending, [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If it never will: the peer's application stopped the stream or let go of it, or the sending side was reset, or
    /// the tree ended.
    pub fn poll_consumed(&mut self, stream: StreamId) -> Poll<Result<(), WriteError>> {
        self.with_peer(stream.peer, |p| p.streams_mut().poll_consumed(stream.key))
            .unwrap_or(Poll::Ready(Err(WriteError::Lost(CloseReason::Released))))
    }

    /// The application lets go of the stream: what is unfinished is reset, what is unread is stopped (STR-13).
    pub fn release(&mut self, stream: StreamId) {
        self.with_peer(stream.peer, |p| p.streams_mut().release(stream.key));
        self.remove_if_unused(stream.peer.index);
    }

    /// Takes a datagram to be sent on the stream, as a whole. On `Ok(None)` there is no room for it yet, and
    /// [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If the peer takes none so large, the stream was released here or at the peer, or the tree has ended.
    pub fn send_datagram(
        &mut self,
        now: Instant,
        stream: StreamId,
        data: &Bytes,
        options: &DatagramOptions,
    ) -> Result<Option<DatagramId>, DatagramError> {
        let sent = self.with_peer(stream.peer, |p| {
            p.streams_mut().send_datagram(now, stream.key, data, options)
        });
        // It may have the next deadline.
        self.settle(stream.peer.index);
        sent.unwrap_or(Err(DatagramError::Lost(CloseReason::Released)))
    }

    /// The next datagram that arrived on the stream, whole; `None` once the peer has let go of the stream and all that
    /// had arrived was given. If it is pending, the peer is asked to tell that, and
    /// [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If the stream was released, or the tree has ended and nothing that had arrived is left.
    pub fn poll_recv_datagram(&mut self, now: Instant, stream: StreamId) -> Poll<Result<Option<Bytes>, ReadError>> {
        self.with_peer(stream.peer, |p| p.streams_mut().poll_recv_datagram(now, stream.key))
            .unwrap_or(Poll::Ready(Err(ReadError::Lost(CloseReason::Released))))
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

    /// What is known about a stream.
    pub fn stream_info(&self, stream: StreamId) -> Option<StreamInfo> {
        self.peers.get(stream.peer)?.report().stream(stream.key)
    }

    /// Sums over a stream and all streams below it. Takes time in proportion to their number.
    pub fn subtree_info(&self, stream: StreamId) -> Option<SubtreeInfo> {
        self.peers.get(stream.peer)?.streams().subtree_info(stream.key)
    }
}
