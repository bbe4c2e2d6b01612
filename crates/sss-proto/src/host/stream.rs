//! Calls of the application on one stream of a host. After each call the driver polls the host.

use std::task::Poll;

use bytes::Bytes;
use sss_wire::Code;

use super::peers::Peers;
use crate::error::{CloseReason, DatagramError, OpenError, ReadError, WriteError};
use crate::ids::{DatagramId, StreamId, StreamKey};
use crate::local_host::LocalHost;
use crate::padding::Padding;
use crate::streams::{self, DatagramOptions, ListenMode, ReadOutcome, Streams};
use crate::time::Instant;

/// A stream of a host, to be used: [`Host::stream`](crate::Host::stream) gives it.
///
/// It need not exist: operations on one that is gone say so.
pub struct Stream<'a> {
    pub(super) peers: &'a mut Peers,
    pub(super) local: &'a mut LocalHost,
    pub(super) id: StreamId,
}

impl std::fmt::Debug for Stream<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Its children.
impl Stream<'_> {
    /// Opens a child of a stream, without a round trip.
    ///
    /// # Errors
    /// If the tree ended, the peer let go of the parent, or the tree would be too deep.
    pub fn open_substream(&mut self) -> Result<StreamId, OpenError> {
        let key = self.with(|streams, key| streams.open_substream(key));
        Ok(self.named(key.unwrap_or(Err(OpenError::Gone))?))
    }

    /// The next child that the peer opened of a stream; `None` once the peer has let go of the stream and all that it
    /// had opened was given. If it is pending, the peer is asked to tell that, and
    /// [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If the tree ended.
    pub fn poll_accept_substream(&mut self) -> Poll<Result<Option<StreamId>, CloseReason>> {
        let accepted = self.with(|streams, key| streams.poll_accept_substream(key));
        let accepted = accepted.unwrap_or_else(|| Poll::Ready(Err(self.forgotten())));
        accepted.map_ok(|key| key.map(|key| self.named(key)))
    }

    /// Says what happens to substreams that the peer opens of a stream until they are accepted; by default
    /// [`ListenMode::Inherit`]. Those that wait already are refused by `Reject`, and stay otherwise.
    pub fn set_listen_mode(&mut self, mode: ListenMode) {
        self.with(|streams, key| streams.set_listen_mode(key, mode));
    }
}

/// Being accepted.
impl Stream<'_> {
    /// Accepts a top-level stream that the peer opened. Returns whether it is still there.
    pub(super) fn accept_top_level(&mut self) -> bool {
        self.with(|streams, key| streams.accept_top_level(key))
            .unwrap_or_default()
    }
}

/// Sending.
impl Stream<'_> {
    /// Takes as much of `data` as the stream's send buffer has room for, and says how many bytes: at least one, if
    /// there are any. If it is pending, [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If the sending side has ended.
    pub fn poll_write(&mut self, data: &[u8]) -> Poll<Result<usize, WriteError>> {
        self.poll(WriteError::Lost, |streams, key| streams.poll_write(key, data))
    }

    /// As [`Self::poll_write`], without a copy: takes bytes from the front of `chunk`.
    ///
    /// # Errors
    /// If the sending side has ended.
    pub fn poll_write_chunk(&mut self, chunk: &mut Bytes) -> Poll<Result<usize, WriteError>> {
        self.poll(WriteError::Lost, |streams, key| streams.poll_write_chunk(key, chunk))
    }

    /// Takes back what was written to the stream and not sent, but for the next `keep` bytes, and at least one; returns
    /// how many, of which a record mark counts as one. They are as if they had never been written. Nothing, once the
    /// sending side has ended, or is finished.
    pub fn take_back(&mut self, keep: u64) -> u64 {
        self.with(|streams, key| streams.take_back(key, keep))
            .unwrap_or_default()
    }

    /// Ready when the stream's send buffer has room for at least one byte. If it is pending,
    /// [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If the sending side has ended.
    pub fn poll_writable(&mut self) -> Poll<Result<(), WriteError>> {
        self.poll(WriteError::Lost, |streams, key| streams.poll_writable(key))
    }

    /// Ends a record: what was written since the last mark is one, and may be empty (STR-27). Always taken; wait for
    /// [`Self::poll_writable`] before.
    ///
    /// # Errors
    /// If the sending side has ended.
    pub fn write_mark(&mut self) -> Result<(), WriteError> {
        self.try_with(WriteError::Lost, |streams, key| streams.write_mark(key))
    }

    /// Appends a copy of a whole record, and its mark. All of it is taken whatever its size, so that it cannot be torn;
    /// wait for [`Self::poll_writable`] before.
    ///
    /// # Errors
    /// If the sending side has ended. Then nothing was taken.
    pub fn write_record(&mut self, record: &[u8]) -> Result<(), WriteError> {
        self.try_with(WriteError::Lost, |streams, key| streams.write_record(key, record))
    }

    /// As [`Self::write_record`], without a copy, unless the record is short.
    ///
    /// # Errors
    /// If the sending side has ended. Then nothing was taken.
    pub fn write_record_bytes(&mut self, record: Bytes) -> Result<(), WriteError> {
        self.try_with(WriteError::Lost, |streams, key| streams.write_record_bytes(key, record))
    }

    /// Ends the sending side well, after what was written.
    ///
    /// # Errors
    /// If the sending side has ended otherwise.
    pub fn finish(&mut self) -> Result<(), WriteError> {
        self.try_with(WriteError::Lost, |streams, key| streams.finish(key))
    }
}

