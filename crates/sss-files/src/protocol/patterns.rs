//! Patterns of what a listing is to leave out (FIL-37).

use super::{Cursor, Stop, put_bytes, put_varint};

/// Patterns of what a listing is to leave out: at most [`Patterns::MOST`], each of at most [`Patterns::LONGEST`] bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns(Vec<String>);

impl Patterns {
    /// Number of patterns at most.
    pub const MOST: usize = 32;
    /// Length of a pattern at most, in bytes.
    pub const LONGEST: usize = 256;

    /// Those of these that there is room for.
    pub fn that_fit<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Self {
        let fitting = patterns.into_iter().filter(|pattern| pattern.len() <= Self::LONGEST);
        Self(fitting.take(Self::MOST).map(str::to_owned).collect())
    }

    /// Iterates over them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.0.len() as u64);
        self.iter().for_each(|pattern| put_bytes(out, pattern.as_bytes()));
    }

    pub(super) fn decode(from: &mut Cursor<'_>) -> Result<Self, Stop> {
        let count = from.varint()?;
        if count > Self::MOST as u64 {
            return Err(Stop::Malformed("more than 32 patterns"));
        }
        let pattern = |_| {
            let bytes = from.bytesv(Self::LONGEST, "a pattern longer than 256 bytes")?;
            let text = str::from_utf8(bytes).map_err(|_| Stop::Malformed("a pattern that is not UTF-8"))?;
            Ok(text.to_owned())
        };
        (0..count).map(pattern).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: FIL-37
    #[test]
    fn there_are_no_more_and_no_longer_ones_than_may_be() {
        let decoded = |bytes: &[u8]| Patterns::decode(&mut Cursor::new(bytes));
        let longest = "x".repeat(Patterns::LONGEST);
        let too_long = "x".repeat(Patterns::LONGEST + 1);
        let all = std::iter::once(too_long.as_str()).chain(std::iter::repeat_n(longest.as_str(), 40));
        let patterns = Patterns::that_fit(all);
        assert_eq!(patterns.iter().count(), Patterns::MOST);
        let mut bytes = Vec::new();
        patterns.encode(&mut bytes);
        assert_eq!(decoded(&bytes), Ok(patterns));
        for end in 0..bytes.len() {
            assert_eq!(decoded(&bytes[..end]), Err(Stop::Incomplete));
        }
        assert!(matches!(decoded(&[33]), Err(Stop::Malformed(_))));
        assert!(matches!(decoded(&[1, 0x41, 0x01]), Err(Stop::Malformed(_))));
        assert!(matches!(decoded(&[1, 1, 0xff]), Err(Stop::Malformed(_))));
    }
}
