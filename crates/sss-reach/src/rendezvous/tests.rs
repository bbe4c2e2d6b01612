//! Hosts as they are, on a network with delays and NATs that is made here.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bytes::BytesMut;
use sss_crypto::StaticKey;
use sss_proto::{
    Absence, Batch, CloseReason, Config, Ecn, Link, ListenerId, NegotiationError, ReadOutcome, Route, SocketId,
    StreamId,
};
use sss_wire::reach::records::Visibility;

use super::*;
use crate::server::RelayLimits;

mod counts;
mod elsewhere;
mod many;
mod mapped;
mod near;
mod relayed;
mod spray;
mod tunnels;

/// Kinds of NATs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nat {
    None,
    /// One port for all; lets in whom something was sent to (address and port).
    Cone,
    /// Another port for each destination; lets in as `Cone` does.
    Symmetric,
    /// As `Symmetric`, with ports at random.
    Random,
    /// As `Cone`, with one port at random.
    ConeRandom,
    /// Nothing passes by UDP.
    Blocked,
    /// UDP passes from it, and not to it.
    Outward,
}

struct Node {
    host: Host,
    rendezvous: Rendezvous,
    address: SocketAddr,
    /// Its address within the network behind its router, which it shares with those that have the same outer address.
    inner: Option<SocketAddr>,
    nat: Nat,
    /// The port towards each destination, and whom something was sent to from it.
    mapped: BTreeMap<SocketAddr, u16>,
    /// The same of its further sockets.
    further: BTreeMap<(SocketId, SocketAddr), u16>,
    /// A port of the NAT that lets everybody in.
    forwarded: Option<u16>,
    listener: Option<ListenerId>,
    /// Events so far, and when they came.
    events: Vec<(Instant, Event)>,
    wake: Option<Instant>,
    /// The time of the first byte from an application.
    heard: Option<Instant>,
}

impl Node {
    /// A datagram has got through to it.
    fn receive(&mut self, now: Instant, link: Link, bytes: &[u8]) {
        let mut data = BytesMut::from(bytes);
        let batch = Batch {
            stride: data.len(),
            data: &mut data,
            lent: &mut None,
            link,
            local: None,
            ecn: Ecn::NotEct,
        };
        self.rendezvous.handle(now, &mut self.host, Input::Datagrams(batch));
    }
}

type Flight = (SocketAddr, SocketAddr, Vec<u8>);

struct World {
    now: Instant,
    nodes: Vec<Node>,
    flying: BTreeMap<(Instant, u64), Flight>,
    sent: u64,
    /// One-way delays between the servers and others, and between others.
    delays: (Duration, Duration),
    servers: usize,
    /// Everything that was sent: the source as others see it, and the bytes.
    wire: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    loss: (u64, u64),
    /// Limits of the servers' relays, and use that hosts make of them, for those that are added.
    relay: (Option<RelayLimits>, RelayUse),
    /// Pairs of nodes, one of each of which cannot send to the other.
    cut: Vec<(usize, usize)>,
    /// A node that cannot send to another, which can send to it.
    cut_one_way: Option<(usize, usize)>,
    /// A node that is so much farther from the servers.
    far: (usize, Duration),
    tunnels: tunnels::Tunnels,
    sockets: spray::Sockets,
    /// The directory that servers share.
    directory: Option<elsewhere::Store>,
    /// A server to which the directory says something else of each host.
    chain: Option<(usize, Vec<u8>)>,
    /// Number of the run, where keys and random numbers are to be others in each.
    seed: u64,
}

const ECHO: (&str, &str) = ("echo", "echo/1");
const MS: fn(u64) -> Duration = Duration::from_millis;

impl World {
    fn new(delays: (u64, u64)) -> Self {
        Self {
            now: Instant::from_nanos(1_000_000_000_000),
            nodes: Vec::new(),
            flying: BTreeMap::new(),
            sent: 0,
            delays: (MS(delays.0), MS(delays.1)),
            servers: 0,
            wire: Vec::new(),
            loss: (0, 0),
            relay: (None, RelayUse::Allowed),
            cut: Vec::new(),
            cut_one_way: None,
            far: (0, Duration::ZERO),
            tunnels: tunnels::Tunnels::default(),
            sockets: spray::Sockets::default(),
            directory: None,
            chain: None,
            seed: 0,
        }
    }

    fn address(n: usize) -> SocketAddr {
        SocketAddr::from(([198, 51, 100, u8::try_from(n).unwrap()], 7000))
    }

    fn add(&mut self, nat: Nat, config: RendezvousConfig) -> usize {
        let n = self.nodes.len();
        let mut seed = [u8::try_from(n + 1).unwrap(); 32];
        seed[..8]
            .iter_mut()
            .zip(self.seed.to_be_bytes())
            .for_each(|(byte, more)| *byte ^= more);
        let mut core = Config::default();
        core.seeks = true;
        let mut host = Host::new(core, StaticKey::from_bytes(seed), seed);
        let rendezvous = Rendezvous::new(self.now, config, &mut host, &seed).unwrap();
        self.nodes.push(Node {
            host,
            rendezvous,
            address: Self::address(n + 1),
            inner: None,
            nat,
            mapped: BTreeMap::new(),
            further: BTreeMap::new(),
            forwarded: None,
            listener: None,
            events: Vec::new(),
            wake: Some(self.now),
            heard: None,
        });
        n
    }

