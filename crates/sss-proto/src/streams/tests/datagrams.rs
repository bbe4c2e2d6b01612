//! Messages of any size on a stream.

mod line;

use std::time::Duration;

use sss_wire::constants::{DATAGRAM_BORROW, DATAGRAM_LIFETIME, OPEN_COST, OPEN_ROOM, STREAM_BORROW, STREAM_WINDOW};
use sss_wire::frame::Datagram;

use super::*;
use crate::DatagramFate;
use crate::channel::Outlook;
use crate::error::{DatagramError, ReadError};
use crate::ids::DatagramId;
use crate::interest::Interest;
use crate::streams::flow::budget::HostBudget;
use crate::streams::{DatagramOptions, poll_recv_datagrams, send_datagrams};

const BEST_EFFORT: DatagramOptions = DatagramOptions {
    reliable: false,
    deadline: None,
    priority: 0,
    tracked: true,
};
const RELIABLE: DatagramOptions = DatagramOptions {
    reliable: true,
    ..BEST_EFFORT
};
/// More than 1% of the latest packets were lost.
const LOSSY: u32 = 1000;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn deadline(ms: u64) -> DatagramOptions {
    DatagramOptions {
        deadline: Some(Duration::from_millis(ms)),
        ..BEST_EFFORT
    }
}

fn pattern(len: usize) -> Bytes {
    (0..len).map(|i| (i as u32).wrapping_mul(0x9e37_79b9) as u8).collect()
}

impl Streams {
    fn send_now(&mut self, on: StreamKey, data: &Bytes, options: &DatagramOptions) -> DatagramId {
        self.send_datagram(at(0), on, data, options).unwrap().unwrap()
    }

    fn datagrams_now(&mut self, on: StreamKey) -> Vec<Bytes> {
        std::iter::from_fn(|| self.recv_datagram(at(0), on).unwrap()).collect()
    }

    fn fates(&mut self) -> Vec<(DatagramId, DatagramFate)> {
        let fate = |event| match event {
            StreamEvent::DatagramSettled(id, fate) => Some((id, fate)),
            _ => None,
        };
        self.events().into_iter().filter_map(fate).collect()
    }

    /// Nothing of datagrams is left but what waits for the application.
    fn assert_no_datagrams(&self) {
        assert!(self.life.ledger.is_unused());
    }
}

/// INIT of a datagram for which there is room.
fn announcement(parent: u64, size: u64) -> Init<'static> {
    let levels = u8::from(size > STREAM_WINDOW);
    Init::datagram(parent, size, 0).with_credit(levels, size.min(DATAGRAM_BORROW), 0)
}

/// Bytes of a datagram that fit into a packet, up to its end, behind INIT of stream 3.
fn room_beside(init: Option<Init<'_>>) -> usize {
    // STREAM that ends with the packet does not say how long it is.
    ROOM + 1 - stream_frame(3, init, 0, b"", false).encoded_len()
}

/// INIT of a datagram, as a peer might make it up.
fn forged_datagram(lsid: u64, parent: u64, size: u64, data: &[u8], fin: bool) -> Frame<'_> {
    stream_frame(lsid, Some(announcement(parent, size)), 0, data, fin)
}

fn code(result: Result<(), ProtocolError>) -> Code {
    result.unwrap_err().code
}

// spec: STR-32, STR-33
#[test]
fn a_small_one_goes_in_one_frame_and_leaves_nothing_behind() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let charge = pair.a.lent(1);
    let id = pair.a.send_now(a, &pattern(1000), &BEST_EFFORT);
    let packet = sent!(
        pair.a,
        [Datagram {
            lsid: 1,
            data: &pattern(1000)
        }]
    );
    assert_eq!((pair.a.len(), pair.a.wants()), (1, false));
    assert_eq!(pair.a.lent(1), charge);
    assert_eq!(pair.a.life.tree.lsids.next(), 1, "it takes no LSID");
    assert_eq!(pair.b.recv_datagram(at(0), b), Ok(None));
    pair.b.take(&packet).unwrap();
    assert_eq!(pair.b.events(), [StreamEvent::Ready(b, Interest::RecvDatagram)]);
    assert_eq!(pair.b.datagrams_now(b), [pattern(1000)]);
    assert_eq!(pair.a.fates(), []);
    pair.a.acked(&packet);
    assert_eq!(pair.a.fates(), [(id, DatagramFate::Delivered)]);
    pair.a.assert_no_datagrams();
    pair.b.assert_no_datagrams();
}

// spec: STR-33
#[test]
fn a_lost_one_is_never_sent_again() {
    let mut pair = Pair::new();
    let (a, _) = pair.stream();
    let id = pair.a.send_now(a, &pattern(10), &BEST_EFFORT);
    let packet = pair.a.packet(ROOM).unwrap();
    pair.a.lost(&packet);
    assert!(!pair.a.wants());
    assert_eq!(pair.a.fates(), [(id, DatagramFate::Lost)]);
    pair.a.acked(&packet);
    assert_eq!(pair.a.fates(), [], "a fate is told once");
}

// spec: STR-33
#[test]
fn init_of_the_stream_comes_before_it_until_it_is_acknowledged() {
    let mut pair = Pair::new();
    let top = pair.a.open_top_level("svc", "v1").unwrap();
    let child = pair.a.open_substream(top).unwrap();
    pair.a.packet(ROOM).unwrap();
    for _ in 0..2 {
        pair.a.send_now(child, &pattern(100), &BEST_EFFORT);
        let packet = sent!(
            pair.a,
            [
                announce(1, top_level()),
                announce(3, child_lent(1, 1, STREAM_WINDOW)),
                Datagram {
                    lsid: 3,
                    data: &pattern(100)
                },
            ]
        );
        // The others were lost.
        pair.b = Streams::test(Role::Responder, 1 << 20);
        pair.b.take(&packet).unwrap();
        let top = pair.b.accept_any().unwrap();
        let child = pair.b.accept_substream(top).unwrap().unwrap();
        assert_eq!(pair.b.datagrams_now(child), [pattern(100)]);
    }
}

// spec: STR-32
#[test]
fn one_that_is_large_or_reliable_or_unlikely_to_arrive_goes_as_a_stream() {
    for (size, options, loss) in [
        (1500, BEST_EFFORT, 0),
        (10, RELIABLE, 0),
        (10, BEST_EFFORT, LOSSY),
        (0, RELIABLE, 0),
        (60_000, BEST_EFFORT, LOSSY),
    ] {
        let mut pair = Pair::new();
        let (a, b) = pair.stream();
        pair.a.set_loss(loss, Duration::ZERO);
        let id = pair.a.send_now(a, &pattern(size), &options);
        let init = Some(announcement(1, size as u64));
        let first = size.min(room_beside(init));
        let packet = sent!(pair.a, [stream_frame(3, init, 0, &pattern(first), first == size)]);
        pair.a.lost(&packet);
        pair.run();
        assert_eq!(pair.b.datagrams_now(b), [pattern(size)]);
        pair.run();
        assert_eq!(pair.a.fates(), [(id, DatagramFate::Delivered)], "{size} {options:?}");
        assert_eq!((pair.a.len(), pair.b.len()), (1, 1));
        pair.a.assert_no_datagrams();
        pair.b.assert_no_datagrams();
        let (sent, received) = (pair.a.lent(1), pair.b.backing(1));
        assert_eq!(sent, received.0);
        assert_eq!(received.0, received.1);
    }
}

