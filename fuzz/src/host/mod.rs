//! Two hosts of the core and the network between them, all in the hands of the input.
//!
//! The negotiation is the real one. The input says how the hosts begin, and then is a program of one-byte instructions,
//! each with its arguments behind it: what applications call, what becomes of datagrams, and what a peer that has turned
//! hostile says.
//!
//! A fuzzer wants many small programs: a run ends after so many instructions, or so much work. Most programs begin with
//! two hosts that have a channel ([`Start::Established`]).

mod application;
mod network;

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sss_crypto::StaticKey;
use sss_proto::{
    Batch, CloseReason, Config, Ecn, Event, Host, Input, Instant, Link, ListenerId, Output, PeerId, PostQuantum, Route,
    StreamId, TransmitBuf,
};

use application::Streams;

/// The service that both hosts offer.
const SERVICE: (&str, &str) = ("fuzz", "1");
/// Instructions of one input at most.
const MAX_STEPS: usize = 24;
/// Work in one input at most: 400 bytes of a datagram that is received are one, a moment that a host waits for is two.
const MAX_WORK: usize = 36;
/// Of this, what is kept for the end.
const LAST_WORK: usize = 8;
/// Datagrams under way at most: those beyond are lost.
const MAX_UNDER_WAY: usize = 64;
/// Answers of one host to one call, at most: more is a loop without an end.
const MAX_OUTPUTS: usize = 10_000;

/// The input, read from its beginning; zeros behind its end.
pub(crate) struct Program<'a>(&'a [u8]);

impl<'a> Program<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end.max(1)
    }

    /// As many bytes as the next one says, or two say if that is 255.
    fn bytes(&mut self) -> &'a [u8] {
        let len = match self.byte() {
            255 => 255 + usize::from(self.byte()) * 4,
            len => usize::from(len),
        };
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

/// A datagram on its way.
#[derive(Clone)]
struct Datagram {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// A host with its application.
struct Node {
    /// It is large, and would be moved several times until it is where it stays.
    host: Box<Host>,
    address: SocketAddr,
    listener: ListenerId,
    streams: Streams,
    wake: Option<Instant>,
    /// Set if something was done with the host since it was last polled.
    is_touched: bool,
}

/// Two hosts, what is under way between them, and the time.
pub struct World {
    nodes: [Node; 2],
    under_way: Vec<Datagram>,
    /// The latest that were delivered.
    past: VecDeque<Datagram>,
    buf: TransmitBuf,
    now: Instant,
    /// False once a host has said what an honest one does not say: then what arrives need not be what was written.
    is_honest: bool,
    /// Times that a host has begun anew; each has other random numbers.
    restarts: u8,
    /// Of [`MAX_WORK`].
    work: usize,
}

thread_local! {
    /// Its memory is cleared once, and not for each input.
    static BUFFER: Cell<Option<TransmitBuf>> = const { Cell::new(None) };
}

/// Whatever becomes of datagrams, a host does not accuse one that is honest.
fn check(event: &Event, is_honest: bool) {
    if let Event::Disconnected(_, _, CloseReason::Violation(error)) = event {
        assert!(!is_honest, "an honest host is said to break the rules: {error:?}");
    }
}

/// Which instructions a program has.
#[derive(Clone, Copy)]
enum Instructions {
    /// All, most of them for streams.
    Host,
    /// More of what moves hosts and makes channels, and less of the rest.
    Migration,
}

/// How the hosts begin.
#[derive(Clone, Copy)]
pub enum Start {
    /// With a channel, and one of some pairs of settings.
    Established(usize),
    /// With what the first has to say to the second, and these settings.
    Strangers([u8; 2]),
}

/// Settings with which hosts begin that have a channel.
#[rustfmt::skip]
const PAIRS: [[u8; 2]; 16] = [
    [0x00, 0x00], [0x0d, 0x51], [0x12, 0x06], [0x1c, 0x55], [0x21, 0x19], [0x2c, 0x48], [0x30, 0x1d], [0x3e, 0x4e],
    [0x4a, 0x22], [0x44, 0x71], [0x58, 0x24], [0x55, 0x75], [0x68, 0x39], [0x66, 0x6a], [0x79, 0x3d], [0x74, 0x6c],
];

impl Start {
    /// Takes the beginning of an input.
    fn of(program: &mut Program<'_>) -> Self {
        match program.byte() {
            number if number < 224 => Self::Established(usize::from(number) % PAIRS.len()),
            _ => Self::Strangers([program.byte(), program.byte()]),
        }
    }

