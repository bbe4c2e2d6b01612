//! Packets: numbers and headers, the room for frames, sealing, and what is remembered of each.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sss_wire::frame::{PathChallenge, Ping};
use sss_wire::short::{self, Header, TAG};
use sss_wire::{ChannelId, Writer};

use super::flight::{Flight, PacketKind};
use super::keys::Keys;
use super::liveness::Liveness;
use super::path::Path;
use crate::io::{Ecn, Transmit, TransmitBuf};
use crate::padding::Padding;
use crate::time::Instant;
use crate::token::Token;

/// A number is skipped once in about so many packets (CHN-6).
const SKIP_MEAN: u64 = 1024;
/// Least length of a packet that asks for a sign of life, so that a peer that has lost the channel answers it (PRT-12).
const MIN_ANSWERED: usize = 41;

/// Ids and numbers that name packets.
pub(super) struct Ids {
    pub(super) local: ChannelId,
    pub(super) remote: ChannelId,
    /// The next number that is left out (CHN-6).
    next_skip: u64,
    pub(super) draws: Draws,
}

impl Ids {
    pub(super) fn new(local: ChannelId, remote: ChannelId, seed: u64) -> Self {
        let mut draws = Draws { seed, drawn: 0 };
        let next_skip = 2 + draws.skip_distance();
        Self {
            local,
            remote,
            next_skip,
            draws,
        }
    }
}

/// Draws of a channel at random. It is seldom, so that only the seed is kept: a generator is twenty times as large.
pub(super) struct Draws {
    seed: u64,
    drawn: u64,
}

impl Draws {
    /// A generator for one draw, which tells nothing of those for others.
    fn generator(&mut self) -> StdRng {
        let mut seed = [0; 32];
        let (first, second) = seed.split_at_mut(8);
        first.copy_from_slice(&self.seed.to_le_bytes());
        if let Some(second) = second.first_chunk_mut() {
            *second = self.drawn.to_le_bytes();
        }
        self.drawn += 1;
        StdRng::from_seed(seed)
    }

    /// Packets until the next number that is left out.
    fn skip_distance(&mut self) -> u64 {
        self.generator().random_range(0..2 * SKIP_MEAN)
    }

    /// The data of a challenge.
    pub(super) fn challenge(&mut self) -> [u8; 8] {
        self.generator().random()
    }
}

/// A datagram under construction: its header is written.
pub(crate) struct PacketSpace<'a> {
    datagram: &'a mut [u8],
    header: Header,
    seq: u64,
}

impl<'a> PacketSpace<'a> {
    /// The room for frames. Filled to its end, the packet is exactly as long as the datagram.
    pub(crate) fn plaintext(&mut self) -> &mut [u8] {
        let end = self.datagram.len().saturating_sub(TAG);
        self.datagram
            .get_mut(self.header.encoded_len()..end)
            .unwrap_or_default()
    }

    /// The first `len` bytes of the plaintext are frames.
    pub(crate) fn sealed(self, len: usize, ack_eliciting: bool) -> FilledPacket<'a> {
        FilledPacket {
            space: self,
            len,
            ack_eliciting,
            padding: Padding::None,
        }
    }
}

/// A datagram whose frames are written.
pub(crate) struct FilledPacket<'a> {
    space: PacketSpace<'a>,
    len: usize,
    ack_eliciting: bool,
    padding: Padding,
}

impl FilledPacket<'_> {
    /// The packet, padded as its contents want it, or more if the host does.
    pub(crate) fn padded(mut self, padding: Padding) -> Self {
        self.padding = self.padding.max(padding);
        self
    }

    /// Adds PADDING until the datagram has `size` bytes.
    fn pad_to(&mut self, size: usize) {
        let wanted = size.saturating_sub(self.space.header.encoded_len() + TAG);
        let len = self.len;
        if let Some(padding) = self.space.plaintext().get_mut(len..wanted) {
            padding.fill(0);
            self.len = wanted;
        }
    }

    /// Adds the PADDING that is wanted.
    fn pad(&mut self) {
        if self.padding == Padding::None {
            return;
        }
        let size = self.space.header.encoded_len() + self.len + TAG;
        self.pad_to(self.padding.padded(size, self.space.datagram.len()));
    }
}

/// The parts of a channel that a packet is made with.
pub(super) struct Sealing<'a> {
    pub(super) ids: &'a mut Ids,
    pub(super) keys: &'a mut Keys,
    pub(super) flight: &'a mut Flight,
    pub(super) liveness: &'a mut Liveness,
    /// Bytes before each packet in its datagram.
    pub(super) overhead: usize,
}

