//! Each library by itself against published vectors, and the two against each other.

mod wycheproof;

use super::*;
use crate::testing::{flips, hex, hex32, low_order_points};

/// Instantiates generic tests for each library that this build has.
macro_rules! for_each_library {
    ($($test:ident),* $(,)?) => {
        #[cfg(feature = "aws-lc-rs")]
        mod of_aws {
            $(#[test]
            fn $test() {
                super::$test::<crate::provider::aws::AwsLc>();
            })*
        }
        #[cfg(feature = "rustcrypto")]
        mod of_rustcrypto {
            $(#[test]
            fn $test() {
                super::$test::<crate::provider::rustcrypto::RustCrypto>();
            })*
        }
    };
}
use for_each_library;

for_each_library!(
    low_order_points_are_refused,
    what_was_changed_does_not_open,
    what_has_no_room_for_a_tag_does_not_open,
    masks_are_those_of_rfc_9001,
    equal_slices_are_equal,
);

const AEADS: [AeadAlgorithm; 3] = [
    AeadAlgorithm::ChaCha20Poly1305,
    AeadAlgorithm::Aes256Gcm,
    AeadAlgorithm::Aes256GcmSiv,
];

// spec: OVR-4
fn low_order_points_are_refused<P: Provider>() {
    let pair = P::KeyPair::new(&[7; 32]);
    assert!(pair.agree(pair.public()).is_ok());
    for point in low_order_points() {
        assert_eq!(pair.agree(&point).unwrap_err(), AuthError);
    }
}

fn what_was_changed_does_not_open<P: Provider>() {
    for algorithm in AEADS {
        let key = P::AeadKey::new(algorithm, &[1; 32]);
        let mut sealed = [b"text".to_vec(), vec![0; TAG]].concat();
        key.seal([2; 12], b"aad", &mut sealed);
        let open = |nonce, aad: &[u8], sealed: &[u8]| {
            let mut text = sealed.to_vec();
            key.open(nonce, aad, &mut text).map(|len| text[..len].to_vec())
        };
        assert_eq!(open([2; 12], b"aad", &sealed), Ok(b"text".to_vec()));
        assert_eq!(open([3; 12], b"aad", &sealed), Err(AuthError));
        for changed in flips(&sealed) {
            assert_eq!(open([2; 12], b"aad", &changed), Err(AuthError), "{algorithm:?}");
        }
        for changed in flips(b"aad") {
            assert_eq!(open([2; 12], &changed, &sealed), Err(AuthError), "{algorithm:?}");
        }
    }
}

fn what_has_no_room_for_a_tag_does_not_open<P: Provider>() {
    for algorithm in AEADS {
        let key = P::AeadKey::new(algorithm, &[1; 32]);
        for len in 0..TAG {
            assert_eq!(key.open([0; 12], b"", &mut vec![0; len]), Err(AuthError));
        }
    }
}

