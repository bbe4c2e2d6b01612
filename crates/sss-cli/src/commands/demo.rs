//! `sss demo`: two hosts in two processes, over real sockets of this machine. Copies a generated tree, makes calls,
//! shows the facts.
//!
//! 1. generate a tree from the seed
//! 2. start the second host, which serves it
//! 3. connect
//! 4. copy the tree, one substream per file, and look at the tree of streams meanwhile
//! 5. compare what arrived with what was generated
//! 6. make calls, one substream each
//! 7. show the facts

mod calls;
mod child;
mod generate;
mod streams;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use sss::{Congestion, Host, Identity, Peer, Stream};
use sss_files::{DEPTH_ALL, Options, PROTOCOL, RelPath, SERVICE};
use tempfile::TempDir;

use crate::caller::connect_error;
use crate::cli::whole;
use crate::commands::{access_log, ping, serve, verdict};
use crate::connector::{self, Times};
use crate::error::{Error, Exit};
use crate::interrupt;
use crate::output::{Output, size};
use crate::progress::Progress;
use crate::transfer::download::{Download, Listing};
use crate::transfer::io_pool;
use crate::transfer::safe_path::Root;
use crate::transfer::server::Terms;
use crate::transfer::session::{self, Session};
use crate::transfer::tally::Tally;
use child::{Child, Place};
use generate::Tree;

/// Show everything at once, on this machine: two hosts in two processes, files, calls, the tree, the facts
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss demo
  sss demo --json --seed 7

Needs no configuration and no network. Ends with `ok`, or says what failed and
exits with another code than 0.")]
pub(crate) struct DemoArgs {
    /// Seed of the generated files
    #[arg(long, value_name = "N", default_value = "1", value_parser = whole::<u64>(0..=u64::MAX), allow_hyphen_values = true)]
    pub(crate) seed: u64,
    /// Number of calls, each on a substream of its own
    #[arg(long, value_name = "N", default_value = "20000", value_parser = whole::<u32>(1..=10_000_000), allow_hyphen_values = true)]
    pub(crate) calls: u32,
}

/// The second host of the demo
#[derive(Debug, Args)]
pub(crate) struct DemoHostArgs {
    /// The directory to serve
    pub(crate) dir: PathBuf,
}

/// The demo gives up after this time.
const LIMIT: Duration = Duration::from_secs(120);
/// Time to try to reach the other host, and to wait for it.
const TIMES: Times = Times {
    connect: Duration::from_secs(10),
    silence: LIMIT,
};
/// Number of times that the files are removed, if that fails, and the time between them.
const REMOVALS: u32 = 20;
const REMOVAL: Duration = Duration::from_millis(25);
/// Address of both hosts.
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Runs the demo. The second host ends with it in any case.
pub(crate) async fn run(args: DemoArgs, output: Output) -> Result<(), Error> {
    let begun = Instant::now();
    let scratch =
        tempfile::tempdir().map_err(|error| Error::local(&std::env::temp_dir(), "make a directory in", &error))?;
    let outcome = interrupt::or(limited(play(scratch.path(), args, output))).await;
    remove(scratch).await;
    outcome?;
    let seconds = begun.elapsed().as_secs_f64();
    output.fact(
        format!("ok, in {seconds:.1} s"),
        &json!({"event": "ok", "seconds": seconds}),
    );
    Ok(())
}

/// Ends work that takes too long.
async fn limited(work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    tokio::time::timeout(LIMIT, work).await.unwrap_or_else(|_| {
        let what = format!("the demo did not end within {} s", LIMIT.as_secs());
        let next = "run it again with -v, and report what it says";
        Err(Error::new(Exit::Failed, what, next))
    })
}

/// Removes the files. Jobs of the pool that were interrupted may still make some: they end soon.
async fn remove(scratch: TempDir) {
    let path = scratch.keep();
    for _ in 0..REMOVALS {
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {}
            // Jobs that are not done yet cannot make anything any more: the directory above is gone.
            _ => return,
        }
        tokio::time::sleep(REMOVAL).await;
    }
}

async fn play(scratch: &Path, args: DemoArgs, output: Output) -> Result<(), Error> {
    let tree = generate(scratch.join("served").as_path(), args.seed, output).await?;
    let mut child = Child::start(&scratch.join("served")).await?;
    let host = connector::build(Identity::generate(), Some(LOOPBACK), TIMES, Congestion::default()).await?;
    let result = tokio::select! {
        result = converse(&host, child.place(), &tree, (scratch, args.calls), output) => result,
        ended = child.ended() => Err(ended),
    };
    // The second host is stopped below, whether it has heard this or not.
    let _ = host.close_within(Duration::from_secs(1)).await;
    child.stop().await;
    result
}

