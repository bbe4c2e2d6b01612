//! Attacks on a host, by the numbers of the table in docs/security.md.

use sss_wire::constants::VERSION;
use sss_wire::long;

use super::*;
use crate::entropy::{Entropy, Randomness};

/// Hosts of which each has its settings changed.
fn net_of(count: u8, change: impl Fn(u8, &mut Config)) -> Net {
    let configs = (0..count).map(|n| Config::default().with(|config| change(n, config)));
    Net::with(configs)
}

/// A host with the identity of the nth.
fn host(n: u8, change: impl Fn(&mut Config)) -> Host {
    let config = Config::default().with(change);
    let mut host = Host::new(config, StaticKey::from_bytes([n + 1; 32]), [n; 32]);
    host.listen(SERVICE.0, SERVICE.1).unwrap();
    host
}

// Threat 26: an observer who finds the port of a host that only connects to others, and asks it.
// spec: NEG-14
#[test]
fn threat_26_a_host_says_who_it_is_only_if_it_is_to_be_found() {
    let stranger = SocketAddr::from(([192, 0, 2, 1], 9));
    for (is_open, listens) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut net = net_of(2, |_, config| config.answer_probes = is_open);
        if !listens {
            net.host(0).unlisten(crate::ids::ListenerId(0));
        }
        net.connect(0, 1);
        net.run(Duration::from_millis(100), |_| true);
        net.deliver(&(stranger, net.nodes[0].address, long::probe(&[7; 8])));
        let answers = net.poll(0);
        assert_eq!(answers.len(), usize::from(is_open && listens));
        let eid = net.eid(0);
        let is_told = |packet: &Packet| packet.2.windows(32).any(|bytes| bytes == &eid.as_bytes()[1..]);
        assert_eq!(answers.iter().any(is_told), is_open && listens);
        assert!(!net.sent.iter().any(is_told), "nor does it say so of itself");
    }
}

// Threat 1: whoever has seen an attempt asks in somebody else's name for HELLO with a token.
// spec: NEG-12
#[test]
fn threat_01_retry_from_elsewhere_brings_nobody_a_hello() {
    let mut net = net_of(2, |_, _| {});
    net.connect(0, 1);
    let hello = net.poll(0).swap_remove(0);
    let attempt = hello.2[5..13].try_into().unwrap();
    let retry = long::retry(VERSION, &attempt, &[7; 16]);
    let victim = SocketAddr::from(([192, 0, 2, 1], 9));
    net.deliver(&(victim, net.nodes[0].address, retry.clone()));
    assert_eq!(net.poll(0), []);
    net.deliver(&(net.nodes[1].address, net.nodes[0].address, retry));
    let again = net.poll(0);
    assert!(again.iter().all(|packet| packet.1 == net.nodes[1].address), "{again:?}");
    assert_eq!(long::token(&again[0].2), Some(&[7; 16]));
}

// Threat 25: a process tells the token of a channel of another one with the same identity.
// spec: PRT-11
#[test]
fn threat_25_hosts_with_one_identity_have_tokens_of_their_own() {
    let id = sss_wire::ChannelId::new(&[1, 2, 3, 4]).unwrap();
    let token = |port: u16, instance: &str| {
        let host = host(0, |config| {
            config.port = port;
            config.instance = instance.to_owned();
        });
        host.local.reset_token(id)
    };
    assert_eq!(token(4000, "a"), token(4000, "a"), "after a restart");
    let tokens = [token(4000, ""), token(4001, ""), token(4000, "a"), token(4000, "b")];
    for (n, token) in tokens.iter().enumerate() {
        assert!(!tokens[..n].contains(token));
    }
}

