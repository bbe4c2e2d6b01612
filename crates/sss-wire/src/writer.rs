//! A cursor over space that is being filled.

/// A cursor that fills a buffer from its start.
///
/// The caller makes sure that what it writes fits: see [`Writer::remaining`] and the `encoded_len` of what is
/// written. A write that does not fit is a defect of the caller: it panics in debug builds, and is left out
/// altogether in others.
#[derive(Debug)]
pub struct Writer<'a> {
    rest: &'a mut [u8],
    total: usize,
}

impl<'a> Writer<'a> {
    /// A cursor at the start of `space`.
    #[inline]
    pub const fn new(space: &'a mut [u8]) -> Self {
        let total = space.len();
        Self { rest: space, total }
    }

    /// Bytes still free.
    #[inline]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Bytes written so far.
    #[inline]
    pub const fn position(&self) -> usize {
        self.total.saturating_sub(self.rest.len())
    }

    /// Reserves `n` bytes, to be filled later, while writing goes on behind them. They keep the content that the
    /// buffer had. The result is empty if they do not fit.
    #[inline]
    pub fn skip(&mut self, n: usize) -> &'a mut [u8] {
        debug_assert!(n <= self.rest.len(), "{n} bytes do not fit into {}", self.rest.len());
        let n = if n <= self.rest.len() { n } else { 0 };
        let (taken, rest) = std::mem::take(&mut self.rest).split_at_mut(n);
        self.rest = rest;
        taken
    }

    /// A byte.
    #[inline]
    pub fn u8(&mut self, value: u8) {
        self.array([value]);
    }

    /// A big-endian integer of 2 bytes.
    #[inline]
    pub fn u16(&mut self, value: u16) {
        self.array(value.to_be_bytes());
    }

    /// A big-endian integer of 4 bytes.
    #[inline]
    pub fn u32(&mut self, value: u32) {
        self.array(value.to_be_bytes());
    }

    /// A big-endian integer of 8 bytes.
    #[inline]
    pub fn u64(&mut self, value: u64) {
        self.array(value.to_be_bytes());
    }

    /// A variable-length integer in its shortest encoding (OVR-1). `value` is at most
    /// [`varint::MAX`](crate::varint::MAX); the two high bits of a larger one are lost.
    #[inline]
    pub fn varint(&mut self, value: u64) {
        debug_assert!(value <= crate::varint::MAX, "{value} is too large for a varint");
        match value {
            0..=0x3f => self.u8(value as u8),
            0x40..=0x3fff => self.u16(value as u16 | 0x4000),
            0x4000..=0x3fff_ffff => self.u32(value as u32 | 0x8000_0000),
            _ => self.u64(value | (0b11 << 62)),
        }
    }

    /// Bytes as they are.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        let to = self.skip(bytes.len());
        if to.len() == bytes.len() {
            to.copy_from_slice(bytes);
        }
    }

    /// A length of one byte, and the bytes; at most 255, what is beyond is cut off.
    #[inline]
    pub fn bytes8(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= 0xff, "{} bytes need a longer length", bytes.len());
        let bytes = bytes.get(..0xff).unwrap_or(bytes);
        self.u8(bytes.len() as u8);
        self.bytes(bytes);
    }

    /// A length of two bytes, and the bytes; at most 65535, what is beyond is cut off.
    #[inline]
    pub fn bytes16(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= 0xffff, "{} bytes need a longer length", bytes.len());
        let bytes = bytes.get(..0xffff).unwrap_or(bytes);
        self.u16(bytes.len() as u16);
        self.bytes(bytes);
    }

    /// A length that is a varint, and the bytes.
    #[inline]
    pub fn bytesv(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.bytes(bytes);
    }

    /// `n` zero bytes.
    #[inline]
    pub fn zeros(&mut self, n: usize) {
        self.skip(n).fill(0);
    }

    #[inline]
    fn array<const N: usize>(&mut self, bytes: [u8; N]) {
        if let Some(to) = self.skip(N).first_chunk_mut() {
            *to = bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn puts_fields_in_order() {
        let mut space = [0xee; 29];
        let mut w = Writer::new(&mut space);
        w.u8(1);
        let later = w.skip(2);
        w.u16(0x0203);
        w.u32(0x0405_0607);
        w.varint(64);
        w.bytes8(&[8, 9]);
        w.bytes16(&[10]);
        w.bytesv(&[11]);
        w.zeros(2);
        w.u64(12);
        later.copy_from_slice(&[21, 22]);
        assert_eq!((w.position(), w.remaining()), (29, 0));
        let expected = [1, 21, 22, 2, 3, 4, 5, 6, 7, 0x40, 64, 2, 8, 9, 0, 1, 10, 1, 11, 0, 0];
        assert_eq!(space[..21], expected);
        assert_eq!(space[21..], [0, 0, 0, 0, 0, 0, 0, 12]);
    }

    #[test]
    fn varints_have_1_2_4_or_8_bytes() {
        for value in [0, 63, 64, 16383, 16384, (1 << 30) - 1, 1 << 30, crate::varint::MAX] {
            let mut space = [0; 8];
            let mut w = Writer::new(&mut space);
            w.varint(value);
            let len = w.position();
            assert_eq!(len, crate::varint::len(value));
            assert_eq!(1 << (space[0] >> 6), len);
            assert_eq!(crate::Reader::new(&space).varint(), Ok(value));
        }
    }

    #[cfg(debug_assertions)]
    #[test]
    #[should_panic(expected = "2 bytes do not fit into 1")]
    fn a_write_that_does_not_fit_is_noticed() {
        Writer::new(&mut [0]).u16(1);
    }

    #[cfg(not(debug_assertions))]
    #[test]
    fn a_write_that_does_not_fit_is_left_out() {
        let mut space = [7, 7];
        let mut w = Writer::new(&mut space);
        w.u32(1);
        w.bytes(&[1, 2, 3]);
        w.u8(5);
        assert_eq!(w.position(), 1);
        assert_eq!(space, [5, 7]);
    }
}
