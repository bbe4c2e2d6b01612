mod negotiations;
mod oracle;

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::Value;

use super::symmetric::SymmetricState;
use super::*;
use crate::provider::{Aead, AeadAlgorithm, AeadKey, Agreement, KeyPair};
use crate::testing::{Fields, cuts, flips, low_order_points, random_bytes, rng};
use crate::{AuthError, StaticKey};

/// All that a handshake depends on.
struct Inputs {
    prologue: Vec<u8>,
    s_i: [u8; 32],
    s_r: [u8; 32],
    e_i: [u8; 32],
    e_r: [u8; 32],
    payloads: [Vec<u8>; 3],
}

impl Inputs {
    fn random(rng: &mut StdRng) -> Self {
        Self {
            prologue: random_bytes(rng, 64),
            s_i: rng.random(),
            s_r: rng.random(),
            e_i: rng.random(),
            e_r: rng.random(),
            payloads: [random_bytes(rng, 1200), random_bytes(rng, 300), random_bytes(rng, 1000)],
        }
    }

    /// With short payloads, for tests that try every bit.
    fn small() -> Self {
        Self {
            prologue: b"prologue".to_vec(),
            s_i: [1; 32],
            s_r: [2; 32],
            e_i: [3; 32],
            e_r: [4; 32],
            payloads: [b"one".to_vec(), b"".to_vec(), b"three".to_vec()],
        }
    }

    fn s_i(&self) -> StaticKey {
        StaticKey::from_bytes(self.s_i)
    }

    fn s_r(&self) -> StaticKey {
        StaticKey::from_bytes(self.s_r)
    }

    fn start(&self) -> (Initiator<SentHello>, Vec<u8>) {
        let mut message = Vec::new();
        let public = self.s_r().public();
        let initiator = Initiator::start(&self.prologue, &public, self.e_i, &self.payloads[0], &mut message).unwrap();
        (initiator, message)
    }

    fn respond(&self, hello: &[u8]) -> (Responder<SentCookie>, Vec<u8>) {
        let (responder, payload) = Responder::read_hello(&self.prologue, &self.s_r(), hello).unwrap();
        assert_eq!(payload, self.payloads[0]);
        let mut message = Vec::new();
        let responder = responder
            .write_cookie(self.e_r, &self.payloads[1], &mut message)
            .unwrap();
        (responder, message)
    }

    /// The whole handshake.
    fn run(&self) -> Outcome {
        let (initiator, hello) = self.start();
        let (responder, cookie) = self.respond(&hello);
        let (initiator, payload) = read_cookie(&initiator, &cookie).unwrap();
        assert_eq!(payload, self.payloads[1]);
        assert_eq!(initiator.chaining_key(), responder.chaining_key());
        let mut initiate = Vec::new();
        let split = initiator
            .write_initiate(&self.s_i(), &self.payloads[2], &mut initiate)
            .unwrap();
        let (public, payload, same) = read_initiate(&responder, &initiate).unwrap();
        assert_eq!(public, self.s_i().public());
        assert_eq!(payload, self.payloads[2]);
        assert_eq!((&split.k1, &split.k2, &split.h), (&same.k1, &same.k2, &same.h));
        let messages = [hello, cookie, initiate];
        Outcome { messages, split }
    }
}

/// Outcome of a handshake.
struct Outcome {
    messages: [Vec<u8>; 3],
    split: Split,
}

fn read_cookie(initiator: &Initiator<SentHello>, message: &[u8]) -> Result<(Initiator<GotCookie>, Vec<u8>), AuthError> {
    let (e, sealed) = message.split_first_chunk().ok_or(AuthError)?;
    initiator.read_cookie(e, sealed)
}

fn read_initiate(responder: &Responder<SentCookie>, message: &[u8]) -> Result<([u8; 32], Vec<u8>, Split), AuthError> {
    let (sealed_static, sealed) = message.split_first_chunk().ok_or(AuthError)?;
    let (public, responder) = responder.read_static(sealed_static)?;
    let (payload, split) = responder.read_payload(sealed)?;
    Ok((public, payload, split))
}

/// A transport message of Noise (section 5.1): the nonce is a counter, there is no associated data.
fn transport(key: &[u8; 32], counter: u8, plaintext: &[u8]) -> Vec<u8> {
    let mut nonce = [0; 12];
    nonce[4] = counter;
    let mut message = [plaintext, &[0; 16]].concat();
    AeadKey::new(AeadAlgorithm::ChaCha20Poly1305, key).seal(nonce, b"", &mut message);
    message
}

