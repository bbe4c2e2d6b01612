//! STREAM: the bytes and record marks of a stream, its end, and in front of them INIT.
//!
//! Up: the stream is found, or made by its INIT; what the frame says is checked against what is known, final size, then
//! credit; data goes into the receive buffer, or is discarded and counted as consumed; whoever waits is told, and the
//! stream is retired if that was its end.

use std::ops::Range;

use bytes::Bytes;
use sss_wire::Code;
use sss_wire::frame::Stream;

use super::delivery::{Delivery, Item};
use super::draft::Draft;
use super::segment::{Blocked, Outcome, Plan};
use super::{final_size, init, segment, subject};
use crate::error::ProtocolError;
use crate::ids::StreamKey;
use crate::interest::Interest;
use crate::streams::life::Life;
use crate::streams::life::state::{RecvState, SendInput};
use crate::streams::messages::{incoming, outgoing};
use crate::streams::tree::lsids::Found;
use crate::streams::tree::node::{Flags, Opener};
use crate::token::StreamFlags;

/// Writes a STREAM frame with what the stream is to send next.
pub(super) fn write(life: &mut Life, index: u32, draft: &mut Draft<'_, '_>) -> Outcome {
    if !life.tree[index].is_known()
        && let Some(outcome) = init::write_ancestors(life, index, draft)
    {
        return outcome;
    }
    if let Err(blocked) = init::prepare(life, index) {
        return Outcome::Blocked(blocked);
    }
    let plan = match plan(life, index) {
        Ok(plan) => plan,
        Err(outcome) => return outcome,
    };
    let Some(written) = segment::encode(life, index, &plan, draft) else {
        return Outcome::Full;
    };
    let bytes = written.bytes;
    let was_whole = written.range.end == plan.range.end;
    segment::note_sent(life, index, written, plan.is_again, draft);
    if plan.is_limited && was_whole {
        life.tree[index].set(Flags::WAITING);
    }
    Outcome::Sent(bytes)
}

/// Returns what the stream is to send next: what was lost, then new data, as far as credit goes, then FIN or INIT
/// alone.
fn plan(life: &Life, index: u32) -> Result<Plan, Outcome> {
    let node = &life.tree[index];
    let carries_data = node.status.send.carries_data();
    let lost = node.send.buf.as_ref().and_then(|b| b.next_lost());
    if let Some(range) = lost.filter(|_| carries_data) {
        return Ok(Plan {
            range,
            is_again: true,
            is_limited: false,
        });
    }
    let start = node.send.sent;
    let unsent = if carries_data { node.send.unsent() } else { 0 };
    if unsent == 0 && node.has(Flags::ANNOUNCED) {
        let is_due = node.is_due(Item::Init) || (carries_data && node.is_due(Item::Fin));
        let plan = Plan {
            range: start..start,
            is_again: false,
            is_limited: false,
        };
        return if is_due { Ok(plan) } else { Err(Outcome::Idle) };
    }
    let n = unsent.min(node.send.credit());
    if n == 0 && !node.is_due(Item::Init) {
        return Err(Outcome::Blocked(Blocked::Window));
    }
    Ok(Plan {
        range: start..start + n,
        is_again: false,
        is_limited: n < unsent,
    })
}

/// STREAM. `packet` holds the frame's data.
///
/// # Errors
/// If the peer broke a rule.
pub(crate) fn on_frame(life: &mut Life, frame: &Stream<'_>, packet: &Bytes) -> Result<(), ProtocolError> {
    if life.failed.is_some() {
        return Ok(());
    }
    let found = life.tree.locate(frame.lsid);
    let index = match found {
        Found::Live(index) => {
            if frame.init.is_some() && life.tree[index].place.opener == Opener::Own {
                return Err(wrong_parity());
            }
            life.on_heard(index);
            Some(index)
        }
        Found::Retired | Found::Never => meet(life, frame, found)?,
    };
    let Some(index) = index.filter(|_| !frame.data.is_empty() || frame.mark || frame.fin) else {
        return Ok(());
    };
    if life.tree[index].is_datagram() {
        return incoming::on_stream(life, index, frame, packet);
    }
    receive(life, index, frame, packet)
}

