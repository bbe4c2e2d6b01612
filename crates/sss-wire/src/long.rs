//! Long packets: those of the negotiation (docs/spec/negotiation.md, "Packets").
//!
//! [`Long::parse`] checks sizes and layout (NEG-2) and gives a view of the parts. The functions of this module make
//! packets from parts that were sealed by somebody else.

mod encode;

pub use encode::{
    accept, accept_header, cookie_k_without_mac, cookie_without_mac, hello, hello_k, initiate, initiate_room, probe,
    probe_reply, retry, set_token, short_hello, token, version,
};

use crate::error::{Malformed, TRUNCATED};
use crate::reader::Reader;
use crate::{Eid, Kem};

/// Bytes of UDP payload that every path must carry, and that no long packet exceeds.
pub const BASE_DATAGRAM: usize = crate::constants::BASE_DATAGRAM as usize;
/// Bytes of the prefix of every long packet.
pub const PREFIX: usize = 13;
/// Place of the attempt in the prefix.
pub const ATTEMPT_AT: usize = 5;
/// Size of HELLO in bytes.
pub const HELLO_SIZE: usize = BASE_DATAGRAM;
/// Size of HELLO's plaintext in bytes: parameters, then zero bytes.
pub const HELLO_PAYLOAD: usize = 1155;
/// Size of HELLO_K in bytes.
pub const HELLO_K_SIZE: usize = BASE_DATAGRAM;
/// Length of an encapsulation key of ML-KEM-768 in bytes.
pub const KEM_KEY: usize = 1184;
/// Length of a ciphertext of ML-KEM-768 in bytes.
pub const KEM_CIPHERTEXT: usize = 1088;
/// Size of RETRY in bytes.
pub const RETRY_SIZE: usize = 29;
/// Size of PROBE in bytes.
pub const PROBE_SIZE: usize = 64;
/// Size of PROBE_REPLY in bytes.
pub const PROBE_REPLY_SIZE: usize = 46;
/// Bytes of ACCEPT before its sealed frames: they are authenticated with them (PRT-1).
pub const ACCEPT_HEADER: usize = 45;
/// Room for frames in ACCEPT, in bytes.
pub const ACCEPT_ROOM: usize = BASE_DATAGRAM - ACCEPT_HEADER - TAG;
/// Length of the tag behind everything sealed, in bytes.
const TAG: usize = 16;

/// The type of a long packet, its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// HELLO.
    Hello = 0x80,
    /// HELLO_K.
    HelloK = 0x81,
    /// RETRY.
    Retry = 0x82,
    /// VERSION.
    Version = 0x83,
    /// COOKIE.
    Cookie = 0x84,
    /// COOKIE_K.
    CookieK = 0x85,
    /// INITIATE.
    Initiate = 0x86,
    /// ACCEPT.
    Accept = 0x87,
    /// PROBE.
    Probe = 0x88,
    /// PROBE_REPLY.
    ProbeReply = 0x89,
}

impl TryFrom<u8> for Kind {
    type Error = Malformed;

    fn try_from(first: u8) -> Result<Self, Malformed> {
        Ok(match first {
            0x80 => Self::Hello,
            0x81 => Self::HelloK,
            0x82 => Self::Retry,
            0x83 => Self::Version,
            0x84 => Self::Cookie,
            0x85 => Self::CookieK,
            0x86 => Self::Initiate,
            0x87 => Self::Accept,
            0x88 => Self::Probe,
            0x89 => Self::ProbeReply,
            0x8a.. => return Err(Malformed("unknown type of long packet")),
            _ => return Err(Malformed("not a long packet")),
        })
    }
}

/// Fields that all long packets begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix<'a> {
    /// The packet's type.
    pub kind: Kind,
    /// The version of the protocol.
    pub version: u32,
    /// The negotiation that the packet belongs to (NEG-1).
    pub attempt: &'a [u8; 8],
}

impl<'a> Prefix<'a> {
    /// Reads the first 13 bytes of a packet.
    ///
    /// # Errors
    /// If the packet is shorter, or of an unknown type.
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            kind: Kind::try_from(reader.u8()?)?,
            version: reader.u32()?,
            attempt: reader.array_ref()?,
        })
    }
}

