//! More servers than a host leases at (RCH-43).

use super::*;
use crate::{LeaseAt, RegistrationState};

/// A world of so many servers.
fn servers(world: &mut World, count: usize) -> Vec<ServerAddress> {
    (0..count).map(|_| world.add_server()).collect()
}

/// Numbers of the servers at which a host has leases, as it says, the heaviest for it first.
fn leased(world: &World, n: usize) -> Vec<usize> {
    let is_leased = |state: &RegistrationState| matches!(state, RegistrationState::Registered { .. });
    let all = world.nodes[n].rendezvous.registrations();
    let leased = all.iter().filter(|one| is_leased(&one.state)).map(|one| one.server);
    let leased: Vec<Eid> = leased.collect();
    let ranking = ranking(world, n);
    let at = |number: &usize| leased.contains(&world.nodes[*number].host.eid());
    ranking.into_iter().filter(at).collect()
}

/// Numbers of all servers, the heaviest for a host first.
fn ranking(world: &World, n: usize) -> Vec<usize> {
    let server = |n: usize| ServerAddress {
        eid: world.nodes[n].host.eid(),
        addresses: Vec::new(),
        tls: None,
    };
    let all: Vec<_> = (0..world.servers).map(server).collect();
    let homes = Servers::new(&world.nodes[n].host.eid(), all.clone(), LeaseAt::Two);
    let number = |eid: &Eid| all.iter().position(|server| server.eid == *eid).unwrap();
    homes.ranking().iter().map(number).collect()
}

/// Leases that each server has.
fn leases(world: &World) -> Vec<u64> {
    let stats = |n: usize| world.nodes[n].rendezvous.server_stats().unwrap();
    (0..world.servers).map(|n| stats(n).leases).collect()
}

/// Servers to which a node has sent something since.
fn asked(world: &World, n: usize, since: usize) -> Vec<usize> {
    let own = world.nodes[n].address;
    let to: Vec<_> = world.wire[since..]
        .iter()
        .filter(|(from, ..)| *from == own)
        .map(|(_, to, _)| *to)
        .collect();
    (0..world.servers)
        .filter(|n| to.contains(&world.nodes[*n].address))
        .collect()
}

// spec: RCH-43
#[test]
fn a_host_leases_at_the_two_heaviest_and_a_caller_asks_those_of_the_callee_alone() {
    let mut world = World::new((50, 50));
    let mut all = servers(&mut world, 7);
    let two = world.add_host(Nat::Cone, &all, Visibility::Known);
    all.reverse();
    let one = world.add_host(Nat::Cone, &all, Visibility::Hidden);
    world.run(MS(20_000));
    let homes = ranking(&world, two)[..2].to_vec();
    let own = ranking(&world, one)[..2].to_vec();
    assert_eq!(leased(&world, two), homes);
    assert_eq!(leased(&world, one), own);
    assert_eq!(leases(&world).iter().sum::<u64>(), 4, "{:?}", leases(&world));
    let mut others: Vec<usize> = homes.iter().filter(|home| !own.contains(home)).copied().collect();
    others.sort_unstable();
    assert!(!others.is_empty(), "{homes:?}, {own:?}");

    let before = world.wire.len();
    let after = reach(&mut world, one, two, 3000).expect("the word arrives");
    // HELLO to the servers, REGISTER and CONNECT, NOTIFY, COOKIE, INITIATE.
    assert!(after <= MS(500), "{after:?}");
    let mut asked = asked(&world, one, before);
    asked.retain(|server| !own.contains(server));
    assert_eq!(asked, others);

    // Nobody finds the caller there, and it goes when it has no more to ask.
    assert_eq!(leases(&world).iter().sum::<u64>(), 4 + others.len() as u64);
    world.run(MS(90_000));
    assert_eq!(leases(&world).iter().sum::<u64>(), 4);
    assert_eq!(leased(&world, one), own);
    let idle = world.nodes[one].rendezvous.registrations();
    let idle = idle.iter().filter(|one| one.state == RegistrationState::Idle);
    assert_eq!(idle.count(), 5);
}

// spec: RCH-43
#[test]
fn whoever_asks_somewhere_is_not_found_there() {
    let mut world = World::new((50, 50));
    let all = servers(&mut world, 5);
    let two = world.add_host(Nat::None, &all, Visibility::Known);
    let one = world.add_host(Nat::None, &all, Visibility::Known);
    world.run(MS(5000));
    assert!(reach(&mut world, one, two, 3000).is_some());
    let homes = ranking(&world, one)[..2].to_vec();
    let visited = leased(&world, one).into_iter().find(|server| !homes.contains(server));
    let visited = visited.expect("the callee has another server");
    let third = world.add_host(Nat::None, &all[visited..=visited], Visibility::Hidden);
    world.run(MS(3000));
    assert_eq!(reach(&mut world, third, one, 12_000), None);
    let never_seen = NegotiationError::Unfound(Absence::NeverSeen);
    assert_eq!(world.failure(third), Some(never_seen));
}

