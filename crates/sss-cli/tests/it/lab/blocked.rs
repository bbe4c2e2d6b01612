//! Hosts in networks that let no UDP pass, and reach their server by TLS.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use sss::{Host, Over, RegistrationState};
use sss_lab::{Firewall, Kind, Lab, Link, Node, Site};

use super::unless_skipped;
use super::world::{Failure, Running, command, text};

/// Sites: one where nothing but TCP to port 443 passes, one that rejects UDP, and one without a firewall.
const SITES: [(&str, Firewall); 3] = [
    ("a", Firewall::Tcp443),
    ("b", Firewall::UdpRejected),
    ("c", Firewall::None),
];

/// A server that takes TLS, and a host at the site `b` that is called.
struct Blocked {
    // Processes end before the lab does.
    _callee: Running,
    eid: String,
    server: Option<Running>,
    at: String,
    lab: Lab,
    homes: tempfile::TempDir,
    program: String,
}

impl Blocked {
    fn start(program: &str, link: &[&str]) -> Result<Self, Failure> {
        let site = |firewall| Site {
            firewall,
            ..Site::new(Kind::Prc)
        };
        let lab = SITES
            .iter()
            .fold(Lab::builder(), |lab, (name, firewall)| lab.site(name, site(*firewall)));
        let lab = lab.link(Link::parse(link)?).build()?;
        let homes = tempfile::tempdir()?;
        let node = lab.node("server")?;
        let address = node.ipv4().ok_or("the server has no address")?;
        let mut server = Self::serve(&homes, node, program)?;
        let eid = text(&server.event("listening")?["eid"]);
        let at = format!("{eid}@{address}:7757+tls");
        let mut callee = command(&homes, lab.node("b")?, Path::new(program));
        callee
            .args(["serve", "--public", "--json", "--server", &at])
            .arg(homes.path());
        let mut callee = Running::start(&mut callee)?;
        let eid = text(&callee.event("listening")?["eid"]);
        assert_eq!(text(&callee.event("registered")?["over"]), "tls");
        Ok(Self {
            _callee: callee,
            eid,
            server: Some(server),
            at,
            lab,
            homes,
            program: program.to_owned(),
        })
    }

    fn serve(homes: &tempfile::TempDir, node: &Node, program: &str) -> Result<Running, Failure> {
        let mut server = command(homes, node, Path::new(program));
        server.args(["rendezvous", "--relay", "--json", "--bind", "0.0.0.0:7757"]);
        server.args(["--tls", "0.0.0.0:443"]);
        Running::start(&mut server)
    }

    /// The server is killed, and begun again after so long.
    fn restart_server(&mut self, away: Duration) -> Result<(), Failure> {
        self.server = None;
        std::thread::sleep(away);
        let server = Self::serve(&self.homes, self.lab.node("server")?, &self.program)?;
        self.server.insert(server).event("listening")?;
        Ok(())
    }

    /// The tool at a site, which knows the server.
    fn command(&self, site: &str) -> Result<std::process::Command, Failure> {
        let mut command = command(&self.homes, self.node(site)?, Path::new(&self.program));
        command.env("SSS_SERVER", &self.at);
        Ok(command)
    }

    fn node(&self, site: &str) -> Result<&Node, Failure> {
        Ok(self.lab.node(site)?)
    }

    /// Calls from a program that has just been started. Says over what it talks, and when it was connected.
    fn cold(&self, site: &str) -> Result<(String, Duration), Failure> {
        let mut ping = self.command(site)?;
        ping.args(["ping", &self.eid, "--json", "-c", "3", "-i", "0.05"]);
        let began = Instant::now();
        let mut ping = Running::start(&mut ping)?;
        let found = ping.event("found")?;
        let time = began.elapsed();
        ping.event("round_trips")?;
        Ok((text(&found["route"]), time))
    }

