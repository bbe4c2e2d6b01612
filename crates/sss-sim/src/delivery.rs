//! Delivery of datagrams with a deadline over a path that loses packets.
//!
//! One host sends best-effort datagrams of one size at a steady pace, far below the rate of the link, and the other
//! takes them at once. What counts is whether each arrives whole, and when.

use std::fmt;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use sss_proto::{
    ChannelInfo, Config, Congestion, DatagramFate, DatagramOptions, DatagramStats, Event, Instant, Interest,
    ListenerId, PeerId, ReadOutcome, StreamId,
};

use crate::link::LinkConfig;
use crate::model;
use crate::world::{Apps, HostIndex, World};

const SENDER: HostIndex = HostIndex(0);
const RECEIVER: HostIndex = HostIndex(1);
const SERVICE: (&str, &str) = ("datagrams", "datagrams/1");
/// Bytes of a datagram that say which it is.
const HEAD: usize = 8;
/// Before the first datagram: the channel is made, and the path MTU is found.
const START: Duration = Duration::from_secs(5);

/// A path, and what is sent over it.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The seed.
    pub seed: u64,
    /// Bits per second in each direction.
    pub rate: u64,
    /// Round-trip time of the empty path.
    pub rtt: Duration,
    /// Probability of loss towards the receiver; acknowledgements are not lost.
    pub loss: f64,
    /// Size of each datagram, in bytes; at least 8.
    pub size: usize,
    /// Number of datagrams.
    pub count: u32,
    /// Time from one to the next.
    pub interval: Duration,
    /// Time for which each is of use.
    pub deadline: Duration,
    /// The sender's congestion control.
    pub congestion: Congestion,
    /// Set if another stream sends as much as it can at the same time, so that there is a queue at the link.
    pub bulk: bool,
}

impl Setup {
    /// The path of the experiment: 100 Mbit/s, 50 ms, 500 ms for each datagram. A link of 20 Mbit/s alone takes 420 ms
    /// for 1 MiB.
    ///
    /// The pace is at most a fifth of the link's rate, and a datagram of 16 KiB and more is over before the next
    /// begins.
    pub fn standard(seed: u64, loss: f64, size: usize) -> Self {
        let (count, interval) = match size {
            0..=1024 => (1000, 20),
            1025..=16_384 => (400, 200),
            16_385..=131_072 => (200, 600),
            _ => (100, 1000),
        };
        Self {
            seed,
            rate: 100_000_000,
            rtt: Duration::from_millis(50),
            loss,
            size,
            count,
            interval: Duration::from_millis(interval),
            deadline: Duration::from_millis(500),
            congestion: Congestion::default(),
            bulk: false,
        }
    }
}

/// Results of the measurement.
#[derive(Clone, Debug)]
pub struct Report {
    /// Setup of the measurement.
    pub setup: Setup,
    /// Number that the host took in.
    pub sent: u32,
    /// Number that arrived whole.
    pub delivered: u32,
    /// Number of these came after their deadline.
    pub late: u32,
    /// Number that the sender gave up.
    pub expired: u32,
    /// Times from sending to arrival, ascending.
    pub latencies: Vec<Duration>,
    /// The sender's counters.
    pub stats: DatagramStats,
    /// The sender's view of the channel at the end.
    pub channel: Option<ChannelInfo>,
}

impl Report {
    /// Share that arrived in time.
    pub fn delivery(&self) -> f64 {
        f64::from(self.delivered - self.late) / f64::from(self.setup.count)
    }

    /// The time within which this share of those that arrived had arrived.
    pub fn latency(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.latencies.get(at).copied().unwrap_or_default()
    }
}

impl Report {
    /// One JSON object.
    pub fn json(&self) -> String {
        let ms = |share| self.latency(share).as_secs_f64() * 1e3;
        let (setup, stats) = (&self.setup, &self.stats);
        let channel = |f: fn(&ChannelInfo) -> u64| self.channel.as_ref().map_or(0, f);
        format!(
            "{{\"congestion\":\"{}\",\"loss\":{},\"size\":{},\"rate\":{},\"rtt_ms\":{},\"deadline_ms\":{},\"interval_ms\":{},\"sent\":{},\
             \"delivered\":{},\"late\":{},\"expired\":{},\"in_time\":{:.4},\"median_ms\":{:.1},\"p99_ms\":{:.1},\"max_ms\":{:.1},\
             \"stateless\":{},\"as_stream\":{},\"window\":{},\"packets_sent\":{},\"packets_lost\":{}}}",
            setup.congestion,
            setup.loss,
            setup.size,
            setup.rate,
            setup.rtt.as_millis(),
            setup.deadline.as_millis(),
            setup.interval.as_millis(),
            self.sent,
            self.delivered,
            self.late,
            self.expired,
            self.delivery(),
            ms(0.5),
            ms(0.99),
            ms(1.0),
            stats.sent_stateless,
            stats.sent_as_stream,
            channel(|c| c.window),
            channel(|c| c.packets_sent),
            channel(|c| c.packets_lost),
        )
    }
}

