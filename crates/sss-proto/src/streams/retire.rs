//! Retirement (STR-16): the end of a stream at this host.

use super::Streams;
use super::frames::delivery::Item;
use super::node::{Flags, Opener, ROOT};
use crate::error::CloseReason;
use crate::io::DatagramFate;

impl Streams {
    /// Retires a stream if nothing keeps it, then its parent, and so on upwards. The slot may be free already: the end
    /// of a child has then taken its parent along.
    pub(super) fn retire(&mut self, index: u32) {
        let mut at = index;
        while at != ROOT && self.table.get(at).is_some() && self.is_over(at) {
            let parent = self.table[at].place.parent;
            if self.table[at].has(Flags::DATAGRAM) {
                self.forget_datagram(at);
            }
            self.remove(at);
            at = parent;
        }
    }

    /// Whether nothing keeps a stream. Queues a last OPEN_CREDIT where STR-21 asks for it.
    fn is_over(&mut self, index: u32) -> bool {
        let node = &self.table[index];
        if node.children() > 0 || node.has(Flags::HELD) || node.has(Flags::UNACCEPTED) {
            return false;
        }
        if self.failed.is_some() {
            return true;
        }
        let status = &node.status;
        if !node.has(Flags::ANNOUNCED) {
            return !status.send.carries_data();
        }
        let is_done = status.send.is_over() && status.recv.has_size() && !status.recv.keeps_data();
        if !is_done || node.delivery(Item::Stop).is_open() || node.has_datagrams_flying() || node.is_tree_reset_open() {
            return false;
        }
        // STR-34: a datagram has no children, and needs no credit any more.
        if node.has(Flags::DATAGRAM) {
            return true;
        }
        self.has_last_room(index)
    }

    fn remove(&mut self, index: u32) {
        self.return_opening(index);
        self.forget_opening(index);
        self.give_back_windows(index);
        if self.table[index].budget().is_some() {
            self.windows.budgets -= 1;
        }
        let rare = self.table[index].rare.as_ref();
        self.app.modes -= usize::from(rare.is_some_and(|r| r.listen.has_mode()));
        self.leave_walk(index);
        self.answer_await(index);
        self.pass_on_losses(index);
        self.table.disown(index);
        self.answer_await(self.table[index].place.parent);
        self.scheduler.forget(&mut self.table, index);
        self.outbox.openers.forget(self.table.key(index));
        let Some(mut node) = self.table.remove(index) else {
            return;
        };
        if node.place.opener == Opener::Peer {
            self.windows.streams.remove();
        }
        if node.has(Flags::ANNOUNCED) {
            self.attachment.detach(&self.table, index, &node);
        }
        self.pool.take_back_send(&mut node.send);
        self.pool.take_back_recv(node.recv.buf);
    }

    /// The channel has ended: nothing is sent or received any more, and whoever waits is told.
    pub(crate) fn fail_all(&mut self, reason: &CloseReason) {
        if self.failed.is_some() {
            return;
        }
        self.failed = Some(reason.clone());
        self.outbox.clear();
        self.walks.clear();
        self.fail_datagrams();
        for index in 1..self.table.slots() {
            if self.table.get(index).is_none() {
                continue;
            }
            for interest in self.table[index].interests() {
                self.notify(index, interest);
            }
            self.settle_datagram(index, DatagramFate::ChannelLost);
            self.pool.take_back_send(&mut self.table[index].send);
            self.scheduler.deactivate(&mut self.table, index);
            self.retire(index);
        }
    }
}
