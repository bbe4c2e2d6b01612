//! What links do to datagrams must not show.

use std::task::Poll;
use std::time::Duration;

use sss_proto::{Config, Event, Interest};
use sss_sim::bulk::{self, BulkConfig};
use sss_sim::{Apps, Blackout, Burst, HostIndex, LinkConfig, World};

use crate::support::{A, B, Echo, SERVICE, duo, duo_with, ms, secs};

fn lossy() -> LinkConfig {
    LinkConfig {
        delay: ms(50),
        loss: 0.05,
        reorder: 0.02,
        duplicate: 0.01,
        corrupt: 0.005,
        ..LinkConfig::default()
    }
}

// spec: STR-11, PRT-5
#[test]
fn all_transfers_are_exact_over_a_bad_link() {
    let mut world = duo(11, &lossy());
    let mut echo = Echo::start(&mut world, 200_000);
    for i in 0..10 {
        let (from, to) = if i % 2 == 0 { (A, B) } else { (B, A) };
        echo.open(&mut world, from, to);
    }
    echo.run_until_complete(&mut world, 20, secs(300));
    assert_eq!(echo.lost, []);
}

#[test]
fn many_small_streams_are_exact_over_a_bad_link() {
    let mut world = duo(12, &lossy());
    let mut echo = Echo::start(&mut world, 100);
    for _ in 0..400 {
        echo.open(&mut world, A, B);
    }
    echo.run_until_complete(&mut world, 800, secs(120));
    assert_eq!(echo.lost, []);
}

#[test]
fn bursts_of_loss_are_survived() {
    let burst = Burst {
        enter: 0.02,
        leave: 0.2,
        loss: 1.0,
    };
    let link = LinkConfig {
        burst: Some(burst),
        ..LinkConfig::with_delay(ms(20))
    };
    let mut world = duo(13, &link);
    let mut echo = Echo::start(&mut world, 300_000);
    echo.open(&mut world, A, B);
    echo.run_until_complete(&mut world, 2, secs(300));
}

#[test]
fn a_blackout_shorter_than_the_idle_timeout_is_survived() {
    for seconds in [1, 5, 20] {
        let dark = Blackout {
            from: ms(300),
            until: ms(300) + secs(seconds),
        };
        let link = LinkConfig {
            rate: Some(5_000_000),
            blackouts: vec![dark],
            ..LinkConfig::with_delay(ms(20))
        };
        let mut world = duo(14 + seconds, &link);
        let mut echo = Echo::start(&mut world, 500_000);
        echo.open(&mut world, A, B);
        world.run_until(dark.until, &mut echo);
        assert!(echo.complete() < 2);
        // The next probe comes at most as long after the blackout as it lasted.
        echo.run_until_complete(&mut world, 2, dark.until + secs(seconds + 10));
        assert_eq!(echo.lost, []);
    }
}

// spec: CHN-2, MIG-14
#[test]
fn without_linger_a_dead_link_ends_the_streams_with_idle_on_both_sides() {
    let config = || Config::default().with(|c| c.linger = Duration::ZERO);
    let mut world = duo_with(15, &LinkConfig::with_delay(ms(20)), config(), config());
    let mut echo = Echo::start(&mut world, 1000);
    echo.open(&mut world, A, B);
    echo.run_until_complete(&mut world, 2, secs(10));
    let dark = Blackout {
        from: world.elapsed(),
        until: secs(100_000),
    };
    let dead = LinkConfig {
        blackouts: vec![dark],
        ..LinkConfig::default()
    };
    world.join(A, B, &dead);
    world.run_for(secs(200), &mut echo);
    let mut hosts: Vec<_> = echo.lost.iter().map(|(host, _)| *host).collect();
    hosts.sort();
    assert_eq!(hosts, [A, B]);
    assert!(
        echo.lost
            .iter()
            .all(|(_, reason)| matches!(reason, sss_proto::CloseReason::Idle(_)))
    );
}

// spec: CHN-3
#[test]
fn keepalive_holds_a_channel_with_open_streams() {
    let mut world = duo(16, &LinkConfig::with_delay(ms(20)));
    let mut echo = Echo::start(&mut world, 1000);
    echo.open(&mut world, A, B);
    echo.run_until_complete(&mut world, 2, secs(10));
    world.run_for(secs(600), &mut echo);
    assert_eq!(echo.lost, []);
    // Without streams nobody keeps it.
    echo.release_all(&mut world);
    world.run_for(secs(200), &mut echo);
    assert!(world.host(A).is_idle() && world.host(B).is_idle());
}

