//! Hosts whose router lets a port in, by the daemon that many routers have (miniupnpd, of Debian's package
//! `miniupnpd-nftables`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sss_lab::{Kind, Lab, Public};

use super::unless_skipped;
use super::world::{Failure, Running, command, text};

const DAEMON: &str = "/usr/sbin/miniupnpd";

/// Tables that the daemon fills, and a counter of what the host sends to the router itself, or to all in its network.
const TABLES: &str = r#"
table inet filter {
  chain forward { type filter hook forward priority 0; policy accept; jump miniupnpd; }
  chain miniupnpd { }
  chain before { type nat hook prerouting priority -101; policy accept; jump prerouting_miniupnpd; }
  chain prerouting_miniupnpd { }
  chain after { type nat hook postrouting priority 99; policy accept; jump postrouting_miniupnpd; }
  chain postrouting_miniupnpd { }
}
table inet watch {
  counter asked { }
  chain input { type filter hook input priority -5;
    iifname "lan" ip saddr 10.0.1.2 ip protocol != icmp counter name asked; }
}
"#;

fn configuration(is_upnp_alone: bool) -> String {
    let pmp = if is_upnp_alone { "no" } else { "yes" };
    format!(
        "ext_ifname=wan\nlistening_ip=lan\nenable_natpmp={pmp}\nenable_upnp=yes\nsecure_mode=yes\n\
         uuid=00000000-0000-0000-0000-000000000001\nallow 1024-65535 0.0.0.0/0 1-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n"
    )
}

/// A router with the daemon, a host behind it that is called, one that calls, and a server that relays.
struct Mapped {
    // Processes end before the lab does.
    daemon: Option<Running>,
    _server: Running,
    at: String,
    lab: Lab,
    homes: tempfile::TempDir,
    program: PathBuf,
}

impl Mapped {
    fn start(is_upnp_alone: bool) -> Result<Self, Failure> {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_sss"));
        let lab = Lab::builder().site("a", Kind::Symmetric).site("b", Kind::Symmetric);
        // The daemon maps nothing at reserved addresses.
        let lab = lab.public(Public::Ordinary).build()?;
        let homes = tempfile::tempdir()?;
        let node = lab.node("server")?;
        let address = node.ipv4().ok_or("the server has no address")?;
        let mut server = command(&homes, node, &program);
        server.args(["rendezvous", "--relay", "--json", "--bind", "0.0.0.0:7757"]);
        let mut server = Running::start(&mut server)?;
        let eid = text(&server.event("listening")?["eid"]);
        let mut mapped = Self {
            daemon: None,
            _server: server,
            at: format!("{eid}@{address}:7757"),
            lab,
            homes,
            program,
        };
        std::fs::write(mapped.file("tables"), TABLES)?;
        std::fs::write(mapped.file("configuration"), configuration(is_upnp_alone))?;
        mapped.router(&["nft", "-f", &mapped.file("tables")])?;
        mapped.daemon = Some(mapped.start_daemon()?);
        Ok(mapped)
    }

    fn file(&self, name: &str) -> String {
        self.homes.path().join(name).to_string_lossy().into_owned()
    }

