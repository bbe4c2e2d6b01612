//! Validation that the path carries ECN marks both ways (RFC 9000 section 13.4.2; CHN-7).

use sss_wire::frame::EcnCounts;

use crate::io::Ecn;

/// If this many marked packets are lost and none arrives, marks are taken to be the cause.
const TEST_PACKETS: u64 = 10;

/// State of the validation of ECN on the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EcnState {
    /// Packets are marked, and nothing speaks against it yet.
    #[default]
    Testing,
    /// The peer reports marks as they were sent.
    Capable,
    /// The path or the peer loses or changes marks; packets are not marked any more.
    Failed,
}

/// Validation of ECN on the present path.
#[derive(Debug, Default)]
pub(super) struct EcnValidation {
    state: EcnState,
    sent: u64,
    acked: u64,
    lost: u64,
    /// The counts last reported.
    reported: EcnCounts,
}

/// Marks of the packets that an acknowledgement newly acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    /// Packets that had been sent as ECT(0).
    pub(super) newly_acked: u64,
    /// True if the largest acknowledged number rose: only then are the counts in order.
    pub(super) in_order: bool,
}

impl EcnValidation {
    pub(super) fn state(&self) -> EcnState {
        self.state
    }

    /// The mark for packets sent now.
    pub(super) fn mark(&self) -> Ecn {
        if self.state == EcnState::Failed {
            Ecn::NotEct
        } else {
            Ecn::Ect0
        }
    }

    /// Tries anew: the path has changed. The peer's counts go on.
    pub(super) fn restart(&mut self) {
        *self = Self {
            sent: self.sent,
            reported: self.reported,
            ..Self::default()
        };
    }

    /// Counts a packet that was sent as ECT(0).
    pub(super) fn on_sent(&mut self) {
        self.sent += 1;
    }

    /// Counts a packet sent as ECT(0) that was lost.
    pub(super) fn on_lost(&mut self) {
        self.lost += 1;
        if self.acked == 0 && self.lost >= TEST_PACKETS {
            self.state = EcnState::Failed;
        }
    }

    /// Checks the counts of an acknowledgement. Returns whether they report new congestion.
    pub(super) fn on_ack(&mut self, counts: Option<EcnCounts>, marks: Marks) -> bool {
        self.acked += marks.newly_acked;
        if self.state == EcnState::Failed || !marks.in_order {
            return false;
        }
        let Some(counts) = counts else {
            if marks.newly_acked > 0 {
                self.state = EcnState::Failed;
            }
            return false;
        };
        let before = self.reported;
        let rise = |now: u64, before: u64| now.checked_sub(before);
        let (Some(ect0), Some(ect1), Some(ce)) = (
            rise(counts.ect0, before.ect0),
            rise(counts.ect1, before.ect1),
            rise(counts.ce, before.ce),
        ) else {
            self.state = EcnState::Failed;
            return false;
        };
        // Packet 0 travels outside of this count, marked or not.
        let most = self.sent.saturating_add(1);
        let erased = ect0.saturating_add(ce) < marks.newly_acked;
        let invented = ect1 > 0 || counts.ect0.saturating_add(counts.ce) > most;
        if erased || invented {
            self.state = EcnState::Failed;
            return false;
        }
        self.reported = counts;
        if marks.newly_acked > 0 {
            self.state = EcnState::Capable;
        }
        ce > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(ect0: u64, ect1: u64, ce: u64) -> Option<EcnCounts> {
        Some(EcnCounts { ect0, ect1, ce })
    }

    fn acked(newly_acked: u64) -> Marks {
        Marks {
            newly_acked,
            in_order: true,
        }
    }

    fn sent(packets: u64) -> EcnValidation {
        let mut ecn = EcnValidation::default();
        for _ in 0..packets {
            assert_eq!(ecn.mark(), Ecn::Ect0);
            ecn.on_sent();
        }
        ecn
    }

    // spec: CHN-7
    #[test]
    fn good_counts_validate_and_ce_is_congestion() {
        let mut ecn = sent(10);
        assert!(!ecn.on_ack(counts(4, 0, 0), acked(4)));
        assert_eq!(ecn.state(), EcnState::Capable);
        assert!(ecn.on_ack(counts(5, 0, 1), acked(2)));
        assert!(!ecn.on_ack(counts(7, 0, 1), acked(2)));
        assert_eq!(ecn.mark(), Ecn::Ect0);
    }

    // spec: CHN-7
    #[test]
    fn missing_erased_changed_and_invented_marks_fail() {
        for (report, newly_acked) in [
            (None, 1),
            (counts(1, 0, 0), 2),
            (counts(0, 2, 0), 2),
            (counts(12, 0, 0), 2),
            (counts(1, 1, 0), 1),
        ] {
            let mut ecn = sent(10);
            assert!(!ecn.on_ack(report, acked(newly_acked)));
            assert_eq!((ecn.state(), ecn.mark()), (EcnState::Failed, Ecn::NotEct), "{report:?}");
        }
        let mut ecn = sent(10);
        ecn.on_ack(counts(4, 0, 0), acked(4));
        ecn.on_ack(counts(3, 0, 9), acked(2));
        assert_eq!(ecn.state(), EcnState::Failed, "counts never fall");
    }

    #[test]
    fn reports_out_of_order_are_not_judged() {
        let mut ecn = sent(10);
        ecn.on_ack(counts(4, 0, 0), acked(4));
        let late = Marks {
            newly_acked: 1,
            in_order: false,
        };
        assert!(!ecn.on_ack(counts(2, 0, 0), late));
        assert_eq!(ecn.state(), EcnState::Capable);
    }

    #[test]
    fn a_path_that_drops_marked_packets_is_found_out() {
        let mut ecn = sent(10);
        for _ in 0..9 {
            ecn.on_lost();
        }
        assert_eq!(ecn.state(), EcnState::Testing);
        ecn.on_lost();
        assert_eq!(ecn.state(), EcnState::Failed);
    }
}
