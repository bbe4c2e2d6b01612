//! Channel ids: how a datagram names the channel that it belongs to.

use std::fmt;

use crate::constants::MAX_CHANNEL_ID;
use crate::error::Malformed;

/// The id that short packets carry, chosen by their receiver: 1 to 20 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId {
    /// Bytes beyond `len` are zero, so that the derived comparisons hold.
    bytes: [u8; MAX_CHANNEL_ID],
    len: u8,
}

#[expect(clippy::len_without_is_empty, reason = "a channel id is never empty")]
impl ChannelId {
    /// The id with these bytes.
    ///
    /// # Errors
    /// If there are none, or more than 20.
    #[inline]
    pub fn new(id: &[u8]) -> Result<Self, Malformed> {
        const WRONG: Malformed = Malformed("a channel id has 1 to 20 bytes");
        let mut bytes = [0; MAX_CHANNEL_ID];
        match bytes.get_mut(..id.len()) {
            Some(to) if !id.is_empty() => to.copy_from_slice(id),
            _ => return Err(WRONG),
        }
        let len = id.len() as u8;
        Ok(Self { bytes, len })
    }

    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len()).unwrap_or_default()
    }

    /// Returns its length in bytes: 1 to 20.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }
}

/// One zero byte.
impl Default for ChannelId {
    fn default() -> Self {
        Self {
            bytes: [0; MAX_CHANNEL_ID],
            len: 1,
        }
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_1_to_20_bytes() {
        let bytes: Vec<u8> = (1..=21).collect();
        for n in 1..=20 {
            let id = ChannelId::new(&bytes[..n]).unwrap();
            assert_eq!(id.as_slice(), &bytes[..n]);
            assert_eq!(id.len(), n);
        }
        assert!(ChannelId::new(&[]).is_err());
        assert!(ChannelId::new(&bytes).is_err());
    }

    #[test]
    fn ids_that_differ_only_in_length_differ() {
        assert_ne!(ChannelId::new(&[1]), ChannelId::new(&[1, 0]));
        assert_eq!(ChannelId::default(), ChannelId::new(&[0]).unwrap());
        assert_eq!(format!("{:?}", ChannelId::new(&[0xab, 1]).unwrap()), "ab01");
    }
}
