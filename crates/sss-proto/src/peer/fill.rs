//! Down: packets for the peer, in the fixed order of writers (FRM-2).
//!
//! 1. ACCEPT, if it is owed;
//! 2. a datagram that travels alone (MTU probe, path challenge, CLOSE);
//! 3. packets of equal length for one segmented send: control frames of the channel, then the streams.

use super::{Context, Link, Peer};
use crate::channel::{Budget, Channel};
use crate::io::{Instant, Transmit, TransmitBuf};
use crate::packet::PacketWriter;
use crate::streams::Streams;
use crate::token::Token;

impl Peer {
    /// Whether an application's call may have left something to send.
    pub(crate) fn has_output(&self) -> bool {
        self.streams.wants() || matches!(self.link, Link::Ending(_))
    }

    /// Fills the buffer with what is to be sent now, if anything is.
    pub(crate) fn transmit(
        &mut self,
        context: &mut Context<'_>,
        buf: &mut TransmitBuf,
        tokens: &mut Vec<Token>,
    ) -> Option<Transmit> {
        if let Some(accept) = self.transmit_accept(context, buf, tokens) {
            return Some(accept);
        }
        let now = context.now;
        match &mut self.link {
            Link::Early(_, channel) | Link::Up(channel, _) => {
                if let Some(transmit) = channel.transmit_alone(now, buf) {
                    return Some(transmit);
                }
                self.streams.set_rtt(channel.rtt());
                self.streams.set_loss(channel.loss());
                Batch {
                    channel,
                    streams: &mut self.streams,
                    buf,
                    tokens,
                }
                .fill(now)
            }
            Link::Ending(channel) => channel.transmit_alone(now, buf),
            Link::Unlinked | Link::Negotiating(_) | Link::Down => None,
        }
    }
}

/// One segmented send under construction.
struct Batch<'a> {
    channel: &'a mut Channel,
    streams: &'a mut Streams,
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
        (self.buf.len() > 0).then(|| self.channel.transmit(segment.min(self.buf.len())))
    }

    fn may_send_data(&mut self, now: Instant) -> bool {
        self.channel.probe_pending() || matches!(self.channel.budget(now), Budget::Ready)
    }

    fn wants(&mut self, now: Instant) -> bool {
        self.channel.wants_control(now) || (self.streams.wants() && self.may_send_data(now))
    }

    /// Writes one packet of at most `size` bytes; returns its length.
    fn packet(&mut self, now: Instant, size: usize) -> usize {
        let with_data = self.may_send_data(now);
        let Some(datagram) = self.buf.spare().get_mut(..size) else {
            return 0;
        };
        self.tokens.clear();
        let mut packet = self.channel.begin(datagram);
        let mut writer = PacketWriter::new(packet.plaintext(), self.tokens);
        self.channel.write_control(now, &mut writer);
        if with_data {
            self.streams.fill(&mut writer);
        }
        let (len, ack_eliciting) = (writer.len(), writer.is_ack_eliciting());
        self.channel.finish(now, packet.sealed(len, ack_eliciting), self.tokens)
    }
}
