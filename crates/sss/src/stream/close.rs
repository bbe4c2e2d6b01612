//! Waiting for a stream and what was opened below it.

use foldhash::fast::RandomState;
use hashbrown::HashSet;

use super::link::Link;
use super::write::poll_drained;
use crate::driver::closing::{delivered, subtree};
use crate::error::StreamCloseError;

/// Waits until all that this host sends on the stream and below it is acknowledged.
pub(crate) async fn wait(link: &Link) -> Result<(), StreamCloseError> {
    let own = std::future::poll_fn(|cx| poll_drained(link, cx)).await;
    own.map_err(StreamCloseError::Stream)?;
    let mut seen = HashSet::<_, RandomState>::default();
    let mut failed = 0;
    let mut first = None;
    loop {
        // Others may have been opened while some were waited for.
        let mut waiting = link.call(|inner, _| subtree(inner, link.id()));
        waiting.retain(|id| seen.insert(*id));
        if waiting.is_empty() {
            break;
        }
        for substream in waiting {
            if let Err(error) = delivered(link.shared(), substream).await {
                failed += 1;
                first.get_or_insert(error);
            }
        }
    }
    first.map_or(Ok(()), |first| Err(StreamCloseError::Substreams { failed, first }))
}