// RFC 9001, appendix A.5; the key of AES is of 256 bits here, which no RFC has: FIPS 197, appendix C.3.
fn masks_are_those_of_rfc_9001<P: Provider>() {
    let key = hex32("25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4");
    let sample = hex("5e5cd55c41f69080575d7999c25a5bfb").try_into().unwrap();
    let mask = P::MaskKey::new(MaskAlgorithm::ChaCha20, &key).mask(&sample);
    assert_eq!(mask.to_vec(), hex("aefefe7d03"));

    let key = hex32("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
    let block = hex("00112233445566778899aabbccddeeff").try_into().unwrap();
    let mask = P::MaskKey::new(MaskAlgorithm::Aes256, &key).mask(&block);
    assert_eq!(mask.to_vec(), hex("8ea2b7ca51"));
}

fn equal_slices_are_equal<P: Provider>() {
    assert!(P::constant_time_eq(b"", b""));
    assert!(P::constant_time_eq(b"same", b"same"));
    assert!(!P::constant_time_eq(b"same", b"same "));
    assert!(flips(b"same").all(|changed| !P::constant_time_eq(b"same", &changed)));
}

#[cfg(feature = "rustcrypto")]
#[test]
fn keys_of_rustcrypto_are_wiped() {
    fn is_wiped<T: zeroize::ZeroizeOnDrop>() {}
    is_wiped::<x25519_dalek::StaticSecret>();
    is_wiped::<x25519_dalek::SharedSecret>();
    is_wiped::<chacha20poly1305::ChaCha20Poly1305>();
    is_wiped::<aes_gcm::Aes256Gcm>();
    // What AES-GCM-SIV consists of: it does not say so itself.
    is_wiped::<aes::Aes256>();
    // The state of the hash; that of HMAC is two of them.
    is_wiped::<sha2::Sha256>();
}

/// Each primitive with random input, of the two libraries.
#[cfg(all(feature = "aws-lc-rs", feature = "rustcrypto"))]
mod difference {
    use rand::RngExt;

    use super::*;
    use crate::provider::aws::AwsLc;
    use crate::provider::rustcrypto::RustCrypto;
    use crate::testing::{random_bytes, rng};

    const ROUNDS: usize = 500;

    #[test]
    fn none_in_x25519() {
        let mut rng = rng(1);
        for _ in 0..ROUNDS {
            let (a, b): ([u8; 32], [u8; 32]) = (rng.random(), rng.random());
            let ours = <AwsLc as Provider>::KeyPair::new(&a);
            let theirs = <RustCrypto as Provider>::KeyPair::new(&a);
            assert_eq!(ours.public(), theirs.public());
            // Any 32 bytes are a public key, half of them on the twist.
            for peer in [b, *<AwsLc as Provider>::KeyPair::new(&b).public()] {
                assert_eq!(ours.agree(&peer), theirs.agree(&peer));
            }
        }
    }

    #[test]
    fn none_in_hashes() {
        let mut rng = rng(2);
        for _ in 0..ROUNDS {
            let (key, a, b) = (
                random_bytes(&mut rng, 200),
                random_bytes(&mut rng, 300),
                random_bytes(&mut rng, 300),
            );
            assert_eq!(AwsLc::sha256(&[&a, &b]), RustCrypto::sha256(&[&a, &b]));
            assert_eq!(AwsLc::hmac(&key, &[&a, &b]), RustCrypto::hmac(&key, &[&a, &b]));
            let prk = [&key[..], &[0; 32]].concat();
            let mut outs = [(); 2].map(|()| vec![0; rng.random_range(0..=8160)]);
            let len = outs[0].len();
            outs[1].resize(len, 0);
            AwsLc::hkdf_expand(&prk, &[&a, &b], &mut outs[0]);
            RustCrypto::hkdf_expand(&prk, &[&a, &b], &mut outs[1]);
            assert_eq!(outs[0], outs[1]);
            AwsLc::hkdf(&key, &a, &mut outs[0]);
            RustCrypto::hkdf(&key, &a, &mut outs[1]);
            assert_eq!(outs[0], outs[1]);
        }
    }

    #[test]
    fn none_in_aeads() {
        let mut rng = rng(3);
        for algorithm in AEADS {
            for _ in 0..ROUNDS {
                let key = rng.random();
                let (nonce, aad) = (rng.random(), random_bytes(&mut rng, 100));
                let text = [random_bytes(&mut rng, 2000), vec![0; TAG]].concat();
                let ours = <AwsLc as Provider>::AeadKey::new(algorithm, &key);
                let theirs = <RustCrypto as Provider>::AeadKey::new(algorithm, &key);
                let (mut a, mut b) = (text.clone(), text.clone());
                ours.seal(nonce, &aad, &mut a);
                theirs.seal(nonce, &aad, &mut b);
                assert_eq!(a, b, "{algorithm:?}");
                let len = text.len() - TAG;
                assert_eq!(theirs.open(nonce, &aad, &mut a), Ok(len));
                assert_eq!(ours.open(nonce, &aad, &mut b), Ok(len));
                assert_eq!((&a[..len], &b[..len]), (&text[..len], &text[..len]));
            }
        }
    }

    #[test]
    fn none_in_header_masks() {
        let mut rng = rng(4);
        for algorithm in [MaskAlgorithm::ChaCha20, MaskAlgorithm::Aes256] {
            for round in 0..ROUNDS {
                let (key, mut sample): ([u8; 32], [u8; 16]) = (rng.random(), rng.random());
                // The first and the last block of a keystream, too.
                match round % 4 {
                    0 => sample[..4].fill(0),
                    1 => sample[..4].fill(0xff),
                    _ => {}
                }
                let ours = <AwsLc as Provider>::MaskKey::new(algorithm, &key).mask(&sample);
                let theirs = <RustCrypto as Provider>::MaskKey::new(algorithm, &key).mask(&sample);
                assert_eq!(ours, theirs, "{algorithm:?} {sample:?}");
            }
        }
    }
}

/// Times of the primitives, in nanoseconds:
/// `cargo test --release -p sss-crypto --all-features -- --ignored --nocapture times`.
#[ignore = "a measurement"]
#[test]
fn times() {
    #[cfg(feature = "aws-lc-rs")]
    times_of::<aws::AwsLc>("aws-lc-rs");
    #[cfg(feature = "rustcrypto")]
    times_of::<RustCrypto>("rustcrypto");
}

fn times_of<P: Provider>(library: &str) {
    let pair = P::KeyPair::new(&[7; 32]);
    let peer = *P::KeyPair::new(&[8; 32]).public();
    time(library, "X25519, base point", || drop(P::KeyPair::new(&[7; 32])));
    time(library, "X25519", || drop(pair.agree(&peer)));
    time(library, "HKDF-Expand of 32 bytes", || {
        P::hkdf_expand(&[1; 32], &[b"info"], &mut [0; 32])
    });
    for algorithm in AEADS {
        let key = P::AeadKey::new(algorithm, &[1; 32]);
        let mut packet = [0; 1200];
        time(library, &format!("{algorithm:?}, seal 1200 bytes"), || {
            key.seal([2; 12], &[0; 8], &mut packet)
        });
        let sealed = packet;
        time(library, &format!("{algorithm:?}, open 1200 bytes"), || {
            packet = sealed;
            let _ = key.open([2; 12], &[0; 8], &mut packet);
        });
    }
    for algorithm in [MaskAlgorithm::ChaCha20, MaskAlgorithm::Aes256] {
        let key = P::MaskKey::new(algorithm, &[1; 32]);
        let mut sample = [0; 16];
        time(library, &format!("mask by {algorithm:?}"), || {
            sample[0] = key.mask(&sample)[0]
        });
    }
}

/// Prints the shortest time of some rounds.
fn time(library: &str, what: &str, mut work: impl FnMut()) {
    const CALLS: u32 = 20;
    let best = (0..500).map(|_| {
        let start = std::time::Instant::now();
        (0..CALLS).for_each(|_| work());
        start.elapsed() / CALLS
    });
    println!("{library:<12} {what:<36} {:>8} ns", best.min().unwrap().as_nanos());
}
