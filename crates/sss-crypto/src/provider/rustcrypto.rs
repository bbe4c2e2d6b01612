//! The crates of RustCrypto and dalek. No C.
//!
//! They pick instructions of the processor when they run: AES and carry-less multiplication, AVX2, SHA. Where those
//! for AES are missing, AES is computed without tables, in constant time, and slowly.

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit, KeyIvInit, StreamCipherCore};
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::AeadInOut;
use aes_gcm_siv::Aes256GcmSiv;
use chacha20::variants::Ietf;
use chacha20::{ChaChaCore, R20};
use chacha20poly1305::ChaCha20Poly1305;
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::{Aead, AeadAlgorithm, Agreement, Mask, MaskAlgorithm, Provider, Secret32, TAG, ml_kem};
use crate::error::AuthError;

/// RustCrypto, and X25519 of dalek, and ML-KEM of libcrux.
pub(crate) struct RustCrypto;

impl Provider for RustCrypto {
    type KeyPair = KeyPair;
    type AeadKey = AeadKey;
    type MaskKey = MaskKey;
    type KemPair = ml_kem::KemPair;

    fn sha256(parts: &[&[u8]]) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part);
        }
        hash.finalize().into()
    }

    #[expect(clippy::expect_used, reason = "HMAC has keys of every length")]
    fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("any length");
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    #[expect(
        clippy::expect_used,
        reason = "lengths are constants of the program; a key that was not made must not be used"
    )]
    fn hkdf_expand(prk: &[u8], info: &[&[u8]], out: &mut [u8]) {
        let hkdf = Hkdf::<Sha256>::from_prk(prk).expect("32 bytes or more");
        hkdf.expand_multi_info(info, out).expect("at most 255 blocks");
    }

    #[expect(
        clippy::expect_used,
        reason = "lengths are constants of the program; a key that was not made must not be used"
    )]
    fn hkdf(salt: &[u8], ikm: &[u8], out: &mut [u8]) {
        let hkdf = Hkdf::<Sha256>::new(Some(salt), ikm);
        hkdf.expand(&[], out).expect("at most 255 blocks");
    }

    fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
        a.ct_eq(b).into()
    }
}

pub(crate) struct KeyPair {
    private: StaticSecret,
    public: [u8; 32],
}

impl Agreement for KeyPair {
    fn new(secret: &[u8; 32]) -> Self {
        let private = StaticSecret::from(*secret);
        let public = PublicKey::from(&private).to_bytes();
        Self { private, public }
    }

    fn public(&self) -> &[u8; 32] {
        &self.public
    }

    fn agree(&self, peer: &[u8; 32]) -> Result<Secret32, AuthError> {
        let shared = self.private.diffie_hellman(&PublicKey::from(*peer));
        if RustCrypto::constant_time_eq(shared.as_bytes(), &[0; 32]) {
            return Err(AuthError);
        }
        Ok(Zeroizing::new(*shared.as_bytes()))
    }
}

/// On the heap, so that no copy of a key stays behind where it was moved from.
pub(crate) enum AeadKey {
    ChaCha(Box<ChaCha20Poly1305>),
    Gcm(Box<Aes256Gcm>),
    GcmSiv(Box<Aes256GcmSiv>),
}

impl Aead for AeadKey {
    fn new(algorithm: AeadAlgorithm, key: &[u8; 32]) -> Self {
        match algorithm {
            AeadAlgorithm::ChaCha20Poly1305 => Self::ChaCha(Box::new(ChaCha20Poly1305::new(key.into()))),
            AeadAlgorithm::Aes256Gcm => Self::Gcm(Box::new(Aes256Gcm::new(key.into()))),
            AeadAlgorithm::Aes256GcmSiv => Self::GcmSiv(Box::new(Aes256GcmSiv::new(key.into()))),
        }
    }

    #[inline]
    fn seal(&self, nonce: [u8; 12], aad: &[u8], buf: &mut [u8]) {
        debug_assert!(buf.len() >= TAG, "no room for the tag");
        let sealed = match buf.split_last_chunk_mut::<TAG>() {
            Some((text, tag)) => {
                let made = match self {
                    Self::ChaCha(key) => key.encrypt_inout_detached(&nonce.into(), aad, text.into()),
                    Self::Gcm(key) => key.encrypt_inout_detached(&nonce.into(), aad, text.into()),
                    Self::GcmSiv(key) => key.encrypt_inout_detached(&nonce.into(), aad, text.into()),
                };
                made.map(|made| *tag = made.into()).is_ok()
            }
            None => false,
        };
        if !sealed {
            buf.fill(0);
        }
    }

    #[inline]
    fn open(&self, nonce: [u8; 12], aad: &[u8], buf: &mut [u8]) -> Result<usize, AuthError> {
        let (text, tag) = buf.split_last_chunk_mut::<TAG>().ok_or(AuthError)?;
        let (len, tag) = (text.len(), (*tag).into());
        let opened = match self {
            Self::ChaCha(key) => key.decrypt_inout_detached(&nonce.into(), aad, text.into(), &tag),
            Self::Gcm(key) => key.decrypt_inout_detached(&nonce.into(), aad, text.into(), &tag),
            Self::GcmSiv(key) => key.decrypt_inout_detached(&nonce.into(), aad, text.into(), &tag),
        };
        opened.map(|()| len).map_err(|_| AuthError)
    }
}

pub(crate) enum MaskKey {
    ChaCha(Secret32),
    Aes(Box<Aes256>),
}

impl Mask for MaskKey {
    fn new(algorithm: MaskAlgorithm, key: &[u8; 32]) -> Self {
        match algorithm {
            MaskAlgorithm::ChaCha20 => Self::ChaCha(Zeroizing::new(*key)),
            MaskAlgorithm::Aes256 => Self::Aes(Box::new(Aes256::new(key.into()))),
        }
    }

    #[inline]
    fn mask(&self, sample: &[u8; 16]) -> [u8; 5] {
        match self {
            Self::ChaCha(key) => chacha_mask(key, sample),
            Self::Aes(key) => {
                let mut block = (*sample).into();
                key.encrypt_block(&mut block);
                let [a, b, c, d, e, ..] = <[u8; 16]>::from(block);
                [a, b, c, d, e]
            }
        }
    }
}

/// The sample is the block's number, little-endian, and the nonce.
///
/// Of the cipher's core: what is around it refuses the last block, which one sample in 2^32 asks for.
#[inline]
fn chacha_mask(key: &[u8; 32], sample: &[u8; 16]) -> [u8; 5] {
    let [a, b, c, d, nonce @ ..] = *sample;
    let mut core = ChaChaCore::<R20, Ietf>::new(key.into(), &nonce.into());
    core.set_block_pos(u32::from_le_bytes([a, b, c, d]));
    let mut block = Default::default();
    core.write_keystream_block(&mut block);
    let [a, b, c, d, e, ..] = <[u8; 64]>::from(block);
    [a, b, c, d, e]
}
