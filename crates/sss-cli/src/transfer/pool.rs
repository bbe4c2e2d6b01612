//! Many files at once, but not more than is useful.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::exchange::TransferError;
use super::limits;
use super::rate::Rate;

/// Bytes of files under way, together.
const BYTES: u64 = 32 << 20;
/// A file counts for at least this much, so that there are at most 256.
const LEAST: u64 = 128 << 10;
/// A file counts for at most this much, so that there are at least 8.
const MOST: u64 = 4 << 20;
/// Bytes of one permit.
const UNIT: u64 = 4 << 10;

/// Tasks that each transfer one file.
pub(crate) struct TransferPool {
    room: Arc<Semaphore>,
    /// Permits that there are.
    permits: u32,
    tasks: JoinSet<Result<(), TransferError>>,
}

impl TransferPool {
    /// Nobody yet. Files that come at a limited rate are under way for two seconds each, or longer one by one: what
    /// makes no progress only costs.
    pub(crate) fn new(limit: Option<Rate>) -> Self {
        let bytes = limit.map_or(BYTES, |rate| {
            rate.bytes_per_second().saturating_mul(2).clamp(LEAST, BYTES)
        });
        let permits = (bytes / UNIT) as u32;
        // Each may have a file open and, on the way there, a directory and the one above it.
        let files = u32::try_from(limits::descriptors_left() / 3).unwrap_or(u32::MAX);
        let permits = permits.min(files.max(1).saturating_mul((LEAST / UNIT) as u32));
        Self {
            room: Arc::new(Semaphore::new(permits as usize)),
            permits,
            tasks: JoinSet::new(),
        }
    }

    /// Starts a task for a file of `size` bytes when there is room for it.
    ///
    /// # Errors
    /// The first error of a task: then all are to be stopped, by dropping the pool.
    pub(crate) async fn start(
        &mut self,
        size: u64,
        task: impl Future<Output = Result<(), TransferError>> + Send + 'static,
    ) -> Result<(), TransferError> {
        let permits = ((size.clamp(LEAST, MOST) / UNIT) as u32).min(self.permits);
        let room = self.room.clone().acquire_many_owned(permits).await;
        self.tasks.spawn(async move {
            let result = task.await;
            drop(room);
            result
        });
        while let Some(done) = self.tasks.try_join_next() {
            flatten(done)?;
        }
        Ok(())
    }

    /// Returns the number of tasks that have not ended, or whose end nobody has seen yet.
    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Waits for all.
    ///
    /// # Errors
    /// The first error of a task; the others are stopped.
    pub(crate) async fn finish(mut self) -> Result<(), TransferError> {
        while let Some(done) = self.tasks.join_next().await {
            flatten(done)?;
        }
        Ok(())
    }
}

fn flatten(done: Result<Result<(), TransferError>, tokio::task::JoinError>) -> Result<(), TransferError> {
    match done {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Nobody aborts a single task.
            Err(_) => Ok(()),
        },
    }
}
