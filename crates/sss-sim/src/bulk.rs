//! Goodput of one stream over one bottleneck.

use std::fmt;
use std::task::Poll;
use std::time::Duration;

use sss_proto::{ChannelInfo, Config, Congestion, Event, Interest, ReadOutcome, StreamId};

use crate::link::LinkConfig;
use crate::world::{Apps, HostIndex, World};

const SENDER: HostIndex = HostIndex(0);
const RECEIVER: HostIndex = HostIndex(1);
const SERVICE: (&str, &str) = ("bulk", "bulk/1");

/// A bottleneck and how long to send through it.
#[derive(Clone, Debug)]
pub struct BulkConfig {
    /// The seed.
    pub seed: u64,
    /// Bits per second of the bottleneck.
    pub rate: u64,
    /// Round-trip time of the empty path.
    pub rtt: Duration,
    /// Bytes that wait at the bottleneck, at most.
    pub queue: usize,
    /// Probability of loss, towards the receiver.
    pub loss: f64,
    /// Probability of being overtaken, towards the receiver.
    pub reorder: f64,
    /// Jitter in each direction.
    pub jitter: Duration,
    /// Largest datagram, in bytes of UDP payload.
    pub mtu: usize,
    /// The sender's congestion control.
    pub congestion: Congestion,
    /// Virtual time of sending.
    pub time: Duration,
}

impl Default for BulkConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            rate: 20_000_000,
            rtt: Duration::from_millis(50),
            queue: 125_000,
            loss: 0.0,
            reorder: 0.0,
            jitter: Duration::ZERO,
            mtu: 1472,
            congestion: Congestion::default(),
            time: Duration::from_secs(20),
        }
    }
}

/// Results of the measurement.
#[derive(Clone, Debug)]
pub struct BulkReport {
    /// Bytes that the receiving application read.
    pub bytes: u64,
    /// The same per second of the whole time, in bits.
    pub goodput: f64,
    /// Goodput of the second half of the time, in bits per second.
    pub steady_goodput: f64,
    /// Share of the bottleneck's rate that the sender's datagrams took.
    pub utilisation: f64,
    /// The sender's view of the channel.
    pub channel: Option<ChannelInfo>,
}

impl fmt::Display for BulkReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "goodput      {:>9.3} Mbit/s ({} bytes)",
            self.goodput / 1e6,
            self.bytes
        )?;
        writeln!(f, "second half  {:>9.3} Mbit/s", self.steady_goodput / 1e6)?;
        writeln!(f, "utilisation  {:>9.1} %", self.utilisation * 100.0)?;
        let Some(channel) = &self.channel else {
            return write!(f, "no channel");
        };
        let min = channel.min_rtt.unwrap_or_default();
        writeln!(
            f,
            "rtt          {:>9.1?} smoothed, {min:.1?} smallest, variation {:.1?}",
            channel.rtt, channel.rtt_variation
        )?;
        writeln!(
            f,
            "window       {:>9} bytes ({}, slow start {})",
            channel.window, channel.congestion, channel.slow_start
        )?;
        writeln!(f, "mtu          {:>9} bytes ({:?})", channel.mtu, channel.mtu_state)?;
        writeln!(
            f,
            "packets      {:>9} sent, {} lost, {} of these only late",
            channel.packets_sent, channel.packets_lost, channel.false_losses
        )?;
        write!(
            f,
            "congestion   {:>9} events, {} probe timeouts",
            channel.congestion_events, channel.probe_timeouts
        )
    }
}

/// Sends as fast as the protocol allows for `config.time`.
///
/// # Errors
/// If the world does not come to rest, or the channel is lost.
pub fn run(config: &BulkConfig) -> Result<BulkReport, String> {
    let mut world = build(config);
    let mut apps = Pump::start(&mut world);
    world.run_until(config.time / 2, &mut apps);
    let half = apps.read;
    world.run_until(config.time, &mut apps);
    if let Some(what) = apps.failure.as_deref().or(world.fault()) {
        return Err(what.to_owned());
    }
    let peer = apps.sending.peer();
    let seconds = config.time.as_secs_f64();
    let carried = world.carried(SENDER, RECEIVER) as f64;
    Ok(BulkReport {
        bytes: apps.read,
        goodput: apps.read as f64 * 8.0 / seconds,
        steady_goodput: (apps.read - half) as f64 * 16.0 / seconds,
        utilisation: carried * 8.0 / seconds / config.rate.max(1) as f64,
        channel: world.host(SENDER).channel_info(peer),
    })
}

fn build(config: &BulkConfig) -> World {
    let mut world = World::new(config.seed, false);
    let _ = world.add_host(Config::default().with(|c| c.congestion = config.congestion));
    let _ = world.add_host(Config::default());
    let there = LinkConfig {
        rate: Some(config.rate),
        delay: config.rtt / 2,
        jitter: config.jitter,
        loss: config.loss,
        reorder: config.reorder,
        queue: config.queue,
        mtu: config.mtu,
        ..LinkConfig::default()
    };
    let back = LinkConfig {
        delay: config.rtt - config.rtt / 2,
        jitter: config.jitter,
        mtu: config.mtu,
        ..LinkConfig::default()
    };
    world.set_link(SENDER, RECEIVER, there);
    world.set_link(RECEIVER, SENDER, back);
    world
}

/// An application that writes, and one that reads.
struct Pump {
    sending: StreamId,
    read: u64,
    failure: Option<String>,
}

impl Pump {
    fn start(world: &mut World) -> Self {
        let listener = world.call(RECEIVER, |h, _| h.listen(SERVICE.0, SERVICE.1));
        let sending = world.connect(SENDER, RECEIVER, SERVICE);
        let mut pump = Self {
            sending,
            read: 0,
            failure: listener.as_ref().err().map(ToString::to_string),
        };
        if let Ok(listener) = listener {
            // Nothing waits yet; this asks to be told.
            pump.accept(world, listener);
        }
        pump.write(world);
        pump
    }

    fn accept(&mut self, world: &mut World, listener: sss_proto::ListenerId) {
        while let Some((stream, _)) = world.call(RECEIVER, |h, _| h.accept(listener)) {
            self.read(world, stream);
        }
    }

    fn write(&mut self, world: &mut World) {
        if let Err(error) = world.fill(SENDER, self.sending) {
            self.failure.get_or_insert(error.to_string());
        }
    }

    fn read(&mut self, world: &mut World, stream: StreamId) {
        loop {
            match world.call(RECEIVER, |h, now| h.stream(stream).poll_read(now, usize::MAX)) {
                Poll::Ready(Ok(ReadOutcome::Chunk(data))) => self.read += data.len() as u64,
                Poll::Ready(Ok(ReadOutcome::Mark)) => {}
                Poll::Ready(Ok(ReadOutcome::End)) | Poll::Pending => return,
                Poll::Ready(Err(error)) => {
                    self.failure.get_or_insert(error.to_string());
                    return;
                }
            }
        }
    }
}

impl Apps for Pump {
    fn on_event(&mut self, world: &mut World, _: HostIndex, event: Event) {
        match event {
            Event::Acceptable(listener) => self.accept(world, listener),
            Event::Ready(stream, Interest::Read) => self.read(world, stream),
            Event::Ready(_, Interest::Write) => self.write(world),
            Event::Disconnected(_, _, reason) => {
                self.failure.get_or_insert(reason.to_string());
            }
            _ => {}
        }
    }

    fn on_timer(&mut self, _: &mut World, _: HostIndex, _: u64) {}
}
