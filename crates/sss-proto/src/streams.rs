//! The tree of streams that a host shares with one peer (docs/spec/streams.md).
//!
//! [`Streams`] knows no channel, no address, no socket and no clock. It is the door: what the application does, what
//! frames say and what becomes of them goes through it, to parts that own their state. Each part uses only those that
//! stand before it here:
//!
//! 1. [`data`]: the bytes of streams; [`tree`]: the streams, and their names;
//! 2. [`events`]: what the application is told; [`schedule`]: whose turn it is;
//! 3. [`flow`]: what may be sent, and what the peer may send;
//! 4. [`messages`]: datagrams, of which the ledger stands here, and what is done with them by their frames;
//! 5. [`life`]: how streams begin and end; [`Life`] owns all of the above;
//! 6. [`frames`]: each frame written, received, acknowledged and lost; their outbox stands below [`flow`];
//! 7. [`report`]: what can be asked about streams.
//!
//! ```text
//!  open, write, read ..               on_frame: STREAM, RESET, STOP, CREDIT, PRIORITY, DATAGRAM ..
//!      \                              /
//!       +---> streams of the tree <--+----> next_event, take_incoming
//!      /                              \
//!  fill a packet                      on_acked, on_lost, fail_all
//! ```
//!
//! Going down, [`Streams::fill`] fills a packet in the order of FRM-2 and remembers a [`Token`] for each frame. A
//! stream that has something to send is known to the scheduler; one that waits for credit is not: if it waits to be
//! opened, it is in a list of the stream that would be charged.
//!
//! Events follow only after an operation answered "not yet".

mod data;
mod events;
mod flow;
mod frames;
mod life;
mod messages;
mod reading;
mod report;
mod rest;
mod schedule;
mod tree;
mod writing;

#[cfg(test)]
mod tests;

use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use sss_wire::Code;
use sss_wire::constants::{MAX_DEPTH, MAX_NAME, MIN_ROOT_CREDIT};
use sss_wire::frame::Frame;
use sss_wire::params::Settings;

pub use data::ReadOutcome;
#[cfg(any(test, fuzzing))]
pub use data::fuzzing::reassembly;
pub(crate) use events::StreamEvent;
pub(crate) use flow::budget::{HostBudget, NetworkBudget};
pub use life::listen::ListenMode;
pub use life::state::{RecvState, SendState};
pub use messages::options::{DatagramOptions, DatagramStats};
pub use report::delivery::SubtreeDelivery;
pub use report::info::{StreamInfo, SubtreeInfo, TreeNode};
pub use report::waits::{AcceptedBy, OpeningRoom, Waits};

use crate::channel::Outlook;
use crate::config::{StreamLimits, StreamsConfig};
use crate::error::{CloseReason, DatagramError, OpenError, ProtocolError, ReadError, WriteError};
use crate::ids::{DatagramId, StreamId, StreamKey};
use crate::interest::Interest;
use crate::packet::PacketWriter;
use crate::padding::Padding;
use crate::role::Role;
use crate::time::Instant;
use crate::token::Token;
use frames::delivery::Item;
use frames::draft::Draft;
pub(crate) use frames::fill::Length;
use frames::{fill, priority};
use life::{Life, cause};
use messages::{incoming, outgoing};
use report::{delivery, info};
use tree::ends::{Cause, Ending};
use tree::index::ROOT;
use tree::node::{Flags, Incoming, Node, Opener};

/// Answers of which a tree keeps something at a time (SVC-6).
const MAX_ANSWERS: usize = 16;

/// The streams of one peer.
#[derive(Debug)]
pub(crate) struct Streams {
    life: Life,
    /// Streams that the host answered itself, not all of which are retired.
    answers: Vec<StreamKey>,
    /// Space for the streams whose INIT is in the packet being filled.
    announced: Vec<u32>,
}

/// A tree, and what the channel says of itself.
impl Streams {
    /// A tree of nothing but the root.
    pub(crate) fn new(config: StreamsConfig) -> Self {
        Self {
            life: Life::new(config),
            answers: Vec::new(),
            announced: Vec::new(),
        }
    }