// spec: STR-32
#[test]
fn one_that_fits_a_packet_waits_for_the_next() {
    let mut pair = Pair::new();
    let (a, _) = pair.stream();
    for _ in 0..3 {
        pair.a.send_now(a, &pattern(900), &BEST_EFFORT);
    }
    let (lsid, data) = (1, &pattern(900)[..]);
    for _ in 0..3 {
        sent!(pair.a, [Datagram { lsid, data }]);
    }
    // It would fit, but for what must come before it in every packet.
    pair.a.send_now(a, &pattern(ROOM - 4), &BEST_EFFORT);
    let mut space = vec![0; ROOM];
    let mut tokens = Vec::new();
    let mut writer = PacketWriter::new(&mut space, &mut tokens);
    writer.quiet().zeros(100);
    pair.a.fill(&mut writer, Length::Fixed(0));
    assert!(matches!(tokens[..], [Token::Stream { .. }]), "{tokens:?}");
}

// spec: STR-34
#[test]
fn what_a_datagram_stream_cannot_be_closes_the_channel() {
    let opened = |b: &mut Streams| {
        received!(b, [stream_frame(1, top_level(), 0, b"", false)]);
        b.accept_any().unwrap()
    };
    let mark = Frame::Stream(Stream {
        lsid: 3,
        init: Some(announcement(1, 5)),
        offset: 0,
        fin: false,
        mark: true,
        data: b"123",
    });
    let cases: [(&[Frame<'_>], Code); 11] = [
        (&[mark], Code::FINAL_SIZE),
        (&[forged_datagram(3, 0, 5, b"", false)], Code::STREAM_STATE),
        (&[forged_datagram(3, 9, 5, b"", false)], Code::STREAM_STATE),
        (&[forged_datagram(2, 1, 5, b"", false)], Code::STREAM_STATE),
        (
            &[
                forged_datagram(3, 1, 5, b"", false),
                stream_frame(5, child_of(3, 0), 0, b"", false),
            ],
            Code::STREAM_STATE,
        ),
        (
            &[
                forged_datagram(3, 1, 5, b"", false),
                forged_datagram(5, 3, 5, b"", false),
            ],
            Code::STREAM_STATE,
        ),
        (
            &[
                forged_datagram(3, 1, 5, b"12345", false),
                stream_frame(3, None, 5, b"6", false),
            ],
            Code::FINAL_SIZE,
        ),
        (&[forged_datagram(3, 1, 5, b"123", true)], Code::FINAL_SIZE),
        (&[forged_datagram(3, 1, 5, b"123456", true)], Code::FINAL_SIZE),
        (
            &[forged_datagram(3, 1, 5, b"123", false), reset_frame(3, 6)],
            Code::FINAL_SIZE,
        ),
        (
            &[forged_datagram(3, 1, 5, b"123", false), reset_frame(3, 2)],
            Code::FINAL_SIZE,
        ),
    ];
    for (frames, expected) in cases {
        let mut b = Pair::new().b;
        opened(&mut b);
        let (last, before) = frames.split_last().unwrap();
        before.iter().for_each(|f| b.forged(f).unwrap());
        assert_eq!(code(b.forged(last)), expected, "{frames:?}");
    }
}

// spec: STR-34
#[test]
fn nothing_comes_back_on_a_datagram_stream() {
    let mut pair = Pair::new();
    let (a, _) = pair.stream();
    pair.a.send_now(a, &pattern(9000), &RELIABLE);
    let packet = pair.a.packet(ROOM).unwrap();
    pair.b.take(&packet).unwrap();
    pair.a.acked(&packet);
    assert_eq!(
        code(pair.a.forged(&stream_frame(3, None, 0, b"x", false))),
        Code::FINAL_SIZE
    );
    assert_eq!(
        code(pair.a.forged(&stream_frame(2, child_of(3, 0), 0, b"", false))),
        Code::STREAM_STATE
    );
    assert_eq!(
        code(pair.a.forged(&forged_datagram(2, 3, 0, b"", true))),
        Code::STREAM_STATE
    );
}

// spec: STR-34
#[test]
fn a_reset_after_all_has_arrived_takes_nothing_back() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.send_now(a, &pattern(2000), &RELIABLE);
    while let Some(packet) = pair.a.packet(ROOM) {
        pair.b.take(&packet).unwrap();
    }
    received!(pair.b, [reset_frame(3, 2000)]);
    assert_eq!(pair.b.datagrams_now(b), [pattern(2000)]);
}

// spec: STR-33
#[test]
fn frames_on_streams_that_cannot_have_them() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let datagram = |lsid| Frame::Datagram(Datagram { lsid, data: b"hello" });
    received!(pair.b, [datagram(3)] => Code::STREAM_STATE);
    received!(pair.b, [datagram(2)] => Code::STREAM_STATE);
    pair.a.send_now(a, &pattern(5000), &BEST_EFFORT);
    let packet = pair.a.packet(ROOM).unwrap();
    pair.b.take(&packet).unwrap();
    received!(pair.b, [datagram(3)] => Code::STREAM_STATE);
    pair.b.release(b);
    received!(pair.b, [datagram(1)]);
    pair.a.release(a);
    pair.run();
    assert_eq!(pair.b.len(), 0);
    received!(pair.b, [datagram(1)]);
    assert_eq!(pair.b.datagram_stats().dropped_unheld, 2);
}

// spec: STR-35
#[test]
fn when_it_cannot_arrive_in_time_any_more_one_is_given_up() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.set_loss(0, Duration::from_millis(25));
    let id = pair.a.send_now(a, &pattern(3000), &deadline(200));
    assert_eq!(pair.a.next_timer(), Some(at(175)));
    let packet = pair.a.packet(ROOM).unwrap();
    pair.b.take(&packet).unwrap();
    pair.a.on_timer(at(174));
    assert_eq!(pair.a.fates(), []);
    pair.a.on_timer(at(175));
    assert_eq!(pair.a.fates(), [(id, DatagramFate::Expired)]);
    assert_eq!(pair.a.next_timer(), None);
    // INIT is not acknowledged, so it comes again, and says the same as before.
    let (lsid, code) = (3, Code::EXPIRED);
    let packet = sent!(
        pair.a,
        [announce(lsid, Some(announcement(1, 3000))), reset(lsid, code, 1391),]
    );
    pair.b.take(&packet).unwrap();
    pair.a.acked(&packet);
    let answer = sent!(pair.b, [reset(lsid, code, 0)]);
    pair.a.take(&answer).unwrap();
    pair.b.acked(&answer);
    assert_eq!(pair.b.datagrams_now(b), Vec::<Bytes>::new());
    assert_eq!((pair.a.len(), pair.b.len()), (1, 1));
    pair.a.assert_no_datagrams();
    pair.b.assert_no_datagrams();
}

