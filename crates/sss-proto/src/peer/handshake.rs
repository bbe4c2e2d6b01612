//! How a channel comes to be: from COOKIE to INITIATE to ACCEPT, seen by one peer.

use std::net::SocketAddr;

use bytes::Bytes;
use rand::RngExt;
use sss_crypto::packet::PacketKey;
use sss_crypto::schedule::{ChannelSecrets, EarlySecrets};
use sss_wire::frame::{Close, Frame, Frames};
use sss_wire::long::{self, Accept, Cookie};
use sss_wire::params::Settings;
use sss_wire::{ChannelId, Code, constants};

use super::attempt::{Attempt, Early, Purpose};
use super::dispatch::Via;
use super::link::{Acceptance, Link, LinkId, Origin};
use super::{Arrival, Context, Peer};
use crate::channel::{Channel, ChannelConfig, ChannelSetup, Path};
use crate::error::{CloseReason, DropReason, NegotiationError, ProtocolError};
use crate::ids::{StreamId, TreeId};
use crate::io::{Ecn, Transmit, TransmitBuf};
use crate::local_host::Own;
use crate::negotiation::{AcceptKeys, Agreed, Proven, close_frame};
use crate::packet::PacketWriter;
use crate::role::Role;
use crate::streams::{Streams, StreamsConfig};
use crate::time::Instant;
use crate::token::Token;

/// A top-level stream that the peer opened.
pub(crate) struct Incoming {
    pub(crate) id: StreamId,
    pub(crate) service: Vec<u8>,
    pub(crate) protocol: Vec<u8>,
}

/// An INITIATE that was checked, and what its packet 0 begins with.
pub(crate) struct Initiated<'a> {
    pub(crate) version: u32,
    pub(crate) attempt: [u8; 8],
    pub(crate) packet: &'a [u8],
    pub(crate) settings: Settings,
    /// The attempt that the initiator named, if no channel is ever made from it (NEG-25).
    pub(crate) void: Option<[u8; 8]>,
}

/// What became of the wish for a tree.
enum Asked {
    /// The channel carries it, or a new one as it was to.
    Settled,
    /// The peer does not know it (MIG-4).
    Unknown,
}

/// What ACCEPT says became of the attempt that INITIATE named (NEG-25).
enum Fate {
    /// It made no channel, and never will.
    NeverAccepted,
    /// It made a channel, which is over; the tree that began with it lives, and has the new channel.
    Accepted(TreeId),
    /// Nobody knows.
    Unknown,
}

/// A channel whose responder does not know the streams that were sent to it as early data (NEG-25).
pub(crate) struct Orphan {
    channel: Box<Channel>,
    tree: TreeId,
    frames: Vec<u8>,
    hints: Vec<SocketAddr>,
}

