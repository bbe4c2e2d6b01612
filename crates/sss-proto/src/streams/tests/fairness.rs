//! Shares of streams in what is sent.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::channel::Outlook;

/// Keeps the streams full and lets a send `total` bytes, without any limit by credit; returns bytes by stream.
pub(super) fn shares(a: &mut Streams, keys: &[StreamKey], total: u64, room: usize) -> BTreeMap<StreamKey, u64> {
    a.lift_limits();
    let before: BTreeMap<_, _> = keys.iter().map(|k| (*k, a.info(*k).unwrap().sent)).collect();
    let mut sent = 0;
    while sent < total {
        for key in keys {
            while a.write(*key, &[0; 1 << 16]).unwrap() > 0 {}
        }
        let packet = a.packet(room).unwrap();
        a.acked(&packet);
        a.lift_limits();
        sent += packet.bytes.len() as u64;
    }
    keys.iter()
        .map(|k| (*k, a.info(*k).unwrap().sent - before[k]))
        .collect()
}

pub(super) fn assert_share(actual: u64, total: u64, share: f64) {
    let actual = actual as f64 / total as f64;
    assert!((actual / share - 1.0).abs() < 0.02, "{actual} is not {share}");
}

// spec: STR-22
#[test]
fn siblings_share_equally() {
    for room in [1200, 8900, 65_000] {
        let mut a = Pair::new().a;
        let keys: Vec<_> = (0..7).map(|_| a.open_top_level("svc", "v1").unwrap()).collect();
        let shares = shares(&mut a, &keys, 40_000_000, room);
        let total = shares.values().sum();
        for key in &keys {
            assert_share(shares[key], total, 1.0 / 7.0);
        }
    }
}

// spec: STR-22
#[test]
fn subtrees_and_own_data_share_at_each_level() {
    let mut a = Pair::new().a;
    let x = a.open_top_level("x", "").unwrap();
    let y = a.open_top_level("y", "").unwrap();
    let x1 = a.open_substream(x).unwrap();
    let x2 = a.open_substream(x).unwrap();
    let x2a = a.open_substream(x2).unwrap();
    let x2b = a.open_substream(x2).unwrap();
    // x and y halve; x itself, x1 and x2 take thirds of x's half; x2 has nothing of its own, its children halve.
    let keys = [x, y, x1, x2a, x2b];
    let shares = shares(&mut a, &keys, 30_000_000, 1400);
    let total = shares.values().sum();
    assert_share(shares[&y], total, 1.0 / 2.0);
    assert_share(shares[&x], total, 1.0 / 6.0);
    assert_share(shares[&x1], total, 1.0 / 6.0);
    assert_share(shares[&x2a], total, 1.0 / 12.0);
    assert_share(shares[&x2b], total, 1.0 / 12.0);
}

// spec: STR-22
#[test]
fn one_with_many_children_gets_no_more_than_one_with_few() {
    let mut a = Pair::new().a;
    let few = a.open_top_level("few", "").unwrap();
    let many = a.open_top_level("many", "").unwrap();
    let children: Vec<_> = (0..50).map(|_| a.open_substream(many).unwrap()).collect();
    let keys: Vec<_> = [few].into_iter().chain(children).collect();
    let shares = shares(&mut a, &keys, 20_000_000, 1400);
    let total = shares.values().sum();
    assert_share(shares[&few], total, 0.5);
    for key in &keys[1..] {
        assert_share(shares[key], total, 0.01);
    }
}

#[test]
fn a_stream_alone_takes_everything_and_shares_when_another_comes() {
    let mut a = Pair::new().a;
    let first = a.open_top_level("x", "").unwrap();
    shares(&mut a, &[first], 5_000_000, 1400);
    let second = a.open_top_level("y", "").unwrap();
    let both = shares(&mut a, &[first, second], 5_000_000, 1400);
    assert_share(both[&second], both.values().sum(), 0.5);
}

#[test]
fn small_messages_get_through_beside_a_bulk_transfer() {
    let mut a = Pair::new().a;
    let bulk = a.open_top_level("bulk", "").unwrap();
    shares(&mut a, &[bulk], 1_000_000, 1400);
    let small = a.open_top_level("small", "").unwrap();
    a.write_all(small, b"soon");
    let packets = (0..4).map(|_| a.packet(1400).unwrap());
    let at = packets
        .map(|p| p.streams().iter().any(|f| f.data == b"soon"))
        .position(|found| found);
    assert!(at.is_some_and(|at| at < 3), "{at:?}");
}

/// Lets a host know a pace at which so many packets leave in a millisecond.
fn set_pace(a: &mut Streams, packets: usize) {
    let rtt = Duration::from_millis(10);
    let window = u64::try_from(packets * ROOM).unwrap() * 8 + 1;
    a.set_path(rtt, 0, rtt / 2, || Outlook::of(Instant::default(), 0, window, rtt));
}

/// The streams of which each of the next packets has data, the first of them.
fn order(a: &mut Streams, keys: &[StreamKey], packets: usize) -> Vec<u64> {
    let mut next = || {
        for key in keys {
            while a.write(*key, &[0; 1 << 16]).unwrap() > 0 {}
        }
        let packet = a.packet(ROOM).unwrap();
        a.acked(&packet);
        a.lift_limits();
        packet.streams()[0].lsid
    };
    (0..packets).map(|_| next()).collect()
}

// spec: STR-80
#[test]
fn packets_come_in_runs_of_one_stream_while_few_compete_at_a_high_pace() {
    let longest = |order: &[u64]| order.chunk_by(|a, b| a == b).map(<[u64]>::len).max().unwrap();
    let mut a = Pair::new().a;
    let mut keys: Vec<_> = (0..2).map(|_| a.open_top_level("svc", "v1").unwrap()).collect();
    // Without a pace, all are known to the peer, and nothing is left of the beginning.
    order(&mut a, &keys, 20);
    set_pace(&mut a, 20);
    order(&mut a, &keys, 40);
    let run = longest(&order(&mut a, &keys, 100));
    assert!((9..=11).contains(&run), "{run}");
    keys.extend((0..2).map(|_| a.open_top_level("svc", "v1").unwrap()));
    order(&mut a, &keys, 8);
    set_pace(&mut a, 20);
    order(&mut a, &keys, 40);
    let run = longest(&order(&mut a, &keys, 100));
    assert!((4..=6).contains(&run), "{run}");
    set_pace(&mut a, 1);
    let run = longest(&order(&mut a, &keys, 100));
    assert!(run <= 2, "{run}");
}
