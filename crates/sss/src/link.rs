//! The way to a peer: up, stalled or down.

use std::fmt;
use std::sync::{Arc, Weak};

use sss_proto::{LinkStatus, PeerId};
use tokio::sync::watch;

use crate::shared::Shared;

/// Follows the way to a peer. See [`crate::Peer::link`].
///
/// Streams need not be watched: they wait while the peer cannot be reached, and go on when it can.
#[derive(Clone)]
pub struct LinkWatch {
    receiver: watch::Receiver<LinkStatus>,
    /// Dropped after the receiver: then it is seen whether there is another one.
    _watched: Option<Watched>,
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
            receiver,
            _watched: Some(Watched { host, peer }),
        }
    }

    /// Of a way that ended earlier.
    pub(crate) fn ended(status: LinkStatus) -> Self {
        Self {
            receiver: watch::channel(status).1,
            _watched: None,
        }
    }

    /// How it is now.
    pub fn status(&self) -> LinkStatus {
        self.receiver.borrow().clone()
    }

    /// Waits for the next change, and says how it is then. `None` once the streams shared with the peer have ended: the last
    /// status, which [`Self::status`] still tells, is then [`LinkStatus::Down`] for good.
    ///
    /// Changes that follow each other quickly may be seen as one. Cancel safe.
    pub async fn changed(&mut self) -> Option<LinkStatus> {
        self.receiver.changed().await.ok()?;
        Some(self.receiver.borrow_and_update().clone())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(shared) = self.host.upgrade() {
            drop(shared.tend(|inner| inner.waiters.unwatch_link(self.peer)));
        }
    }
}

impl fmt::Debug for LinkWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LinkWatch").field(&self.status()).finish()
    }
}
