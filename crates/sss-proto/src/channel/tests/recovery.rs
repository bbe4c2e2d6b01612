//! Loss, probes and the window, seen from outside.

use super::*;
use crate::channel::congestion::Controller;
use crate::channel::testing::{Refused, ack, warm_pair};
use crate::channel::{Budget, MtuState, overdue_at};
use crate::config::Congestion;
use crate::io::Ecn;
use crate::packet::PacketWriter;
use crate::testing::frames_of;
use sss_wire::Code;
use sss_wire::constants::MIN_FLOW;
use sss_wire::frame::{Ack, Frame};

/// Sends `end` an acknowledgement of what it may never have sent.
fn forge_ack(from: &mut End, largest: u64, first: u64) -> Vec<u8> {
    let mut datagram = vec![0; 1232];
    let mut space = from.channel.begin(&mut datagram);
    let mut tokens = Vec::new();
    let mut writer = PacketWriter::new(space.plaintext(), &mut tokens);
    let ranges = std::iter::once(largest - first..=largest);
    assert_eq!(Ack::write(writer.quiet(), ranges, 0, None, 100), 1);
    let len = writer.len();
    let size = from.channel.finish(at(1), space.sealed(len, false), &mut tokens);
    datagram.truncate(size);
    datagram
}

// spec: CHN-1, REC-4
#[test]
fn whoever_announces_that_it_acknowledges_late_is_missed_soon_all_the_same() {
    let (mut a, _) = pair(at(0));
    let before = a.channel.probe_timeout();
    let settings = sss_wire::params::Settings {
        max_ack_delay_us: (1 << 24) - 1,
        ..sss_wire::params::Settings::default()
    };
    a.channel.apply_peer_settings(&settings);
    let added = a.channel.probe_timeout().saturating_sub(before);
    assert!(added < std::time::Duration::from_secs(1), "{added:?}");
    assert!(added > std::time::Duration::from_millis(900), "{added:?}");
}

// spec: CHN-6
#[test]
fn threat_20_acknowledging_what_was_never_sent_closes() {
    let (mut a, mut b) = pair(at(0));
    let packet = forge_ack(&mut b, 1, 0);
    let Refused::Violation(error) = a.take(at(1), &packet, b.address).unwrap_err() else {
        panic!("a violation");
    };
    assert_eq!(error.code, Code::ACK_INVALID);
}

// spec: CHN-6
#[test]
fn threat_20_acknowledging_a_skipped_number_closes() {
    let (mut a, mut b) = pair(at(0));
    let mut previous = 0;
    let gap = loop {
        let packet = a.data(at(1), 10);
        let seq = b.take(at(1), &packet, a.address).unwrap().opened.seq;
        if seq > previous + 1 {
            break seq - 1;
        }
        assert!(seq < 100_000, "no number is left out");
        previous = seq;
    };
    let packet = forge_ack(&mut b, gap + 1, 10);
    assert!(matches!(a.take(at(1), &packet, b.address), Err(Refused::Violation(e)) if e.code == Code::ACK_INVALID));
}

// spec: CHN-4, CHN-14
#[test]
fn acknowledgements_leave_in_time() {
    let (mut a, mut b) = warm_pair();
    // ACCEPT was acknowledged by a packet that waits for nothing; one packet of data waits for the delay.
    let packet = a.data(at(100), 10);
    b.tick(at(100));
    b.take(at(100), &packet, a.address).unwrap();
    let due = b.channel.received.deadline().unwrap();
    assert_eq!(due, at(120), "5 ms before what is announced");
    assert!(b.channel.next_timer().unwrap() <= due);
    b.tick(at(119));
    assert!(b.control(at(119)).is_none());
    b.tick(due);
    assert!(b.channel.wants_control(due));
    let packet = b.control(due).unwrap();
    let taken = a.take(due, &packet, b.address).unwrap();
    carried!(taken, [ack(&[5..=7], 20_000, (7, 0))]);
    // The 20 ms that the peer waited are not part of the round trip.
    assert!(
        a.channel.flight.rtt() <= Duration::from_millis(25),
        "{:?}",
        a.channel.flight.rtt()
    );
    let two = [a.data(at(200), 10), a.data(at(200), 10)];
    for packet in &two {
        b.take(at(200), packet, a.address).unwrap();
    }
    let packet = b.control(at(200)).unwrap();
    let taken = a.take(at(200), &packet, b.address).unwrap();
    carried!(taken, [ack(&[5..=9], 0, (9, 0))]);
}

