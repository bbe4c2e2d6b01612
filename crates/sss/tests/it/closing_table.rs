//! The table of closing (STR-50): a test for each row; each cell is named where it is checked.

use std::time::Duration;

use sss::{
    CloseReason, Code, HostCloseError, OpenError, ReadError, ReadToEndError, Refusal, Stream, StreamCloseError,
    WriteError,
};

use crate::common::{Pair, Relay, builder, pair, within};

/// A stream, and a child of it that both sides hold.
struct Family {
    pair: Pair,
    our_child: Stream,
    their_child: Stream,
}

async fn family() -> Family {
    let pair = pair().await;
    let our_child = pair.ours.open_substream().unwrap();
    let their_child = pair.theirs.accept_substream().await.unwrap().unwrap();
    Family {
        pair,
        our_child,
        their_child,
    }
}

/// Whether data passes from one end to the other.
async fn passes(from: &mut Stream, to: &mut Stream) -> bool {
    let mut byte = [0];
    from.write_all(b"x").await.is_ok() && to.read_exact(&mut byte).await.is_ok() && byte == *b"x"
}

/// The error of writing, once it comes.
async fn write_error(stream: &mut Stream) -> WriteError {
    loop {
        if let Err(error) = stream.write(b"x").await {
            return error;
        }
        tokio::task::yield_now().await;
    }
}

fn is_stopped(error: &WriteError, expected: Code) -> bool {
    matches!(error, WriteError::Stopped { code, .. } if *code == expected)
}

fn is_reset(error: &Result<Option<bytes::Bytes>, ReadError>, expected: Code) -> bool {
    matches!(error, Err(ReadError::Reset { code, .. }) if *code == expected)
}

fn is_shutdown(reason: &CloseReason) -> bool {
    let (CloseReason::Local { code, .. } | CloseReason::Peer { code, .. }) = reason else {
        return false;
    };
    *code == Code::SHUTDOWN
}

// spec: STR-50 A1 A2 A3 A4 A5 A6
#[tokio::test]
async fn finish() {
    within(20, async {
        let mut f = family().await;
        let (ours, theirs) = (&mut f.pair.ours, &mut f.pair.theirs);
        ours.write_all(b"all").await.unwrap();
        ours.finish().unwrap();
        assert_eq!(ours.write(b"x").await, Err(WriteError::Closed), "A1");
        ours.drained().await.unwrap();
        assert_eq!(&theirs.read_to_end(10).await.unwrap()[..], b"all", "A3");
        ours.consumed().await.expect("A6");
        assert!(passes(theirs, ours).await, "A2, A4");
        assert!(passes(&mut f.our_child, &mut f.their_child).await, "A5");
        assert!(passes(&mut f.their_child, &mut f.our_child).await, "A5");
    })
    .await;
}

// spec: STR-50 B1 B2 B3 B4 B5 B6
#[tokio::test]
async fn drop_of_the_handle() {
    within(20, async {
        let mut f = family().await;
        let waiting = f.pair.theirs.open_substream();
        let mut waiting = waiting.unwrap();
        waiting.write_all(b"to nobody").await.unwrap();
        f.pair.ours.write_all(b"half").await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        drop(f.pair.ours);
        let theirs = &mut f.pair.theirs;
        loop {
            match theirs.read_chunk(10).await {
                Ok(Some(_)) => {}
                end => {
                    assert!(is_reset(&end, Code::DROPPED), "B1, B3: {end:?}");
                    break;
                }
            }
        }
        let stopped = write_error(theirs).await;
        assert!(is_stopped(&stopped, Code::UNREAD), "B2, B4: {stopped:?}");
        assert!(passes(&mut f.our_child, &mut f.their_child).await, "B5");
        assert_eq!(
            waiting.read_chunk(1).await,
            Err(ReadError::Refused(Refusal::NoListener)),
            "B5"
        );

        // Finished, and read to its end: then it only looks finished and read. Nothing is awaited (B6).
        let Pair {
            mut ours,
            mut theirs,
            client: _client,
            host: _host,
            ..
        } = pair().await;
        theirs.write_all(b"read").await.unwrap();
        theirs.finish().unwrap();
        ours.read_exact(&mut [0; 4]).await.unwrap();
        theirs.drained().await.unwrap();
        ours.write_all(&[1; 50_000]).await.unwrap();
        ours.finish().unwrap();
        drop(ours);
        theirs.consumed().await.expect("B2, B4");
        assert_eq!(theirs.read_to_end(1 << 20).await.unwrap().len(), 50_000, "B1, B3");
    })
    .await;
}

