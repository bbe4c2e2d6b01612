//! Down: numbers, headers, the channel's own frames, sealing, and what is remembered of each packet.

use sss_wire::frame::{Ack, Close, Origin, PathChallenge, PathResponse, Ping};
use sss_wire::short::{self, Header, TAG};
use sss_wire::{Code, Writer};

use super::congestion::Departed;
use super::path::{Offpath, Path};
use super::sent::{Flags, Sink};
use super::{Channel, Fate, skip_distance};
use crate::io::{Ecn, Transmit, TransmitBuf};
use crate::packet::PacketWriter;
use crate::time::Instant;
use crate::token::Token;

/// Packets in a row that the peer need not acknowledge, before it is asked to: else it would never be known what it
/// has heard of. Fewer when acknowledgements are long.
const MAX_QUIET: u32 = 256;
const MAX_QUIET_LONG: u32 = 16;
const LONG_ACK: usize = 8;
/// Bytes of acknowledgement beside CLOSE, at most.
const MAX_CLOSING_ACK: usize = 128;
/// Least length of a packet that asks for a sign of life, so that a peer that has lost the channel answers it (PRT-12).
const MIN_ANSWERED: usize = 41;

/// Whether data may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Budget {
    /// Not before something is acknowledged.
    Blocked,
    /// Not before then.
    Later(Instant),
    /// A full datagram may leave.
    Ready,
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
        }
    }
}

/// A datagram whose frames are written.
pub(crate) struct FilledPacket<'a> {
    space: PacketSpace<'a>,
    len: usize,
    ack_eliciting: bool,
}

impl FilledPacket<'_> {
    /// Adds PADDING until the datagram has `size` bytes.
    fn pad_to(&mut self, size: usize) {
        let wanted = size.saturating_sub(self.space.header.encoded_len() + TAG);
        let len = self.len;
        if let Some(padding) = self.space.plaintext().get_mut(len..wanted) {
            padding.fill(0);
            self.len = wanted;
        }
    }
}

/// How a packet is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Frames of the owner and of the channel.
    Ordinary,
    MtuProbe,
    /// CLOSE, or path validation: settled by other means.
    Unrecorded,
}

impl Channel {
    /// How long full datagrams are.
    pub(crate) fn datagram_size(&self) -> usize {
        usize::from(self.mtu.current())
    }

    /// Whether the keys may seal anything but CLOSE.
    fn may_send(&self) -> bool {
        self.is_open() && !self.keys.is_exhausted()
    }

    /// Whether a packet must be sent even if there is no data for it: ACK, PATH_RESPONSE, or PING.
    pub(crate) fn wants_control(&self, now: Instant) -> bool {
        self.may_send()
            && (self.received.is_due(now)
                || self.paths.has_response()
                || self.recovery.loss.probes_pending() > 0
                || self.life.activity.wants_ping())
    }

    /// Whether an ack-eliciting packet is to be sent whatever the budget says (REC-4).
    pub(crate) fn probe_pending(&self) -> bool {
        self.recovery.loss.probes_pending() > 0
    }

    /// Whether such a packet may repeat data (MIG-12).
    pub(crate) fn probe_may_carry_data(&self) -> bool {
        self.probe_pending() && self.recovery.loss.probes_carry_data()
    }

    /// Whether a datagram of data may be sent.
    pub(crate) fn budget(&mut self, now: Instant) -> Budget {
        self.flow.resume = None;
        if !self.may_send() || self.is_window_full() {
            return Budget::Blocked;
        }
        let rate = self.rate();
        match self.flow.pacer.check(now, rate) {
            Ok(()) => Budget::Ready,
            Err(at) => {
                self.flow.resume = Some(at);
                Budget::Later(at)
            }
        }
    }

    /// Whether one more datagram is more than the congestion window allows.
    pub(crate) fn is_window_full(&self) -> bool {
        let in_flight = self.sent.in_flight();
        let after = in_flight + u64::from(self.mtu.current());
        in_flight > 0 && after > self.flow.controller.get().window()
    }

