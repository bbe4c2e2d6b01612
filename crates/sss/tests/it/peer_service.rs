//! One conversation with each peer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sss::{
    AttemptError, CloseReason, Code, Eid, Host, HostBuilder, Identity, OfflineReason, PeerEvent, PeerService,
    PeerServiceError, ReadError, Refusal, Stream, WriteError,
};

use crate::common::{builder, host, within};

/// A host with its service.
struct Node {
    host: Host,
    service: PeerService,
}

impl Node {
    async fn new() -> Self {
        Self::with(builder()).await
    }

    async fn with(builder: HostBuilder) -> Self {
        let host = builder.build().await.unwrap();
        let service = host.peer_service("talk", "1").unwrap();
        Self { host, service }
    }

    fn eid(&self) -> Eid {
        self.host.eid()
    }

    fn address(&self) -> SocketAddr {
        self.host.local_addr()
    }

    fn dial(&self, other: &Node) {
        self.service.connect_peer(other.eid(), [other.address()]);
    }

    async fn online(&self, peer: Eid) -> Stream {
        loop {
            match self.service.next().await.unwrap() {
                PeerEvent::Online { eid, stream } => {
                    assert_eq!(eid, peer);
                    return stream;
                }
                PeerEvent::Retrying { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn offline(&self, peer: Eid) -> OfflineReason {
        match self.service.next().await.unwrap() {
            PeerEvent::Offline { eid, reason } => {
                assert_eq!(eid, peer);
                reason
            }
            other => panic!("{other:?}"),
        }
    }

    async fn nothing(&self, for_millis: u64) {
        let event = tokio::time::timeout(Duration::from_millis(for_millis), self.service.next()).await;
        assert!(event.is_err(), "{event:?}");
    }
}

/// Both ends belong to the same conversation.
async fn talk(one: &mut Stream, other: &mut Stream) {
    for (from, to) in [(0, 1), (1, 0)] {
        let ends = [&mut *one, &mut *other];
        ends[from].write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        ends[to].read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
    }
}

// spec: SVC-8
#[tokio::test]
async fn both_dial_at_once_and_one_conversation_comes_of_it() {
    within(60, async {
        for _ in 0..20 {
            let (a, b) = (Node::new().await, Node::new().await);
            a.dial(&b);
            b.dial(&a);
            let (mut ours, mut theirs) = tokio::join!(a.online(b.eid()), b.online(a.eid()));
            talk(&mut ours, &mut theirs).await;
            tokio::join!(a.nothing(50), b.nothing(50));
            assert_eq!((ours.peer().stream_count(), theirs.peer().stream_count()), (1, 1));
        }
    })
    .await;
}

#[tokio::test]
async fn both_dial_at_once_over_a_channel_that_is_there() {
    within(60, async {
        let (a, b) = (Node::new().await, Node::new().await);
        let keep = a.host.connect(b.eid(), "talk", "2").hint(b.address());
        let _kept = keep.await.unwrap();
        for _ in 0..20 {
            a.dial(&b);
            b.dial(&a);
            let (mut ours, mut theirs) = tokio::join!(a.online(b.eid()), b.online(a.eid()));
            talk(&mut ours, &mut theirs).await;
            a.service.forget(&b.eid());
            b.service.forget(&a.eid());
            // One of them learns it from the other, if the other was first.
            let reasons = tokio::join!(a.offline(b.eid()), b.offline(a.eid()));
            assert_eq!(reasons, (OfflineReason::Forgotten, OfflineReason::Forgotten));
        }
    })
    .await;
}

#[tokio::test]
async fn one_side_dials_and_both_hear_of_it() {
    within(20, async {
        let (a, b) = (Node::new().await, Node::new().await);
        a.dial(&b);
        let (mut ours, mut theirs) = tokio::join!(a.online(b.eid()), b.online(a.eid()));
        talk(&mut ours, &mut theirs).await;
        // Dropped at the side that did not ask for it: the other one asks again.
        drop(theirs);
        assert_eq!(b.offline(a.eid()).await, OfflineReason::Dropped);
        assert!(matches!(ours.read(&mut [0]).await, Err(ReadError::Reset { .. })));
        drop(ours);
        assert_eq!(a.offline(b.eid()).await, OfflineReason::Dropped);
        let (mut ours, mut theirs) = tokio::join!(a.online(b.eid()), b.online(a.eid()));
        talk(&mut ours, &mut theirs).await;
    })
    .await;
}

#[tokio::test]
async fn a_restarted_peer_is_offline_then_online() {
    within(20, async {
        let identity = Identity::generate();
        let a = Node::with(builder().keepalive(Duration::from_millis(300))).await;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let b = Node::with(builder().identity(identity.clone()));
        let b = runtime.spawn(b).await.unwrap();
        let address = b.address();
        a.dial(&b);
        let (mut ours, theirs) = tokio::join!(a.online(b.eid()), b.online(a.eid()));
        // No CLOSE is sent: the driver is gone before it could.
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(5)))
            .await
            .unwrap();
        drop((theirs, b));
        let again = Node::with(builder().identity(identity.clone()).bind(address)).await;
        let reason = a.offline(identity.eid()).await;
        assert_eq!(reason, OfflineReason::Lost(CloseReason::PeerRestarted));
        assert_eq!(
            ours.read(&mut [0]).await,
            Err(ReadError::Lost(CloseReason::PeerRestarted))
        );
        drop(ours);
        let (mut ours, mut theirs) = tokio::join!(a.online(again.eid()), again.online(a.eid()));
        talk(&mut ours, &mut theirs).await;
    })
    .await;
}

// spec: SVC-7
#[tokio::test]
async fn who_takes_a_stream_says_so_with_a_byte_and_nothing_else_will_do() {
    within(20, async {
        let (a, plain) = (Node::new().await, host().await);
        // Somebody who speaks the convention without the type.
        let connecting = plain.connect(a.eid(), "talk", "1").hint(a.address());
        let mut opened = connecting.await.unwrap();
        let mut taken = a.online(plain.eid()).await;
        let mut first = [0];
        opened.read_exact(&mut first).await.unwrap();
        assert_eq!(first, [1]);
        talk(&mut opened, &mut taken).await;
        drop((opened, taken));
        assert_eq!(a.offline(plain.eid()).await, OfflineReason::Dropped);

        let server = plain.listen("talk", "1").unwrap();
        for answer in [&[2_u8][..], &[]] {
            a.service.connect_peer(plain.eid(), [plain.local_addr()]);
            let (mut stream, _) = server.accept().await.unwrap();
            stream.write_all(answer).await.unwrap();
            stream.finish().unwrap();
            let event = a.service.next().await.unwrap();
            let PeerEvent::Retrying { error, .. } = event else {
                panic!("{event:?}");
            };
            assert_eq!(error, AttemptError::NoAnswer);
        }
    })
    .await;
}

#[tokio::test]
async fn a_refused_service_is_asked_for_less_and_less_often() {
    within(20, async {
        let (a, b) = (Node::new().await, host().await);
        a.service.connect_peer(b.eid(), [b.local_addr()]);
        let mut longest = Duration::from_millis(250);
        let mut last = None;
        for _ in 0..4 {
            match a.service.next().await.unwrap() {
                PeerEvent::Retrying { eid, error, after } => {
                    assert_eq!(eid, b.eid());
                    let refused = ReadError::Refused(Refusal::Service);
                    assert_eq!(error, AttemptError::Read(refused));
                    assert!(after >= longest / 2 && after <= longest, "{after:?}");
                    if let Some((when, wait)) = last.replace((Instant::now(), after)) {
                        assert!(
                            when.elapsed() + Duration::from_millis(5) >= wait,
                            "{:?}",
                            when.elapsed()
                        );
                    }
                    longest *= 2;
                }
                other => panic!("{other:?}"),
            }
        }
        // It appears, and is found at once by whoever asks.
        let service = b.peer_service("talk", "1").unwrap();
        a.service.connect_peer(b.eid(), []);
        let asked = Instant::now();
        let _ours = a.online(b.eid()).await;
        assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
        assert!(matches!(service.next().await, Some(PeerEvent::Online { .. })));
    })
    .await;
}

#[tokio::test]
async fn a_peer_without_an_address_is_retried_until_it_has_one() {
    within(20, async {
        let (a, b) = (Node::new().await, Node::new().await);
        a.service.connect_peer(b.eid(), []);
        match a.service.next().await {
            Some(PeerEvent::Retrying {
                error: AttemptError::Connect(_),
                ..
            }) => {}
            other => panic!("{other:?}"),
        }
        a.dial(&b);
        a.online(b.eid()).await;
    })
    .await;
}

// spec: SVC-8
#[tokio::test]
async fn a_forgotten_peer_is_let_go_and_not_asked_again() {
    within(20, async {
        let (a, b) = (Node::new().await, Node::new().await);
        a.dial(&b);
        let (mut ours, mut theirs) = tokio::join!(a.online(b.eid()), b.online(a.eid()));
        let reading = tokio::spawn(async move { (ours.read(&mut [0]).await, ours) });
        tokio::task::yield_now().await;
        a.service.forget(&b.eid());
        assert_eq!(a.offline(b.eid()).await, OfflineReason::Forgotten);
        let (read, mut ours) = reading.await.unwrap();
        assert_eq!(read, Err(ReadError::Closed));
        assert_eq!(ours.write(b"x").await, Err(WriteError::Closed));
        match theirs.read(&mut [0]).await {
            Err(ReadError::Reset { code, .. }) => assert_eq!(code, Code::app(PeerService::FORGOTTEN)),
            other => panic!("{other:?}"),
        }
        drop(theirs);
        assert_eq!(b.offline(a.eid()).await, OfflineReason::Dropped);
        tokio::join!(a.nothing(700), b.nothing(700));
        // The peer may come back by itself.
        b.dial(&a);
        let _both = tokio::join!(a.online(b.eid()), b.online(a.eid()));
    })
    .await;
}

// spec: SVC-8
#[tokio::test]
async fn a_conversation_that_is_held_on_to_is_replaced() {
    within(20, async {
        let (a, b) = (Node::new().await, Node::new().await);
        b.dial(&a);
        let (ours, theirs) = tokio::join!(a.online(b.eid()), b.online(a.eid()));
        drop(theirs);
        assert_eq!(b.offline(a.eid()).await, OfflineReason::Dropped);
        // Nobody reads it here.
        assert_eq!(a.offline(b.eid()).await, OfflineReason::Replaced);
        let (mut next, mut theirs) = tokio::join!(a.online(b.eid()), b.online(a.eid()));
        talk(&mut next, &mut theirs).await;
        drop(ours);
    })
    .await;
}

#[tokio::test]
async fn a_service_ends_with_its_host_or_its_handle() {
    within(20, async {
        let (a, b) = (Node::new().await, Node::new().await);
        assert!(matches!(
            a.host.peer_service("talk", "1"),
            Err(PeerServiceError::Listen(_))
        ));
        a.dial(&b);
        let (mut ours, mut theirs) = tokio::join!(a.online(b.eid()), b.online(a.eid()));
        drop(a.service);
        talk(&mut ours, &mut theirs).await;
        // Its name is free again, once its tasks have ended.
        while a.host.peer_service("talk", "1").is_err() {
            tokio::task::yield_now().await;
        }
        b.host.close_within(Duration::ZERO).await.ok();
        while b.service.next().await.is_some() {}
    })
    .await;
}

#[test]
fn without_a_runtime_there_is_no_service() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let host = runtime.block_on(host());
    assert_eq!(host.peer_service("talk", "1").unwrap_err(), PeerServiceError::NoRuntime);
}
