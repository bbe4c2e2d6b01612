//! How far what was written has come: sent, acknowledged.

use std::task::Poll;

use super::Streams;
use super::life::cause;
use super::node::{Flags, Node};
use super::state::SendState;
use crate::error::WriteError;
use crate::ids::StreamKey;
use crate::interest::Interest;

impl Streams {
    /// Ready when everything written was sent at least once.
    ///
    /// # Errors
    /// If it never will be.
    pub(crate) fn poll_sent(&mut self, key: StreamKey) -> Poll<Result<(), WriteError>> {
        self.poll_progress(key, Interest::Sent, |node| node.send.unsent() == 0)
    }

    /// Ready when everything written is acknowledged; the direction need not have ended.
    ///
    /// # Errors
    /// If it never will be.
    pub(crate) fn poll_acknowledged(&mut self, key: StreamKey) -> Poll<Result<(), WriteError>> {
        self.poll_progress(key, Interest::Acknowledged, |node| node.send.is_acked())
    }

    fn poll_progress(
        &mut self,
        key: StreamKey,
        interest: Interest,
        come: impl FnOnce(&Node) -> bool,
    ) -> Poll<Result<(), WriteError>> {
        let index = self.held(key).ok_or(WriteError::Closed)?;
        match self.table[index].status.send {
            SendState::Done => return Poll::Ready(Ok(())),
            SendState::Resetting | SendState::Aborted => {
                return Poll::Ready(Err(cause::write_error(&self.table, index)));
            }
            SendState::Open | SendState::Finishing => {}
        }
        if let Some(reason) = &self.failed {
            return Poll::Ready(Err(WriteError::Lost(reason.clone())));
        }
        let node = &mut self.table[index];
        if come(node) {
            return Poll::Ready(Ok(()));
        }
        node.set(Flags::waits_for(interest));
        Poll::Pending
    }

    /// Tells whoever waits for it that everything was sent.
    pub(super) fn notify_sent(&mut self, index: u32) {
        let node = &self.table[index];
        if node.has(Flags::waits_for(Interest::Sent)) && node.send.unsent() == 0 {
            self.notify(index, Interest::Sent);
        }
    }

    /// Tells whoever waits for it that everything was acknowledged.
    pub(super) fn notify_acknowledged(&mut self, index: u32) {
        let node = &self.table[index];
        if node.has(Flags::waits_for(Interest::Acknowledged)) && node.send.is_acked() {
            self.notify(index, Interest::Acknowledged);
        }
    }
}
