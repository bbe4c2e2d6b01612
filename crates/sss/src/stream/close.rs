//! Waiting for a stream and what is below it.

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use sss_proto::WriteError;

use super::stream_ref::StreamRef;
use crate::driver::closing::{drained, flushed};
use crate::error::StreamCloseError;

/// Waits until all that this host has sent on the stream and below it is acknowledged, and says what never will be.
pub(crate) async fn wait(stream: &StreamRef) -> Result<(), StreamCloseError> {
    let own = drained(stream.shared(), stream.id()).await;
    own.map_err(StreamCloseError::Stream)?;
    let mut seen = HashSet::<_, RandomState>::default();
    loop {
        // Others may have been opened while some were waited for.
        let mut waiting = stream.call(|inner, _| inner.core.undelivered(stream.id()));
        waiting.retain(|(id, _)| seen.insert(*id));
        if waiting.is_empty() {
            break;
        }
        for (id, end) in waiting {
            let lost = flushed(stream.shared(), id, end).await;
            lost.map_err(|reason| StreamCloseError::Stream(WriteError::Lost(reason)))?;
        }
    }
    let delivery = stream
        .call(|inner, _| inner.core.delivery(stream.id()))
        .unwrap_or_default();
    if let Some((code, reason)) = delivery.first {
        return Err(StreamCloseError::Substreams {
            failed: usize::try_from(delivery.undelivered).unwrap_or(usize::MAX),
            first: WriteError::Stopped { code, reason },
        });
    }
    match usize::try_from(delivery.unfinished).unwrap_or(usize::MAX) {
        0 => Ok(()),
        streams => Err(StreamCloseError::Unfinished { streams }),
    }
}