// spec: STR-50 C1 C2 C3 C4 C5 C6
#[tokio::test]
async fn reset() {
    within(20, async {
        let mut f = family().await;
        let (ours, theirs) = (&mut f.pair.ours, &mut f.pair.theirs);
        ours.write_all(b"unread").await.unwrap();
        ours.reset(3);
        assert_eq!(ours.write(b"x").await, Err(WriteError::Closed), "C1");
        ours.drained().await.expect("C6");
        assert_eq!(ours.consumed().await, Err(WriteError::Closed), "C6");
        let end = theirs.read_chunk(10).await;
        assert!(is_reset(&end, Code::app(3)), "C3: {end:?}");
        assert!(passes(theirs, ours).await, "C2, C4");
        assert!(passes(&mut f.our_child, &mut f.their_child).await, "C5");
    })
    .await;
}

// spec: STR-50 D1 D2 D3 D4 D5 D6
#[tokio::test]
async fn stop() {
    within(20, async {
        let mut f = family().await;
        let (ours, theirs) = (&mut f.pair.ours, &mut f.pair.theirs);
        ours.stop(4);
        assert_eq!(ours.read_chunk(1).await, Err(ReadError::Closed), "D2");
        let stopped = write_error(theirs).await;
        assert!(is_stopped(&stopped, Code::app(4)), "D4: {stopped:?}");
        let drained = theirs.drained().await.unwrap_err();
        let consumed = theirs.consumed().await.unwrap_err();
        assert!(
            is_stopped(&drained, Code::app(4)) && is_stopped(&consumed, Code::app(4)),
            "D6"
        );
        assert!(passes(ours, theirs).await, "D1, D3");
        assert!(passes(&mut f.our_child, &mut f.their_child).await, "D5");
    })
    .await;
}

// spec: STR-50 E1 E2 E3 E4 E5 E6
#[tokio::test]
async fn reset_of_the_tree() {
    within(20, async {
        let mut f = family().await;
        let (ours, theirs) = (&mut f.pair.ours, &mut f.pair.theirs);
        ours.write_all(b"unread").await.unwrap();
        f.our_child.write_all(b"unread").await.unwrap();
        ours.reset_tree(5);
        for here in [&mut *ours, &mut f.our_child] {
            assert_eq!(here.write(b"x").await, Err(WriteError::Closed), "E1, E5");
            assert_eq!(here.read_chunk(1).await, Err(ReadError::Closed), "E2, E5");
            assert!(matches!(here.open_substream(), Err(OpenError::Reset { .. })), "E5");
            here.drained().await.expect("E6");
        }
        for there in [theirs, &mut f.their_child] {
            let end = loop {
                match there.read_chunk(10).await {
                    Ok(Some(_)) => {}
                    end => break end,
                }
            };
            assert!(is_reset(&end, Code::app(5)), "E3, E5: {end:?}");
            let stopped = write_error(there).await;
            assert!(is_stopped(&stopped, Code::app(5)), "E4, E5: {stopped:?}");
            assert!(matches!(there.open_substream(), Err(OpenError::Reset { .. })), "E5");
        }
    })
    .await;
}

// spec: STR-50 F1 F2 F3 F4 F5 F6
#[tokio::test]
async fn close_of_a_stream() {
    within(20, async {
        let mut f = family().await;
        f.pair.ours.write_all(&[1; 20_000]).await.unwrap();
        f.our_child.write_all(&[2; 20_000]).await.unwrap();
        match f.pair.ours.close().await {
            Err(StreamCloseError::Unfinished { streams: 1 }) => {}
            other => panic!("F5, F6: {other:?}"),
        }
        let theirs = &mut f.pair.theirs;
        // All has arrived before anything was read.
        assert_eq!(f.their_child.info().unwrap().received, 20_000, "F5");
        assert_eq!(theirs.read_to_end(1 << 20).await.unwrap().len(), 20_000, "F1, F3");
        let stopped = write_error(theirs).await;
        assert!(is_stopped(&stopped, Code::UNREAD), "F2, F4: {stopped:?}");
        f.their_child.read_exact(&mut vec![0; 20_000]).await.unwrap();
        assert!(passes(&mut f.our_child, &mut f.their_child).await, "F5");
        f.our_child.close().await.expect("F6");
    })
    .await;
}

