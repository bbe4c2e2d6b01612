//! Servers that mean no good, as programs: what they make a client take is bounded, and ends with a clear error.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sss::{Host, Stream};

use crate::support::{Home, Ran};

/// Address space that a client may have, in KiB.
const MEMORY: u32 = 700_000;
/// The status of a server that has no room (docs/spec/files.md).
const BUSY: u8 = 11;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evil {
    /// Lists the same directory for ever.
    OneDirectory,
    /// Says for ever why a directory cannot be read.
    OneReason,
    /// Takes requests and says nothing.
    Silent,
    /// Lists a file, and says nothing more.
    SilentFile,
    /// Sends a part of a file, and says nothing more.
    SilentContent,
    /// Lists 5 bytes and sends many.
    Larger,
    /// Goes on behind the end of a file.
    Longer,
    /// Cannot open a directory for want of descriptors of its own.
    Shortage,
    /// Says of more entries than there are that they were not made.
    NotMade,
}

fn entry(kind: u8, path: &str, size: u64) -> Vec<u8> {
    [&[kind, path.len() as u8][..], path.as_bytes(), &attributes(size)].concat()
}

fn attributes(size: u64) -> Vec<u8> {
    let size = (size | 3 << 62).to_be_bytes();
    [&size[..], &[0x41, 0xa4], &1_000_000_000_u64.to_be_bytes(), &[0; 4]].concat()
}

impl Evil {
    /// Answers one request.
    async fn answer(self, mut stream: Stream, sent: Arc<AtomicU64>) -> Option<()> {
        // Of STORE and MAKE, what follows is not waited for.
        let request = stream.read_chunk(10_000).await.ok()??;
        let endless: Vec<u8> = match (self, *request.first()?) {
            (Self::Silent, _) | (Self::SilentFile | Self::SilentContent, 2..) => {
                if self == Self::SilentContent {
                    let begun = [&[0][..], &attributes(1 << 20), &[0], &[7; 70_000]].concat();
                    stream.write_all(&begun).await.ok()?;
                }
                return std::future::pending().await;
            }
            (Self::OneDirectory, 1) => {
                stream.write_all(&[&[0][..], &entry(2, "", 0)].concat()).await.ok()?;
                entry(2, "d", 0).repeat(1000)
            }
            (Self::OneReason, 1) => {
                stream.write_all(&[&[0][..], &entry(2, "", 0)].concat()).await.ok()?;
                [&[5, 0, 3, 2][..], b"no"].concat().repeat(1000)
            }
            (Self::Shortage, 1) => {
                let why = "too many files are open: try again later";
                let refusal = [&[5, 1, b'd', BUSY, why.len() as u8][..], why.as_bytes()].concat();
                let listed = [&[0][..], &entry(2, "", 0), &entry(2, "d", 0), &refusal].concat();
                stream.write_all(&listed).await.ok()?;
                return stream.finish().ok();
            }
            // `put` looks first what is there.
            (Self::NotMade, 1) => {
                stream.write_all(&[2, 0]).await.ok()?;
                return stream.finish().ok();
            }
            (Self::NotMade, 4) => {
                stream.write_all(&[0]).await.ok()?;
                [&[1, b'x', 3, 2][..], b"no"].concat().repeat(1000)
            }
            (_, 1) => {
                let size = if self == Self::SilentContent { 1 << 20 } else { 5 };
                stream.write_all(&[&[0][..], &entry(1, "", size)].concat()).await.ok()?;
                return stream.finish().ok();
            }
            (Self::Larger, _) => {
                stream
                    .write_all(&[&[0][..], &attributes(500 << 20), &[0]].concat())
                    .await
                    .ok()?;
                vec![7; 100_000]
            }
            _ => {
                let hash = blake3::hash(b"12345");
                let whole = [&[0][..], &attributes(5), &[0], b"12345", &[0], hash.as_bytes()].concat();
                stream.write_all(&whole).await.ok()?;
                vec![7; 100_000]
            }
        };
        loop {
            stream.write_all(&endless).await.ok()?;
            sent.fetch_add(endless.len() as u64, Ordering::Relaxed);
        }
    }
}

/// A server that runs until it is dropped.
struct Serving {
    _runtime: tokio::runtime::Runtime,
    _host: Host,
    target: String,
    /// Bytes of what has no end that were taken from it.
    sent: Arc<AtomicU64>,
}

fn serve(evil: Evil) -> Serving {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let host = runtime.block_on(Host::builder().bind("127.0.0.1:0").build()).unwrap();
    let server = runtime.block_on(async { host.listen("files", "sync/1").unwrap() });
    let target = format!("{}@{}", host.eid(), host.local_addr());
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    runtime.spawn(async move {
        while let Ok((session, _)) = server.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                while let Ok(Some(stream)) = session.accept_substream().await {
                    tokio::spawn(evil.answer(stream, count.clone()));
                }
            });
        }
    });
    Serving {
        _runtime: runtime,
        _host: host,
        target,
        sent,
    }
}

