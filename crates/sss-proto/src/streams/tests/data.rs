//! Data, in order, once and exactly.

use super::budget::pair_with;
use super::*;
use crate::error::ReadError;
use crate::interest::Interest;
use crate::streams::data::half::SEND_AHEAD;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

fn bytes(seed: u64, n: usize) -> Vec<u8> {
    let mut data = vec![0; n];
    StdRng::seed_from_u64(seed).fill_bytes(&mut data);
    data
}

// spec: STR-11
#[test]
fn a_bulk_transfer_survives_loss_reordering_and_repetition() {
    for seed in 0..8 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut pair = Pair::new();
        let (a, b) = pair.stream();
        let data = bytes(seed, 3_000_000);
        let (mut written, mut read, mut wire) = (0, Vec::new(), Vec::new());
        loop {
            if written < data.len() {
                let n = rng.random_range(1..200_000).min(data.len() - written);
                written += pair.a.write(a, &data[written..written + n]).unwrap();
                if written == data.len() {
                    pair.a.finish(a).unwrap();
                }
            }
            while wire.len() < 40
                && let Some(packet) = pair.a.packet(ROOM)
            {
                wire.push(packet);
            }
            for _ in 0..20 {
                if wire.is_empty() {
                    break;
                }
                let packet = wire.swap_remove(rng.random_range(0..wire.len()));
                match rng.random_range(0..10) {
                    0 => pair.a.lost(&packet),
                    1 => {
                        // Arrived, but the acknowledgement did not.
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
            let max = rng.random_range(1..100_000);
            while let Poll::Ready(Ok(ReadOutcome::Chunk(chunk))) = pair.b.read(b, max) {
                assert!(chunk.len() <= max && !chunk.is_empty());
                read.extend_from_slice(&chunk);
            }
            while let Some(packet) = pair.b.packet(ROOM) {
                pair.a.take(&packet).unwrap();
                pair.b.acked(&packet);
            }
            if pair.a.poll_drained(a) == Poll::Ready(Ok(())) {
                break;
            }
        }
        let (rest, end) = pair.b.read_all(b);
        read.extend(rest);
        assert_eq!(end, Poll::Ready(Ok(ReadOutcome::End)), "seed {seed}");
        assert!(read == data, "seed {seed}");
    }
}

#[test]
fn data_is_written_without_a_copy_and_read_without_a_copy() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let mut chunk = Bytes::from(bytes(1, 1300));
    let all = chunk.clone();
    assert_eq!(pair.a.write_chunk(a, &mut chunk), Ok(1300));
    assert!(chunk.is_empty());
    let packet = pair.a.packet(ROOM).unwrap();
    pair.b.take(&packet).unwrap();
    let Poll::Ready(Ok(ReadOutcome::Chunk(read))) = pair.b.read_now(b) else {
        panic!("nothing to read");
    };
    assert_eq!(read, all);
    let range = packet.bytes.as_ptr_range();
    assert!(range.contains(&read.as_ptr()), "a slice of the packet");
}

#[test]
fn events_come_only_after_not_yet() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.write_all(a, b"1");
    pair.run();
    assert_eq!(pair.b.events(), []);
    assert_eq!(pair.b.read_all(b), (b"1".to_vec(), Poll::Pending));
    pair.a.write_all(a, b"2");
    pair.run();
    pair.a.write_all(a, b"3");
    pair.run();
    assert_eq!(pair.b.events(), [StreamEvent::Ready(b, Interest::Read)]);
    assert_eq!(pair.b.read_all(b).0, b"23");

    assert_eq!(pair.b.accept_substream(b), Ok(None));
    pair.a.open_substream(a).unwrap();
    pair.run();
    assert_eq!(
        pair.b.events(),
        [
            StreamEvent::Ready(b, Interest::Accept),
            StreamEvent::Ready(b, Interest::Read)
        ][..1]
    );

    assert_eq!(pair.a.poll_drained(a), Poll::Pending);
    pair.a.finish(a).unwrap();
    pair.run();
    assert_eq!(pair.a.events(), [StreamEvent::Ready(a, Interest::Drained)]);
    assert_eq!(pair.a.poll_drained(a), Poll::Ready(Ok(())));
    assert_eq!(pair.b.events(), [StreamEvent::Ready(b, Interest::Read)]);
    assert_eq!(pair.b.read_now(b), Poll::Ready(Ok(ReadOutcome::End)));
    assert_eq!(pair.b.read_now(b), Poll::Ready(Ok(ReadOutcome::End)));
}

