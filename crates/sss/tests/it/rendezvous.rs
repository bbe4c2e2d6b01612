//! Hosts that find each other by a registration server.

#[cfg(target_os = "linux")]
use std::collections::BTreeSet;
#[cfg(target_os = "linux")]
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sss::{
    Absence, BuildError, ConnectError, Eid, FoundBy, Hint, Host, Identity, LeaseAt, NegotiationError, Quotas, Refusal,
    RegistrationError, RegistrationState, RelayLimits, RelayUse, RendezvousServer, RouteClass, SearchError,
};

use crate::common::{builder, within};

async fn server(identity: &Identity, bind: &str) -> Host {
    server_with(identity, bind, RendezvousServer::new(), 6).await
}

async fn server_with(identity: &Identity, bind: &str, server: RendezvousServer, ttl_seconds: u64) -> Host {
    let server = server.quotas(Quotas {
        ttl: Duration::from_secs(ttl_seconds),
        ..Quotas::default()
    });
    let built = builder().identity(identity.clone()).bind(bind).serve_rendezvous(server);
    built.build().await.unwrap()
}

async fn registered(server: &Host, found_by: FoundBy) -> Host {
    registered_with(server, found_by, RelayUse::Allowed).await
}

async fn registered_with(server: &Host, found_by: FoundBy, relay: RelayUse) -> Host {
    let built = builder()
        .rendezvous(server.eid(), server.local_addr())
        .found_by(found_by)
        .relay(relay);
    let host = built.build().await.unwrap();
    while host.observed_addrs().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(host.observed_addrs(), [(server.eid(), host.local_addr())]);
    host
}

async fn echo(host: &Host) {
    let server = host.listen("echo", "1").unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            let heard = stream.read_to_end(100).await.unwrap();
            stream.write_all(&heard).await.unwrap();
            stream.finish().unwrap();
        }
    });
}

async fn ask(host: &Host, eid: Eid) -> Result<Bytes, ConnectError> {
    let mut stream = host.connect(eid, "echo", "1").await?;
    stream.write_all(b"hello").await.unwrap();
    stream.finish().unwrap();
    Ok(stream.read_to_end(100).await.unwrap())
}

// spec: RCH-12
#[tokio::test]
async fn a_host_is_reached_by_its_eid_alone() {
    within(30, async {
        let server = server(&Identity::generate(), "127.0.0.1:0").await;
        let callee = registered(&server, FoundBy::Known).await;
        let caller = registered(&server, FoundBy::Nobody).await;
        echo(&callee).await;
        assert_eq!(ask(&caller, callee.eid()).await.unwrap(), "hello");
        assert_eq!(server.rendezvous_stats().unwrap().leases, 2);
        assert_eq!(callee.rendezvous_stats(), None);

        let never = Identity::generate().eid();
        let began = Instant::now();
        let error = ask(&caller, never).await.unwrap_err();
        assert_eq!(
            error,
            ConnectError::Negotiation(NegotiationError::Unfound(Absence::NeverSeen))
        );
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    })
    .await;
}

// spec: RCH-28
#[tokio::test]
async fn one_server_tells_by_two_ports_whether_there_is_a_nat_that_takes_another_for_each() {
    within(30, async {
        let server = server(&Identity::generate(), "127.0.0.1:0").await;
        let host = registered(&server, FoundBy::Nobody).await;
        let seen = || match host.registrations()[0].state {
            RegistrationState::Registered { seen_elsewhere, .. } => seen_elsewhere,
            _ => None,
        };
        while seen().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(seen(), Some(host.local_addr()));
        let explained = host.explain(&server.eid());
        assert!(explained.spray.is_none());
        // There is nothing but questions at the other port: the lease is where it was.
        assert_eq!(host.observed_addrs(), [(server.eid(), host.local_addr())]);
        assert_eq!(server.rendezvous_stats().unwrap().leases, 1);
    })
    .await;
}

