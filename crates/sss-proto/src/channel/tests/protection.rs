//! Short packets, generations of keys, replay (docs/spec/protection.md), and the numbers of packets.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sss_wire::frame::Frame;
use sss_wire::short::{self, Header};
use sss_wire::{Code, Writer};

use super::*;
use crate::channel::keys::{DirectionKeys, Limits};
use crate::channel::sent::Flags;
use crate::channel::testing::{Refused, accept, ack, close, early, warm_pair};
use crate::error::DropReason;
use crate::io::Ecn;
use crate::testing::ToFrame;

// spec: PRT-2, PRT-3, PRT-6
#[test]
fn threat_14_15_16_a_packet_opens_once_and_only_as_it_was_sealed() {
    for suite in [Suite::ChaCha20Poly1305, Suite::Aes256Gcm] {
        let (mut a, mut b) = established(at(0), Duration::from_millis(10), config(), suite);
        let packet = a.data(at(1), 100);
        assert_eq!(packet[0] >> 6, 0b01);
        assert_eq!(&packet[1..9], b"response");
        // The channel id, and the bits that no mask covers, are the host's to look at: here they are authenticated.
        for bit in 0..packet.len() * 8 {
            let mut bad = packet.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let refused = b.take(at(1), &bad, a.address).unwrap_err();
            // The two highest bits say that it is a short packet.
            let expected = match bit {
                6 | 7 => DropReason::Malformed,
                _ => DropReason::Unauthentic,
            };
            assert_eq!(refused, Refused::Dropped(expected), "bit {bit}");
        }
        for len in 0..packet.len() {
            let refused = b.take(at(1), &packet[..len], a.address).unwrap_err();
            assert!(matches!(refused, Refused::Dropped(_)), "cut to {len}: {refused:?}");
        }
        let taken = b.take(at(1), &packet, a.address).unwrap();
        assert_eq!((taken.opened.seq, taken.opened.generation), (1, 1));
        assert_eq!(taken.opened.payload.len(), packet.len() - 9 - 1 - 16);
        carried!(taken, [ack(&[0..=0], 1000, (0, 0)), Frame::Ping, Frame::Padding]);
        assert_eq!(
            b.take(at(1), &packet, a.address).unwrap_err(),
            Refused::Dropped(DropReason::Duplicate)
        );
        assert_eq!(
            b.take(at(1), &packet[..20], a.address).unwrap_err(),
            Refused::Dropped(DropReason::Malformed)
        );
    }
}

// spec: PRT-3
#[test]
fn a_tiny_packet_is_padded_until_it_has_a_sample() {
    let (mut a, mut b) = warm_pair();
    let packet = a.data(at(2), 1);
    assert_eq!(
        packet.len(),
        1 + 8 + 4 + 16,
        "number and plaintext together are 4 bytes"
    );
    carried!(
        b.take(at(2), &packet, a.address).unwrap(),
        [Frame::Ping, Frame::Padding]
    );
}

// spec: CHN-10
#[test]
fn a_full_packet_has_exactly_the_size_of_the_datagram() {
    let (mut a, _) = pair(at(0));
    for _ in 0..10 {
        let size = a.channel.datagram_size();
        assert_eq!(a.full_if_allowed(at(1)).unwrap().len(), size);
    }
}

// spec: PRT-5
#[test]
fn threat_14_a_number_below_the_replay_window_is_dropped() {
    let (mut a, mut b) = pair(at(0));
    // So many unacknowledged numbers are encoded in full, and cannot be mistaken for new ones.
    for _ in 0..40_000 {
        a.data(at(1), 4);
    }
    let old = a.data(at(1), 50);
    let older = a.data(at(1), 50);
    let mut newest = Vec::new();
    for _ in 0..17_000 {
        newest = a.data(at(1), 4);
    }
    b.take(at(1), &newest, a.address).unwrap();
    for packet in [old, older] {
        assert_eq!(
            b.take(at(1), &packet, a.address).unwrap_err(),
            Refused::Dropped(DropReason::Duplicate)
        );
    }
}

