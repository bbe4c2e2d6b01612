//! Flow control: what may be sent, and what the peer may send (STR-17 to STR-20, STR-45, STR-46, STR-52 to STR-59).
//!
//! - [`windows`] and [`budget`]: how far limits are raised, of which [`gauge`] says how much is used;
//! - [`account`]: what each stream has; [`lending`] what this host charges it for openings, [`backing`] what the peer
//!   does;
//! - [`openings`]: whether a stream can be opened, and who is charged; [`openers`]: those that wait for that.
//!
//! [`Flow`] puts a CREDIT or OPEN_CREDIT that is due into the [`Outbox`].

pub(super) mod account;
pub(super) mod backing;
pub(super) mod budget;
pub(super) mod gauge;
pub(super) mod lending;
pub(super) mod openers;
pub(super) mod openings;
pub(super) mod windows;

use std::time::Duration;

use sss_wire::Code;
use sss_wire::constants::{MAX_DEPTH, OPEN_COST, OPEN_ROOM, STREAM_WINDOW};

use super::frames::delivery::{Delivery, Item};
use super::frames::outbox::Outbox;
use super::tree::node::Flags;
use super::tree::queue::KeyQueue;
use super::tree::table::Table;
use crate::config::{StreamLimits, WindowConfig};
use crate::error::ProtocolError;
use crate::time::Instant;
use backing::Backing;
use budget::{HostBudget, PeerStreams, SubtreeBudgets};
use gauge::Tuning;
use lending::Acceptor;
use openers::Openers;
use openings::Terms;
use windows::Windows;

/// The flow control of one peer's streams. What belongs to a stream is in its node.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) windows: Windows,
    budgets: SubtreeBudgets,
    /// The number of streams the peer has opened, and may open.
    streams: PeerStreams,
    /// The peer's settings.
    terms: Terms,
    /// Streams that wait for room to be opened.
    pub(super) openers: Openers,
    /// Streams that were accepted, and of which the peer has heard nothing since.
    untold: KeyQueue,
    /// The channel has ended: nothing is granted any more.
    is_over: bool,
}

impl Flow {
    pub(super) fn new(config: WindowConfig) -> Self {
        Self {
            windows: Windows::new(config),
            budgets: SubtreeBudgets::default(),
            streams: PeerStreams::default(),
            terms: Terms::default(),
            openers: Openers::default(),
            untold: KeyQueue::default(),
            is_over: false,
        }
    }

    /// The account of the root for what the peer opens.
    pub(super) fn root(&self) -> Backing {
        Backing::with_window(self.windows.root())
    }

    /// Takes part in the budget of a host.
    pub(super) fn set_host(&mut self, host: HostBudget) {
        self.streams.set_host(host.clone());
        self.windows.set_host(host);
    }

    /// Sets how many streams the peer may open.
    pub(super) fn set_limits(&mut self, limits: StreamLimits) {
        self.streams.set_limits(limits);
    }

    /// The channel's round-trip time, by which windows are tuned.
    pub(super) fn set_rtt(&mut self, rtt: Duration) {
        self.windows.rtt = rtt.into();
    }

    pub(super) fn set_now(&mut self, now: Instant) {
        self.windows.now = now;
    }

    /// Gives back spare memory. If there are no `streams`, what waits for the peer to hear of them are keys of those
    /// that are gone.
    pub(super) fn rest(&mut self, streams: bool) {
        self.openers.rest();
        if !streams {
            self.untold.clear();
        }
        self.untold.rest();
    }

    /// The channel has ended.
    pub(super) fn end(&mut self) {
        self.is_over = true;
        self.openers = Openers::default();
        self.untold.clear();
    }

    /// Gives the windows of a stream and those below a budget, or takes it away.
    pub(super) fn set_budget(&mut self, table: &mut Table, index: u32, bytes: Option<u64>) {
        self.budgets.set(table, index, bytes);
    }

    /// A stream is about to be retired: whatever it has of windows and budgets is free.
    pub(super) fn forget(&mut self, table: &mut Table, index: u32) {
        let node = &table[index];
        let (extra, birth) = (node.extra_of_all(), node.birth());
        self.windows.give_back(extra);
        self.windows.end_birth(birth);
        self.budgets.note(table, index, extra, 0);
        self.budgets.forget(table, index);
    }
}

