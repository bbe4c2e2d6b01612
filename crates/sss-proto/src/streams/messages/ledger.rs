//! Ledger of the datagrams of all streams of a tree: what each counts, and when that is settled; [`sending`]: those of
//! this host.

mod sending;

use std::time::Duration;

use bytes::Bytes;
use sss_wire::Code;
use sss_wire::constants::{MAX_MESSAGE, OPEN_COST};

use super::books::{Arriving, Books, Message};
use super::limits::{Limits, QUEUE_COST};
use super::mailbox::{Arrived, Debt, Form};
use super::options::DatagramStats;
use crate::channel::Outlook;
use crate::config::WindowConfig;
use crate::error::ProtocolError;
use crate::ids::{DatagramId, StreamKey};
use crate::interest::Interest;
use crate::io::DatagramFate;
use crate::rare::Rare;
use crate::streams::data::pool::Pool;
use crate::streams::events::Events;
use crate::streams::flow::{Flow, openings};
use crate::streams::tree::node::Flags;
use crate::streams::tree::table::Table;
use crate::time::Instant;

/// The datagrams of one peer's streams.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Those that there are. Most peers exchange none, ever.
    books: Rare<Books>,
    seed: u64,
    /// True if the first of those that wait for the budget may find room now.
    grant_due: bool,
    limits: Limits,
    /// True if a datagram was abandoned before anything of it was sent.
    pub(crate) missed: bool,
    next_id: u64,
}

impl Ledger {
    pub(crate) fn new(config: &WindowConfig, seed: u64) -> Self {
        Self {
            books: Rare::new(),
            seed,
            grant_due: false,
            limits: Limits::new(config),
            missed: false,
            next_id: 0,
        }
    }

    /// The entries, which are made if there are none.
    fn books_mut(&mut self) -> &mut Books {
        let seed = self.seed;
        self.books.make_with(|| Books::new(seed))
    }

    /// A datagram of this host that is a node of the tree.
    fn message(&self, index: u32) -> Option<&Message> {
        self.books.get()?.sending.get(&index)
    }

    fn message_mut(&mut self, index: u32) -> Option<&mut Message> {
        self.books.get_mut()?.sending.get_mut(&index)
    }

    /// A datagram of the peer that is a node of the tree.
    fn arriving_mut(&mut self, index: u32) -> Option<&mut Arriving> {
        self.books.get_mut()?.arriving.get_mut(&index)
    }

    fn is_any_waiting(&self) -> bool {
        self.first_waiting().is_some()
    }

    /// Counters of the datagrams.
    pub(crate) fn stats(&self) -> DatagramStats {
        self.books
            .get()
            .map_or_else(DatagramStats::default, |books| books.stats)
    }

    pub(crate) fn stats_mut(&mut self) -> &mut DatagramStats {
        &mut self.books_mut().stats
    }

    /// The largest datagram that the peer takes, from its SETTINGS.
    pub(crate) fn set_peer_max(&mut self, bytes: u64) {
        self.limits.peer_max = Some(bytes);
    }

    /// The rate of loss on the channel, in parts of 65536, and how long packets take to the peer.
    pub(crate) fn set_path(&mut self, loss: u32, one_way: Duration) {
        self.limits.loss = loss;
        self.limits.one_way = one_way.into();
    }

    /// Sets what may leave from now on.
    pub(crate) fn set_outlook(&mut self, outlook: Outlook) {
        *self.limits.outlook.make_with(|| outlook) = outlook;
    }

    /// Gives back spare memory.
    pub(crate) fn rest(&mut self) {
        if let Some(books) = self.books.get_mut() {
            books.rest();
        }
        let has_none = self.books.get().is_none_or(Books::has_none_to_send);
        self.limits.outlook.rest(|_| has_none);
    }

    /// Returns whether more is left of a best-effort datagram than can leave before it is too late; of one that has not
    /// begun, a round trip before that: something may be lost.
    pub(crate) fn is_hopeless(&self, index: u32, left: u64, (deadline, has_begun): (Instant, bool)) -> bool {
        let is_reliable = self.message(index).is_none_or(|message| message.is_reliable);
        let Some(outlook) = self.limits.outlook.get().filter(|_| !is_reliable) else {
            return false;
        };
        let end = deadline - self.limits.one_way.get();
        left > outlook.until(if has_begun { end } else { end - outlook.round_trip() })
    }

    /// Returns whether a datagram was abandoned before anything of it was sent, since this was asked last (STR-35).
    pub(crate) fn take_missed(&mut self) -> bool {
        std::mem::take(&mut self.missed)
    }

    /// The largest datagram that can be sent, in bytes.
    pub(crate) fn max(&self) -> u64 {
        self.limits.peer_max.unwrap_or(MAX_MESSAGE)
    }

    /// Returns whether the peer takes datagrams of a size (STR-36).
    pub(crate) fn fits_peer(&self, size: u64) -> bool {
        let limit = self.max();
        size <= limit && limit > 0
    }

    /// Returns whether this host takes datagrams of a size (STR-36).
    pub(crate) fn fits_here(&self, size: u64) -> bool {
        self.limits.own_max > 0 && size <= self.limits.own_max
    }

