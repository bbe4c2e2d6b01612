//! PRIORITY.

use super::read_lsid;
use crate::error::Malformed;
use crate::reader::Reader;
use crate::varint::{self, total};
use crate::writer::Writer;

/// PRIORITY: the receiver of a direction of a stream asks for another level of it (FRM-7, STR-24).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority {
    /// The stream, never the root.
    pub lsid: u64,
    /// Number of requests made for this stream before.
    pub serial: u64,
    /// The level among the stream's siblings, higher first.
    pub level: i8,
}

impl Priority {
    /// The frame's type.
    pub const TYPE: u8 = 0x0b;

    /// Reads the fields.
    ///
    /// # Errors
    /// If the frame is truncated or names the root.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            lsid: read_lsid(reader)?,
            serial: reader.varint()?,
            level: reader.u8()?.cast_signed(),
        })
    }

    /// Writes the frame.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.u8(Self::TYPE);
        w.varint(self.lsid);
        w.varint(self.serial);
        w.u8(self.level.cast_unsigned());
    }

    /// Bytes that [`Self::encode`] writes.
    pub fn encoded_len(&self) -> usize {
        total([1, varint::len(self.lsid), varint::len(self.serial), 1])
    }
}
