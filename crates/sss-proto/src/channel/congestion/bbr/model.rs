//! The model of the path, and of the round trips on it.

use std::time::Duration;

use super::filters::{Aggregation, MaxFilter, MinRtt};
use super::loss;
use super::rate::{RateSample, SteadyRate};

/// Measured properties of the path.
#[derive(Debug, Default)]
pub(super) struct PathModel {
    /// Bytes per second.
    pub(super) bandwidth: MaxFilter,
    pub(super) min_rtt: MinRtt,
    /// The longest of the smallest round trips of each round, in seconds.
    pub(super) longest: MaxFilter,
    pub(super) aggregation: Aggregation,
    pub(super) steady: SteadyRate,
    /// More was sent once, and neither did more arrive, nor did it take longer.
    pub(super) is_full: bool,
}

impl PathModel {
    /// The bandwidth-delay product at a bandwidth, in bytes; `None` before both are known.
    pub(super) fn product(&self, bandwidth: f64) -> Option<f64> {
        let rtt = self.min_rtt.get()?;
        (bandwidth > 0.0).then_some(bandwidth * rtt.as_secs_f64())
    }

    /// A round trip is over, of which this was the smallest measurement.
    pub(super) fn on_round(&mut self, smallest: Option<Duration>) {
        self.aggregation.on_round();
        if let Some(rtt) = smallest {
            self.longest.update(rtt.as_secs_f64());
        }
    }

    /// Returns whether a round trip is one of the shorter ones of late, and there were longer ones: no queue stood.
    pub(super) fn is_short(&self, rtt: Duration) -> bool {
        self.variation().is_some_and(|(min, more)| rtt <= min + more / 2)
    }

    /// Returns whether round trips were longer and shorter of late: a queue comes and goes.
    pub(super) fn is_varied(&self) -> bool {
        self.variation().is_some()
    }

    /// The smallest round trip, and by how much others were longer of late, if that is more than chance.
    fn variation(&self) -> Option<(Duration, Duration)> {
        let min = self.min_rtt.get()?;
        let more = Duration::from_secs_f64(self.longest.get()).saturating_sub(min);
        loss::is_variation(more, min).then_some((min, more))
    }
}

/// Bounds that congestion has shown: more was too much.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    /// Bytes per second, and bytes in flight, until the path is probed the next time.
    pub(super) bandwidth: Option<f64>,
    pub(super) in_flight: Option<u64>,
    /// Bytes in flight, until probing finds that more is possible.
    pub(super) upper: Option<u64>,
}

/// A round trip: from the departure of a packet to its acknowledgement.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Round {
    /// It is over when a packet is acknowledged that left when so much was delivered.
    pub(super) end: u64,
    /// The last acknowledgement ended one.
    pub(super) is_start: bool,
    pub(super) present: RoundSamples,
    pub(super) previous: RoundSamples,
}

/// The most that samples of a round trip had, but for its time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundSamples {
    /// Bytes per second.
    pub(super) rate: f64,
    /// Bytes delivered in the time of one packet's round trip.
    pub(super) delivered: u64,
    /// The smallest round-trip time.
    pub(super) rtt: Option<Duration>,
}

impl Round {
    pub(super) fn update(&mut self, sample: &RateSample, delivered: u64, rtt: Option<Duration>) {
        self.is_start = sample.prior >= self.end;
        if self.is_start {
            self.begin(delivered);
        }
        self.present.rate = self.present.rate.max(sample.rate.unwrap_or_default());
        self.present.delivered = self.present.delivered.max(sample.delivered);
        self.present.rtt = self.present.rtt.into_iter().chain(rtt).min();
    }

    /// A round trip begins now.
    pub(super) fn begin(&mut self, delivered: u64) {
        self.end = delivered;
        self.previous = std::mem::take(&mut self.present);
    }

    pub(super) fn rate(&self) -> f64 {
        self.present.rate.max(self.previous.rate)
    }

    pub(super) fn delivered(&self) -> u64 {
        self.present.delivered.max(self.previous.delivered)
    }
}
