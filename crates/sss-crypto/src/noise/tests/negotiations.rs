//! The whole negotiations of `negotiation.json`, in both roles.

use sss_wire::long::{self, Accept, Cookie, CookieK, Hello, HelloK, Initiate, Long, Retry};
use sss_wire::params::{CookieParams, HelloParams, Settings};
use sss_wire::short::{self, Header};
use sss_wire::{ChannelId, Writer, frame};

use super::*;
use crate::packet::{HeaderKey, PacketKey, TAG_LEN};
use crate::schedule::{self, ChannelSecrets, EarlySecrets, Secret};
use crate::{Suite, constant_time_eq, kem, mac16};

fn negotiations() -> Vec<Value> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../sss-wire/tests/vectors/negotiation.json"
    );
    let vectors: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let negotiations = vectors.list("negotiations").to_vec();
    assert!(negotiations.iter().any(|v| v.suite() == Suite::ChaCha20Poly1305));
    assert!(negotiations.iter().any(|v| v.suite() == Suite::Aes256Gcm));
    assert!(negotiations.iter().any(|v| v.retry().is_some()));
    assert!(negotiations.iter().any(|v| v.has_leg() && v.retry().is_none()));
    assert!(negotiations.iter().any(|v| v.has_leg() && v.retry().is_some()));
    negotiations
}

/// The parts of a negotiation's vector.
trait Negotiation {
    fn vector(&self) -> &Value;

    fn suite(&self) -> Suite {
        match self.vector().number("suite") {
            1 => Suite::ChaCha20Poly1305,
            2 => Suite::Aes256Gcm,
            n => panic!("suite {n}"),
        }
    }

    fn version(&self) -> u32 {
        self.vector().number("version") as u32
    }

    fn attempt(&self) -> [u8; 8] {
        self.vector().bytes("attempt").try_into().unwrap()
    }

    fn retry(&self) -> Option<&Value> {
        Some(&self.vector()["retry"]).filter(|retry| !retry.is_null())
    }

    fn has_leg(&self) -> bool {
        !self.vector()["hello_k"].is_null()
    }

    /// The secret of the leg, if there is one.
    fn leg_secret(&self) -> Option<[u8; 32]> {
        self.has_leg().then(|| self.vector()["cookie_k"].bytes32("secret"))
    }

    /// The cookie of COOKIE_K, empty without the leg.
    fn kem_cookie(&self) -> Vec<u8> {
        match self.has_leg() {
            true => self.vector()["cookie_k"].bytes("cookie"),
            false => Vec::new(),
        }
    }

    fn static_key(&self, role: &str) -> StaticKey {
        StaticKey::from_bytes(self.vector()[role].bytes32("static_secret"))
    }

    fn ephemeral(&self, role: &str) -> [u8; 32] {
        self.vector()[role].bytes32("ephemeral_secret")
    }

    fn packet(&self, name: &str) -> Vec<u8> {
        self.vector()[name].bytes("packet")
    }

    /// The HELLO that is answered with COOKIE.
    fn last_hello(&self) -> Vec<u8> {
        self.retry()
            .map_or_else(|| self.packet("hello"), |retry| retry.bytes("hello"))
    }

    fn hello_payload(&self) -> Vec<u8> {
        let mut payload = self.vector()["hello"].bytes("parameters");
        payload.resize(long::HELLO_PAYLOAD, 0);
        payload
    }

    fn start(&self) -> (Initiator<SentHello>, Vec<u8>) {
        let public = self.vector()["responder"].bytes32("static_public");
        let prologue = prologue(self.version(), &self.attempt());
        let (secret, payload) = (self.ephemeral("initiator"), self.hello_payload());
        let mut message = Vec::new();
        let noise = Initiator::start(&prologue, &public, secret, &payload, &mut message).unwrap();
        (noise, message)
    }

    /// Reads a HELLO as the responder.
    fn read_hello(&self, hello: &[u8]) -> Result<(Responder<GotHello>, Vec<u8>), AuthError> {
        let hello = parse_hello(hello);
        let prologue = prologue(hello.version, hello.attempt);
        Responder::read_hello(&prologue, &self.static_key("responder"), hello.noise)
    }

