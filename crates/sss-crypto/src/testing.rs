//! Helpers of the tests.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

/// The bytes of a hexadecimal string.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "an odd number of digits: {text}");
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

/// The 32 bytes of a hexadecimal string.
pub(crate) fn hex32(text: &str) -> [u8; 32] {
    hex(text).try_into().unwrap()
}

/// Fields of JSON objects.
pub(crate) trait Fields {
    fn text(&self, name: &str) -> &str;
    fn list(&self, name: &str) -> &[Value];
    fn number(&self, name: &str) -> u64;
    fn bytes(&self, name: &str) -> Vec<u8> {
        hex(self.text(name))
    }
    fn bytes32(&self, name: &str) -> [u8; 32] {
        hex32(self.text(name))
    }
}

impl Fields for Value {
    fn text(&self, name: &str) -> &str {
        self[name]
            .as_str()
            .unwrap_or_else(|| panic!("no text {name} in {self}"))
    }

    fn list(&self, name: &str) -> &[Value] {
        self[name]
            .as_array()
            .unwrap_or_else(|| panic!("no list {name} in {self}"))
    }

    /// A number, or a decimal string, as those that may exceed 32 bits are written.
    fn number(&self, name: &str) -> u64 {
        let value = &self[name];
        value
            .as_u64()
            .unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
    }
}

pub(crate) fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// Up to `max` random bytes.
pub(crate) fn random_bytes(rng: &mut StdRng, max: usize) -> Vec<u8> {
    let len = rng.random_range(0..=max);
    (0..len).map(|_| rng.random()).collect()
}

/// Every change of one bit of `bytes`.
pub(crate) fn flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(|bit| {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        changed
    })
}

/// Every proper prefix of `bytes`, and one that is longer by a byte.
pub(crate) fn cuts(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let longer = [bytes, &[0]].concat();
    (0..bytes.len()).map(|n| bytes[..n].to_vec()).chain([longer])
}

/// The public keys of low order, with and without the bit that X25519 ignores (RFC 7748 section 5).
pub(crate) fn low_order_points() -> Vec<[u8; 32]> {
    let points = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    let mut all: Vec<[u8; 32]> = points.into_iter().map(hex32).collect();
    for mut point in all.clone() {
        point[31] |= 0x80;
        all.push(point);
    }
    all
}

/// Compiles only if what is given is wiped when it is dropped.
pub(crate) fn is_wiped<T: zeroize::ZeroizeOnDrop>(_: &T) {}
