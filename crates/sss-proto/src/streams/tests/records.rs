//! Records: marks among the bytes.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::budget::pair_with;
use super::*;
use crate::error::WriteError;
use crate::interest::Interest;
use crate::testing::compare;

impl Streams {
    /// The whole records that can be read, the bytes of one that has no mark yet, and what came then.
    fn read_records(&mut self, key: StreamKey) -> (Vec<Vec<u8>>, Vec<u8>, Polled) {
        let (mut records, mut rest) = (Vec::new(), Vec::new());
        loop {
            match self.read_now(key) {
                Poll::Ready(Ok(ReadOutcome::Chunk(bytes))) => rest.extend_from_slice(&bytes),
                Poll::Ready(Ok(ReadOutcome::Mark)) => records.push(std::mem::take(&mut rest)),
                other => return (records, rest, other),
            }
        }
    }

    fn recv_memory(&self, key: StreamKey) -> usize {
        let index = self.life.tree.table.find(key).unwrap();
        self.life.tree.table[index].recv.buf.as_ref().map_or(0, |b| b.memory())
    }
}

fn record_frame<'a>(lsid: u64, offset: u64, data: &'a [u8], fin: bool) -> Frame<'a> {
    Frame::Stream(Stream {
        lsid,
        init: None,
        offset,
        fin,
        mark: true,
        data,
    })
}

/// The record with a number: its length and bytes follow from that and the seed.
fn record(seed: u64, number: u64) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(seed * 1_000_003 + number);
    let longest = [1, 2, 30, 300, 4000, 30_000][rng.random_range(0..6)];
    let len = rng.random_range(0..longest);
    (0..len).map(|i| (i as u64 ^ number) as u8).collect()
}

// spec: STR-27, STR-28, STR-29
#[test]
fn records_survive_small_packets_loss_reordering_and_repetition() {
    let seeds = std::env::var("SSS_SEED").ok().and_then(|s| s.parse().ok());
    for seed in seeds.map_or(0..30, |s: u64| s..s + 1) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut pair = Pair::with_root(100_000);
        let (a, b) = pair.stream();
        let count = 200;
        let (mut written, mut wire) = (0, Vec::new());
        let (mut read, mut rest) = (0, Vec::new());
        let end = loop {
            while written < count && pair.a.poll_writable(a) == Poll::Ready(Ok(())) {
                let data = record(seed, written);
                match rng.random_range(0..3) {
                    0 => pair.a.write_record_bytes(a, data.into()).unwrap(),
                    1 if pair.a.info(a).unwrap().unsent < 100_000 => {
                        let (one, other) = data.split_at(rng.random_range(0..=data.len()));
                        pair.a.write_all(a, one);
                        pair.a.write_all(a, other);
                        pair.a.write_mark(a).unwrap();
                    }
                    _ => pair.a.write_record(a, &data).unwrap(),
                }
                written += 1;
                if written == count {
                    pair.a.finish(a).unwrap();
                }
            }
            while wire.len() < 30
                && let Some(packet) = pair.a.packet([40, 70, 300, ROOM][rng.random_range(0..4)])
            {
                wire.push(packet);
            }
            for _ in 0..15.min(wire.len()) {
                let packet = wire.swap_remove(rng.random_range(0..wire.len()));
                match rng.random_range(0..8) {
                    0 => pair.a.lost(&packet),
                    1 => {
                        pair.b.take(&packet).unwrap();
                        pair.a.lost(&packet);
                        pair.b.take(&packet).unwrap();
                    }
                    _ => {
                        pair.b.take(&packet).unwrap();
                        pair.a.acked(&packet);
                    }
                }
            }
            let last = loop {
                match pair.b.read(b, rng.random_range(1..5000)) {
                    Poll::Ready(Ok(ReadOutcome::Chunk(chunk))) => rest.extend_from_slice(&chunk),
                    Poll::Ready(Ok(ReadOutcome::Mark)) => {
                        assert_eq!(rest, record(seed, read), "seed {seed}: record {read}");
                        rest.clear();
                        read += 1;
                    }
                    other => break other,
                }
            };
            if last != Poll::Pending {
                break last;
            }
            while let Some(packet) = pair.b.packet(ROOM) {
                pair.a.take(&packet).unwrap();
                pair.b.acked(&packet);
            }
        };
        assert_eq!(
            (end, read, rest.len()),
            (Poll::Ready(Ok(ReadOutcome::End)), count, 0),
            "seed {seed}"
        );
        let info = pair.b.info(b).unwrap();
        assert_eq!(info.received, info.read, "seed {seed}");
    }
}