    fn respond(&self) -> (Responder<SentCookie>, Vec<u8>) {
        let (noise, _) = self.read_hello(&self.last_hello()).unwrap();
        let mut message = Vec::new();
        let payload = self.vector()["cookie"].bytes("parameters");
        let noise = noise.write_cookie(self.ephemeral("responder"), &payload, &mut message);
        (noise.unwrap(), message)
    }
}

impl Negotiation for Value {
    fn vector(&self) -> &Value {
        self
    }
}

/// NEG-4.
fn prologue(version: u32, attempt: &[u8; 8]) -> Vec<u8> {
    [b"SSS negotiation ", &version.to_be_bytes()[..], attempt].concat()
}

fn parse_hello(packet: &[u8]) -> Hello<'_> {
    match Long::parse(packet) {
        Ok(Long::Hello(hello)) => hello,
        other => panic!("not HELLO: {other:?}"),
    }
}

fn parse_hello_k(packet: &[u8]) -> HelloK<'_> {
    match Long::parse(packet) {
        Ok(Long::HelloK(hello_k)) => hello_k,
        other => panic!("not HELLO_K: {other:?}"),
    }
}

fn parse_cookie_k(packet: &[u8]) -> CookieK<'_> {
    match Long::parse(packet) {
        Ok(Long::CookieK(cookie_k)) => cookie_k,
        other => panic!("not COOKIE_K: {other:?}"),
    }
}

fn parse_retry(packet: &[u8]) -> Retry<'_> {
    match Long::parse(packet) {
        Ok(Long::Retry(retry)) => retry,
        other => panic!("not RETRY: {other:?}"),
    }
}

fn parse_cookie(packet: &[u8]) -> Cookie<'_> {
    match Long::parse(packet) {
        Ok(Long::Cookie(cookie)) => cookie,
        other => panic!("not COOKIE: {other:?}"),
    }
}

fn parse_initiate(packet: &[u8]) -> Initiate<'_> {
    match Long::parse(packet) {
        Ok(Long::Initiate(initiate)) => initiate,
        other => panic!("not INITIATE: {other:?}"),
    }
}

fn parse_accept(packet: &[u8]) -> Accept<'_> {
    match Long::parse(packet) {
        Ok(Long::Accept(accept)) => accept,
        other => panic!("not ACCEPT: {other:?}"),
    }
}

/// NEG-6.
fn cookie_mac(chaining_key: &[u8; 32], authed: &[u8]) -> [u8; 16] {
    let mut key = [0; 32];
    schedule::label(chaining_key, "cookie mac", b"", &mut key);
    mac16(&key, &[authed])
}

fn has_right_mac(cookie: &Cookie<'_>, chaining_key: &[u8; 32]) -> bool {
    constant_time_eq(&cookie_mac(chaining_key, cookie.authed), cookie.mac)
}

fn assert_state(symmetric: &SymmetricState, expected: &Value) {
    let parts = ["ck", "h", "k"].map(|name| expected.bytes32(name));
    assert_eq!(symmetric.parts(), parts.each_ref(), "{expected}");
}

fn assert_split(split: &Split, expected: &Value) {
    assert_eq!(*split.k1, expected.bytes32("k1"));
    assert_eq!(*split.k2, expected.bytes32("k2"));
    assert_eq!(*split.h, expected.bytes32("h"));
    assert_eq!(split.handshake_hash(), &expected.bytes32("h"));
}

/// The list of the SETTINGS that frames must begin with.
fn settings(frames: &[u8]) -> Settings {
    let frames: Result<Vec<_>, _> = frame::Frames::new(frames).collect();
    match frames.unwrap().first() {
        Some(frame::Frame::Settings(list)) => Settings::decode(list).unwrap(),
        other => panic!("not SETTINGS: {other:?}"),
    }
}

/// The keys of a channel, the same in both roles.
struct Keys {
    suite: Suite,
    early: EarlySecrets,
    channel: ChannelSecrets,
}