/// A long packet of the right size and layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Long<'a> {
    /// HELLO.
    Hello(Hello<'a>),
    /// HELLO_K.
    HelloK(HelloK<'a>),
    /// RETRY.
    Retry(Retry<'a>),
    /// VERSION.
    Version(Version<'a>),
    /// COOKIE.
    Cookie(Cookie<'a>),
    /// COOKIE_K.
    CookieK(CookieK<'a>),
    /// INITIATE.
    Initiate(Initiate<'a>),
    /// ACCEPT.
    Accept(Accept<'a>),
    /// PROBE.
    Probe(Probe<'a>),
    /// PROBE_REPLY.
    ProbeReply(ProbeReply<'a>),
}

/// HELLO: the initiator asks for a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The version asked for.
    pub version: u32,
    /// The negotiation.
    pub attempt: &'a [u8; 8],
    /// The token of a RETRY, or zeros (NEG-12).
    pub token: &'a [u8; 16],
    /// Noise message 1: the ephemeral key and the sealed parameters.
    pub noise: &'a [u8],
}

/// HELLO_K: the post-quantum leg of HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloK<'a> {
    /// The version asked for.
    pub version: u32,
    /// The negotiation.
    pub attempt: &'a [u8; 8],
    /// The token of a RETRY, or zeros (NEG-12).
    pub token: &'a [u8; 16],
    /// The name of the HELLO that it belongs to (NEG-30).
    pub hello: &'a [u8; 16],
    /// The encapsulation key.
    pub key: &'a [u8; KEM_KEY],
    /// All bytes that the answer's `mac` is about: those behind the token (NEG-32).
    pub authed: &'a [u8],
}

/// RETRY: the responder is under load and wants to see a token first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry<'a> {
    /// The version of HELLO.
    pub version: u32,
    /// The negotiation.
    pub attempt: &'a [u8; 8],
    /// To be put into HELLO.
    pub token: &'a [u8; 16],
}

/// VERSION: the responder does not speak the version of HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version<'a> {
    /// The negotiation.
    pub attempt: &'a [u8; 8],
    versions: &'a [[u8; 4]],
}

impl<'a> Version<'a> {
    /// The versions that the responder speaks, best first.
    pub fn versions(&self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        self.versions.iter().map(|v| u32::from_be_bytes(*v))
    }
}

/// COOKIE: the responder's answer, and all it needs to remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie<'a> {
    /// The version of HELLO.
    pub version: u32,
    /// The negotiation.
    pub attempt: &'a [u8; 8],
    /// The responder's ephemeral key.
    pub e: &'a [u8; 32],
    /// The sealed parameters.
    pub sealed: &'a [u8],
    /// The cookie, opaque to the initiator.
    pub cookie: &'a [u8],
    /// Proves that the packet was not changed (NEG-6).
    pub mac: &'a [u8; 16],
    /// All bytes that `mac` is about: those before it.
    pub authed: &'a [u8],
}

/// COOKIE_K: the answer to HELLO_K.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieK<'a> {
    /// The version of HELLO_K.
    pub version: u32,
    /// The negotiation.
    pub attempt: &'a [u8; 8],
    /// The ciphertext that carries the secret.
    pub ciphertext: &'a [u8; KEM_CIPHERTEXT],
    /// The cookie of the leg, opaque to the initiator.
    pub cookie: &'a [u8],
    /// Proves that the packet comes from whoever sent COOKIE (NEG-32).
    pub mac: &'a [u8; 16],
    /// The bytes before `mac`.
    pub authed: &'a [u8],
}

/// INITIATE: the initiator says who it is, and its first frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initiate<'a> {
    /// The version.
    pub version: u32,
    /// The negotiation.
    pub attempt: &'a [u8; 8],
    /// The cookie.
    pub cookie: &'a [u8],
    /// The cookie of the post-quantum leg, empty without one.
    pub kem: &'a [u8],
    /// The initiator's static key, sealed.
    pub sealed_static: &'a [u8; 48],
    /// The initiator's packet 0, sealed.
    pub sealed_frames: &'a [u8],
}

/// ACCEPT: the responder has made the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept<'a> {
    /// The version.
    pub version: u32,
    /// The negotiation.
    pub attempt: &'a [u8; 8],
    /// The bytes before the sealed frames, which are authenticated with them (PRT-1).
    pub header: &'a [u8; ACCEPT_HEADER],
    /// `n_R`, the responder's nonce.
    pub nonce: &'a [u8; 32],
    /// The responder's packet 0, sealed.
    pub sealed_frames: &'a [u8],
}

/// PROBE: who are you?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe<'a> {
    /// The version.
    pub version: u32,
    /// A nonce.
    pub attempt: &'a [u8; 8],
}

