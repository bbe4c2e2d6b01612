//! Datagrams on their way in.
//!
//! A datagram without state goes into the mailbox of its stream at once. A datagram stream is put together in its node
//! first; when all is there it goes into the mailbox as well, and the node only has to tell the sender so.

use std::task::{Poll, ready};

use bytes::{Bytes, BytesMut};
use sss_wire::Code;
use sss_wire::frame::{Datagram, Init, Stream};

use super::ledger;
use super::mailbox::Debt;
use crate::error::{ProtocolError, ReadError};
use crate::ids::StreamKey;
use crate::interest::Interest;
use crate::io::DatagramFate;
use crate::streams::data::recv_buf::SLICE_FROM;
use crate::streams::frames::delivery::Item;
use crate::streams::frames::final_size;
use crate::streams::life::state::{RecvInput, RecvState};
use crate::streams::life::{Life, cause};
use crate::streams::tree::ends::{Cause, Ending};
use crate::streams::tree::lsids::Found;
use crate::streams::tree::node::{Flags, Node, Opener};
use crate::time::Instant;

/// DATAGRAM. `packet` holds the frame's data.
///
/// # Errors
/// If the peer broke a rule.
pub(crate) fn on_frame(life: &mut Life, frame: &Datagram<'_>, packet: &Bytes) -> Result<(), ProtocolError> {
    if life.failed.is_some() {
        return Ok(());
    }
    let error = |text| Err(ProtocolError::new(Code::STREAM_STATE, text));
    let index = match life.tree.locate(frame.lsid) {
        Found::Live(index) if life.tree[index].is_datagram() => return error("datagram on a datagram stream"),
        Found::Live(index) => Some(index),
        Found::Retired => None,
        // STR-33
        Found::Never => return error("datagram on a stream that was never opened"),
    };
    let is_taken = |node: &Node| takes_datagrams(node) && !node.has(Flags::PEER_RELEASED);
    match index.filter(|i| is_taken(&life.tree[*i])) {
        None => life.ledger.stats_mut().dropped_unheld += 1,
        Some(_) if !life.ledger.fits_here(frame.data.len() as u64) => life.ledger.stats_mut().dropped_large += 1,
        Some(index) => {
            let (room, slices) = ((&mut life.tree.table, &mut life.flow), &mut life.pool.slices);
            let take = || match frame.data.len() >= SLICE_FROM && slices.take() {
                true => (packet.slice_ref(frame.data), true),
                false => (Bytes::copy_from_slice(frame.data), false),
            };
            if life.ledger.keep_stateless(room, index, frame.data.len(), take) {
                life.notify(index, Interest::RecvDatagram);
            }
        }
    }
    Ok(())
}

/// INIT of a datagram stream that is new (STR-34), with its parent and its ordinal.
///
/// # Errors
/// If the peer broke a rule.
pub(crate) fn open(
    life: &mut Life,
    (parent, ordinal): (u32, u64),
    size: u64,
    init: &Init<'_>,
) -> Result<u32, ProtocolError> {
    let depth = life.tree[parent].place.depth.saturating_add(1);
    let mut node = Node::of_peer(parent, depth, ordinal, None);
    node.set(Flags::DATAGRAM);
    let index = life.tree.insert(node).index;
    let table = &mut life.tree.table;
    // STR-37
    let charge = (init.lender, init.borrow);
    let lender = life.flow.charge_peer_opening(table, &mut life.outbox, index, charge)?;
    table[index].clear(Flags::CHARGED);
    let debt = Debt {
        lender,
        charge: init.borrow,
        granted: 0,
    };
    life.ledger.note_arriving(index, size, debt);
    if !life.ledger.fits_here(size) {
        refuse(life, index, Code::DATAGRAM_TOO_LARGE);
    } else if let Some(code) = why_refuse(life, parent) {
        refuse(life, index, code);
    } else {
        life.ledger.expect(&mut life.tree.table, index);
        if init.borrow < size {
            // STR-38
            life.ledger.wait_for_credit(&life.tree.table, index);
        }
    }
    Ok(index)
}