impl Keys {
    /// Derives them, and compares all with the vector.
    fn checked(suite: Suite, split: &Split, n_r: &[u8; 32], expected: &Value) -> Self {
        assert_split(split, expected);
        assert_eq!(n_r, &expected.bytes32("n_r"));
        let early = EarlySecrets::from(split);
        let channel = ChannelSecrets::derive(split, n_r);
        let master = schedule::hkdf_extract(n_r, &[&*split.k1, &*split.k2]);
        assert_eq!(*master, expected.bytes32("master"));
        assert_eq!(early.initiator_header(), &expected.bytes32("hp_i"));
        assert_eq!(early.responder_header(), &expected.bytes32("hp_r"));
        assert_eq!(channel.initiator_header(), &expected.bytes32("hp_i"));
        assert_eq!(channel.responder_header(), &expected.bytes32("hp_r"));
        assert_eq!(early.initiator, Secret::new(expected.bytes32("s_i0")));
        assert_eq!(channel.initiator, Secret::new(expected.bytes32("s_i1")));
        assert_eq!(channel.responder, Secret::new(expected.bytes32("s_r1")));
        assert_eq!(channel.half_initiator.to_vec(), expected.bytes("half_i"));
        assert_eq!(channel.half_responder.to_vec(), expected.bytes("half_r"));
        Self { suite, early, channel }
    }

    fn of(&self, direction: &str, generation: u64) -> (PacketKey, HeaderKey) {
        let (secret, header) = match (direction, generation) {
            ("i", 0) => (&self.early.initiator, self.early.initiator_header()),
            ("i", 1) => (&self.channel.initiator, self.channel.initiator_header()),
            ("r", 1) => (&self.channel.responder, self.channel.responder_header()),
            _ => panic!("no generation {generation} of {direction}"),
        };
        (PacketKey::new(self.suite, secret), HeaderKey::new(self.suite, header))
    }

    /// Seals frames as packet 0 of the responder behind ACCEPT's header.
    fn seal_accept(&self, header: &[u8], frames: &[u8]) -> Vec<u8> {
        let mut sealed = frames.to_vec();
        sealed.resize(frames.len() + TAG_LEN, 0);
        self.of("r", 1).0.seal(0, header, &mut sealed);
        sealed
    }

    fn open_accept(&self, seq: u64, header: &[u8], sealed: &[u8]) -> Result<Vec<u8>, AuthError> {
        let mut frames = sealed.to_vec();
        let len = self.of("r", 1).0.open(seq, header, &mut frames)?;
        frames.truncate(len);
        Ok(frames)
    }

    fn assert_seals_short(&self, vector: &Value) {
        let sequence = vector.number("sequence");
        let generation = vector.number("generation");
        let header = Header {
            key_phase: generation & 1 != 0,
            channel_id: ChannelId::new(&vector.bytes("channel_id")).unwrap(),
            sequence: sequence as u32,
            sequence_len: vector.number("sequence_len") as usize,
        };
        let plaintext = vector.bytes("plaintext");
        assert!(plaintext.len() >= short::min_plaintext_len(header.sequence_len));
        let mut packet = vec![0; short::packet_len(&header, plaintext.len())];
        let (written, sealed) = packet.split_at_mut(header.encoded_len());
        short::write_header(&mut Writer::new(written), &header);
        assert_eq!(written, vector.bytes("header"));
        sealed[..plaintext.len()].copy_from_slice(&plaintext);
        let (key, header_key) = self.of(vector.text("direction"), generation);
        key.seal(sequence, written, sealed);
        let id_len = header.channel_id.len();
        let mask = header_key.mask(short::sample(&packet, id_len).unwrap());
        short::mask(&mut packet, id_len, &mask).unwrap();
        assert_eq!(packet, vector.bytes("packet"), "{vector}");
    }

    /// Opens a short packet as its receiver does, which gave its sender `own` as channel id.
    fn assert_opens_short(&self, vector: &Value, own: &ChannelId) {
        let generation = vector.number("generation");
        let (key, header_key) = self.of(vector.text("direction"), generation);
        let mut packet = vector.bytes("packet");
        let mask = header_key.mask(short::sample(&packet, own.len()).unwrap());
        let header = short::unmask(&mut packet, own.len(), &mask).unwrap();
        assert!(!short::has_reserved_bits(packet[0]));
        assert_eq!(&header.channel_id, own);
        assert_eq!(header.key_phase, generation & 1 != 0);
        let expected_next = vector.number("sequence");
        let sequence = short::recover_sequence(header.sequence, header.sequence_len, expected_next);
        assert_eq!(sequence, expected_next);
        let (header, sealed) = packet.split_at_mut(header.encoded_len());
        assert_eq!(header, vector.bytes("header"));
        let len = key.open(sequence, header, sealed).unwrap();
        assert_eq!(sealed[..len], vector.bytes("plaintext"), "{vector}");
        assert!(frame::Frames::new(&sealed[..len]).all(|frame| frame.is_ok()));
    }

