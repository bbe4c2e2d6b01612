//! Targets of attempts: whom they are to reach, and where.

use sss_wire::Eid;
use sss_wire::params::Shard;

use crate::route::Route;

/// Somebody to be reached.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) eid: Eid,
    pub(crate) routes: Vec<Route>,
    /// The shard of the peer that has answered, or is to answer, if the peer has several (NEG-42).
    pub(crate) shard: Option<Shard>,
}

impl Target {
    /// The same peer, where no route is known.
    pub(super) fn nowhere(&self) -> Self {
        Self {
            routes: Vec::new(),
            ..*self
        }
    }

    /// Adds routes. Returns whether one was not known before.
    pub(super) fn add_routes(&mut self, hints: impl Iterator<Item = Route>) -> bool {
        let known = self.routes.len();
        for hint in hints {
            if !self.routes.contains(&hint) {
                self.routes.push(hint);
            }
        }
        self.routes.len() > known
    }
}
