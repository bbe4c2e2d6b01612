//! The judgement whether loss means congestion (REC-12).
//!
//! It does if a queue stands while packets are lost, or if many more are lost than this path loses when this sender
//! does not push it and round trips are short. Where they are always as long, a queue that never empties cannot be told
//! from a path that loses: what is lost then is taken for congestion.

use std::time::Duration;

use crate::channel::rtt::GRANULARITY;
use crate::time::Instant;

/// More than this share of the packets is too much, beyond what is lost anyway.
const THRESHOLD: f64 = 0.02;
/// Packets by which losses are judged, at least: of the few of a round trip of one among many senders, two are much.
const PERIOD: f64 = 100.0;
/// Without a queue, no more than this share is ever taken for chance.
const CHANCE_AT_MOST: f64 = 0.25;
/// Packets lost that are at least needed to judge; and at the start, when little is in flight.
const LEAST: u64 = 2;
const LEAST_AT_START: u64 = 6;
/// So many standard deviations from what is expected are no accident.
const DEVIATIONS: f64 = 3.0;
/// A queue stands if a round trip is longer than the smallest one by this part of it, and what clocks are good for.
const QUEUE_PART: u32 = 8;
/// There is no queue if the shortest of a round trip's measurements is longer than the smallest by no more than this
/// part of it.
const NO_QUEUE_PART: u32 = 32;
/// Round trips vary if the longest is longer than the smallest by this part of it, and what clocks are good for.
const VARIED_PART: u32 = 16;
/// Measurements of which the usual delay is the mean, about, and how many mean deviations are usual.
const DELAY_MEMORY: u32 = 64;
const DELAY_DEVIATIONS: u32 = 2;
/// Packets of which the usual loss is the mean, about; and how many it takes to know it.
const MEMORY: f64 = 1024.0;
const ENOUGH: f64 = 128.0;

/// The share of packets that the path loses when this sender does not push it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct UsualLoss {
    share: f64,
    packets: f64,
    /// Packets sent from then on, and until then, tell.
    from: Option<Instant>,
    until: Option<Instant>,
}

impl UsualLoss {
    /// From now on this sender does not push.
    pub(super) fn begin(&mut self, now: Instant) {
        self.from = Some(now);
        self.until = None;
    }

    /// From now on it does.
    pub(super) fn end(&mut self, now: Instant) {
        self.until.get_or_insert(now);
    }

    fn tells(&self, sent: Instant) -> bool {
        self.from.is_some_and(|from| sent >= from) && self.until.is_none_or(|until| sent < until)
    }

    /// Packets sent at `sent` arrived, or were lost.
    pub(super) fn note(&mut self, sent: Instant, packets: f64, is_lost: bool) {
        if self.tells(sent) {
            self.packets = (self.packets + packets).min(MEMORY);
            let weight = (packets / self.packets.max(1.0)).min(1.0);
            self.share += (f64::from(u8::from(is_lost)) - self.share) * weight;
        }
    }

    /// The share, once enough has been seen.
    pub(super) fn share(&self) -> Option<f64> {
        (self.packets >= ENOUGH).then_some(self.share)
    }
}

/// The most packets of `packets` that may be lost by chance, where so large a share usually is.
fn allowed(packets: f64, usual: f64) -> f64 {
    let share = (usual + THRESHOLD).min(CHANCE_AT_MOST);
    packets * share + DEVIATIONS * (packets * share).sqrt()
}

/// Fate of packets in the present period, since the last reaction: a round trip, or as many as have enough of
/// them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LostLately {
    lost: u64,
    /// Of these, those lost while a queue stood.
    queued: u64,
    arrived: f64,
}

impl LostLately {
    /// A round trip is over.
    pub(super) fn on_round(&mut self) {
        if self.packets() >= PERIOD {
            *self = Self::default();
        }
    }

    pub(super) fn arrived(&mut self, packets: f64) {
        self.arrived += packets;
    }

    pub(super) fn lost(&mut self, packets: u64, in_queue: bool) {
        self.lost += packets;
        self.queued += if in_queue { packets } else { 0 };
    }

    fn packets(&self) -> f64 {
        self.arrived + self.lost as f64
    }

    /// Returns whether more than the threshold was lost, whatever it looks like.
    pub(super) fn is_too_much(&self, in_flight: f64) -> bool {
        self.lost >= LEAST && self.lost as f64 > in_flight.max(self.packets()) * THRESHOLD
    }

    /// Returns whether that is congestion, where `in_flight` packets are in flight and such a share is usually lost.
    pub(super) fn is_congestion(&self, in_flight: f64, usual: f64, at_start: bool) -> bool {
        let least = if at_start { LEAST_AT_START } else { LEAST };
        let packets = in_flight.max(self.packets());
        let queued = self.queued >= least && self.queued as f64 > packets * THRESHOLD;
        queued || (self.lost >= LEAST_AT_START && self.lost as f64 > allowed(packets, usual))
    }
}

/// Returns whether round trips vary that are longer than the smallest one by so much.
pub(super) fn is_variation(more: Duration, min: Duration) -> bool {
    more >= min / VARIED_PART + GRANULARITY
}

/// Returns whether a round trip that long shows that a queue stands, where `usual` is not one.
pub(super) fn is_queue(rtt: Duration, min: Option<Duration>, usual: Duration) -> bool {
    min.is_some_and(|min| rtt > min + min / QUEUE_PART + GRANULARITY + usual.min(min / QUEUE_PART))
}

