//! Levels: who goes first, and what PRIORITY does.

use sss_wire::frame::Priority;

use super::fairness::{assert_share, shares};
use super::*;

/// A host whose credit never ends.
fn unlimited() -> Streams {
    let mut a = Pair::new().a;
    a.lift_limits();
    a
}

/// A stream of `parent`, at a level, with so many bytes to send.
fn full(a: &mut Streams, parent: Option<StreamKey>, level: i8, bytes: usize) -> StreamKey {
    let key = match parent {
        Some(parent) => a.open_substream(parent).unwrap(),
        None => a.open_top_level("svc", "v1").unwrap(),
    };
    a.set_priority(key, level);
    a.write_all(key, &vec![0; bytes]);
    key
}

/// The streams of whose data the next packets consist, for each packet.
fn next(a: &mut Streams, packets: usize) -> Vec<Vec<u64>> {
    let lsids = |p: Packet| p.streams().iter().map(|f| f.lsid).collect();
    let mut packet = || {
        a.lift_limits();
        a.packet(ROOM).map_or(Vec::new(), lsids)
    };
    (0..packets).map(|_| packet()).collect()
}

fn priority(lsid: u64, serial: u64, level: i8) -> Frame<'static> {
    Frame::Priority(Priority { lsid, serial, level })
}

// spec: STR-22
#[test]
fn levels_are_strict() {
    let mut a = unlimited();
    for level in [0, -128, 127, 1, -1] {
        full(&mut a, None, level, 50_000);
    }
    let mut order = Vec::new();
    while let Some(packet) = a.packet(ROOM) {
        for frame in packet.streams().iter().filter(|f| !f.data.is_empty()) {
            if order.last() != Some(&frame.lsid) {
                order.push(frame.lsid);
            }
        }
    }
    // LSIDs are given in the order of sending.
    assert_eq!(order, [1, 3, 5, 7, 9]);
    let levels: Vec<_> = order.iter().map(|lsid| level_of(&a, *lsid)).collect();
    assert_eq!(levels, [127, 1, 0, -1, -128]);
}

fn level_of(a: &Streams, lsid: u64) -> i8 {
    let Found::Live(index) = a.find(lsid) else {
        panic!("no stream {lsid}");
    };
    a.life.tree.table[index].place.level
}

// spec: STR-22
#[test]
fn within_a_level_nobody_is_a_packet_ahead() {
    for level in [-5, 0, 99] {
        let mut a = unlimited();
        let keys: Vec<_> = (0..3).map(|_| full(&mut a, None, level, 400_000)).collect();
        full(&mut a, None, level - 1, 10_000);
        let sent = |a: &Streams, key: &StreamKey| a.info(*key).unwrap().sent;
        for n in 0..600 {
            a.lift_limits();
            // Packets of all sizes.
            a.packet(1200 + n * 7 % 300).unwrap();
            let all = keys.iter().map(|k| sent(&a, k));
            let (least, most) = (all.clone().min().unwrap(), all.max().unwrap());
            assert!(most - least <= 2 * 1500, "{most} and {least} after {n} packets");
        }
        assert!(keys.iter().map(|k| sent(&a, k)).sum::<u64>() > 700_000);
    }
}

// spec: STR-22
#[test]
fn a_tenants_levels_rank_only_inside_the_tenant() {
    let mut a = Pair::new().a;
    let tenant = a.open_top_level("tenant", "").unwrap();
    let sibling = a.open_top_level("sibling", "").unwrap();
    let loud: Vec<_> = (0..1000).map(|_| a.open_substream(tenant).unwrap()).collect();
    for key in &loud {
        a.set_priority(*key, 127);
    }
    let modest: Vec<_> = (0..3).map(|_| a.open_substream(sibling).unwrap()).collect();
    let keys: Vec<_> = loud.iter().chain(&modest).copied().collect();
    let shares = shares(&mut a, &keys, 10_000_000, 1400);
    let total: u64 = shares.values().sum();
    let of_sibling: u64 = modest.iter().map(|k| shares[k]).sum();
    assert_share(of_sibling, total, 0.5);
}

