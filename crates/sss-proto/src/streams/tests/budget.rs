//! Budgets: what a peer can make this host keep.

use sss_wire::constants::{STREAM_BORROW, STREAM_WINDOW};

use super::*;
use crate::streams::flow::gauge::MIN_WINDOW;
use crate::streams::tree::index::ROOT;

pub(super) fn pair_with(window: WindowConfig) -> Pair {
    let side = |role| {
        let mut streams = Streams::new(StreamsConfig { window, seed: 3 });
        streams.set_role(role);
        streams.grant_root(window.root).unwrap();
        streams.set_peer_start(window.borrow());
        streams
    };
    Pair {
        a: side(Role::Initiator),
        b: side(Role::Responder),
    }
}

/// a sends all that it may on these streams, and b reads what came on those for which that is wanted.
fn pump(pair: &mut Pair, streams: &[(StreamKey, StreamKey)], is_read: impl Fn(usize) -> bool) {
    for _ in 0..4 {
        for (index, (a, b)) in streams.iter().enumerate() {
            let _ = pair.a.write(*a, &[0; 100_000]);
            if is_read(index) {
                let _ = pair.b.read_all(*b);
            }
        }
        pair.run();
    }
}

fn unread(pair: &Pair, streams: &[(StreamKey, StreamKey)]) -> u64 {
    let info = |(_, b): &(StreamKey, StreamKey)| pair.b.info(*b).unwrap();
    streams.iter().map(info).map(|i| i.received - i.read).sum()
}

fn reads(pair: &Pair, (_, b): (StreamKey, StreamKey)) -> u64 {
    pair.b.info(b).unwrap().read
}

// spec: STR-46
#[test]
fn threat_28_a_peer_that_fills_everything_is_bounded() {
    let window = WindowConfig {
        per_peer_budget: 4 << 20,
        ..WindowConfig::default()
    };
    let mut pair = pair_with(window);
    let top = pair.stream();
    let mut streams = vec![top];
    for n in 0..300 {
        let parent = streams[n / 3];
        streams.push(pair.child(parent));
    }
    // What is read first frees what new streams borrow from their parents, again and again.
    pump(&mut pair, &streams, |_| true);
    pump(&mut pair, &streams, |index| index % 2 == 0);
    pump(&mut pair, &streams, |_| false);
    let bound = window.root + window.per_peer_budget + streams.len() as u64 * MIN_WINDOW;
    let unread = unread(&pair, &streams);
    assert!(unread <= bound, "{unread} bytes, at most {bound}");
    assert!(unread > window.per_peer_budget / 2, "{unread}");
}

// spec: STR-46
#[test]
fn slow_readers_do_not_stall_their_siblings() {
    for budget in [6 << 20, 64 << 20] {
        let window = WindowConfig {
            per_peer_budget: budget,
            ..WindowConfig::default()
        };
        let mut pair = pair_with(window);
        let top = pair.stream();
        let streams: Vec<_> = (0..40).map(|_| pair.child(top)).collect();
        // All have used up what they borrow; then all but one read nothing any more.
        pump(&mut pair, &streams, |_| true);
        pump(&mut pair, &streams, |index| index == 7);
        for _ in 0..10 {
            let before = reads(&pair, streams[7]);
            pump(&mut pair, &streams, |index| index == 7);
            let gain = reads(&pair, streams[7]) - before;
            assert!(gain >= 2 * MIN_WINDOW, "{gain} bytes with a budget of {budget}");
        }
        // New ones begin, as long as the parent has credit.
        let late = pair.child(top);
        pump(&mut pair, &[late], |_| true);
        assert!(reads(&pair, late) > 0, "with a budget of {budget}");
    }
}

// spec: STR-45
#[test]
fn the_windows_of_a_subtree_keep_to_its_budget() {
    let mut pair = Pair::new();
    let [tenant, other] = [pair.stream(), pair.stream()];
    let budget = 600 << 10;
    pair.b.set_budget(tenant.1, Some(budget));
    let nested = pair.child(tenant);
    let mut streams: Vec<_> = (0..10).map(|_| pair.child(nested)).collect();
    let siblings: Vec<_> = (0..4).map(|_| pair.child(other)).collect();
    for group in [&streams, &siblings] {
        pump(&mut pair, group, |_| true);
        pump(&mut pair, group, |_| false);
    }
    let held = unread(&pair, &streams);
    assert!(held <= budget + 12 * MIN_WINDOW, "{held}");
    // A limit is raised when half of it is used: nobody who read before has less than half of a window.
    assert!(held >= budget / 3, "{held}");
    assert!(unread(&pair, &siblings) >= 4 * (128 << 10), "others are not limited");
    // What is over is there for others.
    for (a, b) in streams.drain(..5) {
        pair.a.release(a);
        pair.b.release(b);
    }
    pair.run();
    let more: Vec<_> = (0..2).map(|_| pair.child(tenant)).collect();
    pump(&mut pair, &more, |_| true);
    pump(&mut pair, &more, |_| false);
    assert!(unread(&pair, &more) >= 2 * STREAM_BORROW);
    // A budget set later counts what there is; without one, windows grow again.
    pair.b.set_budget(nested.1, Some(0));
    let at = streams[0].1.index;
    assert_eq!(format!("{:?}", pair.b.budget_left(at)), "Left { large: 0, small: 0 }");
    pair.b.set_budget(nested.1, None);
    pair.b.set_budget(tenant.1, None);
    assert_eq!(pair.b.budgets(), 0);
    pump(&mut pair, &streams, |_| true);
    pump(&mut pair, &streams, |_| false);
    assert!(unread(&pair, &streams) > budget);
}

// spec: STR-45
#[test]
fn a_budget_ends_with_its_stream() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.b.set_budget(b, Some(1000));
    pair.b.set_budget(b, Some(2000));
    assert_eq!(pair.b.budgets(), 1);
    pair.a.release(a);
    pair.b.release(b);
    pair.run();
    assert_eq!((pair.b.len(), pair.b.budgets()), (0, 0));
    pair.b.set_budget(b, Some(1));
    assert_eq!(pair.b.budgets(), 0);
}

// spec: STR-54
#[test]
fn what_no_budget_has_room_for_stays_lent_until_it_is_read() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.b.set_budget(b, Some(0));
    let bytes = 4 * STREAM_WINDOW;
    let child = pair.a.open_substream(a).unwrap();
    pair.a.write_all(child, &vec![1; usize::try_from(bytes).unwrap()]);
    pair.a.finish(child).unwrap();
    pair.run();
    let lent = |pair: &Pair| {
        let accounts = [ROOT, b.index].map(|index| pair.b.backing(index));
        accounts
            .iter()
            .map(|(charge, consumed, _)| charge - consumed)
            .sum::<u64>()
    };
    assert!(lent(&pair) > bytes, "{} for what waits", lent(&pair));
    let child = pair.b.accept_substream(b).unwrap().unwrap();
    assert_eq!(lent(&pair), bytes - STREAM_WINDOW, "accepted, and not read");
    assert_eq!(pair.b.read_all(child).0.len() as u64, bytes);
    assert_eq!(lent(&pair), 0, "read");
}
