//! Clients that ask for much and take nothing: what the server holds for them is bounded, and others are served.
//!
//! `SSS_PEERS` and `SSS_REQUESTS` make them more; `--nocapture` shows what was measured.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sss::{Host, Stream};

use crate::hostile::{NO_SECRET, attributes, bytes8, runtime};
use crate::support::{Home, Ran, Serving, assert_same, noise};

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// Serves with at most so many descriptors. What it logs is not shown.
pub(crate) fn serve_with_descriptors(home: &Home, dir: &std::path::Path, descriptors: u32, args: &[&str]) -> Serving {
    let mut command = home.command_with_descriptors(descriptors);
    command
        .args(["serve", "--bind", "127.0.0.1:0", "--public"])
        .arg(dir)
        .args(args);
    Serving::start(
        command
            .stderr(if std::env::var_os("SSS_DBG").is_some() {
                Stdio::inherit()
            } else {
                Stdio::null()
            })
            .spawn()
            .unwrap(),
    )
}

/// Requests that are not read, and the host that asked.
pub(crate) struct Unread {
    _host: Host,
    pub(crate) session: Stream,
    pub(crate) requests: Vec<Stream>,
}

impl Unread {
    /// Requests that may go on.
    async fn begin(serving: &Serving, beginnings: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut unread = Self::ask(serving, []).await;
        for beginning in beginnings {
            let mut stream = unread.session.open_substream().unwrap();
            stream.write_all(&beginning).await.unwrap();
            unread.requests.push(stream);
        }
        unread
    }

    pub(crate) async fn ask(serving: &Serving, requests: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let host = Host::builder().bind("127.0.0.1:0").build().await.unwrap();
        let eid = serving.eid().parse().unwrap();
        let connect = host.connect(eid, "files", "sync/1").hint(serving.address());
        let mut session = connect.await.unwrap();
        session.write_all(NO_SECRET).await.unwrap();
        let mut unread = Self {
            _host: host,
            session,
            requests: Vec::new(),
        };
        for request in requests {
            let mut stream = unread.session.open_substream().unwrap();
            stream.write_all(&request).await.unwrap();
            stream.finish().unwrap();
            unread.requests.push(stream);
        }
        unread
    }
}

fn fetch(name: &str) -> Vec<u8> {
    [&[2][..], &bytes8(name.as_bytes()), &[0]].concat()
}

fn store(name: &str, size: u64) -> Vec<u8> {
    let size = (size | 0xc0 << 56).to_be_bytes();
    let attributes = attributes(0);
    [&[3][..], &bytes8(name.as_bytes()), &[0], &size, &attributes[1..]].concat()
}

fn verdict(content: &[u8]) -> Vec<u8> {
    [&[0][..], blake3::hash(content).as_bytes()].concat()
}

/// Measures until a condition holds, or the time is over.
pub(crate) fn wait_until(limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < limit, "not within {limit:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    begun.elapsed()
}

// spec: FIL-33
#[test]
fn unread_requests_hold_little_and_hinder_nobody() {
    const DESCRIPTORS: u32 = 200;
    let (peers, requests) = (number("SSS_PEERS", 4), number("SSS_REQUESTS", 150));
    let descriptors = number("SSS_DESCRIPTORS", DESCRIPTORS as usize) as u32;
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    let content = noise(1, 50 << 20);
    fs::write(dir.join("big"), &content).unwrap();
    fs::create_dir(dir.join("small")).unwrap();
    for i in 0..100 {
        fs::write(dir.join(format!("small/{i}")), noise(i, 20_000)).unwrap();
    }
    let serving = serve_with_descriptors(&server, &dir, descriptors, &[]);
    let before = serving.descriptors();
    let runtime = runtime();
    let mut unread = runtime.block_on(async {
        let mut unread = Vec::new();
        for _ in 0..peers {
            unread.push(Unread::ask(&serving, (0..requests).map(|_| fetch("big"))).await);
        }
        unread
    });
    std::thread::sleep(Duration::from_secs(2));
    let begun = Instant::now();
    let copy = client.path("copy");
    client
        .run(["get", &serving.at("small"), copy.to_str().unwrap()])
        .expect(0);
    let took = begun.elapsed();
    assert_same(&dir.join("small"), &copy);
    let (held, memory) = (serving.descriptors(), serving.memory());
    eprintln!("get took {took:?}; {held} descriptors, {} MiB", memory >> 20);
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(
        held <= descriptors as usize && memory < 300 << 20,
        "{held} descriptors, {memory} bytes"
    );

    let given_back = wait_until(Duration::from_secs(60), || serving.descriptors() <= before + 24);
    eprintln!("given back after {given_back:?}: {} MiB", serving.memory() >> 20);

    // The streams are still there, and go on where they were, those first that came first.
    let mut some = unread.swap_remove(0);
    let mut first = some.requests.remove(0);
    let answer = runtime.block_on(first.read_to_end(60 << 20)).unwrap();
    let at = answer.len() - 33 - content.len();
    assert!(answer[at..answer.len() - 33] == content, "the content is right");
    assert_eq!(answer[answer.len() - 32..], *blake3::hash(&content).as_bytes());

    fs::write(dir.join("big"), noise(2, 50 << 20)).unwrap();
    let mut second = some.requests.remove(0);
    let error = runtime.block_on(second.read_to_end(60 << 20)).unwrap_err().to_string();
    assert!(error.contains("the file was changed"), "{error}");
    eprintln!("at the end {} MiB at most", serving.peak_memory() >> 20);
    assert!(serving.peak_memory() < 300 << 20);
}

