//! Credit and openings: both sides count alike, nobody goes beyond, and nobody waits for another's reader.

use super::*;
use crate::error::ReadError;
use crate::refusal::Refusal;
use crate::streams::DatagramOptions;
use crate::streams::frames::delivery::Item;
use crate::testing::compare;
use sss_wire::constants::{OPEN_COST, OPEN_ROOM, STREAM_BORROW, STREAM_WINDOW};
use sss_wire::frame::{Await, OpenCredit};

/// Sends all that a may send; returns bytes of data.
fn send_all(pair: &mut Pair) -> u64 {
    let mut sent = 0;
    while let Some(packet) = pair.a.packet(ROOM) {
        sent += packet.streams().iter().map(|f| f.data.len() as u64).sum::<u64>();
        pair.b.take(&packet).unwrap();
        pair.a.acked(&packet);
    }
    sent
}

/// Writes until nothing more is taken, and carries it over; the peer reads nothing.
fn fill(pair: &mut Pair, key: StreamKey) {
    loop {
        while pair.a.write(key, &[0; 64 << 10]).unwrap() > 0 {}
        if !pair.step() {
            return;
        }
    }
}

// spec: STR-17, STR-54
#[test]
fn a_new_stream_may_send_what_it_borrows() {
    let mut pair = Pair::new();
    let a = pair.a.open_top_level("svc", "v1").unwrap();
    pair.a.write_all(a, &[0; 200_000]);
    assert_eq!(send_all(&mut pair), STREAM_BORROW);
    assert!(!pair.a.wants());
    let lsid = pair.a.lsid_of(a);
    pair.a.on_credit(lsid, STREAM_BORROW - 1).unwrap();
    assert!(!pair.a.wants(), "a lower limit is ignored");
    pair.a.on_credit(lsid, STREAM_BORROW + 1000).unwrap();
    pair.b.life.tree.table[1].recv.limit += 1000;
    assert_eq!(send_all(&mut pair), 1000);
    assert_eq!(
        pair.a.lent(0),
        OPEN_COST + STREAM_BORROW,
        "what is beyond is not borrowed"
    );
}

// spec: STR-54
#[test]
fn a_finished_stream_borrows_no_more_than_it_has() {
    let mut pair = Pair::new();
    let a = pair.a.open_top_level("svc", "v1").unwrap();
    pair.a.write_all(a, &[0; 100]);
    pair.a.finish(a).unwrap();
    let init = Some(Init::top_level(b"svc", b"v1").with_credit(0, 100, STREAM_BORROW));
    sent!(
        pair.a,
        [Stream {
            lsid: 1,
            init,
            data: &[0; 100],
            fin: true,
            ..STREAM
        }]
    );
    assert_eq!(pair.a.lent(0), OPEN_COST + 100);
}

// spec: STR-53
#[test]
fn an_unaccepted_parents_children_are_charged_further_up() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let child = pair.a.open_substream(a).unwrap();
    let leaf = pair.a.open_substream(child).unwrap();
    pair.a.write_all(leaf, &[0; 1000]);
    pair.a.finish(leaf).unwrap();
    send_all(&mut pair);
    // The stream was accepted, and the peer has said so: its account bears the child, and what is below that.
    assert_eq!(pair.a.lent(a.index), pair.b.backing(1).0);
    println!("{:?}", (pair.a.lent(0), pair.a.lent(a.index)));
    assert!(pair.a.lent(a.index) >= 2 * OPEN_COST + 1000);
    assert_eq!(pair.a.lent(child.index), 0);
    let child_b = pair.b.accept_substream(b).unwrap().unwrap();
    let leaf_b = pair.b.accept_substream(child_b).unwrap().unwrap();
    let (charge, consumed, _) = pair.b.backing(1);
    assert_eq!(charge, consumed);
    assert_eq!(pair.b.read_all(leaf_b).0.len(), 1000);
}

