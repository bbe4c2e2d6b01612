//! Replays the corpora of the fuzz targets that run hosts, or parts of them: here with real cryptography.

#[path = "../../../../../fuzz/src/host/mod.rs"]
#[expect(unreachable_pub, reason = "the fuzz target calls it from another crate")]
mod target;

use std::fs;
use std::path::PathBuf;

/// The inputs of a target, in the order of their names.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../fuzz/corpus", target]
        .iter()
        .collect();
    let entries = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut paths: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 20, "{target} has {} seeds", paths.len());
    paths.into_iter().map(|p| (p.clone(), fs::read(p).unwrap())).collect()
}

/// Runs each input, and each that is cut to a half or a quarter.
fn replay(target: &str, run: fn(&[u8])) {
    for (path, seed) in corpus(target) {
        println!("{}", path.display());
        for len in [seed.len(), seed.len() / 2, seed.len() / 4] {
            run(&seed[..len]);
        }
    }
}

#[test]
fn hosts_that_are_to_begin_with_a_channel_have_one() {
    target::Start::all_established().for_each(|start| drop(start.world()));
}

#[test]
fn seeds_of_the_host_break_nothing() {
    replay("host", target::host);
}

#[test]
fn seeds_of_migration_break_nothing() {
    replay("migration", target::migration);
}

// spec: OVR-2
#[test]
fn seeds_of_reassembly_break_nothing() {
    replay("reassembly", crate::reassembly);
}
