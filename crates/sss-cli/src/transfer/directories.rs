//! Directories of a tree that arrives. One that is made gets a mark beside it, a link under its temporary name, until
//! it has mode and time: so a later transfer tells what an earlier one left unfinished from what was there before,
//! which keeps its mode and time (FIL-21).

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sss_files::{Attributes, Options, Refusal, RelPath, Status, part_name};

use super::part_file::times;
use crate::transfer::safe_path::{Root, directory_flags};

/// Target of the link that is a mark. It leads nowhere.
const MARK: &str = "sss: mode and time of this directory are not set yet";

/// Number of times that something is looked at again because somebody else was faster.
const TRIES: usize = 8;

/// Opens the directory in which `path` is to be, and makes what is missing above it. With TREE what is made is marked;
/// else it is as `mkdir` makes it.
///
/// # Errors
/// What the operating system says; IN_THE_WAY or EXISTS if something on the way is no directory and stays.
pub(crate) fn parents<'p>(
    root: &Root,
    path: &'p RelPath,
    options: Options,
) -> Result<(Arc<OwnedFd>, &'p [u8]), Refusal> {
    let replaces = options.contains(Options::TREE | Options::REPLACE);
    match root.place(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::NotADirectory && replaces => {}
        other => return Ok(other?),
    }
    let (above, name) = path.split().ok_or(io::Error::from(io::ErrorKind::IsADirectory))?;
    Ok((way(root, above, options)?, name))
}

/// Opens the directory at `above`, and makes what is missing on the way.
fn way(root: &Root, above: &[u8], options: Options) -> Result<Arc<OwnedFd>, Refusal> {
    let (mut directory, at) = root.nearest(above);
    let missing = above.get(at..).unwrap_or_default().split(|b| *b == b'/');
    // Nothing is, if another request was faster.
    for next in missing.filter(|name| !name.is_empty()) {
        let open = || rustix::fs::openat(&directory, next, directory_flags(), Mode::empty());
        let opened = match open() {
            Err(Errno::NOENT | Errno::NOTDIR) => {
                make(&directory, next, options)?;
                open()
            }
            other => other,
        };
        directory = Arc::new(opened.map_err(io::Error::from)?);
    }
    root.remember(above, &directory);
    Ok(directory)
}

/// Way in which a directory came to be there. Of those that a transfer made, mode and time are to be set at the end;
/// until then they are open to their owner only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// It was made now: nothing is in it.
    Now,
    /// An earlier transfer made it and was interrupted.
    Before,
    /// It was there; or, without TREE, there is nothing to set.
    Elsewise,
}

impl Made {
    /// Returns whether mode and time are to be set.
    pub(crate) fn is_unfinished(self) -> bool {
        self != Self::Elsewise
    }
}

/// Makes a directory, or finds it.
///
/// # Errors
/// As [`parents`].
pub(crate) fn make_directory(root: &Root, path: &RelPath, options: Options) -> Result<Made, Refusal> {
    if path.is_root() {
        return Ok(root.place_of_made(path)?.map_or(Made::Elsewise, |_| Made::Before));
    }
    let (above, name) = parents(root, path, options)?;
    make(&above, name, options)
}

fn make(above: &OwnedFd, name: &[u8], options: Options) -> Result<Made, Refusal> {
    let is_of_tree = options.contains(Options::TREE);
    for _ in 0..TRIES {
        let Some(there) = look(above, name)? else {
            if try_to_make(above, name, options)? {
                return Ok(if is_of_tree { Made::Now } else { Made::Elsewise });
            }
            continue;
        };
        let kind = FileType::from_raw_mode(there.st_mode);
        let is_replaceable = matches!(kind, FileType::RegularFile | FileType::Symlink);
        if kind == FileType::Directory {
            let is_adopted = is_of_tree && adopt(above, name, &there)?;
            return Ok(if is_adopted { Made::Before } else { Made::Elsewise });
        }
        if !is_replaceable {
            return Err(in_the_way(
                "a device, a socket or a FIFO is in the place of this directory",
            ));
        }
        if !options.contains(Options::REPLACE) {
            let text = "something that is not a directory is in its place: --force replaces it";
            return Err(Refusal::new(Status::Exists, text));
        }
        unlink(above, name)?;
    }
    Err(Refusal::new(
        Status::Io,
        "somebody else makes and removes it at the same time",
    ))
}

/// Returns false if there is something meanwhile.
fn try_to_make(above: &OwnedFd, name: &[u8], options: Options) -> Result<bool, Refusal> {
    let is_of_tree = options.contains(Options::TREE);
    let mode = if is_of_tree {
        mark(above, name)?;
        Mode::RWXU
    } else {
        Mode::from_raw_mode(0o777)
    };
    match rustix::fs::mkdirat(above, name, mode) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(error) => {
            if is_of_tree {
                unmark(above, name)?;
            }
            Err(unwritable(error))
        }
    }
}

