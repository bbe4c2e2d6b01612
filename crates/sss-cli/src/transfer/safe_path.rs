//! Directories that nothing leads out of.
//!
//! A [`RelPath`] has no `..`, and a [`Root`] opens one directory after the other, each relative to the last and without
//! following symbolic links. So whatever a peer names, and whatever links lie on the disk, what is touched is below the
//! root (FIL-3, FIL-4).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use sss_files::RelPath;

/// Directories that a root keeps open.
const OPEN_DIRECTORIES: usize = 16;

/// Flags with which a directory is opened on the way to a path.
pub(crate) fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Time for which an open directory is taken to be the one of its path.
const FRESH: Duration = Duration::from_millis(20);

/// A directory as it was found at a path.
struct Open {
    path: Vec<u8>,
    directory: Arc<OwnedFd>,
    since: Instant,
}

/// A directory to which paths are relative, and below which everything stays.
pub(crate) struct Root {
    directory: Arc<OwnedFd>,
    /// Directory and name in it at which the root itself was made, if its mode and time are to be set.
    made_at: Option<(Arc<OwnedFd>, Vec<u8>)>,
    /// Directories opened last, the latest at the end.
    open: Mutex<Vec<Open>>,
}

impl Root {
    /// The directory at `path`, which may be a symbolic link: it is the user who names it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = Arc::new(rustix::fs::open(path, flags, Mode::empty())?);
        Ok(Self {
            directory,
            made_at: None,
            open: Mutex::new(Vec::with_capacity(OPEN_DIRECTORIES)),
        })
    }

    /// Notes that the root was made at `name` in `above`.
    pub(crate) fn made_at(mut self, above: Arc<OwnedFd>, name: &[u8]) -> Self {
        self.made_at = Some((above, name.to_vec()));
        self
    }

    /// The directory in which `path` is, and its name there, also of the root if that was made.
    pub(crate) fn place_of_made<'p>(&'p self, path: &'p RelPath) -> io::Result<Option<(Arc<OwnedFd>, &'p [u8])>> {
        if path.is_root() {
            let made = self.made_at.as_ref();
            return Ok(made.map(|(above, name)| (above.clone(), name.as_slice())));
        }
        self.place(path).map(Some)
    }

    /// The root itself.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Locks the root against others who do this, until what is returned is dropped.
    ///
    /// # Errors
    /// `WouldBlock` if somebody else has it.
    pub(crate) fn lock(&self) -> io::Result<OwnedFd> {
        let lock = rustix::fs::openat(&self.directory, ".", directory_flags(), Mode::empty())?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(lock)
    }

    /// Opens the directory at `path`, which is part of a [`RelPath`].
    ///
    /// # Errors
    /// Of the operating system; `NotADirectory` if a component is a symbolic link.
    pub(crate) fn directory(&self, path: &[u8]) -> io::Result<Arc<OwnedFd>> {
        if path.is_empty() {
            return Ok(self.directory.clone());
        }
        let (above, at) = self.nearest(path);
        let Some(rest) = path.get(at..).filter(|rest| !rest.is_empty()) else {
            return Ok(above);
        };
        let directory = match open_below(&above, rest) {
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE)) => {
                self.close();
                open_below(&above, rest)?
            }
            other => other?,
        };
        let directory = Arc::new(directory);
        self.remember(path, &directory);
        Ok(directory)
    }

    /// Closes the directories that it keeps open: they are opened again when they are needed.
    pub(crate) fn close(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Returns whether the root was removed: nothing can be below it any more.
    pub(crate) fn is_removed(&self) -> bool {
        rustix::fs::fstat(&self.directory).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// The directory in which `path` is, and its name there.
    ///
    /// # Errors
    /// As [`Self::directory`]; `IsADirectory` for the root.
    pub(crate) fn place<'p>(&self, path: &'p RelPath) -> io::Result<(Arc<OwnedFd>, &'p [u8])> {
        let (above, name) = path.split().ok_or(io::ErrorKind::IsADirectory)?;
        Ok((self.directory(above)?, name))
    }

    /// Finds the open directory that is the longest beginning of `path`: it, and where in `path` the rest begins.
    pub(crate) fn nearest(&self, path: &[u8]) -> (Arc<OwnedFd>, usize) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = |known: &[u8]| match path.strip_prefix(known)? {
            [] => Some(known.len()),
            [b'/', ..] => Some(known.len().saturating_add(1)),
            _ => None,
        };
        // Whoever removes or moves a directory means also those who have it open.
        open.retain(|known| known.since.elapsed() < FRESH);
        let known = open.iter().enumerate();
        let found = known
            .filter_map(|(at, known)| rest(&known.path).map(|rest| (rest, at)))
            .max();
        let Some((rest, at)) = found else {
            return (self.directory.clone(), 0);
        };
        let latest = open.remove(at);
        let directory = latest.directory.clone();
        open.push(latest);
        (directory, rest)
    }

    /// Keeps a directory open that was opened at `path`.
    pub(crate) fn remember(&self, path: &[u8], fd: &Arc<OwnedFd>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= OPEN_DIRECTORIES {
            open.remove(0);
        }
        open.push(Open {
            path: path.to_vec(),
            directory: fd.clone(),
            since: Instant::now(),
        });
    }
}