/// The code with which datagrams on a stream are refused, if they are (STR-40, STR-44).
fn why_refuse(life: &Life, parent: u32) -> Option<Code> {
    let is_taken = takes_datagrams(&life.tree[parent]);
    cause::tree_code(&life.tree.table, parent).or_else(|| (!is_taken).then_some(Code::NO_LISTENER))
}

/// Returns whether the stream has, or may still get, an application that takes its datagrams.
fn takes_datagrams(node: &Node) -> bool {
    node.is_wanted() && !node.has(Flags::TREE_RESET)
}

/// RESET and STOP for a datagram stream, and nothing more of it is kept (STR-36, STR-40).
fn refuse(life: &mut Life, index: u32, code: Code) {
    give_up(life, index);
    life.abort(index, Cause::Own, Ending::new(code, ""));
    life.end_receiving(index, Cause::Own, Some(Ending::new(code, "")));
    life.retire(index);
}

/// A datagram never will be there: what it had of the budget is free, and nobody waits for it.
fn give_up(life: &mut Life, index: u32) {
    life.ledger.give_up_grant(&mut life.flow, index);
    life.ledger.end_arriving(&mut life.tree.table, &mut life.events, index);
}

/// RESET of a datagram stream came, whose receiving direction was in the state `before`: the peer gave it up, or
/// refused one of this host. What had come of it is discarded, and the direction back ends as well.
pub(crate) fn on_reset(life: &mut Life, index: u32, before: RecvState, code: Code) {
    life.settle(index, ledger::refused(code));
    if life.tree[index].place.opener == Opener::Peer {
        give_up(life, index);
        if before.keeps_data() {
            life.abort(index, Cause::Own, Ending::new(code, ""));
        }
    }
}

/// Checks where the data of a datagram stream ends against its size and its limit (STR-34, STR-37).
///
/// # Errors
/// If the peer broke a rule.
pub(crate) fn check(life: &Life, index: u32, end: u64, is_final: bool) -> Result<(), ProtocolError> {
    life.ledger.check(&life.tree.table, index, end, is_final)
}

/// STREAM of a datagram stream came, with data or an end.
///
/// # Errors
/// If the peer broke a rule.
pub(crate) fn on_stream(life: &mut Life, index: u32, frame: &Stream<'_>, packet: &Bytes) -> Result<(), ProtocolError> {
    if frame.mark {
        return Err(ProtocolError::new(Code::FINAL_SIZE, "a record mark in a datagram"));
    }
    final_size::check(&life.tree[index], frame.end(), frame.fin)?;
    check(life, index, frame.end(), frame.fin)?;
    final_size::note(&mut life.tree[index], frame.end(), frame.fin);
    match life.tree[index].place.opener {
        Opener::Peer => on_data(life, index, frame, packet),
        Opener::Own => on_delivered(life, index),
    }
    Ok(())
}

/// The direction back of a datagram of this host has ended well: all has arrived (STR-34).
fn on_delivered(life: &mut Life, index: u32) {
    let node = &mut life.tree[index];
    if final_size::complete(node) {
        node.advance_recv(RecvInput::ReadToEnd);
        life.settle(index, DatagramFate::Delivered);
        life.retire(index);
    }
}

/// Data of a datagram of the peer came.
fn on_data(life: &mut Life, index: u32, frame: &Stream<'_>, packet: &Bytes) {
    match life.tree[index].status.recv {
        RecvState::Open | RecvState::Sized => {
            let parent = life.tree[index].place.parent;
            if let Some(code) = why_refuse(life, parent) {
                return refuse(life, index, code);
            }
            life.keep(index, frame, packet);
            if final_size::complete(&mut life.tree[index]) {
                deliver(life, index);
            }
        }
        RecvState::Stopped | RecvState::Done => {
            life.discard(index);
            life.retire(index);
        }
        RecvState::Complete | RecvState::Reset => {}
    }
}

