//! What can be known about a channel from outside.

use std::net::SocketAddr;
use std::time::Duration;

use sss_crypto::Suite;

use super::ecn::EcnState;
use super::mtu::MtuState;

/// Counters of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) packets_sent: u64,
    pub(super) bytes_sent: u64,
    pub(super) packets_received: u64,
    pub(super) bytes_received: u64,
    pub(super) packets_lost: u64,
    pub(super) false_losses: u64,
    pub(super) congestion_events: u64,
    pub(super) probe_timeouts: u64,
}

/// The state of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelInfo {
    /// The peer's address.
    pub remote: SocketAddr,
    /// The cipher suite.
    pub suite: Suite,
    /// The generation of the keys with which packets are sent.
    pub key_generation: u32,
    /// The smoothed round-trip time.
    pub rtt: Duration,
    /// The smallest round-trip time measured; `None` before the first measurement.
    pub min_rtt: Option<Duration>,
    /// The mean deviation of the round-trip time.
    pub rtt_variation: Duration,
    /// The size of full datagrams, in bytes of UDP payload.
    pub mtu: u16,
    /// Why datagrams have that size.
    pub mtu_state: MtuState,
    /// The name of the congestion controller.
    pub congestion: &'static str,
    /// The congestion window, in bytes.
    pub window: u64,
    /// Whether the window grows exponentially.
    pub slow_start: bool,
    /// Bytes sent and neither acknowledged nor lost.
    pub in_flight: u64,
    /// What is known about ECN on the path.
    pub ecn: EcnState,
    /// Packets older than an acknowledged one by this many numbers are lost.
    pub reordering_threshold: u64,
    /// Packets sent, packet 0 included.
    pub packets_sent: u64,
    /// Bytes of UDP payload sent.
    pub bytes_sent: u64,
    /// Packets received and opened, packet 0 included.
    pub packets_received: u64,
    /// Bytes of UDP payload received in them.
    pub bytes_received: u64,
    /// Packets declared lost.
    pub packets_lost: u64,
    /// Packets declared lost that had only been late.
    pub false_losses: u64,
    /// How often the window was reduced because of loss or ECN marks.
    pub congestion_events: u64,
    /// How often the probe timeout expired.
    pub probe_timeouts: u64,
}
