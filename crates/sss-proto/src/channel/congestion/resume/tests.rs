use super::super::{Controller, Departed, Signal, SignalKind};
use super::*;
use crate::config::Congestion;

const DATAGRAM: u16 = 1200;
const INITIAL: u64 = 12_000;
/// As RFC 9959 says: half of what was saved.
const JUMP: u64 = 500_000;
const RTT: Duration = Duration::from_millis(100);

fn at(ms: u64) -> Instant {
    Instant::from_nanos((1_000_000 + ms) * 1_000_000)
}

/// A sender whose packets all have the same size, and take a round trip.
struct Sender {
    controller: Controller,
    next: u64,
    acked: u64,
    rtt: Duration,
}

impl Sender {
    fn new(kind: Congestion) -> Self {
        let saved = SavedPath {
            window: 2 * JUMP,
            rate: 5_000_000,
            rtt: RTT,
            at: at(0),
        };
        let mut controller = Controller::new(kind, DATAGRAM, 1);
        controller.resume(saved, DATAGRAM);
        Self {
            controller,
            next: 0,
            acked: 0,
            rtt: RTT,
        }
    }

    fn in_flight(&self) -> u64 {
        (self.next - self.acked) * u64::from(DATAGRAM)
    }

    /// Fills the window.
    fn fill(&mut self, now: u64) {
        while self.in_flight() + u64::from(DATAGRAM) <= self.window() {
            self.send(now);
        }
    }

    fn send(&mut self, now: u64) {
        let seq = self.next;
        self.next += 1;
        self.controller.on_sent(&Departed {
            now: at(now),
            seq,
            bytes: u64::from(DATAGRAM),
            in_flight: self.in_flight(),
        });
    }

    /// The oldest packets are acknowledged.
    fn ack(&mut self, now: u64, packets: u64) {
        let in_flight = self.in_flight();
        self.acked += packets;
        self.controller.on_acked(&AckSample {
            now: at(now),
            bytes: packets * u64::from(DATAGRAM),
            largest: self.acked - 1,
            next: self.next,
            largest_sent: at(now.saturating_sub(100)),
            in_flight,
            remaining: self.in_flight(),
            oldest: self.acked,
            smoothed: self.rtt,
            latest: Some(self.rtt),
            least: Some(self.rtt),
        });
    }

    /// So many of the oldest packets are lost.
    fn lose(&mut self, now: u64, packets: u64) {
        self.acked += packets;
        self.controller.on_congestion(
            at(now),
            &Signal {
                sent: at(now.saturating_sub(100)),
                seq: self.acked - 1,
                rtt: 2 * self.rtt,
                kind: SignalKind::Loss(packets),
            },
        );
    }

    fn window(&self) -> u64 {
        self.controller.get().window()
    }

    fn state(&self) -> ResumeState {
        self.controller.resume_state()
    }

    /// The initial window is sent, and arrives, while the sender goes on.
    fn reconnoitre(&mut self) {
        self.fill(0);
        for _ in 0..INITIAL / u64::from(DATAGRAM) {
            self.ack(100, 1);
            if self.state() == ResumeState::Reconnaissance {
                self.fill(100);
            }
        }
    }

    /// So is half of the saved window, in the course of a round trip.
    fn try_all(&mut self) {
        let before = self.acked;
        let first = self.next;
        while self.acked < first {
            let now = 100 + (self.acked - before) * 100 / (first - before);
            self.fill(now);
            self.ack(now, 1);
        }
    }
}