// spec: STR-23
#[test]
fn a_level_holds_from_the_next_packet() {
    let mut a = unlimited();
    let x = full(&mut a, None, 1, 100_000);
    let y = full(&mut a, None, 0, 100_000);
    assert_eq!(next(&mut a, 3), [[1], [1], [1]]);
    a.set_priority(y, 2);
    assert_eq!(next(&mut a, 3), [[3], [3], [3]]);
    // Both swap while both have data queued.
    a.set_priority(x, 2);
    a.set_priority(y, 1);
    assert_eq!(next(&mut a, 2), [[1], [1]]);
    a.set_priority(y, 2);
    a.set_priority(x, 1);
    assert_eq!(next(&mut a, 2), [[3], [3]]);
    a.set_priority(x, 2);
    let both = next(&mut a, 4).concat();
    assert!(both.contains(&1) && both.contains(&3), "{both:?}");
    assert_eq!((a.info(x).unwrap().priority, a.info(y).unwrap().priority), (2, 2));
}

// spec: STR-23
#[test]
fn a_subtree_moves_with_its_stream() {
    let mut a = unlimited();
    let [x, y] = [(); 2].map(|()| a.open_top_level("svc", "v1").unwrap());
    next(&mut a, 1);
    let below_x = full(&mut a, Some(x), 0, 50_000);
    full(&mut a, Some(y), 100, 50_000);
    let first = next(&mut a, 4).concat();
    let lsid = a.lsid_of(below_x);
    let other = 12 - lsid;
    assert!(first.contains(&lsid) && first.contains(&other), "{first:?}");
    a.set_priority(y, -1);
    assert_eq!(next(&mut a, 2).concat().into_iter().filter(|l| *l == other).count(), 0);
    a.set_priority(x, -2);
    assert_eq!(next(&mut a, 2).concat().into_iter().filter(|l| *l == lsid).count(), 0);
}

// spec: STR-22
#[test]
fn own_data_competes_at_level_0() {
    for level in [1, -1] {
        let mut a = unlimited();
        let parent = full(&mut a, None, -100, 20_000);
        let child = full(&mut a, Some(parent), level, 20_000);
        let (first, second) = if level > 0 { (child, parent) } else { (parent, child) };
        while a.info(first).unwrap().unsent > 0 {
            assert_eq!(a.info(second).unwrap().sent, 0, "level {level}");
            next(&mut a, 1);
        }
        next(&mut a, 1);
        assert!(a.info(second).unwrap().sent > 0);
    }
    let mut a = Pair::new().a;
    let parent = a.open_top_level("svc", "v1").unwrap();
    let child = a.open_substream(parent).unwrap();
    let shares = shares(&mut a, &[parent, child], 1_000_000, 1400);
    assert_share(shares[&child], shares.values().sum(), 0.5);
}

// spec: STR-26
#[test]
fn what_was_lost_is_sent_again_at_the_level_of_its_stream() {
    let mut a = unlimited();
    full(&mut a, None, 1, 1000);
    let packet = a.packet(ROOM).unwrap();
    full(&mut a, None, 5, 5000);
    a.lost(&packet);
    let order = next(&mut a, 5).concat();
    let again = order.iter().position(|l| *l == 1).unwrap();
    assert_eq!(order.iter().rposition(|l| *l == 3).unwrap(), again - 1, "{order:?}");
}

// spec: STR-26, FRM-2
#[test]
fn control_frames_go_before_data_of_any_level() {
    let mut pair = Pair::new();
    let (a_low, b_low) = pair.stream();
    let (a_gone, b_gone) = pair.stream();
    let (a_high, _) = pair.stream();
    pair.b.set_priority(b_low, -128);
    // The peer has something to say about a stream of the lowest level, and data of the highest.
    pair.a.write_all(a_low, &[0; 40_000]);
    pair.a.set_priority(a_high, 127);
    for _ in 0..40 {
        let packet = pair.a.packet(ROOM).unwrap_or_else(|| panic!("data"));
        pair.b.take(&packet).unwrap();
        pair.a.acked(&packet);
        if !pair.a.wants() {
            break;
        }
    }
    assert_eq!(pair.b.read_all(b_low).0.len(), 40_000);
    assert!(pair.b.wants(), "credit is due");
    let high = pair.b.open_top_level("bulk", "").unwrap();
    pair.b.set_priority(high, 127);
    pair.b.write_all(high, &[0; 60_000]);
    pair.b.request_priority(b_low, -7);
    pair.b.stop(b_gone, Code::app(1), "");
    pair.b.reset(b_gone, Code::app(1), "");
    let (low, gone, code) = (pair.b.lsid_of(b_low), pair.b.lsid_of(b_gone), Code::app(1));
    let init = Some(Init::top_level(b"bulk", b"").with_credit(0, 60_000, STREAM_BORROW));
    sent!(
        pair.b,
        [
            reset(gone, code, 0),
            stop(gone, code),
            credit(low, 302_144),
            priority(low, 0, -7),
            stream_frame(2, init, 0, &[0; 1360], false),
        ]
    );
    let _ = a_gone;
}

