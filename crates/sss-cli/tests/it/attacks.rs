//! The real server under each attack of `sss-attack`: others are served meanwhile, and not much slower than without;
//! memory is bounded, and it ends when it is told to.

use std::fs;
use std::time::{Duration, Instant};

use sss::Code;
use sss_attack::{Command, Report, Victim};

use crate::support::{Home, noise};

/// Memory that the server may use, in bytes.
const MEMORY: usize = 300 << 20;
/// Bytes of the file that others fetch meanwhile.
const FETCHED: usize = 16 << 20;
/// Times as long as without an attack that they may take, and a pause of the machine.
const SLOWER: (u32, Duration) = (20, Duration::from_secs(10));
/// Time that the end may take: half a second, and what a machine at work with other things takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time for which an attack goes on, unless `SSS_ATTACK_SECONDS` says another one.
const TIME: Duration = Duration::from_millis(1500);

fn time() -> Duration {
    let told = std::env::var("SSS_ATTACK_SECONDS").ok();
    told.map_or(TIME, |told| {
        Duration::from_secs(told.parse().expect("a number of seconds"))
    })
}
/// Packets a second of floods: as many as leave time for others to a machine that runs other tests as well.
const RATE: u32 = 5000;

/// Attacks a server of its own, and returns what was done to it.
fn withstands(attack: impl FnOnce(Victim) -> Command) -> Report {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("served");
    fs::write(dir.join("big"), noise(1, 16 << 20)).unwrap();
    let wanted = noise(2, FETCHED);
    fs::write(dir.join("wanted"), &wanted).unwrap();
    let mut serving = server.serve(&dir, &[]);
    let victim = Victim {
        target: serving.target.parse().unwrap(),
        path: "big".to_owned(),
        rate: RATE,
    };
    let mut turn = 0;
    let mut get = || {
        turn += 1;
        let (begun, to) = (Instant::now(), client.path(&turn.to_string()));
        client
            .run(["get", &serving.at("wanted"), to.to_str().unwrap()])
            .expect(0);
        let time = begun.elapsed();
        assert!(fs::read(&to).unwrap() == wanted);
        fs::remove_file(to).unwrap();
        time
    };
    let alone = get().max(get());
    let command = attack(victim);
    let attacking = std::thread::spawn(move || command.run(time()).unwrap());
    let mut times = vec![get()];
    while !attacking.is_finished() {
        times.push(get());
    }
    let report = attacking.join().unwrap();
    times.push(get());
    times.sort_unstable();
    let (usual, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    let memory = serving.peak_memory();
    let begun = Instant::now();
    assert_eq!(serving.end(), Some(0));
    let end = begun.elapsed();
    eprintln!(
        "{report}, {} unheard; {} MB fetched in {alone:.0?} alone, {usual:.0?} meanwhile, {slowest:.0?} at most, of {}; \
         {} MiB, ended in {end:.0?}",
        report.unheard,
        FETCHED >> 20,
        times.len(),
        memory >> 20
    );
    let bound = alone * SLOWER.0 + SLOWER.1;
    assert!(slowest < bound, "{slowest:?} of {bound:?}");
    assert!(memory < MEMORY, "{memory}");
    assert!(end < PATIENCE, "{end:?}");
    report
}

// spec: NEG-12
#[test]
fn a_server_withstands_hellos() {
    let report = withstands(Command::Hellos);
    assert!(report.packets > 500, "{report:?}");
    // None of them opens: what is answered is that a token is missing, once there are a thousand in a second.
    assert!(report.packets < 3000 || report.answered > 0, "{report:?}");
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

#[test]
fn a_server_withstands_encapsulations() {
    let report = withstands(Command::Legs);
    // RETRY for each, and COOKIE_K for a thousand until there is a flood, and for a thousand a second of 250 networks.
    let most = 29 * report.packets + 4000 * 1179;
    assert!(report.packets > 500 && report.answered < most, "{report:?}");
}

#[test]
fn a_server_withstands_probes() {
    let report = withstands(Command::Probes);
    assert!(report.packets > 500 && report.answered > 0 && report.answered < report.bytes);
}

#[test]
fn a_server_withstands_forgeries_from_a_peers_own_address() {
    let report = withstands(Command::Damages);
    assert!(report.packets > 100 && report.answered > 20_000);
}

#[test]
fn a_server_withstands_reflection() {
    assert!(withstands(Command::Reflects).answered > 20_000);
}

#[test]
fn a_server_sends_little_to_whom_a_peer_names_as_itself() {
    let report = withstands(Command::Spoofs);
    assert!(report.packets > 10 && report.answered > 20_000);
    assert!(report.unheard <= 3 * report.bytes, "{report:?}");
}

#[test]
fn a_server_closes_the_channel_of_who_lies_in_acknowledgements() {
    let report = withstands(Command::Acks);
    assert!(report.packets > 500 && report.closed > 0);
}

// spec: CHN-6
#[test]
fn a_server_closes_the_channel_of_who_acknowledges_what_was_left_out() {
    let report = withstands(Command::Skips);
    assert!(report.closed > 0, "{report:?}");
    assert_eq!(report.code, Some(Code::ACK_INVALID));
}

// spec: NEG-10, NEG-29
#[test]
fn a_server_takes_nothing_of_authentic_handshakes_that_are_wrong_inside() {
    let report = withstands(Command::Payloads);
    assert!(report.made > 2 && report.closed > 2, "{report:?}");
    assert_eq!(report.taken, 0, "{report:?}");
}

// spec: OVR-4, NEG-31
#[test]
fn a_server_takes_no_keys_of_low_order_or_out_of_range() {
    let report = withstands(Command::Keys);
    assert!(report.made > 2 && report.taken == 0, "{report:?}");
}

#[test]
fn a_server_says_nothing_to_answers_that_it_did_not_ask_for() {
    let report = withstands(Command::Answers);
    assert!(report.packets > 500 && report.answered == 0, "{report:?}");
}

#[test]
fn a_server_withstands_gaps() {
    assert!(withstands(Command::Gaps).packets > 500);
}

/// Returns whether those that opened more than they were granted lost their channel: the first identity does.
fn is_credit_kept(report: &Report) -> bool {
    report.closed > 0 && report.code == Some(Code::CREDIT_EXCEEDED)
}

#[test]
fn a_server_withstands_deep_trees() {
    let report = withstands(Command::Trees);
    assert!(report.packets > 50 && is_credit_kept(&report), "{report:?}");
}

#[test]
fn a_server_withstands_datagrams_of_all_sizes() {
    let report = withstands(Command::Datagrams);
    assert!(report.packets > 100 && is_credit_kept(&report), "{report:?}");
}

#[test]
fn a_server_withstands_updates_without_rest() {
    assert!(withstands(Command::Updates).packets > 500);
}

#[test]
fn a_server_withstands_who_stops_all_and_stops_at_nothing() {
    let report = withstands(Command::Stops);
    assert!(report.packets > 100 && is_credit_kept(&report), "{report:?}");
}

#[test]
fn a_server_withstands_questions_without_end() {
    let report = withstands(Command::Questions);
    assert!(report.packets > 500, "{report:?}");
    // Each second identity asks about streams that there are not.
    assert!(
        report.peers < 3 || report.code == Some(Code::STREAM_STATE),
        "{report:?}"
    );
}

#[test]
fn a_server_withstands_challenges_without_end() {
    let report = withstands(Command::Challenges);
    assert!(report.packets > 500 && report.answered < 3 * report.bytes);
}

#[test]
fn a_server_closes_the_channel_of_who_says_nonsense() {
    let report = withstands(Command::Nonsense);
    assert!(report.packets > 10 && report.closed > 0);
}

#[test]
fn a_server_withstands_channels_without_number() {
    let report = withstands(Command::Idles);
    assert!(report.peers > 10, "{report:?}");
    // 128 of one identity may be there (NEG-35), and a machine at work may not come to as many.
    assert!(report.peers < 150 || report.code == Some(Code::LIMIT), "{report:?}");
}