// Threat 25: whoever has stateless resets spent on himself silences them for others.
// spec: PRT-12
#[test]
fn threat_25_a_flood_of_one_sender_silences_no_other() {
    let mut net = Net::new(1);
    let to = net.nodes[0].address;
    let mut answers = |from: [u8; 4], count: usize| {
        for _ in 0..count {
            let mut packet = vec![0; 100];
            packet[0] = 0x40;
            net.deliver(&(SocketAddr::from((from, 9)), to, packet));
        }
        net.poll(0).len()
    };
    assert_eq!(answers([192, 0, 2, 1], 1000), 10);
    assert_eq!(answers([192, 0, 2, 2], 1), 1);
}

// Threat 24: an old answer to early data that overtook INITIATE ends the channel.
// spec: PRT-13
#[test]
fn threat_24_a_reset_counts_only_when_the_channel_is_three_timeouts_old() {
    for (wait, ends) in [(Duration::ZERO, false), (SECOND, true)] {
        let mut net = Net::new(2);
        let stream = net.connect(0, 1);
        written(net.host(0).stream(stream).poll_write(b"x"));
        while net.host(0).is_connected(stream.peer()) != Some(true) {
            let packets: Vec<Packet> = (0..2).flat_map(|n| net.poll(n)).collect();
            packets.iter().for_each(|packet| net.deliver(packet));
        }
        net.now = net.now + wait;
        let (id, token) = (net.peer(0, 1), [9; 16]);
        net.host(0).peers.get_mut(id).unwrap().set_reset_token(token);
        let host = net.host(0);
        host.peers.settle(&mut host.local, id.index);
        let mut reset = vec![0x41; 48];
        reset[32..].copy_from_slice(&token);
        let (from, to) = (net.nodes[1].address, net.nodes[0].address);
        net.deliver(&(from, to, reset));
        let is_open = net.host(0).peers.get_mut(id).unwrap().open_channels() > 0;
        assert_eq!(is_open, !ends);
    }
}

// Threat 3: replies that nobody fetches.
#[test]
fn threat_03_replies_that_wait_are_bounded() {
    let mut net = net_of(2, |_, config| config.answer_probes = true);
    let (from, to) = (SocketAddr::from(([192, 0, 2, 1], 9)), net.nodes[0].address);
    for n in 0_u64..5000 {
        net.deliver(&(from, to, long::probe(&n.to_be_bytes())));
    }
    // What the host sends of itself is not dropped for that.
    net.connect(0, 1);
    let sent = net.poll(0);
    assert_eq!(sent.iter().filter(|p| p.1 == from).count(), 1024);
    assert_eq!(sent.iter().filter(|p| p.2[0] == HELLO).count(), 1);
}

// Threat 11: a host's own packets are sent back to it.
// spec: NEG-19
#[test]
fn threat_11_a_host_makes_no_channel_with_itself() {
    for allowed in [false, true] {
        let mut net = net_of(2, |_, config| config.allow_own_eid = allowed);
        net.nodes[1].host = host(0, |config| config.allow_own_eid = true);
        net.host(1).local.rng = Randomness::new([77; 32].into());
        let (eid, now) = (net.eid(0), net.now);
        let (own, other) = (net.nodes[0].address, net.nodes[1].address);
        // An attempt that comes back to the host that began it.
        if allowed {
            net.host(0).connect(now, eid, SERVICE, &[own.into()]).unwrap();
            net.run(2 * SECOND, |_| true);
            let initiates = net.sent.iter().filter(|p| p.2[0] == INITIATE).count();
            assert!(initiates > 0);
            assert!(net.host(0).stats().dropped(DropReason::Unwelcome) > 0);
            assert_eq!(net.host(0).stats().channels_made, 0);
        }
        // Another process with the same identity.
        net.host(1).connect(now, eid, SERVICE, &[own.into()]).unwrap();
        net.run(2 * SECOND, |p| p.0 != own || p.1 == other);
        assert_eq!(net.host(0).stats().channels_made, u64::from(allowed));
        if !allowed {
            let text = format!("{:?}", net.ends(1));
            assert!(text.contains("it has the same EID"), "{text}");
        }
    }
}

