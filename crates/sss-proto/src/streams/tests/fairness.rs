//! Shares of streams in what is sent.

use std::collections::BTreeMap;

use super::*;

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