// spec: STR-53
#[test]
fn a_lender_that_was_not_accepted_closes_the_channel() {
    let mut b = Pair::new().b;
    received!(b, [stream_frame(1, top_level(), 0, b"", false)]);
    let code = |r: Result<(), ProtocolError>| r.unwrap_err().code;
    let child = |levels| Some(Init::substream(1).with_credit(levels, 0, 0));
    assert_eq!(
        code(b.forged(&stream_frame(3, child(0), 0, b"", false))),
        Code::STREAM_STATE
    );
    let mut b = Pair::new().b;
    received!(b, [stream_frame(1, top_level(), 0, b"", false)]);
    assert_eq!(
        code(b.forged(&stream_frame(3, child(2), 0, b"", false))),
        Code::STREAM_STATE
    );
}

// spec: STR-52
#[test]
fn a_child_is_heard_while_its_parent_is_unread_and_full() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let (early, early_b) = pair.child((a, b));
    fill(&mut pair, a);
    assert!(pair.a.info(a).unwrap().unsent > 0);
    let late = pair.a.open_substream(a).unwrap();
    for key in [early, late] {
        pair.a.write_all(key, &[1; STREAM_WINDOW as usize]);
    }
    let datagram = DatagramOptions::default();
    pair.a
        .send_datagram(Instant::default(), a, &Bytes::from(vec![2; 1024]), &datagram)
        .unwrap();
    pair.run();
    assert_eq!(pair.b.read_all(early_b).0.len(), STREAM_WINDOW as usize);
    let late_b = pair.b.accept_substream(b).unwrap().unwrap();
    assert_eq!(pair.b.read_all(late_b).0.len(), STREAM_WINDOW as usize);
    assert_eq!(
        pair.b.recv_datagram(Instant::default(), b).unwrap().unwrap().len(),
        1024
    );
}

// spec: STR-52
#[test]
fn a_child_is_heard_while_a_thousand_siblings_are_unread_and_full() {
    for budget in [u64::MAX, 0] {
        let mut pair = Pair::new();
        pair.b.limit_budget(budget);
        let (a, b) = pair.stream();
        for _ in 0..1000 {
            let (sibling, _) = pair.child((a, b));
            while pair.a.write(sibling, &[0; 64 << 10]).unwrap() > 0 {}
            pair.run();
        }
        let (late, late_b) = pair.child((a, b));
        pair.a.write_all(late, &[1; STREAM_WINDOW as usize]);
        pair.run();
        assert_eq!(pair.b.read_all(late_b).0.len(), STREAM_WINDOW as usize, "{budget}");
    }
}

// spec: STR-54
#[test]
fn streams_that_are_accepted_and_not_read_never_use_up_the_room_for_others() {
    let mut pair = Pair::new();
    for _ in 0..3000 {
        let key = pair.a.open_top_level("svc", "v1").unwrap();
        pair.a.write_all(key, &[0; 9000]);
    }
    let mut held = 0;
    while held < 3000 {
        pair.run();
        let more = std::iter::from_fn(|| pair.b.accept_any()).count();
        assert!(more > 0, "stuck after {held}: {:?}", pair.b.backing(0));
        held += more;
    }
    pair.run();
    let other = pair.a.open_top_level("other", "v1").unwrap();
    pair.a.write_all(other, &[1; STREAM_WINDOW as usize]);
    pair.run();
    let other = pair.b.accept_any().expect("another service is heard");
    assert_eq!(pair.b.read_all(other).0.len(), STREAM_WINDOW as usize);
}

// spec: STR-52, STR-59
#[test]
fn datagrams_that_nobody_takes_stop_none_on_another_stream() {
    let mut pair = Pair::new();
    let reliable = DatagramOptions {
        reliable: true,
        ..DatagramOptions::default()
    };
    let now = Instant::default();
    let blocked: Vec<_> = (0..20).map(|_| pair.stream()).collect();
    for _ in 0..10 {
        for (a, _) in &blocked {
            let bytes = Bytes::from(vec![0; 40_000]);
            let _ = pair.a.send_datagram(now, *a, &bytes, &reliable).unwrap();
        }
        pair.run();
    }
    let (a, b) = pair.stream();
    for size in [600, 20_000] {
        pair.a
            .send_datagram(now, a, &Bytes::from(vec![1; size]), &reliable)
            .unwrap();
        pair.run();
        let taken = pair.b.poll_recv_datagram(now, b);
        assert!(
            matches!(&taken, std::task::Poll::Ready(Ok(Some(bytes))) if bytes.len() == size),
            "{size}: {taken:?}"
        );
        pair.run();
    }
}

