//! ML-KEM-768 (FIPS 203) from given randomness. `aws-lc-rs` draws its own, so this one primitive comes from elsewhere
//! (docs/decisions/0015-post-quantum-leg.md), and the tests compare the two.

use libcrux_ml_kem::mlkem768::{self, MlKem768Ciphertext, MlKem768PrivateKey, MlKem768PublicKey};
use zeroize::{Zeroize, Zeroizing};

use super::Secret32;
use crate::error::AuthError;

/// Length of the seed of a key pair: `d`, then `z`, in bytes.
pub(crate) const SEED: usize = 64;
/// Length of an encapsulation key, in bytes.
pub(crate) const ENCAPSULATION_KEY: usize = 1184;
/// Length of a ciphertext, in bytes.
pub(crate) const CIPHERTEXT: usize = 1088;
/// Length of a decapsulation key, in bytes.
const DECAPSULATION_KEY: usize = 2400;

/// A key pair. The secret half is on the heap, in one place, and is wiped when it is dropped.
pub(crate) struct KemPair {
    secret: Box<MlKem768PrivateKey>,
    public: Box<[u8; ENCAPSULATION_KEY]>,
}

impl KemPair {
    pub(crate) fn new(seed: &[u8; SEED]) -> Self {
        let (secret, public) = mlkem768::generate_key_pair(*seed).into_parts();
        Self {
            secret: Box::new(secret),
            public: Box::new(public.into()),
        }
    }

    pub(crate) fn public(&self) -> &[u8; ENCAPSULATION_KEY] {
        &self.public
    }

    /// Decapsulates. A ciphertext that was not made for this key gives a secret that nobody else knows (implicit
    /// rejection).
    pub(crate) fn decapsulate(&self, ciphertext: &[u8; CIPHERTEXT]) -> Secret32 {
        let ciphertext = MlKem768Ciphertext::from(ciphertext);
        Zeroizing::new(mlkem768::decapsulate(&self.secret, &ciphertext))
    }

    /// The decapsulation key as FIPS 203 writes it.
    #[cfg(test)]
    pub(crate) fn secret(&self) -> &[u8; DECAPSULATION_KEY] {
        self.secret.as_slice()
    }
}

impl Drop for KemPair {
    fn drop(&mut self) {
        self.secret[0..DECAPSULATION_KEY].zeroize();
    }
}

/// Encapsulates with the randomness `m`: the ciphertext, and the secret that it carries.
///
/// # Errors
/// The key has a coefficient that is not reduced: the check of FIPS 203 section 7.2.
pub(crate) fn encapsulate(
    public: &[u8; ENCAPSULATION_KEY],
    m: &[u8; 32],
) -> Result<([u8; CIPHERTEXT], Secret32), AuthError> {
    let public = MlKem768PublicKey::from(public);
    if !mlkem768::validate_public_key(&public) {
        return Err(AuthError);
    }
    let (ciphertext, shared) = mlkem768::encapsulate(&public, *m);
    Ok((ciphertext.into(), Zeroizing::new(shared)))
}