/// PROBE_REPLY: what a host says it is; unproven (NEG-14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeReply<'a> {
    /// The version.
    pub version: u32,
    /// The nonce of PROBE.
    pub attempt: &'a [u8; 8],
    /// The EID.
    pub eid: Eid,
}

impl<'a> Long<'a> {
    /// Parses a datagram whose first byte has its high bit set.
    ///
    /// # Errors
    /// If it is of a wrong size, of an unknown type (NEG-2), or of another layout.
    pub fn parse(packet: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(packet);
        let prefix = Prefix::decode(&mut reader)?;
        check_size(prefix.kind, packet.len())?;
        Ok(match prefix.kind {
            Kind::Hello => Self::Hello(Hello::decode(prefix, &mut reader)?),
            Kind::HelloK => Self::HelloK(HelloK::decode(prefix, &mut reader)?),
            Kind::Retry => Self::Retry(Retry::decode(prefix, &mut reader)?),
            Kind::Version => Self::Version(Version::decode(prefix, &mut reader)?),
            Kind::Cookie => Self::Cookie(Cookie::decode(prefix, packet, &mut reader)?),
            Kind::CookieK => Self::CookieK(CookieK::decode(prefix, packet, &mut reader)?),
            Kind::Initiate => Self::Initiate(Initiate::decode(prefix, &mut reader)?),
            Kind::Accept => Self::Accept(Accept::decode(prefix, packet, &mut reader)?),
            Kind::Probe => Self::Probe(Probe {
                version: prefix.version,
                attempt: prefix.attempt,
            }),
            Kind::ProbeReply => Self::ProbeReply(ProbeReply::decode(prefix, &mut reader)?),
        })
    }

    /// The negotiation that the packet belongs to.
    pub fn attempt(&self) -> &'a [u8; 8] {
        match self {
            Self::Hello(p) => p.attempt,
            Self::HelloK(p) => p.attempt,
            Self::Retry(p) => p.attempt,
            Self::Version(p) => p.attempt,
            Self::Cookie(p) => p.attempt,
            Self::CookieK(p) => p.attempt,
            Self::Initiate(p) => p.attempt,
            Self::Accept(p) => p.attempt,
            Self::Probe(p) => p.attempt,
            Self::ProbeReply(p) => p.attempt,
        }
    }
}

/// The sizes that a packet's type alone decides (NEG-2).
fn check_size(kind: Kind, size: usize) -> Result<(), Malformed> {
    let is_right = match kind {
        Kind::Hello => size == HELLO_SIZE,
        Kind::HelloK => size == HELLO_K_SIZE,
        Kind::Retry => size == RETRY_SIZE,
        Kind::Probe => size == PROBE_SIZE,
        Kind::ProbeReply => size == PROBE_REPLY_SIZE,
        Kind::Version | Kind::Cookie | Kind::CookieK => size < BASE_DATAGRAM,
        Kind::Initiate | Kind::Accept => size <= BASE_DATAGRAM,
    };
    if is_right {
        Ok(())
    } else {
        Err(Malformed("wrong size of long packet"))
    }
}

/// Takes what is left, which must be at least one byte sealed.
fn sealed_frames<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let sealed = reader.rest();
    if sealed.len() <= TAG {
        return Err(Malformed("a long packet without frames"));
    }
    Ok(sealed)
}

impl<'a> Hello<'a> {
    /// Reads a HELLO that was introduced, of whatever size it is (RCH-11).
    ///
    /// # Errors
    /// If it is none, or too short to hold an ephemeral key and something sealed.
    pub fn parse_short(packet: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(packet);
        let prefix = Prefix::decode(&mut reader)?;
        if prefix.kind != Kind::Hello || packet.len() > HELLO_SIZE {
            return Err(Malformed("not a HELLO"));
        }
        let hello = Self::decode(prefix, &mut reader)?;
        match hello.noise.len() {
            48.. => Ok(hello),
            _ => Err(TRUNCATED),
        }
    }

