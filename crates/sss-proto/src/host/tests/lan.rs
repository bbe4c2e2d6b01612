//! Hosts that keep to their local network, and hosts that are looked for there.

use std::time::Duration;

use super::*;
use crate::error::{Absence, NegotiationError};
use crate::negotiation::Greeted;

const LAN: &str = "10.0.0.1:4000";
const OUTSIDE: [&str; 4] = ["192.0.2.7:4000", "[2001:db8::7]:4000", "100.64.0.7:4000", "8.8.8.8:53"];

fn lan_only() -> Config {
    Config {
        lan_only: true,
        ..Config::default()
    }
}

fn route(text: &str) -> Route {
    Route::udp(text.parse().unwrap())
}

// spec: RCH-37
#[test]
fn threat_43_what_comes_from_outside_of_the_local_network_is_dropped_unread() {
    let mut net = Net::with([Config::default(), lan_only()]);
    net.connect(0, 1);
    let hello = net.poll(0);
    for outside in OUTSIDE {
        let from = outside.parse().unwrap();
        let before = net.host(1).stats().dropped(DropReason::OutsideLan);
        for (_, to, packet) in &hello {
            net.deliver(&(from, *to, packet.clone()));
        }
        assert_eq!(net.poll(1), [], "{outside} gets no answer");
        let after = net.host(1).stats().dropped(DropReason::OutsideLan);
        assert_eq!(after - before, hello.len() as u64, "{outside}");
    }
    // A greeter that is lent in a flood knows it too.
    let now = net.now;
    let mut greeter = net.host(1).lend_greeter().unwrap();
    let greeted = greeter.greet(now, OUTSIDE[0].parse().unwrap(), &hello[0].2);
    assert!(matches!(greeted, Greeted::Dropped), "{greeted:?}");
    let greeted = greeter.greet(now, LAN.parse().unwrap(), &hello[0].2);
    assert!(matches!(greeted, Greeted::Admitted), "{greeted:?}");
    net.host(1).give_back(greeter);
    // Whoever is in the network is welcome.
    for packet in &hello {
        net.deliver(packet);
    }
    assert!(!net.poll(1).is_empty());
}

// spec: RCH-37
#[test]
fn threat_43_nothing_is_sent_outside_of_the_local_network() {
    let mut net = Net::with([lan_only(), Config::default()]);
    let (eid, now) = (net.eid(1), net.now);
    for outside in OUTSIDE {
        let refused = net.host(0).connect(now, eid, SERVICE, &[route(outside)]);
        let address = outside.to_owned();
        let expected = NegotiationError::OutsideLan { address };
        assert_eq!(refused.map(drop), Err(expected.into()));
        net.host(0).probe(route(outside));
        assert_eq!(net.poll(0), [], "{outside}");
    }
    // Of several, those are tried that may be; also those that are named later.
    let mixed = [route(OUTSIDE[0]), route("10.0.0.9:1"), route("[fe80::1%3]:1")];
    net.host(0).connect(now, eid, SERVICE, &mixed).unwrap();
    net.host(0)
        .add_hints(now, &eid, &[route(OUTSIDE[1]), route("192.168.1.1:1")]);
    let mut to: Vec<_> = net.poll(0).into_iter().map(|(_, to, _)| to.to_string()).collect();
    to.sort_unstable();
    to.dedup();
    assert_eq!(to, ["10.0.0.9:1", "192.168.1.1:1", "[fe80::1%3]:1"]);
}

// spec: RCH-36
#[test]
fn who_is_looked_for_on_the_local_network_is_not_given_up_before_that_is_over() {
    let seeking = || Config {
        seeks: true,
        lan_search: Duration::from_secs(3),
        ..Config::default()
    };
    for is_found in [false, true] {
        let mut net = Net::with([seeking(), Config::default()]);
        let (eid, address, now) = (net.eid(1), net.nodes[1].address, net.now);
        let stream = net.host(0).connect(now, eid, SERVICE, &[]).unwrap();
        net.host(0).unfound(now, &eid, Absence::NeverSeen);
        net.poll(0);
        assert_eq!(net.host(0).close_reason(stream.peer()), None, "somebody still looks");
        net.now = now + Duration::from_secs(2);
        if is_found {
            let now = net.now;
            net.host(0).add_hints(now, &eid, &[address.into()]);
            net.run(SECOND / 2, |_| true);
        }
        net.now = now + Duration::from_secs(3);
        net.poll(0);
        let failed = NegotiationError::Unfound(Absence::NeverSeen);
        match is_found {
            true => assert_eq!(net.host(0).is_connected(stream.peer()), Some(true)),
            false => assert_eq!(
                net.host(0).close_reason(stream.peer()),
                Some(CloseReason::Negotiation(failed))
            ),
        }
    }
}
