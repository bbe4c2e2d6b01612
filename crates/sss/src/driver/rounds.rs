//! Bounds of a round: how much is fed to the core, and how many tasks are woken, before what comes of it is sent.
//!
//! A client that sends a hundred requests at once, to a server that reads all, answers all, and sends then, takes turns
//! with it: one of the two always waits. In short rounds both work at the same time. Bulk wants long ones, since each
//! has its price. So what is bounded is what the application has to do in a round: the tasks that are woken, and the
//! calls that bytes have it make, by what they were in the rounds before. Where few are woken, [`pairs`] may be better.
//! Cryptography of negotiations is bounded by time, for the same reason.

mod pairs;

use std::time::Duration;

use sss_proto::Instant;

use pairs::Pairs;

/// Tasks that are woken in one round: a quarter of those that are to be, so that a peer answers some while others run;
/// no fewer than pay for the round, and no more than keep a peer busy.
const WOKEN: [usize; 2] = [8, 24];
/// Calls of the application that a round should lead to.
const CALLS: usize = 96;
/// Calls that a request, or its answer, leads to at most: it is accepted or opened, read, written and finished.
const CALLS_OF_ONE: usize = 7;
/// Bytes that may always be fed: two packets.
const MIN_FED: usize = 3000;
/// Bytes that may be fed at most.
const MAX_FED: usize = 512 << 10;
/// Time for the negotiation in one round, while other packets may be arriving.
const NEGOTIATION: Duration = Duration::from_micros(500);
/// Time until an answer of a negotiation ends the round, where tasks run on the driver's thread: what an INITIATE or a
/// COOKIE takes. It is sent before the next is computed, so that both ends compute at the same time.
const ANSWERS: Duration = Duration::from_micros(50);
/// Part that one round has in what is known of all, as a power of two.
const WEIGHT: u32 = 3;

/// Number of tasks to wake in this round, of so many that are to be woken, if pairs are not better.
fn woken(waiting: usize) -> usize {
    let [least, most] = WOKEN;
    (waiting / 4).clamp(least, most)
}

/// Account of bytes that were fed, and of the calls that they led to.
#[derive(Debug)]
pub(super) struct Rounds {
    /// Bytes a call, smoothed, in 256ths.
    bytes_per_call: usize,
    /// Bytes fed since the calls were counted, and in the round before.
    fed: usize,
    fed_before: usize,
    /// Calls counted so far, and when.
    calls: u64,
    counted: Instant,
    /// Time until an answer of a negotiation ends the round.
    answers: Duration,
    /// Only if those who are woken run on the driver's thread.
    pairs: Option<Pairs>,
}

impl Rounds {
    pub(super) fn new() -> Self {
        Self {
            bytes_per_call: MAX_FED / CALLS * 256,
            fed: 0,
            fed_before: 0,
            calls: 0,
            counted: Instant::from_nanos(0),
            answers: NEGOTIATION,
            pairs: None,
        }
    }

    /// The same, for a driver on whose thread those run that are woken, if that is set.
    pub(super) fn on_one_thread(self, is_so: bool) -> Self {
        Self {
            answers: if is_so { ANSWERS } else { NEGOTIATION },
            pairs: is_so.then(Pairs::new),
            ..self
        }
    }

    /// Takes note of all calls that the application has made until `now`.
    pub(super) fn count(&mut self, now: Instant, calls: u64) {
        if let Some(pairs) = &mut self.pairs {
            pairs.count(now, calls);
        }
        self.counted = now;
        let made = usize::try_from(calls.saturating_sub(self.calls)).unwrap_or(usize::MAX);
        self.calls = calls;
        let led_to_them = std::mem::replace(&mut self.fed_before, std::mem::take(&mut self.fed));
        if led_to_them > 0 {
            let seen = (led_to_them * 256 / made.max(1)).min(MAX_FED / CALLS * 256);
            self.bytes_per_call -= self.bytes_per_call >> WEIGHT;
            self.bytes_per_call += seen >> WEIGHT;
        }
    }

    /// Number of tasks to wake in this round, of so many that are to be woken.
    pub(super) fn woken(&mut self, waiting: usize) -> usize {
        let pairs = self.pairs.as_mut();
        let pair = pairs.and_then(|pairs| pairs.woken(self.counted, self.calls, waiting));
        pair.unwrap_or_else(|| woken(waiting))
    }

