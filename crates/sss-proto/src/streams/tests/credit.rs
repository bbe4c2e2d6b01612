//! Credit: both sides count alike, and nobody goes beyond.

use super::*;
use sss_wire::constants::{OPEN_COST, STREAM_BORROW};
use sss_wire::frame::Credit;

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

// spec: STR-17, STR-18
#[test]
fn a_new_stream_may_send_what_it_borrows() {
    let mut pair = Pair::new();
    let (a, _) = pair.stream();
    pair.a.write_all(a, &[0; 200_000]);
    assert_eq!(send_all(&mut pair), STREAM_BORROW);
    assert!(!pair.a.wants());
    let lsid = pair.a.lsid_of(a);
    pair.a.on_credit(lsid, STREAM_BORROW - 1).unwrap();
    assert!(!pair.a.wants(), "a lower limit is ignored");
    pair.a.on_credit(lsid, STREAM_BORROW + 1000).unwrap();
    pair.b.table[1].recv.limit += 1000;
    assert_eq!(send_all(&mut pair), 1000);
    assert_eq!(
        pair.a.table[0].send_charge(),
        OPEN_COST + STREAM_BORROW,
        "what is beyond is not borrowed"
    );
}

// spec: STR-18
#[test]
fn first_bytes_are_borrowed_from_all_ancestors() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let (child, _) = pair.child((a, b));
    let leaf = pair.a.open_substream(child).unwrap();
    pair.a.write_all(leaf, &[0; 1000]);
    send_all(&mut pair);
    let charge = |key: StreamKey| pair.a.table[key.index].send_charge();
    assert_eq!(charge(leaf), 1000);
    assert_eq!(charge(child), 1000 + OPEN_COST);
    assert_eq!(charge(a), 1000 + 2 * OPEN_COST);
    assert_eq!(pair.a.table[0].send_charge(), 1000 + 3 * OPEN_COST);
}

// spec: STR-18
#[test]
fn a_stream_waits_for_the_ancestor_whose_limit_keeps_it() {
    let mut pair = Pair::with_root(65_536);
    let (a, b) = pair.stream();
    let (a2, _) = pair.stream();
    let (child, _) = pair.child((a, b));
    pair.a.write_all(child, &[0; 100_000]);
    pair.a.write_all(a2, &[0; 100_000]);
    let sent = send_all(&mut pair);
    assert_eq!(sent, 65_536 - 3 * OPEN_COST, "the root's limit is used up");
    let (child_sent, a2_sent) = (pair.a.info(child).unwrap().sent, pair.a.info(a2).unwrap().sent);
    let lsid = pair.a.lsid_of(child);
    pair.a.on_credit(lsid, 1 << 20).unwrap();
    assert_eq!(send_all(&mut pair), 0, "its own limit was not what kept it");
    pair.a.on_credit(0, 65_536 + 500).unwrap();
    pair.b.table[0].recv.limit += 500;
    assert_eq!(send_all(&mut pair), 500);
    let total = pair.a.info(child).unwrap().sent + pair.a.info(a2).unwrap().sent;
    assert_eq!(total, child_sent + a2_sent + 500);
}

// spec: STR-18
#[test]
fn opening_waits_for_credit_too() {
    let mut pair = Pair::with_root(65_536);
    let keys: Vec<StreamKey> = (0..1000).map(|_| pair.a.open_top_level("svc", "v1").unwrap()).collect();
    send_all(&mut pair);
    assert_eq!(pair.b.len() as u64, 65_536 / OPEN_COST);
    assert!(!pair.a.wants());
    let mut accepted = 0;
    while accepted < 1000 {
        let key = pair.b.accept_any().expect("more come as credit is given back");
        pair.b.finish(key).unwrap();
        accepted += 1;
        pair.run();
    }
    assert_eq!(pair.b.len(), keys.len());
}

// spec: STR-19
#[test]
fn more_than_was_granted_closes_the_channel() {
    let exceeded = |b: &mut Streams, frame| b.forged(&frame).unwrap_err().code == Code::CREDIT_EXCEEDED;
    // Beyond the limit of the stream.
    let mut b = Pair::new().b;
    b.forged(&stream_frame(1, top_level(), STREAM_BORROW - 1, b"x", false))
        .unwrap();
    assert!(exceeded(
        &mut b,
        stream_frame(1, None, STREAM_BORROW + (192 << 10), b"x", false)
    ));
    // By a final size alone.
    let mut b = Pair::new().b;
    b.forged(&stream_frame(1, top_level(), 0, b"", false)).unwrap();
    assert!(exceeded(&mut b, reset_frame(1, 1 << 30)));
    let mut b = Pair::new().b;
    assert!(exceeded(&mut b, stream_frame(1, top_level(), 1 << 40, b"", true)));
    // Beyond the limit of the root, by data and by opening.
    let mut b = Pair::with_root(65_536).b;
    assert!(exceeded(
        &mut b,
        stream_frame(1, top_level(), STREAM_BORROW - 100, b"x", false)
    ));
    let mut b = Pair::with_root(65_536).b;
    for lsid in (1..2 * 256).step_by(2) {
        b.forged(&stream_frame(lsid, top_level(), 0, b"", false)).unwrap();
    }
    assert!(exceeded(&mut b, stream_frame(513, top_level(), 0, b"", false)));
    // Beyond the limit of a parent.
    let mut b = Pair::new().b;
    b.forged(&stream_frame(1, top_level(), 0, b"", false)).unwrap();
    b.forged(&stream_frame(3, Some(Init::substream(1)), 30_000, b"x", false))
        .unwrap();
    b.table[1].recv.limit = STREAM_BORROW;
    assert!(exceeded(
        &mut b,
        stream_frame(5, Some(Init::substream(1)), 40_000, b"x", false)
    ));
}

