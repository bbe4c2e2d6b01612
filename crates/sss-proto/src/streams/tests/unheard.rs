//! A peer that acknowledges all but the ends of streams: what says RESET or STOP seems to be lost, each time.

use super::*;
use crate::config::StreamLimits;

/// Carries what a has to say to b, and what b says to a but for the ends of streams. These packets are returned.
fn run_without_ends(pair: &mut Pair) -> Vec<Packet> {
    let mut ends = Vec::new();
    loop {
        let from_a = pair.a.packet(ROOM);
        if let Some(packet) = &from_a {
            pair.b.take(packet).unwrap();
            pair.a.acked(packet);
        }
        let Some(packet) = pair.b.packet(ROOM) else {
            if from_a.is_none() {
                return ends;
            }
            continue;
        };
        let is_end = |frame: &Frame<'_>| matches!(frame, Frame::Reset(_) | Frame::Stop(_));
        let rest: Vec<_> = packet.frames().into_iter().filter(|frame| !is_end(frame)).collect();
        let has_end = rest.len() < packet.frames().len();
        pair.a.take_frames(&packet_of(&rest)).unwrap();
        if has_end {
            ends.push(packet);
        } else {
            pair.b.acked(&packet);
        }
    }
}

/// b wants nothing more of a stream, and lets go of it.
fn let_go(pair: &mut Pair, stream: (StreamKey, StreamKey)) {
    pair.b.stop(stream.1, Code::app(9), "enough");
    pair.b.release(stream.1);
}

// spec: STR-45, STR-46
#[test]
fn threat_31_streams_that_were_stopped_hold_no_budget_even_if_the_peer_never_says_that_it_knows() {
    let mut pair = Pair::new();
    let top = pair.stream();
    let streams: Vec<_> = (0..20).map(|_| pair.child(top)).collect();
    for _ in 0..8 {
        for (a, b) in &streams {
            let _ = pair.a.write(*a, &[7; 100_000]);
            let _ = pair.b.read_all(*b);
        }
        pair.run();
    }
    let before = pair.b.spent();
    assert!(before > 20 * STREAM_BORROW, "{before}");
    for stream in &streams {
        let_go(&mut pair, *stream);
    }
    let ends = run_without_ends(&mut pair);
    assert_eq!(pair.b.len(), 21, "nothing is forgotten, and all of it counts");
    assert!(pair.b.spent() < before / 20, "{} of {before}", pair.b.spent());
    // It is no less so when it goes on with what was granted before; and no more is granted.
    let at = |(_, b): &(StreamKey, StreamKey)| b.index;
    let limits = |pair: &Pair| -> u64 { streams.iter().map(|s| pair.b.life.tree.table[at(s)].recv.limit).sum() };
    let granted = limits(&pair);
    for (a, _) in &streams {
        while pair.a.write(*a, &[7; 100_000]).unwrap() > 0 {
            run_without_ends(&mut pair);
        }
    }
    assert_eq!(limits(&pair), granted);
    assert!(pair.b.spent() < before / 20, "{}", pair.b.spent());
    let unread = |node: &crate::streams::tree::node::Node| node.recv.unread();
    let slots = 1..pair.b.life.tree.table.slots();
    assert_eq!(
        slots
            .filter_map(|at| pair.b.life.tree.table.get(at))
            .map(unread)
            .sum::<u64>(),
        0
    );
    // What is said in the end counts.
    for packet in &ends {
        pair.b.lost(packet);
    }
    pair.run();
    assert_eq!(pair.b.len(), 1);
}

// spec: STR-58
#[test]
fn threat_31_streams_whose_ends_nobody_acknowledges_count_until_the_peer_does() {
    const KEPT: u64 = 200;
    let mut pair = Pair::new();
    let limits = StreamLimits {
        per_peer: KEPT,
        ..StreamLimits::default()
    };
    pair.b.set_limits(limits);
    let top = pair.stream();
    let mut ends = Vec::new();
    for _ in 0..2 * KEPT {
        let child = pair.a.open_substream(top.0).unwrap();
        pair.a.write_all(child, b"x");
        ends.extend(run_without_ends(&mut pair));
        if let Some(b) = pair.b.accept_substream(top.1).unwrap() {
            let_go(&mut pair, (child, b));
        }
        ends.extend(run_without_ends(&mut pair));
        assert!(pair.b.len() as u64 <= KEPT, "{}", pair.b.len());
    }
    assert_eq!(pair.b.len() as u64, KEPT);
    let each = pair.b.life.tree.table.memory() / pair.b.len();
    assert!(each <= 400, "{each} bytes for each");
    for packet in &ends {
        pair.b.lost(packet);
    }
    pair.run();
    assert_eq!(pair.b.len(), 1);
    pair.child(top);
}

// spec: STR-19
#[test]
fn threat_31_whoever_goes_on_with_what_was_stopped_has_what_was_granted_and_no_more() {
    let mut b = Pair::new().b;
    received!(b, [announce(1, top_level())]);
    let key = b.accept_any().unwrap();
    while b.packet(ROOM).is_some() {}
    let limit = b.life.tree.table[key.index].recv.limit;
    b.stop(key, Code::app(9), "enough");
    let mut offset = 0;
    let bytes = [7; 1000];
    while offset + 1000 <= limit {
        received!(b, [data(1, offset, &bytes)]);
        offset += 1000;
        if let Some(packet) = b.packet(ROOM) {
            assert!(!packet.frames().iter().any(|frame| matches!(frame, Frame::Credit(_))));
        }
    }
    received!(b, [data(1, offset, &bytes)] => Code::CREDIT_EXCEEDED);
}