impl Sealing<'_> {
    /// Begins a packet in a buffer that is as long as the packet may be.
    pub(super) fn begin<'b>(&mut self, datagram: &'b mut [u8]) -> PacketSpace<'b> {
        let seq = self.flight.sent.next();
        self.keys.before_seal(seq);
        let (sequence, sequence_len) = short::encode_sequence(seq, self.flight.sent.largest_acked());
        let header = Header {
            key_phase: self.keys.key_phase(),
            channel_id: self.ids.remote,
            sequence,
            sequence_len,
        };
        debug_assert!(datagram.len() >= header.encoded_len() + short::MAX_SEQUENCE_LEN + TAG);
        short::write_header(&mut Writer::new(datagram), &header);
        PacketSpace { datagram, header, seq }
    }

    /// Completes a packet with the owner's frames: adds PING if one is owed, pads, seals, masks, and remembers it with
    /// its tokens. Returns the datagram's length, 0 if there is nothing in it.
    pub(super) fn finish(
        &mut self,
        now: Instant,
        mut packet: FilledPacket<'_>,
        owes_ping: bool,
        tokens: &[Token],
    ) -> usize {
        if !packet.ack_eliciting && owes_ping {
            let len = packet.len;
            if let Some(byte) = packet.space.plaintext().get_mut(len) {
                *byte = Ping::TYPE;
                packet.len += 1;
                packet.ack_eliciting = true;
                packet.pad_to(MIN_ANSWERED);
            }
        }
        if packet.len == 0 {
            return 0;
        }
        let mut packet = packet.padded(self.flight.padding);
        packet.pad();
        self.complete(now, packet, PacketKind::Ordinary, tokens)
    }

    fn complete(&mut self, now: Instant, packet: FilledPacket<'_>, kind: PacketKind, tokens: &[Token]) -> usize {
        let FilledPacket {
            mut space,
            mut len,
            ack_eliciting,
            padding: _,
        } = packet;
        // PRT-3
        let least = short::min_plaintext_len(space.header.sequence_len);
        if len < least {
            if let Some(padding) = space.plaintext().get_mut(len..least) {
                padding.fill(0);
            }
            len = least;
        }
        let size = short::packet_len(&space.header, len);
        let Some(datagram) = space.datagram.get_mut(..size) else {
            return 0;
        };
        self.keys.seal(space.seq, &space.header, datagram);
        self.flight
            .record(now, size + self.overhead, (kind, ack_eliciting), tokens);
        self.liveness.on_sent(now, ack_eliciting);
        if self.flight.sent.next() >= self.ids.next_skip {
            // CHN-6
            self.flight.sent.skip();
            self.ids.next_skip = self.flight.sent.next() + 1 + self.ids.draws.skip_distance();
        }
        size
    }

    /// Makes a packet with frames that nobody waits for an acknowledgement of, with this padding.
    pub(super) fn alone(
        &mut self,
        now: Instant,
        buf: &mut TransmitBuf,
        (path, padding): (Path, Padding),
        encode: impl FnOnce(&mut Writer<'_>),
    ) -> Option<Transmit> {
        buf.begin(&path.route);
        let room = usize::from(sss_wire::constants::BASE_DATAGRAM) - self.overhead;
        let datagram = buf.spare().get_mut(..room)?;
        let mut space = self.begin(datagram);
        let mut writer = Writer::new(space.plaintext());
        encode(&mut writer);
        let len = writer.position();
        let mut packet = space.sealed(len, false).padded(padding);
        packet.pad();
        let size = self.complete(now, packet, PacketKind::Unrecorded, &[]);
        buf.advance(size);
        Some(Transmit {
            link: path.route.link,
            local: path.local,
            ecn: Ecn::NotEct,
            segment: buf.len(),
        })
    }

    /// Returns the size in bytes of a packet that validates a path, at most.
    pub(super) fn validation_size(&self) -> u64 {
        let header = short::header_len(self.ids.remote.len(), short::MAX_SEQUENCE_LEN);
        (self.overhead + header + PathChallenge([0; 8]).encoded_len() + TAG) as u64
    }

    /// Makes a datagram of `size` bytes that finds out whether the path carries it (CHN-8).
    pub(super) fn mtu_probe(&mut self, now: Instant, buf: &mut TransmitBuf, size: u16) -> Option<()> {
        let room = usize::from(size) - self.overhead;
        let datagram = buf.spare().get_mut(..room)?;
        let mut space = self.begin(datagram);
        let plaintext = space.plaintext();
        plaintext.fill(0);
        if let Some(first) = plaintext.first_mut() {
            *first = Ping::TYPE;
        }
        let len = plaintext.len();
        let token = Token::MtuProbe { size };
        let written = self.complete(now, space.sealed(len, true), PacketKind::MtuProbe, &[token]);
        debug_assert_eq!(written, room);
        self.flight.mtu.on_probe_sent(size);
        buf.advance(written);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    // spec: CHN-6
    #[test]
    fn draws_of_a_channel_are_neither_alike_nor_those_of_another_one() {
        let distances = |seed| {
            let mut draws = Draws { seed, drawn: 0 };
            (0..1000).map(|_| draws.skip_distance()).collect::<Vec<_>>()
        };
        let all: Vec<_> = (0..8).map(distances).collect();
        for (seed, drawn) in all.iter().enumerate() {
            assert!(drawn.iter().all(|d| *d < 2 * SKIP_MEAN));
            let mean = drawn.iter().sum::<u64>() / 1000;
            assert!(
                (SKIP_MEAN * 9 / 10..=SKIP_MEAN * 11 / 10).contains(&mean),
                "{seed}: {mean}"
            );
            let different: BTreeSet<_> = drawn.iter().collect();
            assert!(different.len() > 700, "{seed}: {}", different.len());
            for other in &all[..seed] {
                let same = drawn.iter().zip(other).filter(|(a, b)| a == b).count();
                assert!(same < 10, "{seed}: {same}");
            }
        }
        let challenges = (0..8).flat_map(|seed| {
            let mut draws = Draws { seed, drawn: 0 };
            (0..100).map(move |_| draws.challenge())
        });
        assert_eq!(challenges.collect::<BTreeSet<_>>().len(), 800);
    }
}
