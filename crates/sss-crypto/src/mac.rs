//! Message authentication by HMAC-SHA-256.

use crate::provider::{Library, Provider};

/// The first 16 bytes of HMAC-SHA-256 (RFC 2104) under `key` over the concatenation of `data`.
///
/// Compare it with [`constant_time_eq`].
pub fn mac16(key: &[u8], data: &[&[u8]]) -> [u8; 16] {
    mac_halves(key, data).0
}

/// Both halves of HMAC-SHA-256 (RFC 2104) under `key` over the concatenation of `data`: whoever sees one of them knows
/// nothing of the other.
pub fn mac_halves(key: &[u8], data: &[&[u8]]) -> ([u8; 16], [u8; 16]) {
    let (mut first, mut second) = ([0; 16], [0; 16]);
    let mac = Library::hmac(key, data);
    for (to, from) in first.iter_mut().chain(&mut second).zip(mac) {
        *to = from;
    }
    (first, second)
}

/// Returns whether `a` equals `b`. Takes a time that depends on their lengths, and not on their contents.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    Library::constant_time_eq(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;

    fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        Library::hmac(key, parts)
    }

    // RFC 4231, test cases 1, 2, 5 (truncated to 16 bytes) and 6 (a key longer than a block).
    #[test]
    fn hmac_is_that_of_rfc_4231() {
        let case1 = hmac(&[0x0b; 20], &[b"Hi ", b"There"]);
        assert_eq!(
            case1.to_vec(),
            hex("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
        );
        let case2 = hmac(b"Jefe", &[b"what do ya want ", b"", b"for nothing?"]);
        assert_eq!(
            case2.to_vec(),
            hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        );
        let case5 = mac16(&[0x0c; 20], &[b"Test With Truncation"]);
        assert_eq!(case5.to_vec(), hex("a3b6167473100ee06e0c796c2955552b"));
        let (first, second) = mac_halves(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!([first, second].concat(), case2);
        let case6 = hmac(
            &[0xaa; 131],
            &[b"Test Using Larger Than Block-Size Key - Hash Key First"],
        );
        assert_eq!(
            case6.to_vec(),
            hex("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54")
        );
    }

    #[test]
    fn constant_time_eq_compares() {
        assert!(constant_time_eq(b"", b""));
        assert!(constant_time_eq(b"same", b"same"));
        assert!(!constant_time_eq(b"same", b"sane"));
        assert!(!constant_time_eq(b"same", b"same "));
    }
}
