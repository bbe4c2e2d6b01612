//! Clients that ask for much and take nothing: what the server holds for them is bounded, and others are served.
//!
//! `SSS_PEERS` and `SSS_REQUESTS` make them more; `--nocapture` shows what was measured.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sss::{Host, Stream};

use crate::hostile::{NO_SECRET, bytes8, runtime};
use crate::support::{Home, Ran, Serving, assert_same, noise};

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// Serves with at most so many descriptors. What it logs is not shown.
fn serve_with_descriptors(home: &Home, dir: &std::path::Path, descriptors: u32, args: &[&str]) -> Serving {
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
struct Unread {
    _host: Host,
    session: Stream,
    requests: Vec<Stream>,
}

impl Unread {
    async fn ask(serving: &Serving, requests: impl IntoIterator<Item = Vec<u8>>) -> Self {
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

/// Measures until a condition holds, or the time is over.
fn wait_until(limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
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

    // The streams are still there, and go on where they were.
    let mut some = unread.swap_remove(0);
    let mut first = some.requests.swap_remove(0);
    let answer = runtime.block_on(first.read_to_end(60 << 20)).unwrap();
    let at = answer.len() - 33 - content.len();
    assert!(answer[at..answer.len() - 33] == content, "the content is right");
    assert_eq!(answer[answer.len() - 32..], *blake3::hash(&content).as_bytes());

    fs::write(dir.join("big"), noise(2, 50 << 20)).unwrap();
    let mut second = some.requests.swap_remove(0);
    let error = runtime.block_on(second.read_to_end(60 << 20)).unwrap_err().to_string();
    assert!(error.contains("the file was changed"), "{error}");
    eprintln!("at the end {} MiB at most", serving.peak_memory() >> 20);
    assert!(serving.peak_memory() < 300 << 20);
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

/// The command with another limit of descriptors, for this process and whatever it starts.
impl Home {
    fn command_with_descriptors(&self, descriptors: u32) -> Command {
        let own = self.command();
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"")]);
        command.arg(own.get_program());
        for (key, value) in own.get_envs() {
            command.env(key, value.unwrap());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }
}
