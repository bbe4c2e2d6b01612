//! Channels to the target of which this program has the keys in its own hands: what is said on them is true for the
//! AEAD, and else whatever is liked.
//!
//! A host of `sss-proto` makes the channel, and tells its secrets as for a key log. Then it is dropped.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use sss_crypto::packet::{HeaderKey, PacketKey, TAG_LEN};
use sss_crypto::schedule::Secret;
use sss_crypto::{StaticKey, Suite};
use sss_files::{Greeting, PROTOCOL, SERVICE};
use sss_proto::{Batch, ChannelSecret, Config, Ecn, Event, Host, Input, Link, Output, SecretPurpose, TransmitBuf};
use sss_wire::constants::{BASE_DATAGRAM, MAX_ACK_RANGES, OPEN_ROOM};
use sss_wire::frame::{Ack, Frame, Frames};
use sss_wire::short::{self, Header};
use sss_wire::{ChannelId, Writer};

use crate::error::{AttackError, random};
use crate::tally::Tally;
use crate::victim::Victim;

/// The stream of the session.
pub(crate) const SESSION: u64 = 1;
/// Room for frames in a packet, in bytes.
pub(crate) const ROOM: usize = 1180;
/// Number of the first forged packet: far behind those of the host that made the channel.
const FIRST: u64 = 1000;
/// Updates of keys that the target may make from one packet to the next.
const AHEAD: u32 = 1000;
/// Time for which a negotiation is tried.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time for which an answer is waited for in it.
const TURN: Duration = Duration::from_millis(5);
/// Packets that are taken at once.
const MOST: usize = 256;
/// Longest datagram that is read: longer ones are not asked for.
const LONGEST: usize = 2048;

/// A host that negotiates a channel.
pub(crate) struct Negotiation {
    host: Host,
    socket: UdpSocket,
    begun: Instant,
    secrets: Vec<ChannelSecret>,
    is_made: bool,
}

impl Negotiation {
    fn new(key: [u8; 32], socket: UdpSocket) -> Result<Self, AttackError> {
        let mut config = Config::default();
        config.key_log = true;
        // No larger than what is read.
        config.max_datagram = BASE_DATAGRAM;
        Ok(Self {
            host: Host::new(config, StaticKey::from_bytes(key), random()?),
            socket,
            begun: Instant::now(),
            secrets: Vec::new(),
            is_made: false,
        })
    }

    /// A negotiation that whoever connects begins, with the host that has this key.
    pub(crate) fn expected(key: [u8; 32], socket: UdpSocket) -> Result<Self, AttackError> {
        let mut negotiation = Self::new(key, socket)?;
        // A new host offers nothing yet, so that it can.
        let _ = negotiation.host.listen(SERVICE, PROTOCOL);
        Ok(negotiation)
    }