// spec: REC-4
#[test]
fn a_probe_timeout_sends_the_oldest_data_again_then_ping() {
    let (mut a, mut b) = warm_pair();
    let first = a.tokens_used();
    for _ in 0..3 {
        a.data(at(10), 100);
    }
    let due = a.channel.next_timer().unwrap();
    assert_eq!(due, at(10) + a.channel.flight.recovery.probe_timeout());
    assert_eq!(a.tick(due), TimerEvent::None);
    let fates: Vec<_> = a.fates.drain(..).map(|f| (token_number(&f.token), f.acked)).collect();
    assert_eq!(fates, [(first, false), (first + 1, false)]);
    assert!(a.channel.probe_pending());
    assert!(a.alone(due).is_none());
    let probes: Vec<_> = std::iter::from_fn(|| a.control(due)).collect();
    assert_eq!(probes.len(), 2, "PING when the owner has nothing to send");
    let second = a.channel.next_timer().unwrap();
    assert_eq!(second.since(due), a.channel.flight.recovery.probe_timeout() * 2);
    a.tick(second);
    let fates: Vec<_> = a.fates.drain(..).map(|f| (token_number(&f.token), f.acked)).collect();
    assert_eq!(fates, [(first + 2, false)]);
    for probe in &probes {
        carried!(b.take(second, probe, a.address).unwrap(), [Frame::Ping, Frame::Padding]);
    }
    settle(second, &mut a, &mut b);
    assert_eq!(a.channel.flight.recovery.loss.probe_count(), 0);
    assert!(a.fates.is_empty(), "the three were told as lost before");
}

// spec: MIG-26
#[test]
fn a_peer_is_overdue_before_a_probe_is_due_and_not_while_it_may_still_answer_or_is_heard() {
    let (mut a, mut b) = warm_pair();
    let probe_timeout = a.channel.probe_timeout();
    let rtt = a.channel.flight.recovery.rtt.smoothed();
    let first = a.data(at(1000), 10);
    for n in 2..MIN_FLOW {
        a.data(at(1000 + u64::from(n)), 10);
        assert_eq!(overdue_at(&a.channel), None, "chance may have lost all {n}");
    }
    a.data(at(1000 + u64::from(MIN_FLOW)), 10);
    let overdue = overdue_at(&a.channel).unwrap();
    let wait = overdue.since(at(1000));
    assert!(
        rtt + Duration::from_millis(25) < wait && wait <= probe_timeout,
        "the oldest counts: {wait:?}"
    );
    // The peer says something else meanwhile.
    let other = b.data(at(1010), 10);
    a.take(overdue, &other, b.address).unwrap();
    assert_eq!(overdue_at(&a.channel), Some(overdue + probe_timeout / 2));
    b.take(overdue, &first, a.address).unwrap();
    let late = overdue + Duration::from_millis(30);
    b.tick(late);
    let answer = b.control(late).unwrap();
    a.take(late, &answer, b.address).unwrap();
    assert_eq!(overdue_at(&a.channel), None, "one less is under way");
}

// spec: MIG-31
#[test]
fn what_goes_along_is_no_more_than_congestion_has_left() {
    let (mut a, _) = warm_pair();
    for _ in 0..6 {
        a.data(at(1000), 1000);
    }
    let outstanding = a.channel.flight.sent.in_flight();
    assert_eq!(a.channel.flight.used_window(), outstanding);
    a.channel.flight.flow.controller.get_mut().on_persistent_congestion();
    let window = a.channel.flight.flow.controller.get().window();
    assert!(window < outstanding);
    assert_eq!(a.channel.flight.used_window(), window);
}

