//! The life of streams: how they begin, how their directions end, and how they are retired. The only maker and remover
//! of nodes.
//!
//! - [`state`]: the states of both directions; [`cause`]: why one ended early, and what is said of that;
//! - [`subtree`]: resets of all below a stream;
//! - [`listen`] and [`backlog`]: children of the peer that wait to be accepted, and whether they may;
//! - [`walks`]: through subtrees that were reset; [`losses`]: what was not delivered of streams that nobody held.
//!
//! [`Life`] owns the parts below, and is what those above use them through: whatever ends a direction settles its
//! credit, its buffers, its turn, and whoever waits.

pub(super) mod backlog;
pub(super) mod cause;
pub(super) mod listen;
pub(super) mod losses;
pub(super) mod state;
mod subtree;
pub(super) mod walks;

use std::collections::VecDeque;

use bytes::Bytes;
use sss_wire::Code;
use sss_wire::constants::{MIN_ROOT_CREDIT, OPEN_COST};
use sss_wire::frame::Stream;

use super::data::pool::Pool;
use super::data::send_buf::SendBuf;
use super::events::Events;
use super::flow::Flow;
use super::frames::answers;
use super::frames::delivery::{Delivery, Item};
use super::frames::outbox::Outbox;
use super::messages::ledger::Ledger;
use super::schedule::Scheduler;
use super::tree::Tree;
use super::tree::ends::{Cause, Direction, Ending};
use super::tree::index::{NONE, ROOT};
use super::tree::node::{Flags, Node, Opener};
use crate::config::StreamsConfig;
use crate::error::CloseReason;
use crate::ids::StreamKey;
use crate::interest::Interest;
use crate::io::DatagramFate;
use listen::ListenMode;
use state::{RecvInput, RecvState, SendInput, SendState};
use walks::Walks;

/// Streams gone through in one step of a walk.
const STEP: usize = 4096;

/// The streams of a peer, and the parts that work on them.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) tree: Tree,
    pub(super) events: Events,
    pub(super) outbox: Outbox,
    pub(super) scheduler: Scheduler,
    pub(super) flow: Flow,
    pub(super) pool: Pool,
    pub(super) ledger: Ledger,
    walks: Walks,
    /// Top-level streams that the peer opened.
    pub(super) incoming: VecDeque<StreamKey>,
    /// Streams that the application holds.
    held: usize,
    /// Streams that say what happens to their children.
    modes: usize,
    /// The reason for the end of the channel.
    pub(super) failed: Option<Box<CloseReason>>,
}

/// Beginnings.
impl Life {
    /// A tree of nothing but the root.
    pub(super) fn new(config: StreamsConfig) -> Self {
        let flow = Flow::new(config.window);
        let mut root = Node::new(NONE, 0, Opener::Own, None);
        root.set(Flags::HELD.with(Flags::ANNOUNCED));
        root.set_delivery(Item::Init, Delivery::Acked);
        root.account_mut().lent.set_limit(MIN_ROOT_CREDIT);
        root.account_mut().backing = flow.root();
        Self {
            tree: Tree::new(root, config.seed),
            events: Events::default(),
            outbox: Outbox::default(),
            scheduler: Scheduler::default(),
            flow,
            pool: Pool::default(),
            ledger: Ledger::new(&config.window, config.seed),
            walks: Walks::default(),
            incoming: VecDeque::new(),
            held: 0,
            modes: 0,
            failed: None,
        }
    }

    /// Opens a stream for the application, which holds it. It is announced with its first data, or alone.
    pub(super) fn open(&mut self, mut node: Node) -> StreamKey {
        node.set(Flags::HELD);
        node.set_delivery(Item::Init, Delivery::Due);
        self.held += 1;
        let key = self.tree.insert(node);
        self.touch(key.index);
        key
    }

