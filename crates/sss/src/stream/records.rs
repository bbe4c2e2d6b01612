//! Records: bytes that belong together, as the writer gave them.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::FusedStream;
use futures_core::Stream as Items;
use futures_sink::Sink;
use sss_proto::{Host, ReadOutcome, StreamId, WriteError};
use sss_wire::Code;

use super::read::Receiving;
use super::split::{RecvHalf, SendHalf};
use super::stream_ref::StreamRef;
use super::whole::Whole;
use super::write::Sending;
use crate::driver::wakers::Side;
use crate::error::RecordError;
use crate::waiting::exclusively;

/// Size that a record may have, in bytes, unless the reader says otherwise.
const DEFAULT_LIMIT: usize = 16 << 20;

/// State that a reader of records keeps between calls.
#[derive(Debug)]
pub(super) struct Records {
    limit: usize,
    /// Bytes that have arrived of the next record.
    pub(super) partial: Whole,
}

impl Default for Records {
    fn default() -> Self {
        Self {
            limit: DEFAULT_LIMIT,
            partial: Whole::default(),
        }
    }
}

/// Outcome of the next step of reading a record.
enum Advance {
    Complete,
    TooLarge,
    Blocked,
    Ended(Result<(), sss_proto::ReadError>),
}

impl Receiving {
    pub(crate) fn set_record_limit(&mut self, limit: usize) {
        self.records().limit = limit;
    }

    /// The next record, or what is left of it; `None`: the end.
    pub(crate) fn poll_record(
        &mut self,
        stream: &StreamRef,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, RecordError>> {
        if std::mem::take(&mut self.is_at_mark) {
            return Poll::Ready(Ok(Some(Bytes::new())));
        }
        if let Some(end) = self.end() {
            return Poll::Ready(end.map(|()| None).map_err(RecordError::Read));
        }
        let records = self.records();
        let limit = records.limit;
        Poll::Ready(match records.advance(stream, cx) {
            Advance::Blocked => return Poll::Pending,
            Advance::Complete => Ok(Some(records.partial.take())),
            Advance::TooLarge => {
                // STR-31
                self.stop(stream, Code::RECORD_TOO_LARGE, &reason(limit));
                Err(RecordError::TooLarge { limit })
            }
            Advance::Ended(end) => {
                let rest = records.partial.take();
                self.set_end(end.clone());
                match end {
                    Ok(()) if rest.is_empty() => Ok(None),
                    Ok(()) => Err(RecordError::Unfinished { rest }),
                    Err(error) => Err(RecordError::Read(error)),
                }
            }
        })
    }
}

/// Text that the writer is told.
fn reason(limit: usize) -> String {
    format!("a record is longer than {limit} bytes")
}

impl Records {
    /// Takes in what has arrived, up to the mark.
    fn advance(&mut self, stream: &StreamRef, cx: &mut Context<'_>) -> Advance {
        stream.call(|inner, now| {
            let before = self.partial.len();
            let step = loop {
                let Some(left) = self.limit.checked_sub(self.partial.len()) else {
                    break Advance::TooLarge;
                };
                // One byte more than allowed tells that there is too much.
                let room = left.saturating_add(1);
                match inner.core.stream(stream.id()).poll_read(now, room) {
                    Poll::Ready(Ok(ReadOutcome::Chunk(chunk))) => self.partial.push(chunk),
                    Poll::Ready(Ok(ReadOutcome::Mark)) => break Advance::Complete,
                    Poll::Ready(Ok(ReadOutcome::End)) => break Advance::Ended(Ok(())),
                    Poll::Ready(Err(error)) => break Advance::Ended(Err(error)),
                    Poll::Pending => {
                        inner.waiters.wait(stream.id(), Side::Read, cx.waker());
                        break Advance::Blocked;
                    }
                }
            };
            if !matches!(step, Advance::Blocked) || self.partial.len() > before {
                inner.want_driver();
            }
            step
        })
    }
}

impl Sending {
    /// Ready when there is room for something.
    fn poll_ready(&mut self, stream: &StreamRef, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        stream.call(|inner, _| {
            let ready = inner.core.stream(stream.id()).poll_writable();
            if ready.is_pending() {
                inner.waiters.wait(stream.id(), Side::Write, cx.waker());
            }
            ready
        })
    }

