//! Openings accounts: what streams may wait to be accepted (STR-52 to STR-58).
//!
//! A stream that nobody has accepted is paid for by a stream above it, the *lender*, that an application holds:
//! OPEN_COST and what the new stream borrows. It is one account for each stream and direction, apart from the credit
//! for its own data, so that neither uses the other's room. What is accepted has a window of its own, and the lender
//! gets back what it had lent.
//!
//! The sender keeps room for others: what waits for one acceptor is charged at most as much as is still free (dynamic
//! thresholds: Choudhury and Hahne, 1998). Each acceptor is a *line*: a service, the substreams of one stream, or
//! datagrams.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use sss_wire::constants::{DATAGRAM_BORROW, OPEN_COST, OPEN_ROOM, STREAM_BORROW, STREAM_WINDOW};

use super::Streams;
use super::names::Names;
use super::node::{Flags, NONE, Node, Opener, ROOT};
use super::table::Table;
use crate::error::ProtocolError;
use crate::ids::StreamKey;

/// A stream that has written little may borrow this part of what it could.
const SPARE: u64 = 16;
/// Bytes of a datagram that have to be borrowed.
const FIRST: u64 = 1024;
/// This part of an account is for acceptors for whom little waits.
const RESERVE: u64 = 8;
/// This part of what is left of an account an acceptor gets for whom nothing waits.
const SHARE: u64 = 16;
/// A stream that was charged as much has opened many, and will soon open another.
const BUSY: u64 = 64 * OPEN_COST;
/// Acceptors for whom something waits, of which the memory is kept when nothing does any more.
const KEPT: usize = 64;

/// What this host has charged to a stream for openings.
#[derive(Debug)]
pub(super) struct Lending {
    /// What the peer grants, in total.
    limit: u64,
    charged: u64,
    /// Those for whom something waits.
    lines: Option<Box<Lines>>,
}

/// Whom the streams that are charged to one account wait for.
#[derive(Debug, Default)]
struct Lines {
    /// By acceptor, what was charged for streams that are not known to be accepted. Never iterated.
    by_acceptor: HashMap<Acceptor, u64, FixedState>,
    /// Charged for all of them.
    waiting: u64,
    /// Charged for substreams whose parent is not the lender, and that are not known to be accepted.
    nested: u64,
    /// Charged for datagrams, in total, and how much of that the peer says is consumed.
    datagrams: (u64, u64),
}

/// Who is to accept a stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Acceptor {
    Service(Arc<Names>),
    Substreams(StreamKey),
    /// Datagrams on a stream. Those of all streams are one line of an account.
    Datagrams(StreamKey),
}

/// How a stream can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    /// How many levels above the parent the stream is whose account is charged.
    levels: u8,
    borrow: u64,
}

impl Default for Lending {
    fn default() -> Self {
        Self {
            limit: OPEN_ROOM,
            charged: 0,
            lines: None,
        }
    }
}

impl Lines {
    /// Charged for whatever is not accepted, or taken.
    fn all(&self) -> u64 {
        self.waiting + (self.datagrams.0 - self.datagrams.1)
    }
}

impl Lending {
    pub(super) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    pub(super) fn room(&self) -> u64 {
        self.limit.saturating_sub(self.charged)
    }

    fn waiting(&self, acceptor: &Acceptor) -> u64 {
        let waiting = self.lines.as_ref().and_then(|l| l.by_acceptor.get(acceptor));
        waiting.copied().unwrap_or(0)
    }

    /// What one more opening may cost, so that as much stays free for others as waits for this acceptor, and something
    /// for those for whom nothing waits yet (STR-59).
    fn allowance(&self, acceptor: &Acceptor, is_nested: bool) -> u64 {
        let waiting = match acceptor {
            Acceptor::Datagrams(_) => self.lines.as_ref().map_or(0, |l| l.datagrams.0 - l.datagrams.1),
            _ => self.waiting(acceptor),
        };
        let room = self.room();
        let (nested, all) = self.lines.as_ref().map_or((0, 0), |l| (l.nested, l.all()));
        let held = if is_nested { waiting.max(nested) } else { waiting };
        let reserve = (room + all) / RESERVE;
        match held {
            0 if room > reserve => (room / 2).max(OPEN_COST.min(room)),
            0 => (room / SHARE).max(OPEN_COST.min(room)),
            _ => room.saturating_sub(reserve + held) / 2,
        }
    }

