//! Credit for a stream's own data (STR-17 to STR-20): how much of its limits each direction has used. What openings
//! cost is in [`openings`](super::openings).

use sss_wire::Code;
use sss_wire::constants::STREAM_WINDOW;

use super::Streams;
use super::backing::Backing;
use super::frames::delivery::Item;
use super::node::{Flags, Node};
use super::openings::Lending;
use super::windows::{Gauge, Tuning};
use crate::error::ProtocolError;

/// What a stream's credit has to do with others. A stream that never had children, and whose window is that of a new
/// stream, has none.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// What this host has charged to it for openings.
    pub(super) lent: Lending,
    /// What the peer has.
    pub(super) backing: Backing,
    /// What of the borrow its lender has not got back yet.
    pub(super) owed: u32,
    /// Children that are not retired.
    pub(super) children: u32,
    /// Those of them that this host has opened and the peer is not known to know.
    pub(super) unknown: u32,
    /// The window, once it is not that of a new stream.
    tuning: Option<Box<Tuning>>,
}

impl Account {
    pub(super) fn set_tuning(&mut self, tuning: Tuning) {
        match &mut self.tuning {
            Some(present) => **present = tuning,
            none => *none = Some(Box::new(tuning)),
        }
    }
}

impl Node {
    pub(super) fn account_mut(&mut self) -> &mut Account {
        self.account.get_or_insert_default()
    }

    /// What is left of the limit that the peer granted for data.
    pub(super) fn send_room(&self) -> u64 {
        self.send.limit.saturating_sub(self.send.sent)
    }

    /// What the peer was granted, what it sent of that, and what of that is out of the way.
    pub(super) fn gauge(&self) -> Gauge {
        Gauge {
            limit: self.recv.limit,
            charge: self.recv.received,
            consumed: self.recv.read,
        }
    }

    pub(super) fn tuning(&self) -> Option<&Tuning> {
        self.account.as_ref().and_then(|a| a.tuning.as_deref())
    }

    /// Children that are not retired.
    pub(super) fn children(&self) -> u32 {
        self.account.as_ref().map_or(0, |a| a.children)
    }

    /// What the first window has from the budgets, as long as the stream has that.
    pub(super) fn birth(&self) -> u64 {
        if self.has(Flags::BORN) {
            self.recv.limit - STREAM_WINDOW
        } else {
            0
        }
    }

    /// What the window has from the budgets.
    pub(super) fn extra(&self) -> u64 {
        self.tuning().map_or_else(|| self.birth(), Tuning::extra)
    }

    /// What of what an accepted stream borrowed has no window of its own behind it, and was not read.
    pub(super) fn owed_now(&self) -> u64 {
        if self.tuning().is_some() || self.has(Flags::BORN) || !self.status.recv.keeps_data() {
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

impl Streams {
    /// Bytes of a stream have come from the peer (STR-19).
    pub(super) fn check_credit(&mut self, index: u32) -> Result<(), ProtocolError> {
        let gauge = self.table[index].gauge();
        if gauge.charge > gauge.limit {
            return Err(ProtocolError::new(Code::CREDIT_EXCEEDED, "more data than was granted"));
        }
        self.review_credit(index);
        Ok(())
    }

    /// Bytes of a stream were read by the application, or discarded (STR-20).
    pub(super) fn consume(&mut self, index: u32) {
        if self.failed.is_none() {
            self.review_owed(index);
            self.review_credit(index);
        }
    }

    /// Queues CREDIT if the stream's limit is to be raised.
    pub(super) fn review_credit(&mut self, index: u32) {
        let node = &self.table[index];
        let is_ending = node.status.recv.has_size() || !node.status.recv.keeps_data();
        if is_ending || node.is_due(Item::Credit) || node.has(Flags::UNACCEPTED) || node.has(Flags::DATAGRAM) {
            return;
        }
        let left = self.budget_left(index);
        if self.windows.is_due(node.gauge(), node.tuning(), node.birth(), left) {
            self.outbox.put(&mut self.table, index, Item::Credit);
        }
    }

    /// Raises the limit of a stream as far as its window and the budgets go; returns it.
    pub(super) fn grant(&mut self, index: u32) -> u64 {
        let node = &self.table[index];
        let left = self.budget_left(index);
        let is_due = self.windows.is_due(node.gauge(), node.tuning(), node.birth(), left);
        if node.status.recv.has_size() || !is_due {
            return node.recv.limit;
        }
        let before = node.extra();
        if let Some((limit, tuning)) = self.windows.grant(node.gauge(), node.tuning(), node.birth(), left) {
            self.table[index].recv.limit = limit;
            if let Some(tuning) = tuning {
                self.table[index].clear(Flags::BORN);
                self.table[index].account_mut().set_tuning(tuning);
                self.note_window(index, before, tuning.extra());
                self.review_owed(index);
            }
        }
        self.table[index].recv.limit
    }

    /// The window with which this host opens a stream.
    pub(super) fn choose_credit(&mut self, index: u32) {
        let left = self.budget_left(index);
        self.table[index].recv.limit = self.windows.birth(left);
    }

    /// A stream has its first window.
    pub(super) fn note_birth(&mut self, index: u32) {
        let node = &mut self.table[index];
        if node.recv.limit > STREAM_WINDOW {
            node.set(Flags::BORN);
            let extra = node.birth();
            self.windows.note_birth(extra);
            self.note_window(index, 0, extra);
        }
    }

    /// An accepted stream gets its first window: what it borrowed, and more if it may go on, if the budgets have room
    /// for that.
    pub(super) fn back_with_window(&mut self, index: u32) {
        let node = &self.table[index];
        let recv = node.status.recv;
        if !recv.keeps_data() {
            return;
        }
        let borrow = node.recv.limit;
        let left = self.budget_left(index);
        let window = self.windows.birth(left);
        if !recv.has_size() && window > borrow {
            self.table[index].recv.limit = window;
            self.outbox.put(&mut self.table, index, Item::Credit);
            self.note_birth(index);
        } else if window >= borrow {
            self.note_birth(index);
        } else if self.table[index].owed_now() > 0
            && let Some(tuning) = self.windows.back(borrow, left)
        {
            self.table[index].account_mut().set_tuning(tuning);
            self.note_window(index, 0, tuning.extra());
        }
    }

    /// A stream is retired, and its windows with it.
    pub(super) fn give_back_windows(&mut self, index: u32) {
        let node = &self.table[index];
        let openings = node
            .account
            .as_ref()
            .and_then(|a| a.backing.tuning())
            .map_or(0, Tuning::extra);
        let (extra, birth) = (node.extra(), node.birth());
        self.windows.give_back(extra + openings);
        self.windows.end_birth(birth);
        self.note_window(index, extra + openings, 0);
    }
}
