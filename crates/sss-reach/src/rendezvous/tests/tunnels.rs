//! Hosts that reach their server through a tunnel, since UDP gets no answer.

use sss_proto::{RouteClass, TunnelId};

use super::*;
use crate::{Over, TunnelEnd, TunnelOrder};

/// Tunnels between hosts and servers.
#[derive(Default)]
pub(super) struct Tunnels {
    /// Set if the servers have them.
    pub(super) is_offered: bool,
    /// Set if none can be opened.
    pub(super) is_blocked: bool,
    /// Set if nothing says so.
    is_dark: bool,
    /// The two ends of those that are open.
    open: Vec<[End; 2]>,
    /// Those that are being opened: when they are open, of whom, to which server.
    opening: Vec<(Instant, usize, Eid)>,
    /// The time when the driver gives up those that get no answer.
    patience: BTreeMap<usize, Instant>,
    under_way: BTreeMap<(Instant, u64), (End, Vec<u8>)>,
    count: u32,
    /// Number of those that were ordered.
    pub(super) ordered: usize,
}

/// A node, and its name for the tunnel.
type End = (usize, TunnelId);

/// Time for which the driver tries to open one, and the longest pause between two packets that ask for it.
const DIAL: Duration = Duration::from_secs(10);
const DIAL_PAUSE: Duration = Duration::from_secs(1);

impl Tunnels {
    pub(super) fn next(&self) -> Option<Instant> {
        let opening = self.opening.iter().map(|(at, ..)| *at);
        opening.chain(self.under_way.keys().next().map(|(at, _)| *at)).min()
    }

    fn other(&self, end: End) -> Option<End> {
        self.open.iter().find_map(|[one, other]| match end {
            _ if *one == end => Some(*other),
            _ if *other == end => Some(*one),
            _ => None,
        })
    }
}

impl World {
    pub(super) fn send_through(&mut self, n: usize, link: Link, bytes: Vec<u8>) {
        let Link::Tunnel(id) = link else {
            panic!("{link:?}");
        };
        let Some(other) = self.tunnels.other((n, id)) else {
            return;
        };
        self.sent += 1;
        let at = self.now + self.delay(n, other.0);
        self.tunnels.under_way.insert((at, self.sent), (other, bytes));
    }

    /// Does with tunnels what a host wants.
    pub(super) fn obey(&mut self, n: usize) {
        while let Some(order) = self.nodes[n].rendezvous.poll_tunnel_order() {
            match order {
                TunnelOrder::Open { server, place } => {
                    assert_eq!(place, "tls");
                    self.tunnels.ordered += 1;
                    // TCP, and TLS.
                    let at = self.now + self.delay(n, 0) * 4;
                    self.tunnels.opening.push((at, n, server));
                    self.tunnels.patience.insert(n, self.now + DIAL);
                }
                TunnelOrder::Close { server } => {
                    self.tunnels.opening.retain(|(_, of, to)| (*of, *to) != (n, server));
                    self.tunnels.open.retain(|[one, _]| one.0 != n);
                }
            }
        }
    }

    /// Opens a tunnel, or delivers a packet, if that is due.
    pub(super) fn step_tunnels(&mut self) -> bool {
        let due = self.tunnels.opening.iter().position(|(at, ..)| *at <= self.now);
        if let Some((_, n, server)) = due.map(|at| self.tunnels.opening.remove(at)) {
            let patience = self.tunnels.patience[&n];
            if self.tunnels.is_blocked && self.tunnels.is_dark && self.now < patience {
                // The driver asks again.
                let at = patience.min(self.now + DIAL_PAUSE);
                self.tunnels.opening.push((at, n, server));
                return true;
            }
            let at = self.nodes.iter().position(|node| node.host.eid() == server).unwrap();
            let node = &mut self.nodes[n];
            if self.tunnels.is_blocked {
                node.rendezvous
                    .on_tunnel_closed(self.now, &mut node.host, (&server, TunnelEnd::Refused));
            } else {
                let ids = [1, 2].map(|more| TunnelId(self.tunnels.count + more));
                self.tunnels.count += 2;
                self.tunnels.open.push([(n, ids[0]), (at, ids[1])]);
                let opened = (ids[0], Self::address(at + 1));
                node.rendezvous
                    .on_tunnel_opened(self.now, &mut node.host, &server, opened);
            }
            node.wake = Some(self.now);
            return true;
        }
        let Some(entry) = self.tunnels.under_way.first_entry().filter(|e| e.key().0 <= self.now) else {
            return false;
        };
        let ((n, id), bytes) = entry.remove();
        if self.tunnels.other((n, id)).is_some() {
            self.nodes[n].receive(self.now, Link::Tunnel(id), &bytes);
            self.nodes[n].wake = Some(self.now);
        }
        true
    }

