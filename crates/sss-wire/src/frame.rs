//! Frames: what a packet's plaintext is made of (docs/spec/frames.md).
//!
//! [`Frames`] iterates over a received plaintext. Each frame has a type of its own with `encoded_len` and `encode`;
//! its `decode` reads the fields behind the type byte. Slices in a frame are slices of the plaintext.

mod ack;
mod close;
mod credit;
mod datagram;
mod fields;
mod padding;
mod path;
mod ping;
mod priority;
mod reset;
mod settings;
mod stop;
mod stream;
mod watch;

pub use ack::{Ack, AckRanges, EcnCounts};
pub use close::{Close, Origin};
pub use credit::{Credit, OpenCredit};
pub use datagram::Datagram;
pub use padding::Padding;
pub use path::{PathChallenge, PathResponse};
pub use ping::Ping;
pub use priority::Priority;
pub use reset::{Reset, Scope};
pub use settings::SettingsFrame;
pub use stop::Stop;
pub use stream::{Fit, Init, InitKind, Stream, StreamHeader};
pub use watch::{Await, Consumed, Released, Watch};

pub use crate::text::truncate_text;

use std::iter::FusedIterator;

use fields::read_lsid;

use crate::constants::MAX_REASON;
use crate::error::Malformed;
use crate::params::Settings;
use crate::reader::Reader;
use crate::varint::{prefixed_len, total};
use crate::writer::Writer;

