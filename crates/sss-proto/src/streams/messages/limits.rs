//! Bounds of the datagrams of one peer's streams, and room for those that wait without credit.

use std::time::Duration;

use sss_wire::constants::MAX_MESSAGE;

use super::mailbox::Mailbox;
use crate::channel::Outlook;
use crate::config::WindowConfig;
use crate::rare::Rare;
use crate::streams::flow::Flow;
use crate::time::Span;

/// Time that packets take to the peer, as long as nothing is known: half of the initial round-trip time (REC-1).
const INITIAL_ONE_WAY: Duration = Duration::from_millis(166);
/// Bytes of stateless datagrams, with their costs, that wait on one stream at most.
const STREAM_QUEUE: usize = 2 << 20;
/// Bytes of stateless datagrams, with their costs, that wait on all streams of a peer at most.
const PEER_QUEUE: usize = 4 << 20;
/// Bytes of them that wait on one stream at most where the budgets have something left: what comes in the time in which
/// the system lets others run, a few milliseconds, on a path of gigabytes a second.
const BURST_QUEUE: u64 = 16 << 20;
/// Cost of a datagram of the peer that waits for the application, beside its bytes (STR-37, STR-39).
pub(super) const QUEUE_COST: usize = 128;

/// Bounds of datagrams.
#[derive(Debug)]
pub(super) struct Limits {
    /// Largest datagram that the peer takes, once it has said so.
    pub(super) peer_max: Option<u64>,
    /// Largest datagram that this host takes.
    pub(super) own_max: u64,
    /// Bytes beyond what they borrow that all datagram streams of the peer may have, and bursts of stateless datagrams.
    pub(super) budget: u64,
    /// Part of it that is used.
    pub(super) spent: u64,
    /// Bytes of stateless datagrams that wait and have room of their own, with their costs, on all streams.
    pub(super) stateless: usize,
    /// The channel's rate of loss, in parts of 65536.
    pub(super) loss: u32,
    /// Time that packets take to the peer.
    pub(super) one_way: Span,
    /// Bytes that may leave from now on, once that is known.
    pub(super) outlook: Rare<Outlook>,
}

impl Limits {
    pub(super) fn new(config: &WindowConfig) -> Self {
        let own_max = config.max_message.min(MAX_MESSAGE);
        Self {
            peer_max: None,
            own_max,
            budget: config.datagram_budget.max(own_max),
            spent: 0,
            stateless: 0,
            loss: 0,
            one_way: INITIAL_ONE_WAY.into(),
            outlook: Rare::new(),
        }
    }

    /// Takes room for a stateless datagram of `len` bytes on a stream. Returns what it has of the budget; `None`: there
    /// is no room (STR-39).
    pub(super) fn reserve(&mut self, mailbox: &mut Mailbox, flow: &mut Flow, len: usize) -> Option<u64> {
        let cost = len.saturating_add(QUEUE_COST);
        let waiting = (mailbox.stateless + cost, self.stateless + cost);
        // As much stays free for the streams that have none as waits on this one.
        if waiting.0 <= STREAM_QUEUE.min(PEER_QUEUE.saturating_sub(waiting.1)) {
            (mailbox.stateless, self.stateless) = waiting;
            return Some(0);
        }
        let cost = cost as u64;
        if !self.may_burst(mailbox, cost) || !flow.windows.lend_small(cost) {
            return None;
        }
        mailbox.burst += cost;
        self.spent += cost;
        Some(cost)
    }

    /// Returns whether so many bytes more of the budget may wait on a stream, in stateless datagrams for which there is
    /// no room of their own. What is left of it is no less than what waits there, beside the largest datagram (STR-38).
    fn may_burst(&self, mailbox: &Mailbox, more: u64) -> bool {
        let (waiting, spent) = (mailbox.burst + more, self.spent.saturating_add(more));
        let left = self.budget.saturating_sub(self.own_max).saturating_sub(spent);
        waiting <= BURST_QUEUE.min(left)
    }

    /// Gives back the room of a stateless datagram by its length, and what it has of the budget.
    pub(super) fn release(&mut self, mailbox: &mut Mailbox, flow: &mut Flow, (len, granted): (usize, u64)) {
        if granted == 0 {
            let cost = len.saturating_add(QUEUE_COST);
            mailbox.stateless = mailbox.stateless.saturating_sub(cost);
            self.stateless = self.stateless.saturating_sub(cost);
        } else {
            mailbox.burst = mailbox.burst.saturating_sub(granted);
            self.spent = self.spent.saturating_sub(granted);
            flow.windows.take_back_small(granted);
        }
    }
}
