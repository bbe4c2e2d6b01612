//! The tokens of RETRY (NEG-12), and how often each was used (NEG-36).

use std::time::Duration;

use sss_crypto::{constant_time_eq, mac_halves};
use zeroize::Zeroizing;

use super::cookie::Binding;
use crate::sketch::Sketch;
use crate::time::Instant;

const KEY_LIFE: Duration = Duration::from_secs(15);
/// HELLOs, and HELLO_Ks, that one token is good for: twice as many as an initiator repeats on a bad path as long as the
/// token is valid.
const MAX_USES: u8 = 8;
/// Width of the sketch of tokens used under one key, which takes 256 KiB. A fuzzer would clear them in many runs.
const WIDTH: usize = if cfg!(fuzzing) { 64 } else { 1 << 16 };

/// The two packets that carry a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asking {
    /// HELLO: asks for Diffie-Hellman.
    Hello,
    /// HELLO_K: asks for an encapsulation.
    HelloK,
}

/// The current and the previous key of tokens, each with the uses of its tokens.
pub(super) struct RetryTokens {
    keys: [TokenKey; 2],
    rotated: Instant,
}

struct TokenKey {
    key: Zeroizing<[u8; 32]>,
    uses: Sketch,
}

/// A token that was found to be valid: which one it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct ValidToken {
    /// 0: of the current key.
    key: usize,
    /// Half of the MAC whose other half is the token: nobody else can tell which tokens share a counter.
    hash: u64,
}

/// State of a token.
#[derive(Clone, Copy, Debug)]
pub(super) enum TokenState {
    Valid(ValidToken),
    /// It was used as often as it may be, and its sender can be given no other one yet.
    UsedUp,
    /// It is none, or there is a newer one: the sender is to have this one.
    Other([u8; 16]),
}

impl TokenKey {
    fn new(key: [u8; 32]) -> Self {
        Self {
            key: Zeroizing::new(key),
            uses: Sketch::new(WIDTH),
        }
    }

    /// The token of an attempt, and which counter it has for a packet.
    fn token(&self, binding: Binding<'_>, what: Asking) -> ([u8; 16], u64) {
        let (token, secret) = mac_halves(&*self.key, &[&binding.place(), binding.attempt]);
        let (first, second) = secret.split_at(8);
        let half = match what {
            Asking::Hello => first,
            Asking::HelloK => second,
        };
        (token, half.iter().fold(0, |hash, byte| hash << 8 | u64::from(*byte)))
    }
}

impl RetryTokens {
    pub(super) fn new(keys: [[u8; 32]; 2]) -> Self {
        Self {
            keys: keys.map(TokenKey::new),
            rotated: Instant::default(),
        }
    }

    /// Replaces the key if it is due. `fresh` makes key bytes.
    pub(super) fn rotate(&mut self, now: Instant, fresh: &mut dyn FnMut() -> [u8; 32]) {
        let age = now.since(self.rotated);
        if age < KEY_LIFE {
            return;
        }
        let next = TokenKey::new(fresh());
        let [current, previous] = &mut self.keys;
        *previous = std::mem::replace(current, next);
        if age >= 2 * KEY_LIFE {
            *previous = TokenKey::new(fresh());
        }
        self.rotated = now;
    }

    /// Looks at the token that came with a packet.
    pub(super) fn check(&self, token: &[u8; 16], binding: Binding<'_>, what: Asking) -> TokenState {
        let [current, previous] = &self.keys;
        let (right, hash) = current.token(binding, what);
        if constant_time_eq(&right, token) {
            return match current.uses.count(hash) < MAX_USES {
                true => TokenState::Valid(ValidToken { key: 0, hash }),
                false => TokenState::UsedUp,
            };
        }
        // As it is in a HELLO that has none: spares a MAC.
        if *token == [0; 16] {
            return TokenState::Other(right);
        }
        let (before, hash) = previous.token(binding, what);
        match constant_time_eq(&before, token) && previous.uses.count(hash) < MAX_USES {
            true => TokenState::Valid(ValidToken { key: 1, hash }),
            false => TokenState::Other(right),
        }
    }

