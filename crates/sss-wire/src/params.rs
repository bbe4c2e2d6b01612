//! Parameter lists (docs/spec/negotiation.md, "Parameters"): what HELLO, COOKIE and SETTINGS say.

mod settings;
mod shard;

use std::collections::BTreeSet;
use std::net::SocketAddr;

pub use settings::{Attempts, Earlier, MAX_ACCEPTED, MAX_OTHER_TREES, OLD, Process, Settings};
pub use shard::Shard;

use crate::address::{ADDRESS, address, address_bytes};
use crate::error::Malformed;
use crate::reader::Reader;
use crate::varint;
use crate::writer::Writer;
use crate::{ChannelId, Kem, Suite};

const VERSIONS: u64 = 1;
const SUITES: u64 = 2;
const CHANNEL_ID: u64 = 3;
const KEM: u64 = 4;
const KEM_MAC_KEY: u64 = 5;
const CANDIDATES: u64 = 6;
const SHARD: u64 = 7;

/// Candidates that a HELLO names, at most (RCH-42).
pub const MAX_CANDIDATES: usize = 4;

/// The parameters of a list, `(id, value)`, in their order.
///
/// The list ends at id 0 or with the input. After an error the iterator ends.
#[derive(Clone, Debug)]
pub struct Parameters<'a> {
    reader: Reader<'a>,
    seen: Present,
}

/// The ids that occurred.
#[derive(Clone, Debug, Default)]
struct Present {
    /// Ids below 64, a bit each.
    low: u64,
    high: BTreeSet<u64>,
}

impl Present {
    /// Adds an id; false if it was there.
    fn insert(&mut self, id: u64) -> bool {
        if id >= 64 {
            return self.high.insert(id);
        }
        let bit = 1_u64.wrapping_shl(id as u32);
        let is_new = self.low & bit == 0;
        self.low |= bit;
        is_new
    }
}

impl<'a> Parameters<'a> {
    /// The parameters in `list`.
    pub fn new(list: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(list),
            seen: Present::default(),
        }
    }

    fn read(&mut self) -> Result<Option<(u64, &'a [u8])>, Malformed> {
        if self.reader.is_empty() {
            return Ok(None);
        }
        let id = self.reader.varint()?;
        if id == 0 {
            return Ok(None);
        }
        let value = self.reader.bytesv()?;
        if !self.seen.insert(id) {
            return Err(Malformed("a parameter occurs twice"));
        }
        Ok(Some((id, value)))
    }
}

impl<'a> Iterator for Parameters<'a> {
    type Item = Result<(u64, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.read().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.reader = Reader::new(&[]);
        }
        next
    }
}

/// Writes one parameter.
pub fn write(w: &mut Writer<'_>, id: u64, value: &[u8]) {
    w.varint(id);
    w.bytesv(value);
}

/// The length of one parameter with a value of `len` bytes, in bytes.
pub fn encoded_len(id: u64, len: usize) -> usize {
    varint::total([varint::len(id), varint::prefixed_len(len)])
}

/// Encodes into a vector of exactly the right size.
fn to_vec(len: usize, encode: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut list = vec![0; len];
    let mut w = Writer::new(&mut list);
    encode(&mut w);
    debug_assert_eq!(w.remaining(), 0);
    list
}

/// Parameters of HELLO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HelloParams {
    /// All versions the initiator speaks, best first.
    pub versions: Vec<u32>,
    /// The suites it offers, best first. Suites that this host does not know are left out.
    pub suites: Vec<Suite>,
    /// The KEMs it offers, best first, [`Kem::None`] among them if it does without the leg too. Those that this host
    /// does not know are left out.
    pub kems: Vec<Kem>,
    /// Addresses at which the initiator may be reached within its own network (RCH-42).
    pub candidates: Vec<SocketAddr>,
}

/// KEMs of a list that says nothing about them.
const NO_KEM: &[Kem] = &[Kem::None];

impl HelloParams {
    /// Reads the payload of HELLO.
    ///
    /// # Errors
    /// If the list is malformed, or lacks versions or suites.
    pub fn decode(list: &[u8]) -> Result<Self, Malformed> {
        let (mut versions, mut suites, mut kems) = (None, None, NO_KEM.to_vec());
        let mut candidates = Vec::new();
        for parameter in Parameters::new(list) {
            match parameter? {
                (VERSIONS, value) => versions = Some(decode_versions(value)?),
                (SUITES, value) => suites = Some(decode_suites(value)?),
                (KEM, value) => kems = known(value),
                (CANDIDATES, value) => candidates = decode_candidates(value)?,
                _ => {}
            }
        }
        Ok(Self {
            versions: versions.ok_or(Malformed("HELLO without versions"))?,
            suites: suites.ok_or(Malformed("HELLO without suites"))?,
            kems,
            candidates,
        })
    }

