//! Openings accounts: what streams may wait to be accepted (STR-52 to STR-58).
//!
//! A stream that nobody has accepted is paid for by a stream above it, the *lender*, that an application holds:
//! OPEN_COST and what the new stream borrows. It is one account for each stream and direction, apart from the credit
//! for its own data, so that neither uses the other's room. What is accepted has a window of its own, and the lender
//! gets back what it had lent.

use std::sync::Arc;

use sss_wire::constants::{DATAGRAM_BORROW, MIN_ROOT_CREDIT, OPEN_COST, OPEN_ROOM, STREAM_BORROW, STREAM_WINDOW};

use super::gauge::KEPT;
use super::lending::Acceptor;
use crate::ids::StreamKey;
use crate::streams::life::state::SendState;
use crate::streams::tree::index::{NONE, ROOT};
use crate::streams::tree::node::{Flags, Node, Opener};
use crate::streams::tree::table::Table;

/// A stream that has written little may borrow this part of what it could.
const SPARE: u64 = 16;
/// Bytes of a datagram that have to be borrowed.
const FIRST: u64 = 1024;

/// Terms of openings that the peer's SETTINGS name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Bytes that a stream may borrow at most (STR-75).
    pub(crate) borrow: u64,
    /// Bytes that the account of the root had at first.
    pub(crate) root: u64,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            borrow: STREAM_BORROW,
            root: MIN_ROOT_CREDIT,
        }
    }
}

impl Terms {
    /// Returns what an account has for more than the first bytes of a stream: a part of it is kept for those, so that
    /// as many streams as ever are heard while nothing is read of others (STR-77).
    fn beyond(self, table: &Table, lender: u32) -> u64 {
        let kept = if lender == ROOT { self.root / KEPT } else { OPEN_ROOM };
        let room = table[lender].account.as_ref().map_or(OPEN_ROOM, |a| a.lent.room());
        room.saturating_sub(kept)
    }
}

/// Way in which a stream can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    /// The number of levels above the parent at which the stream is whose account is charged.
    levels: u8,
    borrow: u64,
}

/// Returns how many levels above the parent of a stream its lender is.
#[inline]
pub(crate) fn lender(table: &Table, index: u32) -> u32 {
    let mut at = table[index].place.parent;
    for _ in 0..table[index].place.lender {
        at = match table[at].place.parent {
            NONE => return at,
            parent => parent,
        };
    }
    at
}

/// Returns whether the peer's application is known to hold a stream, or to have held it.
fn may_lend(table: &Table, index: u32) -> bool {
    let node = &table[index];
    let is_known = node.has(Flags::ANNOUNCED) && !node.has(Flags::UNHELD);
    index == ROOT || node.place.opener == Opener::Peer || is_known
}

pub(crate) fn acceptor(table: &Table, index: u32) -> Acceptor {
    let node = &table[index];
    match &node.names {
        Some(names) => Acceptor::Service(Arc::clone(names)),
        None if node.is_datagram() => Acceptor::Datagrams(table.key(node.place.parent)),
        None => Acceptor::Substreams(table.key(node.place.parent)),
    }
}

/// The streams that may be charged for a stream, and how many levels above its parent they are, the nearest first.
fn lenders(table: &Table, index: u32) -> impl Iterator<Item = (u32, u8)> {
    above(table, index).filter(|(at, _)| may_lend(table, *at))
}

/// The streams above a stream, and how many levels above its parent they are, the nearest first.
pub(crate) fn above(table: &Table, index: u32) -> impl Iterator<Item = (u32, u8)> {
    let above = |at: u32| Some(table[at].place.parent).filter(|parent| *parent != NONE);
    std::iter::successors(above(index), move |at| above(*at)).zip(0..)
}

/// Returns whether a stream waits until there is room to open it.
pub(crate) fn waits_to_open(table: &Table, key: StreamKey) -> bool {
    let node = table.find(key).map(|index| &table[index]);
    node.is_some_and(|n| n.has(Flags::WAITING) && !n.has(Flags::ANNOUNCED))
}

/// Returns what one more opening may cost at a lender.
fn allowance(table: &Table, lender: u32, acceptor: &Acceptor, levels: u8) -> u64 {
    let lent = table[lender].account.as_ref().map(|a| &a.lent);
    lent.map_or(OPEN_ROOM / 2, |l| l.allowance(acceptor, levels > 0))
}

