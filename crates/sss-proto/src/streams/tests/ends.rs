//! Ends of directions, and retirement.

use super::*;
use crate::error::{ReadError, WriteError};
use crate::interest::Interest;

fn final_size(result: Result<(), ProtocolError>) {
    assert_eq!(result.unwrap_err().code, Code::FINAL_SIZE);
}

// spec: STR-12
#[test]
fn threat_27_data_beyond_the_end_or_another_end_closes_the_channel() {
    let end_at_10 = [stream_frame(1, None, 4, b"456789", true), reset_frame(1, 10)];
    for end in &end_at_10 {
        let bad = [
            stream_frame(1, None, 10, b"x", false),
            stream_frame(1, None, 5, b"5", true),
            stream_frame(1, None, 11, b"", true),
            reset_frame(1, 9),
            reset_frame(1, 11),
        ];
        for frame in &bad {
            let mut pair = Pair::new();
            let (_, b) = pair.stream();
            pair.b.forged(end).unwrap();
            final_size(pair.b.forged(frame));
            let _ = b;
        }
        let mut pair = Pair::new();
        pair.stream();
        pair.b.forged(end).unwrap();
        received!(pair.b, [stream_frame(1, None, 0, b"0123", false)]);
        received!(pair.b, [stream_frame(1, None, 10, b"", true)]);
        received!(pair.b, [reset_frame(1, 10)]);
    }
    let lower_than_received = [stream_frame(1, None, 0, b"1", true), reset_frame(1, 5)];
    for frame in &lower_than_received {
        let mut pair = Pair::new();
        pair.stream();
        received!(pair.b, [stream_frame(1, None, 3, b"3456", false)]);
        final_size(pair.b.forged(frame));
    }
}

// spec: STR-12
#[test]
fn the_final_size_of_reset_is_the_highest_offset_sent() {
    let mut pair = Pair::new();
    let (a, _) = pair.stream();
    pair.a.write_all(a, &[0; 5000]);
    pair.a.packet(ROOM).unwrap();
    let sent = pair.a.info(a).unwrap().sent;
    pair.a.reset(a, Code::app(3), "why");
    let why = Reset {
        reason: "why",
        ..reset(1, Code::app(3), sent)
    };
    sent!(pair.a, [why]);
    assert!(sent > 1000);
}

// spec: STR-13
#[test]
fn a_stream_dropped_unfinished_and_unread_tells_the_peer() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.write_all(a, b"not all of it");
    pair.run();
    pair.a.release(a);
    pair.run();
    let end = pair.b.read_all(b).1;
    assert!(
        matches!(
            end,
            Poll::Ready(Err(ReadError::Reset {
                code: Code::DROPPED,
                ..
            }))
        ),
        "{end:?}"
    );
    let end = pair.b.write(b, b"x");
    assert!(
        matches!(end, Err(WriteError::Stopped { code: Code::UNREAD, .. })),
        "{end:?}"
    );
    pair.b.release(b);
    pair.run();
    assert_eq!((pair.a.len(), pair.b.len()), (0, 0));
}

// spec: STR-13
#[test]
fn a_finished_stream_may_be_dropped() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.write_all(a, &[1; 10_000]);
    pair.a.finish(a).unwrap();
    pair.a.finish(a).unwrap();
    pair.b.finish(b).unwrap();
    pair.run();
    assert_eq!(pair.a.read_all(a), (Vec::new(), Poll::Ready(Ok(ReadOutcome::End))));
    pair.a.release(a);
    pair.run();
    assert_eq!(pair.a.len(), 0);
    assert_eq!(pair.b.read_all(b), (vec![1; 10_000], Poll::Ready(Ok(ReadOutcome::End))));
}

// spec: STR-14
#[test]
fn stop_is_answered_with_reset_of_the_same_code() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.write_all(a, &[0; 100_000]);
    pair.step();
    pair.a.finish(a).unwrap();
    pair.b.stop(b, Code::app(9), "enough");
    assert_eq!(pair.a.poll_drained(a), Poll::Pending);
    pair.run();
    assert_eq!(pair.a.events(), [StreamEvent::Ready(a, Interest::Drained)]);
    let stopped = WriteError::Stopped {
        code: Code::app(9),
        reason: "enough".to_owned(),
    };
    assert_eq!(pair.a.poll_drained(a), Poll::Ready(Err(stopped.clone())));
    assert_eq!(pair.a.write(a, b"x"), Err(stopped));
    assert!(pair.a.info(a).unwrap().sent < 100_000, "unsent data is discarded");
    assert_eq!(pair.b.read_now(b), Poll::Ready(Err(ReadError::Closed)));
    let cause = pair.b.life.tree.table[b.index].cause(crate::streams::tree::ends::Direction::Receiving);
    assert_eq!(cause, crate::streams::tree::ends::Cause::Own);
    assert_eq!(pair.b.info(b).unwrap().receiving, crate::streams::RecvState::Done);
}

// spec: STR-14
#[test]
fn stop_after_everything_was_acknowledged_changes_nothing() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.write_all(a, b"all");
    pair.a.finish(a).unwrap();
    pair.run();
    received!(pair.a, [stop_frame(1)]);
    assert!(!pair.a.wants());
    assert_eq!(pair.a.poll_drained(a), Poll::Ready(Ok(())));
    assert_eq!(pair.b.read_all(b), (b"all".to_vec(), Poll::Ready(Ok(ReadOutcome::End))));
}

