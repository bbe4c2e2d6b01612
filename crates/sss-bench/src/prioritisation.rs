//! The prioritisation experiment of the paper on structured streams (Ford, 2007), over an emulated link between real
//! sockets. `sss-sim prioritisation` plays the same in virtual time; the report is the same.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sss::{Host, Stream};
use sss_sim::prioritisation::{Change, Report, SWAP_AT, THIRD_AT, chart};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::cli::Prioritisation;
use crate::link::{Direction, Link};
use crate::outcome::Outcome;

/// Bytes of the three responses.
const SIZES: [u64; 3] = [1_500_000, 1_500_000, 700_000];
/// A packet of the size that common paths carry: loopback would carry more, and the link would be busy with one for
/// long.
const DATAGRAM: u16 = 1472;
const CHUNK: [u8; 16 << 10] = [0x5a; 16 << 10];

/// Time, response and bytes of each reading.
type Arrivals = Arc<Mutex<Vec<(Duration, usize, u64)>>>;

/// Runs the experiment, prints what was seen, and writes the files asked for.
pub(crate) fn run(options: &Prioritisation) -> Outcome<()> {
    eprintln!(
        "two hosts, a link of {} bit/s and {} ms, about 20 seconds ..",
        options.rate, options.rtt
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(play(options))?;
    println!("{report}");
    if let Some(path) = &options.csv {
        std::fs::write(path, report.csv())?;
    }
    if let Some(path) = &options.svg {
        std::fs::write(path, chart::svg(&report, options.rate))?;
    }
    Ok(())
}

async fn play(options: &Prioritisation) -> Outcome<Report> {
    let server = host().await?;
    let listener = server.listen("web", "prioritisation/1")?;
    tokio::spawn(async move {
        let (session, _) = listener.accept().await.ok()?;
        while let Ok(Some(request)) = session.accept_substream().await {
            tokio::spawn(answer(request));
        }
        Some(())
    });
    let rtt = Duration::from_millis(options.rtt);
    let down = Direction {
        rate: Some(options.rate),
        delay: rtt / 2,
        queue: options.queue,
    };
    let up = Direction {
        rate: None,
        delay: rtt - rtt / 2,
        queue: 0,
    };
    let link = Link::start(server.local_addr(), up, down)?;
    let client = host().await?;
    let connect = client.connect(server.eid(), "web", "prioritisation/1");
    let session = connect.hint(link.address()).await?;
    let report = browse(&session, &link, rtt).await?;
    client.close().await?;
    Ok(report)
}

async fn host() -> Outcome<Host> {
    let builder = Host::builder().bind("127.0.0.1:0").max_datagram(DATAGRAM);
    Ok(builder.build().await?)
}

/// The server's side of one response: the request is its size, and a level.
async fn answer(mut stream: Stream) -> Outcome<()> {
    let mut request = [0; 9];
    stream.read_exact(&mut request).await?;
    let [size @ .., level] = request;
    stream.set_priority(level.cast_signed());
    let mut left = usize::try_from(u64::from_be_bytes(size))?;
    while left > 0 {
        let n = left.min(CHUNK.len());
        stream.write_all(CHUNK.get(..n).unwrap_or_default()).await?;
        left -= n;
    }
    stream.close().await?;
    Ok(())
}

/// The client's side.
async fn browse(session: &Stream, link: &Link, rtt: Duration) -> Outcome<Report> {
    let start = Instant::now();
    let arrivals = Arrivals::default();
    let [size, second_size, third_size] = SIZES;
    let (first, first_done) = ask(session, (0, size, 0), start, &arrivals).await?;
    let (second, second_done) = ask(session, (1, second_size, 0), start, &arrivals).await?;
    let mut changes = Vec::new();

    until(start, THIRD_AT).await;
    let asked = start.elapsed();
    let (_, third_done) = ask(session, (2, third_size, 2), start, &arrivals).await?;
    first.send(1)?;
    changes.push(reached(asked, 2, link, rtt).await);

    until(start, SWAP_AT).await;
    let asked = start.elapsed();
    first.send(0)?;
    second.send(1)?;
    changes.push(reached(asked, 1, link, rtt).await);

    let complete = [first_done.await??, second_done.await??, third_done.await??];
    let arrivals = std::mem::take(&mut *arrivals.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Report::new(arrivals, complete, changes))
}

async fn until(start: Instant, time: Duration) {
    tokio::time::sleep_until((start + time).into()).await;
}

/// Notes what was asked for, with what the bottleneck holds when that reaches the server.
async fn reached(asked: Duration, preferred: usize, link: &Link, rtt: Duration) -> Change {
    tokio::time::sleep(rtt - rtt / 2).await;
    Change {
        asked,
        preferred,
        queued: link.backlog(),
        seen: Duration::ZERO,
    }
}

/// Time at which a response was complete.
type Done = tokio::task::JoinHandle<Outcome<Duration>>;

/// Asks for a response, and reads it. The level that the client wants for it can be sent later.
async fn ask(
    session: &Stream,
    (response, size, level): (usize, u64, i8),
    start: Instant,
    arrivals: &Arrivals,
) -> Outcome<(UnboundedSender<i8>, Done)> {
    let mut stream = session.open_substream()?;
    let mut request = size.to_be_bytes().to_vec();
    request.push(level.cast_unsigned());
    stream.write_all(&request).await?;
    stream.finish()?;
    let (levels, wanted) = mpsc::unbounded_channel();
    let arrivals = Arc::clone(arrivals);
    let reading = tokio::spawn(read(stream, wanted, move |bytes| {
        let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.push((start.elapsed(), response, bytes));
    }));
    let done = tokio::spawn(async move {
        reading.await??;
        Ok(start.elapsed())
    });
    Ok((levels, done))
}

/// Reads a response to its end, and passes on wishes for its level.
async fn read(mut stream: Stream, mut levels: UnboundedReceiver<i8>, mut arrived: impl FnMut(u64)) -> Outcome<()> {
    loop {
        tokio::select! {
            Some(level) = levels.recv() => stream.request_priority(level),
            chunk = stream.read_chunk(1 << 16) => match chunk? {
                Some(bytes) => arrived(bytes.len() as u64),
                None => return Ok(()),
            },
        }
    }
}
