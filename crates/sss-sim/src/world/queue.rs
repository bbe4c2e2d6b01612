//! Events that are going to happen, in order of time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use sss_proto::Ecn;

/// A datagram on its way.
#[derive(Clone, Debug)]
pub(super) struct Datagram {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
    pub(super) ecn: Ecn,
}

impl Datagram {
    /// Returns whether `self` may follow `first` in one batch.
    fn joins(&self, first: &Datagram) -> bool {
        (self.from, self.to, self.ecn) == (first.from, first.to, first.ecn)
            && (1..=first.bytes.len()).contains(&self.bytes.len())
    }
}

/// One thing that is going to happen.
#[derive(Debug)]
pub(super) enum Happening {
    /// A datagram arrives.
    Deliver(Datagram),
    /// The moment comes at which a host wants to be called.
    Wake { host: usize, at: u64 },
    /// The moment comes that an application asked for.
    Timer { host: usize, token: u64 },
}

struct Entry {
    at: u64,
    sequence: u64,
    happening: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The earliest is the greatest, because the heap gives out the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

/// The queue: by time, and at the same time in the order of being pushed.
#[derive(Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Entry>,
    sequence: u64,
}

impl Queue {
    pub(super) fn push(&mut self, at: u64, happening: Happening) {
        self.sequence += 1;
        self.heap.push(Entry {
            at,
            sequence: self.sequence,
            happening,
        });
    }

    pub(super) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|e| e.at)
    }

    pub(super) fn pop(&mut self) -> Option<Happening> {
        self.heap.pop().map(|e| e.happening)
    }

    /// The next datagram, if it arrives at `now` and may be read in one batch with `first`.
    pub(super) fn pop_joining(&mut self, now: u64, first: &Datagram) -> Option<Datagram> {
        let next = self.heap.peek()?;
        let joins = matches!(&next.happening, Happening::Deliver(d) if next.at == now && d.joins(first));
        if !joins {
            return None;
        }
        match self.heap.pop()?.happening {
            Happening::Deliver(datagram) => Some(datagram),
            Happening::Wake { .. } | Happening::Timer { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_by_time_then_by_being_pushed() {
        let mut queue = Queue::default();
        for (at, token) in [(5, 0), (3, 1), (5, 2), (3, 3)] {
            queue.push(at, Happening::Timer { host: 0, token });
        }
        let mut order = Vec::new();
        while let Some(Happening::Timer { token, .. }) = queue.pop() {
            order.push(token);
        }
        assert_eq!(order, [1, 3, 0, 2]);
    }

    #[test]
    fn batches_only_what_one_read_of_a_socket_could_hold() {
        let datagram = |port: u16, len: usize| Datagram {
            from: SocketAddr::from(([10, 0, 0, 1], port)),
            to: SocketAddr::from(([10, 0, 0, 2], 1)),
            bytes: vec![0; len],
            ecn: Ecn::Ect0,
        };
        let mut queue = Queue::default();
        let first = datagram(1, 100);
        queue.push(7, Happening::Deliver(datagram(1, 100)));
        queue.push(7, Happening::Deliver(datagram(1, 101)));
        assert!(queue.pop_joining(8, &first).is_none(), "another time");
        assert!(queue.pop_joining(7, &first).is_some());
        assert!(queue.pop_joining(7, &first).is_none(), "longer");
        queue.pop();
        queue.push(7, Happening::Deliver(datagram(2, 100)));
        assert!(queue.pop_joining(7, &first).is_none(), "another source");
    }
}
