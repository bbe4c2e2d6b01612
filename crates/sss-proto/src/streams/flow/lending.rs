//! Charges of this host to a stream for openings (STR-53, STR-59).
//!
//! The sender keeps room for others: what waits for one acceptor is charged at most as much as is still free (dynamic
//! thresholds: Choudhury and Hahne, 1998). Each acceptor is a *line*: a service, the substreams of one stream, or
//! datagrams.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use sss_wire::constants::{OPEN_COST, OPEN_ROOM};

use crate::ids::StreamKey;
use crate::streams::tree::names::Names;

/// This part of an account is for acceptors for whom little waits.
const RESERVE: u64 = 8;
/// This part of what is left of an account an acceptor gets for whom nothing waits.
const SHARE: u64 = 16;
/// A stream that was charged as much has opened many, and will soon open another.
const BUSY: u64 = 64 * OPEN_COST;
/// Acceptors for whom something waits, of which the memory is kept when nothing does any more.
const KEPT: usize = 64;

/// Charges of this host to a stream for openings.
#[derive(Debug)]
pub(crate) struct Lending {
    /// Bytes that the peer grants, in total.
    limit: u64,
    charged: u64,
    /// Those for whom something waits.
    lines: Option<Box<Lines>>,
}

/// Lines in which the streams wait that are charged to one account.
#[derive(Debug, Default)]
struct Lines {
    /// By acceptor, what was charged for streams that are not known to be accepted. Never iterated.
    by_acceptor: HashMap<Acceptor, u64, FixedState>,
    /// Charged for all of them.
    waiting: u64,
    /// Charged for substreams whose parent is not the lender, and that are not known to be accepted.
    nested: u64,
    /// Charged for datagrams, in total, and how much of that the peer says is consumed.
    datagrams: (u64, u64),
}

/// Acceptor of a stream that is not accepted yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Acceptor {
    Service(Arc<Names>),
    Substreams(StreamKey),
    /// Datagrams on a stream. Those of all streams are one line of an account.
    Datagrams(StreamKey),
}

impl Default for Lending {
    fn default() -> Self {
        Self {
            limit: OPEN_ROOM,
            charged: 0,
            lines: None,
        }
    }
}

impl Lines {
    /// Charged for whatever is not accepted, or taken.
    fn all(&self) -> u64 {
        self.waiting + (self.datagrams.0 - self.datagrams.1)
    }
}

impl Lending {
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    pub(crate) fn room(&self) -> u64 {
        self.limit.saturating_sub(self.charged)
    }

    fn waiting(&self, acceptor: &Acceptor) -> u64 {
        let waiting = self.lines.as_ref().and_then(|l| l.by_acceptor.get(acceptor));
        waiting.copied().unwrap_or(0)
    }

    /// Returns what one more opening may cost, so that as much stays free for others as waits for this acceptor, and
    /// something for those for whom nothing waits yet (STR-59).
    pub(crate) fn allowance(&self, acceptor: &Acceptor, is_nested: bool) -> u64 {
        let waiting = match acceptor {
            Acceptor::Datagrams(_) => self.lines.as_ref().map_or(0, |l| l.datagrams.0 - l.datagrams.1),
            _ => self.waiting(acceptor),
        };
        let room = self.room();
        let (nested, all) = self.lines.as_ref().map_or((0, 0), |l| (l.nested, l.all()));
        let held = if is_nested { waiting.max(nested) } else { waiting };
        let reserve = (room + all) / RESERVE;
        match held {
            0 if room > reserve => (room / 2).max(OPEN_COST.min(room)),
            0 => (room / SHARE).max(OPEN_COST.min(room)),
            _ => room.saturating_sub(reserve + held) / 2,
        }
    }

    pub(crate) fn charge(&mut self, acceptor: Acceptor, is_nested: bool, cost: u64) {
        debug_assert!(cost <= self.room(), "an opening beyond the limit");
        self.charged += cost;
        let lines = self.lines.get_or_insert_default();
        match acceptor {
            Acceptor::Datagrams(_) => lines.datagrams.0 += cost,
            acceptor => {
                lines.nested += if is_nested { cost } else { 0 };
                lines.waiting += cost;
                *lines.by_acceptor.entry(acceptor).or_default() += cost;
            }
        }
    }

