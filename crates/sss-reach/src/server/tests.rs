use std::net::{IpAddr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;
use sss_proto::{Link, TunnelId};
use sss_wire::long;
use sss_wire::reach::records::{Call, Entries, Search, Visibility, read_outcome, read_way};
use sss_wire::reach::{
    LEASE_SIZE,
    bodies::{self, Connect, Found, MappedPort, Notify, Presence, Unfound, Way},
};

use super::introductions::hold;
use super::leases::Instance;
use super::*;
use crate::keys::{self, From};
use crate::path::NOWHERE;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(1_000_000_000 + ms * 1_000_000)
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 4000 + u16::from(n)))
}

/// A host as its packets show it.
struct Client {
    eid: Eid,
    instance: [u8; 8],
    at: SocketAddr,
    /// Set if it uses its first token always, and not the latest.
    keeps_its_token: bool,
    /// Set if nobody is to be told where it is.
    is_veiled: bool,
    registered: Registered,
    counter: u64,
    presence: Presence,
    mapped: MappedPort,
    rng: Generator,
}

fn registrar(config: ServerConfig) -> Registrar {
    Registrar::new(at(0), config, &[7; 32], &[8; 32])
}

fn relaying() -> ServerConfig {
    ServerConfig {
        relay: Some(RelayLimits::default()),
        ..ServerConfig::default()
    }
}

/// One packet of so many bytes.
fn run(bytes: usize) -> Run {
    Run { packets: 1, bytes }
}

fn eid(n: u8) -> Eid {
    Eid::from_public_key(&[n; 32])
}

impl Client {
    /// Registers a host that wants to be found.
    fn new(server: &mut Registrar, now: Instant, n: u8) -> Self {
        Self::register(server, now, n, [n; 8], Visibility::Known).unwrap()
    }

    fn register(
        server: &mut Registrar,
        now: Instant,
        n: u8,
        instance: [u8; 8],
        visibility: Visibility,
    ) -> Result<Self, Unfound> {
        let register = Register {
            follows: false,
            instance,
            visibility,
            is_veiled: false,
            words: "chat games".to_owned(),
            profile: format!("host {n}"),
        };
        let record = Request::Register(register).encode();
        let answer = server.request(now, (&eid(n), address(n)), &record).unwrap();
        let registered = Registered::decode(&answer).unwrap()?;
        assert_eq!(registered.address, address(n));
        Ok(Self {
            eid: eid(n),
            instance,
            at: address(n),
            keeps_its_token: false,
            is_veiled: false,
            registered,
            counter: 0,
            presence: match visibility {
                Visibility::Hidden => Presence::Hidden,
                _ => Presence::Found,
            },
            rng: Generator::new(&[n; 32]),
            mapped: MappedPort::default(),
        })
    }

    fn key(&self) -> LeaseKey {
        LeaseKey::new(self.registered.key)
    }

    fn token(&self) -> Vec<u8> {
        let tokens = &self.registered.tokens;
        let token = if self.keeps_its_token {
            tokens.first()
        } else {
            tokens.last()
        };
        token.unwrap().clone()
    }

    fn lease(&mut self, answer: Option<([u8; 8], Status)>) -> Vec<u8> {
        self.counter += 1;
        let lease = bodies::Lease {
            boot: self.registered.boot,
            counter: self.counter,
            rtt: 20_000,
            presence: self.presence,
            is_veiled: self.is_veiled,
            answer,
            mapped: self.mapped,
        };
        let (key, token) = (self.key(), self.token());
        key.lease(&lease, &token, &mut self.rng)
    }

    fn connect(&mut self, callee: Eid, introduction: [u8; 8]) -> Vec<u8> {
        self.counter += 1;
        let connect = Connect {
            boot: self.registered.boot,
            counter: self.counter,
            rtt: 50_000,
            introduction,
            eid: callee,
            hello: b"a short HELLO",
        };
        let (key, token) = (self.key(), self.token());
        key.seal(Kind::Connect, Some(&token), &mut self.rng, |_| connect.encode())
    }

    fn opened(&self, packet: &[u8], kind: Kind) -> Zeroizing<Vec<u8>> {
        let Packet::Sealed(sealed) = Packet::parse(packet).unwrap() else {
            panic!("a sealed packet");
        };
        assert_eq!(sealed.kind, kind);
        self.key().open(&sealed).expect("sealed for this host")
    }

    /// Sends LEASE, and takes the answer in.
    fn renew(&mut self, server: &mut Registrar, now: Instant) -> LeaseOk {
        let packet = self.lease(None);
        server.packet(now, self.at, &packet).unwrap();
        let (to, answer) = server.poll_transmit().expect("LEASE_OK");
        assert_eq!(to, self.at.into());
        assert!(answer.len() <= packet.len());
        let ok = LeaseOk::decode(&self.opened(&answer, Kind::LeaseOk)).unwrap();
        assert_eq!((ok.counter, ok.address), (self.counter, self.at));
        self.registered.boot = ok.boot;
        self.registered.tokens.push(ok.token.clone());
        ok
    }

    fn found(&self, packet: &[u8]) -> Result<Way, Unfound> {
        Found::decode(&self.opened(packet, Kind::Found)).unwrap().outcome
    }

    fn lookup(&self, server: &mut Registrar, now: Instant, of: &Eid) -> Result<(), Unfound> {
        let record = Request::Lookup(*of).encode();
        let answer = server.request(now, (&self.eid, self.at), &record).unwrap();
        read_outcome(&answer).unwrap()
    }
}

fn sent(server: &mut Registrar) -> Vec<(SocketAddr, Vec<u8>)> {
    let sent = std::iter::from_fn(|| server.poll_transmit());
    sent.map(|(to, packet)| (to.link.address().unwrap(), packet)).collect()
}

fn unfound(status: Status) -> Unfound {
    Unfound::because(status)
}

// spec: RCH-1, RCH-2, RCH-8
#[test]
fn a_host_is_found_as_long_as_its_lease_lasts_and_then_said_to_be_offline() {
    let mut server = registrar(ServerConfig::default());
    let (mut one, two) = (Client::new(&mut server, at(0), 1), Client::new(&mut server, at(0), 2));
    assert_eq!(two.lookup(&mut server, at(1), &one.eid), Ok(()));
    assert_eq!(two.lookup(&mut server, at(1), &eid(9)), Err(unfound(Status::NeverSeen)));
    one.renew(&mut server, at(30_000));
    assert_eq!(
        two.lookup(&mut server, at(59_999), &one.eid),
        Ok(()),
        "two's own lease lasts"
    );
    server.on_timer(at(89_999));
    let three = Client::new(&mut server, at(89_999), 3);
    assert_eq!(three.lookup(&mut server, at(89_999), &one.eid), Ok(()));
    let offline = |since| Err(Unfound::since(Status::Offline, since));
    assert_eq!(three.lookup(&mut server, at(90_000), &one.eid), offline(60));
    server.on_timer(at(100_000));
    assert_eq!(server.stats().leases, 1);
    assert_eq!(three.lookup(&mut server, at(100_000), &one.eid), offline(70));
    // Without a lease, nothing is answered.
    assert_eq!(
        two.lookup(&mut server, at(100_000), &one.eid),
        Err(unfound(Status::NoLease))
    );
    // The first LEASE brings a token that was just made: an old one may be a captured one's.
    one.renew(&mut server, at(100_001));
    one.renew(&mut server, at(100_001));
    assert_eq!(three.lookup(&mut server, at(100_001), &one.eid), Ok(()));
}

// spec: RCH-1
#[test]
fn a_server_that_was_restarted_says_so_for_half_a_lease() {
    let mut server = registrar(ServerConfig::default());
    server.on_restart(at(0));
    let mut two = Client::new(&mut server, at(0), 2);
    let mut asked = |ms| {
        two.renew(&mut server, at(ms));
        two.lookup(&mut server, at(ms), &eid(9)).unwrap_err()
    };
    let lately = |since| Unfound::since(Status::NeverSeen, since);
    assert_eq!([0, 900, 2500, 29_999].map(&mut asked), [1, 1, 2, 29].map(lately));
    assert_eq!(asked(30_000), unfound(Status::NeverSeen));
}

