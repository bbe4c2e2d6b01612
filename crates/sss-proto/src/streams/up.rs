//! Up: frames from the peer.
//!
//! 1. the stream is found, or made by its INIT;
//! 2. what the frame says is checked against what is known: final size, then credit;
//! 3. data goes into the receive buffer, or is discarded and counted as consumed;
//! 4. whoever waits is told, and the stream is retired if that was its end.

use bytes::Bytes;
use sss_wire::Code;
use sss_wire::frame::{Init, InitKind, Reset, Scope, Stop, Stream};

use super::Streams;
use super::attachment::Found;
use super::frames::delivery::{Delivery, Item};
use super::life::cause::{Cause, Direction, Ending};
use super::node::{Flags, Node, Opener, ROOT};
use super::recv::Incoming;
use super::state::{RecvInput, RecvState};
use crate::error::ProtocolError;
use crate::interest::Interest;
use crate::refusal::Refusal;

const UNKNOWN: ProtocolError = ProtocolError::new(Code::STREAM_STATE, "frame for a stream that was never opened");

impl Streams {
    /// What an LSID names.
    pub(super) fn find(&self, lsid: u64) -> Found {
        self.attachment.find(&self.table, lsid)
    }

    /// STREAM. `packet` holds the frame's data.
    ///
    /// # Errors
    /// If the peer broke a rule.
    pub(crate) fn on_stream(&mut self, frame: &Stream<'_>, packet: &Bytes) -> Result<(), ProtocolError> {
        if self.failed.is_some() {
            return Ok(());
        }
        let index = match self.find(frame.lsid) {
            Found::Live(index) => {
                if frame.init.is_some() && self.table[index].place.opener == Opener::Own {
                    return Err(wrong_parity());
                }
                self.note_heard(index);
                Some(index)
            }
            Found::Retired | Found::Never => self.meet(frame)?,
        };
        match index {
            Some(index) => self.receive(index, frame, packet),
            None => Ok(()),
        }
    }

    /// A frame for a stream that is not there: opens it, if it is new. `None` if it was retired, or refused without
    /// being kept.
    fn meet(&mut self, frame: &Stream<'_>) -> Result<Option<u32>, ProtocolError> {
        let was_opened = self.find(frame.lsid) == Found::Retired;
        let (opener, ordinal) = self.attachment.name(frame.lsid);
        match &frame.init {
            // STR-7
            Some(_) if opener == Opener::Own => Err(wrong_parity()),
            _ if was_opened => Ok(None),
            Some(init) => self.open_for_peer(frame.lsid, ordinal, init),
            None => Err(UNKNOWN),
        }
    }

    /// INIT of a stream that is new.
    fn open_for_peer(&mut self, lsid: u64, ordinal: u64, init: &Init<'_>) -> Result<Option<u32>, ProtocolError> {
        let parent = match (init.kind, init.parent) {
            (InitKind::TopLevel { .. }, 0) => Some(ROOT),
            (InitKind::TopLevel { .. }, _) | (_, 0) => {
                return Err(ProtocolError::new(
                    Code::STREAM_STATE,
                    "kind and parent of a stream do not match",
                ));
            }
            (_, parent) => match self.find(parent) {
                // STR-34
                Found::Live(index) if self.table[index].has(Flags::DATAGRAM) => {
                    return Err(ProtocolError::new(Code::STREAM_STATE, "child of a datagram stream"));
                }
                Found::Live(index) => Some(index),
                Found::Retired => None,
                Found::Never => {
                    return Err(ProtocolError::new(
                        Code::STREAM_STATE,
                        "child of a stream that was never opened",
                    ));
                }
            },
        };
        if let Some(parent) = parent {
            self.check_not_released(parent)?;
        }
        self.attachment.note_opened(ordinal)?;
        let Some(parent) = parent else {
            self.outbox.refusals.put(lsid, Code::PARENT_GONE)?;
            return Ok(None);
        };
        if self.has_too_many() {
            self.outbox.refusals.put(lsid, Code::TOO_MANY)?;
            return Ok(None);
        }
        let names = match init.kind {
            InitKind::TopLevel { service, protocol } => Some(self.names.get(service, protocol)),
            InitKind::Substream => None,
            InitKind::Datagram { size } => {
                return self.open_datagram(parent, ordinal, size, init).map(Some);
            }
        };
        let depth = self.table[parent].place.depth;
        let mut node = Node::new(parent, depth.saturating_add(1), Opener::Peer, names);
        node.ordinal = ordinal;
        node.set(Flags::ANNOUNCED);
        node.set_delivery(Item::Init, Delivery::Acked);
        node.send.limit = init.credit;
        let key = self.table.insert(node);
        self.table.adopt(key.index);
        self.attachment.attach(&self.table, key.index);
        self.charge_peer_opening(key.index, init.lender, init.borrow)?;
        self.note_heard(parent);
        self.offer(parent, key.index);
        Ok(Some(key.index))
    }