// Threat 5: the responder's keys are those of an earlier channel.
// spec: NEG-23
#[test]
fn threat_05_every_answer_has_a_nonce_of_its_own() {
    let mut net = net_of(3, |n, config| {
        if n == 1 {
            let refused = Eid::from_public_key(&StaticKey::from_bytes([3; 32]).public());
            config.accept_filter = Some(std::sync::Arc::new(move |eid, _| *eid != refused));
        }
    });
    net.connect(0, 1);
    net.connect(2, 1);
    net.run(SECOND, |_| true);
    net.nodes[2].host = host(2, |_| {});
    net.connect(2, 1);
    net.run(SECOND, |_| true);
    let accepts: Vec<_> = net.sent.iter().filter(|p| p.2[0] == ACCEPT).collect();
    assert_eq!(accepts.len(), 3, "one that accepts, two that refuse");
    let mut nonces: Vec<&[u8]> = accepts.iter().map(|p| &p.2[13..45]).collect();
    nonces.sort_unstable();
    nonces.dedup();
    assert_eq!(nonces.len(), 3);
    assert!(nonces.iter().all(|nonce| **nonce != [0; 32]));
    assert!(net.sent.iter().any(|p| p.2[0] == COOKIE));
}

/// Entropy whose first bytes are the same each time, and all that follow those of `n`.
fn snapshot(n: u8) -> Entropy {
    let mut first = Some([7; 32]);
    Entropy::new(move |out| *out = first.take().unwrap_or([n; 32]))
}

// Threat 37: a host is copied while it runs: a snapshot of a virtual machine, or a fork.
#[test]
fn threat_37_copies_of_a_host_have_keys_of_their_own() {
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for n in 1..=3 {
        let mut net = Net::new(2);
        net.nodes[0].host = Host::new(Config::default(), StaticKey::from_bytes([1; 32]), snapshot(n));
        let mut server = Host::new(Config::default(), StaticKey::from_bytes([2; 32]), snapshot(n));
        server.listen(SERVICE.0, SERVICE.1).unwrap();
        net.nodes[1].host = server;
        net.connect(0, 1);
        net.run(SECOND, |_| true);
        let first = |kind: u8, part: std::ops::Range<usize>| {
            let packet = net.sent.iter().find(|p| p.2[0] == kind).unwrap();
            packet.2[part].to_vec()
        };
        // Attempt and ephemeral key of HELLO, the responder's ephemeral key, and the nonce of its ACCEPT.
        seen.extend([
            first(HELLO, 5..13),
            first(HELLO, 29..61),
            first(COOKIE, 13..45),
            first(ACCEPT, 13..45),
        ]);
    }
    for (n, part) in seen.iter().enumerate() {
        assert!(!seen[..n].contains(part), "{n}");
    }
    // Nothing else is random: with the same entropy it is the same.
    let hello = |n: u8| {
        let mut net = Net::new(2);
        net.nodes[0].host = Host::new(Config::default(), StaticKey::from_bytes([1; 32]), snapshot(n));
        net.connect(0, 1);
        net.poll(0)
    };
    assert_eq!(hello(9), hello(9));
}

/// Adds processes of the first host's identity, which connect to the second one after another; each has a stream that
/// stays, or none.
fn flock(net: &mut Net, ports: std::ops::Range<u16>, with_stream: bool) {
    let (eid, to, listener) = (net.eid(1), net.nodes[1].address, crate::ids::ListenerId(0));
    for port in ports {
        let mut host = host(0, |_| {});
        let [high, low] = port.to_be_bytes();
        let seed = std::array::from_fn(|n| if n % 2 == 0 { high } else { low });
        host.local.rng = Randomness::new(seed.into());
        let now = net.now;
        let stream = host.connect(now, eid, SERVICE, &[to.into()]).unwrap();
        written(host.stream(stream).poll_write(b"x"));
        let address = SocketAddr::from(([10, 0, 0, 1], port));
        net.nodes.push(Node {
            host,
            address,
            events: Vec::new(),
        });
        net.run(SECOND / 2, |_| true);
        if with_stream {
            continue;
        }
        let n = net.nodes.len() - 1;
        net.host(n).stream(stream).release();
        let (accepted, _) = net.host(1).accept(listener).unwrap();
        net.host(1).stream(accepted).release();
        net.run(SECOND / 2, |_| true);
    }
}

