//! Whether the peer's application has read a direction to its end (STR-47 to STR-49).
//!
//! The sender asks with WATCH; the receiver answers with CONSUMED when its application has read everything, or with STOP. The
//! answer needs no state: a stream that is retired was read to its end, or else its sender was told.

use std::task::Poll;

use sss_wire::Code;

use super::Streams;
use super::node::{Ending, Flags, Node, Opener};
use super::state::{RecvState, SendState};
use crate::error::{ProtocolError, WriteError};
use crate::ids::StreamKey;
use crate::interest::Interest;
use crate::refusal::Refusal;

/// What is known of whether the peer's application has read a direction to its end.
#[derive(Debug, Default)]
pub(super) enum Watching {
    /// Nobody has asked.
    #[default]
    Not,
    /// WATCH is to be sent.
    Due,
    /// WATCH was sent, and no answer has come.
    Asked,
    /// It has.
    Consumed,
    /// It has not, and never will: it stopped the direction after all had arrived.
    Unread(Ending),
}

/// The sender of a direction.
impl Streams {
    /// Ready when the peer's application has read everything that was sent, to the end.
    ///
    /// # Errors
    /// If it never will.
    pub(crate) fn poll_consumed(&mut self, key: StreamKey) -> Poll<Result<(), WriteError>> {
        let index = self.held(key).ok_or(WriteError::Closed)?;
        let node = &self.table[index];
        match node.rare.as_ref().map(|r| &r.watching) {
            Some(Watching::Consumed) => return Poll::Ready(Ok(())),
            Some(Watching::Unread(ending)) => {
                let refusal = Refusal::from_code(ending.code).filter(|_| node.place.opener == Opener::Own);
                let (code, reason) = (ending.code, ending.reason.to_string());
                return Poll::Ready(Err(
                    refusal.map_or(WriteError::Stopped { code, reason }, WriteError::Refused)
                ));
            }
            _ => {}
        }
        if node.has(Flags::TREE_RESET) || matches!(node.status.send, SendState::Resetting | SendState::Aborted) {
            return Poll::Ready(Err(self.aborted(index)));
        }
        if let Some(reason) = &self.failed {
            return Poll::Ready(Err(WriteError::Lost(reason.clone())));
        }
        let node = &mut self.table[index];
        node.set(Flags::waits_for(Interest::Consumed));
        let watching = &mut node.rare_mut().watching;
        if matches!(watching, Watching::Not) {
            *watching = Watching::Due;
            self.queue_watch(index);
        }
        Poll::Pending
    }

    /// Queues WATCH, if it is due and the peer is known to know the stream (STR-8).
    pub(super) fn queue_watch(&mut self, index: u32) {
        let node = &self.table[index];
        if node.is_watch_due() && node.has(Flags::INIT_ACKED) {
            let (table, key) = (&self.table, self.table.key(index));
            let is_due = |k| table.find(k).is_some_and(|i| table[i].is_watch_due());
            self.control.watches.ask(key, is_due);
        }
    }

    /// The question is answered, or nobody wants to know any more.
    fn end_watch(&mut self, index: u32, now: Watching) {
        let Some(rare) = self.table[index].rare.as_mut() else {
            return;
        };
        if let Watching::Asked = std::mem::replace(&mut rare.watching, now) {
            self.control.watches.close();
        }
    }

    /// A direction is reset, or its stream is let go of: nobody waits for an answer.
    pub(super) fn give_up_watch(&mut self, index: u32) {
        let rare = self.table[index].rare.as_ref();
        if rare.is_some_and(|r| matches!(r.watching, Watching::Due | Watching::Asked)) {
            self.end_watch(index, Watching::Not);
            self.notify(index, Interest::Consumed);
        }
    }

    /// STOP has come for a direction of which all is acknowledged (STR-49).
    pub(super) fn on_late_stop(&mut self, index: u32, ending: Ending) {
        let node = &self.table[index];
        let is_known = node
            .rare
            .as_ref()
            .is_some_and(|r| matches!(r.watching, Watching::Consumed | Watching::Unread(_)));
        if node.status.send == SendState::Done && node.has(Flags::HELD) && !is_known {
            self.table[index].rare_mut();
            self.end_watch(index, Watching::Unread(ending));
            self.notify(index, Interest::Consumed);
        }
    }

    /// CONSUMED.
    ///
    /// # Errors
    /// If the peer broke a rule.
    pub(crate) fn on_consumed(&mut self, lsid: u64) -> Result<(), ProtocolError> {
        let Some(index) = self.known(lsid)? else {
            return Ok(());
        };
        let node = &self.table[index];
        // STR-48
        if node.status.send == SendState::Open || node.has(Flags::DATAGRAM) {
            return Err(ProtocolError::new(
                Code::STREAM_STATE,
                "an end that was not sent cannot be read",
            ));
        }
        let is_asked = node
            .rare
            .as_ref()
            .is_some_and(|r| matches!(r.watching, Watching::Due | Watching::Asked));
        // STR-47: the peer may have retired it because of the reset of a subtree.
        let is_reset = !matches!(node.status.send, SendState::Finishing | SendState::Done);
        if is_asked && !is_reset && self.tree_reset(index).is_none() {
            self.end_watch(index, Watching::Consumed);
            self.notify(index, Interest::Consumed);
        }
        Ok(())
    }

    pub(super) fn on_watch_lost(&mut self, index: u32) {
        let is_asked = self.table[index]
            .rare
            .as_ref()
            .is_some_and(|r| matches!(r.watching, Watching::Asked));
        if is_asked {
            self.end_watch(index, Watching::Due);
            self.queue_watch(index);
        }
    }
}

impl Node {
    /// WATCH is to be sent.
    pub(super) fn is_watch_due(&self) -> bool {
        self.rare.as_ref().is_some_and(|r| matches!(r.watching, Watching::Due))
    }

    /// WATCH was sent.
    pub(super) fn note_watch_sent(&mut self) {
        self.rare_mut().watching = Watching::Asked;
    }
}

/// The receiver of a direction.
impl Streams {
    /// WATCH.
    ///
    /// # Errors
    /// If the peer broke a rule.
    pub(crate) fn on_watch(&mut self, lsid: u64) -> Result<(), ProtocolError> {
        if self.failed.is_some() {
            return Ok(());
        }
        match self.known(lsid)? {
            Some(index) if self.table[index].has(Flags::DATAGRAM) => {
                return Err(ProtocolError::new(Code::STREAM_STATE, "WATCH of a datagram stream"));
            }
            Some(index) => {
                self.table[index].set(Flags::WATCHED);
                self.answer_watch(index);
            }
            // Its refusal tells.
            None if self.control.is_refusing(lsid) => {}
            None => self.control.watches.answer(lsid),
        }
        self.control.watches.check_answers()
    }

    /// Answers if the peer has asked and everything was read (STR-48).
    pub(super) fn answer_watch(&mut self, index: u32) {
        if self.table[index].has(Flags::WATCHED) && is_read_to_end(&self.table[index]) {
            self.table[index].clear(Flags::WATCHED);
            self.control.watches.answer(self.lsid(index));
        }
    }
}

/// Whether the application has read all bytes of a direction of which there is at least one, or was told its end.
fn is_read_to_end(node: &Node) -> bool {
    let rare = node.rare.as_ref();
    let ended_early = node.has(Flags::CUT_OFF) || rare.is_some_and(|r| r.stopped.is_some() || r.reset.is_some());
    match node.status.recv {
        RecvState::Done => !ended_early,
        RecvState::Complete => node.recv.unread() == 0 && node.recv.received > 0,
        _ => false,
    }
}
