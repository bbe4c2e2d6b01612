use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::channel::congestion::SignalKind;

const DATAGRAM: u16 = 1000;
const RTT: Duration = Duration::from_millis(100);

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn lost(sent: Instant) -> Signal {
    Signal {
        sent,
        seq: 0,
        rtt: RTT,
        kind: SignalKind::Loss(1),
    }
}

/// A sender that always fills its window, over a path of constant round-trip time.
struct Sender {
    cubic: Cubic,
    now_ms: u64,
    next: u64,
    /// For single acknowledgements.
    now_us: u64,
    acked: u64,
    least: Option<Duration>,
}

impl Sender {
    fn new() -> Self {
        Self {
            cubic: Cubic::new(DATAGRAM),
            now_ms: 0,
            next: 0,
            now_us: 0,
            acked: 0,
            least: None,
        }
    }

    /// One round trip: a window of packets is sent, and acknowledged after `rtt_ms`.
    fn round(&mut self, rtt_ms: u64) {
        let window = self.cubic.window();
        let sent = at(self.now_ms);
        let packets = window / u64::from(DATAGRAM);
        self.now_ms += rtt_ms;
        let first = self.next;
        self.next += packets;
        for n in 0..packets {
            self.cubic.on_acked(&AckSample {
                now: at(self.now_ms),
                bytes: u64::from(DATAGRAM),
                largest: first + n,
                next: self.next,
                largest_sent: sent,
                // What is acknowledged is replaced at once.
                in_flight: self.cubic.window(),
                remaining: self.cubic.window(),
                oldest: first + n + 1,
                smoothed: Duration::from_millis(rtt_ms),
                latest: Some(Duration::from_millis(rtt_ms)),
                least: None,
            });
        }
    }

    fn lose(&mut self) {
        self.now_ms += 1;
        self.cubic.on_congestion(at(self.now_ms), &lost(at(self.now_ms)));
        self.now_ms += 1;
    }
}

// spec: REC-6
#[test]
fn initial_window_is_ten_datagrams_within_limits() {
    assert_eq!(Cubic::new(1232).window(), 12_320);
    assert_eq!(Cubic::new(1472).window(), 14_720);
    assert_eq!(Cubic::new(8952).window(), 17_904);
    let mut cubic = Cubic::new(1232);
    cubic.set_datagram(65_507);
    assert_eq!(cubic.window(), 131_014);
}

// spec: REC-6
#[test]
fn slow_start_doubles_each_round_trip() {
    let mut sender = Sender::new();
    for doubling in 1..6 {
        sender.round(100);
        assert_eq!(sender.cubic.window(), 10_000 << doubling);
    }
    assert!(sender.cubic.in_slow_start());
}

// spec: REC-6
#[test]
fn congestion_takes_three_tenths_off_once_per_round_trip() {
    let mut cubic = Cubic::new(DATAGRAM);
    cubic.window = 100_000;
    cubic.on_congestion(at(10), &lost(at(5)));
    assert_eq!((cubic.window(), cubic.in_slow_start()), (70_000, false));
    cubic.on_congestion(at(11), &lost(at(10)));
    assert_eq!(cubic.window(), 70_000, "sent before the reaction");
    cubic.on_congestion(at(30), &lost(at(11)));
    assert_eq!(cubic.window(), 49_000);
    // Fast convergence: 70,000 was below the maximum of 100,000.
    assert!((cubic.curve.max - 70_000.0 * 0.85).abs() < 1.0);
    for n in 0..20 {
        cubic.on_congestion(at(100 + 2 * n + 1), &lost(at(100 + 2 * n)));
    }
    assert_eq!(cubic.window(), 2000);
}

