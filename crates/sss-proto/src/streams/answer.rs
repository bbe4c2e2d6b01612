//! Top-level streams that the host answers itself, without its application (SVC-2).

use std::task::Poll;

use bytes::Bytes;
use sss_wire::Code;

use super::Streams;
use crate::ids::StreamKey;

/// Answers of which a tree keeps something at a time (SVC-6).
const MAX_ANSWERS: usize = 16;

impl Streams {
    /// Accepts a stream that [`Self::take_incoming`] gave, writes `answer`, finishes, and lets go of it. Refuses it if
    /// too many such streams are not retired.
    pub(crate) fn answer(&mut self, key: StreamKey, mut answer: Bytes) {
        let table = &self.table;
        self.app.answers.retain(|k| table.find(*k).is_some());
        if self.app.answers.len() >= MAX_ANSWERS {
            self.refuse(key, Code::BACKLOG);
            return;
        }
        if !self.accept_top_level(key) {
            return;
        }
        self.app.answers.push(key);
        // A peer that has stopped the stream already wants nothing. The answer is shorter than what may be written
        // ahead.
        if matches!(self.poll_write_chunk(key, &mut answer), Poll::Ready(Ok(_))) && answer.is_empty() {
            let _ = self.finish(key);
        }
        self.release(key);
    }
}