// Threat 34: many who read slowly have no file open all the time.
#[test]
fn threat_34_a_file_is_closed_while_it_leaves_slowly() {
    let server = Home::new();
    let dir = server.dir("source");
    fs::write(dir.join("big"), noise(1, 4 << 20)).unwrap();
    let serving = server.serve(&dir, &[]);
    runtime().block_on(async {
        let before = serving.descriptors();
        let mut slow = Unread::ask(&serving, [fetch("big")]).await;
        slow.requests[0].read_chunk(1).await.unwrap();
        // Nobody waits for what it holds, so that it need not pause for 10 s.
        let took = wait_until(Duration::from_secs(8), || serving.descriptors() <= before);
        eprintln!("closed after {took:?}");
        assert_eq!(slow.requests[0].read_to_end(8 << 20).await.unwrap().len() >> 20, 4);
    });
}

// spec: FIL-33
#[test]
fn listings_that_are_not_read_hold_nothing_and_go_on_later() {
    let server = Home::new();
    let dir = server.dir("source");
    for i in 0..3000 {
        fs::write(dir.join(format!("{i}-{}", "x".repeat(100))), "").unwrap();
    }
    let serving = serve_with_descriptors(&server, &dir, 200, &[]);
    let before = serving.descriptors();
    let runtime = runtime();
    let mut unread = runtime.block_on(async {
        let mut unread = Vec::new();
        for _ in 0..3 {
            unread.push(Unread::ask(&serving, (0..8).map(|_| vec![1, 0, 255, 0])).await);
        }
        unread
    });
    std::thread::sleep(Duration::from_secs(1));
    let given_back = wait_until(Duration::from_secs(60), || serving.descriptors() <= before + 3);
    eprintln!("given back after {given_back:?}");
    let answers: Vec<_> = unread
        .iter_mut()
        .map(|unread| {
            let read = unread.requests[0].read_to_end(1 << 20);
            runtime.block_on(read).unwrap()
        })
        .collect();
    let lengths: Vec<_> = answers.iter().map(|answer| answer.len()).collect();
    assert!(lengths.iter().all(|length| *length > 300_000), "{lengths:?}");
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}

// spec: FIL-33
#[test]
fn small_answers_that_are_not_read_give_way_to_others_of_the_same_peer() {
    const REQUESTS: usize = 480;
    let server = Home::new();
    let dir = server.dir("source");
    let content = noise(1, 60_000);
    fs::write(dir.join("f"), &content).unwrap();
    let serving = serve_with_descriptors(&server, &dir, 1024, &[]);
    runtime().block_on(async {
        let mut all = Vec::new();
        for _ in 0..4 {
            all.push(Unread::ask(&serving, (0..REQUESTS).map(|_| fetch("f"))).await);
        }
        // The last comes behind all others, of which none may keep what it cannot send.
        for at in [REQUESTS - 1, REQUESTS / 2, 0] {
            let reading = all[3].requests[at].read_to_end(70_000);
            let answer = tokio::time::timeout(Duration::from_secs(60), reading).await;
            let answer = answer.expect("it is answered").expect("it is not refused");
            assert!(answer.ends_with(blake3::hash(&content).as_bytes()));
        }
    });
}

