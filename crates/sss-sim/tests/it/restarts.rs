//! A host that restarts while another negotiates with it; and hosts that are refused.

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;

use sss_proto::{CloseReason, Config, Event, Interest, LinkStatus, ListenerId, ReadOutcome, Route, StreamId};
use sss_sim::refusals::{self, Way};
use sss_sim::world::Recorder;
use sss_sim::{Apps, Captured, HostIndex, LinkConfig, World};
use sss_wire::Code;

use crate::support::{A, ACCEPT, B, COOKIE, COOKIE_K, Echo, HELLO, INITIATE, SERVICE, duo, duo_with, ms, secs};

/// A client that connects again whenever it loses its peer, and writes another number on each of its streams; a server
/// that notes what it reads.
#[derive(Default)]
struct Numbers {
    current: Option<StreamId>,
    next: u64,
    servers: Vec<StreamId>,
    /// How often each number was read.
    read: BTreeMap<u64, usize>,
    /// When something was read last.
    heard: Duration,
    lost: Vec<String>,
}

const AGAIN: u64 = 1;
const PING: u64 = 2;

impl Numbers {
    fn start(world: &mut World) -> Self {
        let mut numbers = Self::default();
        numbers.serve(world);
        numbers.connect(world);
        world.set_timer(A, ms(50), PING);
        numbers
    }

    fn serve(&mut self, world: &mut World) {
        let listener = world.call(B, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
        self.servers.clear();
        self.accept(world, listener);
    }

    fn connect(&mut self, world: &mut World) {
        let stream = world.connect(A, B, SERVICE);
        self.next += 1;
        let number = self.next.to_be_bytes();
        assert_eq!(world.write(A, stream, &number), Ok(8));
        self.current = Some(stream);
    }

    fn accept(&mut self, world: &mut World, listener: ListenerId) {
        while let Some((stream, _)) = world.call(B, |h, _| h.accept(listener)) {
            self.servers.push(stream);
            self.take(world, stream);
        }
    }

    fn take(&mut self, world: &mut World, stream: StreamId) {
        while let Poll::Ready(Ok(ReadOutcome::Chunk(data))) =
            world.call(B, |h, now| h.stream(stream).poll_read(now, 1 << 16))
        {
            self.heard = world.elapsed();
            // Zeros are only there to be sent.
            for number in data.chunks_exact(8).map(|n| u64::from_be_bytes(n.try_into().unwrap())) {
                *self.read.entry(number).or_default() += usize::from(number > 0);
            }
        }
    }
}

impl Apps for Numbers {
    fn on_event(&mut self, world: &mut World, host: HostIndex, event: Event) {
        match event {
            Event::Acceptable(listener) => self.accept(world, listener),
            Event::Ready(stream, Interest::Read) if host == B => self.take(world, stream),
            Event::Disconnected(_, _, reason) if host == A => {
                self.lost.push(reason.to_string());
                if let Some(stream) = self.current.take() {
                    world.call(A, |h, _| h.stream(stream).release());
                }
                world.set_timer(A, ms(1), AGAIN);
            }
            _ => {}
        }
    }

