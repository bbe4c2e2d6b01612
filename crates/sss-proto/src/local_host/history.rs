//! Memory of negotiations whose channels are over, for as long as late packets may come.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sss_wire::constants::{COOKIE_KEY_LIFE, HELLO_TIMEOUT};
use sss_wire::params::MAX_ACCEPTED;
use sss_wire::{Code, Eid};

use super::saved_paths::SavedPaths;
use crate::ids::TreeId;
use crate::time::Instant;

/// Entries of each kind, at most; the oldest go first.
const MAX_ENTRIES: usize = 4096;

/// An attempt of a peer that this host accepted and heard no more of.
struct Unconfirmed {
    eid: Eid,
    attempt: [u8; 8],
    /// The first attempt of its row, if that is void (NEG-25).
    void: Option<[u8; 8]>,
    /// The tree that began with it.
    tree: TreeId,
    at: Instant,
    /// Code and text with which this host has ended the channel.
    end: Option<(Code, String)>,
}

/// A tree that this host has ended; whether the peer heard of it is not known.
pub(crate) struct EndedTree {
    pub(crate) eid: Eid,
    pub(crate) tree: TreeId,
    pub(crate) at: Instant,
    pub(crate) end: (Code, String),
}

/// Bounded in number and in time.
#[derive(Default)]
pub(crate) struct History {
    /// Knowledge of the paths to peers (REC-15).
    pub(crate) saved_paths: SavedPaths,
    unconfirmed: VecDeque<Unconfirmed>,
    ended: VecDeque<EndedTree>,
    /// The time when this host last made a channel to a peer as its initiator.
    initiated: HashMap<Eid, Instant, RandomState>,
    order: VecDeque<(Instant, Eid)>,
}

impl History {
    /// An INITIATE for a new tree was accepted (NEG-21). `void` is the first attempt of its row, if that is void.
    pub(crate) fn note_accepted(
        &mut self,
        now: Instant,
        eid: Eid,
        (attempt, void): ([u8; 8], Option<[u8; 8]>),
        tree: TreeId,
    ) {
        let horizon = now - 2 * HELLO_TIMEOUT;
        let is_old = |u: &Unconfirmed| u.at < horizon;
        while self.unconfirmed.front().is_some_and(is_old) || self.unconfirmed.len() >= MAX_ENTRIES {
            self.unconfirmed.pop_front();
        }
        self.unconfirmed.push_back(Unconfirmed {
            eid,
            attempt,
            void,
            tree,
            at: now,
            end: None,
        });
    }

    /// The initiator of a tree is known to have ACCEPT.
    pub(crate) fn confirm(&mut self, tree: &TreeId) {
        if let Some(at) = self.unconfirmed.iter().rposition(|u| u.tree == *tree) {
            self.unconfirmed.remove(at);
        }
    }

    /// This host has ended a channel, and the initiator does not know that it was accepted (NEG-23).
    pub(crate) fn note_end(&mut self, attempt: &[u8; 8], end: (Code, String)) {
        let entry = self.unconfirmed.iter_mut().rfind(|u| u.attempt == *attempt);
        if let Some(entry) = entry {
            entry.end = Some(end);
        }
    }

    /// Returns how this host has ended the channel of an attempt.
    pub(crate) fn end_of(&self, now: Instant, eid: &Eid, attempt: &[u8; 8]) -> Option<(Code, String)> {
        self.unconfirmed(now, eid, attempt)?.end.clone()
    }

    /// The tree that began with an attempt whose initiator may not know that it was accepted (NEG-25).
    pub(crate) fn tree_of(&self, now: Instant, eid: &Eid, attempt: &[u8; 8]) -> Option<TreeId> {
        Some(self.unconfirmed(now, eid, attempt)?.tree)
    }

    /// The tree that began with a later attempt of the row whose first is void, if its initiator may not know that it
    /// was accepted (NEG-25).
    pub(crate) fn tree_of_row(&self, now: Instant, eid: &Eid, void: &[u8; 8]) -> Option<TreeId> {
        let horizon = now - 2 * HELLO_TIMEOUT;
        let mut latest = self.unconfirmed.iter().rev();
        let later = latest.find(|u| u.void.as_ref() == Some(void) && u.eid == *eid && u.at >= horizon)?;
        Some(later.tree)
    }

    fn unconfirmed(&self, now: Instant, eid: &Eid, attempt: &[u8; 8]) -> Option<&Unconfirmed> {
        let horizon = now - 2 * HELLO_TIMEOUT;
        let mut latest = self.unconfirmed.iter().rev();
        latest.find(|u| u.attempt == *attempt && u.eid == *eid && u.at >= horizon)
    }

    /// This host has ended a tree (MIG-21).
    pub(crate) fn note_tree_end(&mut self, ended: EndedTree) {
        let horizon = ended.at - 2 * HELLO_TIMEOUT;
        while self.ended.front().is_some_and(|e| e.at < horizon) || self.ended.len() >= MAX_ENTRIES {
            self.ended.pop_front();
        }
        self.ended.push_back(ended);
    }

