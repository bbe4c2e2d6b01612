//! Tickets: all that is needed to use a server, in one word (docs/spec/files.md, *Tickets*).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp};
use sss::Eid;
use sss_files::{Cursor, Stop, put_field};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::place::Place;
use crate::server_at::ServerAt;

/// The human-readable part.
const HRP: &str = "ssst";
/// Beginning of every ticket.
const PREFIX: &str = "ssst1";
/// Longest ticket, in characters: what bech32m is defined for (FIL-40).
const MAX_TEXT: usize = 1023;
/// Characters behind the prefix that no name of a host has, and every ticket.
const LEAST_CHARACTERS: usize = 40;
/// Most bytes that a ticket of that length has inside: 5 bits a character, without prefix and checksum.
const MAX_BYTES: usize = (MAX_TEXT - PREFIX.len() - 6) * 5 / 8;

/// Bytes of an EID.
const EID_LEN: usize = 33;

/// Types of fields (FIL-41).
const EID: u64 = 1;
const ADDRESS: u64 = 2;
const SECRET: u64 = 3;
const NAME: u64 = 4;
const SERVER_AT_ADDRESS: u64 = 5;
const SERVER_AT_NAME: u64 = 6;
const SERVER_TLS: u64 = 8;

/// Permission to use a server: who it is, where it may be or by whom it is found, and the secret that it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    eid: Eid,
    /// Addresses first, then names; as many as a ticket has room for.
    places: Vec<Place>,
    /// Registration servers that find it: those at addresses first.
    servers: Vec<ServerAt>,
    secret: Option<Secret>,
}

/// A word that a client shows so that it is served. Never shown to people but within a ticket.
#[derive(Clone)]
pub(crate) struct Secret([u8; Self::LEN]);

/// Reason why a text is not a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum TicketError {
    #[error("a ticket begins with {PREFIX:?}: this is something else")]
    Prefix,
    #[error("a ticket has at most {MAX_TEXT} characters")]
    Length,
    #[error("the checksum of the ticket is wrong: was it copied completely, and without a change?")]
    Checksum,
    #[error("the ticket cannot be understood ({0}): ask for a new one, or update sss")]
    Content(&'static str),
}

impl Secret {
    /// Length in bytes.
    pub(crate) const LEN: usize = 16;

    /// The secret with these bytes.
    pub(crate) fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// One that nobody can guess.
    ///
    /// # Errors
    /// If the operating system has no randomness.
    pub(crate) fn random() -> std::io::Result<Self> {
        let mut bytes = [0; Self::LEN];
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        Ok(Self(bytes))
    }

    /// Its bytes, to be sent or kept.
    pub(crate) fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

/// Takes the same time wherever they differ.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Finds where the first word in a text begins that is meant to be a ticket.
fn position_in(text: &str) -> Option<usize> {
    let windows = text.as_bytes().windows(PREFIX.len());
    let mut found = windows
        .enumerate()
        .filter(|(_, bytes)| bytes.eq_ignore_ascii_case(PREFIX.as_bytes()));
    found.next().map(|(at, _)| at)
}

impl Ticket {
    /// For a host at some of these places: addresses before names, those that come first as far as there is room.
    pub(crate) fn new(eid: Eid, places: impl IntoIterator<Item = Place>, secret: Option<Secret>) -> Self {
        let mut ticket = Self {
            eid,
            places: Vec::new(),
            servers: Vec::new(),
            secret,
        };
        for place in places {
            ticket.places.push(place);
            if ticket.encode().len() > MAX_BYTES {
                ticket.places.pop();
            }
        }
        ticket.places.sort_by_key(|place| matches!(place, Place::Name(..)));
        ticket
    }

    /// The same, found by these servers, as far as there is room: they have precedence over the places.
    pub(crate) fn with_servers(mut self, servers: impl IntoIterator<Item = ServerAt>) -> Self {
        // An interface of this machine means nothing elsewhere.
        let meaningful = |server: &ServerAt| !matches!(server.place, Place::Scoped(..));
        for server in servers.into_iter().filter(meaningful) {
            self.servers.push(server);
            while self.encode().len() > MAX_BYTES && self.places.pop().is_some() {}
            if self.encode().len() > MAX_BYTES {
                self.servers.pop();
            }
        }
        self.servers
            .sort_by_key(|server| matches!(server.place, Place::Name(..)));
        self
    }