    fn charge(&mut self, acceptor: Acceptor, is_nested: bool, cost: u64) {
        debug_assert!(cost <= self.room(), "an opening beyond the limit");
        self.charged += cost;
        let lines = self.lines.get_or_insert_default();
        match acceptor {
            Acceptor::Datagrams(_) => lines.datagrams.0 += cost,
            acceptor => {
                lines.nested += if is_nested { cost } else { 0 };
                lines.waiting += cost;
                *lines.by_acceptor.entry(acceptor).or_default() += cost;
            }
        }
    }

    /// A stream that was charged does not wait any more.
    fn leave(&mut self, acceptor: &Acceptor, is_nested: bool, cost: u64) {
        let Some(lines) = &mut self.lines else {
            return;
        };
        lines.nested = lines.nested.saturating_sub(if is_nested { cost } else { 0 });
        if let Some(waiting) = lines.by_acceptor.get_mut(acceptor) {
            *waiting = waiting.saturating_sub(cost);
            if *waiting == 0 {
                lines.by_acceptor.remove(acceptor);
            }
            lines.waiting = lines.waiting.saturating_sub(cost);
        }
        self.tidy();
    }

    /// Forgets what is not needed once nothing waits.
    fn tidy(&mut self) {
        let Some(lines) = self.lines.as_mut().filter(|l| l.by_acceptor.is_empty()) else {
            return;
        };
        if lines.datagrams.0 == 0 && self.charged < BUSY {
            self.lines = None;
        } else if lines.by_acceptor.capacity() > KEPT {
            lines.by_acceptor = HashMap::default();
        }
    }

    fn raise(&mut self, limit: u64, datagrams: u64) {
        self.limit = self.limit.max(limit);
        if let Some(lines) = &mut self.lines {
            lines.datagrams.1 = lines.datagrams.1.max(datagrams.min(lines.datagrams.0));
        }
    }
}

impl Table {
    /// How many levels above the parent of a stream its lender is.
    pub(super) fn lender(&self, index: u32) -> u32 {
        let mut at = self[index].place.parent;
        for _ in 0..self[index].place.lender {
            at = match self[at].place.parent {
                NONE => return at,
                parent => parent,
            };
        }
        at
    }

    /// Whether the peer's application is known to hold a stream, or to have held it.
    fn may_lend(&self, index: u32) -> bool {
        let node = &self[index];
        let is_known = node.has(Flags::ANNOUNCED) && !node.has(Flags::UNHELD);
        index == ROOT || node.place.opener == Opener::Peer || is_known
    }

    pub(super) fn acceptor(&self, index: u32) -> Acceptor {
        let node = &self[index];
        match &node.names {
            Some(names) => Acceptor::Service(Arc::clone(names)),
            None if node.has(Flags::DATAGRAM) => Acceptor::Datagrams(self.key(node.place.parent)),
            None => Acceptor::Substreams(self.key(node.place.parent)),
        }
    }

    /// The streams that may be charged for a stream, and how many levels above its parent they are, the nearest first.
    fn lenders(&self, index: u32) -> impl Iterator<Item = (u32, u8)> {
        self.above(index).filter(|(at, _)| self.may_lend(*at))
    }

    /// The streams above a stream, and how many levels above its parent they are, the nearest first.
    pub(super) fn above(&self, index: u32) -> impl Iterator<Item = (u32, u8)> {
        let above = |at: u32| Some(self[at].place.parent).filter(|parent| *parent != NONE);
        std::iter::successors(above(index), move |at| above(*at)).zip(0..)
    }

    /// Whether a stream waits until there is room to open it.
    pub(super) fn waits_to_open(&self, key: StreamKey) -> bool {
        let node = self.find(key).map(|index| &self[index]);
        node.is_some_and(|n| n.has(Flags::WAITING) && !n.has(Flags::ANNOUNCED))
    }

    /// What one more opening may cost at a lender.
    fn allowance(&self, lender: u32, acceptor: &Acceptor, levels: u8) -> u64 {
        let lent = self[lender].account.as_ref().map(|a| &a.lent);
        lent.map_or(OPEN_ROOM / 2, |l| l.allowance(acceptor, levels > 0))
    }

    /// The lender at which the opening of a stream fails, and whether it has less room than that needs at least. One
    /// that has room, but not for this acceptor, comes before one that is full; then the one with the most room,
    /// and the nearest.
    pub(super) fn scarcest(&self, index: u32) -> (u32, bool) {
        let acceptor = self.acceptor(index);
        let is_full = |at: u32| self[at].account.as_ref().map_or(OPEN_ROOM, |a| a.lent.room()) < OPEN_COST;
        let rank = |(at, levels): (u32, u8)| (!is_full(at), self.allowance(at, &acceptor, levels));
        let best = self
            .lenders(index)
            .reduce(|best, next| if rank(next) > rank(best) { next } else { best });
        let lender = best.map_or(ROOT, |(at, _)| at);
        (lender, is_full(lender))
    }

