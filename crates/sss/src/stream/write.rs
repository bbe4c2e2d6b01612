//! Sending.

use std::future::Future;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use sss_proto::{Interest, WriteError};
use sss_wire::Code;

use super::stream_ref::StreamRef;
use crate::driver::closing;
use crate::driver::wakers::{Key, Side};
use crate::waiting::{exclusively, until};

/// The sending side of a stream: whether the application has ended it.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    ended: bool,
}

impl Sending {
    /// Returns whether the application has finished or reset it.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes what fits of `parts`, and says how many bytes.
    pub(crate) fn poll_write(
        &mut self,
        stream: &StreamRef,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize, WriteError>> {
        stream.call(|inner, _| {
            let mut written = 0;
            for part in parts.iter().filter(|p| !p.is_empty()) {
                match inner.core.stream(stream.id()).poll_write(part) {
                    Poll::Ready(Ok(n)) => {
                        written += n;
                        if n < part.len() {
                            break;
                        }
                    }
                    Poll::Ready(Err(error)) if written == 0 => return Poll::Ready(Err(error)),
                    Poll::Ready(Err(_)) | Poll::Pending => break,
                }
            }
            if written == 0 && parts.iter().any(|p| !p.is_empty()) {
                inner.waiters.wait(stream.id(), Side::Write, cx.waker());
                return Poll::Pending;
            }
            inner.want_driver();
            Poll::Ready(Ok(written))
        })
    }

    /// Takes what fits of `chunk`, without a copy. Ready when nothing is left of it.
    fn poll_chunk(
        &mut self,
        stream: &StreamRef,
        cx: &mut Context<'_>,
        chunk: &mut Bytes,
    ) -> Poll<Result<(), WriteError>> {
        stream.call(|inner, _| {
            while !chunk.is_empty() {
                match inner.core.stream(stream.id()).poll_write_chunk(chunk) {
                    Poll::Pending => {
                        inner.waiters.wait(stream.id(), Side::Write, cx.waker());
                        inner.want_driver();
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                }
            }
            inner.want_driver();
            Poll::Ready(Ok(()))
        })
    }

    pub(crate) fn write(&mut self, stream: &StreamRef, data: &[u8]) -> impl Future<Output = Result<usize, WriteError>> {
        exclusively(stream.shared(), (stream.id(), Side::Write), move |cx| {
            self.poll_write(stream, cx, &[IoSlice::new(data)])
        })
    }

    pub(crate) async fn write_all(&mut self, stream: &StreamRef, mut data: &[u8]) -> Result<(), WriteError> {
        while !data.is_empty() {
            let n = self.write(stream, data).await?;
            data = data.get(n..).unwrap_or_default();
        }
        Ok(())
    }

    pub(crate) fn write_chunk(
        &mut self,
        stream: &StreamRef,
        mut chunk: Bytes,
    ) -> impl Future<Output = Result<(), WriteError>> {
        exclusively(stream.shared(), (stream.id(), Side::Write), move |cx| {
            self.poll_chunk(stream, cx, &mut chunk)
        })
    }

    pub(crate) fn take_back(&mut self, stream: &StreamRef, keep: u64) -> u64 {
        stream.call(|inner, _| inner.core.stream(stream.id()).take_back(keep))
    }

    pub(crate) fn finish(&mut self, stream: &StreamRef) -> Result<(), WriteError> {
        self.ended = true;
        stream.call(|inner, _| {
            inner.want_driver();
            inner.core.stream(stream.id()).finish()
        })
    }

    /// Finishes what has not ended yet.
    pub(crate) fn finish_once(&mut self, stream: &StreamRef) -> Result<(), WriteError> {
        if self.ended { Ok(()) } else { self.finish(stream) }
    }

    pub(crate) fn reset(&mut self, stream: &StreamRef, code: Code, reason: &str) {
        self.ended = true;
        stream.call(|inner, _| {
            inner.core.stream(stream.id()).reset(code, reason);
            inner.want_driver();
        });
    }

    pub(crate) fn reset_tree(&mut self, stream: &StreamRef, code: Code, reason: &str) {
        self.ended = true;
        stream.call(|inner, _| {
            inner.core.stream(stream.id()).reset_tree(code, reason);
            inner.want_driver();
        });
    }

    pub(crate) fn poll_io(
        &mut self,
        stream: &StreamRef,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write(stream, cx, parts).map_err(Into::into)
    }

    pub(crate) fn shutdown(&mut self, stream: &StreamRef) -> io::Result<()> {
        match self.finish_once(stream) {
            // A peer that was through with the stream, and so did not read the end, is no failure of protocols that
            // close connections as TCP does: whoever comes second always meets it.
            Err(WriteError::Stopped { code, .. }) if code == Code::UNREAD => Ok(()),
            result => result.map_err(Into::into),
        }
    }
}

/// Waits until everything sent on the stream, its end included, is acknowledged.
pub(crate) async fn drained(stream: &StreamRef) -> Result<(), WriteError> {
    closing::drained(stream.shared(), stream.id()).await
}

/// Waits until everything written so far was sent at least once.
pub(crate) async fn sent(stream: &StreamRef) -> Result<(), WriteError> {
    let key = Key::Stream(stream.id(), Interest::Sent);
    until(stream.shared(), key, |inner, _| {
        inner.core.stream(stream.id()).poll_sent()
    })
    .await
}

/// Waits until everything written so far is acknowledged.
pub(crate) async fn acknowledged(stream: &StreamRef) -> Result<(), WriteError> {
    let key = Key::Stream(stream.id(), Interest::Acknowledged);
    until(stream.shared(), key, |inner, _| {
        inner.core.stream(stream.id()).poll_acknowledged()
    })
    .await
}

/// Waits until the peer's application has read everything, its end included.
pub(crate) async fn consumed(stream: &StreamRef) -> Result<(), WriteError> {
    let key = Key::Stream(stream.id(), Interest::Consumed);
    until(stream.shared(), key, |inner, _| {
        inner.want_driver();
        inner.core.stream(stream.id()).poll_consumed()
    })
    .await
}

/// Waits until the peer stops the stream, or cannot any more. Keeps neither the stream nor the host.
pub(crate) fn stopped(stream: &StreamRef) -> impl Future<Output = Result<Option<Code>, WriteError>> + Send + use<> {
    let (shared, stream) = (Arc::clone(stream.shared()), stream.id());
    async move {
        match closing::drained(&shared, stream).await {
            Ok(()) => Ok(None),
            Err(WriteError::Stopped { code, .. }) => Ok(Some(code)),
            Err(WriteError::Refused(refusal)) => Ok(Some(refusal.code())),
            Err(error) => Err(error),
        }
    }
}

/// Methods of every handle with a sending side.
macro_rules! sending_methods {
    ($handle:ty) => {
        /// Sending.
        impl $handle {
            /// Takes a part of `data`, as much as there is room for now, and says how many bytes; waits while there is
            /// no room.
            ///
            /// Cancel safe: if it did not return, nothing was taken.
            ///
            /// # Errors
            /// If the sending side has ended: here, by the peer's wish, or with the channel.
            pub async fn write(&mut self, data: &[u8]) -> Result<usize, $crate::WriteError> {
                let (stream, sending) = self.sending();
                sending.write(stream, data).await
            }

            /// Takes all of `data`, waiting while there is no room.
            ///
            /// Not cancel safe: a part may have been taken.
            ///
            /// # Errors
            /// If the sending side has ended.
            pub async fn write_all(&mut self, data: &[u8]) -> Result<(), $crate::WriteError> {
                let (stream, sending) = self.sending();
                sending.write_all(stream, data).await
            }

            /// Takes all of `chunk` without a copy, waiting while there is no room.
            ///
            /// An owner of the bytes ([`Bytes::from_owner`](bytes::Bytes::from_owner)) is dropped while the host is
            /// locked, and must not use the host then.
            ///
            /// Not cancel safe: a part may have been taken.
            ///
            /// # Errors
            /// If the sending side has ended.
            pub async fn write_chunk(&mut self, chunk: bytes::Bytes) -> Result<(), $crate::WriteError> {
                let (stream, sending) = self.sending();
                sending.write_chunk(stream, chunk).await
            }

            /// Takes back what was written and not sent yet, but for the next `keep` bytes, and at least one; returns
            /// how many. They are as if they had never been written, and hold no memory any more: for a peer that
            /// does not read. A record mark counts as a byte. Once the sending side is finished nothing is taken
            /// back.
            ///
            /// [`Self::sent`] ends when the rest was sent, and it is time to write again.
            pub fn take_back(&mut self, keep: u64) -> u64 {
                let (stream, sending) = self.sending();
                sending.take_back(stream, keep)
            }

            /// Ends the sending side well: the peer reads what was written, then the end.
            ///
            /// # Errors
            /// If the sending side has ended otherwise.
            pub fn finish(&mut self) -> Result<(), $crate::WriteError> {
                let (stream, sending) = self.sending();
                sending.finish(stream)
            }

            /// Ends the sending side at once. The peer's reads fail with [`ReadError::Reset`](crate::ReadError::Reset);
            /// what it has not read is discarded. The other direction and all substreams go on.
            pub fn reset(&mut self, code: u32) {
                self.reset_with(code, "");
            }

            /// As [`Self::reset`], with a reason for people, of which at most 256 bytes are sent.
            pub fn reset_with(&mut self, code: u32, reason: &str) {
                let (stream, sending) = self.sending();
                sending.reset(stream, $crate::Code::app(code), reason);
            }

            /// Gives what this host sends on the stream, and on everything below it, another level: higher goes first,
            /// 0 is where every stream begins. It holds from the next packet on, for what was written before too.
            ///
            /// Levels compare siblings only, the children of one parent: as long as one of a higher level has something
            /// to send, none of a lower level sends; those of the same level share equally, byte for byte. A
            /// parent's own data counts as a child of level 0. So a level says nothing outside of the parent, and a
            /// subtree gets no more than its root does, whatever levels there are in it.
            pub fn set_priority(&self, level: i8) {
                self.stream_ref().set_priority(level);
            }

            /// The level that holds now: what [`Self::set_priority`] said, or the peer asked for, whichever was last.
            pub fn priority(&self) -> i8 {
                self.stream_ref().info().map_or(0, |info| info.priority)
            }

            /// Sets how packets that carry what this host sends on the stream are padded, from the next packet on, if
            /// that is more than what the whole host does
            /// ([`HostBuilder::padding`](crate::HostBuilder::padding)). Substreams have their own, none at first.
            pub fn set_padding(&self, padding: $crate::Padding) {
                self.stream_ref().set_padding(padding);
            }

            /// Waits until everything that was written has been sent at least once: the queue of the stream is empty.
            /// It may have to be sent again. Whoever writes the next value only when this returns never queues an
            /// old one.
            ///
            /// Cancel safe.
            ///
            /// # Errors
            /// If it never will be: the stream was reset, or the peer stopped it, or the streams shared with the peer
            /// have ended.
            pub async fn sent(&self) -> Result<(), $crate::WriteError> {
                $crate::stream::write::sent(self.stream_ref()).await
            }

            /// Waits until everything that was written is acknowledged by the peer's host. Unlike for
            /// [`Self::drained`], the stream need not be finished.
            ///
            /// Cancel safe.
            ///
            /// # Errors
            /// If it never will be: the stream was reset, or the peer stopped it, or the streams shared with the peer
            /// have ended.
            pub async fn acknowledged(&self) -> Result<(), $crate::WriteError> {
                $crate::stream::write::acknowledged(self.stream_ref()).await
            }

            /// Waits until everything sent on the stream, its end included, is acknowledged by the peer's host: so for
            /// ever, unless it is finished or reset.
            ///
            /// Cancel safe.
            ///
            /// # Errors
            /// If it never will be: the peer stopped the stream, or the tree of streams ended.
            pub async fn drained(&self) -> Result<(), $crate::WriteError> {
                $crate::stream::write::drained(self.stream_ref()).await
            }

            /// Waits until the peer has stopped reading the stream, also while nothing is written: a server that works
            /// on an answer learns that nobody wants it any more.
            ///
            /// Gives the code of the peer's [`stop`](crate::RecvHalf::stop), [`Code::UNREAD`](crate::Code::UNREAD) if
            /// it dropped the stream, or the code of a [`Refusal`](crate::Refusal): writing fails from then on,
            /// with the reason. Gives `None` once the peer has everything to the end, or this side has reset the
            /// stream and the peer knows: then it cannot be stopped any more. It is not told while the peer cannot
            /// be reached, which is no end: see [`Self::peer_gone`].
            ///
            /// The future does not borrow the stream, so that it can be waited for beside writing, and keeps neither
            /// the stream nor the host. Cancel safe; any number of tasks may wait.
            ///
            /// # Errors
            /// [`WriteError::Lost`](crate::WriteError::Lost) if the streams shared with the peer have ended, and
            /// [`WriteError::Closed`](crate::WriteError::Closed) if this side lets go of the stream meanwhile.
            pub fn stopped(
                &self,
            ) -> impl Future<Output = Result<Option<$crate::Code>, $crate::WriteError>> + Send + use<> {
                $crate::stream::write::stopped(self.stream_ref())
            }

            /// Waits until the peer's *application* has read everything sent on the stream, to its end: so for ever,
            /// unless it is finished. Costs two small frames.
            ///
            /// Cancel safe.
            ///
            /// # Errors
            /// If it never will: the peer stopped the stream or let go of it unread, the sending side was reset, or the
            /// channel ended.
            pub async fn consumed(&self) -> Result<(), $crate::WriteError> {
                $crate::stream::write::consumed(self.stream_ref()).await
            }
        }

        impl tokio::io::AsyncWrite for $handle {
            /// Errors carry a [`WriteError`](crate::WriteError) as their source.
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                data: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let (stream, sending) = self.get_mut().sending();
                sending.poll_io(stream, cx, &[std::io::IoSlice::new(data)])
            }

            fn poll_write_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                parts: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let (stream, sending) = self.get_mut().sending();
                sending.poll_io(stream, cx, parts)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            /// Does nothing: what was written is sent as soon as the peer and the network can take it.
            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                _cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::task::Poll::Ready(Ok(()))
            }

            /// Finishes the stream. Does not wait for the peer, and is no error if the peer has dropped the stream:
            /// that everything has arrived is told by `close` and `drained` only.
            fn poll_shutdown(
                self: std::pin::Pin<&mut Self>,
                _cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                let (stream, sending) = self.get_mut().sending();
                std::task::Poll::Ready(sending.shutdown(stream))
            }
        }
    };
}
pub(crate) use sending_methods;
