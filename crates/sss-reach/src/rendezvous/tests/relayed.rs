//! Hosts that reach each other through the relay of their server.

use sss_proto::RouteClass;
use sss_wire::reach::{RELAY, relay_handle, relay_header};

use super::*;

const SERVER: usize = 0;

/// A server that relays, and two hosts.
fn pair_with(nats: [Nat; 2], delays: (u64, u64), uses: [RelayUse; 2]) -> (World, usize, usize) {
    let mut world = World::new(delays);
    world.relay.0 = Some(RelayLimits::default());
    let server = world.add_server();
    world.relay.1 = uses[0];
    let one = world.add_host(nats[0], std::slice::from_ref(&server), Visibility::Hidden);
    world.relay.1 = uses[1];
    let two = world.add_host(nats[1], &[server], Visibility::Known);
    world.run(MS(5000));
    (world, one, two)
}

fn relayed(nats: [Nat; 2]) -> (World, usize, usize) {
    pair_with(nats, (50, 50), [RelayUse::Allowed; 2])
}

impl World {
    /// The class of the channel that a host has to another.
    pub(super) fn class(&self, n: usize) -> Option<RouteClass> {
        let host = &self.nodes[n].host;
        let peers = host.peers();
        let infos = peers.iter().filter(|(_, eid)| self.nodes[SERVER].host.eid() != *eid);
        let info = infos.filter_map(|(peer, _)| host.channel_info(*peer)).next()?;
        Some(info.route.class())
    }

    /// The server whose relay a host sends to another by, if it does by one.
    fn relay_between(&self, from: usize, to: usize) -> Option<usize> {
        let (host, eid) = (&self.nodes[from].host, self.nodes[to].host.eid());
        let (peer, _) = host.peers().into_iter().find(|(_, of)| *of == eid)?;
        let route = host.channel_info(peer)?.route;
        self.owner(route.address().filter(|_| route.handle.is_some())?)
    }

    /// Another run of a host that wants to be found: it knows nothing of the one before, and has another port.
    fn restart_host(&mut self, n: usize) {
        let server = &self.nodes[SERVER];
        let config = RendezvousConfig {
            servers: vec![ServerAddress {
                eid: server.host.eid(),
                addresses: vec![server.address],
                tls: None,
            }],
            register: Register {
                visibility: Visibility::Known,
                ..Register::default()
            },
            relay: self.relay.1,
            ..RendezvousConfig::default()
        };
        let mut core = Config::default();
        core.seeks = true;
        let key = StaticKey::from_bytes([u8::try_from(n + 1).unwrap(); 32]);
        let mut host = Host::new(core, key, [99; 32]);
        let node = &mut self.nodes[n];
        node.rendezvous = Rendezvous::new(self.now, config, &mut host, &[99; 32]).unwrap();
        node.listener = Some(host.listen(ECHO.0, ECHO.1).unwrap());
        node.host = host;
        node.mapped.clear();
        node.address.set_port(7001);
        node.wake = Some(self.now);
    }

    /// Says more on a stream.
    pub(super) fn say(&mut self, n: usize, stream: StreamId) {
        let _ = self.nodes[n].host.stream(stream).poll_write(b"more");
        self.nodes[n].wake = Some(self.now);
    }

    /// The longest time for which the other hears nothing, while a word is said each 20 ms.
    pub(super) fn silence(&mut self, (from, to): (usize, usize), stream: StreamId, time: Duration) -> Duration {
        let end = self.now + time;
        let (mut latest, mut longest) = (self.now, Duration::ZERO);
        while self.now < end {
            self.nodes[to].heard = None;
            self.say(from, stream);
            self.run(MS(20));
            if let Some(heard) = self.nodes[to].heard {
                longest = longest.max(heard.since(latest));
                latest = heard;
            }
        }
        longest.max(self.now.since(latest))
    }

