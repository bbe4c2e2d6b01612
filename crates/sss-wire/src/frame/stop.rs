//! STOP.

use super::{read_lsid, read_reason, sent_reason};
use crate::Code;
use crate::error::Malformed;
use crate::reader::Reader;
use crate::varint::{self, prefixed_len, total};
use crate::writer::Writer;

/// STOP: the receiver of a direction of a stream wants no more of it (STR-14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop<'a> {
    /// The stream, never the root.
    pub lsid: u64,
    /// Why.
    pub code: Code,
    /// Reason, for people. At most 256 bytes of it are sent.
    pub reason: &'a str,
}

impl<'a> Stop<'a> {
    /// The frame's type.
    pub const TYPE: u8 = 0x09;

    /// Reads the fields.
    ///
    /// # Errors
    /// If the frame is truncated, names the root, or has a reason that is not as FRM-4 says.
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            lsid: read_lsid(reader)?,
            code: Code::from_value(reader.varint()?),
            reason: read_reason(reader)?,
        })
    }

    /// Writes the frame.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.u8(Self::TYPE);
        w.varint(self.lsid);
        w.varint(self.code.value());
        w.bytesv(sent_reason(self.reason).as_bytes());
    }

    /// Bytes that [`Self::encode`] writes.
    pub fn encoded_len(&self) -> usize {
        total([
            1,
            varint::len(self.lsid),
            varint::len(self.code.value()),
            prefixed_len(sent_reason(self.reason).len()),
        ])
    }
}
