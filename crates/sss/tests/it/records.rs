//! Records: what was written as one piece is read as one piece.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use sss::{Code, ReadError, RecordError, Stream, WindowConfig, WriteError};
use tokio::io::AsyncReadExt;

use crate::common::{Pair, Pattern, builder, pair, pair_of, within};

/// A window of 64 KiB that does not grow.
fn small_window() -> WindowConfig {
    WindowConfig::default().with(|w| w.per_stream_max = 64 << 10)
}

/// Begins something and gives it up if it is not done at once.
fn give_up<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

// spec: STR-27, STR-31
#[tokio::test]
async fn records_of_any_size_pass_a_small_window_as_they_are() {
    within(30, async {
        let Pair { mut ours, theirs, .. } = pair_of(builder(), builder().window(small_window())).await;
        let mut theirs = theirs;
        let mut pattern = Pattern::new(7);
        let sizes = [0, 1, 5 << 20, 0, 0, 3000, 64 << 10, 100];
        let records: Vec<Bytes> = sizes
            .iter()
            .map(|n| pattern.bytes(n / 8 + 1)[..*n].to_vec().into())
            .collect();
        let expected = records.clone();
        let writer = async {
            for (i, record) in records.into_iter().enumerate() {
                if i % 2 == 0 {
                    ours.write_record_bytes(record).await.unwrap();
                } else {
                    ours.write_record(&record).await.unwrap();
                }
            }
            ours.finish().unwrap();
        };
        let reader = async {
            for record in &expected {
                let read = theirs.read_record().await.unwrap().unwrap();
                assert_eq!(read.len(), record.len());
                assert!(read == *record);
            }
            assert_eq!(theirs.read_record().await, Ok(None));
            assert_eq!(theirs.read_record().await, Ok(None), "the end stays the end");
        };
        tokio::join!(writer, reader);
    })
    .await;
}

