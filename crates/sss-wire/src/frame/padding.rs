//! PADDING.

use crate::writer::Writer;

/// PADDING, this many bytes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Padding(pub usize);

impl Padding {
    /// The frame's type.
    pub const TYPE: u8 = 0x00;

    /// Writes the frame.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.zeros(self.0);
    }

    /// Bytes that [`Self::encode`] writes.
    pub const fn encoded_len(&self) -> usize {
        self.0
    }
}