/// Opens a directory relative to another, without following links: in one call where the system can.
fn open_below(above: &OwnedFd, path: &[u8]) -> io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    if path.contains(&b'/') {
        use rustix::fs::ResolveFlags;
        let stay = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(above, path, directory_flags(), Mode::empty(), stay) {
            Ok(directory) => return Ok(directory),
            // What other systems say of a link on the way.
            Err(Errno::LOOP) => return Err(Errno::NOTDIR.into()),
            Err(error @ (Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::MFILE | Errno::NFILE)) => {
                return Err(error.into());
            }
            // An older kernel, a filter of system calls, a path as long as they can be: name by name.
            Err(_) => {}
        }
    }
    let mut names = path.split(|b| *b == b'/');
    let open = |above: BorrowedFd<'_>, name: &[u8]| rustix::fs::openat(above, name, directory_flags(), Mode::empty());
    let first = open(above.as_fd(), names.next().unwrap_or_default())?;
    Ok(names.try_fold(first, |above, name| open(above.as_fd(), name))?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn path(text: &[u8]) -> RelPath {
        RelPath::parse(text).unwrap()
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("in/deep")).unwrap();
        symlink(outside.path(), dir.path().join("out")).unwrap();
        symlink("in", dir.path().join("also")).unwrap();
        let root = Root::open(dir.path()).unwrap();

        assert!(root.directory(b"in/deep").is_ok());
        for link in [&b"out"[..], b"also", b"also/deep", b"out/x"] {
            let error = root.directory(link).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotADirectory, "{link:?}");
        }
        assert!(root.place(&path(b"out/new/file")).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn directories_stay_right_when_more_are_open_than_kept() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        for round in 0..2 {
            for i in 0..40 {
                let p = path(format!("d{}/e{i}/file", i % 7).as_bytes());
                fs::create_dir_all(dir.path().join(p.to_string()).parent().unwrap()).unwrap();
                let (fd, name) = root.place(&p).unwrap();
                let flags = OFlags::CREATE | OFlags::WRONLY;
                rustix::fs::openat(&fd, name, flags, Mode::RUSR).unwrap();
                assert!(dir.path().join(p.to_string()).is_file(), "round {round}");
            }
        }
        assert!(root.open.lock().unwrap().len() <= OPEN_DIRECTORIES);
    }

    #[test]
    fn a_directory_that_was_removed_or_moved_is_soon_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        root.directory(b"a/b").unwrap();
        fs::rename(dir.path().join("a"), dir.path().join("c")).unwrap();
        std::thread::sleep(2 * FRESH);
        assert_eq!(root.directory(b"a/b").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(root.directory(b"c/b").is_ok());
    }

    #[test]
    fn the_root_may_be_a_link() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        symlink("real", dir.path().join("link")).unwrap();
        let root = Root::open(&dir.path().join("link")).unwrap();
        rustix::fs::mkdirat(root.as_fd(), "x", Mode::RWXU).unwrap();
        assert!(dir.path().join("real/x").is_dir());
        assert!(root.directory(b"x").is_ok());
    }
}