    /// The channel has ended: so have the datagrams that are in no tree any more.
    pub(crate) fn fail(&mut self, events: &mut Events) {
        self.grant_due = false;
        let Some(books) = self.books.get_mut() else {
            return;
        };
        for id in std::mem::take(&mut books.flying) {
            events.settled(DatagramId(id), DatagramFate::ChannelLost);
        }
        books.deadlines.clear();
        books.waiting.clear();
    }

    /// A datagram is about to be no node of the tree any more. Returns the lender, and what it gets back: for one of
    /// the peer, what was charged for its opening, and for its data if that did not arrive. One that has arrived goes
    /// on costing something, as long as it waits.
    pub(crate) fn forget(&mut self, table: &mut Table, events: &mut Events, flow: &mut Flow, index: u32) -> (u32, u64) {
        self.forget_unannounced(index);
        self.end_arriving(table, events, index);
        let arriving = self.books.get_mut().and_then(|books| books.arriving.remove(&index));
        let Some(Arriving { debt, .. }) = arriving else {
            return (index, 0);
        };
        let Some(debt) = debt else {
            return (openings::lender(table, index), OPEN_COST - QUEUE_COST as u64);
        };
        self.free_grant(flow, debt.granted);
        (debt.lender, OPEN_COST + debt.charge)
    }
}

/// Datagrams of the peer.
impl Ledger {
    /// Finds room for a datagram of `len` bytes that has come without state, if there is some (STR-39), and puts it
    /// there: `take` gives its bytes, and whether they are a slice of a batch. Returns whether it did.
    pub(crate) fn keep_stateless(
        &mut self,
        (table, flow): (&mut Table, &mut Flow),
        index: u32,
        len: usize,
        take: impl FnOnce() -> (Bytes, bool),
    ) -> bool {
        let mailbox = table[index].extras_mut().mailbox_mut();
        let Some(granted) = self.limits.reserve(mailbox, flow, len) else {
            self.stats_mut().dropped_full += 1;
            return false;
        };
        self.stats_mut().received_stateless += 1;
        let (bytes, is_slice) = take();
        let form = Form::Stateless { is_slice, granted };
        mailbox.inbox.push_back(Arrived { bytes, form });
        true
    }

    /// INIT of a datagram stream has come.
    pub(crate) fn note_arriving(&mut self, index: u32, size: u64, debt: Debt) {
        let arriving = Arriving {
            size,
            is_coming: false,
            debt: Some(debt),
        };
        self.books_mut().arriving.insert(index, arriving);
    }

    /// Keeps back the end, from whoever waits for datagrams on the parent, until this one is there (STR-72).
    pub(crate) fn expect(&mut self, table: &mut Table, index: u32) {
        if let Some(arriving) = self.arriving_mut(index) {
            arriving.is_coming = true;
            let parent = table[index].place.parent;
            table[parent].extras_mut().mailbox_mut().arriving += 1;
        }
    }

    /// A datagram of the peer has arrived whole, or never will.
    pub(crate) fn end_arriving(&mut self, table: &mut Table, events: &mut Events, index: u32) {
        let arriving = self.arriving_mut(index);
        let was_coming = arriving.is_some_and(|a| std::mem::take(&mut a.is_coming));
        let parent = table[index].place.parent;
        if was_coming && let Some(mailbox) = table[parent].mailbox() {
            mailbox.arriving = mailbox.arriving.saturating_sub(1);
            notify_no_arrival(table, events, parent);
        }
    }

    /// Checks where the data of a datagram stream ends against its size and its limit (STR-34, STR-37).
    ///
    /// # Errors
    /// If the peer broke a rule.
    pub(crate) fn check(&self, table: &Table, index: u32, end: u64, is_final: bool) -> Result<(), ProtocolError> {
        // Nothing comes back on a datagram of this host.
        let arriving = self.books.get().and_then(|books| books.arriving.get(&index));
        let size = arriving.map_or(0, |a| a.size);
        if end > size || (is_final && end < size) {
            return Err(ProtocolError::new(
                Code::FINAL_SIZE,
                "a datagram ends elsewhere than it said",
            ));
        }
        if end > table[index].recv.limit {
            return Err(ProtocolError::new(Code::CREDIT_EXCEEDED, "more data than was granted"));
        }
        Ok(())
    }

    /// All of a datagram stream is there: it goes into the mailbox of its parent.
    pub(crate) fn deliver(&mut self, table: &mut Table, events: &mut Events, index: u32, bytes: Bytes) {
        let arriving = self.arriving_mut(index);
        let mut debt = arriving.and_then(|a| a.debt.take()).unwrap_or_default();
        debt.charge += QUEUE_COST as u64;
        let parent = table[index].place.parent;
        let form = Form::Stream(debt);
        let mailbox = table[parent].extras_mut().mailbox_mut();
        mailbox.inbox.push_back(Arrived { bytes, form });
        self.stats_mut().received_as_stream += 1;
        self.end_arriving(table, events, index);
        events.notify(table, parent, Interest::RecvDatagram);
    }

