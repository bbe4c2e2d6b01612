//! Very many open streams on one channel, in trees of several shapes: the time to open them, their memory, what they
//! cost a stream that is at work, and the time to be rid of them.
//!
//! Two processes, each with one host on the `current_thread` runtime. The streams hang below one top-level stream, and
//! each has carried one byte in both directions before it counts as open.

mod calls;
mod closing;
mod holder;
mod session;
mod shape;

use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::cli::Million;
use crate::outcome::Outcome;
use crate::process::{Process, Role};
use crate::setup::Address;
use crate::tree_shape::Shape;
use calls::Calls;
use closing::{Closing, Way};
pub(crate) use holder::hold;
use session::{Session, Usage};

const SERVICE: (&str, &str) = ("million", "1");
/// One in this many is opened before memory is read for the first time, so that what grows once does not count.
const WARM_UP: usize = 20;
/// Time for acknowledgements and timers before memory is read.
const SETTLE: Duration = Duration::from_millis(500);
/// Time for which the idle processes are watched.
const IDLE: Duration = Duration::from_secs(2);
const START: Duration = Duration::from_secs(10);

/// Runs the measurement of each shape and prints it.
pub(crate) fn run(options: &Million) -> Outcome<()> {
    match options.shapes()[..] {
        [shape] => run_one(options, shape),
        ref several => several.iter().try_for_each(|shape| run_apart(options, *shape)),
    }
}

/// In a new process, so that memory begins anew.
fn run_apart(options: &Million, shape: Shape) -> Outcome<()> {
    let status = Command::new(std::env::current_exe()?)
        .args(["million", "--shape", shape.name()])
        .args(["--streams", &options.streams.to_string()])
        .args(["--seconds", &options.seconds.to_string()])
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the measurement of {} failed", shape.name()).into())
    }
}

fn run_one(options: &Million, shape: Shape) -> Outcome<()> {
    let mut server = Process::start(Role::Holder)?;
    let address: Address = server.receive(Instant::now() + START)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = LocalSet::new().block_on(&runtime, measure(options, shape, &address))?;
    println!("{report}");
    Ok(())
}

/// Results of one shape.
struct Report {
    shape: Shape,
    streams: usize,
    opened: Duration,
    /// Growth of memory while they were opened.
    memory: Usage,
    idle: Usage,
    alone: Calls,
    among: Calls,
    closings: Vec<Closing>,
}

impl Report {
    fn per_stream(&self, bytes: u64) -> f64 {
        bytes as f64 / self.streams as f64
    }

    fn rows(&self) -> Vec<(String, String)> {
        let (client, server) = (self.memory.client.rss, self.memory.server.rss);
        let idle_cpu = self.idle.client.cpu_seconds() + self.idle.server.cpu_seconds();
        let mut rows = vec![
            ("streams".to_owned(), format!("{}, {}", self.streams, self.shape)),
            ("opened in".to_owned(), format!("{:.2} s", self.opened.as_secs_f64())),
            (
                "memory".to_owned(),
                format!(
                    "client {:.0}, server {:.0} B/stream",
                    self.per_stream(client),
                    self.per_stream(server)
                ),
            ),
            (
                "idle CPU, both".to_owned(),
                format!("{:.2} ms/s", 1e3 * idle_cpu / self.idle.client.seconds()),
            ),
            ("requests without them".to_owned(), self.alone.to_string()),
            ("requests beside them".to_owned(), self.among.to_string()),
        ];
        rows.extend(self.closings.iter().map(|closing| {
            let kept = (
                self.per_stream(closing.kept.client),
                self.per_stream(closing.kept.server),
            );
            (
                closing.way.to_string(),
                format!(
                    "{:.2} s, slowest question meanwhile {:.0} ms; then client {:.0}, server {:.0} B/stream",
                    closing.took.as_secs_f64(),
                    closing.slowest.as_secs_f64() * 1e3,
                    kept.0,
                    kept.1
                ),
            )
        }));
        rows
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| | {} |\n|---|---|", self.shape.name())?;
        for (what, value) in self.rows() {
            writeln!(f, "| {what} | {value} |")?;
        }
        Ok(())
    }
}

async fn measure(options: &Million, shape: Shape, address: &Address) -> Outcome<Report> {
    let count = usize::try_from(options.streams)?;
    let session = Session::connect(address).await?;
    let mut tree = session.tree(shape).await?;
    let alone = session.calls(tree.caller(), options.seconds).await?;
    let warm = tree.open(count / WARM_UP).await?;
    sleep(SETTLE).await;
    let before = session.usage().await?;

    eprintln!("{}: opening {count} streams ..", shape.name());
    let begun = Instant::now();
    let leaves = tree.open(count).await?;
    let opened = begun.elapsed();
    sleep(SETTLE).await;
    let open = session.usage().await?;
    sleep(IDLE).await;
    let idle = session.usage().await?;
    let among = session.calls(tree.caller(), options.seconds).await?;
    tree.keep(warm);
    tree.keep(leaves);

    let mut closings = Vec::new();
    for way in Way::ALL {
        eprintln!("{}: {way} ..", shape.name());
        closings.push(session.close(tree, way, &before).await?);
        tree = session.tree(shape).await?;
        if way != Way::LAST {
            let leaves = tree.open(count).await?;
            tree.keep(leaves);
        }
    }
    Ok(Report {
        shape,
        streams: count,
        opened,
        memory: open.since(&before),
        idle: idle.since(&open),
        alone,
        among,
        closings,
    })
}
