//! Datagrams that belong to no channel, until they are sent.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::io::{Datagram, Ecn, Transmit, TransmitBuf};

/// Replies of the negotiation that wait to be sent, at most.
const MAX_REPLIES: usize = 1024;

/// The packets of the negotiation, and other answers, that wait to be sent.
#[derive(Default)]
pub(super) struct Outbox {
    queue: VecDeque<Datagram>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Queues a reply; drops it when too many wait.
    pub(super) fn reply(&mut self, remote: SocketAddr, bytes: Vec<u8>) {
        if self.queue.len() < MAX_REPLIES {
            self.queue.push_back(Datagram { remote, bytes });
        }
    }

    /// Returns what this host's own attempts send: that is never dropped.
    pub(super) fn attempts(&mut self) -> &mut VecDeque<Datagram> {
        &mut self.queue
    }

    /// Fills the buffer with the next datagram.
    pub(super) fn transmit(&mut self, buf: &mut TransmitBuf) -> Option<Transmit> {
        let datagram = self.queue.pop_front()?;
        buf.put(&datagram.bytes);
        Some(Transmit {
            remote: datagram.remote,
            local: None,
            ecn: Ecn::NotEct,
            segment: buf.len(),
        })
    }
}