    fn add_server(&mut self) -> ServerAddress {
        let serve = Serve {
            is_restart: false,
            config: ServerConfig {
                relay: self.relay.0,
                ..ServerConfig::default()
            },
            secret: [77; 32],
        };
        let n = self.add(
            Nat::None,
            RendezvousConfig {
                serve: Some(serve),
                ..RendezvousConfig::default()
            },
        );
        if self.sockets.has_other_port {
            self.nodes[n].rendezvous.set_other_port(spray::OTHER_PORT);
        }
        self.servers += 1;
        assert_eq!(self.servers, n + 1, "servers come first");
        ServerAddress {
            eid: self.nodes[n].host.eid(),
            addresses: vec![self.nodes[n].address],
            tls: self.tunnels.is_offered.then(|| "tls".to_owned()),
        }
    }

    /// The server is another run, which knows nothing of the one before.
    fn restart_server(&mut self) {
        let serve = Serve {
            is_restart: true,
            config: ServerConfig {
                relay: self.relay.0,
                ..ServerConfig::default()
            },
            secret: [77; 32],
        };
        let mut core = Config::default();
        core.seeks = true;
        let mut host = Host::new(core, StaticKey::from_bytes([1; 32]), [99; 32]);
        let config = RendezvousConfig {
            serve: Some(serve),
            ..RendezvousConfig::default()
        };
        let node = &mut self.nodes[0];
        node.rendezvous = Rendezvous::new(self.now, config, &mut host, &[99; 32]).unwrap();
        node.host = host;
        node.nat = Nat::None;
        node.wake = Some(self.now);
    }

    fn add_host(&mut self, nat: Nat, servers: &[ServerAddress], visibility: Visibility) -> usize {
        let register = Register {
            visibility,
            ..Register::default()
        };
        let n = self.add(
            nat,
            RendezvousConfig {
                servers: servers.to_vec(),
                lease_at: LeaseAt::Two,
                register,
                relay: self.relay.1,
                spraying: self.sockets.spraying,
                has_turn: false,
                serve: None,
                searches_lan: false,
            },
        );
        self.nodes[n].listener = Some(self.nodes[n].host.listen(ECHO.0, ECHO.1).unwrap());
        self.accept(n);
        n
    }

    fn delay(&self, from: usize, to: usize) -> Duration {
        let is_far = self.far.0 == from || self.far.0 == to;
        match from < self.servers || to < self.servers {
            true if is_far => self.delays.0 + self.far.1,
            true => self.delays.0,
            false => self.delays.1,
        }
    }

    fn owner(&self, address: SocketAddr) -> Option<usize> {
        let is_it = |node: &Node| node.address == address || node.inner == Some(address);
        let exact = self.nodes.iter().position(is_it);
        exact.or_else(|| self.nodes.iter().position(|node| node.address.ip() == address.ip()))
    }

    /// Sends a datagram within a network, or to its router's outer address, which leads nowhere. Returns false if it
    /// goes elsewhere.
    fn send_inside(&mut self, from: usize, to: SocketAddr, bytes: &[u8]) -> bool {
        let sender = &self.nodes[from];
        let Some(inner) = sender.inner else {
            return false;
        };
        let is_there = |node: &Node| node.inner == Some(to) && node.address.ip() == sender.address.ip();
        let is_there = self.nodes.iter().any(is_there);
        let goes_out = to.ip() != sender.address.ip() && !is_private(to);
        if !goes_out {
            self.wire.push((inner, to, bytes.to_vec()));
        }
        if is_there {
            self.sent += 1;
            self.flying.insert((self.now, self.sent), (inner, to, bytes.to_vec()));
        }
        !goes_out
    }

    fn send(&mut self, from: usize, to: SocketAddr, bytes: Vec<u8>) {
        self.send_from(from, None, to, bytes);
    }

    fn send_from(&mut self, from: usize, socket: Option<SocketId>, to: SocketAddr, bytes: Vec<u8>) {
        if self.nodes[from].nat == Nat::Blocked || self.send_inside(from, to, &bytes) {
            return;
        }
        let port = self.port_outside(from, socket, to);
        let source = SocketAddr::new(self.nodes[from].address.ip(), port);
        self.wire.push((source, to, bytes.clone()));
        self.sent += 1;
        let (of, lost) = self.loss;
        if of > 0 && mix(self.sent) % of < lost {
            return;
        }
        let Some(other) = self.owner(to) else {
            return;
        };
        let of_both = |pair: &(usize, usize)| *pair == (from, other) || *pair == (other, from);
        if self.cut.iter().any(of_both) || self.cut_one_way == Some((from, other)) {
            return;
        }
        let at = self.now + self.delay(from, other);
        self.flying.insert((at, self.sent), (source, to, bytes));
    }

