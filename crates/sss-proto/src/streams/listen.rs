//! Children that the peer opens and the application has not accepted: whether they may wait, and how many (STR-41).
//!
//! An unaccepted stream *burdens* its parent with OPEN_COST, its own bytes that were not read, and the burden of the streams that
//! wait below it. The burden is counted up to the first stream that is not itself unaccepted, so that a peer cannot
//! evade a limit by nesting.

use sss_wire::Code;
use sss_wire::constants::{MAX_DEPTH, OPEN_COST};

use super::Streams;
use super::credit::borrowed_of;
use super::node::{Flags, ROOT};
use super::table::Table;
use crate::ids::StreamKey;

/// What happens to substreams that the peer opens of a stream until the application accepts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
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
            self.notify(parent, Flags::WANT_ACCEPT);
        }
    }

    /// The code with which a new child is refused, if it is.
    fn why_refuse(&self, parent: u32) -> Option<Code> {
        let node = &self.table[parent];
        let takes_children = node.has(Flags::HELD) || node.has(Flags::UNACCEPTED);
        if let Some(code) = self.tree_code(parent) {
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
        if self.table[index].place.waits_at == 0 {
            self.table[index].place.waits_at = self.levels_charged(index);
        }
        let mut is_too_much = false;
        let mut climb = Climb::from(&self.table, index);
        while let Some(above) = climb.next(&self.table) {
            let listen = &mut self.table[above.at].rare_mut().listen;
            listen.waiting += if above.is_charged { bytes } else { 0 };
            if above.is_burdened {
                listen.burden += bytes;
                let burden = listen.burden;
                is_too_much |= matches!(self.listen_mode(above.at), ListenMode::Limit(limit) if burden > limit);
            }
        }
        if is_too_much {
            let key = self.table.key(index);
            self.refuse(key, Code::BACKLOG);
        }
    }

    /// How many streams above one that was just opened were charged for that.
    fn levels_charged(&self, index: u32) -> u8 {
        let (mut at, mut amount, mut levels) = (index, OPEN_COST, 0);
        while amount > 0 && at != ROOT {
            at = self.table[at].place.parent;
            amount = borrowed_of(self.table[at].gauge().charge, amount);
            levels += 1;
        }
        levels
    }

    /// Bytes of an unaccepted stream were discarded.
    pub(super) fn lift_burden(&mut self, index: u32, bytes: u64) {
        if self.table[index].has(Flags::UNACCEPTED) {
            self.lift(index, bytes, bytes);
        }
    }

    /// Takes so much from the burden and from what waits above an unaccepted stream.
    fn lift(&mut self, index: u32, burden: u64, waiting: u64) {
        let mut climb = Climb::from(&self.table, index);
        while let Some(above) = climb.next(&self.table) {
            let Some(rare) = self.table[above.at].rare.as_mut() else {
                return;
            };
            let listen = &mut rare.listen;
            listen.waiting = listen
                .waiting
                .saturating_sub(if above.is_charged { waiting } else { 0 });
            listen.burden = listen.burden.saturating_sub(if above.is_burdened { burden } else { 0 });
            self.table[above.at].give_back_rare();
        }
    }

    /// An unaccepted stream is accepted or refused. Returns whether it was unaccepted.
    pub(super) fn take_unaccepted(&mut self, index: u32) -> bool {
        if !self.table[index].has(Flags::UNACCEPTED) {
            return false;
        }
        self.lift(index, self.burden(index), self.own_burden(index));
        let node = &mut self.table[index];
        node.clear(Flags::UNACCEPTED);
        node.place.waits_at = 0;
        true
    }
}

/// A stream above an unaccepted one.
struct Above {
    at: u32,
    /// Whether its charge includes the opening of the unaccepted one.
    is_charged: bool,
    /// Whether the burden counts there.
    is_burdened: bool,
}

/// Goes up from an unaccepted stream as far as what it holds matters. A charge goes no further up than STREAM_BORROW allows, and the
/// burden not beyond the first stream that is not unaccepted itself; so below streams that have been used for long, only the
/// parent is met.
struct Climb {
    at: u32,
    /// How many streams more are charged.
    charged: u8,
    burdens: bool,
}

impl Climb {
    fn from(table: &Table, index: u32) -> Self {
        Self {
            at: index,
            charged: table[index].place.waits_at,
            burdens: true,
        }
    }

    fn next(&mut self, table: &Table) -> Option<Above> {
        if self.at == ROOT {
            return None;
        }
        let is_charged = self.charged > 0;
        self.burdens = self.burdens && table[self.at].has(Flags::UNACCEPTED);
        if !is_charged && !self.burdens {
            return None;
        }
        self.at = table[self.at].place.parent;
        self.charged = self.charged.saturating_sub(1);
        Some(Above {
            at: self.at,
            is_charged,
            is_burdened: self.burdens,
        })
    }
}

/// What a stream has to do with its unaccepted children.
#[derive(Debug, Default)]
pub(super) struct Listen {
    mode: ListenMode,
    /// The sum of what the unaccepted children burden the stream with, in bytes.
    burden: u64,
    /// The opening costs and unread bytes of all unaccepted streams below whose opening was charged here.
    waiting: u64,
}

impl Listen {
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Whether it says what happens to children.
    pub(super) fn has_mode(&self) -> bool {
        self.mode != ListenMode::Inherit
    }

    /// Whether nothing of it differs from what a stream begins with.
    pub(super) fn is_unused(&self) -> bool {
        !self.has_mode() && (self.burden, self.waiting) == (0, 0)
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
            assert!(node.place.waits_at > 0, "{what}: slot {index} burdens nobody");
            expected.entry(node.place.parent).or_default().0 += self.burden(index);
            let mut at = index;
            for _ in 0..node.place.waits_at {
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
