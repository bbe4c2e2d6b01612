//! Subtrees as units.

use super::*;
use crate::error::{OpenError, ReadError, WriteError};
use crate::interest::Interest;
use crate::streams::SubtreeInfo;

/// A stream with two children, one of which has one.
fn family(pair: &mut Pair) -> [(StreamKey, StreamKey); 4] {
    let top = pair.stream();
    let left = pair.child(top);
    let right = pair.child(top);
    [top, left, right, pair.child(right)]
}

#[test]
fn sums_of_a_subtree_are_those_of_its_streams() {
    let mut pair = Pair::new();
    let [top, left, right, low] = family(&mut pair);
    for (n, both) in [(100, top), (20_000, left), (3000, right), (700, low)] {
        pair.a.write_all(both.0, &vec![0; n]);
    }
    let expected = SubtreeInfo {
        streams: 2,
        unsent: 3700,
        unacked: 3700,
        ..SubtreeInfo::default()
    };
    assert_eq!(pair.a.subtree_info(right.0), Some(expected));
    let packet = pair.a.packet(ROOM).unwrap();
    let info = pair.a.subtree_info(top.0).unwrap();
    assert_eq!((info.streams, info.unacked), (4, 23_800));
    assert!(info.sent > 1000 && info.sent + info.unsent == 23_800, "{info:?}");
    pair.b.take(&packet).unwrap();
    pair.a.acked(&packet);
    pair.run();
    let _ = pair.b.read(low.1, 300);
    let expected = SubtreeInfo {
        streams: 2,
        received: 3700,
        unread: 3400,
        ..SubtreeInfo::default()
    };
    assert_eq!(pair.b.subtree_info(right.1), Some(expected));
    assert_eq!(pair.b.subtree_info(top.1).unwrap().unread, 23_500);
    let gone = pair.b.subtree_info(StreamKey {
        index: 0,
        generation: 0,
    });
    assert_eq!(gone, None, "the root is no stream of the application");
}

fn reset_of(pair: &mut Pair, key: StreamKey) -> (Code, String) {
    match pair.b.read_now(key) {
        Poll::Ready(Err(ReadError::Reset { code, reason })) => (code, reason),
        other => panic!("{other:?}"),
    }
}

fn tree_reset_frame(lsid: u64, final_size: u64) -> Frame<'static> {
    Frame::Reset(Reset {
        lsid,
        scope: Scope::Tree,
        code: Code::app(6),
        final_size,
        reason: "all",
    })
}

/// Everything is let go of, and nothing is left.
fn wind_up(pair: &mut Pair, keys: &[(StreamKey, StreamKey)]) {
    for (a, b) in keys {
        pair.a.release(*a);
        pair.b.release(*b);
    }
    pair.run();
    assert_eq!((pair.a.len(), pair.b.len()), (0, 0));
    for (one, other) in [(&pair.a, &pair.b), (&pair.b, &pair.a)] {
        let received = other.backing(0);
        assert_eq!(one.lent(0), received.0);
        assert_eq!(received.0, received.1);
        assert!(!one.wants() && !one.has_work());
    }
}

