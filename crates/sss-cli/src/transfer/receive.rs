//! The content of one file on its way in: what is there already, and what becomes of what arrives.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sss_files::{Attributes, Mtime, Options, Prefix, Refusal, RelPath, Status, Traits, Verdict, part_name};

use super::directories::{clear, look, mode_of, obstacle, parents, strange_temporary, sync, unlink, unwritable};
use super::exchange::{Exchange, SEGMENT, TransferError};
use super::io_pool::{self, Job};
use super::manifest::attributes;
use super::part_file::{Kept, Leftover, PartFile, hash_file, times};
use super::send::{Position, Source, changed, unreadable};
use super::unnamed_file;
use crate::transfer::safe_path::Root;

/// Place where a file is to be, and what it is to be.
#[derive(Clone)]
pub(crate) struct Destination {
    pub(crate) root: Arc<Root>,
    pub(crate) path: RelPath,
    pub(crate) attributes: Attributes,
    pub(crate) options: Options,
    /// This transfer has made the directory that it is to be in: there can be nothing.
    pub(crate) in_new_directory: bool,
}

/// Content of the place of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Free,
    /// A file of the same size and time (FIL-11); `is_exact` if its mode is right, too.
    Identical {
        is_exact: bool,
    },
    /// A file of the same size: it may be the same.
    SameSize,
    /// A file of so many bytes, fewer than it is to have: it may be its beginning.
    Shorter(u64),
    /// Something else, which can be replaced.
    Taken,
    /// Something that is never replaced.
    Blocked(Refusal),
}

/// Content that there is to begin with.
pub(crate) enum Basis {
    Nothing,
    /// The file there now.
    Existing(Prefix),
    /// Remains of an earlier transfer.
    Partial(Box<PartFile>, Prefix),
}

impl Basis {
    /// Returns what the sender is told of it.
    pub(crate) fn prefix(&self) -> Option<Prefix> {
        match self {
            Self::Nothing => None,
            Self::Existing(prefix) | Self::Partial(_, prefix) => Some(*prefix),
        }
    }
}

/// The same, as far as it is hashed, and with nothing open.
#[derive(Clone)]
pub(crate) enum Unhashed {
    Nothing,
    /// The file there now.
    Existing(Position),
    /// Remains of an earlier transfer.
    Partial(Kept),
}

impl Unhashed {
    /// Returns the number of bytes that are to be hashed.
    pub(crate) fn left(&self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Existing(position) => position.left(),
            Self::Partial(kept) => kept.left(),
        }
    }

    /// Returns what the sender is told of it, when all of it is hashed.
    pub(crate) fn prefix(&self) -> Option<Prefix> {
        match self {
            Self::Nothing => None,
            Self::Existing(position) => position.prefix(),
            Self::Partial(kept) => kept.prefix(),
        }
    }
}

/// Way in which the transfer of one file ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// It was written.
    Written,
    /// It was there.
    Identical,
}

