//! Key encapsulation mechanisms of the post-quantum leg.

use std::fmt;

use crate::error::Malformed;

/// A key encapsulation mechanism, or the absence of one, by its number (NEG-29).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kem {
    /// No leg: Diffie-Hellman alone.
    None = 0,
    /// ML-KEM-768 (FIPS 203). Every host supports it.
    MlKem768 = 1,
}

impl TryFrom<u8> for Kem {
    type Error = Malformed;

    fn try_from(number: u8) -> Result<Self, Malformed> {
        match number {
            0 => Ok(Self::None),
            1 => Ok(Self::MlKem768),
            _ => Err(Malformed("unknown KEM")),
        }
    }
}

impl fmt::Display for Kem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::MlKem768 => "ML-KEM-768",
        })
    }
}
