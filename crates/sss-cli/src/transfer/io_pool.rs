//! Threads that touch the disk: a few threads, so that a slow disk never holds up packets.

use tokio::task::JoinHandle;

/// Threads for blocking work: two, so that one can wait for the disk, and more where there are more processors. Threads
/// that create files in one directory wait for each other, so that many only cost time.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8))
}

/// Work handed to the pool. It runs to its end even if nobody waits for it.
pub(crate) struct Job<T>(JoinHandle<T>);

/// Hands work to the pool.
pub(crate) fn start<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Job<T> {
    Job(tokio::task::spawn_blocking(work))
}

/// Hands work to the pool and waits for its result.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    start(work).result().await
}

impl<T> Job<T> {
    /// Returns whether there is a result to be had without waiting.
    pub(crate) fn is_done(&self) -> bool {
        self.0.is_finished()
    }

    /// The result. A panic of the work goes on here.
    pub(crate) async fn result(self) -> T {
        match self.0.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is ending, and this task with it.
                Err(_) => std::future::pending().await,
            },
        }
    }
}