// spec: RCH-4
#[test]
fn a_search_at_a_restarted_server_says_that_others_may_be_missing() {
    let mut server = registrar(ServerConfig::default());
    server.on_restart(at(0));
    let mut two = Client::new(&mut server, at(0), 2);
    let mut is_partial = |ms| {
        two.renew(&mut server, at(ms));
        let record = Request::Search(Search {
            word: "chat".to_owned(),
            after: None,
            count: 9,
        });
        let answer = server.request(at(ms), (&two.eid, two.at), &record.encode()).unwrap();
        Entries::decode(&answer).unwrap().unwrap().is_partial
    };
    assert_eq!([0, 29_999, 30_000].map(&mut is_partial), [true, true, false]);
}

// spec: RCH-2
#[test]
fn who_hides_is_not_found_and_leaves_no_trace() {
    let mut server = registrar(ServerConfig::default());
    let hidden = Client::register(&mut server, at(0), 1, [1; 8], Visibility::Hidden).unwrap();
    let mut two = Client::new(&mut server, at(0), 2);
    assert_eq!(
        two.lookup(&mut server, at(1), &hidden.eid),
        Err(unfound(Status::NeverSeen))
    );
    two.renew(&mut server, at(50_000));
    server.on_timer(at(70_000));
    assert_eq!(server.stats().leases, 1);
    assert_eq!(
        two.lookup(&mut server, at(70_000), &hidden.eid),
        Err(unfound(Status::NeverSeen))
    );
}

// spec: RCH-9
#[test]
fn a_restarted_server_takes_no_packet_of_its_earlier_run_and_restores_leases_by_new_ones() {
    let mut server = registrar(ServerConfig::default());
    let mut one = Client::new(&mut server, at(0), 1);
    let earlier = one.lease(None);
    let mut server = Registrar::new(at(0), ServerConfig::default(), &[7; 32], &[99; 32]);
    server.packet(at(0), one.at, &earlier).unwrap();
    assert_eq!(server.stats().leases, 0, "an earlier run's");
    let (_, answer) = server.poll_transmit().unwrap();
    let ok = LeaseOk::decode(&one.opened(&answer, Kind::LeaseOk)).unwrap();
    assert_ne!(ok.boot, one.registered.boot);
    one.registered.boot = ok.boot;
    let ok = one.renew(&mut server, at(100));
    assert!(ok.notice.is_forgotten, "there is more to be said");
    assert_eq!(server.stats().leases, 1);
    // It is found meanwhile.
    let two = Client::new(&mut server, at(100), 2);
    assert_eq!(two.lookup(&mut server, at(100), &one.eid), Ok(()));
    let mut one = Client::new(&mut server, at(200), 1);
    assert!(!one.renew(&mut server, at(200)).notice.is_forgotten);
    // A server with another secret knows nobody.
    let mut other = Registrar::new(at(0), ServerConfig::default(), &[6; 32], &[99; 32]);
    assert_eq!(other.packet(at(0), one.at, &earlier), Err(Dropped::Unauthentic));
    assert_eq!(sent(&mut other), []);
}

// spec: RCH-9
#[test]
fn a_repeated_packet_changes_nothing_and_is_not_answered() {
    let mut server = registrar(ServerConfig::default());
    let mut one = Client::new(&mut server, at(0), 1);
    let (first, second) = (one.lease(None), one.lease(None));
    server.packet(at(10), one.at, &second).unwrap();
    assert_eq!(sent(&mut server).len(), 1);
    for packet in [&first, &second] {
        assert_eq!(server.packet(at(50_000), address(66), packet), Err(Dropped::Old));
    }
    assert_eq!(sent(&mut server), []);
    server.on_timer(at(60_011));
    assert_eq!(server.stats().leases, 0, "it was not prolonged");
}

/// The lease of a host, as others see it: where it is, and whether it is found.
fn standing(server: &Registrar, now: Instant, of: &Client) -> Option<(Path, u64)> {
    let instance = Instance {
        eid: of.eid,
        name: of.instance,
    };
    let lease = server.leases.get(now, &instance)?;
    Some((lease.path, lease.counter()))
}

/// Sends packets of a host's that somebody has captured, from where they were sent and from elsewhere.
#[track_caller]
fn replay(server: &mut Registrar, now: Instant, of: &Client, captured: &[(SocketAddr, Vec<u8>)]) {
    let before = (standing(server, now, of), server.stats().renewed, server.stats().leases);
    for (from, packet) in captured {
        for from in [*from, of.at, address(66)] {
            let _ = server.packet(now, from, packet);
            for (to, answer) in sent(server) {
                assert!(to == from && answer.len() <= packet.len(), "{now:?}");
            }
        }
    }
    let after = (standing(server, now, of), server.stats().renewed, server.stats().leases);
    assert_eq!(after, before, "{now:?}");
}

// spec: RCH-9
#[test]
fn a_captured_lease_that_is_sent_again_changes_nothing_ever() {
    let mut server = registrar(ServerConfig::default());
    let mut one = Client::new(&mut server, at(0), 1);
    let mut captured = Vec::new();
    let mut lease = |one: &mut Client, server: &mut Registrar, ms| {
        let packet = one.lease(None);
        captured.push((one.at, packet.clone()));
        server.packet(at(ms), one.at, &packet).unwrap();
        let (_, answer) = sent(server).pop().unwrap();
        let ok = LeaseOk::decode(&one.opened(&answer, Kind::LeaseOk)).unwrap();
        one.registered.tokens.push(ok.token);
        captured.clone()
    };
    for ms in [10, 20_000, 40_000] {
        let captured = lease(&mut one, &mut server, ms);
        replay(&mut server, at(ms + 1), &one, &captured);
    }
    // The host has moved, and has proven where it is.
    one.at = address(11);
    lease(&mut one, &mut server, 41_000);
    let captured = lease(&mut one, &mut server, 41_100);
    assert_eq!(standing(&server, at(41_200), &one), Some((address(11).into(), 5)));
    for ms in [41_200, 60_000, 101_000] {
        replay(&mut server, at(ms), &one, &captured);
    }
    // The lease is over, its number forgotten, and nothing brings it back.
    for ms in [101_100, 101_101, 200_000, 10_000_000] {
        server.on_timer(at(ms));
        assert_eq!(standing(&server, at(ms), &one), None);
        replay(&mut server, at(ms), &one, &captured);
    }
    // Nor at another server, nor at the same after a restart.
    for (secret, boot) in [(6, 8), (7, 99)] {
        let mut other = Registrar::new(at(0), ServerConfig::default(), &[secret; 32], &[boot; 32]);
        replay(&mut other, at(10), &one, &captured);
    }
}

// spec: RCH-9
#[test]
fn a_captured_lease_of_a_host_that_came_back_after_a_restart_does_not_bring_it_back_later() {
    let mut server = registrar(ServerConfig::default());
    let mut one = Client::new(&mut server, at(0), 1);
    let mut server = Registrar::new(at(50_000), ServerConfig::default(), &[7; 32], &[99; 32]);
    // The same token as before: what it is good for ends a lease after the restart.
    one.keeps_its_token = true;
    one.renew(&mut server, at(51_000));
    let packet = one.lease(None);
    server.packet(at(51_100), one.at, &packet).unwrap();
    assert_eq!(server.stats().leases, 1, "it is restored at once");
    drop(sent(&mut server));
    for ms in [111_100, 120_000, 1_000_000] {
        server.on_timer(at(ms));
        replay(&mut server, at(ms), &one, &[(one.at, packet.clone())]);
        assert_eq!(server.stats().leases, 0);
    }
}

// spec: RCH-9
#[test]
fn a_host_that_was_away_for_longer_than_its_lease_is_told_to_register_again() {
    let mut server = registrar(ServerConfig::default());
    let mut one = Client::new(&mut server, at(0), 1);
    one.keeps_its_token = true;
    one.renew(&mut server, at(10));
    server.on_timer(at(70_000));
    let ok = one.renew(&mut server, at(70_011));
    assert!(ok.notice.is_forgotten && ok.ttl > 0);
    assert_eq!(server.stats().leases, 0);
    // CONNECT does not bring it back, either.
    server.packet(at(70_020), one.at, &one.connect(eid(9), [5; 8])).unwrap();
    let (_, answer) = sent(&mut server).pop().unwrap();
    assert_eq!(one.found(&answer), Err(unfound(Status::NoLease)));
    // With a token that was just made it is as before: whoever has it has been heard now.
    one.keeps_its_token = false;
    assert!(one.renew(&mut server, at(70_030)).notice.is_forgotten);
    assert_eq!(server.stats().leases, 1);
}