    /// Hands something over as soon as there is room for a part of it. One writer has the handle, so the room is
    /// still there.
    async fn put(
        &mut self,
        stream: &StreamRef,
        write: impl FnOnce(&mut Host, StreamId) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        exclusively(stream.shared(), (stream.id(), Side::Write), |cx| {
            self.poll_ready(stream, cx)
        })
        .await?;
        stream.call(|inner, _| {
            inner.want_driver();
            write(&mut inner.core, stream.id())
        })
    }

    pub(crate) async fn write_record(&mut self, stream: &StreamRef, record: &[u8]) -> Result<(), WriteError> {
        self.put(stream, |core, id| core.stream(id).write_record(record)).await
    }

    pub(crate) async fn write_record_bytes(&mut self, stream: &StreamRef, record: Bytes) -> Result<(), WriteError> {
        self.put(stream, |core, id| core.stream(id).write_record_bytes(record))
            .await
    }

    pub(crate) async fn end_record(&mut self, stream: &StreamRef) -> Result<(), WriteError> {
        self.put(stream, |core, id| core.stream(id).write_mark()).await
    }
}

/// Methods for records of every handle with a receiving side.
macro_rules! record_reading_methods {
    ($handle:ty) => {
        /// Receiving records.
        impl $handle {
            /// The next record, exactly as the peer wrote it; `None` is the end. Also a record without any bytes is
            /// one. A record that arrived in one packet is not copied.
            ///
            /// A record may be larger than the stream's window; what has arrived of it is put together in memory, up to
            /// the limit of [`Self::set_record_limit`]. After other reads, this is what is left of the record in which
            /// they stopped, which may be nothing.
            ///
            /// Cancel safe: what has arrived of the record is kept for the next call, of this or any other read.
            ///
            /// # Errors
            /// If the record is too large, the stream ends within one, or does not end well.
            pub async fn read_record(&mut self) -> Result<Option<bytes::Bytes>, $crate::RecordError> {
                let (stream, receiving) = self.receiving();
                receiving
                    .wait(stream, |this, cx| this.poll_record(stream, cx))
                    .await
            }

            /// The largest record that [`Self::read_record`] takes, in bytes: 16 MiB unless set.
            ///
            /// When a larger one comes, that call fails with [`RecordError::TooLarge`](crate::RecordError::TooLarge),
            /// and the peer is asked to stop: its writes fail with
            /// [`WriteError::Stopped`](crate::WriteError::Stopped), the code
            /// [`Code::RECORD_TOO_LARGE`](crate::Code::RECORD_TOO_LARGE) and a reason that names the limit.
            pub fn set_record_limit(&mut self, limit: usize) {
                self.receiving().1.set_record_limit(limit);
            }
        }
    };
}
pub(super) use record_reading_methods;

/// Methods for records of every handle with a sending side.
macro_rules! record_writing_methods {
    ($handle:ty) => {
        /// Sending records.
        impl $handle {
            /// Sends `record` so that the peer can read it as one piece, whatever packets it travels in. It may be
            /// empty.
            ///
            /// Waits while there is no room at all, then takes a copy of the whole. Bytes that were written before, and
            /// not ended by [`Self::end_record`], become the begin of the record.
            ///
            /// Cancel safe: if it did not return, nothing was taken. A record is never torn.
            ///
            /// # Errors
            /// If the sending side has ended. Then nothing was taken.
            pub async fn write_record(&mut self, record: &[u8]) -> Result<(), $crate::WriteError> {
                let (stream, sending) = self.sending();
                sending.write_record(stream, record).await
            }

            /// As [`Self::write_record`], without a copy, unless the record is short. For bytes with an owner of their
            /// own see [`Self::write_chunk`].
            ///
            /// Cancel safe: if it did not return, nothing was taken.
            ///
            /// # Errors
            /// If the sending side has ended. Then nothing was taken.
            pub async fn write_record_bytes(&mut self, record: bytes::Bytes) -> Result<(), $crate::WriteError> {
                let (stream, sending) = self.sending();
                sending.write_record_bytes(stream, record).await
            }

            /// Ends a record: all that was written since the last one is one. For records that are made piece by piece,
            /// with [`Self::write_all`] or [`Self::write_chunk`], because they are too large for memory.
            ///
            /// Cancel safe: if it did not return, the record was not ended.
            ///
            /// # Errors
            /// If the sending side has ended.
            pub async fn end_record(&mut self) -> Result<(), $crate::WriteError> {
                let (stream, sending) = self.sending();
                sending.end_record(stream).await
            }
        }
    };
}
pub(super) use record_writing_methods;

/// The records of a stream's receiving side, as a `Stream` of the `futures` crates: each as it was written, up to
/// the end or the first error.
///
/// Dropping it before the end stops that direction, as with [`RecvHalf`].
#[derive(Debug)]
pub struct RecordReader {
    half: RecvHalf,
    is_over: bool,
}

impl RecordReader {
    /// Reads records from a receiving side.
    pub fn new(half: RecvHalf) -> Self {
        Self { half, is_over: false }
    }

