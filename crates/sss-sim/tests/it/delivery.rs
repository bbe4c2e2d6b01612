//! Datagrams with a deadline: which arrive, and never late.

use std::time::Duration;

use bytes::Bytes;
use sss_proto::{Config, Congestion, DatagramFate, DatagramOptions, Event};
use sss_sim::LinkConfig;
use sss_sim::delivery::{self, Report, Setup};
use sss_sim::world::Recorder;

use crate::support::{A, B, SERVICE, duo_with, ms, secs};

const KIB: usize = 1 << 10;

fn run(setup: &Setup) -> Report {
    let report = delivery::run(setup).unwrap_or_else(|what| panic!("{what}: {setup:?}"));
    println!("{report}");
    report
}

// spec: STR-32, STR-35
#[test]
fn without_loss_all_sizes_arrive_in_time() {
    for size in [16, KIB, 16 * KIB, 128 * KIB, 1 << 20] {
        let setup = Setup {
            count: 40,
            ..Setup::standard(1, 0.0, size)
        };
        let report = run(&setup);
        assert_eq!((report.delivered, report.late, report.expired), (40, 0, 0));
    }
}

// spec: STR-32, STR-33
#[test]
fn small_ones_arrive_at_any_loss_that_congestion_control_can_bear() {
    for (loss, size) in [
        (0.01, 16),
        (0.05, 16),
        (0.2, 16),
        (0.01, KIB),
        (0.05, KIB),
        (0.01, 16 * KIB),
    ] {
        for seed in 1..6 {
            let report = run(&Setup::standard(seed, loss, size));
            assert!(report.delivery() >= 0.99, "{}", report.delivery());
            assert_eq!(report.late, 0);
            if loss == 0.05 {
                assert!(
                    report.stats.sent_as_stream > report.stats.sent_stateless,
                    "{:?}",
                    report.stats
                );
            }
        }
    }
}

// spec: STR-32, STR-35, REC-9
#[test]
fn with_bbr_all_sizes_arrive_in_time_at_five_percent_loss() {
    for size in [16, KIB, 16 * KIB, 128 * KIB, 1 << 20] {
        for seed in 1..6 {
            let setup = Setup {
                congestion: Congestion::Bbr,
                ..Setup::standard(seed, 0.05, size)
            };
            let report = run(&setup);
            assert!(
                report.delivery() >= 0.99,
                "seed {seed}, size {size}: {}",
                report.delivery()
            );
            assert_eq!(report.late, 0);
        }
    }
}

// spec: STR-35
#[test]
fn none_is_late_when_the_window_is_too_small() {
    for (loss, size) in [
        (0.01, 128 * KIB),
        (0.05, 16 * KIB),
        (0.05, 1 << 20),
        (0.2, KIB),
        (0.2, 128 * KIB),
    ] {
        let setup = Setup {
            count: 100,
            ..Setup::standard(1, loss, size)
        };
        let report = run(&setup);
        assert_eq!(report.late, 0);
    }
}

/// Datagrams beside a transfer that fills the queue: none is late, whether or not it can be in time.
fn beside_bulk(congestion: Congestion, paths: &[(u64, u64, usize)], losses: &[f64]) {
    for (rate, deadline, size) in paths {
        for loss in losses {
            let setup = Setup {
                congestion,
                rate: rate * 1_000_000,
                deadline: ms(*deadline),
                bulk: true,
                count: 100,
                ..Setup::standard(1, *loss, *size)
            };
            let report = run(&setup);
            assert_eq!(report.late, 0);
            assert!(report.delivered > 0);
        }
    }
}

// spec: STR-35
#[test]
fn a_round_trip_that_became_short_is_noticed_though_nothing_else_is_sent() {
    let quiet = || Config::default().with(|c| c.keepalive = secs(60));
    let mut world = duo_with(790, &LinkConfig::with_delay(ms(600)), quiet(), quiet());
    let mut seen = Recorder::default();
    world.call(B, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
    let stream = world.connect(A, B, SERVICE);
    world.run_for(secs(20), &mut seen);
    world.join(A, B, &LinkConfig::with_delay(ms(25)));
    let options = DatagramOptions::default().with(|o| {
        o.deadline = Some(ms(500));
        o.tracked = true;
    });
    for _ in 0..100 {
        let data = Bytes::from_static(b"now");
        let id = world.call(A, |h, now| h.stream(stream).send_datagram(now, &data, &options));
        assert!(id.unwrap().is_some());
        world.run_for(ms(50), &mut seen);
    }
    let fates: Vec<_> = seen
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::DatagramSettled(_, _, fate) => Some(*fate),
            _ => None,
        })
        .collect();
    assert_eq!(fates.first(), Some(&DatagramFate::Expired), "as far as was known");
    let late = &fates[fates.len() - 50..];
    assert!(late.iter().all(|f| *f == DatagramFate::Delivered), "{late:?}");
}

const BESIDE_BULK: [(u64, u64, usize); 3] = [(5, 150, 16 * KIB), (20, 200, 16 * KIB), (20, 300, 128 * KIB)];

// spec: STR-35
#[test]
fn beside_a_bulk_transfer_the_queue_is_allowed_for() {
    beside_bulk(Congestion::Cubic, &BESIDE_BULK, &[0.0, 0.001]);
}

// spec: STR-35, REC-11
#[test]
fn beside_a_bulk_transfer_probing_is_allowed_for() {
    beside_bulk(Congestion::Bbr, &BESIDE_BULK, &[0.0, 0.001]);
    beside_bulk(Congestion::Bbr, &[(20, 200, 128 * KIB)], &[0.0, 0.05]);
}

// spec: STR-35
#[test]
fn where_hardly_one_can_be_in_time_none_is_late() {
    for seed in 1..3 {
        let setup = Setup {
            rate: 20_000_000,
            deadline: ms(200),
            bulk: true,
            ..Setup::standard(seed, 0.0, 128 * KIB)
        };
        assert_eq!(run(&setup).late, 0);
    }
}

/// Ten seconds of a video of 14.4 Mbit/s, on a path of 20 Mbit/s of 50 ms: a frame is of use for 150.
fn video(seed: u64, congestion: Congestion, loss: f64) -> Report {
    run(&Setup {
        congestion,
        rate: 20_000_000,
        rtt: ms(50),
        count: 601,
        interval: Duration::from_micros(16_667),
        deadline: ms(150),
        ..Setup::standard(seed, loss, 30_000)
    })
}

// spec: STR-78, STR-79
#[test]
fn frames_of_a_video_are_in_time_and_none_is_late() {
    for (congestion, loss) in [
        (Congestion::Cubic, 0.0),
        (Congestion::Bbr, 0.0),
        (Congestion::Bbr, 0.01),
    ] {
        for seed in 1..4 {
            let report = video(seed, congestion, loss);
            assert!(report.delivery() >= 0.98, "{}", report.delivery());
            assert_eq!(report.late, 0);
            // They follow one another: each has the whole path for itself.
            assert!(report.latency(1.0) < ms(130), "{:?}", report.latency(1.0));
        }
    }
}

// spec: STR-78, STR-79
#[test]
fn a_video_of_which_the_window_bears_a_part_arrives_in_whole_frames() {
    let (mut frames, mut whole) = (0, 0);
    for seed in 1..6 {
        let report = video(seed, Congestion::Cubic, 0.01);
        assert_eq!(report.late, 0);
        frames += report.channel.map_or(0, |channel| channel.bytes_delivered) / 30_000;
        whole += u64::from(report.delivered);
    }
    // What else was carried are parts of frames of which a packet was lost too late.
    assert!(whole * 2 > frames, "{whole} of {frames}");
}
