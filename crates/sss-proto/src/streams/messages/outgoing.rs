//! Datagrams on their way out.
//!
//! 1. [`send`] makes the node, and the scheduler gives it its turn like any child;
//! 2. when it comes, [`write_stateless`] sends it without state if it can be, and it is gone; else it goes the way of
//!    streams;
//! 3. it is settled once: when the peer says that all is there, or when it is refused, reset, or its deadline comes.

use bytes::Bytes;
use sss_wire::Code;
use sss_wire::constants::{MAX_DEPTH, STREAM_BORROW};
use sss_wire::frame::{Datagram, Init, StreamHeader};

use super::books::Message;
use super::line::Waiting;
use super::options::DatagramOptions;
use crate::error::DatagramError;
use crate::ids::{DatagramId, StreamKey};
use crate::io::DatagramFate;
use crate::streams::frames::delivery::{Delivery, Item};
use crate::streams::frames::draft::Draft;
use crate::streams::frames::init;
use crate::streams::frames::segment::{self, Outcome};
use crate::streams::life::state::{SendInput, SendState};
use crate::streams::life::{Life, cause};
use crate::streams::tree::ends::{Cause, Ending};
use crate::streams::tree::index::ROOT;
use crate::streams::tree::node::{Flags, Node, Opener};
use crate::time::Instant;
use crate::token::Token;

/// Takes datagrams to be sent on a stream, from the first on, and leaves those for which there is no room yet: then an
/// event follows.
///
/// # Errors
/// As [`send`], because of the first that is left.
pub(crate) fn send_all(
    life: &mut Life,
    now: Instant,
    parent: StreamKey,
    data: &mut std::vec::IntoIter<Bytes>,
    options: &DatagramOptions,
) -> Result<(), DatagramError> {
    while let Some(len) = data.as_slice().first().map(Bytes::len) {
        let first = (len, || data.next().unwrap_or_default());
        if send(life, now, parent, first, options)?.is_none() {
            break;
        }
    }
    Ok(())
}

/// Takes a datagram of `len` bytes to be sent on a stream. On `Ok(None)` there is no room for it yet, and an event
/// follows.
///
/// # Errors
/// If it is larger than the peer takes, the stream is gone here or at the peer, or the channel has ended.
pub(crate) fn send(
    life: &mut Life,
    now: Instant,
    parent: StreamKey,
    (len, data): (usize, impl FnOnce() -> Bytes),
    options: &DatagramOptions,
) -> Result<Option<DatagramId>, DatagramError> {
    if let Some(reason) = life.failed.as_deref() {
        return Err(DatagramError::Lost(reason.clone()));
    }
    let parent = life.tree.held(parent).ok_or(DatagramError::Closed)?;
    if life.tree[parent].has(Flags::PEER_GONE) {
        return Err(DatagramError::PeerGone);
    }
    if let Some((code, reason)) = cause::tree_ending(&life.tree.table, parent) {
        return Err(DatagramError::Reset { code, reason });
    }
    let (size, limit) = (len as u64, life.ledger.max());
    if !life.ledger.fits_peer(size) {
        return Err(DatagramError::TooLarge { size, limit });
    }
    if !life.ledger.take_room(&mut life.tree.table, parent, size) {
        return Ok(None);
    }
    let id = life.ledger.next_id();
    let is_plain = !options.reliable && options.deadline.is_none();
    let level = options.priority;
    if is_plain && let Some(lines) = life.ledger.lines(&mut life.tree.table, parent, level) {
        lines.push(level, Waiting::new(now, (id, options.tracked), data()));
        life.pool.note_waiting(size);
        return Ok(Some(DatagramId(id)));
    }
    let message = Message::new(now, (id, size), options);
    let index = insert(life, (parent, level), message, data());
    if let Some(time) = options.deadline {
        life.scheduler.set_deadline(index, now + time);
    }
    if is_plain {
        life.ledger.begin_line(&mut life.tree.table, index);
    }
    life.touch(index);
    Ok(Some(DatagramId(id)))
}

