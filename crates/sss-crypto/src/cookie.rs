//! The AEAD of cookies: the responder's state, sealed by it and kept by the initiator (NEG-9).

use core::fmt;

use zeroize::Zeroizing;

use crate::error::AuthError;
use crate::provider::{Aead, AeadAlgorithm, AeadKey, TAG};

/// A key for cookies, of AES-256-GCM-SIV (RFC 8452).
///
/// A nonce that occurs twice, as with random nonces it may, or in copies of a virtual machine, tells no more than
/// whether two cookies are the same.
pub struct CookieKey(AeadKey);

impl CookieKey {
    /// The key of 32 secret bytes.
    pub fn new(key: [u8; 32]) -> Self {
        let key = Zeroizing::new(key);
        Self(AeadKey::new(AeadAlgorithm::Aes256GcmSiv, &key))
    }

    /// Seals `plaintext`, bound to `aad`. The result is 16 bytes longer.
    pub fn seal(&self, nonce: [u8; 12], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(plaintext.len().saturating_add(TAG));
        sealed.extend_from_slice(plaintext);
        sealed.extend_from_slice(&[0; TAG]);
        self.0.seal(nonce, aad, &mut sealed);
        sealed
    }

    /// Opens what [`CookieKey::seal`] made with the same nonce and `aad`.
    ///
    /// # Errors
    /// It was not made so, or was changed.
    pub fn open(&self, nonce: [u8; 12], aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, AuthError> {
        let mut plaintext = sealed.to_vec();
        let len = self.0.open(nonce, aad, &mut plaintext)?;
        plaintext.truncate(len);
        Ok(plaintext)
    }
}

impl fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
