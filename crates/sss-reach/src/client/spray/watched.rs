//! Peers to which a relay may carry, and when that is looked at.

use std::collections::{BTreeMap, BTreeSet};

use sss_proto::{Instant, PeerId};

/// Peers that are watched, at most.
const MAX_WATCHED: usize = 4096;

/// The peers, by the time at which they are looked at.
#[derive(Debug, Default)]
pub(super) struct Watched {
    due: BTreeSet<(Instant, PeerId)>,
    at: BTreeMap<PeerId, Instant>,
}

impl Watched {
    /// Looks at a peer at that time, unless it is watched already, or too many are.
    pub(super) fn add(&mut self, at: Instant, peer: PeerId) {
        if self.at.len() < MAX_WATCHED && !self.at.contains_key(&peer) {
            self.at.insert(peer, at);
            self.due.insert((at, peer));
        }
    }

    /// The same in place of the time at which it was to be looked at.
    pub(super) fn put_off(&mut self, at: Instant, peer: PeerId) {
        if let Some(before) = self.at.remove(&peer) {
            self.due.remove(&(before, peer));
        }
        self.add(at, peer);
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes a peer that is to be looked at now.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<PeerId> {
        let (at, peer) = *self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.remove(&(at, peer));
        self.at.remove(&peer);
        Some(peer)
    }
}
