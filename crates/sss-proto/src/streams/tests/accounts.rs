//! Openings accounts under attack: senders that take what is accepted for waiting, queues that stall, peers that keep
//! to no rule.

use super::*;
use crate::streams::DatagramOptions;
use crate::streams::tree::index::ROOT;
use sss_wire::constants::MAX_DEPTH;
use sss_wire::frame::{Credit, OpenCredit};

const RELIABLE: DatagramOptions = DatagramOptions {
    reliable: true,
    deadline: None,
    priority: 0,
    tracked: false,
};

fn datagram(streams: &mut Streams, key: StreamKey, size: usize) {
    let bytes = Bytes::from(vec![1; size]);
    streams
        .send_datagram(Instant::default(), key, &bytes, &RELIABLE)
        .unwrap();
}

fn taken(streams: &mut Streams, key: StreamKey, second: u64) -> Option<usize> {
    let taken = streams
        .recv_datagram(Instant::from_nanos(second * 1_000_000_000), key)
        .unwrap();
    taken.map(|bytes| bytes.len())
}

// spec: STR-56, STR-59
#[test]
fn acceptances_and_datagrams_are_told_apart_and_both_are_told() {
    // So many streams with so many bytes are accepted, and are silent then, and so many datagrams of so many bytes are
    // taken, in turn.
    let small_streams = [
        (1, 0, 1, 30_000),
        (3, 0, 1, 20_000),
        (20, 0, 1, 8000),
        (20, 0, 1, 5000),
        (10, 0, 1, 12_000),
        (1, 10, 1, 600),
    ];
    let small_datagrams = [
        (1, 30_000, 1, 600),
        (1, 4000, 3, 100),
        (1, 8000, 15, 700),
        (1, 12_000, 8, 700),
    ];
    for (streams, len, datagrams, size) in small_streams.into_iter().chain(small_datagrams) {
        let mut pair = Pair::new();
        let (a, b) = pair.stream();
        let mut held = Vec::new();
        pair.b.life.flow.windows.now = Instant::default();
        for round in 0..300 {
            for _ in 0..streams {
                let child = pair.a.open_substream(a).unwrap();
                pair.a.write_all(child, &vec![1; len]);
                pair.a.finish(child).unwrap();
                held.push(child);
                pair.run();
                let child = pair.b.accept_substream(b).unwrap();
                child.unwrap_or_else(|| panic!("round {round}: {:?}", pair.a.lent(a.index)));
            }
            for _ in 0..datagrams {
                datagram(&mut pair.a, a, size);
                pair.run();
                assert_eq!(taken(&mut pair.b, b, round), Some(size), "round {round}");
            }
        }
        pair.run();
        let waits = pair.a.believed_waiting(a.index);
        let room = pair.b.backing(b.index);
        assert!(waits.0 <= (room.2 - room.0) / 3, "{waits:?} of {room:?}");
        assert!(waits.1 <= (room.2 - room.0) / 3, "{waits:?} of {room:?}");
    }
}

// spec: STR-18, STR-53
#[test]
fn a_child_does_not_wait_for_those_who_wait_for_its_parents_acceptor() {
    let mut pair = Pair::with_root(65_536);
    for _ in 0..100 {
        pair.a.open_top_level("svc", "v1").unwrap();
    }
    pair.run();
    let parent = pair.a.open_top_level("svc", "v1").unwrap();
    for _ in 0..1000 {
        pair.a.open_top_level("svc", "v1").unwrap();
    }
    let child = pair.a.open_substream(parent).unwrap();
    pair.a.write_all(child, &[1; 9000]);
    pair.run();
    assert!(!pair.a.life.tree.table[parent.index].has(Flags::ANNOUNCED), "it waits");
    // Some are accepted, until the parent is among those that wait at the service.
    let theirs = loop {
        let next = pair.b.take_incoming().expect("it comes").key;
        assert!(pair.b.accept_top_level(next));
        pair.run();
        if pair.a.life.tree.table[parent.index].has(Flags::ANNOUNCED) {
            break pair.a.lsid_of(parent);
        }
    };
    // From now on the service accepts nothing but the parent.
    while let Some(next) = pair.b.take_incoming() {
        if pair.b.lsid_of(next.key) == theirs {
            assert!(pair.b.accept_top_level(next.key));
            pair.run();
            let child = pair
                .b
                .accept_substream(next.key)
                .unwrap()
                .expect("the parent's account has room");
            assert!(!pair.b.read_all(child).0.is_empty());
            return;
        }
    }
    panic!("the parent has come");
}

