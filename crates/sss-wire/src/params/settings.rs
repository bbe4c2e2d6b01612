//! Settings that SETTINGS carries (docs/spec/channel.md, "Settings").

use super::{Parameters, encoded_len, to_vec, write};
use crate::ChannelId;
use crate::constants::{self, BASE_DATAGRAM};
use crate::error::Malformed;
use crate::reader::Reader;
use crate::text::truncate_text;
use crate::varint;
use crate::writer::Writer;

const CHANNEL_ID: u64 = 16;
const RESET_TOKEN: u64 = 17;
const ROOT_CREDIT: u64 = 18;
const IDLE_TIMEOUT: u64 = 19;
const MAX_ACK_DELAY: u64 = 20;
const MAX_DATAGRAM: u64 = 21;
const CONGESTION: u64 = 22;
const AGENT: u64 = 23;
const MAX_MESSAGE: u64 = 25;
const TREE: u64 = 24;
const ACCEPTED: u64 = 26;
const OTHER_TREES: u64 = 27;
const EARLIER: u64 = 28;
const VOID: u64 = 29;
const STREAM_BORROW: u64 = 30;
const PROCESS: u64 = 31;
const STANDS_BY: u64 = 32;

/// max_ack_delay is less than this.
const ACK_DELAY_END: u64 = 1 << 24;
/// Longest agent text, in bytes.
const MAX_AGENT: usize = 64;
const PROCESS_LENGTH: Malformed = Malformed("a process has 8 or 10 bytes");
/// Most attempts in `accepted` (NEG-21).
pub const MAX_ACCEPTED: usize = 16;
/// Most trees in `other_trees` (NEG-20).
pub const MAX_OTHER_TREES: usize = 4;
/// Age in seconds that a [`Process`] has when it is so old, or older.
pub const OLD: u16 = 3600;

/// The settings of one side of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The id that short packets to the sender carry: always from the initiator, never from the responder.
    pub channel_id: Option<ChannelId>,
    /// The token of a stateless reset of this channel.
    pub reset_token: Option<[u8; 16]>,
    /// Bytes of charge that the peer may make to the root stream.
    pub root_credit: u64,
    /// Bytes that a stream of the peer may borrow until it is accepted (FRM-9).
    pub stream_borrow: u64,
    /// Idle timeout in ms; 0: none.
    pub idle_timeout_ms: u64,
    /// Longest delay of an acknowledgement in us, below 2^24.
    pub max_ack_delay_us: u64,
    /// Bytes of UDP payload that the sender can receive, at least 1232. It may be more than any datagram has.
    pub max_datagram: u64,
    /// The congestion controller in use, for information.
    pub congestion: String,
    /// The software, for information; at most 64 bytes are sent.
    pub agent: String,
    /// Bytes of the largest datagram on a stream that the sender takes; 0: none.
    pub max_message: u64,
    /// The tree that the channel is to carry; none: a new one (MIG-2).
    pub tree: Option<[u8; 16]>,
    /// Numbers said of other attempts.
    pub attempts: Attempts,
    /// Trees that the sender shares with the receiver beside the one of this channel (NEG-20). The first 4 are sent.
    pub other_trees: Vec<[u8; 16]>,
    /// From the responder: which process of its identity it is (MIG-4).
    pub process: Option<Process>,
    /// From the initiator: the channel is to stand by for one of its class (MIG-31).
    pub stands_by: bool,
}

/// One of the processes that may have the same identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its name: random, and never another.
    pub name: [u8; 8],
    /// Time since it began, in whole seconds; [`OLD`] or more: at least that. None if it offers no service.
    pub age: Option<u16>,
}

impl Process {
    fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let (name, rest) = value.split_first_chunk().ok_or(PROCESS_LENGTH)?;
        let age = match rest {
            [] => None,
            _ => Some(u16::from_be_bytes(rest.try_into().map_err(|_| PROCESS_LENGTH)?)),
        };
        Ok(Self { name: *name, age })
    }

    fn to_vec(self) -> Vec<u8> {
        let age = self.age.map(u16::to_be_bytes);
        let age = age.as_ref().map_or(&[][..], |age| age);
        [&self.name, age].concat()
    }
}

/// Numbers that settings tell of attempts other than the one that they belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Attempts of the receiver that the sender accepted and heard no more of (NEG-21). The first 16 are sent.
    pub accepted: Vec<[u8; 8]>,
    /// From the initiator: an attempt of its own whose INITIATE was not answered, and that had early data (NEG-24).
    pub earlier: Option<Earlier>,
    /// From the responder: the attempt that the initiator named, if it was never accepted and never will be (NEG-25).
    pub void: Option<[u8; 8]>,
}

