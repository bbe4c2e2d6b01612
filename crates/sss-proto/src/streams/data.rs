//! The bytes of streams, on their way out and in. Knows no tree.

#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
pub(super) mod half;
pub(super) mod marks;
pub(super) mod pool;
pub(super) mod ranges;
pub(super) mod reassembly;
pub(super) mod recv_buf;
pub(super) mod send_buf;

use bytes::Bytes;

/// Result of reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The next bytes; not empty unless none were asked for.
    Chunk(Bytes),
    /// A record mark: what was read before and this belongs to one record. It is given once, and passed by that.
    Mark,
    /// The peer finished, and everything was read.
    End,
}
