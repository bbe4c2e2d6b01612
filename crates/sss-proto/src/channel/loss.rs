//! Loss detection: when packets count as lost, and the peer is probed (RFC 9002 section 6; REC-2, REC-3, REC-4).

use std::collections::VecDeque;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use super::rtt::{GRANULARITY, Rtt};
use crate::pace::retry_interval;
use crate::rare::Rare;
use crate::time::Instant;

/// The reordering threshold at first, in packets.
const INITIAL_THRESHOLD: u64 = 3;
/// The reordering threshold at most (REC-3).
const MAX_THRESHOLD: u64 = 1024;
/// For how many round trips the time threshold stays raised after a false loss.
const RAISED_ROUND_TRIPS: u32 = 8;
/// Packets sent on a probe timeout.
const PROBES: u8 = 2;
/// Probe timeouts in a row from which on the peer is silent (REC-4, MIG-11).
const SILENT: u32 = 2;
/// A host whose probe timeout is so late was suspended.
const SUSPENDED: Duration = Duration::from_secs(1);
/// The number of probe timeouts in a row that repeat data (MIG-12).
const DATA_PROBES: u32 = 3;
/// A false loss is recognised within this distance of the largest acknowledged number.
const HORIZON: u64 = 4 * MAX_THRESHOLD;
/// The number of lost packets remembered, to recognise false losses.
const MAX_REMEMBERED: usize = 1024;
/// The number of losses for which an idle channel has room.
const IDLE_REMEMBERED: usize = 16;

/// The rules of loss detection, adapted to the path's reordering, and the probe timeout.
#[derive(Debug)]
pub(super) struct LossDetector {
    threshold: u64,
    /// Until when the time threshold is 5/4 instead of 9/8.
    raised_until: Instant,
    /// Numbers declared lost, ascending, to recognise that one was only late.
    remembered: Rare<VecDeque<u64>>,
    /// The time when a packet is to be declared lost because of its age.
    pub(super) loss_time: Option<Instant>,
    probe: ProbeTimeout,
    /// The last reaction of congestion control to loss, unless it was justified by something else.
    reaction: Option<Reaction>,
}

/// A reaction of congestion control, and the losses that caused it.
#[derive(Debug)]
struct Reaction {
    /// The first number lost.
    first: u64,
    /// Losses since, less those that were false.
    losses: u64,
}

/// Progress of the search for false losses: what is remembered from `index` on lies above all ranges seen.
#[derive(Debug)]
pub(super) struct Cursor {
    index: usize,
    largest: u64,
    raise_until: Instant,
}

/// The state of the probe timeout.
#[derive(Debug, Default)]
struct ProbeTimeout {
    /// Expiries without an acknowledgement.
    count: u32,
    /// The time when the first of them was.
    since: Instant,
    /// The time when the last ack-eliciting packet was sent.
    last_eliciting: Instant,
    /// The time when the first such packet was sent since something was acknowledged, or since the timeout expired.
    waiting_since: Option<Instant>,
    /// ProbeTimeout packets still to be sent.
    pending: u8,
}

impl LossDetector {
    pub(super) fn new() -> Self {
        Self {
            threshold: INITIAL_THRESHOLD,
            raised_until: Instant::default(),
            remembered: Rare::new(),
            loss_time: None,
            probe: ProbeTimeout::default(),
            reaction: None,
        }
    }

    /// The reordering threshold, in packets.
    pub(super) fn threshold(&self) -> u64 {
        self.threshold
    }

    /// The age at which a packet older than an acknowledged one is lost.
    pub(super) fn time_threshold(&self, now: Instant, rtt: &Rtt) -> Duration {
        let base = rtt.smoothed().max(rtt.latest());
        let raised = if now < self.raised_until {
            base * 5 / 4
        } else {
            base * 9 / 8
        };
        raised.max(GRANULARITY)
    }

    /// Remembers that a packet was declared lost. To be called in ascending order.
    pub(super) fn remember(&mut self, seq: u64) {
        let remembered = self.remembered.make();
        if remembered.len() == MAX_REMEMBERED {
            remembered.pop_front();
        }
        remembered.push_back(seq);
    }