// spec: STR-43, STR-44
#[test]
fn reset_of_a_tree_ends_both_directions_of_all_streams_below() {
    let mut pair = Pair::new();
    let other = pair.stream();
    let streams = family(&mut pair);
    let [top, left, right, low] = streams;
    for (a, b) in streams {
        pair.a.write_all(a, &[1; 5000]);
        pair.b.write_all(b, &[2; 5000]);
    }
    pair.run();
    // What has arrived completely and was not read is over as well; what was read stays read.
    pair.a.finish(left.0).unwrap();
    pair.a.finish(right.0).unwrap();
    pair.run();
    assert_eq!(pair.b.read_all(left.1).1, Poll::Ready(Ok(ReadOutcome::End)));
    assert_eq!(pair.b.accept_substream(low.1), Ok(None));
    assert_eq!(pair.b.poll_drained(right.1), Poll::Pending);
    pair.a.reset_tree(top.0, Code::app(6), "no more");
    pair.run();
    let reset = (Code::app(6), "no more".to_owned());
    for (_, b) in [top, right, low] {
        assert_eq!(reset_of(&mut pair, b), reset);
    }
    assert_eq!(pair.b.read_now(left.1), Poll::Ready(Ok(ReadOutcome::End)));
    let told = pair.b.events();
    assert!(told.contains(&StreamEvent::Ready(low.1, Interest::Accept)), "{told:?}");
    assert!(
        told.contains(&StreamEvent::Ready(right.1, Interest::Drained)),
        "{told:?}"
    );
    let (code, reason) = reset.clone();
    let stopped = WriteError::Stopped { code, reason };
    for (a, b) in streams {
        assert_eq!(pair.b.write(b, b"x"), Err(stopped.clone()));
        assert_eq!(pair.b.poll_drained(b), Poll::Ready(Err(stopped.clone())));
        let (code, reason) = reset.clone();
        assert_eq!(pair.b.open_substream(b), Err(OpenError::Reset { code, reason }));
        let (code, reason) = reset.clone();
        assert_eq!(pair.b.accept_substream(b), Err(CloseReason::Peer { code, reason }));
        assert_eq!(pair.a.write(a, b"x"), Err(WriteError::Closed));
        assert_eq!(pair.a.read_now(a), Poll::Ready(Err(ReadError::Closed)));
        assert_eq!(pair.a.poll_drained(a), Poll::Ready(Ok(())));
        assert!(matches!(pair.a.open_substream(a), Err(OpenError::Reset { .. })));
        assert!(matches!(pair.a.accept_substream(a), Err(CloseReason::Local { .. })));
    }
    pair.a.write_all(other.0, b"untouched");
    pair.run();
    assert_eq!(pair.b.read_all(other.1).0, b"untouched");
    wind_up(&mut pair, &[other, top, left, right, low]);
}

// spec: STR-43
#[test]
fn each_stream_tells_its_final_size_and_the_uppermost_the_scope() {
    let mut pair = Pair::new();
    let [top, left, right, low] = family(&mut pair);
    for (n, both) in [(100, top), (200, left), (300, right), (400, low)] {
        pair.a.write_all(both.0, &vec![0; n]);
    }
    pair.run();
    pair.a.finish(top.0).unwrap();
    pair.run();
    assert_eq!(pair.a.poll_drained(top.0), Poll::Ready(Ok(())));
    pair.a.reset_tree(top.0, Code::app(6), "why");
    let code = Code::app(6);
    let [top_lsid, left_lsid, right_lsid, low_lsid] = [top, left, right, low].map(|both| pair.a.lsid_of(both.0));
    let packet = sent!(
        pair.a,
        [
            tree_reset(top_lsid, code, 100, "why"),
            stop(top_lsid, code),
            reset(right_lsid, code, 300),
            stop(right_lsid, code),
            reset(low_lsid, code, 400),
            stop(low_lsid, code),
            reset(left_lsid, code, 200),
            stop(left_lsid, code),
        ]
    );
    // Lost, it is sent again, also when the uppermost stream had ended well before.
    pair.a.lost(&packet);
    let again = sent!(
        pair.a,
        [
            tree_reset(top_lsid, code, 100, "why"),
            stop(top_lsid, code),
            reset(right_lsid, code, 300),
            stop(right_lsid, code),
            reset(low_lsid, code, 400),
            stop(low_lsid, code),
            reset(left_lsid, code, 200),
            stop(left_lsid, code),
        ]
    );
    pair.b.take(&again).unwrap();
    pair.a.acked(&again);
    pair.a.lost(&packet);
    assert!(!pair.a.wants());
    pair.run();
    wind_up(&mut pair, &[top, left, right, low]);
}