    /// Counts a use of a token.
    pub(super) fn spend(&mut self, token: ValidToken) {
        if let Some(key) = self.keys.get_mut(token.key) {
            key.uses.add(token.hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn binding(port: u16, attempt: &[u8; 8]) -> Binding<'_> {
        Binding {
            place: crate::route::Route::udp(SocketAddr::from(([127, 0, 0, 1], port))).into(),
            version: 1,
            attempt,
        }
    }

    fn fresh(n: &mut u8) -> impl FnMut() -> [u8; 32] {
        move || {
            *n += 1;
            [*n; 32]
        }
    }

    /// The token that RETRY carries.
    fn token(tokens: &RetryTokens, binding: Binding<'_>) -> [u8; 16] {
        match tokens.check(&[0; 16], binding, Asking::Hello) {
            TokenState::Other(token) => token,
            other => panic!("{other:?}"),
        }
    }

    fn is_valid(tokens: &RetryTokens, token: &[u8; 16], binding: Binding<'_>) -> bool {
        matches!(tokens.check(token, binding, Asking::Hello), TokenState::Valid(_))
    }

    // spec: NEG-12
    #[test]
    fn tokens_are_bound_to_address_and_attempt_and_live_two_periods() {
        let mut tokens = RetryTokens::new([[1; 32], [2; 32]]);
        let token = token(&tokens, binding(1, &[7; 8]));
        assert!(is_valid(&tokens, &token, binding(1, &[7; 8])));
        assert!(!is_valid(&tokens, &token, binding(2, &[7; 8])));
        assert!(!is_valid(&tokens, &token, binding(1, &[8; 8])));
        let mut n = 10;
        let mut fresh = fresh(&mut n);
        tokens.rotate(Instant::default() + KEY_LIFE, &mut fresh);
        assert!(is_valid(&tokens, &token, binding(1, &[7; 8])));
        tokens.rotate(Instant::default() + 2 * KEY_LIFE, &mut fresh);
        assert!(!is_valid(&tokens, &token, binding(1, &[7; 8])));
    }

    // spec: NEG-36
    #[test]
    fn a_token_is_good_for_eight_of_each_packet_and_then_for_none_until_there_is_another() {
        let mut tokens = RetryTokens::new([[1; 32], [2; 32]]);
        let (mut n, own) = (10, binding(1, &[7; 8]));
        let token = token(&tokens, own);
        let uses = |tokens: &mut RetryTokens, what| {
            let mut uses = 0;
            while let TokenState::Valid(valid) = tokens.check(&token, own, what) {
                tokens.spend(valid);
                uses += 1;
                assert!(uses < 100);
            }
            uses
        };
        assert_eq!(uses(&mut tokens, Asking::Hello), 8);
        assert_eq!(uses(&mut tokens, Asking::HelloK), 8);
        assert!(matches!(tokens.check(&token, own, Asking::Hello), TokenState::UsedUp));
        tokens.rotate(Instant::default() + KEY_LIFE, &mut fresh(&mut n));
        assert_eq!(
            uses(&mut tokens, Asking::Hello),
            0,
            "the new key brings back no old token"
        );
        let next = match tokens.check(&token, own, Asking::Hello) {
            TokenState::Other(next) => next,
            other => panic!("{other:?}"),
        };
        assert!(is_valid(&tokens, &next, own));
    }

    // spec: NEG-36
    #[test]
    fn others_tokens_stay_good_when_as_many_were_used_as_a_host_answers() {
        let mut tokens = RetryTokens::new([[1; 32], [2; 32]]);
        let attempt = |n: u32| (u64::from(n) << 20).to_be_bytes();
        // As many as there may be of both packets in 15 s, each used as often as it may be.
        for n in 0..30_000 / u32::from(MAX_USES) {
            let attempt = attempt(n);
            let token = token(&tokens, binding(9, &attempt));
            while let TokenState::Valid(valid) = tokens.check(&token, binding(9, &attempt), Asking::Hello) {
                tokens.spend(valid);
            }
        }
        let confused = (1_000_000..1_100_000).filter(|n| {
            let attempt = attempt(*n);
            let own = binding(1, &attempt);
            !is_valid(&tokens, &token(&tokens, own), own)
        });
        let confused = confused.count();
        assert!(confused <= 3, "{confused} of 100,000 are taken for others");
    }

    #[test]
    fn secrets_are_wiped() {
        crate::testing::is_wiped(&RetryTokens::new([[1; 32]; 2]).keys[0].key);
    }
}
