//! Hosts on one local network that find each other by mDNS, and hosts that keep to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;
use sss_lab::{Kind, Lab, Node, Site};

use super::capture::{Capture, Packet};
use super::unless_skipped;
use super::world::{Failure, Running, command, text};

/// Three hosts in the LAN of one router, and a server outside.
pub(crate) struct Lan {
    // Processes end before the lab does.
    others: Mutex<Vec<Ended>>,
    lab: Lab,
    homes: tempfile::TempDir,
}

/// Process that ends when this is dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Host that serves, and its EID.
pub(crate) struct Served {
    pub(crate) running: Running,
    pub(crate) eid: String,
}

/// Time for which it is captured what a host that is left alone sends: with `SSS_LAB_SECONDS`, so many seconds.
fn quiet() -> Duration {
    let seconds = std::env::var("SSS_LAB_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(5))
}

impl Lan {
    pub(crate) fn start() -> Result<Self, Failure> {
        let site = Site {
            hosts: 3,
            ..Site::new(Kind::Prc)
        };
        let (lab, homes) = (Lab::builder().site("a", site).build()?, tempfile::tempdir()?);
        std::fs::write(homes.path().join("file"), [7; 1000])?;
        let others = Mutex::default();
        Ok(Self { others, lab, homes })
    }

    /// Ends a process when the lab does.
    pub(crate) fn keep(&self, process: Child) {
        self.others.lock().unwrap().push(Ended(process));
    }

    /// The path of a file of this test.
    pub(crate) fn file(&self, name: &str) -> String {
        self.homes.path().join(name).to_string_lossy().into_owned()
    }

    pub(crate) fn node(&self, name: &str) -> &Node {
        self.lab.node(name).unwrap()
    }

    fn sss(&self, node: &str, words: &[&str]) -> Command {
        let mut sss = command(&self.homes, self.node(node), Path::new(env!("CARGO_BIN_EXE_sss")));
        sss.args(words);
        sss
    }

    /// Serves with these switches; with `--mdns`, until that is announced.
    pub(crate) fn serve(&self, node: &str, more: &[&str]) -> Result<Served, Failure> {
        let mut serve = self.sss(node, &["serve", "--public", "--json"]);
        serve.args(more).arg(self.homes.path()).stderr(Stdio::null());
        let mut running = Running::start(&mut serve)?;
        let eid = text(&running.event("listening")?["eid"]);
        if more.contains(&"--mdns") {
            running.event("announced")?;
        }
        Ok(Served { running, eid })
    }

    fn run(&self, node: &str, words: &[&str]) -> Result<Output, Failure> {
        Ok(self.sss(node, words).stdin(Stdio::null()).output()?)
    }

    /// The event of a name among those that a command prints.
    pub(crate) fn event(&self, node: &str, words: &[&str], name: &str) -> Result<Value, Failure> {
        let output = self.run(node, words)?;
        let out = String::from_utf8(output.stdout)?;
        let events = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found = events.into_iter().find(|event| event["event"] == name);
        found.ok_or_else(|| format!("{words:?}: {out}{}", String::from_utf8_lossy(&output.stderr)).into())
    }

    /// Runs a command of the system.
    fn at(&self, node: &str, words: &[&str]) -> Result<(), Failure> {
        let status = self.node(node).command(words[0]).args(&words[1..]).status()?;
        assert!(status.success(), "{words:?}");
        Ok(())
    }
}

/// Ends a program as Ctrl-C does.
pub(crate) fn stop(mut running: Running) -> Result<(), Failure> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(running.child.id())?).ok_or("no process")?;
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    running.child.wait()?;
    Ok(())
}

/// Parts of all forms of an EID, none of which anybody is to see.
fn forms(eid: &str) -> Vec<Vec<u8>> {
    let eid: sss::Eid = eid.parse().unwrap();
    let hex: String = eid.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let text = eid.to_string();
    vec![
        eid.as_bytes()[1..9].to_vec(),
        text.as_bytes()[5..13].to_vec(),
        hex.as_bytes()[4..12].to_vec(),
    ]
}

/// Checks that no packet names the host, whoever has sent it; counts those of mDNS.
fn names_nobody<'a>(packets: impl IntoIterator<Item = &'a Packet>, eid: &str) -> usize {
    let forms = forms(eid);
    let unnamed = |packet: &&Packet| assert!(!forms.iter().any(|form| packet.has(form)), "an EID is in {packet:02x?}");
    packets
        .into_iter()
        .inspect(unnamed)
        .filter(|packet| packet.is_mdns())
        .count()
}

