//! Two hosts, and applications that send a known pattern both ways on every stream.

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;

use sss_proto::{
    CloseReason, Config, Event, Interest, LinkStatus, ListenerId, PeerId, ReadOutcome, StreamId, WriteError,
};
use sss_sim::world::Recorder;
use sss_sim::{Apps, HostIndex, LinkConfig, World, model};

pub(crate) const A: HostIndex = HostIndex(0);
pub(crate) const B: HostIndex = HostIndex(1);
pub(crate) const SERVICE: (&str, &str) = ("echo", "echo/1");

pub(crate) const HELLO: u8 = 0x80;
pub(crate) const HELLO_K: u8 = 0x81;
pub(crate) const RETRY: u8 = 0x82;
pub(crate) const VERSION: u8 = 0x83;
pub(crate) const COOKIE: u8 = 0x84;
pub(crate) const COOKIE_K: u8 = 0x85;
pub(crate) const INITIATE: u8 = 0x86;
pub(crate) const ACCEPT: u8 = 0x87;
pub(crate) const PROBE: u8 = 0x88;
pub(crate) const PROBE_REPLY: u8 = 0x89;

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Two hosts, joined by equal links.
pub(crate) fn duo(seed: u64, link: &LinkConfig) -> World {
    duo_with(seed, link, Config::default(), Config::default())
}

pub(crate) fn duo_with(seed: u64, link: &LinkConfig, a: Config, b: Config) -> World {
    let mut world = World::new(seed, false);
    assert_eq!((world.add_host(a), world.add_host(b)), (A, B));
    world.join(A, B, link);
    world
}

/// One end of a stream that carries the pattern both ways.
struct Job {
    out: u64,
    input: Option<u64>,
    /// What was received before the number of the flow was complete.
    start: Vec<u8>,
    written: u64,
    read: u64,
    goal: u64,
    is_finished: bool,
    has_ended: bool,
    is_drained: bool,
}

/// Applications that send `goal` bytes each way on every stream, and check every byte.
#[derive(Default)]
pub(crate) struct Echo {
    goal: u64,
    jobs: BTreeMap<(HostIndex, StreamId), Job>,
    pub(crate) connected: Vec<(HostIndex, PeerId)>,
    pub(crate) lost: Vec<(HostIndex, CloseReason)>,
    /// What was told about the way to the peer.
    pub(crate) links: Vec<(HostIndex, LinkStatus)>,
    /// Bytes that were read in all, and when the last of them was.
    pub(crate) progress: (u64, Duration),
    next_flow: u64,
}