fn is_connected(net: &Net, n: usize) -> bool {
    let host = &net.nodes[n].host;
    host.peers().iter().any(|(id, _)| host.is_connected(*id) == Some(true))
}

fn trees(net: &Net, n: usize) -> usize {
    let host = &net.nodes[n].host;
    host.peers()
        .iter()
        .filter(|(id, _)| host.is_connected(*id) == Some(true))
        .count()
}

// Threat 34: channels of one identity without end.
// spec: NEG-35
#[test]
fn threat_34_idle_trees_of_one_eid_make_room_for_newer_ones() {
    let mut net = net_of(2, |_, config| config.peers.trees_per_eid = 4);
    flock(&mut net, 5000..5010, false);
    assert_eq!(net.host(1).stats().channels_made, 10, "the newest always comes in");
    assert_eq!(trees(&net, 1), 4);
    let connected: Vec<usize> = (2..12).filter(|n| is_connected(&net, *n)).collect();
    assert_eq!(connected, [8, 9, 10, 11]);
    let told = format!("{:?}", net.ends(2));
    assert!(told.contains("others need the room"), "{told}");
    // Whoever was asked to go may come again.
    let (eid, to, now) = (net.eid(1), net.nodes[1].address, net.now);
    net.host(2).connect(now, eid, SERVICE, &[to.into()]).unwrap();
    net.run(SECOND, |_| true);
    assert!(is_connected(&net, 2));
}

// Threat 34: channels of many identities from one network, and of all.
// spec: NEG-35
#[test]
fn threat_34_idle_trees_of_a_network_and_of_all_make_room_for_newer_ones() {
    for for_network in [true, false] {
        let mut net = net_of(8, |_, config| {
            let limit = if for_network {
                &mut config.peers.trees_per_network
            } else {
                &mut config.peers.trees
            };
            *limit = 3;
        });
        for n in 2..8 {
            if for_network {
                net.nodes[n].address = SocketAddr::from(([10, 0, 9, 9], n as u16));
            }
            net.connect(n, 1);
            net.run(SECOND, |_| true);
        }
        // They have streams: whoever comes late is told.
        let connected: Vec<usize> = (2..8).filter(|n| is_connected(&net, *n)).collect();
        assert_eq!(connected, [2, 3, 4]);
        let told = format!("{:?}", net.ends(7));
        assert!(told.contains("too many connections"), "{told}");
        net.connect(0, 1);
        net.run(SECOND, |_| true);
        assert_eq!(is_connected(&net, 0), for_network, "from elsewhere");
    }
}

// Threat 34: a host that crashes again and again is not kept out by what it left behind; whoever works stays.
// spec: NEG-35
#[test]
fn threat_34_ghosts_make_room_and_those_at_work_stay() {
    let mut net = net_of(2, |_, config| config.peers.trees_per_eid = 4);
    flock(&mut net, 5000..5004, true);
    assert_eq!(trees(&net, 1), 4);
    // All four are heard of, and have streams: a fifth is told that there are too many.
    flock(&mut net, 6000..6001, true);
    let told = format!("{:?}", net.ends(6));
    assert!(told.contains("too many connections"), "{told}");
    assert_eq!(net.host(1).stats().refusals_sent, 1);
    // Two of them die, without a word; the next one is refused, and the one after that is not.
    net.nodes.truncate(4);
    flock(&mut net, 6001..6002, true);
    net.run(5 * SECOND, |_| true);
    flock(&mut net, 6002..6003, true);
    assert!(!is_connected(&net, 4));
    assert!(is_connected(&net, 5), "{:?}", net.ends(5));
    assert_eq!((net.ends(2), net.ends(3)), (vec![], vec![]));
}

