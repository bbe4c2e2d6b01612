//! The initiator's side.

use core::fmt;

use zeroize::Zeroizing;

use super::Split;
use super::symmetric::SymmetricState;
use crate::provider::{Agreement, KeyPair};
use crate::{AuthError, StaticKey};

/// The initiator of a handshake, in the state `S`.
pub struct Initiator<S> {
    symmetric: SymmetricState,
    state: S,
}

/// Message 1 was sent.
pub struct SentHello {
    e: KeyPair,
}

/// Message 2 was received.
pub struct GotCookie {
    re: [u8; 32],
}

impl Initiator<SentHello> {
    /// Begins a handshake with the holder of `responder_static`, and appends message 1 (`e`, then `payload`
    /// sealed: 48 bytes more than `payload`) to `out`.
    ///
    /// `e_secret` are 32 random bytes for the ephemeral key, never used twice.
    ///
    /// # Errors
    /// `responder_static` is a point of low order: nobody's key.
    pub fn start(
        prologue: &[u8],
        responder_static: &[u8; 32],
        e_secret: [u8; 32],
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Self, AuthError> {
        let e = KeyPair::new(&Zeroizing::new(e_secret));
        let shared = e.agree(responder_static)?;
        let mut symmetric = SymmetricState::new(prologue, responder_static);
        symmetric.mix_hash(e.public());
        symmetric.mix_key(&shared);
        out.extend_from_slice(e.public());
        symmetric.encrypt_and_hash(payload, out);
        let state = SentHello { e };
        Ok(Self { symmetric, state })
    }

    /// Reads message 2: the responder's ephemeral key `e` and the sealed payload. Returns the next state and the
    /// payload.
    ///
    /// # Errors
    /// The message is not authentic. `self` is unharmed: the true one may still come.
    pub fn read_cookie(&self, e: &[u8; 32], sealed: &[u8]) -> Result<(Initiator<GotCookie>, Vec<u8>), AuthError> {
        let shared = self.state.e.agree(e)?;
        let mut symmetric = self.symmetric.clone();
        symmetric.mix_hash(e);
        symmetric.mix_key(&shared);
        let payload = symmetric.decrypt_and_hash(sealed)?;
        let state = GotCookie { re: *e };
        Ok((Initiator { symmetric, state }, payload))
    }
}

impl Initiator<GotCookie> {
    /// The chaining key after `ee`: from it comes the key of COOKIE's `mac` (NEG-6).
    pub fn chaining_key(&self) -> &[u8; 32] {
        self.symmetric.chaining_key()
    }

    /// Takes in the secret of the post-quantum leg, which protects message 3 (NEG-34).
    pub fn mix_kem(&mut self, secret: &[u8; 32]) {
        self.symmetric.mix_key_and_hash(secret);
    }

    /// Appends message 3 to `out`: the static key of `s` sealed (48 bytes), then `payload` sealed (16 bytes more than
    /// `payload`).
    ///
    /// # Errors
    /// The responder's ephemeral key cannot be used. It was authenticated, so the responder is at fault.
    pub fn write_initiate(mut self, s: &StaticKey, payload: &[u8], out: &mut Vec<u8>) -> Result<Split, AuthError> {
        let shared = s.pair().agree(&self.state.re)?;
        self.symmetric.encrypt_and_hash(s.pair().public(), out);
        self.symmetric.mix_key(&shared);
        self.symmetric.encrypt_and_hash(payload, out);
        Ok(self.symmetric.split())
    }
}

impl<S> fmt::Debug for Initiator<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiator").finish_non_exhaustive()
    }
}

impl fmt::Debug for SentHello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentHello").finish_non_exhaustive()
    }
}

impl fmt::Debug for GotCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GotCookie").finish_non_exhaustive()
    }
}