impl fmt::Display for Report {
    /// One line of a table in Markdown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let window = self.channel.as_ref().map_or(0, |c| c.window);
        write!(
            f,
            "| {} | {} % | {} | {} | {:.1} % | {} | {} | {:.0} / {:.0} / {:.0} ms | {:.0} % | {} |",
            self.setup.congestion,
            self.setup.loss * 100.0,
            size_name(self.setup.size),
            self.setup.count,
            self.delivery() * 100.0,
            self.late,
            self.expired,
            ms(self.latency(0.5)),
            ms(self.latency(0.99)),
            ms(self.latency(1.0)),
            self.stats.sent_stateless as f64 * 100.0 / f64::from(self.sent.max(1)),
            window / 1000,
        )
    }
}

/// The head of the table that reports are lines of.
pub const TABLE: &str = "\
| control | loss | size | sent | in time | late | expired | latency: median / 99 % / largest | stateless | window at the end, kB |
|---|---|---|---|---|---|---|---|---|---|";

fn size_name(size: usize) -> String {
    match size {
        0..1024 => format!("{size} B"),
        1024..1_048_576 => format!("{} KiB", size >> 10),
        _ => format!("{} MiB", size >> 20),
    }
}

/// Sends and receives as `setup` says.
///
/// # Errors
/// If a datagram is not what was sent, comes twice, is neither delivered nor given up, or the channel is lost.
pub fn run(setup: &Setup) -> Result<Report, String> {
    let mut world = World::new(setup.seed, false);
    let _ = world.add_host(Config::default().with(|c| c.congestion = setup.congestion));
    let _ = world.add_host(Config::default());
    let back = LinkConfig {
        rate: Some(setup.rate),
        delay: setup.rtt / 2,
        // A round trip at the full rate.
        queue: usize::try_from(setup.rate / 8).unwrap_or(usize::MAX) / 1000 * setup.rtt.as_millis() as usize,
        ..LinkConfig::default()
    };
    let there = LinkConfig {
        loss: setup.loss,
        ..back.clone()
    };
    world.set_link(SENDER, RECEIVER, there);
    world.set_link(RECEIVER, SENDER, back);
    let mut flow = Flow::start(&mut world, setup);
    let end = START + setup.interval * setup.count + setup.deadline + setup.rtt * 40;
    world.run_until(end, &mut flow);
    if let Some(what) = flow.failure.as_deref().or(world.fault()) {
        return Err(what.to_owned());
    }
    let report = flow.report(&world);
    let told = flow.acknowledged + flow.expired + flow.lost;
    if told != report.sent || flow.acknowledged > report.delivered {
        return Err(format!(
            "of {} datagrams {} arrived, and {} are said to be, {} expired and {} lost",
            report.sent, report.delivered, flow.acknowledged, flow.expired, flow.lost
        ));
    }
    Ok(report)
}

/// The applications on both hosts.
struct Flow {
    setup: Setup,
    stream: StreamId,
    peer: PeerId,
    /// The stream that fills the queue.
    bulk: Option<StreamId>,
    /// Time at which each was sent, and how long it took.
    sent: Vec<(Instant, Option<Duration>)>,
    /// Fates that the sender was told.
    acknowledged: u32,
    expired: u32,
    lost: u32,
    failure: Option<String>,
}

impl Flow {
    fn start(world: &mut World, setup: &Setup) -> Self {
        let listener = world.call(RECEIVER, |h, _| h.listen(SERVICE.0, SERVICE.1));
        let stream = world.connect(SENDER, RECEIVER, SERVICE);
        world.set_timer(SENDER, START, 0);
        let mut flow = Self {
            setup: setup.clone(),
            stream,
            peer: stream.peer(),
            bulk: None,
            sent: Vec::new(),
            acknowledged: 0,
            expired: 0,
            lost: 0,
            failure: listener.as_ref().err().map(ToString::to_string),
        };
        if let Ok(listener) = listener {
            flow.accept(world, listener);
        }
        if setup.bulk {
            flow.bulk = Some(world.connect(SENDER, RECEIVER, SERVICE));
            flow.write(world);
        }
        flow
    }

