//! Datagrams: each is a number and a pattern that follows from it. It arrives at most once, whole, at the other end of its stream;
//! and the sender is told once what became of it.

use sss_proto::DatagramFate;
use sss_wire::Code;

use super::{Check, EndId, Model, Opening, fill, pattern};

/// Names a datagram; its first 8 bytes.
pub(crate) type MessageId = u64;

/// The number of the first; far from those of flows.
const FIRST: MessageId = 0x4d65_7373_6167_6500;

/// A datagram that an application sent.
#[derive(Clone, Debug)]
pub(super) struct Message {
    sender: EndId,
    size: usize,
    is_reliable: bool,
    has_deadline: bool,
    receiver: Option<EndId>,
    fate: Option<DatagramFate>,
}

/// All datagrams of a world.
#[derive(Clone, Debug, Default)]
pub(super) struct Messages {
    all: Vec<Message>,
    untold: usize,
    received: u64,
}

impl Message {
    pub(super) fn sender(&self) -> EndId {
        self.sender
    }

    pub(super) fn fate(&self) -> Option<DatagramFate> {
        self.fate
    }

    /// Whether it is to arrive whatever happens on the way, and has not.
    pub(super) fn must_arrive(&self) -> bool {
        self.is_reliable && !self.has_deadline && self.receiver.is_none()
    }
}

impl Messages {
    pub(super) fn all(&self) -> &[Message] {
        &self.all
    }
}

impl Model {
    /// The number that the next datagram has, and its contents.
    pub(crate) fn compose(&self, size: usize) -> (MessageId, Vec<u8>) {
        let number = FIRST + self.messages.all.len() as u64;
        let mut data = vec![0; size.max(8)];
        fill(number, 0, &mut data);
        (number, data)
    }

    /// The core took the datagram that was composed last.
    pub(crate) fn sent_message(&mut self, sender: EndId, size: usize, is_reliable: bool, has_deadline: bool) {
        self.messages.untold += 1;
        self.messages.all.push(Message {
            sender,
            size,
            is_reliable,
            has_deadline,
            receiver: None,
            fate: None,
        });
    }

    fn message(&self, number: MessageId) -> Option<(usize, &Message)> {
        let index = usize::try_from(number.checked_sub(FIRST)?).ok()?;
        Some((index, self.messages.all.get(index)?))
    }

    /// A datagram came on the end.
    ///
    /// # Errors
    /// If nobody sent it there, it came before, or it is not what was sent.
    pub(crate) fn saw_message(&mut self, end: EndId, data: &[u8]) -> Check {
        let number = data.first_chunk().map_or(0, |head| MessageId::from_be_bytes(*head));
        let Some((index, message)) = self.message(number) else {
            return Err(format!("{end:?} gets a datagram that was never sent"));
        };
        if data.len() != message.size || pattern::mismatch(number, 0, data).is_some() {
            return Err(format!(
                "{end:?} gets {} bytes of {message:?}, or they are wrong",
                data.len()
            ));
        }
        if message.receiver.is_some() {
            return Err(format!("{end:?} gets {message:?} again"));
        }
        let (mine, theirs) = (&self.ends[end.0], &self.ends[message.sender.0]);
        let is_other = |known: Option<EndId>, actual| known.is_some_and(|known| known != actual);
        if (theirs.host, theirs.peer) != (mine.peer, mine.host)
            || is_other(self.opposite(end), message.sender)
            || is_other(self.opposite(message.sender), end)
        {
            return Err(format!("{end:?} gets {message:?}, which is another stream's"));
        }
        self.messages.all[index].receiver = Some(end);
        self.messages.received += 1;
        Ok(())
    }

    /// The sender was told what became of a datagram.
    ///
    /// # Errors
    /// If that cannot be, or it was told before.
    pub(crate) fn saw_fate(&mut self, number: MessageId, fate: DatagramFate) -> Check {
        let Some((index, message)) = self.message(number) else {
            return Err(format!("{fate:?} of a datagram that was never sent"));
        };
        if message.fate.is_some() {
            return Err(format!("{fate:?} after all: {message:?}"));
        }
        let sender = &self.ends[message.sender.0];
        let is_possible = match fate {
            DatagramFate::Delivered => true,
            DatagramFate::Lost => !message.is_reliable,
            DatagramFate::Expired => !message.is_reliable || message.has_deadline,
            DatagramFate::Refused(code) => {
                self.may_refuse_messages(message.sender, code) || self.is_cut_with(message.sender, code)
            }
            DatagramFate::ChannelLost => sender.is_released || self.is_closed(sender.host, sender.peer),
            DatagramFate::Cancelled => self.is_in_reset_tree(message.sender),
            // So is one that the model does not know.
            DatagramFate::TooLarge | _ => false,
        };
        if !is_possible {
            return Err(format!("{fate:?} for no reason: {message:?}"));
        }
        self.messages.all[index].fate = Some(fate);
        self.messages.untold -= 1;
        Ok(())
    }

    /// Whether the peer may refuse a datagram on the stream of `sender`.
    fn may_refuse_messages(&self, sender: EndId, code: Code) -> bool {
        let is_code = matches!(code, Code::NO_LISTENER | Code::PARENT_GONE);
        let state = &self.ends[sender.0];
        let is_refused = state.is_refused || (state.opening != Opening::Accepted && self.may_be_refused(sender));
        let is_gone = match self.opposite(sender) {
            Some(opposite) => self.ends[opposite.0].is_released,
            None => state.is_released || self.nameless_gone(state.peer, state.host) > 0,
        };
        is_code && (is_refused || is_gone)
    }

    /// How many datagrams there are of which the sender was not told what became of them.
    pub(crate) fn untold(&self) -> usize {
        self.messages.untold
    }

    /// Datagrams that were received.
    pub(crate) fn messages_received(&self) -> u64 {
        self.messages.received
    }

    /// Checks that every reliable datagram that is said to be delivered was received, unless its receiver let go of the stream.
    pub(crate) fn check_messages(&self) -> Check {
        if self.messages.untold > 0 {
            let untold = self.messages.all.iter().find(|m| m.fate.is_none());
            return Err(format!("{} datagrams without a fate; {untold:?}", self.messages.untold));
        }
        let is_missing = |message: &&Message| {
            let sender = &self.ends[message.sender.0];
            let opposite = self.opposite(message.sender);
            message.is_reliable
                && message.fate == Some(DatagramFate::Delivered)
                && message.receiver.is_none()
                && !self.is_closed(sender.host, sender.peer)
                && opposite.is_some_and(|o| !self.ends[o.0].is_released)
                && !self.is_in_reset_tree(message.sender)
        };
        match self.messages.all.iter().find(is_missing) {
            None => Ok(()),
            Some(message) => Err(format!("not received: {message:?}")),
        }
    }
}
