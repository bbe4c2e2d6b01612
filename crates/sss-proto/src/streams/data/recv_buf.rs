//! The receive buffer of a stream: bytes and record marks that arrived and were not read yet.

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;

use crate::streams::data::marks::Marks;
use crate::streams::data::reassembly::{Reassembly, Taken};

/// Shorter pieces are copied: a slice would keep a whole batch of datagrams in memory.
pub(crate) const SLICE_FROM: usize = 1024;
/// The number of slices of batches that all streams of a peer keep at most; beyond, pieces are copied.
const MAX_SLICES: u32 = 512;
/// Short pieces that lie in the buffer one by one; more are gathered.
const SHORT_PIECES: usize = 8;
/// Gathered bytes become a piece when they are this many.
const MAX_TAIL: usize = 16 << 10;
/// Capacity that an unused buffer keeps.
const KEPT_PIECES: usize = 64;

/// Data of a frame, and the packet buffer that it is a slice of.
#[derive(Clone, Copy)]
pub(crate) struct Arrival<'a> {
    pub(crate) offset: u64,
    pub(crate) data: &'a [u8],
    /// True if a record mark stands behind the data.
    pub(crate) has_mark: bool,
    pub(crate) packet: &'a Bytes,
}

impl Arrival<'_> {
    /// The position behind the data, which is that of the mark if there is one.
    fn data_end(&self) -> u64 {
        self.offset.saturating_add(self.data.len() as u64)
    }
}

/// Counts the slices of packet buffers that streams of a peer keep.
#[derive(Debug, Default)]
pub(crate) struct Slices(u32);

impl Slices {
    pub(crate) fn take(&mut self) -> bool {
        let free = self.0 < MAX_SLICES;
        self.0 += u32::from(free);
        free
    }

    pub(crate) fn give_back(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn is_unused(&self) -> bool {
        self.0 == 0
    }
}

#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    is_slice: bool,
}

/// Bytes from the reader's position on: pieces in order, behind them the tail in which short pieces are gathered, the
/// marks among them, which take no part in pieces, and what lies beyond the first gap.
#[derive(Debug, Default)]
pub(crate) struct RecvBuf {
    pieces: VecDeque<Piece>,
    tail: Vec<u8>,
    marks: Marks,
    /// The first position that is missing.
    next: u64,
    ahead: Reassembly,
}

impl RecvBuf {
    /// Prepares an empty buffer for a direction of which `offset` positions were read.
    pub(crate) fn begin(&mut self, offset: u64) {
        self.next = offset;
    }

    /// The first position that is missing.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Returns whether nothing can be read.
    pub(crate) fn is_blocked(&self) -> bool {
        self.pieces.is_empty() && self.tail.is_empty() && self.marks.is_empty()
    }

    /// Returns whether nothing is held at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_blocked() && self.ahead.is_empty()
    }

    /// Drops the contents.
    pub(crate) fn clear(&mut self, slices: &mut Slices) {
        for piece in self.pieces.drain(..) {
            if piece.is_slice {
                slices.give_back();
            }
        }
        self.pieces.shrink_to(KEPT_PIECES);
        self.tail = Vec::new();
        self.marks.clear();
        self.ahead.clear();
    }

    /// Takes in data, and the mark behind it; returns whether more can be read.
    pub(crate) fn insert(&mut self, arrival: Arrival<'_>, slices: &mut Slices) -> bool {
        let mark = arrival.data_end();
        let end = mark.saturating_add(u64::from(arrival.has_mark));
        if end <= self.next {
            return false;
        }
        let before = self.next;
        let skip = usize::try_from(self.next.saturating_sub(arrival.offset)).unwrap_or(usize::MAX);
        let data = arrival.data.get(skip..).unwrap_or_default();
        let offset = arrival.offset.max(self.next);
        if offset == self.next && (self.ahead.is_empty() || !self.ahead.any(offset, end)) {
            self.push(data, arrival.packet, slices);
            if arrival.has_mark {
                self.push_mark();
            }
        } else {
            self.ahead.insert(self.next, offset, data);
            if arrival.has_mark {
                self.ahead.insert_mark(self.next, mark);
            }
        }
        if !self.ahead.is_empty() {
            self.catch_up();
        }
        self.next > before
    }

    /// Appends data in order.
    fn push(&mut self, data: &[u8], packet: &Bytes, slices: &mut Slices) {
        self.next += data.len() as u64;
        if data.len() >= SLICE_FROM {
            let is_slice = slices.take();
            let bytes = if is_slice {
                packet.slice_ref(data)
            } else {
                Bytes::copy_from_slice(data)
            };
            self.close_tail();
            self.pieces.push_back(Piece { bytes, is_slice });
        } else {
            push_short(&mut self.pieces, &mut self.tail, data);
        }
    }

    /// Appends a mark in order.
    fn push_mark(&mut self) {
        self.marks.push(self.next);
        self.next = self.next.saturating_add(1);
    }

    /// Moves what follows without a gap out of `ahead`.
    fn catch_up(&mut self) {
        while let Some(taken) = self.ahead.take(self.next) {
            match taken {
                Taken::Block(data) => {
                    self.next += data.len() as u64;
                    self.close_tail();
                    let bytes = Bytes::from(data);
                    self.pieces.push_back(Piece { bytes, is_slice: false });
                }
                Taken::Part(data) => {
                    self.next += data.len() as u64;
                    push_short(&mut self.pieces, &mut self.tail, data);
                }
                Taken::Mark => {
                    self.marks.push(self.next);
                    self.next += 1;
                }
            }
        }
    }

    fn close_tail(&mut self) {
        close_tail(&mut self.pieces, &mut self.tail);
    }

    /// Returns how many bytes at most can be read before the first mark comes, for a reader that stands at `position`.
    /// 0 if it stands at a mark.
    pub(crate) fn until_mark(&self, position: u64) -> usize {
        usize::try_from(self.marks.distance(position)).unwrap_or(usize::MAX)
    }

    /// Passes the mark at which the reader stands.
    pub(crate) fn pass_mark(&mut self) {
        self.marks.pop();
    }

    /// At most `max` bytes from the front, in one piece; empty if there are none. The caller stays before the first
    /// mark.
    pub(crate) fn read(&mut self, max: usize, slices: &mut Slices) -> Bytes {
        if self.pieces.is_empty() {
            self.close_tail();
        }
        let Some(front) = self.pieces.front_mut() else {
            return Bytes::new();
        };
        if front.bytes.len() > max {
            return front.bytes.split_to(max);
        }
        let Some(piece) = self.pieces.pop_front() else {
            return Bytes::new();
        };
        if piece.is_slice {
            slices.give_back();
        }
        piece.bytes
    }
}

