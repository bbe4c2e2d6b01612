//! A server that has no room for a session: clients come again, and say so.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sss::{Eid, Host, PeerLimits, Server, Stream};

use crate::exhaustion::wait_until;
use crate::hostile::{attributes, entry, runtime};
use crate::support::{Home, Ran};

const CONTENT: &[u8] = b"what is in a file";

/// Application code of BUSY.
const BUSY: u32 = 11;

/// Manner in which a server treats its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sessions {
    /// It has no room for the first two.
    RefusesTwo,
    /// It has room for none.
    RefusesAll,
    /// Each is ended as soon as one request was answered, as one that gives way to others.
    EndsAfterOne,
    /// Requests are answered a second after they have come.
    Slow,
}

/// What is answered to requests for a file, `f`; there is none where `put` looks.
async fn answer(mut stream: Stream, service: &str) -> Option<()> {
    let request = stream.read_chunk(10_000).await.ok()??;
    let answer = match (service, request.first()?) {
        ("ping", _) => request.to_vec(),
        (_, 1) if request.ends_with(b"new") => vec![2, 0],
        (_, 1) => [&[0][..], &entry(1, "", CONTENT.len())].concat(),
        (_, 3) => vec![1, 0],
        _ => {
            let (head, hash) = (attributes(CONTENT.len()), blake3::hash(CONTENT));
            [&[0][..], &head, &[0], CONTENT, &[0], hash.as_bytes()].concat()
        }
    };
    stream.write_all(&answer).await.ok()?;
    stream.finish().ok()?;
    stream.drained().await.ok()
}

