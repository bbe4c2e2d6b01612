//! Senders that share a bottleneck: what each gets, how long the queue is, and how soon they follow what the path does.

pub mod links;
pub mod resume;
pub mod tables;

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;

use sss_proto::{ChannelInfo, Config, Congestion, Event, Interest, ListenerId, ReadOutcome, StreamId};
use sss_wire::Code;

use crate::link::{Blackout, LinkConfig};
use crate::world::{Apps, HostIndex, World};

const RECEIVER: HostIndex = HostIndex(0);
const SERVICE: (&str, &str) = ("bulk", "bulk/1");
/// Time between two looks at the queue, and the width of the bins of [`FlowReport::bins`].
const LOOK: Duration = Duration::from_millis(5);
/// Width of the bins of [`FlowReport::bins`].
pub const BIN: Duration = Duration::from_millis(20);
/// Token of the timers by which senders of pieces write.
const WRITE: u64 = 0;

/// A sender.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    /// Its congestion control.
    pub control: Congestion,
    /// Time at which it begins.
    pub start: Duration,
    /// So many bytes each time so much has passed; all it can if `None`.
    pub pieces: Option<(usize, Duration)>,
    /// Set if it makes use of what earlier channels knew of the path.
    pub resumes: bool,
    /// Age at which its channel is renewed, if it is another one than that of the protocol.
    pub renew: Option<Duration>,
}

impl Sender {
    /// A sender that begins then, and writes all it can.
    pub fn new(control: Congestion, start: Duration) -> Self {
        Self {
            control,
            start,
            pieces: None,
            resumes: true,
            renew: None,
        }
    }
}

/// Change of the bottleneck.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// It carries so many bits per second.
    Rate(u64),
    /// The round trip of the empty path takes so long.
    Rtt(Duration),
    /// The senders end their connections, and begin others so much later.
    Anew(Duration),
    /// The receiver has another address.
    Moved,
}

/// A bottleneck, who sends through it, and what happens to it.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The seed.
    pub seed: u64,
    /// Bits per second of the bottleneck.
    pub rate: u64,
    /// Round-trip time of the empty path.
    pub rtt: Duration,
    /// Bytes that wait at the bottleneck, at most.
    pub queue: usize,
    /// Probability of loss behind the bottleneck, towards the receiver.
    pub loss: f64,
    /// Jitter in each direction.
    pub jitter: Duration,
    /// Hosts that send.
    pub senders: Vec<Sender>,
    /// Bytes waiting at the bottleneck above which it marks with CE, if it does.
    pub mark_above: Option<usize>,
    /// Changes, and when they happen, in order.
    pub changes: Vec<(Duration, Change)>,
    /// Times at which nothing passes towards the receiver.
    pub blackouts: Vec<Blackout>,
    /// From then on is measured.
    pub from: Duration,
    /// Until then.
    pub until: Duration,
}

impl Setup {
    /// One sender over 50 ms, with a queue of so many bandwidth-delay products, measured from 5 s to 25 s.
    pub fn single(control: Congestion, rate: u64, products: f64) -> Self {
        let rtt = Duration::from_millis(50);
        Self {
            seed: 1,
            rate,
            rtt,
            queue: (rate as f64 / 8.0 * rtt.as_secs_f64() * products) as usize,
            loss: 0.0,
            jitter: Duration::ZERO,
            senders: vec![Sender::new(control, Duration::ZERO)],
            mark_above: None,
            changes: Vec::new(),
            blackouts: Vec::new(),
            from: Duration::from_secs(5),
            until: Duration::from_secs(25),
        }
    }

    /// The same with these senders; each begins so long after the one before.
    pub fn shared(self, controls: &[Congestion], apart: Duration) -> Self {
        let sender =
            |(n, control): (usize, &Congestion)| Sender::new(*control, apart * u32::try_from(n).unwrap_or(u32::MAX));
        let senders = controls.iter().enumerate().map(sender).collect();
        Self { senders, ..self }
    }
}

/// Share that a sender got.
#[derive(Clone, Debug)]
pub struct FlowReport {
    /// Its congestion control.
    pub control: Congestion,
    /// Bits per second that the receiving application read, while it was measured.
    pub goodput: f64,
    /// Share of its packets that were lost meanwhile, by chance or for want of room.
    pub lost: f64,
    /// Bytes that the receiving application read in each [`BIN`] since the start.
    pub bins: Vec<u64>,
    /// The sender's view of the channel at the end.
    pub channel: Option<ChannelInfo>,
}

