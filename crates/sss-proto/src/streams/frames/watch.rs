//! WATCH and CONSUMED: whether the peer's application has read a direction to its end (STR-47 to STR-49).
//!
//! The sender asks with WATCH; the receiver answers with CONSUMED when its application has read everything, or with
//! STOP. The answer needs no state: a stream that is retired was read to its end, or else its sender was told.

use sss_wire::Code;
use sss_wire::frame::{Consumed, Watch};

use super::delivery::{Delivery, Item};
use super::subject;
use crate::error::ProtocolError;
use crate::interest::Interest;
use crate::streams::life::state::SendState;
use crate::streams::life::{Life, cause};
use crate::streams::tree::node::Flags;

/// WATCH.
///
/// # Errors
/// If the peer broke a rule.
pub(crate) fn on_frame(life: &mut Life, frame: &Watch) -> Result<(), ProtocolError> {
    let lsid = frame.lsid;
    if life.failed.is_some() {
        return Ok(());
    }
    match subject::find_held(life, lsid)? {
        Some(index) if life.tree[index].is_datagram() => {
            return Err(ProtocolError::new(Code::STREAM_STATE, "WATCH of a datagram stream"));
        }
        Some(index) => {
            life.tree[index].set(Flags::WATCHED);
            life.answer_watch(index);
        }
        // Its refusal tells.
        None if life.outbox.refusals.is_open(lsid) => {}
        None => life.outbox.watches.answer(lsid),
    }
    life.outbox.watches.check_answers()
}

/// CONSUMED.
///
/// # Errors
/// If the peer broke a rule.
pub(crate) fn on_answer(life: &mut Life, frame: &Consumed) -> Result<(), ProtocolError> {
    let Some(index) = subject::find_held(life, frame.lsid)? else {
        return Ok(());
    };
    let node = &life.tree[index];
    // STR-48
    if node.status.send == SendState::Open || node.is_datagram() {
        return Err(ProtocolError::new(
            Code::STREAM_STATE,
            "an end that was not sent cannot be read",
        ));
    }
    let is_asked = node.delivery(Item::Watch).is_open();
    // STR-47: the peer may have retired it because of the reset of a subtree.
    let is_reset = !matches!(node.status.send, SendState::Finishing | SendState::Done);
    if is_asked && !is_reset && cause::tree_reset(&life.tree.table, index).is_none() {
        life.outbox
            .close(&mut life.tree.table, index, Item::Watch, Delivery::Acked);
        life.notify(index, Interest::Consumed);
    }
    Ok(())
}
