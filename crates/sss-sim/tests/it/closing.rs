//! After a subtree was closed with success, nothing of it is lost, whatever becomes of the host that closed it.

use std::collections::BTreeMap;
use std::task::Poll;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sss_proto::{Event, Host, Instant, ReadOutcome, StreamId};
use sss_sim::{Apps, HostIndex, LinkConfig, World};

use crate::support::{A, B, SERVICE, duo, ms, secs};

/// Reads all streams of B, as fast as it likes.
#[derive(Default)]
struct Reader {
    streams: BTreeMap<StreamId, Read>,
    is_reading: bool,
}

#[derive(Default)]
struct Read {
    bytes: Vec<u8>,
    has_ended: bool,
}

impl Reader {
    fn take(&mut self, stream: StreamId) {
        self.streams.entry(stream).or_default();
    }

    /// Accepts and reads what is there.
    fn work(&mut self, host: &mut Host, now: Instant) {
        let mut todo: Vec<StreamId> = self.streams.keys().copied().collect();
        while let Some(stream) = todo.pop() {
            while let Poll::Ready(Ok(Some(child))) = host.stream(stream).poll_accept_substream() {
                self.take(child);
                todo.push(child);
            }
            let read = self.streams.get_mut(&stream).expect("a known stream");
            while self.is_reading && !read.has_ended {
                match host.stream(stream).poll_read(now, 5000) {
                    Poll::Ready(Ok(ReadOutcome::Chunk(bytes))) => read.bytes.extend_from_slice(&bytes),
                    Poll::Ready(Ok(ReadOutcome::End)) => read.has_ended = true,
                    _ => break,
                }
            }
        }
    }
}

impl Apps for Reader {
    fn on_event(&mut self, world: &mut World, host: HostIndex, event: Event) {
        if host != B {
            return;
        }
        if let Event::Acceptable(listener) = event {
            while let Some((stream, _)) = world.call(B, |h, _| h.accept(listener)) {
                self.take(stream);
            }
        }
        world.call(B, |h, now| self.work(h, now));
    }

    fn on_timer(&mut self, _: &mut World, _: HostIndex, _: u64) {}
}

/// What is written on the stream with a number.
fn contents(number: u32, len: usize) -> Vec<u8> {
    let pattern = (0..len).map(|at| (at as u32).wrapping_mul(number.wrapping_mul(31) | 1) as u8);
    number.to_be_bytes().into_iter().chain(pattern).collect()
}

/// What `Stream::close` does: whether all that was written below is known to have arrived, and nothing is unfinished.
fn is_closed(world: &mut World, top: StreamId) -> bool {
    let waiting = world.call(A, |h, _| h.undelivered(top));
    if let Some((stream, end)) = waiting.first() {
        assert_eq!(
            world.call(A, |h, _| h.stream(*stream).poll_flushed(*end)),
            Poll::Pending
        );
        return false;
    }
    let delivery = world.call(A, |h, _| h.delivery(top)).expect("the stream is held");
    assert_eq!((delivery.undelivered, delivery.unfinished), (0, 0));
    true
}

// spec: STR-51
#[test]
fn nothing_is_lost_after_a_close_that_succeeded() {
    for seed in 0..40 {
        let mut rng = StdRng::seed_from_u64(seed);
        let link = LinkConfig {
            loss: rng.random_range(0.0..0.15),
            jitter: ms(rng.random_range(0..10)),
            ..LinkConfig::with_delay(ms(rng.random_range(1..60)))
        };
        let mut world = duo(seed, &link);
        let listener = world.call(B, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
        assert!(world.call(B, |h, _| h.accept(listener)).is_none());
        let mut reader = Reader {
            is_reading: rng.random(),
            ..Reader::default()
        };
        let top = world.connect(A, B, SERVICE);
        let mut streams = vec![top];
        for _ in 0..rng.random_range(0..25) {
            let parent = streams[rng.random_range(0..streams.len())];
            if let Ok(child) = world.call(A, |h, _| h.stream(parent).open_substream()) {
                streams.push(child);
            }
            world.run_for(ms(rng.random_range(0..5)), &mut reader);
        }
        let mut written = Vec::new();
        for (number, stream) in streams.iter().enumerate() {
            let len = [0, 1, 1000, 20_000][rng.random_range(0..4)];
            let data = contents(number as u32, len);
            assert_eq!(world.write(A, *stream, &data), Ok(data.len()));
            assert_eq!(world.call(A, |h, _| h.stream(*stream).finish()), Ok(()));
            written.push(data);
        }
        for stream in &streams[1..] {
            if rng.random() {
                world.call(A, |h, _| h.stream(*stream).release());
            }
        }
        let mut waited = 0;
        while !is_closed(&mut world, top) {
            assert!(waited < 60_000, "seed {seed}: not closed within a minute");
            world.run_for(ms(1), &mut reader);
            waited += 1;
        }
        // The process ends at once, without a word.
        world.restart(A);
        reader.is_reading = true;
        world.call(B, |h, now| reader.work(h, now));
        let mut read: Vec<Vec<u8>> = Vec::new();
        for stream in reader.streams.values() {
            assert!(stream.has_ended, "seed {seed}: a stream has no end");
            read.push(stream.bytes.clone());
        }
        read.sort_unstable();
        written.sort_unstable();
        assert!(read == written, "seed {seed}");
    }
}

// spec: STR-13, STR-50
#[test]
fn threat_27_a_sender_that_is_dropped_or_dies_never_looks_finished() {
    for seed in 0..40 {
        let mut rng = StdRng::seed_from_u64(1000 + seed);
        let link = LinkConfig {
            loss: rng.random_range(0.0..0.15),
            ..LinkConfig::with_delay(ms(rng.random_range(1..60)))
        };
        let mut world = duo(seed, &link);
        let listener = world.call(B, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
        assert!(world.call(B, |h, _| h.accept(listener)).is_none());
        let mut reader = Reader {
            is_reading: true,
            ..Reader::default()
        };
        let streams: Vec<_> = (0..10).map(|_| world.connect(A, B, SERVICE)).collect();
        for stream in &streams {
            let data = vec![7; rng.random_range(1..50_000)];
            world.write(A, *stream, &data).unwrap();
        }
        world.run_for(ms(rng.random_range(0..400)), &mut reader);
        for stream in &streams {
            match rng.random_range(0..3) {
                0 => world.call(A, |h, _| h.stream(*stream).release()),
                1 => world.call(A, |h, _| h.stream(*stream).reset_tree(sss_wire::Code::app(1), "")),
                _ => {}
            }
        }
        world.run_for(ms(rng.random_range(0..400)), &mut reader);
        if rng.random() {
            world.restart(A);
        } else {
            world.call(A, |h, now| h.shutdown(now));
        }
        world.run_for(secs(100), &mut reader);
        let ended = reader.streams.values().filter(|s| s.has_ended).count();
        assert_eq!(ended, 0, "seed {seed}");
    }
}
