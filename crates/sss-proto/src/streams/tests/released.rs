//! AWAIT and RELEASED: the peer can open or send nothing more on a stream.

use sss_wire::constants::MAX_WATCHES;
use sss_wire::frame::{Await, Datagram, Released};

use super::*;
use crate::interest::Interest;
use crate::streams::{DatagramOptions, ListenMode};

type Accepted = Poll<Result<Option<StreamKey>, CloseReason>>;
type Received = Poll<Result<Option<Bytes>, ReadError>>;

const END: Accepted = Poll::Ready(Ok(None));
const NO_MORE: Received = Poll::Ready(Ok(None));

impl Streams {
    fn next_datagram(&mut self, key: StreamKey) -> Received {
        self.poll_recv_datagram(Instant::default(), key)
    }

    fn send(&mut self, key: StreamKey, data: &[u8], reliable: bool) {
        let options = DatagramOptions {
            reliable,
            ..DatagramOptions::default()
        };
        let sent = self.send_datagram(Instant::default(), key, &Bytes::copy_from_slice(data), &options);
        assert!(matches!(sent, Ok(Some(_))), "{sent:?}");
    }
}

fn state(result: Result<(), ProtocolError>) {
    assert_eq!(result.unwrap_err().code, Code::STREAM_STATE);
}

// spec: STR-70, STR-71, STR-72
#[test]
fn who_waits_is_told_when_the_peer_lets_go() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    // The end of the bytes says nothing of children.
    pair.a.finish(a).unwrap();
    assert_eq!(pair.b.poll_accept_substream(b), Poll::Pending);
    pair.run();
    assert!(pair.b.events().is_empty());
    let child = pair.a.open_substream(a).unwrap();
    pair.run();
    assert_eq!(pair.b.events(), [StreamEvent::Ready(b, Interest::Accept)]);
    assert!(matches!(pair.b.poll_accept_substream(b), Poll::Ready(Ok(Some(_)))));
    assert_eq!(pair.b.poll_accept_substream(b), Poll::Pending);
    assert!(pair.b.next_datagram(b).is_pending());
    // Credit for the child; the question is asked once.
    sent!(pair.b, [credit(3, STREAM_BORROW)]);
    pair.a.release(a);
    pair.run();
    let told = [
        StreamEvent::Ready(b, Interest::Accept),
        StreamEvent::Ready(b, Interest::RecvDatagram),
    ];
    assert_eq!(pair.b.events(), told);
    for _ in 0..2 {
        assert_eq!(pair.b.poll_accept_substream(b), END);
        assert_eq!(pair.b.next_datagram(b), NO_MORE);
    }
    // What was opened before goes on, and so does what this host opens.
    pair.a.write_all(child, b"on");
    assert!(pair.a.open_substream(child).is_ok());
    assert!(pair.b.open_substream(b).is_ok());
    pair.run();
}

// spec: STR-70, STR-71, FRM-20
#[test]
fn question_and_answer_are_repeated_when_they_are_lost() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let lsid = pair.a.lsid_of(a);
    assert!(pair.b.poll_accept_substream(b).is_pending());
    for _ in 0..2 {
        let question = sent!(pair.b, [Await { lsid }]);
        pair.a.take(&question).unwrap();
        pair.b.lost(&question);
    }
    pair.run();
    pair.a.finish(a).unwrap();
    pair.run();
    pair.a.release(a);
    received!(pair.a, [Await { lsid }]);
    let first = sent!(pair.a, [stop(lsid, Code::UNREAD), Released { lsid }]);
    pair.a.lost(&first);
    pair.run();
    assert_eq!(pair.b.poll_accept_substream(b), END);
    assert_eq!(pair.b.life.outbox.open_count(Topic::Released), 0);
    // It comes late, and twice.
    pair.b.take(&first).unwrap();
    sent!(pair.b, []);
    assert_eq!(pair.b.poll_accept_substream(b), END);
}