// spec: REC-6
#[test]
fn the_curve_is_that_of_rfc_9438() {
    // 1000 segments lost at: K = cbrt(1000 * 0.3 / 0.4) = cbrt(750) s = 9.0856 s.
    let mut curve = Curve {
        max: 1e6,
        ..Curve::default()
    };
    curve.begin(at(0), 0.7e6, 1000.0);
    assert!((curve.k - 9.0856).abs() < 1e-3);
    assert!((curve.at(0.0, 1000.0) - 0.7e6).abs() < 1.0);
    assert!((curve.at(curve.k, 1000.0) - 1e6).abs() < 1e-6);
    // W(5) = 0.4 (5 - 9.0856)^3 + 1000 = 972.72 segments; W(15) = 0.4 (5.9144)^3 + 1000 = 1082.75.
    assert!((curve.at(5.0, 1000.0) - 972_721.0).abs() < 10.0);
    assert!((curve.at(15.0, 1000.0) - 1_082_753.0).abs() < 10.0);
}

// spec: REC-6
#[test]
fn a_full_window_follows_the_curve() {
    let mut sender = Sender::new();
    sender.cubic.window = 1_000_000;
    sender.lose();
    assert_eq!(sender.cubic.window(), 700_000);
    let start = sender.now_ms;
    // The stage begins with the first acknowledgement after the loss.
    while sender.now_ms < start + 5000 {
        sender.round(100);
    }
    let mut expected = Curve {
        max: 1e6,
        ..Curve::default()
    };
    expected.begin(at(start + 100), 0.7e6, 1000.0);
    let t = (sender.now_ms - start - 100) as f64 / 1000.0;
    let (low, high) = (expected.at(t, 1000.0), expected.at(t + 0.1, 1000.0));
    let window = sender.cubic.window() as f64;
    assert!(window > low * 0.99 && window < high * 1.01, "{low} {window} {high}");
}

// spec: REC-6
#[test]
fn short_round_trips_grow_like_reno() {
    let mut sender = Sender::new();
    sender.cubic.window = 20_000;
    sender.lose();
    let before = sender.cubic.window();
    for _ in 0..10 {
        sender.round(1);
    }
    // 10 round trips at 3 * 0.3 / 1.7 = 0.53 segments each; the cubic curve has hardly moved in 10 ms.
    let grown = (sender.cubic.window() - before) as f64 / 1000.0;
    assert!((grown - 5.3).abs() < 0.6, "{grown}");
}

// spec: REC-8
#[test]
fn an_unused_window_does_not_grow() {
    let mut cubic = Cubic::new(DATAGRAM);
    for n in 0..1000 {
        cubic.on_acked(&AckSample {
            now: at(n * 100),
            bytes: 1000,
            largest: n,
            next: n + 1,
            largest_sent: at(n * 100 - n.min(1)),
            in_flight: 1000,
            remaining: 0,
            oldest: 0,
            smoothed: RTT,
            latest: Some(RTT),
            least: None,
        });
    }
    assert_eq!(cubic.window(), 10_000);
    let mut sender = Sender::new();
    sender.cubic.window = 100_000;
    sender.lose();
    let before = sender.cubic.window();
    for n in 0..1000 {
        sender.cubic.on_acked(&AckSample {
            now: at(1000 + n * 100),
            bytes: 1000,
            largest: n,
            next: n + 1,
            largest_sent: at(1000 + n * 100 - 1),
            in_flight: 1000,
            remaining: 0,
            oldest: 0,
            smoothed: RTT,
            latest: Some(RTT),
            least: None,
        });
    }
    assert_eq!(sender.cubic.window(), before);
}

impl Sender {
    /// One packet more is acknowledged, so many microseconds after the one before, and after so long a round trip.
    fn acked(&mut self, gap_us: u64, rtt_us: u64) {
        self.now_us += gap_us;
        let now = Instant::from_nanos(self.now_us * 1000);
        let (rtt, window) = (Duration::from_micros(rtt_us), self.cubic.window());
        let largest = self.acked;
        self.acked += 1;
        self.next = self.next.max(self.acked + window / u64::from(DATAGRAM));
        self.cubic.on_acked(&AckSample {
            now,
            bytes: u64::from(DATAGRAM),
            largest,
            next: self.next,
            largest_sent: Instant::from_nanos((self.now_us - rtt_us) * 1000),
            in_flight: window,
            remaining: window,
            oldest: largest + 1,
            smoothed: rtt,
            latest: Some(rtt),
            least: self.least,
        });
    }

