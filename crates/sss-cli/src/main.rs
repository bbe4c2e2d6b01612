//! `sss`: files, trees and round trips between hosts that are named by their keys.

mod cli;
mod commands;
mod connector;
mod error;
mod identity;
mod known_hosts;
mod output;
mod progress;
mod target;
mod transfer;

use std::process::ExitCode;

use clap::Parser;

use cli::Cli;
use error::Exit;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = output::Output::new(cli.json);
    start_tracing(cli.verbose);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(transfer::io_pool::threads())
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(commands::run(cli, output)),
        Err(error) => Err(error::Error::new(
            Exit::Failed,
            format!("cannot start: {error}"),
            "free some memory or file descriptors",
        )),
    };
    match result {
        Ok(()) => Exit::Done.into(),
        Err(error) => {
            output.error(&error);
            error.exit.into()
        }
    }
}

/// Logs to standard error: warnings, or more with each `-v`.
fn start_tracing(verbose: u8) {
    let level = match verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .init();
}
