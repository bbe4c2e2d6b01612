//! Choice of waking few tasks all at once, or two at a time: whichever gets more done.
//!
//! Eight requests that travel together let client and server wait for each other. Two at a time they work at once, for
//! more packets, which pays where each has a core to itself, and costs where they share one, or where others are in
//! flight as well. Nothing here can know which it is, so both ways are tried in turn, and their rates compared.
//!
//! That is for a driver and tasks that share a thread. Where tasks have threads of their own they run beside the driver
//! in any case.

use std::ops::RangeInclusive;
use std::time::Duration;

use sss_proto::Instant;

/// Numbers of tasks to wake that are few.
const FEW: RangeInclusive<usize> = 3..=12;
/// Tasks of a pair.
const PAIR: usize = 2;
/// Time for which one of the ways is looked at.
const WINDOW: Duration = Duration::from_millis(4);
/// Time after which a window tells nothing: the driver has slept in it.
const STALE: Duration = Duration::from_millis(16);
/// Rounds with few tasks without which a window tells nothing.
const ENOUGH: u32 = 16;
/// Windows of which the last is for the way that is not taken; and while it was compared less than so often.
const WINDOWS: u8 = 16;
const EARLY_WINDOWS: u8 = 4;
const EARLY: u8 = 8;
/// Rates, pairs to all at once, in 256ths: above the second pairs are woken, below the first no more.
const GAIN: [u64; 2] = [256, 288];
/// Bounds of what one comparison tells: where something else held up the host in a window, it tells nothing of them.
const SEEN: [u64; 2] = [192, 320];
/// Part that one comparison has in what is known of all, as a power of two.
const WEIGHT: u32 = 2;

/// Comparison of the two ways.
#[derive(Debug)]
pub(super) struct Pairs {
    /// Rate of pairs to that of all at once, smoothed, in 256ths.
    gain: u64,
    /// Set if pairs are the better way so far.
    is_better: bool,
    /// Windows since the last that was for the other way.
    windows: u8,
    /// Comparisons so far, up to [`EARLY`].
    compared: u8,
    /// Calls a second in the window before.
    before: Option<u64>,
    window: Option<Window>,
}

/// Stretch of time in which one way is taken.
#[derive(Debug)]
struct Window {
    began: Instant,
    /// Calls of the application until then.
    calls: u64,
    /// Rounds in which few tasks were woken.
    rounds: u32,
    /// Set if there were many once.
    has_many: bool,
}

impl Window {
    /// Calls a second, until `now`, when the application has made so many calls. `None`: too little happened.
    fn rate(&self, now: Instant, calls: u64) -> Option<u64> {
        let elapsed = now.since(self.began);
        let nanos = u64::try_from(elapsed.as_nanos()).ok().filter(|_| elapsed < STALE)?;
        let made = calls.saturating_sub(self.calls);
        let tells = self.rounds >= ENOUGH && made > 0 && !self.has_many;
        tells.then(|| made.saturating_mul(1_000_000_000) / nanos.max(1))
    }
}

impl Pairs {
    pub(super) fn new() -> Self {
        Self {
            gain: 256,
            is_better: false,
            windows: 0,
            compared: 0,
            before: None,
            window: None,
        }
    }

    /// Takes note of the calls that the application has made until `now`.
    pub(super) fn count(&mut self, now: Instant, calls: u64) {
        let Some(window) = self.window.take_if(|window| now.since(window.began) >= WINDOW) else {
            return;
        };
        let rate = window.rate(now, calls);
        if self.tries_other() {
            self.windows = 0;
            self.compare(rate);
        } else {
            // The window before the trial has to tell something.
            self.windows += u8::from(rate.is_some() || self.windows + 2 < self.cycle());
        }
        self.before = rate;
    }

    /// Number of tasks to wake together, of so many, if they are few and pairs are to be woken.
    pub(super) fn woken(&mut self, now: Instant, calls: u64, waiting: usize) -> Option<usize> {
        if waiting < *FEW.start() {
            return None;
        }
        let is_pair = self.is_better != self.tries_other();
        let window = self.window.get_or_insert(Window {
            began: now,
            calls,
            rounds: 0,
            has_many: false,
        });
        window.rounds += 1;
        window.has_many |= waiting > *FEW.end();
        (is_pair && !window.has_many).then_some(PAIR)
    }

    /// Returns whether this window is for the way that is not taken.
    fn tries_other(&self) -> bool {
        self.windows + 1 == self.cycle()
    }

    /// Windows of which the last is for that way.
    fn cycle(&self) -> u8 {
        if self.compared < EARLY { EARLY_WINDOWS } else { WINDOWS }
    }

    /// Compares the rate of the other way with that of the window before.
    fn compare(&mut self, tried: Option<u64>) {
        let (Some(tried), Some(before)) = (tried, self.before) else {
            return;
        };
        let [pairs, all] = if self.is_better {
            [before, tried]
        } else {
            [tried, before]
        };
        self.compared = EARLY.min(self.compared + 1);
        let [low, high] = SEEN;
        let seen = (pairs.saturating_mul(256) / all.max(1)).clamp(low, high);
        self.gain = self.gain - (self.gain >> WEIGHT) + (seen >> WEIGHT);
        let [least, enough] = GAIN;
        self.is_better = self.gain >= if self.is_better { least } else { enough };
    }
}

