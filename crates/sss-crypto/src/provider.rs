//! The cryptographic libraries behind one trait.
//!
//! | module | feature | library |
//! |---|---|---|
//! | `aws` | `aws-lc-rs` | AWS-LC: C and assembly |
//! | `rustcrypto` | `rustcrypto` | RustCrypto and dalek: Rust alone |
//! | `ml_kem` | both | libcrux: ML-KEM-768, in Rust |
//!
//! Constructors take keys of fixed length, so a library's check of the length cannot fail; that leaves exhausted
//! memory as the only cause of a panic here.

#[cfg(all(feature = "aws-lc-rs", not(fuzzing)))]
mod aws;
#[cfg(not(fuzzing))]
mod ml_kem;
#[cfg(fuzzing)]
mod mock;
// With both, it is there for the tests alone.
#[cfg(all(feature = "rustcrypto", any(test, not(feature = "aws-lc-rs")), not(fuzzing)))]
mod rustcrypto;

use zeroize::Zeroizing;

use crate::error::AuthError;

#[cfg(not(any(feature = "aws-lc-rs", feature = "rustcrypto", fuzzing)))]
compile_error!("one of the features `aws-lc-rs` (the default) and `rustcrypto` is needed");

#[cfg(all(fuzzing, not(debug_assertions)))]
compile_error!("`--cfg fuzzing` takes the cryptography out: it is for builds with debug assertions only");

/// The library that everything outside of this module uses.
#[cfg(all(feature = "aws-lc-rs", not(fuzzing)))]
pub(crate) type Library = aws::AwsLc;
#[cfg(all(test, feature = "rustcrypto"))]
pub(crate) use rustcrypto::RustCrypto;

/// The library that everything outside of this module uses.
#[cfg(all(feature = "rustcrypto", not(feature = "aws-lc-rs"), not(fuzzing)))]
pub(crate) type Library = rustcrypto::RustCrypto;
/// No library: a fuzzer is at work.
#[cfg(fuzzing)]
pub(crate) type Library = mock::Mock;
#[cfg(fuzzing)]
pub use mock::Generator;

pub(crate) type KeyPair = <Library as Provider>::KeyPair;
pub(crate) type AeadKey = <Library as Provider>::AeadKey;
pub(crate) type MaskKey = <Library as Provider>::MaskKey;
pub(crate) type KemPair = <Library as Provider>::KemPair;

/// Length of an authentication tag, in bytes.
pub(crate) const TAG: usize = 16;
/// Length of the seed of an ML-KEM-768 key pair: `d`, then `z`, in bytes.
pub(crate) const KEM_SEED: usize = 64;
/// Length of an ML-KEM-768 encapsulation key, in bytes.
pub(crate) const KEM_KEY: usize = 1184;
/// Length of an ML-KEM-768 ciphertext, in bytes.
pub(crate) const KEM_CIPHERTEXT: usize = 1088;

/// 32 secret bytes, wiped when dropped.
pub(crate) type Secret32 = Zeroizing<[u8; 32]>;

/// All that a library must give. Keys that it holds are wiped when they are dropped.
pub(crate) trait Provider {
    /// A key pair of X25519.
    type KeyPair: Agreement;
    /// A key of an AEAD.
    type AeadKey: Aead;
    /// A key that makes header masks.
    type MaskKey: Mask;
    /// A key pair of ML-KEM-768.
    type KemPair: Kem;

    /// SHA-256 of the concatenation of `parts`.
    fn sha256(parts: &[&[u8]]) -> [u8; 32];

    /// HMAC-SHA-256 (RFC 2104) of the concatenation of `parts`.
    fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32];

    /// HKDF-Expand (RFC 5869 section 2.3) with SHA-256. `prk` has 32 bytes or more; `info` is the concatenation of the
    /// parts.
    ///
    /// # Panics
    /// `out` is longer than 8160 bytes.
    fn hkdf_expand(prk: &[u8], info: &[&[u8]], out: &mut [u8]);

    /// HKDF-Extract, then HKDF-Expand with an empty info (RFC 5869).
    ///
    /// # Panics
    /// `out` is longer than 8160 bytes.
    fn hkdf(salt: &[u8], ikm: &[u8], out: &mut [u8]);

    /// Returns whether `a` equals `b`, in a time that depends on their lengths only.
    fn constant_time_eq(a: &[u8], b: &[u8]) -> bool;
}

/// An X25519 key pair (RFC 7748).
pub(crate) trait Agreement {
    /// The key pair of 32 secret bytes. Costs a multiplication of the base point.
    fn new(secret: &[u8; 32]) -> Self;

    fn public(&self) -> &[u8; 32];

    /// X25519 of this private key and a peer's public key.
    ///
    /// # Errors
    /// The result is zero: the peer's key is a point of low order (OVR-4).
    fn agree(&self, peer: &[u8; 32]) -> Result<Secret32, AuthError>;
}

/// The AEADs in use. All have keys of 32, nonces of 12 and tags of 16 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AeadAlgorithm {
    ChaCha20Poly1305,
    Aes256Gcm,
    Aes256GcmSiv,
}

/// A key of an AEAD.
pub(crate) trait Aead {
    fn new(algorithm: AeadAlgorithm, key: &[u8; 32]) -> Self;

    /// Encrypts all of `buf` but its last 16 bytes in place and puts the tag there.
    ///
    /// `buf` must have room for the tag. Should sealing fail, which takes more data than any datagram holds,
    /// `buf` is wiped: plaintext never leaves by mistake.
    fn seal(&self, nonce: [u8; 12], aad: &[u8], buf: &mut [u8]);

    /// Decrypts `buf`, ciphertext and tag, in place; the plaintext's length.
    ///
    /// # Errors
    /// The tag is wrong, or missing. Then the contents of `buf` are lost.
    fn open(&self, nonce: [u8; 12], aad: &[u8], buf: &mut [u8]) -> Result<usize, AuthError>;
}

/// The ciphers that make header masks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MaskAlgorithm {
    ChaCha20,
    Aes256,
}

/// A key that makes header masks (RFC 9001 sections 5.4.3 and 5.4.4).
pub(crate) trait Mask {
    fn new(algorithm: MaskAlgorithm, key: &[u8; 32]) -> Self;

    fn mask(&self, sample: &[u8; 16]) -> [u8; 5];
}

/// A key pair of ML-KEM-768 (FIPS 203). The secret half is on the heap, in one place.
pub(crate) trait Kem: Sized {
    fn new(seed: &[u8; KEM_SEED]) -> Self;

    fn public(&self) -> &[u8; KEM_KEY];

    /// Decapsulates. A ciphertext that was not made for this key gives a secret that nobody else knows (implicit
    /// rejection).
    fn decapsulate(&self, ciphertext: &[u8; KEM_CIPHERTEXT]) -> Secret32;

    /// Encapsulates with the randomness `m`: the ciphertext, and the secret that it carries.
    ///
    /// # Errors
    /// The key has a coefficient that is not reduced: the check of FIPS 203 section 7.2.
    fn encapsulate(public: &[u8; KEM_KEY], m: &[u8; 32]) -> Result<([u8; KEM_CIPHERTEXT], Secret32), AuthError>;
}

#[cfg(all(test, not(fuzzing)))]
mod tests;
