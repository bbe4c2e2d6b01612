//! Up: the frames of an opened packet, to the channel and to the streams.

use bytes::Bytes;
use sss_wire::ChannelId;
use sss_wire::Code;
use sss_wire::frame::{Close, Frame, Frames};

use super::link::LinkId;
use super::{Arrival, Context, Peer};
use crate::channel::{Opened, Received};
use crate::error::{CloseReason, DropReason, ProtocolError};
use crate::io::Event;
use crate::time::Instant;

/// How frames came in.
#[derive(Clone, Copy)]
pub(super) struct Via {
    pub(super) link: LinkId,
    /// Whether frames about streams are in order (MIG-3).
    pub(super) takes_streams: bool,
}

/// A packet that its channel has opened.
pub(crate) struct OpenPacket<'a> {
    pub(crate) link: LinkId,
    pub(crate) opened: &'a Opened,
    /// Its frames, which lie in the batch.
    pub(crate) frames: &'a [u8],
    /// Length of the datagram that it came in, in bytes.
    pub(crate) datagram: usize,
}

impl Peer {
    /// Unmasks, opens and checks a short packet in place.
    pub(crate) fn open(&mut self, id: ChannelId, packet: &mut [u8]) -> Result<(LinkId, Opened), DropReason> {
        // NEG-17: the channel of an attempt is no link yet.
        let link = self.links.by_channel(id).ok_or(DropReason::UnknownChannel)?;
        let opened = link.channel.open(packet)?;
        Ok((link.id(), opened))
    }

    /// Takes in the frames of an opened packet of `batch`.
    pub(crate) fn receive(
        &mut self,
        context: &mut Context<'_>,
        batch: &Bytes,
        packet: &OpenPacket<'_>,
        arrival: &Arrival,
    ) {
        let now = context.now;
        let &OpenPacket {
            link,
            opened,
            frames,
            datagram,
        } = packet;
        let Some(state) = self.links.get_mut(link) else {
            return;
        };
        if !state.is_open() {
            state.channel.on_packet_while_closing(now);
            return;
        }
        let via = Via {
            link,
            takes_streams: opened.generation > 0 || !state.origin.continues,
        };
        let is_confirmed = opened.generation > 0 && state.acceptance.is_some();
        if is_confirmed {
            self.on_confirmed(context, link);
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
        match self.dispatch(now, via, Frames::new(frames), batch) {
            Ok(ack_eliciting) => received.ack_eliciting = ack_eliciting,
            Err(violation) => return self.violated(now, violation),
        }
        if let Some(state) = self.links.get_mut(link)
            && state.is_open()
        {
            state.channel.note(now, opened, &received);
        }
        if self.is_troubled() {
            self.review_status(now);
        }
    }

    /// The first packet of generation 1: the initiator has ACCEPT.
    fn on_confirmed(&mut self, context: &mut Context<'_>, id: LinkId) {
        if let Some(link) = self.links.get_mut(id)
            && link.acceptance.take().is_some()
        {
            if let Some(tree) = &self.tree.id {
                context.own.history.confirm(tree);
            }
            self.tree.is_confirmed = true;
        }
        self.consider(context.now, id);
    }

    /// Dispatches all frames; returns whether the packet must be acknowledged.
    pub(super) fn dispatch(
        &mut self,
        now: Instant,
        via: Via,
        frames: Frames<'_>,
        batch: &Bytes,
    ) -> Result<bool, ProtocolError> {
        let mut ack_eliciting = false;
        for frame in frames {
            let frame = frame.map_err(|m| ProtocolError::new(Code::FRAME_ENCODING, m.0))?;
            ack_eliciting |= frame.is_ack_eliciting();
            if self.on_frame(now, via, frame, batch)?.is_none() {
                // CHN-13
                break;
            }
        }
        Ok(ack_eliciting)
    }

    /// The only match on frames. `None` once the channel has ended.
    fn on_frame(
        &mut self,
        now: Instant,
        via: Via,
        frame: Frame<'_>,
        batch: &Bytes,
    ) -> Result<Option<()>, ProtocolError> {
        let Some(link) = self.links.get_mut(via.link) else {
            return Ok(None);
        };
        let channel = &mut link.channel;
        match frame {
            Frame::Padding | Frame::Ping => {}
            Frame::Ack(ack) => {
                let result = channel.on_ack(now, &ack, &mut self.fates);
                self.settle_fates();
                result?;
            }
            Frame::PathChallenge(data) => channel.on_path_challenge(data),
            Frame::PathResponse(data) => channel.on_path_response(now, data),
            Frame::Settings(_) => {
                return Err(ProtocolError::new(Code::SETTINGS, "SETTINGS outside of packet 0"));
            }
            Frame::Close(close) => {
                self.on_close(now, via.link, &close);
                return Ok(None);
            }
            // MIG-3
            _ if !via.takes_streams => {
                return Err(ProtocolError::new(
                    Code::STREAM_STATE,
                    "a frame about streams on a channel that is not accepted",
                ));
            }
            Frame::Stream(stream) => self.streams.on_stream(&stream, batch)?,
            Frame::Credit(credit) => self.streams.on_credit(credit.lsid, credit.limit)?,
            Frame::OpenCredit(credit) => {
                self.streams
                    .on_open_credit(credit.lsid, credit.limit, credit.datagrams)?;
            }
            Frame::Datagram(datagram) => self.streams.on_datagram(&datagram, batch)?,
            Frame::Watch(watch) => self.streams.on_watch(watch.lsid)?,
            Frame::Consumed(consumed) => self.streams.on_consumed(consumed.lsid)?,
            Frame::Await(question) => self.streams.on_await(question.lsid)?,
            Frame::Released(released) => self.streams.on_released(released.lsid)?,
            Frame::Priority(priority) => self.streams.on_priority(&priority)?,
            Frame::Reset(reset) => self.streams.on_reset(&reset)?,
            Frame::Stop(stop) => self.streams.on_stop(&stop)?,
        }
        Ok(Some(()))
    }

    /// CLOSE ends the tree, unless the channel was replaced (MIG-8).
    fn on_close(&mut self, now: Instant, id: LinkId, close: &Close<'_>) {
        if close.code == Code::REPLACED {
            return self.on_replaced(now, id);
        }
        if let Some(link) = self.links.get_mut(id) {
            link.channel.on_close(now);
        }
        let reason = match close.code {
            Code::UNKNOWN_TREE => CloseReason::PeerRestarted,
            code => CloseReason::Peer {
                code,
                reason: close.reason.to_owned(),
            },
        };
        self.end(now, (Code::NONE, ""), reason);
    }

    /// The peer broke a rule: CLOSE with the code, and the end of all streams.
    pub(super) fn violated(&mut self, now: Instant, violation: ProtocolError) {
        let reason = CloseReason::Violation(violation);
        let text = reason.to_string();
        self.end(now, (violation.code, &text), reason);
    }

    pub(super) fn announce_connected(&mut self) {
        self.events.push_back(Event::Connected(self.id, self.eid));
    }
}
