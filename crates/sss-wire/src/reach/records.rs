//! Records on the stream of a registration (RCH-1).

use std::net::SocketAddr;

use super::bodies::{Status, Unfound, Way, eid, found, put_bytes8, put_found, token};
use super::{address, address_bytes};
use crate::error::Malformed;
use crate::long::KEM_KEY;
use crate::reader::Reader;
use crate::{Eid, varint};

/// Longest record, in bytes.
pub const MAX_RECORD: usize = 2048;
/// Longest profile, in bytes.
pub const MAX_PROFILE: usize = 1024;
/// Words under which a host may be found, at most.
pub const MAX_WORDS: usize = 16;
/// Longest word, in bytes.
pub const MAX_WORD: usize = 64;
/// Tokens that a registration brings, at most.
pub const MAX_TOKENS: usize = 4;

/// Question to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A host wants a lease.
    Register(Register),
    /// Is a host there?
    Lookup(Eid),
    /// Hosts listed under a word.
    Search(Search),
    /// Introduction to a host.
    Connect(Call),
}

/// REGISTER (RCH-2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Register {
    /// The run of the host.
    pub instance: [u8; 8],
    /// Hosts that are to find it.
    pub visibility: Visibility,
    /// Set if nobody is to be told where it is (RCH-38).
    pub is_veiled: bool,
    /// Set if answers may name another server (RCH-44).
    pub follows: bool,
    /// Words under which it is listed, if it is, with spaces between them.
    pub words: String,
    /// Text about itself.
    pub profile: String,
}

/// The flag of REGISTER by which the server is asked to tell nobody where the host is (RCH-38).
const VEILED: u8 = 4;
/// The flag of REGISTER by which a host says that it asks where an answer sends it (RCH-44).
const FOLLOWS: u8 = 8;

impl Register {
    fn flags(&self) -> u8 {
        let visibility = match self.visibility {
            Visibility::Hidden => 0,
            Visibility::Known => 1,
            Visibility::Listed => 3,
        };
        let veiled = if self.is_veiled { VEILED } else { 0 };
        let follows = if self.follows { FOLLOWS } else { 0 };
        visibility | veiled | follows
    }

    /// Returns whether a server takes it: not too many words, nor one that is too long, nor too much text.
    pub fn is_legal(&self) -> bool {
        let record = Request::Register(self.clone()).encode();
        Request::decode(&record).is_ok()
    }
}

/// Hosts by which a host wants to be found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Visibility {
    /// Nobody: it only calls others.
    #[default]
    Hidden,
    /// Those who know its EID.
    Known,
    /// Those too who search.
    Listed,
}

/// SEARCH (RCH-4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// The word.
    pub word: String,
    /// The EID behind which the answer begins.
    pub after: Option<Eid>,
    /// Entries wanted, at most.
    pub count: u8,
}

/// CONNECT on a stream (RCH-41).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The run of the caller.
    pub instance: [u8; 8],
    /// Round-trip time to the server in microseconds; 0 if it is not known.
    pub rtt: u32,
    /// The attempt, by a name for the server alone.
    pub introduction: [u8; 8],
    /// The host looked for.
    pub eid: Eid,
    /// A short HELLO (RCH-11).
    pub hello: Vec<u8>,
    /// The key that LEG has, if the caller offers the leg.
    pub key: Option<Box<[u8; KEM_KEY]>>,
}

/// REGISTERED: what a host has to know.
#[derive(Clone, PartialEq, Eq)]
pub struct Registered {
    /// The server's present run.
    pub boot: [u8; 8],
    /// Duration of the lease in seconds.
    pub ttl: u16,
    /// The host's address, as the server sees it.
    pub address: SocketAddr,
    /// The lease key.
    pub key: [u8; 32],
    /// Tokens for the address, the first to be used first.
    pub tokens: Vec<Vec<u8>>,
    /// Another port of the server's, which tells how it sees a host and does nothing else (RCH-28); 0 if there is none.
    pub other_port: u16,
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registered")
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

/// Answer to SEARCH.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Set if others may be missing.
    pub is_partial: bool,
    /// Point where the next question is to begin, unless this is the end.
    pub next: Option<Eid>,
    /// The hosts, and what they say of themselves, in the order of their EIDs.
    pub entries: Vec<(Eid, String)>,
}

