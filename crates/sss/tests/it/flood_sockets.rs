//! The second socket of a host that is flooded with HELLOs, and its thread: when they are there, and when not.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sss::Host;
use sss_wire::long::{self, Long};

use crate::common::{builder, within};
use crate::floods::{Flood, Flooder, RATE, Transfer, Way, block_on, newcomer};
use crate::namespace::{self, in_namespace};

/// An address as the system's tables of sockets write it.
fn in_tables(address: SocketAddr) -> String {
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = octets.as_chunks().0.iter().map(|&word| u32::from_ne_bytes(word));
    let words: String = words.map(|word| format!("{word:08X}")).collect();
    format!("{words}:{:04X}", address.port())
}

/// Sockets of this process that are bound to an address, in the network of this thread. Others may have the same port
/// at other addresses, a flood's own among them; and while sockets come and go, the system's table may have one twice,
/// or not at all.
fn sockets(address: SocketAddr) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let ours: HashSet<_> = open.filter_map(|fd| std::fs::read_link(fd.path()).ok()).collect();
    let wanted = in_tables(address);
    let inode = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let inode = PathBuf::from(format!("socket:[{}]", fields.get(9)?));
        (*fields.get(1)? == wanted && ours.contains(&inode)).then_some(inode)
    };
    let tables = ["udp", "udp6"].map(|name| {
        let table = std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
        table.lines().filter_map(inode).collect::<Vec<_>>()
    });
    tables.into_iter().flatten().collect::<HashSet<_>>().len()
}

/// Threads of this process that greet for the host of a port.
fn threads(port: u16) -> usize {
    let wanted = format!("sss-greet-{port}");
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks
        .filter(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == wanted))
        .count()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a host has so many sockets, and threads that greet. A thread has its name, and is gone from the list of
/// the system, a moment later than its sockets.
async fn until_there_are(what: (usize, usize), address: SocketAddr) {
    let begun = Instant::now();
    loop {
        let there_are = (sockets(address), threads(address.port()));
        if there_are == what {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "sockets and threads: {there_are:?}, not {what:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Floods a host until it has a second socket.
async fn flooded(host: &Host, flood: Flood, times: u64) -> Flooder {
    let flooder = Flooder::start(flood, host.local_addr(), RATE);
    until("the second socket", || host.socket_stats().greeters == times).await;
    flooder
}

// Threat 2.
// spec: NEG-36, NEG-37, NEG-39
#[test]
fn threat_02_a_flood_is_given_a_socket_and_a_thread_that_go_when_it_is_over() {
    block_on(within(300, async {
        let transfer = Transfer::start(Way::In, None).await;
        let (host, address) = (&transfer.server, transfer.server.local_addr());
        newcomer(host, 200).await.unwrap();
        until_there_are((1, 0), address).await;
        assert_eq!(host.socket_stats().greeters, 0);

        let flooder = flooded(host, Flood::Proven(2), 1).await;
        until_there_are((2, 1), address).await;
        assert!(
            Host::builder().bind(host.local_addr()).build().await.is_err(),
            "nobody else can have the port"
        );
        // Those that are told to prove their address are read, answered and counted by the thread.
        let (socket, counted) = (host.socket_stats(), host.stats());
        until("what the thread did is counted", || {
            let (now, host) = (host.socket_stats(), host.stats());
            let more = host.datagrams_received - counted.datagrams_received;
            host.greetings_denied > counted.greetings_denied + 1000
                && more > 1000
                && host.datagrams_sent > counted.datagrams_sent + 100
                && now.receive_calls > socket.receive_calls
                && now.send_calls > socket.send_calls
        })
        .await;
        let arrived = transfer.arrived.load(Ordering::Relaxed);
        for network in 201..204 {
            newcomer(host, network).await.expect("it gets in");
        }
        until("the transfer goes on", || {
            transfer.arrived.load(Ordering::Relaxed) > arrived + (1 << 20)
        })
        .await;
        drop(flooder);

        until_there_are((1, 0), address).await;
        // It is as before: a moment after the thread is gone, nobody else gets the port, and what the thread has
        // counted is no new flood.
        until("the first socket is not shared", || {
            let third = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
            rustix::net::sockopt::set_socket_reuseport(&third, true).unwrap();
            third.bind(&host.local_addr().into()).is_err()
        })
        .await;
        for network in 204..207 {
            newcomer(host, network).await.unwrap();
            tokio::time::sleep(Duration::from_millis(110)).await;
        }
        until_there_are((1, 0), address).await;
        assert_eq!(host.socket_stats().greeters, 1);
        drop(flooded(host, Flood::Spoofed(20), 2).await);
    }));
}

// spec: NEG-41
#[test]
fn answers_of_the_thread_leave_from_the_address_that_was_asked() {
    block_on(within(100, async {
        for bound in ["0.0.0.0:0", "[::]:0"] {
            let host = builder().bind(bound).build().await.unwrap();
            let address = host.local_addr();
            let asked = SocketAddr::from(([127, 0, 0, 2], address.port()));
            let _flooder = Flooder::start(Flood::Spoofed(20), asked, RATE);
            until("the second socket", || host.socket_stats().greeters == 1).await;
            until_there_are((2, 1), address).await;
            let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let hello = long::hello(1, &[3; 8], &[0; 16], &[9; long::HELLO_SIZE - 29]);
            let mut answer = [0; 2000];
            let from = loop {
                socket.send_to(&hello, asked).await.unwrap();
                let answered = tokio::time::timeout(Duration::from_millis(200), socket.recv_from(&mut answer));
                if let Ok(Ok((n, from))) = answered.await {
                    assert!(matches!(Long::parse(&answer[..n]), Ok(Long::Retry(_))));
                    break from;
                }
            };
            assert_eq!(from, asked, "{bound}");
        }
    }));
}

// Threat 2.
#[test]
fn threat_02_a_host_that_ends_in_a_flood_leaves_no_thread_and_no_socket() {
    for is_closed in [false, true] {
        block_on(within(100, async {
            let host = builder().build().await.unwrap();
            let address = host.local_addr();
            let _flooder = flooded(&host, Flood::Spoofed(20), 1).await;
            until_there_are((2, 1), address).await;
            match is_closed {
                true => host.close().await.unwrap(),
                false => {
                    let stopped = host.stopped();
                    drop(host);
                    stopped.await;
                }
            }
            assert_eq!(sockets(address), 0, "at once");
            until_there_are((0, 0), address).await;
        }));
    }
}

// Threat 2.
#[test]
fn threat_02_the_second_socket_follows_the_first_to_another_address() {
    in_namespace(|namespace| {
        namespace.add_interface("one");
        namespace.ip("addr add 10.7.0.1/24 dev one");
        namespace::block_on(within(100, async {
            let host = builder().bind("10.7.0.1:5544").build().await.unwrap();
            let flooder = flooded(&host, Flood::Spoofed(20), 1).await;
            assert_eq!(sockets(host.local_addr()), 2);
            namespace.ip("addr del 10.7.0.1/24 dev one");
            namespace.ip("addr add 10.7.0.77/24 dev one");
            until("rebound", || host.socket_stats().rebinds == 1).await;
            drop(flooder);
            assert_eq!(host.local_addr(), "0.0.0.0:5544".parse().unwrap());
            until_there_are((1, 0), host.local_addr()).await;
            let _flooder = Flooder::start(Flood::Spoofed(20), "10.7.0.77:5544".parse().unwrap(), RATE);
            until("the second socket", || host.socket_stats().greeters == 2).await;
            until_there_are((2, 1), host.local_addr()).await;
            host.close().await.unwrap();
        }));
    });
}
