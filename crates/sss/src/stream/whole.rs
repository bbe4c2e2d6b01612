//! Pieces put together.

use bytes::{BufMut, Bytes, BytesMut};

/// Pieces put together; a single one is not copied.
#[derive(Debug, Default)]
pub(super) struct Whole {
    first: Bytes,
    joined: BytesMut,
}

impl Whole {
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.joined.len()
    }

    pub(super) fn push(&mut self, chunk: Bytes) {
        if self.len() == 0 {
            self.first = chunk;
            return;
        }
        if self.joined.is_empty() {
            self.joined.reserve(self.first.len() + chunk.len());
            self.joined.put_slice(&std::mem::take(&mut self.first));
        }
        self.joined.put_slice(&chunk);
    }

    /// Takes at most `max` bytes from the front.
    pub(super) fn split_to(&mut self, max: usize) -> Bytes {
        let n = max.min(self.len());
        if self.joined.is_empty() {
            self.first.split_to(n)
        } else {
            self.joined.split_to(n).freeze()
        }
    }

    /// Everything; nothing is left.
    pub(super) fn take(&mut self) -> Bytes {
        let whole = std::mem::take(self);
        if whole.joined.is_empty() {
            whole.first
        } else {
            whole.joined.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_piece_is_not_copied_and_several_are_joined() {
        let piece = Bytes::from(vec![1, 2, 3]);
        let mut whole = Whole::default();
        assert_eq!(Whole::default().take(), Bytes::new());
        whole.push(piece.clone());
        assert_eq!(whole.take().as_ptr(), piece.as_ptr());

        let mut whole = Whole::default();
        for part in [&b"ab"[..], b"c", b"", b"def"] {
            whole.push(Bytes::from_static(part));
        }
        assert_eq!(whole.len(), 6);
        assert_eq!(&whole.take()[..], b"abcdef");
        assert_eq!(whole.len(), 0);
    }

    #[test]
    fn bytes_are_taken_from_the_front() {
        let mut whole = Whole::default();
        whole.push(Bytes::from_static(b"abc"));
        assert_eq!(&whole.split_to(2)[..], b"ab");
        whole.push(Bytes::from_static(b"de"));
        assert_eq!(&whole.split_to(1)[..], b"c");
        assert_eq!(&whole.split_to(9)[..], b"de");
        assert_eq!(&whole.split_to(9)[..], b"");
        whole.push(Bytes::from_static(b"f"));
        assert_eq!(&whole.take()[..], b"f");
    }
}