/// A frame for a stream that is not there: opens it, if it is new. `None` if it was retired, or refused without being
/// kept.
fn meet(life: &mut Life, frame: &Stream<'_>, found: Found) -> Result<Option<u32>, ProtocolError> {
    let (opener, ordinal) = life.tree.lsids.name(frame.lsid);
    match &frame.init {
        // STR-7
        Some(_) if opener == Opener::Own => Err(wrong_parity()),
        _ if found == Found::Retired => Ok(None),
        Some(init) => init::on_new(life, (frame.lsid, ordinal), init),
        None => Err(subject::never_opened()),
    }
}

/// Data, a mark and FIN.
fn receive(life: &mut Life, index: u32, frame: &Stream<'_>, packet: &Bytes) -> Result<(), ProtocolError> {
    let node = &mut life.tree[index];
    final_size::check(node, frame.end(), frame.fin)?;
    let more = final_size::note(node, frame.end(), frame.fin);
    if more > 0 {
        let table = &mut life.tree.table;
        life.flow.check_credit(table, &mut life.outbox, index)?;
        life.add_backlog_cost(index, more);
    }
    let recv = life.tree[index].status.recv;
    if recv.keeps_data() {
        let has_more = life.keep(index, frame, packet);
        let is_complete = final_size::complete(&mut life.tree[index]);
        if is_complete {
            life.answer_watch(index);
        }
        if has_more || is_complete {
            life.notify(index, Interest::Read);
        }
    } else if matches!(recv, RecvState::Stopped | RecvState::Done) {
        life.discard(index);
        life.retire(index);
    }
    Ok(())
}

/// STR-7
fn wrong_parity() -> ProtocolError {
    ProtocolError::new(Code::STREAM_STATE, "INIT of a stream that is the receiver's to open")
}

/// STREAM was acknowledged.
pub(crate) fn on_acked(life: &mut Life, key: StreamKey, range: Range<u64>, flags: StreamFlags) {
    let Some(index) = life.tree.find(key) else {
        return;
    };
    if flags.has(StreamFlags::INIT) {
        life.on_known(index);
    }
    let node = &mut life.tree[index];
    if node.status.send.carries_data() {
        if flags.has(StreamFlags::FIN) {
            node.on_acked(Item::Fin, true);
        }
        if let Some(buf) = &mut node.send.buf {
            buf.on_acked(range);
            if buf.is_acked() {
                life.pool.take_back_send(&mut node.send);
            }
        }
        let is_acked = node.send.is_acked();
        if is_acked && node.delivery(Item::Fin) == Delivery::Acked {
            node.advance_send(SendInput::AllAcked);
        }
        life.notify(index, Interest::Drained);
        if is_acked {
            life.notify(index, Interest::Acknowledged);
        }
    }
    life.retire(index);
}

/// STREAM was lost; what it said is sent again, as far as it still holds (REC-5).
pub(crate) fn on_lost(life: &mut Life, key: StreamKey, range: Range<u64>, flags: StreamFlags) {
    let Some(index) = life.tree.find(key) else {
        return;
    };
    let node = &mut life.tree[index];
    if flags.has(StreamFlags::INIT) {
        node.on_lost(Item::Init);
    }
    if node.status.send.carries_data() {
        if flags.has(StreamFlags::FIN) {
            node.on_lost(Item::Fin);
        }
        if let Some(buf) = &mut node.send.buf {
            buf.on_lost(range);
        }
    }
    if node.is_datagram() {
        outgoing::give_up_if_overdue(life, index);
    }
    // It may be gone now.
    if life.tree.find(key).is_some() {
        life.touch(index);
    }
}
