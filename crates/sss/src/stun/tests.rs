//! A host, and servers of a kind that a test needs, on loopback.

use std::net::Ipv4Addr;

use sss_proto::DropReason;
use stun_types::attribute::XorMappedAddress;
use stun_types::message::{Message, MessageWrite, MessageWriteExt, MessageWriteVec};
use tokio::net::UdpSocket;

use super::*;
use crate::{BuildError, Host, HostBuilder, NatKind, RelayUse};

/// Longest wait of a test.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server(UdpSocket);

impl Server {
    async fn start() -> Self {
        Self(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap())
    }

    fn at(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// The next question, and where it came from.
    async fn question(&self) -> (Vec<u8>, SocketAddr) {
        let mut question = vec![0; 2000];
        let (length, from) = timeout(PATIENCE, self.0.recv_from(&mut question))
            .await
            .unwrap()
            .unwrap();
        question.truncate(length);
        (question, from)
    }

    /// Answers the next question by that address, or by where it came from.
    async fn answer(&self, seen: Option<&str>) -> SocketAddr {
        let (question, from) = self.question().await;
        let seen = seen.map_or(from, |seen| seen.parse().unwrap());
        self.0.send_to(&answer(&question, seen), from).await.unwrap();
        from
    }
}

fn answer(question: &[u8], seen: SocketAddr) -> Vec<u8> {
    let question = Message::from_bytes(question).unwrap();
    let mut answer = Message::builder_success(&question, MessageWriteVec::new());
    let address = XorMappedAddress::new(seen, question.transaction_id());
    answer.add_attribute(&address).unwrap();
    answer.finish()
}

fn builder(servers: &[&Server]) -> HostBuilder {
    let builder = Host::builder().bind("127.0.0.1:0");
    servers
        .iter()
        .fold(builder, |builder, server| builder.stun(server.at()))
}

/// Waits until nothing is awaited, and gives what has come.
async fn states(host: &Host) -> Vec<StunState> {
    let until = Instant::now() + PATIENCE;
    loop {
        let report = host.stun().unwrap();
        if !report.is_pending() {
            return report.servers.into_iter().map(|one| one.state).collect();
        }
        assert!(Instant::now() < until, "{report:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

// spec: RCH-52
#[tokio::test]
async fn a_host_is_told_where_its_own_socket_is_seen() {
    let server = Server::start().await;
    let host = builder(&[&server]).build().await.unwrap();
    assert_eq!(server.answer(None).await, host.local_addr());
    let states = states(&host).await;
    let own = host.local_addr();
    assert!(
        matches!(states[..], [StunState::Sees { address, .. }] if address == own),
        "{states:?}"
    );
    assert_eq!(host.outside_addrs(), [], "that is known anyhow");
    assert_eq!(host.explain(&host.eid()).nat, NatKind::None);
    host.close().await.unwrap();
}

// spec: RCH-52
#[tokio::test]
async fn a_question_is_repeated_and_asked_anew_when_the_network_changes() {
    let server = Server::start().await;
    let host = builder(&[&server]).build().await.unwrap();
    let (first, _) = server.question().await;
    let begun = Instant::now();
    let (second, _) = server.question().await;
    let (third, _) = server.question().await;
    let time = begun.elapsed();
    assert!(first == second && second == third);
    assert!(time >= Duration::from_millis(1400), "{time:?}");
    host.network_changed();
    let (other, from) = server.question().await;
    assert_ne!(other, first, "another question");
    // The answer to the one before is none any more.
    server
        .0
        .send_to(&answer(&first, "203.0.113.1:1".parse().unwrap()), from)
        .await
        .unwrap();
    server
        .0
        .send_to(&answer(&other, "203.0.113.2:2".parse().unwrap()), from)
        .await
        .unwrap();
    states(&host).await;
    assert_eq!(host.outside_addrs(), ["203.0.113.2:2".parse().unwrap()]);
    // Elsewhere, that is of no use.
    host.network_changed();
    server.question().await;
    assert_eq!(host.outside_addrs(), []);
    host.close().await.unwrap();
}

// spec: RCH-52
#[tokio::test]
async fn a_server_that_has_answered_is_asked_again_before_a_nat_forgets() {
    let server = Server::start().await;
    let host = builder(&[&server]).build().await.unwrap();
    server.answer(None).await;
    let begun = Instant::now();
    let mut next = vec![0; 100];
    let again = timeout(Duration::from_secs(40), server.0.recv_from(&mut next)).await;
    let pause = begun.elapsed();
    assert!(
        again.is_ok() && pause >= KEEP && pause < Duration::from_secs(27),
        "{pause:?}"
    );
    host.close().await.unwrap();
    // Who still holds it asks nobody.
    let ended = timeout(PATIENCE, host.shared().stun().unwrap().desk().ended()).await;
    assert!(ended.is_ok());
}

// spec: RCH-53
#[tokio::test]
async fn threat_47_answers_that_nobody_asked_for_are_dropped_and_counted() {
    let (server, other) = (Server::start().await, Server::start().await);
    let host = builder(&[&server]).build().await.unwrap();
    let (question, from) = server.question().await;
    let lie = answer(&question, "203.0.113.9:9".parse().unwrap());
    let mut unasked = lie.clone();
    unasked[19] ^= 1;
    other.0.send_to(&lie, from).await.unwrap();
    server.0.send_to(&unasked, from).await.unwrap();
    server.0.send_to(&question, from).await.unwrap();
    let until = Instant::now() + PATIENCE;
    while host.stats().dropped(DropReason::Malformed) < 3 {
        assert!(Instant::now() < until, "{:?}", host.stats());
        sleep(Duration::from_millis(5)).await;
    }
    assert!(host.stun().unwrap().is_pending());
    server.0.send_to(&answer(&question, from), from).await.unwrap();
    let states = states(&host).await;
    assert!(
        matches!(states[..], [StunState::Sees { address, .. }] if address == from),
        "{states:?}"
    );
    assert_eq!(host.stats().dropped(DropReason::Malformed), 3);
    host.close().await.unwrap();
}

// spec: RCH-54
#[tokio::test]
async fn threat_47_a_server_that_lies_takes_a_hint_away_and_aims_nothing() {
    let victim = Server::start().await;
    let (honest, liar) = (Server::start().await, Server::start().await);
    let host = builder(&[&honest, &liar]).build().await.unwrap();
    let at_victim = victim.at().to_string();
    tokio::join!(honest.answer(Some("203.0.113.7:7")), liar.answer(Some(&at_victim)));
    states(&host).await;
    assert_eq!(host.outside_addrs(), []);
    assert!(host.stun().unwrap().is_contradictory());
    // Nothing is sent to what is told.
    let mut heard = [0; 100];
    let silence = timeout(Duration::from_millis(200), victim.0.recv_from(&mut heard)).await;
    assert!(silence.is_err(), "{silence:?}");
    host.close().await.unwrap();
}

// spec: RCH-52
#[tokio::test]
async fn a_host_that_is_not_to_be_found_from_outside_asks_nobody() {
    let server = Server::start().await;
    let lan = builder(&[&server]).lan_only(true).build().await;
    assert!(matches!(lan, Err(BuildError::LanOnly(_))));
    let relayed = builder(&[&server]).relay(RelayUse::Always).build().await;
    assert!(matches!(relayed, Err(BuildError::RelayOnly(_))));
    let many = builder(&[&server; 5]).build().await;
    assert!(matches!(many, Err(BuildError::TooManyStunServers)));
    let none = Host::builder().bind("127.0.0.1:0").build().await.unwrap();
    assert_eq!((none.stun(), none.outside_addrs()), (None, Vec::new()));
}

#[tokio::test]
async fn a_name_that_nobody_has_is_told() {
    let host = Host::builder()
        .bind("127.0.0.1:0")
        .stun("..:3478")
        .build()
        .await
        .unwrap();
    let states = states(&host).await;
    assert!(matches!(states[..], [StunState::Unresolved(_)]), "{states:?}");
    host.close().await.unwrap();
}