    fn decode(prefix: Prefix<'a>, reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            version: prefix.version,
            attempt: prefix.attempt,
            token: reader.array_ref()?,
            noise: reader.rest(),
        })
    }
}

impl<'a> HelloK<'a> {
    fn decode(prefix: Prefix<'a>, reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let token = reader.array_ref()?;
        let authed = reader.rest();
        let mut reader = Reader::new(authed);
        let hello = reader.array_ref()?;
        match Kem::try_from(reader.u8()?)? {
            Kem::MlKem768 => {}
            Kem::None => return Err(Malformed("HELLO_K of no KEM")),
        }
        Ok(Self {
            version: prefix.version,
            attempt: prefix.attempt,
            token,
            hello,
            key: reader.array_ref()?,
            authed,
        })
    }
}

impl<'a> Retry<'a> {
    fn decode(prefix: Prefix<'a>, reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            version: prefix.version,
            attempt: prefix.attempt,
            token: reader.array_ref()?,
        })
    }
}

impl<'a> Version<'a> {
    fn decode(prefix: Prefix<'a>, reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        // NEG-13
        if prefix.version != 0 {
            return Err(Malformed("VERSION has version 0"));
        }
        let count = reader.u8()?;
        let (versions, rest) = reader.rest().as_chunks();
        if versions.len() != usize::from(count) || !rest.is_empty() {
            return Err(Malformed("wrong size of VERSION"));
        }
        Ok(Self {
            attempt: prefix.attempt,
            versions,
        })
    }
}

impl<'a> Cookie<'a> {
    fn decode(prefix: Prefix<'a>, packet: &'a [u8], reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let e = reader.array_ref()?;
        let sealed = reader.bytes16()?;
        if sealed.len() < TAG {
            return Err(Malformed("sealed parameters without a tag"));
        }
        let cookie = reader.bytes8()?;
        let mac = reader.array_ref()?;
        if !reader.is_empty() {
            return Err(Malformed("bytes behind COOKIE"));
        }
        let (authed, _) = packet.split_last_chunk::<16>().ok_or(TRUNCATED)?;
        Ok(Self {
            version: prefix.version,
            attempt: prefix.attempt,
            e,
            sealed,
            cookie,
            mac,
            authed,
        })
    }
}

impl<'a> CookieK<'a> {
    fn decode(prefix: Prefix<'a>, packet: &'a [u8], reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let ciphertext = reader.array_ref()?;
        let cookie = reader.bytes8()?;
        let mac = reader.array_ref()?;
        if !reader.is_empty() {
            return Err(Malformed("bytes behind COOKIE_K"));
        }
        let (authed, _) = packet.split_last_chunk::<16>().ok_or(TRUNCATED)?;
        Ok(Self {
            version: prefix.version,
            attempt: prefix.attempt,
            ciphertext,
            cookie,
            mac,
            authed,
        })
    }
}

impl<'a> Initiate<'a> {
    fn decode(prefix: Prefix<'a>, reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let cookie = reader.bytes8()?;
        let kem = reader.bytes16()?;
        Ok(Self {
            version: prefix.version,
            attempt: prefix.attempt,
            cookie,
            kem,
            sealed_static: reader.array_ref()?,
            sealed_frames: sealed_frames(reader)?,
        })
    }
}

impl<'a> Accept<'a> {
    fn decode(prefix: Prefix<'a>, packet: &'a [u8], reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            version: prefix.version,
            attempt: prefix.attempt,
            header: packet.first_chunk().ok_or(TRUNCATED)?,
            nonce: reader.array_ref()?,
            sealed_frames: sealed_frames(reader)?,
        })
    }
}

impl<'a> ProbeReply<'a> {
    fn decode(prefix: Prefix<'a>, reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let eid = Eid::from_bytes(reader.array_ref()?);
        Ok(Self {
            version: prefix.version,
            attempt: prefix.attempt,
            eid: eid.map_err(|_| Malformed("an EID of unknown type"))?,
        })
    }
}

#[cfg(test)]
mod tests;