// Threat 34: what many identities of one network, or of all, leave behind keeps nobody out; whoever is heard of stays.
// spec: NEG-35
#[test]
fn threat_34_ghosts_of_other_identities_make_room_too() {
    for for_network in [true, false] {
        let mut net = net_of(6, |_, config| {
            let limit = if for_network {
                &mut config.peers.trees_per_network
            } else {
                &mut config.peers.trees
            };
            *limit = 3;
        });
        let eid = net.eid(1);
        for n in [0, 2, 3, 4, 5] {
            net.nodes[n].address = SocketAddr::from(([10, 0, 9, if for_network { 9 } else { n as u8 }], 1 + n as u16));
        }
        for n in [0, 2, 3] {
            net.connect(n, 1);
            net.run(SECOND, |_| true);
        }
        // The last two vanish while they have streams. Whoever comes next is refused, and then known to be no ghost's.
        let gone = [net.nodes[2].address, net.nodes[3].address];
        let passes = |packet: &Packet| !gone.contains(&packet.0) && !gone.contains(&packet.1);
        net.connect(4, 1);
        net.run(5 * SECOND, passes);
        assert!(!is_connected(&net, 4));
        for n in [4, 5] {
            let (to, now) = (net.nodes[1].address, net.now);
            let stream = net.host(n).connect(now, eid, SERVICE, &[to.into()]).unwrap();
            written(net.host(n).stream(stream).poll_write(b"x"));
            net.run(SECOND, passes);
        }
        assert!(is_connected(&net, 4) && is_connected(&net, 5), "{for_network}");
        assert!(is_connected(&net, 0), "it is heard of");
        assert_eq!(trees(&net, 1), 3);
    }
}

// Threat 34: what a crowd leaves behind is kept for a while, and no more of it than so many trees, for longer.
// spec: NEG-35
#[test]
fn threat_34_ghosts_without_number_are_given_up_those_of_the_largest_crowd_first() {
    let mut net = net_of(6, |_, config| config.peers.unheard = 2);
    for n in [0, 2, 3, 4, 5] {
        // One by itself, and the others of one network.
        net.nodes[n].address = SocketAddr::from(([10, 0, 9, u8::from(n > 0)], 1 + n as u16));
        net.connect(n, 1);
        net.run(SECOND, |_| true);
    }
    // Nothing is heard of all but one.
    let there = net.nodes[5].address;
    let passes = |packet: &Packet| packet.0 == there || packet.1 == there;
    net.run(80 * SECOND, passes);
    assert_eq!(
        net.ends(1),
        vec![],
        "their channels are gone, and it could be an outage"
    );
    let own = net.nodes[1].address;
    let mut sought: Vec<_> = net
        .sent
        .iter()
        .filter(|p| p.0 == own && p.2[0] == HELLO)
        .map(|p| p.1)
        .collect();
    sought.sort();
    sought.dedup();
    assert_eq!(sought.len(), 2, "the others come back by themselves");
    net.run(40 * SECOND, passes);
    assert_eq!(net.ends(1).len(), 2, "{:?}", net.ends(1));
    net.run(5 * SECOND, |_| true);
    let connected: Vec<usize> = (0..6).filter(|n| *n != 1 && is_connected(&net, *n)).collect();
    assert_eq!(
        connected,
        [0, 4, 5],
        "alone in its network, the newest of the others, and who was there"
    );
}

