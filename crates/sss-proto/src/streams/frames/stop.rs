//! STOP: the receiver of a direction wants no more of it (STR-14, STR-49).

use sss_wire::frame::Stop;

use super::delivery::{Delivery, Item};
use super::draft::Draft;
use super::{refusal, subject};
use crate::error::ProtocolError;
use crate::ids::StreamKey;
use crate::interest::Interest;
use crate::streams::life::state::SendState;
use crate::streams::life::{Life, cause, losses};
use crate::streams::messages::ledger;
use crate::streams::tree::ends::{Cause, Ending};
use crate::streams::tree::node::Flags;
use crate::token::Token;

/// Writes STOP, if it is due and the peer knows the stream (STR-8). Returns whether it did fit.
pub(super) fn write(life: &mut Life, index: u32, draft: &mut Draft<'_, '_>) -> bool {
    let node = &life.tree[index];
    if !node.is_due(Item::Stop) || !node.is_known() {
        return true;
    }
    let Some((code, reason)) = cause::stop_says(&life.tree.table, index) else {
        return true;
    };
    let lsid = life.tree.lsid(index);
    let frame = Stop { lsid, code, reason };
    if frame.encoded_len() > draft.packet.remaining() {
        return false;
    }
    frame.encode(draft.packet.eliciting());
    draft.packet.remember(Token::Stop(life.tree.key(index)));
    life.tree[index].set_delivery(Item::Stop, Delivery::InFlight);
    true
}

/// STOP was acknowledged.
pub(crate) fn on_acked(life: &mut Life, key: StreamKey) {
    if let Some(index) = life.tree.find(key) {
        life.tree[index].on_acked(Item::Stop, true);
        life.retire(index);
    }
}

/// STOP was lost.
pub(crate) fn on_lost(life: &mut Life, key: StreamKey) {
    if let Some(index) = life.tree.find(key)
        && life.tree[index].delivery(Item::Stop) == Delivery::InFlight
    {
        life.put(index, Item::Stop);
    }
}

/// STOP.
///
/// # Errors
/// If the peer broke a rule.
pub(crate) fn on_frame(life: &mut Life, frame: &Stop<'_>) -> Result<(), ProtocolError> {
    let Some(index) = subject::find(life, frame.lsid)? else {
        return Ok(());
    };
    life.on_decided(index);
    refusal::note(life, index, frame.code);
    if life.tree[index].is_datagram() {
        life.settle(index, ledger::refused(frame.code));
    } else {
        note_unread(life, index, Ending::new(frame.code, frame.reason));
    }
    // STR-14
    if life.abort(index, Cause::Peer, Ending::new(frame.code, frame.reason)) {
        losses::note_stopped(&mut life.tree.table, index);
        life.notify(index, Interest::Write);
        life.notify(index, Interest::Drained);
    }
    Ok(())
}

/// Of a direction of which all is acknowledged: it will not be read to its end (STR-49).
fn note_unread(life: &mut Life, index: u32, ending: Ending) {
    let node = &life.tree[index];
    let is_answered = node.delivery(Item::Watch) == Delivery::Acked;
    if node.status.send == SendState::Done && node.has(Flags::HELD) && !is_answered {
        life.outbox
            .close(&mut life.tree.table, index, Item::Watch, Delivery::Acked);
        life.tree[index].extras_mut().watch.unread = Some(ending);
        life.notify(index, Interest::Consumed);
    }
}