    /// The relayed datagrams that have gone to a host.
    fn relayed_to(&self, n: usize) -> Vec<&[u8]> {
        let to = self.nodes[n].address.ip();
        let all = self
            .wire
            .iter()
            .filter(|(_, at, bytes)| at.ip() == to && bytes[0] == RELAY);
        all.map(|(_, _, bytes)| &bytes[..]).collect()
    }
}

// spec: RCH-16, RCH-17
#[test]
fn hosts_behind_symmetric_nats_reach_each_other_after_six_delays() {
    for nats in [
        [Nat::Symmetric; 2],
        [Nat::Cone, Nat::Symmetric],
        [Nat::Symmetric, Nat::Cone],
    ] {
        let (mut world, one, two) = relayed(nats);
        let began = world.now;
        let stream = world.call(one, two);
        world.run(MS(340));
        let longest = [one, two].map(|n| world.relayed_to(n).iter().map(|bytes| bytes.len()).max());
        assert!(longest.iter().all(|len| len.unwrap() <= 1232), "{longest:?}");
        world.run(MS(1000));
        let heard = world.nodes[two].heard.expect("the word arrives");
        // CONNECT, NOTIFY, COOKIE twice, INITIATE twice: with the post-quantum leg, which is required by default.
        assert_eq!(heard.since(began), MS(300), "{nats:?}");
        assert_eq!(
            [one, two].map(|n| world.class(n)),
            [Some(RouteClass::Relay); 2],
            "{nats:?}"
        );
        // It lasts, and so do the handles.
        for _ in 0..3 {
            world.run(Duration::from_secs(70));
            let silence = world.silence((one, two), stream, MS(500));
            assert!(silence < MS(250), "{silence:?}, {nats:?}");
        }
    }
}

// spec: MIG-29
#[test]
fn a_direct_way_is_used_where_there_is_one_and_the_relay_stands_by() {
    let (mut world, one, two) = relayed([Nat::Cone; 2]);
    let began = world.now;
    let stream = world.call(one, two);
    world.run(MS(1900));
    assert_eq!(world.nodes[two].heard.unwrap().since(began), MS(200));
    assert_eq!(world.class(one), Some(RouteClass::Direct));
    let relayed = world.nodes[SERVER].rendezvous.server_stats().unwrap().relayed_packets;
    assert!(relayed <= 2, "COOKIE and COOKIE_K: {relayed}");
    world.run(MS(2000));
    // The direct path is lost: the relay carries, and gives back.
    world.cut.push((one, two));
    let silence = world.silence((one, two), stream, MS(8000));
    assert!(silence < MS(1300), "{silence:?}");
    assert_eq!(world.class(one), Some(RouteClass::Relay));
    world.cut.clear();
    let silence = world.silence((one, two), stream, MS(8000));
    assert!(silence < MS(600), "{silence:?}");
    assert_eq!([one, two].map(|n| world.class(n)), [Some(RouteClass::Direct); 2]);
    // The relay is lost: nobody notices.
    world.cut.extend([(SERVER, one), (SERVER, two)]);
    let silence = world.silence((one, two), stream, Duration::from_secs(90));
    assert!(silence < MS(200), "{silence:?}");
}

// spec: RCH-47, MIG-31
#[test]
fn the_relay_of_another_server_stands_by_for_the_one_that_carries() {
    let mut world = World::new((50, 50));
    world.relay.0 = Some(RelayLimits::default());
    let servers = [world.add_server(), world.add_server()];
    let one = world.add_host(Nat::Symmetric, &servers, Visibility::Hidden);
    let two = world.add_host(Nat::Symmetric, &servers, Visibility::Known);
    world.run(MS(5000));
    let stream = world.call(one, two);
    world.run(MS(3000));
    let carrier = world.relay_between(one, two);
    assert!(carrier.is_some());
    let relayed = |world: &World| {
        let mut servers = (0..2).filter(|n| Some(*n) != carrier);
        let stats = servers.next().and_then(|n| world.nodes[n].rendezvous.server_stats());
        stats.unwrap().relayed_packets
    };
    // Signs of life, and what is asked when better routes are tried (MIG-28): of 5,000 words, none.
    let before = relayed(&world);
    world.silence((one, two), stream, Duration::from_secs(100));
    let asked = relayed(&world) - before;
    assert!((4..100).contains(&asked), "{asked} packets");
    world.cut.extend(carrier.into_iter().flat_map(|n| [(n, one), (n, two)]));
    // Two probe timeouts, as so little is no flow, and the way of a word: an attempt would take two round trips more.
    let silence = world.silence((one, two), stream, MS(5000));
    assert!(silence < MS(750), "{silence:?}");
    assert_ne!(world.relay_between(one, two), carrier);
    assert_eq!(world.relay_between(one, two), world.relay_between(two, one));
}