// spec: STR-44
#[test]
fn children_under_way_are_refused_with_the_same_code() {
    let mut pair = Pair::new();
    let [top, left, right, low] = family(&mut pair);
    // Both open children that the other does not know yet.
    let of_a = pair.a.open_substream(low.0).unwrap();
    pair.a.write_all(of_a, &[1; 3000]);
    let of_b = pair.b.open_substream(right.1).unwrap();
    let below_b = pair.b.open_substream(of_b).unwrap();
    pair.b.write_all(below_b, &[1; 3000]);
    let under_way: Vec<_> = std::iter::from_fn(|| pair.b.packet(ROOM)).collect();
    pair.a.reset_tree(top.0, Code::app(6), "");
    for packet in &under_way {
        pair.a.take(packet).unwrap();
        pair.b.acked(packet);
    }
    pair.run();
    assert_eq!(
        pair.a.life.tree.table[top.0.index].children(),
        2,
        "of those that a holds"
    );
    for key in [of_b, below_b] {
        assert_eq!(reset_of(&mut pair, key).0, Code::app(6));
        let stopped = pair.b.write(key, b"x");
        assert!(matches!(stopped, Err(WriteError::Stopped { code, .. }) if code == Code::app(6)));
        pair.b.release(key);
    }
    pair.a.release(of_a);
    wind_up(&mut pair, &[top, left, right, low]);
}

// spec: STR-43
#[test]
fn a_tree_that_nobody_knows_yet_is_forgotten() {
    let mut pair = Pair::new();
    let top = pair.a.open_top_level("svc", "v1").unwrap();
    let child = pair.a.open_substream(top).unwrap();
    pair.a.write_all(child, b"data");
    pair.a.reset_tree(top, Code::app(6), "");
    assert!(pair.a.packet(ROOM).is_none());
    assert_eq!(pair.a.poll_drained(child), Poll::Ready(Ok(())));
    pair.a.release(child);
    pair.a.release(top);
    assert_eq!(pair.a.len(), 0);
    assert_eq!(pair.a.life.tree.lsids.next(), 0, "no number was taken");
    // One whose INIT is under way is reset behind it.
    let top = pair.a.open_top_level("svc", "v1").unwrap();
    let child = pair.a.open_substream(top).unwrap();
    let lost = pair.a.packet(ROOM).unwrap();
    pair.a.reset_tree(top, Code::app(6), "");
    let code = Code::app(6);
    let packet = sent!(
        pair.a,
        [
            announce(1, top_level()),
            tree_reset(1, code, 0, ""),
            announce(3, child_lent(1, 1, STREAM_WINDOW)),
            reset(3, code, 0),
        ]
    );
    pair.a.lost(&lost);
    pair.b.take(&packet).unwrap();
    pair.a.acked(&packet);
    pair.run();
    assert!(pair.b.accept_any().is_none(), "nobody is to accept it any more");
    for key in [child, top] {
        pair.a.release(key);
    }
    wind_up(&mut pair, &[]);
}

// spec: STR-44
#[test]
fn what_waits_to_be_accepted_in_a_tree_is_gone() {
    let mut pair = Pair::new();
    let [top, left, right, low] = family(&mut pair);
    let waiting = pair.a.open_substream(low.0).unwrap();
    pair.a.write_all(waiting, &[1; 3000]);
    pair.run();
    pair.a.reset_tree(right.0, Code::app(6), "");
    pair.run();
    pair.b.check_costs("after a reset of the tree");
    assert!(pair.b.accept_substream(low.1).is_err());
    pair.a.write_all(left.0, b"sibling");
    pair.run();
    assert_eq!(pair.b.read_all(left.1).0, b"sibling");
    pair.a.release(waiting);
    wind_up(&mut pair, &[top, left, right, low]);
}