// spec: STR-71
#[test]
fn the_answer_overtakes_no_child() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    assert!(pair.b.poll_accept_substream(b).is_pending());
    pair.run();
    let children = [0; 3].map(|_| pair.a.open_substream(a).unwrap());
    let opened = [(3, 256), (5, 172), (7, 129)].map(|(lsid, borrow)| announce(lsid, child_lent(1, 0, borrow)));
    let init = sent!(pair.a, [opened[0], opened[1], opened[2]]);
    for child in children {
        pair.a.release(child);
    }
    pair.a.release(a);
    // RESET of each, with INIT before it, and no answer.
    let reset = |lsid| reset(lsid, Code::DROPPED, 0);
    let resets = sent!(
        pair.a,
        [
            opened[0],
            reset(3),
            opened[1],
            reset(5),
            opened[2],
            reset(7),
            reset(1),
            stop(1, Code::UNREAD),
        ]
    );
    pair.a.lost(&init);
    pair.a.lost(&resets);
    let again = sent!(
        pair.a,
        [
            opened[0],
            reset(3),
            opened[1],
            reset(5),
            opened[2],
            reset(7),
            reset(1),
            stop(1, Code::UNREAD),
        ]
    );
    pair.b.take(&again).unwrap();
    pair.a.acked(&again);
    pair.run();
    for _ in 0..3 {
        assert!(matches!(pair.b.poll_accept_substream(b), Poll::Ready(Ok(Some(_)))));
    }
    assert_eq!(pair.b.poll_accept_substream(b), END);
    // A packet that comes late says nothing new.
    pair.b.take(&init).unwrap();
    assert_eq!(pair.b.poll_accept_substream(b), END);
}

// spec: STR-71, STR-72
#[test]
fn the_answer_overtakes_no_datagram() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    assert!(pair.b.next_datagram(b).is_pending());
    pair.run();
    // One that waits for its turn, and then one that is under way.
    pair.a.send(a, b"first", false);
    pair.a.finish(a).unwrap();
    pair.a.release(a);
    let (lsid, data) = (1, b"first");
    let datagram = sent!(
        pair.a,
        [stop(lsid, Code::UNREAD), Datagram { lsid, data }, fin(lsid, 0, b"")]
    );
    // It may not have arrived.
    sent!(pair.a, []);
    pair.b.take(&datagram).unwrap();
    pair.a.acked(&datagram);
    let answer = sent!(pair.a, [Released { lsid }]);
    pair.b.take(&answer).unwrap();
    assert_eq!(
        pair.b.next_datagram(b),
        Poll::Ready(Ok(Some(Bytes::from_static(b"first"))))
    );
    assert_eq!(pair.b.next_datagram(b), NO_MORE);
}

// spec: STR-71
#[test]
fn a_datagram_that_is_lost_holds_nobody_up() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    assert!(pair.b.next_datagram(b).is_pending());
    pair.run();
    pair.a.send(a, b"lost", false);
    let datagram = pair.a.packet(ROOM).unwrap();
    pair.a.release(a);
    pair.run();
    assert!(pair.b.next_datagram(b).is_pending());
    pair.a.lost(&datagram);
    pair.run();
    assert_eq!(pair.b.next_datagram(b), NO_MORE);
    // It was late, and its sender had given it up.
    let before = pair.b.datagram_stats().dropped_unheld;
    pair.b.take(&datagram).unwrap();
    assert_eq!(pair.b.next_datagram(b), NO_MORE);
    assert_eq!(pair.b.datagram_stats().dropped_unheld, before + 1);
    pair.b.release(b);
    pair.run();
    assert_eq!((pair.a.len(), pair.b.len()), (0, 0));
}