/// Makes the files to copy.
async fn generate(dir: &Path, seed: u64, output: Output) -> Result<Tree, Error> {
    let to = dir.to_owned();
    let made = io_pool::run(move || Tree::generate(&to, seed)).await;
    let tree = made.map_err(|error| Error::local(dir, "generate files in", &error))?;
    let fact = json!({
        "event": "generated",
        "seed": seed,
        "files": tree.files.len(),
        "bytes": tree.bytes(),
        "largest": tree.largest(),
    });
    let text = format!(
        "generated {} files, {} in all, from 0 bytes to {}",
        tree.files.len(),
        size(tree.bytes()),
        size(tree.largest())
    );
    output.prose(text, &fact);
    Ok(tree)
}

/// Everything that is done over the network.
async fn converse(host: &Host, child: Place, tree: &Tree, work: (&Path, u32), output: Output) -> Result<(), Error> {
    let (scratch, calls) = work;
    let begun = Instant::now();
    let connect = host.connect(child.eid, SERVICE, PROTOCOL).hint(child.address);
    let mut files = connect.await.map_err(connect_error)?;
    session::greet(&mut files, None).await;
    let peer = files.peer();
    hosts(host, child, &peer, begun.elapsed(), output);

    let copy = scratch.join("copy");
    copy_tree(files, &copy, output).await?;
    tree.compare(copy).await?;
    output.fact(
        "compared: every file is the one that was generated",
        &json!({"event": "compared", "files": tree.files.len(), "bytes": tree.bytes()}),
    );

    let session = host
        .connect(child.eid, ping::SERVICE, ping::PROTOCOL)
        .await
        .map_err(connect_error)?;
    calls::run(Arc::new(session), calls, output).await?;
    if let Some(info) = peer.info() {
        ping::link_facts(&info, output);
    }
    Ok(())
}

fn hosts(host: &Host, child: Place, peer: &Peer, time: Duration, output: Output) {
    let suite = peer.info().map(|info| format!("{:?}", info.suite)).unwrap_or_default();
    let ms = crate::output::milliseconds(time);
    output.text(format!(
        "host A  {}\n        at {}, this process",
        host.eid(),
        host.local_addr()
    ));
    output.text(format!(
        "host B  {}\n        at {}, process {}",
        child.eid, child.address, child.process
    ));
    let fact = json!({
        "event": "connected",
        "ours": host.eid().to_string(),
        "theirs": child.eid.to_string(),
        "address": child.address.to_string(),
        "suite": suite,
        "ms": ms,
    });
    output.prose(
        format!("negotiated a channel in {ms:.3} ms: Noise XK, {suite}, both hosts proved who they are"),
        &fact,
    );
}

async fn copy_tree(session: Stream, to: &Path, output: Output) -> Result<(), Error> {
    std::fs::create_dir(to).map_err(|error| Error::local(to, "make the directory", &error))?;
    let root = Root::open(to).map_err(|error| Error::local(to, "write to", &error))?;
    let tally = Arc::new(Tally::default());
    let peer = session.peer();
    let progress = Progress::start(tally.clone(), output);
    let session = Arc::new(Session::new(session, None));
    let mut listing = Listing::ask(&session, RelPath::default(), DEPTH_ALL).await?;
    let first = listing.first().await?;
    let download = Download {
        session,
        remote: RelPath::default(),
        root: Arc::new(root),
        local: RelPath::default(),
        options: Options::TREE,
        tally: tally.clone(),
        limit: None,
    };
    let (copied, seen) = tokio::join!(
        async {
            let copied = download.run(first, listing).await;
            tally.all_found.store(true, std::sync::atomic::Ordering::Relaxed);
            copied
        },
        streams::watch(&peer, &tally)
    );
    copied?;
    progress.finish("copied");
    streams::show(&seen, output);
    verdict(&tally)
}

/// Waits on a thread of its own, which is not one of those for files.
async fn end_of_input() {
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        // Whether it ends well or not, it has ended.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop(ended);
    });
    // The error says that the other end was dropped: that is the message.
    let _ = end.await;
}

/// The second host: serves a directory until its standard input ends, which it does with the first host's process.
pub(crate) async fn host(args: DemoHostArgs, output: Output) -> Result<(), Error> {
    let service = serve::service(
        &args.dir,
        Terms {
            writable: false,
            quota: None,
            secret: None,
            log: access_log::none(),
        },
    )?;
    let host = connector::build(Identity::generate(), Some(LOOPBACK), TIMES, Congestion::default()).await?;
    serve::start(&host, service)?;
    serve::announce(&host, (None, &[], false), output);
    end_of_input().await;
    let _ = host.close_within(Duration::from_millis(100)).await;
    Ok(())
}
