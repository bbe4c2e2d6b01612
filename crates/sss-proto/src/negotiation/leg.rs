//! The post-quantum leg of both sides, beside HELLO and COOKIE (NEG-29 to NEG-34).

use std::collections::VecDeque;

use rand::{Rng, RngExt};
use sss_crypto::kem::{self, DecapsulationKey};
use sss_crypto::{constant_time_eq, mac16, schedule};
use sss_wire::long::{self, CookieK, HelloK, Long};
use zeroize::Zeroizing;

use super::cookie::{Binding, Cookies};
use crate::error::DropReason;

/// COOKIE_Ks that are kept until COOKIE tells which of them is authentic (NEG-33).
const MAX_CANDIDATES: usize = 4;
/// Bytes of HELLO_K that are not part of the leg's transcript: the prefix and the token.
const UNAUTHED: usize = long::PREFIX + 16;

/// The initiator's side, until INITIATE.
pub(super) struct Leg {
    key: DecapsulationKey,
    hello_k: Vec<u8>,
    /// The latest COOKIE_Ks that were not found to be authentic yet.
    candidates: VecDeque<Vec<u8>>,
}

/// The outcome for the initiator.
pub(super) struct OpenedLeg {
    /// The secret that the handshake takes in.
    pub(super) secret: Zeroizing<[u8; 32]>,
    /// The cookie that INITIATE gives back.
    pub(super) cookie: Vec<u8>,
}

impl Leg {
    /// A key pair, and HELLO_K with it. `e` is the ephemeral key in HELLO.
    pub(super) fn new(version: u32, attempt: &[u8; 8], e: &[u8; 32], rng: &mut dyn Rng) -> Self {
        let mut seed = Zeroizing::new([0; kem::SEED_LEN]);
        rng.fill(&mut *seed);
        let key = DecapsulationKey::from_seed(*seed);
        let name = kem::hello_name(e);
        Self {
            hello_k: long::hello_k(version, attempt, &[0; 16], &name, key.encapsulation_key()),
            key,
            candidates: VecDeque::new(),
        }
    }

    /// The encapsulation key.
    pub(super) fn key(&self) -> &[u8; long::KEM_KEY] {
        self.key.encapsulation_key()
    }

    /// HELLO_K.
    pub(super) fn packet(&self) -> &[u8] {
        &self.hello_k
    }

    /// RETRY asks for a token (NEG-12).
    pub(super) fn set_token(&mut self, token: &[u8; 16]) {
        long::set_token(&mut self.hello_k, token);
    }

    /// Returns whether no COOKIE_K is there that may be authentic.
    pub(super) fn is_unanswered(&self) -> bool {
        self.candidates.is_empty()
    }

    /// Keeps a COOKIE_K, the oldest one no longer.
    pub(super) fn keep(&mut self, cookie_k: &CookieK<'_>) {
        if self.candidates.len() >= MAX_CANDIDATES {
            self.candidates.pop_front();
        }
        let packet = [cookie_k.authed, cookie_k.mac].concat();
        self.candidates.push_back(packet);
    }

    /// Opens the COOKIE_K among those kept that comes from whoever sent the COOKIE with this key.
    pub(super) fn open_kept(&self, mac_key: &[u8; 32]) -> Option<OpenedLeg> {
        self.candidates.iter().find_map(|packet| match Long::parse(packet) {
            Ok(Long::CookieK(cookie_k)) => self.open(mac_key, &cookie_k),
            _ => None,
        })
    }

    /// Opens COOKIE_K, if its mac is right (NEG-32).
    pub(super) fn open(&self, mac_key: &[u8; 32], cookie_k: &CookieK<'_>) -> Option<OpenedLeg> {
        let hello_k = self.hello_k.get(UNAUTHED..)?;
        let transcript = kem::transcript(hello_k, cookie_k.ciphertext);
        let mac = mac16(mac_key, &[cookie_k.authed, &transcript]);
        if !constant_time_eq(&mac, cookie_k.mac) {
            return None;
        }
        let shared = self.key.decapsulate(cookie_k.ciphertext);
        Some(OpenedLeg {
            secret: kem::leg_secret(&shared, &transcript),
            cookie: cookie_k.cookie.to_vec(),
        })
    }
}

/// The responder's side: it can make the key of COOKIE_K's mac from HELLO as well as from HELLO_K, and so keeps
/// nothing of either.
pub(super) struct LegKeys(Zeroizing<[u8; 32]>);

impl LegKeys {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self(Zeroizing::new(secret))
    }

    /// The key of the mac for one negotiation, address, and HELLO of that name. As long as HELLO_K may be answered, it
    /// stays the same.
    pub(super) fn mac_key(&self, binding: Binding<'_>, hello: &[u8; 16]) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        let context = [&binding.bytes()[..], hello].concat();
        schedule::label(&*self.0, "kem mac", &context, &mut *key);
        key
    }

    /// Answers HELLO_K: encapsulates, and seals the secret into the cookie.
    ///
    /// # Errors
    /// The encapsulation key is none (NEG-31).
    pub(super) fn answer(
        &self,
        hello_k: &HelloK<'_>,
        binding: Binding<'_>,
        cookies: &Cookies,
        rng: &mut dyn Rng,
    ) -> Result<Vec<u8>, DropReason> {
        let (ciphertext, shared) = kem::encapsulate(hello_k.key, rng.random()).map_err(|_| DropReason::Malformed)?;
        let transcript = kem::transcript(hello_k.authed, &ciphertext);
        let secret = kem::leg_secret(&shared, &transcript);
        let cookie = cookies.seal_leg(&secret, binding, rng.random());
        let mut packet = long::cookie_k_without_mac(binding.version, binding.attempt, &ciphertext, &cookie);
        let mac = mac16(&*self.mac_key(binding, hello_k.hello), &[&packet, &transcript]);
        packet.extend_from_slice(&mac);
        Ok(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::negotiation::greeting::Held;
    use crate::testing::is_wiped;

    #[test]
    fn secrets_are_wiped() {
        let LegKeys(key) = LegKeys::new([1; 32]);
        is_wiped(&key);
        let _: fn(&OpenedLeg) = |opened| is_wiped(&opened.secret);
        let _: fn(&Held) = |held| is_wiped(&held.mac_key);
    }
}
