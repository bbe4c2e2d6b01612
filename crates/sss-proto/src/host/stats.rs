//! Counters of a host.

use crate::error::DropReason;
use crate::io::TransmitBuf;
use crate::negotiation::GreeterStats;

/// Counters of a host since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostStats {
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Bytes of UDP payload received.
    pub bytes_received: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Bytes of UDP payload sent.
    pub bytes_sent: u64,
    /// Channels made.
    pub channels_made: u64,
    /// Stateless resets sent.
    pub resets_sent: u64,
    /// Hosts that were told why they are refused (NEG-23).
    pub refusals_sent: u64,
    /// HELLOs and HELLO_Ks that were told to prove their address, or dropped, because there were too many (NEG-12,
    /// NEG-36, NEG-37).
    pub greetings_denied: u64,
    /// Streams to services of this host that its application has accepted.
    pub streams_accepted: u64,
    /// Streams to services that were refused: there is no such service or protocol, or it was withdrawn before the
    /// stream was accepted.
    pub streams_refused: u64,
    dropped: [u64; DropReason::COUNT],
}

impl HostStats {
    /// Datagrams dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped.get(reason as usize).copied().unwrap_or(0)
    }

    /// Datagrams dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Counts datagrams that leave, `segment` bytes each but for the last.
    pub(super) fn count_sent(&mut self, buf: &TransmitBuf, segment: usize) {
        self.datagrams_sent += buf.len().div_ceil(segment.max(1)) as u64;
        self.bytes_sent += buf.len() as u64;
    }

    /// Adds what another host, such as another shard, has done.
    pub fn merge(&mut self, other: &Self) {
        self.datagrams_received += other.datagrams_received;
        self.bytes_received += other.bytes_received;
        self.datagrams_sent += other.datagrams_sent;
        self.bytes_sent += other.bytes_sent;
        self.channels_made += other.channels_made;
        self.resets_sent += other.resets_sent;
        self.refusals_sent += other.refusals_sent;
        self.greetings_denied += other.greetings_denied;
        self.streams_accepted += other.streams_accepted;
        self.streams_refused += other.streams_refused;
        for (sum, count) in self.dropped.iter_mut().zip(&other.dropped) {
            *sum += count;
        }
    }

    /// Adds what a greeter has done.
    pub(super) fn add(&mut self, greeter: &GreeterStats) {
        self.merge(&Self {
            datagrams_received: greeter.datagrams_received,
            bytes_received: greeter.bytes_received,
            datagrams_sent: greeter.datagrams_sent,
            bytes_sent: greeter.bytes_sent,
            greetings_denied: greeter.denied,
            dropped: greeter.dropped,
            ..Self::default()
        });
    }

    pub(super) fn count_drop(&mut self, reason: DropReason) {
        if let Some(counter) = self.dropped.get_mut(reason as usize) {
            *counter += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_and_a_name_of_its_own() {
        let mut stats = HostStats::default();
        for (n, reason) in (1..).zip(DropReason::ALL) {
            (0..n).for_each(|_| stats.count_drop(reason));
        }
        for (n, reason) in (1..).zip(DropReason::ALL) {
            assert_eq!(stats.dropped(reason), n);
            assert_eq!(DropReason::ALL.iter().filter(|r| r.name() == reason.name()).count(), 1);
        }
        assert_eq!(stats.dropped_total(), 78);
    }
}
