//! Questions about a stream that the peer answers when something has happened there, and the answers to the peer's.
//!
//! There are two, each with a file that knows what they mean: [`watch`](crate::streams::watch) and
//! [`released`](crate::streams::released). What is the same is here: both are repeated when they are lost, few are open
//! at a time, and an answer outlives its stream.

use std::collections::VecDeque;

use sss_wire::Code;
use sss_wire::constants::MAX_WATCHES;
use sss_wire::frame::{Await, Consumed, Frame, Released, Watch};

use super::delivery::{Delivery, Item};
use super::outbox::Outbox;
use crate::error::ProtocolError;
use crate::ids::StreamKey;
use crate::packet::PacketWriter;
use crate::streams::Streams;
use crate::streams::queue::KeyQueue;
use crate::token::{Token, Topic};

/// Answers of one kind that wait to be sent, at most: more than the questions that a peer may ask, because some are
/// asked again.
const MAX_ANSWERS: usize = 4 * MAX_WATCHES;

impl Topic {
    fn item(self) -> Item {
        match self {
            Self::Consumed => Item::Watch,
            Self::Released => Item::Await,
        }
    }

    fn question(self, lsid: u64) -> Frame<'static> {
        match self {
            Self::Consumed => Frame::Watch(Watch { lsid }),
            Self::Released => Frame::Await(Await { lsid }),
        }
    }

    fn answer(self, lsid: u64) -> Frame<'static> {
        match self {
            Self::Consumed => Frame::Consumed(Consumed { lsid }),
            Self::Released => Frame::Released(Released { lsid }),
        }
    }
}

/// Questions of one kind, and answers, under way.
#[derive(Debug, Default)]
pub(in crate::streams) struct Questions {
    /// Streams with the question due.
    pub(super) due: KeyQueue,
    /// How many questions have no answer.
    open: usize,
    /// LSIDs of streams for which the peer's question is to be answered.
    answers: VecDeque<u64>,
}

impl Questions {
    /// Whether there is nothing to be sent.
    pub(in crate::streams) fn is_idle(&self) -> bool {
        (self.due.is_empty() || self.open >= MAX_WATCHES) && self.answers.is_empty()
    }

    /// A question that was sent is answered, or was lost, or nobody wants to know any more.
    pub(in crate::streams) fn close(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// The answer for a stream is to be sent, again or for the first time.
    pub(in crate::streams) fn answer(&mut self, lsid: u64) {
        self.answers.push_back(lsid);
    }

    /// Whether more answers wait than the peer may ask for.
    ///
    /// # Errors
    /// If they do.
    pub(in crate::streams) fn check_answers(&self) -> Result<(), ProtocolError> {
        if self.answers.len() > MAX_ANSWERS {
            return Err(ProtocolError::new(Code::LIMIT, "too many questions about streams"));
        }
        Ok(())
    }
}

impl Outbox {
    fn questions(&mut self, topic: Topic) -> &mut Questions {
        match topic {
            Topic::Consumed => &mut self.watches,
            Topic::Released => &mut self.awaits,
        }
    }
}

impl Streams {
    /// A question was lost; it is asked again, if nobody has answered it.
    pub(in crate::streams) fn on_question_lost(&mut self, topic: Topic, key: StreamKey) {
        if let Some(index) = self.table.find(key) {
            match topic {
                Topic::Consumed => self.on_watch_lost(index),
                Topic::Released => self.on_await_lost(index),
            }
        }
    }

    /// An answer was lost; it is sent again.
    pub(in crate::streams) fn on_answer_lost(&mut self, topic: Topic, lsid: u64) {
        self.outbox.questions(topic).answer(lsid);
    }

    /// All questions and answers. Returns whether everything did fit.
    pub(in crate::streams) fn write_questions(&mut self, packet: &mut PacketWriter<'_>) -> bool {
        [Topic::Consumed, Topic::Released]
            .into_iter()
            .all(|topic| self.write_answers(topic, packet) && self.write_due(topic, packet))
    }

    fn write_answers(&mut self, topic: Topic, packet: &mut PacketWriter<'_>) -> bool {
        let questions = self.outbox.questions(topic);
        while let Some(lsid) = questions.answers.front().copied() {
            let frame = topic.answer(lsid);
            if frame.encoded_len() > packet.remaining() {
                return false;
            }
            frame.encode(packet.eliciting());
            packet.remember(Token::Answer { topic, lsid });
            questions.answers.pop_front();
        }
        true
    }

    fn write_due(&mut self, topic: Topic, packet: &mut PacketWriter<'_>) -> bool {
        while self.outbox.questions(topic).open < MAX_WATCHES
            && let Some(key) = self.outbox.questions(topic).due.front()
        {
            if let Some(index) = self.table.find(key).filter(|i| self.table[*i].is_due(topic.item())) {
                let frame = topic.question(self.lsid(index));
                if frame.encoded_len() > packet.remaining() {
                    return false;
                }
                frame.encode(packet.eliciting());
                packet.remember(Token::Question { topic, key });
                self.table[index].set_delivery(topic.item(), Delivery::InFlight);
                self.outbox.questions(topic).open += 1;
            }
            self.outbox.questions(topic).due.pop();
        }
        true
    }
}

#[cfg(test)]
impl Questions {
    pub(in crate::streams) fn open(&self) -> usize {
        self.open
    }

    pub(in crate::streams) fn answers(&self) -> usize {
        self.answers.len()
    }
}
