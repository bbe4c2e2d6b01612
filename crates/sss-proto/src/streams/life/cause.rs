//! Why a direction of a stream has ended early: what its frames say of that, and what the application is told.
//!
//! | [`Cause`]  | RESET says       | STOP says        | the application is told                        |
//! |------------|------------------|------------------|------------------------------------------------|
//! | `Own`      | what was given   | what was given   | `Closed`                                       |
//! | `Peer`     | what STOP said   | nothing          | `Stopped`, `Reset` or `Refused`                |
//! | `Released` | DROPPED          | UNREAD           | nobody asks                                    |
//! | `Tree`     | code of the tree | code of the tree | `Stopped` or `Reset`; `Closed` if by this host |
//!
//! The code and the text are among the stream's [`Extras`](crate::streams::node::Rare); those of a tree are at its
//! uppermost stream alone.

use sss_wire::Code;

use crate::error::{CloseReason, OpenError, ReadError, WriteError};
use crate::refusal::Refusal;
use crate::streams::frames::delivery::Item;
use crate::streams::node::{Flags, Node, Opener, ROOT};
use crate::streams::table::Table;

/// What ended a direction early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::streams) enum Cause {
    /// Nothing: it is not over, or it ended well.
    None,
    /// This host: its application, or the protocol for it.
    Own,
    /// The peer, with RESET or STOP.
    Peer,
    /// This host's application, which let go of the stream.
    Released,
    /// It was reset with a stream above, or with those below.
    Tree,
}

impl Cause {
    /// Of the three low bits.
    pub(in crate::streams) const fn from_bits(bits: u64) -> Self {
        match bits & 7 {
            1 => Self::Own,
            2 => Self::Peer,
            3 => Self::Released,
            4 => Self::Tree,
            _ => Self::None,
        }
    }

    pub(in crate::streams) const fn bits(self) -> u64 {
        self as u64
    }
}

/// A direction of a stream, as this host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::streams) enum Direction {
    Sending,
    Receiving,
}

/// The code and the text with which a direction ended.
#[derive(Clone, Debug)]
pub(in crate::streams) struct Ending {
    pub(in crate::streams) code: Code,
    pub(in crate::streams) reason: Box<str>,
}

impl Ending {
    pub(in crate::streams) fn new(code: Code, reason: &str) -> Self {
        let reason = sss_wire::frame::truncate_text(reason, sss_wire::constants::MAX_REASON);
        Self {
            code,
            reason: reason.into(),
        }
    }

    fn said(&self) -> (Code, &str) {
        (self.code, &self.reason)
    }

    fn stopped(&self) -> WriteError {
        WriteError::Stopped {
            code: self.code,
            reason: self.reason.to_string(),
        }
    }

    fn reset(&self) -> ReadError {
        ReadError::Reset {
            code: self.code,
            reason: self.reason.to_string(),
        }
    }
}

/// How the directions of a stream ended, if that was early and is not said by the cause alone.
#[derive(Debug, Default)]
pub(in crate::streams) struct Ends {
    sending: Option<Ending>,
    receiving: Option<Ending>,
    /// How it was reset with all that is below it, if it is the uppermost stream of that.
    tree: Option<TreeReset>,
}

impl Ends {
    pub(in crate::streams) fn is_unused(&self) -> bool {
        self.sending.is_none() && self.receiving.is_none() && self.tree.is_none()
    }

    pub(in crate::streams) fn tree(&self) -> Option<&TreeReset> {
        self.tree.as_ref()
    }

    pub(in crate::streams) fn set_tree(&mut self, tree: TreeReset) {
        self.tree = Some(tree);
    }
}

/// How a stream was reset with all that is below it.
#[derive(Debug)]
pub(in crate::streams) struct TreeReset {
    pub(in crate::streams) ending: Ending,
    pub(in crate::streams) by_peer: bool,
}

impl Node {
    /// A direction has ended early. `ending` is what is to be remembered beyond the cause.
    pub(in crate::streams) fn end(&mut self, direction: Direction, cause: Cause, ending: Option<Ending>) {
        self.set_cause(direction, cause);
        if ending.is_some() {
            let ends = &mut self.rare_mut().ends;
            match direction {
                Direction::Sending => ends.sending = ending,
                Direction::Receiving => ends.receiving = ending,
            }
        }
    }

    /// What is remembered of how a direction ended.
    fn ending(&self, direction: Direction) -> Option<&Ending> {
        let ends = &self.rare.as_ref()?.ends;
        match direction {
            Direction::Sending => ends.sending.as_ref(),
            Direction::Receiving => ends.receiving.as_ref(),
        }
    }

    /// How the peer ended a direction, if it did.
    fn ending_by_peer(&self, direction: Direction) -> Option<&Ending> {
        self.ending(direction).filter(|_| self.cause(direction) == Cause::Peer)
    }

