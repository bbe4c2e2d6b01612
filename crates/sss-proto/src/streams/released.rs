//! Whether the peer can open or send anything more on a stream (STR-70 to STR-74).
//!
//! Who waits for children or datagrams asks with AWAIT; the other side answers with RELEASED when its application has let go of
//! the stream, and whatever it had opened or sent there has arrived. FIN says nothing of it: children after it are legal (STR-21).
//! The answer needs no state: a stream that is retired has been let go of, and has no children.

use sss_wire::Code;

use super::Streams;
use super::node::{Flags, Node};
use crate::error::ProtocolError;
use crate::interest::Interest;

/// Who waits for what the peer opens.
impl Streams {
    /// The application waits for children or datagrams: the peer is asked whether any can come, if it was not asked yet.
    pub(super) fn ask_for_more(&mut self, index: u32) {
        let node = &mut self.table[index];
        if !node.has(Flags::AWAIT_DUE) && !node.has(Flags::AWAIT_OPEN) {
            node.set(Flags::AWAIT_DUE);
            self.queue_await(index);
        }
    }

    /// Queues AWAIT, if it is due and the peer is known to know the stream (STR-8).
    pub(super) fn queue_await(&mut self, index: u32) {
        let node = &self.table[index];
        if node.is_await_due() && node.has(Flags::INIT_ACKED) {
            let (table, key) = (&self.table, self.table.key(index));
            let is_due = |k| table.find(k).is_some_and(|i| table[i].is_await_due());
            self.control.awaits.ask(key, is_due);
        }
    }

    /// The question is answered, or nobody wants to know any more.
    pub(super) fn end_await(&mut self, index: u32) {
        let node = &mut self.table[index];
        node.clear(Flags::AWAIT_DUE);
        if node.take(Flags::AWAIT_OPEN) {
            self.control.awaits.close();
        }
    }

    pub(super) fn on_await_lost(&mut self, index: u32) {
        if self.table[index].take(Flags::AWAIT_OPEN) {
            self.control.awaits.close();
            self.ask_for_more(index);
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
            None => self.control.awaits.answer(lsid),
        }
        self.control.awaits.check_answers()
    }

    /// Answers if the peer has asked and nothing more can come (STR-71).
    pub(super) fn answer_await(&mut self, index: u32) {
        let node = &self.table[index];
        if node.has(Flags::AWAITED) && node.is_released() && self.failed.is_none() {
            self.table[index].clear(Flags::AWAITED);
            self.control.awaits.answer(self.lsid(index));
        }
    }
}

impl Node {
    /// AWAIT is to be sent.
    pub(super) fn is_await_due(&self) -> bool {
        self.has(Flags::AWAIT_DUE)
    }

    /// AWAIT was sent.
    pub(super) fn note_await_sent(&mut self) {
        self.clear(Flags::AWAIT_DUE);
        self.set(Flags::AWAIT_OPEN);
    }

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
