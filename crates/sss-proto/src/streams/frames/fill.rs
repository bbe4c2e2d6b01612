//! A packet, filled in the order of FRM-2.
//!
//! 1. refusals, RESET and STOP; 2. questions and answers; 3. OPEN_CREDIT, CREDIT, PRIORITY; 4. STREAM and DATAGRAM, in
//!    scheduler order; a stream whose INIT is not acknowledged is preceded by INIT of its ancestors (STR-6).
//!
//! The packets of a segmented send are equally long (CHN-10). If something is left over that does not fit into the
//! first, that one says how long the others are, so that datagrams of one size need no PADDING; unless little is
//! missing in it. The others are filled up with PADDING if less than a quarter of them is missing, and else end the
//! send.

use super::draft::Draft;
use super::segment::{Blocked, Outcome};
use super::{asking, credit, open_credit, priority, refusal, reset, stop, stream};
use crate::padding::Padding;
use crate::streams::life::Life;
use crate::streams::messages::{incoming, outgoing};
use crate::streams::schedule::Turn;
use crate::streams::tree::Tree;
use crate::streams::tree::node::Flags;
use crate::token::Topic;

/// The number of waiters woken at a time: about what a packet holds.
const WAKE: usize = 32;

/// Bytes that are missing in a first packet that is filled up all the same: streams can be cut at any place, but not
/// into very small pieces.
const LITTLE: usize = 64;

/// Length of a packet of which more is to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// As long as it happens to be.
    Free,
    /// The room that there is: so many bytes less than a packet may have at most.
    Fixed(usize),
}

/// Fills the packet with as much as fits. Returns whether something is left over that did not.
pub(crate) fn fill(life: &mut Life, draft: &mut Draft<'_, '_>, length: Length) -> bool {
    draft.missing = match length {
        Length::Free => 0,
        Length::Fixed(missing) => missing,
    };
    incoming::grant_all(life);
    life.scheduler.set_quantum(draft.packet.remaining());
    let is_done = refusal::write_all(life, draft)
        && write_ends(life, draft)
        && asking::write_all(life, Topic::Consumed, draft)
        && asking::write_all(life, Topic::Released, draft)
        && open_credit::write_all(life, draft)
        && credit::write_all(life, draft)
        && priority::write_all(life, draft)
        && write_streams(life, draft);
    let rest = draft.packet.remaining();
    let filled_up = match length {
        Length::Free => LITTLE,
        Length::Fixed(_) => draft.packet.len() / 3,
    };
    if !is_done && !draft.packet.is_empty() && rest < filled_up {
        draft.packet.quiet().zeros(rest);
    }
    !is_done
}

/// RESET and STOP of each stream that has one due. Returns whether everything did fit.
fn write_ends(life: &mut Life, draft: &mut Draft<'_, '_>) -> bool {
    while let Some(key) = life.outbox.ends.front() {
        if let Some(index) = life.tree.find(key) {
            if !reset::write(life, index, draft) || !stop::write(life, index, draft) {
                return false;
            }
            life.tree[index].clear(Flags::IN_ENDS);
        }
        life.outbox.ends.pop();
    }
    true
}

/// Returns what streams have to send, in scheduler order. Returns whether everything did fit.
fn write_streams(life: &mut Life, draft: &mut Draft<'_, '_>) -> bool {
    wake(life);
    draft.data_at = draft.packet.len();
    loop {
        let Some(Turn { index, of }) = life.scheduler.pick(&life.tree.table) else {
            if wake(life) {
                continue;
            }
            return true;
        };
        if outgoing::give_way(life, index) {
            // In a packet with something in it, it would not be in order; another packet follows that one.
            if draft.packet.is_empty() && !write_ends(life, draft) {
                return false;
            }
            continue;
        }
        let node = &life.tree[index];
        let stateless = match node.is_datagram() && !node.has(Flags::ANNOUNCED) {
            true => outgoing::write_stateless(life, index, draft),
            false => None,
        };
        match stateless.unwrap_or_else(|| stream::write(life, index, draft)) {
            Outcome::Sent(bytes) => {
                life.scheduler.charge(&life.tree.table, of, bytes);
                draft.packet.pad(padding_of(&life.tree, index));
            }
            Outcome::Full => return false,
            Outcome::Blocked(Blocked::Window) => life.tree[index].set(Flags::WAITING),
            Outcome::Blocked(Blocked::Opening(first)) => life.flow.wait_to_open(&mut life.tree.table, index, first),
            Outcome::Idle => life.scheduler.deactivate(&mut life.tree.table, index),
            Outcome::Over(bytes) => {
                draft.packet.pad(padding_of(&life.tree, index));
                life.scheduler.charge(&life.tree.table, of, bytes);
                outgoing::end(life, index);
                continue;
            }
        }
        if !life.tree[index].is_sendable() {
            life.scheduler.deactivate(&mut life.tree.table, index);
        }
    }
}

/// Padding of packets with something of a stream; a datagram's is that of the stream it is sent on (CHN-16).
fn padding_of(tree: &Tree, index: u32) -> Padding {
    let node = &tree[index];
    let of = if node.is_datagram() { node.place.parent } else { index };
    tree[of].padding()
}

/// Puts some streams that waited to be opened back in their turn. Returns whether there were any.
fn wake(life: &mut Life) -> bool {
    for woken in 0..WAKE {
        let Some(index) = life.flow.wake(&mut life.tree.table) else {
            return woken > 0;
        };
        life.touch(index);
    }
    true
}
