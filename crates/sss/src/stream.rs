//! Streams as an application holds them.

mod close;
mod datagram;
mod read;
mod records;
mod split;
mod stream_ref;
mod whole;
mod write;

use std::fmt;
use std::sync::Arc;

use sss_proto::{CloseReason, ListenMode, OpenError, StreamId, StreamInfo, SubtreeInfo};
use sss_wire::Eid;

use crate::driver::wakers::Key;
use crate::error::StreamCloseError;
use crate::peer::Peer;
use crate::shared::Handle;
use crate::waiting::Answer;
use datagram::{datagram_receiving_methods, datagram_sending_methods};
use read::{Receiving, receiving_methods};
use records::{record_reading_methods, record_writing_methods};
use stream_ref::StreamRef;
use write::{Sending, sending_methods};

pub use datagram::{Receipt, SendDatagram, SendDatagrams, SendTracked};
pub use records::{RecordReader, RecordWriter};
pub use split::{RecvHalf, SendHalf};

/// Methods of every handle of a stream: its place in the tree.
macro_rules! tree_methods {
    ($handle:ty) => {
        impl $handle {
            /// The name of the stream on this host, as in [`Peer::tree`].
            pub fn id(&self) -> StreamId {
                self.stream_ref().id()
            }

            /// Returns what is known about the stream, and what it waits for, if it does not go on. `None` once nothing
            /// is left of it.
            pub fn info(&self) -> Option<StreamInfo> {
                self.stream_ref().info()
            }

            /// Sums over the stream and all streams below it. `None` once nothing is left of it.
            ///
            /// Takes time in proportion to the number of streams below.
            pub fn subtree_info(&self) -> Option<SubtreeInfo> {
                self.stream_ref().subtree_info()
            }

            /// The peer at the other end.
            pub fn peer(&self) -> Peer {
                self.stream_ref().peer()
            }

            /// Returns whether the peer can be reached. While it cannot, the stream waits.
            pub fn link_status(&self) -> sss_proto::LinkStatus {
                self.stream_ref().peer().link_status()
            }

            /// An address at which the peer may be found, for when it does not answer where it was: see
            /// [`Peer::add_hint`].
            pub fn add_hint(&self, address: std::net::SocketAddr) {
                self.stream_ref().peer().add_hint(address);
            }

            /// Waits until the streams shared with the peer have ended, whatever this one does, and says why: the peer
            /// or this host closed them, the peer was restarted, or it could not be reached for too long
            /// ([`HostBuilder::linger`](crate::HostBuilder::linger)). A peer that cannot be reached for a while is not
            /// gone: see [`Peer::link`].
            ///
            /// The future does not borrow the stream, and keeps neither the stream nor the host. Cancel safe; any
            /// number of tasks may wait. It costs no packet.
            pub fn peer_gone(&self) -> impl Future<Output = CloseReason> + Send + use<> {
                self.stream_ref().peer_gone()
            }

            /// The public name of the peer.
            pub fn peer_eid(&self) -> Eid {
                self.stream_ref().eid()
            }

            /// A span of [`tracing`] for what is done with the stream: `stream`, at level info, with the fields `peer`
            /// (a [`HostTag`](crate::HostTag)), `id`, and, of a top-level stream, `service` and `protocol`. It is
            /// made only if somebody listens, and costs next to nothing otherwise.
            pub fn span(&self) -> tracing::Span {
                self.stream_ref().span()
            }

            /// Opens a child of the stream. Takes no round trip, and the peer hears of the child even if nothing is
            /// written to it.
            ///
            /// # Errors
            /// If the tree of streams ended, the peer has let go of this stream, or the tree would be too deep.
            pub fn open_substream(&self) -> Result<Stream, OpenError> {
                self.stream_ref().open_substream().map(Stream::from_ref)
            }

            /// Says what happens to children that the peer opens of the stream until they are accepted. By default it
            /// is what holds for the parent ([`ListenMode::Inherit`]), and at the top, that they wait as long as
            /// the peer has credit for them. Children that wait already are refused by [`ListenMode::Reject`], and
            /// stay otherwise.
            ///
            /// The opener of a refused child meets [`ReadError::Refused`](crate::ReadError::Refused) and
            /// [`WriteError::Refused`](crate::WriteError::Refused).
            pub fn set_listen_mode(&self, mode: ListenMode) {
                self.stream_ref().set_listen_mode(mode);
            }

            /// Limits what the peer may send, unread, on the stream and all streams below it, in bytes beyond what each
            /// has anyway: 4 KiB, and what it brought along before it was accepted. With `None`, the default,
            /// only the budgets of the peer and of the host limit it ([`WindowConfig`](crate::WindowConfig)). What was
            /// granted before stays granted.
            ///
            /// A subtree that has used up its budget goes on slowly; its siblings do not notice.
            pub fn set_budget(&self, bytes: Option<u64>) {
                self.stream_ref()
                    .call(|inner, _| inner.core.stream(self.id()).set_budget(bytes));
            }

            /// The next child of the stream that the peer has opened. Several tasks may accept at once.
            ///
            /// `None` once the peer can open no more: its application has let go of the stream, or refused it, and
            /// every child that it had opened was given. The end of the peer's bytes does not mean that. To learn
            /// of it the peer is asked, once, when this has to wait for the first time. So this loop ends, and lets
            /// go of the session, when the client does:
            ///
            /// ```no_run
            /// # async fn f(session: sss::Stream, answer: fn(sss::Stream)) -> Result<(), sss::CloseReason> {
            /// while let Some(request) = session.accept_substream().await? {
            ///     answer(request);
            /// }
            /// # Ok(()) }
            /// ```
            ///
            /// If both sides do nothing but accept on one stream, neither lets go, and both wait: one of them has to
            /// drop it first.
            ///
            /// Cancel safe: no child is lost.
            ///
            /// # Errors
            /// If the tree of streams ended, or the stream was reset with all below it.
            pub async fn accept_substream(&self) -> Result<Option<Stream>, CloseReason> {
                Ok(self.stream_ref().accept_substream().await?.map(Stream::from_ref))
            }

            /// As [`Self::accept_substream`], without waiting.
            ///
            /// # Errors
            /// [`TryError::Empty`](crate::TryError::Empty) if no child is there yet, and more may come; else as
            /// [`Self::accept_substream`].
            pub fn try_accept_substream(&self) -> Result<Option<Stream>, crate::TryError<CloseReason>> {
                Ok(self.stream_ref().try_accept_substream()?.map(Stream::from_ref))
            }
        }

        impl fmt::Debug for $handle {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($handle))
                    .field("id", &self.id())
                    .field("peer", &self.peer_eid())
                    .finish_non_exhaustive()
            }
        }
    };
}
use tree_methods;

