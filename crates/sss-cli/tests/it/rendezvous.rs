//! Hosts that are found by their EIDs alone, by `sss rendezvous`.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::json_table;
use crate::support::{Home, Ran};

/// A process that runs until it is stopped, and what it prints.
pub(crate) struct Running {
    pub(crate) child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    fn start(command: &mut Command, args: &[&str]) -> Self {
        let mut child = command.args(args).stderr(Stdio::inherit()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    /// The rest of the next line that begins so.
    #[track_caller]
    fn line(&mut self, begin: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.out.read_line(&mut line).unwrap(), 0, "it ended before {begin:?}");
            json_table::check(&line);
            if let Some(rest) = line.strip_prefix(begin) {
                return rest.trim().to_owned();
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A registration server at a port of its own.
pub(crate) struct Server {
    home: Home,
    pub(crate) running: Running,
    /// EID and address.
    pub(crate) at: String,
}

impl Server {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_of(Home::new(), "127.0.0.1:0", args)
    }

    fn start_of(home: Home, address: &str, args: &[&str]) -> Self {
        Self::start_leasing("6", home, address, args)
    }

    fn start_leasing(seconds: &str, home: Home, address: &str, args: &[&str]) -> Self {
        let begin = ["rendezvous", "--bind", address, "--lease", seconds];
        let mut running = Running::start(&mut home.command(), &[&begin, args].concat());
        let at = running.line("listening ");
        assert_eq!(running.line("others give --server "), at);
        let other = running.line("also UDP port ");
        let (port, _) = other.split_once(',').unwrap();
        assert_ne!((port.parse::<u16>(), at.rsplit(':').next()), (Ok(0), Some(port)));
        Self { home, running, at }
    }

    pub(crate) fn eid(&self) -> &str {
        self.at.split_once('@').unwrap().0
    }

    pub(crate) fn address(&self) -> &str {
        self.at.split_once('@').unwrap().1
    }
}

/// A directory with a file `one`, served, and registered with a server.
pub(crate) struct Found {
    dir: PathBuf,
    pub(crate) running: Running,
    pub(crate) eid: String,
    address: String,
    ticket: Option<String>,
}

impl Found {
    pub(crate) fn start(home: &Home, server: &str, args: &[&str]) -> Self {
        let dir = home.dir("source");
        fs::write(dir.join("one"), "1").unwrap();
        let mut command = home.command();
        command
            .args(["serve", "--bind", "127.0.0.1:0", "--server", server])
            .arg(&dir);
        let mut running = Running::start(&mut command, args);
        let target = running.line("listening ");
        // Of a host that relays alone reach, it does not say where it is.
        let is_told = !args.contains(&"--relay-only");
        assert_eq!(target.contains('@'), is_told);
        let eid = target.split('@').next().unwrap();
        let ticket = (!args.contains(&"--public")).then(|| running.line("ticket "));
        let registered = running.line("registered at ");
        let at = server.split_once('@').unwrap().1;
        let seen = format!("{at}, which sees this host at ");
        let address = registered.strip_prefix(&seen).unwrap();
        assert!(!is_told || target.split_once('@').unwrap().1 == address);
        Self {
            dir,
            running,
            eid: eid.to_owned(),
            address: address.to_owned(),
            ticket,
        }
    }

    fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.eid)
    }
}

/// A port at which nobody is, for as long as the socket is there.
fn silent() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

#[test]
fn a_host_is_found_by_its_eid_alone() {
    let home = Home::new();
    let server = Server::start(&[]);
    let serving = Found::start(&home, &server.at, &["--public", "--write"]);
    let by_server = format!("found by the server {}", server.address());
    let run = |client: &Home, args: &[&str], variable: &str| {
        let mut command = client.command();
        Ran::wait(command.args(args).env("SSS_SERVER", variable).spawn().unwrap())
    };
    let client = Home::new();
    let to = client.path("one");
    let to = to.to_str().unwrap();
    let ran = client.run(["get", &serving.at("one"), to, "--server", &server.at]);
    ran.expect(0)
        .says(&["connected to", &serving.eid, &serving.address, &by_server]);
    assert_eq!(fs::read(to).unwrap(), b"1");
    let put = ["put", to, &serving.at("two")];
    run(&Home::new(), &put, &server.at).expect(0).says(&[&by_server]);
    assert_eq!(fs::read(serving.dir.join("two")).unwrap(), b"1");
    let services = ["services", serving.eid.as_str()];
    let ran = run(&Home::new(), &services, &server.at).expect(0);
    ran.says(&[&by_server]);
    let ping = ["ping", "-c", "1", serving.eid.as_str(), "--json"];
    let ran = run(&Home::new(), &ping, &server.at).expect(0);
    let found = ran.event("found");
    assert_eq!(found["eid"], serving.eid.as_str());
    assert_eq!(found["address"], serving.address.as_str());
    assert_eq!(found["servers"], serde_json::json!([server.at]));
    assert_eq!(found["route"], "direct");

    // No server has found what is at the address that was given.
    let direct = format!("{}@{}", serving.eid, serving.address);
    for more in [["--server", server.at.as_str()].as_slice(), &["--no-server"]] {
        let ran = client.run(["ls", &direct].iter().chain(more)).expect(0);
        assert!(!ran.err.contains("found by"), "{}", ran.err);
    }
}

#[test]
fn a_server_that_relays_is_used_and_said_to_be() {
    let (home, client) = (Home::new(), Home::new());
    let server = Server::start(&["--relay", "--relay-rate", "50M"]);
    let serving = Found::start(&home, &server.at, &["--public"]);
    let to = client.path("one");
    let get = ["get", &serving.at("one"), to.to_str().unwrap(), "--relay-only"];
    let ran = client.run(get.iter().chain(&["--server", &server.at])).expect(0);
    let through = format!("through the relay {}, found by the server", server.address());
    ran.says(&["connected to", &serving.eid, &through]);
    assert_eq!(fs::read(to).unwrap(), b"1");
    let other = Home::new();
    let ping = ["ping", "-c", "2", "-i", "0.01", &serving.eid, "--relay-only", "--json"];
    let ran = other.run(ping.iter().chain(&["--server", &server.at])).expect(0);
    let found = ran.event("found");
    assert_eq!(
        (&found["route"], &found["address"]),
        (&"relay".into(), &server.address().into())
    );
    assert_eq!(ran.event("link")["route"], "relay");
    // Without a server that relays nothing comes of it, and what else is meant is asked for.
    let plain = Server::start(&[]);
    let serving = Found::start(&Home::new(), &plain.at, &["--public"]);
    let mut command = client.command();
    command.args([
        "ls",
        &serving.eid,
        "--relay-only",
        "--timeout",
        "1",
        "--server",
        &plain.at,
    ]);
    let ran = Ran::wait(command.spawn().unwrap()).expect(3);
    ran.says(&["no packet gets through", "sss rendezvous --relay"]);
    for args in [
        ["ls", "127.0.0.1:1", "--relay-only"],
        ["ls", &serving.eid, "--relay-only"],
    ] {
        client.run(args).expect(2).says(&["--relay-only needs", "EID"]);
    }
    let serve = ["serve", ".", "--relay-only", "--no-server"];
    client
        .run(serve)
        .expect(2)
        .says(&["--relay-only needs a registration server"]);
    let both = ["ls", &serving.eid, "--relay-only", "--no-relay"];
    client.run(both).expect(2).says(&["--no-relay"]);
}

#[test]
fn a_host_of_relays_says_that_its_server_relays_nothing() {
    let (plain, relay) = (Server::start(&[]), Server::start(&["--relay"]));
    let home = Home::new();
    let dir = home.dir("source");
    let mut command = home.command();
    command.args(["serve", "--relay-only", "--allow", plain.eid(), "--bind", "127.0.0.1:0"]);
    command.args(["--server", &plain.at, "--server", &relay.at]).arg(&dir);
    command.stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut err, mut out) = (String::new(), String::new());
    let mut said = BufReader::new(child.stderr.take().unwrap());
    while !err.contains("nobody reaches") && said.read_line(&mut err).unwrap() > 0 {}
    // Of the one that relays it says nothing, and that it calls itself is in no log.
    std::thread::sleep(Duration::from_secs(2));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    said.read_to_string(&mut err).unwrap();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.wait().unwrap();
    let said = err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.contains(&format!("nobody reaches this host by the server {}", plain.address())),
        "{err}"
    );
    assert!(
        said.contains("sss rendezvous --relay") && !said.contains(relay.address()),
        "{err}"
    );
    assert!(
        !out.contains("not allowed") && !err.contains("not allowed"),
        "{out}{err}"
    );

    let mut command = home.command();
    command.args(["serve", "--json", "--relay-only", "--public", "--bind", "127.0.0.1:0"]);
    command.args(["--server", &plain.at]).arg(&dir);
    let mut serving = Running::start(&mut command, &[]);
    let mut told = String::new();
    while !told.contains(r#""event":"unrelayed""#) {
        told = serving.line("");
    }
    assert!(
        told.contains(&plain.at) && told.contains("leave --relay-only out"),
        "{told}"
    );
    let eid = home.run(["id"]).expect(0).out.trim().to_owned();
    let ran = Home::new().run(["ls", &eid, "--server", &plain.at]).expect(4);
    ran.says(&["refused to be introduced", "--relay-only", "sss rendezvous --relay"]);
}