impl Request {
    /// The record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Register(register) => {
                out.push(1);
                out.extend_from_slice(&register.instance);
                out.push(register.flags());
                put_bytesv(&mut out, register.words.as_bytes());
                put_bytesv(&mut out, register.profile.as_bytes());
            }
            Self::Lookup(eid) => {
                out.push(2);
                out.extend_from_slice(eid.as_bytes());
            }
            Self::Search(search) => {
                out.push(3);
                put_bytes8(&mut out, search.word.as_bytes());
                put_bytes8(&mut out, search.after.as_ref().map_or(&[], |eid| eid.as_bytes()));
                out.push(search.count);
            }
            Self::Connect(call) => {
                out.push(4);
                out.extend_from_slice(&call.instance);
                out.extend_from_slice(&call.rtt.to_be_bytes());
                out.extend_from_slice(&call.introduction);
                out.extend_from_slice(call.eid.as_bytes());
                put_bytesv(&mut out, &call.hello);
                out.extend_from_slice(call.key.as_ref().map_or(&[], |key| &key[..]));
            }
        }
        out
    }

    /// Reads a record.
    ///
    /// # Errors
    /// If it is not as RCH-1 and RCH-2 say.
    pub fn decode(record: &[u8]) -> Result<Self, Malformed> {
        if record.len() > MAX_RECORD {
            return Err(Malformed("a record that is too long"));
        }
        let mut reader = Reader::new(record);
        let request = match reader.u8()? {
            1 => Self::Register(register(&mut reader)?),
            2 => Self::Lookup(eid(&mut reader)?),
            3 => Self::Search(Search {
                word: word(reader.bytes8()?)?,
                after: optional_eid(&mut reader)?,
                count: reader.u8()?,
            }),
            4 => Self::Connect(call(&mut reader)?),
            _ => return Err(Malformed("an unknown request")),
        };
        match reader.is_empty() {
            true => Ok(request),
            false => Err(Malformed("a request with something behind it")),
        }
    }
}

fn register(reader: &mut Reader<'_>) -> Result<Register, Malformed> {
    let instance = reader.array()?;
    let flags = reader.u8()?;
    let visibility = match flags & 3 {
        0 | 2 => Visibility::Hidden,
        1 => Visibility::Known,
        _ => Visibility::Listed,
    };
    let words = text(reader.bytesv()?)?;
    let mut count = 0_usize;
    for word in words.split(' ').filter(|w| !w.is_empty()) {
        count = count.saturating_add(1);
        if count > MAX_WORDS || word.len() > MAX_WORD {
            return Err(Malformed("too many words, or one that is too long"));
        }
    }
    let profile = text(reader.bytesv()?)?;
    if profile.len() > MAX_PROFILE {
        return Err(Malformed("a profile that is too long"));
    }
    Ok(Register {
        instance,
        visibility,
        is_veiled: flags & VEILED != 0,
        follows: flags & FOLLOWS != 0,
        words,
        profile,
    })
}

fn call(reader: &mut Reader<'_>) -> Result<Call, Malformed> {
    Ok(Call {
        instance: reader.array()?,
        rtt: reader.u32()?,
        introduction: reader.array()?,
        eid: eid(reader)?,
        hello: reader.bytesv()?.to_vec(),
        key: match reader.is_empty() {
            true => None,
            false => Some(Box::new(reader.array()?)),
        },
    })
}

impl Registered {
    /// The record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![Status::Ok as u8];
        out.extend_from_slice(&self.boot);
        out.extend_from_slice(&self.ttl.to_be_bytes());
        out.extend_from_slice(&address_bytes(self.address));
        out.extend_from_slice(&self.key);
        let tokens = self.tokens.get(..MAX_TOKENS).unwrap_or(&self.tokens);
        out.push(tokens.len() as u8);
        tokens.iter().for_each(|token| put_bytes8(&mut out, token));
        if self.other_port != 0 {
            out.extend_from_slice(&self.other_port.to_be_bytes());
        }
        out
    }

    /// Reads the answer to REGISTER.
    ///
    /// # Errors
    /// If it is not as RCH-1 says.
    pub fn decode(record: &[u8]) -> Result<Result<Self, Unfound>, Malformed> {
        let mut reader = Reader::new(record);
        if let Some(unfound) = refused(&mut reader)? {
            return Ok(Err(unfound));
        }
        let (boot, ttl) = (reader.array()?, reader.u16()?);
        let (address, key) = (address(&mut reader)?, reader.array()?);
        let count = usize::from(reader.u8()?);
        if count > MAX_TOKENS {
            return Err(Malformed("too many tokens"));
        }
        let tokens = (0..count).map(|_| token(&mut reader)).collect::<Result<_, _>>()?;
        let other_port = if reader.is_empty() { 0 } else { reader.u16()? };
        Ok(Ok(Self {
            boot,
            ttl,
            address,
            key,
            tokens,
            other_port,
        }))
    }
}

