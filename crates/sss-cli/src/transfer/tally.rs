//! Count of what a transfer has done so far, counted by its tasks and read by whoever shows it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use sss_files::{Refusal, RelPath, Status};

/// A number that many tasks add to.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The sum so far.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A file, directory or link that was not transferred.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) path: RelPath,
    pub(crate) refusal: Refusal,
}

/// Counts of one transfer.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Regular files there are to transfer, and their bytes.
    pub(crate) files_found: Counter,
    pub(crate) bytes_found: Counter,
    /// The list of them is complete.
    pub(crate) all_found: AtomicBool,
    /// Files that went over the network, and bytes of content that did.
    pub(crate) files_moved: Counter,
    pub(crate) bytes_moved: Counter,
    /// Files that were there already, and bytes that were: of these files and of continued ones.
    pub(crate) files_kept: Counter,
    pub(crate) bytes_kept: Counter,
    pub(crate) directories: Counter,
    pub(crate) links: Counter,
    /// Devices, sockets and the like.
    pub(crate) skipped: Counter,
    failures: Mutex<Failures>,
    notes: Mutex<Vec<String>>,
}

#[derive(Debug, Default)]
struct Failures {
    count: u64,
    corrupt: bool,
    untold: Vec<Failure>,
}

impl Tally {
    /// Counts a regular file to be transferred.
    pub(crate) fn found(&self, size: u64) {
        self.files_found.add(1);
        self.bytes_found.add(size);
    }

    /// Counts a file that is there already.
    pub(crate) fn kept(&self, size: u64) {
        self.files_kept.add(1);
        self.bytes_kept.add(size);
    }

    /// Counts what was not transferred.
    pub(crate) fn fail(&self, path: RelPath, refusal: Refusal) {
        let mut failures = self.failures();
        failures.count = failures.count.saturating_add(1);
        failures.corrupt |= refusal.status == Status::Corrupt;
        failures.untold.push(Failure { path, refusal });
    }

    /// Says something that is no failure, for people and programs.
    pub(crate) fn note(&self, text: String) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// Notes since the last call.
    pub(crate) fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Failures since the last call.
    pub(crate) fn take_failures(&self) -> Vec<Failure> {
        std::mem::take(&mut self.failures().untold)
    }

    /// Returns how many failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failures().count
    }

    /// Returns whether the content of a file arrived wrong.
    pub(crate) fn corrupt(&self) -> bool {
        self.failures().corrupt
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
