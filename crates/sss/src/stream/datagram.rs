//! Datagrams.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use sss_proto::{DatagramError, DatagramFate, DatagramOptions, Instant, Interest, ReadError};

use super::stream_ref::StreamRef;
use crate::driver::wakers::Key;
use crate::shared::Inner;
use crate::waiting::{Answer, Place, until};

/// A datagram that is sent when this is awaited.
///
/// Awaiting it waits for room in the stream's queue of datagrams (512 KiB) and then gives the datagram to the host; it
/// does not wait until it is sent. Cancel safe: a datagram is queued as a whole, or not at all.
///
/// It ends with a [`DatagramError`] if the peer takes none so large, the stream was let go here or at the peer, or the
/// tree has ended.
#[must_use = "a datagram is sent only when this is awaited"]
pub struct SendDatagram<'a> {
    stream: &'a StreamRef,
    data: Bytes,
    options: DatagramOptions,
    place: Place<'a>,
}

impl<'a> SendDatagram<'a> {
    pub(crate) fn new(stream: &'a StreamRef, data: Bytes) -> Self {
        Self {
            stream,
            data,
            options: DatagramOptions::default(),
            place: Place::new(stream.shared()),
        }
    }

    /// Sends it until it has arrived, or until its deadline. Default: best effort, which small datagrams are sent once
    /// for.
    pub fn reliable(mut self) -> Self {
        self.options.reliable = true;
        self
    }

    /// Sets how long it is of use to the peer, from now on: it is given up when it can no longer arrive in that time.
    ///
    /// Of those of one stream and level that have deadlines, the one whose deadline is first is sent before the others.
    /// One that is best effort gives way to a later one where, at the rate of the path, it will hardly be complete.
    ///
    /// Default: 5 s if it is best effort, and no deadline if it is reliable.
    pub fn deadline(mut self, time: Duration) -> Self {
        self.options.deadline = Some(time);
        self
    }

    /// Its level among the children of its stream, as [`Stream::set_priority`](crate::Stream::set_priority) explains;
    /// among them is what is written to the stream itself, at level 0. Default: 0.
    pub fn priority(mut self, level: i8) -> Self {
        self.options.priority = level;
        self
    }

    /// Asks what becomes of it: awaiting it then gives a [`Receipt`].
    pub fn tracked(mut self) -> SendTracked<'a> {
        self.options.tracked = true;
        SendTracked(self)
    }

    /// Gives the datagram to the host if there is room for it now, and says whether there was.
    ///
    /// # Errors
    /// As when it is awaited.
    pub fn try_send(self) -> Result<bool, DatagramError> {
        let id = self.stream.call(|inner, now| {
            inner.want_driver();
            inner
                .core
                .stream(self.stream.id())
                .send_datagram(now, &self.data, &self.options)
        })?;
        Ok(id.is_some())
    }

    /// The receipt, if one was asked for.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Receipt>, DatagramError>> {
        let Self {
            stream,
            data,
            options,
            place,
        } = self;
        let key = Key::Stream(stream.id(), Interest::SendDatagram);
        place.poll(cx, key, |inner, now| {
            let sent = inner.core.stream(stream.id()).send_datagram(now, data, options);
            let Some(sent) = sent.transpose() else {
                return Poll::Pending;
            };
            inner.want_driver();
            Poll::Ready(sent.map(|id| {
                let peer = stream.id().peer();
                let fate = options
                    .tracked
                    .then(|| Answer::settled(stream.shared(), inner, peer, id));
                fate.map(Receipt)
            }))
        })
    }
}

impl fmt::Debug for SendDatagram<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendDatagram")
            .field("stream", &self.stream.id())
            .field("bytes", &self.data.len())
            .field("options", &self.options)
            .finish()
    }
}

impl Future for SendDatagram<'_> {
    type Output = Result<(), DatagramError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().poll_send(cx).map_ok(|_| ())
    }
}