// spec: REC-16
#[test]
fn half_of_the_saved_window_is_tried_once_the_first_has_arrived_and_leaves_in_a_round_trip() {
    for kind in Congestion::ALL {
        let mut sender = Sender::new(kind);
        sender.fill(0);
        assert_eq!(
            (sender.window(), sender.state()),
            (INITIAL, ResumeState::Reconnaissance)
        );
        sender.ack(100, 1);
        sender.fill(100);
        sender.ack(100, 8);
        assert!(sender.window() <= 2 * INITIAL, "{kind}");
        sender.fill(100);
        sender.ack(100, 1);
        assert_eq!(
            (sender.window(), sender.state()),
            (JUMP, ResumeState::Unvalidated),
            "{kind}"
        );
        let rate = JUMP as f64 / RTT.as_secs_f64();
        assert!(
            (sender.controller.pacing_rate().unwrap() / rate - 1.0).abs() < 0.01,
            "{kind}"
        );
        // What arrives of the first packets makes it no larger, though all of it is used.
        sender.fill(150);
        sender.ack(150, 5);
        assert_eq!(sender.window(), JUMP, "{kind}");
    }
}

// spec: REC-16
#[test]
fn what_was_tried_counts_once_it_arrives() {
    for kind in Congestion::ALL {
        let mut sender = Sender::new(kind);
        sender.reconnoitre();
        sender.try_all();
        sender.fill(199);
        assert_eq!(sender.state(), ResumeState::Unvalidated, "{kind}");
        let sent = sender.in_flight();
        sender.ack(200, 1);
        assert_eq!(sender.state(), ResumeState::Validating, "{kind}");
        assert!(sender.window() <= sent, "{kind}: {} of {sent}", sender.window());
        let last = sender.next;
        while sender.acked + 1 < last {
            sender.ack(250, 1);
        }
        assert_eq!(sender.state(), ResumeState::Validating, "{kind}");
        sender.ack(300, 1);
        assert_eq!(sender.state(), ResumeState::Resumed, "{kind}");
        assert_eq!(sender.controller.take_unused(), None);
    }
}

// spec: REC-16
#[test]
fn another_path_is_recognised_by_its_round_trip() {
    let saved = SavedPath {
        window: 1,
        rate: 1,
        rtt: RTT,
        at: at(0),
    };
    for (ms, is_like) in [(49, false), (50, true), (1000, true), (1001, false)] {
        let mut sender = Sender::new(Congestion::Cubic);
        sender.rtt = Duration::from_millis(ms);
        assert_eq!(saved.is_like(sender.rtt), is_like);
        sender.reconnoitre();
        let expected = if is_like {
            ResumeState::Unvalidated
        } else {
            ResumeState::Declined
        };
        assert_eq!(sender.state(), expected, "{ms} ms");
        assert_eq!(sender.window() == JUMP, is_like, "{ms} ms");
    }
}

// spec: REC-16
#[test]
fn nothing_is_tried_after_a_loss_or_an_hour() {
    for kind in Congestion::ALL {
        let mut sender = Sender::new(kind);
        sender.fill(0);
        sender.lose(100, 1);
        assert_eq!(sender.state(), ResumeState::Declined, "{kind}");
        sender.ack(100, 9);
        assert!(sender.window() < 2 * INITIAL, "{kind}");
        let mut sender = Sender::new(kind);
        let hour = 3_600_000;
        sender.fill(hour);
        sender.ack(hour + 100, 1);
        sender.fill(hour + 100);
        sender.ack(hour + 100, 9);
        assert_eq!(sender.state(), ResumeState::Declined, "{kind}");
    }
}

// spec: REC-16
#[test]
fn who_has_little_to_send_waits_and_what_is_not_sent_in_a_round_trip_does_not_count() {
    let mut sender = Sender::new(Congestion::Cubic);
    for n in 0..20 {
        sender.send(n * 100);
        sender.ack(n * 100 + 99, 1);
    }
    assert_eq!(sender.state(), ResumeState::Reconnaissance);
    sender.fill(2000);
    sender.ack(2100, 1);
    assert_eq!((sender.window(), sender.state()), (JUMP, ResumeState::Unvalidated));
    // Nothing more is sent, until long after.
    sender.ack(2110, 5);
    sender.send(9000);
    assert_eq!(sender.state(), ResumeState::Declined);
    assert!(sender.window() <= 2 * INITIAL, "{}", sender.window());
}

