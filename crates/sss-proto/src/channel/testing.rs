//! Two channels with the same keys, and what tests do with them.

use std::ops::RangeInclusive;
use std::time::Duration;

use sss_crypto::Suite;
use sss_crypto::noise::Split;
use sss_crypto::schedule::{ChannelSecrets, EarlySecrets};
use sss_wire::frame::{Ack, Close, EcnCounts, Frame, Origin};
use sss_wire::params::Settings;
use sss_wire::{ChannelId, Code, Reader, Writer};

use super::keys::Limits;
use super::{Budget, Channel, ChannelConfig, ChannelSetup, Fate, MAX_ACK_DELAY_US, Opened, Path, Received, TimerEvent};
use crate::config::Congestion;
use crate::error::{DropReason, ProtocolError};
use crate::ids::StreamKey;
use crate::io::{Ecn, Transmit, TransmitBuf};
use crate::packet::PacketWriter;
use crate::padding::Padding;
use crate::role::Role;
use crate::route::Route;
use crate::testing::frames_of;
use crate::time::Instant;
use crate::token::{StreamFlags, Token};

pub(super) const INITIATOR: &str = "198.51.100.1:1000";
pub(super) const RESPONDER: &str = "203.0.113.7:7000";

pub(super) fn addr(text: &str) -> Route {
    Route::udp(text.parse().unwrap())
}

pub(super) fn at_us(us: u64) -> Instant {
    Instant::from_nanos(us * 1000)
}

pub(super) fn at(ms: u64) -> Instant {
    at_us(ms * 1000)
}

/// Reasons why a packet was not taken in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Dropped(DropReason),
    Violation(ProtocolError),
}

/// A packet that was taken in.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) opened: Opened,
    /// The plaintext: its frames.
    pub(super) bytes: Vec<u8>,
    pub(super) ack_eliciting: bool,
    pub(super) closed: bool,
}

/// One end, its owner, and its address.
pub(super) struct End {
    pub(super) channel: Channel,
    pub(super) address: Route,
    pub(super) fates: Vec<Fate>,
    tokens: Vec<Token>,
    buf: TransmitBuf,
    next_token: u64,
}

impl Channel {
    /// Its keys are replaced after every second packet.
    pub(crate) fn wear_keys(&mut self) {
        self.keys.set_limits(Limits {
            update: 2,
            seal: 1 << 20,
            fail: 1 << 20,
        });
    }
}

/// The secrets that both ends derive.
pub(super) fn secrets() -> (EarlySecrets, ChannelSecrets) {
    let split = Split::from_keys([1; 32], [2; 32], [3; 32]);
    (EarlySecrets::from(&split), ChannelSecrets::derive(&split, &[4; 32]))
}

fn setup(role: Role, remote: &str, config: ChannelConfig) -> ChannelSetup {
    let (i, r) = (ChannelId::new(b"init").unwrap(), ChannelId::new(b"response").unwrap());
    let (local_id, remote_id) = if role == Role::Initiator { (i, r) } else { (r, i) };
    ChannelSetup {
        role,
        local_id,
        remote_id,
        path: Path {
            route: addr(remote),
            local: None,
        },
        config,
        seed: 7 + role as u64,
    }
}

pub(super) fn config() -> ChannelConfig {
    ChannelConfig {
        idle_timeout: Duration::from_secs(60),
        keepalive: Duration::from_secs(15),
        max_datagram: 1232,
        padding: Padding::None,
        congestion: Congestion::Cubic,
        allow_private_moves: false,
        key_log: false,
    }
}

fn settings(config: ChannelConfig) -> Settings {
    Settings {
        idle_timeout_ms: config.idle_timeout.as_millis() as u64,
        max_ack_delay_us: MAX_ACK_DELAY_US,
        max_datagram: u64::from(config.max_datagram),
        ..Settings::default()
    }
}

/// The initiator after INITIATE, the responder before ACCEPT, at time `now`.
pub(super) fn early(now: Instant, config: ChannelConfig, suite: Suite) -> (End, End) {
    let (early, channel) = secrets();
    let mut initiator = Channel::early(now, setup(Role::Initiator, RESPONDER, config), suite, &early, None);
    initiator.record_packet_zero(now, 600, &[]);
    let mut responder = Channel::accepted(
        now,
        setup(Role::Responder, INITIATOR, config),
        suite,
        (&early, &channel),
        Duration::from_millis(333),
    );
    responder.note_packet_zero_received(now, 600, Ecn::NotEct);
    responder.apply_peer_settings(&settings(config));
    (End::new(initiator, INITIATOR), End::new(responder, RESPONDER))
}

