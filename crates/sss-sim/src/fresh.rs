//! Time that the content of a fresh stream takes on a channel that has been in use: from the opening to the last byte,
//! towards the peer and, as the answer to a small request, back.

use std::fmt::{self, Write};
use std::task::Poll;
use std::time::Duration;

use sss_proto::{Config, Congestion, Event, Interest, ListenerId, ReadOutcome, StreamId};

use crate::link::LinkConfig;
use crate::world::{Apps, HostIndex, World};

const CLIENT: HostIndex = HostIndex(0);
const SERVER: HostIndex = HostIndex(1);
const SERVICE: (&str, &str) = ("store", "store/1");
/// Bytes of a request: how many are to come back.
const REQUEST: usize = 8;
/// Content that goes before, so that the channel knows its path.
const WARM: u64 = 4 << 20;
/// Silence behind that.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest time that anything takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Sizes of the table.
const SIZES: [u64; 7] = [4_000, 64_000, 66_000, 100_000, 250_000, 300_000, 1_000_000];

/// Which way the content goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From who opens the stream.
    There,
    /// To who opens it.
    Back,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::There => "request",
            Self::Back => "answer",
        })
    }
}

/// A link, what goes over it, and who keeps to what settings.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The seed.
    pub seed: u64,
    /// Bits per second, each way.
    pub rate: u64,
    /// Round-trip time of the empty path.
    pub rtt: Duration,
    /// Bytes of content.
    pub bytes: u64,
    /// Which way it goes.
    pub way: Way,
    /// Settings of both hosts.
    pub config: Config,
}

impl Setup {
    /// So many bytes over 20 Mbit/s and 50 ms.
    pub fn standard(seed: u64, control: Congestion, way: Way, bytes: u64) -> Self {
        Self {
            seed,
            rate: 20_000_000,
            rtt: Duration::from_millis(50),
            bytes,
            way,
            config: Config::default().with(|c| c.congestion = control),
        }
    }

    /// The time that the bytes alone take, if nothing but the link holds them up.
    pub fn least(&self) -> Duration {
        let ways = if self.way == Way::There { 1 } else { 2 };
        self.rtt * ways / 2 + Duration::from_secs_f64(self.bytes as f64 * 8.0 / self.rate as f64)
    }
}

/// Results of the measurement.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// From the opening until the last byte was read.
    pub time: Duration,
    /// The congestion window of the sender of the content, at the opening.
    pub window: u64,
}

/// Sends and measures.
///
/// # Errors
/// If the channel ends, or something takes too long.
pub fn run(setup: &Setup) -> Result<Report, String> {
    let mut world = World::new(setup.seed, false);
    let _ = world.add_host(setup.config.clone());
    let _ = world.add_host(setup.config.clone());
    let link = LinkConfig {
        rate: Some(setup.rate),
        delay: setup.rtt / 2,
        queue: (setup.rate as f64 / 8.0 * setup.rtt.as_secs_f64()) as usize,
        ..LinkConfig::default()
    };
    world.join(CLIENT, SERVER, &link);
    let listener = world.call(SERVER, |h, _| h.listen(SERVICE.0, SERVICE.1));
    let mut store = Store::new(listener.map_err(|e| e.to_string())?, setup.way);
    store.accept(&mut world);
    let _ = store.exchange(&mut world, WARM)?;
    world.run_for(PAUSE, &mut store);
    let sender = store.sender();
    let channel = sender.and_then(|(host, stream)| world.host(host).channel_info(stream.peer()));
    Ok(Report {
        window: channel.map_or(0, |c| c.window),
        time: store.exchange(&mut world, setup.bytes)?,
    })
}

/// The applications of both hosts: one request at a time.
struct Store {
    listener: ListenerId,
    way: Way,
    /// Bytes that the request asks for, or has.
    size: u64,
    client: Option<StreamId>,
    server: Option<StreamId>,
    /// Bytes that are still to be written.
    unwritten: u64,
    done: Option<Duration>,
    failure: Option<String>,
}

impl Store {
    fn new(listener: ListenerId, way: Way) -> Self {
        Self {
            listener,
            way,
            size: 0,
            client: None,
            server: None,
            unwritten: 0,
            done: None,
            failure: None,
        }
    }

