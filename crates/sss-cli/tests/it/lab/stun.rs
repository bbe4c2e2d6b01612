//! Hosts that no registration server knows, and servers of STUN: coturn, of Debian's package `coturn`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sss_lab::{Kind, Lab};

use super::unless_skipped;
use super::world::{Failure, Running, command, text};

const SERVER: &str = "/usr/bin/turnserver";

/// A host that is called, one that calls, and two servers of STUN.
struct Observed {
    // Processes end before the lab does.
    servers: Vec<Running>,
    stun: Vec<String>,
    lab: Lab,
    homes: tempfile::TempDir,
}

impl Observed {
    fn start(callee: Kind, caller: Kind) -> Result<Self, Failure> {
        let lab = Lab::builder().site("a", callee).site("b", caller).servers(2).build()?;
        let mut observed = Self {
            servers: Vec::new(),
            stun: Vec::new(),
            lab,
            homes: tempfile::tempdir()?,
        };
        for name in ["server", "server2"] {
            let node = observed.lab.node(name)?;
            let address = node.ipv4().ok_or("the server has no address")?.to_string();
            let mut server = node.command(SERVER);
            server.args([
                "-n",
                "--stun-only",
                "--no-cli",
                "--no-tls",
                "--no-dtls",
                "--log-file=stdout",
            ]);
            server.args(["-L", &address, "--pidfile", &observed.file(&format!("{name}.pid"))]);
            observed.servers.push(Running::start(server.stderr(Stdio::null()))?);
            let until = Instant::now() + Duration::from_secs(20);
            while !observed.listens(name)? {
                assert!(Instant::now() < until, "the server does not start");
                std::thread::sleep(Duration::from_millis(20));
            }
            observed.stun.push(address);
        }
        Ok(observed)
    }

    fn listens(&self, node: &str) -> Result<bool, Failure> {
        let output = self.lab.node(node)?.command("ss").arg("-Hlun").output()?;
        Ok(String::from_utf8(output.stdout)?.contains(":3478"))
    }

    fn file(&self, name: &str) -> String {
        self.homes.path().join(name).to_string_lossy().into_owned()
    }

    fn outside(&self, site: &str) -> Result<String, Failure> {
        let outside = self.lab.outside(self.lab.node(site)?).ok_or("no address outside")?;
        Ok(outside.to_string())
    }

    fn command(&self, site: &str, words: &[&str]) -> Result<Command, Failure> {
        let mut command = command(&self.homes, self.lab.node(site)?, Path::new(env!("CARGO_BIN_EXE_sss")));
        command.args(words).arg("--json").stderr(Stdio::null());
        Ok(command)
    }

    /// The switches that name the servers.
    fn asking(&self) -> Vec<&str> {
        self.stun.iter().flat_map(|server| ["--stun", server]).collect()
    }

    /// Serves, and returns the ticket, and the addresses that are said to lead there.
    fn serve(&self, more: &[&str]) -> Result<(Running, String, Vec<String>), Failure> {
        let directory = self.file("served");
        std::fs::create_dir_all(&directory)?;
        let mut serve = Running::start(self.command("a", &["serve", &directory])?.args(more))?;
        let (mut ticket, mut addresses) = (String::new(), Vec::new());
        // Loopback comes last.
        while addresses.last().is_none_or(|at| at != "[::1]:7757") {
            let told = serve.event("listening")?;
            addresses.push(text(&told["address"]));
            ticket = text(&told["ticket"]);
        }
        Ok((serve, ticket, addresses))
    }

    /// Calls, for so many seconds at most, and returns the route if the host is reached.
    fn call(&self, ticket: &str, seconds: u32, more: &[&str]) -> Result<Option<String>, Failure> {
        let seconds = seconds.to_string();
        let words = ["ping", ticket, "-c", "3", "-i", "0.1", "--timeout", &seconds];
        let mut ping = Running::start(self.command("b", &words)?.args(more))?;
        Ok(ping.event("link").ok().map(|link| text(&link["route"])))
    }

    /// What the tool finds out at a site.
    fn doctor(&self, site: &str, more: &[&str]) -> Result<Value, Failure> {
        Running::start(self.command(site, &["doctor"])?.args(more))?.event("doctor")
    }

    /// A ticket for a host at a site that serves everybody.
    fn ticket(&self, site: &str) -> Result<String, Failure> {
        let words = [&["ticket", "--public"][..], &self.asking()].concat();
        let told = Running::start(&mut self.command(site, &words)?)?.event("ticket")?;
        Ok(text(&told["ticket"]))
    }
}