    /// Takes part in the budget of a host, and limits how many streams the peer may open.
    pub(crate) fn set_host(&mut self, budget: HostBudget, limits: StreamLimits) {
        self.life.flow.set_host(budget);
        self.life.flow.set_limits(limits);
    }

    /// This host's role on the channel, from which LSIDs follow. Until it is set, nothing is sent. It may change as
    /// long as no frame has arrived from the peer (NEG-18).
    pub(crate) fn set_role(&mut self, role: Role) {
        self.life.tree.lsids.set_role(role);
    }

    /// The peer's SETTINGS: room for openings at the root, what one stream may borrow of it, the largest datagram.
    ///
    /// # Errors
    /// If `root_credit` is too small.
    pub(crate) fn set_peer_settings(&mut self, settings: &Settings) -> Result<(), ProtocolError> {
        if settings.root_credit < MIN_ROOT_CREDIT {
            return Err(ProtocolError::new(Code::SETTINGS, "root_credit is below 65536"));
        }
        self.life.flow.set_terms(settings.stream_borrow, settings.root_credit);
        if self.life.failed.is_none() {
            let table = &mut self.life.tree.table;
            self.life.flow.raise_openings(table, ROOT, settings.root_credit, 0);
        }
        self.life.ledger.set_peer_max(settings.max_message);
        Ok(())
    }

    /// Takes over the channel's round trip, loss in parts of 65536, way to the peer; and what may leave, if it matters
    /// (STR-79, STR-80). Returns whether a datagram was abandoned unsent since then (STR-35).
    pub(crate) fn set_path(&mut self, rtt: Duration, loss: u32, way: Duration, next: impl FnOnce() -> Outlook) -> bool {
        self.life.flow.set_rtt(rtt);
        self.life.ledger.set_path(loss, way);
        let unsent = self.unsent();
        if let Some(outlook) = self.life.scheduler.look_ahead(unsent, next) {
            self.life.ledger.set_outlook(outlook);
        }
        self.life.ledger.take_missed()
    }

    /// The channel has ended: nothing is sent or received any more, and whoever waits is told.
    pub(crate) fn fail_all(&mut self, reason: &CloseReason) {
        self.life.fail_all(reason);
    }
}

/// Opening and accepting.
impl Streams {
    /// Opens a stream to a service. It is announced with its first data, or alone.
    ///
    /// # Errors
    /// If the channel ended or a name is too long.
    pub(crate) fn open_top_level(&mut self, service: &str, protocol: &str) -> Result<StreamKey, OpenError> {
        if service.len() > usize::from(MAX_NAME) || protocol.len() > usize::from(MAX_NAME) {
            return Err(OpenError::NameTooLong);
        }
        check(self.life.failed.as_deref())?;
        let names = self.life.tree.names.get(service.as_bytes(), protocol.as_bytes());
        Ok(self.life.open(Node::new(ROOT, 1, Opener::Own, Some(names))))
    }

    /// Opens a child of a stream.
    ///
    /// # Errors
    /// If the channel ended, the parent is gone here or at the peer, or the tree would be too deep.
    pub(crate) fn open_substream(&mut self, parent: StreamKey) -> Result<StreamKey, OpenError> {
        check(self.life.failed.as_deref())?;
        let parent = self.life.tree.held(parent).ok_or(OpenError::Gone)?;
        let node = &self.life.tree[parent];
        if node.has(Flags::PEER_GONE) {
            return Err(OpenError::ParentGone);
        }
        if let Some(error) = cause::open_error(&self.life.tree.table, parent) {
            return Err(error);
        }
        // STR-3
        if node.place.depth >= MAX_DEPTH {
            return Err(OpenError::TooDeep(MAX_DEPTH));
        }
        let depth = node.place.depth + 1;
        Ok(self.life.open(Node::new(parent, depth, Opener::Own, None)))
    }

    /// The next top-level stream that the peer opened. It is then to be accepted or refused.
    #[inline]
    pub(crate) fn take_incoming(&mut self) -> Option<Incoming> {
        let (incoming, tree) = (&mut self.life.incoming, &self.life.tree);
        let mut keys = std::iter::from_fn(|| incoming.pop_front());
        keys.find_map(|key| Incoming::of(key, &tree[tree.find(key)?]))
    }