/// An attempt of the sender, and the cookie that it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// The attempt.
    pub attempt: [u8; 8],
    /// Its cookie, of 1 to 255 bytes.
    pub cookie: Vec<u8>,
}

impl Earlier {
    fn decode(value: &[u8]) -> Result<Self, Malformed> {
        match value.split_first_chunk::<8>() {
            Some((attempt, cookie)) if (1..=255).contains(&cookie.len()) => Ok(Self {
                attempt: *attempt,
                cookie: cookie.to_vec(),
            }),
            _ => Err(Malformed("an earlier attempt is 8 bytes and its cookie")),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            channel_id: None,
            reset_token: None,
            root_credit: 1 << 20,
            stream_borrow: constants::STREAM_BORROW,
            idle_timeout_ms: 60_000,
            max_ack_delay_us: 25_000,
            max_datagram: 1472,
            congestion: String::new(),
            agent: String::new(),
            max_message: 1 << 20,
            tree: None,
            attempts: Attempts::default(),
            other_trees: Vec::new(),
            process: None,
            stands_by: false,
        }
    }
}

impl Settings {
    /// Reads the value of SETTINGS (CHN-1). What is absent has its default.
    ///
    /// # Errors
    /// If the list is malformed, or a value is outside its range.
    pub fn decode(list: &[u8]) -> Result<Self, Malformed> {
        let mut settings = Self::default();
        for parameter in Parameters::new(list) {
            let (id, value) = parameter?;
            settings.set(id, value)?;
        }
        Ok(settings)
    }

    fn set(&mut self, id: u64, value: &[u8]) -> Result<(), Malformed> {
        match id {
            CHANNEL_ID => self.channel_id = Some(ChannelId::new(value)?),
            RESET_TOKEN => {
                let token = value.try_into().map_err(|_| Malformed("a reset token has 16 bytes"))?;
                self.reset_token = Some(token);
            }
            ROOT_CREDIT => self.root_credit = root_credit(value)?,
            STREAM_BORROW => self.stream_borrow = stream_borrow(value)?,
            IDLE_TIMEOUT => self.idle_timeout_ms = number(value)?,
            MAX_ACK_DELAY => self.max_ack_delay_us = ack_delay(value)?,
            MAX_DATAGRAM => self.max_datagram = datagram(value)?,
            CONGESTION => self.congestion = text(value)?,
            AGENT if value.len() > MAX_AGENT => return Err(Malformed("agent is longer than 64 bytes")),
            AGENT => self.agent = text(value)?,
            MAX_MESSAGE => self.max_message = message(value)?,
            TREE => self.tree = Some(value.try_into().map_err(|_| Malformed("a tree id has 16 bytes"))?),
            ACCEPTED => self.attempts.accepted = list(value, MAX_ACCEPTED)?,
            OTHER_TREES => self.other_trees = list(value, MAX_OTHER_TREES)?,
            EARLIER => self.attempts.earlier = Some(Earlier::decode(value)?),
            VOID => {
                let void = value.try_into().map_err(|_| Malformed("an attempt has 8 bytes"))?;
                self.attempts.void = Some(void);
            }
            PROCESS => self.process = Some(Process::decode(value)?),
            STANDS_BY => self.stands_by = number(value)? != 0,
            _ => {}
        }
        Ok(())
    }