    /// All with a channel.
    pub fn all_established() -> impl Iterator<Item = Self> {
        (0..PAIRS.len()).map(Self::Established)
    }

    /// Makes the hosts, and their channel, if they are to have one.
    pub fn world(self) -> World {
        match self {
            Self::Established(pair) => {
                let mut world = World::new(PAIRS[pair]);
                world.settle(8);
                assert!(world.peer(0).is_some() && world.peer(1).is_some());
                (world.work, world.past) = (0, VecDeque::new());
                world
            }
            Self::Strangers(settings) => World::new(settings),
        }
    }
}

/// Runs the input of the target `host`.
pub fn host(data: &[u8]) {
    run(Instructions::Host, data);
}

/// Runs the input of the target `migration`.
pub fn migration(data: &[u8]) {
    run(Instructions::Migration, data);
}

fn run(instructions: Instructions, data: &[u8]) {
    let mut program = Program(data);
    let mut world = Start::of(&mut program).world();
    world.run(instructions, &mut program);
    BUFFER.set(Some(world.buf));
}

fn node(n: u8, settings: u8, restarts: u8) -> Node {
    let config = Config::default().with(|config| {
        config.post_quantum = PostQuantum::ALL[usize::from(settings & 3).min(2)];
        config.suites.truncate(1);
        if settings & 4 != 0 {
            config.window.per_stream_max = 4096;
            config.window.root = 65_536;
            config.streams.backlog = 2;
            config.streams.per_peer = 8;
        }
        if settings & 8 != 0 {
            config.hello_threshold = 0;
        }
        config.channel_id_len = if settings & 16 != 0 { 20 } else { 4 };
        config.answer_probes = settings & 32 != 0;
        // Without long probes of the path: they would take most of the time.
        config.max_datagram = 1232;
        config.linger = Duration::from_secs(if settings & 64 != 0 { 0 } else { 60 });
    });
    let (key, seed) = (StaticKey::from_bytes([n + 1; 32]), [n + 7 + restarts % 100 * 2; 32]);
    let mut host = Box::new(Host::new(config, key, seed));
    let listener = host.listen(SERVICE.0, SERVICE.1).expect("the first of its name");
    Node {
        host,
        address: SocketAddr::from(([10, 0, 0, n + 1], 4000)),
        listener,
        streams: Streams::default(),
        wake: None,
        is_touched: true,
    }
}

impl World {
    fn new(settings: [u8; 2]) -> Self {
        let mut world = Self {
            nodes: [node(0, settings[0], 0), node(1, settings[1], 0)],
            under_way: Vec::new(),
            past: VecDeque::new(),
            buf: BUFFER.take().unwrap_or_else(|| TransmitBuf::new(4)),
            now: Instant::from_nanos(1_000_000_000),
            is_honest: true,
            restarts: 0,
            work: 0,
        };
        world.connect(0);
        world.poll(0);
        world
    }

    /// Runs the program, and what it leaves undone.
    fn run(&mut self, instructions: Instructions, program: &mut Program<'_>) {
        for _ in 0..MAX_STEPS {
            if program.0.is_empty() || self.work >= MAX_WORK - LAST_WORK {
                break;
            }
            match instructions {
                Instructions::Host => self.step(program),
                Instructions::Migration => self.migrate(program),
            }
        }
        self.come_to_rest();
        // What the program asked for, and no packet came after.
        sss_proto::hostile::set_packet_zero(usize::MAX, b"");
    }

    /// One instruction.
    fn step(&mut self, program: &mut Program<'_>) {
        let instruction = program.byte();
        let n = usize::from(instruction >> 7);
        match instruction & 0x7f {
            0..=31 => self.network(instruction & 31, n, program),
            32..=95 => self.application((instruction & 0x7f) - 32, n, program),
            _ => self.hostile(instruction & 3, n, program),
        }
        self.poll(n);
    }

    /// One instruction of [`Instructions::Migration`].
    fn migrate(&mut self, program: &mut Program<'_>) {
        let instruction = program.byte();
        let n = usize::from(instruction >> 7);
        match instruction & 0x7f {
            0..=47 => self.network(instruction & 31, n, program),
            48..=63 => self.relocate(n, program),
            64..=79 => self.hostile(instruction & 3, n, program),
            80..=95 => self.application(3, n, program),
            96..=111 => self.application(9, n, program),
            112..=119 => self.settle(8),
            _ => self.application(instruction & 3, n, program),
        }
        self.poll(n);
    }

