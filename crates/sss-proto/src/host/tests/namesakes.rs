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
    let greeting = net.host(SERVER).introduce(now, eid, RouteClass::Direct, &[]);
    let greeting = greeting.expect("it looks for the client");
    let host = net.host(NAMESAKE);
    let answer = host.answer_introduced(now, name, &greeting.hello, &[server.into()]);
    let cookie = answer.map(|(cookie, _)| cookie);
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
    let plain = Config::default;
    for (namesake, is_let_in, is_ending) in [
        (plain(), true, false),
        (forbidding(), false, false),
        (plain(), false, true),
    ] {
        let (mut net, there, here) = net(namesake);
        if is_ending {
            let now = net.now;
            net.host(NAMESAKE).shutdown(now);
        }
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

// spec: MIG-4
#[test]
fn a_process_that_the_initiator_of_the_tree_has_begun_meanwhile_does_not_end_it() {
    let (mut net, there, here) = net(Config::default());
    let (client, eid) = (net.nodes[CLIENT].address, net.eid(CLIENT));
    net.run(20 * SECOND, |p| !concerns(p, client));
    net.nodes[NAMESAKE].host = process(1, true);
    moves(&mut net, SERVER, eid, NAMESAKE);
    net.run(60 * SECOND, |p| !concerns(p, client));
    assert!(net.host(NAMESAKE).stats().channels_made > 0, "it was asked");
    written(net.host(SERVER).stream(here).poll_write(b"still here"));
    net.run(11 * SECOND, |_| true);
    read(&mut net, CLIENT, there, b"still here");
}

/// A process that has this key.
fn process(key: u8, offers_service: bool) -> Host {
    let mut host = Host::new(Config::default(), StaticKey::from_bytes([key; 32]), [9; 32]);
    if offers_service {
        host.listen(SERVICE.0, SERVICE.1).unwrap();
    }
    host
}

/// A client that has a stream to a server, something to say, and then a silence; it looks for the server at another
/// process of its identity, which is there from the beginning or since the silence.
fn silent(namesake: Host, is_new: bool) -> (Net, StreamId) {
    let mut net = Net::new(3);
    let mut namesake = Some(namesake);
    if !is_new {
        net.nodes[NAMESAKE].host = namesake.take().unwrap();
    }
    net.run(2 * SECOND, |_| true);
    let there = net.connect(CLIENT, SERVER);
    net.run(5 * SECOND, |_| true);
    if let Some(namesake) = namesake {
        net.nodes[NAMESAKE].host = namesake;
    }
    // The rest of the stream is sent in vain.
    written(net.host(CLIENT).stream(there).poll_write(b"y"));
    look_at(&mut net, NAMESAKE);
    (net, there)
}

/// The client is told that its server is there.
fn look_at(net: &mut Net, n: usize) {
    let (now, eid, lead) = (net.now, net.eid(SERVER), net.nodes[n].address);
    net.host(CLIENT).note_open(now, &eid, lead.into());
}

/// Returns how long it takes until the client's tree ends as that of a peer that was restarted, if the server it was
/// begun with is not heard.
fn time_until_lost(net: &mut Net) -> Duration {
    let (server, begun) = (SocketAddr::from(([10, 0, 0, 2], 4000)), net.now);
    while net.ends(CLIENT).is_empty() {
        net.run(SECOND / 10, |p| !concerns(p, server));
        assert!(net.now.since(begun) < 60 * SECOND);
    }
    assert_eq!(net.ends(CLIENT), [CloseReason::PeerRestarted]);
    net.now.since(begun)
}

/// Has the server back after a time, and sees that the stream goes on.
#[track_caller]
fn returns_after(mut net: Net, there: StreamId, time: Duration) {
    let server = net.nodes[SERVER].address;
    net.run(time, |p| !concerns(p, server));
    assert!(net.host(NAMESAKE).stats().channels_made > 0, "it was asked");
    assert_eq!(initiates(&net), 1, "once");
    net.run(11 * SECOND, |_| true);
    assert!(net.ends(CLIENT).is_empty(), "{:?}", net.ends(CLIENT));
    assert_eq!(net.host(CLIENT).stream(there).poll_flushed(2), Poll::Ready(Ok(())));
}

// spec: MIG-4
#[test]
fn who_began_a_tree_knows_at_once_that_its_peer_was_restarted_elsewhere() {
    let (mut net, _) = silent(process(2, true), true);
    let waited = time_until_lost(&mut net);
    assert!(waited < 2 * SECOND, "{waited:?}");
}

// spec: MIG-4
#[test]
fn a_process_that_was_there_beside_the_peer_does_not_end_the_tree() {
    let (net, there) = silent(process(2, true), false);
    returns_after(net, there, 90 * SECOND);
    // The client has moved, and has no channel left.
    let (mut net, there) = silent(process(2, true), false);
    let eid = net.eid(SERVER);
    moves(&mut net, CLIENT, eid, NAMESAKE);
    returns_after(net, there, 90 * SECOND);
    // The other process is met when the last channel has timed out.
    let (mut net, there) = silent(process(2, true), false);
    let [server, namesake] = [SERVER, NAMESAKE].map(|n| net.nodes[n].address);
    net.run(70 * SECOND, |p| !concerns(p, server) && !concerns(p, namesake));
    net.sent.clear();
    returns_after(net, there, 60 * SECOND);
}

// spec: MIG-4, MIG-30
#[test]
fn a_process_that_offers_no_service_has_not_taken_the_place_of_one_that_did() {
    let (net, there) = silent(process(2, false), true);
    returns_after(net, there, 90 * SECOND);
}

// spec: MIG-4
#[test]
fn the_process_that_had_the_tree_and_does_not_know_it_has_lost_it() {
    let (mut net, there) = silent(process(2, true), false);
    let (id, elsewhere) = (net.peer(SERVER, CLIENT), SocketAddr::from(([10, 0, 0, 9], 4000)));
    let server = net.host(SERVER);
    server.peers.get_mut(id).unwrap().fail(CloseReason::PeerRestarted);
    server.peers.settle(&mut server.local, id.index);
    net.nodes[SERVER].address = elsewhere;
    look_at(&mut net, SERVER);
    let namesake = net.nodes[NAMESAKE].address;
    net.run(2 * SECOND, |p| !concerns(p, namesake));
    assert_eq!(net.ends(CLIENT), [CloseReason::PeerRestarted]);
    assert!(net.host(CLIENT).stream(there).poll_flushed(2).is_ready());
}

// spec: MIG-4
#[test]
fn who_has_not_said_which_process_it_is_is_believed_to_be_restarted_after_a_while() {
    // The peer may be the one who answers.
    let (mut net, _) = silent(process(2, true), false);
    let id = net.peer(CLIENT, SERVER);
    net.host(CLIENT).peers.get_mut(id).unwrap().forget_process();
    let waited = time_until_lost(&mut net);
    assert!(waited > 30 * SECOND && waited < 35 * SECOND, "{waited:?}");
}

// spec: MIG-4
#[test]
fn a_refusal_elsewhere_is_believed_after_a_while_and_not_if_the_peer_answers_before() {
    let refusing = || Host::new(forbidding(), StaticKey::from_bytes([2; 32]), [9; 32]);
    let (mut net, _) = silent(refusing(), false);
    let waited = time_until_lost(&mut net);
    assert!(waited > 30 * SECOND && waited < 35 * SECOND, "{waited:?}");
    let (mut net, there) = silent(refusing(), false);
    let server = net.nodes[SERVER].address;
    net.run(25 * SECOND, |p| !concerns(p, server));
    net.run(30 * SECOND, |_| true);
    assert!(net.ends(CLIENT).is_empty(), "{:?}", net.ends(CLIENT));
    assert_eq!(net.host(CLIENT).stream(there).poll_flushed(2), Poll::Ready(Ok(())));
}

// spec: MIG-4
#[test]
fn nobody_has_taken_the_place_of_a_peer_that_is_there() {
    let (mut net, there) = silent(process(2, true), true);
    let (server, id) = (net.nodes[SERVER].address, net.peer(CLIENT, SERVER));
    // What is said is heard, and the new channel leads to the process that has just begun.
    let is_cookie = |p: &Packet| p.0 == server && p.2[0] == COOKIE;
    let host = net.host(CLIENT);
    host.peers.get_mut(id).unwrap().renew();
    host.peers.settle(&mut host.local, id.index);
    net.run(5 * SECOND, |p| !is_cookie(p));
    assert!(net.host(NAMESAKE).stats().channels_made > 0, "it was asked");
    net.run(40 * SECOND, |_| true);
    assert!(net.ends(CLIENT).is_empty(), "{:?}", net.ends(CLIENT));
    assert_eq!(net.host(CLIENT).stream(there).poll_flushed(2), Poll::Ready(Ok(())));
}

/// A client with a stream to a server, to which another process of the server's identity begins a tree of its own.
fn with_a_younger_tree() -> (Net, StreamId, StreamId) {
    let mut net = Net::new(3);
    net.nodes[NAMESAKE].host = process(SERVER as u8 + 1, true);
    let there = net.connect(CLIENT, SERVER);
    written(net.host(CLIENT).stream(there).poll_write(b"x"));
    net.run(SECOND, |_| true);
    let younger = net.connect(NAMESAKE, CLIENT);
    written(net.host(NAMESAKE).stream(younger).poll_write(b"y"));
    net.run(SECOND, |_| true);
    (net, there, younger)
}

/// Opens a stream to the server without knowing where that is.
fn open_anywhere(net: &mut Net) -> Result<StreamId, crate::host::ConnectError> {
    let (eid, now) = (net.eid(SERVER), net.now);
    net.host(CLIENT).connect(now, eid, SERVICE, &[])
}

// spec: NEG-20
#[test]
fn streams_are_opened_on_a_tree_of_this_host_again_when_a_younger_one_of_a_namesake_has_ended() {
    for knows_where in [true, false] {
        let (mut net, there, younger) = with_a_younger_tree();
        let on_younger = open_anywhere(&mut net).unwrap();
        assert_ne!(on_younger.peer, there.peer, "the newest");
        let now = net.now;
        net.host(NAMESAKE)
            .disconnect(now, younger.peer, sss_wire::Code::NONE, "");
        net.run(SECOND, |_| true);
        // Another tree, begun from the same address, would tell the server that this one was lost.
        let again = match knows_where {
            false => open_anywhere(&mut net).unwrap(),
            true => net.connect(CLIENT, SERVER),
        };
        for stream in [again, there] {
            written(net.host(CLIENT).stream(stream).poll_write(b"z"));
            net.run(SECOND, |_| true);
        }
        let now = net.now;
        let read = net.host(CLIENT).stream(there).poll_read(now, 1);
        assert!(read.is_pending(), "its streams live: {read:?}");
        assert_eq!(again.peer, there.peer, "the newest that is left");
    }
}
