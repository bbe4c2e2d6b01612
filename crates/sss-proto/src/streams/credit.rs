//! Credit (STR-17 to STR-21): how much of its limits each stream has used, in both directions.
//!
//! A charge of a stream is also charged to its parent as long as the stream's charge is below STREAM_BORROW, and so on
//! upwards. Both hosts compute it by the same steps, one from what it sends, the other from what it receives.

use sss_wire::Code;
use sss_wire::constants::{OPEN_COST, STREAM_BORROW};

use super::Streams;
use super::node::{Flags, NONE, Node, Opener, ROOT};
use super::table::Table;
use super::windows::{Gauge, Tuning};
use crate::error::ProtocolError;

/// What a limit has left at least when a stream is retired (STR-21).
pub(super) const LAST_CREDIT: u64 = 4096;

/// What a stream's credit has to do with others. A stream that never had children, and whose window is that of a new stream, has none.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// What its children are charged here of what this host sends.
    sent_below: u64,
    /// The same of what the peer sends.
    received_below: u64,
    /// What of that was consumed.
    consumed_below: u64,
    /// Children that are not retired.
    pub(super) children: u32,
    /// Those of them that this host has opened and the peer is not known to know.
    pub(super) unknown: u32,
    /// The window, once it is not that of a new stream.
    tuning: Option<Box<Tuning>>,
}

impl Account {
    pub(super) fn set_sent_below(&mut self, bytes: u64) {
        self.sent_below = bytes;
    }

    pub(super) fn set_tuning(&mut self, tuning: Tuning) {
        match &mut self.tuning {
            Some(present) => **present = tuning,
            none => *none = Some(Box::new(tuning)),
        }
    }
}

impl Node {
    pub(super) fn account_mut(&mut self) -> &mut Account {
        self.account.get_or_insert_default()
    }

    /// What this host sent of the stream's limit; of a datagram stream, what its parent was charged.
    pub(super) fn send_charge(&self) -> u64 {
        let own = if self.has(Flags::DATAGRAM) { 0 } else { self.send.sent };
        own + self.account.as_ref().map_or(0, |a| a.sent_below)
    }

    /// What is left of the limit that the peer granted.
    pub(super) fn send_room(&self) -> u64 {
        self.send.limit.saturating_sub(self.send_charge())
    }

    /// What the peer was granted, what it sent of that, and what of that is out of the way.
    pub(super) fn gauge(&self) -> Gauge {
        let below = self
            .account
            .as_ref()
            .map_or((0, 0), |a| (a.received_below, a.consumed_below));
        let waiting = self.rare.as_ref().map_or(0, |r| r.listen.waiting());
        Gauge {
            limit: self.recv.limit,
            charge: self.recv.received.saturating_add(below.0),
            consumed: self.recv.read.saturating_add(below.1),
            held: below.0.saturating_sub(below.1).saturating_sub(waiting),
        }
    }

    /// What is left of the limit that the peer was granted.
    pub(super) fn recv_room(&self) -> u64 {
        let gauge = self.gauge();
        gauge.limit.saturating_sub(gauge.charge)
    }

    pub(super) fn tuning(&self) -> Option<&Tuning> {
        self.account.as_ref().and_then(|a| a.tuning.as_deref())
    }

    /// Children that are not retired.
    pub(super) fn children(&self) -> u32 {
        self.account.as_ref().map_or(0, |a| a.children)
    }
}

/// How much charge a stream can take, and the stream whose limit allows no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) bytes: u64,
    pub(super) limited_by: u32,
}

/// The part of a charge that the parent bears.
fn borrowed(charge: u64) -> u64 {
    charge.min(STREAM_BORROW)
}

/// What the parent bears of the last `amount` of a charge.
pub(super) fn borrowed_of(charge: u64, amount: u64) -> u64 {
    borrowed(charge) - borrowed(charge.saturating_sub(amount))
}

impl Table {
    /// The parent that bears a part of a stream's charge.
    fn bearer(&self, index: u32) -> Option<u32> {
        let node = &self[index];
        (node.place.parent != NONE && !node.has(Flags::DETACHED)).then_some(node.place.parent)
    }