// spec: STR-31
#[tokio::test]
async fn a_record_over_the_limit_is_refused_and_the_writer_is_told_the_limit() {
    within(10, async {
        let Pair {
            mut ours, mut theirs, ..
        } = pair().await;
        theirs.set_record_limit(1000);
        ours.write_record(&[1; 1000]).await.unwrap();
        ours.write_record(&[2; 1001]).await.unwrap();
        ours.write_record(&[3; 5]).await.unwrap();
        assert_eq!(theirs.read_record().await.unwrap().unwrap().len(), 1000);
        let error = theirs.read_record().await.unwrap_err();
        assert_eq!(error, RecordError::TooLarge { limit: 1000 });
        assert!(error.to_string().contains("1000 bytes"), "{error}");
        assert_eq!(theirs.read_record().await, Err(RecordError::Read(ReadError::Closed)));
        let error = loop {
            if let Err(error) = ours.write_record(b"more").await {
                break error;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        let WriteError::Stopped { code, reason } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(*code, Code::RECORD_TOO_LARGE);
        assert!(reason.contains("1000 bytes"), "{reason}");
        // The other direction goes on.
        theirs.write_record(b"and yet").await.unwrap();
        assert_eq!(&ours.read_record().await.unwrap().unwrap()[..], b"and yet");
    })
    .await;
}

// spec: STR-31
#[tokio::test]
async fn the_reader_keeps_no_more_than_the_limit_of_an_endless_record() {
    within(20, async {
        let Pair {
            mut ours, mut theirs, ..
        } = pair().await;
        theirs.set_record_limit(300_000);
        let writer = tokio::spawn(async move {
            loop {
                if let Err(error) = ours.write_all(&[0; 10_000]).await {
                    return error;
                }
            }
        });
        assert_eq!(
            theirs.read_record().await,
            Err(RecordError::TooLarge { limit: 300_000 })
        );
        assert!(matches!(writer.await.unwrap(), WriteError::Stopped { .. }));
    })
    .await;
}

#[tokio::test]
async fn what_is_not_marked_at_the_end_is_no_record() {
    within(10, async {
        let Pair {
            mut ours, mut theirs, ..
        } = pair().await;
        ours.write_record(b"whole").await.unwrap();
        ours.write_all(b"the rest").await.unwrap();
        ours.finish().unwrap();
        assert_eq!(&theirs.read_record().await.unwrap().unwrap()[..], b"whole");
        let rest = Bytes::from_static(b"the rest");
        assert_eq!(theirs.read_record().await, Err(RecordError::Unfinished { rest }));
        assert_eq!(theirs.read_record().await, Ok(None));
    })
    .await;
}

#[tokio::test]
async fn a_reset_within_a_record_is_an_error() {
    within(10, async {
        let Pair {
            mut ours, mut theirs, ..
        } = pair().await;
        ours.write_all(b"half").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(give_up(theirs.read_record()).is_none());
        ours.reset(7);
        let error = theirs.read_record().await.unwrap_err();
        let RecordError::Read(ReadError::Reset { code, .. }) = error else {
            panic!("{error:?}");
        };
        assert_eq!(code, Code::app(7));
    })
    .await;
}

#[tokio::test]
async fn a_record_made_of_pieces() {
    within(10, async {
        let Pair {
            mut ours, mut theirs, ..
        } = pair().await;
        ours.write_all(b"one ").await.unwrap();
        ours.write_chunk(Bytes::from_static(b"record")).await.unwrap();
        ours.end_record().await.unwrap();
        ours.end_record().await.unwrap();
        ours.write_all(b"begun, ").await.unwrap();
        ours.write_record(b"ended").await.unwrap();
        for expected in [&b"one record"[..], b"", b"begun, ended"] {
            assert_eq!(&theirs.read_record().await.unwrap().unwrap()[..], expected);
        }
    })
    .await;
}

/// The records of `stream`, which are given up all the time while they arrive.
async fn impatient(stream: &mut Stream, count: usize) -> Vec<Bytes> {
    let mut records = Vec::new();
    while records.len() < count {
        match give_up(stream.read_record()) {
            Some(record) => records.push(record.unwrap().unwrap()),
            None => tokio::task::yield_now().await,
        }
    }
    records
}

#[tokio::test]
async fn reading_can_be_given_up_anywhere() {
    within(30, async {
        let Pair { mut ours, theirs, .. } = pair_of(builder(), builder().window(small_window())).await;
        let mut theirs = theirs;
        let records: Vec<Vec<u8>> = [300_000, 10, 0, 500_000].map(|n| Pattern::new(9).bytes(n / 8)).into();
        let sent = records.clone();
        let writer = async {
            for record in &sent {
                ours.write_record(record).await.unwrap();
            }
        };
        let (_, read) = tokio::join!(writer, impatient(&mut theirs, 4));
        assert!(read.iter().eq(records.iter()));
    })
    .await;
}

#[tokio::test]
async fn writing_can_be_given_up_and_tears_no_record() {
    within(30, async {
        let Pair {
            mut ours, mut theirs, ..
        } = pair().await;
        let mut taken = Vec::new();
        // Nobody reads: the window and the send buffer fill up.
        for i in 0..200_u8 {
            let record = vec![i; 20_000];
            let is_taken = match i % 3 {
                0 => give_up(ours.write_record(&record)),
                1 => give_up(ours.write_record_bytes(record.into())),
                _ => give_up(ours.end_record()),
            };
            if is_taken.map(Result::unwrap).is_some() {
                taken.push((i, if i % 3 == 2 { 0 } else { 20_000 }));
            } else {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert!(taken.len() > 20 && taken.len() < 200, "{}", taken.len());
        let last = Bytes::from_static(b"last");
        let writer = async {
            ours.write_record_bytes(last.clone()).await.unwrap();
            ours.finish().unwrap();
        };
        let reader = async {
            for (i, len) in taken {
                assert!(theirs.read_record().await.unwrap().unwrap() == vec![i; len]);
            }
            assert_eq!(theirs.read_record().await, Ok(Some(last.clone())));
            assert_eq!(theirs.read_record().await, Ok(None));
        };
        tokio::join!(writer, reader);
    })
    .await;
}

/// Everything that was sent has arrived.
async fn arrived(stream: &Stream, positions: u64) {
    while stream.info().unwrap().received < positions {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

// spec: STR-29
#[tokio::test]
async fn plain_reads_stop_at_a_mark_and_go_on_behind_it() {
    within(10, async {
        let Pair {
            mut ours, mut theirs, ..
        } = pair().await;
        for record in [&b"abc"[..], b"", b"de", b"fgh", b"i", b"jk"] {
            ours.write_record(record).await.unwrap();
        }
        arrived(&theirs, 11 + 6).await;
        let mut buf = [0; 100];
        assert_eq!(theirs.read(&mut buf).await, Ok(3));
        assert_eq!(theirs.read(&mut []).await, Ok(0));
        assert_eq!(AsyncReadExt::read(&mut theirs, &mut buf).await.unwrap(), 2);
        assert_eq!(&buf[..2], b"de");
        assert_eq!(theirs.read_chunk(2).await, Ok(Some(Bytes::from_static(b"fg"))));
        let mut chunks = Vec::new();
        assert_eq!(theirs.read_chunks(100, &mut chunks).await, Ok(1));
        theirs.read_exact(&mut buf[..2]).await.unwrap();
        assert_eq!(&buf[..2], b"ij");
        ours.write_record(b"lm").await.unwrap();
        ours.finish().unwrap();
        assert_eq!(&theirs.read_to_end(100).await.unwrap()[..], b"klm");
    })
    .await;
}

#[tokio::test]
async fn plain_reads_get_past_any_number_of_empty_records() {
    within(30, async {
        let Pair { mut ours, theirs, .. } = pair_of(builder(), builder().window(small_window())).await;
        let mut theirs = theirs;
        let writer = async {
            for i in 0..400_000 {
                ours.end_record().await.unwrap();
                if i == 200_000 {
                    ours.write_all(b"a").await.unwrap();
                }
            }
            ours.write_all(b"b").await.unwrap();
            ours.finish().unwrap();
        };
        let reader = async {
            let mut buf = [0; 10];
            assert_eq!(theirs.read(&mut buf).await, Ok(1));
            assert_eq!(theirs.read_chunk(10).await, Ok(Some(Bytes::from_static(b"b"))));
            assert_eq!(theirs.read_chunk(10).await, Ok(None));
        };
        tokio::join!(writer, reader);
    })
    .await;
}

// spec: STR-29
#[tokio::test]
async fn plain_reads_and_records_can_be_mixed() {
    within(10, async {
        let Pair {
            mut ours, mut theirs, ..
        } = pair().await;
        for record in [&b"abc"[..], b"def", b"ghi", b"jkl"] {
            ours.write_record(record).await.unwrap();
        }
        ours.write_all(b"mno").await.unwrap();
        arrived(&theirs, 15 + 4).await;
        let mut buf = [0; 100];
        // Whether a read ended exactly before the mark or was stopped by it makes no difference.
        assert_eq!(theirs.read(&mut buf).await, Ok(3));
        assert_eq!(theirs.read_record().await, Ok(Some(Bytes::new())));
        assert_eq!(theirs.read(&mut buf[..3]).await, Ok(3));
        assert_eq!(theirs.read_record().await, Ok(Some(Bytes::new())));
        assert_eq!(theirs.read(&mut buf[..1]).await, Ok(1));
        assert_eq!(&theirs.read_record().await.unwrap().unwrap()[..], b"hi");
        assert_eq!(&theirs.read_record().await.unwrap().unwrap()[..], b"jkl");
        // What a read of a record that was given up has taken is there for other reads.
        assert!(give_up(theirs.read_record()).is_none());
        assert_eq!(theirs.read_chunk(1).await, Ok(Some(Bytes::from_static(b"m"))));
        assert!(give_up(theirs.read_record()).is_none());
        theirs.read_exact(&mut buf[..2]).await.unwrap();
        assert_eq!(&buf[..2], b"no");
        ours.write_record(b"p").await.unwrap();
        assert_eq!(&theirs.read_record().await.unwrap().unwrap()[..], b"p");
    })
    .await;
}

#[tokio::test]
async fn records_as_a_sink_and_a_stream() {
    within(20, async {
        let Pair { ours, theirs, .. } = pair_of(builder(), builder().window(small_window())).await;
        let (mut sink, _) = ours.into_records();
        let (_, records) = theirs.into_records();
        let count = 2000_usize;
        let writer = async {
            for i in 0..count {
                sink.feed(vec![i as u8; i].into()).await.unwrap();
            }
            sink.close().await.unwrap();
            assert_eq!(sink.feed(Bytes::new()).await, Err(WriteError::Closed));
        };
        let (_, read) = tokio::join!(writer, records.collect::<Vec<_>>());
        assert_eq!(read.len(), count);
        assert!(
            read.into_iter()
                .enumerate()
                .all(|(i, r)| r == Ok(vec![i as u8; i].into()))
        );
    })
    .await;
}

#[tokio::test]
async fn a_stream_of_records_ends_with_its_first_error() {
    within(10, async {
        let Pair { mut ours, theirs, .. } = pair().await;
        ours.write_record(b"good").await.unwrap();
        ours.write_record(b"much too long").await.unwrap();
        let (_sink, mut records) = theirs.into_records();
        records.get_mut().set_record_limit(4);
        let read: Vec<_> = records.by_ref().collect().await;
        let expected = [Ok(Bytes::from_static(b"good")), Err(RecordError::TooLarge { limit: 4 })];
        assert_eq!(read, expected);
        assert_eq!(records.next().await, None);
    })
    .await;
}
