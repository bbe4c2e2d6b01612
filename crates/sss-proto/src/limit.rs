//! Limits to what is done, each second, for senders that have nothing to lose.

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::quality::FixedState;

use crate::network::Network;
use crate::sketch::Sketch;
use crate::time::Instant;

/// Width of the sketch of networks, which takes 16 KiB. A fuzzer would clear them in most of its runs.
const WIDTH: usize = if cfg!(fuzzing) { 64 } else { 4096 };
/// So much of what all together may have is there at once.
const BURST: Duration = Duration::from_millis(125);
/// A network may have this part of what is left for all.
const SHARE: u128 = 16;
/// Part of the burst that is kept for the networks of established peers.
const RESERVE: u32 = 4;

/// Limits a second for each network, and for all together, in 16 KiB, however many networks there are.
///
/// Where there is a limit for all together, a network has, beside its own, that of a sixteenth of what is left for all
/// at that moment (dynamic thresholds: Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet
/// switches", 1998): the more are served, the less each of them gets, and something is left for whoever comes new. What
/// all have is a bucket that drains steadily (the generic cell rate algorithm, ITU-T I.371).
#[derive(Debug)]
pub(crate) struct Limit {
    rule: Rule,
    hasher: FixedState,
    second: u64,
    counts: Sketch,
    /// The time when everything that was done has drained.
    drained: Instant,
}

/// Number of times a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// For one network.
    each: u8,
    /// For all together, if that is limited.
    total: Option<u32>,
}

/// Standing of a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing is known of its network.
    Stranger,
    /// A peer with a channel is in the same network.
    Established,
}

impl Rule {
    /// Answers to a network: stateless resets (PRT-12), refusals (NEG-23).
    pub(crate) const ANSWERS: Self = Self { each: 10, total: None };

    /// At most `total` for all, and for each network what is left for it.
    pub(crate) const fn shared(total: u32) -> Self {
        Self {
            each: u8::MAX,
            total: Some(total),
        }
    }

    /// The same with another limit for each network.
    pub(crate) const fn with_each(self, each: u8) -> Self {
        Self { each, ..self }
    }
}

impl Limit {
    /// Nothing done yet. `seed` is not to be foreseen.
    pub(crate) fn new(rule: Rule, seed: u64) -> Self {
        Self {
            rule,
            hasher: FixedState::with_seed(seed),
            second: 0,
            counts: Sketch::new(WIDTH),
            drained: Instant::default(),
        }
    }

    /// Returns whether something may be done for the sender, and counts it if so.
    pub(crate) fn allow(&mut self, now: Instant, sender: Network, standing: Standing) -> bool {
        let has_room = self.has_room(now, sender, standing);
        if has_room {
            self.note(now, sender);
        }
        has_room
    }

    /// Returns whether something may be done for the sender.
    pub(crate) fn has_room(&mut self, now: Instant, sender: Network, standing: Standing) -> bool {
        self.begin_second(now);
        let count = self.counts.count(self.hash(sender));
        count < self.rule.each
            && self
                .rule
                .total
                .is_none_or(|total| self.has_share(now, total, count, standing))
    }

    /// Counts something that was done for the sender.
    pub(crate) fn note(&mut self, now: Instant, sender: Network) {
        self.begin_second(now);
        self.counts.add(self.hash(sender));
        if let Some(total) = self.rule.total {
            self.drained = self.drained.max(now) + Duration::from_secs(1) / total.max(1);
        }
    }

    fn has_share(&self, now: Instant, total: u32, count: u8, standing: Standing) -> bool {
        let kept = match standing {
            Standing::Established => Duration::ZERO,
            Standing::Stranger => BURST / RESERVE,
        };
        let room = BURST.saturating_sub(self.drained.since(now)).saturating_sub(kept);
        // As a part of a second's total.
        u128::from(count) * SHARE * BURST.as_nanos() < u128::from(total) * room.as_nanos()
    }

    fn begin_second(&mut self, now: Instant) {
        let second = now.as_nanos() / 1_000_000_000;
        if second != self.second {
            self.second = second;
            self.counts.clear();
        }
    }

    fn hash(&self, sender: Network) -> u64 {
        self.hasher.hash_one(sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn sender(n: u32) -> Network {
        Network::V4(n)
    }

    // spec: PRT-12, NEG-23
    #[test]
    fn threat_25_at_most_ten_answers_a_second_for_each_network() {
        let allow = |limit: &mut Limit, ms, n| limit.allow(at(ms), sender(n), Standing::Stranger);
        let mut limit = Limit::new(Rule::ANSWERS, 7);
        let mut allowed = |ms, n| (0..500).filter(|_| allow(&mut limit, ms, n)).count();
        assert_eq!(allowed(10, 1), 10);
        assert_eq!(allowed(999, 1), 0);
        assert_eq!(allowed(1000, 1), 10);
        // One flooder silences no other; a thousand of them few, and which they are differs from host to host.
        let heard = |seed| {
            let mut limit = Limit::new(Rule::ANSWERS, seed);
            for n in 0..1000 {
                let answers = (0..20).filter(|_| allow(&mut limit, 0, n)).count();
                assert!(answers <= 10);
            }
            let heard = (1000..9000).filter(|n| allow(&mut limit, 0, *n)).collect::<Vec<_>>();
            assert!(heard.len() > 7000, "{}", heard.len());
            heard
        };
        assert_ne!(heard(1), heard(2));
    }

    // spec: NEG-37
    #[test]
    fn each_network_has_a_share_of_what_is_left_and_all_have_no_more_than_the_total() {
        // So many networks ask 5 times a millisecond, for five seconds. Every ten milliseconds, one that is new asks.
        let served = |networks: u32, asking: Standing| {
            let mut limit = Limit::new(Rule::shared(1000), 7);
            let (mut served, mut newcomers) = (0, 0);
            for ms in 5000..10_000 {
                for n in 0..networks {
                    served += (0..5).filter(|_| limit.allow(at(ms), sender(n), asking)).count();
                }
                let newcomer = sender(networks + u32::try_from(ms).unwrap());
                newcomers += usize::from(ms % 10 == 0 && limit.allow(at(ms), newcomer, Standing::Stranger));
            }
            (served / 5, newcomers)
        };
        let (one, newcomers) = served(1, Standing::Stranger);
        assert!((30..=48).contains(&one), "{one}");
        assert_eq!(newcomers, 500, "all of them");
        let (twenty, newcomers) = served(20, Standing::Stranger);
        assert!((200..=960).contains(&twenty), "{twenty}");
        assert_eq!(newcomers, 500, "all of them");
        let (thousands, _) = served(3000, Standing::Stranger);
        assert!((900..=1050).contains(&thousands), "{thousands}");
    }

    // spec: NEG-39
    #[test]
    fn strangers_leave_something_for_the_networks_of_established_peers() {
        let mut limit = Limit::new(Rule::shared(1000), 7);
        let strangers = (0..500)
            .filter(|n| limit.allow(at(0), sender(*n), Standing::Stranger))
            .count();
        assert_eq!(strangers, 94, "three quarters of an eighth of a second's");
        assert!(!limit.allow(at(0), sender(1000), Standing::Stranger));
        let peers = (1000..1500)
            .filter(|n| limit.allow(at(0), sender(*n), Standing::Established))
            .count();
        assert_eq!(peers, 31);
    }
}
