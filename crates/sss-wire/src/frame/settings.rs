//! SETTINGS.

use crate::error::Malformed;
use crate::reader::Reader;
use crate::varint::{prefixed_len, total};
use crate::writer::Writer;

/// SETTINGS: a parameter list, see [`params::Settings`](crate::params::Settings).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingsFrame<'a>(pub &'a [u8]);

impl<'a> SettingsFrame<'a> {
    /// The frame's type.
    pub const TYPE: u8 = 0x04;

    /// Reads the fields. The list is not looked into.
    ///
    /// # Errors
    /// If the frame is truncated.
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        reader.bytesv().map(Self)
    }

    /// Writes the frame.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.u8(Self::TYPE);
        w.bytesv(self.0);
    }

    /// Bytes that [`Self::encode`] writes.
    pub fn encoded_len(&self) -> usize {
        total([1, prefixed_len(self.0.len())])
    }
}
