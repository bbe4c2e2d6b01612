//! Limits of what clients make a server keep, and the removal of what they leave.
//!
//! The size of everything below the served directory is measured at the start, and now and then. Each request that
//! writes is measured before and afterwards, and has room reserved meanwhile for the most that it may add. Whatever has
//! a name costs a block, so that empty files and directories are not for nothing.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat};
use sss_files::{Refusal, RelPath, Status, is_part_name, part_name};

use crate::transfer::safe_path::Root;

/// Cost of a name, and unit to which sizes are rounded up.
const BLOCK: u64 = 4096;
/// Age at which a temporary file of which nobody writes is removed.
const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3600);
/// Least time between two times that all is measured because there is no room.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two looks for such files.
const HOUR: Duration = Duration::from_secs(3600);

/// Bytes that there may be below a served directory.
pub(crate) struct Quota {
    /// `None`: as much as the disk holds.
    limit: Option<u64>,
    state: Mutex<State>,
}

struct State {
    used: u64,
    reserved: u64,
    /// Time from which on all may be measured again because there is no room.
    next: Instant,
    /// Paths that requests write to now, and directories that they make on the way.
    busy: BTreeMap<Vec<u8>, Busy>,
}

/// A path at which something may come to be.
struct Busy {
    /// Number of requests that may make it. The last one measures what has become of it.
    holders: usize,
    /// Set while a request is about this path itself.
    is_written: bool,
    before: u64,
    reserved: u64,
}

/// Room for what a request may add at a path. What it has added is measured when this is dropped.
pub(crate) struct Writing {
    quota: Arc<Quota>,
    root: Arc<Root>,
    path: RelPath,
    /// Directories that were missing above, or are being made by others.
    above: Vec<RelPath>,
    reserved: u64,
}

