//! STREAM.

use super::read_lsid;
use crate::constants::{DATAGRAM_BORROW, MAX_BORROW, MAX_DEPTH};
use crate::error::Malformed;
use crate::reader::Reader;
use crate::varint::{self, total};
use crate::writer::Writer;

const FIN: u8 = 0x01;
const LEN: u8 = 0x02;
const OFF: u8 = 0x04;
const INIT: u8 = 0x08;
const MARK: u8 = 0x10;

const KIND_SUBSTREAM: u8 = 0;
const KIND_TOP_LEVEL: u8 = 1;
const KIND_DATAGRAM: u8 = 2;

/// STREAM: opens, carries and ends a direction of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream<'a> {
    /// The stream, never the root.
    pub lsid: u64,
    /// Description of the stream, until the peer is known to know it (STR-5).
    pub init: Option<Init<'a>>,
    /// Position at which `data` begins in the direction. Each byte takes one position, and each record mark.
    pub offset: u64,
    /// Set if the direction ends behind `data`, and behind the mark if there is one.
    pub fin: bool,
    /// Set if a record mark stands behind `data` (FRM-8).
    pub mark: bool,
    /// The bytes, a slice of the packet.
    pub data: &'a [u8],
}

/// Description of a stream: its place in the tree, its names, and what it costs until it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Init<'a> {
    /// The parent's LSID. That it fits the kind is checked by whoever knows the tree (STR-7).
    pub parent: u64,
    /// Which kind of stream.
    pub kind: InitKind<'a>,
    /// Owner of the openings account that is charged: 0 the parent's, 1 that of the parent's parent, and so on
    /// (STR-53). 0 for a top-level stream.
    pub lender: u8,
    /// Bytes that the opener may send before it is given credit, at most MAX_BORROW here, and at most what the
    /// receiver's SETTINGS allow (FRM-9); they are charged to the account (STR-54).
    pub borrow: u64,
    /// Bytes that the receiver may send back before it is given credit. 0 for a datagram.
    pub credit: u64,
}

/// Which kind of stream an [`Init`] opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitKind<'a> {
    /// A child of another stream.
    Substream,
    /// A child of the root. Names are at most 255 bytes.
    TopLevel {
        /// The service's name.
        service: &'a [u8],
        /// The protocol's name.
        protocol: &'a [u8],
    },
    /// A child of another stream that carries one datagram (STR-34).
    Datagram {
        /// All its bytes. It borrows at most so many, and at most DATAGRAM_BORROW.
        size: u64,
    },
}

impl<'a> Init<'a> {
    /// The init block of a child of the stream `parent` that borrows nothing and takes nothing back.
    pub const fn substream(parent: u64) -> Self {
        Self::of(parent, InitKind::Substream)
    }

    /// The init block of a top-level stream that borrows nothing and takes nothing back. Names are at most 255 bytes.
    pub const fn top_level(service: &'a [u8], protocol: &'a [u8]) -> Self {
        Self::of(0, InitKind::TopLevel { service, protocol })
    }

    /// The init block of a datagram of `size` bytes on the stream `parent`, which borrows `borrow` of them.
    pub const fn datagram(parent: u64, size: u64, borrow: u64) -> Self {
        Self::of(parent, InitKind::Datagram { size }).with_credit(0, borrow, 0)
    }

    const fn of(parent: u64, kind: InitKind<'a>) -> Self {
        Self {
            parent,
            kind,
            lender: 0,
            borrow: 0,
            credit: 0,
        }
    }

    /// The same, with these limits.
    #[must_use]
    pub const fn with_credit(mut self, lender: u8, borrow: u64, credit: u64) -> Self {
        (self.lender, self.borrow, self.credit) = (lender, borrow, credit);
        self
    }

