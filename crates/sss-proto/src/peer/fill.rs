//! Down: packets for the peer, in the fixed order of writers (FRM-2).
//!
//! 1. ACCEPT, if it is owed;
//! 2. a datagram that travels alone (MTU probe, path challenge, CLOSE);
//! 3. packets of equal length for one segmented send: control frames of the channel, then, on the carrier, the streams.

use super::{Context, Peer};
use crate::channel::{Budget, Channel};
use crate::io::{LinkStatus, Transmit, TransmitBuf};
use crate::packet::PacketWriter;
use crate::streams::{StreamInfo, Streams, Waits};
use crate::time::Instant;
use crate::token::Token;

impl Peer {
    /// Whether an application's call may have left something to send.
    pub(crate) fn has_output(&self) -> bool {
        self.streams.wants() || self.streams.has_work() || self.tree.ended.is_some()
    }

    /// Whether there is something to do that [`Self::transmit`] does a part of.
    pub(crate) fn has_work(&self) -> bool {
        self.streams.has_work()
    }

    /// Adds to what is known of a stream what the channel, or the lack of one, lets it wait for.
    pub(crate) fn complete(&self, info: &mut StreamInfo) {
        let Some(waits) = &mut info.waits else {
            return;
        };
        if matches!(waits, Waits::Application | Waits::Acceptance) {
            return;
        }
        // Whatever else stops it, nothing changes before there is a channel that works.
        if self.is_negotiating() {
            *waits = Waits::Connecting;
            return;
        }
        match self.link_status() {
            LinkStatus::Stalled => *waits = Waits::Stalled,
            LinkStatus::Down(reason) => *waits = Waits::Down(reason),
            LinkStatus::Up if *waits == Waits::Turn => {
                let channel = self.links.carrier().map(|l| &l.channel);
                if channel.is_some_and(|c| c.is_window_full()) {
                    *waits = Waits::Congestion;
                } else if channel.is_some_and(|c| c.is_paced()) {
                    *waits = Waits::Pacer;
                }
            }
            LinkStatus::Up => {}
        }
    }

    /// Fills the buffer with what is to be sent now, if anything is.
    pub(crate) fn transmit(
        &mut self,
        context: &mut Context<'_>,
        buf: &mut TransmitBuf,
        tokens: &mut Vec<Token>,
    ) -> Option<Transmit> {
        self.streams.walk();
        if let Some(accept) = self.transmit_accept(context, buf, tokens) {
            return Some(accept);
        }
        let now = context.now;
        if let Some(channel) = self.attempt.as_mut().and_then(|a| a.early_carrier()) {
            let streams = Some(&mut self.streams);
            return transmit_on(now, channel, streams, (buf, tokens));
        }
        let carrier = self.links.carrier_id();
        for link in self.links.iter_mut() {
            let carries = Some(link.id()) == carrier;
            let streams = carries.then_some(&mut self.streams);
            if let Some(transmit) = transmit_on(now, &mut link.channel, streams, (buf, tokens)) {
                return Some(transmit);
            }
        }
        None
    }
}

/// What one channel has to send; with the frames of `streams` if it carries them.
fn transmit_on(
    now: Instant,
    channel: &mut Channel,
    mut streams: Option<&mut Streams>,
    (buf, tokens): (&mut TransmitBuf, &mut Vec<Token>),
) -> Option<Transmit> {
    if let Some(transmit) = channel.transmit_alone(now, buf) {
        return Some(transmit);
    }
    if !channel.is_open() {
        return None;
    }
    if let Some(streams) = &mut streams {
        streams.set_rtt(channel.rtt());
        streams.set_path(channel.loss(), channel.one_way());
        if streams.take_missed() {
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
        let segment = self.channel.datagram_size();
        for _ in 0..self.buf.max_segments() {
            if self.buf.spare().len() < segment || !self.wants(now) {
                break;
            }
            let written = self.packet(now, segment);
            self.buf.advance(written);
            // CHN-10: only the last packet may be shorter.
            if written < segment {
                break;
            }
        }
        if self.streams.as_ref().is_some_and(|s| !s.wants()) {
            self.channel.on_nothing_to_send();
        }
        (self.buf.len() > 0).then(|| self.channel.transmit(segment.min(self.buf.len())))
    }

    fn may_send_data(&mut self, now: Instant) -> bool {
        self.channel.probe_may_carry_data() || matches!(self.channel.budget(now), Budget::Ready)
    }

    fn wants(&mut self, now: Instant) -> bool {
        self.channel.wants_control(now) || (self.streams.as_ref().is_some_and(|s| s.wants()) && self.may_send_data(now))
    }

    /// Writes one packet of at most `size` bytes; returns its length.
    fn packet(&mut self, now: Instant, size: usize) -> usize {
        let with_data = self.streams.is_some() && self.may_send_data(now);
        let Some(datagram) = self.buf.spare().get_mut(..size) else {
            return 0;
        };
        self.tokens.clear();
        let mut packet = self.channel.begin(datagram);
        let mut writer = PacketWriter::new(packet.plaintext(), self.tokens);
        self.channel.write_control(now, &mut writer);
        if with_data && let Some(streams) = &mut self.streams {
            streams.fill(&mut writer);
        }
        let (len, ack_eliciting) = (writer.len(), writer.is_ack_eliciting());
        self.channel.finish(now, packet.sealed(len, ack_eliciting), self.tokens)
    }
}