#[test]
fn published_vectors_are_met() {
    let vectors = include_str!("../../tests/vectors/cacophony-xk.json");
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    let vectors = vectors.as_array().unwrap();
    assert_eq!(vectors.len(), 2);
    for vector in vectors {
        let messages = vector.list("messages");
        let payload = |i: usize| messages[i].bytes("payload");
        let inputs = Inputs {
            prologue: vector.bytes("init_prologue"),
            s_i: vector.bytes32("init_static"),
            s_r: vector.bytes32("resp_static"),
            e_i: vector.bytes32("init_ephemeral"),
            e_r: vector.bytes32("resp_ephemeral"),
            payloads: [payload(0), payload(1), payload(2)],
        };
        assert_eq!(inputs.s_r().public(), vector.bytes32("init_remote_static"));
        let outcome = inputs.run();
        for (ours, theirs) in outcome.messages.iter().zip(messages) {
            assert_eq!(*ours, theirs.bytes("ciphertext"));
        }
        if vector.get("handshake_hash").is_some() {
            assert_eq!(outcome.split.handshake_hash(), &vector.bytes32("handshake_hash"));
        }
        for (i, message) in messages.iter().enumerate().skip(3) {
            let (key, counter) = match i % 2 {
                0 => (&outcome.split.k1, i / 2 - 2),
                _ => (&outcome.split.k2, i / 2 - 1),
            };
            let ours = transport(key, counter as u8, &message.bytes("payload"));
            assert_eq!(ours, message.bytes("ciphertext"), "message {i}");
        }
    }
}

fn snow_builder<'a>(inputs: &'a Inputs, s: &'a [u8; 32], e: &'a [u8; 32]) -> snow::Builder<'a> {
    let params = "Noise_XK_25519_ChaChaPoly_SHA256".parse().unwrap();
    snow::Builder::with_resolver(params, Box::new(oracle::Primitives))
        .prologue(&inputs.prologue)
        .unwrap()
        .local_private_key(s)
        .unwrap()
        .fixed_ephemeral_key_for_testing_only(e)
}

/// Runs the handshake with snow on both sides; the messages, the hash, and a transport message of each side.
fn run_snow(inputs: &Inputs, buf: &mut [u8]) -> ([Vec<u8>; 3], Vec<u8>, [Vec<u8>; 2]) {
    let public = inputs.s_r().public();
    let initiator = snow_builder(inputs, &inputs.s_i, &inputs.e_i).remote_public_key(&public);
    let mut initiator = initiator.unwrap().build_initiator().unwrap();
    let mut responder = snow_builder(inputs, &inputs.s_r, &inputs.e_r)
        .build_responder()
        .unwrap();
    let mut messages = [const { Vec::new() }; 3];
    let mut read = vec![0; 2048];
    for (i, message) in messages.iter_mut().enumerate() {
        let len = initiator.write_message(&inputs.payloads[i], buf).unwrap();
        *message = buf[..len].to_vec();
        responder.read_message(message, &mut read).unwrap();
        std::mem::swap(&mut initiator, &mut responder);
    }
    // After three messages the roles are exchanged.
    let hash = initiator.get_handshake_hash().to_vec();
    let mut sides = [responder, initiator].map(|side| side.into_transport_mode().unwrap());
    let transports = [0, 1].map(|i: usize| {
        let len = sides[i].write_message(b"x", buf).unwrap();
        buf[..len].to_vec()
    });
    (messages, hash, transports)
}

fn agree_with_snow(seeds: std::ops::Range<u64>) {
    let mut buf = vec![0; 2048];
    for seed in seeds {
        let inputs = Inputs::random(&mut rng(seed));
        let ours = inputs.run();
        let (messages, hash, transports) = run_snow(&inputs, &mut buf);
        assert_eq!(ours.messages, messages, "seed {seed}");
        assert_eq!(ours.split.handshake_hash(), &hash[..], "seed {seed}");
        assert_eq!(transport(&ours.split.k1, 0, b"x"), transports[0], "seed {seed}");
        assert_eq!(transport(&ours.split.k2, 0, b"x"), transports[1], "seed {seed}");
    }
}

