//! Hosts, the links between them, and virtual time.
//!
//! What happens next is always the entry of the queue with the smallest (time, sequence number). A step is:
//!
//! 1. a batch of datagrams, the passing of time, or an application's timer reaches a host;
//! 2. the host's events go to the application, which may call any host;
//! 3. hosts that were touched are polled; what they send goes through links, back into the queue.
//!
//! Steps 2 and 3 repeat until there is nothing more to do at this moment.

mod queue;
mod sleep;
mod tap;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sss_crypto::StaticKey;
use sss_proto::{Batch, Config, Ecn, Event, Host, Input, Instant, Output, StreamId, Transmit, TransmitBuf, WriteError};
use sss_wire::Eid;

use crate::link::{Link, LinkConfig};
use crate::transcript::Transcript;
use queue::{Datagram, Happening, Queue};
use sleep::Doorstep;
use tap::Tap;

pub use tap::Captured;

/// Steps at one moment after which a world is taken to be stuck.
const MAX_STEPS_AT_ONCE: u32 = 200_000;
/// Outputs of one host at one moment after which it is taken to be stuck.
const MAX_OUTPUTS_AT_ONCE: u32 = 100_000;
/// Datagrams delivered in one batch, at most.
const MAX_BATCH: usize = 64;

/// A host of a world, numbered from 0 in the order of being added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostIndex(pub usize);

/// The applications on the hosts of a world.
pub trait Apps {
    /// The core tells an application something.
    fn on_event(&mut self, world: &mut World, host: HostIndex, event: Event);
    /// A time has come that was asked for with [`World::set_timer`].
    fn on_timer(&mut self, world: &mut World, host: HostIndex, token: u64);
}

/// Applications that only remember what they were told.
#[derive(Debug, Default)]
pub struct Recorder {
    /// Events in the order in which they came.
    pub events: Vec<(HostIndex, Event)>,
}

impl Apps for Recorder {
    fn on_event(&mut self, _: &mut World, host: HostIndex, event: Event) {
        self.events.push((host, event));
    }
    fn on_timer(&mut self, _: &mut World, _: HostIndex, _: u64) {}
}

struct Node {
    host: Host,
    /// Parts that the host is made from again after a crash.
    origin: (Config, [u8; 32]),
    address: SocketAddr,
    wake: Option<u64>,
    /// Time by which it is woken later than asked for.
    lag: Duration,
    buf: TransmitBuf,
    is_touched: bool,
    /// Set while it does not run.
    asleep: Option<Doorstep>,
}

impl Node {
    /// Returns whether it has something to do, and runs.
    fn is_due(&self) -> bool {
        self.is_touched && self.asleep.is_none()
    }
}

/// A world. See the module's documentation.
pub struct World {
    now: u64,
    steps_now: u32,
    queue: Queue,
    nodes: Vec<Node>,
    links: Vec<Link>,
    /// Which link leads from a host to another.
    ways: BTreeMap<(usize, usize), usize>,
    routes: BTreeMap<SocketAddr, usize>,
    events: VecDeque<(HostIndex, Event)>,
    rng: StdRng,
    transcript: Transcript,
    tap: Tap,
    fault: Option<String>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .field("hosts", &self.nodes.len())
            .finish_non_exhaustive()
    }
}

impl World {
    /// An empty world, all of whose randomness comes from `seed`. The transcript keeps its text if `with_text`.
    pub fn new(seed: u64, with_text: bool) -> Self {
        Self {
            now: 0,
            steps_now: 0,
            queue: Queue::default(),
            nodes: Vec::new(),
            links: Vec::new(),
            ways: BTreeMap::new(),
            routes: BTreeMap::new(),
            events: VecDeque::new(),
            rng: StdRng::seed_from_u64(seed),
            transcript: Transcript::new(with_text),
            tap: Tap::default(),
            fault: None,
        }
    }