// spec: STR-24, FRM-7
#[test]
fn the_peer_does_what_is_asked() {
    let mut pair = Pair::new();
    let (a1, b1) = pair.stream();
    let (a2, b2) = pair.stream();
    pair.b.write_all(b1, &[0; 60_000]);
    pair.b.write_all(b2, &[0; 60_000]);
    next(&mut pair.b, 2);
    pair.a.request_priority(a2, 10);
    assert!(pair.a.wants());
    let packet = sent!(pair.a, [priority(3, 0, 10)]);
    assert!(!pair.a.wants());
    pair.b.take(&packet).unwrap();
    assert_eq!(pair.b.info(b2).unwrap().priority, 10);
    assert_eq!(next(&mut pair.b, 3), [[3], [3], [3]]);
    // The direction of who asks has a level of its own.
    assert_eq!(pair.a.info(a2).unwrap().priority, 0);
    // The peer's application has the last word, until it is asked again.
    pair.b.set_priority(b2, -1);
    assert_eq!(next(&mut pair.b, 2), [[1], [1]]);
    pair.b.take(&packet).unwrap();
    assert_eq!(pair.b.info(b2).unwrap().priority, -1);
    pair.a.request_priority(a1, -2);
    pair.run();
    assert_eq!(pair.b.info(b1).unwrap().priority, -2);
}

// spec: STR-24
#[test]
fn requests_that_overtake_each_other_do_no_harm() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let packets = [1, 2, 3].map(|level: i8| {
        pair.a.request_priority(a, level);
        sent!(pair.a, [priority(1, level as u64 - 1, level)])
    });
    for (packet, level) in [(1, 2), (0, 2), (1, 2), (2, 3), (0, 3), (1, 3)] {
        pair.b.take(&packets[packet]).unwrap();
        assert_eq!(pair.b.info(b).unwrap().priority, level);
    }
    // The numbers belong to the stream and the direction.
    let (_, other) = pair.stream();
    received!(pair.b, [priority(3, 0, 9)]);
    assert_eq!(pair.b.info(other).unwrap().priority, 9);
    pair.b.request_priority(b, 4);
    sent!(pair.b, [priority(1, 0, 4)]);
}

// spec: STR-25
#[test]
fn only_the_latest_request_is_sent_again() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.request_priority(a, 1);
    let first = sent!(pair.a, [priority(1, 0, 1)]);
    pair.a.request_priority(a, 2);
    let second = sent!(pair.a, [priority(1, 1, 2)]);
    pair.a.lost(&first);
    assert!(!pair.a.wants());
    pair.a.lost(&second);
    let again = sent!(pair.a, [priority(1, 1, 2)]);
    // Made twice before it could be sent, it is sent once.
    pair.a.request_priority(a, 3);
    pair.a.request_priority(a, 4);
    pair.a.lost(&again);
    let packet = sent!(pair.a, [priority(1, 3, 4)]);
    pair.b.take(&packet).unwrap();
    pair.a.acked(&packet);
    assert_eq!(pair.b.info(b).unwrap().priority, 4);
    assert!(!pair.a.wants());
}

