//! One STREAM frame on its way out: what it says, and what changes when it has been written.

use std::ops::Range;

use sss_wire::frame::{Init, StreamHeader};

use super::delivery::{Delivery, Item};
use super::draft::Draft;
use crate::interest::Interest;
use crate::streams::data::half::SEND_AHEAD;
use crate::streams::life::Life;
use crate::streams::life::state::SendState;
use crate::streams::tree::node::{Flags, Opener};
use crate::token::{StreamFlags, Token};

/// Data that is no more than this is not split to fill the end of a packet.
const UNSPLIT: u64 = 256;

/// Outcome of an attempt to write a STREAM frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Written, with so many bytes.
    Sent(usize),
    /// The packet has no room for it.
    Full,
    /// It waits.
    Blocked(Blocked),
    /// There is nothing to send.
    Idle,
    /// Written, with so many bytes, and the stream is no more: a datagram without state.
    Over(usize),
}

/// Reasons why a stream cannot send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// Its own limit.
    Window,
    /// No account has room for opening it, or this stream, which is to be opened before it.
    Opening(u32),
}

/// Data that a STREAM frame is to carry.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) range: Range<u64>,
    /// True if it is sent again.
    pub(super) is_again: bool,
    /// True if the limit allowed no more.
    pub(super) is_limited: bool,
}

impl Plan {
    /// INIT alone, which is not counted as new data.
    pub(super) fn bare() -> Self {
        Self {
            range: 0..0,
            is_again: true,
            is_limited: false,
        }
    }
}

/// A STREAM frame that was written.
pub(super) struct Written {
    pub(super) range: Range<u64>,
    flags: StreamFlags,
    pub(super) bytes: usize,
}

/// Writes a frame with as much of the plan as fits. `None` if nothing does.
pub(super) fn encode(life: &Life, index: u32, plan: &Plan, draft: &mut Draft<'_, '_>) -> Option<Written> {
    let packet = &mut *draft.packet;
    let node = &life.tree[index];
    let before = packet.len();
    let wanted = plan.range.end - plan.range.start;
    // STR-28: a frame ends with the first mark.
    let mark = node.send.buf.as_ref().and_then(|b| b.next_mark(plan.range.start));
    let mark = mark.filter(|m| *m < plan.range.end);
    let is_finishing = node.status.send == SendState::Finishing;
    // An INIT alone names no offset.
    let is_bare = wanted == 0 && !(is_finishing && plan.range.end == node.send.end() && !plan.is_again);
    let mut header = StreamHeader {
        lsid: life.tree.lsid(index),
        init: init(life, index),
        offset: if is_bare { 0 } else { plan.range.start },
        fin: false,
        mark: false,
    };
    let available = mark.unwrap_or(plan.range.end) - plan.range.start;
    let available = usize::try_from(available).unwrap_or(usize::MAX);
    let fit = header.fit(packet.remaining(), available)?;
    if fit.len < available && wanted <= UNSPLIT && before > 0 {
        return None;
    }
    header.mark = mark.is_some() && fit.len == available;
    let range = header.offset..header.offset + fit.len as u64 + u64::from(header.mark);
    header.fin = !is_bare && is_finishing && range.end == node.send.end();
    let out = packet.eliciting();
    header.encode(out, fit.len_field());
    if fit.len > 0
        && let Some(buf) = &node.send.buf
    {
        buf.copy(range.start, out.skip(fit.len));
    }
    let flag = |is_set, flag| if is_set { flag } else { StreamFlags::NONE };
    Some(Written {
        range,
        flags: flag(header.fin, StreamFlags::FIN).with(flag(header.init.is_some(), StreamFlags::INIT)),
        bytes: packet.len() - before,
    })
}

/// Returns what INIT of a stream says; `None` if the peer knows it.
pub(crate) fn init(life: &Life, index: u32) -> Option<Init<'_>> {
    let node = &life.tree[index];
    if node.is_known() {
        return None;
    }
    let (lender, borrow) = (node.place.lender, node.send.limit);
    Some(match &node.names {
        Some(names) => Init::top_level(names.service(), names.protocol()).with_credit(0, borrow, node.recv.limit),
        None if node.is_datagram() => {
            let size = life.ledger.size(index);
            Init::datagram(life.tree.lsid(node.place.parent), size, 0).with_credit(lender, borrow, 0)
        }
        None => Init::substream(life.tree.lsid(node.place.parent)).with_credit(lender, borrow, node.recv.limit),
    })
}

/// Accounts for a frame.
pub(super) fn note_sent(life: &mut Life, index: u32, written: Written, is_again: bool, draft: &mut Draft<'_, '_>) {
    let Written { range, flags, .. } = written;
    if flags.has(StreamFlags::INIT) {
        note_announced(life, index, draft);
    }
    let node = &mut life.tree[index];
    node.clear(Flags::UNTOLD);
    if flags.has(StreamFlags::FIN) {
        node.set_delivery(Item::Fin, Delivery::InFlight);
    }
    let len = range.end - range.start;
    if is_again {
        if let Some(buf) = &mut node.send.buf {
            buf.take_lost(&range);
        }
    } else if len > 0 {
        life.pool.note_sent(&mut node.send, len);
        note_progress(life, index, len);
    }
    draft.packet.remember(Token::Stream {
        key: life.tree.key(index),
        offset: range.start,
        len: u32::try_from(len).unwrap_or(u32::MAX),
        flags,
    });
}

/// So much was sent for the first time: who waits to write, or for everything to be sent, is told.
fn note_progress(life: &mut Life, index: u32, len: u64) {
    let node = &life.tree[index];
    if node.is_datagram() {
        return life.ledger.unqueue(&mut life.tree.table, &mut life.events, index, len);
    }
    // A writer that waits goes on when half of what it may have written ahead was sent.
    let unsent = node.send.unsent();
    if unsent <= SEND_AHEAD / 2 {
        life.notify(index, Interest::Write);
    }
    if unsent == 0 {
        life.notify(index, Interest::Sent);
    }
}

/// INIT is in the packet. At the first time, the stream gets its ordinal, and its opening is charged.
fn note_announced(life: &mut Life, index: u32, draft: &mut Draft<'_, '_>) {
    draft.note_announced(index);
    let node = &mut life.tree[index];
    debug_assert!(node.place.opener == Opener::Own);
    node.set_delivery(Item::Init, Delivery::InFlight);
    if node.has(Flags::ANNOUNCED) {
        return;
    }
    // It may have waited, and another that comes after it not.
    node.clear(Flags::WOKEN);
    let has_waited = node.take(Flags::WAITING);
    let (parent, is_datagram) = (node.place.parent, node.is_datagram());
    if node.has(Flags::TREE_RESET) {
        // It was to be forgotten, but a stream below needs it.
        life.tree[parent].account_mut().unknown += 1;
    }
    life.tree.announce(index);
    let table = &mut life.tree.table;
    life.flow.charge_opening(table, index);
    if is_datagram {
        life.ledger.note_announced(table, &mut life.events, index);
    } else {
        life.flow.note_birth(table, index);
    }
    if has_waited {
        life.touch(index);
    }
    life.outbox.on_announced(&mut life.tree.table, index);
}
