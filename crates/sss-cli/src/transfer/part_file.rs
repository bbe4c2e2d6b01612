//! A file until it is complete: content under a temporary name, hashed as it is written (FIL-9, FIL-10).

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{AtFlags, Dev, FileType, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;
use sss_files::{Attributes, Mtime, Options, Prefix, Refusal, Status, part_name};

use super::directories::{clear, look, mode_of, strange_temporary, sync, unlink, unwritable};
use super::manifest::attributes;

/// Bytes that are left out together, if all are zeros.
const BLOCK: usize = 4 << 10;

/// Bytes copied and hashed together.
const PIECE: usize = 128 << 10;

/// A temporary file, open and locked. Dropped without [`PartFile::commit`] it stays, to be continued later, unless it
/// is empty, or is not continued.
pub(crate) struct PartFile {
    directory: Arc<OwnedFd>,
    temporary: CString,
    file: File,
    hasher: Box<blake3::Hasher>,
    len: u64,
    /// Blocks of zeros are left out of the file: they become holes.
    has_holes: bool,
    /// No later transfer goes on with it.
    is_transient: bool,
    committed: bool,
}

/// Everything about a temporary file but the file itself: with it, the file can be closed and opened again.
#[derive(Clone)]
pub(crate) struct Kept {
    /// Device and number, size, and time of last modification.
    file: (Dev, u64, u64, Mtime),
    /// Of the first `len` bytes.
    hasher: Box<blake3::Hasher>,
    len: u64,
}

/// Choice of what to do with what an earlier transfer left.
#[derive(Clone)]
pub(crate) enum Leftover {
    /// Hash it and go on behind it, if it has at most this many bytes.
    Keep(u64),
    /// The same, but the hashing is left to the caller: see [`PartFile::hash_on`].
    Look(u64),
    /// Go on with what this transfer has left itself.
    Own(Kept),
    /// There was none when this transfer looked: what is there now is of another, and stays.
    Others,
    /// Begin with nothing.
    Discard,
}

impl Kept {
    /// The part that was hashed, as the peer is told of it. `None`: nothing.
    pub(crate) fn prefix(&self) -> Option<Prefix> {
        (self.len > 0).then(|| Prefix {
            len: self.len,
            hash: self.hasher.finalize(),
        })
    }

    /// Returns the number of bytes that are not hashed.
    pub(crate) fn left(&self) -> u64 {
        self.file.2.saturating_sub(self.len)
    }
}

impl PartFile {
    /// Opens or makes the temporary file of `name`.
    ///
    /// # Errors
    /// BUSY if another transfer has it open, or has written to it where it is not to be taken over; else what the
    /// operating system says.
    pub(crate) fn open(directory: Arc<OwnedFd>, name: &[u8], leftover: Leftover) -> Result<Self, Refusal> {
        let temporary = CString::new(part_name(name)).map_err(|_| Refusal::new(Status::BadPath, "NUL in a name"))?;
        let file = File::from(open_locked(&directory, &temporary)?);
        let mut part = Self {
            directory,
            temporary,
            file,
            hasher: Box::default(),
            len: 0,
            has_holes: false,
            is_transient: false,
            committed: false,
        };
        part.take_over(leftover)?;
        Ok(part)
    }

    fn take_over(&mut self, leftover: Leftover) -> Result<(), Refusal> {
        let there = self.file.metadata()?.len();
        match leftover {
            Leftover::Own(kept) => return self.go_on(kept, there),
            _ if there == 0 => {}
            Leftover::Keep(most) if there <= most => {
                self.len = hash_file(&mut self.file, there, &mut self.hasher)?;
            }
            Leftover::Look(most) if there <= most => {}
            Leftover::Others => return Err(self.leave_to_others(there)),
            _ => self.restart()?,
        }
        Ok(())
    }

    fn go_on(&mut self, kept: Kept, there: u64) -> Result<(), Refusal> {
        if self.identity()? != kept.file {
            return Err(self.leave_to_others(there));
        }
        self.file.seek(SeekFrom::Start(kept.len))?;
        self.len = kept.len;
        self.hasher = kept.hasher;
        Ok(())
    }

    /// Leaves what another transfer has begun; an empty file goes.
    fn leave_to_others(&mut self, there: u64) -> Refusal {
        self.committed = there > 0;
        written_by_another()
    }

    fn identity(&self) -> io::Result<(Dev, u64, u64, Mtime)> {
        let stat = rustix::fs::fstat(&self.file)?;
        let there = attributes(&stat);
        Ok((stat.st_dev, stat.st_ino, there.size, there.mtime))
    }

    /// Closes it, to be opened again later with [`Leftover::Own`]. `None`: it was empty, and is removed.
    pub(crate) fn keep(mut self) -> io::Result<Option<Kept>> {
        let file = self.identity()?;
        if file.2 == 0 {
            return Ok(None);
        }
        // It may be that nothing of it is hashed yet.
        self.committed = true;
        Ok(Some(Kept {
            file,
            hasher: std::mem::take(&mut self.hasher),
            len: self.len,
        }))
    }

    /// Hashes up to `count` bytes more of what it held when it was opened.
    ///
    /// # Errors
    /// Of the operating system.
    pub(crate) fn hash_on(&mut self, count: u64) -> io::Result<()> {
        let hashed = hash_file(&mut self.file, count, &mut self.hasher)?;
        self.len = self.len.saturating_add(hashed);
        Ok(())
    }

    /// Leaves blocks of zeros out from now on, if `has_holes` is set.
    pub(crate) fn with_holes(mut self, has_holes: bool) -> Self {
        self.has_holes = has_holes;
        self
    }

    /// Removes it when it is dropped, if `is_transient` is set.
    pub(crate) fn transient(mut self, is_transient: bool) -> Self {
        self.is_transient = is_transient;
        self
    }

    /// Returns what it holds. `None`: nothing.
    pub(crate) fn prefix(&self) -> Option<Prefix> {
        (self.len > 0).then(|| Prefix {
            len: self.len,
            hash: self.hash(),
        })
    }

    /// Throws away what it holds.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hasher.reset();
        self.len = 0;
        Ok(())
    }

    /// Appends.
    pub(crate) fn write(&mut self, chunks: &[Bytes]) -> io::Result<()> {
        for chunk in chunks {
            if self.has_holes {
                self.write_around_holes(chunk)?;
            } else {
                self.file.write_all(chunk)?;
            }
            self.hasher.update(chunk);
            self.len = self.len.saturating_add(chunk.len() as u64);
        }
        if self.has_holes {
            self.file.set_len(self.len)?;
        }
        Ok(())
    }

    /// Writes a chunk but for those of its blocks, and pieces of blocks, that are zeros.
    fn write_around_holes(&self, chunk: &[u8]) -> io::Result<()> {
        let (mut rest, mut at) = (chunk, self.len);
        // Bytes before `rest` that are still to be written.
        let mut pending = 0_usize;
        while !rest.is_empty() {
            let to_edge = BLOCK.saturating_sub((at % BLOCK as u64) as usize);
            let (piece, behind) = rest.split_at(to_edge.min(rest.len()));
            // Zeros at the edge of a chunk, too: what is behind the end of a file reads as zeros.
            let is_hole = piece.iter().all(|byte| *byte == 0);
            if is_hole {
                self.write_before(chunk, rest, pending, at)?;
                pending = 0;
            } else {
                pending = pending.saturating_add(piece.len());
            }
            at = at.saturating_add(piece.len() as u64);
            rest = behind;
        }
        self.write_before(chunk, rest, pending, at)
    }

    /// Writes the `count` bytes of `chunk` that are before `rest`, which belongs at `at`.
    fn write_before(&self, chunk: &[u8], rest: &[u8], count: usize, at: u64) -> io::Result<()> {
        let end = chunk.len().saturating_sub(rest.len());
        let bytes = chunk.get(end.saturating_sub(count)..end).unwrap_or_default();
        self.file.write_all_at(bytes, at.saturating_sub(count as u64))
    }

    /// Appends the next `len` bytes of another file.
    pub(crate) fn copy(&mut self, mut from: File, len: u64) -> io::Result<()> {
        let mut left = len;
        while left > 0 {
            let piece = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let mut bytes = vec![0; piece];
            from.read_exact(&mut bytes)?;
            self.write(&[bytes.into()])?;
            left = left.saturating_sub(piece as u64);
        }
        Ok(())
    }

    /// BLAKE3 of what it holds.
    pub(crate) fn hash(&self) -> blake3::Hash {
        self.hasher.finalize()
    }

    /// Sets mode and time and gives it its final name.
    ///
    /// # Errors
    /// EXISTS if the name is taken and REPLACE is not among the options, IN_THE_WAY if what is there is never replaced:
    /// the temporary file is removed then.
    pub(crate) fn commit(mut self, name: &[u8], attributes: &Attributes, options: Options) -> Result<(), Refusal> {
        rustix::fs::fchmod(&self.file, mode_of(attributes, options)).map_err(io::Error::from)?;
        rustix::fs::futimens(&self.file, &times(attributes.mtime)).map_err(io::Error::from)?;
        let is_safe = options.contains(Options::SYNC);
        if is_safe {
            self.file.sync_all()?;
        }
        match self.rename(name, options.contains(Options::REPLACE)) {
            Ok(()) => {
                self.committed = true;
                if is_safe {
                    sync(&self.directory)?;
                }
                Ok(())
            }
            Err(refusal) => {
                self.discard();
                Err(refusal)
            }
        }
    }

    fn rename(&self, name: &[u8], replace: bool) -> Result<(), Refusal> {
        // What has the temporary name now gets the final one: it must be this file.
        if !is_still(&self.directory, &self.temporary, &self.file)? {
            let text = "somebody took the temporary file away while it was written";
            return Err(Refusal::new(Status::Io, text));
        }
        if replace {
            clear(&self.directory, name)?;
        }
        Ok(rename(&self.directory, &self.temporary, name, replace)?)
    }

    /// Removes it.
    pub(crate) fn discard(mut self) {
        self.remove();
    }

    fn remove(&mut self) {
        self.committed = true;
        // What cannot be removed is taken over by the next transfer, and what is not ours stays.
        if is_still(&self.directory, &self.temporary, &self.file).is_ok_and(|still| still) {
            let _ = rustix::fs::unlinkat(&self.directory, &self.temporary, AtFlags::empty());
        }
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.committed && (self.len == 0 || self.is_transient) {
            self.remove();
        }
    }
}