#[test]
fn random_handshakes_are_those_of_snow_first_half() {
    agree_with_snow(0..5000);
}

#[test]
fn random_handshakes_are_those_of_snow_second_half() {
    agree_with_snow(5000..10_000);
}

// spec: NEG-9
#[test]
fn the_responder_goes_on_from_its_bytes() {
    let inputs = Inputs::small();
    let expected = inputs.run();
    let (initiator, hello) = inputs.start();
    let (responder, cookie) = inputs.respond(&hello);
    let bytes = responder.to_bytes();
    let chaining_key = *responder.chaining_key();
    drop(responder);

    let responder = Responder::from_bytes(&bytes);
    assert_eq!(responder.chaining_key(), &chaining_key);
    assert_eq!(*responder.to_bytes(), *bytes);
    assert_eq!(bytes[96..], inputs.e_r);
    let (initiator, _) = read_cookie(&initiator, &cookie).unwrap();
    assert_eq!(initiator.chaining_key(), &chaining_key);
    let (_, _, split) = read_initiate(&responder, &expected.messages[2]).unwrap();
    assert_eq!(
        (&split.k1, &split.k2, &split.h),
        (&expected.split.k1, &expected.split.k2, &expected.split.h)
    );

    for changed in flips(&*bytes) {
        let changed = Responder::from_bytes(&changed.try_into().unwrap());
        let Ok((_, _, split)) = read_initiate(&changed, &expected.messages[2]) else {
            continue;
        };
        // X25519 ignores five bits of a private key: then nothing changes.
        assert_eq!(split.k1, expected.split.k1);
        assert!((0..96).all(|i| changed.to_bytes()[i] == bytes[i]));
    }
}

// spec: OVR-2
#[test]
fn threat_15_16_a_changed_message_1_fails() {
    let inputs = Inputs::small();
    let (_, hello) = inputs.start();
    let read = |message: &[u8]| Responder::read_hello(&inputs.prologue, &inputs.s_r(), message).map(|(_, p)| p);
    for bad in flips(&hello).chain(cuts(&hello)) {
        assert_eq!(read(&bad), Err(AuthError));
    }
    assert_eq!(read(&hello).unwrap(), inputs.payloads[0]);

    let other_key = Responder::read_hello(&inputs.prologue, &inputs.s_i(), &hello);
    assert_eq!(other_key.unwrap_err(), AuthError);
    for prologue in flips(&inputs.prologue).chain(cuts(&inputs.prologue)) {
        let read = Responder::read_hello(&prologue, &inputs.s_r(), &hello);
        assert_eq!(read.unwrap_err(), AuthError);
    }
}

// spec: OVR-2, NEG-6
#[test]
fn threat_15_16_a_changed_message_2_fails_and_the_true_one_still_counts() {
    let inputs = Inputs::small();
    let (initiator, hello) = inputs.start();
    let (responder, cookie) = inputs.respond(&hello);
    for bad in flips(&cookie).chain(cuts(&cookie)) {
        assert_eq!(read_cookie(&initiator, &bad).unwrap_err(), AuthError);
    }
    // Nor does the initiator take its own message for an answer.
    assert_eq!(read_cookie(&initiator, &hello).unwrap_err(), AuthError);
    let (next, payload) = read_cookie(&initiator, &cookie).unwrap();
    assert_eq!(payload, inputs.payloads[1]);
    assert_eq!(next.chaining_key(), responder.chaining_key());
}

// spec: OVR-2, NEG-10
#[test]
fn threat_15_16_a_changed_message_3_fails_and_the_true_one_still_counts() {
    let inputs = Inputs::small();
    let outcome = inputs.run();
    let (responder, _) = inputs.respond(&outcome.messages[0]);
    let initiate = &outcome.messages[2];
    for bad in flips(initiate).chain(cuts(initiate)) {
        assert_eq!(read_initiate(&responder, &bad).unwrap_err(), AuthError);
    }
    let (sealed_static, sealed) = initiate.split_first_chunk::<48>().unwrap();
    for bad in flips(sealed_static) {
        assert_eq!(responder.read_static(&bad.try_into().unwrap()).unwrap_err(), AuthError);
    }
    let (public, got_static) = responder.read_static(sealed_static).unwrap();
    assert_eq!(public, inputs.s_i().public());
    for bad in flips(sealed).chain(cuts(sealed)) {
        assert_eq!(got_static.read_payload(&bad).unwrap_err(), AuthError);
    }
    let (payload, split) = got_static.read_payload(sealed).unwrap();
    assert_eq!(payload, inputs.payloads[2]);
    assert_eq!(split.k1, outcome.split.k1);
}

