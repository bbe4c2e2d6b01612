//! Shards: parts of one responder that have channels each of its own (docs/spec/negotiation.md, NEG-42).

use crate::error::Malformed;

/// One of the shards of a responder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shard {
    count: u8,
    index: u8,
}

impl Shard {
    /// Shard `index` of `count`. None if there is no such one.
    pub const fn new(index: u8, count: u8) -> Option<Self> {
        if index < count {
            Some(Self { count, index })
        } else {
            None
        }
    }

    /// The number of this shard, from 0 on.
    pub const fn index(self) -> u8 {
        self.index
    }

    /// The number of shards that there are.
    pub const fn count(self) -> u8 {
        self.count
    }

    /// Returns the byte nearest to `random`, or nearly so, that stands for this shard: one that leaves its number when
    /// it is divided by the number of shards.
    pub fn mark(self, random: u8) -> u8 {
        let row = random.saturating_sub(Self::of(random, self.count));
        // The last row may be cut off.
        let in_the_one_before = || row.checked_sub(self.count)?.checked_add(self.index);
        let marked = row.checked_add(self.index).or_else(in_the_one_before);
        marked.unwrap_or(self.index)
    }

    /// Returns the number of the shard, of `count`, that a byte stands for.
    pub const fn of(byte: u8, count: u8) -> u8 {
        match byte.checked_rem(count) {
            Some(index) => index,
            None => 0,
        }
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let shard = match value {
            [count, index] => Self::new(*index, *count),
            _ => None,
        };
        shard.ok_or(Malformed("a shard is a number of shards, and a smaller number"))
    }

    pub(super) const fn to_bytes(self) -> [u8; 2] {
        [self.count, self.index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: NEG-42
    #[test]
    fn each_byte_stands_for_one_shard_and_each_mark_for_its_own() {
        for count in 1..=u8::MAX {
            for index in [0, count / 2, count - 1] {
                let shard = Shard::new(index, count).unwrap();
                for random in 0..=u8::MAX {
                    assert_eq!(Shard::of(shard.mark(random), count), index, "{random} of {count}");
                }
            }
            assert_eq!(Shard::new(count, count), None);
        }
        assert_eq!((Shard::new(0, 0), Shard::of(9, 0)), (None, 0));
    }

    #[test]
    fn marks_are_spread_over_all_bytes_that_there_are() {
        for (index, count) in [(0, 1), (1, 2), (3, 7), (63, 64)] {
            let shard = Shard::new(index, count).unwrap();
            let marks: std::collections::BTreeSet<u8> = (0..=u8::MAX).map(|random| shard.mark(random)).collect();
            let all: Vec<u8> = (0..=u8::MAX).filter(|byte| byte % count == index).collect();
            assert_eq!(marks.into_iter().collect::<Vec<_>>(), all, "{index} of {count}");
        }
    }

    #[test]
    fn a_shard_that_is_none_is_malformed() {
        for value in [&[][..], &[2], &[2, 2], &[0, 0], &[2, 1, 0]] {
            assert!(Shard::decode(value).is_err(), "{value:?}");
        }
        assert_eq!(Shard::decode(&[64, 63]).ok(), Shard::new(63, 64));
    }
}
