//! Applications that neither read, accept nor take what comes, in mixes that differ from seed to seed, over a bad wire.
//!
//! Each seed has its own habits: how deep trees are, how often each operation is done (many never are), how large the
//! accounts are. Three things are asserted. When the wire has become good and nothing moves any more, whatever still
//! waits waits for the right reason: no stream with room of its own has data left, and none waits to be opened for
//! whose acceptor nothing waits. When afterwards everything is read, accepted and taken, everything is delivered. And
//! then nothing is left: no node, no charge, nothing of a budget.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sss_wire::constants::OPEN_COST;

use super::*;
use crate::streams::tree::index::ROOT;
use crate::streams::tree::node::Opener;
use crate::streams::{DatagramOptions, ListenMode};

/// Operations of an application, drawn by weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Top,
    Child,
    Write,
    Bulk,
    Finish,
    AcceptTop,
    Accept,
    Read,
    Datagram,
    Receive,
    Priority,
    Budget,
    // What loses data.
    Reset,
    Stop,
    Release,
    Tree,
    Refuse,
    Listen,
}

const GENTLE: [Op; 12] = [
    Op::Top,
    Op::Child,
    Op::Write,
    Op::Bulk,
    Op::Finish,
    Op::AcceptTop,
    Op::Accept,
    Op::Read,
    Op::Datagram,
    Op::Receive,
    Op::Priority,
    Op::Budget,
];

const ROUGH: [Op; 6] = [Op::Reset, Op::Stop, Op::Release, Op::Tree, Op::Refuse, Op::Listen];

const STEPS: usize = 6000;

/// Rule by which a new stream's parent is chosen.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Any,
    Deep,
    Wide,
}

struct Side {
    streams: Streams,
    held: Vec<StreamKey>,
    flying: Vec<Packet>,
    /// Packets that have arrived, and of which the sender does not know.
    arrived: Vec<Packet>,
    habits: Vec<(Op, u32)>,
    written: u64,
    read: u64,
    sent: usize,
    received: usize,
}

struct World {
    rng: StdRng,
    what: String,
    sides: [Side; 2],
    shape: Shape,
    loss: u32,
    most: usize,
    is_rough: bool,
    clock: u64,
}

