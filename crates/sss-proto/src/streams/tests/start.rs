//! Starts: what a new stream may send before anything is heard of it, and the reserve that this comes from.

use sss_wire::constants::{MAX_BORROW, OPEN_COST, STREAM_BORROW, STREAM_WINDOW};

use super::budget::pair_with;
use super::*;
use crate::streams::flow::budget::{HostBudget, NetworkBudget};
use crate::streams::tree::index::ROOT;

/// The start by default.
const START: u64 = 256 << 10;
/// Bytes between a window of 64 KiB and the least.
const SMALL: u64 = STREAM_BORROW - STREAM_WINDOW;

/// Returns what a host sends if nothing comes back: packets, and how many bytes of data.
fn unheard(streams: &mut Streams) -> (Vec<Packet>, u64) {
    let mut sent = 0;
    let mut packets = Vec::new();
    while let Some(packet) = streams.packet(ROOM) {
        sent += packet.streams().iter().map(|f| f.data.len() as u64).sum::<u64>();
        packets.push(packet);
    }
    (packets, sent)
}

/// INIT in the first STREAM of a packet.
fn init_of(packet: &Packet) -> Init<'_> {
    packet.streams()[0].init.expect("INIT")
}

/// Bytes of a new stream of `bytes` that a sends before it hears of it, and what it may get back.
fn start(pair: &mut Pair, bytes: usize) -> (u64, u64, StreamKey) {
    let a = pair.a.open_top_level("svc", "v1").unwrap();
    pair.a.write_all(a, &vec![7; bytes]);
    pair.a.finish(a).unwrap();
    let (packets, sent) = unheard(&mut pair.a);
    let init = init_of(&packets[0]);
    assert!(sent <= init.borrow);
    for packet in &packets {
        pair.b.take(packet).unwrap();
        pair.a.acked(packet);
    }
    (sent, init.credit, a)
}

// spec: STR-75, STR-60
#[test]
fn a_quarter_of_a_mebibyte_needs_no_round_trip() {
    for bytes in [4_000, 64_000, 66_000, 100_000, 250_000] {
        let mut pair = pair_with(WindowConfig::default());
        let (sent, credit, _) = start(&mut pair, bytes);
        assert_eq!((sent, credit), (bytes as u64, START));
        // And back, over a stream that is finished there.
        let b = pair.b.accept_any().unwrap();
        assert_eq!(pair.b.read_all(b).0.len(), bytes);
        pair.b.write_all(b, &vec![8; bytes]);
        assert_eq!(unheard(&mut pair.b).1, bytes as u64);
    }
    let mut pair = pair_with(WindowConfig::default());
    assert_eq!(start(&mut pair, 400_000).0, START, "and no more");
}

// spec: STR-75
#[test]
fn a_peer_whose_settings_say_nothing_of_it_is_sent_64_kib() {
    let mut pair = Pair::new();
    let window = WindowConfig::default();
    pair.a = Streams::new(StreamsConfig { window, seed: 3 });
    pair.a.set_role(Role::Initiator);
    pair.a.grant_root(1 << 20).unwrap();
    let (sent, credit, a) = start(&mut pair, 300_000);
    assert_eq!(sent, STREAM_BORROW);
    assert_eq!(credit, START, "what it gives is its own to choose");
    // All of it goes both ways nevertheless.
    let b = pair.b.accept_any().unwrap();
    let mut read = 0;
    while read < 300_000 {
        pair.run();
        read += pair.b.read_all(b).0.len();
    }
    pair.b.write_all(b, &[8; 300_000]);
    assert_eq!(unheard(&mut pair.b).1, START);
    assert!(pair.a.info(a).is_some());
}

// spec: STR-75
#[test]
fn a_start_that_was_allowed_is_not_taken_back() {
    let mut pair = pair_with(WindowConfig::default());
    pair.a.set_peer_start(STREAM_BORROW);
    assert_eq!(start(&mut pair, 250_000).0, 250_000);
}

