//! PING.

use crate::writer::Writer;

/// PING: asks for an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping;

impl Ping {
    /// The frame's type.
    pub const TYPE: u8 = 0x01;

    /// Writes the frame.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.u8(Self::TYPE);
    }

    /// Bytes that [`Self::encode`] writes.
    pub const fn encoded_len(&self) -> usize {
        1
    }
}
