//! Waits that are given up: what each costs, and whether anything of it is left.
//!
//! One process with two hosts on the `current_thread` runtime. Nothing ever comes of what is waited for. Batch after
//! batch of tasks begins to wait, each gets into its place, and all of them give up: had any of it stayed, later
//! batches would take longer, and memory would grow.

use std::fmt;
use std::future::{Future, IntoFuture as _};
use std::net::UdpSocket;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use sss::{Host, Server, ServerSet, Stream};

use crate::cli::Waits;
use crate::outcome::Outcome;
use crate::usage::Snapshot;

/// Batches of a kind.
const BATCHES: usize = 25;
/// Factor by which fewer negotiations than waits are begun: they cost more.
const FEWER: usize = 50;

type Wait<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

struct World {
    client: Host,
    host: Host,
    server: Server,
    /// Takes no more, and nothing comes.
    stream: Stream,
    set: ServerSet,
    /// Nobody answers here.
    silent: UdpSocket,
    _theirs: Stream,
}

/// Results of one kind.
struct Row {
    name: &'static str,
    waits: usize,
    /// Medians of the batches of the first half, and of the others.
    first: Duration,
    last: Duration,
    /// Bytes by which memory grew from the end of the first batch to the end of the last.
    grown: u64,
}

/// Runs the measurements and prints them.
pub(crate) fn run(options: &Waits) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("| wait | waits | ns each, first half | ns each, second half | memory grown, bytes each |");
    println!("|---|--:|--:|--:|--:|");
    runtime.block_on(async {
        let mut world = World::new().await?;
        let batch = usize::try_from(options.waits)?.div_ceil(BATCHES);
        for (name, wait) in EXCLUSIVE {
            let row = measure(name, batch, &mut world, |world, n| {
                for _ in 0..n {
                    give_up(vec![wait(&mut world.stream)]);
                }
            });
            println!("{}", row.await?);
        }
        for (name, is_dear, wait) in SHARED {
            let batch = if is_dear { batch.div_ceil(FEWER) } else { batch };
            let row = measure(name, batch, &mut world, |world, n| {
                give_up((0..n).map(|_| wait(world)).collect());
            });
            println!("{}", row.await?);
        }
        Ok(())
    })
}

fn boxed<'a, R>(wait: impl Future<Output = R> + 'a) -> Wait<'a> {
    Box::pin(async move {
        wait.await;
    })
}

type Exclusive = (&'static str, fn(&mut Stream) -> Wait<'_>);
type Shared = (&'static str, bool, fn(&World) -> Wait<'_>);

/// One at a time waits for these.
const EXCLUSIVE: [Exclusive; 3] = [
    ("read", |s| boxed(async { s.read(&mut [0; 9]).await })),
    ("read_record", |s| boxed(s.read_record())),
    ("write", |s| boxed(s.write(b"more"))),
];

/// All of a batch wait at once for these.
const SHARED: [Shared; 14] = [
    ("accept_substream", false, |w| boxed(w.stream.accept_substream())),
    ("recv_datagram", false, |w| boxed(w.stream.recv_datagram())),
    ("sent", false, |w| boxed(w.stream.sent())),
    ("acknowledged", false, |w| boxed(w.stream.acknowledged())),
    ("drained", false, |w| boxed(w.stream.drained())),
    ("consumed", false, |w| boxed(w.stream.consumed())),
    ("server.accept", false, |w| boxed(w.server.accept())),
    ("set.accept, two servers", false, |w| boxed(w.set.accept())),
    ("peer.closed", false, |w| {
        let peer = w.stream.peer();
        boxed(async move { peer.closed().await })
    }),
    ("link().changed", false, |w| {
        let mut link = w.stream.peer().link();
        boxed(async move { link.changed().await })
    }),
    ("host.stopped", false, |w| boxed(w.host.stopped())),
    ("probe", true, |w| match w.silent.local_addr() {
        Ok(address) => boxed(w.client.probe(address, Duration::from_secs(60))),
        Err(_) => boxed(std::future::pending::<()>()),
    }),
    ("connect, one peer", true, |w| {
        boxed(w.connect(w.host_that_is_not()).into_future())
    }),
    ("connect, a peer each", true, |w| {
        boxed(w.connect(sss::Identity::generate().eid()).into_future())
    }),
];

/// Gets all into their places, and gives up.
fn give_up(mut waits: Vec<Wait<'_>>) {
    let mut cx = Context::from_waker(Waker::noop());
    for wait in &mut waits {
        assert!(wait.as_mut().poll(&mut cx).is_pending(), "there is nothing to be had");
    }
}

async fn measure(
    name: &'static str,
    batch: usize,
    world: &mut World,
    mut run: impl FnMut(&mut World, usize),
) -> Outcome<Row> {
    let mut times = Vec::new();
    let mut after_first = None;
    for _ in 0..BATCHES {
        let begun = Instant::now();
        run(world, batch);
        times.push(begun.elapsed() / u32::try_from(batch)?);
        // The driver sees to what is left of it.
        tokio::time::sleep(Duration::from_millis(20)).await;
        if after_first.is_none() {
            after_first = Some(Snapshot::take(0)?);
        }
    }
    let grown = after_first.map_or(Ok(0), |first| Snapshot::take(0).map(|last| last.since(&first).rss))?;
    let (first, last) = times.split_at(BATCHES / 2);
    Ok(Row {
        name,
        waits: batch * BATCHES,
        first: median(first),
        last: median(last),
        grown,
    })
}

/// The middle one: what a batch cost during which the machine did something else says nothing.
fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

impl World {
    async fn new() -> Outcome<Self> {
        let client = Host::builder().bind("127.0.0.1:0").build().await?;
        let host = Host::builder().bind("127.0.0.1:0").build().await?;
        let server = host.listen("waits", "1")?;
        let connect = client.connect(host.eid(), "waits", "1").hint(host.local_addr());
        let mut stream = connect.await?;
        let (theirs, _) = server.accept().await?;
        let full = Duration::from_millis(500);
        while tokio::time::timeout(full, stream.write_all(&[0; 65_536])).await.is_ok() {}
        let set = ServerSet::from([host.listen("a", "1")?, host.listen("b", "1")?]);
        Ok(Self {
            client,
            host,
            server,
            stream,
            set,
            silent: UdpSocket::bind("127.0.0.1:0")?,
            _theirs: theirs,
        })
    }

    /// The same each time.
    fn host_that_is_not(&self) -> sss::Eid {
        sss::Identity::from_bytes([7; 32]).eid()
    }

    fn connect(&self, eid: sss::Eid) -> sss::Connect {
        let connect = self.client.connect(eid, "waits", "1");
        match self.silent.local_addr() {
            Ok(address) => connect.hint(address),
            Err(_) => connect,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "| `{}` | {} | {} | {} | {:.2} |",
            self.name,
            self.waits,
            self.first.as_nanos(),
            self.last.as_nanos(),
            self.grown as f64 / self.waits as f64
        )
    }
}