/// `SSS_PEERS` clients that begin `SSS_REQUESTS` files each, and send no more.
// spec: FIL-33
#[test]
fn files_that_stop_coming_hold_nothing_and_go_on_later() {
    const SENT: usize = 300_000;
    let (peers, requests) = (number("SSS_PEERS", 2), number("SSS_REQUESTS", 60));
    let descriptors = number("SSS_DESCRIPTORS", 200) as u32;
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("dest");
    let content = noise(1, 1 << 20);
    for i in 0..50 {
        fs::write(client.dir("small").join(format!("{i}")), noise(i, 20_000)).unwrap();
    }
    let serving = serve_with_descriptors(&server, &dir, descriptors, &["--write"]);
    let before = serving.descriptors();
    let runtime = runtime();
    let mut stores = runtime.block_on(async {
        let mut stores = Vec::new();
        for peer in 0..peers {
            let beginning = |i| {
                [
                    store(&format!("{peer}-{i}"), 1 << 20),
                    vec![0],
                    content[..SENT].to_vec(),
                ]
                .concat()
            };
            stores.push(Unread::begin(&serving, (0..requests).map(beginning)).await);
        }
        stores
    });
    let begun = Instant::now();
    let small = client.path("small");
    client
        .run(["put", small.to_str().unwrap(), &serving.at("small")])
        .expect(0);
    eprintln!("put took {:?}; {} descriptors", begun.elapsed(), serving.descriptors());
    assert_same(&small, &dir.join("small"));
    let given_back = wait_until(Duration::from_secs(60), || serving.descriptors() <= before + 24);
    eprintln!("given back after {given_back:?}: {} MiB", serving.memory() >> 20);
    let parts = || fs::read_dir(&dir).unwrap().count() - 1;
    wait_until(Duration::from_secs(60), || parts() == peers * requests);

    let mut some = stores.swap_remove(0).requests;
    fs::write(dir.join(".0-1.sss-part"), &content[..SENT]).unwrap();
    let rest = [&content[SENT..], &verdict(&content)].concat();
    let (first, second) = runtime.block_on(async {
        let mut answers = Vec::new();
        for mut stream in some.drain(..2) {
            // Of what is refused not all is taken.
            let _ = stream.write_all(&rest).await;
            let _ = stream.finish();
            answers.push(stream.read_to_end(2000).await.unwrap());
        }
        (answers.remove(0), answers.remove(0))
    });
    assert_eq!(first[..], [0, 0, 0, 0]);
    assert!(fs::read(dir.join("0-0")).unwrap() == content);
    assert_eq!(second.get(..3), Some(&[0, 0, 11][..]), "BUSY: {second:?}");
    eprintln!("at the end {} MiB at most", serving.peak_memory() >> 20);
    assert!(serving.peak_memory() < 300 << 20);
}

