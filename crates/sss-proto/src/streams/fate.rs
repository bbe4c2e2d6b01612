//! What became of frames: acknowledged or lost.

use super::Streams;
use super::frames::delivery::{Delivery, Item};
use super::node::Flags;
use super::state::SendInput;
use crate::ids::StreamKey;
use crate::interest::Interest;
use crate::io::DatagramFate;
use crate::token::{StreamFlags, Token};

/// A STREAM frame that was sent.
#[derive(Clone, Copy)]
struct Sent {
    offset: u64,
    len: u32,
    flags: StreamFlags,
}

impl Sent {
    fn range(self) -> std::ops::Range<u64> {
        self.offset..self.offset + u64::from(self.len)
    }
}

impl Streams {
    /// The packet that carried the frame was acknowledged. Tokens that belong to others are ignored.
    pub(crate) fn on_acked(&mut self, token: Token) {
        if self.failed.is_some() {
            return;
        }
        match token {
            Token::Stream {
                key,
                offset,
                len,
                flags,
            } => self.on_stream_acked(key, Sent { offset, len, flags }),
            Token::Reset(key) => self.on_reset_acked(key, false),
            Token::TreeReset(key) => self.on_reset_acked(key, true),
            Token::Stop(key) => {
                if let Some(index) = self.table.find(key) {
                    self.table[index].on_acked(Item::Stop, true);
                    self.retire(index);
                }
            }
            Token::Credit { key, limit } => {
                if let Some(index) = self.table.find(key) {
                    let is_latest = self.is_latest_credit(index, limit);
                    self.table[index].on_acked(Item::Credit, is_latest);
                }
            }
            Token::OpenCredit { key, limit } => {
                if let Some(index) = self.table.find(key)
                    && self.is_latest_open_credit(index, limit)
                {
                    self.table[index].on_acked(Item::OpenCredit, true);
                    self.retire(index);
                }
            }
            Token::Datagram(id) => self.on_flown(id, DatagramFate::Delivered),
            Token::Stateless(key) => self.on_landed(key),
            Token::Refusal { lsid } => self.outbox.refusals.on_acked(lsid),
            Token::Priority { .. }
            | Token::Question { .. }
            | Token::Answer { .. }
            | Token::Ack { .. }
            | Token::MtuProbe { .. } => {}
        }
    }

    /// The packet that carried the frame was lost; what it said is sent again, as far as it still holds (REC-5).
    pub(crate) fn on_lost(&mut self, token: Token) {
        if self.failed.is_some() {
            return;
        }
        match token {
            Token::Stream {
                key,
                offset,
                len,
                flags,
            } => self.on_stream_lost(key, Sent { offset, len, flags }),
            Token::Reset(key) => {
                if let Some(index) = self.table.find(key)
                    && !self.table[index].status.send.is_over()
                {
                    self.outbox.put(&mut self.table, index, Item::Reset);
                }
            }
            Token::TreeReset(key) => self.on_tree_reset_lost(key),
            Token::Question { topic, key } => self.on_question_lost(topic, key),
            Token::Answer { topic, lsid } => self.on_answer_lost(topic, lsid),
            Token::Stop(key) => {
                if let Some(index) = self.table.find(key)
                    && self.table[index].delivery(Item::Stop) == Delivery::InFlight
                {
                    self.outbox.put(&mut self.table, index, Item::Stop);
                }
            }
            Token::Credit { key, limit } => {
                if let Some(index) = self.table.find(key)
                    && self.is_latest_credit(index, limit)
                {
                    self.outbox.put(&mut self.table, index, Item::Credit);
                }
            }
            Token::OpenCredit { key, limit } => {
                if let Some(index) = self.table.find(key)
                    && self.is_latest_open_credit(index, limit)
                {
                    self.outbox.put(&mut self.table, index, Item::OpenCredit);
                }
            }
            Token::Priority { key, serial } => self.on_priority_lost(key, serial),
            Token::Refusal { lsid } => self.outbox.refusals.on_lost(lsid),
            Token::Datagram(id) => self.on_flown(id, DatagramFate::Lost),
            Token::Stateless(key) => self.on_landed(key),
            Token::Ack { .. } | Token::MtuProbe { .. } => {}
        }
    }

    /// Whether a CREDIT with this limit was the latest, and nothing newer is due.
    fn is_latest_credit(&self, index: u32, limit: u64) -> bool {
        let node = &self.table[index];
        node.recv.limit == limit && node.delivery(Item::Credit) == Delivery::InFlight
    }

    fn on_stream_acked(&mut self, key: StreamKey, sent: Sent) {
        let Some(index) = self.table.find(key) else {
            return;
        };
        if sent.flags.has(StreamFlags::INIT) {
            self.on_init_acked(index);
        }
        let node = &mut self.table[index];
        if node.status.send.carries_data() {
            if sent.flags.has(StreamFlags::FIN) {
                node.on_acked(Item::Fin, true);
            }
            if let Some(buf) = &mut node.send.buf {
                buf.on_acked(sent.range());
                if buf.is_acked() {
                    self.pool.take_back_send(&mut node.send);
                }
            }
            if node.delivery(Item::Fin) == Delivery::Acked
                && node.send.is_acked()
                && let Some(state) = node.status.send.after(SendInput::AllAcked)
            {
                node.status.send = state;
            }
            self.notify(index, Interest::Drained);
            self.notify_acknowledged(index);
        }
        self.retire(index);
    }

    /// The peer knows the stream: INIT is sent no more, and what waited for this can go.
    pub(super) fn on_init_acked(&mut self, index: u32) {
        let node = &mut self.table[index];
        if node.is_known() {
            return;
        }
        node.set_delivery(Item::Init, Delivery::Acked);
        self.outbox.on_known(&mut self.table, index);
        let parent = self.table[index].place.parent;
        self.table.note_known(parent);
        self.answer_await(parent);
    }

    fn on_stream_lost(&mut self, key: StreamKey, sent: Sent) {
        let Some(index) = self.table.find(key) else {
            return;
        };
        let node = &mut self.table[index];
        if sent.flags.has(StreamFlags::INIT) {
            node.on_lost(Item::Init);
        }
        if node.status.send.carries_data() {
            if sent.flags.has(StreamFlags::FIN) {
                node.on_lost(Item::Fin);
            }
            if let Some(buf) = &mut node.send.buf {
                buf.on_lost(sent.range());
            }
        }
        if self.table[index].has(Flags::DATAGRAM) {
            self.review_overdue(index);
            // It may be gone now.
            if self.table.find(key).is_none() {
                return;
            }
        }
        self.touch(index);
    }

    /// RESET was acknowledged. One of the stream alone is not the latest once the stream is reset with all that is
    /// below it.
    fn on_reset_acked(&mut self, key: StreamKey, of_tree: bool) {
        let Some(index) = self.table.find(key) else {
            return;
        };
        let is_latest = of_tree || !self.table[index].resets_tree();
        self.table[index].on_acked(Item::Reset, is_latest);
        if let Some(state) = self.table[index].status.send.after(SendInput::ResetAcked) {
            self.table[index].status.send = state;
            self.notify(index, Interest::Drained);
        }
        self.retire(index);
    }
}
