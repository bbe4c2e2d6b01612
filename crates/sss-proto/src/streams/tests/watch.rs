//! WATCH and CONSUMED: the peer's application has read everything.

use sss_wire::constants::MAX_WATCHES;
use sss_wire::frame::{Consumed, Init, Watch};

use super::*;
use crate::error::{ReadError, WriteError};
use crate::interest::Interest;

fn stopped(code: Code) -> WriteError {
    let reason = String::new();
    WriteError::Stopped { code, reason }
}

/// A stream on which a has sent so many bytes, all of which have arrived.
fn finished(pair: &mut Pair, bytes: usize) -> (StreamKey, StreamKey) {
    let (a, b) = pair.stream();
    pair.a.write_all(a, &vec![1; bytes]);
    pair.a.finish(a).unwrap();
    pair.run();
    assert_eq!(pair.a.poll_drained(a), Poll::Ready(Ok(())));
    (a, b)
}

// spec: STR-47, STR-48
#[test]
fn consumed_is_told_when_the_last_byte_is_read() {
    let mut pair = Pair::new();
    let (a, b) = finished(&mut pair, 5000);
    assert_eq!(pair.a.poll_consumed(a), Poll::Pending);
    pair.run();
    assert!(pair.a.events().is_empty());
    assert!(matches!(pair.b.read(b, 4999), Poll::Ready(Ok(ReadOutcome::Chunk(_)))));
    while pair.b.info(b).unwrap().read < 4999 {
        let left = 4999 - pair.b.info(b).unwrap().read as usize;
        assert!(matches!(pair.b.read(b, left), Poll::Ready(Ok(_))));
    }
    pair.run();
    assert!(pair.a.events().is_empty());
    assert_eq!(pair.a.poll_consumed(a), Poll::Pending);
    assert!(matches!(pair.b.read(b, 1), Poll::Ready(Ok(_))));
    pair.run();
    assert_eq!(pair.a.events(), [StreamEvent::Ready(a, Interest::Consumed)]);
    assert_eq!(pair.a.poll_consumed(a), Poll::Ready(Ok(())));
    assert!(!pair.a.wants(), "nothing is asked again");
}

// spec: STR-48
#[test]
fn an_empty_direction_is_consumed_when_its_end_is_seen() {
    let mut pair = Pair::new();
    let (a, b) = finished(&mut pair, 0);
    assert_eq!(pair.a.poll_consumed(a), Poll::Pending);
    pair.run();
    assert!(pair.a.events().is_empty());
    assert_eq!(pair.b.read_now(b), Poll::Ready(Ok(ReadOutcome::End)));
    pair.run();
    assert_eq!(pair.a.poll_consumed(a), Poll::Ready(Ok(())));
}

// spec: STR-47, STR-48
#[test]
fn what_was_read_before_the_question_is_answered_at_once_and_also_when_nothing_is_left() {
    for is_released in [false, true] {
        let mut pair = Pair::new();
        let (a, b) = finished(&mut pair, 100);
        assert_eq!(pair.b.read_all(b).0.len(), 100);
        if is_released {
            pair.b.finish(b).unwrap();
            pair.run();
            pair.b.release(b);
            pair.run();
            assert_eq!(pair.b.len(), 0);
        }
        assert_eq!(pair.a.poll_consumed(a), Poll::Pending);
        let lsid = pair.a.lsid_of(a);
        let question = sent!(pair.a, [Watch { lsid }]);
        pair.b.take(&question).unwrap();
        let answer = sent!(pair.b, [Consumed { lsid }]);
        // Both are reliable, and harmless when they come twice.
        pair.a.lost(&question);
        pair.b.lost(&answer);
        let (question, answer) = (sent!(pair.a, [Watch { lsid }]), sent!(pair.b, [Consumed { lsid }]));
        pair.b.take(&question).unwrap();
        pair.a.take(&answer).unwrap();
        pair.run();
        assert_eq!(pair.a.poll_consumed(a), Poll::Ready(Ok(())));
        assert_eq!(pair.a.life.outbox.open_count(Topic::Consumed), 0);
    }
}