    /// Why the peer refused the stream, if it did (STR-42).
    pub(in crate::streams) fn refusal(&self) -> Option<Refusal> {
        if self.place.opener == Opener::Peer {
            return None;
        }
        let stopped = self.ending_by_peer(Direction::Sending);
        let ending = stopped.or_else(|| self.ending_by_peer(Direction::Receiving))?;
        Refusal::from_code(ending.code)
    }

    /// The reset of the stream with all that is below it, if this host is to tell the peer.
    fn own_tree_reset(&self) -> Option<&TreeReset> {
        self.rare.as_ref()?.ends.tree().filter(|tree| !tree.by_peer)
    }

    /// Whether RESET of the stream covers what is below it.
    pub(in crate::streams) fn resets_tree(&self) -> bool {
        self.own_tree_reset().is_some()
    }

    /// Whether RESET with the subtree as its scope is not acknowledged.
    pub(in crate::streams) fn is_tree_reset_open(&self) -> bool {
        self.delivery(Item::Reset).is_open() && self.resets_tree()
    }
}

/// The reset of a subtree that a stream is part of.
pub(in crate::streams) fn tree_reset(table: &Table, index: u32) -> Option<&TreeReset> {
    let mut at = index;
    while at != ROOT {
        let node = &table[at];
        if let Some(tree) = node.rare.as_ref().and_then(|r| r.ends.tree()) {
            return Some(tree);
        }
        at = node.place.parent;
    }
    None
}

/// That reset, if it has come to the stream.
fn reset_with_tree(table: &Table, index: u32) -> Option<&TreeReset> {
    let is_reset = table[index].has(Flags::TREE_RESET);
    is_reset.then(|| tree_reset(table, index)).flatten()
}

/// What RESET of a stream says.
pub(in crate::streams) fn reset_says(table: &Table, index: u32) -> Option<(Code, &str)> {
    let node = &table[index];
    match node.own_tree_reset() {
        Some(tree) => Some(tree.ending.said()),
        None => says(table, index, Direction::Sending, Code::DROPPED),
    }
}

/// What STOP of a stream says.
pub(in crate::streams) fn stop_says(table: &Table, index: u32) -> Option<(Code, &str)> {
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

/// Whether the peer has ended the sending direction: with STOP, or with a subtree.
pub(in crate::streams) fn is_stopped_by_peer(table: &Table, index: u32) -> bool {
    match table[index].cause(Direction::Sending) {
        Cause::Peer => true,
        Cause::Tree => tree_reset(table, index).is_some_and(|tree| tree.by_peer),
        Cause::None | Cause::Own | Cause::Released => false,
    }
}

/// Why a stream whose sending direction has ended early takes nothing more.
pub(in crate::streams) fn write_error(table: &Table, index: u32) -> WriteError {
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

/// Why a stream whose receiving direction has ended early cannot be read; `None` if it ended well, or not at all.
pub(in crate::streams) fn read_error(table: &Table, index: u32) -> Option<ReadError> {
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

/// Why nothing more will arrive on a stream that was reset with a subtree.
pub(in crate::streams) fn arrival_error(table: &Table, index: u32) -> Option<ReadError> {
    let tree = reset_with_tree(table, index)?;
    Some(match tree.by_peer {
        true => tree.ending.reset(),
        false => ReadError::Closed,
    })
}

/// Why no child of a stream will come that was reset with a subtree.
pub(in crate::streams) fn accept_error(table: &Table, index: u32) -> Option<CloseReason> {
    let by_peer = reset_with_tree(table, index)?.by_peer;
    let (code, reason) = tree_ending(table, index)?;
    Some(match by_peer {
        true => CloseReason::Peer { code, reason },
        false => CloseReason::Local { code, reason },
    })
}

/// Why no child of a stream can be opened that was refused, or reset with a subtree.
pub(in crate::streams) fn open_error(table: &Table, index: u32) -> Option<OpenError> {
    if let Some(refusal) = table[index].refusal() {
        return Some(OpenError::Refused(refusal));
    }
    let (code, reason) = tree_ending(table, index)?;
    Some(OpenError::Reset { code, reason })
}

/// The code and the text with which a stream was reset with a subtree, if it was.
pub(in crate::streams) fn tree_ending(table: &Table, index: u32) -> Option<(Code, String)> {
    let tree = reset_with_tree(table, index)?;
    Some((tree.ending.code, tree.ending.reason.to_string()))
}

/// That code: what the peer opens below is refused with it (STR-44).
pub(in crate::streams) fn tree_code(table: &Table, index: u32) -> Option<Code> {
    reset_with_tree(table, index).map(|tree| tree.ending.code)
}
