//! The way to a peer: up, stalled or down.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use sss_proto::{LinkStatus, PeerId};
use tokio::sync::watch;

use crate::shared::Shared;

/// Follows the way to a peer. See [`crate::Peer::link`].
///
/// Streams need not be watched: they wait while the peer cannot be reached, and go on when it can.
///
/// As a `futures` `Stream` it gives what [`Self::changed`] does.
#[derive(Clone)]
pub struct LinkWatch {
    next: Next,
    receiver: watch::Receiver<LinkStatus>,
    /// Dropped after the receiver: then it is seen whether there is another one.
    watched: Option<Watched>,
}

/// That a peer is watched.
#[derive(Clone)]
struct Watched {
    host: Weak<Shared>,
    peer: PeerId,
}

impl LinkWatch {
    pub(crate) fn new(receiver: watch::Receiver<LinkStatus>, host: &Arc<Shared>, peer: PeerId) -> Self {
        let host = Arc::downgrade(host);
        Self {
            next: Next::default(),
            receiver,
            watched: Some(Watched { host, peer }),
        }
    }

    /// Of a way that ended earlier.
    pub(crate) fn ended(status: LinkStatus) -> Self {
        Self {
            next: Next::default(),
            receiver: watch::channel(status).1,
            watched: None,
        }
    }

    /// Returns its present state.
    pub fn status(&self) -> LinkStatus {
        self.receiver.borrow().clone()
    }

    /// Waits for the next change, and says how it is then. `None` once the streams shared with the peer have ended: the
    /// last status, which [`Self::status`] still tells, is then [`LinkStatus::Down`] for good.
    ///
    /// Changes that follow each other quickly may be seen as one. Cancel safe.
    pub async fn changed(&mut self) -> Option<LinkStatus> {
        let receiver = &mut self.receiver;
        if !or_forked(self.watched.as_ref(), async { receiver.changed().await.is_ok() }).await {
            return None;
        }
        Some(self.receiver.borrow_and_update().clone())
    }
}

/// Waits for `changed`; false in a copy of the process (fork), in which nothing changes any more.
async fn or_forked(watched: Option<&Watched>, changed: impl Future<Output = bool>) -> bool {
    let mut changed = pin!(changed);
    poll_fn(|cx| poll_or_forked(watched, || changed.as_mut().poll(cx))).await
}

fn poll_or_forked(watched: Option<&Watched>, mut poll: impl FnMut() -> Poll<bool>) -> Poll<bool> {
    let polled = poll();
    if polled.is_ready() || !watched.is_some_and(Watched::end_if_forked) {
        return polled;
    }
    // Who would tell it may have been locked away with the host, by a thread that is not there.
    Poll::Ready(poll() == Poll::Ready(true))
}

impl Watched {
    fn end_if_forked(&self) -> bool {
        self.host.upgrade().is_some_and(|shared| shared.end_if_forked())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(shared) = self.host.upgrade() {
            drop(shared.tend(|inner| inner.waiters.unwatch_link(self.peer)));
        }
    }
}

/// The wait for the next change, of a watch that is used as a stream. A clone waits anew.
#[derive(Default)]
struct Next(Option<Pin<Box<dyn Future<Output = bool> + Send + Sync>>>);

impl Clone for Next {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Next {
    /// Ready when there is a status that `receiver` has not seen; false if there never will be.
    fn poll(&mut self, receiver: &watch::Receiver<LinkStatus>, cx: &mut Context<'_>) -> Poll<bool> {
        let next = self.0.get_or_insert_with(|| {
            let mut receiver = receiver.clone();
            Box::pin(async move { receiver.changed().await.is_ok() })
        });
        let has_changed = ready!(next.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(has_changed)
    }
}

impl futures_core::Stream for LinkWatch {
    type Item = LinkStatus;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<LinkStatus>> {
        let this = self.get_mut();
        loop {
            let (next, receiver) = (&mut this.next, &this.receiver);
            let has_changed = ready!(poll_or_forked(this.watched.as_ref(), || next.poll(receiver, cx)));
            let status = this.receiver.borrow_and_update();
            // Not if `changed` was called meanwhile, and has told of it.
            if status.has_changed() {
                return Poll::Ready(Some(status.clone()));
            }
            if !has_changed {
                return Poll::Ready(None);
            }
        }
    }
}

impl fmt::Debug for LinkWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LinkWatch").field(&self.status()).finish()
    }
}
