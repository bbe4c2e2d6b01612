//! Addresses that change, and addresses that lie.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use sss_proto::{Event, Interest, ReadOutcome, StreamId};
use sss_sim::{Apps, HostIndex, LinkConfig, World};

use crate::support::{A, B, Echo, HELLO, SERVICE, duo, ms, secs};

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

/// A reads without an end what B writes, and writes nothing itself.
#[derive(Default)]
struct Download {
    bytes: usize,
    /// When something was read last, and the longest time for which nothing was.
    last: Duration,
    longest: Duration,
}

impl Download {
    fn start(world: &mut World) -> Self {
        let listener = world.call(B, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
        assert!(world.call(B, |h, _| h.accept(listener)).is_none());
        let stream = world.connect(A, B, SERVICE);
        assert_eq!(world.write(A, stream, b"all").unwrap(), 3);
        world.call(A, |h, _| h.stream(stream).finish()).unwrap();
        let mut download = Self::default();
        download.read(world, stream);
        download
    }

    fn read(&mut self, world: &mut World, stream: StreamId) {
        while let Poll::Ready(Ok(ReadOutcome::Chunk(data))) =
            world.call(A, |h, now| h.stream(stream).poll_read(now, usize::MAX))
        {
            self.bytes += data.len();
            self.longest = self.longest.max(world.elapsed().saturating_sub(self.last));
            self.last = world.elapsed();
        }
    }

    fn write(world: &mut World, stream: StreamId) {
        while world.write(B, stream, &[7; 8192]).is_ok_and(|n| n > 0) {}
    }
}

impl Apps for Download {
    fn on_event(&mut self, world: &mut World, host: HostIndex, event: Event) {
        match event {
            Event::Acceptable(listener) => {
                while let Some((stream, _)) = world.call(host, |h, _| h.accept(listener)) {
                    Self::write(world, stream);
                }
            }
            Event::Ready(stream, Interest::Read) if host == A => self.read(world, stream),
            Event::Ready(stream, Interest::Write) if host == B => Self::write(world, stream),
            _ => {}
        }
    }

    fn on_timer(&mut self, _: &mut World, _: HostIndex, _: u64) {}
}

// spec: CHN-18
#[test]
fn a_host_that_only_reads_is_found_again_soon_after_its_router_has_another_address() {
    let mut stalls: Vec<_> = (0..20)
        .map(|seed| {
            let link = LinkConfig {
                rate: Some(20_000_000),
                queue: 125_000,
                ..LinkConfig::with_delay(ms(25))
            };
            let mut world = duo(600 + seed, &link);
            let mut download = Download::start(&mut world);
            world.run_until(secs(2) + ms(13 * seed), &mut download);
            let (channels, bytes) = (world.host(A).stats().channels_made, download.bytes);
            download.longest = Duration::ZERO;
            // Nobody tells A.
            world.rebind(A, addr("203.0.113.7:9000"));
            world.run_for(secs(8), &mut download);
            assert!(
                download.bytes > bytes + 8_000_000,
                "{bytes} bytes, then {}",
                download.bytes
            );
            assert_eq!(world.host(A).stats().channels_made, channels, "on the same channel");
            download.longest
        })
        .collect();
    stalls.sort();
    println!("nothing came for {stalls:?}");
    assert!(stalls[10] <= ms(500) && stalls[19] <= ms(900), "{stalls:?}");
}

// spec: MIG-13
#[test]
fn another_address_of_a_router_concerns_those_alone_that_do_not_answer() {
    let link = LinkConfig {
        rate: Some(20_000_000),
        ..LinkConfig::with_delay(ms(25))
    };
    for answers in [true, false] {
        let mut world = duo(641, &link);
        let mut download = Download::start(&mut world);
        world.run_until(ms(1500), &mut download);
        let real = world.address(B);
        if !answers {
            // B goes on sending, and is not heard.
            world.hold(move |c| c.from == real);
            world.run_for(ms(600), &mut download);
        }
        world.capture();
        world.call(A, |h, now| h.outer_address_changed(now, |_| true));
        world.run_for(ms(100), &mut download);
        let greets = world.captured().iter().any(|c| c.kind() == HELLO);
        assert_eq!(greets, !answers);
    }
}
