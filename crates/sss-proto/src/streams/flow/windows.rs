//! Receive windows: how far beyond what was consumed the limits are raised (STR-20, STR-46).
//!
//! A window doubles when half of it was consumed within two round trips: then the window, and not the sender or the
//! application, is what bounds the rate. What windows have beyond MIN_WINDOW comes from the budgets of the peer, of the
//! host and of subtrees. Large windows leave a quarter of each for small ones; when that quarter is touched, large
//! windows halve as they are used. When nothing is left, a stream goes on with MIN_WINDOW: slowly, but
//! nobody's unread data stops it.
//!
//! Of the budget of the host, no peer and no network has more than what is still free: dynamic thresholds (Choudhury,
//! Hahne: Dynamic Queue Length Thresholds for Shared-Memory Packet Switches, 1998). So whoever comes next finds half of
//! what was free before.

use std::time::Duration;

use sss_wire::constants::{OPEN_ROOM, STREAM_BORROW};

use super::budget::HostBudget;
use super::gauge::{Gauge, KEPT, Left, MIN_WINDOW, Tuning};
use crate::config::WindowConfig;
use crate::time::{Instant, Span};

/// Bytes beyond MIN_WINDOW of a window of STREAM_BORROW.
const SMALL: u64 = STREAM_BORROW - MIN_WINDOW;
/// Part of the peer's budget that new streams share up to STREAM_BORROW each, and what they share beyond that.
const SMALL_PART: u64 = 4;
const LARGE_PART: u64 = 8;
/// Starts beyond STREAM_BORROW are given while so many of them are left.
const LARGE_LEFT: u64 = 8;

/// The window of a stream that is read rises to so many times its start: to as much as comes in a turn of a busy host
/// on the fastest paths. A stream that has to wait for credit lets those of lower levels go on.
const FIRST_RISE: u64 = 4;

/// State that the windows of all streams of a peer depend on.
#[derive(Debug)]
pub(crate) struct Windows {
    config: WindowConfig,
    /// Bytes that all windows have from the budget.
    spent: u64,
    /// Part of that which new streams have, of which the windows were not raised yet.
    births: Births,
    /// Bytes that large datagrams have from the budget of the host.
    lent: u64,
    /// Bytes of the host's budget that small datagrams have.
    lent_small: u64,
    host: HostBudget,
    pub(crate) rtt: Span,
    pub(crate) now: Instant,
}

/// Bytes beyond MIN_WINDOW that new streams have.
#[derive(Debug, Default)]
struct Births {
    /// Those up to STREAM_BORROW each.
    small: u64,
    /// Those beyond.
    large: u64,
}

impl Births {
    fn add(&mut self, extra: u64) {
        let small = extra.min(SMALL);
        (self.small, self.large) = (self.small + small, self.large + extra - small);
    }

    fn remove(&mut self, extra: u64) {
        let small = extra.min(SMALL);
        (self.small, self.large) = (self.small - small, self.large - (extra - small));
    }
}

impl Windows {
    pub(crate) fn new(config: WindowConfig) -> Self {
        Self {
            config,
            spent: 0,
            births: Births::default(),
            lent: 0,
            lent_small: 0,
            host: HostBudget::default(),
            rtt: Duration::from_millis(100).into(),
            now: Instant::default(),
        }
    }

    /// Takes part in the budget of a host, with what was granted before.
    pub(crate) fn set_host(&mut self, host: HostBudget) {
        host.spend(self.shared());
        let before = std::mem::replace(&mut self.host, host);
        before.give_back(self.shared());
    }

    /// Returns what the peer has from the budget of the host.
    fn shared(&self) -> u64 {
        self.spent + self.lent + self.lent_small
    }

    /// The window of the root.
    pub(crate) fn root(&self) -> Tuning {
        let window = self.config.root.max(STREAM_BORROW);
        Tuning {
            window,
            base: window,
            granted: window,
            granted_at: Instant::default(),
        }
    }

