//! Channels on which nothing moves: what they give back, and that nothing is lost by that.

use sss_wire::Code;
use sss_wire::frame::Frame;

use super::*;
use crate::channel::keys::Limits;
use crate::channel::rests;
use crate::channel::testing::{Refused, close, warm_pair};
use crate::error::DropReason;
use crate::testing::{ToFrame, frames_of};

const REST: u64 = 50;

/// Both ends, of which nothing was heard for long enough, some time before the one that is returned.
fn resting_pair() -> (End, End, u64) {
    let (mut a, mut b) = warm_pair();
    for ms in 1..=REST {
        assert!(!rests(&a.channel) && !rests(&b.channel), "{ms} ms");
        for end in [&mut a, &mut b] {
            end.tick(at(ms));
        }
        settle(at(ms), &mut a, &mut b);
    }
    for end in [&mut a, &mut b] {
        end.tick(at(1 + REST));
        assert!(rests(&end.channel));
    }
    // Used any later than this, it rests as soon as ever.
    (a, b, 2500)
}

/// Data goes both ways and is acknowledged.
fn converse(now: u64, a: &mut End, b: &mut End) {
    let (sent, answer) = (a.data(at(now), 100), b.data(at(now), 100));
    b.take(at(now + 5), &sent, a.address).unwrap();
    a.take(at(now + 5), &answer, b.address).unwrap();
    settle(at(now + 40), a, b);
    for end in [a, b] {
        assert!(!rests(&end.channel));
        assert_eq!(end.channel.info().in_flight, 0, "everything was acknowledged");
    }
}

#[test]
fn a_channel_that_rests_keeps_no_expanded_keys() {
    let (a, b, _) = resting_pair();
    for end in [&a, &b] {
        assert!(end.channel.keys.is_frozen());
        assert_eq!(end.channel.keys.made(), 0);
        assert!(
            end.channel.flight.sent.room() <= 2,
            "what acknowledges need not be acknowledged"
        );
    }
}

#[test]
fn a_channel_that_rests_goes_on_in_both_directions_and_rests_again() {
    let (mut a, mut b, mut now) = resting_pair();
    for _ in 0..5 {
        converse(now, &mut a, &mut b);
        now += 41;
        for end in [&mut a, &mut b] {
            end.tick(at(now + REST - 5));
            assert!(!rests(&end.channel));
            let due = end.channel.next_timer().unwrap();
            assert!(due <= at(now + REST), "{due:?}");
            end.tick(at(now + REST));
            assert!(rests(&end.channel));
        }
        // Long enough for the next one to be as soon.
        now += REST + 2000;
    }
    assert_eq!(a.channel.info().packets_lost + b.channel.info().packets_lost, 0);
}

/// Returns how often a channel comes to rest that is used so often, every so many ms.
fn rests_of_one_used_every(pause: u64, times: u64) -> usize {
    let (mut a, mut b) = warm_pair();
    let (mut now, mut count) = (10, 0);
    for _ in 0..times {
        let packet = a.data(at(now), 10);
        b.take(at(now), &packet, a.address).unwrap();
        settle(at(now + 30), &mut a, &mut b);
        for ms in (now + 40..now + pause).step_by(10) {
            let rested = rests(&b.channel);
            b.tick(at(ms));
            count += usize::from(!rested && rests(&b.channel));
        }
        now += pause;
    }
    count
}

#[test]
fn a_channel_that_is_used_now_and_then_is_kept_ready_and_rests_when_it_is_not_used() {
    assert_eq!(rests_of_one_used_every(80, 50), 0);
    assert!(rests_of_one_used_every(190, 50) <= 2);
    assert!(rests_of_one_used_every(300, 50) <= 3);
    assert!(rests_of_one_used_every(700, 50) <= 6);
    // Seldom enough: each time, as soon as ever.
    assert_eq!(rests_of_one_used_every(2500, 10), 10);
    // Whatever was learnt, a pause of this length is a rest.
    assert!(rests_of_one_used_every(1800, 50) > 40);
}