/// The tree of a new peer.
pub(super) fn new_streams(context: &mut Context<'_>) -> Streams {
    let window = context.own.config.window;
    let mut streams = Streams::new(StreamsConfig {
        window,
        seed: context.own.rng.random(),
    });
    streams.share_budget(context.own.budget.clone());
    streams.set_limits(context.own.config.streams);
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
        settings.attempts.earlier = attempt.earlier_setting();
        let streams = match self.tree.id {
            Some(_) => None,
            None => {
                settings.other_trees = self.tree.others.clone();
                settings.attempts.accepted = context.own.history.accepted_from(context.now, &self.eid);
                self.streams.set_role(Role::Initiator);
                // NEG-24
                Some(&mut self.streams).filter(|_| attempt.earlier.is_none())
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

    /// ACCEPT: if it is authentic, the channel is established, or the attempt refused. Returns the channel if it is not for the
    /// streams of this tree, which has ended then.
    pub(crate) fn on_accept(
        &mut self,
        context: &mut Context<'_>,
        accept: &Accept<'_>,
        size: usize,
        arrival: &Arrival,
    ) -> Result<Option<Orphan>, DropReason> {
        let now = context.now;
        let attempt = self.attempt.as_ref().and_then(|a| a.named(accept.attempt));
        let attempt = attempt.ok_or(DropReason::UnknownAttempt)?;
        let early = attempt.early.as_ref().ok_or(DropReason::UnknownAttempt)?;
        let split = attempt.initiation.split().ok_or(DropReason::UnknownAttempt)?;
        let secrets = ChannelSecrets::derive(split, accept.nonce);
        let key = PacketKey::new(early.channel.suite(), &secrets.responder);
        let mut frames = accept.sealed_frames.to_vec();
        let len = key
            .open(0, accept.header, &mut frames)
            .map_err(|_| DropReason::Unauthentic)?;
        frames.truncate(len);
        let was_repeated = attempt.initiation.was_repeated();
        let Some(mut attempt) = self.attempt.take() else {
            return Err(DropReason::UnknownAttempt);
        };
        self.names_changed = true;
        if attempt.initiation.attempt() != accept.attempt {
            // The one before was accepted after all.
            attempt = attempt.earlier.take().ok_or(DropReason::UnknownAttempt)?;
        }
        if let Some(Ok(Frame::Close(close))) = Frames::new(&frames).next() {
            self.on_refused(now, &close, arrival);
            return Ok(None);
        }
        let mut channel = attempt.early.ok_or(DropReason::UnknownAttempt)?.channel;
        channel.install(now, &secrets);
        channel.note_packet_zero_received(now, size, arrival.ecn);
        channel.ack_packet_zero(now, was_repeated, &mut self.fates);
        self.settle_fates();
        let mut asked = self.tree.id;
        let mut tree = asked.unwrap_or(secrets.half_initiator);
        if let Some(earlier) = attempt.earlier {
            match fate_of(&earlier, &frames) {
                Fate::NeverAccepted => {}
                Fate::Accepted(begun) => (asked, tree) = (Some(begun), begun),
                Fate::Unknown => {
                    self.on_restarted();
                    return Ok(Some(Orphan {
                        channel,
                        tree,
                        frames,
                        hints: self.mobility.hints().to_vec(),
                    }));
                }
            }
            self.resend_early(*earlier);
        }
        self.establish(context, (channel, tree), frames, asked);
        Ok(None)
    }

    fn establish(
        &mut self,
        context: &mut Context<'_>,
        (channel, tree): (Box<Channel>, TreeId),
        frames: Vec<u8>,
        asked: Option<TreeId>,
    ) {
        let now = context.now;
        if self.tree.id.is_none() {
            context.own.history.note_initiated(now, self.eid);
        }
        self.tree.is_confirmed = true;
        let link = self.add_link(now, channel, Role::Initiator, None);
        self.begin_established(now, (link, tree), frames, |settings| check_tree(asked, settings.tree));
    }

    /// A new peer takes over the channel of one whose streams its responder does not know.
    pub(crate) fn adopt(&mut self, context: &mut Context<'_>, orphan: Orphan) {
        self.mobility.add_hints(&orphan.hints);
        self.streams.set_role(Role::Initiator);
        self.establish(context, (orphan.channel, orphan.tree), orphan.frames, None);
    }

    /// What was sent as early data on an attempt that will not become a channel is sent again (NEG-26).
    fn resend_early(&mut self, mut earlier: Attempt) {
        if let Some(channel) = earlier.early_carrier() {
            channel.abandon(&mut self.fates);
            self.settle_fates();
        }
    }

    /// NEG-23: the peer wants no channel.
    fn on_refused(&mut self, now: Instant, close: &Close<'_>, arrival: &Arrival) {
        let reason = match close.code {
            Code::FORBIDDEN => CloseReason::Negotiation(NegotiationError::Forbidden {
                address: arrival.remote.to_string(),
                reason: close.reason.to_owned(),
            }),
            code => CloseReason::Peer {
                code,
                reason: close.reason.to_owned(),
            },
        };
        self.end(now, (Code::NONE, ""), reason);
    }

    /// INITIATE was checked by the responder: if its frames are good, the channel is established.
    pub(crate) fn on_initiate(
        &mut self,
        context: &mut Context<'_>,
        accepted: &Proven,
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
        let bound = now.since(accepted.issued);
        let mut channel = Channel::accepted(now, setup, accepted.suite, (&early, &secrets), bound);
        channel.note_packet_zero_received(now, initiated.packet.len(), arrival.ecn);

        // What was sent as early data on an attempt that lost is sent again (NEG-18).
        self.give_up_attempt();
        if self.tree.id.is_none() {
            self.streams.set_role(Role::Responder);
            let begun = (initiated.attempt, secrets.half_initiator);
            context.own.history.note_accepted(now, self.eid, begun);
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
            channel: accepted.channel_id,
            void: initiated.void,
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
        let is_owed = |l: &&mut Link| {
            let is_unsent = l.acceptance.as_ref().is_some_and(|a| a.accept.is_empty());
            is_unsent && (l.is_open() || l.channel.close_due().is_some())
        };
        let link = self.links.iter_mut().find(is_owed)?;
        let channel = &mut link.channel;
        let acceptance = link.acceptance.as_mut()?;
        tokens.clear();
        let frames = match channel.close_due() {
            Some((code, reason)) => close_frame(code, reason, long::ACCEPT_ROOM),
            None => {
                let mut settings = context.own.settings(channel.local_id(), None);
                settings.tree = tree.filter(|_| link.origin.continues);
                settings.attempts.void = acceptance.void;
                first_frames(long::ACCEPT_ROOM, &settings, Some(&mut self.streams), tokens)
            }
        };
        let packet = acceptance.keys.seal(acceptance.version, &acceptance.attempt, &frames)?;
        channel.note_close_sent();
        channel.record_packet_zero(context.now, packet.len(), tokens);
        tokens.clear();
        buf.put(&packet);
        acceptance.accept = packet;
        // CHN-7: packet 0 is outside of what is counted.
        let ecn = Ecn::NotEct;
        Some(Transmit {
            ecn,
            ..channel.transmit(buf.len())
        })
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

/// NEG-25: what the frames of ACCEPT say of the attempt before.
fn fate_of(earlier: &Attempt, frames: &[u8]) -> Fate {
    let Ok(settings) = leading_settings(&mut Frames::new(frames)) else {
        return Fate::Unknown;
    };
    match (settings.attempts.void, settings.tree) {
        (Some(void), _) if void == *earlier.initiation.attempt() => Fate::NeverAccepted,
        (_, Some(tree)) => Fate::Accepted(tree),
        (_, None) => Fate::Unknown,
    }
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

/// The SETTINGS that INITIATE begins with (CHN-1).
///
/// # Errors
/// If there are none, or an initiator cannot say that: then it is refused.
pub(crate) fn settings_of(proven: &Proven) -> Result<Settings, ProtocolError> {
    let settings = leading_settings(&mut Frames::new(&proven.frames))?;
    if settings.channel_id.is_none() {
        return Err(ProtocolError::new(Code::SETTINGS, "INITIATE without channel_id"));
    }
    Ok(settings)
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