// spec: MIG-28
#[test]
fn what_begins_on_the_relay_goes_on_directly() {
    // The server is near, the hosts are far from each other: COOKIE comes over the relay first.
    let (mut world, one, two) = pair_with([Nat::Cone; 2], (10, 100), [RelayUse::Allowed; 2]);
    let began = world.now;
    let stream = world.call(one, two);
    world.run(MS(100));
    assert_eq!(world.nodes[two].heard.unwrap().since(began), MS(60));
    assert_eq!(world.class(one), Some(RouteClass::Relay));
    world.run(MS(1000));
    assert_eq!([one, two].map(|n| world.class(n)), [Some(RouteClass::Direct); 2]);
    world.cut.push((one, two));
    let silence = world.silence((one, two), stream, MS(5000));
    assert!(silence < MS(1500), "{silence:?}");
}

#[test]
fn with_loss_the_relay_is_reached_in_the_end() {
    for (seed, percent) in (0..10).flat_map(|seed| [(seed, 5), (seed, 20)]) {
        let mut world = World::new((30, 20));
        world.relay.0 = Some(RelayLimits::default());
        world.sent = mix(seed) >> 8;
        world.loss = (100, percent);
        let server = world.add_server();
        let one = world.add_host(Nat::Symmetric, std::slice::from_ref(&server), Visibility::Hidden);
        let two = world.add_host(Nat::Symmetric, &[server], Visibility::Known);
        world.run(Duration::from_secs(30));
        let began = world.now;
        world.call(one, two);
        world.run(Duration::from_secs(40));
        let heard = world.nodes[two].heard.map(|at| at.since(began));
        assert!(heard.is_some(), "seed {seed}, {percent} %: {:?}", world.failure(one));
    }
}

// spec: RCH-19
#[test]
fn who_uses_no_relay_is_told_that_one_would_be_needed() {
    for uses in [
        [RelayUse::Never, RelayUse::Allowed],
        [RelayUse::Allowed, RelayUse::Never],
    ] {
        let (mut world, one, two) = pair_with([Nat::Symmetric; 2], (50, 50), uses);
        world.call(one, two);
        world.run(Duration::from_secs(75));
        assert_eq!(world.nodes[two].heard, None);
        if uses[0] == RelayUse::Never {
            let expected = NegotiationError::Unfound(Absence::OnlyRelayed);
            assert_eq!(world.failure(one), Some(expected));
        }
    }
    // Without a relay there is another reason.
    let (mut world, one, two) = pair([Nat::Symmetric; 2], (50, 50));
    world.call(one, two);
    world.run(Duration::from_secs(75));
    assert_eq!(world.failure(one), Some(NegotiationError::Unfound(Absence::NoWay)));
}

// spec: RCH-38
#[test]
fn who_uses_nothing_but_a_relay_never_lets_its_server_tell_where_it_is() {
    let mut world = World::new((20, 20));
    world.relay = (Some(RelayLimits::default()), RelayUse::Always);
    let server = world.add_server();
    let two = world.add_host(Nat::None, &[server], Visibility::Known);
    let eid = world.nodes[two].host.eid();
    let mut was_known = [false; 2];
    for ms in 0..40_000 {
        if ms == 5000 {
            world.restart_server();
        }
        world.run(MS(1));
        let (registrar, _) = world.nodes[SERVER].rendezvous.server.as_ref().unwrap();
        if let Some(is_veiled) = registrar.is_veiled(world.now, &eid) {
            assert!(is_veiled, "after {ms} ms");
            was_known[usize::from(ms > 5000)] = true;
        }
    }
    assert_eq!(was_known, [true; 2]);
    // Nor does it name a port that a router lets in.
    let node = &mut world.nodes[two];
    let outer = SocketAddr::new(node.address.ip(), 5000);
    node.rendezvous.set_mapped(world.now, &mut node.host, &[outer]);
    node.wake = Some(world.now);
    world.run(MS(1000));
    let state = &world.nodes[two].rendezvous.registrations()[0].state;
    assert!(
        matches!(state, crate::RegistrationState::Registered { mapped: None, .. }),
        "{state:?}"
    );
}

