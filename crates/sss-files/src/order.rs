//! The order of a listing (FIL-6), as whoever receives it checks it: so a server cannot list the same again and again.

use crate::path::RelPath;
use crate::protocol::{Entry, Kind, Stop};

/// Position in a listing: tells the entries that may come next from those that may not.
#[derive(Debug, Default)]
pub struct Order {
    last: RelPath,
    /// Set if what was last is a directory.
    is_directory: bool,
    /// Statuses of which the directory that was last has been told.
    told: u64,
    has_begun: bool,
}

impl Order {
    /// Takes the next entry.
    ///
    /// # Errors
    /// If it cannot come here.
    pub fn check(&mut self, entry: &Entry) -> Result<(), Stop> {
        if self.is_right(entry) {
            return Ok(());
        }
        Err(Stop::Malformed("a listing that is out of order"))
    }

    fn is_right(&mut self, entry: &Entry) -> bool {
        if !self.has_begun {
            self.has_begun = true;
            self.is_directory = matches!(entry.kind, Kind::Directory(_));
            return entry.path.is_root();
        }
        if entry.path == self.last {
            return self.is_told(&entry.kind);
        }
        if !self.is_behind(&entry.path) {
            return false;
        }
        self.last = entry.path.clone();
        self.is_directory = matches!(entry.kind, Kind::Directory(_));
        self.told = 0;
        true
    }

    /// Behind the entry of a directory, and before all that is in it, comes once each what is to be said of it.
    fn is_told(&mut self, kind: &Kind) -> bool {
        let Kind::Unreadable(refusal) = kind else {
            return false;
        };
        let bit = 1_u64.checked_shl(refusal.status as u32).unwrap_or(0);
        let is_new = self.is_directory && self.told & bit == 0;
        self.told |= bit;
        is_new
    }

    /// In the directory that was last, or behind what was last in a directory above it.
    fn is_behind(&self, path: &RelPath) -> bool {
        let Some((above, name)) = path.split() else {
            return false;
        };
        let last = self.last.as_bytes();
        if above == last {
            return self.is_directory;
        }
        let below = if above.is_empty() {
            Some(last)
        } else {
            last.strip_prefix(above).and_then(|rest| rest.strip_prefix(b"/"))
        };
        let before = below.and_then(|below| below.split(|b| *b == b'/').next());
        before.is_some_and(|before| before < name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Attributes, Refusal, Status};

    fn entry(text: &str) -> Entry {
        let (kind, path) = text.split_at(1);
        let attributes = Attributes::default();
        let kind = match kind {
            "f" => Kind::File(attributes),
            "d" => Kind::Directory(attributes),
            "l" => Kind::Link(attributes, b"x".to_vec()),
            "u" => Kind::Unreadable(Refusal::new(Status::Denied, "")),
            "b" => Kind::Unreadable(Refusal::new(Status::BadPath, "")),
            other => panic!("{other}"),
        };
        Entry {
            path: RelPath::parse(path.as_bytes()).unwrap(),
            kind,
        }
    }

    fn taken(listing: &[&str]) -> usize {
        let mut order = Order::default();
        listing
            .iter()
            .take_while(|text| order.check(&entry(text)).is_ok())
            .count()
    }

    // spec: FIL-6
    #[test]
    fn what_is_in_order_is_taken() {
        for listing in [
            &["f"][..],
            &["d", "da", "ua", "ba", "fa/b", "fa-", "fb", "ub-", "dc", "uc", "le"],
            &["d", "u", "b", "da", "da/b", "da/b/c", "fa/b/d", "fa/c", "fa0"],
        ] {
            assert_eq!(taken(listing), listing.len(), "{listing:?}");
        }
    }

    // spec: FIL-6
    #[test]
    fn what_is_out_of_order_or_repeated_is_not() {
        for listing in [
            &["fa"][..],
            &["d", "d"],
            &["d", "fb", "fa"],
            &["d", "fa", "fa"],
            &["d", "da", "da"],
            &["d", "fa", "fa/b"],
            &["d", "la", "fa/b"],
            &["d", "fa/b"],
            &["d", "da", "fa/b", "fa/b/c"],
            &["d", "da", "fa/b", "fb", "fa/c"],
            &["d", "da", "fa/b", "ua"],
            &["d", "u", "u"],
            &["d", "da", "ua", "ua"],
            &["f", "fa"],
            &["f", "u"],
        ] {
            assert_eq!(taken(listing), listing.len() - 1, "{listing:?}");
        }
    }
}
