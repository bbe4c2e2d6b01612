use libcrux_sha3::shake128_ema;

use super::*;
use crate::testing::{flips, hex32};

fn key(seed: u8) -> DecapsulationKey {
    DecapsulationKey::from_seed([seed; SEED_LEN])
}

/// The accumulated vectors of C2SP CCTV (ML-KEM, "Accumulated pq-crystals vectors"), for ML-KEM-768: seeds, messages
/// and random ciphertexts come from SHAKE-128 of nothing, and all keys, ciphertexts and secrets go into another one.
#[test]
fn ten_thousand_known_answers() {
    const ROUNDS: usize = 10_000;
    const ROUND: usize = SEED_LEN + 32 + CIPHERTEXT_LEN;
    let mut inputs = vec![0; ROUNDS * ROUND];
    shake128_ema(&mut inputs, &[]);
    let mut outputs = Vec::with_capacity(ROUNDS * (ENCAPSULATION_KEY_LEN + CIPHERTEXT_LEN + 64));
    for input in inputs.chunks_exact(ROUND) {
        let (seed, input) = input.split_first_chunk().unwrap();
        let (m, input) = input.split_first_chunk().unwrap();
        let key = DecapsulationKey::from_seed(*seed);
        let (ciphertext, secret) = encapsulate(key.encapsulation_key(), *m).unwrap();
        assert_eq!(key.decapsulate(&ciphertext), secret);
        outputs.extend_from_slice(key.encapsulation_key());
        outputs.extend_from_slice(&ciphertext);
        outputs.extend_from_slice(&*secret);
        outputs.extend_from_slice(&*key.decapsulate(input.try_into().unwrap()));
    }
    let mut sum = [0; 32];
    shake128_ema(&mut sum, &outputs);
    let expected = "8a518cc63da366322a8e7a818c7a0d63483cb3528d34a4cf42f35d5ad73f22fc";
    assert_eq!(sum, hex32(expected));
}

#[cfg(feature = "aws-lc-rs")]
#[test]
fn another_implementation_agrees() {
    use aws_lc_rs::kem;
    use rand::RngExt;

    let mut rng = crate::testing::rng(29);
    for _ in 0..50 {
        let mut seed = [0; SEED_LEN];
        seed.iter_mut().for_each(|byte| *byte = rng.random());
        let ours = DecapsulationKey::from_seed(seed);
        let public = kem::EncapsulationKey::new(&kem::ML_KEM_768, ours.encapsulation_key()).unwrap();
        let (ciphertext, secret) = public.encapsulate().unwrap();
        let opened = ours.decapsulate(ciphertext.as_ref().try_into().unwrap());
        assert_eq!(opened[..], *secret.as_ref());

        let theirs = kem::DecapsulationKey::new(&kem::ML_KEM_768, &ours.0.secret()).unwrap();
        let (ciphertext, secret) = encapsulate(ours.encapsulation_key(), rng.random()).unwrap();
        let opened = theirs.decapsulate(ciphertext[..].into()).unwrap();
        assert_eq!(secret[..], *opened.as_ref());

        // One that was made for nobody: both give the same secret.
        let mut forged = ciphertext;
        forged[rng.random_range(0..CIPHERTEXT_LEN)] ^= 1;
        let opened = theirs.decapsulate(forged[..].into()).unwrap();
        assert_eq!(ours.decapsulate(&forged)[..], *opened.as_ref());
        assert_ne!(ours.decapsulate(&forged), secret);
    }
}

// spec: NEG-31
#[test]
fn a_key_with_a_coefficient_that_is_not_reduced_is_refused() {
    let good = *key(1).encapsulation_key();
    assert!(encapsulate(&good, [2; 32]).is_ok());
    // 768 coefficients of 12 bits, two in three bytes, the low bits first; 3329 is the modulus.
    for (index, value, is_good) in [
        (0, 3328_u16, true),
        (0, 3329, false),
        (0, 4095, false),
        (767, 3328, true),
        (767, 3329, false),
    ] {
        let mut changed = good;
        let at = index / 2 * 3;
        let [low, high] = value.to_le_bytes();
        if index % 2 == 0 {
            changed[at] = low;
            changed[at + 1] = changed[at + 1] & 0xf0 | high;
        } else {
            changed[at + 1] = changed[at + 1] & 0x0f | low << 4;
            changed[at + 2] = low >> 4 | high << 4;
        }
        assert_eq!(encapsulate(&changed, [2; 32]).is_ok(), is_good, "{value} at {index}");
    }
    let mut all = good;
    all.fill(0xff);
    assert_eq!(encapsulate(&all, [2; 32]).unwrap_err(), AuthError);
}

// spec: NEG-34
#[test]
fn the_secret_of_the_leg_depends_on_all_of_it() {
    let (ciphertext, shared) = encapsulate(key(1).encapsulation_key(), [2; 32]).unwrap();
    let hello_k = [7; 40];
    let secret = leg_secret(&shared, &transcript(&hello_k, &ciphertext));
    assert_ne!(secret, shared);
    for changed in flips(&hello_k) {
        assert_ne!(leg_secret(&shared, &transcript(&changed, &ciphertext)), secret);
    }
    for changed in flips(&ciphertext) {
        let changed = changed.try_into().unwrap();
        assert_ne!(leg_secret(&shared, &transcript(&hello_k, &changed)), secret);
    }
    let (_, other) = encapsulate(key(1).encapsulation_key(), [3; 32]).unwrap();
    assert_ne!(leg_secret(&other, &transcript(&hello_k, &ciphertext)), secret);
}

#[test]
fn nothing_is_told_by_debug_output() {
    assert_eq!(format!("{:?}", key(1)), "DecapsulationKey { .. }");
}
