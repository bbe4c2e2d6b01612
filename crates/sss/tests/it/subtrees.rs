//! Subtrees as units, and whether the peer's application has read what was sent.

use std::time::Duration;

use sss::{CloseReason, Code, OpenError, ReadError, WriteError};

use crate::common::{Pair, pair, within};

// spec: STR-43, STR-44
#[tokio::test]
async fn a_tree_is_reset_wherever_its_streams_are_held() {
    within(20, async {
        let Pair {
            mut ours, mut theirs, ..
        } = pair().await;
        let mut child = ours.open_substream().unwrap();
        child.write_all(b"unread").await.unwrap();
        let their_child = theirs.accept_substream().await.unwrap().unwrap();
        let grandchild = their_child.open_substream().unwrap();
        let (mut their_send, mut their_recv) = grandchild.split();
        their_send.write_all(b"x").await.unwrap();
        let mut grandchild = child.accept_substream().await.unwrap().unwrap();
        let reading = tokio::spawn(async move { their_recv.read_chunk(10).await });
        let accepting = tokio::spawn(async move { their_child.accept_substream().await.map(|_| ()) });
        tokio::time::sleep(Duration::from_millis(20)).await;
        ours.reset_tree_with(7, "over");
        let code = Code::app(7);
        match reading.await.unwrap() {
            Err(ReadError::Reset { code: given, .. }) => assert_eq!(given, code),
            other => panic!("{other:?}"),
        }
        match accepting.await.unwrap() {
            Err(CloseReason::Peer { code: given, reason }) => assert_eq!((given, reason.as_str()), (code, "over")),
            other => panic!("{other:?}"),
        }
        match theirs.read_chunk(10).await {
            Err(ReadError::Reset { code: given, reason }) => assert_eq!((given, reason.as_str()), (code, "over")),
            other => panic!("{other:?}"),
        }
        while !matches!(their_send.write(&[0; 100]).await, Err(WriteError::Stopped { .. })) {}
        assert!(matches!(theirs.open_substream(), Err(OpenError::Reset { .. })));
        assert_eq!(child.write(b"x").await, Err(WriteError::Closed));
        assert_eq!(grandchild.read_chunk(1).await, Err(ReadError::Closed));
        assert_eq!(ours.read_chunk(1).await, Err(ReadError::Closed));
        let peer = ours.peer();
        drop((ours, theirs, child, grandchild, their_send));
        while peer.stream_count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

// spec: STR-47, STR-48, STR-49
#[tokio::test]
async fn consumed_tells_reading_from_delivery() {
    within(20, async {
        let Pair {
            mut ours, mut theirs, ..
        } = pair().await;
        ours.write_all(b"to be read").await.unwrap();
        ours.finish().unwrap();
        ours.drained().await.unwrap();
        let waiting = tokio::time::timeout(Duration::from_millis(50), ours.consumed());
        assert!(waiting.await.is_err(), "delivered is not read");
        let (consumed, read) = tokio::join!(ours.consumed(), theirs.read_to_end(100));
        assert_eq!(&read.unwrap()[..], b"to be read");
        consumed.unwrap();
        // Dropped after it was delivered.
        let mut child = ours.open_substream().unwrap();
        child.write_all(b"not to be read").await.unwrap();
        child.finish().unwrap();
        child.drained().await.unwrap();
        drop(theirs.accept_substream().await.unwrap().unwrap());
        match child.consumed().await {
            Err(WriteError::Stopped { code, .. }) => assert_eq!(code, Code::UNREAD),
            other => panic!("{other:?}"),
        }
        // Read by the byte, and dropped without looking for the end.
        let mut child = ours.open_substream().unwrap();
        child.write_all(b"all").await.unwrap();
        child.finish().unwrap();
        child.drained().await.unwrap();
        let mut their_child = theirs.accept_substream().await.unwrap().unwrap();
        their_child.read_exact(&mut [0; 3]).await.unwrap();
        drop(their_child);
        child.consumed().await.unwrap();
    })
    .await;
}

// spec: STR-48
#[tokio::test]
async fn whoever_reads_the_last_byte_has_read_the_end() {
    within(20, async {
        let Pair { ours, theirs, .. } = pair().await;
        for way in 0..4 {
            let mut child = ours.open_substream().unwrap();
            child.write_all(b"all").await.unwrap();
            child.finish().unwrap();
            child.drained().await.unwrap();
            let mut their_child = theirs.accept_substream().await.unwrap().unwrap();
            match way {
                0 => assert_eq!(their_child.read_chunk(3).await.unwrap().unwrap(), "all"),
                1 => assert_eq!(their_child.read_chunks(3, &mut Vec::new()).await, Ok(3)),
                2 => assert_eq!(their_child.read(&mut [0; 3]).await, Ok(3)),
                _ => their_child.read_exact(&mut [0; 3]).await.unwrap(),
            }
            // It is not asked for the end, and still held.
            child.consumed().await.unwrap();
            assert_eq!(their_child.read_chunk(1).await, Ok(None), "way {way}");
            assert_eq!(their_child.read(&mut [0; 3]).await, Ok(0));
        }
    })
    .await;
}

#[tokio::test]
async fn a_subtree_sums_up() {
    within(10, async {
        let Pair { mut ours, theirs, .. } = pair().await;
        ours.write_all(&[0; 100]).await.unwrap();
        let mut child = ours.open_substream().unwrap();
        child.write_all(&[0; 1000]).await.unwrap();
        let _their_child = theirs.accept_substream().await.unwrap().unwrap();
        while theirs.subtree_info().unwrap().unread < 1100 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (here, there) = (ours.subtree_info().unwrap(), theirs.subtree_info().unwrap());
        assert_eq!((here.streams, here.sent), (2, 1100));
        assert_eq!((there.streams, there.received, there.unread), (2, 1100, 1100));
    })
    .await;
}
