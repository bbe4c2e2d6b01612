//! How a channel comes to be: from COOKIE to INITIATE to ACCEPT, seen by one peer.

use bytes::Bytes;
use rand::RngExt;
use sss_crypto::packet::PacketKey;
use sss_crypto::schedule::{ChannelSecrets, EarlySecrets};
use sss_wire::frame::{Frame, Frames};
use sss_wire::long::{self, Accept, Cookie};
use sss_wire::params::Settings;
use sss_wire::{ChannelId, Code, constants};

use super::attempt::{Early, Purpose};
use super::dispatch::Via;
use super::link::{Acceptance, Link, LinkId, Origin};
use super::{Arrival, Context, Peer};
use crate::channel::{Channel, ChannelConfig, ChannelSetup, Path, Role};
use crate::error::{CloseReason, DropReason, NegotiationError, ProtocolError};
use crate::host::Own;
use crate::ids::StreamId;
use crate::io::{Instant, Transmit, TransmitBuf};
use crate::negotiation::{Accepted, Agreed};
use crate::packet::PacketWriter;
use crate::streams::{Streams, StreamsConfig};
use crate::token::Token;

/// A top-level stream that the peer opened.
pub(crate) struct Incoming {
    pub(crate) id: StreamId,
    pub(crate) service: Vec<u8>,
    pub(crate) protocol: Vec<u8>,
}

/// What a tree is called (MIG-1).
pub(crate) type TreeId = [u8; 16];

/// An INITIATE that was checked, and what its packet 0 begins with.
pub(crate) struct Initiated<'a> {
    pub(crate) version: u32,
    pub(crate) attempt: [u8; 8],
    pub(crate) packet: &'a [u8],
    pub(crate) settings: Settings,
}

/// What became of the wish for a tree.
enum Asked {
    /// The channel carries it, or a new one as it was to.
    Settled,
    /// The peer does not know it (MIG-4).
    Unknown,
}

/// What ACCEPT is sealed with.
pub(crate) struct AcceptKeys {
    pub(crate) key: PacketKey,
    pub(crate) nonce: [u8; 32],
}

/// The tree of a new peer.
pub(super) fn new_streams(context: &mut Context<'_>) -> Streams {
    let window = context.own.config.window;
    let mut streams = Streams::new(StreamsConfig {
        window,
        seed: context.own.rng.random(),
    });
    streams.share_budget(context.own.budget.clone());
    streams
}

impl Peer {
    /// COOKIE: if it is authentic, the channel is made, and INITIATE with the first frames.
    pub(crate) fn on_cookie(
        &mut self,
        context: &mut Context<'_>,
        cookie: &Cookie<'_>,
        arrival: &Arrival,
    ) -> Result<(), DropReason> {
        let attempt = self.attempt.as_mut().filter(|a| a.early.is_none());
        let attempt = attempt.ok_or(DropReason::UnknownAttempt)?;
        let purpose = attempt.purpose;
        let suites = &context.own.config.suites;
        let agreed = attempt
            .initiation
            .on_cookie(context.now, cookie, arrival.remote, suites)?;
        let result = agreed.and_then(|agreed| self.initiate(context, agreed, arrival));
        match result {
            Ok(()) => self.names_changed = true,
            Err(error) if purpose == Purpose::First => self.fail(error.into()),
            Err(_) => self.give_up_attempt(),
        }
        Ok(())
    }

