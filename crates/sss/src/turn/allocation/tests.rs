//! Allocations, and what a server may answer, or send by itself.

use std::net::IpAddr;

use super::peers::{MAX_PEERS, MAX_PERMISSIONS};
use super::*;
use crate::turn::message::{CHANNELS, HEADER, channel_data, key};

const REALM: &str = "lab";

/// An allocation, and the other end of its packets.
struct World {
    now: Instant,
    allocation: Allocation,
    nonce: Vec<u8>,
    key: Key,
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

impl World {
    fn new(password: &str) -> Self {
        let server = Arc::new(TurnServer::new("192.0.2.1:3478", "me", password));
        let now = Instant::now();
        Self {
            now,
            allocation: Allocation::new(now, server, address("192.0.2.1:3478")),
            nonce: b"first".to_vec(),
            key: key("me", REALM, "secret"),
        }
    }

    /// One with an allocation.
    fn open() -> Self {
        let mut world = Self::new("secret");
        world.challenge(401);
        world.lend("192.0.2.1:50000");
        assert_eq!(world.news(), [News::Open(address("192.0.2.1:50000"))]);
        world
    }

    fn news(&mut self) -> Vec<News> {
        std::iter::from_fn(|| self.allocation.poll_news()).collect()
    }

    /// The only packet that is to be sent.
    fn sent(&mut self) -> Vec<u8> {
        let packet = self.allocation.poll_transmit().expect("a packet");
        assert!(self.allocation.poll_transmit().is_none(), "one packet");
        packet
    }

    /// All packets that are to be sent.
    fn all_sent(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.allocation.poll_transmit()).collect()
    }

    fn receive(&mut self, packet: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
        let received = self.allocation.receive(self.now, packet);
        received.map(|(peer, data)| (peer, data.to_vec()))
    }

    /// Answers the request with an error that says which nonce is good.
    fn challenge(&mut self, code: u16) {
        let request = self.sent();
        let answer = error(&request, code)
            .put(Attribute::Realm, REALM.as_bytes())
            .put(Attribute::Nonce, &self.nonce);
        self.receive(&answer.finish());
    }

    /// Grants a request, which must be under the user's key.
    fn grant(&mut self, request: &[u8], more: impl FnOnce(Writer) -> Writer) {
        let message = Message::parse(request).unwrap();
        assert!(message.is_genuine(&self.key));
        assert_eq!(message.get(Attribute::Nonce), Some(&self.nonce[..]));
        let answer = Writer::new(message.method, Class::Success, *message.transaction);
        let answer = more(answer).seal(&self.key);
        self.receive(&answer);
    }

    fn lend(&mut self, relayed: &str) {
        let request = self.sent();
        self.grant(&request, |answer| {
            answer
                .put(Attribute::Lifetime, &600_u32.to_be_bytes())
                .put_address(Attribute::RelayedAddress, address(relayed))
        });
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.allocation.on_timer(self.now);
    }
}

fn error(request: &[u8], code: u16) -> Writer {
    let message = Message::parse(request).unwrap();
    Writer::new(message.method, Class::Error, *message.transaction).put_error(code, "no\x1b[2J")
}

fn method(packet: &[u8]) -> Option<Method> {
    Message::parse(packet).map(|message| message.method)
}

// spec: RCH-48, RCH-50
#[test]
fn an_allocation_is_made_renewed_at_the_half_and_given_back() {
    let mut world = World::open();
    assert_eq!(
        world.allocation.next_timer(),
        Some(world.now + Duration::from_secs(300))
    );
    world.pass(Duration::from_secs(300));
    let refresh = world.sent();
    world.grant(&refresh, |answer| {
        answer.put(Attribute::Lifetime, &600_u32.to_be_bytes())
    });
    assert_eq!(
        world.allocation.next_timer(),
        Some(world.now + Duration::from_secs(300))
    );
    world.allocation.end(world.now);
    let last = world.sent();
    let message = Message::parse(&last).unwrap();
    assert_eq!(
        (message.method, message.number(Attribute::Lifetime)),
        (Method::Refresh, Some(0))
    );
    world.grant(&last, |answer| answer);
    assert_eq!(world.news(), [News::Ended]);
}

