//! Resetting a stream with all that is below it (STR-43, STR-44).
//!
//! Whoever resets, and whoever receives such a RESET, goes through the subtree as it sees it, and ends both directions
//! of each stream; what is opened below while that is under way is refused. A walk through many streams goes on in
//! steps, so that nobody waits for it; its place is moved on when the stream there is retired.

use sss_wire::Code;

use super::Streams;
use super::frames::delivery::{Delivery, Item};
use super::node::{Ending, Flags, Opener, ROOT};
use super::state::{RecvInput, RecvState, SendInput, SendState};
use crate::error::{CloseReason, OpenError, ReadError, WriteError};
use crate::ids::StreamKey;

/// Streams gone through in one step.
const STEP: usize = 4096;

/// Why a stream was reset with all that is below it. Kept at the uppermost stream only.
#[derive(Debug)]
pub(super) struct TreeReset {
    pub(super) ending: Ending,
    by_peer: bool,
}

impl TreeReset {
    /// Whether this host is to tell the peer.
    pub(super) fn is_own(&self) -> bool {
        !self.by_peer
    }
}

/// The walks through subtrees that were reset, one after another.
#[derive(Debug, Default)]
pub(super) struct Walks {
    /// The uppermost streams of those that have not begun.
    waiting: Vec<StreamKey>,
    /// The one under way: its uppermost stream, and the next to go through.
    current: Option<(u32, u32)>,
}

