//! Datagrams on their way out.
//!
//! 1. [`Streams::send_datagram`] makes the node, and the scheduler gives it its turn like any child;
//! 2. when it comes, [`Streams::write_datagram`] sends it without state if it can be, and it is gone; else it goes the
//!    way of streams, see [`down`](super::super::down);
//! 3. it is settled once: when the peer says that all is there, or when it is refused, reset, or its deadline comes.

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use sss_wire::Code;
use sss_wire::constants::{DATAGRAM_LIFETIME, MAX_DEPTH, MAX_MESSAGE, OPEN_COST, STREAM_BORROW};
use sss_wire::frame::{Datagram, Init, StreamHeader};

use super::super::app::SEND_AHEAD;
use super::super::down::Outcome;
use super::super::frames::delivery::{Delivery, Item};
use super::super::life::cause::{self, Cause, Ending};
use super::super::node::{Flags, Node, Opener, ROOT};
use super::super::state::{RecvInput, SendInput, SendState};
use super::super::{StreamEvent, Streams};
use super::{DatagramOptions, MAX_LOSS};
use crate::error::DatagramError;
use crate::ids::{DatagramId, StreamKey};
use crate::interest::Interest;
use crate::io::DatagramFate;
use crate::packet::PacketWriter;
use crate::time::Instant;
use crate::token::Token;

/// A datagram of this host that is a node of the tree.
#[derive(Debug)]
pub(super) struct Message {
    id: u64,
    size: u64,
    /// What of it counts as queued on its stream.
    queued: u64,
    is_reliable: bool,
    is_tracked: bool,
    is_settled: bool,
    /// Its deadline is so near that nothing more of it is sent.
    is_overdue: bool,
}

/// What a datagram of `size` bytes counts while it waits to be sent.
fn queue_cost(size: u64) -> u64 {
    size.saturating_add(OPEN_COST)
}

fn is_unsettled(sending: &HashMap<u32, Message, FixedState>, index: u32) -> bool {
    sending.get(&index).is_some_and(|m| !m.is_settled)
}

impl Streams {
    /// The largest datagram that can be sent, in bytes.
    pub(crate) fn max_datagram(&self) -> u64 {
        self.datagrams.limits.peer_max.unwrap_or(MAX_MESSAGE)
    }

    /// Takes a datagram to be sent on a stream. On `Ok(None)` there is no room for it yet, and an event follows.
    ///
    /// # Errors
    /// If it is larger than the peer takes, the stream is gone here or at the peer, or the channel has ended.
    pub(crate) fn send_datagram(
        &mut self,
        now: Instant,
        parent: StreamKey,
        data: &Bytes,
        options: &DatagramOptions,
    ) -> Result<Option<DatagramId>, DatagramError> {
        if let Some(reason) = &self.failed {
            return Err(DatagramError::Lost(reason.clone()));
        }
        let parent = self.held(parent).ok_or(DatagramError::Closed)?;
        if self.table[parent].has(Flags::PEER_GONE) {
            return Err(DatagramError::PeerGone);
        }
        if let Some((code, reason)) = cause::tree_ending(&self.table, parent) {
            return Err(DatagramError::Reset { code, reason });
        }
        let (size, limit) = (data.len() as u64, self.max_datagram());
        if !self.fits_peer(size) {
            return Err(DatagramError::TooLarge { size, limit });
        }
        if !self.take_datagram_room(parent, size) {
            return Ok(None);
        }
        let id = self.datagrams.next_id;
        self.datagrams.next_id += 1;
        let index = self.insert_datagram(parent, data);
        let message = Message {
            id,
            size,
            queued: queue_cost(size),
            is_reliable: options.reliable,
            is_tracked: options.tracked,
            is_settled: false,
            is_overdue: false,
        };
        self.datagrams.sending.insert(index, message);
        self.scheduler.set_level(&mut self.table, index, options.priority);
        self.set_deadline(now, index, options);
        self.touch(index);
        Ok(Some(DatagramId(id)))
    }

