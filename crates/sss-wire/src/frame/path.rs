//! PATH_CHALLENGE and PATH_RESPONSE.

use crate::error::Malformed;
use crate::reader::Reader;
use crate::writer::Writer;

/// PATH_CHALLENGE: asks for the same data in PATH_RESPONSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathChallenge(pub [u8; 8]);

/// PATH_RESPONSE: the data of a PATH_CHALLENGE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathResponse(pub [u8; 8]);

impl PathChallenge {
    /// The frame's type.
    pub const TYPE: u8 = 0x06;

    /// Reads the fields.
    ///
    /// # Errors
    /// If the frame is truncated.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.array().map(Self)
    }

    /// Writes the frame.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.u8(Self::TYPE);
        w.bytes(&self.0);
    }

    /// Bytes that [`Self::encode`] writes.
    pub const fn encoded_len(&self) -> usize {
        9
    }
}

impl PathResponse {
    /// The frame's type.
    pub const TYPE: u8 = 0x07;

    /// Reads the fields.
    ///
    /// # Errors
    /// If the frame is truncated.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.array().map(Self)
    }

    /// Writes the frame.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.u8(Self::TYPE);
        w.bytes(&self.0);
    }

    /// Bytes that [`Self::encode`] writes.
    pub const fn encoded_len(&self) -> usize {
        9
    }
}
