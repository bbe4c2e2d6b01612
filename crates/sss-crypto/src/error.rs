//! The one error.

/// Something failed authentication.
///
/// It says no more: what exactly was wrong is of use to an attacker only. A Diffie-Hellman result of 32 zero
/// bytes counts as failed authentication too (OVR-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed authentication")]
pub struct AuthError;