/// Account of what the peer sends.
impl Flow {
    /// Bytes of a stream have come from the peer (STR-19).
    ///
    /// # Errors
    /// If they are more than was granted.
    pub(super) fn check_credit(
        &mut self,
        table: &mut Table,
        outbox: &mut Outbox,
        index: u32,
    ) -> Result<(), ProtocolError> {
        let gauge = table[index].gauge();
        if gauge.charge > gauge.limit {
            return Err(ProtocolError::new(Code::CREDIT_EXCEEDED, "more data than was granted"));
        }
        self.review_credit(table, outbox, index);
        Ok(())
    }

    /// Nothing more of a stream is kept, whatever comes: what its window had of the budgets is free, also if the peer
    /// never acknowledges that it was stopped (STR-45).
    pub(super) fn end_window(&mut self, table: &mut Table, index: u32) {
        let node = &table[index];
        let (extra, birth) = (node.extra(), node.birth());
        if extra > 0 {
            self.windows.give_back(extra);
            self.windows.end_birth(birth);
            self.budgets.note(table, index, extra, 0);
            table[index].end_window();
        }
    }

    /// Bytes of a stream were read by the application, or discarded (STR-20).
    #[inline]
    pub(super) fn consume(&mut self, table: &mut Table, outbox: &mut Outbox, index: u32) {
        if !self.is_over {
            self.review_owed(table, outbox, index);
            self.review_credit(table, outbox, index);
        }
        if !table[index].status.recv.holds_data() {
            self.end_window(table, index);
        }
    }

    /// CREDIT is due if the stream's limit is to be raised.
    fn review_credit(&mut self, table: &mut Table, outbox: &mut Outbox, index: u32) {
        let node = &table[index];
        let is_ending = node.status.recv.has_size() || !node.status.recv.keeps_data();
        if is_ending || node.is_due(Item::Credit) || node.has(Flags::UNACCEPTED) || node.is_datagram() {
            return;
        }
        let left = self.budgets.left(table, index);
        if self.windows.is_due(node.gauge(), node.tuning(), node.birth(), left) {
            outbox.put(table, index, Item::Credit);
        }
    }

    /// Raises the limit of a stream as far as its window and the budgets go; returns it.
    pub(super) fn grant(&mut self, table: &mut Table, outbox: &mut Outbox, index: u32) -> u64 {
        let node = &table[index];
        let left = self.budgets.left(table, index);
        let is_due = self.windows.is_due(node.gauge(), node.tuning(), node.birth(), left);
        if node.status.recv.has_size() || !is_due {
            return node.recv.limit;
        }
        let before = node.extra();
        if let Some((limit, tuning)) = self.windows.grant(node.gauge(), node.tuning(), node.birth(), left) {
            table[index].recv.limit = limit;
            if let Some(tuning) = tuning {
                table[index].clear(Flags::BORN);
                table[index].account_mut().set_tuning(tuning);
                self.budgets.note(table, index, before, tuning.extra());
                self.review_owed(table, outbox, index);
            }
        }
        table[index].recv.limit
    }

    /// The window with which this host opens a stream.
    pub(super) fn choose_window(&self, table: &mut Table, index: u32) {
        let left = self.budgets.left(table, index);
        table[index].recv.limit = self.windows.birth(left);
    }

    /// A stream has its first window.
    pub(super) fn note_birth(&mut self, table: &mut Table, index: u32) {
        let node = &mut table[index];
        if node.recv.limit > STREAM_WINDOW {
            node.set(Flags::BORN);
            let extra = node.birth();
            self.windows.note_birth(extra);
            self.budgets.note(table, index, 0, extra);
        }
    }

    /// An accepted stream gets its first window: what it borrowed, and more if it may go on, if the budgets have room
    /// for that.
    fn back_with_window(&mut self, table: &mut Table, outbox: &mut Outbox, index: u32) {
        let node = &table[index];
        let recv = node.status.recv;
        if !recv.holds_data() {
            return;
        }
        let borrow = node.recv.limit;
        let left = self.budgets.left(table, index);
        let window = self.windows.birth(left);
        if !recv.has_size() && window > borrow {
            table[index].recv.limit = window;
            outbox.put(table, index, Item::Credit);
            self.note_birth(table, index);
        } else if window >= borrow {
            self.note_birth(table, index);
        } else if table[index].owed_now() > 0
            && let Some(tuning) = self.windows.cover(borrow, left)
        {
            table[index].account_mut().set_tuning(tuning);
            self.budgets.note(table, index, 0, tuning.extra());
        }
    }
}

