//! State that a host shares with a task beside its driver: what the task reports, and whether it is to end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

/// State that a host shares with a task of its own.
pub(crate) struct Desk<R> {
    report: Mutex<R>,
    /// The network of this machine has changed.
    changed: Notify,
    stage: watch::Sender<Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Open,
    Closing,
    Ended,
}

impl<R: Clone> Desk<R> {
    fn new(report: R) -> Self {
        Self {
            report: Mutex::new(report),
            changed: Notify::new(),
            stage: watch::Sender::new(Stage::Open),
        }
    }

    pub(crate) fn report(&self) -> R {
        self.lock().clone()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut R)) {
        change(&mut self.lock());
    }

    /// The network of this machine has changed.
    pub(crate) fn note_change(&self) {
        self.changed.notify_one();
    }

    /// Waits until the network of this machine has changed. Cancel safe.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The host goes: the task is to come to its end.
    pub(crate) fn close(&self) {
        self.reach(Stage::Closing);
    }

    /// The task has come to its end.
    pub(crate) fn end(&self) {
        self.reach(Stage::Ended);
    }

    /// Waits until the host goes.
    pub(crate) async fn closing(&self) {
        self.at(Stage::Closing).await;
    }

    /// Waits until the task has come to its end.
    #[cfg(any(test, feature = "port-mapping", feature = "mdns"))]
    pub(crate) async fn ended(&self) {
        self.at(Stage::Ended).await;
    }

    fn reach(&self, stage: Stage) {
        self.stage.send_if_modified(|present| {
            let is_new = *present < stage;
            *present = stage.max(*present);
            is_new
        });
    }

    async fn at(&self, stage: Stage) {
        // The sender lives as long as this does.
        let _ = self.stage.subscribe().wait_for(|present| *present >= stage).await;
    }

    fn lock(&self) -> MutexGuard<'_, R> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The host's end of a desk: when it is dropped, the host is gone.
pub(crate) struct HostsDesk<R: Clone>(Arc<Desk<R>>);

impl<R: Clone> HostsDesk<R> {
    pub(crate) fn new(report: R) -> Self {
        Self(Arc::new(Desk::new(report)))
    }

    pub(crate) fn desk(&self) -> &Arc<Desk<R>> {
        &self.0
    }
}

impl<R: Clone> Drop for HostsDesk<R> {
    fn drop(&mut self) {
        self.0.close();
    }
}