impl FlowReport {
    /// Mean bits per second from one time to another.
    pub fn rate(&self, from: Duration, until: Duration) -> f64 {
        let bin = |at: Duration| (at.as_nanos() / BIN.as_nanos()) as usize;
        let bytes: u64 = self.bins.iter().take(bin(until)).skip(bin(from)).sum();
        bytes as f64 * 8.0 / (until.saturating_sub(from)).as_secs_f64()
    }

    /// Returns how long after `since` the rate, over half a second, is at least this one.
    pub fn reaches(&self, rate: f64, since: Duration) -> Option<Duration> {
        self.reaches_over(Duration::from_millis(500), rate, since)
    }

    /// The same over another time.
    pub fn reaches_over(&self, width: Duration, rate: f64, since: Duration) -> Option<Duration> {
        let end = BIN * u32::try_from(self.bins.len()).unwrap_or(u32::MAX);
        let mut at = since;
        while at + width <= end {
            if self.rate(at, at + width) >= rate {
                return Some(at + width - since);
            }
            at += BIN;
        }
        None
    }
}

/// Results of the measurement.
#[derive(Clone, Debug)]
pub struct Report {
    /// Of each sender.
    pub flows: Vec<FlowReport>,
    /// Time that a datagram waited at the bottleneck: the mean, and the most.
    pub wait: (Duration, Duration),
    /// Datagrams for which the queue had no room, since the beginning.
    pub overflowed: u64,
}

impl Report {
    /// Goodput of all together, in bits per second.
    pub fn total(&self) -> f64 {
        self.flows.iter().map(|f| f.goodput).sum()
    }

    /// Returns how equal the shares are: 1 if they are, 1/n if one has all (Jain, Chiu and Hawe, 1984).
    pub fn fairness(&self) -> f64 {
        let squares: f64 = self.flows.iter().map(|f| f.goodput * f.goodput).sum();
        self.total() * self.total() / (self.flows.len() as f64 * squares).max(1.0)
    }
}

/// Plays a setup.
///
/// # Errors
/// If the world does not come to rest, or a channel is lost.
pub fn run(setup: &Setup) -> Result<Report, String> {
    let mut world = build(setup);
    let mut pump = Pump::new(&mut world, setup)?;
    let mut changes = Changes::default();
    let mut before = Vec::new();
    let (mut sum, mut most, mut looks) = (Duration::ZERO, Duration::ZERO, 0);
    while world.elapsed() < setup.until {
        let now = world.elapsed();
        pump.start(&mut world, setup, now);
        changes.change(&mut world, &mut pump, setup, now);
        if now >= setup.from {
            if before.is_empty() {
                before = pump.state(&world);
            }
            let wait = world.waiting(HostIndex(1), RECEIVER);
            (sum, most, looks) = (sum + wait, most.max(wait), looks + 1);
        }
        world.run_for(LOOK, &mut pump);
    }
    if let Some(what) = pump.failure.as_deref().or(world.fault()) {
        return Err(what.to_owned());
    }
    Ok(Report {
        flows: pump.report(&world, setup, &before),
        wait: (sum / looks.max(1), most),
        overflowed: world.overflowed(HostIndex(1), RECEIVER),
    })
}

fn bottleneck(setup: &Setup, rate: u64, rtt: Duration) -> LinkConfig {
    LinkConfig {
        rate: Some(rate),
        delay: rtt / 2,
        jitter: setup.jitter,
        loss: setup.loss,
        queue: setup.queue,
        mark_above: setup.mark_above,
        blackouts: setup.blackouts.clone(),
        ..LinkConfig::default()
    }
}

fn way_back(setup: &Setup, rtt: Duration) -> LinkConfig {
    LinkConfig {
        jitter: setup.jitter,
        ..LinkConfig::with_delay(rtt - rtt / 2)
    }
}

fn move_receiver(world: &mut World) {
    let mut address = world.address(RECEIVER);
    address.set_port(address.port() + 1);
    world.rebind(RECEIVER, address);
}

/// Part of [`Setup::changes`] that has happened.
#[derive(Default)]
struct Changes {
    done: usize,
    rate: Option<u64>,
    rtt: Option<Duration>,
}

