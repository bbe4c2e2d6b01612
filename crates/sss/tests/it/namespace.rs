//! Network namespaces of Linux: tests in networks of their own.

use std::fs::File;
use std::future::Future;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A namespace with loopback up. It is gone when this is dropped.
pub(crate) struct Namespace {
    name: String,
}

/// Runs a test in a namespace of its own; skips it, and says so loudly, where none can be made.
pub(crate) fn in_namespace(test: impl FnOnce(&Namespace) + Send) {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    // A thread never comes back from the namespace.
    let run = || {
        namespace.enter();
        test(&namespace);
    };
    let outcome = std::thread::scope(|scope| scope.spawn(run).join());
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// Runs the two sides of a test at the same time, each in a namespace of its own. An interface `left` in the first and
/// an interface `right` in the second are connected. Skips the test, and says so loudly, where that cannot be made.
pub(crate) fn in_two_namespaces(left: impl FnOnce(&Namespace) + Send, right: impl FnOnce(&Namespace) + Send) {
    in_namespace(|here| {
        let there = Namespace::new().expect("there is one already");
        here.ip(&format!("link add left type veth peer name right netns {}", there.name));
        here.ip("link set left up");
        there.ip("link set right up");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                there.enter();
                right(&there);
            });
            left(here);
        });
    });
}

/// Runs `future` on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(future)
}

impl Namespace {
    fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("sss-test-{}-{number}", std::process::id());
        if let Err(error) = run("ip", &["netns", "add", &name]) {
            eprintln!("SKIPPED: needs root, and `ip` of iproute2, to make a network namespace: {error}");
            return None;
        }
        let namespace = Self { name };
        namespace.ip("link set lo up");
        Some(namespace)
    }

    /// Moves the calling thread into the namespace.
    pub(crate) fn enter(&self) {
        let file = File::open(format!("/var/run/netns/{}", self.name)).expect("`ip netns add` made it");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter it");
    }

    /// Runs `ip` with these arguments in the namespace.
    pub(crate) fn ip(&self, arguments: &str) {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend(arguments.split_whitespace());
        if let Err(error) = run("ip", &all) {
            panic!("ip {}: {error}", all.join(" "));
        }
    }

    /// Runs several commands of `ip`, a line each, in one process: one right after the other, on a busy machine too.
    pub(crate) fn ip_at_once(&self, lines: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), lines).unwrap();
        self.ip(&format!("-batch {}", file.path().display()));
    }

    /// Adds an interface that is up, and answers nothing.
    pub(crate) fn add_interface(&self, name: &str) {
        self.ip(&format!("link add {name} type veth peer name {name}p"));
        self.ip(&format!("link set {name}p up"));
        self.ip(&format!("link set {name} up"));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = run("ip", &["netns", "del", &self.name]) {
            eprintln!("the namespace {} stays behind: {error}", self.name);
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
