//! A stream is what Tokio, and what is built on its traits, takes for a connection.

use sss::{ReadError, RecvHalf, SendHalf, Stream, WriteError};
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, copy_bidirectional, split,
};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{Pattern, pair, within};

fn is_io<T: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static>() {}

#[test]
fn streams_and_halves_are_what_runtimes_ask_for() {
    is_io::<Stream>();
    fn is_reader<T: AsyncRead + Unpin + Send + Sync + 'static>() {}
    fn is_writer<T: AsyncWrite + Unpin + Send + Sync + 'static>() {}
    is_reader::<RecvHalf>();
    is_writer::<SendHalf>();
}

#[tokio::test]
async fn a_tcp_connection_is_carried_over_a_stream() {
    within(30, async {
        let pair = pair().await;
        let mut theirs = pair.theirs;
        let mut ours = pair.ours;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            copy_bidirectional(&mut tcp, &mut ours).await.unwrap()
        });
        let answering = tokio::spawn(async move {
            let request = theirs.read_to_end(1 << 20).await.unwrap();
            theirs.write_all(&request[..1000]).await.unwrap();
            theirs.close().await.unwrap();
            request
        });
        let sent = Pattern::new(3).bytes(60_000);
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(&sent).await.unwrap();
        tcp.shutdown().await.unwrap();
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).await.unwrap();
        assert!(answer == sent[..1000]);
        assert!(answering.await.unwrap() == sent);
        assert_eq!(proxy.await.unwrap(), (sent.len() as u64, 1000));
    })
    .await;
}

#[tokio::test]
async fn lines_are_read_through_a_buffer_and_the_halves_of_tokio_work() {
    within(20, async {
        let pair = pair().await;
        let (read, mut write) = split(pair.ours);
        let echo = tokio::spawn(async move {
            let mut theirs = BufReader::new(pair.theirs);
            let mut line = String::new();
            while theirs.read_line(&mut line).await.unwrap() > 0 {
                AsyncWriteExt::write_all(&mut theirs, line.as_bytes()).await.unwrap();
                line.clear();
            }
            theirs.shutdown().await.unwrap();
            theirs.into_inner()
        });
        write.write_all(b"one\ntwo\nand no end").await.unwrap();
        write.shutdown().await.unwrap();
        let mut lines = BufReader::new(read).lines();
        for expected in ["one", "two", "and no end"] {
            assert_eq!(lines.next_line().await.unwrap().as_deref(), Some(expected));
        }
        assert_eq!(lines.next_line().await.unwrap(), None);
        echo.await.unwrap().close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn errors_of_the_traits_carry_those_of_the_stream() {
    within(20, async {
        let mut pair = pair().await;
        pair.theirs.reset(7);
        pair.theirs.stop(8);
        let read = AsyncReadExt::read_u8(&mut pair.ours).await.unwrap_err();
        let source = read.get_ref().and_then(|e| e.downcast_ref::<ReadError>());
        assert!(matches!(source, Some(ReadError::Reset { .. })), "{read:?}");
        let write = AsyncWriteExt::write_all(&mut pair.ours, b"x").await.unwrap_err();
        let source = write.get_ref().and_then(|e| e.downcast_ref::<WriteError>());
        assert!(matches!(source, Some(WriteError::Stopped { .. })), "{write:?}");
        let shutdown = AsyncWriteExt::shutdown(&mut pair.ours).await;
        assert!(shutdown.is_err(), "the peer asked for the stop");
    })
    .await;
}

#[tokio::test]
async fn to_shut_down_what_the_peer_has_dropped_is_no_error() {
    within(20, async {
        let mut pair = pair().await;
        AsyncWriteExt::write_all(&mut pair.ours, b"request").await.unwrap();
        let mut request = [0; 7];
        pair.theirs.read_exact(&mut request).await.unwrap();
        pair.theirs.finish().unwrap();
        drop(pair.theirs);
        // The peer is through with the stream, and has not waited for its end.
        let drained = pair.ours.drained().await;
        assert!(matches!(drained, Err(WriteError::Stopped { .. })), "{drained:?}");
        AsyncWriteExt::shutdown(&mut pair.ours).await.unwrap();
        assert!(AsyncWriteExt::write_all(&mut pair.ours, b"x").await.is_err());
        assert!(pair.ours.close().await.is_err(), "the end was not delivered");
    })
    .await;
}