// spec: RCH-33, RCH-34, RCH-36
#[test]
fn hosts_on_one_link_find_each_other_without_any_address() {
    let Some(lan) = unless_skipped(Lan::start()) else {
        return;
    };
    let capture = Capture::start(lan.node("a2")).unwrap();
    let served = lan.serve("a", &["--mdns"]).unwrap();
    let eid = served.eid.clone();
    let found = lan
        .event("a2", &["ping", &eid, "--mdns", "--json", "-c", "1"], "found")
        .unwrap();
    assert_eq!(
        (&found["route"], &found["servers"]),
        (&"direct".into(), &serde_json::json!([])),
        "{found}"
    );
    // A name that nobody knows does no harm.
    let begun = Instant::now();
    let named = format!("{eid}@no-such-host.invalid");
    let pinged = lan.run("a2", &["ping", &named, "--mdns", "-c", "1"]).unwrap();
    assert!(
        pinged.status.success() && begun.elapsed() < Duration::from_secs(4),
        "{pinged:?}"
    );
    // A ticket that names no address is enough.
    let words = ["ticket", "--public", "--no-addresses", "--mdns"];
    let ticket = String::from_utf8(lan.run("a", &words).unwrap().stdout).unwrap();
    let to = lan.homes.path().join("got").to_string_lossy().into_owned();
    let got = lan
        .run("a2", &["get", &format!("{}/file", ticket.trim()), &to, "--mdns"])
        .unwrap();
    assert!(got.status.success(), "{got:?}");
    assert_eq!(std::fs::read(&to).unwrap(), [7; 1000]);
    let said = String::from_utf8_lossy(&got.stderr);
    assert!(said.contains("found on the local network"), "{said}");
    let told = lan
        .event("a2", &["doctor", &eid, "--mdns", "--json"], "doctor")
        .unwrap();
    assert!(!told["mdns"]["found"].as_array().unwrap().is_empty(), "{told}");
    assert_eq!(told["peer"]["route"], "direct", "{told}");
    assert_eq!(told["peer"]["tried"], told["mdns"]["found"], "{told}");
    let people = String::from_utf8(lan.run("a2", &["doctor", &eid, "--mdns"]).unwrap().stdout).unwrap();
    let finder = people.lines().find(|line| line.starts_with("found by"));
    assert!(finder.is_some_and(|line| line.ends_with(" mDNS")), "{people}");
    // Who asks for nobody hears how many are there.
    let told = lan.event("a2", &["doctor", "--mdns", "--json"], "doctor").unwrap();
    assert_eq!(told["mdns"]["instances"], 1, "{told}");
    assert!(told["mdns"]["questions"].as_u64().unwrap() > 0, "{told}");
    let people = String::from_utf8(lan.run("a2", &["doctor", "--mdns"]).unwrap().stdout).unwrap();
    assert!(
        people.replace(['\n', ' '], "").contains("onehostannouncesitselfthere"),
        "{people}"
    );
    stop(served.running).unwrap();
    let packets = capture.stop();
    let count = names_nobody(&packets, &eid);
    assert!(count >= 6, "{count} packets of mDNS");
    let is_farewell = |packet: &&Packet| packet.is_mdns() && packet.has(b"_sss") && packet.has(&[0, 1, 0, 0, 0, 0]);
    assert!(
        packets.iter().any(|packet| is_farewell(&packet)),
        "it says that it goes"
    );
}

// spec: RCH-42
#[test]
fn hosts_behind_one_router_that_a_server_introduces_talk_within_their_network() {
    let Some(lan) = unless_skipped(Lan::start()) else {
        return;
    };
    let outside = lan.node("server").ipv4().unwrap();
    let mut server = lan.sss("server", &["rendezvous", "--relay", "--json", "--bind", "0.0.0.0:7757"]);
    let mut server = Running::start(server.stderr(Stdio::null())).unwrap();
    let at = format!("{}@{outside}:7757", text(&server.event("listening").unwrap()["eid"]));
    let mut served = lan.serve("a", &["--server", &at]).unwrap();
    served.running.event("registered").unwrap();
    let found = |more: &[&str]| {
        let words = ["ping", &served.eid, "--server", &at, "--json", "-c", "1"];
        lan.event("a2", &[&words, more].concat(), "found").unwrap()
    };
    let direct = found(&[]);
    let address: std::net::SocketAddr = text(&direct["address"]).parse().unwrap();
    assert_eq!(direct["route"], "direct", "{direct}");
    assert!(lan.node("a").addresses().contains(&address.ip()), "{direct}");
    // Whoever wants nobody to know where it is says nothing of its network either.
    let relayed = found(&["--relay-only"]);
    assert_eq!(relayed["route"], "relay", "{relayed}");
}

