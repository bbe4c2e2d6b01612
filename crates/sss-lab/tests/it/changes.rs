//! What happens to a lab while it is in use.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use sss_lab::{Firewall, Ipv6, Kind, Lab, Node, Public, Site};

use crate::lab_or_skip;

fn socket(node: &Node) -> UdpSocket {
    let socket = node.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Longest wait for a packet that should come.
const PATIENCE: Duration = Duration::from_secs(10);

/// The address under which a server sees a socket; `None` if nothing arrives.
fn seen(host: &UdpSocket, server: &UdpSocket, node: &Node) -> Option<SocketAddr> {
    let port = server.local_addr().unwrap().port();
    host.send_to(b"who am I", (node.ipv4().unwrap(), port)).ok()?;
    server.recv_from(&mut [0; 16]).ok().map(|(_, from)| from)
}

/// Time after which a packet that should not come is taken not to come. One that should is waited for longer.
const SILENCE: Duration = Duration::from_millis(300);

/// Checks whether a packet to an outer address reaches a host.
fn assert_comes_in(server: &UdpSocket, outer: SocketAddr, host: &UdpSocket, should: bool) {
    server.send_to(b"knock", outer).unwrap();
    host.set_read_timeout(Some(if should { PATIENCE } else { SILENCE }))
        .unwrap();
    assert_eq!(host.recv(&mut [0; 16]).is_ok(), should, "{outer}");
}

#[test]
fn a_rebooted_router_has_forgotten_its_mappings() {
    let lab = Lab::builder()
        .site("a", Kind::Prc)
        .site("b", Kind::Symmetric)
        .site("c", Kind::EimRandom);
    let Some(mut lab) = lab_or_skip(lab.site("d", Kind::FullCone)) else {
        return;
    };
    for (site, keeps_port) in [("a", true), ("b", false), ("c", false), ("d", true)] {
        let server = socket(lab.node("server").unwrap());
        let host = socket(lab.node(site).unwrap());
        let before = seen(&host, &server, lab.node("server").unwrap()).unwrap();
        assert_comes_in(&server, before, &host, true);
        lab.reboot(site).unwrap();
        assert_comes_in(&server, before, &host, false);
        let after = seen(&host, &server, lab.node("server").unwrap()).unwrap();
        assert_eq!(before == after, keeps_port, "{site}: {before}, {after}");
    }
    assert!(lab.reboot("x").is_err());
}

#[test]
fn a_renumbered_site_is_seen_at_another_address() {
    let behind = Site {
        cgn: Some(Kind::EimRandom),
        ..Site::new(Kind::Prc)
    };
    let lab = Lab::builder()
        .site("a", Kind::Prc)
        .site("b", Kind::EimRandom)
        .site("c", behind);
    let Some(mut lab) = lab_or_skip(lab.public(Public::Ordinary)) else {
        return;
    };
    for site in ["a", "b", "c"] {
        let server = socket(lab.node("server").unwrap());
        let host = socket(lab.node(site).unwrap());
        let before = seen(&host, &server, lab.node("server").unwrap()).unwrap();
        let new = lab.renumber(site).unwrap();
        assert_comes_in(&server, before, &host, false);
        let after = seen(&host, &server, lab.node("server").unwrap()).unwrap();
        assert_ne!(before.ip(), after.ip(), "{site}");
        assert_eq!(after.ip(), new);
        assert_comes_in(&server, after, &host, true);
    }
}

#[test]
fn a_host_moves_between_networks() {
    let two = Site {
        hosts: 2,
        ipv6: Ipv6::Stateful,
        ..Site::new(Kind::Prc)
    };
    let Some(mut lab) = lab_or_skip(Lab::builder().site("a", two).site("b", Kind::Prc)) else {
        return;
    };
    let outer = |lab: &Lab| {
        let server = socket(lab.node("server").unwrap());
        seen(&socket(lab.node("a").unwrap()), &server, lab.node("server").unwrap())
            .unwrap()
            .ip()
    };
    let addresses = |lab: &Lab, name| lab.node(name).unwrap().addresses().to_vec();
    // Neighbours talk without the router.
    let neighbour = socket(lab.node("a2").unwrap());
    let host = socket(lab.node("a").unwrap());
    assert_eq!(
        seen(&host, &neighbour, lab.node("a2").unwrap()).unwrap().ip(),
        addresses(&lab, "a")[0]
    );

    let (at_home, from_home) = (addresses(&lab, "a"), outer(&lab));
    lab.move_host("a", "b").unwrap();
    assert_ne!(outer(&lab), from_home);
    // b has its own address still, and no IPv6.
    assert_eq!(addresses(&lab, "a").len(), 1);
    assert_ne!(addresses(&lab, "a"), addresses(&lab, "b"));
    lab.move_host("a", "a").unwrap();
    assert_eq!((outer(&lab), addresses(&lab, "a")), (from_home, at_home));
    assert!(lab.move_host("router-a", "b").is_err());
}

/// Its network works when it has an address: it need not ask a second time, a second later, where its router is.
#[test]
fn a_host_that_has_moved_is_heard_as_soon_as_it_has_an_address() {
    let sites = Lab::builder().site("a", Kind::Prc).site("b", Kind::Prc);
    let Some(mut lab) = lab_or_skip(sites) else { return };
    let (node, server) = (lab.node("server").unwrap(), socket(lab.node("server").unwrap()));
    let at = SocketAddr::from((node.ipv4().unwrap(), server.local_addr().unwrap().port()));
    let host = socket(lab.node("a").unwrap());
    let is_sent = |number: u32| host.send_to(&number.to_be_bytes(), at).is_ok();
    for (round, site) in ["b", "a", "b", "a"].into_iter().enumerate() {
        let first = round as u32 * 100_000;
        let numbers = || (first..first + 100_000).inspect(|_| std::thread::sleep(Duration::from_millis(1)));
        let (number, sent) = std::thread::scope(|scope| {
            let sending = scope.spawn(|| {
                let mut numbers = numbers();
                numbers.find(|number| !is_sent(*number)).expect("a network that goes");
                (
                    numbers.find(|number| is_sent(*number)).expect("another network"),
                    Instant::now(),
                )
            });
            lab.move_host("a", site).unwrap();
            sending.join().unwrap()
        });
        let mut latest = [0; 4];
        while u32::from_be_bytes(latest) < number {
            server.recv(&mut latest).expect("the packet that was sent last");
        }
        assert!(sent.elapsed() < SILENCE, "{:?} after it was sent", sent.elapsed());
    }
}

#[test]
fn of_two_hosts_with_one_port_the_second_gets_another_outside() {
    let two = Site {
        hosts: 2,
        ..Site::new(Kind::Prc)
    };
    let Some(lab) = lab_or_skip(Lab::builder().site("a", two)) else {
        return;
    };
    let server = socket(lab.node("server").unwrap());
    let ports = ["a", "a2"].map(|name| {
        let host = lab
            .node(name)
            .unwrap()
            .enter(|| UdpSocket::bind("0.0.0.0:5000").unwrap())
            .unwrap();
        seen(&host, &server, lab.node("server").unwrap()).unwrap().port()
    });
    assert_eq!(ports[0], 5000);
    assert_ne!(ports[1], 5000);
}

#[test]
fn a_firewall_comes_and_goes() {
    let Some(mut lab) = lab_or_skip(Lab::builder().site("a", Kind::Prc)) else {
        return;
    };
    let assert_reaches = |lab: &Lab, should: bool| {
        let server = socket(lab.node("server").unwrap());
        server
            .set_read_timeout(Some(if should { PATIENCE } else { SILENCE }))
            .unwrap();
        let seen = seen(&socket(lab.node("a").unwrap()), &server, lab.node("server").unwrap());
        assert_eq!(seen.is_some(), should);
    };
    assert_reaches(&lab, true);
    lab.set_firewall("a", Firewall::UdpDropped).unwrap();
    assert_reaches(&lab, false);
    lab.set_firewall("a", Firewall::None).unwrap();
    assert_reaches(&lab, true);
}

#[test]
fn ipv6_goes_through_a_providers_nat_untranslated() {
    let site = Site {
        cgn: Some(Kind::EimRandom),
        ipv6: Ipv6::Stateful,
        ..Site::new(Kind::Prc)
    };
    let Some(lab) = lab_or_skip(Lab::builder().site("a", site)) else {
        return;
    };
    let (host, server) = (lab.node("a").unwrap(), lab.node("server").unwrap());
    let found = sss_lab::probe::classify(host, server, true).unwrap().unwrap();
    assert_eq!(
        found.to_string(),
        "mapping none, port kept, filtering by address and port"
    );
}