impl Entries {
    /// The record. Of the entries, only the first may be there: as many as fit; `next` is set then.
    pub fn encode(mut self) -> Vec<u8> {
        let mut entries = Vec::new();
        let mut last = None;
        for (eid, profile) in &self.entries {
            let len = varint::len(profile.len() as u64).saturating_add(profile.len());
            let with = entries.len().saturating_add(len).saturating_add(33 * 2 + 3);
            if with > MAX_RECORD {
                self.next = last;
                break;
            }
            entries.extend_from_slice(eid.as_bytes());
            put_bytesv(&mut entries, profile.as_bytes());
            last = Some(*eid);
        }
        let mut out = vec![Status::Ok as u8, u8::from(self.is_partial)];
        put_bytes8(&mut out, self.next.as_ref().map_or(&[], |eid| eid.as_bytes()));
        out.append(&mut entries);
        out
    }

    /// Reads the answer to SEARCH.
    ///
    /// # Errors
    /// If it is not as RCH-1 says.
    pub fn decode(record: &[u8]) -> Result<Result<Self, Unfound>, Malformed> {
        if record.len() > MAX_RECORD {
            return Err(Malformed("a record that is too long"));
        }
        let mut reader = Reader::new(record);
        if let Some(unfound) = refused(&mut reader)? {
            return Ok(Err(unfound));
        }
        let is_partial = reader.u8()? != 0;
        let next = optional_eid(&mut reader)?;
        let mut entries = Vec::new();
        while !reader.is_empty() {
            entries.push((eid(&mut reader)?, text(reader.bytesv()?)?));
        }
        Ok(Ok(Self {
            is_partial,
            next,
            entries,
        }))
    }
}

/// Answer to LOOKUP, and to whatever is refused: a status, the time, and another server if one is named.
pub fn outcome(unfound: &Unfound) -> Vec<u8> {
    let mut out = Vec::new();
    unfound.encode(&mut out);
    out
}

/// Reads the answer to LOOKUP.
///
/// # Errors
/// If it is too short, or its status unknown.
pub fn read_outcome(record: &[u8]) -> Result<Result<(), Unfound>, Malformed> {
    let mut reader = Reader::new(record);
    Ok(match refused(&mut reader)? {
        Some(unfound) => Err(unfound),
        None => Ok(()),
    })
}

/// Answer to CONNECT (RCH-41).
pub fn way(outcome: &Result<Way, Unfound>) -> Vec<u8> {
    let mut out = Vec::new();
    put_found(&mut out, outcome);
    out
}

/// Reads the answer to CONNECT.
///
/// # Errors
/// If it is too short, or its status unknown.
pub fn read_way(record: &[u8]) -> Result<Result<Way, Unfound>, Malformed> {
    found(&mut Reader::new(record))
}

/// Reads the status that answers begin with.
fn refused(reader: &mut Reader<'_>) -> Result<Option<Unfound>, Malformed> {
    let status = Status::try_from(reader.u8()?)?;
    if status == Status::Ok {
        return Ok(None);
    }
    Unfound::decode(status, reader).map(Some)
}

fn text(bytes: &[u8]) -> Result<String, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed("text that is not UTF-8"))?;
    Ok(text.to_owned())
}

fn word(bytes: &[u8]) -> Result<String, Malformed> {
    match bytes.len() {
        1..=MAX_WORD => text(bytes),
        _ => Err(Malformed("a word of the wrong length")),
    }
}

fn optional_eid(reader: &mut Reader<'_>) -> Result<Option<Eid>, Malformed> {
    match reader.bytes8()? {
        [] => Ok(None),
        bytes => eid(&mut Reader::new(bytes)).map(Some),
    }
}

fn put_bytesv(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = bytes.len() as u64;
    let mut space = [0; 8];
    let mut w = crate::Writer::new(&mut space);
    w.varint(len);
    let n = w.position();
    out.extend_from_slice(space.get(..n).unwrap_or_default());
    out.extend_from_slice(bytes);
}
