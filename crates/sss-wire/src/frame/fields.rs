//! Frames that are their type and their fields, one behind the other.

use crate::error::Malformed;
use crate::reader::Reader;

/// Implements such a frame: its type, and the kind of each field in the order on the wire.
macro_rules! frame_of_fields {
    ($frame:ident, $type:literal, { $($field:ident: $kind:ident),+ $(,)? }) => {
        impl $frame {
            /// The frame's type.
            pub const TYPE: u8 = $type;

            /// Reads the fields.
            ///
            /// # Errors
            /// If the frame is truncated, or names the root where it must not.
            pub fn decode(reader: &mut $crate::reader::Reader<'_>) -> Result<Self, $crate::error::Malformed> {
                Ok(Self {
                    $($field: $crate::frame::fields::$kind::read(reader)?,)+
                })
            }

            /// Writes the frame.
            pub fn encode(&self, w: &mut $crate::writer::Writer<'_>) {
                w.u8(Self::TYPE);
                $($crate::frame::fields::$kind::write(self.$field, w);)+
            }

            /// Bytes that [`Self::encode`] writes.
            pub fn encoded_len(&self) -> usize {
                $crate::varint::total([1, $($crate::frame::fields::$kind::len(self.$field)),+])
            }
        }
    };
}

pub(super) use frame_of_fields;

/// Reads the LSID of a stream other than the root (FRM-5).
#[inline]
pub(super) fn read_lsid(reader: &mut Reader<'_>) -> Result<u64, Malformed> {
    match reader.varint()? {
        0 => Err(Malformed("the root stream cannot have this frame")),
        lsid => Ok(lsid),
    }
}

/// A number of 62 bits.
pub(super) mod varint {
    use crate::error::Malformed;
    use crate::reader::Reader;
    use crate::writer::Writer;

    #[inline]
    pub(in super::super) fn read(reader: &mut Reader<'_>) -> Result<u64, Malformed> {
        reader.varint()
    }

    #[inline]
    pub(in super::super) fn write(value: u64, w: &mut Writer<'_>) {
        w.varint(value);
    }

    pub(in super::super) use crate::varint::len;
}

/// The LSID of a stream other than the root (FRM-5).
pub(super) mod lsid {
    pub(in super::super) use super::read_lsid as read;
    pub(in super::super) use super::varint::{len, write};
}

/// A level: one byte, signed.
pub(super) mod level {
    use crate::error::Malformed;
    use crate::reader::Reader;
    use crate::writer::Writer;

    #[inline]
    pub(in super::super) fn read(reader: &mut Reader<'_>) -> Result<i8, Malformed> {
        reader.u8().map(u8::cast_signed)
    }

    #[inline]
    pub(in super::super) fn write(value: i8, w: &mut Writer<'_>) {
        w.u8(value.cast_unsigned());
    }

    #[inline]
    pub(in super::super) fn len(_: i8) -> usize {
        1
    }
}
