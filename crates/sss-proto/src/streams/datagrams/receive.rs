//! Datagrams on their way in.
//!
//! A datagram without state goes into the mailbox of its stream at once. A datagram stream is put together in its node
//! first; when all is there it goes into the mailbox as well, and the node only has to tell the sender so.

use std::task::Poll;

use bytes::{Bytes, BytesMut};
use sss_wire::Code;
use sss_wire::constants::OPEN_COST;
use sss_wire::frame::{self, Init};

use super::super::Streams;
use super::super::attachment::Found;
use super::super::frames::delivery::{Delivery, Item};
use super::super::life::cause::{self, Cause, Ending};
use super::super::node::{Flags, Node, Opener};
use super::super::recv::SLICE_FROM;
use super::super::state::{RecvInput, RecvState, SendInput};
use super::{Arrived, Form};
use crate::error::{ProtocolError, ReadError};
use crate::ids::StreamKey;
use crate::interest::Interest;
use crate::time::Instant;

/// Bytes of stateless datagrams, with their costs, that wait on one stream at most.
const STREAM_QUEUE: usize = 1 << 20;
/// Bytes of stateless datagrams, with their costs, that wait on all streams of a peer at most.
const PEER_QUEUE: usize = 4 << 20;
/// What a stateless datagram that waits costs beside its bytes.
const QUEUE_COST: usize = 128;

/// A datagram of the peer that is a node of the tree.
#[derive(Debug)]
pub(super) struct Arriving {
    size: u64,
    /// Whether it may still arrive whole: its parent counts it.
    is_coming: bool,
    debt: Debt,
}

/// What is consumed when a datagram is taken or discarded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Debt {
    /// The stream above that was charged.
    lender: u32,
    /// What it was charged for the data.
    charge: u64,
    /// What it has of the budget.
    granted: u64,
}

impl Streams {
    /// DATAGRAM. `packet` holds the frame's data.
    ///
    /// # Errors
    /// If the peer broke a rule.
    pub(crate) fn on_datagram(&mut self, frame: &frame::Datagram<'_>, packet: &Bytes) -> Result<(), ProtocolError> {
        if self.failed.is_some() {
            return Ok(());
        }
        let index = match self.find(frame.lsid) {
            Found::Live(index) => Some(index),
            Found::Retired => None,
            // STR-33
            Found::Never => {
                return Err(ProtocolError::new(
                    Code::STREAM_STATE,
                    "datagram on a stream that was never opened",
                ));
            }
        };
        if index.is_some_and(|i| self.table[i].has(Flags::DATAGRAM)) {
            return Err(ProtocolError::new(Code::STREAM_STATE, "datagram on a datagram stream"));
        }
        let stats = &mut self.datagrams.stats;
        let limits = &self.datagrams.limits;
        let is_taken = |node: &Node| takes_datagrams(node) && !node.has(Flags::PEER_RELEASED);
        match index.filter(|i| is_taken(&self.table[*i])) {
            None => stats.dropped_unheld += 1,
            // STR-36
            Some(_) if limits.own_max == 0 || frame.data.len() as u64 > limits.own_max => stats.dropped_large += 1,
            Some(index) => self.keep_stateless(index, frame.data, packet),
        }
        Ok(())
    }

    /// STR-39
    fn keep_stateless(&mut self, index: u32, data: &[u8], packet: &Bytes) {
        let Self {
            table, datagrams, pool, ..
        } = self;
        let mailbox = table[index].rare_mut().mailbox_mut();
        let cost = data.len().saturating_add(QUEUE_COST);
        let waiting = (mailbox.stateless + cost, datagrams.limits.stateless + cost);
        // As much stays free for the streams that have none as waits on this one.
        if waiting.0 > STREAM_QUEUE.min(PEER_QUEUE.saturating_sub(waiting.1)) {
            datagrams.stats.dropped_full += 1;
            return;
        }
        (mailbox.stateless, datagrams.limits.stateless) = waiting;
        datagrams.stats.received_stateless += 1;
        let is_slice = data.len() >= SLICE_FROM && pool.slices.take();
        let bytes = if is_slice {
            packet.slice_ref(data)
        } else {
            Bytes::copy_from_slice(data)
        };
        let form = Form::Stateless { is_slice };
        mailbox.inbox.push_back(Arrived { bytes, form });
        self.notify(index, Interest::RecvDatagram);
    }