impl Destination {
    /// Looks what is there; an identical file gets the mode of what it is to be. One system call, if the directory is
    /// open and the mode is right.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn find(&self) -> Result<Place, Refusal> {
        let place = self.look()?;
        let is_safe = self.options.contains(Options::SYNC);
        match place {
            Place::Identical { is_exact } if is_safe || !is_exact => {
                self.carry_over().map(|()| Place::Identical { is_exact: true })
            }
            place => Ok(place),
        }
    }

    /// Gives a file that has the right content mode and time of what it is to be.
    pub(crate) fn carry_over(&self) -> Result<(), Refusal> {
        let (above, name) = self.root.place(&self.path)?;
        let set = || -> io::Result<()> {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&above, name, flags, Mode::empty())?;
            let there = attributes(&rustix::fs::fstat(&file)?);
            if there.mode != self.attributes.mode && !self.options.contains(Options::NO_PERMS) {
                rustix::fs::fchmod(&file, mode_of(&self.attributes, self.options))?;
            }
            if there.mtime != self.attributes.mtime {
                rustix::fs::futimens(&file, &times(self.attributes.mtime))?;
            }
            if self.options.contains(Options::SYNC) {
                rustix::fs::fsync(&file)?;
                sync(&above)?;
            }
            Ok(())
        };
        set().map_err(|error| {
            let Refusal { status, text } = Refusal::from(error);
            Refusal::new(
                status,
                format!("it is there, but its mode and time cannot be set: {text}"),
            )
        })
    }

    fn look(&self) -> io::Result<Place> {
        let (above, name) = match self.root.place(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Place::Free),
            // A file where a directory is to be: that is replaced first.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory && self.replaces_parents() => {
                return Ok(Place::Free);
            }
            other => other?,
        };
        let Some(stat) = look(&above, name)? else {
            return Ok(Place::Free);
        };
        if let Some(refusal) = obstacle(&above, name, &stat)? {
            return Ok(Place::Blocked(refusal));
        }
        let there = attributes(&stat);
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if there.size > self.attributes.size => Place::Taken,
            FileType::RegularFile if there.size < self.attributes.size => Place::Shorter(there.size),
            FileType::RegularFile if there.mtime == self.attributes.mtime || there.size == 0 => {
                let keeps_mode = self.options.contains(Options::NO_PERMS) || there.mode == self.attributes.mode;
                let is_exact = keeps_mode && there.mtime == self.attributes.mtime;
                Place::Identical { is_exact }
            }
            FileType::RegularFile => Place::SameSize,
            _ => Place::Taken,
        })
    }

    /// Finds what there is to begin with. May hash a whole file.
    ///
    /// # Errors
    /// EXISTS if something else is there and is not to be replaced; else what the operating system says.
    pub(crate) fn basis(&self, place: &Place) -> Result<Basis, Refusal> {
        self.may_begin(place)?;
        if self.may_continue(place) {
            let part = self.part_file(Leftover::Keep(self.attributes.size))?;
            if let Some(prefix) = part.prefix() {
                return Ok(Basis::Partial(Box::new(part), prefix));
            }
        }
        let offered = self.offered(place);
        if offered > 0 {
            let (above, name) = self.root.place(&self.path)?;
            let prefix = hash_existing(&above, name, offered)?;
            return Ok(prefix.map_or(Basis::Nothing, Basis::Existing));
        }
        Ok(Basis::Nothing)
    }

    /// Looks whether there is anything to begin with, without hashing it.
    ///
    /// # Errors
    /// As [`Self::basis`].
    pub(crate) fn unhashed(&self, place: &Place) -> Result<Unhashed, Refusal> {
        self.may_begin(place)?;
        if self.may_continue(place) {
            let part = self.part_file(Leftover::Look(self.attributes.size))?;
            if let Some(kept) = part.keep()? {
                return Ok(Unhashed::Partial(kept));
            }
        }
        let offered = self.offered(place);
        if offered > 0 {
            let there = Source::open(&self.root, &self.path)?;
            if there.attributes().size == offered {
                return Ok(Unhashed::Existing(there.position().clone()));
            }
        }
        Ok(Unhashed::Nothing)
    }

    fn may_begin(&self, place: &Place) -> Result<(), Refusal> {
        match place {
            Place::Blocked(refusal) => Err(refusal.clone()),
            Place::Taken if !self.replaces() => Err(exists()),
            Place::Shorter(_) if !self.replaces() => Err(shorter()),
            _ => Ok(()),
        }
    }

    fn may_continue(&self, place: &Place) -> bool {
        (*place == Place::Free || self.replaces()) && self.is_continued()
    }

    /// Returns whether what remains of an interrupted transfer of it is offered to the next.
    pub(crate) fn is_continued(&self) -> bool {
        self.attributes.size > SEGMENT as u64
    }

    /// Bytes of the file there of which the sender is asked whether its own begins so.
    fn offered(&self, place: &Place) -> u64 {
        match place {
            Place::SameSize => self.attributes.size,
            // Less is sent anew sooner than it is asked about.
            Place::Shorter(len) if *len > SEGMENT as u64 => *len,
            _ => 0,
        }
    }

    /// Hashes up to `count` bytes more of what there is to begin with.
    ///
    /// # Errors
    /// CHANGED if it is not as it was, BUSY if another transfer has gone on with it; else what the operating system
    /// says.
    pub(crate) fn hash_on(&self, unhashed: Unhashed, count: u64) -> Result<Unhashed, Refusal> {
        Ok(match unhashed {
            Unhashed::Nothing => Unhashed::Nothing,
            Unhashed::Existing(position) => {
                let count = count.min(position.left());
                let there = Source::reopen(&self.root, &self.path, position)?;
                Unhashed::Existing(there.hashed(count)?)
            }
            Unhashed::Partial(kept) => {
                let left = kept.left();
                let mut part = self.part_file(Leftover::Own(kept))?;
                part.hash_on(count.min(left)).map_err(unreadable)?;
                Unhashed::Partial(part.keep()?.ok_or_else(changed)?)
            }
        })
    }

    /// Copies up to `count` bytes more of the file there, of which `prefix` was said, behind what was copied already.
    /// Between two calls the temporary file is anybody's: what another transfer has begun there is left to it.
    ///
    /// # Errors
    /// CHANGED if it is not as it was, BUSY if another transfer has written the temporary file; else what the operating
    /// system says.
    pub(crate) fn copy_on(&self, copied: Option<Kept>, prefix: &Prefix, count: u64) -> Result<Option<Kept>, Refusal> {
        let at = copied.as_ref().and_then(Kept::prefix).map_or(0, |copied| copied.len);
        let mut part = self.part_file(copied.map_or(Leftover::Others, Leftover::Own))?;
        let (above, name) = self.root.place(&self.path)?;
        let mut there = open_existing(&above, name)?;
        there.seek(SeekFrom::Start(at))?;
        part.copy(there, count.min(prefix.len.saturating_sub(at)))
            .map_err(unreadable)?;
        if part.prefix().is_some_and(|copied| copied.len == prefix.len) && part.hash() != prefix.hash {
            part.discard();
            return Err(changed());
        }
        Ok(part.keep()?)
    }

    pub(crate) fn replaces(&self) -> bool {
        self.options.contains(Options::REPLACE)
    }

    fn replaces_parents(&self) -> bool {
        self.options.contains(Options::REPLACE | Options::TREE)
    }

    /// Makes the file, and the directories above where they are missing.
    pub(crate) fn part_file(&self, leftover: Leftover) -> Result<PartFile, Refusal> {
        let (above, name) = parents(&self.root, &self.path, self.options)?;
        let part = PartFile::open(above, name, leftover)?.transient(!self.is_continued());
        Ok(part.with_holes(self.attributes.traits.contains(Traits::HOLES)))
    }

    /// The same for a file that came so far as `kept` says. Where nothing is kept, nothing is begun if another transfer
    /// has brought the file since this one looked.
    ///
    /// # Errors
    /// CHANGED if another transfer has brought it, BUSY if one has written the temporary file; else what the operating
    /// system says.
    pub(crate) fn part_file_again(&self, kept: Option<Kept>) -> Result<PartFile, Refusal> {
        let Some(kept) = kept else {
            if self.is_brought() {
                return Err(brought());
            }
            return self.part_file(Leftover::Discard);
        };
        self.part_file(Leftover::Own(kept))
    }

    /// Returns whether the file is there now, as far as can be seen.
    pub(crate) fn is_brought(&self) -> bool {
        matches!(self.look(), Ok(Place::Identical { .. }))
    }

    /// Removes what is kept of a file that is not continued when it is sent again, or is there. What cannot be removed
    /// is taken over by the next transfer.
    pub(crate) fn leave(&self, kept: Kept) {
        if self.is_continued() && !self.is_brought() {
            return;
        }
        let part = self.root.place(&self.path).ok();
        let part = part.and_then(|(above, name)| PartFile::open(above, name, Leftover::Own(kept)).ok());
        part.into_iter().for_each(PartFile::discard);
    }

    /// Everything that is left to do once the last bytes are there.
    pub(crate) fn complete(&self, part: Option<PartFile>, chunks: &[Bytes], hash: blake3::Hash) -> Result<(), Refusal> {
        if part.is_none() && self.complete_at_once(chunks, hash)?.is_some() {
            return Ok(());
        }
        let mut part = match part {
            Some(part) => part,
            None => self.part_file(Leftover::Discard)?,
        };
        part.write(chunks)?;
        if part.hash() != hash {
            part.discard();
            return Err(corrupt());
        }
        match part.commit(self.path.name(), &self.attributes, self.options) {
            Err(refusal) if refusal.status == Status::Exists => Err(exists()),
            other => other,
        }
    }

    /// The same for a file that is at hand as a whole, if nothing has its names and the system has a simpler way.
    /// `None`: nothing is done.
    fn complete_at_once(&self, chunks: &[Bytes], hash: blake3::Hash) -> Result<Option<()>, Refusal> {
        let is_simple = !self.replaces() && !self.attributes.traits.contains(Traits::HOLES);
        if !unnamed_file::ARE_POSSIBLE || !is_simple {
            return Ok(None);
        }
        let (above, name) = parents(&self.root, &self.path, self.options)?;
        if !self.in_new_directory && look(&above, &part_name(name))?.is_some() {
            return Ok(None);
        }
        let mut hasher = blake3::Hasher::new();
        for chunk in chunks {
            hasher.update(chunk);
        }
        if hasher.finalize() != hash {
            return Err(corrupt());
        }
        unnamed_file::write(&above, name, chunks, (&self.attributes, self.options))
    }

    /// Receives content from `start` on and completes the file. `received` is told of content as it arrives.
    ///
    /// The end of the stream is left to the caller.
    ///
    /// # Errors
    /// CORRUPT or CHANGED if what arrived is not to be used; else what peer, channel or operating system say. What was
    /// received of a large file is kept.
    pub(crate) async fn receive(
        self,
        exchange: &mut Exchange,
        (basis, start): (Basis, u64),
        received: impl Fn(u64),
    ) -> Result<Received, TransferError> {
        let mut part = match self.begin(basis, start).await? {
            Begun::Compared(ours) => {
                let theirs = exchange.message(Verdict::decode).await?.0?;
                if theirs != ours {
                    return Err(corrupt().into());
                }
                io_pool::run(move || self.carry_over()).await?;
                return Ok(Received::Identical);
            }
            Begun::Part(part) => part,
        };
        let mut left = self.attributes.size.saturating_sub(start);
        let mut writing: Option<Job<Result<Box<PartFile>, Refusal>>> = None;
        loop {
            let count = usize::try_from(left).unwrap_or(SEGMENT).min(SEGMENT);
            let arrived = exchange.content(count).await;
            if let Some(job) = writing.take() {
                part = Some(job.result().await.map_err(TransferError::local)?);
            }
            let chunks = arrived?;
            received(count as u64);
            left = left.saturating_sub(count as u64);
            if left == 0 {
                let hash = exchange.message(Verdict::decode).await?.0?;
                let done = io_pool::run(move || self.complete(part.map(|p| *p), &chunks, hash)).await;
                return done.map(|()| Received::Written).map_err(TransferError::local);
            }
            let (to, before) = (self.clone(), part.take());
            writing = Some(io_pool::start(move || {
                let mut part = match before {
                    Some(part) => part,
                    None => Box::new(to.part_file(Leftover::Discard)?),
                };
                part.write(&chunks)?;
                Ok(part)
            }));
        }
    }

    /// Begins with the content of the file there, of which `prefix` was said.
    fn copy_existing(&self, prefix: &Prefix) -> Result<Box<PartFile>, Refusal> {
        let mut part = self.part_file(Leftover::Discard)?;
        let (above, name) = self.root.place(&self.path)?;
        part.copy(open_existing(&above, name)?, prefix.len)?;
        if part.hash() != prefix.hash {
            part.discard();
            return Err(changed());
        }
        Ok(Box::new(part))
    }

    async fn begin(&self, basis: Basis, start: u64) -> Result<Begun, TransferError> {
        match basis {
            Basis::Existing(prefix) if start == prefix.len && start == self.attributes.size => {
                Ok(Begun::Compared(prefix.hash))
            }
            Basis::Existing(prefix) if start == prefix.len && self.replaces() => {
                let this = self.clone();
                let copied = io_pool::run(move || this.copy_existing(&prefix)).await;
                copied.map(|part| Begun::Part(Some(part))).map_err(TransferError::local)
            }
            Basis::Existing(prefix) if start == prefix.len => Err(shorter().into()),
            Basis::Existing(_) if start == 0 && !self.replaces() => Err(exists().into()),
            Basis::Partial(part, prefix) if start == prefix.len => Ok(Begun::Part(Some(part))),
            Basis::Partial(mut part, _) if start == 0 => io_pool::run(move || {
                part.restart()?;
                Ok(Begun::Part(Some(part)))
            })
            .await
            .map_err(|error: io::Error| TransferError::local(error.into())),
            _ if start == 0 => Ok(Begun::Part(None)),
            _ => Err(TransferError::Protocol("it starts where nobody asked it to".to_owned())),
        }
    }
}

