//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use sss::{Congestion, Eid};

use crate::error::Exit;
use crate::target::Target;

const EXAMPLES: &str = "\
Examples:
  sss demo                                   two hosts on this machine: everything at a glance
  sss serve ~/photos                         prints: listening EID@IP:PORT
  sss get EID@192.0.2.7:4433 photos          the whole tree; run again to resume
  sss ls EID@192.0.2.7:4433/2026
  sss put notes.txt EID@192.0.2.7:4433       if served with --write
  sss ping 192.0.2.7:4433                    who is there? asks before it trusts
  sss services EID@192.0.2.7:4433            what does it offer?";

/// Files, trees and round trips between hosts that are named by their keys.
#[derive(Debug, Parser)]
#[command(name = "sss", version, about, after_help = format!("{EXAMPLES}\n\n{}", Exit::TABLE), arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Print facts as JSON, one object per line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log to standard error: -v what happens, -vv how, -vvv everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Id(IdArgs),
    Serve(ServeArgs),
    Get(GetArgs),
    Put(PutArgs),
    Ls(LsArgs),
    Ping(PingArgs),
    Services(ServicesArgs),
    Demo(DemoArgs),
    #[command(hide = true)]
    DemoHost(DemoHostArgs),
}

/// Show the identity of this host, and create it if there is none
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss id                       the EID of this user on this machine
  sss id --new --file box.key  a new identity in a file of its own; use it with --identity box.key
The file holds the private key; only its owner can read it (mode 0600).")]
pub(crate) struct IdArgs {
    /// Create a new identity; refused if there is one already, unless --force is given
    #[arg(long)]
    pub(crate) new: bool,
    /// The file that holds it [default: `identity` in the user's configuration directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// With --new: replace the identity there is. Peers will take this host for another one
    #[arg(long, requires = "new")]
    pub(crate) force: bool,
}

/// Serve a directory to other hosts
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss serve ~/photos                              read only, to whoever knows the EID
  sss serve . --bind 0.0.0.0:4433 --write         others may put files
  sss serve . --allow sss1q... --allow sss1p...   only these hosts may connect at all

Prints `listening EID@IP:PORT` for each address at which it can be reached, and runs until it is stopped.
Also answers `sss ping` and `sss services`. Symbolic links are served as links and never followed.")]
pub(crate) struct ServeArgs {
    /// The directory
    pub(crate) dir: PathBuf,
    /// Address to listen at: IP:PORT; port 0 takes any free one [default: any free port of all addresses]
    #[arg(long, value_name = "ADDR")]
    pub(crate) bind: Option<String>,
    /// Let clients write below the directory
    #[arg(long)]
    pub(crate) write: bool,
    /// Let only this host connect (may be given several times)
    #[arg(long, value_name = "EID")]
    pub(crate) allow: Vec<Eid>,
    /// The file with this host's identity [default: as `sss id`]
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// Congestion control: cubic, or bbr for paths that lose packets by chance
    #[arg(long, value_name = "NAME", default_value_t)]
    pub(crate) congestion: Congestion,
}

/// Arguments that say who we are and whom we trust.
#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// Trust the host found at an address that is not known yet, and remember it
    #[arg(long)]
    pub(crate) trust: bool,
    /// The file of known hosts [default: `known_hosts` in the user's configuration directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) known_hosts: Option<PathBuf>,
    /// The file with this host's identity [default: as `sss id`]
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// Seconds to try to reach the peer
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) timeout: Duration,
    /// The local address to use: IP:PORT
    #[arg(long, value_name = "ADDR")]
    pub(crate) bind: Option<SocketAddr>,
    /// Congestion control: cubic, or bbr for paths that lose packets by chance
    #[arg(long, value_name = "NAME", default_value_t)]
    pub(crate) congestion: Congestion,
}

fn target() -> impl TypedValueParser<Value = Target> {
    OsStringValueParser::new().try_map(|text| Target::parse(&text))
}

/// Fetch a file or a tree
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss get EID@192.0.2.7:4433 photos           the whole served directory becomes ./photos
  sss get EID@192.0.2.7:4433/2026             the tree 2026 becomes ./2026
  sss get EID@192.0.2.7:4433/a/notes.txt /tmp the file becomes /tmp/notes.txt
  sss get 192.0.2.7:4433 photos --trust       without an EID: trust who is there, and remember

