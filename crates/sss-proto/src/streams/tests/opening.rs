//! Opening, numbering, refusing.

use super::*;
use crate::error::{OpenError, ReadError, WriteError};
use crate::interest::Interest;
use crate::refusal::Refusal;
use crate::streams::frames::delivery::Item;
use sss_wire::constants::{DATAGRAM_BORROW, MAX_DEPTH};
use sss_wire::frame::{Credit, Datagram, Priority, Watch};

fn code(result: Result<(), ProtocolError>) -> Code {
    result.unwrap_err().code
}

// spec: STR-4
#[test]
fn opening_sends_init_at_once_with_or_without_data() {
    let mut pair = Pair::new();
    pair.a.open_top_level("svc", "v1").unwrap();
    let with_data = pair.a.open_top_level("svc", "v2").unwrap();
    pair.a.write_all(with_data, b"hello");
    pair.a.finish(with_data).unwrap();
    let init = Some(Init::top_level(b"svc", b"v2").with_credit(0, 5, STREAM_BORROW));
    let packet = sent!(
        pair.a,
        [announce(1, top_level()), stream_frame(3, init, 0, b"hello", true),]
    );
    assert!(!pair.a.wants());

    pair.b.take(&packet).unwrap();
    let incoming = pair.b.take_incoming().unwrap();
    assert_eq!(
        (&incoming.service[..], &incoming.protocol[..]),
        (&b"svc"[..], &b"v1"[..])
    );
}

// spec: STR-5
#[test]
fn init_is_repeated_until_it_is_acknowledged() {
    let mut pair = Pair::new();
    let key = pair.a.open_top_level("svc", "v1").unwrap();
    pair.a.write_all(key, b"1");
    let (lsid, init) = (1, top_level());
    let first = sent!(pair.a, [stream_frame(lsid, init, 0, b"1", false)]);
    pair.a.write_all(key, b"2");
    let second = sent!(pair.a, [stream_frame(lsid, init, 1, b"2", false)]);
    pair.b.take(&second).unwrap();
    pair.b.take(&first).unwrap();
    pair.a.acked(&second);
    pair.a.write_all(key, b"3");
    let third = sent!(pair.a, [data(lsid, 2, b"3")]);
    pair.b.take(&third).unwrap();
    let b = pair.b.accept_any().unwrap();
    assert_eq!(pair.b.read_all(b).0, b"123");
    assert_eq!(pair.b.len(), 1);
}

#[test]
fn a_lost_announcement_is_repeated() {
    let mut pair = Pair::new();
    pair.a.open_top_level("svc", "v1").unwrap();
    let announcement = announce(1, top_level());
    let packet = sent!(pair.a, [announcement]);
    assert!(!pair.a.wants());
    pair.a.lost(&packet);
    sent!(pair.a, [announcement]);
}

// spec: STR-6
#[test]
fn ancestors_are_announced_before_their_children_in_the_same_packet() {
    let mut pair = Pair::new();
    let top = pair.a.open_top_level("svc", "v1").unwrap();
    let mid = pair.a.open_substream(top).unwrap();
    let packets: Vec<Packet> = (0..3)
        .map(|i| {
            let leaf = pair.a.open_substream(mid).unwrap();
            pair.a.write_all(leaf, &[i]);
            pair.a.packet(ROOM).unwrap()
        })
        .collect();
    for packet in packets.iter().rev() {
        let mut seen = vec![0];
        for frame in packet.streams() {
            assert!(seen.contains(&frame.init.unwrap().parent));
            seen.push(frame.lsid);
        }
        assert_eq!(
            seen.iter().filter(|l| **l == 1).count(),
            1,
            "announced once in a packet"
        );
        pair.b.take(packet).unwrap();
    }
    assert_eq!(pair.b.len(), 5);
    pair.a.acked(&packets[1]);
    let leaf = pair.a.open_substream(mid).unwrap();
    pair.a.write_all(leaf, b"x");
    sent!(
        pair.a,
        [stream_frame(11, child_lent(3, 2, STREAM_WINDOW), 0, b"x", false)]
    );
}

