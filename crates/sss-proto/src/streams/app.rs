//! What the application does with streams.

use std::task::{Poll, ready};

use bytes::Bytes;
use sss_wire::Code;
use sss_wire::constants::{MAX_DEPTH, MAX_NAME};

use super::Streams;
use super::frames::delivery::{Delivery, Item};
use super::life::cause::{self, Cause, Direction, Ending};
use super::node::{Flags, Node, Opener, ROOT};
use super::state::{RecvInput, RecvState, SendInput, SendState};
use crate::error::{CloseReason, OpenError, ReadError, WriteError};
use crate::ids::StreamKey;
use crate::interest::Interest;
use crate::io::DatagramFate;
use crate::refusal::Refusal;
use crate::time::Instant;

/// How many bytes of a stream may be written and not yet sent. What was sent and not yet acknowledged is bounded by the
/// peer's credit and by congestion control.
pub(super) const SEND_AHEAD: u64 = 512 << 10;

/// What reading gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The next bytes; not empty unless none were asked for.
    Chunk(Bytes),
    /// A record mark: what was read before and this belongs to one record. It is told once, and is passed by that.
    Mark,
    /// The peer finished, and everything was read.
    End,
}

/// A top-level stream that the peer opened.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) key: StreamKey,
    pub(crate) service: Vec<u8>,
    pub(crate) protocol: Vec<u8>,
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
        let names = self.names.get(service.as_bytes(), protocol.as_bytes());
        self.open(Node::new(ROOT, 1, Opener::Own, Some(names)))
    }

    /// Opens a child of a stream.
    ///
    /// # Errors
    /// If the channel ended, the parent is gone here or at the peer, or the tree would be too deep.
    pub(crate) fn open_substream(&mut self, parent: StreamKey) -> Result<StreamKey, OpenError> {
        self.check_failed()?;
        let parent = self.held(parent).ok_or(OpenError::Gone)?;
        let node = &self.table[parent];
        if node.has(Flags::PEER_GONE) {
            return Err(OpenError::ParentGone);
        }
        if let Some(error) = cause::open_error(&self.table, parent) {
            return Err(error);
        }
        // STR-3
        if node.place.depth >= MAX_DEPTH {
            return Err(OpenError::TooDeep(MAX_DEPTH));
        }
        self.open(Node::new(parent, node.place.depth + 1, Opener::Own, None))
    }

    fn open(&mut self, mut node: Node) -> Result<StreamKey, OpenError> {
        self.check_failed()?;
        node.set(Flags::HELD);
        node.set_delivery(Item::Init, Delivery::Due);
        self.app.held += 1;
        let key = self.table.insert(node);
        self.table.adopt(key.index);
        self.touch(key.index);
        Ok(key)
    }

    fn check_failed(&self) -> Result<(), CloseReason> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// The slot of a stream that the application holds.
    pub(super) fn held(&self, key: StreamKey) -> Option<u32> {
        self.table
            .find(key)
            .filter(|i| self.table[*i].has(Flags::HELD) && *i != ROOT)
    }

    /// The next top-level stream that the peer opened. It is then to be accepted or refused.
    pub(crate) fn take_incoming(&mut self) -> Option<Incoming> {
        loop {
            let key = self.app.incoming.pop_front()?;
            let names = self.table.find(key).and_then(|i| self.table[i].names.as_deref());
            if let Some(names) = names {
                return Some(Incoming {
                    key,
                    service: names.service.to_vec(),
                    protocol: names.protocol.to_vec(),
                });
            }
        }
    }

    /// The application takes a stream that [`Self::take_incoming`] gave. Returns whether there still is one to take.
    pub(crate) fn accept_top_level(&mut self, key: StreamKey) -> bool {
        match self.table.find(key).filter(|i| self.table[*i].has(Flags::UNACCEPTED)) {
            Some(index) => self.accept(index),
            None => false,
        }
    }

    /// The next child that the peer opened of a stream; `None` once there will be none. If it is pending, an event
    /// follows.
    ///
    /// # Errors
    /// If the channel ended, or the stream is gone.
    pub(crate) fn poll_accept_substream(&mut self, parent: StreamKey) -> Poll<Result<Option<StreamKey>, CloseReason>> {
        self.check_failed()?;
        let parent = self.held(parent).ok_or(CloseReason::Released)?;
        while let Some(key) = self.table[parent].rare.as_mut().and_then(|r| r.backlog.pop()) {
            if self.accept_top_level(key) {
                return Poll::Ready(Ok(Some(key)));
            }
        }
        if let Some(reason) = cause::accept_error(&self.table, parent) {
            return Poll::Ready(Err(reason));
        }
        if self.table[parent].has(Flags::PEER_RELEASED) {
            return Poll::Ready(Ok(None));
        }
        self.table[parent].set(Flags::waits_for(Interest::Accept));
        self.ask_for_more(parent);
        Poll::Pending
    }

    fn accept(&mut self, index: u32) -> bool {
        let is_alive = self.failed.is_none();
        self.take_unaccepted(index);
        if is_alive {
            self.table[index].set(Flags::HELD);
            self.app.held += 1;
            self.settle_opening(index);
        } else {
            self.retire(index);
        }
        is_alive
    }

    /// Refuses a stream that was not accepted (STR-9).
    pub(crate) fn refuse(&mut self, key: StreamKey, code: Code) {
        if let Some(index) = self.table.find(key)
            && self.take_unaccepted(index)
        {
            self.refuse_at(index, code);
        }
    }

    /// Refuses a stream that nobody holds, and the children that wait to be accepted with it.
    pub(super) fn refuse_at(&mut self, index: u32, code: Code) {
        self.abort(index, Cause::Own, Ending::new(code, ""));
        self.stop_unread(index, Ending::new(code, ""));
        self.discard_arrived(index);
        self.answer_await(index);
        self.refuse_backlog(index);
        self.retire(index);
    }

    pub(super) fn refuse_backlog(&mut self, index: u32) {
        let Some(rare) = self.table[index].rare.as_mut() else {
            return;
        };
        let backlog = std::mem::take(&mut rare.backlog);
        for key in backlog.drain() {
            self.refuse(key, Code::NO_LISTENER);
        }
    }
}