/// A client that was killed has sent the beginnings of files, and they are sent again before it is known that it is
/// gone: nothing of the beginnings is left beside what has come, nor of a small file that never comes.
// spec: FIL-10
// spec: FIL-33
#[test]
fn what_nobody_goes_on_with_is_not_left_behind() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("dest");
    let files = [("small", noise(1, 10_000)), ("large", noise(2, 1 << 20))];
    let written = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for (name, content) in &files {
        fs::write(client.path(name), content).unwrap();
        let file = fs::File::options().write(true).open(client.path(name)).unwrap();
        file.set_modified(written).unwrap();
    }
    let serving = server.serve(&dir, &["--write"]);
    let runtime = runtime();
    let beginning = |name: &str, content: &[u8], sent: usize| {
        let request = store(name, content.len() as u64);
        [request, vec![0], content[..sent].to_vec()].concat()
    };
    let [(_, small), (_, large)] = &files;
    let beginnings = [
        beginning("small", small, 5000),
        beginning("large", large, 100_000),
        beginning("never", small, 5000),
        beginning("later", large, 100_000),
        beginning("brought", small, 5000),
    ];
    let mut dead = runtime.block_on(Unread::begin(&serving, beginnings));
    let answers = runtime.block_on(async {
        let mut answers = Vec::new();
        for stream in &mut dead.requests {
            answers.push(stream.read_chunk(2).await.unwrap().unwrap());
        }
        answers
    });
    assert!(
        answers.iter().all(|answer| answer[..] == [0, 0]),
        "all are to come: {answers:?}"
    );
    for (name, _) in &files {
        client
            .run(["put", client.path(name).to_str().unwrap(), &serving.target])
            .expect(0);
    }
    // Whoever comes again has what stands give back what it holds.
    std::thread::sleep(Duration::from_millis(1200));
    let eid = serving.eid().parse().unwrap();
    let again = dead._host.connect(eid, "files", "sync/1").hint(serving.address());
    let mut session = runtime.block_on(again.into_future()).unwrap();
    runtime.block_on(session.write_all(NO_SECRET)).unwrap();
    let names = || {
        let mut names: Vec<_> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    wait_until(Duration::from_secs(20), || {
        let parts = [".brought.sss-part", ".later.sss-part", ".never.sss-part"];
        names() == [&parts[..], &["large", "small"]].concat()
    });
    let refused = runtime.block_on(async {
        let mut refused = Vec::new();
        for stream in &mut dead.requests[..2] {
            refused.push(stream.read_to_end(2000).await.unwrap());
        }
        refused
    });
    for answer in refused {
        assert_eq!(answer.get(..1), Some(&[10][..]), "CHANGED: {answer:?}");
    }
    // Another transfer brings one of them without having seen that there was a part of it.
    fs::rename(client.path("small"), dir.join("brought")).unwrap();
    wait_until(Duration::from_secs(20), || {
        names() == [".later.sss-part", ".never.sss-part", "brought", "large", "small"]
    });
    drop((dead, session));
    wait_until(Duration::from_secs(20), || {
        names() == [".later.sss-part", "brought", "large", "small"]
    });
    for (name, content) in &files {
        assert!(fs::read(dir.join(name)).unwrap() == *content, "{name}");
    }
}

// spec: FIL-10
#[test]
fn what_a_killed_put_has_sent_of_a_small_file_goes_when_it_does_not_come_back() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("dest");
    fs::write(client.path("small"), noise(1, 200_000)).unwrap();
    let serving = server.serve(&dir, &["--write"]);
    let mut put = client.command();
    put.args(["put", client.path("small").to_str().unwrap(), &serving.target]);
    let mut put = put.args(["--limit-rate", "20K"]).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    put.kill().unwrap();
    put.wait().unwrap();
    let part = dir.join(".small.sss-part");
    wait_until(Duration::from_secs(20), || part.exists());
    // Its streams live for six minutes.
    wait_until(Duration::from_secs(40), || !part.exists());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

// spec: FIL-33
#[test]
fn want_of_descriptors_is_waited_for() {
    const REQUESTS: usize = 100;
    let server = Home::new();
    let dir = server.dir("dest");
    fs::write(dir.join("f"), noise(1, 300_000)).unwrap();
    // Fewer than the server believes to have for requests.
    let serving = serve_with_descriptors(&server, &dir, 26, &["--write"]);
    runtime().block_on(async {
        let small = |i| {
            let content = noise(i as u64, 1000);
            [
                store(&format!("d{i}/f"), 1000),
                vec![0],
                content.clone(),
                verdict(&content),
            ]
            .concat()
        };
        let stores = Unread::ask(&serving, (0..REQUESTS).map(small)).await;
        let fetches = Unread::ask(&serving, (0..REQUESTS).map(|_| fetch("f"))).await;
        let (mut stores, mut fetches) = (stores.requests, fetches.requests);
        for (stored, fetched) in stores.iter_mut().zip(&mut fetches) {
            assert_eq!(stored.read_to_end(2000).await.unwrap()[..], [0, 0, 0, 0]);
            assert_eq!(fetched.read_to_end(400_000).await.unwrap()[0], 0);
        }
    });
}

/// Whatever it is that a client cannot open, it says whose limit that is.
#[test]
fn a_put_with_few_descriptors_says_that_they_are_its_own() {
    let (server, client) = (Home::new(), Home::new());
    let source = client.dir("source");
    for i in 0..30 {
        fs::write(source.join(i.to_string()), i.to_string()).unwrap();
    }
    client.run(["id"]).expect(0);
    let serving = server.serve(&server.dir("dest"), &["--write"]);
    let mut refused = 0;
    for descriptors in 10..24 {
        let mut put = client.command_with_descriptors(descriptors);
        let to = serving.at(&descriptors.to_string());
        put.args(["put", source.to_str().unwrap(), &to]);
        put.stdout(Stdio::piped()).stderr(Stdio::piped());
        let ran = Ran::wait(put.spawn().unwrap());
        if ran.code != Some(0) {
            let ran = ran.says(&["this process may have no more than", "ulimit -n 1024"]);
            assert!(!ran.err.contains("try again later"), "{descriptors}: {}", ran.err);
            refused += 1;
        }
    }
    assert!((1..14).contains(&refused), "{refused}");
}