// spec: STR-52
#[test]
fn another_service_and_another_parent_are_heard_while_3000_streams_are_not_accepted() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let (other_a, other_b) = pair.stream();
    for _ in 0..3000 {
        let key = pair.a.open_top_level("deaf", "v1").unwrap();
        pair.a.write_all(key, &[0; 2000]);
        let key = pair.a.open_substream(other_a).unwrap();
        pair.a.write_all(key, &[0; 2000]);
    }
    pair.run();
    let (charge, consumed, limit) = pair.b.backing(0);
    let (free, waiting) = (limit - charge, charge - consumed);
    // Two acceptors: one half of all, and one half of what that left.
    assert!(free + 2 * (OPEN_COST + 2000) >= waiting / 3, "{free} {waiting}");
    for round in 0..20 {
        let service = pair.a.open_top_level("other", "v1").unwrap();
        let child = pair.a.open_substream(a).unwrap();
        for key in [service, child] {
            pair.a.write_all(key, &[0; STREAM_WINDOW as usize]);
            pair.a.finish(key).unwrap();
        }
        pair.run();
        let mut taken = std::iter::from_fn(|| pair.b.take_incoming());
        let service_b = taken
            .find(|i| i.service == b"other")
            .expect("another service is heard")
            .key;
        assert!(pair.b.accept_top_level(service_b));
        let child_b = pair
            .b
            .accept_substream(b)
            .unwrap()
            .expect("a child of another stream is heard");
        for key in [service_b, child_b] {
            let (bytes, end) = pair.b.read_all(key);
            assert_eq!(
                (bytes.len(), end),
                (STREAM_WINDOW as usize, Poll::Ready(Ok(ReadOutcome::End))),
                "{round}"
            );
        }
    }
    let _ = other_b;
}

// spec: STR-52
#[test]
fn a_stream_is_heard_while_an_ancestor_three_levels_up_is_full() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let (one, one_b) = pair.child((a, b));
    let (two, two_b) = pair.child((one, one_b));
    let (three, three_b) = pair.child((two, two_b));
    for key in [a, one, two] {
        fill(&mut pair, key);
    }
    let leaf = pair.a.open_substream(three).unwrap();
    pair.a.write_all(three, &[0; STREAM_WINDOW as usize]);
    pair.a.write_all(leaf, &[0; STREAM_WINDOW as usize]);
    pair.run();
    assert_eq!(pair.b.read_all(three_b).0.len(), STREAM_WINDOW as usize);
    let leaf_b = pair.b.accept_substream(three_b).unwrap().unwrap();
    assert_eq!(pair.b.read_all(leaf_b).0.len(), STREAM_WINDOW as usize);
}

// spec: STR-46
#[test]
fn threat_28_what_a_hostile_peer_makes_a_host_keep_is_bounded_for_each_held_stream() {
    // Opens as much as it may, sends all it may on each, or a whole request and its end, and is accepted everywhere;
    // nothing is read.
    for request in [None, Some(5000), Some(20_000)] {
        let mut pair = Pair::with_root(65_536);
        pair.b.limit_budget(0);
        let mut held = 0_u64;
        for _ in 0..200 {
            for _ in 0..8 {
                let key = pair.a.open_top_level("svc", "v1").unwrap();
                let mut left = request.unwrap_or(usize::MAX);
                while left > 0 {
                    match pair.a.write(key, &vec![0; left.min(64 << 10)]).unwrap() {
                        0 => break,
                        written => left -= written,
                    }
                }
                if left == 0 {
                    pair.a.finish(key).unwrap();
                }
            }
            pair.run();
            held += std::iter::from_fn(|| pair.b.accept_any()).count() as u64;
            pair.run();
        }
        assert!(held >= 8, "{held}");
        let unread: u64 = (1..pair.b.life.tree.table.slots())
            .filter_map(|i| pair.b.life.tree.table.get(i))
            .map(|n| n.recv.unread())
            .sum();
        assert!(
            unread <= 65_536 + held * STREAM_WINDOW,
            "{unread} of {held} with {request:?}"
        );
    }
}

