//! CREDIT: how much data of a stream may be sent (STR-17 to STR-20, STR-38).

use sss_wire::frame::Credit;

use super::delivery::{Delivery, Item};
use super::draft::Draft;
use super::subject;
use crate::error::ProtocolError;
use crate::ids::StreamKey;
use crate::streams::life::Life;
use crate::streams::tree::node::{Flags, Node};
use crate::token::Token;

/// Longest CREDIT.
const LONGEST: usize = 17;

/// Writes those that are due. Returns whether everything did fit.
pub(super) fn write_all(life: &mut Life, draft: &mut Draft<'_, '_>) -> bool {
    while let Some(key) = life.outbox.credits.front() {
        if draft.packet.remaining() < LONGEST {
            return false;
        }
        life.outbox.credits.pop();
        let Some(index) = life.tree.find(key).filter(|i| life.tree[*i].is_due(Item::Credit)) else {
            continue;
        };
        let node = &mut life.tree[index];
        node.set_delivery(Item::Credit, Delivery::InFlight);
        node.clear(Flags::UNTOLD);
        // STR-38: the limit of a datagram has its last value already.
        let limit = match node.is_datagram() {
            true => node.recv.limit,
            false => life.flow.grant(&mut life.tree.table, &mut life.outbox, index),
        };
        let lsid = life.tree.lsid(index);
        Credit { lsid, limit }.encode(draft.packet.eliciting());
        draft.packet.remember(Token::Credit { key, limit });
    }
    true
}

/// CREDIT was acknowledged.
pub(crate) fn on_acked(life: &mut Life, key: StreamKey, limit: u64) {
    if let Some(index) = life.tree.find(key) {
        let node = &mut life.tree[index];
        node.on_acked(Item::Credit, is_latest(node, limit));
    }
}

/// CREDIT was lost.
pub(crate) fn on_lost(life: &mut Life, key: StreamKey, limit: u64) {
    if let Some(index) = life.tree.find(key)
        && is_latest(&life.tree[index], limit)
    {
        life.put(index, Item::Credit);
    }
}

/// Returns whether a CREDIT with this limit was the latest, and nothing newer is due.
fn is_latest(node: &Node, limit: u64) -> bool {
    node.recv.limit == limit && node.delivery(Item::Credit) == Delivery::InFlight
}

/// CREDIT.
///
/// # Errors
/// If the peer broke a rule.
pub(crate) fn on_frame(life: &mut Life, frame: &Credit) -> Result<(), ProtocolError> {
    if let Some(index) = subject::find_held(life, frame.lsid)? {
        raise(life, index, frame.limit);
    }
    Ok(())
}

/// The limit that the peer grants is raised.
pub(crate) fn raise(life: &mut Life, index: u32, limit: u64) {
    let node = &mut life.tree[index];
    if limit > node.send.limit {
        node.send.limit = limit;
        if node.has(Flags::ANNOUNCED) && node.take(Flags::WAITING) {
            life.touch(index);
        }
    }
}
