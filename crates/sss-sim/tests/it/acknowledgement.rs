//! Acknowledgements leave within the time that their host announces.

use std::task::Poll;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sss_proto::{Event, Interest, ReadOutcome, StreamId};
use sss_sim::{Apps, HostIndex, LinkConfig, World};

use crate::support::{A, B, SERVICE, duo, ms, secs};

const ANNOUNCED: Duration = ms(25);
const DELAY: Duration = ms(7);
/// Later than timers of operating systems are on a machine that is not overloaded.
const LAG: Duration = ms(5);

/// A writes a few bytes now and then, and measures when they are acknowledged.
struct Drip {
    stream: StreamId,
    rng: StdRng,
    /// When what waits for its acknowledgement was written.
    written: Option<Duration>,
    times: Vec<Duration>,
}

impl Drip {
    fn wait(&mut self, world: &mut World) {
        let pause = Duration::from_micros(self.rng.random_range(100..400_000));
        world.set_timer(A, pause, 0);
    }
}

impl Apps for Drip {
    fn on_event(&mut self, world: &mut World, host: HostIndex, event: Event) {
        match event {
            Event::Ready(stream, Interest::Acknowledged) if stream == self.stream => {
                if let Some(written) = self.written.take() {
                    self.times.push(world.elapsed() - written);
                    self.wait(world);
                }
            }
            // What is not accepted and read has little credit.
            Event::Acceptable(listener) => {
                if let Some((stream, _)) = world.call(host, |h, _| h.accept(listener)) {
                    read(world, host, stream);
                }
            }
            Event::Ready(stream, Interest::Read) => read(world, host, stream),
            Event::Disconnected(..) => panic!("h{}: {event:?}", host.0),
            _ => {}
        }
    }

    fn on_timer(&mut self, world: &mut World, _: HostIndex, _: u64) {
        let (stream, len) = (self.stream, self.rng.random_range(1..600));
        self.written = Some(world.elapsed());
        world.write(A, stream, &vec![7; len]).unwrap();
        assert_eq!(
            world.call(A, |h, _| h.stream(stream).poll_acknowledged()),
            Poll::Pending
        );
    }
}

fn read(world: &mut World, host: HostIndex, stream: StreamId) {
    while let Poll::Ready(Ok(ReadOutcome::Chunk(_))) =
        world.call(host, |h, now| h.stream(stream).poll_read(now, usize::MAX))
    {}
}

fn longest(seed: u64, lag: Duration) -> Duration {
    let mut world = duo(seed, &LinkConfig::with_delay(DELAY));
    world.set_timer_lag(B, lag);
    let listener = world.call(B, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
    assert!(world.call(B, |h, _| h.accept(listener)).is_none());
    let stream = world.connect(A, B, SERVICE);
    let mut drip = Drip {
        stream,
        rng: StdRng::seed_from_u64(seed),
        written: None,
        times: Vec::new(),
    };
    drip.wait(&mut world);
    world.run_until(secs(20), &mut drip);
    assert_eq!(world.fault(), None);
    for (host, peer) in [(A, world.host(A).peers()[0].0), (B, world.host(B).peers()[0].0)] {
        assert_eq!(
            world.host(host).channel_info(peer).unwrap().late_acks,
            0,
            "seed {seed}, {host:?}"
        );
    }
    assert!(drip.times.len() > 40, "seed {seed}: {}", drip.times.len());
    // The first bytes wait for the negotiation.
    drip.times.into_iter().skip(2).max().unwrap()
}

// spec: CHN-4, CHN-14
#[test]
fn every_packet_is_acknowledged_within_what_its_receiver_announces() {
    for seed in 0..60 {
        for lag in [Duration::ZERO, ms(2), LAG] {
            let held = longest(seed, lag) - 2 * DELAY;
            assert!(held <= ANNOUNCED, "seed {seed}, timers late by {lag:?}: {held:?}");
            assert!(held > ms(15), "seed {seed}: and not at once: {held:?}");
        }
    }
}
