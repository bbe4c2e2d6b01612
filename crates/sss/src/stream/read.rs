//! Receiving.

use std::future::Future;
use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use sss_proto::{Instant, ReadError, ReadOutcome, StreamId};
use sss_wire::Code;
use tokio::io::ReadBuf;

use super::records::Records;
use super::stream_ref::StreamRef;
use super::whole::Whole;
use crate::driver::wakers::Side;
use crate::error::{ReadExactError, ReadToEndError};
use crate::shared::Inner;
use crate::waiting::exclusively;

/// The receiving side of a stream.
#[derive(Debug, Default)]
pub(crate) struct Receiving {
    has_ended: bool,
    /// Set if the last read stopped at a record mark, which the core has passed already.
    pub(super) is_at_mark: bool,
    /// Boxed, so that a stream that is merely held is small.
    rare: Option<Box<Rare>>,
}

/// State that few streams have.
#[derive(Debug, Default)]
struct Rare {
    /// Reason why it did not end well.
    failure: Option<ReadError>,
    /// Only once the application has asked for records.
    records: Option<Records>,
}

/// Number of marks that a read passes in one turn: a peer may send any number of empty records.
const MARKS_AT_ONCE: usize = 1000;

/// Reads what follows the marks at which the reader stands, and whether it is the last; when blocked, the task is woken
/// for more. A mark: the turn is over, and the caller wakes the task when the host is not locked.
fn read_behind_marks(
    inner: &mut Inner,
    now: Instant,
    stream: StreamId,
    max: usize,
    cx: &mut Context<'_>,
) -> Poll<Result<(ReadOutcome, bool), ReadError>> {
    let mut outcome = inner.core.stream(stream).poll_read_with_end(now, max);
    let mut passed = 0;
    while matches!(outcome, Poll::Ready(Ok((ReadOutcome::Mark, _)))) && passed < MARKS_AT_ONCE {
        passed += 1;
        outcome = inner.core.stream(stream).poll_read_with_end(now, max);
    }
    if outcome.is_pending() {
        inner.waiters.wait(stream, Side::Read, cx.waker());
    }
    if passed > 0 {
        // The peer gets credit for them.
        inner.want_driver();
    }
    outcome
}

impl Receiving {
    /// Returns whether there is nothing more to come, for better or worse.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Returns how it ended, once it has.
    pub(super) fn end(&self) -> Option<Result<(), ReadError>> {
        self.has_ended.then(|| self.failure().cloned().map_or(Ok(()), Err))
    }

    fn failure(&self) -> Option<&ReadError> {
        self.rare.as_ref()?.failure.as_ref()
    }

    pub(super) fn set_end(&mut self, end: Result<(), ReadError>) {
        self.has_ended = true;
        match end {
            Err(error) => self.rare.get_or_insert_default().failure = Some(error),
            Ok(()) => {
                if let Some(rare) = &mut self.rare {
                    rare.failure = None;
                }
            }
        }
    }

    /// State that is kept for reading records, made when it is first needed.
    pub(super) fn records(&mut self) -> &mut Records {
        self.rare.get_or_insert_default().records.get_or_insert_default()
    }

    /// Bytes that are to be read before those of the core: of a record of which reading was given up. A read that asks
    /// for something passes the mark at which it begins.
    fn take_partial(&mut self, max: usize) -> Option<Bytes> {
        if max > 0 {
            self.is_at_mark = false;
        }
        let partial = &mut self.rare.as_mut()?.records.as_mut()?.partial;
        (partial.len() > 0).then(|| partial.split_to(max))
    }

    /// Gives what has arrived to `sink`, at most `max` bytes and up to the next mark, and says how many bytes it was;
    /// 0: the end.
    ///
    /// One call takes everything that is there, so that many small packets cost one turn.
    pub(crate) fn poll_take(
        &mut self,
        stream: &StreamRef,
        cx: &mut Context<'_>,
        max: usize,
        mut sink: impl FnMut(Bytes),
    ) -> Poll<Result<usize, ReadError>> {
        if let Some(chunk) = self.take_partial(max) {
            let taken = chunk.len();
            sink(chunk);
            return Poll::Ready(Ok(taken));
        }
        if let Some(end) = self.end() {
            return Poll::Ready(end.map(|()| 0));
        }
        let (mut taken, mut is_turn_over) = (0, false);
        let blocked = stream.call(|inner, now| {
            while taken < max {
                let outcome = match taken {
                    0 => read_behind_marks(inner, now, stream.id(), max, cx),
                    _ => inner.core.stream(stream.id()).poll_read_with_end(now, max - taken),
                };
                match outcome {
                    Poll::Ready(Ok((ReadOutcome::Mark, _))) if taken == 0 => {
                        is_turn_over = true;
                        return true;
                    }
                    Poll::Ready(Ok((ReadOutcome::Mark, _))) => {
                        self.is_at_mark = true;
                        break;
                    }
                    Poll::Ready(Ok((outcome, is_end))) => {
                        if let ReadOutcome::Chunk(chunk) = outcome {
                            taken += chunk.len();
                            sink(chunk);
                        }
                        if is_end {
                            self.set_end(Ok(()));
                        }
                    }
                    Poll::Ready(Err(error)) => self.set_end(Err(error)),
                    Poll::Pending if taken == 0 => return true,
                    Poll::Pending => break,
                }
                if self.has_ended {
                    break;
                }
            }
            inner.want_driver();
            false
        });
        if is_turn_over {
            cx.waker().wake_by_ref();
        }
        match self.failure() {
            _ if blocked => Poll::Pending,
            Some(error) if taken == 0 => Poll::Ready(Err(error.clone())),
            _ => Poll::Ready(Ok(taken)),
        }
    }