// spec: STR-49
#[test]
fn who_lets_go_without_reading_says_so_even_if_all_had_arrived() {
    for bytes_read in [0, 99, 100] {
        let mut pair = Pair::new();
        let (a, b) = finished(&mut pair, 100);
        // Asked before, or only afterwards.
        for is_asked_before in [true, false] {
            if is_asked_before {
                assert_eq!(pair.a.poll_consumed(a), Poll::Pending);
                pair.run();
            }
        }
        pair.b.finish(b).unwrap();
        if bytes_read > 0 {
            assert!(matches!(pair.b.read(b, bytes_read), Poll::Ready(Ok(_))));
        }
        pair.b.release(b);
        pair.run();
        assert_eq!(pair.b.len(), 0, "retired once the STOP has arrived");
        let expected = if bytes_read == 100 {
            Ok(())
        } else {
            Err(stopped(Code::UNREAD))
        };
        assert_eq!(pair.a.poll_consumed(a), Poll::Ready(expected));
        assert_eq!(pair.a.events(), [StreamEvent::Ready(a, Interest::Consumed)]);
        assert_eq!(
            pair.a.poll_drained(a),
            Poll::Ready(Ok(())),
            "it was delivered all the same"
        );
    }
}

// spec: STR-49
#[test]
fn a_stop_of_what_was_delivered_is_remembered_until_somebody_asks() {
    let mut pair = Pair::new();
    let (a, b) = finished(&mut pair, 100);
    pair.b.stop(b, Code::app(3), "enough");
    pair.run();
    let error = pair.a.poll_consumed(a);
    let reason = "enough".to_owned();
    let code = Code::app(3);
    assert_eq!(error, Poll::Ready(Err(WriteError::Stopped { code, reason })));
    assert!(!pair.a.wants());
    // What was consumed stays consumed.
    let (a, b) = finished(&mut pair, 100);
    assert_eq!(pair.a.poll_consumed(a), Poll::Pending);
    assert_eq!(pair.b.read_all(b).1, Poll::Ready(Ok(ReadOutcome::End)));
    pair.run();
    let lsid = pair.a.lsid_of(a);
    received!(pair.a, [stop_frame(lsid)]);
    assert_eq!(pair.a.poll_consumed(a), Poll::Ready(Ok(())));
}

// spec: STR-47
#[test]
fn a_direction_that_is_reset_or_lost_is_never_consumed() {
    let mut pair = Pair::new();
    let (a, _) = pair.stream();
    let [own, tree] = [0; 2].map(|_| pair.stream());
    for key in [a, own.0, tree.0] {
        pair.a.write_all(key, &[0; 100]);
        assert_eq!(pair.a.poll_consumed(key), Poll::Pending);
    }
    pair.run();
    pair.a.reset(own.0, Code::app(1), "");
    assert_eq!(pair.a.events(), [StreamEvent::Ready(own.0, Interest::Consumed)]);
    assert_eq!(pair.a.poll_consumed(own.0), Poll::Ready(Err(WriteError::Closed)));
    // All of it was delivered, and nobody has read it.
    pair.a.finish(tree.0).unwrap();
    pair.run();
    pair.b.reset_tree(tree.1, Code::app(2), "");
    pair.run();
    assert!(
        pair.a
            .events()
            .contains(&StreamEvent::Ready(tree.0, Interest::Consumed))
    );
    assert_eq!(pair.a.poll_consumed(tree.0), Poll::Ready(Err(stopped(Code::app(2)))));
    let reason = CloseReason::PeerRestarted;
    pair.a.fail_all(&reason);
    assert_eq!(pair.a.poll_consumed(a), Poll::Ready(Err(WriteError::Lost(reason))));
}

