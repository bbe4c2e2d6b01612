//! The fuzz target of the buffer in which a stream is put together again.

use bytes::Bytes;

use super::recv_buf::{Arrival, RecvBuf, Slices};

/// Positions ahead of the reader that a sender may use: flow control sees to that.
const WINDOW: u64 = 1 << 14;

/// Contents of a stream: at each position a byte or a record mark.
struct Content {
    /// Positions from one mark to the next; 0: there are none.
    period: u64,
    /// True if pieces say what they like: then no more is checked than that nothing breaks.
    is_hostile: bool,
}

impl Content {
    fn byte(&self, position: u64) -> u8 {
        (position ^ (position >> 8)) as u8
    }

    fn is_mark(&self, position: u64) -> bool {
        self.period > 0 && position % self.period == self.period - 1
    }
}

/// The buffer, its reader, and the input.
struct Reader<'a> {
    buf: RecvBuf,
    slices: Slices,
    content: Content,
    position: u64,
    program: &'a [u8],
}

/// Pieces of a stream in any order and overlap, reads between them: what is read is what was sent, and in the end
/// nothing is held.
pub fn reassembly(data: &[u8]) {
    let mut program = data;
    let settings = take(&mut program);
    let base = match settings & 3 {
        0 => 0,
        1 => u64::from(take(&mut program)),
        2 => (1 << 32) - 100,
        _ => (1 << 62) - 2 * WINDOW,
    };
    let content = Content {
        period: u64::from(settings >> 2 & 15) * u64::from(settings >> 2 & 15),
        is_hostile: settings & 128 != 0,
    };
    let mut buf = RecvBuf::default();
    buf.begin(base);
    let mut reader = Reader {
        buf,
        slices: Slices::default(),
        content,
        position: base,
        program,
    };
    for _ in 0..500 {
        if reader.program.is_empty() {
            break;
        }
        reader.step();
    }
    reader.finish(base + WINDOW);
}

fn take(program: &mut &[u8]) -> u8 {
    program.split_off_first().copied().unwrap_or_default()
}

impl Reader<'_> {
    fn word(&mut self) -> u64 {
        u64::from(take(&mut self.program)) << 8 | u64::from(take(&mut self.program))
    }

    fn step(&mut self) {
        let instruction = take(&mut self.program);
        match instruction & 7 {
            0..=4 => {
                let (ahead, len) = (self.word() % WINDOW, self.word() >> (instruction >> 4));
                let behind = if instruction & 8 == 0 { 0 } else { 100 };
                let offset = (self.buf.next() + ahead).saturating_sub(behind);
                let len = len.min((self.position + WINDOW).saturating_sub(offset));
                self.insert(offset, len, instruction & 4 != 0);
            }
            5 | 6 => {
                let max = self.word();
                self.read(max as usize);
            }
            _ => while self.read(usize::MAX) {},
        }
    }

    /// A piece of `len` bytes from `offset` on, or as many as there are before a mark.
    fn insert(&mut self, offset: u64, len: u64, has_mark: bool) {
        let end = (offset..offset + len).find(|at| self.content.is_mark(*at));
        let is_complete = end.is_some() || self.content.is_mark(offset + len);
        let end = end.unwrap_or(offset + len);
        let mut packet: Vec<u8> = (offset..end).map(|at| self.content.byte(at)).collect();
        let mut has_mark = has_mark && is_complete;
        if self.content.is_hostile {
            packet.iter_mut().for_each(|byte| *byte ^= len as u8);
            has_mark = offset.is_multiple_of(3) && end < offset + WINDOW;
        }
        let packet = Bytes::from(packet);
        let (before, arrival) = (
            self.buf.next(),
            Arrival {
                offset,
                data: &packet,
                has_mark,
                packet: &packet,
            },
        );
        let is_more = self.buf.insert(arrival, &mut self.slices);
        assert_eq!(is_more, self.buf.next() > before);
        assert_eq!(
            self.buf.is_blocked(),
            self.buf.next() == self.position,
            "as much is held as was not read"
        );
    }

    /// Reads one piece, or passes a mark. Returns whether there was one.
    fn read(&mut self, max: usize) -> bool {
        if self.buf.is_blocked() {
            return false;
        }
        let room = self.buf.until_mark(self.position);
        if room == 0 {
            assert!(
                self.content.is_hostile || self.content.is_mark(self.position),
                "a mark that nobody sent"
            );
            self.buf.pass_mark();
            self.position += 1;
            return true;
        }
        let bytes = self.buf.read(max.min(room), &mut self.slices);
        assert!(bytes.len() <= max.min(room));
        assert!(!bytes.is_empty() || max == 0, "nothing, although it is not blocked");
        for byte in &bytes {
            let (position, content) = (self.position, &self.content);
            assert!(content.is_hostile || !content.is_mark(position), "a mark was lost");
            assert!(
                content.is_hostile || *byte == content.byte(position),
                "another byte at {position}"
            );
            self.position += 1;
        }
        assert!(self.position <= self.buf.next());
        max > 0
    }

    /// Fills all gaps and reads all: nothing is left.
    fn finish(&mut self, end: u64) {
        while self.buf.next() < end && !self.content.is_hostile {
            let next = self.buf.next();
            self.insert(next, (end - next).min(1000), true);
            while self.read(usize::MAX) {}
        }
        while self.read(usize::MAX) {}
        assert_eq!(self.position, self.buf.next());
        assert!(self.buf.is_blocked());
        self.buf.clear(&mut self.slices);
        assert!(self.buf.is_empty() && self.slices.is_unused());
    }
}