// spec: RCH-19, RCH-38
#[test]
fn who_uses_nothing_but_a_relay_sends_nothing_directly() {
    for uses in [
        [RelayUse::Always, RelayUse::Allowed],
        [RelayUse::Allowed, RelayUse::Always],
        [RelayUse::Always; 2],
    ] {
        let (mut world, one, two) = pair_with([Nat::None; 2], (50, 50), uses);
        let began = world.now;
        world.call(one, two);
        world.run(Duration::from_secs(20));
        assert_eq!(world.nodes[two].heard.unwrap().since(began), MS(300));
        assert_eq!(world.class(one), Some(RouteClass::Relay));
        let (from, to) = (world.nodes[one].address, world.nodes[two].address);
        // Neither is told where the other is, also not when the one calls again after a restart of the server.
        let is_direct = |(a, b, _): &&Flight| [(*a, *b), (*b, *a)].contains(&(from, to));
        assert_eq!(world.wire.iter().filter(is_direct).count(), 0, "{uses:?}");
        world.restart_server();
        world.run(Duration::from_secs(40));
        world.nodes[two].heard = None;
        world.call(one, two);
        world.run(Duration::from_secs(20));
        assert!(world.nodes[two].heard.is_some(), "{uses:?}");
        assert_eq!(world.wire.iter().filter(is_direct).count(), 0, "{uses:?}");
    }
    // Where nothing is relayed, nothing comes of it.
    let mut world = World::new((50, 50));
    let server = world.add_server();
    let one = world.add_host(Nat::None, std::slice::from_ref(&server), Visibility::Hidden);
    world.relay.1 = RelayUse::Always;
    let two = world.add_host(Nat::None, &[server], Visibility::Known);
    world.run(MS(5000));
    world.call(one, two);
    world.run(MS(1000));
    assert_eq!(world.failure(one), Some(NegotiationError::Unfound(Absence::Refused)));
    // Nor the other way round, and then nobody refuses.
    let mut world = World::new((50, 50));
    let server = world.add_server();
    let two = world.add_host(Nat::None, std::slice::from_ref(&server), Visibility::Known);
    world.relay.1 = RelayUse::Always;
    let one = world.add_host(Nat::None, &[server], Visibility::Hidden);
    world.run(MS(5000));
    world.call(one, two);
    world.run(Duration::from_secs(70));
    assert_eq!(world.failure(one), Some(NegotiationError::Unfound(Absence::NoWay)));
}