// spec: STR-7
#[test]
fn init_that_cannot_be_closes_the_channel() {
    let bad_inits = [
        // The receiver's parity.
        (2, top_level()),
        // Parents that were never opened.
        (1, child_of(5, 0)),
        (1, child_of(2, 0)),
        // Kind and parent that do not match.
        (1, child_of(0, 0)),
        (
            3,
            Some(Init {
                parent: 1,
                ..top_level().unwrap()
            }),
        ),
    ];
    for (lsid, init) in bad_inits {
        let mut b = Pair::new().b;
        if lsid == 3 {
            received!(b, [stream_frame(1, top_level(), 0, b"", false)]);
        }
        let result = b.forged(&stream_frame(lsid, init, 0, b"x", false));
        assert_eq!(code(result), Code::STREAM_STATE, "{lsid} {init:?}");
    }
    let mut pair = Pair::new();
    pair.stream();
    let own = stream_frame(1, top_level(), 0, b"", false);
    assert_eq!(code(pair.a.forged(&own)), Code::STREAM_STATE);
}

// spec: STR-8
#[test]
fn frames_for_streams_never_opened_close_the_channel() {
    for lsid in [1, 2] {
        let frames = [
            stream_frame(lsid, None, 0, b"x", false),
            reset_frame(lsid, 0),
            stop_frame(lsid),
            Frame::Credit(Credit { lsid, limit: 1 << 20 }),
        ];
        for frame in frames {
            let mut b = Pair::new().b;
            assert_eq!(code(b.forged(&frame)), Code::STREAM_STATE, "{frame:?}");
        }
    }
}

// spec: STR-8
#[test]
fn frames_for_retired_streams_are_ignored() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let lsid = pair.a.lsid_of(a);
    pair.a.release(a);
    pair.b.release(b);
    pair.run();
    assert_eq!((pair.a.len(), pair.b.len()), (0, 0));
    for end in [&mut pair.a, &mut pair.b] {
        received!(end, [stream_frame(lsid, None, 1 << 30, b"x", true)]);
        received!(end, [reset_frame(lsid, 1 << 40)]);
        received!(end, [stop_frame(lsid)]);
        received!(end, [Credit { lsid, limit: 1 << 20 }]);
        assert_eq!(end.len(), 0);
    }
}

// spec: STR-8
#[test]
fn stop_credit_and_bare_reset_wait_until_the_peer_knows_the_stream() {
    let mut pair = Pair::new();
    let key = pair.a.open_top_level("svc", "v1").unwrap();
    let announcement = pair.a.packet(ROOM).unwrap();
    pair.a.stop(key, Code::app(1), "");
    pair.a.reset(key, Code::app(2), "");
    let lsid = 1;
    let early = sent!(pair.a, [announce(lsid, top_level()), reset(lsid, Code::app(2), 0)]);
    assert!(!pair.a.wants());
    pair.b.take(&early).unwrap();
    pair.a.acked(&announcement);
    sent!(pair.a, [stop(lsid, Code::app(1))]);
}

// spec: STR-1, STR-2
#[test]
fn both_open_children_of_any_stream_with_numbers_of_their_own() {
    let mut pair = Pair::new();
    let (a1, b1) = pair.stream();
    let from_b = pair.b.open_substream(b1).unwrap();
    let from_a = pair.a.open_substream(a1).unwrap();
    let top_b = pair.b.open_top_level("back", "v1").unwrap();
    pair.run();
    assert_eq!((pair.a.lsid_of(a1), pair.a.lsid_of(from_a)), (1, 3));
    let mut numbers = [pair.b.lsid_of(from_b), pair.b.lsid_of(top_b)];
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 4]);
    let at_a = pair.a.accept_substream(a1).unwrap().unwrap();
    assert_eq!(pair.a.lsid_of(at_a), pair.b.lsid_of(from_b));
    assert_eq!(pair.a.accept_substream(a1), Ok(None));
    let at_b = pair.b.accept_substream(b1).unwrap().unwrap();
    assert_eq!(pair.b.lsid_of(at_b), 3);
}