    fn assert_shorts(&self, vector: &Value, role: &str, own: &ChannelId) {
        let shorts = vector.list("short");
        let kinds = shorts.iter().map(|v| (v.text("direction"), v.number("generation")));
        assert!(kinds.eq([("i", 0), ("r", 1), ("i", 1)]));
        for vector in shorts {
            if vector.text("direction") == role {
                self.assert_seals_short(vector);
            } else {
                self.assert_opens_short(vector, own);
            }
        }
    }
}

fn assert_public_keys(vector: &Value, role: &str) {
    let keys = &vector[role];
    assert_eq!(vector.static_key(role).public(), keys.bytes32("static_public"));
    let ephemeral = KeyPair::new(&Zeroizing::new(keys.bytes32("ephemeral_secret")));
    assert_eq!(ephemeral.public(), &keys.bytes32("ephemeral_public"));
}

// spec: NEG-4
#[test]
fn each_message_leaves_the_state_of_the_vectors() {
    for vector in negotiations() {
        assert_eq!(vector.bytes("prologue"), prologue(vector.version(), &vector.attempt()));
        assert_eq!(vector.bytes("prologue").len(), 28);
        assert_public_keys(&vector, "initiator");
        assert_public_keys(&vector, "responder");
        let pair = |role: &str, name: &str| KeyPair::new(&Zeroizing::new(vector[role].bytes32(name)));
        let [s_i, s_r] = ["initiator", "responder"].map(|role| pair(role, "static_secret"));
        let [e_i, e_r] = ["initiator", "responder"].map(|role| pair(role, "ephemeral_secret"));
        // Each Diffie-Hellman as both sides do it.
        let agree = |step: &str, name: &str, a: &KeyPair, b: &KeyPair| {
            let shared = a.agree(b.public()).unwrap();
            assert_eq!(*shared, *b.agree(a.public()).unwrap());
            assert_eq!(*shared, vector[step].bytes32(name));
            shared
        };

        let mut symmetric = SymmetricState::new(&vector.bytes("prologue"), s_r.public());
        assert_eq!(
            symmetric.parts()[..2],
            ["ck", "h"].map(|n| vector["start"].bytes32(n)).each_ref()
        );
        let mut sealed = Vec::new();
        symmetric.mix_hash(e_i.public());
        symmetric.mix_key(&agree("hello", "es", &e_i, &s_r));
        symmetric.encrypt_and_hash(&vector.hello_payload(), &mut sealed);
        assert_state(&symmetric, &vector["hello"]);

        symmetric.mix_hash(e_r.public());
        symmetric.mix_key(&agree("cookie", "ee", &e_i, &e_r));
        symmetric.encrypt_and_hash(&vector["cookie"].bytes("parameters"), &mut sealed);
        assert_state(&symmetric, &vector["cookie"]);

        if let Some(secret) = vector.leg_secret() {
            symmetric.mix_key_and_hash(&secret);
            assert_state(&symmetric, &vector["cookie_k"]);
        }

        sealed.clear();
        symmetric.encrypt_and_hash(s_i.public(), &mut sealed);
        assert_eq!(sealed, vector["initiate"].bytes("sealed_static"));
        symmetric.mix_key(&agree("initiate", "se", &s_i, &e_r));
        symmetric.encrypt_and_hash(&vector["initiate"].bytes("frames"), &mut sealed);
        assert_state(&symmetric, &vector["initiate"]);
        assert_split(&symmetric.split(), &vector["schedule"]);
    }
}

