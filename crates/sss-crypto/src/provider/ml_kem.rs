//! ML-KEM-768 (FIPS 203) from given randomness, of libcrux: the one primitive that both libraries have from elsewhere
//! (docs/decisions/0015-post-quantum-leg.md). The tests compare it with that of AWS-LC.

use libcrux_ml_kem::mlkem768::{self, MlKem768Ciphertext, MlKem768PrivateKey, MlKem768PublicKey};
use zeroize::{Zeroize, Zeroizing};

use super::{KEM_CIPHERTEXT, KEM_KEY, KEM_SEED, Kem, Secret32};
use crate::error::AuthError;

/// Length of a decapsulation key, in bytes.
const DECAPSULATION_KEY: usize = 2400;

pub(crate) struct KemPair {
    secret: Box<MlKem768PrivateKey>,
    public: Box<[u8; KEM_KEY]>,
}

impl Kem for KemPair {
    fn new(seed: &[u8; KEM_SEED]) -> Self {
        let (secret, public) = mlkem768::generate_key_pair(*seed).into_parts();
        Self {
            secret: Box::new(secret),
            public: Box::new(public.into()),
        }
    }

    fn public(&self) -> &[u8; KEM_KEY] {
        &self.public
    }

    fn decapsulate(&self, ciphertext: &[u8; KEM_CIPHERTEXT]) -> Secret32 {
        let ciphertext = MlKem768Ciphertext::from(ciphertext);
        Zeroizing::new(mlkem768::decapsulate(&self.secret, &ciphertext))
    }

    fn encapsulate(public: &[u8; KEM_KEY], m: &[u8; 32]) -> Result<([u8; KEM_CIPHERTEXT], Secret32), AuthError> {
        let public = MlKem768PublicKey::from(public);
        if !mlkem768::validate_public_key(&public) {
            return Err(AuthError);
        }
        let (ciphertext, shared) = mlkem768::encapsulate(&public, *m);
        Ok((ciphertext.into(), Zeroizing::new(shared)))
    }
}

#[cfg(all(test, feature = "aws-lc-rs"))]
impl KemPair {
    /// The decapsulation key as FIPS 203 writes it.
    pub(crate) fn secret(&self) -> &[u8; DECAPSULATION_KEY] {
        self.secret.as_slice()
    }
}

impl Drop for KemPair {
    fn drop(&mut self) {
        self.secret[0..DECAPSULATION_KEY].zeroize();
    }
}
