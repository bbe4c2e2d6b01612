//! The responder's side.

use core::fmt;

use zeroize::Zeroizing;

use super::Split;
use super::symmetric::SymmetricState;
use crate::provider::{Agreement, KeyPair, Secret32};
use crate::{AuthError, StaticKey};

/// Length of [`Responder::to_bytes`].
pub const STATE_LEN: usize = 128;

/// Messages sealed under the cipher key when message 2 was sent: its payload.
const SEALED_UNDER_EE: u64 = 1;

/// The responder of a handshake, in the state `S`.
pub struct Responder<S> {
    symmetric: SymmetricState,
    state: S,
}

/// Message 1 was received.
pub struct GotHello {
    re: [u8; 32],
}

/// Message 2 was sent.
pub struct SentCookie {
    e_secret: Secret32,
}

/// The first half of message 3 was received: who the initiator claims to be.
pub struct GotStatic {
    e_secret: Secret32,
    rs: [u8; 32],
}

impl Responder<GotHello> {
    /// Reads message 1, `noise`: an ephemeral key and a sealed payload. Returns the state and the payload.
    ///
    /// # Errors
    /// The message is too short, was made for another key or prologue, or was changed.
    pub fn read_hello(prologue: &[u8], s: &StaticKey, noise: &[u8]) -> Result<(Self, Vec<u8>), AuthError> {
        let (re, sealed) = noise.split_first_chunk::<32>().ok_or(AuthError)?;
        let shared = s.pair().agree(re)?;
        let mut symmetric = SymmetricState::new(prologue, s.pair().public());
        symmetric.mix_hash(re);
        symmetric.mix_key(&shared);
        let payload = symmetric.decrypt_and_hash(sealed)?;
        let state = GotHello { re: *re };
        Ok((Self { symmetric, state }, payload))
    }

    /// Appends message 2 (`e`, then `payload` sealed: 48 bytes more than `payload`) to `out`.
    ///
    /// `e_secret` are 32 random bytes for the ephemeral key, never used twice.
    ///
    /// # Errors
    /// The initiator's ephemeral key is a point of low order.
    pub fn write_cookie(
        mut self,
        e_secret: [u8; 32],
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Responder<SentCookie>, AuthError> {
        let e_secret = Zeroizing::new(e_secret);
        let e = KeyPair::new(&e_secret);
        let shared = e.agree(&self.state.re)?;
        self.symmetric.mix_hash(e.public());
        self.symmetric.mix_key(&shared);
        out.extend_from_slice(e.public());
        self.symmetric.encrypt_and_hash(payload, out);
        Ok(Responder {
            symmetric: self.symmetric,
            state: SentCookie { e_secret },
        })
    }
}

impl Responder<SentCookie> {
    /// The state, secret: chaining key, hash, cipher key, ephemeral private key. For the cookie (NEG-9).
    pub fn to_bytes(&self) -> Zeroizing<[u8; STATE_LEN]> {
        let [ck, h, k] = self.symmetric.parts();
        let mut out = Zeroizing::new([0; STATE_LEN]);
        let parts = [ck, h, k, &self.state.e_secret];
        for (to, from) in out.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        out
    }

    /// The state that [`Responder::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8; STATE_LEN]) -> Self {
        let part = |i: usize| {
            let mut part = [0; 32];
            for (to, from) in part.iter_mut().zip(bytes.chunks_exact(32).nth(i).unwrap_or_default()) {
                *to = *from;
            }
            part
        };
        Self {
            symmetric: SymmetricState::from_parts(part(0), part(1), part(2), SEALED_UNDER_EE),
            state: SentCookie {
                e_secret: Zeroizing::new(part(3)),
            },
        }
    }

    /// The chaining key after `ee`: from it comes the key of COOKIE's `mac` (NEG-6).
    pub fn chaining_key(&self) -> &[u8; 32] {
        self.symmetric.chaining_key()
    }

    /// Takes in the secret of the post-quantum leg, which protects message 3 (NEG-34).
    pub fn mix_kem(&mut self, secret: &[u8; 32]) {
        self.symmetric.mix_key_and_hash(secret);
    }

    /// Reads the first half of message 3, the initiator's static key. Returns the key, of which the initiator has not
    /// yet proved possession, and the next state.
    ///
    /// # Errors
    /// It is not authentic. `self` is unharmed.
    pub fn read_static(&self, sealed: &[u8; 48]) -> Result<([u8; 32], Responder<GotStatic>), AuthError> {
        let mut symmetric = self.symmetric.clone();
        let rs = symmetric.decrypt_and_hash(sealed)?;
        let rs = <[u8; 32]>::try_from(rs).map_err(|_| AuthError)?;
        let e_secret = self.state.e_secret.clone();
        let state = GotStatic { e_secret, rs };
        Ok((rs, Responder { symmetric, state }))
    }
}

impl Responder<GotStatic> {
    /// Reads the second half of message 3, the payload, and completes the handshake: the initiator holds the key that
    /// it named.
    ///
    /// # Errors
    /// The payload is not authentic, or the initiator's key a point of low order. `self` is unharmed.
    pub fn read_payload(&self, sealed: &[u8]) -> Result<(Vec<u8>, Split), AuthError> {
        let shared = KeyPair::new(&self.state.e_secret).agree(&self.state.rs)?;
        let mut symmetric = self.symmetric.clone();
        symmetric.mix_key(&shared);
        let payload = symmetric.decrypt_and_hash(sealed)?;
        Ok((payload, symmetric.split()))
    }
}

impl<S> fmt::Debug for Responder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").finish_non_exhaustive()
    }
}

impl fmt::Debug for GotHello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GotHello").finish_non_exhaustive()
    }
}

impl fmt::Debug for SentCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentCookie").finish_non_exhaustive()
    }
}

impl fmt::Debug for GotStatic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GotStatic").finish_non_exhaustive()
    }
}