/// Says loudly that nothing was tested where the server is not installed.
fn start(callee: Kind, caller: Kind) -> Option<Observed> {
    if !Path::new(SERVER).exists() {
        eprintln!("SKIPPED: {SERVER} is not there (apt-get install coturn)");
        return None;
    }
    unless_skipped(Observed::start(callee, caller))
}

// spec: RCH-52, RCH-54
#[test]
fn a_host_behind_a_full_cone_is_reached_by_a_ticket_that_stun_alone_has_made() {
    let Some(observed) = start(Kind::FullCone, Kind::Prc) else {
        return;
    };
    let (serve, ticket, addresses) = observed.serve(&[]).unwrap();
    assert_eq!(observed.call(&ticket, 2, &[]).unwrap(), None, "{addresses:?}");
    drop(serve);
    let (_serve, ticket, addresses) = observed.serve(&observed.asking()).unwrap();
    let outside = format!("{}:7757", observed.outside("a").unwrap());
    assert!(addresses.contains(&outside), "{addresses:?}");
    let route = observed.call(&ticket, 20, &[]).unwrap();
    assert_eq!(route.as_deref(), Some("direct"), "{addresses:?}");
}

/// Two hosts that call each other by tickets reach each other; if one alone calls, they do not.
fn call_each_other(callee: Kind, caller: Kind) {
    let Some(observed) = start(callee, caller) else {
        return;
    };
    let [ticket, ticket_of_caller] = ["a", "b"].map(|site| observed.ticket(site).unwrap());
    let asking = observed.asking();
    let bound = ["--bind", "0.0.0.0:7757"];
    let caller = [&asking[..], &bound].concat();
    let alone = [&asking[..], &["--public"]].concat();
    let (serve, _, _) = observed.serve(&alone).unwrap();
    assert_eq!(
        observed.call(&ticket, 3, &caller).unwrap(),
        None,
        "one alone has called"
    );
    drop(serve);
    let both = [&alone[..], &["--call", &ticket_of_caller]].concat();
    let (mut serve, _, _) = observed.serve(&both).unwrap();
    let begun = Instant::now();
    let route = observed.call(&ticket, 30, &caller).unwrap();
    println!("reached after {:?} at most", begun.elapsed());
    assert_eq!(route.as_deref(), Some("direct"));
    serve.event("called").unwrap();
}

// spec: RCH-55
#[test]
fn hosts_behind_nats_that_filter_ports_reach_each_other_when_both_call() {
    call_each_other(Kind::Prc, Kind::Prc);
}

// spec: RCH-55
#[test]
fn so_do_hosts_whose_nats_take_another_port_once_for_all() {
    call_each_other(Kind::EimRandom, Kind::EimRandom);
}

// spec: RCH-54
#[test]
fn a_nat_that_takes_another_port_for_each_peer_is_told_and_names_nothing() {
    let Some(observed) = start(Kind::Symmetric, Kind::Prc) else {
        return;
    };
    let outside = observed.outside("a").unwrap();
    let (serve, _, addresses) = observed.serve(&observed.asking()).unwrap();
    assert!(!addresses.iter().any(|at| at.starts_with(&outside)), "{addresses:?}");
    drop(serve);
    let told = observed.doctor("a", &observed.asking()).unwrap();
    assert_eq!(told["nat"], "other ports", "{told}");
    for server in told["stun"].as_array().unwrap() {
        assert_eq!(server["state"], "sees", "{told}");
        assert!(text(&server["address"]).starts_with(&outside), "{told}");
    }
    assert!(told["advice"].to_string().contains("different ports"), "{told}");
    // The other kind is told from it.
    let told = observed.doctor("b", &observed.asking()).unwrap();
    assert_eq!(told["nat"], "same port", "{told}");
}

// spec: RCH-52
#[test]
fn a_server_that_does_not_answer_is_told_and_keeps_nobody() {
    let Some(observed) = start(Kind::FullCone, Kind::Prc) else {
        return;
    };
    let (at, outside) = (&observed.stun[0], observed.outside("b").unwrap());
    let nobody = format!("{at}:9");
    let told = observed.doctor("b", &["--stun", &nobody]).unwrap();
    assert_eq!(told["stun"][0]["state"], "asking", "{told}");
    assert!(told["advice"].to_string().contains("no STUN server answers"), "{told}");
    // What another says counts.
    let told = observed.doctor("b", &["--stun", &nobody, "--stun", at]).unwrap();
    assert_eq!(told["stun"][1]["state"], "sees", "{told}");
    assert!(text(&told["stun"][1]["address"]).starts_with(&outside), "{told}");
    let begun = Instant::now();
    let (_serve, ticket, _) = observed.serve(&["--stun", &nobody, "--stun", at]).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20));
    let route = observed.call(&ticket, 20, &[]).unwrap();
    assert_eq!(route.as_deref(), Some("direct"));
}