#[cfg(test)]
impl RecvBuf {
    /// Bytes of memory that the contents take, slices of packets not counted.
    pub(crate) fn memory(&self) -> usize {
        let pieces = self.pieces.iter().filter(|p| !p.is_slice).map(|p| p.bytes.len());
        let pieces = pieces.sum::<usize>() + self.pieces.capacity() * size_of::<Piece>();
        pieces + self.tail.capacity() + self.marks.memory() + self.ahead.memory()
    }
}

/// Appends a copy of short data.
fn push_short(pieces: &mut VecDeque<Piece>, tail: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    if tail.is_empty() && pieces.len() < SHORT_PIECES {
        let bytes = Bytes::copy_from_slice(data);
        pieces.push_back(Piece { bytes, is_slice: false });
        return;
    }
    tail.extend_from_slice(data);
    if tail.len() >= MAX_TAIL {
        close_tail(pieces, tail);
    }
}

fn close_tail(pieces: &mut VecDeque<Piece>, tail: &mut Vec<u8>) {
    if !tail.is_empty() {
        let bytes = Bytes::from(mem::take(tail));
        pieces.push_back(Piece { bytes, is_slice: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(buf: &mut RecvBuf, slices: &mut Slices, offset: u64, packet: &Bytes) -> bool {
        let arrival = Arrival {
            offset,
            data: packet.as_ref(),
            has_mark: false,
            packet,
        };
        buf.insert(arrival, slices)
    }

    #[test]
    fn short_pieces_are_gathered() {
        let (mut buf, mut slices) = (RecvBuf::default(), Slices::default());
        for offset in 0..100_000 {
            assert!(insert(&mut buf, &mut slices, offset, &Bytes::from(vec![offset as u8])));
        }
        assert!(buf.pieces.len() < 20, "{} pieces", buf.pieces.len());
        let mut read = 0u64;
        while !buf.is_blocked() {
            for byte in buf.read(777, &mut slices) {
                assert_eq!(byte, read as u8);
                read += 1;
            }
        }
        assert_eq!(read, 100_000);
    }

    #[test]
    fn threat_28_only_so_many_slices_are_kept() {
        let (mut buf, mut slices) = (RecvBuf::default(), Slices::default());
        for i in 0..2 * u64::from(MAX_SLICES) {
            insert(&mut buf, &mut slices, i * 2000, &Bytes::from(vec![1; 2000]));
        }
        assert_eq!(slices.0, MAX_SLICES);
        assert_eq!(buf.pieces.iter().filter(|p| p.is_slice).count() as u32, MAX_SLICES);
        buf.read(1999, &mut slices);
        assert_eq!(slices.0, MAX_SLICES);
        buf.read(1999, &mut slices);
        assert_eq!(slices.0, MAX_SLICES - 1);
        buf.clear(&mut slices);
        assert_eq!(slices.0, 0);
    }

    #[test]
    fn a_gap_is_filled_later() {
        let (mut buf, mut slices) = (RecvBuf::default(), Slices::default());
        buf.begin(10);
        assert!(!insert(&mut buf, &mut slices, 2010, &Bytes::from(vec![2; 2000])));
        assert!(!insert(&mut buf, &mut slices, 0, &Bytes::from(vec![9; 10])));
        assert!(buf.is_blocked() && !buf.is_empty());
        assert!(insert(&mut buf, &mut slices, 5, &Bytes::from(vec![1; 2010])));
        assert_eq!(buf.next(), 4010);
        let mut all = Vec::new();
        while !buf.is_blocked() {
            all.extend_from_slice(&buf.read(5000, &mut slices));
        }
        assert!(all[..2000].iter().all(|b| *b == 1) && all[2000..].iter().all(|b| *b == 2));
        assert_eq!(all.len(), 4000);
    }
}
