//! Addresses that change, and addresses that lie.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use sss_sim::LinkConfig;

use crate::support::{A, B, Echo, duo, ms, secs};

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

// spec: CHN-11
#[test]
fn a_channel_survives_a_new_address_of_either_side() {
    for (moved, seed) in [(A, 31), (B, 32)] {
        let link = LinkConfig {
            rate: Some(20_000_000),
            ..LinkConfig::with_delay(ms(20))
        };
        let mut world = duo(seed, &link);
        let mut echo = Echo::start(&mut world, 1_000_000);
        let stream = echo.open(&mut world, A, B);
        world.run_until(ms(400), &mut echo);
        assert!(echo.complete() < 2);
        let new = addr("203.0.113.7:9000");
        world.rebind(moved, new);
        echo.run_until_complete(&mut world, 2, secs(60));
        assert_eq!(echo.lost, []);
        let other = if moved == A { B } else { A };
        let peer = world.host(other).peers()[0].0;
        assert_eq!(world.host(other).channel_info(peer).unwrap().route, new.into());
        assert!(world.host(A).is_connected(stream.peer()) == Some(true));
    }
}

// spec: CHN-11
#[test]
fn threat_22_an_unvalidated_address_gets_at_most_three_times_what_came_from_it() {
    let link = LinkConfig {
        rate: Some(20_000_000),
        ..LinkConfig::with_delay(ms(20))
    };
    let mut world = duo(33, &link);
    let mut echo = Echo::start(&mut world, 1_500_000);
    echo.open(&mut world, A, B);
    world.run_until(ms(400), &mut echo);
    let liar = addr("198.51.100.9:53");
    let real = world.address(A);
    world.capture();
    // One packet of A's, at a time, comes from elsewhere instead: it is new, authentic, and from a wrong address.
    let mut received = 0;
    for _ in 0..10 {
        let taken = Rc::new(RefCell::new(false));
        let flag = Rc::clone(&taken);
        world.hold(move |c| c.from == real && c.kind() < 0x80 && !std::mem::replace(&mut *flag.borrow_mut(), true));
        while !*taken.borrow() {
            assert!(world.step(secs(30), &mut echo));
        }
        for packet in world.unhold() {
            received += packet.bytes.len();
            world.inject(B, liar, &packet.bytes);
        }
        world.run_for(ms(30), &mut echo);
    }
    echo.run_until_complete(&mut world, 2, secs(60));
    let sent: usize = world
        .captured()
        .iter()
        .filter(|c| c.to == liar)
        .map(|c| c.bytes.len())
        .sum();
    assert!(sent > 0, "the address is probed");
    assert!(sent <= 3 * received, "{sent} bytes sent for {received}");
    assert_eq!(echo.lost, []);
    let peer = world.host(B).peers()[0].0;
    assert_eq!(world.host(B).channel_info(peer).unwrap().route, real.into());
}

// spec: CHN-11
#[test]
fn threat_23_addresses_that_nobody_can_have_are_never_used() {
    for liar in ["224.0.0.1:5000", "255.255.255.255:5000", "0.0.0.0:5000"] {
        let mut world = duo(
            34,
            &LinkConfig {
                rate: Some(20_000_000),
                ..LinkConfig::with_delay(ms(20))
            },
        );
        let mut echo = Echo::start(&mut world, 500_000);
        echo.open(&mut world, A, B);
        world.run_until(ms(200), &mut echo);
        let (real, liar) = (world.address(A), addr(liar));
        world.capture();
        world.hold(move |c| c.from == real && c.kind() < 0x80);
        world.run_for(ms(30), &mut echo);
        for packet in world.unhold() {
            world.inject(B, liar, &packet.bytes);
        }
        echo.run_until_complete(&mut world, 2, secs(60));
        assert!(world.captured().iter().all(|c| c.to != liar));
    }
}