    /// Data, a mark and FIN.
    fn receive(&mut self, index: u32, frame: &Stream<'_>, packet: &Bytes) -> Result<(), ProtocolError> {
        if frame.data.is_empty() && !frame.mark && !frame.fin {
            return Ok(());
        }
        if frame.mark && self.table[index].has(Flags::DATAGRAM) {
            return Err(ProtocolError::new(Code::FINAL_SIZE, "a record mark in a datagram"));
        }
        self.extend(index, frame.end(), frame.fin)?;
        let node = &self.table[index];
        if node.has(Flags::DATAGRAM) {
            match node.place.opener {
                Opener::Peer => self.on_datagram_data(index, frame, packet),
                Opener::Own => self.on_datagram_delivered(index),
            }
            return Ok(());
        }
        if self.table[index].status.recv.keeps_data() {
            let has_more = self.keep(index, frame, packet);
            let is_complete = self.complete(index);
            if is_complete {
                self.answer_watch(index);
            }
            if has_more || is_complete {
                self.notify(index, Interest::Read);
            }
        } else if matches!(self.table[index].status.recv, RecvState::Stopped | RecvState::Done) {
            self.discard(index);
            self.retire(index);
        }
        Ok(())
    }

    /// Checks the end of a frame against the final size, if that is known, and against the credit; and notes a new
    /// highest offset and a new final size.
    fn extend(&mut self, index: u32, end: u64, is_final: bool) -> Result<(), ProtocolError> {
        let node = &mut self.table[index];
        let received = node.recv.received;
        let (state, has_size) = (node.status.recv, node.status.recv.has_size());
        // STR-12
        let is_beyond = has_size && end > received;
        let is_other_end = is_final && (end < received || (has_size && end != received));
        if is_beyond || is_other_end {
            return Err(ProtocolError::new(
                Code::FINAL_SIZE,
                "data beyond the end, or two different ends",
            ));
        }
        self.check_datagram(index, end, is_final)?;
        let node = &mut self.table[index];
        if is_final && let Some(state) = state.after(RecvInput::Size) {
            node.status.recv = state;
        }
        if end > received {
            node.recv.received = end;
            self.check_credit(index)?;
            self.add_burden(index, end - received);
        }
        Ok(())
    }

    /// Puts data and a mark into the receive buffer; returns whether more can be read.
    pub(super) fn keep(&mut self, index: u32, frame: &Stream<'_>, packet: &Bytes) -> bool {
        let recv = &mut self.table[index].recv;
        let is_bare = frame.data.is_empty() && !frame.mark;
        if is_bare || frame.end() <= recv.next() {
            return false;
        }
        let read = recv.read;
        let buf = recv.buf.get_or_insert_with(|| self.pool.recv_buf(read));
        let incoming = Incoming {
            offset: frame.offset,
            data: frame.data,
            has_mark: frame.mark,
            packet,
        };
        buf.insert(incoming, &mut self.pool.slices)
    }

    /// Whether that was the last that was missing.
    pub(super) fn complete(&mut self, index: u32) -> bool {
        let node = &mut self.table[index];
        if node.recv.next() < node.recv.received {
            return false;
        }
        let Some(state) = node.status.recv.after(RecvInput::AllReceived) else {
            return false;
        };
        node.status.recv = state;
        true
    }

    /// The stream that a frame is about which the peer sends only of streams that its application holds; `None` if it
    /// was retired.
    pub(super) fn known(&mut self, lsid: u64) -> Result<Option<u32>, ProtocolError> {
        let index = self.met(lsid)?;
        if let Some(index) = index {
            self.note_heard(index);
        }
        Ok(index)
    }

    /// The stream that a frame is about; `None` if it was retired.
    pub(super) fn met(&self, lsid: u64) -> Result<Option<u32>, ProtocolError> {
        match self.find(lsid) {
            _ if self.failed.is_some() => Ok(None),
            Found::Live(index) => Ok(Some(index)),
            Found::Retired => Ok(None),
            // STR-8
            Found::Never => Err(UNKNOWN),
        }
    }

