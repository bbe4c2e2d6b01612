//! Plaintexts of the sealed packets (RCH-7).

use std::net::SocketAddr;

use super::{MAX_TOKEN, address, address_bytes};
use crate::Eid;
use crate::error::Malformed;
use crate::reader::Reader;

/// Outcome of a question to a server (RCH-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// It is as wanted.
    Ok = 0,
    /// No host of that EID has registered, as far as the server remembers.
    NeverSeen = 1,
    /// The host had registered, and is gone.
    Offline = 2,
    /// The host does not want to be found, or has refused.
    Refused = 3,
    /// It has a lease, and does not answer.
    Unreachable = 4,
    /// A quota is used up.
    TooMany = 5,
    /// The server does not serve whoever asks.
    NotAllowed = 6,
    /// Whoever asks has no lease.
    NoLease = 7,
    /// Another server knows the host (RCH-44).
    Elsewhere = 8,
}

impl TryFrom<u8> for Status {
    type Error = Malformed;

    fn try_from(byte: u8) -> Result<Self, Malformed> {
        Ok(match byte {
            0 => Self::Ok,
            1 => Self::NeverSeen,
            2 => Self::Offline,
            3 => Self::Refused,
            4 => Self::Unreachable,
            5 => Self::TooMany,
            6 => Self::NotAllowed,
            7 => Self::NoLease,
            8 => Self::Elsewhere,
            _ => return Err(Malformed("an unknown status")),
        })
    }
}

/// Wish of a host about its lease (RCH-8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Presence {
    /// It lasts, and nobody finds the host.
    #[default]
    Hidden = 0,
    /// It lasts, and others find the host.
    Found = 1,
    /// It ends: the host goes.
    Leaving = 2,
}

impl Presence {
    fn of(flags: u8) -> Self {
        match flags & 3 {
            0 => Self::Hidden,
            1 => Self::Found,
            _ => Self::Leaving,
        }
    }
}

/// LEASE, opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The server's run that the host knows.
    pub boot: [u8; 8],
    /// Number of the packet.
    pub counter: u64,
    /// Round-trip time to the server in microseconds; 0 if it is not known.
    pub rtt: u32,
    /// Wish of the host.
    pub presence: Presence,
    /// Set if nobody is to be told where the host is (RCH-38).
    pub is_veiled: bool,
    /// The introduction that is answered by it, if one is.
    pub answer: Option<([u8; 8], Status)>,
    /// The port that a router lets in for the host (RCH-25).
    pub mapped: MappedPort,
}

/// A port that a router lets in for a host, at the address that the server sees it at (RCH-25).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MappedPort {
    /// Its number; 0 if there is none.
    pub port: u16,
    /// Set if the server is to send an echo there.
    pub wants_echo: bool,
}

/// The flag of LEASE by which an echo is asked for.
const WANTS_ECHO: u8 = 4;
/// The flag of LEASE by which the server is asked to tell nobody where the host is (RCH-38).
const VEILED: u8 = 8;

impl Lease {
    /// The plaintext, of this length.
    pub fn encode(&self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(&self.boot);
        out.extend_from_slice(&self.counter.to_be_bytes());
        out.extend_from_slice(&self.rtt.to_be_bytes());
        out.push(self.flags());
        let (introduction, status) = self.answer.unwrap_or(([0; 8], Status::Ok));
        out.extend_from_slice(&introduction);
        out.push(status as u8);
        out.extend_from_slice(&self.mapped.port.to_be_bytes());
        out.resize(len, 0);
        out
    }

    fn flags(&self) -> u8 {
        let echo = if self.mapped.wants_echo { WANTS_ECHO } else { 0 };
        let veiled = if self.is_veiled { VEILED } else { 0 };
        self.presence as u8 | echo | veiled
    }

    /// Reads a plaintext.
    ///
    /// # Errors
    /// If it is too short, or has an unknown status.
    pub fn decode(plaintext: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(plaintext);
        let (boot, counter, rtt) = (reader.array()?, reader.u64()?, reader.u32()?);
        let flags = reader.u8()?;
        let introduction = reader.array()?;
        let status = Status::try_from(reader.u8()?)?;
        Ok(Self {
            boot,
            counter,
            rtt,
            presence: Presence::of(flags),
            is_veiled: flags & VEILED != 0,
            answer: (introduction != [0; 8]).then_some((introduction, status)),
            mapped: MappedPort {
                port: reader.u16()?,
                wants_echo: flags & WANTS_ECHO != 0,
            },
        })
    }
}

/// LEASE_OK, opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseOk {
    /// The server's present run.
    pub boot: [u8; 8],
    /// That of the LEASE that is answered.
    pub counter: u64,
    /// The address that LEASE came from.
    pub address: SocketAddr,
    /// Duration of the lease in seconds.
    pub ttl: u16,
    /// Things that the host has to do besides.
    pub notice: Notice,
    /// A token for the address.
    pub token: Vec<u8>,
}