    /// All tunnels of a host end.
    fn cut_tunnels(&mut self, n: usize) {
        let server = self.nodes[0].host.eid();
        self.tunnels.open.retain(|[one, _]| one.0 != n);
        let node = &mut self.nodes[n];
        node.rendezvous
            .on_tunnel_closed(self.now, &mut node.host, (&server, TunnelEnd::Refused));
        node.wake = Some(self.now);
    }

    fn over(&self, n: usize) -> Option<Over> {
        let registrations = self.nodes[n].rendezvous.registrations();
        match registrations.first()?.state {
            crate::RegistrationState::Registered { over, observed, .. } => {
                assert_eq!(observed.is_some(), over == Over::Udp);
                Some(over)
            }
            _ => None,
        }
    }
}

/// A server that relays, and hosts whose clocks begin together.
fn world(nats: [Nat; 2]) -> (World, ServerAddress, usize) {
    world_of(nats, true)
}

fn world_of(nats: [Nat; 2], is_offered: bool) -> (World, ServerAddress, usize) {
    let mut world = World::new((50, 50));
    world.relay.0 = Some(RelayLimits::default());
    world.tunnels.is_offered = is_offered;
    let server = world.add_server();
    let callee = world.add_host(nats[1], std::slice::from_ref(&server), Visibility::Known);
    world.run(MS(5000));
    (world, server, callee)
}

// spec: RCH-22, RCH-23, RCH-24
#[test]
fn where_udp_is_blocked_a_host_reaches_others_in_just_over_a_second_and_then_in_six_delays() {
    for nats in [
        [Nat::Blocked, Nat::Cone],
        [Nat::Blocked; 2],
        [Nat::Cone, Nat::Blocked],
        [Nat::Symmetric, Nat::Blocked],
    ] {
        let (mut world, server, callee) = world(nats);
        let caller = world.add_host(nats[0], &[server], Visibility::Hidden);
        let began = world.now;
        let stream = world.call(caller, callee);
        world.run(MS(3000));
        let cold = world.nodes[callee].heard.expect("the word arrives").since(began);
        // Detection, TCP and TLS, registration, introduction.
        let most = if nats[0] == Nat::Blocked { 1100 } else { 600 };
        assert!(cold <= MS(most), "{cold:?}, {nats:?}");
        for (n, nat) in [(caller, nats[0]), (callee, nats[1])] {
            let expected = if nat == Nat::Blocked { Over::Tls } else { Over::Udp };
            assert_eq!(world.over(n), Some(expected), "{nats:?}");
        }
        let classes = [caller, callee].map(|n| world.class(n).unwrap());
        let expected = nats.map(|nat| match nat {
            Nat::Blocked => RouteClass::Tunnel,
            _ => RouteClass::Relay,
        });
        assert_eq!(classes, expected, "{nats:?}");
        // It lasts.
        for _ in 0..3 {
            world.run(Duration::from_secs(70));
            let silence = world.silence((caller, callee), stream, MS(500));
            assert!(silence < MS(250), "{silence:?}, {nats:?}");
        }
        // Another caller that is registered: warm.
        let (mut world, server, callee) = self::world(nats);
        let caller = world.add_host(nats[0], &[server], Visibility::Hidden);
        world.run(MS(5000));
        let began = world.now;
        world.call(caller, callee);
        world.run(MS(3000));
        let warm = world.nodes[callee].heard.expect("the word arrives").since(began);
        println!("{nats:?}: first byte after {cold:?} cold, {warm:?} warm");
        assert!(warm <= MS(320), "{warm:?}, {nats:?}");
    }
}

// spec: RCH-24
#[test]
fn who_is_answered_by_udp_opens_no_tunnel_and_without_one_all_goes_on_by_udp() {
    let (mut world, server, callee) = world([Nat::Cone; 2]);
    let caller = world.add_host(Nat::Cone, &[server], Visibility::Hidden);
    world.call(caller, callee);
    world.run(Duration::from_secs(200));
    assert!(world.nodes[callee].heard.is_some());
    assert_eq!(world.tunnels.ordered, 0);
    // UDP and TCP are blocked for ten minutes: it is tried each second, and then with longer and longer pauses.
    world.tunnels.is_blocked = true;
    world.nodes[callee].nat = Nat::Blocked;
    world.run(Duration::from_secs(600));
    let ordered = world.tunnels.ordered;
    assert!((150..=240).contains(&ordered), "{ordered}");
    world.nodes[callee].nat = Nat::Cone;
    world.run(Duration::from_secs(60));
    assert_eq!(world.over(callee), Some(Over::Udp));
}

