//! What the peer has charged to the streams of this host for openings (STR-52 to STR-57), and when it gets that back.

use sss_wire::Code;
use sss_wire::constants::{MAX_DEPTH, OPEN_COST, OPEN_ROOM};

use super::Streams;
use super::frames::delivery::{Delivery, Item};
use super::node::Flags;
use super::windows::{Gauge, Tuning};
use crate::error::ProtocolError;

/// What the peer has charged to a stream for openings.
#[derive(Debug)]
pub(super) struct Backing {
    limit: u64,
    charge: u64,
    consumed: u64,
    /// The part of it that datagrams had been charged.
    datagrams: u64,
    untold: Untold,
    /// The window, once it is not the smallest.
    tuning: Option<Box<Tuning>>,
}

/// What the peer may still take to wait.
#[derive(Debug, Default)]
struct Untold {
    /// Charged for streams that were accepted since the peer was told of all that are.
    streams: u32,
    /// Charged for datagrams that were taken since it was told of that.
    datagrams: u32,
}

impl Default for Backing {
    fn default() -> Self {
        Self {
            limit: OPEN_ROOM,
            charge: 0,
            consumed: 0,
            datagrams: 0,
            untold: Untold::default(),
            tuning: None,
        }
    }
}

impl Backing {
    pub(super) fn with_window(window: Tuning) -> Self {
        Self {
            limit: window.window,
            tuning: Some(Box::new(window)),
            ..Self::default()
        }
    }

    fn room(&self) -> u64 {
        self.limit.saturating_sub(self.charge)
    }

    fn window(&self) -> u64 {
        self.tuning.as_ref().map_or(OPEN_ROOM, |t| t.window)
    }

    pub(super) fn tuning(&self) -> Option<&Tuning> {
        self.tuning.as_deref()
    }

    /// By how much the limit may be raised: what was consumed since it was raised last.
    fn rise(&self) -> u64 {
        (self.consumed + self.window()).saturating_sub(self.limit)
    }

    /// Whether so much was consumed that the peer should know: a part of what it has left (STR-56).
    fn is_due(&self) -> bool {
        let rise = self.rise();
        rise > 0 && rise >= self.room() / 4
    }

    /// A stream was accepted that had been charged so much. Returns whether the peer should know of those that it may
    /// not have heard of: for its sender they still wait.
    fn accept(&mut self, cost: u64) -> bool {
        self.untold.streams = self
            .untold
            .streams
            .saturating_add(u32::try_from(cost).unwrap_or(u32::MAX));
        let is_much = u64::from(self.untold.streams) >= self.room() / 4 || self.is_pressed();
        self.untold.streams = if is_much { 0 } else { self.untold.streams };
        is_much
    }

    /// So much that datagrams were charged is consumed. Returns whether the peer should know: OPEN_CREDIT says it.
    fn take_datagram(&mut self, amount: u64) -> bool {
        self.datagrams += amount;
        self.untold.datagrams = self
            .untold
            .datagrams
            .saturating_add(u32::try_from(amount).unwrap_or(u32::MAX));
        // When this alone is a part of what is left, the limit is raised, and that says it too.
        debug_assert!(
            u64::from(self.untold.datagrams) <= self.rise(),
            "taken, but not consumed"
        );
        self.is_pressed()
    }

    fn outstanding(&self) -> u64 {
        self.charge - self.consumed
    }

    /// So much waits that the peer should know of all that does not.
    fn is_pressed(&self) -> bool {
        self.outstanding() >= self.room() / 4
    }
}

/// What the peer opens.
impl Streams {
    /// INIT of a stream of the peer has come, and is in its place: its lender is charged.
    ///
    /// # Errors
    /// If the lender cannot be one, or has no room.
    pub(super) fn charge_peer_opening(&mut self, index: u32, levels: u8, borrow: u64) -> Result<u32, ProtocolError> {
        self.table[index].place.lender = levels;
        let lender = self.table.lender(index);
        let is_there = levels < MAX_DEPTH && levels < self.table[index].place.depth;
        // A lender that was refused would be as good as none: what it pays for is bounded by nothing.
        if !is_there || self.table[lender].has(Flags::CHARGED) {
            return Err(ProtocolError::new(
                Code::STREAM_STATE,
                "an opening is charged to a stream that nobody holds",
            ));
        }
        let node = &mut self.table[index];
        node.recv.limit = borrow;
        node.set(Flags::CHARGED);
        self.windows.streams.add();
        let backing = &mut self.table[lender].account_mut().backing;
        backing.charge = backing.charge.saturating_add(OPEN_COST + borrow);
        if backing.charge > backing.limit {
            return Err(ProtocolError::new(
                Code::CREDIT_EXCEEDED,
                "more openings than were granted",
            ));
        }
        if backing.is_pressed() {
            let has_taken = backing.untold.datagrams > 0;
            if has_taken {
                self.outbox.put(&mut self.table, lender, Item::OpenCredit);
            }
            self.tell_accepted();
        }
        Ok(lender)
    }

    /// A stream of the peer is accepted: it gets a window of its own, and its lender what it had lent (STR-54). What no
    /// budget has room for stays lent until it is read.
    pub(super) fn settle_opening(&mut self, index: u32) {
        if !self.table[index].take(Flags::CHARGED) {
            return;
        }
        let borrow = self.table[index].recv.limit;
        self.back_with_window(index);
        let owed = self.table[index].owed_now();
        if owed > 0 {
            self.table[index].account_mut().owed = u32::try_from(owed).unwrap_or(u32::MAX);
        }
        let (lender, cost) = (self.table.lender(index), OPEN_COST + borrow);
        self.consume_opening(lender, cost - owed, false);
        self.review_credit(index);
        self.note_untold(index);
        if self.table[lender].account_mut().backing.accept(cost) {
            self.tell_accepted();
        }
    }

