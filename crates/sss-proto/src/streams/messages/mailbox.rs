//! Datagrams of a stream, once there were any.

use std::collections::VecDeque;

use bytes::Bytes;

use super::line::Lines;

/// Datagrams that wait on a stream, or are under way on it.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    /// Those that have arrived and were not taken.
    pub(crate) inbox: VecDeque<Arrived>,
    /// Bytes of the stateless ones among them that have room of their own, with their costs.
    pub(crate) stateless: usize,
    /// The same of those that have room of the budget instead.
    pub(crate) burst: u64,
    /// Stateless datagrams of this host that were sent, and are not known to have arrived or to be lost.
    pub(crate) flying: u32,
    /// Datagram streams of the peer that have not arrived whole.
    pub(crate) arriving: u32,
    /// Bytes of datagrams that wait to be sent, with their costs.
    pub(crate) queued: u64,
    /// Those of them that wait in line.
    pub(crate) lines: Lines,
    /// If the application waits for room: there is some when no more than this is queued.
    pub(crate) room_at: Option<u64>,
}

impl Mailbox {
    pub(crate) fn is_flying(&self) -> bool {
        self.flying > 0
    }
}

/// A datagram that waits for the application.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) bytes: Bytes,
    pub(crate) form: Form,
}

/// Form in which a datagram has come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// In one packet; whether its bytes are a slice of a batch of packets, and what it has of the budget.
    Stateless { is_slice: bool, granted: u64 },
    /// As a stream.
    Stream(Debt),
}

/// Charges that end when a datagram is taken or discarded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Debt {
    /// The stream above that was charged.
    pub(crate) lender: u32,
    /// Bytes charged to it for the data, and for waiting once all has arrived.
    pub(crate) charge: u64,
    /// Bytes that the datagram has of the budget.
    pub(crate) granted: u64,
}
