//! Requests to a server that has many peers: each next request is another peer's, so that all of them are used in turn.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::rpc::transact;
use super::window::Window;
use crate::control::Work;
use crate::outcome::{Failure, Outcome};
use crate::setup::{REQUEST, Setup};
use crate::stats::{Latencies, Quantiles};
use crate::transport::Dialer;
use crate::usage::file_limit;

/// Connections opened at once.
const OPENERS: usize = 16;
/// Time between two reports of how many are open.
const REPORT: Duration = Duration::from_secs(2);
/// Files that a process may have open beside one for each connection.
const OTHER_FILES: usize = 100;

pub(super) async fn run<D: Dialer>(dialer: D, setup: &Setup) -> Outcome<Quantiles> {
    let peers = Arc::new(Peers::open(dialer, setup).await?);
    let window = Window::default();
    let mut workers = JoinSet::new();
    for _ in 0..setup.workload.in_flight() {
        workers.spawn(work(peers.clone(), setup.workload.response(), window.clone()));
    }
    window.gather(setup, workers).await
}

async fn work<D: Dialer>(peers: Arc<Peers<D>>, response: usize, window: Window) -> Outcome<Latencies> {
    let request = Bytes::from(vec![0x3c; REQUEST]);
    let mut latencies = Latencies::default();
    while window.goes_on() {
        let connection = peers.next()?;
        let start = Instant::now();
        transact(connection, request.clone(), response).await?;
        window.completed(start, &mut latencies);
    }
    Ok(latencies)
}

/// Connections of as many clients.
struct Peers<D: Dialer> {
    open: Vec<(D, D::Connection)>,
    /// Requests begun.
    begun: AtomicUsize,
}

impl<D: Dialer> Peers<D> {
    /// Opens all of them, with one transaction on each; says from time to time how many are open.
    async fn open(dialer: D, setup: &Setup) -> Outcome<Self> {
        let count = setup.workload.peers();
        let opened = Work::default();
        let deadline = Instant::now() + setup.opening();
        let mut opening = pin!(connect(dialer, setup, opened.clone()));
        loop {
            match timeout(REPORT, opening.as_mut()).await {
                Ok(Ok(open)) => {
                    let begun = AtomicUsize::new(0);
                    return Ok(Self { open, begun });
                }
                Ok(Err(failure)) => return Err(explain(failure, count)),
                Err(_) if Instant::now() > deadline => {
                    let (opened, limit) = (opened.count(), setup.opening().as_secs());
                    return Err(format!("{opened} of {count} peers were connected within {limit} s").into());
                }
                Err(_) => eprintln!("{} of {count} peers are connected", opened.count()),
            }
        }
    }

    /// The connection for the next request.
    fn next(&self) -> Outcome<&D::Connection> {
        let begun = self.begun.fetch_add(1, Ordering::Relaxed);
        let turn = begun.checked_rem(self.open.len());
        let (_, connection) = turn.and_then(|turn| self.open.get(turn)).ok_or("there are no peers")?;
        Ok(connection)
    }
}

async fn connect<D: Dialer>(dialer: D, setup: &Setup, opened: Work) -> Outcome<Vec<(D, D::Connection)>> {
    let (count, response) = (setup.workload.peers(), setup.workload.response());
    let begun = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..OPENERS.min(count) {
        let (first, begun, opened) = (dialer.sibling().await?, begun.clone(), opened.clone());
        tasks.spawn(async move {
            let mut open = Vec::new();
            while begun.fetch_add(1, Ordering::Relaxed) < count {
                let dialer = first.sibling().await?;
                let connection = dialer.dial().await?;
                transact(&connection, vec![0x3c; REQUEST].into(), response).await?;
                opened.add(1);
                open.push((dialer, connection));
            }
            Outcome::Ok(open)
        });
    }
    let mut all = Vec::with_capacity(count);
    while let Some(ended) = tasks.join_next().await {
        all.append(&mut ended??);
    }
    Ok(all)
}

/// Adds what is behind most failures of this kind: most transports have a socket for each connection, at the client or
/// on both sides.
fn explain(failure: Failure, count: usize) -> Failure {
    match file_limit() {
        Some(limit) if limit < (count + OTHER_FILES) as u64 => format!(
            "{failure}; {count} peers can take as many sockets, and a process may have {limit} files open here: \
             raise the hard limit (ulimit -Hn)"
        )
        .into(),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_on_files_is_named_where_it_is_too_low() {
        let failed = |count| explain("no socket".into(), count).to_string();
        assert_eq!(failed(1), "no socket");
        let limit = file_limit().expect("a limit");
        let text = failed(usize::try_from(limit).expect("a count"));
        assert!(
            text.starts_with("no socket; ") && text.contains(&limit.to_string()),
            "{text}"
        );
    }
}