    /// The end of the present stream from which the content comes.
    fn sender(&self) -> Option<(HostIndex, StreamId)> {
        match self.way {
            Way::There => self.client.map(|stream| (CLIENT, stream)),
            Way::Back => self.server.map(|stream| (SERVER, stream)),
        }
    }

    /// Opens a stream and waits until its content has come.
    fn exchange(&mut self, world: &mut World, bytes: u64) -> Result<Duration, String> {
        let began = world.elapsed();
        (self.size, self.server, self.done) = (bytes, None, None);
        let client = world.connect(CLIENT, SERVER, SERVICE);
        self.client = Some(client);
        match self.way {
            Way::There => {
                self.unwritten = bytes;
                self.write(world);
            }
            Way::Back => {
                let _ = world.write(CLIENT, client, &[0; REQUEST]);
                let _ = world.call(CLIENT, |h, _| h.stream(client).finish());
                self.read(world, CLIENT, client);
            }
        }
        while self.done.is_none() && self.failure.is_none() && world.step(began + PATIENCE, self) {}
        if let Some(what) = self.failure.as_deref().or(world.fault()) {
            return Err(what.to_owned());
        }
        let done = self.done.ok_or("the content did not come")?;
        Ok(done - began)
    }

    fn accept(&mut self, world: &mut World) {
        let listener = self.listener;
        while let Some((stream, _)) = world.call(SERVER, |h, _| h.accept(listener)) {
            self.server = Some(stream);
            self.read(world, SERVER, stream);
        }
    }

    fn write(&mut self, world: &mut World) {
        const CHUNK: [u8; 16 << 10] = [0x5a; 16 << 10];
        let Some((host, stream)) = self.sender() else { return };
        while self.unwritten > 0 {
            let next = CHUNK.len().min(self.unwritten as usize);
            match world.write(host, stream, &CHUNK[..next]) {
                Ok(0) => return,
                Ok(n) => self.unwritten -= n as u64,
                Err(error) => return self.fail(error.to_string()),
            }
        }
        let _ = world.call(host, |h, _| h.stream(stream).finish());
    }

    fn read(&mut self, world: &mut World, host: HostIndex, stream: StreamId) {
        loop {
            match world.call(host, |h, now| h.stream(stream).poll_read(now, usize::MAX)) {
                Poll::Ready(Ok(ReadOutcome::End)) => return self.on_end(world, host, stream),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return,
                Poll::Ready(Err(error)) => return self.fail(error.to_string()),
            }
        }
    }

    /// All of a direction was read.
    fn on_end(&mut self, world: &mut World, host: HostIndex, stream: StreamId) {
        match (host, self.way) {
            (CLIENT, Way::Back) | (SERVER, Way::There) => {
                self.done = Some(world.elapsed());
                let _ = world.call(host, |h, _| h.stream(stream).finish());
            }
            (_, Way::Back) => {
                self.unwritten = self.size;
                self.write(world);
            }
            (_, Way::There) => {}
        }
    }

    fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }
}

impl Apps for Store {
    fn on_event(&mut self, world: &mut World, host: HostIndex, event: Event) {
        match event {
            Event::Acceptable(_) => self.accept(world),
            Event::Ready(stream, Interest::Read) => self.read(world, host, stream),
            Event::Ready(_, Interest::Write) => self.write(world),
            Event::Disconnected(_, _, reason) => self.fail(reason.to_string()),
            _ => {}
        }
    }

    fn on_timer(&mut self, _: &mut World, _: HostIndex, _: u64) {}
}

/// The table of `docs/experiments/fresh.md`, in Markdown.
///
/// # Errors
/// If one of the worlds fails.
pub fn table(seed: u64) -> Result<String, String> {
    let mut out = String::from(
        "| bytes | way | the link alone | cubic | its window | bbr | its window |\n|--:|---|--:|--:|--:|--:|--:|\n",
    );
    for way in [Way::There, Way::Back] {
        for bytes in SIZES {
            let setup = |control| Setup::standard(seed, control, way, bytes);
            let least = setup(Congestion::Cubic).least();
            let _ = write!(out, "| {bytes} | {way} | {:.1} ms |", ms(least));
            for control in Congestion::ALL {
                let report = run(&setup(control))?;
                let _ = write!(out, " {:.1} ms | {} |", ms(report.time), report.window);
            }
            out.push('\n');
        }
    }
    Ok(out)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
