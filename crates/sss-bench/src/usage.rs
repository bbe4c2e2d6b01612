//! Resources that this process has used so far.

use std::fs;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;

/// Usage of one process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// The machine's monotonic clock in nanoseconds: the same in both processes.
    pub(crate) at: u64,
    /// CPU time of all threads so far, user and system, in nanoseconds.
    pub(crate) cpu: u64,
    /// Resident memory in bytes.
    pub(crate) rss: u64,
    /// Work that the process has done so far: bytes received, or requests completed.
    pub(crate) work: u64,
}

impl Snapshot {
    /// Takes the usage of this process now; `work` is the caller's own count.
    pub(crate) fn take(work: u64) -> Outcome<Self> {
        Ok(Self {
            at: clock(ClockId::Monotonic),
            cpu: clock(ClockId::ProcessCPUTime),
            rss: resident()?,
            work,
        })
    }

    /// Usage since an earlier moment. Memory that shrank counts as zero.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            at: self.at.saturating_sub(earlier.at),
            cpu: self.cpu.saturating_sub(earlier.cpu),
            rss: self.rss.saturating_sub(earlier.rss),
            work: self.work.saturating_sub(earlier.work),
        }
    }

    /// Time in seconds, of a difference.
    pub(crate) fn seconds(&self) -> f64 {
        self.at as f64 / 1e9
    }

    /// CPU time in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.cpu as f64 / 1e9
    }
}

/// A clock's reading in nanoseconds. The process CPU clock is what `getrusage` sums, at full resolution.
fn clock(id: ClockId) -> u64 {
    let time = clock_gettime(id);
    let nanoseconds = i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    u64::try_from(nanoseconds).unwrap_or(0)
}

/// Resident memory in bytes: the second number of `/proc/self/statm` counts pages.
fn resident() -> Outcome<u64> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text
        .split_whitespace()
        .nth(1)
        .ok_or("unexpected form of /proc/self/statm")?
        .parse()?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// Raises the limit on open files to what the system allows: a connection over TCP takes one.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // A lower limit shows itself as a failed connection, with its own message.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// The number of files that this process may have open; `None` if there is no limit.
pub(crate) fn file_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_costs_cpu_and_memory() {
        let before = Snapshot::take(1).expect("snapshot");
        let block = std::hint::black_box(vec![1_u8; 32 << 20]);
        let after = Snapshot::take(5).expect("snapshot");
        let used = after.since(&before);
        assert_eq!(used.work, 4);
        assert!(used.rss >= 30 << 20, "{used:?}");
        assert!(used.cpu > 0 && used.at > 0, "{used:?}");
        assert_eq!(block.len(), 32 << 20);
    }

    #[test]
    fn differences_never_wrap() {
        let early = Snapshot {
            at: 5,
            cpu: 5,
            rss: 5,
            work: 5,
        };
        assert_eq!(Snapshot::default().since(&early), Snapshot::default());
    }
}