async fn serve(server: Server, sessions: Sessions, service: &'static str) {
    for number in 0.. {
        let Ok((mut session, _)) = server.accept().await else {
            return;
        };
        let is_refused = match sessions {
            Sessions::RefusesTwo => number < 2,
            Sessions::RefusesAll => true,
            Sessions::EndsAfterOne | Sessions::Slow => false,
        };
        if is_refused {
            session.reset_tree_with(BUSY, "no room today");
            continue;
        }
        tokio::spawn(async move {
            if service == "files" {
                session.write_all(&[0]).await.unwrap();
            }
            while let Ok(Some(stream)) = session.accept_substream().await {
                if sessions == Sessions::Slow {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                answer(stream, service).await;
                if sessions == Sessions::EndsAfterOne {
                    break;
                }
            }
            let _ = session.finish();
        });
    }
}

/// What becomes of a command, with HOST in place of the server and COPY of a new path. How long it took.
fn run(sessions: Sessions, command: &str, home: &Home) -> (Ran, Duration) {
    let runtime = runtime();
    let host = runtime.block_on(Host::builder().bind("127.0.0.1:0").build()).unwrap();
    for (service, protocol) in [("files", "sync/1"), ("ping", "echo/1")] {
        let server = runtime.block_on(async { host.listen(service, protocol).unwrap() });
        runtime.spawn(serve(server, sessions, service));
    }
    let target = format!("{}@{}", host.eid(), host.local_addr());
    let (copy, file) = (home.path("copy"), home.path("new"));
    fs::write(&file, CONTENT).unwrap();
    let command = command.replace("HOST", &target);
    let command = command.replace("COPY", copy.to_str().unwrap());
    let command = command.replace("FILE", file.to_str().unwrap());
    let begun = Instant::now();
    (home.run(command.split(' ')), begun.elapsed())
}

const COMMANDS: [&str; 5] = [
    "ls HOST/f",
    "get HOST/f COPY",
    "get HOST/f -",
    "put FILE HOST/new",
    "ping HOST -c 3 -i 0.01",
];

// spec: FIL-46, ECH-5
#[test]
fn who_was_refused_for_want_of_room_comes_again_and_says_so() {
    for command in COMMANDS {
        let home = Home::new();
        let (ran, _) = run(Sessions::RefusesTwo, command, &home);
        let ran = ran
            .expect(0)
            .says(&["has too much to do: asking it again, for 120 s at most"]);
        assert_eq!(ran.err.matches("too much to do").count(), 1, "{}", ran.err);
        match command {
            "get HOST/f COPY" => assert_eq!(fs::read(home.path("copy")).unwrap(), CONTENT),
            "get HOST/f -" => assert_eq!(ran.out.as_bytes(), CONTENT),
            _ => {}
        }
        let (ran, _) = run(Sessions::RefusesTwo, &format!("{command} --json"), &Home::new());
        if command != "get HOST/f -" {
            assert_eq!(ran.expect(0).event("peer")["status"], "busy");
        }
    }
}

// spec: FIL-46, ECH-5
#[test]
fn whose_session_gives_way_opens_another() {
    for command in COMMANDS {
        let home = Home::new();
        let (ran, _) = run(Sessions::EndsAfterOne, command, &home);
        let ran = ran.expect(0);
        match command {
            "get HOST/f COPY" => assert_eq!(fs::read(home.path("copy")).unwrap(), CONTENT),
            "get HOST/f -" => assert_eq!(ran.out.as_bytes(), CONTENT),
            _ => {}
        }
    }
}

#[test]
fn a_server_without_room_is_given_up_after_the_patience() {
    std::thread::scope(|scope| {
        for command in COMMANDS {
            scope.spawn(move || {
                let (ran, time) = run(Sessions::RefusesAll, &format!("{command} --patience 2"), &Home::new());
                ran.expect(3)
                    .says(&["too much to do to let us in, for 2 s", "run the same command again"]);
                assert!(time >= Duration::from_secs(2), "{time:?}");
            });
        }
    });
}

/// Two transfers to the same name, on either side: the later one says that it waits, and for whom.
#[test]
fn who_waits_for_another_transfer_of_the_same_file_says_so() {
    let (server, client) = (Home::new(), Home::new());
    let (there, here) = (server.dir("there"), client.dir("here"));
    client.run(["id"]).expect(0);
    let serving = server.serve(&there, &["--write"]);
    for (from, name) in [(&there, "get"), (&here, "put")] {
        fs::write(from.join(name), vec![7; 4 << 20]).unwrap();
    }
    let (get, put) = (serving.at("get"), here.join("put"));
    let commands = [
        ["get", &get, here.to_str().unwrap()],
        ["put", put.to_str().unwrap(), &serving.target],
    ];
    for command in commands {
        let mut first = client.command();
        first.args(command).args(["--limit-rate", "1M"]);
        let first = first.spawn().unwrap();
        let part = format!(".{}.sss-part", command[0]);
        wait_until(Duration::from_secs(10), || {
            here.join(&part).exists() || there.join(&part).exists()
        });
        let second = client.run([&command[..], &["--json"]].concat()).expect(0);
        let said = second.event("note")["text"].to_string();
        assert!(
            said.contains("another") && said.contains("waiting, for 10 minutes at most"),
            "{said}"
        );
        let done = second.event("done");
        assert_eq!(
            (&done["bytes_moved"], &done["bytes_kept"]),
            (&0.into(), &(4 << 20).into()),
            "{done}"
        );
        Ran::wait(first).expect(0);
    }
}

#[test]
fn whose_connection_is_refused_for_want_of_room_asks_again() {
    let (runtime, home) = (runtime(), Home::new());
    let limits = PeerLimits::default().with(|limits| limits.trees = 1);
    let building = Host::builder().bind("127.0.0.1:0").peer_limits(limits).build();
    let host = runtime.block_on(building).unwrap();
    let server = runtime.block_on(async { host.listen("files", "sync/1").unwrap() });
    runtime.spawn(serve(server, Sessions::RefusesTwo, "files"));
    let first = runtime.block_on(Host::builder().bind("127.0.0.1:0").build()).unwrap();
    let connecting = first.connect(host.eid(), "files", "sync/1").hint(host.local_addr());
    let held = runtime.block_on(async { connecting.await.unwrap() });
    home.run(["id"]).expect(0);
    let target = format!("{}@{}/f", host.eid(), host.local_addr());
    let mut ls = home.command();
    ls.args(["ls", &target]);
    let ls = ls.spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    drop(held);
    runtime.block_on(first.close()).unwrap();
    Ran::wait(ls)
        .expect(0)
        .says(&["too much to do: asking it again, for 120 s at most"]);
    // Another keeps the place for good.
    let second = runtime.block_on(Host::builder().bind("127.0.0.1:0").build()).unwrap();
    let connecting = second.connect(host.eid(), "files", "sync/1").hint(host.local_addr());
    let _held = runtime.block_on(async { connecting.await.unwrap() });
    let begun = Instant::now();
    let ran = home.run(["ls", &target, "--patience", "2"]).expect(3);
    ran.says(&["too many connections", "wait a while, then run the same command again"]);
    assert!(begun.elapsed() >= Duration::from_secs(2));
}

/// First byte of INITIATE, and of PROBE.
const INITIATE: u8 = 0x86;
const PROBE: u8 = 0x88;

/// Passes datagrams between a client and a server on, but for INITIATEs of so long after the first: in a crowd a server
/// looks into a few of each network, and answers fewer (NEG-23, NEG-38). Ends with the test.
fn crowded_way(to: SocketAddr, crowd: Duration) -> SocketAddr {
    watched_way(to, crowd, &Arc::default())
}

/// The same, which counts what of the client asks anybody who is there.
fn watched_way(to: SocketAddr, crowd: Duration, probes: &Arc<AtomicUsize>) -> SocketAddr {
    let probes = Arc::clone(probes);
    let [front, back] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let address = front.local_addr().unwrap();
    back.connect(to).unwrap();
    let (answers, behind) = (back.try_clone().unwrap(), front.try_clone().unwrap());
    let (client, clients) = std::sync::mpsc::channel::<SocketAddr>();
    std::thread::spawn(move || {
        let (mut datagram, mut crowded_since) = ([0; 2048], None);
        while let Ok((len, from)) = front.recv_from(&mut datagram) {
            let _ = client.send(from);
            probes.fetch_add(usize::from(datagram[0] == PROBE), Ordering::Relaxed);
            let is_initiate = datagram[..len].first() == Some(&INITIATE);
            if is_initiate && crowded_since.get_or_insert_with(Instant::now).elapsed() < crowd {
                continue;
            }
            let _ = back.send(&datagram[..len]);
        }
    });
    std::thread::spawn(move || {
        let (mut datagram, mut client) = ([0; 2048], None);
        while let Ok(len) = answers.recv(&mut datagram) {
            client = clients.try_iter().last().or(client);
            let _ = behind.send_to(&datagram[..len], client.unwrap());
        }
    });
    address
}

// spec: FIL-46
#[test]
fn who_is_refused_without_a_word_in_a_crowd_asks_again() {
    std::thread::scope(|scope| {
        for command in ["ls HOST/f", "get HOST/f COPY", "ping HOST -c 1", "services HOST"] {
            scope.spawn(move || crowd_is_outlasted(command));
        }
    });
}

fn crowd_is_outlasted(command: &str) {
    let (runtime, home) = (runtime(), Home::new());
    let host = runtime.block_on(Host::builder().bind("127.0.0.1:0").build()).unwrap();
    for (service, protocol) in [("files", "sync/1"), ("ping", "echo/1")] {
        let server = runtime.block_on(async { host.listen(service, protocol).unwrap() });
        runtime.spawn(serve(server, Sessions::EndsAfterOne, service));
    }
    home.run(["id"]).expect(0);
    let run = |crowd: Duration, more: &str| {
        let target = format!("{}@{}", host.eid(), crowded_way(host.local_addr(), crowd));
        let command = format!("{command} --timeout 1 {more}").replace("HOST", &target);
        let command = command.replace("COPY", home.path("copy").to_str().unwrap());
        home.run(command.trim().split(' '))
    };
    let ran = run(Duration::from_secs(3), "").expect(0);
    ran.says(&["the server answers, but does not let us in: asking it again, for 120 s at most"]);
    if command.starts_with("get") {
        assert_eq!(fs::read(home.path("copy")).unwrap(), CONTENT);
    }
    // Who has not so much patience is told what it was.
    let begun = Instant::now();
    let ran = run(Duration::from_secs(60), "--patience 2").expect(3);
    ran.says(&["answered but did not accept us"]);
    assert!(begun.elapsed() >= Duration::from_secs(2));
}

/// Whoever watches the way reads the EID in an answer to PROBE.
// spec: NEG-27
#[test]
fn a_host_that_has_answered_is_not_asked_who_it_is() {
    let (runtime, home) = (runtime(), Home::new());
    let host = runtime
        .block_on(Host::builder().bind("127.0.0.1:0").answer_probes(true).build())
        .unwrap();
    let _server = runtime.block_on(async { host.listen("ping", "echo/1").unwrap() });
    home.run(["id"]).expect(0);
    let probes = Arc::new(AtomicUsize::new(0));
    let way = watched_way(host.local_addr(), Duration::from_secs(60), &probes);
    let target = format!("{}@{way}", host.eid());
    home.run(["ping", &target, "-c", "1", "--timeout", "8", "--patience", "1"])
        .expect(3)
        .says(&["answered but did not accept us"]);
    assert_eq!(probes.load(Ordering::Relaxed), 0);
    // One that is called by another name is silent, and asked.
    let other = format!("{}@{way}", Eid::from_public_key(&[9; 32]));
    home.run(["ping", &other, "-c", "1", "--timeout", "8"])
        .expect(4)
        .says(&[&format!("is {}, not ", host.eid())]);
    assert!(probes.load(Ordering::Relaxed) > 0);
}

/// A host that is full closes the newest connection of the network that has most for one of another.
#[test]
fn whose_connection_gives_way_comes_again() {
    std::thread::scope(|scope| {
        for command in COMMANDS {
            scope.spawn(move || connection_gives_way(command));
        }
    });
}

fn connection_gives_way(command: &str) {
    let (runtime, home) = (runtime(), Home::new());
    let limits = PeerLimits::default().with(|limits| limits.trees = 2);
    let building = Host::builder().bind("127.0.0.1:0").peer_limits(limits).build();
    let host = runtime.block_on(building).unwrap();
    for (service, protocol) in [("files", "sync/1"), ("ping", "echo/1")] {
        let server = runtime.block_on(async { host.listen(service, protocol).unwrap() });
        runtime.spawn(serve(server, Sessions::Slow, service));
    }
    let guest = |address: &str| runtime.block_on(Host::builder().bind(address).build()).unwrap();
    let connect = |guest: &Host| {
        let connecting = guest.connect(host.eid(), "files", "sync/1").hint(host.local_addr());
        runtime.block_on(async { connecting.await })
    };
    let first = guest("127.0.0.1:0");
    let _held = connect(&first).unwrap();
    home.run(["id"]).expect(0);
    fs::write(home.path("new"), CONTENT).unwrap();
    let target = format!("{}@{}", host.eid(), host.local_addr());
    let command = command.replace("HOST", &target);
    let command = command.replace("COPY", home.path("copy").to_str().unwrap());
    let command = command.replace("FILE", home.path("new").to_str().unwrap());
    let mut running = home.command();
    running.args(command.split(' '));
    let running = running.spawn().unwrap();
    wait_until(Duration::from_secs(10), || host.peers().len() == 2);
    std::thread::sleep(Duration::from_millis(300));
    let other = guest("127.0.0.2:0");
    let place = connect(&other).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    drop(place);
    runtime.block_on(other.close()).unwrap();
    let ran = Ran::wait(running).expect(0);
    ran.says(&["too much to do: asking it again, for 120 s at most"]);
    if command.starts_with("get") && !command.ends_with('-') {
        assert_eq!(fs::read(home.path("copy")).unwrap(), CONTENT);
    }
}

/// With so few descriptors nothing works, and that is said.
#[test]
fn too_few_descriptors_are_said_to_be_too_few() {
    let home = Home::new();
    for limit in [6, 7] {
        let mut shell = home.command_of("sh");
        shell.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" id")]);
        shell.arg(env!("CARGO_BIN_EXE_sss"));
        let ran = Ran::wait(shell.spawn().unwrap()).expect(1);
        ran.says(&[
            "too many open files",
            &format!("no more than {limit}"),
            "ulimit -n 1024",
        ]);
    }
}

