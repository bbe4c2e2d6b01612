//! Fixed pieces of work between two hosts, to count the instructions of.
//!
//! Each does the same, however fast the core does it: so many bytes, calls, trees, messages or moves. What the
//! applications do is in `work/talk.rs`; a workload says which streams there are and what comes next.

mod messages;
mod streams;
mod talk;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sss_proto::Config;

use crate::link::LinkConfig;
use crate::world::{Apps, HostIndex, World};

const CLIENT: HostIndex = HostIndex(0);
const SERVER: HostIndex = HostIndex(1);
const SERVICE: (&str, &str) = ("work", "work/1");
/// Virtual time in which every workload is over by far.
const LIMIT: Duration = Duration::from_secs(600);
const SEED: u64 = 11;

/// A piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// One stream carries 24 MB one way, with a little loss.
    Bulk,
    /// Calls with a substream each: 100 bytes there, 1000 back, 64 at a time.
    Rpc,
    /// Chains of streams, each the child of the one before, that exchange a few bytes and are reset from the top.
    Tree,
    /// Datagrams: small ones in one packet, and long ones in many, with a little loss.
    Datagram,
    /// Streams that go on while the client changes its address again and again.
    Migration,
}

impl Workload {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Bulk, Self::Rpc, Self::Tree, Self::Datagram, Self::Migration];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Rpc => "rpc",
            Self::Tree => "tree",
            Self::Datagram => "datagram",
            Self::Migration => "migration",
        }
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|workload| workload.name() == text);
        found.ok_or_else(|| format!("no workload is called {text:?}: there are {all}"))
    }
}

/// Report of what was done.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which workload.
    pub workload: Workload,
    /// Bytes that the applications read.
    pub bytes: u64,
    /// Virtual time that passed.
    pub elapsed: Duration,
    /// Hash of all datagrams and their times.
    pub datagram_hash: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, seconds) = (self.workload.name(), self.elapsed.as_secs_f64());
        write!(
            f,
            "{name}: {} bytes read, {seconds:.3} s simulated, datagrams {:016x}",
            self.bytes, self.datagram_hash
        )
    }
}

/// Knowledge that a workload's applications have of their own work.
trait Work: Apps {
    /// Returns whether all of it is done.
    fn is_over(&self) -> bool;
    /// Bytes read so far.
    fn bytes(&self) -> u64;
    /// Returns what went wrong, if anything did.
    fn failure(&self) -> Option<&str>;
}

/// Does a piece of work.
///
/// # Errors
/// If a stream or the tree ends otherwise than it should, or there is no end.
pub fn run(workload: Workload) -> Result<Report, String> {
    let mut world = World::new(SEED, false);
    let _ = world.add_host(Config::default());
    let _ = world.add_host(Config::default());
    let link = LinkConfig {
        rate: Some(100_000_000),
        queue: 250_000,
        ..LinkConfig::with_delay(Duration::from_millis(10))
    };
    let loss = match workload {
        Workload::Bulk => 0.001,
        Workload::Datagram => 0.005,
        _ => 0.0,
    };
    world.set_link(SERVER, CLIENT, link.clone());
    world.set_link(CLIENT, SERVER, LinkConfig { loss, ..link });
    let mut work: Box<dyn Work> = match workload {
        Workload::Bulk => Box::new(streams::Bulk::start(&mut world)?),
        Workload::Rpc => Box::new(streams::Calls::start(&mut world)?),
        Workload::Tree => Box::new(streams::Chains::start(&mut world)?),
        Workload::Datagram => Box::new(messages::Messages::start(&mut world)?),
        Workload::Migration => Box::new(streams::Moves::start(&mut world)?),
    };
    while !work.is_over() {
        let goes_on = world.step(LIMIT, &mut *work);
        if let Some(what) = work.failure().or(world.fault()) {
            return Err(format!("{}: {what}", workload.name()));
        }
        if !goes_on {
            return Err(format!("{}: no end within {LIMIT:?}", workload.name()));
        }
    }
    Ok(Report {
        workload,
        bytes: work.bytes(),
        elapsed: world.elapsed(),
        datagram_hash: world.transcript().datagram_hash(),
    })
}
