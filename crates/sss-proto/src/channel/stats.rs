//! Statistics of a channel, for those outside.

use std::net::IpAddr;
use std::time::Duration;

use sss_crypto::Suite;

use super::congestion::ResumeState;
use super::ecn::EcnState;
use super::flight::Flight;
use super::keys::Keys;
use super::mtu::MtuState;
use super::path::Path;
use crate::route::Route;

/// The state of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelInfo {
    /// The way to the peer.
    pub route: Route,
    /// The address of this host that packets leave from, if the socket has told it.
    pub local: Option<IpAddr>,
    /// The cipher suite.
    pub suite: Suite,
    /// True if its keys come from ML-KEM-768 too, beside X25519: what is recorded today stays secret from those who
    /// have a quantum computer later.
    pub post_quantum: bool,
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
    /// The reason for that size.
    pub mtu_state: MtuState,
    /// The name of the congestion controller.
    pub congestion: &'static str,
    /// The congestion window, in bytes.
    pub window: u64,
    /// True if the window grows exponentially.
    pub slow_start: bool,
    /// Use that was made of what an earlier channel of the same path found out about it.
    pub resume: ResumeState,
    /// Bytes per second that congestion control lets out in the long run, of everything that is sent to the peer: a
    /// window in each round trip, or what it takes for the rate of the path. `bandwidth` tells what did arrive.
    pub rate: u64,
    /// Bytes sent and neither acknowledged nor lost.
    pub in_flight: u64,
    /// Packets that must be acknowledged, sent and neither acknowledged nor lost.
    pub in_flight_packets: usize,
    /// Bytes of packets acknowledged per second, in the latest window of a round trip (of 100 ms at least) that is
    /// over; 0 before the first one is. An application that sends less than the path carries sees here what it
    /// sends, and while nothing is sent it stays as it was.
    pub bandwidth: u64,
    /// The highest that `bandwidth` has been on the path that is in use.
    pub peak_bandwidth: u64,
    /// Bytes of UDP payload known to have arrived, in packets that carry data.
    pub bytes_delivered: u64,
    /// The part of the latest packets, about 256, that were lost, in millionths.
    pub recent_loss_ppm: u32,
    /// State of the validation of ECN on the path.
    pub ecn: EcnState,
    /// Packets older than an acknowledged one by this many numbers are lost.
    pub reordering_threshold: u64,
    /// Packets sent, packet 0 included. Probes of the path's size (CHN-8) are counted when they have arrived: this
    /// system may have refused to send them.
    pub packets_sent: u64,
    /// Bytes of UDP payload sent in them.
    pub bytes_sent: u64,
    /// Packets received and opened, packet 0 included.
    pub packets_received: u64,
    /// Bytes of UDP payload received in them.
    pub bytes_received: u64,
    /// Packets declared lost; probes of the path's size are not counted.
    pub packets_lost: u64,
    /// Probes of the path's size that did not arrive: the path does not carry them, or this system refused to send
    /// them.
    pub mtu_probes_lost: u64,
    /// Packets declared lost that had only been late.
    pub false_losses: u64,
    /// Reductions of the window because of loss or ECN marks.
    pub congestion_events: u64,
    /// Times that the probe timeout expired.
    pub probe_timeouts: u64,
    /// Acknowledgements that this host sent later than it announces: it was not run in time.
    pub late_acks: u64,
}

/// The state of a channel on `path`, which has sent `late_acks` acknowledgements too late.
pub(super) fn describe(path: &Path, keys: &Keys, flight: &Flight, late_acks: u64) -> ChannelInfo {
    let (recovery, flow, c) = (&flight.recovery, &flight.flow, &flight.counters);
    let controller = flow.controller.get();
    ChannelInfo {
        route: path.route,
        local: path.local,
        suite: keys.suite(),
        post_quantum: keys.is_post_quantum(),
        key_generation: keys.generation(),
        rtt: recovery.rtt.smoothed(),
        min_rtt: recovery.rtt.min(),
        rtt_variation: recovery.rtt.variation(),
        mtu: flight.mtu.current(),
        mtu_state: flight.mtu.state(),
        congestion: flow.controller.name(),
        window: controller.window(),
        rate: flight.rate().per_second(),
        slow_start: controller.in_slow_start(),
        resume: flow.controller.resume_state(),
        in_flight: flight.sent.in_flight(),
        in_flight_packets: flight.sent.eliciting(),
        bandwidth: flow.throughput.latest(),
        peak_bandwidth: flow.throughput.peak(),
        bytes_delivered: flow.throughput.delivered(),
        recent_loss_ppm: parts_per_million(recovery.loss_rate.get()),
        ecn: flight.ecn.state(),
        reordering_threshold: recovery.loss.threshold(),
        packets_sent: c.packets_sent,
        bytes_sent: c.bytes_sent,
        packets_received: c.packets_received,
        bytes_received: c.bytes_received,
        packets_lost: c.packets_lost,
        mtu_probes_lost: c.mtu_probes_lost.into(),
        false_losses: c.false_losses,
        congestion_events: c.congestion_events,
        probe_timeouts: c.probe_timeouts.into(),
        late_acks,
    }
}

/// A rate in parts of 65536 in millionths.
fn parts_per_million(rate: u32) -> u32 {
    u32::try_from(u64::from(rate) * 1_000_000 / 65_536).unwrap_or(u32::MAX)
}