/// Progress of what was sent.
impl Stream<'_> {
    /// Ready when everything written to the stream so far was sent at least once. If it is pending,
    /// [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If it never will be.
    pub fn poll_sent(&mut self) -> Poll<Result<(), WriteError>> {
        self.poll(WriteError::Lost, |streams, key| streams.poll_sent(key))
    }

    /// Ready when everything written to the stream so far is acknowledged; it need not be finished. If it is pending,
    /// [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If it never will be.
    pub fn poll_acknowledged(&mut self) -> Poll<Result<(), WriteError>> {
        self.poll(WriteError::Lost, |streams, key| streams.poll_acknowledged(key))
    }

    /// Ready when everything sent on the stream, its end included, is acknowledged. If it is pending,
    /// [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If it never will be.
    pub fn poll_drained(&mut self) -> Poll<Result<(), WriteError>> {
        self.poll(WriteError::Lost, |streams, key| streams.poll_drained(key))
    }

    /// Ready when everything of a stream up to a position is acknowledged, and its end, if it has one. The application
    /// need not hold the stream. If it is pending, [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If the tree has ended before.
    pub fn poll_flushed(&mut self, end: u64) -> Poll<Result<(), CloseReason>> {
        self.with(|streams, key| streams.poll_flushed(key, end))
            .unwrap_or_else(|| Poll::Ready(Err(self.forgotten())))
    }

    /// Ready when the peer's application has read everything that was sent on the stream, its end included. If it is
    /// pending, [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If it never will: the peer's application stopped the stream or let go of it, or the sending side was reset, or
    /// the tree ended.
    pub fn poll_consumed(&mut self) -> Poll<Result<(), WriteError>> {
        self.poll(WriteError::Lost, |streams, key| streams.poll_consumed(key))
    }
}

/// Receiving.
impl Stream<'_> {
    /// The next bytes in order, at most `max`; or the record mark behind those that were read last, once, unless `max`
    /// is 0. Bytes from both sides of a mark never come in one piece. If it is pending,
    /// [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If the peer reset the stream, or the tree ended before the stream did.
    pub fn poll_read(&mut self, now: Instant, max: usize) -> Poll<Result<ReadOutcome, ReadError>> {
        self.poll_read_with_end(now, max).map_ok(|(outcome, _)| outcome)
    }

    /// As [`Self::poll_read`]; and whether the stream ends there. The end that follows the last bytes is read with
    /// them, and need not be asked for.
    ///
    /// # Errors
    /// If the peer reset the stream, or the tree ended before the stream did.
    pub fn poll_read_with_end(&mut self, now: Instant, max: usize) -> Poll<Result<(ReadOutcome, bool), ReadError>> {
        self.poll(ReadError::Lost, |streams, key| streams.poll_read(now, key, max))
    }

    /// Limits what the receive windows of a stream and all streams below it may have beyond 4096 bytes each, in bytes;
    /// `None`, the default: only the budgets of the peer and of the host do. Windows that are larger already shrink
    /// as they are used.
    pub fn set_budget(&mut self, bytes: Option<u64>) {
        self.with(|streams, key| streams.set_budget(key, bytes));
    }
}

/// Datagrams.
impl Stream<'_> {
    /// Takes a datagram to be sent on the stream, as a whole. On `Ok(None)` there is no room for it yet, and
    /// [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If the peer takes none so large, the stream was released here or at the peer, or the tree has ended.
    pub fn send_datagram(
        &mut self,
        now: Instant,
        data: &Bytes,
        options: &DatagramOptions,
    ) -> Result<Option<DatagramId>, DatagramError> {
        let sent = self.try_with(DatagramError::Lost, |streams, key| {
            streams.send_datagram(now, key, data, options)
        });
        self.note_deadline(options);
        sent
    }

    /// Takes as many of `data` as there is room for, from the front, as [`Self::send_datagram`] would one after the
    /// other; what it takes is not in `data` any more. If something is left on `Ok`, there is no room for the first of
    /// that yet, and [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// As [`Self::send_datagram`], because of the first that is left. Those before were taken.
    pub fn send_datagrams(
        &mut self,
        now: Instant,
        data: &mut std::vec::IntoIter<Bytes>,
        options: &DatagramOptions,
    ) -> Result<(), DatagramError> {
        let sent = self.try_with(DatagramError::Lost, |streams, key| {
            streams::send_datagrams(streams, now, key, data, options)
        });
        self.note_deadline(options);
        sent
    }

    /// The next deadline may be another one. One that was asked for may be over before anything is sent; that of others
    /// is far away, and looked at when the host is about to wait.
    fn note_deadline(&mut self, options: &DatagramOptions) {
        match options.deadline {
            Some(_) => self.peers.settle(self.local, self.id.peer.index),
            None => self.peers.note_timer(self.id.peer),
        }
    }

    /// The next datagram that arrived on the stream, whole; `None` once the peer has let go of the stream and all that
    /// had arrived was given. If it is pending, the peer is asked to tell that, and
    /// [`Event::Ready`](crate::Event::Ready) follows.
    ///
    /// # Errors
    /// If the stream was released, or the tree has ended and nothing that had arrived is left.
    pub fn poll_recv_datagram(&mut self, now: Instant) -> Poll<Result<Option<Bytes>, ReadError>> {
        self.poll(ReadError::Lost, |streams, key| streams.poll_recv_datagram(now, key))
    }

    /// Appends the next datagrams that arrived on the stream to `into`, at most `limit`, and returns how many; 0 where
    /// [`Self::poll_recv_datagram`] gives `None`, or if `limit` is 0. If it is pending there was none, and the same
    /// follows as there.
    ///
    /// # Errors
    /// As [`Self::poll_recv_datagram`]. Nothing was appended.
    pub fn poll_recv_datagrams(
        &mut self,
        now: Instant,
        into: &mut Vec<Bytes>,
        limit: usize,
    ) -> Poll<Result<usize, ReadError>> {
        self.poll(ReadError::Lost, |streams, key| {
            streams::poll_recv_datagrams(streams, now, key, (into, limit))
        })
    }
}

