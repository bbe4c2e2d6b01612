//! A stream's tie to its host. When it is dropped, the host lets go of the stream.

use std::future::Future;
use std::sync::Arc;

use sss_proto::{CloseReason, Instant, Interest, ListenMode, OpenError, Padding, StreamId, StreamInfo, SubtreeInfo};
use sss_wire::Eid;
use tracing::field;

use crate::driver::notices::Notices;
use crate::driver::wakers::Key;
use crate::error::TryError;
use crate::peer::Peer;
use crate::redaction::HostTag;
use crate::shared::{Handle, Inner, Shared};
use crate::waiting::until;

/// Names a stream of a host, and keeps both.
pub(crate) struct StreamRef {
    handle: Arc<Handle>,
    id: StreamId,
}

impl StreamRef {
    pub(crate) fn new(handle: Arc<Handle>, id: StreamId) -> Self {
        Self { handle, id }
    }

    fn sibling(&self, id: StreamId) -> Self {
        Self::new(Arc::clone(&self.handle), id)
    }

    pub(crate) fn id(&self) -> StreamId {
        self.id
    }

    /// The name of the peer, which is kept while a stream of it is held. Where a panic, or a copy of the process, has
    /// left a core that knows nobody: the name of nobody, zeros.
    pub(crate) fn eid(&self) -> Eid {
        let eid = self.call(|inner, _| inner.core.peer_eid(self.id.peer()));
        eid.unwrap_or_else(|| Eid::from_public_key(&[0; 32]))
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer::new(Arc::clone(&self.handle), self.id.peer(), self.eid())
    }

    /// Waits until the tree of the peer has ended. Keeps neither the stream nor the host.
    pub(crate) fn peer_gone(&self) -> impl Future<Output = CloseReason> + Send + use<> {
        let (shared, peer) = (Arc::clone(self.shared()), self.id.peer());
        async move { crate::peer::ended(&shared, peer).await }
    }

    /// A span with what the stream is called.
    pub(crate) fn span(&self) -> tracing::Span {
        let span = tracing::info_span!(
            "stream",
            peer = %HostTag::of(&self.eid()),
            id = %self.id,
            service = field::Empty,
            protocol = field::Empty,
        );
        if !span.is_disabled()
            && let Some((service, protocol)) = self.info().and_then(|info| info.names)
        {
            span.record("service", service).record("protocol", protocol);
        }
        span
    }

    pub(crate) fn info(&self) -> Option<StreamInfo> {
        self.call(|inner, _| inner.core.stream_info(self.id))
    }

    pub(crate) fn subtree_info(&self) -> Option<SubtreeInfo> {
        self.call(|inner, _| inner.core.subtree_info(self.id))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        self.handle.shared()
    }

    /// Runs a call of the application on the host.
    pub(crate) fn call<R>(&self, f: impl FnOnce(&mut Inner, Instant) -> R) -> R {
        self.handle.call(f)
    }

    pub(crate) fn open_substream(&self) -> Result<Self, OpenError> {
        let id = self.call(|inner, _| {
            inner.want_driver();
            inner.core.stream(self.id).open_substream()
        })?;
        Ok(self.sibling(id))
    }

    pub(crate) fn set_listen_mode(&self, mode: ListenMode) {
        self.call(|inner, _| {
            inner.core.stream(self.id).set_listen_mode(mode);
            inner.want_driver();
        });
    }

    pub(crate) fn set_priority(&self, level: i8) {
        self.call(|inner, _| inner.core.stream(self.id).set_priority(level));
    }

    pub(crate) fn set_padding(&self, padding: Padding) {
        self.call(|inner, _| inner.core.stream(self.id).set_padding(padding));
    }

    pub(crate) fn request_priority(&self, level: i8) {
        self.call(|inner, _| {
            inner.core.stream(self.id).request_priority(level);
            inner.want_driver();
        });
    }

    pub(crate) async fn accept_substream(&self) -> Result<Option<Self>, CloseReason> {
        let key = Key::Stream(self.id, Interest::Accept);
        let accepted = until(self.shared(), key, |inner, _| {
            let accepted = inner.core.stream(self.id).poll_accept_substream();
            inner.want_driver_if_ready();
            accepted
        });
        Ok(accepted.await?.map(|id| self.sibling(id)))
    }

    pub(crate) fn try_accept_substream(&self) -> Result<Option<Self>, TryError<CloseReason>> {
        let accepted = self.call(|inner, _| {
            let accepted = inner.core.stream(self.id).poll_accept_substream();
            inner.want_driver_if_ready();
            accepted
        });
        Ok(TryError::take(accepted)?.map(|id| self.sibling(id)))
    }
}

impl Drop for StreamRef {
    fn drop(&mut self) {
        let mut notices = Notices::default();
        self.call(|inner, now| {
            inner.core.stream(self.id).release();
            let peer = self.id.peer();
            if inner.core.is_connected(peer) == Some(false) {
                // Nobody may be left who wants to reach the peer.
                inner.core.abandon(now, peer);
            }
            inner.want_driver();
            inner.waiters.forget(self.id, &mut notices);
        });
        notices.deliver();
    }
}