// spec: STR-18, STR-60
#[test]
fn a_stream_opens_with_a_little_where_there_is_room_for_no_more() {
    let mut pair = Pair::with_root(65_536);
    let (a, b) = pair.stream();
    // Nothing is left at the root, and something waits at the parent's account already.
    pair.a.life.tree.table[ROOT].account_mut().lent.set_limit(0);
    let _empty = pair.a.open_substream(a).unwrap();
    pair.run();
    let child = pair.a.open_substream(a).unwrap();
    pair.a.write_all(child, &[1; 20_000]);
    pair.run();
    assert!(pair.b.accept_substream(b).unwrap().is_some());
    let child = pair
        .b
        .accept_substream(b)
        .unwrap()
        .expect("the account has room for some of it");
    assert!(pair.b.life.tree.table[child.index].recv.received >= 1024);
}

// spec: STR-46, STR-57
#[test]
fn what_was_refused_lends_nothing() {
    let mut b = Pair::with_root(65_536).b;
    let top = Some(Init::top_level(b"svc", b"v1").with_credit(0, 0, 0));
    received!(b, [stream_frame(1, top, 0, b"", false)]);
    let key = b.take_incoming().unwrap().key;
    b.refuse(key, Code::REFUSED_SERVICE);
    // A peer that never acknowledges the refusal opens below what was refused, and below that, charged to each in turn.
    let mut parents = vec![1];
    let mut next = 3;
    for _ in 1..MAX_DEPTH {
        for parent in std::mem::take(&mut parents) {
            for _ in 0..4 {
                let init = Some(Init::substream(parent).with_credit(0, 0, 0));
                if b.forged(&stream_frame(next, init, 0, b"", false)).is_err() {
                    return;
                }
                parents.push(next);
                next += 2;
            }
        }
        if next > 50_000 {
            break;
        }
        while b.packet(ROOM).is_some() {}
    }
    assert!(b.len() <= 128, "{}", b.len());
}

// spec: STR-8, STR-17, STR-52
#[test]
fn forged_credits_change_nothing_but_limits() {
    let mut pair = Pair::with_root(65_536);
    let (a, _) = pair.stream();
    let lsid = pair.a.lsid_of(a);
    for limit in [0, 1, OPEN_ROOM - 1, u64::MAX >> 2, 5] {
        for datagrams in [0, u64::MAX >> 2, 1] {
            pair.a
                .forged(&Frame::OpenCredit(OpenCredit { lsid, limit, datagrams }))
                .unwrap();
            pair.a
                .forged(&Frame::OpenCredit(OpenCredit {
                    lsid: 0,
                    limit,
                    datagrams,
                }))
                .unwrap();
            received!(pair.a, [Credit { lsid, limit }]);
        }
    }
    for lsid in [2, 3, 77] {
        let open = Frame::OpenCredit(OpenCredit {
            lsid,
            limit: 9,
            datagrams: 0,
        });
        assert_eq!(pair.a.forged(&open).unwrap_err().code, Code::STREAM_STATE);
        let credit = Frame::Credit(Credit { lsid, limit: 9 });
        assert_eq!(pair.a.forged(&credit).unwrap_err().code, Code::STREAM_STATE);
    }
}

