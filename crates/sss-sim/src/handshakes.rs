//! The cost of a new channel: the time to the first byte of an answer, by loss, and the processor's time of both hosts.

use std::fmt;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use sss_crypto::StaticKey;
use sss_proto::{
    Batch, Config, Ecn, Event, Host, Input, Instant, Interest, Link, ListenerId, Output, PostQuantum, ReadOutcome,
    StreamId, TransmitBuf,
};

use sss_wire::constants::BASE_DATAGRAM;

use crate::link::LinkConfig;
use crate::world::{Apps, HostIndex, World};

const CLIENT: HostIndex = HostIndex(0);
const SERVER: HostIndex = HostIndex(1);
const SERVICE: (&str, &str) = ("answer", "answer/1");
const REQUEST: [u8; 100] = [b'?'; 100];
const ANSWER: [u8; 100] = [b'!'; 100];
/// Round trip of the empty path.
pub const RTT: Duration = Duration::from_millis(50);
/// The time that an attempt may take.
const TIMEOUT: Duration = Duration::from_secs(120);

fn config(policy: PostQuantum) -> Config {
    Config::default().with(|config| config.post_quantum = policy)
}

/// Without the search for larger datagrams, which is not part of a negotiation.
fn small(policy: PostQuantum) -> Config {
    config(policy).with(|config| config.max_datagram = BASE_DATAGRAM)
}

/// The applications of both hosts: one asks, the other answers.
struct Answering {
    asked: StreamId,
    answering: Option<StreamId>,
    first_byte: Option<Duration>,
    failed: Option<String>,
}

impl Answering {
    fn accept(&mut self, world: &mut World, listener: ListenerId) {
        while let Some((stream, _)) = world.call(SERVER, |h, _| h.accept(listener)) {
            self.answering = Some(stream);
            self.answer(world);
        }
    }

    fn answer(&mut self, world: &mut World) {
        let Some(stream) = self.answering else { return };
        let read = world.call(SERVER, |h, now| h.stream(stream).poll_read(now, REQUEST.len()));
        if matches!(read, Poll::Ready(Ok(ReadOutcome::Chunk(_)))) {
            let _ = world.call(SERVER, |h, _| h.stream(stream).poll_write(&ANSWER));
        }
    }

    fn look(&mut self, world: &mut World) {
        let stream = self.asked;
        match world.call(CLIENT, |h, now| h.stream(stream).poll_read(now, ANSWER.len())) {
            Poll::Ready(Ok(ReadOutcome::Chunk(_))) => {
                self.first_byte.get_or_insert(world.elapsed());
            }
            Poll::Ready(Err(error)) => self.failed = Some(error.to_string()),
            _ => {}
        }
    }
}

impl Apps for Answering {
    fn on_event(&mut self, world: &mut World, host: HostIndex, event: Event) {
        match event {
            Event::Acceptable(listener) => self.accept(world, listener),
            Event::Ready(_, Interest::Read) if host == CLIENT => self.look(world),
            Event::Ready(_, Interest::Read) => self.answer(world),
            _ => {}
        }
    }

    fn on_timer(&mut self, _: &mut World, _: HostIndex, _: u64) {}
}

/// One attempt: how long it took from the first packet to the first byte of the answer.
///
/// # Errors
/// If none came.
pub fn run(policy: PostQuantum, loss: f64, seed: u64) -> Result<Duration, String> {
    let mut world = World::new(seed, false);
    world.add_host(config(policy));
    world.add_host(config(policy));
    let link = LinkConfig {
        loss,
        ..LinkConfig::with_delay(RTT / 2)
    };
    world.join(CLIENT, SERVER, &link);
    let listener = world
        .call(SERVER, |h, _| h.listen(SERVICE.0, SERVICE.1))
        .map_err(|e| e.to_string())?;
    let asked = world.connect(CLIENT, SERVER, SERVICE);
    let mut apps = Answering {
        asked,
        answering: None,
        first_byte: None,
        failed: None,
    };
    apps.accept(&mut world, listener);
    let _ = world.call(CLIENT, |h, _| h.stream(asked).poll_write(&REQUEST));
    apps.look(&mut world);
    while apps.first_byte.is_none() && apps.failed.is_none() && world.step(TIMEOUT, &mut apps) {}
    let why = apps.failed.unwrap_or_default();
    apps.first_byte.ok_or_else(|| format!("seed {seed}: no answer: {why}"))
}

/// Times of many attempts.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The policy of both hosts.
    pub policy: PostQuantum,
    /// Probability of loss, in each direction.
    pub loss: f64,
    /// The median.
    pub p50: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
}