#[cfg(test)]
impl Pairs {
    /// Takes pairs to be far better, for some seconds.
    pub(super) fn prefer(&mut self) {
        (self.gain, self.is_better) = (1 << 40, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Application that makes so many calls a millisecond with all at once, and with pairs; a round each 50 us.
    struct Load {
        pairs: Pairs,
        now: u64,
        calls: u64,
    }

    impl Load {
        fn new() -> Self {
            Self {
                pairs: Pairs::new(),
                now: 0,
                calls: 0,
            }
        }

        /// Runs for some milliseconds. Returns the part of the rounds in which pairs were woken, in percent.
        fn run(&mut self, millis: u64, waiting: usize, all: u64, pairs: u64) -> u64 {
            let (rounds, mut with_pairs) = (millis * 20, 0);
            for _ in 0..rounds {
                let now = Instant::from_nanos(self.now);
                self.pairs.count(now, self.calls);
                let is_pair = self.pairs.woken(now, self.calls, waiting).is_some();
                with_pairs += u64::from(is_pair);
                self.calls += if is_pair { pairs } else { all };
                self.now += 50_000;
            }
            with_pairs * 100 / rounds
        }
    }

    #[test]
    fn pairs_are_woken_where_more_gets_done_with_them() {
        let mut load = Load::new();
        load.run(200, 8, 20, 30);
        assert!(load.run(1000, 8, 20, 30) > 90);
        load.run(500, 8, 20, 15);
        assert!(load.run(1000, 8, 20, 15) < 10, "they stop where they cost");
    }

    #[test]
    fn pairs_are_found_in_a_tenth_of_a_second() {
        let mut load = Load::new();
        load.run(100, 8, 20, 30);
        assert!(load.run(100, 8, 20, 30) >= 70);
    }

    #[test]
    fn all_are_woken_where_pairs_gain_little_or_nothing() {
        for pairs in [10, 20, 21] {
            let share = Load::new().run(2000, 8, 20, pairs);
            assert!((2..10).contains(&share), "{pairs}: {share} % are tried");
        }
    }

    #[test]
    fn a_way_is_left_only_for_one_that_is_clearly_better() {
        let mut load = Load::new();
        load.run(1000, 8, 100, 106);
        assert!(
            load.run(1000, 8, 100, 106) < 10,
            "a little more is not enough to begin with"
        );
        load.run(1000, 8, 100, 130);
        load.run(1000, 8, 100, 106);
        assert!(
            load.run(1000, 8, 100, 106) > 90,
            "as long as they are no worse, they stay"
        );
        load.run(1000, 8, 100, 94);
        assert!(load.run(1000, 8, 100, 94) < 10);
    }

    #[test]
    fn one_window_in_which_something_held_up_the_host_decides_nothing() {
        // All at once are better, or pairs are: whichever window of a cycle it is that has next to no calls.
        for (pairs, is_better) in [(18, false), (26, true)] {
            for odd in 1..=u64::from(WINDOWS) {
                let mut load = Load::new();
                load.run(2000, 8, 20, pairs);
                load.run(4 * odd, 8, 20, pairs);
                load.run(4, 8, 1, 1);
                let share = load.run(500, 8, 20, pairs);
                assert_eq!(share > 50, is_better, "{share} % after window {odd}");
                assert!(!(15..=85).contains(&share), "{share} % after window {odd}");
            }
        }
    }

    #[test]
    fn what_few_are_seldom_woken_in_tells_nothing() {
        let mut load = Load::new();
        for _ in 0..2000 {
            // Of the rounds of a window, few are of few tasks; by chance, more gets done in those with pairs.
            assert_eq!(load.run(1, 100, 20, 20), 0);
            let now = Instant::from_nanos(load.now);
            load.pairs.count(now, load.calls);
            assert_eq!(load.pairs.woken(now, load.calls, 8), None);
        }
    }

    #[test]
    fn a_clock_that_stands_still_or_has_no_end_breaks_nothing() {
        for now in [0, 1, u64::MAX - 1, u64::MAX] {
            let (mut pairs, now) = (Pairs::new(), Instant::from_nanos(now));
            for (count, waiting) in (0..1000).zip((0..20).cycle()) {
                let calls = if count % 3 == 0 { u64::MAX } else { count };
                pairs.count(now, calls);
                let woken = pairs.woken(now, calls, waiting);
                assert!(woken.is_none_or(|woken| (1..=waiting).contains(&woken)));
            }
        }
    }

    #[test]
    fn one_and_two_and_many_are_no_matter_of_pairs() {
        for waiting in [0, 1, 2, 13, 100] {
            assert_eq!(Load::new().run(500, waiting, 20, 40), 0, "{waiting}");
        }
    }

    #[test]
    fn few_beside_many_are_no_matter_of_pairs_either() {
        let mut load = Load::new();
        let mut pairs = 0;
        for _ in 0..500 {
            load.run(1, 100, 20, 40);
            pairs += load.run(3, 8, 20, 40);
        }
        assert!(pairs == 0 && !load.pairs.is_better, "{pairs}");
    }

    #[test]
    fn a_driver_that_sleeps_learns_nothing() {
        let mut load = Load::new();
        for _ in 0..1000 {
            load.run(1, 8, 20, 40);
            load.now += 100_000_000;
        }
        assert_eq!(load.pairs.gain, 256);
        assert!(!load.pairs.is_better);
    }
}