// spec: STR-48, STR-49
#[test]
fn a_tree_reset_by_the_reader_never_looks_like_reading() {
    // The stream retires at the reader before the peer has heard of the reset of the tree.
    let mut pair = Pair::new();
    let top = pair.stream();
    let (child_a, child_b) = pair.child(top);
    pair.a.write_all(child_a, b"unread");
    pair.a.finish(child_a).unwrap();
    pair.b.finish(child_b).unwrap();
    pair.run();
    pair.b.release(child_b);
    let (child_a, child_b) = {
        let both = pair.child(top);
        pair.a.write_all(both.0, b"unread");
        pair.a.finish(both.0).unwrap();
        pair.b.finish(both.1).unwrap();
        pair.run();
        both
    };
    pair.b.reset_tree(top.1, Code::app(2), "");
    pair.b.release(child_b);
    let lost = pair.b.packet(ROOM).unwrap();
    assert_eq!(pair.a.poll_consumed(child_a), Poll::Pending);
    let question = pair.a.packet(ROOM).unwrap();
    pair.b.take(&question).unwrap();
    pair.b.lost(&lost);
    pair.run();
    assert_eq!(pair.a.poll_consumed(child_a), Poll::Ready(Err(stopped(Code::app(2)))));
}

// spec: STR-47
#[test]
fn the_question_waits_until_the_peer_knows_the_stream() {
    let mut pair = Pair::new();
    let key = pair.a.open_top_level("svc", "v1").unwrap();
    pair.a.finish(key).unwrap();
    assert_eq!(pair.a.poll_consumed(key), Poll::Pending);
    let announced = Some(Init::top_level(b"svc", b"v1").with_credit(0, 0, STREAM_BORROW));
    let init = sent!(pair.a, [stream_frame(1, announced, 0, b"", true)]);
    sent!(pair.a, []);
    pair.b.take(&init).unwrap();
    pair.a.acked(&init);
    sent!(pair.a, [Watch { lsid: 1 }]);
}

// spec: STR-48
#[test]
fn refused_streams_are_never_consumed() {
    // Refused without being kept, while the refusal is under way.
    let mut pair = Pair::new();
    let (a, b) = finished(&mut pair, 0);
    pair.b.finish(b).unwrap();
    assert_eq!(pair.b.read_now(b), Poll::Ready(Ok(ReadOutcome::End)));
    pair.b.release(b);
    pair.run();
    let child = pair.a.open_substream(a).unwrap();
    pair.a.finish(child).unwrap();
    assert_eq!(pair.a.poll_consumed(child), Poll::Pending);
    let init = pair.a.packet(ROOM).unwrap();
    pair.b.take(&init).unwrap();
    pair.a.acked(&init);
    let (lsid, code) = (3, Code::PARENT_GONE);
    let refusal = sent!(pair.b, [reset(lsid, code, 0), stop(lsid, code)]);
    let question = sent!(pair.a, [Watch { lsid }]);
    pair.b.take(&question).unwrap();
    // The refusal is the answer.
    sent!(pair.b, []);
    pair.b.lost(&refusal);
    pair.run();
    let refused = WriteError::Refused(crate::refusal::Refusal::ParentGone);
    assert_eq!(pair.a.poll_consumed(child), Poll::Ready(Err(refused)));
    // Empty, finished, and refused.
    let key = pair.a.open_top_level("svc", "v1").unwrap();
    pair.a.finish(key).unwrap();
    assert_eq!(pair.a.poll_consumed(key), Poll::Pending);
    pair.run();
    let incoming = pair.b.take_incoming().unwrap();
    pair.b.refuse(incoming.key, Code::REFUSED_SERVICE);
    pair.run();
    assert!(matches!(
        pair.a.poll_consumed(key),
        Poll::Ready(Err(WriteError::Stopped { .. } | WriteError::Refused(_)))
    ));
}

