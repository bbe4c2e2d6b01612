//! Tunnels of TLS to a registration server, for hosts to which UDP is blocked.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sss::{
    Eid, FoundBy, Host, Identity, Over, RegistrationState, RelayLimits, RendezvousServer, RouteClass, TlsLimits,
    TlsServer, TunnelEnd,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::common::{builder, within};

async fn server_with(limits: TlsLimits) -> Host {
    let tls = TlsServer::new("127.0.0.1:0".parse().unwrap()).limits(limits);
    let server = RendezvousServer::new().relay(RelayLimits::default()).tls(tls);
    builder().serve_rendezvous(server).build().await.unwrap()
}

/// An address where UDP gets no answer.
struct Silence(UdpSocket);

impl Silence {
    fn new() -> Self {
        Self(UdpSocket::bind("127.0.0.1:0").unwrap())
    }
}

/// A host to which UDP is blocked; it may not be registered yet.
async fn blocked(server: &Host, silence: &Silence, found_by: FoundBy) -> Host {
    blocked_by(server, server.tls_addr().unwrap(), silence, found_by).await
}

async fn blocked_by(server: &Host, tls: SocketAddr, silence: &Silence, found_by: FoundBy) -> Host {
    let built = builder()
        .rendezvous(server.eid(), silence.0.local_addr().unwrap())
        .rendezvous_tls(server.eid(), tls)
        .found_by(found_by);
    built.build().await.unwrap()
}

/// Passes connections on, until all of them are cut.
struct Passage {
    at: SocketAddr,
    all: Arc<Mutex<JoinSet<()>>>,
}

impl Passage {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, all) = (listener.local_addr().unwrap(), Arc::<Mutex<JoinSet<()>>>::default());
        let passed = Arc::clone(&all);
        tokio::spawn(async move {
            while let Ok((mut one, _)) = listener.accept().await {
                passed.lock().unwrap().spawn(async move {
                    let mut other = TcpStream::connect(server).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut one, &mut other).await;
                });
            }
        });
        Self { at, all }
    }

    fn cut(&self) {
        self.all.lock().unwrap().abort_all();
    }
}

fn over(host: &Host) -> Option<Over> {
    match host.registrations().first()?.state {
        RegistrationState::Registered { over, .. } => Some(over),
        _ => None,
    }
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn echo(host: &Host) {
    let server = host.listen("echo", "1").unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            let heard = stream.read_to_end(8 << 20).await.unwrap();
            stream.write_all(&heard).await.unwrap();
            stream.finish().unwrap();
        }
    });
}

async fn ask(host: &Host, eid: Eid, words: &[u8]) -> RouteClass {
    let mut stream = host.connect(eid, "echo", "1").await.unwrap();
    let class = stream.peer().info().unwrap().route.class();
    stream.write_all(words).await.unwrap();
    stream.finish().unwrap();
    assert!(stream.read_to_end(8 << 20).await.unwrap() == words);
    class
}

// spec: RCH-22, RCH-24
#[tokio::test]
async fn where_udp_gets_no_answer_hosts_find_and_reach_each_other_through_tunnels() {
    within(40, async {
        let (server, silence) = (server_with(TlsLimits::default()).await, Silence::new());
        let callee = blocked(&server, &silence, FoundBy::Known).await;
        echo(&callee).await;
        until("registered", || over(&callee) == Some(Over::Tls)).await;
        assert_eq!(callee.observed_addrs(), []);
        let began = Instant::now();
        let caller = blocked(&server, &silence, FoundBy::Nobody).await;
        assert_eq!(ask(&caller, callee.eid(), b"cold").await, RouteClass::Tunnel);
        let cold = began.elapsed();
        let words: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 251) as u8).collect();
        ask(&caller, callee.eid(), &words).await;
        // One that UDP reaches, too: it is the callee that has a tunnel.
        let built = builder()
            .rendezvous(server.eid(), server.local_addr())
            .rendezvous_tls(server.eid(), server.tls_addr().unwrap());
        let by_udp = built.build().await.unwrap();
        // The callee's own UDP socket is not blocked towards it.
        assert_ne!(ask(&by_udp, callee.eid(), b"mixed").await, RouteClass::Tunnel);
        assert_eq!(over(&by_udp), Some(Over::Udp));
        let stats = server.tunnel_stats();
        println!("cold {cold:?}, {stats:?}");
        assert!(
            stats.open >= 2 && stats.malformed + stats.refused + stats.idle == 0,
            "{stats:?}"
        );
        // A host that goes says so through the tunnel.
        callee.close().await.unwrap();
        until("given up", || server.tunnel_stats().open <= 2).await;
    })
    .await;
}

// spec: RCH-24
#[tokio::test]
async fn a_tunnel_that_ends_is_followed_by_another_and_streams_go_on() {
    within(60, async {
        let (server, silence) = (server_with(TlsLimits::default()).await, Silence::new());
        let callee = blocked(&server, &silence, FoundBy::Known).await;
        let passage = Passage::to(server.tls_addr().unwrap()).await;
        let caller = blocked_by(&server, passage.at, &silence, FoundBy::Nobody).await;
        until("registered", || over(&callee) == Some(Over::Tls)).await;
        let door = callee.listen("echo", "1").unwrap();
        let mut stream = caller.connect(callee.eid(), "echo", "1").await.unwrap();
        stream.write_all(b"before").await.unwrap();
        let (mut other, _) = door.accept().await.unwrap();
        let mut heard = [0; 6];
        other.read_exact(&mut heard).await.unwrap();
        let opened = caller.tunnel_stats().opened;
        passage.cut();
        until("another tunnel", || caller.tunnel_stats().opened > opened).await;
        stream.write_all(b"behind").await.unwrap();
        other.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"behind");
    })
    .await;
}