// spec: RCH-9
#[tokio::test]
async fn hosts_are_found_again_when_the_server_is_back() {
    within(40, async {
        let identity = Identity::generate();
        let first = server(&identity, "127.0.0.1:0").await;
        let at = first.local_addr();
        let callee = registered(&first, FoundBy::Known).await;
        let caller = registered(&first, FoundBy::Nobody).await;
        echo(&callee).await;
        first.close().await.unwrap();
        drop(first);
        let second = server(&identity, &at.to_string()).await;
        // Both lease again by themselves; what is asked before that is answered late.
        let began = Instant::now();
        loop {
            match ask(&caller, callee.eid()).await {
                Ok(answer) => break assert_eq!(answer, "hello"),
                Err(error) => assert!(began.elapsed() < Duration::from_secs(30), "{error:?}"),
            }
        }
        assert!(second.rendezvous_stats().unwrap().leases >= 1);
    })
    .await;
}

// spec: RCH-1, RCH-11
#[tokio::test]
async fn who_asks_a_server_that_was_restarted_waits_for_hosts_to_come_back() {
    within(60, async {
        let identity = Identity::generate();
        let first = server_with(&identity, "127.0.0.1:0", RendezvousServer::new(), 6).await;
        let at = first.local_addr().to_string();
        let callee = registered(&first, FoundBy::Known).await;
        echo(&callee).await;
        first.close_within(Duration::ZERO).await.ok();
        drop(first);
        let second = server_with(&identity, &at, RendezvousServer::new().restarted(true), 6).await;
        // It leases again within 2 s; nobody has told it.
        let caller = registered(&second, FoundBy::Nobody).await;
        let never = ask(&caller, Identity::generate().eid());
        let (found, never) = tokio::join!(ask(&caller, callee.eid()), never);
        assert_eq!(found.unwrap(), "hello");
        // One that does not come back is not there when half a lease is over.
        let unfound = ConnectError::Negotiation(NegotiationError::Unfound(Absence::NeverSeen));
        assert_eq!(never.unwrap_err(), unfound);
        let began = Instant::now();
        assert_eq!(ask(&caller, Identity::generate().eid()).await.unwrap_err(), unfound);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    })
    .await;
}

// spec: RCH-1
#[tokio::test]
async fn whose_time_is_over_before_hosts_are_back_is_told_why() {
    within(30, async {
        let restarted = RendezvousServer::new().restarted(true);
        let server = server_with(&Identity::generate(), "127.0.0.1:0", restarted, 60).await;
        let caller = registered(&server, FoundBy::Nobody).await;
        let attempt = caller.connect(Identity::generate().eid(), "echo", "1");
        let error = attempt.timeout(Duration::from_secs(3)).await.unwrap_err();
        let why = error.to_string();
        assert!(
            matches!(error, ConnectError::Negotiation(NegotiationError::Unfound(Absence::NotYet(since))) if since <= Duration::from_secs(4)),
            "{why}"
        );
        assert!(why.contains("was restarted"), "{why}");
    })
    .await;
}

/// Runs a test on a runtime whose resolver answers a second late.
fn with_a_slow_resolver(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(within(30, test));
}

// spec: RCH-12
#[test]
fn a_name_that_is_looked_up_slowly_leads_to_a_host_that_no_server_knows() {
    with_a_slow_resolver(async {
        let server = server(&Identity::generate(), "127.0.0.1:0").await;
        let caller = registered(&server, FoundBy::Nobody).await;
        let there = builder().build().await.unwrap();
        echo(&there).await;
        let call = async |name: &str, eid: Eid| {
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_secs(1)));
            let hint = (name, there.local_addr().port());
            caller.connect(eid, "echo", "1").hint(hint).await
        };
        let began = Instant::now();
        call("localhost", there.eid()).await.unwrap();
        assert!(
            began.elapsed() >= Duration::from_secs(1),
            "the server has said before that it knows none"
        );
        // What is wrong with the name is told beside what the server says.
        let error = call("no-such-host.invalid", Identity::generate().eid())
            .await
            .unwrap_err();
        let ConnectError::Unresolved {
            names,
            error: Some(besides),
        } = &error
        else {
            panic!("{error:?}");
        };
        assert!(names[0].name.contains("no-such-host"), "{error}");
        let unfound = ConnectError::Negotiation(NegotiationError::Unfound(Absence::NeverSeen));
        assert_eq!(**besides, unfound);
    });
}