/// Flags of LEASE_OK (RCH-9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// The server has been restarted: register again.
    pub is_forgotten: bool,
    /// Other instances have taken this one's place: stop.
    pub is_superseded: bool,
    /// It is an echo: sent to the mapped port, and no answer to anything else (RCH-25).
    pub is_echo: bool,
    /// The server's other port says that it relays nothing (RCH-48).
    pub relays_nothing: bool,
}

impl Notice {
    /// An echo (RCH-26).
    pub const ECHO: Self = Self {
        is_forgotten: false,
        is_superseded: false,
        is_echo: true,
        relays_nothing: false,
    };

    fn flags(self) -> u8 {
        let flags = [self.is_forgotten, self.is_superseded, self.is_echo, self.relays_nothing];
        flags.iter().rev().fold(0, |all, flag| all << 1 | u8::from(*flag))
    }

    fn of(flags: u8) -> Self {
        Self {
            is_forgotten: flags & 1 != 0,
            is_superseded: flags & 2 != 0,
            is_echo: flags & 4 != 0,
            relays_nothing: flags & 8 != 0,
        }
    }
}

impl LeaseOk {
    /// The plaintext, of this length.
    pub fn encode(&self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(&self.boot);
        out.extend_from_slice(&self.counter.to_be_bytes());
        out.extend_from_slice(&address_bytes(self.address));
        out.extend_from_slice(&self.ttl.to_be_bytes());
        out.push(self.notice.flags());
        put_bytes8(&mut out, &self.token);
        out.resize(len, 0);
        out
    }

    /// Reads a plaintext.
    ///
    /// # Errors
    /// If it is too short, or its token too long.
    pub fn decode(plaintext: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(plaintext);
        let (boot, counter) = (reader.array()?, reader.u64()?);
        let (address, ttl, flags) = (address(&mut reader)?, reader.u16()?, reader.u8()?);
        Ok(Self {
            boot,
            counter,
            address,
            ttl,
            notice: Notice::of(flags),
            token: token(&mut reader)?,
        })
    }
}

/// CONNECT, opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The server's run that the host knows.
    pub boot: [u8; 8],
    /// Number of the packet.
    pub counter: u64,
    /// Round-trip time to the server in microseconds; 0 if it is not known.
    pub rtt: u32,
    /// The attempt, by a name for the server alone.
    pub introduction: [u8; 8],
    /// The host looked for.
    pub eid: Eid,
    /// A short HELLO (RCH-11).
    pub hello: &'a [u8],
}

impl<'a> Connect<'a> {
    /// The plaintext.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.hello.len().saturating_add(61));
        out.extend_from_slice(&self.boot);
        out.extend_from_slice(&self.counter.to_be_bytes());
        out.extend_from_slice(&self.rtt.to_be_bytes());
        out.extend_from_slice(&self.introduction);
        out.extend_from_slice(self.eid.as_bytes());
        out.extend_from_slice(self.hello);
        out
    }

    /// Reads a plaintext.
    ///
    /// # Errors
    /// If it is too short, or its EID is none.
    pub fn decode(plaintext: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(plaintext);
        Ok(Self {
            boot: reader.array()?,
            counter: reader.u64()?,
            rtt: reader.u32()?,
            introduction: reader.array()?,
            eid: eid(&mut reader)?,
            hello: reader.rest(),
        })
    }
}

/// Way to the other host of an introduction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Address of the other, as the server sees it.
    pub address: SocketAddr,
    /// Another port of that address, which a router lets in for the other; 0 if there is none (RCH-25).
    pub mapped: u16,
    /// Handle by which the relay takes packets to the other; 0 if there is none.
    pub handle: u32,
    /// The key of PUNCH.
    pub punch_key: [u8; 32],
    /// Time to wait before anything goes to `address`, in microseconds.
    pub hold: u32,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Way").field("hold", &self.hold).finish_non_exhaustive()
    }
}

impl Way {
    /// The address of the mapped port, if there is one.
    pub fn mapped_address(&self) -> Option<SocketAddr> {
        (self.mapped != 0).then(|| SocketAddr::new(self.address.ip(), self.mapped))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&address_bytes(self.address));
        out.extend_from_slice(&self.mapped.to_be_bytes());
        out.extend_from_slice(&self.handle.to_be_bytes());
        out.extend_from_slice(&self.punch_key);
        out.extend_from_slice(&self.hold.to_be_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            address: address(reader)?,
            mapped: reader.u16()?,
            handle: reader.u32()?,
            punch_key: reader.array()?,
            hold: reader.u32()?,
        })
    }
}

/// FOUND, opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// That of CONNECT.
    pub introduction: [u8; 8],
    /// The way to the host, or why there is none.
    pub outcome: Result<Way, Unfound>,
}