    /// Looks for packets in a range of an acknowledgement that had been declared lost, and learns from them (REC-3).
    /// Returns how many there were. The ranges of one acknowledgement are given the highest first, with one `cursor`.
    pub(super) fn on_acked_range(&mut self, range: &RangeInclusive<u64>, cursor: &mut Cursor) -> u64 {
        let Some(remembered) = self.remembered.get() else {
            return 0;
        };
        // They were lost, and are remembered, in their order.
        let below = |index: &mut usize, limit: u64| {
            *index = remembered.partition_point(|s| *s <= limit).min(*index);
        };
        below(&mut cursor.index, *range.end());
        let to = cursor.index;
        let Some(before) = range.start().checked_sub(1) else {
            cursor.index = 0;
            return self.refute(0..to, cursor);
        };
        below(&mut cursor.index, before);
        if cursor.index == to {
            0
        } else {
            self.refute(cursor.index..to, cursor)
        }
    }

    /// Starts the search for false losses in an acknowledgement whose highest number is `largest`.
    pub(super) fn search(&self, now: Instant, largest: u64, rtt: &Rtt) -> Cursor {
        Cursor {
            index: self.remembered.get().map_or(0, VecDeque::len),
            largest,
            raise_until: now + rtt.smoothed() * RAISED_ROUND_TRIPS,
        }
    }

    fn refute(&mut self, false_losses: Range<usize>, cursor: &Cursor) -> u64 {
        let count = false_losses.len() as u64;
        for seq in self.remembered.make().drain(false_losses) {
            if let Some(reaction) = &mut self.reaction
                && seq >= reaction.first
            {
                reaction.losses = reaction.losses.saturating_sub(1);
            }
            let distance = cursor.largest.saturating_sub(seq).saturating_add(1);
            self.threshold = self.threshold.max(distance.min(MAX_THRESHOLD));
            self.raised_until = cursor.raise_until;
        }
        count
    }

    /// Packets from number `first` on were lost, `losses` of them; `reacted` if congestion control reacted to that.
    pub(super) fn on_congestion(&mut self, first: u64, losses: u64, reacted: bool) {
        match &mut self.reaction {
            _ if reacted => self.reaction = Some(Reaction { first, losses }),
            Some(reaction) => reaction.losses += losses,
            None => {}
        }
    }

    /// Congestion is beyond doubt: the last reaction stands.
    pub(super) fn confirm_congestion(&mut self) {
        self.reaction = None;
    }

    /// Returns whether all losses that caused the last reaction of congestion control turned out to be false. Told
    /// once.
    pub(super) fn take_refuted(&mut self) -> bool {
        self.reaction.take_if(|r| r.losses == 0).is_some()
    }

    /// Forgets losses that are too old to be false.
    pub(super) fn forget_old(&mut self, largest_acked: u64) {
        let horizon = largest_acked.saturating_sub(HORIZON);
        let Some(remembered) = self.remembered.get_mut() else {
            return;
        };
        while remembered.front().is_some_and(|&s| s < horizon) {
            remembered.pop_front();
        }
    }

    /// An ack-eliciting packet was sent.
    pub(super) fn on_eliciting_sent(&mut self, now: Instant) {
        self.probe.last_eliciting = now;
        self.probe.waiting_since.get_or_insert(now);
        self.probe.pending = self.probe.pending.saturating_sub(1);
    }

    /// An acknowledgement of something outstanding came.
    pub(super) fn on_progress(&mut self) {
        self.probe.count = 0;
        self.probe.pending = 0;
        self.probe.waiting_since = None;
    }

    /// Returns when the peer is to be probed, if something ack-eliciting is outstanding.
    pub(super) fn probe_time(&self, rtt: &Rtt, max_ack_delay: Duration) -> Instant {
        let timeout = rtt.probe_timeout(max_ack_delay);
        let backed_off = timeout.saturating_mul(1 << self.probe.count.min(24));
        let silence = match self.probe.count {
            0 => Duration::ZERO,
            _ => self.probe.last_eliciting.since(self.probe.since),
        };
        let wait = backed_off.min(retry_interval(silence).max(timeout));
        // Who sends a little all the time would never probe, and never notice that nobody is there.
        let last = self.probe.last_eliciting;
        let latest = self.probe.waiting_since.map_or(last, |since| since + wait);
        last.min(latest) + wait
    }

