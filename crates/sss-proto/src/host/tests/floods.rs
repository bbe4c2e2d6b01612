//! Floods of negotiations: threat 2 of the table in docs/security.md.

use sss_wire::{Code, long};

use super::*;
use crate::negotiation::{Greeted, Greeter};

const HELLO_K: u8 = 0x81;
const RETRY: u8 = 0x82;
const VERSION: u8 = 0x83;
const COOKIE_K: u8 = 0x85;

/// No answers.
const NOTHING: [u8; 0] = [];
/// HELLOs and HELLO_Ks of one network that are answered in a second, if the threshold is below 512 and no other asks.
const SHARE: usize = 24;

/// Two hosts; the second is always under load.
fn under_load() -> Net {
    let calm = Config::default();
    let busy = Config::default().with(|config| config.hello_threshold = 0);
    Net::with([calm, busy])
}

fn address(network: u16, port: u16) -> SocketAddr {
    let [a, b] = network.to_be_bytes();
    SocketAddr::from(([192, 0, a, b], port))
}

fn hello(attempt: u64, token: &[u8; 16]) -> Vec<u8> {
    // Nothing that opens: what counts is whether that is tried.
    long::hello(1, &attempt.to_be_bytes(), token, &vec![7; long::HELLO_SIZE - 29])
}

/// Lets the second host answer a packet. Returns the answers' types.
fn answers(net: &mut Net, from: SocketAddr, packet: Vec<u8>) -> Vec<u8> {
    net.deliver(&(from, net.nodes[1].address, packet));
    net.poll(1).iter().map(|p| p.2[0]).collect()
}

/// The token that the second host gives to that address.
fn token(net: &mut Net, from: SocketAddr, attempt: u64) -> [u8; 16] {
    let to = net.nodes[1].address;
    net.deliver(&(from, to, hello(attempt, &[0; 16])));
    let retry = net.poll(1).pop().expect("RETRY");
    assert_eq!((retry.2[0], retry.1), (RETRY, from));
    *retry.2.last_chunk().unwrap()
}

/// A HELLO that proves its address arrives. Returns whether the second host did the work for it.
fn is_worked_for(net: &mut Net, from: SocketAddr, attempt: u64) -> bool {
    let token = token(net, from, attempt);
    let worked = net.host(1).stats().dropped(DropReason::Unauthentic);
    net.deliver(&(from, net.nodes[1].address, hello(attempt, &token)));
    net.host(1).stats().dropped(DropReason::Unauthentic) > worked
}

fn dropped(net: &mut Net, reason: DropReason) -> u64 {
    net.host(1).stats().dropped(reason)
}

/// The first host's HELLO and HELLO_K, with a token of the second one.
fn greetings(net: &mut Net) -> Vec<Packet> {
    net.connect(0, 1);
    for packet in net.poll(0) {
        net.deliver(&packet);
    }
    for retry in net.poll(1) {
        net.deliver(&retry);
    }
    let packets = net.poll(0);
    assert_eq!(packets.iter().map(|p| p.2[0]).collect::<Vec<_>>(), [HELLO, HELLO_K]);
    packets
}

/// Returns whether the first host has a channel to the second.
fn is_connected(net: &mut Net) -> bool {
    let id = net.peer(0, 1);
    net.host(0).is_connected(id).unwrap()
}

/// An INITIATE of the first host, which has not arrived.
fn initiate(net: &mut Net) -> Packet {
    net.connect(0, 1);
    net.run(SECOND / 20, |p| p.2[0] != INITIATE);
    net.sent.iter().rfind(|p| p.2[0] == INITIATE).unwrap().clone()
}