    /// Adds a host with a new identity and an address of its own.
    pub fn add_host(&mut self, config: Config) -> HostIndex {
        let index = self.nodes.len();
        let identity: [u8; 32] = self.rng.random();
        let seed: [u8; 32] = self.rng.random();
        let host = Host::new(config.clone(), StaticKey::from_bytes(identity), seed);
        let low = u8::try_from(index % 250 + 1).unwrap_or(1);
        let high = u8::try_from(index / 250 % 250).unwrap_or(0);
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, high, low)), 4000);
        self.nodes.push(Node {
            host,
            origin: (config, identity),
            address,
            wake: None,
            lag: Duration::ZERO,
            buf: TransmitBuf::new(16),
            is_touched: true,
            asleep: None,
        });
        self.routes.insert(address, index);
        HostIndex(index)
    }

    /// Sets how many datagrams one segmented send of the host holds, at most.
    pub fn set_segments(&mut self, host: HostIndex, segments: usize) {
        self.nodes[host.0].buf.set_max_segments(segments);
    }

    /// Wakes the host so much later than it asks for, as a timer of an operating system does.
    pub fn set_timer_lag(&mut self, host: HostIndex, lag: Duration) {
        self.nodes[host.0].lag = lag;
    }

    /// Makes, or changes, the link by which datagrams of `from` reach `to`. Without one they are lost.
    pub fn set_link(&mut self, from: HostIndex, to: HostIndex, config: LinkConfig) {
        if let Some(&way) = self.ways.get(&(from.0, to.0)) {
            return self.links[way].configure(config);
        }
        let rng = StdRng::from_seed(self.rng.random());
        self.ways.insert((from.0, to.0), self.links.len());
        self.links.push(Link::new(config, rng));
    }

    /// Datagrams of `from` reach `to` by the link that leads from the first to the second host of `like`, and share its
    /// rate and queue.
    ///
    /// # Panics
    /// If there is no such link.
    pub fn share_link(&mut self, from: HostIndex, to: HostIndex, like: (HostIndex, HostIndex)) {
        let way = self.ways[&(like.0.0, like.1.0)];
        self.ways.insert((from.0, to.0), way);
    }

    fn way(&self, from: HostIndex, to: HostIndex) -> Option<&Link> {
        self.links.get(*self.ways.get(&(from.0, to.0))?)
    }

    /// Links in both directions with the same properties.
    pub fn join(&mut self, a: HostIndex, b: HostIndex, config: &LinkConfig) {
        self.set_link(a, b, config.clone());
        self.set_link(b, a, config.clone());
    }

    /// The properties of a link, if there is one.
    pub fn link(&self, from: HostIndex, to: HostIndex) -> Option<&LinkConfig> {
        self.way(from, to).map(Link::config)
    }

    /// Bytes that a link carried and did not lose.
    pub fn carried(&self, from: HostIndex, to: HostIndex) -> u64 {
        self.way(from, to).map_or(0, Link::carried)
    }

    /// Datagrams that a link lost because its queue was full.
    pub fn overflowed(&self, from: HostIndex, to: HostIndex) -> u64 {
        self.way(from, to).map_or(0, Link::overflowed)
    }

    /// Returns how long what a link holds keeps it busy: a datagram sent now waits that long.
    pub fn waiting(&self, from: HostIndex, to: HostIndex) -> Duration {
        let link = self.way(from, to);
        Duration::from_nanos(link.map_or(0, |link| link.waiting(self.now)))
    }

    /// Gives the host another address, as a NAT does that has forgotten a binding: what is sent to the old one is lost.
    pub fn rebind(&mut self, host: HostIndex, address: SocketAddr) {
        let node = &mut self.nodes[host.0];
        self.routes.remove(&node.address);
        node.address = address;
        self.routes.insert(address, host.0);
        self.note(format_args!("h{} now at {address}", host.0));
    }

    /// The host crashes and starts again at once: same identity and address, and nothing else of what it knew.
    pub fn restart(&mut self, host: HostIndex) {
        let seed: [u8; 32] = self.rng.random();
        let node = &mut self.nodes[host.0];
        let (config, identity) = node.origin.clone();
        node.host = Host::new(config, StaticKey::from_bytes(identity), seed);
        node.wake = None;
        node.is_touched = true;
        self.note(format_args!("h{} restarted", host.0));
    }

    /// The host's address, as others see it.
    pub fn address(&self, host: HostIndex) -> SocketAddr {
        self.nodes[host.0].address
    }

    /// The host's name.
    pub fn eid(&self, host: HostIndex) -> Eid {
        self.nodes[host.0].host.eid()
    }

    /// The host with this name.
    pub fn host_of(&self, eid: &Eid) -> Option<HostIndex> {
        self.nodes.iter().position(|n| n.host.eid() == *eid).map(HostIndex)
    }

    /// Lists the hosts.
    pub fn hosts(&self) -> impl Iterator<Item = HostIndex> + use<> {
        (0..self.nodes.len()).map(HostIndex)
    }

    /// A host, to look at.
    pub fn host(&self, host: HostIndex) -> &Host {
        &self.nodes[host.0].host
    }

    /// Calls a host; it is polled afterwards, when the world runs on.
    pub fn call<R>(&mut self, host: HostIndex, f: impl FnOnce(&mut Host, Instant) -> R) -> R {
        let now = self.now();
        let node = &mut self.nodes[host.0];
        node.is_touched = true;
        f(&mut node.host, now)
    }

    /// Opens a stream to a service of another host, whose present address is the hint.
    ///
    /// # Panics
    /// If the core refuses even to try.
    pub fn connect(&mut self, from: HostIndex, to: HostIndex, (service, protocol): (&str, &str)) -> StreamId {
        let (eid, address) = (self.eid(to), self.address(to));
        self.call(from, |host, now| {
            host.connect(now, eid, (service, protocol), &[address.into()])
        })
        .expect("a usable EID and an address")
    }

    /// Writes what there is room for on a stream, which may be nothing. Returns how many bytes.
    ///
    /// # Errors
    /// If the stream takes nothing more, ever.
    pub fn write(&mut self, host: HostIndex, stream: StreamId, data: &[u8]) -> Result<usize, WriteError> {
        match self.call(host, |h, _| h.stream(stream).poll_write(data)) {
            Poll::Ready(written) => written,
            Poll::Pending => Ok(0),
        }
    }

    /// Writes on a stream as much as it takes now.
    ///
    /// # Errors
    /// If the stream takes nothing more, ever.
    pub fn fill(&mut self, host: HostIndex, stream: StreamId) -> Result<(), WriteError> {
        const CHUNK: [u8; 16 << 10] = [0x5a; 16 << 10];
        while self.write(host, stream, &CHUNK)? > 0 {}
        Ok(())
    }

    /// The present moment.
    pub fn now(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    /// The time since the world's start.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    /// Tells the host's application after `delay`.
    pub fn set_timer(&mut self, host: HostIndex, delay: Duration, token: u64) {
        let at = (self.now() + delay).as_nanos();
        self.queue.push(at, Happening::Timer { host: host.0, token });
    }

    /// Puts a datagram on the host's doorstep now, as if it had come from `from`.
    pub fn inject(&mut self, to: HostIndex, from: SocketAddr, bytes: &[u8]) {
        let datagram = Datagram {
            from,
            to: self.nodes[to.0].address,
            bytes: bytes.to_vec(),
            ecn: Ecn::NotEct,
        };
        self.queue.push(self.now, Happening::Deliver(datagram));
    }

    /// Keeps a copy of every datagram sent from now on.
    pub fn capture(&mut self) {
        self.tap.capture();
    }

    /// The copies kept since the last call.
    pub fn captured(&mut self) -> Vec<Captured> {
        self.tap.take_captured()
    }

    /// Takes datagrams for which `filter` says so out of the network, from now on, and keeps them.
    pub fn hold(&mut self, filter: impl FnMut(&Captured) -> bool + 'static) {
        self.tap.hold(Some(Box::new(filter)));
    }

    /// Lets everything pass again; returns what was held.
    pub fn unhold(&mut self) -> Vec<Captured> {
        self.tap.hold(None);
        self.tap.take_held()
    }

    /// The record of what happened.
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// Records something in the transcript.
    pub fn note(&mut self, entry: std::fmt::Arguments<'_>) {
        self.transcript.note(self.now, entry);
    }

    /// Returns what makes it pointless to run on, if anything: a host that never comes to rest.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Runs until the given time since the world's start.
    pub fn run_until(&mut self, until: Duration, apps: &mut dyn Apps) {
        while self.step(until, apps) {}
    }

    /// Runs for the given time.
    pub fn run_for(&mut self, time: Duration, apps: &mut dyn Apps) {
        self.run_until(self.elapsed() + time, apps);
    }

    /// Does what happens next, if that is before or at `until`; else the time becomes `until`, and it returns false.
    pub fn step(&mut self, until: Duration, apps: &mut dyn Apps) -> bool {
        self.settle(apps);
        let until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        let next = self.queue.next_at().filter(|at| *at <= until);
        let (Some(at), None) = (next, &self.fault) else {
            self.now = self.now.max(until);
            return false;
        };
        self.advance(at);
        let Some(happening) = self.queue.pop() else {
            return false;
        };
        match happening {
            Happening::Deliver(datagram) => self.deliver(datagram),
            Happening::Wake { host, at } => self.wake(host, at),
            Happening::Timer { host, token } => apps.on_timer(self, HostIndex(host), token),
        }
        self.settle(apps);
        true
    }

    fn advance(&mut self, at: u64) {
        self.steps_now = if at > self.now { 0 } else { self.steps_now + 1 };
        self.now = self.now.max(at);
        if self.steps_now > MAX_STEPS_AT_ONCE {
            self.fault = Some(format!("time stands still at {:?}", self.elapsed()));
        }
    }

    fn wake(&mut self, host: usize, at: u64) {
        let now = self.now();
        let node = &mut self.nodes[host];
        if node.wake == Some(at) {
            node.wake = None;
            node.is_touched = true;
            if node.asleep.is_none() {
                node.host.handle(now, Input::Tick);
            }
        }
    }

    fn deliver(&mut self, first: Datagram) {
        let Some(&host) = self.routes.get(&first.to) else {
            let to = first.to;
            return self.note(format_args!("nobody at {to}"));
        };
        match &mut self.nodes[host].asleep {
            None => self.take_in(host, first),
            Some(doorstep) => {
                if !doorstep.put(first) {
                    self.note(format_args!("h{host} has a full socket"));
                }
            }
        }
    }

    /// A host is given a datagram, and what joins it.
    fn take_in(&mut self, host: usize, first: Datagram) {
        let (stride, ecn, remote, local) = (first.bytes.len(), first.ecn, first.from, first.to.ip());
        let mut data = BytesMut::with_capacity(stride);
        let mut next = Some(first);
        let mut count = 0;
        while let Some(datagram) = next.take() {
            self.transcript
                .note_datagram(self.now, format_args!("h{host} <- {remote}"), &datagram.bytes);
            data.extend_from_slice(&datagram.bytes);
            count += 1;
            if datagram.bytes.len() == stride && count < MAX_BATCH {
                next = self.queue.pop_joining(self.now, &datagram);
            }
        }
        if stride == 0 {
            return;
        }
        let now = self.now();
        let node = &mut self.nodes[host];
        node.is_touched = true;
        let batch = Batch {
            data: &mut data,
            lent: &mut None,
            stride,
            link: sss_proto::Link::Udp(remote),
            local: Some(local),
            ecn,
        };
        node.host.handle(now, Input::Datagrams(batch));
    }

    /// Steps 2 and 3, until nothing is left to do now.
    fn settle(&mut self, apps: &mut dyn Apps) {
        while self.fault.is_none() {
            self.collect_events();
            if let Some((host, event)) = self.events.pop_front() {
                self.note(format_args!("h{} {event:?}", host.0));
                apps.on_event(self, host, event);
                continue;
            }
            let Some(host) = self.nodes.iter().position(Node::is_due) else {
                return;
            };
            self.poll(host);
        }
    }

    fn collect_events(&mut self) {
        for (index, node) in self.nodes.iter_mut().enumerate().filter(|(_, n)| n.is_due()) {
            while let Some(event) = node.host.poll_event() {
                self.events.push_back((HostIndex(index), event));
            }
        }
    }

    /// Polls a host until it has nothing more to say.
    fn poll(&mut self, index: usize) {
        let now = self.now();
        for _ in 0..MAX_OUTPUTS_AT_ONCE {
            let node = &mut self.nodes[index];
            match node.host.poll(now, &mut node.buf) {
                Output::Transmit(transmit) => self.transmit(index, &transmit),
                Output::Event(event) => self.events.push_back((HostIndex(index), event)),
                Output::Wake(at) => {
                    node.is_touched = false;
                    return self.set_wake(index, at);
                }
            }
        }
        self.fault = Some(format!("h{index} has no end of output at {:?}", self.elapsed()));
    }

    fn set_wake(&mut self, index: usize, at: Option<Instant>) {
        let at = at.map(|at| at.as_nanos().max(self.now));
        let node = &mut self.nodes[index];
        if node.wake != at {
            node.wake = at;
            if let Some(at) = at {
                let late = (Instant::from_nanos(at) + node.lag).as_nanos();
                self.queue.push(late, Happening::Wake { host: index, at });
            }
        }
    }

    fn transmit(&mut self, index: usize, transmit: &Transmit) {
        let node = &self.nodes[index];
        let (from, link) = (node.address, transmit.link);
        let sss_proto::Link::Udp(to) = link else {
            self.fault = Some(format!("h{index} sends over {link}, which nobody has given it"));
            return;
        };
        let filled = node.buf.filled();
        if transmit.segment == 0 || filled.is_empty() {
            self.fault = Some(format!("h{index} sends nothing to {to}"));
            return;
        }
        let datagrams: Vec<Vec<u8>> = filled.chunks(transmit.segment).map(<[u8]>::to_vec).collect();
        for bytes in datagrams {
            let ecn = transmit.ecn;
            self.transcript
                .note_datagram(self.now, format_args!("h{index} -> {to}"), &bytes);
            let datagram = Datagram { from, to, bytes, ecn };
            if !self.tap.takes(self.now, &datagram) {
                self.send(index, &datagram);
            }
        }
    }

    fn send(&mut self, index: usize, datagram: &Datagram) {
        let to = self.routes.get(&datagram.to).copied();
        let way = to.and_then(|to| self.ways.get(&(index, to)));
        let Some(link) = way.and_then(|way| self.links.get_mut(*way)) else {
            return self.note(format_args!("   no way to {}", datagram.to));
        };
        match link.send(self.now, &datagram.bytes, datagram.ecn) {
            Err(reason) => self.note(format_args!("   lost: {reason:?}")),
            Ok(arrivals) => {
                for arrival in arrivals {
                    let copy = Datagram {
                        from: datagram.from,
                        to: datagram.to,
                        bytes: arrival.bytes,
                        ecn: arrival.ecn,
                    };
                    self.queue.push(arrival.at, Happening::Deliver(copy));
                }
            }
        }
    }
}
