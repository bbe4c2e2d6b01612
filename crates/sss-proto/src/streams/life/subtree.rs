//! Resets of subtrees (STR-43, STR-44).

use super::state::{RecvInput, RecvState, SendInput};
use super::{Life, STEP, backlog, cause, losses};
use crate::streams::frames::delivery::{Delivery, Item};
use crate::streams::tree::ends::{Cause, Direction, Ending, TreeReset};
use crate::streams::tree::node::{Flags, Opener};

impl Life {
    /// Resets a stream and all streams below it, in both directions.
    pub(crate) fn reset_tree(&mut self, top: u32, ending: Ending, by_peer: bool) {
        let node = &mut self.tree[top];
        if node.has(Flags::TREE_RESET) || node.extras.as_ref().is_some_and(|e| e.ends.tree.is_some()) {
            return;
        }
        node.extras_mut().ends.tree = Some(TreeReset { ending, by_peer });
        if !by_peer && node.has(Flags::ANNOUNCED) {
            self.put(top, Item::Reset);
        }
        self.walks.begin(self.tree.key(top));
        self.walk();
    }

    /// Returns whether [`Self::walk`] has something to do.
    pub(crate) fn has_work(&self) -> bool {
        !self.walks.is_idle()
    }

    /// Goes on with the walks, for a short time.
    pub(crate) fn walk(&mut self) {
        for _ in 0..STEP {
            let Some(at) = self.walks.next(&self.tree.table) else {
                return;
            };
            if !self.tree[at].has(Flags::TREE_RESET) {
                self.end_in_tree(at);
                self.retire(at);
            }
        }
    }

    /// Ends both directions of a stream whose subtree, or that of a stream above, was reset.
    fn end_in_tree(&mut self, index: u32) {
        let by_peer = cause::tree_reset(&self.tree.table, index).is_some_and(|tree| tree.by_peer);
        let node = &mut self.tree[index];
        node.set(Flags::TREE_RESET);
        // Of what was let go of, and was not told yet, the peer is told this.
        for (direction, item) in [(Direction::Sending, Item::Reset), (Direction::Receiving, Item::Stop)] {
            if node.cause(direction) == Cause::Released && node.is_due(item) {
                node.set_cause(direction, Cause::Tree);
            }
        }
        // STR-47
        self.give_up_watch(index);
        self.outbox
            .close(&mut self.tree.table, index, Item::Await, Delivery::Idle);
        backlog::take(&mut self.tree.table, index);
        if self.end_sending(index, Cause::Tree, None) && by_peer {
            losses::note_stopped(&mut self.tree.table, index);
        }
        self.end_receiving_in_tree(index, by_peer);
        self.discard_arrived(index);
        self.ledger.give_up_grant(&mut self.flow, index);
        if !self.tree[index].has(Flags::ANNOUNCED) {
            self.forget_unannounced(index);
        }
        self.events.notify_all(&mut self.tree.table, index);
    }

    /// A peer that has reset the subtree need not be told.
    fn end_receiving_in_tree(&mut self, index: u32, by_peer: bool) {
        let node = &self.tree[index];
        // Of a datagram of this host the peer says what became of it.
        let is_own_datagram = node.is_datagram() && node.place.opener == Opener::Own;
        if node.status.recv == RecvState::Reset || is_own_datagram {
            return;
        }
        if self.end_receiving(index, Cause::Tree, None) && by_peer {
            self.tree[index].set_delivery(Item::Stop, Delivery::Idle);
        }
    }

    /// Nobody will ever hear of a stream that was not announced.
    fn forget_unannounced(&mut self, index: u32) {
        self.scheduler.deactivate(&mut self.tree.table, index);
        let node = &mut self.tree[index];
        for item in [Item::Reset, Item::Stop, Item::Init] {
            node.set_delivery(item, Delivery::Idle);
        }
        node.clear(Flags::WAITING);
        node.advance_send(SendInput::ResetAcked);
        node.advance_recv(RecvInput::Size);
        // STR-71: its application may hold it for long.
        let parent = node.place.parent;
        self.tree.table.note_known(parent);
        self.answer_await(parent);
    }
}
