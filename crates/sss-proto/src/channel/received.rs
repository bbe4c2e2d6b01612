//! Packets that were received and are to be acknowledged, and when (CHN-4, CHN-5, CHN-7).

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use sss_wire::constants::MAX_ACK_RANGES;
use sss_wire::frame::{Ack, EcnCounts};
use sss_wire::{Writer, varint};

use crate::io::Ecn;
use crate::time::{Instant, Span};

/// Ack-eliciting packets that are not left without an acknowledgement.
const ELICITING_THRESHOLD: u32 = 2;

/// A packet as far as acknowledging it is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    pub(super) seq: u64,
    pub(super) at: Instant,
    pub(super) ack_eliciting: bool,
    pub(super) ecn: Ecn,
}

/// The sequence numbers received, and what of them the peer does not know yet.
#[derive(Debug)]
pub(super) struct ReceivedSet {
    ranges: Ranges,
    /// The time when the highest number came.
    largest_at: Instant,
    /// The longest delay of acknowledgements that was announced to the peer.
    max_delay: Span,
    /// Time by which an acknowledgement leaves before that.
    margin: Span,
    /// The time when the first of the ack-eliciting packets came that wait.
    waits_since: Option<Instant>,
    /// Acknowledgements that left later than announced.
    late: u64,
    /// Ack-eliciting packets since the last acknowledgement.
    unacked: u32,
    /// True to acknowledge without waiting.
    at_once: bool,
    ecn: EcnCounts,
}

impl ReceivedSet {
    /// Acknowledgements leave at the latest `max_delay` after what they acknowledge, if timers are late by no more than
    /// `margin`.
    pub(super) fn new(max_delay: Duration, margin: Duration) -> Self {
        Self {
            ranges: Ranges::default(),
            largest_at: Instant::default(),
            max_delay: max_delay.into(),
            margin: margin.into(),
            waits_since: None,
            late: 0,
            unacked: 0,
            at_once: false,
            ecn: EcnCounts::default(),
        }
    }

    /// Takes in a packet that was opened for the first time.
    pub(super) fn note(&mut self, packet: Arrived) {
        let expected = self.ranges.largest().map_or(0, |largest| largest + 1);
        self.ranges.insert(packet.seq);
        if packet.seq >= expected {
            self.largest_at = packet.at;
        }
        match packet.ecn {
            Ecn::NotEct => {}
            Ecn::Ect0 => self.ecn.ect0 += 1,
            Ecn::Ect1 => self.ecn.ect1 += 1,
            Ecn::Ce => self.ecn.ce += 1,
        }
        if !packet.ack_eliciting {
            return;
        }
        self.unacked += 1;
        self.at_once |= self.unacked >= ELICITING_THRESHOLD || packet.seq != expected || packet.ecn == Ecn::Ce;
        self.waits_since.get_or_insert(packet.at);
    }

    /// Returns whether an acknowledgement must leave now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.at_once || self.deadline().is_some_and(|at| now >= at)
    }

    /// Returns whether there is something that the peer waits to hear.
    pub(super) fn is_pending(&self) -> bool {
        self.unacked > 0
    }

    /// Returns when the timer for an acknowledgement is to ring, if one is owed: sooner than announced (CHN-14).
    pub(super) fn deadline(&self) -> Option<Instant> {
        let held = self.max_delay.get().saturating_sub(self.margin.get());
        self.waits_since.map(|since| since + held)
    }

    /// Acknowledgements that left later than announced (CHN-4).
    pub(super) fn late(&self) -> u64 {
        self.late
    }

    /// Writes ACK into at most `room` bytes, if anything was received and there is room. Returns the highest number
    /// that it names.
    pub(super) fn write_ack(&self, now: Instant, out: &mut Writer<'_>, room: usize) -> Option<u64> {
        let largest = self.largest()?;
        let delay = u64::try_from(self.delay(now).as_micros()).unwrap_or(u64::MAX);
        let delay = delay.min(varint::MAX);
        let written = Ack::write(out, self.ranges(), delay, self.ecn(), room);
        (written > 0).then_some(largest)
    }

    /// The ranges to name, the highest first.
    pub(super) fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        self.ranges.descending()
    }

    pub(super) fn range_count(&self) -> usize {
        self.ranges.len()
    }

    pub(super) fn largest(&self) -> Option<u64> {
        self.ranges.largest()
    }

    /// Returns how long the highest number has waited.
    pub(super) fn delay(&self, now: Instant) -> Duration {
        now.since(self.largest_at)
    }

    /// Returns what the peer is to be told about marks; nothing before a marked packet came.
    pub(super) fn ecn(&self) -> Option<EcnCounts> {
        (self.ecn != EcnCounts::default()).then_some(self.ecn)
    }

    /// An acknowledgement was written.
    pub(super) fn on_ack_written(&mut self, now: Instant) {
        if let Some(since) = self.waits_since.take() {
            self.late += u64::from(now.since(since) > self.max_delay.get());
        }
        self.unacked = 0;
        self.at_once = false;
    }

    /// An acknowledgement that named nothing above `largest` was itself acknowledged: the peer knows (CHN-5).
    pub(super) fn on_ack_acked(&mut self, largest: u64) {
        self.ranges.forget_through(largest);
    }
}