    /// Puts a new stream of the peer in its parent's backlog, or refuses it.
    pub(super) fn offer(&mut self, parent: u32, index: u32) {
        if let Some(code) = backlog::why_refuse(&self.tree.table, self.modes, parent) {
            if self.tree[parent].has(Flags::TREE_RESET) {
                self.tree[index].set(Flags::TREE_RESET);
            }
            self.refuse_at(index, code);
            return;
        }
        self.tree[index].set(Flags::UNACCEPTED);
        if parent == ROOT {
            self.incoming.push_back(self.tree.key(index));
        } else {
            backlog::push(&mut self.tree.table, parent, index);
        }
        self.add_backlog_cost(index, OPEN_COST);
        if parent != ROOT && self.tree[index].has(Flags::UNACCEPTED) {
            self.notify(parent, Interest::Accept);
        }
    }

    /// Bytes have come for a stream; if it waits to be accepted, and that is too much for a limit above it, it is
    /// refused.
    pub(super) fn add_backlog_cost(&mut self, index: u32, bytes: u64) {
        if backlog::add_cost(&mut self.tree.table, self.modes, index, bytes) {
            self.refuse(self.tree.key(index), Code::BACKLOG);
        }
    }

    /// The application takes a stream that waits to be accepted. Returns whether there still is one to take.
    pub(super) fn accept(&mut self, key: StreamKey) -> bool {
        let found = self.tree.find(key);
        let Some(index) = found.filter(|at| backlog::take(&mut self.tree.table, *at)) else {
            return false;
        };
        let is_alive = self.failed.is_none();
        if is_alive {
            self.tree[index].set(Flags::HELD);
            self.held += 1;
            self.flow.settle_opening(&mut self.tree.table, &mut self.outbox, index);
        } else {
            self.retire(index);
        }
        is_alive
    }

    /// Refuses a stream that was not accepted (STR-9).
    pub(super) fn refuse(&mut self, key: StreamKey, code: Code) {
        if let Some(index) = self.tree.find(key)
            && backlog::take(&mut self.tree.table, index)
        {
            self.refuse_at(index, code);
        }
    }

    /// Refuses a stream that nobody holds, and the children that wait to be accepted with it.
    fn refuse_at(&mut self, index: u32, code: Code) {
        // STR-57: nobody asks for them any more, and they may be longer than all else that is kept.
        self.tree[index].names = None;
        self.abort(index, Cause::Own, Ending::new(code, ""));
        self.end_receiving(index, Cause::Own, Some(Ending::new(code, "")));
        self.discard_arrived(index);
        self.answer_await(index);
        self.refuse_backlog(index);
        self.retire(index);
    }

    fn refuse_backlog(&mut self, index: u32) {
        if let Some(extras) = self.tree[index].extras.as_mut() {
            for key in std::mem::take(&mut extras.backlog).drain() {
                self.refuse(key, Code::NO_LISTENER);
            }
        }
    }

    /// Says what happens to children of a stream until they are accepted. Those that wait already are refused by
    /// `Reject`, and stay otherwise.
    pub(super) fn set_listen_mode(&mut self, index: u32, mode: ListenMode) {
        let before = std::mem::replace(&mut self.tree[index].extras_mut().listen.mode, mode);
        self.modes += usize::from(mode != ListenMode::Inherit);
        self.modes -= usize::from(before != ListenMode::Inherit);
        if backlog::listen_mode(&self.tree.table, self.modes, index) == ListenMode::Reject {
            self.refuse_backlog(index);
        }
    }
}

/// Basics that every part above uses.
impl Life {
    /// Returns whether the application holds no stream.
    pub(super) fn is_unused(&self) -> bool {
        self.held == 0
    }

    /// Tells the application, if it waits for it.
    #[inline]
    pub(super) fn notify(&mut self, index: u32, interest: Interest) {
        self.events.notify(&mut self.tree.table, index, interest);
    }

    /// Puts a stream in its turn if it has something to send.
    #[inline]
    pub(super) fn touch(&mut self, index: u32) {
        if self.tree[index].is_sendable() {
            self.scheduler.activate(&mut self.tree.table, index);
        }
    }

