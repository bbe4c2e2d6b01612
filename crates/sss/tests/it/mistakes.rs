//! Mistakes of programs, and how soon and in which words they are told.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use sss::{
    BuildError, ConnectError, Host, Identity, ListenError, NegotiationError, OpenError, ProbeError, ServicesError,
};

use crate::common::{Pair, builder, host, pair, within};

fn eid() -> sss::Eid {
    Identity::generate().eid()
}

fn words(error: &impl ToString, parts: &[&str]) {
    let text = error.to_string();
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
}

#[tokio::test]
async fn a_host_that_has_ended_says_so_to_every_call_at_once() {
    within(20, async {
        let Pair { client, host, .. } = pair().await;
        let late = [
            host.connect(client.eid(), "test", "1").hint("unknown.invalid:1"),
            host.connect(client.eid(), "test", "1").hint(client.local_addr()),
            host.connect(eid(), "", "1"),
        ];
        host.close().await.unwrap();
        for connect in late {
            assert_eq!(connect.await.err(), Some(ConnectError::HostClosed));
        }
        let connect = || host.connect(client.eid(), "test", "1").hint("unknown.invalid:1");
        assert_eq!(connect().open().err(), Some(ConnectError::HostClosed));
        assert_eq!(connect().resolve().await.err(), Some(ConnectError::HostClosed));
        assert_eq!(host.listen("more", "1").err(), Some(ListenError::HostClosed));
        let described = host.service("more").protocol("1", "").listen();
        assert_eq!(described.err(), Some(ListenError::HostClosed));
        let services = host.services_of(client.eid()).await;
        assert_eq!(services, Err(ServicesError::Connect(ConnectError::HostClosed)));
        let probe = host.probe(client.local_addr(), Duration::from_secs(60)).await;
        assert_eq!(probe, Err(ProbeError::HostClosed));
    })
    .await;
}

/// The host lives on a runtime that is not run while the call waits on another one.
#[test]
fn a_host_that_nobody_drives_does_not_blame_the_peer() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let (idle, busy) = (runtime(), runtime());
    let host = idle.block_on(host());
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (at, after) = (silent.local_addr().unwrap(), Duration::from_millis(30));
    busy.block_on(async {
        let connect = host.connect(eid(), "test", "1").hint(at).timeout(after);
        let error = connect.await.unwrap_err();
        assert_eq!(error, ConnectError::NotDriven { after });
        words(
            &error,
            &[
                "nothing was sent",
                "within 30 ms",
                "the runtime on which the host was built",
            ],
        );
        let services = host.services_of(eid()).hint(at).timeout(after).await;
        assert_eq!(services, Err(ServicesError::Connect(ConnectError::NotDriven { after })));
        assert_eq!(host.probe(at, after).await, Err(ProbeError::NotDriven { after }));
    });
    // It was no lie: one that is driven has asked.
    let error = idle.block_on(async { host.connect(eid(), "test", "1").hint(at).timeout(after * 10).await });
    match error {
        Err(ConnectError::Negotiation(NegotiationError::NoAnswer { attempts, .. })) => assert!(attempts > 0),
        other => panic!("{other:?}"),
    }
    drop(host);
    drop(idle);
}

#[tokio::test]
async fn who_asks_for_another_eid_is_told_that_it_may_be_that() {
    within(20, async {
        let (client, other) = (host().await, host().await);
        let connect = client.connect(eid(), "test", "1").hint(other.local_addr());
        let error = connect.timeout(Duration::from_millis(100)).await.unwrap_err();
        words(&error, &["address and EID right?", "another EID"]);
    })
    .await;
}

#[tokio::test]
async fn hints_to_which_nothing_can_be_sent_are_told_at_once() {
    within(4, async {
        let client = host().await;
        for (hint, why) in [
            ("[::1]:4433", "bound to an IPv4 address"),
            ("127.0.0.1:0", "port 0 is no port"),
            ("224.0.0.251:4433", "many hosts"),
            ("255.255.255.255:4433", "many hosts"),
        ] {
            let connect = || client.connect(eid(), "test", "1").hint(hint);
            let errors = [connect().await.unwrap_err(), connect().open().unwrap_err()];
            for error in errors {
                let ConnectError::Unresolved { names, error: None } = &error else {
                    panic!("{error:?}");
                };
                assert_eq!(names.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), [hint]);
                words(&error, &["cannot send to", hint, why]);
            }
            let address: SocketAddr = hint.parse().unwrap();
            let error = client.probe(address, Duration::from_secs(60)).await.unwrap_err();
            assert!(
                matches!(error, ProbeError::Useless { address: at, .. } if at == address),
                "{error:?}"
            );
            words(&error, &["cannot send to", hint, why]);
            client.add_hint(eid(), address);
        }
        let services = client.services_of(eid()).hint("127.0.0.1:0").await;
        assert!(matches!(
            services,
            Err(ServicesError::Connect(ConnectError::Unresolved { .. }))
        ));
        // A name that is no better, besides.
        let error = client
            .connect(eid(), "test", "1")
            .hints(["[::1]:9", "nobody"])
            .await
            .unwrap_err();
        words(&error, &["cannot use", "[::1]:9", "nobody", "port"]);
    })
    .await;
}

