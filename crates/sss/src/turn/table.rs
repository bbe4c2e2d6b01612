//! The allocation by which a host's packets go, and what is told of its TURN servers.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sss_proto::TurnId;
use sss_reach::{Allocated, TurnOrder};
use thiserror::Error;
use tokio::sync::{Notify, watch};

/// Bytes that wait to be sent to the TURN server, at most.
const MAX_WAITING: usize = 256 << 10;

/// Reason why a TURN server gives no allocation, or not any more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TurnError {
    /// Its name is not found.
    #[error("its name is not found: {0}")]
    Unresolved(String),
    /// Nothing can be sent there, or nobody takes a connection.
    #[error("it is not reached: {0}")]
    Unreachable(String),
    /// It does not answer.
    #[error("it does not answer")]
    Silent,
    /// It does not know the user, or the password is another one (401).
    #[error("the user name or the password is wrong")]
    Unauthorized,
    /// It refuses, with this code of RFC 8656, and in these words: 486 means that the user has as many allocations as
    /// he may, 508 that the server has no room.
    #[error("it refuses, code {0}: {1}")]
    Refused(u16, String),
    /// Its answer cannot be understood.
    #[error("its answer cannot be understood")]
    Malformed,
    /// It lends an address that means nothing to others.
    #[error("it lends {0}, which others cannot reach")]
    Useless(SocketAddr),
    /// It lends an address, and nothing has come through it: the next server is asked.
    #[error("it lends an address, and nothing comes through it")]
    Mute,
    /// It knows nothing of the allocation any more: it was restarted, say.
    #[error("it has forgotten the allocation")]
    Forgotten,
    /// The allocation was not renewed in time.
    #[error("the allocation has expired")]
    Expired,
    /// The connection to it has ended.
    #[error("the connection has ended: {0}")]
    Closed(String),
}

/// State of a TURN server with a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TurnState {
    /// It was not needed yet, or is not any more.
    #[default]
    Idle,
    /// It is asked for an allocation.
    Asking,
    /// It has given one.
    #[non_exhaustive]
    Open {
        /// Name of the allocation, in routes.
        id: TurnId,
        /// Address of the server.
        at: SocketAddr,
        /// Address that it lends.
        relayed: SocketAddr,
    },
    /// The latest try has failed, or the latest allocation is lost. Where one is wanted, others follow.
    Failed(TurnError),
}

/// A TURN server, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TurnReport {
    /// Its place, as it was named.
    pub server: String,
    /// Its state.
    pub state: TurnState,
    /// Counters of its allocations.
    pub stats: TurnStats,
}

/// Counters of an allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TurnStats {
    /// Packets sent to peers.
    pub sent: u64,
    /// Packets received from peers.
    pub received: u64,
    /// Packets to peers that were dropped: too many waited, the allocation was gone, or it is of another address
    /// family.
    pub dropped: u64,
    /// Packets that were dropped because they were too long: the search for the path MTU, or a server that lies.
    pub too_long: u64,
    /// Packets of the server that were dropped: no message, an answer to nothing, forged, or of an unknown channel.
    pub unknown: u64,
    /// Permissions and channels that the server has refused.
    pub refused: u64,
}

/// Wish about allocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    None,
    Allocation,
    /// The host goes.
    Gone,
}

/// The TURN servers of a host.
#[derive(Default)]
pub(crate) struct Turns {
    reports: Vec<TurnReport>,
    wishes: Option<watch::Sender<Wish>>,
    open: Option<(TurnId, Arc<Queue>)>,
    latest: u32,
    /// The address that the open one lends.
    relayed: Option<SocketAddr>,
    /// One is kept, whoever needs it.
    is_tried: bool,
    /// Packets of allocations that are gone.
    lost: u64,
    has_ended: bool,
    /// Told when it has.
    end: Arc<Notify>,
}

/// Packets that wait to be sent, each with the peer that it is for.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    packets: VecDeque<(SocketAddr, Vec<u8>)>,
    bytes: usize,
    dropped: u64,
    has_moved: bool,
    is_mute: bool,
}

/// Work that waits for an allocation.
pub(super) struct Taken {
    pub(super) packets: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Packets for which there was no room.
    pub(super) dropped: u64,
    /// This machine's network has changed.
    pub(super) has_moved: bool,
    /// Nothing has come through the allocation, whoever was asked by it.
    pub(super) is_mute: bool,
}

impl Turns {
    /// The host has servers at these places.
    pub(super) fn open(&mut self, servers: Vec<String>) -> watch::Receiver<Wish> {
        self.reports = servers
            .into_iter()
            .map(|server| TurnReport {
                server,
                state: TurnState::Idle,
                stats: TurnStats::default(),
            })
            .collect();
        let (sender, receiver) = watch::channel(Wish::None);
        self.wishes = Some(sender);
        receiver
    }

    /// Reports of each server, in the order in which they were named.
    pub(crate) fn reports(&self) -> Vec<TurnReport> {
        self.reports.clone()
    }

    /// Does what is ordered.
    pub(crate) fn obey(&self, order: TurnOrder) {
        if order == TurnOrder::Next {
            return self.tell_open(|waiting| waiting.is_mute = true);
        }
        self.wish(match order {
            TurnOrder::Open => Wish::Allocation,
            _ if self.is_tried => Wish::Allocation,
            _ => Wish::None,
        });
    }