    fn initiate(
        &mut self,
        context: &mut Context<'_>,
        agreed: Agreed,
        arrival: &Arrival,
    ) -> Result<(), NegotiationError> {
        let Some(attempt) = &mut self.attempt else {
            return Ok(());
        };
        let local_id = context.own.new_channel_id();
        let setup = context
            .own
            .channel_setup(Role::Initiator, (local_id, agreed.channel_id), arrival);
        let rtt = agreed.rtt;
        let mut settings = context.own.settings(local_id, Some(local_id));
        settings.tree = self.tree.id;
        let streams = match self.tree.id {
            Some(_) => None,
            None => {
                settings.other_trees = self.tree.others.clone();
                settings.accepted = context.own.history.accepted_from(context.now, &self.eid);
                self.streams.set_role(Role::Initiator);
                Some(&mut self.streams)
            }
        };
        let mut tokens = Vec::new();
        let frames = first_frames(agreed.room(), &settings, streams, &mut tokens);
        let suite = agreed.suite;
        let split = attempt
            .initiation
            .initiate(context.now, agreed, &context.own.key, &frames)?;
        let mut channel = Channel::early(context.now, setup, suite, &EarlySecrets::from(split), rtt);
        channel.record_packet_zero(context.now, attempt.initiation.initiate_size(), &tokens);
        attempt.early = Some(Early {
            channel: Box::new(channel),
            local_id,
        });
        Ok(())
    }

    /// ACCEPT: if it is authentic, the channel is established.
    pub(crate) fn on_accept(
        &mut self,
        context: &mut Context<'_>,
        accept: &Accept<'_>,
        size: usize,
        arrival: &Arrival,
    ) -> Result<(), DropReason> {
        let now = context.now;
        let attempt = self.attempt.as_mut().ok_or(DropReason::UnknownAttempt)?;
        let early = attempt.early.as_mut().ok_or(DropReason::UnknownAttempt)?;
        let was_repeated = attempt.initiation.was_repeated();
        let split = attempt.initiation.split().ok_or(DropReason::UnknownAttempt)?;
        let secrets = ChannelSecrets::derive(split, accept.nonce);
        let key = PacketKey::new(early.channel.suite(), &secrets.responder);
        let mut frames = accept.sealed_frames.to_vec();
        let len = key
            .open(0, accept.header, &mut frames)
            .map_err(|_| DropReason::Unauthentic)?;
        frames.truncate(len);
        let channel = &mut early.channel;
        channel.install(now, &secrets);
        channel.note_packet_zero_received(now, size, arrival.ecn);
        channel.ack_packet_zero(now, was_repeated, &mut self.fates);
        self.settle_fates();
        let Some(early) = self.attempt.take().and_then(|a| a.early) else {
            return Err(DropReason::UnknownAttempt);
        };
        if self.tree.id.is_none() {
            context.own.history.note_initiated(now, self.eid);
        }
        self.tree.is_confirmed = true;
        let asked = self.tree.id;
        let link = self.add_link(now, early.channel, Role::Initiator, None);
        let tree = asked.unwrap_or(secrets.half_initiator);
        self.begin_established(now, (link, tree), frames, |settings| check_tree(asked, settings.tree));
        Ok(())
    }

    /// INITIATE was checked by the responder: if its frames are good, the channel is established.
    pub(crate) fn on_initiate(
        &mut self,
        context: &mut Context<'_>,
        accepted: &Accepted,
        initiated: &Initiated<'_>,
        arrival: &Arrival,
    ) -> Result<(), DropReason> {
        let remote_id = initiated.settings.channel_id.ok_or(DropReason::Malformed)?;
        let now = context.now;
        let nonce = context.own.rng.random();
        let secrets = ChannelSecrets::derive(&accepted.split, &nonce);
        let early = EarlySecrets::from(&accepted.split);
        let ids = (accepted.channel_id, remote_id);
        let setup = context.own.channel_setup(Role::Responder, ids, arrival);
        let mut channel = Channel::accepted(now, setup, accepted.suite, &early, &secrets);
        channel.note_packet_zero_received(now, initiated.packet.len(), arrival.ecn);

        // What was sent as early data on an attempt that lost is sent again (NEG-18).
        self.give_up_attempt();
        if self.tree.id.is_none() {
            self.streams.set_role(Role::Responder);
            context.own.history.note_accepted(now, self.eid, initiated.attempt);
        }
        let acceptance = Acceptance {
            version: initiated.version,
            attempt: initiated.attempt,
            initiate: initiated.packet.to_vec(),
            accept: Vec::new(),
            keys: AcceptKeys {
                key: PacketKey::new(accepted.suite, &secrets.responder),
                nonce,
            },
        };
        let link = self.add_link(now, Box::new(channel), Role::Responder, Some(Box::new(acceptance)));
        let tree = self.tree.id.unwrap_or(secrets.half_initiator);
        self.begin_established(now, (link, tree), accepted.frames.clone(), |_| Ok(Asked::Settled));
        Ok(())
    }