impl Walks {
    pub(super) fn is_idle(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Streams {
    /// Resets a stream and all streams below it, in both directions.
    pub(crate) fn reset_tree(&mut self, key: StreamKey, code: Code, reason: &str) {
        let index = self.held(key).filter(|_| self.failed.is_none());
        if let Some(index) = index {
            let ending = Ending::new(super::app::own_code(code, Code::DROPPED), reason);
            self.begin_walk(index, ending, false);
        }
    }

    /// The peer has reset a stream and all streams below it.
    pub(super) fn on_tree_reset(&mut self, index: u32, ending: Ending) {
        self.begin_walk(index, ending, true);
    }

    fn begin_walk(&mut self, top: u32, ending: Ending, by_peer: bool) {
        let node = &self.table[top];
        if node.has(Flags::TREE_RESET) || node.rare.as_ref().is_some_and(|r| r.tree.is_some()) {
            return;
        }
        self.table[top].rare_mut().tree = Some(TreeReset { ending, by_peer });
        if !by_peer && self.table[top].has(Flags::ANNOUNCED) {
            self.outbox.put(&mut self.table, top, Item::Reset);
        }
        self.walks.waiting.push(self.table.key(top));
        self.walk();
    }

    /// Whether [`Self::walk`] has something to do.
    pub(crate) fn has_work(&self) -> bool {
        !self.walks.is_idle()
    }

    /// Goes on with the walks, for a short time.
    pub(crate) fn walk(&mut self) {
        for _ in 0..STEP {
            let Some((top, at)) = self.walks.current.or_else(|| self.next_walk()) else {
                return;
            };
            // Before the stream can go.
            self.walks.current = self.table.next_in(top, at).map(|next| (top, next));
            if !self.table[at].has(Flags::TREE_RESET) {
                self.end_in_tree(at);
                self.retire(at);
            }
        }
    }

    fn next_walk(&mut self) -> Option<(u32, u32)> {
        loop {
            let key = self.walks.waiting.pop()?;
            if let Some(index) = self.table.find(key) {
                return Some((index, index));
            }
        }
    }

    /// A stream without children is about to be retired.
    pub(super) fn leave_walk(&mut self, index: u32) {
        if let Some((top, at)) = self.walks.current
            && at == index
        {
            self.walks.current = self.table.next_beyond(top, at).map(|next| (top, next));
        }
    }

    /// Ends both directions of a stream whose subtree, or that of a stream above, was reset.
    fn end_in_tree(&mut self, index: u32) {
        let by_peer = self.tree_reset(index).is_some_and(|tree| tree.by_peer);
        self.keep_endings(index);
        self.table[index].set(Flags::TREE_RESET);
        // STR-47
        self.give_up_watch(index);
        self.end_await(index);
        self.take_unaccepted(index);
        if self.end_sending(index) && by_peer {
            self.on_stopped(index);
        }
        self.end_reading(index, by_peer);
        self.discard_datagrams(index);
        if !self.table[index].has(Flags::ANNOUNCED) {
            self.forget_unannounced(index);
        }
        for interest in self.table[index].interests() {
            self.notify(index, interest);
        }
    }

    /// Nobody will ever hear of a stream that was not announced.
    fn forget_unannounced(&mut self, index: u32) {
        self.scheduler.deactivate(&mut self.table, index);
        let node = &mut self.table[index];
        for item in [Item::Reset, Item::Stop, Item::Init] {
            node.set_delivery(item, Delivery::Idle);
        }
        node.clear(Flags::WAITING);
        if let Some(state) = node.status.send.after(SendInput::ResetAcked) {
            node.status.send = state;
        }
        if let Some(state) = node.status.recv.after(RecvInput::Size) {
            node.status.recv = state;
        }
        // STR-71: its application may hold it for long.
        let parent = node.place.parent;
        self.table.note_known(parent);
        self.answer_await(parent);
    }

    /// A peer that has reset the subtree need not be told.
    fn end_reading(&mut self, index: u32, by_peer: bool) {
        let node = &self.table[index];
        // Of a datagram of this host the peer says what became of it.
        let is_own_datagram = node.has(Flags::DATAGRAM) && node.place.opener == Opener::Own;
        if node.status.recv == RecvState::Reset || is_own_datagram || !self.end_receiving(index) {
            return;
        }
        let node = &mut self.table[index];
        node.set(Flags::CUT_OFF);
        if by_peer {
            node.set_delivery(Item::Stop, Delivery::Idle);
        }
    }

    /// What STOP of a stream says: how that direction was stopped, or else the code with which the subtree was reset.
    pub(super) fn stop_ending(&self, index: u32) -> Option<(Code, &str)> {
        let stopped = self.table[index].rare.as_ref().and_then(|r| r.stopped.as_ref());
        match stopped {
            Some(ending) => Some((ending.code, &*ending.reason)),
            None => self.untold_ending(index, Code::UNREAD),
        }
    }

    /// The reset of a subtree that a stream is part of.
    pub(super) fn tree_reset(&self, index: u32) -> Option<&TreeReset> {
        let mut at = index;
        while at != ROOT {
            let node = &self.table[at];
            if let Some(tree) = node.rare.as_ref().and_then(|r| r.tree.as_ref()) {
                return Some(tree);
            }
            at = node.place.parent;
        }
        None
    }

    /// What RESET of a stream says: how that stream was reset, or else the code alone with which a stream above was.
    pub(super) fn reset_ending(&self, index: u32) -> Option<(Code, &str)> {
        let rare = self.table[index].rare.as_ref();
        let tree = rare.and_then(|r| r.tree.as_ref()).filter(|tree| tree.is_own());
        let own = tree.map(|t| &t.ending).or(rare.and_then(|r| r.aborted.as_ref()));
        match own {
            Some(ending) => Some((ending.code, &*ending.reason)),
            None => self.untold_ending(index, Code::DROPPED),
        }
    }

    /// Why a direction has ended of which that is not kept: with a stream above, or because its application let go of
    /// it.
    fn untold_ending(&self, index: u32, released: Code) -> Option<(Code, &str)> {
        let tree = self.tree_reset(index).map(|tree| tree.ending.code);
        let code = tree.or_else(|| (!self.table[index].has(Flags::HELD)).then_some(released));
        code.map(|code| (code, ""))
    }

    /// Keeps why the directions of a stream have ended if the peer was told so already: that its application let go of
    /// them.
    fn keep_endings(&mut self, index: u32) {
        let node = &self.table[index];
        let rare = node.rare.as_ref();
        if node.has(Flags::HELD) {
            return;
        }
        let is_reset = node.status.send == SendState::Resetting && !node.is_due(Item::Reset);
        let is_stopped = node.has(Flags::CUT_OFF) && node.delivery(Item::Stop) == Delivery::InFlight;
        let aborted = is_reset && rare.is_none_or(|r| r.aborted.is_none());
        let stopped = is_stopped && rare.is_none_or(|r| r.stopped.is_none());
        if aborted {
            self.table[index].rare_mut().aborted = Some(Ending::new(Code::DROPPED, ""));
        }
        if stopped {
            self.table[index].rare_mut().stopped = Some(Ending::new(Code::UNREAD, ""));
        }
    }

    /// Whether RESET of a stream covers what is below it.
    pub(super) fn resets_tree(&self, index: u32) -> bool {
        let rare = self.table[index].rare.as_ref();
        rare.and_then(|r| r.tree.as_ref()).is_some_and(TreeReset::is_own)
    }

    /// RESET with the subtree as its scope is not acknowledged.
    pub(super) fn is_tree_reset_open(&self, index: u32) -> bool {
        self.table[index].delivery(Item::Reset).is_open() && self.resets_tree(index)
    }

    /// It was lost.
    pub(super) fn on_tree_reset_lost(&mut self, key: StreamKey) {
        if let Some(index) = self.table.find(key).filter(|i| self.is_tree_reset_open(*i)) {
            self.outbox.put(&mut self.table, index, Item::Reset);
        }
    }
}

/// What the application is told.
impl Streams {
    fn told(&self, index: u32) -> Option<(Code, String, bool)> {
        let node = &self.table[index];
        let tree = if node.has(Flags::TREE_RESET) {
            self.tree_reset(index)?
        } else {
            return None;
        };
        Some((tree.ending.code, tree.ending.reason.to_string(), tree.by_peer))
    }

    /// Why a stream that was reset with a subtree cannot be read.
    pub(super) fn tree_read_error(&self, index: u32) -> Option<ReadError> {
        let is_reading = self.table[index].has(Flags::CUT_OFF);
        is_reading.then(|| self.tree_arrival_error(index)).flatten()
    }

    /// Why no datagram will come on a stream that was reset with a subtree.
    pub(super) fn tree_arrival_error(&self, index: u32) -> Option<ReadError> {
        let (code, reason, by_peer) = self.told(index)?;
        Some(match by_peer {
            true => ReadError::Reset { code, reason },
            false => ReadError::Closed,
        })
    }

    /// Why a stream that was reset with a subtree cannot be written, if the peer did that.
    pub(super) fn tree_write_error(&self, index: u32) -> Option<WriteError> {
        let (code, reason, by_peer) = self.told(index)?;
        by_peer.then_some(WriteError::Stopped { code, reason })
    }

    /// The code with which a stream was reset with a subtree, if it was: what the peer opens below is refused with it
    /// (STR-44).
    pub(super) fn tree_code(&self, index: u32) -> Option<Code> {
        let is_reset = self.table[index].has(Flags::TREE_RESET);
        is_reset
            .then(|| self.tree_reset(index))
            .flatten()
            .map(|t| t.ending.code)
    }

    /// That code, and the text.
    pub(super) fn tree_ending(&self, index: u32) -> Option<(Code, String)> {
        self.told(index).map(|(code, reason, _)| (code, reason))
    }

    /// Why no child of a stream that was reset with a subtree can be opened.
    pub(super) fn tree_open_error(&self, index: u32) -> Option<OpenError> {
        let (code, reason) = self.tree_ending(index)?;
        Some(OpenError::Reset { code, reason })
    }

    /// Why no child of a stream that was reset with a subtree will come.
    pub(super) fn tree_accept_error(&self, index: u32) -> Option<CloseReason> {
        let (code, reason, by_peer) = self.told(index)?;
        Some(match by_peer {
            true => CloseReason::Peer { code, reason },
            false => CloseReason::Local { code, reason },
        })
    }
}