    /// Slow start over a path of 100 ms, 500 packets a second of which have been acknowledged without a queue.
    fn started() -> Self {
        let mut sender = Self::new();
        sender.now_us = 1_000_000;
        for _ in 0..50 {
            sender.acked(2000, 100_000);
        }
        assert_eq!(sender.cubic.window(), 60_000);
        sender
    }

    /// The path carries 500 packets a second, and the queue before it grows by half a millisecond with each.
    fn fill(&mut self) {
        for n in 0..60 {
            self.acked(2000, 100_000 + 500 * n);
            if self.cubic.window() < 60_000 || !self.cubic.in_slow_start() {
                return;
            }
        }
        panic!("slow start goes on at {}", self.cubic.window());
    }
}

/// Bytes that `Sender::started`'s path holds, with the queue with which slow start ends.
fn holds(window: u64) -> bool {
    (60_000..72_000).contains(&window)
}

// spec: REC-6
#[test]
fn slow_start_ends_at_what_the_path_holds() {
    let mut sender = Sender::started();
    sender.fill();
    assert!(holds(sender.cubic.window()), "{}", sender.cubic.window());
    // What is in flight beyond that may be lost: once is enough.
    let now = Instant::from_nanos(sender.now_us * 1000);
    let (window, sent) = (sender.cubic.window(), Instant::from_nanos((sender.now_us - 1) * 1000));
    assert!(!sender.cubic.on_congestion(now, &lost(sent)));
    assert_eq!(sender.cubic.window(), window);
    // No more arrives than the path carries: it is over.
    for _ in 0..1000 {
        sender.acked(2000, 110_000);
        assert!(!sender.cubic.in_slow_start());
    }
}

// spec: REC-6
#[test]
fn slow_start_goes_on_where_more_arrives_than_was_thought() {
    let mut sender = Sender::started();
    sender.fill();
    let end = sender.cubic.window();
    for _ in 0..300 {
        sender.acked(1600, 102_000);
    }
    assert!(sender.cubic.in_slow_start() && sender.cubic.window() > 2 * end);
}

// spec: REC-6
#[test]
fn what_was_lost_after_the_end_of_slow_start_does_not_begin_it_again() {
    let mut sender = Sender::started();
    sender.fill();
    let now = Instant::from_nanos(sender.now_us * 1000);
    sender.cubic.on_congestion(now, &lost(now));
    for _ in 0..300 {
        sender.acked(1600, 102_000);
    }
    assert!(!sender.cubic.in_slow_start());
}

// spec: REC-6
#[test]
fn what_a_host_takes_in_at_once_ends_no_slow_start() {
    // All in a moment, or each a moment later.
    for gap in [0, 100] {
        let mut sender = Sender::started();
        for round in 1..4 {
            // It did not look for 20 ms.
            for n in 0..30 {
                sender.acked(if n == 0 { 20_000 } else { gap }, 120_000);
            }
            sender.acked(2000, 100_000);
            assert!(sender.cubic.in_slow_start(), "{gap}");
            assert_eq!(sender.cubic.window(), 60_000 + round * 31_000);
        }
    }
    // Nor is it taken for the rate of the path.
    let mut sender = Sender::started();
    for n in 0..30 {
        sender.acked(if n == 0 { 20_000 } else { 100 }, 120_000);
    }
    sender.acked(2000, 100_000);
    sender.fill();
    assert!(holds(sender.cubic.window()), "{}", sender.cubic.window());
}

// spec: REC-6
#[test]
fn round_trips_that_vary_end_no_slow_start() {
    for seed in 0..20 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut sender = Sender::new();
        sender.now_us = 1_000_000;
        for n in 0..2000 {
            sender.acked(2000, rng.random_range(100_000..120_000));
            assert!(sender.cubic.in_slow_start(), "seed {seed}, {n}");
        }
    }
}