/// Account of what the peer opens (STR-52 to STR-57).
impl Flow {
    /// Returns whether one more stream of the peer is refused (STR-58).
    pub(super) fn has_too_many(&self) -> bool {
        self.streams.are_too_many()
    }

    /// A stream of the peer is retired.
    pub(super) fn count_out(&mut self) {
        self.streams.remove();
    }

    /// INIT of a stream of the peer has come that borrows so much (FRM-9).
    ///
    /// # Errors
    /// If that is more than this host's SETTINGS allow.
    pub(super) fn check_start(&self, borrow: u64) -> Result<(), ProtocolError> {
        if borrow > self.windows.start() {
            return Err(ProtocolError::new(
                Code::FRAME_ENCODING,
                "a stream borrows more than the settings allow",
            ));
        }
        Ok(())
    }

    /// INIT of a stream of the peer has come, and is in its place: its lender is charged. Returns the lender.
    ///
    /// # Errors
    /// If the lender cannot be one, or has no room.
    pub(super) fn charge_peer_opening(
        &mut self,
        table: &mut Table,
        outbox: &mut Outbox,
        index: u32,
        (levels, borrow): (u8, u64),
    ) -> Result<u32, ProtocolError> {
        // It is counted out when it is retired, even if what follows is an error and the channel ends.
        self.streams.add();
        table[index].place.lender = levels;
        let lender = openings::lender(table, index);
        let is_there = levels < MAX_DEPTH && levels < table[index].place.depth;
        // A lender that was refused would be as good as none: what it pays for is bounded by nothing.
        if !is_there || table[lender].has(Flags::CHARGED) {
            return Err(ProtocolError::new(
                Code::STREAM_STATE,
                "an opening is charged to a stream that nobody holds",
            ));
        }
        let node = &mut table[index];
        node.recv.limit = borrow;
        node.set(Flags::CHARGED);
        let backing = &mut table[lender].account_mut().backing;
        if !backing.charge(OPEN_COST + borrow) {
            return Err(ProtocolError::new(
                Code::CREDIT_EXCEEDED,
                "more openings than were granted",
            ));
        }
        if backing.is_pressed() {
            if backing.has_taken() {
                outbox.put(table, lender, Item::OpenCredit);
            }
            self.tell_accepted(table, outbox);
        }
        Ok(lender)
    }

    /// A stream of the peer is accepted: it gets a window of its own, and its lender what it had lent (STR-54). What no
    /// budget has room for stays lent until it is read.
    pub(super) fn settle_opening(&mut self, table: &mut Table, outbox: &mut Outbox, index: u32) {
        if !table[index].take(Flags::CHARGED) {
            return;
        }
        let borrow = table[index].recv.limit;
        self.back_with_window(table, outbox, index);
        let owed = table[index].owed_now();
        if owed > 0 {
            table[index].account_mut().owed = u32::try_from(owed).unwrap_or(u32::MAX);
        }
        let (lender, cost) = (openings::lender(table, index), OPEN_COST + borrow);
        self.consume_opening(table, outbox, lender, cost - owed);
        self.review_credit(table, outbox, index);
        self.note_untold(table, index);
        self.tell_who_stands(table, outbox, index);
        if table[lender].account_mut().backing.accept(cost) {
            self.tell_accepted(table, outbox);
        }
    }

    /// The peer has used what an accepted stream was lent, and no budget has more for it: it is told of the limit that
    /// it knows, and so that the stream was accepted (STR-20).
    fn tell_who_stands(&self, table: &mut Table, outbox: &mut Outbox, index: u32) {
        let node = &table[index];
        let gauge = node.gauge();
        let is_over = node.status.recv.has_size() || !node.status.recv.keeps_data() || node.is_datagram();
        if !is_over && !node.is_due(Item::Credit) && gauge.charge + STREAM_WINDOW > gauge.limit {
            outbox.put(table, index, Item::Credit);
        }
    }

    /// A stream is retired that was never accepted: only now its lender gets back what it cost (STR-57).
    pub(super) fn return_opening(&mut self, table: &mut Table, outbox: &mut Outbox, index: u32) {
        if table[index].take(Flags::CHARGED) {
            let cost = OPEN_COST + table[index].recv.limit;
            self.consume_opening(table, outbox, openings::lender(table, index), cost);
        }
        let account = table[index].account.as_mut();
        let owed = account.map_or(0, |a| std::mem::take(&mut a.owed));
        if owed > 0 {
            self.consume_opening(table, outbox, openings::lender(table, index), u64::from(owed));
        }
    }

