//! The prioritisation experiment of the paper on structured streams (Ford, 2007): responses that share a narrow link,
//! and a reader who changes his mind.
//!
//! A client asks for two responses over a bottleneck; they share it. At 5 s it asks for a third one that goes before
//! both, and from then on wants the first before the second. At 10 s it swaps the levels of the first two with
//! PRIORITY, while the server has both queued.

pub mod chart;

use std::fmt::{self, Write};
use std::task::Poll;
use std::time::Duration;

use sss_proto::{Config, Event, Interest, ListenerId, ReadOutcome, StreamId};

use crate::link::LinkConfig;
use crate::world::{Apps, HostIndex, World};

const CLIENT: HostIndex = HostIndex(0);
const SERVER: HostIndex = HostIndex(1);
const SERVICE: (&str, &str) = ("web", "prioritisation/1");
const CHUNK: [u8; 16 << 10] = [0x5a; 16 << 10];

/// Width of the bins of [`Report::csv`].
pub const BIN: Duration = Duration::from_millis(100);
/// Time at which the third response is asked for.
pub const THIRD_AT: Duration = Duration::from_secs(5);
/// Time at which the levels of the first two are swapped.
pub const SWAP_AT: Duration = Duration::from_secs(10);

/// For how long after a change nothing but the preferred response may arrive, once it is seen.
pub const LOOK: Duration = Duration::from_secs(1);

/// The path and the sizes.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The seed.
    pub seed: u64,
    /// Bits per second of the bottleneck, towards the client.
    pub rate: u64,
    /// Round-trip time of the empty path.
    pub rtt: Duration,
    /// Bytes that wait at the bottleneck, at most.
    pub queue: usize,
    /// Sizes of the responses in bytes.
    pub sizes: [u64; 3],
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 1,
            rate: 1_500_000,
            rtt: Duration::from_millis(50),
            queue: 9_375,
            sizes: [1_500_000, 1_500_000, 700_000],
        }
    }
}

/// Something that the client asked for, and what it could see of it.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Time at which the client asked.
    pub asked: Duration,
    /// The response that is to be preferred from then on, from 0.
    pub preferred: usize,
    /// Time for which the bottleneck would have kept a datagram waiting at the moment at which the request reached the
    /// server.
    pub queued: Duration,
    /// Time at which the first byte of the preferred response arrived behind which nothing else came, as far as
    /// [`LOOK`] goes.
    pub seen: Duration,
}

impl Change {
    /// From asking to seeing.
    pub fn took(&self) -> Duration {
        self.seen.saturating_sub(self.asked)
    }
}

/// Responses that the client read.
#[derive(Clone, Debug)]
pub struct Report {
    /// Time, response and number of bytes of each reading.
    pub arrivals: Vec<(Duration, usize, u64)>,
    /// Time at which each response was complete.
    pub complete: [Duration; 3],
    /// Changes that were asked for on the way.
    pub changes: Vec<Change>,
}

impl Report {
    /// A report of readings. When each change was seen is found in them.
    pub fn new(arrivals: Vec<(Duration, usize, u64)>, complete: [Duration; 3], changes: Vec<Change>) -> Self {
        let mut report = Self {
            arrivals,
            complete,
            changes: Vec::new(),
        };
        for mut change in changes {
            change.seen = report.seen(change.preferred, change.asked);
            report.changes.push(change);
        }
        report
    }

    /// Bytes of each response that were read in an interval.
    pub fn bytes(&self, from: Duration, until: Duration) -> [u64; 3] {
        let mut sums = [0; 3];
        for (_, response, bytes) in self.arrivals.iter().filter(|(at, ..)| (from..until).contains(at)) {
            if let Some(sum) = sums.get_mut(*response) {
                *sum += bytes;
            }
        }
        sums
    }

    /// Bytes of each response in each bin, from the start until everything was complete.
    pub fn bins(&self) -> Vec<[u64; 3]> {
        let end = self.complete.iter().max().copied().unwrap_or_default();
        let bins = end.as_nanos() / BIN.as_nanos() + 1;
        let mut all = vec![[0; 3]; usize::try_from(bins).unwrap_or(0)];
        for (at, response, bytes) in &self.arrivals {
            let bin = usize::try_from(at.as_nanos() / BIN.as_nanos()).unwrap_or(usize::MAX);
            if let Some(sum) = all.get_mut(bin).and_then(|bin| bin.get_mut(*response)) {
                *sum += bytes;
            }
        }
        all
    }

    /// The bins as lines of comma-separated values, with a heading: the start of the bin in seconds, and the bytes of
    /// the three responses in it.
    pub fn csv(&self) -> String {
        let mut text = "seconds,first,second,third\n".to_owned();
        for (n, [first, second, third]) in self.bins().into_iter().enumerate() {
            let start = n as f64 * BIN.as_secs_f64();
            let _ = writeln!(text, "{start:.1},{first},{second},{third}");
        }
        text
    }