// spec: STR-35
#[test]
fn what_a_round_trip_adds_to_the_queue_is_told() {
    let mut sender = Sender::new();
    assert!((sender.cubic.growth() - 0.4).abs() < 1e-9);
    sender.cubic.window = 200_000;
    sender.cubic.threshold = 200_000;
    sender.round(100);
    let before = sender.cubic.window();
    sender.round(100);
    let grown = (sender.cubic.window() - before) as f64 / before as f64;
    assert!(sender.cubic.growth() >= grown, "{grown}");
}

// spec: STR-35
#[test]
fn what_the_curve_adds_is_told_where_it_is_more() {
    let mut sender = Sender::new();
    sender.cubic.window = 100_000;
    sender.lose();
    sender.now_us = 1000 * sender.now_ms + 200_000;
    let mut by_curve = 0;
    for round in 0..200 {
        let (told, before) = (sender.cubic.growth(), sender.cubic.window());
        let packets = before / u64::from(DATAGRAM);
        for _ in 0..packets {
            sender.acked(100_000 / packets, 100_000);
        }
        let grown = (sender.cubic.window() - before) as f64 / before as f64;
        // What is acknowledged within a round trip lets it grow a little more.
        assert!(round == 0 || 1.05 * told >= grown, "{round}: {grown}, {told}");
        by_curve += u32::from(grown > careful_growth(DATAGRAM, before));
    }
    assert!(by_curve > 5, "{by_curve}");
}

// spec: STR-35
#[test]
fn a_window_that_is_recovering_may_come_back_at_once() {
    let mut sender = Sender::new();
    sender.cubic.window = 100_000;
    sender.round(100);
    assert!(sender.cubic.growth() < 0.5);
    let sent = at(sender.now_ms);
    sender.lose();
    assert!(sender.cubic.growth().is_infinite());
    // Until something is acknowledged that was sent since.
    sender.cubic.on_acked(&AckSample {
        now: at(sender.now_ms),
        bytes: 1000,
        largest: 0,
        next: sender.next,
        largest_sent: sent,
        in_flight: 50_000,
        remaining: 50_000,
        oldest: 1,
        smoothed: RTT,
        latest: Some(RTT),
        least: None,
    });
    assert!(sender.cubic.growth().is_infinite());
    sender.round(100);
    assert!(sender.cubic.growth() < 0.5);
    sender.lose();
    sender.cubic.on_false_congestion();
    assert!(sender.cubic.growth() < 0.5, "nothing was lost");
}

// spec: REC-14
#[test]
fn slow_start_does_not_end_with_less_than_it_has_doubled_from() {
    let mut sender = Sender::started();
    // A tenth of the rate at which the window has grown: it was held up elsewhere.
    for n in 0..20 {
        sender.acked(20_000, 130_000 + 18_000 * n);
        assert!(sender.cubic.in_slow_start(), "{n}: {}", sender.cubic.window());
    }
    assert_eq!(sender.cubic.window(), 80_000);
}

impl Sender {
    /// Slow start over a path of 100 ms, whose first packets left at once, and arrive so many microseconds apart.
    fn after_train(gap_us: u64) -> Self {
        let mut sender = Self::new();
        sender.least = Some(RTT);
        sender.now_us = 1_000_000;
        for n in 0..10 {
            sender.acked(gap_us, 100_000 + gap_us * n);
        }
        sender
    }

    /// Packets are acknowledged at this distance, without a queue, until slow start ends.
    fn grow(&mut self, gap_us: u64) -> u64 {
        while self.cubic.in_slow_start() {
            assert!(self.cubic.window() < 1_000_000);
            self.acked(gap_us, 100_000);
        }
        self.cubic.window()
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.now_us * 1000)
    }
}

// spec: REC-18
#[test]
fn slow_start_ends_at_what_the_path_holds_at_the_rate_of_a_train() {
    let mut sender = Sender::after_train(1000);
    while sender.cubic.window() < 60_000 {
        assert!(sender.cubic.is_to_double());
        sender.acked(1000, 100_000);
    }
    assert!(!sender.cubic.is_to_double());
    assert_eq!(sender.grow(1000), 120_000);
    // What is beyond that in flight waits: no more arrives.
    for _ in 0..10_000 {
        sender.acked(1000, 120_000);
        assert!(!sender.cubic.in_slow_start());
    }
}

