//! Hosts that had a lease, and when they were heard of.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sss_proto::Instant;
use sss_wire::Eid;

/// Hosts remembered after their lease is over, at most.
const MAX_GONE: usize = 65_536;

/// Hosts that had a lease: a fixed number, the latest.
#[derive(Default)]
pub(super) struct Gone {
    since: HashMap<Eid, Instant, RandomState>,
    order: VecDeque<Eid>,
}

impl Gone {
    pub(super) fn since(&self, eid: &Eid) -> Option<Instant> {
        self.since.get(eid).copied()
    }

    pub(super) fn note(&mut self, eid: Eid, heard: Instant) {
        if self.since.insert(eid, heard).is_none() {
            self.order.push_back(eid);
        }
        while self.order.len() > MAX_GONE {
            if let Some(oldest) = self.order.pop_front() {
                self.since.remove(&oldest);
            }
        }
    }

    /// The host is back. Its place in the order goes when its turn comes.
    pub(super) fn forget(&mut self, eid: &Eid) {
        self.since.remove(eid);
    }
}