// spec: RCH-43
#[test]
fn the_next_server_takes_the_place_of_one_that_is_silent_and_goes_when_that_is_back() {
    let mut world = World::new((50, 50));
    let all = servers(&mut world, 5);
    let two = world.add_host(Nat::None, &all, Visibility::Known);
    world.run(MS(5000));
    let ranking = ranking(&world, two);
    assert_eq!(leased(&world, two), ranking[..2]);
    for dead in &ranking[..2] {
        world.nodes[*dead].nat = Nat::Blocked;
    }
    world.run(MS(45_000));
    for server in &ranking[2..4] {
        assert_eq!(leases(&world)[*server], 1, "{server} of {ranking:?}");
    }
    let one = world.add_host(Nat::None, &all, Visibility::Hidden);
    // The first two are silent for 2 s.
    let after = reach(&mut world, one, two, 9000).expect("the word arrives");
    assert!(after >= MS(2000) && after <= MS(3000), "{after:?}");

    for dead in &ranking[..2] {
        world.nodes[*dead].nat = Nat::None;
    }
    world.run(MS(50_000));
    assert!(leased(&world, two).len() >= 4, "not at once");
    world.run(MS(90_000));
    assert_eq!(leased(&world, two), ranking[..2]);
    assert_eq!(
        leases(&world).iter().sum::<u64>(),
        4,
        "of two hosts: {:?}",
        leases(&world)
    );
    let three = world.add_host(Nat::None, &all, Visibility::Hidden);
    let after = reach(&mut world, three, two, 9000).expect("the word arrives");
    assert!(after <= MS(600), "{after:?}");
}

// spec: RCH-43
#[test]
fn a_server_that_does_not_take_the_host_is_replaced_at_once() {
    // Keys are the same in each world.
    let mut world = World::new((50, 50));
    servers(&mut world, 4);
    let two = world.add_host(Nat::None, &[], Visibility::Known);
    let order = ranking(&world, two);

    let mut world = World::new((50, 50));
    let first = order[0];
    let server = |world: &mut World, n| {
        let config = ServerConfig {
            allow: Some(Box::new(move |_| n != first)),
            ..ServerConfig::default()
        };
        let serve = Serve {
            is_restart: false,
            config,
            secret: [77; 32],
        };
        let config = RendezvousConfig {
            serve: Some(serve),
            ..RendezvousConfig::default()
        };
        let n = world.add(Nat::None, config);
        world.servers += 1;
        ServerAddress {
            eid: world.nodes[n].host.eid(),
            addresses: vec![world.nodes[n].address],
            tls: None,
        }
    };
    let all: Vec<_> = (0..4).map(|n| server(&mut world, n)).collect();
    let two = world.add_host(Nat::None, &all, Visibility::Known);
    world.run(MS(1000));
    assert_eq!(leased(&world, two), order[1..3]);
}

// spec: RCH-43
#[test]
fn where_lists_differ_the_others_are_asked_when_the_first_do_not_know_the_host() {
    let mut world = World::new((50, 50));
    let all = servers(&mut world, 6);
    let one = world.add_host(Nat::None, &all, Visibility::Hidden);
    let three = world.add_host(Nat::None, &all, Visibility::Hidden);
    // Keys are the same in each world.
    let mut other = World::new((50, 50));
    servers(&mut other, 8);
    other.servers = 6;
    let two = other.add_host(Nat::None, &[], Visibility::Known);
    let last = ranking(&other, two)[5];
    let two = world.add_host(Nat::None, &all[last..=last], Visibility::Known);
    world.run(MS(5000));
    for caller in [one, three] {
        let after = reach(&mut world, caller, two, 5000).expect("the word arrives");
        assert!(after <= MS(1000), "{after:?}");
    }
}

// spec: RCH-43
#[test]
fn a_lease_is_kept_where_the_relay_is_used() {
    let mut world = World::new((50, 50));
    world.relay = (Some(RelayLimits::default()), RelayUse::Always);
    let all = servers(&mut world, 6);
    let two = world.add_host(Nat::Cone, &all, Visibility::Known);
    let one = world.add_host(Nat::Cone, &all, Visibility::Hidden);
    world.run(MS(5000));
    assert!(reach(&mut world, one, two, 3000).is_some());
    let own = ranking(&world, one)[..2].to_vec();
    for _ in 0..5 {
        world.run(MS(60_000));
        let visited = leased(&world, one);
        assert!(visited.iter().any(|server| !own.contains(server)), "{visited:?}");
    }
}

// spec: RCH-20, RCH-43
#[test]
fn a_host_that_goes_while_servers_are_silent_waits_for_no_time_that_is_over() {
    let mut goes = 0;
    // The servers that are not there fall silent after four seconds, and those in their place later.
    for tenth in 35..50 {
        let mut world = World::new((50, 50));
        let mut all = servers(&mut world, 1);
        all.extend((200..203).map(|n| ServerAddress {
            eid: Eid::from_public_key(&[n; 32]),
            addresses: vec![format!("203.0.113.{n}:7757").parse().unwrap()],
            tls: None,
        }));
        let host = world.add_host(Nat::Cone, &all, Visibility::Known);
        world.run(MS(tenth * 100));
        let node = &mut world.nodes[host];
        goes += usize::from(!node.rendezvous.leave(world.now, &mut node.host));
        for _ in 0..60 {
            let node = &mut world.nodes[host];
            node.rendezvous.handle(world.now, &mut node.host, Input::Tick);
            world.turn(host);
            let wake = world.nodes[host].wake;
            assert!(wake.is_none_or(|at| at > world.now), "{wake:?} at {:?}", world.now);
            world.now = world.now + MS(10);
        }
    }
    assert!(goes > 0, "there was a lease");
}