    /// A stream is retired that was never accepted: only now its lender gets back what it cost (STR-57).
    pub(super) fn return_opening(&mut self, index: u32) {
        if self.table[index].take(Flags::CHARGED) {
            let cost = OPEN_COST + self.table[index].recv.limit;
            self.consume_opening(self.table.lender(index), cost, false);
        }
        let account = self.table[index].account.as_mut();
        let owed = account.map_or(0, |a| std::mem::take(&mut a.owed));
        if owed > 0 {
            self.consume_opening(self.table.lender(index), u64::from(owed), false);
        }
    }

    /// What a stream still owes its lender may have become less.
    pub(super) fn review_owed(&mut self, index: u32) {
        let before = self.table[index].account.as_ref().map_or(0, |a| a.owed);
        if before > 0 {
            let now = before.min(u32::try_from(self.table[index].owed_now()).unwrap_or(u32::MAX));
            self.table[index].account_mut().owed = now;
            self.consume_opening(self.table.lender(index), u64::from(before - now), false);
        }
    }

    /// Gives a lender back what was charged to it.
    pub(super) fn consume_opening(&mut self, lender: u32, amount: u64, of_datagram: bool) {
        if amount == 0 || self.failed.is_some() {
            return;
        }
        let backing = &mut self.table[lender].account_mut().backing;
        backing.consumed += amount;
        debug_assert!(backing.consumed <= backing.charge, "more consumed than charged");
        let is_to_be_told = of_datagram && backing.take_datagram(amount);
        if is_to_be_told || backing.is_due() {
            self.outbox.put(&mut self.table, lender, Item::OpenCredit);
        }
    }

    /// Raises the limit of an account as far as its window and the budgets go. Returns it, and what of datagrams is
    /// consumed.
    pub(super) fn grant_openings(&mut self, index: u32) -> (u64, u64) {
        let left = self.budget_left(index);
        let backing = &self.table[index].account_mut().backing;
        let before = backing.tuning().map_or(0, Tuning::extra);
        let gauge = Gauge {
            limit: backing.limit,
            charge: backing.charge,
            consumed: backing.consumed,
        };
        let granted = self.windows.grant_openings(backing.tuning(), gauge, left);
        if let Some((limit, tuning)) = granted {
            let backing = &mut self.table[index].account_mut().backing;
            backing.limit = limit;
            match &mut backing.tuning {
                Some(present) => **present = tuning,
                none => *none = Some(Box::new(tuning)),
            }
            self.note_window(index, before, tuning.extra());
        }
        let backing = &mut self.table[index].account_mut().backing;
        backing.untold.datagrams = 0;
        (backing.limit, backing.datagrams)
    }

    /// Whether an OPEN_CREDIT with this limit was the latest, and nothing newer is due.
    pub(super) fn is_latest_open_credit(&self, index: u32, limit: u64) -> bool {
        let node = &self.table[index];
        let is_same = node.account.as_ref().is_some_and(|a| a.backing.limit == limit);
        is_same && node.delivery(Item::OpenCredit) == Delivery::InFlight
    }

    /// Whether the peer has room to open one more child of a stream that is to be retired, and knows it (STR-21).
    pub(super) fn has_last_room(&mut self, index: u32) -> bool {
        if self.table[index].delivery(Item::OpenCredit).is_open() {
            return false;
        }
        let room = self.table[index]
            .account
            .as_ref()
            .map_or(OPEN_ROOM, |a| a.backing.room());
        if room < 2 * OPEN_COST {
            self.outbox.put(&mut self.table, index, Item::OpenCredit);
        }
        room >= 2 * OPEN_COST
    }

    /// An accepted stream, of which the peer does not know that yet.
    fn note_untold(&mut self, index: u32) {
        let key = self.table.key(index);
        self.table[index].set(Flags::UNTOLD);
        let table = &self.table;
        let matters = |k| table.find(k).is_some_and(|i| table[i].has(Flags::UNTOLD));
        self.outbox.untold.push(key, matters);
    }

    /// Tells the peer of the streams that were accepted, and of which it has heard nothing since (STR-56).
    fn tell_accepted(&mut self) {
        for key in std::mem::take(&mut self.outbox.untold).drain() {
            if let Some(index) = self.table.find(key).filter(|i| self.table[*i].has(Flags::UNTOLD)) {
                self.outbox.put(&mut self.table, index, Item::Credit);
            }
        }
    }
}

#[cfg(test)]
impl Streams {
    /// Lets the peer send so much more of a stream that is not accepted.
    pub(super) fn lend_more(&mut self, index: u32, bytes: u64) {
        let lender = self.table.lender(index);
        self.table[index].recv.limit += bytes;
        self.table[lender].account_mut().backing.charge += bytes;
    }

    /// Lets the peer open as much as it likes below a stream.
    pub(super) fn widen(&mut self, index: u32) {
        self.table[index].account_mut().backing.limit = 1 << 60;
    }
}

#[cfg(test)]
impl Backing {
    /// What the peer has charged, what of that is consumed, and the limit.
    pub(super) fn gauge(&self) -> (u64, u64, u64) {
        (self.charge, self.consumed, self.limit)
    }
}