    /// Asks for services from a host that is registered. Says over what that is, and when the answer was there.
    fn warm(&self, site: &str) -> Result<(Over, Duration), Failure> {
        let (server, at) = self.at.split_once('@').ok_or("no EID")?;
        let (server, eid) = (server.parse()?, self.eid.parse()?);
        let address = at.trim_end_matches("+tls");
        let tls = address.replace("7757", "443");
        let asked = self.node(site)?.enter(|| -> Result<_, Failure> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let host = Host::builder()
                    .rendezvous(server, address)
                    .rendezvous_tls(server, tls.as_str());
                let host = host.build().await?;
                let over = loop {
                    match host.registrations().first().map(|one| one.state.clone()) {
                        Some(RegistrationState::Registered { over, .. }) => break over,
                        _ => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                };
                tokio::time::sleep(Duration::from_millis(150)).await;
                let began = Instant::now();
                host.services_of(eid).await?;
                let time = began.elapsed();
                Ok((over, time))
            })
        });
        asked?
    }

    fn doctor(&self, site: &str) -> Result<Value, Failure> {
        let mut doctor = self.command(site)?;
        doctor.args(["doctor", "--json"]);
        Running::start(&mut doctor)?.event("doctor")
    }
}

// spec: RCH-22, RCH-24
#[test]
fn hosts_that_may_send_no_udp_reach_each_other_over_tls() {
    let link = std::env::var("SSS_LAB_LINK").unwrap_or_else(|_| "delay=20ms server-delay=20ms".to_owned());
    let link: Vec<&str> = link.split(' ').collect();
    let Some(blocked) = unless_skipped(Blocked::start(env!("CARGO_BIN_EXE_sss"), &link)) else {
        return;
    };
    // UDP is blocked at both, and at the callee alone; what is blocked at the caller alone is half of each.
    for caller in ["a", "c"] {
        let (route, cold) = blocked.cold(caller).unwrap();
        let (over, warm) = blocked.warm(caller).unwrap();
        println!("{caller}: {route}, cold {cold:?}; {over:?}, warm, and back, {warm:?}");
        let expected = if caller == "a" {
            ("tunnel", Over::Tls)
        } else {
            ("relay", Over::Udp)
        };
        assert_eq!((route.as_str(), over), expected, "{caller}");
        assert!(
            cold < Duration::from_secs(8) && warm < Duration::from_secs(8),
            "{cold:?}, {warm:?}"
        );
    }
    let told = blocked.doctor("a").unwrap();
    let server = &told["servers"][0];
    assert_eq!(
        (text(&server["over"]).as_str(), &server["observed"]),
        ("tls", &Value::Null),
        "{told}"
    );
    assert!(text(&server["state"]).contains("over TLS"), "{told}");
    assert!(told["advice"].to_string().contains("UDP"), "{told}");
}

// spec: RCH-24
#[test]
fn what_goes_by_tunnels_goes_on_soon_after_their_server_is_back() {
    let Some(mut blocked) = unless_skipped(Blocked::start(
        env!("CARGO_BIN_EXE_sss"),
        &["delay=20ms", "server-delay=20ms"],
    )) else {
        return;
    };
    for away in [14, 30].map(Duration::from_secs) {
        let mut ping = blocked.command("a").unwrap();
        ping.args(["ping", &blocked.eid, "--json", "-c", "30", "-i", "0.1"]);
        let mut ping = Running::start(&mut ping).unwrap();
        assert_eq!(text(&ping.event("found").unwrap()["route"]), "tunnel");
        std::thread::sleep(Duration::from_secs(1));
        let killed = Instant::now();
        blocked.restart_server(away).unwrap();
        let down = killed.elapsed();
        let times = ping.event("round_trips").unwrap();
        let longest = times["max_ms"].as_f64().map(|ms| Duration::from_secs_f64(ms / 1000.0));
        let late = longest.unwrap().saturating_sub(down);
        println!("away for {down:?}: {late:?} after it was back");
        assert!(late < Duration::from_millis(3500), "away for {down:?}: {late:?}");
    }
}