    /// Something about a stream is to be sent, for the first time, again, or with another value.
    #[inline]
    pub(super) fn put(&mut self, index: u32, item: Item) {
        self.outbox.put(&mut self.tree.table, index, item);
    }

    /// Puts something behind what was written to a stream, which it is the turn of from now on.
    pub(super) fn append(&mut self, index: u32, write: impl FnOnce(&mut SendBuf)) {
        self.pool.append(&mut self.tree[index].send, write);
        self.touch(index);
    }

    /// Takes in what arrived of a stream; returns whether more can be read.
    pub(super) fn keep(&mut self, index: u32, frame: &Stream<'_>, packet: &Bytes) -> bool {
        self.pool.keep(&mut self.tree[index].recv, frame, packet)
    }

    /// The peer knows a stream: INIT is sent no more, and what waited for this can go.
    pub(super) fn on_known(&mut self, index: u32) {
        let node = &mut self.tree[index];
        if node.is_known() {
            return;
        }
        node.set_delivery(Item::Init, Delivery::Acked);
        let parent = node.place.parent;
        self.outbox.on_known(&mut self.tree.table, index);
        self.tree.table.note_known(parent);
        self.answer_await(parent);
    }

    /// Something about a stream came from the peer, which has decided about it: it does not wait to be accepted any
    /// more, and may have been refused. RESET does not say so: it may be the answer to a STOP of this host
    /// (STR-14).
    pub(super) fn on_decided(&mut self, index: u32) {
        let node = &self.tree[index];
        if node.place.opener == Opener::Own && node.has(Flags::ANNOUNCED) {
            self.on_known(index);
        }
        if self.tree[index].has(Flags::UNHEARD) {
            self.flow.leave_line(&mut self.tree.table, index);
        }
    }

    /// Something about a stream came from the peer, which it says only of one that its application holds, or held.
    pub(super) fn on_heard(&mut self, index: u32) {
        self.on_decided(index);
        if self.tree[index].has(Flags::UNHELD) {
            self.flow.note_held(&mut self.tree.table, index);
        }
    }

    /// Tells the peer that a stream was read to its end, if it wants to know.
    pub(super) fn answer_watch(&mut self, index: u32) {
        answers::answer_watch(&mut self.tree, &mut self.outbox, index);
    }

    /// Tells the peer that nothing more can come on a stream, if it wants to know.
    pub(super) fn answer_await(&mut self, index: u32) {
        if self.failed.is_none() {
            answers::answer_await(&mut self.tree, &mut self.outbox, index);
        }
    }
}

/// Ends of directions.
impl Life {
    /// Ends the sending direction well, if it is not over.
    pub(super) fn finish(&mut self, index: u32) {
        let node = &mut self.tree[index];
        if let Some(state) = node.status.send.after(SendInput::Finish) {
            node.status.send = state;
            node.set_delivery(Item::Fin, Delivery::Due);
            self.touch(index);
        }
    }

    /// Resets the sending direction, if it is not over: discards what was not sent or acknowledged, and sends RESET
    /// once the stream is announced.
    pub(super) fn abort(&mut self, index: u32, cause: Cause, ending: Ending) -> bool {
        self.end_sending(index, cause, Some(ending))
    }

    /// As [`Self::abort`], where the cause may say all that is to be known.
    fn end_sending(&mut self, index: u32, cause: Cause, ending: Option<Ending>) -> bool {
        let node = &mut self.tree[index];
        let Some(state) = node.status.send.after(SendInput::Abort) else {
            return false;
        };
        node.status.send = state;
        node.set_delivery(Item::Fin, Delivery::Idle);
        node.end(Direction::Sending, cause, ending);
        self.give_up_watch(index);
        self.pool.take_back_send(&mut self.tree[index].send);
        self.notify(index, Interest::Sent);
        self.notify(index, Interest::Acknowledged);
        self.settle_all(index, DatagramFate::Cancelled);
        if self.failed.is_none() {
            self.put(index, Item::Reset);
            self.touch(index);
        }
        true
    }