    /// Whether the pacer let no datagram out when it was asked last.
    pub(crate) fn is_paced(&self) -> bool {
        self.flow.resume.is_some()
    }

    /// Begins a packet in a buffer that is as long as the packet may be.
    pub(crate) fn begin<'a>(&mut self, datagram: &'a mut [u8]) -> PacketSpace<'a> {
        let seq = self.sent.next();
        self.keys.before_seal(seq);
        let (sequence, sequence_len) = short::encode_sequence(seq, self.sent.largest_acked());
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

    /// Writes the channel's frames: ACK, then PATH_RESPONSE (FRM-2).
    pub(crate) fn write_control(&mut self, now: Instant, writer: &mut PacketWriter<'_>) {
        if self.received.is_pending() || self.received.is_due(now) {
            self.write_ack(now, writer);
        }
        if writer.remaining() >= PathResponse([0; 8]).encoded_len()
            && let Some(data) = self.paths.take_response()
        {
            PathResponse(data).encode(writer.eliciting());
        }
    }

    fn write_ack(&mut self, now: Instant, writer: &mut PacketWriter<'_>) {
        let Some(largest) = self.received.largest() else {
            return;
        };
        let delay = u64::try_from(self.received.delay(now).as_micros()).unwrap_or(u64::MAX);
        let delay = delay.min(sss_wire::varint::MAX);
        let room = writer.remaining();
        let ranges = self.received.ranges();
        if Ack::write(writer.quiet(), ranges, delay, self.received.ecn(), room) > 0 {
            writer.remember(Token::Ack { largest });
            self.received.on_ack_written(now);
        }
    }

    /// Completes a packet: adds PING if one is owed, pads, seals, masks, and remembers it with its tokens, which are
    /// drained. Returns the datagram's length, 0 if there is nothing in it.
    pub(crate) fn finish(&mut self, now: Instant, mut packet: FilledPacket<'_>, tokens: &mut Vec<Token>) -> usize {
        if !packet.ack_eliciting && self.owes_ping() {
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
        let size = self.complete(now, packet, Kind::Ordinary, tokens);
        tokens.clear();
        size
    }

    fn owes_ping(&self) -> bool {
        let max_quiet = if self.received.range_count() > LONG_ACK {
            MAX_QUIET_LONG
        } else {
            MAX_QUIET
        };
        self.probe_pending() || self.life.activity.wants_ping() || self.life.quiet >= max_quiet
    }

    fn complete(&mut self, now: Instant, packet: FilledPacket<'_>, kind: Kind, tokens: &[Token]) -> usize {
        let FilledPacket {
            mut space,
            mut len,
            ack_eliciting,
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
        self.record(now, size, (kind, ack_eliciting), tokens);
        size
    }

    /// Remembers a packet under the next number.
    fn record(&mut self, now: Instant, size: usize, (kind, ack_eliciting): (Kind, bool), tokens: &[Token]) {
        let size = u16::try_from(size).unwrap_or(u16::MAX);
        let is_marked = kind != Kind::Unrecorded && self.ecn.mark() == Ecn::Ect0;
        let is_counted = kind == Kind::Ordinary && ack_eliciting;
        let flags = Flags::default()
            .with(Flags::ELICITING, ack_eliciting)
            .with(Flags::COUNTED, is_counted)
            .with(Flags::MARKED, is_marked)
            .with(Flags::MTU_PROBE, kind == Kind::MtuProbe);
        let seq = self.sent.next();
        self.sent.push(now, size, flags, tokens);
        self.counters.packets_sent += 1;
        self.counters.bytes_sent += u64::from(size);
        if is_marked {
            self.ecn.on_sent();
        }
        if is_counted {
            self.flow.pacer.on_sent(u64::from(size));
            self.tell_controller(now, seq, size);
        }
        if ack_eliciting {
            self.recovery.loss.on_eliciting_sent(now);
            self.life.activity.on_eliciting_sent(now);
            self.life.quiet = 0;
        } else {
            self.life.quiet = self.life.quiet.saturating_add(1);
        }
        if self.sent.next() >= self.ids.next_skip {
            // CHN-6
            self.sent.skip();
            self.ids.next_skip = self.sent.next() + 1 + skip_distance(&mut self.ids.rng);
        }
    }

    fn tell_controller(&mut self, now: Instant, seq: u64, size: u16) {
        self.flow.controller.get_mut().on_sent(&Departed {
            now,
            seq,
            bytes: u64::from(size),
            in_flight: self.sent.in_flight(),
        });
    }

    /// The owner had nothing more to send. Whether more might have left is what congestion control has to know of that.
    pub(crate) fn on_nothing_to_send(&mut self) {
        let in_flight = self.sent.in_flight();
        let controller = self.flow.controller.get_mut();
        if in_flight + u64::from(self.mtu.current()) <= controller.window() {
            controller.on_app_limited(in_flight);
        }
    }

    /// Remembers this host's packet 0 (INITIATE or ACCEPT), which the negotiation has sealed (NEG-16).
    pub(crate) fn record_packet_zero(&mut self, now: Instant, size: usize, tokens: &[Token]) {
        debug_assert_eq!(self.sent.next(), 0);
        let size = u16::try_from(size).unwrap_or(u16::MAX);
        let flags = Flags::default().with(Flags::ELICITING, true).with(Flags::COUNTED, true);
        self.sent.push(now, size, flags, tokens);
        self.tell_controller(now, 0, size);
        self.counters.packets_sent += 1;
        self.counters.bytes_sent += u64::from(size);
        self.recovery.loss.on_eliciting_sent(now);
        self.life.activity.on_eliciting_sent(now);
    }

    /// ACCEPT is sent again: its acknowledgement tells no round-trip time any more (REC-1).
    pub(crate) fn note_packet_zero_repeated(&mut self) {
        self.recovery.path_start = self.recovery.path_start.max(1);
    }

    /// CLOSE is on its way, in ACCEPT.
    pub(crate) fn note_close_sent(&mut self) {
        self.life.close.on_sent();
    }

    /// The CLOSE that is to be sent now, if one is.
    pub(crate) fn close_due(&self) -> Option<(Code, &str)> {
        self.life
            .close
            .due()
            .map(|closing| (closing.code, closing.reason.as_str()))
    }

    /// Gives up what is outstanding: all tokens are appended to `fates` as lost (NEG-18, MIG-7).
    pub(crate) fn abandon(&mut self, fates: &mut Vec<Fate>) {
        self.sent.abandon(&mut Sink::new(fates));
    }

    /// Ends the channel with CLOSE (CHN-12).
    pub(crate) fn close(&mut self, now: Instant, code: Code, reason: &str) {
        let probe_timeout = self.recovery.probe_timeout();
        self.life.close.close(now, probe_timeout, code, reason.to_owned());
    }

    /// How packets to the present address are to be sent, `segment` bytes each.
    pub(crate) fn transmit(&self, segment: usize) -> Transmit {
        let Path { remote, local } = self.paths.current();
        Transmit {
            remote,
            local,
            ecn: self.ecn.mark(),
            segment,
        }
    }

    /// Fills the empty buffer with a datagram that travels alone, if one is due: CLOSE, path validation, MTU probe.
    pub(crate) fn transmit_alone(&mut self, now: Instant, buf: &mut TransmitBuf) -> Option<Transmit> {
        if !self.is_open() {
            return self.transmit_close(now, buf);
        }
        if !self.may_send() {
            return None;
        }
        if let Some(transmit) = self.transmit_offpath(now, buf) {
            return Some(transmit);
        }
        self.transmit_mtu_probe(now, buf)
    }

    fn transmit_close(&mut self, now: Instant, buf: &mut TransmitBuf) -> Option<Transmit> {
        let closing = self.life.close.due()?;
        let (code, reason) = (closing.code, closing.reason.clone());
        let origin = if code.as_app().is_some() {
            Origin::Application
        } else {
            Origin::Protocol
        };
        self.life.close.on_sent();
        let path = self.paths.current();
        let frame = Close {
            origin,
            code,
            reason: &reason,
        };
        let mut acks = [0; MAX_CLOSING_ACK];
        let len = self.closing_ack(now, &mut acks);
        self.alone(now, buf, path, |w| {
            w.bytes(acks.get(..len).unwrap_or_default());
            frame.encode(w);
        })
    }

    /// What arrived is acknowledged beside CLOSE: the peer's application asks whether its last words did. Returns the
    /// length.
    fn closing_ack(&self, now: Instant, out: &mut [u8]) -> usize {
        if self.received.largest().is_none() {
            return 0;
        }
        let delay = u64::try_from(self.received.delay(now).as_micros()).unwrap_or(u64::MAX);
        let (ranges, marks) = (self.received.ranges(), self.received.ecn());
        let mut writer = Writer::new(out);
        Ack::write(
            &mut writer,
            ranges,
            delay.min(sss_wire::varint::MAX),
            marks,
            MAX_CLOSING_ACK,
        );
        writer.position()
    }

    fn transmit_offpath(&mut self, now: Instant, buf: &mut TransmitBuf) -> Option<Transmit> {
        let frames = PathChallenge([0; 8]).encoded_len();
        let size = short::header_len(self.ids.remote.len(), short::MAX_SEQUENCE_LEN) + frames + TAG;
        let interval = self.recovery.probe_timeout();
        match self.paths.take_offpath(now, size as u64, interval)? {
            Offpath::Challenge(data, path) => self.alone(now, buf, path, |w| PathChallenge(data).encode(w)),
            Offpath::Response(data, path) => self.alone(now, buf, path, |w| PathResponse(data).encode(w)),
        }
    }

    /// A packet with one frame that nobody waits for an acknowledgement of.
    fn alone(
        &mut self,
        now: Instant,
        buf: &mut TransmitBuf,
        path: Path,
        encode: impl FnOnce(&mut Writer<'_>),
    ) -> Option<Transmit> {
        let datagram = buf.spare().get_mut(..usize::from(sss_wire::constants::BASE_DATAGRAM))?;
        let mut space = self.begin(datagram);
        let mut writer = Writer::new(space.plaintext());
        encode(&mut writer);
        let len = writer.position();
        let size = self.complete(now, space.sealed(len, false), Kind::Unrecorded, &[]);
        buf.advance(size);
        Some(Transmit {
            remote: path.remote,
            local: path.local,
            ecn: Ecn::NotEct,
            segment: size,
        })
    }

    /// CHN-8. Not while the peer does not answer.
    fn transmit_mtu_probe(&mut self, now: Instant, buf: &mut TransmitBuf) -> Option<Transmit> {
        if !self.keys.can_receive() || self.recovery.loss.probe_count() > 0 {
            return None;
        }
        let size = self.mtu.wanted_probe()?;
        let datagram = buf.spare().get_mut(..usize::from(size))?;
        let mut space = self.begin(datagram);
        let plaintext = space.plaintext();
        plaintext.fill(0);
        if let Some(first) = plaintext.first_mut() {
            *first = Ping::TYPE;
        }
        let len = plaintext.len();
        let token = Token::MtuProbe { size };
        let written = self.complete(now, space.sealed(len, true), Kind::MtuProbe, &[token]);
        debug_assert_eq!(written, usize::from(size));
        self.mtu.on_probe_sent(size);
        buf.advance(written);
        Some(self.transmit(written))
    }
}