// spec: STR-27, FRM-8
#[test]
fn many_short_records_share_a_packet() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    for i in 0..100_u8 {
        pair.a.write_record(a, &vec![i; usize::from(i % 5)]).unwrap();
    }
    pair.a.finish(a).unwrap();
    let packet = pair.a.packet(ROOM).unwrap();
    // Each is as long as its bytes and a mark; the end stands behind the last mark.
    let records: Vec<_> = (0..100_u8).map(|i| vec![i; usize::from(i % 5)]).collect();
    let mut offset = 0;
    let mut frames = Vec::new();
    for (record, i) in records.iter().zip(1..) {
        frames.push(record_frame(1, offset, record, i == 100));
        offset += record.len() as u64 + 1;
    }
    compare(&packet.bytes, &frames);
    pair.b.take(&packet).unwrap();
    assert_eq!(pair.b.info(b).unwrap().received, 100 + 200);
    let (records, rest, end) = pair.b.read_records(b);
    assert!(records.iter().enumerate().all(|(i, r)| *r == vec![i as u8; i % 5]));
    assert_eq!(
        (records.len(), rest, end),
        (100, vec![], Poll::Ready(Ok(ReadOutcome::End)))
    );
    pair.a.acked(&packet);
    assert_eq!(pair.a.poll_drained(a), Poll::Ready(Ok(())));
}

// spec: STR-28
#[test]
fn lost_records_are_sent_again_in_other_frames_with_the_same_marks() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let records = [&b"one"[..], b"", b"", b"a longer record", b"x"];
    records.iter().for_each(|r| pair.a.write_record(a, r).unwrap());
    let lost = sent!(
        pair.a,
        [
            record_frame(1, 0, b"one", false),
            record_frame(1, 4, b"", false),
            record_frame(1, 5, b"", false),
            record_frame(1, 6, b"a longer record", false),
            record_frame(1, 22, b"x", false),
        ]
    );
    let marks = |packets: &[Packet]| -> Vec<u64> {
        let frames = packets.iter().flat_map(|p| p.streams()).filter(|f| f.mark);
        frames.map(|f| f.end() - 1).collect()
    };
    let first = marks(std::slice::from_ref(&lost));
    assert_eq!(first, [3, 4, 5, 21, 23]);
    pair.a.lost(&lost);
    let again: Vec<_> = std::iter::from_fn(|| pair.a.packet(9)).collect();
    assert!(again.len() > 3);
    assert_eq!(marks(&again), first);
    // All but the second packet arrive, then the first packet after all.
    for (i, packet) in again.iter().enumerate() {
        if i != 1 {
            pair.b.take(packet).unwrap();
            pair.a.acked(packet);
        }
    }
    pair.b.take(&lost).unwrap();
    assert_eq!(pair.b.read_records(b).0, records);
    // What was acknowledged is not sent a third time, marks included.
    pair.a.lost(&again[1]);
    let third = pair.a.packet(ROOM).unwrap();
    assert_eq!(marks(std::slice::from_ref(&third)), marks(&again[1..2]));
    pair.b.take(&third).unwrap();
    pair.a.acked(&third);
    assert!(!pair.a.wants());
    assert_eq!(pair.a.info(a).unwrap().unacked, 0);
}

// spec: STR-29
#[test]
fn a_piece_ends_at_a_mark_and_a_mark_is_told_once() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.write_record(a, b"ab").unwrap();
    pair.a.write_record(a, b"").unwrap();
    pair.a.write_all(a, b"cd");
    pair.run();
    let mut read = |max| pair.b.read(b, max);
    let chunk = |bytes: &'static [u8]| Poll::Ready(Ok(ReadOutcome::Chunk(Bytes::from_static(bytes))));
    assert_eq!(read(1), chunk(b"a"));
    assert_eq!(read(9), chunk(b"b"));
    assert_eq!(read(0), chunk(b""), "who asks for nothing passes no mark");
    assert_eq!(read(1), Poll::Ready(Ok(ReadOutcome::Mark)));
    assert_eq!(read(1), Poll::Ready(Ok(ReadOutcome::Mark)));
    assert_eq!(read(9), chunk(b"cd"));
    assert_eq!(read(9), Poll::Pending);
    pair.a.write_mark(a).unwrap();
    pair.a.finish(a).unwrap();
    pair.run();
    assert_eq!(pair.b.events(), [StreamEvent::Ready(b, Interest::Read)]);
    assert_eq!(
        pair.b.read_records(b),
        (vec![vec![]], vec![], Poll::Ready(Ok(ReadOutcome::End)))
    );
}