    /// The application takes a stream that [`Self::take_incoming`] gave. Returns whether there still is one to take.
    pub(crate) fn accept_top_level(&mut self, key: StreamKey) -> bool {
        self.life.accept(key)
    }

    /// The next child that the peer opened of a stream; `None` once there will be none. If it is pending, an event
    /// follows.
    ///
    /// # Errors
    /// If the channel ended, or the stream is gone.
    pub(crate) fn poll_accept_substream(&mut self, parent: StreamKey) -> Poll<Result<Option<StreamKey>, CloseReason>> {
        check(self.life.failed.as_deref())?;
        let parent = self.life.tree.held(parent).ok_or(CloseReason::Released)?;
        while let Some(key) = self.life.tree[parent].extras.as_mut().and_then(|e| e.backlog.pop()) {
            if self.life.accept(key) {
                return Poll::Ready(Ok(Some(key)));
            }
        }
        if let Some(reason) = cause::accept_error(&self.life.tree.table, parent) {
            return Poll::Ready(Err(reason));
        }
        let node = &mut self.life.tree[parent];
        if node.has(Flags::PEER_RELEASED) {
            return Poll::Ready(Ok(None));
        }
        node.set(Flags::waits_for(Interest::Accept));
        self.life.outbox.ask(&mut self.life.tree.table, parent, Item::Await);
        Poll::Pending
    }

    /// Refuses a stream that was not accepted (STR-9).
    pub(crate) fn refuse(&mut self, key: StreamKey, code: Code) {
        self.life.refuse(key, code);
    }

    /// Accepts a stream that [`Self::take_incoming`] gave, writes `answer`, finishes, and lets go of it: the host
    /// answers for its application (SVC-2). Refuses it if too many such streams are not retired.
    pub(crate) fn answer(&mut self, key: StreamKey, mut answer: Bytes) {
        self.answers.retain(|k| self.life.tree.find(*k).is_some());
        if self.answers.len() >= MAX_ANSWERS {
            self.refuse(key, Code::BACKLOG);
            return;
        }
        if !self.accept_top_level(key) {
            return;
        }
        self.answers.push(key);
        // A peer that has stopped the stream already wants nothing. The answer is shorter than what may be written
        // ahead.
        if matches!(self.poll_write_chunk(key, &mut answer), Poll::Ready(Ok(_))) && answer.is_empty() {
            let _ = self.finish(key);
        }
        self.release(key);
    }

    /// Says what happens to children of a stream until they are accepted. Those that wait already are refused by
    /// `Reject`, and stay otherwise.
    pub(crate) fn set_listen_mode(&mut self, key: StreamKey, mode: ListenMode) {
        if let Some(index) = self.life.tree.held(key) {
            self.life.set_listen_mode(index, mode);
        }
    }

    /// Limits what the receive windows of a stream and all streams below it may have beyond 4096 bytes each, in bytes;
    /// `None`: they are not limited any more. Windows that are larger already shrink as they are used.
    pub(crate) fn set_budget(&mut self, key: StreamKey, bytes: Option<u64>) {
        if let Some(index) = self.life.tree.held(key) {
            self.life.flow.set_budget(&mut self.life.tree.table, index, bytes);
        }
    }
}

/// Writing.
impl Streams {
    /// Takes as much of `data` as there is room for; returns how many bytes: at least one, if there are any.
    pub(crate) fn poll_write(&mut self, key: StreamKey, data: &[u8]) -> Poll<Result<usize, WriteError>> {
        writing::poll_write(&mut self.life, key, data)
    }

    /// As [`Self::poll_write`], taking bytes from the front of `chunk`.
    pub(crate) fn poll_write_chunk(&mut self, key: StreamKey, chunk: &mut Bytes) -> Poll<Result<usize, WriteError>> {
        writing::poll_write_chunk(&mut self.life, key, chunk)
    }

    /// Takes back what was written and not sent, but for the next `keep` bytes, and at least one; returns how many.
    pub(crate) fn take_back(&mut self, key: StreamKey, keep: u64) -> u64 {
        writing::take_back(&mut self.life, key, keep)
    }

