//! A checked cursor over received bytes.

use crate::error::{Malformed, TRUNCATED};

/// A cursor over bytes that somebody else wrote. Nothing it does can panic.
///
/// Every method either takes a whole field and moves on, or fails and leaves the cursor somewhere inside the
/// field; a caller stops at the first failure.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    total: usize,
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `bytes`.
    #[inline]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            total: bytes.len(),
        }
    }

    /// Bytes not read yet.
    #[inline]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Returns whether everything was read.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes read so far.
    #[inline]
    pub const fn position(&self) -> usize {
        self.total.saturating_sub(self.rest.len())
    }

    /// The next byte, which is not taken.
    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next byte.
    ///
    /// # Errors
    /// If nothing is left.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(*first)
    }

    /// A big-endian integer of 2 bytes.
    ///
    /// # Errors
    /// If fewer are left.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// A big-endian integer of 4 bytes.
    ///
    /// # Errors
    /// If fewer are left.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// A big-endian integer of 8 bytes.
    ///
    /// # Errors
    /// If fewer are left.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A variable-length integer (RFC 9000 section 16) of any of its encodings (OVR-1).
    ///
    /// # Errors
    /// If its bytes are not all there.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let first = self.peek().ok_or(TRUNCATED)?;
        Ok(match first >> 6 {
            0 => u64::from(self.u8()?),
            1 => u64::from(self.u16()? & 0x3fff),
            2 => u64::from(self.u32()? & 0x3fff_ffff),
            _ => self.u64()? & crate::varint::MAX,
        })
    }

    /// Exactly `N` bytes, copied.
    ///
    /// # Errors
    /// If fewer are left.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.array_ref().copied()
    }

    /// Exactly `N` bytes, borrowed from the input.
    ///
    /// # Errors
    /// If fewer are left.
    #[inline]
    pub fn array_ref<const N: usize>(&mut self) -> Result<&'a [u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Exactly `n` bytes, borrowed from the input.
    ///
    /// # Errors
    /// If fewer are left.
    #[inline]
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Bytes after a length of one byte.
    ///
    /// # Errors
    /// If fewer are left than the length says.
    #[inline]
    pub fn bytes8(&mut self) -> Result<&'a [u8], Malformed> {
        let n = self.u8()?;
        self.bytes(usize::from(n))
    }

    /// Bytes after a length of two bytes.
    ///
    /// # Errors
    /// If fewer are left than the length says.
    #[inline]
    pub fn bytes16(&mut self) -> Result<&'a [u8], Malformed> {
        let n = self.u16()?;
        self.bytes(usize::from(n))
    }

    /// Bytes after a length that is a varint.
    ///
    /// # Errors
    /// If fewer are left than the length says.
    #[inline]
    pub fn bytesv(&mut self) -> Result<&'a [u8], Malformed> {
        let n = self.varint()?;
        self.bytes(usize::try_from(n).map_err(|_| TRUNCATED)?)
    }

    /// Takes all that is left, which may be nothing.
    #[inline]
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Skips a run of zero bytes and says how long it was.
    pub fn zeros(&mut self) -> usize {
        let n = self.rest.iter().take_while(|b| **b == 0).count();
        self.rest = self.rest.get(n..).unwrap_or_default();
        n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_fields_in_order() {
        let mut reader = Reader::new(&[1, 2, 3, 4, 5, 6, 7, 0x40, 64, 2, 8, 9, 0, 1, 10, 1, 11, 0, 0, 12, 13]);
        assert_eq!(reader.peek(), Some(1));
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u16(), Ok(0x0203));
        assert_eq!(reader.u32(), Ok(0x0405_0607));
        assert_eq!(reader.varint(), Ok(64));
        assert_eq!(reader.bytes8(), Ok(&[8, 9][..]));
        assert_eq!(reader.bytes16(), Ok(&[10][..]));
        assert_eq!(reader.bytesv(), Ok(&[11][..]));
        assert_eq!(reader.zeros(), 2);
        assert_eq!((reader.position(), reader.remaining()), (19, 2));
        assert_eq!(reader.array(), Ok([12]));
        assert_eq!(reader.rest(), &[13]);
        assert!(reader.is_empty());
        assert_eq!(reader.rest(), &[] as &[u8]);
    }

    #[test]
    fn refuses_what_is_not_there() {
        let reader = Reader::new(&[0xff, 0, 0]);
        assert_eq!(reader.clone().u32(), Err(TRUNCATED));
        assert_eq!(reader.clone().u64(), Err(TRUNCATED));
        assert_eq!(reader.clone().varint(), Err(TRUNCATED));
        assert_eq!(reader.clone().bytes(4), Err(TRUNCATED));
        assert_eq!(reader.clone().bytes(usize::MAX), Err(TRUNCATED));
        assert_eq!(reader.clone().bytes8(), Err(TRUNCATED));
        assert_eq!(reader.clone().bytes16(), Err(TRUNCATED));
        assert_eq!(reader.clone().array_ref::<4>(), Err(TRUNCATED));
        assert_eq!(Reader::new(&[]).u8(), Err(TRUNCATED));
        assert_eq!(Reader::new(&[]).varint(), Err(TRUNCATED));
        assert_eq!(TRUNCATED.to_string(), "malformed: truncated");
    }
}
