//! Counters of fixed size for things of which there may be any number.

/// Rows of a sketch: whoever wants to be taken for somebody else has to meet him in each.
const ROWS: usize = 4;

/// Count-min sketch (Cormode and Muthukrishnan, "An improved data stream summary", 2005) with conservative update
/// (Estan and Varghese, "New directions in traffic measurement and accounting", 2002): counts things by their hash, in
/// memory that does not grow. A count may be too high, if others met the thing in every row, and is never too low.
/// Takes memory from the first count on.
#[derive(Debug)]
pub(crate) struct Sketch {
    width: usize,
    counters: Vec<u8>,
}

impl Sketch {
    /// Nothing counted. Takes `4 * width` bytes; `width` is a power of two, and 65,536 at most.
    pub(crate) const fn new(width: usize) -> Self {
        debug_assert!(
            width.is_power_of_two() && width <= 1 << 16,
            "16 bits of the hash for each row"
        );
        Self {
            width,
            counters: Vec::new(),
        }
    }

    fn places(&self, hash: u64) -> [usize; ROWS] {
        let [a, b, c, d, e, f, g, h] = hash.to_be_bytes();
        let columns = [[a, b], [c, d], [e, f], [g, h]].map(|bytes| usize::from(u16::from_be_bytes(bytes)));
        let mut row = 0;
        columns.map(|column| {
            let place = row + column % self.width;
            row += self.width;
            place
        })
    }

    /// Returns how often the thing with this hash was counted, up to 255; perhaps too much.
    pub(crate) fn count(&self, hash: u64) -> u8 {
        let places = self.places(hash).map(|at| self.counters.get(at).copied().unwrap_or(0));
        places.into_iter().min().unwrap_or(0)
    }

    /// Counts it.
    pub(crate) fn add(&mut self, hash: u64) {
        self.counters.resize(ROWS * self.width, 0);
        let count = self.count(hash).saturating_add(1);
        for at in self.places(hash) {
            if let Some(counter) = self.counters.get_mut(at) {
                *counter = count.max(*counter);
            }
        }
    }

    /// Forgets everything, but not the memory.
    pub(crate) fn clear(&mut self) {
        self.counters.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use foldhash::quality::FixedState;

    use super::*;

    #[test]
    fn counts_are_never_too_low_and_seldom_too_high() {
        let mut sketch = Sketch::new(4096);
        let hash = |n: u32| FixedState::with_seed(3).hash_one(n);
        assert_eq!(sketch.count(hash(1)), 0);
        for n in 0..2000 {
            (0..5).for_each(|_| sketch.add(hash(n)));
        }
        assert!((0..2000).all(|n| sketch.count(hash(n)) >= 5));
        let strangers = (2000..12_000).filter(|n| sketch.count(hash(*n)) > 0).count();
        assert!(strangers < 500, "{strangers} of 10,000 are taken for somebody else");
        (0..1000).for_each(|_| sketch.add(hash(7)));
        assert_eq!(sketch.count(hash(7)), u8::MAX);
        assert_eq!(sketch.counters.len(), 4 * 4096);
        sketch.clear();
        assert!((0..2000).all(|n| sketch.count(hash(n)) == 0));
    }
}
