//! AWAIT and RELEASED: whether the peer can open or send anything more on a stream (STR-70 to STR-74).
//!
//! Who waits for children or datagrams asks with AWAIT; the other side answers with RELEASED when its application has
//! let go of the stream, and whatever it had opened or sent there has arrived. FIN says nothing of it: children after
//! it are legal (STR-21). The answer needs no state: a stream that is retired has been let go of, and has no children.

use sss_wire::Code;
use sss_wire::frame::{Await, Released};

use super::delivery::{Delivery, Item};
use super::subject;
use crate::error::ProtocolError;
use crate::interest::Interest;
use crate::streams::life::Life;
use crate::streams::messages::ledger;
use crate::streams::tree::node::{Flags, Node};

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
