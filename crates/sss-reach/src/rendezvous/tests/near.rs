//! Hosts of one network, behind a router that lets no packet back in.

use sss_proto::RouteClass;

use super::*;
use crate::LocalAddress;

/// A network of 24 bits that two hosts are in, each at an address of its own.
pub(super) const NETWORK: [[u8; 4]; 2] = [[192, 168, 7, 10], [192, 168, 7, 20]];

/// Two hosts with the same outer address, at these inner ones.
fn behind_one_router(inner: [[u8; 4]; 2], delay: u64, relay: RelayUse) -> (World, usize, usize) {
    let mut world = World::new((delay, delay));
    world.relay = (Some(RelayLimits::default()), relay);
    let server = world.add_server();
    let one = world.add_host(Nat::Cone, std::slice::from_ref(&server), Visibility::Hidden);
    let two = world.add_host(Nat::Cone, &[server], Visibility::Known);
    put_behind_one_router(&mut world, [one, two], inner);
    world.run(MS(5000));
    (world, one, two)
}

/// Gives two hosts the same outer address, and these inner ones.
pub(super) fn put_behind_one_router(world: &mut World, hosts: [usize; 2], inner: [[u8; 4]; 2]) {
    let outer = world.nodes[hosts[0]].address.ip();
    for ((n, inner), port) in hosts.into_iter().zip(inner).zip(7000..) {
        let node = &mut world.nodes[n];
        let address = SocketAddr::from((inner, port));
        node.inner = Some(address);
        node.address = SocketAddr::new(outer, port);
        node.rendezvous.set_local(vec![LocalAddress { address, prefix: 24 }]);
    }
}

/// Packets that have gone to private addresses.
fn sent_inside(world: &World) -> usize {
    world.wire.iter().filter(|(_, to, _)| is_private(*to)).count()
}

// spec: RCH-42
#[test]
fn hosts_of_one_network_reach_each_other_after_two_delays_though_their_router_lets_nothing_back_in() {
    let (mut world, one, two) = behind_one_router(NETWORK, 50, RelayUse::Allowed);
    let began = world.now;
    let stream = world.call(one, two);
    world.run(MS(1000));
    assert_eq!(
        world.nodes[two].heard.unwrap().since(began),
        MS(100),
        "CONNECT and NOTIFY"
    );
    assert_eq!([one, two].map(|n| world.class(n)), [Some(RouteClass::Direct); 2]);
    let silence = world.silence((one, two), stream, MS(5000));
    assert!(silence < MS(100), "{silence:?}");
    // Neither the server nor anybody on the way reads the addresses.
    let inner = world.nodes[one].inner.unwrap();
    let told = sss_wire::reach::address_bytes(inner);
    assert!(!world.wire.iter().any(|(_, _, bytes)| contains(bytes, &told)));
}

// spec: RCH-42
#[test]
fn nothing_goes_to_candidates_of_other_networks() {
    let elsewhere = [NETWORK[0], [192, 168, 8, 20]];
    for (inner, relay) in [(elsewhere, RelayUse::Allowed), (NETWORK, RelayUse::Always)] {
        let (mut world, one, two) = behind_one_router(inner, 50, relay);
        world.call(one, two);
        world.run(MS(3000));
        assert!(world.nodes[two].heard.is_some());
        assert_eq!(sent_inside(&world), 0, "{inner:?}, {relay:?}");
    }
    // Nor if the two have other outer addresses, whatever the inner ones are.
    let (mut world, one, two) = behind_one_router(NETWORK, 50, RelayUse::Allowed);
    world.nodes[one].address = SocketAddr::from(([203, 0, 113, 1], 7000));
    world.nodes[one].nat = Nat::Symmetric;
    let node = &mut world.nodes[one];
    node.rendezvous.on_network_change(world.now, &mut node.host);
    node.wake = Some(world.now);
    world.run(MS(2000));
    world.call(one, two);
    world.run(MS(3000));
    assert!(world.nodes[two].heard.is_some());
    assert_eq!(sent_inside(&world), 0);
}
