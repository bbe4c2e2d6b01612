//! Reasons why packets of leases and introductions are dropped.

use sss_wire::Malformed;

/// Reasons why a packet is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// It is not as RCH-7 says.
    Malformed,
    /// Its token is none of this server's, or it was not sealed with the lease key.
    Unauthentic,
    /// Its number was seen before.
    Old,
    /// It belongs to nothing that is known.
    Unknown,
    /// It is none that servers take.
    Unwelcome,
    /// A bound is reached.
    Overload,
}

impl std::convert::From<Malformed> for Dropped {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}