    #[inline(never)]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let parent = reader.varint()?;
        let kind = reader.u8()?;
        let mut init = match kind {
            KIND_TOP_LEVEL => Self::of(
                parent,
                InitKind::TopLevel {
                    service: reader.bytes8()?,
                    protocol: reader.bytes8()?,
                },
            ),
            KIND_SUBSTREAM | KIND_DATAGRAM => Self::of(parent, InitKind::Substream),
            _ => return Err(Malformed("unknown kind of stream")),
        };
        if kind != KIND_TOP_LEVEL {
            init.lender = read_lender(reader)?;
        }
        if kind == KIND_DATAGRAM {
            init.kind = InitKind::Datagram { size: reader.varint()? };
        }
        init.borrow = reader.varint()?;
        if init.borrow > init.most_borrowed() {
            return Err(Malformed("a stream borrows more than it may"));
        }
        if kind != KIND_DATAGRAM {
            init.credit = reader.varint()?;
        }
        Ok(init)
    }

    /// FRM-9
    fn most_borrowed(&self) -> u64 {
        match self.kind {
            InitKind::Datagram { size } => size.min(DATAGRAM_BORROW),
            _ => MAX_BORROW,
        }
    }

    fn encode(&self, w: &mut Writer<'_>) {
        w.varint(self.parent);
        match self.kind {
            InitKind::Substream => {
                w.u8(KIND_SUBSTREAM);
                w.varint(u64::from(self.lender));
            }
            InitKind::TopLevel { service, protocol } => {
                w.u8(KIND_TOP_LEVEL);
                w.bytes8(service);
                w.bytes8(protocol);
            }
            InitKind::Datagram { size } => {
                w.u8(KIND_DATAGRAM);
                w.varint(u64::from(self.lender));
                w.varint(size);
            }
        }
        w.varint(self.borrow);
        if !matches!(self.kind, InitKind::Datagram { .. }) {
            w.varint(self.credit);
        }
    }

    /// Bytes of the block.
    pub fn encoded_len(&self) -> usize {
        let (lender, credit) = (varint::len(u64::from(self.lender)), varint::len(self.credit));
        let rest = match self.kind {
            InitKind::Substream => total([lender, credit]),
            InitKind::TopLevel { service, protocol } => total([2, service.len(), protocol.len(), credit]),
            InitKind::Datagram { size } => total([lender, varint::len(size)]),
        };
        total([varint::len(self.parent), 1, rest, varint::len(self.borrow)])
    }
}

/// FRM-13
fn read_lender(reader: &mut Reader<'_>) -> Result<u8, Malformed> {
    let levels = u8::try_from(reader.varint()?).ok();
    let valid = levels.filter(|levels| *levels < MAX_DEPTH);
    valid.ok_or(Malformed("a lender above the root"))
}

impl<'a> Stream<'a> {
    /// The high bits of the frame's type.
    pub const TYPE: u8 = 0x20;
    /// Which bits of a type byte are [`Self::TYPE`]; the others are flags.
    pub const TYPE_MASK: u8 = 0xe0;

    /// Reads the fields of a frame of type `kind`.
    ///
    /// # Errors
    /// If the frame is truncated, names the root, has an unknown kind of init block, or reaches beyond 2^62 - 1
    /// (FRM-5).
    #[inline]
    pub fn decode(kind: u8, reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let lsid = read_lsid(reader)?;
        let init = match kind & INIT {
            0 => None,
            _ => Some(Init::decode(reader)?),
        };
        let offset = match kind & OFF {
            0 => 0,
            _ => reader.varint()?,
        };
        let data = match kind & LEN {
            0 => reader.rest(),
            _ => reader.bytesv()?,
        };
        let frame = Self {
            lsid,
            init,
            offset,
            fin: kind & FIN != 0,
            mark: kind & MARK != 0,
            data,
        };
        if frame.end() > varint::MAX {
            return Err(Malformed("stream data beyond 2^62 - 1"));
        }
        Ok(frame)
    }

    /// The position behind the data and the mark.
    #[inline]
    pub const fn end(&self) -> u64 {
        let len = (self.data.len() as u64).saturating_add(self.mark as u64);
        self.offset.saturating_add(len)
    }