#[test]
fn what_was_taken_back_is_not_sent_and_what_is_written_instead_is() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let old = vec![5; 3 << 20];
    let mut written = 0;
    while let n @ 1.. = pair.a.write(a, &old).unwrap() {
        written += n as u64;
        pair.run();
    }
    let taken = pair.a.take_back(a, 10);
    assert_eq!(taken, SEND_AHEAD - 10);
    assert_eq!(pair.a.take_back(a, 10), 0, "nothing is left to be taken back");
    pair.a.events();
    assert_eq!(pair.a.poll_sent(a), Poll::Pending);
    let mut read = Vec::new();
    while pair.a.poll_sent(a).is_pending() {
        read.extend(pair.b.read_all(b).0);
        pair.run();
    }
    assert_eq!(pair.a.write(a, &[6; 1000]), Ok(1000));
    pair.a.finish(a).unwrap();
    assert_eq!(pair.a.take_back(a, 10), 0, "the end is not taken back");
    pair.run();
    read.extend(pair.b.read_all(b).0);
    let (before, behind) = read.split_at((written - taken) as usize);
    assert!(before.iter().all(|byte| *byte == 5));
    assert_eq!(behind, [6; 1000]);
    assert_eq!(pair.b.read_now(b), Poll::Ready(Ok(ReadOutcome::End)));
}

#[test]
fn a_writer_waits_and_goes_on() {
    let mut pair = pair_with(WindowConfig::default());
    let (a, b) = pair.stream();
    let data = vec![5; 3 << 20];
    let n = pair.a.write(a, &data).unwrap();
    assert_eq!(n as u64, SEND_AHEAD);
    assert_eq!(pair.a.write(a, &data), Ok(0));
    pair.run();
    assert_eq!(pair.a.events(), [StreamEvent::Ready(a, Interest::Write)]);
    while pair.a.write(a, &data).unwrap() > 0 {}
    pair.run();
    assert_eq!(pair.a.events(), [], "the reader does not read");
    let mut read = 0;
    while pair.a.events().is_empty() {
        read += pair.b.read_all(b).0.len();
        pair.run();
    }
    assert!(read > 0 && pair.a.write(a, &data).unwrap() > 0);
}

#[test]
fn nothing_is_sent_before_the_role_is_known() {
    let mut a = Streams::new(StreamsConfig {
        window: WindowConfig::default(),
        seed: 1,
    });
    let key = a.open_top_level("svc", "v1").unwrap();
    a.write_all(key, &[1; 100_000]);
    assert!(!a.wants() && a.packet(ROOM).is_none());
    a.set_role(Role::Initiator);
    let mut sent = 0;
    while let Some(packet) = a.packet(ROOM) {
        sent += packet.streams().iter().map(|f| f.data.len()).sum::<usize>();
    }
    assert_eq!(sent, 65_536 / 4, "what a stream may take of what any peer grants");
    assert!(a.grant_root(65_535).is_err());
    a.grant_root(1 << 20).unwrap();
    a.on_credit(1, 100_000).unwrap();
    assert!(a.wants());
}

// spec: CHN-10
#[test]
fn packets_are_full_as_long_as_more_is_to_be_sent() {
    for (count, size) in [(200, 100), (3, 30_000), (1, 30_000), (40, 700)] {
        let mut pair = Pair::new();
        for _ in 0..count {
            let key = pair.a.open_top_level("svc", "v1").unwrap();
            pair.a.write_all(key, &vec![1; size]);
            pair.a.finish(key).unwrap();
        }
        while let Some(packet) = pair.a.packet(ROOM) {
            assert!(
                packet.bytes.len() == ROOM || !pair.a.wants(),
                "{count} of {size}: {}",
                packet.bytes.len()
            );
            if size < 200 {
                assert!(packet.streams().iter().all(|f| f.fin), "small data is not split");
            }
            pair.b.take(&packet).unwrap();
        }
        for _ in 0..count {
            let key = pair.b.accept_any().unwrap();
            assert_eq!(pair.b.read_all(key), (vec![1; size], Poll::Ready(Ok(ReadOutcome::End))));
        }
    }
}

// spec: FRM-2
#[test]
fn control_frames_go_before_data() {
    let mut pair = Pair::new();
    let (a1, _) = pair.stream();
    let (a2, _) = pair.stream();
    let (a3, b3) = pair.stream();
    pair.b.write_all(b3, &[1; 150_000]);
    pair.run();
    pair.a.write_all(a1, b"data");
    let _ = pair.a.read_all(a3);
    pair.a.reset(a2, Code::app(1), "");
    pair.a.stop(a2, Code::app(1), "");
    let code = Code::app(1);
    sent!(
        pair.a,
        [
            reset(3, code, 0),
            stop(3, code),
            credit(5, 327_680),
            data(1, 0, b"data"),
        ]
    );
}