/// Datagrams that are sent, from the first on, when this is awaited: as many [`SendDatagram`]s, for all of which that
/// have room the host is locked once, and its driver woken once.
///
/// Awaiting it waits until all of them had room in the stream's queue of datagrams (512 KiB); it does not wait until
/// they are sent. Cancel safe: when it is dropped before, each of them is queued as a whole or not at all, and none
/// after one that is not. To know how many those are, and to go on with them, await it by reference: [`Self::left`] and
/// [`Self::into_left`] tell. Of none, nothing is done.
///
/// It ends with a [`DatagramError`] as [`SendDatagram`] does: the first of those that are left is the one for which it
/// ended. Awaited again, it tries that one again.
///
/// ```
/// # async fn send(stream: &sss::Stream, frames: Vec<bytes::Bytes>) -> Result<(), sss::DatagramError> {
/// let mut send = stream.send_datagrams(frames).deadline(std::time::Duration::from_millis(100));
/// while let Err(error) = (&mut send).await {
///     let sss::DatagramError::TooLarge { .. } = error else {
///         return Err(error);
///     };
///     // That one is left out.
///     let mut left = send.into_left();
///     left.next();
///     send = stream.send_datagrams(left).deadline(std::time::Duration::from_millis(100));
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "datagrams are sent only when this is awaited"]
pub struct SendDatagrams<'a> {
    stream: &'a StreamRef,
    left: std::vec::IntoIter<Bytes>,
    options: DatagramOptions,
    place: Place<'a>,
}

impl<'a> SendDatagrams<'a> {
    pub(crate) fn new(stream: &'a StreamRef, all: Vec<Bytes>) -> Self {
        Self {
            stream,
            left: all.into_iter(),
            options: DatagramOptions::default(),
            place: Place::new(stream.shared()),
        }
    }

    /// Sends each until it has arrived, as [`SendDatagram::reliable`].
    pub fn reliable(mut self) -> Self {
        self.options.reliable = true;
        self
    }

    /// Sets how long each is of use to the peer, as [`SendDatagram::deadline`]; from when it is queued on.
    pub fn deadline(mut self, time: Duration) -> Self {
        self.options.deadline = Some(time);
        self
    }

    /// Sets the level of each, as [`SendDatagram::priority`].
    pub fn priority(mut self, level: i8) -> Self {
        self.options.priority = level;
        self
    }

    /// Queues as many as there is room for now, from the first on, and returns how many. May be called again, and this
    /// may be awaited after it.
    ///
    /// # Errors
    /// As when it is awaited: because of the first that is [left](Self::left); those before are queued.
    pub fn try_send(&mut self) -> Result<usize, DatagramError> {
        let Self {
            stream, left, options, ..
        } = self;
        let before = left.len();
        stream.call(|inner, now| queue(stream, left, options, (inner, now)))?;
        Ok(before - left.len())
    }

    /// Returns how many are not queued yet.
    pub fn left(&self) -> usize {
        self.left.len()
    }

    /// Returns those that are not queued yet.
    pub fn into_left(self) -> std::vec::IntoIter<Bytes> {
        self.left
    }
}

impl fmt::Debug for SendDatagrams<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendDatagrams")
            .field("stream", &self.stream.id())
            .field("left", &self.left())
            .field("options", &self.options)
            .finish()
    }
}

impl Future for SendDatagrams<'_> {
    type Output = Result<(), DatagramError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            stream,
            left,
            options,
            place,
        } = self.get_mut();
        let key = Key::Stream(stream.id(), Interest::SendDatagram);
        place.poll(cx, key, |inner, now| {
            let queued = queue(stream, left, options, (inner, now));
            match queued.is_ok() && left.len() > 0 {
                true => Poll::Pending,
                false => Poll::Ready(queued),
            }
        })
    }
}

/// Queues those for which there is room, from the first on, and keeps the others.
fn queue(
    stream: &StreamRef,
    left: &mut std::vec::IntoIter<Bytes>,
    options: &DatagramOptions,
    (inner, now): (&mut Inner, Instant),
) -> Result<(), DatagramError> {
    if left.len() == 0 {
        return Ok(());
    }
    inner.want_driver();
    inner.core.stream(stream.id()).send_datagrams(now, left, options)
}