// spec: STR-27
#[test]
fn a_mark_needs_credit_as_a_byte_does() {
    let mut pair = Pair::with_root(65_536);
    let a = pair.a.open_top_level("svc", "v1").unwrap();
    // All that it may borrow; the mark is one too many.
    let most = 65_536 / 4;
    pair.a.write_record(a, &vec![7; most]).unwrap();
    pair.a.finish(a).unwrap();
    while let Some(packet) = pair.a.packet(ROOM) {
        assert!(packet.streams().iter().all(|f| !f.mark && !f.fin));
        pair.b.take(&packet).unwrap();
        pair.a.acked(&packet);
    }
    assert_eq!(pair.a.info(a).unwrap().unsent, 1);
    let b = pair.b.accept_any().unwrap();
    assert_eq!(pair.b.read_all(b), (vec![7; most], Poll::Pending));
    pair.run();
    assert_eq!(
        pair.b.read_records(b),
        (vec![vec![]], vec![], Poll::Ready(Ok(ReadOutcome::End)))
    );
    assert_eq!(pair.b.info(b).unwrap().received, most as u64 + 1);

    // A peer that takes one more than it has.
    let mut pair = Pair::with_root(65_536);
    let frame = Stream {
        lsid: 1,
        init: Some(Init::top_level(b"svc", b"v1").with_credit(0, most as u64, 0)),
        offset: most as u64 - 1,
        fin: false,
        mark: true,
        data: b"",
    };
    received!(pair.b, [Frame::Stream(frame)]);
    let error = pair.b.forged(&record_frame(1, most as u64, b"", false)).unwrap_err();
    assert_eq!(error.code, Code::CREDIT_EXCEEDED);
}

// spec: STR-12, STR-27
#[test]
fn a_mark_beyond_the_end_is_refused() {
    type Forgery = fn(u64) -> Frame<'static>;
    let cases: [(Forgery, bool); 8] = [
        (|lsid| record_frame(lsid, 4, b"", false), false),
        (|lsid| record_frame(lsid, 3, b"x", false), false),
        (|lsid| record_frame(lsid, 3, b"", true), true),
        (|lsid| record_frame(lsid, 2, b"", true), false),
        (|lsid| record_frame(lsid, 3, b"", false), true),
        (|lsid| stream_frame(lsid, None, 3, b"", true), false),
        (|lsid| reset_frame(lsid, 3), false),
        (|lsid| reset_frame(lsid, 4), true),
    ];
    for (case, (frame, is_right)) in cases.iter().enumerate() {
        let mut pair = Pair::new();
        let (a, _) = pair.stream();
        let lsid = pair.a.lsid_of(a);
        // A record of three bytes and the end: a final size of 4.
        received!(pair.b, [record_frame(lsid, 0, b"abc", true)]);
        let result = pair.b.forged(&frame(lsid)).map_err(|e| e.code);
        let expected = if *is_right { Ok(()) } else { Err(Code::FINAL_SIZE) };
        assert_eq!(result, expected, "case {case}");
    }
}

// spec: STR-29
#[test]
fn of_a_mark_and_a_byte_at_one_position_the_first_is_kept() {
    // Ahead of a gap, and without one.
    for offset in [1, 0] {
        let mut pair = Pair::new();
        let (a, b) = pair.stream();
        let lsid = pair.a.lsid_of(a);
        received!(pair.b, [record_frame(lsid, offset, b"12", false)]);
        received!(pair.b, [stream_frame(lsid, None, offset, b"xxxy", false)]);
        received!(pair.b, [record_frame(lsid, offset, b"", false)]);
        received!(pair.b, [record_frame(lsid, offset, b"zzz", true)]);
        received!(pair.b, [stream_frame(lsid, None, 0, b"0", false)]);
        let (records, rest, end) = pair.b.read_records(b);
        let first = if offset == 1 { &b"012"[..] } else { b"12" };
        assert_eq!((records, rest), (vec![first.to_vec()], b"y".to_vec()), "{offset}");
        assert_eq!(end, Poll::Ready(Ok(ReadOutcome::End)));
    }
}