// spec: REC-18
#[test]
fn a_train_that_was_held_up_ends_no_slow_start_for_good() {
    // Others' packets were between its own: the path carries four times as much.
    for busy in [0, 2000] {
        let mut sender = Sender::after_train(2000);
        assert_eq!(sender.grow(2000), 60_000);
        // For so many more packets others fill the path.
        for _ in 0..busy {
            sender.acked(2000, 120_000);
        }
        let window = sender.cubic.window();
        for _ in 0..2000 {
            sender.acked(500, 100_000);
        }
        assert!(sender.cubic.in_slow_start(), "{busy}");
        assert!(sender.cubic.window() > 4 * window, "{busy}");
    }
}

// spec: REC-18
#[test]
fn trains_count_until_slow_start_has_ended_once() {
    let mut sender = Sender::after_train(2000);
    sender.grow(2000);
    for _ in 0..400 {
        sender.acked(500, 100_000);
    }
    for n in 0..10 {
        sender.acked(2000, 100_000 + 2000 * n);
    }
    assert_eq!(sender.cubic.threshold, u64::MAX);
}

// spec: REC-18
#[test]
fn what_is_lost_of_the_first_packets_does_not_end_slow_start_below_what_the_path_holds() {
    let mut sender = Sender::after_train(1000);
    assert_eq!(sender.cubic.window(), 20_000);
    let now = sender.now();
    assert!(sender.cubic.on_congestion(now, &lost(now)));
    assert_eq!((sender.cubic.window(), sender.cubic.threshold), (14_000, 100_000));
    // Only once.
    sender.acked(1000, 100_000);
    let now = sender.now();
    assert!(sender.cubic.on_congestion(now, &lost(now)));
    assert!(!sender.cubic.in_slow_start());
}

// spec: REC-18
#[test]
fn what_is_lost_later_ends_slow_start_at_no_more_than_the_window() {
    // A path that lets the first packets pass faster than others carries less than they tell.
    let mut sender = Sender::after_train(100);
    while sender.cubic.window() < 100_000 {
        sender.acked(500, 100_000);
    }
    let now = sender.now();
    assert!(sender.cubic.on_congestion(now, &lost(now)));
    assert_eq!((sender.cubic.window(), sender.cubic.threshold), (70_000, 70_000));
    // Just after it has ended, the queue was shorter than what it ended with.
    let mut sender = Sender::after_train(1000);
    sender.grow(1000);
    let now = sender.now();
    assert!(sender.cubic.on_congestion(now, &lost(now)));
    assert_eq!((sender.cubic.window(), sender.cubic.threshold), (84_000, 100_000));
    // A few round trips later, the path is not known so well.
    let mut sender = Sender::after_train(1000);
    sender.grow(1000);
    for _ in 0..1000 {
        sender.acked(1000, 120_000);
    }
    let now = sender.now();
    assert!(sender.cubic.on_congestion(now, &lost(now)));
    assert!(!sender.cubic.in_slow_start());
}

// spec: REC-18
#[test]
fn trains_say_nothing_after_the_first_congestion() {
    let mut sender = Sender::after_train(1000);
    let now = sender.now();
    assert!(sender.cubic.on_congestion(now, &lost(now)));
    assert_eq!((sender.cubic.window(), sender.cubic.threshold), (14_000, 100_000));
    // The next train left after that.
    sender.now_us += 200_000;
    for n in 0..10 {
        sender.acked(10, 100_000 + 10 * n);
    }
    assert_eq!(sender.cubic.threshold, 100_000);
    let now = sender.now();
    assert!(sender.cubic.on_congestion(now, &lost(now)));
    assert!(!sender.cubic.in_slow_start());
}