    /// INIT of a datagram stream that is new (STR-34).
    pub(in super::super) fn open_datagram(
        &mut self,
        parent: u32,
        ordinal: u64,
        size: u64,
        init: &Init<'_>,
    ) -> Result<u32, ProtocolError> {
        let borrow = init.borrow;
        let depth = self.table[parent].place.depth.saturating_add(1);
        let mut node = Node::new(parent, depth, Opener::Peer, None);
        node.ordinal = ordinal;
        node.set(Flags::DATAGRAM.with(Flags::ANNOUNCED));
        node.set_delivery(Item::Init, Delivery::Acked);
        let key = self.table.insert(node);
        self.table.adopt(key.index);
        self.attachment.attach(&self.table, key.index);
        // STR-37
        let lender = self.charge_peer_opening(key.index, init.lender, borrow)?;
        self.table[key.index].clear(Flags::CHARGED);
        let debt = Debt {
            lender,
            charge: borrow,
            granted: 0,
        };
        let is_coming = false;
        let arriving = Arriving { size, is_coming, debt };
        self.datagrams.arriving.insert(key.index, arriving);
        let own_max = self.datagrams.limits.own_max;
        if own_max == 0 || size > own_max {
            self.refuse_datagram(key.index, Code::DATAGRAM_TOO_LARGE);
        } else if let Some(code) = self.why_no_datagrams(parent) {
            self.refuse_datagram(key.index, code);
        } else {
            self.expect_datagram(key.index, parent);
            if borrow < size {
                // STR-38
                let table = &self.table;
                self.datagrams.waiting.push(key, |k| table.find(k).is_some());
                self.datagrams.grant_due = true;
            }
        }
        Ok(key.index)
    }

    /// Who waits for datagrams on the parent is not told the end before this one is there (STR-72).
    fn expect_datagram(&mut self, index: u32, parent: u32) {
        if let Some(arriving) = self.datagrams.arriving.get_mut(&index) {
            arriving.is_coming = true;
            self.table[parent].rare_mut().mailbox_mut().arriving += 1;
        }
    }

    /// A datagram of the peer has arrived whole, or never will.
    fn end_arriving(&mut self, index: u32, parent: u32) {
        let arriving = self.datagrams.arriving.get_mut(&index);
        let was_coming = arriving.is_some_and(|a| std::mem::take(&mut a.is_coming));
        if was_coming && let Some(mailbox) = self.table[parent].mailbox() {
            mailbox.arriving = mailbox.arriving.saturating_sub(1);
            self.notify_no_arrival(parent);
        }
    }

    /// Tells whoever waits for datagrams on a stream, if none will come.
    pub(in super::super) fn notify_no_arrival(&mut self, index: u32) {
        if self.is_last_taken(index) {
            self.notify(index, Interest::RecvDatagram);
        }
    }

    /// Whether no datagram will come on a stream beside those that wait.
    fn is_last_taken(&mut self, index: u32) -> bool {
        let node = &mut self.table[index];
        node.has(Flags::PEER_RELEASED) && node.mailbox().is_none_or(|m| m.arriving == 0)
    }

    /// The code with which datagrams on a stream are refused, if they are (STR-40, STR-44).
    fn why_no_datagrams(&self, parent: u32) -> Option<Code> {
        let is_taken = takes_datagrams(&self.table[parent]);
        cause::tree_code(&self.table, parent).or_else(|| (!is_taken).then_some(Code::NO_LISTENER))
    }

    /// RESET and STOP for a datagram stream, and nothing more of it is kept (STR-36, STR-40).
    fn refuse_datagram(&mut self, index: u32, code: Code) {
        self.give_up_grant(index);
        self.end_arriving(index, self.table[index].place.parent);
        self.abort(index, Cause::Own, Ending::new(code, ""));
        self.stop_unread(index, Ending::new(code, ""));
        self.retire(index);
    }

    /// The peer gave up a datagram in the state `before`: what had come of it is discarded, and the direction back ends
    /// as well.
    pub(in super::super) fn on_datagram_reset(&mut self, index: u32, before: RecvState, code: Code) {
        if self.table[index].place.opener == Opener::Own {
            return;
        }
        self.give_up_grant(index);
        self.end_arriving(index, self.table[index].place.parent);
        if before.keeps_data() {
            self.abort(index, Cause::Own, Ending::new(code, ""));
        }
    }

