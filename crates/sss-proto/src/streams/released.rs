//! Whether the peer can open or send anything more on a stream (STR-70 to STR-74).
//!
//! Who waits for children or datagrams asks with AWAIT; the other side answers with RELEASED when its application has
//! let go of the stream, and whatever it had opened or sent there has arrived. FIN says nothing of it: children after
//! it are legal (STR-21). The answer needs no state: a stream that is retired has been let go of, and has no children.

use sss_wire::Code;

use super::Streams;
use super::frames::delivery::{Delivery, Item};
use super::node::{Flags, Node};
use crate::error::ProtocolError;
use crate::interest::Interest;

/// Who waits for what the peer opens.
impl Streams {
    /// The application waits for children or datagrams: the peer is asked whether any can come, if it was not asked
    /// yet.
    pub(super) fn ask_for_more(&mut self, index: u32) {
        if !self.table[index].delivery(Item::Await).is_open() {
            self.outbox.put(&mut self.table, index, Item::Await);
        }
    }

    /// The question is answered, or nobody wants to know any more.
    pub(super) fn end_await(&mut self, index: u32) {
        let node = &mut self.table[index];
        let before = node.delivery(Item::Await);
        node.set_delivery(Item::Await, Delivery::Idle);
        if before == Delivery::InFlight {
            self.outbox.awaits.close();
        }
    }

    pub(super) fn on_await_lost(&mut self, index: u32) {
        if self.table[index].delivery(Item::Await) == Delivery::InFlight {
            self.outbox.awaits.close();
            self.outbox.put(&mut self.table, index, Item::Await);
        }
    }

    /// RELEASED.
    ///
    /// # Errors
    /// If the peer broke a rule.
    pub(crate) fn on_released(&mut self, lsid: u64) -> Result<(), ProtocolError> {
        let Some(index) = self.met(lsid)? else {
            return Ok(());
        };
        self.note_decided(index);
        self.table[index].check_can_have_children()?;
        self.end_await(index);
        self.table[index].set(Flags::PEER_RELEASED);
        self.notify(index, Interest::Accept);
        self.notify_no_arrival(index);
        Ok(())
    }

    /// A child of a stream is new: the peer must not have said that there will be none (STR-72).
    pub(super) fn check_not_released(&self, parent: u32) -> Result<(), ProtocolError> {
        if self.table[parent].has(Flags::PEER_RELEASED) {
            return Err(ProtocolError::new(
                Code::STREAM_STATE,
                "child of a stream that its sender had let go of",
            ));
        }
        Ok(())
    }
}

/// Who is asked.
impl Streams {
    /// AWAIT.
    ///
    /// # Errors
    /// If the peer broke a rule.
    pub(crate) fn on_await(&mut self, lsid: u64) -> Result<(), ProtocolError> {
        if self.failed.is_some() {
            return Ok(());
        }
        match self.known(lsid)? {
            Some(index) => {
                self.table[index].check_can_have_children()?;
                self.table[index].set(Flags::AWAITED);
                self.answer_await(index);
            }
            None => self.outbox.awaits.answer(lsid),
        }
        self.outbox.awaits.check_answers()
    }

    /// Answers if the peer has asked and nothing more can come (STR-71).
    pub(super) fn answer_await(&mut self, index: u32) {
        let node = &self.table[index];
        if node.has(Flags::AWAITED) && node.is_released() && self.failed.is_none() {
            self.table[index].clear(Flags::AWAITED);
            self.outbox.awaits.answer(self.lsid(index));
        }
    }
}

impl Node {
    /// Whether this host opens and sends nothing more on a stream, and the peer has got what it had opened and sent.
    fn is_released(&self) -> bool {
        let may_open = self.has(Flags::HELD) || self.has(Flags::UNACCEPTED);
        let is_known = self.account.as_ref().is_none_or(|a| a.unknown == 0);
        !may_open && is_known && !self.has_datagrams_flying()
    }

    /// STR-73
    fn check_can_have_children(&self) -> Result<(), ProtocolError> {
        if self.has(Flags::DATAGRAM) {
            return Err(ProtocolError::new(
                Code::STREAM_STATE,
                "AWAIT or RELEASED of a datagram stream",
            ));
        }
        Ok(())
    }
}