/// A [`SendDatagram`] that gives a [`Receipt`] when it is awaited. Cancel safe, as that is.
#[derive(Debug)]
#[must_use = "a datagram is sent only when this is awaited"]
pub struct SendTracked<'a>(SendDatagram<'a>);

impl SendTracked<'_> {
    /// Gives the datagram to the host if there is room for it now. `None`: there was none, and nothing was sent.
    ///
    /// # Errors
    /// As when it is awaited.
    pub fn try_send(mut self) -> Result<Option<Receipt>, DatagramError> {
        let sent = self.0.poll_send(&mut Context::from_waker(Waker::noop()));
        match sent {
            Poll::Ready(receipt) => Ok(Some(receipt?.unwrap_or_else(Receipt::of_nothing))),
            Poll::Pending => Ok(None),
        }
    }
}

impl Future for SendTracked<'_> {
    type Output = Result<Receipt, DatagramError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let sent = self.get_mut().0.poll_send(cx);
        sent.map_ok(|receipt| receipt.unwrap_or_else(Receipt::of_nothing))
    }
}

/// Tells what became of a datagram, when it is awaited. May outlive the stream. Ends when the datagram has arrived, was
/// given up or lost, or the streams shared with the peer have ended.
///
/// Cancel safe in that it may be awaited by reference, again and again. When it is dropped, nobody is told.
#[derive(Debug)]
#[must_use = "a receipt tells something only when it is awaited"]
pub struct Receipt(Answer<DatagramFate>);

impl Receipt {
    fn of_nothing() -> Self {
        Self(Answer::never())
    }
}

impl Future for Receipt {
    type Output = DatagramFate;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let fate = Pin::new(&mut self.get_mut().0).poll(cx);
        fate.map(|fate| fate.unwrap_or(DatagramFate::ChannelLost))
    }
}

pub(crate) fn recv(stream: &StreamRef) -> impl Future<Output = Result<Option<Bytes>, ReadError>> {
    let key = Key::Stream(stream.id(), Interest::RecvDatagram);
    until(stream.shared(), key, |inner, now| {
        let received = inner.core.stream(stream.id()).poll_recv_datagram(now);
        inner.want_driver_if_ready();
        received
    })
}

pub(crate) fn recv_all(
    stream: &StreamRef,
    into: &mut Vec<Bytes>,
    limit: usize,
) -> impl Future<Output = Result<usize, ReadError>> {
    let key = Key::Stream(stream.id(), Interest::RecvDatagram);
    until(stream.shared(), key, move |inner, now| {
        let received = inner.core.stream(stream.id()).poll_recv_datagrams(now, into, limit);
        inner.want_driver_if_ready();
        received
    })
}

/// Implements sending of datagrams for a handle with `stream_ref(&self)`.
macro_rules! datagram_sending_methods {
    ($handle:ty) => {
        impl $handle {
            /// Sends a message of any size up to [`Self::max_datagram_size`], which the peer gets whole, in no order
            /// with anything else. It goes when the result is awaited.
            ///
            /// Small best-effort datagrams travel in one packet as long as few packets are lost; all others travel as
            /// streams of their own, sent again until their deadline. The peer sees no difference. Any number may
            /// be under way, and they may be sent as long as this side holds the stream, also after
            /// [`Self::finish`].
            pub fn send_datagram(&self, data: impl Into<bytes::Bytes>) -> $crate::SendDatagram<'_> {
                $crate::SendDatagram::new(self.stream_ref(), data.into())
            }

            /// Sends several messages as [`Self::send_datagram`] would, each of its own, for less than so many calls
            /// cost. They go when the result is awaited, or tried; it has the options of a single one, but for
            /// [`tracked`]($crate::SendDatagram::tracked).
            pub fn send_datagrams<D: Into<bytes::Bytes>>(
                &self,
                all: impl IntoIterator<Item = D>,
            ) -> $crate::SendDatagrams<'_> {
                let all = all.into_iter().map(Into::into).collect();
                $crate::SendDatagrams::new(self.stream_ref(), all)
            }

            /// The largest datagram that the peer takes, in bytes; 0: none. As long as the peer has not said: 64 MiB,
            /// the largest that there can be.
            pub fn max_datagram_size(&self) -> u64 {
                let peer = self.stream_ref().id().peer();
                let size = self
                    .stream_ref()
                    .call(|inner, _| inner.core.max_datagram_size(peer));
                size.unwrap_or(0)
            }

            /// Bytes per second that congestion control lets out to the peer in the long run, for all that is sent
            /// there: what to make a video's frames for. `None` while there is no channel.
            ///
            /// It changes with each round trip. Where it is far above what is sent, it says what the path may bear, and
            /// not what was tried: see [`ChannelInfo::rate`]($crate::ChannelInfo::rate).
            pub fn datagram_rate(&self) -> Option<u64> {
                let peer = self.stream_ref().id().peer();
                let info = self.stream_ref().call(|inner, _| inner.core.channel_info(peer));
                info.map(|info| info.rate)
            }
        }
    };
}
pub(crate) use datagram_sending_methods;

