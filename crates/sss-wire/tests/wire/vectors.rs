//! The language-neutral vectors in `tests/vectors` hold for this implementation.

mod frames;
mod long_packets;
mod services;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sss_wire::params::{Attempts, CookieAnswer, CookieParams, Earlier, HelloParams, Process, Settings, Shard};
use sss_wire::short::{self, Header};
use sss_wire::{ChannelId, Eid, EidError, Kem, Malformed, Reader, Suite, Writer};

use crate::{hex, unhex};

fn load<T: DeserializeOwned>(file: &str) -> T {
    let path = format!("{}/tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn number(text: &str) -> u64 {
    text.parse().unwrap()
}

fn written(len: usize, write: impl FnOnce(&mut Writer<'_>)) -> String {
    let mut space = vec![0xee; len];
    let mut w = Writer::new(&mut space);
    write(&mut w);
    assert_eq!(w.remaining(), 0, "encoded_len is too large");
    hex(&space)
}

/// The categories of README.md.
fn category(error: Malformed) -> &'static str {
    match error.0 {
        "truncated" => "truncated",
        "unknown frame type" => "unknown_type",
        "a packet without frames" => "empty",
        _ => "value",
    }
}

#[derive(Deserialize)]
struct Invalid {
    #[serde(default)]
    name: String,
    hex: String,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Varints {
    valid: Vec<Varint>,
    invalid: Vec<Invalid>,
}

#[derive(Deserialize)]
struct Varint {
    value: String,
    hex: String,
    shortest: bool,
}

// spec: OVR-1, VEC-1, VEC-2, VEC-4, VEC-5
#[test]
fn varints() {
    let file: Varints = load("varints.json");
    for v in file.valid {
        let (bytes, value) = (unhex(&v.hex), number(&v.value));
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.varint(), Ok(value), "{}", v.hex);
        assert!(reader.is_empty());
        let shortest = written(sss_wire::varint::len(value), |w| w.varint(value));
        assert_eq!(shortest == v.hex, v.shortest, "{} is written as {shortest}", v.hex);
    }
    for v in file.invalid {
        let error = Reader::new(&unhex(&v.hex)).varint().unwrap_err();
        assert_eq!(category(error), v.error, "{}", v.hex);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Eids {
    valid: Vec<EidForms>,
    accepted: Vec<EidForms>,
    invalid: Vec<EidForms>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct EidForms {
    public_key: String,
    eid: String,
    text: String,
    error: String,
}

// spec: OVR-3, VEC-6
#[test]
fn eids() {
    let file: Eids = load("eid.json");
    for v in file.valid {
        let eid = Eid::from_public_key(&unhex(&v.public_key).try_into().unwrap());
        assert_eq!(hex(eid.as_bytes()), v.eid);
        assert_eq!(eid.to_string(), v.text);
        assert_eq!(v.text.parse(), Ok(eid));
        assert_eq!(hex(eid.public_key()), v.public_key);
        assert_eq!(Eid::from_bytes(eid.as_bytes()), Ok(eid));
    }
    for v in file.accepted {
        let eid: Eid = v.text.parse().unwrap();
        assert_eq!(hex(eid.as_bytes()), v.eid);
    }
    for v in file.invalid {
        let error = v.text.parse::<Eid>().unwrap_err();
        let name = match error {
            EidError::Prefix => "prefix",
            EidError::Character(..) => "character",
            // Those two, said more exactly.
            EidError::Blank if v.text.starts_with(char::is_whitespace) => "prefix",
            EidError::Blank => "character",
            EidError::MixedCase => "mixed_case",
            EidError::Length(_) => "length",
            EidError::Checksum => "checksum",
            EidError::Padding => "padding",
            EidError::Type(_) => "type",
            other => panic!("{other} is in no vector"),
        };
        assert_eq!(name, v.error, "{:?}: {error}", v.text);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParamsFile {
    hello: Lists<HelloList>,
    cookie: Lists<CookieList>,
    settings: Lists<SettingsList>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lists<T> {
    valid: Vec<T>,
    invalid: Vec<Invalid>,
}

#[derive(Deserialize)]
struct HelloList {
    name: String,
    versions: Vec<u32>,
    suites: Vec<u8>,
    #[serde(default = "no_kem")]
    kems: Vec<u8>,
    #[serde(default)]
    candidates: Vec<String>,
    hex: String,
    canonical: bool,
}

#[derive(Deserialize)]
struct CookieList {
    name: String,
    versions: Vec<u32>,
    /// Null: none of those offered is supported.
    suite: Option<u8>,
    channel_id: Option<String>,
    /// Not there: no leg; null: none of those offered is accepted.
    #[serde(default = "no_leg")]
    kem: Option<u8>,
    #[serde(default)]
    kem_mac_key: Option<String>,
    /// How many shards there are, and which this is.
    shard: Option<[u8; 2]>,
    hex: String,
    canonical: bool,
}

fn no_kem() -> Vec<u8> {
    vec![0]
}

fn no_leg() -> Option<u8> {
    Some(0)
}

#[derive(Deserialize)]
struct SettingsList {
    name: String,
    settings: SettingsFields,
    hex: String,
    canonical: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsFields {
    channel_id: Option<String>,
    reset_token: Option<String>,
    root_credit: String,
    #[serde(default)]
    stream_borrow: Option<String>,
    idle_timeout_ms: String,
    max_ack_delay_us: String,
    max_datagram: String,
    congestion: String,
    agent: String,
    max_message: String,
    #[serde(default)]
    tree: Option<String>,
    #[serde(default)]
    accepted: Vec<String>,
    #[serde(default)]
    other_trees: Vec<String>,
    #[serde(default)]
    earlier: Option<EarlierFields>,
    #[serde(default)]
    void: Option<String>,
    #[serde(default)]
    process: Option<ProcessFields>,
    #[serde(default)]
    stands_by: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EarlierFields {
    attempt: String,
    cookie: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProcessFields {
    name: String,
    age: Option<u16>,
}

impl From<SettingsFields> for Settings {
    fn from(fields: SettingsFields) -> Self {
        Self {
            channel_id: fields.channel_id.map(|id| ChannelId::new(&unhex(&id)).unwrap()),
            reset_token: fields.reset_token.map(|t| unhex(&t).try_into().unwrap()),
            root_credit: number(&fields.root_credit),
            stream_borrow: fields.stream_borrow.map_or(65_536, |n| number(&n)),
            idle_timeout_ms: number(&fields.idle_timeout_ms),
            max_ack_delay_us: number(&fields.max_ack_delay_us),
            max_datagram: number(&fields.max_datagram),
            congestion: fields.congestion,
            agent: fields.agent,
            max_message: number(&fields.max_message),
            tree: fields.tree.map(|t| unhex(&t).try_into().unwrap()),
            attempts: Attempts {
                accepted: fields.accepted.iter().map(|a| unhex(a).try_into().unwrap()).collect(),
                earlier: fields.earlier.map(|e| Earlier {
                    attempt: unhex(&e.attempt).try_into().unwrap(),
                    cookie: unhex(&e.cookie),
                }),
                void: fields.void.map(|v| unhex(&v).try_into().unwrap()),
            },
            other_trees: fields
                .other_trees
                .iter()
                .map(|t| unhex(t).try_into().unwrap())
                .collect(),
            process: fields.process.map(|p| Process {
                name: unhex(&p.name).try_into().unwrap(),
                age: p.age,
            }),
            stands_by: fields.stands_by,
        }
    }
}

fn refuse_all(invalid: Vec<Invalid>, is_accepted: impl Fn(&[u8]) -> bool) {
    for v in invalid {
        assert!(!is_accepted(&unhex(&v.hex)), "{} is accepted", v.name);
    }
}

fn kem_of(params: &CookieParams) -> Kem {
    match params.kem {
        Some(_) => Kem::MlKem768,
        None => Kem::None,
    }
}

fn suites(numbers: &[u8]) -> Vec<Suite> {
    numbers.iter().map(|s| Suite::try_from(*s).unwrap()).collect()
}

// spec: CHN-1, VEC-3, VEC-4, VEC-8
#[test]
fn parameters() {
    let file: ParamsFile = load("params.json");
    for v in file.hello.valid {
        let expected = HelloParams {
            versions: v.versions,
            suites: suites(&v.suites),
            kems: v.kems.iter().map(|k| Kem::try_from(*k).unwrap()).collect(),
            candidates: v.candidates.iter().map(|c| c.parse().unwrap()).collect(),
        };
        assert_eq!(HelloParams::decode(&unhex(&v.hex)), Ok(expected.clone()), "{}", v.name);
        let again = written(expected.encoded_len(), |w| expected.encode(w));
        assert_eq!(again == v.hex, v.canonical, "{}: {again}", v.name);
    }
    refuse_all(file.hello.invalid, |list| HelloParams::decode(list).is_ok());
    for v in file.cookie.valid {
        let (expected, again) = match (v.suite, v.channel_id) {
            (Some(suite), Some(id)) => {
                let params = CookieParams {
                    versions: v.versions,
                    suite: Suite::try_from(suite).unwrap(),
                    channel_id: ChannelId::new(&unhex(&id)).unwrap(),
                    kem: v.kem_mac_key.map(|key| unhex(&key).try_into().unwrap()),
                    shard: v.shard.map(|[count, index]| Shard::new(index, count).unwrap()),
                };
                assert_eq!(v.kem.map(Kem::try_from), Some(Ok(kem_of(&params))), "{}", v.name);
                let again = written(params.encoded_len(), |w| params.encode(w));
                (CookieAnswer::Chosen(params), again)
            }
            _ if v.kem.is_none() => (CookieAnswer::NoKem, hex(&CookieAnswer::no_kem(&v.versions))),
            _ => (CookieAnswer::NoSuite, hex(&CookieAnswer::no_suite(&v.versions))),
        };
        assert_eq!(CookieAnswer::decode(&unhex(&v.hex)), Ok(expected), "{}", v.name);
        assert_eq!(again == v.hex, v.canonical, "{}: {again}", v.name);
    }
    refuse_all(file.cookie.invalid, |list| CookieAnswer::decode(list).is_ok());
    for v in file.settings.valid {
        let expected = Settings::from(v.settings);
        assert_eq!(Settings::decode(&unhex(&v.hex)), Ok(expected.clone()), "{}", v.name);
        let again = written(expected.encoded_len(), |w| expected.encode(w));
        assert_eq!(again == v.hex, v.canonical, "{}: {again}", v.name);
    }
    refuse_all(file.settings.invalid, |list| Settings::decode(list).is_ok());
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SequenceFile {
    truncate: Vec<Truncate>,
    recover: Vec<Recover>,
    headers: Vec<HeaderVector>,
}

#[derive(Deserialize)]
struct Truncate {
    sequence: String,
    largest_acked: Option<String>,
    truncated: String,
}

#[derive(Deserialize)]
struct Recover {
    expected_next: String,
    truncated: String,
    sequence: String,
}

#[derive(Deserialize)]
struct HeaderVector {
    key_phase: bool,
    channel_id: String,
    sequence: String,
    header: String,
    mask: String,
    packet: String,
    masked: String,
    sample: String,
}

/// A truncated number, and its length in bytes.
fn truncated(text: &str) -> (u32, usize) {
    (u32::from_str_radix(text, 16).unwrap(), text.len() / 2)
}

// spec: PRT-3, VEC-11
#[test]
fn sequence_numbers_and_headers() {
    let file: SequenceFile = load("sequence.json");
    for v in file.truncate {
        let acked = v.largest_acked.as_deref().map(number);
        let sent = short::encode_sequence(number(&v.sequence), acked);
        assert_eq!(sent, truncated(&v.truncated), "{} after {acked:?}", v.sequence);
    }
    for v in file.recover {
        let (low, len) = truncated(&v.truncated);
        let sequence = short::recover_sequence(low, len, number(&v.expected_next));
        assert_eq!(
            sequence,
            number(&v.sequence),
            "{} near {}",
            v.truncated,
            v.expected_next
        );
    }
    for v in file.headers {
        check_header(&v);
    }
}

fn check_header(v: &HeaderVector) {
    let (sequence, sequence_len) = truncated(&v.sequence);
    let header = Header {
        key_phase: v.key_phase,
        channel_id: ChannelId::new(&unhex(&v.channel_id)).unwrap(),
        sequence,
        sequence_len,
    };
    let id_len = header.channel_id.len();
    let mask: [u8; 5] = unhex(&v.mask).try_into().unwrap();
    assert_eq!(
        written(header.encoded_len(), |w| short::write_header(w, &header)),
        v.header
    );
    let mut packet = unhex(&v.packet);
    assert_eq!(Header::decode(&packet, id_len), Ok(header));
    assert_eq!(hex(short::sample(&packet, id_len).unwrap()), v.sample);
    short::mask(&mut packet, id_len, &mask).unwrap();
    assert_eq!(hex(&packet), v.masked);
    assert_eq!(short::unmask(&mut packet, id_len, &mask), Ok(header));
    assert_eq!(hex(&packet), v.packet);
}
