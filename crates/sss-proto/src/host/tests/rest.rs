//! Peers of which nothing was heard for a while: nothing of their streams is lost by what they give back.

use bytes::Bytes;
use sss_wire::Code;

use super::*;
use crate::ids::ListenerId;
use crate::peer::Peer;

/// Two hosts, of which the first has a stream to the second, and the second's end of it.
fn pair() -> (Net, StreamId, StreamId) {
    let mut net = Net::new(2);
    let first = net.connect(0, 1);
    let second = speak(&mut net, (0, first), 1);
    (net, first, second)
}

/// Long enough for channels that were used lately, too.
fn rest(net: &mut Net) {
    net.run(2 * SECOND, |_| true);
    for n in 0..2 {
        let id = net.peer(n, 1 - n);
        assert!(net.host(n).peers.get_mut(id).unwrap().rests());
    }
}

/// Reads what comes next on a stream.
fn heard(net: &mut Net, n: usize, stream: StreamId) -> Bytes {
    let now = net.now;
    match net.host(n).stream(stream).poll_read(now, 100) {
        Poll::Ready(Ok(ReadOutcome::Chunk(bytes))) => bytes,
        other => panic!("{other:?}"),
    }
}

/// Writes on a new stream, which the other host accepts.
fn speak(net: &mut Net, (from, stream): (usize, StreamId), to: usize) -> StreamId {
    written(net.host(from).stream(stream).poll_write(b"a new one"));
    net.run(SECOND / 10, |_| true);
    let (accepted, _) = net.host(to).accept(ListenerId(0)).expect("a stream");
    assert_eq!(&heard(net, to, accepted)[..], b"a new one");
    accepted
}

/// Both ends say something.
fn converse(net: &mut Net, ends: [StreamId; 2]) {
    for (n, end) in ends.into_iter().enumerate() {
        written(net.host(n).stream(end).poll_write(b"and on"));
    }
    net.run(SECOND / 10, |_| true);
    for (n, end) in ends.into_iter().enumerate() {
        assert_eq!(&heard(net, n, end)[..], b"and on");
    }
}

#[test]
fn a_peer_is_small() {
    // Beside this: its channels, the nodes of its streams, and what only some peers ever need.
    assert!(size_of::<Peer>() <= 1304, "{}", size_of::<Peer>());
}

#[test]
fn streams_go_on_and_new_ones_begin_after_a_rest() {
    let (mut net, first, second) = pair();
    for _ in 0..3 {
        rest(&mut net);
        converse(&mut net, [first, second]);
        // Others come and go beside it, from both sides and below it.
        rest(&mut net);
        for from in 0..2 {
            let opened = net.connect(from, 1 - from);
            let accepted = speak(&mut net, (from, opened), 1 - from);
            net.host(from).stream(opened).release();
            net.host(1 - from).stream(accepted).release();
        }
        let below = net.host(1).stream(second).open_substream().unwrap();
        written(net.host(1).stream(below).poll_write(b"below"));
        rest(&mut net);
        let Poll::Ready(Ok(Some(accepted))) = net.host(0).stream(first).poll_accept_substream() else {
            panic!("it is there");
        };
        assert_eq!(&heard(&mut net, 0, accepted)[..], b"below");
        net.host(0).stream(accepted).release();
        net.host(1).stream(below).release();
    }
    assert_eq!((net.ends(0), net.ends(1)), (vec![], vec![]));
}

#[test]
fn a_tree_without_streams_rests_and_has_some_again() {
    let (mut net, mut first, mut second) = pair();
    for round in 0..4 {
        net.host(0).stream(first).release();
        net.host(1).stream(second).release();
        rest(&mut net);
        for n in 0..2 {
            let id = net.peer(n, 1 - n);
            assert_eq!(net.host(n).stream_count(id), 0);
        }
        let from = round % 2;
        let opened = net.connect(from, 1 - from);
        let accepted = speak(&mut net, (from, opened), 1 - from);
        (first, second) = if from == 0 {
            (opened, accepted)
        } else {
            (accepted, opened)
        };
        // Names of streams that are gone mean nothing.
        converse(&mut net, [first, second]);
    }
    assert_eq!(net.host(1).stats().channels_made, 1);
    assert_eq!((net.ends(0), net.ends(1)), (vec![], vec![]));
}

// spec: STR-47
#[test]
fn questions_stay_open_through_rests_and_on_other_channels() {
    for renews in [false, true] {
        let (mut net, first, second) = pair();
        for _ in 0..3 {
            let below = net.host(0).stream(first).open_substream().unwrap();
            net.run(SECOND / 10, |_| true);
            let Poll::Ready(Ok(Some(theirs))) = net.host(1).stream(second).poll_accept_substream() else {
                panic!("it is there");
            };
            // One wants to know whether all is read, the other whether more will come.
            written(net.host(0).stream(below).poll_write(b"read it"));
            net.host(0).stream(below).finish().unwrap();
            assert!(net.host(0).stream(below).poll_consumed().is_pending());
            assert!(net.host(1).stream(theirs).poll_accept_substream().is_pending());
            rest(&mut net);
            if renews {
                net.renew();
                rest(&mut net);
            }
            assert_eq!(&heard(&mut net, 1, theirs)[..], b"read it");
            let now = net.now;
            let end = net.host(1).stream(theirs).poll_read(now, 100);
            assert_eq!(end, Poll::Ready(Ok(ReadOutcome::End)));
            net.run(SECOND / 10, |_| true);
            assert_eq!(net.host(0).stream(below).poll_consumed(), Poll::Ready(Ok(())));
            rest(&mut net);
            net.host(0).stream(below).release();
            net.run(SECOND / 10, |_| true);
            let more = net.host(1).stream(theirs).poll_accept_substream();
            assert_eq!(more, Poll::Ready(Ok(None)), "it waited through a rest");
            net.host(1).stream(theirs).release();
            rest(&mut net);
        }
        assert_eq!((net.ends(0), net.ends(1)), (vec![], vec![]));
    }
}