// spec: RCH-24
#[test]
fn a_call_finds_out_that_udp_is_blocked_since_the_last_lease() {
    let (mut world, server, callee) = world([Nat::Cone; 2]);
    let caller = world.add_host(Nat::Cone, &[server], Visibility::Hidden);
    world.run(MS(3000));
    assert_eq!(world.over(caller), Some(Over::Udp));
    world.nodes[caller].nat = Nat::Blocked;
    let began = world.now;
    world.call(caller, callee);
    world.run(MS(8000));
    let heard = world.nodes[callee].heard.expect("the word arrives").since(began);
    assert!(heard < MS(4000), "{heard:?}");
    assert_eq!(world.class(caller), Some(RouteClass::Tunnel));
}

// spec: RCH-24
#[test]
fn streams_go_on_when_udp_is_blocked_and_when_it_works_again_and_when_the_tunnel_ends() {
    let (mut world, server, callee) = world([Nat::Cone; 2]);
    let caller = world.add_host(Nat::Cone, &[server], Visibility::Hidden);
    world.run(MS(1000));
    let stream = world.call(caller, callee);
    world.run(MS(3000));
    assert_eq!(world.class(caller), Some(RouteClass::Direct));
    // The host comes into a network that blocks UDP.
    world.nodes[caller].nat = Nat::Blocked;
    let node = &mut world.nodes[caller];
    node.rendezvous.on_network_change(world.now, &mut node.host);
    node.host.network_changed(world.now, |_, _| true);
    let silence = world.silence((caller, callee), stream, Duration::from_secs(15));
    println!("into a network without UDP: {silence:?}");
    assert!(silence < MS(4000), "{silence:?}");
    assert_eq!(
        (world.over(caller), world.class(caller)),
        (Some(Over::Tls), Some(RouteClass::Tunnel))
    );
    // The tunnel ends, and is followed by another.
    world.cut_tunnels(caller);
    let silence = world.silence((caller, callee), stream, Duration::from_secs(15));
    println!("the tunnel ends: {silence:?}");
    assert!(silence < MS(4000), "{silence:?}");
    assert_eq!(world.over(caller), Some(Over::Tls));
    // UDP works again.
    world.nodes[caller].nat = Nat::Cone;
    let silence = world.silence((caller, callee), stream, Duration::from_secs(90));
    println!("UDP again: {silence:?}");
    assert!(silence < MS(4000), "{silence:?}");
    assert_eq!(
        (world.over(caller), world.class(caller)),
        (Some(Over::Udp), Some(RouteClass::Direct))
    );
    assert!(world.tunnels.open.is_empty());
}

// spec: RCH-16
#[test]
fn a_host_that_may_send_by_udp_and_hears_nothing_is_reached_through_the_relay_and_reaches_others() {
    // Delays to the server, and between the two: COOKIE comes directly before it does by the relay, and after that.
    for delays in [(50, 5), (50, 50), (50, 99), (50, 150), (1, 1)] {
        for nats in [
            [Nat::None, Nat::Outward],
            [Nat::Cone, Nat::Outward],
            [Nat::Symmetric, Nat::Outward],
            [Nat::Blocked, Nat::Outward],
            [Nat::Outward, Nat::Outward],
            [Nat::Outward, Nat::None],
        ] {
            let (mut world, server, callee) = world(nats);
            world.delays = (MS(delays.0), MS(delays.1));
            let caller = world.add_host(nats[0], &[server], Visibility::Hidden);
            world.run(MS(5000));
            let began = world.now;
            let stream = world.call(caller, callee);
            world.run(MS(5000));
            let heard = world.nodes[callee].heard.expect("the word arrives").since(began);
            println!("{nats:?} at {delays:?}: first byte after {heard:?}");
            assert!(heard <= MS(delays.0 * 11 + 60), "{heard:?}, {nats:?} at {delays:?}");
            // Both take the same way.
            let classes = [caller, callee].map(|n| world.class(n).unwrap());
            let expected = nats.map(|nat| match nat {
                Nat::Blocked | Nat::Outward => RouteClass::Tunnel,
                _ => RouteClass::Relay,
            });
            assert_eq!(classes, expected, "{nats:?} at {delays:?}");
            let silence = world.silence((caller, callee), stream, MS(8000));
            assert!(silence < MS(400), "{silence:?}, {nats:?} at {delays:?}");
        }
    }
}