    /// A datagram is discarded: what it had of the budget is free. What it was charged comes back when it is retired
    /// (STR-57).
    fn give_up_grant(&mut self, index: u32) {
        if let Some(arriving) = self.datagrams.arriving.get_mut(&index) {
            let granted = std::mem::take(&mut arriving.debt.granted);
            self.free_grant(granted);
        }
    }

    fn free_grant(&mut self, granted: u64) {
        let limits = &mut self.datagrams.limits;
        limits.spent = limits.spent.saturating_sub(granted);
        self.windows.take_back(granted);
        self.datagrams.grant_due |= granted > 0 && !self.datagrams.waiting.is_empty();
    }

    /// What the data of a datagram was charged is consumed, and what it had of the budget is free.
    fn pay(&mut self, debt: Debt) {
        self.free_grant(debt.granted);
        self.consume_opening(debt.lender, debt.charge, true);
    }

    /// Checks where the data of a datagram stream ends against its size and its limit (STR-34, STR-37).
    pub(in super::super) fn check_datagram(&self, index: u32, end: u64, is_final: bool) -> Result<(), ProtocolError> {
        let node = &self.table[index];
        if !node.has(Flags::DATAGRAM) {
            return Ok(());
        }
        // Nothing comes back on a datagram of this host.
        let size = self.datagrams.arriving.get(&index).map_or(0, |a| a.size);
        if end > size || (is_final && end < size) {
            return Err(ProtocolError::new(
                Code::FINAL_SIZE,
                "a datagram ends elsewhere than it said",
            ));
        }
        if end > node.recv.limit {
            return Err(ProtocolError::new(Code::CREDIT_EXCEEDED, "more data than was granted"));
        }
        Ok(())
    }

    /// Data of a datagram stream came.
    pub(in super::super) fn on_datagram_data(&mut self, index: u32, frame: &frame::Stream<'_>, packet: &Bytes) {
        match self.table[index].status.recv {
            RecvState::Open | RecvState::Sized => {
                let parent = self.table[index].place.parent;
                if let Some(code) = self.why_no_datagrams(parent) {
                    return self.refuse_datagram(index, code);
                }
                self.keep(index, frame, packet);
                if self.complete(index) {
                    self.deliver_datagram(index);
                }
            }
            RecvState::Stopped | RecvState::Done => {
                self.discard(index);
                self.retire(index);
            }
            RecvState::Complete | RecvState::Reset => {}
        }
    }

    /// All of a datagram stream is there: it goes into the mailbox of its parent.
    fn deliver_datagram(&mut self, index: u32) {
        let bytes = self.assemble(index);
        let arriving = self.datagrams.arriving.get_mut(&index);
        let debt = arriving.map(|a| std::mem::take(&mut a.debt)).unwrap_or_default();
        let node = &mut self.table[index];
        if let Some(state) = node.status.recv.after(RecvInput::ReadToEnd) {
            node.status.recv = state;
        }
        if let Some(state) = node.status.send.after(SendInput::Finish) {
            node.status.send = state;
            node.set_delivery(Item::Fin, Delivery::Due);
        }
        let parent = node.place.parent;
        let form = Form::Stream(debt);
        let mailbox = self.table[parent].rare_mut().mailbox_mut();
        mailbox.inbox.push_back(Arrived { bytes, form });
        self.datagrams.stats.received_as_stream += 1;
        self.end_arriving(index, parent);
        self.notify(parent, Interest::RecvDatagram);
        self.touch(index);
    }

    /// The bytes of a stream in one piece.
    fn assemble(&mut self, index: u32) -> Bytes {
        let recv = &mut self.table[index].recv;
        let size = usize::try_from(recv.received).unwrap_or(usize::MAX);
        recv.read = recv.received;
        let Some(mut buf) = recv.buf.take() else {
            return Bytes::new();
        };
        let first = buf.read(size, &mut self.pool.slices);
        let bytes = if first.len() == size {
            first
        } else {
            let mut whole = BytesMut::with_capacity(size);
            whole.extend_from_slice(&first);
            drop(first);
            while !buf.is_blocked() {
                whole.extend_from_slice(&buf.read(size, &mut self.pool.slices));
            }
            whole.freeze()
        };
        self.pool.take_back_recv(Some(buf));
        bytes
    }