/// Returns whether the directory there is one that an earlier transfer made and did not finish; makes it usable then.
fn adopt(above: &OwnedFd, name: &[u8], there: &Stat) -> Result<bool, Refusal> {
    let mark = look(above, &part_name(name))?;
    if mark.is_none_or(|mark| FileType::from_raw_mode(mark.st_mode) != FileType::Symlink) {
        return Ok(false);
    }
    let mode = Mode::from_raw_mode(there.st_mode);
    if !mode.contains(Mode::RWXU) {
        rustix::fs::chmodat(above, name, mode | Mode::RWXU, AtFlags::empty()).map_err(io::Error::from)?;
    }
    Ok(true)
}

fn mark(above: &OwnedFd, name: &[u8]) -> Result<(), Refusal> {
    let mark = part_name(name);
    for _ in 0..TRIES {
        match rustix::fs::symlinkat(MARK, above, mark.as_slice()) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(unwritable(error)),
        }
        let Some(there) = look(above, &mark)? else { continue };
        match FileType::from_raw_mode(there.st_mode) {
            FileType::Symlink => return Ok(()),
            // The beginning of a file that is a directory now.
            FileType::RegularFile => unlink(above, &mark)?,
            _ => return Err(strange_temporary(&mark)),
        }
    }
    Err(Refusal::new(
        Status::Io,
        "somebody else makes and removes it at the same time",
    ))
}

/// Returns whether what has the name of a temporary file is the mark of a directory.
pub(crate) fn is_mark(above: &OwnedFd, name: &[u8]) -> bool {
    rustix::fs::readlinkat(above, name, Vec::new()).is_ok_and(|target| target.to_bytes() == MARK.as_bytes())
}

fn unmark(above: &OwnedFd, name: &[u8]) -> Result<(), Refusal> {
    let mark = part_name(name);
    match look(above, &mark)? {
        Some(there) if FileType::from_raw_mode(there.st_mode) == FileType::Symlink => Ok(unlink(above, &mark)?),
        _ => Ok(()),
    }
}

/// Sets modes and times of directories that were made, the deepest first. Those that fail are named.
pub(crate) fn finish_directories(
    root: &Root,
    made: &[(RelPath, Attributes)],
    options: Options,
) -> Vec<(RelPath, Refusal)> {
    let finish = |(path, attributes): &(RelPath, Attributes)| {
        let done = finish_directory(root, path, attributes, options);
        done.err().map(|refusal| (path.clone(), refusal))
    };
    made.iter().rev().filter_map(finish).collect()
}

/// Sets mode and time of a directory that was made and takes its mark away.
///
/// # Errors
/// What the operating system says.
pub(crate) fn finish_directory(
    root: &Root,
    path: &RelPath,
    attributes: &Attributes,
    options: Options,
) -> Result<(), Refusal> {
    let Some((above, name)) = root.place_of_made(path)? else {
        return Ok(());
    };
    let directory = root.directory(path.as_bytes())?;
    let finish = || -> io::Result<()> {
        // A group that was inherited from the directory above is inherited on.
        let there = Mode::from_raw_mode(rustix::fs::fstat(&directory)?.st_mode);
        rustix::fs::fchmod(&directory, mode_of(attributes, options) | (there & Mode::SGID))?;
        Ok(rustix::fs::futimens(&directory, &times(attributes.mtime))?)
    };
    finish()?;
    unmark(&above, name)?;
    if options.contains(Options::SYNC) {
        sync(&directory)?;
        sync(&above)?;
    }
    Ok(())
}

/// Waits until what a directory says is on the disk.
pub(crate) fn sync(directory: &OwnedFd) -> io::Result<()> {
    Ok(rustix::fs::fsync(directory)?)
}

/// Returns the mode that something new gets.
pub(crate) fn mode_of(attributes: &Attributes, options: Options) -> Mode {
    let mode = Mode::from_raw_mode(attributes.mode as _);
    if options.contains(Options::NO_PERMS) {
        mode.difference(umask())
    } else {
        mode
    }
}

/// Returns the mode that a program gives a file that it makes.
pub(crate) fn new_file_mode() -> u32 {
    (Mode::from_raw_mode(0o666).difference(umask())).bits() as _
}