// spec: RCH-36
#[test]
fn a_host_without_an_address_of_ipv4_is_found_by_its_link_local_one() {
    let Some(lan) = unless_skipped(Lan::start()) else {
        return;
    };
    lan.at("a3", &["ip", "-4", "address", "flush", "dev", "e0"]).unwrap();
    let served = lan.serve("a", &["--mdns"]).unwrap();
    let find = |node: &str| {
        let found = lan.event(node, &["ping", &served.eid, "--mdns", "--json", "-c", "1"], "found");
        text(&found.unwrap()["address"])
    };
    assert!(find("a3").starts_with("[fe80::"), "{}", find("a3"));
    lan.at("a2", &["sysctl", "-qw", "net.ipv6.conf.e0.disable_ipv6=1"])
        .unwrap();
    assert!(find("a2").starts_with("10.0.1."), "{}", find("a2"));
}

/// The links and the names of an event.
fn names(announced: &Value) -> Vec<(String, String)> {
    let links = announced["links"].as_array().unwrap();
    links
        .iter()
        .map(|link| (text(&link["name"]), text(&link["instance"])))
        .collect()
}

// spec: RCH-34
#[test]
fn threat_43_names_are_others_on_each_link_after_each_start_and_in_another_network() {
    let Some(lan) = unless_skipped(Lan::start()) else {
        return;
    };
    let start = || {
        let mut serve = lan.sss("a", &["serve", "--public", "--json", "--mdns"]);
        let mut running = Running::start(serve.arg(lan.homes.path())).unwrap();
        let told = running.event("announced").unwrap();
        (running, names(&told))
    };
    let (first, at_first) = start();
    stop(first).unwrap();
    let (mut second, again) = start();
    lan.at("a", &["ip", "link", "add", "other", "type", "veth", "peer", "end"])
        .unwrap();
    for device in ["other", "end"] {
        lan.at("a", &["ip", "link", "set", device, "up"]).unwrap();
    }
    lan.at("a", &["ip", "address", "add", "10.0.9.1/24", "dev", "other"])
        .unwrap();
    // Both ends of the other link are here.
    let both = loop {
        let both = names(&second.event("announced").unwrap());
        if both.len() == 3 {
            break both;
        }
    };
    assert_eq!(both[0], again[0], "what has not changed keeps its name");
    lan.at("a", &["ip", "address", "add", "10.0.1.77/24", "dev", "e0"])
        .unwrap();
    let moved = loop {
        let moved = names(&second.event("announced").unwrap());
        if moved[0] != again[0] {
            break moved;
        }
    };
    let mut all: Vec<_> = [&at_first[0], &again[0], &both[1], &moved[0]]
        .map(|(_, instance)| instance)
        .into();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 4, "{at_first:?}, {again:?}, {both:?}, {moved:?}");
    assert!([at_first, again, both, moved].iter().all(|links| links[0].0 == "e0"));
}

