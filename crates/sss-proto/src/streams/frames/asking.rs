//! Questions about streams, and answers: written, and repeated when they are lost.
//!
//! WATCH and CONSUMED, AWAIT and RELEASED are alike in that. What they mean is in [`watch`](super::watch) and
//! [`released`](super::released).

use sss_wire::frame::{Await, Consumed, Frame, Released, Watch};

use super::delivery::{Delivery, Item};
use super::draft::Draft;
use crate::ids::StreamKey;
use crate::streams::life::Life;
use crate::token::{Token, Topic};

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

/// Writes answers and questions that are due. Returns whether everything did fit.
pub(super) fn write_all(life: &mut Life, topic: Topic, draft: &mut Draft<'_, '_>) -> bool {
    let packet = &mut *draft.packet;
    while let Some(lsid) = life.outbox.asked(topic).first_answer() {
        let frame = topic.answer(lsid);
        if frame.encoded_len() > packet.remaining() {
            return false;
        }
        frame.encode(packet.eliciting());
        packet.remember(Token::Answer { topic, lsid });
        life.outbox.questions(topic).pop_answer();
    }
    while let Some(key) = life.outbox.next_question(topic) {
        if let Some(index) = life.tree.find(key).filter(|i| life.tree[*i].is_due(topic.item())) {
            let frame = topic.question(life.tree.lsid(index));
            if frame.encoded_len() > packet.remaining() {
                return false;
            }
            frame.encode(packet.eliciting());
            packet.remember(Token::Question { topic, key });
            life.tree[index].set_delivery(topic.item(), Delivery::InFlight);
            life.outbox.open_mut(topic).note_asked();
        }
        life.outbox.questions(topic).due.pop();
    }
    true
}

/// A question was lost; it is asked again, if nobody has answered it.
pub(super) fn on_lost(life: &mut Life, topic: Topic, key: StreamKey) {
    if let Some(index) = life.tree.find(key)
        && life.tree[index].delivery(topic.item()) == Delivery::InFlight
    {
        life.outbox.open_mut(topic).close();
        life.put(index, topic.item());
    }
}

/// An answer was lost.
pub(super) fn on_answer_lost(life: &mut Life, topic: Topic, lsid: u64) {
    life.outbox.questions(topic).answer(lsid);
}
