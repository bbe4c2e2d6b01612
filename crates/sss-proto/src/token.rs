//! Contents of a packet, remembered until it is acknowledged or lost.

use std::ops::Range;

use crate::ids::StreamKey;

/// One frame of a sent packet that somebody wants to hear about again.
///
/// Kept small: there is one per frame in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// An acknowledgement that named nothing above `largest`.
    Ack { largest: u64 },
    /// A STREAM frame.
    Stream {
        key: StreamKey,
        offset: u64,
        /// Length of the data, and the flags of [`StreamFlags`].
        len: u32,
        flags: StreamFlags,
    },
    /// RESET of a stream.
    Reset(StreamKey),
    /// RESET of a stream and all that is below it.
    TreeReset(StreamKey),
    /// STOP of a stream.
    Stop(StreamKey),
    /// WATCH or AWAIT of a stream.
    Question { topic: Topic, key: StreamKey },
    /// CONSUMED or RELEASED of a stream, which may be retired.
    Answer { topic: Topic, lsid: u64 },
    /// CREDIT of a stream, and the limit it named.
    Credit { key: StreamKey, limit: u64 },
    /// OPEN_CREDIT of a stream, the limit it named, and the low 32 bits of what it said of datagrams.
    OpenCredit { key: StreamKey, limit: u64, taken: u32 },
    /// PRIORITY of a stream, and its serial.
    Priority { key: StreamKey, serial: u64 },
    /// A refusal (RESET and STOP) of a stream that was never kept.
    Refusal { lsid: u64 },
    /// A datagram without state whose fate was asked for.
    Datagram(u64),
    /// A datagram without state on a stream.
    Stateless(StreamKey),
    /// A path MTU probe.
    MtuProbe { size: u16 },
}

impl Token {
    /// The positions that a STREAM frame carried; of others, none.
    pub(crate) fn range(self) -> Range<u64> {
        match self {
            Self::Stream { offset, len, .. } => offset..offset + u64::from(len),
            _ => 0..0,
        }
    }
}

/// Question that a host asks the other about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// The question whether a direction was read to its end: WATCH and CONSUMED.
    Consumed,
    /// The question whether no more can be opened or sent on it: AWAIT and RELEASED.
    Released,
}

/// Which of FIN and INIT a STREAM frame carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamFlags(u8);

impl StreamFlags {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const FIN: Self = Self(1);
    pub(crate) const INIT: Self = Self(2);

    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}
