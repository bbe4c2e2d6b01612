//! Addresses of this machine that come and go while a host is at work.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with};
use sss::{DriverMode, Eid, Host, HostBuilder, SocketStats};
use tokio::sync::oneshot;

use crate::common::{builder, within};
use crate::namespace::{block_on, in_namespace, in_two_namespaces};

const PORT: u16 = 4433;

/// Waits until the host's statistics are as wanted.
async fn until(host: &Host, wanted: impl Fn(&SocketStats) -> bool) {
    let start = Instant::now();
    while !wanted(&host.socket_stats()) {
        let waited = start.elapsed();
        assert!(waited < Duration::from_secs(5), "{:?}", host.socket_stats());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn still(host: &Host, changes: u64) {
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(host.socket_stats().network_changes, changes);
}

#[test]
fn changes_of_addresses_are_noticed_once_and_other_changes_not_at_all() {
    for mode in [DriverMode::Shared, DriverMode::Dedicated] {
        in_namespace(|namespace| {
            namespace.add_interface("one");
            namespace.ip("addr add 10.7.0.1/24 dev one");
            block_on(async {
                let host = builder().bind("0.0.0.0:0").driver(mode).build().await.unwrap();
                still(&host, 0).await;
                namespace.ip_at_once("addr add 10.8.0.1/24 dev one\naddr add 10.9.0.1/24 dev one\n");
                until(&host, |stats| stats.network_changes == 1).await;
                namespace.ip("route add 198.18.0.0/15 via 10.7.0.9");
                still(&host, 1).await;
                namespace.ip("route add default via 10.8.0.9");
                until(&host, |stats| stats.network_changes == 2).await;
                namespace.ip("addr del 10.9.0.1/24 dev one");
                until(&host, |stats| stats.network_changes == 3).await;
                still(&host, 3).await;
                assert_eq!(host.socket_stats().rebinds, 0);
                host.close().await.unwrap();
            });
        });
    }
}

/// Number of looks that a host takes at most in some time without peace: ever later ones, then one at the end of the
/// burst, and again from the start. It is 9 for a second.
fn most_looks(time: Duration) -> u64 {
    const BURST: [u64; 9] = [10, 20, 40, 80, 160, 200, 200, 200, 200];
    let (end, mut at) = (u64::try_from(time.as_millis()).unwrap(), 0);
    let looks = BURST.iter().cycle().take_while(|wait| {
        at += **wait;
        at <= end
    });
    looks.count() as u64 + end / BURST.iter().sum::<u64>() + 1
}

// spec: MIG-13
#[test]
fn a_host_with_a_way_out_hears_of_changes_that_go_on_before_they_end() {
    in_namespace(|namespace| {
        namespace.add_interface("one");
        namespace.ip("addr add 10.7.0.1/24 dev one");
        namespace.ip("route add default via 10.7.0.9");
        block_on(async {
            let host = builder().bind("0.0.0.0:0").build().await.unwrap();
            still(&host, 0).await;
            // There is no peace for a second, or longer where the machine is slow.
            let begun = Instant::now();
            for n in 1..=20 {
                namespace.ip(&format!("addr add 10.8.{n}.1/24 dev one"));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let noticed = host.socket_stats().network_changes;
            let most = most_looks(begun.elapsed());
            assert!((2..=most).contains(&noticed), "{noticed}, of {most}");
            host.close().await.unwrap();
        });
    });
}

/// A service that answers each request with itself, until the last client has gone.
async fn echo(host: &Host, ready: oneshot::Sender<Eid>) {
    let server = host.listen("echo", "1").unwrap();
    ready.send(host.eid()).unwrap();
    let (mut stream, _) = server.accept().await.unwrap();
    while let Some(chunk) = stream.read_chunk(1 << 16).await.unwrap() {
        stream.write_chunk(chunk).await.unwrap();
    }
    // The client may go before it has acknowledged that.
    let _ = stream.close().await;
}

async fn ask(stream: &mut sss::Stream, byte: u8) {
    let request = [byte; 3000];
    stream.write_all(&request).await.unwrap();
    let mut answer = [0; 3000];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, request);
}

/// Talks to an echo service at `10.7.0.2` before and after `change` was made, from a host bound to `bind`.
fn client(bind: &str, ready: oneshot::Receiver<Eid>, change: impl AsyncFnOnce(&Host)) {
    client_of(builder().bind(bind), ready, change);
}

fn client_of(builder: HostBuilder, ready: oneshot::Receiver<Eid>, change: impl AsyncFnOnce(&Host)) {
    block_on(within(30, async {
        let host = builder.build().await.unwrap();
        let server = SocketAddr::from(([10, 7, 0, 2], PORT));
        let connect = host.connect(ready.await.unwrap(), "echo", "1").hint(server);
        let mut stream = connect.await.unwrap();
        ask(&mut stream, 1).await;
        change(&host).await;
        ask(&mut stream, 2).await;
        assert!(host.peers().len() == 1 && !host.is_closed());
        stream.finish().unwrap();
        assert_eq!(stream.read_chunk(1).await.unwrap(), None);
        host.close().await.unwrap();
    }));
}

#[test]
fn a_host_that_lost_its_address_goes_on_from_another_on_the_same_port() {
    let (ready, is_ready) = oneshot::channel();
    in_two_namespaces(
        |left| {
            left.ip("addr add 10.7.0.1/24 dev left");
            client("10.7.0.1:5544", is_ready, async |host| {
                left.ip("addr del 10.7.0.1/24 dev left");
                left.ip("addr add 10.7.0.77/24 dev left");
                until(host, |stats| stats.rebinds == 1).await;
                assert_eq!(host.local_addr(), "0.0.0.0:5544".parse().unwrap());
                assert!(host.local_addrs().contains(&"10.7.0.77:5544".parse().unwrap()));
            });
        },
        |right| {
            right.ip("addr add 10.7.0.2/24 dev right");
            block_on(async {
                let host = builder().bind(format!("0.0.0.0:{PORT}")).build().await.unwrap();
                echo(&host, ready).await;
                host.close().await.unwrap();
            });
        },
    );
}

// Threat 26: one port on two networks tells that it is one host.
// spec: MIG-13
#[test]
fn threat_26_a_host_with_one_peer_takes_another_port_when_it_moves_if_it_may() {
    for (may, listens, is_new) in [(true, false, true), (false, false, false), (true, true, false)] {
        let (ready, is_ready) = oneshot::channel();
        in_two_namespaces(
            |left| {
                left.ip("addr add 10.7.0.1/24 dev left");
                let builder = builder().bind("0.0.0.0:0").new_port_on_move(may);
                client_of(builder, is_ready, async |host| {
                    let _server = listens.then(|| host.listen("own", "1").unwrap());
                    let port = host.local_addr().port();
                    left.ip_at_once("addr del 10.7.0.1/24 dev left\naddr add 10.7.0.77/24 dev left\n");
                    until(host, |stats| stats.network_changes > 0).await;
                    assert_eq!(host.local_addr().port() != port, is_new);
                });
            },
            |right| {
                right.ip("addr add 10.7.0.2/24 dev right");
                block_on(async {
                    let host = builder().bind(format!("0.0.0.0:{PORT}")).build().await.unwrap();
                    echo(&host, ready).await;
                    host.close().await.unwrap();
                });
            },
        );
    }
}

#[test]
fn a_host_that_may_not_watch_keeps_its_address() {
    in_namespace(|namespace| {
        namespace.add_interface("one");
        namespace.ip("addr add 10.7.0.1/24 dev one");
        block_on(async {
            let bound = "10.7.0.1:4433";
            let host = builder().bind(bound).watch_interfaces(false).build().await.unwrap();
            namespace.ip("addr del 10.7.0.1/24 dev one");
            namespace.ip("addr add 10.7.0.2/24 dev one");
            still(&host, 0).await;
            assert_eq!(host.local_addr(), bound.parse().unwrap());
        });
    });
}

#[test]
fn a_host_that_is_asked_at_an_address_it_loses_answers_from_another() {
    let (ready, is_ready) = oneshot::channel();
    let (changed, is_changed) = oneshot::channel();
    in_two_namespaces(
        |left| {
            left.ip("addr add 10.7.0.1/24 dev left");
            client("0.0.0.0:0", is_ready, async |_| {
                is_changed.await.unwrap();
            });
        },
        |right| {
            right.ip("addr add 10.7.0.2/24 dev right");
            block_on(async {
                let host = builder().bind(format!("0.0.0.0:{PORT}")).build().await.unwrap();
                let server = host.listen("echo", "1").unwrap();
                ready.send(host.eid()).unwrap();
                let (mut stream, _) = server.accept().await.unwrap();
                let mut request = [0; 3000];
                stream.read_exact(&mut request).await.unwrap();
                stream.write_all(&request).await.unwrap();
                right.ip("addr del 10.7.0.2/24 dev right");
                right.ip("addr add 10.7.0.3/24 dev right");
                until(&host, |stats| stats.network_changes > 0).await;
                // Whoever has lost its address has to say something before it can be found.
                stream.write_all(&[2; 3000]).await.unwrap();
                changed.send(()).unwrap();
                stream.read_exact(&mut request).await.unwrap();
                assert_eq!(request, [2; 3000]);
                assert_eq!(stream.read_chunk(1).await.unwrap(), None);
                // The client may go before it has acknowledged that.
                let _ = stream.close().await;
                host.close().await.unwrap();
            });
        },
    );
}

/// All IP packets that come in or go out in the namespace of the thread that makes it, from the first one on.
struct Tap(OwnedFd);

impl Tap {
    fn new() -> Self {
        // ETH_P_ALL (packet(7)), in the order of the network.
        let all = Protocol::from_raw(NonZeroU32::from(NonZeroU16::new(3_u16.to_be()).unwrap()));
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, Some(all)).unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 1 << 23).unwrap();
        Self(socket)
    }

    /// Sources of UDP packets to `port`, each with the first bytes of its payload.
    fn sources(&self, port: u16) -> BTreeSet<(IpAddr, Vec<u8>)> {
        let (mut found, mut packet) = (BTreeSet::new(), [0; 2048]);
        while let Ok((len, _)) = recv(&self.0, &mut packet[..], RecvFlags::empty()) {
            let packet = &packet[..len];
            let (source, udp) = match packet[0] >> 4 {
                4 => (
                    IpAddr::from(<[u8; 4]>::try_from(&packet[12..16]).unwrap()),
                    &packet[20..],
                ),
                6 => (
                    IpAddr::from(<[u8; 16]>::try_from(&packet[8..24]).unwrap()),
                    &packet[40..],
                ),
                _ => continue,
            };
            if udp.len() >= 13 && udp[2..4] == port.to_be_bytes() {
                found.insert((source, udp[8..13].to_vec()));
            }
        }
        found
    }
}

