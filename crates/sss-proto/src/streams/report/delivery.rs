//! Delivery of a subtree (STR-51), and progress of what was written.

use std::task::Poll;

use sss_wire::Code;

use crate::error::{CloseReason, WriteError};
use crate::ids::StreamKey;
use crate::interest::Interest;
use crate::refusal::Refusal;
use crate::streams::frames::delivery::{Delivery, Item};
use crate::streams::life::state::SendState;
use crate::streams::life::{Life, cause};
use crate::streams::tree::ends::Ending;
use crate::streams::tree::index::ROOT;
use crate::streams::tree::node::{Flags, Node, Opener};

/// Fate of everything that this host has sent below a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubtreeDelivery {
    /// Streams that the peer stopped or refused before all had arrived.
    pub undelivered: u32,
    /// The code and the text with which the peer stopped the first of them.
    pub first: Option<(Code, String)>,
    /// Streams that are neither finished nor reset, because somebody still holds them; but for those that the peer
    /// opened and nothing was written to.
    pub unfinished: u32,
}

impl SubtreeDelivery {
    fn add(&mut self, streams: u32, (code, reason): (Code, &str)) {
        self.undelivered = self.undelivered.saturating_add(streams);
        self.first.get_or_insert_with(|| (code, reason.to_owned()));
    }
}

/// Returns what is known of the streams below one. Takes time in proportion to their number.
pub(crate) fn of_subtree(life: &Life, top: StreamKey) -> Option<SubtreeDelivery> {
    let top = life.tree.find(top).filter(|i| *i != ROOT)?;
    let mut sum = SubtreeDelivery::default();
    for at in life.tree.table.subtree(top) {
        let node = &life.tree[at];
        if let Some(losses) = node.extras.as_ref().and_then(|e| e.losses.as_deref()) {
            sum.add(losses.streams, losses.first.said());
        }
        if at != top && node.has(Flags::HELD) {
            add_held(life, at, &mut sum);
        }
    }
    Some(sum)
}

fn add_held(life: &Life, at: u32, sum: &mut SubtreeDelivery) {
    let (table, node) = (&life.tree.table, &life.tree[at]);
    if cause::is_stopped_by_peer(table, at) {
        sum.add(1, cause::reset_says(table, at).unwrap_or((Code::NONE, "")));
    } else if node.status.send == SendState::Open && (node.place.opener == Opener::Own || node.send.end() > 0) {
        sum.unfinished = sum.unfinished.saturating_add(1);
    }
}

/// The streams of a subtree of which something was sent, or is to be sent, and is not acknowledged; with the position
/// up to which each was written. Takes time in proportion to the subtree.
pub(crate) fn undelivered(life: &Life, top: StreamKey) -> Vec<(StreamKey, u64)> {
    let top = life.tree.find(top).filter(|i| *i != ROOT);
    let all = top.into_iter().flat_map(|top| life.tree.table.subtree(top));
    let pending = all.filter(|at| !is_flushed(&life.tree[*at], u64::MAX));
    pending
        .map(|at| (life.tree.key(at), life.tree[at].send.end()))
        .collect()
}

/// Returns whether a stream has data or an end that is still to be delivered. Takes time in proportion to the number of
/// streams.
pub(crate) fn has_undelivered(life: &Life) -> bool {
    let nodes = (1..life.tree.table.slots()).filter_map(|at| life.tree.table.get(at));
    nodes.into_iter().any(|node| node.status.send.carries_data())
}

/// Ready when everything of a stream up to a position is acknowledged, and its end, if it has one. The application need
/// not hold it.
///
/// # Errors
/// If the channel has ended before.
pub(crate) fn poll_flushed(life: &mut Life, key: StreamKey, end: u64) -> Poll<Result<(), CloseReason>> {
    let Some(index) = life.tree.find(key).filter(|i| *i != ROOT) else {
        // Retired; if that was with the end of the channel, perhaps too early.
        return Poll::Ready(life.failed.as_deref().cloned().map_or(Ok(()), Err));
    };
    let node = &mut life.tree[index];
    if is_flushed(node, end) {
        return Poll::Ready(Ok(()));
    }
    if let Some(reason) = life.failed.as_deref() {
        return Poll::Ready(Err(reason.clone()));
    }
    node.set(Flags::waits_for(Interest::Drained));
    Poll::Pending
}