    /// Ready when there is room for at least one byte.
    pub(crate) fn poll_writable(&mut self, key: StreamKey) -> Poll<Result<(), WriteError>> {
        writing::poll_writable(&mut self.life, key)
    }

    /// Ends a record (STR-27), whether there is room for its mark or not.
    pub(crate) fn write_mark(&mut self, key: StreamKey) -> Result<(), WriteError> {
        writing::write_mark(&mut self.life, key)
    }

    /// Appends a copy of `record`, and its mark, whether there is room for them or not.
    pub(crate) fn write_record(&mut self, key: StreamKey, record: &[u8]) -> Result<(), WriteError> {
        writing::write_record(&mut self.life, key, record)
    }

    /// As [`Self::write_record`], without a copy, unless the record is short.
    pub(crate) fn write_record_bytes(&mut self, key: StreamKey, record: Bytes) -> Result<(), WriteError> {
        writing::write_record_bytes(&mut self.life, key, record)
    }

    /// Ends the direction well. Finishing again changes nothing.
    pub(crate) fn finish(&mut self, key: StreamKey) -> Result<(), WriteError> {
        writing::finish(&mut self.life, key)
    }

    /// Ends the direction at once.
    pub(crate) fn reset(&mut self, key: StreamKey, code: Code, reason: &str) {
        if let Some(index) = self.life.tree.held(key) {
            let ending = Ending::new(cause::own_code(code, Code::DROPPED), reason);
            self.life.abort(index, Cause::Own, ending);
        }
    }

    /// Resets a stream and all streams below it, in both directions (STR-43).
    pub(crate) fn reset_tree(&mut self, key: StreamKey, code: Code, reason: &str) {
        let index = self.life.tree.held(key).filter(|_| self.life.failed.is_none());
        if let Some(index) = index {
            let ending = Ending::new(cause::own_code(code, Code::DROPPED), reason);
            self.life.reset_tree(index, ending, false);
        }
    }

    /// Ready when everything sent, the end included, is acknowledged.
    pub(crate) fn poll_drained(&mut self, key: StreamKey) -> Poll<Result<(), WriteError>> {
        delivery::poll_drained(&mut self.life, key)
    }

    /// Ready when everything of a stream up to a position is acknowledged, and its end, if it has one. The application
    /// need not hold it.
    pub(crate) fn poll_flushed(&mut self, key: StreamKey, end: u64) -> Poll<Result<(), CloseReason>> {
        delivery::poll_flushed(&mut self.life, key, end)
    }

    /// Ready when everything written was sent at least once.
    pub(crate) fn poll_sent(&mut self, key: StreamKey) -> Poll<Result<(), WriteError>> {
        delivery::poll_sent(&mut self.life, key)
    }

    /// Ready when everything written is acknowledged; the direction need not have ended.
    pub(crate) fn poll_acknowledged(&mut self, key: StreamKey) -> Poll<Result<(), WriteError>> {
        delivery::poll_acknowledged(&mut self.life, key)
    }

    /// Ready when the peer's application has read everything that was sent, to the end.
    pub(crate) fn poll_consumed(&mut self, key: StreamKey) -> Poll<Result<(), WriteError>> {
        delivery::poll_consumed(&mut self.life, key)
    }
}

/// Reading, and letting go.
impl Streams {
    /// The next bytes, at most `max`, or the record mark that is next, unless `max` is 0; and whether the end was read
    /// with them. What had arrived in order can be read even after the channel ended.
    pub(crate) fn poll_read(
        &mut self,
        now: Instant,
        key: StreamKey,
        max: usize,
    ) -> Poll<Result<(ReadOutcome, bool), ReadError>> {
        reading::poll_read(&mut self.life, now, key, max)
    }

    /// The application wants no more of a stream.
    pub(crate) fn stop(&mut self, key: StreamKey, code: Code, reason: &str) {
        if let Some(index) = self.life.tree.held(key) {
            self.life
                .stop(index, Ending::new(cause::own_code(code, Code::UNREAD), reason));
        }
    }

    /// The application lets go of a stream: an unfinished direction is reset with DROPPED, one not read to its end is
    /// stopped with UNREAD (STR-13), and children that wait to be accepted are refused.
    pub(crate) fn release(&mut self, key: StreamKey) {
        if let Some(index) = self.life.tree.held(key) {
            self.life.release(index);
        }
    }

