//! The real server under each attack of `sss-attack`: others are served meanwhile, and not much slower than without;
//! memory is bounded, and it ends when it is told to.

use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use sss::{Code, DropReason};
use sss_attack::{Command, Crowd, Report, Victim};

use crate::support::{Home, Serving, noise};

/// Memory that the server may use, in bytes.
const MEMORY: usize = 300 << 20;
/// As much, where the attack leaves nothing in it.
const SMALL: usize = 64 << 20;
/// As much, where the attack keeps all from moving that the server reads ahead: 48 MiB.
const READ_AHEAD: usize = 128 << 20;
/// Bytes that a peer is sent after it has vanished: a window that has grown by the 20 kB that it took, and probes.
const UNHEARD: u64 = 60_000;
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

/// Outcome of an attack for the attacker, and for the server.
#[derive(Debug)]
struct Outcome {
    report: Report,
    counted: Value,
    /// Channels of others: for files, and to see whether the server is there.
    honest: u64,
    /// Datagrams that the system dropped before the server could read them.
    unread: u64,
    /// Seconds that are begun while the server is there.
    seconds: u64,
    /// Bytes of memory that the server used at most.
    memory: usize,
}

impl Deref for Outcome {
    type Target = Report;

    fn deref(&self) -> &Report {
        &self.report
    }
}

impl Outcome {
    /// What the server counted under this name.
    fn count(&self, name: &str) -> u64 {
        self.counted[name].as_u64().unwrap()
    }

    /// Datagrams that the server dropped for a reason.
    fn dropped(&self, reason: DropReason) -> u64 {
        self.counted["dropped"][reason.name()].as_u64().unwrap()
    }

    /// Datagrams that the server dropped.
    fn dropped_in_all(&self) -> u64 {
        DropReason::ALL.into_iter().map(|reason| self.dropped(reason)).sum()
    }

    /// Returns whether so many are nearly all packets of the attack that the server could read.
    fn are_nearly_all(&self, dropped: u64) -> bool {
        dropped + self.unread >= self.packets - self.packets / 100
    }

    /// Returns whether the server told a network no more often than it may that there is no such channel (PRT-12).
    fn are_resets_few(&self) -> bool {
        self.count("resets_sent") <= 10 * self.seconds
    }

    /// Returns whether nobody but honest peers has a channel. One of theirs may have been made twice.
    fn has_no_channel(&self) -> bool {
        self.count("channels_made") <= 2 * self.honest
    }
}

/// Datagrams for a port of 127.0.0.1 that the system dropped: its last column of /proc/net/udp. Who attacks may have
/// the same port at another address.
fn unread_of(port: &str) -> u64 {
    let address = format!("0100007F:{:04X}", port.parse::<u16>().unwrap());
    let table = fs::read_to_string("/proc/net/udp").unwrap();
    let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    let its = rows.filter(|row| row.get(1).is_some_and(|local| *local == address));
    its.filter_map(|row| row.last()?.parse::<u64>().ok()).sum()
}

/// A server that tells at its end, in a file, what it has counted.
fn serve(server: &Home, dir: &Path) -> Serving {
    let told = server.path("told");
    let mut command = server.command();
    command
        .args(["serve", "--json", "--public", "--bind", "127.0.0.1:0"])
        .arg(dir);
    command
        .stdout(fs::File::create(&told).unwrap())
        .stderr(Stdio::inherit());
    Serving::start_into(command.spawn().unwrap(), &told)
}

/// Attacks a server of its own, and returns what came of it.
fn withstands(attack: impl FnOnce(Victim) -> Command) -> Outcome {
    let (server, client, start) = (Home::new(), Home::new(), Instant::now());
    let dir = server.dir("served");
    fs::write(dir.join("big"), noise(1, 16 << 20)).unwrap();
    let wanted = noise(2, FETCHED);
    fs::write(dir.join("wanted"), &wanted).unwrap();
    let mut serving = serve(&server, &dir);
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
    let unread = unread_of(serving.address().rsplit(':').next().unwrap());
    let begun = Instant::now();
    assert_eq!(serving.end(), Some(0));
    let end = begun.elapsed();
    let told = fs::read_to_string(server.path("told")).unwrap();
    let counted = told
        .lines()
        .find(|line| line.contains("\"event\":\"counted\""))
        .unwrap();
    crate::json_table::check(counted);
    let counted: Value = serde_json::from_str(counted).unwrap();
    eprintln!(
        "{report}, {} unheard; {} MB fetched in {alone:.0?} alone, {usual:.0?} meanwhile, {slowest:.0?} at most, of {}; \
         {} MiB, ended in {end:.0?}; {counted}, {unread} unread",
        report.unheard,
        FETCHED >> 20,
        times.len(),
        memory >> 20
    );
    let bound = alone * SLOWER.0 + SLOWER.1;
    assert!(slowest < bound, "{slowest:?} of {bound:?}");
    assert!(memory < MEMORY, "{memory}");
    assert!(end < PATIENCE, "{end:?}");
    Outcome {
        report,
        counted,
        honest: times.len() as u64 + 3,
        unread,
        seconds: start.elapsed().as_secs() + 2,
        memory,
    }
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
    let outcome = withstands(Command::Garbage);
    assert!(outcome.packets > 500 && outcome.taken == 0, "{outcome:?}");
    // Stateless resets alone.
    assert!(outcome.answered <= 48 * outcome.count("resets_sent"), "{outcome:?}");
    assert!(outcome.has_no_channel(), "{outcome:?}");
    assert!(outcome.are_nearly_all(outcome.dropped_in_all()), "{outcome:?}");
}

