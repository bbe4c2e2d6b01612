//! LIST: a listing on its way out of the server, within the server's limits.

use std::sync::Arc;

use sss_files::{Entry, Refusal, RelPath, Status};

use super::exchange::{Exchange, TransferError};
use super::filter::Sieve;
use super::io_pool;
use super::leaving::left;
use super::limits::Claim;
use super::manifest::Walk;
use crate::transfer::safe_path::Root;

/// Bytes of a listing sent together.
const BATCH: usize = 32 << 10;
/// Longest entry: path, attributes and target, or refusal.
const LONGEST: usize = 16 << 10;
/// Descriptors that a walk may have open.
const DESCRIPTORS: u64 = 8;

/// A listing that a peer asked for.
pub(crate) struct List<'c> {
    pub(crate) root: Arc<Root>,
    pub(crate) path: RelPath,
    pub(crate) depth: u8,
    pub(crate) sieve: Sieve,
    pub(crate) claim: &'c Claim,
}

/// Entries that are still to come.
type Rest = Box<dyn Iterator<Item = Entry> + Send>;

impl List<'_> {
    /// Answers, until everything is in the stream. While it pauses it holds no directory: it begins again behind what
    /// it has told already.
    ///
    /// # Errors
    /// If there is nothing at the path, or the peer does not want it.
    pub(crate) async fn answer(&self, exchange: &mut Exchange) -> Result<(), TransferError> {
        let mut told: Option<RelPath> = None;
        loop {
            let walk = self.claim.walk().await;
            let descriptors = self.claim.descriptor(DESCRIPTORS).await;
            self.claim.resumed();
            let rest = self.rest(told.clone()).await?;
            if !exchange.has_said_something() {
                exchange.send(vec![Status::Ok as u8]).await?;
            }
            if self.stretch(rest, &mut told, exchange).await? {
                return exchange.finish();
            }
            drop((walk, descriptors));
            self.claim.paused();
            exchange.sent().await?;
        }
    }

    /// The entries behind those that were told.
    async fn rest(&self, told: Option<RelPath>) -> Result<Rest, Refusal> {
        let (root, path, depth) = (self.root.clone(), self.path.clone(), self.depth);
        let sieve = self.sieve.clone();
        let open = move || {
            let walk = Walk::new(&root, &path, depth)?.sieved(sieve.clone());
            Ok(match told.clone() {
                Some(told) => Box::new(walk.skip_while(move |entry| !is_behind(&entry.path, &told))) as Rest,
                None => Box::new(walk),
            })
        };
        self.claim.opening(open).await
    }

    /// Sends batch after batch. False: it has to pause before the end.
    async fn stretch(
        &self,
        mut rest: Rest,
        told: &mut Option<RelPath>,
        exchange: &mut Exchange,
    ) -> Result<bool, TransferError> {
        loop {
            let room = tokio::select! {
                room = self.claim.room(BATCH.saturating_add(LONGEST)) => room,
                () = self.claim.called_to_pause() => return Ok(false),
            };
            let (read, last);
            (read, last, rest) = io_pool::run(move || {
                let (read, last) = batch(&mut rest);
                (read, last, rest)
            })
            .await;
            if read.is_empty() {
                return Ok(true);
            }
            *told = last;
            exchange.send(room.hold(read)).await?;
            if !left(exchange, self.claim).await? {
                return Ok(false);
            }
        }
    }
}

/// The next entries, and the path of the last of them; none at the end.
fn batch(rest: &mut Rest) -> (Vec<u8>, Option<RelPath>) {
    let mut out = Vec::with_capacity(BATCH.saturating_add(1024));
    let mut last = None;
    while out.len() < BATCH {
        let Some(entry) = rest.next() else { break };
        entry.encode(&mut out);
        last = Some(entry.path);
    }
    (out, last)
}

/// Returns whether a path comes behind another one in a listing (FIL-6).
fn is_behind(path: &RelPath, other: &RelPath) -> bool {
    let names = |path: &RelPath| {
        path.as_bytes()
            .split(|b| *b == b'/')
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    match (path.is_root(), other.is_root()) {
        (true, _) => false,
        (false, true) => true,
        (false, false) => names(path) > names(other),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use sss_files::{Cursor, DEPTH_ALL};

    fn decoded(bytes: &[u8]) -> Vec<Entry> {
        let mut cursor = Cursor::new(bytes);
        let mut entries = Vec::new();
        while cursor.remaining() > 0 {
            entries.push(Entry::decode(&mut cursor).unwrap());
        }
        entries
    }

    // spec: FIL-33
    #[test]
    fn batches_hold_everything_once_wherever_it_is_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..40 {
            fs::create_dir(dir.path().join(format!("{i}"))).unwrap();
            for name in ["a", "b c", "x".repeat(200).as_str(), "y".repeat(200).as_str()] {
                fs::write(dir.path().join(format!("{i}/{name}")), "").unwrap();
            }
        }
        let root = Arc::new(Root::open(dir.path()).unwrap());
        let walk = || Walk::new(&root, &RelPath::default(), DEPTH_ALL).unwrap();
        let all: Vec<Entry> = walk().collect();
        assert_eq!(all.len(), 1 + 40 * 5);
        for told in &all {
            let told = told.path.clone();
            let before = all.iter().position(|entry| entry.path == told).unwrap();
            let mut rest: Rest = Box::new(walk().skip_while(move |entry| !is_behind(&entry.path, &told)));
            let (bytes, last) = batch(&mut rest);
            let mut entries = decoded(&bytes);
            assert_eq!(entries.last().map(|entry| entry.path.clone()), last);
            entries.extend(rest);
            assert_eq!(entries, all[before + 1..]);
        }
    }

    #[test]
    fn paths_are_in_the_order_of_a_listing() {
        let path = |text: &str| RelPath::parse(text.as_bytes()).unwrap();
        let listing = ["", "a", "a/b", "a/b/c", "a/c", "a b", "b"].map(path);
        for (i, one) in listing.iter().enumerate() {
            for (k, other) in listing.iter().enumerate() {
                assert_eq!(is_behind(one, other), i > k, "{one} {other}");
            }
        }
    }
}