// spec: RCH-10, RCH-12
#[test]
fn an_address_gets_nothing_but_answers_until_a_token_has_come_back_from_it() {
    let mut server = registrar(relaying());
    let (mut one, mut two) = (Client::new(&mut server, at(0), 1), Client::new(&mut server, at(0), 2));
    // Somebody has seen a LEASE, and sends it from elsewhere, before the server has it.
    let stolen = one.lease(None);
    server.packet(at(10), address(66), &stolen).unwrap();
    let [(to, answer)] = &sent(&mut server)[..] else {
        panic!("one answer");
    };
    assert_eq!(*to, address(66));
    assert!(answer.len() <= stolen.len(), "no more than has come");
    server.packet(at(20), two.at, &two.connect(one.eid, [5; 8])).unwrap();
    let told: Vec<_> = sent(&mut server).into_iter().map(|(to, _)| to).collect();
    assert_eq!(told, [two.at, one.at], "FOUND, and NOTIFY to where the host is");

    // The host moves: it is told of nothing there until it has proven that it is there.
    one.at = address(11);
    one.renew(&mut server, at(2000));
    server.packet(at(2010), two.at, &two.connect(one.eid, [6; 8])).unwrap();
    assert_eq!(sent(&mut server)[1].0, address(1));
    one.renew(&mut server, at(2020));
    server.on_timer(at(2200));
    let told: Vec<_> = sent(&mut server).into_iter().map(|(to, _)| to).collect();
    assert_eq!(told, [address(11)], "NOTIFY again");
}

// spec: RCH-11, RCH-12
#[test]
fn both_are_told_of_each_other() {
    let mut server = registrar(relaying());
    let (mut caller, mut callee) = (Client::new(&mut server, at(0), 1), Client::new(&mut server, at(0), 2));
    callee.renew(&mut server, at(1));
    server
        .packet(at(10), caller.at, &caller.connect(callee.eid, [5; 8]))
        .unwrap();
    let first = sent(&mut server);
    assert_eq!(
        first.iter().map(|(to, _)| *to).collect::<Vec<_>>(),
        [caller.at, callee.at]
    );
    let way = caller.found(&first[0].1).unwrap();
    assert_eq!(way.address, callee.at);
    assert_eq!(way.hold, 0, "it hears later");
    let opened = callee.opened(&first[1].1, Kind::Notify);
    let notify = Notify::decode(&opened).unwrap();
    assert_eq!(notify.hello, b"a short HELLO");
    assert_eq!(notify.way.address, caller.at);
    assert_eq!(notify.way.hold, 15_000, "half of 50 ms less 20 ms");
    assert_eq!(notify.way.punch_key, way.punch_key);
    assert_ne!(notify.way.handle, way.handle);
    assert_ne!(notify.introduction, [5; 8], "each has its own name for it");

    // LEG goes on as it comes, and with every NOTIFY that follows.
    let leg = caller.key().leg(From::Host, &[5; 8], &[3; long::KEM_KEY]);
    assert_eq!(server.packet(at(20), address(66), &leg), Err(Dropped::Unauthentic));
    let forged = LeaseKey::new([1; 32]).leg(From::Host, &[5; 8], &[3; long::KEM_KEY]);
    assert_eq!(server.packet(at(20), caller.at, &forged), Err(Dropped::Unauthentic));
    server.packet(at(20), caller.at, &leg).unwrap();
    let [(to, packet)] = &sent(&mut server)[..] else {
        panic!("LEG alone");
    };
    let Packet::Leg(read) = Packet::parse(packet).unwrap() else {
        panic!("a LEG");
    };
    assert_eq!((*to, read.introduction), (callee.at, &notify.introduction));
    assert!(callee.key().is_genuine(From::Server, &read));
    let moved = first[1].1.len() + leg.len() + packet.len() + caller.connect(callee.eid, [5; 8]).len();
    assert!(moved <= 4500, "{moved} bytes");
    server.on_timer(at(110));
    assert_eq!(sent(&mut server).len(), 2);

    // Until it has answered.
    let answer = callee.lease(Some((notify.introduction, Status::Ok)));
    server.packet(at(120), callee.at, &answer).unwrap();
    sent(&mut server);
    // One that the caller repeats goes on: the first may be lost. But not as often as it likes.
    for _ in 0..10 {
        server.packet(at(130), caller.at, &leg).unwrap();
    }
    assert_eq!(sent(&mut server).len(), 3);
    server.on_timer(at(9000));
    assert_eq!(sent(&mut server), []);
}

/// The answer to CONNECT on a stream, from an address.
fn asked(server: &mut Registrar, (caller, callee, name): (&Client, Eid, u8), from: SocketAddr) -> Result<Way, Unfound> {
    let call = Call {
        instance: caller.instance,
        rtt: 50_000,
        introduction: [name; 8],
        eid: callee,
        hello: b"a short HELLO".to_vec(),
        key: Some(Box::new([3; long::KEM_KEY])),
    };
    let answer = server.request(at(10), (&caller.eid, from), &Request::Connect(call).encode());
    read_way(&answer.unwrap()).unwrap()
}

// spec: RCH-41
#[test]
fn connect_on_the_stream_of_a_registration_does_what_the_packets_do() {
    let mut server = registrar(relaying());
    let (caller, mut callee) = (Client::new(&mut server, at(0), 1), Client::new(&mut server, at(0), 2));
    callee.renew(&mut server, at(1));
    let no_lease = Err(unfound(Status::NoLease));
    assert_eq!(asked(&mut server, (&caller, callee.eid, 5), address(66)), no_lease);
    let stranger = Client {
        instance: [66; 8],
        ..Client::new(&mut server, at(2), 1)
    };
    assert_eq!(asked(&mut server, (&stranger, callee.eid, 5), caller.at), no_lease);
    assert_eq!(sent(&mut server), []);
    assert_eq!(server.stats().refused, 2);

    let way = asked(&mut server, (&caller, callee.eid, 5), caller.at).unwrap();
    let told = sent(&mut server);
    assert_eq!(told.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [callee.at; 2]);
    let opened = callee.opened(&told[0].1, Kind::Notify);
    let notify = Notify::decode(&opened).unwrap();
    assert_eq!(notify.hello, b"a short HELLO");
    assert_eq!((way.address, notify.way.address), (callee.at, caller.at));
    assert_eq!((way.hold, notify.way.hold), (0, 15_000), "half of 50 ms less 20 ms");
    assert_eq!(notify.way.punch_key, way.punch_key);
    let Packet::Leg(leg) = Packet::parse(&told[1].1).unwrap() else {
        panic!("a LEG");
    };
    assert_eq!((leg.introduction, leg.key), (&notify.introduction, &[3; long::KEM_KEY]));

    // What is said of it later comes by a packet, and counts for the same quotas.
    let never = asked(&mut server, (&caller, eid(9), 6), caller.at);
    assert_eq!(never, Err(unfound(Status::NeverSeen)));
    let refuse = callee.lease(Some((notify.introduction, Status::Refused)));
    server.packet(at(30), callee.at, &refuse).unwrap();
    let told = sent(&mut server);
    let [found] = &told.iter().filter(|(to, _)| *to == caller.at).collect::<Vec<_>>()[..] else {
        panic!("{told:?}");
    };
    assert_eq!(caller.found(&found.1), Err(unfound(Status::Refused)));
}

/// The ways that a caller and its callee are told of each other, when the one calls the other.
fn ways(server: &mut Registrar, now: Instant, (caller, callee): (&mut Client, &Client), name: u8) -> [Way; 2] {
    let packet = caller.connect(callee.eid, [name; 8]);
    server.packet(now, caller.at, &packet).unwrap();
    let told = sent(server);
    let to = |at: SocketAddr| told.iter().find(|(to, _)| *to == at).map(|(_, packet)| packet).unwrap();
    let notify = callee.opened(to(callee.at), Kind::Notify);
    [
        caller.found(to(caller.at)).unwrap(),
        Notify::decode(&notify).unwrap().way,
    ]
}

/// Registers a host that is reached by relays alone.
fn veiled(server: &mut Registrar, now: Instant, n: u8) -> Client {
    let register = Register {
        instance: [n; 8],
        visibility: Visibility::Known,
        is_veiled: true,
        ..Register::default()
    };
    let record = Request::Register(register).encode();
    let answer = server.request(now, (&eid(n), address(n)), &record).unwrap();
    Client {
        registered: Registered::decode(&answer).unwrap().unwrap(),
        is_veiled: true,
        ..Client::new(&mut registrar(ServerConfig::default()), now, n)
    }
}