    fn fail(&mut self, what: impl ToString) {
        self.failure.get_or_insert(what.to_string());
    }

    fn accept(&mut self, world: &mut World, listener: ListenerId) {
        while let Some((stream, _)) = world.call(RECEIVER, |h, _| h.accept(listener)) {
            self.receive(world, stream);
            self.read(world, stream);
        }
    }

    fn write(&mut self, world: &mut World) {
        if let Some(stream) = self.bulk
            && let Err(error) = world.fill(SENDER, stream)
        {
            self.fail(error);
        }
    }

    fn read(&mut self, world: &mut World, stream: StreamId) {
        loop {
            match world.call(RECEIVER, |h, now| h.stream(stream).poll_read(now, usize::MAX)) {
                Poll::Ready(Ok(ReadOutcome::Chunk(_) | ReadOutcome::Mark)) => {}
                Poll::Ready(Ok(ReadOutcome::End)) | Poll::Pending => return,
                Poll::Ready(Err(error)) => return self.fail(error),
            }
        }
    }

    fn send(&mut self, world: &mut World) {
        let (stream, number) = (self.stream, self.sent.len());
        let data = contents(number, self.setup.size);
        let options = DatagramOptions::default().with(|o| {
            o.deadline = Some(self.setup.deadline);
            o.tracked = true;
        });
        self.sent.push((world.now(), None));
        match world.call(SENDER, |h, now| h.stream(stream).send_datagram(now, &data, &options)) {
            Ok(Some(_)) => {}
            Ok(None) => self.fail("the queue is full: the pace is too high"),
            Err(error) => self.fail(error),
        }
        if self.sent.len() < self.setup.count as usize {
            world.set_timer(SENDER, self.setup.interval, 0);
        }
    }

    fn receive(&mut self, world: &mut World, stream: StreamId) {
        loop {
            match world.call(RECEIVER, |h, now| h.stream(stream).poll_recv_datagram(now)) {
                Poll::Ready(Ok(Some(data))) => self.check(world.now(), &data),
                Poll::Ready(Ok(None)) | Poll::Pending => return,
                Poll::Ready(Err(error)) => return self.fail(error),
            }
        }
    }

    fn check(&mut self, now: Instant, data: &Bytes) {
        let number = data
            .first_chunk::<HEAD>()
            .map(|head| u64::from_be_bytes(*head) as usize);
        let sent = number.and_then(|n| Some((n, self.sent.get_mut(n)?)));
        let Some((number, (at, latency))) = sent else {
            return self.fail("a datagram arrived that was never sent");
        };
        if *data != contents(number, self.setup.size) {
            return self.fail(format!("datagram {number} is not what was sent"));
        }
        if latency.replace(now.since(*at)).is_some() {
            self.fail(format!("datagram {number} came twice"));
        }
    }

    fn report(&self, world: &World) -> Report {
        let mut latencies: Vec<Duration> = self.sent.iter().filter_map(|(_, latency)| *latency).collect();
        latencies.sort_unstable();
        let late = latencies.iter().filter(|l| **l > self.setup.deadline).count();
        let host = world.host(SENDER);
        Report {
            sent: self.sent.len() as u32,
            delivered: latencies.len() as u32,
            late: late as u32,
            expired: self.expired,
            latencies,
            stats: host.datagram_stats(self.peer).unwrap_or_default(),
            channel: host.channel_info(self.peer),
            setup: self.setup.clone(),
        }
    }
}

impl Apps for Flow {
    fn on_event(&mut self, world: &mut World, _: HostIndex, event: Event) {
        match event {
            Event::Acceptable(listener) => self.accept(world, listener),
            Event::Ready(stream, Interest::Read) => self.read(world, stream),
            Event::Ready(_, Interest::Write) => self.write(world),
            Event::Ready(stream, Interest::RecvDatagram) => self.receive(world, stream),
            Event::DatagramSettled(_, _, fate) => match fate {
                DatagramFate::Delivered => self.acknowledged += 1,
                DatagramFate::Expired => self.expired += 1,
                DatagramFate::Lost => self.lost += 1,
                other => self.fail(format!("a datagram is {other:?}")),
            },
            Event::Disconnected(_, _, reason) => self.fail(reason),
            _ => {}
        }
    }

    fn on_timer(&mut self, world: &mut World, _: HostIndex, _: u64) {
        self.send(world);
    }
}

/// Contents of the datagram with a number: the number, and what follows from it.
fn contents(number: usize, size: usize) -> Bytes {
    let mut data = vec![0; size.max(HEAD)];
    model::fill(number as u64, 0, &mut data);
    data.into()
}
