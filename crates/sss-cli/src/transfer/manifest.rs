//! Walking a tree: its entries, one by one, directories before what is in them (FIL-6).

use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, Stat};
use sss_files::{Attributes, DEPTH_ALL, Entry, Kind, MAX_PATH, Mtime, PathError, Refusal, RelPath, is_part_name};

use crate::transfer::safe_path::{Root, directory_flags};

/// The entries of a tree. Holds one open directory per level.
pub(crate) struct Walk {
    /// Depth below which nothing is listed, counted from the beginning.
    depth: usize,
    /// Bytes of the path where it begins, and of the slash behind it.
    before: usize,
    levels: Vec<Level>,
    ready: VecDeque<Entry>,
}

struct Level {
    directory: Arc<OwnedFd>,
    path: RelPath,
    names: std::vec::IntoIter<CString>,
}

impl Walk {
    /// Begins at `path` below `root`. Depth 0: only that; 1: also what is directly in it; [`DEPTH_ALL`]: everything.
    ///
    /// # Errors
    /// If there is nothing at the path, or it cannot be looked at.
    pub(crate) fn new(root: &Root, path: &RelPath, depth: u8) -> io::Result<Self> {
        let mut walk = Self {
            depth: if depth == DEPTH_ALL { usize::MAX } else { depth.into() },
            before: match path.as_bytes().len() {
                0 => 0,
                len => len.saturating_add(1),
            },
            levels: Vec::new(),
            ready: VecDeque::new(),
        };
        if path.is_root() {
            let attributes = attributes(&rustix::fs::fstat(root.as_fd())?);
            walk.ready
                .push_back(entry(RelPath::default(), Kind::Directory(attributes)));
            walk.enter(root.as_fd().try_clone_to_owned().map(Arc::new), RelPath::default());
        } else {
            let (above, name) = root.place(path)?;
            let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
            if let Err(error) = walk.visit(&above, &name, RelPath::default()) {
                return Err(error.into());
            }
        }
        Ok(walk)
    }

    /// The next entries, about as many as have `bytes` bytes on the wire; none at the end.
    pub(crate) fn batch(&mut self, bytes: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.saturating_add(1024));
        while out.len() < bytes {
            let Some(entry) = self.next() else { break };
            entry.encode(&mut out);
        }
        out
    }

    /// Takes up what `name` is: one entry, and a level to go down if it is a directory.
    fn visit(&mut self, above: &Arc<OwnedFd>, name: &CString, path: RelPath) -> rustix::io::Result<()> {
        let stat = rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let attributes = attributes(&stat);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.ready.push_back(entry(path, Kind::File(attributes))),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(above, name, Vec::new())?;
                self.ready
                    .push_back(entry(path, Kind::Link(attributes, target.into_bytes())));
            }
            FileType::Directory => {
                self.ready.push_back(entry(path.clone(), Kind::Directory(attributes)));
                let opened = rustix::fs::openat(above, name, directory_flags(), Mode::empty());
                self.enter(opened.map(Arc::new).map_err(io::Error::from), path);
            }
            _ => self.ready.push_back(entry(path, Kind::Other(attributes))),
        }
        Ok(())
    }

    fn enter(&mut self, directory: io::Result<Arc<OwnedFd>>, path: RelPath) {
        if self.levels.len() >= self.depth {
            return;
        }
        let level = directory.and_then(|directory| {
            let names = sorted_names(&directory)?.into_iter();
            Ok(Level {
                directory,
                path: path.clone(),
                names,
            })
        });
        match level {
            Ok(level) => self.levels.push(level),
            Err(error) => self.ready.push_back(entry(path, Kind::Unreadable(error.into()))),
        }
    }
}

impl Iterator for Walk {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            let level = self.levels.last_mut()?;
            let Some(name) = level.names.next() else {
                self.levels.pop();
                continue;
            };
            let directory = level.directory.clone();
            let Ok(last) = RelPath::parse(name.as_bytes()) else {
                continue;
            };
            let path = level.path.join(&last);
            // A path too long for the protocol names no file that could be asked for.
            if path.as_bytes().len().saturating_add(self.before) > MAX_PATH {
                let refusal = Refusal::new(sss_files::Status::BadPath, PathError::TooLong.to_string());
                self.ready
                    .push_back(entry(level.path.clone(), Kind::Unreadable(refusal)));
                continue;
            }
            match self.visit(&directory, &name, path.clone()) {
                // It was removed while we walked.
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => {
                    let refusal = Refusal::from(io::Error::from(error));
                    self.ready.push_back(entry(path, Kind::Unreadable(refusal)));
                }
            }
        }
    }
}

fn entry(path: RelPath, kind: Kind) -> Entry {
    Entry { path, kind }
}