/// Makes the node of a datagram of a level.
fn insert(life: &mut Life, (parent, level): (u32, i8), message: Message, data: Bytes) -> u32 {
    let depth = life.tree[parent].place.depth.saturating_add(1);
    let mut node = Node::new(parent, depth, Opener::Own, None);
    node.set(Flags::DATAGRAM);
    node.set_delivery(Item::Init, Delivery::Due);
    node.set_delivery(Item::Fin, Delivery::Due);
    node.status.send = SendState::Finishing;
    let index = life.tree.insert(node).index;
    let send = &mut life.tree[index].send;
    life.pool.append(send, |buf| buf.push_message(data));
    life.ledger.enter(&life.tree.table, index, message);
    life.scheduler.set_level(&mut life.tree.table, index, level);
    index
}

/// A datagram is to be a stream, and competes alone from now on: who is behind it in line has a node from now on
/// (STR-81).
fn leave_line(life: &mut Life, index: u32) {
    let Some(next) = life.ledger.advance_line(&mut life.tree.table, index) else {
        return;
    };
    let place = &life.tree[index].place;
    let (parent, level) = (place.parent, place.level);
    life.pool.note_taken(next.data.len() as u64);
    let first = insert(life, (parent, level), Message::of(&next), next.data);
    life.ledger.hand_on_line(&mut life.tree.table, index, first);
    life.touch(first);
}

/// Gives up the datagrams whose time is over.
pub(crate) fn on_timer(life: &mut Life, now: Instant) {
    while let Some(index) = life.ledger.pop_overdue(now, &life.tree.table) {
        give_up_if_overdue(life, index);
    }
}

/// Gives up a datagram that would have to send something too late (STR-35): with RESET if the peer may know of it.
pub(crate) fn give_up_if_overdue(life: &mut Life, index: u32) {
    let must_send = !life.tree[index].is_all_sent();
    if life.ledger.is_overdue(index) && must_send {
        expire(life, index);
    }
}

/// Gives up a best-effort datagram that has its turn, if more of it is to be sent than can leave in time and another
/// one waits (STR-79). Returns whether it did.
pub(crate) fn give_way(life: &mut Life, index: u32) -> bool {
    let Some(deadline) = life.scheduler.deadline(index) else {
        return false;
    };
    let node = &life.tree[index];
    let has_begun = node.has(Flags::ANNOUNCED);
    life.ledger
        .is_hopeless(index, node.send.unsent(), (deadline, has_begun))
        && life.scheduler.has_later(&life.tree.table, index)
        && expire(life, index)
}

/// Gives up a datagram that comes too late: with RESET if the peer may know of it. Returns whether its fate was open.
fn expire(life: &mut Life, index: u32) -> bool {
    if !life.settle(index, DatagramFate::Expired) {
        return false;
    }
    let is_announced = life.tree[index].has(Flags::ANNOUNCED);
    life.ledger.note_expired(is_announced);
    if is_announced {
        life.abort(index, Cause::Own, Ending::new(Code::EXPIRED, ""));
        life.retire(index);
    } else {
        end(life, index);
    }
    true
}

/// Sends a datagram that was not announced in a frame of its own, if that can be (STR-32, STR-33). `None`: it is to be
/// a stream, and is in no line any more.
pub(crate) fn write_stateless(life: &mut Life, index: u32, draft: &mut Draft<'_, '_>) -> Option<Outcome> {
    let outcome = try_stateless(life, index, draft);
    if outcome.is_none() {
        leave_line(life, index);
    }
    outcome
}

fn try_stateless(life: &mut Life, index: u32, draft: &mut Draft<'_, '_>) -> Option<Outcome> {
    let size = life.tree[index].send.end();
    if !life.ledger.fits_peer(size) {
        life.settle(index, DatagramFate::TooLarge);
        return Some(Outcome::Over(0));
    }
    if !life.ledger.may_go_stateless(index) {
        return None;
    }
    let len = usize::try_from(size).ok()?;
    let needed = stateless_len(life, index, len, draft);
    if needed > draft.packet.remaining() {
        // The next packet has as much room as this one had, or more; what came before in this one is not in that.
        let has_more_room = draft.packet.len() > draft.data_at || draft.missing > 0;
        let next = draft.packet.remaining() + draft.packet.len() + draft.missing;
        let fits_next = needed <= next && has_more_room;
        return fits_next.then_some(Outcome::Full);
    }
    init::write_ancestors(life, index, draft).or_else(|| Some(encode(life, index, len, draft)))
}

