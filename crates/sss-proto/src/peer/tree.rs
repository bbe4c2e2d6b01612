//! The tree of streams that two hosts share (MIG-1): its name, and whether it lives.

use sss_wire::constants::HELLO_TIMEOUT;
use sss_wire::params::MAX_OTHER_TREES;

use crate::error::CloseReason;
use crate::ids::TreeId;
use crate::time::Instant;

/// The tree that is shared with a peer.
#[derive(Default)]
pub(crate) struct SharedTree {
    /// Once a channel of it was established (MIG-1).
    id: Option<TreeId>,
    /// The time when its first channel was established.
    began: Instant,
    /// The peer is known to know it (MIG-11).
    is_confirmed: bool,
    ended: Option<Box<CloseReason>>,
    /// Trees shared with the same host that were there when this one was begun (NEG-20).
    others: Vec<TreeId>,
}

impl SharedTree {
    /// A tree that is begun beside others.
    pub(super) fn beside(others: Vec<TreeId>) -> Self {
        Self {
            others,
            ..Self::default()
        }
    }

    /// The tree's name, once a channel of it was established.
    pub(crate) fn id(&self) -> Option<TreeId> {
        self.id
    }

    /// The tree's name while the peer may ask for it.
    pub(super) fn live_id(&self) -> Option<TreeId> {
        self.id.filter(|_| self.ended.is_none())
    }

    /// The time when its first channel was established, if one was.
    pub(crate) fn began(&self) -> Option<Instant> {
        self.id.map(|_| self.began)
    }

    /// The trees that were shared with the same host when this one was begun (NEG-20).
    pub(super) fn others(&self) -> &[TreeId] {
        &self.others
    }

    /// The latest trees shared with the peer's host, this one included.
    pub(crate) fn latest(&self) -> Vec<TreeId> {
        let all = self.id.into_iter().chain(self.others.iter().copied());
        all.take(MAX_OTHER_TREES).collect()
    }

    /// Returns whether it is one of these.
    pub(crate) fn is_among(&self, trees: &[TreeId]) -> bool {
        self.id.is_some_and(|id| trees.contains(&id))
    }

    /// Returns whether no stream can be opened any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Returns why it has ended, if it has.
    pub(crate) fn close_reason(&self) -> Option<&CloseReason> {
        self.ended.as_deref()
    }

    /// A channel of the tree is established. Returns whether it is the first.
    pub(super) fn begin(&mut self, now: Instant, id: TreeId) -> bool {
        let is_first = self.id.is_none();
        if is_first {
            self.began = now;
        }
        self.id = Some(id);
        is_first
    }

    /// The peer is known to know the tree.
    pub(super) fn confirm(&mut self) {
        self.is_confirmed = true;
    }

    /// Ends the tree. To be called once.
    pub(super) fn end(&mut self, reason: CloseReason) {
        debug_assert!(self.ended.is_none());
        self.ended = Some(Box::new(reason));
    }

    /// Returns when this host may ask for another channel of the tree at the earliest (MIG-11). `None`: there is no
    /// tree to ask for.
    pub(super) fn more_from(&self) -> Option<Instant> {
        self.live_id()?;
        Some(if self.is_confirmed {
            Instant::default()
        } else {
            self.began + HELLO_TIMEOUT
        })
    }
}

#[cfg(test)]
impl SharedTree {
    /// Makes it ask for another tree.
    pub(super) fn rename(&mut self, id: TreeId) {
        self.id = Some(id);
    }
}