    /// Writes the list, without an end mark.
    pub fn encode(&self, w: &mut Writer<'_>) {
        write_versions(w, &self.versions);
        w.varint(SUITES);
        w.varint(self.suites.len() as u64);
        self.suites.iter().for_each(|s| w.u8(*s as u8));
        if self.kems != NO_KEM {
            w.varint(KEM);
            w.varint(self.kems.len() as u64);
            self.kems.iter().for_each(|k| w.u8(*k as u8));
        }
        if !self.candidates.is_empty() {
            w.varint(CANDIDATES);
            w.varint(self.candidates.len().saturating_mul(ADDRESS) as u64);
            self.candidates.iter().for_each(|c| w.bytes(&address_bytes(*c)));
        }
    }

    /// The length of the list in bytes.
    pub fn encoded_len(&self) -> usize {
        let candidates = match self.candidates.len().saturating_mul(ADDRESS) {
            0 => 0,
            len => encoded_len(CANDIDATES, len),
        };
        let kems = match self.kems == NO_KEM {
            true => 0,
            false => encoded_len(KEM, self.kems.len()),
        };
        varint::total([
            versions_len(&self.versions),
            encoded_len(SUITES, self.suites.len()),
            kems,
            candidates,
        ])
    }

    /// The list as a vector.
    pub fn to_vec(&self) -> Vec<u8> {
        to_vec(self.encoded_len(), |w| self.encode(w))
    }
}

/// Reads candidates; those beyond the most that count are left out.
fn decode_candidates(value: &[u8]) -> Result<Vec<SocketAddr>, Malformed> {
    let (addresses, rest) = value.as_chunks::<ADDRESS>();
    if !rest.is_empty() {
        return Err(Malformed("a candidate that is cut off"));
    }
    let first = addresses.iter().take(MAX_CANDIDATES);
    first.map(|bytes| address(&mut Reader::new(bytes))).collect()
}

/// Answer of a COOKIE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CookieAnswer {
    /// The responder has chosen.
    Chosen(CookieParams),
    /// It supports none of the suites that were offered (NEG-7).
    NoSuite,
    /// It accepts none of the KEMs that were offered (NEG-29).
    NoKem,
}

impl CookieAnswer {
    /// Reads the payload of COOKIE.
    ///
    /// # Errors
    /// As [`CookieParams::decode`], or if the responder chose no suite and says something else that only one that chose
    /// has.
    pub fn decode(list: &[u8]) -> Result<Self, Malformed> {
        let (mut versions, mut is_without_suite, mut is_without_kem, mut has_id) = (false, false, false, false);
        for parameter in Parameters::new(list) {
            match parameter? {
                (VERSIONS, value) => versions = decode_versions(value).map(|_| true)?,
                (SUITES, value) => is_without_suite = value.is_empty(),
                (CHANNEL_ID, _) => has_id = true,
                (KEM, value) => is_without_kem = value.is_empty(),
                _ => {}
            }
        }
        match (is_without_suite, versions, has_id) {
            (false, ..) => Ok(Self::Chosen(CookieParams::decode(list)?)),
            (true, true, false) if is_without_kem => Ok(Self::NoKem),
            (true, true, false) => Ok(Self::NoSuite),
            (true, ..) => Err(Malformed("COOKIE without a suite has versions, and no channel id")),
        }
    }

    /// The list of a responder that speaks `versions` and supports no suite that was offered.
    pub fn no_suite(versions: &[u32]) -> Vec<u8> {
        to_vec(varint::total([versions_len(versions), encoded_len(SUITES, 0)]), |w| {
            write_versions(w, versions);
            write(w, SUITES, &[]);
        })
    }

    /// The list of a responder that speaks `versions` and accepts no KEM that was offered.
    pub fn no_kem(versions: &[u32]) -> Vec<u8> {
        let lens = [versions_len(versions), encoded_len(SUITES, 0), encoded_len(KEM, 0)];
        to_vec(varint::total(lens), |w| {
            write_versions(w, versions);
            write(w, SUITES, &[]);
            write(w, KEM, &[]);
        })
    }
}

/// Parameters of COOKIE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieParams {
    /// All versions the responder speaks, best first.
    pub versions: Vec<u32>,
    /// The suite it has chosen.
    pub suite: Suite,
    /// The id that short packets to the responder carry.
    pub channel_id: ChannelId,
    /// The leg, if it has chosen one: ML-KEM-768, and the key of COOKIE_K's mac (NEG-32).
    pub kem: Option<[u8; KEM_MAC_KEY_LEN]>,
    /// The shard that the channel is to be of, of a responder that has several (NEG-42).
    pub shard: Option<Shard>,
}

