//! How a channel comes to be: from COOKIE to INITIATE to ACCEPT, seen by one peer.

use bytes::Bytes;
use rand::RngExt;
use sss_crypto::packet::PacketKey;
use sss_crypto::schedule::{ChannelSecrets, EarlySecrets};
use sss_wire::frame::{Frame, Frames};
use sss_wire::long::{self, Accept, Cookie};
use sss_wire::params::Settings;
use sss_wire::{ChannelId, Code, constants};

use super::{Acceptance, Arrival, Context, Link, Peer};
use crate::channel::{Channel, ChannelConfig, ChannelSetup, Path, Role};
use crate::error::{Drop, NegotiationError, ProtocolError};
use crate::host::Own;
use crate::ids::StreamId;
use crate::io::{Instant, Transmit, TransmitBuf};
use crate::negotiation::{Accepted, Agreed, random_channel_id};
use crate::packet::PacketWriter;
use crate::streams::{Streams, StreamsConfig};
use crate::token::Token;

/// A top-level stream that the peer opened.
pub(crate) struct Incoming {
    pub(crate) id: StreamId,
    pub(crate) service: Vec<u8>,
    pub(crate) protocol: Vec<u8>,
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
    ) -> Result<(), Drop> {
        let Link::Negotiating(initiation) = &mut self.link else {
            return Err(Drop::UnknownAttempt);
        };
        let now = context.now;
        let suites = &context.own.config.suites;
        match initiation.on_cookie(now, cookie, arrival.remote, suites)? {
            Ok(agreed) => {
                if let Err(error) = self.initiate(context, agreed, arrival) {
                    self.fail(error.into());
                }
            }
            Err(error) => self.fail(error.into()),
        }
        Ok(())
    }

    fn initiate(
        &mut self,
        context: &mut Context<'_>,
        agreed: Agreed,
        arrival: &Arrival,
    ) -> Result<(), NegotiationError> {
        let Link::Negotiating(mut initiation) = std::mem::replace(&mut self.link, Link::Down) else {
            return Ok(());
        };
        let local_id = random_channel_id(context.own.config.channel_id_len, &mut context.own.rng);
        let setup = context
            .own
            .channel_setup(Role::Initiator, (local_id, agreed.channel_id), arrival);
        let rtt = agreed.rtt;
        self.streams.set_role(Role::Initiator);

        let settings = context.own.settings(local_id, Some(local_id));
        let mut tokens = Vec::new();
        let frames = first_frames(agreed.room(), &settings, &mut self.streams, &mut tokens);
        let suite = agreed.suite;
        let split = initiation.initiate(context.now, agreed, &context.own.key, &frames)?;
        let mut channel = Channel::early(context.now, setup, suite, &EarlySecrets::from(split), rtt);
        channel.record_packet_zero(context.now, initiation.initiate_size(), &tokens);

        self.names.channel = Some(local_id);
        self.link = Link::Early(initiation, Box::new(channel));
        Ok(())
    }

    /// ACCEPT: if it is authentic, the channel is established.
    pub(crate) fn on_accept(
        &mut self,
        context: &mut Context<'_>,
        accept: &Accept<'_>,
        size: usize,
        arrival: &Arrival,
    ) -> Result<(), Drop> {
        let Link::Early(initiation, channel) = &mut self.link else {
            return Err(Drop::UnknownAttempt);
        };
        let split = initiation.split().ok_or(Drop::UnknownAttempt)?;
        let secrets = ChannelSecrets::derive(split, accept.nonce);
        let key = PacketKey::new(channel.suite(), &secrets.responder);
        let mut frames = accept.sealed_frames.to_vec();
        let len = key.open(0, accept.header, &mut frames).map_err(|_| Drop::Unauthentic)?;
        frames.truncate(len);
        let now = context.now;
        channel.install(now, &secrets);
        channel.note_packet_zero_received(now, size, arrival.ecn);
        channel.ack_packet_zero(now, &mut self.fates);
        self.settle_fates();
        let Link::Early(_, channel) = std::mem::replace(&mut self.link, Link::Down) else {
            return Err(Drop::UnknownAttempt);
        };
        self.link = Link::Up(channel, None);
        self.names.attempt = None;
        self.begin_established(now, frames, false);
        Ok(())
    }

    /// INITIATE was checked by the responder: if its frames are good, the channel is established.
    pub(crate) fn on_initiate(
        &mut self,
        context: &mut Context<'_>,
        accepted: &Accepted,
        (version, attempt): (u32, &[u8; 8]),
        packet: &[u8],
        arrival: &Arrival,
    ) -> Result<(), Drop> {
        let settings = leading_settings(&mut Frames::new(&accepted.frames)).map_err(|_| Drop::Malformed)?;
        let remote_id = settings.channel_id.ok_or(Drop::Malformed)?;
        let now = context.now;
        let nonce = context.own.rng.random();
        let secrets = ChannelSecrets::derive(&accepted.split, &nonce);
        let early = EarlySecrets::from(&accepted.split);
        let ids = (accepted.channel_id, remote_id);
        let setup = context.own.channel_setup(Role::Responder, ids, arrival);
        let mut channel = Channel::accepted(now, setup, accepted.suite, &early, &secrets);
        channel.note_packet_zero_received(now, packet.len(), arrival.ecn);

        self.abandon_early();
        self.streams.set_role(Role::Responder);
        self.names = super::Names {
            channel: Some(accepted.channel_id),
            ..super::Names::default()
        };
        let acceptance = Acceptance {
            version,
            attempt: *attempt,
            initiate: packet.to_vec(),
            accept: Vec::new(),
            keys: AcceptKeys {
                key: PacketKey::new(accepted.suite, &secrets.responder),
                nonce,
            },
        };
        self.link = Link::Up(Box::new(channel), Some(Box::new(acceptance)));
        self.begin_established(now, accepted.frames.clone(), true);
        Ok(())
    }

    /// What was sent as early data on an attempt that lost is sent again (NEG-18).
    fn abandon_early(&mut self) {
        if let Link::Early(_, channel) = &mut self.link {
            channel.abandon(&mut self.fates);
            self.settle_fates();
        }
    }

    /// Takes in the frames of the peer's packet 0.
    fn begin_established(&mut self, now: Instant, frames: Vec<u8>, is_initiator: bool) {
        self.established = now;
        self.announce_connected();
        let bytes = Bytes::from(frames);
        let mut frames = Frames::new(&bytes);
        let result = leading_settings(&mut frames)
            .and_then(|settings| self.apply_settings(&settings, is_initiator))
            .and_then(|()| self.dispatch(now, frames, &bytes));
        if let Err(violation) = result {
            self.violated(now, violation);
        }
    }

    /// CHN-1.
    fn apply_settings(&mut self, settings: &Settings, from_initiator: bool) -> Result<(), ProtocolError> {
        if settings.channel_id.is_some() != from_initiator {
            return Err(ProtocolError::new(
                Code::SETTINGS,
                "channel_id belongs into INITIATE only",
            ));
        }
        self.streams.set_peer_settings(settings.root_credit)?;
        self.streams.set_peer_max_message(settings.max_message);
        self.names.reset_token = settings.reset_token;
        if let Some(channel) = self.channel_mut() {
            channel.apply_peer_settings(settings);
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
        let Link::Up(channel, Some(acceptance)) = &mut self.link else {
            return None;
        };
        if !acceptance.accept.is_empty() {
            return None;
        }
        let settings = context.own.settings(channel.local_id(), None);
        tokens.clear();
        let frames = first_frames(long::ACCEPT_ROOM, &settings, &mut self.streams, tokens);
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
            congestion: "cubic".to_owned(),
            agent: config.agent.clone(),
            max_message: config.window.max_message.min(constants::MAX_MESSAGE),
        }
    }
}

/// SETTINGS, and as many frames of the streams as fit.
fn first_frames(room: usize, settings: &Settings, streams: &mut Streams, tokens: &mut Vec<Token>) -> Vec<u8> {
    let mut space = vec![0; room];
    let mut writer = PacketWriter::new(&mut space, tokens);
    sss_wire::frame::write_settings(writer.eliciting(), settings);
    streams.fill(&mut writer);
    let len = writer.len();
    space.truncate(len);
    space
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