    /// The next piece; `None`: the end.
    pub(crate) fn poll_chunk(
        &mut self,
        stream: &StreamRef,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, ReadError>> {
        if let Some(chunk) = self.take_partial(max) {
            return Poll::Ready(Ok(Some(chunk)));
        }
        if let Some(end) = self.end() {
            return Poll::Ready(end.map(|()| None));
        }
        let outcome = stream.call(|inner, now| {
            let outcome = read_behind_marks(inner, now, stream.id(), max, cx);
            if outcome.is_ready() {
                inner.want_driver();
            }
            outcome
        });
        match outcome {
            Poll::Ready(Ok((ReadOutcome::Mark, _))) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok((outcome, is_end))) => {
                if is_end {
                    self.set_end(Ok(()));
                }
                Poll::Ready(Ok(match outcome {
                    ReadOutcome::Chunk(chunk) => Some(chunk),
                    _ => None,
                }))
            }
            Poll::Ready(Err(error)) => {
                self.set_end(Err(error.clone()));
                Poll::Ready(Err(error))
            }
        }
    }

    /// Fills `buf` with what has arrived. Nothing filled: the end.
    pub(crate) fn poll_read(
        &mut self,
        stream: &StreamRef,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), ReadError>> {
        self.poll_take(stream, cx, buf.remaining(), |chunk| buf.put_slice(&chunk))
            .map_ok(|_| ())
    }

    pub(crate) fn poll_io(
        &mut self,
        stream: &StreamRef,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_read(stream, cx, buf).map_err(Into::into)
    }

    /// Waits with `poll`, which takes from the stream.
    pub(super) fn wait<R>(
        &mut self,
        stream: &StreamRef,
        mut poll: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<R>,
    ) -> impl Future<Output = R> {
        exclusively(stream.shared(), (stream.id(), Side::Read), move |cx| poll(self, cx))
    }

    pub(crate) fn next_chunk(
        &mut self,
        stream: &StreamRef,
        max: usize,
    ) -> impl Future<Output = Result<Option<Bytes>, ReadError>> {
        self.wait(stream, move |this, cx| this.poll_chunk(stream, cx, max))
    }

    pub(crate) fn take(
        &mut self,
        stream: &StreamRef,
        max: usize,
        mut sink: impl FnMut(Bytes),
    ) -> impl Future<Output = Result<usize, ReadError>> {
        self.wait(stream, move |this, cx| this.poll_take(stream, cx, max, &mut sink))
    }

    pub(crate) async fn read(&mut self, stream: &StreamRef, buf: &mut [u8]) -> Result<usize, ReadError> {
        let mut buf = ReadBuf::new(buf);
        self.wait(stream, |this, cx| this.poll_read(stream, cx, &mut buf))
            .await?;
        Ok(buf.filled().len())
    }

    pub(crate) async fn read_exact(&mut self, stream: &StreamRef, buf: &mut [u8]) -> Result<(), ReadExactError> {
        let mut buf = ReadBuf::new(buf);
        while buf.remaining() > 0 {
            let before = buf.remaining();
            self.wait(stream, |this, cx| this.poll_read(stream, cx, &mut buf))
                .await?;
            if buf.remaining() == before {
                return Err(ReadExactError::Ended { missing: before });
            }
        }
        Ok(())
    }

    pub(crate) async fn read_to_end(&mut self, stream: &StreamRef, limit: usize) -> Result<Bytes, ReadToEndError> {
        let mut whole = Whole::default();
        loop {
            // One byte more than wanted tells whether there is too much.
            let room = limit.saturating_sub(whole.len()).saturating_add(1);
            let taken = self.take(stream, room, |chunk| whole.push(chunk)).await?;
            if whole.len() > limit {
                return Err(ReadToEndError::TooLong { limit });
            }
            if taken == 0 || self.has_ended_well() {
                return Ok(whole.take());
            }
        }
    }

