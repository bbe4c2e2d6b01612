//! Layouts of docs/spec/reach.md: packets of leases and introductions, and the records of a registration.
//!
//! [`Packet::parse`] checks types and sizes and gives a view of the parts; what is sealed is opened by somebody else,
//! and read by [`bodies`]. The records that travel on streams are in [`records`] and [`spray`], and the frames of
//! tunnels in [`tunnel`].

pub mod bodies;
pub mod records;
pub mod spray;
pub mod tunnel;

pub use crate::address::{ADDRESS, address, address_bytes};
use crate::constants::VERSION;
use crate::error::Malformed;
use crate::long::{BASE_DATAGRAM, KEM_KEY, PREFIX};
use crate::reader::Reader;

/// The protocol in which hosts register, of the service [`SERVICE`](crate::services::SERVICE).
pub const PROTOCOL: &str = "rendezvous/1";
/// First byte of a packet that travels over a relay.
pub const RELAY: u8 = 0x08;
/// Bytes in front of a packet that travels over a relay.
pub const RELAY_HEADER: usize = 5;
/// Size of LEASE and LEASE_OK in bytes.
pub const LEASE_SIZE: usize = 160;
/// Size of PUNCH in bytes.
pub const PUNCH_SIZE: usize = 45;
/// Size of LEG in bytes.
pub const LEG_SIZE: usize = 1213;
/// Longest token, in bytes: with it LEASE_OK still has its size.
pub const MAX_TOKEN: usize = 93;
/// Length of the tag behind everything sealed, in bytes.
const TAG: usize = 16;

/// Bytes in front of a packet that travels over a relay (CHN-17).
pub fn relay_header(handle: u32) -> [u8; RELAY_HEADER] {
    let [a, b, c, d] = handle.to_be_bytes();
    [RELAY, a, b, c, d]
}

/// Reads the handle of a datagram that came over a relay. The packet begins after [`RELAY_HEADER`] bytes.
///
/// # Errors
/// If the datagram is too short, or is none.
pub fn relay_handle(datagram: &[u8]) -> Result<u32, Malformed> {
    let mut reader = Reader::new(datagram);
    match reader.u8()? {
        RELAY => reader.u32(),
        _ => Err(Malformed("not a packet over a relay")),
    }
}

/// Type of a packet, its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// PUNCH.
    Punch = 0x8a,
    /// LEASE.
    Lease = 0x8b,
    /// LEASE_OK.
    LeaseOk = 0x8c,
    /// CONNECT.
    Connect = 0x8d,
    /// FOUND.
    Found = 0x8e,
    /// NOTIFY.
    Notify = 0x8f,
    /// LEG.
    Leg = 0x90,
    /// PUNCH, answered.
    PunchAnswer = 0x91,
}

impl Kind {
    /// The kind of a packet that begins with this byte.
    pub fn of(first: u8) -> Option<Self> {
        Some(match first {
            0x8a => Self::Punch,
            0x8b => Self::Lease,
            0x8c => Self::LeaseOk,
            0x8d => Self::Connect,
            0x8e => Self::Found,
            0x8f => Self::Notify,
            0x90 => Self::Leg,
            0x91 => Self::PunchAnswer,
            _ => return None,
        })
    }
}

/// A packet of the right size and layout, and of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// PUNCH, or its answer.
    Punch(Punch<'a>),
    /// LEASE, LEASE_OK, CONNECT, FOUND or NOTIFY.
    Sealed(Sealed<'a>),
    /// LEG.
    Leg(Leg<'a>),
}

/// PUNCH (RCH-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Punch<'a> {
    /// Set if it answers another.
    pub is_answer: bool,
    /// The introduction that it is of.
    pub introduction: &'a [u8; 8],
    /// Random in a question; that of the question in an answer.
    pub nonce: &'a [u8; 16],
    /// The bytes that `mac` authenticates.
    pub authed: &'a [u8],
    /// Authenticator under the punch key.
    pub mac: &'a [u8; 16],
}

/// A packet of which most is sealed (RCH-6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// Its type.
    pub kind: Kind,
    /// Nonce of the sealing.
    pub id: &'a [u8; 8],
    /// The token, which only LEASE and CONNECT have.
    pub token: &'a [u8],
    /// The bytes before the sealed ones: associated data.
    pub header: &'a [u8],
    /// Ciphertext and tag.
    pub sealed: &'a [u8],
}

/// LEG: the other half of an introduced HELLO (RCH-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg<'a> {
    /// The introduction that it is of.
    pub introduction: &'a [u8; 8],
    /// The encapsulation key of ML-KEM-768.
    pub key: &'a [u8; KEM_KEY],
    /// The bytes that `mac` authenticates.
    pub authed: &'a [u8],
    /// Authenticator, under a key that follows from the lease key.
    pub mac: &'a [u8; 16],
}

