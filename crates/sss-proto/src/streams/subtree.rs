//! Resetting a stream with all that is below it (STR-43, STR-44).
//!
//! Whoever resets, and whoever receives such a RESET, goes through the subtree as it sees it, and ends both directions
//! of each stream; what is opened below while that is under way is refused. A walk through many streams goes on in
//! steps, so that nobody waits for it; its place is moved on when the stream there is retired.

use sss_wire::Code;

use super::Streams;
use super::frames::delivery::{Delivery, Item};
use super::life::cause::{self, Cause, Direction, Ending, TreeReset};
use super::node::{Flags, Opener};
use super::state::{RecvInput, RecvState, SendInput};
use crate::ids::StreamKey;

/// Streams gone through in one step.
const STEP: usize = 4096;

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
        if node.has(Flags::TREE_RESET) || node.rare.as_ref().is_some_and(|r| r.ends.tree().is_some()) {
            return;
        }
        self.table[top].rare_mut().ends.set_tree(TreeReset { ending, by_peer });
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
        let by_peer = cause::tree_reset(&self.table, index).is_some_and(|tree| tree.by_peer);
        let node = &mut self.table[index];
        node.set(Flags::TREE_RESET);
        // Of what was let go of, and was not told yet, the peer is told this.
        for (direction, item) in [(Direction::Sending, Item::Reset), (Direction::Receiving, Item::Stop)] {
            if node.cause(direction) == Cause::Released && node.is_due(item) {
                node.set_cause(direction, Cause::Tree);
            }
        }
        // STR-47
        self.give_up_watch(index);
        self.end_await(index);
        self.take_unaccepted(index);
        if self.end_sending(index, Cause::Tree, None) && by_peer {
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
        if node.status.recv == RecvState::Reset || is_own_datagram || !self.end_receiving(index, Cause::Tree, None) {
            return;
        }
        let node = &mut self.table[index];
        if by_peer {
            node.set_delivery(Item::Stop, Delivery::Idle);
        }
    }

    /// It was lost.
    pub(super) fn on_tree_reset_lost(&mut self, key: StreamKey) {
        if let Some(index) = self.table.find(key).filter(|i| self.table[*i].is_tree_reset_open()) {
            self.outbox.put(&mut self.table, index, Item::Reset);
        }
    }
}
