//! Hosts whose routers let a port in for them.

use sss_proto::RouteClass;

use super::*;
use crate::{Proof, RegistrationState};

const PORT: u16 = 50_000;

impl World {
    /// The router of a host says that it lets a port in, and does so if `opens`.
    fn map(&mut self, n: usize, opens: bool) {
        let node = &mut self.nodes[n];
        node.forwarded = opens.then_some(PORT);
        let outside = SocketAddr::new(node.address.ip(), PORT);
        node.rendezvous.set_mapped(self.now, &mut node.host, &[outside]);
        node.wake = Some(self.now);
    }

    fn proof(&self, n: usize) -> Option<Proof> {
        match self.nodes[n].rendezvous.registrations()[0].state {
            RegistrationState::Registered { mapped, .. } => mapped.map(|(_, proof)| proof),
            _ => None,
        }
    }

    /// Packets that were sent to the port, but by servers.
    fn sent_to_port(&self) -> usize {
        let of_hosts = |from: &SocketAddr| self.owner(*from).is_some_and(|n| n >= self.servers);
        let all = self
            .wire
            .iter()
            .filter(|(from, to, _)| to.port() == PORT && of_hosts(from));
        all.count()
    }
}

// spec: RCH-15, RCH-26
#[test]
fn symmetric_nats_do_no_harm_where_one_of_them_lets_a_port_in() {
    for (is_callee, relay) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut world = World::new((50, 50));
        world.relay.0 = relay.then(RelayLimits::default);
        let server = world.add_server();
        let one = world.add_host(Nat::Symmetric, std::slice::from_ref(&server), Visibility::Hidden);
        let two = world.add_host(Nat::Symmetric, &[server], Visibility::Known);
        world.run(MS(5000));
        let mapped = if is_callee { two } else { one };
        world.map(mapped, true);
        world.run(MS(310));
        assert_eq!(
            world.proof(mapped),
            Some(Proof::Proven),
            "in three times the way to the server and back"
        );
        let began = world.now;
        world.call(one, two);
        world.run(MS(3000));
        let heard = world.nodes[two].heard.expect("the word arrives").since(began);
        assert!(heard <= MS(350), "{heard:?}, callee {is_callee}, relay {relay}");
        let classes = [one, two].map(|n| world.class(n));
        assert_eq!(
            classes,
            [Some(RouteClass::Direct); 2],
            "callee {is_callee}, relay {relay}"
        );
    }
}

// spec: RCH-26
#[test]
fn a_port_that_nothing_comes_through_is_told_to_nobody_and_does_no_harm() {
    let mut world = World::new((50, 50));
    world.relay.0 = Some(RelayLimits::default());
    let server = world.add_server();
    let one = world.add_host(Nat::Cone, std::slice::from_ref(&server), Visibility::Hidden);
    let two = world.add_host(Nat::Cone, &[server], Visibility::Known);
    world.run(MS(5000));
    world.map(two, false);
    world.run(MS(10_000));
    assert_eq!(world.proof(two), Some(Proof::Dead));
    let began = world.now;
    world.call(one, two);
    world.run(MS(3000));
    assert_eq!(world.nodes[two].heard.unwrap().since(began), MS(200), "as ever");
    assert_eq!((world.class(one), world.sent_to_port()), (Some(RouteClass::Direct), 0));
}

// spec: RCH-26
#[test]
fn a_port_that_is_lost_is_told_no_more_and_does_no_harm_meanwhile() {
    let mut world = World::new((50, 50));
    world.relay.0 = Some(RelayLimits::default());
    let server = world.add_server();
    let two = world.add_host(Nat::Cone, std::slice::from_ref(&server), Visibility::Known);
    world.run(MS(5000));
    world.map(two, true);
    world.run(MS(1000));
    assert_eq!(world.proof(two), Some(Proof::Proven));
    // The router lets nothing in any more, and says nothing of it.
    world.nodes[two].forwarded = None;
    let reached = |world: &mut World, server: &ServerAddress| {
        let one = world.add_host(Nat::Cone, std::slice::from_ref(server), Visibility::Hidden);
        world.run(MS(2000));
        world.nodes[two].heard = None;
        let began = world.now;
        world.call(one, two);
        world.run(MS(3000));
        assert_eq!(world.class(one), Some(RouteClass::Direct));
        world.nodes[two].heard.unwrap().since(began)
    };
    let took = reached(&mut world, &server);
    assert!(took <= MS(350), "{took:?}");
    assert!(world.sent_to_port() > 0, "it was still told");
    world.run(Duration::from_secs(310));
    assert_eq!(world.proof(two), Some(Proof::Dead));
    world.wire.clear();
    assert_eq!(reached(&mut world, &server), MS(200));
    assert_eq!(world.sent_to_port(), 0);
}

// spec: RCH-26
#[test]
fn a_server_that_was_restarted_has_the_port_proven_anew() {
    let mut world = World::new((10, 10));
    let server = world.add_server();
    let one = world.add_host(Nat::Symmetric, std::slice::from_ref(&server), Visibility::Hidden);
    let two = world.add_host(Nat::Symmetric, &[server], Visibility::Known);
    world.run(MS(5000));
    world.map(two, true);
    world.run(MS(1000));
    world.restart_server();
    world.run(Duration::from_secs(25));
    assert_eq!(world.proof(two), Some(Proof::Proven));
    world.call(one, two);
    world.run(MS(1000));
    assert!(world.nodes[two].heard.is_some(), "{:?}", world.failure(one));
}