// spec: STR-53
#[test]
fn opening_waits_for_credit_too() {
    let mut pair = Pair::with_root(65_536);
    let keys: Vec<StreamKey> = (0..1000).map(|_| pair.a.open_top_level("svc", "v1").unwrap()).collect();
    send_all(&mut pair);
    let first = pair.b.len() as u64;
    assert!((16..=65_536 / 2 / OPEN_COST).contains(&first), "{first}");
    assert!(!pair.a.wants());
    for accepted in 0..1000 {
        let key = pair.b.accept_any();
        let key = key.unwrap_or_else(|| panic!("more come as credit is given back: {accepted}"));
        pair.b.finish(key).unwrap();
        pair.run();
    }
    assert_eq!(pair.b.len(), keys.len());
}

// spec: STR-19, STR-55
#[test]
fn threat_28_more_than_was_granted_closes_the_channel() {
    let exceeded = |b: &mut Streams, frame| b.forged(&frame).unwrap_err().code == Code::CREDIT_EXCEEDED;
    let borrowing = |borrow| Some(Init::top_level(b"svc", b"v1").with_credit(0, borrow, 0));
    // Beyond the limit of the stream.
    let mut b = Pair::new().b;
    received!(b, [stream_frame(1, borrowing(100), 99, b"x", false)]);
    assert!(exceeded(&mut b, stream_frame(1, None, 100, b"x", false)));
    // By a final size alone.
    let mut b = Pair::new().b;
    received!(b, [stream_frame(1, borrowing(100), 0, b"", false)]);
    assert!(exceeded(&mut b, reset_frame(1, 101)));
    let mut b = Pair::new().b;
    assert!(exceeded(&mut b, stream_frame(1, borrowing(0), 1 << 40, b"", true)));
    // Beyond the account of the root, by what is borrowed and by opening.
    let mut b = Pair::with_root(65_536).b;
    assert!(exceeded(&mut b, stream_frame(1, borrowing(65_100), 0, b"", false)));
    let mut b = Pair::with_root(65_536).b;
    for lsid in (1..2 * 128).step_by(2) {
        received!(b, [stream_frame(lsid, borrowing(0), 0, b"", false)]);
    }
    assert!(exceeded(&mut b, stream_frame(257, borrowing(0), 0, b"", false)));
    // Beyond the account of a parent.
    let mut pair = Pair::new();
    let _ = pair.stream();
    let child = |borrow| Some(Init::substream(1).with_credit(0, borrow, 0));
    let most = OPEN_ROOM - OPEN_COST;
    received!(pair.b, [stream_frame(3, child(most), 0, b"", false)]);
    assert!(exceeded(&mut pair.b, stream_frame(5, child(0), 0, b"", false)));
}

// spec: STR-54, STR-57
#[test]
fn what_is_accepted_or_gone_is_given_back() {
    let mut pair = Pair::with_root(65_536);
    // Read, reset, refused, stopped, dropped: after each, the root's account is whole again.
    for round in 0..100 {
        let a = pair.a.open_top_level("svc", "v1").unwrap();
        pair.a.write_all(a, &[0; 10_000]);
        send_all(&mut pair);
        let b = pair.b.take_incoming().unwrap().key;
        if round % 5 != 0 {
            pair.b.accept_top_level(b);
        }
        match round % 5 {
            0 => pair.b.refuse(b, Code::REFUSED_SERVICE),
            1 => pair.b.stop(b, Code::app(1), ""),
            2 => pair.a.reset(a, Code::app(1), ""),
            3 => pair.b.release(b),
            _ => assert_eq!(pair.b.read_all(b).0.len(), 10_000),
        }
        pair.run();
        pair.a.release(a);
        pair.b.release(b);
        pair.run();
        let (charge, consumed, _) = pair.b.backing(0);
        assert_eq!(charge, consumed, "round {round}");
        assert_eq!(pair.a.lent(0), charge, "round {round}");
        assert_eq!((pair.a.len(), pair.b.len()), (0, 0), "round {round}");
        assert_eq!(pair.b.spent(), pair.b.root_extra(), "round {round}");
    }
}