    fn start_daemon(&self) -> Result<Running, Failure> {
        let mut daemon = self.lab.node("router-a")?.command(DAEMON);
        daemon
            .args(["-d", "-f", &self.file("configuration"), "-P", &self.file("pid")])
            .stderr(Stdio::null());
        let running = Running::start(&mut daemon)?;
        // It says in a log alone that it listens.
        let until = Instant::now() + Duration::from_secs(10);
        while !self.router(&["ss", "-Hlun"])?.contains(":1900") {
            assert!(Instant::now() < until, "the daemon does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(running)
    }

    /// Runs a command at the router, and returns what it says.
    fn router(&self, words: &[&str]) -> Result<String, Failure> {
        let output = self
            .lab
            .node("router-a")?
            .command(words[0])
            .args(&words[1..])
            .output()?;
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout)?),
            false => Err(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)).into()),
        }
    }

    /// The ports that the router forwards.
    fn forwarded(&self) -> Result<usize, Failure> {
        let rules = self.router(&["nft", "list", "chain", "inet", "filter", "prerouting_miniupnpd"])?;
        Ok(rules.matches("dnat").count())
    }

    fn command(&self, site: &str) -> Result<Command, Failure> {
        let mut command = command(&self.homes, self.lab.node(site)?, &self.program);
        command.env("SSS_SERVER", &self.at);
        Ok(command)
    }

    /// Serves behind the router, and returns when that is registered.
    fn serve(&self, more: &[&str]) -> Result<(Running, String), Failure> {
        let mut serve = self.command("a")?;
        serve
            .args(["serve", "--public", "--json"])
            .args(more)
            .arg(self.homes.path());
        let mut serve = Running::start(&mut serve)?;
        let eid = text(&serve.event("listening")?["eid"]);
        serve.event("registered")?;
        Ok((serve, eid))
    }

    /// Calls the host, and returns by which route it is spoken to after so many fifths of a second.
    fn call(&self, eid: &str, rounds: u32) -> Result<String, Failure> {
        let mut ping = self.command("b")?;
        ping.args(["ping", eid, "--json", "-i", "0.2", "-c", &rounds.to_string()])
            .stderr(Stdio::null());
        Ok(text(&Running::start(&mut ping)?.event("link")?["route"]))
    }

    /// Ends a program as Ctrl-C does, and waits until it has ended.
    fn stop(mut running: Running) -> Result<(), Failure> {
        let pid = i32::try_from(running.child.id())?;
        let pid = rustix::process::Pid::from_raw(pid).ok_or("no process")?;
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        running.child.wait()?;
        Ok(())
    }

    fn check(&mut self, protocol: &str) -> Result<(), Failure> {
        let outside = self.lab.node("router-a")?.ipv4().ok_or("no address")?;
        let (mut serve, eid) = self.serve(&["--port-mapping"])?;
        let told = serve.event("mapped")?;
        assert_eq!(text(&told["protocol"]), protocol, "{told}");
        assert!(text(&told["address"]).starts_with(&format!("{outside}:")), "{told}");
        // What began by the relay, on a busy machine, is direct a little later.
        let is_direct = self.call(&eid, 4)? == "direct" || self.call(&eid, 50)? == "direct";
        assert_eq!((self.forwarded()?, is_direct), (1, true));
        // The router is restarted, and has forgotten all; the host notices when its network changes.
        drop(self.daemon.take());
        self.router(&["nft", "flush", "chain", "inet", "filter", "prerouting_miniupnpd"])?;
        self.daemon = Some(self.start_daemon()?);
        let mut change = self.lab.node("a")?.command("ip");
        change.args(["address", "add", "10.0.1.77/24", "dev", "e0"]).status()?;
        let until = Instant::now() + Duration::from_secs(20);
        while self.forwarded()? == 0 {
            assert!(Instant::now() < until, "the port is not mapped again");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self::stop(serve)?;
        assert_eq!(self.forwarded()?, 0, "the port is given back");
        Ok(())
    }
}

/// Says loudly that nothing was tested where the daemon is not installed.
fn start(is_upnp_alone: bool) -> Option<Mapped> {
    if !Path::new(DAEMON).exists() {
        eprintln!("SKIPPED: {DAEMON} is not there (apt-get install miniupnpd-nftables)");
        return None;
    }
    unless_skipped(Mapped::start(is_upnp_alone))
}

// spec: RCH-26, RCH-27
#[test]
fn symmetric_nats_are_passed_directly_where_the_router_maps_a_port() {
    let Some(mut mapped) = start(false) else {
        return;
    };
    // Without the switch, nothing is asked, and the relay carries.
    let (serve, eid) = mapped.serve(&[]).unwrap();
    assert_eq!(mapped.call(&eid, 4).unwrap(), "relay");
    let asked = mapped
        .router(&["nft", "list", "counter", "inet", "watch", "asked"])
        .unwrap();
    assert!(asked.contains("packets 0 "), "{asked}");
    Mapped::stop(serve).unwrap();
    mapped.check("PCP").unwrap();
    let asked = mapped
        .router(&["nft", "list", "counter", "inet", "watch", "asked"])
        .unwrap();
    assert!(!asked.contains("packets 0 "), "the counter counts: {asked}");
    let told: Value = {
        let mut doctor = mapped.command("a").unwrap();
        doctor.args(["doctor", "--port-mapping", "--json"]);
        Running::start(&mut doctor).unwrap().event("doctor").unwrap()
    };
    let found = &told["port_mapping"];
    assert_eq!(found["proof"], "proven", "{told}");
    assert_eq!(found["problems"], serde_json::json!([]), "{told}");
}

// spec: RCH-26, RCH-27
#[test]
fn a_router_that_speaks_upnp_alone_maps_a_port() {
    if let Some(mut mapped) = start(true) {
        mapped.check("UPnP").unwrap();
    }
}
