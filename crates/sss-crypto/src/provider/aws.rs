//! AWS-LC.

use aws_lc_rs::aead::quic::{self, HeaderProtectionKey};
use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{agreement, constant_time, digest, hkdf, hmac};
use zeroize::Zeroizing;

use super::{Aead, AeadAlgorithm, Agreement, Mask, MaskAlgorithm, Provider, Secret32, TAG, ml_kem};
use crate::error::AuthError;

/// AWS-LC, and ML-KEM of libcrux: AWS-LC's takes no randomness that is given.
pub(crate) struct AwsLc;

impl Provider for AwsLc {
    type KeyPair = KeyPair;
    type AeadKey = AeadKey;
    type MaskKey = MaskKey;
    type KemPair = ml_kem::KemPair;

    fn sha256(parts: &[&[u8]]) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            context.update(part);
        }
        array(context.finish().as_ref())
    }

    fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
        for part in parts {
            context.update(part);
        }
        array(context.sign().as_ref())
    }

    fn hkdf_expand(prk: &[u8], info: &[&[u8]], out: &mut [u8]) {
        // HMAC hashes a key longer than its block (RFC 2104), but the library takes no more than a block.
        let hashed = (prk.len() > 64).then(|| Zeroizing::new(Self::sha256(&[prk])));
        let prk = hashed.as_ref().map_or(prk, |hash| &hash[..]);
        fill(&hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, prk), info, out);
    }

    fn hkdf(salt: &[u8], ikm: &[u8], out: &mut [u8]) {
        fill(&hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(ikm), &[], out);
    }

    fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(a, b).is_ok()
    }
}

/// The length of what HKDF is to make.
struct OutputLen(usize);

impl hkdf::KeyType for OutputLen {
    fn len(&self) -> usize {
        self.0
    }
}

#[expect(
    clippy::expect_used,
    reason = "lengths are constants of the program; a key that was not made must not be used"
)]
fn fill(prk: &hkdf::Prk, info: &[&[u8]], out: &mut [u8]) {
    let okm = prk.expand(info, OutputLen(out.len())).expect("at most 255 blocks");
    okm.fill(out).expect("of the length asked for");
}

fn array(digest: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest);
    out
}

pub(crate) struct KeyPair {
    private: agreement::PrivateKey,
    public: [u8; 32],
}

impl Agreement for KeyPair {
    #[expect(clippy::expect_used, reason = "any 32 bytes are an X25519 private key")]
    fn new(secret: &[u8; 32]) -> Self {
        let private = agreement::PrivateKey::from_private_key(&agreement::X25519, secret).expect("32 bytes");
        let public = private.compute_public_key().expect("computed when the private key was");
        let public = array(public.as_ref());
        Self { private, public }
    }

    fn public(&self) -> &[u8; 32] {
        &self.public
    }

    fn agree(&self, peer: &[u8; 32]) -> Result<Secret32, AuthError> {
        let peer = agreement::UnparsedPublicKey::new(&agreement::X25519, peer);
        let mut shared = Zeroizing::new([0; 32]);
        agreement::agree(&self.private, peer, AuthError, |bytes| {
            shared.copy_from_slice(bytes);
            Ok(())
        })?;
        if AwsLc::constant_time_eq(&*shared, &[0; 32]) {
            return Err(AuthError);
        }
        Ok(shared)
    }
}

pub(crate) struct AeadKey(LessSafeKey);

impl Aead for AeadKey {
    #[expect(clippy::expect_used, reason = "32 bytes is the key length of each algorithm")]
    fn new(algorithm: AeadAlgorithm, key: &[u8; 32]) -> Self {
        let algorithm = match algorithm {
            AeadAlgorithm::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
            AeadAlgorithm::Aes256Gcm => &aead::AES_256_GCM,
            AeadAlgorithm::Aes256GcmSiv => &aead::AES_256_GCM_SIV,
        };
        Self(LessSafeKey::new(UnboundKey::new(algorithm, key).expect("32 bytes")))
    }

    #[inline]
    fn seal(&self, nonce: [u8; 12], aad: &[u8], buf: &mut [u8]) {
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

    #[inline]
    fn open(&self, nonce: [u8; 12], aad: &[u8], buf: &mut [u8]) -> Result<usize, AuthError> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plaintext = self
            .0
            .open_in_place(nonce, Aad::from(aad), buf)
            .map_err(|_| AuthError)?;
        Ok(plaintext.len())
    }
}

pub(crate) struct MaskKey(HeaderProtectionKey);

impl Mask for MaskKey {
    #[expect(clippy::expect_used, reason = "32 bytes is the key length of each algorithm")]
    fn new(algorithm: MaskAlgorithm, key: &[u8; 32]) -> Self {
        let algorithm = match algorithm {
            MaskAlgorithm::ChaCha20 => &quic::CHACHA20,
            MaskAlgorithm::Aes256 => &quic::AES_256,
        };
        Self(HeaderProtectionKey::new(algorithm, key).expect("32 bytes"))
    }

    #[inline]
    fn mask(&self, sample: &[u8; 16]) -> [u8; 5] {
        // Fails for a sample of another length only.
        self.0.new_mask(sample).unwrap_or_default()
    }
}
