//! The orderly end of a host.
//!
//! ```text
//! Running --close--> Draining --all acknowledged, or time is up--> ShuttingDown --channels gone--> Stopped
//!    \--last handle dropped--> Abandoned --the driver closes-------/
//! ```

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use sss_proto::{CloseReason, MAX_CLOSING, SendState, StreamId, WriteError};
use sss_wire::Code;

use super::wakers::Wait;
use crate::shared::{Inner, Phase, Shared};

/// How long acknowledgements are waited for, unless the application says otherwise.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the channels may take to be gone once CLOSE was sent, and the driver to notice.
const LINGER: Duration = MAX_CLOSING.saturating_add(Duration::from_millis(500));

/// Longest time between two looks at a stream that tells nobody when it is done.
const MAX_PAUSE: Duration = Duration::from_millis(32);

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
        if inner.phase < Phase::ShuttingDown {
            inner.phase = Phase::ShuttingDown;
            inner.core.shutdown(now);
            inner.want_driver();
        }
    });
    failed.len()
}

/// Waits until the driver has stopped.
pub(crate) async fn stopped(shared: &Shared) {
    let stopped = shared.call(|inner, _| {
        inner.want_driver();
        (inner.phase < Phase::Stopped).then(|| inner.waiters.stopped())
    });
    if let Some(stopped) = stopped {
        // Either way the channels are closed; what would follow are answers to late packets.
        let _ = tokio::time::timeout(LINGER, stopped).await;
    }
}

fn begin(shared: &Shared) {
    let mut wakes: Vec<Waker> = Vec::new();
    shared.call(|inner, _| {
        inner.phase = inner.phase.max(Phase::Draining);
        inner.waiters.wake_acceptors(&mut wakes);
    });
    for waker in wakes {
        waker.wake();
    }
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

/// The streams below `root` that this host opened, and of which not everything is known to be delivered. Takes time in
/// proportion to the tree, unless there is nothing below `root`.
pub(crate) fn subtree(inner: &Inner, root: StreamId) -> Vec<StreamId> {
    if inner.core.stream_info(root).is_some_and(|info| info.children == 0) {
        return Vec::new();
    }
    let mut below: HashSet<StreamId, RandomState> = std::iter::once(root).collect();
    let mut ours = Vec::new();
    // Parents come before children.
    for node in inner.core.tree(root.peer()) {
        if node.parent.is_some_and(|parent| below.contains(&parent)) {
            below.insert(node.id);
            if !node.info.is_opened_by_peer && node.info.sending != SendState::Done {
                ours.push(node.id);
            }
        }
    }
    ours
}

/// What is known about the delivery of a stream.
enum Delivery {
    Known(Result<(), WriteError>),
    /// Undecided, and nobody will be told when it is: the application has let go of the stream.
    Untold,
}

/// Waits until everything sent on a stream, its end included, is acknowledged. The application need not hold it.
pub(crate) async fn delivered(shared: &Shared, stream: StreamId) -> Result<(), WriteError> {
    let mut pause = Duration::from_millis(1);
    loop {
        match std::future::poll_fn(|cx| poll_delivery(shared, stream, cx)).await {
            Delivery::Known(result) => return result,
            Delivery::Untold => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

fn poll_delivery(shared: &Shared, stream: StreamId, cx: &mut Context<'_>) -> Poll<Delivery> {
    shared.call(|inner, _| match inner.core.is_drained(stream) {
        Ok(true) => Poll::Ready(Delivery::Known(Ok(()))),
        Ok(false) => {
            inner.waiters.wait(stream, Wait::Drained, cx.waker());
            Poll::Pending
        }
        Err(WriteError::Closed) => Poll::Ready(of_released(inner, stream)),
        Err(error) => Poll::Ready(Delivery::Known(Err(error))),
    })
}

/// The delivery of a stream that the application does not hold, and that was undecided before.
fn of_released(inner: &Inner, stream: StreamId) -> Delivery {
    let info = inner.core.stream_info(stream);
    if let Some(SendState::Done | SendState::Aborted) = info.as_ref().map(|info| info.sending) {
        return Delivery::Known(Ok(()));
    }
    let peer = stream.peer();
    if let Some(reason) = inner.core.close_reason(peer) {
        return Delivery::Known(Err(WriteError::Lost(reason)));
    }
    match (info, inner.core.is_connected(peer)) {
        (Some(_), _) => Delivery::Untold,
        // Retired, so both its directions are done.
        (None, Some(_)) => Delivery::Known(Ok(())),
        (None, None) => Delivery::Known(Err(WriteError::Lost(forgotten()))),
    }
}

/// The reason when the peer, and with it the reason, is forgotten.
pub(crate) fn forgotten() -> CloseReason {
    CloseReason::Local {
        code: Code::NONE,
        reason: "the channel ended earlier".to_owned(),
    }
}