// Threat 2: one token, again and again.
// spec: NEG-36
#[test]
fn threat_02_a_token_is_good_for_a_few_packets() {
    let mut net = under_load();
    let packets = greetings(&mut net);
    for (packet, answer) in packets.iter().zip([COOKIE, COOKIE_K]) {
        let answered = (0..1000).flat_map(|_| answers(&mut net, packet.0, packet.2.clone()));
        assert_eq!(answered.collect::<Vec<_>>(), [answer; 8]);
    }
    assert_eq!(dropped(&mut net, DropReason::Overload), 2 * 992);
    // With the next key there is another token for it.
    net.now = net.now + 15 * SECOND;
    assert_eq!(answers(&mut net, packets[0].0, packets[0].2.clone()), [RETRY]);
}

// Threat 2: tokens without end, of one address.
// spec: NEG-37
#[test]
fn threat_02_a_network_that_proves_its_addresses_has_a_share_and_others_get_in() {
    let mut net = under_load();
    let worked = (0..2000).filter(|n| is_worked_for(&mut net, address(1, 1000 + *n), u64::from(*n)));
    let worked = worked.count();
    assert!((8..=SHARE).contains(&worked), "{worked}");
    net.connect(0, 1);
    net.run(SECOND / 10, |_| true);
    assert!(is_connected(&mut net), "a newcomer");
}

// Threat 2: the same with HELLO_K, which asks for an encapsulation.
// spec: NEG-37
#[test]
fn threat_02_a_network_has_a_share_of_encapsulations() {
    let mut net = under_load();
    net.connect(0, 1);
    let hello_k = net.poll(0).pop().unwrap().2;
    let mut answered = 0;
    for n in 0..500 {
        let from = address(1, 1000 + n);
        let token = token(&mut net, from, u64::from_be_bytes(hello_k[5..13].try_into().unwrap()));
        let mut packet = hello_k.clone();
        packet[13..29].copy_from_slice(&token);
        answered += answers(&mut net, from, packet).len();
    }
    assert!((8..=SHARE).contains(&answered), "{answered}");
}

// Threat 2: very many networks.
// spec: NEG-37
#[test]
fn threat_02_all_together_have_no_more_than_the_total() {
    let mut net = under_load();
    let mut worked = 0;
    for tick in 0..100 {
        let asking = (0..20).map(|n| tick * 20 + n);
        worked += asking
            .filter(|n| is_worked_for(&mut net, address(*n, 9), u64::from(*n)))
            .count();
        net.now = net.now + SECOND / 100;
    }
    assert!((500..=512 + 64).contains(&worked), "{worked} of 2000 in a second");
}

// Threat 2: a spoofer has a network take the blame.
// spec: NEG-37
#[test]
fn threat_02_a_spoofer_locks_no_network_out() {
    let mut net = under_load();
    let (victim, to) = (net.nodes[0].address, net.nodes[1].address);
    for n in 0..3000_u64 {
        let token = [u8::try_from(n % 255).unwrap() + 1; 16];
        net.deliver(&(victim, to, hello(n, &token)));
        let mut hello_k = hello(n, &token);
        (hello_k[0], hello_k[45]) = (HELLO_K, 1);
        net.deliver(&(victim, to, hello_k));
    }
    net.poll(1);
    assert_eq!(dropped(&mut net, DropReason::Overload), 0);
    net.connect(0, 1);
    net.run(SECOND / 10, |_| true);
    assert!(is_connected(&mut net));
}

// Threat 2: the same with INITIATEs, of which no cookie opens.
// spec: NEG-37, NEG-38
#[test]
fn threat_02_cookies_that_do_not_open_are_counted_against_nobody() {
    let mut net = under_load();
    let good = initiate(&mut net);
    let mut forged = good.clone();
    forged.2[40] ^= 1;
    (0..3000).for_each(|_| net.deliver(&forged));
    assert_eq!(dropped(&mut net, DropReason::StaleCookie), 3000);
    net.deliver(&good);
    assert_eq!(net.host(1).stats().channels_made, 1);
}