// spec: REC-14, REC-18
#[test]
fn trains_say_nothing_once_a_queue_has_ended_slow_start() {
    let mut sender = Sender::started();
    sender.fill();
    for _ in 0..300 {
        sender.acked(1600, 102_000);
    }
    assert_eq!(sender.cubic.threshold, u64::MAX, "more arrives than was thought");
    sender.least = Some(RTT);
    for n in 0..10 {
        sender.acked(2000, 100_000 + 2000 * n);
    }
    assert_eq!(sender.cubic.threshold, u64::MAX);
}

// spec: REC-18
#[test]
fn trains_after_persistent_congestion_say_nothing() {
    for gap_us in [1, 3000] {
        let mut sender = Sender::started();
        let now = sender.now();
        assert!(sender.cubic.on_congestion(now, &lost(now)));
        sender.cubic.on_persistent_congestion();
        let threshold = sender.cubic.threshold;
        assert_eq!(threshold, 42_000);
        sender.least = Some(RTT);
        sender.now_us += 100_000;
        for n in 0..10 {
            sender.acked(gap_us, 100_000 + gap_us * n);
        }
        assert_eq!(sender.cubic.threshold, threshold, "{gap_us} us");
    }
}

// spec: REC-16, REC-18
#[test]
fn a_rate_that_was_known_counts_more_than_a_train() {
    let mut sender = Sender::new();
    sender.cubic.expect(500_000.0, RTT);
    let mut trained = Sender::after_train(1000);
    trained.cubic.expect(500_000.0, RTT);
    assert_eq!((sender.cubic.threshold, trained.cubic.threshold), (60_000, 60_000));
    assert_eq!(trained.grow(1000), 60_000);
    // Nor does it say then what the path holds.
    let mut trained = Sender::after_train(1000);
    trained.cubic.expect(500_000.0, RTT);
    let now = trained.now();
    assert!(trained.cubic.on_congestion(now, &lost(now)));
    assert_eq!((trained.cubic.window(), trained.cubic.threshold), (14_000, 14_000));
}

// spec: REC-6
#[test]
fn persistent_congestion_starts_over() {
    let mut cubic = Cubic::new(DATAGRAM);
    cubic.window = 100_000;
    cubic.on_congestion(at(10), &lost(at(5)));
    cubic.on_persistent_congestion();
    assert_eq!(cubic.window(), 2000);
    assert!(cubic.in_slow_start());
}

#[test]
fn a_reaction_to_no_congestion_is_taken_back() {
    let mut cubic = Cubic::new(DATAGRAM);
    cubic.window = 100_000;
    assert!(cubic.on_congestion(at(10), &lost(at(5))));
    assert!(!cubic.on_congestion(at(11), &lost(at(6))));
    cubic.on_false_congestion();
    assert_eq!(cubic.window(), 100_000);
    assert!(cubic.in_slow_start());
    cubic.on_false_congestion();
    assert_eq!(cubic.window(), 100_000);
    // What is known to be congestion stays so.
    assert!(cubic.on_congestion(at(30), &lost(at(25))));
    cubic.on_persistent_congestion();
    let least = cubic.window();
    cubic.on_false_congestion();
    assert_eq!(cubic.window(), least);
}

// spec: MIG-31
#[test]
fn a_path_that_is_known_begins_with_more_while_nothing_else_is_known_of_it() {
    let mut cubic = Cubic::new(DATAGRAM);
    let first = cubic.window();
    cubic.begin_with(first / 2);
    assert_eq!(cubic.window(), first);
    cubic.begin_with(first * 10);
    assert_eq!((cubic.window(), cubic.in_slow_start()), (first * 10, true));
    cubic.on_congestion(at(100), &lost(at(50)));
    let window = cubic.window();
    cubic.begin_with(first * 100);
    assert_eq!(cubic.window(), window);
}

#[test]
fn a_controller_is_small() {
    assert!(size_of::<Cubic>() <= 288, "{}", size_of::<Cubic>());
}