    /// Gives back to its lender what a stream does not owe any more.
    #[inline]
    fn review_owed(&mut self, table: &mut Table, outbox: &mut Outbox, index: u32) {
        let before = table[index].account.as_ref().map_or(0, |a| a.owed);
        if before > 0 {
            let now = before.min(u32::try_from(table[index].owed_now()).unwrap_or(u32::MAX));
            table[index].account_mut().owed = now;
            let lender = openings::lender(table, index);
            self.consume_opening(table, outbox, lender, u64::from(before - now));
        }
    }

    /// Gives a lender back what was charged to it for a stream.
    fn consume_opening(&mut self, table: &mut Table, outbox: &mut Outbox, lender: u32, amount: u64) {
        if amount == 0 || self.is_over {
            return;
        }
        let backing = &mut table[lender].account_mut().backing;
        backing.consume(amount);
        if backing.is_due() {
            outbox.put(table, lender, Item::OpenCredit);
        }
    }

    /// Gives a lender back what was charged to it for a datagram that was taken or discarded.
    pub(super) fn consume_datagram(&mut self, table: &mut Table, outbox: &mut Outbox, lender: u32, amount: u64) {
        if amount == 0 || self.is_over {
            return;
        }
        let backing = &mut table[lender].account_mut().backing;
        backing.consume(amount);
        if backing.take_datagram(amount) || backing.is_due() {
            outbox.put(table, lender, Item::OpenCredit);
        }
    }

    /// Raises the limit of an account as far as its window and the budgets go. Returns it, and what of datagrams is
    /// consumed.
    pub(super) fn grant_openings(&mut self, table: &mut Table, index: u32) -> (u64, u64) {
        let left = self.budgets.left(table, index);
        let backing = &mut table[index].account_mut().backing;
        let before = backing.tuning().map_or(0, Tuning::extra);
        let granted = self.windows.grant_openings(backing.tuning(), backing.gauge(), left);
        if let Some((limit, tuning)) = granted {
            backing.raise(limit, tuning);
            self.budgets.note(table, index, before, tuning.extra());
        }
        table[index].account_mut().backing.tell()
    }

    /// Returns whether the peer has room to open one more child of a stream that is to be retired, and knows it
    /// (STR-21).
    pub(super) fn has_last_room(&self, table: &mut Table, outbox: &mut Outbox, index: u32) -> bool {
        if table[index].delivery(Item::OpenCredit).is_open() {
            return false;
        }
        let room = table[index].account.as_ref().map_or(OPEN_ROOM, |a| a.backing.room());
        if room < 2 * OPEN_COST {
            outbox.put(table, index, Item::OpenCredit);
        }
        room >= 2 * OPEN_COST
    }

    /// An accepted stream, of which the peer does not know that yet.
    fn note_untold(&mut self, table: &mut Table, index: u32) {
        let key = table.key(index);
        table[index].set(Flags::UNTOLD);
        let table = &*table;
        let matters = |k| table.find(k).is_some_and(|i| table[i].has(Flags::UNTOLD));
        self.untold.push(key, matters);
    }

    /// Tells the peer of the streams that were accepted, and of which it has heard nothing since (STR-56).
    fn tell_accepted(&mut self, table: &mut Table, outbox: &mut Outbox) {
        for key in std::mem::take(&mut self.untold).drain() {
            if let Some(index) = table.find(key).filter(|i| table[*i].has(Flags::UNTOLD)) {
                outbox.put(table, index, Item::Credit);
            }
        }
    }
}

/// Account of what this host opens (STR-53, STR-59).
impl Flow {
    /// The peer lets each stream borrow so much (STR-75), and has so large an account at its root. What a channel of
    /// the tree said before goes on to hold.
    pub(super) fn set_terms(&mut self, borrow: u64, root: u64) {
        let terms = &mut self.terms;
        (terms.borrow, terms.root) = (terms.borrow.max(borrow), terms.root.max(root));
    }

    pub(super) fn terms(&self) -> Terms {
        self.terms
    }

