//! Results of guessing ports, for applications.

use std::time::Duration;

use sss_wire::reach::spray::{Mapping, Verdict};

use super::attempt::MAX_SOCKETS;

/// Result of guessing ports with a peer (RCH-29).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SprayReport {
    /// This host's part.
    pub role: Option<SprayRole>,
    /// Knowledge of this host's NAT.
    pub own: Mapping,
    /// Knowledge that the peer has of its own.
    pub theirs: Mapping,
    /// Sockets that were open for it, at whichever of the two.
    pub sockets: usize,
    /// PUNCHes that this host has sent.
    pub sent: usize,
    /// Outcome.
    pub outcome: SprayOutcome,
}

impl SprayReport {
    /// Returns whether it may have come to nothing because the system let too few sockets be opened: here if this host
    /// was to send from them, else at the peer.
    pub fn lacks_sockets(&self) -> bool {
        match self.outcome {
            SprayOutcome::NoSockets => true,
            SprayOutcome::Missed => self.sockets < MAX_SOCKETS,
            _ => false,
        }
    }
}

/// A host's part in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SprayRole {
    /// It sent to many ports of the other.
    ToPorts,
    /// It sent from many sockets.
    FromSockets,
}

/// Result of guessing ports.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SprayOutcome {
    /// It is under way.
    UnderWay,
    /// The hosts talk directly since, so long after they began to agree on it.
    Direct(Duration),
    /// No two ports met, or nothing came of it.
    Missed,
    /// The peer has refused.
    Refused(Verdict),
    /// The peer has not gone on with it.
    Silent,
    /// The system lets no sockets be opened, here or there.
    NoSockets,
    /// This host has come into another network.
    Moved,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_lacking_where_nothing_came_of_fewer_than_are_wanted() {
        let lacks = |sockets, outcome| {
            let report = SprayReport {
                role: Some(SprayRole::FromSockets),
                own: Mapping::Other,
                theirs: Mapping::Same,
                sockets,
                sent: 0,
                outcome,
            };
            report.lacks_sockets()
        };
        assert!(lacks(0, SprayOutcome::NoSockets) && lacks(255, SprayOutcome::Missed));
        assert!(!lacks(256, SprayOutcome::Missed) && !lacks(17, SprayOutcome::Direct(Duration::ZERO)));
        assert!(!lacks(0, SprayOutcome::Silent), "it has not come to sockets");
    }
}
