//! The identity of a host.

use core::fmt;

use zeroize::Zeroizing;

use crate::provider::{Agreement, KeyPair, Secret32};

/// A host's X25519 private key (OVR-3), used for nothing but the negotiation.
///
/// Making one costs a multiplication on the curve; keep it. The secret bytes are wiped when it is dropped.
pub struct StaticKey {
    secret: Secret32,
    pair: KeyPair,
}

impl StaticKey {
    /// The key of 32 secret bytes. Any bytes will do, if nobody can guess them (RFC 7748 section 5).
    pub fn from_bytes(secret: [u8; 32]) -> Self {
        let secret = Zeroizing::new(secret);
        let pair = KeyPair::new(&secret);
        Self { secret, pair }
    }

    /// The secret bytes, as they were given to [`StaticKey::from_bytes`].
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.secret.clone()
    }

    /// The public key. Known since the key was made, so this costs nothing.
    pub fn public(&self) -> [u8; 32] {
        *self.pair.public()
    }

    pub(crate) fn pair(&self) -> &KeyPair {
        &self.pair
    }
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
