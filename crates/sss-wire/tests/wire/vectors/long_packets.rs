//! `long_packets.json`.

use serde::Deserialize;
use sss_wire::long::Long;

use super::{Invalid, load};
use crate::{fuzz, hex, unhex};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LongFile {
    valid: Vec<LongPacket>,
    invalid: Vec<Invalid>,
}

#[derive(Deserialize)]
struct LongPacket {
    name: String,
    packet: LongFields,
    hex: String,
    /// Whether a writer would write just this.
    #[serde(default = "yes")]
    canonical: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize, PartialEq, Debug)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE", deny_unknown_fields)]
enum LongFields {
    Hello {
        version: u32,
        attempt: String,
        token: String,
        noise: String,
    },
    HelloK {
        version: u32,
        attempt: String,
        token: String,
        hello: String,
        key: String,
    },
    Retry {
        version: u32,
        attempt: String,
        token: String,
    },
    Version {
        attempt: String,
        versions: Vec<u32>,
    },
    Cookie {
        version: u32,
        attempt: String,
        e: String,
        sealed: String,
        cookie: String,
        mac: String,
        authed: usize,
    },
    CookieK {
        version: u32,
        attempt: String,
        ciphertext: String,
        cookie: String,
        mac: String,
        authed: usize,
    },
    Initiate {
        version: u32,
        attempt: String,
        cookie: String,
        /// Empty if it is not there.
        #[serde(default)]
        kem: String,
        sealed_static: String,
        sealed_frames: String,
    },
    Accept {
        version: u32,
        attempt: String,
        nonce: String,
        sealed_frames: String,
    },
    Probe {
        version: u32,
        attempt: String,
    },
    ProbeReply {
        version: u32,
        attempt: String,
        eid: String,
    },
}

impl From<&Long<'_>> for LongFields {
    fn from(packet: &Long<'_>) -> Self {
        let attempt = hex(packet.attempt());
        match packet {
            Long::Hello(p) => Self::Hello {
                version: p.version,
                attempt,
                token: hex(p.token),
                noise: hex(p.noise),
            },
            Long::HelloK(p) => Self::HelloK {
                version: p.version,
                attempt,
                token: hex(p.token),
                hello: hex(p.hello),
                key: hex(p.key),
            },
            Long::Retry(p) => Self::Retry {
                version: p.version,
                attempt,
                token: hex(p.token),
            },
            Long::Version(p) => Self::Version {
                attempt,
                versions: p.versions().collect(),
            },
            Long::Cookie(p) => Self::Cookie {
                version: p.version,
                attempt,
                e: hex(p.e),
                sealed: hex(p.sealed),
                cookie: hex(p.cookie),
                mac: hex(p.mac),
                authed: p.authed.len(),
            },
            Long::CookieK(p) => Self::CookieK {
                version: p.version,
                attempt,
                ciphertext: hex(p.ciphertext),
                cookie: hex(p.cookie),
                mac: hex(p.mac),
                authed: p.authed.len(),
            },
            Long::Initiate(p) => Self::Initiate {
                version: p.version,
                attempt,
                cookie: hex(p.cookie),
                kem: hex(p.kem),
                sealed_static: hex(p.sealed_static),
                sealed_frames: hex(p.sealed_frames),
            },
            Long::Accept(p) => Self::Accept {
                version: p.version,
                attempt,
                nonce: hex(p.nonce),
                sealed_frames: hex(p.sealed_frames),
            },
            Long::Probe(p) => Self::Probe {
                version: p.version,
                attempt,
            },
            Long::ProbeReply(p) => Self::ProbeReply {
                version: p.version,
                attempt,
                eid: hex(p.eid.as_bytes()),
            },
        }
    }
}

// spec: NEG-1, NEG-2, NEG-14, VEC-2, VEC-3, VEC-9
#[test]
fn long_packets() {
    let file: LongFile = load("long_packets.json");
    for v in file.valid {
        let bytes = unhex(&v.hex);
        let packet = Long::parse(&bytes).unwrap_or_else(|e| panic!("{}: {e}", v.name));
        assert_eq!(LongFields::from(&packet), v.packet, "{}", v.name);
        assert_eq!(hex(&fuzz::rebuild(&packet)) == v.hex, v.canonical, "{}", v.name);
    }
    for v in file.invalid {
        assert!(Long::parse(&unhex(&v.hex)).is_err(), "{} is accepted", v.name);
    }
}