// spec: STR-72
#[test]
fn a_datagram_of_which_a_part_has_arrived_comes_before_the_end() {
    for is_given_up in [false, true] {
        let mut pair = Pair::new();
        let (a, b) = pair.stream();
        assert!(pair.b.next_datagram(b).is_pending());
        pair.run();
        pair.a.send(a, &[7; 3000], true);
        let first = pair.a.packet(ROOM).unwrap();
        pair.b.take(&first).unwrap();
        pair.a.acked(&first);
        pair.a.release(a);
        let second = pair.a.packet(ROOM).unwrap();
        assert!(second.frames().iter().any(|f| matches!(f, Frame::Released(_))));
        let lsid = first.streams()[0].lsid;
        for frame in second.frames().iter().filter(|f| matches!(f, Frame::Released(_))) {
            pair.b.on_frame(frame, &second.bytes).unwrap();
        }
        assert!(pair.b.next_datagram(b).is_pending());
        assert_eq!(pair.b.poll_accept_substream(b), END);
        if is_given_up {
            let size = first.streams()[0].end();
            received!(pair.b, [reset_frame(lsid, size)]);
            assert_eq!(pair.b.events(), [StreamEvent::Ready(b, Interest::RecvDatagram)]);
        } else {
            pair.a.lost(&second);
            pair.run();
            let whole = Bytes::from(vec![7; 3000]);
            assert_eq!(pair.b.next_datagram(b), Poll::Ready(Ok(Some(whole))));
        }
        assert_eq!(pair.b.next_datagram(b), NO_MORE);
    }
}

// spec: STR-71
#[test]
fn of_a_retired_stream_the_answer_is_at_once() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.finish(a).unwrap();
    pair.b.finish(b).unwrap();
    pair.run();
    assert_eq!(pair.a.read_now(a), Poll::Ready(Ok(ReadOutcome::End)));
    pair.a.release(a);
    pair.run();
    assert_eq!(pair.a.len(), 0);
    assert!(pair.b.poll_accept_substream(b).is_pending());
    pair.run();
    assert_eq!(pair.b.events(), [StreamEvent::Ready(b, Interest::Accept)]);
    assert_eq!(pair.b.poll_accept_substream(b), END);
    // Also if the question was there before.
    let (a, b) = pair.stream();
    assert!(pair.b.poll_accept_substream(b).is_pending());
    pair.run();
    pair.b.finish(b).unwrap();
    pair.a.finish(a).unwrap();
    pair.run();
    assert_eq!(pair.a.read_now(a), Poll::Ready(Ok(ReadOutcome::End)));
    pair.a.release(a);
    pair.run();
    assert_eq!(pair.a.len(), 0);
    assert_eq!(pair.b.poll_accept_substream(b), END);
}

// spec: STR-70, STR-71
#[test]
fn a_stream_that_waits_to_be_accepted_may_still_have_children() {
    let mut pair = Pair::new();
    let a = pair.a.open_top_level("svc", "v1").unwrap();
    assert!(pair.a.poll_accept_substream(a).is_pending());
    // The peer must know it before it is asked.
    let init = sent!(pair.a, [announce(1, top_level())]);
    pair.b.take(&init).unwrap();
    pair.a.acked(&init);
    pair.run();
    assert!(pair.a.poll_accept_substream(a).is_pending());
    let b = pair.b.accept_any().unwrap();
    let _child = pair.b.open_substream(b).unwrap();
    pair.run();
    assert!(matches!(pair.a.poll_accept_substream(a), Poll::Ready(Ok(Some(_)))));
    pair.b.release(b);
    pair.run();
    assert_eq!(pair.a.poll_accept_substream(a), END);
}

