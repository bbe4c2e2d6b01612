//! Padding of packets, so that their sizes tell less of what is in them (CHN-16).

use std::fmt;
use std::str::FromStr;

use sss_wire::constants::BASE_DATAGRAM;

/// The smallest datagram of [`Padding::Buckets`], in bytes.
const SMALLEST: usize = 64;

/// Sizes of the packets that a host sends (CHN-16). They say how much is sent at a time, and so, to whoever watches,
/// what a user does; padding hides that. It hides neither when packets are sent nor how many, and costs bytes. Each
/// side decides on what it sends itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Padding {
    /// A packet is as long as what is in it.
    #[default]
    None,
    /// A packet is as long as the next power of two, from 64 bytes on, or as the path carries: at most twice as long.
    Buckets,
    /// All packets have the same size, 1232 bytes; those of a larger size that the path carries have that.
    Constant,
}

impl Padding {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::None, Self::Buckets, Self::Constant];

    /// Its name, as it is read from command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Buckets => "buckets",
            Self::Constant => "constant",
        }
    }

    /// Returns the size of a datagram with `size` bytes in it, where at most `full` can be sent.
    pub(crate) fn padded(self, size: usize, full: usize) -> usize {
        let base = usize::from(BASE_DATAGRAM);
        let padded = match self {
            Self::None => size,
            Self::Buckets => size.max(SMALLEST).next_power_of_two(),
            Self::Constant if size <= base => base,
            Self::Constant => full,
        };
        padded.min(full).max(size)
    }
}

impl fmt::Display for Padding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Padding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|p| p.name() == text);
        found.ok_or_else(|| format!("{text:?} is none of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: CHN-16
    #[test]
    fn threat_38_sizes_are_rounded_up_to_what_the_path_carries() {
        for (size, full, [none, buckets, constant]) in [
            (1, 1452, [1, 64, 1232]),
            (64, 1452, [64, 64, 1232]),
            (65, 1452, [65, 128, 1232]),
            (1024, 1452, [1024, 1024, 1232]),
            (1025, 1232, [1025, 1232, 1232]),
            (1025, 1452, [1025, 1452, 1232]),
            (1233, 1452, [1233, 1452, 1452]),
            (1452, 1452, [1452, 1452, 1452]),
            (40, 50, [40, 50, 50]),
        ] {
            let padded = Padding::ALL.map(|padding| padding.padded(size, full));
            assert_eq!(padded, [none, buckets, constant], "{size} of {full}");
        }
    }

    #[test]
    fn names_are_read_again() {
        for padding in Padding::ALL {
            assert_eq!(padding.name().parse(), Ok(padding));
        }
        let error = "some".parse::<Padding>().unwrap_err();
        assert_eq!(error, r#""some" is none of none, buckets, constant"#);
    }
}
