//! The time window in which operations count: after the warm-up, the same for all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::control::Work;
use crate::outcome::Outcome;
use crate::setup::Setup;
use crate::stats::{Latencies, Quantiles};

/// Name of the moment at which the window opens.
pub(crate) const BEGIN: &str = "begin";
/// Name of the moment at which the window closes.
pub(crate) const END: &str = "end";

/// Time that workers may take to finish one operation.
const PATIENCE: Duration = Duration::from_secs(10);

const WARMING: u8 = 0;
const OPEN: u8 = 1;
const CLOSED: u8 = 2;

/// Shared by all workers of a measurement.
#[derive(Clone, Default)]
pub(crate) struct Window {
    phase: Arc<AtomicU8>,
    work: Work,
}

impl Window {
    /// Returns whether workers should begin another operation.
    pub(crate) fn goes_on(&self) -> bool {
        self.phase.load(Ordering::Relaxed) != CLOSED
    }

    /// Notes progress of an operation without an end of its own.
    pub(crate) fn progressed(&self, count: u64) {
        self.work.add(count);
    }

    /// Tells the parent that a named moment has come.
    pub(crate) fn mark(&self, name: &str) -> Outcome<()> {
        self.work.mark(name)
    }

    /// Notes that an operation begun at `start` is complete.
    pub(crate) fn completed(&self, start: Instant, latencies: &mut Latencies) {
        self.work.add(1);
        if self.phase.load(Ordering::Relaxed) == OPEN {
            latencies.record(start.elapsed().as_nanos());
        }
    }

    /// Lets the workers run through warm-up and window, then gathers what they recorded. Fails at once if one fails.
    pub(crate) async fn gather(&self, setup: &Setup, mut workers: JoinSet<Outcome<Latencies>>) -> Outcome<Quantiles> {
        tokio::select! {
            result = self.pass(setup) => result?,
            Some(ended) = workers.join_next() => {
                ended??;
                return Err("a worker ended before the measurement did".into());
            }
        }
        let mut latencies = Latencies::default();
        let rest = async {
            while let Some(ended) = workers.join_next().await {
                latencies.append(ended??);
            }
            Outcome::Ok(())
        };
        timeout(PATIENCE, rest)
            .await
            .map_err(|_| "the last operations did not complete")??;
        Ok(latencies.quantiles())
    }

    /// Keeps the window open until something has been done in it: on a machine busy with other things a short one may
    /// pass without.
    async fn overtime(&self, before: u64) -> Outcome<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.work.count() == before {
            if Instant::now() > deadline {
                return Err("nothing was completed".into());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    async fn pass(&self, setup: &Setup) -> Outcome<()> {
        self.phase.store(WARMING, Ordering::Relaxed);
        sleep(setup.warmup()).await;
        self.phase.store(OPEN, Ordering::Relaxed);
        self.work.mark(BEGIN)?;
        let before = self.work.count();
        sleep(setup.window()).await;
        self.overtime(before).await?;
        self.work.mark(END)?;
        self.phase.store(CLOSED, Ordering::Relaxed);
        Ok(())
    }
}
