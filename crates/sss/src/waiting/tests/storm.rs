//! Waits of all kinds that are given up at any moment, beside real traffic, on several threads.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::*;

/// Time that a test may take, on a machine however slow.
const PATIENCE: Duration = Duration::from_secs(120);

async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("{what} hangs"))
}

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        static SEED: AtomicU64 = AtomicU64::new(1);
        Self(SEED.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed) | 1)
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    /// Waits for `future`, and gives up: at once, when it is woken and not polled again, or after a while.
    async fn flaky<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = Box::pin(future);
        let polls = self.roll(3);
        let mut polled = 0;
        let limited = std::future::poll_fn(|cx| {
            polled += 1;
            if polled > polls + 1 {
                return Poll::Ready(None);
            }
            let result = future.as_mut().poll(cx).map(Some);
            if result.is_pending() && polls == 2 {
                cx.waker().wake_by_ref();
            }
            result
        });
        let after = Duration::from_micros(200 + self.roll(2000));
        tokio::time::timeout(after, limited).await.ok().flatten()
    }

    /// As often as it takes.
    async fn insist<T, F: Future<Output = T>>(&mut self, mut begin: impl FnMut() -> F) -> T {
        loop {
            if let Some(done) = self.flaky(begin()).await {
                return done;
            }
            if self.roll(4) == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn all(mut tasks: JoinSet<()>) {
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// Puts what several tasks get into one place, until there are `n` of them.
async fn gather<T, F>(n: u64, got: &std::sync::Mutex<BTreeSet<u64>>, mut next: impl FnMut() -> F)
where
    F: Future<Output = Option<T>>,
    T: Into<Number>,
{
    let mut dice = Dice::new();
    loop {
        if got.lock().unwrap().len() as u64 >= n {
            return;
        }
        if let Some(Some(item)) = dice.flaky(next()).await {
            let number = item.into().read().await;
            assert!(got.lock().unwrap().insert(number), "{number} came twice");
        }
    }
}

/// A stream or datagram with a number in it.
enum Number {
    Stream(Stream),
    Datagram(bytes::Bytes),
}

impl From<Stream> for Number {
    fn from(stream: Stream) -> Self {
        Self::Stream(stream)
    }
}

impl From<bytes::Bytes> for Number {
    fn from(bytes: bytes::Bytes) -> Self {
        Self::Datagram(bytes)
    }
}

impl Number {
    async fn read(self) -> u64 {
        let bytes = match self {
            Self::Datagram(bytes) => bytes,
            Self::Stream(mut stream) => {
                let read = stream.read_to_end(8).await.unwrap();
                // Its writer may have let go of it already.
                let _ = stream.finish();
                read
            }
        };
        u64::from_be_bytes(bytes[..].try_into().unwrap())
    }
}

async fn say(mut stream: Stream, n: u64) {
    let mut dice = Dice::new();
    stream.write_all(&n.to_be_bytes()).await.unwrap();
    dice.insist(|| stream.sent()).await.unwrap();
    stream.finish().unwrap();
    dice.insist(|| stream.acknowledged()).await.unwrap();
    dice.insist(|| stream.consumed()).await.unwrap();
    dice.insist(|| stream.drained()).await.unwrap();
}

async fn pour(mut stream: Stream, bytes: usize) {
    let mut dice = Dice::new();
    let mut sent = 0;
    while sent < bytes {
        let piece: Vec<u8> = (sent..bytes.min(sent + 50_000)).map(|n| (n % 251) as u8).collect();
        if let Some(n) = dice.flaky(stream.write(&piece)).await {
            sent += n.unwrap();
        }
    }
    stream.finish().unwrap();
    stream.drained().await.unwrap();
}

async fn drain(mut stream: Stream, bytes: usize) {
    let mut dice = Dice::new();
    let mut got = 0;
    while got < bytes {
        let mut buf = [0; 9000];
        if let Some(n) = dice.flaky(stream.read(&mut buf)).await {
            let n = n.unwrap();
            assert!(n > 0, "{got} of {bytes}");
            assert!(
                buf[..n]
                    .iter()
                    .enumerate()
                    .all(|(i, b)| usize::from(*b) == (got + i) % 251)
            );
            got += n;
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(4).enable_all().build().unwrap()
}

#[test]
fn waits_given_up_beside_real_traffic_lose_nothing_and_leave_nothing() {
    const N: u64 = 400;
    const BYTES: usize = 4 << 20;
    let runtime = runtime();
    runtime.block_on(async {
        let World {
            client,
            host,
            server,
            ours,
            theirs,
        } = world().await;
        let (server, ours, theirs) = (Arc::new(server), Arc::new(ours), Arc::new(theirs));
        let sets: [Arc<std::sync::Mutex<BTreeSet<u64>>>; 3] = Default::default();
        let mut tasks = JoinSet::new();
        let (to, hint) = (host.eid(), host.local_addr());
        for part in 0..4 {
            let (client, ours) = (client.clone(), Arc::clone(&ours));
            tasks.spawn(async move {
                let mut dice = Dice::new();
                for n in (part..N).step_by(4) {
                    say(client.connect(to, "test", "1").hint(hint).await.unwrap(), n).await;
                    say(ours.open_substream().unwrap(), n).await;
                    let datagram = || ours.send_datagram(n.to_be_bytes().to_vec()).reliable();
                    dice.insist(datagram).await.unwrap();
                    dice.flaky(ours.peer().closed()).await;
                    dice.flaky(client.probe(hint, PATIENCE)).await;
                    dice.flaky(ours.peer().link().changed()).await;
                    dice.flaky(ours.accept_substream()).await;
                    dice.flaky(ours.recv_datagram()).await;
                }
            });
            let (server, theirs, got) = (Arc::clone(&server), Arc::clone(&theirs), sets.clone());
            tasks.spawn(async move {
                tokio::join!(
                    gather(N, &got[0], || async {
                        server.accept().await.ok().map(|(stream, _)| stream)
                    }),
                    gather(N, &got[1], || async { theirs.accept_substream().await.unwrap() }),
                    gather(N, &got[2], || async { theirs.recv_datagram().await.unwrap() }),
                );
            });
        }
        let bulk = host.listen("bulk", "1").unwrap();
        for _ in 0..2 {
            tasks.spawn(pour(client.connect(to, "bulk", "1").await.unwrap(), BYTES));
            tasks.spawn(drain(bulk.accept().await.unwrap().0, BYTES));
        }
        patiently("the traffic", all(tasks)).await;
        let none_wait = async || {
            while count(&client) + count(&host) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        patiently("a wait that is over", none_wait()).await;
    });
}

/// Does one thing after the other until its host or its peer is gone.
async fn work(client: Host, to: sss_wire::Eid, hint: std::net::SocketAddr) {
    let mut dice = Dice::new();
    let Ok(session) = client.connect(to, "test", "1").hint(hint).await else {
        return;
    };
    while client.shared().look(|inner| inner.phase.check().is_ok())
        && session.link_status() == sss_proto::LinkStatus::Up
    {
        let Ok(mut stream) = session.open_substream() else {
            return;
        };
        let done = async {
            stream.write_all(&[1; 3000]).await.ok()?;
            if dice.roll(2) == 0 {
                stream.finish().ok()?;
            }
            match dice.roll(6) {
                0 => stream.acknowledged().await.ok()?,
                1 => stream.consumed().await.ok()?,
                2 => stream.drained().await.ok()?,
                3 => drop(stream.read(&mut [0; 9]).await.ok()?),
                4 => drop(session.recv_datagram().await.ok()?),
                _ => session.send_datagram(vec![5; 2000]).await.ok()?,
            }
            Some(())
        };
        tokio::select! {
            _ = done => {}
            () = tokio::time::sleep(Duration::from_millis(3)) => {}
            _ = session.accept_substream() => {}
        }
    }
}

async fn serve(server: Arc<crate::Server>) {
    while let Ok((session, _)) = server.accept().await {
        tokio::spawn(async move {
            while let Ok(Some(mut child)) = session.accept_substream().await {
                let _ = child.read(&mut [0; 4000]).await;
                let _ = session.send_datagram(vec![1; 100]).await;
                let _ = child.write_all(&[2; 100]).await;
            }
        });
    }
}

#[test]
fn ends_at_any_moment_end_everything() {
    let runtime = runtime();
    runtime.block_on(async {
        for round in 0..60_u64 {
            let World {
                client,
                host,
                server,
                ours,
                theirs,
            } = world().await;
            let ends = [client.stopped(), host.stopped()].map(Box::pin);
            let server = Arc::new(server);
            let mut tasks = JoinSet::new();
            for _ in 0..2 {
                tasks.spawn(serve(Arc::clone(&server)));
                tasks.spawn(work(client.clone(), host.eid(), host.local_addr()));
            }
            drop((server, ours, theirs));
            tokio::time::sleep(Duration::from_micros(500 * (round % 20))).await;
            match round % 5 {
                0 => host.close_within(Duration::ZERO).await.unwrap_or(()),
                1 => client.close_within(Duration::from_millis(1)).await.unwrap_or(()),
                2 => client.peers().iter().for_each(|peer| peer.close(1, "")),
                3 => tasks.abort_all(),
                _ => {
                    let close = host.close_within(Duration::from_secs(5));
                    let _ = tokio::time::timeout(Duration::from_millis(1), close).await;
                    tasks.abort_all();
                }
            }
            drop(client);
            if round % 5 != 0 {
                let _ = host.close_within(Duration::from_millis(1)).await;
            }
            drop(host);
            let tasks = async { while tasks.join_next().await.is_some() {} };
            patiently(&format!("a task of round {round}"), tasks).await;
            for end in ends {
                patiently(&format!("a host of round {round}"), end).await;
            }
        }
    });
}

/// Whatever the driver does at that moment.
#[test]
fn a_host_that_is_dropped_stops() {
    let runtime = runtime();
    runtime.block_on(async {
        let mut ends = JoinSet::new();
        for n in 0..600 {
            let host = Host::builder().bind("127.0.0.1:0").build().await.unwrap();
            for _ in 0..n % 40 {
                std::hint::spin_loop();
            }
            host.network_changed();
            let end = host.stopped();
            drop(host);
            ends.spawn(end);
            if n % 50 == 0 {
                patiently("a host", async { while ends.join_next().await.is_some() {} }).await;
            }
        }
        patiently("a host", async { while ends.join_next().await.is_some() {} }).await;
    });
}

/// The driver's runtime ends while tasks of another one wait for everything.
#[test]
fn a_host_of_another_runtime_tells_when_that_ends() {
    for _ in 0..5 {
        let (theirs, ours) = (runtime(), runtime());
        let world = theirs.block_on(world());
        let waits = ours.spawn(async move {
            let World {
                client,
                host,
                server,
                ours,
                theirs,
            } = world;
            let mut tasks = JoinSet::new();
            for _ in 0..2 {
                tasks.spawn(work(client.clone(), host.eid(), host.local_addr()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            let others = async {
                tokio::join!(
                    async { drop(server.accept().await) },
                    async { drop(ours.accept_substream().await) },
                    async { drop(theirs.recv_datagram().await) },
                    async { drop(ours.drained().await) },
                    async { drop(ours.peer().closed().await) },
                    async { while ours.peer().link().changed().await.is_some() {} },
                );
            };
            others.await;
            all(tasks).await;
            client.close().await.ok();
            host.close().await.ok();
        });
        std::thread::sleep(Duration::from_millis(50));
        drop(theirs);
        ours.block_on(patiently("a wait", waits)).unwrap();
    }
}

#[cfg(target_os = "linux")]
fn threads_named_after_the_driver() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim_end() == "sss-driver").count()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_cancelled_build_leaves_no_thread() {
    for _ in 0..20 {
        let build = Host::builder()
            .bind("127.0.0.1:0")
            .driver(crate::DriverMode::Dedicated)
            .build();
        let mut build = Box::pin(build);
        // Most wait for their thread.
        let _ = build.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()));
    }
    let none = async {
        while threads_named_after_the_driver() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    patiently("a thread", none).await;
}
