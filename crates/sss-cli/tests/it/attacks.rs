//! The real server under each attack of `sss-attack`: others are served meanwhile, memory is bounded, and it ends when
//! it is told to.

use std::fs;
use std::time::{Duration, Instant};

use sss_attack::{Command, Report, Victim};

use crate::support::{Home, noise};

/// Memory that the server may use, in bytes.
const MEMORY: usize = 300 << 20;
/// Time that a small file may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time for which an attack goes on.
const TIME: Duration = Duration::from_millis(1500);
/// Packets a second of floods: as many as leave time for others to a machine that runs other tests as well.
const RATE: u32 = 5000;

/// Attacks a server of its own, and returns what was done to it.
fn withstands(attack: impl FnOnce(Victim) -> Command) -> Report {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("served");
    fs::write(dir.join("big"), noise(1, 16 << 20)).unwrap();
    fs::write(dir.join("small"), noise(2, 10_000)).unwrap();
    let mut serving = server.serve(&dir, &[]);
    let victim = Victim {
        target: serving.target.parse().unwrap(),
        path: "big".to_owned(),
        rate: RATE,
    };
    let command = attack(victim);
    let attacking = std::thread::spawn(move || command.run(TIME).unwrap());
    let mut turn = 0;
    let mut get = || {
        turn += 1;
        let (begun, to) = (Instant::now(), client.path(&turn.to_string()));
        client
            .run(["get", &serving.at("small"), to.to_str().unwrap()])
            .expect(0);
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        assert_eq!(fs::read(to).unwrap(), noise(2, 10_000));
        begun.elapsed()
    };
    let mut slowest = get();
    while !attacking.is_finished() {
        slowest = slowest.max(get());
    }
    let report = attacking.join().unwrap();
    slowest = slowest.max(get());
    let memory = serving.peak_memory();
    let begun = Instant::now();
    assert_eq!(serving.end(), Some(0));
    let end = begun.elapsed();
    eprintln!(
        "{report}; served in {slowest:?}, {} MiB, ended in {end:?}",
        memory >> 20
    );
    assert!(memory < MEMORY, "{memory}");
    assert!(end < PATIENCE, "{end:?}");
    report
}

#[test]
fn a_server_withstands_hellos() {
    assert!(withstands(Command::Hellos).packets > 500);
}

#[test]
fn a_server_withstands_hellos_with_tokens() {
    let report = withstands(Command::Tokens);
    assert!(report.packets > 500 && report.answered > 0);
}

#[test]
fn a_server_withstands_garbage() {
    assert!(withstands(Command::Garbage).packets > 500);
}

#[test]
fn a_server_withstands_forged_initiates() {
    let report = withstands(Command::Initiates);
    assert!(report.packets > 100 && report.streams == 0);
}

#[test]
fn a_server_withstands_repetition() {
    let report = withstands(Command::Replays);
    assert!(report.streams > 0 && report.packets > 100);
}

#[test]
fn a_server_withstands_streams_without_end() {
    assert!(withstands(Command::Opens).streams > 10);
}

#[test]
fn a_server_withstands_resets_without_end() {
    assert!(withstands(Command::Resets).streams > 10);
}

#[test]
fn a_server_withstands_peers_that_never_read() {
    assert!(withstands(Command::Unread).streams > 10);
}

#[test]
fn a_server_withstands_peers_that_vanish() {
    let report = withstands(Command::Vanishes);
    assert!(report.peers > 1 && report.answered > 20_000);
}

#[test]
fn a_server_withstands_moves_without_end() {
    assert!(withstands(Command::Moves).answered > 20_000);
}
