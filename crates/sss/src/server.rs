//! A service that a host offers.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use sss_proto::{ListenerId, StreamId};
use sss_wire::Eid;

use crate::error::AcceptError;
use crate::shared::{Handle, Inner};
use crate::stream::Stream;

/// Takes the streams that peers open towards one (service, protocol) of a host.
///
/// Several tasks may accept at once. Dropping it withdraws the service, and refuses the streams not yet accepted.
pub struct Server {
    handle: Arc<Handle>,
    id: ListenerId,
    service: String,
    protocol: String,
}

impl Server {
    pub(crate) fn new(handle: Arc<Handle>, id: ListenerId, service: &str, protocol: &str) -> Self {
        Self {
            handle,
            id,
            service: service.to_owned(),
            protocol: protocol.to_owned(),
        }
    }

    /// The next stream, and the peer that opened it.
    ///
    /// Cancel safe: no stream is lost.
    ///
    /// # Errors
    /// If the host was closed.
    pub async fn accept(&self) -> Result<(Stream, Eid), AcceptError> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// As [`Self::accept`], as a poll function.
    ///
    /// # Errors
    /// If the host was closed.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<(Stream, Eid), AcceptError>> {
        let accepted = self.handle.call(|inner, _| {
            if !inner.is_running() {
                return Err(AcceptError::HostClosed);
            }
            let next = inner.core.accept(self.id);
            match next {
                Some(_) => inner.want_driver(),
                None => inner.waiters.wait_acceptable(self.id, cx.waker()),
            }
            Ok(next)
        });
        match accepted {
            Ok(Some(next)) => Poll::Ready(Ok(self.stream(next))),
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// The next stream, if one is there already.
    ///
    /// # Errors
    /// If the host was closed.
    pub fn try_accept(&self) -> Result<Option<(Stream, Eid)>, AcceptError> {
        let accepted = self.handle.call(|inner, _| {
            if !inner.is_running() {
                return Err(AcceptError::HostClosed);
            }
            inner.want_driver();
            Ok(inner.core.accept(self.id))
        });
        Ok(accepted?.map(|next| self.stream(next)))
    }

    fn stream(&self, (id, eid): (StreamId, Eid)) -> (Stream, Eid) {
        (Stream::new(Arc::clone(&self.handle), id), eid)
    }

    /// The name of the service.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The name of the protocol.
    pub fn protocol(&self) -> &str {
        &self.protocol
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.call(|inner: &mut Inner, _| {
            inner.core.unlisten(self.id);
            inner.want_driver();
            // Those who accept borrow the server: none is left.
            inner.waiters.take_acceptors(self.id)
        });
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("service", &self.service)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}
