//! Counters of a host.

use crate::error::Drop;

/// What a host has seen since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    dropped: [u64; Drop::COUNT],
}

impl HostStats {
    /// Datagrams dropped for `reason`.
    pub fn dropped(&self, reason: Drop) -> u64 {
        self.dropped.get(reason as usize).copied().unwrap_or(0)
    }

    /// Datagrams dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    pub(crate) fn count_drop(&mut self, reason: Drop) {
        if let Some(counter) = self.dropped.get_mut(reason as usize) {
            *counter += 1;
        }
    }
}