// spec: STR-59
#[test]
fn who_waits_is_looked_at_a_few_times_however_many_wait() {
    let mut pair = Pair::with_root(65_536);
    let (a, b) = pair.stream();
    let mut parents = Vec::new();
    while parents.len() < 500 {
        parents.push(pair.a.open_substream(a).unwrap());
        pair.run();
        while pair.b.accept_substream(b).unwrap().is_some() {}
    }
    pair.run();
    for _ in 0..20 {
        for parent in &parents {
            let child = pair.a.open_substream(*parent).unwrap();
            pair.a.write_all(child, &[1; 100]);
        }
    }
    pair.run();
    assert!(pair.b.len() < 10_000, "most of them wait");
    let mut heard = 0;
    for parent in &parents {
        let Found::Live(at) = pair.b.find(pair.a.lsid_of(*parent)) else {
            panic!("both know it");
        };
        let theirs = pair.b.life.tree.table.key(at);
        while let Some(child) = pair.b.accept_substream(theirs).unwrap() {
            pair.run();
            assert_eq!(pair.b.read_all(child).0.len(), 100);
            heard += 1;
            pair.run();
        }
    }
    assert_eq!(heard, 10_000);
    assert!(
        pair.a.life.flow.openers.looks() < 20 * heard,
        "{}",
        pair.a.life.flow.openers.looks()
    );
}

/// Opens streams to so many services as it takes until nothing new waits at the peer, which accepts none of them.
fn crowd(pair: &mut Pair) {
    for service in 0..40 {
        for _ in 0..if service < 6 { 400 } else { 2 } {
            let stream = pair.a.open_top_level(&format!("crowd {service}"), "v1").unwrap();
            pair.a.write_all(stream, &[1; 3000]);
        }
        pair.run();
    }
    let (charge, consumed, limit) = pair.b.backing(ROOT);
    assert!(
        (limit - charge) * 8 < limit - consumed,
        "{charge} - {consumed} of {limit}"
    );
}

// spec: STR-56, STR-59
#[test]
fn datagrams_taken_before_others_crowd_the_account_are_told_when_they_do() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    // The account of the stream itself has no room: the root lends.
    pair.a.life.tree.table[a.index].account_mut().lent.set_limit(0);
    datagram(&mut pair.a, a, 600);
    pair.run();
    assert_eq!(taken(&mut pair.b, b, 0), Some(600));
    pair.run();
    assert!(pair.a.believed_waiting(ROOT).1 > 0, "so little is not told");
    crowd(&mut pair);
    assert_eq!(pair.a.believed_waiting(ROOT).1, 0);
    datagram(&mut pair.a, a, 600);
    pair.run();
    assert_eq!(
        taken(&mut pair.b, b, 1),
        Some(600),
        "nothing waits for whoever takes them"
    );
}

// spec: STR-56, STR-59
#[test]
fn datagrams_taken_where_others_crowd_the_account_are_told_at_once() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.life.tree.table[a.index].account_mut().lent.set_limit(0);
    crowd(&mut pair);
    for second in 0..10 {
        datagram(&mut pair.a, a, 600);
        pair.run();
        assert_eq!(taken(&mut pair.b, b, second), Some(600), "datagram {second}");
        pair.run();
        assert_eq!(pair.a.believed_waiting(ROOT).1, 0);
    }
}

// spec: STR-56, STR-59
#[test]
fn streams_accepted_before_others_crowd_the_account_are_told_when_they_do() {
    let mut pair = Pair::new();
    let silent = pair.a.open_top_level("quick", "v1").unwrap();
    pair.a.write_all(silent, &[1; 600]);
    pair.a.finish(silent).unwrap();
    pair.run();
    let _held = pair.b.accept_any().unwrap();
    pair.run();
    assert!(pair.a.believed_waiting(ROOT).0 > 0, "so little is not told");
    crowd(&mut pair);
    let next = pair.a.open_top_level("quick", "v1").unwrap();
    pair.run();
    assert!(
        pair.a.life.tree.table[next.index].has(Flags::ANNOUNCED),
        "nothing waits at the service"
    );
}

// spec: STR-56, STR-59
#[test]
fn streams_accepted_where_others_crowd_the_account_are_told_at_once() {
    let mut pair = Pair::new();
    crowd(&mut pair);
    while pair.b.take_incoming().is_some() {}
    let mut held = Vec::new();
    for n in 0..10 {
        let stream = pair.a.open_top_level("quick", "v1").unwrap();
        pair.a.finish(stream).unwrap();
        pair.run();
        let next = pair.b.take_incoming().unwrap_or_else(|| panic!("stream {n} waits"));
        assert!(pair.b.accept_top_level(next.key));
        pair.run();
        held.push(next.key);
    }
}
