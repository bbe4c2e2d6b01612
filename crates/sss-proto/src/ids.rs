//! Handles by which the application and the parts of the core name things.

use std::fmt;

/// A stream within its peer's tree: a slot, and a generation that tells reuses of the slot apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamKey {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// A peer of a host: a slot and a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// A stream of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    pub(crate) peer: PeerId,
    pub(crate) key: StreamKey,
}

/// The peer and the stream, each as slot and generation: a name that this host never uses again.
impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, key } = self;
        write!(f, "{}.{}/{}.{}", peer.index, peer.generation, key.index, key.generation)
    }
}

impl StreamId {
    /// The peer to whose tree the stream belongs.
    pub fn peer(self) -> PeerId {
        self.peer
    }
}

/// A registered (service, protocol) of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub(crate) u32);

/// Names a datagram that was sent to a peer, among all that were sent to that peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatagramId(pub(crate) u64);

/// The tree of streams that two hosts share (MIG-1).
pub(crate) type TreeId = [u8; 16];