/// Bytes that a datagram without state takes in the packet, INIT of its ancestors included.
fn stateless_len(life: &Life, index: u32, len: usize, draft: &Draft<'_, '_>) -> usize {
    let parent = life.tree[index].place.parent;
    let mut total = Datagram::len_with(life.tree.lsid(parent), len);
    let mut at = parent;
    while at != ROOT && !life.tree[at].is_known() {
        if !draft.announces(at) {
            let header = StreamHeader {
                lsid: life.tree.lsid(at),
                init: largest_init(life, at),
                offset: 0,
                fin: false,
                mark: false,
            };
            total = total.saturating_add(header.encoded_len(Some(0)));
        }
        at = life.tree[at].place.parent;
    }
    total
}

/// INIT of a stream as long as it can be.
fn largest_init(life: &Life, index: u32) -> Option<Init<'_>> {
    let init = segment::init(life, index)?;
    Some(if life.tree[index].has(Flags::ANNOUNCED) {
        init
    } else {
        init.with_credit(MAX_DEPTH, STREAM_BORROW, STREAM_BORROW)
    })
}

fn encode(life: &mut Life, index: u32, len: usize, draft: &mut Draft<'_, '_>) -> Outcome {
    let packet = &mut *draft.packet;
    let node = &life.tree[index];
    let parent = node.place.parent;
    let lsid = life.tree.lsid(parent);
    let frame = Datagram::len_with(lsid, len);
    if frame > packet.remaining() {
        return Outcome::Full;
    }
    let out = packet.eliciting();
    Datagram::encode_header(out, lsid, len);
    if let Some(buf) = &node.send.buf {
        buf.copy(0, out.skip(len));
    }
    let table = &mut life.tree.table;
    let (is_counted, tracked) = life.ledger.note_flying(table, &mut life.events, index);
    if is_counted {
        packet.remember(Token::Stateless(table.key(parent)));
    }
    if let Some(id) = tracked {
        packet.remember(Token::Datagram(id));
    }
    Outcome::Over(frame)
}

/// The packet with a datagram that went without state on a stream was acknowledged or lost.
pub(crate) fn on_landed(life: &mut Life, parent: StreamKey) {
    let Some(index) = life.tree.find(parent) else {
        return;
    };
    if let Some(mailbox) = life.tree[index].mailbox() {
        mailbox.flying = mailbox.flying.saturating_sub(1);
    }
    if !life.tree[index].has(Flags::HELD) {
        life.answer_await(index);
        life.retire(index);
    }
}

/// A datagram that was never announced is over: the next in line takes its place, or it is taken out of the tree. It
/// has nothing that only an announced stream has: no account with the peer, no window, and nobody who waits for it.
pub(crate) fn end(life: &mut Life, index: u32) {
    if let Some(next) = life.ledger.advance_line(&mut life.tree.table, index) {
        life.ledger.enter(&life.tree.table, index, Message::of(&next));
        return life.pool.replace(&mut life.tree[index].send, next.data);
    }
    life.tree[index].advance_send(SendInput::AllAcked);
    if life.has_work() {
        // A walk may stand at it.
        life.pool.take_back_send(&mut life.tree[index].send);
        return life.retire(index);
    }
    let parent = life.tree[index].place.parent;
    life.ledger.forget_unannounced(index);
    life.flow.openers.forget(life.tree.key(index));
    life.tree.table.disown(index);
    life.scheduler.forget(&mut life.tree.table, index);
    if let Some(mut node) = life.tree.remove(index) {
        life.pool.take_back_send(&mut node.send);
    }
    life.answer_await(parent);
    life.retire(parent);
}
