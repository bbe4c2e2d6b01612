//! Treatment of children that the peer opens, until the application accepts them (STR-41).

/// Treatment of substreams that the peer opens of a stream, until the application accepts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ListenMode {
    /// They are refused.
    Reject,
    /// They wait, as long as they and what the peer sent on them is no more than so many bytes, each counting 512 bytes
    /// beside its data; those beyond are refused.
    Limit(u64),
    /// They wait, bounded only by the credit that the peer has.
    Unlimited,
    /// As for the stream's parent; for a top-level stream, as [`Self::Unlimited`].
    #[default]
    Inherit,
}

/// Relations of a stream to its unaccepted children.
#[derive(Debug, Default)]
pub(crate) struct Listen {
    pub(crate) mode: ListenMode,
    /// The sum of what the unaccepted children cost the stream with, in bytes.
    pub(crate) backlog_cost: u64,
}

impl Listen {
    /// Returns whether it says what happens to children.
    pub(crate) fn has_mode(&self) -> bool {
        self.mode != ListenMode::Inherit
    }

    /// Returns whether nothing of it differs from what a stream begins with.
    pub(crate) fn is_unused(&self) -> bool {
        !self.has_mode() && self.backlog_cost == 0
    }
}