// spec: FRM-9, STR-75
#[test]
fn threat_28_whoever_borrows_more_than_the_settings_allow_is_refused() {
    for allowed in [STREAM_BORROW, 100_000, START, MAX_BORROW] {
        let window = WindowConfig {
            root: 2 * MAX_BORROW,
            start: allowed,
            ..WindowConfig::default()
        };
        let init = |borrow| Some(Init::top_level(b"svc", b"v1").with_credit(0, borrow, 0));
        let mut b = pair_with(window).b;
        received!(b, [announce(1, init(allowed))]);
        if allowed < MAX_BORROW {
            received!(b, [announce(3, init(allowed + 1))] => Code::FRAME_ENCODING);
        }
    }
}

// spec: STR-75, STR-46, STR-59, STR-77
#[test]
fn what_a_stream_may_take_falls_as_the_account_shrinks_and_rises_again() {
    // Nobody's budget has room for what is not read.
    let window = WindowConfig {
        per_peer_budget: 0,
        ..WindowConfig::default()
    };
    let mut pair = pair_with(window);
    let (mut starts, mut held) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        let (sent, credit, a) = start(&mut pair, 300_000);
        assert_eq!(credit, STREAM_WINDOW, "there is no budget for what comes back");
        held.push((a, pair.b.accept_any().expect("heard at once")));
        starts.push(sent);
        pair.run();
    }
    assert_eq!(starts[0], START);
    let first = &starts[..6];
    assert!(first.is_sorted_by(|a, b| a >= b) && first[1] > STREAM_BORROW && first[5] < STREAM_BORROW);
    assert!(starts[5..].iter().all(|start| *start < STREAM_BORROW), "{starts:?}");
    assert_eq!(starts[199], STREAM_WINDOW, "and never less");
    let unread: u64 = held
        .iter()
        .map(|(_, b)| pair.b.info(*b).unwrap())
        .map(|i| i.received)
        .sum();
    assert!(unread <= window.root + 200 * STREAM_WINDOW, "{unread}");
    // Many at once are heard nevertheless.
    for _ in 0..20 {
        let late = pair.a.open_top_level("svc", "v1").unwrap();
        pair.a.write_all(late, &[7; 6_000]);
    }
    let (packets, sent) = unheard(&mut pair.a);
    assert_eq!(sent, 20 * STREAM_WINDOW);
    for packet in &packets {
        pair.b.take(packet).unwrap();
        pair.a.acked(packet);
    }
    while pair.b.accept_any().is_some() {}
    for (_, b) in held {
        while pair
            .b
            .info(b)
            .is_some_and(|i| i.received < 300_000 || i.read < i.received)
        {
            let _ = pair.b.read_all(b);
            pair.run();
        }
    }
    let (sent, ..) = start(&mut pair, 300_000);
    assert!(
        sent > START * 3 / 4,
        "{sent}: an account is not refilled after each byte"
    );
}

// spec: STR-76
#[test]
fn what_may_come_back_falls_as_the_reserve_shrinks_and_rises_again() {
    let mut pair = pair_with(WindowConfig {
        per_peer_budget: 8 << 20,
        ..WindowConfig::default()
    });
    let mut steps = Vec::new();
    let mut open = Vec::new();
    for _ in 0..60 {
        let (_, credit, a) = start(&mut pair, 1);
        pair.run();
        steps.push(credit);
        open.push((a, pair.b.accept_any().unwrap()));
    }
    let count = |step| steps.iter().filter(|s| **s == step).count() as u64;
    let eighth = (8 << 20) / 8;
    assert_eq!(count(START), eighth / (START - STREAM_BORROW), "{steps:?}");
    assert_eq!(count(START) + count(STREAM_BORROW), 2 * eighth / SMALL);
    assert_eq!(count(STREAM_WINDOW), 60 - 2 * eighth / SMALL);
    assert!(steps.is_sorted_by(|a, b| a >= b));
    // An answer that has ended gives back what it had.
    for (a, b) in open.drain(..30) {
        pair.b.finish(b).unwrap();
        pair.run();
        let _ = pair.a.read_all(a);
    }
    assert_eq!(start(&mut pair, 1).1, START);
}