/// A tree that grants much.
fn generous() -> Pair {
    let mut pair = Pair::with_root(64 << 20);
    pair.b.life.flow.windows = crate::streams::flow::windows::Windows::new(WindowConfig {
        per_stream_max: 4 << 20,
        start: 4 << 20,
        ..WindowConfig::default()
    });
    pair
}

// spec: STR-30
#[test]
fn a_million_marks_take_a_byte_or_two_each() {
    let mut pair = generous();
    let (a, b) = pair.stream();
    let million = 1_000_000;
    for _ in 0..million {
        pair.a.write_mark(a).unwrap();
    }
    pair.run();
    assert_eq!(pair.b.info(b).unwrap().received, million);
    let memory = pair.b.recv_memory(b);
    assert!(memory <= 3 * million as usize, "{memory} bytes");
    let (records, rest, end) = pair.b.read_records(b);
    assert_eq!((records.len() as u64, rest.len(), end), (million, 0, Poll::Pending));
    assert_eq!(pair.b.recv_memory(b), 0);
}

// spec: STR-30
#[test]
fn a_million_marks_ahead_of_a_gap_take_a_byte_or_two_each() {
    let mut pair = generous();
    let (a, b) = pair.stream();
    pair.a.write_all(a, &[1; 40_000]);
    pair.run();
    assert_eq!(pair.b.read_all(b).0.len(), 40_000);
    pair.run();
    let lsid = pair.a.lsid_of(a);
    let million = 1_000_000;
    for i in 0..million {
        received!(pair.b, [record_frame(lsid, 40_001 + i, b"", false)]);
    }
    assert_eq!(pair.b.read_now(b), Poll::Pending);
    let memory = pair.b.recv_memory(b);
    assert!(memory <= 2 * million as usize, "{memory} bytes");
    // The gap is filled, and all of them move at once.
    received!(pair.b, [record_frame(lsid, 40_000, b"", false)]);
    assert_eq!(pair.b.read_records(b).0.len() as u64, million + 1);
}

#[test]
fn a_record_is_taken_whole_or_not_at_all() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let big = vec![3; 3 << 20];
    pair.a.write_record(a, &big).unwrap();
    assert_eq!(pair.a.info(a).unwrap().unsent, big.len() as u64 + 1);
    assert_eq!(pair.a.poll_writable(a), Poll::Pending);
    let mut read = 0;
    while pair.a.events().is_empty() {
        pair.run();
        read += pair.b.read_all(b).0.len();
    }
    assert!(read >= big.len() - crate::streams::data::half::SEND_AHEAD as usize);
    assert_eq!(pair.a.poll_writable(a), Poll::Ready(Ok(())));
    pair.a.finish(a).unwrap();
    assert_eq!(pair.a.write_record(a, b"x"), Err(WriteError::Closed));
    assert_eq!(pair.a.write_record_bytes(a, Bytes::new()), Err(WriteError::Closed));
    assert_eq!(pair.a.write_mark(a), Err(WriteError::Closed));
    assert_eq!(pair.a.poll_writable(a), Poll::Ready(Err(WriteError::Closed)));
}

#[test]
fn the_sender_keeps_no_mark_that_is_acknowledged() {
    let mut pair = pair_with(WindowConfig::default());
    let (a, b) = pair.stream();
    for round in 0..50 {
        for i in 0..100 {
            // Long records lie in chunks of their own, with the placeholder between them.
            pair.a.write_record_bytes(a, vec![round; i * 50].into()).unwrap();
        }
        pair.run();
        let (records, rest, _) = pair.b.read_records(b);
        assert!(records.iter().enumerate().all(|(i, r)| *r == vec![round; i * 50]));
        assert_eq!((records.len(), rest.len()), (100, 0));
        pair.run();
        let index = pair.a.life.tree.table.find(a).unwrap();
        assert!(pair.a.life.tree.table[index].send.buf.is_none());
    }
}
