//! The defence against HELLO floods: above a rate, no Diffie-Hellman without a token (NEG-12).

use std::net::SocketAddr;
use std::time::Duration;

use sss_crypto::{constant_time_eq, mac16};

use zeroize::Zeroizing;

use super::cookie::address_bytes;
use crate::time::Instant;

const TOKEN_KEY_LIFE: Duration = Duration::from_secs(15);

/// The two packets whose answers cost something.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asking {
    /// HELLO: Diffie-Hellman.
    Hello,
    /// HELLO_K: an encapsulation.
    HelloK,
}

/// Counts HELLOs and HELLO_Ks, each by themselves, and makes the tokens.
pub(crate) struct Load {
    threshold: u32,
    hellos: Rate,
    hello_ks: Rate,
    keys: Zeroizing<[[u8; 32]; 2]>,
    rotated: Instant,
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

impl Load {
    pub(crate) fn new(threshold: u32, keys: [[u8; 32]; 2]) -> Self {
        Self {
            threshold,
            hellos: Rate::default(),
            hello_ks: Rate::default(),
            keys: Zeroizing::new(keys),
            rotated: Instant::default(),
        }
    }

    /// Replaces the token key if it is due. `fresh` makes key bytes.
    pub(crate) fn rotate(&mut self, now: Instant, fresh: &mut dyn FnMut() -> [u8; 32]) {
        let age = now.since(self.rotated);
        if age < TOKEN_KEY_LIFE {
            return;
        }
        let previous = if age < 2 * TOKEN_KEY_LIFE {
            self.keys[0]
        } else {
            fresh()
        };
        *self.keys = [fresh(), previous];
        self.rotated = now;
    }

    /// Counts a packet; true if hosts without a token are to be sent RETRY now.
    pub(crate) fn is_high(&mut self, now: Instant, what: Asking) -> bool {
        let rate = match what {
            Asking::Hello => &mut self.hellos,
            Asking::HelloK => &mut self.hello_ks,
        };
        rate.is_above(self.threshold, now)
    }

    pub(crate) fn token(&self, remote: SocketAddr, attempt: &[u8; 8]) -> [u8; 16] {
        mac16(&self.keys[0], &[&address_bytes(remote), attempt])
    }

    pub(crate) fn is_valid(&self, token: &[u8; 16], remote: SocketAddr, attempt: &[u8; 8]) -> bool {
        let address = address_bytes(remote);
        self.keys
            .iter()
            .any(|key| constant_time_eq(&mac16(key, &[&address, attempt]), token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    // spec: NEG-12
    #[test]
    fn load_is_high_above_the_threshold_and_ends_with_the_flood() {
        let mut load = Load::new(10, [[1; 32], [2; 32]]);
        let start = Instant::from_nanos(5_000_000_000);
        for what in [Asking::Hello, Asking::HelloK] {
            let high = (0..15).filter(|_| load.is_high(start, what)).count();
            assert_eq!(high, 5, "each is counted by itself");
        }
        let later = start + Duration::from_secs(1);
        assert!(!load.is_high(later, Asking::Hello));
        assert!(!load.is_high(later + Duration::from_secs(2), Asking::Hello));
    }

    // spec: NEG-12
    #[test]
    fn tokens_are_bound_to_address_and_attempt_and_live_two_periods() {
        let mut load = Load::new(10, [[1; 32], [2; 32]]);
        let token = load.token(addr(1), &[7; 8]);
        assert!(load.is_valid(&token, addr(1), &[7; 8]));
        assert!(!load.is_valid(&token, addr(2), &[7; 8]));
        assert!(!load.is_valid(&token, addr(1), &[8; 8]));
        let mut n = 10;
        let mut fresh = || {
            n += 1;
            [n; 32]
        };
        load.rotate(Instant::default() + TOKEN_KEY_LIFE, &mut fresh);
        assert!(load.is_valid(&token, addr(1), &[7; 8]));
        load.rotate(Instant::default() + 2 * TOKEN_KEY_LIFE, &mut fresh);
        assert!(!load.is_valid(&token, addr(1), &[7; 8]));
    }

    #[test]
    fn secrets_are_wiped() {
        crate::testing::is_wiped(&Load::new(1, [[1; 32]; 2]).keys);
    }
}