/// Both ends established at time `now`; INITIATE and ACCEPT took `rtt`.
pub(super) fn established(now: Instant, rtt: Duration, config: ChannelConfig, suite: Suite) -> (End, End) {
    let (mut initiator, mut responder) = early(now - rtt, config, suite);
    responder.channel.record_packet_zero(now - rtt / 2, 500, &[]);
    accept(now, &mut initiator, config);
    (initiator, responder)
}

/// ACCEPT arrives.
pub(super) fn accept(now: Instant, initiator: &mut End, config: ChannelConfig) {
    initiator.channel.install(now, &secrets().1);
    initiator.channel.note_packet_zero_received(now, 500, Ecn::NotEct);
    initiator.channel.ack_packet_zero(now, false, &mut initiator.fates);
    initiator.channel.apply_peer_settings(&settings(config));
}

/// Both ends with the default configuration and a round trip of 10 ms.
pub(super) fn pair(now: Instant) -> (End, End) {
    established(now, Duration::from_millis(10), config(), Suite::Aes256Gcm)
}

/// CLOSE with the origin that its code tells.
pub(super) fn close(code: Code, reason: &str) -> Close<'_> {
    let origin = match code.as_app() {
        Some(_) => Origin::Application,
        None => Origin::Protocol,
    };
    Close { origin, code, reason }
}

/// ACK of these ranges, the highest first, held back for so long; ACK_ECN if so many packets were marked ECT(0) and CE.
pub(super) fn ack(ranges: &[RangeInclusive<u64>], delay_us: u64, (ect0, ce): (u64, u64)) -> Frame<'static> {
    let bytes = vec![0; 200].leak();
    let counts = EcnCounts { ect0, ect1: 0, ce };
    let ecn = (counts != EcnCounts::default()).then_some(counts);
    let written = Ack::write(&mut Writer::new(bytes), ranges.iter().cloned(), delay_us, ecn, 200);
    assert_eq!(written, ranges.len());
    Frame::decode(&mut Reader::new(bytes)).unwrap()
}

/// The number in a token made by [`End::data`].
pub(super) fn token_number(token: &Token) -> u64 {
    match token {
        Token::Stream { offset, .. } => *offset,
        other => panic!("{other:?} is not the owner's"),
    }
}

impl End {
    fn new(channel: Channel, address: &str) -> Self {
        Self {
            channel,
            address: addr(address),
            fates: Vec::new(),
            tokens: Vec::new(),
            buf: TransmitBuf::new(64),
            next_token: 0,
        }
    }

    /// A packet with the channel's frames and `len` bytes for the owner (here: PING and PADDING), which get the next
    /// token. Whether data may be sent is not asked.
    pub(super) fn data(&mut self, now: Instant, len: usize) -> Vec<u8> {
        self.packet(now, Some(len))
    }

    /// A full packet of data, if the budget allows it.
    pub(super) fn full_if_allowed(&mut self, now: Instant) -> Option<Vec<u8>> {
        let ready = self.channel.probe_pending() || self.channel.budget(now) == Budget::Ready;
        ready.then(|| self.packet(now, Some(usize::MAX)))
    }

    /// A packet without data, if one must be sent.
    pub(super) fn control(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.channel.wants_control(now).then(|| self.packet(now, None))
    }

    fn packet(&mut self, now: Instant, data: Option<usize>) -> Vec<u8> {
        let mut datagram = vec![0xaa; self.channel.datagram_size()];
        let mut space = self.channel.begin(&mut datagram);
        let mut writer = PacketWriter::new(space.plaintext(), &mut self.tokens);
        self.channel.write_control(now, &mut writer);
        if let Some(len) = data {
            let len = len.min(writer.remaining());
            let out = writer.eliciting();
            out.u8(1);
            out.zeros(len - 1);
            writer.remember(Token::Stream {
                key: StreamKey {
                    index: 0,
                    generation: 0,
                },
                offset: self.next_token,
                len: 0,
                flags: StreamFlags::NONE,
            });
            self.next_token += 1;
        }
        let (len, eliciting) = (writer.len(), writer.is_ack_eliciting());
        let size = self.channel.finish(now, space.sealed(len, eliciting), &mut self.tokens);
        assert!(self.tokens.is_empty());
        datagram.truncate(size);
        datagram
    }

