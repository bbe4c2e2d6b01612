//! Hosts that begin channels with each other at the same time (NEG-18, NEG-21).

use super::*;

/// The host with the smaller EID, and the other.
fn by_eid(net: &Net) -> (usize, usize) {
    if net.eid(0) < net.eid(1) { (0, 1) } else { (1, 0) }
}

/// Sources of the packets of a kind that were sent.
fn senders(net: &Net, kind: u8) -> Vec<SocketAddr> {
    let of_kind = net.sent.iter().filter(|p| p.2[0] == kind);
    of_kind.map(|p| p.0).collect()
}

/// Words that a host's application was sent, stream by stream.
fn heard(net: &mut Net, n: usize) -> Vec<Vec<u8>> {
    let (now, mut words) = (net.now, Vec::new());
    while let Some((id, _)) = net.host(n).accept(crate::ids::ListenerId(0)) {
        if let Poll::Ready(Ok(ReadOutcome::Chunk(chunk))) = net.host(n).stream(id).poll_read(now, 100) {
            words.push(chunk.to_vec());
        }
    }
    words
}

/// Asserts that both have sent INITIATE, and that the host with the smaller EID has won.
fn assert_smaller_wins(net: &Net) {
    let (_, larger) = by_eid(net);
    assert_eq!(senders(net, HELLO).len(), 2, "nobody has begun again");
    assert_eq!(senders(net, INITIATE).len(), 2);
    // The other's answers come too late, and change nothing.
    assert!(senders(net, ACCEPT).contains(&net.nodes[larger].address));
    assert_eq!((net.ends(0), net.ends(1)), (vec![], vec![]));
}

// spec: NEG-18
#[test]
fn threat_36_of_two_that_open_at_once_the_smaller_eid_wins_and_early_data_arrives_once() {
    let mut net = Net::new(2);
    for n in 0..2 {
        let stream = net.connect(n, 1 - n);
        written(net.host(n).stream(stream).poll_write(&[u8::try_from(n).unwrap()]));
    }
    net.run(SECOND, |_| true);
    assert_smaller_wins(&net);
    for n in 0..2 {
        assert_eq!(net.host(n).stats().channels_made, 1);
        assert_eq!(heard(&mut net, n), [[u8::try_from(1 - n).unwrap()]]);
    }
}

// spec: NEG-18
#[test]
fn threat_36_of_two_that_renew_at_once_the_smaller_eid_wins() {
    let mut net = Net::new(2);
    let stream = net.connect(0, 1);
    written(net.host(0).stream(stream).poll_write(b"x"));
    net.run(SECOND, |_| true);
    net.sent.clear();
    for n in 0..2 {
        let id = net.peer(n, 1 - n);
        let host = net.host(n);
        host.peers.get_mut(id).unwrap().renew();
        host.peers.settle(&mut host.local, id.index);
    }
    net.run(SECOND, |_| true);
    assert_smaller_wins(&net);
    assert_eq!([0, 1].map(|n| net.nodes[n].host.stats().channels_made), [2, 2]);
}

/// The trees that two hosts share, as each sees it.
fn trees(net: &mut Net) -> [Option<crate::ids::TreeId>; 2] {
    [0, 1].map(|n| {
        let peer = net.peer(n, 1 - n);
        net.host(n).peers.get_mut(peer).unwrap().tree_id()
    })
}

/// Both connect with early data; packets for which `pass` says no are lost for a tenth of a second, in which a channel
/// is to be made all the same.
fn both_connect(pass: impl FnMut(&Net, &Packet) -> bool) -> Net {
    let mut pass = pass;
    let mut net = Net::new(2);
    for n in 0..2 {
        let stream = net.connect(n, 1 - n);
        written(net.host(n).stream(stream).poll_write(&[u8::try_from(n).unwrap()]));
    }
    let shape = Net::new(2);
    net.run(SECOND / 10, |packet| pass(&shape, packet));
    assert_eq!([0, 1].map(|n| net.nodes[n].host.stats().channels_made), [1, 1], "soon");
    net.run(5 * SECOND, |_| true);
    for n in 0..2 {
        assert_eq!(heard(&mut net, n), [[u8::try_from(1 - n).unwrap()]]);
        assert_eq!((net.ends(n), net.nodes[n].host.stats().channels_made), (vec![], 1));
        assert_eq!(net.host(n).peers().len(), 1);
    }
    let trees = trees(&mut net);
    assert!(trees[0].is_some() && trees[0] == trees[1]);
    net
}

// spec: NEG-18, NEG-40
#[test]
fn whichever_initiate_is_lost_one_channel_is_made_at_once() {
    for loser in 0..2 {
        both_connect(|net, packet| packet.0 != net.nodes[loser].address || packet.2[0] != INITIATE);
    }
}

// spec: NEG-18, NEG-40
#[test]
fn whichever_accept_is_lost_early_data_arrives_once() {
    // Of the host with the larger EID, which has decided: its answer is repeated as INITIATE is.
    for lost in 0..2 {
        let mut left = 1;
        both_connect(|net, packet| {
            let is_it = packet.0 == net.nodes[lost].address && packet.2[0] == ACCEPT;
            let is_lost = is_it && left > 0;
            left -= u32::from(is_lost);
            !is_lost
        });
    }
}

