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
    /// The number of questions without an answer.
    open: usize,
    answers: Rare<Answers>,
}

/// Answers that are to be sent.
#[derive(Debug, Default)]
struct Answers {
    /// LSIDs of streams for which the peer's question is to be answered, in the order in which they are.
    due: VecDeque<u64>,
    /// The same LSIDs: a question that is repeated before its answer was sent gets one answer. Never iterated.
    queued: HashSet<u64, RandomState>,
}

impl Questions {
    /// None.
    pub(super) const fn new() -> Self {
        Self {
            due: KeyQueue::new(),
            open: 0,
            answers: Rare::new(),
        }
    }

    /// Returns whether there is nothing to be sent.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        (self.due.is_empty() || !self.may_ask()) && self.first_answer().is_none()
    }

    /// Returns whether nothing is under way either.
    pub(super) fn is_unused(&self) -> bool {
        self.due.is_empty() && self.open == 0 && self.first_answer().is_none()
    }

    fn may_ask(&self) -> bool {
        self.open < MAX_WATCHES
    }

    /// The stream about which the next question is, if one more may be open.
    pub(super) fn next_question(&self) -> Option<StreamKey> {
        self.due.front().filter(|_| self.may_ask())
    }

    /// A question was sent.
    pub(super) fn note_asked(&mut self) {
        self.open += 1;
    }

    /// A question that was sent is answered, or was lost, or nobody wants to know any more.
    pub(super) fn close(&mut self) {
        self.open = self.open.saturating_sub(1);
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
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    pub(crate) fn answers(&self) -> usize {
        self.answer_count()
    }
}