// spec: NEG-17, PRT-8
#[test]
fn generation_0_until_accept_then_generation_1() {
    let (mut a, mut b) = early(at(0), config(), Suite::Aes256Gcm);
    let first = a.data(at(1), 50);
    let late = a.data(at(1), 50);
    b.channel.record_packet_zero(at(5), 500, &[]);
    let taken = b.take(at(5), &first, a.address).unwrap();
    assert_eq!(taken.opened.generation, 0);
    let reply = b.data(at(5), 50);
    assert_eq!(
        a.take(at(10), &reply, b.address).unwrap_err(),
        Refused::Dropped(DropReason::UnknownChannel)
    );
    accept(at(10), &mut a, config());
    assert_eq!(a.take(at(10), &reply, b.address).unwrap().opened.generation, 1);
    let second = a.data(at(10), 50);
    assert_eq!(b.take(at(15), &second, a.address).unwrap().opened.generation, 1);
    assert_eq!(
        b.take(at(15), &late, a.address).unwrap().opened.generation,
        0,
        "late, but old keys are kept"
    );
}

/// Runs of the test of updates on a bad path.
const SEEDS: u64 = 200;

/// Limits that make keys wear out after a few packets.
fn worn_after(update: u64) -> Limits {
    Limits {
        update,
        seal: 1 << 20,
        fail: 1 << 20,
    }
}

// spec: PRT-8
#[test]
fn threat_18_worn_keys_are_replaced_and_the_peer_follows() {
    let (mut a, mut b) = pair(at(0));
    a.channel.keys.set_limits(worn_after(10));
    settle(at(1), &mut a, &mut b);
    let mut generations = Vec::new();
    for n in 0..100 {
        let now = at(10 + n);
        let packet = a.data(now, 50);
        generations.push(b.take(now, &packet, a.address).unwrap().opened.generation);
        let reply = b.data(now, 50);
        let taken = a.take(now, &reply, b.address).unwrap();
        assert_eq!(
            taken.opened.generation,
            *generations.last().unwrap(),
            "the peer follows with its next packet"
        );
    }
    assert!(generations.is_sorted());
    assert!(*generations.last().unwrap() >= 8, "{generations:?}");
    assert_eq!(
        generations.iter().collect::<HashSet<_>>().len() as u32,
        generations[99] - generations[0] + 1
    );
}

// spec: PRT-8
#[test]
fn threat_19_both_sides_may_update_at_once() {
    let (mut a, mut b) = warm_pair();
    for end in [&mut a, &mut b] {
        end.channel.keys.set_limits(worn_after(7));
    }
    for n in 0..200 {
        let now = at(10 + n * 20);
        let (from_a, from_b) = (a.data(now, 50), b.data(now, 50));
        b.take(now, &from_a, a.address).unwrap();
        a.take(now, &from_b, b.address).unwrap();
        settle(now, &mut a, &mut b);
    }
    let generations = [&a, &b].map(|end| end.channel.info().key_generation);
    assert!(
        generations[0] > 10 && generations[0].abs_diff(generations[1]) <= 1,
        "{generations:?}"
    );
}

// spec: PRT-8
#[test]
fn threat_19_no_second_update_before_the_first_is_acknowledged() {
    let (mut a, mut b) = warm_pair();
    a.channel.keys.set_limits(worn_after(5));
    let packets: Vec<_> = (0..100).map(|_| a.data(at(10), 50)).collect();
    assert_eq!(a.channel.info().key_generation, 2);
    for packet in &packets {
        b.take(at(11), packet, a.address).unwrap();
    }
    settle(at(11), &mut a, &mut b);
    a.data(at(12), 50);
    assert_eq!(a.channel.info().key_generation, 3);
}

// spec: PRT-8
#[test]
fn an_acknowledgement_of_what_was_sent_before_is_none_of_the_keys_that_came_with_accept() {
    let (mut a, _) = warm_pair();
    let (_, secrets) = crate::channel::testing::secrets();
    let accepted = DirectionKeys {
        secret: &secrets.initiator,
        header: secrets.initiator_header(),
    };
    let next = a.channel.flight.sent.next();
    let keys = &mut a.channel.keys;
    keys.send_from(next, &accepted);
    keys.set_limits(worn_after(0));
    keys.on_acked(next - 1);
    keys.before_seal(next + 1);
    assert_eq!(keys.generation(), 1);
    keys.on_acked(next);
    keys.before_seal(next + 1);
    assert_eq!(keys.generation(), 2);
}

