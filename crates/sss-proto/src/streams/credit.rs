//! Credit (STR-17 to STR-21): how much of its limits each stream has used, in both directions.
//!
//! A charge of a stream is also charged to its parent as long as the stream's charge is below STREAM_BORROW, and so on
//! upwards. Both hosts compute it by the same steps, one from what it sends, the other from what it receives.

use sss_wire::Code;
use sss_wire::constants::{OPEN_COST, STREAM_BORROW};

use super::Streams;
use super::node::{Flags, NONE, Opener, ROOT};
use super::table::Table;
use super::windows::Tuning;
use crate::error::ProtocolError;

/// What a limit has left at least when a stream is retired (STR-21).
pub(super) const LAST_CREDIT: u64 = 4096;

/// The credit that the peer grants to this host.
#[derive(Debug)]
pub(super) struct SendCredit {
    pub(super) limit: u64,
    pub(super) charge: u64,
}

impl SendCredit {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, charge: 0 }
    }

    pub(super) fn room(&self) -> u64 {
        self.limit.saturating_sub(self.charge)
    }
}

/// The credit that this host grants to the peer.
#[derive(Debug)]
pub(super) struct RecvCredit {
    pub(super) limit: u64,
    pub(super) charge: u64,
    pub(super) consumed: u64,
    /// The window, once it is not that of a new stream.
    pub(super) tuning: Option<Box<Tuning>>,
}

impl RecvCredit {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            charge: 0,
            consumed: 0,
            tuning: None,
        }
    }

    pub(super) fn room(&self) -> u64 {
        self.limit.saturating_sub(self.charge)
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
            let credit = &self[at].send.credit;
            let here = credit.room();
            if here < most && here < room.bytes {
                room = Room {
                    bytes: here,
                    limited_by: at,
                };
            }
            most = most.min(STREAM_BORROW.saturating_sub(credit.charge));
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
        let own = node.send.credit.room();
        let borrow = STREAM_BORROW.saturating_sub(node.send.credit.charge);
        let is_own = own <= left || borrow <= left;
        Ok(Room {
            bytes: if is_own { own } else { left },
            limited_by: if is_own { index } else { parent.limited_by },
        })
    }

    /// Counts what this host sends.
    pub(super) fn charge_send(&mut self, index: u32, amount: u64) {
        let (mut at, mut amount) = (index, amount);
        while amount > 0 {
            let credit = &mut self[at].send.credit;
            let before = borrowed(credit.charge);
            credit.charge += amount;
            debug_assert!(credit.charge <= credit.limit, "charge beyond the limit");
            amount = borrowed(credit.charge) - before;
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
        let mut amount = OPEN_COST + borrowed(node.send.credit.charge);
        let mut next = self.bearer(index);
        self[index].set(Flags::DETACHED);
        while let Some(at) = next
            && amount > 0
        {
            let credit = &mut self[at].send.credit;
            let before = borrowed(credit.charge);
            credit.charge = credit.charge.saturating_sub(amount);
            amount = before - borrowed(credit.charge);
            next = self.bearer(at);
            freed(self, at);
        }
    }
}

impl Streams {
    /// Counts what the peer sent (STR-19).
    pub(super) fn charge_recv(&mut self, index: u32, amount: u64) -> Result<(), ProtocolError> {
        let (mut at, mut amount) = (index, amount);
        while amount > 0 {
            let credit = &mut self.table[at].recv.credit;
            let before = borrowed(credit.charge);
            credit.charge = credit.charge.saturating_add(amount);
            if credit.charge > credit.limit {
                return Err(ProtocolError::new(Code::CREDIT_EXCEEDED, "more data than was granted"));
            }
            amount = borrowed(credit.charge) - before;
            self.review_credit(at);
            match self.table[at].place.parent {
                NONE => break,
                parent => at = parent,
            }
        }
        Ok(())
    }

    /// Counts what the application read, or what was discarded (STR-20).
    pub(super) fn consume(&mut self, index: u32, amount: u64) {
        let (mut at, mut amount) = (index, amount);
        while amount > 0 {
            let credit = &mut self.table[at].recv.credit;
            let before = borrowed(credit.consumed);
            credit.consumed += amount;
            debug_assert!(credit.consumed <= credit.charge, "more consumed than charged");
            amount = borrowed(credit.consumed) - before;
            self.review_credit(at);
            match self.table[at].place.parent {
                NONE => break,
                parent => at = parent,
            }
        }
    }

    /// A child of a stream was accepted or refused: what its opening cost is consumed.
    pub(super) fn consume_opening(&mut self, index: u32) {
        let node = &self.table[index];
        if node.place.opener == Opener::Peer {
            self.consume(node.place.parent, OPEN_COST);
        }
    }

    /// Queues CREDIT if the stream's limit is to be raised.
    fn review_credit(&mut self, index: u32) {
        let node = &self.table[index];
        if node.has(Flags::CREDIT_DUE) {
            return;
        }
        // A direction whose end is known needs credit only for children: without any, the last of it (STR-21).
        let is_ending = node.status.recv.has_size() && node.place.children == 0;
        if is_ending && node.recv.credit.room() >= LAST_CREDIT {
            return;
        }
        if self.windows.is_due(&node.recv.credit) {
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
}
