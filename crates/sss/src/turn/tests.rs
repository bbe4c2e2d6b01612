//! A host, and a small TURN server on this machine: it lends an address, and forgets it when that is wanted.

use std::net::SocketAddr;
use std::sync::Mutex;

use super::message::{Attribute, Class, Message, Method, Writer, key};
use super::*;
use crate::host::Host;

const REALM: &str = "here";
const NONCE: &[u8] = b"once";

/// Requests that the server was asked, and whether it knows the allocation.
#[derive(Default)]
struct Seen {
    allocations: u16,
    given_back: u32,
    has_forgotten: bool,
}

async fn serve(socket: tokio::net::UdpSocket, seen: Arc<Mutex<Seen>>) {
    let key = key("me", REALM, "secret");
    let mut packet = [0; 2048];
    while let Ok((len, from)) = socket.recv_from(&mut packet).await {
        let Some(request) = packet.get(..len).and_then(Message::parse) else {
            continue;
        };
        let mut seen = seen.lock().unwrap();
        let answer = |class| Writer::new(request.method, class, *request.transaction);
        let error = |code: u16| {
            answer(Class::Error)
                .put_error(400 + code, "")
                .put(Attribute::Realm, REALM.as_bytes())
                .put(Attribute::Nonce, NONCE)
                .finish()
        };
        let lifetime = request.number(Attribute::Lifetime);
        let answer = match request.method {
            _ if !request.is_genuine(&key) => error(1),
            Method::Allocate => {
                seen.allocations += 1;
                seen.has_forgotten = false;
                let lent = SocketAddr::from(([127, 0, 0, 1], 50_000 + seen.allocations));
                answer(Class::Success)
                    .put(Attribute::Lifetime, &600_u32.to_be_bytes())
                    .put_address(Attribute::RelayedAddress, lent)
                    .seal(&key)
            }
            _ if seen.has_forgotten => error(37),
            Method::Refresh => {
                seen.given_back += u32::from(lifetime == Some(0));
                answer(Class::Success).seal(&key)
            }
            _ => answer(Class::Success).seal(&key),
        };
        let _ = socket.try_send_to(&answer, from);
    }
}

/// A server, as it is known under that password.
async fn server(password: &str) -> (TurnServer, Arc<Mutex<Seen>>) {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let place = socket.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(Seen::default()));
    tokio::spawn(serve(socket, Arc::clone(&seen)));
    (TurnServer::new(place, "me", password), seen)
}

/// A server, and a host that knows it under that password.
async fn start(password: &str) -> (Host, Arc<Mutex<Seen>>) {
    let (server, seen) = server(password).await;
    let host = Host::builder().bind("127.0.0.1:0").turn(server).build().await.unwrap();
    (host, seen)
}

async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let look = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), look).await.unwrap()
}

fn open(host: &Host) -> Option<(sss_proto::TurnId, SocketAddr)> {
    match host.turn()[0].state {
        TurnState::Open { id, relayed, .. } => Some((id, relayed)),
        _ => None,
    }
}

// spec: RCH-48, RCH-51
#[tokio::test]
async fn one_that_is_forgotten_is_followed_by_another_and_given_back_at_the_end() {
    let (host, seen) = start("secret").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(
        seen.lock().unwrap().allocations,
        0,
        "nothing is asked for before it is wanted"
    );
    host.try_turn();
    let (first, relayed) = until(|| open(&host)).await;
    assert_eq!(relayed.port(), 50_001);
    seen.lock().unwrap().has_forgotten = true;
    // It is noticed when this machine's network changes, or nothing comes any more.
    host.shared().call(|inner, _| inner.turns.on_network_change());
    let (second, relayed) = until(|| open(&host).filter(|(id, _)| *id != first)).await;
    assert_eq!((relayed.port(), second == first), (50_002, false));
    host.close().await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!((seen.allocations, seen.given_back), (2, 1));
}

// spec: RCH-48
#[tokio::test]
async fn a_server_through_which_nothing_comes_is_followed_by_the_next_one_and_that_by_the_first() {
    let ((one, first), (other, second)) = (server("secret").await, server("secret").await);
    let builder = Host::builder().bind("127.0.0.1:0").turn(one).turn(other);
    let host = builder.build().await.unwrap();
    host.try_turn();
    for (n, before) in [(1, 0), (0, 1)] {
        until(|| matches!(host.turn()[before].state, TurnState::Open { .. }).then_some(())).await;
        host.shared()
            .call(|inner, _| inner.turns.obey(sss_reach::TurnOrder::Next));
        until(|| matches!(host.turn()[n].state, TurnState::Open { .. }).then_some(())).await;
        assert_eq!(host.turn()[before].state, TurnState::Failed(TurnError::Mute));
    }
    host.close().await.unwrap();
    let of = |seen: &Mutex<Seen>| {
        let seen = seen.lock().unwrap();
        (seen.allocations, seen.given_back)
    };
    assert_eq!((of(&first), of(&second)), ((2, 2), (1, 1)));
}

// spec: RCH-51
#[tokio::test]
async fn an_allocation_that_is_lost_soon_is_followed_by_another_at_once_and_then_after_pauses() {
    let (host, seen) = start("secret").await;
    host.try_turn();
    let mut times = Vec::new();
    let mut last = None;
    for _ in 0..3 {
        let (id, _) = until(|| open(&host).filter(|(id, _)| Some(*id) != last)).await;
        last = Some(id);
        seen.lock().unwrap().has_forgotten = true;
        times.push(Instant::now());
        host.shared().call(|inner, _| inner.turns.on_network_change());
    }
    let pauses: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    assert!(pauses[0] < 900 && (1000..2500).contains(&pauses[1]), "{pauses:?}");
}

// spec: RCH-50
#[tokio::test]
async fn threat_46_a_wrong_password_is_told_and_is_in_no_message() {
    let (host, seen) = start("other").await;
    host.try_turn();
    let why = until(|| match &host.turn()[0].state {
        TurnState::Failed(why) => Some(why.clone()),
        _ => None,
    });
    assert_eq!(why.await, TurnError::Unauthorized);
    assert_eq!(seen.lock().unwrap().allocations, 0);
    let shown = format!("{:?} {:?}", host.turn(), TurnServer::new("a:1", "me", "other"));
    assert!(!shown.contains("other"), "{shown}");
}

// spec: RCH-48
#[tokio::test]
async fn what_can_be_no_server_is_refused_by_the_builder() {
    let builder = || Host::builder().bind("127.0.0.1:0");
    let server = |place: &str| TurnServer::new(place, "me", "secret");
    for place in ["turn.example", ":3478", "turn.example:0", "turn.example:x"] {
        let error = builder().turn(server(place)).build().await.err();
        assert!(matches!(error, Some(BuildError::Turn(_))), "{place}: {error:?}");
    }
    let five = (0..5).fold(builder(), |builder, _| builder.turn(server("a.example:1")));
    assert!(matches!(five.build().await.err(), Some(BuildError::Turn(_))));
    let lan = builder().lan_only(true).turn(server("a.example:1")).build().await.err();
    assert!(matches!(lan, Some(BuildError::LanOnly(_))));
    let long = TurnServer::new("a.example:1", "u".repeat(509), "p");
    assert!(matches!(
        builder().turn(long).build().await.err(),
        Some(BuildError::Turn(_))
    ));
}