    /// Discards what arrived and what will arrive, and sends STOP, unless everything was read or the peer has reset the
    /// direction.
    pub(super) fn stop(&mut self, index: u32, ending: Ending) {
        if !self.end_if_read(index) {
            self.end_receiving(index, Cause::Own, Some(ending));
        }
    }

    /// Ends a direction of which everything was read, but for being told so (STR-49). Returns whether it is one.
    pub(super) fn end_if_read(&mut self, index: u32) -> bool {
        let node = &mut self.tree[index];
        let is_read = node.recv.unread() == 0 && node.advance_recv(RecvInput::ReadToEnd);
        if is_read {
            self.flow.end_window(&mut self.tree.table, index);
            self.answer_watch(index);
        }
        is_read
    }

    /// As [`Self::stop`] of a direction of which nobody has read anything, where the cause may say all that is to be
    /// known. Returns whether it was not over.
    pub(super) fn end_receiving(&mut self, index: u32, cause: Cause, ending: Option<Ending>) -> bool {
        let node = &mut self.tree[index];
        let before = node.status.recv;
        if !node.advance_recv(RecvInput::Stop) {
            return false;
        }
        // What the peer ended before stays ended by it: a refusal is remembered.
        if before != RecvState::Reset {
            node.end(Direction::Receiving, cause, ending);
            if self.failed.is_none() {
                self.put(index, Item::Stop);
            }
        }
        self.discard(index);
        true
    }

    /// Drops what was received and not read, and counts it as consumed.
    pub(super) fn discard(&mut self, index: u32) {
        let recv = &mut self.tree[index].recv;
        self.pool.take_back_recv(recv.buf.take());
        recv.read = recv.received;
        self.flow.consume(&mut self.tree.table, &mut self.outbox, index);
    }

    /// The application lets go of a stream: an unfinished direction is reset with DROPPED, one not read to its end is
    /// stopped with UNREAD (STR-13), and children that wait to be accepted are refused.
    pub(super) fn release(&mut self, index: u32) {
        self.tree[index].clear(Flags::HELD.with(Flags::all_interests()));
        self.give_up_watch(index);
        self.outbox
            .close(&mut self.tree.table, index, Item::Await, Delivery::Idle);
        self.held -= 1;
        if self.tree[index].status.send == SendState::Open {
            self.end_sending(index, Cause::Released, None);
        }
        if !self.end_if_read(index) {
            self.end_receiving(index, Cause::Released, None);
        }
        self.discard_arrived(index);
        self.answer_await(index);
        self.refuse_backlog(index);
        self.retire(index);
    }

    /// A direction is reset, or its stream is let go of: nobody waits to hear whether it was read.
    #[inline]
    fn give_up_watch(&mut self, index: u32) {
        if self.tree[index].delivery(Item::Watch).is_open() {
            self.outbox
                .close(&mut self.tree.table, index, Item::Watch, Delivery::Idle);
            self.notify(index, Interest::Consumed);
        }
    }

    /// The fate of a datagram is known, if the stream is one of this host. Returns whether it was not known before.
    pub(super) fn settle(&mut self, index: u32, fate: DatagramFate) -> bool {
        self.tree[index].is_datagram() && self.ledger.settle(&mut self.tree.table, &mut self.events, index, fate)
    }

    /// The same of a datagram and of those in line behind it (STR-81).
    fn settle_all(&mut self, index: u32, fate: DatagramFate) {
        if self.tree[index].is_datagram() {
            self.settle(index, fate);
            let (table, pool) = (&mut self.tree.table, &mut self.pool);
            self.ledger.settle_line((table, pool), &mut self.events, index, fate);
        }
    }

    /// Nobody will take the datagrams that have arrived on a stream.
    fn discard_arrived(&mut self, index: u32) {
        while self.take_arrived(index).is_some() {}
    }