// spec: RCH-50
#[test]
fn a_server_s_refusals_are_told_apart() {
    let why = |codes: &[u16], password: &str| {
        let mut world = World::new(password);
        for code in codes {
            world.challenge(*code);
        }
        match &world.news()[..] {
            [News::Gone(why)] => why.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(why(&[401, 401], "other"), TurnError::Unauthorized);
    // A server that calls every nonce stale is not asked for ever.
    assert_eq!(why(&[401, 438, 438, 438], "secret"), TurnError::Unauthorized);
    for code in [300, 403, 437, 442, 486, 508] {
        let refused = why(&[401, code], "secret");
        assert!(
            matches!(&refused, TurnError::Refused(given, words) if *given == code && !words.contains('\x1b')),
            "{refused:?}"
        );
    }
    let mut silent = World::new("secret");
    let mut packets = 0;
    while let Some(at) = silent.allocation.next_timer() {
        packets += silent.all_sent().len();
        silent.pass(at.saturating_duration_since(silent.now));
    }
    assert_eq!(silent.news(), [News::Gone(TurnError::Silent)]);
    assert_eq!(packets, 1 + AGAIN.len());
}

// spec: RCH-50
#[test]
fn a_nonce_that_is_stale_is_replaced_and_what_is_forgotten_is_lost() {
    let mut world = World::open();
    world.pass(Duration::from_secs(300));
    world.nonce = b"second".to_vec();
    world.challenge(438);
    let again = world.sent();
    world.grant(&again, |answer| answer);
    assert_eq!(world.news(), []);
    world.pass(Duration::from_secs(300));
    world.challenge(437);
    assert_eq!(world.news(), [News::Gone(TurnError::Forgotten)]);
}

// spec: RCH-50
#[test]
fn threat_46_an_address_that_means_nothing_to_others_is_not_used_unless_the_server_is_there() {
    let useless = [
        "127.0.0.1:7",
        "10.0.0.1:7",
        "224.0.0.1:7",
        "0.0.0.0:7",
        "192.0.2.1:0",
        "169.254.1.1:7",
    ];
    for relayed in useless {
        let mut world = World::new("secret");
        world.challenge(401);
        world.lend(relayed);
        assert_eq!(world.news(), [News::Gone(TurnError::Useless(address(relayed)))]);
    }
    assert!(is_of_use(address("10.0.0.1:7"), address("10.0.0.2:3478")));
    assert!(is_of_use(address("127.0.0.1:7"), address("127.0.0.1:3478")));
    assert!(is_of_use(address("192.0.2.1:7"), address("10.0.0.2:3478")));
}

// spec: RCH-50
#[test]
fn threat_46_answers_that_nobody_asked_for_or_are_forged_change_nothing() {
    let mut world = World::new("secret");
    world.challenge(401);
    let request = world.sent();
    let message = Message::parse(&request).unwrap();
    let lend = |transaction, key: &Key| {
        Writer::new(Method::Allocate, Class::Success, transaction)
            .put(Attribute::Lifetime, &600_u32.to_be_bytes())
            .put_address(Attribute::RelayedAddress, address("203.0.113.9:9"))
            .seal(key)
    };
    let forged = [
        lend(*message.transaction, &key("me", REALM, "guessed")),
        lend([9; 12], &world.key),
        error(&request, 508).finish()[..HEADER].to_vec(),
        vec![0; 3],
        Vec::new(),
    ];
    for packet in &forged {
        assert_eq!(world.receive(packet), None);
    }
    assert_eq!((world.news(), world.allocation.stats.unknown), (vec![], 5));
}

// spec: RCH-50
#[test]
fn a_permission_is_asked_for_before_the_first_packet_and_a_channel_bound_for_who_is_sent_much() {
    let mut world = World::open();
    let peer = address("203.0.113.7:7000");
    world.allocation.send(world.now, peer, b"one");
    let sent = world.all_sent();
    let methods: Vec<_> = sent.iter().map(|packet| method(packet)).collect();
    assert_eq!(methods, [Some(Method::CreatePermission), Some(Method::Send)]);
    let indication = Message::parse(&sent[1]).unwrap();
    assert_eq!(indication.address(Attribute::PeerAddress), Some(peer));
    assert_eq!(indication.get(Attribute::Data), Some(&b"one"[..]));
    world.grant(&sent[0], |answer| answer);
    let mut bind = None;
    for _ in 0..7 {
        world.allocation.send(world.now, peer, b"more");
        let mut requests = world.all_sent().into_iter();
        bind = requests
            .rfind(|packet| method(packet) == Some(Method::ChannelBind))
            .or(bind);
    }
    let bind = bind.expect("after eight packets");
    let number = Message::parse(&bind).unwrap().number(Attribute::ChannelNumber).unwrap() >> 16;
    let number = u16::try_from(number).unwrap();
    assert!(CHANNELS.contains(&number));
    world.grant(&bind, |answer| answer);
    world.allocation.send(world.now, peer, b"much");
    assert_eq!(world.sent(), channel_data(number, b"much", false));
    assert_eq!(
        world.receive(&channel_data(number, b"back", false)),
        Some((peer, b"back".to_vec()))
    );
    // As long as it is used, the permission is kept, and the channel.
    world.now += Duration::from_secs(241);
    world.allocation.send(world.now, peer, b"later");
    let sent = world.all_sent();
    assert_eq!(method(&sent[0]), Some(Method::CreatePermission));
}

// spec: RCH-50
#[test]
fn threat_46_whatever_a_server_sends_by_itself_is_counted_and_costs_no_memory() {
    let mut world = World::open();
    let from = |data: &[u8]| {
        Writer::new(Method::Data, Class::Indication, [1; 12])
            .put_address(Attribute::PeerAddress, address("203.0.113.7:7"))
            .put(Attribute::Data, data)
            .finish()
    };
    // From whom it likes: that is as any packet from the network.
    assert!(world.receive(&from(b"x")).is_some());
    assert!(world.receive(&from(&[0; MAX_DATA])).is_some());
    assert_eq!(world.receive(&from(&[0; MAX_DATA + 1])), None);
    assert_eq!(world.receive(&channel_data(0x4abc, b"x", false)), None);
    let no_data = Writer::new(Method::Data, Class::Indication, [1; 12]).finish();
    assert_eq!(world.receive(&no_data), None);
    let stats = world.allocation.stats;
    assert_eq!((stats.received, stats.too_long, stats.unknown), (2, 1, 2));
    assert_eq!(world.allocation.peers.counts(), [0; 3]);
    assert!(world.all_sent().is_empty());
}

// spec: RCH-50
#[test]
fn threat_46_permissions_and_channels_are_bounded_and_the_oldest_give_way() {
    let mut world = World::open();
    let peer = |n: u32| SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::from_bits(0xcb00_0000 + n)), 7);
    let many = 5000;
    for n in 0..many {
        world.now += Duration::from_millis(1);
        for _ in 0..9 {
            world.allocation.send(world.now, peer(n), b"x");
        }
        // A server that answers nothing: what is asked is given up in time.
        world.all_sent();
        world.allocation.on_timer(world.now);
    }
    let [permissions, peers, numbers] = world.allocation.peers.counts();
    assert_eq!((permissions, peers), (MAX_PERMISSIONS, MAX_PEERS));
    assert!(numbers <= 4096, "{numbers}");
    assert!(world.allocation.requests.len() <= MAX_REQUESTS);
    // The latest is still known, and the first is asked for anew.
    let peers = &mut world.allocation.peers;
    let wants = [many - 1, 0].map(|n| peers.wants_permission(world.now, peer(n).ip()));
    assert_eq!(wants, [false, true]);
}

