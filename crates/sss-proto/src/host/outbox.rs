//! Datagrams that belong to no channel, until they are sent.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::io::{Datagram, Ecn, Transmit, TransmitBuf};
use crate::route::Route;

/// Replies of the negotiation, and hints, that wait to be sent, at most, each.
const MAX_REPLIES: usize = 1024;
/// The route of an answer, and the address that it leaves from, if that matters.
type Way = (Route, Option<IpAddr>);

/// Hints that go between two turns of peers that have something to send.
const HINTS_A_TURN: u8 = 4;

/// The packets of the negotiation, and other answers, that wait to be sent.
#[derive(Default)]
pub(super) struct Outbox {
    queue: VecDeque<Datagram>,
    /// Answers that took no work, and may be of a flood (NEG-39).
    hints: VecDeque<Datagram>,
    /// Hints sent since the last turn of a peer.
    hints_sent: u8,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.hints.is_empty()
    }

    /// Queues a reply that has taken work; drops it when too many wait.
    pub(super) fn reply(&mut self, way: Way, bytes: Vec<u8>) {
        push(&mut self.queue, way, bytes);
    }

    /// Queues an answer that has taken none, such as RETRY; drops it when too many wait. Peers come before it.
    pub(super) fn hint(&mut self, way: Way, bytes: Vec<u8>) {
        push(&mut self.hints, way, bytes);
    }

    /// Returns what this host's own attempts send: that is never dropped.
    pub(super) fn attempts(&mut self) -> &mut VecDeque<Datagram> {
        &mut self.queue
    }

    /// Fills the buffer with the next datagram that is no hint.
    pub(super) fn transmit(&mut self, buf: &mut TransmitBuf) -> Option<Transmit> {
        Some(fill(buf, &self.queue.pop_front()?))
    }

    /// Fills the buffer with the next hint, unless it is the turn of peers that wait.
    #[inline]
    pub(super) fn transmit_hint(&mut self, peers_wait: bool, buf: &mut TransmitBuf) -> Option<Transmit> {
        if self.hints.is_empty() || peers_wait && self.hints_sent >= HINTS_A_TURN {
            return None;
        }
        let hint = self.hints.pop_front()?;
        self.hints_sent = self.hints_sent.saturating_add(1);
        Some(fill(buf, &hint))
    }

    /// A peer has had its turn.
    pub(super) fn note_turn(&mut self) {
        self.hints_sent = 0;
    }
}

fn push(queue: &mut VecDeque<Datagram>, (route, local): Way, bytes: Vec<u8>) {
    if queue.len() < MAX_REPLIES {
        queue.push_back(Datagram { route, local, bytes });
    }
}

fn fill(buf: &mut TransmitBuf, datagram: &Datagram) -> Transmit {
    buf.put(&datagram.route, &datagram.bytes);
    Transmit {
        link: datagram.route.link,
        local: datagram.local,
        ecn: Ecn::NotEct,
        segment: buf.len(),
    }
}
