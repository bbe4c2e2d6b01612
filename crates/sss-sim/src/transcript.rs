//! Record of what happened in a world, as a running hash and, if asked for, as text.

use std::fmt;

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The record of a run: every datagram sent and delivered, every event, every operation of an application.
///
/// The hashes (FNV-1a, 64 bits) are always kept; the text only if the transcript was made with it.
#[derive(Clone, Debug)]
pub struct Transcript {
    hash: u64,
    datagrams: u64,
    entries: u64,
    text: Option<String>,
    line: String,
}

impl Transcript {
    /// An empty transcript, that keeps its text if `with_text`.
    pub fn new(with_text: bool) -> Self {
        Self {
            hash: FNV_OFFSET,
            datagrams: FNV_OFFSET,
            entries: 0,
            text: with_text.then(String::new),
            line: String::new(),
        }
    }

    /// The hash of everything recorded so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The hash of the datagrams recorded so far: the time of each at which it was sent or delivered, its addresses and
    /// its bytes.
    ///
    /// It stays the same when an operation of the core is called in another way, or tells its result in other words.
    pub fn datagram_hash(&self) -> u64 {
        self.datagrams
    }

    /// Returns the number of entries recorded.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The text, one line an entry; empty if it was not asked for.
    pub fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    /// Records an entry at `now` nanoseconds.
    pub(crate) fn note(&mut self, now: u64, entry: fmt::Arguments<'_>) {
        let line = self.write(entry);
        self.record(now, line);
    }

    /// Records that a datagram was sent or delivered, which the text shows by its first byte, length and hash.
    pub(crate) fn note_datagram(&mut self, now: u64, entry: fmt::Arguments<'_>, bytes: &[u8]) {
        let hash = fnv(FNV_OFFSET, bytes);
        let first = bytes.first().copied().unwrap_or_default();
        let line = self.write(format_args!("{entry} {first:02x} {} bytes {hash:016x}", bytes.len()));
        self.datagrams = fnv(self.datagrams, &now.to_le_bytes());
        self.datagrams = fnv(self.datagrams, line.as_bytes());
        self.record(now, line);
    }

    /// The line of an entry, in the buffer that all lines use.
    fn write(&mut self, entry: fmt::Arguments<'_>) -> String {
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        // Writing to a String cannot fail.
        let _ = fmt::write(&mut line, entry);
        line
    }

    fn record(&mut self, now: u64, line: String) {
        self.entries += 1;
        self.absorb(&now.to_le_bytes());
        self.absorb(line.as_bytes());
        if let Some(text) = &mut self.text {
            let (seconds, micros) = (now / 1_000_000_000, now / 1000 % 1_000_000);
            let _ = fmt::write(text, format_args!("{seconds:>4}.{micros:06} {line}\n"));
        }
        self.line = line;
    }

    fn absorb(&mut self, bytes: &[u8]) {
        self.hash = fnv(self.hash, bytes);
    }
}

/// FNV-1a over words of 8 bytes, then the rest by bytes: as sensitive to order and position, and faster.
fn fnv(mut hash: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(FNV_PRIME);
        hash ^= hash >> 32;
    }
    for byte in rest {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
    }
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_depends_on_time_order_and_every_byte() {
        let run = |entries: &[(u64, &str)]| {
            let mut t = Transcript::new(true);
            for (at, entry) in entries {
                t.note_datagram(*at, format_args!("x"), entry.as_bytes());
            }
            t.hash()
        };
        let base = run(&[(1, "0123456789a"), (2, "b")]);
        assert_eq!(base, run(&[(1, "0123456789a"), (2, "b")]));
        assert_ne!(base, run(&[(2, "b"), (1, "0123456789a")]));
        assert_ne!(base, run(&[(1, "0123456789a"), (3, "b")]));
        assert_ne!(base, run(&[(1, "0123456788a"), (2, "b")]));
        assert_ne!(base, run(&[(1, "1123456789a"), (2, "b")]));
    }

    #[test]
    fn datagrams_have_a_hash_of_their_own() {
        let run = |notes: &[&str], datagrams: &[(u64, &str)]| {
            let mut t = Transcript::new(false);
            for (at, bytes) in datagrams {
                notes.iter().for_each(|note| t.note(*at, format_args!("{note}")));
                t.note_datagram(*at, format_args!("h0 ->"), bytes.as_bytes());
            }
            (t.datagram_hash(), t.hash())
        };
        let base = run(&["read"], &[(1, "0123456789a"), (2, "b")]);
        let told = run(&["read -> 1"], &[(1, "0123456789a"), (2, "b")]);
        assert_eq!(base.0, told.0, "what is not a datagram does not count");
        assert_ne!(base.1, told.1);
        for other in [[(1, "0123456788a"), (2, "b")], [(1, "0123456789a"), (3, "b")]] {
            assert_ne!(base.0, run(&["read"], &other).0);
        }
    }

    #[test]
    fn text_has_one_line_an_entry() {
        let mut t = Transcript::new(true);
        t.note(1_000_002_000, format_args!("hello"));
        assert_eq!(t.text(), "   1.000002 hello\n");
        assert_eq!(t.entries(), 1);
    }
}