    fn deliver(&mut self, (mut from, to, bytes): Flight) {
        let Some(n) = self.owner(to) else {
            return;
        };
        if let Some(socket) = self.socket_at(n, from, to) {
            self.nodes[n].receive(self.now, Link::Socket(socket, from), &bytes);
            self.nodes[n].wake = Some(self.now);
            return;
        }
        let node = &mut self.nodes[n];
        if node.inner == Some(to) {
            node.receive(self.now, Link::Udp(from), &bytes);
            node.wake = Some(self.now);
            return;
        }
        let lets_in = match node.nat {
            Nat::None => node.address.port() == to.port(),
            Nat::Blocked | Nat::Outward => false,
            _ => node.mapped.get(&from) == Some(&to.port()),
        };
        if !lets_in && node.forwarded != Some(to.port()) {
            return;
        }
        if !lets_in {
            // Replies leave from there; whoever is known already comes from another port.
            match *node.mapped.entry(from).or_insert(to.port()) == to.port() {
                true => {}
                false => from.set_port(from.port() ^ 1),
            }
        }
        node.receive(self.now, Link::Udp(from), &bytes);
        node.wake = Some(self.now);
    }

    /// Lets a host do what it has to do.
    fn turn(&mut self, n: usize) {
        let mut buf = TransmitBuf::new(1);
        loop {
            let node = &mut self.nodes[n];
            match node.rendezvous.poll(self.now, &mut node.host, &mut buf) {
                Output::Transmit(transmit) => {
                    for datagram in buf.filled().chunks(transmit.segment) {
                        match transmit.link {
                            Link::Udp(address) => self.send(n, address, datagram.to_vec()),
                            Link::Socket(id, address) => self.send_from(n, Some(id), address, datagram.to_vec()),
                            Link::Turn(..) => {}
                            Link::Tunnel(_) => self.send_through(n, transmit.link, datagram.to_vec()),
                        }
                    }
                }
                Output::Event(event) => {
                    node.events.push((self.now, event.clone()));
                    match event {
                        Event::Acceptable(_) => self.accept(n),
                        Event::Ready(stream, _) => self.read(n, stream),
                        _ => {}
                    }
                }
                Output::Wake(at) => {
                    node.wake = at;
                    self.obey(n);
                    if self.obey_sockets(n) || self.obey_directory(n) {
                        continue;
                    }
                    return;
                }
            }
        }
    }

    fn accept(&mut self, n: usize) {
        let Some(listener) = self.nodes[n].listener else {
            return;
        };
        while let Some((stream, _)) = self.nodes[n].host.accept(listener) {
            self.read(n, stream);
        }
    }

    fn read(&mut self, n: usize, stream: StreamId) {
        let node = &mut self.nodes[n];
        while let std::task::Poll::Ready(Ok(outcome)) = node.host.stream(stream).poll_read(self.now, 100) {
            match outcome {
                ReadOutcome::Chunk(_) => node.heard = node.heard.or(Some(self.now)),
                ReadOutcome::Mark => {}
                ReadOutcome::End => break,
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = (0..self.nodes.len()).find(|n| self.nodes[*n].wake.is_some_and(|at| at <= self.now));
            if let Some(n) = due {
                self.nodes[n].wake = None;
                let node = &mut self.nodes[n];
                node.rendezvous.handle(self.now, &mut node.host, Input::Tick);
                self.turn(n);
                continue;
            }
            if let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let flight = entry.remove();
                self.deliver(flight);
                continue;
            }
            if self.step_tunnels() {
                continue;
            }
            let next = self.nodes.iter().filter_map(|node| node.wake).min();
            let next = next
                .into_iter()
                .chain(self.flying.keys().next().map(|(at, _)| *at))
                .chain(self.tunnels.next())
                .min();
            match next.filter(|at| *at < end) {
                Some(at) => self.now = at,
                None => break,
            }
        }
        self.now = end;
    }

    /// Opens a stream by the EID alone, and says a word on it.
    fn call(&mut self, from: usize, to: usize) -> StreamId {
        let eid = self.nodes[to].host.eid();
        self.call_eid(from, eid)
    }

    fn call_eid(&mut self, from: usize, eid: Eid) -> StreamId {
        let node = &mut self.nodes[from];
        let stream = node.host.connect(self.now, eid, ECHO, &[]).unwrap();
        let _ = node.host.stream(stream).poll_write(b"hello");
        node.wake = Some(self.now);
        stream
    }

    /// The reason why the latest attempt of a host has failed.
    fn failure(&self, n: usize) -> Option<NegotiationError> {
        self.nodes[n].events.iter().rev().find_map(|(_, event)| match event {
            Event::Disconnected(_, _, CloseReason::Negotiation(error)) => Some(error.clone()),
            _ => None,
        })
    }
}

fn is_private(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V4(ip) if ip.is_private())
}

/// SplitMix64 (Steele, Lea, Flood, 2014): which packets are lost.
fn mix(n: u64) -> u64 {
    let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 31)
}