// spec: STR-2
#[test]
fn what_was_sent_on_an_attempt_that_lost_is_numbered_anew() {
    let mut pair = Pair::new();
    let mut early = Streams::test(Role::Initiator, 1 << 20);
    let top = early.open_top_level("svc", "v1").unwrap();
    early.write_all(top, b"early");
    let child = early.open_substream(top).unwrap();
    early.write_all(child, b"child");
    let lost = early.packet(900).unwrap();
    let init = Some(Init::top_level(b"svc", b"v1").with_credit(0, 2016, STREAM_BORROW));
    carried!(
        lost,
        [
            stream_frame(1, init, 0, b"early", false),
            stream_frame(3, child_lent(1, 1, 1937), 0, b"child", false),
        ]
    );
    early.lost(&lost);
    early.set_role(Role::Responder);
    early.grant_root(1 << 20).unwrap();
    pair.b = early;
    pair.run();
    let at_a = pair.a.accept_any().unwrap();
    assert_eq!(pair.a.lsid_of(at_a), 2);
    assert_eq!(pair.a.read_all(at_a).0, b"early");
    let child = pair.a.accept_substream(at_a).unwrap().unwrap();
    assert_eq!(pair.a.read_all(child).0, b"child");
}

// spec: STR-2
#[test]
fn streams_dropped_before_they_were_announced_take_no_number() {
    let mut pair = Pair::new();
    for _ in 0..10_000 {
        let key = pair.a.open_top_level("svc", "v1").unwrap();
        pair.a.write_all(key, b"never mind");
        pair.a.release(key);
    }
    assert!(pair.a.len() == 0 && !pair.a.wants());
    let (a, _) = pair.stream();
    assert_eq!(pair.a.lsid_of(a), 1);
    assert!(pair.a.life.tree.table.slots() < 10);
}

// spec: STR-3
#[test]
fn threat_29_depth_is_limited_here_and_for_the_peer() {
    let mut pair = Pair::new();
    let mut both = pair.stream();
    for _ in 1..MAX_DEPTH {
        both = pair.child(both);
    }
    let (a, b) = both;
    assert_eq!(pair.a.open_substream(a), Err(OpenError::TooDeep(MAX_DEPTH)));
    let parent = pair.a.lsid_of(a);
    received!(pair.b, [stream_frame(999, child_of(parent, 0), 0, b"data", false)]);
    let (lsid, code) = (999, Code::TOO_DEEP);
    sent!(pair.b, [reset(lsid, code, 0), stop(lsid, code)]);
    assert_eq!(pair.b.accept_substream(b), Ok(None));
}

// spec: STR-3
#[test]
fn a_chain_of_new_ancestors_fits_into_one_packet() {
    let mut pair = Pair::new();
    let mut key = pair.a.open_top_level("svc", "v1").unwrap();
    for _ in 1..MAX_DEPTH {
        key = pair.a.open_substream(key).unwrap();
    }
    pair.a.write_all(key, &[1; 3000]);
    pair.a.finish(key).unwrap();
    pair.run();
    let mut at = pair.b.accept_any().unwrap();
    for _ in 1..MAX_DEPTH {
        at = pair.b.accept_substream(at).unwrap().unwrap();
    }
    assert_eq!(pair.b.read_all(at), (vec![1; 3000], Poll::Ready(Ok(ReadOutcome::End))));
}

// spec: STR-9
#[test]
fn a_refused_stream_ends_with_the_code_and_nothing_else_does() {
    let mut pair = Pair::new();
    let (other_a, other_b) = pair.stream();
    let key = pair.a.open_top_level("nobody", "v1").unwrap();
    pair.a.write_all(key, &[1; 100_000]);
    assert_eq!(pair.a.read_now(key), Poll::Pending);
    pair.step();
    let incoming = pair.b.take_incoming().unwrap();
    pair.b.refuse(incoming.key, Code::REFUSED_SERVICE);
    pair.run();
    assert!(pair.a.events().contains(&StreamEvent::Ready(key, Interest::Read)));
    let refused = pair.a.read_now(key);
    assert!(
        matches!(refused, Poll::Ready(Err(ReadError::Refused(Refusal::Service)))),
        "{refused:?}"
    );
    let refused = pair.a.write(key, b"x");
    assert!(
        matches!(refused, Err(WriteError::Refused(Refusal::Service))),
        "{refused:?}"
    );
    assert_eq!(pair.b.len(), 1, "the refused stream is retired");
    pair.a.release(key);
    assert_eq!(pair.a.len(), 1);
    pair.a.write_all(other_a, b"still here");
    pair.run();
    assert_eq!(pair.b.read_all(other_b).0, b"still here");
}

