//! Counts of what an attack did.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use sss_wire::Code;

/// Counts of an attack under way. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<Counts>);

/// The code of no channel: a code has 62 bits.
const NO_CODE: u64 = u64::MAX;

#[derive(Debug)]
struct Counts {
    packets: AtomicU64,
    bytes: AtomicU64,
    answered: AtomicU64,
    peers: AtomicU64,
    streams: AtomicU64,
    gone: AtomicU64,
    unheard: AtomicU64,
    closed: AtomicU64,
    code: AtomicU64,
    made: AtomicU64,
    taken: AtomicU64,
    /// Introductions, and bytes under the address of somebody else.
    reach: [AtomicU64; 2],
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            packets: AtomicU64::default(),
            bytes: AtomicU64::default(),
            answered: AtomicU64::default(),
            peers: AtomicU64::default(),
            streams: AtomicU64::default(),
            gone: AtomicU64::default(),
            unheard: AtomicU64::default(),
            closed: AtomicU64::default(),
            code: AtomicU64::new(NO_CODE),
            made: AtomicU64::default(),
            taken: AtomicU64::default(),
            reach: Default::default(),
        }
    }
}

impl Tally {
    /// Notes a packet of so many bytes that was sent by hand, or by a relay.
    pub(crate) fn sent(&self, bytes: usize) {
        self.0.packets.fetch_add(1, Ordering::Relaxed);
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes bytes that came from the target to a socket of this program, or through a relay.
    pub(crate) fn answered(&self, bytes: usize) {
        self.0.answered.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes an identity.
    pub(crate) fn peer(&self) {
        self.0.peers.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes a stream.
    pub(crate) fn stream(&self) {
        self.0.streams.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes a peer that vanished, and of which is counted what it is sent afterwards.
    pub(crate) fn gone(&self) {
        self.0.gone.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes bytes that were sent to one of those.
    pub(crate) fn unheard(&self, bytes: usize) {
        self.0.unheard.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes a channel that the target has closed, or refused, with this code.
    pub(crate) fn closed(&self, code: Code) {
        self.0.closed.fetch_add(1, Ordering::Relaxed);
        self.0.code.store(code.value(), Ordering::Relaxed);
    }

    /// Notes a channel that was made by hand, and with which nothing is wrong; or that is heard in spite of all.
    pub(crate) fn made(&self) {
        self.0.made.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes something wrong that the target took.
    pub(crate) fn taken(&self) {
        self.0.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes an introduction: a registration server has begun it, or a false one has told a client of it.
    pub(crate) fn introduced(&self) {
        self.0.reach[0].fetch_add(1, Ordering::Relaxed);
    }

    /// Notes a packet of so many bytes that was sent under the address of somebody else.
    pub(crate) fn forged(&self, bytes: usize) {
        self.sent(bytes);
        self.0.reach[1].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn report(&self, attack: &'static str) -> Report {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Report {
            attack,
            packets: read(&self.0.packets),
            bytes: read(&self.0.bytes),
            answered: read(&self.0.answered),
            peers: read(&self.0.peers),
            streams: read(&self.0.streams),
            gone: read(&self.0.gone),
            unheard: read(&self.0.unheard),
            closed: read(&self.0.closed),
            code: Some(read(&self.0.code))
                .filter(|code| *code != NO_CODE)
                .map(Code::from_value),
            made: read(&self.0.made),
            taken: read(&self.0.taken),
            introduced: read(&self.0.reach[0]),
            forged: read(&self.0.reach[1]),
        }
    }
}

/// Outcome of an attack, for the attacker: what the target made of it is to be seen there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The attack, as on the command line.
    pub attack: &'static str,
    /// Packets sent by hand or by a relay; those of peers without a relay are not counted.
    pub packets: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Bytes that the target sent in return.
    pub answered: u64,
    /// Identities used.
    pub peers: u64,
    /// Streams opened.
    pub streams: u64,
    /// Peers that vanished while it was counted what they are sent (the first 200).
    pub gone: u64,
    /// Bytes that the target sent to these after they were gone; or to an address that was not the sender's own.
    pub unheard: u64,
    /// Channels that the target closed, or refused, of those that this program has the keys of.
    pub closed: u64,
    /// The code with which it closed the last one of them.
    pub code: Option<Code>,
    /// Channels that were made by hand, and with which nothing was wrong; or of which all keys were followed.
    pub made: u64,
    /// Wrongs that the target took: each is a defence that does not hold.
    pub taken: u64,
    /// Introductions that a registration server has begun, or that a false one has told clients of.
    pub introduced: u64,
    /// Bytes of packets that were sent under the address of somebody else.
    pub forged: u64,
}

impl Report {
    /// The report as one JSON object.
    pub fn json(&self) -> Value {
        json!({
            "attack": self.attack,
            "packets": self.packets,
            "bytes": self.bytes,
            "answered": self.answered,
            "peers": self.peers,
            "streams": self.streams,
            "gone": self.gone,
            "unheard": self.unheard,
            "closed": self.closed,
            "code": self.code.map(|code| code.to_string()),
            "made": self.made,
            "taken": self.taken,
            "introduced": self.introduced,
            "forged": self.forged,
        })
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: {} packets ({} bytes) sent, {} bytes answered; {} identities, {} streams, {} closed",
            self.attack, self.packets, self.bytes, self.answered, self.peers, self.streams, self.closed
        )
    }
}