    /// Gives a stream another level among its siblings, for what this host sends of it and below it. Data that was
    /// written before is included (STR-23).
    pub(crate) fn set_priority(&mut self, key: StreamKey, level: i8) {
        if let Some(index) = self.life.tree.held(key) {
            self.life.scheduler.set_level(&mut self.life.tree.table, index, level);
        }
    }

    /// Sets the padding of packets with something of a stream (CHN-16).
    pub(crate) fn set_padding(&mut self, key: StreamKey, padding: Padding) {
        if let Some(index) = self.life.tree.held(key) {
            self.life.tree[index].set_padding(padding);
        }
    }

    /// Asks the peer to give a stream another level, for what the peer sends of it and below it (STR-24).
    pub(crate) fn request_priority(&mut self, key: StreamKey, level: i8) {
        let index = self.life.tree.held(key).filter(|_| self.life.failed.is_none());
        if let Some(index) = index {
            priority::request(&mut self.life, index, level);
        }
    }
}

/// Datagrams.
impl Streams {
    /// The largest datagram that can be sent, in bytes.
    pub(crate) fn max_datagram(&self) -> u64 {
        self.life.ledger.max()
    }

    /// Takes a datagram to be sent on a stream. On `Ok(None)` there is no room for it yet, and an event follows.
    pub(crate) fn send_datagram(
        &mut self,
        now: Instant,
        parent: StreamKey,
        data: &Bytes,
        options: &DatagramOptions,
    ) -> Result<Option<DatagramId>, DatagramError> {
        let data = (data.len(), || data.clone());
        outgoing::send(&mut self.life, now, parent, data, options)
    }

    /// The next datagram that arrived on a stream; `None` once there will be none. If it is pending, an event follows.
    ///
    /// What had arrived can be taken even after the channel ended.
    pub(crate) fn poll_recv_datagram(
        &mut self,
        now: Instant,
        key: StreamKey,
    ) -> Poll<Result<Option<Bytes>, ReadError>> {
        incoming::poll(&mut self.life, now, key)
    }

    /// Returns when [`Self::on_timer`] is to be called.
    pub(crate) fn next_timer(&mut self) -> Option<Instant> {
        self.life.ledger.next_timer(&self.life.tree.table)
    }

    /// Gives up the datagrams whose time is over.
    pub(crate) fn on_timer(&mut self, now: Instant) {
        outgoing::on_timer(&mut self.life, now);
    }
}

/// Down and up: packets.
impl Streams {
    /// Returns whether there is something to send: control frames, or data with credit. Takes constant time. If what
    /// seemed to have credit has none left, [`Self::fill`] writes nothing, once.
    pub(crate) fn wants(&self) -> bool {
        let life = &self.life;
        let wakes = life.flow.openers.is_due() || life.ledger.is_grant_due();
        let is_idle = life.outbox.is_idle() && !life.scheduler.has_active() && !wakes;
        !is_idle && life.failed.is_none() && life.tree.lsids.has_role()
    }

    /// Returns whether something is to be done for them when the peer's turn to send comes, beside what is written.
    pub(crate) fn wants_turn(&self) -> bool {
        self.has_work() || self.life.scheduler.has_deadlines() || self.life.ledger.missed
    }

    /// Fills the packet with as much as fits. Returns whether something is left over that did not.
    pub(crate) fn fill(&mut self, packet: &mut PacketWriter<'_>, length: Length) -> bool {
        self.life.failed.is_none()
            && self.life.tree.lsids.has_role()
            && fill::fill(&mut self.life, &mut Draft::new(packet, &mut self.announced), length)
    }

    /// Returns whether [`Self::walk`] has something to do.
    pub(crate) fn has_work(&self) -> bool {
        self.life.has_work()
    }

    /// Goes on with the resets of subtrees, for a short time. To be called once for each packet, before it is filled.
    pub(crate) fn walk(&mut self) {
        self.life.walk();
    }

    /// A frame from the peer about streams; others are ignored. `packet` holds the frame's data.
    #[inline]
    pub(crate) fn on_frame(&mut self, frame: &Frame<'_>, packet: &Bytes) -> Result<(), ProtocolError> {
        frames::on_frame(&mut self.life, frame, packet)
    }