// spec: STR-9
#[test]
fn children_of_a_released_stream_are_refused() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let before = pair.a.open_substream(a).unwrap();
    pair.run();
    pair.b.release(b);
    let after = pair.a.open_substream(a).unwrap();
    pair.run();
    for key in [before, after] {
        let refused = pair.a.read_now(key);
        assert!(
            matches!(refused, Poll::Ready(Err(ReadError::Refused(Refusal::NoListener)))),
            "{refused:?}"
        );
    }
}

/// A stream that is retired at b and held at a.
fn retired_at_b(pair: &mut Pair) -> StreamKey {
    let (a, b) = pair.stream();
    pair.a.finish(a).unwrap();
    pair.b.finish(b).unwrap();
    pair.run();
    assert_eq!(pair.b.read_now(b), Poll::Ready(Ok(ReadOutcome::End)));
    pair.b.release(b);
    pair.run();
    a
}

// spec: STR-7, STR-9
#[test]
fn children_of_a_retired_parent_are_refused_and_no_more_are_opened() {
    let mut pair = Pair::new();
    let parent = retired_at_b(&mut pair);
    assert_eq!(pair.b.len(), 0);
    let child = pair.a.open_substream(parent).unwrap();
    let grandchild = pair.a.open_substream(child).unwrap();
    pair.a.write_all(grandchild, &[0; 5000]);
    pair.run();
    for key in [child, grandchild] {
        let refused = pair.a.read_now(key);
        assert!(
            matches!(refused, Poll::Ready(Err(ReadError::Refused(Refusal::ParentGone)))),
            "{refused:?}"
        );
    }
    assert_eq!(pair.a.open_substream(parent), Err(OpenError::ParentGone));
    for key in [grandchild, child, parent] {
        pair.a.release(key);
    }
    pair.run();
    assert_eq!((pair.a.len(), pair.b.len()), (0, 0));
}

// spec: STR-9
#[test]
fn a_lost_refusal_is_repeated() {
    let mut pair = Pair::new();
    let parent = retired_at_b(&mut pair);
    pair.a.open_substream(parent).unwrap();
    let packet = pair.a.packet(ROOM).unwrap();
    pair.b.take(&packet).unwrap();
    let refusal = pair.b.packet(ROOM).unwrap();
    pair.b.lost(&refusal);
    assert_eq!(pair.b.packet(ROOM).unwrap().bytes, refusal.bytes);
}

// spec: STR-9, STR-18
#[test]
fn what_a_retired_parent_never_counted_is_taken_back() {
    let mut pair = Pair::with_root(65_536);
    for _ in 0..2000 {
        let parent = retired_at_b(&mut pair);
        let child = pair.a.open_substream(parent).unwrap();
        pair.a.write_all(child, &[0; 300]);
        pair.run();
        assert_eq!(pair.a.open_substream(parent), Err(OpenError::ParentGone));
        pair.a.release(child);
        pair.a.release(parent);
        pair.run();
    }
    assert_eq!(pair.a.lent(0), pair.b.backing(0).0);
}

// spec: STR-10
#[test]
fn threat_28_too_many_gaps_close_the_channel() {
    let mut b = Pair::new().b;
    let parent = {
        received!(b, [stream_frame(1, top_level(), 0, b"", false)]);
        let key = b.take_incoming().unwrap().key;
        b.refuse(key, Code::REFUSED_SERVICE);
        received!(b, [reset_frame(1, 0)]);
        let packet = b.packet(ROOM).unwrap();
        b.acked(&packet);
        assert_eq!(b.len(), 0);
        child_of(1, 0)
    };
    // Of a retired parent, so that no credit is needed.
    let mut result = Ok(());
    for i in 0..sss_wire::constants::MAX_OPEN_GAPS as u64 + 1 {
        assert_eq!(result, Ok(()), "{i} gaps");
        result = b.forged(&stream_frame(5 + 4 * i, parent, 0, b"", false));
        // It is not for refusals that wait.
        if let Some(packet) = b.packet(ROOM) {
            b.acked(&packet);
        }
    }
    assert_eq!(code(result), Code::LIMIT);
}

