//! Counters of channels.

use super::flight::PacketKind;
use super::sent::Flags;

/// Counters of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) packets_sent: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) packets_received: u64,
    pub(crate) bytes_received: u64,
    pub(crate) packets_lost: u64,
    pub(super) false_losses: u64,
    pub(super) congestion_events: u64,
    /// No more than a few a second: half the room is enough for both.
    pub(super) probe_timeouts: u32,
    pub(super) mtu_probes_lost: u32,
}

impl Counters {
    /// Counts a packet of so many bytes that was sent.
    pub(super) fn on_sent(&mut self, size: u16) {
        self.packets_sent += 1;
        self.bytes_sent += u64::from(size);
    }

    /// A packet of so many bytes is to be sent. The system may refuse to send a probe: that counts when it has arrived.
    pub(super) fn on_recorded(&mut self, kind: PacketKind, size: u16) {
        if kind != PacketKind::MtuProbe {
            self.on_sent(size);
        }
    }

    /// A packet is lost. Of those that are no probes the sum is added by itself.
    pub(super) fn on_lost(&mut self, flags: Flags) {
        let probes = u32::from(flags.has(Flags::MTU_PROBE));
        self.mtu_probes_lost = self.mtu_probes_lost.saturating_add(probes);
    }

    /// Adds what another channel counted of what a peer tells.
    pub(crate) fn add(&mut self, other: &Self) {
        self.packets_sent += other.packets_sent;
        self.bytes_sent += other.bytes_sent;
        self.packets_received += other.packets_received;
        self.bytes_received += other.bytes_received;
        self.packets_lost += other.packets_lost;
    }
}
