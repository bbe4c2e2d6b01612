//! Whatever is unread, unaccepted or blocked elsewhere in the tree, the first bytes of a stream are heard within a
//! round trip and a half.

use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use sss_proto::{Config, DatagramOptions, ListenerId, ReadOutcome, StreamId, WindowConfig};
use sss_sim::world::Recorder;
use sss_sim::{LinkConfig, World};

use crate::support::{A, B, duo, duo_with, ms, secs};

const RTT: Duration = ms(50);
/// What is to be heard of a stream.
const FIRST: usize = 4096;

/// Two hosts, a stream between them, and nobody who reads.
struct Scene {
    world: World,
    listener: ListenerId,
    top: (StreamId, StreamId),
}

impl Scene {
    fn new() -> Self {
        Self::of(duo(7, &LinkConfig::with_delay(RTT / 2)))
    }

    fn of(mut world: World) -> Self {
        let listener = world.call(B, |h, _| h.listen("svc", "1")).unwrap();
        world.call(B, |h, _| h.listen("deaf", "1")).unwrap();
        let a = world.connect(A, B, ("svc", "1"));
        rest(&mut world);
        let (b, _) = world.call(B, |h, _| h.accept(listener)).unwrap();
        rest(&mut world);
        let top = (a, b);
        Self { world, listener, top }
    }

    fn child(&mut self, (a, b): (StreamId, StreamId)) -> (StreamId, StreamId) {
        let a = self.world.call(A, |h, _| h.stream(a).open_substream()).unwrap();
        rest(&mut self.world);
        let b = self.accept(b).expect("a child");
        rest(&mut self.world);
        (a, b)
    }

    fn accept(&mut self, parent: StreamId) -> Option<StreamId> {
        match self.world.call(B, |h, _| h.stream(parent).poll_accept_substream()) {
            Poll::Ready(Ok(child)) => child,
            _ => None,
        }
    }

    /// Writes until nothing more goes.
    fn fill(&mut self, stream: StreamId) {
        while self.world.write(A, stream, &[0; 64 << 10]).unwrap() > 0 {
            rest(&mut self.world);
        }
    }

    /// Opens and writes, and says how long it takes until all is at B's application.
    fn heard(&mut self, parent: (StreamId, StreamId), accepted: (StreamId, StreamId)) -> [Duration; 4] {
        let began = self.world.elapsed();
        let late = self.world.call(A, |h, _| h.stream(parent.0).open_substream()).unwrap();
        let service = self.world.connect(A, B, ("svc", "1"));
        for stream in [late, service, accepted.0] {
            assert_eq!(self.world.write(A, stream, &[1; FIRST]), Ok(FIRST));
        }
        let datagram = Bytes::from(vec![2; 1024]);
        let options = DatagramOptions::default();
        self.world
            .call(A, |h, now| h.stream(parent.0).send_datagram(now, &datagram, &options))
            .unwrap();
        let mut times = [None; 4];
        let (mut late_b, mut service_b) = (None, None);
        let (mut late_read, mut service_read, mut accepted_read) = (0, 0, 0);
        while times.iter().any(Option::is_none) && self.world.elapsed() < began + secs(5) {
            self.world.run_for(ms(1), &mut Recorder::default());
            let at = self.world.elapsed() - began;
            late_b = late_b.or_else(|| self.accept(parent.1));
            let listener = self.listener;
            service_b = service_b.or_else(|| self.world.call(B, |h, _| h.accept(listener)).map(|(s, _)| s));
            late_read += late_b.map_or(0, |s| self.read(s));
            service_read += service_b.map_or(0, |s| self.read(s));
            accepted_read += self.read(accepted.1);
            let is_there = match self.world.call(B, |h, now| h.stream(parent.1).poll_recv_datagram(now)) {
                Poll::Ready(Ok(Some(bytes))) => bytes.len() == 1024,
                _ => false,
            };
            let done = [
                late_read == FIRST,
                service_read == FIRST,
                accepted_read == FIRST,
                is_there,
            ];
            for (time, done) in times.iter_mut().zip(done) {
                *time = time.or(done.then_some(at));
            }
        }
        times.map(|t| t.expect("heard"))
    }

    fn read(&mut self, stream: StreamId) -> usize {
        let mut read = 0;
        while let Poll::Ready(Ok(ReadOutcome::Chunk(bytes))) =
            self.world.call(B, |h, now| h.stream(stream).poll_read(now, usize::MAX))
        {
            read += bytes.len();
        }
        read
    }

    fn assert_heard(&mut self, what: &str, parent: (StreamId, StreamId), accepted: (StreamId, StreamId)) {
        rest(&mut self.world);
        let times = self.heard(parent, accepted);
        println!("{what}: a new substream, another service, one accepted earlier, a datagram: {times:?}");
        assert!(times.iter().all(|t| *t <= RTT * 3 / 2), "{what}: {times:?}");
        let lost = self.world.host(B).peers().len();
        assert_eq!(lost, 1, "{what}");
    }
}

/// Lets everything that is under way arrive.
fn rest(world: &mut World) {
    world.run_for(4 * RTT, &mut Recorder::default());
}

// spec: STR-18, STR-52
#[test]
fn beside_a_parent_that_is_unread_and_full() {
    let mut scene = Scene::new();
    let accepted = scene.child(scene.top);
    let top = scene.top;
    scene.fill(top.0);
    scene.assert_heard("(a) the parent is unread and full", top, accepted);
}