/// Returns whether no way has an address, and each a handle.
fn tell_nothing(ways: [Way; 2]) -> bool {
    let mut ways = ways.iter();
    ways.all(|way| (way.address, way.mapped) == (NOWHERE, 0) && way.handle != 0)
}

// spec: RCH-38
#[test]
fn nobody_is_told_where_a_host_is_that_is_reached_by_relays_alone() {
    let mut server = registrar(relaying());
    let (mut plain, mut other) = (Client::new(&mut server, at(0), 1), Client::new(&mut server, at(0), 2));
    // From REGISTER on, before it has leased.
    let mut hidden = veiled(&mut server, at(0), 3);
    assert!(tell_nothing(ways(&mut server, at(10), (&mut plain, &hidden), 1)));
    assert!(tell_nothing(ways(&mut server, at(20), (&mut hidden, &plain), 2)));
    // When it has leased, and if CONNECT is repeated.
    for (ms, name) in [(3000, 3), (4000, 4)] {
        hidden.renew(&mut server, at(ms));
        let packet = plain.connect(hidden.eid, [name; 8]);
        server.packet(at(ms + 10), plain.at, &packet).unwrap();
        drop(sent(&mut server));
        server.on_timer(at(ms + 900));
        drop(sent(&mut server));
        assert!(tell_nothing(ways(
            &mut server,
            at(ms + 950),
            (&mut plain, &hidden),
            name
        )));
    }
    // Others are told of each other as ever.
    let [found, told] = ways(&mut server, at(7000), (&mut plain, &other), 5);
    assert_eq!((found.address, told.address), (other.at, plain.at));

    // After a restart nothing is known of it before it has said so again: CONNECT makes no lease.
    let mut server = Registrar::new(at(8000), relaying(), &[7; 32], &[99; 32]);
    for client in [&mut plain, &mut other, &mut hidden] {
        client.registered.boot = server.boot;
    }
    plain.renew(&mut server, at(8000));
    server
        .packet(at(8010), hidden.at, &hidden.connect(plain.eid, [6; 8]))
        .unwrap();
    let [(to, answer)] = &sent(&mut server)[..] else {
        panic!("FOUND alone");
    };
    assert_eq!(*to, hidden.at);
    assert_eq!(hidden.found(answer), Err(unfound(Status::NoLease)));
    hidden.renew(&mut server, at(8020));
    assert!(tell_nothing(ways(&mut server, at(8030), (&mut plain, &hidden), 7)));
    assert!(tell_nothing(ways(&mut server, at(8040), (&mut hidden, &plain), 8)));
}

// spec: RCH-12
#[test]
fn the_caller_hears_why_nothing_comes_of_it() {
    let mut server = registrar(ServerConfig::default());
    let (mut caller, mut callee) = (Client::new(&mut server, at(0), 1), Client::new(&mut server, at(0), 2));
    let ask = |server: &mut Registrar, caller: &mut Client, now, of, name| {
        let packet = caller.connect(of, name);
        server.packet(now, caller.at, &packet).unwrap();
        let (_, answer) = server.poll_transmit().unwrap();
        caller.found(&answer)
    };
    let never = ask(&mut server, &mut caller, at(0), eid(77), [1; 8]);
    assert_eq!(never, Err(unfound(Status::NeverSeen)));
    let way = ask(&mut server, &mut caller, at(0), callee.eid, [2; 8]).unwrap();
    assert_eq!(way.handle, 0, "nothing is relayed");
    let notices: Vec<_> = [0, 99, 100, 300, 700, 5999]
        .map(|ms| {
            server.on_timer(at(ms));
            sent(&mut server).len()
        })
        .into();
    assert_eq!(notices, [1, 0, 1, 1, 1, 0]);
    server.on_timer(at(6000));
    let (to, packet) = server.poll_transmit().unwrap();
    assert_eq!(
        (to, caller.found(&packet)),
        (caller.at.into(), Err(unfound(Status::Unreachable)))
    );
    // That may be lost: whoever asks again is told again.
    let again = ask(&mut server, &mut caller, at(6400), callee.eid, [2; 8]);
    assert_eq!(again, Err(unfound(Status::Unreachable)));

    ask(&mut server, &mut caller, at(6500), callee.eid, [3; 8]).unwrap();
    let (_, packet) = server.poll_transmit().unwrap();
    let name = Notify::decode(&callee.opened(&packet, Kind::Notify))
        .unwrap()
        .introduction;
    // Somebody else cannot refuse for it.
    let forged = caller.lease(Some((name, Status::Refused)));
    server.packet(at(6510), caller.at, &forged).unwrap();
    assert_eq!(sent(&mut server).len(), 1, "LEASE_OK");
    let refusal = callee.lease(Some((name, Status::Refused)));
    server.packet(at(6520), callee.at, &refusal).unwrap();
    let packets = sent(&mut server);
    assert_eq!(packets.len(), 2, "LEASE_OK, and FOUND");
    assert_eq!(caller.found(&packets[0].1), Err(unfound(Status::Refused)));
    let again = ask(&mut server, &mut caller, at(6600), callee.eid, [3; 8]);
    assert_eq!(again, Err(unfound(Status::Refused)));
}

// spec: RCH-3
#[test]
fn quotas_hold() {
    let quotas = Quotas {
        leases: 4,
        each_network: 2,
        ..Quotas::default()
    };
    let mut server = registrar(ServerConfig {
        quotas,
        ..ServerConfig::default()
    });
    let register = |server: &mut Registrar, now, n: u8, network: u8| {
        let record = Request::Register(Register {
            instance: [n; 8],
            visibility: Visibility::Known,
            ..Register::default()
        })
        .encode();
        let from = SocketAddr::from(([198, 51, 100, network], u16::from(n)));
        let answer = server.request(now, (&eid(n), from), &record).unwrap();
        Registered::decode(&answer).unwrap().map(|_| ())
    };
    let too_many = Err(unfound(Status::TooMany));
    assert_eq!(register(&mut server, at(0), 1, 1), Ok(()));
    assert_eq!(register(&mut server, at(0), 2, 1), Ok(()));
    assert_eq!(register(&mut server, at(0), 3, 1), too_many, "of one network");
    assert_eq!(register(&mut server, at(0), 2, 1), Ok(()), "the same again");
    assert_eq!(register(&mut server, at(0), 3, 2), Ok(()));
    assert_eq!(register(&mut server, at(0), 4, 3), Ok(()));
    assert_eq!(register(&mut server, at(0), 5, 4), too_many, "of all");
    assert_eq!(register(&mut server, at(60_000), 5, 1), Ok(()), "there is room again");
    server.on_timer(at(120_000));
    assert_eq!((server.leases.due_len(), server.leases.networks_len()), (0, 0));

    let quotas = Quotas {
        calls: Rate::new(5, 20),
        pairs: Rate::new(1, 10),
        ..Quotas::default()
    };
    let mut server = registrar(ServerConfig {
        quotas,
        ..ServerConfig::default()
    });
    let mut caller = Client::new(&mut server, at(0), 1);
    let asked = (0..20).map(|_| caller.lookup(&mut server, at(0), &eid(9)));
    assert_eq!(asked.filter(|a| *a == Err(unfound(Status::TooMany))).count(), 10);
    for n in 10..40 {
        Client::new(&mut server, at(0), n);
    }
    let called = |server: &mut Registrar, caller: &mut Client, now, names: std::ops::Range<u8>| {
        names
            .filter(|n| {
                let packet = caller.connect(eid(*n), [*n; 8]);
                server.packet(now, caller.at, &packet).unwrap();
                let (_, answer) = server.poll_transmit().unwrap();
                sent(server);
                caller.found(&answer).is_ok()
            })
            .count()
    };
    assert_eq!(called(&mut server, &mut caller, at(0), 10..40), 20, "of a host");
    assert_eq!(called(&mut server, &mut caller, at(0), 10..15), 5, "the same again");
    // A pair may do much at once, and then one a second.
    let other = |server: &mut Registrar, caller: &mut Client, now, name| {
        let packet = caller.connect(eid(10), name);
        server.packet(now, caller.at, &packet).unwrap();
        caller.found(&sent(server)[0].1).is_ok()
    };
    let at_once = (100..120).filter(|n| other(&mut server, &mut caller, at(5000), [*n; 8]));
    assert_eq!(at_once.count(), 10);
    assert!(!other(&mut server, &mut caller, at(5999), [200; 8]));
    assert!(other(&mut server, &mut caller, at(6000), [200; 8]));
    server.on_timer(at(20_000));
    assert_eq!(server.stats().introductions, 0);
    assert!(server.introductions.is_empty());
}