// Threat 34: an outage of one process is no sign that it was restarted, though another one of its identity connects.
// spec: NEG-20
#[test]
fn threat_34_an_outage_while_another_process_of_the_identity_connects_ends_nothing() {
    let mut net = net_of(2, |_, _| {});
    flock(&mut net, 5000..5001, true);
    let silent = net.nodes[2].address;
    net.connect(0, 1);
    net.run(20 * SECOND, |packet| packet.0 != silent && packet.1 != silent);
    let is_stalled = |event: &&Event| matches!(event, Event::Link(_, LinkStatus::Stalled));
    let told = net.nodes[1].events.iter().filter(is_stalled).count();
    assert_eq!(told, 1, "it is known not to be heard, and that is all");
    net.run(2 * SECOND, |_| true);
    assert_eq!((net.ends(1), net.ends(2)), (vec![], vec![]));
    assert!(is_connected(&net, 0) && is_connected(&net, 2));
    // The newer one ends: streams to the identity go to the one that is left.
    let (now, eid, newer) = (net.now, net.eid(0), net.peer(0, 1));
    net.host(0).disconnect(now, newer, sss_wire::Code::NONE, "");
    net.run(SECOND, |_| true);
    let made = |net: &Net| net.nodes.iter().map(|n| n.host.stats().channels_made).sum::<u64>();
    let before = made(&net);
    let stream = net
        .host(1)
        .connect(now, eid, SERVICE, &[])
        .expect("a peer that is there");
    assert_eq!(net.host(1).is_connected(stream.peer()), Some(true));
    net.run(SECOND, |_| true);
    assert_eq!(made(&net), before, "no other channel was made for it");
}

// Threat 34: a tree without a stream lingers for a minute, one with a stream for as long as the host is set to.
// spec: MIG-14
#[test]
fn threat_34_trees_without_streams_linger_for_a_minute() {
    let mut took = [false, true].map(|with_stream| {
        let mut net = Net::new(2);
        flock(&mut net, 5000..5001, with_stream);
        let begun = net.now;
        while net.ends(1).is_empty() && net.now < begun + 1000 * SECOND {
            net.run(SECOND, |_| false);
        }
        net.now.since(begun)
    });
    took.sort_unstable();
    assert!(took[0] >= 60 * SECOND && took[0] <= 125 * SECOND, "{took:?}");
    assert!(took[1] >= 300 * SECOND && took[1] <= 365 * SECOND, "{took:?}");
}

/// Names that attempts had in what the first host sent, in order, each once.
fn attempts(net: &Net) -> Vec<[u8; 8]> {
    let own = net.sent.iter().filter(|p| p.0.ip() == net.nodes[0].address.ip());
    let long = own.filter(|p| p.2[0] >> 7 == 1);
    let mut names: Vec<[u8; 8]> = long.map(|p| p.2[5..13].try_into().unwrap()).collect();
    names.dedup();
    names
}

/// A host moves while it connects, at the moment when the packet of that kind was lost on its way. Returns the names
/// that its attempts had before and after.
fn moved_while_connecting(lost: u8) -> (Vec<[u8; 8]>, Vec<[u8; 8]>) {
    let mut net = Net::new(2);
    let stream = net.connect(0, 1);
    written(net.host(0).stream(stream).poll_write(b"early"));
    net.run(SECOND / 10, |p| p.2[0] != lost);
    let before = attempts(&net);
    net.sent.clear();
    net.nodes[0].address = SocketAddr::from(([10, 0, 1, 1], 5000));
    let now = net.now;
    net.host(0).network_changed(now, |_, _| true);
    net.run(2 * SECOND, |_| true);
    let after = attempts(&net);
    assert!(net.nodes[0].events.iter().any(|e| matches!(e, Event::Connected(..))));
    // Nobody can tell any more whether INITIATE was accepted: its cookie is for another address (NEG-25).
    if ![INITIATE, ACCEPT].contains(&lost) {
        let (id, _) = net.host(1).accept(crate::ids::ListenerId(0)).expect("it was opened");
        let read = net.host(1).stream(id).poll_read(now, 100);
        let expected = ReadOutcome::Chunk(bytes::Bytes::from_static(b"early"));
        assert_eq!(read, Poll::Ready(Ok(expected)));
        assert_eq!((net.ends(0), net.ends(1)), (vec![], vec![]));
    }
    (before, after)
}

