//! Datagrams in line (STR-81).

use super::*;

/// Not reliable, of any level, and nobody asks for its fate.
fn untracked(priority: i8) -> DatagramOptions {
    DatagramOptions {
        priority,
        tracked: false,
        ..BEST_EFFORT
    }
}

/// Sends datagrams of these sizes, whose fates are asked for.
fn send_sizes(streams: &mut Streams, on: StreamKey, sizes: &[usize]) -> Vec<DatagramId> {
    let send = |size: &usize| streams.send_now(on, &pattern(*size), &BEST_EFFORT);
    sizes.iter().map(send).collect()
}

/// Everything that is sent is carried, and what has arrived is told by its size.
fn carry(pair: &mut Pair, on: StreamKey) -> Vec<usize> {
    let mut sizes = Vec::new();
    while pair.step() {
        sizes.extend(pair.b.datagrams_now(on).iter().map(Bytes::len));
    }
    sizes
}

/// Nothing is queued on a stream.
fn assert_has_room(streams: &mut Streams, on: StreamKey) {
    let mailbox = streams.life.tree[on.index].mailbox().map_or(0, |m| m.queued);
    assert_eq!((mailbox, streams.unsent()), (0, 0));
    streams.assert_no_datagrams();
}

// spec: STR-81
#[test]
fn those_that_wait_are_sent_in_their_order_from_one_place_in_the_tree() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let sizes: Vec<usize> = (0..300).map(|n| 1 + n * 3).collect();
    let ids = send_sizes(&mut pair.a, a, &sizes);
    assert_eq!(pair.a.len(), 2, "the stream, and the first");
    let sum = sizes.iter().sum::<usize>() as u64;
    assert_eq!(pair.a.unsent(), sum);
    assert_eq!(pair.a.subtree_info(a).unwrap().unsent, sum);
    assert_eq!(carry(&mut pair, b), sizes);
    let delivered: Vec<_> = ids.iter().map(|id| (*id, DatagramFate::Delivered)).collect();
    assert_eq!(pair.a.fates(), delivered);
    assert_eq!(pair.a.len(), 1);
    assert_has_room(&mut pair.a, a);
    assert_eq!(pair.a.life.ledger.stats().sent_stateless, 300);
}

// spec: STR-22, STR-81
#[test]
fn a_hundred_of_them_have_one_share_beside_a_stream() {
    let mut pair = Pair::new();
    let (a, _) = pair.stream();
    let child = pair.a.open_substream(a).unwrap();
    assert_eq!(pair.a.write(child, &[0; 60_000]), Ok(60_000));
    (0..100).for_each(|_| {
        pair.a.send_now(a, &pattern(600), &untracked(0));
    });
    let mut total = 0;
    while total < 60_000 {
        pair.a.lift_limits();
        let packet = pair.a.packet(ROOM).unwrap();
        pair.a.acked(&packet);
        total += packet.bytes.len() as u64;
    }
    let share = pair.a.info(child).unwrap().sent as f64 / total as f64;
    assert!((share - 0.5).abs() < 0.05, "{share}");
}

// spec: STR-81
#[test]
fn those_of_another_kind_or_level_do_not_stand_in_line() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.send_now(a, &pattern(100), &untracked(0));
    pair.a.send_now(a, &pattern(101), &untracked(3));
    pair.a.send_now(a, &pattern(102), &RELIABLE);
    pair.a.send_now(a, &pattern(103), &deadline(50));
    pair.a.send_now(a, &pattern(104), &untracked(0));
    pair.a.send_now(a, &pattern(105), &untracked(3));
    assert_eq!(pair.a.len(), 1 + 4, "104 is in line behind 100, and 105 behind 101");
    let sizes = carry(&mut pair, b);
    assert_eq!(sizes[..2], [101, 105], "they are of a higher level");
    let at = |size| sizes.iter().position(|s| *s == size).unwrap();
    assert!(at(100) < at(104) && sizes.len() == 6, "{sizes:?}");
    assert_has_room(&mut pair.a, a);
}

// spec: STR-81
#[test]
fn one_that_is_to_be_a_stream_and_waits_for_that_stops_nobody_behind_it() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    // Nobody has room for opening a stream.
    while pair.a.open_substream(a).is_ok() && pair.a.packet(ROOM).is_some() {}
    let ids = send_sizes(&mut pair.a, a, &[100, 4000, 101, 5000, 102]);
    let mut arrived = Vec::new();
    while let Some(packet) = pair.a.packet(ROOM) {
        pair.b.take(&packet).unwrap();
        pair.a.acked(&packet);
        arrived.extend(pair.b.datagrams_now(b).iter().map(Bytes::len));
    }
    assert_eq!(arrived, [100, 101, 102]);
    let delivered = [ids[0], ids[2], ids[4]].map(|id| (id, DatagramFate::Delivered));
    assert_eq!(pair.a.fates(), delivered);
    // Later ones form another line.
    send_sizes(&mut pair.a, a, &[103, 104]);
    while let Some(packet) = pair.a.packet(ROOM) {
        pair.b.take(&packet).unwrap();
        arrived.extend(pair.b.datagrams_now(b).iter().map(Bytes::len));
    }
    assert_eq!(arrived, [100, 101, 102, 103, 104]);
}

