//! The defence against floods of negotiations: above a rate, no arithmetic without a proof of the address (NEG-12), and
//! of what is proven, so much for each network and for all (NEG-37, NEG-38).

use std::time::Duration;

use crate::limit::{Limit, Rule, Standing};
use crate::network::Network;
use crate::time::Instant;

/// INITIATEs a second that may be in vain, for each network (NEG-38). A few of them cost whoever sends them a HELLO and
/// a HELLO_K, and neighbours behind one address have this in common: it is not to be used up easily.
const VAIN: u8 = 125;
/// INITIATEs that may be in vain, for each packet that all may have of a kind under load.
const VAIN_PART: u32 = 2;
/// Packets of a kind that are answered in a second under load, however low the threshold is.
const MIN_TOTAL: u32 = 512;

/// The packets of a kind whose answers cost something: how many there are, and which are answered if there are many.
pub(crate) struct Meter {
    threshold: u32,
    rate: Rate,
    limit: Limit,
}

/// Says which INITIATEs are looked into.
pub(crate) struct Load {
    initiates: Meter,
    /// INITIATEs that cost something and made no channel.
    vain: Limit,
}

/// Packets in the present second.
#[derive(Default)]
struct Rate {
    window_start: Instant,
    count: u32,
}

impl Rate {
    /// Counts a packet; true if there are more than `threshold` in this second.
    fn is_above(&mut self, threshold: u32, now: Instant) -> bool {
        if now.since(self.window_start) >= Duration::from_secs(1) {
            self.window_start = now;
            // A flood stays a flood at the turn of the second.
            self.count = self.count.saturating_sub(threshold).min(threshold);
        }
        self.count = self.count.saturating_add(1);
        self.count > threshold
    }
}

/// So many for all and for each network, above the threshold.
const fn rule(threshold: u32) -> Rule {
    Rule::shared(if threshold < MIN_TOTAL { MIN_TOTAL } else { threshold })
}

impl Meter {
    /// Nothing counted yet. `seed` is not to be foreseen.
    pub(crate) fn new(threshold: u32, seed: u64) -> Self {
        Self {
            threshold,
            rate: Rate::default(),
            limit: Limit::new(rule(threshold), seed),
        }
    }

    /// Counts a packet; true if there are more than the threshold in this second.
    pub(crate) fn is_high(&mut self, now: Instant) -> bool {
        self.rate.is_above(self.threshold, now)
    }

    /// Returns whether a packet of a proven address is answered, and counts it against its network if so.
    pub(crate) fn allow(&mut self, now: Instant, from: Network, standing: Standing) -> bool {
        self.limit.allow(now, from, standing)
    }
}

impl Load {
    pub(crate) fn new(threshold: u32, [initiates, vain]: [u64; 2]) -> Self {
        Self {
            initiates: Meter::new(threshold, initiates),
            vain: Limit::new(rule(threshold.saturating_mul(VAIN_PART)).with_each(VAIN), vain),
        }
    }

    /// Decides on an INITIATE whose cookie has proven its address: whether it is looked into.
    pub(crate) fn admit_initiate(&mut self, now: Instant, from: Network, standing: Standing) -> bool {
        let is_high = self.initiates.is_high(now);
        self.vain.has_room(now, from, standing) && (!is_high || self.initiates.allow(now, from, standing))
    }

    /// An INITIATE that was looked into made no channel (NEG-38).
    pub(crate) fn note_vain(&mut self, now: Instant, from: Network) {
        self.vain.note(now, from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: NEG-12
    #[test]
    fn load_is_high_above_the_threshold_and_ends_with_the_flood() {
        let mut rate = Rate::default();
        let start = Instant::from_nanos(5_000_000_000);
        assert_eq!((0..15).filter(|_| rate.is_above(10, start)).count(), 5);
        let later = start + Duration::from_secs(1);
        assert!(!rate.is_above(10, later));
        assert!(!rate.is_above(10, later + Duration::from_secs(2)));
    }
}