/// Writing.
impl Streams {
    /// Takes as much of `data` as there is room for; returns how many bytes: at least one, if there are any.
    ///
    /// # Errors
    /// If the direction has ended.
    pub(crate) fn poll_write(&mut self, key: StreamKey, data: &[u8]) -> Poll<Result<usize, WriteError>> {
        let index = self.writable(key)?;
        let n = ready!(self.poll_room(index, data.len()));
        if let Some(data) = data.get(..n).filter(|d| !d.is_empty()) {
            self.append(index, |buf| buf.push(data));
            self.touch(index);
        }
        Poll::Ready(Ok(n))
    }

    /// As [`Self::poll_write`], taking bytes from the front of `chunk`.
    ///
    /// # Errors
    /// If the direction has ended.
    pub(crate) fn poll_write_chunk(&mut self, key: StreamKey, chunk: &mut Bytes) -> Poll<Result<usize, WriteError>> {
        let index = self.writable(key)?;
        let n = ready!(self.poll_room(index, chunk.len()));
        if n > 0 {
            let bytes = chunk.split_to(n);
            self.append(index, |buf| buf.push_bytes(bytes));
            self.touch(index);
        }
        Poll::Ready(Ok(n))
    }

    /// How much of `wanted` may be written now.
    pub(super) fn poll_room(&mut self, index: u32, wanted: usize) -> Poll<usize> {
        let node = &mut self.table[index];
        let room = SEND_AHEAD.saturating_sub(node.send.unsent());
        let n = wanted.min(usize::try_from(room).unwrap_or(usize::MAX));
        if n == 0 && wanted > 0 {
            node.set(Flags::waits_for(Interest::Write));
            return Poll::Pending;
        }
        Poll::Ready(n)
    }

    /// A writer that waits goes on when half of what it may have written ahead was sent.
    pub(super) fn notify_writable(&mut self, index: u32) {
        let node = &self.table[index];
        if node.has(Flags::waits_for(Interest::Write)) && node.send.unsent() <= SEND_AHEAD / 2 {
            self.notify(index, Interest::Write);
        }
    }