// spec: STR-57
#[test]
fn a_refused_stream_costs_until_the_peer_agrees() {
    let mut pair = Pair::with_root(65_536);
    let mut refused = 0;
    // The peer opens, and never acknowledges what it is told.
    for _ in 0..1000 {
        let _ = pair.a.open_top_level("svc", "v1").unwrap();
    }
    while let Some(packet) = pair.a.packet(ROOM) {
        pair.b.take(&packet).unwrap();
        pair.a.acked(&packet);
        while let Some(incoming) = pair.b.take_incoming() {
            pair.b.refuse(incoming.key, Code::REFUSED_SERVICE);
            refused += 1;
        }
        while pair.b.packet(ROOM).is_some() {}
    }
    assert!((16..=128).contains(&refused), "{refused}");
    assert_eq!(pair.b.len(), refused);
    assert_eq!(pair.b.backing(0).1, 0, "nothing is given back");
    let table = &pair.b.life.tree.table;
    let named = (1..table.slots())
        .filter_map(|index| table.get(index))
        .filter(|n| n.names.is_some());
    assert_eq!(named.count(), 0, "names may be longer than all else");
}

// spec: STR-54
#[test]
fn a_small_request_and_answer_cause_no_credit_frames() {
    let mut pair = Pair::new();
    for lsid in (1..200).step_by(2) {
        let a = pair.a.open_top_level("svc", "v1").unwrap();
        pair.a.write_all(a, &[1; 100]);
        pair.a.finish(a).unwrap();
        let init = Some(Init::top_level(b"svc", b"v1").with_credit(0, 100, STREAM_BORROW));
        let request = sent!(
            pair.a,
            [Stream {
                lsid,
                init,
                data: &[1; 100],
                fin: true,
                ..STREAM
            }]
        );
        pair.b.take(&request).unwrap();
        pair.a.acked(&request);
        let b = pair.b.accept_any().unwrap();
        assert_eq!(pair.b.read_all(b), (vec![1; 100], Poll::Ready(Ok(ReadOutcome::End))));
        pair.b.write_all(b, &[2; 1000]);
        pair.b.finish(b).unwrap();
        pair.b.release(b);
        let answer = sent!(
            pair.b,
            [Stream {
                lsid,
                data: &[2; 1000],
                fin: true,
                ..STREAM
            }]
        );
        pair.a.take(&answer).unwrap();
        pair.b.acked(&answer);
        assert_eq!(pair.a.read_all(a), (vec![2; 1000], Poll::Ready(Ok(ReadOutcome::End))));
        pair.a.release(a);
        assert_eq!((pair.a.len(), pair.b.len()), (0, 0));
        assert!(!pair.a.wants() && !pair.b.wants());
    }
}

// spec: STR-54
#[test]
fn an_answer_of_64_kib_needs_no_credit() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.b.write_all(b, &[2; STREAM_BORROW as usize]);
    pair.b.finish(b).unwrap();
    while let Some(packet) = pair.b.packet(ROOM) {
        pair.a.take(&packet).unwrap();
        pair.b.acked(&packet);
    }
    assert_eq!(pair.a.read_all(a).0.len(), STREAM_BORROW as usize);
}

// spec: STR-56
#[test]
fn streams_that_are_held_and_silent_do_not_count_as_waiting() {
    let mut pair = Pair::with_root(65_536);
    let mut held = Vec::new();
    for round in 0..2000 {
        let a = pair.a.open_top_level("poll", "v1").unwrap();
        pair.a.write_all(a, &[1; 100]);
        pair.a.finish(a).unwrap();
        pair.run();
        let b = pair.b.accept_any();
        held.push(b.unwrap_or_else(|| panic!("stream {round} waits for nobody's acceptance")));
    }
    assert_eq!(held.len(), 2000);
}

// spec: STR-21
#[test]
fn a_finished_parent_still_gets_credit_for_its_children() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.finish(a).unwrap();
    pair.run();
    assert_eq!(pair.b.read_now(b), Poll::Ready(Ok(ReadOutcome::End)));
    for _ in 0..50 {
        let (child_a, child_b) = pair.child((a, b));
        pair.a.write_all(child_a, &[3; 30_000]);
        pair.a.finish(child_a).unwrap();
        let mut read = 0;
        while read < 30_000 {
            pair.run();
            read += pair.b.read_all(child_b).0.len();
        }
        pair.a.release(child_a);
        pair.b.release(child_b);
        pair.run();
    }
}

