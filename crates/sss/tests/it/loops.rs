//! Loops that accept or receive until the peer has let go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sss::{Host, Server, Stream, TryError};

use crate::common::{Pair, host, pair, within};

/// Sessions in all; `SSS_SESSIONS` says another number.
const SESSIONS: usize = 2000;

/// Counts the tasks that are alive.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The loop that the examples teach, and the one for datagrams.
async fn serve(server: Server, tasks: Arc<AtomicUsize>) {
    while let Ok((session, _eid)) = server.accept().await {
        let session = Arc::new(session);
        let (requests, words) = (Arc::clone(&session), session);
        let (alive, also) = (Alive::new(&tasks), Alive::new(&tasks));
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.accept_substream().await {
                tokio::spawn(echo(request));
            }
            drop((requests, alive));
        });
        tokio::spawn(async move {
            while let Ok(Some(_word)) = words.recv_datagram().await {}
            drop((words, also));
        });
    }
}

async fn echo(mut request: Stream) -> Option<()> {
    let said = request.read_to_end(100).await.ok()?;
    request.write_all(&said).await.ok()?;
    request.finish().ok()
}

async fn session(client: &Host, host: &Host, number: usize) {
    let session = client
        .connect(host.eid(), "rpc", "1")
        .hint(host.local_addr())
        .await
        .unwrap();
    for _ in 0..number % 3 {
        let mut request = session.open_substream().unwrap();
        request.write_all(b"request").await.unwrap();
        request.finish().unwrap();
        assert_eq!(&request.read_to_end(100).await.unwrap()[..], b"request");
    }
    if number.is_multiple_of(4) {
        session.send_datagram("a word").await.unwrap();
    }
}

fn streams(host: &Host) -> usize {
    host.peers().iter().map(sss::Peer::stream_count).sum()
}

// spec: STR-70, STR-71, STR-72
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_leave_no_task_and_no_stream() {
    let sessions = std::env::var("SSS_SESSIONS").ok().and_then(|n| n.parse().ok());
    let sessions = sessions.unwrap_or(SESSIONS);
    let (client, server_host) = (host().await, host().await);
    let tasks = Arc::new(AtomicUsize::new(0));
    let listener = server_host.listen("rpc", "1").unwrap();
    tokio::spawn(serve(listener, Arc::clone(&tasks)));
    let begun = Instant::now();
    within(600, async {
        let (client, server_host) = (&client, &server_host);
        let lanes = (0..20).map(|lane| async move {
            for number in (lane..sessions).step_by(20) {
                session(client, server_host, number).await;
            }
        });
        join_all(lanes).await;
        let played = begun.elapsed();
        let is_left = || tasks.load(Ordering::SeqCst) + streams(client) + streams(server_host) > 0;
        let (left, peak) = (tasks.load(Ordering::SeqCst), streams(server_host));
        while is_left() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        println!(
            "{sessions} sessions in {played:?}, then {left} tasks and {peak} streams, none after {:?}",
            begun.elapsed()
        );
    })
    .await;
}

async fn join_all(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        futures.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        match futures.is_empty() {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
}

// spec: STR-70, STR-72
#[tokio::test]
async fn nothing_yet_and_never_more_are_told_apart() {
    within(20, async {
        let Pair { ours, theirs, .. } = pair().await;
        assert_eq!(theirs.try_recv_datagram(), Err(TryError::Empty));
        assert!(matches!(theirs.try_accept_substream(), Err(TryError::Empty)));
        let child = ours.open_substream().unwrap();
        ours.send_datagram("one").reliable().await.unwrap();
        assert!(theirs.accept_substream().await.unwrap().is_some());
        drop((child, ours));
        assert_eq!(theirs.recv_datagram().await.unwrap().unwrap(), "one");
        assert_eq!(theirs.recv_datagram().await, Ok(None));
        assert!(theirs.accept_substream().await.unwrap().is_none());
        assert_eq!(theirs.try_recv_datagram(), Ok(None));
        assert!(theirs.try_accept_substream().unwrap().is_none());
        theirs.peer().close(0, "");
        assert!(matches!(theirs.try_accept_substream(), Err(TryError::Failed(_))));
        assert!(matches!(theirs.try_recv_datagram(), Err(TryError::Failed(_))));
    })
    .await;
}

// spec: STR-71
#[tokio::test]
async fn the_opener_waits_likewise_also_for_a_stream_that_is_refused() {
    within(20, async {
        let Pair {
            ours,
            theirs,
            client,
            host,
            ..
        } = pair().await;
        let (waiting, ()) = tokio::join!(ours.accept_substream(), async {
            tokio::task::yield_now().await;
            drop(theirs);
        });
        assert!(waiting.unwrap().is_none());
        let refused = client.connect(host.eid(), "nothing", "1").hint(host.local_addr());
        let refused = refused.open().unwrap();
        assert!(refused.accept_substream().await.unwrap().is_none());
        assert_eq!(refused.recv_datagram().await, Ok(None));
    })
    .await;
}
