//! Causes of a direction's early end: what its frames say of that, and what the application is told.
//!
//! | [`Cause`]  | RESET says       | STOP says        | the application is told                        |
//! |------------|------------------|------------------|------------------------------------------------|
//! | `Own`      | what was given   | what was given   | `Closed`                                       |
//! | `Peer`     | what STOP said   | nothing          | `Stopped`, `Reset` or `Refused`                |
//! | `Released` | DROPPED          | UNREAD           | nobody asks                                    |
//! | `Tree`     | code of the tree | code of the tree | `Stopped` or `Reset`; `Closed` if by this host |
//!
//! The code and the text are among the stream's [`Extras`](crate::streams::tree::extras::Extras); those of a tree are
//! at its uppermost stream alone.

use sss_wire::Code;

use crate::error::{CloseReason, OpenError, ReadError, WriteError};
use crate::refusal::Refusal;
use crate::streams::frames::delivery::Item;
use crate::streams::tree::ends::{Cause, Direction, Ending, TreeReset};
use crate::streams::tree::index::ROOT;
use crate::streams::tree::node::{Flags, Node, Opener};
use crate::streams::tree::table::Table;

impl Node {
    /// Returns what is remembered of how a direction ended.
    fn ending(&self, direction: Direction) -> Option<&Ending> {
        let ends = &self.extras.as_ref()?.ends;
        match direction {
            Direction::Sending => ends.sending.as_ref(),
            Direction::Receiving => ends.receiving.as_ref(),
        }
    }

    /// Returns how the peer ended a direction, if it did.
    fn ending_by_peer(&self, direction: Direction) -> Option<&Ending> {
        self.ending(direction).filter(|_| self.cause(direction) == Cause::Peer)
    }

    /// Returns why the peer refused the stream, if it did (STR-42).
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        if self.place.opener == Opener::Peer {
            return None;
        }
        let stopped = self.ending_by_peer(Direction::Sending);
        let ending = stopped.or_else(|| self.ending_by_peer(Direction::Receiving))?;
        Refusal::from_code(ending.code)
    }

    /// The reset of the stream with all that is below it, if this host is to tell the peer.
    #[inline]
    fn own_tree_reset(&self) -> Option<&TreeReset> {
        self.extras.as_ref()?.ends.tree.as_ref().filter(|tree| !tree.by_peer)
    }

    /// Returns whether RESET of the stream covers what is below it.
    pub(crate) fn resets_tree(&self) -> bool {
        self.own_tree_reset().is_some()
    }

    /// Returns whether RESET with the subtree as its scope is not acknowledged.
    #[inline]
    pub(crate) fn is_tree_reset_open(&self) -> bool {
        self.delivery(Item::Reset).is_open() && self.resets_tree()
    }
}

/// The reset of a subtree that a stream is part of.
#[inline]
pub(crate) fn tree_reset(table: &Table, index: u32) -> Option<&TreeReset> {
    let mut at = index;
    while at != ROOT {
        let node = &table[at];
        if let Some(tree) = node.extras.as_ref().and_then(|r| r.ends.tree.as_ref()) {
            return Some(tree);
        }
        at = node.place.parent;
    }
    None
}

/// That reset, if it has come to the stream.
#[inline]
fn reset_with_tree(table: &Table, index: u32) -> Option<&TreeReset> {
    let is_reset = table[index].has(Flags::TREE_RESET);
    is_reset.then(|| tree_reset(table, index)).flatten()
}

/// Returns what RESET of a stream says.
pub(crate) fn reset_says(table: &Table, index: u32) -> Option<(Code, &str)> {
    let node = &table[index];
    match node.own_tree_reset() {
        Some(tree) => Some(tree.ending.said()),
        None => says(table, index, Direction::Sending, Code::DROPPED),
    }
}

/// Returns what STOP of a stream says.
pub(crate) fn stop_says(table: &Table, index: u32) -> Option<(Code, &str)> {
    says(table, index, Direction::Receiving, Code::UNREAD)
}