/// Priorities.
impl Stream<'_> {
    /// Gives the stream another level among its siblings, from -128 to 127, higher first, 0 unless it was set: from the
    /// next packet on, as long as a stream of a higher level has something to send, none of a lower one is sent.
    /// Streams of the same level share equally.
    ///
    /// The level ranks what this host sends of the stream and of everything below it, among the children of the same
    /// parent and the parent's own data, which is at level 0.
    pub fn set_priority(&mut self, level: i8) {
        self.with(|streams, key| streams.set_priority(key, level));
    }

    /// Asks the peer to do the same for what it sends: the peer changes the level when the request arrives, without
    /// asking its application, which may change it again.
    pub fn request_priority(&mut self, level: i8) {
        self.with(|streams, key| streams.request_priority(key, level));
    }
}

/// Padding.
impl Stream<'_> {
    /// Sets how packets that carry data of this stream are padded, from the next one on, if that is more than what the
    /// whole host does ([`Config::padding`](crate::Config::padding)). Substreams have their own.
    pub fn set_padding(&mut self, padding: Padding) {
        self.with(|streams, key| streams.set_padding(key, padding));
    }
}

/// Ends.
impl Stream<'_> {
    /// Ends the sending side at once: what was not yet delivered is not.
    pub fn reset(&mut self, code: Code, reason: &str) {
        self.with(|streams, key| streams.reset(key, code, reason));
    }

    /// Ends both directions of a stream and of all streams below it at once, at both hosts (STR-43). What was not yet
    /// delivered or read is lost; children that the peer opens meanwhile are refused.
    pub fn reset_tree(&mut self, code: Code, reason: &str) {
        self.with(|streams, key| streams.reset_tree(key, code, reason));
    }

    /// Asks the peer to stop sending, and discards what arrived unread.
    pub fn stop(&mut self, code: Code, reason: &str) {
        self.with(|streams, key| streams.stop(key, code, reason));
    }

    /// The application lets go of the stream: what is unfinished is reset, what is unread is stopped (STR-13).
    pub fn release(&mut self) {
        self.with(|streams, key| streams.release(key));
        self.peers.remove_if_unused(self.id.peer.index);
    }
}

impl Stream<'_> {
    /// Does something with the stream, and carries the consequences to the host. `None` if the peer is not known any
    /// more.
    fn with<R>(&mut self, f: impl FnOnce(&mut Streams, StreamKey) -> R) -> Option<R> {
        let StreamId { peer, key } = self.id;
        self.peers.with(self.local, peer, |peer| f(peer.streams_mut(), key))
    }

    /// As [`Self::with`]: with the error that says that the stream is gone.
    fn try_with<T, E>(
        &mut self,
        lost: fn(CloseReason) -> E,
        f: impl FnOnce(&mut Streams, StreamKey) -> Result<T, E>,
    ) -> Result<T, E> {
        self.with(f).unwrap_or_else(|| Err(lost(self.forgotten())))
    }

    /// As [`Self::try_with`], for what may be pending.
    fn poll<T, E>(
        &mut self,
        lost: fn(CloseReason) -> E,
        f: impl FnOnce(&mut Streams, StreamKey) -> Poll<Result<T, E>>,
    ) -> Poll<Result<T, E>> {
        self.with(f).unwrap_or_else(|| Poll::Ready(Err(lost(self.forgotten()))))
    }

    /// The reason when nothing is known of the peer any more.
    fn forgotten(&self) -> CloseReason {
        self.local.process.forgotten_reason()
    }

    fn named(&self, key: StreamKey) -> StreamId {
        let peer = self.id.peer;
        StreamId { peer, key }
    }
}
