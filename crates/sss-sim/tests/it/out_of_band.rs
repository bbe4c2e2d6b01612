//! A substream is heard at once, whatever its parent has queued.

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;

use sss_proto::{Event, Interest, ListenerId, ReadOutcome, StreamId};
use sss_sim::{Apps, HostIndex, LinkConfig, World};

use crate::support::{A, B, SERVICE, duo, ms, secs};

const QUEUED: u64 = 100_000_000;
const EVERY: Duration = Duration::from_millis(130);

/// A writes 100 MB on one stream, and now and then a word on a new substream of it. B reads everything.
struct Talk {
    bulk: StreamId,
    left: u64,
    read: u64,
    /// When substreams were opened, and the channel's round-trip time then.
    opened: Vec<(Duration, Duration)>,
    /// When their words were heard, by their numbers.
    heard: BTreeMap<usize, Duration>,
    /// What B has of substreams that are not complete.
    words: BTreeMap<StreamId, Vec<u8>>,
}

impl Talk {
    fn start(world: &mut World) -> Self {
        let listener = world.call(B, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
        let bulk = world.connect(A, B, SERVICE);
        let mut apps = Self {
            bulk,
            left: QUEUED,
            read: 0,
            opened: Vec::new(),
            heard: BTreeMap::new(),
            words: BTreeMap::new(),
        };
        apps.accept(world, listener);
        apps.write(world);
        world.set_timer(A, EVERY, 0);
        apps
    }

    fn accept(&mut self, world: &mut World, listener: ListenerId) {
        while let Some((stream, _)) = world.call(B, |h, _| h.accept(listener)) {
            self.read(world, stream);
            self.accept_substreams(world, stream);
        }
    }

    fn accept_substreams(&mut self, world: &mut World, stream: StreamId) {
        while let Poll::Ready(Ok(Some(child))) = world.call(B, |h, _| h.stream(stream).poll_accept_substream()) {
            self.words.insert(child, Vec::new());
            self.read(world, child);
        }
    }

    fn write(&mut self, world: &mut World) {
        let chunk = [7; 16 << 10];
        while self.left > 0 {
            let n = self.left.min(chunk.len() as u64) as usize;
            let bulk = self.bulk;
            match world.write(A, bulk, &chunk[..n]).unwrap() {
                0 => return,
                n => self.left -= n as u64,
            }
        }
    }

    fn read(&mut self, world: &mut World, stream: StreamId) {
        while let Poll::Ready(Ok(ReadOutcome::Chunk(data))) =
            world.call(B, |h, now| h.stream(stream).poll_read(now, usize::MAX))
        {
            let Some(word) = self.words.get_mut(&stream) else {
                self.read += data.len() as u64;
                continue;
            };
            word.extend_from_slice(&data);
            if let Some(number) = word.first_chunk() {
                let number = usize::from_be_bytes(*number);
                assert!(self.heard.insert(number, world.elapsed()).is_none());
                self.words.remove(&stream);
                return;
            }
        }
    }
}

impl Apps for Talk {
    fn on_event(&mut self, world: &mut World, host: HostIndex, event: Event) {
        match event {
            Event::Acceptable(listener) => self.accept(world, listener),
            Event::Ready(stream, Interest::Accept) => self.accept_substreams(world, stream),
            Event::Ready(stream, Interest::Read) if host == B => self.read(world, stream),
            Event::Ready(stream, Interest::Write) if stream == self.bulk => self.write(world),
            Event::Disconnected(_, _, reason) => panic!("{reason}"),
            _ => {}
        }
    }

    fn on_timer(&mut self, world: &mut World, _: HostIndex, _: u64) {
        let bulk = self.bulk;
        let child = world.call(A, |h, _| h.stream(bulk).open_substream()).unwrap();
        let word = self.opened.len().to_be_bytes();
        assert_eq!(world.write(A, child, &word), Ok(word.len()));
        let channel = world.host(A).channel_info(child.peer());
        let smoothed = channel.map_or(Duration::ZERO, |c| c.rtt);
        self.opened.push((world.elapsed(), smoothed));
        world.set_timer(A, EVERY, 0);
    }
}

/// How long a word took, from opening the substream to reading it.
struct Delay {
    took: Duration,
    /// The round-trip time of the channel when it was opened.
    smoothed: Duration,
}

/// The words of 20 s over a path whose bottleneck has a queue of `queue`, while the bulk transfer fills it.
fn delays(rate: u64, rtt: Duration, queue: Duration) -> Vec<Delay> {
    let mut world = duo(21, &LinkConfig::with_delay(rtt / 2));
    let bottleneck = LinkConfig {
        rate: Some(rate),
        queue: (rate as f64 * queue.as_secs_f64() / 8.0) as usize,
        ..LinkConfig::with_delay(rtt / 2)
    };
    world.set_link(A, B, bottleneck);
    let mut apps = Talk::start(&mut world);
    world.run_until(secs(20), &mut apps);
    assert!(apps.left > QUEUED / 4, "{} bytes are left", apps.left);
    assert!(apps.read > rate / 8 * 15, "{} bytes were read", apps.read);
    assert!(apps.heard.len() + 2 >= apps.opened.len());
    let delay = |(number, heard): (&usize, &Duration)| {
        let (opened, smoothed) = apps.opened[*number];
        let took = *heard - opened;
        Delay { took, smoothed }
    };
    apps.heard.iter().map(delay).collect()
}

/// The path without its queue is what counts here: at most half of a round trip can be spent there. A word that is lost
/// with what overflows takes a round trip more.
#[test]
fn a_substream_is_heard_within_one_and_a_half_round_trips() {
    let rtt = ms(100);
    let delays = delays(20_000_000, rtt, rtt / 2);
    let late: Vec<_> = delays.iter().map(|d| d.took).filter(|t| *t > rtt * 3 / 2).collect();
    assert!(delays.len() > 100 && late.len() <= 1, "{late:?}");
    assert!(late.iter().all(|took| *took <= rtt * 5 / 2), "{late:?}");
}

/// With a queue of a whole round trip, waiting there is a part of the round-trip time. A word may be lost with what
/// overflows.
#[test]
fn a_substream_waits_for_nothing_but_the_path() {
    for rate in [2_000_000, 20_000_000] {
        let delays = delays(rate, ms(50), ms(50));
        let late = delays.iter().filter(|d| d.took > d.smoothed * 3 / 2).count();
        assert!(delays.len() > 100 && late <= 1, "{late} of {}", delays.len());
        let mut all: Vec<_> = delays.iter().map(|d| d.took.div_duration_f64(d.smoothed)).collect();
        all.sort_by(f64::total_cmp);
        println!(
            "{rate}: median {:.2}, longest {:.2} round trips",
            all[all.len() / 2],
            all[all.len() - 1]
        );
    }
}