    fn now(&self) -> sss_proto::Instant {
        sss_proto::Instant::from_nanos(u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Sends what is to be sent.
    pub(crate) fn flush(&mut self, buf: &mut TransmitBuf) {
        loop {
            match self.host.poll(self.now(), buf) {
                Output::Transmit(transmit) => {
                    let Link::Udp(to) = transmit.link else { continue };
                    for datagram in buf.filled().chunks(transmit.segment) {
                        // What the system has no room for is lost, as in networks.
                        let _ = self.socket.send_to(datagram, to);
                    }
                }
                Output::Event(Event::Secret(secret)) => self.secrets.push(secret),
                Output::Event(Event::Connected(..)) => self.is_made = true,
                Output::Event(_) => {}
                Output::Wake(_) => break,
            }
        }
    }

    /// Takes in that time has passed.
    pub(crate) fn tick(&mut self) {
        self.host.handle(self.now(), Input::Tick);
    }

    /// Takes in a datagram.
    pub(crate) fn take(&mut self, datagram: &[u8], from: SocketAddr) {
        let mut data = BytesMut::from(datagram);
        let batch = Batch {
            stride: data.len().max(1),
            data: &mut data,
            lent: &mut None,
            link: Link::Udp(from),
            local: None,
            ecn: Ecn::NotEct,
        };
        self.host.handle(self.now(), Input::Datagrams(batch));
    }

    /// Sends what is to be sent, and takes in one datagram.
    fn turn(&mut self, buf: &mut TransmitBuf, tally: &Tally) -> io::Result<()> {
        self.flush(buf);
        self.socket.set_read_timeout(Some(TURN))?;
        let mut datagram = [0; LONGEST];
        match self.socket.recv_from(&mut datagram) {
            Ok((n, from)) => {
                tally.answered(n);
                self.take(datagram.get(..n).unwrap_or_default(), from);
            }
            Err(_) => self.tick(),
        }
        Ok(())
    }

    /// Keys of the channel, and those of the peer; none until it is made, and both have begun to use them.
    fn keys(&self) -> Option<(Direction, Direction)> {
        // A host tells first with what it sends.
        let sent = self.secrets.first()?.channel_id;
        let received = self.secrets.iter().map(|s| s.channel_id).find(|id| *id != sent)?;
        let up = Direction::of(&self.secrets, &sent, FIRST)?;
        Some((up, Direction::of(&self.secrets, &received, 0)?))
    }
}

/// Keys of packets of one direction.
struct Direction {
    suite: Suite,
    id: ChannelId,
    header: HeaderKey,
    secret: Secret,
    key: PacketKey,
    generation: u32,
    /// Number of the next packet that is sent, or one more than the highest that came.
    next: u64,
}

impl Direction {
    /// Keys that a host has told of for the packets that carry this id.
    fn of(secrets: &[ChannelSecret], id: &ChannelId, next: u64) -> Option<Self> {
        let find = |purpose| secrets.iter().find(|s| s.channel_id == *id && s.purpose == purpose);
        let header = find(SecretPurpose::Header)?;
        let secret = find(SecretPurpose::Generation(1))?.secret.clone();
        Some(Self {
            suite: header.suite,
            id: *id,
            header: HeaderKey::new(header.suite, header.secret.reveal()),
            key: PacketKey::new(header.suite, &secret),
            secret,
            generation: 1,
            next,
        })
    }

    fn update(&mut self) {
        self.secret = self.secret.next();
        self.key = PacketKey::new(self.suite, &self.secret);
        self.generation = self.generation.wrapping_add(1);
    }

    /// The packet with these frames.
    fn seal(&mut self, frames: &[u8]) -> Option<Vec<u8>> {
        let header = Header {
            key_phase: self.generation & 1 == 1,
            channel_id: self.id,
            sequence: self.next as u32,
            sequence_len: 4,
        };
        let mut packet = vec![0; header.encoded_len() + frames.len() + TAG_LEN];
        short::write_header(&mut Writer::new(&mut packet), &header);
        let (aad, body) = packet.split_at_mut_checked(header.encoded_len())?;
        body.get_mut(..frames.len())?.copy_from_slice(frames);
        self.key.seal(self.next, aad, body);
        self.next += 1;
        let mask = self.header.mask(short::sample(&packet, self.id.len()).ok()?);
        short::mask(&mut packet, self.id.len(), &mask).ok()?;
        Some(packet)
    }

    /// Number and frames of a packet, which is opened in place.
    fn open<'a>(&mut self, packet: &'a mut [u8]) -> Option<(u64, &'a [u8])> {
        let id_len = self.id.len();
        let mask = self.header.mask(short::sample(packet, id_len).ok()?);
        let header = short::unmask(packet, id_len, &mask).ok()?;
        if header.channel_id != self.id {
            return None;
        }
        let seq = short::recover_sequence(header.sequence, header.sequence_len, self.next);
        let (aad, body) = packet.split_at_mut_checked(header.encoded_len())?;
        let len = self.open_body((seq, header.key_phase), aad, body)?;
        self.next = self.next.max(seq + 1);
        Some((seq, body.get(..len)?))
    }

    /// Opens what is sealed of a packet, with the present keys or later ones: the target follows updates, more than
    /// one at a time. A late packet of the keys before does not open, and is lost.
    fn open_body(&mut self, (seq, phase): (u64, bool), aad: &[u8], body: &mut [u8]) -> Option<usize> {
        let (sealed, mut secret) = (body.to_vec(), self.secret.clone());
        for ahead in 0..=AHEAD {
            let generation = self.generation.wrapping_add(ahead);
            if phase == (generation & 1 == 1) {
                let key = PacketKey::new(self.suite, &secret);
                if let Ok(len) = key.open(seq, aad, body) {
                    (self.secret, self.key, self.generation) = (secret, key, generation);
                    return Some(len);
                }
                body.copy_from_slice(&sealed);
            }
            secret = secret.next();
        }
        None
    }
}

/// A channel of which this program has the keys.
pub(crate) struct Channel {
    socket: UdpSocket,
    to: SocketAddr,
    up: Direction,
    down: Direction,
    tally: Tally,
    is_over: bool,
    /// Numbers of packets that are not acknowledged, the latest.
    unheard: BTreeSet<u64>,
    open_credit: u64,
    /// Packets sent, less PATH_RESPONSEs that came: none needs more than one.
    unanswered: u64,
    /// The highest number that the target has acknowledged.
    heard: u64,
}

impl Channel {
    /// Makes a channel for the host with this secret key, with a session of the file protocol as stream 1; none if the
    /// target does not take it in time.
    ///
    /// # Errors
    /// When this program has no sockets or no entropy.
    pub(crate) fn new(key: [u8; 32], victim: &Victim, tally: &Tally) -> Result<Option<Self>, AttackError> {
        tally.peer();
        let mut negotiation = Negotiation::new(key, UdpSocket::bind(victim.target.source(0, 1))?)?;
        let (to, now) = (victim.target.address, negotiation.now());
        let host = &mut negotiation.host;
        let Ok(session) = host.connect(now, victim.target.eid, (SERVICE, PROTOCOL), &[to.into()]) else {
            return Ok(None);
        };
        // It goes with INITIATE: there is room for it.
        let _ = host.stream(session).poll_write(&Greeting::default().encode());
        let mut buf = TransmitBuf::new(1);
        while negotiation.begun.elapsed() < PATIENCE {
            negotiation.turn(&mut buf, tally)?;
            // What the host owes goes out, and its last secrets come.
            negotiation.flush(&mut buf);
            if negotiation.is_made
                && let Some(keys) = negotiation.keys()
            {
                negotiation.socket.set_nonblocking(true)?;
                return Ok(Some(Self::of(keys, (negotiation.socket, to), 0, tally)));
            }
        }
        Ok(None)
    }