// spec: RCH-3
#[test]
fn threat_45_seven_that_call_as_often_as_they_may_put_no_eighth_off() {
    // Of as many networks, or all of the eighth's own.
    for is_spread in [true, false] {
        let mut server = registrar(ServerConfig::default());
        let callee = Client::new(&mut server, at(0), 100);
        let mut callers: Vec<Client> = (1..=8).map(|n| Client::new(&mut server, at(0), n)).collect();
        if !is_spread {
            for (port, caller) in (7001..).zip(&mut callers) {
                caller.at = SocketAddr::from(([198, 51, 100, 77], port));
                (0..2).for_each(|_| drop(caller.renew(&mut server, at(0))));
            }
        }
        let mut name = 0_u64;
        let mut call = |server: &mut Registrar, caller: &mut Client, ms| {
            name += 1;
            let packet = caller.connect(callee.eid, name.to_be_bytes());
            server.packet(at(ms), caller.at, &packet).unwrap();
            let (_, answer) = server.poll_transmit().unwrap();
            sent(server);
            caller.found(&answer).is_ok()
        };
        let (mut told, mut put_off) = ([0; 7], Vec::new());
        for ms in (0..30_000).step_by(5) {
            server.on_timer(at(ms));
            sent(&mut server);
            let (eighth, others) = callers.split_last_mut().unwrap();
            for (count, caller) in told.iter_mut().zip(others) {
                *count += u32::from(call(&mut server, caller, ms));
            }
            // It begins when the others have used up what there is.
            if ms >= 2000 && ms % 4000 == 0 && !call(&mut server, eighth, ms) {
                put_off.push(ms);
            }
        }
        assert_eq!(put_off, Vec::<u64>::new(), "{is_spread}: {told:?}");
        assert!(told.iter().all(|count| *count >= 10), "{is_spread}: {told:?}");
    }
}

// spec: RCH-3
#[test]
fn thirty_two_programs_of_one_identity_find_a_host_within_a_second() {
    let mut server = registrar(ServerConfig::default());
    let mut caller = Client::new(&mut server, at(0), 1);
    let callee = Client::new(&mut server, at(0), 2);
    let mut found = |ms, names: std::ops::Range<u8>| {
        let told = names.filter(|name| {
            let packet = caller.connect(callee.eid, [*name; 8]);
            server.packet(at(ms), caller.at, &packet).unwrap();
            let (_, answer) = server.poll_transmit().unwrap();
            sent(&mut server);
            caller.found(&answer).is_ok()
        });
        told.count()
    };
    // The callee hears of 20 a second, and what is put off is not counted.
    assert_eq!(found(0, 1..33), 20);
    assert_eq!(found(0, 21..33), 0);
    assert_eq!(found(1000, 21..33), 12);
    assert_eq!(
        found(1000, 33..65),
        1,
        "of a pair, 30 at once, and 3 a second in the long run"
    );
    // What the callee remembers for 10 s is not used up by one other.
    let later = (2..10).map(|second: u8| found(u64::from(second) * 1000, second * 16 + 64..second * 16 + 80));
    let all: usize = later.sum();
    assert!(32 + 1 + all <= 64, "{all}");
}

// spec: RCH-3
#[test]
fn a_server_serves_only_whom_it_is_to() {
    let allow: Allow = Box::new(|of| *of == eid(1));
    let mut server = registrar(ServerConfig {
        allow: Some(allow),
        ..ServerConfig::default()
    });
    let register = |server: &mut Registrar, n| Client::register(server, at(0), n, [n; 8], Visibility::Known);
    assert!(register(&mut server, 1).is_ok());
    assert_eq!(register(&mut server, 2).err(), Some(unfound(Status::NotAllowed)));
}

/// The address of the callee that is named to a caller, and those of whoever is told of it.
fn called(
    server: &mut Registrar,
    now: Instant,
    (caller, name): (&mut Client, u8),
    callee: Eid,
) -> (Result<SocketAddr, Status>, Vec<SocketAddr>) {
    server.on_timer(now);
    sent(server);
    let packet = caller.connect(callee, [name; 8]);
    server.packet(now, caller.at, &packet).unwrap();
    let (own, others): (Vec<_>, Vec<_>) = sent(server).into_iter().partition(|(to, _)| *to == caller.at);
    let found = caller.found(&own[0].1);
    let told = others.iter().map(|(to, _)| *to).collect();
    (found.map(|way| way.address).map_err(|unfound| unfound.status), told)
}

/// A run of host 1 at an address of its own.
fn instance(server: &mut Registrar, now: Instant, n: u8, visibility: Visibility) -> Client {
    let mut client = Client::register(server, now, 1, [n; 8], visibility).unwrap();
    client.at = address(n);
    // The first LEASE tells it, the second proves it.
    client.renew(server, now);
    client.renew(server, now);
    client
}

// spec: RCH-2, RCH-20
#[test]
fn two_instances_of_a_host_stand_side_by_side_and_the_later_is_introduced() {
    let mut server = registrar(ServerConfig::default());
    let mut caller = Client::new(&mut server, at(0), 9);
    let mut first = instance(&mut server, at(0), 1, Visibility::Known);
    let mut second = instance(&mut server, at(10), 2, Visibility::Known);
    assert_ne!(first.registered.key, second.registered.key);
    assert!(!first.renew(&mut server, at(20)).notice.is_superseded);
    let later = (Ok(address(2)), vec![address(2)]);
    assert_eq!(called(&mut server, at(30), (&mut caller, 1), eid(1)), later);
    // One that registers again is no later than it was.
    Client::register(&mut server, at(30), 1, [1; 8], Visibility::Known).unwrap();
    first.counter = 0;
    first.renew(&mut server, at(30));
    assert_eq!(called(&mut server, at(31), (&mut caller, 2), eid(1)), later);

    // One that goes leaves the other.
    second.presence = Presence::Leaving;
    let ok = second.renew(&mut server, at(40));
    assert_eq!((ok.ttl, server.stats().leases), (0, 2));
    let earlier = (Ok(address(1)), vec![address(1)]);
    assert_eq!(called(&mut server, at(50), (&mut caller, 3), eid(1)), earlier);
    assert_eq!(caller.lookup(&mut server, at(50), &eid(1)), Ok(()));
    for client in [&mut first, &mut caller] {
        client.renew(&mut server, at(50_000));
    }
    server.on_timer(at(60_040));
    assert_eq!(called(&mut server, at(60_050), (&mut caller, 4), eid(1)), earlier);
    first.presence = Presence::Leaving;
    first.renew(&mut server, at(61_000));
    let gone = (Err(Status::Offline), Vec::new());
    assert_eq!(called(&mut server, at(62_000), (&mut caller, 5), eid(1)), gone);
}

// spec: RCH-20
#[test]
fn a_lease_that_is_given_up_does_not_come_back_by_a_packet_from_before() {
    let mut server = registrar(ServerConfig::default());
    let caller = Client::new(&mut server, at(0), 9);
    let mut first = instance(&mut server, at(0), 1, Visibility::Known);
    let before = first.lease(None);
    first.presence = Presence::Leaving;
    first.renew(&mut server, at(10));
    assert_eq!(server.packet(at(20), first.at, &before), Err(Dropped::Old));
    let offline = Unfound::since(Status::Offline, 1);
    assert_eq!(caller.lookup(&mut server, at(1020), &eid(1)), Err(offline));
    // Said again, because the answer was lost, it is answered again.
    assert_eq!(first.renew(&mut server, at(30)).ttl, 0);
    assert_eq!(server.stats().leases, 1);
    // A host that starts anew is another instance.
    instance(&mut server, at(2000), 2, Visibility::Known);
    assert_eq!(caller.lookup(&mut server, at(2000), &eid(1)), Ok(()));
    server.on_timer(at(62_000));
    assert_eq!((server.stats().leases, server.leases.networks_len()), (0, 0));
}

