//! Hosts that are suspended while they or their peers move, as laptops are: time goes on, and they do not run.

use std::net::SocketAddr;
use std::time::Duration;

use sss_proto::Config;
use sss_sim::{HostIndex, LinkConfig, World};

use crate::support::{A, B, Echo, duo_with, ms, secs};

const GOAL: u64 = 3_000_000;

fn link() -> LinkConfig {
    LinkConfig {
        rate: Some(20_000_000),
        queue: 200_000,
        ..LinkConfig::with_delay(ms(25))
    }
}

/// A case: who has moved, who wakes first, and by how much.
#[derive(Clone, Copy, Debug)]
struct Night {
    seed: u64,
    asleep: Duration,
    sleepers: &'static [HostIndex],
    moved: &'static [HostIndex],
    /// Who wakes first, if both slept, and how much earlier than the other.
    first: (HostIndex, Duration),
}

/// The host finds itself at another address.
fn relocate(world: &mut World, host: HostIndex) {
    let address = SocketAddr::from(([203, 0, 113, host.0 as u8], 9000));
    world.rebind(host, address);
    world.call(host, |h, now| h.network_changed(now, |_, _| true));
}

/// The longest time for which nothing was read since a moment, until all was there.
fn longest_pause(world: &mut World, echo: &mut Echo, night: Night) -> Duration {
    let since = world.elapsed();
    let (mut last, mut longest) = (since, Duration::ZERO);
    while echo.progress.0 < 4 * GOAL {
        let (read, when) = echo.progress;
        let goes_on = world.step(since + secs(60), echo);
        assert!(
            goes_on,
            "{read} bytes until {when:?}, awake at {since:?}: {night:?}, {:?}",
            echo.lost
        );
        if echo.progress.1 > last {
            longest = longest.max(echo.progress.1 - last);
            last = echo.progress.1;
        }
    }
    longest
}

/// Returns for how long nothing was read once all are awake, at most.
fn pause_after(night: Night) -> Duration {
    let mut world = duo_with(night.seed, &link(), Config::default(), Config::default());
    let mut echo = Echo::start(&mut world, GOAL);
    echo.open(&mut world, A, B);
    echo.open(&mut world, B, A);
    world.run_until(ms(1000 + 7 * (night.seed % 50)), &mut echo);
    night.sleepers.iter().for_each(|host| world.suspend(*host));
    world.run_for(night.asleep, &mut echo);
    let mut order: Vec<_> = night.sleepers.to_vec();
    order.sort_by_key(|host| *host != night.first.0);
    for (n, host) in order.into_iter().enumerate() {
        if n > 0 {
            world.run_for(night.first.1, &mut echo);
        }
        // The network of the night before is gone, and nothing has come since.
        world.resume(host);
        if night.moved.contains(&host) {
            relocate(&mut world, host);
        }
    }
    if night.moved.len() == 2 {
        // A server tells each where the other one is.
        for (host, peer) in [(A, B), (B, A)] {
            let (eid, address) = (world.eid(peer), world.address(peer));
            world.call(host, |h, now| h.note_open(now, &eid, address.into()));
        }
    }
    let pause = longest_pause(&mut world, &mut echo, night);
    assert_eq!(echo.lost, [], "{night:?}");
    pause
}

/// The nights of hosts of which both sleep, or one, and of which any may have moved when it wakes.
fn nights() -> Vec<Night> {
    let mut nights = Vec::new();
    for asleep in [10, 30, 59, 61, 75, 90] {
        for (sleepers, moved) in [
            (&[A][..], &[A][..]),
            (&[B], &[B]),
            (&[A], &[]),
            (&[B], &[]),
            (&[A, B], &[]),
            (&[A, B], &[A]),
            (&[A, B], &[B]),
            (&[A, B], &[A, B]),
        ] {
            for first in [(A, 0), (A, 40), (B, 40), (A, 1700), (B, 1700)] {
                let seed = 9000 + nights.len() as u64;
                nights.push(Night {
                    seed,
                    asleep: secs(asleep) + ms(seed % 997),
                    sleepers,
                    moved,
                    first: (first.0, ms(first.1)),
                });
            }
        }
    }
    nights
}

// spec: MIG-11, MIG-12, MIG-13, REC-1
#[test]
fn transfers_go_on_when_hosts_were_suspended_while_they_moved() {
    let worst = nights().into_iter().map(pause_after).max().unwrap_or_default();
    println!("nothing was read for {worst:?} at most");
    assert!(worst <= secs(2), "{worst:?}");
}