// spec: MIG-13, NEG-24
#[test]
fn threat_26_an_attempt_under_way_has_another_name_after_a_move() {
    for lost in [HELLO, COOKIE, INITIATE, ACCEPT] {
        let (before, after) = moved_while_connecting(lost);
        assert_eq!((before.len(), after.len()), (1, 1), "{lost:#x}");
        assert!(!after.contains(&before[0]), "{lost:#x}");
    }
}

/// A host that has a tree moves, its INITIATE is lost, and it moves again.
fn moved_after_initiate(meanwhile: impl Fn(&mut Net)) -> Net {
    let mut net = Net::new(2);
    let stream = net.connect(0, 1);
    written(net.host(0).stream(stream).poll_write(b"x"));
    net.run(SECOND, |_| true);
    for n in 1..=2 {
        let now = net.now;
        net.nodes[0].address = SocketAddr::from(([10, 0, n, 1], 5000));
        net.host(0).network_changed(now, |_, _| true);
        if n == 1 {
            net.run(SECOND / 10, |p| p.2[0] != INITIATE);
            meanwhile(&mut net);
        }
    }
    net.run(10 * SECOND, |_| true);
    net
}

pub(super) fn open_channels(net: &Net, n: usize) -> usize {
    net.nodes[n].host.peers.iter().map(|peer| peer.open_channels()).sum()
}

// spec: MIG-4, MIG-13
#[test]
fn threat_26_an_attempt_for_a_tree_goes_on_after_a_move_without_the_one_before() {
    let net = moved_after_initiate(|_| ());
    assert_eq!((net.ends(0), net.ends(1)), (vec![], vec![]));
    assert_eq!([0, 1].map(|n| open_channels(&net, n)), [1, 1]);
    // The peer was restarted: it knows no tree, and none begins in its place.
    let net = moved_after_initiate(|net| {
        let mut host = Host::new(Config::default(), StaticKey::from_bytes([2; 32]), [9; 32]);
        host.listen(SERVICE.0, SERVICE.1).unwrap();
        net.nodes[1].host = host;
    });
    assert!(
        matches!(net.ends(0)[..], [CloseReason::PeerRestarted]),
        "{:?}",
        net.ends(0)
    );
    assert_eq!([0, 1].map(|n| open_channels(&net, n)), [0, 0]);
}

/// A host moves, and makes a channel of which the other cannot know that it is there; then the other moves.
// spec: MIG-11, MIG-13
#[test]
fn a_host_that_moves_looks_for_the_peer_on_each_open_channel() {
    let mut net = Net::new(2);
    let stream = net.connect(0, 1);
    written(net.host(0).stream(stream).poll_write(b"x"));
    net.run(SECOND, |_| true);
    for n in 0..2 {
        let now = net.now;
        net.nodes[n].address = SocketAddr::from(([10, 0, 1, u8::try_from(n).unwrap() + 1], 5000));
        net.host(n).network_changed(now, |_, _| true);
        let moved = net.nodes[0].address;
        net.run(SECOND / 10, |p| n == 1 || p.0 != moved || p.2[0] >= 0x80);
    }
    net.run(SECOND, |_| true);
    assert_eq!((net.ends(0), net.ends(1)), (vec![], vec![]));
    assert_eq!(net.host(1).stats().channels_made, 3);
}

