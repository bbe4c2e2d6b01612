//! Bytes of each direction of a stream.

use super::recv_buf::RecvBuf;
use super::send_buf::SendBuf;

/// The number of bytes of a stream that may be written and not yet sent. What was sent and not yet acknowledged is
/// bounded by the peer's credit and by congestion control.
pub(crate) const SEND_AHEAD: u64 = 512 << 10;

/// The sending direction.
#[derive(Debug)]
pub(crate) struct SendHalf {
    /// Highest offset sent.
    pub(crate) sent: u64,
    /// Offset up to which the peer allows to send.
    pub(crate) limit: u64,
    /// Only while there is something to be sent or acknowledged.
    pub(crate) buf: Option<Box<SendBuf>>,
}

impl SendHalf {
    /// Offset behind the last byte written.
    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.buf.as_ref().map_or(self.sent, |b| b.end())
    }

    /// Returns how many bytes more may be written now.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        let room = SEND_AHEAD.saturating_sub(self.unsent());
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// Returns what is left of the limit that the peer granted.
    #[inline]
    pub(crate) fn credit(&self) -> u64 {
        self.limit.saturating_sub(self.sent)
    }

    /// Bytes written and never sent.
    #[inline]
    pub(crate) fn unsent(&self) -> u64 {
        self.end() - self.sent
    }

    /// Bytes written and not acknowledged.
    #[inline]
    pub(crate) fn unacked(&self) -> u64 {
        self.buf.as_ref().map_or(0, |b| b.len())
    }

    /// Offset up to which everything is acknowledged.
    #[inline]
    pub(crate) fn acked(&self) -> u64 {
        self.buf.as_ref().map_or(self.sent, |b| b.acked())
    }

    #[inline]
    pub(crate) fn is_acked(&self) -> bool {
        self.buf.as_ref().is_none_or(|b| b.is_acked())
    }
}

/// The receiving direction.
#[derive(Debug)]
pub(crate) struct RecvHalf {
    /// Highest offset received; the final size once it is known.
    pub(crate) received: u64,
    /// Offset up to which bytes were read or discarded.
    pub(crate) read: u64,
    /// Offset up to which the peer was allowed to send.
    pub(crate) limit: u64,
    /// Only while there is something to be read or missing.
    pub(crate) buf: Option<Box<RecvBuf>>,
}

impl RecvHalf {
    /// Bytes received, or skipped by a RESET, and not read.
    #[inline]
    pub(crate) fn unread(&self) -> u64 {
        self.received - self.read
    }

    /// The first byte that is missing.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        self.buf.as_ref().map_or(self.read, |b| b.next())
    }
}