// spec: STR-22, STR-78
#[test]
fn those_with_deadlines_take_nothing_of_the_share_of_a_stream_beside_them() {
    let mut pair = Pair::new();
    let (a, _) = pair.stream();
    let child = pair.a.open_substream(a).unwrap();
    assert_eq!(pair.a.write(child, &[0; 60_000]), Ok(60_000));
    for ms in [100, 200, 300] {
        pair.a.send_now(a, &pattern(60_000), &deadline(ms));
    }
    let mut total = 0;
    // All of that is of the first datagram, and of the stream.
    while total < 60_000 {
        pair.a.lift_limits();
        let packet = pair.a.packet(ROOM).unwrap();
        pair.a.acked(&packet);
        total += packet.bytes.len() as u64;
    }
    let share = pair.a.info(child).unwrap().sent as f64 / total as f64;
    assert!((share - 0.25).abs() < 0.05, "{share}");
}

/// A full window of so many bytes in 40 ms.
fn full_window(bytes: u64) -> Outlook {
    Outlook::of(at(0), bytes, bytes, Duration::from_millis(40))
}

// spec: STR-78
#[test]
fn of_large_ones_that_of_the_first_deadline_is_sent_as_a_whole_before_the_others() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let data = [3001, 3002, 3003].map(pattern);
    for (data, ms) in data.iter().zip([300, 100, 200]) {
        pair.a.send_now(a, data, &deadline(ms));
    }
    let mut arrived = Vec::new();
    while let Some(packet) = pair.a.packet(ROOM) {
        pair.b.take(&packet).unwrap();
        arrived.extend(pair.b.datagrams_now(b));
    }
    let [third, first, second] = data;
    assert_eq!(arrived, [first, second, third]);
}

// spec: STR-79
#[test]
fn one_that_has_not_begun_gives_way_to_a_later_one_if_it_could_not_be_repaired() {
    for (window, gives_way) in [(20_000, false), (6000, true)] {
        let mut pair = Pair::new();
        let (a, _) = pair.stream();
        pair.a.set_loss(0, Duration::from_millis(20));
        // A round trip before it is too late: in 40 ms, a window may leave.
        let first = pair.a.send_now(a, &pattern(10_000), &deadline(100));
        pair.a.send_now(a, &pattern(10_000), &deadline(200));
        pair.a.set_outlook(full_window(window));
        pair.a.packet(ROOM).unwrap();
        let fates = pair.a.fates();
        assert_eq!(
            fates.contains(&(first, DatagramFate::Expired)),
            gives_way,
            "{window}: {fates:?}"
        );
        assert_eq!(fates.len(), usize::from(gives_way));
    }
}

// spec: STR-35, STR-78, STR-79
#[test]
fn what_has_a_deadline_keeps_it_through_a_rest() {
    for rests in [false, true] {
        let mut pair = Pair::new();
        let (a, _) = pair.stream();
        let way = Duration::from_millis(20);
        pair.a.set_loss(0, way);
        let first = pair.a.send_now(a, &pattern(10_000), &deadline(100));
        let second = pair.a.send_now(a, &pattern(10_000), &deadline(200));
        pair.a.set_path(2 * way, 0, way, || full_window(6000));
        if rests {
            crate::streams::rest(&mut pair.a);
        }
        pair.a.packet(ROOM).unwrap();
        assert_eq!(pair.a.fates(), [(first, DatagramFate::Expired)], "it gives way");
        assert_eq!(pair.a.next_timer(), Some(at(180)));
        pair.a.on_timer(at(180));
        assert_eq!(pair.a.fates(), [(second, DatagramFate::Expired)]);
    }
}

// spec: STR-79
#[test]
fn one_that_has_begun_gives_way_only_if_too_little_can_leave() {
    for (window, gives_way) in [(6000, false), (2000, true)] {
        let mut pair = Pair::new();
        let (a, _) = pair.stream();
        pair.a.set_loss(0, Duration::from_millis(20));
        let first = pair.a.send_now(a, &pattern(10_000), &deadline(100));
        pair.a.packet(ROOM).unwrap();
        pair.a.send_now(a, &pattern(10_000), &deadline(200));
        pair.a.set_outlook(full_window(window));
        let packet = pair.a.packet(ROOM).unwrap();
        assert_eq!(
            pair.a.fates() == [(first, DatagramFate::Expired)],
            gives_way,
            "{window}"
        );
        let resets = |packet: &Packet| packet.frames().iter().any(|frame| matches!(frame, Frame::Reset(_)));
        let next = pair.a.packet(ROOM).unwrap();
        assert_eq!(resets(&packet) || resets(&next), gives_way, "{window}");
    }
}

// spec: STR-79
#[test]
fn a_reliable_one_gives_way_to_none() {
    let mut pair = Pair::new();
    let (a, _) = pair.stream();
    pair.a.set_loss(0, Duration::from_millis(20));
    let options = DatagramOptions {
        reliable: true,
        ..deadline(100)
    };
    pair.a.send_now(a, &pattern(10_000), &options);
    pair.a.send_now(a, &pattern(10_000), &deadline(200));
    pair.a.set_outlook(full_window(2000));
    let packet = pair.a.packet(ROOM).unwrap();
    assert_eq!(pair.a.fates(), []);
    // The first to be announced.
    assert!(packet.streams().iter().all(|stream| stream.lsid == 3) && !packet.streams().is_empty());
}

// spec: STR-79
#[test]
fn the_end_of_one_that_gave_way_is_told_though_nothing_else_can_be_sent() {
    let mut pair = Pair::with_root(65_536);
    let (a, _) = pair.stream();
    pair.a.set_loss(0, Duration::from_millis(20));
    let first = pair.a.send_now(a, &pattern(20_000), &deadline(100));
    let packet = pair.a.packet(ROOM).unwrap();
    pair.a.acked(&packet);
    let sent = packet.streams().iter().map(|stream| stream.data.len() as u64).sum();
    // There is no room to announce the next one.
    pair.a.life.tree.table[1].account_mut().lent.set_limit(0);
    pair.a.life.tree.table[0].account_mut().lent.set_limit(0);
    pair.a.send_now(a, &pattern(20_000), &deadline(200));
    pair.a.set_outlook(full_window(2000));
    sent!(pair.a, [reset(3, Code::EXPIRED, sent)]);
    assert_eq!(pair.a.fates(), [(first, DatagramFate::Expired)]);
    assert!(!pair.a.wants());
}

// spec: STR-79
#[test]
fn one_that_no_other_waits_for_is_tried_whatever_its_chances() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.set_loss(0, Duration::from_millis(20));
    pair.a.set_outlook(full_window(2000));
    pair.a.send_now(a, &pattern(10_000), &deadline(100));
    // Of another stream, of another level, and without a deadline of its own.
    let other = pair.a.open_substream(a).unwrap();
    pair.a.send_now(other, &pattern(10_000), &deadline(200));
    let below = DatagramOptions {
        priority: -1,
        ..deadline(200)
    };
    pair.a.send_now(a, &pattern(10_000), &below);
    pair.a.send_now(a, &pattern(10_000), &BEST_EFFORT);
    pair.run();
    assert!(pair.a.fates().iter().all(|(_, fate)| *fate == DatagramFate::Delivered));
    assert_eq!(pair.b.datagrams_now(b).len(), 3);
}

