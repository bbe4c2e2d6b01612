//! Bytes that arrived ahead of others.
//!
//! They are copied into blocks with a bit per byte, so that memory stays in proportion to the credit granted,
//! whatever the frames' sizes and gaps are.

use std::collections::VecDeque;

/// Bytes of stream in a block.
const BLOCK: u64 = 4096;
const WORD: usize = 64;

/// One aligned block; data and bits reach as far as was needed.
#[derive(Debug, Default)]
struct Block {
    data: Vec<u8>,
    present: Vec<u64>,
    /// Which of those present are record marks; their data means nothing. Reaches as far as there are any.
    marks: Vec<u64>,
}

impl Block {
    fn has(&self, at: usize) -> bool {
        self.present.get(at / WORD).is_some_and(|w| w >> (at % WORD) & 1 == 1)
    }

    fn is_mark(&self, at: usize) -> bool {
        self.marks.get(at / WORD).is_some_and(|w| w >> (at % WORD) & 1 == 1)
    }

    fn any(&self, from: usize, to: usize) -> bool {
        let mut at = from;
        while at < to {
            let word = self.present.get(at / WORD).copied().unwrap_or(0) >> (at % WORD);
            let n = (WORD - at % WORD).min(to - at);
            if word & mask(n) != 0 {
                return true;
            }
            at += n;
        }
        false
    }

    fn set(&mut self, from: usize, to: usize) {
        let mut at = from;
        while at < to {
            let n = (WORD - at % WORD).min(to - at);
            if let Some(word) = self.present.get_mut(at / WORD) {
                *word |= mask(n) << (at % WORD);
            }
            at += n;
        }
    }

    fn grow(&mut self, to: usize) {
        if self.data.len() < to {
            let size = to.next_power_of_two().max(WORD);
            self.data.resize(size, 0);
            self.present.resize(size / WORD, 0);
        }
    }

    /// Copies in what is not there yet; returns how many bytes that was.
    fn insert(&mut self, at: usize, data: &[u8]) -> usize {
        let end = at + data.len();
        self.grow(end);
        if !self.any(at, end) {
            if let Some(to) = self.data.get_mut(at..end) {
                to.copy_from_slice(data);
            }
            self.set(at, end);
            return data.len();
        }
        let mut added = 0;
        for (i, byte) in (at..end).zip(data) {
            // STR-11: the first that came is kept.
            if !self.has(i)
                && let Some(to) = self.data.get_mut(i)
            {
                *to = *byte;
                self.set(i, i + 1);
                added += 1;
            }
        }
        added
    }

    /// Notes a mark, if nothing is there yet; returns whether that was so.
    fn insert_mark(&mut self, at: usize) -> bool {
        self.grow(at + 1);
        // STR-29: the first that came is kept.
        if self.has(at) {
            return false;
        }
        self.set(at, at + 1);
        if self.marks.len() <= at / WORD {
            self.marks.resize(at / WORD + 1, 0);
        }
        if let Some(word) = self.marks.get_mut(at / WORD) {
            *word |= 1 << (at % WORD);
        }
        true
    }

    /// Returns how many bytes from `at` on are there without a gap or a mark.
    fn run(&self, at: usize) -> usize {
        let mut end = at;
        while let Some(word) = self.present.get(end / WORD) {
            let word = word & !self.marks.get(end / WORD).copied().unwrap_or(0);
            let n = (word >> (end % WORD)).trailing_ones() as usize;
            end += n;
            if n == 0 || !end.is_multiple_of(WORD) {
                break;
            }
        }
        end - at
    }
}

/// The low `n` bits, `1 <= n <= 64`.
fn mask(n: usize) -> u64 {
    u64::MAX >> (WORD - n)
}

/// Bytes and marks that arrived above the first gap of a direction.
#[derive(Debug, Default)]
pub(crate) struct Reassembly {
    blocks: VecDeque<Option<Box<Block>>>,
    /// The number of the first block.
    first: u64,
    /// Bytes and marks there are.
    held: u64,
}

impl Reassembly {
    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    pub(crate) fn clear(&mut self) {
        self.blocks.clear();
        self.held = 0;
    }

    /// Keeps `data`, which begins at `offset`. `next` is the first byte that is missing, at most `offset`.
    pub(crate) fn insert(&mut self, next: u64, mut offset: u64, mut data: &[u8]) {
        if self.blocks.is_empty() {
            self.first = next / BLOCK;
        }
        while !data.is_empty() {
            let at = (offset % BLOCK) as usize;
            let (piece, rest) = data.split_at(data.len().min(BLOCK as usize - at));
            let Some(block) = self.block_mut(offset) else {
                return;
            };
            self.held += block.insert(at, piece) as u64;
            offset += piece.len() as u64;
            data = rest;
        }
    }

    /// Keeps a record mark at `position`. `next` is the first position that is missing, at most `position`.
    pub(crate) fn insert_mark(&mut self, next: u64, position: u64) {
        if self.blocks.is_empty() {
            self.first = next / BLOCK;
        }
        if let Some(block) = self.block_mut(position) {
            self.held += u64::from(block.insert_mark((position % BLOCK) as usize));
        }
    }

    /// The block of a position, made if it is not there yet.
    fn block_mut(&mut self, offset: u64) -> Option<&mut Block> {
        let index = self.index(offset)?;
        if self.blocks.len() <= index {
            self.blocks.resize_with(index + 1, || None);
        }
        Some(self.blocks.get_mut(index)?.get_or_insert_default())
    }

