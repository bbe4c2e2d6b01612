//! Streams outlive the way to the peer (docs/spec/migration.md), seen through a relay of datagrams that can be cut and
//! moved.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sss::{CloseReason, Host, Identity, LinkStatus, ReadError, Stream};

use crate::common::{Pattern, Relay, builder, host, within};
use crate::namespace::{Namespace, block_on, in_two_namespaces};

/// Two hosts with a relay between them, and both ends of a stream.
struct Through {
    relay: Relay,
    client: Host,
    server: Host,
    ours: Stream,
    theirs: Stream,
}

async fn through(linger: Duration) -> Through {
    let server = host().await;
    let listener = server.listen("test", "1").unwrap();
    let relay = Relay::start(server.local_addr()).await;
    let client = builder()
        .linger(linger)
        .idle_timeout(Duration::from_secs(2))
        .build()
        .await
        .unwrap();
    let connect = client.connect(server.eid(), "test", "1").hint(relay.address);
    let ours = connect.await.unwrap();
    let (theirs, _) = listener.accept().await.unwrap();
    Through {
        relay,
        client,
        server,
        ours,
        theirs,
    }
}

const LONG: Duration = Duration::from_secs(60);

// spec: MIG-7, MIG-11, MIG-14
#[tokio::test]
async fn a_cut_is_told_and_survived() {
    within(40, async {
        // The channel ends after 2 s of silence, so the longer cut needs a new one.
        for (cut, ends) in [(700, false), (4000, true)] {
            let mut t = through(LONG).await;
            let mut link = t.ours.peer().link();
            assert_eq!(link.status(), LinkStatus::Up);
            t.relay.cut(true);
            let sent = Pattern::new(7).bytes(50_000);
            let copy = sent.clone();
            let writing = tokio::spawn(async move {
                t.theirs.write_all(&copy).await.unwrap();
                t.theirs.finish().unwrap();
                t.theirs
            });
            t.ours.write_all(b"hello").await.unwrap();
            assert_eq!(link.changed().await, Some(LinkStatus::Stalled));
            if ends {
                assert!(matches!(
                    link.changed().await,
                    Some(LinkStatus::Down(CloseReason::Idle(_)))
                ));
            }
            tokio::time::sleep(Duration::from_millis(cut)).await;
            t.relay.cut(false);
            let back = Instant::now();
            let status = link.changed().await;
            assert_eq!(
                status,
                Some(LinkStatus::Up),
                "after a cut of {cut} ms: {:?}",
                t.server.stats()
            );
            assert!(back.elapsed() < Duration::from_secs(2), "{:?}", back.elapsed());
            let received = t.ours.read_to_end(1 << 20).await.unwrap();
            assert!(received[..] == sent[..]);
            let mut theirs = writing.await.unwrap();
            t.ours.finish().unwrap();
            assert_eq!(&theirs.read_to_end(10).await.unwrap()[..], b"hello");
            assert_eq!(theirs.link_status(), LinkStatus::Up);
            drop((t.client, t.server));
        }
    })
    .await;
}

// spec: MIG-11
#[tokio::test]
async fn a_hint_leads_to_the_peer_when_the_old_way_is_gone() {
    within(20, async {
        let mut t = through(LONG).await;
        t.ours.write_all(b"one ").await.unwrap();
        let mut buf = [0; 4];
        t.theirs.read_exact(&mut buf).await.unwrap();
        drop(t.relay);
        t.ours.write_all(b"two").await.unwrap();
        t.ours.finish().unwrap();
        let other = Relay::start(t.server.local_addr()).await;
        t.ours.add_hint(other.address);
        assert_eq!(&t.theirs.read_to_end(10).await.unwrap()[..], b"two");
        assert_eq!(t.ours.peer().info().unwrap().route, other.address.into());
    })
    .await;
}

// spec: MIG-14
#[tokio::test]
async fn linger_is_the_end_of_waiting() {
    within(20, async {
        let mut t = through(Duration::from_secs(3)).await;
        t.ours.write_all(b"x").await.unwrap();
        t.relay.cut(true);
        let start = Instant::now();
        t.ours.write_all(b"y").await.unwrap();
        match t.ours.read_chunk(1).await {
            Err(ReadError::Lost(CloseReason::Idle(_))) => {}
            other => panic!("{other:?}"),
        }
        let after = start.elapsed();
        assert!(
            after > Duration::from_millis(2500) && after < Duration::from_secs(6),
            "{after:?}"
        );
        assert!(matches!(t.ours.link_status(), LinkStatus::Down(CloseReason::Idle(_))));
    })
    .await;
}