    /// Returns whether this host was suspended: its probe timeout is long over, and nobody has seen to it. What came
    /// meanwhile has waited here (REC-1).
    pub(super) fn was_suspended(&self, now: Instant, rtt: &Rtt, max_ack_delay: Duration) -> bool {
        self.probe_time(rtt, max_ack_delay) + SUSPENDED <= now
    }

    /// The probe timeout has expired.
    pub(super) fn on_probe_timeout(&mut self, now: Instant) {
        if self.probe.count == 0 {
            self.probe.since = now;
        }
        self.probe.count = self.probe.count.saturating_add(1);
        self.probe.pending = if self.probe.count > DATA_PROBES { 1 } else { PROBES };
        self.probe.last_eliciting = now;
        self.probe.waiting_since = Some(now);
    }

    /// Expiries of the probe timeout since the last acknowledgement.
    pub(super) fn probe_count(&self) -> u32 {
        self.probe.count
    }

    /// Returns whether the peer does not answer: the second probe timeout in a row has passed.
    pub(super) fn is_silent(&self) -> bool {
        self.probe.count >= SILENT
    }

    /// Returns whether probes repeat data, and are not PING alone (MIG-12).
    pub(super) fn probes_carry_data(&self) -> bool {
        self.probe.count <= DATA_PROBES
    }

    /// ProbeTimeout packets that are to be sent whatever the congestion window says.
    pub(super) fn probes_pending(&self) -> u8 {
        self.probe.pending
    }

    /// Starts the probe timeout anew: only now can the peer be heard.
    pub(super) fn restart(&mut self, now: Instant) {
        self.probe = ProbeTimeout {
            last_eliciting: now,
            ..ProbeTimeout::default()
        };
    }

    /// Gives spare memory back, and forgets nothing.
    pub(super) fn rest(&mut self) {
        self.remembered.rest(VecDeque::is_empty);
        if let Some(remembered) = self.remembered.get_mut() {
            remembered.shrink_to_fit();
        }
    }