// spec: STR-71
#[test]
fn refused_streams_have_no_children() {
    let mut pair = Pair::new();
    // By the application, before and after the question.
    for is_asked_before in [true, false] {
        let a = pair.a.open_top_level("svc", "v1").unwrap();
        if is_asked_before {
            assert!(pair.a.poll_accept_substream(a).is_pending());
        }
        pair.run();
        let incoming = pair.b.take_incoming().unwrap();
        pair.b.refuse(incoming.key, Code::REFUSED_SERVICE);
        pair.run();
        let _ = pair.a.poll_accept_substream(a);
        pair.run();
        assert_eq!(pair.a.poll_accept_substream(a), END);
    }
    // By a listen mode.
    let (a, b) = pair.stream();
    pair.b.set_listen_mode(b, ListenMode::Reject);
    let child = pair.a.open_substream(a).unwrap();
    assert!(pair.a.next_datagram(child).is_pending());
    pair.run();
    assert_eq!(pair.a.next_datagram(child), NO_MORE);
    // Without being kept.
    pair.a.finish(a).unwrap();
    pair.b.finish(b).unwrap();
    pair.a.release(child);
    pair.run();
    assert_eq!(pair.b.read_now(b), Poll::Ready(Ok(ReadOutcome::End)));
    pair.b.release(b);
    pair.run();
    let child = pair.a.open_substream(a).unwrap();
    assert!(pair.a.poll_accept_substream(child).is_pending());
    pair.run();
    assert_eq!(pair.a.poll_accept_substream(child), END);
    assert!(pair.a.poll_accept_substream(a) == END || pair.a.poll_accept_substream(a).is_pending());
    pair.run();
    assert_eq!(pair.a.poll_accept_substream(a), END);
}

// spec: STR-71
#[test]
fn a_stream_that_the_host_answers_itself_has_no_children() {
    let mut pair = Pair::new();
    let a = pair.a.open_top_level("svc", "v1").unwrap();
    assert!(pair.a.poll_accept_substream(a).is_pending());
    pair.run();
    let key = pair.b.take_incoming().unwrap().key;
    pair.b.answer(key, Bytes::from_static(b"answer"));
    pair.run();
    assert_eq!(pair.a.poll_accept_substream(a), END);
    assert_eq!(pair.a.read_all(a).0, b"answer");
}

// spec: STR-70, STR-74
#[test]
fn the_question_ends_with_the_stream() {
    let mut pair = Pair::new();
    let tops = [0; 3].map(|_| pair.stream());
    for (_, b) in tops {
        assert!(pair.b.poll_accept_substream(b).is_pending());
        assert!(pair.b.next_datagram(b).is_pending());
    }
    pair.run();
    assert_eq!(pair.b.life.outbox.open_count(Topic::Released), 3);
    // Who lets go asks no more.
    pair.b.release(tops[0].1);
    assert_eq!(pair.b.life.outbox.open_count(Topic::Released), 2);
    // The subtree is reset: that is said, and nothing else.
    let code = Code::app(2);
    pair.a.reset_tree(tops[1].0, code, "");
    pair.run();
    assert_eq!(pair.b.life.outbox.open_count(Topic::Released), 1);
    let reason = String::new();
    let ended = CloseReason::Peer { code, reason };
    assert_eq!(pair.b.poll_accept_substream(tops[1].1), Poll::Ready(Err(ended)));
    pair.a.release(tops[1].0);
    pair.run();
    assert!(matches!(pair.b.poll_accept_substream(tops[1].1), Poll::Ready(Err(_))));
    // The tree has ended.
    let reason = CloseReason::PeerRestarted;
    pair.b.events();
    pair.b.fail_all(&reason);
    let told = [
        StreamEvent::Ready(tops[2].1, Interest::Accept),
        StreamEvent::Ready(tops[2].1, Interest::RecvDatagram),
    ];
    assert_eq!(pair.b.events(), told);
    assert_eq!(pair.b.poll_accept_substream(tops[2].1), Poll::Ready(Err(reason)));
}

// spec: STR-71
#[test]
fn a_peer_whose_subtree_was_reset_answers_all_the_same() {
    let mut pair = Pair::new();
    let top = pair.stream();
    let (a, b) = pair.child(top);
    // Opened, and never sent: no one will ever hear of it.
    pair.a.open_substream(a).unwrap();
    let lsid = pair.a.lsid_of(a);
    received!(pair.a, [Await { lsid }]);
    pair.a.reset_tree(top.0, Code::app(1), "");
    pair.a.release(a);
    pair.a.release(top.0);
    pair.run();
    assert_eq!(pair.b.life.outbox.open_count(Topic::Released), 0);
    assert!(pair.a.life.outbox.awaits.is_unused());
    assert!(matches!(pair.b.poll_accept_substream(b), Poll::Ready(Err(_))));
}