    /// Returns how this host has ended a tree.
    pub(crate) fn end_of_tree(&self, now: Instant, eid: &Eid, tree: &TreeId) -> Option<(Code, String)> {
        let horizon = now - 2 * HELLO_TIMEOUT;
        let mut latest = self.ended.iter().rev();
        let entry = latest.find(|e| e.tree == *tree && e.eid == *eid && e.at >= horizon)?;
        Some(entry.end.clone())
    }

    /// The latest attempts of a peer that were accepted and not confirmed.
    pub(crate) fn accepted_from(&self, now: Instant, eid: &Eid) -> Vec<[u8; 8]> {
        let horizon = now - 2 * HELLO_TIMEOUT;
        let of_peer = self
            .unconfirmed
            .iter()
            .rev()
            .filter(|u| u.eid == *eid && u.at >= horizon);
        of_peer.take(MAX_ACCEPTED).map(|u| u.attempt).collect()
    }

    /// This host, as the initiator, has made a channel to a peer (NEG-20).
    pub(crate) fn note_initiated(&mut self, now: Instant, eid: Eid) {
        let horizon = now - 2 * COOKIE_KEY_LIFE;
        while let Some((at, old)) = self.order.front().copied()
            && (at < horizon || self.order.len() >= MAX_ENTRIES)
        {
            self.order.pop_front();
            if self.initiated.get(&old) == Some(&at) {
                self.initiated.remove(&old);
            }
        }
        self.initiated.insert(eid, now);
        self.order.push_back((now, eid));
    }

    /// Returns whether this host has made a channel to the peer since `moment`, as its initiator.
    pub(crate) fn has_initiated_since(&self, eid: &Eid, moment: Instant) -> bool {
        self.initiated.get(eid).is_some_and(|at| *at > moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Instant {
        Instant::from_nanos(s * 1_000_000_000)
    }

    fn eid(n: u8) -> Eid {
        Eid::from_public_key(&[n; 32])
    }

    // spec: NEG-21
    #[test]
    fn attempts_are_told_until_they_are_confirmed_or_old() {
        let mut history = History::default();
        for n in 0..20 {
            history.note_accepted(at(0), eid(1), ([n; 8], None), [n; 16]);
        }
        history.note_accepted(at(0), eid(2), ([99; 8], None), [99; 16]);
        history.confirm(&[19; 16]);
        let told = history.accepted_from(at(1), &eid(1));
        assert_eq!(told.len(), 16);
        assert_eq!((told[0], told[15]), ([18; 8], [3; 8]));
        assert_eq!(history.accepted_from(at(1), &eid(2)), [[99; 8]]);
        assert!(history.accepted_from(at(121), &eid(2)).is_empty());
    }

    // spec: NEG-25
    #[test]
    fn the_tree_of_an_attempt_is_known_to_its_initiator_until_it_is_confirmed_or_old() {
        let mut history = History::default();
        history.note_accepted(at(0), eid(1), ([1; 8], None), [11; 16]);
        history.note_accepted(at(0), eid(1), ([2; 8], None), [12; 16]);
        assert_eq!(history.tree_of(at(120), &eid(1), &[1; 8]), Some([11; 16]));
        assert_eq!(history.tree_of(at(1), &eid(2), &[1; 8]), None, "another's");
        assert_eq!(history.tree_of(at(121), &eid(1), &[1; 8]), None, "old");
        history.confirm(&[11; 16]);
        assert_eq!(history.tree_of(at(1), &eid(1), &[1; 8]), None);
        assert_eq!(history.tree_of(at(1), &eid(1), &[2; 8]), Some([12; 16]));
        // Of a row of which the first is void, the latest counts.
        for n in [3, 4] {
            history.note_accepted(at(2), eid(1), ([n; 8], Some([9; 8])), [n; 16]);
        }
        assert_eq!(history.tree_of_row(at(3), &eid(1), &[9; 8]), Some([4; 16]));
        assert_eq!(history.tree_of_row(at(3), &eid(2), &[9; 8]), None, "another's");
        assert_eq!(history.tree_of_row(at(123), &eid(1), &[9; 8]), None, "old");
        history.confirm(&[4; 16]);
        assert_eq!(history.tree_of_row(at(3), &eid(1), &[9; 8]), Some([3; 16]));
    }

    #[test]
    fn memory_is_bounded() {
        let mut history = History::default();
        for n in 0..3 * MAX_ENTRIES {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            let eid = Eid::from_public_key(&key);
            history.note_accepted(at(0), eid, (n.to_be_bytes(), None), [0; 16]);
            history.note_initiated(at(0), eid);
            history.note_tree_end(EndedTree {
                eid,
                tree: [0; 16],
                at: at(0),
                end: (Code::NONE, String::new()),
            });
        }
        assert_eq!(
            (history.unconfirmed.len(), history.ended.len()),
            (MAX_ENTRIES, MAX_ENTRIES)
        );
        assert_eq!(
            (history.initiated.len(), history.order.len()),
            (MAX_ENTRIES, MAX_ENTRIES)
        );
    }

    // spec: NEG-20
    #[test]
    fn channels_of_this_host_are_remembered() {
        let mut history = History::default();
        history.note_initiated(at(5), eid(1));
        assert!(history.has_initiated_since(&eid(1), at(4)));
        assert!(!history.has_initiated_since(&eid(1), at(5)));
        history.note_initiated(at(500), eid(2));
        assert!(!history.has_initiated_since(&eid(1), at(4)));
    }
}
