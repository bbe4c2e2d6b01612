//! The messages, to and from bytes.

mod entry;
mod names;
mod patterns;

use std::fmt;

use rustix::io::Errno;
use thiserror::Error;

pub use entry::{Entry, Kind};
pub use names::{Gathered, Names};
pub use patterns::Patterns;

use crate::flags::{Options, Traits};
use crate::path::{MAX_PATH, PathError, RelPath};

/// The service name.
pub const SERVICE: &str = "files";
/// The protocol name.
pub const PROTOCOL: &str = "sync/1";
/// Longest text of a refusal, in bytes.
const MAX_TEXT: usize = 1024;
/// Depth of a LIST that means everything.
pub const DEPTH_ALL: u8 = 255;

/// Outcome of a request, or of one file of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum Status {
    /// Done.
    Ok = 0,
    /// The receiver has exactly this file.
    Identical = 1,
    /// No such path.
    NotFound = 2,
    /// The operating system does not allow it.
    Denied = 3,
    /// This server takes no files.
    ReadOnly = 4,
    /// Something else is there, and the request does not replace.
    Exists = 5,
    /// The path breaks FIL-3, FIL-4 or FIL-5.
    BadPath = 6,
    /// Not a regular file, or not a directory.
    WrongKind = 7,
    /// Any other failure of the operating system.
    Io = 8,
    /// Content that arrived does not have the BLAKE3 that was sent.
    Corrupt = 9,
    /// The file was changed while it was read.
    Changed = 10,
    /// Another transfer writes this file.
    Busy = 11,
    /// The disk, or a quota, is full.
    NoSpace = 12,
    /// The message cannot be decoded (FIL-2).
    BadRequest = 13,
    /// Something that is never replaced is there.
    InTheWay = 14,
    /// Temporary files of other transfers are left out (FIL-5).
    Unfinished = 15,
    /// The session has not shown what this server asks for (FIL-31).
    Unauthorized = 16,
}

impl Status {
    const ALL: [Self; 17] = [
        Self::Ok,
        Self::Identical,
        Self::NotFound,
        Self::Denied,
        Self::ReadOnly,
        Self::Exists,
        Self::BadPath,
        Self::WrongKind,
        Self::Io,
        Self::Corrupt,
        Self::Changed,
        Self::Busy,
        Self::NoSpace,
        Self::BadRequest,
        Self::InTheWay,
        Self::Unfinished,
        Self::Unauthorized,
    ];

    /// The status with this number on the wire, or as application code of a reset.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|status| *status as u32 == code)
    }
}

/// Reason why something was not done, for programs and for people. `Display` escapes the text, which may be a peer's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", said(*status, text))]
pub struct Refusal {
    /// The reason, for programs.
    pub status: Status,
    /// The reason, for people.
    pub text: String,
}

impl Refusal {
    /// A refusal, its text cut to what may be sent.
    pub fn new(status: Status, text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        Self { status, text }
    }

    /// Returns whether this host had no descriptor left: it will have some again.
    pub fn is_shortage(&self) -> bool {
        self.status == Status::Busy && self.text == SHORTAGE
    }

    /// Appends the wire form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.status as u8);
        put_bytes(out, self.text.as_bytes());
    }
}

/// Words of a refusal; of one without any, the name of its status.
fn said(status: Status, text: &str) -> String {
    match text {
        "" => format!("refused without a word ({status})"),
        text => sss_wire::printable(text).to_string(),
    }
}

/// Text of a refusal for want of descriptors.
const SHORTAGE: &str = "too many files are open: try again later";

/// A failure of the operating system, as it is told to the peer and to people.
impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        let (status, text) = match error.kind() {
            Kind::NotFound => (Status::NotFound, "no such file or directory".to_owned()),
            Kind::PermissionDenied => (Status::Denied, "permission denied".to_owned()),
            Kind::ReadOnlyFilesystem => (Status::Denied, "the file system is read-only".to_owned()),
            Kind::AlreadyExists => (Status::Exists, "exists already".to_owned()),
            Kind::StorageFull | Kind::QuotaExceeded => (Status::NoSpace, "the disk is full".to_owned()),
            Kind::NotADirectory => (
                Status::BadPath,
                "not a directory, or a symbolic link on the way".to_owned(),
            ),
            Kind::IsADirectory => (Status::WrongKind, "is a directory".to_owned()),
            _ => match Errno::from_io_error(&error) {
                Some(Errno::MFILE | Errno::NFILE) => (Status::Busy, SHORTAGE.to_owned()),
                Some(Errno::LOOP) => (Status::BadPath, "symbolic links are not followed".to_owned()),
                _ => (Status::Io, error.to_string()),
            },
        };
        Self::new(status, text)
    }
}

/// Reason why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// So far they could become one.
    Incomplete,
    /// They never will.
    Malformed(&'static str),
    /// The message names what must not be touched.
    BadPath(String),
}

