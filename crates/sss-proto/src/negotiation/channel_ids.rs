//! The channel ids under which a host receives: each seems random, and none comes again before 2^32 others (NEG-22).

use rand::{Rng, RngExt};
use sss_crypto::mac16;
use sss_wire::ChannelId;
use sss_wire::constants::MAX_CHANNEL_ID;
use sss_wire::params::Shard;
use zeroize::Zeroizing;

/// Bytes at the beginning of an id that make it differ from all others.
const UNIQUE: usize = 4;
/// Enough for a pseudorandom permutation that nobody may ask at will (Luby and Rackoff, 1988).
const ROUNDS: u8 = 4;

/// Counts ids, and hides the count behind a permutation of which nobody else has the key: so nobody can make ids
/// collide either.
pub(crate) struct ChannelIds {
    key: Zeroizing<[u8; 32]>,
    len: usize,
    drawn: u32,
    /// The shard that the last byte of each id stands for (NEG-42).
    shard: Option<Shard>,
}

impl ChannelIds {
    /// Ids of `len` bytes, of which there are at least 4; and one more if they are to name a shard.
    pub(crate) fn new(len: usize, shard: Option<Shard>, rng: &mut dyn Rng) -> Self {
        Self {
            key: Zeroizing::new(rng.random()),
            len: id_len(len, shard),
            drawn: 0,
            shard,
        }
    }

    /// The length of all ids, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn next(&mut self, rng: &mut dyn Rng) -> ChannelId {
        let unique = self.permute(self.drawn);
        self.drawn = self.drawn.wrapping_add(1);
        let mut bytes: [u8; MAX_CHANNEL_ID] = rng.random();
        if let Some(first) = bytes.first_chunk_mut::<UNIQUE>() {
            *first = unique.to_be_bytes();
        }
        let id = bytes.get_mut(..self.len).unwrap_or_default();
        if let (Some(shard), Some(last)) = (self.shard, id.last_mut()) {
            *last = shard.mark(*last);
        }
        ChannelId::new(id).unwrap_or_default()
    }

    /// A Feistel network on two halves of 16 bits.
    fn permute(&self, x: u32) -> u32 {
        let (mut left, mut right) = ((x >> 16) as u16, x as u16);
        for round in 0..ROUNDS {
            let [a, b, ..] = mac16(&*self.key, &[&[round], &right.to_be_bytes()]);
            (left, right) = (right, left ^ u16::from_be_bytes([a, b]));
        }
        u32::from(left) << 16 | u32::from(right)
    }
}

/// The length of ids, if `wanted` bytes are to be: what makes them differ does not name the shard.
pub(crate) fn id_len(wanted: usize, shard: Option<Shard>) -> usize {
    let least = UNIQUE + usize::from(shard.is_some());
    wanted.clamp(least, MAX_CHANNEL_ID)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;

    use rand::rngs::StdRng;

    use super::*;

    // spec: NEG-22
    #[test]
    fn threat_35_no_id_comes_twice_and_none_tells_the_next() {
        let mut rng = StdRng::seed_from_u64(5);
        for len in [4, 8, 20] {
            let mut ids = ChannelIds::new(len, None, &mut rng);
            let mut seen = HashSet::new();
            let mut bits = 0;
            let mut last = 0_u32;
            // At random, some 10 of so many would come twice.
            for _ in 0..300_000 {
                let id = ids.next(&mut rng);
                assert_eq!(id.as_slice().len(), len);
                let head = u32::from_be_bytes(*id.as_slice().first_chunk().unwrap());
                assert!(seen.insert(head), "{id:?} came before");
                bits += u64::from((head ^ last).count_ones());
                last = head;
            }
            let mean = bits as f64 / 300_000.0;
            assert!(
                (15.9..16.1).contains(&mean),
                "{mean} of 32 bits differ from one to the next"
            );
        }
    }

    // spec: NEG-42
    #[test]
    fn ids_of_a_shard_end_with_its_mark_and_none_comes_twice() {
        let mut rng = StdRng::seed_from_u64(8);
        for (len, shard) in [(4, Shard::new(1, 2)), (5, Shard::new(63, 64)), (20, Shard::new(0, 3))] {
            let shard = shard.unwrap();
            let mut ids = ChannelIds::new(len, Some(shard), &mut rng);
            let mut seen = HashSet::new();
            for _ in 0..10_000 {
                let id = ids.next(&mut rng);
                assert_eq!(id.as_slice().len(), len.max(5));
                assert_eq!(Shard::of(*id.as_slice().last().unwrap(), shard.count()), shard.index());
                assert!(seen.insert(*id.as_slice().first_chunk::<4>().unwrap()));
            }
        }
    }

    #[test]
    fn two_hosts_have_different_ids() {
        let mut rng = StdRng::seed_from_u64(6);
        let mut hosts = [ChannelIds::new(8, None, &mut rng), ChannelIds::new(8, None, &mut rng)];
        let ids: HashSet<_> = (0..2000).map(|n| hosts[n % 2].next(&mut rng)).collect();
        assert_eq!(ids.len(), 2000);
    }

    #[test]
    fn secrets_are_wiped() {
        let ids = ChannelIds::new(4, None, &mut StdRng::seed_from_u64(7));
        crate::testing::is_wiped(&ids.key);
    }
}