// spec: PRT-8
#[test]
fn threat_19_packets_reordered_across_an_update_open_for_3_pto() {
    let (mut a, mut b) = warm_pair();
    a.channel.keys.set_limits(worn_after(20));
    let mut packets = Vec::new();
    while a.channel.info().key_generation == 1 {
        assert!(packets.len() < 100);
        packets.push(a.data(at(10), 50));
    }
    assert!(packets.len() > 6);
    let newest = packets.pop().unwrap();
    assert_eq!(b.take(at(10), &newest, a.address).unwrap().opened.generation, 2);
    let late = packets.pop().unwrap();
    let taken = b.take(at(11), &late, a.address).unwrap();
    assert_eq!((taken.opened.generation, taken.opened.newest), (1, false));
    let pto = b.channel.flight.recovery.probe_timeout();
    let too_late = packets.pop().unwrap();
    let in_time = packets.pop().unwrap();
    b.tick(at(10) + pto * 3 - Duration::from_nanos(1));
    b.take(at(10) + pto * 2, &in_time, a.address).unwrap();
    b.tick(at(10) + pto * 3);
    assert_eq!(
        b.take(at(10) + pto * 3, &too_late, a.address).unwrap_err(),
        Refused::Dropped(DropReason::Unauthentic)
    );
}

// spec: PRT-9
#[test]
fn threat_18_a_channel_whose_keys_are_used_up_closes() {
    let (mut a, mut b) = warm_pair();
    a.channel.keys.set_limits(Limits {
        update: 1000,
        seal: 200,
        fail: 1000,
    });
    let mut sent = 0;
    while let Some(packet) = a.full_if_allowed(at(2 + sent)) {
        b.take(at(2 + sent), &packet, a.address).unwrap();
        settle(at(2 + sent), &mut a, &mut b);
        sent += 1;
        assert!(sent < 300);
    }
    assert_eq!(a.tick(at(2 + sent)), TimerEvent::KeysUsedUp);
    a.channel.close(at(2 + sent), Code::AEAD_LIMIT, "used up");
    let (packet, _) = a.alone(at(2 + sent)).expect("CLOSE can still be sealed");
    let taken = b.take(at(2 + sent), &packet, a.address).unwrap();
    let close = close(Code::AEAD_LIMIT, "used up").to_frame();
    carried!(taken, [ack(&[4..=69], 1000, (69, 0)), close]);
}

// spec: PRT-9
#[test]
fn threat_18_too_many_forgeries_close_the_channel() {
    let (mut a, mut b) = pair(at(0));
    b.channel.keys.set_limits(Limits {
        update: 1000,
        seal: 1000,
        fail: 50,
    });
    let mut packet = a.data(at(1), 50);
    *packet.last_mut().unwrap() ^= 1;
    for _ in 0..50 {
        assert_ne!(b.tick(at(1)), TimerEvent::KeysUsedUp);
        b.take(at(1), &packet, a.address).unwrap_err();
    }
    assert_eq!(b.tick(at(1)), TimerEvent::KeysUsedUp);
}

// spec: PRT-4, CHN-6
#[test]
fn threat_20_numbers_rise_and_about_one_in_1024_is_left_out() {
    let (mut a, mut b) = pair(at(0));
    let mut last = 0;
    let mut skipped = 0;
    for n in 0..50_000 {
        let now = at_us(1000 + n);
        let packet = a.data(now, 10);
        let seq = b.take(now, &packet, a.address).unwrap().opened.seq;
        assert!(seq > last);
        skipped += seq - last - 1;
        last = seq;
        if n % 64 == 0 {
            settle(now, &mut a, &mut b);
        }
    }
    assert!((25..=100).contains(&skipped), "{skipped}");
}

// spec: CHN-7
#[test]
fn ecn_counts_come_back_and_ce_reduces_the_window() {
    let (mut a, mut b) = warm_pair();
    let before = a.channel.info().window;
    for n in 0..20 {
        let now = at(10 + n);
        assert_eq!(a.channel.transmit(1).ecn, Ecn::Ect0);
        let packet = a.data(now, 500);
        let mark = if n == 15 { Ecn::Ce } else { Ecn::Ect0 };
        b.take_marked(now, &packet, a.address, mark).unwrap();
        // Two packets at a time are acknowledged.
        if n % 2 == 1 {
            let packet = b.control(now).expect("an acknowledgement");
            let taken = a.take_marked(now, &packet, b.address, Ecn::Ect0).unwrap();
            let marked = u64::from(n >= 15);
            carried!(taken, [ack(&[5..=7 + n], 0, (7 + n - marked, marked))]);
        } else {
            assert!(b.control(now).is_none());
        }
    }
    let info = a.channel.info();
    assert_eq!(info.ecn, crate::channel::EcnState::Capable);
    assert_eq!((info.congestion_events, info.slow_start), (1, false));
    assert_eq!(info.window, before * 7 / 10);
}