enum Begun {
    /// The file there is the same, if the verdict says so.
    Compared(blake3::Hash),
    Part(Option<Box<PartFile>>),
}

pub(crate) fn corrupt() -> Refusal {
    Refusal::new(Status::Corrupt, "what arrived does not have the BLAKE3 that was sent")
}

pub(crate) fn brought() -> Refusal {
    Refusal::new(
        Status::Changed,
        "another transfer has brought this file in the meantime",
    )
}

pub(crate) fn exists() -> Refusal {
    Refusal::new(Status::Exists, "something else is there already: --force replaces it")
}

pub(crate) fn shorter() -> Refusal {
    let text = "a shorter file is there already: --force replaces it, and sends only what was added if it grew";
    Refusal::new(Status::Exists, text)
}

fn open_existing(above: &OwnedFd, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(above, name, flags, Mode::empty())?))
}

fn hash_existing(above: &OwnedFd, name: &[u8], size: u64) -> io::Result<Option<Prefix>> {
    let mut file = open_existing(above, name)?;
    let mut hasher = blake3::Hasher::new();
    let len = hash_file(&mut file, size, &mut hasher)?;
    Ok((len == size && len > 0).then(|| Prefix {
        len,
        hash: hasher.finalize(),
    }))
}

/// Makes a link, or finds that it is there.
///
/// # Errors
/// EXISTS, IN_THE_WAY, or what the operating system says.
pub(crate) fn make_link(
    root: &Root,
    path: &RelPath,
    (target, mtime): (&[u8], Mtime),
    options: Options,
) -> Result<Received, Refusal> {
    let (above, name) = parents(root, path, options)?;
    let made = link(&above, name, (target, mtime), options)?;
    if options.contains(Options::SYNC) {
        sync(&above)?;
    }
    Ok(made)
}