// spec: STR-15
#[test]
fn reset_discards_what_was_not_read_and_leaves_the_rest_alone() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let (child_a, child_b) = pair.child((a, b));
    pair.a.write_all(a, b"unread");
    pair.a.write_all(child_a, b"child");
    pair.run();
    pair.a.reset(a, Code::app(1), "gone");
    pair.run();
    let reset = ReadError::Reset {
        code: Code::app(1),
        reason: "gone".to_owned(),
    };
    assert_eq!(pair.b.read_all(b), (Vec::new(), Poll::Ready(Err(reset.clone()))));
    assert_eq!(pair.b.read_now(b), Poll::Ready(Err(reset)));
    assert_eq!(pair.b.read_all(child_b).0, b"child");
    pair.b.write_all(b, b"back");
    pair.run();
    assert_eq!(pair.a.read_all(a).0, b"back");
    assert_eq!(pair.a.poll_drained(a), Poll::Ready(Ok(())));
}

#[test]
fn lost_ends_are_sent_again() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.reset(a, Code::app(1), "");
    pair.a.stop(a, Code::app(2), "");
    let packet = pair.a.packet(ROOM).unwrap();
    pair.a.lost(&packet);
    let again = pair.a.packet(ROOM).unwrap();
    assert_eq!(again.bytes, packet.bytes);
    pair.b.take(&again).unwrap();
    pair.a.acked(&again);
    pair.a.lost(&packet);
    assert!(!pair.a.wants(), "what was acknowledged is not sent again");
    assert!(matches!(pair.b.read_now(b), Poll::Ready(Err(ReadError::Reset { .. }))));
}

#[test]
fn a_lost_fin_is_sent_again_alone() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.write_all(a, b"data");
    let data = pair.a.packet(ROOM).unwrap();
    pair.a.finish(a).unwrap();
    let end = fin(1, 4, b"");
    let fin = sent!(pair.a, [end]);
    pair.a.lost(&fin);
    pair.b.take(&data).unwrap();
    pair.a.acked(&data);
    let again = sent!(pair.a, [end]);
    pair.b.take(&again).unwrap();
    pair.a.acked(&again);
    assert_eq!(
        pair.b.read_all(b),
        (b"data".to_vec(), Poll::Ready(Ok(ReadOutcome::End)))
    );
    assert_eq!(pair.a.poll_drained(a), Poll::Ready(Ok(())));
}

// spec: STR-16
#[test]
fn a_parent_is_kept_until_its_children_are_retired() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let (child_a, child_b) = pair.child((a, b));
    let deep_a = pair.a.open_substream(child_a).unwrap();
    pair.run();
    let deep_b = pair.b.accept_substream(child_b).unwrap().unwrap();
    for (x, y) in [(a, b), (child_a, child_b)] {
        pair.a.release(x);
        pair.b.release(y);
    }
    pair.run();
    assert_eq!((pair.a.len(), pair.b.len()), (3, 3));
    pair.a.write_all(deep_a, b"works");
    pair.run();
    assert_eq!(pair.b.read_all(deep_b).0, b"works");
    pair.a.release(deep_a);
    pair.b.release(deep_b);
    pair.run();
    assert_eq!((pair.a.len(), pair.b.len()), (0, 0));
}

// spec: STR-16
#[test]
fn threat_31_opening_and_resetting_many_streams_leaves_nothing_behind() {
    let mut pair = Pair::new();
    for round in 0..20_000 {
        for _ in 0..50 {
            let key = pair.a.open_top_level("svc", "v1").unwrap();
            pair.a.write_all(key, b"request");
            pair.a.reset(key, Code::app(1), "");
            pair.a.release(key);
            let key = pair.a.open_top_level("svc", "v1").unwrap();
            if round % 2 == 0 {
                let child = pair.a.open_substream(key).unwrap();
                pair.a.write_all(child, b"x");
                pair.a.release(child);
            }
            pair.step();
            pair.a.release(key);
            if let Some(incoming) = pair.b.take_incoming() {
                if round % 3 == 0 {
                    pair.b.accept_top_level(incoming.key);
                    pair.b.release(incoming.key);
                } else {
                    pair.b.refuse(incoming.key, Code::REFUSED_SERVICE);
                }
            }
        }
        pair.run();
        assert_eq!((pair.a.len(), pair.b.len()), (0, 0), "round {round}");
        if round == 200 && cfg!(debug_assertions) {
            break;
        }
    }
    for end in [&pair.a, &pair.b] {
        assert!(
            end.life.tree.table.slots() < 200,
            "{} slots",
            end.life.tree.table.slots()
        );
    }
    assert!(
        pair.a.life.tree.lsids.next() > 10_000,
        "{}",
        pair.a.life.tree.lsids.next()
    );
}

#[test]
fn memory_stays_flat_while_nothing_can_be_sent() {
    let mut a = Streams::new(StreamsConfig {
        window: WindowConfig::default(),
        seed: 1,
    });
    let held = a.open_top_level("svc", "v1").unwrap();
    for _ in 0..100_000 {
        let key = a.open_substream(held).unwrap();
        a.write_all(key, b"x");
        a.release(key);
    }
    assert_eq!(a.len(), 1);
    assert!(a.life.tree.table.slots() < 10);
    let debug = format!("{:?}", a.life.scheduler);
    assert!(debug.len() < 20_000, "queues are bounded: {}", debug.len());
}