    /// STR-36
    fn fits_peer(&self, size: u64) -> bool {
        let limit = self.max_datagram();
        size <= limit && limit > 0
    }

    /// Queues a datagram on the account of its stream: if it fits, if little is queued, or if it is larger than what
    /// can ever be and nothing else is there.
    fn take_datagram_room(&mut self, parent: u32, size: u64) -> bool {
        let cost = queue_cost(size);
        let mailbox = self.table[parent].rare_mut().mailbox_mut();
        let room_at = if cost > SEND_AHEAD { 0 } else { SEND_AHEAD / 2 };
        let fits = mailbox.queued.saturating_add(cost) <= SEND_AHEAD || mailbox.queued <= room_at;
        if fits {
            mailbox.queued = mailbox.queued.saturating_add(cost);
        } else {
            mailbox.room_at = mailbox.room_at.max(Some(room_at));
            self.table[parent].set(Flags::waits_for(Interest::SendDatagram));
        }
        fits
    }

    fn insert_datagram(&mut self, parent: u32, data: &Bytes) -> u32 {
        let depth = self.table[parent].place.depth.saturating_add(1);
        let mut node = Node::new(parent, depth, Opener::Own, None);
        node.set(Flags::DATAGRAM);
        node.set_delivery(Item::Init, Delivery::Due);
        node.set_delivery(Item::Fin, Delivery::Due);
        node.status.send = SendState::Finishing;
        node.send.limit = 0;
        let index = self.table.insert(node).index;
        self.table.adopt(index);
        self.append(index, |buf| buf.push_bytes(data.clone()));
        index
    }

    /// STR-35
    fn set_deadline(&mut self, now: Instant, index: u32, options: &DatagramOptions) {
        let lifetime = (!options.reliable).then_some(DATAGRAM_LIFETIME);
        let Some(time) = options.deadline.or(lifetime) else {
            return;
        };
        let key = self.table.key(index);
        let (table, sending) = (&self.table, &self.datagrams.sending);
        let matters = |key| table.find(key).is_some_and(|i| is_unsettled(sending, i));
        self.datagrams.deadlines.push(now + time, key, matters);
    }

    /// When [`Self::on_timer`] is to be called.
    pub(crate) fn next_timer(&mut self) -> Option<Instant> {
        let (table, sending) = (&self.table, &self.datagrams.sending);
        let matters = |key| table.find(key).is_some_and(|i| is_unsettled(sending, i));
        let first = self.datagrams.deadlines.first(matters)?;
        Some(first - self.datagrams.limits.one_way)
    }

    /// Gives up the datagrams whose time is over.
    pub(crate) fn on_timer(&mut self, now: Instant) {
        let ahead = self.datagrams.limits.one_way;
        while let Some(key) = self.datagrams.deadlines.pop_due(now, ahead) {
            if let Some(index) = self.table.find(key)
                && let Some(message) = self.datagrams.sending.get_mut(&index)
            {
                message.is_overdue = true;
                self.review_overdue(index);
            }
        }
    }

    /// Gives up a datagram that would have to send something too late (STR-35).
    pub(in super::super) fn review_overdue(&mut self, index: u32) {
        let is_overdue = self.datagrams.sending.get(&index).is_some_and(|m| m.is_overdue);
        if is_overdue && !self.table[index].is_all_sent() && self.settle_datagram(index, DatagramFate::Expired) {
            self.datagrams.stats.expired += 1;
            self.datagrams.limits.missed |= !self.table[index].has(Flags::ANNOUNCED);
            self.give_up_datagram(index);
        }
    }

    /// RESET for a datagram that the peer may know of; nothing for others.
    fn give_up_datagram(&mut self, index: u32) {
        if self.table[index].has(Flags::ANNOUNCED) {
            self.abort(index, Cause::Own, Ending::new(Code::EXPIRED, ""));
            self.retire(index);
        } else {
            self.end_datagram(index);
        }
    }

    /// The scheduler begins to fill the rest of a packet.
    pub(in super::super) fn note_packet_start(&mut self, packet: &PacketWriter<'_>) {
        self.datagrams.limits.packet_start = packet.len();
    }

