//! Refusals: RESET and STOP with the same code (STR-9), also of streams that are not kept (STR-7, STR-58).

use sss_wire::Code;
use sss_wire::frame::{Reset, Scope, Stop};

use super::draft::Draft;
use crate::streams::life::Life;
use crate::streams::tree::index::ROOT;
use crate::streams::tree::node::{Flags, Opener};
use crate::token::Token;

/// Writes those that are due, of streams that are not kept. Returns whether everything did fit.
pub(super) fn write_all(life: &mut Life, draft: &mut Draft<'_, '_>) -> bool {
    let packet = &mut *draft.packet;
    while let Some((lsid, code)) = life.outbox.refusals.front() {
        let reset = Reset {
            lsid,
            scope: Scope::Stream,
            code,
            final_size: 0,
            reason: "",
        };
        let stop = Stop { lsid, code, reason: "" };
        if reset.encoded_len() + stop.encoded_len() > packet.remaining() {
            return false;
        }
        reset.encode(packet.eliciting());
        stop.encode(packet.eliciting());
        packet.remember(Token::Refusal { lsid });
        life.outbox.refusals.pop();
    }
    true
}

/// RESET or STOP came with a code. Of some streams that the peer refuses it keeps nothing, and counts nothing.
pub(super) fn note(life: &mut Life, index: u32, code: Code) {
    let place = &life.tree[index].place;
    let parent = place.parent;
    let is_parent_gone = code == Code::PARENT_GONE && parent != ROOT;
    if place.opener == Opener::Peer || !(is_parent_gone || code == Code::TOO_MANY) {
        return;
    }
    if is_parent_gone {
        life.tree[parent].set(Flags::PEER_GONE);
    }
    life.on_decided(index);
    life.flow.take_back_opening(&mut life.tree.table, index);
}
