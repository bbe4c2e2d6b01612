//! The orderly end of a host.
//!
//! ```text
//! Running --close--> Draining --all acknowledged, or time is up--> ShuttingDown --channels gone--> Stopped
//!    \--last handle dropped--> Abandoned --the driver closes-------/
//! ```

use std::sync::Arc;
use std::time::Duration;

use sss_proto::{CloseReason, Interest, MAX_CLOSING, SendState, StreamId, WriteError};
use sss_wire::Code;

use super::notices::Notices;
use super::wakers::Key;
use crate::lifecycle::{HostEnd, Lifecycle};
use crate::shared::{Inner, Shared};
use crate::waiting::{Answer, until};

/// Time for which acknowledgements are waited for, unless the application says otherwise.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
/// Time that the channels may take to be gone once CLOSE was sent, and the driver to notice.
const LINGER: Duration = MAX_CLOSING.saturating_add(Duration::from_secs(10));

/// Waits until what is finished is delivered, or time is up; then closes all channels. Says how many finished
/// streams are not known to have arrived.
pub(crate) async fn finish(shared: &Shared, timeout: Duration) -> usize {
    begin(shared);
    let mut failed = Vec::new();
    let in_time = tokio::time::timeout(timeout, drain(shared, &mut failed)).await.is_ok();
    shared.call(|inner, now| {
        if !in_time {
            failed.extend(unacknowledged(inner));
            failed.sort_unstable();
            failed.dedup();
        }
        if inner.phase < Lifecycle::ShuttingDown {
            inner.phase = Lifecycle::ShuttingDown;
            inner.core.shutdown(now);
            inner.want_driver();
        }
    });
    failed.len()
}

/// Waits until the driver has stopped, and the port is free.
pub(crate) async fn stopped(shared: &Arc<Shared>) {
    shared.call(|inner, _| inner.want_driver());
    // A driver whose runtime is not run any more would never stop.
    let _ = tokio::time::timeout(LINGER, end(shared)).await;
}

/// Ends when the driver has stopped, and its socket is closed. Does not keep the host.
pub(crate) fn end(shared: &Arc<Shared>) -> Answer<()> {
    shared.call(|inner, _| {
        if inner.phase >= Lifecycle::Stopped {
            return Answer::never();
        }
        Answer::over(shared, inner, Key::Stopped)
    })
}

fn begin(shared: &Shared) {
    let mut notices = Notices::default();
    shared.call(|inner, _| {
        inner.phase = inner.phase.max(Lifecycle::Draining);
        inner.waiters.wake_all_acceptors(&mut notices);
    });
    notices.deliver();
}

/// Waits until the end of every stream that was finished or reset is acknowledged. Adds those that never will be to
/// `failed`.
async fn drain(shared: &Shared, failed: &mut Vec<StreamId>) {
    loop {
        let mut waiting = shared.call(|inner, _| unacknowledged(inner));
        waiting.retain(|id| !failed.contains(id));
        if waiting.is_empty() {
            return;
        }
        for stream in waiting {
            if delivered(shared, stream).await.is_err() {
                failed.push(stream);
            }
        }
    }
}

/// Streams whose end was sent, or is to be sent, and not yet acknowledged.
fn unacknowledged(inner: &mut Inner) -> Vec<StreamId> {
    let mut ids = Vec::new();
    for (peer, _) in inner.core.peers() {
        let nodes = inner.core.tree(peer).into_iter();
        let ending = |state| matches!(state, SendState::Finishing | SendState::Resetting);
        ids.extend(nodes.filter(|node| ending(node.info.sending)).map(|node| node.id));
    }
    ids
}

/// Waits until everything sent on a stream, its end included, is acknowledged. The application need not hold it.
async fn delivered(shared: &Shared, stream: StreamId) -> Result<(), WriteError> {
    match drained(shared, stream).await {
        // The application has let go of it.
        Err(WriteError::Closed) => Ok(flushed(shared, stream, u64::MAX).await?),
        other => other,
    }
}

/// Waits until everything sent on a stream, its end included, is acknowledged.
pub(crate) async fn drained(shared: &Shared, stream: StreamId) -> Result<(), WriteError> {
    let key = Key::Stream(stream, Interest::Drained);
    until(shared, key, |inner, _| inner.core.stream(stream).poll_drained()).await
}

/// Waits until what was sent of a stream up to a position is acknowledged, and its end, if it has one. The application
/// need not hold it.
pub(crate) async fn flushed(shared: &Shared, stream: StreamId, end: u64) -> Result<(), CloseReason> {
    let key = Key::Stream(stream, Interest::Drained);
    until(shared, key, |inner, _| inner.core.stream(stream).poll_flushed(end)).await
}

/// The reason when the peer, and with it the reason, is forgotten by a host in this stage.
pub(crate) fn forgotten(phase: Lifecycle) -> CloseReason {
    match phase.end() {
        HostEnd::Failed => CloseReason::HostFailed,
        HostEnd::Closed => CloseReason::Local {
            code: Code::NONE,
            reason: "the tree of streams ended earlier".to_owned(),
        },
    }
}