fn pair(nats: [Nat; 2], delays: (u64, u64)) -> (World, usize, usize) {
    let mut world = World::new(delays);
    let server = world.add_server();
    let one = world.add_host(nats[0], std::slice::from_ref(&server), Visibility::Hidden);
    let two = world.add_host(nats[1], &[server], Visibility::Known);
    world.run(MS(5000));
    (world, one, two)
}

// spec: RCH-12, RCH-15
#[test]
fn hosts_behind_nats_reach_each_other_by_their_names_alone() {
    for nats in [
        [Nat::None; 2],
        [Nat::Cone, Nat::None],
        [Nat::None, Nat::Cone],
        [Nat::Cone; 2],
    ] {
        let (mut world, one, two) = pair(nats, (50, 50));
        let began = world.now;
        world.call(one, two);
        world.run(MS(3000));
        let heard = world.nodes[two].heard.expect("the word arrives");
        // CONNECT and NOTIFY, COOKIE, INITIATE: with the post-quantum leg, which is required by default.
        assert_eq!(heard.since(began), MS(200), "{nats:?}");
    }
}

// spec: RCH-15
#[test]
fn where_a_punch_comes_from_is_where_a_symmetric_nat_is_open() {
    for (nats, ms) in [([Nat::Symmetric, Nat::None], 350), ([Nat::None, Nat::Symmetric], 200)] {
        let (mut world, one, two) = pair(nats, (50, 50));
        let began = world.now;
        world.call(one, two);
        world.run(MS(3000));
        let heard = world.nodes[two].heard.expect("the word arrives");
        assert_eq!(heard.since(began), MS(ms), "{nats:?}");
    }
}

// spec: RCH-20
#[test]
fn a_host_that_goes_gives_its_leases_up_and_waits_half_a_second_at_most() {
    let (mut world, one, two) = pair([Nat::None; 2], (50, 50));
    let leave = |world: &mut World, n: usize| {
        let node = &mut world.nodes[n];
        let is_over = node.rendezvous.leave(world.now, &mut node.host);
        node.wake = Some(world.now);
        is_over
    };
    assert!(leave(&mut world, one), "one that hides does not wait");
    assert!(!leave(&mut world, two));
    world.run(MS(99));
    assert!(!leave(&mut world, two));
    world.run(MS(2));
    assert!(leave(&mut world, two));
    let server = |world: &World| world.nodes[0].rendezvous.server_stats().unwrap();
    assert_eq!(server(&world).leases, 0);

    let (mut world, _, two) = pair([Nat::None; 2], (50, 50));
    world.nodes[0].nat = Nat::Blocked;
    let of_two = world.nodes[two].address;
    let sent = |world: &World| world.wire.iter().filter(|(from, ..)| *from == of_two).count();
    let before = sent(&world);
    assert!(!leave(&mut world, two));
    world.run(MS(499));
    assert!(!leave(&mut world, two));
    world.run(MS(2));
    assert!(leave(&mut world, two));
    assert_eq!(sent(&world) - before, 3, "at 0, 100 and 300 ms");
    world.run(MS(100_000));
    assert_eq!(sent(&world) - before, 3);
}

#[test]
fn a_host_has_sixteen_registrations_open_at_a_time() {
    let (mut world, one, _) = pair([Nat::None; 2], (10, 10));
    let (server, at) = (world.nodes[0].host.eid(), world.nodes[0].address);
    let names = (sss_wire::services::SERVICE, sss_wire::reach::PROTOCOL);
    let node = &mut world.nodes[one];
    let streams = [(); 20].map(|()| {
        let stream = node.host.connect(world.now, server, names, &[at.into()]).unwrap();
        let _ = node.host.stream(stream).poll_write(b"a part of a record");
        stream
    });
    node.wake = Some(world.now);
    world.run(MS(1000));
    let now = world.now;
    let refused = streams.iter().filter(|stream| {
        let read = world.nodes[one].host.stream(**stream).poll_read(now, 100);
        matches!(read, std::task::Poll::Ready(Err(_)))
    });
    assert_eq!(refused.count(), 4);
}

/// Gives a datagram to a host.
fn give(host: &mut Host, now: Instant, from: SocketAddr, bytes: &[u8]) {
    let mut data = BytesMut::from(bytes);
    let batch = Batch {
        stride: data.len(),
        data: &mut data,
        lent: &mut None,
        link: Link::Udp(from),
        local: None,
        ecn: Ecn::NotEct,
    };
    host.handle(now, Input::Datagrams(batch));
}

/// The datagrams that a host sends now.
fn taken(host: &mut Host, now: Instant) -> Vec<Vec<u8>> {
    let mut buf = TransmitBuf::new(1);
    let mut all = Vec::new();
    loop {
        match host.poll(now, &mut buf) {
            Output::Transmit(_) => all.push(buf.filled().to_vec()),
            Output::Event(_) => {}
            Output::Wake(_) => return all,
        }
    }
}