impl Changes {
    fn change(&mut self, world: &mut World, pump: &mut Pump, setup: &Setup, now: Duration) {
        let before = self.done;
        while let Some((_, change)) = setup.changes.get(self.done).filter(|(at, _)| *at <= now) {
            match change {
                Change::Rate(rate) => self.rate = Some(*rate),
                Change::Rtt(rtt) => self.rtt = Some(*rtt),
                Change::Anew(pause) => pump.leave(world, now + *pause),
                Change::Moved => move_receiver(world),
            }
            self.done += 1;
        }
        if self.done > before {
            let rtt = self.rtt.unwrap_or(setup.rtt);
            let there = bottleneck(setup, self.rate.unwrap_or(setup.rate), rtt);
            world.set_link(HostIndex(1), RECEIVER, there);
            for host in (1..=setup.senders.len()).map(HostIndex) {
                world.set_link(RECEIVER, host, way_back(setup, rtt));
            }
        }
    }
}

fn build(setup: &Setup) -> World {
    let mut world = World::new(setup.seed, false);
    let _ = world.add_host(Config::default());
    let there = bottleneck(setup, setup.rate, setup.rtt);
    let back = way_back(setup, setup.rtt);
    for sender in &setup.senders {
        let host = world.add_host(Config::default().with(|c| {
            c.congestion = sender.control;
            c.careful_resume = sender.resumes;
            c.renew = sender.renew.unwrap_or(c.renew);
        }));
        if host == HostIndex(1) {
            world.set_link(host, RECEIVER, there.clone());
        } else {
            world.share_link(host, RECEIVER, (HostIndex(1), RECEIVER));
        }
        world.set_link(RECEIVER, host, back.clone());
    }
    world
}

/// State of a sender at some moment: bytes read from it, packets sent, packets lost.
type State = (u64, u64, u64);

/// The applications: each sender writes, the receiver reads.
struct Pump {
    streams: BTreeMap<HostIndex, StreamId>,
    /// Pieces of the senders that do not write all they can.
    pieces: BTreeMap<HostIndex, (usize, Duration)>,
    /// Which host is at the other end of a stream of the receiver.
    origins: Vec<(StreamId, HostIndex)>,
    bins: BTreeMap<HostIndex, Vec<u64>>,
    /// No sender begins before; senders have ended their connections if it is not zero.
    pause: Duration,
    failure: Option<String>,
}

impl Pump {
    fn new(world: &mut World, setup: &Setup) -> Result<Self, String> {
        let listener = world.call(RECEIVER, |h, _| h.listen(SERVICE.0, SERVICE.1));
        let bins = usize::try_from(setup.until.as_nanos() / BIN.as_nanos()).unwrap_or_default() + 1;
        let senders = (1..=setup.senders.len()).map(HostIndex);
        let mut pump = Self {
            streams: BTreeMap::new(),
            pieces: BTreeMap::new(),
            origins: Vec::new(),
            bins: senders.map(|host| (host, vec![0; bins])).collect(),
            pause: Duration::ZERO,
            failure: None,
        };
        pump.accept(world, listener.map_err(|error| error.to_string())?);
        Ok(pump)
    }

    /// Starts the senders whose time has come.
    fn start(&mut self, world: &mut World, setup: &Setup, now: Duration) {
        for (index, sender) in setup.senders.iter().enumerate() {
            let host = HostIndex(index + 1);
            if sender.start.max(self.pause) <= now && !self.streams.contains_key(&host) {
                let stream = world.connect(host, RECEIVER, SERVICE);
                self.streams.insert(host, stream);
                match sender.pieces {
                    None => self.write(world, host),
                    Some(pieces) => {
                        self.pieces.insert(host, pieces);
                        self.write_piece(world, host);
                    }
                }
            }
        }
    }

    /// All senders end their connections, and begin others at some time.
    fn leave(&mut self, world: &mut World, until: Duration) {
        self.pause = until;
        for (host, stream) in std::mem::take(&mut self.streams) {
            world.call(host, |h, now| h.disconnect(now, stream.peer(), Code::NONE, ""));
        }
    }