#[test]
fn names_that_are_too_long_are_refused() {
    let mut a = Pair::new().a;
    let long = "x".repeat(256);
    assert_eq!(a.open_top_level(&long, ""), Err(OpenError::NameTooLong));
    assert_eq!(a.open_top_level("", &long), Err(OpenError::NameTooLong));
    let longest = "x".repeat(255);
    let key = a.open_top_level(&longest, &longest).unwrap();
    a.write_all(key, &[0; 2000]);
    let packet = a.packet(900).unwrap();
    assert_eq!(packet.bytes.len(), 900);
}

#[test]
fn the_root_is_no_stream_of_the_application() {
    let mut a = Pair::new().a;
    let root = StreamKey {
        index: 0,
        generation: 0,
    };
    assert_eq!(a.open_substream(root), Err(OpenError::Gone));
    assert_eq!(a.write(root, b"x"), Err(WriteError::Closed));
    assert_eq!(a.read_now(root), Poll::Ready(Err(ReadError::Closed)));
    a.release(root);
    assert!(a.info(root).is_none() && a.len() == 0);
}

// spec: FRM-6
#[test]
fn a_stream_frame_with_nothing_in_it_opens_or_has_no_effect() {
    let mut pair = Pair::new();
    let (_, b) = pair.stream();
    // Far beyond all credit, and beyond an end.
    for offset in [0, 7, 1 << 40] {
        received!(pair.b, [stream_frame(1, None, offset, b"", false)]);
    }
    received!(pair.b, [stream_frame(1, None, 3, b"end", true)]);
    received!(pair.b, [stream_frame(1, None, 1 << 40, b"", false)]);
    assert_eq!(pair.b.info(b).unwrap().received, 6, "three bytes at 3, and the end");
    // With INIT it opens the stream, wherever it says it is.
    received!(pair.b, [stream_frame(3, top_level(), 1 << 40, b"", false)]);
    let charge = pair.b.life.tree.table[0].gauge().charge;
    let opened = pair.b.accept_any().expect("it is open");
    assert_eq!(pair.b.info(opened).unwrap().received, 0);
    received!(pair.b, [stream_frame(3, top_level(), 1 << 40, b"", false)]);
    assert_eq!(
        pair.b.life.tree.table[0].gauge().charge,
        charge,
        "its offset is charged to nobody"
    );
    // A stream that was never opened is none.
    let never = pair.b.forged(&stream_frame(5, None, 0, b"", false));
    assert_eq!(code(never), Code::STREAM_STATE);
}

/// A packet of a with a frame of each kind, for streams that b knows; and a new stream that is reset.
fn mixed_packet(pair: &mut Pair) -> Packet {
    let [one, two, three, four] = [(); 4].map(|()| pair.stream());
    pair.b.write_all(one.1, &[0; 65_000]);
    pair.a.finish(four.0).unwrap();
    pair.run();
    let new = pair.a.open_top_level("svc", "v1").unwrap();
    let init = pair.a.packet(ROOM).unwrap();
    pair.a.lost(&init);
    assert_eq!(pair.a.read_all(one.0).0.len(), 65_000);
    let index = pair.a.life.tree.table.find(one.0).unwrap();
    pair.a.life.outbox.put(&mut pair.a.life.tree.table, index, Item::Credit);
    pair.a.reset(two.0, Code::app(1), "");
    pair.a.stop(two.0, Code::app(2), "");
    assert_eq!(pair.a.poll_consumed(four.0), Poll::Pending);
    pair.a.request_priority(three.0, 5);
    pair.a.write_all(three.0, b"data");
    let bytes = Bytes::from_static(b"datagram");
    let sent = pair
        .a
        .send_datagram(Instant::default(), one.0, &bytes, &Default::default());
    assert!(matches!(sent, Ok(Some(_))));
    pair.a.reset(new, Code::app(3), "");
    let (lsid, serial, level) = (5, 0, 5);
    sent!(
        pair.a,
        [
            reset(3, Code::app(1), 0),
            stop(3, Code::app(2)),
            announce(9, top_level()),
            reset(9, Code::app(3), 0),
            Watch { lsid: 7 },
            credit(1, 327_144),
            Priority { lsid, serial, level },
            data(lsid, 0, b"data"),
            Datagram {
                lsid: 1,
                data: b"datagram"
            },
        ]
    )
}