// spec: STR-35
#[test]
fn one_that_is_under_way_as_a_whole_is_given_up_only_when_something_is_lost() {
    for arrives in [true, false] {
        let mut pair = Pair::new();
        let (a, b) = pair.stream();
        pair.a.set_loss(0, Duration::from_millis(25));
        let id = pair.a.send_now(a, &pattern(2000), &deadline(200));
        let packets = [pair.a.packet(ROOM).unwrap(), pair.a.packet(ROOM).unwrap()];
        pair.a.on_timer(at(175));
        assert_eq!(
            (pair.a.fates(), pair.a.wants(), pair.a.next_timer()),
            (vec![], false, None)
        );
        pair.b.take(&packets[0]).unwrap();
        pair.a.acked(&packets[0]);
        if arrives {
            pair.b.take(&packets[1]).unwrap();
            pair.a.acked(&packets[1]);
            pair.run();
            assert_eq!(pair.a.fates(), [(id, DatagramFate::Delivered)]);
            assert_eq!(pair.b.datagrams_now(b), [pattern(2000)]);
        } else {
            pair.a.lost(&packets[1]);
            assert_eq!(pair.a.fates(), [(id, DatagramFate::Expired)]);
            let packet = sent!(pair.a, [reset(3, Code::EXPIRED, 2000)]);
            pair.b.take(&packet).unwrap();
            pair.a.acked(&packet);
            pair.run();
            assert_eq!(pair.b.datagrams_now(b), Vec::<Bytes>::new());
        }
        assert_eq!((pair.a.len(), pair.b.len()), (1, 1));
        pair.a.assert_no_datagrams();
    }
}

// spec: STR-35
#[test]
fn one_that_was_never_sent_expires_without_a_word() {
    let mut a = Pair::new().a;
    let top = a.open_top_level("svc", "v1").unwrap();
    a.packet(ROOM).unwrap();
    let id = a.send_now(top, &pattern(100), &BEST_EFFORT);
    let late = a.send_now(top, &pattern(100), &deadline(1));
    a.send_now(top, &pattern(100), &RELIABLE);
    a.set_loss(0, Duration::from_millis(25));
    a.on_timer(at(0));
    assert_eq!(
        a.fates(),
        [(late, DatagramFate::Expired)],
        "it could not have arrived in time"
    );
    let end = at(0) + DATAGRAM_LIFETIME - Duration::from_millis(25);
    assert_eq!(a.next_timer(), Some(end));
    a.on_timer(end);
    assert_eq!(a.fates(), [(id, DatagramFate::Expired)]);
    assert_eq!((a.next_timer(), a.len()), (None, 2));
    sent!(
        a,
        [
            announce(1, top_level()),
            stream_frame(
                3,
                Some(announcement(1, 100).with_credit(1, 100, 0)),
                0,
                &pattern(100),
                true
            ),
        ]
    );
}

// spec: STR-35
#[test]
fn a_reliable_one_with_a_deadline_is_abandoned_then() {
    let mut pair = Pair::new();
    let (a, _) = pair.stream();
    pair.a.set_loss(0, Duration::ZERO);
    let options = DatagramOptions {
        reliable: true,
        ..deadline(100)
    };
    let id = pair.a.send_now(a, &pattern(10), &options);
    let packet = pair.a.packet(ROOM).unwrap();
    pair.a.on_timer(at(100));
    pair.a.lost(&packet);
    assert_eq!(pair.a.fates(), [(id, DatagramFate::Expired)]);
    let (lsid, code) = (3, Code::EXPIRED);
    sent!(
        pair.a,
        [announce(lsid, Some(announcement(1, 10))), reset(lsid, code, 10),]
    );
}

// spec: STR-36
#[test]
fn one_that_is_too_large_is_refused_by_name_of_the_limit() {
    let mut pair = Pair::new();
    let (a, _) = pair.stream();
    let early = pair.a.send_now(a, &pattern(500), &BEST_EFFORT);
    pair.a.set_peer_max_message(400);
    let refused = pair.a.send_datagram(at(0), a, &pattern(401), &RELIABLE);
    let (size, limit) = (401, 400);
    assert_eq!(refused, Err(DatagramError::TooLarge { size, limit }));
    assert!(refused.unwrap_err().to_string().contains("at most 400"));
    sent!(pair.a, []);
    assert_eq!(pair.a.fates(), [(early, DatagramFate::TooLarge)]);
    pair.a.set_peer_max_message(0);
    let (size, limit) = (0, 0);
    assert_eq!(
        pair.a.send_datagram(at(0), a, &Bytes::new(), &BEST_EFFORT),
        Err(DatagramError::TooLarge { size, limit })
    );
    assert_eq!(pair.a.len(), 1);
    pair.a.assert_no_datagrams();
}

// spec: STR-36
#[test]
fn threat_32_a_receiver_refuses_streams_and_drops_frames_that_are_too_large() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.b.life.ledger.set_own_max(999);
    let small = pair.a.send_now(a, &pattern(1000), &BEST_EFFORT);
    let large = pair.a.send_now(a, &pattern(40_000), &BEST_EFFORT);
    pair.run();
    pair.run();
    let fates = pair.a.fates();
    assert!(fates.contains(&(small, DatagramFate::Delivered)) && fates.contains(&(large, DatagramFate::TooLarge)));
    assert_eq!(pair.b.datagram_stats().dropped_large, 1);
    assert_eq!(pair.b.datagrams_now(b), Vec::<Bytes>::new());
    assert_eq!((pair.a.len(), pair.b.len()), (1, 1));
    let credit = pair.b.backing(1);
    assert_eq!(credit.0, credit.1);
    pair.b.assert_no_datagrams();
}

// Threat 32: a peer announces a datagram of a GiB, and one of more than there are bytes.
// spec: STR-36
#[test]
fn threat_32_a_datagram_of_a_gib_is_refused_at_its_header() {
    for size in [1 << 30, (1 << 62) - 1] {
        let mut b = Streams::test(Role::Responder, 1 << 20);
        received!(b, [stream_frame(1, top_level(), 0, b"", false)]);
        let key = b.accept_any().unwrap();
        // The first window of stream 1.
        assert!(b.packet(ROOM).is_some());
        let before = b.backing(0);
        received!(b, [forged_datagram(3, 1, size, &[7; 1000], false)]);
        let code = Code::DATAGRAM_TOO_LARGE;
        let refusal = sent!(b, [reset(3, code, 0), stop(3, code)]);
        assert!(b.backing(0).0 <= before.0 + 2 * OPEN_COST + DATAGRAM_BORROW);
        // Nor is what follows kept.
        for n in 1..30 {
            received!(b, [stream_frame(3, None, 1000 * n, &[7; 1000], false)]);
        }
        assert_eq!(b.datagrams_now(key), Vec::<Bytes>::new());
        b.acked(&refusal);
        received!(b, [reset_frame(3, 30_000)]);
        assert_eq!(b.len(), 1);
        b.assert_no_datagrams();
    }
}