    /// INIT of a stream is sent for the first time: its lender is charged, and those that waited for it can go.
    pub(super) fn charge_opening(&mut self, table: &mut Table, index: u32) {
        let (lender, acceptor) = (openings::lender(table, index), openings::acceptor(table, index));
        let node = &mut table[index];
        if !matches!(acceptor, Acceptor::Datagrams(_)) {
            node.set(Flags::UNHEARD.with(Flags::UNHELD));
        }
        let (is_nested, cost) = (node.place.lender > 0, OPEN_COST + node.send.limit);
        table[lender].account_mut().lent.charge(acceptor, is_nested, cost);
        self.openers.on_opened(table.key(index));
    }

    /// A stream of this host, of which nothing was heard yet, does not wait to be accepted any more: it was, or was
    /// refused, or never will be.
    pub(super) fn leave_line(&mut self, table: &mut Table, index: u32) {
        let node = &mut table[index];
        node.clear(Flags::UNHEARD);
        let (cost, is_nested) = (OPEN_COST + node.send.limit, node.place.lender > 0);
        let (lender, acceptor) = (openings::lender(table, index), openings::acceptor(table, index));
        if let Some(account) = &mut table[lender].account {
            account.lent.leave(&acceptor, is_nested, cost);
        }
        self.openers.retry_at(table.key(lender));
    }

    /// The peer's application holds a stream of this host, or has held it: a child may be charged to it from now on.
    pub(super) fn note_held(&mut self, table: &mut Table, index: u32) {
        table[index].clear(Flags::UNHELD);
        self.openers.retry_at(table.key(index));
    }

    /// The peer keeps nothing of a stream of this host, and counts nothing of it.
    pub(super) fn take_back_opening(&mut self, table: &mut Table, index: u32) {
        openings::uncharge(table, index);
        let lender = openings::lender(table, index);
        self.openers.retry_at(table.key(lender));
        let node = &mut table[index];
        node.set(Flags::PEER_GONE);
        node.send.limit = sss_wire::varint::MAX;
    }

    /// The peer grants more openings below a stream, and says what of datagrams is consumed.
    pub(super) fn raise_openings(&mut self, table: &mut Table, index: u32, limit: u64, datagrams: u64) {
        table[index].account_mut().lent.raise(limit, datagrams);
        self.openers.retry_at(table.key(index));
    }

    /// Lets a stream wait until there is room to open it, or until `first` is opened, which has to be before it. In the
    /// latter case it does not wait for the acceptor of `first`: once that is opened, others who wait for that acceptor
    /// are nothing to it.
    pub(super) fn wait_to_open(&mut self, table: &mut Table, index: u32, first: u32) {
        let key = table.key(index);
        let node = &mut table[index];
        let was_waiting = node.has(Flags::WAITING);
        let was_woken = node.take(Flags::WOKEN);
        node.set(Flags::WAITING);
        if first != index {
            self.openers.wait_behind(key, table.key(first), table);
        } else if was_woken || !was_waiting {
            let acceptor = openings::acceptor(table, index);
            self.openers.wait(key, acceptor, table, was_woken);
        }
    }

    /// The next stream that waited to be opened, and has its turn.
    pub(super) fn wake(&mut self, table: &mut Table) -> Option<u32> {
        let index = self.openers.next(table).and_then(|key| table.find(key))?;
        table[index].clear(Flags::WAITING);
        table[index].set(Flags::WOKEN);
        Some(index)
    }
}

/// Returns whether an OPEN_CREDIT that said this was the latest, and nothing newer is due.
pub(super) fn is_latest_open_credit(table: &Table, index: u32, said: (u64, u32)) -> bool {
    let node = &table[index];
    let told = node.account.as_ref().map(|a| a.backing.told());
    let is_same = told.is_some_and(|(limit, datagrams)| (limit, datagrams as u32) == said);
    is_same && node.delivery(Item::OpenCredit) == Delivery::InFlight
}

#[cfg(test)]
impl Flow {
    pub(super) fn budget_left(&self, table: &Table, index: u32) -> gauge::Left {
        self.budgets.left(table, index)
    }

    pub(super) fn budgets(&self) -> usize {
        self.budgets.count()
    }

    pub(super) fn peer_streams(&self) -> u64 {
        self.streams.count()
    }
}

#[cfg(test)]
impl Flow {
    /// Returns how much of what it takes a rest may give back.
    pub(crate) fn spare(&self) -> usize {
        self.openers.spare() + self.untold.spare()
    }
}
