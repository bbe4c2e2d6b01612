//! Up: the frames of an opened packet, to the channel and to the streams.

use bytes::Bytes;
use sss_wire::Code;
use sss_wire::frame::{Close, Frame, Frames};

use super::{Arrival, Link, Peer};
use crate::channel::{Opened, Received};
use crate::error::{CloseReason, Drop, ProtocolError};
use crate::io::{Event, Instant};

impl Peer {
    /// Unmasks, opens and checks a short packet in place.
    pub(crate) fn open(&mut self, packet: &mut [u8]) -> Result<Opened, Drop> {
        match &mut self.link {
            Link::Up(channel, _) | Link::Ending(channel) => channel.open(packet),
            // NEG-17
            _ => Err(Drop::UnknownChannel),
        }
    }

    /// Takes in the frames of an opened packet; they lie in `batch`.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        opened: &Opened,
        (batch, frames): (&Bytes, &[u8]),
        datagram: usize,
        arrival: &Arrival,
    ) {
        if let Link::Ending(channel) = &mut self.link {
            channel.on_packet_while_closing(now);
            return;
        }
        if opened.generation > 0
            && let Link::Up(_, acceptance) = &mut self.link
        {
            *acceptance = None;
        }
        if frames.is_empty() {
            let empty = ProtocolError::new(Code::FRAME_ENCODING, "a packet without frames");
            return self.violated(now, empty);
        }
        let mut received = Received {
            ack_eliciting: false,
            ecn: arrival.ecn,
            bytes: datagram,
            remote: arrival.remote,
        };
        match self.dispatch(now, Frames::new(frames), batch) {
            Ok(ack_eliciting) => received.ack_eliciting = ack_eliciting,
            Err(violation) => return self.violated(now, violation),
        }
        if let Link::Up(channel, _) = &mut self.link {
            channel.note(now, opened, &received);
        }
    }

    /// Dispatches all frames; returns whether the packet must be acknowledged.
    pub(super) fn dispatch(&mut self, now: Instant, frames: Frames<'_>, batch: &Bytes) -> Result<bool, ProtocolError> {
        let mut ack_eliciting = false;
        for frame in frames {
            let frame = frame.map_err(|m| ProtocolError::new(Code::FRAME_ENCODING, m.0))?;
            ack_eliciting |= frame.is_ack_eliciting();
            self.on_frame(now, frame, batch)?;
            // CHN-13
            if !matches!(self.link, Link::Up(..) | Link::Early(..)) {
                break;
            }
        }
        Ok(ack_eliciting)
    }

    /// The only match on frames.
    fn on_frame(&mut self, now: Instant, frame: Frame<'_>, batch: &Bytes) -> Result<(), ProtocolError> {
        let Some(channel) = self.channel_mut() else {
            return Ok(());
        };
        match frame {
            Frame::Padding | Frame::Ping => Ok(()),
            Frame::Stream(stream) => self.streams.on_stream(&stream, batch),
            Frame::Ack(ack) => {
                let mut fates = std::mem::take(&mut self.fates);
                let result = match &mut self.link {
                    Link::Up(channel, _) => channel.on_ack(now, &ack, &mut fates),
                    _ => Ok(()),
                };
                self.fates = fates;
                self.settle_fates();
                result
            }
            Frame::Datagram(datagram) => self.streams.on_datagram(&datagram, batch),
            Frame::Credit(credit) => self.streams.on_credit(credit.lsid, credit.limit),
            Frame::Priority(priority) => self.streams.on_priority(&priority),
            Frame::Reset(reset) => self.streams.on_reset(&reset),
            Frame::Stop(stop) => self.streams.on_stop(&stop),
            Frame::PathChallenge(data) => {
                channel.on_path_challenge(data);
                Ok(())
            }
            Frame::PathResponse(data) => {
                channel.on_path_response(now, data);
                Ok(())
            }
            Frame::Settings(_) => Err(ProtocolError::new(Code::SETTINGS, "SETTINGS outside of packet 0")),
            Frame::Close(close) => {
                self.on_close(now, &close);
                Ok(())
            }
        }
    }

    fn on_close(&mut self, now: Instant, close: &Close<'_>) {
        let reason = CloseReason::Peer {
            code: close.code,
            reason: close.reason.to_owned(),
        };
        match std::mem::replace(&mut self.link, Link::Down) {
            Link::Up(mut channel, _) | Link::Early(_, mut channel) => {
                channel.on_close(now);
                self.link = Link::Ending(channel);
            }
            other => self.link = other,
        }
        self.names.attempt = None;
        self.names.reset_token = None;
        self.end_streams(reason);
    }

    /// The peer broke a rule: CLOSE with the code, and the end of all streams.
    pub(super) fn violated(&mut self, now: Instant, violation: ProtocolError) {
        self.close_with(now, violation.code, CloseReason::Violation(violation));
    }

    pub(super) fn announce_connected(&mut self) {
        self.events.push_back(Event::Connected(self.id, self.eid));
    }
}