/// Disjoint, ascending, non-adjacent ranges of numbers; at most [`MAX_ACK_RANGES`], the lowest are forgotten first.
#[derive(Debug, Default)]
struct Ranges(VecDeque<(u64, u64)>);

impl Ranges {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn largest(&self) -> Option<u64> {
        self.0.back().map(|r| r.1)
    }

    fn descending(&self) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        self.0.iter().rev().map(|&(low, high)| low..=high)
    }

    fn insert(&mut self, n: u64) {
        // Most channels have one range most of the time.
        if self.0.is_empty() {
            self.0.reserve_exact(1);
        }
        match self.0.back_mut() {
            Some(last) if n.checked_sub(1) == Some(last.1) => last.1 = n,
            Some(last) if n <= last.1 => self.insert_below(n),
            _ => self.0.push_back((n, n)),
        }
        while self.0.len() > MAX_ACK_RANGES {
            self.0.pop_front();
        }
    }

    /// Inserts a number that is not above all others.
    fn insert_below(&mut self, n: u64) {
        // The first range that does not lie wholly below n.
        let at = self.0.partition_point(|r| r.1 < n);
        let above = self.0.get(at).copied();
        if above.is_some_and(|r| r.0 <= n) {
            return;
        }
        let joins_above = above.is_some_and(|r| r.0 == n.saturating_add(1));
        let below = at.checked_sub(1);
        let joins_below = below
            .and_then(|i| self.0.get(i))
            .is_some_and(|r| r.1.saturating_add(1) == n);
        match (joins_below, joins_above) {
            (true, true) => {
                let high = above.map_or(n, |r| r.1);
                self.0.remove(at);
                self.set_high(below, high);
            }
            (true, false) => self.set_high(below, n),
            (false, true) => {
                if let Some(range) = self.0.get_mut(at) {
                    range.0 = n;
                }
            }
            (false, false) => self.0.insert(at, (n, n)),
        }
    }

    fn set_high(&mut self, index: Option<usize>, high: u64) {
        if let Some(range) = index.and_then(|i| self.0.get_mut(i)) {
            range.1 = high;
        }
    }

    /// Forgets all numbers up to `n`, except that the highest number of all stays.
    fn forget_through(&mut self, n: u64) {
        let Some(largest) = self.largest() else {
            return;
        };
        let n = n.min(largest.saturating_sub(1));
        while let Some(front) = self.0.front_mut() {
            if front.0 > n {
                break;
            }
            if front.1 > n {
                front.0 = n + 1;
                break;
            }
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const DELAY: Duration = Duration::from_millis(25);
    const MARGIN: Duration = Duration::from_millis(5);

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn packet(seq: u64, ms: u64) -> Arrived {
        Arrived {
            seq,
            at: at(ms),
            ack_eliciting: true,
            ecn: Ecn::NotEct,
        }
    }

    fn numbers(received: &ReceivedSet) -> BTreeSet<u64> {
        received.ranges().flatten().collect()
    }

    // spec: CHN-5
    #[test]
    fn ranges_agree_with_a_set_under_random_input() {
        for seed in 0..20 {
            println!("seed {seed}");
            let mut rng = StdRng::seed_from_u64(seed);
            let mut received = ReceivedSet::new(DELAY, MARGIN);
            let mut model = BTreeSet::new();
            let mut top = 0_u64;
            for _ in 0..2000 {
                let n = if rng.random_bool(0.8) {
                    top + rng.random_range(0..3)
                } else {
                    top.saturating_sub(rng.random_range(0..60))
                };
                top = top.max(n + 1);
                received.note(packet(n, 0));
                model.insert(n);
                if rng.random_bool(0.01) {
                    let known = top.saturating_sub(rng.random_range(1..40));
                    received.on_ack_acked(known);
                    let highest = *model.last().unwrap();
                    model.retain(|&m| m > known || m == highest);
                }
                let ranges: Vec<_> = received.ranges().collect();
                assert!(ranges.len() <= MAX_ACK_RANGES);
                for pair in ranges.windows(2) {
                    assert!(
                        *pair[1].end() + 1 < *pair[0].start(),
                        "disjoint, descending, not adjacent"
                    );
                }
                if ranges.len() == MAX_ACK_RANGES {
                    let lowest = *ranges.last().unwrap().start();
                    model.retain(|&m| m >= lowest);
                }
                assert_eq!(numbers(&received), model);
            }
        }
    }

    // spec: CHN-5
    #[test]
    fn more_ranges_than_can_be_named_are_forgotten_from_below() {
        let mut received = ReceivedSet::new(DELAY, MARGIN);
        for n in 0..200 {
            received.note(packet(n * 2, 0));
        }
        assert_eq!(received.range_count(), MAX_ACK_RANGES);
        assert_eq!(received.largest(), Some(398));
        assert!(!numbers(&received).contains(&0));
    }

    // spec: CHN-4, CHN-14
    #[test]
    fn one_packet_waits_for_the_delay_and_the_second_does_not() {
        let mut received = ReceivedSet::new(DELAY, MARGIN);
        received.note(packet(0, 10));
        assert!(!received.is_due(at(10)));
        assert_eq!(received.deadline(), Some(at(30)), "before what is announced");
        assert!(received.is_due(at(30)));
        received.note(packet(1, 20));
        assert!(received.is_due(at(20)));
        assert_eq!(received.delay(at(23)), Duration::from_millis(3));
        received.on_ack_written(at(35));
        assert!(!received.is_due(at(1000)) && !received.is_pending());
        assert_eq!(received.late(), 0, "a timer that rings late is in time");
        received.note(packet(2, 40));
        received.on_ack_written(at(66));
        assert_eq!(received.late(), 1);
    }

    // spec: CHN-4
    #[test]
    fn disorder_and_congestion_marks_are_told_at_once() {
        let mut gap = ReceivedSet::new(DELAY, MARGIN);
        gap.note(packet(1, 0));
        assert!(gap.is_due(at(0)));
        let mut late = ReceivedSet::new(DELAY, MARGIN);
        late.note(packet(0, 0));
        late.note(packet(1, 0));
        late.note(packet(3, 0));
        late.on_ack_written(at(0));
        late.note(packet(2, 0));
        assert!(late.is_due(at(0)));
        let mut marked = ReceivedSet::new(DELAY, MARGIN);
        marked.note(Arrived {
            ecn: Ecn::Ce,
            ..packet(0, 0)
        });
        assert!(marked.is_due(at(0)));
        let mut quiet = ReceivedSet::new(DELAY, MARGIN);
        quiet.note(Arrived {
            ack_eliciting: false,
            ..packet(7, 0)
        });
        assert!(!quiet.is_due(at(1000)) && !quiet.is_pending());
    }

    // spec: CHN-7
    #[test]
    fn marks_are_counted_and_reported_only_once_one_came() {
        let mut received = ReceivedSet::new(DELAY, MARGIN);
        received.note(packet(0, 0));
        assert_eq!(received.ecn(), None);
        received.note(Arrived {
            ecn: Ecn::Ect0,
            ..packet(1, 0)
        });
        received.note(Arrived {
            ecn: Ecn::Ce,
            ..packet(2, 0)
        });
        let counts = received.ecn().unwrap();
        assert_eq!((counts.ect0, counts.ect1, counts.ce), (1, 0, 1));
    }
}