// spec: REC-1
#[test]
fn the_time_for_which_this_host_was_suspended_is_no_round_trip() {
    for is_suspended in [false, true] {
        let (mut a, mut b) = warm_pair();
        let before = a.channel.flight.recovery.rtt.latest();
        let packet = a.data(at(10), 10);
        b.take(at(10), &packet, a.address).unwrap();
        b.tick(at(30));
        let answer = b.control(at(30)).unwrap();
        // The answer takes long, or has waited here.
        while !is_suspended && let Some(due) = a.channel.next_timer().filter(|due| *due < at(5000)) {
            a.tick(due);
            while a.control(due).is_some() {}
        }
        a.take(at(5000), &answer, b.address).unwrap();
        let measured = a.channel.flight.recovery.rtt.latest();
        let expected = if is_suspended {
            before
        } else {
            Duration::from_millis(4990)
        };
        assert_eq!(measured, expected, "{is_suspended}");
        assert_eq!(
            a.channel.flight.recovery.loss.probe_count(),
            0,
            "it is progress all the same"
        );
    }
}

// spec: REC-3
#[test]
fn a_late_packet_is_no_loss_the_next_time() {
    let (mut a, mut b) = warm_pair();
    let late = a.data(at(10), 100);
    for _ in 0..6 {
        let packet = a.data(at(10), 100);
        b.take(at(15), &packet, a.address).unwrap();
    }
    let packet = b.control(at(15)).unwrap();
    let taken = a.take(at(20), &packet, b.address).unwrap();
    carried!(taken, [ack(&[8..=13, 5..=6], 0, (12, 0))]);
    assert_eq!(a.channel.info().packets_lost, 1);
    b.take(at(16), &late, a.address).unwrap();
    let packet = b.control(at(16)).unwrap();
    let taken = a.take(at(21), &packet, b.address).unwrap();
    carried!(taken, [ack(&[5..=13], 1000, (13, 0))]);
    let info = a.channel.info();
    assert_eq!((info.false_losses, info.reordering_threshold), (1, 7));
}

// spec: REC-6
#[test]
fn the_window_blocks_and_acknowledgements_open_it() {
    let (mut a, mut b) = warm_pair();
    let window = a.channel.info().window;
    let mut packets = Vec::new();
    while let Some(packet) = a.full_if_allowed(at(2)) {
        packets.push(packet);
    }
    let sent: u64 = packets.iter().map(|p| p.len() as u64).sum();
    assert!(sent <= window && sent + 1232 > window, "{sent} of {window}");
    assert_eq!(a.channel.budget(at(2)), Budget::Blocked);
    for packet in &packets {
        b.take(at(7), packet, a.address).unwrap();
    }
    let packet = b.control(at(7)).unwrap();
    let taken = a.take(at(12), &packet, b.address).unwrap();
    carried!(taken, [ack(&[5..=16], 0, (16, 0))]);
    assert_eq!(a.channel.budget(at(12)), Budget::Ready);
    assert_eq!(a.channel.info().window, window + sent, "slow start");
}

// spec: REC-7, REC-9, REC-11
#[test]
fn the_other_controller_paces_by_what_it_measures() {
    let config = ChannelConfig {
        congestion: Congestion::Bbr,
        ..config()
    };
    let (mut a, mut b) = established(at(0), Duration::from_millis(10), config, Suite::Aes256Gcm);
    let info = a.channel.info();
    assert_eq!((info.congestion, info.slow_start), ("bbr", true));
    let mut now = at(10);
    let mut sent = 0;
    // A path of 10 ms that carries a packet of 1232 bytes in a millisecond, and has something to send only so often.
    for _ in 0..200 {
        a.tick(now);
        if let Some(packet) = a.full_if_allowed(now) {
            sent += 1;
            b.take(now, &packet, a.address).unwrap();
            if let Some(ack) = b.control(now) {
                a.take(now + Duration::from_millis(10), &ack, b.address).unwrap();
            }
        }
        now = now + Duration::from_millis(11);
    }
    assert!(sent > 190, "{sent}");
    let rate = a.channel.flight.rate();
    let model = rate.model.expect("there were samples");
    assert!(model > 0.0 && model < 2.77 * 2.0 * 1232.0 * 100.0, "{model}");
    assert_eq!(a.channel.info().packets_lost, 0);
}