/// All of a datagram stream is there: it goes into the mailbox of its parent.
fn deliver(life: &mut Life, index: u32) {
    let bytes = assemble(life, index);
    life.tree[index].advance_recv(RecvInput::ReadToEnd);
    life.ledger
        .deliver(&mut life.tree.table, &mut life.events, index, bytes);
    life.finish(index);
}

/// The bytes of a stream in one piece.
fn assemble(life: &mut Life, index: u32) -> Bytes {
    let recv = &mut life.tree[index].recv;
    let size = usize::try_from(recv.received).unwrap_or(usize::MAX);
    recv.read = recv.received;
    let Some(mut buf) = recv.buf.take() else {
        return Bytes::new();
    };
    let slices = &mut life.pool.slices;
    let first = buf.read(size, slices);
    let bytes = if first.len() == size {
        first
    } else {
        let mut whole = BytesMut::with_capacity(size);
        whole.extend_from_slice(&first);
        drop(first);
        while !buf.is_blocked() {
            whole.extend_from_slice(&buf.read(size, slices));
        }
        whole.freeze()
    };
    life.pool.take_back_recv(Some(buf));
    bytes
}

/// The next datagram that arrived on a stream; `None` once there will be none. If it is pending, an event follows.
///
/// What had arrived can be taken even after the channel ended.
///
/// # Errors
/// If the stream was released, or the channel has ended.
pub(crate) fn poll(life: &mut Life, now: Instant, key: StreamKey) -> Poll<Result<Option<Bytes>, ReadError>> {
    life.flow.set_now(now);
    let index = life.tree.held(key).ok_or(ReadError::Closed)?;
    if let Some(arrived) = life.take_arrived(index) {
        return Poll::Ready(Ok(Some(arrived)));
    }
    if let Some(reason) = life.failed.as_deref() {
        return Poll::Ready(Err(ReadError::Lost(reason.clone())));
    }
    if let Some(error) = cause::arrival_error(&life.tree.table, index) {
        return Poll::Ready(Err(error));
    }
    if ledger::is_last_taken(&mut life.tree.table, index) {
        return Poll::Ready(Ok(None));
    }
    life.tree[index].set(Flags::waits_for(Interest::RecvDatagram));
    life.outbox.ask(&mut life.tree.table, index, Item::Await);
    Poll::Pending
}

/// Appends the next datagrams that arrived on a stream to `into`, at most `limit`, and returns how many; 0 once there
/// will be none, or if `limit` is 0. If it is pending there was none, and an event follows.
///
/// # Errors
/// As [`poll`]. Nothing was appended.
pub(crate) fn poll_all(
    life: &mut Life,
    now: Instant,
    key: StreamKey,
    (into, limit): (&mut Vec<Bytes>, usize),
) -> Poll<Result<usize, ReadError>> {
    if limit == 0 {
        return Poll::Ready(Ok(0));
    }
    let Some(first) = ready!(poll(life, now, key))? else {
        return Poll::Ready(Ok(0));
    };
    into.push(first);
    let mut count = 1;
    if let Some(index) = life.tree.held(key) {
        while count < limit
            && let Some(arrived) = life.take_arrived(index)
        {
            into.push(arrived);
            count += 1;
        }
    }
    Poll::Ready(Ok(count))
}

/// Credit for as many datagrams as the budget has room for, in order of arrival (STR-38).
pub(crate) fn grant_all(life: &mut Life) {
    if !life.ledger.take_grant_due() {
        return;
    }
    while let Some(key) = life.ledger.first_waiting() {
        let index = life.tree.find(key);
        let index = index.filter(|i| life.tree[*i].status.recv.keeps_data());
        if index.is_some_and(|index| !grant(life, index)) {
            return;
        }
        life.ledger.pop_waiting();
    }
}

/// Returns false if the budget has no room.
fn grant(life: &mut Life, index: u32) -> bool {
    let parent = life.tree[index].place.parent;
    if let Some(code) = why_refuse(life, parent) {
        refuse(life, index, code);
        return true;
    }
    let granted = life.ledger.grant(&mut life.tree.table, &mut life.flow, index);
    if granted == Some(true) {
        life.put(index, Item::Credit);
    }
    granted.is_some()
}
