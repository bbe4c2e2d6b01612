//! The cryptographic libraries behind four small types and a few functions.
//!
//! Constructors take keys of fixed length, so the library's check of the length cannot fail; that leaves exhausted
//! memory as the only cause of a panic here.

pub(crate) mod ml_kem;

use aws_lc_rs::aead::quic::{self, HeaderProtectionKey};
use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{agreement, constant_time, digest, hkdf, hmac};
use zeroize::Zeroizing;

use crate::error::AuthError;

/// Length of an authentication tag, in bytes.
pub(crate) const TAG: usize = 16;

/// 32 secret bytes, wiped when dropped.
pub(crate) type Secret32 = Zeroizing<[u8; 32]>;

/// SHA-256 of the concatenation of `parts`.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    array(context.finish().as_ref())
}

/// HMAC-SHA-256 (RFC 2104) of the concatenation of `parts`.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    array(context.sign().as_ref())
}

/// The length of what HKDF is to make.
struct OutputLen(usize);

impl hkdf::KeyType for OutputLen {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand (RFC 5869 section 2.3) with SHA-256. `info` is the concatenation of the parts.
///
/// # Panics
/// `out` is longer than 8160 bytes.
pub(crate) fn hkdf_expand(prk: &[u8], info: &[&[u8]], out: &mut [u8]) {
    // HMAC hashes a key longer than its block (RFC 2104), but the library takes no more than a block.
    let hashed = (prk.len() > 64).then(|| Zeroizing::new(sha256(&[prk])));
    let prk = hashed.as_ref().map_or(prk, |hash| &hash[..]);
    fill(&hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, prk), info, out);
}

/// HKDF-Extract, then HKDF-Expand with an empty info (RFC 5869).
///
/// # Panics
/// `out` is longer than 8160 bytes.
pub(crate) fn hkdf(salt: &[u8], ikm: &[u8], out: &mut [u8]) {
    fill(&hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(ikm), &[], out);
}

#[expect(
    clippy::expect_used,
    reason = "lengths are constants of the program; a key that was not made must not be used"
)]
fn fill(prk: &hkdf::Prk, info: &[&[u8]], out: &mut [u8]) {
    let okm = prk.expand(info, OutputLen(out.len())).expect("at most 255 blocks");
    okm.fill(out).expect("of the length asked for");
}

/// Returns whether `a` equals `b`, in a time that depends on their lengths only.
pub(crate) fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

fn array(digest: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest);
    out
}

/// An X25519 key pair (RFC 7748).
pub(crate) struct KeyPair {
    private: agreement::PrivateKey,
    public: [u8; 32],
}

impl KeyPair {
    /// The key pair of 32 secret bytes. Costs a multiplication of the base point.
    #[expect(clippy::expect_used, reason = "any 32 bytes are an X25519 private key")]
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        let private = agreement::PrivateKey::from_private_key(&agreement::X25519, secret).expect("32 bytes");
        let public = private.compute_public_key().expect("computed when the private key was");
        let public = array(public.as_ref());
        Self { private, public }
    }

    pub(crate) fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// X25519 of this private key and a peer's public key.
    ///
    /// # Errors
    /// The result is zero: the peer's key is a point of low order (OVR-4).
    pub(crate) fn agree(&self, peer: &[u8; 32]) -> Result<Secret32, AuthError> {
        let peer = agreement::UnparsedPublicKey::new(&agreement::X25519, peer);
        let mut shared = Zeroizing::new([0; 32]);
        agreement::agree(&self.private, peer, AuthError, |bytes| {
            shared.copy_from_slice(bytes);
            Ok(())
        })?;
        if constant_time_eq(&*shared, &[0; 32]) {
            return Err(AuthError);
        }
        Ok(shared)
    }
}

/// The AEADs in use. All have keys of 32, nonces of 12 and tags of 16 bytes.
#[derive(Clone, Copy)]
pub(crate) enum AeadAlgorithm {
    ChaCha20Poly1305,
    Aes256Gcm,
    Aes256GcmSiv,
}

/// A key of an AEAD.
pub(crate) struct AeadKey(LessSafeKey);

impl AeadKey {
    #[expect(clippy::expect_used, reason = "32 bytes is the key length of each algorithm")]
    pub(crate) fn new(algorithm: AeadAlgorithm, key: &[u8; 32]) -> Self {
        let algorithm = match algorithm {
            AeadAlgorithm::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
            AeadAlgorithm::Aes256Gcm => &aead::AES_256_GCM,
            AeadAlgorithm::Aes256GcmSiv => &aead::AES_256_GCM_SIV,
        };
        Self(LessSafeKey::new(UnboundKey::new(algorithm, key).expect("32 bytes")))
    }

    /// Encrypts all of `buf` but its last 16 bytes in place and puts the tag there.
    ///
    /// `buf` must have room for the tag. Should sealing fail, which takes more data than any datagram holds,
    /// `buf` is wiped: plaintext never leaves by mistake.
    #[inline]
    pub(crate) fn seal(&self, nonce: [u8; 12], aad: &[u8], buf: &mut [u8]) {
        debug_assert!(buf.len() >= TAG, "no room for the tag");
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = match buf.split_last_chunk_mut::<TAG>() {
            Some((text, tag)) => self
                .0
                .seal_in_place_scatter(nonce, Aad::from(aad), text, &[], tag)
                .is_ok(),
            None => false,
        };
        if !sealed {
            buf.fill(0);
        }
    }

    /// Decrypts `buf`, ciphertext and tag, in place; the plaintext's length.
    ///
    /// # Errors
    /// The tag is wrong, or missing. Then the contents of `buf` are lost.
    #[inline]
    pub(crate) fn open(&self, nonce: [u8; 12], aad: &[u8], buf: &mut [u8]) -> Result<usize, AuthError> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plaintext = self
            .0
            .open_in_place(nonce, Aad::from(aad), buf)
            .map_err(|_| AuthError)?;
        Ok(plaintext.len())
    }
}

/// The ciphers that make header masks.
#[derive(Clone, Copy)]
pub(crate) enum MaskAlgorithm {
    ChaCha20,
    Aes256,
}

/// A key that makes header masks.
pub(crate) struct MaskKey(HeaderProtectionKey);

impl MaskKey {
    #[expect(clippy::expect_used, reason = "32 bytes is the key length of each algorithm")]
    pub(crate) fn new(algorithm: MaskAlgorithm, key: &[u8; 32]) -> Self {
        let algorithm = match algorithm {
            MaskAlgorithm::ChaCha20 => &quic::CHACHA20,
            MaskAlgorithm::Aes256 => &quic::AES_256,
        };
        Self(HeaderProtectionKey::new(algorithm, key).expect("32 bytes"))
    }

    #[inline]
    pub(crate) fn mask(&self, sample: &[u8; 16]) -> [u8; 5] {
        // Fails for a sample of another length only.
        self.0.new_mask(sample).unwrap_or_default()
    }
}
