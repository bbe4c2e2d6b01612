//! Clients under attack by `sss-attack`: of servers that mean no good, of somebody between them and an honest server,
//! and of strangers who know their port. Their memory is bounded, they end soon, and they get what an honest server
//! sends meanwhile.

use std::fs;
use std::process::Child;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};
use sss::{Eid, Host, Stream};
use sss_attack::{Bait, Command, Evil, Report, Spot, Stop};

use crate::hostile::{bytes8, runtime};
use crate::support::{Home, Ran, Serving, noise};

/// Memory that a client may use, in bytes.
const MEMORY: usize = 200 << 20;
/// Time in which a client ends that has no reason to go on: one second, and what a machine at work takes.
const SOON: Duration = Duration::from_secs(20);
/// Time after which an attack ends at the latest.
const LIMIT: Duration = Duration::from_secs(60);
/// Time for which a host gets files from an honest server.
const TIME: Duration = Duration::from_millis(1500);
/// Files that a client gets, one after the other.
const FILES: usize = 4;
/// Bytes of the file that an honest server has.
const WANTED: usize = 4 << 20;

/// An attack on clients that goes on.
struct Attacking {
    target: String,
    stop: Stop,
    thread: JoinHandle<Report>,
}

impl Attacking {
    fn end(self) -> Report {
        self.stop.stop();
        self.thread.join().unwrap()
    }
}

fn begin(command: &Command) -> Attacking {
    let attack = command.prepare().unwrap();
    let target = attack.listening().unwrap().unwrap().to_string();
    let stop = attack.stop();
    let thread = std::thread::spawn(move || attack.run(LIMIT).unwrap());
    Attacking { target, stop, thread }
}

fn trap(evil: Evil) -> Attacking {
    let bind = ([127, 0, 0, 1], 0).into();
    let rate = 500;
    begin(&Command::Serve(Bait { evil, bind, rate }))
}

fn between(serving: &Serving) -> Attacking {
    let (bind, rate) = (([127, 0, 0, 1], 0).into(), 3000);
    let target = serving.target.parse().unwrap();
    begin(&Command::Between(Spot { target, bind, rate }))
}

/// What a client used and left.
struct Watched {
    ran: Ran,
    memory: usize,
    time: Duration,
}