    /// Finds when a change can be seen: behind everything else that arrives within [`LOOK`].
    fn seen(&self, preferred: usize, asked: Duration) -> Duration {
        let end = asked + LOOK;
        let mut seen = None;
        for (at, response, _) in self.arrivals.iter().filter(|(at, ..)| (asked..end).contains(at)) {
            if *response == preferred {
                seen.get_or_insert(*at);
            } else {
                seen = None;
            }
        }
        seen.unwrap_or(end)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, _] = self.bytes(Duration::ZERO, THIRD_AT);
        let share = first as f64 * 100.0 / (first + second).max(1) as f64;
        writeln!(f, "shares until {THIRD_AT:?}: {share:.2}% and {:.2}%", 100.0 - share)?;
        for change in &self.changes {
            writeln!(
                f,
                "response {} preferred at {:?}: seen after {:.1?}, of which {:.1?} behind what the bottleneck held",
                change.preferred + 1,
                change.asked,
                change.took(),
                change.queued
            )?;
        }
        let [first, second, third] = self.complete.map(|c| c.as_secs_f64());
        write!(f, "complete after {first:.2} s, {second:.2} s and {third:.2} s")
    }
}

/// Plays the experiment.
///
/// # Errors
/// If the channel is lost, the world does not come to rest, or the responses are not complete after ten times the time
/// that the link needs for them.
pub fn run(setup: &Setup) -> Result<Report, String> {
    let mut world = build(setup);
    let mut apps = Browser::start(&mut world, setup)?;
    let bits = setup.sizes.iter().sum::<u64>() as f64 * 8.0;
    let limit = SWAP_AT + Duration::from_secs_f64(10.0 * bits / setup.rate.max(1) as f64);
    while apps.complete.len() < setup.sizes.len() && apps.failure.is_none() && world.step(limit, &mut apps) {}
    if let Some(what) = apps.failure.as_deref().or(world.fault()) {
        return Err(what.to_owned());
    }
    let complete = [0, 1, 2].map(|n| apps.complete.iter().find(|(r, _)| *r == n).map(|(_, at)| *at));
    let [Some(first), Some(second), Some(third)] = complete else {
        return Err(format!("the responses are not complete after {limit:?}"));
    };
    Ok(Report::new(apps.arrivals, [first, second, third], apps.changes))
}

fn build(setup: &Setup) -> World {
    let mut world = World::new(setup.seed, false);
    let _ = (world.add_host(Config::default()), world.add_host(Config::default()));
    let down = LinkConfig {
        rate: Some(setup.rate),
        delay: setup.rtt / 2,
        queue: setup.queue,
        ..LinkConfig::default()
    };
    world.set_link(SERVER, CLIENT, down);
    world.set_link(CLIENT, SERVER, LinkConfig::with_delay(setup.rtt - setup.rtt / 2));
    world
}

/// Length of a request to the server: 8 bytes of size, and a level.
const REQUEST: usize = 9;

/// A response at the server.
struct Response {
    stream: StreamId,
    left: u64,
}

/// Purpose of a timer.
#[derive(Clone, Copy)]
enum Alarm {
    AskForThird = 1,
    Swap = 2,
    /// Request of the client that reaches the server.
    Reached = 3,
}

/// The client's application and the server's.
struct Browser {
    setup: Setup,
    session: StreamId,
    /// The client's ends of the responses.
    reading: Vec<StreamId>,
    /// The server's ends, and those of which the request is not there yet.
    responses: Vec<Response>,
    asking: Vec<StreamId>,
    arrivals: Vec<(Duration, usize, u64)>,
    complete: Vec<(usize, Duration)>,
    changes: Vec<Change>,
    failure: Option<String>,
}

impl Browser {
    fn start(world: &mut World, setup: &Setup) -> Result<Self, String> {
        let listener = world.call(SERVER, |h, _| h.listen(SERVICE.0, SERVICE.1));
        let listener = listener.map_err(|e| e.to_string())?;
        let session = world.connect(CLIENT, SERVER, SERVICE);
        let mut browser = Self {
            setup: setup.clone(),
            session,
            reading: Vec::new(),
            responses: Vec::new(),
            asking: Vec::new(),
            arrivals: Vec::new(),
            complete: Vec::new(),
            changes: Vec::new(),
            failure: None,
        };
        browser.accept(world, listener);
        browser.ask(world, 0);
        browser.ask(world, 0);
        world.set_timer(CLIENT, THIRD_AT, Alarm::AskForThird as u64);
        world.set_timer(CLIENT, SWAP_AT, Alarm::Swap as u64);
        Ok(browser)
    }

    /// The client asks for the next response.
    fn ask(&mut self, world: &mut World, level: i8) {
        let session = self.session;
        let size = self.setup.sizes.get(self.reading.len()).copied().unwrap_or(0);
        let mut request = size.to_be_bytes().to_vec();
        request.push(level.cast_unsigned());
        let asked = world.call(CLIENT, |h, _| {
            let stream = h.stream(session).open_substream().map_err(|e| e.to_string())?;
            let _ = h.stream(stream).poll_write(&request).map_err(|e| e.to_string())?;
            h.stream(stream).finish().map_err(|e| e.to_string())?;
            Ok(stream)
        });
        match asked {
            Ok(stream) => {
                self.reading.push(stream);
                self.read(world, stream);
            }
            Err(what) => self.fail(what),
        }
    }