#[test]
fn a_channel_that_was_used_often_and_is_used_seldom_rests_as_soon_as_ever() {
    let (mut a, mut b) = warm_pair();
    let (mut now, mut rested_after) = (10, 0);
    for pause in [300; 10].into_iter().chain([4000; 4]) {
        let packet = a.data(at(now), 10);
        b.take(at(now), &packet, a.address).unwrap();
        settle(at(now + 30), &mut a, &mut b);
        let mut moments = now + 31..now + pause;
        let rested = moments.find(|ms| {
            b.tick(at(*ms));
            rests(&b.channel)
        });
        rested_after = rested.map_or(0, |ms| ms - now);
        now += pause;
    }
    assert_eq!(rested_after, 30 + REST);
}

#[test]
fn a_channel_in_use_does_not_rest() {
    let (mut a, mut b) = warm_pair();
    for ms in (10..2000).step_by(70) {
        let packet = a.data(at(ms), 10);
        b.take(at(ms), &packet, a.address).unwrap();
        settle(at(ms + 30), &mut a, &mut b);
        for end in [&mut a, &mut b] {
            end.tick(at(ms + 40));
            assert!(!rests(&end.channel));
        }
    }
}

// spec: PRT-8
#[test]
fn a_channel_that_rests_follows_to_other_keys() {
    for is_early in [false, true] {
        let (mut a, mut b, now) = resting_pair();
        if !is_early {
            converse(now, &mut a, &mut b);
        }
        let next = a.channel.flight.sent.next();
        a.channel.keys.update_now(next);
        let packet = a.data(at(now + 50), 50);
        let taken = b.take(at(now + 50), &packet, a.address).unwrap();
        assert_eq!(taken.opened.generation, 2);
        let reply = b.data(at(now + 51), 50);
        assert_eq!(a.take(at(now + 51), &reply, b.address).unwrap().opened.generation, 2);
        // And rests with the keys that it has then.
        settle(at(now + 80), &mut a, &mut b);
        for end in [&mut a, &mut b] {
            end.tick(at(now + 80 + REST));
            assert!(rests(&end.channel));
        }
        converse(now + 90 + REST, &mut a, &mut b);
        assert_eq!([&a, &b].map(|end| end.channel.info().key_generation), [2, 2]);
    }
}

// spec: CHN-11
#[test]
fn a_channel_that_rests_follows_to_another_address() {
    let (mut a, mut b, now) = resting_pair();
    a.address = addr("192.0.2.77:5555");
    let packet = a.data(at(now), 500);
    b.take(at(now + 5), &packet, a.address).unwrap();
    let (challenge, transmit) = b.alone(at(now + 5)).expect("PATH_CHALLENGE");
    assert_eq!(transmit.link, a.address.link);
    // Its answer comes when both rest again.
    let taken = a.take(at(now + 10), &challenge, b.address).unwrap();
    assert!(matches!(frames_of(&taken.bytes)[..], [Frame::PathChallenge(_)]));
    let response = a.control(at(now + 10)).expect("PATH_RESPONSE");
    b.channel.keys.freeze();
    b.take(at(now + 20), &response, a.address).unwrap();
    assert_eq!(b.channel.route(), a.address);
    settle(at(now + 30), &mut a, &mut b);
    converse(now + 60, &mut a, &mut b);
}

// spec: CHN-12
#[test]
fn a_channel_that_rests_is_closed() {
    let (mut a, mut b, now) = resting_pair();
    a.channel.close(at(now), Code::app(7), "done");
    let (packet, _) = a.alone(at(now)).unwrap();
    let taken = b.take(at(now + 5), &packet, a.address).unwrap();
    assert!(taken.closed && !b.channel.is_open());
    let frames = frames_of(&taken.bytes);
    assert!(frames.contains(&close(Code::app(7), "done").to_frame()), "{frames:?}");
    for end in [&mut a, &mut b] {
        let due = end.channel.next_timer().unwrap();
        assert_eq!(end.tick(due), TimerEvent::Closed);
    }
}