// spec: RCH-16, RCH-18
#[test]
fn an_introduced_negotiation_goes_on_only_where_its_initiator_is_known_to_be() {
    let host = |n: u8| {
        let mut core = Config::default();
        core.seeks = true;
        Host::new(core, StaticKey::from_bytes([n; 32]), [n; 32])
    };
    let (mut one, mut two) = (host(1), host(2));
    let [here, elsewhere, punched] = [1, 2, 3].map(World::address);
    let now = Instant::from_nanos(1_000_000_000_000);
    two.listen(ECHO.0, ECHO.1).unwrap();
    let eid = two.eid();
    assert_eq!(
        one.introduce(now, &eid, sss_proto::RouteClass::Direct, &[]),
        None,
        "nobody is looked for"
    );
    one.connect(now, eid, ECHO, &[]).unwrap();
    let greeting = one.introduce(now, &eid, sss_proto::RouteClass::Direct, &[]).unwrap();
    assert!(greeting.hello.len() < 150, "{} bytes", greeting.hello.len());
    let key = greeting.key.clone().expect("the leg is required by default");
    let name = [7; 8];
    // What was not introduced is not answered.
    assert!(two.answer_introduced_leg(now, &name, &key).is_err());
    let (cookie, _) = two
        .answer_introduced(now, name, &greeting.hello, &[Route::udp(here)])
        .unwrap();
    let cookie_k = two.answer_introduced_leg(now, &name, &key).unwrap();
    give(&mut one, now, elsewhere, &cookie);
    assert_eq!(taken(&mut one, now), Vec::<Vec<u8>>::new(), "half an answer");
    give(&mut one, now, elsewhere, &cookie_k);
    let [initiate] = &taken(&mut one, now)[..] else {
        panic!("INITIATE");
    };
    for (from, dropped, made) in [(elsewhere, 1, 0), (punched, 2, 0)] {
        give(&mut two, now, from, initiate);
        assert_eq!(two.stats().dropped(sss_proto::DropReason::BadAddress), dropped);
        assert_eq!(two.stats().channels_made, made);
        assert_eq!(taken(&mut two, now), Vec::<Vec<u8>>::new(), "nothing goes there");
    }
    two.allow_introduced(&name, Route::udp(punched));
    give(&mut two, now, punched, initiate);
    assert_eq!(two.stats().channels_made, 1);
    let accept = taken(&mut two, now);
    accept.iter().for_each(|packet| give(&mut one, now, elsewhere, packet));
    assert_eq!(
        one.introduce(now, &eid, sss_proto::RouteClass::Direct, &[]),
        None,
        "it was answered"
    );
    let peer = one.peers()[0].0;
    assert_eq!(one.is_connected(peer), Some(true));

    // A cookie of an introduction opens under no other name, and for no address.
    let mut three = host(3);
    three.connect(now, eid, ECHO, &[]).unwrap();
    let greeting = three.introduce(now, &eid, sss_proto::RouteClass::Direct, &[]).unwrap();
    let key = greeting.key.clone().unwrap();
    let (cookie, _) = two
        .answer_introduced(now, [8; 8], &greeting.hello, &[Route::udp(here)])
        .unwrap();
    let cookie_k = two.answer_introduced_leg(now, &[8; 8], &key).unwrap();
    give(&mut three, now, here, &cookie);
    give(&mut three, now, here, &cookie_k);
    let initiate = taken(&mut three, now).pop().unwrap();
    let late = now + Duration::from_secs(10);
    give(&mut two, late, here, &initiate);
    assert_eq!(two.stats().channels_made, 1, "after ten seconds it is forgotten");
}

// spec: RCH-12
#[test]
fn who_hears_first_waits_so_that_both_open_at_once() {
    let (mut world, one, two) = pair([Nat::Cone; 2], (50, 50));
    world.call(one, two);
    world.run(MS(140));
    let eid = world.nodes[two].host.eid();
    assert!(world.wire.iter().all(|(_, _, bytes)| !contains(bytes, eid.as_bytes())));
}

/// The milliseconds after which two hosts have sent something to each other directly for the first time.
fn first_direct(world: &mut World, one: usize, two: usize) -> [u64; 2] {
    let (of_one, of_two) = (world.nodes[one].address, world.nodes[two].address);
    let mut first = [None; 2];
    for ms in 0..1000_u64 {
        world.run(MS(1));
        for (from, to, at) in [(of_one, of_two, 0), (of_two, of_one, 1)] {
            let is_direct = |(a, b, _): &(SocketAddr, SocketAddr, Vec<u8>)| (a.ip(), b.ip()) == (from.ip(), to.ip());
            if first[at].is_none() && world.wire.iter().any(is_direct) {
                first[at] = Some(ms);
            }
        }
    }
    first.map(Option::unwrap)
}

// spec: RCH-12
#[test]
fn who_calls_as_soon_as_it_is_registered_is_waited_for_as_well() {
    let mut world = World::new((5, 5));
    let server = world.add_server();
    let two = world.add_host(Nat::Cone, std::slice::from_ref(&server), Visibility::Known);
    world.far = (two + 1, MS(60));
    world.run(MS(5000));
    let one = world.add_host(Nat::Cone, &[server], Visibility::Hidden);
    world.call(one, two);
    let [caller, callee] = first_direct(&mut world, one, two);
    assert!(caller.abs_diff(callee) < 5, "{caller} and {callee}");
    assert!(world.nodes[two].heard.is_some());
}

