use sss_wire::reach::bodies::Notice;
use sss_wire::reach::{LEASE_SIZE, Packet};

use super::*;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(1_000_000_000 + ms * 1_000_000)
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 7000))
}

const KEY: [u8; 32] = [3; 32];
const WISH: Wish = Wish {
    presence: Presence::Found,
    is_veiled: false,
};

fn lease() -> (Lease, Generator) {
    let registered = Registered {
        boot: [1; 8],
        ttl: 60,
        address: address(1),
        key: KEY,
        tokens: (1..=4).map(|n| vec![n; 87]).collect(),
        other_port: 0,
    };
    (Lease::new(at(0), registered, (WISH, None)), Generator::new(&[2; 32]))
}

/// The token of a packet, and what it says.
fn opened(packet: &[u8]) -> (u8, bodies::Lease) {
    assert_eq!(packet.len(), LEASE_SIZE);
    let Packet::Sealed(sealed) = Packet::parse(packet).unwrap() else {
        panic!("a LEASE");
    };
    let plaintext = LeaseKey::new(KEY).open(&sealed).unwrap();
    (sealed.token[0], bodies::Lease::decode(&plaintext).unwrap())
}

fn answer(
    lease: &mut Lease,
    now: Instant,
    (counter, from, token): (u64, u8, u8),
    notice: Notice,
) -> Result<News, Dropped> {
    let ok = LeaseOk {
        boot: [1; 8],
        counter,
        address: address(from),
        ttl: 60,
        notice,
        token: vec![token; 87],
    };
    let packet = LeaseKey::new(KEY).lease_ok(&ok, &mut Generator::new(&[counter as u8; 32]));
    let Packet::Sealed(sealed) = Packet::parse(&packet).unwrap() else {
        panic!("a LEASE_OK");
    };
    lease.on_lease_ok(now, &sealed)
}

fn due(lease: &mut Lease, now: Instant, rng: &mut Generator) -> Option<(u8, bodies::Lease)> {
    lease.on_timer(now, rng).unwrap().map(|packet| opened(&packet))
}

// spec: RCH-8
#[test]
fn a_lease_is_renewed_three_times_in_its_duration_and_repeated_until_it_is() {
    let (mut lease, mut rng) = lease();
    let (_, first) = due(&mut lease, at(0), &mut rng).unwrap();
    assert_eq!((first.counter, first.rtt), (1, 0));
    answer(&mut lease, at(80), (1, 1, 9), Notice::default()).unwrap();
    assert_eq!(lease.rtt(), Some(Duration::from_millis(80)));
    assert_eq!(lease.next_timer(), at(20_080));
    let mut times = Vec::new();
    let mut now = lease.next_timer();
    for n in 0..6 {
        let (_, sent) = due(&mut lease, now, &mut rng).unwrap();
        assert_eq!((sent.counter, sent.rtt), (n + 2, 80_000));
        times.push(lease.next_timer().since(now).as_secs());
        now = lease.next_timer();
    }
    assert_eq!(times, [1, 1, 2, 4, 8, 8]);
    // A late answer counts, and a repeated one does not.
    answer(&mut lease, now, (6, 1, 8), Notice::default()).unwrap();
    assert_eq!(answer(&mut lease, now, (6, 1, 8), Notice::default()), Err(Dropped::Old));
    assert_eq!(lease.next_timer(), now + Duration::from_secs(20));
}

// spec: RCH-8
#[test]
fn no_lease_that_is_not_answered_is_repeated_later_than_one_that_is() {
    let mut rng = lease().1;
    for (ttl, expected) in [
        (60, [1000, 1000, 2000, 4000, 8000, 8000]),
        (6, [1000, 1000, 2000, 2000, 2000, 2000]),
    ] {
        let ttl = Duration::from_secs(ttl);
        let (mut lease, mut before) = (Lease { ttl, ..lease().0 }, at(0));
        due(&mut lease, before, &mut rng).unwrap();
        for pause in expected {
            let next = lease.next_timer();
            assert_eq!(next.since(before), Duration::from_millis(pause), "{ttl:?}");
            due(&mut lease, next, &mut rng).unwrap();
            before = next;
        }
    }
}

// spec: RCH-5
#[test]
fn no_token_is_used_at_two_addresses() {
    let (mut lease, mut rng) = lease();
    assert_eq!(due(&mut lease, at(0), &mut rng).unwrap().0, 4);
    let mut used = vec![4];
    for n in 0..3_u8 {
        lease.on_moved(at(100 + u64::from(n)));
        let (token, sent) = due(&mut lease, at(100 + u64::from(n)), &mut rng).unwrap();
        assert!(!used.contains(&token), "{token} of {used:?}");
        used.push(token);
        // The same one as long as nothing else is known.
        assert_eq!(due(&mut lease, at(2000), &mut rng).map(|(token, _)| token), Some(token));
        let _ = sent;
    }
    lease.on_moved(at(3000));
    assert_eq!(
        lease.on_timer(at(3000), &mut rng),
        Err(NoToken),
        "this host registers again"
    );
}

