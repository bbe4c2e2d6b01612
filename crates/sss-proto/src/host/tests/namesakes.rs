//! Two processes of one identity, of which one is asked for the tree of the other (MIG-4).

use std::sync::Arc;

use super::threats::open_channels;
use super::*;
use crate::ids::ListenerId;
use crate::route::RouteClass;

const CLIENT: usize = 0;
const SERVER: usize = 1;
const NAMESAKE: usize = 2;

/// A client that has a stream to a server, and another process of the client's identity with settings of its own.
fn net(namesake: Config) -> (Net, StreamId, StreamId) {
    let mut net = Net::with([Config::default(), Config::default(), namesake.clone()]);
    let key = StaticKey::from_bytes([1; 32]);
    net.nodes[NAMESAKE].host = Host::new(namesake, key, [9; 32]);
    let there = net.connect(CLIENT, SERVER);
    written(net.host(CLIENT).stream(there).poll_write(b"x"));
    net.run(SECOND, |_| true);
    let (here, _) = net.host(SERVER).accept(ListenerId(0)).unwrap();
    read(&mut net, SERVER, here, b"x");
    (net, there, here)
}

#[track_caller]
fn read(net: &mut Net, n: usize, stream: StreamId, expected: &'static [u8]) {
    let now = net.now;
    let got = net.host(n).stream(stream).poll_read(now, 100);
    let chunk = ReadOutcome::Chunk(bytes::Bytes::from_static(expected));
    assert_eq!(got, Poll::Ready(Ok(chunk)));
}

/// A host moves, and its peer's identity is said to be at `lead` as well.
fn moves(net: &mut Net, n: usize, peer: Eid, lead: usize) {
    let (now, lead) = (net.now, net.nodes[lead].address);
    net.nodes[n].address = SocketAddr::from(([10, 0, 9, 1], 5000));
    net.host(n).network_changed(now, |_, _| true);
    net.host(n).note_open(now, &peer, lead.into());
}

/// Returns whether a packet goes to or from a host at an address.
fn concerns(packet: &Packet, address: SocketAddr) -> bool {
    packet.0 == address || packet.1 == address
}

/// The server is introduced to the namesake, which answers.
fn introduce(net: &mut Net, eid: &Eid) {
    let (now, name) = (net.now, [7; 8]);
    let [server, namesake] = [SERVER, NAMESAKE].map(|n| net.nodes[n].address);
    let greeting = net.host(SERVER).introduce(now, eid, RouteClass::Direct);
    let greeting = greeting.expect("it looks for the client");
    let host = net.host(NAMESAKE);
    let cookie = host.answer_introduced(now, name, &greeting.hello, &[server.into()]);
    let leg = host.answer_introduced_leg(now, &name, &greeting.key.expect("the leg is required by default"));
    for answer in [cookie, leg] {
        net.deliver(&(namesake, server, answer.unwrap()));
    }
}

/// INITIATEs to the namesake, each counted once.
fn initiates(net: &Net) -> usize {
    let there = net.nodes[NAMESAKE].address;
    let packets = net.sent.iter().filter(|p| p.1 == there && p.2[0] == INITIATE);
    packets.map(|p| &p.2).collect::<std::collections::BTreeSet<_>>().len()
}

/// HELLOs to the namesake after the last INITIATE.
fn greetings_after(net: &Net) -> usize {
    let there = net.nodes[NAMESAKE].address;
    let packets = net.sent.iter().rev().filter(|p| p.1 == there);
    packets
        .take_while(|p| p.2[0] != INITIATE)
        .filter(|p| p.2[0] == HELLO)
        .count()
}

fn forbidding() -> Config {
    Config {
        accept_filter: Some(Arc::new(|_, _| false)),
        ..Config::default()
    }
}

// spec: MIG-4
#[test]
fn a_namesake_that_does_not_know_the_tree_does_not_end_it() {
    for (namesake, is_let_in) in [(Config::default(), true), (forbidding(), false)] {
        let (mut net, there, here) = net(namesake);
        let (client, eid) = (net.nodes[CLIENT].address, net.eid(CLIENT));
        moves(&mut net, SERVER, eid, NAMESAKE);
        // The namesake answers at once, and the client cannot for a while that is longer than anybody else is believed.
        net.run(25 * SECOND, |p| !concerns(p, client));
        assert_eq!(net.host(NAMESAKE).stats().channels_made > 0, is_let_in);
        // It was asked once, and is let alone; also when it is introduced again.
        assert_eq!((initiates(&net), greetings_after(&net)), (1, 0));
        introduce(&mut net, &eid);
        net.run(25 * SECOND, |p| !concerns(p, client));
        assert_eq!(initiates(&net), 1);
        assert!(
            net.ends(SERVER).is_empty() && net.ends(CLIENT).is_empty(),
            "{:?}",
            net.ends(SERVER)
        );
        assert_eq!(net.ends(NAMESAKE).len(), usize::from(is_let_in));
        written(net.host(SERVER).stream(here).poll_write(b"still here"));
        net.run(11 * SECOND, |_| true);
        read(&mut net, CLIENT, there, b"still here");
        assert!(net.ends(SERVER).is_empty() && net.ends(CLIENT).is_empty());
        assert_eq!(open_channels(&net, SERVER), 1);
    }
}

/// Makes a server that was restarted somewhere else out of the namesake of one that is gone.
fn restarted_elsewhere() -> (Net, StreamId) {
    let (mut net, there, _) = net(Config::default());
    let mut host = Host::new(Config::default(), StaticKey::from_bytes([2; 32]), [9; 32]);
    host.listen(SERVICE.0, SERVICE.1).unwrap();
    net.nodes[NAMESAKE].host = host;
    let (now, eid, lead) = (net.now, net.eid(SERVER), net.nodes[NAMESAKE].address);
    written(net.host(CLIENT).stream(there).poll_write(b"y"));
    net.host(CLIENT).note_open(now, &eid, lead.into());
    (net, there)
}

// spec: MIG-4
#[test]
fn who_began_a_tree_believes_after_a_while_that_its_peer_was_restarted_elsewhere() {
    let (mut net, _) = restarted_elsewhere();
    let server = net.nodes[SERVER].address;
    let begun = net.now;
    while net.ends(CLIENT).is_empty() {
        net.run(SECOND / 10, |p| !concerns(p, server));
        assert!(net.now.since(begun) < 60 * SECOND);
    }
    assert_eq!(net.ends(CLIENT), [CloseReason::PeerRestarted]);
    let waited = net.now.since(begun);
    assert!(waited > 30 * SECOND && waited < 35 * SECOND, "{waited:?}");
}

// spec: MIG-4
#[test]
fn a_peer_that_answers_in_time_was_not_restarted_elsewhere() {
    let (mut net, there) = restarted_elsewhere();
    let server = net.nodes[SERVER].address;
    net.run(25 * SECOND, |p| !concerns(p, server));
    assert!(net.host(NAMESAKE).stats().channels_made > 0, "it was asked");
    net.run(30 * SECOND, |_| true);
    assert!(net.ends(CLIENT).is_empty(), "{:?}", net.ends(CLIENT));
    assert_eq!(net.host(CLIENT).stream(there).poll_flushed(2), Poll::Ready(Ok(())));
}
