use serde_json::Value;

use super::*;
use crate::noise::Split;
use crate::schedule::{self, ChannelSecrets, EarlySecrets};
use crate::testing::{Fields, cuts, flips, hex, hex32};

const SUITES: [Suite; 2] = [Suite::ChaCha20Poly1305, Suite::Aes256Gcm];

// RFC 9001 appendix A.5.
#[test]
fn a_chacha20_packet_is_that_of_rfc_9001() {
    let key = hex32("c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8");
    let key = PacketKey {
        aead: AeadKey::new(AeadAlgorithm::ChaCha20Poly1305, &key),
        iv: <[u8; 12]>::try_from(hex("e0459b3474bdd0e44a41c144")).unwrap().into(),
    };
    let mut packet = vec![1];
    packet.resize(1 + TAG_LEN, 0);
    key.seal(654_360_564, &hex("4200bff4"), &mut packet);
    assert_eq!(packet, hex("655e5cd55c41f69080575d7999c25a5bfb"));

    let hp = hex32("25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4");
    let sample = hex("5e5cd55c41f69080575d7999c25a5bfb").try_into().unwrap();
    assert_eq!(
        HeaderKey::new(Suite::ChaCha20Poly1305, &hp).mask(&sample).to_vec(),
        hex("aefefe7d03")
    );
}

