//! The vectors of `reach.json` hold for this implementation.

use serde_json::Value;
use sss_crypto::schedule;
use sss_proto::Instant;
use sss_wire::reach::bodies::{
    Connect, Elsewhere, Found, Lease, LeaseOk, MappedPort, Notice, Notify, Presence, Status, Unfound, Way,
};
use sss_wire::reach::records::{self, Call, Entries, Register, Registered, Request, Search, Visibility};
use sss_wire::reach::{Packet, Sealed};
use sss_wire::{Eid, Malformed, reach};

use super::leases::Instance;
use super::tokens::Tokens;
use crate::keys::{self, From, LeaseKey};
use crate::mdns::{Nonce, Tag};

fn vectors(list: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../sss-wire/tests/vectors/reach.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file[list].as_array().expect(list).clone()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} of {value}"))
}

fn bytes(value: &Value, field: &str) -> Vec<u8> {
    let digits = text(value, field).as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn array<const N: usize>(value: &Value, field: &str) -> [u8; N] {
    bytes(value, field).try_into().expect(field)
}

fn number<T: TryFrom<u64>>(value: &Value, field: &str) -> T {
    let n = value[field].as_u64().unwrap_or_else(|| panic!("{field} of {value}"));
    T::try_from(n).ok().expect(field)
}

fn eid(value: &Value, field: &str) -> Eid {
    let [kind, key @ ..] = array::<33>(value, field);
    assert_eq!(kind, 1);
    Eid::from_public_key(&key)
}

/// Value of a field that may be null.
fn maybe<T>(value: &Value, field: &str, read: impl Fn(&Value, &str) -> T) -> Option<T> {
    (!value[field].is_null()).then(|| read(value, field))
}

fn lease_key(value: &Value) -> LeaseKey {
    LeaseKey::new(array(value, "lease_key"))
}

fn unfound(fields: &Value) -> Option<Unfound> {
    let status = Status::try_from(number::<u8>(fields, "status")).unwrap();
    let since = number(fields, "since");
    let elsewhere = maybe(fields, "server", eid).map(|server| Elsewhere {
        server,
        address: text(fields, "address").parse().unwrap(),
    });
    (status != Status::Ok).then_some(Unfound {
        status,
        since,
        elsewhere,
    })
}

fn way(fields: &Value) -> Way {
    let way = &fields["way"];
    Way {
        address: text(way, "address").parse().unwrap(),
        mapped: number(way, "mapped"),
        handle: number(way, "handle"),
        punch_key: array(way, "punch_key"),
        hold: number(way, "hold"),
    }
}

fn request(vector: &Value) -> Request {
    let fields = &vector["fields"];
    match text(vector, "request") {
        "register" => Request::Register(Register {
            instance: array(fields, "instance"),
            visibility: match number::<u8>(fields, "flags") & 3 {
                0 => Visibility::Hidden,
                1 => Visibility::Known,
                _ => Visibility::Listed,
            },
            is_veiled: number::<u8>(fields, "flags") & 4 != 0,
            follows: number::<u8>(fields, "flags") & 8 != 0,
            words: text(fields, "words").to_owned(),
            profile: text(fields, "profile").to_owned(),
        }),
        "lookup" => Request::Lookup(eid(fields, "eid")),
        "search" => Request::Search(Search {
            word: text(fields, "word").to_owned(),
            after: maybe(fields, "after", eid),
            count: number(fields, "n"),
        }),
        "connect" => Request::Connect(Call {
            instance: array(fields, "instance"),
            rtt: number(fields, "rtt"),
            introduction: array(fields, "introduction"),
            eid: eid(fields, "eid"),
            hello: bytes(fields, "hello"),
            key: (!text(fields, "key").is_empty()).then(|| Box::new(array(fields, "key"))),
        }),
        other => panic!("{other}"),
    }
}

// spec: VEC-17, RCH-34
#[test]
fn tags_are_those_of_the_vectors() {
    for vector in vectors("mdns") {
        let nonce = Nonce(array(&vector, "nonce"));
        let tag = Tag::new(&eid(&vector, "eid"), &nonce);
        assert_eq!(tag, Tag(array(&vector, "tag")), "{vector}");
        assert_eq!(tag.to_text(), text(&vector, "tag"));
        assert_eq!(Nonce::parse(text(&vector, "nonce").as_bytes()), Some(nonce));
    }
}

// spec: VEC-17, RCH-6
#[test]
fn keys_are_those_of_the_vectors() {
    for vector in vectors("keys") {
        let instance = Instance {
            eid: Eid::from_public_key(&array(&vector, "public_key")),
            name: array(&vector, "instance"),
        };
        let key = Tokens::new(Instant::default(), &array(&vector, "secret"), &[0; 8]).lease_key(&instance);
        assert_eq!(key.reveal(), lease_key(&vector).reveal(), "{vector}");
    }
    for vector in vectors("labels") {
        let mut output = [0; 32];
        let key = lease_key(&vector);
        schedule::label(key.reveal(), text(&vector, "label"), b"", &mut output);
        assert_eq!(output, array(&vector, "output"), "{vector}");
    }
}

// spec: VEC-17, RCH-1, RCH-2, RCH-41
#[test]
fn records_are_those_of_the_vectors() {
    for vector in vectors("requests") {
        let (expected, hex) = (request(&vector), bytes(&vector, "hex"));
        assert_eq!(Request::decode(&hex).as_ref(), Ok(&expected), "{vector}");
        assert_eq!(expected.encode() == hex, vector["canonical"] == true, "{vector}");
    }
    for vector in vectors("answers") {
        let (fields, hex) = (&vector["fields"], bytes(&vector, "hex"));
        let unfound = unfound(fields);
        match text(&vector, "answer") {
            "outcome" => {
                let read = records::read_outcome(&hex).unwrap();
                assert_eq!(read.err(), unfound, "{vector}");
                let unfound = unfound.unwrap_or(Unfound::because(Status::Ok));
                assert_eq!(records::outcome(&unfound), hex, "{vector}");
            }
            "registered" => match Registered::decode(&hex).unwrap() {
                Err(read) => assert_eq!(Some(read), unfound, "{vector}"),
                Ok(registered) => {
                    assert_eq!(registered.boot, array(fields, "boot"));
                    assert_eq!(registered.ttl, number::<u16>(fields, "ttl"));
                    assert_eq!(registered.address.to_string(), text(fields, "address"));
                    assert_eq!(registered.key, *lease_key(fields).reveal());
                    assert_eq!(registered.encode(), hex, "{vector}");
                    let tokens = fields["tokens"].as_array().unwrap();
                    let tokens = tokens
                        .iter()
                        .map(|token| bytes(&serde_json::json!({"token": token}), "token"));
                    assert_eq!(registered.tokens, tokens.collect::<Vec<_>>());
                }
            },
            "entries" => {
                let listed = fields["entries"].as_array().unwrap().iter();
                let expected = Entries {
                    is_partial: number::<u8>(fields, "partial") != 0,
                    next: maybe(fields, "next", eid),
                    entries: listed
                        .map(|entry| (eid(entry, "eid"), text(entry, "profile").to_owned()))
                        .collect(),
                };
                assert_eq!(Entries::decode(&hex), Ok(Ok(expected.clone())), "{vector}");
                assert_eq!(expected.encode(), hex, "{vector}");
            }
            "way" => {
                let expected = unfound.map_or_else(|| Ok(way(fields)), Err);
                assert_eq!(records::read_way(&hex), Ok(expected), "{vector}");
                assert_eq!(records::way(&expected), hex, "{vector}");
            }
            other => panic!("{other}"),
        }
    }
}

/// Checks that a plaintext means what the vector says, and is what is written for that.
fn check_plaintext(vector: &Value, plaintext: &[u8]) {
    let fields = &vector["fields"];
    let hello = maybe(fields, "hello", bytes).unwrap_or_default();
    let introduction = maybe(fields, "introduction", array::<8>);
    let counter = || text(fields, "counter").parse().unwrap();
    let written = match text(vector, "packet") {
        "lease" => {
            let status = Status::try_from(number::<u8>(fields, "status")).unwrap();
            let lease = Lease {
                boot: array(fields, "boot"),
                counter: counter(),
                rtt: number(fields, "rtt"),
                presence: match number::<u8>(fields, "flags") & 3 {
                    0 => Presence::Hidden,
                    1 => Presence::Found,
                    _ => Presence::Leaving,
                },
                is_veiled: number::<u8>(fields, "flags") & 8 != 0,
                answer: introduction.map(|introduction| (introduction, status)),
                mapped: MappedPort {
                    port: number(fields, "mapped"),
                    wants_echo: number::<u8>(fields, "flags") & 4 != 0,
                },
            };
            assert_eq!(Lease::decode(plaintext), Ok(lease), "{vector}");
            lease.encode(plaintext.len())
        }
        "lease_ok" => {
            let flags: u8 = number(fields, "flags");
            let ok = LeaseOk {
                boot: array(fields, "boot"),
                counter: counter(),
                address: text(fields, "address").parse().unwrap(),
                ttl: number(fields, "ttl"),
                notice: Notice {
                    is_forgotten: flags & 1 != 0,
                    is_superseded: flags & 2 != 0,
                    is_echo: flags & 4 != 0,
                    relays_nothing: flags & 8 != 0,
                },
                token: bytes(fields, "new_token"),
            };
            assert_eq!(LeaseOk::decode(plaintext).as_ref(), Ok(&ok), "{vector}");
            ok.encode(plaintext.len())
        }
        "connect" => {
            let connect = Connect {
                boot: array(fields, "boot"),
                counter: counter(),
                rtt: number(fields, "rtt"),
                introduction: introduction.unwrap(),
                eid: eid(fields, "eid"),
                hello: &hello,
            };
            assert_eq!(Connect::decode(plaintext), Ok(connect), "{vector}");
            connect.encode()
        }
        "found" => {
            let outcome = unfound(fields).map_or_else(|| Ok(way(fields)), Err);
            let introduction = introduction.unwrap();
            let found = Found { introduction, outcome };
            assert_eq!(Found::decode(plaintext), Ok(found), "{vector}");
            found.encode()
        }
        "notify" => {
            let notify = Notify {
                boot: array(fields, "boot"),
                introduction: introduction.unwrap(),
                way: way(fields),
                hello: &hello,
            };
            assert_eq!(Notify::decode(plaintext), Ok(notify), "{vector}");
            notify.encode()
        }
        other => panic!("{other}"),
    };
    assert_eq!(written, plaintext, "{vector}");
}

fn sealed(packet: &[u8]) -> Result<Sealed<'_>, Malformed> {
    match Packet::parse(packet)? {
        Packet::Sealed(sealed) => Ok(sealed),
        other => panic!("{other:?}"),
    }
}

