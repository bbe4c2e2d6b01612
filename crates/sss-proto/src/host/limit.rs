//! Limit to the answers a second to senders of which nothing is known.

use std::hash::BuildHasher;
use std::net::IpAddr;

use foldhash::quality::FixedState;

use crate::network::Network;
use crate::time::Instant;

/// Counters, each for the networks that fall to it: whoever silences one answer has to guess which.
const COUNTERS: usize = 1024;

/// At most so many stateless resets, or refusals, a second, for each network that asks. Takes 1 KiB, however many ask.
#[derive(Debug)]
pub(super) struct Limit {
    hasher: FixedState,
    second: u64,
    sent: Box<[u8; COUNTERS]>,
}

impl Limit {
    const PER_SECOND: u8 = 10;

    /// No answers yet. `seed` is not to be foreseen.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            hasher: FixedState::with_seed(seed),
            second: 0,
            sent: Box::new([0; COUNTERS]),
        }
    }

    /// Returns whether the sender may be answered once more.
    pub(super) fn allow(&mut self, now: Instant, sender: IpAddr) -> bool {
        let second = now.as_nanos() / 1_000_000_000;
        if second != self.second {
            self.second = second;
            self.sent.fill(0);
        }
        let counter = self.hasher.hash_one(Network::from(sender)) % COUNTERS as u64;
        let sent = usize::try_from(counter).ok().and_then(|at| self.sent.get_mut(at));
        sent.is_some_and(|sent| {
            *sent = sent.saturating_add(1);
            *sent <= Self::PER_SECOND
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: PRT-12, NEG-23
    #[test]
    fn threat_25_at_most_ten_answers_a_second_for_each_network() {
        let mut limit = Limit::new(7);
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let sender = |n: u32| IpAddr::from(n.to_be_bytes());
        let mut allowed = |ms, n| (0..500).filter(|_| limit.allow(at(ms), sender(n))).count();
        assert_eq!(allowed(10, 1), 10);
        assert_eq!(allowed(999, 1), 0);
        assert_eq!(allowed(1000, 1), 10);
        // One flooder silences few others, and which they are differs from host to host.
        let heard = |seed| {
            let mut limit = Limit::new(seed);
            let flood = (0..1000).filter(|_| limit.allow(at(0), sender(1))).count();
            assert_eq!(flood, 10);
            let heard = (2..5000).filter(|n| limit.allow(at(0), sender(*n))).collect::<Vec<_>>();
            assert!(heard.len() > 4900, "{}", heard.len());
            heard
        };
        assert_ne!(heard(1), heard(2));
    }
}
