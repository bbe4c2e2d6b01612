//! The negotiation between real hosts: simultaneous open, replay, load, versions, and no amplification.

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use sss_proto::{
    CloseReason, Config, DropReason, Ecn, Event, Host, NegotiationError, PathHint, PostQuantum, Route, Seen, Tried,
};
use sss_sim::world::Recorder;
use sss_sim::{Captured, LinkConfig, World, handshakes};
use sss_wire::{Code, long};

use crate::support::{
    A, ACCEPT, B, COOKIE, COOKIE_K, Echo, HELLO, INITIATE, PROBE, RETRY, SERVICE, duo, duo_with, ms, secs, state,
};

fn kinds(captured: &[Captured], kind: u8) -> Vec<&Captured> {
    captured.iter().filter(|c| c.kind() == kind).collect()
}

// spec: NEG-16, NEG-17, CHN-7
#[test]
fn one_round_trip_and_a_half_carry_early_data_both_ways() {
    let mut world = duo(60, &LinkConfig::with_delay(ms(50)));
    let mut echo = Echo::start(&mut world, 100);
    echo.open(&mut world, A, B);
    world.capture();
    // HELLO, COOKIE, INITIATE with data, ACCEPT with the answer: two round trips, and the last acknowledgement.
    echo.run_until_complete(&mut world, 2, ms(285));
    let sent = world.captured();
    for kind in [HELLO, COOKIE, INITIATE, ACCEPT] {
        assert_eq!(kinds(&sent, kind).len(), 1, "{kind:02x}");
    }
    // CHN-7
    for packet in &sent {
        let expected = if packet.kind() >= HELLO { Ecn::NotEct } else { Ecn::Ect0 };
        assert_eq!(packet.ecn, expected, "{:02x}", packet.kind());
    }
}

// spec: NEG-18
#[test]
fn threat_36_simultaneous_open_makes_one_channel() {
    for seed in 0..60 {
        let link = LinkConfig {
            jitter: ms(seed % 3 * 7),
            ..LinkConfig::with_delay(ms(20))
        };
        let mut world = duo(700 + seed, &link);
        let mut echo = Echo::start(&mut world, 3000);
        echo.open(&mut world, A, B);
        // From at once to after A's channel is up.
        world.run_for(ms(seed * 2), &mut echo);
        echo.open(&mut world, B, A);
        echo.run_until_complete(&mut world, 4, secs(60));
        world.run_for(secs(20), &mut echo);
        assert_eq!(echo.lost, [], "seed {seed}");
        for host in [A, B] {
            assert_eq!(world.host(host).stats().channels_made, 1, "seed {seed}, {host:?}");
            assert_eq!(world.host(host).peers().len(), 1);
        }
    }
}

// spec: NEG-18
#[test]
fn threat_36_simultaneous_open_over_bad_links_loses_nothing() {
    for seed in 0..60 {
        let link = LinkConfig {
            loss: 0.2,
            reorder: 0.2,
            duplicate: 0.2,
            ..LinkConfig::with_delay(ms(20))
        };
        let mut world = duo(800 + seed, &link);
        let mut echo = Echo::start(&mut world, 3000);
        echo.open(&mut world, A, B);
        world.run_for(ms(seed * 3), &mut echo);
        echo.open(&mut world, B, A);
        echo.run_until_complete(&mut world, 4, secs(200));
        assert_eq!(echo.lost, [], "seed {seed}");
    }
}