    /// Writes the frame with its length, so that others may follow.
    #[inline]
    pub fn encode(&self, w: &mut Writer<'_>) {
        self.header().encode(w, Some(self.data.len()));
        w.bytes(self.data);
    }

    /// Bytes that [`Self::encode`] writes.
    #[inline]
    pub fn encoded_len(&self) -> usize {
        let header = self.header().encoded_len(Some(self.data.len()));
        total([header, self.data.len()])
    }

    /// Everything but the data.
    #[inline]
    pub const fn header(&self) -> StreamHeader<'a> {
        StreamHeader {
            lsid: self.lsid,
            init: self.init,
            offset: self.offset,
            fin: self.fin,
            mark: self.mark,
        }
    }

    /// Bytes before the data. `len_field` is the length of the data if it is to be written.
    #[inline]
    pub fn header_len(lsid: u64, init: Option<&Init<'_>>, offset: u64, len_field: Option<usize>) -> usize {
        total([
            1,
            varint::len(lsid),
            init.map_or(0, Init::encoded_len),
            if offset == 0 { 0 } else { varint::len(offset) },
            len_field.map_or(0, |n| varint::len(n as u64)),
        ])
    }
}

/// STREAM without its data: for a sender that copies the data behind the header itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamHeader<'a> {
    /// The stream, never the root.
    pub lsid: u64,
    /// Description of the stream.
    pub init: Option<Init<'a>>,
    /// Position at which the data begins in the direction. Each byte takes one position, and each record mark.
    pub offset: u64,
    /// Set if the direction ends behind the data, and behind the mark if there is one.
    pub fin: bool,
    /// Set if a record mark stands behind the data.
    pub mark: bool,
}

/// Amount of data that a STREAM frame is to carry, and whether it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Bytes of data.
    pub len: usize,
    /// Set if the length is written. If not, the frame is the last of the packet.
    pub has_len_field: bool,
}

impl Fit {
    /// The argument of [`StreamHeader::encode`].
    #[inline]
    pub fn len_field(self) -> Option<usize> {
        self.has_len_field.then_some(self.len)
    }
}

impl StreamHeader<'_> {
    /// Writes the header. `len_field` is the length of the data; without it, the data that follows must be the
    /// last in the packet.
    #[inline]
    pub fn encode(&self, w: &mut Writer<'_>, len_field: Option<usize>) {
        let flag = |bit, is_set| if is_set { bit } else { 0 };
        w.u8(Stream::TYPE
            | flag(FIN, self.fin)
            | flag(LEN, len_field.is_some())
            | flag(OFF, self.offset != 0)
            | flag(INIT, self.init.is_some())
            | flag(MARK, self.mark));
        w.varint(self.lsid);
        if let Some(init) = &self.init {
            init.encode(w);
        }
        if self.offset != 0 {
            w.varint(self.offset);
        }
        if let Some(len) = len_field {
            w.varint(len as u64);
        }
    }

    /// Bytes that [`Self::encode`] writes.
    #[inline]
    pub fn encoded_len(&self, len_field: Option<usize>) -> usize {
        Stream::header_len(self.lsid, self.init.as_ref(), self.offset, len_field)
    }

    /// Returns how much of `available` bytes of data fits behind this header into `space` bytes.
    ///
    /// Data that fills the space goes without a length; all other data has one, and leaves the rest of the space to
    /// other frames. `None` if the header does not fit, or if there is data and none of it fits.
    #[inline]
    pub fn fit(&self, space: usize, available: usize) -> Option<Fit> {
        let room = space.checked_sub(self.encoded_len(None))?;
        if available >= room && (room > 0 || available == 0) {
            let has_len_field = false;
            return Some(Fit {
                len: room,
                has_len_field,
            });
        }
        // Less than the room is available: with its length it fits, or is cut to what leaves room for a length.
        let field = varint::len(available as u64);
        let len = available.min(room.checked_sub(field)?);
        let has_len_field = true;
        (len > 0 || available == 0).then_some(Fit { len, has_len_field })
    }
}