// spec: FIL-1
#[test]
fn a_peer_waits_for_itself_only() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    fs::write(dir.join("f"), "content").unwrap();
    fs::write(dir.join("big"), noise(1, 4 << 20)).unwrap();
    let serving = serve_with_descriptors(&server, &dir, 1024, &[]);
    let runtime = runtime();
    runtime.block_on(async {
        let unread = Unread::ask(&serving, (0..700).map(|_| fetch("big"))).await;
        let begun = Instant::now();
        tokio::task::spawn_blocking(move || {
            client
                .run(["get", &serving.at("f"), client.path("f").to_str().unwrap()])
                .expect(0);
            serving
        })
        .await
        .unwrap();
        eprintln!("{:?}", begun.elapsed());
        drop(unread);
    });
}

/// `SSS_PEERS` clients at once, of `SSS_REQUESTS` files each.
#[test]
fn many_honest_clients_share_few_descriptors() {
    let (clients, files) = (number("SSS_PEERS", 4), number("SSS_REQUESTS", 300));
    let descriptors = number("SSS_DESCRIPTORS", 180) as u32;
    let server = Home::new();
    let dir = server.dir("source");
    for i in 0..files {
        fs::write(dir.join(format!("{i}")), noise(i as u64, 1000 + i * 37 % 30_000)).unwrap();
    }
    let serving = serve_with_descriptors(&server, &dir, descriptors, &[]);
    let homes: Vec<Home> = (0..clients).map(|_| Home::new()).collect();
    let begun = Instant::now();
    let children: Vec<_> = homes
        .iter()
        .map(|home| {
            home.command()
                .args(["get", &serving.target])
                .arg(home.path("copy"))
                .spawn()
                .unwrap()
        })
        .collect();
    for (child, home) in children.into_iter().zip(&homes) {
        Ran::wait(child).expect(0);
        assert_same(&dir, &home.path("copy"));
    }
    eprintln!("{:?}; {} MiB at most", begun.elapsed(), serving.peak_memory() >> 20);
}