    /// The server.
    pub(crate) fn eid(&self) -> Eid {
        self.eid
    }

    /// Places where it may be.
    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Registration servers that find it.
    pub(crate) fn servers(&self) -> &[ServerAt] {
        &self.servers
    }

    /// The secret that it asks for.
    pub(crate) fn secret(&self) -> Option<&Secret> {
        self.secret.as_ref()
    }

    /// Returns whether a text is meant to be a ticket. No name of a host begins so: it would be asked for in the clear.
    pub(crate) fn is_meant_by(text: &str) -> bool {
        let Some((begin, rest)) = text.split_at_checked(PREFIX.len()) else {
            return false;
        };
        let is_part = |c: char| c.is_ascii_alphanumeric();
        let is_long = rest.find(|c| !is_part(c)).unwrap_or(rest.len()) >= LEAST_CHARACTERS;
        begin.eq_ignore_ascii_case(PREFIX) && (is_long || !rest.contains([':', '.', '@']))
    }

    /// The same text without the tickets in it, mistyped ones included, for people, logs and machines (FIL-43).
    pub(crate) fn hidden_in(text: &str) -> String {
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        while let Some(at) = position_in(rest) {
            let (before, word) = rest.split_at(at);
            let (begin, word) = word.split_at(PREFIX.len());
            let is_part = |c: char| c.is_ascii_alphanumeric();
            let end = word.find(|c| !is_part(c)).unwrap_or(word.len());
            out.push_str(before);
            out.push_str(begin);
            out.push_str(if end > 0 { "..." } else { "" });
            rest = word.get(end..).unwrap_or_default();
        }
        out.push_str(rest);
        out
    }