// spec: STR-8
#[test]
fn a_request_waits_until_the_peer_knows_the_stream() {
    let mut pair = Pair::new();
    let a = pair.a.open_top_level("svc", "v1").unwrap();
    pair.a.request_priority(a, 5);
    let init = sent!(pair.a, [announce(1, top_level())]);
    assert!(!pair.a.wants());
    pair.b.take(&init).unwrap();
    pair.a.acked(&init);
    let packet = sent!(pair.a, [priority(1, 0, 5)]);
    pair.b.take(&packet).unwrap();
    let b = pair.b.accept_any().unwrap();
    assert_eq!(pair.b.info(b).unwrap().priority, 5);
}

// spec: STR-8
#[test]
fn priority_of_unknown_and_of_retired_streams() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    for lsid in [2, 3, 1 << 40] {
        let error = pair.b.forged(&priority(lsid, 0, 1)).unwrap_err();
        assert_eq!(error.code, Code::STREAM_STATE, "{lsid}");
    }
    pair.a.request_priority(a, 1);
    let late = sent!(pair.a, [priority(1, 0, 1)]);
    pair.a.release(a);
    pair.b.release(b);
    pair.run();
    assert_eq!((pair.a.len(), pair.b.len()), (0, 0));
    pair.b.take(&late).unwrap();
    pair.a.lost(&late);
    assert!(!pair.a.wants() && !pair.b.wants());
    // After its end, a handle does nothing.
    pair.a.request_priority(a, 3);
    pair.a.set_priority(a, 3);
    assert!(!pair.a.wants());
}

#[test]
fn a_storm_of_requests_leaves_nothing_behind() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.b.write_all(b, &[0; 1000]);
    for serial in 0..100_000 {
        received!(pair.b, [priority(1, serial, (serial % 256) as u8 as i8)]);
        pair.a.request_priority(a, (serial % 256) as u8 as i8);
    }
    assert_eq!(pair.b.info(b).unwrap().priority, (99_999 % 256) as u8 as i8);
    sent!(pair.a, [priority(1, 99_999, (99_999 % 256) as u8 as i8)]);
    assert!(!pair.a.wants());
    let debug = format!("{:?}", pair.b.life.scheduler);
    assert!(debug.len() < 20_000, "{}", debug.len());
}

/// Steps of the scheduler to send 100 requests of one substream each and 100 packets of a bulk transfer, beside `idle`
/// idle siblings, and `idle` idle children of the transfer.
fn steps(idle: usize) -> u64 {
    let mut pair = Pair::with_root(1 << 40);
    let (a, b) = pair.stream();
    let (bulk, _) = pair.stream();
    for n in 0..idle {
        let parent = if n % 2 == 0 { a } else { bulk };
        pair.a.open_substream(parent).unwrap();
        pair.a.set_priority(a, 0);
        if n % 100 == 99 {
            pair.run();
            while let Ok(Some(_)) = pair.b.accept_substream(b) {}
        }
    }
    pair.run();
    let index = pair.a.life.tree.table.find(bulk).unwrap();
    pair.a.life.tree.table[index].send.limit = 1 << 60;
    pair.a.write_all(bulk, &[0; 140_000]);
    let before = pair.a.life.scheduler.steps();
    for n in 0..100 {
        let key = pair.a.open_substream(a).unwrap();
        pair.a.set_priority(key, (n % 3) as i8);
        pair.a.write_all(key, b"request");
        let packet = pair.a.packet(ROOM).unwrap();
        pair.a.acked(&packet);
    }
    pair.a.life.scheduler.steps() - before
}

#[test]
fn idle_streams_cost_no_step() {
    let (none, many) = (steps(0), steps(100_000));
    assert!(none < 100 * 20, "{none} steps");
    // Longer LSIDs change who is a byte ahead.
    assert!(many.abs_diff(none) <= none / 100, "{many} steps beside {none}");
}

#[test]
fn a_step_is_taken_for_each_stream_that_is_chosen_however_many_wait() {
    for count in [10, 10_000] {
        let mut a = unlimited();
        let keys: Vec<_> = (0..count).map(|n| full(&mut a, None, (n % 200) as i8, 2000)).collect();
        let before = a.life.scheduler.steps();
        next(&mut a, 20);
        let steps = a.life.scheduler.steps() - before;
        assert!(steps <= 20 * 12, "{steps} for {count}");
        assert_eq!(keys.len(), count);
    }
}
