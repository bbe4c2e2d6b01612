//! The post-quantum leg: ML-KEM-768 (FIPS 203), and what the negotiation makes of its secret (NEG-29 to NEG-34).

use core::fmt;

use zeroize::Zeroizing;

use crate::AuthError;
use crate::provider::{self, Kem, KemPair, Library, Provider};
use crate::schedule::label;

/// Length of the seed that a key is made from, in bytes.
pub const SEED_LEN: usize = provider::KEM_SEED;
/// Length of an encapsulation key, in bytes.
pub const ENCAPSULATION_KEY_LEN: usize = provider::KEM_KEY;
/// Length of a ciphertext, in bytes.
pub const CIPHERTEXT_LEN: usize = provider::KEM_CIPHERTEXT;

/// The initiator's key pair of one attempt. The secret half is wiped when it is dropped.
pub struct DecapsulationKey(KemPair);

impl DecapsulationKey {
    /// The key of 64 random bytes, never used twice.
    pub fn from_seed(seed: [u8; SEED_LEN]) -> Self {
        Self(KemPair::new(&Zeroizing::new(seed)))
    }

    /// The public half.
    pub fn encapsulation_key(&self) -> &[u8; ENCAPSULATION_KEY_LEN] {
        self.0.public()
    }

    /// The secret in a ciphertext. It cannot fail: a ciphertext that was not made for this key gives a secret that
    /// nobody else knows.
    pub fn decapsulate(&self, ciphertext: &[u8; CIPHERTEXT_LEN]) -> Zeroizing<[u8; 32]> {
        self.0.decapsulate(ciphertext)
    }
}

impl fmt::Debug for DecapsulationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecapsulationKey").finish_non_exhaustive()
    }
}

/// A secret for the holder of an encapsulation key, and the ciphertext that carries it there.
///
/// `m` are 32 random bytes, never used twice.
///
/// # Errors
/// It is no encapsulation key: a coefficient is not reduced (FIPS 203 section 7.2).
pub fn encapsulate(
    key: &[u8; ENCAPSULATION_KEY_LEN],
    m: [u8; 32],
) -> Result<([u8; CIPHERTEXT_LEN], Zeroizing<[u8; 32]>), AuthError> {
    KemPair::encapsulate(key, &Zeroizing::new(m))
}

/// The name under which HELLO_K knows its HELLO: the first 16 bytes of SHA-256 over the initiator's ephemeral key
/// (NEG-30).
pub fn hello_name(e: &[u8; 32]) -> [u8; 16] {
    let mut name = [0; 16];
    for (to, from) in name.iter_mut().zip(Library::sha256(&[e])) {
        *to = from;
    }
    name
}

/// SHA-256 over both messages of the leg: HELLO_K behind its token, and the ciphertext (NEG-32).
pub fn transcript(hello_k: &[u8], ciphertext: &[u8; CIPHERTEXT_LEN]) -> [u8; 32] {
    Library::sha256(&[hello_k, ciphertext])
}

/// The secret that the handshake takes in (NEG-34): of the secret of ML-KEM and the leg's transcript.
pub fn leg_secret(shared: &[u8; 32], transcript: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let mut secret = Zeroizing::new([0; 32]);
    label(shared, "kem", transcript, &mut *secret);
    secret
}

#[cfg(test)]
mod tests;