// spec: RCH-20
#[tokio::test]
async fn a_host_that_is_closed_is_said_to_be_offline_at_once() {
    within(30, async {
        let server = server(&Identity::generate(), "127.0.0.1:0").await;
        let callee = registered(&server, FoundBy::Known).await;
        let caller = registered(&server, FoundBy::Nobody).await;
        let eid = callee.eid();
        callee.close().await.unwrap();
        assert_eq!(server.rendezvous_stats().unwrap().leases, 1);
        match ask(&caller, eid).await.unwrap_err() {
            ConnectError::Negotiation(NegotiationError::Unfound(Absence::Offline(since))) => {
                assert!(since < Duration::from_secs(6), "{since:?}");
            }
            other => panic!("{other}"),
        }
        // One that hides does not wait, but goes too.
        caller.close().await.unwrap();
        while server.rendezvous_stats().unwrap().leases > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // A server that is gone does not keep a host from ending.
        let left = registered(&server, FoundBy::Known).await;
        server.close().await.unwrap();
        drop(server);
        left.close().await.unwrap();
    })
    .await;
}

/// A host's program: its identity is that of another one.
async fn program(server: &Host, identity: &Identity, found_by: FoundBy) -> Host {
    let built = builder()
        .identity(identity.clone())
        .rendezvous(server.eid(), server.local_addr())
        .found_by(found_by)
        .allow_own_eid(true);
    let host = built.build().await.unwrap();
    while host.observed_addrs().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    host
}

// spec: RCH-20
#[tokio::test]
async fn programs_of_one_identity_do_not_hide_each_other() {
    within(30, async {
        let server = server(&Identity::generate(), "127.0.0.1:0").await;
        let identity = Identity::generate();
        let first = program(&server, &identity, FoundBy::Known).await;
        echo(&first).await;
        let hidden = program(&server, &identity, FoundBy::Nobody).await;
        let caller = registered(&server, FoundBy::Nobody).await;
        assert_eq!(ask(&caller, identity.eid()).await.unwrap(), "hello");
        // Even by a program of the same identity.
        assert_eq!(ask(&hidden, identity.eid()).await.unwrap(), "hello");
        let second = program(&server, &identity, FoundBy::Known).await;
        assert_eq!(server.rendezvous_stats().unwrap().leases, 4);
        assert_eq!(first.observed_addrs().len(), 1);
        // The later one offers nothing. When it goes, the first is found again.
        let other = registered(&server, FoundBy::Nobody).await;
        let mut stream = other.connect(identity.eid(), "echo", "1").await.unwrap();
        assert!(stream.read_to_end(100).await.is_err());
        second.close().await.unwrap();
        let other = registered(&server, FoundBy::Nobody).await;
        assert_eq!(ask(&other, identity.eid()).await.unwrap(), "hello");
    })
    .await;
}

/// A host that is listed.
async fn listed(server: &Host, words: &str, profile: &str) -> Host {
    let found_by = FoundBy::Anybody {
        words: words.to_owned(),
        profile: profile.to_owned(),
    };
    registered(server, found_by).await
}

