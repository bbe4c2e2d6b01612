//! RESET (STR-12 to STR-15), of one stream or of all that is below it (STR-43, STR-44).

use sss_wire::Code;
use sss_wire::frame::{Reset, Scope};

use super::delivery::{Delivery, Item};
use super::draft::Draft;
use super::{final_size, init, refusal, subject};
use crate::error::ProtocolError;
use crate::ids::StreamKey;
use crate::interest::Interest;
use crate::refusal::Refusal;
use crate::streams::life::state::{RecvInput, RecvState, SendInput};
use crate::streams::life::{Life, backlog, cause};
use crate::streams::messages::incoming;
use crate::streams::tree::ends::{Cause, Direction, Ending};
use crate::token::Token;

/// Writes RESET, if it is due; as long as INIT is not acknowledged, behind INIT (STR-8). Returns whether it did fit.
pub(super) fn write(life: &mut Life, index: u32, draft: &mut Draft<'_, '_>) -> bool {
    if !life.tree[index].is_due(Item::Reset) {
        return true;
    }
    if !life.tree[index].is_known() && init::write_with_ancestors(life, index, draft).is_some() {
        return false;
    }
    let node = &life.tree[index];
    let Some((code, reason)) = cause::reset_says(&life.tree.table, index) else {
        return true;
    };
    let is_tree = node.resets_tree();
    let frame = Reset {
        lsid: life.tree.lsid(index),
        scope: if is_tree { Scope::Tree } else { Scope::Stream },
        code,
        final_size: node.send.sent,
        reason,
    };
    if frame.encoded_len() > draft.packet.remaining() {
        return false;
    }
    frame.encode(draft.packet.eliciting());
    let key = life.tree.key(index);
    let token = if is_tree {
        Token::TreeReset(key)
    } else {
        Token::Reset(key)
    };
    draft.packet.remember(token);
    life.tree[index].set_delivery(Item::Reset, Delivery::InFlight);
    true
}

/// RESET was acknowledged. One of the stream alone is not the latest once the stream is reset with all that is below
/// it.
pub(crate) fn on_acked(life: &mut Life, key: StreamKey, of_tree: bool) {
    let Some(index) = life.tree.find(key) else {
        return;
    };
    let node = &mut life.tree[index];
    let is_latest = of_tree || !node.resets_tree();
    node.on_acked(Item::Reset, is_latest);
    if node.advance_send(SendInput::ResetAcked) {
        life.notify(index, Interest::Drained);
    }
    life.retire(index);
}

/// RESET was lost.
pub(crate) fn on_lost(life: &mut Life, key: StreamKey, of_tree: bool) {
    let Some(index) = life.tree.find(key) else {
        return;
    };
    let node = &life.tree[index];
    let matters = if of_tree {
        node.is_tree_reset_open()
    } else {
        !node.status.send.is_over()
    };
    if matters {
        life.put(index, Item::Reset);
    }
}

/// RESET.
///
/// # Errors
/// If the peer broke a rule.
pub(crate) fn on_frame(life: &mut Life, frame: &Reset<'_>) -> Result<(), ProtocolError> {
    // STR-44: children are refused with the code, and who is refused draws conclusions from it.
    if frame.scope == Scope::Tree && Refusal::from_code(frame.code).is_some() {
        return Err(ProtocolError::new(
            Code::STREAM_STATE,
            "a subtree reset with a code of refusal",
        ));
    }
    let Some(index) = subject::find(life, frame.lsid)? else {
        return Ok(());
    };
    refusal::note(life, index, frame.code);
    if life.tree[index].is_datagram() {
        let before = life.tree[index].status.recv;
        final_size::check_reset(&life.tree[index], frame.final_size)?;
        incoming::check(life, index, frame.final_size, false)?;
        end_receiving(life, index, frame)?;
        incoming::on_reset(life, index, before, frame.code);
    } else {
        final_size::check_reset(&life.tree[index], frame.final_size)?;
        end_receiving(life, index, frame)?;
        if frame.scope == Scope::Tree {
            life.reset_tree(index, Ending::new(frame.code, frame.reason), true);
        }
    }
    life.retire(index);
    Ok(())
}

/// The peer has ended the receiving direction: what had come is discarded, and STOP matters no more.
fn end_receiving(life: &mut Life, index: u32, frame: &Reset<'_>) -> Result<(), ProtocolError> {
    let unread = life.tree[index].recv.unread();
    life.tree[index].recv.received = frame.final_size;
    life.flow.check_credit(&mut life.tree.table, &mut life.outbox, index)?;
    let node = &mut life.tree[index];
    node.set_delivery(Item::Stop, Delivery::Idle);
    if node.advance_recv(RecvInput::Reset) {
        if node.status.recv == RecvState::Reset {
            // For whoever holds the stream, or will.
            let ending = node.is_wanted().then(|| Ending::new(frame.code, frame.reason));
            node.end(Direction::Receiving, Cause::Peer, ending);
        }
        // STR-15
        backlog::lift_cost(&mut life.tree.table, index, unread);
        life.discard(index);
        life.notify(index, Interest::Read);
    }
    let node = &mut life.tree[index];
    if !node.is_wanted() {
        node.advance_recv(RecvInput::Seen);
    }
    Ok(())
}
