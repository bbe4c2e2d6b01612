//! Datagrams: each is a number and a pattern that follows from it. It arrives at most once, whole, at the other end of
//! its stream; and the sender is told once what became of it.

use sss_proto::DatagramFate;

use super::streams::Streams;
use super::{Check, EndId, fill, pattern};

/// Names a datagram; its first 8 bytes.
pub(crate) type MessageId = u64;

/// The number of the first; far from those of flows.
const FIRST: MessageId = 0x4d65_7373_6167_6500;

/// A datagram that an application sent.
#[derive(Clone, Debug)]
struct Message {
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
    /// Returns whether it is to arrive whatever happens on the way, and has not.
    fn must_arrive(&self) -> bool {
        self.is_reliable && !self.has_deadline && self.receiver.is_none()
    }
}

impl Messages {
    /// The number that the next datagram has, and its contents.
    pub(super) fn compose(&self, size: usize) -> (MessageId, Vec<u8>) {
        let number = FIRST + self.all.len() as u64;
        let mut data = vec![0; size.max(8)];
        fill(number, 0, &mut data);
        (number, data)
    }

    /// The core took the datagram that was composed last.
    pub(super) fn sent(&mut self, sender: EndId, size: usize, is_reliable: bool, has_deadline: bool) {
        self.untold += 1;
        self.all.push(Message {
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
        Some((index, self.all.get(index)?))
    }

    /// A datagram came on the end.
    ///
    /// # Errors
    /// If nobody sent it there, it came before, or it is not what was sent.
    pub(super) fn saw(&mut self, streams: &Streams, end: EndId, data: &[u8]) -> Check {
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
        let (mine, theirs) = (&streams.flows.ends[end.0], &streams.flows.ends[message.sender.0]);
        let is_other = |known: Option<EndId>, actual| known.is_some_and(|known| known != actual);
        if (theirs.host, theirs.peer) != (mine.peer, mine.host)
            || is_other(streams.flows.opposite(end), message.sender)
            || is_other(streams.flows.opposite(message.sender), end)
        {
            return Err(format!("{end:?} gets {message:?}, which is another stream's"));
        }
        self.all[index].receiver = Some(end);
        self.received += 1;
        Ok(())
    }

    /// The sender was told what became of a datagram.
    ///
    /// # Errors
    /// If that cannot be, or it was told before.
    pub(super) fn saw_fate(&mut self, streams: &Streams, number: MessageId, fate: DatagramFate) -> Check {
        let Some((index, message)) = self.message(number) else {
            return Err(format!("{fate:?} of a datagram that was never sent"));
        };
        if message.fate.is_some() {
            return Err(format!("{fate:?} after all: {message:?}"));
        }
        let sender = &streams.flows.ends[message.sender.0];
        let is_possible = match fate {
            DatagramFate::Delivered => true,
            DatagramFate::Lost => !message.is_reliable,
            DatagramFate::Expired => !message.is_reliable || message.has_deadline,
            DatagramFate::Refused(code) => {
                streams.may_refuse_messages(message.sender, code)
                    || streams.trees.is_cut_with(&streams.flows, message.sender, code)
            }
            DatagramFate::ChannelLost => sender.is_released || streams.is_closed(sender.host, sender.peer),
            DatagramFate::Cancelled => streams.trees.is_in_reset_tree(&streams.flows, message.sender),
            // So is one that the model does not know.
            DatagramFate::TooLarge | _ => false,
        };
        if !is_possible {
            return Err(format!("{fate:?} for no reason: {message:?}"));
        }
        self.all[index].fate = Some(fate);
        self.untold -= 1;
        Ok(())
    }

    /// Counts how many datagrams there are of which the sender was not told what became of them.
    pub(super) fn untold(&self) -> usize {
        self.untold
    }

    /// Datagrams that were received.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Checks that every reliable datagram that is said to be delivered was received, unless its receiver let go of the
    /// stream.
    pub(super) fn check(&self, streams: &Streams) -> Check {
        if self.untold > 0 {
            let untold = self.all.iter().find(|m| m.fate.is_none());
            return Err(format!("{} datagrams without a fate; {untold:?}", self.untold));
        }
        let is_missing = |message: &&Message| {
            let sender = &streams.flows.ends[message.sender.0];
            let opposite = streams.flows.opposite(message.sender);
            message.is_reliable
                && message.fate == Some(DatagramFate::Delivered)
                && message.receiver.is_none()
                && !streams.is_closed(sender.host, sender.peer)
                && opposite.is_some_and(|o| !streams.flows.ends[o.0].is_released)
                && !streams.trees.is_in_reset_tree(&streams.flows, message.sender)
        };
        match self.all.iter().find(is_missing) {
            None => Ok(()),
            Some(message) => Err(format!("not received: {message:?}")),
        }
    }

    /// The end was told that no more datagrams will come.
    ///
    /// # Errors
    /// If the peer's application still holds the stream, or a datagram that had to arrive was not given.
    pub(super) fn saw_no_more(&self, streams: &Streams, end: EndId) -> Check {
        let Some(opposite) = streams.released_opposite(end)? else {
            return Ok(());
        };
        match self.missing_message(opposite) {
            Some(message) if !streams.may_be_cut_off(end) => {
                Err(format!("{end:?} is told that none comes after {message}"))
            }
            _ => Ok(()),
        }
    }

    /// A datagram of the end that had to arrive and did not.
    fn missing_message(&self, sender: EndId) -> Option<String> {
        let mut all = self.all.iter();
        let is_missing = |m: &&Message| {
            let may_arrive = matches!(m.fate, None | Some(DatagramFate::Delivered));
            m.sender == sender && m.must_arrive() && may_arrive
        };
        all.find(is_missing).map(|m| format!("{m:?}"))
    }
}
