//! The private key that a host is known by.

mod file;

use std::fmt;

use sss_crypto::StaticKey;
use sss_wire::Eid;
use zeroize::Zeroizing;

pub use file::IdentityError;

/// A host's identity: one X25519 private key, used for nothing but negotiating channels (OVR-3).
///
/// Whoever holds it is the host. It is erased from memory when dropped, and never printed. A host that is to keep its
/// name keeps its identity in a file:
///
/// ```
/// # fn f() -> Result<(), sss::IdentityError> {
/// let identity = sss::Identity::load_or_create("/var/lib/player/identity")?;
/// let builder = sss::Host::builder().identity(identity);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Identity {
    secret: Zeroizing<[u8; 32]>,
    eid: Eid,
}

impl Identity {
    /// A new identity.
    ///
    /// # Panics
    /// If the operating system has no entropy to give.
    pub fn generate() -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        match getrandom::fill(&mut secret[..]) {
            Ok(()) => Self::from_bytes(*secret),
            Err(error) => panic!("the operating system gives no entropy: {error}"),
        }
    }

    /// The identity that [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let secret = Zeroizing::new(bytes);
        let eid = Eid::from_public_key(&StaticKey::from_bytes(bytes).public());
        Self { secret, eid }
    }

    /// The private key. To be kept secret.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.secret.clone()
    }

    /// The public name of the host with this identity.
    pub fn eid(&self) -> Eid {
        self.eid
    }

    pub(crate) fn key(&self) -> StaticKey {
        StaticKey::from_bytes(*self.secret)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.eid).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_trip_through_bytes_and_stays_secret() {
        let identity = Identity::from_bytes([7; 32]);
        let again = Identity::from_bytes(*identity.to_bytes());
        assert_eq!(identity.eid(), again.eid());
        let shown = format!("{identity:?}");
        assert!(!shown.contains("7, 7") && !shown.contains("0707"), "{shown}");
    }

    #[test]
    fn generated_identities_differ() {
        assert_ne!(Identity::generate().eid(), Identity::generate().eid());
    }
}