/// The initiator from HELLO to a checked COOKIE.
fn initiator_to_cookie(vector: &Value, packet: &[u8]) -> (Initiator<GotCookie>, CookieParams) {
    let (version, attempt) = (vector.version(), vector.attempt());
    let (noise, message) = vector.start();
    let mut hello = long::hello(version, &attempt, &[0; 16], &message);
    assert_eq!(hello, vector.packet("hello"));
    if let Some(vector) = vector.retry() {
        let packet = vector.bytes("packet");
        let retry = parse_retry(&packet);
        assert_eq!((retry.version, retry.attempt), (version, &attempt));
        assert_eq!(retry.token.to_vec(), vector.bytes("token"));
        long::set_token(&mut hello, retry.token);
        assert_eq!(hello, vector.bytes("hello"));
    }

    let cookie = parse_cookie(packet);
    assert_eq!((cookie.version, cookie.attempt), (version, &attempt));
    let (noise, payload) = noise.read_cookie(cookie.e, cookie.sealed).unwrap();
    assert_eq!(noise.chaining_key(), &vector["cookie"].bytes32("ck"));
    assert!(has_right_mac(&cookie, noise.chaining_key()));
    assert_eq!(payload, vector["cookie"].bytes("parameters"));
    (noise, CookieParams::decode(&payload).unwrap())
}

/// The initiator's side of the leg, from HELLO_K to what COOKIE_K has brought: the secret.
fn initiator_leg(vector: &Value, mac_key: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let (version, attempt) = (vector.version(), vector.attempt());
    let (sent, received) = (&vector["hello_k"], &vector["cookie_k"]);
    let key = kem::DecapsulationKey::from_seed(sent.bytes("seed").try_into().unwrap());
    assert_eq!(key.encapsulation_key().to_vec(), sent.bytes("key"));
    let name = kem::hello_name(&vector["initiator"].bytes32("ephemeral_public"));
    assert_eq!(name.to_vec(), sent.bytes("hello"));
    let mut hello_k = long::hello_k(version, &attempt, &[0; 16], &name, key.encapsulation_key());
    assert_eq!(hello_k, sent.bytes("packet"));
    if let Some(retry) = vector.retry() {
        long::set_token(&mut hello_k, &retry.bytes("token").try_into().unwrap());
        assert_eq!(hello_k, retry.bytes("hello_k"));
    }

    let packet = received.bytes("packet");
    let cookie_k = parse_cookie_k(&packet);
    assert_eq!((cookie_k.version, cookie_k.attempt), (version, &attempt));
    assert_eq!(cookie_k.cookie, received.bytes("cookie"));
    let transcript = kem::transcript(parse_hello_k(&hello_k).authed, cookie_k.ciphertext);
    assert_eq!(transcript, received.bytes32("transcript"));
    assert_eq!(mac_key, &received.bytes32("mac_key"));
    assert_eq!(cookie_k.mac, &mac16(mac_key, &[cookie_k.authed, &transcript]));
    let shared = key.decapsulate(cookie_k.ciphertext);
    assert_eq!(*shared, received.bytes32("shared"));
    kem::leg_secret(&shared, &transcript)
}

// spec: NEG-4, NEG-6, NEG-16, NEG-30, NEG-32, NEG-34, PRT-1, PRT-2, PRT-3, VEC-14
#[test]
fn the_initiator_sends_and_reads_the_packets_of_the_vectors() {
    for vector in negotiations() {
        let (version, attempt) = (vector.version(), vector.attempt());
        let packet = vector.packet("cookie");
        let (mut noise, params) = initiator_to_cookie(&vector, &packet);
        assert_eq!(params.kem.is_some(), vector.has_leg());
        if let Some(mac_key) = &params.kem {
            let secret = initiator_leg(&vector, mac_key);
            assert_eq!(Some(*secret), vector.leg_secret());
            noise.mix_kem(&secret);
        }
        assert_eq!(u64::from(params.suite as u8), vector.number("suite"));
        let cookie = parse_cookie(&packet).cookie;
        assert_eq!(cookie, vector["cookie"].bytes("cookie"));

        let frames = vector["initiate"].bytes("frames");
        assert!(frames.len() <= long::initiate_room(cookie.len(), vector.kem_cookie().len()));
        let mut message = Vec::new();
        let key = vector.static_key("initiator");
        let split = noise.write_initiate(&key, &frames, &mut message).unwrap();
        let initiate = long::initiate(version, &attempt, cookie, &vector.kem_cookie(), &message);
        assert_eq!(initiate, vector.packet("initiate"));

        let packet = vector.packet("accept");
        let accept = parse_accept(&packet);
        assert_eq!((accept.version, accept.attempt), (version, &attempt));
        let keys = Keys::checked(vector.suite(), &split, accept.nonce, &vector["schedule"]);
        let frames_r = keys.open_accept(0, accept.header, accept.sealed_frames).unwrap();
        assert_eq!(frames_r, vector["accept"].bytes("frames"));
        assert_eq!(settings(&frames_r).channel_id, None);

        let own = settings(&frames).channel_id.unwrap();
        keys.assert_shorts(&vector, "i", &own);
        for sent in vector.list("short").iter().filter(|v| v.text("direction") == "i") {
            assert_eq!(sent.bytes("channel_id"), params.channel_id.as_slice());
        }
    }
}

