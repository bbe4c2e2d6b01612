//! Replays the corpora of the fuzz targets that receive and serve files.

#[path = "../../../../fuzz/src/exchange.rs"]
#[expect(unreachable_pub, reason = "the fuzz target calls it from another crate")]
mod exchange;
#[path = "../../../../fuzz/src/receiver.rs"]
#[expect(unreachable_pub, reason = "the fuzz target calls it from another crate")]
mod receiver;
#[path = "../../../../fuzz/src/sandbox.rs"]
mod sandbox;
#[path = "../../../../fuzz/src/server.rs"]
#[expect(unreachable_pub, reason = "the fuzz target calls it from another crate")]
mod server;

use std::fs;
use std::path::Path;

/// The inputs of a target, in the order of their names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let mut seeds: Vec<_> = fs::read_dir(corpus).unwrap().map(|e| e.unwrap().path()).collect();
    seeds.sort();
    assert!(seeds.len() >= 10, "{} seeds", seeds.len());
    let read = |path| {
        println!("{}", Path::display(path));
        fs::read(path).unwrap()
    };
    seeds.iter().map(|path| read(path)).collect()
}

/// Each input, and each cut to every length.
#[test]
fn seeds_of_the_receiver_change_nothing_outside() {
    for seed in corpus("file_receiver") {
        (0..=seed.len()).for_each(|len| receiver::file_receiver(&seed[..len]));
    }
}

#[test]
fn seeds_of_the_exchange_change_nothing_outside() {
    for seed in corpus("file_exchange") {
        exchange::file_exchange(&seed);
    }
}

#[test]
fn seeds_of_the_server_change_and_tell_nothing_outside() {
    for seed in corpus("file_server") {
        server::file_server(&seed);
    }
}