#[test]
fn small_and_large_path_mtus_work() {
    for mtu in [1232, 1233, 1300, 1472, 2000, 9000, 65_507] {
        let link = LinkConfig {
            mtu,
            rate: Some(50_000_000),
            ..LinkConfig::with_delay(ms(10))
        };
        let mut world = duo(17, &link);
        let mut echo = Echo::start(&mut world, 2_000_000);
        let stream = echo.open(&mut world, A, B);
        echo.run_until_complete(&mut world, 2, secs(60));
        let found = world.host(A).channel_info(stream.peer()).unwrap().mtu;
        assert!(usize::from(found) <= mtu, "{found} > {mtu}");
        let worth = mtu.min(1472) * 9 / 10;
        assert!(usize::from(found) >= worth.max(1232), "{found} of {mtu}");
    }
}

// spec: CHN-9
#[test]
fn a_path_that_shrinks_is_a_black_hole_only_for_a_while() {
    let wide = LinkConfig {
        mtu: 9000,
        rate: Some(50_000_000),
        ..LinkConfig::with_delay(ms(10))
    };
    let mut world = duo(18, &wide);
    let mut echo = Echo::start(&mut world, 8_000_000);
    echo.open(&mut world, A, B);
    world.run_until(ms(1500), &mut echo);
    world.join(A, B, &LinkConfig { mtu: 1300, ..wide });
    echo.run_until_complete(&mut world, 2, secs(120));
    assert_eq!(echo.lost, []);
}

/// Opens substreams of one stream and lets go of them, again and again.
struct Turnover {
    parent: sss_proto::StreamId,
    rounds: u32,
    most: usize,
}

impl Apps for Turnover {
    fn on_event(&mut self, world: &mut World, host: HostIndex, event: Event) {
        let accept = |world: &mut World, parent| {
            while let Poll::Ready(Ok(Some(child))) = world.call(host, |h, _| h.stream(parent).poll_accept_substream()) {
                world.call(host, |h, _| h.stream(child).release());
            }
        };
        match event {
            Event::Acceptable(listener) => {
                while let Some((stream, _)) = world.call(host, |h, _| h.accept(listener)) {
                    accept(world, stream);
                }
            }
            Event::Ready(parent, Interest::Accept) => accept(world, parent),
            _ => {}
        }
    }

    fn on_timer(&mut self, world: &mut World, host: HostIndex, _: u64) {
        for _ in 0..20 {
            let parent = self.parent;
            let child = world.call(host, |h, _| h.stream(parent).open_substream()).unwrap();
            let _ = world.write(host, child, b"some bytes").unwrap();
            world.call(host, |h, _| h.stream(child).finish()).unwrap();
            world.call(host, |h, _| h.stream(child).release());
        }
        self.most = self.most.max(world.host(host).stream_count(parent_peer(self)));
        self.rounds -= 1;
        if self.rounds > 0 {
            world.set_timer(host, ms(20), 0);
        }
    }
}

fn parent_peer(turnover: &Turnover) -> sss_proto::PeerId {
    turnover.parent.peer()
}

// spec: STR-16
#[test]
fn streams_let_go_of_leave_nothing_behind() {
    let mut world = duo(
        19,
        &LinkConfig {
            loss: 0.02,
            ..LinkConfig::with_delay(ms(10))
        },
    );
    let listener = world.call(B, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
    assert!(world.call(B, |h, _| h.accept(listener)).is_none());
    let parent = world.connect(A, B, SERVICE);
    let mut turnover = Turnover {
        parent,
        rounds: 500,
        most: 0,
    };
    world.set_timer(A, Duration::ZERO, 0);
    world.run_until(secs(60), &mut turnover);
    assert_eq!(turnover.rounds, 0);
    assert!(turnover.most < 2000, "{} streams at once", turnover.most);
    assert_eq!(world.host(A).stream_count(parent.peer()), 1);
    let (peer, _) = world.host(B).peers()[0];
    assert_eq!(world.host(B).stream_count(peer), 1);
}

#[test]
fn bulk_uses_the_bottleneck() {
    let config = BulkConfig {
        time: secs(10),
        ..BulkConfig::default()
    };
    let report = bulk::run(&config).unwrap();
    let share = report.steady_goodput / config.rate as f64;
    assert!((0.85..=1.0).contains(&share), "{report}");
}

#[test]
fn bulk_survives_loss() {
    let config = BulkConfig {
        loss: 0.01,
        time: secs(10),
        ..BulkConfig::default()
    };
    let report = bulk::run(&config).unwrap();
    // CUBIC is limited by loss here, to about 1.2 / sqrt(p) datagrams a round trip or more.
    assert!(report.steady_goodput > 1.5e6, "{report}");
}