// spec: STR-43, STR-44
#[test]
fn a_tree_is_reset_once_by_whoever_was_first() {
    // One that was reset before, and one within it that was reset with it.
    for again in [0, 2] {
        let mut pair = Pair::new();
        let streams = family(&mut pair);
        let [top, ..] = streams;
        pair.a.reset_tree(top.0, Code::app(6), "all");
        assert!(pair.a.packet(ROOM).is_some());
        while pair.a.packet(ROOM).is_some() {}
        pair.a.reset_tree(streams[again].0, Code::app(7), "again");
        sent!(pair.a, []);
    }
}

// spec: STR-43
#[test]
fn both_may_reset_a_tree_at_once_and_trees_within_it() {
    for order in 0..4 {
        let mut pair = Pair::new();
        let streams = family(&mut pair);
        let [top, _, right, _] = streams;
        if order % 2 == 0 {
            pair.a.reset_tree(right.0, Code::app(1), "");
            pair.a.reset_tree(top.0, Code::app(2), "");
        } else {
            pair.a.reset_tree(top.0, Code::app(2), "");
            pair.a.reset_tree(right.0, Code::app(1), "");
        }
        if order < 2 {
            pair.b.reset_tree(top.1, Code::app(3), "");
            pair.b.reset_tree(right.1, Code::app(4), "");
        }
        pair.a.reset_tree(top.0, Code::app(5), "");
        pair.run();
        wind_up(&mut pair, &streams);
    }
}

// spec: STR-43
#[test]
fn threat_30_a_hundred_thousand_streams_are_gone_through_in_steps() {
    const COUNT: usize = 100_000;
    let mut pair = Pair::with_root(1 << 30);
    let (a, b) = pair.stream();
    pair.a.life.tree.table[a.index].account_mut().lent.set_limit(1 << 60);
    pair.b.widen(b.index);
    let mut keys = vec![(a, b)];
    for n in 0..COUNT {
        let parent = if n % 100 == 0 { a } else { keys[keys.len() - 1].0 };
        let parent = if n % 100 > 25 { a } else { parent };
        let child = pair.a.open_substream(parent).unwrap();
        keys.push((child, b));
    }
    pair.run();
    pair.a.reset_tree(a, Code::app(6), "");
    let ended = |streams: &Streams| {
        let slots = 1..streams.life.tree.table.slots();
        slots
            .filter(|i| {
                streams
                    .life
                    .tree
                    .table
                    .get(*i)
                    .is_some_and(|n| n.has(Flags::TREE_RESET))
            })
            .count()
    };
    let at_once = ended(&pair.a);
    assert!((1..COUNT / 10).contains(&at_once), "{at_once}");
    assert!(pair.a.has_work());
    // Streams go while the walk is under way.
    for (key, _) in keys.iter().skip(1).step_by(2) {
        pair.a.release(*key);
    }
    let first = pair.a.packet(ROOM).unwrap();
    pair.b.take(&first).unwrap();
    pair.a.acked(&first);
    assert!(ended(&pair.b) < COUNT / 10 && pair.b.has_work());
    pair.run();
    assert_eq!(pair.b.len(), 1, "the one that is held");
    for (key, _) in keys.iter().skip(1) {
        pair.a.release(*key);
    }
    wind_up(&mut pair, &keys[..1]);
}