// spec: RCH-12, RCH-41
#[test]
fn that_a_server_takes_its_time_for_the_first_answer_makes_nobody_open_too_soon() {
    let mut world = World::new((5, 5));
    let server = world.add_server();
    let two = world.add_host(Nat::Cone, std::slice::from_ref(&server), Visibility::Known);
    world.run(MS(5000));
    let one = world.add_host(Nat::Cone, &[server], Visibility::Hidden);
    world.call(one, two);
    // HELLO is there in 5 ms, and its answer in 45.
    world.run(MS(4));
    world.far = (one, MS(40));
    world.run(MS(10));
    world.far = (one, Duration::ZERO);
    let [caller, callee] = first_direct(&mut world, one, two);
    assert!(caller.abs_diff(callee) < 5, "{caller} and {callee}");
    assert!(world.nodes[two].heard.is_some());
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[test]
fn what_is_not_to_be_had_is_said_at_once() {
    let (mut world, one, two) = pair([Nat::None; 2], (50, 50));
    let never = Eid::from_public_key(&[9; 32]);
    world.call_eid(one, never);
    world.run(MS(200));
    assert_eq!(world.failure(one), Some(NegotiationError::Unfound(Absence::NeverSeen)));

    world.nodes[two].nat = Nat::Blocked;
    world.run(Duration::from_secs(70));
    world.call(one, two);
    world.run(MS(200));
    let Some(NegotiationError::Unfound(Absence::Offline(since))) = world.failure(one) else {
        panic!("{:?}", world.failure(one));
    };
    assert!(
        (Duration::from_secs(60)..Duration::from_secs(90)).contains(&since),
        "{since:?}"
    );

    // A host that hides is like one that never was.
    world.call(two, one);
    world.nodes[one].nat = Nat::Blocked;
    world.call(one, two);
    world.run(Duration::from_secs(10));
    assert_eq!(world.failure(one), Some(NegotiationError::Unfound(Absence::NoServer)));
}

// spec: RCH-8, RCH-9
#[test]
fn a_lease_outlives_the_server() {
    let (mut world, one, two) = pair([Nat::Cone; 2], (10, 10));
    assert_eq!(world.nodes[0].rendezvous.server_stats().unwrap().leases, 2);
    // The server is killed, and comes back with the same identity and secret.
    let serve = Serve {
        is_restart: false,
        config: ServerConfig::default(),
        secret: [77; 32],
    };
    let mut core = Config::default();
    core.seeks = true;
    let mut host = Host::new(core, StaticKey::from_bytes([1; 32]), [99; 32]);
    let config = RendezvousConfig {
        serve: Some(serve),
        ..RendezvousConfig::default()
    };
    world.nodes[0].rendezvous = Rendezvous::new(world.now, config, &mut host, &[99; 32]).unwrap();
    world.nodes[0].host = host;
    world.run(Duration::from_secs(21));
    assert_eq!(world.nodes[0].rendezvous.server_stats().unwrap().leases, 2);
    let began = world.now;
    world.call(one, two);
    world.run(MS(1000));
    assert_eq!(world.nodes[two].heard.unwrap().since(began), MS(40));
}

// spec: RCH-9
#[test]
fn a_host_that_was_away_for_longer_than_its_lease_registers_again_and_finds_others() {
    for is_caller in [true, false] {
        let (mut world, one, two) = pair([Nat::None; 2], (20, 20));
        let away = if is_caller { one } else { two };
        world.nodes[away].nat = Nat::Blocked;
        world.run(MS(100_000));
        assert_eq!(world.nodes[0].rendezvous.server_stats().unwrap().leases, 1);
        world.nodes[away].nat = Nat::None;
        if !is_caller {
            world.run(MS(9000));
        }
        let began = world.now;
        world.call(one, two);
        world.run(MS(5000));
        let heard = world.nodes[two].heard.map(|at| at.since(began));
        assert!(heard.is_some_and(|after| after < MS(700)), "{is_caller}: {heard:?}");
        assert_eq!(world.nodes[0].rendezvous.server_stats().unwrap().leases, 2);
    }
}

/// CONNECTs that a host has sent to the first server.
fn connects(world: &World, n: usize) -> usize {
    let (from, to) = (world.nodes[n].address, world.nodes[0].address);
    let is_connect = |flight: &&Flight| (flight.0, flight.1, flight.2[0]) == (from, to, Kind::Connect as u8);
    world.wire.iter().filter(is_connect).count()
}

// spec: RCH-1, RCH-11
#[test]
fn who_has_not_leased_since_the_server_was_restarted_is_waited_for() {
    for is_new in [true, false] {
        let (mut world, one, two) = pair([Nat::Cone; 2], (10, 10));
        let server = ServerAddress {
            eid: world.nodes[0].host.eid(),
            addresses: vec![world.nodes[0].address],
            tls: None,
        };
        world.restart_server();
        let caller = match is_new {
            true => world.add_host(Nat::Cone, &[server], Visibility::Hidden),
            false => one,
        };
        let began = world.now;
        world.call(caller, two);
        // It leases 20 s after the time before.
        world.run(MS(17_000));
        assert_eq!(world.failure(caller), None);
        let heard = world.nodes[two].heard.expect("it is found");
        assert!(heard.since(began) < MS(17_000), "{:?}", heard.since(began));
    }
}

// spec: RCH-1, RCH-11
#[test]
fn who_never_registered_is_waited_for_no_longer_than_a_host_may_take_to_lease() {
    let (mut world, one, _) = pair([Nat::None; 2], (50, 50));
    world.restart_server();
    let never = Eid::from_public_key(&[9; 32]);
    world.call_eid(one, never);
    world.run(MS(29_900));
    assert_eq!(world.failure(one), None);
    world.run(MS(2_300));
    assert_eq!(world.failure(one), Some(NegotiationError::Unfound(Absence::NeverSeen)));
    let asked = connects(&world, one);
    assert!((16..=22).contains(&asked), "{asked} in 32 s");
    // From then on it is said at once, and nobody asks any more.
    world.call_eid(one, never);
    world.run(MS(200));
    assert_eq!(world.failure(one), Some(NegotiationError::Unfound(Absence::NeverSeen)));
    let before = connects(&world, one);
    world.run(MS(30_000));
    assert_eq!(connects(&world, one), before);
}

// spec: RCH-11
#[test]
fn an_attempt_that_is_given_up_asks_a_restarted_server_no_more() {
    let (mut world, one, _) = pair([Nat::None; 2], (50, 50));
    world.restart_server();
    let stream = world.call_eid(one, Eid::from_public_key(&[9; 32]));
    world.run(MS(3000));
    let node = &mut world.nodes[one];
    node.host.stream(stream).reset(sss_wire::Code::app(0), "");
    node.host.stream(stream).release();
    node.host.abandon(world.now, stream.peer());
    node.wake = Some(world.now);
    world.run(MS(3000));
    let before = connects(&world, one);
    world.run(MS(12_000));
    assert_eq!(connects(&world, one), before);
}

/// A host that takes registrations by itself, as a server of another make does, with its listener; and one that
/// registers there and calls.
fn calls_by_a_bare_server(world: &mut World) -> (usize, ListenerId, usize) {
    let server = world.add(Nat::None, RendezvousConfig::default());
    world.servers = 1;
    let listener = world.nodes[server].host.offer_own(sss_wire::reach::PROTOCOL).unwrap();
    assert!(world.nodes[server].host.accept(listener).is_none());
    let place = ServerAddress {
        eid: world.nodes[server].host.eid(),
        addresses: vec![world.nodes[server].address],
        tls: None,
    };
    let one = world.add_host(Nat::None, &[place], Visibility::Hidden);
    world.call_eid(one, Eid::from_public_key(&[9; 32]));
    (server, listener, one)
}

/// The time from a call until its word arrives.
fn reach(world: &mut World, from: usize, to: usize, within: u64) -> Option<Duration> {
    let began = world.now;
    world.nodes[to].heard = None;
    world.call(from, to);
    world.run(MS(within));
    world.nodes[to].heard.map(|at| at.since(began))
}

// spec: RCH-41
#[test]
fn a_server_that_understands_no_connect_behind_register_is_asked_by_packets() {
    let mut world = World::new((50, 50));
    let (server, listener, _) = calls_by_a_bare_server(&mut world);
    let mut records = Vec::new();
    while records.len() < 2 {
        assert!(world.now < Instant::from_nanos(1_001_000_000_000), "{records:?}");
        world.run(MS(10));
        let now = world.now;
        let Some((stream, _)) = world.nodes[server].host.accept(listener) else {
            continue;
        };
        world.run(MS(10));
        let mut stream = world.nodes[server].host.stream(stream);
        let mut count = 0;
        while let std::task::Poll::Ready(Ok(outcome)) = stream.poll_read(now, 2000) {
            count += usize::from(outcome == ReadOutcome::Mark);
        }
        records.push(count);
        stream.stop(sss_wire::Code::app(1), "");
        stream.reset(sss_wire::Code::app(1), "");
        stream.release();
        world.nodes[server].wake = Some(now);
    }
    assert_eq!(records, [2, 1]);
}

// spec: RCH-41
#[test]
fn a_server_that_answers_register_and_never_connect_keeps_no_stream() {
    let mut world = World::new((50, 50));
    let (server, listener, one) = calls_by_a_bare_server(&mut world);
    world.run(MS(400));
    let (stream, _) = world.nodes[server].host.accept(listener).expect("REGISTER");
    let registered = sss_wire::reach::records::Registered {
        boot: [1; 8],
        ttl: 60,
        address: world.nodes[one].address,
        key: [2; 32],
        tokens: vec![vec![3; 80]; 4],
        other_port: 0,
    };
    let _ = world.nodes[server]
        .host
        .stream(stream)
        .write_record(&registered.encode());
    world.nodes[server].wake = Some(world.now);
    world.run(MS(1000));
    let has_ended = |world: &mut World| {
        let now = world.now;
        let mut stream = world.nodes[server].host.stream(stream);
        while let std::task::Poll::Ready(read) = stream.poll_read(now, 2000) {
            if !matches!(read, Ok(ReadOutcome::Chunk(_) | ReadOutcome::Mark)) {
                return true;
            }
        }
        false
    };
    assert!(!has_ended(&mut world));
    world.run(Duration::from_secs(30));
    assert!(has_ended(&mut world));
}

// spec: RCH-5, RCH-10
#[test]
fn nothing_that_leases_send_names_a_host_or_repeats_at_another_address() {
    let (mut world, one, _) = pair([Nat::None; 2], (10, 10));
    let mut seen = BTreeMap::<Vec<u8>, IpAddr>::new();
    let eids: Vec<Eid> = world.nodes.iter().map(|node| node.host.eid()).collect();
    for n in 0..3_u8 {
        world.run(Duration::from_secs(25));
        let node = &mut world.nodes[one];
        node.address = SocketAddr::from(([203, 0, 113, n + 1], 7000));
        node.host.network_changed(world.now, |_, _| true);
        node.rendezvous.on_network_change(world.now, &mut node.host);
        node.wake = Some(world.now);
    }
    world.run(Duration::from_secs(25));
    assert_eq!(
        world.nodes[0].rendezvous.server_stats().unwrap().leases,
        2,
        "all are renewed"
    );
    let observed = world.nodes[one].rendezvous.observed();
    assert_eq!(observed[0].1.ip(), IpAddr::from([203, 0, 113, 3]));
    for (from, _, bytes) in &world.wire {
        assert!(eids.iter().all(|eid| !contains(bytes, eid.public_key())));
        if from.ip() == world.nodes[0].address.ip() || Kind::of(bytes[0]).is_none() {
            continue;
        }
        // All but the type, and the version.
        for window in bytes[5..]
            .windows(12)
            .filter(|window| window.iter().any(|byte| *byte != 0))
        {
            let before = seen.insert(window.to_vec(), from.ip());
            assert!(
                before.is_none_or(|ip| ip == from.ip()),
                "{window:?} of {from} and {before:?}"
            );
        }
    }
    assert!(seen.len() > 1000);
}

#[test]
fn with_loss_everybody_is_found_in_the_end() {
    for (seed, percent) in (0..20).flat_map(|seed| [(seed, 5), (seed, 20)]) {
        let mut world = World::new((30, 20));
        world.sent = mix(seed) >> 8;
        world.loss = (100, percent);
        let server = world.add_server();
        let one = world.add_host(Nat::Cone, std::slice::from_ref(&server), Visibility::Hidden);
        let two = world.add_host(Nat::Cone, &[server], Visibility::Known);
        world.run(Duration::from_secs(30));
        world.call(one, two);
        world.run(Duration::from_secs(40));
        assert!(
            world.nodes[two].heard.is_some(),
            "seed {seed}, {percent} %: {:?}",
            world.failure(one)
        );
    }
}

// spec: RCH-36
#[test]
fn hosts_that_are_looked_for_on_the_local_network_are_named_to_whoever_looks_there() {
    let (now, seed) = (Instant::from_nanos(1), [1; 32]);
    for searches_lan in [false, true] {
        let mut core = Config::default();
        core.seeks = true;
        if searches_lan {
            core.lan_search = mdns::PATIENCE;
        }
        let mut host = Host::new(core, StaticKey::from_bytes(seed), seed);
        let config = RendezvousConfig {
            searches_lan,
            ..RendezvousConfig::default()
        };
        let mut rendezvous = Rendezvous::new(now, config, &mut host, &seed).unwrap();
        let mut streams = Vec::new();
        for n in 0..=255 {
            for again in 0..2 {
                let eid = sss_wire::Eid::from_public_key(&[n, again, 9, 9].repeat(8).try_into().unwrap());
                streams.push(host.connect(now, eid, ("test", "1"), &[]).unwrap());
            }
        }
        let mut poll = |now| {
            while !matches!(
                rendezvous.poll(now, &mut host, &mut TransmitBuf::new(1)),
                Output::Wake(_)
            ) {}
        };
        poll(now);
        poll(now + Duration::from_millis(2900));
        let reason = |host: &Host| host.close_reason(streams[0].peer());
        let expected = match searches_lan {
            false => Absence::NoServer,
            true => Absence::NotOnLan(Duration::from_secs(3)),
        };
        assert_eq!(
            reason(&host).is_some(),
            !searches_lan,
            "three seconds are for the local network"
        );
        let mut poll = |now| {
            while !matches!(
                rendezvous.poll(now, &mut host, &mut TransmitBuf::new(1)),
                Output::Wake(_)
            ) {}
        };
        poll(now + Duration::from_secs(3));
        assert_eq!(
            reason(&host),
            Some(CloseReason::Negotiation(NegotiationError::Unfound(expected)))
        );
        let orders = std::iter::from_fn(|| rendezvous.poll_lan_order()).count();
        assert_eq!(
            orders,
            if searches_lan { 256 } else { 0 },
            "no more wait than are looked for"
        );
    }
}
