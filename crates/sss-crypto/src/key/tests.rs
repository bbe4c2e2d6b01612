use super::*;
use crate::error::AuthError;
use crate::testing::{hex32, is_wiped, low_order_points};

// RFC 7748 section 6.1.
#[test]
fn x25519_is_that_of_rfc_7748() {
    let bob = StaticKey::from_bytes(hex32(
        "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
    ));
    let bob_public = hex32("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
    let alice_public = hex32("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    assert_eq!(bob.public(), bob_public);
    let shared = bob.pair().agree(&alice_public).unwrap();
    assert_eq!(
        *shared,
        hex32("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    );
}

// spec: OVR-4
#[test]
fn threat_13_points_of_low_order_are_refused() {
    let key = StaticKey::from_bytes([0x5a; 32]);
    for point in low_order_points() {
        assert_eq!(key.pair().agree(&point).unwrap_err(), AuthError, "{point:02x?}");
    }
    assert!(key.pair().agree(&key.public()).is_ok());
}

#[test]
fn bytes_come_back_as_they_were_given() {
    assert_eq!(*StaticKey::from_bytes([0xff; 32]).to_bytes(), [0xff; 32]);
}

#[test]
fn secrets_are_not_printed() {
    assert_eq!(format!("{:?}", StaticKey::from_bytes([0x5a; 32])), "StaticKey { .. }");
}

// The pair is the provider's, which wipes it.
#[test]
fn secrets_are_wiped() {
    let StaticKey { secret, pair: _ } = StaticKey::from_bytes([1; 32]);
    is_wiped(&secret);
}
