//! What a host is to its peers, whichever they are: identity, settings, randomness, and what it remembers.

mod history;

use std::sync::Arc;

use rand::rngs::StdRng;
use sss_crypto::{StaticKey, mac16};
use sss_wire::{ChannelId, Eid};

use crate::config::Config;
use crate::negotiation::{ChannelIds, responder};
use crate::seen::Sightings;
use crate::streams::HostBudget;

pub(crate) use history::{EndedTree, History};

/// What a host is, for as long as it exists.
pub(crate) struct Own {
    pub(crate) key: StaticKey,
    pub(crate) eid: Eid,
    pub(crate) config: Arc<Config>,
    pub(crate) rng: StdRng,
    /// The ids of this host's channels, present and future.
    pub(crate) ids: ChannelIds,
    /// The key of stateless reset tokens (PRT-11).
    pub(crate) reset_key: [u8; 32],
    /// What the receive windows of all peers have.
    pub(crate) budget: HostBudget,
    pub(crate) history: History,
    pub(crate) sightings: Sightings,
}

impl Own {
    /// What the responder's side of the negotiation borrows.
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
        mac16(&self.reset_key, &[id.as_slice()])
    }
}
