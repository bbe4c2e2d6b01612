//! Binding, and address families.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};

use sss::{BuildError, Host};

use crate::common::{builder, pair_of, within};

fn has_ipv6() -> bool {
    let there = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !there {
        eprintln!("SKIPPED: this machine has no IPv6 loopback");
    }
    there
}

#[tokio::test]
async fn a_port_in_use_is_told_clearly() {
    let first = builder().build().await.unwrap();
    let error = builder().bind(first.local_addr()).build().await.unwrap_err();
    assert!(
        matches!(&error, BuildError::PortInUse { address } if *address == first.local_addr()),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains(&first.local_addr().to_string()) && text.contains("in use"),
        "{text}"
    );
}

#[tokio::test]
async fn a_malformed_or_foreign_address_is_told_clearly() {
    let error = builder().bind("not an address").build().await.unwrap_err();
    assert!(matches!(error, BuildError::BadAddress { .. }));
    assert!(error.to_string().contains("not an address"), "{error}");
    let error = builder().bind("192.0.2.1:0").build().await.unwrap_err();
    assert!(matches!(error, BuildError::Bind { .. }), "{error:?}");
}

#[tokio::test]
async fn hosts_meet_over_ipv6() {
    if !has_ipv6() {
        return;
    }
    within(10, async {
        let pair = pair_of(builder().bind("[::1]:0"), builder().bind("[::1]:0")).await;
        assert!(pair.ours.peer().info().unwrap().route.address().unwrap().is_ipv6());
    })
    .await;
}

#[tokio::test]
async fn a_wildcard_host_is_reached_over_all_its_addresses() {
    within(20, async {
        let host = Host::builder().build().await.unwrap();
        let server = host.listen("test", "1").unwrap();
        let addresses = host.local_addrs();
        eprintln!("{addresses:?}");
        assert!(addresses.iter().any(|a| a.ip().is_loopback()));
        for address in addresses {
            let client = Host::builder().bind(unspecified(address)).build().await.unwrap();
            let connect = client.connect(host.eid(), "test", "1").hint(address);
            let mut ours = connect.await.unwrap_or_else(|e| panic!("{address}: {e}"));
            ours.write_all(b"hello").await.unwrap();
            ours.finish().unwrap();
            let (mut theirs, eid) = server.accept().await.unwrap();
            assert_eq!(eid, client.eid());
            assert_eq!(&theirs.read_to_end(10).await.unwrap()[..], b"hello");
            let seen = theirs.peer().info().unwrap().route.address().unwrap();
            assert_eq!(
                seen.is_ipv4(),
                address.is_ipv4(),
                "IPv4 peers are seen as such on a dual-stack socket"
            );
        }
    })
    .await;
}

/// Packets of a stranger that are answered each: PROBE, HELLO of another version, and one for a channel that is not.
#[cfg(target_os = "linux")]
fn questions() -> [Vec<u8>; 3] {
    use sss_wire::long;
    let hello = long::hello(99, &[3; 8], &[0; 16], &[9; long::HELLO_SIZE - 29]);
    [long::probe(&[1; 8]), hello, vec![0x40; 48]]
}

/// Asks a host at that address from another one, and says from where the answers came.
#[cfg(target_os = "linux")]
fn answers(asker: &str, asked: SocketAddr) -> Vec<SocketAddr> {
    let socket = UdpSocket::bind((asker, 0)).unwrap();
    socket
        .set_read_timeout(Some(std::time::Duration::from_secs(20)))
        .unwrap();
    let mut answer = [0; 2000];
    let ask = |packet: Vec<u8>| {
        socket.send_to(&packet, asked).unwrap();
        let (n, from) = socket.recv_from(&mut answer).expect("an answer");
        assert!(n < packet.len());
        from
    };
    questions().into_iter().map(ask).collect()
}

// spec: NEG-41
#[cfg(target_os = "linux")]
#[test]
fn answers_leave_from_the_address_that_was_asked() {
    crate::namespace::in_namespace(|namespace| {
        namespace.ip("link set lo up");
        for address in ["fd00:7::1/64", "fd00:7::2/64"] {
            namespace.ip(&format!("addr add {address} dev lo nodad"));
        }
        crate::namespace::block_on(async {
            for (bound, asker, asked) in [
                ("0.0.0.0:0", "127.0.0.1", "127.0.0.2"),
                ("[::]:0", "127.0.0.1", "127.0.0.2"),
                ("[::]:0", "fd00:7::1", "fd00:7::2"),
            ] {
                let host = builder().bind(bound).answer_probes(true).build().await.unwrap();
                let _server = host.listen("test", "1").unwrap();
                let asked = SocketAddr::new(asked.parse().unwrap(), host.local_addr().port());
                let answers = tokio::task::spawn_blocking(move || answers(asker, asked));
                assert_eq!(answers.await.unwrap(), [asked; 3], "{bound}");
            }
        });
    });
}

fn unspecified(address: SocketAddr) -> &'static str {
    if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }
}

#[tokio::test]
async fn a_dual_stack_client_reaches_an_ipv4_host() {
    if !has_ipv6() {
        return;
    }
    within(10, async {
        let pair = pair_of(builder().bind("[::]:0"), builder()).await;
        assert_eq!(pair.ours.peer().info().unwrap().route, pair.host.local_addr().into());
    })
    .await;
}

#[cfg(target_os = "linux")]
#[test]
fn a_wildcard_host_names_every_usable_address_of_every_interface() {
    crate::namespace::in_namespace(|namespace| {
        for name in ["one", "two", "off"] {
            namespace.add_interface(name);
        }
        // 2001:2::/48 and 198.18.0.0/15 are for tests of networks (RFC 5180, RFC 2544). No default route.
        for (interface, address) in [
            ("one", "10.7.0.1/24"),
            ("one", "198.18.7.1/24"),
            ("two", "10.8.0.1/24"),
            ("two", "198.18.8.1/24"),
            ("two", "2001:2::8/64"),
            ("two", "fd08::8/64"),
            ("off", "198.18.9.1/24"),
        ] {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            namespace.ip(&format!("addr add {address} dev {interface} {nodad}"));
        }
        namespace.ip("link set off down");
        crate::namespace::block_on(async {
            for (bind, expected) in [
                (
                    "0.0.0.0:4433",
                    &["198.18.7.1", "198.18.8.1", "10.7.0.1", "10.8.0.1", "127.0.0.1"][..],
                ),
                (
                    "[::]:4433",
                    &[
                        "198.18.7.1",
                        "198.18.8.1",
                        "2001:2::8",
                        "10.7.0.1",
                        "10.8.0.1",
                        "fd08::8",
                        "127.0.0.1",
                        "::1",
                    ],
                ),
            ] {
                let host = builder().bind(bind).build().await.unwrap();
                let expected: Vec<_> = expected
                    .iter()
                    .map(|ip| SocketAddr::new(ip.parse().unwrap(), 4433))
                    .collect();
                assert_eq!(host.local_addrs(), expected);
                host.close().await.unwrap();
            }
        });
    });
}
