//! Knowledge that a channel leaves to later ones of its path (REC-15).

use std::collections::VecDeque;

use sss_wire::frame::Frame;

use super::*;
use crate::channel::congestion::{ResumeState, SavedPath};
use crate::channel::flight::PacketKind;
use crate::channel::testing::{INITIATOR, ack};
use crate::channel::{Path, resume, take_saved};
use crate::config::Congestion;

const PACKET: usize = 1232;
const RTT: u64 = 50;

/// A channel that sends, and a peer that acknowledges whenever it likes.
struct Flow {
    channel: Channel,
    now: u64,
    /// Numbers of packets, and when they were sent.
    sent: VecDeque<(u64, u64)>,
    /// The most that was in flight, in bytes.
    peak: u64,
}

impl Flow {
    fn new(congestion: Congestion) -> Self {
        let config = ChannelConfig { congestion, ..config() };
        let begun = 1000;
        let (a, _) = established(at(begun), Duration::from_millis(RTT), config, Suite::Aes256Gcm);
        Self {
            channel: a.channel,
            now: begun,
            sent: VecDeque::new(),
            peak: 0,
        }
    }

    /// For so many milliseconds, so many packets are sent in each, if the window allows it; the peer acknowledges those
    /// that are older than `age` each time that `every` has passed.
    fn run(&mut self, ms: u64, packets: u64, (age, every): (u64, u64)) {
        for _ in 0..ms {
            self.now += 1;
            if self.now.is_multiple_of(every) {
                self.acknowledge(age);
            }
            for _ in 0..packets {
                if !self.channel.flight.is_window_full() {
                    self.send();
                }
            }
            self.peak = self.peak.max(self.channel.flight.sent.in_flight());
        }
    }

    fn send(&mut self) {
        let flight = &mut self.channel.flight;
        self.sent.push_back((flight.sent.next(), self.now));
        flight.record(at(self.now), PACKET, (PacketKind::Ordinary, true), &[]);
    }

    fn acknowledge(&mut self, age: u64) {
        let first = self.sent.front().copied();
        let mut last = None;
        while let Some((seq, _)) = self.sent.pop_front_if(|(_, sent)| *sent + age <= self.now) {
            last = Some(seq);
        }
        if let Some((last, (first, _))) = last.zip(first) {
            let Frame::Ack(ack) = ack(&[first..=last], 0, (0, 0)) else {
                panic!("an acknowledgement");
            };
            self.channel.flight.on_ack(at(self.now), &ack, &mut Vec::new()).unwrap();
        }
    }

    fn saved(&mut self) -> Option<SavedPath> {
        take_saved(&mut self.channel).map(|(_, saved)| saved)
    }

    fn state(&self) -> ResumeState {
        self.channel.flight.flow.controller.resume_state()
    }

    fn window(&self) -> u64 {
        self.channel.flight.flow.controller.get().window()
    }
}

fn known() -> SavedPath {
    SavedPath {
        window: 2_000_000,
        rate: 40_000_000,
        rtt: Duration::from_millis(RTT),
        at: at(900),
    }
}

// spec: REC-15
#[test]
fn no_acknowledgement_makes_a_host_keep_more_than_it_sent() {
    // As they arrive; before they can have; late; many at once, now and then.
    for acks in [(RTT, 1), (1, 1), (0, 1), (3 * RTT, 1), (0, 90), (0, 300), (1, 1000)] {
        for kind in Congestion::ALL {
            let mut flow = Flow::new(kind);
            let packets = 5;
            flow.run(6000, packets, acks);
            let sent = packets * PACKET as u64 * 1000;
            let Some(saved) = flow.saved() else {
                assert_ne!(acks, (RTT, 1), "{kind}");
                continue;
            };
            assert!(
                saved.jump() <= flow.peak,
                "{kind}, {acks:?}: {saved:?}, {} in flight",
                flow.peak
            );
            let pace = saved.jump() as f64 / saved.rtt.as_secs_f64();
            // What was held back until a measurement had begun counts there, and what was sent meanwhile.
            let most = if acks.1 > 1 { 2.5 } else { 1.01 } * sent as f64;
            assert!(pace <= most, "{kind}, {acks:?}: {saved:?}, {pace} of {sent}");
            assert!(saved.rate as f64 <= most, "{kind}, {acks:?}: {saved:?}");
        }
    }
}

// spec: REC-15
#[test]
fn what_is_known_is_given_out_once_and_only_if_it_is_worth_it() {
    for kind in Congestion::ALL {
        let mut flow = Flow::new(kind);
        flow.run(3000, 5, (RTT, 1));
        assert!(flow.saved().is_some(), "{kind}");
        assert_eq!(flow.saved(), None, "{kind}");
        let mut little = Flow::new(kind);
        for _ in 0..300 {
            little.run(1, 1, (RTT, 1));
            little.run(9, 0, (RTT, 1));
        }
        assert_eq!(little.saved(), None, "{kind}");
    }
}

// spec: REC-15
#[test]
fn what_was_busy_long_ago_is_as_old_as_that() {
    let mut flow = Flow::new(Congestion::Cubic);
    flow.run(3000, 5, (RTT, 1));
    let busy = at(flow.now);
    for _ in 0..30 {
        flow.run(1, 1, (RTT, 1));
        flow.run(99, 0, (RTT, 1));
    }
    let saved = flow.saved().unwrap();
    assert!(saved.at <= busy + Duration::from_millis(2 * RTT) && saved.at + Duration::from_millis(1500) > busy);
}