// AES-GCM-SIV has no randomness of its own: what opens to these bytes, with this header, was sealed as here.
// spec: VEC-17, RCH-6, RCH-7
#[test]
fn packets_are_those_of_the_vectors() {
    for vector in vectors("sealed") {
        let hex = bytes(&vector, "hex");
        let packet = sealed(&hex).unwrap();
        assert_eq!(packet.id, &array(&vector, "id"), "{vector}");
        let token = maybe(&vector, "token", bytes);
        assert_eq!(packet.token, token.as_deref().unwrap_or_default(), "{vector}");
        let header = reach::header(packet.kind, packet.id, token.as_deref());
        assert_eq!(packet.header, header, "{vector}");
        let plaintext = lease_key(&vector).open(&packet).unwrap_or_else(|| panic!("{vector}"));
        assert_eq!(*plaintext, bytes(&vector, "plaintext"), "{vector}");
        check_plaintext(&vector, &plaintext);
    }
}

fn mac_key() -> LeaseKey {
    lease_key(&vectors("labels")[0])
}

fn punch_key() -> [u8; 32] {
    let ways = vectors("sealed");
    let notify = ways.iter().find(|vector| text(vector, "packet") == "notify");
    way(&notify.unwrap()["fields"]).punch_key
}

fn sender(vector: &Value) -> From {
    match text(vector, "sender") {
        "host" => From::Host,
        _ => From::Server,
    }
}

