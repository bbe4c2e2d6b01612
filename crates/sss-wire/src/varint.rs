//! Sizes of the variable-length integers of RFC 9000 section 16.
//!
//! [`Reader::varint`](crate::Reader::varint) and [`Writer::varint`](crate::Writer::varint) read and write them.

/// The largest value that can be encoded: 2^62 - 1.
pub const MAX: u64 = (1 << 62) - 1;

/// Bytes of the shortest encoding of `value`: 1, 2, 4 or 8. Values above [`MAX`] have none; 8 is returned.
#[inline]
pub const fn len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// The length of a `bytesv` field with `n` bytes of content.
#[inline]
pub(crate) const fn prefixed_len(n: usize) -> usize {
    len(n as u64).saturating_add(n)
}

/// The sum of the lengths of parts.
#[inline]
pub(crate) fn total<const N: usize>(parts: [usize; N]) -> usize {
    parts.into_iter().fold(0, usize::saturating_add)
}