// spec: RCH-36
#[test]
fn who_is_not_there_is_told_so_in_three_seconds() {
    let Some(lan) = unless_skipped(Lan::start()) else {
        return;
    };
    let _other = lan.serve("a", &["--mdns"]).unwrap();
    let nobody = sss::Eid::from_public_key(&[9; 32]).to_string();
    let begun = Instant::now();
    let output = lan.run("a2", &["get", &format!("{nobody}/x"), "--mdns"]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("sss serve --mdns") && said.contains("within 3 s"),
        "{said}"
    );
    assert!((3..10).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    let told = lan
        .event("a2", &["doctor", &nobody, "--mdns", "--json"], "doctor")
        .unwrap();
    assert!(told["mdns"]["heard"].as_u64().unwrap() > 0, "{told}");
    assert_eq!(told["mdns"]["found"], serde_json::json!([]), "{told}");
    // All of it is in the time that there is, and told as that.
    let looked = |words: &[&str]| {
        let begun = Instant::now();
        let output = lan
            .run("a2", &[&["doctor", "--mdns", "--timeout", "2"], words].concat())
            .unwrap();
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        said.map(|said| said.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let [out, err] = looked(&[&nobody]);
    assert!(out.contains("not reached, given up after 2 s"), "{out}");
    assert!(err.contains("on the local network within 2 s"), "{err}");
    let [out, _] = looked(&[]);
    assert!(
        out.contains("announces itself there within 2 s") && out.contains("with more --timeout"),
        "{out}"
    );
    // Two hosts with one EID are both found; either is right.
    let one = lan.serve("a2", &["--mdns"]).unwrap();
    let mut two = lan.sss("a3", &["serve", "--public", "--json", "--mdns"]);
    let home = lan.homes.path().join("a2");
    two.env("HOME", &home).env("XDG_CONFIG_HOME", home.join("config"));
    let mut two = Running::start(two.arg(lan.homes.path())).unwrap();
    assert_eq!(two.event("listening").unwrap()["eid"], one.eid);
    two.event("announced").unwrap();
    let told = lan
        .event("a", &["ping", &one.eid, "--mdns", "--json", "-c", "1"], "found")
        .unwrap();
    assert_eq!(told["eid"], one.eid, "{told}");
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [10, 0, 1] || ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.segments()[0] == 0xff02 || ip == Ipv6Addr::UNSPECIFIED,
    }
}

// spec: RCH-33
#[test]
fn threat_43_hosts_that_were_not_asked_to_send_no_mdns() {
    let Some(lan) = unless_skipped(Lan::start()) else {
        return;
    };
    let captures = ["a", "a2"].map(|node| Capture::start(lan.node(node)).unwrap());
    let served = lan.serve("a", &[]).unwrap();
    let address = lan.node("a").ipv4().unwrap();
    let target = format!("{}@{address}", served.eid);
    let got = lan.run("a2", &["ping", &target, "-c", "3"]).unwrap();
    assert!(got.status.success(), "{got:?}");
    std::thread::sleep(quiet());
    let [server, client] = captures.map(Capture::stop);
    for packets in [&server, &client] {
        assert!(!packets.is_empty());
        assert_eq!(packets.iter().filter(|packet| packet.is_mdns()).count(), 0);
        let own = [7757, 7758];
        let is_own = |packet: &&Packet| {
            packet
                .ports
                .is_some_and(|(from, to)| own.contains(&from) || own.contains(&to))
        };
        let others = packets
            .iter()
            .filter(|packet| packet.ports.is_some() && !is_own(packet));
        assert_eq!(others.count(), 0, "of UDP, there is what was asked for");
    }
}

// spec: RCH-37
#[test]
fn threat_43_hosts_that_keep_to_the_local_network_send_nothing_elsewhere() {
    let Some(lan) = unless_skipped(Lan::start()) else {
        return;
    };
    let outside = lan.node("server").ipv4().unwrap();
    let captures = ["a", "a2"].map(|node| Capture::start(lan.node(node)).unwrap());
    let served = lan.serve("a", &["--mdns", "--lan-only"]).unwrap();
    let eid = served.eid.clone();
    // What names servers and addresses outside, or names, is not followed.
    let server = format!("{eid}@{outside}:7757");
    let call = |words: &[&str]| {
        let mut call = lan.sss("a2", words);
        call.env("SSS_SERVER", &server).stdin(Stdio::null());
        call.output().unwrap()
    };
    let link_local = format!("{eid}@[{}%e0]", link_local(lan.node("a")));
    for target in [eid.clone(), format!("{eid}@nas.example"), link_local] {
        let found = call(&["ping", &target, "--mdns", "--lan-only", "-c", "1"]);
        assert!(found.status.success(), "{target}: {found:?}");
    }
    for (target, says) in [
        (format!("{eid}@{outside}"), "outside of the local network"),
        (outside.to_string(), "outside of the local network"),
        (format!("{eid}@nas.example"), "nobody is asked where nas.example is"),
    ] {
        let refused = call(&["ping", &target, "--lan-only", "-c", "1"]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains(says), "{said}");
    }
    let nowhere = call(&["ping", &eid, "--lan-only", "-c", "1"]);
    let said = String::from_utf8_lossy(&nowhere.stderr);
    assert!(said.contains("--mdns") && !said.contains("--server"), "{said}");
    let other = sss::Eid::from_public_key(&[9; 32]);
    let refused = call(&["ping", &format!("{other}@{outside}"), "--lan-only", "--mdns", "-c", "1"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    std::thread::sleep(quiet());
    for packets in captures.map(Capture::stop) {
        assert!(packets.iter().any(Packet::is_mdns));
        let outside = packets.iter().filter(|packet| !is_private(packet.destination));
        let outside: Vec<_> = outside.filter(|packet| !packet.destination.is_loopback()).collect();
        assert!(outside.is_empty(), "{outside:02x?}");
    }
}

/// The link-local address of a host's interface `e0`.
fn link_local(node: &Node) -> String {
    let mut ip = node.command("ip");
    ip.args(["-6", "-o", "address", "show", "dev", "e0", "scope", "link"]);
    let shown = String::from_utf8(ip.output().unwrap().stdout).unwrap();
    let word = shown.split_whitespace().find(|word| word.starts_with("fe80:")).unwrap();
    word.split('/').next().unwrap().to_owned()
}

// spec: RCH-37
#[test]
fn a_host_that_keeps_to_the_local_network_names_no_other_address() {
    let Some(lan) = unless_skipped(Lan::start()) else {
        return;
    };
    lan.at(
        "a",
        &["ip", "address", "add", "2001:db8:77::1/64", "dev", "e0", "nodad"],
    )
    .unwrap();
    lan.at("a", &["ip", "address", "add", "100.64.7.7/24", "dev", "e0"])
        .unwrap();
    let is_outer = |text: &str| text.contains("2001:db8") || text.contains("100.64.");
    let told = |more: &[&str]| {
        let told = lan
            .event("a", &[&["doctor", "--json"], more].concat(), "doctor")
            .unwrap();
        (told["addresses"].to_string(), told["advice"].to_string())
    };
    assert!(is_outer(&told(&[]).0), "{:?}", told(&[]));
    let (addresses, advice) = told(&["--lan-only"]);
    assert!(!is_outer(&addresses) && addresses.contains("10.0.1."), "{addresses}");
    assert!(!advice.contains("--server"), "{advice}");
    let mut serve = lan.sss("a", &["serve", "--json", "--lan-only"]);
    let mut running = Running::start(serve.arg(lan.homes.path()).stderr(Stdio::null())).unwrap();
    let listening = running.event("listening").unwrap();
    assert!(!is_outer(&text(&listening["address"])), "the first one: {listening}");
    let ticket = text(&listening["ticket"]);
    let tried = lan.event("a2", &["doctor", &ticket, "--json"], "doctor").unwrap();
    assert!(!is_outer(&tried["peer"]["tried"].to_string()), "{tried}");
}

/// Name of DNS, as it is on the wire.
fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').flat_map(|label| {
        let len = u8::try_from(label.len()).unwrap();
        std::iter::once(len).chain(label.bytes())
    });
    labels.chain([0]).collect()
}

fn record(of: &str, kind: u16, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(data.len()).unwrap();
    let head = [
        kind.to_be_bytes(),
        1_u16.to_be_bytes(),
        [0, 0],
        [0, 120],
        len.to_be_bytes(),
    ];
    [name(of), head.concat(), data.to_vec()].concat()
}

/// An announcement with another port, and the addresses of others.
fn lie(instance: &str, tag: &str, port: u16, others: &[Ipv4Addr]) -> Vec<u8> {
    let instance_name = format!("{instance}._sss._udp.local");
    let location = [&[0; 4][..], &port.to_be_bytes(), &name("liar.local")].concat();
    let word = format!("t={tag}");
    let word = [&[u8::try_from(word.len()).unwrap()][..], word.as_bytes()].concat();
    let mut records = vec![record(&instance_name, 33, &location), record(&instance_name, 16, &word)];
    records.extend(others.iter().map(|other| record("liar.local", 1, &other.octets())));
    let count = u16::try_from(records.len()).unwrap();
    [
        &[0, 0, 0x84, 0, 0, 0][..],
        &count.to_be_bytes(),
        &[0, 0, 0, 0],
        &records.concat(),
    ]
    .concat()
}

fn memory(running: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

// spec: RCH-35, RCH-36
#[test]
fn threat_43_liars_and_floods_on_the_link_cost_time_and_nobody_else_packets() {
    let Some(lan) = unless_skipped(Lan::start()) else {
        return;
    };
    let capture = Capture::start(lan.node("a2")).unwrap();
    let mut serve = lan.sss("a", &["serve", "--public", "--json", "--mdns"]);
    serve.arg(lan.homes.path()).stderr(Stdio::null());
    let mut running = Running::start(&mut serve).unwrap();
    let eid = text(&running.event("listening").unwrap()["eid"]);
    let told = running.event("announced").unwrap();
    let instance = text(&told["links"][0]["instance"]);
    std::thread::sleep(Duration::from_millis(300));
    let tag = tag(&capture.stop()).expect("a tag");
    let before = memory(&running);
    let third: Vec<Ipv4Addr> = vec![Ipv4Addr::new(10, 0, 1, 1), lan.node("server").ipv4().unwrap()];
    let capture = Capture::start(lan.node("a2")).unwrap();
    let liar = lan.node("a3");
    let own = liar.ipv4().unwrap();
    let flood = liar.enter(|| UdpSocket::bind((own, 5353))).unwrap().unwrap();
    // Of its tag, of hosts that are none, of questions, and of nonsense.
    let mut sent = 0_u64;
    let until = Instant::now() + Duration::from_secs(4);
    let question = [
        &[0; 5][..],
        &[1, 0, 0, 0, 0, 0, 0],
        &name("_sss._udp.local"),
        &[0, 12, 0x80, 1],
    ]
    .concat();
    // At more ports than are tried at once, and sooner than the host answers.
    let copied: Vec<Vec<u8>> = (20_000..20_040)
        .map(|port| lie(&instance, &tag, port, &third))
        .collect();
    let mut copied = copied.iter().cycle();
    let group = (Ipv4Addr::new(224, 0, 0, 251), 5353);
    let caller = std::thread::scope(|scope| {
        let caller = scope.spawn(|| lan.event("a2", &["ping", &eid, "--mdns", "--json", "-c", "1"], "found"));
        while Instant::now() < until {
            let fresh = lie(&format!("{sent:032x}"), &format!("{sent:032x}"), 7757, &[]);
            for message in [copied.next().unwrap(), &fresh, &question, &vec![0xff; 1400]] {
                let _ = flood.send_to(message, group);
                sent += 1;
            }
            if sent.is_multiple_of(40) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        caller.join().unwrap()
    });
    let found = caller.unwrap();
    // Who has heard the announcement, and does not know the EID, is not told.
    let address = lan.node("a").ipv4().unwrap().to_string();
    let stranger = lan.run("a3", &["ping", &address, "--trust", "--timeout", "1"]).unwrap();
    assert_eq!(stranger.status.code(), Some(3), "{stranger:?}");
    let honest = lan.node("a").ipv4().unwrap().to_string();
    let at = text(&found["address"]);
    assert!(at.starts_with(&honest) || at.starts_with("[fe80::"), "{found}");
    let packets = capture.stop();
    let to = |ip: &Ipv4Addr| {
        let to = |packet: &&Packet| packet.destination == IpAddr::from(*ip) && packet.ports.is_some();
        packets.iter().filter(to).count()
    };
    for other in &third {
        assert_eq!(to(other), 0, "{other} gets nothing");
    }
    let lied_to = to(&own);
    let answers = packets
        .iter()
        .filter(|packet| packet.is_mdns() && packet.source.to_string() == honest);
    let (answers, after) = (answers.count(), memory(&running));
    println!("{sent} messages: {answers} answers, {lied_to} packets to the liar, {before} -> {after} KiB");
    assert!(
        sent > 2000 && answers <= 60 && lied_to <= 40,
        "{sent}, {answers}, {lied_to}"
    );
    assert!(after < before + 4096, "{before} -> {after} KiB");
}

/// The tag that is announced.
fn tag(packets: &[Packet]) -> Option<String> {
    let bytes = packets.iter().filter(|packet| packet.is_mdns()).find_map(|packet| {
        let at = packet.bytes.windows(3).position(|window| window == b"\"t=")?;
        packet.bytes.get(at + 3..at + 35)
    });
    String::from_utf8(bytes?.to_vec()).ok()
}