// spec: FRM-2, STR-8, STR-26
#[test]
fn frames_are_written_in_their_order_and_init_goes_before_what_needs_it() {
    let mut pair = Pair::new();
    // RESET and STOP, with INIT that the peer lacks in front; questions; CREDIT; PRIORITY; what the scheduler chooses.
    mixed_packet(&mut pair);
}

// spec: FRM-2
#[test]
fn frames_of_streams_that_are_known_are_taken_in_any_order() {
    let mut last = None;
    for turn in 0..8 {
        let mut pair = Pair::new();
        let packet = mixed_packet(&mut pair);
        let mut frames = packet.frames();
        // INIT, and RESET of that stream, stay in their order.
        let at = frames
            .iter()
            .position(|f| matches!(f, Frame::Stream(s) if s.init.is_some()));
        let kept: Vec<_> = frames.drain(at.unwrap()..at.unwrap() + 2).collect();
        let len = frames.len();
        frames.rotate_left(turn % len);
        if turn % 2 == 1 {
            frames.reverse();
        }
        for frame in kept.iter().chain(&frames) {
            pair.b.on_frame(frame, &packet.bytes).unwrap();
        }
        pair.a.acked(&packet);
        pair.run();
        let known: Vec<_> = pair
            .b
            .tree(named)
            .into_iter()
            .map(|(_, _, info)| format!("{info:?}"))
            .collect();
        assert_eq!(*last.get_or_insert(known.clone()), known, "turn {turn}");
    }
}

// spec: STR-58
#[test]
fn threat_31_more_streams_than_are_kept_are_refused_without_a_trace() {
    let host = crate::streams::HostBudget::default();
    for (per_peer, per_host) in [(10, 1000), (1000, 10)] {
        let mut pair = Pair::new();
        pair.b.share_budget(host.clone());
        let mut limits = crate::config::StreamLimits::default();
        (limits.per_peer, limits.per_host) = (per_peer, per_host);
        pair.b.set_limits(limits);
        let keys: Vec<_> = (0..15).map(|_| pair.a.open_top_level("svc", "v1").unwrap()).collect();
        pair.run();
        assert_eq!(pair.b.len(), 10);
        let accepted: Vec<_> = std::iter::from_fn(|| pair.b.accept_any()).collect();
        pair.run();
        let refused =
            |key: &&StreamKey| pair.a.read_now(**key) == Poll::Ready(Err(ReadError::Refused(Refusal::TooMany)));
        assert_eq!(keys.iter().filter(refused).count(), 5);
        for key in keys {
            pair.a.release(key);
        }
        for key in accepted {
            pair.b.release(key);
        }
        pair.run();
        assert_eq!((pair.a.len(), pair.b.len()), (0, 0));
        assert_eq!(
            pair.a.lent(0),
            pair.b.backing(0).0,
            "nothing is charged for what was not kept"
        );
        pair.a.open_top_level("svc", "v1").unwrap();
        pair.run();
        assert_eq!(pair.b.len(), 1);
    }
}

// spec: STR-52, STR-58
#[test]
fn a_channel_that_ends_for_a_forged_opening_leaves_the_count_of_streams_even() {
    let datagram = Some(Init::datagram(1, DATAGRAM_BORROW, DATAGRAM_BORROW));
    let cases = [
        // An account that there is not, for a stream and for a datagram.
        (child_lent(1, 5, STREAM_BORROW), Code::STREAM_STATE),
        (datagram.map(|init| Init { lender: 5, ..init }), Code::STREAM_STATE),
        // An account that has no room any more.
        (child_lent(1, 0, STREAM_BORROW), Code::CREDIT_EXCEEDED),
        (datagram, Code::CREDIT_EXCEEDED),
    ];
    for (init, expected) in cases {
        let mut pair = Pair::new();
        pair.stream();
        let mut forge = |n: u64| pair.b.forged(&stream_frame(2 * n + 1, init, 0, b"", false));
        let error = (1..10_000)
            .find_map(|n| forge(n).err())
            .expect("no opening was an error");
        assert_eq!(error.code, expected, "{init:?}");
        pair.b.fail_all(&CloseReason::Violation(error));
        assert_eq!(pair.b.life.flow.peer_streams(), pair.b.len() as u64, "{init:?}");
    }
}