    /// Sends a datagram that was not announced in a frame of its own, if that can be (STR-32, STR-33). `None`: it is to
    /// be a stream.
    pub(in super::super) fn write_datagram(&mut self, index: u32, packet: &mut PacketWriter<'_>) -> Option<Outcome> {
        let size = self.table[index].send.end();
        if !self.fits_peer(size) {
            self.settle_datagram(index, DatagramFate::TooLarge);
            return Some(Outcome::Over(0));
        }
        let is_reliable = self.datagrams.sending.get(&index).is_none_or(|m| m.is_reliable);
        if is_reliable || self.datagrams.limits.loss > MAX_LOSS {
            return None;
        }
        let len = usize::try_from(size).ok()?;
        let needed = self.stateless_len(index, len);
        if needed > packet.remaining() {
            // The next packet has as much room as this one had; what came before in this one is not in that.
            let is_first = packet.len() <= self.datagrams.limits.packet_start;
            let fits_next = needed <= packet.remaining() + packet.len() && !is_first;
            return fits_next.then_some(Outcome::Full);
        }
        if let Some(outcome) = self.write_ancestors(index, packet) {
            return Some(outcome);
        }
        self.encode_datagram(index, len, packet)
    }

    /// Bytes that a datagram without state takes in the packet, INIT of its ancestors included.
    fn stateless_len(&self, index: u32, len: usize) -> usize {
        let parent = self.table[index].place.parent;
        let mut total = Datagram::len_with(self.lsid(parent), len);
        let mut at = parent;
        while at != ROOT && !self.table[at].is_known() {
            if !self.announced.contains(&at) {
                let header = StreamHeader {
                    lsid: self.lsid(at),
                    init: self.largest_init(at),
                    offset: 0,
                    fin: false,
                    mark: false,
                };
                total = total.saturating_add(header.encoded_len(Some(0)));
            }
            at = self.table[at].place.parent;
        }
        total
    }

