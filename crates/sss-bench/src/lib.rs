//! Measures `libsss` and its peers on this machine, side by side.
//!
//! Client and server are two processes of this same program; `compare` starts them, asks both what they used, and
//! visits the backends in turn (A B C A B C ..), so that a machine whose speed drifts does so for all of them.
//!
//! A program is a table of [`Backend`]s. [`PROGRAM`] has those that this workspace depends on; a program elsewhere puts
//! more of them behind these, each an implementation of [`Transport`], and is measured in the same way.

mod backend;
mod backends;
mod child;
mod cli;
mod colours;
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
pub mod tls;
mod transport;
mod tree_shape;
pub mod tuning;
mod usage;
mod waits;
mod workloads;

use std::process::ExitCode;

pub use backend::{Backend, Program};
pub use backends::BACKENDS;
pub use outcome::{Failure, Outcome};
pub use setup::{Address, MTU, REQUEST, Settings, Setup, Workload};
pub use transport::{Connection, Dialer, Listener, Stream, Transport};

/// The program of this crate.
pub const PROGRAM: Program = Program {
    name: "sss-bench",
    backends: BACKENDS,
    lock: include_str!("../../../Cargo.lock"),
};

/// Does what the command line of a program asks for.
#[must_use]
pub fn run(program: &Program) -> ExitCode {
    let cli = cli::Cli::read(program, std::env::args_os()).unwrap_or_else(|error| error.exit());
    let result = match cli.command {
        cli::Command::Compare(options) => compare::run(program, &options),
        cli::Command::Prioritisation(options) => prioritisation::run(&options).map(|()| true),
        #[cfg(target_os = "linux")]
        cli::Command::Links(options) => links::run(&options).map(|()| true),
        cli::Command::Million(options) => million::run(&options).map(|()| true),
        cli::Command::Waits(options) => waits::run(&options).map(|()| true),
        cli::Command::Serve => child::serve(program.backends).map(|()| true),
        cli::Command::Client => child::client(program.backends).map(|()| true),
        cli::Command::Hold => million::hold().map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("{}: {failure}", program.name);
            ExitCode::FAILURE
        }
    }
}
