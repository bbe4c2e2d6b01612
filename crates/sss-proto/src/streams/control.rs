//! Frames about streams other than STREAM that wait to be sent, and streams whose waiters are being woken.

use std::collections::{BTreeMap, VecDeque};

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
    /// LSIDs of streams that are refused and not kept.
    pub(super) refusals: VecDeque<u64>,
    /// LSIDs of streams whose refusal is not known to have arrived, and the code.
    refusing: BTreeMap<u64, Code>,
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
    pub(super) fn refuse(&mut self, lsid: u64, code: Code) -> Result<(), ProtocolError> {
        if self.refusing.len() >= MAX_REFUSALS {
            return Err(ProtocolError::new(Code::LIMIT, "too many streams that cannot be kept"));
        }
        self.refusals.push_back(lsid);
        self.refusing.insert(lsid, code);
        Ok(())
    }

    /// Whether the refusal of a stream that is not kept may not have arrived.
    pub(super) fn is_refusing(&self, lsid: u64) -> bool {
        self.refusing.contains_key(&lsid)
    }

    /// The code with which a stream that is not kept is refused.
    pub(super) fn refusal(&self, lsid: u64) -> Code {
        self.refusing.get(&lsid).copied().unwrap_or(Code::PARENT_GONE)
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