// spec: STR-8, FRM-10
#[test]
fn reset_of_trees_that_cannot_be() {
    let mut pair = Pair::new();
    let [top, left, right, low] = family(&mut pair);
    let lsid = |key| pair.a.lsid_of(key);
    let (top_lsid, right_lsid) = (lsid(top.0), lsid(right.0));
    // Never opened.
    let unknown = pair.b.forged(&tree_reset_frame(999, 0));
    assert_eq!(unknown.unwrap_err().code, Code::STREAM_STATE);
    // With a final size that cannot be.
    pair.a.write_all(right.0, &[0; 100]);
    pair.run();
    let short = pair.b.forged(&tree_reset_frame(right_lsid, 99));
    assert_eq!(short.unwrap_err().code, Code::FINAL_SIZE);
    let mut other = Pair::new();
    let (_, b) = other.stream();
    let far = other.b.forged(&tree_reset_frame(1, 1 << 40)).unwrap_err();
    assert_eq!(far.code, Code::CREDIT_EXCEEDED);
    other.b.fail_all(&CloseReason::Violation(far));
    other.b.release(b);
    assert_eq!(other.b.len(), 0);
    // A storm of them, on all streams, in any order.
    for round in 0..200 {
        for both in [low, top, right, left] {
            let lsid = pair.a.lsid_of(both.0);
            let size = if both == right { 100 } else { 0 };
            received!(pair.b, [tree_reset_frame(lsid, size)]);
            if round % 3 == 0 {
                received!(pair.b, [reset_frame(lsid, size)]);
                received!(pair.b, [stop_frame(lsid)]);
            }
        }
    }
    assert!(pair.b.life.outbox.ends.len() <= 4, "no stream is queued twice");
    // The root has none of this frame.
    let mut root = vec![0; 64];
    let mut writer = sss_wire::Writer::new(&mut root);
    tree_reset_frame(1, 0).encode(&mut writer);
    root[1] = 0;
    assert!(sss_wire::frame::Frames::new(&root).next().unwrap().is_err());
    // Of a retired stream it means nothing.
    for both in [low, right, left, top] {
        pair.b.release(both.1);
    }
    pair.run();
    for (a, _) in [low, right, left, top] {
        pair.a.release(a);
    }
    pair.run();
    assert_eq!(pair.b.len(), 0);
    received!(pair.b, [tree_reset_frame(top_lsid, 0)]);
}

// spec: STR-44
#[test]
fn a_subtree_cannot_be_reset_with_a_code_of_refusal() {
    for code in [
        Code::REFUSED_SERVICE,
        Code::NO_LISTENER,
        Code::PARENT_GONE,
        Code::BACKLOG,
    ] {
        let mut pair = Pair::new();
        let top = pair.stream();
        let lsid = pair.b.lsid_of(top.1);
        for lsid in [lsid, 3] {
            let error = pair.b.forged(&Frame::Reset(Reset {
                lsid,
                scope: Scope::Tree,
                code,
                final_size: 0,
                reason: "",
            }));
            assert_eq!(error.unwrap_err().code, Code::STREAM_STATE, "{code:?}");
        }
        pair.a.write_all(top.0, b"untouched");
        pair.run();
        assert_eq!(pair.b.read_all(top.1).0, b"untouched");
    }
}

// spec: STR-7, STR-44
#[test]
fn a_child_of_a_reset_tree_is_refused_with_its_code_until_the_parent_is_retired() {
    let mut pair = Pair::new();
    let top = pair.stream();
    let parent = pair.a.lsid_of(top.0);
    pair.a.reset_tree(top.0, Code::app(6), "no more");
    let child = |parent| child_of(parent, 0);
    // The peer has not heard of the reset.
    received!(pair.a, [stream_frame(2, child(parent), 0, b"x", false)]);
    let code = Code::app(6);
    sent!(
        pair.a,
        [
            tree_reset(parent, code, 0, "no more"),
            stop(parent, code),
            reset(2, code, 0),
            stop(2, code),
        ]
    );
    // Nothing is left of the tree, and nobody knows the code any more.
    let mut pair = Pair::new();
    let top = pair.stream();
    let parent = pair.a.lsid_of(top.0);
    pair.a.reset_tree(top.0, Code::app(6), "no more");
    pair.a.release(top.0);
    pair.run();
    assert_eq!(pair.a.len(), 0);
    received!(pair.a, [stream_frame(2, child(parent), 0, b"x", false)]);
    let code = Code::PARENT_GONE;
    sent!(pair.a, [reset(2, code, 0), stop(2, code)]);
}
