//! Time to the first byte, in one-way delays, in many runs that differ.

use super::*;
use crate::RegistrationState;

/// Hosts whose first byte is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// The caller knows the address, and there is no NAT.
    Address,
    /// Both are behind NATs and registered.
    Registered,
    /// The caller has just started, and calls at once.
    Cold,
    /// Both are in one network, behind a router that lets nothing back in.
    Near,
    /// Nothing passes but by the relay.
    Relayed,
    /// The same, and the caller has just started.
    RelayedCold,
    /// Both have tunnels.
    Tunnels,
}

impl Case {
    const ALL: [Self; 7] = [
        Self::Address,
        Self::Registered,
        Self::Cold,
        Self::Near,
        Self::Relayed,
        Self::RelayedCold,
        Self::Tunnels,
    ];

    /// Time until the first byte is there, of one-way delays to the server and between the hosts.
    fn formula(self, (s, d): (Duration, Duration)) -> Duration {
        match self {
            // The server is asked at the same time.
            Self::Address => (d * 3).min(s * 2 + d * 2),
            Self::Registered => s * 2 + d * 2,
            Self::Cold => s * 4 + d * 2,
            Self::Near => s * 2,
            Self::Relayed | Self::Tunnels => s * 6,
            Self::RelayedCold => s * 8,
        }
    }

    fn nats(self) -> [Nat; 2] {
        match self {
            Self::Address => [Nat::None; 2],
            Self::Registered | Self::Cold | Self::Near => [Nat::Cone; 2],
            Self::Relayed | Self::RelayedCold => [Nat::Symmetric; 2],
            Self::Tunnels => [Nat::Blocked; 2],
        }
    }

    /// Hosts of one run, which is like no other: delays, keys, times.
    fn world(self, run: u64, percent: u64) -> (World, usize, usize) {
        let drawn = |what: u64, from: u64, to: u64| from + mix(run * 8 + what) % (to - from);
        let mut world = World::new((drawn(0, 1, 100), drawn(1, 1, 100)));
        world.now = world.now + MS(drawn(2, 0, 1_000_000)) + Duration::from_nanos(drawn(3, 0, 1_000_000));
        world.sent = mix(run) >> 8;
        world.seed = run;
        world.loss = (100, percent);
        world.relay.0 = matches!(self, Self::Relayed | Self::RelayedCold | Self::Tunnels).then(RelayLimits::default);
        world.tunnels.is_offered = self == Self::Tunnels;
        let server = world.add_server();
        let is_cold = matches!(self, Self::Cold | Self::RelayedCold);
        let warm = |world: &mut World| {
            let one = world.add_host(self.nats()[0], std::slice::from_ref(&server), Visibility::Hidden);
            (one, world.now)
        };
        // Nodes have numbers in the order in which they are added.
        let one = (!is_cold).then(|| warm(&mut world).0);
        let two = world.add_host(self.nats()[1], std::slice::from_ref(&server), Visibility::Known);
        if let (Self::Near, Some(one)) = (self, one) {
            near::put_behind_one_router(&mut world, [one, two], near::NETWORK);
        }
        world.run(MS(drawn(4, 10_000, 60_000)));
        // Where packets are lost, that may take longer.
        while [one, Some(two)].into_iter().flatten().any(|n| !world.is_registered(n)) {
            world.run(MS(1000));
        }

        let one = one.unwrap_or_else(|| warm(&mut world).0);
        (world, one, two)
    }

    /// Time until the first byte is there, the formula's, and the number of calls that it took.
    fn first_byte(self, run: u64, percent: u64) -> (Duration, Duration, usize) {
        let (mut world, one, two) = self.world(run, percent);
        let began = world.now;
        let hints = match self {
            Self::Address => vec![Route::udp(world.nodes[two].address)],
            _ => Vec::new(),
        };
        let eid = world.nodes[two].host.eid();
        let mut calls = 0;
        while world.nodes[two].heard.is_none() {
            assert!(
                world.now.since(began) < Duration::from_secs(60),
                "{self:?}, run {run}, {percent} % lost"
            );
            // Whoever was not found in time is asked for again, as the tool does.
            let has_failed =
                |(_, event): &(Instant, Event)| matches!(event, Event::Disconnected(_, of, _) if *of == eid);
            let node = &mut world.nodes[one];
            if calls == 0 || node.events.iter().any(has_failed) {
                calls += 1;
                node.events.clear();
                let stream = node.host.connect(world.now, eid, ECHO, &hints).unwrap();
                let _ = node.host.stream(stream).poll_write(b"hello");
                node.wake = Some(world.now);
            }
            world.run(MS(100));
        }
        let took = world.nodes[two].heard.map(|at| at.since(began)).unwrap();
        (took, self.formula(world.delays), calls)
    }
}

impl World {
    fn is_registered(&self, n: usize) -> bool {
        let all = self.nodes[n].rendezvous.registrations();
        let is_leased = |state: &RegistrationState| matches!(state, RegistrationState::Registered { .. });
        all.iter().all(|registration| is_leased(&registration.state))
    }
}

/// Runs of each case; more by `SSS_REACH_RUNS`, as docs/soak.md has it.
fn runs() -> u64 {
    std::env::var("SSS_REACH_RUNS").map_or(25, |runs| runs.parse().expect("a number of runs"))
}

// spec: RCH-11, RCH-12, RCH-16, RCH-24, RCH-41
#[test]
fn the_first_byte_is_there_after_as_many_delays_as_the_table_says() {
    for case in Case::ALL {
        for run in 0..runs() {
            let (took, expected, _) = case.first_byte(run, 0);
            assert_eq!(took, expected, "{case:?}, run {run}");
        }
    }
}

// spec: NEG-15, RCH-11, RCH-41
#[test]
fn with_loss_each_of_many_runs_connects() {
    println!("| lost | case | p50 | p99 | most | called twice |\n|--:|---|--:|--:|--:|--:|");
    for percent in [1, 5, 20] {
        for case in Case::ALL {
            let (mut later, mut again) = (Vec::new(), 0);
            for run in 0..runs() {
                let (took, expected, calls) = case.first_byte(run, percent);
                later.push(took.saturating_sub(expected).as_millis());
                again += usize::from(calls > 1);
            }
            later.sort_unstable();
            let at = |percent: usize| later[(later.len() - 1) * percent / 100];
            let [p50, p99, most] = [50, 99, 100].map(at);
            println!("| {percent} % | {case:?} | {p50} | {p99} | {most} | {again} |");
        }
    }
}