// spec: STR-32, STR-81
#[test]
fn where_much_is_lost_all_in_line_go_as_streams() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let sizes: Vec<usize> = (0..50).map(|n| 10 + n).collect();
    let ids = send_sizes(&mut pair.a, a, &sizes);
    pair.a.set_loss(LOSSY, Duration::ZERO);
    let mut arrived = carry(&mut pair, b);
    arrived.sort_unstable();
    assert_eq!(arrived, sizes);
    assert_eq!(pair.a.life.ledger.stats().sent_as_stream, 50);
    let mut settled: Vec<_> = pair.a.fates().into_iter().map(|(id, _)| id).collect();
    settled.sort_unstable();
    assert_eq!(settled, ids);
    assert_has_room(&mut pair.a, a);
}

// spec: STR-35, STR-81
#[test]
fn each_in_line_has_its_own_time() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.set_loss(0, Duration::ZERO);
    // Of a lower level: its deadline is the first of all.
    let low = pair
        .a
        .send_now(a, &pattern(100), &BEST_EFFORT.with(|options| options.priority = -1));
    let send = |streams: &mut Streams, ms| {
        let id = streams.send_datagram(at(ms), a, &pattern(100), &BEST_EFFORT);
        id.unwrap().unwrap()
    };
    let ids = [1, 10, 10, 20].map(|ms| send(&mut pair.a, ms));
    // The first has been sent: its deadline is nothing to those that take its place.
    let packet = pair.a.packet(150).unwrap();
    pair.b.take(&packet).unwrap();
    pair.a.acked(&packet);
    assert_eq!(pair.a.fates(), [(ids[0], DatagramFate::Delivered)]);
    pair.a.on_timer(at(9) + DATAGRAM_LIFETIME);
    let expired = |id| (id, DatagramFate::Expired);
    assert_eq!(pair.a.fates(), [expired(low)]);
    assert_eq!(pair.a.next_timer(), Some(at(10) + DATAGRAM_LIFETIME));
    pair.a.on_timer(at(10) + DATAGRAM_LIFETIME);
    assert_eq!(pair.a.fates(), [expired(ids[1]), expired(ids[2])]);
    assert_eq!(pair.a.next_timer(), Some(at(20) + DATAGRAM_LIFETIME));
    assert_eq!(pair.a.unsent(), 100);
    pair.a.on_timer(at(20) + DATAGRAM_LIFETIME);
    assert_eq!(pair.a.fates(), [expired(ids[3])]);
    assert_eq!((pair.a.next_timer(), pair.a.wants(), pair.a.len()), (None, false, 1));
    assert_eq!(pair.a.life.ledger.stats().expired, 4);
    assert_has_room(&mut pair.a, a);
    assert_eq!(pair.b.datagrams_now(b).len(), 1);
}

// spec: STR-36, STR-81
#[test]
fn one_that_turns_out_to_be_too_large_makes_room_for_the_next() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let ids = send_sizes(&mut pair.a, a, &[500, 600, 300]);
    pair.a.set_peer_max_message(400);
    assert_eq!(carry(&mut pair, b), [300]);
    let fates = [DatagramFate::TooLarge, DatagramFate::TooLarge, DatagramFate::Delivered];
    let fates: Vec<_> = ids.into_iter().zip(fates).collect();
    assert_eq!(pair.a.fates(), fates);
    assert_has_room(&mut pair.a, a);
}

// spec: STR-44, STR-81
#[test]
fn a_reset_of_the_subtree_cancels_all_in_line() {
    for by_peer in [false, true] {
        let mut pair = Pair::new();
        let (a, b) = pair.stream();
        let ids = send_sizes(&mut pair.a, a, &[100; 20]);
        let streams = if by_peer { (&mut pair.b, b) } else { (&mut pair.a, a) };
        streams.0.reset_tree(streams.1, Code::app(7), "over");
        let answer = pair.b.packet(ROOM);
        answer.iter().for_each(|packet| pair.a.take(packet).unwrap());
        let cancelled: Vec<_> = ids.into_iter().map(|id| (id, DatagramFate::Cancelled)).collect();
        assert_eq!(pair.a.fates(), cancelled, "by peer: {by_peer}");
        assert_eq!(pair.a.unsent(), 0);
        pair.a.assert_no_datagrams();
        pair.run();
        assert!(pair.b.recv_datagram(at(0), b).is_err());
    }
}

// spec: STR-81
#[test]
fn at_the_end_of_the_channel_the_fates_of_all_in_line_are_told_and_who_waits_for_room_is_woken() {
    let mut pair = Pair::new();
    let (a, _) = pair.stream();
    let mut ids = Vec::new();
    while let Some(id) = pair.a.send_datagram(at(0), a, &pattern(1000), &BEST_EFFORT).unwrap() {
        ids.push(id);
    }
    assert!(ids.len() > 300);
    pair.a.fail_all(&CloseReason::Replaced);
    let events = pair.a.events();
    for id in ids {
        let lost = StreamEvent::DatagramSettled(id, DatagramFate::ChannelLost);
        assert_eq!(events.iter().filter(|event| **event == lost).count(), 1);
    }
    assert!(events.contains(&StreamEvent::Ready(a, Interest::SendDatagram)));
    assert_has_room(&mut pair.a, a);
}

// spec: STR-81
#[test]
fn those_in_line_of_a_released_stream_are_still_delivered() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    send_sizes(&mut pair.a, a, &[100; 40]);
    pair.a.release(a);
    assert_eq!(carry(&mut pair, b), [100; 40]);
    pair.b.release(b);
    pair.run();
    assert_eq!((pair.a.len(), pair.b.len()), (0, 0));
}
