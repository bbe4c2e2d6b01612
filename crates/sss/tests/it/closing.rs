//! `Stream::close` and `Host::close`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sss::{AcceptError, CloseReason, Code, ConnectError, ProbeError, ReadError, StreamCloseError, WriteError};
use tokio::net::UdpSocket;

use crate::common::{Pair, builder, pair, pair_of, within};

// spec: STR-50, STR-51
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
        grandchild.write_all(&[3; 3000]).await.unwrap();
        grandchild.finish().unwrap();
        drop(grandchild);
        let reader = tokio::spawn(async move {
            let mut theirs = theirs;
            let mut child = theirs.accept_substream().await.unwrap().unwrap();
            let mut grandchild = child.accept_substream().await.unwrap().unwrap();
            let lengths = [
                theirs.read_to_end(1 << 20).await.unwrap().len(),
                child.read_to_end(1 << 20).await.unwrap().len(),
                grandchild.read_to_end(1 << 20).await.unwrap().len(),
            ];
            (lengths, theirs, child, grandchild)
        });
        let peer = ours.peer();
        ours.close().await.unwrap();
        // What has arrived can be read whatever becomes of the channel.
        peer.close(0, "");
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
        let their_child = theirs.accept_substream().await.unwrap().unwrap();
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

// spec: STR-50, STR-51
#[tokio::test]
async fn closing_a_stream_reports_what_is_not_finished() {
    within(20, async {
        let Pair { mut ours, theirs, .. } = pair().await;
        ours.write_all(&[1; 1000]).await.unwrap();
        let mut held = ours.open_substream().unwrap();
        held.write_all(&[2; 100_000]).await.unwrap();
        let below = held.open_substream().unwrap();
        let reader = tokio::spawn(async move {
            let mut theirs = theirs;
            let mut held = theirs.accept_substream().await.unwrap().unwrap();
            // One that the peer opened and this side has not used is not unfinished.
            let _one_way = theirs.open_substream().unwrap();
            let mut buf = vec![0; 100_000];
            held.read_exact(&mut buf).await.unwrap();
            let rest = held.read_to_end(1 << 20).await.unwrap();
            (theirs.read_to_end(1 << 20).await.unwrap().len(), rest)
        });
        let _one_way = ours.accept_substream().await.unwrap().unwrap();
        match ours.close().await {
            Err(StreamCloseError::Unfinished { streams: 2 }) => {}
            other => panic!("{other:?}"),
        }
        // They go on.
        held.write_all(b"the rest").await.unwrap();
        held.finish().unwrap();
        let (own, rest) = reader.await.unwrap();
        assert_eq!((own, &rest[..]), (1000, &b"the rest"[..]));
        drop(below);
    })
    .await;
}

// spec: STR-51
#[tokio::test]
async fn closing_a_stream_tells_of_losses_of_which_nobody_was_told() {
    within(20, async {
        let Pair { ours, theirs, .. } = pair().await;
        let mut child = ours.open_substream().unwrap();
        let mut grandchild = child.open_substream().unwrap();
        // More than the peer may be sent, so that it cannot have arrived.
        for _ in 0..20 {
            let write = grandchild.write_all(&[0; 100_000]);
            if tokio::time::timeout(Duration::from_millis(20), write).await.is_err() {
                break;
            }
        }
        grandchild.finish().unwrap();
        child.finish().unwrap();
        drop((grandchild, child));
        let mut their_child = theirs.accept_substream().await.unwrap().unwrap();
        assert!(their_child.read_to_end(0).await.unwrap().is_empty());
        let mut their_grandchild = their_child.accept_substream().await.unwrap().unwrap();
        their_grandchild.stop_with(5, "enough");
        drop((their_grandchild, their_child));
        while ours.info().unwrap().children > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        match ours.close().await {
            Err(StreamCloseError::Substreams {
                failed: 1,
                first: WriteError::Stopped { code, reason },
            }) => assert_eq!((code.as_app(), reason.as_str()), (Some(5), "enough")),
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
            let mut child = theirs.accept_substream().await.unwrap().unwrap();
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

/// Forwards datagrams between a host and whoever sends to it, each `DELAY` later, until it is cut.
struct SlowLink {
    address: SocketAddr,
    cut: Arc<AtomicBool>,
}

impl SlowLink {
    const DELAY: Duration = Duration::from_millis(400);

    async fn to(host: SocketAddr) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = socket.local_addr().unwrap();
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = Arc::clone(&cut);
        tokio::spawn(async move {
            let (mut buf, mut client) = ([0; 65_536], None);
            loop {
                let (len, from) = socket.recv_from(&mut buf).await.unwrap();
                let to = if from == host {
                    client
                } else {
                    client = Some(from);
                    Some(host)
                };
                let (socket, is_cut, datagram) = (Arc::clone(&socket), Arc::clone(&is_cut), buf[..len].to_vec());
                tokio::spawn(async move {
                    tokio::time::sleep(Self::DELAY).await;
                    if let Some(to) = to
                        && !is_cut.load(Ordering::Relaxed)
                    {
                        socket.send_to(&datagram, to).await.unwrap();
                    }
                });
            }
        });
        Self { address, cut }
    }
}

#[tokio::test]
async fn closing_takes_bounded_time_when_the_peer_is_far_and_cut_off() {
    within(30, async {
        let (client, host) = (builder().build().await.unwrap(), builder().build().await.unwrap());
        let _server = host.listen("test", "1").unwrap();
        let link = SlowLink::to(host.local_addr()).await;
        let connect = client.connect(host.eid(), "test", "1").hint(link.address);
        let mut stream = connect.await.unwrap();
        let rtt = client.peer(&host.eid()).unwrap().info().unwrap().rtt;
        assert!(rtt >= 2 * SlowLink::DELAY, "{rtt:?}");
        link.cut.store(true, Ordering::Relaxed);
        stream.write_all(&[1; 1000]).await.unwrap();
        stream.finish().unwrap();

        let start = Instant::now();
        let error = client.close_within(Duration::from_millis(500)).await.unwrap_err();
        assert_eq!(error.streams, 1);
        // 3 PTO of this round trip would be 7 s.
        let took = start.elapsed();
        assert!(took < Duration::from_millis(4500), "{took:?}");
        // The driver is gone, not only no longer waited for: the port is free.
        UdpSocket::bind(client.local_addr()).await.unwrap();
    })
    .await;
}
