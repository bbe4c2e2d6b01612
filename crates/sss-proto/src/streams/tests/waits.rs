//! Reasons why a stream is said to wait.

use super::*;
use crate::streams::{AcceptedBy, OpeningRoom, Waits};

fn waits(streams: &Streams, key: StreamKey) -> Option<Waits> {
    streams.info(key).unwrap().waits
}

fn service(service: &str) -> AcceptedBy {
    AcceptedBy::Service {
        service: service.to_owned(),
        protocol: "v1".to_owned(),
    }
}

/// Returns what a stream waits for that waits to be opened.
fn room(streams: &Streams, key: StreamKey) -> OpeningRoom {
    match waits(streams, key) {
        Some(Waits::Opening(room)) => room,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stream_with_nothing_to_send_waits_for_the_application() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    assert_eq!(waits(&pair.a, a), Some(Waits::Application));
    pair.a.write_all(a, b"x");
    assert_eq!(waits(&pair.a, a), Some(Waits::Turn));
    let packet = pair.a.packet(ROOM).unwrap();
    assert_eq!(waits(&pair.a, a), Some(Waits::Acknowledgement));
    pair.b.take(&packet).unwrap();
    pair.a.acked(&packet);
    assert_eq!(waits(&pair.a, a), Some(Waits::Application));
    pair.a.finish(a).unwrap();
    let packet = pair.a.packet(ROOM).unwrap();
    assert_eq!(waits(&pair.a, a), Some(Waits::Acknowledgement), "of the end");
    pair.a.acked(&packet);
    assert_eq!(waits(&pair.a, a), None, "nothing is left to do");
    assert_eq!(waits(&pair.b, b), Some(Waits::Application));
    pair.b.fail_all(&CloseReason::PeerRestarted);
    assert_eq!(waits(&pair.b, b), None, "it has ended");
}

#[test]
fn what_was_not_accepted_is_told_from_what_was_not_read() {
    let mut pair = Pair::new();
    let a = pair.a.open_top_level("files", "v1").unwrap();
    pair.a.write_all(a, &[1; 200_000]);
    pair.run();
    let expected = Waits::PeerAcceptance(service("files"));
    assert_eq!(waits(&pair.a, a), Some(expected));
    let info = pair.a.info(a).unwrap();
    assert!(!info.is_accepted);
    let text = info.to_string();
    let end = "waits: the peer has not accepted it (service \"files\", protocol \"v1\")";
    assert!(text.ends_with(end), "{text}");

    let b = pair.b.take_incoming().unwrap().key;
    assert_eq!(waits(&pair.b, b), Some(Waits::Acceptance));
    assert!(!pair.b.info(b).unwrap().is_accepted);
    assert!(pair.b.accept_top_level(b));
    pair.run();
    pair.a.write(a, &vec![1; 1 << 20]).unwrap();
    pair.run();
    assert_eq!(waits(&pair.a, a), Some(Waits::PeerReading));
    assert!(pair.a.info(a).unwrap().is_accepted && pair.b.info(b).unwrap().is_accepted);

    let child = pair.a.open_substream(a).unwrap();
    pair.a.write_all(child, &[1; 200_000]);
    pair.run();
    let expected = AcceptedBy::Substreams(named(a));
    assert_eq!(waits(&pair.a, child), Some(Waits::PeerAcceptance(expected)));
}

// spec: STR-59
#[test]
fn an_acceptor_that_takes_nothing_is_named_by_those_that_wait_for_it() {
    let mut pair = Pair::new();
    let open = |pair: &mut Pair, service| {
        let key = pair.a.open_top_level(service, "v1").unwrap();
        pair.a.write_all(key, &[1; 60_000]);
        pair.a.finish(key).unwrap();
        key
    };
    let keys: Vec<_> = (0..100).map(|_| open(&mut pair, "deaf")).collect();
    pair.run();
    let is_opening = |w: &Option<Waits>| matches!(w, Some(Waits::Opening(_)));
    let waiting: Vec<_> = keys.iter().filter(|k| is_opening(&waits(&pair.a, **k))).collect();
    assert!(!waiting.is_empty());
    for key in waiting {
        let room = room(&pair.a, *key);
        assert_eq!((room.stream, room.account, room.is_full), (named(*key), None, false));
        assert_eq!(room.acceptor, service("deaf"));
        let text = room.to_string();
        assert!(
            text.contains("service \"deaf\"") && text.ends_with("account of the root is used up"),
            "{text}"
        );
    }
    // What waits for another acceptor finds room.
    let other = open(&mut pair, "other");
    pair.run();
    assert!(!is_opening(&waits(&pair.a, other)), "{:?}", waits(&pair.a, other));
}

// spec: STR-53
#[test]
fn an_account_that_is_full_is_named() {
    let mut pair = Pair::with_root(1 << 16);
    let (top, top_b) = pair.stream();
    // Whoever is to accept: each service leaves half, until nothing is left.
    let names: Vec<_> = (0..200).map(|n| format!("s{n}")).collect();
    let keys: Vec<_> = names.iter().map(|n| pair.a.open_top_level(n, "v1").unwrap()).collect();
    pair.run();
    let room_of_last = room(&pair.a, *keys.last().unwrap());
    assert_eq!((room_of_last.account, room_of_last.is_full), (None, true));
    assert!(
        room_of_last
            .to_string()
            .ends_with("the openings account of the root is full")
    );

    // The substreams of an accepted stream have its account, and when that is used up, none.
    let children: Vec<_> = (0..200).map(|_| pair.a.open_substream(top).unwrap()).collect();
    pair.run();
    let last = *children.last().unwrap();
    let of_child = room(&pair.a, last);
    assert_eq!(of_child.acceptor, AcceptedBy::Substreams(named(top)));
    assert_eq!((of_child.account, of_child.is_full), (Some(named(top)), false));
    // Below one that waits, it is that one that has to be opened first.
    let grandchild = pair.a.open_substream(last).unwrap();
    pair.run();
    let of_grandchild = room(&pair.a, grandchild);
    assert_eq!(
        (of_grandchild.stream, of_grandchild.account),
        (named(last), Some(named(top)))
    );
    // Acceptance mends it.
    while pair.b.accept_substream(top_b).unwrap().is_some() {
        pair.run();
    }
    assert_eq!(waits(&pair.a, last), Some(Waits::Application));
}

#[test]
fn before_the_role_is_known_everything_waits_for_the_channel() {
    let mut streams = Streams::new(StreamsConfig {
        window: WindowConfig::default(),
        seed: 7,
    });
    let key = streams.open_top_level("svc", "v1").unwrap();
    assert_eq!(waits(&streams, key), Some(Waits::Connecting));
}

// spec: STR-22
#[test]
fn a_stream_that_is_passed_over_names_one_at_a_higher_level() {
    let mut pair = Pair::new();
    let (low, _) = pair.stream();
    let (high, high_b) = pair.stream();
    let (below, _) = pair.child((high, high_b));
    pair.a.write_all(low, &[1; 5000]);
    assert_eq!(waits(&pair.a, low), Some(Waits::Turn));
    pair.a.write_all(below, &[1; 5000]);
    assert_eq!(waits(&pair.a, low), Some(Waits::Turn), "equal levels");
    pair.a.set_priority(high, 1);
    assert_eq!(waits(&pair.a, low), Some(Waits::HigherLevel(named(below))));
    assert_eq!(waits(&pair.a, below), Some(Waits::Turn));
    // A stream's own data is at level 0 beside what is below it.
    pair.a.write_all(high, &[1; 5000]);
    pair.a.set_priority(below, -1);
    assert_eq!(waits(&pair.a, below), Some(Waits::HigherLevel(named(high))));
    assert_eq!(waits(&pair.a, low), Some(Waits::HigherLevel(named(high))));
    pair.a.set_priority(below, 1);
    assert_eq!(waits(&pair.a, high), Some(Waits::HigherLevel(named(below))));
    assert_eq!(waits(&pair.a, low), Some(Waits::HigherLevel(named(below))));
    pair.run();
    for key in [low, high, below] {
        assert_eq!(waits(&pair.a, key), Some(Waits::Application));
    }
}

// spec: STR-59
#[test]
fn datagrams_that_nobody_takes_are_named() {
    let mut pair = Pair::new();
    let (a, _) = pair.stream();
    let data = Bytes::from(vec![1; 30_000]);
    let options = crate::streams::DatagramOptions::default().with(|o| o.reliable = true);
    for _ in 0..2500 {
        pair.a.send_datagram(Instant::default(), a, &data, &options).unwrap();
        pair.run();
    }
    let tree = pair.a.tree(named);
    let is_named = |info: &crate::streams::StreamInfo| match &info.waits {
        Some(Waits::Opening(room)) => room.acceptor == AcceptedBy::Datagrams && !room.is_full,
        _ => false,
    };
    assert!(tree.iter().any(|(_, _, info)| is_named(info)), "{tree:?}");
}