    /// Gives memory back that a busy time needed.
    pub(super) fn shrink(&mut self) {
        if let Some(remembered) = self.remembered.get_mut() {
            remembered.truncate(IDLE_REMEMBERED);
            remembered.shrink_to(IDLE_REMEMBERED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn rtt(ms: u64) -> Rtt {
        Rtt::new(Some(Duration::from_millis(ms)))
    }

    fn acked(loss: &mut LossDetector, ms: u64, range: RangeInclusive<u64>, largest: u64) -> u64 {
        let mut cursor = loss.search(at(ms), largest, &rtt(80));
        loss.on_acked_range(&range, &mut cursor)
    }

    #[test]
    fn all_ranges_of_an_acknowledgement_are_searched() {
        let mut loss = LossDetector::new();
        for seq in [0, 3, 7, 8, 9, 20] {
            loss.remember(seq);
        }
        let mut cursor = loss.search(at(0), 30, &rtt(10));
        let found: Vec<_> = [25..=30, 18..=22, 9..=10, 4..=6, 0..=0]
            .iter()
            .map(|range| loss.on_acked_range(range, &mut cursor))
            .collect();
        assert_eq!(found, [0, 1, 1, 0, 1]);
        assert_eq!(loss.remembered.make(), &[3, 7, 8]);
    }

    // spec: REC-3
    #[test]
    fn a_late_packet_raises_both_thresholds() {
        let mut loss = LossDetector::new();
        let rtt = rtt(80);
        assert_eq!(
            (loss.threshold(), loss.time_threshold(at(0), &rtt)),
            (3, Duration::from_millis(90))
        );
        loss.remember(10);
        loss.remember(11);
        loss.remember(20);
        assert_eq!(acked(&mut loss, 0, 12..=19, 25), 0);
        assert_eq!(acked(&mut loss, 1000, 9..=11, 25), 2);
        assert_eq!(loss.threshold(), 16, "distance 15, plus 1");
        assert_eq!(loss.time_threshold(at(1000), &rtt), Duration::from_millis(100));
        assert_eq!(
            loss.time_threshold(at(1000 + 8 * 80 - 1), &rtt),
            Duration::from_millis(100)
        );
        assert_eq!(loss.time_threshold(at(1000 + 8 * 80), &rtt), Duration::from_millis(90));
        assert_eq!(acked(&mut loss, 1000, 9..=11, 25), 0, "each is counted once");
        assert_eq!(acked(&mut loss, 1000, 20..=20, 5000), 1);
        assert_eq!(loss.threshold(), MAX_THRESHOLD);
    }

    #[test]
    fn time_threshold_is_at_least_a_millisecond() {
        let tiny = Rtt::new(Some(Duration::from_micros(100)));
        assert_eq!(
            LossDetector::new().time_threshold(at(0), &tiny),
            Duration::from_millis(1)
        );
    }

    #[test]
    fn a_reaction_is_refuted_when_all_its_losses_were_false() {
        let mut loss = LossDetector::new();
        for seq in [5, 10, 11, 14] {
            loss.remember(seq);
        }
        loss.on_congestion(10, 2, true);
        loss.on_congestion(14, 1, false);
        acked(&mut loss, 0, 5..=5, 20);
        acked(&mut loss, 0, 10..=11, 20);
        assert!(!loss.take_refuted());
        acked(&mut loss, 0, 14..=14, 20);
        assert!(loss.take_refuted());
        assert!(!loss.take_refuted());
    }

    // spec: REC-4, MIG-12
    #[test]
    fn probe_timeout_doubles_up_to_the_pace_of_retries_and_falls_back() {
        let mut loss = LossDetector::new();
        let (rtt, delay) = (rtt(2), Duration::from_millis(25));
        loss.on_eliciting_sent(at(0));
        let timeout = loss.probe_time(&rtt, delay).since(at(0));
        let mut now = at(0);
        for (n, expected) in [1, 2, 4, 8].into_iter().enumerate() {
            let due = loss.probe_time(&rtt, delay);
            assert_eq!(due.since(now), (timeout * expected).min(Duration::from_millis(250)));
            loss.on_probe_timeout(due);
            assert_eq!(loss.probes_pending(), if n < 3 { 2 } else { 1 });
            assert_eq!(loss.probes_carry_data(), n < 3);
            now = due;
        }
        while now < at(1_280_000) {
            now = loss.probe_time(&rtt, delay);
            loss.on_probe_timeout(now);
        }
        let pause = loss.probe_time(&rtt, delay).since(now);
        assert_eq!(pause, Duration::from_secs(10));
        loss.on_eliciting_sent(now);
        assert_eq!(loss.probes_pending(), 0);
        loss.on_progress();
        assert_eq!((loss.probes_pending(), loss.probe_count()), (0, 0));
        assert_eq!(loss.probe_time(&rtt, delay).since(now), timeout);
    }

    // spec: REC-4
    #[test]
    fn a_sender_that_never_rests_probes_all_the_same() {
        let (rtt, delay) = (Rtt::new(Some(Duration::from_millis(20))), Duration::from_millis(25));
        let mut loss = LossDetector::new();
        let timeout = loss.probe_time(&rtt, delay).since(at(0));
        let mut probes = Vec::new();
        for ms in (0..2000).step_by(5) {
            loss.on_eliciting_sent(at(ms));
            if loss.probe_time(&rtt, delay) <= at(ms) {
                loss.on_probe_timeout(at(ms));
                probes.push(at(ms));
            }
        }
        assert!(
            probes[0].since(at(0)) <= 2 * timeout + Duration::from_millis(5),
            "{probes:?}"
        );
        assert!(probes.len() >= 3, "{probes:?}");
    }

    // spec: REC-4
    #[test]
    fn the_probe_timeout_of_a_slow_path_is_never_cut() {
        let mut loss = LossDetector::new();
        let (rtt, delay) = (rtt(4000), Duration::from_millis(25));
        loss.on_eliciting_sent(at(0));
        let timeout = loss.probe_time(&rtt, delay).since(at(0));
        loss.on_probe_timeout(at(0) + timeout);
        assert!(loss.probe_time(&rtt, delay).since(at(0) + timeout) >= timeout);
    }
}