/// Bytes that a host sends within five minutes to its peer, which has vanished in the middle of a transfer to it. Host
/// 0 has begun the tree.
fn sent_to_nobody(from: usize) -> usize {
    let mut net = Net::new(2);
    let stream = net.connect(0, 1);
    written(net.host(0).stream(stream).poll_write(b"x"));
    net.run(SECOND, |_| true);
    let (id, _) = net.host(1).accept(crate::ids::ListenerId(0)).unwrap();
    let stream = [stream, id][from];
    written(net.host(from).stream(stream).poll_write(&[0; 400_000]));
    let address = net.nodes[from].address;
    let mut bytes = 0;
    net.run(300 * SECOND, |p| {
        bytes += if p.0 == address { p.2.len() } else { 0 };
        false
    });
    bytes
}

// Threat 1: an address that was proven is not sent much after its host has vanished.
// spec: REC-4, MIG-11, MIG-12
#[test]
fn threat_01_a_peer_that_vanished_is_sent_little() {
    // A window of two of the largest datagrams (REC-6), of which more would be there to send; and probes.
    let (client, server) = (sent_to_nobody(0), sent_to_nobody(1));
    assert!(server < 300_000, "{server}: the peer has to come back by itself");
    assert!(client < 1_200_000, "{client}");
}

/// Has a host open streams and send what it may, of which the second host reads only the first kilobytes: how much of
/// the rest it has taken.
fn fill(net: &mut Net, n: usize, streams: usize) -> u64 {
    let listener = crate::ids::ListenerId(0);
    let opened: Vec<StreamId> = (0..streams).map(|_| net.connect(n, 1)).collect();
    let mut accepted = Vec::new();
    for turn in 0..8 {
        for stream in &opened {
            while written(net.host(n).stream(*stream).poll_write(&[0; 100_000])) > 0 {}
        }
        net.run(SECOND / 5, |_| true);
        accepted.extend(std::iter::from_fn(|| net.host(1).accept(listener)).map(|(stream, _)| stream));
        if turn < 4 {
            let now = net.now;
            for stream in &accepted {
                let _ = net.host(1).stream(*stream).poll_read(now, 60_000);
            }
        }
    }
    let unread = accepted.iter().map(|stream| {
        let info = net.host(1).stream_info(*stream).unwrap();
        info.received - info.read
    });
    unread.sum()
}

// Threat 28: identities of one network, none of which has more than it may, leave receive windows for others.
// spec: STR-45
#[test]
fn threat_28_identities_of_one_network_leave_windows_for_others() {
    let mut net = net_of(9, |_, config| {
        (config.window.per_peer_budget, config.window.per_host_budget) = (2 << 20, 8 << 20);
    });
    for n in 2..7 {
        net.nodes[n].address = SocketAddr::from(([10, 0, 9, 9], n as u16));
    }
    let taken: Vec<u64> = (2..7).map(|n| fill(&mut net, n, 20)).collect();
    assert!(taken.iter().sum::<u64>() > 3 << 20, "{taken:?}");
    // Two of their networks would leave a quarter, and so on.
    for (n, least) in [(7, 1 << 20), (8, 1 << 20)] {
        let others = fill(&mut net, n, 20);
        assert!(others >= least, "{others} beside {taken:?}");
    }
}

// Threat 34: a crowd of few networks, all at work, does not keep others out.
// spec: NEG-35
#[test]
fn threat_34_a_crowd_at_work_makes_room_for_other_networks() {
    let mut net = net_of(10, |_, config| config.peers.trees = 4);
    for n in 2..6 {
        net.nodes[n].address = SocketAddr::from(([10, 0, 9, 9], n as u16));
    }
    for n in 2..10 {
        let stream = net.connect(n, 1);
        written(net.host(n).stream(stream).poll_write(b"x"));
        net.run(SECOND, |_| true);
    }
    // Each from elsewhere takes the place of the newest of the crowd, until that has no more than others.
    let connected: Vec<usize> = (2..10).filter(|n| is_connected(&net, *n)).collect();
    assert_eq!(connected, [2, 6, 7, 8]);
    let told = format!("{:?}", net.ends(9));
    assert!(told.contains("too many connections"), "{told}");
    assert_eq!(trees(&net, 1), 4);
}