// spec: STR-35
#[test]
fn the_way_there_is_what_is_longer_than_half_the_shortest_round_trip_and_a_little_more() {
    let (mut a, mut b) = warm_pair();
    for n in 0..100 {
        let now = at(10 + 20 * n);
        let packet = a.data(now, 100);
        b.take(now, &packet, a.address).unwrap();
        let second = a.data(now, 100);
        b.take(now, &second, a.address).unwrap();
        let ack = b.control(now).unwrap();
        a.take(now + Duration::from_millis(10), &ack, b.address).unwrap();
    }
    let rtt = &a.channel.flight.recovery.rtt;
    let growth = 4.0 * 1232.0 / a.channel.info().window as f64;
    let measured = rtt.smoothed().max(rtt.latest());
    let expected = measured + measured.mul_f64(growth.min(0.25)) + rtt.variation() - rtt.min().unwrap() / 2;
    assert_eq!(a.channel.flight.one_way(), expected);
    assert!(expected < Duration::from_millis(15), "{expected:?}");
}

// spec: CHN-11, REC-13
#[test]
fn on_another_path_the_same_controller_begins_anew() {
    let controller = Controller::new(Congestion::Bbr, 1232, 1).restarted(1400);
    assert_eq!((controller.name(), controller.get().window()), ("bbr", 14_000));
    let controller = Controller::new(Congestion::Cubic, 1232, 1).restarted(1400);
    assert_eq!((controller.name(), controller.get().window()), ("cubic", 14_000));
}

// spec: REC-6
#[test]
fn losing_everything_for_long_is_persistent_congestion() {
    let (mut a, mut b) = warm_pair();
    let mut now = at(10);
    for _ in 0..5 {
        a.data(now, 1000);
        now = a.channel.next_timer().unwrap();
        a.tick(now);
        while a.control(now).is_some() {}
    }
    for _ in 0..4 {
        let packet = a.data(now, 100);
        b.take(now, &packet, a.address).unwrap();
    }
    settle(now + Duration::from_millis(5), &mut a, &mut b);
    let info = a.channel.info();
    assert!(
        info.window < 4 * 1232,
        "two datagrams, and what was acknowledged since: {info:?}"
    );
    assert_eq!(info.in_flight, 0);
}

fn jumbo() -> ChannelConfig {
    ChannelConfig {
        max_datagram: 8952,
        ..config()
    }
}

// spec: CHN-8
#[test]
fn the_mtu_is_found_and_lost_probes_are_no_congestion() {
    let (mut a, mut b) = established(at(0), Duration::from_millis(10), jumbo(), Suite::Aes256Gcm);
    let before = a.channel.info();
    let (mut now, mut too_large, mut carried) = (at(1), 0, (0, 0));
    for _ in 0..400 {
        a.tick(now);
        if let Some((probe, transmit)) = a.alone(now) {
            assert_eq!(probe.len(), transmit.segment);
            if probe.len() <= 1460 {
                carried = (carried.0 + 1, carried.1 + probe.len() as u64);
                b.take(now, &probe, a.address).unwrap();
            } else {
                too_large += 1;
            }
        }
        let packet = a.data(now, 100);
        carried = (carried.0 + 1, carried.1 + packet.len() as u64);
        b.take(now, &packet, a.address).unwrap();
        if let Some(ack) = b.control(now) {
            a.take(now, &ack, b.address).unwrap();
        }
        now = now + Duration::from_millis(1);
    }
    let info = a.channel.info();
    assert_eq!((info.mtu, info.mtu_state), (1452, MtuState::Path));
    assert_eq!(info.congestion_events, 0);
    assert!(too_large >= 3, "{too_large}");
    assert_eq!(info.packets_lost, 0, "the path has lost nothing that it carries");
    let sent = (
        info.packets_sent - before.packets_sent,
        info.bytes_sent - before.bytes_sent,
    );
    assert_eq!((sent, info.mtu_probes_lost), (carried, too_large));
}

// spec: CHN-9
#[test]
fn a_black_hole_is_found_and_left() {
    let (mut a, mut b) = established(at(0), Duration::from_millis(10), jumbo(), Suite::Aes256Gcm);
    settle(at(1), &mut a, &mut b);
    assert_eq!(a.channel.datagram_size(), 8952);
    let mut now = at(10);
    let mut delivered = 0;
    while delivered < 5 {
        a.tick(now);
        while let Some(packet) = a.alone(now).map(|p| p.0).or_else(|| a.control(now)) {
            if packet.len() <= 1300 {
                b.take(now, &packet, a.address).unwrap();
            }
        }
        if let Some(packet) = a.full_if_allowed(now)
            && packet.len() <= 1300
        {
            b.take(now, &packet, a.address).unwrap();
            delivered += 1;
        }
        b.tick(now);
        if let Some(ack) = b.control(now) {
            a.take(now, &ack, b.address).unwrap();
        }
        now = now + Duration::from_millis(1);
        assert!(now < at(20_000), "{:?}", a.channel.info());
    }
    assert!(a.channel.datagram_size() <= 1300);
}