    /// How a stream that was not announced can be opened now, if there is room for it (STR-53). The nearest
    /// that has room for all that the stream has to send, or else the one with the most room, is charged.
    pub(super) fn opening(&self, index: u32) -> Option<Opening> {
        let node = &self[index];
        let on_hand = node.on_hand();
        let acceptor = self.acceptor(index);
        let mut best: Option<(u64, u8)> = None;
        for (at, levels) in self.lenders(index) {
            let allowance = self.allowance(at, &acceptor, levels);
            if best.is_none_or(|(most, _)| allowance > most) {
                best = Some((allowance, levels));
            }
            if allowance >= node.least_room().max(OPEN_COST + on_hand) {
                break;
            }
        }
        let (allowance, levels) = best.filter(|(allowance, _)| *allowance >= node.least_room())?;
        let borrow = node.borrow(on_hand, allowance - OPEN_COST);
        Some(Opening { levels, borrow })
    }

    /// Takes back what a stream, opened by this host, was charged: the peer keeps nothing of it.
    pub(super) fn uncharge(&mut self, index: u32) {
        let node = &mut self[index];
        if node.has(Flags::DETACHED) || !node.has(Flags::ANNOUNCED) {
            return;
        }
        let cost = OPEN_COST + node.send.limit;
        node.set(Flags::DETACHED);
        let (lender, acceptor) = (self.lender(index), self.acceptor(index));
        let lent = &mut self[lender].account_mut().lent;
        lent.charged = lent.charged.saturating_sub(cost);
        if matches!(acceptor, Acceptor::Datagrams(_))
            && let Some(lines) = &mut lent.lines
        {
            lines.datagrams.0 = lines.datagrams.0.saturating_sub(cost).max(lines.datagrams.1);
        }
    }
}

impl Node {
    /// What INIT of a stream that is opened so says.
    pub(super) fn set_opening(&mut self, opening: Opening) {
        self.place.lender = opening.levels;
        self.send.limit = opening.borrow;
    }

    /// What there has to be room for, the same for all that wait for one acceptor: so none of them stops another that
    /// needs less. What of a datagram is not borrowed comes from a budget, so that something has to stop those that
    /// nobody takes.
    fn least_room(&self) -> u64 {
        OPEN_COST + if self.has(Flags::DATAGRAM) { FIRST } else { 0 }
    }

    /// What a new stream has to send, as far as it may borrow.
    fn on_hand(&self) -> u64 {
        let most = if self.has(Flags::DATAGRAM) {
            DATAGRAM_BORROW
        } else {
            STREAM_BORROW
        };
        if self.status.send.carries_data() {
            self.send.end().min(most)
        } else {
            0
        }
    }

    /// What a new stream borrows of `spare`: what it has to send, and if it may get more, something for that.
    fn borrow(&self, on_hand: u64, spare: u64) -> u64 {
        let is_open = self.status.send == super::SendState::Open && !self.has(Flags::DATAGRAM);
        let more = if is_open { (spare / SPARE).min(STREAM_WINDOW) } else { 0 };
        // Half of what is left stays for those that come next, but for the first bytes.
        let most = (spare / 2).max(STREAM_WINDOW).min(spare);
        on_hand.max(more).min(STREAM_BORROW).min(most)
    }
}

/// What this host opens.
impl Streams {
    /// INIT of a stream is sent for the first time: its lender is charged.
    pub(super) fn charge_opening(&mut self, index: u32) {
        let (lender, acceptor) = (self.table.lender(index), self.table.acceptor(index));
        let node = &mut self.table[index];
        if !matches!(acceptor, Acceptor::Datagrams(_)) {
            node.set(Flags::UNHEARD.with(Flags::UNHELD));
        }
        let (is_nested, cost) = (node.place.lender > 0, OPEN_COST + node.send.limit);
        self.table[lender].account_mut().lent.charge(acceptor, is_nested, cost);
    }

    /// Something about a stream came from the peer, which it says only of one that its application holds, or held.
    pub(super) fn note_heard(&mut self, index: u32) {
        self.note_decided(index);
        if self.table[index].take(Flags::UNHELD) {
            // A child may be charged to this stream from now on.
            self.outbox.openers.retry_at(self.table.key(index));
        }
    }