    /// Calls `parameter` with each parameter that differs from its default. Numbers above what a varint holds are
    /// as good as its largest.
    fn for_each(&self, mut parameter: impl FnMut(u64, Value<'_>)) {
        let default = Self::default();
        let mut number = |id, value: u64, default: u64| {
            if value != default {
                parameter(id, Value::Number(value.min(varint::MAX)));
            }
        };
        number(ROOT_CREDIT, self.root_credit, default.root_credit);
        number(STREAM_BORROW, self.stream_borrow, default.stream_borrow);
        number(IDLE_TIMEOUT, self.idle_timeout_ms, default.idle_timeout_ms);
        number(MAX_ACK_DELAY, self.max_ack_delay_us, default.max_ack_delay_us);
        number(MAX_DATAGRAM, self.max_datagram, default.max_datagram);
        number(MAX_MESSAGE, self.max_message, default.max_message);
        number(STANDS_BY, self.stands_by.into(), default.stands_by.into());
        let agent = truncate_text(&self.agent, MAX_AGENT);
        let channel_id = self.channel_id.as_ref().map(ChannelId::as_slice);
        let token = self.reset_token.as_ref().map(|t| t.as_slice());
        let mut bytes = |id, value: Option<&[u8]>| {
            if let Some(value) = value.filter(|v| !v.is_empty()) {
                parameter(id, Value::Bytes(value));
            }
        };
        bytes(CHANNEL_ID, channel_id);
        bytes(RESET_TOKEN, token);
        bytes(CONGESTION, Some(self.congestion.as_bytes()));
        bytes(AGENT, Some(agent.as_bytes()));
        bytes(TREE, self.tree.as_ref().map(|t| t.as_slice()));
        let accepted = &self.attempts.accepted;
        let accepted = accepted.get(..MAX_ACCEPTED).unwrap_or(accepted);
        bytes(ACCEPTED, Some(accepted.as_flattened()));
        let others = self.other_trees.get(..MAX_OTHER_TREES).unwrap_or(&self.other_trees);
        bytes(OTHER_TREES, Some(others.as_flattened()));
        let earlier = self.attempts.earlier.as_ref();
        let earlier = earlier.map(|e| [&e.attempt, e.cookie.as_slice()].concat());
        bytes(EARLIER, earlier.as_deref());
        bytes(VOID, self.attempts.void.as_ref().map(|v| v.as_slice()));
        bytes(PROCESS, self.process.map(Process::to_vec).as_deref());
    }

    /// Writes the list, without an end mark. Values that are the default are left out.
    pub fn encode(&self, w: &mut Writer<'_>) {
        self.for_each(|id, value| match value {
            Value::Bytes(bytes) => write(w, id, bytes),
            Value::Number(number) => {
                w.varint(id);
                w.varint(varint::len(number) as u64);
                w.varint(number);
            }
        });
    }

    /// The length of the list in bytes.
    pub fn encoded_len(&self) -> usize {
        let mut total = 0_usize;
        self.for_each(|id, value| {
            let len = match value {
                Value::Bytes(bytes) => bytes.len(),
                Value::Number(number) => varint::len(number),
            };
            total = total.saturating_add(encoded_len(id, len));
        });
        total
    }

    /// The list as a vector.
    pub fn to_vec(&self) -> Vec<u8> {
        to_vec(self.encoded_len(), |w| self.encode(w))
    }
}

/// A value as it is written.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// A value that is one varint and nothing else.
fn number(value: &[u8]) -> Result<u64, Malformed> {
    let mut reader = Reader::new(value);
    let number = reader.varint()?;
    if !reader.is_empty() {
        return Err(Malformed("a number in settings has bytes behind it"));
    }
    Ok(number)
}

fn ack_delay(value: &[u8]) -> Result<u64, Malformed> {
    let delay = number(value)?;
    if delay >= ACK_DELAY_END {
        return Err(Malformed("max_ack_delay is too large"));
    }
    Ok(delay)
}

fn datagram(value: &[u8]) -> Result<u64, Malformed> {
    let size = number(value)?;
    if size < u64::from(BASE_DATAGRAM) {
        return Err(Malformed("max_datagram is below 1232"));
    }
    Ok(size)
}

fn root_credit(value: &[u8]) -> Result<u64, Malformed> {
    let credit = number(value)?;
    if credit < constants::STREAM_BORROW {
        return Err(Malformed("root_credit is below 65536"));
    }
    Ok(credit)
}

fn stream_borrow(value: &[u8]) -> Result<u64, Malformed> {
    let most = number(value)?;
    if !(constants::STREAM_BORROW..=constants::MAX_BORROW).contains(&most) {
        return Err(Malformed("stream_borrow is not between 65536 and 2^24"));
    }
    Ok(most)
}

fn message(value: &[u8]) -> Result<u64, Malformed> {
    let size = number(value)?;
    if size > constants::MAX_MESSAGE {
        return Err(Malformed("max_message is above 2^26"));
    }
    Ok(size)
}

/// A value that is at most `max` items of `N` bytes each.
fn list<const N: usize>(value: &[u8], max: usize) -> Result<Vec<[u8; N]>, Malformed> {
    match value.as_chunks() {
        (items, []) if items.len() <= max => Ok(items.to_vec()),
        _ => Err(Malformed("a list in settings is too long, or has a part of an item")),
    }
}

fn text(value: &[u8]) -> Result<String, Malformed> {
    let text = str::from_utf8(value).map_err(|_| Malformed("a text is not UTF-8"))?;
    Ok(text.to_owned())
}
