//! Datagrams of this host: those that are nodes of the tree, and those in line behind them.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use sss_wire::constants::{DATAGRAM_LIFETIME, OPEN_COST};

use super::super::books::{Books, Message};
use super::super::deadlines::Entry;
use super::super::line::{Lines, Waiting};
use super::super::options::DatagramOptions;
use super::Ledger;
use crate::ids::DatagramId;
use crate::interest::Interest;
use crate::io::DatagramFate;
use crate::streams::data::half::SEND_AHEAD;
use crate::streams::data::pool::Pool;
use crate::streams::events::Events;
use crate::streams::tree::node::Flags;
use crate::streams::tree::table::Table;
use crate::time::Instant;

/// The rate of loss, in parts of 65536, up to which datagrams travel without state (STR-32): 1%.
const MAX_LOSS: u32 = 655;

/// Returns what a datagram of `size` bytes counts while it waits to be sent.
fn queue_cost(size: u64) -> u64 {
    size.saturating_add(OPEN_COST)
}

/// Returns whether a deadline is still that of a datagram whose fate is open.
fn is_open(sending: &HashMap<u32, Message, FixedState>, table: &Table, (at, key): &Entry) -> bool {
    let message = table.find(*key).and_then(|index| sending.get(&index));
    message.is_some_and(|m| !m.is_settled && m.deadline == Some(*at))
}

impl Message {
    /// A datagram of `size` bytes that is given to be sent (STR-35).
    pub(in super::super) fn new(now: Instant, (id, size): (u64, u64), options: &DatagramOptions) -> Self {
        let lifetime = (!options.reliable).then_some(DATAGRAM_LIFETIME);
        Self {
            id,
            size,
            queued: queue_cost(size),
            is_reliable: options.reliable,
            is_tracked: options.tracked,
            is_settled: false,
            is_overdue: false,
            deadline: options.deadline.or(lifetime).map(|time| now + time),
        }
    }

    /// One that was in line.
    pub(in super::super) fn of(waiting: &Waiting) -> Self {
        let size = waiting.data.len() as u64;
        Self {
            id: waiting.id,
            size,
            queued: queue_cost(size),
            is_reliable: false,
            is_tracked: waiting.is_tracked,
            is_settled: false,
            is_overdue: false,
            deadline: Some(waiting.deadline),
        }
    }
}

/// Datagrams of this host that are nodes of the tree.
impl Ledger {
    /// Queues a datagram on the account of its stream: if it fits, if little is queued, or if it is larger than what
    /// can ever be and nothing else is there.
    pub(crate) fn take_room(&mut self, table: &mut Table, parent: u32, size: u64) -> bool {
        let cost = queue_cost(size);
        let mailbox = table[parent].extras_mut().mailbox_mut();
        let room_at = if cost > SEND_AHEAD { 0 } else { SEND_AHEAD / 2 };
        let fits = mailbox.queued.saturating_add(cost) <= SEND_AHEAD || mailbox.queued <= room_at;
        if fits {
            mailbox.queued = mailbox.queued.saturating_add(cost);
        } else {
            mailbox.room_at = mailbox.room_at.max(Some(room_at));
            table[parent].set(Flags::waits_for(Interest::SendDatagram));
        }
        fits
    }

    /// The name of the next datagram.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// A node of the tree is this datagram from now on.
    pub(in super::super) fn enter(&mut self, table: &Table, index: u32, message: Message) {
        let Books { sending, deadlines, .. } = self.books_mut();
        let deadline = message.deadline;
        sending.insert(index, message);
        if let Some(at) = deadline {
            deadlines.push(at, table.key(index), |entry| is_open(sending, table, entry));
        }
    }

    /// Returns when the first deadline is so near that what is sent then comes too late.
    pub(crate) fn next_timer(&mut self, table: &Table) -> Option<Instant> {
        let Books { sending, deadlines, .. } = self.books.get_mut()?;
        let first = deadlines.first(|entry| is_open(sending, table, entry))?;
        Some(first - self.limits.one_way.get())
    }

    /// Takes the next datagram whose time is over.
    pub(crate) fn pop_overdue(&mut self, now: Instant, table: &Table) -> Option<u32> {
        let books = self.books.get_mut()?;
        loop {
            let (at, key) = books.deadlines.pop_due(now, self.limits.one_way.get())?;
            if let Some(index) = table.find(key)
                && let Some(message) = books.sending.get_mut(&index)
                && message.deadline == Some(at)
            {
                message.is_overdue = true;
                return Some(index);
            }
        }
    }

    pub(crate) fn is_overdue(&self, index: u32) -> bool {
        self.message(index).is_some_and(|m| m.is_overdue)
    }

    /// A datagram was given up because of its deadline.
    pub(crate) fn note_expired(&mut self, was_announced: bool) {
        self.stats_mut().expired += 1;
        self.missed |= !was_announced;
    }

    /// Returns whether a datagram may go without state, as far as that does not depend on its size (STR-32).
    pub(crate) fn may_go_stateless(&self, index: u32) -> bool {
        let is_reliable = self.message(index).is_none_or(|m| m.is_reliable);
        !is_reliable && self.limits.loss <= MAX_LOSS
    }

