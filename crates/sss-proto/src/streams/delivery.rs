//! What of a subtree was delivered (STR-51).
//!
//! Streams that the application has finished and let go of still count: if the peer stops one before all has arrived,
//! that is noted at its parent, from where it moves up as streams are retired.

use std::task::Poll;

use sss_wire::Code;

use super::Streams;
use super::life::cause::{self, Ending};
use super::node::{Flags, Node, Opener, ROOT};
use super::state::SendState;
use crate::error::{CloseReason, WriteError};
use crate::ids::StreamKey;
use crate::interest::Interest;

/// What became of everything that this host has sent below a stream.
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

/// Streams that nobody held any more and that were not delivered.
#[derive(Debug)]
pub(super) struct Lost {
    streams: u32,
    first: Ending,
}

impl Streams {
    /// The streams of a subtree of which something was sent, or is to be sent, and is not acknowledged; with the
    /// position up to which each was written. Takes time in proportion to the subtree.
    pub(crate) fn undelivered(&self, top: StreamKey) -> Vec<(StreamKey, u64)> {
        let top = self.table.find(top).filter(|i| *i != ROOT);
        let all = top.into_iter().flat_map(|top| self.table.subtree(top));
        let pending = all.filter(|at| !is_flushed(&self.table[*at], u64::MAX));
        pending
            .map(|at| (self.table.key(at), self.table[at].send.end()))
            .collect()
    }

    /// Whether a stream has data or an end that is still to be delivered. Takes time in proportion to the number of
    /// streams.
    pub(crate) fn has_undelivered(&self) -> bool {
        let nodes = (1..self.table.slots()).filter_map(|at| self.table.get(at));
        nodes.into_iter().any(|node| node.status.send.carries_data())
    }

    /// Ready when everything of a stream up to a position is acknowledged, and its end, if it has one. The application
    /// need not hold it.
    ///
    /// # Errors
    /// If the channel has ended before.
    pub(crate) fn poll_flushed(&mut self, key: StreamKey, end: u64) -> Poll<Result<(), CloseReason>> {
        let Some(index) = self.table.find(key).filter(|i| *i != ROOT) else {
            // Retired; if that was with the end of the channel, perhaps too early.
            return Poll::Ready(self.failed.clone().map_or(Ok(()), Err));
        };
        let node = &mut self.table[index];
        if is_flushed(node, end) {
            return Poll::Ready(Ok(()));
        }
        if let Some(reason) = &self.failed {
            return Poll::Ready(Err(reason.clone()));
        }
        node.set(Flags::waits_for(Interest::Drained));
        Poll::Pending
    }

    /// What is known of the streams below one. Takes time in proportion to their number.
    pub(crate) fn delivery(&self, top: StreamKey) -> Option<SubtreeDelivery> {
        let top = self.table.find(top).filter(|i| *i != ROOT)?;
        let mut sum = SubtreeDelivery::default();
        for at in self.table.subtree(top) {
            let node = &self.table[at];
            if let Some(lost) = node.rare.as_ref().and_then(|r| r.lost.as_deref()) {
                sum.add(lost.streams, (lost.first.code, &lost.first.reason));
            }
            if at != top && node.has(Flags::HELD) {
                self.add_held(at, &mut sum);
            }
        }
        Some(sum)
    }

    fn add_held(&self, at: u32, sum: &mut SubtreeDelivery) {
        let node = &self.table[at];
        if cause::is_stopped_by_peer(&self.table, at) {
            let ending = cause::reset_says(&self.table, at).unwrap_or((Code::NONE, ""));
            sum.add(1, ending);
        } else if node.status.send == SendState::Open && (node.place.opener == Opener::Own || node.send.end() > 0) {
            sum.unfinished = sum.unfinished.saturating_add(1);
        }
    }

    /// The peer has stopped a stream before all of it had arrived.
    pub(super) fn on_stopped(&mut self, index: u32) {
        let node = &mut self.table[index];
        if !node.has(Flags::HELD) && !node.has(Flags::DATAGRAM) {
            let parent = node.place.parent;
            let (code, reason) = cause::reset_says(&self.table, index).unwrap_or((Code::NONE, ""));
            let first = Ending::new(code, reason);
            self.add_lost(parent, Lost { streams: 1, first });
        }
    }

    fn add_lost(&mut self, index: u32, more: Lost) {
        match &mut self.table[index].rare_mut().lost {
            Some(lost) => lost.streams = lost.streams.saturating_add(more.streams),
            none => *none = Some(Box::new(more)),
        }
    }

    /// A stream is about to be retired: what was lost below it is known at its parent from now on.
    pub(super) fn pass_on_losses(&mut self, index: u32) {
        let lost = self.table[index].rare.as_mut().and_then(|r| r.lost.take());
        if let Some(lost) = lost {
            self.add_lost(self.table[index].place.parent, *lost);
        }
        self.notify(index, Interest::Drained);
    }
}

impl SubtreeDelivery {
    fn add(&mut self, streams: u32, (code, reason): (Code, &str)) {
        self.undelivered = self.undelivered.saturating_add(streams);
        self.first.get_or_insert_with(|| (code, reason.to_owned()));
    }
}

fn is_flushed(node: &Node, end: u64) -> bool {
    match node.status.send {
        SendState::Open => node.send.acked() >= end.min(node.send.end()),
        SendState::Finishing | SendState::Resetting => false,
        SendState::Done | SendState::Aborted => true,
    }
}

/// The result of a drain, for streams that the application holds.
impl Streams {
    /// Ready when everything sent, the end included, is acknowledged.
    ///
    /// # Errors
    /// If it never will be.
    pub(crate) fn poll_drained(&mut self, key: StreamKey) -> Poll<Result<(), WriteError>> {
        let index = self.held(key).ok_or(WriteError::Closed)?;
        let state = self.table[index].status.send;
        if state == SendState::Done {
            return Poll::Ready(Ok(()));
        }
        if cause::is_stopped_by_peer(&self.table, index) {
            return Poll::Ready(Err(cause::write_error(&self.table, index)));
        }
        if state == SendState::Aborted {
            return Poll::Ready(Ok(()));
        }
        if let Some(reason) = &self.failed {
            return Poll::Ready(Err(WriteError::Lost(reason.clone())));
        }
        self.table[index].set(Flags::waits_for(Interest::Drained));
        Poll::Pending
    }
}