// spec: STR-20
#[test]
fn what_is_read_or_discarded_is_given_back() {
    let mut pair = Pair::with_root(65_536);
    // Read, reset, refused, stopped, dropped: after each, the root's credit is whole again.
    for round in 0..100 {
        let a = pair.a.open_top_level("svc", "v1").unwrap();
        pair.a.write_all(a, &[0; 30_000]);
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
            _ => assert_eq!(pair.b.read_all(b).0.len(), 30_000),
        }
        pair.run();
        let root = pair.b.table[0].gauge();
        assert_eq!(root.charge, root.consumed, "round {round}");
        assert_eq!(pair.a.table[0].send_charge(), root.charge, "round {round}");
        assert!(pair.a.table[0].send_room() >= 32_768, "round {round}");
        pair.a.release(a);
        pair.b.release(b);
        pair.run();
        assert_eq!((pair.a.len(), pair.b.len()), (0, 0), "round {round}");
    }
}

// spec: STR-20
#[test]
fn a_small_request_and_answer_cause_no_credit_frames() {
    let mut pair = Pair::new();
    for _ in 0..100 {
        let a = pair.a.open_top_level("svc", "v1").unwrap();
        pair.a.write_all(a, &[1; 100]);
        pair.a.finish(a).unwrap();
        let request = pair.a.packet(ROOM).unwrap();
        assert_eq!(request.frames().len(), 1);
        pair.b.take(&request).unwrap();
        pair.a.acked(&request);
        let b = pair.b.accept_any().unwrap();
        assert_eq!(pair.b.read_all(b), (vec![1; 100], Ok(ReadOutcome::End)));
        pair.b.write_all(b, &[2; 1000]);
        pair.b.finish(b).unwrap();
        pair.b.release(b);
        let answer = pair.b.packet(ROOM).unwrap();
        assert_eq!(answer.frames().len(), 1);
        pair.a.take(&answer).unwrap();
        pair.b.acked(&answer);
        assert_eq!(pair.a.read_all(a), (vec![2; 1000], Ok(ReadOutcome::End)));
        pair.a.release(a);
        assert_eq!((pair.a.len(), pair.b.len()), (0, 0));
        assert!(!pair.a.wants() && !pair.b.wants());
    }
}

// spec: STR-21
#[test]
fn a_finished_parent_still_gets_credit_for_its_children() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.finish(a).unwrap();
    pair.run();
    assert_eq!(pair.b.read_now(b), Ok(ReadOutcome::End));
    for _ in 0..50 {
        let (child_a, child_b) = pair.child((a, b));
        pair.a.write_all(child_a, &[3; 30_000]);
        pair.a.finish(child_a).unwrap();
        pair.run();
        assert_eq!(pair.b.read_all(child_b), (vec![3; 30_000], Ok(ReadOutcome::End)));
        pair.a.release(child_a);
        pair.b.release(child_b);
        pair.run();
    }
}

// spec: STR-21
#[test]
fn the_last_credit_of_a_stream_allows_one_more_child() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.write_all(a, &[0; STREAM_BORROW as usize]);
    pair.a.finish(a).unwrap();
    pair.b.finish(b).unwrap();
    while let Some(packet) = pair.a.packet(ROOM) {
        pair.b.take(&packet).unwrap();
        pair.a.acked(&packet);
    }
    assert_eq!(pair.a.table[a.index].send_room(), 0);
    let _ = pair.b.read_all(b);
    pair.b.release(b);
    let lost = pair.b.packet(ROOM).unwrap();
    pair.b.lost(&lost);
    pair.run();
    assert_eq!(pair.b.len(), 0);
    assert!(pair.a.table[a.index].send_room() >= 4096);
    let child = pair.a.open_substream(a).unwrap();
    pair.run();
    let refused = pair.a.read_now(child);
    assert!(
        matches!(
            refused,
            Err(crate::error::ReadError::Refused(crate::refusal::Refusal::ParentGone))
        ),
        "{refused:?}"
    );
}

// spec: STR-17, REC-5
#[test]
fn lost_credit_is_sent_again_with_its_present_value() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.write_all(a, &[0; 500_000]);
    send_all(&mut pair);
    let _ = pair.b.read_all(b);
    let lost = pair.b.packet(ROOM).unwrap();
    let [Frame::Credit(Credit { lsid: 1, limit })] = lost.frames()[..] else {
        panic!("{:?}", lost.frames());
    };
    assert!(pair.b.packet(ROOM).is_none());
    pair.b.lost(&lost);
    let again = pair.b.packet(ROOM).unwrap();
    let [
        Frame::Credit(Credit {
            lsid: 1,
            limit: present,
        }),
    ] = again.frames()[..]
    else {
        panic!("{:?}", again.frames());
    };
    assert!(present >= limit);
    pair.a.take(&again).unwrap();
    pair.b.acked(&again);
    pair.b.lost(&lost);
    assert!(pair.b.packet(ROOM).is_none(), "a newer one has arrived");
    assert!(send_all(&mut pair) > 0);
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
            while let Ok(ReadOutcome::Chunk(_)) = pair.b.read(now, b, usize::MAX) {}
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