// spec: STR-37
#[test]
fn the_lender_is_charged_at_once_and_no_more_than_that() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    for (lender, size, cost) in [(1, 100, 100), (0, 40_000, DATAGRAM_BORROW)] {
        let before = pair.a.lent(lender);
        pair.a.send_now(a, &pattern(size), &RELIABLE);
        let packet = pair.a.packet(400).unwrap();
        assert_eq!(pair.a.lent(lender), before + OPEN_COST + cost);
        pair.b.take(&packet).unwrap();
        pair.a.acked(&packet);
        assert_eq!(pair.b.backing(lender).0, before + OPEN_COST + cost);
        pair.run();
        assert_eq!(pair.a.lent(lender), before + OPEN_COST + cost);
        assert_eq!(pair.b.backing(lender).1, before + OPEN_COST - 128);
        assert_eq!(pair.b.datagrams_now(b), [pattern(size)]);
        assert_eq!(pair.b.backing(lender).1, before + OPEN_COST + cost);
        pair.run();
    }
}

// spec: STR-37, STR-38
#[test]
fn one_borrows_what_there_is_room_for_and_waits_for_a_grant_of_the_rest() {
    for (room, borrow) in [(1024, 1024), (3000, 3000), (20_000, 5000)] {
        let mut pair = Pair::with_root(65_536);
        let (a, b) = pair.stream();
        // Nothing is left anywhere but a little on the account of the root.
        pair.a.life.tree.table[1].account_mut().lent.set_limit(0);
        pair.a.life.tree.table[0].account_mut().lent.set_limit(0);
        let id = pair.a.send_now(a, &pattern(5000), &RELIABLE);
        // It cannot even be announced.
        sent!(pair.a, []);
        pair.a.send_now(a, &pattern(10), &BEST_EFFORT);
        // Without state there is no charge.
        sent!(
            pair.a,
            [Datagram {
                lsid: 1,
                data: &pattern(10)
            }]
        );
        let limit = 2 * (OPEN_COST + room);
        pair.a.on_open_credit(1, limit, 0).unwrap();
        let init = Some(Init::datagram(1, 5000, borrow));
        let first = room_beside(init).min(borrow as usize);
        let packet = sent!(pair.a, [stream_frame(3, init, 0, &pattern(5000)[..first], false)]);
        assert_eq!(pair.a.lent(1), OPEN_COST + borrow);
        let mut packets = vec![packet];
        packets.extend(std::iter::from_fn(|| pair.a.packet(ROOM)));
        let sent: usize = packets.iter().flat_map(Packet::streams).map(|f| f.data.len()).sum();
        assert_eq!(sent as u64, borrow);
        for packet in &packets {
            pair.b.take(packet).unwrap();
            pair.a.acked(packet);
        }
        pair.run();
        assert_eq!(pair.b.datagrams_now(b), [pattern(5000)], "{room}");
        let fates = pair.a.fates();
        assert!(fates.contains(&(id, DatagramFate::Delivered)), "{fates:?}");
        pair.b.assert_no_datagrams();
        let (sent, (charge, consumed, _)) = (pair.a.lent(1), pair.b.backing(1));
        assert_eq!((sent, charge), (charge, consumed));
    }
}

// spec: STR-37
#[test]
fn threat_32_borrowing_beyond_the_lenders_limit_closes_the_channel() {
    let mut pair = Pair::new();
    pair.stream();
    let frame = |lsid, borrow| stream_frame(lsid, Some(Init::datagram(1, 50_000, borrow)), 0, b"", false);
    received!(pair.b, [frame(3, 0)]);
    assert_eq!(
        code(pair.b.forged(&frame(5, OPEN_ROOM - 2 * OPEN_COST + 1))),
        Code::CREDIT_EXCEEDED
    );
}

// spec: STR-37
#[test]
fn threat_32_data_beyond_the_limit_closes_the_channel() {
    let mut pair = Pair::new();
    pair.stream();
    let size = DATAGRAM_BORROW + 1;
    pair.b.life.ledger.set_budget(0);
    let data = vec![0; DATAGRAM_BORROW as usize];
    received!(pair.b, [forged_datagram(3, 1, size, &data, false)]);
    assert_eq!(
        code(pair.b.forged(&stream_frame(3, None, DATAGRAM_BORROW, b"x", true))),
        Code::CREDIT_EXCEEDED
    );
    received!(pair.b, [reset_frame(3, size)] => Code::CREDIT_EXCEEDED);
}

// spec: STR-37, STR-38
#[test]
fn many_that_have_begun_do_not_block_each_other() {
    let mut pair = Pair::with_root(STREAM_BORROW);
    let (a, b) = pair.stream();
    pair.b.life.ledger.set_budget(200_000);
    let sizes = [0, 10, 3000, 20_000, 32_512, 32_513, 60_000, 150_000, 200_000];
    let mut queued: Vec<usize> = sizes.iter().cycle().take(45).copied().collect();
    let mut expected = queued.clone();
    let mut received = Vec::new();
    for _ in 0..100_000 {
        while let Some(size) = queued.last().copied()
            && pair
                .a
                .send_datagram(at(0), a, &pattern(size), &RELIABLE)
                .unwrap()
                .is_some()
        {
            queued.pop();
        }
        let moved = pair.step();
        if !moved {
            // Nobody takes anything before nothing goes on any more.
            let taken = pair.b.datagrams_now(b);
            if taken.is_empty() && received.len() == expected.len() {
                break;
            }
            for datagram in taken {
                assert_eq!(datagram, pattern(datagram.len()));
                received.push(datagram.len());
            }
        }
    }
    expected.sort_unstable();
    received.sort_unstable();
    assert_eq!(received, expected);
    pair.a.assert_no_datagrams();
    pair.b.assert_no_datagrams();
}

// spec: STR-38
#[test]
fn the_budget_is_given_in_order_and_as_a_whole() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.b.life.ledger.set_budget(100_000);
    pair.a.life.tree.table[1].send.limit = 1 << 30;
    pair.b.life.tree.table[1].recv.limit = 1 << 30;
    for size in [120_000, 130_000, 50_000] {
        pair.a.send_now(a, &pattern(size), &RELIABLE);
        let packet = pair.a.packet(ROOM).unwrap();
        pair.b.take(&packet).unwrap();
        pair.a.acked(&packet);
    }
    // The others wait, the small one behind the large one.
    let granted = sent!(pair.b, [credit(3, 120_000)]);
    pair.a.take(&granted).unwrap();
    pair.b.lost(&granted);
    pair.run();
    assert_eq!(pair.b.datagram_stats().received_as_stream, 1);
    assert_eq!(pair.b.datagrams_now(b), [pattern(120_000)]);
    pair.run();
    assert_eq!(pair.b.datagrams_now(b), [pattern(130_000)]);
    pair.run();
    assert_eq!(pair.b.datagrams_now(b), [pattern(50_000)]);
}

