//! What each stream has of credit: for its own data (STR-17 to STR-20), and for what is opened below it (STR-52).

use super::backing::Backing;
use super::gauge::Tuning;
use super::lending::Lending;

/// What a stream's credit has to do with others. A stream that never had children, and whose window is that of a new
/// stream, has none.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// What this host has charged to it for openings.
    pub(crate) lent: Lending,
    /// What the peer has.
    pub(crate) backing: Backing,
    /// What of the borrow its lender has not got back yet.
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
