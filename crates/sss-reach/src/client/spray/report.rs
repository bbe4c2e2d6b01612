//! Results of guessing ports, for applications.

use std::time::Duration;

use sss_wire::reach::spray::{Mapping, Verdict};

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
