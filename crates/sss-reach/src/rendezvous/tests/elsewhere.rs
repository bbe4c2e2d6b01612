//! Servers that share a directory (RCH-44, RCH-45).

use sss_wire::reach::address_bytes;
use sss_wire::reach::records::Request;

use super::*;
use crate::StaleReferral;
use crate::server::{DirectoryAnswer, DirectoryOrder};

/// Entries that servers have in common.
#[derive(Default)]
pub(super) struct Store {
    entries: BTreeMap<Eid, Vec<u8>>,
    /// Nothing is answered, or done.
    is_silent: bool,
    /// Number of orders so far.
    orders: usize,
}

impl Store {
    fn obey(&mut self, order: DirectoryOrder) -> Option<DirectoryAnswer> {
        self.orders += 1;
        match order {
            _ if self.is_silent => None,
            DirectoryOrder::Find(eid) => Some(DirectoryAnswer::Found(eid, self.entries.get(&eid).cloned())),
            DirectoryOrder::List(search) => {
                let all = self.entries.iter().map(|(eid, entry)| (*eid, entry.clone()));
                Some(DirectoryAnswer::Listed(search, all.collect(), false))
            }
            DirectoryOrder::Put { eid, entry, .. } => {
                self.entries.insert(eid, entry);
                None
            }
            DirectoryOrder::Remove { eid, begin } => {
                self.entries
                    .retain(|other, entry| *other != eid || !entry.starts_with(&begin));
                None
            }
        }
    }
}

impl World {
    /// Does what servers want of their directory. Returns whether one was answered.
    pub(super) fn obey_directory(&mut self, n: usize) -> bool {
        let (Some(store), node) = (&mut self.directory, &mut self.nodes[n]) else {
            return false;
        };
        let rendezvous = &mut node.rendezvous;
        let orders = std::iter::from_fn(|| rendezvous.poll_directory_order(self.now));
        let mut answers: Vec<_> = orders.filter_map(|order| store.obey(order)).collect();
        if let Some((_, other)) = self.chain.as_ref().filter(|(server, _)| *server == n) {
            for answer in &mut answers {
                if let DirectoryAnswer::Found(_, entry) = answer {
                    *entry = Some(other.clone());
                }
            }
        }
        let has_answers = !answers.is_empty();
        node.rendezvous.on_directory(self.now, &mut node.host, answers);
        has_answers
    }

    fn tell_servers(&mut self, answer: &DirectoryAnswer) {
        for node in &mut self.nodes[..self.servers] {
            node.rendezvous
                .on_directory(self.now, &mut node.host, vec![answer.clone()]);
            node.wake = Some(self.now);
        }
    }

    fn store(&mut self) -> &mut Store {
        self.directory.as_mut().unwrap()
    }
}

/// A world of so many servers with a directory.
fn servers(count: usize) -> (World, Vec<ServerAddress>) {
    let mut world = World::new((50, 50));
    world.directory = Some(Store::default());
    let all: Vec<_> = (0..count).map(|_| world.add_server()).collect();
    for node in &mut world.nodes {
        node.rendezvous.open_directory(&node.host, node.address);
    }
    world.tell_servers(&DirectoryAnswer::Up);
    (world, all)
}

/// A caller that knows the first server, and a host that knows the second.
fn apart(count: usize) -> (World, usize, usize, Vec<ServerAddress>) {
    let (mut world, all) = servers(count);
    let one = world.add_host(Nat::Cone, &all[..1], Visibility::Hidden);
    let two = world.add_host(Nat::Cone, &all[1..2], Visibility::Known);
    world.run(MS(5000));
    (world, one, two, all)
}

fn entry(server: &Eid, address: SocketAddr) -> Vec<u8> {
    let register = Request::Register(Register {
        visibility: Visibility::Known,
        ..Register::default()
    });
    [
        vec![1],
        server.as_bytes().to_vec(),
        address_bytes(address).to_vec(),
        register.encode(),
    ]
    .concat()
}

