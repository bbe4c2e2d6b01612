//! A line with a rate, and the queue before it.

use std::collections::VecDeque;

use super::ip;
use super::network::{Nanos, Packet};
use crate::shape::Shape;

/// A queue from which one packet after the other is sent, each for the time that its bytes take.
#[derive(Debug)]
pub(crate) struct Bottleneck {
    rate: Option<u64>,
    queue: usize,
    mark: Option<usize>,
    waiting: VecDeque<Packet>,
    backlog: usize,
    /// The instant at which the last bit of the first that waits, or of the last that was sent, has left.
    done_at: Nanos,
}

impl Bottleneck {
    pub(crate) fn new() -> Self {
        Self {
            rate: None,
            queue: usize::MAX,
            mark: None,
            waiting: VecDeque::new(),
            backlog: 0,
            done_at: 0,
        }
    }

    /// Takes what is about rate and queue; the packet that is being sent goes on as before.
    pub(crate) fn set(&mut self, shape: &Shape) {
        self.rate = shape.rate;
        self.queue = shape.queue;
        self.mark = shape.mark;
    }

    /// Puts a packet in the queue; false if that is full.
    pub(crate) fn push(&mut self, now: Nanos, mut packet: Packet) -> bool {
        let length = packet.bytes.len();
        if self.backlog.saturating_add(length) > self.queue.max(length) {
            return false;
        }
        if self.mark.is_some_and(|above| self.backlog > above) {
            ip::mark(&mut packet.bytes);
        }
        if self.waiting.is_empty() {
            // Two lines of one rate behind each other: the second sends the first bits while the first still has the
            // last ones.
            let start = self.done_at.max(now.saturating_sub(packet.sent_for));
            self.done_at = (start + self.time_for(length)).max(now);
        }
        self.backlog += length;
        self.waiting.push_back(packet);
        true
    }

    /// The instant at which the next packet has left.
    pub(crate) fn next(&self) -> Option<Nanos> {
        (!self.waiting.is_empty()).then_some(self.done_at)
    }

    /// The packet that has left.
    pub(crate) fn pop(&mut self) -> Option<Packet> {
        let mut packet = self.waiting.pop_front()?;
        packet.sent_for = self.time_for(packet.bytes.len());
        self.backlog -= packet.bytes.len();
        if let Some(next) = self.waiting.front() {
            self.done_at += self.time_for(next.bytes.len());
        }
        Some(packet)
    }

    fn time_for(&self, length: usize) -> Nanos {
        self.rate
            .map_or(0, |rate| length as u64 * 8 * 1_000_000_000 / rate.max(1))
    }
}
