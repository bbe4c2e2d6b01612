//! The defence against floods of negotiations: above a rate, no arithmetic without a proof of the address (NEG-12), and
//! of what is proven, so much for each network and for all (NEG-37, NEG-38).

use std::net::IpAddr;
use std::time::Duration;

use super::cookie::Binding;
use super::retry_tokens::{Asking, RetryTokens, TokenState};
use crate::limit::{Limit, Rule, Standing};
use crate::time::Instant;

/// INITIATEs a second that may be in vain, for each network (NEG-38).
const VAIN: u8 = 10;
/// Packets of a kind that are answered in a second under load, however low the threshold is.
const MIN_TOTAL: u32 = 512;

/// Counts the packets whose answers cost something, each kind by itself, and says which of them are answered.
pub(crate) struct Load {
    threshold: u32,
    hellos: Meter,
    hello_ks: Meter,
    initiates: Meter,
    /// INITIATEs that cost something and made no channel.
    vain: Limit,
    tokens: RetryTokens,
}

/// The packets of a kind: how many there are, and which are answered if there are many.
struct Meter {
    rate: Rate,
    limit: Limit,
}

/// Packets in the present second.
#[derive(Default)]
struct Rate {
    window_start: Instant,
    count: u32,
}

/// Secrets that the defences begin with.
pub(crate) struct LoadSecrets {
    /// Keys of tokens.
    pub(crate) keys: [[u8; 32]; 2],
    /// Seeds of limits.
    pub(crate) seeds: [u64; 4],
}

/// Reasons why a packet gets no answer that costs something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Its sender is to prove its address first, with this token.
    Retry([u8; 16]),
    /// The token was used up, or the sender's network has had its share.
    Drop,
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

impl Load {
    pub(crate) fn new(threshold: u32, secrets: LoadSecrets) -> Self {
        let rule = Rule::shared(threshold.max(MIN_TOTAL));
        let [hello, hello_k, initiate, vain] = secrets.seeds;
        let meter = |seed| Meter {
            rate: Rate::default(),
            limit: Limit::new(rule, seed),
        };
        Self {
            threshold,
            hellos: meter(hello),
            hello_ks: meter(hello_k),
            initiates: meter(initiate),
            vain: Limit::new(rule.with_each(VAIN), vain),
            tokens: RetryTokens::new(secrets.keys),
        }
    }

    /// Replaces the token key if it is due. `fresh` makes key bytes.
    pub(crate) fn rotate(&mut self, now: Instant, fresh: &mut dyn FnMut() -> [u8; 32]) {
        self.tokens.rotate(now, fresh);
    }

    /// Decides on a HELLO or HELLO_K: whether it is answered with arithmetic. Only one with a valid token counts
    /// against its network, since anybody can write an address (NEG-37).
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        what: Asking,
        token: &[u8; 16],
        binding: Binding<'_>,
        standing: Standing,
    ) -> Result<(), Denied> {
        let meter = match what {
            Asking::Hello => &mut self.hellos,
            Asking::HelloK => &mut self.hello_ks,
        };
        if !meter.rate.is_above(self.threshold, now) {
            return Ok(());
        }
        let token = match self.tokens.check(token, binding, what) {
            TokenState::Valid(token) => token,
            TokenState::UsedUp => return Err(Denied::Drop),
            TokenState::Other(token) => return Err(Denied::Retry(token)),
        };
        if !meter.limit.allow(now, binding.remote.ip(), standing) {
            return Err(Denied::Drop);
        }
        self.tokens.spend(token);
        Ok(())
    }

    /// Decides on an INITIATE whose cookie has proven its address: whether it is looked into.
    pub(crate) fn admit_initiate(&mut self, now: Instant, from: IpAddr, standing: Standing) -> bool {
        let is_high = self.initiates.rate.is_above(self.threshold, now);
        self.vain.has_room(now, from, standing) && (!is_high || self.initiates.limit.allow(now, from, standing))
    }

    /// An INITIATE that was looked into made no channel (NEG-38).
    pub(crate) fn note_vain(&mut self, now: Instant, from: IpAddr) {
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