fn failure_of(world: &World, n: usize, peer: usize) -> Option<StaleReferral> {
    let eid = world.nodes[peer].host.eid();
    world.nodes[n].rendezvous.referral(&eid).and_then(|told| told.failure)
}

// spec: RCH-44
#[test]
fn a_host_is_found_by_whoever_knows_another_server_that_shares_the_directory() {
    let (mut world, one, two, all) = apart(3);
    let after = reach(&mut world, one, two, 3000).expect("the word arrives");
    // CONNECT and FOUND; HELLO to the other server; REGISTER and CONNECT, NOTIFY; COOKIE, INITIATE.
    assert!(after <= MS(600), "{after:?}");
    let eid = world.nodes[two].host.eid();
    assert_eq!(world.nodes[one].rendezvous.found_by(&eid), [all[1].eid]);
    let referral = world.nodes[one].rendezvous.referral(&eid).unwrap();
    assert_eq!(
        (referral.by, referral.server, referral.failure),
        (all[0].eid, all[1].eid, None)
    );
    // It is asked for this, and forgotten: nobody is told of it.
    let stats = |world: &World, n: usize| world.nodes[n].rendezvous.server_stats().unwrap();
    assert_eq!(stats(&world, 1).leases, 2);
    assert_eq!(world.nodes[one].rendezvous.registrations().len(), 1);
    world.run(MS(90_000));
    assert_eq!(stats(&world, 1).leases, 1);
    assert_eq!(stats(&world, 0).leases, 1);
    assert_eq!(stats(&world, 0).directory.referred, 1);
}

// spec: RCH-44
#[test]
fn entries_are_renewed_at_a_bounded_pace_and_go_with_the_host() {
    let (mut world, _, two, all) = apart(2);
    let eid = world.nodes[two].host.eid();
    assert_eq!(world.store().entries[&eid][1..34], *all[1].eid.as_bytes());
    let before = world.store().orders;
    world.run(MS(600_000));
    let orders = world.store().orders - before;
    assert!((8..=11).contains(&orders), "{orders} in ten minutes");
    let node = &mut world.nodes[two];
    let _ = node.rendezvous.leave(world.now, &mut node.host);
    node.wake = Some(world.now);
    world.run(MS(1000));
    assert!(world.store().entries.is_empty());
}

// spec: RCH-45
#[test]
fn without_the_directory_own_hosts_are_served_and_others_are_found_when_it_is_back() {
    let (mut world, one, two, all) = apart(2);
    let three = world.add_host(Nat::Cone, &all[..1], Visibility::Known);
    world.run(MS(5000));
    world.tell_servers(&DirectoryAnswer::Down);
    let orders = world.store().orders;
    assert!(reach(&mut world, one, three, 3000).is_some());
    assert_eq!(reach(&mut world, one, two, 12_000), None);
    let never_seen = NegotiationError::Unfound(Absence::NeverSeen);
    assert_eq!(world.failure(one), Some(never_seen.clone()));
    assert_eq!(world.store().orders, orders);
    // It comes back, and knows nothing.
    *world.store() = Store::default();
    world.tell_servers(&DirectoryAnswer::Up);
    world.run(MS(2000));
    assert!(reach(&mut world, one, two, 3000).is_some());
}

// spec: RCH-45
#[test]
fn a_directory_that_says_nothing_holds_nobody_up_for_longer_than_a_second() {
    let (mut world, one, two, all) = apart(2);
    let three = world.add_host(Nat::Cone, &all[..1], Visibility::Known);
    world.run(MS(5000));
    world.store().is_silent = true;
    assert!(reach(&mut world, one, three, 3000).is_some());
    let began = world.now;
    assert_eq!(reach(&mut world, one, two, 12_000), None);
    let never_seen = NegotiationError::Unfound(Absence::NeverSeen);
    assert_eq!(world.failure(one), Some(never_seen));
    let failed = world.nodes[one].events.last().unwrap().0;
    assert!(failed.since(began) <= MS(1500), "{:?}", failed.since(began));
    assert!(world.nodes[0].rendezvous.server_stats().unwrap().directory.unanswered >= 1);
}

