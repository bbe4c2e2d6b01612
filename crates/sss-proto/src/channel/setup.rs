//! Parts that a channel is made from, beside its keys.

use std::time::Duration;

use sss_crypto::Suite;
use sss_wire::ChannelId;

use super::path::Path;
use crate::config::Congestion;
use crate::key_log::KeyLog;
use crate::padding::Padding;
use crate::role::Role;

/// Wishes of the host for a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChannelConfig {
    /// Zero: never.
    pub(crate) idle_timeout: Duration,
    pub(crate) keepalive: Duration,
    /// Largest UDP payload that this host sends.
    pub(crate) max_datagram: u16,
    pub(crate) congestion: Congestion,
    /// Padding of all packets.
    pub(crate) padding: Padding,
    /// The peer's address may change from a global to a private one.
    pub(crate) allow_private_moves: bool,
    /// Its secrets are told to the host.
    pub(crate) key_log: bool,
}

/// Parts that a channel is made from, beside its keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChannelSetup {
    pub(crate) role: Role,
    /// The id on which this host receives.
    pub(crate) local_id: ChannelId,
    /// The id under which the peer receives. Known to the responder only from INITIATE.
    pub(crate) remote_id: ChannelId,
    pub(crate) path: Path,
    pub(crate) config: ChannelConfig,
    pub(crate) seed: u64,
}

impl ChannelSetup {
    /// The log of the channel's secrets.
    pub(super) fn key_log(&self, suite: Suite) -> KeyLog {
        KeyLog::new(self.config.key_log, suite, self.remote_id, self.local_id)
    }
}