fn sorted_names(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for item in Dir::read_from(directory)? {
        let item = item?;
        let name = item.file_name();
        let bytes = name.to_bytes();
        if bytes != b"." && bytes != b".." && !is_part_name(bytes) {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Returns what the protocol tells of a file.
pub(crate) fn attributes(stat: &Stat) -> Attributes {
    Attributes {
        size: u64::try_from(stat.st_size).unwrap_or(0),
        // The type of raw modes differs between systems.
        mode: (Mode::from_raw_mode(stat.st_mode).bits() & 0o777) as _,
        mtime: Mtime {
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;
    use sss_files::Cursor;

    fn shape(entries: impl Iterator<Item = Entry>) -> Vec<String> {
        let line = |e: Entry| match e.kind {
            Kind::File(a) => format!("f {} {}", e.path, a.size),
            Kind::Directory(_) => format!("d {}", e.path),
            Kind::Link(_, target) => format!("l {} {}", e.path, String::from_utf8_lossy(&target)),
            Kind::Other(_) => format!("o {}", e.path),
            Kind::Unreadable(r) => format!("u {} {}", e.path, r.status),
        };
        entries.map(line).collect()
    }

    fn sample(dir: &Path) {
        fs::create_dir_all(dir.join("b/empty")).unwrap();
        fs::write(dir.join("b/two"), "22").unwrap();
        fs::write(dir.join("b/.two.sss-part"), "left over").unwrap();
        fs::write(dir.join("a"), "").unwrap();
        fs::write(dir.join(OsStr::from_bytes(b"\xff")), "odd").unwrap();
        symlink("/nowhere", dir.join("c")).unwrap();
    }

    #[test]
    fn directories_come_first_and_names_in_order() {
        let dir = tempfile::tempdir().unwrap();
        sample(dir.path());
        let root = Root::open(dir.path()).unwrap();
        let all = shape(Walk::new(&root, &RelPath::default(), DEPTH_ALL).unwrap());
        let expected = [
            "d .",
            "f a 0",
            "d b",
            "d b/empty",
            "f b/two 2",
            "l c /nowhere",
            "f \\xff 3",
        ];
        assert_eq!(all, expected);

        let one = shape(Walk::new(&root, &RelPath::default(), 1).unwrap());
        assert_eq!(one, ["d .", "f a 0", "d b", "l c /nowhere", "f \\xff 3"]);
        let zero = shape(Walk::new(&root, &RelPath::default(), 0).unwrap());
        assert_eq!(zero, ["d ."]);
    }

    // spec: FIL-12
    #[test]
    fn what_no_request_could_name_is_told_of_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        // 16 names of 255 bytes and their slashes are a path of 4095 bytes: one byte is left, and no slash.
        let name = "n".repeat(255);
        let mut above = root.directory(b"").unwrap();
        for _ in 0..16 {
            rustix::fs::mkdirat(&above, &*name, Mode::RWXU).unwrap();
            above = Arc::new(rustix::fs::openat(&above, &*name, directory_flags(), Mode::empty()).unwrap());
        }
        rustix::fs::mkdirat(&above, "x", Mode::RWXU).unwrap();
        let deepest = |begin: &str| {
            let path = RelPath::parse(begin.as_bytes()).unwrap();
            let last = Walk::new(&root, &path, DEPTH_ALL).unwrap().last().unwrap();
            (last.path.as_bytes().len(), last.kind)
        };
        for begin in ["", &name] {
            let (len, kind) = deepest(begin);
            let before = if begin.is_empty() { 0 } else { 256 };
            assert_eq!(len + before, 4095);
            assert!(
                matches!(&kind, Kind::Unreadable(r) if r.status == sss_files::Status::BadPath),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn a_walk_may_begin_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        sample(dir.path());
        let root = Root::open(dir.path()).unwrap();
        let walk = |path: &[u8]| Walk::new(&root, &RelPath::parse(path).unwrap(), DEPTH_ALL).map(shape);
        assert_eq!(walk(b"b").unwrap(), ["d .", "d empty", "f two 2"]);
        assert_eq!(walk(b"b/two").unwrap(), ["f . 2"]);
        assert_eq!(walk(b"c").unwrap(), ["l . /nowhere"]);
        assert_eq!(walk(b"none").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(walk(b"a/x").is_err());
    }

    #[test]
    fn batches_hold_everything_once() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..100 {
            fs::write(dir.path().join(format!("{i}")), "").unwrap();
        }
        let root = Root::open(dir.path()).unwrap();
        let mut walk = Walk::new(&root, &RelPath::default(), DEPTH_ALL).unwrap();
        let mut count = 0;
        loop {
            let batch = walk.batch(200);
            if batch.is_empty() {
                break;
            }
            let mut cursor = Cursor::new(&batch);
            while cursor.remaining() > 0 {
                Entry::decode(&mut cursor).unwrap();
                count += 1;
            }
        }
        assert_eq!(count, 101);
    }
}