// spec: RCH-2, RCH-20
#[test]
fn nobody_is_introduced_to_an_instance_that_hides_and_none_to_itself() {
    let mut server = registrar(ServerConfig::default());
    let mut caller = Client::new(&mut server, at(0), 9);
    let mut hidden = instance(&mut server, at(0), 1, Visibility::Hidden);
    assert_eq!(
        called(&mut server, at(1), (&mut caller, 1), eid(1)).0,
        Err(Status::NeverSeen)
    );
    let mut found = instance(&mut server, at(10), 2, Visibility::Known);
    instance(&mut server, at(20), 3, Visibility::Hidden);
    let to_found = (Ok(address(2)), vec![address(2)]);
    assert_eq!(called(&mut server, at(30), (&mut caller, 2), eid(1)), to_found);
    // A program may call another of the same identity.
    assert_eq!(called(&mut server, at(30), (&mut hidden, 3), eid(1)), to_found);
    let none = called(&mut server, at(30), (&mut found, 4), eid(1));
    assert_eq!(none.0, Err(Status::NeverSeen));
}

// spec: RCH-20
#[test]
fn an_instance_that_does_not_answer_comes_behind_one_that_does() {
    let mut server = registrar(ServerConfig::default());
    let mut caller = Client::new(&mut server, at(0), 9);
    instance(&mut server, at(0), 1, Visibility::Known);
    let mut second = instance(&mut server, at(10), 2, Visibility::Known);
    assert_eq!(called(&mut server, at(20), (&mut caller, 1), eid(1)).0, Ok(address(2)));
    for ms in [120, 320, 720, 6020] {
        server.on_timer(at(ms));
    }
    sent(&mut server);
    assert_eq!(
        called(&mut server, at(6100), (&mut caller, 2), eid(1)).0,
        Ok(address(1))
    );
    second.renew(&mut server, at(6200));
    assert_eq!(
        called(&mut server, at(6300), (&mut caller, 3), eid(1)).0,
        Ok(address(2))
    );
}

// spec: RCH-12
#[test]
fn whoever_has_not_answered_gives_way_to_an_instance_that_registers_meanwhile() {
    for has_answered in [false, true] {
        let mut server = registrar(ServerConfig::default());
        let mut caller = Client::new(&mut server, at(0), 9);
        let mut first = instance(&mut server, at(0), 1, Visibility::Known);
        server
            .packet(at(20), caller.at, &caller.connect(eid(1), [1; 8]))
            .unwrap();
        server.on_timer(at(20));
        let told: Vec<_> = sent(&mut server)
            .into_iter()
            .filter(|(to, _)| *to == first.at)
            .collect();
        let notice = first.opened(&told[0].1, Kind::Notify);
        let introduction = Notify::decode(&notice).unwrap().introduction;
        if has_answered {
            let answer = first.lease(Some((introduction, Status::Ok)));
            server.packet(at(40), first.at, &answer).unwrap();
        }
        server.on_timer(at(1900));
        sent(&mut server);
        instance(&mut server, at(2000), 2, Visibility::Known);
        // As a rule the one before was killed.
        let (found, told) = called(&mut server, at(2400), (&mut caller, 1), eid(1));
        let expected = address(if has_answered { 1 } else { 2 });
        assert_eq!((found, told), (Ok(expected), vec![expected]), "{has_answered}");
        // The same repeated stays with that one.
        assert_eq!(called(&mut server, at(2500), (&mut caller, 1), eid(1)).0, Ok(expected));
        assert_eq!(server.stats().introduced, if has_answered { 1 } else { 2 });
    }
}

// spec: RCH-20
#[test]
fn of_too_many_instances_those_give_way_that_hide() {
    let mut server = registrar(ServerConfig::default());
    let caller = Client::new(&mut server, at(0), 99);
    let mut serving = instance(&mut server, at(0), 1, Visibility::Known);
    let mut eldest = instance(&mut server, at(1), 2, Visibility::Hidden);
    for n in 3..=80 {
        instance(&mut server, at(u64::from(n)), n, Visibility::Hidden);
    }
    assert_eq!(server.stats().leases, 65, "64, and the caller");
    assert!(!serving.renew(&mut server, at(100)).notice.is_superseded);
    assert!(eldest.renew(&mut server, at(100)).notice.is_superseded);
    assert_eq!(caller.lookup(&mut server, at(100), &eid(1)), Ok(()));
}

// spec: RCH-4, RCH-20
#[test]
fn a_host_is_listed_under_the_words_of_the_instances_that_are_there() {
    let mut server = registrar(ServerConfig::default());
    let asking = Client::new(&mut server, at(0), 9);
    let listed = |server: &mut Registrar, now| {
        let search = Search {
            word: "games".to_owned(),
            after: None,
            count: 4,
        };
        let record = Request::Search(search).encode();
        let answer = server.request(now, (&asking.eid, asking.at), &record).unwrap();
        Entries::decode(&answer).unwrap().unwrap().entries.len()
    };
    let mut both = [1, 2].map(|n| instance(&mut server, at(0), n, Visibility::Listed));
    assert_eq!(listed(&mut server, at(1)), 1, "once");
    for (n, left) in [(1, 1), (0, 0)] {
        both[n].presence = Presence::Leaving;
        both[n].renew(&mut server, at(10));
        assert_eq!(listed(&mut server, at(10)), left);
    }
    assert!(server.leases.is_unlisted());
}

// spec: RCH-4
#[test]
fn listed_hosts_are_found_by_their_words_page_by_page() {
    let mut server = registrar(ServerConfig::default());
    for n in 1..=9 {
        let visibility = if n % 3 == 0 {
            Visibility::Known
        } else {
            Visibility::Listed
        };
        Client::register(&mut server, at(0), n, [n; 8], visibility).unwrap();
    }
    let asking = Client::new(&mut server, at(0), 20);
    let search = |server: &mut Registrar, now, word: &str, after| {
        let search = Search {
            word: word.to_owned(),
            after,
            count: 4,
        };
        let record = Request::Search(search).encode();
        let answer = server.request(now, (&asking.eid, asking.at), &record).unwrap();
        Entries::decode(&answer).unwrap().unwrap()
    };
    let first = search(&mut server, at(0), "games", None);
    let listed = |n| (eid(n), format!("host {n}"));
    assert_eq!(first.entries, [1, 2, 4, 5].map(listed));
    assert_eq!(first.next, Some(eid(5)));
    let rest = search(&mut server, at(0), "games", first.next);
    assert_eq!((rest.entries, rest.next), ([7, 8].map(listed).to_vec(), None));
    assert_eq!(search(&mut server, at(0), "game", None), Entries::default());
    // Who registers again without wanting to be listed is not any more.
    Client::register(&mut server, at(10), 1, [1; 8], Visibility::Known).unwrap();
    assert_eq!(search(&mut server, at(10), "games", None).entries[0], listed(2));
    server.on_timer(at(70_000));
    assert!(server.leases.is_unlisted());
}

/// Two hosts that were introduced, with their handles.
fn introduced(server: &mut Registrar) -> (Client, Client, u32, u32) {
    let (mut caller, callee) = (Client::new(server, at(0), 1), Client::new(server, at(0), 2));
    let packet = caller.connect(callee.eid, [5; 8]);
    server.packet(at(0), caller.at, &packet).unwrap();
    let packets = sent(server);
    let own = caller.found(&packets[0].1).unwrap().handle;
    let notify = callee.opened(&packets[1].1, Kind::Notify);
    let others = Notify::decode(&notify).unwrap().way.handle;
    (caller, callee, own, others)
}