// spec: NEG-40, MIG-2
#[test]
fn a_host_whose_choice_was_not_heard_asks_for_its_tree_and_finds_it() {
    let hasty = || Config::default().with(|c| c.idle_timeout = 2 * SECOND);
    let mut net = Net::with([hasty(), hasty()]);
    let (smaller, larger) = by_eid(&net);
    for n in 0..2 {
        let stream = net.connect(n, 1 - n);
        written(net.host(n).stream(stream).poll_write(&[u8::try_from(n).unwrap()]));
    }
    // The larger one's attempt is accepted; then nothing of it is heard until it has given its channel up.
    let (from_smaller, from_larger) = (net.nodes[smaller].address, net.nodes[larger].address);
    let mut has_accepted = false;
    net.run(5 * SECOND, |packet| {
        has_accepted |= packet.0 == from_smaller && packet.2[0] == ACCEPT;
        let is_initiate = packet.0 == from_smaller && packet.2[0] == INITIATE;
        !(is_initiate || has_accepted && packet.0 == from_larger)
    });
    assert_eq!(
        [smaller, larger].map(|n| net.nodes[n].host.stats().channels_made),
        [0, 1]
    );
    net.run(5 * SECOND, |_| true);
    for n in 0..2 {
        assert_eq!(net.ends(n), vec![]);
        assert_eq!(heard(&mut net, n), [[u8::try_from(1 - n).unwrap()]]);
    }
    let trees = trees(&mut net);
    assert!(trees[0].is_some() && trees[0] == trees[1]);
}

// spec: NEG-25, NEG-26
#[test]
fn an_attempt_that_was_accepted_unheard_leaves_its_tree_to_the_next_of_its_row() {
    let mut net = Net::new(2);
    for n in 0..2 {
        let stream = net.connect(n, 1 - n);
        written(net.host(n).stream(stream).poll_write(&[u8::try_from(n).unwrap()]));
    }
    // The INITIATEs of 0's first attempt are lost, and so is ACCEPT for the second, with all that 1 sends behind it:
    // among it what its application has written.
    let (caller, callee) = (net.nodes[0].address, net.nodes[1].address);
    let attempt = |packet: &Packet| packet.2[5..13].to_vec();
    let mut attempts: Vec<Vec<u8>> = Vec::new();
    net.run(10 * SECOND, |packet| {
        let kind = packet.2[0];
        if packet.0 == caller && kind == INITIATE && !attempts.contains(&attempt(packet)) {
            attempts.push(attempt(packet));
        }
        let is_heard = attempts.len() > 2 || [0x84, 0x85].contains(&kind);
        if packet.0 == callee {
            is_heard
        } else {
            kind != INITIATE || attempts.len() > 1
        }
    });
    assert_eq!(attempts.len(), 3);
    assert_eq!([0, 1].map(|n| net.nodes[n].host.stats().channels_made), [1, 2]);
    for n in 0..2 {
        assert_eq!(net.ends(n), vec![]);
        assert_eq!(heard(&mut net, n), [[u8::try_from(1 - n).unwrap()]]);
    }
    let trees = trees(&mut net);
    assert!(trees[0].is_some() && trees[0] == trees[1]);
}

// spec: NEG-25, NEG-26
#[test]
fn an_attempt_from_another_address_is_known_to_be_void_as_well() {
    let mut net = Net::new(2);
    let stream = net.connect(0, 1);
    written(net.host(0).stream(stream).poll_write(b"early"));
    // INITIATE of the first attempt is lost, and the router of 0 has another address for it when the next begins.
    let caller = net.nodes[0].address;
    net.run(2 * SECOND, |packet| packet.2[0] != INITIATE);
    assert!(senders(&net, INITIATE).contains(&caller));
    net.nodes[0].address.set_port(caller.port() + 100);
    net.run(10 * SECOND, |packet| packet.2[0] != INITIATE || packet.0 != caller);
    assert_eq!((net.ends(0), net.ends(1)), (vec![], vec![]));
    assert_eq!(heard(&mut net, 1), [b"early"]);
    assert_eq!(net.host(1).stats().channels_made, 1);
}

/// The host `of` connects with early data, and hears nothing of ACCEPT nor of the end that the other has made at once.
/// Then the other connects.
fn ended_unheard(of: usize) -> Net {
    let mut net = Net::new(2);
    let stream = net.connect(of, 1 - of);
    written(net.host(of).stream(stream).poll_write(b"early"));
    let there = net.nodes[of].address;
    let mut initiates = 0;
    while initiates == 0 {
        net.run(SECOND / 100, |p| {
            initiates += usize::from(p.2[0] == INITIATE);
            p.1 != there || p.2[0] != ACCEPT
        });
    }
    assert_eq!(heard(&mut net, 1 - of), [b"early"]);
    let (now, id) = (net.now, net.peer(1 - of, of));
    net.host(1 - of).disconnect(now, id, sss_wire::Code::NONE, "");
    net.run(SECOND / 100, |p| p.1 != there);
    let back = net.connect(1 - of, of);
    written(net.host(1 - of).stream(back).poll_write(b"back"));
    // What the first repeats is lost: it hears of the end by INITIATE alone.
    net.run(SECOND / 10, |p| p.0 != there || p.2[0] != INITIATE);
    net.run(5 * SECOND, |_| true);
    net
}

// spec: NEG-21
#[test]
fn early_data_of_an_attempt_that_was_accepted_and_ended_is_not_sent_again() {
    for of in 0..2 {
        let mut net = ended_unheard(of);
        assert_eq!(heard(&mut net, 1 - of), Vec::<Vec<u8>>::new(), "{of}");
        assert_eq!(heard(&mut net, of), [b"back"], "{of}");
        let error = crate::error::NegotiationError::EndedUnheard;
        assert_eq!(net.ends(of), [CloseReason::Negotiation(error)], "{of}");
        assert_eq!(senders(&net, ACCEPT).last(), Some(&net.nodes[of].address));
    }
}