// spec: STR-21
#[test]
fn a_stream_is_not_retired_before_the_peer_can_open_one_more_child() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    // Children use up the account of the stream, and the peer hears nothing of its being raised.
    for _ in 0..OPEN_ROOM / OPEN_COST - 1 {
        let lsid = 2 * pair.b.len() as u64 + 1;
        let init = Some(Init::substream(1).with_credit(0, 0, 0));
        received!(pair.b, [stream_frame(lsid, init, 0, b"", true)]);
    }
    let children: Vec<StreamKey> = std::iter::from_fn(|| pair.b.accept_substream(b).unwrap()).collect();
    assert_eq!(children.len() as u64, OPEN_ROOM / OPEN_COST - 1);
    let (charge, consumed, limit) = pair.b.backing(1);
    assert!(charge == consumed && limit - charge < 2 * OPEN_COST);
    let raised = OpenCredit {
        lsid: 1,
        limit: 74_240,
        datagrams: 0,
    };
    let mut expected = vec![Await { lsid: 1 }.to_frame(), raised.to_frame()];
    expected.extend((3..=35).step_by(2).map(|lsid| credit(lsid, 0).to_frame()));
    let packet = pair.b.packet(ROOM).unwrap();
    crate::testing::compare(&packet.bytes, &expected);
    pair.a.finish(a).unwrap();
    let _ = (a, children);
}

// spec: STR-9, STR-21
#[test]
fn a_child_of_a_stream_that_the_peer_has_retired_is_refused() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.finish(a).unwrap();
    pair.b.finish(b).unwrap();
    pair.run();
    let _ = pair.b.read_all(b);
    pair.b.release(b);
    pair.run();
    assert_eq!(pair.b.len(), 0);
    let charged = pair.a.lent(a.index);
    let child = pair.a.open_substream(a).unwrap();
    pair.run();
    let refused = pair.a.read_now(child);
    assert!(
        matches!(refused, Poll::Ready(Err(ReadError::Refused(Refusal::ParentGone)))),
        "{refused:?}"
    );
    assert_eq!(pair.a.lent(a.index), charged);
}

// spec: STR-17, REC-5
#[test]
fn lost_credit_is_sent_again_with_its_present_value() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.write_all(a, &[0; 500_000]);
    send_all(&mut pair);
    let _ = pair.b.read_all(b);
    let lost = sent!(pair.b, [credit(1, 327_680)]);
    sent!(pair.b, []);
    pair.b.lost(&lost);
    let again = sent!(pair.b, [credit(1, 327_680)]);
    pair.a.take(&again).unwrap();
    pair.b.acked(&again);
    pair.b.lost(&lost);
    // A newer one has arrived.
    sent!(pair.b, []);
    assert!(send_all(&mut pair) > 0);
}

// spec: STR-55, REC-5
#[test]
fn lost_credit_for_openings_is_sent_again() {
    let mut pair = Pair::with_root(65_536);
    let streams: Vec<StreamKey> = (0..40).map(|_| pair.a.open_top_level("svc", "v1").unwrap()).collect();
    send_all(&mut pair);
    while pair.b.accept_any().is_some() {}
    // Of the root, and of each stream that was accepted.
    let mut raised = vec![open_credit(0, 159_240, 0).to_frame()];
    raised.extend((1..=45).step_by(2).map(|lsid| credit(lsid, STREAM_BORROW).to_frame()));
    let lost = pair.b.packet(ROOM).unwrap();
    compare(&lost.bytes, &raised);
    pair.b.lost(&lost);
    // There is more room by now.
    raised[0] = open_credit(0, 290_312, 0).to_frame();
    let again = pair.b.packet(ROOM).unwrap();
    compare(&again.bytes, &raised);
    pair.a.take(&again).unwrap();
    pair.b.acked(&again);
    pair.b.lost(&lost);
    let is_open_credit = |p: &Packet| p.frames().iter().any(|f| matches!(f, Frame::OpenCredit(_)));
    assert!(
        !pair.b.packet(ROOM).is_some_and(|p| is_open_credit(&p)),
        "a newer one has arrived"
    );
    let _ = streams;
}