// Threat 2: strangers take all that there is.
// spec: NEG-39
#[test]
fn threat_02_something_is_left_for_the_networks_of_established_peers() {
    let mut net = under_load();
    net.connect(0, 1);
    net.run(2 * SECOND, |_| true);
    let near = SocketAddr::new(net.nodes[0].address.ip(), 9);
    for n in 0..200 {
        is_worked_for(&mut net, address(n, 9), u64::from(n));
    }
    assert!(!is_worked_for(&mut net, address(300, 9), 300));
    assert!(is_worked_for(&mut net, near, 301));
    // No longer than the peer is there.
    let (id, now) = (net.peer(1, 0), net.now);
    net.host(1).disconnect(now, id, Code::NONE, "");
    net.poll(1);
    assert!(!is_worked_for(&mut net, near, 302));
}

// Threat 2: answers to a flood stand before the packets of channels.
// spec: NEG-39
#[test]
fn threat_02_peers_do_not_wait_for_answers_to_strangers() {
    let mut net = under_load();
    let stream = net.connect(1, 0);
    net.run(SECOND, |_| true);
    let (peer, to) = (net.nodes[0].address, net.nodes[1].address);
    for n in 0..1000 {
        net.deliver(&(address(n, 9), to, hello(u64::from(n), &[0; 16])));
    }
    written(net.host(1).stream(stream).poll_write(&[1; 100_000]));
    let sent: Vec<bool> = net.poll(1).iter().map(|packet| packet.1 == peer).collect();
    assert_eq!(
        sent.iter().filter(|to_peer| !**to_peer).count(),
        1000,
        "they are sent, too"
    );
    let last = sent.iter().rposition(|to_peer| *to_peer).unwrap();
    let packets = sent.iter().filter(|to_peer| **to_peer).count();
    assert!(last < 6 * packets, "{packets} packets, the last is the {last}th");
}

// Threat 2: INITIATEs whose cookie is good, and whose payload is not.
// spec: NEG-38
#[test]
fn threat_02_initiates_with_a_bad_payload_are_looked_into_six_times_with_each_cookie() {
    let mut net = Net::new(3);
    let good = initiate(&mut net);
    let mut bad = good.clone();
    *bad.2.last_mut().unwrap() ^= 1;
    (0..1000).for_each(|_| net.deliver(&bad));
    assert_eq!(dropped(&mut net, DropReason::Unauthentic), 6);
    assert_eq!(dropped(&mut net, DropReason::Overload), 994);
    net.deliver(&good);
    assert_eq!(net.host(1).stats().channels_made, 0, "the cookie has had its share");
    // A neighbour, behind the same address, notices nothing of a flood that goes on.
    net.nodes[2].address = SocketAddr::new(good.0.ip(), 9);
    net.connect(2, 1);
    for _ in 0..10 {
        (0..100).for_each(|_| net.deliver(&bad));
        net.run(SECOND / 100, |packet| packet.0 != good.0);
    }
    assert_eq!(net.host(1).stats().channels_made, 1);
}

// Threat 2: the same with a cookie of its own for each.
// spec: NEG-38
#[test]
fn threat_02_initiates_with_a_bad_payload_are_looked_into_so_often_a_second_for_each_network() {
    let mut net = Net::new(3);
    let mut bad = Vec::new();
    for n in 0..150 {
        net.nodes[0].host = Host::new(Config::default(), StaticKey::from_bytes([100; 32]), [n; 32]);
        net.nodes[0].address.set_port(5000 + u16::from(n));
        let mut packet = initiate(&mut net);
        *packet.2.last_mut().unwrap() ^= 1;
        bad.push(packet);
    }
    net.now = net.now + SECOND;
    bad.iter().for_each(|packet| net.deliver(packet));
    let looked_into = dropped(&mut net, DropReason::Unauthentic);
    assert!((60..=125).contains(&looked_into), "{looked_into}");
    assert_eq!(dropped(&mut net, DropReason::Overload), 150 - looked_into);
    // Another network has as many.
    let flooder = net.nodes[0].address.ip();
    net.connect(2, 1);
    net.run(SECOND / 10, |packet| packet.0.ip() != flooder);
    assert_eq!(net.host(1).stats().channels_made, 1);
}

