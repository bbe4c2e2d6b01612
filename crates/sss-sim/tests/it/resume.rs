//! Channels over a path that an earlier one knew (REC-15 to REC-17).

use std::time::Duration;

use sss_proto::{Congestion, ResumeState};
use sss_sim::Blackout;
use sss_sim::congestion::links::single;
use sss_sim::congestion::resume::{END, Outcome, Return, Way, play};
use sss_sim::congestion::{Change, Report, Setup, run};

use crate::support::{ms, secs};

const MBIT: u64 = 1_000_000;
const RATE: u64 = 100 * MBIT;
/// 100 Mbit/s, 100 ms.
const WIDE: Way = (RATE, Duration::from_millis(100), 1.0);

fn both(way: Way, back: Return, control: Congestion) -> [Outcome; 2] {
    [false, true].map(|resumes| play(control, way, back, (resumes, 7)).unwrap())
}

// spec: REC-15, REC-16
#[test]
fn a_second_connection_has_its_rate_sooner() {
    for control in Congestion::ALL {
        let [before, now] = both(WIDE, Return::Anew(None), control);
        assert_eq!(
            (before.state, now.state),
            (ResumeState::Unknown, ResumeState::Resumed),
            "{control}"
        );
        let (before, now) = (before.reached.unwrap(), now.reached.unwrap());
        assert!(now + ms(150) < before, "{control}: {now:?} in place of {before:?}");
    }
}

// spec: REC-15, REC-16
#[test]
fn a_renewed_channel_hardly_shows() {
    for control in Congestion::ALL {
        let [before, now] = both(WIDE, Return::Renewed, control);
        assert_eq!(
            (before.state, now.state),
            (ResumeState::Unknown, ResumeState::Resumed),
            "{control}"
        );
        assert!(before.begun < 0.82 * RATE as f64, "{control}: {before:?}");
        assert!(now.begun > 0.88 * RATE as f64, "{control}: {now:?}");
    }
}

// spec: REC-16
#[test]
fn slow_start_ends_at_the_known_rate_before_a_short_queue_is_full() {
    let way = (20 * MBIT, ms(50), 0.25);
    let [before, now] = both(way, Return::Anew(None), Congestion::Cubic);
    assert!(now.overflowed < 10, "{now:?}, before {before:?}");
    assert!(now.reached < before.reached, "{now:?}, before {before:?}");
}

// spec: REC-16
#[test]
fn a_path_that_has_become_wider_is_used_soon() {
    let wider = Return::Anew(Some(Change::Rate(3 * RATE)));
    for control in Congestion::ALL {
        let [before, now] = both(WIDE, wider, control);
        assert_eq!(now.state, ResumeState::Resumed);
        // It overflows a queue that one begun as any does not; 1.4 s are 90 % of three times the rate all the same.
        let reached = now.reached.unwrap();
        assert!(
            reached <= ms(1400) && reached <= before.reached.unwrap() + ms(50),
            "{control}: {now:?}, before {before:?}"
        );
    }
}

// spec: REC-17
#[test]
fn a_path_that_has_become_slower_is_retreated_from() {
    // The queue holds a round trip at the slower rate.
    let way = (RATE, ms(100), 0.1);
    let slower = RATE / 10;
    for control in Congestion::ALL {
        let [before, now] = both(way, Return::Anew(Some(Change::Rate(slower))), control);
        assert_ne!(now.state, ResumeState::Unknown, "{control}");
        // Half of what the wide path carried are some 400 datagrams.
        assert!(now.overflowed < 150, "{control}: {now:?}, before {before:?}");
        let reached = now.reached.unwrap();
        assert!(
            reached <= before.reached.unwrap() + ms(100),
            "{control}: {now:?}, before {before:?}"
        );
    }
}

// spec: REC-16
#[test]
fn a_path_with_another_round_trip_is_begun_as_any() {
    for rtt in [ms(33), ms(1200)] {
        for control in Congestion::ALL {
            let [before, now] = both(WIDE, Return::Anew(Some(Change::Rtt(rtt))), control);
            assert_eq!(now.state, ResumeState::Declined, "{control}, {rtt:?}");
            assert_eq!(
                (now.reached, now.overflowed),
                (before.reached, before.overflowed),
                "{control}, {rtt:?}"
            );
        }
    }
}

