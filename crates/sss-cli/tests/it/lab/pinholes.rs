//! Hosts whose router keeps out what comes by IPv6, and lets a port in when it is asked by PCP: miniupnpd, of Debian's
//! package `miniupnpd-nftables`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sss_lab::{Ipv6, Kind, Lab, Public, Site};

use super::unless_skipped;
use super::world::{Failure, Running, command, text};

const DAEMON: &str = "/usr/sbin/miniupnpd";

/// The firewall of the router, with a chain in it that the daemon fills.
const TABLES: &str = r#"
flush chain ip6 lab_six forward
table inet filter {
  chain forward { type filter hook forward priority 0; policy accept;
    meta nfproto ipv6 ct state established,related accept
    jump miniupnpd
    meta nfproto ipv6 iifname "wan" drop
  }
  chain miniupnpd { }
  chain before { type nat hook prerouting priority -101; policy accept; jump prerouting_miniupnpd; }
  chain prerouting_miniupnpd { }
  chain after { type nat hook postrouting priority 99; policy accept; jump postrouting_miniupnpd; }
  chain postrouting_miniupnpd { }
}
"#;

const CONFIGURATION: &str = "ext_ifname=wan\nlistening_ip=lan\nenable_natpmp=yes\nenable_upnp=no\nsecure_mode=yes\n\
                             uuid=00000000-0000-0000-0000-000000000002\nallow 1024-65535 0.0.0.0/0 1-65535\n";

/// A router with the daemon, a host behind it that is called, and one elsewhere that calls.
struct Walled {
    // Processes end before the lab does.
    daemon: Option<Running>,
    lab: Lab,
    homes: tempfile::TempDir,
    program: PathBuf,
}

impl Walled {
    fn start() -> Result<Self, Failure> {
        let (mut callee, mut caller) = (Site::new(Kind::Prc), Site::new(Kind::Prc));
        (callee.ipv6, caller.ipv6) = (Ipv6::Stateful, Ipv6::Open);
        let lab = Lab::builder().site("a", callee).site("b", caller);
        // The daemon maps nothing at reserved addresses.
        let lab = lab.public(Public::Ordinary).build()?;
        let mut walled = Self {
            daemon: None,
            lab,
            homes: tempfile::tempdir()?,
            program: PathBuf::from(env!("CARGO_BIN_EXE_sss")),
        };
        std::fs::write(walled.file("tables"), TABLES)?;
        std::fs::write(walled.file("configuration"), CONFIGURATION)?;
        walled.at("router-a", &["nft", "-f", &walled.file("tables")])?;
        // As routers announce themselves.
        let router = walled.router_on_link()?;
        walled.at(
            "a",
            &["ip", "-6", "route", "replace", "default", "via", &router, "dev", "e0"],
        )?;
        let mut daemon = walled.lab.node("router-a")?.command(DAEMON);
        daemon
            .args(["-d", "-f", &walled.file("configuration"), "-P", &walled.file("pid")])
            .stderr(Stdio::null());
        walled.daemon = Some(Running::start(&mut daemon)?);
        let until = Instant::now() + Duration::from_secs(10);
        while !walled.at("router-a", &["ss", "-Hlun"])?.contains(":5351") {
            assert!(Instant::now() < until, "the daemon does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(walled)
    }

    fn file(&self, name: &str) -> String {
        self.homes.path().join(name).to_string_lossy().into_owned()
    }

    /// Runs a command at a node, and returns what it says.
    fn at(&self, node: &str, words: &[&str]) -> Result<String, Failure> {
        let output = self.lab.node(node)?.command(words[0]).args(&words[1..]).output()?;
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout)?),
            false => Err(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)).into()),
        }
    }

    /// The router's address on its LAN alone.
    fn router_on_link(&self) -> Result<String, Failure> {
        let told = self.at(
            "router-a",
            &["ip", "-6", "-o", "address", "show", "dev", "lan", "scope", "link"],
        )?;
        let address = told.split_whitespace().find(|word| word.starts_with("fe80:"));
        let address = address.and_then(|word| word.split('/').next());
        Ok(address.ok_or("the router has no link-local address")?.to_owned())
    }

    /// The ports that the router lets in.
    fn pinholes(&self) -> Result<usize, Failure> {
        let rules = self.at("router-a", &["nft", "list", "chain", "inet", "filter", "miniupnpd"])?;
        // The daemon names the destination by its place in the header.
        Ok(rules.lines().filter(|rule| rule.contains("@nh,192,128")).count())
    }

    fn command(&self, site: &str, words: &[&str]) -> Result<Command, Failure> {
        let mut command = command(&self.homes, self.lab.node(site)?, &self.program);
        command.args(words).arg("--json").stderr(Stdio::null());
        Ok(command)
    }

    fn serve(&self, more: &[&str]) -> Result<(Running, String), Failure> {
        let directory = self.file("served");
        std::fs::create_dir_all(&directory)?;
        let mut serve = Running::start(self.command("a", &["serve", &directory])?.args(more))?;
        let ticket = text(&serve.event("listening")?["ticket"]);
        Ok((serve, ticket))
    }

    /// Returns whether a stranger reaches the host within so many seconds.
    fn is_reached(&self, ticket: &str, seconds: u32) -> Result<bool, Failure> {
        let words = ["ping", ticket, "-c", "1", "--timeout", &seconds.to_string()];
        let mut ping = Running::start(&mut self.command("b", &words)?)?;
        Ok(ping.event("link").is_ok())
    }

    /// Ends a program as Ctrl-C does, and waits until it has ended.
    fn stop(mut running: Running) -> Result<(), Failure> {
        let pid = i32::try_from(running.child.id())?;
        let pid = rustix::process::Pid::from_raw(pid).ok_or("no process")?;
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        running.child.wait()?;
        Ok(())
    }
}

// spec: RCH-56
#[test]
fn a_firewall_of_ipv6_lets_strangers_in_as_long_as_it_is_asked_to() {
    if !Path::new(DAEMON).exists() {
        eprintln!("SKIPPED: {DAEMON} is not there (apt-get install miniupnpd-nftables)");
        return;
    }
    let Some(walled) = unless_skipped(Walled::start()) else {
        return;
    };
    let (serve, ticket) = walled.serve(&[]).unwrap();
    assert!(!walled.is_reached(&ticket, 2).unwrap(), "the firewall keeps out");
    Walled::stop(serve).unwrap();
    assert_eq!(walled.pinholes().unwrap(), 0);
    let (mut serve, ticket) = walled.serve(&["--port-mapping"]).unwrap();
    let told = serve.event("pinhole").unwrap();
    let own = walled.lab.node("a").unwrap().ipv6().unwrap();
    assert_eq!(text(&told["address"]), format!("[{own}]:7757"), "{told}");
    assert_eq!(walled.pinholes().unwrap(), 1);
    assert!(walled.is_reached(&ticket, 20).unwrap());
    Walled::stop(serve).unwrap();
    assert_eq!(walled.pinholes().unwrap(), 0, "it is given back");
    let told = Running::start(&mut walled.command("a", &["doctor", "--port-mapping"]).unwrap())
        .and_then(|mut doctor| doctor.event("doctor"))
        .unwrap();
    let found = &told["port_mapping"]["ipv6"];
    assert!(text(&found["address"]).starts_with(&format!("[{own}]:")), "{told}");
    assert!(text(&found["router"]).starts_with("fe80:"), "{told}");
}