#[test]
fn many_streams_that_wait_are_woken_as_credit_comes() {
    let mut pair = Pair::with_root(65_536);
    let keys: Vec<StreamKey> = (0..20).map(|_| pair.a.open_top_level("svc", "v1").unwrap()).collect();
    for key in &keys {
        pair.a.write_all(*key, &[7; 50_000]);
        pair.a.finish(*key).unwrap();
    }
    let mut accepted = Vec::new();
    let mut read = 0;
    while read < 20 * 50_000 {
        pair.run();
        accepted.extend(std::iter::from_fn(|| pair.b.accept_any()));
        let before = read;
        for key in &accepted {
            read += pair.b.read_all(*key).0.len();
        }
        assert!(read > before || pair.b.wants(), "stuck at {read}");
    }
}

// spec: STR-20
#[test]
fn windows_follow_the_rate_of_a_bulk_transfer() {
    let mut pair = Pair::new();
    let rtt = std::time::Duration::from_millis(100);
    pair.b.set_rtt(rtt);
    let (a, b) = pair.stream();
    let mut now = Instant::default();
    let mut in_round = 0;
    for _ in 0..20 {
        while pair.a.write(a, &[0; 1 << 20]).unwrap() > 0 {}
        in_round = 0;
        now = now + rtt;
        // All that may be sent in one round trip, and credit that arrives after it.
        while let Some(packet) = pair.a.packet(ROOM) {
            in_round += packet.bytes.len();
            pair.b.take(&packet).unwrap();
            pair.a.acked(&packet);
            while pair.a.write(a, &[0; 1 << 20]).unwrap() > 0 {}
            while let Poll::Ready(Ok(ReadOutcome::Chunk(_))) = pair.b.read(b, usize::MAX) {}
        }
        pair.run_b_to_a();
    }
    assert!(in_round > 8 << 20, "{in_round} bytes in a round trip");
}

impl Pair {
    fn run_b_to_a(&mut self) {
        while let Some(packet) = self.b.packet(ROOM) {
            self.a.take(&packet).unwrap();
            self.b.acked(&packet);
        }
    }
}

// spec: STR-59
#[test]
fn a_hundred_services_that_accept_nothing_leave_room_for_the_next() {
    let mut pair = Pair::new();
    for service in 0..100 {
        for _ in 0..300 {
            let key = pair.a.open_top_level(&format!("deaf {service}"), "v1").unwrap();
            pair.a.write_all(key, &[0; 2000]);
        }
        pair.run();
        let key = pair.a.open_top_level("heard", "v1").unwrap();
        pair.a.write_all(key, &[1; 1000]);
        pair.a.finish(key).unwrap();
        pair.run();
        let mut waiting = std::iter::from_fn(|| pair.b.take_incoming());
        let heard = waiting.find(|i| i.service == b"heard").expect("another is heard").key;
        assert!(pair.b.accept_top_level(heard), "{service}");
        let (bytes, end) = pair.b.read_all(heard);
        assert_eq!(
            (bytes.len(), end),
            (1000, Poll::Ready(Ok(ReadOutcome::End))),
            "{service}"
        );
    }
}

fn open_credit(lsid: u64, limit: u64, datagrams: u64) -> OpenCredit {
    OpenCredit { lsid, limit, datagrams }
}

// spec: STR-56, REC-5
#[test]
fn the_acknowledgement_of_one_open_credit_settles_no_later_one() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    // The account has a window from the budget, of which then nothing is left: the limit does not rise any more.
    for _ in 0..2 {
        pair.b.life.put(b.index, Item::OpenCredit);
        pair.run();
    }
    pair.b.limit_budget(0);
    let options = DatagramOptions::default().with(|options| options.reliable = true);
    let now = Instant::default();
    pair.a
        .send_datagram(now, a, &Bytes::from_static(&[7; 300]), &options)
        .unwrap();
    pair.run();
    pair.b.life.put(b.index, Item::OpenCredit);
    let earlier = sent!(pair.b, [open_credit(1, 131_072, 384)]);
    assert!(matches!(pair.b.poll_recv_datagram(now, b), Poll::Ready(Ok(Some(_)))));
    pair.b.life.put(b.index, Item::OpenCredit);
    let later = sent!(pair.b, [open_credit(1, 131_072, 812)]);
    pair.b.acked(&earlier);
    pair.b.lost(&later);
    sent!(pair.b, [open_credit(1, 131_072, 812)]);
}