/// Opens a temporary file and locks it. Between the two, whoever had the lock may have given the file its final name:
/// then it is not ours, and the name is free again.
fn open_locked(directory: &OwnedFd, temporary: &CString) -> Result<OwnedFd, Refusal> {
    const TRIES: usize = 8;
    for _ in 0..TRIES {
        let Some(fd) = open_or_make(directory, temporary)? else {
            continue;
        };
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if is_still(directory, temporary, &fd)? => return Ok(fd),
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => break,
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
    Err(written_by_another())
}

fn written_by_another() -> Refusal {
    Refusal::new(Status::Busy, "another transfer is writing this file")
}

/// `None`: it was there when we looked, and is no more.
fn open_or_make(directory: &OwnedFd, temporary: &CString) -> Result<Option<OwnedFd>, Refusal> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::openat(directory, temporary, flags | OFlags::CREATE | OFlags::EXCL, mode) {
        Ok(fd) => return Ok(Some(fd)),
        Err(Errno::EXIST) => {}
        Err(error) => return Err(unwritable(error)),
    }
    let name = temporary.as_bytes();
    let Some(there) = look(directory, name)? else {
        return Ok(None);
    };
    if there.st_nlink == 0 {
        // It was removed while it was looked at: what has the name now is somebody else's.
        return Ok(None);
    }
    match FileType::from_raw_mode(there.st_mode) {
        FileType::RegularFile if is_ours(&there) => match rustix::fs::openat(directory, temporary, flags, mode) {
            Ok(fd) => return Ok(Some(fd)),
            Err(Errno::NOENT) => return Ok(None),
            // It was exchanged, or is read-only: not ours to continue.
            Err(Errno::LOOP | Errno::ACCESS | Errno::ISDIR | Errno::NXIO) => {}
            Err(error) => return Err(unwritable(error)),
        },
        FileType::RegularFile | FileType::Symlink => {}
        // Opening a FIFO or a device does something.
        _ => return Err(strange_temporary(name)),
    }
    unlink(directory, name)?;
    Ok(None)
}