// spec: FRM-11, STR-8, STR-48
#[test]
fn questions_and_answers_that_cannot_be() {
    let mut pair = Pair::new();
    pair.stream();
    received!(pair.b, [Watch { lsid: 3 }] => Code::STREAM_STATE);
    received!(pair.b, [Watch { lsid: 2 }] => Code::STREAM_STATE);
    received!(pair.b, [Consumed { lsid: 3 }] => Code::STREAM_STATE);
    // An end that was not sent.
    received!(pair.b, [Consumed { lsid: 1 }] => Code::STREAM_STATE);
    // Of a datagram.
    let init = Some(Init::datagram(1, 100_000, 100));
    received!(pair.b, [stream_frame(3, init, 0, &[0; 100], false)]);
    received!(pair.b, [Watch { lsid: 3 }] => Code::STREAM_STATE);
    received!(pair.b, [Consumed { lsid: 3 }] => Code::STREAM_STATE);
    // An answer to no question.
    let mut pair = Pair::new();
    let (a, b) = finished(&mut pair, 10);
    let lsid = pair.a.lsid_of(a);
    received!(pair.a, [Consumed { lsid }]);
    assert_eq!(pair.a.poll_consumed(a), Poll::Pending);
    pair.a.reset(a, Code::app(1), "");
    assert_eq!(pair.b.read_all(b).0.len(), 10);
}

// spec: STR-48
#[test]
fn a_storm_of_questions_is_bounded() {
    let mut pair = Pair::new();
    let (a, b) = finished(&mut pair, 0);
    assert_eq!(pair.b.read_now(b), Poll::Ready(Ok(ReadOutcome::End)));
    let lsid = pair.a.lsid_of(a);
    // Of a stream that was read the answer is kept once.
    for _ in 0..1000 {
        received!(pair.b, [Watch { lsid }]);
    }
    assert_eq!(pair.b.life.outbox.watches.answers(), 1);
    // Answers about others, until one more is too many.
    for n in 1..4 * MAX_WATCHES as u64 {
        pair.b.life.outbox.watches.answer(lsid + 4 * n);
    }
    received!(pair.b, [Watch { lsid }]);
    pair.b.life.outbox.watches.answer(lsid + 2);
    received!(pair.b, [Watch { lsid }] => Code::LIMIT);
    // Of an unread stream the question is kept once.
    let mut pair = Pair::new();
    let (a, _) = finished(&mut pair, 10);
    let lsid = pair.a.lsid_of(a);
    for _ in 0..1000 {
        received!(pair.b, [Watch { lsid }]);
    }
    assert_eq!(pair.b.life.outbox.watches.answers(), 0);
}

// spec: STR-48
#[test]
fn an_answer_that_waits_to_be_sent_is_not_sent_twice() {
    let mut pair = Pair::new();
    let (a, b) = finished(&mut pair, 0);
    let lsid = pair.a.lsid_of(a);
    received!(pair.b, [Watch { lsid }]);
    assert_eq!(pair.b.read_now(b), Poll::Ready(Ok(ReadOutcome::End)));
    received!(pair.b, [Watch { lsid }, Watch { lsid }]);
    let first = sent!(pair.b, [Consumed { lsid }]);
    received!(pair.b, [Watch { lsid }]);
    pair.b.lost(&first);
    sent!(pair.b, [Consumed { lsid }]);
    sent!(pair.b, []);
}

// spec: STR-47
#[test]
fn so_many_questions_and_no_more_are_open_at_a_time() {
    let mut pair = Pair::with_root(1 << 30);
    let count = MAX_WATCHES + 10;
    let keys: Vec<_> = (0..count)
        .map(|_| pair.a.open_top_level("svc", "v1").unwrap())
        .collect();
    let mut accepted = Vec::new();
    while accepted.len() < count {
        pair.run();
        let before = accepted.len();
        accepted.extend(std::iter::from_fn(|| pair.b.accept_any()));
        assert!(accepted.len() > before, "{before}");
    }
    for key in &keys {
        pair.a.finish(*key).unwrap();
        assert_eq!(pair.a.poll_consumed(*key), Poll::Pending);
    }
    pair.run();
    assert_eq!(pair.a.life.outbox.open_count(Topic::Consumed), MAX_WATCHES);
    assert!(!pair.a.wants());
    for key in accepted.iter().take(20) {
        assert_eq!(pair.b.read_now(*key), Poll::Ready(Ok(ReadOutcome::End)));
    }
    pair.run();
    assert_eq!(pair.a.life.outbox.open_count(Topic::Consumed), MAX_WATCHES - 10);
    let events = pair.a.events();
    assert_eq!(events.len(), 20);
    for key in &keys {
        pair.a.release(*key);
    }
    assert_eq!(
        pair.a.life.outbox.open_count(Topic::Consumed),
        0,
        "who lets go asks no more"
    );
}