/// Any frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// PADDING: one or more bytes without meaning.
    Padding,
    /// PING: asks for an acknowledgement.
    Ping,
    /// ACK or ACK_ECN.
    Ack(Ack<'a>),
    /// SETTINGS: a parameter list, see [`params::Settings`](crate::params::Settings).
    Settings(&'a [u8]),
    /// CLOSE: the channel ends.
    Close(Close<'a>),
    /// PATH_CHALLENGE: asks for the same data in PATH_RESPONSE.
    PathChallenge([u8; 8]),
    /// PATH_RESPONSE.
    PathResponse([u8; 8]),
    /// RESET: the sender ends its direction of a stream early.
    Reset(Reset<'a>),
    /// STOP: the receiver wants no more of a stream.
    Stop(Stop<'a>),
    /// CREDIT: raises the limit of a stream's own data.
    Credit(Credit),
    /// OPEN_CREDIT: raises the limit of what openings may be charged to a stream, or to the root if `lsid` is 0.
    OpenCredit(OpenCredit),
    /// PRIORITY: asks for another level of a stream.
    Priority(Priority),
    /// WATCH: asks to be told when a direction was read to its end.
    Watch(Watch),
    /// CONSUMED: a direction was read to its end.
    Consumed(Consumed),
    /// AWAIT: asks to be told when no more will be opened or sent on a stream.
    Await(Await),
    /// RELEASED: no more will be opened or sent on a stream.
    Released(Released),
    /// DATAGRAM: a message on a stream, as a whole.
    Datagram(Datagram<'a>),
    /// STREAM: opens, carries and ends a direction of a stream.
    Stream(Stream<'a>),
}

impl<'a> Frame<'a> {
    /// Reads one frame; a run of PADDING is read as one.
    ///
    /// # Errors
    /// As FRM-1 says: an unknown type, a truncated frame, or a value outside its range.
    #[inline]
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let kind = reader.u8()?;
        if kind & Stream::TYPE_MASK == Stream::TYPE {
            return Stream::decode(kind, reader).map(Self::Stream);
        }
        match kind {
            Ack::TYPE | Ack::TYPE_ECN => Ack::decode(kind, reader).map(Self::Ack),
            _ => Self::decode_rare(kind, reader),
        }
    }

    #[inline(never)]
    fn decode_rare(kind: u8, reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(match kind {
            Padding::TYPE => {
                reader.zeros();
                Self::Padding
            }
            Ping::TYPE => Self::Ping,
            SettingsFrame::TYPE => Self::Settings(SettingsFrame::decode(reader)?.0),
            Close::TYPE => Self::Close(Close::decode(reader)?),
            PathChallenge::TYPE => Self::PathChallenge(PathChallenge::decode(reader)?.0),
            PathResponse::TYPE => Self::PathResponse(PathResponse::decode(reader)?.0),
            Reset::TYPE => Self::Reset(Reset::decode(reader)?),
            Stop::TYPE => Self::Stop(Stop::decode(reader)?),
            Credit::TYPE => Self::Credit(Credit::decode(reader)?),
            OpenCredit::TYPE => Self::OpenCredit(OpenCredit::decode(reader)?),
            Priority::TYPE => Self::Priority(Priority::decode(reader)?),
            Watch::TYPE => Self::Watch(Watch::decode(reader)?),
            Consumed::TYPE => Self::Consumed(Consumed::decode(reader)?),
            Await::TYPE => Self::Await(Await::decode(reader)?),
            Released::TYPE => Self::Released(Released::decode(reader)?),
            Datagram::TYPE => Self::Datagram(Datagram::decode(reader)?),
            _ => return Err(Malformed("unknown frame type")),
        })
    }

    /// Writes the frame; STREAM with its length.
    pub fn encode(&self, w: &mut Writer<'_>) {
        match *self {
            Self::Padding => Padding(1).encode(w),
            Self::Ping => Ping.encode(w),
            Self::Ack(ref ack) => ack.encode(w),
            Self::Settings(list) => SettingsFrame(list).encode(w),
            Self::Close(ref close) => close.encode(w),
            Self::PathChallenge(data) => PathChallenge(data).encode(w),
            Self::PathResponse(data) => PathResponse(data).encode(w),
            Self::Reset(ref reset) => reset.encode(w),
            Self::Stop(ref stop) => stop.encode(w),
            Self::Credit(credit) => credit.encode(w),
            Self::OpenCredit(credit) => credit.encode(w),
            Self::Priority(priority) => priority.encode(w),
            Self::Watch(watch) => watch.encode(w),
            Self::Consumed(consumed) => consumed.encode(w),
            Self::Await(question) => question.encode(w),
            Self::Released(released) => released.encode(w),
            Self::Datagram(datagram) => datagram.encode(w),
            Self::Stream(ref stream) => stream.encode(w),
        }
    }

    /// Bytes that [`Self::encode`] writes.
    pub fn encoded_len(&self) -> usize {
        match *self {
            Self::Padding => Padding(1).encoded_len(),
            Self::Ping => Ping.encoded_len(),
            Self::Ack(ref ack) => ack.encoded_len(),
            Self::Settings(list) => SettingsFrame(list).encoded_len(),
            Self::Close(ref close) => close.encoded_len(),
            Self::PathChallenge(data) => PathChallenge(data).encoded_len(),
            Self::PathResponse(data) => PathResponse(data).encoded_len(),
            Self::Reset(ref reset) => reset.encoded_len(),
            Self::Stop(ref stop) => stop.encoded_len(),
            Self::Credit(credit) => credit.encoded_len(),
            Self::OpenCredit(credit) => credit.encoded_len(),
            Self::Priority(priority) => priority.encoded_len(),
            Self::Watch(watch) => watch.encoded_len(),
            Self::Consumed(consumed) => consumed.encoded_len(),
            Self::Await(question) => question.encoded_len(),
            Self::Released(released) => released.encoded_len(),
            Self::Datagram(datagram) => datagram.encoded_len(),
            Self::Stream(ref stream) => stream.encoded_len(),
        }
    }

    /// Returns whether a packet with this frame must be acknowledged (CHN-4).
    #[inline]
    pub const fn is_ack_eliciting(&self) -> bool {
        !matches!(self, Self::Padding | Self::Ack(_) | Self::Close(_))
    }
}

/// The frames of a plaintext, in order.
///
/// A plaintext without any is an error. After an error the iterator ends.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    reader: Reader<'a>,
    /// Nothing was returned yet.
    is_fresh: bool,
}

impl<'a> Frames<'a> {
    /// The frames of `plaintext`.
    #[inline]
    pub const fn new(plaintext: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(plaintext),
            is_fresh: true,
        }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let is_fresh = std::mem::replace(&mut self.is_fresh, false);
        if self.reader.is_empty() {
            return is_fresh.then_some(Err(Malformed("a packet without frames")));
        }
        let frame = Frame::decode(&mut self.reader);
        if frame.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(frame)
    }
}

impl FusedIterator for Frames<'_> {}

/// Writes SETTINGS with these settings.
pub fn write_settings(w: &mut Writer<'_>, settings: &Settings) {
    w.u8(SettingsFrame::TYPE);
    w.varint(settings.encoded_len() as u64);
    settings.encode(w);
}

/// Bytes that [`write_settings`] writes.
pub fn settings_len(settings: &Settings) -> usize {
    total([1, prefixed_len(settings.encoded_len())])
}

/// Returns what is sent of a reason (FRM-4).
fn sent_reason(reason: &str) -> &str {
    truncate_text(reason, MAX_REASON)
}

/// Reads a reason (FRM-4).
fn read_reason<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Malformed> {
    let bytes = reader.bytesv()?;
    if bytes.len() > MAX_REASON {
        return Err(Malformed("a reason is longer than 256 bytes"));
    }
    str::from_utf8(bytes).map_err(|_| Malformed("a reason is not UTF-8"))
}

#[cfg(test)]
mod tests;
