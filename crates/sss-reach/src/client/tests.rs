use sss_crypto::StaticKey;
use sss_proto::Config;
use sss_wire::reach::PUNCH_SIZE;
use sss_wire::reach::bodies::{Lease, LeaseOk, Notice, Way};
use sss_wire::reach::records::Registered;

use super::*;
use crate::keys::{self, LeaseKey};

mod allocations;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(1_000_000_000 + ms * 1_000_000)
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

const KEY: [u8; 32] = [4; 32];
const BOOT: [u8; 8] = [5; 8];

/// A host that has a lease at the server, and the server's end of it.
struct Leased {
    client: Client,
    host: Host,
    server: SocketAddr,
    rng: Generator,
}

impl Leased {
    fn at(server: &str) -> Self {
        let server = address(server);
        let eid = Eid::from_public_key(&[3; 32]);
        let registered = Registered {
            boot: BOOT,
            ttl: 60,
            address: address("198.51.100.1:7000"),
            key: KEY,
            tokens: vec![vec![1; 87], vec![2; 87]],
            other_port: 0,
        };
        let known = ServerAddress {
            eid,
            addresses: vec![server],
            tls: None,
        };
        let mut client = Client::new(
            at(0),
            Servers::new(&eid, Vec::new(), LeaseAt::Two),
            <_>::default(),
            <_>::default(),
            Generator::new(&[6; 32]),
        );
        client.registrations.push(Tried::leased(at(0), known, registered));
        Self {
            client,
            host: Host::new(Config::default(), StaticKey::from_bytes([7; 32]), [7; 32]),
            server,
            rng: Generator::new(&[8; 32]),
        }
    }

    /// The server tells of a caller.
    fn notify(&mut self, now: Instant, introduction: [u8; 8], caller: &str) -> Result<(), Dropped> {
        self.notify_of(now, BOOT, introduction, caller)
    }

    fn notify_of(&mut self, now: Instant, boot: [u8; 8], introduction: [u8; 8], caller: &str) -> Result<(), Dropped> {
        self.notified(now, boot, introduction, way(caller))
    }

    fn notify_way(&mut self, now: Instant, introduction: [u8; 8], way: Way) -> Result<(), Dropped> {
        self.notified(now, BOOT, introduction, way)
    }

    fn notified(&mut self, now: Instant, boot: [u8; 8], introduction: [u8; 8], way: Way) -> Result<(), Dropped> {
        let notify = Notify {
            boot,
            introduction,
            way,
            hello: &[],
        };
        let packet = LeaseKey::new(KEY).seal(Kind::Notify, None, &mut self.rng, |_| notify.encode());
        let server = self.server;
        self.client.packet(now, &mut self.host, server.into(), &packet)
    }

    /// The packets of one kind that were sent.
    fn sent(&mut self, kind: Kind) -> Vec<(SocketAddr, Vec<u8>)> {
        let all = std::iter::from_fn(|| self.client.poll_transmit());
        let sent = all.filter(|sent| Kind::of(sent.bytes[0]) == Some(kind));
        sent.map(|sent| (sent.route.direct_address().unwrap(), sent.bytes))
            .collect()
    }
}

fn way(caller: &str) -> Way {
    Way {
        address: address(caller),
        mapped: 0,
        handle: 0,
        punch_key: [9; 32],
        hold: 0,
    }
}

// spec: RCH-13, RCH-15
#[test]
fn six_punches_go_to_a_caller_and_every_notify_is_answered() {
    let mut leased = Leased::at("192.0.2.1:7757");
    leased.client.on_timer(at(0), &mut leased.host);
    assert_eq!(leased.sent(Kind::Lease).len(), 1);
    for ms in 100..4000 {
        if [100, 200, 400].contains(&ms) {
            leased.notify(at(ms), [1; 8], "198.51.100.9:9").unwrap();
        }
        if leased.client.next_timer().is_some_and(|due| due <= at(ms)) {
            leased.client.on_timer(at(ms), &mut leased.host);
        }
    }
    let all: Vec<_> = std::iter::from_fn(|| leased.client.poll_transmit()).collect();
    let of = |kind| all.iter().filter(move |sent| Kind::of(sent.bytes[0]) == Some(kind));
    assert_eq!(of(Kind::Punch).count(), 6);
    let to = address("198.51.100.9:9").into();
    assert!(of(Kind::Punch).all(|sent| sent.route == to && sent.bytes.len() == PUNCH_SIZE));
    // Three that answer, and perhaps one that is sent since nobody has answered those.
    let leases = of(Kind::Lease).count();
    assert!((3..=4).contains(&leases), "{leases}");
}