// spec: RCH-4
#[tokio::test]
async fn hosts_that_want_to_be_are_found_by_a_word() {
    within(30, async {
        let server = server(&Identity::generate(), "127.0.0.1:0").await;
        let one = listed(&server, "photos berlin", "Photos of Berlin").await;
        // Three profiles of that size take two answers.
        let mut many = Vec::new();
        for _ in 0..3 {
            many.push(listed(&server, "photos", &"x".repeat(900)).await);
        }
        let _known = registered(&server, FoundBy::Known).await;
        let asking = registered(&server, FoundBy::Nobody).await;
        let page = asking.search(server.eid(), "berlin", None).await.unwrap();
        let found: Vec<_> = page
            .hosts
            .iter()
            .map(|host| (host.eid, host.profile.as_str()))
            .collect();
        assert_eq!(found, [(one.eid(), "Photos of Berlin")]);
        assert_eq!((page.next, page.is_partial), (None, false));
        let (mut all, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = asking.search(server.eid(), "photos", after).await.unwrap();
            all.extend(page.hosts.into_iter().map(|host| host.eid));
            pages += 1;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let mut expected: Vec<_> = many.iter().chain([&one]).map(Host::eid).collect();
        expected.sort();
        assert_eq!(all, expected);
        assert!(pages >= 2, "{pages}");
        for word in ["", "two words", &"w".repeat(65)] {
            assert_eq!(asking.search(server.eid(), word, None).await, Err(SearchError::Word));
        }
        let elsewhere = asking.search(one.eid(), "berlin", None).await;
        assert_eq!(elsewhere, Err(SearchError::NotRegistered));
        let too_long = builder().found_by(FoundBy::Anybody {
            words: "w".repeat(65),
            profile: String::new(),
        });
        assert!(matches!(too_long.build().await, Err(BuildError::Listing)));
    })
    .await;
}

#[tokio::test]
async fn it_is_told_how_registrations_stand_and_who_has_found_whom() {
    within(30, async {
        let server = server(&Identity::generate(), "127.0.0.1:0").await;
        let closed = builder()
            .serve_rendezvous(RendezvousServer::new().allow(|_| false))
            .build()
            .await
            .unwrap();
        let plain = builder().build().await.unwrap();
        let host = builder()
            .rendezvous(server.eid(), server.local_addr())
            .rendezvous(closed.eid(), closed.local_addr())
            .rendezvous(plain.eid(), plain.local_addr())
            .rendezvous(Identity::generate().eid(), "nowhere.invalid:7757")
            // It would choose two (RCH-43).
            .lease_at(LeaseAt::All)
            .build()
            .await
            .unwrap();
        let states = loop {
            let states: Vec<_> = host.registrations().into_iter().map(|one| one.state).collect();
            if !states.contains(&RegistrationState::Asking) {
                break states;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert!(
            matches!(states[0], RegistrationState::Registered { at, observed, .. }
                if at == server.local_addr() && observed == Some(host.local_addr())),
            "{states:?}"
        );
        assert_eq!(states[1], RegistrationState::Failed(RegistrationError::NotAllowed));
        let refused = RegistrationError::Refused(Refusal::Protocol);
        assert_eq!(states[2], RegistrationState::Failed(refused));
        assert_eq!(states[3], RegistrationState::Resolving);

        let callee = registered(&server, FoundBy::Known).await;
        echo(&callee).await;
        assert_eq!(host.found_by(&callee.eid()), []);
        assert_eq!(ask(&host, callee.eid()).await.unwrap(), "hello");
        assert_eq!(host.found_by(&callee.eid()), [server.eid()]);
    })
    .await;
}

#[tokio::test]
async fn an_attempt_that_ends_before_a_server_has_answered_says_so() {
    within(30, async {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = silent.local_addr().unwrap();
        let host = builder()
            .rendezvous(Identity::generate().eid(), at)
            .build()
            .await
            .unwrap();
        let connect = host.connect(Identity::generate().eid(), "echo", "1");
        let error = connect.timeout(Duration::from_millis(100)).await.unwrap_err();
        let pending = NegotiationError::Unfound(Absence::Pending);
        assert_eq!(error, ConnectError::Negotiation(pending));
    })
    .await;
}

/// A host whose only server is said to be there.
async fn finds_no_server(server: Eid, at: impl Into<Hint>) -> Host {
    let host = builder().rendezvous(server, at).build().await.unwrap();
    let error = ask(&host, Identity::generate().eid()).await.unwrap_err();
    let unfound = NegotiationError::Unfound(Absence::NoServer);
    assert_eq!(error, ConnectError::Negotiation(unfound));
    host
}

#[tokio::test]
async fn without_a_server_that_answers_it_is_said() {
    within(30, async {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        finds_no_server(Identity::generate().eid(), silent.local_addr().unwrap()).await;
    })
    .await;
}

#[tokio::test]
async fn the_name_of_a_server_is_looked_for_in_the_background() {
    within(30, async {
        finds_no_server(Identity::generate().eid(), "nowhere.invalid:7757").await;
    })
    .await;
}

// spec: SVC-1
#[tokio::test]
async fn who_is_no_server_refuses_to_register_others() {
    within(30, async {
        let other = builder().build().await.unwrap();
        let host = finds_no_server(other.eid(), other.local_addr()).await;
        assert_eq!(host.observed_addrs(), []);
        let offered = other.listen("sss", "rendezvous/1");
        assert!(offered.is_err(), "the service is reserved");
    })
    .await;
}

// spec: RCH-17, RCH-19
#[tokio::test]
async fn hosts_that_use_nothing_but_a_relay_talk_through_it() {
    within(30, async {
        let limits = RelayLimits::default();
        let built = builder().serve_rendezvous(RendezvousServer::new().relay(limits));
        let server = built.build().await.unwrap();
        let callee = registered_with(&server, FoundBy::Known, RelayUse::Always).await;
        let caller = registered_with(&server, FoundBy::Nobody, RelayUse::Always).await;
        let listener = callee.listen("sink", "1").unwrap();
        let reading = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_to_end(8 << 20).await.unwrap()
        });
        let mut stream = caller.connect(callee.eid(), "sink", "1").await.unwrap();
        assert_eq!(stream.peer().info().unwrap().route.class(), RouteClass::Relay);
        let data: Vec<u8> = (0..4_000_000_u32).map(|n| (n % 251) as u8).collect();
        stream.write_all(&data).await.unwrap();
        stream.finish().unwrap();
        assert!(reading.await.unwrap() == data, "all of it, and in order");
        let stats = server.rendezvous_stats().unwrap();
        assert!(stats.relayed_bytes > 4_000_000, "{stats:?}");
    })
    .await;
}

/// Passes datagrams between one host and a server, and notes which addresses the server sends from.
#[cfg(target_os = "linux")]
struct Noting {
    front: std::net::SocketAddr,
    back: std::net::SocketAddr,
    heard: Arc<Mutex<BTreeSet<std::net::SocketAddr>>>,
    task: tokio::task::JoinHandle<()>,
}

#[cfg(target_os = "linux")]
impl Noting {
    async fn start(server: std::net::SocketAddr) -> Self {
        use tokio::net::UdpSocket;
        let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let heard = Arc::new(Mutex::new(BTreeSet::new()));
        let noted = Arc::clone(&heard);
        let (at, seen_at) = (front.local_addr().unwrap(), back.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
            let mut host = None;
            loop {
                tokio::select! {
                    Ok((n, from)) = front.recv_from(&mut up) => {
                        host = Some(from);
                        let _ = back.send_to(&up[..n], server).await;
                    }
                    Ok((n, from)) = back.recv_from(&mut down) => {
                        noted.lock().unwrap().insert(from);
                        // A NAT lets in what comes from where something was sent to.
                        if let Some(host) = host.filter(|_| from == server) {
                            let _ = front.send_to(&down[..n], host).await;
                        }
                    }
                }
            }
        });
        Self {
            front: at,
            back: seen_at,
            heard,
            task,
        }
    }
}

