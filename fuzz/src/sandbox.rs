//! Where the targets that receive and serve files do it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The content of files that nothing may happen to, and that nobody is told of.
pub(crate) const OUTSIDE: &[u8] = b"what is outside";

/// A directory to receive into, and beside it one that nothing may happen to.
pub(crate) struct Sandbox(PathBuf);

impl Sandbox {
    pub(crate) fn new() -> Self {
        let thread = format!("{:?}", std::thread::current().id());
        let name = format!(
            "sss-receiver-{}-{}",
            std::process::id(),
            thread.replace(['(', ')'], "-")
        );
        let shared = Path::new("/dev/shm");
        let temporary = if shared.is_dir() {
            shared.to_owned()
        } else {
            std::env::temp_dir()
        };
        let sandbox = Self(temporary.join(name));
        let _ = fs::remove_dir_all(&sandbox.0);
        for directory in ["in/d/e", "out/d"] {
            fs::create_dir_all(sandbox.0.join(directory)).expect("a directory for temporary files");
        }
        for (file, content) in [
            ("in/f", &b"as it was"[..]),
            ("in/d/f", b"as it was"),
            ("out/f", OUTSIDE),
            ("out/d/f", OUTSIDE),
        ] {
            fs::write(sandbox.0.join(file), content).expect("room for a file");
        }
        for (link, target) in [
            ("in/l", "../out"),
            ("in/k", "../out/f"),
            ("in/d/l", "/dev/null"),
            ("in/n", "../out/new"),
        ] {
            symlink(target, sandbox.0.join(link)).expect("a link");
        }
        sandbox
    }

    /// The directory to receive into.
    pub(crate) fn inside(&self) -> PathBuf {
        self.0.join("in")
    }

    /// Nothing happened outside.
    pub(crate) fn check(&self) {
        for file in ["out/f", "out/d/f"] {
            assert_eq!(
                fs::read(self.0.join(file)).ok().as_deref(),
                Some(OUTSIDE),
                "{file} has changed"
            );
        }
        for (directory, count) in [("", 2), ("out", 2), ("out/d", 1)] {
            let found = fs::read_dir(self.0.join(directory)).map_or(0, Iterator::count);
            assert_eq!(found, count, "something is new, or gone, in {directory:?}");
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The input: bytes, and zeros behind its end.
pub(crate) struct Program<'a>(&'a [u8]);

impl<'a> Program<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}
