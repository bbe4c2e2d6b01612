//! The names under which datagrams for a peer arrive, and what the host knows of them.

use sss_wire::ChannelId;

use crate::ids::TreeId;

/// A name under which datagrams for a peer arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// A negotiation that this host began.
    Attempt([u8; 8]),
    /// An id on which this host receives.
    Channel(ChannelId),
    /// The peer's token for a stateless reset.
    ResetToken([u8; 16]),
    /// The tree.
    Tree(TreeId),
}

/// The names that a peer had, and has now.
pub(crate) struct NameChange {
    pub(crate) old: Vec<Name>,
    pub(crate) new: Vec<Name>,
}

/// The names of a peer as its host knows them.
#[derive(Default)]
pub(super) struct Names {
    registered: Vec<Name>,
    is_outdated: bool,
}

impl Names {
    /// Notes that the names may be others now.
    pub(super) fn set_outdated(&mut self) {
        self.is_outdated = true;
    }

    /// Returns whether the names may be others than those registered.
    pub(super) fn is_outdated(&self) -> bool {
        self.is_outdated
    }

    /// Registers the present names; returns what has changed, if anything has.
    pub(super) fn register(&mut self, new: Vec<Name>) -> Option<NameChange> {
        self.is_outdated = false;
        let old = std::mem::replace(&mut self.registered, new.clone());
        (old != new).then_some(NameChange { old, new })
    }
}