    /// Returns what is left of all budgets, `left` being what those of subtrees have left.
    fn within_all(&self, left: Left) -> Left {
        self.within_host(left.within(self.config.per_peer_budget, self.spent))
    }

    fn within_host(&self, left: Left) -> Left {
        let (all, network) = self.host.spent();
        let free = self.config.per_host_budget.saturating_sub(all);
        left.within(self.config.per_host_budget, all).within(free, network)
    }

    /// The largest window up to `wanted` that the budgets have left for one that is now `present`.
    fn affordable(wanted: u64, present: u64, left: Left) -> u64 {
        for (window, left) in [(wanted, left.large), (wanted.min(STREAM_BORROW), left.small)] {
            if window > present && window - present <= left {
                return window;
            }
        }
        present
    }

    fn at_most(&self, window: u64) -> u64 {
        window.min(self.config.per_stream_max)
    }

    /// The window as it is, but for what the budgets ask. `birth` is what a window that was never raised has from them:
    /// who reads gets a multiple of a start.
    fn present(&self, consumed: u64, tuning: Option<&Tuning>, birth: u64, left: Left) -> u64 {
        match tuning {
            None => {
                let (now, start) = (MIN_WINDOW + birth, self.start());
                let is_read = consumed >= now / 4;
                let first = if is_read {
                    start.max(self.at_most(FIRST_RISE * now))
                } else {
                    start
                };
                Self::affordable(first, now, left)
            }
            Some(t) if t.window < STREAM_BORROW => Self::affordable(STREAM_BORROW, t.window, left),
            Some(t) => t.as_budgets_ask(left),
        }
    }

    /// Returns whether a limit is to be raised: it would rise by half of the window, and half of what was granted is
    /// used, or a quarter of a first window: what comes then fills a path, and the first limit need not.
    pub(crate) fn is_due(&self, gauge: Gauge, tuning: Option<&Tuning>, birth: u64, subtrees: Left) -> bool {
        let enough = tuning.map_or(gauge.limit - gauge.limit / 4, |t| t.granted / 2);
        if gauge.charge + enough < gauge.limit {
            return false;
        }
        let window = self.present(gauge.consumed, tuning, birth, self.within_all(subtrees));
        gauge.consumed + window - window / 2 >= gauge.limit
    }

    /// The window and the limit up to which a stream may go on, if that is beyond its present limit. No window is
    /// remembered for one that has hardly begun.
    pub(crate) fn grant(
        &mut self,
        gauge: Gauge,
        tuning: Option<&Tuning>,
        birth: u64,
        subtrees: Left,
    ) -> Option<(u64, Option<Tuning>)> {
        let first = gauge.consumed + MIN_WINDOW;
        if tuning.is_none() && gauge.charge < MIN_WINDOW / 2 && first > gauge.limit {
            return Some((first, None));
        }
        let left = self.within_all(subtrees);
        let present = self.present(gauge.consumed, tuning, birth, left);
        let window = match tuning {
            Some(t) if t.window == present && self.now.since(t.granted_at) < 2 * self.rtt.get() => {
                Self::affordable(self.at_most(2 * present), present, left)
            }
            _ => present,
        };
        let limit = gauge.consumed.saturating_add(window).min(sss_wire::varint::MAX);
        if limit <= gauge.limit {
            return None;
        }
        let granted = Tuning {
            window,
            base: tuning.map_or(MIN_WINDOW, |t| t.base),
            granted: limit - gauge.consumed,
            granted_at: self.now,
        };
        self.end_birth(birth);
        self.spend(tuning.map_or(birth, Tuning::extra), granted.extra());
        Some((limit, Some(granted)))
    }

