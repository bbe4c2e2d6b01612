//! Answers to the peer's questions about a stream (STR-48, STR-71).

use super::outbox::Outbox;
use crate::streams::life::state::RecvState;
use crate::streams::tree::Tree;
use crate::streams::tree::ends::{Cause, Direction};
use crate::streams::tree::node::{Flags, Node};

/// Answers if the peer has asked and everything was read (STR-48).
#[inline]
pub(crate) fn answer_watch(tree: &mut Tree, outbox: &mut Outbox, index: u32) {
    let node = &mut tree[index];
    if node.has(Flags::WATCHED) && is_read_to_end(node) {
        node.clear(Flags::WATCHED);
        outbox.watches.answer(tree.lsid(index));
    }
}

/// Returns whether the application has read all bytes of a direction of which there is at least one, or was told its
/// end.
fn is_read_to_end(node: &Node) -> bool {
    match node.status.recv {
        RecvState::Done => node.cause(Direction::Receiving) == Cause::None,
        RecvState::Complete => node.recv.unread() == 0 && node.recv.received > 0,
        _ => false,
    }
}

/// Answers if the peer has asked and nothing more can come (STR-71).
#[inline]
pub(crate) fn answer_await(tree: &mut Tree, outbox: &mut Outbox, index: u32) {
    let node = &mut tree[index];
    if node.has(Flags::AWAITED) && is_released(node) {
        node.clear(Flags::AWAITED);
        outbox.awaits.answer(tree.lsid(index));
    }
}

/// Returns whether this host opens and sends nothing more on a stream, and the peer has got what it had opened and
/// sent.
fn is_released(node: &Node) -> bool {
    let is_known = node.account.as_ref().is_none_or(|a| a.unknown == 0);
    !node.is_wanted() && is_known && !node.has_datagrams_flying()
}