    /// A channel of the tree, or the first one.
    pub(super) fn add_link(
        &mut self,
        now: Instant,
        channel: Box<Channel>,
        role: Role,
        acceptance: Option<Box<Acceptance>>,
    ) -> LinkId {
        let origin = Origin {
            role,
            made: now,
            continues: self.tree.id.is_some(),
        };
        let (link, surplus) = self.links.add(channel, origin, acceptance);
        if let Some(oldest) = surplus {
            self.retire_link(now, oldest);
        }
        self.names_changed = true;
        link
    }

    /// Takes in the frames of the peer's packet 0.
    fn begin_established(
        &mut self,
        now: Instant,
        (link, tree): (LinkId, TreeId),
        frames: Vec<u8>,
        check: impl FnOnce(&Settings) -> Result<Asked, ProtocolError>,
    ) {
        let is_first = self.tree.id.is_none();
        self.tree.id = Some(tree);
        if is_first {
            self.tree.began = now;
            self.announce_connected();
        }
        let bytes = Bytes::from(frames);
        let mut frames = Frames::new(&bytes);
        let via = Via {
            link,
            takes_streams: is_first || self.is_initiator_of(link),
        };
        let result = leading_settings(&mut frames)
            .and_then(|settings| self.apply_settings(link, &settings).and_then(|()| check(&settings)))
            .and_then(|asked| match asked {
                Asked::Settled => self.dispatch(now, via, frames, &bytes).map(|_| ()),
                Asked::Unknown => {
                    self.on_unknown_tree(now);
                    Ok(())
                }
            });
        match result {
            Ok(()) => self.consider(now, link),
            Err(violation) => self.violated(now, violation),
        }
    }

    fn is_initiator_of(&self, link: LinkId) -> bool {
        self.links.get(link).is_some_and(|l| l.origin.role == Role::Initiator)
    }

    /// MIG-4: the peer has lost the tree that was asked for.
    fn on_unknown_tree(&mut self, now: Instant) {
        let text = "the tree that was asked for is not known";
        self.end(now, (Code::UNKNOWN_TREE, text), CloseReason::PeerRestarted);
    }

    /// CHN-1.
    fn apply_settings(&mut self, id: LinkId, settings: &Settings) -> Result<(), ProtocolError> {
        if settings.channel_id.is_some() == self.is_initiator_of(id) {
            return Err(ProtocolError::new(
                Code::SETTINGS,
                "channel_id belongs into INITIATE only",
            ));
        }
        self.streams.set_peer_settings(settings.root_credit)?;
        self.streams.set_peer_max_message(settings.max_message);
        if let Some(link) = self.links.get_mut(id) {
            link.reset_token = settings.reset_token;
            link.channel.apply_peer_settings(settings);
            self.names_changed = true;
        }
        Ok(())
    }