// spec: CHN-7
#[test]
fn a_path_without_ecn_stops_the_marking() {
    let (mut a, mut b) = pair(at(0));
    for n in 0..4 {
        let packet = a.data(at(10 + n), 500);
        b.take_marked(at(10 + n), &packet, a.address, Ecn::NotEct).unwrap();
    }
    settle(at(20), &mut a, &mut b);
    assert_eq!(a.channel.transmit(1).ecn, Ecn::NotEct);
}

/// A packet as [`End::data`] makes them, with bits of the first byte set that are zero in this version.
fn with_reserved_bits(end: &mut End, now: Instant, bits: u8) -> Vec<u8> {
    let seq = end.channel.flight.sent.next();
    let (sequence, sequence_len) = short::encode_sequence(seq, None);
    let header = Header {
        key_phase: end.channel.keys.key_phase(),
        channel_id: end.channel.ids.remote,
        sequence,
        sequence_len,
    };
    let mut packet = vec![1; short::packet_len(&header, 50)];
    short::write_header(&mut Writer::new(&mut packet), &header);
    packet[0] |= bits;
    end.channel.keys.seal(seq, &header, &mut packet);
    end.channel
        .flight
        .sent
        .push(now, packet.len() as u16, Flags::default(), &[]);
    packet
}

// spec: PRT-20
#[test]
fn a_packet_with_a_reserved_bit_is_dropped_and_changes_nothing() {
    for bits in [0x08, 0x10, 0x20, 0x38] {
        let (mut a, mut b) = warm_pair();
        let next = a.channel.flight.sent.next();
        a.channel.keys.update_now(next);
        let packet = with_reserved_bits(&mut a, at(10), bits);
        let before = b.channel.replay.next();
        for _ in 0..2 {
            let refused = b.take(at(10), &packet, a.address).unwrap_err();
            assert_eq!(refused, Refused::Dropped(DropReason::Malformed), "bits {bits:#x}");
        }
        assert_eq!(b.channel.replay.next(), before, "its number was not seen");
        let reply = b.data(at(11), 50);
        assert_eq!(
            a.take(at(11), &reply, b.address).unwrap().opened.generation,
            1,
            "the keys did not move"
        );
        let good = a.data(at(12), 50);
        assert_eq!(b.take(at(12), &good, a.address).unwrap().opened.generation, 2);
    }
}

// spec: PRT-21
#[test]
fn threat_19_forged_phases_move_no_keys_and_cost_no_old_ones() {
    let (mut a, mut b) = warm_pair();
    let old = a.data(at(10), 50);
    let next = a.channel.flight.sent.next();
    a.channel.keys.update_now(next);
    let first = a.data(at(10), 50);
    b.take(at(10), &first, a.address).unwrap();
    // Whoever is on the path flips the phase bit of packets: the next generation is tried for the newest, the old for
    // others.
    for n in 0..100 {
        let packet = a.data(at(11), 50);
        let mut forged = packet.clone();
        forged[0] ^= 0x04;
        let refused = b.take(at(11), &forged, a.address).unwrap_err();
        assert_eq!(refused, Refused::Dropped(DropReason::Unauthentic), "packet {n}");
        b.take(at(11), &packet, a.address).unwrap();
        assert!(b.take(at(11), &forged, a.address).is_err());
    }
    let taken = b.take(at(12), &old, a.address).unwrap();
    assert_eq!(taken.opened.generation, 1, "the keys before are still there");
    let reply = b.data(at(12), 50);
    assert_eq!(a.take(at(12), &reply, b.address).unwrap().opened.generation, 2);
}

