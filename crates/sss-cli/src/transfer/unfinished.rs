//! Directories on the way in. One is finished when the listing has left it and all that is in it is there, so that only
//! those are held that something is still to come into.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sss_files::{Attributes, Options, Refusal, RelPath};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::directories::{Made, finish_directory};
use crate::transfer::safe_path::Root;

/// Directories finished together.
const BATCH: usize = 1024;

/// A directory to which something may still come. What comes into it holds it, and it holds the one above.
pub(crate) struct Directory {
    path: RelPath,
    made: Made,
    /// Mode and time to set, if it is new.
    attributes: Option<Attributes>,
    above: Option<Arc<Directory>>,
    done: UnboundedSender<Left>,
    given_up: Arc<AtomicBool>,
}

impl Directory {
    /// Returns whether this transfer has made it, so that nothing is in it that did not come now.
    pub(crate) fn is_new(&self) -> bool {
        self.made == Made::Now
    }

    /// Notes that the transfer ends here: nothing more is finished.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.given_up.load(Ordering::Relaxed) {
            return;
        }
        let left = Left {
            path: std::mem::take(&mut self.path),
            attributes: self.attributes,
            _above: self.above.take(),
        };
        // Whoever took them is gone only with the whole transfer.
        let _ = self.done.send(left);
    }
}

/// A directory in which everything is there.
pub(crate) struct Left {
    path: RelPath,
    attributes: Option<Attributes>,
    /// Not to be finished before this one.
    _above: Option<Arc<Directory>>,
}

impl Left {
    /// Sets mode and time if it is new, then lets go of the directory above.
    ///
    /// # Errors
    /// With its path, what the operating system says.
    pub(crate) fn finish(self, root: &Root, options: Options) -> Result<(), (RelPath, Refusal)> {
        let Some(attributes) = self.attributes else {
            return Ok(());
        };
        let done = finish_directory(root, &self.path, &attributes, options);
        done.map_err(|refusal| (self.path.clone(), refusal))
    }
}

/// Directories as they are left.
pub(crate) struct Finished(UnboundedReceiver<Left>);

impl Finished {
    /// The next ones; `None` when all are left. No directory is lost if this is dropped while it waits.
    pub(crate) async fn next(&mut self) -> Option<Vec<Left>> {
        let mut batch = Vec::new();
        let count = self.0.recv_many(&mut batch, BATCH).await;
        (count > 0).then_some(batch)
    }
}

/// The directories that the listing is in, the outermost first.
pub(crate) struct Unfinished {
    levels: Vec<Arc<Directory>>,
    done: UnboundedSender<Left>,
    given_up: Arc<AtomicBool>,
}

/// Sign that a transfer goes on. Dropped before [`GoingOn::complete`], nothing that is left is finished any more.
pub(crate) struct GoingOn(Arc<AtomicBool>);

impl GoingOn {
    /// Everything has come.
    pub(crate) fn complete(mut self) {
        self.0 = Arc::default();
    }
}

impl Drop for GoingOn {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Unfinished {
    /// At the beginning of a listing, and where directories go as they are left.
    pub(crate) fn new() -> (Self, Finished) {
        let (done, finished) = unbounded_channel();
        let unfinished = Self {
            levels: Vec::new(),
            done,
            given_up: Arc::default(),
        };
        (unfinished, Finished(finished))
    }

    /// The sign that is to be held while the transfer goes on.
    pub(crate) fn going_on(&self) -> GoingOn {
        GoingOn(self.given_up.clone())
    }

    /// Goes out of the directories that `next` is not in.
    pub(crate) fn leave(&mut self, next: &RelPath) {
        while let Some(directory) = self.levels.pop() {
            let path = directory.path.as_bytes();
            let is_in = path.is_empty()
                || next
                    .as_bytes()
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.starts_with(b"/"));
            if is_in || next == &directory.path {
                self.levels.push(directory);
                return;
            }
        }
    }

    /// Goes into a directory that is to have these attributes, if they are to be set.
    pub(crate) fn enter(&mut self, path: RelPath, made: Made, attributes: Attributes) {
        self.levels.push(Arc::new(Directory {
            path,
            made,
            attributes: made.is_unfinished().then_some(attributes),
            above: self.innermost(),
            done: self.done.clone(),
            given_up: self.given_up.clone(),
        }));
    }

    /// The directory that the listing is in.
    pub(crate) fn innermost(&self) -> Option<Arc<Directory>> {
        self.levels.last().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn left(finished: &mut Finished) -> Vec<String> {
        let mut left = Vec::new();
        while let Ok(directory) = finished.0.try_recv() {
            left.push(directory.path.to_string());
        }
        left
    }

    #[test]
    fn a_directory_is_left_when_the_next_is_not_below_it() {
        let (mut unfinished, mut finished) = Unfinished::new();
        let going_on = unfinished.going_on();
        unfinished.enter(path("a"), Made::Now, Attributes::default());
        unfinished.leave(&path("a/f"));
        assert!(left(&mut finished).is_empty() && unfinished.innermost().is_some());
        // A name that only begins so is beside it.
        unfinished.leave(&path("ab"));
        assert_eq!(left(&mut finished), ["a"]);
        assert!(unfinished.innermost().is_none());
        going_on.complete();
    }

    #[test]
    fn a_directory_is_left_after_what_is_in_it() {
        let (mut unfinished, mut finished) = Unfinished::new();
        let going_on = unfinished.going_on();
        unfinished.enter(path("a"), Made::Now, Attributes::default());
        unfinished.enter(path("a/b"), Made::Now, Attributes::default());
        let file_is_coming = unfinished.innermost();
        unfinished.leave(&path("c"));
        assert!(
            left(&mut finished).is_empty(),
            "a file is still to come into the inner one"
        );
        drop(file_is_coming);
        // The outer one is only left when the inner one is finished.
        let inner = finished.0.try_recv().unwrap();
        assert_eq!(inner.path, path("a/b"));
        assert!(left(&mut finished).is_empty());
        drop(inner);
        assert_eq!(left(&mut finished), ["a"]);
        going_on.complete();
    }
}
