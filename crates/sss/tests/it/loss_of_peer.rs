//! Peers that vanish without a word.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sss::{CloseReason, Host, Identity, ReadError, Server, Stream};
use tokio::runtime::Runtime;

use crate::common::{Pair, builder, pair, within};

/// A host on a runtime of its own, which can be taken away as a killed process is.
struct Mortal {
    runtime: Option<Runtime>,
    host: Host,
    server: Server,
}

impl Mortal {
    async fn start(identity: &Identity, address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let build = builder().identity(identity.clone()).bind(address).build();
        let host = runtime.spawn(build).await.unwrap().unwrap();
        let server = host.listen("test", "1").unwrap();
        Self {
            runtime: Some(runtime),
            host,
            server,
        }
    }

    fn address(&self) -> SocketAddr {
        self.host.local_addr()
    }

    /// No CLOSE is sent: the driver is gone before it could.
    fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn connect(client: &Host, mortal: &Mortal) -> (Stream, Stream) {
    let connect = client.connect(mortal.host.eid(), "test", "1").hint(mortal.address());
    let ours = connect.await.unwrap();
    let (theirs, _) = mortal.server.accept().await.unwrap();
    (ours, theirs)
}

#[tokio::test]
async fn silence_ends_the_channel_as_idle() {
    within(20, async {
        let identity = Identity::generate();
        let mortal = Mortal::start(&identity, "127.0.0.1:0").await;
        let client = builder()
            .idle_timeout(Duration::from_millis(500))
            .linger(Duration::ZERO)
            .build()
            .await
            .unwrap();
        let (mut ours, theirs) = connect(&client, &mortal).await;

        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert!(ours.peer().is_connected(), "open streams keep the channel alive");

        let peer = ours.peer();
        tokio::task::spawn_blocking(move || mortal.kill()).await.unwrap();
        let start = Instant::now();
        match ours.read_chunk(10).await {
            Err(ReadError::Lost(CloseReason::Idle(after))) => assert_eq!(after, Duration::from_millis(500)),
            other => panic!("{other:?}"),
        }
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        assert!(matches!(peer.closed().await, CloseReason::Idle(_)));
        drop(theirs);
    })
    .await;
}

// spec: PRT-13
#[tokio::test]
async fn a_restarted_peer_is_noticed_quickly() {
    within(20, async {
        let identity = Identity::generate();
        let mortal = Mortal::start(&identity, "127.0.0.1:0").await;
        let address = mortal.address();
        let client = builder().build().await.unwrap();
        let (mut ours, theirs) = connect(&client, &mortal).await;
        tokio::task::spawn_blocking(move || mortal.kill()).await.unwrap();
        drop(theirs);

        let again = Mortal::start(&identity, &address.to_string()).await;
        let start = Instant::now();
        // Large enough a packet to be answered with a stateless reset (PRT-12).
        ours.write_all(&[b'?'; 100]).await.unwrap();
        match ours.read_chunk(10).await {
            Err(ReadError::Lost(CloseReason::PeerRestarted)) => {}
            other => panic!("{other:?}"),
        }
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());

        let (mut ours, mut theirs) = connect(&client, &again).await;
        ours.write_all(b"here I am").await.unwrap();
        ours.finish().unwrap();
        assert_eq!(&theirs.read_to_end(100).await.unwrap()[..], b"here I am");
        tokio::task::spawn_blocking(move || again.kill()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn handles_of_a_host_without_a_driver_do_not_hang() {
    within(20, async {
        let identity = Identity::generate();
        let mortal = Mortal::start(&identity, "127.0.0.1:0").await;
        let client = builder().build().await.unwrap();
        let (_ours, mut theirs) = connect(&client, &mortal).await;
        let host = mortal.host.clone();
        let reading = tokio::spawn(async move { theirs.read_chunk(10).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        tokio::task::spawn_blocking(move || mortal.kill()).await.unwrap();
        assert!(matches!(
            reading.await.unwrap(),
            Err(ReadError::Lost(CloseReason::Local { .. }))
        ));
        assert!(host.is_closed());
        host.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_is_asked_for_after_the_end_is_told_at_once() {
    within(20, async {
        let Pair { ours, theirs, .. } = pair().await;
        let peer = ours.peer();
        peer.close(7, "enough");
        let reason = peer.closed().await;
        assert_eq!(peer.closed().await, reason);
        // The stream is held, so the peer is known.
        let mut link = peer.link();
        assert_eq!(link.changed().await, None);
        assert_eq!(link.status(), sss::LinkStatus::Down(reason));
        assert!(ours.accept_substream().await.is_err() && ours.recv_datagram().await.is_err());
        assert!(ours.drained().await.is_err() && ours.consumed().await.is_err());
        assert!(ours.sent().await.is_err() && ours.acknowledged().await.is_err());
        drop(theirs);
    })
    .await;
}