// spec: REC-15
#[test]
fn what_one_path_carried_is_not_kept_of_another() {
    for kind in Congestion::ALL {
        let mut flow = Flow::new(kind);
        flow.run(3000, 8, (RTT, 1));
        let moved = at(flow.now);
        flow.channel.flight.begin_path(moved, Some(Duration::from_millis(RTT)));
        flow.sent.clear();
        assert_eq!(flow.saved(), None, "{kind}");
        flow.run(3000, 2, (RTT, 1));
        let saved = flow.saved().unwrap();
        assert!(saved.at > moved, "{kind}: {saved:?}");
        assert!(saved.rate < 3 * 1000 * PACKET as u64, "{kind}: {saved:?}");
    }
}

// spec: REC-15
#[test]
fn another_path_has_another_knowledge_to_keep() {
    let mut flow = Flow::new(Congestion::Cubic);
    flow.run(3000, 5, (RTT, 1));
    assert!(flow.saved().is_some());
    flow.channel
        .flight
        .begin_path(at(flow.now), Some(Duration::from_millis(RTT)));
    flow.sent.clear();
    flow.run(3000, 5, (RTT, 1));
    assert!(flow.saved().is_some());
}

/// A channel that resumes, up to this state.
fn resuming(kind: Congestion, state: ResumeState) -> Flow {
    let mut flow = Flow::new(kind);
    resume(known(), &mut flow.channel);
    while flow.state() != state {
        flow.run(1, 20, (RTT, 1));
        assert!(flow.now < 3000, "{kind}: {:?}", flow.state());
    }
    flow
}

const PHASES: [ResumeState; 3] = [
    ResumeState::Reconnaissance,
    ResumeState::Unvalidated,
    ResumeState::Validating,
];

// spec: REC-15, CHN-11
#[test]
fn another_path_of_the_peer_inherits_nothing() {
    for kind in Congestion::ALL {
        for phase in PHASES {
            let mut flow = resuming(kind, phase);
            flow.channel
                .flight
                .begin_path(at(flow.now), Some(Duration::from_millis(RTT)));
            assert_eq!(flow.state(), ResumeState::Unknown, "{kind}, {phase:?}");
            let initial = flow.window();
            assert!(initial < 15_000, "{kind}, {phase:?}: {initial}");
            // Acknowledgements from the old one change nothing.
            flow.acknowledge(0);
            assert!(flow.window() < 30_000, "{kind}, {phase:?}: {}", flow.window());
            assert_eq!(flow.saved(), None, "{kind}, {phase:?}");
        }
    }
}

// spec: REC-15, MIG-13
#[test]
fn another_path_of_this_host_inherits_nothing_that_has_not_arrived() {
    let elsewhere = Path {
        route: addr(INITIATOR),
        local: None,
    };
    for kind in Congestion::ALL {
        for phase in PHASES {
            for settles in [false, true] {
                let mut flow = resuming(kind, phase);
                if settles {
                    flow.channel.settle_on(elsewhere);
                } else {
                    flow.channel.forget_local();
                }
                assert_eq!(flow.state(), ResumeState::Declined, "{kind}, {phase:?}");
                assert_eq!(flow.saved(), None, "{kind}, {phase:?}");
                if phase != ResumeState::Validating {
                    assert!(flow.window() < 100_000, "{kind}, {phase:?}: {}", flow.window());
                }
            }
        }
        // The path that the negotiation has proved is the one that is known.
        let mut flow = resuming(kind, ResumeState::Reconnaissance);
        let path = *flow.channel.path();
        flow.channel.settle_on(path);
        assert_eq!(flow.state(), ResumeState::Reconnaissance);
        assert_eq!(flow.saved(), Some(known()), "with its age");
        assert_eq!(flow.saved(), None);
    }
}

// spec: REC-15
#[test]
fn who_has_moved_leaves_nothing() {
    let mut flow = Flow::new(Congestion::Cubic);
    flow.run(3000, 5, (RTT, 1));
    flow.channel.forget_local();
    assert_eq!(flow.saved(), None);
    // Nor what it measures from wherever it is.
    flow.run(3000, 5, (RTT, 1));
    assert_eq!(flow.saved(), None);
}

// spec: REC-16
#[test]
fn what_one_controller_found_out_is_of_use_to_the_other() {
    for [from, to] in [
        [Congestion::Cubic, Congestion::Bbr],
        [Congestion::Bbr, Congestion::Cubic],
    ] {
        let mut flow = Flow::new(from);
        flow.run(3000, 8, (RTT, 1));
        let saved = flow.saved().unwrap();
        let mut next = Flow::new(to);
        next.now = flow.now;
        resume(saved, &mut next.channel);
        let mut states = Vec::new();
        for _ in 0..500 {
            next.run(1, 8, (RTT, 1));
            states.push(next.state());
        }
        states.dedup();
        let all = [PHASES.as_slice(), &[ResumeState::Resumed]].concat();
        assert_eq!(states, all, "{from} to {to}");
    }
}
