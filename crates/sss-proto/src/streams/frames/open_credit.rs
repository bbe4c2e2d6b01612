//! OPEN_CREDIT: how much may be opened below a stream (STR-52 to STR-57).

use sss_wire::frame::OpenCredit;

use super::delivery::{Delivery, Item};
use super::draft::Draft;
use super::subject;
use crate::error::ProtocolError;
use crate::ids::StreamKey;
use crate::streams::flow;
use crate::streams::life::Life;
use crate::streams::tree::index::ROOT;
use crate::token::Token;

/// Longest OPEN_CREDIT.
const LONGEST: usize = 25;

/// Writes those that are due. Returns whether everything did fit.
pub(super) fn write_all(life: &mut Life, draft: &mut Draft<'_, '_>) -> bool {
    while let Some(key) = life.outbox.open_credits.front() {
        if draft.packet.remaining() < LONGEST {
            return false;
        }
        life.outbox.open_credits.pop();
        let Some(index) = life.tree.find(key).filter(|i| life.tree[*i].is_due(Item::OpenCredit)) else {
            continue;
        };
        life.tree[index].set_delivery(Item::OpenCredit, Delivery::InFlight);
        let (limit, datagrams) = life.flow.grant_openings(&mut life.tree.table, index);
        let lsid = life.tree.lsid(index);
        OpenCredit { lsid, limit, datagrams }.encode(draft.packet.eliciting());
        let taken = datagrams as u32;
        draft.packet.remember(Token::OpenCredit { key, limit, taken });
    }
    true
}

/// OPEN_CREDIT was acknowledged. It said the limit, and, in the low 32 bits, what of datagrams is consumed.
pub(crate) fn on_acked(life: &mut Life, key: StreamKey, said: (u64, u32)) {
    if let Some(index) = life.tree.find(key)
        && flow::is_latest_open_credit(&life.tree.table, index, said)
    {
        life.tree[index].on_acked(Item::OpenCredit, true);
        life.retire(index);
    }
}

/// OPEN_CREDIT was lost.
pub(crate) fn on_lost(life: &mut Life, key: StreamKey, said: (u64, u32)) {
    if let Some(index) = life.tree.find(key)
        && flow::is_latest_open_credit(&life.tree.table, index, said)
    {
        life.put(index, Item::OpenCredit);
    }
}

/// OPEN_CREDIT; LSID 0 is the root.
///
/// # Errors
/// If the peer broke a rule.
pub(crate) fn on_frame(life: &mut Life, frame: &OpenCredit) -> Result<(), ProtocolError> {
    let index = match frame.lsid {
        0 => Some(ROOT).filter(|_| life.failed.is_none()),
        lsid => subject::find_held(life, lsid)?,
    };
    // A datagram has no children.
    if let Some(index) = index.filter(|i| !life.tree[*i].is_datagram()) {
        life.on_heard(index);
        let table = &mut life.tree.table;
        life.flow.raise_openings(table, index, frame.limit, frame.datagrams);
    }
    Ok(())
}
