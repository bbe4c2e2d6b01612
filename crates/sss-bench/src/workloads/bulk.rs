//! One stream, or many at once, as fast as they go. Throughput is what the server's application received.

use bytes::Bytes;
use tokio::task::JoinSet;

use super::window::{BEGIN, END, Window};
use super::{Metric, Run};
use crate::outcome::Outcome;
use crate::setup::Setup;
use crate::stats::{Latencies, Quantiles};
use crate::transport::{Connection, Dialer, Stream};

/// Bytes given to the transport at once.
const CHUNK: usize = 256 << 10;

pub(super) async fn run<D: Dialer>(dialer: &D, setup: &Setup) -> Outcome<Quantiles> {
    let connection = dialer.dial().await?;
    let window = Window::default();
    let mut workers = JoinSet::new();
    for _ in 0..setup.workload.in_flight() {
        workers.spawn(send(connection.open().await?, window.clone()));
    }
    window.gather(setup, workers).await
}

/// Sends until the window closes, and checks that the server received as much.
async fn send<S: Stream>(mut stream: S, window: Window) -> Outcome<Latencies> {
    let chunk = Bytes::from(vec![0xa5; CHUNK]);
    let mut sent = 0;
    while window.goes_on() {
        stream.send(chunk.clone()).await?;
        sent += chunk.len() as u64;
        window.progressed(chunk.len() as u64);
    }
    stream.finish().await?;
    let mut received = [0; 8];
    stream.receive_exact(&mut received).await?;
    let received = u64::from_be_bytes(received);
    if received != sent {
        return Err(format!("sent {sent} bytes, the server received {received}").into());
    }
    Ok(Latencies::default())
}

pub(super) fn metrics(run: &Run) -> Outcome<Vec<Metric>> {
    let used = run.between(BEGIN, END)?;
    if used.server.work == 0 {
        return Err("nothing arrived".into());
    }
    let bytes = used.server.work as f64;
    let gib = bytes / f64::from(1 << 30);
    let (client, server) = (used.client.cpu_seconds() / gib, used.server.cpu_seconds() / gib);
    Ok(vec![
        Metric::more("MB/s", bytes / 1e6 / used.server.seconds()),
        Metric::less("CPU s/GiB", client + server),
        Metric::less("CPU s/GiB client", client),
        Metric::less("CPU s/GiB server", server),
    ])
}
