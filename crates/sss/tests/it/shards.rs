//! Hosts with several shards (docs/spec/negotiation.md, NEG-42).

use std::time::Duration;

use sss::{
    BuildError, CloseReason, ConnectError, DriverMode, Host, HostBuilder, Identity, LinkStatus, NegotiationError,
    ServerSet, ShardedHost, Stream,
};

use crate::common::{Pattern, Relay, builder, host, within};

async fn sharded(shards: usize) -> (ShardedHost, ServerSet) {
    let host = builder().build_sharded(shards).await.expect("loopback can be bound");
    let servers = host.listen("test", "1").expect("nobody else listens");
    (host, servers)
}

/// Sends back what comes, on each stream.
fn echo(servers: ServerSet) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok(incoming) = servers.accept().await {
            tokio::spawn(answer(incoming.stream));
        }
    })
}

async fn answer(mut stream: Stream) {
    while let Ok(Some(bytes)) = stream.read_chunk(1 << 16).await {
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
    let _ = stream.finish();
}

async fn connect(client: &Host, server: &ShardedHost) -> Stream {
    let connecting = client.connect(server.eid(), "test", "1").hint(server.local_addr());
    connecting.await.expect("the host is there")
}

async fn asks(stream: &mut Stream, words: usize) {
    let sent = Pattern::new(words as u64).bytes(words);
    let mut back = vec![0; sent.len()];
    stream.write_all(&sent).await.unwrap();
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(back, sent);
}

// spec: NEG-42
#[tokio::test]
async fn peers_meet_one_host_and_are_divided_among_its_shards() {
    within(60, async {
        for mode in [DriverMode::Shared, DriverMode::Dedicated] {
            let server = builder().driver(mode).build_sharded(4).await.unwrap();
            let echoing = echo(server.listen("test", "1").unwrap());
            let mut clients = Vec::new();
            for n in 0..40 {
                let client = host().await;
                let mut stream = connect(&client, &server).await;
                asks(&mut stream, 100 + n).await;
                clients.push((client, stream));
            }
            assert_eq!((server.peers().len(), server.stats().channels_made), (40, 40));
            let of_each: Vec<usize> = server.shards().iter().map(|shard| shard.peers().len()).collect();
            assert!(of_each.iter().all(|peers| *peers > 0), "{of_each:?}");
            assert_eq!(
                server.socket_stats().handed_over,
                0,
                "the kernel has put each where it is for"
            );
            for (client, stream) in &mut clients {
                asks(stream, 3000).await;
                assert_eq!(server.peer(&client.eid()).unwrap().eid(), client.eid());
            }
            echoing.abort();
            server.close().await.unwrap();
            assert!(server.is_closed());
            server.stopped().await;
            for (_, stream) in &mut clients {
                assert!(matches!(stream.peer().closed().await, CloseReason::Peer { .. }));
            }
            // The port is free.
            drop(builder().bind(server.local_addr()).build().await.unwrap());
        }
    })
    .await;
}

// A client that has lost its channel makes another one for its tree: it has to meet the shard that has the tree.
// spec: NEG-42, MIG-7
#[tokio::test]
async fn streams_survive_their_channel_whichever_shard_has_them() {
    within(60, async {
        let (server, servers) = sharded(16).await;
        let _echoing = echo(servers);
        let mut clients = Vec::new();
        for _ in 0..8 {
            let relay = Relay::start(server.local_addr()).await;
            let client = builder()
                .idle_timeout(Duration::from_secs(1))
                .linger(Duration::from_secs(60));
            let client = client.build().await.unwrap();
            let connecting = client.connect(server.eid(), "test", "1").hint(relay.address);
            let mut stream = connecting.await.unwrap();
            asks(&mut stream, 10).await;
            clients.push((client, relay, stream));
        }
        clients.iter().for_each(|(_, relay, _)| relay.cut(true));
        for (_, _, stream) in &mut clients {
            stream.write_all(&[7; 8]).await.unwrap();
            let mut link = stream.peer().link();
            while !matches!(link.status(), LinkStatus::Down(_)) {
                link.changed().await;
            }
        }
        // Its streams wait, and so may new ones.
        while !server.peers().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for (client, _, _) in &clients {
            let opened = server.connect(client.eid(), "back", "1").open();
            assert!(opened.is_ok(), "{opened:?}");
        }
        clients.iter().for_each(|(_, relay, _)| relay.cut(false));
        for (_, _, stream) in &mut clients {
            let mut back = [0; 8];
            stream.read_exact(&mut back).await.unwrap();
            assert_eq!(back, [7; 8]);
            asks(stream, 5000).await;
        }
    })
    .await;
}

// The sockets of the others are numbered anew by the kernel when one is closed: of the datagrams for a shard whose
// number there is no more, it puts each where the addresses say.
#[tokio::test]
async fn what_comes_to_the_wrong_shard_is_handed_over() {
    within(60, async {
        let (server, servers) = sharded(16).await;
        let _echoing = echo(servers);
        let mut clients = Vec::new();
        for _ in 0..40 {
            let client = host().await;
            let mut stream = connect(&client, &server).await;
            asks(&mut stream, 10).await;
            clients.push((client, stream));
        }
        for shard in &server.shards()[..8] {
            shard.close().await.unwrap();
        }
        for (client, stream) in &mut clients {
            if server.peer(&client.eid()).is_some() {
                asks(stream, 10_000).await;
            } else {
                assert!(matches!(stream.peer().closed().await, CloseReason::Peer { .. }));
            }
        }
        let left = server.peers().len();
        assert!((1..40).contains(&left), "{left}");
        let handed = server.shards()[8..]
            .iter()
            .map(|shard| shard.socket_stats().handed_over);
        assert!(handed.sum::<u64>() > 0);
        assert_eq!(
            server.stats().resets_sent,
            0,
            "nobody was told that its channel is gone"
        );
    })
    .await;
}

// An attempt keeps its mark for as long as nobody answers.
// spec: NEG-42
#[tokio::test]
async fn who_asks_for_a_shard_that_is_gone_is_answered_by_another() {
    within(60, async {
        let (server, servers) = sharded(8).await;
        drop(servers);
        for shard in &server.shards()[..7] {
            shard.close().await.unwrap();
        }
        let mut clients = Vec::new();
        let offered = server.shards()[7].listen("test", "1").unwrap();
        let _echoing = echo(ServerSet::from([offered]));
        for _ in 0..8 {
            let client = host().await;
            let mut stream = connect(&client, &server).await;
            asks(&mut stream, 3000).await;
            clients.push((client, stream));
        }
        assert_eq!(server.shards()[7].peers().len(), 8);
    })
    .await;
}

// A stateless reset has no mark.
// spec: NEG-42, PRT-13
#[tokio::test]
async fn the_restart_of_a_peer_is_noticed_whichever_shard_has_it() {
    within(60, async {
        let (server, servers) = sharded(16).await;
        for _ in 0..4 {
            let identity = Identity::generate();
            let mortal = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let (eid, address) = (server.eid(), server.local_addr());
            let same = identity.clone();
            let connecting = mortal.spawn(async move {
                let client = builder().identity(same).build().await.unwrap();
                let mut stream = client.connect(eid, "test", "1").hint(address).await.unwrap();
                stream.write_all(b"here").await.unwrap();
                (client.local_addr(), client, stream)
            });
            let (address, client, ours) = connecting.await.unwrap();
            let mut theirs = servers.accept().await.unwrap().stream;
            theirs.read_exact(&mut [0; 4]).await.unwrap();
            // No CLOSE is sent: the driver is gone before it could.
            tokio::task::spawn_blocking(move || mortal.shutdown_timeout(Duration::from_secs(5)))
                .await
                .unwrap();
            drop((client, ours));
            let _again = builder().identity(identity).bind(address).build().await.unwrap();
            theirs.write_all(b"are you there?").await.unwrap();
            let ended = tokio::time::timeout(Duration::from_secs(3), theirs.peer().closed()).await;
            assert_eq!(ended, Ok(CloseReason::PeerRestarted));
        }
    })
    .await;
}

// spec: NEG-42
#[tokio::test]
async fn it_talks_to_those_who_have_connected_and_begins_nothing_itself() {
    within(30, async {
        let (server, servers) = sharded(4).await;
        let _echoing = echo(servers);
        for _ in 0..4 {
            let client = host().await;
            let offered = client.listen("back", "1").unwrap();
            let error = server
                .connect(client.eid(), "back", "1")
                .hint(client.local_addr())
                .await;
            assert!(
                matches!(error, Err(ConnectError::Negotiation(NegotiationError::Sharded))),
                "{error:?}"
            );
            let error = server.connect(client.eid(), "back", "1").await;
            assert!(
                matches!(error, Err(ConnectError::Negotiation(NegotiationError::Sharded))),
                "wherever it may be: {error:?}"
            );
            let mut stream = connect(&client, &server).await;
            asks(&mut stream, 10).await;
            let mut there = server.connect(client.eid(), "back", "1").await.unwrap();
            let (theirs, eid) = offered.accept().await.unwrap();
            assert_eq!(eid, server.eid());
            tokio::spawn(answer(theirs));
            asks(&mut there, 1000).await;
            let services = server.services_of(client.eid()).await.unwrap();
            assert_eq!(services.services[0].name, "back");
        }
    })
    .await;
}

// As where there are no shards: what was there before may be gone.
// spec: NEG-20, NEG-42
#[tokio::test]
async fn of_several_trees_with_one_eid_the_newest_is_used_whichever_shard_has_it() {
    within(30, async {
        let (server, servers) = sharded(16).await;
        let _echoing = echo(servers);
        let identity = Identity::generate();
        let mut held = Vec::new();
        for _ in 0..8 {
            let client = builder().identity(identity.clone()).build().await.unwrap();
            let offered = client.listen("back", "1").unwrap();
            let mut stream = connect(&client, &server).await;
            asks(&mut stream, 10).await;
            let mut there = server.connect(identity.eid(), "back", "1").await.unwrap();
            there.write_all(b"you").await.unwrap();
            offered.accept().await.unwrap();
            held.push((client, offered, stream));
        }
        assert_eq!(server.peers().len(), 8);
        assert!(server.peer(&identity.eid()).is_some());
    })
    .await;
}

#[test]
fn each_shard_may_have_a_thread_with_all_that_belongs_to_it() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let cores = [runtime(), runtime()];
    let handles: Vec<_> = cores.iter().map(|core| core.handle().clone()).collect();
    let server = builder().build_sharded_on(&handles).unwrap();
    let (threads, stop): (Vec<_>, Vec<_>) = cores
        .into_iter()
        .zip(server.shards())
        .map(|(core, shard)| {
            let taken = shard.listen("test", "1").unwrap();
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let thread = std::thread::spawn(move || {
                core.block_on(async move {
                    let id = std::thread::current().id();
                    let accepting = async {
                        while let Ok((stream, _)) = taken.accept().await {
                            tokio::spawn(async move {
                                answer(stream).await;
                                assert_eq!(std::thread::current().id(), id);
                            });
                        }
                    };
                    tokio::select! {
                        () = accepting => {}
                        _ = stopped => {}
                    }
                });
            });
            (thread, stop)
        })
        .unzip();
    runtime().block_on(within(30, async {
        for _ in 0..40 {
            let client = host().await;
            let mut stream = connect(&client, &server).await;
            asks(&mut stream, 1000).await;
        }
        assert!(server.shards().iter().all(|shard| shard.stats().streams_accepted > 0));
        // The clients are gone: what was finished last may not have arrived.
        let _ = server.close().await;
    }));
    drop(stop);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[tokio::test]
async fn what_such_a_host_does_not_do_is_an_error() {
    let refusal = |built: Result<ShardedHost, BuildError>| match built {
        Err(error @ BuildError::Shards(_)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(refusal(builder().build_sharded(0).await).contains("from 1 to 128"));
    assert!(refusal(builder().build_sharded(129).await).contains("from 1 to 128"));
    assert!(refusal(builder().build_sharded_on(&[])).contains("from 1 to 128"));
    let server = host().await;
    let using = builder().rendezvous(server.eid(), server.local_addr());
    assert!(refusal(using.build_sharded(2).await).contains("registration server"));
    assert!(refusal(builder().new_port_on_move(true).build_sharded(2).await).contains("port"));
    let taken = builder().bind(server.local_addr()).build_sharded(2).await;
    assert!(matches!(taken, Err(BuildError::PortInUse { .. })), "{taken:?}");
}

#[tokio::test]
async fn one_shard_is_a_host_like_any_other() {
    within(20, async {
        let (server, servers) = sharded(1).await;
        let _echoing = echo(servers);
        let other = host().await;
        let _offered = other.listen("back", "1").unwrap();
        server
            .connect(other.eid(), "back", "1")
            .hint(other.local_addr())
            .await
            .unwrap();
        let mut stream = connect(&other, &server).await;
        asks(&mut stream, 10).await;
    })
    .await;
}

/// Limits of the host are those of all shards together.
#[tokio::test]
async fn limits_are_divided_among_the_shards() {
    within(30, async {
        let limited =
            |builder: HostBuilder| builder.peer_limits(sss::PeerLimits::default().with(|limits| limits.trees = 8));
        let server = limited(builder()).build_sharded(2).await.unwrap();
        let servers = server.listen("test", "1").unwrap();
        let _echoing = echo(servers);
        let mut held = Vec::new();
        for _ in 0..48 {
            let client = host().await;
            let connecting = client.connect(server.eid(), "test", "1").hint(server.local_addr());
            if let Ok(mut stream) = connecting.await {
                asks(&mut stream, 10).await;
                held.push((client, stream));
            }
        }
        assert_eq!(held.len(), 8);
    })
    .await;
}