/// By how much round trips are longer than the smallest one although no queue stands: jitter, and acknowledgements held
/// back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct UsualDelay {
    mean: Duration,
    deviation: Duration,
}

impl UsualDelay {
    /// Takes in a round trip of a time without pushing, if the shortest one of the round trip before shows that there
    /// was no queue.
    pub(super) fn note(&mut self, rtt: Duration, shortest: Option<Duration>, min: Option<Duration>) {
        let Some((shortest, min)) = shortest.zip(min) else {
            return;
        };
        if shortest <= min + min / NO_QUEUE_PART + GRANULARITY {
            let excess = rtt.saturating_sub(min);
            let deviation = excess.abs_diff(self.mean);
            self.mean = (self.mean * (DELAY_MEMORY - 1) + excess) / DELAY_MEMORY;
            self.deviation = (self.deviation * (DELAY_MEMORY - 1) + deviation) / DELAY_MEMORY;
        }
    }

    /// A delay that is not unusual.
    pub(super) fn get(&self) -> Duration {
        self.mean + self.deviation * DELAY_DEVIATIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn lost(packets: u64, in_queue: bool) -> LostLately {
        let mut lost = LostLately::default();
        lost.lost(packets, in_queue);
        lost
    }

    fn usual(percent: u32) -> UsualLoss {
        let mut usual = UsualLoss::default();
        usual.begin(at(0));
        for n in 0..2000 {
            usual.note(at(1), 1.0, n % 100 < percent);
        }
        usual
    }

    // spec: REC-12
    #[test]
    fn a_queue_stands_if_round_trips_are_longer_by_an_eighth() {
        let none = Duration::ZERO;
        assert!(!is_queue(ms(500), None, none));
        assert!(!is_queue(ms(57), Some(ms(50)), none));
        assert!(is_queue(ms(58), Some(ms(50)), none));
        assert!(!is_queue(ms(58), Some(ms(50)), ms(5)));
        assert!(!is_queue(
            Duration::from_micros(1100),
            Some(Duration::from_micros(100)),
            none
        ));
    }

    // spec: REC-12
    #[test]
    fn jitter_is_learned_while_no_queue_stands() {
        let mut usual = UsualDelay::default();
        for n in 0..1000 {
            usual.note(ms(50 + n % 11), Some(ms(51)), Some(ms(50)));
        }
        assert!((ms(8)..ms(14)).contains(&usual.get()), "{:?}", usual.get());
        let before = usual.get();
        for _ in 0..1000 {
            usual.note(ms(90), Some(ms(60)), Some(ms(50)));
            usual.note(ms(90), None, Some(ms(50)));
        }
        assert_eq!(usual.get(), before, "that was a queue");
    }

    // spec: REC-12
    #[test]
    fn with_a_queue_two_percent_are_congestion() {
        let none = 0.0;
        assert!(!lost(2, true).is_congestion(100.0, none, false));
        assert!(lost(3, true).is_congestion(100.0, none, false));
        assert!(
            !lost(3, true).is_congestion(100.0, none, true),
            "at the start it takes six"
        );
        assert!(lost(6, true).is_congestion(100.0, none, true));
        assert!(!lost(1, true).is_congestion(10.0, none, false), "one is an accident");
    }

    // spec: REC-12
    #[test]
    fn without_a_queue_what_is_usual_is_no_congestion() {
        let five = usual(5);
        assert!((five.share().unwrap() - 0.05).abs() < 0.03);
        assert!(!lost(10, false).is_congestion(100.0, five.share().unwrap(), false));
        assert!(lost(25, false).is_congestion(100.0, five.share().unwrap(), false));
        let none = usual(0).share().unwrap();
        assert_eq!(none, 0.0);
        assert!(!lost(5, false).is_congestion(100.0, none, false));
        assert!(lost(8, false).is_congestion(100.0, none, false), "a policer");
    }

    // spec: REC-12
    #[test]
    fn what_is_not_known_yet_and_what_is_too_much_has_a_bound() {
        for usual in [1.0, usual(50).share().unwrap()] {
            assert!(!lost(30, false).is_congestion(100.0, usual, false));
            assert!(lost(41, false).is_congestion(100.0, usual, false));
        }
    }

    // spec: REC-12
    #[test]
    fn losses_of_small_windows_are_judged_by_a_hundred_packets() {
        let mut lately = LostLately::default();
        for round in 0..20 {
            lately.on_round();
            lately.arrived(7.0);
            lately.lost(1, true);
            let is_too_much = lately.is_congestion(8.0, 0.0, false);
            assert_eq!(
                is_too_much,
                round % 13 > 0,
                "round {round}: an eighth, but one alone is an accident"
            );
        }
    }

    // spec: REC-12
    #[test]
    fn only_packets_sent_without_pushing_tell_what_is_usual() {
        let mut usual = UsualLoss::default();
        usual.note(at(1), 500.0, true);
        assert_eq!(usual.share(), None);
        usual.begin(at(10));
        usual.note(at(9), 500.0, true);
        usual.note(at(10), 127.0, false);
        assert_eq!(usual.share(), None);
        usual.note(at(10), 1.0, false);
        usual.end(at(20));
        usual.end(at(30));
        usual.note(at(20), 500.0, true);
        assert_eq!(usual.share(), Some(0.0));
    }
}