    /// The next datagram that arrived on a stream; `None` once there will be none. If it is pending, an event follows.
    ///
    /// What had arrived can be taken even after the channel ended.
    ///
    /// # Errors
    /// If the stream was released, or the channel has ended.
    pub(crate) fn poll_recv_datagram(
        &mut self,
        now: Instant,
        key: StreamKey,
    ) -> Poll<Result<Option<Bytes>, ReadError>> {
        self.windows.now = now;
        let index = self.held(key).ok_or(ReadError::Closed)?;
        if let Some(arrived) = self.take_arrived(index) {
            return Poll::Ready(Ok(Some(arrived)));
        }
        if let Some(reason) = &self.failed {
            return Poll::Ready(Err(ReadError::Lost(reason.clone())));
        }
        if let Some(error) = cause::arrival_error(&self.table, index) {
            return Poll::Ready(Err(error));
        }
        if self.is_last_taken(index) {
            return Poll::Ready(Ok(None));
        }
        self.table[index].set(Flags::waits_for(Interest::RecvDatagram));
        self.ask_for_more(index);
        Poll::Pending
    }

    fn take_arrived(&mut self, index: u32) -> Option<Bytes> {
        let mailbox = self.table[index].mailbox()?;
        let Arrived { bytes, form } = mailbox.inbox.pop_front()?;
        match form {
            Form::Stateless { is_slice } => {
                let cost = bytes.len() + QUEUE_COST;
                mailbox.stateless = mailbox.stateless.saturating_sub(cost);
                let limits = &mut self.datagrams.limits;
                limits.stateless = limits.stateless.saturating_sub(cost);
                if is_slice {
                    self.pool.slices.give_back();
                }
            }
            Form::Stream(debt) => self.pay(debt),
        }
        Some(bytes)
    }

    /// A stream was reset with a subtree: what datagrams have arrived on it, or of it, is discarded.
    pub(in super::super) fn discard_datagrams(&mut self, index: u32) {
        self.discard_arrived(index);
        self.give_up_grant(index);
    }

    /// Nobody will take what has arrived on a stream.
    pub(in super::super) fn discard_arrived(&mut self, index: u32) {
        while self.take_arrived(index).is_some() {}
    }

    /// Whether [`Self::grant_datagrams`] may have something to do.
    pub(in super::super) fn is_grant_due(&self) -> bool {
        self.datagrams.grant_due
    }

    /// Credit for as many datagrams as the budget has room for, in order of arrival (STR-38).
    pub(in super::super) fn grant_datagrams(&mut self) {
        if !std::mem::take(&mut self.datagrams.grant_due) {
            return;
        }
        while let Some(key) = self.datagrams.waiting.front() {
            if let Some(index) = self.table.find(key)
                && self.table[index].status.recv.keeps_data()
                && !self.grant_datagram(index)
            {
                return;
            }
            self.datagrams.waiting.pop();
        }
    }

    /// Returns false if the budget has no room.
    fn grant_datagram(&mut self, index: u32) -> bool {
        let parent = self.table[index].place.parent;
        if let Some(code) = self.why_no_datagrams(parent) {
            self.refuse_datagram(index, code);
            return true;
        }
        let Some(arriving) = self.datagrams.arriving.get_mut(&index) else {
            return true;
        };
        let rest = arriving.size.saturating_sub(arriving.debt.charge);
        let limits = &mut self.datagrams.limits;
        if limits.spent.saturating_add(rest) > limits.budget || !self.windows.lend(rest) {
            return false;
        }
        limits.spent += rest;
        arriving.debt.granted = rest;
        self.table[index].recv.limit = arriving.size;
        self.outbox.put(&mut self.table, index, Item::Credit);
        true
    }

    /// A datagram is no node of the tree any more.
    pub(in super::super) fn forget_datagram(&mut self, index: u32) {
        self.datagrams.sending.remove(&index);
        self.end_arriving(index, self.table[index].place.parent);
        if let Some(arriving) = self.datagrams.arriving.remove(&index) {
            let lender = self.table.lender(index);
            self.pay(arriving.debt);
            self.consume_opening(lender, OPEN_COST, true);
        }
    }
}

/// Whether the stream has, or may still get, an application that takes its datagrams.
fn takes_datagrams(node: &Node) -> bool {
    (node.has(Flags::HELD) || node.has(Flags::UNACCEPTED)) && !node.has(Flags::TREE_RESET)
}