    /// A stream that was charged does not wait any more.
    pub(crate) fn leave(&mut self, acceptor: &Acceptor, is_nested: bool, cost: u64) {
        let Some(lines) = &mut self.lines else {
            return;
        };
        lines.nested = lines.nested.saturating_sub(if is_nested { cost } else { 0 });
        if let Some(waiting) = lines.by_acceptor.get_mut(acceptor) {
            *waiting = waiting.saturating_sub(cost);
            if *waiting == 0 {
                lines.by_acceptor.remove(acceptor);
            }
            lines.waiting = lines.waiting.saturating_sub(cost);
        }
        self.tidy();
    }

    /// The peer keeps nothing of a stream that was charged, and counts nothing of it.
    pub(crate) fn take_back(&mut self, acceptor: &Acceptor, cost: u64) {
        self.charged = self.charged.saturating_sub(cost);
        if matches!(acceptor, Acceptor::Datagrams(_))
            && let Some(lines) = &mut self.lines
        {
            lines.datagrams.0 = lines.datagrams.0.saturating_sub(cost).max(lines.datagrams.1);
        }
    }

    /// Forgets what is not needed once nothing waits.
    fn tidy(&mut self) {
        let Some(lines) = self.lines.as_mut().filter(|l| l.by_acceptor.is_empty()) else {
            return;
        };
        if lines.datagrams.0 == 0 && self.charged < BUSY {
            self.lines = None;
        } else if lines.by_acceptor.capacity() > KEPT {
            lines.by_acceptor = HashMap::default();
        }
    }

    pub(crate) fn raise(&mut self, limit: u64, datagrams: u64) {
        self.limit = self.limit.max(limit);
        if let Some(lines) = &mut self.lines {
            lines.datagrams.1 = lines.datagrams.1.max(datagrams.min(lines.datagrams.0));
        }
    }
}

#[cfg(test)]
impl Lending {
    pub(crate) fn charged(&self) -> u64 {
        self.charged
    }

    /// Returns what is taken to be charged for streams that wait, and for datagrams.
    pub(crate) fn believed_waiting(&self) -> (u64, u64) {
        let lines = self.lines.as_ref();
        lines.map_or((0, 0), |l| (l.waiting, l.datagrams.0 - l.datagrams.1))
    }