// spec: STR-50 G1 G2 G3 G4 G5 G6
#[tokio::test]
async fn close_of_the_host() {
    within(20, async {
        let mut f = family().await;
        f.pair.ours.write_all(&[1; 5000]).await.unwrap();
        f.our_child.write_all(&[2; 5000]).await.unwrap();
        f.our_child.finish().unwrap();
        f.pair.theirs.write_all(b"arrived").await.unwrap();
        let mut stuck = f.pair.ours.open_substream().unwrap();
        let chunk = vec![0; 100_000];
        while let Ok(written) = tokio::time::timeout(Duration::from_millis(50), stuck.write_all(&chunk)).await {
            written.unwrap();
        }
        stuck.finish().unwrap();
        let closed = f.pair.client.close_within(Duration::from_millis(300)).await;
        assert!(
            matches!(closed, Err(HostCloseError { streams: 1, .. })),
            "G1, G6: {closed:?}"
        );
        let (ours, theirs) = (&mut f.pair.ours, &mut f.pair.theirs);
        assert!(
            matches!(ours.write(b"x").await, Err(WriteError::Lost(r)) if is_shutdown(&r)),
            "G1"
        );
        assert_eq!(&ours.read_chunk(100).await.unwrap().unwrap()[..], b"arrived", "G2");
        assert!(
            matches!(ours.read_chunk(1).await, Err(ReadError::Lost(r)) if is_shutdown(&r)),
            "G2"
        );
        assert_eq!(
            f.their_child.read_to_end(1 << 20).await.unwrap().len(),
            5000,
            "G1, G3, G5"
        );
        match theirs.read_to_end(1 << 20).await {
            Err(ReadToEndError::Read(ReadError::Lost(reason))) => assert!(is_shutdown(&reason), "G3"),
            other => panic!("G3: {other:?}"),
        }
        assert!(
            matches!(theirs.write(b"x").await, Err(WriteError::Lost(r)) if is_shutdown(&r)),
            "G4"
        );
        let below = f.our_child.read_chunk(1).await;
        assert!(matches!(below, Err(ReadError::Lost(r)) if is_shutdown(&r)), "G5");
    })
    .await;
}

// spec: STR-50 H1 H2 H3 H4 H5 H6
#[tokio::test]
async fn close_of_the_channels_of_a_peer() {
    within(20, async {
        let mut f = family().await;
        f.pair.theirs.write_all(b"arrived").await.unwrap();
        f.our_child.write_all(&[2; 5000]).await.unwrap();
        f.our_child.finish().unwrap();
        f.our_child.drained().await.unwrap();
        f.pair.ours.write_all(&[1; 5000]).await.unwrap();
        while f.pair.theirs.info().unwrap().received < 5000 || f.pair.ours.info().unwrap().received < 7 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Nothing is awaited (H6).
        f.pair.ours.peer().close(9, "enough");
        let (ours, theirs) = (&mut f.pair.ours, &mut f.pair.theirs);
        let is_own = |reason: &CloseReason| matches!(reason, CloseReason::Local { code, .. } if *code == Code::app(9));
        let is_theirs =
            |reason: &CloseReason| matches!(reason, CloseReason::Peer { code, .. } if *code == Code::app(9));
        assert!(
            matches!(ours.write(b"x").await, Err(WriteError::Lost(r)) if is_own(&r)),
            "H1"
        );
        assert_eq!(&ours.read_chunk(100).await.unwrap().unwrap()[..], b"arrived", "H2");
        assert!(
            matches!(ours.read_chunk(1).await, Err(ReadError::Lost(r)) if is_own(&r)),
            "H2"
        );
        theirs.read_exact(&mut vec![0; 5000]).await.expect("H3");
        assert!(
            matches!(theirs.read_chunk(1).await, Err(ReadError::Lost(r)) if is_theirs(&r)),
            "H3"
        );
        assert!(
            matches!(theirs.write(b"x").await, Err(WriteError::Lost(r)) if is_theirs(&r)),
            "H4"
        );
        assert_eq!(f.their_child.read_to_end(1 << 20).await.unwrap().len(), 5000, "H3, H5");
        let below = f.our_child.read_chunk(1).await;
        assert!(matches!(below, Err(ReadError::Lost(r)) if is_own(&r)), "H5");
    })
    .await;
}

