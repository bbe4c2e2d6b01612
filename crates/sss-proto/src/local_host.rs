//! Properties of a host that all its peers share: identity, settings, randomness, and what it remembers.

mod history;
mod process;
mod routes;
mod saved_paths;

use std::net::SocketAddr;
use std::sync::Arc;

use rand::RngExt;
use sss_crypto::{StaticKey, mac16};
use sss_wire::params::Settings;
use sss_wire::{ChannelId, Eid, constants};
use zeroize::Zeroizing;

use crate::channel::{ChannelConfig, ChannelSetup, MAX_ACK_DELAY_US, Path};
use crate::config::{Config, StreamsConfig};
use crate::entropy::Randomness;
use crate::negotiation::{ChannelIds, responder};
use crate::padding::Padding;
use crate::role::Role;
use crate::seen::Sightings;
use crate::streams::{HostBudget, NetworkBudget, Streams};

pub(crate) use history::{EndedTree, History};
pub(crate) use process::Process;
pub(crate) use saved_paths::SavedPaths;

/// The parts of a host that last as long as it exists.
pub(crate) struct LocalHost {
    pub(crate) key: StaticKey,
    pub(crate) eid: Eid,
    pub(crate) config: Arc<Config>,
    pub(crate) rng: Randomness,
    pub(crate) process: Process,
    /// The ids of this host's channels, present and future.
    pub(crate) ids: ChannelIds,
    /// The key of stateless reset tokens (PRT-11).
    pub(crate) reset_key: Zeroizing<[u8; 32]>,
    /// Bytes that the receive windows of all peers have.
    pub(crate) budget: HostBudget,
    pub(crate) history: History,
    /// Set if nothing is heard of so many peers that none of those is looked for that come back by themselves (NEG-35).
    pub(crate) has_many_ghosts: bool,
    pub(crate) sightings: Sightings,
    /// Addresses of servers, of a host that is reached by relays alone (RCH-40).
    pub(crate) servers: Vec<SocketAddr>,
}

impl LocalHost {
    /// Returns what the responder's side of the negotiation borrows.
    pub(crate) fn for_responder(&mut self) -> responder::Own<'_> {
        responder::Own {
            key: &self.key,
            config: &self.config,
            rng: &mut self.rng,
            ids: &mut self.ids,
        }
    }

    pub(crate) fn new_channel_id(&mut self) -> ChannelId {
        self.ids.next(&mut self.rng)
    }

    /// The token that ends the channel on which this host receives under `id` (PRT-11).
    pub(crate) fn reset_token(&self, id: ChannelId) -> [u8; 16] {
        mac16(&*self.reset_key, &[id.as_slice()])
    }

    /// An empty tree of streams, for a new peer.
    pub(crate) fn new_streams(&mut self) -> Streams {
        let mut streams = Streams::new(StreamsConfig {
            window: self.config.window,
            seed: self.rng.random(),
        });
        let alone = self.budget.of_network(NetworkBudget::default());
        streams.set_host(alone, self.config.streams);
        streams
    }

    /// Returns what a channel is made from, beside its keys.
    pub(crate) fn channel_setup(
        &mut self,
        role: Role,
        (local_id, remote_id): (ChannelId, ChannelId),
        path: Path,
    ) -> ChannelSetup {
        ChannelSetup {
            role,
            local_id,
            remote_id,
            path,
            config: ChannelConfig {
                idle_timeout: self.config.idle_timeout,
                keepalive: self.config.keepalive,
                max_datagram: self.largest_sent(),
                congestion: self.config.congestion,
                padding: self.config.padding,
                allow_private_moves: self.config.allow_private_moves,
                key_log: self.config.key_log,
            },
            seed: self.rng.random(),
        }
    }

    /// Returns the largest datagram that this host sends: the one that each path carries if all are to be equal.
    fn largest_sent(&self) -> u16 {
        match self.config.padding {
            Padding::Constant => constants::BASE_DATAGRAM,
            _ => self.config.max_datagram,
        }
    }

    /// Returns what this host tells in packet 0. An initiator names the id on which it receives, too.
    pub(crate) fn settings(&self, local_id: ChannelId, channel_id: Option<ChannelId>) -> Settings {
        let config = &self.config;
        Settings {
            channel_id,
            reset_token: Some(self.reset_token(local_id)),
            root_credit: config.window.root,
            stream_borrow: config.window.borrow(),
            idle_timeout_ms: u64::try_from(config.idle_timeout.as_millis()).unwrap_or(u64::MAX),
            max_ack_delay_us: MAX_ACK_DELAY_US,
            max_datagram: u64::from(config.max_datagram),
            congestion: config.congestion.name().to_owned(),
            agent: config.agent.clone(),
            max_message: config.window.max_message.min(constants::MAX_MESSAGE),
            ..Settings::default()
        }
    }
}
