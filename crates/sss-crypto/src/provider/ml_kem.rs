//! ML-KEM-768 (FIPS 203) from given randomness, of libcrux: the one primitive that both libraries have from elsewhere
//! (docs/decisions/0015-post-quantum-leg.md). The tests compare it with that of AWS-LC.
//!
//! A key pair is kept as the arithmetic wants it, with the matrix that its seed stands for: decapsulation encrypts once
//! more, and would have to make all of that again from the bytes of a key.

use std::hint::black_box;

use libcrux_ml_kem::mlkem768::{self, MlKem768Ciphertext, MlKem768PublicKey};
use zeroize::Zeroizing;

use super::{KEM_CIPHERTEXT, KEM_KEY, KEM_SEED, Kem, Secret32};
use crate::error::AuthError;

// Arithmetic without vector instructions.
use libcrux_ml_kem::mlkem768::portable::unpacked as plain;
// Arithmetic with vector instructions, where the processor has them.
#[cfg(target_arch = "x86_64")]
use libcrux_ml_kem::mlkem768::avx2::unpacked as vectors;
#[cfg(target_arch = "aarch64")]
use libcrux_ml_kem::mlkem768::neon::unpacked as vectors;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use libcrux_ml_kem::mlkem768::portable::unpacked as vectors;

/// Returns whether the processor has the instructions that `vectors` uses.
#[cfg(target_arch = "x86_64")]
fn has_vectors() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

/// Returns whether the processor has the instructions that `vectors` uses.
#[cfg(target_arch = "aarch64")]
fn has_vectors() -> bool {
    std::arch::is_aarch64_feature_detected!("neon")
}

/// Returns whether the processor has vector instructions that are made use of.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_vectors() -> bool {
    false
}

/// A key pair as the arithmetic wants it.
enum Unpacked {
    Plain(Box<plain::MlKem768KeyPairUnpacked>),
    Vectors(Box<vectors::MlKem768KeyPairUnpacked>),
}

pub(crate) struct KemPair {
    pair: Unpacked,
    public: Box<[u8; KEM_KEY]>,
}

impl KemPair {
    /// The key pair of a seed, with vector instructions or without.
    fn of_seed(seed: &[u8; KEM_SEED], with_vectors: bool) -> Self {
        let mut public = MlKem768PublicKey::default();
        let pair = if with_vectors {
            let mut pair = Box::new(vectors::init_key_pair());
            vectors::generate_key_pair_mut(*seed, &mut pair);
            vectors::key_pair_serialized_public_key_mut(&pair, &mut public);
            Unpacked::Vectors(pair)
        } else {
            let mut pair = Box::new(plain::init_key_pair());
            plain::generate_key_pair_mut(*seed, &mut pair);
            plain::key_pair_serialized_public_key_mut(&pair, &mut public);
            Unpacked::Plain(pair)
        };
        let public = Box::new(public.into());
        Self { pair, public }
    }
}

impl Kem for KemPair {
    fn new(seed: &[u8; KEM_SEED]) -> Self {
        Self::of_seed(seed, has_vectors())
    }

    fn public(&self) -> &[u8; KEM_KEY] {
        &self.public
    }

    fn decapsulate(&self, ciphertext: &[u8; KEM_CIPHERTEXT]) -> Secret32 {
        let ciphertext = MlKem768Ciphertext::from(ciphertext);
        Zeroizing::new(match &self.pair {
            Unpacked::Plain(pair) => plain::decapsulate(pair, &ciphertext),
            Unpacked::Vectors(pair) => vectors::decapsulate(pair, &ciphertext),
        })
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

impl KemPair {
    /// Wipes the secret. What keeps it tells nothing of its layout, so it is written over by an empty one, which the
    /// compiler has to believe is looked at.
    fn wipe(&mut self) {
        match &mut self.pair {
            Unpacked::Plain(pair) => {
                **pair = plain::init_key_pair();
                black_box(&**pair);
            }
            Unpacked::Vectors(pair) => {
                **pair = vectors::init_key_pair();
                black_box(&**pair);
            }
        }
    }

    /// The decapsulation key as FIPS 203 writes it.
    #[cfg(test)]
    pub(crate) fn secret(&self) -> Vec<u8> {
        match &self.pair {
            Unpacked::Plain(pair) => plain::key_pair_serialized_private_key(pair).as_slice().to_vec(),
            Unpacked::Vectors(pair) => vectors::key_pair_serialized_private_key(pair).as_slice().to_vec(),
        }
    }
}

impl Drop for KemPair {
    fn drop(&mut self) {
        self.wipe();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector_instructions_compute_the_same() {
        if !has_vectors() {
            eprintln!("SKIPPED: this processor has no vector instructions that are made use of");
            return;
        }
        for seed in 0..50 {
            let [plain, vectors] = [false, true].map(|with_vectors| KemPair::of_seed(&[seed; KEM_SEED], with_vectors));
            assert_eq!(plain.public(), vectors.public());
            assert_eq!(plain.secret(), vectors.secret());
            let (mut ciphertext, secret) = KemPair::encapsulate(plain.public(), &[seed; 32]).unwrap();
            assert_eq!(plain.decapsulate(&ciphertext), secret);
            assert_eq!(vectors.decapsulate(&ciphertext), secret);
            ciphertext[usize::from(seed)] ^= 1;
            assert_ne!(plain.decapsulate(&ciphertext), secret);
            assert_eq!(plain.decapsulate(&ciphertext), vectors.decapsulate(&ciphertext));
        }
    }

    #[test]
    fn nothing_is_left_of_a_secret_that_was_wiped() {
        for with_vectors in [false, has_vectors()] {
            let [mut one, mut other] = [1, 2].map(|seed| KemPair::of_seed(&[seed; KEM_SEED], with_vectors));
            assert_ne!(one.secret(), other.secret());
            one.wipe();
            other.wipe();
            assert_eq!(one.secret(), other.secret());
            // The polynomials of the key, and what a forged ciphertext is answered from (FIPS 203 section 7.1).
            let secret = one.secret();
            assert!(secret[..1152].iter().chain(&secret[2368..]).all(|byte| *byte == 0));
        }
    }
}
