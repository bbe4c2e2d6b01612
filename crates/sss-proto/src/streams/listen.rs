//! Children that the peer opens and the application has not accepted: whether they may wait, and how many (STR-41).
//!
//! An unaccepted stream *burdens* its parent with OPEN_COST, its own bytes that were not read, and the burden of the
//! streams that wait below it. The burden is counted up to the first stream that is not itself unaccepted, so that a
//! peer cannot evade a limit by nesting.

use sss_wire::Code;
use sss_wire::constants::{MAX_DEPTH, OPEN_COST};

use super::Streams;
use super::life::cause;
use super::node::{Flags, ROOT};
use super::table::Table;
use crate::ids::StreamKey;
use crate::interest::Interest;

/// What happens to substreams that the peer opens of a stream until the application accepts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ListenMode {
    /// They are refused.
    Reject,
    /// They wait, as long as they and what the peer sent on them is no more than so many bytes, each counting 512 bytes
    /// beside its data; those beyond are refused.
    Limit(u64),
    /// They wait, bounded only by the credit that the peer has.
    Unlimited,
    /// As for the stream's parent; for a top-level stream, as [`Self::Unlimited`].
    #[default]
    Inherit,
}

impl Streams {
    /// Says what happens to children of a stream until they are accepted. Those that wait already are refused by
    /// `Reject`, and stay otherwise.
    pub(crate) fn set_listen_mode(&mut self, key: StreamKey, mode: ListenMode) {
        let Some(index) = self.held(key) else {
            return;
        };
        let before = std::mem::replace(&mut self.table[index].rare_mut().listen.mode, mode);
        self.app.modes += usize::from(mode != ListenMode::Inherit);
        self.app.modes -= usize::from(before != ListenMode::Inherit);
        if self.listen_mode(index) == ListenMode::Reject {
            self.refuse_backlog(index);
        }
    }

    /// The mode in force for children of a stream.
    fn listen_mode(&self, index: u32) -> ListenMode {
        let mut at = if self.app.modes > 0 { index } else { ROOT };
        while at != ROOT {
            match self.table[at].rare.as_ref().map(|r| r.listen.mode) {
                Some(ListenMode::Inherit) | None => at = self.table[at].place.parent,
                Some(mode) => return mode,
            }
        }
        ListenMode::Unlimited
    }

    /// Puts a new stream in its parent's backlog, or refuses it.
    pub(super) fn offer(&mut self, parent: u32, index: u32) {
        if let Some(code) = self.why_refuse(parent) {
            if self.table[parent].has(Flags::TREE_RESET) {
                self.table[index].set(Flags::TREE_RESET);
            }
            self.refuse_at(index, code);
            return;
        }
        self.table[index].set(Flags::UNACCEPTED);
        let key = self.table.key(index);
        if parent == ROOT {
            self.app.incoming.push_back(key);
            self.add_burden(index, OPEN_COST);
            return;
        }
        let mut backlog = std::mem::take(&mut self.table[parent].rare_mut().backlog);
        let table = &self.table;
        backlog.push(key, |k| table.find(k).is_some_and(|i| table[i].has(Flags::UNACCEPTED)));
        self.table[parent].rare_mut().backlog = backlog;
        self.add_burden(index, OPEN_COST);
        if self.table[index].has(Flags::UNACCEPTED) {
            self.notify(parent, Interest::Accept);
        }
    }

    /// The code with which a new child is refused, if it is.
    fn why_refuse(&self, parent: u32) -> Option<Code> {
        let node = &self.table[parent];
        let takes_children = node.has(Flags::HELD) || node.has(Flags::UNACCEPTED);
        if let Some(code) = cause::tree_code(&self.table, parent) {
            Some(code)
        } else if node.place.depth >= MAX_DEPTH {
            Some(Code::TOO_DEEP)
        } else if !takes_children || self.listen_mode(parent) == ListenMode::Reject {
            Some(Code::NO_LISTENER)
        } else {
            None
        }
    }