/// A pair of byte sequences, one each way, in the tree that this host shares with a peer.
///
/// Bytes arrive in order, once and unchanged. Each direction ends on its own: well by [`Self::finish`], or with a code
/// by [`Self::reset`] (the sender's word) and [`Self::stop`] (the receiver's wish).
///
/// Either side opens substreams of it, which are independent of it and of each other: none waits for another's
/// data, and a child may outlive its parent.
///
/// Dropping a stream resets the sending side unless it was finished, and stops the receiving side
/// unless it was read to its end.
pub struct Stream {
    stream_ref: StreamRef,
    receiving: Receiving,
    sending: Sending,
}

impl Stream {
    pub(crate) fn new(handle: Arc<Handle>, id: StreamId) -> Self {
        Self::from_ref(StreamRef::new(handle, id))
    }

    fn from_ref(stream_ref: StreamRef) -> Self {
        Self {
            stream_ref,
            receiving: Receiving::default(),
            sending: Sending::default(),
        }
    }

    /// Ends when nobody holds the stream, or a half of it, any more.
    pub(crate) fn released(&self) -> Answer<()> {
        let key = Key::Released(self.stream_ref.id());
        self.stream_ref
            .call(|inner, _| Answer::over(self.stream_ref.shared(), inner, key))
    }

    fn receiving(&mut self) -> (&StreamRef, &mut Receiving) {
        (&self.stream_ref, &mut self.receiving)
    }

    fn sending(&mut self) -> (&StreamRef, &mut Sending) {
        (&self.stream_ref, &mut self.sending)
    }

    fn stream_ref(&self) -> &StreamRef {
        &self.stream_ref
    }

    /// Two halves that can be used by two tasks at once.
    ///
    /// Dropping the sending half resets that direction unless it was finished, and dropping the receiving half stops
    /// that direction unless it was read to its end.
    pub fn split(self) -> (SendHalf, RecvHalf) {
        let stream = Arc::new(self.stream_ref);
        let send = SendHalf::new(Arc::clone(&stream), self.sending);
        (send, RecvHalf::new(stream, self.receiving))
    }

    /// Both halves, for records: each item is one. See [`Self::write_record`] and [`Self::read_record`].
    pub fn into_records(self) -> (RecordWriter, RecordReader) {
        let (send, recv) = self.split();
        (RecordWriter::new(send), RecordReader::new(recv))
    }

    /// Ends both directions of the stream and of all streams below it at once, at both hosts, whoever opened them and
    /// whoever holds them. What was not yet delivered or read is lost. The peer's reads fail with
    /// [`ReadError::Reset`](crate::ReadError::Reset), its writes with
    /// [`WriteError::Stopped`](crate::WriteError::Stopped); here both fail with `Closed`. Children that the peer
    /// opens meanwhile are refused with the same code.
    pub fn reset_tree(&mut self, code: u32) {
        self.reset_tree_with(code, "");
    }

    /// As [`Self::reset_tree`], with a reason for people, of which at most 256 bytes are sent.
    pub fn reset_tree_with(&mut self, code: u32, reason: &str) {
        let (stream, sending) = self.sending();
        sending.reset_tree(stream, sss_wire::Code::app(code), reason);
        self.receiving.set_end(Err(sss_proto::ReadError::Closed));
    }

    /// Finishes the stream and waits until the peer's host has acknowledged everything that was sent on it,
    /// and on all streams below it, whoever opened them. Those that are held elsewhere and are not finished then are
    /// reported, and go on; what is written to them afterwards is not waited for.
    ///
    /// The receiving side is stopped, unless it was read to its end before.
    ///
    /// Cancel safe in that the stream is finished all the same, and what it holds is delivered; only
    /// nobody learns of it.
    ///
    /// # Errors
    /// Says what was not delivered: the stream's own data, or that of streams below it, also of those that were
    /// finished and let go of long before; or that some of these are not finished.
    pub async fn close(mut self) -> Result<(), StreamCloseError> {
        let (stream, sending) = self.sending();
        sending.finish_once(stream).map_err(StreamCloseError::Stream)?;
        close::wait(&self.stream_ref).await
    }
}

receiving_methods!(Stream);
sending_methods!(Stream);
record_reading_methods!(Stream);
record_writing_methods!(Stream);
tree_methods!(Stream);
datagram_sending_methods!(Stream);
datagram_receiving_methods!(Stream);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_is_merely_held_is_small() {
        assert!(size_of::<Stream>() <= 48, "{} bytes", size_of::<Stream>());
    }
}