    /// The fields, in ascending order of their types.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_field(&mut out, EID, self.eid.as_bytes());
        for place in &self.places {
            if let Place::Address(address) = place {
                put_field(&mut out, ADDRESS, &address_bytes(address));
            }
        }
        if let Some(secret) = &self.secret {
            put_field(&mut out, SECRET, secret.as_bytes());
        }
        for place in &self.places {
            if let Place::Name(name, port) = place {
                put_field(&mut out, NAME, &name_bytes(name, *port));
            }
        }
        for ServerAt { eid, place, .. } in &self.servers {
            if let Place::Address(address) = place {
                let value = [&eid.as_bytes()[..], &address_bytes(address)].concat();
                put_field(&mut out, SERVER_AT_ADDRESS, &value);
            }
        }
        for ServerAt { eid, place, .. } in &self.servers {
            if let Place::Name(name, port) = place {
                let value = [&eid.as_bytes()[..], &name_bytes(name, *port)].concat();
                put_field(&mut out, SERVER_AT_NAME, &value);
            }
        }
        let mut told: Vec<&Eid> = Vec::new();
        for ServerAt { eid, tls, .. } in &self.servers {
            if let Some(port) = tls.filter(|_| !told.contains(&eid)) {
                put_field(
                    &mut out,
                    SERVER_TLS,
                    &[&eid.as_bytes()[..], &port.to_be_bytes()].concat(),
                );
                told.push(eid);
            }
        }
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, TicketError> {
        let (mut eid, mut places, mut secret) = (None, Vec::new(), None);
        let mut servers = Vec::new();
        let mut from = Cursor::new(bytes);
        let mut before = 0;
        while from.remaining() > 0 {
            let (kind, value) = from.field(MAX_BYTES).map_err(|stop| match stop {
                Stop::Malformed(why) => TicketError::Content(why),
                _ => TicketError::Content("a field is cut off"),
            })?;
            let may_repeat = !matches!(kind, EID | SECRET);
            if kind < before || kind == before && !may_repeat {
                return Err(TicketError::Content("its fields are out of order"));
            }
            before = kind;
            match kind {
                EID => eid = Some(eid_of(value)?),
                ADDRESS => places.push(address_of(value)?),
                SECRET => secret = Some(secret_of(value)?),
                NAME => places.push(name_of(value)?),
                SERVER_AT_ADDRESS => servers.push(server_of(value, address_of)?),
                SERVER_AT_NAME => servers.push(server_of(value, name_of)?),
                SERVER_TLS => tls_of(value, &mut servers)?,
                // What a newer version put in.
                _ => {}
            }
        }
        Ok(Self {
            eid: eid.ok_or(TicketError::Content("it names no host"))?,
            places,
            servers,
            secret,
        })
    }
}

fn name_bytes(name: &str, port: u16) -> Vec<u8> {
    [&port.to_be_bytes()[..], name.as_bytes()].concat()
}

fn address_bytes(address: &SocketAddr) -> Vec<u8> {
    let mut bytes = address.port().to_be_bytes().to_vec();
    match address {
        SocketAddr::V4(address) => bytes.extend_from_slice(&address.ip().octets()),
        SocketAddr::V6(address) => bytes.extend_from_slice(&address.ip().octets()),
    }
    bytes
}

fn eid_of(value: &[u8]) -> Result<Eid, TicketError> {
    let bytes = value
        .try_into()
        .map_err(|_| TicketError::Content("an EID of another length"))?;
    Eid::from_bytes(bytes).map_err(|_| TicketError::Content("an EID of another type"))
}

fn port_of(value: &[u8]) -> Result<(u16, &[u8]), TicketError> {
    let (port, rest) = value
        .split_first_chunk()
        .ok_or(TicketError::Content("a place without a port"))?;
    match u16::from_be_bytes(*port) {
        0 => Err(TicketError::Content("a place with port 0")),
        port => Ok((port, rest)),
    }
}

fn address_of(value: &[u8]) -> Result<Place, TicketError> {
    let (port, ip) = port_of(value)?;
    if let Ok(ip) = <[u8; 4]>::try_from(ip) {
        return Ok(Place::Address((Ipv4Addr::from(ip), port).into()));
    }
    match <[u8; 16]>::try_from(ip) {
        Ok(ip) => Ok(Place::Address((Ipv6Addr::from(ip), port).into())),
        Err(_) => Err(TicketError::Content("an address of another length")),
    }
}

fn name_of(value: &[u8]) -> Result<Place, TicketError> {
    let (port, name) = port_of(value)?;
    let name = str::from_utf8(name).ok().and_then(|name| Place::name(name, port));
    name.ok_or(TicketError::Content("a name that is none"))
}

fn server_of(value: &[u8], place: impl Fn(&[u8]) -> Result<Place, TicketError>) -> Result<ServerAt, TicketError> {
    let (eid, at) = value
        .split_first_chunk::<EID_LEN>()
        .ok_or(TicketError::Content("a server without an EID"))?;
    Ok(ServerAt {
        eid: eid_of(eid)?,
        place: place(at)?,
        tls: None,
    })
}

/// The port for TLS of a server that was named before.
fn tls_of(value: &[u8], servers: &mut [ServerAt]) -> Result<(), TicketError> {
    let (eid, port) = value
        .split_first_chunk::<EID_LEN>()
        .ok_or(TicketError::Content("TLS without an EID"))?;
    let (eid, (port, rest)) = (eid_of(eid)?, port_of(port)?);
    if !rest.is_empty() {
        return Err(TicketError::Content("a port of another length"));
    }
    for server in servers.iter_mut().filter(|server| server.eid == eid) {
        server.tls = Some(port);
    }
    Ok(())
}

fn secret_of(value: &[u8]) -> Result<Secret, TicketError> {
    let bytes = value.try_into();
    bytes
        .map(Secret)
        .map_err(|_| TicketError::Content("a secret of another length"))
}

/// The ticket itself, with the secret.
impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hrp = Hrp::parse(HRP).map_err(|_| fmt::Error)?;
        bech32::encode_lower_to_fmt::<Bech32m, _>(f, hrp, &self.encode()).map_err(|_| fmt::Error)
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        if !text
            .get(..PREFIX.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(PREFIX))
        {
            return Err(TicketError::Prefix);
        }
        if text.len() > MAX_TEXT {
            return Err(TicketError::Length);
        }
        let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|_| TicketError::Checksum)?;
        // It may go on behind the prefix.
        if checked.hrp().len() != HRP.len() {
            return Err(TicketError::Checksum);
        }
        checked.validate_segwit_padding().map_err(|_| TicketError::Checksum)?;
        Self::decode(&checked.byte_iter().collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests;