    /// Makes ACCEPT when there is a chance that the application has something to say in it.
    pub(super) fn transmit_accept(
        &mut self,
        context: &mut Context<'_>,
        buf: &mut TransmitBuf,
        tokens: &mut Vec<Token>,
    ) -> Option<Transmit> {
        let tree = self.tree.id;
        let is_owed = |l: &&mut Link| l.is_open() && l.acceptance.as_ref().is_some_and(|a| a.accept.is_empty());
        let link = self.links.iter_mut().find(is_owed)?;
        let channel = &mut link.channel;
        let acceptance = link.acceptance.as_mut()?;
        let mut settings = context.own.settings(channel.local_id(), None);
        settings.tree = tree.filter(|_| link.origin.continues);
        tokens.clear();
        let frames = first_frames(long::ACCEPT_ROOM, &settings, Some(&mut self.streams), tokens);
        let keys = &acceptance.keys;
        let mut packet = long::accept_header(acceptance.version, &acceptance.attempt, &keys.nonce);
        let header = packet.clone();
        let start = packet.len();
        packet.extend_from_slice(&frames);
        packet.resize(packet.len() + 16, 0);
        keys.key.seal(0, &header, packet.get_mut(start..)?);
        channel.record_packet_zero(context.now, packet.len(), tokens);
        tokens.clear();
        buf.put(&packet);
        acceptance.accept = packet;
        Some(channel.transmit(buf.len()))
    }
}

impl Own {
    fn channel_setup(
        &mut self,
        role: Role,
        (local_id, remote_id): (ChannelId, ChannelId),
        arrival: &Arrival,
    ) -> ChannelSetup {
        ChannelSetup {
            role,
            local_id,
            remote_id,
            path: Path {
                remote: arrival.remote,
                local: arrival.local,
            },
            config: ChannelConfig {
                idle_timeout: self.config.idle_timeout,
                keepalive: self.config.keepalive,
                max_datagram: self.config.max_datagram,
                congestion: self.config.congestion,
            },
            seed: self.rng.random(),
        }
    }

    /// What this host tells in packet 0.
    fn settings(&self, local_id: ChannelId, channel_id: Option<ChannelId>) -> Settings {
        let config = &self.config;
        Settings {
            channel_id,
            reset_token: Some(self.reset_token(local_id)),
            root_credit: config.window.root,
            idle_timeout_ms: u64::try_from(config.idle_timeout.as_millis()).unwrap_or(u64::MAX),
            max_ack_delay_us: crate::channel::MAX_ACK_DELAY_US,
            max_datagram: u64::from(config.max_datagram),
            congestion: config.congestion.name().to_owned(),
            agent: config.agent.clone(),
            max_message: config.window.max_message.min(constants::MAX_MESSAGE),
            ..Settings::default()
        }
    }
}

/// SETTINGS, and as many frames of the streams as fit.
fn first_frames(room: usize, settings: &Settings, streams: Option<&mut Streams>, tokens: &mut Vec<Token>) -> Vec<u8> {
    let mut space = vec![0; room];
    let mut writer = PacketWriter::new(&mut space, tokens);
    sss_wire::frame::write_settings(writer.eliciting(), settings);
    if let Some(streams) = streams {
        streams.fill(&mut writer);
    }
    let len = writer.len();
    space.truncate(len);
    space
}

/// MIG-2, MIG-4: what ACCEPT says of the tree that was asked for.
fn check_tree(asked: Option<TreeId>, told: Option<TreeId>) -> Result<Asked, ProtocolError> {
    match (asked, told) {
        (None, None) => Ok(Asked::Settled),
        (Some(asked), Some(told)) if asked == told => Ok(Asked::Settled),
        (Some(_), None) => Ok(Asked::Unknown),
        _ => Err(ProtocolError::new(Code::SETTINGS, "a tree that was not asked for")),
    }
}

/// The SETTINGS that INITIATE begins with.
///
/// # Errors
/// If there are none: then the packet is dropped (NEG-10).
pub(crate) fn settings_of(accepted: &Accepted) -> Result<Settings, DropReason> {
    leading_settings(&mut Frames::new(&accepted.frames)).map_err(|_| DropReason::Malformed)
}

/// The SETTINGS that packet 0 must begin with.
fn leading_settings(frames: &mut Frames<'_>) -> Result<Settings, ProtocolError> {
    match frames.next() {
        Some(Ok(Frame::Settings(settings))) => {
            Settings::decode(settings).map_err(|m| ProtocolError::new(Code::SETTINGS, m.0))
        }
        _ => Err(ProtocolError::new(
            Code::SETTINGS,
            "packet 0 does not begin with SETTINGS",
        )),
    }
}
