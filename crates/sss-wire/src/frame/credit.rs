//! CREDIT.

use crate::error::Malformed;
use crate::reader::Reader;
use crate::varint::{self, total};
use crate::writer::Writer;

/// CREDIT: raises the limit of a stream, or of the root (STR-17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// The stream; 0 is the root.
    pub lsid: u64,
    /// The new limit in bytes of charge, absolute.
    pub limit: u64,
}

impl Credit {
    /// The frame's type.
    pub const TYPE: u8 = 0x0a;

    /// Reads the fields.
    ///
    /// # Errors
    /// If the frame is truncated.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            lsid: reader.varint()?,
            limit: reader.varint()?,
        })
    }

    /// Writes the frame.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.u8(Self::TYPE);
        w.varint(self.lsid);
        w.varint(self.limit);
    }

    /// Bytes that [`Self::encode`] writes.
    pub fn encoded_len(&self) -> usize {
        total([1, varint::len(self.lsid), varint::len(self.limit)])
    }
}