// spec: REC-17
#[test]
fn congestion_leaves_half_of_what_has_arrived() {
    for kind in Congestion::ALL {
        let mut sender = Sender::new(kind);
        sender.reconnoitre();
        let (acked, pipe) = (sender.acked, sender.in_flight());
        sender.try_all();
        sender.fill(199);
        sender.ack(200, 20);
        // Some of what was tried has come; the rest is lost.
        let arrived = pipe + (sender.acked - acked) * u64::from(DATAGRAM);
        sender.lose(210, 50);
        assert_eq!(sender.state(), ResumeState::Retreated, "{kind}");
        assert!(
            sender.window() <= arrived / 2 + u64::from(DATAGRAM),
            "{kind}: {}",
            sender.window()
        );
        // Until it is settled, what is found out is no more than that.
        let last = sender.next;
        sender.lose(211, last - sender.acked - 1);
        assert!(
            sender.window() <= arrived / 2 + u64::from(DATAGRAM),
            "{kind}: {}",
            sender.window()
        );
        sender.next += 1;
        sender.ack(400, 1);
        sender.ack(400, 1);
        assert_eq!(
            (sender.state(), sender.controller.take_unused()),
            (ResumeState::Retreated, None)
        );
        assert!(sender.window() < JUMP / 4, "{kind}: {}", sender.window());
    }
}

// spec: REC-15
#[test]
fn what_was_not_tried_goes_to_the_next_channel() {
    let mut sender = Sender::new(Congestion::Cubic);
    assert_eq!(sender.controller.take_unused().map(|saved| saved.jump()), Some(JUMP));
    assert_eq!(
        (sender.controller.take_unused(), sender.state()),
        (None, ResumeState::Declined)
    );
    let mut sender = Sender::new(Congestion::Cubic);
    sender.reconnoitre();
    assert_eq!(sender.controller.take_unused(), None);
    // On another path nothing is known.
    let restarted = Sender::new(Congestion::Cubic).controller.restarted(DATAGRAM);
    assert_eq!(restarted.resume_state(), ResumeState::Unknown);
}

/// Phases in which more is sent than the path is known to carry.
const TRIALS: [ResumeState; 2] = [ResumeState::Unvalidated, ResumeState::Validating];

impl Sender {
    /// All of what may be tried has been sent; or it arrives, if that is `state`.
    fn trying(kind: Congestion, state: ResumeState) -> Self {
        let mut sender = Self::new(kind);
        sender.reconnoitre();
        sender.try_all();
        if state == ResumeState::Validating {
            sender.fill(199);
            sender.ack(200, 1);
        }
        assert_eq!(sender.state(), state, "{kind}");
        sender
    }

    /// The oldest packet comes back marked.
    fn mark(&mut self, now: u64) {
        self.controller.on_congestion(
            at(now),
            &Signal {
                sent: at(now.saturating_sub(100)),
                seq: self.acked,
                rtt: self.rtt,
                kind: SignalKind::Mark,
            },
        );
    }
}

// spec: REC-17
#[test]
fn marks_are_taken_for_what_they_are_in_every_phase() {
    for kind in Congestion::ALL {
        let mut sender = Sender::new(kind);
        sender.fill(0);
        sender.ack(100, 2);
        sender.mark(100);
        assert_eq!(sender.state(), ResumeState::Declined, "{kind}");
        assert!(sender.window() <= 2 * INITIAL, "{kind}");
    }
    for state in TRIALS {
        let mut sender = Sender::trying(Congestion::Cubic, state);
        sender.mark(210);
        assert_eq!(sender.state(), ResumeState::Retreated);
        assert!(sender.window() <= JUMP / 2, "{}", sender.window());
        // BBR's start goes on with a mark: a queue stands before the pipe is full.
        let mut sender = Sender::trying(Congestion::Bbr, state);
        let before = sender.window();
        sender.mark(210);
        assert_eq!((sender.window(), sender.state()), (before, state));
    }
}