    /// Returns whether nothing is taken to wait.
    pub(crate) fn is_unused(&self) -> bool {
        let waiting = |l: &Lines| (l.by_acceptor.len(), l.waiting, l.nested) == (0, 0, 0);
        self.lines.as_ref().is_none_or(|l| waiting(l))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(index: u32) -> Acceptor {
        Acceptor::Substreams(StreamKey { index, generation: 0 })
    }

    fn datagrams() -> Acceptor {
        Acceptor::Datagrams(StreamKey {
            index: 0,
            generation: 0,
        })
    }

    fn with_limit(limit: u64) -> Lending {
        let mut lending = Lending::default();
        lending.set_limit(limit);
        lending
    }

    // spec: STR-59
    #[test]
    fn as_much_stays_free_for_others_as_waits_for_one() {
        let mut lending = with_limit(8000);
        assert_eq!(
            lending.allowance(&line(1), false),
            4000,
            "half of all, when nothing waits"
        );
        lending.charge(line(1), false, 2000);
        // An eighth of what is free or waits is kept for those for whom nothing waits yet.
        assert_eq!(lending.allowance(&line(1), false), (6000 - 1000 - 2000) / 2);
        assert_eq!(lending.allowance(&line(2), false), 3000);
        assert_eq!(lending.allowance(&datagrams(), false), 3000);
        lending.charge(datagrams(), false, 4000);
        assert_eq!(lending.allowance(&datagrams(), false), 0);
        lending.charge(line(3), false, 1000);
        assert_eq!((lending.room(), lending.charged()), (1000, 7000));
        assert_eq!(
            lending.allowance(&line(4), false),
            OPEN_COST,
            "the reserve is for newcomers"
        );
        assert_eq!(lending.allowance(&line(1), false), 0);
    }

    // spec: STR-59
    #[test]
    fn nested_openings_are_one_line_beside_their_own() {
        let mut lending = with_limit(8000);
        lending.charge(line(1), true, 1000);
        lending.charge(line(2), true, 1000);
        lending.charge(line(3), false, 500);
        let (room, reserve) = (5500, 1000);
        assert_eq!(lending.allowance(&line(1), true), (room - reserve - 2000) / 2);
        assert_eq!(lending.allowance(&line(4), true), (room - reserve - 2000) / 2);
        assert_eq!(lending.allowance(&line(3), false), (room - reserve - 500) / 2);
        lending.leave(&line(1), true, 1000);
        assert_eq!(lending.allowance(&line(4), true), (room - reserve + 125 - 1000) / 2);
        lending.leave(&line(2), true, 1000);
        assert_eq!(lending.allowance(&line(4), true), room / 2);
    }

    #[test]
    fn what_waits_is_known_until_it_leaves() {
        let mut lending = with_limit(1 << 20);
        lending.charge(line(1), false, 600);
        lending.charge(line(1), false, 700);
        lending.charge(datagrams(), false, 100);
        assert_eq!(lending.believed_waiting(), (1300, 100));
        lending.leave(&line(1), false, 600);
        assert_eq!(
            (lending.believed_waiting(), lending.waiting(&line(1))),
            ((700, 100), 700)
        );
        lending.leave(&line(1), false, 700);
        assert_eq!(
            lending.believed_waiting(),
            (0, 100),
            "datagrams are not forgotten with the streams"
        );
        assert!(lending.is_unused() && lending.lines.is_some());
    }

    #[test]
    fn an_account_that_is_little_used_keeps_nothing() {
        let mut lending = with_limit(1 << 20);
        lending.charge(line(1), false, BUSY - 1);
        lending.leave(&line(1), false, BUSY - 1);
        assert!(lending.lines.is_none());
        lending.charge(line(1), false, 1);
        lending.leave(&line(1), false, 1);
        assert!(lending.lines.is_some(), "it will soon be needed again");
    }

    #[test]
    fn memory_of_many_acceptors_is_given_back() {
        let mut lending = with_limit(1 << 30);
        for index in 0..1000 {
            lending.charge(line(index), false, OPEN_COST);
        }
        for index in 0..1000 {
            lending.leave(&line(index), false, OPEN_COST);
        }
        let capacity = lending.lines.as_ref().map_or(0, |l| l.by_acceptor.capacity());
        assert!(capacity <= KEPT, "{capacity}");
        for index in 0..40 {
            lending.charge(line(index), false, OPEN_COST);
        }
        for index in 0..40 {
            lending.leave(&line(index), false, OPEN_COST);
        }
        assert!(
            lending.lines.as_ref().unwrap().by_acceptor.capacity() > 0,
            "that of few is kept"
        );
    }

    #[test]
    fn limits_and_datagrams_taken_only_rise() {
        let mut lending = with_limit(1000);
        lending.charge(datagrams(), false, 300);
        lending.raise(2000, 200);
        assert_eq!((lending.room(), lending.believed_waiting()), (1700, (0, 100)));
        lending.raise(1500, 100);
        assert_eq!((lending.room(), lending.believed_waiting()), (1700, (0, 100)));
        lending.raise(2000, 400);
        assert_eq!(lending.believed_waiting(), (0, 0), "not more than there were");
    }

    #[test]
    fn what_is_taken_back_counts_nowhere() {
        let mut lending = with_limit(1000);
        lending.charge(datagrams(), false, 300);
        lending.raise(1000, 250);
        lending.take_back(&datagrams(), 200);
        assert_eq!((lending.charged(), lending.believed_waiting()), (100, (0, 0)));
        lending.charge(line(1), false, 100);
        lending.take_back(&line(1), 100);
        assert_eq!(lending.charged(), 100);
    }
}