    /// The slot of a stream to which the application may write.
    pub(super) fn writable(&self, key: StreamKey) -> Result<u32, WriteError> {
        self.check_failed()?;
        let index = self.held(key).ok_or(WriteError::Closed)?;
        match self.table[index].status.send {
            SendState::Open => Ok(index),
            SendState::Finishing | SendState::Done => Err(WriteError::Closed),
            SendState::Resetting | SendState::Aborted => Err(cause::write_error(&self.table, index)),
        }
    }

    /// Ends the direction well. Finishing again changes nothing.
    ///
    /// # Errors
    /// If it has ended otherwise.
    pub(crate) fn finish(&mut self, key: StreamKey) -> Result<(), WriteError> {
        let index = match self.writable(key) {
            Ok(index) => index,
            Err(error) => {
                let state = self.held(key).map(|i| self.table[i].status.send);
                let is_finished = matches!(state, Some(SendState::Finishing | SendState::Done));
                return if is_finished && error == WriteError::Closed {
                    Ok(())
                } else {
                    Err(error)
                };
            }
        };
        if let Some(state) = self.table[index].status.send.after(SendInput::Finish) {
            self.table[index].status.send = state;
            self.table[index].set_delivery(Item::Fin, Delivery::Due);
            self.touch(index);
        }
        Ok(())
    }

    /// Ends the direction at once.
    pub(crate) fn reset(&mut self, key: StreamKey, code: Code, reason: &str) {
        if let Some(index) = self.held(key) {
            let ending = Ending::new(own_code(code, Code::DROPPED), reason);
            self.abort(index, Cause::Own, ending);
        }
    }

    /// Resets the sending direction, if it is not over: discards what was not sent or acknowledged, and sends RESET
    /// once the stream is announced.
    pub(super) fn abort(&mut self, index: u32, cause: Cause, ending: Ending) -> bool {
        self.end_sending(index, cause, Some(ending))
    }

    /// As [`Self::abort`], where the cause may say all that is to be known.
    pub(super) fn end_sending(&mut self, index: u32, cause: Cause, ending: Option<Ending>) -> bool {
        let node = &mut self.table[index];
        let Some(state) = node.status.send.after(SendInput::Abort) else {
            return false;
        };
        node.status.send = state;
        node.set_delivery(Item::Fin, Delivery::Idle);
        node.end(Direction::Sending, cause, ending);
        self.give_up_watch(index);
        let node = &mut self.table[index];
        self.pool.take_back_send(&mut node.send);
        self.notify(index, Interest::Sent);
        self.notify(index, Interest::Acknowledged);
        if self.table[index].has(Flags::DATAGRAM) {
            self.settle_datagram(index, DatagramFate::Cancelled);
        }
        if self.failed.is_none() {
            self.outbox.put(&mut self.table, index, Item::Reset);
            self.touch(index);
        }
        true
    }
}

/// Reading.
impl Streams {
    /// The next bytes, at most `max`, or the record mark that is next, unless `max` is 0.
    ///
    /// What had arrived in order can be read even after the channel ended.
    ///
    /// # Errors
    /// If the direction ended early.
    pub(crate) fn poll_read(
        &mut self,
        now: Instant,
        key: StreamKey,
        max: usize,
    ) -> Poll<Result<ReadOutcome, ReadError>> {
        self.windows.now = now;
        let index = self.held(key).ok_or(ReadError::Closed)?;
        if let Some(outcome) = self.read_buf(index, max) {
            self.answer_watch(index);
            return Poll::Ready(Ok(outcome));
        }
        let node = &mut self.table[index];
        if let Some(state) = node.status.recv.after(RecvInput::ReadToEnd) {
            node.status.recv = state;
            self.answer_watch(index);
            return Poll::Ready(Ok(ReadOutcome::End));
        }
        if let Some(state) = node.status.recv.after(RecvInput::Seen) {
            node.status.recv = state;
        }
        if let Some(error) = cause::read_error(&self.table, index) {
            return Poll::Ready(Err(error));
        }
        let node = &mut self.table[index];
        match &self.failed {
            _ if node.status.recv == RecvState::Done => Poll::Ready(Ok(ReadOutcome::End)),
            Some(reason) => Poll::Ready(Err(ReadError::Lost(reason.clone()))),
            None => {
                node.set(Flags::waits_for(Interest::Read));
                Poll::Pending
            }
        }
    }

