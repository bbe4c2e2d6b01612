//! Tunnels that are open: streams of bytes that carry datagrams to a server, and from those who use it (RCH-22).
//!
//! What is to be sent waits in a queue for each, which is bounded as that of a router is: what finds no room is
//! dropped, and the channels above notice.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sss_proto::TunnelId;
use sss_wire::reach::tunnel::{FRAME_HEADER, frame_header};
use tokio::sync::Notify;

/// Bytes that wait to be written into one tunnel, at most.
const MAX_WAITING: usize = 256 << 10;

/// Counters of a host's tunnels: those to its servers, and those of others if it is a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TunnelStats {
    /// Tunnels that are open now.
    pub open: u64,
    /// Tunnels that were opened.
    pub opened: u64,
    /// Connections that were refused, since there were too many, of all or of one network.
    pub refused: u64,
    /// Tunnels, and connections that were to be some, that gave way to one of a network that had fewer.
    pub gave_way: u64,
    /// Connections that did not become tunnels: no TLS, or not in time.
    pub failed: u64,
    /// Tunnels that were closed because they carried what is no packet.
    pub malformed: u64,
    /// Tunnels that were closed because nothing came, or nothing was taken, for too long.
    pub idle: u64,
    /// Packets received.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that were dropped, since too many waited, or the tunnel was gone.
    pub dropped: u64,
    /// Packets that were dropped because no frame is so long: the search for the path MTU.
    pub too_long: u64,
}

/// The tunnels of a host that are open.
#[derive(Default)]
pub(crate) struct Tunnels {
    next: u32,
    open: HashMap<TunnelId, Arc<Queue>, RandomState>,
    pub(crate) stats: TunnelStats,
    /// The address at which tunnels are taken, of a server.
    pub(crate) listens_at: Option<SocketAddr>,
}

/// Frames that wait to be written into a tunnel.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<BytesMut>,
    news: Notify,
}

impl Tunnels {
    /// Adds a tunnel, and names it.
    pub(crate) fn open(&mut self, queue: Arc<Queue>) -> TunnelId {
        // A name is not used again as long as anybody may mean its former owner.
        self.next = self.next.wrapping_add(1);
        while self.open.contains_key(&TunnelId(self.next)) {
            self.next = self.next.wrapping_add(1);
        }
        let id = TunnelId(self.next);
        self.open.insert(id, queue);
        self.stats.opened += 1;
        id
    }

    /// Removes a tunnel.
    pub(crate) fn close(&mut self, id: TunnelId) {
        self.open.remove(&id);
    }

    pub(crate) fn stats(&self) -> TunnelStats {
        TunnelStats {
            open: self.open.len() as u64,
            ..self.stats
        }
    }

    /// Queues datagrams, all but the last of the same length.
    pub(crate) fn send(&mut self, id: TunnelId, datagrams: &[u8], segment: usize) {
        let queue = self.open.get(&id);
        for datagram in datagrams.chunks(segment.max(1)) {
            let counter = match (queue, frame_header(datagram.len())) {
                (_, None) => &mut self.stats.too_long,
                (Some(queue), Some(header)) if queue.put(header, datagram) => &mut self.stats.sent,
                _ => &mut self.stats.dropped,
            };
            *counter += 1;
        }
    }
}

impl Queue {
    /// Puts a frame behind the others. False if there is no room.
    fn put(&self, header: [u8; FRAME_HEADER], datagram: &[u8]) -> bool {
        let mut waiting = self.lock();
        if waiting.len() + FRAME_HEADER + datagram.len() > MAX_WAITING {
            return false;
        }
        waiting.extend_from_slice(&header);
        waiting.extend_from_slice(datagram);
        drop(waiting);
        self.news.notify_one();
        true
    }

    /// Takes all that waits, as soon as there is something.
    pub(crate) async fn take(&self) -> BytesMut {
        loop {
            let waiting = std::mem::take(&mut *self.lock());
            if !waiting.is_empty() {
                return waiting;
            }
            self.news.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BytesMut> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: RCH-22
    #[tokio::test]
    async fn frames_wait_in_order_and_what_finds_no_room_is_dropped_and_counted() {
        let mut tunnels = Tunnels::default();
        let queue = Arc::new(Queue::default());
        let id = tunnels.open(Arc::clone(&queue));
        tunnels.send(id, &[7; 250], 100);
        let taken = queue.take().await;
        assert_eq!(taken.len(), 250 + 3 * FRAME_HEADER);
        assert_eq!((&taken[..3], &taken[204..207]), (&[0, 100, 7][..], &[0, 50, 7][..]));
        tunnels.send(id, &[1; 1501], 1501);
        for _ in 0..300 {
            tunnels.send(id, &[1; 1000], 1000);
        }
        let stats = tunnels.stats();
        assert_eq!((stats.sent, stats.dropped, stats.too_long, stats.open), (264, 39, 1, 1));
        assert!(queue.take().await.len() <= MAX_WAITING);
        tunnels.close(id);
        tunnels.send(id, &[1; 100], 100);
        assert_eq!((tunnels.stats().dropped, tunnels.stats().open), (40, 0));
        assert_ne!(tunnels.open(queue), id, "names are not used again soon");
    }
}