#[tokio::test]
async fn a_hint_of_no_use_is_told_besides_where_others_are_of_use() {
    within(20, async {
        let Pair { host, client, .. } = pair().await;
        let other = crate::common::host().await;
        let hints = [
            "[::1]:1".to_owned(),
            host.local_addr().to_string(),
            "127.0.0.1:0".to_owned(),
        ];
        let stream = other.connect(host.eid(), "test", "1").hints(&hints).await;
        stream.expect("one hint is right");
        // Where there is a channel, no hint is needed.
        let stream = client.connect(host.eid(), "test", "1").hint("127.0.0.1:0").await;
        stream.expect("they are connected");

        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let hints = ["[::1]:1".to_owned(), silent.local_addr().unwrap().to_string()];
        let connect = other.connect(eid(), "test", "1").hints(&hints);
        let error = connect.timeout(Duration::from_millis(100)).await.unwrap_err();
        words(
            &error,
            &["cannot send to", "[::1]:1", "besides, no answer from", &hints[1]],
        );
    })
    .await;
}

/// A socket of IPv6 that takes IPv4 too reaches both, and what is of one link needs an interface.
#[tokio::test]
async fn an_address_of_one_link_without_its_interface_is_of_no_use() {
    within(20, async {
        let Ok(client) = Host::builder().bind("[::]:0").build().await else {
            return;
        };
        if cfg!(target_os = "linux") {
            let error = client
                .connect(eid(), "test", "1")
                .hint("[fe80::1]:9")
                .await
                .unwrap_err();
            words(&error, &["[fe80::1]:9", "its interface is missing"]);
        }
        let to = host().await;
        let _server = to.listen("test", "1").unwrap();
        client
            .connect(to.eid(), "test", "1")
            .hint(to.local_addr())
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn names_that_nobody_can_offer_are_told_at_once_and_begin_nothing() {
    within(4, async {
        let client = host().await;
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        silent.set_nonblocking(true).unwrap();
        let (at, long) = (silent.local_addr().unwrap(), "x".repeat(256));
        for (service, protocol, expected) in [
            ("", "1", OpenError::NameEmpty),
            ("test", "", OpenError::NameEmpty),
            (&long, "1", OpenError::NameTooLong),
            ("test", &long, OpenError::NameTooLong),
        ] {
            let connect = || client.connect(eid(), service, protocol);
            let errors = [
                connect().hint(at).await.unwrap_err(),
                connect().hint(at).open().unwrap_err(),
                connect().hint("unknown.invalid:1").await.unwrap_err(),
            ];
            assert!(
                errors.iter().all(|e| *e == ConnectError::Open(expected.clone())),
                "{errors:?}"
            );
        }
        let most = &long[1..];
        client.connect(eid(), most, most).hint(at).open().unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(client.stats().datagrams_sent <= 4, "{:?}", client.stats());
    })
    .await;
}

#[tokio::test]
async fn settings_of_no_use_are_told_by_build() {
    let shown = |built: Result<Host, BuildError>| built.err().map(|e| e.to_string()).unwrap_or_default();
    let never = shown(builder().connect_timeout(Duration::ZERO).build().await);
    assert!(never.contains("connect_timeout must be more than zero"), "{never}");
    let long = shown(builder().agent("x".repeat(99)).build().await);
    assert!(long.contains("agent must be at most 64 bytes"), "{long}");
    assert_eq!(shown(builder().agent("x".repeat(64)).build().await), "");
    let started = Instant::now();
    let error = host()
        .await
        .connect(eid(), "test", "1")
        .hint("127.0.0.1:9")
        .timeout(Duration::ZERO);
    error.await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(30));
}