    /// The size of a datagram of this host.
    pub(crate) fn size(&self, index: u32) -> u64 {
        self.message(index).map_or(0, |m| m.size)
    }

    /// A datagram went without state: nothing that is sent later on its stream may say that it will not come (STR-71).
    /// Returns whether its stream counts it, and its name if its fate is asked for.
    pub(crate) fn note_flying(&mut self, table: &mut Table, events: &mut Events, index: u32) -> (bool, Option<u64>) {
        self.stats_mut().sent_stateless += 1;
        let parent = table[index].place.parent;
        let mailbox = table[parent].mailbox();
        let is_counted = mailbox.map(|m| m.flying = m.flying.saturating_add(1)).is_some();
        let books = self.books_mut();
        let Some(message) = books.sending.get_mut(&index) else {
            return (is_counted, None);
        };
        let tracked = message.is_tracked.then_some(message.id);
        let queued = std::mem::take(&mut message.queued);
        books.flying.extend(tracked);
        give_back_room(table, events, index, queued);
        (is_counted, tracked)
    }

    /// The packet with a datagram that went without state was acknowledged or lost.
    pub(crate) fn on_flown(&mut self, events: &mut Events, id: u64, fate: DatagramFate) {
        let books = self.books.get_mut();
        if books.is_some_and(|books| books.flying.remove(&id)) {
            events.settled(DatagramId(id), fate);
        }
    }

    /// INIT of a datagram stream is sent for the first time.
    pub(crate) fn note_announced(&mut self, table: &mut Table, events: &mut Events, index: u32) {
        self.stats_mut().sent_as_stream += 1;
        self.unqueue(table, events, index, OPEN_COST);
    }

    /// A datagram of this host that was never announced is about to be no node of the tree any more.
    pub(crate) fn forget_unannounced(&mut self, index: u32) {
        if let Some(books) = self.books.get_mut() {
            books.sending.remove(&index);
        }
    }

    /// So much of a datagram is queued no more.
    pub(crate) fn unqueue(&mut self, table: &mut Table, events: &mut Events, index: u32, amount: u64) {
        if let Some(message) = self.message_mut(index) {
            message.queued = message.queued.saturating_sub(amount);
            give_back_room(table, events, index, amount);
        }
    }

    /// The fate of a datagram is known. Returns whether it was not known before.
    pub(crate) fn settle(&mut self, table: &mut Table, events: &mut Events, index: u32, fate: DatagramFate) -> bool {
        let message = self.message_mut(index);
        let Some(message) = message.filter(|m| !m.is_settled) else {
            return false;
        };
        message.is_settled = true;
        let queued = std::mem::take(&mut message.queued);
        let tracked = message.is_tracked.then_some(message.id);
        give_back_room(table, events, index, queued);
        if let Some(id) = tracked {
            events.settled(DatagramId(id), fate);
        }
        true
    }
}

/// Datagrams in line (STR-81): none of them is reliable, and none has a deadline of its own.
impl Ledger {
    /// The lines of a stream, if there is one to whose end a datagram of this level can go.
    pub(crate) fn lines<'a>(&self, table: &'a mut Table, parent: u32, level: i8) -> Option<&'a mut Lines> {
        let lines = &mut table[parent].mailbox()?.lines;
        lines.has(level).then_some(lines)
    }

    /// A datagram that is a node of the tree, of this level, has others of its stream behind it from now on, if none
    /// has.
    pub(crate) fn begin_line(&self, table: &mut Table, index: u32) {
        let place = &table[index].place;
        let (parent, level) = (place.parent, place.level);
        table[parent].extras_mut().mailbox_mut().lines.begin(index, level);
    }

    /// Takes who is next in line behind one that is over, or is to be a stream. The line ends if there is none.
    pub(crate) fn advance_line(&self, table: &mut Table, index: u32) -> Option<Waiting> {
        let parent = table[index].place.parent;
        table[parent].mailbox()?.lines.advance(index)
    }

    /// The first in line has another slot from now on.
    pub(crate) fn hand_on_line(&self, table: &mut Table, from: u32, to: u32) {
        let parent = table[from].place.parent;
        if let Some(mailbox) = table[parent].mailbox() {
            mailbox.lines.hand_on(from, to);
        }
    }

    /// The fate of all in line behind one is known.
    pub(crate) fn settle_line(
        &mut self,
        (table, pool): (&mut Table, &mut Pool),
        events: &mut Events,
        index: u32,
        fate: DatagramFate,
    ) {
        while let Some(next) = self.advance_line(table, index) {
            let size = next.data.len() as u64;
            pool.note_taken(size);
            give_back_room(table, events, index, queue_cost(size));
            if next.is_tracked {
                events.settled(DatagramId(next.id), fate);
            }
        }
    }
}

/// So much of what was queued on the parent of a datagram is not any more.
fn give_back_room(table: &mut Table, events: &mut Events, index: u32, amount: u64) {
    let parent = table[index].place.parent;
    if let Some(mailbox) = table[parent].mailbox() {
        mailbox.queued = mailbox.queued.saturating_sub(amount);
        if mailbox.room_at.is_some_and(|at| mailbox.queued <= at) {
            mailbox.room_at = None;
            events.notify(table, parent, Interest::SendDatagram);
        }
    }
}