fn link(above: &OwnedFd, name: &[u8], (target, mtime): (&[u8], Mtime), options: Options) -> Result<Received, Refusal> {
    let there = match rustix::fs::symlinkat(target, above, name) {
        Ok(()) => {
            set_link_time(above, name, mtime)?;
            return Ok(Received::Written);
        }
        Err(Errno::EXIST) => look(above, name)?,
        Err(error) => return Err(unwritable(error)),
    };
    let same = |there: &std::ffi::CStr| there.to_bytes() == target;
    if rustix::fs::readlinkat(above, name, Vec::new()).is_ok_and(|there| same(&there)) {
        if there.is_some_and(|there| attributes(&there).mtime != mtime) {
            set_link_time(above, name, mtime)?;
        }
        return Ok(Received::Identical);
    }
    let is_link = |there: &Stat| FileType::from_raw_mode(there.st_mode) == FileType::Symlink;
    let other = there.filter(|there| !is_link(there));
    if let Some(refusal) = other.and_then(|there| obstacle(above, name, &there).transpose()) {
        return Err(refusal?);
    }
    if !options.contains(Options::REPLACE) {
        return Err(exists());
    }
    replace_by_link(above, name, (target, mtime), other.is_some())
}

fn set_link_time(above: &OwnedFd, name: &[u8], mtime: Mtime) -> io::Result<()> {
    let set = rustix::fs::utimensat(above, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW);
    match set {
        // Some file systems keep no times of links.
        Err(Errno::NOSYS | Errno::OPNOTSUPP) => Ok(()),
        other => Ok(other?),
    }
}

fn replace_by_link(
    above: &OwnedFd,
    name: &[u8],
    (target, mtime): (&[u8], Mtime),
    may_be_in_the_way: bool,
) -> Result<Received, Refusal> {
    let temporary = std::ffi::CString::new(sss_files::part_name(name))
        .map_err(|_| Refusal::new(Status::BadPath, "NUL in a name"))?;
    match look(above, temporary.as_bytes())?.map(|there| FileType::from_raw_mode(there.st_mode)) {
        None => {}
        Some(FileType::RegularFile | FileType::Symlink) => unlink(above, temporary.as_bytes())?,
        Some(_) => return Err(strange_temporary(temporary.as_bytes())),
    }
    rustix::fs::symlinkat(target, above, &temporary).map_err(unwritable)?;
    let rename = || {
        set_link_time(above, temporary.as_bytes(), mtime)?;
        if may_be_in_the_way {
            clear(above, name)?;
        }
        Ok(super::part_file::rename(above, &temporary, name, true)?)
    };
    let renamed: Result<(), Refusal> = rename();
    if renamed.is_err() {
        unlink(above, temporary.as_bytes())?;
    }
    renamed.map(|()| Received::Written)
}

#[cfg(test)]
mod tests;
