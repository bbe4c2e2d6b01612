//! Up: the frames of an opened packet, to its channel and to the streams.

use bytes::Bytes;
use sss_wire::Code;
use sss_wire::frame::{Close, Frame, Frames};

use super::channels::ChannelSerial;
use crate::channel::{Channel, Fate, Opened};
use crate::error::ProtocolError;
use crate::streams::Streams;
use crate::time::Instant;

/// A packet that its channel has opened.
pub(crate) struct OpenPacket<'a> {
    pub(crate) channel: ChannelSerial,
    pub(crate) opened: &'a Opened,
    /// Its frames, which lie in the batch.
    pub(crate) frames: &'a [u8],
    /// Length of the datagram that it came in, in bytes.
    pub(crate) datagram: usize,
}

/// Parts of a peer that the frames of one packet may change.
pub(super) struct Dispatch<'a> {
    pub(super) now: Instant,
    /// The channel that the packet came on.
    pub(super) channel: &'a mut Channel,
    pub(super) streams: &'a mut Streams,
    /// Empty before and afterwards.
    pub(super) fates: &'a mut Vec<Fate>,
    /// True if frames about streams are in order (MIG-3).
    pub(super) takes_streams: bool,
}

/// Outcome of dispatching the frames of a packet.
pub(super) enum Dispatched<'f> {
    /// All of them were taken in.
    All { is_ack_eliciting: bool },
    /// Those before CLOSE were (CHN-13).
    Closed(Close<'f>),
}

impl Dispatch<'_> {
    /// Takes in the frames of a packet, which lie in `batch`.
    ///
    /// # Errors
    /// If one of them breaks a rule. Those before it were taken in.
    pub(super) fn run<'f>(mut self, frames: Frames<'f>, batch: &Bytes) -> Result<Dispatched<'f>, ProtocolError> {
        let mut is_ack_eliciting = false;
        for frame in frames {
            let frame = frame.map_err(|m| ProtocolError::new(Code::FRAME_ENCODING, m.0))?;
            is_ack_eliciting |= frame.is_ack_eliciting();
            if let Some(close) = self.on_frame(frame, batch)? {
                return Ok(Dispatched::Closed(close));
            }
        }
        Ok(Dispatched::All { is_ack_eliciting })
    }

    /// The only match on frames. CLOSE is given back.
    fn on_frame<'f>(&mut self, frame: Frame<'f>, batch: &Bytes) -> Result<Option<Close<'f>>, ProtocolError> {
        let (channel, streams) = (&mut *self.channel, &mut *self.streams);
        match frame {
            Frame::Padding | Frame::Ping => {}
            Frame::Ack(ack) => {
                let result = channel.on_ack(self.now, &ack, self.fates);
                settle(self.fates, streams);
                result?;
            }
            Frame::PathChallenge(data) => channel.on_path_challenge(data),
            Frame::PathResponse(data) => channel.on_path_response(self.now, data),
            Frame::Settings(_) => {
                return Err(ProtocolError::new(Code::SETTINGS, "SETTINGS outside of packet 0"));
            }
            Frame::Close(close) => return Ok(Some(close)),
            // MIG-3
            _ if !self.takes_streams => {
                return Err(ProtocolError::new(
                    Code::STREAM_STATE,
                    "a frame about streams on a channel that is not accepted",
                ));
            }
            frame => streams.on_frame(&frame, batch)?,
        }
        Ok(None)
    }
}

/// Gives each frame whose packet's fate is known back to its stream.
pub(super) fn settle(fates: &mut Vec<Fate>, streams: &mut Streams) {
    for fate in fates.drain(..) {
        if fate.acked {
            streams.on_acked(fate.token);
        } else {
            streams.on_lost(fate.token);
        }
    }
}