    /// The packet that carried the frame was acknowledged. Tokens that belong to others are ignored.
    #[inline]
    pub(crate) fn on_acked(&mut self, token: Token) {
        frames::on_acked(&mut self.life, token);
    }

    /// The packet that carried the frame was lost; what it said is sent again, as far as it still holds (REC-5).
    pub(crate) fn on_lost(&mut self, token: Token) {
        frames::on_lost(&mut self.life, token);
    }
}

/// Answers to questions.
impl Streams {
    /// The next event for the application.
    #[inline]
    pub(crate) fn next_event(&mut self) -> Option<StreamEvent> {
        self.life.events.next(&self.life.tree.table)
    }

    /// Returns how many streams there are, the root not counted.
    pub(crate) fn len(&self) -> usize {
        self.life.tree.table.len() - 1
    }

    /// Bytes written and not sent, of all streams.
    pub(crate) fn unsent(&self) -> u64 {
        self.life.pool.unsent()
    }

    /// Returns whether the application holds no stream.
    pub(crate) fn is_unused(&self) -> bool {
        self.life.is_unused()
    }

    /// Counters.
    pub(crate) fn datagram_stats(&self) -> DatagramStats {
        self.life.ledger.stats()
    }

    /// Returns what is known about a stream; `name` makes names of streams of keys. Of what stops it, only the part
    /// that is the streams' own.
    pub(crate) fn describe(&self, key: StreamKey, name: impl Fn(StreamKey) -> StreamId) -> Option<StreamInfo> {
        info::describe(&self.life, key, name)
    }

    /// Sums over a stream and all streams below it. Takes time in proportion to their number.
    pub(crate) fn subtree_info(&self, key: StreamKey) -> Option<SubtreeInfo> {
        info::subtree_info(&self.life, key)
    }

    /// All streams with their parents (`None`: the root), parents before children. Takes time in proportion to their
    /// number.
    pub(crate) fn tree(&self, name: impl Fn(StreamKey) -> StreamId) -> Vec<(StreamKey, Option<StreamKey>, StreamInfo)> {
        info::tree(&self.life, name)
    }

    /// The streams of a subtree of which something was sent, or is to be sent, and is not acknowledged; with the
    /// position up to which each was written. Takes time in proportion to the subtree.
    pub(crate) fn undelivered(&self, top: StreamKey) -> Vec<(StreamKey, u64)> {
        delivery::undelivered(&self.life, top)
    }

    /// Returns whether a stream has data or an end that is still to be delivered. Takes time in proportion to the
    /// number of streams.
    pub(crate) fn has_undelivered(&self) -> bool {
        delivery::has_undelivered(&self.life)
    }

    /// Returns what is known of the delivery of the streams below one. Takes time in proportion to their number.
    pub(crate) fn delivery(&self, top: StreamKey) -> Option<SubtreeDelivery> {
        delivery::of_subtree(&self.life, top)
    }
}

/// Gives back spare memory.
pub(crate) fn rest(streams: &mut Streams) {
    rest::rest(&mut streams.life);
}

/// Takes as many of `data` as there is room for, from the front. If something is left on `Ok`, an event follows.
pub(crate) fn send_datagrams(
    streams: &mut Streams,
    now: Instant,
    parent: StreamKey,
    data: &mut std::vec::IntoIter<Bytes>,
    options: &DatagramOptions,
) -> Result<(), DatagramError> {
    outgoing::send_all(&mut streams.life, now, parent, data, options)
}

/// Appends the next datagrams that arrived on a stream, at most `limit`; returns how many. If it is pending, an event
/// follows.
pub(crate) fn poll_recv_datagrams(
    streams: &mut Streams,
    now: Instant,
    key: StreamKey,
    (into, limit): (&mut Vec<Bytes>, usize),
) -> Poll<Result<usize, ReadError>> {
    incoming::poll_all(&mut streams.life, now, key, (into, limit))
}

/// Says whether a channel has not ended.
fn check(failed: Option<&CloseReason>) -> Result<(), CloseReason> {
    failed.cloned().map_or(Ok(()), Err)
}