    /// One is to be kept, whoever needs it.
    pub(crate) fn try_one(&mut self) {
        self.is_tried = true;
        self.wish(Wish::Allocation);
    }

    /// The allocation that is there.
    pub(crate) fn allocated(&self) -> Option<Allocated> {
        let (id, _) = self.open.as_ref()?;
        Some(Allocated {
            id: *id,
            relayed: self.relayed?,
        })
    }

    fn wish(&self, wish: Wish) {
        if let Some(wishes) = &self.wishes {
            wishes.send_if_modified(|before| {
                let is_new = *before != wish && *before != Wish::Gone;
                if is_new {
                    *before = wish;
                }
                is_new
            });
        }
    }

    /// The host goes: an allocation is given back. Returns what tells when it was, if there is anything to wait for.
    pub(crate) fn close(&self) -> Option<Arc<Notify>> {
        self.wish(Wish::Gone);
        (self.wishes.is_some() && !self.has_ended).then(|| Arc::clone(&self.end))
    }

    /// The task has ended.
    pub(super) fn on_ended(&mut self) {
        self.has_ended = true;
        self.end.notify_one();
    }

    /// A server's state is another one.
    pub(super) fn on_state(&mut self, n: usize, state: TurnState) {
        if let Some(report) = self.reports.get_mut(n) {
            report.state = state;
        }
    }

    /// Counts what an allocation of a server has carried since this was told last.
    pub(super) fn count(&mut self, n: usize, more: TurnStats) {
        if let Some(report) = self.reports.get_mut(n) {
            let stats = &mut report.stats;
            stats.sent += more.sent;
            stats.received += more.received;
            stats.dropped += more.dropped + std::mem::take(&mut self.lost);
            stats.too_long += more.too_long;
            stats.unknown += more.unknown;
            stats.refused += more.refused;
        }
    }

    /// There is an allocation: names it.
    pub(super) fn begin(&mut self, n: usize, (at, relayed): (SocketAddr, SocketAddr)) -> (TurnId, Arc<Queue>) {
        // A name is not used again as long as anybody may mean its former owner.
        self.latest = self.latest.wrapping_add(1);
        let (id, queue) = (TurnId(self.latest), Arc::new(Queue::default()));
        self.open = Some((id, Arc::clone(&queue)));
        self.relayed = Some(relayed);
        self.on_state(n, TurnState::Open { id, at, relayed });
        (id, queue)
    }

    /// It is not there any more.
    pub(super) fn end(&mut self, id: TurnId) {
        self.open = self.open.take().filter(|(open, _)| *open != id);
    }

    /// Queues datagrams for a peer, all but the last of the same length.
    pub(crate) fn send(&mut self, (id, to): (TurnId, SocketAddr), datagrams: &[u8], segment: usize) {
        for datagram in datagrams.chunks(segment.max(1)) {
            match &self.open {
                Some((open, queue)) if *open == id => queue.put(to, datagram),
                _ => self.lost += 1,
            }
        }
    }

    /// This machine's network has changed.
    pub(crate) fn on_network_change(&self) {
        self.tell_open(|waiting| waiting.has_moved = true);
    }

    /// Tells the allocation that is there something.
    fn tell_open(&self, tell: impl FnOnce(&mut Waiting)) {
        if let Some((_, queue)) = &self.open {
            tell(&mut queue.lock());
            queue.news.notify_one();
        }
    }
}

impl Queue {
    /// Puts a packet behind the others, if there is room.
    fn put(&self, to: SocketAddr, datagram: &[u8]) {
        let mut waiting = self.lock();
        if waiting.bytes + datagram.len() > MAX_WAITING {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes += datagram.len();
        waiting.packets.push_back((to, datagram.to_vec()));
        drop(waiting);
        self.news.notify_one();
    }

    /// Takes all that waits, as soon as there is something. Cancel safe.
    pub(super) async fn take(&self) -> Taken {
        loop {
            let waiting = std::mem::take(&mut *self.lock());
            if !waiting.packets.is_empty() || waiting.has_moved || waiting.is_mute || waiting.dropped > 0 {
                return Taken {
                    packets: waiting.packets,
                    dropped: waiting.dropped,
                    has_moved: waiting.has_moved,
                    is_mute: waiting.is_mute,
                };
            }
            self.news.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: RCH-50
    #[tokio::test]
    async fn threat_46_a_server_that_takes_nothing_has_a_bounded_number_of_bytes_wait_for_it() {
        let mut turns = Turns::default();
        let _wishes = turns.open(vec!["192.0.2.1:3478".to_owned()]);
        let to = SocketAddr::from(([198, 51, 100, 7], 7));
        let (id, queue) = turns.begin(0, (to, to));
        for _ in 0..300 {
            turns.send((id, to), &[1; 2000], 1000);
        }
        let taken = queue.take().await;
        let bytes: usize = taken.packets.iter().map(|(_, packet)| packet.len()).sum();
        assert!(bytes <= MAX_WAITING && bytes > MAX_WAITING - 1000, "{bytes}");
        assert_eq!(taken.packets.len() + usize::try_from(taken.dropped).unwrap(), 600);
        // What is for one that is gone is dropped.
        turns.end(id);
        turns.send((id, to), &[1; 2000], 1000);
        turns.count(0, TurnStats::default());
        assert_eq!(turns.reports()[0].stats.dropped, 2);
    }
}
