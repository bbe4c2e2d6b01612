//! PRIORITY: the receiver of a stream asks for another level (STR-24, STR-25).

use sss_wire::frame::Priority;

use super::delivery::{Delivery, Item};
use super::draft::Draft;
use super::subject;
use crate::error::ProtocolError;
use crate::ids::StreamKey;
use crate::streams::life::Life;
use crate::streams::tree::extras::PriorityRequest;
use crate::token::Token;

/// Asks the peer to give a stream another level, for what the peer sends of it and below it.
pub(crate) fn request(life: &mut Life, index: u32, level: i8) {
    let asked = &mut life.tree[index].extras_mut().requests.asked;
    *asked = Some(PriorityRequest {
        level,
        serial: asked.map_or(0, |before| before.serial + 1),
        delivery: asked.map_or(Delivery::Idle, |before| before.delivery),
    });
    life.put(index, Item::Priority);
}

/// Writes those that are due. Returns whether everything did fit.
pub(super) fn write_all(life: &mut Life, draft: &mut Draft<'_, '_>) -> bool {
    let packet = &mut *draft.packet;
    while let Some(key) = life.outbox.priorities.front() {
        if let Some((index, asked)) = asked(life, key) {
            let frame = Priority {
                lsid: life.tree.lsid(index),
                serial: asked.serial,
                level: asked.level,
            };
            if frame.encoded_len() > packet.remaining() {
                return false;
            }
            frame.encode(packet.eliciting());
            let serial = asked.serial;
            packet.remember(Token::Priority { key, serial });
            life.tree[index].set_delivery(Item::Priority, Delivery::InFlight);
        }
        life.outbox.priorities.pop();
    }
    true
}

/// Returns what was asked last for a stream.
fn asked(life: &Life, key: StreamKey) -> Option<(u32, PriorityRequest)> {
    let index = life.tree.find(key)?;
    let asked = life.tree[index].extras.as_ref()?.requests.asked?;
    Some((index, asked))
}

/// PRIORITY was lost.
pub(crate) fn on_lost(life: &mut Life, key: StreamKey, serial: u64) {
    if let Some((index, asked)) = asked(life, key)
        && asked.serial == serial
    {
        life.put(index, Item::Priority);
    }
}

/// PRIORITY.
///
/// # Errors
/// If the peer broke a rule.
pub(crate) fn on_frame(life: &mut Life, frame: &Priority) -> Result<(), ProtocolError> {
    let Some(index) = subject::find_held(life, frame.lsid)? else {
        return Ok(());
    };
    let answered = &mut life.tree[index].extras_mut().requests.answered;
    // STR-24
    if answered.is_none_or(|last| frame.serial > last) {
        *answered = Some(frame.serial);
        life.scheduler.set_level(&mut life.tree.table, index, frame.level);
    }
    Ok(())
}
