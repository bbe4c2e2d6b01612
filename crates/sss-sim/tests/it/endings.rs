//! How channels end and begin again: CLOSE, restarts, packets that come too early or too late.

use std::task::Poll;

use sss_proto::{CloseReason, Event, ReadOutcome};
use sss_sim::world::Recorder;
use sss_sim::{LinkConfig, World};
use sss_wire::Code;

use crate::support::{A, B, Echo, HELLO, HELLO_K, INITIATE, SERVICE, duo, ms, secs};

// spec: CHN-12
#[test]
fn close_tells_the_peer_who_and_why() {
    let mut world = duo(80, &LinkConfig::with_delay(ms(10)));
    let mut echo = Echo::start(&mut world, 1000);
    let stream = echo.open(&mut world, A, B);
    echo.run_until_complete(&mut world, 2, secs(5));
    world.call(A, |h, now| h.disconnect(now, stream.peer(), Code::app(7), "enough"));
    world.run_for(ms(11), &mut echo);
    let code = Code::app(7);
    let reason = || "enough".to_owned();
    let expected = [
        (A, CloseReason::Local { code, reason: reason() }),
        (B, CloseReason::Peer { code, reason: reason() }),
    ];
    assert_eq!(echo.lost, expected);
    world.run_for(secs(5), &mut echo);
    assert!(world.host(A).is_idle() && world.host(B).is_idle());
}

// spec: CHN-12
#[test]
fn a_lost_close_is_repeated_in_answer_to_packets_fewer_and_fewer() {
    let mut world = duo(
        81,
        &LinkConfig {
            rate: Some(20_000_000),
            ..LinkConfig::with_delay(ms(20))
        },
    );
    let mut echo = Echo::start(&mut world, 2_000_000);
    let stream = echo.open(&mut world, A, B);
    world.run_until(ms(500), &mut echo);
    let from = world.address(B);
    world.capture();
    world.hold(move |c| c.from == from);
    let peer = world.host(B).peers()[0].0;
    world.call(B, |h, now| h.disconnect(now, peer, Code::NONE, "lost"));
    world.run_for(ms(50), &mut echo);
    let sent = world.captured();
    let (closes, heard) = (
        sent.iter().filter(|c| c.from == from).count(),
        sent.iter().filter(|c| c.to == from).count(),
    );
    assert!(heard > 30, "{heard}");
    assert!((2..=10).contains(&closes), "{closes} CLOSE for {heard} packets");
    let last = world.unhold().pop().expect("CLOSE was sent");
    world.inject(A, last.from, &last.bytes);
    world.run_for(ms(1), &mut echo);
    assert_eq!(world.host(A).is_connected(stream.peer()), Some(false));
}