/// The responder's side of the leg: COOKIE_K, and the secret.
fn responder_leg(vector: &Value) -> Zeroizing<[u8; 32]> {
    let (version, attempt) = (vector.version(), vector.attempt());
    let (received, sent) = (&vector["hello_k"], &vector["cookie_k"]);
    let packet = received.bytes("packet");
    let hello_k = parse_hello_k(&packet);
    assert_eq!(hello_k.key.to_vec(), received.bytes("key"));
    let (ciphertext, shared) = kem::encapsulate(hello_k.key, sent.bytes32("m")).unwrap();
    assert_eq!(ciphertext.to_vec(), sent.bytes("ciphertext"));
    assert_eq!(*shared, sent.bytes32("shared"));
    let transcript = kem::transcript(hello_k.authed, &ciphertext);
    let mut cookie_k = long::cookie_k_without_mac(version, &attempt, &ciphertext, &sent.bytes("cookie"));
    let mac = mac16(&sent.bytes32("mac_key"), &[&cookie_k, &transcript]);
    assert_eq!(mac.to_vec(), sent.bytes("mac"));
    cookie_k.extend_from_slice(&mac);
    assert_eq!(cookie_k, sent.bytes("packet"));
    kem::leg_secret(&shared, &transcript)
}

// spec: NEG-4, NEG-6, NEG-16, NEG-30, NEG-32, NEG-34, PRT-1, PRT-2, PRT-3, VEC-14
#[test]
fn the_responder_reads_and_sends_the_packets_of_the_vectors() {
    for vector in negotiations() {
        let (version, attempt) = (vector.version(), vector.attempt());
        if let Some(retry) = vector.retry() {
            let token = retry.bytes("token").try_into().unwrap();
            assert_eq!(long::retry(version, &attempt, &token), retry.bytes("packet"));
            assert_eq!(parse_hello(&vector.last_hello()).token, &token);
        }
        let (_, payload) = vector.read_hello(&vector.last_hello()).unwrap();
        assert_eq!(payload, vector.hello_payload());

        let (noise, message) = vector.respond();
        let blob = vector["cookie"].bytes("cookie");
        let mut cookie = long::cookie_without_mac(version, &attempt, &message, &blob);
        let mac = cookie_mac(noise.chaining_key(), &cookie);
        assert_eq!(mac.to_vec(), vector["cookie"].bytes("mac"));
        cookie.extend_from_slice(&mac);
        assert_eq!(cookie, vector.packet("cookie"));
        let state = noise.to_bytes();
        let parts = ["ck", "h", "k"].map(|name| vector["cookie"].bytes32(name));
        assert_eq!(
            state[..],
            [parts.as_flattened(), &vector.ephemeral("responder")].concat()
        );

        // As from a cookie that came back.
        let mut noise = Responder::from_bytes(&state);
        if vector.has_leg() {
            noise.mix_kem(&responder_leg(&vector));
        }
        let packet = vector.packet("initiate");
        let initiate = parse_initiate(&packet);
        assert_eq!((initiate.version, initiate.attempt), (version, &attempt));
        assert_eq!((initiate.cookie, initiate.kem), (&blob[..], &vector.kem_cookie()[..]));
        let (public, noise) = noise.read_static(initiate.sealed_static).unwrap();
        assert_eq!(public, vector["initiator"].bytes32("static_public"));
        let (frames, split) = noise.read_payload(initiate.sealed_frames).unwrap();
        assert_eq!(frames, vector["initiate"].bytes("frames"));

        let n_r = vector["schedule"].bytes32("n_r");
        let keys = Keys::checked(vector.suite(), &split, &n_r, &vector["schedule"]);
        let header = long::accept_header(version, &attempt, &n_r);
        let sealed = keys.seal_accept(&header, &vector["accept"].bytes("frames"));
        let accept = long::accept(version, &attempt, &n_r, &sealed);
        assert_eq!(accept, vector.packet("accept"));

        let own = CookieParams::decode(&vector["cookie"].bytes("parameters")).unwrap();
        keys.assert_shorts(&vector, "r", &own.channel_id);
        let sent = vector.list("short").iter().find(|v| v.text("direction") == "r");
        let theirs = settings(&frames).channel_id.unwrap();
        assert_eq!(sent.unwrap().bytes("channel_id"), theirs.as_slice());
    }
}

