//! Receive windows: how far beyond what was consumed the limits are raised (STR-20).
//!
//! A window doubles when half of it was consumed within two round trips: then the window, and not the sender or the
//! application, is what bounds the rate. All growth of a peer's windows beyond STREAM_BORROW comes from one budget; when it
//! is used up, windows stay at STREAM_BORROW.

use std::time::Duration;

use sss_wire::constants::STREAM_BORROW;

use super::credit::RecvCredit;
use crate::config::WindowConfig;
use crate::io::Instant;

/// The window of one stream.
#[derive(Debug)]
pub(super) struct Tuning {
    pub(super) window: u64,
    /// How far the limit was above what was consumed when it was raised last.
    granted: u64,
    granted_at: Instant,
}

/// What the windows of all streams of a peer depend on.
#[derive(Debug)]
pub(super) struct Windows {
    config: WindowConfig,
    /// What all windows have beyond STREAM_BORROW.
    spent: u64,
    pub(super) rtt: Duration,
    pub(super) now: Instant,
}

impl Windows {
    pub(super) fn new(config: WindowConfig) -> Self {
        Self {
            config,
            spent: 0,
            rtt: Duration::from_millis(100),
            now: Instant::default(),
        }
    }

    /// The credit of the root.
    pub(super) fn root(&self) -> RecvCredit {
        let window = self.config.root.max(STREAM_BORROW);
        let mut credit = RecvCredit::new(window);
        credit.tuning = Some(Box::new(Tuning {
            window,
            granted: window,
            granted_at: Instant::default(),
        }));
        credit
    }

    /// The largest window up to `wanted` that the budget has left for one that is now `present`.
    fn affordable(&self, wanted: u64, present: u64) -> u64 {
        let left = self.config.per_peer_budget.saturating_sub(self.spent);
        if wanted.saturating_sub(present) <= left {
            wanted
        } else {
            present
        }
    }

    /// Whether a limit is to be raised: it would rise by half of the window, and half of what was granted is used.
    pub(super) fn is_due(&self, credit: &RecvCredit) -> bool {
        let granted = credit.tuning.as_ref().map_or(STREAM_BORROW, |t| t.granted);
        if credit.charge + granted / 2 < credit.limit {
            return false;
        }
        let window = credit.tuning.as_ref().map_or_else(|| self.first_window(), |t| t.window);
        credit.consumed + window - window / 2 >= credit.limit
    }

    fn first_window(&self) -> u64 {
        self.affordable(self.config.per_stream_initial.max(STREAM_BORROW), STREAM_BORROW)
    }

    /// Raises a limit to what was consumed and the window. Returns whether that was a rise.
    pub(super) fn grant(&mut self, credit: &mut RecvCredit) -> bool {
        let (before, window) = match &credit.tuning {
            None => (STREAM_BORROW, self.first_window()),
            Some(t) if self.now.since(t.granted_at) < 2 * self.rtt => {
                let wanted = (2 * t.window).min(self.config.per_stream_max).max(t.window);
                (t.window, self.affordable(wanted, t.window))
            }
            Some(t) => (t.window, t.window),
        };
        let limit = credit.consumed.saturating_add(window).min(sss_wire::varint::MAX);
        if limit <= credit.limit {
            return false;
        }
        self.spent += window - before;
        credit.limit = limit;
        let tuning = Tuning {
            window,
            granted: limit - credit.consumed,
            granted_at: self.now,
        };
        match &mut credit.tuning {
            Some(t) => **t = tuning,
            none => *none = Some(Box::new(tuning)),
        }
        true
    }

    /// A stream is gone, and its window with it.
    pub(super) fn give_back(&mut self, credit: &RecvCredit) {
        if let Some(t) = &credit.tuning {
            self.spent = self.spent.saturating_sub(t.window - STREAM_BORROW);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(budget: u64) -> Windows {
        let mut windows = Windows::new(WindowConfig {
            per_stream_initial: 256 << 10,
            per_stream_max: 1 << 20,
            per_peer_budget: budget,
            root: 1 << 20,
            ..WindowConfig::default()
        });
        windows.rtt = Duration::from_millis(10);
        windows
    }

    /// Receives and reads `n` bytes a millisecond for `ms` milliseconds.
    fn run(w: &mut Windows, credit: &mut RecvCredit, n: u64, ms: u64) {
        for _ in 0..ms {
            w.now = w.now + Duration::from_millis(1);
            let n = n.min(credit.room());
            credit.charge += n;
            credit.consumed += n;
            if w.is_due(credit) {
                assert!(w.grant(credit));
            }
        }
    }

    // spec: STR-20
    #[test]
    fn a_window_grows_with_the_rate() {
        let mut w = windows(64 << 20);
        let mut slow = RecvCredit::new(STREAM_BORROW);
        run(&mut w, &mut slow, 1000, 1000);
        assert_eq!(slow.tuning.as_ref().unwrap().window, 256 << 10);
        let mut fast = RecvCredit::new(STREAM_BORROW);
        run(&mut w, &mut fast, 100_000, 200);
        assert_eq!(fast.tuning.as_ref().unwrap().window, 1 << 20);
        assert!(fast.charge > 100_000 * 150, "{}", fast.charge);
        let spent = (256 << 10) + (1 << 20) - 2 * STREAM_BORROW;
        assert_eq!(w.spent, spent);
        w.give_back(&slow);
        w.give_back(&fast);
        assert_eq!(w.spent, 0);
    }

    // spec: STR-20
    #[test]
    fn the_limit_is_raised_before_half_of_the_window_is_left() {
        let mut w = windows(64 << 20);
        let mut credit = RecvCredit::new(STREAM_BORROW);
        while credit.charge < 10 << 20 {
            credit.charge += 100;
            credit.consumed += 100;
            if w.is_due(&credit) {
                assert!(w.grant(&mut credit));
            }
            let granted = credit.tuning.as_ref().map_or(STREAM_BORROW, |t| t.granted);
            assert!(credit.room() >= granted / 2 - 100);
        }
    }

    #[test]
    fn without_budget_a_window_is_small_and_still_moves() {
        let mut w = windows(0);
        let mut credit = RecvCredit::new(STREAM_BORROW);
        run(&mut w, &mut credit, 10_000, 100);
        assert_eq!(credit.tuning.as_ref().unwrap().window, STREAM_BORROW);
        assert_eq!(credit.charge, 1_000_000);
    }

    #[test]
    fn unread_data_raises_the_limit_once() {
        let mut w = windows(64 << 20);
        let mut credit = RecvCredit::new(STREAM_BORROW);
        credit.charge = STREAM_BORROW / 2;
        assert!(w.is_due(&credit) && w.grant(&mut credit));
        assert_eq!(credit.limit, 256 << 10);
        credit.charge = credit.limit;
        assert!(!w.is_due(&credit));
    }
}