#[test]
fn threat_12_messages_of_one_handshake_do_not_fit_another() {
    let inputs = Inputs::small();
    let other = Inputs {
        e_i: [5; 32],
        e_r: [6; 32],
        ..Inputs::small()
    };
    let (outcome, outcome_other) = (inputs.run(), other.run());
    let (initiator, _) = inputs.start();
    assert!(read_cookie(&initiator, &outcome_other.messages[1]).is_err());
    let (responder, _) = inputs.respond(&outcome.messages[0]);
    assert!(read_initiate(&responder, &outcome_other.messages[2]).is_err());
    assert_ne!(outcome.split.handshake_hash(), outcome_other.split.handshake_hash());
}

// Threat 7: an initiator without the victim's private key, but with the responder's, names the victim: key compromise
// impersonation.
#[test]
fn threat_07_nobody_is_impersonated_even_with_the_responders_key() {
    let inputs = Inputs::small();
    let victim = inputs.s_i().public();
    let (_, hello) = inputs.start();
    let (responder, cookie) = inputs.respond(&hello);
    let re = cookie.first_chunk::<32>().unwrap();
    let e = KeyPair::new(&inputs.e_i);
    let s_r = KeyPair::new(&inputs.s_r);

    let mut symmetric = SymmetricState::new(&inputs.prologue, s_r.public());
    symmetric.mix_hash(e.public());
    symmetric.mix_key(&e.agree(s_r.public()).unwrap());
    symmetric.decrypt_and_hash(&hello[32..]).unwrap();
    symmetric.mix_hash(re);
    symmetric.mix_key(&e.agree(re).unwrap());
    symmetric.decrypt_and_hash(&cookie[32..]).unwrap();
    let mut initiate = Vec::new();
    symmetric.encrypt_and_hash(&victim, &mut initiate);
    let (claimed, got_static) = responder.read_static(initiate.first_chunk().unwrap()).unwrap();
    assert_eq!(claimed, victim);

    let guesses = [
        e.agree(re),
        s_r.agree(re),
        s_r.agree(&victim),
        e.agree(&victim),
        Ok(Zeroizing::new([0; 32])),
    ];
    for guess in guesses {
        let mut symmetric = symmetric.clone();
        symmetric.mix_key(&guess.unwrap());
        let mut sealed = Vec::new();
        symmetric.encrypt_and_hash(b"frames", &mut sealed);
        assert_eq!(got_static.read_payload(&sealed).unwrap_err(), AuthError);
    }
}

// Threat 8: somebody records all packets, and gets the responder's key later: the initiator stays unknown.
#[test]
fn threat_08_the_responders_key_does_not_tell_who_the_initiator_was() {
    let inputs = Inputs::small();
    let messages = inputs.run().messages;
    let (hello, cookie, initiate) = (&messages[0], &messages[1], &messages[2]);
    let (e_i, e_r): (&[u8; 32], &[u8; 32]) = (hello.first_chunk().unwrap(), cookie.first_chunk().unwrap());
    let s_r = KeyPair::new(&inputs.s_r);
    let mut symmetric = SymmetricState::new(&inputs.prologue, s_r.public());
    symmetric.mix_hash(e_i);
    symmetric.mix_key(&s_r.agree(e_i).unwrap());
    assert_eq!(
        symmetric.decrypt_and_hash(&hello[32..]).unwrap(),
        b"one",
        "HELLO's parameters are told"
    );
    symmetric.mix_hash(e_r);
    // The parameters of COOKIE, and who the initiator is, need one of the ephemeral keys: they are gone.
    let guesses = [
        s_r.agree(e_i),
        s_r.agree(e_r),
        Ok(Zeroizing::new(*e_i)),
        Ok(Zeroizing::new([0; 32])),
    ];
    let without = std::iter::once(symmetric.clone());
    let with = guesses.into_iter().map(|guess| {
        let mut symmetric = symmetric.clone();
        symmetric.mix_key(&guess.unwrap());
        symmetric
    });
    for mut symmetric in without.chain(with) {
        assert!(symmetric.clone().decrypt_and_hash(&cookie[32..]).is_err());
        symmetric.mix_hash(&cookie[32..]);
        assert!(symmetric.clone().decrypt_and_hash(&initiate[..48]).is_err());
        assert!(symmetric.decrypt_and_hash(&initiate[48..]).is_err());
    }
    let key = inputs.s_i().public();
    assert!(
        !messages
            .iter()
            .any(|message| message.windows(32).any(|bytes| bytes == key))
    );
}