// spec: REC-17
#[test]
fn what_was_tried_does_not_make_the_window_grow_after_a_retreat() {
    for state in TRIALS {
        let mut sender = Sender::trying(Congestion::Cubic, state);
        sender.lose(210, 1);
        let retreated = sender.window();
        let last = sender.next;
        while sender.acked + 1 < last {
            sender.ack(250, 1);
            assert_eq!(sender.window(), retreated);
        }
        assert!(!sender.controller.get().in_slow_start());
        sender.ack(300, 1);
        assert!(
            sender.controller.get().in_slow_start(),
            "up to 0.7 times what has arrived"
        );
        assert_eq!(sender.controller.resume_state(), ResumeState::Retreated);
        assert!(sender.controller.resume.is_none());
    }
}

// spec: REC-17
#[test]
fn who_loses_more_after_a_retreat_does_not_return_to_what_was_tried() {
    for state in TRIALS {
        let mut sender = Sender::trying(Congestion::Cubic, state);
        sender.lose(210, 1);
        // Of what was sent after that, some is lost before the last of it is acknowledged.
        sender.send(211);
        sender.lose(400, 1);
        let reduced = sender.window();
        sender.ack(400, sender.next - sender.acked);
        assert!(
            !sender.controller.get().in_slow_start(),
            "{} of {reduced}",
            sender.window()
        );
        // That those were none takes back no more than the reaction to them.
        sender.controller.on_false_congestion();
        assert_eq!(sender.state(), ResumeState::Retreated);
        assert!(sender.window() <= JUMP / 2 + u64::from(DATAGRAM), "{}", sender.window());
    }
}

// spec: REC-17
#[test]
fn after_losses_that_were_none_the_trial_goes_on() {
    for kind in Congestion::ALL {
        for state in TRIALS {
            let mut sender = Sender::trying(kind, state);
            let before = sender.window();
            sender.lose(210, 50);
            assert_eq!(sender.state(), ResumeState::Retreated, "{kind}");
            assert!(sender.window() < before / 2 + 50 * u64::from(DATAGRAM), "{kind}");
            sender.controller.on_false_congestion();
            assert_eq!(sender.state(), state, "{kind}");
            assert!(sender.controller.get().in_slow_start(), "{kind}");
            sender.ack(212, 1);
            assert!(
                sender.window() * 5 >= before * 4,
                "{kind}: {} of {before}",
                sender.window()
            );
            // And may still come to no good.
            sender.lose(320, 100);
            assert_eq!(sender.state(), ResumeState::Retreated, "{kind}");
        }
    }
}

// spec: REC-16, REC-17
#[test]
fn a_silent_path_is_not_the_one_that_was_known() {
    for kind in Congestion::ALL {
        let mut sender = Sender::new(kind);
        sender.fill(0);
        sender.ack(100, 1);
        sender.controller.on_persistent_congestion();
        assert_eq!(sender.state(), ResumeState::Declined, "{kind}");
        for state in TRIALS {
            let mut sender = Sender::trying(kind, state);
            // BBR takes few losses for no congestion.
            sender.lose(2000, 1);
            sender.controller.on_persistent_congestion();
            assert_eq!(sender.state(), ResumeState::Retreated, "{kind}");
            let arrived = sender.in_flight();
            sender.ack(2100, 10);
            assert!(
                sender.window() < arrived / 4,
                "{kind}: {} of {arrived}",
                sender.window()
            );
        }
    }
}

// spec: REC-15, REC-16
#[test]
fn who_moves_makes_no_jump_and_keeps_none_that_has_not_arrived() {
    for kind in Congestion::ALL {
        let mut sender = Sender::new(kind);
        sender.fill(0);
        sender.controller.on_moved();
        assert_eq!(
            (sender.state(), sender.controller.take_unused()),
            (ResumeState::Declined, None)
        );
        sender.reconnoitre();
        assert!(sender.window() <= 2 * INITIAL, "{kind}: {}", sender.window());
        for packets in [0, 20] {
            let mut sender = Sender::new(kind);
            sender.reconnoitre();
            let pipe = sender.in_flight() + packets * u64::from(DATAGRAM);
            sender.fill(150);
            sender.ack(150, packets.max(1));
            sender.controller.on_moved();
            assert_eq!(sender.state(), ResumeState::Declined, "{kind}");
            assert!(
                sender.window() <= pipe + u64::from(DATAGRAM),
                "{kind}: {}",
                sender.window()
            );
            sender.ack(160, 1);
            assert!(sender.window() <= pipe + 3 * u64::from(DATAGRAM), "{kind}");
        }
    }
    let mut unknown = Controller::new(Congestion::Cubic, DATAGRAM, 1);
    unknown.on_moved();
    assert_eq!(unknown.resume_state(), ResumeState::Unknown);
}

