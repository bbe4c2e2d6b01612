//! A service that a host offers.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use sss_proto::{ListenerId, StreamId};
use sss_wire::Eid;
use sss_wire::services::ServiceInfo;

use crate::driver::notices::Notices;
use crate::driver::wakers::Key;
use crate::error::AcceptError;
use crate::lifecycle::HostEnd;
use crate::redaction::HostTag;
use crate::shared::{Handle, Inner};
use crate::stream::Stream;
use crate::waiting::Place;

/// Takes the streams that peers open towards one service of a host, in any of the protocols that it was given.
///
/// As a `futures` `Stream` it gives what [`Self::accept_incoming`] does, and ends when the host is closed.
///
/// Several tasks may accept at once. Dropping it withdraws the service, and refuses the streams not yet accepted. For
/// many services in one loop, see [`crate::ServerSet`].
pub struct Server {
    handle: Arc<Handle>,
    id: ListenerId,
    service: String,
    protocols: Vec<String>,
}

/// A stream that a peer opened, and what for.
#[derive(Debug)]
#[non_exhaustive]
pub struct Incoming {
    /// The stream.
    pub stream: Stream,
    /// Peer that opened it.
    pub peer: Eid,
    /// Towards which service.
    pub service: String,
    /// Protocol to be spoken on it.
    pub protocol: String,
}

impl Server {
    pub(crate) fn new(handle: Arc<Handle>, id: ListenerId, service: &ServiceInfo) -> Self {
        Self {
            handle,
            id,
            service: service.name.clone(),
            protocols: service.protocols.iter().map(|p| p.name.clone()).collect(),
        }
    }

    /// The next stream, and the peer that opened it. Ends when there is one, or the host is closed.
    ///
    /// Cancel safe: no stream is lost.
    ///
    /// # Errors
    /// If the host was closed.
    pub async fn accept(&self) -> Result<(Stream, Eid), AcceptError> {
        let mut place = self.place();
        std::future::poll_fn(|cx| self.poll_at(cx, &mut place)).await
    }

    /// As [`Self::accept`], as a poll function. If there is no stream yet, the task of the *latest* call is woken when
    /// there is; several tasks use [`Self::accept`].
    ///
    /// # Errors
    /// If the host was closed.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<(Stream, Eid), AcceptError>> {
        let accepted = self.handle.call(|inner, _| {
            let accepted = self.take(inner);
            if accepted.is_pending() {
                inner.waiters.wait_acceptable(self.id, cx.waker());
            }
            accepted
        });
        accepted.map_ok(|next| self.stream(next))
    }

    /// As [`Self::accept`], and tells for which of the protocols the stream was opened.
    ///
    /// Cancel safe: no stream is lost.
    ///
    /// # Errors
    /// If the host was closed.
    pub async fn accept_incoming(&self) -> Result<Incoming, AcceptError> {
        let (stream, peer) = self.accept().await?;
        Ok(self.incoming(stream, peer))
    }

    /// As [`Self::accept_incoming`], as a poll function: see [`Self::poll_accept`].
    ///
    /// # Errors
    /// If the host was closed.
    pub fn poll_accept_incoming(&self, cx: &mut Context<'_>) -> Poll<Result<Incoming, AcceptError>> {
        self.poll_accept(cx)
            .map_ok(|(stream, peer)| self.incoming(stream, peer))
    }

    /// A place among those who accept.
    pub(crate) fn place(&self) -> Place<'_> {
        Place::new(&self.handle)
    }

    /// As [`Self::poll_accept_incoming`], for a task that has a place.
    pub(crate) fn poll_incoming_at(
        &self,
        cx: &Context<'_>,
        place: &mut Place<'_>,
    ) -> Poll<Result<Incoming, AcceptError>> {
        self.poll_at(cx, place)
            .map_ok(|(stream, peer)| self.incoming(stream, peer))
    }

    fn poll_at(&self, cx: &Context<'_>, place: &mut Place<'_>) -> Poll<Result<(Stream, Eid), AcceptError>> {
        let accepted = place.poll(cx, Key::Acceptable(self.id), |inner, _| self.take(inner));
        accepted.map_ok(|next| self.stream(next))
    }

    fn take(&self, inner: &mut Inner) -> Poll<Result<(StreamId, Eid), AcceptError>> {
        if let Err(end) = inner.phase.check() {
            return Poll::Ready(Err(end.into()));
        }
        match inner.core.accept(self.id) {
            None => Poll::Pending,
            Some(next) => {
                inner.want_driver();
                Poll::Ready(Ok(next))
            }
        }
    }

    fn incoming(&self, stream: Stream, peer: Eid) -> Incoming {
        let protocol = match self.protocols.as_slice() {
            [only] => only.clone(),
            // A stream that is held has its names.
            _ => stream.info().and_then(|i| i.names).map(|(_, p)| p).unwrap_or_default(),
        };
        Incoming {
            stream,
            peer,
            service: self.service.clone(),
            protocol,
        }
    }

    /// The next stream, if one is there already.
    ///
    /// # Errors
    /// If the host was closed.
    pub fn try_accept(&self) -> Result<Option<(Stream, Eid)>, AcceptError> {
        let accepted = self.handle.call(|inner, _| {
            inner.phase.check()?;
            inner.want_driver();
            Ok::<_, HostEnd>(inner.core.accept(self.id))
        });
        Ok(accepted?.map(|next| self.stream(next)))
    }

    fn stream(&self, (id, eid): (StreamId, Eid)) -> (Stream, Eid) {
        tracing::debug!(peer = %HostTag::of(&eid), %id, service = self.service, "stream accepted");
        (Stream::new(Arc::clone(&self.handle), id), eid)
    }

    /// The name of the service.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The name of the protocol; of the first one, if there are several.
    pub fn protocol(&self) -> &str {
        self.protocols.first().map_or("", String::as_str)
    }

    /// The names of all protocols, in the order in which they were given.
    pub fn protocols(&self) -> impl Iterator<Item = &str> {
        self.protocols.iter().map(String::as_str)
    }
}

impl futures_core::Stream for Server {
    type Item = Incoming;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        self.poll_accept_incoming(cx).map(Result::ok)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut notices = Notices::default();
        self.handle.call(|inner, _| {
            inner.core.unlisten(self.id);
            inner.want_driver();
            // Those who accept borrow the server: none is left but one that polled.
            inner.waiters.wake_acceptors(self.id, &mut notices);
        });
        notices.deliver();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("service", &self.service)
            .field("protocols", &self.protocols)
            .finish_non_exhaustive()
    }
}