// spec: FRM-6
#[test]
fn a_frame_that_carries_nothing_has_no_effect() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let lsid = pair.a.lsid_of(a);
    received!(pair.b, [stream_frame(lsid, None, 5000, b"", false)]);
    assert_eq!(pair.b.info(b).unwrap().received, 0);
    assert_eq!(pair.b.read_now(b), Poll::Pending);
}

#[test]
fn when_the_channel_ends_what_arrived_can_be_read() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let (a2, b2) = pair.stream();
    pair.a.write_all(a, b"whole");
    pair.a.finish(a).unwrap();
    pair.a.write_all(a2, b"part");
    pair.run();
    pair.b.accept_substream(b).unwrap();
    let reason = CloseReason::PeerRestarted;
    for end in [&mut pair.a, &mut pair.b] {
        end.fail_all(&reason);
        assert!(!end.wants() && end.packet(ROOM).is_none());
    }
    assert_eq!(pair.b.events(), [StreamEvent::Ready(b, Interest::Accept)]);
    assert_eq!(
        pair.b.read_all(b),
        (b"whole".to_vec(), Poll::Ready(Ok(ReadOutcome::End)))
    );
    assert_eq!(
        pair.b.read_all(b2),
        (b"part".to_vec(), Poll::Ready(Err(ReadError::Lost(reason.clone()))))
    );
    assert_eq!(pair.b.accept_substream(b), Err(reason.clone()));
    assert!(pair.a.write(a2, b"x").is_err() && pair.a.open_top_level("svc", "v1").is_err());
    assert_eq!(pair.a.poll_drained(a), Poll::Ready(Ok(())));
    for key in [b, b2] {
        pair.b.release(key);
    }
    assert!(pair.b.len() == 0 && pair.b.is_unused());
}

#[test]
fn every_waiting_operation_hears_of_the_end_of_the_channel() {
    let mut pair = Pair::new();
    let (a, _) = pair.stream();
    assert_eq!(pair.a.read_now(a), Poll::Pending);
    pair.a.accept_substream(a).unwrap();
    let _ = pair.a.poll_drained(a);
    while pair.a.write(a, &[0; 65_536]).unwrap() > 0 {}
    pair.a.fail_all(&CloseReason::Replaced);
    assert_eq!(
        pair.a.events(),
        [
            StreamEvent::Ready(a, Interest::Read),
            StreamEvent::Ready(a, Interest::Write),
            StreamEvent::Ready(a, Interest::Accept),
            StreamEvent::Ready(a, Interest::Drained)
        ]
    );
}

#[test]
fn the_end_is_read_with_the_last_bytes_and_with_no_others() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let read = |pair: &mut Pair, max| match pair.b.poll_read(Instant::default(), b, max) {
        Poll::Ready(Ok((ReadOutcome::Chunk(bytes), is_end))) => Some((bytes.len(), is_end)),
        Poll::Ready(outcome) => panic!("{outcome:?}"),
        Poll::Pending => None,
    };
    pair.a.write_all(a, &[1; 100]);
    pair.run();
    assert_eq!(read(&mut pair, 100), Some((100, false)), "more may come");
    assert_eq!(read(&mut pair, 100), None);
    pair.a.write_all(a, &[1; 100]);
    pair.a.finish(a).unwrap();
    pair.run();
    assert_eq!(read(&mut pair, 99), Some((99, false)), "one is left");
    assert_eq!(read(&mut pair, 99), Some((1, true)));
    let asked_again = pair.b.poll_read(Instant::default(), b, 1);
    assert_eq!(asked_again, Poll::Ready(Ok((ReadOutcome::End, true))));
}

#[test]
fn the_end_is_not_read_with_bytes_that_a_mark_follows() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.write_record(a, &[1; 10]).unwrap();
    pair.a.finish(a).unwrap();
    pair.run();
    let read = |pair: &mut Pair| pair.b.poll_read(Instant::default(), b, 100);
    assert!(matches!(
        read(&mut pair),
        Poll::Ready(Ok((ReadOutcome::Chunk(_), false)))
    ));
    assert_eq!(read(&mut pair), Poll::Ready(Ok((ReadOutcome::Mark, false))));
    assert_eq!(read(&mut pair), Poll::Ready(Ok((ReadOutcome::End, true))));
}
