//! Whether the peer's application has read a direction to its end (STR-47 to STR-49).
//!
//! The sender asks with WATCH; the receiver answers with CONSUMED when its application has read everything, or with
//! STOP. The answer needs no state: a stream that is retired was read to its end, or else its sender was told.

use std::task::Poll;

use sss_wire::Code;

use super::Streams;
use super::frames::delivery::{Delivery, Item};
use super::life::cause::{self, Cause, Direction, Ending};
use super::node::{Flags, Node, Opener};
use super::state::{RecvState, SendState};
use crate::error::{ProtocolError, WriteError};
use crate::ids::StreamKey;
use crate::interest::Interest;
use crate::refusal::Refusal;

/// Whether the peer's application has read a direction to its end, as far as that was asked.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Of WATCH. Acknowledged: it has, or never will.
    pub(super) delivery: Delivery,
    /// If it never will: the peer stopped the direction after all had arrived.
    unread: Option<Ending>,
}

impl Watch {
    /// Whether nobody has asked, and nothing is known.
    pub(super) fn is_unused(&self) -> bool {
        self.delivery == Delivery::Idle
    }
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
        if node.delivery(Item::Watch) == Delivery::Acked {
            let unread = node.rare.as_ref().and_then(|r| r.watch.unread.as_ref());
            return Poll::Ready(unread.map_or(Ok(()), |ending| Err(node.unread_error(ending))));
        }
        if node.has(Flags::TREE_RESET) || matches!(node.status.send, SendState::Resetting | SendState::Aborted) {
            return Poll::Ready(Err(cause::write_error(&self.table, index)));
        }
        if let Some(reason) = &self.failed {
            return Poll::Ready(Err(WriteError::Lost(reason.clone())));
        }
        self.table[index].set(Flags::waits_for(Interest::Consumed));
        if !self.table[index].delivery(Item::Watch).is_open() {
            self.outbox.put(&mut self.table, index, Item::Watch);
        }
        Poll::Pending
    }

    /// The question is answered, or nobody wants to know any more.
    fn end_watch(&mut self, index: u32, now: Delivery, unread: Option<Ending>) {
        let before = self.table[index].delivery(Item::Watch);
        self.table[index].rare_mut().watch = Watch { delivery: now, unread };
        if before == Delivery::InFlight {
            self.outbox.watches.close();
        }
    }

    /// A direction is reset, or its stream is let go of: nobody waits for an answer.
    pub(super) fn give_up_watch(&mut self, index: u32) {
        if self.table[index].delivery(Item::Watch).is_open() {
            self.end_watch(index, Delivery::Idle, None);
            self.notify(index, Interest::Consumed);
        }
    }

    /// STOP has come for a direction of which all is acknowledged (STR-49).
    pub(super) fn on_late_stop(&mut self, index: u32, ending: Ending) {
        let node = &self.table[index];
        let is_answered = node.delivery(Item::Watch) == Delivery::Acked;
        if node.status.send == SendState::Done && node.has(Flags::HELD) && !is_answered {
            self.end_watch(index, Delivery::Acked, Some(ending));
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
        let is_asked = node.delivery(Item::Watch).is_open();
        // STR-47: the peer may have retired it because of the reset of a subtree.
        let is_reset = !matches!(node.status.send, SendState::Finishing | SendState::Done);
        if is_asked && !is_reset && cause::tree_reset(&self.table, index).is_none() {
            self.end_watch(index, Delivery::Acked, None);
            self.notify(index, Interest::Consumed);
        }
        Ok(())
    }

    pub(super) fn on_watch_lost(&mut self, index: u32) {
        if self.table[index].delivery(Item::Watch) == Delivery::InFlight {
            self.outbox.watches.close();
            self.outbox.put(&mut self.table, index, Item::Watch);
        }
    }
}

impl Node {
    /// Why the peer's application never will read what it stopped after all had arrived.
    fn unread_error(&self, ending: &Ending) -> WriteError {
        let refusal = Refusal::from_code(ending.code).filter(|_| self.place.opener == Opener::Own);
        let (code, reason) = (ending.code, ending.reason.to_string());
        refusal.map_or(WriteError::Stopped { code, reason }, WriteError::Refused)
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
            None if self.outbox.refusals.is_open(lsid) => {}
            None => self.outbox.watches.answer(lsid),
        }
        self.outbox.watches.check_answers()
    }

    /// Answers if the peer has asked and everything was read (STR-48).
    pub(super) fn answer_watch(&mut self, index: u32) {
        if self.table[index].has(Flags::WATCHED) && is_read_to_end(&self.table[index]) {
            self.table[index].clear(Flags::WATCHED);
            self.outbox.watches.answer(self.lsid(index));
        }
    }
}

/// Whether the application has read all bytes of a direction of which there is at least one, or was told its end.
fn is_read_to_end(node: &Node) -> bool {
    match node.status.recv {
        RecvState::Done => node.cause(Direction::Receiving) == Cause::None,
        RecvState::Complete => node.recv.unread() == 0 && node.recv.received > 0,
        _ => false,
    }
}