    /// The largest charge that can be made to a stream by this host (STR-18).
    pub(super) fn send_room(&self, index: u32) -> Room {
        let mut room = Room {
            bytes: u64::MAX,
            limited_by: index,
        };
        // The most that any larger charge below would add at this level.
        let mut most = u64::MAX;
        let mut at = index;
        loop {
            let here = self[at].send_room();
            if here < most && here < room.bytes {
                room = Room {
                    bytes: here,
                    limited_by: at,
                };
            }
            most = most.min(STREAM_BORROW.saturating_sub(self[at].send_charge()));
            match self.bearer(at) {
                Some(parent) if most > 0 => at = parent,
                _ => return room,
            }
        }
    }

    /// The room for data of a stream; for one that is not announced yet, beside what announcing it costs its parent.
    /// `Err` if it cannot even be announced.
    pub(super) fn data_room(&self, index: u32) -> Result<Room, u32> {
        let node = &self[index];
        if node.has(Flags::DATAGRAM) {
            return self.datagram_room(index);
        }
        if node.has(Flags::ANNOUNCED) {
            return Ok(self.send_room(index));
        }
        let parent = self.send_room(node.place.parent);
        let left = parent.bytes.checked_sub(OPEN_COST).ok_or(parent.limited_by)?;
        let own = node.send_room();
        let borrow = STREAM_BORROW.saturating_sub(node.send_charge());
        let is_own = own <= left || borrow <= left;
        Ok(Room {
            bytes: if is_own { own } else { left },
            limited_by: if is_own { index } else { parent.limited_by },
        })
    }

    /// Counts bytes that this host has sent of a stream.
    pub(super) fn charge_send(&mut self, index: u32, bytes: u64) {
        let node = &self[index];
        debug_assert!(node.send_charge() <= node.send.limit, "charge beyond the limit");
        let passed = borrowed_of(node.send_charge(), bytes);
        if let Some(parent) = self.bearer(index) {
            self.charge_send_below(parent, passed);
        }
    }

    /// Counts what a child of a stream is charged for here, or its opening.
    pub(super) fn charge_send_below(&mut self, index: u32, amount: u64) {
        let (mut at, mut amount) = (index, amount);
        while amount > 0 {
            let node = &mut self[at];
            node.account_mut().sent_below += amount;
            debug_assert!(node.send_charge() <= node.send.limit, "charge beyond the limit");
            amount = borrowed_of(node.send_charge(), amount);
            match self.bearer(at) {
                Some(parent) => at = parent,
                None => return,
            }
        }
    }

    /// Takes back what a stream, opened by this host, is charged for at its ancestors: the peer never counted it, for it had
    /// retired the parent. Calls `freed` for each stream that has room again.
    pub(super) fn uncharge(&mut self, index: u32, mut freed: impl FnMut(&mut Table, u32)) {
        let node = &mut self[index];
        if node.has(Flags::DETACHED) || !node.has(Flags::ANNOUNCED) {
            return;
        }
        let mut amount = OPEN_COST + borrowed(node.send_charge());
        let mut next = self.bearer(index);
        self[index].set(Flags::DETACHED);
        while let Some(at) = next
            && amount > 0
        {
            let node = &mut self[at];
            let before = borrowed(node.send_charge());
            let below = &mut node.account_mut().sent_below;
            *below = below.saturating_sub(amount);
            amount = before - borrowed(node.send_charge());
            next = self.bearer(at);
            freed(self, at);
        }
    }
}

impl Streams {
    /// Counts bytes that the peer has sent of a stream (STR-19).
    pub(super) fn charge_recv(&mut self, index: u32, bytes: u64) -> Result<(), ProtocolError> {
        let passed = self.check_charge(index, bytes)?;
        match self.table[index].place.parent {
            NONE => Ok(()),
            parent => self.charge_recv_below(parent, passed),
        }
    }