    /// What an unaccepted stream burdens its parent with.
    fn burden(&self, index: u32) -> u64 {
        let below = self.table[index].rare.as_ref().map_or(0, |r| r.listen.burden);
        self.own_burden(index) + below
    }

    fn own_burden(&self, index: u32) -> u64 {
        OPEN_COST + self.table[index].recv.unread()
    }

    /// Bytes have come for an unaccepted stream; if that is too much for a limit above it, it is refused.
    pub(super) fn add_burden(&mut self, index: u32, bytes: u64) {
        if !self.table[index].has(Flags::UNACCEPTED) {
            return;
        }
        let mut is_too_much = false;
        let mut at = index;
        while let Some(above) = self.table.burdened(at) {
            let listen = &mut self.table[above].rare_mut().listen;
            listen.burden += bytes;
            let burden = listen.burden;
            is_too_much |= matches!(self.listen_mode(above), ListenMode::Limit(limit) if burden > limit);
            at = above;
        }
        if is_too_much {
            let key = self.table.key(index);
            self.refuse(key, Code::BACKLOG);
        }
    }

    /// Bytes of an unaccepted stream were discarded.
    pub(super) fn lift_burden(&mut self, index: u32, bytes: u64) {
        if self.table[index].has(Flags::UNACCEPTED) {
            self.lift(index, bytes);
        }
    }

    /// Takes so much from the burden above an unaccepted stream.
    fn lift(&mut self, index: u32, bytes: u64) {
        let mut at = index;
        while let Some(above) = self.table.burdened(at) {
            let Some(rare) = self.table[above].rare.as_mut() else {
                return;
            };
            rare.listen.burden = rare.listen.burden.saturating_sub(bytes);
            self.table[above].give_back_rare();
            at = above;
        }
    }

    /// An unaccepted stream is accepted or refused. Returns whether it was unaccepted.
    pub(super) fn take_unaccepted(&mut self, index: u32) -> bool {
        if !self.table[index].has(Flags::UNACCEPTED) {
            return false;
        }
        self.lift(index, self.burden(index));
        self.table[index].clear(Flags::UNACCEPTED);
        true
    }
}

impl Table {
    /// The parent of an unaccepted stream, which bears its burden.
    fn burdened(&self, index: u32) -> Option<u32> {
        let node = &self[index];
        (index != ROOT && node.has(Flags::UNACCEPTED)).then_some(node.place.parent)
    }
}

/// What a stream has to do with its unaccepted children.
#[derive(Debug, Default)]
pub(super) struct Listen {
    mode: ListenMode,
    /// The sum of what the unaccepted children burden the stream with, in bytes.
    burden: u64,
}

impl Listen {
    /// Whether it says what happens to children.
    pub(super) fn has_mode(&self) -> bool {
        self.mode != ListenMode::Inherit
    }

    /// Whether nothing of it differs from what a stream begins with.
    pub(super) fn is_unused(&self) -> bool {
        !self.has_mode() && self.burden == 0
    }
}

#[cfg(test)]
impl Streams {
    /// Checks each stream's burden against what it follows from.
    pub(super) fn check_burdens(&self, what: &str) {
        let mut expected: std::collections::BTreeMap<u32, u64> = std::collections::BTreeMap::new();
        for index in 1..self.table.slots() {
            if let Some(node) = self.table.get(index).filter(|n| n.has(Flags::UNACCEPTED)) {
                *expected.entry(node.place.parent).or_default() += self.burden(index);
            }
        }
        for index in 0..self.table.slots() {
            let rare = self.table.get(index).and_then(|n| n.rare.as_ref());
            let burden = rare.map_or(0, |r| r.listen.burden);
            let expected = expected.get(&index).copied().unwrap_or_default();
            assert_eq!(burden, expected, "{what}: slot {index}");
        }
    }
}