// spec: RCH-40
#[test]
fn a_host_of_relays_is_silent_where_it_is() {
    let server = Server::start(&["--relay"]);
    let home = Home::new();
    let serving = Found::start(&home, &server.at, &["--relay-only", "--public"]);
    let there = format!("{}@{}", serving.eid, serving.address);
    for args in [["ls", &there], ["ping", &serving.address], ["services", &there]] {
        let ran = Home::new().run([&args[..], &["--no-server", "--timeout", "1"]].concat());
        ran.expect(3).says(&["no"]);
    }
    // It is where it was said to be, and a relay reaches it.
    Home::new()
        .run(["ls", &there, "--server", &server.at])
        .expect(0)
        .says(&["through the relay"]);
}

// spec: RCH-40
#[test]
fn with_relay_only_nothing_goes_directly_whatever_names_the_peer() {
    let home = Home::new();
    let to = home.path("to");
    let to = to.to_str().unwrap();
    let (socket, address) = silent();
    let peer = Home::new().run(["id"]).expect(0).out;
    let peer = peer.trim();
    let there = format!("{peer}@{address}");
    for args in [
        &["doctor", &there][..],
        &["ls", &there],
        &["ping", &there],
        &["services", &there],
        &["get", &there, &address, to],
        &["get", &address, &address, to],
    ] {
        let ran = home.run([args, &["--relay-only", "--no-server"]].concat());
        ran.expect(2).says(&["--relay-only needs"]);
    }
    let server = Server::start(&["--relay"]);
    for args in [&["doctor", &there][..], &["ls", &there]] {
        let by = ["--relay-only", "--timeout", "1", "--server", &server.at];
        home.run([args, &by].concat()).expect(3);
    }
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 2000]).is_err(), "nothing has come");
    for (args, switch) in [
        (&["ls", peer, "--mdns"][..], "--mdns"),
        (&["doctor", peer, "--mdns"], "--mdns"),
        (&["serve", ".", "--mdns"], "--mdns"),
        (&["ls", peer, "--port-mapping"], "--port-mapping"),
        (&["serve", ".", "--port-mapping"], "--port-mapping"),
        (&["ticket", "--public", "--at", "192.0.2.1"], "--at"),
    ] {
        let ran = home.run([args, &["--relay-only", "--server", &server.at]].concat());
        ran.expect(2).says(&[switch, "--relay-only nobody is told"]);
    }
}