// spec: STR-38
#[test]
fn threat_32_the_budget_of_the_host_holds_datagrams_too_but_for_one_of_each_peer() {
    let host = HostBudget::default();
    let mut pairs: Vec<Pair> = (0..3).map(|_| Pair::new()).collect();
    for pair in &mut pairs {
        pair.b.share_budget(host.clone());
    }
    // Another peer of the host has used it up.
    host.spend(WindowConfig::default().per_host_budget - 100_000);
    let mut streams = Vec::new();
    for pair in &mut pairs {
        let (a, b) = pair.stream();
        for _ in 0..3 {
            pair.a.send_now(a, &pattern(132_768), &RELIABLE);
        }
        pair.run();
        streams.push(b);
    }
    let waiting =
        |pairs: &[Pair]| -> Vec<u64> { pairs.iter().map(|p| p.b.datagram_stats().received_as_stream).collect() };
    assert_eq!(waiting(&pairs), [1, 1, 1]);
    for (pair, b) in pairs.iter_mut().zip(&streams) {
        for _ in 0..3 {
            assert_eq!(pair.b.datagrams_now(*b), [pattern(132_768)]);
            pair.run();
        }
    }
    let left = host.spent().0;
    drop(pairs);
    assert!(left >= WindowConfig::default().per_host_budget - 100_000);
    assert_eq!(host.spent().0, WindowConfig::default().per_host_budget - 100_000);
}

// spec: STR-44
#[test]
fn datagrams_under_way_to_a_subtree_that_is_reset_are_refused_with_its_code() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let first = pair.a.send_now(a, &pattern(200_000), &RELIABLE);
    pair.step();
    pair.b.reset_tree(b, Code::app(7), "over");
    // What is under way meanwhile, and what begins.
    let second = pair.a.send_now(a, &pattern(5000), &RELIABLE);
    for _ in 0..5 {
        let packet = pair.a.packet(1200).unwrap();
        pair.b.take(&packet).unwrap();
        pair.a.acked(&packet);
    }
    // Of the stream and of both datagrams.
    let code = Code::app(7);
    let answer = sent!(
        pair.b,
        [
            tree_reset(1, code, 0, "over"),
            stop(1, code),
            reset(3, code, 0),
            stop(3, code),
            reset(5, code, 0),
            stop(5, code),
        ]
    );
    pair.a.take(&answer).unwrap();
    pair.b.acked(&answer);
    pair.run();
    let mut settled: Vec<_> = pair.a.fates().into_iter().map(|(id, _)| id).collect();
    settled.sort_unstable();
    assert_eq!(settled, [first, second]);
    let error = pair.a.send_datagram(at(0), a, &pattern(1), &RELIABLE).unwrap_err();
    assert!(
        matches!(error, DatagramError::Reset { code, .. } if code == Code::app(7)),
        "{error:?}"
    );
}

// spec: STR-38
#[test]
fn what_is_reset_frees_the_budget_for_the_next() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.b.life.ledger.set_budget(100_000);
    let options = deadline(100);
    pair.a.send_now(a, &pattern(120_000), &options);
    let packet = pair.a.packet(ROOM).unwrap();
    pair.b.take(&packet).unwrap();
    pair.a.acked(&packet);
    pair.a.send_now(a, &pattern(110_000), &RELIABLE);
    // The first is granted, and never sends more.
    pair.b.packet(ROOM).unwrap();
    pair.a.on_timer(at(100));
    pair.run();
    assert_eq!(pair.b.datagrams_now(b), [pattern(110_000)]);
    pair.run();
    pair.b.assert_no_datagrams();
    assert_eq!((pair.a.len(), pair.b.len()), (1, 1));
}

// spec: STR-39
#[test]
fn what_waits_without_credit_is_bounded() {
    let mut pair = Pair::new();
    pair.b.life.ledger.set_budget(0);
    let streams: Vec<_> = (0..6).map(|_| pair.stream()).collect();
    let frame = |lsid| Frame::Datagram(Datagram { lsid, data: &[7; 872] });
    for _ in 0..3000 {
        received!(pair.b, [frame(1)]);
    }
    assert!(pair.b.life.ledger.stateless() <= 2 << 20);
    assert_eq!(pair.b.datagram_stats().received_stateless, 2097);
    assert_eq!(pair.b.datagram_stats().dropped_full, 903);
    for lsid in [3, 5, 7, 9, 11] {
        for _ in 0..2000 {
            received!(pair.b, [frame(lsid)]);
        }
    }
    assert!(pair.b.life.ledger.stateless() <= 4 << 20);
    for (_, b) in &streams {
        pair.b.datagrams_now(*b);
    }
    pair.b.assert_no_datagrams();
    // Empty ones cost something too.
    for _ in 0..20_000 {
        pair.b
            .forged(&Frame::Datagram(Datagram { lsid: 1, data: b"" }))
            .unwrap();
    }
    assert_eq!(pair.b.datagrams_now(streams[0].1).len(), (2 << 20) / 128);
}

// spec: STR-39, STR-46
#[test]
fn threat_32_bursts_of_what_needs_no_credit_have_what_the_budgets_have_left() {
    let mut pair = Pair::new();
    let streams: Vec<_> = (0..2).map(|_| pair.stream()).collect();
    let frame = |lsid| Frame::Datagram(Datagram { lsid, data: &[7; 872] });
    // Room for the largest is left.
    let budget = WindowConfig::default().max_message + 1_000_000;
    pair.b.life.ledger.set_budget(budget);
    for lsid in [1, 3] {
        for _ in 0..4000 {
            received!(pair.b, [frame(lsid)]);
        }
    }
    // Half of the budget, and then half of the rest.
    let waiting: Vec<_> = streams.iter().map(|(_, b)| pair.b.datagrams_now(*b).len()).collect();
    assert_eq!(waiting, [2097 + 500, 1048 + 250]);
    pair.b.assert_no_datagrams();
    // A stream has so much of it at most.
    pair.b.life.ledger.set_budget(64 << 20);
    for _ in 0..20_000 {
        received!(pair.b, [frame(1)]);
    }
    assert_eq!(pair.b.datagrams_now(streams[0].1).len(), 2097 + (16 << 20) / 1000);
    pair.b.assert_no_datagrams();
    // Nothing is left of the host's.
    let host = HostBudget::default();
    pair.b.share_budget(host.clone());
    let windows = host.spent().0;
    host.spend(WindowConfig::default().per_host_budget);
    for _ in 0..3000 {
        received!(pair.b, [frame(1)]);
    }
    assert_eq!(pair.b.datagrams_now(streams[0].1).len(), 2097);
    // What waits is given back with the tree.
    host.give_back(WindowConfig::default().per_host_budget);
    for _ in 0..3000 {
        received!(pair.b, [frame(1)]);
    }
    assert_eq!(host.spent().0, windows + 903_000);
    drop(pair);
    assert_eq!(host.spent().0, 0);
}