/// A position in received bytes.
#[derive(Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// At the beginning of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns the number of bytes left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Stop::Incomplete)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Stop::Incomplete)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Stop> {
        self.array().map(|[byte]| byte)
    }

    /// A variable-length integer (RFC 9000 section 16).
    pub fn varint(&mut self) -> Result<u64, Stop> {
        let first = self.u8()?;
        let more = (1_usize << (first >> 6)).saturating_sub(1);
        let start = u64::from(first & 0x3f);
        Ok(self
            .bytes(more)?
            .iter()
            .fold(start, |n, byte| (n << 8) | u64::from(*byte)))
    }

    fn bytesv(&mut self, limit: usize, what: &'static str) -> Result<&'a [u8], Stop> {
        let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if len > limit {
            return Err(Stop::Malformed(what));
        }
        self.bytes(len)
    }

    /// A field: its type, and its value of at most `limit` bytes.
    pub fn field(&mut self, limit: usize) -> Result<(u64, &'a [u8]), Stop> {
        let kind = self.varint()?;
        Ok((kind, self.bytesv(limit, "a field that is too long")?))
    }

    fn path(&mut self) -> Result<RelPath, Stop> {
        let bad = |error: PathError| Stop::BadPath(error.to_string());
        let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        // FIL-3: what cannot be a path is not waited for.
        if len > MAX_PATH {
            return Err(bad(PathError::TooLong));
        }
        RelPath::parse(self.bytes(len)?).map_err(bad)
    }

    /// A status.
    pub fn status(&mut self) -> Result<Status, Stop> {
        let code = self.u8()?;
        Status::from_code(code.into()).ok_or(Stop::Malformed("a status that does not exist"))
    }

    /// A refusal.
    fn refusal(&mut self) -> Result<Refusal, Stop> {
        match self.status()? {
            Status::Ok => Err(Stop::Malformed("a refusal that is none")),
            status => self.text(status),
        }
    }

    /// The text that follows a status. Control characters are left out, and what is not UTF-8 is replaced.
    pub fn text(&mut self, status: Status) -> Result<Refusal, Stop> {
        let text = self.bytesv(MAX_TEXT, "a text longer than 1024 bytes")?;
        let text: String = String::from_utf8_lossy(text)
            .chars()
            .filter(|c| !c.is_control())
            .collect();
        Ok(Refusal::new(status, text))
    }
}

/// OK, or a refusal.
pub fn answer(from: &mut Cursor<'_>) -> Result<Result<(), Refusal>, Stop> {
    match from.status()? {
        Status::Ok => Ok(Ok(())),
        other => Ok(Err(from.text(other)?)),
    }
}

/// Reads where content starts.
pub fn start(from: &mut Cursor<'_>) -> Result<u64, Stop> {
    from.varint()
}

/// Appends a variable-length integer in its shortest form. What is beyond 2^62-1 is sent as that.
pub fn put_varint(out: &mut Vec<u8>, value: u64) {
    match value {
        0..0x40 => out.push(value.to_le_bytes()[0]),
        0x40..0x4000 => out.extend_from_slice(&(value | 0x4000).to_be_bytes()[6..]),
        0x4000..0x4000_0000 => out.extend_from_slice(&(value | 0x8000_0000).to_be_bytes()[4..]),
        _ => out.extend_from_slice(&(value.min((1 << 62) - 1) | (0xc0 << 56)).to_be_bytes()),
    }
}

/// Appends a field: its type, and its value.
pub fn put_field(out: &mut Vec<u8>, kind: u64, value: &[u8]) {
    put_varint(out, kind);
    put_bytes(out, value);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Time at which something was last modified: seconds since 1970, which may be negative, and nanoseconds below 10^9.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mtime {
    /// Since 1970, negative before.
    pub seconds: i64,
    /// Below 10^9.
    pub nanoseconds: u32,
}

/// Size in bytes, permission bits (0o777), time and traits of what is at a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// In bytes.
    pub size: u64,
    /// The low nine bits of a Unix mode.
    pub mode: u32,
    /// Time at which it was last modified.
    pub mtime: Mtime,
    /// Further facts.
    pub traits: Traits,
}

impl Attributes {
    /// Appends the wire form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.size);
        put_varint(out, (self.mode | self.traits.bits()).into());
        out.extend_from_slice(&self.mtime.seconds.to_be_bytes());
        out.extend_from_slice(&self.mtime.nanoseconds.to_be_bytes());
    }

    /// Reads the wire form.
    pub fn decode(from: &mut Cursor<'_>) -> Result<Self, Stop> {
        let size = from.varint()?;
        let bits = u32::try_from(from.varint()?).unwrap_or(u32::MAX);
        let seconds = i64::from_be_bytes(from.array()?);
        let nanoseconds = u32::from_be_bytes(from.array()?);
        let traits = Traits::from_bits(bits & !0o777).ok_or(Stop::Malformed("a mode of more than eleven bits"))?;
        if nanoseconds >= 1_000_000_000 {
            return Err(Stop::Malformed("nanoseconds beyond a second"));
        }
        let mtime = Mtime { seconds, nanoseconds };
        Ok(Self {
            size,
            mode: bits & 0o777,
            mtime,
            traits,
        })
    }
}

