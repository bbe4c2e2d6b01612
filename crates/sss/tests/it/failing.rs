//! Hosts whose driver panics.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sss::{
    AcceptError, CloseReason, ConnectError, DriverMode, HostBuilder, Identity, ListenError, NegotiationError,
    OpenError, ProbeError, ReadError, ServicesError, WriteError,
};

use crate::common::{Pair, builder, host, pair_of, within};

/// A host whose filter panics once it is told to: the driver calls it.
fn fragile() -> (HostBuilder, Arc<AtomicBool>) {
    let panics = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&panics);
    let filter = move |_: &sss::Eid, _| {
        assert!(!told.load(Ordering::Relaxed), "a filter that panics");
        true
    };
    (builder().accept_filter(filter), panics)
}

async fn ends_with_a_reason_of_its_own(mode: DriverMode) {
    let (fragile, panics) = fragile();
    let Pair {
        client,
        host,
        server,
        mut ours,
        mut theirs,
    } = pair_of(builder(), fragile.driver(mode)).await;
    ours.write_all(b"before").await.unwrap();
    assert_eq!(theirs.read_chunk(6).await.unwrap().unwrap().len(), 6);
    let parent = theirs.open_substream().unwrap();
    let (peer, link) = (theirs.peer(), theirs.peer().link());
    let (gone, stopped, ended) = (theirs.peer_gone(), theirs.stopped(), host.stopped());
    let waiting = tokio::spawn(async move {
        let mut link = link;
        let (accepted, read, gone, closed, child, stopped, link, ()) = tokio::join!(
            server.accept(),
            theirs.read_chunk(10),
            gone,
            peer.closed(),
            parent.accept_substream(),
            stopped,
            link.changed(),
            ended
        );
        assert_eq!(accepted.err(), Some(AcceptError::HostFailed));
        assert_eq!(server.try_accept().err(), Some(AcceptError::HostFailed));
        assert_eq!(read, Err(ReadError::Lost(CloseReason::HostFailed)));
        assert_eq!([gone, closed], [CloseReason::HostFailed, CloseReason::HostFailed]);
        assert_eq!(child.err(), Some(CloseReason::HostFailed));
        assert_eq!(stopped, Err(WriteError::Lost(CloseReason::HostFailed)));
        assert!(link.is_none() || matches!(link, Some(sss::LinkStatus::Down(CloseReason::HostFailed))));
        assert_eq!(
            theirs.write_all(b"x").await,
            Err(WriteError::Lost(CloseReason::HostFailed))
        );
        assert_eq!(
            theirs.open_substream().err(),
            Some(OpenError::Lost(CloseReason::HostFailed))
        );
    });
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = Identity::generate().eid();
    let connecting = host.connect(nobody, "test", "1").hint(silent.local_addr().unwrap());
    let connecting = tokio::spawn(connecting.into_future());
    let asking = host.clone();
    let probing = tokio::spawn(async move {
        let address = silent.local_addr().unwrap();
        asking.probe(address, Duration::from_secs(20)).await
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!host.has_failed() && !host.is_closed());

    panics.store(true, Ordering::Relaxed);
    let other = crate::common::host().await;
    let told = other.connect(host.eid(), "test", "1").hint(host.local_addr()).open();
    waiting.await.unwrap();
    assert_eq!(connecting.await.unwrap().err(), Some(ConnectError::HostFailed));
    assert_eq!(probing.await.unwrap(), Err(ProbeError::HostFailed));
    assert!(host.has_failed() && host.is_closed());
    drop(told);

    // Whatever comes later is told at once.
    assert_eq!(host.listen("more", "1").err(), Some(ListenError::HostFailed));
    let late = host.connect(client.eid(), "test", "1").hint(client.local_addr());
    assert_eq!(late.await.err(), Some(ConnectError::HostFailed));
    let services = host.services_of(client.eid()).hint(client.local_addr()).await;
    assert_eq!(services, Err(ServicesError::Connect(ConnectError::HostFailed)));
    let probe = host.probe(client.local_addr(), Duration::from_secs(20)).await;
    assert_eq!(probe, Err(ProbeError::HostFailed));
    let closed = host.close().await.unwrap_err();
    assert!(
        closed.has_failed && closed.to_string().contains("its driver panicked"),
        "{closed}"
    );
}

#[tokio::test]
async fn a_driver_that_panics_ends_all_that_waits_with_a_reason_of_its_own() {
    within(30, ends_with_a_reason_of_its_own(DriverMode::Shared)).await;
    within(30, ends_with_a_reason_of_its_own(DriverMode::Dedicated)).await;
}

/// The port is free, and others go on.
#[tokio::test]
async fn another_host_takes_the_place_of_one_that_has_failed() {
    within(30, async {
        let (fragile, panics) = fragile();
        let identity = Identity::generate();
        let host = fragile.identity(identity.clone()).build().await.unwrap();
        let _server = host.listen("test", "1").unwrap();
        panics.store(true, Ordering::Relaxed);
        let (at, stopped) = (host.local_addr(), host.stopped());
        let client = crate::common::host().await;
        let connecting = tokio::spawn(client.connect(host.eid(), "test", "1").hint(at).into_future());
        stopped.await;
        let again = builder().identity(identity).bind(at).build().await.unwrap();
        let server = again.listen("test", "1").unwrap();
        let (accepted, stream) = tokio::join!(server.accept(), connecting);
        accepted.unwrap();
        stream.unwrap().unwrap();
        assert!(!client.has_failed());
    })
    .await;
}

/// A host that ends in order, or with its runtime, has not failed.
#[tokio::test]
async fn the_end_of_a_runtime_is_no_failure_of_the_host() {
    let other = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let host = runtime.block_on(host());
        // Dropped while its thread panics, as by a test that fails.
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _runtime = runtime;
            panic!("the application's own");
        }));
        assert!(panicked.is_err());
        host
    });
    let host = other.join().unwrap();
    assert!(host.is_closed() && !host.has_failed());
    assert_eq!(host.listen("test", "1").err(), Some(ListenError::HostClosed));
    let connect = host
        .connect(Identity::generate().eid(), "test", "1")
        .hint("127.0.0.1:9");
    assert_eq!(connect.await.err(), Some(ConnectError::HostClosed));
    assert!(!matches!(
        host.connect(host.eid(), "test", "1").hint("127.0.0.1:9").open(),
        Err(ConnectError::Negotiation(NegotiationError::OwnEid))
    ));
}
