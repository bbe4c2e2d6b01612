//! Measures of one limit: what was granted and used of it, and what the budgets leave for it.

use sss_wire::constants::{STREAM_BORROW, STREAM_WINDOW};

use crate::time::Instant;

/// The window that every stream has, whatever the budgets are (STR-46).
pub(crate) const MIN_WINDOW: u64 = STREAM_WINDOW;

/// This part of the root's openings account is kept for the first bytes of streams (STR-77).
pub(crate) const KEPT: u64 = 4;

/// The window of one stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    pub(crate) window: u64,
    /// Part of it that comes from no budget.
    pub(crate) base: u64,
    /// Distance of the limit from what was consumed when it was raised last.
    pub(crate) granted: u64,
    pub(crate) granted_at: Instant,
}

impl Tuning {
    /// Returns what of the window comes from the budgets.
    pub(crate) fn extra(&self) -> u64 {
        self.window - self.base
    }

    /// The window; a large one is halved while nothing is left for large ones.
    pub(crate) fn as_budgets_ask(&self, left: Left) -> u64 {
        if left.large == 0 {
            (self.window / 2).max(STREAM_BORROW.min(self.window)).max(self.base)
        } else {
            self.window
        }
    }
}

/// Credit of a stream: granted and used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gauge {
    pub(crate) limit: u64,
    pub(crate) charge: u64,
    pub(crate) consumed: u64,
}

/// Bytes by which windows may grow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    /// Those beyond STREAM_BORROW.
    pub(crate) large: u64,
    /// Others.
    pub(crate) small: u64,
}

impl Left {
    pub(crate) const UNLIMITED: Self = Self {
        large: u64::MAX,
        small: u64::MAX,
    };

    /// As this, and within a budget of which so much is spent.
    pub(crate) fn within(self, budget: u64, spent: u64) -> Self {
        let unspent = budget.saturating_sub(spent);
        Self {
            large: self.large.min(unspent.saturating_sub(budget / 4)),
            small: self.small.min(unspent),
        }
    }
}

/// Bytes that the windows of a subtree may have, and have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) limit: u64,
    pub(crate) spent: u64,
}