// Threat 2: INITIATEs of somebody who is not wanted, which are refused without a word, and so never spent.
// spec: NEG-38
#[test]
fn threat_02_refused_initiates_are_looked_into_six_times_with_each_cookie() {
    let closed = Config::default().with(|config| {
        config.refuse_silently = true;
        config.accept_filter = Some(std::sync::Arc::new(|_: &Eid, _: Route| false));
    });
    let mut net = Net::with([Config::default(), closed]);
    let unwanted = initiate(&mut net);
    (0..1000).for_each(|_| net.deliver(&unwanted));
    assert_eq!(dropped(&mut net, DropReason::Unwelcome), 6);
    assert_eq!(dropped(&mut net, DropReason::Overload), 994);
}

// Threat 2: cookies that were gathered in peace are all used at once.
// spec: NEG-37
#[test]
fn threat_02_a_network_has_a_share_of_channels_that_are_made() {
    let mut net = under_load();
    let mut initiates = Vec::new();
    for n in 0..60 {
        // Another process at the same address.
        let identity = StaticKey::from_bytes([100 + n; 32]);
        net.nodes[0].host = Host::new(Config::default(), identity, [100 + n; 32]);
        net.nodes[0].address.set_port(5000 + u16::from(n));
        initiates.push(initiate(&mut net));
        net.now = net.now + SECOND / 10;
    }
    net.now = net.now + SECOND;
    initiates.iter().for_each(|packet| net.deliver(packet));
    let made = net.host(1).stats().channels_made;
    // The network is that of a peer, after the first.
    assert!((8..=32).contains(&made), "{made} of 60");
}

/// Lets a greeter that was lent look at a packet to the second host; what it admits reaches that host. Returns the
/// types of the answers.
fn greeted(net: &mut Net, greeter: &mut Greeter, packet: &Packet) -> Vec<u8> {
    let now = net.now;
    match greeter.greet(now, packet.0, &packet.2) {
        Greeted::Answer(answer) => vec![answer[0]],
        Greeted::Dropped => Vec::new(),
        Greeted::Admitted => {
            net.host(1).handle(
                now,
                Input::Admitted {
                    remote: packet.0,
                    local: None,
                    packet: &packet.2,
                },
            );
            net.poll(1).iter().map(|p| p.2[0]).collect()
        }
    }
}

// Threat 2: what is done on another thread is what the host does by itself.
// spec: NEG-12, NEG-36
#[test]
fn threat_02_a_greeter_that_is_lent_keeps_the_keys_and_counts_of_its_host() {
    let mut net = under_load();
    let packets = greetings(&mut net);
    let [hello, hello_k] = &packets[..] else { panic!("both") };
    let before = net.host(1).stats();
    assert_eq!(answers(&mut net, hello.0, hello.2.clone()), [COOKIE]);
    let mut greeter = net.host(1).lend_greeter().unwrap();
    assert!(net.host(1).lend_greeter().is_none(), "there is one");
    for (packet, answer, times) in [(hello, COOKIE, 7), (hello_k, COOKIE_K, 4)] {
        let answered = (0..times).flat_map(|_| greeted(&mut net, &mut greeter, packet));
        assert_eq!(answered.collect::<Vec<_>>(), vec![answer; times]);
    }
    assert_eq!(greeted(&mut net, &mut greeter, hello), NOTHING, "the token is used up");
    let stranger = (address(7, 7), hello.1, self::hello(7, &[0; 16]));
    assert_eq!(greeted(&mut net, &mut greeter, &stranger), [RETRY]);
    // Meanwhile the host itself has no part in it.
    assert_eq!(answers(&mut net, hello_k.0, hello_k.2.clone()), NOTHING);
    net.host(1).give_back(greeter);
    assert_eq!(
        answers(&mut net, hello.0, hello.2.clone()),
        NOTHING,
        "nor is it good again"
    );
    let answered = (0..9).flat_map(|_| answers(&mut net, hello_k.0, hello_k.2.clone()));
    assert_eq!(answered.collect::<Vec<_>>(), [COOKIE_K; 4]);
    let stats = net.host(1).stats();
    // One by the host, 13 by the greeter, 11 by the host: all are counted once.
    assert_eq!(stats.datagrams_received - before.datagrams_received, 25);
    assert_eq!(stats.greetings_denied - before.greetings_denied, 1 + 1 + 1 + 5);
    assert_eq!(dropped(&mut net, DropReason::Overload), 1 + 1 + 1 + 5);
}