// spec: STR-71
#[test]
fn a_child_that_nobody_will_ever_hear_of_holds_nobody_up() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    assert!(pair.b.poll_accept_substream(b).is_pending());
    pair.run();
    let child = pair.a.open_substream(a).unwrap();
    pair.a.release(a);
    pair.a.reset_tree(child, Code::app(1), "");
    pair.run();
    assert_eq!(pair.b.poll_accept_substream(b), END);
    pair.a.release(child);
    pair.run();
}

// spec: STR-8, STR-73, FRM-20
#[test]
fn questions_and_answers_that_cannot_be() {
    let mut pair = Pair::new();
    let (_, b) = pair.stream();
    for lsid in [2, 3, 4] {
        received!(pair.b, [Await { lsid }] => Code::STREAM_STATE);
        received!(pair.b, [Released { lsid }] => Code::STREAM_STATE);
    }
    // Of a datagram.
    let init = Some(Init::datagram(1, 100_000, 100));
    received!(pair.b, [stream_frame(3, init, 0, &[0; 100], false)]);
    received!(pair.b, [Await { lsid: 3 }] => Code::STREAM_STATE);
    received!(pair.b, [Released { lsid: 3 }] => Code::STREAM_STATE);
    // An answer to no question is as good.
    received!(pair.b, [Released { lsid: 1 }]);
    assert_eq!(pair.b.poll_accept_substream(b), END);
}

// spec: STR-72
#[test]
fn a_child_after_the_answer_ends_the_channel() {
    let mut pair = Pair::new();
    let top = pair.stream();
    let (_, child) = pair.child(top);
    received!(pair.b, [Released { lsid: 1 }]);
    // Known streams go on; a datagram that is late is dropped.
    let again = Some(Init::substream(1));
    received!(pair.b, [stream_frame(3, again, 0, b"known", false)]);
    assert_eq!(pair.b.read_all(child).0, b"known");
    pair.b
        .forged(&Frame::Datagram(Datagram { lsid: 1, data: b"late" }))
        .unwrap();
    assert_eq!(pair.b.next_datagram(top.1), NO_MORE);
    received!(pair.b, [stream_frame(5, Some(Init::substream(1)), 0, b"", false)] => Code::STREAM_STATE);
    state(
        pair.b
            .forged(&stream_frame(5, Some(Init::datagram(1, 5, 5)), 0, b"", false)),
    );
    // Below that child more may come.
    received!(pair.b, [stream_frame(5, Some(Init::substream(3)), 0, b"", false)]);
}

// spec: STR-71
#[test]
fn a_storm_of_questions_is_bounded() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let lsid = pair.b.lsid_of(b);
    // Of a stream that is held the question is kept once.
    for _ in 0..1000 {
        received!(pair.b, [Await { lsid }]);
    }
    assert_eq!(pair.b.life.outbox.awaits.answers(), 0);
    pair.a.finish(a).unwrap();
    pair.b.finish(b).unwrap();
    pair.run();
    assert_eq!(pair.b.read_now(b), Poll::Ready(Ok(ReadOutcome::End)));
    pair.b.release(b);
    assert_eq!(pair.b.life.outbox.awaits.answers(), 1);
    pair.run();
    // Of one that is retired the answer is.
    for _ in 0..1000 {
        received!(pair.b, [Await { lsid }]);
    }
    assert_eq!(pair.b.life.outbox.awaits.answers(), 1);
    // Answers about others, until one more is too many.
    for n in 1..4 * MAX_WATCHES as u64 {
        pair.b.life.outbox.awaits.answer(lsid + 4 * n);
    }
    received!(pair.b, [Await { lsid }]);
    pair.b.life.outbox.awaits.answer(lsid + 2);
    received!(pair.b, [Await { lsid }] => Code::LIMIT);
}