/// Habits of one application: many operations are never done.
fn habits(rng: &mut StdRng, is_rough: bool) -> Vec<(Op, u32)> {
    let often = [0, 0, 1, 3, 10, 30];
    let mut habits: Vec<(Op, u32)> = GENTLE.map(|op| (op, often[rng.random_range(0..often.len())])).into();
    if is_rough {
        let seldom = [0, 0, 1, 1, 3];
        habits.extend(ROUGH.map(|op| (op, seldom[rng.random_range(0..seldom.len())])));
    }
    habits.extend([(Op::Top, 2), (Op::Child, 5), (Op::Write, 5)]);
    habits
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let is_rough = seed % 2 == 1;
        let sides = [Role::Initiator, Role::Responder].map(|role| {
            let root = [65_536, 65_536, 200_000, 1 << 20][rng.random_range(0..4)];
            let mut streams = Streams::test(role, root);
            let budget = [0, 50_000, 1 << 20, u64::MAX][rng.random_range(0..4)];
            streams.limit_budget(budget);
            let habits = habits(&mut rng, is_rough);
            (
                root,
                Side {
                    streams,
                    habits,
                    held: vec![],
                    flying: vec![],
                    arrived: vec![],
                    written: 0,
                    read: 0,
                    sent: 0,
                    received: 0,
                },
            )
        });
        let [(root_a, mut a), (root_b, mut b)] = sides;
        a.streams.grant_root(root_b).unwrap();
        b.streams.grant_root(root_a).unwrap();
        for side in [&mut a, &mut b] {
            side.streams.set_peer_max_message(1 << 20);
        }
        let shape = [Shape::Any, Shape::Deep, Shape::Wide][rng.random_range(0..3)];
        Self {
            loss: rng.random_range(0..6),
            most: [10, 100, 1000, 3000][rng.random_range(0..4)],
            what: format!("seed {seed}"),
            sides: [a, b],
            rng,
            shape,
            is_rough,
            clock: 0,
        }
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.clock * 100_000)
    }

    fn pick(&mut self, side: usize) -> Option<StreamKey> {
        let held = &self.sides[side].held;
        if held.is_empty() {
            return None;
        }
        let at = match self.shape {
            Shape::Any => self.rng.random_range(0..held.len()),
            Shape::Deep => held.len() - 1 - self.rng.random_range(0..held.len().min(4)),
            Shape::Wide => self.rng.random_range(0..held.len().min(4)),
        };
        let any = self.rng.random_range(0..held.len());
        Some(held[if self.rng.random_ratio(2, 3) { at } else { any }])
    }

    fn act(&mut self, side: usize) {
        self.clock += 1;
        let habits = &self.sides[side].habits;
        let total: u32 = habits.iter().map(|(_, often)| often).sum();
        let mut at = self.rng.random_range(0..total);
        let op = habits.iter().find(|(_, often)| {
            let is_it = at < *often;
            at = at.saturating_sub(*often);
            is_it
        });
        let op = op.unwrap().0;
        match op {
            Op::Top => {
                let service = ["one", "two", "three"][self.rng.random_range(0..3)];
                let side = &mut self.sides[side];
                if side.held.len() < self.most {
                    side.held.push(side.streams.open_top_level(service, "v1").unwrap());
                }
            }
            Op::AcceptTop | Op::Refuse => drop(self.take_top(side, op == Op::Refuse)),
            _ => {
                if let Some(key) = self.pick(side) {
                    self.act_on(side, key, op);
                }
            }
        }
    }

    fn take_top(&mut self, side: usize, is_refused: bool) -> bool {
        let Side { streams, held, .. } = &mut self.sides[side];
        let Some(incoming) = streams.take_incoming() else {
            return false;
        };
        if is_refused {
            streams.refuse(incoming.key, Code::REFUSED_PROTOCOL);
        } else if streams.accept_top_level(incoming.key) {
            held.push(incoming.key);
        }
        true
    }

    fn act_on(&mut self, at: usize, key: StreamKey, op: Op) {
        let now = self.now();
        let level = self.rng.random_range(-2..=2);
        let (most, rng) = (self.most, &mut self.rng);
        let side = &mut self.sides[at];
        let streams = &mut side.streams;
        match op {
            Op::Child if side.held.len() < most => side.held.extend(streams.open_substream(key)),
            Op::Write => side.written += streams.write(key, &[1; 600][..rng.random_range(1..600)]).unwrap_or(0) as u64,
            Op::Bulk => side.written += streams.write(key, &[1; 30_000]).unwrap_or(0) as u64,
            Op::Finish => drop(streams.finish(key)),
            Op::Accept => drop(self.accept(at, key)),
            Op::Read => drop(self.read(at, key, 20_000)),
            Op::Datagram => {
                let size = [0, 10, 500, 1100, 1100, 5000, 40_000][rng.random_range(0..7)];
                streams.set_loss(if rng.random() { 0 } else { 10_000 }, Duration::from_millis(20));
                let is_reliable = rng.random_ratio(2, 3);
                let options = DatagramOptions::default().with(|o| {
                    o.reliable = is_reliable;
                    o.priority = level;
                });
                let sent = streams.send_datagram(now, key, &Bytes::from(vec![2; size]), &options);
                side.sent += usize::from(is_reliable && matches!(sent, Ok(Some(_))));
            }
            Op::Receive => drop(self.receive(at, key)),
            Op::Priority if rng.random() => streams.set_priority(key, level),
            Op::Priority => streams.request_priority(key, level),
            Op::Budget => streams.set_budget(key, rng.random::<bool>().then(|| rng.random_range(0..100_000))),
            Op::Reset => streams.reset(key, Code::app(4), "test"),
            Op::Stop => streams.stop(key, Code::app(5), "test"),
            Op::Tree => streams.reset_tree(key, Code::app(6), "test"),
            Op::Listen => {
                let modes = [
                    ListenMode::Reject,
                    ListenMode::Limit(3000),
                    ListenMode::Unlimited,
                    ListenMode::Inherit,
                ];
                streams.set_listen_mode(key, modes[rng.random_range(0..4)]);
            }
            Op::Release => {
                streams.release(key);
                side.held.retain(|k| *k != key);
            }
            _ => {}
        }
    }

    fn accept(&mut self, side: usize, key: StreamKey) -> bool {
        let Side { streams, held, .. } = &mut self.sides[side];
        let child = streams.accept_substream(key);
        held.extend(child.clone().unwrap_or(None));
        matches!(child, Ok(Some(_)))
    }

    /// Reads; returns whether there was something.
    fn read(&mut self, side: usize, key: StreamKey, max: usize) -> bool {
        let side = &mut self.sides[side];
        match side.streams.read(key, max) {
            Poll::Ready(Ok(ReadOutcome::Chunk(bytes))) => {
                side.read += bytes.len() as u64;
                true
            }
            _ => false,
        }
    }

    fn receive(&mut self, side: usize, key: StreamKey) -> bool {
        let now = self.now();
        let side = &mut self.sides[side];
        let received = side.streams.recv_datagram(now, key);
        side.received += usize::from(matches!(received, Ok(Some(_))));
        matches!(received, Ok(Some(_)))
    }

    fn send(&mut self, from: usize) -> bool {
        let room = [300, 1400, 1400, 9000][self.rng.random_range(0..4)];
        let side = &mut self.sides[from];
        let packet = side.streams.packet(room);
        let has_sent = packet.is_some();
        side.flying.extend(packet);
        has_sent
    }

    /// Something happens to one of the packets that are under way.
    fn arrive(&mut self, from: usize) {
        let count = self.sides[from].flying.len();
        if count == 0 {
            return;
        }
        let packet = self.sides[from].flying.remove(self.rng.random_range(0..count.min(12)));
        if self.rng.random_range(0..16) < self.loss {
            return self.sides[from].streams.lost(&packet);
        }
        self.deliver(from, &packet);
        self.sides[from].arrived.push(packet);
    }

    fn deliver(&mut self, from: usize, packet: &Packet) {
        let what = self.what.clone();
        let result = self.sides[1 - from].streams.take(packet);
        result.unwrap_or_else(|e| panic!("{what}: {e} after {:?}", packet.frames()));
    }

    /// The sender learns of one that has arrived; or takes it for lost.
    fn hear(&mut self, from: usize) {
        let Side { arrived, streams, .. } = &mut self.sides[from];
        if arrived.is_empty() {
            return;
        }
        let packet = arrived.swap_remove(self.rng.random_range(0..arrived.len()));
        if self.rng.random_range(0..32) < self.loss {
            streams.lost(&packet);
        } else {
            streams.acked(&packet);
        }
    }

    /// The wire is good from now on, and carries whatever there is.
    fn settle(&mut self) {
        for packets in 0.. {
            assert!(packets < 200_000, "{}: it never ends", self.what);
            let mut has_moved = false;
            for from in 0..2 {
                has_moved |= self.send(from);
                for packet in std::mem::take(&mut self.sides[from].flying) {
                    self.deliver(from, &packet);
                    self.sides[from].arrived.push(packet);
                }
                for packet in std::mem::take(&mut self.sides[from].arrived) {
                    self.sides[from].streams.acked(&packet);
                }
            }
            if !has_moved && self.sides.iter().all(|s| !s.streams.wants()) {
                return;
            }
        }
    }

    /// Nothing moves any more: whatever waits has a reason.
    fn check_waits(&self) {
        for at in 0..2 {
            let (side, peer) = (&self.sides[at].streams, &self.sides[1 - at].streams);
            side.check_costs(&self.what);
            for index in 1..side.life.tree.table.slots() {
                let Some(node) = side.life.tree.table.get(index).filter(|n| n.status.send.carries_data()) else {
                    continue;
                };
                let what = || format!("{}: side {at}, {:?}", self.what, side.waits(index, named));
                if node.has(Flags::ANNOUNCED) {
                    let is_kept = node.send.unsent() > 0 && node.send.credit() > 0;
                    assert!(!is_kept, "{}: room of its own is not used", what());
                    assert!(node.is_known(), "{}: not known", what());
                    continue;
                }
                let parent = node.place.parent;
                if side.life.tree.table[parent].has(Flags::ANNOUNCED) {
                    assert!(!side.can_open(index), "{}: not opened", what());
                    let waiting = waiting_for(peer, side, index);
                    assert!(waiting > 0, "{}: nothing else waits for that", what());
                }
            }
        }
    }

    /// Both applications accept, read and take everything, and finish; then they let go.
    fn wind_up(&mut self) {
        for _ in 0..5000 {
            let mut has_moved = false;
            for side in 0..2 {
                while self.take_top(side, false) {
                    has_moved = true;
                }
                let mut at = 0;
                while let Some(key) = self.sides[side].held.get(at).copied() {
                    at += 1;
                    while self.accept(side, key) | self.read(side, key, 1 << 20) | self.receive(side, key) {
                        has_moved = true;
                    }
                }
            }
            self.clock += 1;
            let now = self.now();
            for side in &mut self.sides {
                side.streams.events();
                side.streams.on_timer(now);
            }
            self.settle();
            if !has_moved && self.sides.iter().all(|s| !s.streams.wants()) {
                return;
            }
        }
        panic!("{}: it never ends", self.what);
    }

    fn check_delivered(&self) {
        for (from, to) in [(0, 1), (1, 0)] {
            let (sender, receiver) = (&self.sides[from], &self.sides[to]);
            assert_eq!(
                sender.streams.unsent(),
                0,
                "{}: {:?}",
                self.what,
                sender.streams.tree(named)
            );
            if !self.is_rough {
                assert_eq!(sender.written, receiver.read, "{}: from {from}", self.what);
                assert!(receiver.received >= sender.sent, "{}: from {from}", self.what);
            }
        }
    }

    fn let_go(&mut self) {
        for side in &mut self.sides {
            for key in std::mem::take(&mut side.held) {
                let _ = side.streams.finish(key);
                side.streams.release(key);
            }
        }
        self.settle();
        self.clock += 1_000_000;
        let now = self.now();
        for side in &mut self.sides {
            side.streams.on_timer(now);
            side.streams.events();
        }
        self.settle();
    }

    fn check_empty(&self) {
        for (side, peer) in [(0, 1), (1, 0)] {
            let (here, there) = (&self.sides[side].streams, &self.sides[peer].streams);
            assert_eq!(here.len(), 0, "{}: {:?}", self.what, here.tree(named));
            let (charge, consumed, limit) = here.backing(0);
            assert_eq!(charge, consumed, "{}", self.what);
            assert!(limit - charge >= 2 * OPEN_COST, "{}", self.what);
            assert_eq!(there.lent(0), charge, "{}", self.what);
            assert_eq!(here.spent(), here.root_extra(), "{}", self.what);
            here.check_unused(&self.what);
        }
    }
}