// spec: RCH-44
#[test]
fn what_is_stale_is_said_to_be_and_replaced_when_the_host_leases_elsewhere() {
    let (mut world, one, two, all) = apart(3);
    let eid = world.nodes[two].host.eid();
    // The server that is named is dead.
    world.nodes[1].nat = Nat::Blocked;
    assert_eq!(reach(&mut world, one, two, 12_000), None);
    assert_eq!(failure_of(&world, one, two), Some(StaleReferral::Silent));
    // Another one is named that does not know the host.
    let wrong = entry(&all[2].eid, all[2].addresses[0]);
    world.store().entries.insert(eid, wrong);
    assert_eq!(reach(&mut world, one, two, 12_000), None);
    assert_eq!(failure_of(&world, one, two), Some(StaleReferral::Unknown));
    // The host leases there.
    world.nodes.truncate(two);
    let again = world.add_host(Nat::Cone, &all[2..], Visibility::Known);
    assert_eq!((again, world.nodes[again].host.eid()), (two, eid));
    world.run(MS(3000));
    assert!(reach(&mut world, one, two, 5000).is_some());
    assert_eq!(failure_of(&world, one, two), None);
}

// spec: RCH-14, RCH-44, RCH-45
#[test]
fn a_directory_that_lies_sends_nobody_to_the_local_network_nor_from_one_server_to_the_next() {
    let (mut world, one, two, all) = apart(3);
    let eid = world.nodes[two].host.eid();
    let own = world.nodes[one].host.eid();
    for address in ["127.0.0.1:7000", "10.1.2.3:7000", "169.254.1.1:7000", "[::1]:7000"] {
        let address: SocketAddr = address.parse().unwrap();
        let lie = entry(&all[2].eid, address);
        world.store().entries.insert(eid, lie);
        world.run(MS(3000));
        assert_eq!(reach(&mut world, one, two, 12_000), None);
        assert_eq!(failure_of(&world, one, two), Some(StaleReferral::Address), "{address}");
        assert!(world.wire.iter().all(|(_, to, _)| *to != address));
    }
    let good = world.nodes[2].address;
    let mut malformed = entry(&all[2].eid, good);
    malformed.push(0);
    let nowhere = entry(&all[2].eid, "0.0.0.0:0".parse().unwrap());
    let multicast = entry(&all[2].eid, "224.0.0.251:5353".parse().unwrap());
    // The server itself, and the caller.
    let [itself, caller] = [&all[0].eid, &own].map(|eid| entry(eid, good));
    for lie in [vec![], vec![2; 90], malformed, nowhere, multicast, itself, caller] {
        world.run(MS(3000));
        world.store().entries.insert(eid, lie.clone());
        let before = world.wire.len();
        assert_eq!(reach(&mut world, one, two, 12_000), None, "{lie:?}");
        let of_one = world.nodes[one].address;
        let mut sent = world.wire[before..].iter().filter(|(from, ..)| *from == of_one);
        assert!(sent.all(|(_, to, _)| *to == world.nodes[0].address), "{lie:?}");
    }
    assert!(world.nodes[0].rendezvous.server_stats().unwrap().directory.malformed >= 5);

    // One that is named names another one in turn: the first may not be asked again.
    let (mut world, one, two, all) = apart(3);
    let mut chain = Store::default();
    let first = entry(&all[2].eid, all[2].addresses[0]);
    chain.entries.insert(eid, first);
    world.directory = Some(chain);
    world.chain = Some((2, entry(&all[1].eid, all[1].addresses[0])));
    assert_eq!(world.nodes[two].host.eid(), eid);
    let before = world.wire.len();
    assert_eq!(reach(&mut world, one, two, 12_000), None);
    assert_eq!(failure_of(&world, one, two), Some(StaleReferral::Chain));
    let (of_one, of_second) = (world.nodes[one].address, world.nodes[1].address);
    let mut sent = world.wire[before..].iter();
    assert!(sent.all(|(from, to, _)| *from != of_one || *to != of_second));
}
