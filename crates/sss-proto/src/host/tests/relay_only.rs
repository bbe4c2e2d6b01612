//! Hosts that reach others, and are reached, by relays alone.

use super::*;
use crate::error::NegotiationError;
use crate::negotiation::Greeted;
use crate::route::RelayHandle;

fn relay_only() -> Config {
    Config {
        relay_only: true,
        answer_probes: true,
        ..Config::default()
    }
}

// spec: RCH-40
#[test]
fn threat_44_a_host_of_relays_answers_nobody_who_comes_directly() {
    let mut net = Net::with([Config::default(), relay_only()]);
    let (to, now) = (net.nodes[1].address, net.now);
    net.connect(0, 1);
    net.host(0).probe(Route::udp(to));
    let asked = net.poll(0);
    for packet in &asked {
        net.deliver(packet);
    }
    assert_eq!(net.poll(1), [], "neither HELLO nor PROBE gets an answer");
    let dropped = net.host(1).stats().dropped(DropReason::NotRelayed);
    assert_eq!(dropped, asked.len() as u64);
    // A greeter that is lent in a flood knows it too.
    let (from, _, hello) = &asked[0];
    let greeted = |net: &mut Net| {
        let mut greeter = net.host(1).lend_greeter().unwrap();
        let greeted = greeter.greet(now, *from, hello);
        let dropped = greeter.take_stats().dropped[DropReason::NotRelayed as usize];
        net.host(1).give_back(greeter);
        (matches!(greeted, Greeted::Dropped), dropped)
    };
    assert_eq!(greeted(&mut net), (true, 1));
    assert_eq!(greeted(&mut Net::new(2)).1, 0, "another host's does not");
    // Whoever asks from where a server is may be it.
    net.host(1).local.add_servers(&[Route::udp(*from)]);
    for packet in &asked {
        net.deliver(packet);
    }
    assert!(!net.poll(1).is_empty());
}

// spec: RCH-40
#[test]
fn threat_44_a_host_of_relays_sends_nothing_directly() {
    let mut net = Net::with([relay_only(), Config::default()]);
    let (eid, address, now) = (net.eid(1), net.nodes[1].address, net.now);
    let direct = Route::udp(address);
    let refused = net.host(0).connect(now, eid, SERVICE, &[direct]);
    let address_text = address.to_string();
    let expected = NegotiationError::NotRelayed { address: address_text };
    assert_eq!(refused.map(drop), Err(expected.into()));
    net.host(0).probe(direct);
    assert_eq!(net.poll(0), []);
    // Of several ways, those are tried that may be; also those that are named later.
    let relay = Route::through(Link::Udp("192.0.2.1:1".parse().unwrap()), RelayHandle(7));
    net.host(0).connect(now, eid, SERVICE, &[direct, relay]).unwrap();
    net.host(0).add_hints(now, &eid, &[direct]);
    let sent = net.poll(0);
    assert!(
        !sent.is_empty() && sent.iter().all(|(_, to, _)| *to != address),
        "{sent:?}"
    );
    // A server is reached as ever.
    let mut net = Net::with([relay_only(), Config::default()]);
    let (eid, now) = (net.eid(1), net.now);
    let names = ("sss", sss_wire::reach::PROTOCOL);
    let stream = net.host(0).connect(now, eid, names, &[direct]).unwrap();
    net.run(SECOND, |_| true);
    assert_eq!(net.host(0).is_connected(stream.peer()), Some(true));
}
