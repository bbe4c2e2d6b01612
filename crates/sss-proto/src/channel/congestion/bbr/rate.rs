//! Delivery rate samples: how fast what was sent arrived (draft-ietf-ccwg-bbr section 4.1; REC-10).
//!
//! Packets that leave between two acknowledgements see the same state of delivery, and share one entry here.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::control::{AckSample, Departed};
use crate::time::Instant;

/// Room kept when nothing is in flight.
const IDLE_CAPACITY: usize = 4;

/// State of delivery when some packets in a row left.
#[derive(Clone, Copy, Debug)]
struct Departure {
    /// Number of the first of them.
    seq: u64,
    /// Bytes delivered so far, and when that became known.
    delivered: u64,
    delivered_at: Instant,
    /// The time when the packet left that had been acknowledged last.
    first_sent: Instant,
    /// Bytes in flight with the last of them.
    in_flight: u64,
    is_app_limited: bool,
}

/// Measurement by one acknowledgement of the packets sent in the round trip before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RateSample {
    /// Bytes per second; `None` if too little time was covered to tell.
    pub(super) rate: Option<f64>,
    /// Bytes delivered from the departure of the newest packet until its acknowledgement.
    pub(super) delivered: u64,
    /// Bytes that had been delivered when that packet left.
    pub(super) prior: u64,
    /// The sender had no more to send then: the path may carry more.
    pub(super) is_app_limited: bool,
}

/// Bytes delivered in so many datagrams tell a rate, whatever chance does to a few of them.
const STEADY: u64 = 16;

/// The rate over as many round trips as it takes to tell. Of a few packets each, chance makes one rate twice another,
/// and the largest of many would be kept: the more senders there are, the more all of them would send in all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SteadyRate {
    bytes: u64,
    seconds: f64,
    is_known: bool,
}

impl SteadyRate {
    /// Takes in the rate of a round trip in which so many bytes were delivered, in datagrams of this size. Returns the
    /// mean of the round trips since it last did, when that tells.
    pub(super) fn add(&mut self, rate: f64, delivered: u64, datagram: u16) -> Option<f64> {
        self.bytes += delivered;
        self.seconds += delivered as f64 / rate;
        if self.bytes < STEADY * u64::from(datagram) || self.seconds <= 0.0 {
            return None;
        }
        let mean = self.bytes as f64 / self.seconds;
        *self = Self {
            is_known: true,
            ..Self::default()
        };
        Some(mean)
    }

    /// Returns whether a rate was told since the beginning.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }
}

/// Counts what is delivered, and measures how fast.
#[derive(Debug, Default)]
pub(super) struct DeliveryRate {
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
    /// Packets are sent for lack of more to send until so much is delivered.
    app_limited_until: Option<u64>,
    departures: VecDeque<Departure>,
    /// The last entry is complete: an acknowledgement came since.
    is_complete: bool,
}

impl DeliveryRate {
    /// Bytes delivered so far.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(super) fn on_sent(&mut self, packet: &Departed) {
        if packet.in_flight <= packet.bytes {
            self.first_sent = packet.now;
            self.delivered_at = packet.now;
            self.is_complete = true;
        }
        if !self.is_complete
            && let Some(last) = self.departures.back_mut()
        {
            last.in_flight = packet.in_flight;
            return;
        }
        self.is_complete = false;
        self.departures.push_back(Departure {
            seq: packet.seq,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent: self.first_sent,
            in_flight: packet.in_flight,
            is_app_limited: self.app_limited_until.is_some(),
        });
    }

    /// Notes that what is sent from now on does not show what the path carries, until all in flight has arrived.
    pub(super) fn limit(&mut self, in_flight: u64) {
        self.is_complete |= self.app_limited_until.is_none();
        self.app_limited_until = Some(self.delivered + in_flight);
    }

    /// Takes in an acknowledgement. A sample that covers less time than the smallest round trip has no rate.
    pub(super) fn on_acked(&mut self, ack: &AckSample, min_rtt: Option<Duration>) -> Option<RateSample> {
        self.delivered += ack.bytes;
        self.delivered_at = ack.now;
        self.is_complete = true;
        if self.app_limited_until.is_some_and(|until| self.delivered > until) {
            self.app_limited_until = None;
        }
        let departure = self.departure(ack.largest).copied();
        self.forget(ack.oldest);
        let departure = departure?;
        let sending = ack.largest_sent.since(departure.first_sent);
        let arriving = ack.now.since(departure.delivered_at);
        self.first_sent = self.first_sent.max(ack.largest_sent);
        let interval = sending.max(arriving);
        let delivered = self.delivered - departure.delivered;
        let is_long = !interval.is_zero() && min_rtt.is_none_or(|min| interval >= min);
        Some(RateSample {
            rate: is_long.then(|| delivered as f64 / interval.as_secs_f64()),
            delivered,
            prior: departure.delivered,
            is_app_limited: departure.is_app_limited,
        })
    }

    /// Bytes in flight when the packet with this number left, if that is known.
    pub(super) fn in_flight_at(&self, seq: u64) -> Option<u64> {
        self.departure(seq).map(|d| d.in_flight)
    }

    fn departure(&self, seq: u64) -> Option<&Departure> {
        let after = self.departures.partition_point(|d| d.seq <= seq);
        self.departures.get(after.checked_sub(1)?)
    }

    /// Entries whose packets are all settled are of no more use. The last one stays: it may go on.
    fn forget(&mut self, oldest: u64) {
        while self.departures.get(1).is_some_and(|next| next.seq <= oldest) {
            self.departures.pop_front();
        }
    }

    pub(super) fn shrink(&mut self) {
        self.departures.shrink_to(IDLE_CAPACITY);
    }
}

