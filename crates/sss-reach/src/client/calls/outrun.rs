//! Peers that move before they have answered (RCH-12).

use sss_crypto::Generator;
use sss_proto::Instant;
use sss_wire::reach::bodies::{Unfound, Way};

use super::{Question, State};

/// Times that a peer is asked for anew, as long as a call lasts, because it has moved meanwhile.
const MAX_MOVES: u32 = 3;

impl Question {
    /// Returns whether the peer is somewhere else than it was when it was told of this host: what it has sent since may
    /// have been in vain (RCH-12).
    pub(super) fn is_outrun(&self, outcome: &Result<Way, Unfound>) -> bool {
        match (&self.state, outcome) {
            (State::Found(named, ..), Ok(way)) => {
                self.moves < MAX_MOVES && named.is_by(way) && named.way.address != way.address
            }
            _ => false,
        }
    }

    /// The same question with another introduction, due now.
    pub(super) fn anew(&self, now: Instant, rng: &mut Generator) -> Self {
        Self {
            moves: self.moves + 1,
            is_heard: self.is_heard,
            is_referred: self.is_referred,
            ..Self::new(now, self.server, rng)
        }
    }
}