/// The lender at which the opening of a stream fails, and whether it has less room than that needs at least. One
/// that has room, but not for this acceptor, comes before one that is full; then the one with the most room,
/// and the nearest.
pub(crate) fn scarcest(table: &Table, index: u32) -> (u32, bool) {
    let acceptor = acceptor(table, index);
    let is_full = |at: u32| table[at].account.as_ref().map_or(OPEN_ROOM, |a| a.lent.room()) < OPEN_COST;
    let rank = |(at, levels): (u32, u8)| (!is_full(at), allowance(table, at, &acceptor, levels));
    let best = lenders(table, index).reduce(|best, next| if rank(next) > rank(best) { next } else { best });
    let lender = best.map_or(ROOT, |(at, _)| at);
    (lender, is_full(lender))
}

/// Returns whether there is room to open a stream that was not announced.
pub(crate) fn has_room(table: &Table, index: u32) -> bool {
    opening(table, index, Terms::default()).is_some()
}

/// Returns how a stream that was not announced can be opened now, if there is room for it (STR-53). The nearest that
/// has room for all that the stream has to send, or else the one with the most room, is charged.
pub(crate) fn opening(table: &Table, index: u32, terms: Terms) -> Option<Opening> {
    let node = &table[index];
    let on_hand = node.on_hand(terms.borrow);
    let acceptor = acceptor(table, index);
    let mut best: Option<(u64, u8, u32)> = None;
    for (at, levels) in lenders(table, index) {
        let allowance = allowance(table, at, &acceptor, levels);
        if best.is_none_or(|(most, ..)| allowance > most) {
            best = Some((allowance, levels, at));
        }
        if allowance >= node.least_room().max(OPEN_COST + on_hand) {
            break;
        }
    }
    let (allowance, levels, lender) = best.filter(|(allowance, ..)| *allowance >= node.least_room())?;
    let borrow = node.borrow(on_hand, allowance, terms.beyond(table, lender));
    Some(Opening { levels, borrow })
}

/// Takes back what a stream, opened by this host, was charged: the peer keeps nothing of it.
pub(crate) fn uncharge(table: &mut Table, index: u32) {
    let node = &mut table[index];
    if node.has(Flags::DETACHED) || !node.has(Flags::ANNOUNCED) {
        return;
    }
    let cost = OPEN_COST + node.send.limit;
    node.set(Flags::DETACHED);
    let (lender, acceptor) = (lender(table, index), acceptor(table, index));
    table[lender].account_mut().lent.take_back(&acceptor, cost);
}

impl Node {
    /// Notes what INIT of a stream says that is opened so.
    pub(crate) fn set_opening(&mut self, opening: Opening) {
        self.place.lender = opening.levels;
        self.send.limit = opening.borrow;
    }

    /// Returns what there has to be room for, the same for all that wait for one acceptor: so none of them stops
    /// another that needs less. What of a datagram is not borrowed comes from a budget, so that something has to
    /// stop those that nobody takes.
    fn least_room(&self) -> u64 {
        OPEN_COST + if self.is_datagram() { FIRST } else { 0 }
    }

    /// Returns what a new stream has to send, as far as it may borrow; a stream of bytes `most`.
    fn on_hand(&self, most: u64) -> u64 {
        let most = if self.is_datagram() { DATAGRAM_BORROW } else { most };
        if self.status.send.carries_data() {
            self.send.end().min(most)
        } else {
            0
        }
    }

    /// Returns what a new stream borrows of `allowance`: what it has to send, and if it may get more, something for
    /// that. Of it may be beyond the first bytes what `beyond` says.
    fn borrow(&self, on_hand: u64, allowance: u64, beyond: u64) -> u64 {
        let spare = allowance - OPEN_COST;
        let is_open = self.status.send == SendState::Open && !self.is_datagram();
        let more = if is_open { (spare / SPARE).min(STREAM_WINDOW) } else { 0 };
        // Half of what is left stays for those that come next, but for the first bytes.
        let most = (allowance / 2).min(beyond).max(STREAM_WINDOW).min(spare);
        on_hand.max(more).min(most)
    }
}
