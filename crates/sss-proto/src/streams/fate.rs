//! What became of frames: acknowledged or lost.

use super::Streams;
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
            Token::Reset(key) => self.on_reset_acked(key),
            Token::TreeReset(key) => {
                self.on_tree_reset_acked(key);
                self.on_reset_acked(key);
            }
            Token::Stop(key) => {
                if let Some(index) = self.table.find(key) {
                    self.table[index].clear(Flags::STOP_DUE.with(Flags::STOP_OPEN));
                    self.retire(index);
                }
            }
            Token::Credit { key, limit } => {
                if let Some(index) = self.table.find(key)
                    && self.table[index].recv.limit == limit
                    && !self.table[index].has(Flags::CREDIT_DUE)
                {
                    self.table[index].clear(Flags::CREDIT_OPEN);
                }
            }
            Token::OpenCredit { key, limit } => {
                if let Some(index) = self.table.find(key)
                    && self.is_latest_open_credit(index, limit)
                {
                    self.table[index].clear(Flags::OPEN_CREDIT_OPEN);
                    self.retire(index);
                }
            }
            Token::Datagram(id) => self.on_flown(id, DatagramFate::Delivered),
            Token::Stateless(key) => self.on_landed(key),
            Token::Refusal { lsid } => self.control.on_refused(lsid),
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
                    self.table[index].set(Flags::RESET_DUE);
                    self.queue_end(index);
                }
            }
            Token::TreeReset(key) => self.on_tree_reset_lost(key),
            Token::Question { topic, key } => self.on_question_lost(topic, key),
            Token::Answer { topic, lsid } => self.on_answer_lost(topic, lsid),
            Token::Stop(key) => {
                if let Some(index) = self.table.find(key)
                    && self.table[index].has(Flags::STOP_OPEN)
                {
                    self.table[index].set(Flags::STOP_DUE);
                    self.queue_end(index);
                }
            }
            Token::Credit { key, limit } => {
                if let Some(index) = self.table.find(key) {
                    self.on_credit_lost(index, limit);
                }
            }
            Token::OpenCredit { key, limit } => {
                if let Some(index) = self.table.find(key)
                    && self.is_latest_open_credit(index, limit)
                {
                    self.queue_open_credit(index);
                }
            }
            Token::Priority { key, serial } => self.on_priority_lost(key, serial),
            Token::Refusal { lsid } => self.control.refusals.push_back(lsid),
            Token::Datagram(id) => self.on_flown(id, DatagramFate::Lost),
            Token::Stateless(key) => self.on_landed(key),
            Token::Ack { .. } | Token::MtuProbe { .. } => {}
        }
    }

    fn on_credit_lost(&mut self, index: u32, limit: u64) {
        if self.table[index].recv.limit == limit && self.table[index].has(Flags::CREDIT_OPEN) {
            self.queue_credit(index);
        }
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
                node.set(Flags::FIN_ACKED);
                node.clear(Flags::FIN_DUE);
            }
            if let Some(buf) = &mut node.send.buf {
                buf.on_acked(sent.range());
                if buf.is_acked() {
                    self.pool.take_back_send(&mut node.send);
                }
            }
            if node.has(Flags::FIN_ACKED)
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
        if node.has(Flags::INIT_ACKED) {
            return;
        }
        node.set(Flags::INIT_ACKED);
        node.clear(Flags::INIT_DUE);
        self.queue_end(index);
        self.queue_priority(index);
        if self.table[index].has(Flags::CREDIT_DUE) {
            self.queue_credit(index);
        }
        if self.table[index].has(Flags::OPEN_CREDIT_DUE) {
            self.queue_open_credit(index);
        }
        self.queue_watch(index);
        self.queue_await(index);
        let parent = self.table[index].place.parent;
        self.table.note_known(parent);
        self.answer_await(parent);
    }

    fn on_stream_lost(&mut self, key: StreamKey, sent: Sent) {
        let Some(index) = self.table.find(key) else {
            return;
        };
        let node = &mut self.table[index];
        if sent.flags.has(StreamFlags::INIT) && !node.has(Flags::INIT_ACKED) {
            node.set(Flags::INIT_DUE);
        }
        if node.status.send.carries_data() {
            if sent.flags.has(StreamFlags::FIN) && !node.has(Flags::FIN_ACKED) {
                node.set(Flags::FIN_DUE);
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

    fn on_reset_acked(&mut self, key: StreamKey) {
        let Some(index) = self.table.find(key) else {
            return;
        };
        if !self.is_tree_reset_open(index) {
            self.table[index].clear(Flags::RESET_DUE);
        }
        if let Some(state) = self.table[index].status.send.after(SendInput::ResetAcked) {
            self.table[index].status.send = state;
            self.notify(index, Interest::Drained);
        }
        self.retire(index);
    }
}