/// Returns what truly waits at the peer in front of the acceptor of a stream: streams nobody has accepted, or datagrams
/// nobody has taken. More than nothing also if the stream's parent is not accepted itself.
fn waiting_for(peer: &Streams, side: &Streams, index: u32) -> usize {
    let parent = side.life.tree.table[index].place.parent;
    let lsid = side.lsid(parent);
    let there = match lsid {
        0 => ROOT,
        lsid => match peer.find(lsid) {
            Found::Live(at) => at,
            _ => return 1,
        },
    };
    let is_waiting = |at: u32| peer.life.tree.table.get(at).is_some_and(|n| n.has(Flags::UNACCEPTED));
    if is_waiting(there) {
        return 1;
    }
    let datagrams = (0..peer.life.tree.table.slots())
        .filter(|at| peer.life.tree.table.get(*at).is_some() && peer.has_arrived(*at))
        .count();
    if side.life.tree.table[index].has(Flags::DATAGRAM) {
        return datagrams;
    }
    (1..peer.life.tree.table.slots())
        .filter(|at| is_waiting(*at) && peer.life.tree.table[*at].place.opener == Opener::Peer)
        .filter(|at| {
            let node = &peer.life.tree.table[*at];
            node.place.parent == there || there == ROOT
        })
        .count()
}

// spec: STR-18, STR-52, STR-56, STR-57, STR-59
#[test]
fn whatever_waits_waits_for_its_own_acceptor_and_nothing_is_left_in_the_end() {
    let number = |name| std::env::var(name).ok().and_then(|s| s.parse::<u64>().ok());
    let seeds = match number("SSS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SSS_SEEDS").unwrap_or(400),
    };
    for seed in seeds {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            let side = world.rng.random_range(0..2);
            match world.rng.random_range(0..5) {
                0 => drop(world.send(side)),
                1 => world.arrive(side),
                2 => world.hear(side),
                _ => world.act(side),
            }
        }
        world.settle();
        world.check_waits();
        world.wind_up();
        world.check_delivered();
        world.let_go();
        world.check_empty();
    }
}