// spec: CHN-9
#[test]
fn one_acknowledgement_that_shows_losses_and_later_deliveries_is_no_black_hole() {
    let (mut a, mut b) = established(at(0), Duration::from_millis(10), jumbo(), Suite::Aes256Gcm);
    settle(at(1), &mut a, &mut b);
    let full = a.channel.datagram_size();
    assert_eq!(full, 8952);
    let now = at(10);
    for n in 0..12 {
        let packet = a.data(now, usize::MAX);
        assert_eq!(packet.len(), full);
        // As where a queue overflows: many in a row are lost.
        if n > 8 {
            b.take(now, &packet, a.address).unwrap();
        }
    }
    let ack = b.control(now).expect("an acknowledgement");
    a.take(at(20), &ack, b.address).unwrap();
    let info = a.channel.info();
    assert!(info.packets_lost > 3, "{info:?}");
    assert_eq!((usize::from(info.mtu), info.mtu_state), (full, MtuState::Limit));
}

/// Bytes that a sender sends within a minute to a peer that has fallen silent, until the second probe timeout and after
/// it; and the longest datagram of a probe. It has data without end, from the second probe timeout on if it `is_late`.
fn into_silence(is_late: bool) -> (u64, u64, usize) {
    let (mut a, mut b) = established(at(0), Duration::from_millis(10), jumbo(), Suite::Aes256Gcm);
    settle(at(1), &mut a, &mut b);
    assert_eq!(a.channel.datagram_size(), 8952);
    let (mut now, mut sent, mut longest) = (at(10), [0, 0], 0);
    a.data(now, 100);
    while now < at(60_000) {
        a.tick(now);
        loop {
            let probes = a.channel.flight.recovery.loss.probe_count();
            let is_probe = a.channel.probe_pending();
            let may_send = a.channel.probe_may_carry_data() || a.channel.budget(now) == Budget::Ready;
            let data = may_send && (!is_late || probes >= 2);
            let packet = match data {
                true => Some(a.data(now, usize::MAX)),
                false => a.alone(now).map(|p| p.0).or_else(|| a.control(now)),
            };
            let Some(packet) = packet else {
                break;
            };
            sent[usize::from(probes >= 2)] += packet.len() as u64;
            longest = if is_probe { packet.len().max(longest) } else { longest };
        }
        now = a
            .channel
            .next_timer()
            .unwrap_or(now)
            .max(now + Duration::from_millis(1));
    }
    (sent[0], sent[1], longest)
}

// spec: REC-4
#[test]
fn nothing_but_small_probes_is_sent_into_silence() {
    for is_late in [false, true] {
        let (before, after, longest) = into_silence(is_late);
        assert!(
            before <= 2 * 8952 + 14_720 + 2 * 1232,
            "{before}: the window, and one probe timeout"
        );
        // Two more that carry data, and then PING alone, four times a second.
        assert!(after <= 2 * 2 * 1232 + 60 * 4 * 50, "{after}");
        assert_eq!(longest, 1232);
    }
}

// spec: CHN-5
#[test]
fn a_mere_receiver_asks_for_an_acknowledgement_now_and_then() {
    let (mut a, mut b) = warm_pair();
    let mut asked = 0;
    for n in 0..3000 {
        let now = at(2 + n);
        let packet = a.data(now, 100);
        if n % 7 != 0 {
            b.take_marked(now, &packet, a.address, Ecn::Ect0).unwrap();
        }
        if let Some(packet) = b.control(now) {
            let taken = a.take(now, &packet, b.address).unwrap();
            let frames = frames_of(&taken.bytes);
            match frames[..] {
                [Frame::Ack(_)] => {}
                [Frame::Ack(_), Frame::Ping] => asked += 1,
                _ => panic!("{frames:?}"),
            }
        }
    }
    assert!(asked > 20, "{asked}");
    assert!(b.channel.received.range_count() < 30, "the peer's knowledge is known");
    a.fates.clear();
}