#[test]
fn parameters_are_read_and_written_as_in_the_vectors() {
    for vector in negotiations() {
        let (hello, cookie) = (&vector["hello"], &vector["cookie"]);
        let offer = HelloParams::decode(&vector.hello_payload()).unwrap();
        let choice = CookieParams::decode(&cookie.bytes("parameters")).unwrap();
        assert!(offer.versions.contains(&vector.version()));
        assert!(offer.suites.contains(&choice.suite));
        assert_eq!(choice.versions, [vector.version()]);
        assert_eq!(offer.to_vec() == hello.bytes("parameters"), hello["canonical"] == true);
        assert_eq!(
            choice.to_vec() == cookie.bytes("parameters"),
            cookie["canonical"] == true
        );
    }
}

// spec: NEG-4
#[test]
fn a_hello_of_another_version_or_attempt_is_not_authentic() {
    let vector = negotiations().swap_remove(0);
    let hello = vector.packet("hello");
    for bit in 8..8 * long::PREFIX {
        let mut changed = hello.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(vector.read_hello(&changed).unwrap_err(), AuthError, "bit {bit}");
    }
    assert!(vector.read_hello(&hello).is_ok());
}

// spec: NEG-5
#[test]
fn token_cookie_and_mac_do_not_change_the_transcript() {
    for vector in negotiations() {
        let cookie_with = |hello: &[u8]| {
            let (noise, _) = vector.read_hello(hello).unwrap();
            let mut message = Vec::new();
            let payload = vector["cookie"].bytes("parameters");
            let noise = noise.write_cookie(vector.ephemeral("responder"), &payload, &mut message);
            (noise.unwrap().to_bytes(), message)
        };
        let mut hello = vector.packet("hello");
        let expected = cookie_with(&hello);
        long::set_token(&mut hello, &[0xa5; 16]);
        assert_eq!(cookie_with(&hello), expected);

        // Another cookie and mac: the initiator's third message is the same.
        let mut packet = long::cookie_without_mac(vector.version(), &vector.attempt(), &expected.1, b"another");
        packet.extend_from_slice(&[0x5a; 16]);
        let cookie = parse_cookie(&packet);
        let (mut noise, _) = vector.start().0.read_cookie(cookie.e, cookie.sealed).unwrap();
        if let Some(secret) = vector.leg_secret() {
            noise.mix_kem(&secret);
        }
        let mut message = Vec::new();
        let frames = vector["initiate"].bytes("frames");
        let key = vector.static_key("initiator");
        noise.write_initiate(&key, &frames, &mut message).unwrap();
        let packet = vector.packet("initiate");
        let initiate = parse_initiate(&packet);
        let noise_3 = [&initiate.sealed_static[..], initiate.sealed_frames].concat();
        assert_eq!(message, noise_3);
    }
}