// spec: FIL-36
#[test]
fn false_beginnings_are_hashed_in_turns() {
    const SIZE: u64 = 256 << 30;
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    fs::File::create(dir.join("huge")).unwrap().set_len(SIZE).unwrap();
    let content = noise(1, 600_000);
    fs::write(dir.join("f"), &content).unwrap();
    // It has something of the file, and so needs a turn, too.
    fs::write(client.path(".f.sss-part"), &content[..300_000]).unwrap();
    let serving = serve_with_descriptors(&server, &dir, 1024, &[]);
    let false_prefix = [&[2][..], &bytes8(b"huge"), &(SIZE | 0xc0 << 56).to_be_bytes(), &[7; 32]].concat();
    let unread = runtime().block_on(Unread::ask(&serving, (0..200).map(|_| false_prefix.clone())));
    std::thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    client
        .run(["get", &serving.at("f"), client.path("f").to_str().unwrap()])
        .expect(0);
    let took = begun.elapsed();
    eprintln!("get took {took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    drop(unread);
}

// spec: FIL-36
#[test]
fn what_is_there_is_hashed_in_turns() {
    const SIZE: u64 = 256 << 30;
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("dest");
    for name in ["huge", ".begun.sss-part"] {
        let file = fs::File::create(dir.join(name)).unwrap();
        file.set_len(SIZE).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        file.set_permissions(mode).unwrap();
    }
    let content = noise(1, 600_000);
    fs::write(client.path("f"), &content).unwrap();
    // There is something of the file, so that it needs a turn, too.
    fs::write(dir.join(".f.sss-part"), &content[..300_000]).unwrap();
    let serving = serve_with_descriptors(&server, &dir, 1024, &["--write"]);
    let runtime = runtime();
    let requests = (0..100).flat_map(|_| [store("huge", SIZE), store("begun", SIZE + 1)]);
    let unread = runtime.block_on(Unread::begin(&serving, requests));
    std::thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    client
        .run(["put", client.path("f").to_str().unwrap(), &serving.target])
        .expect(0);
    let took = begun.elapsed();
    eprintln!("put took {took:?}; {} descriptors", serving.descriptors());
    assert!(took < Duration::from_secs(20), "{took:?}");
    drop(unread);
}

// spec: FIL-34
#[test]
fn entries_that_cannot_be_made_are_not_remembered() {
    const ENTRIES: usize = 400_000;
    let server = Home::new();
    let dir = server.dir("source");
    let serving = serve_with_descriptors(&server, &dir, 1024, &["--write"]);
    let before = serving.peak_memory();
    let told = runtime().block_on(async {
        let unread = Unread::ask(&serving, []).await;
        let (mut send, mut receive) = unread.session.open_substream().unwrap().split();
        let sending = async move {
            send.write_all(&[4, 0, 0]).await.unwrap();
            // Of kind 1: files are not made.
            let entry = [&[1][..], &bytes8(&[b'x'; 60]), &attributes(0)].concat();
            let batch = entry.repeat(1000);
            for _ in 0..ENTRIES / 1000 {
                send.write_all(&batch).await.unwrap();
            }
            send.finish().unwrap();
            send
        };
        let reading = async move {
            let mut told = 0;
            while let Some(chunk) = receive.read_chunk(1 << 20).await.unwrap() {
                told += chunk.len();
            }
            told
        };
        tokio::join!(sending, reading).1
    });
    assert!(told > ENTRIES * 60, "all are told: {told} bytes");
    let grown = serving.peak_memory().saturating_sub(before);
    eprintln!("{} MiB more", grown >> 20);
    assert!(grown < 60 << 20, "{grown} bytes");
}

// spec: FIL-35
#[test]
fn a_quota_is_kept_and_abandoned_parts_go() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("dest");
    fs::write(dir.join("there"), noise(1, 100_000)).unwrap();
    fs::write(dir.join(".old.sss-part"), noise(1, 100_000)).unwrap();
    fs::write(dir.join(".new.sss-part"), noise(1, 1000)).unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(30 * 24 * 3600);
    let old = fs::File::options().write(true).open(dir.join(".old.sss-part")).unwrap();
    old.set_modified(long_ago).unwrap();
    let serving = server.serve(&dir, &["--write", "--quota", "1M"]);
    wait_until(Duration::from_secs(30), || !dir.join(".old.sss-part").exists());
    assert!(dir.join(".new.sss-part").exists());

    fs::write(client.path("fits"), noise(2, 500_000)).unwrap();
    fs::write(client.path("large"), noise(3, 600_000)).unwrap();
    let put = |name: &str| client.run(["put", client.path(name).to_str().unwrap(), &serving.target]);
    put("fits").expect(0);
    put("large")
        .expect(1)
        .says(&["the quota of this server is used up", "--quota"]);
    assert!(!dir.join("large").exists() && !dir.join(".large.sss-part").exists());
    // What is empty costs something, too.
    fs::create_dir(client.path("many")).unwrap();
    for i in 0..200 {
        fs::write(client.path("many").join(format!("{i}")), "").unwrap();
    }
    put("many").expect(1).says(&["the quota"]);
    // What is removed is free again, soon.
    fs::remove_file(dir.join("fits")).unwrap();
    // The server may be busy yet with what the client asked for before it gave up.
    wait_until(Duration::from_secs(30), || {
        !dir.join("many").exists() || fs::remove_dir_all(dir.join("many")).is_ok()
    });
    wait_until(Duration::from_secs(30), || put("large").code == Some(0));
    server.run(["serve", dir.to_str().unwrap(), "--quota", "1M"]).expect(2);
}

/// The command with another limit of descriptors, for this process and whatever it starts.
impl Home {
    pub(crate) fn command_with_descriptors(&self, descriptors: u32) -> Command {
        self.command_after(&format!("ulimit -n {descriptors}"))
    }

    /// The command after one of the shell in the same process.
    pub(crate) fn command_after(&self, before: &str) -> Command {
        let own = self.command();
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{before}; exec \"$0\" \"$@\"")]);
        command.arg(own.get_program());
        for (key, value) in own.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }
}
