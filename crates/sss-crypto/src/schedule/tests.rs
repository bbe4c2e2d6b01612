use std::collections::BTreeSet;

use super::*;
use crate::testing::{hex, is_wiped};

// RFC 5869 appendices A.1 and A.2.
#[test]
fn hkdf_is_that_of_rfc_5869() {
    let prk = hkdf_extract(&hex("000102030405060708090a0b0c"), &[&[0x0b; 20], &[0x0b; 2]]);
    assert_eq!(
        prk.to_vec(),
        hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    );
    let mut okm = [0; 42];
    Library::hkdf_expand(&*prk, &[&hex("f0f1f2f3f4"), &hex("f5f6f7f8f9")], &mut okm);
    assert_eq!(
        okm.to_vec(),
        hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
    );

    let run = |from: u8, len: u8| -> Vec<u8> { (0..len).map(|i| from + i).collect() };
    let prk = hkdf_extract(&run(0x60, 80), &[&run(0, 80)]);
    let mut okm = [0; 82];
    Library::hkdf_expand(&*prk, &[&run(0xb0, 80)], &mut okm);
    assert_eq!(
        okm.to_vec(),
        hex(concat!(
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c",
            "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71",
            "cc30c58179ec3e87c14c01d5c1f3434f1d87"
        ))
    );
}

#[test]
#[should_panic(expected = "lengths of a label")]
fn a_label_that_is_too_long_is_refused() {
    label(&[0; 32], &"x".repeat(252), b"", &mut [0; 32]);
}

#[test]
fn generations_form_a_chain_without_repetition() {
    let start = Secret::new([9; 32]);
    let mut secrets = BTreeSet::new();
    let mut keys = BTreeSet::new();
    let mut ivs = BTreeSet::new();
    let mut secret = start.clone();
    for _ in 0..100 {
        let (key, iv) = secret.key_and_iv();
        assert!(secrets.insert(*secret.0) && keys.insert(*key) && ivs.insert(*iv));
        secret = secret.next();
    }
    assert_eq!(secrets.intersection(&keys).count(), 0);
    assert_eq!(start.next(), start.next());
}

#[test]
fn all_secrets_of_a_channel_are_separate_and_depend_on_the_nonce() {
    let split = Split::from_keys([1; 32], [2; 32], [3; 32]);
    let secrets = |n_r| {
        let (early, channel) = (EarlySecrets::from(&split), ChannelSecrets::derive(&split, &n_r));
        assert_eq!(early.initiator_header(), channel.initiator_header());
        assert_eq!(early.responder_header(), channel.responder_header());
        assert_ne!(channel.half_initiator, channel.half_responder);
        let fixed = [*early.initiator.0, *early.initiator_header(), *early.responder_header()];
        (fixed, [*channel.initiator.0, *channel.responder.0])
    };
    let (fixed, fresh) = secrets([4; 32]);
    let (fixed_again, other) = secrets([5; 32]);
    assert_eq!(fixed, fixed_again);
    let all: BTreeSet<_> = fixed.into_iter().chain(fresh).chain(other).collect();
    assert_eq!(all.len(), 7);
}

#[test]
fn threat_11_12_the_direction_and_the_transcript_matter() {
    let of = |k1, k2, h| ChannelSecrets::derive(&Split::from_keys([k1; 32], [k2; 32], [h; 32]), &[0; 32]);
    let one = of(1, 2, 3);
    assert_ne!(one.initiator, of(2, 1, 3).responder);
    assert_ne!(one.initiator, one.responder, "what comes back does not open");
    assert_ne!(one.initiator_header(), one.responder_header());
    assert_ne!(one.initiator.next(), one.responder.next());
    assert_ne!(one.initiator, of(1, 2, 4).initiator);
    assert_ne!(one.half_initiator, of(1, 2, 4).half_initiator);
    assert_ne!(one.initiator_header(), of(1, 2, 4).initiator_header());
}

#[test]
fn secrets_are_not_printed() {
    let split = Split::from_keys([0xab; 32], [0xab; 32], [0xab; 32]);
    let text = format!(
        "{split:?} {:?} {:?}",
        EarlySecrets::from(&split),
        Secret::new([0xab; 32])
    );
    assert!(!text.contains("171") && !text.contains("ab, ab"), "{text}");
}

#[test]
fn secrets_are_wiped() {
    let split = Split::from_keys([1; 32], [2; 32], [3; 32]);
    let EarlySecrets {
        initiator: Secret(early),
        headers,
        has_leg: _,
    } = EarlySecrets::from(&split);
    let ChannelSecrets {
        initiator: Secret(initiator),
        responder: Secret(responder),
        headers: of_channel,
        half_initiator: _,
        half_responder: _,
    } = ChannelSecrets::derive(&split, &[4; 32]);
    let Split { k1, k2, h, has_leg: _ } = split;
    let wiped = [&early, &initiator, &responder, &k1, &k2, &h];
    wiped.into_iter().for_each(is_wiped);
    for HeaderSecrets { initiator, responder } in [headers, of_channel] {
        is_wiped(&initiator);
        is_wiped(&responder);
    }
    is_wiped(&hkdf_extract(b"", &[]));
}