    fn connect(&mut self, n: usize) {
        let (eid, address) = (self.nodes[1 - n].host.eid(), self.nodes[1 - n].address);
        let node = &mut self.nodes[n];
        if let Ok(stream) = node.host.connect(self.now, eid, SERVICE, &[address.into()]) {
            node.streams.add(stream);
        }
    }

    fn poll_if_touched(&mut self, n: usize) {
        if self.nodes[n].is_touched {
            self.poll(n);
        }
    }

    /// Takes all that a host has to say.
    fn poll(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        for _ in 0..MAX_OUTPUTS {
            match node.host.poll(self.now, &mut self.buf) {
                Output::Transmit(to) => {
                    assert!(!self.buf.filled().is_empty() && to.segment > 0, "an empty datagram");
                    let Link::Udp(address) = to.link else { continue };
                    for bytes in self.buf.filled().chunks(to.segment) {
                        if self.under_way.len() < MAX_UNDER_WAY {
                            let (from, bytes) = (node.address, bytes.to_vec());
                            self.under_way.push(Datagram {
                                from,
                                to: address,
                                bytes,
                            });
                        }
                    }
                }
                Output::Event(event) => {
                    check(&event, self.is_honest);
                    node.streams.on_event(&mut node.host, node.listener, &event);
                }
                Output::Wake(at) => {
                    (node.wake, node.is_touched) = (at, false);
                    return;
                }
            }
        }
        panic!("a host that has always something more to say");
    }

    /// Delivers what is under way, and what is said to that, for some rounds.
    fn settle(&mut self, rounds: usize) {
        for _ in 0..rounds {
            (0..2).for_each(|n| self.poll_if_touched(n));
            if self.under_way.is_empty() {
                return;
            }
            for datagram in std::mem::take(&mut self.under_way) {
                if self.work < MAX_WORK {
                    self.deliver(datagram);
                }
            }
        }
    }

    fn deliver(&mut self, datagram: Datagram) {
        let Some(n) = self.nodes.iter().position(|node| node.address == datagram.to) else {
            return;
        };
        self.receive(n, datagram.from, &datagram.bytes);
        self.past.truncate(MAX_UNDER_WAY);
        self.past.push_front(datagram);
    }

    fn receive(&mut self, n: usize, from: SocketAddr, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.work += 1 + bytes.len() / 400;
        let mut data = BytesMut::from(bytes);
        let batch = Batch {
            stride: data.len(),
            data: &mut data,
            lent: &mut None,
            link: Link::Udp(from),
            local: None,
            ecn: Ecn::NotEct,
        };
        self.nodes[n].host.handle(self.now, Input::Datagrams(batch));
        self.nodes[n].is_touched = true;
    }

    /// Time passes, up to when a host wants to be called at the latest.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        (0..2).for_each(|n| self.poll_if_touched(n));
        // What one host wants done at one moment takes few calls.
        let mut at_once = 0;
        // Long times are long for the fuzzer, too.
        while self.work < MAX_WORK {
            self.work += 2;
            let due = self.nodes.iter().filter_map(|node| node.wake).min();
            let at = due.filter(|due| *due < end).unwrap_or(end).max(self.now);
            let is_last = at == end;
            at_once = if at > self.now { 0 } else { at_once + 1 };
            assert!(at_once < 10, "a host that wants to be called again at once, and again");
            self.now = at;
            for n in 0..2 {
                if is_last || self.nodes[n].wake.is_some_and(|wake| wake <= at) {
                    self.nodes[n].host.handle(self.now, Input::Tick);
                    self.poll(n);
                }
            }
            if is_last {
                return;
            }
        }
    }

    /// Everything is delivered, the applications read what there is, and the hosts end.
    fn come_to_rest(&mut self) {
        self.work = self.work.min(MAX_WORK - LAST_WORK);
        self.settle(4);
        for n in 0..2 {
            let node = &mut self.nodes[n];
            node.streams.read_all(&mut node.host, self.now, self.is_honest);
            let _ = node.host.stats();
        }
        self.nodes[0].host.shutdown(self.now);
        self.nodes[0].is_touched = true;
        self.settle(4);
    }

    /// A peer of the host, if it has one.
    fn peer(&self, n: usize) -> Option<PeerId> {
        self.nodes[n].host.peers().first().map(|(peer, _)| *peer)
    }
}