#[test]
fn who_cannot_seal_packets_makes_no_channel_keep_keys() {
    let (mut a, mut b) = warm_pair();
    let seen = a.data(at(2), 50);
    b.take(at(2), &seen, a.address).unwrap();
    settle(at(30), &mut a, &mut b);
    b.tick(at(30 + REST));
    assert!(rests(&b.channel));
    let due = b.channel.next_timer();
    let packet = a.data(at(300), 50);
    for bit in 2..packet.len() * 8 {
        // The phase of the next generation among them.
        let mut forged = packet.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(b.take(at(300), &forged, a.address).is_err(), "bit {bit}");
        assert!(rests(&b.channel), "bit {bit}");
    }
    let refused = b.take(at(300), &seen, a.address).unwrap_err();
    assert_eq!(refused, Refused::Dropped(DropReason::Duplicate));
    assert!(rests(&b.channel), "a packet that was seen");
    assert_eq!(b.channel.next_timer(), due);
    b.take(at(301), &packet, a.address).unwrap();
    assert!(!rests(&b.channel));
}

// spec: PRT-8
#[test]
fn a_channel_that_rests_keeps_no_keys_of_other_generations_either() {
    let (mut a, mut b) = warm_pair();
    let late = a.data(at(2), 50);
    let next = a.channel.flight.sent.next();
    a.channel.keys.update_now(next);
    let packet = a.data(at(2), 50);
    b.take(at(2), &packet, a.address).unwrap();
    b.take(at(2), &late, a.address).unwrap();
    let next = a.channel.flight.sent.next();
    a.channel.keys.update_now(next);
    let mut forged = a.data(at(2), 50);
    *forged.last_mut().unwrap() ^= 1;
    b.take(at(2), &forged, a.address).unwrap_err();
    assert_eq!(
        b.channel.keys.made(),
        6,
        "headers, keys, and those of the generations before and after"
    );
    b.channel.keys.freeze();
    assert_eq!(b.channel.keys.made(), 0);
}

// spec: PRT-9
#[test]
fn forgeries_that_reach_a_channel_that_rests_are_counted() {
    let (mut a, mut b, now) = resting_pair();
    b.channel.keys.set_limits(Limits {
        update: 1000,
        seal: 1000,
        fail: 50,
    });
    let mut packet = a.data(at(now), 50);
    *packet.last_mut().unwrap() ^= 1;
    for _ in 0..50 {
        assert_ne!(b.tick(at(now)), TimerEvent::KeysUsedUp);
        b.take(at(now), &packet, a.address).unwrap_err();
    }
    assert_eq!(b.tick(at(now + 1)), TimerEvent::KeysUsedUp);
}

// spec: REC-3
#[test]
fn losses_can_be_refuted_after_a_rest() {
    const LATE: usize = 100;
    let (mut a, mut b) = warm_pair();
    let late: Vec<_> = (0..LATE).map(|_| a.data(at(2), 20)).collect();
    for _ in 0..6 {
        let packet = a.data(at(2), 20);
        b.take(at(7), &packet, a.address).unwrap();
    }
    settle(at(7), &mut a, &mut b);
    let lost = a.channel.info().packets_lost;
    assert_eq!(lost, LATE as u64);
    for ms in 8..=20 + REST {
        a.tick(at(ms));
    }
    assert!(rests(&a.channel));
    for packet in &late {
        b.take(at(30 + REST), packet, a.address).unwrap();
    }
    b.tick(at(60 + REST));
    settle(at(60 + REST), &mut a, &mut b);
    assert_eq!(a.channel.info().false_losses, lost);
}

#[test]
fn a_channel_that_waits_for_acknowledgements_does_not_rest_so_soon() {
    let (mut a, mut b) = warm_pair();
    let packet = a.data(at(10), 10);
    for ms in 11..10 + 4 * REST {
        a.tick(at(ms));
        assert!(!rests(&a.channel), "{ms} ms");
    }
    b.take(at(10 + 4 * REST), &packet, a.address).unwrap();
    settle(at(10 + 4 * REST), &mut a, &mut b);
    let now = 11 + 5 * REST;
    a.tick(at(now));
    assert!(rests(&a.channel), "nothing is in flight any more");
}

/// One end speaks, and the other one says nothing.
#[test]
fn a_channel_on_which_only_one_end_speaks_does_not_rest() {
    let (mut a, mut b) = warm_pair();
    settle(at(30), &mut a, &mut b);
    for ms in (REST - 10..1500).step_by(40) {
        for end in [&mut a, &mut b] {
            end.tick(at(ms));
            assert!(!rests(&end.channel), "{ms} ms");
        }
        let packet = a.data(at(ms), 10);
        b.take(at(ms), &packet, a.address).unwrap();
    }
}