// spec: PRT-21
#[test]
fn threat_19_a_peer_that_goes_back_to_old_keys_is_not_heard() {
    let (mut a, mut b) = warm_pair();
    let next = a.channel.flight.sent.next();
    a.channel.keys.update_now(next);
    let newer = a.data(at(10), 50);
    b.take(at(10), &newer, a.address).unwrap();
    let (_, secrets) = crate::channel::testing::secrets();
    let old = DirectionKeys {
        secret: &secrets.initiator,
        header: secrets.initiator_header(),
    };
    let next = a.channel.flight.sent.next();
    a.channel.keys.send_from(next, &old);
    let back = a.data(at(11), 50);
    assert_eq!(
        b.take(at(11), &back, a.address).unwrap_err(),
        Refused::Dropped(DropReason::Unauthentic),
        "the keys of the generation before are for lower numbers only"
    );
}

// spec: PRT-8, PRT-22
#[test]
fn threat_19_a_peer_that_updates_without_waiting_is_followed_and_loses_only_its_own_late_packets() {
    let (mut a, mut b) = warm_pair();
    let mut packets = Vec::new();
    for n in 0..5 {
        packets.push([a.data(at(10), 50), a.data(at(10), 50)]);
        let next = a.channel.flight.sent.next();
        a.channel.keys.update_now(next);
        assert_eq!(a.channel.info().key_generation, n + 2);
    }
    for (n, [packet, _]) in packets.iter().enumerate() {
        let taken = b.take(at(11), packet, a.address).unwrap();
        assert_eq!(
            taken.opened.generation as usize,
            n + 1,
            "each update is of one generation"
        );
    }
    // Late packets: of the present generation and the one before.
    for (n, [_, late]) in packets.iter().enumerate() {
        assert_eq!(b.take(at(11), late, a.address).is_ok(), n >= 3, "generation {}", n + 1);
    }
    let reply = b.data(at(12), 50);
    assert_eq!(b.channel.info().key_generation, 5, "at once, not one by one");
    // What is sent in the generations that were left out was never sent: the peer of this test knows only its own.
    assert!(a.take(at(12), &reply, b.address).is_err());
    assert!(b.channel.is_open());
}

// Threat 19: both sides replace their keys all the time, while packets are lost, repeated, late, and changed.
// spec: PRT-8, PRT-21
#[test]
fn threat_19_updates_without_rest_on_a_bad_path_lose_nothing_that_arrives() {
    for seed in 0..SEEDS {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut a, mut b) = warm_pair();
        for end in [&mut a, &mut b] {
            end.channel.keys.set_limits(worn_after(8));
        }
        let mut flying: Vec<(Instant, bool, Vec<u8>)> = Vec::new();
        for n in 0..250 {
            let now = at(10 + n);
            for to_b in [true, false] {
                let end = if to_b { &mut a } else { &mut b };
                end.tick(now);
                let mut packets: Vec<_> = std::iter::from_fn(|| end.control(now)).collect();
                packets.push(end.data(now, 50));
                for packet in packets {
                    for _ in 0..[0, 1, 1, 1, 1, 1, 1, 2][rng.random_range(0..8)] {
                        // Less apart than a round trip: none is late by two generations.
                        flying.push((
                            now + Duration::from_micros(rng.random_range(5_000..9_000)),
                            to_b,
                            packet.clone(),
                        ));
                    }
                }
            }
            flying.sort_by_key(|packet| packet.0);
            let due = flying.partition_point(|packet| packet.0 <= now);
            for (_, to_b, packet) in flying.drain(..due) {
                let (from, to) = if to_b { (&a, &mut b) } else { (&b, &mut a) };
                let mut forged = packet.clone();
                let at_bit = rng.random_range(0..packet.len() * 8);
                forged[at_bit / 8] ^= 1 << (at_bit % 8);
                assert!(matches!(to.take(now, &forged, from.address), Err(Refused::Dropped(_))));
                match to.take(now, &packet, from.address) {
                    Ok(_) | Err(Refused::Dropped(DropReason::Duplicate)) => {}
                    Err(error) => panic!("seed {seed}, {n} ms: {error:?}"),
                }
            }
        }
        let generations = [&a, &b].map(|end| end.channel.info().key_generation);
        let apart = generations[0].abs_diff(generations[1]);
        assert!(generations[0] > 8 && apart <= 1, "seed {seed}: {generations:?}");
        assert!(a.channel.is_open() && b.channel.is_open());
    }
}
