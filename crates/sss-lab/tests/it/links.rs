//! Links do what they were asked to.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use sss_lab::{Kind, Lab, Link, Node};

use crate::lab_or_skip;

/// Sockets of two nodes that know each other.
fn connected(a: &Node, b: &Node) -> [UdpSocket; 2] {
    let bind = |node: &Node| {
        let address = node.ipv4().unwrap();
        let socket = node.enter(|| UdpSocket::bind((address, 0)).unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // Whoever reads late, on a busy machine, loses nothing.
        set_socket_recv_buffer_size_force(&socket, 4 << 20).unwrap();
        socket
    };
    let sockets = [bind(a), bind(b)];
    sockets[0].connect(sockets[1].local_addr().unwrap()).unwrap();
    sockets[1].connect(sockets[0].local_addr().unwrap()).unwrap();
    sockets
}

/// No packet takes less than so many milliseconds, and some take little more: others may meet a busy machine.
fn assert_delay([from, to]: &[UdpSocket; 2], ms: u64) {
    let mut buffer = [0; 16];
    let mut times = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        from.send(b"time").unwrap();
        to.recv(&mut buffer).unwrap();
        let time = begun.elapsed();
        times.push(time);
        assert!(time >= Duration::from_millis(ms), "{times:?}, and not {ms} ms");
        if times.len() >= 5 && times.iter().any(|time| *time < Duration::from_millis(ms + 10)) {
            return;
        }
    }
    panic!("{times:?}, and not {ms} ms");
}

/// How many of so many packets arrive; no more are waited for than should arrive at most.
fn arrive([from, to]: &[UdpSocket; 2], number: usize, most: usize) -> usize {
    let mut buffer = [0; 16];
    let mut count = 0;
    to.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    for sent in 1..=number {
        from.send(b"count").unwrap();
        // No more at once than a socket holds.
        if sent % 50 == 0 {
            while to.recv(&mut buffer).is_ok() {
                count += 1;
            }
        }
    }
    to.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    while count < most && to.recv(&mut buffer).is_ok() {
        count += 1;
    }
    count
}

#[test]
fn a_wire_delays_limits_and_loses() {
    let link = Link::parse(["ab.delay=30ms", "ba.delay=10ms", "seed=1"]).unwrap();
    let Some(mut lab) = lab_or_skip(Lab::wire().link(link)) else {
        return;
    };
    let there = connected(lab.node("a").unwrap(), lab.node("b").unwrap());
    let back = connected(lab.node("b").unwrap(), lab.node("a").unwrap());
    assert_delay(&there, 30);
    assert_delay(&back, 10);

    lab.set_link(["delay=0", "loss=10%"]).unwrap();
    let arrived = arrive(&there, 2000, 2000);
    assert!((1650..=1950).contains(&arrived), "{arrived} of 2000");

    lab.set_link(["blackout=on"]).unwrap();
    assert_eq!(arrive(&there, 10, 1), 0);
    lab.set_link(["blackout=off", "loss=0", "duplicate=100%"]).unwrap();
    assert_eq!(arrive(&there, 10, 20), 20);
    assert!(lab.set_link(["loss=0", "speed=1"]).is_err());
    assert_eq!(lab.link().ab.duplicate, 1.0);
}

#[test]
fn a_rate_is_kept() {
    let link = Link::parse(["rate=20M", "queue=1M"]).unwrap();
    let Some(lab) = lab_or_skip(Lab::wire().link(link)) else {
        return;
    };
    let [from, to] = connected(lab.node("a").unwrap(), lab.node("b").unwrap());
    let mut buffer = vec![0; 2000];
    let begun = Instant::now();
    // 1,000 bytes with the headers of UDP and IP: 500 of them take 200 ms.
    for _ in 0..500 {
        from.send(&buffer[..972]).unwrap();
    }
    for _ in 0..500 {
        to.recv(&mut buffer).unwrap();
    }
    let time = begun.elapsed();
    assert!((199..2000).contains(&time.as_millis()), "{time:?}");
}

#[test]
fn skew_is_the_difference_of_the_ways_to_the_server() {
    let link = Link::parse(["delay=20ms", "skew=40ms"]).unwrap();
    let lab = Lab::builder().site("a", Kind::Open).site("b", Kind::Open).link(link);
    let Some(lab) = lab_or_skip(lab) else {
        return;
    };
    let node = |name| lab.node(name).unwrap();
    for (from, to, ms) in [
        ("a", "b", 20),
        ("b", "a", 20),
        ("a", "server", 60),
        ("b", "server", 20),
        ("server", "a", 60),
    ] {
        assert_delay(&connected(node(from), node(to)), ms);
    }
}