// spec: RCH-13
#[test]
fn what_a_host_drops_it_does_not_answer() {
    let mut leased = Leased::at("192.0.2.1:7757");
    let heard: Vec<_> = (1..=21)
        .map(|n| leased.notify(at(0), [n; 8], "198.51.100.9:9"))
        .collect();
    assert_eq!(heard.last(), Some(&Err(Dropped::Overload)));
    let mut answered = Vec::new();
    for ms in 0..3000 {
        if leased.client.next_timer().is_some_and(|due| due <= at(ms)) {
            leased.client.on_timer(at(ms), &mut leased.host);
        }
        for (_, packet) in leased.sent(Kind::Lease) {
            let Ok(Packet::Sealed(sealed)) = Packet::parse(&packet) else {
                panic!("LEASE is sealed");
            };
            let lease = Lease::decode(&LeaseKey::new(KEY).open(&sealed).unwrap()).unwrap();
            answered.extend(lease.answer.map(|(name, _)| name[0]));
        }
    }
    assert!(answered.contains(&20) && !answered.contains(&21), "{answered:?}");
    assert_eq!(leased.notify(at(3000), [21; 8], "198.51.100.9:9"), Ok(()), "sent again");
}

// spec: RCH-14
#[test]
fn a_server_cannot_make_a_host_send_to_whom_it_likes_or_as_often_as_it_likes() {
    let mut public = Leased::at("192.0.2.1:7757");
    for bad in ["224.0.0.1:9", "255.255.255.255:9", "198.51.100.9:0"] {
        for handle in [0, 7] {
            let way = Way { handle, ..way(bad) };
            assert_eq!(public.notify_way(at(0), [1; 8], way), Err(Dropped::Unwelcome), "{bad}");
        }
    }
    for near in [
        "127.0.0.1:9",
        "10.0.0.1:9",
        "169.254.1.1:9",
        "[fe80::1]:9",
        "[fc00::1]:9",
    ] {
        assert_eq!(public.notify(at(0), [1; 8], near), Err(Dropped::Unwelcome), "{near}");
    }
    assert!(std::iter::from_fn(|| public.client.poll_transmit()).all(|sent| sent.route == public.server.into()));
    let mut private = Leased::at("10.0.0.1:7757");
    assert_eq!(private.notify(at(0), [1; 8], "10.9.9.9:9"), Ok(()));
    assert_eq!(private.notify(at(0), [2; 8], "198.51.100.9:9"), Ok(()));
    assert_eq!(private.notify(at(0), [3; 8], "127.0.0.1:9"), Err(Dropped::Unwelcome));

    let heard = |leased: &mut Leased, now: u64| {
        let names = (0..100_u64).filter(|n| {
            let name = (now * 1000 + n + 1).to_be_bytes();
            leased.notify(at(now), name, &format!("198.51.100.{n}:9")).is_ok()
        });
        names.count()
    };
    assert_eq!(heard(&mut public, 0), 20);
    assert_eq!(heard(&mut public, 999), 0);
    assert_eq!(heard(&mut public, 1000), 20);
}

// spec: RCH-14
#[test]
fn a_server_that_sees_the_caller_nearer_than_this_host_does_is_a_relay_all_the_same() {
    let mut public = Leased::at("192.0.2.1:7757");
    for (n, near) in [(1, "127.0.0.1:9"), (2, "10.0.0.1:9"), (3, "[fe80::1]:9")] {
        let way = Way {
            handle: 7,
            mapped: 99,
            ..way(near)
        };
        assert_eq!(public.notify_way(at(0), [n; 8], way), Ok(()), "{near}");
    }
    for ms in 0..3000 {
        public.client.on_timer(at(ms), &mut public.host);
    }
    let sent: Vec<_> = std::iter::from_fn(|| public.client.poll_transmit()).collect();
    assert!(!sent.is_empty() && sent.iter().all(|sent| sent.route == public.server.into()));
}

// spec: RCH-9, RCH-13
#[test]
fn nothing_is_heard_from_others_or_of_another_run() {
    let mut leased = Leased::at("192.0.2.1:7757");
    assert_eq!(
        leased.notify_of(at(0), [6; 8], [1; 8], "198.51.100.9:9"),
        Err(Dropped::Unwelcome)
    );
    leased.server = address("192.0.2.2:7757");
    assert_eq!(leased.notify(at(0), [1; 8], "198.51.100.9:9"), Err(Dropped::Unknown));
    let key = LeaseKey::new([5; 32]);
    let forged = key.seal(Kind::Notify, None, &mut leased.rng, |_| vec![0; 100]);
    let server = address("192.0.2.1:7757");
    let taken = leased.client.packet(at(0), &mut leased.host, server.into(), &forged);
    assert_eq!(taken, Err(Dropped::Unauthentic));
    leased.server = server;
    assert_eq!(leased.sent(Kind::Punch), []);
    leased.notify(at(0), [1; 8], "198.51.100.9:9").unwrap();
    for (key, taken) in [([5; 32], Err(Dropped::Unauthentic)), (KEY, Ok(()))] {
        let leg = LeaseKey::new(key).leg(keys::From::Server, &[1; 8], &[7; 1184]);
        assert_eq!(
            leased.client.packet(at(0), &mut leased.host, server.into(), &leg),
            taken
        );
    }
}

