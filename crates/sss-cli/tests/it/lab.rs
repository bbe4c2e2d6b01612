//! The tool behind real NATs, of network namespaces. It needs root, iproute2, nftables and TUN devices.

use std::path::Path;
use std::sync::Mutex;

use sss_lab::check::{PAIRED, get_through};

use world::{Failure, Outcome, World};

#[cfg(feature = "mdns")]
mod avahi;
#[cfg(feature = "tls")]
mod blocked;
mod capture;
mod cut_off;
#[cfg(feature = "mdns")]
mod lan;
#[cfg(feature = "port-mapping")]
mod mapped;
mod observed;
mod pair;
#[cfg(feature = "port-mapping")]
mod pinholes;
#[cfg(feature = "port-mapping")]
mod routers;
pub(crate) mod running;
mod sprayed;
#[cfg(feature = "stun")]
mod stun;
mod suspended;
mod thirds;
mod translated;
#[cfg(feature = "turn")]
mod turned;
pub(crate) mod world;

/// Says loudly that nothing was tested where no lab can be made.
fn unless_skipped<T>(world: Result<T, Failure>) -> Option<T> {
    match world {
        Ok(world) => Some(world),
        Err(error) if error.downcast_ref().is_some_and(sss_lab::Error::is_missing) => {
            eprintln!("SKIPPED: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

// spec: RCH-15, RCH-17
#[test]
fn hosts_behind_every_pair_of_kinds_of_nats_reach_each_other() {
    let world = World::start(Path::new(env!("CARGO_BIN_EXE_sss")), &[], PAIRED[0]);
    let Some(mut world) = unless_skipped(world) else {
        return;
    };
    let wrong = Mutex::new(Vec::new());
    // Each host calls one after another, since a server introduces a pair a few times a second at most.
    std::thread::scope(|scope| {
        for one in PAIRED {
            let (world, wrong) = (&world, &wrong);
            scope.spawn(move || {
                for other in PAIRED {
                    let what = |outcome: &Result<Outcome, Failure>| {
                        let told = match outcome {
                            Ok(told) => format!("{:?} after {:?}, {:.1} ms", told.routes, told.connected, told.median),
                            Err(error) => error.to_string(),
                        };
                        format!("{} x {}: {told}", one.name(), other.name())
                    };
                    // What begins on the relay is direct in the end where plain packets get through.
                    let is_right = |outcome: &Result<Outcome, Failure>| {
                        let ends = outcome.as_ref().map(|outcome| &outcome.routes[1][..]);
                        matches!(ends, Ok("direct")) || matches!(ends, Ok("relay")) && !get_through(one, other)
                    };
                    let mut outcome = world.call(one, other, 8);
                    if !is_right(&outcome) {
                        println!("again, with more time: {}", what(&outcome));
                        outcome = world.call(one, other, 80);
                    }
                    println!("{}", what(&outcome));
                    if !is_right(&outcome) {
                        wrong.lock().unwrap().push(what(&outcome));
                    }
                }
            });
        }
    });
    assert!(world.is_up());
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