// Threat 2: what was cut is asked for its address, whatever the load is, and no more.
// spec: NEG-2, NEG-12
#[test]
fn threat_02_the_header_of_a_greeting_is_enough_for_retry_and_for_nothing_else() {
    let mut net = Net::with([Config::default(), Config::default()]);
    let mut greeter = net.host(1).lend_greeter().unwrap();
    let (now, from) = (net.now, address(1, 9));
    let header = |packet: &[u8]| *packet.first_chunk::<{ Greeter::HEADER }>().unwrap();
    let whole = hello(5, &[0; 16]);
    let Greeted::Answer(retry) = greeter.greet_header(now, from, &header(&whole)) else {
        panic!("RETRY")
    };
    let token = *retry.last_chunk().unwrap();
    assert_eq!(
        greeter.greet_header(now, from, &header(&hello(5, &token))),
        Greeted::Dropped
    );
    assert_eq!(greeter.greet(now, from, &hello(5, &token)), Greeted::Admitted);
    let mut hello_k = hello(6, &[0; 16]);
    (hello_k[0], hello_k[45]) = (HELLO_K, 1);
    assert!(matches!(
        greeter.greet_header(now, from, &header(&hello_k)),
        Greeted::Answer(_)
    ));
    hello_k[45] = 2;
    assert_eq!(greeter.greet_header(now, from, &header(&hello_k)), Greeted::Dropped);
    net.host(1).give_back(greeter);
    let stats = net.host(1).stats();
    assert_eq!((stats.datagrams_received, stats.bytes_received), (5, 5 * 1232));
    assert_eq!((stats.datagrams_sent, stats.bytes_sent), (2, 2 * 29));
}

// Threat 2: its keys are replaced while it is lent.
// spec: NEG-12
#[test]
fn threat_02_a_greeter_that_is_lent_replaces_its_keys() {
    let mut net = under_load();
    let packets = greetings(&mut net);
    let mut greeter = net.host(1).lend_greeter().unwrap();
    net.now = net.now + 15 * SECOND;
    assert_eq!(
        greeted(&mut net, &mut greeter, &packets[0]),
        [COOKIE],
        "the key before is good"
    );
    net.now = net.now + 15 * SECOND;
    assert_eq!(greeted(&mut net, &mut greeter, &packets[0]), [RETRY]);
}

// Threat 2: strangers take all that there is, and a greeter sees which networks are those of peers.
// spec: NEG-37, NEG-39
#[test]
fn threat_02_a_greeter_that_is_lent_leaves_something_to_established_peers() {
    let mut net = under_load();
    net.connect(0, 1);
    net.run(2 * SECOND, |_| true);
    let mut greeter = net.host(1).lend_greeter().unwrap();
    let now = net.now;
    let mut admits = |from: SocketAddr, attempt| {
        let Greeted::Answer(retry) = greeter.greet(now, from, &hello(attempt, &[0; 16])) else {
            panic!("RETRY")
        };
        let token = *retry.last_chunk().unwrap();
        greeter.greet(now, from, &hello(attempt, &token)) == Greeted::Admitted
    };
    let near = SocketAddr::new(net.nodes[0].address.ip(), 9);
    let strangers = (0..200).filter(|n| admits(address(*n, 9), u64::from(*n))).count();
    assert!((40..=64).contains(&strangers), "{strangers}");
    assert!(!admits(address(300, 9), 300));
    assert!(admits(near, 301));
    // No longer than the peer is there.
    let id = net.peer(1, 0);
    net.host(1).disconnect(now, id, Code::NONE, "");
    net.poll(1);
    assert!(!admits(near, 302));
}

