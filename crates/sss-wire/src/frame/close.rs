//! CLOSE.

use super::{read_reason, sent_reason};
use crate::Code;
use crate::error::Malformed;
use crate::reader::Reader;
use crate::varint::{self, prefixed_len, total};
use crate::writer::Writer;

/// CLOSE: the channel ends (CHN-12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close<'a> {
    /// Side that ends it.
    pub origin: Origin,
    /// Why.
    pub code: Code,
    /// Reason, for people. At most 256 bytes of it are sent.
    pub reason: &'a str,
}

/// Side that ends a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Origin {
    /// The peer's implementation of the protocol.
    Protocol = 0,
    /// The peer's application.
    Application = 1,
}

impl TryFrom<u8> for Origin {
    type Error = Malformed;

    fn try_from(value: u8) -> Result<Self, Malformed> {
        match value {
            0 => Ok(Self::Protocol),
            1 => Ok(Self::Application),
            _ => Err(Malformed("unknown origin of CLOSE")),
        }
    }
}

impl<'a> Close<'a> {
    /// The frame's type.
    pub const TYPE: u8 = 0x05;

    /// Reads the fields.
    ///
    /// # Errors
    /// If the frame is truncated, the origin unknown, or the reason not as FRM-4 says.
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            origin: Origin::try_from(reader.u8()?)?,
            code: Code::from_value(reader.varint()?),
            reason: read_reason(reader)?,
        })
    }

    /// Writes the frame.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.u8(Self::TYPE);
        w.u8(self.origin as u8);
        w.varint(self.code.value());
        w.bytesv(sent_reason(self.reason).as_bytes());
    }

    /// Bytes that [`Self::encode`] writes.
    pub fn encoded_len(&self) -> usize {
        let reason = sent_reason(self.reason);
        total([2, varint::len(self.code.value()), prefixed_len(reason.len())])
    }
}
