//! The responder's side of a channel that comes to be: from an INITIATE that was checked, to ACCEPT.

use rand::RngExt;
use sss_crypto::packet::PacketKey;
use sss_crypto::schedule::{ChannelSecrets, EarlySecrets};
use sss_wire::params::{Process, Settings};
use sss_wire::reach::RELAY_HEADER;
use sss_wire::{ChannelId, long};

use super::context::{Arrival, Context};
use super::packet_zero;
use super::tree::SharedTree;
use crate::channel::{Channel, Path};
use crate::error::DropReason;
use crate::ids::TreeId;
use crate::io::{Ecn, Transmit, TransmitBuf};
use crate::negotiation::{AcceptKeys, Proven, close_frame};
use crate::role::Role;
use crate::route::Route;
use crate::streams::Streams;
use crate::token::Token;

/// Paths that are remembered by which INITIATE has come again.
const MAX_WAYS: usize = 4;

/// An INITIATE that was checked, and what its packet 0 begins with.
pub(crate) struct Initiated<'a> {
    pub(crate) version: u32,
    pub(crate) attempt: [u8; 8],
    pub(crate) packet: &'a [u8],
    pub(crate) settings: Settings,
    /// The attempt that the initiator named, if no channel is ever made from it (NEG-25).
    pub(crate) void: Option<[u8; 8]>,
    /// This process, as it is now.
    pub(crate) process: Process,
}

/// The responder's ACCEPT, and the INITIATE that it answers (NEG-11).
pub(crate) struct Acceptance {
    version: u32,
    attempt: [u8; 8],
    initiate: Vec<u8>,
    /// Empty until it was made.
    accept: Vec<u8>,
    /// Set if it may go by a relay too: it is so much shorter.
    overhead: usize,
    /// Other paths by which INITIATE has come (RCH-16).
    others: Vec<Path>,
    keys: AcceptKeys,
    /// The id that the cookie had.
    channel: ChannelId,
    /// The tree that was asked for, and that this host knows.
    tree: Option<TreeId>,
    /// The attempt that the initiator named, and that is void (NEG-25).
    void: Option<[u8; 8]>,
    /// This process, unless the tree is one that was asked for (MIG-30).
    process: Option<Process>,
}

/// The responder's end of a channel, when INITIATE was checked.
pub(super) struct AcceptedChannel {
    pub(super) channel: Box<Channel>,
    pub(super) acceptance: Box<Acceptance>,
    /// The tree of the channel.
    pub(super) tree: TreeId,
    /// Length and mark of INITIATE.
    pub(super) arrived: (usize, Ecn),
}

/// Makes the responder's end of a channel.
///
/// # Errors
/// If INITIATE does not say what the channel is called at the peer.
pub(super) fn accept(
    context: &mut Context<'_>,
    proven: &Proven,
    initiated: &Initiated<'_>,
    arrival: &Arrival,
    tree: &SharedTree,
) -> Result<AcceptedChannel, DropReason> {
    let remote_id = initiated.settings.channel_id.ok_or(DropReason::Malformed)?;
    let (now, host) = (context.now, &mut *context.host);
    let nonce = host.rng.refresh().random();
    let secrets = ChannelSecrets::derive(&proven.split, &nonce);
    let early = EarlySecrets::from(&proven.split);
    let ids = (proven.channel_id, remote_id);
    let setup = host.channel_setup(Role::Responder, ids, arrival.path());
    let bound = now.since(proven.issued);
    let channel = Channel::accepted(now, setup, proven.suite, (&early, &secrets), bound);
    let acceptance = Acceptance {
        version: initiated.version,
        attempt: initiated.attempt,
        initiate: initiated.packet.to_vec(),
        accept: Vec::new(),
        overhead: match proven.is_introduced {
            true => RELAY_HEADER,
            false => arrival.route.overhead(),
        },
        others: Vec::new(),
        keys: AcceptKeys {
            key: PacketKey::new(proven.suite, &secrets.responder),
            nonce,
        },
        channel: proven.channel_id,
        tree: tree.id(),
        void: initiated.void,
        process: (tree.id().is_none() || initiated.settings.tree.is_none()).then_some(initiated.process),
    };
    Ok(AcceptedChannel {
        channel: Box::new(channel),
        acceptance: Box::new(acceptance),
        tree: tree.id().unwrap_or(secrets.half_initiator),
        arrived: (initiated.packet.len(), arrival.ecn),
    })
}

impl Acceptance {
    /// The attempt that it answers.
    pub(super) fn attempt(&self) -> &[u8; 8] {
        &self.attempt
    }

    /// The id that the cookie had.
    pub(super) fn channel(&self) -> ChannelId {
        self.channel
    }

    /// Returns whether ACCEPT was not made yet.
    pub(super) fn is_owed(&self) -> bool {
        self.accept.is_empty()
    }

    /// Returns whether `initiate` is the packet that it answers.
    pub(super) fn answers(&self, initiate: &[u8]) -> bool {
        self.initiate == initiate
    }

    /// INITIATE has come again: if it is of an introduction, perhaps by another route.
    pub(super) fn note_way(&mut self, path: Path) {
        let is_new = self.others.iter().all(|known| known.route != path.route);
        if is_new && self.others.len() < MAX_WAYS {
            self.others.push(path);
        }
    }

    /// The path among those by which INITIATE has come that has this route.
    pub(super) fn way(&self, route: &Route) -> Option<Path> {
        self.others.iter().copied().find(|known| known.route == *route)
    }

    /// ACCEPT as it was sent; empty until it was made.
    pub(super) fn accept(&self) -> &[u8] {
        &self.accept
    }

    /// Makes ACCEPT: late, when there is a chance that the application has something to say in it.
    pub(super) fn transmit(
        &mut self,
        context: &mut Context<'_>,
        channel: &mut Channel,
        streams: &mut Streams,
        buf: &mut TransmitBuf,
        tokens: &mut Vec<Token>,
    ) -> Option<Transmit> {
        self.make(context, channel, Some(streams), tokens)?;
        buf.put(&channel.route(), &self.accept);
        // CHN-7: packet 0 is outside of what is counted.
        let ecn = Ecn::NotEct;
        Some(Transmit {
            ecn,
            ..channel.transmit(buf.len())
        })
    }

    /// Makes ACCEPT, with what `streams` have to say. `None` if it cannot be sealed.
    pub(super) fn make(
        &mut self,
        context: &mut Context<'_>,
        channel: &mut Channel,
        streams: Option<&mut Streams>,
        tokens: &mut Vec<Token>,
    ) -> Option<()> {
        tokens.clear();
        // CHN-17: with what a relay forwards it by, it is no longer than without.
        let room = long::ACCEPT_ROOM - self.overhead;
        let frames = match channel.close_due() {
            Some((code, reason)) => close_frame(code, reason, room),
            None => {
                let mut settings = context.host.settings(channel.local_id(), None);
                settings.tree = self.tree;
                settings.attempts.void = self.void;
                settings.process = self.process;
                let room = (room, context.host.config.padding);
                packet_zero::write(room, &settings, streams, tokens)
            }
        };
        let packet = self.keys.seal(self.version, &self.attempt, &frames)?;
        channel.note_close_sent();
        channel.record_packet_zero(context.now, packet.len(), tokens);
        tokens.clear();
        self.accept = packet;
        Some(())
    }
}