    /// The channel that somebody at this address has made with the host of this program, once both use its keys.
    ///
    /// # Errors
    /// The socket cannot be shared.
    pub(crate) fn accepted(negotiation: &Negotiation, to: SocketAddr, tally: &Tally) -> io::Result<Option<Self>> {
        let Some(keys) = negotiation.keys() else {
            return Ok(None);
        };
        tally.peer();
        // The session is held at the other end, which opened it.
        let room = OPEN_ROOM;
        let socket = negotiation.socket.try_clone()?;
        Ok(Some(Self::of(keys, (socket, to), room, tally)))
    }

    fn of(keys: (Direction, Direction), way: (UdpSocket, SocketAddr), open_credit: u64, tally: &Tally) -> Self {
        let ((up, down), (socket, to)) = (keys, way);
        Self {
            socket,
            to,
            up,
            down,
            tally: tally.clone(),
            is_over: false,
            unheard: BTreeSet::new(),
            open_credit,
            unanswered: 0,
            heard: 0,
        }
    }

    /// Sends a packet with these frames, if there are any.
    pub(crate) fn send(&mut self, frames: &[u8]) {
        let Some(packet) = self.up.seal(frames).filter(|_| !frames.is_empty()) else {
            return;
        };
        if self.socket.send_to(&packet, self.to).is_ok() {
            self.tally.sent(packet.len());
            self.unanswered += 1;
        }
    }

    /// Goes on with the next generation of keys.
    pub(crate) fn update_keys(&mut self) {
        self.up.update();
    }

    /// Takes what has come.
    pub(crate) fn read(&mut self) {
        let mut packet = [0; LONGEST];
        for _ in 0..MOST {
            let Ok(n) = self.socket.recv(&mut packet) else { return };
            self.tally.answered(n);
            self.take(packet.get_mut(..n).unwrap_or_default());
        }
    }

    /// Returns whether a datagram is a packet of this channel.
    pub(crate) fn is_its(&self, datagram: &[u8]) -> bool {
        let is_short = datagram.first().is_some_and(|first| first & 0xc0 == short::FIXED);
        let id = self.down.id;
        is_short && datagram.get(1..).is_some_and(|rest| rest.starts_with(id.as_slice()))
    }

    /// Takes a packet, if it is one of this channel.
    pub(crate) fn take(&mut self, packet: &mut [u8]) {
        let Some((seq, frames)) = self.down.open(packet) else {
            return;
        };
        self.unheard.insert(seq);
        if self.unheard.len() > MAX_ACK_RANGES {
            self.unheard.pop_first();
        }
        for frame in Frames::new(frames) {
            match frame {
                Ok(Frame::OpenCredit(credit)) if credit.lsid == SESSION => {
                    self.open_credit = self.open_credit.max(credit.limit);
                }
                // It is accepted, and has the room that it begins with (STR-52).
                Ok(Frame::Credit(credit)) if credit.lsid == SESSION => {
                    self.open_credit = self.open_credit.max(OPEN_ROOM);
                }
                Ok(Frame::Close(close)) if !self.is_over => {
                    self.is_over = true;
                    self.tally.closed(close.code);
                }
                Ok(Frame::Ack(ack)) => self.heard = self.heard.max(ack.largest),
                Ok(Frame::PathResponse(_)) => match self.unanswered.checked_sub(1) {
                    Some(left) => self.unanswered = left,
                    None => self.tally.taken(),
                },
                _ => {}
            }
        }
    }

    /// Writes an acknowledgement of what has come since the one before; nothing if there is nothing.
    pub(crate) fn acknowledge(&mut self, w: &mut Writer<'_>) {
        let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
        for seq in std::mem::take(&mut self.unheard).into_iter().rev() {
            match ranges.last_mut() {
                Some(range) if *range.start() == seq + 1 => *range = seq..=*range.end(),
                _ => ranges.push(seq..=seq),
            }
        }
        Ack::write(w, ranges.into_iter(), 0, None, w.remaining());
    }

    /// Returns whether the target has acknowledged one of the packets behind so many.
    pub(crate) fn is_heard_behind(&self, packets: u64) -> bool {
        self.heard > FIRST + packets
    }

    /// Bytes that openings may be charged to the session; 0 until the target has accepted it.
    pub(crate) fn open_credit(&self) -> u64 {
        self.open_credit
    }

    /// Returns whether the target has ended it.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// One more than the highest number of the target that came.
    pub(crate) fn expected(&self) -> u64 {
        self.down.next
    }
}