    fn index(&self, offset: u64) -> Option<usize> {
        usize::try_from((offset / BLOCK).checked_sub(self.first)?).ok()
    }

    fn block(&self, offset: u64) -> Option<&Block> {
        self.blocks.get(self.index(offset)?)?.as_deref()
    }

    /// Returns whether any byte of `from..to` is there.
    pub(crate) fn any(&self, from: u64, to: u64) -> bool {
        let mut at = from;
        while at < to {
            let end = (at / BLOCK + 1) * BLOCK;
            let start = (at % BLOCK) as usize;
            let len = (end.min(to) - at) as usize;
            if self.block(at).is_some_and(|b| b.any(start, start + len)) {
                return true;
            }
            at = end;
        }
        false
    }

    /// Takes the mark at `next`, or bytes that begin there, as many as one block has without a gap or a mark; `None` if
    /// nothing is there.
    pub(crate) fn take(&mut self, next: u64) -> Option<Taken<'_>> {
        if self.held == 0 {
            self.blocks.clear();
            return None;
        }
        let passed = self.index(next)?.min(self.blocks.len());
        self.blocks.drain(..passed);
        self.first += passed as u64;
        let at = (next % BLOCK) as usize;
        let block = self.blocks.front()?.as_deref()?;
        if block.is_mark(at) {
            self.held -= 1;
            return Some(Taken::Mark);
        }
        let run = block.run(at);
        self.held -= run as u64;
        if run as u64 == BLOCK {
            return self.blocks.front_mut()?.take().map(|block| Taken::Block(block.data));
        }
        let data = self.blocks.front()?.as_deref()?.data.get(at..at + run)?;
        (!data.is_empty()).then_some(Taken::Part(data))
    }
}

#[cfg(test)]
impl Reassembly {
    /// Bytes of memory that the blocks take.
    pub(crate) fn memory(&self) -> usize {
        let block =
            |b: &Block| size_of::<Block>() + b.data.capacity() + 8 * (b.present.capacity() + b.marks.capacity());
        self.blocks.iter().flatten().map(|b| block(b)).sum::<usize>() + 8 * self.blocks.capacity()
    }
}

/// Result of [`Reassembly::take`].
pub(crate) enum Taken<'a> {
    /// A whole block.
    Block(Vec<u8>),
    /// A part of one.
    Part(&'a [u8]),
    /// A record mark.
    Mark,
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// A byte, or a mark.
    type Item = Option<u8>;

    fn drain(r: &mut Reassembly, next: &mut u64, out: &mut Vec<Item>) {
        while let Some(taken) = r.take(*next) {
            let before = out.len();
            match taken {
                Taken::Block(data) => out.extend(data.into_iter().map(Some)),
                Taken::Part(data) => out.extend(data.iter().copied().map(Some)),
                Taken::Mark => out.push(None),
            }
            *next += (out.len() - before) as u64;
        }
    }

    // spec: STR-11, STR-29
    #[test]
    fn any_order_and_overlap_gives_what_came_first() {
        for seed in 0..60 {
            let mut rng = StdRng::seed_from_u64(seed);
            let size = 20_000;
            let marks_in_20 = [0, 0, 1, 10][rng.random_range(0..4)];
            let mut model: Vec<Option<Item>> = vec![None; size];
            let (mut r, mut next, mut out) = (Reassembly::default(), 0, Vec::new());
            while out.len() < size {
                let start = rng.random_range(0..size).max(next as usize);
                let longest = [1, 3, 300, 9000][rng.random_range(0..4)];
                let start = if rng.random_ratio(1, 3) { next as usize } else { start };
                let end = (start + rng.random_range(1..=longest)).min(size);
                let fill = rng.random();
                let has_mark = rng.random_ratio(marks_in_20, 20);
                let mark = end - usize::from(has_mark);
                let any = model[start..end].iter().any(Option::is_some);
                assert_eq!(r.any(start as u64, end as u64), any, "seed {seed}");
                for (at, item) in (start..end).zip(&mut model[start..end]) {
                    item.get_or_insert((at < mark).then_some(fill));
                }
                r.insert(next, start as u64, &vec![fill; mark - start]);
                if has_mark {
                    r.insert_mark(next, mark as u64);
                }
                drain(&mut r, &mut next, &mut out);
                let expected = model.iter().position(Option::is_none).unwrap_or(size);
                assert_eq!(next as usize, expected, "seed {seed}");
            }
            let expected: Vec<Item> = model.into_iter().flatten().collect();
            assert!(out == expected && r.is_empty(), "seed {seed}");
        }
    }

    #[test]
    fn threat_28_memory_follows_the_reach_and_not_the_number_of_fragments() {
        let mut r = Reassembly::default();
        let reach = 256 << 10;
        for offset in (1..reach).step_by(2) {
            r.insert(0, offset, &[7]);
            if offset % 8 == 1 {
                r.insert_mark(0, offset + 1);
            }
        }
        let memory = r.memory();
        assert!(memory < (reach as usize) * 3 / 2, "{memory} bytes");
        let mut small = Reassembly::default();
        small.insert(0, 1, &[7]);
        let block = small.blocks[0].as_ref().unwrap();
        assert!(block.data.capacity() <= 64);
    }
}
