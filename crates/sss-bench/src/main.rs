//! `sss-bench`: measures `libsss` and its peers on this machine, side by side.
//!
//! Client and server are two processes of this same program; [`compare`] starts them, asks both what they used, and
//! visits the backends in turn (A B C A B C ..), so that a machine whose speed drifts does so for all of them.

mod backends;
mod child;
mod cli;
mod compare;
mod control;
mod link;
#[cfg(target_os = "linux")]
mod links;
mod million;
mod outcome;
mod prioritisation;
mod process;
mod report;
mod serve;
mod setup;
mod stats;
mod transport;
mod tree_shape;
mod usage;
mod waits;
mod workloads;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let result = match cli::Cli::parse().command {
        cli::Command::Compare(options) => compare::run(&options),
        cli::Command::Prioritisation(options) => prioritisation::run(&options).map(|()| true),
        #[cfg(target_os = "linux")]
        cli::Command::Links(options) => links::run(&options).map(|()| true),
        cli::Command::Million(options) => million::run(&options).map(|()| true),
        cli::Command::Waits(options) => waits::run(&options).map(|()| true),
        cli::Command::Serve => child::serve().map(|()| true),
        cli::Command::Client => child::client().map(|()| true),
        cli::Command::Hold => million::hold().map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("sss-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}
