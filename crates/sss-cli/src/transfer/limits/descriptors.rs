//! Descriptors that the system allows this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors of requests, however many the system allows.
const DESCRIPTORS: u64 = 2048;
/// Descriptors that are kept for everything else: sockets, directories, standard streams; or half, if that is less.
const RESERVE: u64 = 128;
/// As many as a listing needs, if the system allows even less: then it is waited for.
const LEAST_DESCRIPTORS: u64 = 8;

/// Advice for a process that may not open as many files as it needs.
pub(crate) const RAISE_THE_LIMIT: &str = "raise the limit, as in `ulimit -n 1024`";

/// Words about a process that may not open as many files as it needs.
pub(crate) fn too_many_open() -> String {
    match getrlimit(Resource::Nofile).current {
        Some(limit) => format!("too many open files: this process may have no more than {limit}"),
        None => "too many open files".to_owned(),
    }
}

/// Asks the system for as many descriptors as this process may have, and says how many requests may use.
pub(super) fn descriptors() -> u64 {
    descriptors_to_give().clamp(LEAST_DESCRIPTORS, DESCRIPTORS)
}

/// Asks the system for as many descriptors as this process may have, and says how many may be given to others.
pub(crate) fn descriptors_to_give() -> u64 {
    let left = descriptors_left();
    left.saturating_sub(RESERVE.min(left / 2))
}

/// Asks the system for as many descriptors as this process may have, and says how many of them are free.
pub(crate) fn descriptors_left() -> u64 {
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: now.maximum,
        maximum: now.maximum,
    };
    // What cannot be raised is what there is.
    let _ = setrlimit(Resource::Nofile, wanted);
    let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let open = std::fs::read_dir("/dev/fd").map_or(0, Iterator::count);
    current.saturating_sub(open as u64)
}
