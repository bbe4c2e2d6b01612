//! The send buffer of a stream: bytes and record marks written and not yet acknowledged.

use std::collections::VecDeque;
use std::mem;
use std::ops::Range;

use bytes::Bytes;

use crate::streams::data::ranges::Ranges;

/// Writes at least this long become a chunk of their own; shorter ones are gathered.
const GATHER_BELOW: usize = 4096;
/// Largest chunk made from a write that is copied: acknowledged bytes are freed in chunks.
const MAX_CHUNK: usize = 64 << 10;
/// Gathered bytes become a chunk when they are this many.
const MAX_TAIL: usize = 32 << 10;
/// Messages at least this long are not copied.
const KEPT_FROM: usize = 128;
/// Capacity that an unused buffer keeps.
const KEPT_TAIL: usize = 1024;
const KEPT_MARKS: usize = 64;

#[derive(Debug)]
struct Chunk {
    start: u64,
    bytes: Bytes,
}

/// Positions `base..end` of a direction: chunks, and behind them the tail in which small writes are gathered. A record
/// mark has a placeholder among the bytes, which is never sent.
#[derive(Debug, Default)]
pub(crate) struct SendBuf {
    chunks: VecDeque<Chunk>,
    tail: Vec<u8>,
    /// Positions of the marks, lowest first.
    marks: VecDeque<u64>,
    /// Everything below is acknowledged.
    base: u64,
    end: u64,
    /// Acknowledged ranges above `base`.
    acked: Ranges,
    /// Ranges to be sent again.
    lost: Ranges,
}

impl SendBuf {
    /// Prepares an empty buffer for a direction of which `offset` positions were sent and acknowledged.
    pub(crate) fn begin(&mut self, offset: u64) {
        self.base = offset;
        self.end = offset;
    }

    /// Drops the contents.
    pub(crate) fn clear(&mut self) {
        self.chunks.clear();
        self.tail.clear();
        self.tail.shrink_to(KEPT_TAIL);
        self.marks.clear();
        self.marks.shrink_to(KEPT_MARKS);
        self.acked.clear();
        self.lost.clear();
        self.base = self.end;
    }

    /// Gives back the memory of the tail, if it is empty.
    pub(crate) fn shrink(&mut self) {
        if self.tail.is_empty() {
            self.tail = Vec::new();
        }
    }

    /// Position behind the last byte or mark written.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Offset up to which everything is acknowledged.
    pub(crate) fn acked(&self) -> u64 {
        self.base
    }

    /// Returns whether everything written is acknowledged.
    pub(crate) fn is_acked(&self) -> bool {
        self.base == self.end
    }

    /// Bytes and marks held.
    pub(crate) fn len(&self) -> u64 {
        self.end - self.base
    }

    /// Appends a copy of `data`.
    pub(crate) fn push(&mut self, data: &[u8]) {
        if data.len() < GATHER_BELOW {
            self.gather(data);
        } else {
            for piece in data.chunks(MAX_CHUNK) {
                self.push_chunk(Bytes::copy_from_slice(piece));
            }
        }
    }

    /// Appends to the tail. Beyond `KEPT_TAIL` bytes it does not grow, which would copy it again: it becomes a chunk as
    /// soon as it is full, and the next one is twice as large.
    fn gather(&mut self, data: &[u8]) {
        let capacity = self.tail.capacity();
        let room = capacity - self.tail.len();
        let fits = data.len() <= room || capacity < KEPT_TAIL;
        let (now, later) = data.split_at(if fits { data.len() } else { room });
        self.tail.extend_from_slice(now);
        self.end += now.len() as u64;
        if !later.is_empty() {
            self.close_tail();
            self.tail.reserve_exact((2 * capacity).min(MAX_TAIL).max(later.len()));
            self.tail.extend_from_slice(later);
            self.end += later.len() as u64;
        }
        if self.tail.len() >= MAX_TAIL {
            self.close_tail();
        }
    }

    /// Appends `bytes` without a copy, unless they are few.
    pub(crate) fn push_bytes(&mut self, bytes: Bytes) {
        if bytes.len() < GATHER_BELOW / 4 {
            self.push(&bytes);
        } else {
            self.push_chunk(bytes);
        }
    }

    /// Appends a message that is to be sent as a whole, without a copy, unless that is cheaper.
    pub(crate) fn push_message(&mut self, bytes: Bytes) {
        if bytes.len() < KEPT_FROM {
            self.push(&bytes);
        } else {
            self.push_chunk(bytes);
        }
    }

    /// Appends a record mark.
    pub(crate) fn push_mark(&mut self) {
        const PLACEHOLDER: &[u8] = &[0];
        let is_behind_mark = self.marks.back().is_some_and(|m| m + 1 == self.end);
        self.marks.push_back(self.end);
        // Behind a chunk, a chunk that takes no memory of its own spares the tail's.
        if self.tail.is_empty() && !is_behind_mark {
            self.push_chunk(Bytes::from_static(PLACEHOLDER));
        } else {
            self.push(PLACEHOLDER);
        }
    }