// spec: STR-37
#[test]
fn those_that_arrived_as_streams_are_paid_for_while_they_wait() {
    for size in [0, 1] {
        let mut pair = Pair::with_root(65_536);
        pair.b.limit_budget(0);
        let (_, b) = pair.stream();
        let init = Some(Init::datagram(1, size, 0).with_credit(1, 0, 0));
        let bytes = &[7; 1][..size as usize];
        // They borrow nothing, are delivered and retired, and wait.
        let mut lsids = (3..).step_by(2);
        let refused = lsids.by_ref().take(10_000).find(|lsid| {
            let announced = pair.b.forged(&stream_frame(*lsid, init, 0, b"", false));
            if announced.is_ok() {
                let granted = pair.b.packet(ROOM);
                received!(pair.b, [stream_frame(*lsid, None, 0, bytes, true)]);
                let delivered = pair.b.packet(ROOM);
                granted.iter().chain(&delivered).for_each(|packet| pair.b.acked(packet));
            }
            announced.map_err(|error| error.code) == Err(Code::CREDIT_EXCEEDED)
        });
        assert!(refused.is_some(), "of size {size}");
        assert_eq!(pair.b.len(), 1 + 1, "all are retired but the last");
        let waiting = pair.b.datagrams_now(b).len() as u64;
        assert!((65_536 / 256..=65_536 / 128).contains(&waiting), "{waiting}");
    }
    // Whoever keeps to the limit has it back when they are taken.
    let mut pair = Pair::with_root(65_536);
    let (a, b) = pair.stream();
    for _ in 0..100 {
        for _ in 0..20 {
            pair.a.send_now(a, &Bytes::new(), &RELIABLE);
        }
        pair.run();
        assert_eq!(pair.b.datagrams_now(b).len(), 20);
        pair.run();
    }
    let (charge, consumed, _) = pair.b.backing(b.index);
    assert_eq!(charge, consumed);
    pair.a.assert_no_datagrams();
    pair.b.assert_no_datagrams();
}

// spec: STR-40
#[test]
fn one_that_nobody_takes_is_refused_also_under_way() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let begun = pair.a.send_now(a, &pattern(20_000), &RELIABLE);
    let packet = pair.a.packet(ROOM).unwrap();
    pair.b.take(&packet).unwrap();
    pair.a.acked(&packet);
    // Whole, and not taken.
    let whole = pair.a.send_now(a, &pattern(300), &RELIABLE);
    while pair.b.datagram_stats().received_as_stream == 0 {
        let packet = pair.a.packet(ROOM).unwrap();
        pair.b.take(&packet).unwrap();
        pair.a.acked(&packet);
    }
    pair.b.release(b);
    let late = pair.a.send_now(a, &pattern(40_000), &RELIABLE);
    pair.run();
    let fates = pair.a.fates();
    assert!(
        fates.contains(&(begun, DatagramFate::Refused(Code::NO_LISTENER))),
        "{fates:?}"
    );
    let is_late = |f: &(DatagramId, DatagramFate)| f.0 == late && matches!(f.1, DatagramFate::Refused(_));
    assert!(fates.iter().any(is_late), "{fates:?}");
    assert!(
        fates.contains(&(whole, DatagramFate::Delivered)),
        "it is there, as far as its host is concerned"
    );
    pair.a.release(a);
    pair.run();
    assert_eq!((pair.a.len(), pair.b.len()), (0, 0));
    pair.a.assert_no_datagrams();
    pair.b.assert_no_datagrams();
    let (sent, received) = (pair.a.lent(0), pair.b.backing(0));
    assert_eq!((sent, received.0), (received.0, received.1));
}

// spec: STR-40
#[test]
fn one_whose_stream_is_retired_at_the_peer_is_refused() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.finish(a).unwrap();
    pair.b.finish(b).unwrap();
    pair.run();
    assert_eq!(pair.b.read_now(b), Poll::Ready(Ok(ReadOutcome::End)));
    pair.b.release(b);
    pair.run();
    assert_eq!(pair.b.len(), 0);
    let charge = pair.a.lent(0);
    let id = pair.a.send_now(a, &pattern(5000), &RELIABLE);
    pair.run();
    assert_eq!(pair.a.fates(), [(id, DatagramFate::Refused(Code::PARENT_GONE))]);
    assert_eq!(pair.a.lent(0), charge, "nobody counted it");
    assert_eq!(
        pair.a.send_datagram(at(0), a, &pattern(1), &RELIABLE),
        Err(DatagramError::PeerGone)
    );
    pair.a.release(a);
    assert_eq!(
        pair.a.send_datagram(at(0), a, &pattern(1), &RELIABLE),
        Err(DatagramError::Closed)
    );
    assert_eq!(pair.a.recv_datagram(at(0), a), Err(ReadError::Closed));
    assert_eq!(pair.a.len(), 0);
}

#[test]
fn only_so_much_is_queued_on_a_stream() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let mut taken = 0;
    while pair
        .a
        .send_datagram(at(0), a, &pattern(30_000), &RELIABLE)
        .unwrap()
        .is_some()
    {
        taken += 1;
    }
    assert_eq!(taken, 17, "of 512 KiB");
    assert_eq!(
        pair.a
            .send_datagram(at(0), a, &pattern(10), &RELIABLE)
            .map(|id| id.is_some()),
        Ok(true)
    );
    let mut received = 0;
    while !pair.a.events().contains(&StreamEvent::Ready(a, Interest::SendDatagram)) {
        assert!(pair.step());
        received += pair.b.datagrams_now(b).len();
    }
    assert!(received < taken);
    assert!(
        pair.a
            .send_datagram(at(0), a, &pattern(30_000), &RELIABLE)
            .unwrap()
            .is_some()
    );
    // What can never fit is taken when nothing else is there.
    assert_eq!(pair.a.send_datagram(at(0), a, &pattern(600_000), &RELIABLE), Ok(None));
    let mut is_told = false;
    while pair.step() {
        pair.b.datagrams_now(b);
        is_told |= pair.a.events().contains(&StreamEvent::Ready(a, Interest::SendDatagram));
    }
    assert!(is_told);
    assert!(
        pair.a
            .send_datagram(at(0), a, &pattern(600_000), &RELIABLE)
            .unwrap()
            .is_some()
    );
    assert_eq!(pair.a.send_datagram(at(0), a, &pattern(10), &RELIABLE), Ok(None));
}

#[test]
fn of_many_those_are_taken_that_there_is_room_for_and_the_rest_is_left() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let all: Vec<Bytes> = (0..40).map(|n| vec![n; 30_000].into()).collect();
    let mut left = all.clone().into_iter();
    let mut received = Vec::new();
    while left.len() > 0 {
        let before = left.len();
        send_datagrams(&mut pair.a, at(0), a, &mut left, &RELIABLE).unwrap();
        assert!(left.len() < before && before - left.len() <= 17, "of 512 KiB");
        let is_told = left.len() == 0;
        while !is_told && !pair.a.events().contains(&StreamEvent::Ready(a, Interest::SendDatagram)) {
            assert!(pair.step());
            received.extend(pair.b.datagrams_now(b));
        }
    }
    while pair.step() {
        received.extend(pair.b.datagrams_now(b));
    }
    received.sort();
    assert!(received == all, "{}", received.len());
    send_datagrams(&mut pair.a, at(0), a, &mut left, &RELIABLE).unwrap();
    assert!(!pair.a.wants());
}

