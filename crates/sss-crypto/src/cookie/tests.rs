use super::*;
use crate::testing::{cuts, flips, hex};

// RFC 8452 appendix C.2.
#[test]
fn the_aead_is_that_of_rfc_8452() {
    let mut key = [0; 32];
    key[0] = 1;
    let mut nonce = [0; 12];
    nonce[0] = 3;
    let key = CookieKey::new(key);
    assert_eq!(key.seal(nonce, b"", b""), hex("07f5f4169bbf55a8400cd47ea6fd400f"));
    let sealed = key.seal(nonce, b"", &hex("0100000000000000"));
    assert_eq!(sealed, hex("c2ef328e5c71c83b843122130f7364b761e0b97427e3df28"));
}

// spec: NEG-9
#[test]
fn only_what_was_sealed_opens() {
    let key = CookieKey::new([7; 32]);
    let (nonce, aad, plaintext) = ([1; 12], b"10.0.0.1 port 7", b"the state of a responder");
    let sealed = key.seal(nonce, aad, plaintext);
    assert_eq!(key.open(nonce, aad, &sealed).unwrap(), plaintext);

    assert_eq!(key.open(nonce, b"10.0.0.1 port 8", &sealed), Err(AuthError));
    assert_eq!(key.open([2; 12], aad, &sealed), Err(AuthError));
    assert_eq!(CookieKey::new([8; 32]).open(nonce, aad, &sealed), Err(AuthError));
    for bad in flips(&sealed).chain(cuts(&sealed)) {
        assert_eq!(key.open(nonce, aad, &bad), Err(AuthError));
    }
    assert_eq!(key.open(nonce, aad, &sealed).unwrap(), plaintext);
}
