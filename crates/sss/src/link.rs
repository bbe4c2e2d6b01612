//! The way to a peer: up, stalled or down.

use std::fmt;

use sss_proto::LinkStatus;
use tokio::sync::watch;

/// Follows the way to a peer. See [`crate::Peer::link`].
///
/// Streams need not be watched: they wait while the peer cannot be reached, and go on when it can.
#[derive(Clone)]
pub struct LinkWatch {
    receiver: watch::Receiver<LinkStatus>,
}

impl LinkWatch {
    pub(crate) fn new(receiver: watch::Receiver<LinkStatus>) -> Self {
        Self { receiver }
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

impl fmt::Debug for LinkWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LinkWatch").field(&self.status()).finish()
    }
}