/// Whoever writes a ticket may run the server that it names.
// spec: RCH-40
#[test]
fn threat_44_with_relay_only_a_server_that_only_a_ticket_names_is_not_asked() {
    let home = Home::new();
    let (socket, address) = silent();
    let theirs = Home::new().run(["id"]).expect(0).out;
    let server = format!("{}@{address}", theirs.trim());
    let writer = Home::new();
    let ticket = writer.run(["ticket", "--public", "--no-addresses", "--server", &server]);
    let ticket = ticket.expect(0).out.trim().to_owned();
    let own = Server::start(&["--relay"]);
    for command in ["ls", "ping", "doctor"] {
        let ran = home.run([command, &ticket, "--relay-only", "--timeout", "1"]);
        ran.expect(2)
            .says(&["that of a ticket is not asked", "--server", &server]);
        let by = [command, &ticket, "--relay-only", "--timeout", "1", "--server", &own.at];
        let ran = home.run(by).expect(3);
        if command != "doctor" {
            ran.says(&["the ticket names the server", &server, "is not asked"]);
        }
    }
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 2000]).is_err(), "nothing has come");
    let ran = home.run(["ls", &ticket, "--relay-only", "--timeout", "1", "--server", &server]);
    ran.expect(3);
    assert!(socket.recv(&mut [0; 2000]).is_ok(), "whoever names it trusts it");
}

#[test]
fn a_server_that_comes_back_in_time_is_waited_for() {
    let (home, mut server) = (Home::new(), Server::start(&[]));
    let serving = Found::start(&home, &server.at, &["--public"]);
    let at = server.at.clone();
    server.running.kill();
    let client = Home::new();
    let mut command = client.command();
    command.args(["ls", &serving.eid, "--timeout", "20", "--server", &at]);
    let asking = command.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(5500));
    let address = server.address().to_owned();
    let _back = Server::start_of(server.home, &address, &[]);
    Ran::wait(asking).expect(0).says(&["found by the server"]);
}

// spec: RCH-38
#[test]
fn a_host_that_is_reached_by_a_relay_alone_is_not_said_to_be_anywhere() {
    let home = Home::new();
    let server = Server::start(&["--relay"]);
    let serving = Found::start(&home, &server.at, &["--relay-only"]);
    let ticket = serving.ticket.as_deref().unwrap();
    // Without its server, nobody knows a place.
    let client = Home::new();
    client
        .run(["ls", ticket, "--no-server"])
        .expect(2)
        .says(&["no address is given"]);
    let file = home.path("ticket");
    let made = [
        "ticket",
        "--server",
        &server.at,
        "--ticket-file",
        file.to_str().unwrap(),
    ];
    let made = home.run(made.iter().chain(&["--relay-only"])).expect(0).out;
    client
        .run(["ls", made.trim(), "--no-server"])
        .expect(2)
        .says(&["no address is given"]);
    // Callers that would go on directly are told of nothing but the relay.
    let ran = client.run(["ping", "-c", "3", "-i", "0.7", ticket, "--json"]).expect(0);
    assert_eq!(ran.event("found")["route"], "relay");
    let link = ran.event("link");
    let remote = format!("relay at {}", server.address());
    assert!(
        link["route"] == "relay" && link["remote"].as_str().unwrap().starts_with(&remote),
        "{link}"
    );
}

#[test]
fn other_commands_of_the_same_identity_do_not_hide_a_host() {
    let home = Home::new();
    let server = Server::start(&[]);
    let serving = Found::start(&home, &server.at, &["--public"]);
    let other = Home::new();
    let elsewhere = Found::start(&other, &server.at, &["--public"]);
    let by = ["--server", server.at.as_str()];
    let ls = |client: &Home, eid: &str| client.run([&["ls", eid], &by[..]].concat()).expect(0);
    ls(&home, &elsewhere.eid);
    ls(&Home::new(), &serving.eid);
    // It finds itself, too.
    ls(&home, &serving.eid);
    ls(&Home::new(), &serving.eid);
}

#[test]
fn thirty_two_commands_at_once_find_a_host_by_its_eid() {
    commands_at_once_find_a_host(32, &[]);
}

/// The server lets 30 of one identity find one host at once, and then three in a second: the others wait.
// spec: RCH-3
#[test]
fn sixty_four_commands_at_once_find_a_host_in_turn() {
    commands_at_once_find_a_host(64, &["--relay"]);
}

