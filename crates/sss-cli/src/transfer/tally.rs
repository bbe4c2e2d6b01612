//! Count of what a transfer has done so far, counted by its tasks and read by whoever shows it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use sss_files::{Attributes, Refusal, RelPath, Status, Traits};

/// Failures kept until somebody looks; more are only counted.
const MOST_UNTOLD: usize = 1000;

/// A number that many tasks add to.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub(crate) fn add(&self, count: u64) {
        let add = |sum: u64| Some(sum.saturating_add(count));
        // It always is some.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Takes off what was added.
    fn take_off(&self, count: u64) {
        let take = |sum: u64| Some(sum.saturating_sub(count));
        // It always is some.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
    }

    /// The sum so far.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One attempt to transfer a file, and the bytes that it has moved.
#[derive(Debug)]
pub(crate) struct Attempt<'t> {
    tally: &'t Tally,
    bytes: Counter,
    /// Bytes that were there when it began.
    kept: Counter,
}

impl Attempt<'_> {
    /// Counts bytes that went over the network.
    pub(crate) fn moved(&self, bytes: u64) {
        self.bytes.add(bytes);
        self.tally.bytes_moved.add(bytes);
    }

    /// Counts bytes that were there already: from there on the file is continued.
    pub(crate) fn kept(&self, bytes: u64) {
        self.kept.add(bytes);
        self.tally.bytes_kept.add(bytes);
    }

    /// The whole file was there.
    pub(crate) fn kept_all(&self, size: u64) {
        self.tally.bytes_kept.take_off(self.kept.get());
        self.tally.kept(size);
    }

    /// Takes off what it has counted: another attempt counts all that the file has.
    pub(crate) fn take_back(self) {
        self.tally.bytes_moved.take_off(self.bytes.get());
        self.tally.bytes_kept.take_off(self.kept.get());
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
    /// Files that have other names, too.
    linked: Counter,
    failures: Mutex<Failures>,
}

#[derive(Debug, Default)]
struct Failures {
    count: u64,
    corrupt: bool,
    untold: Vec<Failure>,
    /// Those that were too many to be told.
    left_out: u64,
    /// Said and no failures.
    notes: Vec<String>,
}

impl Tally {
    /// Counts a regular file to be transferred.
    pub(crate) fn found(&self, attributes: &Attributes) {
        self.files_found.add(1);
        self.bytes_found.add(attributes.size);
        self.linked.add(attributes.traits.contains(Traits::LINKED).into());
    }

    /// Begins to count an attempt to transfer a file.
    pub(crate) fn attempt(&self) -> Attempt<'_> {
        Attempt {
            tally: self,
            bytes: Counter::default(),
            kept: Counter::default(),
        }
    }

    /// Notes how many files had other names, too, if there were any.
    pub(crate) fn tell_of_links(&self) {
        match self.linked.get() {
            0 => {}
            count => self.note(format!(
                "files that have several names at the source (hard links), each of which became a file of its own: {count}"
            )),
        }
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
        if failures.untold.len() < MOST_UNTOLD {
            failures.untold.push(Failure { path, refusal });
        } else {
            failures.left_out = failures.left_out.saturating_add(1);
        }
    }

    /// Says something that is no failure, for people and programs.
    pub(crate) fn note(&self, text: String) {
        self.failures().notes.push(text);
    }

    /// Says what there is to say, if there is anything.
    pub(crate) fn note_all(&self, texts: impl IntoIterator<Item = String>) {
        self.failures().notes.extend(texts);
    }

    /// Notes since the last call.
    pub(crate) fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.failures().notes)
    }

    /// Failures since the last call.
    pub(crate) fn take_failures(&self) -> Vec<Failure> {
        std::mem::take(&mut self.failures().untold)
    }

    /// Number of failures since the last call that were too many to be told one by one.
    pub(crate) fn take_left_out(&self) -> u64 {
        std::mem::take(&mut self.failures().left_out)
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
