//! Rate of a path from the packets that left faster than it carries them (REC-18).
//!
//! What leaves back to back comes out of the bottleneck at its rate (packet pairs: Keshav, 1991; trains: Dovrolis et
//! al., 2001), and acknowledgements show that: the initial window, sent at once, is the first such train. Others look
//! at how long the acknowledgements of a train take (`HyStart`, Ha and Rhee, 2011).

use std::time::Duration;

use super::super::control::AckSample;
use crate::time::Instant;

/// Samples of which a train has to consist at least.
const SAMPLES: u32 = 4;
/// It has to arrive in so many times the time in which it left.
const STRETCH: u32 = 2;
/// No byte of it may take longer than so many times the mean: a bottleneck spaces evenly, and jitter does not.
const EVEN: f64 = 1.125;

/// Trains so far, and the present one.
#[derive(Debug, Default)]
pub(super) struct Trains {
    /// Bytes of those that have passed, and the time in which they arrived.
    bytes: u64,
    span: Duration,
    present: Option<Train>,
}

/// Packets that took longer to arrive than to leave.
#[derive(Debug)]
struct Train {
    /// The time when the first of them left.
    left: Instant,
    /// The times when the first and the last arrived, a way later.
    since: Instant,
    until: Instant,
    samples: u32,
    /// Bytes acknowledged after the first of them.
    bytes: u64,
    /// The longest time from one to the next, in seconds per byte.
    slowest: f64,
}

impl Train {
    fn new(left: Instant, arrived: Instant) -> Self {
        Self {
            left,
            since: arrived,
            until: arrived,
            samples: 1,
            bytes: 0,
            slowest: 0.0,
        }
    }

    fn is_clear(&self) -> bool {
        let longest = self.slowest * self.bytes as f64;
        self.samples >= SAMPLES && longest <= EVEN * self.span().as_secs_f64()
    }

    /// The time in which it arrived.
    fn span(&self) -> Duration {
        self.until.since(self.since)
    }
}

impl Trains {
    pub(super) fn note(&mut self, sample: &AckSample) {
        let left = sample.largest_sent;
        // Without the time for which the peer kept the acknowledgement.
        let arrived = sample.latest.map_or(sample.now, |rtt| left + rtt);
        if let Some(train) = &mut self.present
            && arrived.since(train.since) >= STRETCH * left.since(train.left)
        {
            let gap = arrived.since(train.until).as_secs_f64();
            train.slowest = train.slowest.max(gap / sample.bytes.max(1) as f64);
            train.until = arrived;
            train.samples += 1;
            train.bytes += sample.bytes;
            return;
        }
        if let Some(train) = self.present.replace(Train::new(left, arrived)).filter(Train::is_clear) {
            self.bytes += train.bytes;
            self.span += train.span();
        }
    }

    /// The mean rate of all, in bytes per second.
    pub(super) fn rate(&self) -> Option<f64> {
        let present = self.present.as_ref().filter(|train| train.is_clear());
        let (bytes, span) = present.map_or((0, Duration::ZERO), |t| (t.bytes, t.span()));
        let span = self.span + span;
        (!span.is_zero()).then(|| (self.bytes + bytes) as f64 / span.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Instant {
        Instant::from_nanos(us * 1000)
    }

    /// Rate of packets of 1000 bytes, each of which left and arrived at these microseconds.
    fn rate(packets: &[(u64, u64)]) -> Option<f64> {
        let mut trains = Trains::default();
        for (n, (left, arrived)) in (0..).zip(packets) {
            trains.note(&AckSample {
                // The peer keeps acknowledgements for some time.
                now: at(arrived + 100 * (n % 3)),
                bytes: 1000,
                largest: n,
                next: n + 1,
                largest_sent: at(*left),
                in_flight: 10_000,
                remaining: 10_000,
                oldest: n + 1,
                smoothed: Duration::from_millis(50),
                latest: Some(at(*arrived).since(at(*left))),
                least: None,
            });
        }
        trains.rate()
    }

    /// So many packets, which leave and arrive so many microseconds apart, from then on.
    fn train(begin: u64, packets: u64, left: u64, arrived: u64) -> Vec<(u64, u64)> {
        let packet = |n| (begin + left * n, begin + 50_000 + arrived * n);
        (0..packets).map(packet).collect()
    }

    fn is(rate: Option<f64>, expected: f64) -> bool {
        rate.is_some_and(|rate| (rate / expected - 1.0).abs() < 1e-6)
    }

    // spec: REC-18
    #[test]
    fn what_leaves_at_once_arrives_at_the_rate_of_the_path() {
        assert!(is(rate(&train(0, 5, 0, 500)), 2e6));
        assert!(is(rate(&train(0, 20, 200, 500)), 2e6));
        // Once it has passed, too.
        let passed = [train(0, 10, 0, 500), train(60_000, 50, 1000, 1000)].concat();
        assert!(is(rate(&passed), 2e6));
    }

    // spec: REC-18
    #[test]
    fn what_leaves_no_faster_than_it_arrives_tells_nothing() {
        assert_eq!(rate(&train(0, 50, 500, 500)), None);
        assert_eq!(rate(&train(0, 50, 300, 500)), None);
    }

    // spec: REC-18
    #[test]
    fn a_few_packets_tell_nothing() {
        assert_eq!(rate(&train(0, 3, 0, 500)), None);
        let pairs: Vec<_> = (0..20).flat_map(|n| train(2000 * n, 2, 0, 500)).collect();
        assert_eq!(rate(&pairs), None);
    }

    // spec: REC-18
    #[test]
    fn packets_that_arrive_at_odd_times_tell_nothing() {
        let mut packets = train(0, 10, 0, 500);
        packets.iter_mut().skip(5).for_each(|packet| packet.1 += 400);
        assert_eq!(rate(&packets), None);
        // What a host takes in at once arrives at any rate.
        assert_eq!(rate(&train(0, 10, 0, 0)), None);
    }

    // spec: REC-18
    #[test]
    fn of_trains_the_mean_counts() {
        let trains = [train(0, 5, 0, 500), train(60_000, 5, 0, 1000)].concat();
        assert!(is(rate(&trains), 8000.0 / 6e-3));
    }
}