    /// The first mark at `from` or behind it.
    pub(crate) fn next_mark(&self, from: u64) -> Option<u64> {
        if self.marks.is_empty() {
            return None;
        }
        self.marks.get(self.marks.partition_point(|m| *m < from)).copied()
    }

    fn push_chunk(&mut self, bytes: Bytes) {
        self.close_tail();
        let start = self.end;
        self.end += bytes.len() as u64;
        self.chunks.push_back(Chunk { start, bytes });
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            let start = self.tail_start();
            let bytes = Bytes::from(mem::take(&mut self.tail));
            self.chunks.push_back(Chunk { start, bytes });
        }
    }

    fn tail_start(&self) -> u64 {
        self.end - self.tail.len() as u64
    }

    /// Takes back everything from `end` on, of which nothing was sent.
    pub(crate) fn truncate(&mut self, end: u64) {
        self.close_tail();
        while self.chunks.back().is_some_and(|last| last.start >= end) {
            self.chunks.pop_back();
        }
        if let Some(last) = self.chunks.back_mut() {
            let len = last.bytes.len();
            let kept = usize::try_from(end - last.start).map_or(len, |kept| kept.min(len));
            // What is kept of a long chunk does not keep all of it.
            let unneeded = usize::try_from(self.base.saturating_sub(last.start)).map_or(0, |n| n.min(kept));
            if kept - unneeded <= len / 2 {
                last.bytes = Bytes::copy_from_slice(last.bytes.get(unneeded..kept).unwrap_or_default());
                last.start += unneeded as u64;
            } else {
                last.bytes.truncate(kept);
            }
        }
        while self.marks.back().is_some_and(|mark| *mark >= end) {
            self.marks.pop_back();
        }
        self.end = end;
    }

    /// Fills `out` with the bytes from `offset` on. They lie between `base` and `end`.
    pub(crate) fn copy(&self, offset: u64, out: &mut [u8]) {
        let mut at = offset;
        let mut out = out;
        let from = self.chunks.partition_point(|c| c.start <= at).saturating_sub(1);
        let pieces = self.chunks.range(from..).map(|c| (c.start, c.bytes.as_ref()));
        for (start, bytes) in pieces.chain([(self.tail_start(), self.tail.as_slice())]) {
            if out.is_empty() {
                break;
            }
            let piece = usize::try_from(at - start).ok().and_then(|skip| bytes.get(skip..));
            let piece = piece.unwrap_or_default();
            let n = piece.len().min(out.len());
            let (now, later) = mem::take(&mut out).split_at_mut(n);
            now.copy_from_slice(&piece[..n]);
            out = later;
            at += n as u64;
        }
        debug_assert!(out.is_empty(), "bytes {offset}.. are not all in the buffer");
    }

    /// The lowest range to be sent again.
    pub(crate) fn next_lost(&self) -> Option<Range<u64>> {
        self.lost.first()
    }

    /// A range was sent again.
    pub(crate) fn take_lost(&mut self, range: &Range<u64>) {
        self.lost.remove(range);
    }

    /// A range arrived at the peer.
    pub(crate) fn on_acked(&mut self, range: Range<u64>) {
        let range = range.start.max(self.base)..range.end.min(self.end);
        if range.is_empty() {
            return;
        }
        if !self.lost.is_empty() {
            self.lost.remove(&range);
        }
        if range.start > self.base {
            self.acked.insert(range);
            return;
        }
        self.base = range.end;
        while let Some(first) = self.acked.first().filter(|r| r.start <= self.base) {
            self.base = self.base.max(first.end);
            self.acked.pop_first();
        }
        self.free();
    }

    /// A range is to be sent again, but for what is acknowledged.
    pub(crate) fn on_lost(&mut self, range: Range<u64>) {
        let range = range.start.max(self.base)..range.end.min(self.end);
        if range.is_empty() {
            return;
        }
        self.lost.insert(range.clone());
        for acked in self.acked.overlapping(range) {
            self.lost.remove(acked);
        }
    }

    /// Frees chunks and marks that are acknowledged.
    fn free(&mut self) {
        while self.marks.front().is_some_and(|m| *m < self.base) {
            self.marks.pop_front();
        }
        while self
            .chunks
            .front()
            .is_some_and(|c| c.start + c.bytes.len() as u64 <= self.base)
        {
            self.chunks.pop_front();
        }
        if self.base == self.end {
            self.tail.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn byte(offset: u64) -> u8 {
        (offset.wrapping_mul(31) >> 3) as u8
    }

    fn written(range: Range<u64>) -> Vec<u8> {
        range.map(byte).collect()
    }

    #[test]
    fn random_writes_losses_and_acknowledgements() {
        for seed in 0..100 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut buf = SendBuf::default();
            buf.begin(7);
            let (mut sent, mut flying) = (7, Vec::new());
            for _ in 0..300 {
                match rng.random_range(0..5) {
                    0 => {
                        let n = [3, 900, 5000, 70_000][rng.random_range(0..4)];
                        buf.push(&written(buf.end()..buf.end() + n));
                    }
                    1 => {
                        let n = rng.random_range(1..3000);
                        buf.push_bytes(written(buf.end()..buf.end() + n).into());
                    }
                    2 | 3 => {
                        let lost = buf.next_lost();
                        let fresh = sent..buf.end();
                        let range = lost.clone().unwrap_or(fresh);
                        let range = range.start..range.end.min(range.start + 1400);
                        let mut out = vec![0; (range.end - range.start) as usize];
                        buf.copy(range.start, &mut out);
                        assert_eq!(out, written(range.clone()), "seed {seed}");
                        if lost.is_some() {
                            buf.take_lost(&range)
                        } else {
                            sent = range.end
                        }
                        flying.push(range);
                    }
                    _ if !flying.is_empty() => {
                        let range = flying.swap_remove(rng.random_range(0..flying.len()));
                        if rng.random_ratio(1, 4) {
                            buf.on_lost(range)
                        } else {
                            buf.on_acked(range)
                        }
                    }
                    _ => {}
                }
            }
            for range in flying {
                buf.on_acked(range);
            }
            while let Some(range) = buf.next_lost() {
                buf.on_acked(range);
            }
            buf.on_acked(sent..buf.end());
            assert!(
                buf.is_acked() && buf.chunks.is_empty() && buf.tail.is_empty(),
                "seed {seed}"
            );
        }
    }

    #[test]
    fn what_is_taken_back_is_written_again_and_holds_no_memory() {
        for cut in [1, 1000, 4096, 5000, 99_999, 100_000, 150_000] {
            let mut buf = SendBuf::default();
            buf.begin(7);
            buf.push(&written(7..1007));
            buf.push_bytes(written(1007..100_007).into());
            buf.push(&written(100_007..100_107));
            buf.push_mark();
            let end = (7 + cut).min(buf.end());
            buf.truncate(end);
            assert_eq!(buf.end(), end, "{cut}");
            let held: usize = buf.chunks.iter().map(|c| c.bytes.len()).sum();
            assert!(held as u64 <= cut && buf.marks.is_empty() == (cut < 100_101), "{cut}");
            buf.push(&written(end..end + 5000));
            let mut out = vec![0; (end + 5000 - 7) as usize];
            buf.copy(7, &mut out);
            out.truncate(out.len().min((100_107 - 7) as usize));
            assert_eq!(out, written(7..7 + out.len() as u64), "{cut}");
        }
        // What is acknowledged of the chunk is not copied, and what is under way stays.
        let mut buf = SendBuf::default();
        buf.push_bytes(written(0..100_000).into());
        buf.on_acked(0..50_000);
        buf.truncate(60_000);
        let chunk = buf.chunks.front().map(|c| (c.start, c.bytes.len()));
        assert_eq!(chunk, Some((50_000, 10_000)));
        let mut out = vec![0; 10_000];
        buf.copy(50_000, &mut out);
        assert_eq!(out, written(50_000..60_000));
        buf.on_acked(50_000..59_990);
        buf.truncate(60_000);
        let chunk = buf.chunks.front().map(|c| (c.start, c.bytes.len()));
        assert_eq!(
            chunk,
            Some((59_990, 10)),
            "the rest of the chunk is not kept for its end"
        );
        buf.on_acked(50_000..60_000);
        assert!(buf.is_acked() && buf.chunks.is_empty());
    }

    #[test]
    fn small_writes_are_copied_once_and_become_few_chunks() {
        for size in [1, 10, 700, 1100, 4095] {
            let mut buf = SendBuf::default();
            let total = 300_000 / size * size;
            while buf.len() < total {
                let before = (buf.tail.as_ptr(), buf.tail.len(), buf.chunks.len());
                buf.push(&written(buf.end()..buf.end() + size));
                let is_moved = buf.tail.as_ptr() != before.0 && buf.chunks.len() == before.2;
                assert!(
                    !is_moved || before.1 <= KEPT_TAIL,
                    "{} bytes were copied again",
                    before.1
                );
            }
            let most = total as usize / (8 << 10);
            assert!(buf.chunks.len() <= most, "{size}: {} chunks", buf.chunks.len());
            let held: usize = buf.tail.capacity() + buf.chunks.iter().map(|c| c.bytes.len()).sum::<usize>();
            assert!(held <= total as usize + MAX_TAIL, "{size}: {held}");
            let mut out = vec![0; total as usize];
            buf.copy(0, &mut out);
            assert_eq!(out, written(0..total));
        }
    }

    #[test]
    fn what_is_acknowledged_is_not_sent_again() {
        let mut buf = SendBuf::default();
        buf.push(&[0; 100]);
        buf.on_acked(40..50);
        buf.on_lost(0..100);
        assert_eq!(buf.next_lost(), Some(0..40));
        buf.on_acked(0..45);
        assert_eq!(buf.next_lost(), Some(50..100));
        assert_eq!(buf.len(), 50);
    }
}
