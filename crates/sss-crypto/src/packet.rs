//! Protection of packets: the AEAD over their frames and the mask over their headers (protection.md, "Short packets").

use core::fmt;

use zeroize::Zeroizing;

use crate::provider::{Aead, AeadAlgorithm, AeadKey, Mask, MaskAlgorithm, MaskKey, Secret32};
use crate::schedule::Secret;
use crate::{AuthError, Suite};

/// Bytes that sealing adds.
pub const TAG_LEN: usize = crate::provider::TAG;

/// The bytes that a [`PacketKey`] is made from, which are few where that is large. Wiped when dropped.
pub struct PacketSecret {
    key: Secret32,
    iv: Zeroizing<[u8; 12]>,
}

impl PacketSecret {
    /// The bytes of a generation's secret. Costs two derivations.
    pub fn new(secret: &Secret) -> Self {
        let (key, iv) = secret.key_and_iv();
        Self { key, iv }
    }

    /// Makes the key: less than a microsecond.
    pub fn key(&self, suite: Suite) -> PacketKey {
        let algorithm = match suite {
            Suite::ChaCha20Poly1305 => AeadAlgorithm::ChaCha20Poly1305,
            Suite::Aes256Gcm => AeadAlgorithm::Aes256Gcm,
        };
        PacketKey {
            aead: AeadKey::new(algorithm, &self.key),
            iv: self.iv.clone(),
        }
    }
}

impl fmt::Debug for PacketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PacketSecret(..)")
    }
}

/// The key that seals, or opens, the packets of one direction and one generation.
pub struct PacketKey {
    aead: AeadKey,
    iv: Zeroizing<[u8; 12]>,
}

impl PacketKey {
    /// The key of a generation's secret.
    pub fn new(suite: Suite, secret: &Secret) -> Self {
        PacketSecret::new(secret).key(suite)
    }

    /// Seals packet `seq` in place. `buf` is the plaintext and [`TAG_LEN`] spare bytes, into which the tag goes;
    /// `aad` is the header, not yet masked.
    ///
    /// A sequence number must be sealed at most once (PRT-4). A `buf` shorter than the tag is an error of the caller,
    /// which a debug build asserts.
    #[inline]
    pub fn seal(&self, seq: u64, aad: &[u8], buf: &mut [u8]) {
        self.aead.seal(self.nonce(seq), aad, buf);
    }

    /// Opens packet `seq` in place: `buf` is ciphertext and tag, `aad` the header without its mask. The plaintext is
    /// the first bytes of `buf`, as many as is returned.
    ///
    /// # Errors
    /// The packet was not sealed so. The contents of `buf` are lost: a second try with another key needs a copy.
    #[inline]
    pub fn open(&self, seq: u64, aad: &[u8], buf: &mut [u8]) -> Result<usize, AuthError> {
        self.aead.open(self.nonce(seq), aad, buf)
    }

    /// PRT-2.
    #[inline]
    fn nonce(&self, seq: u64) -> [u8; 12] {
        let mut nonce = *self.iv;
        for (byte, seq) in nonce.iter_mut().skip(4).zip(seq.to_be_bytes()) {
            *byte ^= seq;
        }
        nonce
    }
}

impl fmt::Debug for PacketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketKey").finish_non_exhaustive()
    }
}

/// The bytes that a [`HeaderKey`] is made from. Wiped when dropped.
pub struct HeaderSecret(Secret32);

impl HeaderSecret {
    /// A copy of the secret bytes.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*key))
    }

    /// Makes the key: less than a microsecond.
    pub fn key(&self, suite: Suite) -> HeaderKey {
        HeaderKey::new(suite, &self.0)
    }
}

impl fmt::Debug for HeaderSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeaderSecret(..)")
    }
}

/// The key that masks the headers of one direction.
pub struct HeaderKey(MaskKey);

impl HeaderKey {
    /// The key of 32 secret bytes.
    pub fn new(suite: Suite, key: &[u8; 32]) -> Self {
        let algorithm = match suite {
            Suite::ChaCha20Poly1305 => MaskAlgorithm::ChaCha20,
            Suite::Aes256Gcm => MaskAlgorithm::Aes256,
        };
        Self(MaskKey::new(algorithm, key))
    }

    /// The mask that a sample of the ciphertext gives (PRT-3; RFC 9001 sections 5.4.3 and 5.4.4). Its first byte, AND
    /// 0x1f, is for the first byte of the packet, the rest for the sequence number.
    #[inline]
    pub fn mask(&self, sample: &[u8; 16]) -> [u8; 5] {
        self.0.mask(sample)
    }
}

impl fmt::Debug for HeaderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
