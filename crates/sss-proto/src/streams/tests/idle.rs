//! Cost of an idle stream.

use std::time::Duration;

use sss_wire::constants::DATAGRAM_BORROW;

use super::*;
use crate::channel::Outlook;
use crate::streams::DatagramOptions;
use crate::streams::flow::account::Account;
use crate::streams::rest;
use crate::streams::tree::node::Node;

/// Bytes of memory for streams that have nothing to send, to read or to acknowledge.
fn idle_memory(streams: &Streams) -> usize {
    let mut bytes = streams.life.tree.table.memory() + streams.life.tree.lsids.memory();
    for index in 1..streams.life.tree.table.slots() {
        let node = &streams.life.tree.table[index];
        assert!(node.send.buf.is_none() && node.recv.buf.is_none());
        assert!(node.extras.is_none(), "level {}", node.place.depth);
        // With what the allocator puts before it.
        bytes += node.account.as_ref().map_or(0, |_| size_of::<Account>() + 8);
    }
    bytes
}

#[test]
fn an_idle_stream_costs_its_node_and_an_entry_in_the_map() {
    const COUNT: usize = 100_000;
    let mut pair = Pair::new();
    for _ in 0..COUNT / 100 {
        for _ in 0..100 {
            let key = pair.a.open_top_level("svc", "v1").unwrap();
            pair.a.write_all(key, b"x");
        }
        pair.run();
        while let Some(key) = pair.b.accept_any() {
            assert_eq!(pair.b.read_all(key).0, b"x");
        }
        pair.run();
    }
    assert!(size_of::<Option<Node>>() <= 128, "{}", size_of::<Option<Node>>());
    for end in [&pair.a, &pair.b] {
        assert_eq!(end.len(), COUNT);
        let each = idle_memory(end) / COUNT;
        assert!(each <= 140, "{each} bytes");
        assert!(!end.wants());
    }
}

#[test]
fn an_idle_stream_with_a_child_costs_what_is_charged_below_it_too() {
    const CHAINS: usize = 200;
    const LEVELS: usize = 32;
    let mut pair = Pair::new();
    for _ in 0..CHAINS {
        let mut at = pair.stream();
        for level in 1..LEVELS {
            pair.a.write_all(at.0, b"x");
            at = pair.child(at);
            pair.b.write_all(at.1, b"y");
            assert_eq!(pair.a.life.tree.table[at.0.index].place.depth as usize, level + 1);
        }
        pair.run();
        for end in [&mut pair.a, &mut pair.b] {
            for index in 1..end.life.tree.table.slots() {
                let _ = end.read_all(end.life.tree.table.key(index));
            }
        }
        pair.run();
    }
    assert!(size_of::<Account>() <= 96, "{}", size_of::<Account>());
    for end in [&pair.a, &pair.b] {
        assert_eq!(end.len(), CHAINS * LEVELS);
        let each = idle_memory(end) / (CHAINS * LEVELS);
        assert!(each <= 245, "{each} bytes");
        assert!(!end.wants());
    }
}

/// Opens so many streams, and lets both sides let go of them; returns the memory before and after.
fn rise_and_fall(count: usize) -> [(usize, usize); 2] {
    let mut pair = Pair::new();
    let mut keys = Vec::new();
    while keys.len() < count {
        keys.extend((0..100).map(|_| pair.stream()));
    }
    let before = [&pair.a, &pair.b].map(idle_memory);
    for (a, b) in keys {
        pair.a.release(a);
        pair.b.release(b);
    }
    pair.run();
    assert_eq!((pair.a.len(), pair.b.len()), (0, 0));
    let after = [&pair.a, &pair.b].map(|end| end.life.tree.table.memory() + end.life.tree.lsids.memory());
    [(before[0], after[0]), (before[1], after[1])]
}

#[test]
fn streams_that_are_gone_cost_nothing() {
    for (before, after) in rise_and_fall(20_000) {
        assert!(after * 10 < before, "{after} of {before} bytes");
    }
}

#[test]
fn letting_go_of_streams_takes_no_memory() {
    let mut pair = Pair::new();
    let keys: Vec<_> = (0..1000).map(|_| pair.stream()).collect();
    for (a, _) in &keys {
        pair.a.write_all(*a, b"unread");
    }
    pair.run();
    for (a, b) in &keys {
        pair.a.release(*a);
        pair.b.release(*b);
    }
    for end in [&pair.a, &pair.b] {
        assert_eq!(end.len(), keys.len(), "nothing was acknowledged");
        assert!((1..end.life.tree.table.slots()).all(|index| end.life.tree.table[index].extras.is_none()));
    }
    pair.run();
    assert_eq!((pair.a.len(), pair.b.len()), (0, 0));
}