// spec: RCH-39
#[test]
fn a_host_that_hides_is_found_by_those_alone_with_whom_it_speaks_through_the_relay() {
    let mut server = registrar(relaying());
    let hide = |server: &mut Registrar, n| Client::register(server, at(0), n, [n; 8], Visibility::Hidden).unwrap();
    let (mut hidden, mut other) = (hide(&mut server, 1), hide(&mut server, 4));
    let (mut callee, mut third) = (Client::new(&mut server, at(0), 2), Client::new(&mut server, at(0), 3));
    let asks = |server: &mut Registrar, ms, (from, to): (&mut Client, Eid), name: u8| {
        let packet = from.connect(to, [name; 8]);
        server.packet(at(ms), from.at, &packet).unwrap();
        let told = sent(server);
        let found = told.iter().find(|(to, _)| *to == from.at).unwrap();
        from.found(&found.1)
    };
    assert!(
        asks(&mut server, 10, (&mut callee, hidden.eid), 1).is_err(),
        "it has called nobody"
    );
    // It calls, and is found by the one it has called: also by one that has moved, and has not heard from it since.
    let own = asks(&mut server, 20, (&mut hidden, callee.eid), 2).unwrap().handle;
    for (ms, port, name) in [(40, 7000, 3), (1000, 7001, 4), (2000, 7002, 5)] {
        callee.at.set_port(port);
        for _ in 0..2 {
            let packet = callee.lease(None);
            server.packet(at(ms), callee.at, &packet).unwrap();
            let told = sent(&mut server);
            let is_answer = |packet: &[u8]| packet[0] == Kind::LeaseOk as u8;
            let (_, ok) = told
                .iter()
                .find(|(to, packet)| *to == callee.at && is_answer(packet))
                .unwrap();
            let ok = LeaseOk::decode(&callee.opened(ok, Kind::LeaseOk)).unwrap();
            callee.registered.tokens.push(ok.token);
        }
        let way = asks(&mut server, ms + 2, (&mut callee, hidden.eid), name).unwrap();
        assert_eq!(way.address, hidden.at);
        assert_ne!(way.handle, own, "each has its own");
    }
    for host in [&mut third, &mut other] {
        assert_eq!(
            asks(&mut server, 3000, (host, hidden.eid), 6),
            Err(unfound(Status::NeverSeen))
        );
    }
    hidden.renew(&mut server, at(58_000));
    // To look for it does not keep it within reach.
    let mut lookup = |ms, name| asks(&mut server, ms, (&mut callee, hidden.eid), name).is_ok();
    assert!(lookup(59_000, 7));
    assert!(!lookup(61_000, 8));
}

// spec: RCH-17
#[test]
fn a_packet_is_relayed_between_the_two_hosts_of_an_introduction_alone() {
    let mut server = registrar(relaying());
    let (mut caller, callee, own, others) = introduced(&mut server);
    let mut relay = |now, from, handle| server.relay(now, (from, handle), run(1000));
    // The callee may be sent nothing until it has sent something.
    assert_eq!(relay(at(1), caller.at, own), Err(Unrelayed::NotOpen));
    assert_eq!(relay(at(2), callee.at, others), Ok((caller.at.into(), own)));
    assert_eq!(relay(at(3), caller.at, own), Ok((callee.at.into(), others)));
    for (from, handle) in [(address(66), own), (callee.at, own), (caller.at, others)] {
        assert_eq!(relay(at(4), from, handle), Err(Unrelayed::WrongSource));
    }
    assert_eq!(relay(at(4), caller.at, own ^ 1), Err(Unrelayed::UnknownHandle));
    assert_eq!(server.stats().relayed_bytes, 2000);

    // From another address it needs another handle.
    caller.at = address(11);
    caller.renew(&mut server, at(10));
    caller.renew(&mut server, at(20));
    for from in [address(1), address(11)] {
        assert_eq!(server.relay(at(30), (from, own), run(100)), Err(Unrelayed::WrongSource));
    }
    assert_eq!(
        server.relay(at(30), (callee.at, others), run(100)),
        Err(Unrelayed::Gone)
    );
    let packet = caller.connect(callee.eid, [6; 8]);
    server.packet(at(1000), caller.at, &packet).unwrap();
    let way = caller.found(&sent(&mut server)[0].1).unwrap();
    assert_ne!(way.handle, own);
    assert_eq!(server.stats().handles, 2, "the earlier ones are gone");
    let mut plain = registrar(ServerConfig::default());
    assert_eq!(
        plain.relay(at(0), (caller.at, own), run(9)),
        Err(Unrelayed::UnknownHandle)
    );
}

// spec: RCH-17
#[test]
fn handles_last_a_minute_and_rates_are_kept() {
    let limits = RelayLimits {
        handles: 2,
        pair_rate: 100_000,
        client_rate: 120_000,
        total_rate: 150_000,
    };
    let mut server = registrar(ServerConfig {
        relay: Some(limits),
        ..ServerConfig::default()
    });
    let (mut caller, mut callee, own, others) = introduced(&mut server);
    server.relay(at(0), (callee.at, others), run(5)).unwrap();
    let passed = (0..1000)
        .filter(|ms| server.relay(at(*ms), (caller.at, own), run(1000)).is_ok())
        .count();
    assert!((100..=130).contains(&passed), "{passed} of 1000 KB in a second");
    // No room for a second pair, until the first is silent.
    let mut third = Client::new(&mut server, at(1000), 3);
    let handle = |server: &mut Registrar, now, third: &mut Client, name| {
        let packet = third.connect(eid(2), name);
        server.packet(now, third.at, &packet).unwrap();
        third.found(&sent(server)[0].1).unwrap().handle
    };
    assert_eq!(handle(&mut server, at(1000), &mut third, [8; 8]), 0);
    for client in [&mut caller, &mut callee, &mut third] {
        client.renew(&mut server, at(50_000));
    }
    assert_ne!(handle(&mut server, at(62_000), &mut third, [9; 8]), 0);
    assert_eq!(
        server.relay(at(62_000), (caller.at, own), run(5)),
        Err(Unrelayed::UnknownHandle)
    );
}

// spec: RCH-21
#[test]
fn all_leaves_from_the_address_that_the_latest_packet_of_the_host_came_to() {
    let mut server = registrar(relaying());
    let locals = [1, 2].map(|n| Some(IpAddr::from([198, 51, 100, n])));
    let path = |remote, local| Path {
        link: Link::Udp(remote),
        local,
    };
    let (mut caller, mut callee) = (Client::new(&mut server, at(0), 1), Client::new(&mut server, at(0), 2));
    let take = |server: &mut Registrar, from, packet: &[u8]| -> Vec<(Path, Vec<u8>)> {
        server.packet(at(0), from, packet).unwrap();
        std::iter::from_fn(|| server.poll_transmit()).collect()
    };
    for local in [locals[1], locals[0]] {
        let from = path(callee.at, local);
        let answers = take(&mut server, from, &callee.lease(None));
        assert_eq!(answers[0].0, from, "LEASE_OK");
    }
    let (to_caller, to_callee) = (path(caller.at, locals[1]), path(callee.at, locals[0]));
    let told = take(&mut server, to_caller, &caller.connect(callee.eid, [5; 8]));
    assert_eq!((told[0].0, told[1].0), (to_caller, to_callee), "FOUND and NOTIFY");
    let own = caller.found(&told[0].1).unwrap().handle;
    let notify = callee.opened(&told[1].1, Kind::Notify);
    let others = Notify::decode(&notify).unwrap().way.handle;
    assert_eq!(server.relay(at(1), (callee.at, others), run(9)), Ok((to_caller, own)));
    assert_eq!(server.relay(at(1), (caller.at, own), run(9)), Ok((to_callee, others)));
}

// spec: RCH-23
#[test]
fn the_end_of_a_tunnel_is_no_address_for_others_and_has_four_leases_at_most() {
    let mut server = registrar(relaying());
    let mut caller = Client::new(&mut server, at(0), 1);
    let tunnel = |id| Path {
        link: Link::Tunnel(TunnelId(id)),
        local: None,
    };
    let register = |server: &mut Registrar, n: u8, id| {
        let register = Register {
            instance: [n; 8],
            visibility: Visibility::Known,
            ..Register::default()
        };
        let record = Request::Register(register).encode();
        let answer = server.request(at(0), (&eid(n), tunnel(id)), &record).unwrap();
        Registered::decode(&answer).unwrap()
    };
    let registered = register(&mut server, 2, 7).unwrap();
    assert_eq!(registered.address.to_string(), "[100::7]:0");
    let packet = caller.connect(eid(2), [5; 8]);
    server.packet(at(0), caller.at, &packet).unwrap();
    let told: Vec<_> = std::iter::from_fn(|| server.poll_transmit()).collect();
    assert_eq!((told[0].0, told[1].0), (caller.at.into(), tunnel(7)));
    let way = caller.found(&told[0].1).unwrap();
    assert_eq!(way.address, NOWHERE);
    // What comes from there with its handle goes on, and what comes by another tunnel does not.
    let others = server.relay(at(0), (caller.at, way.handle), run(9));
    assert_eq!(others, Err(Unrelayed::NotOpen));
    assert_eq!(
        server.relay(at(0), (tunnel(8), way.handle), run(9)),
        Err(Unrelayed::WrongSource)
    );
    let mine: Vec<_> = (3..9).map(|n| register(&mut server, n, 7).is_ok()).collect();
    assert_eq!(mine, [true, true, true, false, false, false]);
    assert!(register(&mut server, 9, 8).is_ok(), "another tunnel has room");
}

