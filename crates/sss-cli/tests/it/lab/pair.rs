//! Two hosts of which one examines the way to the other, in network namespaces, with the tool as it is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use sss_lab::{Kind, Lab, Link};

use super::world::{Failure, Running, command, text};

/// Two hosts behind routers, and a server that relays.
pub(crate) struct Pair {
    _server: Running,
    at: String,
    pub(crate) lab: Lab,
    homes: tempfile::TempDir,
    pub(crate) program: PathBuf,
}

impl Pair {
    /// Makes the lab, and starts the server.
    ///
    /// # Errors
    /// As [`World::start`].
    pub(crate) fn start(program: &Path, kinds: (Kind, Kind), link: Link) -> Result<Self, Failure> {
        let lab = Lab::builder()
            .site("a", kinds.0)
            .site("b", kinds.1)
            .link(link)
            .build()?;
        Self::in_lab(program, lab)
    }

    /// Starts the server in a lab with the sites `a` and `b`.
    ///
    /// # Errors
    /// As [`World::start`].
    pub(crate) fn in_lab(program: &Path, lab: Lab) -> Result<Self, Failure> {
        let homes = tempfile::tempdir()?;
        let node = lab.node("server")?;
        let address = node.ipv4().ok_or("the server has no address")?;
        let mut server = command(&homes, node, program);
        server.args(["rendezvous", "--relay", "--json", "--bind", "0.0.0.0:7757"]);
        let mut server = Running::start(server.stderr(Stdio::null()))?;
        let eid = text(&server.event("listening")?["eid"]);
        Ok(Self {
            _server: server,
            at: format!("{eid}@{address}:7757"),
            lab,
            homes,
            program: program.to_owned(),
        })
    }

    /// The tool at a site.
    ///
    /// # Errors
    /// If there is no such site.
    pub(crate) fn command(&self, site: &str) -> Result<Command, Failure> {
        let mut command = command(&self.homes, self.lab.node(site)?, &self.program);
        command.env("SSS_SERVER", &self.at).stderr(Stdio::null());
        Ok(command)
    }

    /// Starts a program that is called, and waits until it is registered.
    ///
    /// # Errors
    /// If it is not.
    pub(crate) fn callee(&self, more: &[&str]) -> Result<(Running, String), Failure> {
        self.callee_of(self.homes.path(), more)
    }

    /// The same, which serves a directory.
    ///
    /// # Errors
    /// If it is not registered.
    pub(crate) fn callee_of(&self, served: &Path, more: &[&str]) -> Result<(Running, String), Failure> {
        let mut command = self.command("b")?;
        command.args(["serve", "--public", "--json", "--bind", "0.0.0.0:0"]);
        let mut callee = Running::start(command.args(more).arg(served))?;
        let eid = text(&callee.event("listening")?["eid"]);
        callee.event("registered")?;
        Ok((callee, eid))
    }

    /// Has the way to it examined by a program that calls.
    ///
    /// # Errors
    /// If that ends without a word.
    pub(crate) fn doctor(&self, eid: &str, more: &[&str]) -> Result<Value, Failure> {
        let mut command = self.command("a")?;
        command.args(["doctor", eid, "--json"]).args(more);
        Running::start(&mut command)?.event("doctor")
    }
}
