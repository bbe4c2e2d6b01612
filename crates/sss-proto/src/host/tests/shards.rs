//! A responder with several shards behind one address (NEG-42).

use sss_wire::long::ATTEMPT_AT;
use sss_wire::params::Shard;

use super::*;
use crate::error::NegotiationError;
use crate::host::ConnectError;

const COUNT: u8 = 5;

/// A client, and the shards of one host: nodes 1 to 5.
fn net(client: Config, seed: u8) -> Net {
    let shards = (0..COUNT).map(|index| Config {
        shard: Shard::new(index, COUNT),
        ..Config::default()
    });
    let mut net = Net::with(std::iter::once(client).chain(shards));
    for n in 0..=usize::from(COUNT) {
        let key = StaticKey::from_bytes([if n == 0 { 1 } else { 2 }; 32]);
        let config = (*net.host(n).local.config).clone();
        let mut host = Host::new(config, key, [n as u8 ^ seed; 32]);
        host.listen(SERVICE.0, SERVICE.1).unwrap();
        net.nodes[n].host = host;
        net.nodes[n].address = net.nodes[n.min(1)].address;
    }
    net
}

/// The shards that have the client as their peer.
fn owners(net: &Net) -> Vec<u8> {
    let shards = net.nodes[1..].iter().zip(0..);
    let owners = shards.filter(|(node, _)| !node.host.peers().is_empty());
    owners.map(|(_, index)| index).collect()
}

/// Marks of the attempts that the client's HELLOs have named, each once, in their order.
fn marks(net: &Net) -> Vec<u8> {
    let hellos = net.sent.iter().filter(|(_, _, bytes)| bytes[0] == HELLO);
    let mut attempts: Vec<&[u8]> = hellos.map(|(_, _, bytes)| &bytes[ATTEMPT_AT..][..8]).collect();
    attempts.dedup();
    attempts.iter().map(|attempt| Shard::of(attempt[0], COUNT)).collect()
}

const SECOND: Duration = Duration::from_secs(1);

// spec: NEG-42, NEG-24
#[test]
fn the_attempts_of_a_row_meet_one_shard_and_early_data_is_delivered_once() {
    for seed in 0..8 {
        let mut net = net(Config::default(), seed * 16);
        let stream = net.connect(0, 1);
        assert_eq!(written(net.host(0).stream(stream).poll_write(b"early")), 5);
        // It is heard, and does not hear.
        net.run(4 * SECOND, |packet| packet.2[0] != ACCEPT);
        let row = marks(&net);
        assert!(row.len() > 1, "{row:?}");
        assert!(row.iter().all(|mark| *mark == row[0]), "{row:?}");
        net.run(4 * SECOND, |_| true);
        assert_eq!(owners(&net), [row[0]]);
        let there = usize::from(row[0]) + 1;
        let peer = net.peer(there, 0);
        assert_eq!(net.host(there).is_connected(peer), Some(true));
        assert_eq!(net.host(there).stats().channels_made, 1);
    }
}

// spec: NEG-42, MIG-10
#[test]
fn a_channel_for_a_tree_meets_the_shard_that_has_it() {
    for seed in 0..4 {
        let renewing = Config {
            renew: 5 * SECOND,
            ..Config::default()
        };
        let mut net = net(renewing, seed * 16);
        let stream = net.connect(0, 1);
        assert_eq!(written(net.host(0).stream(stream).poll_write(b"held")), 4);
        net.run(30 * SECOND, |_| true);
        let marks = marks(&net);
        assert!(marks.len() > 3, "{marks:?}");
        assert!(marks.iter().all(|mark| *mark == marks[0]), "{marks:?}");
        assert_eq!(owners(&net), [marks[0]]);
        let peer = net.peer(0, 1);
        assert_eq!(net.host(0).close_reason(peer), None);
        assert!(net.host(usize::from(marks[0]) + 1).stats().channels_made > 3);
    }
}

