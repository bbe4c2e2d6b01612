//! Frames about streams other than STREAM that wait to be sent, and streams whose waiters are being woken.

use std::collections::{BTreeSet, VecDeque};

use sss_wire::Code;

use super::openers::Openers;
use super::questions::Questions;
use super::queue::KeyQueue;
use crate::error::ProtocolError;

/// Refusals that are not acknowledged, at most. A peer that keeps to its credit cannot cause so many.
const MAX_REFUSALS: usize = 65_536;

/// Queues of what is to be sent before any STREAM frame (FRM-2). A stream is in each at most once.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// Streams with RESET or STOP due.
    pub(super) ends: KeyQueue,
    /// Streams with CREDIT due.
    pub(super) credits: KeyQueue,
    /// Streams with PRIORITY due.
    pub(super) priorities: KeyQueue,
    /// LSIDs of streams that are refused with PARENT_GONE and not kept.
    pub(super) refusals: VecDeque<u64>,
    /// LSIDs of streams whose refusal is not known to have arrived.
    refusing: BTreeSet<u64>,
    /// Questions whether streams were read to their ends, and answers.
    pub(super) watches: Questions,
    /// Questions whether more can come on streams, and answers.
    pub(super) awaits: Questions,
    /// Streams with OPEN_CREDIT due.
    pub(super) open_credits: KeyQueue,
    /// Streams that were accepted, and of which the peer has heard nothing since.
    pub(super) untold: KeyQueue,
    /// Streams that wait for room to be opened.
    pub(super) openers: Openers,
}

impl Control {
    /// Whether there is something to be sent, or somebody to be woken.
    pub(super) fn is_idle(&self) -> bool {
        self.ends.is_empty()
            && self.credits.is_empty()
            && self.priorities.is_empty()
            && self.refusals.is_empty()
            && self.open_credits.is_empty()
            && !self.openers.is_due()
            && self.watches.is_idle()
            && self.awaits.is_idle()
    }

    /// Queues the refusal of a stream that is not kept.
    pub(super) fn refuse(&mut self, lsid: u64) -> Result<(), ProtocolError> {
        if self.refusing.len() >= MAX_REFUSALS {
            return Err(ProtocolError::new(
                Code::LIMIT,
                "too many streams opened under retired parents",
            ));
        }
        self.refusals.push_back(lsid);
        self.refusing.insert(lsid);
        Ok(())
    }

    /// Whether the refusal of a stream that is not kept may not have arrived.
    pub(super) fn is_refusing(&self, lsid: u64) -> bool {
        self.refusing.contains(&lsid)
    }

    /// The refusal of a stream has arrived.
    pub(super) fn on_refused(&mut self, lsid: u64) {
        self.refusing.remove(&lsid);
    }

    pub(super) fn clear(&mut self) {
        self.ends.clear();
        self.credits.clear();
        self.priorities.clear();
        self.refusals.clear();
        self.refusing.clear();
        self.open_credits.clear();
        self.untold.clear();
        self.openers.clear();
        self.watches.clear();
        self.awaits.clear();
    }
}