/// Returns whether a file can be the rest of a transfer of this user: nobody else can write to it, or has it by another
/// name.
fn is_ours(stat: &Stat) -> bool {
    let is_open_to_others = Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH);
    stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_nlink == 1 && !is_open_to_others
}

fn is_still(directory: &OwnedFd, temporary: &CString, fd: impl AsFd) -> io::Result<bool> {
    let ours = rustix::fs::fstat(fd)?;
    match rustix::fs::statat(directory, temporary, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(named) => Ok((named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Renames within a directory; onto an existing name only if `replace` is set.
pub(crate) fn rename(directory: &OwnedFd, from: &CString, to: &[u8], replace: bool) -> io::Result<()> {
    if replace {
        return Ok(rustix::fs::renameat(directory, from, directory, to)?);
    }
    #[cfg(target_os = "linux")]
    match rustix::fs::renameat_with(directory, from, directory, to, rustix::fs::RenameFlags::NOREPLACE) {
        // Some file systems do not know the flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        other => return Ok(other?),
    }
    rustix::fs::linkat(directory, from, directory, to, AtFlags::empty())?;
    Ok(rustix::fs::unlinkat(directory, from, AtFlags::empty())?)
}

/// The time of last modification, as system calls take it; the time of last access stays.
pub(crate) fn times(mtime: Mtime) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.seconds,
            tv_nsec: mtime.nanoseconds.into(),
        },
    }
}

/// Hashes the first `len` bytes of a file from where it stands, and says how many there were.
pub(crate) fn hash_file(file: &mut File, len: u64, hasher: &mut blake3::Hasher) -> io::Result<u64> {
    let mut buffer = vec![0; PIECE];
    let mut from = file.take(len);
    let mut done = 0_u64;
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(done);
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
        done = done.saturating_add(read as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    use super::*;

    fn directory(path: &Path) -> Arc<OwnedFd> {
        Arc::new(OwnedFd::from(File::open(path).unwrap()))
    }

    fn attributes() -> Attributes {
        Attributes {
            size: 5,
            mode: 0o640,
            mtime: Mtime {
                seconds: 1_000_000_000,
                nanoseconds: 123_456_789,
            },
            traits: sss_files::Traits::empty(),
        }
    }

    fn written(dir: &Path, name: &[u8], content: &'static [u8]) -> PartFile {
        let mut part = PartFile::open(directory(dir), name, Leftover::Discard).unwrap();
        part.write(&[Bytes::from_static(content)]).unwrap();
        part
    }

    #[test]
    fn a_file_appears_whole_with_its_mode_and_time() {
        let dir = tempfile::tempdir().unwrap();
        let part = written(dir.path(), b"name", b"hello");
        assert!(!dir.path().join("name").exists());
        assert!(dir.path().join(".name.sss-part").exists());
        assert_eq!(part.hash(), blake3::hash(b"hello"));
        part.commit(b"name", &attributes(), Options::empty()).unwrap();

        let meta = fs::metadata(dir.path().join("name")).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, 0o640);
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_000_000_000, 123_456_789));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_of_somebody_else_under_the_temporary_name_stays() {
        let dir = tempfile::tempdir().unwrap();
        let temporary = dir.path().join(".name.sss-part");
        let part = written(dir.path(), b"name", b"hello");
        fs::remove_file(&temporary).unwrap();
        fs::write(&temporary, "of somebody else").unwrap();
        part.discard();
        assert_eq!(fs::read(&temporary).unwrap(), b"of somebody else");
        let part = PartFile::open(directory(dir.path()), b"other", Leftover::Discard).unwrap();
        let temporary = dir.path().join(".other.sss-part");
        fs::remove_file(&temporary).unwrap();
        fs::write(&temporary, "").unwrap();
        // An empty one is removed when it is dropped.
        drop(part);
        assert!(temporary.exists());
    }

    #[test]
    fn who_opens_a_file_while_it_gets_its_name_does_not_write_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let going_on = std::sync::atomic::AtomicBool::new(true);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // It ends by itself if the other one fails.
                for _ in 0..50_000 {
                    if !going_on.load(std::sync::atomic::Ordering::Relaxed) {
                        return;
                    }
                    if let Ok(part) = PartFile::open(directory(dir.path()), b"name", Leftover::Discard) {
                        assert!(is_still(&part.directory, &part.temporary, &part.file).unwrap());
                        assert_eq!(
                            part.file.metadata().unwrap().mode() & 0o777,
                            0o600,
                            "it has its name already"
                        );
                    }
                }
            });
            for _ in 0..2000 {
                let Ok(mut part) = PartFile::open(directory(dir.path()), b"name", Leftover::Discard) else {
                    continue;
                };
                part.write(&[Bytes::from_static(b"hello")]).unwrap();
                part.commit(b"name", &attributes(), Options::REPLACE).unwrap();
                assert_eq!(fs::read(dir.path().join("name")).unwrap(), b"hello");
            }
            going_on.store(false, std::sync::atomic::Ordering::Relaxed);
        });
    }

    #[test]
    fn nothing_is_overwritten_unless_asked_to() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("name");
        fs::write(&target, "precious").unwrap();
        let error = written(dir.path(), b"name", b"hello").commit(b"name", &attributes(), Options::empty());
        assert_eq!(error.unwrap_err().status, Status::Exists);
        assert_eq!(fs::read(&target).unwrap(), b"precious");
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "the temporary file is gone"
        );

        written(dir.path(), b"name", b"hello")
            .commit(b"name", &attributes(), Options::REPLACE)
            .unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"hello");
    }

    #[test]
    fn what_was_written_is_continued() {
        let dir = tempfile::tempdir().unwrap();
        drop(written(dir.path(), b"n", b"hel"));
        let mut part = PartFile::open(directory(dir.path()), b"n", Leftover::Keep(5)).unwrap();
        let prefix = part.prefix().unwrap();
        assert_eq!((prefix.len, prefix.hash), (3, blake3::hash(b"hel")));
        part.write(&[Bytes::from_static(b"lo")]).unwrap();
        assert_eq!(part.hash(), blake3::hash(b"hello"));
        part.commit(b"n", &attributes(), Options::empty()).unwrap();
        assert_eq!(fs::read(dir.path().join("n")).unwrap(), b"hello");
    }

    #[test]
    fn what_is_too_long_or_unwanted_is_not_continued() {
        let dir = tempfile::tempdir().unwrap();
        for leftover in [Leftover::Keep(4), Leftover::Discard] {
            drop(written(dir.path(), b"n", b"hello"));
            let part = PartFile::open(directory(dir.path()), b"n", leftover).unwrap();
            assert_eq!(part.prefix(), None);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "empty ones do not stay");
    }

    #[test]
    fn two_transfers_of_one_file_do_not_meet() {
        let dir = tempfile::tempdir().unwrap();
        let first = written(dir.path(), b"n", b"hello");
        let second = PartFile::open(directory(dir.path()), b"n", Leftover::Discard);
        assert_eq!(second.err().map(|r| r.status), Some(Status::Busy));
        first.commit(b"n", &attributes(), Options::empty()).unwrap();
        assert!(PartFile::open(directory(dir.path()), b"n", Leftover::Discard).is_ok());
        assert_eq!(fs::read(dir.path().join("n")).unwrap(), b"hello");
    }

    #[test]
    fn a_link_under_the_temporary_name_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        symlink(outside.path(), dir.path().join(".n.sss-part")).unwrap();
        written(dir.path(), b"n", b"hello")
            .commit(b"n", &attributes(), Options::empty())
            .unwrap();
        assert_eq!(fs::read(outside.path()).unwrap(), b"");
        assert_eq!(fs::read(dir.path().join("n")).unwrap(), b"hello");
    }

    #[test]
    fn what_is_no_file_is_neither_opened_nor_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let fd = directory(dir.path());
        rustix::fs::mknodat(&fd, ".n.sss-part", FileType::Fifo, Mode::RWXU, 0).unwrap();
        let refused = PartFile::open(fd.clone(), b"n", Leftover::Discard).err().unwrap();
        assert_eq!(refused.status, Status::InTheWay);
        assert!(refused.text.contains(".n.sss-part"), "{refused}");
        fs::remove_file(dir.path().join(".n.sss-part")).unwrap();

        // Exchanged after it was opened.
        let part = written(dir.path(), b"n", b"hello");
        fs::remove_file(dir.path().join(".n.sss-part")).unwrap();
        symlink("/etc/passwd", dir.path().join(".n.sss-part")).unwrap();
        assert!(part.commit(b"n", &attributes(), Options::REPLACE).is_err());
        assert!(!dir.path().join("n").exists());
    }

    #[test]
    fn a_file_with_another_name_or_open_to_others_is_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let part = dir.path().join(".n.sss-part");
        for linked in [true, false] {
            fs::write(dir.path().join("other"), "precious").unwrap();
            if linked {
                fs::hard_link(dir.path().join("other"), &part).unwrap();
            } else {
                fs::write(&part, "hel").unwrap();
                fs::set_permissions(&part, fs::Permissions::from_mode(0o666)).unwrap();
            }
            let opened = PartFile::open(directory(dir.path()), b"n", Leftover::Keep(5)).unwrap();
            assert_eq!(opened.prefix(), None);
            drop(opened);
            assert_eq!(fs::read(dir.path().join("other")).unwrap(), b"precious");
        }
    }

    #[test]
    fn devices_and_full_directories_are_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let fd = directory(dir.path());
        rustix::fs::mknodat(&fd, "fifo", FileType::Fifo, Mode::RWXU, 0).unwrap();
        symlink("fifo", dir.path().join("link")).unwrap();
        fs::create_dir_all(dir.path().join("full/in")).unwrap();
        for name in ["fifo", "link", "full"] {
            let part = written(dir.path(), name.as_bytes(), b"hello");
            let refusal = part
                .commit(name.as_bytes(), &attributes(), Options::REPLACE)
                .unwrap_err();
            assert_eq!(refusal.status, Status::InTheWay, "{name}");
        }
        let part = written(&dir.path().join("full"), b"in", b"hello");
        part.commit(b"in", &attributes(), Options::REPLACE).unwrap();
        assert_eq!(fs::read(dir.path().join("full/in")).unwrap(), b"hello");
    }

    #[test]
    fn what_was_closed_goes_on_unless_somebody_else_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let open = |leftover| PartFile::open(directory(dir.path()), b"n", leftover);
        let kept = written(dir.path(), b"n", b"hel").keep().unwrap().unwrap();
        assert_eq!(kept.prefix().unwrap().hash, blake3::hash(b"hel"));
        let mut part = open(Leftover::Own(kept)).unwrap();
        part.write(&[Bytes::from_static(b"lo")]).unwrap();
        let kept = part.keep().unwrap().unwrap();
        assert_eq!(kept.prefix().unwrap().hash, blake3::hash(b"hello"));

        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
        for content in ["hello", "hell", ""] {
            let temporary = dir.path().join(".n.sss-part");
            fs::write(&temporary, content).unwrap();
            File::open(&temporary).unwrap().set_modified(later).unwrap();
            let status = open(Leftover::Own(kept.clone())).err().unwrap().status;
            assert_eq!(status, Status::Busy, "{content:?}");
            assert_eq!(temporary.exists(), !content.is_empty(), "what others have begun stays");
        }
        let empty = PartFile::open(directory(dir.path()), b"e", Leftover::Discard).unwrap();
        assert!(empty.keep().unwrap().is_none());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_an_earlier_transfer_left_is_hashed_in_slices() {
        let dir = tempfile::tempdir().unwrap();
        drop(written(dir.path(), b"n", b"hello"));
        let open = |leftover| PartFile::open(directory(dir.path()), b"n", leftover).unwrap();
        let mut kept = open(Leftover::Look(5)).keep().unwrap().unwrap();
        assert_eq!((kept.prefix(), kept.left()), (None, 5));
        while kept.left() > 0 {
            let mut part = open(Leftover::Own(kept));
            part.hash_on(2).unwrap();
            kept = part.keep().unwrap().unwrap();
        }
        assert_eq!(kept.prefix().unwrap().hash, blake3::hash(b"hello"));
        assert!(open(Leftover::Look(4)).keep().unwrap().is_none(), "it is longer");
    }

    #[test]
    fn zeros_become_holes_if_there_were_some() {
        let dir = tempfile::tempdir().unwrap();
        let mut content = vec![0; 3 << 20];
        content[5_000..5_010].fill(1);
        content[2_000_000] = 1;
        for has_holes in [true, false] {
            let part = PartFile::open(directory(dir.path()), b"n", Leftover::Discard).unwrap();
            let mut part = part.with_holes(has_holes);
            for chunk in content.chunks(100_001) {
                part.write(&[Bytes::copy_from_slice(chunk)]).unwrap();
                assert_eq!(part.file.metadata().unwrap().len(), part.len);
            }
            assert_eq!(part.hash(), blake3::hash(&content));
            part.commit(b"n", &attributes(), Options::REPLACE | Options::SYNC)
                .unwrap();
            let path = dir.path().join("n");
            assert!(fs::read(&path).unwrap() == content);
            assert_eq!(fs::metadata(&path).unwrap().blocks() < 200, has_holes);
        }
    }

    #[test]
    fn long_names_have_short_temporary_names() {
        let long = [b'x'; 255];
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), &long, b"hello")
            .commit(&long, &attributes(), Options::empty())
            .unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
