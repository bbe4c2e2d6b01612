//! Signs of life, changes of address, and the end of a channel.

use super::*;
use crate::channel::testing::{INITIATOR, RESPONDER, ack, close, warm_pair};
use crate::testing::{ToFrame, frames_of};
use sss_wire::Code;
use sss_wire::constants::MIN_SILENCE;
use sss_wire::frame::Frame;

// spec: CHN-2
#[test]
fn silence_ends_the_channel() {
    let (mut a, _) = pair(at(0));
    let mut last = TimerEvent::None;
    let mut now = at(0);
    let mut sent_after = 0;
    while last == TimerEvent::None {
        now = a.channel.next_timer().expect("the idle timer");
        last = a.tick(now);
        while let Some(packet) = a.alone(now).map(|p| p.0).or_else(|| a.control(now)) {
            sent_after += packet.len();
        }
    }
    assert_eq!(last, TimerEvent::Idle(Duration::from_secs(60)));
    assert!(now >= at(60_000) && now <= at(61_000), "{now:?}");
    assert!(sent_after > 0);
}

// spec: CHN-3
#[test]
fn keepalives_keep_a_channel_alive_while_a_stream_is_open() {
    let (mut a, mut b) = warm_pair();
    a.channel.set_keepalive(true, false);
    let mut now = at(1);
    let mut pings = 0;
    while now < at(300_000) {
        for (end, other) in [(true, false), (false, true)] {
            let _ = other;
            let (from, to) = if end { (&mut a, &mut b) } else { (&mut b, &mut a) };
            assert_eq!(from.tick(now), TimerEvent::None);
            while let Some(packet) = from.alone(now).map(|p| p.0).or_else(|| from.control(now)) {
                let taken = to.take(now, &packet, from.address).unwrap();
                let frames = frames_of(&taken.bytes);
                match frames[..] {
                    [Frame::Ack(_)] => {}
                    [Frame::Ping, Frame::Padding] | [Frame::Ack(_), Frame::Ping] => pings += 1,
                    _ => panic!("{frames:?}"),
                }
            }
        }
        now = a
            .channel
            .next_timer()
            .into_iter()
            .chain(b.channel.next_timer())
            .min()
            .unwrap();
    }
    assert!((15..=25).contains(&pings), "{pings} in 300 s");
}

// spec: CHN-18
#[test]
fn a_reader_asks_when_a_flow_breaks_off_and_nothing_else_is_under_way() {
    for is_under_way in [false, true] {
        let (mut a, mut b) = warm_pair();
        b.channel.set_keepalive(true, false);
        let mut last = at(0);
        for n in 0..40 {
            last = at(100 + n);
            let packet = a.data(last, 100);
            b.take(last, &packet, a.address).unwrap();
            while b.control(last).is_some() {}
        }
        if is_under_way {
            b.data(last, 10);
        }
        let mut asked = None;
        for n in 1..3000 {
            let now = last + Duration::from_millis(n);
            b.tick(now);
            let probes = b.channel.info().probe_timeouts;
            if let Some(packet) = b.control(now).filter(|_| probes == 0) {
                assert_eq!(asked, None, "once");
                let taken = a.take(now, &packet, b.address).unwrap();
                assert!(frames_of(&taken.bytes).contains(&Frame::Ping));
                asked = Some(n);
            }
        }
        let silence = MIN_SILENCE.max(b.channel.probe_timeout() * 2).as_millis() as u64;
        assert_eq!(asked, (!is_under_way).then_some(silence));
    }
}

// spec: CHN-12
#[test]
fn close_reaches_the_peer_and_both_forget() {
    let (mut a, mut b) = warm_pair();
    a.channel.close(at(10), Code::app(7), "done");
    let (packet, transmit) = a.alone(at(10)).unwrap();
    assert_eq!(transmit.link, addr(RESPONDER).link);
    assert!(a.alone(at(10)).is_none() && a.control(at(10)).is_none());
    let taken = b.take(at(15), &packet, a.address).unwrap();
    carried!(
        taken,
        [ack(&[2..=4], 9000, (4, 0)), close(Code::app(7), "done").to_frame()]
    );
    assert!(!b.channel.is_open());
    assert!(
        b.alone(at(15)).is_none() && b.control(at(15)).is_none(),
        "its receiver sends nothing more"
    );
    for end in [&mut a, &mut b] {
        let due = end.channel.next_timer().unwrap();
        assert_eq!(end.tick(due), TimerEvent::Closed);
    }
}

// spec: CHN-12
#[test]
fn a_lost_close_is_sent_again_when_the_peer_goes_on() {
    let (mut a, mut b) = warm_pair();
    a.channel.close(at(10), Code::NONE, "");
    let mut sent = vec![a.alone(at(10)).unwrap().0];
    for n in 0..16 {
        b.data(at(11 + n), 10);
        a.channel.ending().on_packet();
        sent.extend(a.alone(at(11 + n)).map(|again| again.0));
    }
    assert_eq!(sent.len(), 1 + 5, "packets 1, 2, 4, 8 and 16");
    // What arrived at the first millisecond is acknowledged each time.
    for (packet, ms) in sent.iter().zip([10, 11, 12, 14, 18, 26]) {
        let taken = b.take(at(30), packet, a.address).unwrap();
        let acknowledgement = ack(&[2..=4], (ms - 1) * 1000, (4, 0));
        carried!(taken, [acknowledgement, close(Code::NONE, "").to_frame()]);
    }
}

