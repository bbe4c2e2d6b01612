//! An initiator that breaks rules, for attacks on one's own hosts: its keys are what it says, points of low order too.
//! It is in no build without the feature `hostile`.

use core::fmt;

use zeroize::Zeroizing;

use super::Split;
use super::symmetric::SymmetricState;
use crate::provider::{Agreement, Secret32};
use crate::{AuthError, StaticKey};

/// A key of a hostile initiator.
#[derive(Debug)]
pub enum ForgedKey {
    /// A key as it should be.
    True(StaticKey),
    /// A key that is told with the bit set that X25519 ignores (RFC 7748 section 5): not canonical.
    Marked(StaticKey),
    /// A public key whose agreements are taken to be zero, as those of a point of low order are.
    Point([u8; 32]),
}

impl ForgedKey {
    /// The public key that is told.
    pub fn public(&self) -> [u8; 32] {
        match self {
            Self::True(key) => key.public(),
            Self::Marked(key) => {
                let mut public = key.public();
                if let Some(last) = public.last_mut() {
                    *last |= 0x80;
                }
                public
            }
            Self::Point(point) => *point,
        }
    }

    fn agree(&self, peer: &[u8; 32]) -> Secret32 {
        let shared = match self {
            Self::True(key) | Self::Marked(key) => key.pair().agree(peer).ok(),
            Self::Point(_) => None,
        };
        shared.unwrap_or_else(|| Zeroizing::new([0; 32]))
    }
}

/// The hostile initiator of a handshake. Its messages are in the order of [`Initiator`](super::Initiator).
pub struct Forger {
    symmetric: SymmetricState,
    e: ForgedKey,
    re: [u8; 32],
}

impl Forger {
    /// Begins a handshake with the holder of `responder_static`, and appends message 1 to `out`.
    pub fn start(
        prologue: &[u8],
        responder_static: &[u8; 32],
        e: ForgedKey,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Self {
        let mut symmetric = SymmetricState::new(prologue, responder_static);
        let public = e.public();
        symmetric.mix_hash(&public);
        symmetric.mix_key(&e.agree(responder_static));
        out.extend_from_slice(&public);
        symmetric.encrypt_and_hash(payload, out);
        let re = [0; 32];
        Self { symmetric, e, re }
    }

    /// Reads message 2, and returns its payload.
    ///
    /// # Errors
    /// The message is not authentic. `self` is unharmed.
    pub fn read_cookie(&mut self, e: &[u8; 32], sealed: &[u8]) -> Result<Vec<u8>, AuthError> {
        let mut symmetric = self.symmetric.clone();
        symmetric.mix_hash(e);
        symmetric.mix_key(&self.e.agree(e));
        let payload = symmetric.decrypt_and_hash(sealed)?;
        (self.symmetric, self.re) = (symmetric, *e);
        Ok(payload)
    }

    /// Takes in the secret of the post-quantum leg.
    pub fn mix_kem(&mut self, secret: &[u8; 32]) {
        self.symmetric.mix_key_and_hash(secret);
    }

    /// Appends message 3 to `out`: the static key, sealed, and `payload`, sealed.
    pub fn write_initiate(mut self, s: &ForgedKey, payload: &[u8], out: &mut Vec<u8>) -> Split {
        self.symmetric.encrypt_and_hash(&s.public(), out);
        self.symmetric.mix_key(&s.agree(&self.re));
        self.symmetric.encrypt_and_hash(payload, out);
        self.symmetric.split()
    }
}

impl fmt::Debug for Forger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forger").finish_non_exhaustive()
    }
}