/// Implements receiving of datagrams for a handle with `stream_ref(&self)`.
macro_rules! datagram_receiving_methods {
    ($handle:ty) => {
        impl $handle {
            /// The next datagram that has arrived whole on the stream. Several tasks may receive at once.
            ///
            /// `None` once the peer can send no more: its application has let go of the stream, or refused it, and all
            /// that had arrived was given. The end of the peer's bytes does not mean that: whoever has finished may
            /// still send datagrams. The peer is asked, once, when this has to wait for the first time.
            ///
            /// Cancel safe: no datagram is lost.
            ///
            /// # Errors
            /// If the tree of streams has ended, or the stream was reset with all below it, and nothing that had
            /// arrived is left.
            pub async fn recv_datagram(&self) -> Result<Option<bytes::Bytes>, $crate::ReadError> {
                $crate::stream::datagram::recv(self.stream_ref()).await
            }

            /// As [`Self::recv_datagram`], without waiting.
            ///
            /// # Errors
            /// [`TryError::Empty`](crate::TryError::Empty) if no datagram is there yet, and more may come; else as
            /// [`Self::recv_datagram`].
            pub fn try_recv_datagram(&self) -> Result<Option<bytes::Bytes>, $crate::TryError<$crate::ReadError>> {
                let stream = self.stream_ref();
                let received = stream.call(|inner, now| {
                    let received = inner.core.stream(stream.id()).poll_recv_datagram(now);
                    inner.want_driver_if_ready();
                    received
                });
                $crate::TryError::take(received)
            }

            /// Appends the next datagrams that have arrived whole on the stream to `into`, at most `limit`, and returns
            /// how many: what [`Self::recv_datagram`] would give one after the other, for less than so many calls
            /// cost. Waits if there is none, but not for more than one.
            ///
            /// 0 where that gives `None`, or if `limit` is 0.
            ///
            /// Cancel safe: no datagram is lost, and nothing is appended before this is ready.
            ///
            /// # Errors
            /// As [`Self::recv_datagram`]. Nothing was appended.
            pub async fn recv_datagrams(
                &self,
                into: &mut Vec<bytes::Bytes>,
                limit: usize,
            ) -> Result<usize, $crate::ReadError> {
                $crate::stream::datagram::recv_all(self.stream_ref(), into, limit).await
            }

            /// As [`Self::recv_datagrams`], without waiting.
            ///
            /// # Errors
            /// [`TryError::Empty`](crate::TryError::Empty) if no datagram is there yet, and more may come; else as
            /// [`Self::recv_datagrams`].
            pub fn try_recv_datagrams(
                &self,
                into: &mut Vec<bytes::Bytes>,
                limit: usize,
            ) -> Result<usize, $crate::TryError<$crate::ReadError>> {
                let stream = self.stream_ref();
                let received = stream.call(|inner, now| {
                    let received = inner
                        .core
                        .stream(stream.id())
                        .poll_recv_datagrams(now, into, limit);
                    inner.want_driver_if_ready();
                    received
                });
                $crate::TryError::take(received)
            }
        }
    };
}
pub(crate) use datagram_receiving_methods;
