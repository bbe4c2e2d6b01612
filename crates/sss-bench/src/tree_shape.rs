//! The shapes of trees of very many streams.

use std::fmt;

use clap::ValueEnum;

/// Streams below one another. With the two above them, or with the one above and the one below, they reach down to the
/// last of the 32 levels of the protocol.
pub(crate) const CHAIN: usize = 30;

/// Shape of the tree: where the streams are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// all children of one stream
    Flat,
    /// in turn children of each stream of a chain that reaches down to the last level but one
    Comb,
    /// chains from the top-level stream down to the last level: each stream has one child
    Chains,
}

impl Shape {
    /// Name on the command line and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Comb => "comb",
            Self::Chains => "chains",
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flat => write!(f, "all children of one stream"),
            Self::Comb => write!(
                f,
                "children of the {CHAIN} streams of a chain, down to level {}",
                CHAIN + 2
            ),
            Self::Chains => write!(f, "in chains of {CHAIN}, down to level {}", CHAIN + 2),
        }
    }
}