// spec: RCH-12
#[test]
fn a_caller_without_leg_that_asks_again_has_the_callee_told_again_four_times_at_most() {
    let mut server = registrar(ServerConfig::default());
    let (mut caller, mut callee) = (Client::new(&mut server, at(0), 1), Client::new(&mut server, at(0), 2));
    let told = |server: &mut Registrar, ms, caller: &mut Client, at_callee| {
        let packet = caller.connect(eid(2), [6; 8]);
        server.packet(at(ms), caller.at, &packet).unwrap();
        sent(server).iter().filter(|(to, _)| *to == at_callee).count()
    };
    let here = callee.at;
    assert_eq!(told(&mut server, 0, &mut caller, here), 1);
    let packet = caller.connect(eid(2), [6; 8]);
    server.packet(at(1), caller.at, &packet).unwrap();
    let all = sent(&mut server);
    assert!(all.iter().all(|(to, _)| *to != here), "it may yet answer");
    let name = server.introductions.get(&[6; 8]).unwrap().name;
    server
        .packet(at(2), here, &callee.lease(Some((name, Status::Ok))))
        .unwrap();
    sent(&mut server);
    let repeated: Vec<usize> = (0..6)
        .map(|n| told(&mut server, 1000 + 500 * n, &mut caller, here))
        .collect();
    assert_eq!(repeated, [1, 1, 1, 1, 0, 0]);
}

proptest! {
    // spec: RCH-7
    #[test]
    fn nothing_that_comes_makes_a_server_panic_or_answer(
        bytes in vec(any::<u8>(), 0..1300),
        kind in 0x88_u8..0x93,
        size in prop_oneof![Just(LEASE_SIZE), Just(45), Just(1213), 0_usize..1300],
    ) {
        let mut server = registrar(relaying());
        let client = Client::new(&mut server, at(0), 1);
        let mut packet = bytes;
        packet.resize(size.max(5), 0);
        packet[0] = kind;
        packet[1..5].copy_from_slice(&1_u32.to_be_bytes());
        prop_assert!(server.packet(at(1), client.at, &packet).is_err());
        let _ = server.request(at(1), (&client.eid, client.at), &packet);
        prop_assert_eq!(sent(&mut server), []);
    }
}

/// Sends LEASE from an address, with a token. Returns what the server sends then.
fn lease_with(
    server: &mut Registrar,
    now: Instant,
    client: &mut Client,
    (from, token): (SocketAddr, &[u8]),
) -> Vec<(SocketAddr, LeaseOk)> {
    client.counter += 1;
    let lease = bodies::Lease {
        boot: client.registered.boot,
        counter: client.counter,
        rtt: 0,
        presence: client.presence,
        is_veiled: client.is_veiled,
        answer: None,
        mapped: client.mapped,
    };
    let packet = client.key().lease(&lease, token, &mut client.rng);
    server.packet(now, from, &packet).unwrap();
    let sent = std::iter::from_fn(|| server.poll_transmit());
    sent.map(|(to, answer)| {
        assert_eq!(answer.len(), packet.len());
        let ok = LeaseOk::decode(&client.opened(&answer, Kind::LeaseOk)).unwrap();
        (to.end(), ok)
    })
    .collect()
}

/// The mapped port of host 1 that host 2 is told.
fn told(server: &mut Registrar, now: Instant) -> u16 {
    let mut caller = Client::new(server, now, 2);
    let packet = caller.connect(eid(1), [9; 8]);
    server.packet(now, caller.at, &packet).unwrap();
    let sent: Vec<_> = std::iter::from_fn(|| server.poll_transmit()).collect();
    let found = sent.iter().find(|(to, _)| to.end() == caller.at).unwrap();
    let found = Found::decode(&caller.opened(&found.1, Kind::Found)).unwrap();
    found.outcome.unwrap().mapped
}

// spec: RCH-25, RCH-26
#[test]
fn a_mapped_port_is_told_once_its_echo_has_come_back_from_the_validated_address() {
    let fresh = || {
        let mut server = registrar(ServerConfig::default());
        let mut client = Client::new(&mut server, at(0), 1);
        client.mapped = MappedPort {
            port: 50_000,
            wants_echo: true,
        };
        (server, client)
    };
    let (mut server, mut client) = fresh();
    let (here, token) = (client.at, client.token());
    let there = SocketAddr::new(here.ip(), 50_000);
    let sent = lease_with(&mut server, at(1), &mut client, (here, &token));
    let [(to, ok), (at_port, echo)] = &sent[..] else {
        panic!("LEASE_OK and an echo: {sent:?}");
    };
    assert_eq!((*to, ok.address, ok.notice), (here, here, Notice::default()));
    assert_eq!((*at_port, echo.address, echo.notice.is_echo), (there, there, true));
    assert_eq!(told(&mut server, at(2)), 0, "it is a claim");
    // Without the flag there is no echo.
    client.mapped.wants_echo = false;
    assert_eq!(lease_with(&mut server, at(3), &mut client, (here, &token)).len(), 1);
    assert_eq!(told(&mut server, at(4)), 0, "nobody has brought the echo back");
    let sent = lease_with(&mut server, at(5), &mut client, (here, &echo.token));
    assert_eq!(sent.len(), 1);
    assert_eq!(told(&mut server, at(6)), 50_000);
    // It lasts as long as it is named.
    lease_with(&mut server, at(7), &mut client, (here, &token));
    assert_eq!(told(&mut server, at(8)), 50_000);
    for (port, expected) in [(50_001, 0), (50_000, 0)] {
        client.mapped.port = port;
        lease_with(&mut server, at(9), &mut client, (here, &token));
        assert_eq!(told(&mut server, at(10)), expected, "{port}");
    }
    // A token of this port proves no other one, and nothing from another address.
    client.mapped.port = 50_001;
    lease_with(&mut server, at(11), &mut client, (here, &echo.token));
    assert_eq!(told(&mut server, at(12)), 0);
    client.mapped.port = 50_000;
    let elsewhere = SocketAddr::new(here.ip(), 9);
    lease_with(&mut server, at(13), &mut client, (elsewhere, &echo.token));
    lease_with(&mut server, at(13), &mut client, (address(3), &echo.token));
    assert_eq!(told(&mut server, at(14)), 0);
    assert_eq!(server.stats().leases, 2, "the lease is where it was");
}

// spec: RCH-25, RCH-26
#[test]
fn echoes_go_to_nobody_but_the_address_that_has_leased_and_not_often() {
    let mut server = registrar(ServerConfig::default());
    let mut client = Client::new(&mut server, at(0), 1);
    client.mapped = MappedPort {
        port: 50_000,
        wants_echo: true,
    };
    let (here, token) = (client.at, client.token());
    // An address that is not validated gets its answer, and no echo.
    let moved = SocketAddr::new(address(3).ip(), 7);
    let sent = lease_with(&mut server, at(1), &mut client, (moved, &token));
    assert_eq!(sent.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [moved]);
    let mut echoes = 0;
    for _ in 0..100 {
        let sent = lease_with(&mut server, at(2), &mut client, (here, &token));
        assert!(sent.iter().all(|(to, _)| to.ip() == here.ip()), "{sent:?}");
        echoes += sent.iter().filter(|(_, ok)| ok.notice.is_echo).count();
    }
    assert_eq!(echoes, 10, "as many as LOOKUPs");
    // The port that everybody is told of anyhow is not said twice.
    client.mapped.port = here.port();
    lease_with(&mut server, at(3), &mut client, (here, &token));
    assert_eq!(told(&mut server, at(4)), 0);
}

#[test]
fn what_is_kept_of_a_lease_is_small() {
    // Half of the slots of a table that has just grown are empty.
    let (slot, lease) = leases::sizes();
    let queued = std::mem::size_of::<(Eid, u32, Instant)>();
    assert!(
        2 * (slot + 1) + lease + 2 * queued <= 512,
        "{slot}, {lease} and {queued} bytes"
    );
}

#[test]
fn who_hears_first_waits_for_half_the_difference() {
    assert_eq!(hold(20_000, 50_000), 15_000);
    assert_eq!(hold(50_000, 20_000), 0);
    assert_eq!(hold(0, 50_000), 0, "not known");
    assert_eq!(hold(50_000, 0), 0, "not known");
    assert_eq!(hold(1, u32::MAX), 2_000_000, "at most");
    let punch = keys::punch(false, &[1; 8], &[2; 16], &[3; 32]);
    let mut server = registrar(relaying());
    assert_eq!(server.packet(at(0), address(1), &punch), Err(Dropped::Unwelcome));
}