// spec: VEC-17, RCH-11, RCH-15
#[test]
fn authenticated_packets_are_those_of_the_vectors() {
    for vector in vectors("authed") {
        let hex = bytes(&vector, "hex");
        let id = array::<8>(&vector, "id");
        match Packet::parse(&hex).unwrap() {
            Packet::Leg(leg) => {
                let (side, key) = (sender(&vector), array(&vector, "key"));
                assert_eq!(text(&vector, "packet"), "leg");
                assert!(mac_key().is_genuine(side, &leg), "{vector}");
                assert_eq!(
                    (leg.introduction, leg.key, leg.mac),
                    (&id, &key, &array(&vector, "mac"))
                );
                assert_eq!(mac_key().leg(side, &id, &key), hex, "{vector}");
            }
            Packet::Punch(punch) => {
                let (key, nonce) = (punch_key(), array(&vector, "nonce"));
                let is_answer = text(&vector, "packet") == "punch_answered";
                assert!(keys::is_genuine_punch(&punch, &key), "{vector}");
                assert_eq!(keys::punch_name(&key), id, "{vector}");
                assert_eq!((punch.is_answer, punch.mac), (is_answer, &array(&vector, "mac")));
                assert_eq!(keys::punch(is_answer, &id, &nonce, &key), hex, "{vector}");
            }
            other @ Packet::Sealed(_) => panic!("{other:?}"),
        }
    }
}

// spec: VEC-17
#[test]
fn what_is_refused_in_the_vectors_is_refused() {
    for vector in vectors("invalid") {
        let hex = bytes(&vector, "hex");
        match text(&vector, "message") {
            "request" => assert!(Request::decode(&hex).is_err(), "{vector}"),
            "outcome" => assert!(records::read_outcome(&hex).is_err(), "{vector}"),
            "packet" => assert!(Packet::parse(&hex).is_err(), "{vector}"),
            "sealed" => assert!(mac_key().open(&sealed(&hex).unwrap()).is_none(), "{vector}"),
            "leg" => match Packet::parse(&hex).unwrap() {
                Packet::Leg(leg) => assert!(!mac_key().is_genuine(From::Host, &leg), "{vector}"),
                other => panic!("{other:?}"),
            },
            "punch" => match Packet::parse(&hex).unwrap() {
                Packet::Punch(punch) => assert!(!keys::is_genuine_punch(&punch, &punch_key()), "{vector}"),
                other => panic!("{other:?}"),
            },
            other => panic!("{other}"),
        }
    }
}