/// The first bytes of a file, by their number and their BLAKE3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Their number.
    pub len: u64,
    /// Their BLAKE3.
    pub hash: blake3::Hash,
}

impl Prefix {
    /// Appends the wire form; of nothing, if there is none.
    pub fn encode(prefix: Option<&Self>, out: &mut Vec<u8>) {
        put_varint(out, prefix.map_or(0, |p| p.len));
        if let Some(prefix) = prefix {
            out.extend_from_slice(prefix.hash.as_bytes());
        }
    }

    /// Reads the wire form.
    pub fn decode(from: &mut Cursor<'_>) -> Result<Option<Self>, Stop> {
        match from.varint()? {
            0 => Ok(None),
            len => Ok(Some(Self {
                len,
                hash: from.array()?.into(),
            })),
        }
    }
}

/// Verdict of the sender at the end of content: its BLAKE3, or why it is not to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict(pub Result<blake3::Hash, Refusal>);

impl Verdict {
    /// Appends the wire form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Ok(hash) => {
                out.push(Status::Ok as u8);
                out.extend_from_slice(hash.as_bytes());
            }
            Err(refusal) => refusal.encode(out),
        }
    }

    /// Reads the wire form.
    pub fn decode(from: &mut Cursor<'_>) -> Result<Self, Stop> {
        match answer(from)? {
            Ok(()) => Ok(Self(Ok(from.array()?.into()))),
            Err(refusal) => Ok(Self(Err(refusal))),
        }
    }
}

/// Request of a client, once per substream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Asks what is at a path, and below it.
    List {
        /// Where.
        path: RelPath,
        /// Number of levels below the path; [`DEPTH_ALL`]: all.
        depth: u8,
        /// Patterns of what is left out.
        without: Patterns,
    },
    /// The content of a file.
    Fetch {
        /// The file.
        path: RelPath,
        /// Prefix that the client has of it.
        have: Option<Prefix>,
    },
    /// To take a file.
    Store {
        /// Path where it is to be.
        path: RelPath,
        /// Manner in which it is stored.
        options: Options,
        /// Those of the file.
        attributes: Attributes,
    },
    /// To make directories and links. Entries follow.
    Make {
        /// Path that the entries are relative to.
        path: RelPath,
        /// Manner in which they are made.
        options: Options,
    },
    /// The contents of several small files.
    Gather {
        /// Path that theirs are relative to.
        path: RelPath,
        /// The files.
        names: Names,
    },
}

impl Request {
    /// The wire form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        let mut head = |operation, path: &RelPath| {
            out.push(operation);
            put_bytes(&mut out, path.as_bytes());
        };
        match self {
            Self::List { path, depth, without } => {
                head(1, path);
                out.push(*depth);
                without.encode(&mut out);
            }
            Self::Fetch { path, have } => {
                head(2, path);
                Prefix::encode(have.as_ref(), &mut out);
            }
            Self::Store {
                path,
                options,
                attributes,
            } => {
                head(3, path);
                out.push(options.bits());
                attributes.encode(&mut out);
            }
            Self::Make { path, options } => {
                head(4, path);
                out.push(options.bits());
            }
            Self::Gather { path, names } => {
                head(5, path);
                names.encode(&mut out);
            }
        }
        out
    }

    /// Reads the wire form.
    pub fn decode(from: &mut Cursor<'_>) -> Result<Self, Stop> {
        let operation = from.u8()?;
        if !(1..=5).contains(&operation) {
            return Err(Stop::Malformed("an operation that does not exist"));
        }
        let path = from.path()?;
        let options =
            |from: &mut Cursor<'_>| Options::from_bits(from.u8()?).ok_or(Stop::Malformed("a flag that does not exist"));
        match operation {
            1 => Ok(Self::List {
                path,
                depth: from.u8()?,
                without: Patterns::decode(from)?,
            }),
            2 => Ok(Self::Fetch {
                path,
                have: Prefix::decode(from)?,
            }),
            3 => Ok(Self::Store {
                path,
                options: options(from)?,
                attributes: Attributes::decode(from)?,
            }),
            4 => Ok(Self::Make {
                path,
                options: options(from)?,
            }),
            5 => Ok(Self::Gather {
                path,
                names: Names::decode(from)?,
            }),
            _ => Err(Stop::Malformed("an operation that does not exist")),
        }
    }
}

/// An entry that MAKE could not make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotMade {
    /// That of the entry.
    pub path: RelPath,
    /// Why.
    pub refusal: Refusal,
}

impl NotMade {
    /// Appends the wire form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.path.as_bytes());
        self.refusal.encode(out);
    }

    /// Reads the wire form.
    pub fn decode(from: &mut Cursor<'_>) -> Result<Self, Stop> {
        let path = from.path()?;
        let refusal = from.refusal()?;
        Ok(Self { path, refusal })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