fn is_flushed(node: &Node, end: u64) -> bool {
    match node.status.send {
        SendState::Open => node.send.acked() >= end.min(node.send.end()),
        SendState::Finishing | SendState::Resetting => false,
        SendState::Done | SendState::Aborted => true,
    }
}

/// Ready when everything sent on a stream that the application holds, the end included, is acknowledged.
///
/// # Errors
/// If it never will be.
pub(crate) fn poll_drained(life: &mut Life, key: StreamKey) -> Poll<Result<(), WriteError>> {
    let index = life.tree.held(key).ok_or(WriteError::Closed)?;
    let state = life.tree[index].status.send;
    if state == SendState::Done {
        return Poll::Ready(Ok(()));
    }
    if cause::is_stopped_by_peer(&life.tree.table, index) {
        return Poll::Ready(Err(cause::write_error(&life.tree.table, index)));
    }
    if state == SendState::Aborted {
        return Poll::Ready(Ok(()));
    }
    pending(life, index, Interest::Drained)
}

/// Ready when everything written was sent at least once.
///
/// # Errors
/// If it never will be.
pub(crate) fn poll_sent(life: &mut Life, key: StreamKey) -> Poll<Result<(), WriteError>> {
    poll_progress(life, key, Interest::Sent, |node| node.send.unsent() == 0)
}

/// Ready when everything written is acknowledged; the direction need not have ended.
///
/// # Errors
/// If it never will be.
pub(crate) fn poll_acknowledged(life: &mut Life, key: StreamKey) -> Poll<Result<(), WriteError>> {
    poll_progress(life, key, Interest::Acknowledged, |node| node.send.is_acked())
}

fn poll_progress(
    life: &mut Life,
    key: StreamKey,
    interest: Interest,
    come: impl FnOnce(&Node) -> bool,
) -> Poll<Result<(), WriteError>> {
    let index = life.tree.held(key).ok_or(WriteError::Closed)?;
    match life.tree[index].status.send {
        SendState::Done => return Poll::Ready(Ok(())),
        SendState::Resetting | SendState::Aborted => {
            return Poll::Ready(Err(cause::write_error(&life.tree.table, index)));
        }
        SendState::Open | SendState::Finishing => {}
    }
    if life.failed.is_none() && come(&life.tree[index]) {
        return Poll::Ready(Ok(()));
    }
    pending(life, index, interest)
}

/// Ready when the peer's application has read everything that was sent, to the end (STR-47).
///
/// # Errors
/// If it never will.
pub(crate) fn poll_consumed(life: &mut Life, key: StreamKey) -> Poll<Result<(), WriteError>> {
    let index = life.tree.held(key).ok_or(WriteError::Closed)?;
    let node = &life.tree[index];
    if node.delivery(Item::Watch) == Delivery::Acked {
        let unread = node.extras.as_ref().and_then(|e| e.watch.unread.as_ref());
        return Poll::Ready(unread.map_or(Ok(()), |ending| Err(unread_error(node, ending))));
    }
    if node.has(Flags::TREE_RESET) || matches!(node.status.send, SendState::Resetting | SendState::Aborted) {
        return Poll::Ready(Err(cause::write_error(&life.tree.table, index)));
    }
    if life.failed.is_none() {
        life.outbox.ask(&mut life.tree.table, index, Item::Watch);
    }
    pending(life, index, Interest::Consumed)
}

/// Returns why the peer's application never will read what it stopped after all had arrived.
fn unread_error(node: &Node, ending: &Ending) -> WriteError {
    let refusal = Refusal::from_code(ending.code).filter(|_| node.place.opener == Opener::Own);
    refusal.map_or_else(|| ending.stopped(), WriteError::Refused)
}

/// The application waits for something of a stream, unless the channel has ended.
fn pending(life: &mut Life, index: u32, interest: Interest) -> Poll<Result<(), WriteError>> {
    if let Some(reason) = life.failed.as_deref() {
        return Poll::Ready(Err(WriteError::Lost(reason.clone())));
    }
    life.tree[index].set(Flags::waits_for(interest));
    Poll::Pending
}