// spec: STR-71
#[test]
fn an_answer_that_waits_to_be_sent_is_not_sent_twice() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let lsid = pair.b.lsid_of(b);
    received!(pair.b, [Await { lsid }]);
    pair.b.release(b);
    received!(pair.b, [Await { lsid }, Await { lsid }]);
    let first = sent!(
        pair.b,
        [
            reset(lsid, Code::DROPPED, 0),
            stop(lsid, Code::UNREAD),
            Released { lsid }
        ]
    );
    // Whoever asks again has not got it. It may be lost, too.
    received!(pair.b, [Await { lsid }]);
    pair.b.lost(&first);
    let again = sent!(
        pair.b,
        [
            reset(lsid, Code::DROPPED, 0),
            stop(lsid, Code::UNREAD),
            Released { lsid }
        ]
    );
    pair.a.take(&again).unwrap();
    pair.b.acked(&again);
    pair.a.release(a);
    pair.run();
    assert_eq!((pair.a.len(), pair.b.len()), (0, 0));
    // The same when the stream is retired.
    received!(pair.b, [Await { lsid }, Await { lsid }]);
    sent!(pair.b, [Released { lsid }]);
    received!(pair.b, [Await { lsid }]);
    sent!(pair.b, [Released { lsid }]);
    sent!(pair.b, []);
}

// spec: STR-70
#[test]
fn so_many_questions_and_no_more_are_open_at_a_time() {
    let mut pair = Pair::with_root(1 << 30);
    let count = MAX_WATCHES + 10;
    let keys: Vec<_> = (0..count)
        .map(|_| pair.a.open_top_level("svc", "v1").unwrap())
        .collect();
    pair.run();
    let accepted: Vec<_> = std::iter::from_fn(|| pair.b.accept_any()).collect();
    assert_eq!(accepted.len(), count);
    for key in &accepted {
        assert!(pair.b.poll_accept_substream(*key).is_pending());
    }
    pair.run();
    assert_eq!(pair.b.life.outbox.open_count(Topic::Released), MAX_WATCHES);
    assert!(!pair.b.wants());
    for key in keys.iter().take(20) {
        pair.a.release(*key);
    }
    pair.run();
    assert_eq!(pair.b.life.outbox.open_count(Topic::Released), MAX_WATCHES - 10);
    assert_eq!(pair.b.events().len(), 20);
}

// spec: STR-70
#[test]
fn who_does_not_wait_sends_not_one_frame_more() {
    let mut pair = Pair::new();
    let session = pair.stream();
    let mut seen = Vec::new();
    for _ in 0..100 {
        let a = pair.a.open_substream(session.0).unwrap();
        pair.a.write_all(a, b"request");
        pair.a.finish(a).unwrap();
        let request = pair.a.packet(ROOM).unwrap();
        pair.b.take(&request).unwrap();
        pair.a.acked(&request);
        let Poll::Ready(Ok(Some(b))) = pair.b.poll_accept_substream(session.1) else {
            panic!("it has arrived")
        };
        assert_eq!(pair.b.read_all(b).1, Poll::Ready(Ok(ReadOutcome::End)));
        pair.b.write_all(b, b"answer");
        pair.b.finish(b).unwrap();
        let answer = pair.b.packet(ROOM).unwrap();
        pair.a.take(&answer).unwrap();
        pair.b.acked(&answer);
        pair.b.release(b);
        assert_eq!(pair.a.read_all(a).1, Poll::Ready(Ok(ReadOutcome::End)));
        pair.a.release(a);
        let credit = |frame: &Frame<'_>| matches!(frame, Frame::Credit(_) | Frame::OpenCredit(_));
        seen.extend(request.frames().iter().filter(|f| !credit(f)).map(|_| 'a'));
        seen.extend(answer.frames().iter().filter(|f| !credit(f)).map(|_| 'b'));
        for side in [&mut pair.a, &mut pair.b] {
            while let Some(more) = side.packet(ROOM) {
                assert!(more.frames().iter().all(credit), "{:?}", more.frames());
                side.acked(&more);
            }
        }
        assert_eq!((pair.a.len(), pair.b.len()), (1, 1));
    }
    assert_eq!(seen.len(), 200, "one frame each way");
    assert!(pair.b.poll_accept_substream(session.1).is_pending());
    sent!(pair.b, [Await { lsid: 1 }]);
}
