//! The one error of parsing.

use thiserror::Error;

/// Bytes that are not what the specification says, and what is wrong with them.
///
/// The text is for people and for logs; it never holds bytes of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub &'static str);

/// The input ends before the field does.
pub(crate) const TRUNCATED: Malformed = Malformed("truncated");