#[test]
fn the_id_of_a_stream_that_is_gone_names_no_other_after_a_rest() {
    let (mut net, first, second) = pair();
    let mut gone = Vec::new();
    for _ in 0..6 {
        let opened = net.connect(0, 1);
        let accepted = speak(&mut net, (0, opened), 1);
        let now = net.now;
        for (n, id) in gone.iter().copied() {
            let host = net.host(n);
            assert!(matches!(host.stream(id).poll_write(b"lost"), Poll::Ready(Err(_))));
            assert!(matches!(host.stream(id).poll_read(now, 100), Poll::Ready(Err(_))));
            host.stream(id).release();
        }
        converse(&mut net, [opened, accepted]);
        converse(&mut net, [first, second]);
        net.host(0).stream(opened).release();
        net.host(1).stream(accepted).release();
        gone.extend([(0, opened), (1, accepted)]);
        rest(&mut net);
    }
}

// spec: MIG-5
#[test]
fn a_tree_moves_to_another_channel_after_a_rest() {
    let (mut net, first, second) = pair();
    rest(&mut net);
    net.renew();
    net.run(SECOND, |_| true);
    assert_eq!(net.host(1).stats().channels_made, 2);
    converse(&mut net, [first, second]);
    rest(&mut net);
    // The first host is elsewhere.
    net.nodes[0].address = SocketAddr::from(([10, 0, 9, 9], 4000));
    let now = net.now;
    net.host(0).network_changed(now, |_, _| true);
    net.run(SECOND, |_| true);
    assert_eq!(net.host(1).stats().channels_made, 3);
    converse(&mut net, [first, second]);
    assert_eq!((net.ends(0), net.ends(1)), (vec![], vec![]));
}

#[test]
fn a_tree_ends_while_it_rests() {
    let (mut net, first, second) = pair();
    written(net.host(1).stream(second).poll_write(b"before"));
    rest(&mut net);
    let (now, id) = (net.now, net.peer(1, 0));
    net.host(1).disconnect(now, id, Code::app(7), "done");
    net.run(SECOND / 10, |_| true);
    assert!(
        matches!(&net.ends(0)[..], [CloseReason::Peer { .. }]),
        "{:?}",
        net.ends(0)
    );
    assert_eq!(&heard(&mut net, 0, first)[..], b"before", "what had come is there");
}

// spec: PRT-8
#[test]
fn keys_are_replaced_after_a_rest() {
    let (mut net, first, second) = pair();
    rest(&mut net);
    for n in 0..2 {
        let id = net.peer(n, 1 - n);
        net.host(n).peers.get_mut(id).unwrap().wear_keys();
    }
    for _ in 0..4 {
        converse(&mut net, [first, second]);
        rest(&mut net);
    }
    let id = net.peer(0, 1);
    let generation = net.host(0).channel_info(id).unwrap().key_generation;
    assert!(generation > 3, "{generation}");
    assert_eq!((net.ends(0), net.ends(1)), (vec![], vec![]));
}

// Threat 15: who has seen packets of a channel sends what is like them.
// spec: OVR-2
#[test]
fn threat_15_forged_packets_do_not_end_the_rest_of_a_channel() {
    let (mut net, first, second) = pair();
    rest(&mut net);
    let id = net.peer(1, 0);
    let seen: Vec<_> = net
        .sent
        .iter()
        .filter(|p| p.1 == net.nodes[1].address)
        .cloned()
        .collect();
    let before = net.host(1).stats();
    let mut forged = 0;
    for packet in seen.iter().filter(|p| p.2[0] < 0x80) {
        for at in [0, packet.2.len() - 1] {
            let mut packet = packet.clone();
            packet.2[at] ^= 4;
            net.deliver(&packet);
            forged += 1;
        }
        net.deliver(packet);
    }
    assert!(forged > 4);
    assert!(net.host(1).peers.get_mut(id).unwrap().rests());
    let after = net.host(1).stats();
    let dropped = |reason| after.dropped(reason) - before.dropped(reason);
    assert_eq!(dropped(DropReason::Unauthentic), forged);
    assert_eq!(dropped(DropReason::Duplicate), forged / 2);
    converse(&mut net, [first, second]);
}

// spec: PRT-13
#[test]
fn a_channel_that_rests_ends_by_a_reset() {
    let (mut net, _, _) = pair();
    rest(&mut net);
    let (id, token) = (net.peer(0, 1), [9; 16]);
    net.host(0).peers.get_mut(id).unwrap().set_reset_token(token);
    let host = net.host(0);
    host.peers.settle(&mut host.local, id.index);
    let mut reset = vec![0x41; 48];
    reset[32..].copy_from_slice(&token);
    let (from, to) = (net.nodes[1].address, net.nodes[0].address);
    net.deliver(&(from, to, reset));
    assert_eq!(net.host(0).peers.get_mut(id).unwrap().open_channels(), 0);
}
