//! A process that forks with a host in it: nothing waits for a driver that is not there.

use std::future::Future;
use std::pin::pin;
use std::process::exit;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use fork::{Fork, fork};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use sss::{DriverMode, Host, Server, Stream};
use tokio::runtime::Runtime;

/// Time in which a call ends that does not wait, on a machine with other work.
const LONG: Duration = Duration::from_secs(10);

/// A host and what it does, of which all is under way.
struct Stage {
    host: Host,
    server: Server,
    stream: Stream,
    /// The other host, and its end.
    other: Host,
    theirs: Stream,
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

impl Stage {
    async fn new(mode: DriverMode) -> Self {
        let host = || Host::builder().bind("127.0.0.1:0").driver(mode).build();
        let (host, other) = (host().await.unwrap(), host().await.unwrap());
        let server = host.listen("ours", "1").unwrap();
        let accepting = other.listen("test", "1").unwrap();
        let mut stream = host
            .connect(other.eid(), "test", "1")
            .hint(other.local_addr())
            .await
            .unwrap();
        stream.write_all(b"before").await.unwrap();
        let (mut theirs, _) = accepting.accept().await.unwrap();
        assert_eq!(theirs.read_chunk(100).await.unwrap().unwrap(), "before");
        Self {
            host,
            server,
            stream,
            other,
            theirs,
        }
    }

    /// Calls that wait, in a copy of the process; the number of the first that does not end with an error, or 0.
    async fn first_that_waits(mut self) -> i32 {
        let (eid, at) = (self.other.eid(), self.other.local_addr());
        let mut link = self.stream.peer().link();
        let calls: [(i32, bool); 8] = [
            (1, fails(self.stream.read_chunk(10)).await),
            (
                2,
                fails(async { self.stream.write_all(&vec![0; 64 << 20]).await }).await,
            ),
            (3, fails(self.stream.accept_substream()).await),
            (4, fails(self.server.accept()).await),
            (
                5,
                fails(self.host.connect(eid, "test", "1").hint(at).into_future()).await,
            ),
            (6, fails(self.host.probe(at, LONG)).await),
            (
                7,
                ends(async { while link.changed().await.is_some() {} }).await.is_some(),
            ),
            (8, ends(self.host.stopped()).await.is_some() && self.host.is_closed()),
        ];
        calls
            .iter()
            .find(|(_, is_right)| !is_right)
            .map_or(0, |(number, _)| *number)
    }
}

async fn ends<T>(call: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(LONG, call).await.ok()
}

/// Returns whether a call ends, and with an error.
async fn fails<T, E>(call: impl Future<Output = Result<T, E>>) -> bool {
    matches!(ends(call).await, Some(Err(_)))
}

/// Runs something in a copy of this process, and returns the code that it ends with.
fn in_copy(work: impl FnOnce() -> i32) -> Option<i32> {
    let child = match fork().unwrap() {
        Fork::Child => exit(work()),
        Fork::Parent(pid) => Pid::from_raw(pid).unwrap(),
    };
    let begun = Instant::now();
    loop {
        if let Some((_, status)) = waitpid(Some(child), WaitOptions::NOHANG).unwrap() {
            return status.exit_status();
        }
        if begun.elapsed() > 10 * LONG {
            kill_process(child, Signal::KILL).unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Threat 37, with a driver on the application's runtime, and on a thread of its own: neither is run in the copy.
#[test]
fn threat_37_in_a_forked_child_no_call_waits_and_the_parent_goes_on() {
    for mode in [DriverMode::Shared, DriverMode::Dedicated] {
        let first = runtime();
        let stage = first.block_on(Stage::new(mode));
        let mut kept = None;
        let code = in_copy_of(stage, &mut kept);
        assert_eq!(code, Some(0), "{mode:?}: the call with this number waits");
        let Stage {
            mut stream, mut theirs, ..
        } = kept.unwrap();
        first.block_on(async {
            stream.write_all(b"after").await.unwrap();
            let read = tokio::time::timeout(LONG, theirs.read_chunk(100)).await.unwrap();
            assert_eq!(read.unwrap().unwrap(), "after");
        });
    }
}

/// The stage goes to the copy, and stays here.
fn in_copy_of(stage: Stage, kept: &mut Option<Stage>) -> Option<i32> {
    let mut stage = Some(stage);
    let code = in_copy(|| runtime().block_on(stage.take().unwrap().first_that_waits()));
    *kept = stage;
    code
}

/// Threat 37: what was begun before, and is waited for in the copy.
#[test]
fn threat_37_what_was_awaited_before_a_fork_ends_in_the_child() {
    let first = runtime();
    let stage = first.block_on(Stage::new(DriverMode::Dedicated));
    let (host, mut stream) = (stage.host, stage.stream);
    let mut stopped = pin!(host.stopped());
    let mut read = pin!(stream.read_chunk(10));
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(read.as_mut().poll(cx).is_pending());
    assert!(stopped.as_mut().poll(cx).is_pending());
    let code = in_copy(|| {
        let ended = runtime().block_on(async {
            let is_read = fails(read.as_mut()).await;
            is_read && ends(stopped.as_mut()).await.is_some()
        });
        i32::from(!ended)
    });
    assert_eq!(code, Some(0));
    assert!(matches!(stopped.as_mut().poll(cx), Poll::Pending));
}

/// Threat 37: a thread that is not there may hold the lock. Hosts at work are copied again and again.
#[test]
fn threat_37_a_host_that_was_locked_when_it_was_copied_ends_too() {
    let first = runtime();
    let Stage {
        host,
        mut stream,
        mut theirs,
        other,
        ..
    } = first.block_on(Stage::new(DriverMode::Dedicated));
    let writing = std::thread::spawn(move || {
        let payload = vec![0; 1 << 16];
        runtime().block_on(async { while stream.write_all(&payload).await.is_ok() {} });
    });
    let reading = std::thread::spawn(move || {
        runtime().block_on(async { while let Ok(Some(_)) = theirs.read_chunk(1 << 16).await {} });
    });
    for _ in 0..40 {
        let code = in_copy(|| {
            let fails = runtime().block_on(fails(host.probe(other.local_addr(), 2 * LONG)));
            i32::from(!fails)
        });
        assert_eq!(code, Some(0));
    }
    first.block_on(async { other.close_within(Duration::ZERO).await }).ok();
    writing.join().unwrap();
    reading.join().unwrap();
}