/// Reason why a host is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfound {
    /// Anything but [`Status::Ok`].
    pub status: Status,
    /// Seconds since it was last heard of, if it is [`Status::Offline`]; or since the server was restarted, if it is
    /// [`Status::NeverSeen`] and that was so lately that not all hosts have leased again; else 0.
    pub since: u32,
    /// The server that knows the host, if it is [`Status::Elsewhere`].
    pub elsewhere: Option<Elsewhere>,
}

/// Another server, which knows a host (RCH-44).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Elsewhere {
    /// Its name.
    pub server: Eid,
    /// Its address.
    pub address: SocketAddr,
}

impl Unfound {
    /// This reason, without a time.
    pub const fn because(status: Status) -> Self {
        Self::since(status, 0)
    }

    /// This reason, with so many seconds.
    pub const fn since(status: Status, since: u32) -> Self {
        Self {
            status,
            since,
            elsewhere: None,
        }
    }

    /// Another server knows the host.
    pub const fn elsewhere(other: Elsewhere) -> Self {
        Self {
            status: Status::Elsewhere,
            since: 0,
            elsewhere: Some(other),
        }
    }

    /// Writes it.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.status as u8);
        out.extend_from_slice(&self.since.to_be_bytes());
        if let (Status::Elsewhere, Some(other)) = (self.status, &self.elsewhere) {
            out.extend_from_slice(other.server.as_bytes());
            out.extend_from_slice(&address_bytes(other.address));
        }
    }

    /// Reads what is behind a status that is none of success.
    pub(super) fn decode(status: Status, reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let since = reader.u32()?;
        let elsewhere = match status {
            Status::Elsewhere => Some(Elsewhere {
                server: eid(reader)?,
                address: address(reader)?,
            }),
            _ => None,
        };
        Ok(Self {
            status,
            since,
            elsewhere,
        })
    }
}

impl Found {
    /// The plaintext.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(74);
        out.extend_from_slice(&self.introduction);
        put_found(&mut out, &self.outcome);
        out
    }

    /// Reads a plaintext.
    ///
    /// # Errors
    /// If it is too short, or its status unknown.
    pub fn decode(plaintext: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(plaintext);
        let introduction = reader.array()?;
        let outcome = found(&mut reader)?;
        Ok(Self { introduction, outcome })
    }
}

/// Writes the way to a host, or why there is none.
pub(super) fn put_found(out: &mut Vec<u8>, outcome: &Result<Way, Unfound>) {
    match outcome {
        Ok(way) => {
            Unfound::because(Status::Ok).encode(out);
            way.encode(out);
        }
        Err(unfound) => unfound.encode(out),
    }
}

/// Reads the way to a host, or why there is none.
pub(super) fn found(reader: &mut Reader<'_>) -> Result<Result<Way, Unfound>, Malformed> {
    let status = Status::try_from(reader.u8()?)?;
    let unfound = Unfound::decode(status, reader)?;
    Ok(match status {
        Status::Ok => Ok(Way::decode(reader)?),
        _ => Err(unfound),
    })
}

/// NOTIFY, opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notify<'a> {
    /// The server's present run.
    pub boot: [u8; 8],
    /// The introduction, by a name for the callee alone.
    pub introduction: [u8; 8],
    /// Way to the caller.
    pub way: Way,
    /// The caller's short HELLO.
    pub hello: &'a [u8],
}

impl<'a> Notify<'a> {
    /// The plaintext.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.hello.len().saturating_add(76));
        out.extend_from_slice(&self.boot);
        out.extend_from_slice(&self.introduction);
        self.way.encode(&mut out);
        out.extend_from_slice(self.hello);
        out
    }

    /// Reads a plaintext.
    ///
    /// # Errors
    /// If it is too short.
    pub fn decode(plaintext: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(plaintext);
        Ok(Self {
            boot: reader.array()?,
            introduction: reader.array()?,
            way: Way::decode(&mut reader)?,
            hello: reader.rest(),
        })
    }
}

pub(super) fn put_bytes8(out: &mut Vec<u8>, bytes: &[u8]) {
    debug_assert!(bytes.len() <= 0xff, "{} bytes need a longer length", bytes.len());
    let bytes = bytes.get(..0xff).unwrap_or(bytes);
    out.push(bytes.len() as u8);
    out.extend_from_slice(bytes);
}

pub(super) fn token(reader: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    let token = reader.bytes8()?;
    match token.len() {
        0..=MAX_TOKEN => Ok(token.to_vec()),
        _ => Err(Malformed("a token that is too long")),
    }
}

pub(super) fn eid(reader: &mut Reader<'_>) -> Result<Eid, Malformed> {
    Eid::from_bytes(reader.array_ref()?).map_err(|_| Malformed("an EID of an unknown type"))
}