    /// INIT of a stream as long as it can be.
    fn largest_init(&self, index: u32) -> Option<Init<'_>> {
        let init = self.init(index)?;
        Some(if self.table[index].has(Flags::ANNOUNCED) {
            init
        } else {
            init.with_credit(MAX_DEPTH, STREAM_BORROW, STREAM_BORROW)
        })
    }

    fn encode_datagram(&mut self, index: u32, len: usize, packet: &mut PacketWriter<'_>) -> Option<Outcome> {
        let node = &self.table[index];
        let lsid = self.lsid(node.place.parent);
        let frame = Datagram::len_with(lsid, len);
        if frame > packet.remaining() {
            return Some(Outcome::Full);
        }
        let out = packet.eliciting();
        Datagram::encode_header(out, lsid, len);
        if let Some(buf) = &node.send.buf {
            buf.copy(0, out.skip(len));
        }
        self.datagrams.stats.sent_stateless += 1;
        self.note_flying(index, packet);
        if let Some(message) = self.datagrams.sending.remove(&index) {
            if message.is_tracked {
                self.datagrams.flying.insert(message.id);
                packet.remember(Token::Datagram(message.id));
            }
            self.give_back_room(index, message.queued);
        }
        Some(Outcome::Over(frame))
    }

    /// A datagram went without state: nothing that is sent later may say that it will not come (STR-71).
    fn note_flying(&mut self, index: u32, packet: &mut PacketWriter<'_>) {
        let parent = self.table[index].place.parent;
        if let Some(mailbox) = self.table[parent].mailbox() {
            mailbox.flying = mailbox.flying.saturating_add(1);
            packet.remember(Token::Stateless(self.table.key(parent)));
        }
    }

    /// The packet with a datagram that went without state was acknowledged or lost.
    pub(in super::super) fn on_landed(&mut self, parent: StreamKey) {
        let Some(index) = self.table.find(parent) else {
            return;
        };
        if let Some(mailbox) = self.table[index].mailbox() {
            mailbox.flying = mailbox.flying.saturating_sub(1);
        }
        if !self.table[index].has(Flags::HELD) {
            self.answer_await(index);
            self.retire(index);
        }
    }

    /// The size of a datagram of this host.
    pub(in super::super) fn datagram_size(&self, index: u32) -> u64 {
        self.datagrams.sending.get(&index).map_or(0, |m| m.size)
    }

    /// Takes a datagram that was never announced out of the tree.
    pub(in super::super) fn end_datagram(&mut self, index: u32) {
        let node = &mut self.table[index];
        if let Some(state) = node.status.send.after(SendInput::AllAcked) {
            node.status.send = state;
        }
        self.pool.take_back_send(&mut node.send);
        self.scheduler.deactivate(&mut self.table, index);
        self.retire(index);
    }

    /// INIT of a datagram stream is sent for the first time.
    pub(in super::super) fn on_datagram_announced(&mut self, index: u32) {
        self.datagrams.stats.sent_as_stream += 1;
        self.unqueue_datagram(index, OPEN_COST);
    }

    /// So much of a datagram is queued no more.
    pub(in super::super) fn unqueue_datagram(&mut self, index: u32, amount: u64) {
        if let Some(message) = self.datagrams.sending.get_mut(&index) {
            message.queued = message.queued.saturating_sub(amount);
            self.give_back_room(index, amount);
        }
    }

    fn give_back_room(&mut self, index: u32, amount: u64) {
        let parent = self.table[index].place.parent;
        if let Some(mailbox) = self.table[parent].mailbox() {
            mailbox.queued = mailbox.queued.saturating_sub(amount);
            if mailbox.room_at.is_some_and(|at| mailbox.queued <= at) {
                mailbox.room_at = None;
                self.notify(parent, Interest::SendDatagram);
            }
        }
    }

    /// The fate of a datagram is known. Returns whether it was not known before.
    pub(in super::super) fn settle_datagram(&mut self, index: u32, fate: DatagramFate) -> bool {
        let message = self.datagrams.sending.get_mut(&index);
        let Some(message) = message.filter(|m| !m.is_settled) else {
            return false;
        };
        message.is_settled = true;
        let queued = std::mem::take(&mut message.queued);
        let tracked = message.is_tracked.then_some(message.id);
        self.give_back_room(index, queued);
        if let Some(id) = tracked {
            self.tell_fate(id, fate);
        }
        true
    }

    /// The direction back of a datagram of this host has ended well: all has arrived (STR-34).
    pub(in super::super) fn on_datagram_delivered(&mut self, index: u32) {
        if !self.complete(index) {
            return;
        }
        let node = &mut self.table[index];
        if let Some(state) = node.status.recv.after(RecvInput::ReadToEnd) {
            node.status.recv = state;
        }
        self.settle_datagram(index, DatagramFate::Delivered);
        self.retire(index);
    }

    /// The peer refused a datagram of this host, or answers to its RESET.
    pub(in super::super) fn on_datagram_refused(&mut self, index: u32, code: Code) {
        let fate = match code {
            Code::DATAGRAM_TOO_LARGE => DatagramFate::TooLarge,
            code => DatagramFate::Refused(code),
        };
        self.settle_datagram(index, fate);
    }

    /// The packet with a datagram that went without state was acknowledged or lost.
    pub(in super::super) fn on_flown(&mut self, id: u64, fate: DatagramFate) {
        if self.datagrams.flying.remove(&id) {
            self.tell_fate(id, fate);
        }
    }

    fn tell_fate(&mut self, id: u64, fate: DatagramFate) {
        let event = StreamEvent::DatagramSettled(DatagramId(id), fate);
        self.app.events.push_back(event);
    }

    /// The channel has ended: so have the datagrams that are in no tree any more.
    pub(in super::super) fn fail_datagrams(&mut self) {
        for id in std::mem::take(&mut self.datagrams.flying) {
            self.tell_fate(id, DatagramFate::ChannelLost);
        }
        self.datagrams.deadlines.clear();
        self.datagrams.waiting.clear();
        self.datagrams.grant_due = false;
    }
}
