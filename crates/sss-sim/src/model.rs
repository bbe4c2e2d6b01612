//! The reference model: what applications may see, given what applications did.
//!
//! A *flow* is one direction of a stream: a number, the bytes and record marks that its writer handed over, and how it
//! ended. A flow's bytes are its number (8 bytes) and then a pattern of number and position, so any byte that is
//! misplaced, missing, doubled or of another stream shows. A mark takes the position of a byte. An *end* is what one
//! host's application holds of a stream: the flow that it writes, and the flow that it reads, known once the number was
//! read.
//!
//! A datagram is a number and a pattern too, see `model/messages.rs`.
//!
//! The model knows nothing about packets: only what each side did, and so what the other may see of it.

mod deaf;
mod flows;
mod messages;
mod pattern;
mod streams;
#[cfg(test)]
mod tests;
mod trees;

use sss_proto::{CloseReason, DatagramFate, ListenMode};
use sss_wire::Code;

use crate::world::HostIndex;

use messages::{MessageId, Messages};
use streams::Streams;

pub use deaf::Deaf;
pub(crate) use flows::FIRST_MARK;
pub use pattern::fill;

/// The number of a flow; its first 8 bytes.
pub type FlowId = u64;

/// An end of a stream, numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndId(pub usize);

/// Result of a check: what is not as it must be.
pub type Check = Result<(), String>;

/// Way in which a stream was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// By this end, towards a service that exists.
    TopLevel,
    /// By this end, towards a service that does not exist.
    NoService,
    /// By this end, towards a service that speaks another protocol.
    NoProtocol,
    /// By this end, as a child of another stream.
    Substream,
    /// By the peer.
    Accepted,
}

/// Everything that was handed over and seen so far by all applications of a world.
#[derive(Clone, Debug, Default)]
pub struct Model {
    streams: Streams,
    messages: Messages,
}

/// Actions of an application.
impl Model {
    /// An application holds a new end of a stream.
    pub fn open(&mut self, host: HostIndex, peer: HostIndex, parent: Option<EndId>, opening: Opening) -> EndId {
        self.streams.flows.open(host, peer, parent, opening)
    }

    /// The flow that the end writes, and how many positions of it were handed over.
    pub fn output(&self, end: EndId) -> (FlowId, u64) {
        self.streams.flows.output(end)
    }

    /// Returns who reads the flow that the end writes, once that is known.
    pub fn reader_of(&self, end: EndId) -> Option<EndId> {
        self.streams.flows.reader_of(end)
    }

    /// The other end of the end's stream, if it is known.
    pub fn opposite(&self, end: EndId) -> Option<EndId> {
        self.streams.flows.opposite(end)
    }

    /// The core took `n` more bytes.
    pub fn wrote(&mut self, end: EndId, n: usize) {
        self.streams.flows.wrote(end, n);
    }

    /// The core took a record mark, behind all that was written before.
    pub fn marked(&mut self, end: EndId) {
        self.streams.flows.marked(end);
    }

    /// The end's flow was finished.
    pub fn finished(&mut self, end: EndId) {
        self.streams.flows.finished(end);
    }

    /// The end is going to reset its flow, with the code returned.
    pub fn reset(&mut self, end: EndId) -> Code {
        self.streams.reset(end)
    }

    /// The end is going to reset its stream with all that is below it, with the code returned. Those are the
    /// application's ends of these streams.
    pub fn reset_tree(&mut self, top: EndId) -> (Code, Vec<EndId>) {
        self.streams.reset_tree(top)
    }

    /// The end is going to stop the flow that it reads, with the code returned.
    pub fn stop(&mut self, end: EndId) -> Code {
        self.streams.stop(end)
    }

    /// The application lets go of the end.
    pub fn released(&mut self, end: EndId) {
        self.streams.flows.released(end);
    }

    /// The application says which children of the end may wait.
    pub fn listens(&mut self, end: EndId, mode: ListenMode) {
        self.streams.listens(end, mode);
    }

    /// An application closes the channel between two hosts.
    pub fn closed(&mut self, a: HostIndex, b: HostIndex) {
        self.streams.closed(a, b);
    }

    /// Returns whether a channel between two hosts was ever closed by an application.
    pub fn is_closed(&self, a: HostIndex, b: HostIndex) -> bool {
        self.streams.is_closed(a, b)
    }

    /// Bytes that readers got, all together.
    pub fn bytes_read(&self) -> u64 {
        self.streams.flows.bytes_read()
    }

    /// Record marks that readers got, all together.
    pub fn marks_read(&self) -> u64 {
        self.streams.flows.marks_read()
    }
}

/// Observations of an application.
impl Model {
    /// Bytes came in on the end.
    ///
    /// # Errors
    /// If they are not the next bytes of the flow.
    pub fn saw_data(&mut self, end: EndId, data: &[u8]) -> Check {
        self.streams.flows.saw_data(end, data)
    }

    /// A record mark came on the end.
    ///
    /// # Errors
    /// If the writer did not mark this position.
    pub fn saw_mark(&mut self, end: EndId) -> Check {
        self.streams.flows.saw_mark(end)
    }

