//! The commands, one file each.

mod access_log;
mod calls;
mod demo;
mod doctor;
mod get;
mod id;
mod ls;
mod metrics;
mod package;
mod ping;
mod put;
mod qr;
mod relay_check;
mod rendezvous;
mod routes;
mod search;
mod secret_file;
mod serve;
mod services;
mod ticket;

use std::os::fd::AsFd;

use clap::Subcommand;
use rustix::fs::OFlags;

use crate::error::{Error, Exit};
use crate::output::Output;
use crate::transfer::tally::Tally;

/// A command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Id(id::IdArgs),
    Serve(serve::ServeArgs),
    Get(get::GetArgs),
    Put(put::PutArgs),
    Ls(ls::LsArgs),
    Ping(ping::PingArgs),
    Services(services::ServicesArgs),
    Search(search::SearchArgs),
    Doctor(Box<doctor::DoctorArgs>),
    Ticket(ticket::TicketArgs),
    Rendezvous(rendezvous::RendezvousArgs),
    Demo(demo::DemoArgs),
    Completions(package::CompletionsArgs),
    Man(package::ManArgs),
    #[command(hide = true)]
    DemoHost(demo::DemoHostArgs),
}

impl Command {
    /// Advises what to do after an interruption.
    pub(crate) fn next_after_interruption(&self) -> &'static str {
        match self {
            Self::Get(_) | Self::Put(_) => "run the same command again: it goes on where it was",
            _ => "run the same command again",
        }
    }
}

/// Does what the command says. `program` describes the whole command line.
pub(crate) async fn run(command: Command, program: fn() -> clap::Command, output: Output) -> Result<(), Error> {
    match command {
        Command::Id(args) => id::run(&args, output),
        Command::Serve(args) => serve::run(args, output).await,
        Command::Get(args) => get::run(args, output).await,
        Command::Put(args) => put::run(args, output).await,
        Command::Ls(args) => ls::run(args, output).await,
        Command::Ping(args) => ping::run(args, output).await,
        Command::Services(args) => services::run(args, output).await,
        Command::Doctor(args) => doctor::run(*args, output).await,
        Command::Search(args) => search::run(args, output).await,
        Command::Ticket(args) => ticket::run(args, output).await,
        Command::Rendezvous(args) => rendezvous::run(args, output).await,
        Command::Completions(args) => package::completions(&args, &program()),
        Command::Man(args) => package::man(&args, program()),
        Command::Demo(args) => demo::run(args, output).await,
        Command::DemoHost(args) => demo::host(args, output).await,
    }
}

/// Returns whether a standard stream was closed when the program began. The runtime of the language has put `/dev/null`
/// there then, to be read and written, which nobody else does.
fn is_closed(stream: impl AsFd) -> bool {
    let is_null = || -> rustix::io::Result<bool> {
        let (there, null) = (rustix::fs::fstat(&stream)?, rustix::fs::stat("/dev/null")?);
        let is_both = rustix::fs::fcntl_getfl(&stream)?.contains(OFlags::RDWR);
        Ok(there.st_rdev == null.st_rdev && there.st_mode == null.st_mode && is_both)
    };
    is_null().unwrap_or(true)
}

/// Verdict on a transfer that came to its end.
fn verdict(tally: &Tally) -> Result<(), Error> {
    let failed = tally.failed();
    if failed == 0 {
        return Ok(());
    }
    let exit = if tally.corrupt() { Exit::Corrupt } else { Exit::Failed };
    let what = match failed {
        1 => "1 of the files, directories or links was not transferred".to_owned(),
        _ => format!("{failed} of the files, directories or links were not transferred"),
    };
    Err(Error::new(
        exit,
        what,
        "see the messages above; when that is mended, the same command again transfers what is missing",
    ))
}
