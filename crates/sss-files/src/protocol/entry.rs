//! Entries of a listing.

use super::{Attributes, Cursor, Refusal, Stop, put_bytes};
use crate::path::{MAX_PATH, RelPath};

/// Kind of what is at the path of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File(Attributes),
    /// A directory.
    Directory(Attributes),
    /// A symbolic link, and its target.
    Link(Attributes, Vec<u8>),
    /// A device, a socket, a FIFO.
    Other(Attributes),
    /// Something of which only the refusal is known.
    Unreadable(Refusal),
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the path that was listed.
    pub path: RelPath,
    /// Kind of what is there.
    pub kind: Kind,
}

impl Entry {
    /// Appends the wire form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self.kind {
            Kind::File(_) => 1,
            Kind::Directory(_) => 2,
            Kind::Link(..) => 3,
            Kind::Other(_) => 4,
            Kind::Unreadable(_) => 5,
        });
        put_bytes(out, self.path.as_bytes());
        match &self.kind {
            Kind::File(attributes) | Kind::Directory(attributes) | Kind::Other(attributes) => attributes.encode(out),
            Kind::Link(attributes, target) => {
                attributes.encode(out);
                put_bytes(out, target);
            }
            Kind::Unreadable(refusal) => refusal.encode(out),
        }
    }

    /// Reads the wire form.
    pub fn decode(from: &mut Cursor<'_>) -> Result<Self, Stop> {
        let kind = from.u8()?;
        if !(1..=5).contains(&kind) {
            return Err(Stop::Malformed("an entry of a kind that does not exist"));
        }
        let path = from.path()?;
        let kind = match kind {
            1 => Kind::File(Attributes::decode(from)?),
            2 => Kind::Directory(Attributes::decode(from)?),
            3 => {
                let attributes = Attributes::decode(from)?;
                let target = from.bytesv(MAX_PATH, "a link longer than 4096 bytes")?;
                Kind::Link(attributes, target.to_vec())
            }
            4 => Kind::Other(Attributes::decode(from)?),
            5 => Kind::Unreadable(from.refusal()?),
            _ => return Err(Stop::Malformed("an entry of a kind that does not exist")),
        };
        Ok(Self { path, kind })
    }
}