    fn accept(&mut self, world: &mut World, listener: ListenerId) {
        while let Some((stream, eid)) = world.call(RECEIVER, |h, _| h.accept(listener)) {
            if let Some(host) = world.host_of(&eid) {
                self.origins.push((stream, host));
            }
            self.read(world, stream);
        }
    }

    fn write_piece(&mut self, world: &mut World, host: HostIndex) {
        let (Some(stream), Some((bytes, every))) = (self.streams.get(&host), self.pieces.get(&host)) else {
            return;
        };
        world.set_timer(host, *every, WRITE);
        let written = world.write(host, *stream, &vec![0x5a; *bytes]);
        if written.as_ref().ok() != Some(bytes) {
            self.failure
                .get_or_insert(format!("a piece was not taken: {written:?}"));
        }
    }

    fn write(&mut self, world: &mut World, host: HostIndex) {
        if let Some(stream) = self.streams.get(&host)
            && !self.pieces.contains_key(&host)
            && let Err(error) = world.fill(host, *stream)
        {
            self.failure.get_or_insert(error.to_string());
        }
    }

    fn read(&mut self, world: &mut World, stream: StreamId) {
        let bin = (world.elapsed().as_nanos() / BIN.as_nanos()) as usize;
        loop {
            match world.call(RECEIVER, |h, now| h.stream(stream).poll_read(now, usize::MAX)) {
                Poll::Ready(Ok(ReadOutcome::Chunk(data))) => self.count(stream, bin, data.len() as u64),
                Poll::Ready(Ok(ReadOutcome::Mark)) => {}
                Poll::Ready(Ok(ReadOutcome::End)) | Poll::Pending => return,
                Poll::Ready(Err(error)) => {
                    if self.pause.is_zero() {
                        self.failure.get_or_insert(error.to_string());
                    }
                    return;
                }
            }
        }
    }

    fn count(&mut self, stream: StreamId, bin: usize, bytes: u64) {
        let origin = self.origins.iter().find(|(s, _)| *s == stream);
        let bins = origin.and_then(|(_, host)| self.bins.get_mut(host));
        if let Some(sum) = bins.and_then(|bins| bins.get_mut(bin)) {
            *sum += bytes;
        }
    }

    fn channel(&self, world: &World, host: HostIndex) -> Option<ChannelInfo> {
        world.host(host).channel_info(self.streams.get(&host)?.peer())
    }

    fn state(&self, world: &World) -> Vec<State> {
        let state = |(host, bins): (&HostIndex, &Vec<u64>)| {
            let channel = self.channel(world, *host);
            let (sent, lost) = channel.map_or((0, 0), |c| (c.packets_sent, c.packets_lost));
            (bins.iter().sum(), sent, lost)
        };
        self.bins.iter().map(state).collect()
    }

    fn report(&self, world: &World, setup: &Setup, before: &[State]) -> Vec<FlowReport> {
        let seconds = (setup.until - setup.from).as_secs_f64();
        let after = self.state(world);
        let flow = |((index, sender), (host, bins)): ((usize, &Sender), (&HostIndex, &Vec<u64>))| {
            let (now, then) = (after[index], before.get(index).copied().unwrap_or_default());
            // A channel that was replaced since counts from its own beginning.
            let (sent, lost) = (
                now.1.checked_sub(then.1).unwrap_or(now.1),
                now.2.checked_sub(then.2).unwrap_or(now.2),
            );
            FlowReport {
                control: sender.control,
                goodput: (now.0 - then.0) as f64 * 8.0 / seconds,
                lost: lost as f64 / (sent as f64).max(1.0),
                bins: bins.clone(),
                channel: self.channel(world, *host),
            }
        };
        setup.senders.iter().enumerate().zip(&self.bins).map(flow).collect()
    }
}

impl Apps for Pump {
    fn on_event(&mut self, world: &mut World, host: HostIndex, event: Event) {
        match event {
            Event::Acceptable(listener) => self.accept(world, listener),
            Event::Ready(stream, Interest::Read) => self.read(world, stream),
            Event::Ready(_, Interest::Write) => self.write(world, host),
            Event::Disconnected(_, _, reason) if self.pause.is_zero() => {
                self.failure.get_or_insert(reason.to_string());
            }
            _ => {}
        }
    }

    fn on_timer(&mut self, world: &mut World, host: HostIndex, _: u64) {
        self.write_piece(world, host);
    }
}
