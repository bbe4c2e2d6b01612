//! Hosts that are reached by a TURN server: coturn, of Debian's package `coturn`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sss_lab::{Firewall, Kind, Lab, Link, Public, Site};

use super::unless_skipped;
use super::world::{Failure, Running, command, text};

const SERVER: &str = "/usr/bin/turnserver";
const USER: &str = "turn:me:secret";

/// Two hosts behind NATs that give each destination another port, one where only TCP to port 443 passes, a server that
/// relays nothing, and a TURN server beside it.
struct Turned {
    // Processes end before the lab does.
    turn: Option<Running>,
    _server: Running,
    at: String,
    address: std::net::IpAddr,
    /// Port of the TURN server.
    port: u16,
    lab: Lab,
    homes: tempfile::TempDir,
    program: PathBuf,
}

impl Turned {
    fn start(link: &[&str], port: u16) -> Result<Self, Failure> {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_sss"));
        let blocked = Site {
            firewall: Firewall::Tcp443,
            ..Site::new(Kind::Prc)
        };
        let lab = Lab::builder().site("a", Kind::Symmetric).site("b", Kind::Symmetric);
        // A relayed address of no ordinary network is none that others reach.
        let lab = lab.site("c", blocked).public(Public::Ordinary);
        let lab = lab.link(Link::parse(link)?).build()?;
        let homes = tempfile::tempdir()?;
        let node = lab.node("server")?;
        let address = node.ipv4().ok_or("the server has no address")?;
        let mut server = command(&homes, node, &program);
        server.args(["rendezvous", "--json", "--bind", "0.0.0.0:7757"]);
        let mut server = Running::start(&mut server)?;
        let eid = text(&server.event("listening")?["eid"]);
        let mut turned = Self {
            turn: None,
            _server: server,
            at: format!("{eid}@{address}:7757"),
            address: address.into(),
            port,
            lab,
            homes,
            program,
        };
        turned.start_turn()?;
        Ok(turned)
    }

