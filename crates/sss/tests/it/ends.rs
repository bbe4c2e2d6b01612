//! How the end of a stream looks from the other side.

use std::io;

use sss::{Code, ReadError, ReadExactError, ReadToEndError, WriteError};
use tokio::io::AsyncReadExt;

use crate::common::{Pair, pair, within};

/// Writes until it fails, and gives the error.
async fn write_error(stream: &mut sss::Stream) -> WriteError {
    loop {
        if let Err(error) = stream.write(&[0; 1000]).await {
            return error;
        }
    }
}

#[tokio::test]
async fn finish_ends_well_even_if_dropped_at_once() {
    within(10, async {
        let Pair {
            mut ours, mut theirs, ..
        } = pair().await;
        ours.write_all(&[3; 100_000]).await.unwrap();
        ours.finish().unwrap();
        drop(ours);
        assert_eq!(theirs.read_to_end(1 << 20).await.unwrap().len(), 100_000);
        assert_eq!(theirs.read_chunk(1).await, Ok(None), "the end stays the end");
    })
    .await;
}

#[tokio::test]
async fn nothing_can_be_written_after_the_end() {
    within(10, async {
        let Pair { mut ours, .. } = pair().await;
        ours.finish().unwrap();
        assert_eq!(ours.write(b"more").await, Err(WriteError::Closed));
    })
    .await;
}

// spec: STR-13
#[tokio::test]
async fn a_dropped_unfinished_stream_is_an_error_for_the_reader() {
    within(10, async {
        let Pair {
            mut ours, mut theirs, ..
        } = pair().await;
        ours.write_all(b"half a mess").await.unwrap();
        drop(ours);
        match theirs.read_to_end(100).await {
            Err(ReadToEndError::Read(ReadError::Reset { code, .. })) => assert_eq!(code, Code::DROPPED),
            other => panic!("{other:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn a_dropped_reader_stops_the_writer() {
    within(10, async {
        let Pair { mut ours, theirs, .. } = pair().await;
        drop(theirs);
        match write_error(&mut ours).await {
            WriteError::Stopped { code, .. } => assert_eq!(code, Code::UNREAD),
            other => panic!("{other:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn dropped_halves_end_their_own_direction_only() {
    within(10, async {
        let Pair { ours, theirs, .. } = pair().await;
        let (send, mut recv) = ours.split();
        let (mut their_send, mut their_recv) = theirs.split();
        drop(send);
        assert!(matches!(
            their_recv.read_chunk(10).await,
            Err(ReadError::Reset {
                code: Code::DROPPED,
                ..
            })
        ));
        their_send.write_all(b"the other way works").await.unwrap();
        their_send.finish().unwrap();
        assert_eq!(&recv.read_to_end(100).await.unwrap()[..], b"the other way works");
    })
    .await;
}

#[tokio::test]
async fn reset_and_stop_carry_code_and_reason() {
    within(10, async {
        let Pair {
            mut ours, mut theirs, ..
        } = pair().await;
        ours.write_all(b"x").await.unwrap();
        ours.reset_with(7, "changed my mind");
        let error = theirs.read_to_end(100).await.unwrap_err();
        let ReadToEndError::Read(ReadError::Reset { code, reason }) = error else {
            panic!("{error:?}");
        };
        assert_eq!((code.as_app(), reason.as_str()), (Some(7), "changed my mind"));

        ours.stop_with(8, "no room");
        match write_error(&mut theirs).await {
            WriteError::Stopped { code, reason } => {
                assert_eq!((code.as_app(), reason.as_str()), (Some(8), "no room"));
            }
            other => panic!("{other:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn reset_does_not_touch_the_other_direction_or_children() {
    within(10, async {
        let Pair {
            mut ours, mut theirs, ..
        } = pair().await;
        let mut child = ours.open_substream().unwrap();
        ours.reset(1);
        child.write_all(b"independent").await.unwrap();
        child.finish().unwrap();
        let mut theirs_child = theirs.accept_substream().await.unwrap().unwrap();
        assert_eq!(&theirs_child.read_to_end(100).await.unwrap()[..], b"independent");
        theirs.write_all(b"back").await.unwrap();
        theirs.finish().unwrap();
        assert_eq!(&ours.read_to_end(100).await.unwrap()[..], b"back");
    })
    .await;
}

#[tokio::test]
async fn limits_and_early_ends_are_typed() {
    within(10, async {
        let Pair {
            mut ours, mut theirs, ..
        } = pair().await;
        ours.write_all(&[1; 50]).await.unwrap();
        ours.finish().unwrap();
        theirs.write_all(&[1; 50]).await.unwrap();
        theirs.finish().unwrap();
        assert_eq!(theirs.read_to_end(49).await, Err(ReadToEndError::TooLong { limit: 49 }));
        let mut buf = [0; 60];
        assert_eq!(
            ours.read_exact(&mut buf).await,
            Err(ReadExactError::Ended { missing: 10 })
        );
    })
    .await;
}

#[tokio::test]
async fn io_errors_carry_the_typed_error() {
    within(10, async {
        let Pair {
            mut ours, mut theirs, ..
        } = pair().await;
        ours.reset(5);
        let error = AsyncReadExt::read(&mut theirs, &mut [0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        match error.get_ref().and_then(|e| e.downcast_ref::<ReadError>()) {
            Some(ReadError::Reset { code, .. }) => assert_eq!(code.as_app(), Some(5)),
            other => panic!("{other:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_read_loses_nothing() {
    within(10, async {
        let Pair {
            mut ours, mut theirs, ..
        } = pair().await;
        for _ in 0..3 {
            let waiting = tokio::time::timeout(std::time::Duration::from_millis(10), theirs.read_chunk(10));
            assert!(waiting.await.is_err());
        }
        ours.write_all(b"complete").await.unwrap();
        ours.finish().unwrap();
        assert_eq!(&theirs.read_to_end(100).await.unwrap()[..], b"complete");
    })
    .await;
}