/// The ids of the channels that short packets from `source` were for.
fn channels_of(sources: &BTreeSet<(IpAddr, Vec<u8>)>, source: IpAddr) -> BTreeSet<[u8; 4]> {
    let own = sources
        .iter()
        .filter(|(from, first)| *from == source && first[0] < 0x80);
    own.map(|(_, first)| first[1..5].try_into().unwrap()).collect()
}

/// A client whose address `old` becomes `new` while it talks.
fn moves_while_it_talks(old: &str, new: &str, server: &str) {
    let (ready, is_ready) = oneshot::channel();
    let (done, is_done) = oneshot::channel();
    // Without duplicate address detection an address of IPv6 is there at once.
    let (bind, mask) = match old.contains(':') {
        true => ("[::]:0", "/64 nodad"),
        false => ("0.0.0.0:0", "/24"),
    };
    in_two_namespaces(
        |left| {
            left.ip(&format!("addr add {old}{mask} dev left"));
            block_on(within(30, async {
                let host = builder().bind(bind).build().await.unwrap();
                let connect = host.connect(is_ready.await.unwrap(), "echo", "1");
                let server = SocketAddr::new(server.parse().unwrap(), PORT);
                let mut stream = connect.hint(server).await.unwrap();
                let mut talk = async |n: u8| {
                    for _ in 0..n {
                        ask(&mut stream, n).await;
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                };
                talk(20).await;
                let change = format!(
                    "addr del {old}{} dev left\naddr add {new}{mask} dev left\n",
                    mask.replace(" nodad", "")
                );
                tokio::join!(talk(100), async { left.ip_at_once(&change) });
                until(&host, |stats| stats.network_changes > 0).await;
                talk(20).await;
                assert!(host.socket_stats().send_errors > 0, "it was about to send meanwhile");
                stream.finish().unwrap();
                assert_eq!(stream.read_chunk(1).await.unwrap(), None);
                host.close().await.unwrap();
                done.send(()).unwrap();
            }));
        },
        |right| {
            right.ip(&format!("addr add {server}{mask} dev right"));
            let tap = Tap::new();
            block_on(within(30, async {
                let host = builder()
                    .bind(bind.replace(":0", &format!(":{PORT}")))
                    .build()
                    .await
                    .unwrap();
                echo(&host, ready).await;
                is_done.await.unwrap();
                host.close().await.unwrap();
            }));
            let sources = tap.sources(PORT);
            let [old, new] = [old, new].map(|ip| channels_of(&sources, ip.parse().unwrap()));
            assert!(!old.is_empty() && !new.is_empty(), "{sources:?}");
            assert!(old.is_disjoint(&new), "{old:x?} {new:x?}");
        },
    );
}

// Threat 26: between the loss of an address and its being noticed nothing leaves from another one.
// spec: MIG-13
#[test]
fn threat_26_packets_of_a_channel_leave_from_its_address_or_not_at_all() {
    moves_while_it_talks("10.7.0.1", "10.7.0.77", "10.7.0.2");
    moves_while_it_talks("fd00:7::1", "fd00:7::77", "fd00:7::2");
}