// spec: STR-50 I1 I2 I3 I4 I5 I6
#[tokio::test]
async fn loss_of_the_peer() {
    within(20, async {
        let impatient = || {
            builder()
                .idle_timeout(Duration::from_millis(400))
                .linger(Duration::ZERO)
        };
        // Both live, and lose each other.
        let server = impatient().build().await.unwrap();
        let listener = server.listen("test", "1").unwrap();
        let relay = Relay::start(server.local_addr()).await;
        let client = impatient().build().await.unwrap();
        let connect = client.connect(server.eid(), "test", "1").hint(relay.address);
        let mut ours = connect.await.unwrap();
        let (mut theirs, _) = listener.accept().await.unwrap();
        let mut our_child = ours.open_substream().unwrap();
        our_child.write_all(b"all of it").await.unwrap();
        our_child.finish().unwrap();
        our_child.drained().await.unwrap();
        let mut their_child = theirs.accept_substream().await.unwrap().unwrap();
        relay.cut(true);
        let ours_waiting = tokio::spawn(async move {
            ours.write_all(b"x").await.unwrap();
            ours.finish().unwrap();
            let (drained, consumed) = tokio::join!(ours.drained(), ours.consumed());
            let read = ours.read_chunk(1).await;
            (drained, consumed, read, ours.close().await)
        });
        theirs.write_all(b"x").await.unwrap();
        assert!(
            matches!(theirs.read_chunk(1).await, Err(ReadError::Lost(CloseReason::Idle(_)))),
            "I3"
        );
        assert!(
            matches!(theirs.write(b"x").await, Err(WriteError::Lost(CloseReason::Idle(_)))),
            "I4"
        );
        assert_eq!(&their_child.read_to_end(100).await.unwrap()[..], b"all of it", "I2, I5");
        let (drained, consumed, read, closed) = ours_waiting.await.unwrap();
        assert!(
            matches!(drained, Err(WriteError::Lost(CloseReason::Idle(_)))),
            "I1, I6: {drained:?}"
        );
        assert!(
            matches!(consumed, Err(WriteError::Lost(CloseReason::Idle(_)))),
            "I6: {consumed:?}"
        );
        assert!(
            matches!(read, Err(ReadError::Lost(CloseReason::Idle(_)))),
            "I2: {read:?}"
        );
        assert!(
            matches!(
                closed,
                Err(StreamCloseError::Stream(WriteError::Lost(CloseReason::Idle(_))))
            ),
            "I6: {closed:?}"
        );
        assert!(matches!(our_child.read_chunk(1).await, Err(ReadError::Lost(_))), "I5");
    })
    .await;
}

/// Each cell of the table is cited by a test above, and checked in it.
#[test]
fn every_cell_is_cited() {
    let spec = include_str!("../../../../docs/spec/streams.md");
    let tests = include_str!("closing_table.rs");
    let rows: Vec<&str> = spec
        .lines()
        .skip_while(|line| !line.starts_with("**STR-50**"))
        .take_while(|line| !line.starts_with("**STR-51**"))
        .filter(|line| line.starts_with("| ") && line.contains("1: "))
        .collect();
    assert_eq!(rows.len(), 9);
    let cited: Vec<&str> = tests
        .lines()
        .filter(|line| line.starts_with("// spec: STR-50 "))
        .collect();
    for row in rows {
        let cells: Vec<&str> = row
            .split('|')
            .skip(2)
            .filter_map(|cell| cell.split_once(": "))
            .map(|c| c.0.trim())
            .collect();
        assert_eq!(cells.len(), 6, "{row}");
        for cell in cells {
            assert!(
                cited.iter().any(|line| line.split(' ').any(|word| word == cell)),
                "{cell} is not cited"
            );
            assert!(tests.matches(cell).count() >= 2, "{cell} is cited and not checked");
        }
    }
}