/// The rate that slow start was to end with is looked back at, also where losses that were none came before.
// spec: REC-14
#[test]
fn what_a_path_carries_beyond_what_was_expected_is_found_also_after_losses_that_were_none() {
    let mut sender = Sender::new();
    // The path carries more, and the window in a round trip is more by a fifth as it is.
    let expected = 400_000.0;
    sender.cubic.expect(expected, RTT);
    sender.round(100);
    let (before, threshold) = (sender.cubic.window(), sender.cubic.threshold);
    sender.lose();
    assert!(sender.cubic.window() < before && !sender.cubic.in_slow_start());
    sender.cubic.on_false_congestion();
    assert_eq!((sender.cubic.window(), sender.cubic.threshold), (before, threshold));
    while sender.cubic.in_slow_start() {
        sender.round(100);
    }
    for _ in 0..4 {
        sender.round(100);
    }
    assert!(sender.cubic.in_slow_start() && sender.cubic.window() > threshold);
}

// spec: REC-6
#[test]
fn losses_that_were_none_leave_the_curve_as_it_was() {
    let window = |is_disturbed| {
        let mut sender = Sender::new();
        (0..5).for_each(|_| sender.round(100));
        sender.lose();
        (0..5).for_each(|_| sender.round(100));
        let before = sender.now_ms;
        if is_disturbed {
            sender.lose();
            sender.cubic.on_false_congestion();
        }
        sender.now_ms = before + 2;
        (0..20).for_each(|_| sender.round(100));
        sender.cubic.window()
    };
    assert_eq!(window(true), window(false));
}

/// Acknowledges some packets of a sender with so many bytes in flight, some of which were lost; sent before the
/// present moment. Returns how much may be sent then.
fn acknowledged(cubic: &mut Cubic, now_ms: u64, (in_flight, acked, lost): (u64, u64, u64)) -> u64 {
    let remaining = in_flight - acked - lost;
    cubic.on_acked(&AckSample {
        now: at(now_ms),
        bytes: acked,
        largest: now_ms,
        next: now_ms + 1,
        largest_sent: at(50),
        in_flight,
        remaining,
        oldest: 0,
        smoothed: RTT,
        latest: Some(RTT),
        least: Some(RTT),
    });
    cubic.window().saturating_sub(remaining)
}

/// A controller in congestion avoidance whose window of 200 datagrams was just reduced.
fn reduced() -> Cubic {
    let mut cubic = Cubic::new(DATAGRAM);
    cubic.set_window(200_000);
    cubic.threshold = 200_000;
    assert!(cubic.on_congestion(at(100), &lost(at(50))));
    assert_eq!(
        cubic.window(),
        140_000,
        "nothing leaves before the acknowledgement is taken in"
    );
    cubic
}

// spec: REC-19
#[test]
fn what_is_in_flight_comes_down_to_a_reduced_window_in_a_round_trip() {
    let mut cubic = reduced();
    let (mut in_flight, mut sent) = (200_000, 0);
    for n in 0..199 {
        let lost = if n == 0 { 1000 } else { 0 };
        let room = acknowledged(&mut cubic, 101 + n, (in_flight, 1000, lost)) / 1000 * 1000;
        in_flight = in_flight - 1000 - lost + room;
        sent += room;
        assert!(room <= 1000, "no burst: {room}");
        assert!(
            sent >= (n + 1) * 1000 * 69 / 100 / 1000 * 1000,
            "nor a pause: {sent} after {n}"
        );
    }
    assert_eq!(in_flight, 140_000);
    assert_eq!(cubic.window(), 140_000);
}

// spec: REC-19
#[test]
fn what_was_lost_is_not_made_up_for_while_more_than_the_window_is_in_flight() {
    let mut cubic = reduced();
    acknowledged(&mut cubic, 101, (200_000, 1000, 1000));
    assert_eq!(acknowledged(&mut cubic, 102, (198_000, 1000, 20_000)), 1400);
    // Below the window, the window is all there is.
    assert_eq!(
        acknowledged(&mut cubic, 103, (178_000, 1000, 60_000)),
        140_000 - 117_000
    );
    assert_eq!(cubic.window(), 140_000);
}