/// Returns the umask of this process. The system tells it only to whoever sets another: that is done once, and nothing
/// that is made meanwhile is open to others.
fn umask() -> Mode {
    static UMASK: std::sync::OnceLock<Mode> = std::sync::OnceLock::new();
    *UMASK.get_or_init(|| {
        let umask = rustix::process::umask(Mode::RWXG | Mode::RWXO);
        rustix::process::umask(umask);
        umask
    })
}

/// Opens the directory that a tree becomes, after making it if it is missing.
///
/// # Errors
/// What the operating system says.
pub(crate) fn open_destination(path: &Path) -> io::Result<Root> {
    let Some(name) = path.file_name() else {
        return Root::open(path);
    };
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let above = above.unwrap_or(Path::new("."));
    std::fs::create_dir_all(above)?;
    let above = Arc::new(OwnedFd::from(std::fs::File::open(above)?));
    // What the user names may be a link to a directory.
    let is_link = look(&above, name.as_bytes())?
        .is_some_and(|there| FileType::from_raw_mode(there.st_mode) != FileType::Directory);
    if is_link {
        return Root::open(path);
    }
    let made = make(&above, name.as_bytes(), Options::TREE).map_err(|refusal| {
        let kind = if refusal.status == Status::Denied {
            io::ErrorKind::PermissionDenied
        } else {
            io::ErrorKind::Other
        };
        io::Error::new(kind, refusal)
    })?;
    let root = Root::open(path)?;
    Ok(if made.is_unfinished() {
        root.made_at(above, name.as_bytes())
    } else {
        root
    })
}

/// Looks what is at a name, a link itself included.
pub(crate) fn look(above: &OwnedFd, name: &[u8]) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes a name that is no directory, if it is there.
pub(crate) fn unlink(above: &OwnedFd, name: &[u8]) -> io::Result<()> {
    match rustix::fs::unlinkat(above, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Finds out why what is at a name cannot make way for a file or a link, also if the request replaces. `None`: it can.
pub(crate) fn obstacle(above: &OwnedFd, name: &[u8], there: &Stat) -> io::Result<Option<Refusal>> {
    match FileType::from_raw_mode(there.st_mode) {
        FileType::RegularFile => Ok(None),
        FileType::Directory if is_empty(above, name)? => Ok(None),
        FileType::Directory => Ok(Some(in_the_way("a directory that is not empty is in its place"))),
        // Replaced would be the link, but whoever names such a link means the device.
        FileType::Symlink => match rustix::fs::statat(above, name, AtFlags::empty()) {
            Ok(end)
                if !matches!(
                    FileType::from_raw_mode(end.st_mode),
                    FileType::RegularFile | FileType::Directory
                ) =>
            {
                Ok(Some(in_the_way(
                    "a link to a device, a socket or a FIFO is in its place",
                )))
            }
            _ => Ok(None),
        },
        _ => Ok(Some(in_the_way("a device, a socket or a FIFO is in its place"))),
    }
}

fn is_empty(above: &OwnedFd, name: &[u8]) -> io::Result<bool> {
    let directory = match rustix::fs::openat(above, name, directory_flags() | OFlags::RDONLY, Mode::empty()) {
        // What cannot be looked into is not to be removed.
        Err(Errno::ACCESS | Errno::PERM) => return Ok(false),
        other => other?,
    };
    for item in Dir::read_from(directory)? {
        if !matches!(item?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes an empty directory at a name, so that a file or a link can have it; anything else stays.
///
/// # Errors
/// IN_THE_WAY as [`obstacle`].
pub(crate) fn clear(above: &OwnedFd, name: &[u8]) -> Result<(), Refusal> {
    let Some(there) = look(above, name)? else {
        return Ok(());
    };
    if let Some(refusal) = obstacle(above, name, &there)? {
        return Err(refusal);
    }
    if FileType::from_raw_mode(there.st_mode) == FileType::Directory {
        rustix::fs::unlinkat(above, name, AtFlags::REMOVEDIR).map_err(io::Error::from)?;
    }
    Ok(())
}

/// A failure to make something in a directory.
pub(crate) fn unwritable(error: Errno) -> Refusal {
    match error {
        Errno::ACCESS | Errno::PERM => {
            let text = "permission denied: nothing can be made in the directory that it is to be in";
            Refusal::new(Status::Denied, text)
        }
        error => io::Error::from(error).into(),
    }
}

/// Something that is no file of ours has a temporary name.
pub(crate) fn strange_temporary(name: &[u8]) -> Refusal {
    let name = sss_files::printable(name);
    in_the_way(&format!(
        "a directory, a device, a socket or a FIFO has the temporary name {name}"
    ))
}

fn in_the_way(text: &str) -> Refusal {
    Refusal::new(Status::InTheWay, format!("{text}, and is never replaced"))
}

#[cfg(test)]
mod tests;