// spec: STR-47
#[test]
fn reading_while_the_question_is_under_way_loses_no_answer() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    assert_eq!(pair.a.poll_consumed(a), Poll::Pending);
    pair.a.write_all(a, &[1; 1000]);
    let lsid = 1;
    let both = sent!(
        pair.a,
        [
            Watch { lsid },
            Stream {
                lsid,
                data: &[1; 1000],
                ..STREAM
            }
        ]
    );
    pair.b.take(&both).unwrap();
    assert_eq!(pair.b.read_all(b).0.len(), 1000);
    assert_eq!(pair.b.read_now(b), Poll::Pending);
    pair.a.finish(a).unwrap();
    // The end comes after everything was read.
    let fin = sent!(pair.a, [fin(lsid, 1000, b"")]);
    pair.b.take(&fin).unwrap();
    let answer = sent!(pair.b, [Consumed { lsid }]);
    pair.a.take(&answer).unwrap();
    assert_eq!(
        pair.a.poll_consumed(a),
        Poll::Ready(Ok(())),
        "before anything is acknowledged"
    );
    assert_eq!(pair.b.read_now(b), Poll::Ready(Ok(ReadOutcome::End)));
    assert_eq!(pair.b.read_now(b), Poll::Ready(Ok(ReadOutcome::End)));
    pair.b.release(b);
    assert!(matches!(pair.b.read_now(b), Poll::Ready(Err(ReadError::Closed))));
}

// spec: STR-47, STR-48
#[test]
fn what_was_reset_with_a_subtree_was_not_read() {
    let mut pair = Pair::new();
    let top = pair.stream();
    let (a, b) = pair.child(top);
    pair.a.write_all(a, b"unread");
    pair.a.finish(a).unwrap();
    pair.run();
    assert_eq!(pair.a.poll_consumed(a), Poll::Pending);
    let late = pair.a.packet(ROOM).unwrap();
    pair.a.reset_tree(top.0, Code::app(1), "");
    pair.run();
    pair.b.release(b);
    pair.run();
    // The stream is retired at b when it is asked.
    assert!(pair.b.life.tree.table.find(b).is_none());
    pair.b.take(&late).unwrap();
    pair.a.acked(&late);
    pair.run();
    assert!(matches!(pair.a.poll_consumed(a), Poll::Ready(Err(_))));
}

// spec: STR-8, STR-48
#[test]
fn of_a_retired_stream_the_answer_is_always_the_same_and_its_asker_knows_better() {
    let unread = |pair: &mut Pair, (a, b): (StreamKey, StreamKey)| {
        pair.b.stop(b, Code::app(9), "");
        pair.b.finish(b).unwrap();
        pair.b.release(b);
        let _ = pair.a.read_now(a);
    };
    let reset = |pair: &mut Pair, (a, b): (StreamKey, StreamKey)| {
        pair.a.reset(a, Code::app(9), "");
        pair.b.finish(b).unwrap();
        pair.run();
        let _ = pair.b.read_now(b);
        pair.b.release(b);
    };
    let tree = |pair: &mut Pair, (a, b): (StreamKey, StreamKey)| {
        pair.a.reset_tree(a, Code::app(9), "");
        pair.run();
        pair.b.release(b);
    };
    type End = fn(&mut Pair, (StreamKey, StreamKey));
    let ends: [End; 3] = [unread, reset, tree];
    for (n, end) in ends.into_iter().enumerate() {
        let mut pair = Pair::new();
        let both = pair.stream();
        let lsid = pair.a.lsid_of(both.0);
        pair.a.write_all(both.0, b"never read");
        pair.run();
        end(&mut pair, both);
        pair.run();
        assert_eq!(pair.b.len(), 0, "end {n}: retired");
        received!(pair.b, [Watch { lsid }]);
        let answer = sent!(pair.b, [Consumed { lsid }]);
        pair.a.take(&answer).unwrap();
        assert!(matches!(pair.a.poll_consumed(both.0), Poll::Ready(Err(_))), "end {n}");
    }
}