    fn request_priority(&self, world: &mut World, response: usize, level: i8) {
        if let Some(stream) = self.reading.get(response).copied() {
            world.call(CLIENT, |h, _| h.stream(stream).request_priority(level));
        }
    }

    fn change(&mut self, world: &mut World, preferred: usize) {
        self.changes.push(Change {
            asked: world.elapsed(),
            preferred,
            queued: Duration::ZERO,
            seen: Duration::ZERO,
        });
        let there = self.setup.rtt - self.setup.rtt / 2;
        world.set_timer(SERVER, there, Alarm::Reached as u64);
    }

    /// The client reads what has arrived.
    fn read(&mut self, world: &mut World, stream: StreamId) {
        let Some(response) = self.reading.iter().position(|s| *s == stream) else {
            return;
        };
        loop {
            match world.call(CLIENT, |h, now| h.stream(stream).poll_read(now, usize::MAX)) {
                Poll::Ready(Ok(ReadOutcome::Chunk(data))) => {
                    self.arrivals.push((world.elapsed(), response, data.len() as u64));
                }
                Poll::Ready(Ok(ReadOutcome::End)) => {
                    self.complete.push((response, world.elapsed()));
                    return world.call(CLIENT, |h, _| h.stream(stream).release());
                }
                Poll::Ready(Ok(ReadOutcome::Mark)) => {}
                Poll::Pending => return,
                Poll::Ready(Err(error)) => return self.fail(error.to_string()),
            }
        }
    }

    fn accept(&mut self, world: &mut World, listener: ListenerId) {
        while let Some((session, _)) = world.call(SERVER, |h, _| h.accept(listener)) {
            self.accept_requests(world, session);
        }
    }

    fn accept_requests(&mut self, world: &mut World, session: StreamId) {
        while let Poll::Ready(Ok(Some(stream))) = world.call(SERVER, |h, _| h.stream(session).poll_accept_substream()) {
            self.asking.push(stream);
            self.answer(world, stream);
        }
    }

    /// The server begins a response once its request is there.
    fn answer(&mut self, world: &mut World, stream: StreamId) {
        if !self.asking.contains(&stream) {
            return;
        }
        let Poll::Ready(Ok(ReadOutcome::Chunk(request))) =
            world.call(SERVER, |h, now| h.stream(stream).poll_read(now, REQUEST))
        else {
            return;
        };
        let (Some(size), Some(level)) = (request.first_chunk(), request.get(8)) else {
            return self.fail("a request came in pieces".to_owned());
        };
        world.call(SERVER, |h, _| h.stream(stream).set_priority(level.cast_signed()));
        self.asking.retain(|s| *s != stream);
        self.responses.push(Response {
            stream,
            left: u64::from_be_bytes(*size),
        });
        self.write(world, stream);
    }

    /// The server writes as much as the stream takes.
    fn write(&mut self, world: &mut World, stream: StreamId) {
        let Some(response) = self.responses.iter_mut().find(|r| r.stream == stream) else {
            return;
        };
        while response.left > 0 {
            let n = usize::try_from(response.left).unwrap_or(usize::MAX).min(CHUNK.len());
            let chunk = CHUNK.get(..n).unwrap_or_default();
            match world.write(SERVER, stream, chunk) {
                Ok(0) => return,
                Ok(n) => response.left -= n as u64,
                Err(error) => return self.fail(error.to_string()),
            }
        }
        let _ = world.call(SERVER, |h, _| h.stream(stream).finish());
    }

    fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }
}

impl Apps for Browser {
    fn on_event(&mut self, world: &mut World, host: HostIndex, event: Event) {
        match event {
            Event::Acceptable(listener) => self.accept(world, listener),
            Event::Ready(session, Interest::Accept) => self.accept_requests(world, session),
            Event::Ready(stream, Interest::Read) if host == CLIENT => self.read(world, stream),
            Event::Ready(stream, Interest::Read) => self.answer(world, stream),
            Event::Ready(stream, Interest::Write) if host == SERVER => self.write(world, stream),
            Event::Disconnected(_, _, reason) => self.fail(reason.to_string()),
            _ => {}
        }
    }

    fn on_timer(&mut self, world: &mut World, _: HostIndex, token: u64) {
        if token == Alarm::AskForThird as u64 {
            self.ask(world, 2);
            self.request_priority(world, 0, 1);
            self.change(world, 2);
        } else if token == Alarm::Swap as u64 {
            self.request_priority(world, 0, 0);
            self.request_priority(world, 1, 1);
            self.change(world, 1);
        } else if token == Alarm::Reached as u64 {
            let waiting = world.waiting(SERVER, CLIENT);
            if let Some(change) = self.changes.last_mut() {
                change.queued = waiting;
            }
        }
    }
}
