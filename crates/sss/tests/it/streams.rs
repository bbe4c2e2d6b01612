//! Echo, substreams, and independence of streams.

use std::time::Duration;

use bytes::Bytes;
use sss::{DriverMode, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{Pair, builder, host, pair, pair_of, within};

async fn echo(mut stream: Stream) {
    let said = stream.read_to_end(1 << 20).await.unwrap();
    stream.write_chunk(said).await.unwrap();
    stream.finish().unwrap();
}

async fn echoes(pair: Pair) {
    let Pair { mut ours, theirs, .. } = pair;
    let task = tokio::spawn(echo(theirs));
    ours.write_all(b"hello").await.unwrap();
    ours.finish().unwrap();
    assert_eq!(ours.read_to_end(100).await.unwrap(), Bytes::from_static(b"hello"));
    task.await.unwrap();
}

#[tokio::test]
async fn echo_on_one_thread() {
    within(10, async { echoes(pair().await).await }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn echo_on_several_threads() {
    within(10, async { echoes(pair().await).await }).await;
}

#[tokio::test]
async fn echo_with_drivers_on_their_own_threads() {
    let dedicated = || builder().driver(DriverMode::Dedicated);
    within(10, async { echoes(pair_of(dedicated(), dedicated()).await).await }).await;
}

#[tokio::test]
async fn echo_through_async_read_and_write() {
    within(10, async {
        let Pair { mut ours, theirs, .. } = pair().await;
        let task = tokio::spawn(echo(theirs));
        AsyncWriteExt::write_all(&mut ours, b"by the traits").await.unwrap();
        ours.shutdown().await.unwrap();
        let mut text = String::new();
        ours.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "by the traits");
        task.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_stream_is_heard_of_before_anything_is_written() {
    within(10, async {
        let Pair { ours, theirs, .. } = pair().await;
        let child = ours.open_substream().unwrap();
        let theirs_child = theirs.accept_substream().await.unwrap().unwrap();
        let grandchild = theirs_child.open_substream().unwrap();
        let ours_grandchild = child.accept_substream().await.unwrap().unwrap();
        assert_eq!(grandchild.peer().tree().len(), 3);
        assert_eq!(ours_grandchild.peer().stream_count(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_thousand_substreams_at_once() {
    within(30, async {
        let Pair { ours, theirs, .. } = pair().await;
        let server = tokio::spawn(async move {
            for _ in 0..1000 {
                tokio::spawn(echo(theirs.accept_substream().await.unwrap().unwrap()));
            }
            theirs
        });
        let mut tasks = Vec::new();
        for n in 0..1000_u32 {
            let mut child = ours.open_substream().unwrap();
            tasks.push(tokio::spawn(async move {
                let text = format!("substream {n}").repeat(10);
                child.write_all(text.as_bytes()).await.unwrap();
                child.finish().unwrap();
                assert_eq!(&child.read_to_end(1000).await.unwrap()[..], text.as_bytes());
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        server.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn several_tasks_accept_from_one_stream_and_from_one_server() {
    within(10, async {
        let Pair {
            client,
            host,
            server,
            ours,
            theirs,
        } = pair().await;
        let (a, b) = tokio::join!(theirs.accept_substream(), async {
            tokio::join!(theirs.accept_substream(), async {
                tokio::task::yield_now().await;
                (ours.open_substream().unwrap(), ours.open_substream().unwrap())
            })
        });
        let (b, _opened) = b;
        assert_ne!(a.unwrap().unwrap().id(), b.unwrap().unwrap().id());

        let connect = || client.connect(host.eid(), "test", "1").hint(host.local_addr());
        let (first, second, one, two) =
            tokio::join!(server.accept(), server.accept(), async { connect().await }, async {
                connect().await
            });
        assert_ne!(first.unwrap().0.id(), second.unwrap().0.id());
        assert!(one.is_ok() && two.is_ok());
    })
    .await;
}

#[tokio::test]
async fn a_slow_reader_does_not_block_its_siblings() {
    within(20, async {
        let Pair { ours, theirs, .. } = pair().await;
        let mut stuck = ours.open_substream().unwrap();
        let filler = tokio::spawn(async move {
            let _ = stuck.write_all(&vec![1; 64 << 20]).await;
        });
        let _unread = theirs.accept_substream().await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!filler.is_finished(), "flow control holds the writer");
        for _ in 0..50 {
            let mut child = ours.open_substream().unwrap();
            let server = theirs.accept_substream();
            child.write_all(b"still alive?").await.unwrap();
            child.finish().unwrap();
            echo(server.await.unwrap().unwrap()).await;
            assert_eq!(&child.read_to_end(100).await.unwrap()[..], b"still alive?");
        }
        filler.abort();
    })
    .await;
}

#[tokio::test]
async fn halves_work_from_two_tasks() {
    within(10, async {
        let Pair { ours, theirs, .. } = pair().await;
        let (mut send, mut recv) = ours.split();
        tokio::spawn(async move {
            let (mut send, mut recv) = theirs.split();
            while let Some(chunk) = recv.read_chunk(1000).await.unwrap() {
                assert!(chunk.len() <= 1000);
                send.write_chunk(chunk).await.unwrap();
            }
            send.finish().unwrap();
        });
        let writer = tokio::spawn(async move {
            for n in 0..1000_u32 {
                send.write_all(&n.to_be_bytes()).await.unwrap();
            }
            send.finish().unwrap();
            send.drained().await.unwrap();
        });
        for n in 0..1000_u32 {
            let mut buf = [0; 4];
            recv.read_exact(&mut buf).await.unwrap();
            assert_eq!(u32::from_be_bytes(buf), n);
        }
        assert_eq!(recv.read_chunk(1).await, Ok(None));
        writer.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_is_known_about_peers() {
    within(10, async {
        let Pair { client, host, ours, .. } = pair().await;
        let stranger = crate::common::host().await;
        assert_eq!(client.peers().len(), 1);
        assert!(client.peer(&stranger.eid()).is_none());
        let peer = client.peer(&host.eid()).unwrap();
        assert!(peer.is_connected());
        let info = peer.info().unwrap();
        assert_eq!(info.route, host.local_addr().into());
        assert_eq!(ours.peer().eid(), host.eid());
        assert!(client.stats().datagrams_sent >= 2);
        assert!(client.socket_stats().send_calls >= 2);
    })
    .await;
}

#[tokio::test]
async fn both_sides_may_connect_at_once() {
    within(20, async {
        let (alice, bob) = (host().await, host().await);
        let (at_alice, at_bob) = (alice.listen("test", "1").unwrap(), bob.listen("test", "1").unwrap());
        let (to_bob, to_alice) = tokio::join!(
            async { alice.connect(bob.eid(), "test", "1").hint(bob.local_addr()).await },
            async { bob.connect(alice.eid(), "test", "1").hint(alice.local_addr()).await },
        );
        let (mut to_bob, mut to_alice) = (to_bob.unwrap(), to_alice.unwrap());
        to_bob.write_all(b"for bob").await.unwrap();
        to_bob.finish().unwrap();
        to_alice.write_all(b"for alice").await.unwrap();
        to_alice.finish().unwrap();
        let (mut from_alice, _) = at_bob.accept().await.unwrap();
        let (mut from_bob, _) = at_alice.accept().await.unwrap();
        assert_eq!(&from_alice.read_to_end(100).await.unwrap()[..], b"for bob");
        assert_eq!(&from_bob.read_to_end(100).await.unwrap()[..], b"for alice");
    })
    .await;
}

#[tokio::test]
async fn tasks_hold_little_while_they_wait_for_a_stream() {
    let Pair { mut ours, .. } = pair().await;
    let mut sizes = vec![size_of_val(&ours.read_chunk(1))];
    sizes.push(size_of_val(&ours.write_chunk(Bytes::new())));
    sizes.push(size_of_val(&ours.recv_datagram()));
    sizes.push(size_of_val(&ours.accept_substream()));
    assert!(sizes.iter().all(|size| *size <= 128), "{sizes:?}");
}
