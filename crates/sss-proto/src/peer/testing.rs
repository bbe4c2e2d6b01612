//! Access to a peer for the tests of a host.

use super::Peer;
use super::purpose::Purpose;
use crate::error::CloseReason;
use crate::ids::TreeId;
use crate::route::Link;
use crate::time::Instant;

impl Peer {
    /// Forgets which process the peer has said to be.
    pub(crate) fn forget_process(&mut self) {
        self.transport.namesakes.set_peer(None);
    }

    pub(crate) fn tree_id(&self) -> Option<TreeId> {
        self.tree.id()
    }

    /// Makes it ask for a tree.
    pub(crate) fn set_tree_id(&mut self, id: TreeId) {
        self.tree.rename(id);
    }

    /// The carrier is gone, as after a stateless reset.
    pub(crate) fn lose_carrier(&mut self, now: Instant) {
        let carrier = self.transport.channels.carrier_serial().expect("there is a carrier");
        self.lose(now, carrier, CloseReason::Idle(std::time::Duration::ZERO));
    }

    /// A new channel is made soon, beside those there are.
    pub(crate) fn renew(&mut self) {
        self.transport.mobility.on_moved();
        self.transport.mobility.stay();
        self.transport.mobility.retry_now();
    }

    /// Makes an attempt under way behave as the first of a tree.
    pub(crate) fn pretend_first_attempt(&mut self) {
        self.transport.attempts.pretend(Purpose::First);
    }

    /// Makes an attempt under way that for a channel which is to stand by, beside one that leads over this link.
    pub(crate) fn pretend_standby(&mut self, carrier: Link) {
        self.transport.attempts.pretend(Purpose::Standby(Some(carrier)));
        self.transport.mobility.on_channel_made();
    }

    /// Asks the peer for a sign of life on each channel.
    pub(crate) fn ask_all(&mut self) {
        self.transport.channels.iter_mut().for_each(|c| c.channel.ask());
    }

    /// None is replaced by a newer one.
    pub(crate) fn keep_all_channels(&mut self) {
        self.transport.channels.iter_mut().for_each(|c| c.retire_at = None);
    }

    /// The peer has announced this token for the carrier.
    pub(crate) fn set_reset_token(&mut self, token: [u8; 16]) {
        let carrier = self.transport.channels.carrier_mut().expect("there is a carrier");
        carrier.reset_token = Some(token);
        self.transport.names.set_outdated();
    }

    /// The keys of the carrier are replaced after every second packet.
    pub(crate) fn wear_keys(&mut self) {
        let carrier = self.transport.channels.carrier_mut().expect("there is a carrier");
        carrier.channel.wear_keys();
    }

    /// The ids on which it receives.
    pub(crate) fn channel_ids(&self) -> Vec<Vec<u8>> {
        let ids = self.transport.channels.iter().map(|c| c.channel.local_id());
        ids.map(|id| id.as_slice().to_vec()).collect()
    }

    /// Returns whether it has given back what it can make again.
    pub(crate) fn rests(&self) -> bool {
        self.transport
            .channels
            .iter()
            .all(|c| crate::channel::rests(&c.channel))
    }

    pub(crate) fn open_channels(&self) -> usize {
        self.transport.channels.open().count()
    }

    /// A packet of the carrier with these bytes as its frames, whatever they say.
    pub(crate) fn seal(&mut self, now: Instant, frames: &[u8]) -> Vec<u8> {
        let carrier = self.transport.channels.carrier_mut().expect("there is a carrier");
        let mut datagram = vec![0; carrier.channel.datagram_size()];
        let mut packet = carrier.channel.begin(&mut datagram);
        let space = packet.plaintext();
        let len = frames.len().min(space.len());
        space[..len].copy_from_slice(&frames[..len]);
        let size = carrier.channel.finish(now, packet.sealed(len, false), &mut Vec::new());
        datagram.truncate(size);
        datagram
    }
}
