//! Connect, one transaction, close; again and again.

use std::time::Instant;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::rpc::transact;
use super::window::Window;
use crate::outcome::Outcome;
use crate::setup::{REQUEST, Setup};
use crate::stats::{Latencies, Quantiles};
use crate::transport::{Connection, Dialer};

pub(super) async fn run<D: Dialer>(dialer: D, setup: &Setup) -> Outcome<Quantiles> {
    let window = Window::default();
    let mut workers = JoinSet::new();
    for _ in 1..setup.workload.in_flight() {
        workers.spawn(work(dialer.sibling().await?, setup.workload.response(), window.clone()));
    }
    workers.spawn(work(dialer, setup.workload.response(), window.clone()));
    window.gather(setup, workers).await
}

async fn work<D: Dialer>(dialer: D, response: usize, window: Window) -> Outcome<Latencies> {
    let request = Bytes::from(vec![0x3c; REQUEST]);
    let mut latencies = Latencies::default();
    while window.goes_on() {
        let start = Instant::now();
        let connection = dialer.dial().await?;
        transact(&connection, request.clone(), response).await?;
        connection.close().await?;
        window.completed(start, &mut latencies);
    }
    Ok(latencies)
}