    /// The receiving side.
    pub fn get_ref(&self) -> &RecvHalf {
        &self.half
    }

    /// The receiving side, for instance to set the limit, or to stop it.
    pub fn get_mut(&mut self) -> &mut RecvHalf {
        &mut self.half
    }

    /// The receiving side. What has arrived of the next record is in there.
    pub fn into_inner(self) -> RecvHalf {
        self.half
    }
}

impl Items for RecordReader {
    /// Errors as those of [`RecvHalf::read_record`].
    type Item = Result<Bytes, RecordError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        let (stream, receiving) = this.half.receiving();
        let item = ready!(receiving.poll_record(stream, cx)).transpose();
        this.is_over = !matches!(item, Some(Ok(_)));
        Poll::Ready(item)
    }
}

impl FusedStream for RecordReader {
    fn is_terminated(&self) -> bool {
        self.is_over
    }
}

/// A stream's sending side as a `Sink` of the `futures` crates, each item a record.
///
/// Closing the sink finishes the stream. Dropping it before resets that direction, as with [`SendHalf`]. A record
/// is on its way once it was given to the sink; flushing does nothing.
#[derive(Debug)]
pub struct RecordWriter {
    half: SendHalf,
}

impl RecordWriter {
    /// Writes records to a sending side.
    pub fn new(half: SendHalf) -> Self {
        Self { half }
    }

    /// The sending side.
    pub fn get_ref(&self) -> &SendHalf {
        &self.half
    }

    /// The sending side, for instance to reset it.
    pub fn get_mut(&mut self) -> &mut SendHalf {
        &mut self.half
    }

    /// The sending side. Nothing is left behind in the sink.
    pub fn into_inner(self) -> SendHalf {
        self.half
    }
}

impl Sink<Bytes> for RecordWriter {
    type Error = WriteError;

    /// Ready when there is room for a part of a record at least; the whole of it is taken then.
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        let (stream, sending) = self.get_mut().half.sending();
        sending.poll_ready(stream, cx)
    }

    fn start_send(self: Pin<&mut Self>, record: Bytes) -> Result<(), WriteError> {
        let (stream, _) = self.get_mut().half.sending();
        stream.call(|inner, _| {
            inner.want_driver();
            inner.core.stream(stream.id()).write_record_bytes(record)
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        Poll::Ready(Ok(()))
    }

    /// Finishes the stream. Does not wait for the peer.
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        let (stream, sending) = self.get_mut().half.sending();
        Poll::Ready(sending.finish_once(stream))
    }
}
