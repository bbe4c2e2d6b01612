//! Best-effort datagrams, as fast as they go. What counts is what the server's application received.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::window::{BEGIN, END, Window};
use super::{Metric, Run};
use crate::outcome::Outcome;
use crate::setup::{MANY, Setup, Workload};
use crate::stats::{Latencies, Quantiles};
use crate::transport::{Connection, Dialer};

/// Bytes of a datagram.
const SIZE: usize = 1000;
/// Name of the moment at which nothing is on its way any more.
pub(super) const SETTLED: &str = "settled";
/// Time until then.
const SETTLING: Duration = Duration::from_millis(500);

pub(super) async fn run<D: Dialer>(dialer: &D, setup: &Setup) -> Outcome<Quantiles> {
    let connection = Arc::new(dialer.dial().await?);
    let window = Window::default();
    let mut workers = JoinSet::new();
    let (sender, progress) = (connection.clone(), window.clone());
    match setup.workload {
        Workload::DatagramsMany => workers.spawn(send_many(sender, progress)),
        _ => workers.spawn(send(sender, progress)),
    };
    let quantiles = window.gather(setup, workers).await?;
    tokio::time::sleep(SETTLING).await;
    window.mark(SETTLED)?;
    drop(connection);
    Ok(quantiles)
}

/// Sends until the window closes.
async fn send<C: Connection>(connection: Arc<C>, window: Window) -> Outcome<Latencies> {
    let datagram = Bytes::from(vec![0xa5; SIZE]);
    while window.goes_on() {
        connection.send_datagram(datagram.clone()).await?;
        window.progressed(1);
    }
    Ok(Latencies::default())
}

/// The same, several at a time.
async fn send_many<C: Connection>(connection: Arc<C>, window: Window) -> Outcome<Latencies> {
    let datagram = Bytes::from(vec![0xa5; SIZE]);
    while window.goes_on() {
        connection.send_datagrams(vec![datagram.clone(); MANY]).await?;
        window.progressed(MANY as u64);
    }
    Ok(Latencies::default())
}

pub(super) fn metrics(run: &Run) -> Outcome<Vec<Metric>> {
    let used = run.between(BEGIN, END)?;
    if used.server.work == 0 {
        return Err("nothing arrived".into());
    }
    let (sent, received) = run.totals(SETTLED)?;
    let count = used.server.work as f64;
    let (client, server) = (
        used.client.cpu_seconds() * 1e6 / count,
        used.server.cpu_seconds() * 1e6 / count,
    );
    Ok(vec![
        Metric::more("datagrams/s", count / used.server.seconds()),
        Metric::less("% lost", 100.0 * sent.saturating_sub(received) as f64 / sent as f64),
        Metric::less("CPU us/datagram", client + server),
        Metric::less("CPU us client", client),
        Metric::less("CPU us server", server),
    ])
}