    /// Takes bytes or a mark out of the receive buffer, which is given back when it is empty.
    fn read_buf(&mut self, index: u32, max: usize) -> Option<ReadOutcome> {
        let recv = &mut self.table[index].recv;
        let buf = recv.buf.as_mut()?;
        if buf.is_blocked() {
            return None;
        }
        // STR-29
        let outcome = match buf.until_mark(recv.read) {
            0 if max > 0 => {
                buf.pass_mark();
                ReadOutcome::Mark
            }
            until => ReadOutcome::Chunk(buf.read(max.min(until), &mut self.pool.slices)),
        };
        let positions = match &outcome {
            ReadOutcome::Chunk(bytes) => bytes.len() as u64,
            _ => 1,
        };
        recv.read += positions;
        if buf.is_empty() {
            self.pool.take_back_recv(recv.buf.take());
        }
        self.consume(index);
        Some(outcome)
    }

    /// The application wants no more of a stream.
    pub(crate) fn stop(&mut self, key: StreamKey, code: Code, reason: &str) {
        if let Some(index) = self.held(key) {
            self.stop_at(index, Ending::new(own_code(code, Code::UNREAD), reason));
        }
    }

    /// Discards what arrived and what will arrive, and sends STOP, unless everything was read or the peer has reset the
    /// direction.
    pub(super) fn stop_at(&mut self, index: u32, ending: Ending) {
        if !self.end_if_read(index) {
            self.stop_unread(index, ending);
        }
    }

    /// Ends a direction of which everything was read, but for being told so (STR-49). Returns whether it is one.
    fn end_if_read(&mut self, index: u32) -> bool {
        let node = &mut self.table[index];
        if node.recv.unread() > 0 {
            return false;
        }
        let Some(state) = node.status.recv.after(RecvInput::ReadToEnd) else {
            return false;
        };
        node.status.recv = state;
        self.answer_watch(index);
        true
    }

    /// As [`Self::stop_at`] of a direction of which nobody has read anything.
    pub(super) fn stop_unread(&mut self, index: u32, ending: Ending) {
        self.end_receiving(index, Cause::Own, Some(ending));
    }

    /// As [`Self::stop_unread`], where the cause may say all that is to be known. Returns whether it was not over.
    pub(super) fn end_receiving(&mut self, index: u32, cause: Cause, ending: Option<Ending>) -> bool {
        let node = &mut self.table[index];
        let before = node.status.recv;
        let Some(state) = before.after(RecvInput::Stop) else {
            return false;
        };
        node.status.recv = state;
        // What the peer ended before stays ended by it: a refusal is remembered.
        if before != RecvState::Reset {
            node.end(Direction::Receiving, cause, ending);
            if self.failed.is_none() {
                self.outbox.put(&mut self.table, index, Item::Stop);
            }
        }
        self.discard(index);
        true
    }

    /// Drops what was received and not read, and counts it as consumed.
    pub(super) fn discard(&mut self, index: u32) {
        let recv = &mut self.table[index].recv;
        self.pool.take_back_recv(recv.buf.take());
        recv.read = recv.received;
        self.consume(index);
    }

    /// The application lets go of a stream: an unfinished direction is reset with DROPPED, one not read to its end is
    /// stopped with UNREAD (STR-13), and children that wait to be accepted are refused.
    pub(crate) fn release(&mut self, key: StreamKey) {
        let Some(index) = self.held(key) else {
            return;
        };
        self.table[index].clear(Flags::HELD.with(Flags::all_interests()));
        self.give_up_watch(index);
        self.end_await(index);
        self.app.held -= 1;
        // DROPPED and UNREAD are what is said of streams that nobody holds: nothing has to be kept for that.
        if self.table[index].status.send == SendState::Open {
            self.end_sending(index, Cause::Released, None);
        }
        if !self.end_if_read(index) {
            self.end_receiving(index, Cause::Released, None);
        }
        self.discard_arrived(index);
        self.answer_await(index);
        self.refuse_backlog(index);
        self.retire(index);
    }
}

/// Codes of refusal may only come from the protocol itself: PARENT_GONE takes back what was charged.
pub(super) fn own_code(code: Code, instead: Code) -> Code {
    Refusal::from_code(code).map_or(code, |_| instead)
}