// spec: REC-16
#[test]
fn a_clock_that_stands_still_makes_no_trial_endless() {
    for kind in Congestion::ALL {
        let mut sender = Sender::new(kind);
        // Nor a rate that is none: the saved round trip is as short.
        sender.rtt = Duration::ZERO;
        let saved = SavedPath {
            window: 2 * JUMP,
            rate: 5_000_000,
            rtt: Duration::from_nanos(1),
            at: at(0),
        };
        sender.controller.resume(saved, DATAGRAM);
        sender.fill(0);
        for _ in 0..2000 {
            sender.ack(0, 1);
            sender.fill(0);
            assert!(sender.controller.pacing_rate().is_none_or(f64::is_finite), "{kind}");
        }
        assert!(
            matches!(sender.state(), ResumeState::Resumed | ResumeState::Declined),
            "{kind}: {:?}",
            sender.state()
        );
    }
}

// spec: REC-16
#[test]
fn a_window_that_is_as_large_without_is_not_made_smaller() {
    for kind in Congestion::ALL {
        let mut sender = Sender::new(kind);
        let saved = SavedPath {
            window: 2 * INITIAL + 2,
            rate: 5_000_000,
            rtt: RTT,
            at: at(0),
        };
        sender.controller.resume(saved, DATAGRAM);
        sender.reconnoitre();
        assert_eq!(sender.state(), ResumeState::Declined, "{kind}");
        assert!(sender.window() > saved.jump(), "{kind}");
    }
}

/// The first of what was tried tell BBR nothing of the rest: without a floor it would send what follows at the rate of
/// the initial window.
// spec: REC-16
#[test]
fn what_follows_what_was_tried_leaves_no_slower() {
    let mut sender = Sender::new(Congestion::Bbr);
    sender.reconnoitre();
    assert_eq!(sender.state(), ResumeState::Unvalidated);
    let tried = JUMP as f64 / RTT.as_secs_f64();
    sender.fill(150);
    let model = sender.controller.get().pacing_rate().unwrap();
    assert!(model < tried / 2.0, "{model}");
    while sender.state() == ResumeState::Unvalidated {
        sender.ack(200, 1);
    }
    assert_eq!(sender.state(), ResumeState::Validating);
    let model = sender.controller.get().pacing_rate().unwrap();
    let rate = sender.controller.pacing_rate().unwrap();
    assert!(model < tried / 2.0, "{model}");
    assert!(rate >= 0.9 * tried, "{rate}");
}

/// A sender of little finds out over several round trips that the path is full, and nothing is lost: no window is tried
/// then that it might have carried once.
// spec: REC-16
#[test]
fn nothing_is_tried_when_slow_start_is_over() {
    let mut sender = Sender::new(Congestion::Bbr);
    let few = INITIAL / u64::from(DATAGRAM) / 3;
    let mut now = 0;
    while sender.controller.get().in_slow_start() {
        assert_eq!(sender.state(), ResumeState::Reconnaissance, "{now}");
        (0..few).for_each(|_| sender.send(now));
        now += 100;
        sender.ack(now, few);
        assert!(now < 10_000, "the path is full, and it does not show");
    }
    // Now there is much.
    sender.fill(now);
    let window = sender.window();
    sender.ack(now + 100, 1);
    assert_eq!(sender.state(), ResumeState::Declined);
    assert!(sender.window() <= window + u64::from(DATAGRAM), "{}", sender.window());
}