// spec: RCH-21
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_with_several_addresses_sends_all_from_the_one_that_a_host_uses() {
    within(30, async {
        let built = builder()
            .bind("0.0.0.0:0")
            .serve_rendezvous(RendezvousServer::new().relay(RelayLimits::default()));
        let server = built.build().await.unwrap();
        let second: std::net::SocketAddr = ([127, 0, 0, 2], server.local_addr().port()).into();
        let mut hosts = Vec::new();
        for found_by in [FoundBy::Known, FoundBy::Nobody] {
            let nat = Noting::start(second).await;
            let built = builder()
                .rendezvous(server.eid(), nat.front)
                .found_by(found_by)
                .relay(RelayUse::Always);
            let host = built.build().await.unwrap();
            while host.observed_addrs() != [(server.eid(), nat.back)] {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            hosts.push((host, nat));
        }
        let [(callee, first), (caller, other)] = &hosts[..] else {
            unreachable!("two hosts");
        };
        echo(callee).await;
        assert_eq!(ask(caller, callee.eid()).await.unwrap(), "hello");
        assert!(server.rendezvous_stats().unwrap().relayed_packets > 0);
        for nat in [first, other] {
            assert_eq!(*nat.heard.lock().unwrap(), BTreeSet::from([second]));
            nat.task.abort();
        }
    })
    .await;
}