    /// The window and the limit of an openings account, of which so much is consumed, if the limit rises by that.
    pub(crate) fn grant_openings(
        &mut self,
        tuning: Option<&Tuning>,
        gauge: Gauge,
        subtrees: Left,
    ) -> Option<(u64, Tuning)> {
        let left = self.within_all(subtrees);
        let window = match tuning {
            None => Self::affordable(STREAM_BORROW, OPEN_ROOM, left),
            Some(t) if self.now.since(t.granted_at) < 2 * self.rtt.get() && left.large > 0 => {
                Self::affordable(self.at_most(2 * t.window).max(t.window), t.window, left)
            }
            // What waits stays, and so does room for the first bytes of what comes next (STR-77).
            Some(t) => {
                let used = gauge.charge - gauge.consumed + OPEN_ROOM.max(t.base / KEPT);
                t.as_budgets_ask(left).max(used.min(t.window))
            }
        };
        let (consumed, limit) = (gauge.consumed, gauge.limit);
        let raised = consumed.saturating_add(window).min(sss_wire::varint::MAX);
        if raised <= limit {
            return None;
        }
        let granted = Tuning {
            window,
            base: tuning.map_or(OPEN_ROOM, |t| t.base),
            granted: raised - consumed,
            granted_at: self.now,
        };
        self.spend(tuning.map_or(0, Tuning::extra), granted.extra());
        Some((raised, granted))
    }

    /// A window of `bytes` for a stream that is accepted, if the budgets have room for it.
    pub(crate) fn cover(&mut self, bytes: u64, subtrees: Left) -> Option<Tuning> {
        let left = self.within_all(subtrees);
        if Self::affordable(bytes, MIN_WINDOW, left) < bytes {
            return None;
        }
        let tuning = Tuning {
            window: bytes,
            base: MIN_WINDOW,
            granted: bytes,
            granted_at: self.now,
        };
        self.spend(0, tuning.extra());
        Some(tuning)
    }

    /// Bytes that a stream of the peer may borrow.
    pub(crate) fn start(&self) -> u64 {
        self.config.borrow()
    }

    /// The window of a new stream (STR-76): MIN_WINDOW, STREAM_BORROW or the largest start. Those of which the window
    /// was not raised yet share a part of the peer's budget, and another for what is beyond STREAM_BORROW.
    pub(crate) fn birth(&self, subtrees: Left) -> u64 {
        let left = self.within_all(subtrees);
        let budget = self.config.per_peer_budget;
        let start = self.start();
        let is_small = self.births.small + SMALL <= budget / SMALL_PART && left.large >= STREAM_BORROW;
        let is_large = self.births.large + start - STREAM_BORROW <= budget / LARGE_PART;
        match is_small {
            true if is_large && left.large / LARGE_LEFT >= start => start,
            true => STREAM_BORROW,
            false => MIN_WINDOW,
        }
    }

    /// A stream was opened with so much from the budgets.
    pub(crate) fn note_birth(&mut self, extra: u64) {
        self.births.add(extra);
        self.spend(0, extra);
    }

    /// A stream has another window now, or none.
    pub(crate) fn end_birth(&mut self, extra: u64) {
        self.births.remove(extra);
    }

    fn spend(&mut self, before: u64, after: u64) {
        self.spent = self.spent + after - before;
        self.host.spend(after);
        self.host.give_back(before);
    }

    /// Gives a large datagram so much of the host's budget, if there is as much left, or no other has any: of each peer
    /// one gets through.
    pub(crate) fn lend(&mut self, bytes: u64) -> bool {
        let is_left = bytes <= self.within_host(Left::UNLIMITED).small;
        let is_lent = is_left || self.lent == 0;
        if is_lent {
            self.lent += bytes;
            self.host.spend(bytes);
        }
        is_lent
    }

    /// A large datagram was taken or discarded.
    pub(crate) fn take_back(&mut self, bytes: u64) {
        self.lent = self.lent.saturating_sub(bytes);
        self.host.give_back(bytes);
    }

    /// Gives a small datagram so much of the host's budget, if there is as much left.
    pub(crate) fn lend_small(&mut self, bytes: u64) -> bool {
        let is_left = bytes <= self.within_host(Left::UNLIMITED).small;
        if is_left {
            self.lent_small += bytes;
            self.host.spend(bytes);
        }
        is_left
    }