fn says(table: &Table, index: u32, direction: Direction, released: Code) -> Option<(Code, &str)> {
    match table[index].cause(direction) {
        Cause::None => None,
        Cause::Own | Cause::Peer => table[index].ending(direction).map(Ending::said),
        Cause::Released => Some((released, "")),
        Cause::Tree => tree_reset(table, index).map(|tree| (tree.ending.code, "")),
    }
}

/// Returns whether the peer has ended the sending direction: with STOP, or with a subtree.
pub(crate) fn is_stopped_by_peer(table: &Table, index: u32) -> bool {
    match table[index].cause(Direction::Sending) {
        Cause::Peer => true,
        Cause::Tree => tree_reset(table, index).is_some_and(|tree| tree.by_peer),
        Cause::None | Cause::Own | Cause::Released => false,
    }
}

/// Returns why a stream whose sending direction has ended early takes nothing more.
pub(crate) fn write_error(table: &Table, index: u32) -> WriteError {
    let node = &table[index];
    if let Some(refusal) = node.refusal() {
        return WriteError::Refused(refusal);
    }
    if let Some(ending) = node.ending_by_peer(Direction::Sending) {
        return ending.stopped();
    }
    let tree = reset_with_tree(table, index).filter(|tree| tree.by_peer);
    tree.map_or(WriteError::Closed, |tree| tree.ending.stopped())
}

/// Returns why a stream whose receiving direction has ended early cannot be read; `None` if it ended well, or not at
/// all.
#[inline]
pub(crate) fn read_error(table: &Table, index: u32) -> Option<ReadError> {
    let node = &table[index];
    match node.cause(Direction::Receiving) {
        Cause::None => None,
        Cause::Own | Cause::Released => Some(ReadError::Closed),
        Cause::Peer => Some(match (node.refusal(), node.ending(Direction::Receiving)) {
            (Some(refusal), _) => ReadError::Refused(refusal),
            (None, Some(ending)) => ending.reset(),
            (None, None) => ReadError::Closed,
        }),
        Cause::Tree => arrival_error(table, index),
    }
}

/// Returns why nothing more will arrive on a stream that was reset with a subtree.
pub(crate) fn arrival_error(table: &Table, index: u32) -> Option<ReadError> {
    let tree = reset_with_tree(table, index)?;
    Some(match tree.by_peer {
        true => tree.ending.reset(),
        false => ReadError::Closed,
    })
}

/// Returns why no child of a stream will come that was reset with a subtree.
pub(crate) fn accept_error(table: &Table, index: u32) -> Option<CloseReason> {
    let by_peer = reset_with_tree(table, index)?.by_peer;
    let (code, reason) = tree_ending(table, index)?;
    Some(match by_peer {
        true => CloseReason::Peer { code, reason },
        false => CloseReason::Local { code, reason },
    })
}

/// Returns why no child of a stream can be opened that was refused, or reset with a subtree.
pub(crate) fn open_error(table: &Table, index: u32) -> Option<OpenError> {
    if let Some(refusal) = table[index].refusal() {
        return Some(OpenError::Refused(refusal));
    }
    let (code, reason) = tree_ending(table, index)?;
    Some(OpenError::Reset { code, reason })
}

/// The code and the text with which a stream was reset with a subtree, if it was.
pub(crate) fn tree_ending(table: &Table, index: u32) -> Option<(Code, String)> {
    let tree = reset_with_tree(table, index)?;
    Some((tree.ending.code, tree.ending.reason.to_string()))
}

/// That code: what the peer opens below is refused with it (STR-44).
pub(crate) fn tree_code(table: &Table, index: u32) -> Option<Code> {
    reset_with_tree(table, index).map(|tree| tree.ending.code)
}

/// Codes of refusal may only come from the protocol itself: PARENT_GONE takes back what was charged.
pub(crate) fn own_code(code: Code, instead: Code) -> Code {
    crate::refusal::Refusal::from_code(code).map_or(code, |_| instead)
}