    fn has_ended_well(&self) -> bool {
        self.has_ended && self.failure().is_none()
    }

    pub(crate) fn stop(&mut self, stream: &StreamRef, code: Code, reason: &str) {
        if self.has_ended() {
            return;
        }
        self.set_end(Err(ReadError::Closed));
        self.is_at_mark = false;
        if let Some(rare) = &mut self.rare {
            rare.records = None;
        }
        stream.call(|inner, _| {
            inner.core.stream(stream.id()).stop(code, reason);
            inner.want_driver();
        });
    }
}

/// Methods of every handle with a receiving side.
macro_rules! receiving_methods {
    ($handle:ty) => {
        /// Receiving.
        impl $handle {
            /// Copies the next bytes into `buf` and says how many; 0 is the end, if `buf` is not empty. At the end of a
            /// record it stops short; the next read goes on behind it.
            ///
            /// Cancel safe: no bytes are lost.
            ///
            /// # Errors
            /// If the stream does not end well: the peer reset it, or the tree of streams ended.
            pub async fn read(&mut self, buf: &mut [u8]) -> Result<usize, $crate::ReadError> {
                let (stream, receiving) = self.receiving();
                receiving.read(stream, buf).await
            }

            /// The next bytes, at most `max`, without a copy; `None` is the end. A piece is at most one packet's data.
            ///
            /// Holding a piece keeps the memory of the whole batch alive in which it arrived, at most 64 KiB.
            ///
            /// Cancel safe: no bytes are lost.
            ///
            /// # Errors
            /// If the stream does not end well.
            pub async fn read_chunk(&mut self, max: usize) -> Result<Option<bytes::Bytes>, $crate::ReadError> {
                let (stream, receiving) = self.receiving();
                receiving.next_chunk(stream, max).await
            }

            /// Appends all the pieces that have arrived to `chunks`, at most `max` bytes and up to the end of a record,
            /// without a copy, and says how many bytes that was; 0 is the end, if `max` is not.
            ///
            /// For bytes that are handed on or kept as they are. It saves the copy, and not always time: pieces keep
            /// the memory of the batches alive in which they arrived, as with [`Self::read_chunk`], and until they are
            /// dropped the next batches come into other memory. Bytes that are looked at once, or that are to be in a
            /// row, may come faster by [`Self::read`] into one buffer that is used again and again.
            ///
            /// Cancel safe: no bytes are lost.
            ///
            /// # Errors
            /// If the stream does not end well.
            pub async fn read_chunks(
                &mut self,
                max: usize,
                chunks: &mut Vec<bytes::Bytes>,
            ) -> Result<usize, $crate::ReadError> {
                let (stream, receiving) = self.receiving();
                receiving.take(stream, max, |chunk| chunks.push(chunk)).await
            }

            /// Fills `buf` completely, over the ends of records.
            ///
            /// Not cancel safe: bytes read so far are lost to the caller.
            ///
            /// # Errors
            /// If the stream ends before `buf` is full, or does not end well.
            pub async fn read_exact(&mut self, buf: &mut [u8]) -> Result<(), $crate::ReadExactError> {
                let (stream, receiving) = self.receiving();
                receiving.read_exact(stream, buf).await
            }

            /// Everything up to the end, at most `limit` bytes, over the ends of records.
            ///
            /// Not cancel safe: bytes read so far are lost to the caller.
            ///
            /// # Errors
            /// If there is more than `limit`, or the stream does not end well.
            pub async fn read_to_end(&mut self, limit: usize) -> Result<bytes::Bytes, $crate::ReadToEndError> {
                let (stream, receiving) = self.receiving();
                receiving.read_to_end(stream, limit).await
            }

            /// Asks the peer to give what *it* sends on the stream, and below it, another level. The peer's host does
            /// so when the request arrives, about half a round trip from now, without asking its application, which
            /// may set another level later.
            ///
            /// What a level means says [`Stream::set_priority`](crate::Stream::set_priority).
            pub fn request_priority(&self, level: i8) {
                self.stream_ref().request_priority(level);
            }

            /// Asks the peer to send no more, and discards what has arrived. The peer's writes fail with
            /// [`WriteError::Stopped`](crate::WriteError::Stopped).
            pub fn stop(&mut self, code: u32) {
                self.stop_with(code, "");
            }

            /// As [`Self::stop`], with a reason for people, of which at most 256 bytes are sent.
            pub fn stop_with(&mut self, code: u32, reason: &str) {
                let (stream, receiving) = self.receiving();
                receiving.stop(stream, $crate::Code::app(code), reason);
            }
        }

        impl tokio::io::AsyncRead for $handle {
            /// Errors carry a [`ReadError`](crate::ReadError) as their source.
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                let (stream, receiving) = self.get_mut().receiving();
                receiving.poll_io(stream, cx, buf)
            }
        }
    };
}
pub(crate) use receiving_methods;