/// A peer that keeps to no rule of senders but those that a host checks: each stream takes all that there is, up to
/// the start, and fills it. Returns how many streams it got, and how many bytes it made the host keep.
fn take_every_start(b: &mut Streams, is_accepted: bool) -> (u64, u64) {
    let bytes = vec![1; STREAM_WINDOW as usize];
    let (mut lsid, mut taken) = (1, 0);
    while lsid < 2_000 {
        let (charge, _, limit) = b.backing(ROOT);
        let Some(borrow) = (limit - charge).checked_sub(OPEN_COST) else {
            break;
        };
        let borrow = borrow.min(START);
        let init = Some(Init::top_level(b"svc", b"v1").with_credit(0, borrow, 0));
        received!(b, [announce(lsid, init)]);
        let key = if is_accepted { b.accept_any() } else { None };
        while b.packet(ROOM).is_some() {}
        let limit = key.map_or(borrow, |key| b.life.tree.table[key.index].recv.limit);
        let mut offset = 0;
        while offset < limit {
            let piece = &bytes[..(limit - offset).min(STREAM_WINDOW) as usize];
            received!(b, [data(lsid, offset, piece)]);
            offset += piece.len() as u64;
        }
        taken += limit;
        lsid += 2;
    }
    (lsid / 2, taken)
}

// spec: STR-46, STR-76, STR-19
#[test]
fn threat_28_a_peer_that_takes_every_start_is_bounded_and_harms_no_other() {
    let window = WindowConfig {
        per_peer_budget: 4 << 20,
        per_host_budget: 16 << 20,
        ..WindowConfig::default()
    };
    for is_accepted in [false, true] {
        let host = HostBudget::default();
        let [mut first, mut second] = [(), ()].map(|()| {
            let mut pair = pair_with(window);
            pair.b.share_budget(host.of_network(NetworkBudget::default()));
            pair
        });
        let (streams, taken) = take_every_start(&mut first.b, is_accepted);
        let bound = window.root + u64::from(is_accepted) * (window.per_peer_budget + streams * STREAM_WINDOW);
        assert!(taken <= bound, "{taken} bytes of {streams} streams, at most {bound}");
        assert!(taken > bound / 2, "{taken} of {bound}");
        assert!(host.spent().0 <= window.per_peer_budget + first.b.root_extra());
        // Others have what they had.
        let (sent, credit, _) = start(&mut second, 250_000);
        assert_eq!((sent, credit), (250_000, START));
    }
}

// spec: STR-45, STR-76
#[test]
fn threat_28_starts_leave_half_of_the_budget_of_a_host_to_other_networks() {
    let window = WindowConfig {
        per_host_budget: 16 << 20,
        ..WindowConfig::default()
    };
    let (host, crowded) = (HostBudget::default(), NetworkBudget::default());
    let mut crowd: Vec<_> = (0..40).map(|_| pair_with(window)).collect();
    for pair in &mut crowd {
        pair.b.share_budget(host.of_network(crowded.clone()));
        take_every_start(&mut pair.b, true);
    }
    assert!(
        host.spent().0 <= (8 << 20) + 40 * crowd[0].b.root_extra(),
        "{:?}",
        host.spent()
    );
    let mut other = pair_with(window);
    other.b.share_budget(host.of_network(NetworkBudget::default()));
    let a = other.a.open_top_level("svc", "v1").unwrap();
    other.a.write_all(a, &[7; 250_000]);
    let (packets, sent) = unheard(&mut other.a);
    packets.iter().for_each(|p| other.b.take(p).unwrap());
    assert_eq!(sent, 250_000);
    let b = other.b.accept_any().unwrap();
    assert!(other.b.life.tree.table[b.index].recv.limit >= 250_000);
    assert_eq!(
        other.b.life.tree.table[b.index].owed_now(),
        0,
        "its own window covers that"
    );
}