#[test]
fn a_server_withstands_forged_initiates() {
    let outcome = withstands(Command::Initiates);
    assert!(outcome.packets > 100 && outcome.streams == 0, "{outcome:?}");
    assert!(outcome.has_no_channel(), "{outcome:?}");
    // So many are looked into (NEG-38), and half of them come from where their cookie is not good.
    let looked_into = outcome.dropped(DropReason::Unauthentic);
    assert!((1..=10 * outcome.seconds).contains(&looked_into), "{outcome:?}");
    assert!(outcome.dropped(DropReason::StaleCookie) > 0, "{outcome:?}");
}

#[test]
fn a_server_withstands_repetition() {
    let outcome = withstands(Command::Replays);
    assert!(outcome.streams > 0 && outcome.packets > 100, "{outcome:?}");
    // Nine of ten.
    let repeated = outcome.dropped(DropReason::Duplicate) + outcome.unread;
    assert!(repeated > outcome.packets / 2, "{outcome:?}");
}

#[test]
fn a_server_withstands_streams_without_end() {
    let outcome = withstands(Command::Opens);
    assert!(outcome.streams > 10 && outcome.memory < SMALL, "{outcome:?}");
}

#[test]
fn a_server_withstands_resets_without_end() {
    let outcome = withstands(Command::Resets);
    assert!(outcome.streams > 10 && outcome.memory < SMALL, "{outcome:?}");
}

#[test]
fn a_server_withstands_peers_that_never_read() {
    let outcome = withstands(Command::Unread);
    assert!(outcome.streams > 10 && outcome.memory < READ_AHEAD, "{outcome:?}");
}

#[test]
fn a_server_withstands_peers_that_vanish() {
    let report = withstands(Command::Vanishes);
    assert!(report.peers > 1 && report.answered > 20_000);
    assert!(report.unheard <= report.gone * UNHEARD, "{report:?}");
}

#[test]
fn a_server_withstands_a_crowd_that_crawls() {
    let report = withstands(|victim| {
        Command::Crawls(Crowd {
            victim,
            identities: 200,
            addresses: 3,
            streams: 8,
        })
    });
    assert!(report.streams > 10 && report.answered > 20_000, "{report:?}");
    assert!(report.memory < READ_AHEAD, "{report:?}");
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
    // 46 bytes for each second one of 250 addresses: the others are shorter than that.
    assert!(report.answered <= (report.packets / 2 + 250) * 46, "{report:?}");
}

#[test]
fn a_server_withstands_forgeries_from_a_peers_own_address() {
    let outcome = withstands(Command::Damages);
    assert!(outcome.packets > 100 && outcome.answered > 20_000, "{outcome:?}");
    // Three of four.
    let forged = outcome.dropped_in_all() + outcome.unread;
    assert!(forged > outcome.packets * 7 / 10, "{outcome:?}");
    assert!(outcome.are_resets_few(), "{outcome:?}");
}

#[test]
fn a_server_withstands_reflection() {
    let outcome = withstands(Command::Reflects);
    assert!(outcome.answered > 20_000 && outcome.are_resets_few(), "{outcome:?}");
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
    assert!(report.packets > 500 && report.closed > 0, "{report:?}");
    assert_eq!(report.code, Some(Code::ACK_INVALID));
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
    let outcome = withstands(Command::Answers);
    assert!(outcome.packets > 500 && outcome.answered == 0, "{outcome:?}");
    let unknown = outcome.dropped(DropReason::UnknownAttempt);
    assert!(outcome.are_nearly_all(unknown), "{outcome:?}");
}

/// Returns whether those that opened more than they were granted lost their channel: the first identity does.
fn is_credit_kept(report: &Outcome) -> bool {
    report.closed > 0 && report.code == Some(Code::CREDIT_EXCEEDED)
}

#[test]
fn a_server_withstands_gaps() {
    let report = withstands(Command::Gaps);
    assert!(report.packets > 500 && is_credit_kept(&report), "{report:?}");
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
    let report = withstands(Command::Updates);
    assert!(report.packets > 500 && report.closed == 0, "{report:?}");
    assert!(report.made > 0, "all keys are followed: {report:?}");
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
    // The latest of a packet is answered.
    assert_eq!(report.taken, 0, "{report:?}");
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