    /// RESET.
    ///
    /// # Errors
    /// If the peer broke a rule.
    pub(crate) fn on_reset(&mut self, frame: &Reset<'_>) -> Result<(), ProtocolError> {
        // STR-44: children are refused with the code, and who is refused draws conclusions from it.
        if frame.scope == Scope::Tree && Refusal::from_code(frame.code).is_some() {
            return Err(ProtocolError::new(
                Code::STREAM_STATE,
                "a subtree reset with a code of refusal",
            ));
        }
        let Some(index) = self.met(frame.lsid)? else {
            return Ok(());
        };
        self.note_refusal(index, frame.code);
        let before = self.table[index].status.recv;
        let unread = self.table[index].recv.unread();
        self.check_reset(index, frame.final_size)?;
        let node = &mut self.table[index];
        node.set_delivery(Item::Stop, Delivery::Idle);
        if let Some(state) = before.after(RecvInput::Reset) {
            node.status.recv = state;
            if state == RecvState::Reset {
                node.note_reset(frame);
            }
            // STR-15
            self.lift_burden(index, unread);
            self.discard(index);
            self.notify(index, Interest::Read);
        }
        if self.table[index].has(Flags::DATAGRAM) {
            self.on_datagram_refused(index, frame.code);
            self.on_datagram_reset(index, before, frame.code);
        }
        if !self.table[index].has(Flags::HELD)
            && let Some(state) = self.table[index].status.recv.after(RecvInput::Seen)
            && !self.table[index].has(Flags::UNACCEPTED)
        {
            self.table[index].status.recv = state;
        }
        if frame.scope == Scope::Tree && !self.table[index].has(Flags::DATAGRAM) {
            self.on_tree_reset(index, Ending::new(frame.code, frame.reason));
        }
        self.retire(index);
        Ok(())
    }

    /// The final size of RESET is checked, and charged, like that of FIN.
    fn check_reset(&mut self, index: u32, size: u64) -> Result<(), ProtocolError> {
        let node = &mut self.table[index];
        let received = node.recv.received;
        // STR-12
        if size < received || (node.status.recv.has_size() && size != received) {
            return Err(ProtocolError::new(Code::FINAL_SIZE, "RESET with another final size"));
        }
        self.check_datagram(index, size, false)?;
        self.table[index].recv.received = size;
        self.check_credit(index)
    }

    /// STOP.
    ///
    /// # Errors
    /// If the peer broke a rule.
    pub(crate) fn on_stop(&mut self, frame: &Stop<'_>) -> Result<(), ProtocolError> {
        let Some(index) = self.met(frame.lsid)? else {
            return Ok(());
        };
        self.note_decided(index);
        self.note_refusal(index, frame.code);
        if self.table[index].has(Flags::DATAGRAM) {
            self.on_datagram_refused(index, frame.code);
        }
        self.on_late_stop(index, Ending::new(frame.code, frame.reason));
        // STR-14
        if self.abort(index, Cause::Peer, Ending::new(frame.code, frame.reason)) {
            self.on_stopped(index);
            self.notify(index, Interest::Write);
            self.notify(index, Interest::Drained);
        }
        Ok(())
    }

    /// STR-9, STR-58: of a stream that is refused with these codes the peer counts nothing.
    fn note_refusal(&mut self, index: u32, code: Code) {
        let place = &self.table[index].place;
        let (is_own, parent) = (place.opener == Opener::Own, place.parent);
        if is_own && code == Code::PARENT_GONE && parent != ROOT {
            self.table[parent].set(Flags::PEER_GONE);
            self.note_unkept(index);
        } else if is_own && code == Code::TOO_MANY {
            self.note_unkept(index);
        }
    }

    /// The peer keeps nothing of a stream of this host, and counts nothing of it.
    fn note_unkept(&mut self, index: u32) {
        self.note_decided(index);
        self.table.uncharge(index);
        let lender = self.table.lender(index);
        self.outbox.openers.retry_at(self.table.key(lender));
        let node = &mut self.table[index];
        node.set(Flags::PEER_GONE);
        node.send.limit = sss_wire::varint::MAX;
    }

    /// CREDIT.
    ///
    /// # Errors
    /// If the peer broke a rule.
    pub(crate) fn on_credit(&mut self, lsid: u64, limit: u64) -> Result<(), ProtocolError> {
        if let Some(index) = self.known(lsid)? {
            self.raise_limit(index, limit);
        }
        Ok(())
    }
}

impl Node {
    /// Why the peer has reset the receiving direction, for whoever holds the stream or will.
    fn note_reset(&mut self, frame: &Reset<'_>) {
        let is_told = self.has(Flags::HELD) || self.has(Flags::UNACCEPTED);
        let ending = is_told.then(|| Ending::new(frame.code, frame.reason));
        self.end(Direction::Receiving, Cause::Peer, ending);
    }
}

/// STR-7
fn wrong_parity() -> ProtocolError {
    ProtocolError::new(Code::STREAM_STATE, "INIT of a stream that is the receiver's to open")
}
