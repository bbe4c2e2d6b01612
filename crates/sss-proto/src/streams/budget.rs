//! Budgets of receive windows beside that of the peer: of all peers of a host, and of a subtree (STR-45).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Streams;
use super::node::NONE;
use super::windows::Left;
use crate::config::StreamLimits;
use crate::ids::StreamKey;

/// What the windows of all peers of one host have beyond what each stream has anyway, in bytes.
///
/// It is changed only by calls of the host, one after another, so what each finds follows from the calls before.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostBudget(Arc<Spent>);

#[derive(Debug, Default)]
struct Spent {
    bytes: AtomicU64,
    /// Streams that peers opened.
    streams: AtomicU64,
}

impl HostBudget {
    pub(super) fn spent(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn spend(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, bytes: u64) {
        self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn streams(&self) -> u64 {
        self.0.streams.load(Ordering::Relaxed)
    }
}

/// The streams that a peer opened, counted for it and for all peers of the host (STR-58).
#[derive(Debug, Default)]
pub(super) struct PeerStreams {
    limits: StreamLimits,
    count: u64,
    host: HostBudget,
}

impl PeerStreams {
    /// Takes part in the count of a host, before anything is counted.
    pub(super) fn set_host(&mut self, host: HostBudget) {
        self.host = host;
    }

    fn are_too_many(&self) -> bool {
        self.count >= self.limits.per_peer || self.host.streams() >= self.limits.per_host
    }

    pub(super) fn add(&mut self) {
        self.count += 1;
        self.host.0.streams.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove(&mut self) {
        self.count -= 1;
        self.host.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
impl PeerStreams {
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

impl Drop for PeerStreams {
    fn drop(&mut self) {
        self.host.0.streams.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// What the windows of a subtree may have, and have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    limit: u64,
    spent: u64,
}

impl Streams {
    /// Shares the budget of the host.
    pub(crate) fn share_budget(&mut self, budget: HostBudget) {
        self.windows.set_host(budget);
    }

    /// How many streams the peer may open.
    pub(crate) fn set_limits(&mut self, limits: StreamLimits) {
        self.windows.streams.limits = limits;
    }

    /// Whether one more stream of the peer is refused.
    pub(super) fn has_too_many(&self) -> bool {
        self.windows.streams.are_too_many()
    }

    /// Limits what the receive windows of a stream and all streams below it may have beyond 4096 bytes each, in bytes;
    /// `None`: they are not limited any more. Windows that are larger already shrink as they are used.
    pub(crate) fn set_budget(&mut self, key: StreamKey, bytes: Option<u64>) {
        let Some(index) = self.held(key) else {
            return;
        };
        let extra = |at: u32| {
            let node = &self.table[at];
            let openings = node.account.as_ref().and_then(|a| a.backing.tuning());
            node.extra() + openings.map_or(0, |t| t.extra())
        };
        let spent = bytes.map_or(0, |_| self.table.subtree(index).map(extra).sum());
        let rare = self.table[index].rare_mut();
        let before = rare.budget.is_some();
        rare.budget = bytes.map(|limit| Budget { limit, spent });
        self.windows.budgets = self.windows.budgets + usize::from(bytes.is_some()) - usize::from(before);
    }

    /// How much the windows of a stream may grow before a budget above it is used up.
    pub(super) fn budget_left(&self, index: u32) -> Left {
        let mut left = Left::UNLIMITED;
        let mut at = index;
        while self.windows.budgets > 0 && at != NONE {
            if let Some(budget) = self.table[at].budget() {
                left = left.within(budget.limit, budget.spent);
            }
            at = self.table[at].place.parent;
        }
        left
    }

    /// The window of a stream has changed.
    pub(super) fn note_window(&mut self, index: u32, before: u64, after: u64) {
        let mut at = index;
        while self.windows.budgets > 0 && at != NONE {
            let node = &mut self.table[at];
            at = node.place.parent;
            if let Some(budget) = node.rare.as_mut().and_then(|r| r.budget.as_mut()) {
                budget.spent = (budget.spent + after).saturating_sub(before);
            }
        }
    }
}
