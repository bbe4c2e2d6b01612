//! Cipher suites.

use std::fmt;

use crate::error::Malformed;

/// A cipher suite that this version knows, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Suite {
    /// ChaCha20-Poly1305 (RFC 8439), headers masked with ChaCha20. Every host supports it.
    ChaCha20Poly1305 = 1,
    /// AES-256-GCM, headers masked with AES-256.
    Aes256Gcm = 2,
}

impl TryFrom<u8> for Suite {
    type Error = Malformed;

    fn try_from(number: u8) -> Result<Self, Malformed> {
        match number {
            1 => Ok(Self::ChaCha20Poly1305),
            2 => Ok(Self::Aes256Gcm),
            _ => Err(Malformed("unknown cipher suite")),
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ChaCha20Poly1305 => "ChaCha20-Poly1305",
            Self::Aes256Gcm => "AES-256-GCM",
        })
    }
}