// FIPS 197 appendix C.3.
#[test]
fn an_aes_mask_is_the_block_cipher() {
    let key = hex32("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
    let sample = hex("00112233445566778899aabbccddeeff").try_into().unwrap();
    assert_eq!(
        HeaderKey::new(Suite::Aes256Gcm, &key).mask(&sample).to_vec(),
        hex("8ea2b7ca51")
    );
}

// The Galois/Counter Mode of Operation (McGrew, Viega), appendix B, test case 16.
#[test]
fn aes_gcm_is_that_of_its_specification() {
    let key = hex32("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
    let key = PacketKey {
        aead: AeadKey::new(AeadAlgorithm::Aes256Gcm, &key),
        iv: <[u8; 12]>::try_from(hex("cafebabefacedbaddecaf888")).unwrap().into(),
    };
    let mut packet = hex(concat!(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72",
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    ));
    packet.resize(packet.len() + TAG_LEN, 0);
    key.seal(0, &hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"), &mut packet);
    let expected = concat!(
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa",
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
        "76fc6ece0f4e1768cddf8853bb2d551b"
    );
    assert_eq!(packet, hex(expected));
}

// spec: PRT-2
#[test]
fn only_the_packet_that_was_sealed_opens() {
    for suite in SUITES {
        let secret = schedule::Secret::new([1; 32]);
        let key = PacketKey::new(suite, &secret);
        let plaintext = b"some frames";
        let mut sealed = plaintext.to_vec();
        sealed.resize(sealed.len() + TAG_LEN, 0);
        key.seal(77, b"header", &mut sealed);
        let open = |key: &PacketKey, seq, aad: &[u8], sealed: &[u8]| {
            let mut buf = sealed.to_vec();
            let len = key.open(seq, aad, &mut buf)?;
            buf.truncate(len);
            Ok::<_, AuthError>(buf)
        };
        assert_eq!(open(&key, 77, b"header", &sealed).unwrap(), plaintext);

        for bad in flips(&sealed).chain(cuts(&sealed)) {
            assert_eq!(open(&key, 77, b"header", &bad), Err(AuthError));
        }
        for aad in flips(b"header").chain(cuts(b"header")) {
            assert_eq!(open(&key, 77, &aad, &sealed), Err(AuthError));
        }
        for bit in 0..64 {
            assert_eq!(
                open(&key, 77 ^ (1 << bit), b"header", &sealed),
                Err(AuthError),
                "bit {bit}"
            );
        }
        let next = PacketKey::new(suite, &secret.next());
        assert_eq!(open(&next, 77, b"header", &sealed), Err(AuthError));
        let other = PacketKey::new(suite, &schedule::Secret::new([2; 32]));
        assert_eq!(open(&other, 77, b"header", &sealed), Err(AuthError));
    }
}

#[test]
fn packets_without_frames_are_sealed_too() {
    for suite in SUITES {
        let key = PacketKey::new(suite, &schedule::Secret::new([1; 32]));
        let mut buf = [0; TAG_LEN];
        key.seal(u64::MAX, b"", &mut buf);
        assert_eq!(key.open(u64::MAX, b"", &mut buf), Ok(0));
        assert_eq!(key.open(0, b"", &mut []), Err(AuthError));
    }
}

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../sss-wire/tests/vectors/protection.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn suite(vector: &Value) -> Suite {
    match vector.number("suite") {
        1 => Suite::ChaCha20Poly1305,
        2 => Suite::Aes256Gcm,
        n => panic!("suite {n}"),
    }
}

/// All secrets of one of the vectors' schedules.
struct Schedule {
    early: EarlySecrets,
    channel: ChannelSecrets,
}

impl Schedule {
    fn new(vector: &Value) -> Self {
        let split = Split::from_keys(vector.bytes32("k1"), vector.bytes32("k2"), vector.bytes32("h"));
        Self {
            early: EarlySecrets::from(&split),
            channel: ChannelSecrets::derive(&split, &vector.bytes32("n_r")),
        }
    }

    fn of(vectors: &Value, vector: &Value) -> Self {
        Self::new(&vectors.list("schedules")[vector.number("schedule") as usize])
    }

    fn secret(&self, vector: &Value) -> Secret {
        let is_initiator = vector.text("direction") == "i";
        let generation = vector.number("generation");
        if is_initiator && generation == 0 {
            return self.early.initiator.clone();
        }
        let first = if is_initiator {
            &self.channel.initiator
        } else {
            &self.channel.responder
        };
        (1..generation).fold(first.clone(), |secret, _| secret.next())
    }

    fn keys(&self, vector: &Value) -> (PacketKey, HeaderKey) {
        let header = match vector.text("direction") {
            "i" => self.channel.initiator_header(),
            _ => self.channel.responder_header(),
        };
        let packet = PacketKey::new(suite(vector), &self.secret(vector));
        (packet, HeaderKey::new(suite(vector), header))
    }
}

/// Masks, or unmasks, a header: its first byte and its sequence number of `len` bytes at `at` (PRT-3).
fn apply_mask(packet: &mut [u8], at: usize, len: usize, mask: [u8; 5]) {
    packet[0] ^= mask[0] & 0x1f;
    for (byte, mask) in packet[at..at + len].iter_mut().zip(&mask[1..]) {
        *byte ^= mask;
    }
}

/// Opens a whole short packet; its sequence number and plaintext.
fn open_packet(
    (key, header_key): &(PacketKey, HeaderKey),
    packet: &[u8],
    id_len: usize,
    expected_next: u64,
) -> Option<(u64, Vec<u8>)> {
    let mut packet = packet.to_vec();
    let at = 1 + id_len;
    let mask = header_key.mask(packet.get(at + 4..at + 20)?.try_into().ok()?);
    let len = usize::from((packet[0] ^ mask[0]) & 3) + 1;
    apply_mask(&mut packet, at, len, mask);
    let (header, sealed) = packet.split_at_mut(at + len);
    let truncated = header[at..].iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
    // RFC 9000 appendix A.3.
    let window = 1u64 << (8 * len);
    let near = (expected_next & !(window - 1)) | truncated;
    let sequence = match near {
        n if n + window / 2 <= expected_next && n + window < 1 << 62 => n + window,
        n if n > expected_next + window / 2 && n >= window => n - window,
        n => n,
    };
    let len = key.open(sequence, header, sealed).ok()?;
    Some((sequence, sealed[..len].to_vec()))
}

#[test]
fn labels_are_those_of_the_vectors() {
    for vector in vectors().list("labels") {
        let mut out = vec![0; vector.number("length") as usize];
        schedule::label(
            &vector.bytes("secret"),
            vector.text("label"),
            &vector.bytes("context"),
            &mut out,
        );
        assert_eq!(out, vector.bytes("output"), "{vector}");
    }
}

#[test]
fn schedules_are_those_of_the_vectors() {
    for vector in vectors().list("schedules") {
        let schedule = Schedule::new(vector);
        let channel = &schedule.channel;
        let master = schedule::hkdf_extract(&vector.bytes32("n_r"), &[&vector.bytes32("k1"), &vector.bytes32("k2")]);
        assert_eq!(*master, vector.bytes32("master"));
        assert_eq!(channel.initiator_header(), &vector.bytes32("hp_i"));
        assert_eq!(channel.responder_header(), &vector.bytes32("hp_r"));
        assert_eq!(channel.half_initiator.to_vec(), vector.bytes("half_i"));
        assert_eq!(channel.half_responder.to_vec(), vector.bytes("half_r"));
        for generation in vector.list("generations") {
            let secret = schedule.secret(generation);
            assert_eq!(secret, Secret::new(generation.bytes32("secret")), "{generation}");
            let (key, iv) = secret.key_and_iv();
            assert_eq!(*key, generation.bytes32("key"), "{generation}");
            assert_eq!(iv.to_vec(), generation.bytes("iv"), "{generation}");
        }
    }
}

// spec: PRT-2, PRT-3, VEC-12
#[test]
fn packets_are_those_of_the_vectors() {
    let vectors = vectors();
    for vector in vectors.list("packets") {
        let keys = Schedule::of(&vectors, vector).keys(vector);
        let (key, header_key) = &keys;
        let sequence = vector.number("sequence");
        let header = vector.bytes("header");
        let mut sealed = vector.bytes("plaintext");
        sealed.resize(sealed.len() + TAG_LEN, 0);
        assert_eq!(key.nonce(sequence).to_vec(), vector.bytes("nonce"), "{vector}");
        key.seal(sequence, &header, &mut sealed);
        assert_eq!(sealed, vector.bytes("sealed"), "{vector}");

        let len = vector.number("sequence_len") as usize;
        let at = header.len() - len;
        assert_eq!(header[1..at], vector.bytes("channel_id"), "{vector}");
        let mut packet = [header, sealed].concat();
        let sample = packet[at + 4..at + 20].try_into().unwrap();
        assert_eq!(&sample, &vector.bytes("sample")[..], "{vector}");
        let mask = header_key.mask(&sample);
        assert_eq!(mask.to_vec(), vector.bytes("mask"), "{vector}");
        apply_mask(&mut packet, at, len, mask);
        assert_eq!(&packet[..at + len], &vector.bytes("masked_header")[..], "{vector}");
        assert_eq!(packet, vector.bytes("packet"), "{vector}");

        let (number, plaintext) = open_packet(&keys, &packet, at - 1, sequence).unwrap();
        assert_eq!(number, sequence, "{vector}");
        assert_eq!(plaintext, vector.bytes("plaintext"), "{vector}");
    }
}

// spec: PRT-2, OVR-2, VEC-4, VEC-12
#[test]
fn packets_that_were_not_sent_so_do_not_open() {
    let vectors = vectors();
    for vector in vectors.list("invalid") {
        let keys = Schedule::of(&vectors, vector).keys(vector);
        let id_len = vector.number("channel_id_len") as usize;
        let opened = open_packet(&keys, &vector.bytes("packet"), id_len, vector.number("expected_next"));
        assert_eq!(opened, None, "{vector}");
    }
}

// spec: PRT-1
#[test]
fn accepts_are_those_of_the_vectors() {
    let vectors = vectors();
    for vector in vectors.list("accepts") {
        let schedule = Schedule::of(&vectors, vector);
        let key = PacketKey::new(suite(vector), &schedule.channel.responder);
        let header = vector.bytes("header");
        assert_eq!(header.len(), 45);
        let mut sealed = vector.bytes("plaintext");
        sealed.resize(sealed.len() + TAG_LEN, 0);
        key.seal(0, &header, &mut sealed);
        assert_eq!([header, sealed].concat(), vector.bytes("packet"), "{vector}");
    }
}

// spec: PRT-20, VEC-12
#[test]
fn packets_with_reserved_bits_open_and_can_be_told() {
    let vectors = vectors();
    for vector in vectors.list("dropped") {
        let keys = Schedule::of(&vectors, vector).keys(vector);
        let id_len = vector.number("channel_id_len") as usize;
        let mut packet = vector.bytes("packet");
        let opened = open_packet(&keys, &packet, id_len, vector.number("expected_next"));
        assert!(opened.is_some(), "{vector}");
        let mask = keys.1.mask(sss_wire::short::sample(&packet, id_len).unwrap());
        sss_wire::short::unmask(&mut packet, id_len, &mask).unwrap();
        assert!(sss_wire::short::has_reserved_bits(packet[0]), "{vector}");
        // Without the bits it is another packet.
        let mut cleared = vector.bytes("packet");
        cleared[0] ^= packet[0] & sss_wire::short::RESERVED;
        let opened = open_packet(&keys, &cleared, id_len, vector.number("expected_next"));
        assert_eq!(opened, None, "{vector}");
    }
}

// The keys are the provider's, which wipes them.
#[test]
fn secrets_are_wiped() {
    let secret = crate::schedule::Secret::new([1; 32]);
    let PacketKey { aead: _, iv } = PacketKey::new(Suite::Aes256Gcm, &secret);
    crate::testing::is_wiped(&iv);
    let PacketSecret { key, iv } = PacketSecret::new(&secret);
    crate::testing::is_wiped(&iv);
    crate::testing::is_wiped(&key);
    let HeaderSecret(header) = HeaderSecret::new(&[2; 32]);
    crate::testing::is_wiped(&header);
}