/// Ends of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    /// Its system says that its connections are closed.
    Told,
    /// Nothing tells that it is gone.
    Silent,
    /// Nothing tells it, and nothing that is asked is answered.
    Dark,
}

impl World {
    /// The server is gone for so long, and then back.
    fn restart_after(
        &mut self,
        outage: Outage,
        down: Duration,
        (from, to): (usize, usize),
        stream: StreamId,
    ) -> Duration {
        self.restart_once(outage, down, (from, to), stream);
        self.silence((from, to), stream, Duration::from_secs(60))
    }

    fn restart_once(&mut self, outage: Outage, down: Duration, (from, to): (usize, usize), stream: StreamId) {
        self.nodes[0].nat = Nat::Blocked;
        self.tunnels.is_blocked = true;
        self.tunnels.is_dark = outage == Outage::Dark;
        self.tunnels.under_way.clear();
        let hosts: Vec<usize> = self.tunnels.open.drain(..).map(|[one, _]| one.0).collect();
        if outage == Outage::Told {
            hosts.into_iter().for_each(|n| self.cut_tunnels(n));
        }
        self.silence((from, to), stream, down);
        self.restart_server();
        self.tunnels.is_blocked = false;
    }
}

// spec: RCH-24
#[test]
fn streams_go_on_soon_however_often_a_server_is_killed() {
    for nats in [[Nat::Blocked, Nat::Blocked], [Nat::Blocked, Nat::Cone]] {
        let (mut world, server, callee) = world(nats);
        let caller = world.add_host(nats[0], &[server], Visibility::Hidden);
        world.run(MS(5000));
        let stream = world.call(caller, callee);
        world.silence((caller, callee), stream, Duration::from_secs(20));
        for times in 1..=24 {
            world.restart_once(Outage::Told, MS(1000), (caller, callee), stream);
            // It is up for less time than a tunnel has to last to be followed by another at once.
            let silence = world.silence((caller, callee), stream, MS(8500));
            assert!(silence < MS(3000), "{nats:?}, {times}: {silence:?}");
        }
    }
}

// spec: RCH-24
#[test]
fn streams_go_on_soon_after_a_server_that_was_killed_is_back() {
    for (outage, down, most) in [
        (Outage::Told, 200, 2400),
        (Outage::Told, 1200, 2100),
        (Outage::Silent, 1200, 3700),
    ] {
        for nats in [
            [Nat::Blocked, Nat::Blocked],
            [Nat::Blocked, Nat::Cone],
            [Nat::Cone, Nat::Blocked],
            [Nat::Symmetric, Nat::Symmetric],
        ] {
            let (mut world, server, callee) = world(nats);
            let caller = world.add_host(nats[0], &[server], Visibility::Hidden);
            world.run(MS(5000));
            let stream = world.call(caller, callee);
            world.silence((caller, callee), stream, Duration::from_secs(20));
            let silence = world.restart_after(outage, MS(down), (caller, callee), stream);
            println!("{outage:?} for {down} ms, {nats:?}: {silence:?}");
            // Whoever has no tunnel to lose knows it from the next answer of the server.
            let most = if down < 1000 && nats[0] != Nat::Blocked {
                1600
            } else {
                most
            };
            assert!(silence < MS(most), "{outage:?}, {nats:?}: {silence:?}");
        }
    }
}

// spec: RCH-24
#[test]
fn many_calls_at_once_do_not_make_a_tunnel_seem_dead() {
    let (mut world, server, callee) = world([Nat::Cone, Nat::Blocked]);
    assert_eq!(world.tunnels.ordered, 1);
    let callers: Vec<usize> = (0..8)
        .map(|_| world.add_host(Nat::Cone, std::slice::from_ref(&server), Visibility::Hidden))
        .collect();
    world.run(MS(1000));
    for caller in callers {
        world.call(caller, callee);
        // Each is answered by a LEASE, a round trip is 100 ms.
        world.run(MS(10));
    }
    world.run(MS(5000));
    assert_eq!((world.tunnels.ordered, world.over(callee)), (1, Some(Over::Tls)));
}