// spec: RCH-12, RCH-17, RCH-19
#[test]
fn a_host_that_moves_gets_other_handles_by_calling_again() {
    for mover in 0..2 {
        let (mut world, one, two) = relayed([Nat::Symmetric; 2]);
        let stream = world.call(one, two);
        world.run(MS(3000));
        let moving = [one, two][mover];
        let handles = |world: &World| {
            let all = world
                .relayed_to(one)
                .into_iter()
                .map(|bytes| relay_handle(bytes).unwrap());
            all.collect::<std::collections::BTreeSet<_>>()
        };
        let before = handles(&world);
        let sent = world.wire.len();
        let node = &mut world.nodes[moving];
        node.address = SocketAddr::from(([203, 0, 113, 9], 7000));
        node.mapped.clear();
        node.host.network_changed(world.now, |_, _| true);
        node.rendezvous.on_network_change(world.now, &mut node.host);
        node.wake = Some(world.now);
        let silence = world.silence((one, two), stream, Duration::from_secs(20));
        // LEASE and its answer, CONNECT, NOTIFY, and the negotiation: the one that hides is found by the other, too.
        assert!(silence < MS(800), "{silence:?}, {mover}");
        assert_eq!([one, two].map(|n| world.class(n)), [Some(RouteClass::Relay); 2]);
        assert!(handles(&world).is_disjoint(&before) || handles(&world).len() > before.len());
        let there = world.nodes[moving].address.ip();
        let sent_there = world.wire[sent..].iter().filter(|(from, ..)| from.ip() == there);
        let relayed = sent_there.filter_map(|(.., bytes)| relay_handle(bytes).ok());
        let used: std::collections::BTreeSet<_> = relayed.collect();
        let old = world.wire[..sent]
            .iter()
            .filter_map(|(.., bytes)| relay_handle(bytes).ok());
        let old: std::collections::BTreeSet<_> = old.collect();
        assert!(!used.is_empty() && !old.is_empty());
        assert!(used.is_disjoint(&old), "an old handle at a new address: {mover}");
    }
}

// spec: RCH-12
#[test]
fn who_moves_while_it_is_introduced_is_introduced_anew() {
    for ms in [20, 60, 110, 160, 210, 260] {
        let (mut world, one, two) = relayed([Nat::Cone; 2]);
        let began = world.now;
        world.call(one, two);
        world.run(MS(ms));
        // Its router has another address, and it does not know.
        let node = &mut world.nodes[one];
        node.address = SocketAddr::from(([203, 0, 113, 9], 7000));
        node.mapped.clear();
        world.run(Duration::from_secs(6));
        let heard = world.nodes[two].heard.map(|heard| heard.since(began));
        assert!(heard.is_some_and(|after| after < MS(1500)), "{ms}: {heard:?}");
    }
}

// spec: RCH-10, RCH-17
#[test]
fn a_flood_on_a_handle_from_elsewhere_reaches_nobody() {
    let (mut world, one, two) = relayed([Nat::Symmetric; 2]);
    let stream = world.call(one, two);
    world.run(MS(3000));
    let handles: Vec<u32> = [one, two]
        .iter()
        .map(|n| relay_handle(world.relayed_to(*n)[0]).unwrap())
        .collect();
    let stranger = world.add(Nat::None, RendezvousConfig::default());
    let server = world.nodes[SERVER].address;
    let before = [one, two].map(|n| world.relayed_to(n).len());
    for n in 0..2000_u32 {
        for handle in [handles[0], handles[1], n] {
            let packet = [&relay_header(handle)[..], &[0x40; 900]].concat();
            world.send(stranger, server, packet);
        }
        world.run(MS(1));
    }
    world.run(MS(100));
    let after = [one, two].map(|n| world.relayed_to(n).len());
    assert_eq!(before, after);
    let stats = world.nodes[SERVER].rendezvous.server_stats().unwrap();
    assert!(stats.unrelayed >= 6000, "{}", stats.unrelayed);
    let silence = world.silence((one, two), stream, MS(1000));
    assert!(silence < MS(250), "{silence:?}");
}

