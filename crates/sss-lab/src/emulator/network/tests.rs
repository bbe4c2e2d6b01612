use std::time::Duration;

use super::*;
use crate::shape::Link;

const MS: Nanos = 1_000_000;

/// A wire with these settings for the way from port 0 to port 1.
fn wire(settings: &[&str]) -> Network {
    let link = Link::parse(settings).unwrap();
    let mut network = Network::new(2, Forwarding::Wire, link.seed);
    network.set_up(0, &link.ab);
    network.set_way(0, 1, link.ab);
    network
}

/// Packets of a length that arrive by `until`, each with the first byte and the instant.
fn arrivals(network: &mut Network, until: Nanos) -> Vec<(u8, Nanos)> {
    let mut seen = Vec::new();
    while let Some(at) = network.next().filter(|at| *at <= until) {
        network.advance(at, |_, packet| seen.push((packet[0], at)));
    }
    seen
}

#[test]
fn delay_is_exact() {
    let mut network = wire(&["delay=25ms"]);
    network.receive(MS, 0, vec![1; 100]);
    assert_eq!(arrivals(&mut network, MS * 100), [(1, MS * 26)]);
}

#[test]
fn a_rate_spreads_packets_and_the_queue_is_bounded() {
    // 1,000 bytes take 8 ms.
    let mut network = wire(&["rate=1M", "queue=3000"]);
    for packet in 0..5 {
        network.receive(0, 0, vec![packet; 1000]);
    }
    assert_eq!(
        arrivals(&mut network, MS * 100),
        [(0, MS * 8), (1, MS * 16), (2, MS * 24)]
    );
    assert_eq!(network.counters.queue_full, 2);
}

#[test]
fn two_lines_of_one_rate_cost_the_time_of_one() {
    let link = Link::parse(["rate=1M", "delay=10ms"]).unwrap();
    let mut network = wire(&["rate=1M", "delay=10ms"]);
    network.set_down(1, &link.ab);
    network.receive(0, 0, vec![1; 1000]);
    network.receive(0, 0, vec![2; 1000]);
    assert_eq!(arrivals(&mut network, MS * 100), [(1, MS * 18), (2, MS * 26)]);
    // A slower second line decides.
    network.set_down(
        1,
        &Shape {
            rate: Some(500_000),
            ..link.ab
        },
    );
    network.receive(MS * 100, 0, vec![1; 1000]);
    network.receive(MS * 100, 0, vec![2; 1000]);
    assert_eq!(arrivals(&mut network, MS * 200), [(1, MS * 126), (2, MS * 142)]);
}

#[test]
fn losses_are_as_asked_for_and_repeat_with_their_seed() {
    let lost = |settings: &[&str]| {
        let mut network = wire(settings);
        for _ in 0..10_000 {
            network.receive(0, 0, vec![0; 20]);
        }
        assert_eq!(arrivals(&mut network, MS).len() as u64, network.counters.delivered);
        network.counters.lost
    };
    assert_eq!(lost(&["loss=0"]), 0);
    assert!((80..=120).contains(&lost(&["loss=1%", "seed=1"])));
    assert_eq!(lost(&["loss=1%", "seed=1"]), lost(&["loss=1%", "seed=1"]));
    assert_ne!(lost(&["loss=1%", "seed=1"]), lost(&["loss=1%", "seed=3"]));
    // A burst is four packets long, and begins after a hundred: 4 of 104.
    assert!((300..=480).contains(&lost(&["burst=1%,25%"])));
    assert_eq!(lost(&["blackout=on"]), 10_000);
}

#[test]
fn jitter_keeps_the_order_and_reordering_does_not() {
    let seen = a_packet_each_ms(&["delay=10ms", "jitter=20ms"]);
    assert!(seen.is_sorted() && seen.len() == 100);
    assert!(seen.iter().any(|(packet, at)| at - u64::from(*packet) * MS > 20 * MS));

    let seen = a_packet_each_ms(&["reorder=10%,5ms"]);
    let late = seen
        .iter()
        .filter(|(packet, at)| at - u64::from(*packet) * MS == 5 * MS);
    assert!((3..=20).contains(&late.count()));
    assert!(!seen.iter().map(|(packet, _)| packet).is_sorted());
}

/// Sends a hundred packets, and gives those that arrive.
fn a_packet_each_ms(settings: &[&str]) -> Vec<(u8, Nanos)> {
    let mut network = wire(settings);
    let mut seen = Vec::new();
    for packet in 0..100 {
        let now = u64::from(packet) * MS;
        seen.extend(arrivals(&mut network, now));
        network.receive(now, 0, vec![packet; 20]);
    }
    seen.extend(arrivals(&mut network, MS * 1000));
    seen
}

#[test]
fn duplicates_arrive_twice() {
    let mut network = wire(&["duplicate=100%"]);
    network.receive(0, 0, vec![1; 20]);
    assert_eq!(arrivals(&mut network, MS), [(1, 0), (1, 0)]);
}

#[test]
fn a_long_queue_marks_what_may_be_marked() {
    let mut network = wire(&["rate=1M", "mark=1500"]);
    let mut packet = vec![0; 1000];
    packet[..2].copy_from_slice(&[0x60, 0x20]);
    for _ in 0..4 {
        network.receive(0, 0, packet.clone());
    }
    let mut marks = Vec::new();
    network.advance(MS * 100, |_, packet| marks.push(packet[1]));
    assert_eq!(marks, [0x20, 0x20, 0x30, 0x30]);
}

#[test]
fn changes_are_for_what_comes_after_them() {
    let mut network = wire(&["delay=25ms"]);
    network.receive(0, 0, vec![1; 20]);
    network.advance(0, |_, _| {});
    let delay = Duration::from_millis(80);
    network.set_way(
        0,
        1,
        Shape {
            delay,
            ..Shape::default()
        },
    );
    network.receive(MS, 0, vec![2; 20]);
    assert_eq!(arrivals(&mut network, MS * 100), [(1, MS * 25), (2, MS * 81)]);
}

#[test]
fn a_router_goes_by_the_longest_prefix() {
    let net = |text: &str, length| Prefix::new(text.parse::<IpAddr>().unwrap(), length);
    let routes = vec![(net("198.18.0.0", 16), 1), (net("198.18.7.0", 24), 2)];
    let mut network = Network::new(3, Forwarding::Router(routes), 0);
    let packet = |to: [u8; 4], hops| {
        let mut packet = vec![0; 20];
        packet[0] = 0x45;
        packet[8] = hops;
        packet[16..].copy_from_slice(&to);
        packet
    };
    network.receive(0, 0, packet([198, 18, 7, 1], 64));
    network.receive(0, 0, packet([198, 18, 8, 1], 64));
    network.receive(0, 0, packet([198, 18, 8, 1], 1));
    network.receive(0, 0, packet([10, 0, 0, 1], 64));
    network.receive(0, 1, packet([198, 18, 8, 1], 64));
    network.receive(0, 1, vec![0x45]);
    let mut seen = Vec::new();
    network.advance(0, |port, packet| seen.push((port, packet[18], packet[8])));
    seen.sort_unstable();
    assert_eq!(seen, [(1, 8, 63), (2, 7, 63)]);
    let counters = network.counters;
    assert_eq!((counters.expired, counters.unroutable), (1, 3));
}