// Threat 8: somebody answers in the responder's place, without its key, to learn who asks.
#[test]
fn threat_08_whoever_lacks_the_responders_key_is_told_nothing() {
    let inputs = Inputs::small();
    let (initiator, hello) = inputs.start();
    let imposter = KeyPair::new(&[9; 32]);
    let e_i: &[u8; 32] = hello.first_chunk().unwrap();
    // What he can make: `ee`, with any guess at what HELLO has left in the chaining key.
    for es in [imposter.agree(e_i).unwrap(), Zeroizing::new([0; 32])] {
        let mut symmetric = SymmetricState::new(&inputs.prologue, &inputs.s_r().public());
        symmetric.mix_hash(e_i);
        symmetric.mix_key(&es);
        symmetric.mix_hash(&hello[32..]);
        let mut cookie = imposter.public().to_vec();
        symmetric.mix_hash(imposter.public());
        symmetric.mix_key(&imposter.agree(e_i).unwrap());
        symmetric.encrypt_and_hash(b"", &mut cookie);
        assert_eq!(read_cookie(&initiator, &cookie).unwrap_err(), AuthError);
    }
}

// spec: OVR-4
#[test]
fn threat_13_points_of_low_order_end_every_step() {
    let inputs = Inputs::small();
    let (initiator, hello) = inputs.start();
    for point in low_order_points() {
        let mut out = Vec::new();
        assert!(Initiator::start(&[], &point, [1; 32], &[], &mut out).is_err());
        assert!(out.is_empty());

        // Sealed under the zero that the Diffie-Hellman would give.
        let zero = Zeroizing::new([0; 32]);
        let mut symmetric = SymmetricState::new(&inputs.prologue, &inputs.s_r().public());
        symmetric.mix_hash(&point);
        symmetric.mix_key(&zero);
        let mut message = point.to_vec();
        symmetric.encrypt_and_hash(b"one", &mut message);
        assert!(Responder::read_hello(&inputs.prologue, &inputs.s_r(), &message).is_err());

        let mut symmetric = SymmetricState::new(&inputs.prologue, &inputs.s_r().public());
        symmetric.mix_hash(&hello[..32]);
        symmetric.mix_key(&KeyPair::new(&inputs.e_i).agree(&inputs.s_r().public()).unwrap());
        symmetric.decrypt_and_hash(&hello[32..]).unwrap();
        symmetric.mix_hash(&point);
        symmetric.mix_key(&zero);
        let mut sealed = Vec::new();
        symmetric.encrypt_and_hash(b"", &mut sealed);
        assert!(initiator.read_cookie(&point, &sealed).is_err());

        // An initiator that names the point as its key, as whoever holds `e` can.
        let (responder, _) = inputs.respond(&hello);
        let bytes = responder.to_bytes();
        let part = |i: usize| bytes[32 * i..32 * (i + 1)].try_into().unwrap();
        let mut symmetric = SymmetricState::from_parts(part(0), part(1), part(2), 1);
        let mut initiate = Vec::new();
        symmetric.encrypt_and_hash(&point, &mut initiate);
        symmetric.mix_key(&zero);
        let mut sealed = Vec::new();
        symmetric.encrypt_and_hash(b"three", &mut sealed);
        let (_, got_static) = responder.read_static(initiate.first_chunk().unwrap()).unwrap();
        assert!(got_static.read_payload(&sealed).is_err());
    }
}

#[test]
fn messages_are_appended() {
    let inputs = Inputs::small();
    let (_, hello) = inputs.start();
    let mut out = b"before".to_vec();
    let public = inputs.s_r().public();
    Initiator::start(&inputs.prologue, &public, inputs.e_i, &inputs.payloads[0], &mut out).unwrap();
    assert_eq!(out, [b"before", &hello[..]].concat());
}
