//! Options of a datagram, and what is counted of datagrams.

use std::time::Duration;

/// Options for sending a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatagramOptions {
    /// True if it is sent until it has arrived, or its deadline has passed.
    pub reliable: bool,
    /// Time for which it is of use, which ranks it among others (STR-78, STR-79).
    /// `None`: 5 s if it is not reliable, else as long as it takes.
    pub deadline: Option<Duration>,
    /// Its level among the children of its stream (STR-22).
    pub priority: i8,
    /// True if [`Event::DatagramSettled`](crate::Event::DatagramSettled) is to tell what became of it.
    pub tracked: bool,
}

impl DatagramOptions {
    /// The same options with some of them changed: `DatagramOptions::default().with(|options| options.tracked = true)`.
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Counters of the datagrams exchanged with a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatagramStats {
    /// Sent in one packet, without state.
    pub sent_stateless: u64,
    /// Sent as streams; those are counted that have begun.
    pub sent_as_stream: u64,
    /// Given up because of their deadline.
    pub expired: u64,
    /// Arrived in one packet, and waited or wait for the application.
    pub received_stateless: u64,
    /// Arrived as streams.
    pub received_as_stream: u64,
    /// Arrived in one packet and dropped: too many were waiting.
    pub dropped_full: u64,
    /// Arrived in one packet and dropped: larger than this host takes.
    pub dropped_large: u64,
    /// Arrived in one packet and dropped: nobody holds the stream any more, or the peer had said that nothing more
    /// comes on it.
    pub dropped_unheld: u64,
}
