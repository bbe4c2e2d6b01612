//! Directories that nothing leads out of.
//!
//! A [`RelPath`] has no `..`, and a [`Root`] opens one directory after the other, each relative to the last and without
//! following symbolic links. So whatever a peer names, and whatever links lie on the disk, what is touched is below the
//! root (FIL-3, FIL-4).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use sss_files::{RelPath, split_last};

/// Directories that a root keeps open.
const OPEN_DIRECTORIES: usize = 16;

/// Flags with which a directory is opened on the way to a path.
pub(crate) fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// A directory to which paths are relative, and below which everything stays.
pub(crate) struct Root {
    directory: Arc<OwnedFd>,
    /// Directories opened last, the latest at the end.
    open: Mutex<Vec<(Vec<u8>, Arc<OwnedFd>)>>,
}

impl Root {
    /// The directory at `path`, which may be a symbolic link: it is the user who names it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = Arc::new(rustix::fs::open(path, flags, Mode::empty())?);
        Ok(Self {
            directory,
            open: Mutex::new(Vec::with_capacity(OPEN_DIRECTORIES)),
        })
    }

    /// The root itself.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Opens the directory at `path`, which is part of a [`RelPath`].
    ///
    /// # Errors
    /// Of the operating system; `NotADirectory` if a component is a symbolic link.
    pub(crate) fn directory(&self, path: &[u8]) -> io::Result<Arc<OwnedFd>> {
        if path.is_empty() {
            return Ok(self.directory.clone());
        }
        if let Some(open) = self.cached(path) {
            return Ok(open);
        }
        let mut above = self.directory.clone();
        let mut end = 0_usize;
        for name in path.split(|b| *b == b'/') {
            end = end.saturating_add(name.len());
            let so_far = path.get(..end).unwrap_or(path);
            above = match self.cached(so_far) {
                Some(open) => open,
                None => Arc::new(rustix::fs::openat(&above, name, directory_flags(), Mode::empty())?),
            };
            end = end.saturating_add(1);
        }
        self.remember(path, &above);
        Ok(above)
    }

    /// The directory in which `path` is, and its name there.
    ///
    /// # Errors
    /// As [`Self::directory`]; `IsADirectory` for the root.
    pub(crate) fn place<'p>(&self, path: &'p RelPath) -> io::Result<(Arc<OwnedFd>, &'p [u8])> {
        let (above, name) = path.split().ok_or(io::ErrorKind::IsADirectory)?;
        Ok((self.directory(above)?, name))
    }

    /// As [`Self::place`], after making the directories that are missing above the path.
    pub(crate) fn place_with_parents<'p>(&self, path: &'p RelPath) -> io::Result<(Arc<OwnedFd>, &'p [u8])> {
        match self.place(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                for above in path.ancestors() {
                    self.make_directory(above)?;
                }
                self.place(path)
            }
            other => other,
        }
    }

    /// Makes one directory, open to its owner only, if it is missing. What is there stays.
    pub(crate) fn make_directory(&self, path: &[u8]) -> io::Result<()> {
        let (above, name) = split_last(path);
        match rustix::fs::mkdirat(self.directory(above)?, name, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn cached(&self, path: &[u8]) -> Option<Arc<OwnedFd>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let at = open.iter().rposition(|(known, _)| known == path)?;
        if at.saturating_add(1) < open.len() {
            let latest = open.remove(at);
            open.push(latest);
        }
        open.last().map(|(_, fd)| fd.clone())
    }

    fn remember(&self, path: &[u8], fd: &Arc<OwnedFd>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= OPEN_DIRECTORIES {
            open.remove(0);
        }
        open.push((path.to_vec(), fd.clone()));
    }
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
        assert!(root.place_with_parents(&path(b"out/new/file")).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn directories_stay_right_when_more_are_open_than_kept() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        for round in 0..2 {
            for i in 0..40 {
                let p = path(format!("d{}/e{i}/file", i % 7).as_bytes());
                let (fd, name) = root.place_with_parents(&p).unwrap();
                let flags = OFlags::CREATE | OFlags::WRONLY;
                rustix::fs::openat(&fd, name, flags, Mode::RUSR).unwrap();
                assert!(dir.path().join(p.to_string()).is_file(), "round {round}");
            }
        }
        assert!(root.open.lock().unwrap().len() <= OPEN_DIRECTORIES);
    }

    #[test]
    fn the_root_may_be_a_link() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        symlink("real", dir.path().join("link")).unwrap();
        let root = Root::open(&dir.path().join("link")).unwrap();
        root.make_directory(b"x").unwrap();
        assert!(dir.path().join("real/x").is_dir());
    }
}
