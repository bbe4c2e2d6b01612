//! The ways of packets, without devices and clocks: ports, the ways between them, and what is on its way.
//!
//! ```text
//! port a: [queue, rate] ---- delay, jitter, loss, order ----> [queue, rate] :port b
//!             up              the way from a to b                 down
//! ```
//!
//! Everything happens at the instant at which it is due, not at that at which somebody looked: a thread that wakes late
//! changes when a packet is handed over, and nothing else.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;

use super::bottleneck::Bottleneck;
use super::ip;
use crate::prefix::Prefix;
use crate::shape::Shape;

/// Nanoseconds since the network began.
pub(crate) type Nanos = u64;

/// A packet on its way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// Time that the line before this one took to send it.
    pub(crate) sent_for: Nanos,
}

/// Packets, by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Came from a host or router.
    pub received: u64,
    /// Were handed to the one they are for; duplicates count.
    pub delivered: u64,
    /// Found a queue full.
    pub queue_full: u64,
    /// Were lost as the link was asked to lose them, in blackouts too.
    pub lost: u64,
    /// Were for an address that nobody has.
    pub unroutable: u64,
    /// Had no hops left.
    pub expired: u64,
}

/// The decision on where a packet goes.
#[derive(Debug)]
pub(crate) enum Forwarding {
    /// A wire between two ports.
    Wire,
    /// A router: the longest prefix decides, and each packet loses a hop.
    Router(Vec<(Prefix, usize)>),
}

/// The network.
#[derive(Debug)]
pub(crate) struct Network {
    up: Vec<Bottleneck>,
    down: Vec<Bottleneck>,
    /// The ways, by port from and port to.
    ways: Vec<Way>,
    pub(crate) forwarding: Forwarding,
    on_the_way: BinaryHeap<Reverse<(Nanos, u64, Packet)>>,
    sequence: u64,
    random: Random,
    pub(crate) counters: Counters,
}

/// A way from one port to another.
#[derive(Debug, Clone, Default)]
struct Way {
    shape: Shape,
    is_in_burst: bool,
    last_arrival: Nanos,
}

/// The next thing that happens.
enum Step {
    Up(usize),
    Arrival,
    Down(usize),
}

impl Network {
    /// A network of so many ports, with perfect ways between all.
    pub(crate) fn new(ports: usize, forwarding: Forwarding, seed: u64) -> Self {
        let lines = || std::iter::repeat_with(Bottleneck::new).take(ports).collect();
        Self {
            up: lines(),
            down: lines(),
            ways: vec![Way::default(); ports * ports],
            forwarding,
            on_the_way: BinaryHeap::new(),
            sequence: 0,
            random: Random(seed),
            counters: Counters::default(),
        }
    }

    /// Changes the line from a port into the network.
    pub(crate) fn set_up(&mut self, port: usize, shape: &Shape) {
        self.up[port].set(shape);
    }

    /// Changes the line from the network to a port.
    pub(crate) fn set_down(&mut self, port: usize, shape: &Shape) {
        self.down[port].set(shape);
    }

    /// Changes the way from a port to another.
    pub(crate) fn set_way(&mut self, from: usize, to: usize, shape: Shape) {
        let ports = self.up.len();
        self.ways[from * ports + to].shape = shape;
    }

    /// Takes a packet that a port sent; [`advance`](Self::advance) to the same instant comes before.
    pub(crate) fn receive(&mut self, now: Nanos, from: usize, mut bytes: Vec<u8>) {
        self.counters.received += 1;
        let to = match &self.forwarding {
            Forwarding::Wire => Some(1 - from),
            Forwarding::Router(routes) => ip::destination(&bytes).and_then(|address| route(routes, address)),
        };
        let Some(to) = to.filter(|to| *to != from) else {
            self.counters.unroutable += 1;
            return;
        };
        if matches!(self.forwarding, Forwarding::Router(_)) && !ip::hop(&mut bytes) {
            self.counters.expired += 1;
            return;
        }
        let packet = Packet {
            bytes,
            from,
            to,
            sent_for: 0,
        };
        if !self.up[from].push(now, packet) {
            self.counters.queue_full += 1;
        }
    }

    /// The instant at which something happens next.
    pub(crate) fn next(&self) -> Option<Nanos> {
        self.next_step().map(|(at, _)| at)
    }

    /// Lets everything happen that is due, and hands over what has arrived.
    pub(crate) fn advance(&mut self, now: Nanos, mut deliver: impl FnMut(usize, &[u8])) {
        while let Some((at, step)) = self.next_step().filter(|(at, _)| *at <= now) {
            match step {
                Step::Up(port) => {
                    if let Some(packet) = self.up[port].pop() {
                        self.set_out(at, packet);
                    }
                }
                Step::Arrival => {
                    if let Some(Reverse((_, _, packet))) = self.on_the_way.pop()
                        && !self.down[packet.to].push(at, packet)
                    {
                        self.counters.queue_full += 1;
                    }
                }
                Step::Down(port) => {
                    if let Some(packet) = self.down[port].pop() {
                        self.counters.delivered += 1;
                        deliver(port, &packet.bytes);
                    }
                }
            }
        }
    }

    fn next_step(&self) -> Option<(Nanos, Step)> {
        let up = self.up.iter().enumerate();
        let up = up.filter_map(|(port, line)| Some((line.next()?, Step::Up(port))));
        let down = self.down.iter().enumerate();
        let down = down.filter_map(|(port, line)| Some((line.next()?, Step::Down(port))));
        let arrival = self.on_the_way.peek().map(|Reverse((at, _, _))| (*at, Step::Arrival));
        // The first of those that are due together: what is nearest to its end.
        down.chain(arrival).chain(up).min_by_key(|(at, _)| *at)
    }

    /// A packet leaves the line of its port, and is on the way.
    fn set_out(&mut self, now: Nanos, packet: Packet) {
        let ports = self.up.len();
        let way = &mut self.ways[packet.from * ports + packet.to];
        let shape = &way.shape;
        if let Some(burst) = shape.burst {
            let chance = if way.is_in_burst { burst.leave } else { burst.enter };
            way.is_in_burst ^= self.random.happens(chance);
        } else {
            way.is_in_burst = false;
        }
        if shape.blackout || way.is_in_burst || self.random.happens(shape.loss) {
            self.counters.lost += 1;
            return;
        }
        let jitter = (self.random.fraction() * nanos(shape.jitter) as f64) as Nanos;
        let mut arrival = (now + nanos(shape.delay) + jitter).max(way.last_arrival);
        way.last_arrival = arrival;
        if let Some(reorder) = shape.reorder
            && self.random.happens(reorder.share)
        {
            arrival += nanos(reorder.late);
        }
        let copies = if self.random.happens(shape.duplicate) { 2 } else { 1 };
        for packet in std::iter::repeat_n(packet, copies) {
            self.sequence += 1;
            self.on_the_way.push(Reverse((arrival, self.sequence, packet)));
        }
    }
}

fn nanos(duration: std::time::Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn route(routes: &[(Prefix, usize)], address: IpAddr) -> Option<usize> {
    let matching = routes.iter().filter(|(prefix, _)| prefix.contains(address));
    matching.max_by_key(|(prefix, _)| prefix.length).map(|(_, port)| *port)
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// Evenly spread from 0 to 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn happens(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.fraction() < chance
    }
}

#[cfg(test)]
mod tests;