    /// Counts what a child of a stream is charged for here, or its opening.
    pub(super) fn charge_recv_below(&mut self, index: u32, amount: u64) -> Result<(), ProtocolError> {
        let (mut at, mut amount) = (index, amount);
        while amount > 0 {
            let below = &mut self.table[at].account_mut().received_below;
            *below = below.saturating_add(amount);
            amount = self.check_charge(at, amount)?;
            match self.table[at].place.parent {
                NONE => break,
                parent => at = parent,
            }
        }
        Ok(())
    }

    /// The charge of a stream has grown. Returns how much of that its parent bears.
    fn check_charge(&mut self, index: u32, amount: u64) -> Result<u64, ProtocolError> {
        let gauge = self.table[index].gauge();
        if gauge.charge > gauge.limit {
            return Err(ProtocolError::new(Code::CREDIT_EXCEEDED, "more data than was granted"));
        }
        self.review_credit(index);
        Ok(borrowed_of(gauge.charge, amount))
    }

    /// Counts bytes of a stream that the application has read, or that were discarded (STR-20).
    pub(super) fn consume(&mut self, index: u32, bytes: u64) {
        // What a peer that broke the rules has sent may be counted in part.
        if bytes == 0 || self.failed.is_some() {
            return;
        }
        let consumed = self.table[index].gauge().consumed;
        self.review_credit(index);
        self.consume_below(self.table[index].place.parent, borrowed_of(consumed, bytes));
    }

    /// Counts what was consumed of a child of a stream, or that it was accepted or refused.
    pub(super) fn consume_below(&mut self, index: u32, amount: u64) {
        let (mut at, mut amount) = (index, amount);
        while amount > 0 && at != NONE && self.failed.is_none() {
            let node = &mut self.table[at];
            node.account_mut().consumed_below += amount;
            let gauge = node.gauge();
            debug_assert!(gauge.consumed <= gauge.charge, "more consumed than charged");
            amount = borrowed_of(gauge.consumed, amount);
            self.review_credit(at);
            at = self.table[at].place.parent;
        }
    }

    /// A child of a stream was accepted or refused: what its opening cost is consumed.
    pub(super) fn consume_opening(&mut self, index: u32) {
        let node = &self.table[index];
        if node.place.opener == Opener::Peer {
            self.consume_below(node.place.parent, OPEN_COST);
        }
    }

    /// Queues CREDIT if the stream's limit is to be raised.
    fn review_credit(&mut self, index: u32) {
        let node = &self.table[index];
        if node.has(Flags::CREDIT_DUE) {
            return;
        }
        // A direction whose end is known needs credit only for children: without any, the last of it (STR-21).
        let is_ending = node.status.recv.has_size() && node.children() == 0;
        if is_ending && node.recv_room() >= LAST_CREDIT {
            return;
        }
        let left = self.budget_left(index);
        if self.windows.is_due(node.gauge(), node.tuning(), left) {
            self.queue_credit(index);
        }
    }

    /// Queues CREDIT, or remembers that it is due until the peer knows the stream (STR-8).
    pub(super) fn queue_credit(&mut self, index: u32) {
        let key = self.table.key(index);
        let node = &mut self.table[index];
        node.set(Flags::CREDIT_DUE.with(Flags::CREDIT_OPEN));
        if (index == ROOT || node.has(Flags::INIT_ACKED)) && !node.has(Flags::IN_CREDITS) {
            node.set(Flags::IN_CREDITS);
            let table = &self.table;
            self.control.credits.push(key, |k| table.find(k).is_some());
        }
    }

    /// Raises the limit of a stream as far as its window and the budgets go; returns it.
    pub(super) fn grant(&mut self, index: u32) -> u64 {
        let node = &self.table[index];
        let left = self.budget_left(index);
        let before = node.tuning().map_or(0, Tuning::extra);
        if let Some((limit, tuning)) = self.windows.grant(node.gauge(), node.tuning(), left) {
            let node = &mut self.table[index];
            node.recv.limit = limit;
            node.account_mut().set_tuning(tuning);
            self.note_window(index, before, tuning.extra());
        }
        self.table[index].recv.limit
    }
}