// spec: NEG-11, NEG-15
#[test]
fn threat_04_repeated_initiate_gets_the_same_accept_and_makes_no_second_channel() {
    let mut world = duo(61, &LinkConfig::with_delay(ms(10)));
    let mut echo = Echo::start(&mut world, 2000);
    world.capture();
    world.hold(|c| c.kind() == ACCEPT);
    echo.open(&mut world, A, B);
    // Less than INITIATE may go unanswered (NEG-24).
    world.run_for(ms(450), &mut echo);
    let sent = world.captured();
    let initiates = kinds(&sent, INITIATE);
    let accepts = kinds(&sent, ACCEPT);
    assert!(initiates.len() >= 4 && accepts.len() == initiates.len());
    assert!(initiates.iter().all(|c| c.bytes == initiates[0].bytes));
    assert!(accepts.iter().all(|c| c.bytes == accepts[0].bytes));
    let hellos = kinds(&sent, HELLO);
    assert!(hellos.iter().all(|c| c.bytes == hellos[0].bytes));
    assert_eq!(world.host(B).stats().channels_made, 1);
    let initiate = initiates[0].clone();

    world.unhold();
    echo.run_until_complete(&mut world, 2, secs(60));
    assert_eq!(world.host(A).stats().channels_made, 1);
    // The initiator has spoken in generation 1: there is no ACCEPT any more, and no second channel.
    let demand_nothing = |world: &mut World, echo: &mut Echo| {
        world.captured();
        let before = state(world, B);
        world.inject(B, initiate.from, &initiate.bytes);
        world.run_for(ms(0), echo);
        let from_b = world.address(B);
        assert!(world.captured().iter().all(|c| c.from != from_b));
        assert_eq!(state(world, B), before);
    };
    world.run_for(secs(2), &mut echo);
    demand_nothing(&mut world, &mut echo);
    assert_eq!(echo.lost, []);

    // Nor after the channel was closed, as long as the cookie's key lives; nor after that.
    let peer = echo.connected[0].1;
    world.call(A, |h, now| h.disconnect(now, peer, Code::NONE, "done"));
    world.run_for(secs(20), &mut echo);
    demand_nothing(&mut world, &mut echo);
    world.run_for(secs(200), &mut echo);
    demand_nothing(&mut world, &mut echo);
    assert_eq!(world.host(B).stats().channels_made, 1);
}

// spec: NEG-12
#[test]
fn threat_02_under_load_a_host_asks_for_a_token_first() {
    let busy = Config::default().with(|c| c.hello_threshold = 5);
    let mut world = duo_with(62, &LinkConfig::with_delay(ms(10)), Config::default(), busy);
    let mut echo = Echo::start(&mut world, 2000);
    let mut rng = StdRng::seed_from_u64(1);
    for i in 0..20u16 {
        let mut garbage = vec![0; long::HELLO_SIZE - 29];
        rng.fill_bytes(&mut garbage);
        let hello = long::hello(1, &rng.random(), &[0; 16], &garbage);
        world.inject(B, format!("10.0.7.7:{}", 1000 + i).parse().unwrap(), &hello);
    }
    world.capture();
    echo.open(&mut world, A, B);
    echo.run_until_complete(&mut world, 2, secs(10));
    let sent = world.captured();
    let to_a = world.address(A);
    let retry: Vec<_> = kinds(&sent, RETRY).into_iter().filter(|c| c.to == to_a).collect();
    assert_eq!(retry.len(), 1);
    let hellos = kinds(&sent, HELLO);
    assert_eq!(hellos.len(), 2, "again at once, and no more");
    assert_eq!(hellos[1].bytes[13..29], retry[0].bytes[13..29]);
    assert_eq!(
        (&hellos[0].bytes[..13], &hellos[0].bytes[29..]),
        (&hellos[1].bytes[..13], &hellos[1].bytes[29..])
    );
    assert!(hellos[1].at - hellos[0].at < ms(25));
    // Garbage gets RETRY, never a Diffie-Hellman once the threshold is passed.
    assert!(kinds(&sent, RETRY).len() >= 14);
}

// spec: NEG-12
#[test]
fn endless_retry_is_followed_three_times_an_attempt() {
    let mut world = duo(63, &LinkConfig::with_delay(ms(10)));
    world.hold(|c| c.kind() == HELLO);
    let mut recorder = Recorder::default();
    world.connect(A, B, SERVICE);
    world.run_for(ms(1), &mut recorder);
    let hello = world.unhold().remove(0);
    world.hold(|c| c.kind() == HELLO);
    let attempt = hello.bytes[5..13].try_into().unwrap();
    for i in 0..10 {
        world.inject(A, hello.to, &long::retry(1, &attempt, &[i; 16]));
    }
    world.run_for(ms(1), &mut recorder);
    assert_eq!(world.unhold().len(), 3);
}

