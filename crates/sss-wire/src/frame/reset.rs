//! RESET.

use super::{read_lsid, read_reason, sent_reason};
use crate::Code;
use crate::error::Malformed;
use crate::reader::Reader;
use crate::varint::{self, prefixed_len, total};
use crate::writer::Writer;

/// RESET: the sender ends its direction of a stream before its end (STR-12 to STR-15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset<'a> {
    /// The stream, never the root.
    pub lsid: u64,
    /// Part that is reset.
    pub scope: Scope,
    /// Why.
    pub code: Code,
    /// The highest offset sent, in bytes.
    pub final_size: u64,
    /// Reason, for people. At most 256 bytes of it are sent.
    pub reason: &'a str,
}

/// Part that a RESET is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Scope {
    /// The stream alone.
    #[default]
    Stream = 0,
    /// The stream and all streams below it, in both directions.
    Tree = 1,
}

impl TryFrom<u8> for Scope {
    type Error = Malformed;

    fn try_from(value: u8) -> Result<Self, Malformed> {
        match value {
            0 => Ok(Self::Stream),
            1 => Ok(Self::Tree),
            _ => Err(Malformed("unknown scope of RESET")),
        }
    }
}

impl<'a> Reset<'a> {
    /// The frame's type.
    pub const TYPE: u8 = 0x08;

    /// Reads the fields.
    ///
    /// # Errors
    /// If the frame is truncated, names the root, has an unknown scope, or a reason that is not as FRM-4 says.
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            lsid: read_lsid(reader)?,
            scope: Scope::try_from(reader.u8()?)?,
            code: Code::from_value(reader.varint()?),
            final_size: reader.varint()?,
            reason: read_reason(reader)?,
        })
    }

    /// Writes the frame.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.u8(Self::TYPE);
        w.varint(self.lsid);
        w.u8(self.scope as u8);
        w.varint(self.code.value());
        w.varint(self.final_size);
        w.bytesv(sent_reason(self.reason).as_bytes());
    }

    /// Bytes that [`Self::encode`] writes.
    pub fn encoded_len(&self) -> usize {
        total([
            2,
            varint::len(self.lsid),
            varint::len(self.code.value()),
            varint::len(self.final_size),
            prefixed_len(sent_reason(self.reason).len()),
        ])
    }
}
