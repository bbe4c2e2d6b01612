//! Hosts with one identity behind one port, of which each has channels of its own (NEG-42): which of them a datagram is
//! for, and the names by which the datagrams of each are known.
//!
//! - What answers an attempt of this host, and what is sent to its channels, bears the mark of the shard that has it:
//!   in the last byte of the attempt, and of the channel id.
//! - What begins with an attempt of others has a mark in the attempt's first byte: any, or that of the shard that has
//!   the tree or has answered the attempt before, as its COOKIE has said.

use rand::{Rng, RngExt};
use sss_wire::long::{self, Kind};
use sss_wire::params::Shard;

use super::channel_ids::id_len;

/// Place of the byte in a packet that stands for the shard that it is for, by the first byte of the packet; for hosts
/// whose channel ids have `channel_id_len` bytes, as [`Config::channel_id_len`](crate::Config::channel_id_len) has it.
/// None if any shard will do.
pub fn shard_mark_at(first: u8, channel_id_len: usize) -> Option<usize> {
    match first & 0xc0 {
        // Behind the first byte is the channel id.
        0x40 => Some(id_len(channel_id_len, Shard::new(0, 1))),
        0x80 | 0xc0 => match Kind::try_from(first).ok()? {
            Kind::Hello | Kind::HelloK | Kind::Initiate | Kind::Probe => Some(long::ATTEMPT_AT),
            Kind::Retry | Kind::Version | Kind::Cookie | Kind::CookieK | Kind::Accept | Kind::ProbeReply => {
                Some(long::PREFIX - 1)
            }
        },
        _ => None,
    }
}

/// Number of the shard, of `count`, that a datagram is for: [`shard_mark_at`] says how it is known. None if any will
/// do.
pub fn shard_of(datagram: &[u8], count: u8, channel_id_len: usize) -> Option<u8> {
    let at = shard_mark_at(*datagram.first()?, channel_id_len)?;
    Some(Shard::of(*datagram.get(at)?, count))
}

/// Name of an attempt: random, but for the marks of the shard `towards` which it goes, and of this host's own.
pub(crate) fn attempt_name(towards: Option<Shard>, own: Option<Shard>, rng: &mut dyn Rng) -> [u8; 8] {
    let mut name: [u8; 8] = rng.random();
    if let ([first, ..], Some(shard)) = (&mut name, towards) {
        *first = shard.mark(*first);
    }
    if let ([.., last], Some(shard)) = (&mut name, own) {
        *last = shard.mark(*last);
    }
    name
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    // Threat 48.
    // spec: NEG-42
    #[test]
    fn threat_48_attempts_bear_the_marks_of_both_and_nothing_else_of_them_is_fixed() {
        let mut rng = StdRng::seed_from_u64(1);
        let (theirs, ours) = (Shard::new(2, 3), Shard::new(4, 5));
        let names: std::collections::HashSet<_> = (0..1000).map(|_| attempt_name(theirs, ours, &mut rng)).collect();
        assert_eq!(names.len(), 1000);
        for name in names {
            assert_eq!((Shard::of(name[0], 3), Shard::of(name[7], 5)), (2, 4));
        }
        let free: std::collections::HashSet<_> = (0..10_000).map(|_| attempt_name(None, None, &mut rng)[0]).collect();
        assert_eq!(free.len(), 256);
    }

    // spec: NEG-42
    #[test]
    fn datagrams_are_for_the_shard_whose_mark_they_bear() {
        let mut long = vec![0; 64];
        (long[long::ATTEMPT_AT], long[long::PREFIX - 1]) = (5, 6);
        for (first, shard) in [
            (0x80, Some(1)),
            (0x81, Some(1)),
            (0x86, Some(1)),
            (0x88, Some(1)),
            (0x82, Some(2)),
            (0x83, Some(2)),
            (0x84, Some(2)),
            (0x85, Some(2)),
            (0x87, Some(2)),
            (0x89, Some(2)),
            (0x8a, None),
            (0xff, None),
            (0x00, None),
            (0x08, None),
        ] {
            long[0] = first;
            assert_eq!(shard_of(&long, 4, 5), shard, "{first:#x}");
            assert_eq!(shard_of(&long[..1], 4, 5), None);
        }
        for (asked, len) in [(4, 5), (5, 5), (8, 8), (20, 20)] {
            let mut short = vec![0x40; 40];
            short[len] = 7;
            assert_eq!(shard_of(&short, 4, asked), Some(3), "{asked}");
        }
        assert_eq!(shard_of(&[], 4, 5), None);
    }
}