impl Quota {
    /// With what is below the directory now. Reads the whole tree, if there is a limit.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub(crate) fn measure(root: &Root, limit: Option<u64>) -> io::Result<Self> {
        let quota = Self {
            limit,
            state: Mutex::new(State {
                used: 0,
                reserved: 0,
                next: Instant::now(),
                busy: BTreeMap::new(),
            }),
        };
        if limit.is_some() {
            let mut used = 0_u64;
            survey(root, |_, _, stat| used = used.saturating_add(cost_of(stat)))?;
            quota.state().used = used;
        }
        Ok(quota)
    }

    /// Takes room for what a request may add at `path`: `size` bytes, and the directories that are missing above. Looks
    /// at the disk. `None`: there is no limit.
    ///
    /// # Errors
    /// NO_SPACE if there is not so much; BUSY if another request writes there.
    pub(crate) fn begin(
        self: &Arc<Self>,
        root: &Arc<Root>,
        path: &RelPath,
        size: u64,
    ) -> Result<Option<Writing>, Refusal> {
        let Some(limit) = self.limit else { return Ok(None) };
        match self.reserve(limit, root, path, size) {
            // Whoever runs the server may have removed something.
            Err(refusal) if refusal.status == Status::NoSpace && self.measured_again(root) => {
                self.reserve(limit, root, path, size).map(Some)
            }
            other => other.map(Some),
        }
    }

    /// Measures all again, if that was not just done. Returns whether it did.
    fn measured_again(&self, root: &Root) -> bool {
        let begun = Instant::now();
        let before = {
            let mut state = self.state();
            if begun < state.next {
                return false;
            }
            // Others do not measure at the same time.
            state.next = begun + HOUR;
            state.used
        };
        let mut used = 0_u64;
        let surveyed = survey(root, |_, _, stat| used = used.saturating_add(cost_of(stat)));
        let mut state = self.state();
        if surveyed.is_ok() {
            state.used = used.saturating_add(state.used.saturating_sub(before));
        }
        // It takes a twentieth of the time at most.
        state.next = Instant::now() + begun.elapsed().saturating_mul(20).max(AGAIN);
        surveyed.is_ok()
    }

    fn reserve(self: &Arc<Self>, limit: u64, root: &Arc<Root>, path: &RelPath, size: u64) -> Result<Writing, Refusal> {
        let mut state = self.state();
        if state.busy.get(path.as_bytes()).is_some_and(|busy| busy.is_written) {
            return Err(Refusal::new(
                Status::Busy,
                "another request writes there: try again later",
            ));
        }
        let is_made = |above: &RelPath| state.busy.contains_key(above.as_bytes());
        let above = path.ancestors().filter_map(|above| RelPath::parse(above).ok());
        let above = above.filter(|above| is_made(above) || root.directory(above.as_bytes()).is_err());
        let above: Vec<RelPath> = above.collect();
        let new = above.iter().filter(|above| !is_made(above)).count() as u64;
        let reserved = cost(size);
        let wanted = reserved.saturating_add(new.saturating_mul(BLOCK));
        if state.used.saturating_add(state.reserved).saturating_add(wanted) > limit {
            let text = "the quota of this server is used up: ask who runs it to raise it (`sss serve --quota`)";
            return Err(Refusal::new(Status::NoSpace, text));
        }
        state.reserved = state.reserved.saturating_add(wanted);
        for above in &above {
            state.hold(above, Busy::directory);
        }
        state.hold(path, || Busy::file(look(root, path))).is_written = true;
        drop(state);
        Ok(Writing {
            quota: self.clone(),
            root: root.clone(),
            path: path.clone(),
            above,
            reserved,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Busy {
    /// Of a directory that is missing, with room for it.
    fn directory() -> Self {
        Self {
            reserved: BLOCK,
            ..Self::file(0)
        }
    }

    /// Of something that costs so much now, for which a request has room.
    fn file(before: u64) -> Self {
        Self {
            holders: 0,
            is_written: false,
            before,
            reserved: 0,
        }
    }
}

impl State {
    fn hold(&mut self, path: &RelPath, new: impl FnOnce() -> Busy) -> &mut Busy {
        let busy = self.busy.entry(path.as_bytes().to_vec()).or_insert_with(new);
        busy.holders = busy.holders.saturating_add(1);
        busy
    }

    /// Measures what has become of a path, if nobody else holds it.
    fn let_go(&mut self, path: &RelPath, root: &Root) {
        let Some(busy) = self.busy.get_mut(path.as_bytes()) else {
            return;
        };
        busy.holders = busy.holders.saturating_sub(1);
        if busy.holders > 0 {
            return;
        }
        let (before, reserved) = (busy.before, busy.reserved);
        self.busy.remove(path.as_bytes());
        self.reserved = self.reserved.saturating_sub(reserved);
        self.used = self.used.saturating_add(look(root, path)).saturating_sub(before);
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut state = self.quota.state();
        state.reserved = state.reserved.saturating_sub(self.reserved);
        if let Some(busy) = state.busy.get_mut(self.path.as_bytes()) {
            busy.is_written = false;
        }
        state.let_go(&self.path, &self.root);
        for above in &self.above {
            state.let_go(above, &self.root);
        }
    }
}

/// Returns what is at a path and its temporary file cost.
fn look(root: &Root, path: &RelPath) -> u64 {
    let Ok((directory, name)) = root.place(path) else {
        return 0;
    };
    let cost = |name: &[u8]| {
        let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW);
        stat.map_or(0, |stat| cost_of(&stat))
    };
    cost(name).saturating_add(cost(&part_name(name)))
}

/// Removes abandoned temporary files, now and every hour, on a thread of its own; and measures again what is there, so
/// that what others change in the directory counts too. As long as the quota is there.
pub(crate) async fn watch(root: Arc<Root>, quota: Arc<Quota>) {
    let (root, quota) = (Arc::downgrade(&root), Arc::downgrade(&quota));
    while let (Some(root), Some(quota)) = (root.upgrade(), quota.upgrade()) {
        if let Err(error) = std::thread::Builder::new().spawn(move || clean(&root, &quota)) {
            tracing::warn!(%error, "cannot look for abandoned temporary files");
        }
        tokio::time::sleep(HOUR).await;
    }
}

fn clean(root: &Root, quota: &Quota) {
    let before = SystemTime::now()
        .checked_sub(ABANDONED)
        .unwrap_or(SystemTime::UNIX_EPOCH);
    match sweep(root, quota, before) {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "abandoned temporary files"),
        Err(error) => tracing::warn!(%error, "cannot look for abandoned temporary files"),
    }
}

/// Removes the temporary files that nobody has written to since `before` and nobody has open; returns how many.
///
/// # Errors
/// If the directory cannot be read. What cannot be removed is left.
pub(crate) fn sweep(root: &Root, quota: &Quota, before: SystemTime) -> io::Result<usize> {
    let oldest = before
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (mut removed, mut used) = (0_usize, 0_u64);
    let before_it = quota.state().used;
    survey(root, |directory, name, stat| {
        let is_old = u64::try_from(stat.st_mtime).is_ok_and(|time| time < oldest);
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if is_part_name(name) && is_old && is_file && remove(directory, name, stat).is_ok() {
            removed = removed.saturating_add(1);
        } else {
            used = used.saturating_add(cost_of(stat));
        }
    })?;
    let mut state = quota.state();
    // What was added meanwhile may have been seen or not: rather count it twice until the next time.
    state.used = used.saturating_add(state.used.saturating_sub(before_it));
    Ok(removed)
}

/// Removes a temporary file, unless somebody has it locked.
fn remove(directory: &OwnedFd, name: &[u8], seen: &Stat) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    let stat = rustix::fs::fstat(&file)?;
    if (stat.st_dev, stat.st_ino, stat.st_mtime) != (seen.st_dev, seen.st_ino, seen.st_mtime) {
        return Err(rustix::io::Errno::STALE);
    }
    rustix::fs::unlinkat(directory, name, AtFlags::empty())
}