fn commands_at_once_find_a_host(count: usize, args: &[&str]) {
    let (home, client) = (Home::new(), Home::new());
    let server = Server::start(args);
    let serving = Found::start(&home, &server.at, &["--public"]);
    client.run(["id"]).expect(0);
    let children: Vec<_> = (0..count)
        .map(|_| {
            let mut command = client.command();
            command
                .args(["ls", &serving.eid, "--server", &server.at])
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        Ran::wait(child).expect(0);
    }
}

#[test]
fn a_host_that_was_stopped_is_said_to_be_offline_at_once() {
    let (home, client) = (Home::new(), Home::new());
    let server = Server::start(&[]);
    let mut serving = Found::start(&home, &server.at, &["--public"]);
    serving.running.signal(Signal::TERM);
    serving.running.child.wait().unwrap();
    let ran = client.run(["ls", &serving.eid, "--server", &server.at]).expect(3);
    ran.says(&["is offline", "heard nothing of it for"]);
}

/// The last fact of a command.
fn ran_end(ran: &Ran) -> serde_json::Value {
    ran.json().pop().expect("a fact")
}

#[test]
fn hosts_that_are_listed_are_found_by_words() {
    let (home, other, client) = (Home::new(), Home::new(), Home::new());
    let server = Server::start(&[]);
    let listed = [
        "--public",
        "--listed",
        "photos  berlin",
        "--profile",
        "Our \x1b[2Jphotos",
    ];
    let one = Found::start(&home, &server.at, &listed);
    let two = Found::start(&other, &server.at, &["--public", "--listed", "photos"]);
    let search = |args: &[&str]| client.run([&["search", "--server", &server.at], args].concat());
    let ran = search(&["photos", "berlin"]).expect(0);
    assert_eq!(ran.out, format!("{}  Our \\u{{1b}}[2Jphotos\n", one.eid));
    let ran = search(&["photos", "-n", "1", "--json"]).expect(0);
    let first = ran.event("listed")["eid"].as_str().unwrap().to_owned();
    let mut eids = [one.eid.as_str(), two.eid.as_str()];
    eids.sort_by_key(|eid| *eid != first);
    assert_eq!(eids[0], first);
    assert_eq!(ran.event("listed")["servers"], serde_json::json!([server.at]));
    let ran = search(&["photos", "-n", "1"]).expect(0);
    assert!(ran.out.starts_with(eids[0]), "{}", ran.out);
    ran.says(&["there are more", "--after", eids[0]]);
    let ran = search(&["photos", "--after", eids[0]]).expect(0);
    assert!(
        ran.out.starts_with(eids[1]) && ran.out.lines().count() == 1,
        "{}",
        ran.out
    );
    let end = ran_end(&search(&["photos", "-n", "1", "--json"]));
    assert_eq!(end, serde_json::json!({"event": "searched", "listed": 1, "more": true}));
    // Nobody is told, too, and in which words.
    let ran = search(&["london", "london", "berlin"]).expect(0);
    assert_eq!(ran.out, "");
    ran.says(&["no host is listed under \"london\" and \"berlin\"\n"]);
    let ran = search(&["photos", "--after", eids[1]]).expect(0);
    ran.says(&["no host behind that one is listed under \"photos\""]);
    let ran = search(&["london", "--json"]).expect(0);
    assert_eq!((ran.json().len(), ran.err.as_str()), (1, ""));
    assert_eq!(
        ran_end(&ran),
        serde_json::json!({"event": "searched", "listed": 0, "more": false})
    );
    let words: Vec<String> = (0..19).map(|n| format!("w{n}")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    search(&words)
        .expect(2)
        .says(&["19 words are given", "under more than 16"]);
    search(&words[..16]).expect(0).says(&["no host is listed"]);
    search(&["two words"]).expect(2).says(&["no space"]);
    client.run(["search", "photos"]).expect(2).says(&["--server EID@HOST"]);
    let serve = ["serve", ".", "--public", "--listed", "photos"];
    client
        .run(serve)
        .expect(2)
        .says(&["--listed needs a registration server"]);
}

#[test]
fn a_doctor_tells_of_the_network_and_of_the_way_to_a_host() {
    let (home, client) = (Home::new(), Home::new());
    let (server, other) = (Server::start(&[]), Server::start(&[]));
    let serving = Found::start(&home, &server.at, &["--public"]);
    let by = ["--server", &server.at, "--server", &other.at];
    let ran = client.run([&["doctor"], &by[..]].concat()).expect(0);
    for words in [
        "this host   sss1",
        "addresses   ",
        &format!("server      {}: registered, ", server.address()),
        "NAT         none on the way to the servers",
    ] {
        assert!(ran.out.contains(words), "{words}: {}", ran.out);
    }
    assert!(!ran.out.contains("guessing"), "{}", ran.out);
    let own = client.run(["id"]).expect(0).out.trim().to_owned();
    client
        .run(["doctor", &own])
        .expect(2)
        .says(&["EID of this host itself", "leave it out"]);
    for switch in ["--no-spraying", "--no-relay"] {
        let off = client.run([&["doctor", switch], &by[..]].concat()).expect(0);
        let line = format!("guessing    off, here and for peers: {switch}");
        assert!(off.out.contains(&line), "{}", off.out);
    }
    let off = ["doctor", "--json", "--no-spraying", "--no-server"];
    assert_eq!(client.run(off).expect(0).event("doctor")["guesses_ports"], false);
    let long = ran.out.lines().filter(|line| line.len() > 80 && line.contains(' '));
    assert_eq!(long.count(), 0, "{}", ran.out);
    let ran = client.run([&["doctor", &serving.eid], &by[..]].concat()).expect(0);
    for words in [
        format!("found by    {}\n", server.address()),
        format!("direct route now: {}\n", serving.address),
    ] {
        assert!(ran.out.contains(&words), "{words}: {}", ran.out);
    }
    let ran = client
        .run([&["doctor", &serving.eid, "--json"], &by[..]].concat())
        .expect(0);
    let fact = ran.event("doctor");
    assert_eq!(
        (&fact["nat"], &fact["peer"]["route"]),
        (&"none".into(), &"direct".into())
    );
    assert_eq!(fact["peer"]["found_by"], serde_json::json!([server.address()]));
    assert_eq!(fact["servers"][1]["server"], other.at.as_str());
    assert!(fact["servers"][0]["rtt_ms"].is_number(), "{fact}");

    // What is wrong is told, too.
    let (_socket, nobody) = silent();
    let silent = format!("{}@{nobody}", server.eid());
    let ran = client
        .run(["doctor", &serving.eid, "--timeout", "1", "--server", &silent])
        .expect(3);
    assert!(ran.out.contains("not reached, given up after"), "{}", ran.out);
    assert!(ran.out.contains(&format!("nobody answers at {nobody}")), "{}", ran.out);
    ran.says(&["no registration server has answered"]);
    let ran = client.run(["doctor", "--json", "--server", &silent]).expect(0);
    assert_eq!(ran.event("doctor")["diagnosis"], format!("nobody answers at {nobody}"));
    client
        .run(["doctor", "127.0.0.1", "--no-server"])
        .expect(2)
        .says(&["EID@HOST"]);
    let ran = client.run(["doctor", "--no-server"]).expect(0);
    assert!(ran.out.contains("-> ") || ran.out.contains("->  "), "{}", ran.out);
}

#[test]
fn a_ticket_is_made_without_serving() {
    let home = Home::new();
    let server = Server::start(&[]);
    let file = home.path("secret");
    let args = ["--ticket-file", file.to_str().unwrap()];
    let ticket = |more: &[&str]| {
        let ran = home.run([&["ticket", "--server", &server.at], &args[..], more].concat());
        ran.expect(0).out
    };
    let made = ticket(&["--no-addresses"]);
    let serving = Found::start(&home, &server.at, &args);
    // Another one with the same secret, whose servers find the host.
    let client = Home::new();
    client.run(["ls", made.trim()]).expect(0);
    let at = ticket(&["--at", &serving.address]);
    client.run(["ls", at.trim(), "--no-server"]).expect(0);
    let shown = ticket(&["--no-addresses", "--qr"]);
    let rows: Vec<&str> = shown.lines().collect();
    assert_eq!(rows[0], made.trim());
    assert!(
        rows[5].starts_with(&format!("{}{}", " ".repeat(8), "#".repeat(14))),
        "{shown}"
    );
    let json = home.run(["ticket", "--public", "--json", "--qr", "--at", "nas.example"]);
    let json = json.expect(0);
    assert_eq!(json.event("ticket")["eid"], serving.eid.as_str());
    assert_eq!(json.out.lines().count(), 1);
    home.run(["ticket"]).expect(2).says(&["--ticket-file", "--public"]);
    let once = home.run(["ticket", "--public", "--at", "192.0.2.1"]).expect(0);
    let twice = ["ticket", "--public", "--at", "192.0.2.1", "--at", "192.0.2.1:7757"];
    assert_eq!(home.run(twice).expect(0).out, once.out);
    let nowhere = ["ticket", "--public", "--no-addresses", "--no-server"];
    home.run(nowhere).expect(2).says(&["without a place"]);
}

#[test]
fn a_server_tells_prometheus_what_it_does_and_where_others_find_it() {
    let mut server = Home::new().command();
    let begin = [
        "rendezvous",
        "--bind",
        "127.0.0.1:0",
        "--public-addr",
        "rendezvous.example",
    ];
    let metrics = ["--metrics", "127.0.0.1:0"];
    let mut server = Running::start(&mut server, &[&begin[..], &metrics].concat());
    let at = server.line("listening ");
    let (eid, _) = at.split_once('@').unwrap();
    let public = format!("{eid}@rendezvous.example:7757");
    assert_eq!(server.line("public "), public);
    assert_eq!(server.line("others give --server "), public);
    let url = server.line("metrics ");
    let address = url.strip_prefix("http://").and_then(|url| url.strip_suffix("/metrics"));
    let ask = |path: &str| {
        let mut stream = std::net::TcpStream::connect(address.unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let _serving = Found::start(&Home::new(), &at, &["--public"]);
    let page = ask("/metrics");
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    assert!(
        body.contains("# TYPE sss_rendezvous_registered gauge\nsss_rendezvous_registered 1\n"),
        "{body}"
    );
    assert!(body.contains("# TYPE sss_rendezvous_renewed_total counter\n"), "{body}");
    for row in body.lines().filter(|row| !row.starts_with('#')) {
        let (name, value) = row.split_once(' ').unwrap();
        assert!(
            name.starts_with("sss_rendezvous_") && value.parse::<u64>().is_ok(),
            "{row}"
        );
    }
    assert!(ask("/other").starts_with("HTTP/1.1 404 "));
}

#[test]
fn servers_are_named_in_three_places() {
    let home = Home::new();
    let server = Server::start(&[]);
    let serving = Found::start(&home, &server.at, &["--public"]);
    let client = Home::new();
    let ls = |variable: Option<&str>, args: &[&str]| {
        let mut command = client.command();
        command.args(["ls", &serving.eid]).args(args);
        if let Some(variable) = variable {
            command.env("SSS_SERVER", variable);
        }
        Ran::wait(command.spawn().unwrap())
    };
    ls(None, &[])
        .expect(2)
        .says(&["no registration server is known", "--server EID@HOST", "SSS_SERVER"]);
    let file = client.dir("config/sss").join("servers");
    fs::write(&file, format!("# ours\n{} # at home\n", server.at)).unwrap();
    ls(None, &[]).expect(0);
    // The environment comes before the file, the command line before both.
    ls(Some(""), &[]).expect(2).says(&["no registration server is known"]);
    ls(Some("nonsense"), &[])
        .expect(2)
        .says(&["SSS_SERVER", "\"nonsense\" is no server", "--no-server"]);
    ls(None, &["--no-server"]).expect(2).says(&["--no-server"]);
    fs::write(&file, format!("# ours\n\n{}\nrendezvous.example\n", server.at)).unwrap();
    ls(None, &[]).expect(1).says(&[
        "line 4 of",
        "servers",
        "\"rendezvous.example\" is no server",
        "correct or remove",
    ]);
    ls(Some("nonsense"), &["--server", &server.at]).expect(0);
}

// spec: RCH-43
#[test]
fn of_four_servers_a_host_uses_two_and_is_found_by_whoever_knows_all() {
    let servers: Vec<Server> = (0..4).map(|_| Server::start(&["--stats", "1"])).collect();
    let named: Vec<&str> = servers.iter().map(|server| server.at.as_str()).collect();
    let (home, client) = (Home::new(), Home::new());
    let dir = home.dir("source");
    fs::write(dir.join("one"), "1").unwrap();
    let mut command = home.command();
    command.env("SSS_SERVER", named.join(" ")).arg("serve").arg(&dir);
    let args = ["--public", "--bind", "127.0.0.1:0", "--listed", "photos"];
    let mut running = Running::start(&mut command, &args);
    let target = running.line("listening ");
    let eid = target.split('@').next().unwrap();
    let places = [running.line("registered at "), running.line("registered at ")];
    // The first word of each is the server.
    let used = places.map(|line| line.split(',').next().unwrap().to_owned());
    assert_ne!(used[0], used[1]);
    let ask = |args: &[&str]| {
        let mut command = client.command();
        command.env("SSS_SERVER", named.iter().rev().copied().collect::<Vec<_>>().join(","));
        Ran::wait(command.args(args).spawn().unwrap())
    };
    let found = ask(&["ls", eid]).expect(0);
    assert!(used.iter().any(|place| found.err.contains(place)), "{}", found.err);
    // It is listed at these two, and all are searched.
    let listed = ask(&["search", "photos", "--json"]).expect(0);
    assert!(used.iter().all(|place| listed.out.contains(place)), "{}", listed.out);
    assert_eq!(listed.out.matches("127.0.0.1:").count(), 2, "{}", listed.out);
}

#[test]
fn a_ticket_names_the_server_that_knows_the_place() {
    let (home, client) = (Home::new(), Home::new());
    let server = Server::start(&[]);
    let args = ["--ticket-file", home.path("secret").to_str().unwrap()].map(str::to_owned);
    let args = args.each_ref().map(String::as_str);
    let mut before = Found::start(&home, &server.at, &args);
    let ticket = before.ticket.clone().unwrap();
    before.running.kill();
    // At the old address somebody else is now.
    let other = Home::new();
    let _other = other.serve_at(&before.address, &other.dir("source"), &[]);
    let after = Found::start(&home, &server.at, &args);
    assert_eq!(after.eid, before.eid);
    assert_ne!(after.address, before.address);
    let ran = client.run(["ls", &ticket]).expect(0);
    assert!(ran.out.contains("one"), "{}", ran.out);
    ran.says(&["connected to", &after.address, "found by the server"]);
    client
        .run(["ls", &ticket, "--no-server"])
        .expect(4)
        .says(&["not", &after.eid]);
}

// The lease of 6 s is renewed after 2 s, and after 1, 2 and 4 s more if nobody answers.
#[test]
fn a_server_that_was_restarted_finds_those_who_had_registered() {
    let (home, client) = (Home::new(), Home::new());
    let mut server = Server::start(&[]);
    let serving = Found::start(&home, &server.at, &["--public"]);
    server.running.kill();
    let (address, eid) = (server.address().to_owned(), server.eid().to_owned());
    let server = Server::start_of(server.home, &address, &[]);
    assert_eq!(server.eid(), eid, "it is who it was");
    // Until it has, whoever asks for it waits; the time for one attempt is over before, and it is asked again.
    let ran = client.run(["ls", &serving.eid, "--server", &server.at, "--timeout", "0.5"]);
    assert!(ran.expect(0).out.contains("one"));
}

#[test]
fn whoever_asks_a_server_that_was_restarted_for_a_host_that_is_gone_is_told_when_that_is_certain() {
    let client = Home::new();
    let nobody = Home::new().run(["id"]).expect(0).out.trim().to_owned();
    let mut server = Server::start(&[]);
    server.running.kill();
    let address = server.address().to_owned();
    // For 8 s it knows that it was restarted.
    let server = Server::start_leasing("16", server.home, &address, &[]);
    let ls = |more: &[&str]| {
        let words = ["ls", &nobody, "--server", &server.at, "--timeout", "1"];
        client.run(words.iter().chain(more))
    };
    let search = ["search", "photos", "--server", &server.at];
    client
        .run(search)
        .expect(0)
        .says(&[server.address(), "was restarted", "are missing"]);
    let fact = client.run(search.iter().chain(&["--json"])).expect(0).event("note");
    assert!(fact["text"].as_str().unwrap().contains("was restarted"), "{fact}");
    let begun = Instant::now();
    ls(&["--patience", "0"])
        .expect(3)
        .says(&["was restarted", "has not come back", "half a minute"]);
    ls(&[])
        .expect(3)
        .says(&["was restarted", "asking it again", "no host of this EID"]);
    assert!((7..60).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    let begun = Instant::now();
    let ran = ls(&[]).expect(3).says(&["no host of this EID"]);
    assert!(
        !ran.err.contains("restarted") && begun.elapsed() < Duration::from_secs(5),
        "{}",
        ran.err
    );
}

#[test]
fn what_is_wrong_is_said() {
    let (home, client) = (Home::new(), Home::new());
    let server = Server::start(&[]);
    let serving = Found::start(&home, &server.at, &["--public"]);
    let other = Home::new().run(["id"]).expect(0).out.trim().to_owned();
    let (_socket, nobody) = silent();
    let plain = Home::new();
    let plain = plain.serve(&plain.dir("source"), &[]);
    let ls = |eid: &str, server: &str| {
        let mut command = client.command();
        command.args(["ls", eid, "--server", server]);
        let child = command.spawn().unwrap();
        move || Ran::wait(child)
    };
    // All at once: some wait for servers that do not answer.
    let at_nobody = ls(&serving.eid, &format!("{}@{nobody}", server.eid()));
    let wrong = ls(&serving.eid, &format!("{other}@{}", server.address()));
    let unnamed = ls(&serving.eid, &format!("{}@no-such-host.invalid", server.eid()));
    let no_server = ls(&serving.eid, &plain.target);
    let unseen = ls(&other, &server.at);
    let mut half = client.command();
    let silent_too = format!("{}@{nobody}", serving.eid);
    half.args(["ls", &other, "--server", &server.at, "--server", &silent_too]);
    let half = half.spawn().unwrap();
    unseen()
        .expect(3)
        .says(&["no host of this EID", "check the EID", "sss serve"]);
    // Another server might know it.
    Ran::wait(half).expect(3).says(&[
        "no host of this EID",
        &format!("not asked, as it has not answered: the server {nobody}"),
    ]);
    at_nobody().expect(3).says(&[
        "no registration server",
        &format!("nobody answers at {nobody}"),
        "sss rendezvous",
    ]);
    let names_the_key = [
        server.address(),
        server.eid(),
        "not",
        &other,
        "key",
        "another one",
        "--server",
    ];
    wrong().expect(3).says(&names_the_key);
    unnamed()
        .expect(3)
        .says(&["cannot look up no-such-host.invalid", "sss rendezvous"]);
    no_server().expect(3).says(&["does not register"]);
    let mut mistyped = serving.eid.clone();
    mistyped.pop();
    client
        .run(["ls", &mistyped, "--server", &server.at])
        .expect(2)
        .says(&["63 characters", "copied completely"]);
    client
        .run(["ls", &serving.eid, "--server", "nonsense"])
        .expect(2)
        .says(&["EID@HOST"]);
}

#[test]
fn another_key_of_a_server_is_told_as_soon_as_it_is_known() {
    let client = Home::new();
    let server = Server::start(&[]);
    let other = Home::new().run(["id"]).expect(0).out.trim().to_owned();
    let at = format!("{other}@{}", server.address());
    for args in [
        &["search", "photos"][..],
        &["ls", &other],
        &["get", &other, "to"],
        &["services", &other],
    ] {
        let begun = Instant::now();
        let ran = client.run([args, &["--timeout", "60", "--server", &at]].concat());
        let took = begun.elapsed();
        ran.expect(3).says(&[server.eid(), "not", &other, "key", "another one"]);
        assert!(took < Duration::from_secs(20), "{args:?}: {took:?}");
    }
    // Where the host may be found without it, it is tried there all the time.
    let begun = Instant::now();
    let (_socket, nobody) = silent();
    let there = format!("{other}@{nobody}");
    let ran = client.run(["ls", &there, "--timeout", "4", "--server", &at]).expect(3);
    assert!(begun.elapsed() >= Duration::from_secs(4), "{:?}", begun.elapsed());
    ran.says(&["no registration server has answered either", server.eid()]);
}

#[test]
fn a_doctor_takes_no_longer_than_its_timeout() {
    let client = Home::new();
    let eid = client.run(["id"]).expect(0).out.trim().to_owned();
    let other = Home::new().run(["id"]).expect(0).out.trim().to_owned();
    let (_socket, nobody) = silent();
    let server = format!("{eid}@{nobody}");
    for args in [&["doctor"][..], &["doctor", &other]] {
        let mut over = Duration::MAX;
        // A machine at work may be late once.
        for _ in 0..3 {
            let begun = Instant::now();
            let ran = client.run([args, &["--timeout", "4", "--server", &server]].concat());
            over = over.min(begun.elapsed().saturating_sub(Duration::from_secs(4)));
            assert!(ran.out.contains(&format!("nobody answers at {nobody}")), "{}", ran.out);
        }
        assert!(over < Duration::from_millis(500), "{args:?}: {over:?}");
    }
}

// spec: CHN-12
#[test]
fn a_command_that_uses_a_server_ends_when_it_is_done() {
    let (home, client) = (Home::new(), Home::new());
    let server = Server::start(&[]);
    let serving = Found::start(&home, &server.at, &["--public"]);
    client.run(["id"]).expect(0);
    let mut least = Duration::MAX;
    // A machine at work may be late a few times.
    for _ in 0..5 {
        let args = ["ls", &serving.eid, "--server", &server.at];
        let mut ls = Running::start(&mut client.command(), &args);
        let mut listed = String::new();
        ls.out.read_line(&mut listed).unwrap();
        assert!(listed.contains("one"), "{listed}");
        let begun = Instant::now();
        assert_eq!(ls.child.wait().unwrap().code(), Some(0));
        least = least.min(begun.elapsed());
    }
    // Three times the timeout of what was sent before there was a round-trip time would be 600 ms.
    assert!(least < Duration::from_millis(300), "{least:?}");
}

#[test]
fn a_command_that_waits_for_a_silent_server_ends_in_time() {
    let client = Home::new();
    let eid = client.run(["id"]).expect(0).out.trim().to_owned();
    let (_socket, nobody) = silent();
    let server = format!("{eid}@{nobody}");
    for args in [&["search", "photos"][..], &["ls", &eid]] {
        let mut over = Duration::MAX;
        // A machine at work may be late once.
        for _ in 0..3 {
            let begun = Instant::now();
            let ran = client.run([args, &["--timeout", "2", "--server", &server]].concat());
            over = over.min(begun.elapsed().saturating_sub(Duration::from_secs(2)));
            ran.expect(3).says(&["nobody answers at", &nobody]);
        }
        assert!(over < Duration::from_millis(500), "{args:?}: {over:?}");
    }
}

#[test]
fn whoever_asks_a_server_that_was_restarted_waits_no_longer_than_its_patience() {
    let client = Home::new();
    let nobody = Home::new().run(["id"]).expect(0).out.trim().to_owned();
    let mut server = Server::start(&[]);
    server.running.kill();
    let address = server.address().to_owned();
    let server = Server::start_leasing("120", server.home, &address, &[]);
    // An attempt may have more time, and less.
    for (timeout, patience) in [("50", 1), ("2", 3)] {
        let begun = Instant::now();
        let words = [
            "ls",
            &nobody,
            "--server",
            &server.at,
            "--timeout",
            timeout,
            "--patience",
        ];
        let ran = client.run(
            words
                .iter()
                .map(|word| (*word).to_owned())
                .chain([patience.to_string()]),
        );
        let took = begun.elapsed();
        ran.expect(3).says(&["was restarted", "has not come back"]);
        let patience = Duration::from_secs(patience);
        assert!(
            took >= patience && took < patience + Duration::from_secs(20),
            "{took:?}"
        );
    }
}

#[test]
fn a_host_that_hangs_is_told_from_one_that_is_gone() {
    let (home, client) = (Home::new(), Home::new());
    let server = Server::start(&[]);
    let serving = Found::start(&home, &server.at, &["--public"]);
    serving.running.signal(Signal::STOP);
    let ran = client.run(["ls", &serving.eid, "--server", &server.at]).expect(3);
    assert!(!ran.err.contains("no registration server"), "{}", ran.err);
    if !ran.err.contains("does not answer its server") {
        ran.says(&["a server has found it", "no packet gets through"]);
    }
    let begun = Instant::now();
    loop {
        let ran = client.run(["ls", &serving.eid, "--server", &server.at, "--timeout", "1"]);
        let ran = ran.expect(3);
        if ran.err.contains("is offline") {
            ran.says(&["heard nothing of it for", "still runs there"]);
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", ran.err);
    }
}

#[test]
fn a_host_that_comes_back_while_there_is_time_is_reached() {
    let (home, client) = (Home::new(), Home::new());
    let server = Server::start_leasing("60", Home::new(), "127.0.0.1:0", &[]);
    let serving = Found::start(&home, &server.at, &["--public"]);
    serving.running.signal(Signal::STOP);
    std::thread::scope(|scope| {
        // That it does not answer its server is known after some eight seconds.
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(11));
            serving.running.signal(Signal::CONT);
        });
        client
            .run(["ls", &serving.eid, "--server", &server.at, "--timeout", "40"])
            .expect(0);
    });
}

#[test]
fn a_server_serves_whom_it_is_told_to() {
    let (home, client, stranger) = (Home::new(), Home::new(), Home::new());
    let allowed = home.path("allowed");
    let eids = [&home, &client].map(|home| home.run(["id"]).expect(0).out);
    fs::write(&allowed, format!("# ours\n{} # serves\n\n{}", eids[0].trim(), eids[1])).unwrap();
    let server = Server::start(&["--allow-file", allowed.to_str().unwrap()]);
    let serving = Found::start(&home, &server.at, &["--public"]);
    client.run(["ls", &serving.eid, "--server", &server.at]).expect(0);
    let ran = stranger.run(["ls", &serving.eid, "--server", &server.at]).expect(4);
    ran.says(&["do not serve this host", "--allow-file", "sss id"]);

    fs::write(&allowed, "sss1qqq\n").unwrap();
    for (file, words) in [(allowed.as_path(), "line 1 of"), (&home.path("missing"), "missing")] {
        let ran = home.run(["rendezvous", "--allow-file", file.to_str().unwrap()]);
        ran.expect(1).says(&[words]);
    }
}

/// What a server with these limits of descriptors says of 60 connections that come at once, from 20 networks: how many
/// were refused or gave way, and how many failed.
#[cfg(all(target_os = "linux", feature = "tls"))] // which has all of 127.0.0.0/8
fn crowded(limits: &str) -> (u32, u32) {
    use std::net::SocketAddr;

    let home = Home::new();
    let mut command = home.command_after(limits);
    command
        .args(["rendezvous", "--bind", "127.0.0.1:0", "--relay", "--tls", "127.0.0.1:0"])
        .args(["--stats", "0.1"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let told = BufReader::new(child.stderr.take().unwrap());
    let out = BufReader::new(child.stdout.take().unwrap());
    let mut server = Running { child, out };
    let at: SocketAddr = server.line("tls ").parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let _streams = runtime.unwrap().block_on(async {
        let mut streams = Vec::new();
        for n in 0..60 {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 1, 1 + n % 20], 0).into()).unwrap();
            streams.push(socket.connect(at).await.unwrap().into_std().unwrap());
        }
        // It is no TLS; but some are gone by now.
        for stream in &mut streams {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
        }
        streams
    });
    for line in told.lines() {
        let line = line.unwrap();
        let Some((_, line)) = line.split_once(" over TLS, ") else {
            continue;
        };
        let numbers: Vec<u32> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [refused, gave_way, failed] = numbers[..] else {
            panic!("{line}");
        };
        if refused + gave_way + failed == 60 {
            return (refused + gave_way, failed);
        }
    }
    panic!("it ended");
}

// spec: RCH-22
#[test]
#[cfg(all(target_os = "linux", feature = "tls"))]
fn a_server_takes_as_many_tunnels_as_it_may_have_descriptors() {
    let (refused, failed) = crowded("ulimit -n 40");
    assert!(refused > 0 && failed > 0, "{refused} refused, {failed} failed");
    // It asks for more itself.
    assert_eq!(crowded("ulimit -Sn 40; ulimit -Hn 400"), (0, 60));
}

/// Nobody answers by UDP, and by TLS somebody else is there: that is said, as it is where UDP works.
#[test]
#[cfg(all(target_os = "linux", feature = "tls"))]
fn a_wrong_eid_of_a_server_that_is_reached_by_tls_alone_is_told() {
    let home = Home::new();
    let mut command = home.command();
    command.args(["rendezvous", "--bind", "127.0.0.1:0", "--relay", "--tls", "127.0.0.1:0"]);
    let mut server = Running::start(&mut command, &[]);
    let listening = server.line("listening ");
    let (right, _) = listening.split_once('@').unwrap();
    let tls: std::net::SocketAddr = server.line("tls ").parse().unwrap();
    let client = Home::new();
    let wrong = Home::new().run(["id"]).expect(0).out;
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = format!("{}@{}+tls:{}", wrong.trim(), silent.local_addr().unwrap(), tls.port());
    let ran = client
        .run(["ls", wrong.trim(), "--server", &at, "--timeout", "9"])
        .expect(3);
    // It is not asked who is there before 3 s are over (NEG-27), and then with the next greeting.
    ran.says(&["reached by TLS", right, "not", wrong.trim()]);
}

#[test]
fn a_server_has_room_for_so_many_and_tells_what_it_does() {
    let (home, client) = (Home::new(), Home::new());
    let mut command = home.command();
    let mut server = Running::start(
        &mut command,
        &[
            "rendezvous",
            "--bind",
            "127.0.0.1:0",
            "--max-clients",
            "1",
            "--stats",
            "0.2",
            "--json",
        ],
    );
    let listening = server.line("");
    let listening: serde_json::Value = serde_json::from_str(&listening).unwrap();
    let at = listening["target"].as_str().unwrap();
    let other_port: serde_json::Value = serde_json::from_str(&server.line("")).unwrap();
    assert_eq!(other_port["event"], "other_port");
    assert!(other_port["port"].as_u64().unwrap() > 0);
    let other = Home::new();
    let serving = Found::start(&other, at, &["--public"]);
    let registered = loop {
        let line = server.line("");
        let statistics: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(statistics["event"], "statistics");
        if statistics["registered"] != 0 {
            break statistics["registered"].clone();
        }
    };
    assert_eq!(registered, 1);
    let ran = client.run(["ls", &serving.eid, "--server", at, "--timeout", "1"]);
    ran.expect(3).says(&["full", "use another server"]);
    server.signal(Signal::TERM);
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[cfg(feature = "tls")]
#[test]
fn a_certificate_that_is_no_file_is_an_error_and_nobody_waits_for_it() {
    let home = Home::new();
    let fifo = home.path("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let fifo = fifo.to_str().unwrap();
    let args = ["rendezvous", "--relay", "--bind", "127.0.0.1:0", "--tls", "127.0.0.1:0"];
    home.run([&args[..], &["--tls-cert", fifo, "--tls-key", fifo]].concat())
        .expect(1)
        .says(&["is no file of at most"]);
}