// spec: RCH-17
#[test]
fn what_comes_in_a_batch_goes_on_in_a_batch() {
    let (mut world, one, two) = relayed([Nat::Symmetric; 2]);
    world.call(one, two);
    world.run(MS(3000));
    let handles = [one, two].map(|n| relay_handle(world.relayed_to(n)[0]).unwrap());
    let of_one = world
        .wire
        .iter()
        .rev()
        .find(|(from, _, bytes)| from.ip() == world.nodes[one].address.ip() && bytes[0] == RELAY);
    let from = of_one.unwrap().0;
    let packet = |handle: u32, n: u8, len: usize| [&relay_header(handle)[..], &vec![n; len - 5][..]].concat();
    // Two that go on, one with a handle that is not known, one more that goes on, and a shorter one.
    let (own, others) = (handles[0], handles[1]);
    let parts = [
        (own, 0x41, 100),
        (own, 0x42, 100),
        (9, 0x43, 100),
        (own, 0x44, 100),
        (own, 0x45, 30),
    ];
    let mut data = BytesMut::new();
    for (handle, n, len) in parts {
        data.extend_from_slice(&packet(handle, n, len));
    }
    let node = &mut world.nodes[SERVER];
    let mut lent = None;
    let batch = Batch {
        data: &mut data,
        lent: &mut lent,
        stride: 100,
        link: Link::Udp(from),
        local: None,
        ecn: Ecn::Ce,
    };
    node.rendezvous
        .handle(world.now, &mut node.host, Input::Datagrams(batch));
    let mut buf = TransmitBuf::new(64);
    let mut sent = Vec::new();
    while let Output::Transmit(transmit) = node.rendezvous.poll(world.now, &mut node.host, &mut buf) {
        assert_eq!(transmit.ecn, Ecn::Ce);
        sent.push((transmit.segment, buf.filled().to_vec()));
    }
    let expected = [&[(0x41, 100), (0x42, 100), (0x44, 100)][..], &[(0x45, 30)]].concat();
    let expected: Vec<u8> = expected.iter().flat_map(|(n, len)| packet(others, *n, *len)).collect();
    assert_eq!(sent, [(100, expected)]);
    assert_eq!(node.host.stats().dropped(sss_proto::DropReason::UnknownHandle), 1);
}

// spec: CHN-17, RCH-19
#[test]
fn a_host_forgets_handles_by_which_nothing_comes() {
    let (mut world, one, two) = relayed([Nat::Symmetric; 2]);
    world.call(one, two);
    world.run(MS(3000));
    let handle = relay_handle(world.relayed_to(one)[0]).unwrap();
    let server = world.nodes[SERVER].address;
    let unknown = |world: &mut World| {
        let packet = [&relay_header(handle)[..], &[0x40; 60]].concat();
        give(&mut world.nodes[one].host, world.now, server, &packet);
        world.nodes[one]
            .host
            .stats()
            .dropped(sss_proto::DropReason::UnknownHandle)
    };
    assert_eq!(unknown(&mut world), 0);
    world.cut.extend([(SERVER, one), (SERVER, two)]);
    world.run(Duration::from_secs(125));
    assert_eq!(unknown(&mut world), 1);
}

#[test]
fn what_nobody_takes_away_is_dropped() {
    let (mut world, one, two) = relayed([Nat::Symmetric; 2]);
    world.call(one, two);
    world.run(MS(3000));
    let sent_by_one = |(from, _, bytes): &&(SocketAddr, SocketAddr, Vec<u8>)| {
        from.ip() == world.nodes[one].address.ip() && bytes[0] == RELAY
    };
    let (from, _, packet) = world.wire.iter().rev().find(sent_by_one).unwrap().clone();
    let node = &mut world.nodes[SERVER];
    for _ in 0..10_000 {
        node.receive(world.now, Link::Udp(from), &packet);
    }
    let mut buf = TransmitBuf::new(1);
    let mut sent = 0;
    while let Output::Transmit(_) = node.rendezvous.poll(world.now, &mut node.host, &mut buf) {
        sent += 1;
    }
    assert_eq!(sent, 4096);
}

// spec: RCH-16
#[test]
fn a_direct_way_that_is_open_in_one_direction_only_makes_no_attempt_fail() {
    for (between, callee_is_deaf) in [
        (5, true),
        (50, true),
        (150, true),
        (5, false),
        (50, false),
        (150, false),
    ] {
        let mut world = World::new((50, between));
        world.relay.0 = Some(RelayLimits::default());
        let server = world.add_server();
        let caller = world.add_host(Nat::None, std::slice::from_ref(&server), Visibility::Hidden);
        let callee = world.add_host(Nat::None, &[server], Visibility::Known);
        world.run(MS(5000));
        world.cut_one_way = Some(match callee_is_deaf {
            true => (caller, callee),
            false => (callee, caller),
        });
        let began = world.now;
        let stream = world.call(caller, callee);
        world.run(MS(5000));
        let heard = world.nodes[callee].heard.expect("the word arrives").since(began);
        println!("{between} ms, the callee is deaf: {callee_is_deaf}: {heard:?}");
        assert!(heard <= MS(600), "{heard:?}");
        assert_eq!([caller, callee].map(|n| world.class(n)), [Some(RouteClass::Relay); 2]);
        let silence = world.silence((caller, callee), stream, MS(8000));
        assert!(silence < MS(400), "{silence:?}");
    }
}

