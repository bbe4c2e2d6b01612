//! MAKE: directories and links that come in, in the order in which they come.
//!
//! Nothing is remembered but the directories on the way to the last entry: as soon as an entry is not below one of
//! them, its mode and time are set. What failed is told while entries still come.

use std::sync::Arc;
use std::time::Duration;

use sss_files::{Attributes, Entry, Kind, MAX_PATH, NotMade, Options, PathError, Refusal, RelPath, Status};

use super::directories::{finish_directories, make_directory};
use super::exchange::{Exchange, TransferError};
use super::io_pool;
use super::limits::Claim;
use super::quota::Quota;
use super::receive::make_link;
use crate::transfer::safe_path::Root;

/// Number of times that an entry is made while the system has no descriptor left, and the time between them.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);
/// Entries made together.
const BATCH: usize = 256;
/// Time after which a client that sends no more entries, and does not end either, is given up.
const SILENCE: Duration = Duration::from_secs(60);

/// Directories and links that a peer wants to be made.
#[derive(Clone)]
pub(crate) struct Make {
    pub(crate) root: Arc<Root>,
    pub(crate) path: RelPath,
    pub(crate) options: Options,
    pub(crate) quota: Arc<Quota>,
}

/// Directories that were made and are not finished: those on the way to the last of them.
#[derive(Default)]
struct Unfinished {
    path: RelPath,
    /// Of each, the end of its name in the path.
    levels: Vec<(usize, Attributes)>,
}

impl Make {
    /// Answers, until there are no more entries.
    ///
    /// # Errors
    /// If the peer does not keep to the protocol, is silent, or is lost.
    pub(crate) async fn answer(self, exchange: &mut Exchange, claim: &Claim) -> Result<(), TransferError> {
        let _place = claim.making().await;
        let mut unfinished = Unfinished::default();
        loop {
            let coming = tokio::time::timeout(SILENCE, exchange.messages(BATCH, Entry::decode)).await;
            let entries = coming.map_err(|_| Refusal::new(Status::Busy, "no entries came"))??;
            let is_end = entries.is_empty();
            let turn = claim.limits().walks.get(claim.owner(), 1).await;
            let make = self.clone();
            let failed;
            (failed, unfinished) = io_pool::run(move || make.batch(entries, unfinished)).await;
            drop(turn);
            tell(&failed, is_end, exchange).await?;
            if is_end {
                return exchange.finish();
            }
        }
    }

    /// Makes entries; without any, finishes what is unfinished.
    fn batch(&self, entries: Vec<Entry>, mut unfinished: Unfinished) -> (Vec<NotMade>, Unfinished) {
        let mut failed = Vec::new();
        if entries.is_empty() {
            self.finish(unfinished.leave(None), &mut failed);
        }
        for Entry { path, kind } in entries {
            let to = self.path.join(&path);
            self.finish(unfinished.leave(Some(&to)), &mut failed);
            match self.one_when_possible(&to, &kind) {
                Ok(Some(attributes)) => unfinished.enter(to, attributes),
                Ok(None) => {}
                Err(refusal) => failed.push(NotMade { path, refusal }),
            }
        }
        (failed, unfinished)
    }

    /// Makes one entry, when there is a descriptor for it.
    fn one_when_possible(&self, to: &RelPath, kind: &Kind) -> Result<Option<Attributes>, Refusal> {
        for _ in 0..TRIES {
            match self.one(to, kind) {
                Err(refusal) if refusal.is_shortage() => {
                    self.root.close();
                    std::thread::sleep(PAUSE);
                }
                other => return other,
            }
        }
        self.one(to, kind)
    }

    /// Makes one entry. `Some`: it is a directory that is to be finished.
    fn one(&self, to: &RelPath, kind: &Kind) -> Result<Option<Attributes>, Refusal> {
        if to.as_bytes().len() > MAX_PATH {
            return Err(Refusal::new(Status::BadPath, PathError::TooLong.to_string()));
        }
        let _writing = self.quota.begin(&self.root, to, 0)?;
        match kind {
            Kind::Directory(attributes) => {
                let is_made = make_directory(&self.root, to, self.options)?.is_unfinished();
                Ok(is_made.then_some(*attributes))
            }
            Kind::Link(a, target) => make_link(&self.root, to, (target, a.mtime), self.options).map(|_| None),
            _ => Err(Refusal::new(Status::BadRequest, "only directories and links are made")),
        }
    }

    fn finish(&self, directories: Vec<(RelPath, Attributes)>, failed: &mut Vec<NotMade>) {
        if directories.is_empty() {
            return;
        }
        for (path, refusal) in finish_directories(&self.root, &directories, self.options) {
            let path = self.relative(path);
            failed.push(NotMade { path, refusal });
        }
    }

    /// A path as the entries name it.
    fn relative(&self, path: RelPath) -> RelPath {
        let rest = path.as_bytes().strip_prefix(self.path.as_bytes());
        let rest = rest.map(|rest| rest.strip_prefix(b"/").unwrap_or(rest));
        rest.and_then(|rest| RelPath::parse(rest).ok()).unwrap_or(path)
    }
}

/// Tells what failed. The first that is told is that there is no refusal.
async fn tell(failed: &[NotMade], is_end: bool, exchange: &mut Exchange) -> Result<(), TransferError> {
    let mut out = Vec::new();
    if !exchange.has_said_something() && (is_end || !failed.is_empty()) {
        out.push(Status::Ok as u8);
    }
    failed.iter().for_each(|failed| failed.encode(&mut out));
    if out.is_empty() {
        return Ok(());
    }
    let told = tokio::time::timeout(SILENCE, exchange.send(out)).await;
    told.map_err(|_| Refusal::new(Status::Busy, "what failed is not read"))?
}

impl Unfinished {
    fn enter(&mut self, path: RelPath, attributes: Attributes) {
        self.levels.push((path.as_bytes().len(), attributes));
        self.path = path;
    }

    /// Takes out those that the next entry is not below; the deepest is the last.
    fn leave(&mut self, next: Option<&RelPath>) -> Vec<(RelPath, Attributes)> {
        let path = self.path.as_bytes();
        let is_above = |end: usize| {
            let next = next.map(RelPath::as_bytes).unwrap_or_default();
            next.get(..end) == path.get(..end) && (end == 0 || next.get(end) == Some(&b'/'))
        };
        let stay = self
            .levels
            .iter()
            .take_while(|(end, _)| next.is_some() && is_above(*end))
            .count();
        let left = self.levels.split_off(stay);
        let named = left.into_iter().filter_map(|(end, attributes)| {
            let path = self.path.as_bytes().get(..end)?;
            Some((RelPath::parse(path).ok()?, attributes))
        });
        named.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_directory_is_finished_when_nothing_more_comes_below_it() {
        let mut unfinished = Unfinished::default();
        let mut order = Vec::new();
        for next in ["a", "a/b", "a/b/c", "a/d", "ab", "a/e", "a/e/f/g", "x"] {
            for (left, _) in unfinished.leave(Some(&path(next))) {
                order.push(format!("{left} before {next}"));
            }
            unfinished.enter(path(next), Attributes::default());
        }
        let rest: Vec<_> = unfinished
            .leave(None)
            .into_iter()
            .map(|(left, _)| left.to_string())
            .collect();
        let expected = [
            "a/b before a/d",
            "a/b/c before a/d",
            "a before ab",
            "a/d before ab",
            "ab before a/e",
            "a/e before x",
            "a/e/f/g before x",
        ];
        assert_eq!(order, expected);
        assert_eq!(rest, ["x"]);
        assert!(unfinished.leave(None).is_empty());
    }
}