    /// Takes the first datagram that has arrived on a stream, and what is consumed by that.
    pub(crate) fn take_arrived(
        &mut self,
        table: &mut Table,
        (pool, flow): (&mut Pool, &mut Flow),
        index: u32,
    ) -> Option<(Bytes, Debt)> {
        let mailbox = table[index].mailbox()?;
        let Arrived { bytes, form } = mailbox.inbox.pop_front()?;
        let debt = match form {
            Form::Stateless { is_slice, granted } => {
                if is_slice {
                    pool.slices.give_back();
                }
                self.limits.release(mailbox, flow, (bytes.len(), granted));
                self.grant_due |= granted > 0 && self.is_any_waiting();
                Debt::default()
            }
            Form::Stream(debt) => debt,
        };
        Some((bytes, debt))
    }
}

/// Credit for datagrams of the peer that are larger than what they borrowed (STR-38).
impl Ledger {
    /// A datagram waits for credit.
    pub(crate) fn wait_for_credit(&mut self, table: &Table, index: u32) {
        let waiting = &mut self.books_mut().waiting;
        waiting.push(table.key(index), |k| table.find(k).is_some());
        self.grant_due = true;
    }

    /// Returns whether a datagram may find credit now.
    pub(crate) fn is_grant_due(&self) -> bool {
        self.grant_due
    }

    pub(crate) fn take_grant_due(&mut self) -> bool {
        std::mem::take(&mut self.grant_due)
    }

    /// The first that waits for credit.
    pub(crate) fn first_waiting(&self) -> Option<StreamKey> {
        self.books.get()?.waiting.front()
    }

    /// The first waits no more.
    pub(crate) fn pop_waiting(&mut self) {
        if let Some(books) = self.books.get_mut() {
            books.waiting.pop();
        }
    }

    /// Gives a datagram what it lacks of credit. Returns `None` if the budget has no room, else whether it got
    /// something.
    pub(crate) fn grant(&mut self, table: &mut Table, flow: &mut Flow, index: u32) -> Option<bool> {
        let Self { books, limits, .. } = self;
        let arriving = books.get_mut().and_then(|books| books.arriving.get_mut(&index));
        let Some((size, debt)) = arriving.and_then(Arriving::owing) else {
            return Some(false);
        };
        let rest = size.saturating_sub(debt.charge);
        if limits.spent.saturating_add(rest) > limits.budget || !flow.windows.lend(rest) {
            return None;
        }
        limits.spent += rest;
        debt.granted = rest;
        table[index].recv.limit = size;
        Some(true)
    }

    /// A datagram is discarded: what it had of the budget is free. What it was charged comes back when it is retired
    /// (STR-57).
    pub(crate) fn give_up_grant(&mut self, flow: &mut Flow, index: u32) {
        if let Some((_, debt)) = self.arriving_mut(index).and_then(Arriving::owing) {
            let granted = std::mem::take(&mut debt.granted);
            self.free_grant(flow, granted);
        }
    }

    /// So much of the budget is free again.
    pub(crate) fn free_grant(&mut self, flow: &mut Flow, granted: u64) {
        self.limits.spent = self.limits.spent.saturating_sub(granted);
        flow.windows.take_back(granted);
        self.grant_due |= granted > 0 && self.is_any_waiting();
    }
}

/// The fate of a datagram of this host that the peer refuses, or answers the RESET of, with a code.
pub(crate) fn refused(code: Code) -> DatagramFate {
    match code {
        Code::DATAGRAM_TOO_LARGE => DatagramFate::TooLarge,
        code => DatagramFate::Refused(code),
    }
}

/// Tells whoever waits for datagrams on a stream, if none will come.
pub(crate) fn notify_no_arrival(table: &mut Table, events: &mut Events, index: u32) {
    if is_last_taken(table, index) {
        events.notify(table, index, Interest::RecvDatagram);
    }
}

/// Returns whether no datagram will come on a stream beside those that wait.
pub(crate) fn is_last_taken(table: &mut Table, index: u32) -> bool {
    let node = &mut table[index];
    node.has(Flags::PEER_RELEASED) && node.mailbox().is_none_or(|m| m.arriving == 0)
}

#[cfg(test)]
impl Ledger {
    pub(crate) fn set_own_max(&mut self, bytes: u64) {
        self.limits.own_max = bytes;
    }

    pub(crate) fn set_budget(&mut self, bytes: u64) {
        self.limits.budget = bytes;
    }

    /// Bytes of stateless ones that wait, with their costs.
    pub(crate) fn stateless(&self) -> usize {
        self.limits.stateless
    }

    /// Returns how much of what it takes a rest may give back.
    pub(crate) fn spare(&self) -> usize {
        let outlook = usize::from(self.limits.outlook.get().is_some());
        self.books.get().map_or(0, Books::room) + outlook
    }

    /// Returns whether nothing is under way or waits for the application.
    pub(crate) fn is_unused(&self) -> bool {
        let entries = |books: &Books| books.sending.len() + books.arriving.len() + books.flying.len();
        let nodes = self.books.get().map_or(0, entries);
        nodes == 0 && (self.limits.spent, self.limits.stateless) == (0, 0)
    }
}
