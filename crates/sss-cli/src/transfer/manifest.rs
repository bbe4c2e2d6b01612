//! Walking a tree: its entries, one by one, directories before what is in them (FIL-6).

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, Mode, Stat};
use rustix::io::Errno;
use sss_files::{
    Attributes, DEPTH_ALL, Entry, Kind, MAX_PATH, Mtime, PathError, Refusal, RelPath, Status, Traits, is_part_name,
};

use super::directories::is_mark;
use super::filter::Sieve;
use crate::transfer::safe_path::{Root, directory_flags};

/// Directories that a walk keeps open: those of the deepest levels. Others are opened again on the way back.
const OPEN_LEVELS: usize = 16;

/// Number of times that a directory is opened while the system has no descriptor left, and the time between them.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// The entries of a tree. Holds few directories open, however deep the tree is.
pub(crate) struct Walk {
    root: Arc<Root>,
    /// Path where it begins.
    begin: RelPath,
    /// Depth below which nothing is listed, counted from the beginning.
    depth: usize,
    sieve: Sieve,
    levels: Vec<Level>,
    ready: VecDeque<Entry>,
}

/// A directory, and what is in it.
type Listed = (Names, Arc<OwnedFd>);

struct Level {
    /// `None`: it is opened when it is needed again.
    directory: Option<Arc<OwnedFd>>,
    path: RelPath,
    names: std::vec::IntoIter<CString>,
}

impl Walk {
    /// Begins at `path` below `root`. Depth 0: only that; 1: also what is directly in it; [`DEPTH_ALL`]: everything.
    ///
    /// # Errors
    /// If there is nothing at the path, or it cannot be looked at.
    pub(crate) fn new(root: &Arc<Root>, path: &RelPath, depth: u8) -> io::Result<Self> {
        let mut walk = Self {
            root: root.clone(),
            begin: path.clone(),
            depth: if depth == DEPTH_ALL { usize::MAX } else { depth.into() },
            sieve: Sieve::default(),
            levels: Vec::new(),
            ready: VecDeque::new(),
        };
        if path.is_root() {
            let attributes = attributes(&rustix::fs::fstat(root.as_fd())?);
            walk.ready
                .push_back(entry(RelPath::default(), Kind::Directory(attributes)));
            if walk.depth > 0 {
                let listed = root.as_fd().try_clone_to_owned().and_then(listed);
                walk.enter(listed, RelPath::default());
            }
        } else {
            let (above, name) = root.place(path)?;
            let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
            if let Err(error) = walk.visit(&above, &name, RelPath::default()) {
                return Err(error.into());
            }
        }
        Ok(walk)
    }

    /// Leaves out what does not pass, and does not look at what is below it. What is at the beginning always passes.
    pub(crate) fn sieved(mut self, sieve: Sieve) -> Self {
        self.sieve = sieve;
        self
    }

    /// Takes up what `name` is: one entry, and a level to go down if it is a directory.
    fn visit(&mut self, above: &Arc<OwnedFd>, name: &CString, path: RelPath) -> rustix::io::Result<()> {
        let stat = rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let attributes = attributes(&stat);
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let kind = match file_type {
            FileType::RegularFile => Kind::File(attributes),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(above, name, Vec::new())?;
                Kind::Link(attributes, target.into_bytes())
            }
            FileType::Directory => Kind::Directory(attributes),
            _ => Kind::Other(attributes),
        };
        let entry = entry(path.clone(), kind);
        if !self.sieve.keeps(&entry) {
            return Ok(());
        }
        self.ready.push_back(entry);
        if file_type == FileType::Directory && self.levels.len() < self.depth {
            let listed = match open_and_list(above, name) {
                Err(error) if is_shortage(&error) => self.with_less_open(above, name),
                other => other,
            };
            self.enter(listed, path);
        }
        Ok(())
    }

    /// Lists a directory when no descriptor was left: closes all that can be opened again, and waits for others.
    fn with_less_open(&mut self, above: &OwnedFd, name: &CString) -> io::Result<Listed> {
        self.levels.iter_mut().for_each(|level| level.directory = None);
        self.root.close();
        let mut tries = 0;
        loop {
            match open_and_list(above, name) {
                Err(error) if is_shortage(&error) && tries < TRIES => tries += 1,
                other => return other,
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn enter(&mut self, listed: io::Result<Listed>, path: RelPath) {
        let (mut names, directory) = match listed {
            Ok(listed) => listed,
            Err(error) => {
                self.ready.push_back(entry(path, Kind::Unreadable(error.into())));
                return;
            }
        };
        if let Some(text) = names.left_out() {
            self.tell(&path, Status::Unfinished, text);
        }
        // A path too long for the protocol names no file that could be asked for.
        let above = [&self.begin, &path].map(|path| match path.as_bytes().len() {
            0 => 0,
            len => len.saturating_add(1),
        });
        let room = MAX_PATH.saturating_sub(above.iter().sum());
        let before = names.known.len();
        names.known.retain(|name| name.as_bytes().len() <= room);
        let left_out = before.saturating_sub(names.known.len());
        if left_out > 0 {
            self.tell(
                &path,
                Status::BadPath,
                format!("{}, not taken: {left_out}", PathError::TooLong),
            );
        }
        if let Some(far) = self.levels.len().checked_sub(OPEN_LEVELS)
            && let Some(level) = self.levels.get_mut(far)
        {
            level.directory = None;
        }
        self.levels.push(Level {
            directory: Some(directory),
            path,
            names: names.known.into_iter(),
        });
    }

    fn tell(&mut self, path: &RelPath, status: Status, text: String) {
        let refusal = Refusal::new(status, text);
        self.ready.push_back(entry(path.clone(), Kind::Unreadable(refusal)));
    }
}

impl Level {
    fn open(&mut self, root: &Root, begin: &RelPath) -> io::Result<Arc<OwnedFd>> {
        if let Some(directory) = &self.directory {
            return Ok(directory.clone());
        }
        let directory = root.directory(begin.join(&self.path).as_bytes())?;
        self.directory = Some(directory.clone());
        Ok(directory)
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
            let Ok(last) = RelPath::parse(name.as_bytes()) else {
                continue;
            };
            let path = level.path.join(&last);
            let directory = level.open(&self.root, &self.begin);
            match directory.and_then(|directory| Ok(self.visit(&directory, &name, path.clone())?)) {
                Ok(()) => {}
                // It was removed while we walked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.ready.push_back(entry(path, Kind::Unreadable(error.into()))),
            }
        }
    }
}

fn open_and_list(above: &OwnedFd, name: &CString) -> io::Result<Listed> {
    let opened = rustix::fs::openat(above, name, directory_flags(), Mode::empty());
    opened.map_err(io::Error::from).and_then(listed)
}

fn listed(directory: OwnedFd) -> io::Result<Listed> {
    Ok((names(&directory)?, Arc::new(directory)))
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

fn entry(path: RelPath, kind: Kind) -> Entry {
    Entry { path, kind }
}

/// Names of a directory.
#[derive(Default)]
struct Names {
    /// Those that are listed, in order.
    known: Vec<CString>,
    /// Number of those of unfinished files.
    unfinished: usize,
    /// Number of those that only are called as if they were temporary.
    strange: usize,
}

impl Names {
    /// Tells how much of the directory is left out, if that is anything.
    fn left_out(&self) -> Option<String> {
        let mut text = Vec::new();
        if self.unfinished > 0 {
            text.push(format!(
                "unfinished files (.NAME.sss-part), not taken: {}",
                self.unfinished
            ));
        }
        if self.strange > 0 {
            text.push(format!(
                "not taken because of a name like .NAME.sss-part: {}",
                self.strange
            ));
        }
        (!text.is_empty()).then(|| text.join("; "))
    }

    /// Counts what has the name of a temporary file. Those that a transfer has only begun are empty, and the mark of a
    /// directory is a link.
    fn count(&mut self, directory: &OwnedFd, name: &CStr) {
        let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
            return;
        };
        let counter = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if stat.st_size == 0 => return,
            FileType::RegularFile => &mut self.unfinished,
            FileType::Symlink if is_mark(directory, name.to_bytes()) => return,
            _ => &mut self.strange,
        };
        *counter = counter.saturating_add(1);
    }
}

