//! State that only few streams have, beside their nodes.

use super::ends::{Ending, Ends};
use super::queue::KeyQueue;
use crate::padding::Padding;
use crate::streams::flow::gauge::Budget;
use crate::streams::frames::delivery::Delivery;
use crate::streams::life::listen::Listen;
use crate::streams::messages::mailbox::Mailbox;

/// State that only few streams have.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    /// Children announced by the peer and not accepted.
    pub(crate) backlog: KeyQueue,
    /// Early ends of the directions.
    pub(crate) ends: Ends,
    pub(crate) listen: Listen,
    /// Streams below that were not delivered, and that nobody held.
    pub(crate) losses: Option<Box<Losses>>,
    /// Question whether the peer's application has read what this host sends, and its answer.
    pub(crate) watch: Watch,
    pub(crate) requests: Requests,
    /// Limits the windows of the stream and those below.
    pub(crate) budget: Option<Budget>,
    /// Datagrams that wait here, or wait to be sent.
    pub(crate) mailbox: Option<Box<Mailbox>>,
    /// Padding of packets with something of it.
    pub(crate) padding: Padding,
}

impl Extras {
    pub(crate) fn mailbox_mut(&mut self) -> &mut Mailbox {
        self.mailbox.get_or_insert_default()
    }

    #[cfg(test)]
    pub(crate) fn mailbox_ref(&self) -> Option<&Mailbox> {
        self.mailbox.as_deref()
    }

    /// Returns whether nothing of it differs from what a stream begins with.
    pub(crate) fn is_unused(&self) -> bool {
        let queues = self.backlog.is_empty() && self.listen.is_unused();
        let levels = self.requests.asked.is_none() && self.requests.answered.is_none();
        let deliveries = self.losses.is_none() && self.watch.is_unused() && self.mailbox.is_none();
        let settings = self.budget.is_none() && self.padding == Padding::None;
        queues && self.ends.is_unused() && levels && deliveries && settings
    }
}

/// Requests for another level.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// The level asked of the peer last with PRIORITY.
    pub(crate) asked: Option<PriorityRequest>,
    /// The highest serial of PRIORITY from the peer.
    pub(crate) answered: Option<u64>,
}

/// A request for another level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PriorityRequest {
    pub(crate) level: i8,
    pub(crate) serial: u64,
    pub(crate) delivery: Delivery,
}

/// Streams of a subtree that nobody held any more and that were not delivered (STR-51).
#[derive(Debug)]
pub(crate) struct Losses {
    pub(crate) streams: u32,
    pub(crate) first: Ending,
}

/// Question whether the peer's application has read a direction to its end, and its answer (STR-47).
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Of WATCH. Acknowledged: it has, or never will.
    pub(crate) delivery: Delivery,
    /// If it never will: the peer stopped the direction after all had arrived.
    pub(crate) unread: Option<Ending>,
}

impl Watch {
    /// Returns whether nobody has asked, and nothing is known.
    fn is_unused(&self) -> bool {
        self.delivery == Delivery::Idle
    }
}