    /// Gives a lender back what it was charged for a datagram.
    fn consume_datagram(&mut self, lender: u32, amount: u64) {
        self.flow
            .consume_datagram(&mut self.tree.table, &mut self.outbox, lender, amount);
    }

    /// The first datagram that has arrived on a stream. What it was charged is consumed by that.
    pub(super) fn take_arrived(&mut self, index: u32) -> Option<Bytes> {
        let room = (&mut self.pool, &mut self.flow);
        let (bytes, debt) = self.ledger.take_arrived(&mut self.tree.table, room, index)?;
        self.ledger.free_grant(&mut self.flow, debt.granted);
        self.consume_datagram(debt.lender, debt.charge);
        Some(bytes)
    }
}

/// Retirement (STR-16): the end of a stream at this host.
impl Life {
    /// Retires a stream if nothing keeps it, then its parent, and so on upwards. The slot may be free already: the end
    /// of a child has then taken its parent along.
    pub(super) fn retire(&mut self, index: u32) {
        let mut at = index;
        while at != ROOT && self.tree.table.get(at).is_some() && self.is_over(at) {
            let parent = self.tree[at].place.parent;
            if self.tree[at].is_datagram() {
                let (lender, amount) = self
                    .ledger
                    .forget(&mut self.tree.table, &mut self.events, &mut self.flow, at);
                self.consume_datagram(lender, amount);
            }
            self.remove(at);
            at = parent;
        }
    }

    /// Returns whether nothing keeps a stream. Queues a last OPEN_CREDIT where STR-21 asks for it.
    fn is_over(&mut self, index: u32) -> bool {
        let node = &self.tree[index];
        if node.children() > 0 || node.is_wanted() {
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
        let is_told = !node.delivery(Item::Stop).is_open() && !node.is_tree_reset_open();
        if !is_done || !is_told || node.has_datagrams_flying() {
            return false;
        }
        // STR-34: a datagram has no children, and needs no credit any more.
        node.is_datagram() || self.flow.has_last_room(&mut self.tree.table, &mut self.outbox, index)
    }

    fn remove(&mut self, index: u32) {
        let table = &mut self.tree.table;
        self.flow.return_opening(table, &mut self.outbox, index);
        if table[index].has(Flags::UNHEARD) {
            self.flow.leave_line(table, index);
        }
        self.flow.forget(table, index);
        self.modes -= usize::from(table[index].extras.as_ref().is_some_and(|e| e.listen.has_mode()));
        self.walks.leave(table, index);
        self.answer_await(index);
        losses::pass_on(&mut self.tree.table, index);
        self.notify(index, Interest::Drained);
        self.tree.table.disown(index);
        self.answer_await(self.tree[index].place.parent);
        self.scheduler.forget(&mut self.tree.table, index);
        self.flow.openers.forget(self.tree.key(index));
        let Some(mut node) = self.tree.remove(index) else {
            return;
        };
        if node.place.opener == Opener::Peer {
            self.flow.count_out();
        }
        self.pool.take_back_send(&mut node.send);
        self.pool.take_back_recv(node.recv.buf);
    }

    /// The channel has ended: nothing is sent or received any more, and whoever waits is told.
    pub(super) fn fail_all(&mut self, reason: &CloseReason) {
        if self.failed.is_some() {
            return;
        }
        self.failed = Some(Box::new(reason.clone()));
        self.outbox.clear();
        self.flow.end();
        self.walks.clear();
        self.ledger.fail(&mut self.events);
        for index in 1..self.tree.table.slots() {
            if self.tree.table.get(index).is_none() {
                continue;
            }
            self.events.notify_all(&mut self.tree.table, index);
            self.settle_all(index, DatagramFate::ChannelLost);
            self.pool.take_back_send(&mut self.tree[index].send);
            self.scheduler.deactivate(&mut self.tree.table, index);
            self.retire(index);
        }
    }
}
