//! Fates of frames.

use crate::token::Token;

/// Fate of a frame: acknowledged or lost.
///
/// A token comes once as acknowledged, or once as lost and then perhaps as acknowledged after all: when a probe timeout
/// repeats a packet that was only late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) token: Token,
    pub(crate) acked: bool,
}
