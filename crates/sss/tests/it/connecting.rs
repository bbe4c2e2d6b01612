//! Reaching peers, and failing to.

use std::future::IntoFuture;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use sss::{
    CloseReason, ConnectError, Identity, ListenError, NegotiationError, ProbeError, ReadError, Refusal, WriteError,
};

use crate::common::{Pair, builder, host, pair, within};

#[tokio::test]
async fn nobody_there_is_told_after_the_timeout() {
    within(20, async {
        let client = host().await;
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let start = Instant::now();
        let connect = client.connect(Identity::generate().eid(), "test", "1").hint(address);
        let error = connect.timeout(Duration::from_millis(300)).await.unwrap_err();
        assert!(start.elapsed() >= Duration::from_millis(300) && start.elapsed() < Duration::from_secs(3));
        match error {
            ConnectError::Negotiation(NegotiationError::NoAnswer { addresses, .. }) => {
                assert_eq!(
                    addresses.iter().map(|tried| tried.route).collect::<Vec<_>>(),
                    [address.into()]
                );
            }
            other => panic!("{other:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_there_is_told_by_the_hosts_own_timeout_to_open_streams_too() {
    within(20, async {
        let client = builder()
            .connect_timeout(Duration::from_millis(500))
            .build()
            .await
            .unwrap();
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let eid = Identity::generate().eid();
        let mut early = client.connect(eid, "test", "1").hint(address).open().unwrap();
        early.write_all(b"into the void").await.unwrap();
        let error = client.connect(eid, "test", "1").hint(address).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::Negotiation(NegotiationError::NoAnswer { .. })),
            "{error:?}"
        );
        match early.read_chunk(1).await {
            Err(ReadError::Lost(CloseReason::Negotiation(NegotiationError::NoAnswer { .. }))) => {}
            other => panic!("{other:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn a_wrong_eid_is_not_answered() {
    within(20, async {
        let (client, other) = (host().await, host().await);
        let connect = client
            .connect(Identity::generate().eid(), "test", "1")
            .hint(other.local_addr());
        let error = connect.timeout(Duration::from_millis(300)).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::Negotiation(NegotiationError::NoAnswer { .. })),
            "{error:?}"
        );
        assert!(client.peers().is_empty() && other.peers().is_empty());
    })
    .await;
}

#[tokio::test]
async fn no_address_and_own_eid_are_told_at_once() {
    within(5, async {
        let client = host().await;
        let error = client
            .connect(Identity::generate().eid(), "test", "1")
            .await
            .unwrap_err();
        assert_eq!(error, ConnectError::Negotiation(NegotiationError::NoAddress));
        let own = client.connect(client.eid(), "test", "1").hint(client.local_addr());
        assert_eq!(
            own.await.unwrap_err(),
            ConnectError::Negotiation(NegotiationError::OwnEid)
        );
    })
    .await;
}

// spec: STR-9
#[tokio::test]
async fn refused_services_and_protocols_are_told_on_the_stream() {
    within(20, async {
        let Pair {
            client,
            host,
            mut ours,
            mut theirs,
            server: _server,
        } = pair().await;
        for (service, protocol, expected) in [("nothing", "1", Refusal::Service), ("test", "99", Refusal::Protocol)] {
            let mut stream = client.connect(host.eid(), service, protocol).await.unwrap();
            match stream.read_chunk(10).await {
                Err(ReadError::Refused(refusal)) => assert_eq!(refusal, expected),
                other => panic!("{other:?}"),
            }
            match stream.drained().await {
                Err(WriteError::Refused(refusal)) => assert_eq!(refusal, expected),
                other => panic!("{other:?}"),
            }
        }
        ours.write_all(b"unaffected").await.unwrap();
        ours.finish().unwrap();
        assert_eq!(&theirs.read_to_end(100).await.unwrap()[..], b"unaffected");
    })
    .await;
}

#[tokio::test]
async fn the_accept_filter_keeps_peers_out() {
    within(20, async {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let friend = Identity::generate();
        let allowed = friend.eid();
        let filter = move |eid: &sss::Eid, _| {
            counter.fetch_add(1, Ordering::Relaxed);
            *eid == allowed
        };
        let host = builder().accept_filter(filter).build().await.unwrap();
        let server = host.listen("test", "1").unwrap();

        let stranger = builder().build().await.unwrap();
        let connect = stranger.connect(host.eid(), "test", "1").hint(host.local_addr());
        match connect.await.unwrap_err() {
            ConnectError::Negotiation(NegotiationError::Forbidden { .. }) => {}
            other => panic!("{other:?}"),
        }
        assert!(asked.load(Ordering::Relaxed) >= 1);
        assert!(host.peers().is_empty());

        let friend = builder().identity(friend).build().await.unwrap();
        let connect = friend.connect(host.eid(), "test", "1").hint(host.local_addr());
        connect.await.unwrap();
        assert_eq!(server.accept().await.unwrap().1, friend.eid());
    })
    .await;
}

#[tokio::test]
async fn what_is_written_early_arrives() {
    within(10, async {
        let (client, host) = (host().await, host().await);
        let server = host.listen("test", "1").unwrap();
        let mut early = client
            .connect(host.eid(), "test", "1")
            .hint(host.local_addr())
            .open()
            .unwrap();
        let mut child = early.open_substream().unwrap();
        early.write_all(b"early").await.unwrap();
        early.finish().unwrap();
        child.write_all(&[1; 20_000]).await.unwrap();
        child.finish().unwrap();
        let (mut stream, _) = server.accept().await.unwrap();
        assert_eq!(&stream.read_to_end(100).await.unwrap()[..], b"early");
        let mut child = stream.accept_substream().await.unwrap().unwrap();
        assert_eq!(child.read_to_end(1 << 20).await.unwrap().len(), 20_000);
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_connect_opens_no_stream() {
    within(20, async {
        let (client, host) = (host().await, host().await);
        let server = host.listen("test", "1").unwrap();
        let connect = || client.connect(host.eid(), "test", "1").hint(host.local_addr());
        let mut cancelled = connect().into_future();
        let once = std::future::poll_fn(|cx| Poll::Ready(cancelled.as_mut().poll(cx).is_pending()));
        assert!(once.await);
        drop(cancelled);
        let mut second = connect().await.unwrap();
        second.write_all(b"second").await.unwrap();
        second.finish().unwrap();
        loop {
            let (mut stream, _) = server.accept().await.unwrap();
            // The cancelled one may be seen, as reset.
            match stream.read_to_end(100).await {
                Ok(bytes) => {
                    assert_eq!(&bytes[..], b"second");
                    break;
                }
                Err(error) => assert!(
                    matches!(error, sss::ReadToEndError::Read(ReadError::Reset { .. })),
                    "{error:?}"
                ),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_probe_tells_who_is_there_and_wants_to_be_found() {
    within(10, async {
        let (client, host) = (host().await, builder().answer_probes(true).build().await.unwrap());
        let server = host.listen("test", "1").unwrap();
        let answer = client.probe(host.local_addr(), Duration::from_secs(5)).await;
        assert_eq!(answer, Ok(host.eid()));
        drop(server);
        let _server = client.listen("test", "1").unwrap();
        let wait = Duration::from_millis(300);
        for (asking, silent) in [(&client, &host), (&host, &client)] {
            let answer = asking.probe(silent.local_addr(), wait).await;
            assert!(matches!(answer, Err(ProbeError::NoAnswer { .. })), "{answer:?}");
        }
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let after = Duration::from_millis(300);
        assert_eq!(
            client.probe(address, after).await,
            Err(ProbeError::NoAnswer { address, after })
        );
    })
    .await;
}

#[tokio::test]
async fn a_service_is_offered_once_and_only_while_its_server_lives() {
    within(10, async {
        let Pair {
            client, host, server, ..
        } = pair().await;
        assert!(matches!(host.listen("test", "1"), Err(ListenError::Taken(..))));
        assert_eq!(host.listen("", "1").unwrap_err(), ListenError::BadName);
        assert_eq!((server.service(), server.protocol()), ("test", "1"));
        let mut waiting = client.connect(host.eid(), "test", "1").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(server);
        assert!(matches!(
            waiting.read_chunk(1).await,
            Err(ReadError::Refused(Refusal::Service))
        ));
        host.listen("test", "1").unwrap();
    })
    .await;
}

#[tokio::test]
async fn names_are_looked_up_and_all_their_addresses_tried() {
    within(20, async {
        let Pair { host, server, .. } = pair().await;
        let client = client_for_names().await;
        let name = format!("localhost:{}", host.local_addr().port());
        // The other hints lead nowhere, and do no harm.
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let connect = client
            .connect(host.eid(), "test", "1")
            .hints([name.as_str(), "..:1"])
            .hint(silent.local_addr().unwrap());
        let _stream = connect.await.unwrap();
        let _ = server.accept().await.unwrap();
        // Once there is a channel, nothing is looked up.
        let _second = client.connect(host.eid(), "test", "1").hint("..:1").await.unwrap();
        let _third = client.connect(host.eid(), "test", "1").hint("..:1").open().unwrap();
        let services = client.services_of(host.eid()).hint("..:1").await.unwrap();
        assert_eq!(services.services.len(), 1);
    })
    .await;
}

/// A host that can send to all addresses that a name may have.
async fn client_for_names() -> sss::Host {
    match builder().bind("[::]:0").build().await {
        Ok(host) => host,
        Err(_) => host().await,
    }
}

#[tokio::test]
async fn a_name_that_cannot_be_looked_up_is_named_in_the_error() {
    within(20, async {
        let client = host().await;
        let eid = Identity::generate().eid();
        let connect = || client.connect(eid, "test", "1").timeout(Duration::from_millis(300));
        let error = connect().hint("..:1").await.unwrap_err();
        match &error {
            ConnectError::Unresolved { names, error: None, .. } => assert_eq!(names[0].name, "..:1"),
            other => panic!("{other:?}"),
        }
        assert!(error.to_string().contains("\"..:1\": "), "{error}");

        // With an address, that is tried; the error tells of both.
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let error = connect().hint("..:1").hint(address).await.unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("\"..:1\": ") && said.contains(&address.to_string()),
            "{said}"
        );
        assert!(
            matches!(error, ConnectError::Unresolved { error: Some(_), .. }),
            "{said}"
        );
    })
    .await;
}

#[tokio::test]
async fn open_does_not_wait_for_names() {
    within(20, async {
        let Pair {
            host, server: _server, ..
        } = pair().await;
        let client = crate::common::host().await;
        let name = format!("localhost:{}", host.local_addr().port());
        let connect = || client.connect(host.eid(), "test", "1").hint(name.as_str());
        let error = connect().open().unwrap_err();
        assert!(matches!(error, ConnectError::Unresolved { .. }), "{error:?}");
        let mut stream = connect().resolve().await.unwrap().open().unwrap();
        stream.write_all(b"early").await.unwrap();
        stream.acknowledged().await.unwrap();
    })
    .await;
}

/// Both at once, or nearly, again and again (NEG-18).
#[tokio::test]
async fn hosts_that_call_each_other_at_once_come_to_one_channel() {
    async fn echo(server: sss::Server) {
        while let Ok((mut stream, _)) = server.accept().await {
            let said = stream.read_to_end(100).await.unwrap();
            stream.write_all(&said).await.unwrap();
            stream.finish().unwrap();
            let _ = stream.drained().await;
        }
    }
    async fn call(from: &sss::Host, to: &sss::Host, after: Duration) {
        tokio::time::sleep(after).await;
        let mut stream = from.connect(to.eid(), "test", "1").hint(to.local_addr()).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.finish().unwrap();
        assert_eq!(&stream.read_to_end(100).await.unwrap()[..], b"hello", "after {after:?}");
    }
    within(60, async {
        for round in 0..48_u64 {
            let (one, other) = (host().await, host().await);
            for host in [&one, &other] {
                tokio::spawn(echo(host.listen("test", "1").unwrap()));
            }
            // From nothing to 3 ms: all that the negotiation takes here.
            let (early, late) = (Duration::ZERO, Duration::from_micros(round / 2 * 125));
            let (first, second) = if round % 2 == 0 { (early, late) } else { (late, early) };
            tokio::join!(call(&one, &other, first), call(&other, &one, second));
            let peers = (one.peers(), other.peers());
            assert_eq!((peers.0.len(), peers.1.len()), (1, 1), "round {round}");
            tokio::join!(call(&one, &other, early), call(&other, &one, early));
            let made = [&one, &other].map(|host| host.stats().channels_made);
            assert_eq!(made, [1, 1], "round {round}");
        }
    })
    .await;
}
