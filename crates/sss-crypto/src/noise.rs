//! `Noise_XK_25519_ChaChaPoly_SHA256` (the Noise Protocol Framework, revision 34), one type per step.
//!
//! ```text
//!  <- s
//!  ...
//!  -> e, es      HELLO      Initiator::start          Responder::read_hello
//!  <- e, ee      COOKIE     Initiator::read_cookie    Responder::write_cookie
//!  -> s, se      INITIATE   Initiator::write_initiate Responder::read_static, read_payload
//! ```
//!
//! With the post-quantum leg, both take in its secret by `mix_kem` between the second message and the third: that is
//! `MixKeyAndHash`, as for a pre-shared key, in front of `s`.
//!
//! Messages that may be forged are read through `&self`: a failure leaves the state as it was. Between its two
//! messages the responder's state fits 128 bytes ([`Responder::to_bytes`]), which travel in the cookie. All secrets are
//! wiped when dropped.

#[cfg(feature = "hostile")]
pub mod hostile;
mod initiator;
mod responder;
mod symmetric;

use core::fmt;

use zeroize::Zeroizing;

pub use initiator::{GotCookie, Initiator, SentHello};
pub use responder::{GotHello, GotStatic, Responder, STATE_LEN, SentCookie};

use crate::provider::Secret32;

/// Result of a completed handshake: the two directional keys and the transcript's hash.
#[derive(Clone)]
pub struct Split {
    pub(crate) k1: Secret32,
    pub(crate) k2: Secret32,
    pub(crate) h: Secret32,
    pub(crate) has_leg: bool,
}

impl Split {
    /// The result of a handshake whose keys are known: `k1` of the initiator's direction, `k2` of the responder's,
    /// and the handshake hash `h`; without the post-quantum leg.
    pub fn from_keys(k1: [u8; 32], k2: [u8; 32], h: [u8; 32]) -> Self {
        Self {
            k1: Zeroizing::new(k1),
            k2: Zeroizing::new(k2),
            h: Zeroizing::new(h),
            has_leg: false,
        }
    }

    /// The hash of the transcript, the same on both sides and of no other handshake. Not secret.
    pub fn handshake_hash(&self) -> &[u8; 32] {
        &self.h
    }
}

impl fmt::Debug for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Split").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
