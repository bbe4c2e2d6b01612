//! `sss`: files, trees and round trips between hosts that are named by their keys.

mod cli;
mod commands;
mod connector;
mod error;
mod identity;
mod known_hosts;
mod listen;
mod output;
mod place;
mod progress;
mod target;
mod ticket;
mod transfer;
mod trust;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use commands::Command;
use error::Exit;

const EXAMPLES: &str = "\
Examples:
  sss demo                                   two hosts on this machine: everything at a glance
  sss serve ~/photos                         prints where and who it is: EID@IP:PORT
  sss get EID@192.0.2.7 photos               the whole tree; run again to resume
  sss ls EID@nas.example/2026
  sss put notes.txt EID@192.0.2.7            if served with --write
  sss ping 192.0.2.7:4433                    who is there? asks before it trusts
  sss services EID@192.0.2.7                 what does it offer?";

/// Files, trees and round trips between hosts that are named by their keys.
#[derive(Debug, Parser)]
#[command(name = "sss", version, about, after_help = format!("{EXAMPLES}\n\n{}", Exit::TABLE), arg_required_else_help = true)]
struct Cli {
    /// Print facts as JSON, one object per line
    #[arg(long, global = true)]
    json: bool,
    /// Log to standard error: -v what happens, -vv how, -vvv everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = output::Output::new(cli.json);
    start_tracing(cli.verbose);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(transfer::io_pool::threads())
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(commands::run(cli.command, Cli::command, output)),
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        for command in Cli::command().get_subcommands().filter(|c| !c.is_hide_set()) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:"), "{}", command.get_name());
        }
    }
}
