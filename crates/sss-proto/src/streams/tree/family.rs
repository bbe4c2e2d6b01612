//! Parents and children: lists through the streams themselves, so that a subtree is walked in time in proportion to its
//! size.
//!
//! Children are linked in both directions, the youngest first.

use crate::streams::tree::index::NONE;
use crate::streams::tree::node::{Flags, Node, Opener};
use crate::streams::tree::table::Table;

/// A stream's neighbours in the lists of the tree; each a slot, or NONE.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Siblings {
    first_child: u32,
    next: u32,
    previous: u32,
}

impl Siblings {
    /// Of a stream that is in no list.
    pub(crate) const ALONE: Self = Self {
        first_child: NONE,
        next: NONE,
        previous: NONE,
    };
}

impl Node {
    /// Returns whether this host has opened it, and the peer is not known to know it, but will or may.
    fn is_unknown(&self) -> bool {
        let is_forgotten = self.has(Flags::TREE_RESET) && !self.has(Flags::ANNOUNCED);
        self.place.opener == Opener::Own && !self.is_known() && !is_forgotten
    }
}

impl Table {
    /// Puts a stream that was just inserted in its parent's list.
    pub(crate) fn adopt(&mut self, child: u32) {
        let parent = self[child].place.parent;
        let next = std::mem::replace(&mut self[parent].place.siblings.first_child, child);
        let is_unknown = self[child].is_unknown();
        let account = self[parent].account_mut();
        account.children += 1;
        account.unknown += u32::from(is_unknown);
        self[child].place.siblings.next = next;
        if next != NONE {
            self[next].place.siblings.previous = child;
        }
    }

    /// Takes a stream, which is still there, out of its parent's list.
    pub(crate) fn disown(&mut self, child: u32) {
        let parent = self[child].place.parent;
        let Siblings { next, previous, .. } = self[child].place.siblings;
        self[parent].account_mut().children -= 1;
        if self[child].is_unknown() {
            self.note_known(parent);
        }
        match previous {
            NONE => self[parent].place.siblings.first_child = next,
            previous => self[previous].place.siblings.next = next,
        }
        if next != NONE {
            self[next].place.siblings.previous = previous;
        }
    }

    /// The peer knows a child that it was not known to know, or will never hear of it.
    pub(crate) fn note_known(&mut self, parent: u32) {
        let account = self[parent].account_mut();
        account.unknown = account.unknown.saturating_sub(1);
    }

    /// The stream that comes after `at` when the subtree of `top` is walked, parents before their children.
    pub(crate) fn next_in(&self, top: u32, at: u32) -> Option<u32> {
        match self[at].place.siblings.first_child {
            NONE => self.next_beyond(top, at),
            child => Some(child),
        }
    }

    /// As [`Self::next_in`], leaving out what is below `at`.
    pub(crate) fn next_beyond(&self, top: u32, at: u32) -> Option<u32> {
        let mut at = at;
        while at != top {
            match self[at].place.siblings.next {
                NONE => at = self[at].place.parent,
                next => return Some(next),
            }
        }
        None
    }

    /// A stream and all streams below it, parents before their children.
    pub(crate) fn subtree(&self, top: u32) -> impl Iterator<Item = u32> {
        std::iter::successors(Some(top), move |at| self.next_in(top, *at))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::streams::tree::index::ROOT;
    use crate::streams::tree::node::{Node, Opener};

    fn node(parent: u32) -> Node {
        Node::new(parent, 1, Opener::Own, None)
    }

    #[test]
    fn random_families_are_walked_completely() {
        for seed in 0..50 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut table = Table::default();
            table.insert(node(NONE));
            let mut parents: BTreeMap<u32, u32> = BTreeMap::new();
            for _ in 0..300 {
                let any = |rng: &mut StdRng| parents.keys().nth(rng.random_range(0..parents.len().max(1))).copied();
                if parents.is_empty() || rng.random_ratio(3, 5) {
                    let parent = any(&mut rng).unwrap_or(ROOT);
                    let child = table.insert(node(parent)).index;
                    table.adopt(child);
                    parents.insert(child, parent);
                } else if let Some(at) = any(&mut rng)
                    && table[at].children() == 0
                {
                    table.disown(at);
                    table.remove(at);
                    parents.remove(&at);
                }
            }
            for top in parents.keys().copied().chain([ROOT]) {
                let is_below = |mut at: u32| {
                    while at != top && at != ROOT {
                        at = parents[&at];
                    }
                    at == top
                };
                let expected: BTreeSet<u32> = parents.keys().copied().chain([ROOT]).filter(|i| is_below(*i)).collect();
                let walked: Vec<u32> = table.subtree(top).collect();
                assert_eq!(walked.len(), expected.len(), "seed {seed}");
                assert_eq!(walked.iter().copied().collect::<BTreeSet<_>>(), expected, "seed {seed}");
                let mut seen = BTreeSet::new();
                for at in walked {
                    assert!(at == top || seen.contains(&table[at].place.parent), "seed {seed}");
                    seen.insert(at);
                }
            }
        }
    }
}