impl Echo {
    /// Starts the service on all hosts.
    pub(crate) fn start(world: &mut World, goal: u64) -> Self {
        let mut echo = Self {
            goal,
            next_flow: 0x1000,
            ..Self::default()
        };
        for host in world.hosts() {
            let listener = world.call(host, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
            echo.accept(world, host, listener);
        }
        echo
    }

    /// Opens a stream.
    pub(crate) fn open(&mut self, world: &mut World, from: HostIndex, to: HostIndex) -> StreamId {
        let stream = world.connect(from, to, SERVICE);
        self.next_flow += 2;
        self.add(world, from, stream, self.next_flow);
        stream
    }

    fn add(&mut self, world: &mut World, host: HostIndex, stream: StreamId, out: u64) {
        let job = Job {
            out,
            input: None,
            start: Vec::new(),
            written: 0,
            read: 0,
            goal: self.goal,
            is_finished: false,
            has_ended: false,
            is_drained: false,
        };
        self.jobs.insert((host, stream), job);
        self.pump(world, host, stream);
    }

    fn accept(&mut self, world: &mut World, host: HostIndex, listener: ListenerId) {
        while let Some((stream, _)) = world.call(host, |h, _| h.accept(listener)) {
            // What it sends is known once what it receives is.
            self.add(world, host, stream, 0);
        }
    }

    /// How many ends have sent and received everything.
    pub(crate) fn complete(&self) -> usize {
        self.jobs.values().filter(|j| j.is_drained && j.has_ended).count()
    }

    /// Runs until `ends` ends are complete.
    pub(crate) fn run_until_complete(&mut self, world: &mut World, ends: usize, limit: Duration) {
        while self.complete() < ends {
            let goes_on = world.step(limit, self);
            assert_eq!(world.fault(), None);
            assert!(
                goes_on,
                "{} of {ends} ends complete after {limit:?}, lost {:?}",
                self.complete(),
                self.lost
            );
        }
        assert_eq!(self.jobs.len(), ends);
    }

    /// The host has crashed: its applications are gone, and new ones take its services.
    pub(crate) fn forget(&mut self, world: &mut World, host: HostIndex) {
        self.jobs.retain(|(h, _), _| *h != host);
        let listener = world.call(host, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
        self.accept(world, host, listener);
    }

    /// Lets go of all streams.
    pub(crate) fn release_all(&mut self, world: &mut World) {
        for (host, stream) in std::mem::take(&mut self.jobs).into_keys() {
            world.call(host, |h, _| h.stream(stream).release());
        }
    }

    fn pump(&mut self, world: &mut World, host: HostIndex, stream: StreamId) {
        let Some(job) = self.jobs.get_mut(&(host, stream)) else {
            return;
        };
        let before = job.read;
        job.read(world, host, stream);
        if job.read > before {
            self.progress = (self.progress.0 + job.read - before, world.elapsed());
        }
        job.write(world, host, stream);
    }
}

impl Job {
    fn read(&mut self, world: &mut World, host: HostIndex, stream: StreamId) {
        while !self.has_ended {
            match world.call(host, |h, now| h.stream(stream).poll_read(now, usize::MAX)) {
                Poll::Ready(Ok(ReadOutcome::Chunk(data))) => self.check(&data),
                Poll::Ready(Ok(ReadOutcome::Mark)) => panic!("nobody writes records"),
                Poll::Ready(Ok(ReadOutcome::End)) => {
                    assert_eq!(self.read, self.goal, "the end is where it was made");
                    self.has_ended = true;
                }
                Poll::Pending | Poll::Ready(Err(_)) => return,
            }
        }
    }

    fn check(&mut self, data: &[u8]) {
        let data = [&std::mem::take(&mut self.start), data].concat();
        if self.read == 0 {
            let Some(flow) = data.first_chunk() else {
                self.start = data;
                return;
            };
            let flow = u64::from_be_bytes(*flow);
            self.input = Some(flow);
            if self.out == 0 {
                self.out = flow + 1;
            } else {
                assert_eq!(flow, self.out + 1);
            }
        }
        let mut expected = vec![0; data.len()];
        model::fill(self.input.unwrap(), self.read, &mut expected);
        assert!(expected == data, "wrong bytes after {}", self.read);
        self.read += data.len() as u64;
    }

    fn write(&mut self, world: &mut World, host: HostIndex, stream: StreamId) {
        while self.out != 0 && self.written < self.goal {
            let mut data = vec![0; (self.goal - self.written).min(8192) as usize];
            model::fill(self.out, self.written, &mut data);
            match world.write(host, stream, &data) {
                Ok(0) | Err(WriteError::Lost(_)) => return,
                Ok(n) => self.written += n as u64,
                Err(error) => panic!("{error}"),
            }
        }
        if self.written == self.goal && !self.is_finished {
            self.is_finished = true;
            let _ = world.call(host, |h, _| h.stream(stream).finish());
        }
        if self.is_finished && !self.is_drained {
            self.is_drained = world.call(host, |h, _| h.stream(stream).poll_drained()) == Poll::Ready(Ok(()));
        }
    }
}

impl Apps for Echo {
    fn on_event(&mut self, world: &mut World, host: HostIndex, event: Event) {
        match event {
            Event::Connected(peer, _) => self.connected.push((host, peer)),
            Event::Disconnected(_, _, reason) => self.lost.push((host, reason)),
            Event::Acceptable(listener) => self.accept(world, host, listener),
            Event::Ready(stream, Interest::Read)
            | Event::Ready(stream, Interest::Write)
            | Event::Ready(stream, Interest::Drained) => self.pump(world, host, stream),
            Event::Link(_, status) => self.links.push((host, status)),
            _ => {}
        }
    }

    fn on_timer(&mut self, _: &mut World, _: HostIndex, _: u64) {}
}

/// What of a host an unauthentic packet must not change.
pub(crate) fn state(world: &World, host: HostIndex) -> (Vec<PeerId>, Vec<Option<bool>>, u64, bool) {
    let core = world.host(host);
    let peers: Vec<_> = core.peers().into_iter().map(|(peer, _)| peer).collect();
    let connected = peers.iter().map(|p| core.is_connected(*p)).collect();
    (peers, connected, core.stats().channels_made, core.is_idle())
}

/// Events that applications were told since the recorder was made.
pub(crate) fn connected(recorder: &Recorder, host: HostIndex) -> usize {
    let is = |(h, event): &&(HostIndex, Event)| *h == host && matches!(event, Event::Connected(..));
    recorder.events.iter().filter(is).count()
}