    /// Something about a stream came from the peer, which has decided about it: it does not wait to be accepted any
    /// more, and may have been refused. RESET does not say so: it may be the answer to a STOP of this host
    /// (STR-14).
    pub(super) fn note_decided(&mut self, index: u32) {
        let node = &self.table[index];
        if node.place.opener == Opener::Own && node.has(Flags::ANNOUNCED) {
            self.on_init_acked(index);
        }
        if self.table[index].take(Flags::UNHEARD) {
            self.leave_line(index);
        }
    }

    /// A stream of this host is not known to be accepted, and never will be.
    pub(super) fn forget_opening(&mut self, index: u32) {
        if self.table[index].take(Flags::UNHEARD) {
            self.leave_line(index);
        }
    }

    fn leave_line(&mut self, index: u32) {
        let node = &self.table[index];
        let (cost, is_nested) = (OPEN_COST + node.send.limit, node.place.lender > 0);
        let (lender, acceptor) = (self.table.lender(index), self.table.acceptor(index));
        if let Some(account) = &mut self.table[lender].account {
            account.lent.leave(&acceptor, is_nested, cost);
        }
        self.outbox.openers.retry_at(self.table.key(lender));
    }

    /// Lets a stream wait until there is room to open it, or until `first` is opened, which has to be before it. In the
    /// latter case it does not wait for the acceptor of `first`: once that is opened, others who wait for that
    /// acceptor are nothing to it.
    pub(super) fn wait_to_open(&mut self, index: u32, first: u32) {
        let key = self.table.key(index);
        let node = &mut self.table[index];
        let was_waiting = node.has(Flags::WAITING);
        let was_woken = node.take(Flags::WOKEN);
        node.set(Flags::WAITING);
        let (openers, table) = (&mut self.outbox.openers, &self.table);
        if first != index {
            openers.wait_behind(key, table.key(first), table);
        } else if was_woken || !was_waiting {
            openers.wait(key, table.acceptor(index), table, was_woken);
        }
    }

    /// Puts up to `count` streams that waited to be opened back in their turn. Returns whether there were any.
    pub(super) fn wake(&mut self, count: usize) -> bool {
        for woken in 0..count {
            let next = self.outbox.openers.next(&self.table);
            let Some(index) = next.and_then(|key| self.table.find(key)) else {
                return woken > 0;
            };
            let node = &mut self.table[index];
            node.clear(Flags::WAITING);
            node.set(Flags::WOKEN);
            self.touch(index);
        }
        true
    }

    /// OPEN_CREDIT; `lsid` 0 is the root.
    ///
    /// # Errors
    /// If the peer broke a rule.
    pub(crate) fn on_open_credit(&mut self, lsid: u64, limit: u64, datagrams: u64) -> Result<(), ProtocolError> {
        let index = match lsid {
            0 => Some(ROOT).filter(|_| self.failed.is_none()),
            _ => self.known(lsid)?,
        };
        if let Some(index) = index.filter(|i| !self.table[*i].has(Flags::DATAGRAM)) {
            self.note_heard(index);
            self.table[index].account_mut().lent.raise(limit, datagrams);
            self.outbox.openers.retry_at(self.table.key(index));
        }
        Ok(())
    }
}

#[cfg(test)]
impl Lending {
    pub(super) fn charged(&self) -> u64 {
        self.charged
    }

    /// Whether nothing is taken to wait.
    pub(super) fn is_unused(&self) -> bool {
        let waiting = |l: &Lines| (l.by_acceptor.len(), l.waiting, l.nested) == (0, 0, 0);
        self.lines.as_ref().is_none_or(|l| waiting(l))
    }
}

#[cfg(test)]
impl Streams {
    /// What of an account this host takes to be charged for streams that wait, and for datagrams.
    pub(super) fn believed_waiting(&self, index: u32) -> (u64, u64) {
        let lines = self.table[index].account.as_ref().and_then(|a| a.lent.lines.as_ref());
        lines.map_or((0, 0), |l| (l.waiting, l.datagrams.0 - l.datagrams.1))
    }

    /// Lets this host send whatever it has.
    pub(super) fn lift_limits(&mut self) {
        for index in 0..self.table.slots() {
            let Some(node) = self.table.get(index) else {
                continue;
            };
            if node.account.is_some() {
                self.table[index].account_mut().lent.raise(1 << 60, 0);
                self.outbox.openers.retry_at(self.table.key(index));
            }
            if self.table[index].has(Flags::ANNOUNCED) {
                self.on_init_acked(index);
                self.raise_limit(index, 1 << 60);
            }
        }
    }
}