    /// Bytes that may be fed in this round.
    pub(super) fn limit(&self) -> usize {
        (self.bytes_per_call * CALLS / 256).clamp(MIN_FED, MAX_FED)
    }

    /// Returns whether the round is over after so much time for a negotiation, the last of it for what `is_costly`.
    pub(super) fn is_over(&self, elapsed: Duration, is_costly: bool) -> bool {
        elapsed >= if is_costly { self.answers } else { NEGOTIATION }
    }

    /// Returns whether the bytes fed since the calls were counted lead to no more calls than one request does.
    pub(super) fn is_for_one(&self) -> bool {
        self.fed * 256 <= self.bytes_per_call * CALLS_OF_ONE
    }

    /// Takes note of bytes that were fed.
    pub(super) fn feed(&mut self, bytes: usize) {
        self.fed += bytes;
    }
}

#[cfg(test)]
impl Rounds {
    /// Takes every answer of a negotiation to last longer than a round may.
    pub(super) fn with_slow_negotiation(self) -> Self {
        Self {
            answers: Duration::ZERO,
            ..self
        }
    }

    /// Takes it to be far better that few are woken in pairs, for some seconds.
    pub(super) fn prefer_pairs(&mut self) {
        self.pairs.insert(Pairs::new()).prefer();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_nanos(0);

    /// Limit after many rounds, where so many bytes lead to one call.
    fn settled(bytes_per_call: usize) -> usize {
        let (mut rounds, mut calls) = (Rounds::new(), 0);
        for _ in 0..100 {
            let fed = rounds.limit();
            rounds.feed(fed);
            rounds.count(NOW, calls);
            calls += u64::try_from(fed / bytes_per_call).unwrap();
        }
        rounds.limit()
    }

    #[test]
    fn small_requests_make_rounds_short_and_bulk_makes_them_long() {
        // A request of 110 bytes is accepted, read, answered and finished.
        assert_eq!(settled(25), MIN_FED);
        // An answer of 10 KiB, for which the next request is written.
        let answers = settled(2000);
        assert!((150_000..250_000).contains(&answers), "{answers}");
        // One reader that takes what there is.
        assert!(settled(50_000) > MAX_FED * 9 / 10);
    }

    #[test]
    fn a_request_alone_is_told_from_many() {
        let (mut rounds, mut calls) = (Rounds::new(), 0);
        for _ in 0..100 {
            rounds.feed(130);
            calls += 5;
            rounds.count(NOW, calls);
        }
        rounds.feed(140);
        assert!(rounds.is_for_one());
        rounds.feed(140);
        assert!(!rounds.is_for_one());
    }

    #[test]
    fn a_quarter_is_woken_of_those_who_are_not_few_and_not_many() {
        assert_eq!([0, 8, 32, 60, 96, 1000].map(woken), [8, 8, 8, 15, 24, 24]);
    }

    #[test]
    fn rounds_are_long_before_anything_is_known_and_when_nobody_calls() {
        let mut rounds = Rounds::new();
        assert!(rounds.limit() > MAX_FED * 9 / 10);
        for _ in 0..100 {
            rounds.feed(MAX_FED);
            rounds.count(NOW, 0);
        }
        assert!(rounds.limit() > MAX_FED * 9 / 10);
    }

    #[test]
    fn an_answer_of_a_negotiation_ends_a_round_sooner_where_tasks_run_on_the_same_thread() {
        let is_over = |rounds: Rounds| [true, false].map(|is_costly| rounds.is_over(ANSWERS, is_costly));
        assert_eq!(is_over(Rounds::new().on_one_thread(true)), [true, false]);
        assert_eq!(is_over(Rounds::new().on_one_thread(false)), [false, false]);
        for is_one in [true, false] {
            let rounds = Rounds::new().on_one_thread(is_one);
            assert!(rounds.is_over(NEGOTIATION, true) && rounds.is_over(NEGOTIATION, false));
        }
    }

    #[test]
    fn pairs_change_nothing_where_one_waits_or_many_do() {
        let mut rounds = Rounds::new();
        let mut numbers = |few: usize| {
            for waiting in [3, 8, 12] {
                assert_eq!(rounds.woken(waiting), few, "{waiting}");
            }
            for waiting in [0, 1, 2, 13, 50, 1000] {
                assert_eq!(rounds.woken(waiting), woken(waiting), "{waiting}");
            }
            assert_eq!(rounds.woken(8), 8, "few beside many");
            rounds.prefer_pairs();
        };
        numbers(8);
        numbers(2);
    }
}
