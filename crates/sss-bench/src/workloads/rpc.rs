//! Requests and responses, one new stream each.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::window::{BEGIN, END, Window};
use super::{Metric, Run};
use crate::outcome::Outcome;
use crate::setup::{REQUEST, Setup};
use crate::stats::{Latencies, Quantiles};
use crate::transport::{Connection, Dialer, Stream};

pub(super) async fn run<D: Dialer>(dialer: &D, setup: &Setup) -> Outcome<Quantiles> {
    let connection = Arc::new(dialer.dial().await?);
    let window = Window::default();
    let mut workers = JoinSet::new();
    for _ in 0..setup.workload.in_flight() {
        workers.spawn(work(connection.clone(), setup.workload.response(), window.clone()));
    }
    window.gather(setup, workers).await
}

async fn work<C: Connection>(connection: Arc<C>, response: usize, window: Window) -> Outcome<Latencies> {
    let request = Bytes::from(vec![0x3c; REQUEST]);
    let mut latencies = Latencies::default();
    while window.goes_on() {
        let start = Instant::now();
        transact(&*connection, request.clone(), response).await?;
        window.completed(start, &mut latencies);
    }
    Ok(latencies)
}

/// One request and its response of `response` bytes.
pub(super) async fn transact<C: Connection>(connection: &C, request: Bytes, response: usize) -> Outcome<()> {
    let mut stream = connection.open().await?;
    stream.send(request).await?;
    stream.finish().await?;
    let mut total = 0;
    loop {
        match stream.drain().await? {
            0 if total == response => return Ok(()),
            0 => return Err(format!("a response of {total} bytes instead of {response}").into()),
            count => total += count,
        }
    }
}

/// Metrics of anything that the client counts; `noun` is one of it.
pub(super) fn metrics(run: &Run, rate: &str, noun: &str) -> Outcome<Vec<Metric>> {
    let used = run.between(BEGIN, END)?;
    if used.client.work == 0 {
        return Err(format!("not one {noun} was completed").into());
    }
    let count = used.client.work as f64;
    let (client, server) = (
        used.client.cpu_seconds() * 1e6 / count,
        used.server.cpu_seconds() * 1e6 / count,
    );
    Ok(vec![
        Metric::more(rate, count / used.client.seconds()),
        Metric::less("p50 us", run.quantiles.p50),
        Metric::less("p99 us", run.quantiles.p99),
        Metric::less(format!("CPU us/{noun}"), client + server),
        Metric::less("CPU us client", client),
        Metric::less("CPU us server", server),
    ])
}