// spec: RCH-16
#[test]
fn where_only_the_accept_that_was_relayed_arrives_both_ends_take_the_relay() {
    let (mut world, one, two) = relayed([Nat::None; 2]);
    world.call(one, two);
    // INITIATE has come directly, and nothing goes back there any more.
    world.run(MS(199));
    world.cut_one_way = Some((two, one));
    world.run(MS(500));
    assert_eq!([one, two].map(|n| world.class(n)), [Some(RouteClass::Relay); 2]);
}

// spec: RCH-12
#[test]
fn a_host_that_is_killed_and_begun_again_is_known_to_be_new_soon_after_it_registers() {
    for down in [2000, 5000, 10_000] {
        let (mut world, one, two) = pair_with([Nat::None; 2], (10, 10), [RelayUse::Always; 2]);
        let stream = world.call(one, two);
        world.run(MS(3000));
        assert_eq!(world.class(one), Some(RouteClass::Relay));
        world.cut = vec![(SERVER, two)];
        for _ in 0..down / 100 {
            world.say(one, stream);
            world.run(MS(100));
        }
        world.cut.clear();
        world.restart_host(two);
        let restarted = world.now;
        world.run(Duration::from_secs(12));
        let mut events = world.nodes[one].events.iter();
        let is_told = |event: &Event| matches!(event, Event::Disconnected(_, _, CloseReason::PeerRestarted));
        let told = events
            .find(|(_, event)| is_told(event))
            .map(|(at, _)| at.since(restarted));
        // CONNECT is repeated after 4 s at most.
        assert!(
            told.is_some_and(|after| after < MS(4500)),
            "down for {down} ms: {told:?}"
        );
    }
}

// spec: RCH-11
#[test]
fn with_loss_hosts_are_found_through_a_relay_in_time() {
    let found_in_time = |seed: u64| {
        let mut world = World::new((1, 1));
        world.sent = mix(seed) >> 8;
        world.relay = (Some(RelayLimits::default()), RelayUse::Always);
        let server = world.add_server();
        let two = world.add_host(Nat::Cone, std::slice::from_ref(&server), Visibility::Known);
        world.run(MS(5000));
        // From one to the other by the relay, more than a third is lost.
        world.loss = (100, 20);
        let began = world.now;
        let one = world.add_host(Nat::Cone, &[server], Visibility::Hidden);
        world.call(one, two);
        world.run(Duration::from_secs(10));
        world.nodes[two]
            .heard
            .is_some_and(|at| at.since(began) < Duration::from_secs(10))
    };
    let found = (0..100).filter(|seed| found_in_time(*seed)).count();
    // 86 if only the server brings HELLO.
    assert!(found >= 94, "{found} of 100");
}

// spec: RCH-11
#[test]
fn a_dead_host_behind_a_relay_is_said_not_to_answer_its_server() {
    let mut world = World::new((10, 10));
    world.relay = (Some(RelayLimits::default()), RelayUse::Always);
    let server = world.add_server();
    let two = world.add_host(Nat::Cone, std::slice::from_ref(&server), Visibility::Known);
    world.run(MS(2000));
    let one = world.add_host(Nat::Cone, &[server], Visibility::Hidden);
    world.run(MS(1000));
    world.cut = vec![(SERVER, two)];
    world.call(one, two);
    let began = world.now;
    while world.failure(one).is_none() && world.now.since(began) < Duration::from_secs(20) {
        world.run(MS(100));
    }
    let after = world.now.since(began);
    println!("told after {after:?}");
    assert_eq!(
        world.failure(one),
        Some(NegotiationError::Unfound(Absence::Unreachable))
    );
    assert!(after < Duration::from_secs(9), "{after:?}");
}