    /// The orderly end came on the end.
    ///
    /// # Errors
    /// If the flow was not finished there.
    pub fn saw_end(&mut self, end: EndId) -> Check {
        self.streams.flows.saw_end(end)
    }

    /// The end was told that all of its flow was read.
    ///
    /// # Errors
    /// If it was not.
    pub fn saw_consumed(&self, end: EndId) -> Check {
        self.streams.flows.saw_consumed(end)
    }

    /// The end is told that nothing will be known of its flow, because it was given up.
    ///
    /// # Errors
    /// If it was not.
    pub fn gave_up(&self, end: EndId) -> Check {
        self.streams.flows.gave_up(end)
    }

    /// The end was told that the flow it reads was reset.
    ///
    /// # Errors
    /// If the writer did nothing that explains it.
    pub fn saw_reset(&mut self, end: EndId, code: Code) -> Check {
        self.streams.saw_reset(end, code)
    }

    /// An application sees that a stream was reset with a subtree.
    ///
    /// # Errors
    /// If the stream is part of no subtree that was reset with this code.
    pub fn saw_tree_reset(&self, end: EndId, code: Code) -> Check {
        self.streams.saw_tree_reset(end, code)
    }

    /// The end was told that the peer does not want its flow.
    ///
    /// # Errors
    /// If the reader did nothing that explains it.
    pub fn saw_stop(&mut self, end: EndId, code: Code) -> Check {
        self.streams.saw_stop(end, code)
    }

    /// The end, or the host's channel to the peer, was lost.
    ///
    /// # Errors
    /// If nobody closed a channel between the two hosts.
    pub fn saw_loss(&self, host: HostIndex, peer: HostIndex, reason: &CloseReason) -> Check {
        self.streams.saw_loss(host, peer, reason)
    }

    /// No more children will come on the end.
    ///
    /// # Errors
    /// If nothing explains that.
    pub fn saw_no_children(&self, end: EndId, reason: &CloseReason) -> Check {
        self.streams.saw_no_children(end, reason)
    }

    /// The end was told that no more children will come.
    ///
    /// # Errors
    /// If the peer's application still holds the stream, or a child that it had opened was not given.
    pub(crate) fn saw_no_more_children(&self, end: EndId) -> Check {
        self.streams.saw_no_more_children(end)
    }

    /// Returns whether the end must learn that nothing more comes on it.
    pub(crate) fn must_see_no_more(&self, end: EndId) -> bool {
        self.streams.must_see_no_more(end)
    }
}

/// Datagrams.
impl Model {
    /// The number that the next datagram has, and its contents.
    pub(crate) fn compose(&self, size: usize) -> (MessageId, Vec<u8>) {
        self.messages.compose(size)
    }

    /// The core took the datagram that was composed last.
    pub(crate) fn sent_message(&mut self, sender: EndId, size: usize, is_reliable: bool, has_deadline: bool) {
        self.messages.sent(sender, size, is_reliable, has_deadline);
    }

    /// A datagram came on the end.
    ///
    /// # Errors
    /// If nobody sent it there, it came before, or it is not what was sent.
    pub(crate) fn saw_message(&mut self, end: EndId, data: &[u8]) -> Check {
        self.messages.saw(&self.streams, end, data)
    }

    /// The sender was told what became of a datagram.
    ///
    /// # Errors
    /// If that cannot be, or it was told before.
    pub(crate) fn saw_fate(&mut self, number: MessageId, fate: DatagramFate) -> Check {
        self.messages.saw_fate(&self.streams, number, fate)
    }

    /// The end was told that no more datagrams will come.
    ///
    /// # Errors
    /// If the peer's application still holds the stream, or a datagram that had to arrive was not given.
    pub(crate) fn saw_no_more_messages(&self, end: EndId) -> Check {
        self.messages.saw_no_more(&self.streams, end)
    }

    /// Counts how many datagrams there are of which the sender was not told what became of them.
    pub(crate) fn untold(&self) -> usize {
        self.messages.untold()
    }

    /// Datagrams that were received.
    pub(crate) fn messages_received(&self) -> u64 {
        self.messages.received()
    }
}

/// The account at the end.
impl Model {
    /// Checks that every sender knows what became of its datagrams, and that every reliable one said to be delivered
    /// was received, unless its receiver let go of the stream.
    pub(crate) fn check_messages(&self) -> Check {
        self.messages.check(&self.streams)
    }

    /// Counts how many flows that were finished nobody has accounted for, and the first of them.
    ///
    /// Zero once all data that was handed over and not given up by somebody has reached its reader.
    pub fn unaccounted(&self) -> (usize, Option<String>) {
        self.streams.unaccounted()
    }

    /// Checks that nothing is unaccounted for.
    ///
    /// # Errors
    /// If data that was handed over, and that nobody gave up, did not reach its reader; or a datagram's sender does not
    /// know what became of it.
    pub fn check_complete(&self) -> Check {
        match self.unaccounted() {
            (0, _) => self.check_messages(),
            (count, first) => Err(format!("{count} flows unaccounted for; {}", first.unwrap_or_default())),
        }
    }
}
