//! Handles by which the application and the parts of the core name things.

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

impl StreamId {
    /// The peer to whose tree the stream belongs.
    pub fn peer(self) -> PeerId {
        self.peer
    }
}

/// A registered (service, protocol) of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub(crate) u32);
