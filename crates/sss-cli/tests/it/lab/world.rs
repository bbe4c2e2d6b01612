//! Hosts behind routers of every kind, and a registration server that relays: in network namespaces, with the tool as
//! it is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sss_lab::check::PAIRED;
use sss_lab::{Kind, Lab, Link};

pub(crate) use super::running::{Failure, Running, command, text};

/// A lab with two hosts behind each kind of router: those that call, and those that are called.
pub(crate) struct World {
    // Processes end before the lab does.
    callees: Vec<(Running, String)>,
    server: Running,
    at: String,
    names: Names,
    lab: Lab,
    homes: tempfile::TempDir,
    program: PathBuf,
}

/// What came of a call.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The class of the route when the host was reached, and at the end.
    pub(crate) routes: [String; 2],
    /// Time from the start of the program until it was connected.
    pub(crate) connected: Duration,
    /// The median round trip, in milliseconds.
    pub(crate) median: f64,
}

impl World {
    /// Makes the lab, and starts the server and those who are called. `program` is the tool. The host that calls from
    /// behind the kind `skewed` is the one whose way to the server the link's skew is about.
    ///
    /// # Errors
    /// What fails; [`sss_lab::Error::is_missing`] tells that no lab can be made here.
    pub(crate) fn start(program: &Path, link: &[String], skewed: Kind) -> Result<Self, Failure> {
        let names = Names(skewed);
        // The first site is the one with the skew.
        let mut sites: Vec<(String, Kind)> = PAIRED.map(|kind| (names.caller(kind), kind)).into();
        sites.extend(PAIRED.map(|kind| (names.callee(kind), kind)));
        sites.sort_by(|one, other| one.0.cmp(&other.0));
        let lab = sites
            .iter()
            .fold(Lab::builder(), |lab, (name, kind)| lab.site(name, *kind));
        let lab = lab.link(Link::parse(link)?).build()?;
        let homes = tempfile::tempdir()?;
        let node = lab.node("server")?;
        let address = node.ipv4().ok_or("the server has no address")?;
        let mut command = command(&homes, node, program);
        let server = command.args(["rendezvous", "--relay", "--json", "--bind", "0.0.0.0:7757"]);
        let mut server = Running::start(server)?;
        let eid = text(&server.event("listening")?["eid"]);
        let mut world = Self {
            at: format!("{eid}@{address}:7757"),
            callees: Vec::new(),
            server,
            names,
            lab,
            homes,
            program: program.to_owned(),
        };
        for kind in PAIRED {
            let mut command = world.command(&world.names.callee(kind))?;
            command
                .args(["serve", "--public", "--json", "--server", &world.at])
                .arg(world.homes.path());
            let mut callee = Running::start(&mut command)?;
            let eid = text(&callee.event("listening")?["eid"]);
            world.callees.push((callee, eid));
        }
        for (callee, _) in &mut world.callees {
            callee.event("registered")?;
        }
        Ok(world)
    }

    fn command(&self, node: &str) -> Result<Command, Failure> {
        Ok(command(&self.homes, self.lab.node(node)?, &self.program))
    }

    /// The host behind one kind of router calls the one behind another, and talks with it for so many round trips, each
    /// a fifth of a second after the one before.
    ///
    /// # Errors
    /// If it is not reached.
    pub(crate) fn call(&self, one: Kind, other: Kind, rounds: u32) -> Result<Outcome, Failure> {
        let at = PAIRED.iter().position(|kind| *kind == other).ok_or("not paired")?;
        let (_, eid) = &self.callees[at];
        let mut command = self.command(&self.names.caller(one))?;
        command.args(["ping", eid, "--json", "-i", "0.2", "-c", &rounds.to_string()]);
        command.args(["--server", &self.at]);
        command.stderr(Stdio::null());
        let began = Instant::now();
        let mut ping = Running::start(&mut command)?;
        let found = ping.event("found")?;
        let connected = began.elapsed();
        let times = ping.event("round_trips")?;
        let link = ping.event("link")?;
        Ok(Outcome {
            routes: [&found, &link].map(|fact| text(&fact["route"])),
            connected,
            median: times["median_ms"].as_f64().unwrap_or(f64::NAN),
        })
    }

    /// Tells whether the server still runs.
    pub(crate) fn is_up(&mut self) -> bool {
        matches!(self.server.child.try_wait(), Ok(None))
    }
}

/// Names of hosts, which are letters: those who call come first, and of them the one behind this kind.
struct Names(Kind);

impl Names {
    fn caller(&self, kind: Kind) -> String {
        Self::letter(self.order(kind))
    }

    fn callee(&self, kind: Kind) -> String {
        Self::letter(PAIRED.len() + self.order(kind))
    }

    fn order(&self, kind: Kind) -> usize {
        let at = |kind| PAIRED.iter().position(|known| *known == kind).unwrap_or_default();
        (at(kind) + PAIRED.len() - at(self.0)) % PAIRED.len()
    }

    fn letter(at: usize) -> String {
        ('a'..='z').nth(at).unwrap_or('z').to_string()
    }
}
