//! Questions about a stream that the peer answers when something has happened there, and the answers to the peer's.
//!
//! There are two, each with a file for its frames: [`watch`](super::watch), whether a direction was read to its end,
//! and [`released`](super::released), whether more can come. What is the same is here: both are repeated when they are
//! lost, few are open at a time, and an answer outlives its stream.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use sss_wire::Code;
use sss_wire::constants::MAX_WATCHES;

use crate::error::ProtocolError;
use crate::ids::StreamKey;
use crate::rare::Rare;
use crate::streams::tree::queue::KeyQueue;

/// Answers of one kind that wait to be sent, at most: more than the questions that a peer may ask, because some are
/// asked again.
const MAX_ANSWERS: usize = 4 * MAX_WATCHES;

/// Questions of one kind, and answers, under way.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    /// Streams with the question due.
    pub(super) due: KeyQueue,
    answers: Rare<Answers>,
}

/// The number of questions of one kind without an answer. Kept apart from them: a question may be open for as long as
/// its stream, and nothing else is then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Open(u32);

/// Answers that are to be sent.
#[derive(Debug, Default)]
struct Answers {
    /// LSIDs of streams for which the peer's question is to be answered, in the order in which they are.
    due: VecDeque<u64>,
    /// The same LSIDs: a question that is repeated before its answer was sent gets one answer. Never iterated.
    queued: HashSet<u64, RandomState>,
}

impl Open {
    fn leaves_room(self) -> bool {
        (self.0 as usize) < MAX_WATCHES
    }

    /// A question was sent.
    pub(super) fn note_asked(&mut self) {
        self.0 = self.0.saturating_add(1);
    }

    /// A question that was sent is answered, or was lost, or nobody wants to know any more.
    pub(super) fn close(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    #[cfg(test)]
    pub(super) fn count(self) -> usize {
        self.0 as usize
    }
}

impl Questions {
    /// None.
    pub(super) const fn new() -> Self {
        Self {
            due: KeyQueue::new(),
            answers: Rare::new(),
        }
    }

    /// Returns whether there is nothing to be sent, with so many questions open.
    #[inline]
    pub(super) fn is_idle(&self, open: Open) -> bool {
        self.next_question(open).is_none() && self.first_answer().is_none()
    }

    /// Returns whether nothing waits to be sent.
    pub(crate) fn is_unused(&self) -> bool {
        self.due.is_empty() && self.first_answer().is_none()
    }

    /// The stream about which the next question is, if one more may be open.
    #[inline]
    pub(super) fn next_question(&self, open: Open) -> Option<StreamKey> {
        self.due.front().filter(|_| open.leaves_room())
    }

    /// The answer for a stream is to be sent, again or for the first time. If it waits to be sent, that is enough.
    pub(crate) fn answer(&mut self, lsid: u64) {
        let answers = self.answers.make();
        if answers.queued.insert(lsid) {
            answers.due.push_back(lsid);
        }
    }

    /// The first answer to be sent.
    #[inline]
    pub(super) fn first_answer(&self) -> Option<u64> {
        self.answers.get()?.due.front().copied()
    }

    /// The first answer was sent.
    pub(super) fn pop_answer(&mut self) {
        if let Some(answers) = self.answers.get_mut()
            && let Some(lsid) = answers.due.pop_front()
        {
            answers.queued.remove(&lsid);
        }
    }

    fn answer_count(&self) -> usize {
        self.answers.get().map_or(0, |answers| answers.due.len())
    }

    /// Returns whether more answers wait than the peer may ask for.
    ///
    /// # Errors
    /// If they do.
    pub(super) fn check_answers(&self) -> Result<(), ProtocolError> {
        if self.answer_count() > MAX_ANSWERS {
            return Err(ProtocolError::new(Code::LIMIT, "too many questions about streams"));
        }
        Ok(())
    }
}

#[cfg(test)]
impl Questions {
    pub(crate) fn answers(&self) -> usize {
        self.answer_count()
    }
}