#[cfg(test)]
impl DeliveryRate {
    /// Entries for which there is room.
    pub(super) fn room(&self) -> usize {
        self.departures.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: u64 = 1000;

    // spec: REC-10
    #[test]
    fn the_rate_of_a_few_packets_is_that_of_several_round_trips() {
        let mut steady = SteadyRate::default();
        // Four datagrams each 10 ms, and eight for once.
        assert_eq!(steady.add(400_000.0, 4 * BYTES, 1000), None);
        assert_eq!(steady.add(800_000.0, 8 * BYTES, 1000), None);
        assert!(!steady.is_known());
        let mean = steady.add(400_000.0, 4 * BYTES, 1000).unwrap();
        assert!((mean - 16_000.0 / 0.03).abs() < 1.0 && steady.is_known());
        assert_eq!(steady.add(5e6, 50 * BYTES, 1000), Some(5e6));
    }

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn send(rate: &mut DeliveryRate, ms: u64, seq: u64, in_flight: u64) {
        rate.on_sent(&Departed {
            now: at(ms),
            seq,
            bytes: BYTES,
            in_flight,
        });
    }

    fn ack(ms: u64, largest: u64, sent_ms: u64, bytes: u64) -> AckSample {
        AckSample {
            now: at(ms),
            bytes,
            largest,
            next: largest + 1,
            largest_sent: at(sent_ms),
            in_flight: 0,
            remaining: 0,
            oldest: largest + 1,
            smoothed: Duration::from_millis(100),
            latest: None,
            least: None,
        }
    }

    // spec: REC-10
    #[test]
    fn the_rate_is_the_slower_of_sending_and_arriving() {
        let mut rate = DeliveryRate::default();
        for n in 0..10 {
            send(&mut rate, n, n, (n + 1) * BYTES);
        }
        // The first packets only tell how long a round trip is.
        let first = rate.on_acked(&ack(100, 0, 0, BYTES), None).unwrap();
        assert_eq!((first.delivered, first.prior), (BYTES, 0));
        assert!((first.rate.unwrap() - 10_000.0).abs() < 1e-6);
        // Ten packets arrive 5 ms apart: sent in 9 ms, arrived in 45 ms after the first.
        for n in 1..10 {
            send(&mut rate, 100 + (n - 1) * 5, 9 + n, 10 * BYTES);
            rate.on_acked(&ack(100 + n * 5, n, n, BYTES), None);
        }
        // Packet 14 left at 120, 116 ms after the packet acknowledged last, when 5 were delivered. Its acknowledgement,
        // 100 ms later, is one of 20 more.
        let sample = rate.on_acked(&ack(220, 14, 120, 15 * BYTES), None).unwrap();
        assert_eq!((sample.prior, sample.delivered), (5 * BYTES, 20 * BYTES));
        assert!((sample.rate.unwrap() - 20_000.0 / 0.116).abs() < 1e-6, "{sample:?}");
        assert!(!sample.is_app_limited);
    }

    // spec: REC-10
    #[test]
    fn what_covers_less_than_a_round_trip_has_no_rate() {
        let mut rate = DeliveryRate::default();
        send(&mut rate, 0, 0, BYTES);
        let sample = rate
            .on_acked(&ack(10, 0, 0, BYTES), Some(Duration::from_millis(20)))
            .unwrap();
        assert_eq!(sample.rate, None);
    }

    // spec: REC-10
    #[test]
    fn packets_sent_for_lack_of_more_are_marked_until_they_arrive() {
        let mut rate = DeliveryRate::default();
        send(&mut rate, 0, 0, BYTES);
        rate.limit(BYTES);
        send(&mut rate, 1, 1, 2 * BYTES);
        assert!(!rate.on_acked(&ack(100, 0, 0, BYTES), None).unwrap().is_app_limited);
        send(&mut rate, 101, 2, 2 * BYTES);
        assert!(rate.on_acked(&ack(101, 1, 1, BYTES), None).unwrap().is_app_limited);
        send(&mut rate, 102, 3, 2 * BYTES);
        assert!(rate.on_acked(&ack(201, 2, 101, BYTES), None).unwrap().is_app_limited);
        assert!(!rate.on_acked(&ack(202, 3, 102, BYTES), None).unwrap().is_app_limited);
    }

    // spec: REC-10
    #[test]
    fn time_without_anything_in_flight_does_not_count() {
        let mut rate = DeliveryRate::default();
        send(&mut rate, 0, 0, BYTES);
        rate.on_acked(&ack(100, 0, 0, BYTES), None);
        send(&mut rate, 60_000, 1, BYTES);
        let sample = rate.on_acked(&ack(60_100, 1, 60_000, BYTES), None).unwrap();
        assert!((sample.rate.unwrap() - 10_000.0).abs() < 1e-6);
    }

    #[test]
    fn entries_are_shared_and_forgotten() {
        let mut rate = DeliveryRate::default();
        for n in 0..100 {
            send(&mut rate, n, n, (n + 1) * BYTES);
        }
        assert_eq!(rate.departures.len(), 1);
        assert_eq!(rate.in_flight_at(7), Some(100 * BYTES));
        for n in 0..100 {
            rate.on_acked(&ack(100 + n, n, n, BYTES), None);
            send(&mut rate, 100 + n, 100 + n, 100 * BYTES);
        }
        assert!(rate.departures.len() <= 101);
        rate.on_acked(&ack(300, 199, 199, 100 * BYTES), None);
        assert_eq!(rate.departures.len(), 1);
    }
}
