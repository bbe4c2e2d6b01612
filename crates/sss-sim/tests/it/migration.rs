//! Streams that outlive channels: blackouts, moves of either side and of both, renewal, restarts
//! (docs/spec/migration.md).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use sss_proto::{CloseReason, Config, Event, LinkStatus};
use sss_sim::{Blackout, HostIndex, LinkConfig, World};
use sss_wire::Code;

use crate::support::{A, ACCEPT, B, Echo, HELLO, INITIATE, SERVICE, duo, duo_with, ms, secs};

const RTT: Duration = Duration::from_millis(50);
/// What a full queue of the link adds.
const QUEUE: Duration = Duration::from_millis(80);

fn link() -> LinkConfig {
    LinkConfig {
        rate: Some(20_000_000),
        queue: 200_000,
        ..LinkConfig::with_delay(ms(25))
    }
}

fn dark(from: Duration, until: Duration) -> LinkConfig {
    LinkConfig {
        blackouts: vec![Blackout { from, until }],
        ..link()
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The host moves to a new address, and knows it.
fn relocate(world: &mut World, host: HostIndex, address: SocketAddr) {
    world.rebind(host, address);
    world.call(host, |h, now| h.network_changed(now, |_, _| true));
}

/// How long after `back` something was read again.
fn resumption(world: &mut World, echo: &mut Echo, back: Duration) -> Duration {
    world.run_until(back, echo);
    let before = echo.progress.0;
    while echo.progress.0 == before {
        assert!(
            world.step(back + secs(60), echo),
            "nothing flows a minute after the network is back"
        );
    }
    echo.progress.1 - back
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

// spec: MIG-7, MIG-11, MIG-12
#[test]
fn a_blackout_is_survived_and_data_flows_soon_after() {
    let mut times = Vec::new();
    for seed in 0..11 {
        let start = secs(1);
        let end = start + secs(20) + ms(37 * seed);
        let mut world = duo(500 + seed, &dark(start, end));
        let mut echo = Echo::start(&mut world, 8_000_000);
        echo.open(&mut world, A, B);
        times.push(resumption(&mut world, &mut echo, end));
        echo.run_until_complete(&mut world, 2, secs(120));
        assert_eq!(echo.lost, [], "seed {seed}");
        for host in [A, B] {
            let told: Vec<_> = echo
                .links
                .iter()
                .filter(|(h, _)| *h == host)
                .map(|(_, s)| s.clone())
                .collect();
            assert_eq!(told, [LinkStatus::Stalled, LinkStatus::Up], "seed {seed}");
        }
    }
    let median = median(times.clone());
    println!("data flows again after {times:?}, median {median:?}");
    assert!(median <= 2 * RTT + ms(250), "{median:?}");
}

// spec: MIG-1, MIG-2, MIG-5, MIG-7, MIG-14
#[test]
fn minutes_of_silence_end_the_channel_and_not_the_streams() {
    let mut times = Vec::new();
    for seed in 0..7 {
        let end = secs(180) + ms(41 * seed);
        let mut world = duo(520 + seed, &dark(secs(1), end));
        let mut echo = Echo::start(&mut world, 4_000_000);
        echo.open(&mut world, A, B);
        echo.open(&mut world, B, A);
        times.push(resumption(&mut world, &mut echo, end));
        echo.run_until_complete(&mut world, 4, secs(400));
        assert_eq!(echo.lost, [], "seed {seed}");
        let is_down = |(_, s): &(HostIndex, LinkStatus)| matches!(s, LinkStatus::Down(CloseReason::Idle(_)));
        assert_eq!(echo.links.iter().filter(|l| is_down(l)).count(), 2, "seed {seed}");
        assert!(world.host(A).stats().channels_made >= 2);
        assert_eq!(world.host(A).peers().len(), 1, "the tree is the same");
    }
    let median = median(times.clone());
    println!("data flows again after {times:?}, median {median:?}");
    // The pause between two tries is 1/128 of the silence by then.
    assert!(median <= 2 * RTT + secs(180) / 128, "{median:?}");
}

// spec: MIG-14
#[test]
fn streams_wait_no_longer_than_linger() {
    let config = || Config::default().with(|c| c.linger = secs(90));
    let mut world = duo_with(530, &dark(secs(1), secs(1000)), config(), config());
    let mut echo = Echo::start(&mut world, 4_000_000);
    echo.open(&mut world, A, B);
    world.run_until(secs(85), &mut echo);
    assert_eq!(echo.lost, []);
    world.run_until(secs(95), &mut echo);
    assert_eq!(echo.lost.len(), 2, "{:?}", echo.lost);
    assert!(
        echo.lost
            .iter()
            .all(|(_, reason)| matches!(reason, CloseReason::Idle(_)))
    );
    assert_eq!(
        world
            .host(A)
            .link_status(world.host(A).peers()[0].0)
            .map(|s| s == LinkStatus::Up),
        Some(false)
    );
}

// spec: MIG-6, MIG-8, MIG-10, PRT-10
#[test]
fn channels_are_renewed_under_streams_that_do_not_notice() {
    for seed in 0..4 {
        let config = || Config::default().with(|c| c.renew = secs(2));
        let lossy = LinkConfig {
            loss: 0.03,
            reorder: 0.01,
            duplicate: 0.01,
            ..link()
        };
        let mut world = duo_with(540 + seed, &lossy, config(), config());
        let mut echo = Echo::start(&mut world, 5_000_000);
        echo.open(&mut world, A, B);
        echo.open(&mut world, B, A);
        echo.run_until_complete(&mut world, 4, secs(300));
        assert_eq!(echo.lost, [], "seed {seed}");
        let (made, elapsed) = (world.host(A).stats().channels_made, world.elapsed().as_secs());
        assert!(made >= elapsed / 3 && made >= 3, "{made} channels in {elapsed} s");
    }
}

// spec: MIG-10
#[test]
fn a_responder_renews_when_the_initiator_does_not() {
    let config = Config::default().with(|c| c.renew = secs(4));
    let never = Config::default().with(|c| c.renew = Duration::ZERO);
    let mut world = duo_with(545, &link(), never, config);
    let mut echo = Echo::start(&mut world, 10_000);
    echo.open(&mut world, A, B);
    world.run_until(secs(6), &mut echo);
    assert_eq!(world.host(A).stats().channels_made, 2);
    world.run_until(secs(24), &mut echo);
    assert!(world.host(A).stats().channels_made >= 5, "then it is the initiator");
    assert_eq!(echo.lost, []);
}

// spec: MIG-13
#[test]
fn a_host_that_moves_makes_a_new_channel_at_once() {
    for (moved, seed) in [(A, 550), (B, 551)] {
        let mut world = duo(seed, &link());
        let mut echo = Echo::start(&mut world, 16_000_000);
        echo.open(&mut world, A, B);
        world.run_until(ms(2300), &mut echo);
        let ids_before = channel_ids(&mut world, &mut echo);
        relocate(&mut world, moved, addr("203.0.113.7:9000"));
        let moved_at = world.elapsed();
        let gap = resumption(&mut world, &mut echo, moved_at);
        assert!(gap <= 2 * RTT + QUEUE + ms(50), "{gap:?}");
        world.run_for(secs(3), &mut echo);
        assert_eq!(world.host(A).stats().channels_made, 2);
        let ids_after = channel_ids(&mut world, &mut echo);
        assert!(
            ids_after.iter().all(|id| !ids_before.contains(id)),
            "nothing links the two paths"
        );
        echo.run_until_complete(&mut world, 2, secs(60));
        assert_eq!(echo.lost, []);
    }
}

/// The channel ids on the wire in the next 200 ms.
fn channel_ids(world: &mut World, echo: &mut Echo) -> Vec<Vec<u8>> {
    world.capture();
    world.run_for(ms(200), echo);
    let short = world.captured().into_iter().filter(|c| c.kind() < 0x80);
    let mut ids: Vec<Vec<u8>> = short.map(|c| c.bytes[1..5].to_vec()).collect();
    ids.sort();
    ids.dedup();
    assert!(!ids.is_empty());
    ids
}

// spec: MIG-11, MIG-13
#[test]
fn both_hosts_move_at_once_and_find_each_other_by_a_hint() {
    let mut times = Vec::new();
    for seed in 0..9 {
        let mut world = duo(560 + seed, &link());
        let mut echo = Echo::start(&mut world, 6_000_000);
        echo.open(&mut world, A, B);
        world.run_until(secs(1), &mut echo);
        let (a, b) = (addr("203.0.113.7:9000"), addr("198.51.100.3:9000"));
        relocate(&mut world, A, a);
        relocate(&mut world, B, b);
        world.run_for(secs(1), &mut echo);
        let eid = world.eid(B);
        world.call(A, |h, now| h.add_hints(now, &eid, &[b.into()]));
        let hinted = world.elapsed();
        times.push(resumption(&mut world, &mut echo, hinted));
        echo.run_until_complete(&mut world, 2, secs(60));
        assert_eq!(echo.lost, [], "seed {seed}");
    }
    let median = median(times.clone());
    println!("data flows again after {times:?}, median {median:?}");
    assert!(median <= 2 * RTT + ms(250), "{median:?}");
}

// spec: MIG-4, MIG-15
#[test]
fn a_peer_that_lost_its_state_is_told_apart_from_one_that_is_away() {
    let mut world = duo(570, &dark(secs(1), secs(130)));
    let mut echo = Echo::start(&mut world, 4_000_000);
    echo.open(&mut world, A, B);
    world.run_until(secs(100), &mut echo);
    assert_eq!(echo.lost, [], "away");
    world.restart(B);
    world.run_until(secs(140), &mut echo);
    let reasons: Vec<_> = echo.lost.iter().map(|(h, r)| (*h, r.clone())).collect();
    assert!(reasons.contains(&(A, CloseReason::PeerRestarted)), "{reasons:?}");
}

// spec: MIG-14, MIG-15
#[test]
fn a_stream_survives_a_reset_at_a_peer_that_has_not_heard_of_it() {
    let hasty = Config::default().with(|c| c.idle_timeout = secs(3));
    let mut world = duo_with(575, &link(), Config::default(), hasty);
    let mut recorder = sss_sim::world::Recorder::default();
    let listener = world.call(A, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
    let listening = world.call(B, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
    world.capture();
    let first = world.connect(A, B, SERVICE);
    world.run_for(secs(1), &mut recorder);
    let (accepted, _) = world.call(B, |h, _| h.accept(listening)).unwrap();
    world.call(A, |h, _| h.stream(first).release());
    world.call(B, |h, _| h.stream(accepted).release());
    world.run_for(secs(1), &mut recorder);
    let from_a = world.address(A);
    let is_early = |c: &&sss_sim::world::Captured| c.from == from_a && c.kind() < 0x80 && c.bytes.len() > 40;
    let early = world
        .captured()
        .iter()
        .find(is_early)
        .expect("a packet of the channel")
        .bytes
        .clone();
    // B hears nothing and gives the channel up, of which A hears signs of life alone.
    world.hold(move |c| c.from == from_a || c.bytes.len() != 41);
    let stream = world.connect(B, A, SERVICE);
    world.write(B, stream, b"not lost").unwrap();
    world.run_for(ms(3500), &mut recorder);
    world.unhold();
    world.inject(B, from_a, &early);
    world.run_for(secs(5), &mut recorder);
    let is_reset = |(host, event): &(HostIndex, Event)| {
        *host == A && matches!(event, Event::Link(_, LinkStatus::Down(CloseReason::PeerRestarted)))
    };
    assert!(recorder.events.iter().any(is_reset), "{:?}", recorder.events);
    let lost = |(_, event): &&(HostIndex, Event)| matches!(event, Event::Disconnected(..));
    assert_eq!(recorder.events.iter().find(lost), None);
    assert!(world.call(A, |h, _| h.accept(listener)).is_some());
}

// spec: NEG-21, STR-11
#[test]
fn early_data_of_an_attempt_that_was_accepted_unheard_is_not_sent_again() {
    for seed in 0..6 {
        let mut world = duo(580 + seed, &LinkConfig::with_delay(ms(10)));
        let listener = world.call(B, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
        let from_b = world.address(B);
        world.hold(move |c| c.from == from_b && (c.kind() == ACCEPT || c.kind() < 0x80));
        let stream = world.connect(A, B, SERVICE);
        world.write(A, stream, b"once only").unwrap();
        let mut recorder = sss_sim::world::Recorder::default();
        world.run_for(ms(45), &mut recorder);
        // B has it, answers, is not heard, and ends the channel.
        assert!(world.call(B, |h, _| h.accept(listener)).is_some());
        let peer = world.host(B).peers()[0].0;
        world.call(B, |h, now| h.disconnect(now, peer, Code::NONE, "had enough"));
        world.run_for(ms(5), &mut recorder);
        world.call(A, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
        let back = world.connect(B, A, SERVICE);
        world.write(B, back, b"hello").unwrap();
        world.unhold();
        world.run_for(secs(90), &mut recorder);
        assert!(
            world.call(B, |h, _| h.accept(listener)).is_none(),
            "seed {seed}: delivered twice"
        );
        let peers = world.host(A).peers();
        let reasons: Vec<_> = peers
            .iter()
            .filter_map(|(p, _)| world.host(A).close_reason(*p))
            .collect();
        assert_eq!(
            reasons.len(),
            1,
            "seed {seed}: the attempt has failed, and the stream knows: {peers:?}"
        );
    }
}

// spec: NEG-20
#[test]
fn a_late_initiate_of_an_attempt_that_lost_is_dropped_even_after_the_winner_is_gone() {
    let mut checked = 0;
    for seed in 0..6 {
        let mut world = duo(590 + seed, &LinkConfig::with_delay(ms(10)));
        let winner = if world.eid(A) < world.eid(B) { A } else { B };
        let loser = if winner == A { B } else { A };
        let mut echo = Echo::start(&mut world, 1000);
        let from = world.address(loser);
        world.hold(move |c| c.from == from && c.kind() == INITIATE);
        echo.open(&mut world, A, B);
        echo.open(&mut world, B, A);
        echo.run_until_complete(&mut world, 4, secs(10));
        let late = world.unhold();
        let peer = world.host(winner).peers()[0].0;
        world.call(winner, |h, now| h.disconnect(now, peer, Code::NONE, ""));
        world.run_for(secs(10), &mut echo);
        let made = world.host(winner).stats().channels_made;
        for packet in late {
            world.inject(winner, packet.from, &packet.bytes);
            checked += 1;
        }
        world.run_for(secs(1), &mut echo);
        assert_eq!(world.host(winner).stats().channels_made, made, "seed {seed}");
    }
    assert!(checked > 0);
}

// spec: MIG-14
#[test]
fn a_dormant_tree_is_not_asked_for_by_new_streams() {
    let mut world = duo(600, &LinkConfig::with_delay(ms(10)));
    let mut echo = Echo::start(&mut world, 1000);
    echo.open(&mut world, A, B);
    echo.run_until_complete(&mut world, 2, secs(5));
    echo.release_all(&mut world);
    world.run_until(secs(100), &mut echo);
    assert!(
        world.host(A).is_idle() && world.host(B).is_idle(),
        "the channel has ended"
    );
    assert_eq!(echo.lost, []);
    world.restart(B);
    echo.forget(&mut world, B);
    echo.open(&mut world, A, B);
    echo.run_until_complete(&mut world, 2, secs(110));
    assert_eq!(echo.lost, []);
}

// spec: MIG-14
#[test]
fn streams_that_the_peer_never_heard_of_survive_with_the_tree() {
    // B has no stream left when the network goes; A opens one that B does not hear of until it has given up the
    // channel.
    let mut world = duo(601, &dark(secs(5), secs(110)));
    let mut echo = Echo::start(&mut world, 1000);
    echo.open(&mut world, A, B);
    echo.run_until_complete(&mut world, 2, secs(4));
    echo.release_all(&mut world);
    world.run_until(secs(6), &mut echo);
    echo.open(&mut world, A, B);
    echo.run_until_complete(&mut world, 2, secs(120));
    assert!(world.host(A).stats().channels_made > 1);
    assert_eq!(echo.lost, []);
}

/// What an observer can recognise a packet by: the channel id of a short one; attempt and ephemeral key of a HELLO,
/// attempt of any other long one. The ids of `Config::default()` have four bytes.
fn marks(packet: &[u8]) -> Vec<Vec<u8>> {
    match packet[0] {
        0x40..=0x7f => vec![packet[1..5].to_vec()],
        HELLO => vec![packet[5..13].to_vec(), packet[29..61].to_vec()],
        _ => vec![packet[5..13].to_vec()],
    }
}

// Threat 26: an observer of all paths follows a host that moves, twice.
// spec: MIG-7, MIG-13
#[test]
fn threat_26_nothing_on_a_new_path_was_seen_on_an_old_one() {
    for seed in 0..8 {
        let mut world = duo(700 + seed, &link());
        world.capture();
        let mut echo = Echo::start(&mut world, 4_000_000);
        echo.open(&mut world, A, B);
        echo.open(&mut world, B, A);
        let mut paths = vec![world.address(A)];
        for text in ["10.3.0.1:5001", "10.4.0.1:5002"] {
            world.run_for(ms(600) + ms(7 * seed), &mut echo);
            relocate(&mut world, A, addr(text));
            paths.push(addr(text));
        }
        echo.run_until_complete(&mut world, 4, secs(120));
        assert_eq!(echo.lost, [], "seed {seed}");
        assert_eq!(echo.links, [], "seed {seed}: nothing to worry about");
        let packets = world.captured();
        let seen: Vec<BTreeSet<Vec<u8>>> = paths
            .iter()
            .map(|path| {
                let here = packets.iter().filter(|c| c.from == *path || c.to == *path);
                here.flat_map(|c| marks(&c.bytes)).collect()
            })
            .collect();
        for (n, on_path) in seen.iter().enumerate() {
            assert!(on_path.len() >= 4, "seed {seed}: a negotiation, and two channel ids");
            let elsewhere = seen.iter().skip(n + 1).flatten();
            let again: Vec<_> = elsewhere.filter(|mark| on_path.contains(*mark)).collect();
            assert!(again.is_empty(), "seed {seed}, path {n}: {again:?}");
        }
        for eid in [world.eid(A), world.eid(B)] {
            let key = &eid.as_bytes()[1..];
            assert!(!packets.iter().any(|c| c.bytes.windows(32).any(|bytes| bytes == key)));
        }
    }
}
