//! Questions about a stream, and their answers: WATCH and CONSUMED, AWAIT and RELEASED.

use super::read_lsid;
use crate::error::Malformed;
use crate::reader::Reader;
use crate::varint::{self, total};
use crate::writer::Writer;

/// WATCH: the sender of a direction of a stream asks to be told when it was read to its end (FRM-11, STR-47).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The stream, never the root.
    pub lsid: u64,
}

/// CONSUMED: the direction of a stream that the receiver of this frame sends was read to its end (FRM-11, STR-48).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// The stream, never the root.
    pub lsid: u64,
}

/// AWAIT: asks to be told when the receiver of this frame can open and send no more on a stream (FRM-20, STR-70).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Await {
    /// The stream, never the root.
    pub lsid: u64,
}

/// RELEASED: the sender of this frame opens and sends no more on a stream, and what it had opened has arrived (FRM-20,
/// STR-71).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// The stream, never the root.
    pub lsid: u64,
}

macro_rules! of_a_stream {
    ($frame:ident, $kind:literal) => {
        impl $frame {
            /// The frame's type.
            pub const TYPE: u8 = $kind;

            /// Reads the field.
            ///
            /// # Errors
            /// If the frame is truncated or names the root.
            pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                let lsid = read_lsid(reader)?;
                Ok(Self { lsid })
            }

            /// Writes the frame.
            pub fn encode(&self, w: &mut Writer<'_>) {
                w.u8(Self::TYPE);
                w.varint(self.lsid);
            }

            /// Bytes that [`Self::encode`] writes.
            pub fn encoded_len(&self) -> usize {
                total([1, varint::len(self.lsid)])
            }
        }
    };
}

of_a_stream!(Watch, 0x0c);
of_a_stream!(Consumed, 0x0d);
of_a_stream!(Await, 0x11);
of_a_stream!(Released, 0x12);
