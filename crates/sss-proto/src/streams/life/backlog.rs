//! Children that the peer opens and the application has not accepted: whether they may wait, and how many (STR-41).
//!
//! An unaccepted stream *costs* its parent OPEN_COST, its own bytes that were not read, and the cost of the streams
//! that wait below it. The cost is counted up to the first stream that is not itself unaccepted, so that a peer cannot
//! evade a limit by nesting.

use sss_wire::Code;
use sss_wire::constants::{MAX_DEPTH, OPEN_COST};

use super::cause;
use super::listen::ListenMode;
use crate::streams::tree::index::ROOT;
use crate::streams::tree::node::Flags;
use crate::streams::tree::table::Table;

/// The mode in force for children of a stream, in a tree in which so many streams have one.
pub(crate) fn listen_mode(table: &Table, modes: usize, index: u32) -> ListenMode {
    let mut at = if modes > 0 { index } else { ROOT };
    while at != ROOT {
        match table[at].extras.as_ref().map(|e| e.listen.mode) {
            Some(ListenMode::Inherit) | None => at = table[at].place.parent,
            Some(mode) => return mode,
        }
    }
    ListenMode::Unlimited
}

/// The code with which a new child is refused, if it is.
pub(crate) fn why_refuse(table: &Table, modes: usize, parent: u32) -> Option<Code> {
    let node = &table[parent];
    if let Some(code) = cause::tree_code(table, parent) {
        Some(code)
    } else if node.place.depth >= MAX_DEPTH {
        Some(Code::TOO_DEEP)
    } else if !node.is_wanted() || listen_mode(table, modes, parent) == ListenMode::Reject {
        Some(Code::NO_LISTENER)
    } else {
        None
    }
}

/// Lets a child wait.
pub(crate) fn push(table: &mut Table, parent: u32, index: u32) {
    let key = table.key(index);
    let mut backlog = std::mem::take(&mut table[parent].extras_mut().backlog);
    backlog.push(key, |k| table.find(k).is_some_and(|i| table[i].has(Flags::UNACCEPTED)));
    table[parent].extras_mut().backlog = backlog;
}

/// Returns what an unaccepted stream costs its parent.
pub(crate) fn cost(table: &Table, index: u32) -> u64 {
    let node = &table[index];
    let below = node.extras.as_ref().map_or(0, |e| e.listen.backlog_cost);
    OPEN_COST + node.recv.unread() + below
}

/// An unaccepted stream costs so much more. Returns whether that is too much for a limit above it.
#[inline]
pub(crate) fn add_cost(table: &mut Table, modes: usize, index: u32, bytes: u64) -> bool {
    let mut is_too_much = false;
    let mut at = index;
    while let Some(above) = bearer(table, at) {
        let listen = &mut table[above].extras_mut().listen;
        listen.backlog_cost += bytes;
        let cost = listen.backlog_cost;
        is_too_much |= matches!(listen_mode(table, modes, above), ListenMode::Limit(limit) if cost > limit);
        at = above;
    }
    is_too_much
}

/// An unaccepted stream costs so much less.
#[inline]
pub(crate) fn lift_cost(table: &mut Table, index: u32, bytes: u64) {
    let mut at = index;
    while let Some(above) = bearer(table, at) {
        let Some(extras) = table[above].extras.as_mut() else {
            return;
        };
        extras.listen.backlog_cost = extras.listen.backlog_cost.saturating_sub(bytes);
        table[above].give_back_extras();
        at = above;
    }
}

/// An unaccepted stream is accepted or refused. Returns whether it was unaccepted.
#[inline]
pub(crate) fn take(table: &mut Table, index: u32) -> bool {
    if !table[index].has(Flags::UNACCEPTED) {
        return false;
    }
    lift_cost(table, index, cost(table, index));
    table[index].clear(Flags::UNACCEPTED);
    true
}

/// The parent of an unaccepted stream, which bears its cost.
#[inline]
fn bearer(table: &Table, index: u32) -> Option<u32> {
    let node = &table[index];
    (index != ROOT && node.has(Flags::UNACCEPTED)).then_some(node.place.parent)
}

#[cfg(test)]
/// Checks what each stream bears against what it follows from.
pub(crate) fn check_costs(table: &Table, what: &str) {
    let mut expected: std::collections::BTreeMap<u32, u64> = std::collections::BTreeMap::new();
    for index in 1..table.slots() {
        if let Some(node) = table.get(index).filter(|n| n.has(Flags::UNACCEPTED)) {
            *expected.entry(node.place.parent).or_default() += cost(table, index);
        }
    }
    for index in 0..table.slots() {
        let extras = table.get(index).and_then(|n| n.extras.as_ref());
        let cost = extras.map_or(0, |e| e.listen.backlog_cost);
        let expected = expected.get(&index).copied().unwrap_or_default();
        assert_eq!(cost, expected, "{what}: slot {index}");
    }
}