fn names(directory: &OwnedFd) -> io::Result<Names> {
    let mut names = Names::default();
    for item in Dir::read_from(directory)? {
        let item = item?;
        let name = item.file_name();
        match name.to_bytes() {
            b"." | b".." => {}
            bytes if is_part_name(bytes) => names.count(directory, name),
            _ => names.known.push(name.to_owned()),
        }
    }
    names.known.sort_unstable();
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
        traits: traits(stat),
    }
}

fn traits(stat: &Stat) -> Traits {
    // Unit of the blocks that are counted, whatever those of the file system are.
    const COUNTED: i64 = 512;
    let mut traits = Traits::empty();
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        traits.set(Traits::LINKED, stat.st_nlink > 1);
        traits.set(Traits::HOLES, stat.st_blocks.saturating_mul(COUNTED) < stat.st_size);
    }
    traits
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

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
        let root = Arc::new(Root::open(dir.path()).unwrap());
        let all = shape(Walk::new(&root, &RelPath::default(), DEPTH_ALL).unwrap());
        let expected = [
            "d .",
            "f a 0",
            "d b",
            "u b Unfinished",
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
        let root = Arc::new(Root::open(dir.path()).unwrap());
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
                matches!(&kind, Kind::Unreadable(r) if r.status == Status::BadPath),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn a_walk_may_begin_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        sample(dir.path());
        let root = Arc::new(Root::open(dir.path()).unwrap());
        let walk = |path: &[u8]| Walk::new(&root, &RelPath::parse(path).unwrap(), DEPTH_ALL).map(shape);
        assert_eq!(walk(b"b").unwrap(), ["d .", "u . Unfinished", "d empty", "f two 2"]);
        assert_eq!(walk(b"b/two").unwrap(), ["f . 2"]);
        assert_eq!(walk(b"c").unwrap(), ["l . /nowhere"]);
        assert_eq!(walk(b"none").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(walk(b"a/x").is_err());
    }

    #[test]
    fn deep_trees_are_walked_with_few_directories_open() {
        let dir = tempfile::tempdir().unwrap();
        let root = Arc::new(Root::open(dir.path()).unwrap());
        let mut above = root.directory(b"").unwrap();
        for _ in 0..1000 {
            for name in ["a", "b"] {
                rustix::fs::mkdirat(&above, name, Mode::RWXU).unwrap();
            }
            above = Arc::new(rustix::fs::openat(&above, "a", directory_flags(), Mode::empty()).unwrap());
        }
        let mut walk = Walk::new(&root, &RelPath::default(), DEPTH_ALL).unwrap();
        let mut count = 0;
        while walk.next().is_some() {
            count += 1;
            let open = walk.levels.iter().filter(|level| level.directory.is_some()).count();
            assert!(open <= OPEN_LEVELS + 1, "{open}");
        }
        assert_eq!(count, 2001);
    }
}