/// The head of a table of rows.
pub const TABLE: &str = "| post-quantum | loss | p50 | p99 |\n|---|---|---|---|";

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (percent, ms) = (self.loss * 100.0, |time: Duration| time.as_millis());
        let Self { policy, p50, p99, .. } = *self;
        write!(f, "| {policy} | {percent} % | {} ms | {} ms |", ms(p50), ms(p99))
    }
}

/// Makes `runs` attempts.
///
/// # Errors
/// As [`run`].
pub fn measure(policy: PostQuantum, loss: f64, runs: u64, seed: u64) -> Result<Row, String> {
    let times: Result<Vec<Duration>, String> = (0..runs.max(1)).map(|n| run(policy, loss, seed + n)).collect();
    let mut times = times?;
    times.sort_unstable();
    let at = |percent: usize| {
        let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(index).copied().unwrap_or_default()
    };
    let (p50, p99) = (at(50), at(99));
    Ok(Row { policy, loss, p50, p99 })
}

/// A host on a wire without delay, and how long its core was at work.
struct Bench {
    host: Host,
    address: SocketAddr,
    busy: Duration,
}

type Packet = (SocketAddr, SocketAddr, Vec<u8>);

impl Bench {
    fn new(n: u8, seed: u8, policy: PostQuantum) -> Self {
        let identity = StaticKey::from_bytes([n; 32]);
        Self {
            host: Host::new(small(policy), identity, [seed; 32]),
            address: SocketAddr::from(([10, 0, 0, n], 4000)),
            busy: Duration::ZERO,
        }
    }

    /// Does something to the host, and counts its time.
    fn timed<T>(&mut self, work: impl FnOnce(&mut Host) -> T) -> T {
        let began = std::time::Instant::now();
        let done = work(&mut self.host);
        self.busy += began.elapsed();
        done
    }

    fn poll(&mut self, now: Instant) -> Vec<Packet> {
        let from = self.address;
        self.timed(|host| {
            let (mut buf, mut packets) = (TransmitBuf::new(1), Vec::new());
            loop {
                match host.poll(now, &mut buf) {
                    Output::Transmit(t) => {
                        packets.push((from, t.link.address().unwrap_or(from), buf.filled().to_vec()))
                    }
                    Output::Event(_) => {}
                    Output::Wake(_) => return packets,
                }
            }
        })
    }

    fn deliver(&mut self, now: Instant, packet: &Packet) {
        let mut data = BytesMut::from(&packet.2[..]);
        self.timed(|host| {
            let batch = Batch {
                stride: data.len(),
                data: &mut data,
                lent: &mut None,
                link: Link::Udp(packet.0),
                local: None,
                ecn: Ecn::NotEct,
            };
            host.handle(now, Input::Datagrams(batch));
        });
    }
}

/// The processor's time for one new channel with a request in its first packet, of the host that connects and of the
/// other one. The mean of `count`, each from a new host to the same one.
pub fn cost(policy: PostQuantum, count: u32) -> (Duration, Duration) {
    let mut server = Bench::new(1, 1, policy);
    let _ = server.host.listen(SERVICE.0, SERVICE.1);
    let (eid, address) = (server.host.eid(), server.address);
    let mut now = Instant::from_nanos(1_000_000_000);
    let mut client_busy = Duration::ZERO;
    for n in 0..count {
        let mut client = Bench::new(2, 2, policy);
        // Another host each time, at another port, in its own hundredth of a second.
        client.host = Host::new(small(policy), StaticKey::from_bytes(seed(n ^ 1)), seed(n));
        client.address.set_port(1024 + (n % 60_000) as u16);
        client.timed(|host| {
            if let Ok(stream) = host.connect(now, eid, SERVICE, &[address.into()]) {
                let _ = host.stream(stream).poll_write(&REQUEST);
            }
        });
        loop {
            let mut packets = client.poll(now);
            packets.extend(server.poll(now));
            if packets.is_empty() {
                break;
            }
            for packet in &packets {
                let to = if packet.1 == address { &mut server } else { &mut client };
                to.deliver(now, packet);
            }
        }
        client_busy += client.busy;
        now = now + Duration::from_millis(10);
    }
    (client_busy / count.max(1), server.busy / count.max(1))
}

fn seed(n: u32) -> [u8; 32] {
    let mut seed = [7; 32];
    if let Some(head) = seed.first_chunk_mut() {
        *head = n.to_be_bytes();
    }
    seed
}
