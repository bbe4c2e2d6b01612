//! Learning that the peer has stopped reading, or is gone, without writing; and what is a stream of the futures crate.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use sss::{CloseReason, Code, LinkStatus, ServerSet, WriteError};

use crate::common::{Pair, builder, pair, pair_of, within};

#[tokio::test]
async fn a_writer_learns_that_the_peer_stopped_reading_while_it_writes_nothing() {
    within(20, async {
        let Pair {
            ours,
            mut theirs,
            host,
            client,
            ..
        } = pair().await;
        let (waiting, also) = (ours.stopped(), ours.stopped());
        let given_up = tokio::time::timeout(Duration::from_millis(50), ours.stopped());
        assert!(given_up.await.is_err(), "nothing has happened yet");
        let mut child = ours.open_substream().unwrap();
        child.write_all(b"x").await.unwrap();
        theirs.stop(7);
        assert_eq!(waiting.await.unwrap(), Some(Code::app(7)));
        assert_eq!(also.await.unwrap(), Some(Code::app(7)));
        assert_eq!(ours.stopped().await.unwrap(), Some(Code::app(7)), "again");

        // Dropping the stream stops it too; a child goes on.
        let stopped = child.stopped();
        drop(theirs.accept_substream().await.unwrap().unwrap());
        assert_eq!(stopped.await.unwrap(), Some(Code::UNREAD));

        let refused = client.connect(host.eid(), "nothing", "1").await.unwrap();
        assert_eq!(refused.stopped().await.unwrap(), Some(Code::REFUSED_SERVICE));
    })
    .await;
}

#[tokio::test]
async fn what_has_arrived_to_its_end_cannot_be_stopped_any_more() {
    within(20, async {
        let Pair { ours, mut theirs, .. } = pair().await;
        let (mut send, _recv) = ours.split();
        let stopped = send.stopped();
        // The future does not borrow the stream.
        send.write_all(b"all").await.unwrap();
        send.finish().unwrap();
        assert_eq!(stopped.await.unwrap(), None);
        assert_eq!(&theirs.read_to_end(10).await.unwrap()[..], b"all");

        let mut child = theirs.open_substream().unwrap();
        let (reset, dropped) = (child.stopped(), theirs.open_substream().unwrap());
        child.reset(1);
        assert_eq!(reset.await.unwrap(), None);
        let waiting = dropped.stopped();
        drop(dropped);
        assert_eq!(waiting.await, Err(WriteError::Closed));
    })
    .await;
}

#[tokio::test]
async fn the_loss_of_the_peer_is_told_to_those_who_neither_read_nor_write() {
    within(20, async {
        let Pair {
            ours,
            theirs,
            client,
            host,
            ..
        } = pair().await;
        let (gone, there) = (ours.peer_gone(), theirs.peer_gone());
        let stopped = ours.stopped();
        assert!(ours.peer_gone().now_or_never().is_none());
        client.peer(&host.eid()).unwrap().close(403, "enough");
        let by = |reason: CloseReason| match reason {
            CloseReason::Local { code, .. } => ("local", code),
            CloseReason::Peer { code, .. } => ("peer", code),
            other => panic!("{other:?}"),
        };
        assert_eq!(by(gone.await), ("local", Code::app(403)));
        assert_eq!(by(there.await), ("peer", Code::app(403)));
        assert!(matches!(stopped.await, Err(WriteError::Lost(_))));
        assert_eq!(by(ours.peer_gone().await), ("local", Code::app(403)), "afterwards too");
    })
    .await;
}

/// Waiting futures keep nothing alive: the host is closed when its last handle is dropped.
#[tokio::test]
async fn whoever_waits_keeps_neither_stream_nor_host() {
    within(30, async {
        let Pair {
            ours,
            theirs,
            client,
            server,
            host,
        } = pair().await;
        let (stopped, gone) = (ours.stopped(), ours.peer_gone());
        drop((ours, client));
        assert!(stopped.await.is_err());
        assert!(matches!(gone.await, CloseReason::Local { .. }));
        assert!(matches!(theirs.peer_gone().await, CloseReason::Peer { .. }));
        drop((server, host));
    })
    .await;
}

#[tokio::test]
async fn a_tracked_datagram_is_sent_at_once_or_not_at_all() {
    within(20, async {
        let Pair { ours, theirs, .. } = pair().await;
        let receipt = ours.send_datagram("now").reliable().tracked().try_send().unwrap();
        let receipt = receipt.expect("there is room");
        let _got = theirs.recv_datagram().await.unwrap().unwrap();
        assert_eq!(receipt.await, sss::DatagramFate::Delivered);

        let large = vec![0; 256 << 10];
        let mut sent = 0;
        while let Some(receipt) = ours
            .send_datagram(large.clone())
            .reliable()
            .tracked()
            .try_send()
            .unwrap()
        {
            drop(receipt);
            sent += 1;
            assert!(sent < 100, "the queue has no bounds");
        }
        assert!(sent > 0);
        let mut ours = ours;
        ours.reset_tree(1);
        assert!(ours.send_datagram("late").tracked().try_send().is_err());
    })
    .await;
}

#[tokio::test]
async fn servers_are_streams_that_end_with_the_host() {
    within(20, async {
        let Pair {
            client, host, server, ..
        } = pair().await;
        let mut set = ServerSet::from([host.listen("more", "1").unwrap()]);
        let mut server = server;
        let _a = client.connect(host.eid(), "test", "1").await.unwrap();
        let _b = client.connect(host.eid(), "more", "1").await.unwrap();
        let incoming = server.next().await.unwrap();
        assert_eq!((incoming.peer, incoming.service.as_str()), (client.eid(), "test"));
        assert_eq!(set.next().await.unwrap().protocol, "1");
        let (closed, server, set) = tokio::join!(host.close_within(Duration::ZERO), server.next(), set.next());
        let _ = closed;
        assert!(server.is_none() && set.is_none());
    })
    .await;
}

#[tokio::test]
async fn a_watch_of_the_link_is_a_stream_that_ends_with_the_peer() {
    within(20, async {
        let quick = || builder().linger(Duration::ZERO);
        let Pair { ours, theirs, .. } = pair_of(quick(), quick()).await;
        let mut watch = ours.peer().link();
        assert!(watch.next().now_or_never().is_none());
        let mut clone = watch.clone();
        theirs.peer().close(1, "");
        assert!(matches!(watch.next().await, Some(LinkStatus::Down(_))));
        assert_eq!(watch.next().await, None);
        assert_eq!(watch.next().await, None, "it stays at its end");
        // What one way has told, the other does not tell again.
        assert!(matches!(clone.changed().await, Some(LinkStatus::Down(_))));
        assert_eq!(clone.next().await, None);
    })
    .await;
}