// spec: STR-18, STR-52
#[test]
fn beside_a_thousand_siblings_that_are_unread_and_full() {
    let mut scene = Scene::new();
    let top = scene.top;
    let accepted = scene.child(top);
    let siblings: Vec<StreamId> = (0..1000)
        .map(|_| scene.world.call(A, |h, _| h.stream(top.0).open_substream()).unwrap())
        .collect();
    let mut held = 0;
    for _ in 0..400 {
        for stream in &siblings {
            while scene.world.write(A, *stream, &[0; 64 << 10]).unwrap() > 0 {}
        }
        rest(&mut scene.world);
        while scene.accept(top.1).is_some() {
            held += 1;
        }
        rest(&mut scene.world);
        if held == 1000 {
            break;
        }
    }
    assert_eq!(held, 1000);
    scene.world.run_for(secs(20), &mut Recorder::default());
    scene.assert_heard("(b) 1,000 siblings are unread and full", top, accepted);
}

/// Fresh streams at a time, and how many bytes each has: the first take all the start that there is.
fn fresh(number: usize) -> (usize, usize) {
    if number < 100 { (1, 300_000) } else { (20, 6_000) }
}

// spec: STR-18, STR-46, STR-75, STR-76
#[test]
fn ten_thousand_fresh_streams_that_nobody_reads() {
    const STREAMS: usize = 10_000;
    let window = WindowConfig::default().with(|w| w.per_peer_budget = 8 << 20);
    let config = Config::default().with(|c| c.window = window);
    let link = LinkConfig::with_delay(RTT / 2);
    let mut scene = Scene::of(duo_with(7, &link, config.clone(), config));
    let top = scene.top;
    let accepted = scene.child(top);
    let mut unread = Vec::new();
    let mut slowest = Duration::ZERO;
    while unread.len() < STREAMS {
        let (count, bytes) = fresh(unread.len());
        let (began, all) = (scene.world.elapsed(), unread.len() + count);
        for _ in 0..count {
            let stream = scene.world.connect(A, B, ("svc", "1"));
            scene.world.write(A, stream, &vec![1; bytes]).unwrap();
        }
        while unread.len() < all && scene.world.elapsed() < began + secs(5) {
            scene.world.run_for(ms(1), &mut Recorder::default());
            let listener = scene.listener;
            while let Some((stream, _)) = scene.world.call(B, |h, _| h.accept(listener)) {
                unread.push(stream);
            }
        }
        slowest = slowest.max(scene.world.elapsed() - began);
        scene.world.run_for(RTT, &mut Recorder::default());
    }
    assert_eq!(unread.len(), STREAMS);
    assert!(slowest <= RTT * 3 / 2, "{slowest:?}");
    rest(&mut scene.world);
    let infos = unread.iter().map(|s| scene.world.host(B).stream_info(*s).unwrap());
    let received: Vec<u64> = infos.map(|i| i.received).collect();
    // Each of them was heard, and what they hold is what was granted (STR-46).
    assert!(received.iter().all(|bytes| *bytes >= FIRST as u64));
    assert!(received.iter().any(|bytes| *bytes >= 256 << 10));
    let held: u64 = received.iter().sum();
    let bound = window.root + window.per_peer_budget + (STREAMS * FIRST) as u64;
    println!("{held} of {bound} bytes are held; the slowest was heard after {slowest:?}");
    assert!(held <= bound, "{held} bytes, at most {bound}");
    scene.assert_heard("(e) 10,000 fresh streams are unread", top, accepted);
}

// spec: STR-52, STR-59, SVC-9
#[test]
fn beside_3000_streams_that_wait_at_another_service_and_under_another_parent() {
    let mut scene = Scene::new();
    let top = scene.top;
    let accepted = scene.child(top);
    let other = scene.child(top);
    for _ in 0..3000 {
        let stream = scene.world.connect(A, B, ("deaf", "1"));
        scene.world.write(A, stream, &[0; 2000]).unwrap();
        let stream = scene.world.call(A, |h, _| h.stream(other.0).open_substream()).unwrap();
        scene.world.write(A, stream, &[0; 2000]).unwrap();
    }
    scene.world.run_for(secs(5), &mut Recorder::default());
    scene.assert_heard("(c) 3,000 streams wait elsewhere", top, accepted);
}

// spec: STR-18, STR-52
#[test]
fn below_an_ancestor_that_is_full() {
    let mut scene = Scene::new();
    let top = scene.top;
    let one = scene.child(top);
    let two = scene.child(one);
    let three = scene.child(two);
    let accepted = scene.child(three);
    for stream in [top.0, one.0, two.0] {
        scene.fill(stream);
    }
    scene.assert_heard("(d) ancestors are full", three, accepted);
}

// spec: SVC-1, SVC-9
#[test]
fn services_are_listed_while_3000_streams_wait_at_one() {
    let mut scene = Scene::new();
    for _ in 0..3000 {
        let stream = scene.world.connect(A, B, ("deaf", "1"));
        scene.world.write(A, stream, &[0; 2000]).unwrap();
    }
    scene.world.run_for(secs(5), &mut Recorder::default());
    let ask = scene.world.connect(A, B, ("sss", "services/1"));
    scene.world.call(A, |h, _| h.stream(ask).finish()).unwrap();
    scene.world.run_for(RTT * 3 / 2, &mut Recorder::default());
    let answer = scene.world.call(A, |h, now| h.stream(ask).poll_read(now, usize::MAX));
    assert!(matches!(answer, Poll::Ready(Ok(ReadOutcome::Chunk(_)))), "{answer:?}");
}