// spec: RCH-8, RCH-24
#[test]
fn a_host_to_which_udp_is_blocked_is_found_within_a_third_of_a_lease_after_the_server_was_restarted() {
    let (mut world, server, callee) = world([Nat::Cone; 2]);
    assert_eq!(world.over(callee), Some(Over::Udp));
    world.nodes[callee].nat = Nat::Blocked;
    world.run(MS(5000));
    world.restart_server();
    world.run(Duration::from_secs(17));
    assert_eq!(world.over(callee), Some(Over::Tls));
    let caller = world.add_host(Nat::Cone, &[server], Visibility::Hidden);
    world.call(caller, callee);
    world.run(MS(2000));
    assert!(world.nodes[callee].heard.is_some(), "{:?}", world.failure(caller));
}

// spec: RCH-24
#[test]
fn a_server_that_is_known_by_its_place_for_tunnels_alone_is_reached_by_one() {
    let (mut world, server, callee) = world([Nat::Cone; 2]);
    let unnamed = ServerAddress {
        addresses: Vec::new(),
        ..server
    };
    let caller = world.add_host(Nat::Cone, &[unnamed], Visibility::Hidden);
    world.call(caller, callee);
    world.run(MS(3000));
    assert!(world.nodes[callee].heard.is_some(), "{:?}", world.failure(caller));
    assert_eq!(world.over(caller), Some(Over::Tls));
    // It lasts, also when the tunnel ends.
    world.run(Duration::from_secs(100));
    world.cut_tunnels(caller);
    world.run(MS(3000));
    assert_eq!(world.over(caller), Some(Over::Tls));
}

// spec: RCH-8, RCH-11, RCH-24
#[test]
fn streams_go_on_about_two_seconds_after_a_server_is_back_however_long_it_was_away() {
    let mut all = Vec::new();
    for down in [3000, 12_000, 12_700, 21_900, 33_000, 60_000, 75_000] {
        for outage in [Outage::Told, Outage::Dark] {
            for (nats, is_offered) in [
                ([Nat::Blocked, Nat::Blocked], true),
                ([Nat::Blocked, Nat::Cone], true),
                ([Nat::Cone, Nat::Blocked], true),
                ([Nat::Symmetric, Nat::Symmetric], true),
                ([Nat::Symmetric, Nat::Symmetric], false),
            ] {
                let (mut world, server, callee) = world_of(nats, is_offered);
                let caller = world.add_host(nats[0], &[server], Visibility::Hidden);
                world.run(MS(5000));
                let stream = world.call(caller, callee);
                world.silence((caller, callee), stream, Duration::from_secs(20));
                let silence = world.restart_after(outage, MS(down), (caller, callee), stream);
                println!("{outage:?} for {down} ms, {nats:?}, {is_offered}: {silence:?}");
                assert!(silence < MS(2700), "{outage:?} for {down} ms, {nats:?}: {silence:?}");
                all.push(silence);
            }
        }
    }
    all.sort_unstable();
    println!("median {:?}, longest {:?}", all[all.len() / 2], all.last());
    assert!(all[all.len() / 2] < MS(1700), "{all:?}");
}

// spec: RCH-8, RCH-24
#[test]
fn a_server_that_is_away_is_asked_less_and_less_by_those_who_used_its_relay() {
    let (mut world, server, callee) = world([Nat::Symmetric; 2]);
    let caller = world.add_host(Nat::Symmetric, &[server], Visibility::Hidden);
    world.run(MS(5000));
    let stream = world.call(caller, callee);
    world.silence((caller, callee), stream, Duration::from_secs(20));
    world.nodes[0].nat = Nat::Blocked;
    world.tunnels.is_blocked = true;
    let at = world.nodes[0].address;
    let mut asked = [60, 540].map(|seconds| {
        (world.tunnels.ordered, _) = (0, world.wire.clear());
        world.run(Duration::from_secs(seconds));
        let leases = world.wire.iter().filter(|(_, to, bytes)| *to == at && bytes[0] == 0x8b);
        (leases.count(), world.tunnels.ordered)
    });
    println!("LEASEs, and tunnels, of two hosts in the first minute and in nine more: {asked:?}");
    asked = asked.map(|(leases, tunnels)| (leases / 2, tunnels / 2));
    let [first, others] = asked;
    assert!(
        (45..=90).contains(&first.0) && (40..=75).contains(&first.1),
        "{asked:?}"
    );
    assert!(
        (60..=300).contains(&others.0) && (60..=180).contains(&others.1),
        "{asked:?}"
    );
}