// spec: RCH-8
#[test]
fn who_hears_a_peer_no_more_tells_its_server_where_it_is() {
    let (mut world, one, two) = pair([Nat::None; 2], (10, 10));
    let stream = world.call(one, two);
    world.run(MS(3000));
    world.say(one, stream);
    world.run(MS(2000));
    let from = world.nodes[one].address;
    let leases = |world: &World, since: usize| {
        let is_lease = |flight: &&Flight| flight.0 == from && flight.2[0] == Kind::Lease as u8;
        world.wire[since..].iter().filter(is_lease).count()
    };
    // Of the peer nothing comes any more, and of the server everything does.
    world.cut = vec![(one, two)];
    let before = world.wire.len();
    world.say(one, stream);
    world.run(MS(1500));
    assert_eq!(
        leases(&world, before),
        2,
        "after the first probe, and when the carrier is stalled"
    );
    world.run(MS(2000));
    assert_eq!(leases(&world, before), 2, "and not again and again");
}

// spec: MIG-13, RCH-8
#[test]
fn a_reader_whose_router_has_another_address_is_reached_soon() {
    for use_of_relay in [RelayUse::Allowed, RelayUse::Never] {
        let (mut world, one, two) = pair_with([Nat::Cone; 2], (25, 25), [use_of_relay; 2]);
        let stream = world.call(one, two);
        world.silence((one, two), stream, MS(4000));
        assert_eq!(world.class(one), Some(RouteClass::Direct));
        let n = world.nodes.len();
        world.nodes[two].address.set_ip(World::address(n + 9).ip());
        let silence = world.silence((one, two), stream, MS(4000));
        println!("{use_of_relay:?}: nothing came for {silence:?}");
        assert!(silence < MS(700), "{use_of_relay:?}: {silence:?}");
    }
}

// spec: RCH-8
#[test]
fn a_lease_that_was_sent_a_moment_ago_does_not_hide_that_a_router_has_another_address() {
    for after in [0, 20, 100, 300, 700] {
        let (mut world, one, two) = pair_with([Nat::Cone; 2], (25, 25), [RelayUse::Allowed; 2]);
        let stream = world.call(one, two);
        world.silence((one, two), stream, MS(4000));
        // What is written comes from the one that is elsewhere: it is its peer that hears nothing.
        let of = world.nodes[one].address;
        let leases = |world: &World| {
            let is_lease = |flight: &&Flight| flight.0 == of && flight.2[0] == Kind::Lease as u8;
            world.wire.iter().filter(is_lease).count()
        };
        let before = leases(&world);
        while leases(&world) == before {
            world.silence((one, two), stream, MS(20));
        }
        world.silence((one, two), stream, MS(after));
        let n = world.nodes.len();
        world.nodes[one].address.set_ip(World::address(n + 9).ip());
        let silence = world.silence((one, two), stream, MS(8000));
        println!("{after} ms after a LEASE: nothing came for {silence:?}");
        assert!(silence < MS(1500), "{after} ms: {silence:?}");
    }
}

// spec: RCH-8
#[test]
fn flows_that_break_off_again_and_again_make_few_leases() {
    let (mut world, one, two) = pair_with([Nat::Cone; 2], (25, 25), [RelayUse::Allowed; 2]);
    let stream = world.call(one, two);
    world.silence((one, two), stream, MS(4000));
    let of = world.nodes[two].address;
    let before = world.wire.len();
    for _ in 0..40 {
        world.silence((one, two), stream, MS(500));
        world.run(MS(1000));
    }
    let leases = world.wire[before..].iter();
    let leases = leases.filter(|flight| flight.0 == of && flight.2[0] == Kind::Lease as u8);
    // In a minute: three because they are due, and some to confirm where it is.
    assert!((3..=12).contains(&leases.count()));
}
