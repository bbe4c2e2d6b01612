//! A small file that has no name until it is complete: `O_TMPFILE` (open(2) of Linux). Whatever happens before, nothing
//! of it is left behind. Where the system cannot do that, the file goes the way of all others (FIL-9, FIL-10).

/// Set where the system can do it at all.
pub(crate) const ARE_POSSIBLE: bool = cfg!(target_os = "linux");

#[cfg(target_os = "linux")]
pub(crate) use linux::write;

/// As on Linux, where it can be done.
#[cfg(not(target_os = "linux"))]
pub(crate) fn write(
    _: &std::os::fd::OwnedFd,
    _: &[u8],
    _: &[bytes::Bytes],
    _: (&sss_files::Attributes, sss_files::Options),
) -> Result<Option<()>, sss_files::Refusal> {
    Ok(None)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::sync::atomic::{AtomicBool, Ordering};

    use bytes::Bytes;
    use rustix::fs::{AtFlags, Mode, OFlags};
    use rustix::io::Errno;
    use sss_files::{Attributes, Options, Refusal};

    use crate::transfer::directories::{mode_of, sync};
    use crate::transfer::part_file::times;
    use crate::transfer::receive::exists;

    /// Writes a whole file under a name that is free. `None`: it has to be done otherwise, and nothing has happened.
    ///
    /// # Errors
    /// EXISTS if the name is not free; else what the operating system says.
    pub(crate) fn write(
        directory: &OwnedFd,
        name: &[u8],
        chunks: &[Bytes],
        (attributes, options): (&Attributes, Options),
    ) -> Result<Option<()>, Refusal> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::openat(directory, ".", flags, Mode::RUSR | Mode::WUSR) else {
            return Ok(None);
        };
        let mut file = File::from(file);
        chunks.iter().try_for_each(|chunk| file.write_all(chunk))?;
        rustix::fs::fchmod(&file, mode_of(attributes, options)).map_err(std::io::Error::from)?;
        rustix::fs::futimens(&file, &times(attributes.mtime)).map_err(std::io::Error::from)?;
        let is_safe = options.contains(Options::SYNC);
        if is_safe {
            file.sync_all()?;
        }
        match link(&file, directory, name) {
            Ok(()) if is_safe => sync(directory)?,
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(exists()),
            // There is no /proc, or the file system makes no links.
            Err(_) => return Ok(None),
        }
        Ok(Some(()))
    }

    /// Gives an unnamed file a name: by its descriptor, which older systems allow those only who may read everything,
    /// or else by the name that `/proc` has for it (both in linkat(2)).
    fn link(file: &File, directory: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
        static BY_DESCRIPTOR: AtomicBool = AtomicBool::new(true);
        if BY_DESCRIPTOR.load(Ordering::Relaxed) {
            match rustix::fs::linkat(file, c"", directory, name, AtFlags::EMPTY_PATH) {
                Err(Errno::NOENT | Errno::PERM | Errno::INVAL) => BY_DESCRIPTOR.store(false, Ordering::Relaxed),
                other => return other,
            }
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        rustix::fs::linkat(rustix::fs::CWD, path, directory, name, AtFlags::SYMLINK_FOLLOW)
    }

    #[cfg(test)]
    mod tests {
        use std::fs;
        use std::os::unix::fs::{MetadataExt, PermissionsExt};

        use sss_files::{Mtime, Status, Traits};

        use super::*;

        fn attributes() -> Attributes {
            Attributes {
                size: 5,
                mode: 0o751,
                mtime: Mtime {
                    seconds: -7,
                    nanoseconds: 5,
                },
                traits: Traits::empty(),
            }
        }

        fn write(dir: &std::path::Path, name: &str, options: Options) -> Result<Option<()>, Refusal> {
            let directory = File::open(dir).unwrap().into();
            let chunks = [Bytes::from_static(b"he"), Bytes::from_static(b"llo")];
            super::write(&directory, name.as_bytes(), &chunks, (&attributes(), options))
        }

        // spec: FIL-9
        #[test]
        fn it_is_there_with_mode_and_time_and_replaces_nothing() {
            let dir = tempfile::tempdir().unwrap();
            for (name, options) in [("a", Options::empty()), ("b", Options::SYNC)] {
                let written = write(dir.path(), name, options).unwrap();
                if written.is_none() {
                    eprintln!("SKIPPED: there are no unnamed files in {}", dir.path().display());
                    return;
                }
                let path = dir.path().join(name);
                let there = fs::metadata(&path).unwrap();
                assert_eq!(fs::read(&path).unwrap(), b"hello");
                assert_eq!(there.permissions().mode() & 0o7777, 0o751);
                assert_eq!((there.mtime(), there.mtime_nsec()), (-7, 5));
            }
            fs::write(dir.path().join("c"), "mine").unwrap();
            fs::set_permissions(dir.path().join("c"), fs::Permissions::from_mode(0o600)).unwrap();
            let refusal = write(dir.path(), "c", Options::empty()).unwrap_err();
            assert_eq!(refusal.status, Status::Exists);
            assert_eq!(fs::read(dir.path().join("c")).unwrap(), b"mine");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        }
    }
}