/// A few more, and it depends on what was opened before what is short of them: the name of a file is to blame for none
/// of it.
#[test]
fn a_server_that_may_open_too_few_files_says_so_and_ends() {
    let (server, client) = (Home::new(), Home::new());
    let there = server.dir("there");
    fs::write(there.join("f"), CONTENT).unwrap();
    server.run(["id"]).expect(0);
    let mut refused = 0;
    for limit in 10..24 {
        let mut shell = server.command_of("sh");
        shell.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")]);
        shell.arg(env!("CARGO_BIN_EXE_sss"));
        shell.args(["serve", there.to_str().unwrap(), "--public", "--bind", "127.0.0.1:0"]);
        let mut child = shell.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        if let Some(target) = line.strip_prefix("listening ") {
            // With very few, a listing has to wait for one in vain, and that is said.
            let listed = client.run(["ls", target.trim()]);
            if listed.code != Some(0) {
                assert!(
                    limit < 20 && listed.out.contains("too many files are open"),
                    "{limit}: {}{}",
                    listed.out,
                    listed.err
                );
            }
            child.kill().unwrap();
            child.wait().unwrap();
            continue;
        }
        assert_eq!(line, "");
        refused += 1;
        Ran::wait(child).expect(1).says(&[
            "too many open files",
            &format!("no more than {limit}"),
            "ulimit -n 1024",
        ]);
    }
    assert!((1..14).contains(&refused), "{refused} of 14");
}

#[test]
fn a_command_that_runs_out_of_descriptors_blames_their_number() {
    let (server, client) = (Home::new(), Home::new());
    let there = server.dir("there");
    fs::create_dir(there.join("d")).unwrap();
    fs::write(there.join("d/f"), CONTENT).unwrap();
    let serving = server.serve(&there, &[]);
    client.run(["id"]).expect(0);
    let mut failed = 0;
    for limit in 8..20 {
        let copy = client.path(&format!("copy{limit}"));
        let mut shell = client.command_of("sh");
        shell.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")]);
        shell.arg(env!("CARGO_BIN_EXE_sss"));
        shell.args(["get", &serving.target, copy.to_str().unwrap()]);
        let ran = Ran::wait(shell.spawn().unwrap());
        if ran.code == Some(0) {
            assert_eq!(fs::read(copy.join("d/f")).unwrap(), CONTENT);
            continue;
        }
        failed += 1;
        ran.says(&[
            "too many open files",
            &format!("no more than {limit}"),
            "ulimit -n 1024",
        ]);
    }
    assert!(failed > 0, "all have gone well");
}
