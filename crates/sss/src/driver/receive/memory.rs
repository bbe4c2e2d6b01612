//! Memory that what is received goes into: buffers, and slabs that small batches share. Both are used again once nobody
//! holds a slice of them.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Size of a buffer: the largest that a datagram or a GRO batch can be.
pub(crate) const BUFFER: usize = 65_536;
/// Size of a slab.
const SLAB: usize = 65_536;
/// Slabs kept for use again.
const MAX_SLABS: usize = 64;
/// Slabs that are looked at for one that can be used again.
const SLAB_TRIES: usize = 4;

/// Both kinds.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) buffers: Buffers,
    pub(super) slabs: Slabs,
}

/// Whole buffers, to be used again.
#[derive(Default)]
pub(super) struct Buffers {
    free: Vec<BytesMut>,
    /// Of which slices are out, the oldest first.
    lent: VecDeque<Bytes>,
}

impl Buffers {
    /// A buffer of full length.
    pub(super) fn take(&mut self) -> BytesMut {
        let mut buffer = self.free.pop().or_else(|| self.reclaim()).unwrap_or_default();
        buffer.resize(BUFFER, 0);
        buffer
    }

    fn reclaim(&mut self) -> Option<BytesMut> {
        for _ in 0..self.lent.len().min(SLAB_TRIES) {
            match self.lent.pop_front()?.try_into_mut() {
                Ok(buffer) if buffer.capacity() >= BUFFER => return Some(buffer),
                Ok(_) => {}
                Err(shared) => self.lent.push_back(shared),
            }
        }
        None
    }

    /// Takes back what the core has left of a buffer.
    pub(super) fn give_back(&mut self, data: BytesMut, lent: Option<Bytes>) {
        if data.capacity() >= BUFFER && self.free.len() < MAX_SLABS {
            self.free.push(data);
        }
        if let Some(lent) = lent {
            self.lent.push_back(lent);
            if self.lent.len() > MAX_SLABS {
                self.lent.pop_front();
            }
        }
    }
}

/// Buffers that small batches share.
#[derive(Default)]
pub(super) struct Slabs {
    current: BytesMut,
    /// Full ones, the oldest first.
    lent: VecDeque<BytesMut>,
}

impl Slabs {
    pub(super) fn copy(&mut self, bytes: &[u8]) -> BytesMut {
        if self.current.capacity() < bytes.len() {
            self.advance(bytes.len());
        }
        self.current.extend_from_slice(bytes);
        self.current.split()
    }

    /// Replaces the current slab by one with room for `needed` bytes.
    fn advance(&mut self, needed: usize) {
        if self.current.try_reclaim(needed) {
            return;
        }
        let full = std::mem::take(&mut self.current);
        for _ in 0..self.lent.len().min(SLAB_TRIES) {
            let Some(mut slab) = self.lent.pop_front() else {
                break;
            };
            if slab.try_reclaim(SLAB) {
                self.current = slab;
                break;
            }
            self.lent.push_back(slab);
        }
        if self.current.capacity() < needed {
            self.current = BytesMut::with_capacity(SLAB.max(needed));
        }
        self.lent.push_back(full);
        if self.lent.len() > MAX_SLABS {
            self.lent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_are_shared_by_small_batches_and_used_again() {
        let mut slabs = Slabs::default();
        let first = slabs.copy(b"one");
        let second = slabs.copy(b"two");
        assert_eq!((&first[..], &second[..]), (&b"one"[..], &b"two"[..]));
        let address = first.as_ptr();
        drop((first, second));
        let whole = slabs.copy(&[7; SLAB]);
        assert_eq!(whole.as_ptr(), address, "the slab was reclaimed");
        let held = slabs.copy(&[8; SLAB]);
        assert_ne!(held.as_ptr(), address);
        drop(whole);
        assert_eq!(slabs.copy(&[9; SLAB]).as_ptr(), address, "found among the lent ones");
        assert!(held.iter().all(|b| *b == 8), "what is held is never written over");
    }

    #[test]
    fn buffers_come_back_when_their_slices_are_gone() {
        let mut buffers = Buffers::default();
        let whole = buffers.take();
        assert_eq!(whole.len(), BUFFER);
        let address = whole.as_ptr();
        let shared = whole.freeze();
        let slice = shared.slice(100..200);
        buffers.give_back(BytesMut::new(), Some(shared));
        assert_ne!(buffers.take().as_ptr(), address, "a slice of it is out");
        drop(slice);
        let again = buffers.take();
        assert_eq!((again.as_ptr(), again.len()), (address, BUFFER));
    }

    #[test]
    fn memory_is_bounded_when_everything_is_held() {
        let mut slabs = Slabs::default();
        let held: Vec<BytesMut> = (0..2 * MAX_SLABS).map(|_| slabs.copy(&[1; SLAB])).collect();
        assert!(slabs.lent.len() <= MAX_SLABS);
        assert!(held.iter().all(|b| b.len() == SLAB));
    }
}