// spec: CHN-12
#[test]
fn a_channel_that_ends_in_a_blackout_is_forgotten_soon() {
    let (mut a, mut b) = warm_pair();
    let packet = a.data(at(100), 100);
    b.take(at(1600), &packet, a.address).unwrap();
    b.tick(at(1620));
    let ack = b.control(at(1620)).expect("an acknowledgement");
    while let Some(due) = a.channel.next_timer().filter(|due| *due < at(3200)) {
        a.tick(due);
        while a.control(due).is_some() {}
    }
    a.take(at(3200), &ack, b.address).unwrap();
    a.data(at(3300), 100);
    // Nothing is acknowledged any more, and the probe timeout backs off.
    let mut now = at(3300);
    while a.channel.info().probe_timeouts < 2 {
        now = a.channel.next_timer().expect("the probe timeout");
        assert_eq!(a.tick(now), TimerEvent::None);
        while a.alone(now).is_some() || a.control(now).is_some() {}
    }
    assert!(a.channel.probe_timeout() > Duration::from_secs(2));
    a.channel.close(now, Code::NONE, "");
    assert_eq!(a.channel.next_timer(), Some(now + crate::MAX_CLOSING));
    assert_eq!(a.tick(now + crate::MAX_CLOSING), TimerEvent::Closed);
}

// spec: CHN-11
#[test]
fn a_changed_address_is_validated_then_used_with_fresh_state() {
    let (mut a, mut b) = warm_pair();
    for n in 0..50 {
        let packet = b.data(at(2 + n), 1000);
        a.take(at(2 + n), &packet, b.address).unwrap();
        settle(at(2 + n), &mut a, &mut b);
    }
    assert_eq!(b.channel.route(), addr(INITIATOR));
    a.address = addr("192.0.2.77:5555");
    let packet = a.data(at(100), 500);
    b.take(at(105), &packet, a.address).unwrap();
    b.data(at(105), 1000);
    assert_eq!(b.channel.route(), addr(INITIATOR), "data goes on to the old address");
    assert_eq!(b.channel.transmit(1).link, addr(INITIATOR).link);
    let (challenge, transmit) = b.alone(at(105)).expect("PATH_CHALLENGE");
    assert_eq!(transmit.link, a.address.link);
    assert!(challenge.len() <= 3 * packet.len());
    let taken = a.take(at(110), &challenge, b.address).unwrap();
    let [Frame::PathChallenge(data)] = frames_of(&taken.bytes)[..] else {
        panic!("{:?}", frames_of(&taken.bytes));
    };
    let response = a.control(at(110)).expect("PATH_RESPONSE");
    let taken = b.take(at(125), &response, a.address).unwrap();
    carried!(taken, [ack(&[56..=56, 2..=54], 0, (55, 0)), Frame::PathResponse(data)]);
    let info = b.channel.info();
    assert_eq!(info.route, a.address);
    assert_eq!(
        (info.rtt, info.min_rtt),
        (Duration::from_millis(20), Some(Duration::from_millis(20)))
    );
    assert_eq!((info.in_flight, info.window, info.slow_start), (0, 12_320, true));
    settle(at(126), &mut a, &mut b);
    let packet = b.data(at(130), 1000);
    a.take(at(135), &packet, b.address).unwrap();
    settle(at(136), &mut a, &mut b);
    assert!(b.channel.is_open() && a.channel.is_open());
}

// spec: CHN-11
#[test]
fn an_old_packet_from_elsewhere_changes_nothing() {
    let (mut a, mut b) = warm_pair();
    let old = a.data(at(2), 100);
    let new = a.data(at(2), 100);
    b.take(at(3), &new, a.address).unwrap();
    b.take(at(3), &old, addr("192.0.2.77:5555")).unwrap();
    assert!(b.alone(at(3)).is_none());
}

// spec: CHN-11
#[test]
fn threat_22_a_forged_source_address_gets_challenges_only() {
    let (mut a, mut b) = warm_pair();
    let packet = a.data(at(2), 100);
    let victim = addr("192.0.2.66:53");
    b.take(at(3), &packet, victim).unwrap();
    let mut to_victim = 0;
    let mut now = at(3);
    for _ in 0..50 {
        b.tick(now);
        while let Some((datagram, transmit)) = b.alone(now) {
            if transmit.link == victim.link {
                to_victim += datagram.len();
                let taken = a.take(now, &datagram, b.address).unwrap();
                let frames = frames_of(&taken.bytes);
                assert!(matches!(frames[..], [Frame::PathChallenge(_)]), "{frames:?}");
            }
        }
        while b.control(now).is_some() {}
        now = now + Duration::from_millis(20);
    }
    assert!(to_victim > 0 && to_victim <= 3 * packet.len(), "{to_victim}");
    assert_eq!(b.channel.route(), addr(INITIATOR));
}
