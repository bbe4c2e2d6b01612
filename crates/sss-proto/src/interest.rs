//! Everything that an application may wait for of a stream: one vocabulary, from the streams to whoever drives the
//! host.

/// Something of a stream for which an application waits.
///
/// An operation that cannot go on yet notes its interest. [`Event::Ready`](crate::Event::Ready) tells once when there
/// is a reason to try it again: also when it never will succeed, so that the operation can say why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Interest {
    /// To read, or to learn that there is nothing more.
    Read,
    /// To write.
    Write,
    /// To accept a substream, or to learn that none will come any more.
    Accept,
    /// For everything sent on the stream to be acknowledged, its end included.
    Drained,
    /// For everything written so far to be sent at least once.
    Sent,
    /// For everything written so far to be acknowledged.
    Acknowledged,
    /// For the peer's application to have read everything that was sent on the stream, its end included.
    Consumed,
    /// To take a datagram, or to learn that none will come any more.
    RecvDatagram,
    /// To send a datagram.
    SendDatagram,
}

impl Interest {
    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::Read,
        Self::Write,
        Self::Accept,
        Self::Drained,
        Self::Consumed,
        Self::Sent,
        Self::Acknowledged,
        Self::RecvDatagram,
        Self::SendDatagram,
    ];
}