/// Length of the key of COOKIE_K's mac, in bytes.
const KEM_MAC_KEY_LEN: usize = 32;

impl CookieParams {
    /// Reads the payload of COOKIE.
    ///
    /// # Errors
    /// If the list is malformed, lacks a parameter, or names a suite or a KEM that this host does not know.
    pub fn decode(list: &[u8]) -> Result<Self, Malformed> {
        let (mut versions, mut suite, mut channel_id) = (None, None, None);
        let (mut kem, mut mac_key, mut shard) = (Kem::None, None, None);
        for parameter in Parameters::new(list) {
            match parameter? {
                (VERSIONS, value) => versions = Some(decode_versions(value)?),
                (SUITES, [number]) => suite = Some(Suite::try_from(*number)?),
                (SUITES, _) => return Err(Malformed("COOKIE names exactly one suite")),
                (CHANNEL_ID, value) => channel_id = Some(ChannelId::new(value)?),
                (KEM, [number]) => kem = Kem::try_from(*number)?,
                (KEM, _) => return Err(Malformed("COOKIE names exactly one KEM")),
                (KEM_MAC_KEY, value) => mac_key = Some(decode_mac_key(value)?),
                (SHARD, value) => shard = Some(Shard::decode(value)?),
                _ => {}
            }
        }
        let kem = match kem {
            Kem::None => None,
            Kem::MlKem768 => Some(mac_key.ok_or(Malformed("COOKIE with a leg, and without the key of its mac"))?),
        };
        Ok(Self {
            kem,
            shard,
            versions: versions.ok_or(Malformed("COOKIE without versions"))?,
            suite: suite.ok_or(Malformed("COOKIE without a suite"))?,
            channel_id: channel_id.ok_or(Malformed("COOKIE without a channel id"))?,
        })
    }

    /// Writes the list, without an end mark.
    pub fn encode(&self, w: &mut Writer<'_>) {
        write_versions(w, &self.versions);
        write(w, SUITES, &[self.suite as u8]);
        write(w, CHANNEL_ID, self.channel_id.as_slice());
        if let Some(mac_key) = &self.kem {
            write(w, KEM, &[Kem::MlKem768 as u8]);
            write(w, KEM_MAC_KEY, mac_key);
        }
        if let Some(shard) = self.shard {
            write(w, SHARD, &shard.to_bytes());
        }
    }

    /// The length of the list in bytes.
    pub fn encoded_len(&self) -> usize {
        let kem = self.kem.map_or(0, |mac_key| {
            varint::total([encoded_len(KEM, 1), encoded_len(KEM_MAC_KEY, mac_key.len())])
        });
        varint::total([
            versions_len(&self.versions),
            encoded_len(SUITES, 1),
            encoded_len(CHANNEL_ID, self.channel_id.len()),
            kem,
            self.shard.map_or(0, |shard| encoded_len(SHARD, shard.to_bytes().len())),
        ])
    }

    /// The list as a vector.
    pub fn to_vec(&self) -> Vec<u8> {
        to_vec(self.encoded_len(), |w| self.encode(w))
    }
}

fn decode_versions(value: &[u8]) -> Result<Vec<u32>, Malformed> {
    let (versions, rest) = value.as_chunks::<4>();
    if versions.is_empty() || !rest.is_empty() {
        return Err(Malformed("versions are 4 bytes each, at least one"));
    }
    Ok(versions.iter().map(|v| u32::from_be_bytes(*v)).collect())
}

/// The suites known here: a host may offer more than this one knows.
fn decode_suites(value: &[u8]) -> Result<Vec<Suite>, Malformed> {
    if value.is_empty() {
        return Err(Malformed("no suite is offered"));
    }
    Ok(known(value))
}

/// The numbers that are known here.
fn known<T: TryFrom<u8>>(numbers: &[u8]) -> Vec<T> {
    numbers.iter().filter_map(|n| T::try_from(*n).ok()).collect()
}

fn decode_mac_key(value: &[u8]) -> Result<[u8; KEM_MAC_KEY_LEN], Malformed> {
    value.try_into().map_err(|_| Malformed("the key of a mac has 32 bytes"))
}

fn versions_len(versions: &[u32]) -> usize {
    encoded_len(VERSIONS, size_of_val(versions))
}

fn write_versions(w: &mut Writer<'_>, versions: &[u32]) {
    w.varint(VERSIONS);
    w.varint(size_of_val(versions) as u64);
    versions.iter().for_each(|v| w.u32(*v));
}

#[cfg(test)]
mod tests;