    /// A small datagram was taken or discarded.
    pub(crate) fn take_back_small(&mut self, bytes: u64) {
        self.lent_small = self.lent_small.saturating_sub(bytes);
        self.host.give_back(bytes);
    }

    /// A stream is gone, and with it what it had from the budgets.
    pub(crate) fn give_back(&mut self, extra: u64) {
        self.spend(extra, 0);
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        self.host.give_back(self.shared());
    }
}

#[cfg(test)]
impl Windows {
    /// Returns what the windows of this host have from the budgets.
    pub(crate) fn spent(&self) -> u64 {
        self.spent
    }

    pub(crate) fn set_start(&mut self, bytes: u64) {
        self.config.start = bytes;
    }

    pub(crate) fn limit_budget(&mut self, bytes: u64) {
        self.config.per_peer_budget = bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::flow::budget::NetworkBudget;

    fn windows(per_peer: u64, host: &HostBudget, per_host: u64) -> Windows {
        let mut windows = Windows::new(WindowConfig {
            per_stream_max: 1 << 20,
            per_peer_budget: per_peer,
            per_host_budget: per_host,
            root: 1 << 20,
            ..WindowConfig::default()
        });
        windows.set_host(host.of_network(NetworkBudget::default()));
        windows.rtt = Duration::from_millis(10).into();
        windows
    }

    fn alone(budget: u64) -> Windows {
        windows(budget, &HostBudget::default(), u64::MAX)
    }

    /// A direction of a stream without children.
    struct Direction {
        gauge: Gauge,
        tuning: Option<Tuning>,
    }

    impl Direction {
        fn new() -> Self {
            let gauge = Gauge {
                limit: STREAM_BORROW,
                charge: 0,
                consumed: 0,
            };
            Self { gauge, tuning: None }
        }

        fn window(&self) -> u64 {
            self.tuning.as_ref().unwrap().window
        }

        fn room(&self) -> u64 {
            self.gauge.limit - self.gauge.charge
        }

        /// Receives as many bytes as there is room for, `n` at most, and raises the limit if that is due.
        fn receive(&mut self, w: &mut Windows, n: u64, is_read: bool) {
            let n = n.min(self.room());
            self.gauge.charge += n;
            self.gauge.consumed += if is_read { n } else { 0 };
            if w.is_due(self.gauge, self.tuning.as_ref(), 0, Left::UNLIMITED) {
                let granted = w.grant(self.gauge, self.tuning.as_ref(), 0, Left::UNLIMITED);
                let (limit, tuning) = granted.unwrap();
                assert!(limit > self.gauge.limit);
                self.gauge.limit = limit;
                self.tuning = tuning.or(self.tuning);
            }
        }

        /// Receives and reads `n` bytes a millisecond for `ms` milliseconds.
        fn run(&mut self, w: &mut Windows, n: u64, ms: u64) {
            for _ in 0..ms {
                w.now = w.now + Duration::from_millis(1);
                self.receive(w, n, true);
            }
        }

        /// Receives whatever it may, and reads nothing.
        fn fill(&mut self, w: &mut Windows) {
            while self.room() > 0 {
                self.receive(w, 1000, false);
            }
        }

        fn unread(&self) -> u64 {
            self.gauge.charge - self.gauge.consumed
        }
    }

    // spec: STR-20
    #[test]
    fn a_window_grows_with_the_rate() {
        let mut w = alone(64 << 20);
        let mut slow = Direction::new();
        slow.run(&mut w, 1000, 1000);
        assert_eq!(slow.window(), 256 << 10);
        let mut fast = Direction::new();
        fast.run(&mut w, 100_000, 200);
        assert_eq!(fast.window(), 1 << 20);
        assert!(fast.gauge.charge > 100_000 * 150, "{}", fast.gauge.charge);
        assert_eq!(w.spent, (256 << 10) + (1 << 20) - 2 * MIN_WINDOW);
        w.give_back(slow.tuning.unwrap().extra());
        w.give_back(fast.tuning.unwrap().extra());
        assert_eq!((w.spent, w.host.spent().0), (0, 0));
    }

    // spec: STR-20
    #[test]
    fn the_limit_is_raised_before_half_of_the_window_is_left() {
        let mut w = alone(64 << 20);
        let mut direction = Direction::new();
        while direction.gauge.charge < 10 << 20 {
            direction.receive(&mut w, 100, true);
            let granted = direction.tuning.as_ref().map_or(STREAM_BORROW, |t| t.granted);
            assert!(direction.room() >= granted / 2 - 100);
        }
    }

    // spec: STR-46
    #[test]
    fn without_budget_a_window_is_small_and_still_moves() {
        let mut w = alone(0);
        let mut direction = Direction::new();
        direction.run(&mut w, 10_000, 100);
        assert_eq!(direction.window(), MIN_WINDOW);
        assert!(direction.gauge.charge > STREAM_BORROW + 90 * MIN_WINDOW / 2);
        assert_eq!(w.spent, 0);
    }

    #[test]
    fn unread_data_raises_the_limit_once() {
        let mut w = alone(64 << 20);
        let mut direction = Direction::new();
        direction.receive(&mut w, STREAM_BORROW / 2, false);
        assert_eq!(direction.gauge.limit, 256 << 10);
        direction.fill(&mut w);
        assert_eq!(direction.unread(), 256 << 10);
    }

    // spec: STR-46
    #[test]
    fn unread_data_is_bounded_by_the_budgets_whatever_the_peers_do() {
        let host = HostBudget::default();
        let (per_peer, per_host) = (2 << 20, 5 << 20);
        let mut peers: Vec<Windows> = (0..4).map(|_| windows(per_peer, &host, per_host)).collect();
        let mut total = 0;
        for w in &mut peers {
            let mut unread = 0;
            for _ in 0..300 {
                let mut direction = Direction::new();
                // What is borrowed from the parent is out of the way.
                direction.run(w, 10_000, 20);
                assert!(direction.gauge.consumed >= STREAM_BORROW);
                direction.fill(w);
                unread += direction.unread();
            }
            assert!(unread <= per_peer + 300 * MIN_WINDOW, "{unread}");
            assert!(unread >= per_peer / 2);
            total += unread;
        }
        assert!(total <= per_host + 4 * 300 * MIN_WINDOW, "{total}");
        assert!(total > per_host, "{total}");
        // What one peer had is there for others when it goes.
        peers.remove(0);
        assert!(host.spent().0 <= per_host - per_peer / 2);
        drop(peers);
        assert_eq!(host.spent().0, 0);
    }

    // spec: STR-46
    #[test]
    fn large_windows_make_room_for_small_ones_as_they_are_used() {
        let mut w = alone(4 << 20);
        let mut large: Vec<Direction> = (0..6).map(|_| Direction::new()).collect();
        for _ in 0..100 {
            for direction in &mut large {
                direction.run(&mut w, 1 << 20, 1);
            }
        }
        let mut small: Vec<Direction> = (0..20).map(|_| Direction::new()).collect();
        for _ in 0..100 {
            for direction in large.iter_mut().chain(&mut small) {
                direction.run(&mut w, 1 << 20, 1);
            }
        }
        for direction in large.iter().chain(&small) {
            assert!(direction.window() >= STREAM_BORROW, "{}", direction.window());
        }
        assert!(w.spent <= 4 << 20);
    }

    #[test]
    fn a_stream_that_has_hardly_begun_gets_credit_and_no_window() {
        let mut windows = alone(1 << 20);
        let mut grant = |charge| {
            let gauge = Gauge {
                limit: charge,
                charge,
                consumed: charge,
            };
            windows.grant(gauge, None, 0, Left::UNLIMITED).unwrap()
        };
        let begun = MIN_WINDOW / 2;
        assert_eq!(grant(begun - 1).0, begun - 1 + MIN_WINDOW);
        assert!(grant(begun - 1).1.is_none());
        assert!(grant(begun).1.is_some(), "it goes on");
    }
}
