//! Datagrams (STR-32 to STR-40): messages of any size on a stream.
//!
//! - [`send`]: what the application sends is a node of the tree, a child of its stream, until it has gone out without
//!   state or is settled as a stream;
//! - [`receive`]: what arrives, in either form, waits in the [`Mailbox`] of its stream;
//! - [`deadlines`]: when those that were not delivered are given up.
//!
//! A datagram stream is a stream like any other for everything that is not said here: INIT, data, FIN, RESET, STOP,
//! CREDIT.

mod deadlines;
mod receive;
mod send;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use sss_wire::constants::MAX_MESSAGE;

use super::queue::KeyQueue;
use crate::config::WindowConfig;
use deadlines::Deadlines;

/// The rate of loss, in parts of 65536, up to which datagrams travel without state (STR-32): 1%.
const MAX_LOSS: u32 = 655;

/// How long packets take to the peer, as long as nothing is known: half of the initial round-trip time (REC-1).
const INITIAL_ONE_WAY: Duration = Duration::from_millis(166);

/// How a datagram is to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatagramOptions {
    /// Whether it is sent until it has arrived, or its deadline has passed.
    pub reliable: bool,
    /// How long it is of use. `None`: 5 s if it is not reliable, else as long as it takes.
    pub deadline: Option<Duration>,
    /// Its level among the children of its stream (STR-22).
    pub priority: i8,
    /// Whether [`Event::DatagramSettled`](crate::Event::DatagramSettled) is to tell what became of it.
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

/// What a tree knows of datagrams, of all its streams.
#[derive(Debug)]
pub(super) struct Datagrams {
    /// Datagrams of this host that are nodes of the tree, by slot. Never iterated.
    sending: HashMap<u32, send::Message, FixedState>,
    /// Datagrams that left without state and whose fate was asked for.
    flying: BTreeSet<u64>,
    /// Datagrams of the peer that are nodes of the tree, by slot. Never iterated.
    arriving: HashMap<u32, receive::Arriving, FixedState>,
    /// Those of them that wait for the budget.
    waiting: KeyQueue,
    /// Whether the first of these may find room now.
    grant_due: bool,
    deadlines: Deadlines,
    limits: Limits,
    next_id: u64,
    stats: DatagramStats,
}

/// What bounds datagrams.
#[derive(Debug)]
struct Limits {
    /// Largest datagram that the peer takes, once it has said so.
    peer_max: Option<u64>,
    /// Largest datagram that this host takes.
    own_max: u64,
    /// Bytes beyond what they borrow that all datagram streams of the peer may have.
    budget: u64,
    /// What is used of it.
    spent: u64,
    /// Bytes of stateless datagrams that wait, with their costs, on all streams.
    stateless: usize,
    /// The channel's rate of loss, in parts of 65536.
    loss: u32,
    /// How long packets take to the peer.
    one_way: Duration,
    /// Whether a datagram was abandoned before anything of it was sent.
    missed: bool,
    /// Where in the packet being written the scheduler's part begins.
    packet_start: usize,
}

impl Datagrams {
    pub(super) fn new(config: &WindowConfig, seed: u64) -> Self {
        let own_max = config.max_message.min(MAX_MESSAGE);
        Self {
            sending: HashMap::with_hasher(FixedState::with_seed(seed)),
            flying: BTreeSet::new(),
            arriving: HashMap::with_hasher(FixedState::with_seed(seed)),
            waiting: KeyQueue::default(),
            grant_due: false,
            deadlines: Deadlines::default(),
            limits: Limits {
                peer_max: None,
                own_max,
                budget: config.datagram_budget.max(own_max),
                spent: 0,
                stateless: 0,
                loss: 0,
                one_way: INITIAL_ONE_WAY,
                missed: false,
                packet_start: 0,
            },
            next_id: 0,
            stats: DatagramStats::default(),
        }
    }
}

impl super::Streams {
    /// The largest datagram that the peer takes, from its SETTINGS.
    pub(crate) fn set_peer_max_message(&mut self, bytes: u64) {
        self.datagrams.limits.peer_max = Some(bytes);
    }

    /// The rate of loss on the channel, in parts of 65536, and how long packets take to the peer.
    pub(crate) fn set_path(&mut self, loss: u32, one_way: Duration) {
        self.datagrams.limits.loss = loss;
        self.datagrams.limits.one_way = one_way;
    }

    /// Whether a datagram was abandoned before anything of it was sent, since this was asked last (STR-35).
    pub(crate) fn take_missed(&mut self) -> bool {
        std::mem::take(&mut self.datagrams.limits.missed)
    }

    /// Counters.
    pub(crate) fn datagram_stats(&self) -> DatagramStats {
        self.datagrams.stats
    }
}

/// What a stream has of datagrams, once there were any.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    /// What has arrived and was not taken.
    inbox: VecDeque<Arrived>,
    /// Bytes of the stateless ones among them, with their costs.
    stateless: usize,
    /// Stateless datagrams of this host that were sent, and are not known to have arrived or to be lost.
    flying: u32,
    /// Datagram streams of the peer that have not arrived whole.
    arriving: u32,
    /// Bytes of datagrams that wait to be sent, with their costs.
    queued: u64,
    /// If the application waits for room: there is some when no more than this is queued.
    room_at: Option<u64>,
}

impl Mailbox {
    pub(super) fn is_flying(&self) -> bool {
        self.flying > 0
    }
}

/// A datagram that waits for the application.
#[derive(Debug)]
struct Arrived {
    bytes: Bytes,
    form: Form,
}

/// How a datagram has come.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// In one packet; whether its bytes are a slice of a batch of packets.
    Stateless { is_slice: bool },
    /// As a stream.
    Stream(receive::Debt),
}

#[cfg(test)]
impl Datagrams {
    pub(super) fn set_own_max(&mut self, bytes: u64) {
        self.limits.own_max = bytes;
    }

    pub(super) fn set_budget(&mut self, bytes: u64) {
        self.limits.budget = bytes;
    }

    /// Bytes of stateless ones that wait, with their costs.
    pub(super) fn stateless(&self) -> usize {
        self.limits.stateless
    }

    /// Whether nothing is under way or waits for the application.
    pub(super) fn is_unused(&self) -> bool {
        let nodes = self.sending.len() + self.arriving.len() + self.flying.len();
        nodes == 0 && (self.limits.spent, self.limits.stateless) == (0, 0)
    }
}

#[cfg(test)]
impl super::Streams {
    /// Whether a datagram waits on a stream for the application, or has not arrived whole.
    pub(super) fn has_arrived(&self, index: u32) -> bool {
        let mailbox = self.table[index].rare.as_ref().and_then(|r| r.mailbox_ref());
        mailbox.is_some_and(|m| !m.inbox.is_empty() || m.arriving > 0)
    }
}
