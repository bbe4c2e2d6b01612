//! Allocations by which a server is heard, and some by which it is not.

use sss_proto::TurnId;

use super::*;
use crate::client::turn::{self, Allocated, Turn, TurnOrder};

/// A host for which its server has no way, and what went on with its allocations.
struct Turned {
    leased: Leased,
    /// The allocation by which the server hears and is heard.
    working: Option<TurnId>,
    orders: Vec<(u64, TurnOrder)>,
    /// The times at which LEASE went by an allocation.
    asked: Vec<(u64, TurnId)>,
}

fn lent(id: u32) -> Allocated {
    Allocated {
        id: TurnId(id),
        relayed: address(&format!("203.0.113.9:{}", 5000 + id)),
    }
}

impl Turned {
    fn new() -> Self {
        let mut leased = Leased::at("192.0.2.1:7757");
        leased.client.carriers.turn = Turn::new(true);
        turned::cut_off(&mut leased.client.registrations[0]);
        Self {
            leased,
            working: None,
            orders: Vec::new(),
            asked: Vec::new(),
        }
    }

    fn open(&mut self, ms: u64, id: u32) {
        turn::on_opened(&mut self.leased.client, at(ms), &mut self.leased.host, lent(id));
    }

    fn lose(&mut self, ms: u64, id: u32) {
        turn::on_lost(&mut self.leased.client, at(ms), &mut self.leased.host, TurnId(id));
    }

    /// Goes on until something is ordered, or `to`. Returns the time.
    fn run(&mut self, from: u64, to: u64) -> u64 {
        let before = self.orders.len();
        for ms in from..to {
            self.step(ms);
            if self.orders.len() > before {
                return ms;
            }
        }
        to
    }

    fn step(&mut self, ms: u64) {
        let Leased { client, host, rng, .. } = &mut self.leased;
        if client.next_timer().is_some_and(|due| due <= at(ms)) {
            client.on_timer(at(ms), host);
        }
        self.orders
            .extend(std::iter::from_fn(|| turn::poll_order(client)).map(|order| (ms, order)));
        while let Some(sent) = client.poll_transmit() {
            let Ok(Packet::Sealed(sealed)) = Packet::parse(&sent.bytes) else {
                continue;
            };
            let observed = match sent.route.link {
                Link::Turn(id, _) => {
                    self.asked.push((ms, id));
                    if self.working != Some(id) {
                        continue;
                    }
                    lent(id.0).relayed
                }
                _ => address("198.51.100.1:7000"),
            };
            let lease = Lease::decode(&LeaseKey::new(KEY).open(&sealed).unwrap()).unwrap();
            let ok = LeaseOk {
                boot: BOOT,
                counter: lease.counter,
                address: observed,
                ttl: 60,
                notice: Notice::default(),
                token: vec![3; 87],
            };
            let packet = LeaseKey::new(KEY).lease_ok(&ok, rng);
            let path = Path {
                link: sent.route.link,
                local: None,
            };
            client.packet(at(ms), host, path, &packet).unwrap();
        }
    }

    /// The first time at which the server was asked by an allocation, from one time on.
    fn asked_by(&self, id: u32, from: u64) -> Option<u64> {
        let mut asked = self.asked.iter();
        asked
            .find(|(ms, by)| *by == TurnId(id) && *ms >= from)
            .map(|(ms, _)| *ms)
    }
}

// spec: RCH-48
#[test]
fn the_next_turn_server_is_asked_where_nothing_came_through_the_one_before() {
    let mut turned = Turned::new();
    let now = turned.run(0, 1000);
    assert_eq!(turned.orders.last(), Some(&(now, TurnOrder::Open)));
    turned.open(now + 10, 1);
    let now = turned.run(now + 10, 20_000);
    assert_eq!(turned.orders.last(), Some(&(now, TurnOrder::Next)));
    assert!(now < 6000, "{now}");
    turned.lose(now, 1);
    turned.working = Some(TurnId(2));
    turned.open(now + 30, 2);
    assert_eq!(turned.run(now + 30, 60_000), 60_000, "{:?}", turned.orders);
    let asked = turned.asked_by(2, now).unwrap();
    assert!((2000..2100).contains(&(asked - now)), "{}", asked - now);
    assert!(turned::is_turned(&turned.leased.client.registrations[0]));
}

// spec: RCH-48, RCH-51
#[test]
fn a_registration_server_is_not_to_blame_for_an_allocation_that_is_lost() {
    let mut turned = Turned::new();
    turned.working = Some(TurnId(1));
    let now = turned.run(0, 1000);
    turned.open(now + 10, 1);
    assert_eq!(turned.run(now + 10, 15_000), 15_000);
    // The TURN server is down, and the registration server is not heard before that is known.
    turned.working = None;
    assert_eq!(turned.run(15_000, 23_000), 23_000, "{:?}", turned.orders);
    assert!(!turned::is_turned(&turned.leased.client.registrations[0]));
    turned.lose(23_000, 1);
    turned.working = Some(TurnId(2));
    turned.open(23_010, 2);
    turned.run(23_010, 23_500);
    let asked = turned.asked_by(2, 23_010);
    assert!(asked.is_some_and(|asked| asked <= 23_020), "{asked:?}");
}

// spec: RCH-48
#[test]
fn a_server_that_is_not_heard_by_an_allocation_that_is_there_is_tried_from_it_less_and_less() {
    let mut turned = Turned::new();
    turned.working = Some(TurnId(1));
    let now = turned.run(0, 1000);
    turned.open(now + 10, 1);
    turned.run(now + 10, 15_000);
    turned.working = None;
    let mut tries = Vec::new();
    let (mut was_turned, mut left) = (true, 0);
    for ms in 15_000..60_000 {
        turned.step(ms);
        let is_turned = turned::is_turned(&turned.leased.client.registrations[0]);
        match (was_turned, is_turned) {
            (true, false) => left = ms,
            (false, true) => tries.push((ms - left).div_ceil(1000)),
            _ => {}
        }
        was_turned = is_turned;
    }
    assert_eq!(tries.get(..2), Some(&[2, 4][..]), "{tries:?}");
    assert_eq!(turned.orders.len(), 1, "it was of use: {:?}", turned.orders);
}

// spec: RCH-48
#[test]
fn a_lease_is_said_to_go_by_turn_when_the_server_was_heard_there() {
    let mut turned = Turned::new();
    let now = turned.run(0, 1000);
    turned.open(now + 10, 1);
    let registered = |turned: &Turned| match turned.leased.client.registrations[0].report().state {
        RegistrationState::Registered { over, observed, .. } => (over, observed),
        other => panic!("{other:?}"),
    };
    turned.run(now + 10, now + 200);
    assert!(turned::is_turned(&turned.leased.client.registrations[0]));
    let (over, observed) = registered(&turned);
    assert!(
        over == Over::Udp && observed != Some(lent(1).relayed),
        "{over:?} {observed:?}"
    );
    turned.working = Some(TurnId(1));
    turned.run(now + 200, now + 1500);
    assert_eq!(registered(&turned), (Over::Turn, Some(lent(1).relayed)));
}
