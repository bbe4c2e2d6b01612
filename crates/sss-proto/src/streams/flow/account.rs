//! Credit of a stream: for its own data (STR-17 to STR-20), and for what is opened below it (STR-52).

use super::backing::Backing;
use super::gauge::Tuning;
use super::lending::Lending;

/// Relations of a stream's credit to others. A stream that never had children, and whose window is that of a new
/// stream, has none.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Charges of this host to it for openings.
    pub(crate) lent: Lending,
    /// Charges of the peer to it for openings.
    pub(crate) backing: Backing,
    /// Part of the borrow that its lender has not got back yet.
    pub(crate) owed: u32,
    /// Children that are not retired.
    pub(crate) children: u32,
    /// Those of them that this host has opened and the peer is not known to know.
    pub(crate) unknown: u32,
    /// The window, once it is not that of a new stream.
    pub(crate) tuning: Option<Box<Tuning>>,
}

impl Account {
    pub(crate) fn set_tuning(&mut self, tuning: Tuning) {
        match &mut self.tuning {
            Some(present) => **present = tuning,
            none => *none = Some(Box::new(tuning)),
        }
    }
}