impl<'a> Packet<'a> {
    /// Reads a packet.
    ///
    /// # Errors
    /// If it is of no type of [`Kind`], of another version, or its size or layout is wrong (RCH-7).
    pub fn parse(packet: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(packet);
        let kind = Kind::of(reader.u8()?).ok_or(Malformed("no packet of reach"))?;
        if reader.u32()? != VERSION {
            return Err(Malformed("a packet of another version"));
        }
        let id = reader.array_ref()?;
        if !kind.has_size(packet.len()) {
            return Err(Malformed("a packet of the wrong size"));
        }
        match kind {
            Kind::Punch | Kind::PunchAnswer => Punch::decode(kind, id, packet, &mut reader).map(Packet::Punch),
            Kind::Leg => Leg::decode(id, packet, &mut reader).map(Packet::Leg),
            _ => Sealed::decode(kind, id, packet, &mut reader).map(Packet::Sealed),
        }
    }
}

impl Kind {
    fn has_size(self, size: usize) -> bool {
        match self {
            Self::Punch | Self::PunchAnswer => size == PUNCH_SIZE,
            Self::Lease | Self::LeaseOk => size == LEASE_SIZE,
            Self::Leg => size == LEG_SIZE,
            Self::Connect | Self::Found | Self::Notify => size <= BASE_DATAGRAM,
        }
    }

    fn has_token(self) -> bool {
        matches!(self, Self::Lease | Self::Connect)
    }
}

impl<'a> Punch<'a> {
    fn decode(
        kind: Kind,
        introduction: &'a [u8; 8],
        packet: &'a [u8],
        reader: &mut Reader<'a>,
    ) -> Result<Self, Malformed> {
        let nonce = reader.array_ref()?;
        Ok(Self {
            is_answer: kind == Kind::PunchAnswer,
            introduction,
            nonce,
            authed: packet.get(..reader.position()).unwrap_or_default(),
            mac: reader.array_ref()?,
        })
    }
}

impl<'a> Leg<'a> {
    fn decode(introduction: &'a [u8; 8], packet: &'a [u8], reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let key = reader.array_ref()?;
        Ok(Self {
            introduction,
            key,
            authed: packet.get(..reader.position()).unwrap_or_default(),
            mac: reader.array_ref()?,
        })
    }
}

impl<'a> Sealed<'a> {
    fn decode(kind: Kind, id: &'a [u8; 8], packet: &'a [u8], reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let token = if kind.has_token() { reader.bytes8()? } else { &[] };
        let header = packet.get(..reader.position()).unwrap_or_default();
        let sealed = reader.rest();
        if token.len() > MAX_TOKEN || sealed.len() < TAG {
            return Err(Malformed("a packet of the wrong size"));
        }
        Ok(Self {
            kind,
            id,
            token,
            header,
            sealed,
        })
    }
}

/// Bytes before what is sealed, or authenticated. A token is to be given for LEASE and CONNECT; at most [`MAX_TOKEN`]
/// bytes.
pub fn header(kind: Kind, id: &[u8; 8], token: Option<&[u8]>) -> Vec<u8> {
    let mut packet = Vec::with_capacity(LEASE_SIZE);
    packet.push(kind as u8);
    packet.extend_from_slice(&VERSION.to_be_bytes());
    packet.extend_from_slice(id);
    debug_assert_eq!(kind.has_token(), token.is_some());
    if let Some(token) = token {
        debug_assert!(token.len() <= MAX_TOKEN);
        packet.push(token.len() as u8);
        packet.extend_from_slice(token);
    }
    packet
}

/// Length of the plaintext of LEASE or LEASE_OK, for packets that begin with so many bytes.
pub fn lease_plaintext(header: usize) -> usize {
    LEASE_SIZE.saturating_sub(header).saturating_sub(TAG)
}

/// Longest plaintext of a packet that begins with so many bytes.
pub fn plaintext_room(header: usize) -> usize {
    BASE_DATAGRAM.saturating_sub(header).saturating_sub(TAG)
}

/// The bytes of PUNCH that are authenticated.
pub fn punch_without_mac(is_answer: bool, introduction: &[u8; 8], nonce: &[u8; 16]) -> Vec<u8> {
    let kind = if is_answer { Kind::PunchAnswer } else { Kind::Punch };
    let mut packet = header(kind, introduction, None);
    packet.extend_from_slice(nonce);
    packet
}

/// The bytes of LEG that are authenticated.
pub fn leg_without_mac(introduction: &[u8; 8], key: &[u8; KEM_KEY]) -> Vec<u8> {
    let mut packet = header(Kind::Leg, introduction, None);
    packet.reserve_exact(KEM_KEY.saturating_add(TAG));
    packet.extend_from_slice(key);
    packet
}

const _: () = assert!(PREFIX == 13 && PUNCH_SIZE == PREFIX + 32 && LEG_SIZE == PREFIX + KEM_KEY + TAG);

#[cfg(test)]
mod tests;