// spec: RCH-51
#[test]
fn a_server_that_was_restarted_is_noticed_when_nothing_comes_any_more() {
    let mut world = World::open();
    let peer = address("203.0.113.7:7000");
    world.allocation.send(world.now, peer, b"one");
    let sent = world.all_sent();
    world.grant(&sent[0], |answer| answer);
    world.allocation.send(world.now, peer, b"two");
    world.all_sent();
    let doubt = world.allocation.next_timer().unwrap();
    assert_eq!(doubt.duration_since(world.now), DOUBT);
    world.pass(DOUBT);
    assert_eq!(method(&world.all_sent()[0]), Some(Method::Refresh));
    // Where something comes, nothing is asked.
    let mut world = World::open();
    world.allocation.send(world.now, peer, b"one");
    let sent = world.all_sent();
    world.grant(&sent[0], |answer| answer);
    world.pass(DOUBT);
    assert!(world.all_sent().is_empty());
    // Nor at once where nobody takes packets, but soon.
    world.allocation.on_unreachable(world.now);
    world.pass(Duration::ZERO);
    assert_eq!(method(&world.all_sent()[0]), Some(Method::Refresh));
    world.allocation.on_unreachable(world.now);
    world.pass(Duration::from_millis(100));
    assert!(world.all_sent().is_empty(), "once");
}