// spec: RCH-15
#[test]
fn punches_are_answered_to_where_they_come_from_sixteen_times() {
    let mut leased = Leased::at("192.0.2.1:7757");
    leased.notify(at(0), [1; 8], "198.51.100.9:9").unwrap();
    let name = keys::punch_name(&[9; 32]);
    let from = address("203.0.113.5:55");
    let mut punch = |from: SocketAddr, nonce, key: &[u8; 32]| {
        let packet = keys::punch(false, &name, &nonce, key);
        let path = Path::from(from);
        leased.client.packet(at(10), &mut leased.host, path, &packet)
    };
    assert_eq!(punch(from, [1; 16], &[8; 32]), Err(Dropped::Unknown), "another key");
    for n in 0..40 {
        assert_eq!(punch(from, [n; 16], &[9; 32]), Ok(()));
    }
    let answers = leased.sent(Kind::PunchAnswer);
    assert_eq!(answers.len(), 16);
    assert!(answers.iter().all(|(to, _)| *to == from));
    // What is left goes there, too.
    leased.client.on_timer(at(60), &mut leased.host);
    assert_eq!(leased.sent(Kind::Punch)[0].0, from);
}

// spec: RCH-21
#[test]
fn a_punch_is_answered_from_the_address_that_it_was_sent_to() {
    let mut leased = Leased::at("192.0.2.1:7757");
    leased.notify(at(0), [1; 8], "198.51.100.9:9").unwrap();
    while leased.client.poll_transmit().is_some() {}
    let punch = keys::punch(false, &keys::punch_name(&[9; 32]), &[1; 16], &[9; 32]);
    let path = Path {
        link: Link::Udp(address("203.0.113.5:55")),
        local: Some(address("192.0.2.77:1").ip()),
    };
    leased.client.packet(at(10), &mut leased.host, path, &punch).unwrap();
    let answer = leased.client.poll_transmit().unwrap();
    assert_eq!((answer.route, answer.local), (Route::over(path.link), path.local));
}

// spec: RCH-5
#[test]
fn what_has_a_token_leaves_from_the_address_that_it_is_for() {
    let mut leased = Leased::at("192.0.2.1:7757");
    let path = Path {
        link: Link::Udp(leased.server),
        local: Some(address("203.0.113.77:1").ip()),
    };
    leased.client.on_timer(at(0), &mut leased.host);
    assert_eq!(leased.sent(Kind::Lease).len(), 1);
    let ok = LeaseOk {
        boot: BOOT,
        counter: 1,
        address: address("198.51.100.1:7000"),
        ttl: 60,
        notice: Notice::default(),
        token: vec![3; 87],
    };
    let packet = LeaseKey::new(KEY).lease_ok(&ok, &mut leased.rng);
    leased.client.packet(at(10), &mut leased.host, path, &packet).unwrap();
    leased.client.on_timer(at(30_000), &mut leased.host);
    let lease = leased.client.poll_transmit().unwrap();
    assert_eq!(
        (Kind::of(lease.bytes[0]), lease.route, lease.local),
        (Some(Kind::Lease), Route::over(path.link), path.local)
    );
}

// spec: RCH-5
#[test]
fn connect_leaves_from_the_address_that_its_token_is_for() {
    let mut leased = Leased::at("192.0.2.1:7757");
    let config = Config::default().with(|config| config.seeks = true);
    leased.host = Host::new(config, StaticKey::from_bytes([7; 32]), [7; 32]);
    let local = Some(address("203.0.113.77:1").ip());
    let (lease, _) = leased.client.registrations[0].lease().unwrap();
    lease.note_local(local);
    let eid = Eid::from_public_key(&StaticKey::from_bytes([10; 32]).public());
    leased.host.connect(at(0), eid, ("echo", "1"), &[]).unwrap();
    let greeting = leased.host.introduce(at(0), &eid, RouteClass::Direct, &[]);
    assert!(greeting.is_some());
    let servers = (vec![*leased.client.registrations[0].eid()], Vec::new());
    let client = &mut leased.client;
    client.calls.begin(at(0), (eid, greeting), servers, &mut client.rng);
    client.call(at(0), &mut leased.host);
    let sent: Vec<_> = std::iter::from_fn(|| leased.client.poll_transmit()).collect();
    let kind = |datagram: &Datagram| Kind::of(datagram.bytes[0]);
    let mut connects = sent.iter().filter(|sent| kind(sent) == Some(Kind::Connect));
    let connect = connects.next().unwrap();
    assert_eq!(
        (connect.route, connect.local),
        (Route::over(Link::Udp(leased.server)), local)
    );
}