// spec: NEG-42
#[test]
fn a_shard_attempts_channels_for_its_trees_and_begins_none() {
    let mut net = net(Config::default(), 3);
    let (eid, address, now) = (net.eid(0), net.nodes[0].address, net.now);
    for n in 1..=usize::from(COUNT) {
        let begun = net.host(n).connect(now, eid, SERVICE, &[address.into()]);
        assert!(
            matches!(begun, Err(ConnectError::Negotiation(NegotiationError::Sharded))),
            "{begun:?}"
        );
        assert_eq!(net.host(n).peers(), []);
    }
    let stream = net.connect(0, 1);
    assert_eq!(written(net.host(0).stream(stream).poll_write(b"held")), 4);
    net.run(SECOND, |_| true);
    let owner = owners(&net)[0];
    let there = usize::from(owner) + 1;
    net.host(there).connect(now, eid, SERVICE, &[]).unwrap();
    // Its own address has changed: it makes a channel by itself, and hears the answer.
    let now = net.now;
    net.host(there).network_changed(now, |_, _| true);
    net.sent.clear();
    net.run(3 * SECOND, |_| true);
    let own = net
        .sent
        .iter()
        .filter(|(from, _, bytes)| bytes[0] == HELLO && *from != address);
    let marks: Vec<u8> = own
        .map(|(_, _, bytes)| Shard::of(bytes[ATTEMPT_AT + 7], COUNT))
        .collect();
    assert!(
        !marks.is_empty() && marks.iter().all(|mark| *mark == owner),
        "{marks:?}"
    );
    let peer = net.peer(there, 0);
    assert_eq!(net.host(there).is_connected(peer), Some(true));
    assert!(net.host(there).stats().channels_made > 1);
}

// spec: NEG-42
#[test]
fn where_there_are_no_shards_all_of_an_attempt_is_random() {
    let mut firsts = std::collections::HashSet::new();
    for seed in 0..40 {
        let mut net = Net::new(2);
        net.nodes[0].host = Host::new(Config::default(), StaticKey::from_bytes([1; 32]), [seed; 32]);
        net.connect(0, 1);
        net.run(SECOND, |_| true);
        let hello = net.sent.iter().find(|(_, _, bytes)| bytes[0] == HELLO).unwrap();
        firsts.insert((hello.2[ATTEMPT_AT], hello.2[ATTEMPT_AT + 7]));
        let cookie = net.sent.iter().find(|(_, _, bytes)| bytes[0] == COOKIE).unwrap();
        assert_eq!(cookie.2[ATTEMPT_AT..][..8], hello.2[ATTEMPT_AT..][..8]);
    }
    assert!(firsts.len() > 30);
}

/// Number of packets that a shard has others look at, of those that come from as many networks, 40 from each.
fn strays(networks: u8, packet: &[u8]) -> usize {
    let mut net = net(Config::default(), 1);
    let address = net.nodes[1].address;
    let (host, now) = (&mut net.nodes[1].host, net.now);
    for network in 0..networks {
        for _ in 0..40 {
            let mut data = BytesMut::from(packet);
            let batch = Batch {
                stride: data.len(),
                data: &mut data,
                lent: &mut None,
                link: Link::Udp(SocketAddr::from(([10, network, 0, 9], 9))),
                local: None,
                ecn: Ecn::NotEct,
            };
            host.handle(now, Input::Datagrams(batch));
        }
    }
    net.poll(1);
    assert_eq!(net.nodes[1].address, address);
    let strays = net.nodes[1].events.drain(..).filter_map(|event| match event {
        Event::Stray(stray) => Some(stray),
        _ => None,
    });
    strays.filter(|stray| stray == packet).count()
}

// Nobody gets one packet looked at by all shards as often as he likes.
// spec: NEG-42, PRT-12
#[test]
fn strays_are_shown_to_other_shards_as_often_as_they_are_answered() {
    let reset = [0x5a; 48];
    assert_eq!(strays(1, &reset), 10);
    assert_eq!(strays(1, &reset[..21]), 10);
    assert_eq!(strays(2, &reset), 20);
    assert_eq!(strays(200, &reset), 32, "that many wait");
    assert_eq!(strays(1, &[0x5a; 49]), 0, "no reset is as long");
}

// spec: NEG-42
#[test]
fn questions_of_a_shard_bear_its_mark_where_the_answer_has_it() {
    for seed in 0..8 {
        let mut net = net(Config::default(), seed * 16);
        let address = net.nodes[0].address;
        for index in 0..COUNT {
            let there = usize::from(index) + 1;
            assert!(net.host(there).probe(address.into()));
            let asked = net.poll(there);
            let marks: Vec<u8> = asked
                .iter()
                .map(|(.., bytes)| Shard::of(bytes[ATTEMPT_AT + 7], COUNT))
                .collect();
            assert_eq!(marks, [index]);
        }
    }
}
