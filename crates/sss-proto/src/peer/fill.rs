//! Down: packets for the peer, in the fixed order of writers (FRM-2).
//!
//! 1. ACCEPT, if it is owed;
//! 2. a datagram that travels alone (CLOSE, path challenge; on the carrier, MTU probe);
//! 3. packets of equal length for one segmented send: control frames of the channel, then, on the carrier, the streams.

use super::Peer;
use super::channels::TreeChannel;
use crate::channel::{Budget, Channel, may_have_output};
use crate::io::{Transmit, TransmitBuf};
use crate::packet::PacketWriter;
use crate::streams::{Length, Streams};
use crate::time::Instant;
use crate::token::Token;

impl Peer {
    /// Returns whether something may be to be sent now. False after most packets that arrive, and after most that were
    /// sent: then the peer, of which there may be very many, need not have a turn.
    pub(crate) fn may_transmit(&self, now: Instant) -> bool {
        let Self { streams, transport, .. } = self;
        let may = |channel: &TreeChannel| channel.acceptance.is_some() || may_have_output(&channel.channel, now);
        let has_data = streams.wants() || streams.wants_turn();
        has_data || transport.attempts().is_under_way() || transport.channels().iter().any(may)
    }
}

/// Returns what one channel has to send; with the frames of `streams` if it carries them.
pub(super) fn transmit_on(
    now: Instant,
    channel: &mut Channel,
    mut streams: Option<&mut Streams>,
    (buf, tokens): (&mut TransmitBuf, &mut Vec<Token>),
) -> Option<Transmit> {
    buf.begin(&channel.path().route);
    if let Some(transmit) = channel.transmit_alone(now, buf) {
        return Some(transmit);
    }
    if !channel.is_open() {
        return None;
    }
    if let Some(streams) = &mut streams {
        if let Some(probe) = channel.transmit_mtu_probe(now, buf) {
            return Some(probe);
        }
        let flight = channel.flight();
        let has_missed = streams.set_path(flight.rtt(), flight.loss(), flight.one_way(), || flight.outlook(now));
        if has_missed {
            channel.ask_if_quiet();
        }
    }
    let mut batch = Batch {
        channel,
        streams,
        buf,
        tokens,
    };
    batch.fill(now)
}

/// One segmented send under construction.
struct Batch<'a> {
    channel: &'a mut Channel,
    streams: Option<&'a mut Streams>,
    buf: &'a mut TransmitBuf,
    tokens: &'a mut Vec<Token>,
}

impl Batch<'_> {
    fn fill(&mut self, now: Instant) -> Option<Transmit> {
        let whole = self.channel.datagram_size();
        let mut segment = whole;
        for n in 0..self.buf.max_segments() {
            if self.buf.spare().len() < segment {
                break;
            }
            // The owner has done so before the first packet.
            if n > 0
                && let Some(streams) = &mut self.streams
            {
                streams.walk();
            }
            let Some(with_data) = self.next_packet(now) else {
                break;
            };
            let length = match n {
                0 => Length::Free,
                _ => Length::Fixed(whole - segment),
            };
            let (written, is_cut) = self.packet(now, (segment, length), with_data);
            self.buf.advance(written);
            // CHN-10: the first packet says how long they are, and only the last may be shorter. What little there is
            // before something that does not fit goes alone.
            match length {
                Length::Free if is_cut && 2 * written >= whole => segment = written,
                Length::Free | Length::Fixed(_) if written < segment => break,
                Length::Free | Length::Fixed(_) => {}
            }
        }
        // A channel that stands by never has more.
        if self.streams.as_ref().is_none_or(|s| !s.wants()) {
            self.channel.on_nothing_to_send();
        }
        let sent = segment + self.channel.path().route.overhead();
        (self.buf.len() > 0).then(|| self.channel.transmit(sent.min(self.buf.len())))
    }

    /// Returns whether a packet is to be sent, and if one is, whether the streams may write into it.
    fn next_packet(&mut self, now: Instant) -> Option<bool> {
        let wants_control = self.channel.wants_control(now);
        let streams = self.streams.as_ref();
        let may_write = streams.is_some_and(|s| wants_control || s.wants());
        let with_data = may_write && self.may_send_data(now);
        (wants_control || with_data).then_some(with_data)
    }

    fn may_send_data(&mut self, now: Instant) -> bool {
        self.channel.probe_may_carry_data() || matches!(self.channel.budget(now), Budget::Ready)
    }

    /// Writes one packet of at most `size` bytes; returns its length, and whether something of the streams is left over
    /// that did not fit.
    fn packet(&mut self, now: Instant, (size, length): (usize, Length), with_data: bool) -> (usize, bool) {
        let Some(datagram) = self.buf.spare().get_mut(..size) else {
            return (0, false);
        };
        self.tokens.clear();
        let mut packet = self.channel.begin(datagram);
        let mut writer = PacketWriter::new(packet.plaintext(), self.tokens);
        self.channel.write_control(now, &mut writer);
        let streams = self.streams.as_mut().filter(|_| with_data);
        let is_cut = streams.is_some_and(|streams| streams.fill(&mut writer, length));
        let (len, ack_eliciting, padding) = (writer.len(), writer.is_ack_eliciting(), writer.padding());
        let packet = packet.sealed(len, ack_eliciting).padded(padding);
        (self.channel.finish(now, packet, self.tokens), is_cut)
    }
}
