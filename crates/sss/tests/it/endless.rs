//! Times without an end: `Duration::MAX` is a time like any other.

use std::time::Duration;

use sss::{Host, Identity};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn no_time_is_too_long() {
    // A driver that has panicked says nothing.
    tokio::time::timeout(60 * SECOND, talk()).await.unwrap();
}

async fn talk() {
    let host = || {
        let builder = Host::builder().bind("127.0.0.1:0").renew(Duration::MAX);
        let builder = builder.idle_timeout(Duration::MAX).keepalive(Duration::MAX);
        builder.linger(Duration::MAX).connect_timeout(Duration::MAX).build()
    };
    let (server, client) = (host().await.unwrap(), host().await.unwrap());
    let at = server.local_addr();
    let listener = server.listen("echo", "1").unwrap();
    let connect = client.connect(server.eid(), "echo", "1").hint(at);
    let stream = connect.timeout(Duration::MAX).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    client.connect(server.eid(), "echo", "1").hint(at).await.unwrap();
    // So many that the pace, for all that time, is more bytes than there are numbers.
    for _ in 0..50 {
        let message = vec![7; 100_000];
        let sending = stream.send_datagram(message.clone()).deadline(Duration::MAX);
        sending.await.unwrap();
        assert_eq!(accepted.recv_datagram().await.unwrap().unwrap(), message);
    }

    let stranger = Identity::generate().eid();
    let waiting = client.connect(stranger, "echo", "1").hint(at).timeout(Duration::MAX);
    assert!(tokio::time::timeout(SECOND / 10, waiting).await.is_err());
    let asked = client.probe(at, Duration::MAX);
    assert!(tokio::time::timeout(SECOND / 10, asked).await.is_err());
    drop((stream, accepted));
    client.close_within(Duration::MAX).await.unwrap();
}
