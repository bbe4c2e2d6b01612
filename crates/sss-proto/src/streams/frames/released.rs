//! AWAIT and RELEASED: whether the peer can open or send anything more on a stream (STR-70 to STR-74).
//!
//! Who waits for children or datagrams asks with AWAIT; the other side answers with RELEASED when its application has
//! let go of the stream, and whatever it had opened or sent there has arrived. FIN says nothing of it: children after
//! it are legal (STR-21). The answer needs no state: a stream that is retired has been let go of, and has no children.

use sss_wire::Code;
use sss_wire::frame::{Await, Released};

use super::delivery::{Delivery, Item};
use super::draft::Draft;
use super::subject;
use crate::error::ProtocolError;
use crate::ids::StreamKey;
use crate::interest::Interest;
use crate::streams::life::Life;
use crate::streams::messages::ledger;
use crate::streams::tree::node::{Flags, Node};
use crate::token::{Token, Topic};

/// Writes answers and questions that are due. Returns whether everything did fit.
pub(super) fn write_all(life: &mut Life, draft: &mut Draft<'_, '_>) -> bool {
    let packet = &mut *draft.packet;
    while let Some(lsid) = life.outbox.awaits.first_answer() {
        let frame = Released { lsid };
        if frame.encoded_len() > packet.remaining() {
            return false;
        }
        frame.encode(packet.eliciting());
        let topic = Topic::Released;
        packet.remember(Token::Answer { topic, lsid });
        life.outbox.awaits.pop_answer();
    }
    while life.outbox.awaits.may_ask()
        && let Some(key) = life.outbox.awaits.due.front()
    {
        if let Some(index) = life.tree.find(key).filter(|i| life.tree[*i].is_due(Item::Await)) {
            let lsid = life.tree.lsid(index);
            let frame = Await { lsid };
            if frame.encoded_len() > packet.remaining() {
                return false;
            }
            frame.encode(packet.eliciting());
            let topic = Topic::Released;
            packet.remember(Token::Question { topic, key });
            life.tree[index].set_delivery(Item::Await, Delivery::InFlight);
            life.outbox.awaits.note_asked();
        }
        life.outbox.awaits.due.pop();
    }
    true
}

/// AWAIT was lost; it is asked again, if nobody has answered it.
pub(crate) fn on_lost(life: &mut Life, key: StreamKey) {
    if let Some(index) = life.tree.find(key)
        && life.tree[index].delivery(Item::Await) == Delivery::InFlight
    {
        life.outbox.awaits.close();
        life.put(index, Item::Await);
    }
}

/// RELEASED was lost.
pub(crate) fn on_answer_lost(life: &mut Life, lsid: u64) {
    life.outbox.awaits.answer(lsid);
}

/// AWAIT.
///
/// # Errors
/// If the peer broke a rule.
pub(crate) fn on_frame(life: &mut Life, frame: &Await) -> Result<(), ProtocolError> {
    if life.failed.is_some() {
        return Ok(());
    }
    match subject::find_held(life, frame.lsid)? {
        Some(index) => {
            check_can_have_children(&life.tree[index])?;
            life.tree[index].set(Flags::AWAITED);
            life.answer_await(index);
        }
        None => life.outbox.awaits.answer(frame.lsid),
    }
    life.outbox.awaits.check_answers()
}

/// RELEASED.
///
/// # Errors
/// If the peer broke a rule.
pub(crate) fn on_answer(life: &mut Life, frame: &Released) -> Result<(), ProtocolError> {
    let Some(index) = subject::find(life, frame.lsid)? else {
        return Ok(());
    };
    life.on_decided(index);
    check_can_have_children(&life.tree[index])?;
    life.outbox
        .close(&mut life.tree.table, index, Item::Await, Delivery::Idle);
    life.tree[index].set(Flags::PEER_RELEASED);
    life.notify(index, Interest::Accept);
    ledger::notify_no_arrival(&mut life.tree.table, &mut life.events, index);
    Ok(())
}

/// STR-73
fn check_can_have_children(node: &Node) -> Result<(), ProtocolError> {
    if node.is_datagram() {
        return Err(ProtocolError::new(
            Code::STREAM_STATE,
            "AWAIT or RELEASED of a datagram stream",
        ));
    }
    Ok(())
}
