//! `Stream::close` and `Host::close`.

use std::time::Duration;

use sss::{AcceptError, CloseReason, Code, ConnectError, ProbeError, ReadError, StreamCloseError, WriteError};

use crate::common::{Pair, builder, pair, pair_of, within};

#[tokio::test]
async fn closing_a_stream_waits_for_its_subtree() {
    within(20, async {
        let Pair { mut ours, theirs, .. } = pair().await;
        ours.write_all(&[1; 1000]).await.unwrap();
        let mut child = ours.open_substream().unwrap();
        let mut grandchild = child.open_substream().unwrap();
        child.write_all(&[2; 200_000]).await.unwrap();
        child.finish().unwrap();
        drop(child);
        let late = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            grandchild.write_all(&[3; 3000]).await.unwrap();
            grandchild.finish().unwrap();
        });
        let reader = tokio::spawn(async move {
            let mut theirs = theirs;
            let mut child = theirs.accept_substream().await.unwrap();
            let mut grandchild = child.accept_substream().await.unwrap();
            let lengths = [
                theirs.read_to_end(1 << 20).await.unwrap().len(),
                child.read_to_end(1 << 20).await.unwrap().len(),
                grandchild.read_to_end(1 << 20).await.unwrap().len(),
            ];
            (lengths, theirs, child, grandchild)
        });
        ours.close().await.unwrap();
        assert!(late.is_finished(), "the grandchild was waited for");
        assert_eq!(reader.await.unwrap().0, [1000, 200_000, 3000]);
    })
    .await;
}

#[tokio::test]
async fn closing_a_stream_says_what_was_not_delivered() {
    within(20, async {
        let Pair { ours, theirs, .. } = pair().await;
        let mut child = ours.open_substream().unwrap();
        child.write_all(&[2; 10]).await.unwrap();
        let their_child = theirs.accept_substream().await.unwrap();
        drop(their_child);
        while child.write(&[0; 1000]).await.is_ok() {}
        match ours.close().await {
            Err(StreamCloseError::Substreams {
                failed: 1,
                first: WriteError::Stopped { code, .. },
            }) => {
                assert_eq!(code, Code::UNREAD);
            }
            other => panic!("{other:?}"),
        }

        let Pair {
            mut ours,
            theirs,
            host: _host,
            ..
        } = pair().await;
        ours.write_all(&[1; 10]).await.unwrap();
        drop(theirs);
        tokio::time::sleep(Duration::from_millis(50)).await;
        match ours.close().await {
            Err(StreamCloseError::Stream(WriteError::Stopped { .. })) => {}
            other => panic!("{other:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn closing_a_host_delivers_all_that_was_finished() {
    within(30, async {
        let Pair {
            client,
            ours,
            theirs,
            host: _host,
            ..
        } = pair().await;
        for n in 0..20_u8 {
            let mut child = ours.open_substream().unwrap();
            tokio::spawn(async move {
                child.write_all(&vec![n; 50_000]).await.unwrap();
                child.finish().unwrap();
            });
        }
        let mut tasks = Vec::new();
        for _ in 0..20 {
            let mut child = theirs.accept_substream().await.unwrap();
            tasks.push(tokio::spawn(
                async move { child.read_to_end(1 << 20).await.unwrap().len() },
            ));
        }
        // The tasks above may still be writing what does not fit into the window; all is finished once this is.
        ours.close().await.unwrap();
        client.close().await.unwrap();
        for task in tasks {
            assert_eq!(task.await.unwrap(), 50_000);
        }
        match theirs.peer().closed().await {
            CloseReason::Peer { code, .. } => assert_eq!(code, Code::SHUTDOWN),
            other => panic!("{other:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn what_arrived_completely_can_be_read_after_the_channel_ended() {
    within(20, async {
        let Pair {
            client,
            mut ours,
            mut theirs,
            ..
        } = pair().await;
        ours.write_all(&[7; 30_000]).await.unwrap();
        ours.finish().unwrap();
        drop(ours);
        client.close().await.unwrap();
        theirs.peer().closed().await;
        assert_eq!(theirs.read_to_end(1 << 20).await.unwrap().len(), 30_000);
    })
    .await;
}

#[tokio::test]
async fn a_closed_host_ends_everything_with_typed_errors() {
    within(20, async {
        let Pair {
            client,
            host,
            server,
            mut ours,
            mut theirs,
        } = pair().await;
        let reading = tokio::spawn(async move { theirs.read_chunk(10).await });
        let accepting = tokio::spawn(async move { server.accept().await.map(|_| ()) });
        tokio::time::sleep(Duration::from_millis(20)).await;
        host.close().await.unwrap();
        assert!(host.is_closed());
        assert!(matches!(
            reading.await.unwrap(),
            Err(ReadError::Lost(CloseReason::Local {
                code: Code::SHUTDOWN,
                ..
            }))
        ));
        assert_eq!(accepting.await.unwrap(), Err(AcceptError::HostClosed));
        let connect = host.connect(client.eid(), "test", "1").hint(client.local_addr());
        assert_eq!(connect.await.unwrap_err(), ConnectError::HostClosed);
        let probe = host.probe(client.local_addr(), Duration::from_secs(1)).await;
        assert_eq!(probe, Err(ProbeError::HostClosed));
        assert!(matches!(
            ours.read_chunk(1).await,
            Err(ReadError::Lost(CloseReason::Peer {
                code: Code::SHUTDOWN,
                ..
            }))
        ));
        host.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn undelivered_streams_are_counted() {
    within(20, async {
        let Pair {
            client,
            mut ours,
            theirs: _unread,
            ..
        } = pair().await;
        // More than the peer's window, of which nothing is read.
        let chunk = bytes::Bytes::from(vec![0; 1 << 20]);
        let mut written = 0;
        while let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(200), ours.write_chunk(chunk.clone())).await {
            written += 1;
        }
        assert!(written < 1000);
        ours.finish().unwrap();
        let error = client.close_within(Duration::from_millis(100)).await.unwrap_err();
        assert_eq!(error.streams, 1);
    })
    .await;
}

#[tokio::test]
async fn closing_a_peer_tells_it_the_code_and_the_reason() {
    within(20, async {
        let Pair {
            client,
            host,
            ours,
            mut theirs,
            ..
        } = pair().await;
        let peer = ours.peer();
        let closed = tokio::spawn(async move { peer.closed().await });
        tokio::task::yield_now().await;
        client.peer(&host.eid()).unwrap().close(9, "enough");
        match theirs.read_chunk(10).await {
            Err(ReadError::Lost(CloseReason::Peer { code, reason })) => {
                assert_eq!((code.as_app(), reason.as_str()), (Some(9), "enough"));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(closed.await.unwrap(), CloseReason::Local { .. }));
        assert!(client.peers().is_empty());
    })
    .await;
}

#[tokio::test]
async fn the_last_handle_dropped_closes_the_host_in_the_background() {
    within(20, async {
        let Pair {
            client,
            host,
            server,
            mut ours,
            mut theirs,
        } = pair_of(builder(), builder()).await;
        ours.write_all(&[5; 50_000]).await.unwrap();
        ours.finish().unwrap();
        drop((client, ours));
        assert_eq!(theirs.read_to_end(1 << 20).await.unwrap().len(), 50_000);
        assert!(matches!(
            theirs.peer().closed().await,
            CloseReason::Peer {
                code: Code::SHUTDOWN,
                ..
            }
        ));
        drop((host, server));
    })
    .await;
}
