//! The right to a tag, and what is left of labs whose process is dead.
//!
//! Each lab holds a lock on `/run/sss-lab/TAG.lock`. The kernel lets go of it when the process ends, in whichever way:
//! a lock that nobody holds is that of a dead lab.

use std::fs::{File, OpenOptions};
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::error::Error;
use crate::namespace;

const FOLDER: &str = "/run/sss-lab";

/// A tag that this process holds.
#[derive(Debug)]
pub(crate) struct Claim {
    tag: String,
    _lock: File,
}

impl Claim {
    /// Takes a tag; a random one if none is given.
    pub(crate) fn new(tag: Option<&str>) -> Result<Self, Error> {
        let tag = match tag {
            Some(tag) => tag.to_owned(),
            None => random_tag()?,
        };
        if !is_tag(&tag) {
            return Err(Error::BadTag(tag));
        }
        std::fs::create_dir_all(FOLDER).map_err(Error::system(FOLDER))?;
        let lock = lock_soon(&tag)?.ok_or_else(|| Error::TagTaken(tag.clone()))?;
        let claim = Self { tag, _lock: lock };
        // Whoever had it before may have been killed.
        namespace::remove(&claim.prefix())?;
        Ok(claim)
    }

    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    /// The names of all namespaces of the lab begin so.
    pub(crate) fn prefix(&self) -> String {
        prefix(&self.tag)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Err(error) = namespace::remove(&self.prefix()) {
            eprintln!("sss-lab: namespaces stay behind, until another lab is made: {error}");
            return;
        }
        forget(&self.tag);
    }
}

/// Removes what is left of labs whose process has ended without doing so; their tags.
///
/// # Errors
///
/// [`Error::Command`] if the system refuses.
pub fn sweep() -> Result<Vec<String>, Error> {
    let mut swept = Vec::new();
    for tag in tags() {
        // Someone else's lab, or another one that sweeps.
        let Ok(Some(_lock)) = lock(&tag) else {
            continue;
        };
        namespace::remove(&prefix(&tag))?;
        forget(&tag);
        swept.push(tag);
    }
    Ok(swept)
}

/// Tags of the labs that are up, of all processes.
pub fn living() -> Vec<String> {
    let is_alive = |tag: &String| matches!(lock(tag), Ok(None));
    tags().into_iter().filter(is_alive).collect()
}

/// The socket at which a lab takes orders.
pub fn control_socket(tag: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{tag}.socket"))
}

fn tags() -> Vec<String> {
    let files = std::fs::read_dir(FOLDER).into_iter().flatten().flatten();
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    let tags = names.filter_map(|name| name.strip_suffix(".lock").map(str::to_owned));
    tags.filter(|tag| is_tag(tag)).collect()
}

fn prefix(tag: &str) -> String {
    format!("lab-{tag}-")
}

fn lock_file(tag: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{tag}.lock"))
}

/// Locks a tag's file, also when another looks at it for a moment ([`sweep`], [`living`]).
fn lock_soon(tag: &str) -> Result<Option<File>, Error> {
    for _ in 0..100 {
        if let Some(file) = lock(tag)? {
            return Ok(Some(file));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    lock(tag)
}

/// Locks a tag's file; `None` if another holds it.
fn lock(tag: &str) -> Result<Option<File>, Error> {
    let path = lock_file(tag);
    let failed = || Error::system(path.display().to_string());
    loop {
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed())?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(failed()(error.into())),
        }
        // Between the two, the one before may have removed the file that it had locked.
        let locked = file.metadata().map_err(failed())?.st_ino();
        if std::fs::metadata(&path).is_ok_and(|there| there.st_ino() == locked) {
            return Ok(Some(file));
        }
    }
}

/// Removes the files of a tag that this process has locked.
fn forget(tag: &str) {
    // What cannot be removed is locked by nobody: the next lab tries again.
    let _ = std::fs::remove_file(control_socket(tag));
    let _ = std::fs::remove_file(lock_file(tag));
}

fn is_tag(tag: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=20).contains(&tag.len()) && tag.bytes().all(is_allowed)
}

fn random_tag() -> Result<String, Error> {
    let number = getrandom::u32().map_err(|error| Error::Impossible(format!("no random tag: {error}")))?;
    Ok(format!("{number:08x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_short_and_plain() {
        assert!(is_tag("a1") && is_tag(&random_tag().unwrap()));
        for tag in ["", "a-b", "A", "../x", "a/b", "aaaaaaaaaaaaaaaaaaaaa"] {
            assert!(!is_tag(tag), "{tag}");
        }
    }
}
