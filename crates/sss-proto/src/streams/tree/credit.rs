//! Credit of a stream, and what of it is used (STR-17 to STR-20, STR-54).

use sss_wire::constants::STREAM_WINDOW;

use super::node::{Flags, Node};
use crate::streams::flow::gauge::{Gauge, Tuning};

impl Node {
    /// Returns what the peer was granted, what it sent of that, and what of that is out of the way.
    #[inline]
    pub(crate) fn gauge(&self) -> Gauge {
        Gauge {
            limit: self.recv.limit,
            charge: self.recv.received,
            consumed: self.recv.read,
        }
    }

    #[inline]
    pub(crate) fn tuning(&self) -> Option<&Tuning> {
        self.account.as_ref().and_then(|a| a.tuning.as_deref())
    }

    /// Returns what the first window has from the budgets, as long as the stream has that.
    #[inline]
    pub(crate) fn birth(&self) -> u64 {
        if self.has(Flags::BORN) {
            self.recv.limit - STREAM_WINDOW
        } else {
            0
        }
    }

    /// Returns what the window has from the budgets.
    #[inline]
    pub(crate) fn extra(&self) -> u64 {
        self.tuning().map_or_else(|| self.birth(), Tuning::extra)
    }

    /// Forgets the window: nothing more is kept.
    pub(crate) fn end_window(&mut self) {
        self.clear(Flags::BORN);
        if let Some(account) = &mut self.account {
            account.tuning = None;
        }
    }

    /// Returns what its window and that of its openings account have from the budgets.
    pub(crate) fn extra_of_all(&self) -> u64 {
        let openings = self.account.as_ref().and_then(|a| a.backing.tuning());
        self.extra() + openings.map_or(0, Tuning::extra)
    }

    /// Returns what of what an accepted stream borrowed has no window of its own behind it, and was not read.
    pub(crate) fn owed_now(&self) -> u64 {
        if self.tuning().is_some() || self.has(Flags::BORN) || !self.status.recv.holds_data() {
            return 0;
        }
        let end = if self.status.recv.has_size() {
            self.recv.received
        } else {
            self.recv.limit
        };
        end.saturating_sub(self.recv.read).saturating_sub(STREAM_WINDOW)
    }
}
