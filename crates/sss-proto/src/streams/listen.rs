//! Children that the peer opens and the application has not accepted: whether they may wait, and how many (STR-41).
//!
//! An unaccepted stream *burdens* its parent with OPEN_COST, its own bytes that were not read, and the burden of the streams that
//! wait below it. The burden is counted up to the first stream that is not itself unaccepted, so that a peer cannot
//! evade a limit by nesting.

use sss_wire::Code;
use sss_wire::constants::{MAX_DEPTH, OPEN_COST};

use super::Streams;
use super::node::{Flags, ROOT};
use crate::ids::StreamKey;

/// What happens to substreams that the peer opens of a stream until the application accepts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ListenMode {
    /// They are refused.
    Reject,
    /// They wait, as long as they and what the peer sent on them is no more than so many bytes, each counting 256 bytes
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
        self.table[index].rare_mut().listen.mode = mode;
        if self.listen_mode(index) == ListenMode::Reject {
            self.refuse_backlog(index);
        }
    }

    /// The mode in force for children of a stream.
    fn listen_mode(&self, index: u32) -> ListenMode {
        let mut at = index;
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
            self.notify(parent, Flags::WANT_ACCEPT);
        }
    }

    /// The code with which a new child is refused, if it is.
    fn why_refuse(&self, parent: u32) -> Option<Code> {
        let node = &self.table[parent];
        let takes_children = node.has(Flags::HELD) || node.has(Flags::UNACCEPTED);
        if node.has(Flags::TREE_RESET) {
            // STR-44
            self.tree_reset(parent).map(|tree| tree.ending.code)
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
        let mut at = index;
        let mut is_too_much = false;
        let mut burdens = self.table[index].has(Flags::UNACCEPTED);
        if !burdens {
            return;
        }
        while at != ROOT {
            at = self.table[at].place.parent;
            let listen = &mut self.table[at].rare_mut().listen;
            listen.waiting += bytes;
            if burdens {
                listen.burden += bytes;
                let burden = listen.burden;
                is_too_much |= matches!(self.listen_mode(at), ListenMode::Limit(limit) if burden > limit);
                burdens = self.table[at].has(Flags::UNACCEPTED);
            }
        }
        if is_too_much {
            let key = self.table.key(index);
            self.refuse(key, Code::BACKLOG);
        }
    }

    /// Bytes of an unaccepted stream were discarded.
    pub(super) fn lift_burden(&mut self, index: u32, bytes: u64) {
        if self.table[index].has(Flags::UNACCEPTED) {
            self.lift(index, bytes, bytes);
        }
    }

    /// Takes so much from the burden and from what waits above an unaccepted stream.
    fn lift(&mut self, index: u32, burden: u64, waiting: u64) {
        let mut at = index;
        let mut burdens = true;
        while at != ROOT {
            at = self.table[at].place.parent;
            let Some(rare) = self.table[at].rare.as_mut() else {
                return;
            };
            rare.listen.waiting = rare.listen.waiting.saturating_sub(waiting);
            if burdens {
                rare.listen.burden = rare.listen.burden.saturating_sub(burden);
                burdens = self.table[at].has(Flags::UNACCEPTED);
            }
        }
    }

    /// An unaccepted stream is accepted or refused. Returns whether it was unaccepted.
    pub(super) fn take_unaccepted(&mut self, index: u32) -> bool {
        if !self.table[index].has(Flags::UNACCEPTED) {
            return false;
        }
        self.lift(index, self.burden(index), self.own_burden(index));
        self.table[index].clear(Flags::UNACCEPTED);
        true
    }
}

/// What a stream has to do with its unaccepted children.
#[derive(Debug, Default)]
pub(super) struct Listen {
    mode: ListenMode,
    /// The sum of what the unaccepted children burden the stream with, in bytes.
    burden: u64,
    /// The opening costs and unread bytes of all unaccepted streams below.
    waiting: u64,
}

impl Listen {
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }
}

#[cfg(test)]
impl Streams {
    /// Checks each stream's burden, and what waits below it, against what they follow from.
    pub(super) fn check_burdens(&self, what: &str) {
        let mut expected: std::collections::BTreeMap<u32, (u64, u64)> = std::collections::BTreeMap::new();
        for index in 1..self.table.slots() {
            let Some(node) = self.table.get(index).filter(|n| n.has(Flags::UNACCEPTED)) else {
                continue;
            };
            expected.entry(node.place.parent).or_default().0 += self.burden(index);
            let mut at = index;
            while at != ROOT {
                at = self.table[at].place.parent;
                expected.entry(at).or_default().1 += self.own_burden(index);
            }
        }
        for index in 0..self.table.slots() {
            let rare = self.table.get(index).and_then(|n| n.rare.as_ref());
            let listen = rare.map_or((0, 0), |r| (r.listen.burden, r.listen.waiting));
            let expected = expected.get(&index).copied().unwrap_or_default();
            assert_eq!(listen, expected, "{what}: slot {index}");
        }
    }
}