// spec: NEG-3, NEG-9, OVR-2
#[test]
fn threat_01_what_is_not_validated_gets_less_than_it_sent() {
    let mut world = duo(64, &LinkConfig::default());
    world.call(A, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
    let mut recorder = Recorder::default();
    let mut rng = StdRng::seed_from_u64(64);
    let from = "192.0.2.1:999".parse().unwrap();
    world.capture();
    let before = state(&world, A);
    let mut answered = 0;
    let kinds = [
        0x80, 0x80, 0x81, 0x85, 0x82, 0x83, 0x84, 0x86, 0x87, 0x88, 0x89, 0x40, 0x7f, 0x00,
    ];
    for _ in 0..120_000 {
        let len = [1, 29, 46, 64, rng.random_range(1..1500), 1232][rng.random_range(0..6)];
        let mut bytes = vec![0; len];
        rng.fill_bytes(&mut bytes);
        if rng.random_bool(0.9) {
            bytes[0] = kinds[rng.random_range(0..kinds.len())];
        }
        if len > 4 && rng.random_bool(0.7) {
            bytes[1..5].copy_from_slice(&1u32.to_be_bytes());
        }
        world.inject(A, from, &bytes);
        world.run_for(std::time::Duration::from_micros(300), &mut recorder);
        let sent: usize = world.captured().iter().map(|c| c.bytes.len()).sum();
        answered += usize::from(sent > 0);
        assert!(sent < len, "{sent} bytes for {len}: {:02x?}", &bytes[..len.min(16)]);
    }
    assert!(answered > 1000, "{answered}");
    assert_eq!(recorder.events, []);
    assert_eq!(state(&world, A), before);
}

// spec: NEG-3
#[test]
fn threat_01_cookie_retry_and_version_are_smaller_than_hello() {
    let mut world = duo(65, &LinkConfig::with_delay(ms(10)));
    let mut echo = Echo::start(&mut world, 100);
    world.capture();
    echo.open(&mut world, A, B);
    echo.run_until_complete(&mut world, 2, secs(5));
    let sent = world.captured();
    assert!(kinds(&sent, COOKIE)[0].bytes.len() < 1232);
    assert!(long::retry(1, &[0; 8], &[0; 16]).len() < 1232);
    assert!(long::version(&[0; 8], &[1]).len() < 1232);
}

// spec: NEG-19
#[test]
fn a_host_does_not_talk_to_itself() {
    let mut world = duo(66, &LinkConfig::default());
    let (eid, address) = (world.eid(A), world.address(B));
    let refused = world.call(A, |h, now| h.connect(now, eid, SERVICE, &[address.into()]));
    assert!(refused.is_err());
}

fn reason_of(recorder: &Recorder) -> Option<CloseReason> {
    recorder.events.iter().find_map(|(_, event)| match event {
        Event::Disconnected(_, _, reason) => Some(reason.clone()),
        _ => None,
    })
}

// spec: NEG-15
#[test]
fn nobody_there_fails_after_the_timeout_with_a_reason() {
    let mut world = duo(67, &LinkConfig::default());
    let eid = world.eid(B);
    let nowhere = Route::udp("10.9.9.9:1".parse().unwrap());
    world.capture();
    world
        .call(A, |h, now| h.connect(now, eid, SERVICE, &[nowhere]))
        .unwrap();
    let mut recorder = Recorder::default();
    world.run_until(secs(59), &mut recorder);
    assert_eq!(reason_of(&recorder), None);
    world.run_until(secs(61), &mut recorder);
    assert!(matches!(
        reason_of(&recorder),
        Some(CloseReason::Negotiation(NegotiationError::NoAnswer { .. }))
    ));
    let mut sent = world.captured();
    sent.retain(|c| c.kind() == HELLO);
    let gaps: Vec<_> = sent.windows(2).map(|w| w[1].at - w[0].at).collect();
    for (i, gap) in gaps.iter().enumerate() {
        let nominal = match i {
            0 | 1 => ms(500),
            2 => ms(1000),
            3..8 => ms(2000),
            _ => ms((2000 << (i - 7).min(10)).min(10_000)),
        };
        assert!(
            *gap >= nominal.mul_f64(0.74) && *gap <= nominal.mul_f64(1.26),
            "{gap:?} after {nominal:?}"
        );
    }
    assert!(sent.iter().all(|c| c.bytes == sent[0].bytes));
}

// spec: NEG-15
#[test]
fn over_a_long_path_hello_goes_twice_and_initiate_once() {
    for seed in 0..20 {
        let mut world = duo(3000 + seed, &LinkConfig::with_delay(ms(400)));
        let mut echo = Echo::start(&mut world, 2000);
        world.capture();
        echo.open(&mut world, A, B);
        world.run_for(ms(1700), &mut echo);
        let sent = world.captured();
        assert_eq!(
            (kinds(&sent, HELLO).len(), kinds(&sent, INITIATE).len()),
            (2, 1),
            "seed {seed}"
        );
    }
}

fn shy(refuse_silently: bool) -> Config {
    let mut config = Config::default();
    config.accept_filter = Some(std::sync::Arc::new(|_, _| false));
    config.refuse_silently = refuse_silently;
    config
}

// spec: NEG-10, NEG-23
#[test]
fn unwelcome_hosts_are_told_so_in_a_round_trip() {
    let mut world = duo_with(68, &LinkConfig::with_delay(ms(10)), Config::default(), shy(false));
    let mut recorder = Recorder::default();
    world.capture();
    world.connect(A, B, SERVICE);
    world.run_until(ms(40), &mut recorder);
    match reason_of(&recorder) {
        Some(CloseReason::Negotiation(NegotiationError::Forbidden { address, .. })) => {
            assert_eq!(address, world.address(B).to_string());
        }
        other => panic!("{other:?}"),
    }
    let sent = world.captured();
    let (initiates, accepts) = (kinds(&sent, INITIATE), kinds(&sent, ACCEPT));
    assert_eq!((initiates.len(), accepts.len()), (1, 1));
    assert!(accepts[0].bytes.len() <= initiates[0].bytes.len());
    assert_eq!(state(&world, B), (vec![], vec![], 0, true));
    // The same INITIATE is answered again, under another key, and never accepted.
    let initiate = initiates[0].clone();
    world.inject(B, initiate.from, &initiate.bytes);
    world.run_for(ms(0), &mut recorder);
    let again = world.captured();
    assert_eq!(kinds(&again, ACCEPT).len(), 1);
    assert_ne!(
        kinds(&again, ACCEPT)[0].bytes[13..45],
        accepts[0].bytes[13..45],
        "n_R is fresh"
    );
    assert_eq!(state(&world, B), (vec![], vec![], 0, true));
}

// spec: NEG-23
#[test]
fn refusals_of_one_network_stop_at_ten_a_second() {
    let mut world = duo_with(77, &LinkConfig::with_delay(ms(10)), Config::default(), shy(false));
    let mut recorder = Recorder::default();
    world.capture();
    world.connect(A, B, SERVICE);
    world.run_until(ms(40), &mut recorder);
    let sent = world.captured();
    let initiate = kinds(&sent, INITIATE)[0].clone();
    for _ in 0..500 {
        world.inject(B, initiate.from, &initiate.bytes);
    }
    world.run_for(ms(0), &mut recorder);
    assert_eq!(kinds(&world.captured(), ACCEPT).len(), 9);
    world.run_for(secs(1), &mut recorder);
    world.inject(B, initiate.from, &initiate.bytes);
    world.run_for(ms(0), &mut recorder);
    assert_eq!(kinds(&world.captured(), ACCEPT).len(), 1);
}

// spec: NEG-23
#[test]
fn a_host_may_refuse_silently() {
    let mut world = duo_with(68, &LinkConfig::with_delay(ms(10)), Config::default(), shy(true));
    let mut recorder = Recorder::default();
    world.capture();
    world.connect(A, B, SERVICE);
    world.run_until(secs(70), &mut recorder);
    let from_b = world.address(B);
    let sent = world.captured();
    // Anything but COOKIE and COOKIE_K can only be a stateless reset, in answer to a short packet of the channel that
    // is not there.
    let is_reset = |c: &Captured| c.kind() < 0x80 && c.bytes.len() <= 48;
    for packet in sent.iter().filter(|c| c.from == from_b) {
        let is_cookie = matches!(packet.kind(), COOKIE | COOKIE_K);
        assert!(is_cookie || is_reset(packet), "{packet:?}");
    }
    assert!(matches!(
        reason_of(&recorder),
        Some(CloseReason::Negotiation(NegotiationError::NotAccepted { .. }))
    ));
    assert_eq!(state(&world, B), (vec![], vec![], 0, true));
}

/// A host that says who it is to whoever asks.
fn open() -> Config {
    Config::default().with(|c| c.answer_probes = true)
}

// spec: NEG-10, NEG-14, NEG-27
#[test]
fn a_wrong_eid_is_no_answer_and_the_error_says_who_is_there() {
    let mut world = duo_with(69, &LinkConfig::with_delay(ms(10)), Config::default(), open());
    world.call(B, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
    let third = world.add_host(Config::default());
    let (eid, address) = (world.eid(third), world.address(B));
    let mut recorder = Recorder::default();
    world
        .call(A, |h, now| h.connect(now, eid, SERVICE, &[address.into()]))
        .unwrap();
    world.run_until(secs(70), &mut recorder);
    let Some(CloseReason::Negotiation(NegotiationError::NoAnswer { addresses, .. })) = reason_of(&recorder) else {
        panic!("{:?}", reason_of(&recorder));
    };
    let seen = Seen::OtherHost(world.eid(B));
    assert_eq!(addresses, [Tried::new(address.into(), seen)]);
    assert_eq!(state(&world, B), (vec![], vec![], 0, true));
}

/// Moments at which it was asked who is at an address.
fn asked(world: &mut World) -> Vec<std::time::Duration> {
    let sent = world.captured();
    sent.iter().filter(|c| c.kind() == PROBE).map(|c| c.at).collect()
}

// spec: NEG-27
#[test]
fn threat_26_who_looks_for_a_host_does_not_have_its_eid_told_in_the_clear_while_it_may_answer() {
    // A long way, and packets that are lost: the peer is there.
    for (delay, lost) in [(10, 0), (700, 0), (10, 3), (400, 2)] {
        let mut world = duo_with(70, &LinkConfig::with_delay(ms(delay)), Config::default(), open());
        world.call(B, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
        let mut left = lost;
        world.hold(move |c| {
            let is_lost = c.kind() == HELLO && left > 0;
            left -= i32::from(is_lost);
            is_lost
        });
        world.capture();
        let stream = world.connect(A, B, SERVICE);
        world.run_until(secs(8), &mut Recorder::default());
        assert_eq!(world.host(A).is_connected(stream.peer()), Some(true), "{delay} ms");
        assert_eq!(asked(&mut world), [], "{delay} ms, {lost} lost");
    }
    // An address that is learned later has as long.
    let mut world = duo_with(71, &LinkConfig::with_delay(ms(10)), Config::default(), open());
    world.call(B, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
    world.capture();
    let (eid, address) = (world.eid(B), world.address(B));
    let nowhere = Route::udp("10.9.9.9:1".parse().unwrap());
    let stream = world
        .call(A, |h, now| h.connect(now, eid, SERVICE, &[nowhere]))
        .unwrap();
    let mut recorder = Recorder::default();
    world.run_until(ms(2900), &mut recorder);
    world.call(A, |h, now| h.add_hints(now, &eid, &[address.into()]));
    world.run_until(secs(8), &mut recorder);
    assert_eq!(world.host(A).is_connected(stream.peer()), Some(true));
    assert_eq!(asked(&mut world), []);
}

// spec: NEG-27
#[test]
fn who_is_there_is_asked_when_nobody_has_answered_for_three_seconds() {
    let mut world = duo_with(72, &LinkConfig::with_delay(ms(10)), Config::default(), open());
    world.capture();
    let eid = world.eid(B);
    let nowhere = Route::udp("10.9.9.9:1".parse().unwrap());
    world
        .call(A, |h, now| h.connect(now, eid, SERVICE, &[nowhere]))
        .unwrap();
    world.run_until(secs(20), &mut Recorder::default());
    let asked = asked(&mut world);
    assert!(
        asked.len() >= 2 && asked[0] >= secs(3) && asked[0] < secs(8),
        "{asked:?}"
    );
}

// spec: NEG-27
#[test]
fn a_path_without_large_datagrams_is_told_of_by_small_ones() {
    let mut world = duo_with(73, &LinkConfig::with_delay(ms(10)), Config::default(), open());
    world.call(B, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
    world.hold(|c| c.bytes.len() >= 1232);
    let mut recorder = Recorder::default();
    world.connect(A, B, SERVICE);
    world.run_until(secs(70), &mut recorder);
    let Some(CloseReason::Negotiation(error)) = reason_of(&recorder) else {
        panic!("{:?}", reason_of(&recorder));
    };
    assert!(
        error
            .to_string()
            .contains("answers small datagrams, but not those of 1232"),
        "{error}"
    );
}

// spec: NEG-27
#[test]
fn threat_24_what_the_system_says_of_an_address_is_told_and_ends_nothing() {
    let mut world = duo(74, &LinkConfig::with_delay(ms(10)));
    let nowhere = Route::udp("10.9.9.9:1".parse().unwrap());
    let eid = world.eid(B);
    let connect = |h: &mut Host, now| h.connect(now, eid, SERVICE, &[nowhere]);
    let stream = world.call(A, connect).unwrap();
    let mut recorder = Recorder::default();
    world.run_until(secs(1), &mut recorder);
    world.call(A, |h, now| h.note_path(now, nowhere, PathHint::Unreachable));
    world.run_until(secs(59), &mut recorder);
    assert_eq!(recorder.events, []);
    let failure = world
        .call(A, |h, now| h.negotiation_failure(now, stream.peer()))
        .unwrap();
    assert!(
        failure
            .to_string()
            .contains("10.9.9.9:1 (an ICMP message says: unreachable)"),
        "{failure}"
    );
    world.run_until(secs(61), &mut recorder);
    let Some(CloseReason::Negotiation(NegotiationError::NoAnswer { addresses, .. })) = reason_of(&recorder) else {
        panic!("{:?}", reason_of(&recorder));
    };
    assert_eq!(addresses[0].seen, Seen::Unreachable);
}

// spec: NEG-28
#[test]
fn an_attempt_for_which_nobody_waits_is_given_up_when_asked() {
    for delay in [0, 5, 25, 35] {
        let mut world = duo(75, &LinkConfig::with_delay(ms(10)));
        let mut recorder = Recorder::default();
        let (one, two) = (world.connect(A, B, SERVICE), world.connect(A, B, SERVICE));
        world.run_for(ms(delay), &mut recorder);
        let peer = one.peer();
        world.call(A, |h, _| h.stream(one).release());
        assert!(!world.call(A, |h, now| h.abandon(now, peer)), "another waits");
        world.call(A, |h, _| h.stream(two).release());
        assert!(world.call(A, |h, now| h.abandon(now, peer)), "after {delay} ms");
        world.capture();
        world.run_for(secs(20), &mut recorder);
        assert!(world.captured().iter().all(|c| c.kind() != HELLO));
        assert_eq!(world.host(A).peers(), []);
        assert_eq!(world.host(B).peers(), [], "after {delay} ms");
    }
    // What is finished is still delivered.
    let mut world = duo(76, &LinkConfig::with_delay(ms(10)));
    let stream = world.connect(A, B, SERVICE);
    world.call(A, |h, _| h.stream(stream).finish()).unwrap();
    world.call(A, |h, _| h.stream(stream).release());
    assert!(!world.call(A, |h, now| h.abandon(now, stream.peer())));
}

// spec: NEG-15
#[test]
fn the_first_cookie_counts_whichever_address_it_comes_from() {
    let mut world = duo(68, &LinkConfig::with_delay(ms(20)));
    let mut recorder = Recorder::default();
    world.hold(|c| c.kind() == COOKIE);
    world.connect(A, B, SERVICE);
    // HELLO was sent again by then (soon, since COOKIE_K came), and each was answered with another cookie.
    world.run_until(ms(1500), &mut recorder);
    let cookies = world.unhold();
    assert!(cookies.len() >= 2, "{}", cookies.len());
    assert_ne!(cookies[0].bytes, cookies[1].bytes);
    world.capture();
    let elsewhere = "10.0.8.8:8".parse().unwrap();
    world.inject(A, elsewhere, &cookies[1].bytes);
    world.inject(A, world.address(B), &cookies[0].bytes);
    world.run_for(ms(100), &mut recorder);
    let mut sent = world.captured();
    sent.retain(|c| c.kind() == INITIATE);
    assert!(!sent.is_empty());
    assert!(sent.iter().all(|c| c.to == elsewhere && c.bytes == sent[0].bytes));
    assert_eq!(world.host(A).stats().dropped(DropReason::UnknownAttempt), 1);
}

// spec: NEG-30, NEG-31
#[test]
fn the_leg_takes_no_round_trip_and_no_longer_than_both_answers_where_packets_are_lost() {
    let policies = PostQuantum::ALL;
    let plain = policies.map(|policy| handshakes::run(policy, 0.0, 1).unwrap());
    assert_eq!(plain, [2 * handshakes::RTT; 3]);
    for policy in policies {
        let row = handshakes::measure(policy, 0.2, 100, 1).unwrap();
        assert!(row.p50 < secs(2), "{row}");
    }
}