    /// Starts the TURN server, and returns when it takes packets.
    fn start_turn(&mut self) -> Result<(), Failure> {
        let node = self.lab.node("server")?;
        let mut turn = node.command(SERVER);
        let (at, realm) = (format!("--listening-ip={}", self.address), "--realm=lab");
        let relay = format!("--relay-ip={}", self.address);
        let database = format!("--userdb={}", self.homes.path().join("turndb").display());
        turn.args([
            "-n",
            &at,
            &relay,
            realm,
            &database,
            "--lt-cred-mech",
            "--user=me:secret",
        ]);
        turn.arg(format!("--listening-port={}", self.port));
        turn.args(["--no-tls", "--no-dtls", "--no-cli", "--log-file=stdout"]);
        turn.args(["--pidfile", &self.homes.path().join("pid").display().to_string()]);
        turn.stderr(Stdio::null());
        self.turn = Some(Running::start(&mut turn)?);
        let until = Instant::now() + Duration::from_secs(20);
        let is_up = |what: &str| -> Result<bool, Failure> {
            let output = node.command("ss").args([what, "-Hn"]).output()?;
            Ok(String::from_utf8(output.stdout)?.contains(&format!(":{} ", self.port)))
        };
        while !(is_up("-lu")? && is_up("-lt")?) {
            assert!(Instant::now() < until, "the TURN server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn turn(&self, credentials: &str, rest: &str) -> String {
        format!("{credentials}@{}{rest}", self.address)
    }

    fn command(&self, site: &str) -> Result<Command, Failure> {
        let mut command = command(&self.homes, self.lab.node(site)?, &self.program);
        command.env("SSS_SERVER", &self.at);
        Ok(command)
    }

    /// Serves a directory, and returns when that is registered over the carrier that is expected.
    fn serve(&self, site: &str, turn: Option<&str>, over: &str) -> Result<(Running, String), Failure> {
        let mut serve = self.command(site)?;
        let shared = self.homes.path().join("shared");
        std::fs::create_dir_all(&shared)?;
        serve.args(["serve", "--public", "--json"]).arg(&shared);
        if let Some(turn) = turn {
            serve.env("SSS_TURN", turn);
        }
        let mut serve = Running::start(&mut serve)?;
        let eid = text(&serve.event("listening")?["eid"]);
        while text(&serve.event("registered")?["over"]) != over {}
        Ok((serve, eid))
    }

    /// Calls the host. Returns the first event, and how long it took.
    fn call(&self, site: &str, eid: &str, turn: Option<&str>) -> Result<(Value, Duration), Failure> {
        let mut ping = self.command(site)?;
        ping.args(["ping", eid, "--json", "-i", "0.2", "-c", "3", "--timeout", "20"]);
        ping.stderr(Stdio::null());
        if let Some(turn) = turn {
            ping.env("SSS_TURN", turn);
        }
        let began = Instant::now();
        let mut ping = Running::start(&mut ping)?;
        let found = ping.event("found")?;
        let time = began.elapsed();
        ping.event("round_trips")?;
        Ok((found, time))
    }

    fn doctor(&self, site: &str, turn: &str) -> Result<Value, Failure> {
        let mut doctor = self.command(site)?;
        doctor.args(["doctor", "--json"]).env("SSS_TURN", turn);
        Running::start(&mut doctor)?.event("doctor")
    }
}

/// Says loudly that nothing was tested where the TURN server is not installed.
fn start(link: &[&str], port: u16) -> Option<Turned> {
    if !Path::new(SERVER).exists() {
        eprintln!("SKIPPED: {SERVER} is not there (apt-get install coturn)");
        return None;
    }
    unless_skipped(Turned::start(link, port))
}

// spec: RCH-48, RCH-49
#[test]
fn two_symmetric_nats_are_passed_by_the_turn_server_of_one_side() {
    let Some(turned) = start(&["delay=12.5ms"], 3478) else {
        return;
    };
    let turn = turned.turn(USER, "");
    // Without it, there is no way: nobody relays.
    let (serve, eid) = turned.serve("a", None, "udp").unwrap();
    let mut ping = turned.command("b").unwrap();
    ping.args(["ping", &eid, "-c", "1", "--timeout", "3"]);
    assert!(!ping.stderr(Stdio::null()).status().unwrap().success());
    // The caller has one.
    for n in 0..3 {
        let (found, time) = turned.call("b", &eid, Some(&turn)).unwrap();
        println!("MEASURED caller has TURN, run {n}: {time:?} {found}");
        assert_eq!(text(&found["route"]), "turn", "{found}");
        assert_eq!(text(&found["turn"]), format!("{}:3478", turned.address), "{found}");
    }
    // The callee has one: to the caller that is an address like any other.
    drop(serve);
    let (_serve, eid) = turned.serve("a", Some(&turn), "turn").unwrap();
    for n in 0..3 {
        let (found, time) = turned.call("b", &eid, None).unwrap();
        println!("MEASURED callee has TURN, run {n}: {time:?} {found}");
        assert_eq!(text(&found["route"]), "direct", "{found}");
        assert!(
            text(&found["address"]).starts_with(&turned.address.to_string()),
            "{found}"
        );
    }
}

// spec: RCH-48
#[test]
fn a_host_to_which_udp_is_blocked_is_reached_by_a_turn_server_over_tcp() {
    let Some(turned) = start(&["delay=12.5ms"], 443) else {
        return;
    };
    let turn = turned.turn(USER, ":443?transport=tcp");
    let (_serve, eid) = turned.serve("c", Some(&turn), "turn").unwrap();
    for n in 0..3 {
        let (found, time) = turned.call("b", &eid, None).unwrap();
        println!("MEASURED callee has TURN over TCP, run {n}: {time:?} {found}");
        assert_eq!(text(&found["route"]), "direct", "{found}");
    }
    let (_serve, eid) = turned.serve("a", None, "udp").unwrap();
    for n in 0..3 {
        let (found, time) = turned.call("c", &eid, Some(&turn)).unwrap();
        println!("MEASURED caller has TURN over TCP, run {n}: {time:?} {found}");
        assert_eq!(text(&found["route"]), "turn", "{found}");
    }
}

// spec: RCH-50
#[test]
fn what_is_wrong_with_a_turn_server_is_told() {
    let Some(mut turned) = start(&[], 3478) else {
        return;
    };
    let told = turned.doctor("a", &turned.turn(USER, "")).unwrap();
    assert_eq!(text(&told["turn"][0]["state"]), "open", "{told}");
    assert!(
        text(&told["turn"][0]["relayed"]).starts_with(&turned.address.to_string()),
        "{told}"
    );
    let told = turned.doctor("a", &turned.turn("turn:me:wrong", "")).unwrap();
    let error = text(&told["turn"][0]["error"]);
    assert!(error.contains("password is wrong"), "{told}");
    assert!(!told.to_string().contains("me:wrong"), "{told}");
    turned.turn = None;
    let told = turned.doctor("a", &turned.turn(USER, "?transport=tcp")).unwrap();
    assert!(text(&told["turn"][0]["error"]).contains("not reached"), "{told}");
}

/// Kills the TURN server for 2 s while `b` fetches a file of `a`. The file arrives whole, and soon.
fn killed_in_a_transfer(of_caller: bool) {
    let Some(mut turned) = start(&["delay=5ms", "rate=20M"], 3478) else {
        return;
    };
    let turn = turned.turn(USER, "");
    let (_serve, eid) = match of_caller {
        true => turned.serve("a", None, "udp").unwrap(),
        false => turned.serve("a", Some(&turn), "turn").unwrap(),
    };
    let bytes: Vec<u8> = (0..20_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    std::fs::write(turned.homes.path().join("shared/large"), &bytes).unwrap();
    let into = turned.homes.path().join("got");
    let mut get = turned.command("b").unwrap();
    get.args(["get", &format!("{eid}/large"), "--json"]).arg(&into);
    if of_caller {
        get.env("SSS_TURN", &turn);
    }
    let mut get = get.stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(4));
    assert!(get.try_wait().unwrap().is_none(), "it is under way");
    turned.turn = None;
    std::thread::sleep(Duration::from_secs(2));
    turned.start_turn().unwrap();
    let began = Instant::now();
    assert!(get.wait().unwrap().success());
    let took = began.elapsed();
    println!("MEASURED complete {took:?} after the restart, TURN of the caller: {of_caller}");
    let got = if into.is_dir() { into.join("large") } else { into };
    assert!(std::fs::read(got).unwrap() == bytes);
    // What is left takes 5 s.
    assert!(took < Duration::from_secs(20), "{took:?}");
}

// spec: RCH-51
#[test]
fn a_file_arrives_whole_over_a_turn_server_that_is_killed_and_started_again() {
    killed_in_a_transfer(true);
}

// spec: RCH-12, RCH-51
#[test]
fn a_file_arrives_whole_from_a_host_whose_turn_server_is_killed_and_started_again() {
    killed_in_a_transfer(false);
}
