//! DATAGRAM.

use super::read_lsid;
use crate::error::Malformed;
use crate::reader::Reader;
use crate::varint;
use crate::varint::{prefixed_len, total};
use crate::writer::Writer;

/// DATAGRAM: a datagram that needs no stream of its own (FRM-9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The stream that it is sent on, never the root.
    pub lsid: u64,
    /// The bytes, a slice of the packet.
    pub data: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// The frame's type.
    pub const TYPE: u8 = 0x0e;

    /// Reads the fields.
    ///
    /// # Errors
    /// If the frame is truncated, or names the root.
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            lsid: read_lsid(reader)?,
            data: reader.bytesv()?,
        })
    }

    /// Writes the frame.
    pub fn encode(&self, w: &mut Writer<'_>) {
        Self::encode_header(w, self.lsid, self.data.len());
        w.bytes(self.data);
    }

    /// Writes everything but the data: for a sender that copies the `len` bytes of data behind it itself.
    pub fn encode_header(w: &mut Writer<'_>, lsid: u64, len: usize) {
        w.u8(Self::TYPE);
        w.varint(lsid);
        w.varint(len as u64);
    }

    /// Bytes that [`Self::encode`] writes.
    pub fn encoded_len(&self) -> usize {
        Self::len_with(self.lsid, self.data.len())
    }

    /// Bytes of a frame with `len` bytes of data.
    pub fn len_with(lsid: u64, len: usize) -> usize {
        total([1, varint::len(lsid), prefixed_len(len)])
    }
}