// spec: NEG-6
#[test]
fn the_mac_of_a_cookie_covers_every_bit_before_it() {
    for vector in negotiations() {
        let packet = vector.packet("cookie");
        let chaining_key = vector["cookie"].bytes32("ck");
        let mut key = [0; 32];
        schedule::label(&chaining_key, "cookie mac", b"", &mut key);
        assert_eq!(key, vector["cookie"].bytes32("mac_key"));
        let (authed, mac) = packet.split_last_chunk::<16>().unwrap();
        assert_eq!(&cookie_mac(&chaining_key, authed), mac);
        for changed in flips(authed) {
            assert_ne!(&cookie_mac(&chaining_key, &changed), mac);
        }
        // Where the packet is one still, the initiator finds out.
        for changed in flips(&packet) {
            if let Ok(Long::Cookie(cookie)) = Long::parse(&changed) {
                assert!(!has_right_mac(&cookie, &chaining_key));
            }
        }
    }
}

// spec: PRT-1, NEG-16
#[test]
fn accept_is_packet_0_and_opens_with_its_own_header_only() {
    for vector in negotiations() {
        let expected = &vector["schedule"];
        let split = Split::from_keys(expected.bytes32("k1"), expected.bytes32("k2"), expected.bytes32("h"));
        let packet = vector.packet("accept");
        let accept = parse_accept(&packet);
        let keys = Keys::checked(vector.suite(), &split, accept.nonce, expected);
        let open = |seq, header: &[u8]| keys.open_accept(seq, header, accept.sealed_frames);
        assert!(open(0, accept.header).is_ok());
        assert_eq!(open(1, accept.header), Err(AuthError));
        for header in flips(accept.header).chain(cuts(accept.header)) {
            assert_eq!(open(0, &header), Err(AuthError));
        }
    }
}

// spec: NEG-34
#[test]
fn threat_09_all_diffie_hellman_results_tell_neither_the_initiator_nor_its_data() {
    for vector in negotiations() {
        // Somebody has recorded all packets, and has a quantum computer now.
        let [es, ee, se] = [("hello", "es"), ("cookie", "ee"), ("initiate", "se")]
            .map(|(packet, name)| Zeroizing::new(vector[packet].bytes32(name)));
        let (hello, cookie) = (vector.last_hello(), vector.packet("cookie"));
        let (hello, cookie) = (parse_hello(&hello), parse_cookie(&cookie));
        let (e_i, sealed) = hello.noise.split_first_chunk::<32>().unwrap();
        let mut symmetric = SymmetricState::new(
            &prologue(hello.version, hello.attempt),
            &vector["responder"].bytes32("static_public"),
        );
        symmetric.mix_hash(e_i);
        symmetric.mix_key(&es);
        symmetric.decrypt_and_hash(sealed).unwrap();
        symmetric.mix_hash(cookie.e);
        symmetric.mix_key(&ee);
        let parameters = symmetric.decrypt_and_hash(cookie.sealed).unwrap();
        let mac_key = CookieParams::decode(&parameters).unwrap().kem;
        assert_eq!(mac_key.is_some(), vector.has_leg());

        let packet = vector.packet("initiate");
        let initiate = parse_initiate(&packet);
        let has_read = |mut symmetric: SymmetricState| {
            let identity = symmetric.clone().decrypt_and_hash(initiate.sealed_static);
            symmetric.mix_hash(initiate.sealed_static);
            symmetric.mix_key(&se);
            let frames = symmetric.decrypt_and_hash(initiate.sealed_frames);
            (identity.is_ok(), frames.is_ok())
        };
        let is_open = !vector.has_leg();
        assert_eq!(has_read(symmetric.clone()), (is_open, is_open));
        let Some(mac_key) = mac_key else { continue };
        // Nor does anything else that was sent, nor what is made of it without the secret of ML-KEM.
        let transcript = vector["cookie_k"].bytes32("transcript");
        let guesses = [mac_key, transcript, [0; 32], *ee, *es, *se];
        let labelled = guesses.map(|guess| *kem::leg_secret(&guess, &transcript));
        for guess in guesses.into_iter().chain(labelled) {
            let mut symmetric = symmetric.clone();
            symmetric.mix_key_and_hash(&guess);
            assert_eq!(has_read(symmetric), (false, false));
        }
        // What is missing is that one secret.
        symmetric.mix_key_and_hash(&vector.leg_secret().unwrap());
        assert_eq!(has_read(symmetric), (true, true));
    }
}
