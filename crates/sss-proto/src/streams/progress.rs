//! How far what was written has come: sent, acknowledged.

use super::Streams;
use super::node::{Flags, Node};
use super::state::SendState;
use crate::error::WriteError;
use crate::ids::StreamKey;
use crate::interest::Interest;

impl Streams {
    /// Whether everything written was sent at least once. On `Ok(false)`, an event follows.
    ///
    /// # Errors
    /// If it never will be.
    pub(crate) fn is_sent(&mut self, key: StreamKey) -> Result<bool, WriteError> {
        self.has_come(key, Interest::Sent, |node| node.send.unsent() == 0)
    }

    /// Whether everything written is acknowledged; the direction need not have ended. On `Ok(false)`, an event follows.
    ///
    /// # Errors
    /// If it never will be.
    pub(crate) fn is_acknowledged(&mut self, key: StreamKey) -> Result<bool, WriteError> {
        self.has_come(key, Interest::Acknowledged, |node| node.send.is_acked())
    }

    fn has_come(
        &mut self,
        key: StreamKey,
        interest: Interest,
        come: impl FnOnce(&Node) -> bool,
    ) -> Result<bool, WriteError> {
        let index = self.held(key).ok_or(WriteError::Closed)?;
        match self.table[index].status.send {
            SendState::Done => return Ok(true),
            SendState::Resetting | SendState::Aborted => return Err(self.aborted(index)),
            SendState::Open | SendState::Finishing => {}
        }
        if let Some(reason) = &self.failed {
            return Err(WriteError::Lost(reason.clone()));
        }
        let node = &mut self.table[index];
        if come(node) {
            return Ok(true);
        }
        node.set(Flags::waits_for(interest));
        Ok(false)
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