/// A server at those addresses, with an identity that it keeps over restarts.
async fn server_at(identity: &Identity, udp: SocketAddr, tls: SocketAddr, is_restart: bool) -> Host {
    let server = RendezvousServer::new().relay(RelayLimits::default());
    let server = server.tls(TlsServer::new(tls)).restarted(is_restart);
    let built = Host::builder().identity(identity.clone()).bind(udp);
    built.serve_rendezvous(server).build().await.unwrap()
}

// spec: RCH-24
#[tokio::test]
async fn streams_go_on_two_seconds_after_a_server_is_back_that_was_away_for_long() {
    within(60, async {
        let (identity, any, silence) = (Identity::generate(), ([127, 0, 0, 1], 0).into(), Silence::new());
        let server = server_at(&identity, any, any, false).await;
        let (udp, tls) = (server.local_addr(), server.tls_addr().unwrap());
        let callee = blocked(&server, &silence, FoundBy::Known).await;
        let caller = blocked(&server, &silence, FoundBy::Nobody).await;
        until("registered", || over(&callee) == Some(Over::Tls)).await;
        let door = callee.listen("echo", "1").unwrap();
        let mut stream = caller.connect(callee.eid(), "echo", "1").await.unwrap();
        stream.write_all(b"before").await.unwrap();
        let (mut other, _) = door.accept().await.unwrap();
        let mut heard = [0; 6];
        other.read_exact(&mut heard).await.unwrap();
        server.close_within(Duration::ZERO).await.ok();
        drop(server);
        // With pauses that double, the next try were 4 s after the end of this, or later.
        tokio::time::sleep(Duration::from_secs(17)).await;
        stream.write_all(b"behind").await.unwrap();
        let began = Instant::now();
        let _server = server_at(&identity, udp, tls, true).await;
        other.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"behind");
        println!("back after {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    })
    .await;
}

/// A connection on which no TLS is spoken yet.
async fn tls(server: &Host) -> TcpStream {
    TcpStream::connect(server.tls_addr().unwrap()).await.unwrap()
}

/// Waits until the server has ended a connection.
async fn ended(mut stream: TcpStream) {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}

// spec: RCH-22
#[tokio::test]
async fn threat_40_connections_are_bounded_in_number_and_in_the_time_until_they_are_tunnels() {
    within(30, async {
        let server = server_with(TlsLimits {
            each_network: 2,
            handshake: Duration::from_millis(300),
            ..TlsLimits::default()
        })
        .await;
        let first = [tls(&server).await, tls(&server).await];
        let third = tls(&server).await;
        ended(third).await;
        assert_eq!(server.tunnel_stats().refused, 1);
        // Those that say nothing are ended; then there is room for others.
        for stream in first {
            ended(stream).await;
        }
        until("both have failed", || server.tunnel_stats().failed == 2).await;
        let mut other = tls(&server).await;
        other.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        ended(other).await;
        until("it is no TLS", || server.tunnel_stats().failed == 3).await;
        assert_eq!(server.tunnel_stats().opened, 0);
    })
    .await;
}

// spec: RCH-22
#[tokio::test]
#[cfg(target_os = "linux")] // where this machine has all of 127.0.0.0/8
async fn threat_40_where_all_tunnels_are_taken_the_network_with_most_gives_one_to_another() {
    within(30, async {
        let server = server_with(TlsLimits {
            tunnels: 2,
            ..TlsLimits::default()
        })
        .await;
        let first = [tls(&server).await, tls(&server).await];
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut other = socket.connect(server.tls_addr().unwrap()).await.unwrap();
        let [oldest, mut second] = first;
        ended(oldest).await;
        until("it has given way", || server.tunnel_stats().gave_way == 1).await;
        ended(tls(&server).await).await;
        // The one that is left and the newcomer are there: they are told that it is no TLS.
        for stream in [&mut second, &mut other] {
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            assert_ne!(stream.read(&mut [0; 16]).await.unwrap(), 0);
        }
        let stats = server.tunnel_stats();
        assert_eq!((stats.refused, stats.gave_way), (1, 1), "{stats:?}");
    })
    .await;
}

// spec: RCH-24
#[tokio::test]
async fn a_host_whose_tunnel_is_turned_away_or_not_taken_knows_why() {
    within(40, async {
        let limits = TlsLimits {
            each_network: 0,
            ..TlsLimits::default()
        };
        let (server, silence) = (server_with(limits).await, Silence::new());
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = nobody.local_addr().unwrap();
        drop(nobody);
        let why = |host: &Host| host.registrations().first()?.no_tunnel.clone();
        for (tls, expected) in [
            (server.tls_addr().unwrap(), TunnelEnd::TurnedAway),
            (closed, TunnelEnd::Refused),
        ] {
            let host = blocked_by(&server, tls, &silence, FoundBy::Nobody).await;
            until("it knows", || why(&host).is_some()).await;
            assert_eq!(why(&host), Some(expected));
        }
    })
    .await;
}