    /// The number of the next token that [`Self::data`] uses.
    pub(super) fn tokens_used(&self) -> u64 {
        self.next_token
    }

    /// A datagram that travels alone, if one is due.
    pub(super) fn alone(&mut self, now: Instant) -> Option<(Vec<u8>, Transmit)> {
        self.buf.clear();
        let alone = self.channel.transmit_alone(now, &mut self.buf);
        let transmit = alone.or_else(|| self.channel.transmit_mtu_probe(now, &mut self.buf))?;
        assert_eq!(transmit.segment, self.buf.len());
        Some((self.buf.filled().to_vec(), transmit))
    }

    /// Takes in a packet that `from` sent.
    pub(super) fn take(&mut self, now: Instant, packet: &[u8], from: Route) -> Result<Taken, Refused> {
        self.take_marked(now, packet, from, Ecn::Ect0)
    }

    pub(super) fn take_marked(&mut self, now: Instant, packet: &[u8], from: Route, ecn: Ecn) -> Result<Taken, Refused> {
        let mut bytes = packet.to_vec();
        let opened = self.channel.open(&mut bytes).map_err(Refused::Dropped)?;
        let plaintext = &bytes[opened.payload.clone()];
        let mut taken = Taken {
            opened,
            bytes: plaintext.to_vec(),
            ack_eliciting: false,
            closed: false,
        };
        for frame in frames_of(plaintext) {
            taken.ack_eliciting |= !matches!(frame, Frame::Padding | Frame::Ack(_) | Frame::Close(_));
            match frame {
                Frame::Padding | Frame::Ping => {}
                Frame::Ack(ack) => self
                    .channel
                    .on_ack(now, &ack, &mut self.fates)
                    .map_err(Refused::Violation)?,
                Frame::PathChallenge(data) => self.channel.on_path_challenge(data),
                Frame::PathResponse(data) => self.channel.on_path_response(now, data),
                Frame::Close(_) => {
                    self.channel.on_close(now);
                    taken.closed = true;
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        let received = Received {
            ack_eliciting: taken.ack_eliciting,
            ecn,
            bytes: packet.len(),
            route: &from,
        };
        self.channel.note(now, &taken.opened, &received);
        Ok(taken)
    }

    /// Runs the timers that are due at `now`; afterwards none is.
    pub(super) fn tick(&mut self, now: Instant) -> TimerEvent {
        if self.channel.next_timer().is_none_or(|due| due > now) {
            return TimerEvent::None;
        }
        let event = self.channel.on_timer(now, &mut self.fates);
        super::rest(&mut self.channel, now);
        assert!(
            self.channel.next_timer().is_none_or(|due| due > now),
            "a timer never stays due"
        );
        event
    }
}

/// Established ends that have heard of each other's packets of generation 1, and owe nothing.
pub(super) fn warm_pair() -> (End, End) {
    let (mut a, mut b) = pair(at(0));
    for _ in 0..2 {
        for turn in [true, false] {
            let (from, to) = if turn { (&mut a, &mut b) } else { (&mut b, &mut a) };
            let packets = [from.data(at(1), 10), from.data(at(1), 10)];
            for packet in &packets {
                to.take(at(1), packet, from.address).unwrap();
            }
        }
        settle(at(1), &mut a, &mut b);
    }
    a.fates.clear();
    b.fates.clear();
    (a, b)
}

/// Sends everything that both ends have to say, without loss and in no time, until they are silent.
pub(super) fn settle(now: Instant, a: &mut End, b: &mut End) {
    for _ in 0..1000 {
        let mut silent = true;
        for turn in [true, false] {
            let (from, to) = if turn { (&mut *a, &mut *b) } else { (&mut *b, &mut *a) };
            while let Some(packet) = from.alone(now).map(|p| p.0).or_else(|| from.control(now)) {
                silent = false;
                to.take(now, &packet, from.address).unwrap();
            }
        }
        if silent {
            return;
        }
    }
    panic!("the channels do not fall silent");
}