// spec: NEG-27
#[test]
fn a_host_that_asks_for_proof_and_then_says_nothing_is_said_to_be_under_load() {
    let mut net = under_load();
    net.connect(0, 1);
    let busy = net.nodes[1].address;
    net.run(62 * SECOND, |p| p.0 != busy || p.2[0] == RETRY);
    let ends = net.ends(0);
    let text = ends[0].to_string();
    assert!(text.contains("10.0.0.2:4000 (a host that is under load"), "{text}");
    assert!(!text.contains("is the host running"), "{text}");

    let mut net = under_load();
    net.connect(0, 1);
    net.run(62 * SECOND, |p| p.2[0] != INITIATE);
    let text = net.ends(0)[0].to_string();
    assert!(text.contains("10.0.0.2:4000 answered but did not accept us"), "{text}");
    assert!(text.ends_with(": it is under load"), "{text}");
}

// spec: NEG-13, NEG-31
#[test]
fn greetings_of_a_version_that_is_not_spoken_are_looked_at_no_further() {
    for mut net in [under_load(), Net::with([Config::default(), Config::default()])] {
        let mut greeter = net.host(1).lend_greeter().unwrap();
        net.connect(0, 1);
        for (mut packet, answer) in net.poll(0).into_iter().zip([&[VERSION][..], &NOTHING]) {
            packet.2[1..5].copy_from_slice(&7_u32.to_be_bytes());
            assert_eq!(greeted(&mut net, &mut greeter, &packet), answer);
        }
        net.host(1).give_back(greeter);
        assert_eq!(net.host(1).stats().greetings_denied, 0);
        assert_eq!(dropped(&mut net, DropReason::Unwelcome), 1);
    }
}

#[test]
fn hello_and_hello_k_alone_are_greeted() {
    let greeted: Vec<u8> = (0..=255).filter(|first| crate::Greeter::is_greeting(*first)).collect();
    assert_eq!(greeted, [HELLO, HELLO_K]);
}

// Threat 2: a flood by UDP takes nothing from those who come by a tunnel or a relay.
// spec: NEG-12, NEG-37
#[test]
fn threat_02_who_comes_by_a_tunnel_is_answered_while_a_flood_of_others_is_not() {
    let mut net = Net::with([Config::default(), Config::default()]);
    net.connect(0, 1);
    let packets = net.poll(0);
    let _greeter = net.host(1).lend_greeter().unwrap();
    assert_eq!(answers(&mut net, packets[0].0, packets[0].2.clone()), NOTHING);
    let (tunnel, now) = (Link::Tunnel(crate::route::TunnelId(3)), net.now);
    for (packet, answer) in packets.iter().zip([COOKIE, COOKIE_K]) {
        let mut data = bytes::BytesMut::from(&packet.2[..]);
        let batch = Batch {
            stride: data.len(),
            data: &mut data,
            lent: &mut None,
            link: tunnel,
            local: None,
            ecn: Ecn::NotEct,
        };
        net.host(1).handle(now, Input::Datagrams(batch));
        let mut buf = TransmitBuf::new(1);
        let Output::Transmit(transmit) = net.host(1).poll(now, &mut buf) else {
            panic!("an answer");
        };
        assert_eq!((transmit.link, buf.filled()[0]), (tunnel, answer));
    }
}