// spec: RCH-9, RCH-10
#[test]
fn an_address_that_has_changed_is_proven_at_once() {
    let (mut lease, mut rng) = lease();
    due(&mut lease, at(0), &mut rng).unwrap();
    let news = answer(&mut lease, at(50), (1, 2, 77), Notice::default()).unwrap();
    assert!(news.is_elsewhere);
    assert_eq!(lease.observed(), address(2));
    assert_eq!(
        due(&mut lease, at(50), &mut rng).unwrap().0,
        77,
        "the token of that address"
    );
    let restarted = Notice {
        is_forgotten: true,
        ..Notice::default()
    };
    let news = answer(&mut lease, at(90), (2, 2, 78), restarted).unwrap();
    assert!(news.is_forgotten && !news.is_over && !news.is_elsewhere);
}

// spec: RCH-9, RCH-10
#[test]
fn an_address_that_may_have_changed_twice_is_proven_although_the_server_has_named_it() {
    let (mut lease, mut rng) = lease();
    due(&mut lease, at(0), &mut rng).unwrap();
    answer(&mut lease, at(50), (1, 1, 5), Notice::default()).unwrap();
    lease.on_moved(at(100));
    due(&mut lease, at(100), &mut rng).unwrap();
    assert!(
        answer(&mut lease, at(150), (2, 2, 6), Notice::default())
            .unwrap()
            .is_elsewhere
    );
    assert_eq!(due(&mut lease, at(150), &mut rng).unwrap().0, 6);
    // The answer to that one is not waited for: the network has changed once more, and the address has not.
    lease.on_moved(at(160));
    let (token, _) = due(&mut lease, at(160), &mut rng).unwrap();
    assert!(token < 5, "one that names the first address: {token}");
    assert!(
        answer(&mut lease, at(210), (4, 2, 7), Notice::default())
            .unwrap()
            .is_elsewhere
    );
    assert_eq!(
        due(&mut lease, at(210), &mut rng).unwrap().0,
        7,
        "the token of that address"
    );
    assert!(
        !answer(&mut lease, at(260), (5, 2, 8), Notice::default())
            .unwrap()
            .is_elsewhere
    );
    assert_eq!(lease.next_timer(), at(20_260), "it is proven");
}

// spec: RCH-13
#[test]
fn answers_to_introductions_go_at_once_and_not_too_often() {
    let (mut lease, mut rng) = lease();
    due(&mut lease, at(0), &mut rng).unwrap();
    answer(&mut lease, at(10), (1, 1, 9), Notice::default()).unwrap();
    lease.answer([7; 8], Status::Ok);
    lease.answer([8; 8], Status::Refused);
    lease.answer([7; 8], Status::Ok);
    assert_eq!(due(&mut lease, at(49), &mut rng), None);
    let told = |sent: Option<(u8, bodies::Lease)>| sent.unwrap().1.answer.unwrap();
    assert_eq!(told(due(&mut lease, at(60), &mut rng)), ([8; 8], Status::Refused));
    assert_eq!(due(&mut lease, at(109), &mut rng), None);
    assert_eq!(told(due(&mut lease, at(110), &mut rng)), ([7; 8], Status::Ok));
}

// spec: RCH-25, RCH-26
#[test]
fn a_mapped_port_is_named_where_the_host_is_seen_and_asked_about_anew_elsewhere() {
    let (mut lease, mut rng) = lease();
    let named = |n: u8| SocketAddr::new(address(n).ip(), 50_000);
    due(&mut lease, at(0), &mut rng).unwrap();
    answer(&mut lease, at(80), (1, 1, 9), Notice::default()).unwrap();
    lease.set_mapped(at(100), &[named(1)]);
    let (_, asks) = due(&mut lease, at(100), &mut rng).unwrap();
    assert_eq!((asks.mapped.port, asks.mapped.wants_echo), (50_000, true));
    let echo = Notice {
        is_echo: true,
        ..Notice::default()
    };
    let news = answer(&mut lease, at(150), (2, 1, 10), echo);
    assert_eq!(news, Err(Dropped::Old), "it was sent to another port");
    answer(&mut lease, at(160), (2, 2, 11), Notice::default()).unwrap();
    // Nobody has said that a port of the new address is let in.
    let (_, next) = due(&mut lease, at(160), &mut rng).unwrap();
    assert_eq!((next.mapped.port, next.mapped.wants_echo), (0, false));
    lease.set_mapped(at(170), &[named(1), named(2)]);
    let (_, asks) = due(&mut lease, at(170), &mut rng).unwrap();
    assert_eq!((asks.mapped.port, asks.mapped.wants_echo), (50_000, true));
}
