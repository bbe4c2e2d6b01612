//! `sss`: files, trees and round trips between hosts that are named by their keys.

mod caller;
mod cli;
mod commands;
mod connector;
mod diagnosis;
#[cfg_attr(not(feature = "dns"), path = "dns_absent.rs")]
mod dns;
mod dry_run;
mod error;
mod given_ticket;
mod identity;
mod interrupt;
mod known_hosts;
mod listen;
#[cfg_attr(not(feature = "mdns"), path = "mdns_absent.rs")]
mod mdns;
mod network;
mod output;
mod place;
#[cfg_attr(not(feature = "port-mapping"), path = "port_mapping_absent.rs")]
mod port_mapping;
mod progress;
mod screen;
mod server_at;
mod servers;
#[cfg_attr(not(feature = "stun"), path = "stun_absent.rs")]
mod stun;
mod target;
mod ticket;
mod transfer;
mod trust;
#[cfg_attr(not(feature = "turn"), path = "turn_absent.rs")]
mod turn;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use commands::Command;
use error::{Error, Exit};
use output::Output;
use ticket::Ticket;

/// Gives memory back to the system that a crowd of peers has used, also where a few of them are left; the allocator of
/// glibc keeps what is between the pieces of those.
#[cfg(all(feature = "jemalloc", target_os = "linux", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const EXAMPLES: &str = "\
Examples:
  sss demo                         two hosts on this machine: all at a glance
  sss serve ~/photos               prints where and who it is: EID@IP:PORT
  sss get EID@192.0.2.7 photos     the whole tree; run again to resume
  sss ls EID@nas.example/2026
  sss put notes.txt EID@192.0.2.7  if served with --write
  sss ping 192.0.2.7:4433          who is there? asks before it trusts
  sss services EID@192.0.2.7       what does it offer?
  sss rendezvous                   lets hosts be found by their EIDs alone";

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
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_a_command(&error),
    };
    let output = output::Output::new(cli.json);
    start_tracing(cli.verbose);
    conclude(run(cli.command, output), output)
}

/// Tells how it ended.
fn conclude(result: Result<(), Error>, output: Output) -> ExitCode {
    // What cannot be told is more than what there was to tell.
    match output::failure().map_or(result, Err) {
        Ok(()) => Exit::Done.into(),
        Err(error) => {
            output.error(&error);
            error.exit.into()
        }
    }
}

/// Prints the help or the version that was asked for, or what is wrong with the command line.
fn not_a_command(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        output::note_printed(error.print());
        return conclude(Ok(()), Output::new(false));
    }
    let is_json = std::env::args_os().any(|arg| arg == "--json");
    if let Some(error) = turn::misplaced(&error.render().to_string(), std::env::args_os()) {
        return conclude(Err(error), Output::new(is_json));
    }
    if !is_json {
        let rendered = error.render();
        let text = if screen::has_colours() {
            rendered.ansi().to_string()
        } else {
            rendered.to_string()
        };
        let text = Ticket::hidden_in(&text);
        screen::error_text(&format!("{}\n", output::wrapped(&text, screen::error_width(), 2)));
        return Exit::Usage.into();
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        || error.kind() == ErrorKind::MissingSubcommand
    {
        let error = Error::new(Exit::Usage, "there is no command", "`sss --help` names them");
        return conclude(Err(error), Output::new(true));
    }
    let rendered = error.render().to_string();
    let paragraph = rendered.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = paragraph
        .split_whitespace()
        .skip_while(|word| *word == "error:")
        .collect();
    let error = Error::new(
        Exit::Usage,
        words.join(" "),
        "`sss --help` and `sss COMMAND --help` tell how it is written",
    );
    conclude(Err(error), Output::new(true))
}

/// Descriptors without which nothing works: standard streams, those of the runtime, a socket.
const LEAST_DESCRIPTORS: u64 = 8;

/// Does what the command line says. Work on other threads that nobody waits for any more, such as hashing after an
/// interruption, is abandoned.
fn run(command: Command, output: Output) -> Result<(), Error> {
    // The runtime would panic.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if limit.is_some_and(|limit| limit < LEAST_DESCRIPTORS) {
        return Err(Error::too_many_open());
    }
    let runtime = interrupt::start(command.next_after_interruption()).and_then(|()| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(transfer::io_pool::threads())
            .build()
    });
    let runtime = runtime.map_err(|error| {
        if error::is_out_of_descriptors(&error) {
            return Error::too_many_open();
        }
        let next = "free some memory or file descriptors";
        Error::new(Exit::Failed, format!("cannot start: {error}"), next)
    })?;
    let result = runtime.block_on(commands::run(command, Cli::command, output));
    runtime.shutdown_background();
    result
}

/// Logs to standard error: warnings, or more with each `-v`. What a resolver, or the reader of STUN and TURN, finds
/// wrong with packets, of which others may send as many as they like, is no warning.
fn start_tracing(verbose: u8) {
    let level = match verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    let of_packets = ["hickory_net", "hickory_proto", "hickory_resolver", "stun_types"];
    let shown = Targets::new().with_default(level);
    let shown = match verbose {
        0 => shown.with_targets(of_packets.map(|target| (target, LevelFilter::OFF))),
        _ => shown,
    };
    let log = tracing_subscriber::fmt::layer()
        .with_writer(|| screen::Log)
        .with_ansi(screen::has_colours());
    tracing_subscriber::registry().with(log.with_filter(shown)).init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Else the tip is how such a value is written, and not what is wrong with it.
    #[test]
    fn a_number_below_zero_is_a_value() {
        let numbers = ["N", "PORT", "RATE", "SECONDS", "SIZE"];
        let cli = Cli::command();
        let options = cli.get_subcommands().flat_map(|command| command.get_opts());
        let is_number = |arg: &&clap::Arg| {
            let names = arg.get_value_names().unwrap_or_default();
            names.iter().any(|name| numbers.contains(&name.as_str()))
        };
        let options: Vec<_> = options.filter(is_number).collect();
        assert!(options.len() > 20, "{}", options.len());
        for option in options {
            assert!(option.is_allow_hyphen_values_set(), "--{}", option.get_id());
        }
    }

    #[test]
    fn every_command_has_examples() {
        for command in Cli::command().get_subcommands().filter(|c| !c.is_hide_set()) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:"), "{}", command.get_name());
        }
    }

    #[test]
    fn examples_and_tables_fit_into_eighty_columns() {
        let cli = Cli::command();
        for command in cli.get_subcommands().chain([&cli]).filter(|c| !c.is_hide_set()) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
            }
        }
    }
}
