//! Sign between the driver and the task of the directory.

use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

/// Sign by which the driver says that there are orders.
#[derive(Default)]
pub(crate) struct DirectoryDesk(OnceLock<Arc<Notify>>);

impl DirectoryDesk {
    /// Orders are waited for.
    pub(crate) fn open(&self, orders: &Arc<Notify>) {
        let _ = self.0.set(Arc::clone(orders));
    }

    /// There are orders.
    pub(crate) fn notify(&self) {
        if let Some(orders) = self.0.get() {
            orders.notify_one();
        }
    }
}
