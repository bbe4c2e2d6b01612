//! Labs in real network namespaces. They need root, iproute2, nftables and TUN devices, and are skipped without.
#![cfg(target_os = "linux")]

mod behaviour;
mod changes;
mod cleanup;
mod links;

use sss_lab::{Builder, Lab};

/// Makes a lab; says loudly that a test is skipped where none can be made.
fn lab_or_skip(lab: Builder) -> Option<Lab> {
    match lab.build() {
        Ok(lab) => Some(lab),
        Err(error) if error.is_missing() => {
            eprintln!("SKIPPED: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Gives what was measured; says loudly that a test is skipped where nothing can be.
fn unless_skipped<T>(outcome: Result<T, sss_lab::Error>) -> Option<T> {
    match outcome {
        Ok(outcome) => Some(outcome),
        Err(error) if error.is_missing() => {
            eprintln!("SKIPPED: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}