// spec: REC-19
#[test]
fn a_sender_that_did_not_use_its_window_gets_none_of_it() {
    let mut cubic = reduced();
    acknowledged(&mut cubic, 101, (100_000, 1000, 1000));
    assert_eq!(cubic.window(), 140_000);
    // All that there is to a glide ends with recovery, and with the window that it came from.
    let mut cubic = reduced();
    acknowledged(&mut cubic, 101, (200_000, 1000, 1000));
    assert!(cubic.window() > 190_000);
    cubic.on_false_congestion();
    assert_eq!(cubic.window(), 200_000);
    for end in [Cubic::on_persistent_congestion, |cubic: &mut Cubic| {
        cubic.retreat(50_000)
    }] {
        let mut cubic = reduced();
        acknowledged(&mut cubic, 101, (200_000, 1000, 1000));
        end(&mut cubic);
        assert!(cubic.window() <= 50_000);
    }
}

// spec: REC-19
#[test]
fn the_end_of_slow_start_is_no_glide() {
    let mut cubic = Cubic::new(DATAGRAM);
    cubic.set_window(200_000);
    assert!(cubic.on_congestion(at(100), &lost(at(50))));
    acknowledged(&mut cubic, 101, (200_000, 1000, 1000));
    assert_eq!(cubic.window(), 140_000);
}

/// A moment, a time or a number of bytes of any size.
fn any(rng: &mut StdRng, most: u64) -> u64 {
    let bits = rng.random_range(0..=u64::BITS - most.leading_zeros());
    rng.random_range(0..=most.min(1_u64.unbounded_shl(bits)))
}

// spec: REC-6, REC-18
#[test]
fn threat_20_no_acknowledgement_makes_a_window_of_more_than_was_acknowledged_or_of_nothing() {
    const YEAR: u64 = 365 * 24 * 3600 * 1_000_000_000;
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut cubic = Cubic::new(DATAGRAM);
        let (mut now, mut acked) = (any(&mut rng, YEAR), 0);
        // Some peers play with time, some answer at one instant, and some seem to have a rate.
        let (step, longest) = (any(&mut rng, YEAR), any(&mut rng, YEAR));
        for largest in 0..400 {
            now += any(&mut rng, step);
            let (moment, bytes) = (Instant::from_nanos(now), 1 + any(&mut rng, 1 << 32));
            let sent = moment - Duration::from_nanos(any(&mut rng, longest));
            match rng.random_range(0..50) {
                0 => drop(cubic.on_congestion(moment, &lost(sent))),
                1 => cubic.on_false_congestion(),
                2 => {
                    cubic.on_congestion(moment, &lost(sent));
                    cubic.on_persistent_congestion();
                }
                _ => {
                    acked += bytes;
                    let rtt = moment.since(sent);
                    let less = Duration::from_nanos(any(&mut rng, longest)).min(rtt);
                    cubic.on_acked(&AckSample {
                        now: moment,
                        bytes,
                        largest,
                        next: largest + rng.random_range(1..20),
                        largest_sent: sent,
                        in_flight: cubic.window(),
                        remaining: 0,
                        oldest: 0,
                        smoothed: rtt,
                        latest: rng.random_bool(0.9).then_some(less),
                        least: rng.random_bool(0.9).then_some(less),
                    });
                }
            }
            let (window, growth) = (cubic.window(), cubic.growth());
            assert!(window >= 2 * u64::from(DATAGRAM), "seed {seed}: {window}");
            assert!(window <= 10_000 + acked, "seed {seed}: {window} of {acked}");
            assert!(growth >= 0.0, "seed {seed}: {growth}");
            assert!(cubic.threshold >= 2 * u64::from(DATAGRAM), "seed {seed}");
        }
        // What an honest peer acknowledges makes it grow again.
        let before = cubic.window();
        if before < 1 << 22 {
            let mut sender = Sender { cubic, ..Sender::new() };
            (sender.now_us, sender.acked, sender.next) = (now / 1000 + 4_000_000_000, 1000, 1000);
            for _ in 0..100_000 {
                sender.acked(100, 100_000);
            }
            assert!(sender.cubic.window() > before, "seed {seed}: {before}");
        }
    }
}
