//! Counters of a peer, over all its channels.

/// Totals of a peer, over all channels that the shared streams have had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStats {
    /// Channels made.
    pub channels_made: u64,
    /// Moves of the streams from one channel to another.
    pub migrations: u64,
    /// Times that the peer stopped answering, or no channel was left any more, while there had been one that worked.
    pub outages: u64,
    /// Bytes that were written to streams and not sent: the queue. Divided by the path MTU it tells how many packets
    /// wait.
    pub unsent: u64,
    /// Packets sent, but for those of the negotiation that come before a channel, and for probes of the path's size
    /// that have not arrived.
    pub packets_sent: u64,
    /// Bytes of UDP payload sent in them.
    pub bytes_sent: u64,
    /// Packets received and opened.
    pub packets_received: u64,
    /// Bytes of UDP payload received in them.
    pub bytes_received: u64,
    /// Packets declared lost; probes of the path's size are not counted.
    pub packets_lost: u64,
}