/// Runs a command with little memory, and says how long that took.
fn run(client: &Home, args: &[&str]) -> (Ran, Duration) {
    let begun = Instant::now();
    let mut shell: Command = client.command_of("sh");
    shell.args(["-c", &format!("ulimit -v {MEMORY}; exec \"$0\" \"$@\"")]);
    shell.arg(env!("CARGO_BIN_EXE_sss")).args(args);
    let ran = Ran::wait(shell.spawn().unwrap());
    (ran, begun.elapsed())
}

// spec: FIL-6
#[test]
fn a_listing_without_end_is_given_up() {
    for evil in [Evil::OneDirectory, Evil::OneReason] {
        let (client, serving) = (Home::new(), serve(evil));
        let copy = client.path("copy");
        let (ran, _) = run(&client, &["get", &serving.target, copy.to_str().unwrap()]);
        ran.expect(1).says(&["out of order", "broke the file protocol"]);
        assert!(serving.sent.load(Ordering::Relaxed) < 50 << 20, "{evil:?}");
        let (ran, _) = run(&client, &["ls", "-r", &serving.target]);
        ran.expect(1).says(&["out of order"]);
    }
}

#[test]
fn more_failures_than_entries_are_given_up() {
    let (client, serving) = (Home::new(), serve(Evil::NotMade));
    let empty = client.dir("empty");
    let (ran, _) = run(
        &client,
        &["put", empty.to_str().unwrap(), &format!("{}/x", serving.target)],
    );
    ran.expect(1).says(&["more that was not made than was sent"]);
    assert!(serving.sent.load(Ordering::Relaxed) < 50 << 20);
}

#[test]
fn a_server_without_descriptors_is_not_taken_for_a_client_without() {
    let (serving, client) = (serve(Evil::Shortage), Home::new());
    let why = "too many files are open";
    let to = client.path("got");
    let (got, _) = run(&client, &["get", &serving.target, to.to_str().unwrap()]);
    let got = got.expect(1).says(&["d: ", why]);
    assert!(!got.err.contains("ulimit"), "{}", got.err);
    let (listed, _) = run(&client, &["ls", &serving.target]);
    let listed = listed
        .expect(1)
        .says(&["1 directory could not be read", "wait a while"]);
    assert!(listed.out.contains(why), "{}", listed.out);
}

#[test]
fn no_more_is_written_than_was_listed() {
    for (evil, says) in [(Evil::Larger, "was changed"), (Evil::Longer, "more than expected")] {
        let (client, serving) = (Home::new(), serve(evil));
        let copy = client.dir("copy");
        let to = copy.join("f");
        let (ran, _) = run(
            &client,
            &["get", &format!("{}/f", serving.target), to.to_str().unwrap()],
        );
        ran.expect(1).says(&[says]);
        let written: u64 = fs::read_dir(&copy)
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(written <= 5, "{evil:?}: {written}");
        assert!(serving.sent.load(Ordering::Relaxed) < 50 << 20, "{evil:?}");
    }
}

#[test]
fn silence_is_told_and_given_up() {
    let client = Home::new();
    let here = client.dir("here");
    fs::write(here.join("f"), "content").unwrap();
    let (copy, file) = (client.path("copy"), here.join("f"));
    let (copy, file) = (copy.to_str().unwrap(), file.to_str().unwrap());
    let silent = serve(Evil::Silent);
    let target = format!("{}/f", silent.target);
    let others = [Evil::SilentFile, Evil::SilentContent].map(serve);
    let [file_target, content_target] = others.each_ref().map(|serving| format!("{}/f", serving.target));
    let commands = [
        (&["get", &target, copy][..], "2"),
        (&["ls", &target], "2"),
        (&["put", file, &target], "2"),
        (&["get", &file_target, copy], "2"),
        (&["get", &content_target, copy], "2"),
        (&["ls", &target, "--verbose"], "11"),
    ];
    client.run(["id"]).expect(0);
    std::thread::scope(|scope| {
        for (command, seconds) in commands {
            let client = &client;
            scope.spawn(move || {
                let (ran, time) = run(client, &[command, &["--patience", seconds][..]].concat());
                let ran = ran.expect(3);
                let ran = ran.says(&[
                    &format!("has not said anything for {seconds} s"),
                    "run the same command again",
                ]);
                assert!(time >= Duration::from_secs(seconds.parse().unwrap()), "{time:?}");
                if seconds == "11" {
                    ran.says(&["says nothing: waiting, for 11 s at most"]);
                }
            });
        }
    });
}