/// Calls for everything below a directory, with the directory that it is in. What cannot be looked at is left out.
fn survey(root: &Root, mut each: impl FnMut(&OwnedFd, &[u8], &Stat)) -> io::Result<()> {
    let mut directories = vec![RelPath::default()];
    let mut is_first = true;
    while let Some(path) = directories.pop() {
        let opened = root.directory(path.as_bytes()).and_then(|directory| {
            let names = Dir::read_from(directory.as_fd())?;
            Ok((directory, names))
        });
        let (directory, names) = match opened {
            Err(error) if is_first => return Err(error),
            Err(_) => continue,
            Ok(opened) => opened,
        };
        is_first = false;
        for name in names.flatten() {
            let name = name.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let Ok(stat) = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            each(&directory, name, &stat);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
                && let Ok(name) = RelPath::parse(name)
            {
                directories.push(path.join(&name));
            }
        }
    }
    Ok(())
}

fn cost_of(stat: &Stat) -> u64 {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => cost(u64::try_from(stat.st_size).unwrap_or(0)),
        _ => BLOCK,
    }
}

/// Cost of a file of so many bytes.
fn cost(size: u64) -> u64 {
    size.div_ceil(BLOCK).saturating_mul(BLOCK).saturating_add(BLOCK)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_there_counts_and_what_may_come_is_reserved() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/f"), vec![0; 5000]).unwrap();
        fs::write(dir.path().join("d/.g.sss-part"), vec![0; 1]).unwrap();
        symlink("x", dir.path().join("l")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let root = Arc::new(root);
        let quota = Arc::new(Quota::measure(&root, Some(20 * BLOCK)).unwrap());
        let used = || {
            let state = quota.state();
            (state.used / BLOCK, state.reserved / BLOCK)
        };
        assert_eq!(used(), (1 + 3 + 2 + 1, 0));

        let first = quota.begin(&root, &path("new/d/f"), 4 * BLOCK).unwrap();
        assert_eq!(used(), (7, 2 + 5));
        let status = |text: &str, size| quota.begin(&root, &path(text), size).err().map(|r| r.status);
        assert_eq!(status("x", 5 * BLOCK + 1), Some(Status::NoSpace));
        assert_eq!(status("new/d/f", 0), Some(Status::Busy));
        assert_eq!(status("x", 5 * BLOCK), None);
        fs::create_dir_all(dir.path().join("new/d")).unwrap();
        fs::write(dir.path().join("new/d/f"), vec![0; 5000]).unwrap();
        drop(first);
        assert_eq!(used(), (9 + 3, 0));

        let second = quota.begin(&root, &path("d/g"), 5000).unwrap();
        fs::write(dir.path().join("d/g"), vec![0; 5000]).unwrap();
        fs::remove_file(dir.path().join("d/.g.sss-part")).unwrap();
        drop(second);
        a_directory_counts_once(&quota, &root, dir.path());
        assert_eq!(used(), (12 - 2 + 3, 0));
        let again = Quota::measure(&root, Some(1)).unwrap().state().used;
        assert_eq!(again / BLOCK, used().0);
        assert!(
            Arc::new(Quota::measure(&root, None).unwrap())
                .begin(&root, &path("x"), u64::MAX)
                .unwrap()
                .is_none()
        );
    }

    /// However many write below it; and not at all, if it is not made.
    fn a_directory_counts_once(quota: &Arc<Quota>, root: &Arc<Root>, top: &std::path::Path) {
        let used = || {
            let state = quota.state();
            (state.used / BLOCK, state.reserved / BLOCK)
        };
        let (before, _) = used();
        let below = |name: &str| quota.begin(root, &path(name), 0).unwrap();
        let held = [below("more/1"), below("more/2")];
        assert_eq!(used(), (before, 1 + 2));
        drop(held);
        assert_eq!(used(), (before, 0));

        let (one, itself, two) = (below("more/1"), below("more"), below("more/2"));
        drop(one);
        assert_eq!(used(), (before, 1 + 1 + 1));
        fs::create_dir(top.join("more")).unwrap();
        drop(itself);
        drop(two);
        assert_eq!(used(), (before + 1, 0));
        drop(below("more"));
        drop(below("more/3"));
        assert_eq!(used(), (before + 1, 0));
        fs::remove_dir(top.join("more")).unwrap();
        quota.state().used -= BLOCK;
    }

    #[test]
    fn only_old_temporary_files_that_nobody_holds_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        let names = [
            "d/.old.sss-part",
            "d/.new.sss-part",
            "d/.held.sss-part",
            "d/old",
            ".top.sss-part",
        ];
        let old = SystemTime::now() - 2 * ABANDONED;
        for name in names {
            let file = fs::File::create(dir.path().join(name)).unwrap();
            if !name.contains("new") {
                file.set_modified(old).unwrap();
            }
        }
        symlink("old", dir.path().join("d/.link.sss-part")).unwrap();
        let held = fs::File::open(dir.path().join("d/.held.sss-part")).unwrap();
        rustix::fs::flock(&held, FlockOperation::LockExclusive).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let quota = Quota::measure(&root, Some(u64::MAX)).unwrap();
        let removed = sweep(&root, &quota, SystemTime::now() - ABANDONED).unwrap();
        assert_eq!(removed, 2);
        let is_there = |name: &str| dir.path().join(name).symlink_metadata().is_ok();
        assert!(!is_there("d/.old.sss-part") && !is_there(".top.sss-part"));
        for name in ["d/.new.sss-part", "d/.held.sss-part", "d/old", "d/.link.sss-part"] {
            assert!(is_there(name), "{name}");
        }
        assert_eq!(quota.state().used, Quota::measure(&root, Some(1)).unwrap().state().used);
    }
}