#[test]
fn many_are_taken_up_to_one_that_cannot_be_sent() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.life.ledger.set_peer_max(100);
    let mut left = [10, 20, 101, 30].map(pattern).to_vec().into_iter();
    for _ in 0..2 {
        let (size, limit) = (101, 100);
        assert_eq!(
            send_datagrams(&mut pair.a, at(0), a, &mut left, &BEST_EFFORT),
            Err(DatagramError::TooLarge { size, limit })
        );
        assert_eq!(left.as_slice(), [pattern(101), pattern(30)]);
    }
    left.next();
    send_datagrams(&mut pair.a, at(0), a, &mut left, &BEST_EFFORT).unwrap();
    while pair.step() {}
    assert_eq!(pair.b.datagrams_now(b), [10, 20, 30].map(pattern));
    pair.a.release(a);
    let mut more = vec![pattern(1)].into_iter();
    let sent = send_datagrams(&mut pair.a, at(0), a, &mut more, &BEST_EFFORT);
    assert_eq!((sent, more.len()), (Err(DatagramError::Closed), 1));
}

#[test]
fn as_many_are_received_as_are_there_and_wanted() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let mut into = vec![pattern(7)];
    let mut recv = |streams: &mut Streams, limit| {
        let received = poll_recv_datagrams(streams, at(0), b, (&mut into, limit));
        (received, std::mem::take(&mut into).len())
    };
    assert_eq!(recv(&mut pair.b, 0), (Poll::Ready(Ok(0)), 1));
    assert_eq!(recv(&mut pair.b, 3), (Poll::Pending, 0));
    let mut five = vec![pattern(100); 5].into_iter();
    send_datagrams(&mut pair.a, at(0), a, &mut five, &BEST_EFFORT).unwrap();
    while pair.step() {}
    assert!(pair.b.events().contains(&StreamEvent::Ready(b, Interest::RecvDatagram)));
    assert_eq!(recv(&mut pair.b, 3), (Poll::Ready(Ok(3)), 3));
    assert_eq!(recv(&mut pair.b, 3), (Poll::Ready(Ok(2)), 2));
    assert_eq!(pair.b.life.ledger.stateless(), 0, "nothing waits");
    assert_eq!(pair.b.events(), [], "nobody waits");
    assert_eq!(recv(&mut pair.b, 3), (Poll::Pending, 0));
    pair.a.release(a);
    while pair.step() {}
    assert_eq!(recv(&mut pair.b, usize::MAX), (Poll::Ready(Ok(0)), 0));
    pair.b.release(b);
    assert_eq!(recv(&mut pair.b, 1), (Poll::Ready(Err(ReadError::Closed)), 0));
}

// spec: STR-22, STR-32
#[test]
fn one_of_a_higher_level_goes_before_those_that_wait_and_before_its_stream() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.a.write_all(a, &[1; 3000]);
    let at_level = |priority| DatagramOptions {
        priority,
        ..BEST_EFFORT
    };
    pair.a.send_now(a, &pattern(1000), &at_level(-1));
    pair.a.send_now(a, &pattern(4000), &at_level(5));
    pair.a.send_now(a, &pattern(900), &at_level(7));
    let mut order = Vec::new();
    while let Some(packet) = pair.a.packet(ROOM) {
        pair.b.take(&packet).unwrap();
        for frame in packet.frames() {
            let what = match frame {
                Frame::Datagram(f) => f.data.len(),
                Frame::Stream(f) if f.init.is_some() => 4000,
                Frame::Stream(_) => 3000,
                _ => continue,
            };
            if order.last() != Some(&what) {
                order.push(what);
            }
        }
    }
    assert_eq!(order, [900, 4000, 3000, 1000]);
    assert_eq!(pair.b.datagrams_now(b).len(), 3);
}

#[test]
fn those_of_a_released_stream_are_still_delivered() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let id = pair.a.send_now(a, &pattern(100_000), &RELIABLE);
    pair.a.send_now(a, &pattern(10), &BEST_EFFORT);
    pair.a.release(a);
    pair.run();
    assert_eq!(pair.b.datagrams_now(b), [pattern(10), pattern(100_000)]);
    assert!(pair.a.fates().contains(&(id, DatagramFate::Delivered)));
    pair.b.release(b);
    pair.run();
    assert_eq!((pair.a.len(), pair.b.len()), (0, 0));
}

#[test]
fn at_the_end_of_the_channel_all_fates_are_told_and_what_arrived_can_be_taken() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.b.send_now(b, &pattern(7), &RELIABLE);
    pair.run();
    let flying = pair.a.send_now(a, &pattern(10), &BEST_EFFORT);
    let packet = pair.a.packet(ROOM).unwrap();
    pair.b.take(&packet).unwrap();
    let begun = pair.a.send_now(a, &pattern(50_000), &RELIABLE);
    let packet = pair.a.packet(ROOM).unwrap();
    pair.b.take(&packet).unwrap();
    let queued = pair.a.send_now(a, &pattern(40_000), &RELIABLE);
    assert_eq!(pair.a.send_datagram(at(0), a, &pattern(1 << 20), &RELIABLE), Ok(None));
    let reason = CloseReason::Replaced;
    pair.a.fail_all(&reason);
    pair.b.fail_all(&reason);
    let events = pair.a.events();
    for id in [flying, begun, queued] {
        assert!(
            events.contains(&StreamEvent::DatagramSettled(id, DatagramFate::ChannelLost)),
            "{events:?}"
        );
    }
    assert!(events.contains(&StreamEvent::Ready(a, Interest::SendDatagram)));
    assert_eq!(
        pair.a.send_datagram(at(0), a, &pattern(1), &RELIABLE),
        Err(DatagramError::Lost(reason.clone()))
    );
    assert_eq!(pair.a.recv_datagram(at(0), a), Ok(Some(pattern(7))));
    assert_eq!(pair.b.recv_datagram(at(0), b), Ok(Some(pattern(10))));
    assert_eq!(pair.b.recv_datagram(at(0), b), Err(ReadError::Lost(reason)));
    assert_eq!((pair.a.next_timer(), pair.b.len()), (None, 1));
}

#[test]
fn a_stream_that_was_not_accepted_yet_keeps_them() {
    let mut pair = Pair::new();
    let a = pair.a.open_top_level("svc", "v1").unwrap();
    pair.a.send_now(a, &pattern(10), &BEST_EFFORT);
    pair.a.send_now(a, &pattern(3000), &BEST_EFFORT);
    let refused = pair.a.open_top_level("svc", "v2").unwrap();
    pair.a.send_now(refused, &pattern(3000), &RELIABLE);
    pair.run();
    let b = pair.b.accept_any().unwrap();
    assert_eq!(pair.b.datagrams_now(b), [pattern(10), pattern(3000)]);
    let incoming = pair.b.take_incoming().unwrap();
    pair.b.refuse(incoming.key, Code::REFUSED_SERVICE);
    pair.run();
    pair.a.release(refused);
    pair.run();
    assert_eq!((pair.a.len(), pair.b.len()), (1, 1));
    pair.b.assert_no_datagrams();
}
