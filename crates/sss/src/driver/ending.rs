//! The end of a driver. Nobody must wait for one that is gone: because the host was closed, because its runtime goes
//! away, or because it has panicked, which has a reason of its own.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::notifications::Notifications;
use crate::lifecycle::Lifecycle;
use crate::redaction::HostTag;
use crate::shared::Shared;

/// Guard for the end: all that is left ends when it is dropped.
pub(super) struct End(Arc<Shared>);

impl End {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }
}

/// Runs a part of the driver. The error is what it has panicked with, of which the panic hook has told already.
pub(super) fn caught<R>(part: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(part))
}

/// The driver has panicked: the host has failed, and those whose time had come are still woken.
pub(super) fn fail(shared: &Shared, panic: &(dyn Any + Send), notifications: &mut Notifications) {
    let words = panic.downcast_ref::<&str>().copied();
    let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let host = HostTag::of(&shared.eid());
    tracing::error!(%host, panic = words.unwrap_or_default(), "the driver has panicked: the host has failed");
    shared.drive(|inner, _| inner.phase = Lifecycle::Failed);
    deliver(shared, notifications);
}

/// Wakes all. A waker that panics does not keep the others from being woken.
fn deliver(shared: &Shared, notifications: &mut Notifications) {
    while caught(|| notifications.deliver(shared.eid(), usize::MAX)).is_err() {}
}

impl Drop for End {
    fn drop(&mut self) {
        let Self(shared) = self;
        let mut notifications = Notifications::default();
        let stopped = caught(|| {
            shared.drive(|inner, now| inner.stop(now, |inner, event| notifications.take(inner, event)));
        });
        let woken = caught(|| {
            shared.drive(|inner, _| {
                if stopped.is_err() {
                    inner.give_up();
                }
                notifications.wake_all(inner);
            });
        });
        if woken.is_err() {
            tracing::error!("tasks may wait for a host that has failed");
        }
        deliver(shared, &mut notifications);
    }
}
