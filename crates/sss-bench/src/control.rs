//! Reports of client and server processes to their parent, on standard output.

use std::io::{Write as _, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use crate::setup::Address;
use crate::stats::Quantiles;
use crate::usage::Snapshot;

/// Report of the client to its parent.
#[derive(Serialize, Deserialize)]
pub(crate) enum ClientLine {
    /// A named moment: the parent takes the server's usage, too.
    Mark { name: String, snapshot: Snapshot },
    /// The measurement is complete.
    Done { quantiles: Quantiles },
}

/// Report of the server to its parent.
#[derive(Serialize, Deserialize)]
pub(crate) enum ServerLine {
    /// Connections are accepted from now on.
    Ready(Address),
    /// Answer to a line of input.
    Usage(Snapshot),
}

/// Count of what a process has done: bytes received or requests completed.
#[derive(Clone, Default)]
pub(crate) struct Work(Arc<AtomicU64>);

impl Work {
    /// Adds to the count.
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The count so far.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Usage of this process at this moment.
    pub(crate) fn snapshot(&self) -> Outcome<Snapshot> {
        Snapshot::take(self.count())
    }

    /// Tells the parent that a named moment has come.
    pub(crate) fn mark(&self, name: &str) -> Outcome<()> {
        say(&ClientLine::Mark {
            name: name.to_owned(),
            snapshot: self.snapshot()?,
        })
    }
}

/// Writes a line.
pub(crate) fn say(message: &impl Serialize) -> Outcome<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let mut output = stdout().lock();
    output.write_all(&line)?;
    Ok(output.flush()?)
}