// spec: REC-15
#[test]
fn from_another_address_or_after_an_hour_nothing_is_known() {
    let again = |change: Option<Change>, pause: Duration| {
        let mut setup = Setup {
            from: secs(1),
            until: END + pause + secs(3),
            ..single(Congestion::Cubic, (20 * MBIT, ms(50)), 1.0)
        };
        setup.changes.push((END, Change::Anew(pause)));
        setup.changes.extend(change.map(|change| (END, change)));
        run(&setup).unwrap().flows[0].channel.as_ref().unwrap().resume
    };
    assert_eq!(again(None, secs(1)), ResumeState::Resumed);
    assert_eq!(again(Some(Change::Moved), secs(1)), ResumeState::Unknown);
    assert_eq!(again(None, secs(3601)), ResumeState::Unknown);
}

/// Another connection over the wide path, from 6 s on, while this happens.
fn again(control: Congestion, products: f64, changes: &[(Duration, Change)], edit: impl FnOnce(&mut Setup)) -> Report {
    let mut setup = Setup {
        from: secs(1),
        until: END + secs(6),
        ..single(control, (WIDE.0, WIDE.1), products)
    };
    setup.changes.push((END, Change::Anew(secs(1))));
    setup.changes.extend(changes);
    edit(&mut setup);
    run(&setup).unwrap()
}

fn state(report: &Report) -> ResumeState {
    report.flows[0].channel.as_ref().unwrap().resume
}

/// Times from the beginning of that connection, in each phase.
const IN_PHASES: [u64; 3] = [250, 350, 420];

fn begun() -> Duration {
    END + secs(1)
}

// spec: REC-15, REC-16, CHN-11
#[test]
fn a_receiver_that_moves_in_any_phase_is_begun_with_as_any() {
    for control in Congestion::ALL {
        for after in IN_PHASES {
            let moved = again(control, 1.0, &[(begun() + ms(after), Change::Moved)], |_| {});
            assert_eq!(state(&moved), ResumeState::Unknown, "{control}, {after} ms");
        }
    }
}

// spec: REC-16, REC-17
#[test]
fn a_blackout_in_any_phase_costs_no_more_than_without() {
    for control in Congestion::ALL {
        for after in IN_PHASES {
            let from = begun() + ms(after);
            let until = from + ms(300);
            let [without, with] = [false, true].map(|resumes| {
                again(control, 1.0, &[], |setup| {
                    setup.senders[0].resumes = resumes;
                    setup.blackouts.push(Blackout { from, until });
                })
            });
            assert!(with.overflowed <= without.overflowed + 10, "{control}, {after} ms");
            let [without, with] = [without, with].map(|report| report.flows[0].rate(until, until + secs(2)));
            assert!(
                with >= 0.9 * without,
                "{control}, {after} ms: {with} in place of {without}"
            );
        }
    }
}

// spec: REC-17
#[test]
fn a_path_that_has_become_far_slower_gets_no_more_than_the_jump() {
    let slower = Change::Rate(RATE / 100);
    // Half of what the wide path carried takes so long there.
    let jump = secs(5);
    for control in Congestion::ALL {
        for products in [0.1, 4.0] {
            let [without, with] = [false, true].map(|resumes| {
                again(control, products, &[(END + ms(500), slower)], |setup| {
                    setup.senders[0].resumes = resumes;
                    (setup.from, setup.until) = (begun(), END + secs(31));
                })
            });
            let name = format!("{control}, {products}: {with:?}, without {without:?}");
            assert!(with.overflowed <= without.overflowed * 3 / 2, "{name}");
            assert!(with.wait.1 <= without.wait.1 + jump, "{name}");
            assert!(with.flows[0].goodput >= 0.95 * without.flows[0].goodput, "{name}");
        }
    }
}
