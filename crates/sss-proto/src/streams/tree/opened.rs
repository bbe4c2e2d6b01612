//! Which streams the peer has opened (STR-10).

use std::collections::BTreeMap;

use sss_wire::Code;
use sss_wire::constants::MAX_OPEN_GAPS;

use crate::error::ProtocolError;

/// A set of ordinals that is nearly an interval: everything below `next` but for the gaps.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    next: u64,
    /// Ordinals left out so far, each interval as start and end.
    gaps: BTreeMap<u64, u64>,
}

impl Opened {
    pub(crate) fn contains(&self, ordinal: u64) -> bool {
        ordinal < self.next && self.gap_around(ordinal).is_none()
    }

    /// Adds an ordinal that the set does not contain.
    ///
    /// # Errors
    /// If the set then has more than MAX_OPEN_GAPS gaps.
    pub(crate) fn insert(&mut self, ordinal: u64) -> Result<(), ProtocolError> {
        if ordinal >= self.next {
            if ordinal > self.next {
                self.gaps.insert(self.next, ordinal);
            }
            self.next = ordinal.saturating_add(1);
        } else if let Some((start, end)) = self.gap_around(ordinal) {
            self.gaps.remove(&start);
            for (start, end) in [(start, ordinal), (ordinal.saturating_add(1), end)] {
                if start < end {
                    self.gaps.insert(start, end);
                }
            }
        }
        if self.gaps.len() > MAX_OPEN_GAPS {
            return Err(ProtocolError::new(Code::LIMIT, "too many gaps in the streams opened"));
        }
        Ok(())
    }

    fn gap_around(&self, ordinal: u64) -> Option<(u64, u64)> {
        let (start, end) = self.gaps.range(..=ordinal).next_back()?;
        (ordinal < *end).then_some((*start, *end))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn agrees_with_a_plain_set() {
        for seed in 0..100 {
            let mut rng = StdRng::seed_from_u64(seed);
            let (mut opened, mut model) = (Opened::default(), BTreeSet::new());
            for _ in 0..100 {
                let ordinal = rng.random_range(0..80);
                assert_eq!(opened.contains(ordinal), model.contains(&ordinal), "seed {seed}");
                if model.insert(ordinal) {
                    opened.insert(ordinal).unwrap();
                }
            }
        }
    }

    // spec: STR-10
    #[test]
    fn threat_28_gaps_are_limited() {
        let mut opened = Opened::default();
        for gap in 0..MAX_OPEN_GAPS as u64 {
            opened.insert(2 * gap + 1).unwrap();
        }
        assert!(!opened.contains(0) && opened.contains(1));
        opened.insert(0).unwrap();
        let far = 3 * MAX_OPEN_GAPS as u64;
        opened.insert(far).unwrap();
        assert_eq!(opened.insert(far + 2).unwrap_err().code, Code::LIMIT);
    }
}