/// Opens chains of streams at once, without waiting for the peer in between.
#[test]
fn many_chains_are_opened_at_once_and_closed() {
    const LEVELS: usize = 30;
    let mut pair = Pair::new();
    let top = pair.stream();
    let mut all = Vec::new();
    for _ in 0..100 {
        let mut at = top.0;
        for _ in 0..LEVELS {
            at = pair.a.open_substream(at).unwrap();
            pair.a.write_all(at, b"K");
            all.push(at);
        }
    }
    let mut held = Vec::new();
    let mut parents = vec![top.1];
    while held.len() < all.len() {
        let before = held.len();
        pair.run();
        let mut next = 0;
        while let Some(parent) = parents.get(next).copied() {
            next += 1;
            while let Some(key) = pair.b.accept_substream(parent).unwrap() {
                let _ = pair.b.read_all(key);
                pair.b.write_all(key, b"!");
                parents.push(key);
                held.push(key);
            }
        }
        assert!(held.len() > before || pair.b.wants(), "stuck at {before}");
    }
    pair.run();
    for key in &all {
        assert_eq!(pair.a.read_all(*key).0, b"!");
        pair.a.finish(*key).unwrap();
    }
    for key in &held {
        pair.b.finish(*key).unwrap();
    }
    pair.run();
    for key in all.iter().rev() {
        assert_eq!(pair.a.read_all(*key), (vec![], Poll::Ready(Ok(ReadOutcome::End))));
        assert_eq!(pair.a.poll_drained(*key), Poll::Ready(Ok(())));
        pair.a.release(*key);
    }
    for key in held.iter().rev() {
        assert_eq!(pair.b.read_all(*key), (vec![], Poll::Ready(Ok(ReadOutcome::End))));
        assert_eq!(pair.b.poll_drained(*key), Poll::Ready(Ok(())));
        pair.b.release(*key);
    }
    pair.run();
    assert_eq!((pair.a.len(), pair.b.len()), (1, 1));
}

#[test]
fn a_tree_without_streams_that_rests_takes_no_memory_but_for_its_root() {
    let mut pair = Pair::new();
    let [root, ..] = [&pair.a, &pair.b].map(|end| rest::spare(&end.life)[5].1);
    for round in 0..2 {
        let keys: Vec<_> = (0..100).map(|_| pair.stream()).collect();
        for (a, b) in &keys {
            assert!(pair.a.read_all(*a).0.is_empty(), "it waits to be told");
            pair.a.write_all(*a, b"asks");
            pair.b.write_all(*b, b"tells");
            pair.a.set_priority(*a, 1);
        }
        // A datagram that goes at once, and one that waits for credit.
        for data in [
            Bytes::from_static(b"small"),
            Bytes::from(vec![1; DATAGRAM_BORROW as usize + 3 * ROOM]),
        ] {
            let options = DatagramOptions {
                deadline: Some(Duration::from_secs(1)),
                ..DatagramOptions::default()
            };
            let sent = pair.a.send_datagram(Instant::default(), keys[0].0, &data, &options);
            sent.unwrap();
            let way = Duration::from_millis(10);
            let outlook = || Outlook::of(Instant::default(), 0, 100_000, 2 * way);
            pair.a.set_path(2 * way, 0, way, outlook);
            pair.run();
            assert_eq!(pair.b.recv_datagram(Instant::default(), keys[0].1), Ok(Some(data)));
        }
        pair.run();
        for (a, b) in &keys {
            assert_eq!(pair.b.read_all(*b).0, b"asks");
            assert_eq!(pair.a.read_all(*a).0, b"tells");
        }
        // One waits for another that is opened, and is opened then.
        let life = &mut pair.a.life;
        life.flow.openers.wait_behind(keys[0].0, keys[1].0, &life.tree.table);
        life.flow.openers.on_opened(keys[1].0);
        assert_eq!(life.flow.openers.next(&life.tree.table), None);
        for (a, b) in keys {
            pair.a.release(a);
            pair.b.release(b);
        }
        pair.run();
        let mut before = [0; 8];
        for end in [&mut pair.a, &mut pair.b] {
            assert_eq!(end.len(), 0);
            end.events();
            for (sum, (_, spare)) in before.iter_mut().zip(rest::spare(&end.life)) {
                *sum += spare;
            }
            crate::streams::rest(end);
            for (what, after) in rest::spare(&end.life) {
                let expected = if what == "table" { root } else { 0 };
                assert!(after <= expected, "round {round}: {after} for {what}");
            }
        }
        assert!(before.iter().all(|spare| *spare > 0), "{before:?}");
    }
}
