//! Budgets of receive windows beside that of the peer: of all peers of a host, and of a subtree (STR-45).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::gauge::{Budget, Left};
use crate::config::StreamLimits;
use crate::streams::tree::index::NONE;
use crate::streams::tree::table::Table;

/// Bytes that the windows of all peers of one host have beyond what each stream has anyway, and those of one network.
///
/// It is changed only by calls of the host, one after another, so what each finds follows from the calls before.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostBudget {
    all: Arc<Spent>,
    network: NetworkBudget,
}

#[derive(Debug, Default)]
struct Spent {
    bytes: AtomicU64,
    /// Streams that peers opened.
    streams: AtomicU64,
}

/// Part of the budget of a host that the windows of all peers of one network have.
#[derive(Clone, Debug, Default)]
pub(crate) struct NetworkBudget(Arc<AtomicU64>);

impl HostBudget {
    /// The same, for peers of a network.
    pub(crate) fn of_network(&self, network: NetworkBudget) -> Self {
        let all = self.all.clone();
        Self { all, network }
    }

    /// Returns what of it is spent, and what of that is the network's.
    pub(crate) fn spent(&self) -> (u64, u64) {
        (
            self.all.bytes.load(Ordering::Relaxed),
            self.network.0.load(Ordering::Relaxed),
        )
    }

    pub(crate) fn spend(&self, bytes: u64) {
        self.all.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.network.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.all.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.network.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn streams(&self) -> u64 {
        self.all.streams.load(Ordering::Relaxed)
    }
}

/// The streams that a peer opened, counted for it and for all peers of the host (STR-58).
#[derive(Debug, Default)]
pub(crate) struct PeerStreams {
    limits: StreamLimits,
    count: u64,
    host: HostBudget,
}

impl PeerStreams {
    /// Takes part in the count of a host.
    pub(crate) fn set_host(&mut self, host: HostBudget) {
        host.all.streams.fetch_add(self.count, Ordering::Relaxed);
        let before = std::mem::replace(&mut self.host, host);
        before.all.streams.fetch_sub(self.count, Ordering::Relaxed);
    }

    pub(crate) fn set_limits(&mut self, limits: StreamLimits) {
        self.limits = limits;
    }

    /// Returns whether one more is refused.
    pub(crate) fn are_too_many(&self) -> bool {
        self.count >= self.limits.per_peer || self.host.streams() >= self.limits.per_host
    }

    pub(crate) fn add(&mut self) {
        self.count += 1;
        self.host.all.streams.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove(&mut self) {
        self.count -= 1;
        self.host.all.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
impl PeerStreams {
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

impl Drop for PeerStreams {
    fn drop(&mut self) {
        self.host.all.streams.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// The budgets of subtrees.
#[derive(Debug, Default)]
pub(crate) struct SubtreeBudgets {
    /// The number of streams that have one.
    count: usize,
}

impl SubtreeBudgets {
    /// Gives a stream a budget, or takes it away.
    pub(crate) fn set(&mut self, table: &mut Table, index: u32, limit: Option<u64>) {
        let spent = limit.map_or(0, |_| table.subtree(index).map(|at| table[at].extra_of_all()).sum());
        let budget = &mut table[index].extras_mut().budget;
        let before = std::mem::replace(budget, limit.map(|limit| Budget { limit, spent }));
        self.count = self.count + usize::from(limit.is_some()) - usize::from(before.is_some());
    }

    /// Returns how much the windows of a stream may grow before a budget above it is used up.
    pub(crate) fn left(&self, table: &Table, index: u32) -> Left {
        let mut left = Left::UNLIMITED;
        let mut at = index;
        while self.count > 0 && at != NONE {
            if let Some(budget) = table[at].extras.as_ref().and_then(|e| e.budget) {
                left = left.within(budget.limit, budget.spent);
            }
            at = table[at].place.parent;
        }
        left
    }

    /// The window of a stream has changed.
    pub(crate) fn note(&self, table: &mut Table, index: u32, before: u64, after: u64) {
        let mut at = index;
        while self.count > 0 && at != NONE {
            let node = &mut table[at];
            at = node.place.parent;
            if let Some(budget) = node.extras.as_mut().and_then(|e| e.budget.as_mut()) {
                budget.spent = (budget.spent + after).saturating_sub(before);
            }
        }
    }

    /// A stream is about to be retired.
    pub(crate) fn forget(&mut self, table: &Table, index: u32) {
        let has_one = table[index].extras.as_ref().is_some_and(|e| e.budget.is_some());
        self.count -= usize::from(has_one);
    }
}

#[cfg(test)]
impl SubtreeBudgets {
    pub(crate) fn count(&self) -> usize {
        self.count
    }
}