/// Waits for a client, which is interrupted after a time if that is given.
fn watch(child: Child, interrupt: Option<Duration>) -> Watched {
    let (begun, pid) = (Instant::now(), Pid::from_child(&child));
    let watching = std::thread::spawn(move || {
        let (mut memory, mut interrupt) = (0, interrupt);
        let path = format!("/proc/{}/status", pid.as_raw_nonzero());
        while let Ok(status) = fs::read_to_string(&path) {
            let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            // It has none any more when it has ended.
            let Some(most) = most else { break };
            memory = memory.max(most.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10);
            if interrupt.is_some_and(|after| begun.elapsed() >= after) {
                interrupt = None;
                let _ = kill_process(pid, Signal::INT);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        memory
    });
    let ran = Ran::wait(child);
    let time = begun.elapsed();
    let memory = watching.join().unwrap();
    Watched { ran, memory, time }
}

fn get(client: &Home, args: &[&str], interrupt: Option<Duration>) -> Watched {
    let mut command = client.command();
    command.arg("get").args(args);
    watch(command.spawn().unwrap(), interrupt)
}

#[test]
fn a_client_of_a_server_that_means_no_good_ends_soon_and_holds_little() {
    let client = Home::new();
    client.run(["id"]).expect(0);
    let evils: Vec<_> = Evil::value_variants().iter().map(|evil| (*evil, trap(*evil))).collect();
    std::thread::scope(|scope| {
        for (evil, attacking) in &evils {
            let client = &client;
            scope.spawn(move || {
                let (target, to) = (format!("{}/f", attacking.target), client.path(&format!("{evil:?}")));
                let args = [&target, to.to_str().unwrap(), "--patience"];
                for (patience, interrupt) in [("60", Some(Duration::from_millis(400))), ("1", None)] {
                    let watched = get(client, &[&args[..], &[patience]].concat(), interrupt);
                    let Watched { ran, memory, time } = watched;
                    eprintln!(
                        "{evil:?}: {:?} in {time:.0?}, {} MiB; {}",
                        ran.code,
                        memory >> 20,
                        ran.err.trim()
                    );
                    assert!(
                        ran.code.is_some_and(|code| code != 0 && code != 101),
                        "{evil:?}: {}",
                        ran.err
                    );
                    assert!(time < SOON, "{evil:?}: {time:?}");
                    assert!(memory < MEMORY, "{evil:?}: {memory}");
                    assert!(!to.exists(), "{evil:?}");
                }
            });
        }
    });
    for (evil, attacking) in evils {
        let report = attacking.end();
        eprintln!("{evil:?}: {report}");
        assert!(
            report.peers > 0 && (report.packets > 1 || evil == Evil::Silence),
            "{evil:?}: {report:?}"
        );
    }
}

/// A session of a host, and a stream of it on which a file is asked for.
async fn ask(host: &Host, target: &str) -> Option<(Stream, Stream)> {
    let (eid, address) = target.split_once('@').unwrap();
    let eid: Eid = eid.parse().unwrap();
    let connecting = host.connect(eid, "files", "sync/1");
    let address: std::net::SocketAddr = address.parse().unwrap();
    let mut session = connecting.hint(address).await.ok()?;
    session.write_all(&[0]).await.ok()?;
    let mut stream = session.open_substream().ok()?;
    let fetch = [&[2][..], &bytes8(b"wanted"), &[0]].concat();
    stream.write_all(&fetch).await.ok()?;
    stream.finish().ok()?;
    Some((session, stream))
}

#[test]
fn a_host_gets_its_file_from_an_honest_server_while_others_mean_no_good() {
    let server = Home::new();
    let dir = server.dir("served");
    let wanted = noise(2, WANTED);
    fs::write(dir.join("wanted"), &wanted).unwrap();
    let serving = server.serve(&dir, &[]);
    let end = [&wanted[..], &[0], blake3::hash(&wanted).as_bytes()].concat();
    let runtime = runtime();
    let host = runtime.block_on(Host::builder().bind("127.0.0.1:0").build()).unwrap();
    let evils: Vec<_> = Evil::value_variants().iter().map(|evil| (*evil, trap(*evil))).collect();
    for (_, attacking) in &evils {
        let (host, target) = (host.clone(), attacking.target.clone());
        runtime.spawn(async move {
            // Again and again: whoever breaks a rule loses the channel.
            loop {
                if let Some((_session, mut stream)) = ask(&host, &target).await {
                    while let Ok(Some(_)) = stream.read_chunk(1 << 16).await {}
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 2 || start.elapsed() < TIME {
        let begun = Instant::now();
        let answer = runtime.block_on(async {
            let (_session, mut stream) = ask(&host, &serving.target).await.unwrap();
            stream.read_to_end(2 * WANTED).await.unwrap()
        });
        assert!(answer.ends_with(&end));
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let memory = most.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10;
    for (evil, attacking) in evils {
        let report = attacking.end();
        eprintln!("{evil:?}: {report}");
        assert!(
            report.peers > 0 && (report.packets > 1 || evil == Evil::Silence),
            "{evil:?}: {report:?}"
        );
    }
    let (usual, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    eprintln!(
        "{} files, {usual:.0?} each, {slowest:.0?} at most; {} MiB",
        times.len(),
        memory >> 20
    );
    assert!(slowest < SOON, "{slowest:?}");
    assert!(memory < 2 * MEMORY, "{memory}");
}

// spec: NEG-14
#[test]
fn a_client_gets_its_file_among_forgeries_and_tells_strangers_nothing() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("served");
    let wanted = noise(2, WANTED);
    fs::write(dir.join("wanted"), &wanted).unwrap();
    let serving = server.serve(&dir, &[]);
    let attacking = between(&serving);
    let (target, mut times) = (format!("{}/wanted", attacking.target), Vec::new());
    for _ in 0..FILES {
        let to = client.path(&times.len().to_string());
        let Watched { ran, memory, time } = get(&client, &[&target, to.to_str().unwrap()], None);
        ran.expect(0);
        assert!(fs::read(&to).unwrap() == wanted);
        assert!(memory < MEMORY, "{memory}");
        assert!(time < SOON, "{time:?}");
        times.push(time);
    }
    let report = attacking.end();
    times.sort_unstable();
    eprintln!("{report}; {times:.0?}");
    assert!(report.packets > 1000, "{report:?}");
    assert_eq!(report.taken, 0, "{report:?}");
}

#[test]
fn a_client_whose_server_is_gone_is_held_by_no_forgery() {
    let (server, client) = (Home::new(), Home::new());
    let serving = server.serve(&server.dir("served"), &[]);
    let attacking = between(&serving);
    serving.freeze(true);
    let (target, to) = (format!("{}/wanted", attacking.target), client.path("copy"));
    let args = [&target, to.to_str().unwrap(), "--timeout", "1"];
    let Watched { ran, memory, time } = get(&client, &args, None);
    eprintln!("{:?} in {time:.0?}, {} MiB; {}", ran.code, memory >> 20, ran.err.trim());
    // Who knows the attempt can say that it has another version; it is believed when nobody else answers (NEG-13).
    assert!(matches!(ran.code, Some(3 | 4)), "{:?}: {}", ran.code, ran.err);
    assert!(time < SOON && memory < MEMORY);
    let report = attacking.end();
    assert!(report.packets > 100 && report.taken == 0, "{report:?}");
}