// spec: MIG-10
#[tokio::test]
async fn renewal_is_not_noticed() {
    within(30, async {
        let server = host().await;
        let listener = server.listen("test", "1").unwrap();
        let client = builder().renew(Duration::from_millis(300)).build().await.unwrap();
        let connect = client.connect(server.eid(), "test", "1").hint(server.local_addr());
        let mut ours = connect.await.unwrap();
        let (mut theirs, _) = listener.accept().await.unwrap();
        let echo = tokio::spawn(async move {
            while let Ok(Some(chunk)) = theirs.read_chunk(1 << 16).await {
                theirs.write_chunk(chunk).await.unwrap();
            }
            theirs.finish().unwrap();
            theirs
        });
        let mut pattern = Pattern::new(9);
        for _ in 0..40 {
            let sent = pattern.bytes(2000);
            ours.write_all(&sent).await.unwrap();
            let mut back = vec![0; sent.len()];
            ours.read_exact(&mut back).await.unwrap();
            assert!(back == sent);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(client.stats().channels_made >= 5, "{}", client.stats().channels_made);
        ours.finish().unwrap();
        assert!(ours.read_chunk(1).await.unwrap().is_none());
        echo.await.unwrap();
    })
    .await;
}

/// The addresses of two machines on one wire, before and after they move.
const LEFT: [&str; 2] = ["10.77.0.1", "10.78.0.1"];
const RIGHT: [&str; 2] = ["10.77.0.2", "10.78.0.2"];
const PORT: u16 = 4433;

fn move_interface(namespace: &Namespace, device: &str, [from, to]: [&str; 2]) {
    namespace.ip(&format!("addr del {from}/24 dev {device}"));
    namespace.ip(&format!("addr add {to}/24 dev {device}"));
}

async fn hosted(port: u16, identity: Identity) -> Host {
    let builder = Host::builder().identity(identity).bind(format!("0.0.0.0:{port}"));
    builder.build().await.unwrap()
}

/// Each end sends lines at its own pace, and checks those of the other.
async fn chat(stream: Stream, lines: u32) {
    let (mut send, mut recv) = stream.split();
    let writing = async {
        for n in 0..lines {
            send.write_all(format!("line {n:08}\n").as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        send.finish().unwrap();
        send
    };
    let reading = async {
        let mut line = [0; 14];
        for n in 0..lines {
            recv.read_exact(&mut line).await.unwrap();
            assert_eq!(line[..], *format!("line {n:08}\n").as_bytes());
        }
        assert!(recv.read_chunk(1).await.unwrap().is_none());
    };
    let _ = tokio::join!(writing, reading);
}

// spec: MIG-11, MIG-13
#[test]
fn machines_change_their_addresses_under_a_conversation() {
    let identity = Identity::generate();
    let eid = identity.eid();
    let server = identity.clone();
    in_two_namespaces(
        move |here| {
            here.ip(&format!("addr add {}/24 dev left", LEFT[0]));
            block_on(within(60, async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let host = hosted(0, Identity::generate()).await;
                let address = |n: usize| SocketAddr::new(RIGHT[n].parse().unwrap(), PORT);
                let stream = host.connect(eid, "chat", "1").hint(address(0)).await.unwrap();
                let peer = stream.peer();
                let talking = tokio::spawn(chat(stream, 800));
                // First this machine moves within the network of the other one; nobody is told.
                tokio::time::sleep(Duration::from_secs(1)).await;
                move_interface(here, "left", [LEFT[0], "10.77.0.9"]);
                tokio::time::sleep(Duration::from_secs(2)).await;
                assert_eq!(peer.link_status(), LinkStatus::Up);
                assert!(host.stats().channels_made >= 2, "the move was noticed");
                // Then both move to another network at once; a hint says where the peer is.
                move_interface(here, "left", ["10.77.0.9", LEFT[1]]);
                tokio::time::sleep(Duration::from_millis(1500)).await;
                peer.add_hint(address(1));
                talking.await.unwrap();
                assert_eq!(peer.link_status(), LinkStatus::Up);
                assert_eq!(peer.info().unwrap().route, address(1).into());
                host.close().await.unwrap();
            }));
        },
        move |there| {
            there.ip(&format!("addr add {}/24 dev right", RIGHT[0]));
            block_on(within(60, async {
                let host = hosted(PORT, server).await;
                let listener = host.listen("chat", "1").unwrap();
                let (stream, _) = listener.accept().await.unwrap();
                let talking = tokio::spawn(chat(stream, 800));
                tokio::time::sleep(Duration::from_secs(3)).await;
                move_interface(there, "right", RIGHT);
                talking.await.unwrap();
                // The other side is heard out.
                tokio::time::sleep(Duration::from_secs(1)).await;
                host.close().await.unwrap();
            }));
        },
    );
}