Every file is verified by BLAKE3 and appears under its name only when it is complete. Run the same command again to
resume: what is there already is kept, and a file that was interrupted goes on where it was.")]
pub(crate) struct GetArgs {
    /// Source: EID@IP:PORT[/PATH], or IP:PORT[/PATH] of a host that is known or to be trusted
    #[arg(value_name = "EID@IP:PORT[/PATH]", value_parser = target())]
    pub(crate) source: Target,
    /// Place to put it [default: the last name of PATH, or the current directory]
    pub(crate) dest: Option<PathBuf>,
    /// Replace files that are there and differ
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// Send a file or a tree
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss put notes.txt EID@192.0.2.7:4433        becomes notes.txt in the served directory
  sss put photos EID@192.0.2.7:4433/backup/   becomes backup/photos
  sss put photos EID@192.0.2.7:4433/pictures  becomes pictures
  sss put . EID@192.0.2.7:4433                what is in . is put into the served directory

The server must allow it (`sss serve --write`). Run the same command again to resume.")]
pub(crate) struct PutArgs {
    /// The file or directory to send
    #[arg(value_name = "SRC")]
    pub(crate) source: PathBuf,
    /// Destination: EID@IP:PORT[/PATH]
    #[arg(value_name = "EID@IP:PORT[/PATH]", value_parser = target())]
    pub(crate) dest: Target,
    /// Replace files that are there and differ
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// List what a host serves
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss ls EID@192.0.2.7:4433
  sss ls -r EID@192.0.2.7:4433/2026 --json")]
pub(crate) struct LsArgs {
    /// Directory or file to list: EID@IP:PORT[/PATH]
    #[arg(value_name = "EID@IP:PORT[/PATH]", value_parser = target())]
    pub(crate) target: Target,
    /// Everything below, too
    #[arg(short, long)]
    pub(crate) recursive: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// Measure round trips to a host
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss ping EID@192.0.2.7:4433 -c 100 -i 0.01
  sss ping 192.0.2.7:4433                     asks who is there, and whether to trust it
  sss ping 192.0.2.7:4433 --trust             says yes")]
pub(crate) struct PingArgs {
    /// The host: EID@IP:PORT, or IP:PORT to find out who is there
    #[arg(value_name = "EID@IP:PORT", value_parser = target())]
    pub(crate) target: Target,
    /// Number of round trips, each on a substream of its own
    #[arg(short, long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) count: u32,
    /// Time from the beginning of one to the beginning of the next, in seconds
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) interval: Duration,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// Show what services a host offers, and which protocols they speak
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss services EID@192.0.2.7:4433
  sss services 192.0.2.7:4433 --trust         without an EID: trust who is there, and remember
  sss services EID@192.0.2.7:4433 --json      one object per service

Any host that speaks SSS answers, to everybody whom it lets connect. It may have services that it does not list.")]
pub(crate) struct ServicesArgs {
    /// The host: EID@IP:PORT, or IP:PORT of a host that is known or to be trusted
    #[arg(value_name = "EID@IP:PORT", value_parser = target())]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// Show everything at once, on this machine: two hosts in two processes, files, calls, the tree, the facts
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss demo
  sss demo --json --seed 7

Needs no configuration and no network. Ends with `ok`, or says what failed and exits with another code than 0.")]
pub(crate) struct DemoArgs {
    /// Seed of the generated files
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) seed: u64,
    /// Number of calls, each on a substream of its own
    #[arg(long, value_name = "N", default_value = "20000", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) calls: u32,
}

/// The second host of the demo
#[derive(Debug, Args)]
pub(crate) struct DemoHostArgs {
    /// The directory to serve
    pub(crate) dir: PathBuf,
}

/// A number of seconds, with a fraction if need be.
fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a number of seconds, such as 1 or 0.25");
    let number: f64 = text.parse().map_err(|_| wrong())?;
    let duration = Duration::try_from_secs_f64(number).map_err(|_| wrong())?;
    if duration > Duration::from_secs(86_400 * 365) {
        return Err("that is longer than a year".to_owned());
    }
    Ok(duration)
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
    fn seconds_may_have_fractions() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for bad in ["", "x", "-1", "inf", "NaN", "1e30"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_command_has_examples() {
        for command in Cli::command().get_subcommands().filter(|c| !c.is_hide_set()) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:"), "{}", command.get_name());
        }
    }
}