    fn on_timer(&mut self, world: &mut World, _: HostIndex, token: u64) {
        match (token, self.current) {
            (AGAIN, _) => self.connect(world),
            (PING, stream) => {
                if let Some(stream) = stream {
                    let _ = world.write(A, stream, &[0; 8]);
                }
                world.set_timer(A, ms(50), PING);
            }
            _ => {}
        }
    }
}

/// How long after its return the host was heard by, when it crashed at `moment` and was away for `outage`.
fn recovery(seed: u64, moment: Duration, outage: Duration) -> Duration {
    let mut world = duo(seed, &LinkConfig::with_delay(ms(20)));
    let mut numbers = Numbers::start(&mut world);
    world.run_until(moment, &mut numbers);
    world.hold(|_| true);
    world.restart(B);
    numbers.serve(&mut world);
    world.run_until(moment + outage, &mut numbers);
    // What was on its way to the dead host, or sent meanwhile, is lost.
    drop(world.unhold());
    world.restart(B);
    numbers.serve(&mut world);
    let back = world.elapsed();
    while numbers.heard <= back && world.step(back + secs(60), &mut numbers) {}
    assert!(
        numbers.heard > back,
        "{moment:?}, {outage:?}: never again, lost {:?}",
        numbers.lost
    );
    let after = numbers.heard - back;
    world.run_for(secs(5), &mut numbers);
    let twice: Vec<_> = numbers
        .read
        .iter()
        .filter(|(number, count)| **number > 0 && **count > 1)
        .collect();
    assert_eq!(twice, [], "{moment:?}, {outage:?}");
    after
}

// spec: NEG-24, NEG-25, NEG-26
#[test]
fn a_host_that_restarts_in_a_negotiation_is_reached_soon_after_and_hears_nothing_twice() {
    let mut worst = BTreeMap::new();
    for outage in [0, 30, 100, 300, 1000, 5000, 20_000].map(ms) {
        // From HELLO to the first packets after ACCEPT.
        for step in 0..50 {
            let moment = ms(step * 2);
            let after = recovery(900 + step, moment, outage);
            let limit = if outage <= secs(1) {
                secs(2)
            } else {
                (outage * 5 / 4).min(ms(12_500)) + ms(200)
            };
            assert!(
                after <= limit,
                "away for {outage:?} at {moment:?}: {after:?} after its return"
            );
            let worst = worst.entry(outage).or_insert(Duration::ZERO);
            *worst = after.max(*worst);
        }
    }
    println!("longest time after the return, by outage: {worst:?}");
}

// spec: NEG-24, NEG-25
#[test]
fn early_data_that_never_arrived_is_sent_again_on_the_next_attempt() {
    let mut world = duo(910, &LinkConfig::with_delay(ms(20)));
    let mut numbers = Numbers::start(&mut world);
    world.capture();
    let mut first = None;
    // All copies of the first INITIATE, and what follows it in generation 0.
    world.hold(move |c| {
        if c.kind() == INITIATE {
            let attempt = c.bytes[5..13].to_vec();
            return *first.get_or_insert(attempt.clone()) == attempt;
        }
        c.kind() < 0x80 && c.at < ms(540)
    });
    world.run_until(secs(2), &mut numbers);
    let late = world.unhold();
    assert_eq!(numbers.lost, Vec::<String>::new());
    assert_eq!(numbers.read.get(&1), Some(&1));
    assert_eq!(world.host(B).stats().channels_made, 1);
    let hellos = world.captured().into_iter().filter(|c| c.kind() == HELLO).count();
    assert_eq!(hellos, 2, "one for each attempt");
    // The first INITIATE comes late: it is void, also when nothing is left of the channel that was made instead.
    let peer = numbers.current.unwrap().peer();
    let mut nobody = Recorder::default();
    for _ in 0..2 {
        for packet in late.iter().filter(|c| c.kind() == INITIATE) {
            world.inject(B, packet.from, &packet.bytes);
        }
        world.run_for(secs(2), &mut nobody);
        assert_eq!(world.host(B).stats().channels_made, 1);
        world.call(A, |h, now| h.disconnect(now, peer, Code::NONE, "done"));
        world.run_for(secs(10), &mut nobody);
    }
}

// spec: NEG-25
#[test]
fn an_accept_that_was_lost_is_sent_again_for_the_next_attempt() {
    let mut world = duo(911, &LinkConfig::with_delay(ms(20)));
    let mut numbers = Numbers::start(&mut world);
    world.hold(|c| c.kind() == ACCEPT && c.at < ms(700));
    world.run_until(secs(2), &mut numbers);
    assert!(world.unhold().len() >= 3);
    assert_eq!(numbers.lost, Vec::<String>::new());
    assert_eq!(numbers.read.get(&1), Some(&1));
    for host in [A, B] {
        assert_eq!(world.host(host).stats().channels_made, 1);
        assert_eq!(world.host(host).peers().len(), 1);
    }
}

// spec: REC-1
#[test]
fn an_accept_that_was_repeated_tells_no_round_trip() {
    let mut world = duo(912, &LinkConfig::with_delay(ms(20)));
    let mut numbers = Numbers::start(&mut world);
    world.hold(|c| c.kind() == ACCEPT && c.at < ms(1000));
    world.run_until(secs(3), &mut numbers);
    let peer = world.host(B).peers()[0].0;
    let info = world.host(B).channel_info(peer).unwrap();
    assert!(info.min_rtt.unwrap() < ms(70) && info.rtt < ms(100), "{info:?}");
}

// spec: NEG-7, NEG-10, NEG-13, NEG-19, NEG-23, CHN-1
#[test]
fn whoever_is_refused_hears_why_in_two_round_trips() {
    for way in Way::ALL {
        for seed in 0..5 {
            let after = refusals::run(way, 0.0, seed).unwrap();
            assert!(after <= way.limit(), "{way}: {after:?}");
        }
    }
}

// spec: NEG-11, NEG-23
#[test]
fn whoever_is_refused_over_a_bad_path_hears_why_before_the_timeout() {
    for way in Way::ALL {
        let row = refusals::measure(way, 0.2, 100, 1000).unwrap();
        println!("{row}");
        assert!(row.max < refusals::TIMEOUT, "{row}");
    }
}

// spec: MIG-11, MIG-16
#[test]
fn a_stalled_channel_is_given_its_grace_by_a_host_that_was_given_an_address() {
    for hint_in_trouble in [false, true] {
        let mut world = duo(913, &LinkConfig::with_delay(ms(20)));
        let mut numbers = Numbers::start(&mut world);
        world.run_until(secs(2), &mut numbers);
        world.capture();
        world.hold(|_| true);
        let peer = numbers.current.unwrap().peer();
        let stalled = |world: &World| world.host(A).link_status(peer) == Some(LinkStatus::Stalled);
        while !stalled(&world) && world.step(secs(10), &mut numbers) {}
        let since = world.elapsed();
        if hint_in_trouble {
            let (eid, other) = (world.eid(B), Route::udp("10.7.7.7:7".parse().unwrap()));
            world.call(A, |h, now| h.add_hints(now, &eid, &[other]));
        }
        world.run_for(secs(3), &mut numbers);
        let sent = world.captured();
        let first = sent.iter().find(|c| c.kind() == HELLO).expect("another attempt").at;
        let grace = first - since;
        if hint_in_trouble {
            assert!(grace < ms(20), "{grace:?}");
        } else {
            assert!((ms(1000)..ms(1020)).contains(&grace), "{grace:?}");
        }
    }
}

// spec: NEG-11, NEG-23, NEG-25
#[test]
fn a_close_whose_accept_was_lost_is_told_when_the_initiator_asks_again() {
    // While the channel is closing, and when nothing is left of it.
    for silence in [ms(300), secs(4)] {
        let mut world = duo(914, &LinkConfig::with_delay(ms(20)));
        let listener = world.call(B, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
        assert_eq!(world.call(B, |h, _| h.accept(listener)), None);
        let mut recorder = Recorder::default();
        world.connect(A, B, SERVICE);
        let from_b = world.address(B);
        let is_cookie = |c: &Captured| matches!(c.kind(), COOKIE | COOKIE_K);
        world.hold(move |c| c.from == from_b && !is_cookie(c) && c.at < silence);
        world.run_until(ms(61), &mut recorder);
        let (stream, _) = world.call(B, |h, _| h.accept(listener)).unwrap();
        world.call(B, |h, now| {
            h.disconnect(now, stream.peer(), Code::app(403), "members only")
        });
        world.run_until(silence * 2 + secs(2), &mut recorder);
        let told = recorder.events.iter().find_map(|(host, event)| match event {
            Event::Disconnected(_, _, reason) if *host == A => Some(reason.clone()),
            _ => None,
        });
        let reason = "members only".to_owned();
        assert_eq!(
            told,
            Some(CloseReason::Peer {
                code: Code::app(403),
                reason
            }),
            "after {silence:?}"
        );
        assert_eq!(world.host(B).stats().channels_made, 1);
    }
}

// spec: NEG-23
#[test]
fn threat_04_what_was_refused_is_not_accepted_later() {
    let open = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let door = open.clone();
    let may = move |_: &_, _: _| door.load(std::sync::atomic::Ordering::Relaxed);
    let moody = Config::default().with(|c| c.accept_filter = Some(std::sync::Arc::new(may)));
    let mut world = duo_with(915, &LinkConfig::with_delay(ms(20)), Config::default(), moody);
    let mut recorder = Recorder::default();
    world.capture();
    world.connect(A, B, SERVICE);
    world.run_until(ms(200), &mut recorder);
    let sent = world.captured();
    let initiate = sent.iter().find(|c| c.kind() == INITIATE).unwrap();
    open.store(true, std::sync::atomic::Ordering::Relaxed);
    world.inject(B, initiate.from, &initiate.bytes);
    world.run_for(secs(1), &mut recorder);
    assert_eq!(
        world.host(B).stats().channels_made,
        0,
        "its initiator was told that it is refused"
    );
    world.connect(A, B, SERVICE);
    world.run_for(secs(1), &mut recorder);
    assert_eq!(world.host(B).stats().channels_made, 1);
}

// spec: NEG-25, NEG-26
#[test]
fn a_tree_that_was_accepted_unheard_goes_on_when_its_channel_is_over_or_its_initiator_has_moved() {
    for (has_moved, silence) in [(false, secs(5)), (true, secs(5)), (true, ms(700))] {
        let mut world = duo_with(
            916,
            &LinkConfig::with_delay(ms(20)),
            Config::default(),
            Config::default().with(|c| c.idle_timeout = secs(2)),
        );
        let mut echo = Echo::start(&mut world, 50_000);
        echo.open(&mut world, A, B);
        // COOKIE and the first INITIATE arrive, and what was sent with it; then nothing until the silence is over.
        world.hold(move |c| c.at > ms(60) && c.at < silence);
        world.run_until(ms(400), &mut echo);
        if has_moved {
            world.rebind(A, "10.0.9.9:999".parse().unwrap());
        }
        world.run_until(silence, &mut echo);
        drop(world.unhold());
        let peer = world.host(B).peers()[0].0;
        let is_over = matches!(world.host(B).link_status(peer), Some(LinkStatus::Down(_)));
        assert_eq!(is_over, silence == secs(5));
        echo.run_until_complete(&mut world, 2, secs(15));
        assert_eq!(echo.lost, []);
        for host in [A, B] {
            assert_eq!(world.host(host).peers().len(), 1, "{host:?}: one tree");
        }
    }
}

// spec: MIG-21
#[test]
fn a_close_that_was_lost_is_told_when_the_peer_asks_for_the_tree() {
    for (is_silent, told) in [(false, "members only"), (true, "restarted")] {
        let host = Config::default().with(|c| c.refuse_silently = is_silent);
        let mut world = duo_with(917, &LinkConfig::with_delay(ms(20)), Config::default(), host);
        let mut numbers = Numbers::start(&mut world);
        world.run_until(ms(500), &mut numbers);
        let peer = world.host(B).peers()[0].0;
        world.call(B, |h, now| h.disconnect(now, peer, Code::app(403), "members only"));
        // Every CLOSE is lost, until nothing is left of the channel.
        world.hold(|_| true);
        world.run_until(secs(5), &mut numbers);
        drop(world.unhold());
        assert_eq!(numbers.lost, Vec::<String>::new());
        while numbers.lost.is_empty() && world.step(secs(20), &mut numbers) {}
        let lost = &numbers.lost;
        assert!(
            lost.iter().all(|what| what.contains(told)) && !lost.is_empty(),
            "{lost:?}"
        );
    }
}