// spec: STR-4, STR-13
#[test]
fn a_stream_finished_and_let_go_of_before_the_channel_exists_is_delivered() {
    for data in [&b""[..], b"all there is"] {
        let mut world = duo(82, &LinkConfig::with_delay(ms(10)));
        let listener = world.call(B, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
        let stream = world.connect(A, B, SERVICE);
        world.write(A, stream, data).unwrap();
        world.call(A, |h, _| h.stream(stream).finish()).unwrap();
        world.call(A, |h, _| h.stream(stream).release());
        let mut recorder = Recorder::default();
        world.run_for(secs(1), &mut recorder);
        let (stream, _) = world.call(B, |h, _| h.accept(listener)).expect("the stream arrived");
        if !data.is_empty() {
            let read = world.call(B, |h, now| h.stream(stream).poll_read(now, 100));
            assert!(matches!(read, Poll::Ready(Ok(ReadOutcome::Chunk(bytes))) if bytes == data));
        }
        assert!(matches!(
            world.call(B, |h, now| h.stream(stream).poll_read(now, 100)),
            Poll::Ready(Ok(ReadOutcome::End))
        ));
    }
}

// spec: PRT-12, PRT-13
#[test]
fn early_data_that_overtakes_initiate_does_not_end_the_channel() {
    let mut world = duo(83, &LinkConfig::with_delay(ms(10)));
    let mut echo = Echo::start(&mut world, 20_000);
    let from = world.address(B);
    world.hold(move |c| c.kind() == INITIATE || (c.from == from && c.bytes.len() == 48));
    let stream = echo.open(&mut world, A, B);
    world.run_for(ms(31), &mut echo);
    let (initiates, resets): (Vec<_>, Vec<_>) = world.unhold().into_iter().partition(|c| c.kind() == INITIATE);
    assert!(!resets.is_empty(), "early data is answered with resets");
    world.inject(B, initiates[0].from, &initiates[0].bytes);
    world.run_for(ms(11), &mut echo);
    assert_eq!(world.host(A).is_connected(stream.peer()), Some(true));
    for reset in resets {
        world.inject(A, reset.from, &reset.bytes);
    }
    echo.run_until_complete(&mut world, 2, secs(10));
    assert_eq!(echo.lost, []);
}

// spec: NEG-18, NEG-20
#[test]
fn an_initiate_of_an_abandoned_attempt_that_comes_late_changes_nothing() {
    // Both sides reach INITIATE; the one that loses is held back until the channel of the other is up.
    for seed in 0..4 {
        let mut world = duo(840 + seed, &LinkConfig::with_delay(ms(10)));
        let winner = if world.eid(A) < world.eid(B) { A } else { B };
        let loser = if winner == A { B } else { A };
        let mut echo = Echo::start(&mut world, 1000);
        let from = world.address(loser);
        world.hold(move |c| c.from == from && c.kind() == INITIATE);
        echo.open(&mut world, A, B);
        echo.open(&mut world, B, A);
        echo.run_until_complete(&mut world, 4, secs(10));
        let late = world.unhold();
        assert!(!late.is_empty());
        for packet in late {
            world.inject(winner, packet.from, &packet.bytes);
        }
        world.run_for(secs(20), &mut echo);
        assert_eq!(echo.lost, [], "seed {seed}");
        assert_eq!(world.host(winner).stats().channels_made, 1);
    }
}

fn lost_at(echo: &Echo, host: sss_sim::HostIndex) -> Vec<CloseReason> {
    let of_host = echo.lost.iter().filter(|(h, _)| *h == host);
    of_host.map(|(_, reason)| reason.clone()).collect()
}

fn connected_pair(seed: u64) -> (World, Echo) {
    let mut world = duo(seed, &LinkConfig::with_delay(ms(10)));
    let mut echo = Echo::start(&mut world, 1000);
    echo.open(&mut world, A, B);
    echo.run_until_complete(&mut world, 2, secs(5));
    world.run_for(secs(5), &mut echo);
    (world, echo)
}

// spec: PRT-11, PRT-12, PRT-13, MIG-4, MIG-15
#[test]
fn a_restarted_host_says_so_to_whoever_still_talks_to_it() {
    let (mut world, mut echo) = connected_pair(85);
    world.restart(B);
    world.capture();
    world.run_for(secs(20), &mut echo);
    assert_eq!(lost_at(&echo, A), [CloseReason::PeerRestarted]);
    assert_eq!(world.host(B).stats().resets_sent, 1);
    // The reset itself is not answered. A asks for the tree, learns that it is lost, and says so.
    let from_a = world.address(A);
    let sent: Vec<u8> = world
        .captured()
        .iter()
        .filter(|c| c.from == from_a)
        .map(|c| if c.kind() < 0x80 { 0 } else { c.kind() })
        .collect();
    // B holds its acknowledgement of INITIATE back for 20 ms (CHN-14), as long as the round trip: it leaves at the very
    // moment at which CLOSE arrives, and is answered with CLOSE once more (CHN-12).
    assert_eq!(sent, [0, HELLO, HELLO_K, INITIATE, 0, 0]);
}

// spec: NEG-20
#[test]
fn a_restarted_host_that_connects_again_replaces_its_old_channel() {
    let (mut world, mut echo) = connected_pair(86);
    world.restart(A);
    echo.forget(&mut world, A);
    echo.open(&mut world, A, B);
    // The end at B of the old stream, and both ends of the new one.
    echo.run_until_complete(&mut world, 3, secs(30));
    assert_eq!(lost_at(&echo, B), [CloseReason::PeerRestarted]);
    assert_eq!(lost_at(&echo, A), []);
}

// spec: NEG-9, NEG-15, NEG-24, NEG-26
#[test]
fn a_responder_restarted_in_mid_negotiation_is_reached_on_another_attempt() {
    let mut world = duo(87, &LinkConfig::with_delay(ms(10)));
    let mut recorder = Recorder::default();
    world.hold(|c| c.kind() == INITIATE);
    let stream = world.connect(A, B, SERVICE);
    world.run_for(ms(30), &mut recorder);
    world.restart(B);
    world.unhold();
    world.capture();
    world.run_for(secs(2), &mut recorder);
    // Whether the one before took the stream is not known; the channel is there for others.
    let ends: Vec<_> = recorder.events.iter().filter(|(h, _)| *h == A).collect();
    match &ends[..] {
        [
            (_, Event::Disconnected(lost, _, CloseReason::PeerRestarted)),
            (_, Event::Connected(new, _)),
        ] => {
            assert_eq!(*lost, stream.peer());
            assert_ne!(lost, new);
        }
        other => panic!("{other:?}"),
    }
    let again = world.connect(A, B, SERVICE);
    assert_ne!(again.peer(), stream.peer());
    assert_eq!(world.host(A).is_connected(again.peer()), Some(true));
    let sent = world.captured();
    assert_eq!(sent.iter().filter(|c| c.kind() == HELLO).count(), 1);
    assert_eq!(world.host(B).stats().channels_made, 1);
    world.run_for(secs(70), &mut recorder);
    let lost = |(_, event): &&(sss_sim::HostIndex, Event)| matches!(event, Event::Disconnected(..));
    assert_eq!(recorder.events.iter().filter(lost).count(), 1);
}

// spec: CHN-12
#[test]
fn who_has_sent_close_goes_when_it_is_answered() {
    for is_heard in [true, false] {
        let mut world = duo(88, &LinkConfig::with_delay(ms(10)));
        let mut echo = Echo::start(&mut world, 1000);
        let stream = echo.open(&mut world, A, B);
        echo.run_until_complete(&mut world, 2, secs(5));
        let from_b = world.address(B);
        if !is_heard {
            world.hold(move |c| c.from == from_b);
        }
        world.call(A, |h, now| h.disconnect(now, stream.peer(), Code::NONE, "done"));
        world.run_for(ms(21), &mut echo);
        assert_eq!(world.host(A).is_idle(), is_heard);
        assert!(!world.host(B).is_idle(), "its answer may be lost");
        world.run_for(secs(3), &mut echo);
        assert!(world.host(A).is_idle() && world.host(B).is_idle());
    }
}
