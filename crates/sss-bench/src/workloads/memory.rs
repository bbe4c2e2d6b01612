//! Memory of connections and streams that exist and do nothing, the time to open them, and what idling costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::rpc::transact;
use super::{Metric, Run};
use crate::control::Work;
use crate::outcome::Outcome;
use crate::setup::{REQUEST, Setup};
use crate::stats::Quantiles;
use crate::transport::{Connection, Dialer, Stream};

const BEGIN: &str = "begin";
const OPENED: &str = "opened";
const SETTLED: &str = "settled";
const END: &str = "end";

/// Time for acknowledgements and timers before memory is read.
const SETTLE: Duration = Duration::from_millis(300);
/// Time for which the idle processes are watched.
const IDLE: Duration = Duration::from_secs(1);
/// Connections opened at once.
const DIALERS: usize = 16;
/// Streams opened at once: below every peer's limit on streams not yet acknowledged.
const OPENERS: usize = 100;
/// One in this many is opened before the measurement, so that what grows once does not count.
const WARM_UP: usize = 20;

/// Streams that are kept open, by the task that opened it.
type Groups<T> = Vec<Vec<T>>;

/// Opens connections, with one transaction on each.
pub(super) async fn channels<D: Dialer>(dialer: D, setup: &Setup) -> Outcome<Quantiles> {
    let work = Work::default();
    let mut dialers = vec![dialer];
    while dialers.len() < setup.channels + setup.channels / WARM_UP {
        let sibling = dialers[0].sibling().await?;
        dialers.push(sibling);
    }
    let warm_up = dialers.split_off(setup.channels);
    let _warm = connect(warm_up, setup.workload.response(), &work).await?;
    begin(&work).await?;
    let _kept = connect(dialers, setup.workload.response(), &work).await?;
    watch(&work).await
}

async fn connect<D: Dialer>(dialers: Vec<D>, response: usize, work: &Work) -> Outcome<Groups<(D, D::Connection)>> {
    let mut groups: Vec<Vec<D>> = (0..DIALERS).map(|_| Vec::new()).collect();
    for (index, dialer) in dialers.into_iter().enumerate() {
        groups[index % DIALERS].push(dialer);
    }
    let mut tasks = JoinSet::new();
    for group in groups {
        let work = work.clone();
        tasks.spawn(async move {
            let mut kept = Vec::new();
            for dialer in group {
                let connection = dialer.dial().await?;
                transact(&connection, vec![0x3c; REQUEST].into(), response).await?;
                work.add(1);
                kept.push((dialer, connection));
            }
            Outcome::Ok(kept)
        });
    }
    join(tasks).await
}

/// Opens streams on one connection; one byte in each direction tells that both sides know the stream.
pub(super) async fn streams<D: Dialer>(dialer: &D, setup: &Setup) -> Outcome<Quantiles> {
    let count = setup.idle_streams();
    let work = Work::default();
    let connection = Arc::new(dialer.dial().await?);
    let _warm = open(&connection, count / WARM_UP, &work).await?;
    begin(&work).await?;
    let _kept = open(&connection, count, &work).await?;
    watch(&work).await
}

async fn open<C: Connection>(connection: &Arc<C>, count: usize, work: &Work) -> Outcome<Groups<C::Stream>> {
    let begun = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..OPENERS {
        let (connection, begun, work) = (connection.clone(), begun.clone(), work.clone());
        tasks.spawn(async move {
            let mut kept = Vec::with_capacity(count.div_ceil(OPENERS));
            while begun.fetch_add(1, Ordering::Relaxed) < count {
                let mut stream = connection.open().await?;
                stream.send(Bytes::from_static(b"?")).await?;
                stream.receive_exact(&mut [0]).await?;
                work.add(1);
                kept.push(stream);
            }
            Outcome::Ok(kept)
        });
    }
    join(tasks).await
}

/// Collects what each task holds, as it holds it: moving it into one place would leave memory behind that counts.
async fn join<T: Send + 'static>(mut tasks: JoinSet<Outcome<T>>) -> Outcome<Vec<T>> {
    let mut all = Vec::with_capacity(tasks.len());
    while let Some(ended) = tasks.join_next().await {
        all.push(ended??);
    }
    Ok(all)
}

async fn begin(work: &Work) -> Outcome<()> {
    sleep(SETTLE).await;
    work.mark(BEGIN)
}

/// Tells the moments after opening.
async fn watch(work: &Work) -> Outcome<Quantiles> {
    work.mark(OPENED)?;
    sleep(SETTLE).await;
    work.mark(SETTLED)?;
    sleep(IDLE).await;
    work.mark(END)?;
    Ok(Quantiles::default())
}

/// Metrics per connection or stream, whatever `noun` says.
pub(super) fn metrics(run: &Run, noun: &str) -> Outcome<Vec<Metric>> {
    let opening = run.between(BEGIN, OPENED)?;
    let all = run.between(BEGIN, SETTLED)?;
    let idle = run.between(SETTLED, END)?;
    if all.client.work == 0 {
        return Err(format!("not one {noun} was opened").into());
    }
    let count = all.client.work as f64;
    let cpu_share = |seconds: f64| 1e3 * seconds / idle.client.seconds();
    Ok(vec![
        Metric::less(format!("server B/{noun}"), all.server.rss as f64 / count),
        Metric::less(format!("client B/{noun}"), all.client.rss as f64 / count),
        Metric::less("opened in s", opening.client.seconds()),
        Metric::less(
            "idle CPU ms/s",
            cpu_share(idle.client.cpu_seconds()) + cpu_share(idle.server.cpu_seconds()),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Snapshot;
    use crate::workloads::Moment;

    #[test]
    fn memory_is_counted_after_settling() {
        let at = |seconds: u64, rss: u64, work: u64| Snapshot {
            at: seconds * 1_000_000_000,
            cpu: 0,
            rss,
            work,
        };
        let moment = |name: &str, client, server| Moment {
            name: name.to_owned(),
            client,
            server,
        };
        let run = Run {
            moments: vec![
                moment(BEGIN, at(1, 1000, 0), at(1, 5000, 0)),
                moment(OPENED, at(3, 9000, 10), at(3, 9000, 0)),
                moment(SETTLED, at(4, 3000, 10), at(4, 6000, 0)),
                moment(END, at(5, 3000, 10), at(5, 6000, 0)),
            ],
            quantiles: Quantiles::default(),
        };
        let values: Vec<f64> = metrics(&run, "stream")
            .expect("metrics")
            .iter()
            .map(|metric| metric.value)
            .collect();
        assert_eq!(values, [100.0, 200.0, 2.0, 0.0]);
    }
}
