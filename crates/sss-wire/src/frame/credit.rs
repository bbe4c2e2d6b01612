//! CREDIT and OPEN_CREDIT.

use super::read_lsid;
use crate::error::Malformed;
use crate::reader::Reader;
use crate::varint::{self, total};
use crate::writer::Writer;

/// CREDIT: raises the limit of a stream's own data (STR-17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// The stream, never the root.
    pub lsid: u64,
    /// The new limit, a position in the direction.
    pub limit: u64,
}

impl Credit {
    /// The frame's type.
    pub const TYPE: u8 = 0x0a;

    /// Reads the fields.
    ///
    /// # Errors
    /// If the frame is truncated, or names the root.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            lsid: read_lsid(reader)?,
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

/// OPEN_CREDIT: raises the limit of what openings of streams may be charged to a stream (STR-55).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenCredit {
    /// The stream whose account it is; 0 is the root.
    pub lsid: u64,
    /// The new limit in bytes of charge, absolute.
    pub limit: u64,
    /// Amount consumed of what datagrams were charged there is consumed, in bytes, in total.
    pub datagrams: u64,
}

impl OpenCredit {
    /// The frame's type.
    pub const TYPE: u8 = 0x13;

    /// Reads the fields.
    ///
    /// # Errors
    /// If the frame is truncated.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            lsid: reader.varint()?,
            limit: reader.varint()?,
            datagrams: reader.varint()?,
        })
    }

    /// Writes the frame.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.u8(Self::TYPE);
        w.varint(self.lsid);
        w.varint(self.limit);
        w.varint(self.datagrams);
    }

    /// Bytes that [`Self::encode`] writes.
    pub fn encoded_len(&self) -> usize {
        total([
            1,
            varint::len(self.lsid),
            varint::len(self.limit),
            varint::len(self.datagrams),
        ])
    }
}
