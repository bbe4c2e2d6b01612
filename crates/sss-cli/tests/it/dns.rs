//! Hosts that are named in the DNS, with a server of the DNS that says what the tests want.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use simple_dns::rdata::{RData, TXT};
use simple_dns::{CLASS, Packet, RCODE, ResourceRecord};

use crate::support::{Home, Ran, Serving};

/// Strings of each TXT record of a name.
type Records = Vec<Vec<String>>;

/// A server of the DNS.
struct Zone {
    address: SocketAddr,
    names: Arc<Mutex<HashMap<String, Records>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Zone {
    fn new() -> Self {
        Self::slow(Duration::ZERO)
    }

    /// A server that takes so long to answer.
    fn slow(pause: Duration) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let zone = Self {
            address: socket.local_addr().unwrap(),
            names: Arc::default(),
            asked: Arc::default(),
        };
        let (names, asked) = (Arc::clone(&zone.names), Arc::clone(&zone.asked));
        std::thread::spawn(move || {
            let mut buf = [0; 1500];
            while let Ok((len, from)) = socket.recv_from(&mut buf) {
                let question = Packet::parse(&buf[..len]).unwrap();
                let name = question.questions[0].qname.to_string();
                asked.lock().unwrap().push(name.clone());
                std::thread::sleep(pause);
                let answer = answer(&question, names.lock().unwrap().get(&name));
                socket.send_to(&answer, from).unwrap();
            }
        });
        zone
    }

    fn set(&self, name: &str, records: Records) {
        self.names.lock().unwrap().insert(name.to_owned(), records);
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(question: &Packet<'_>, records: Option<&Records>) -> Vec<u8> {
    let mut reply = Packet::new_reply(question.id());
    reply.questions.clone_from(&question.questions);
    match records {
        None => *reply.rcode_mut() = RCODE::NameError,
        Some(records) => {
            for strings in records {
                let text = strings
                    .iter()
                    .fold(TXT::new(), |text, string| text.with_string(string).unwrap());
                let name = question.questions[0].qname.clone();
                let record = ResourceRecord::new(name, CLASS::IN, 60, RData::TXT(text));
                reply.answers.push(record);
            }
        }
    }
    reply.build_bytes_vec().unwrap()
}

/// The strings of a line of a zone.
fn strings(line: &str) -> Vec<String> {
    line.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A server of files, its line in the zone, and a client.
struct World {
    server: Home,
    serving: Serving,
    client: Home,
    zone: Zone,
}

impl World {
    fn new() -> Self {
        let server = Home::new();
        let dir = server.dir("source");
        std::fs::write(dir.join("hello"), "hello").unwrap();
        let serving = server.serve(&dir, &["--public"]);
        Self {
            client: Home::new(),
            zone: Zone::new(),
            server,
            serving,
        }
    }

    fn record(&self) -> Vec<String> {
        let at = self.serving.address();
        let args = ["ticket", "--public", "--dns", "NAS.example", "--at", at];
        let line = self.server.run(args).expect(0).out;
        assert!(line.starts_with("_sss.nas.example. 3600 IN TXT \"ssst1"), "{line}");
        strings(&line)
    }

    fn ls(&self, target: &str, args: &[&str]) -> Ran {
        let dns = self.zone.address.to_string();
        let all = ["ls", target, "--dns", &dns, "--timeout", "3"];
        self.client.run(all.iter().chain(args))
    }
}

// spec: FIL-47, FIL-48
#[test]
fn a_host_that_the_dns_names_is_trusted_once_and_then_held_to_its_identity() {
    let world = World::new();
    let ours = world.record();
    world
        .zone
        .set("_sss.nas.example", vec![vec!["v=spf1 -all".to_owned()], ours.clone()]);
    let said = world.ls("dns:nas.example", &[]).expect(4);
    said.says(&["nas.example", world.serving.eid(), "not known", "--trust"]);
    let found = world
        .ls("dns:nas.example", &["--trust"])
        .expect(0)
        .says(&["remembered in"]);
    assert!(found.out.contains("hello"), "{}", found.out);
    // In capital letters, with a path, by another command.
    let dns = world.zone.address.to_string();
    let to = world.client.path("hello");
    let get = ["get", "dns:NAS.Example/hello", to.to_str().unwrap(), "--dns", &dns];
    world.client.run(get).expect(0);
    assert_eq!(std::fs::read(&to).unwrap(), b"hello");
    world
        .client
        .run(["ping", "dns:nas.example", "-c", "1", "--dns", &dns])
        .expect(0);
    assert!(
        world.zone.asked().iter().all(|name| name == "_sss.nas.example"),
        "{:?}",
        world.zone.asked()
    );

    // Another identity, where a known one was.
    let impostor = Home::new();
    let serving = impostor.serve(&impostor.dir("other"), &["--public"]);
    let args = ["ticket", "--public", "--dns", "nas.example", "--at", serving.address()];
    let theirs = strings(&impostor.run(args).expect(0).out);
    world.zone.set("_sss.nas.example", vec![theirs.clone()]);
    let said = world.ls("dns:nas.example", &["--trust"]).expect(4);
    said.says(&["not the one it was", world.serving.eid(), serving.eid()]);
    // The EID is known otherwise: nothing else is believed.
    let pinned = format!("{}@dns:nas.example", world.serving.eid());
    world
        .ls(&pinned, &[])
        .expect(4)
        .says(&["by the DNS, not", serving.eid()]);
    world.zone.set("_sss.nas.example", vec![ours.clone()]);
    let fresh = world.client.path("fresh");
    world.ls(&pinned, &["--known-hosts", fresh.to_str().unwrap()]).expect(0);
    assert!(
        !fresh.exists(),
        "who is named by its EID is not remembered for its name"
    );

    world.zone.set("_sss.nas.example", vec![ours, theirs]);
    world.ls("dns:nas.example", &[]).expect(4).says(&["two tickets"]);
}

// spec: FIL-48
#[test]
fn what_the_dns_has_not_or_makes_no_sense_is_told() {
    let world = World::new();
    world
        .ls("dns:nas.example", &[])
        .expect(3)
        .says(&["no record", "_sss.nas.example", "sss ticket --public --dns"]);
    world.zone.set("_sss.nas.example", Vec::new());
    world.ls("dns:nas.example", &[]).expect(3).says(&["no record"]);
    world.zone.set("_sss.nas.example", vec![vec!["v=spf1 -all".to_owned()]]);
    world.ls("dns:nas.example", &[]).expect(3).says(&["is no ticket"]);
    let mut broken = world.record();
    let other = if &broken[0][20..21] == "q" { "p" } else { "q" };
    broken[0].replace_range(20..21, other);
    world.zone.set("_sss.nas.example", vec![broken]);
    world.ls("dns:nas.example", &[]).expect(4).says(&["checksum"]);
    let dns = world.zone.address.to_string();
    world
        .client
        .run(["doctor", "dns:nas.example", "--dns", &dns])
        .expect(4)
        .says(&["checksum"]);

    for wrong in ["dns:", "dns:nas.example:7757", "dns:[::1]", "dns:.example", "dns:a b"] {
        let words: &[&str] = match wrong {
            "dns:" => &["the name is missing", "dns:nas.example"],
            _ => &["no name in the DNS", "dns:nas.example"],
        };
        world.ls(wrong, &[]).expect(2).says(words);
    }
    let (label, name) = ("a".repeat(64), "a.".repeat(124) + "ab");
    for wrong in ["nas..example", "-nas.example", "nas-.example", &label, &name] {
        world
            .ls(&format!("dns:{wrong}"), &[])
            .expect(2)
            .says(&["no name in the DNS"]);
        let line = ["ticket", "--public", "--at", "192.0.2.1", &format!("--dns={wrong}")];
        world.server.run(line).expect(2).says(&["no name in the DNS"]);
    }
    let ticket = |args: &[&str]| world.server.run(["ticket", "--dns", "nas.example"].iter().chain(args));
    ticket(&[]).expect(2).says(&["--public"]);
    ticket(&["--public", "--no-server"]).expect(2).says(&["--at"]);
    // All the world reads it: no secret, and no address where nobody is.
    let secret = world.server.path("secret");
    let said = ticket(&["--at", "192.0.2.1", "--ticket-file", secret.to_str().unwrap()])
        .expect(2)
        .says(&["--dns", "--ticket-file"]);
    assert!(said.out.is_empty() && !secret.exists());
    for (at, host) in [
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]:7", "::1"),
        ("LOCALHOST", "localhost"),
    ] {
        let ran = ticket(&["--public", "--at", at, "--at", "192.0.2.1"]).expect(0);
        ran.says(&[host, "own machine", "--at"]);
    }
    let ran = ticket(&["--public", "--at", "192.0.2.1", "--at", "nas.example"]).expect(0);
    assert!(ran.err.is_empty(), "{}", ran.err);
    let ran = ticket(&["--public", "--at", "127.0.0.1", "--json"]).expect(0);
    let note = ran.event("note");
    assert!(note["text"].as_str().unwrap().contains("own machine"), "{note}");
    for at in ["0.0.0.0", "[::]", "224.0.0.1", "[ff02::1]", "255.255.255.255"] {
        ticket(&["--public", "--at", at])
            .expect(2)
            .says(&["no host is ever at"]);
    }
}

// spec: FIL-48
#[test]
fn a_dns_that_says_nothing_ends_in_time_and_lan_only_asks_nobody() {
    let world = World::new();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let dns = silent.local_addr().unwrap().to_string();
    let begun = Instant::now();
    let args = ["ls", "dns:nas.example", "--dns", &dns, "--timeout", "1"];
    world
        .client
        .run(args)
        .expect(3)
        .says(&["did not answer in time", "nas.example"]);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    world
        .ls("dns:nas.example", &["--lan-only"])
        .expect(2)
        .says(&["--lan-only", "nobody is asked"]);
    assert_eq!(world.zone.asked(), Vec::<String>::new());
}

// spec: FIL-48
#[test]
fn what_the_dns_takes_is_not_there_twice() {
    let world = World::new();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let dns = silent.local_addr().unwrap().to_string();
    let timed = |words: &[&str]| {
        let begun = Instant::now();
        (world.client.run(words).expect(3), begun.elapsed())
    };
    // It is told as a finding, and the rest is examined.
    let named = ["doctor", "dns:nas.example", "--dns", &dns, "--timeout", "4"];
    let (ran, took) = timed(&named);
    assert!(took < Duration::from_secs(5), "{took:?}");
    let words = ran.out.split_whitespace().collect::<Vec<_>>().join(" ");
    let silence = format!("did not answer in time about nas.example: {dns} was asked");
    assert!(words.contains("this host") && words.contains(&silence), "{}", ran.out);
    ran.says(&[&silence]);
    let fact = timed(&[&named[..], &["--json"]].concat()).0.event("doctor");
    assert!(fact["dns"]["error"].as_str().unwrap().contains(&silence), "{fact}");
    assert_eq!(
        (&fact["dns"]["eid"], fact.get("peer")),
        (&serde_json::Value::Null, None)
    );

    // Nobody is where the record says.
    let at = silent.local_addr().unwrap().to_string();
    let line = ["ticket", "--public", "--dns", "nas.example", "--at", &at];
    let record = strings(&world.server.run(line).expect(0).out);
    let target = format!("{}@dns:nas.example", world.serving.eid());
    let slowly = |command: &str, timeout: u64| {
        let zone = Zone::slow(Duration::from_secs(2));
        zone.set("_sss.nas.example", vec![record.clone()]);
        let (dns, limit) = (zone.address.to_string(), timeout.to_string());
        let (ran, took) = timed(&[command, &target, "--dns", &dns, "--timeout", &limit]);
        assert!(took < Duration::from_secs(timeout + 1), "{command}: {took:?}");
        ran
    };
    slowly("ls", 3).says(&["no answer from"]);
    let ran = slowly("doctor", 8);
    let found = format!("nas.example is {}", world.serving.eid());
    let words = ran.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(&found) && words.contains("not reached"), "{}", ran.out);
}

// spec: FIL-48
#[test]
fn a_dns_is_waited_for_as_long_as_was_said_and_its_rubbish_is_not_shown() {
    let liar = UdpSocket::bind("127.0.0.1:0").unwrap();
    let dns = liar.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut buf = [0; 1500];
        while let Ok((len, from)) = liar.recv_from(&mut buf) {
            let question = Packet::parse(&buf[..len]).unwrap();
            let mut reply = Packet::new_reply(question.id() ^ 1);
            reply.questions.clone_from(&question.questions);
            let reply = reply.build_bytes_vec().unwrap();
            for _ in 0..10 {
                liar.send_to(&reply, from).unwrap();
            }
        }
    });
    let begun = Instant::now();
    let args = ["ls", "dns:nas.example", "--dns", &dns, "--timeout", "17"];
    let ran = Home::new().run(args).expect(3).says(&["did not answer in time"]);
    assert!(begun.elapsed() >= Duration::from_secs(17), "{:?}", begun.elapsed());
    assert!(!ran.err.contains("WARN") && ran.err.lines().count() < 5, "{}", ran.err);
}

#[test]
fn a_name_that_is_not_found_does_not_keep_the_other_sources() {
    let world = World::new();
    world.zone.set("_sss.nas.example", vec![world.record()]);
    let (dns, to) = (world.zone.address.to_string(), world.client.path("to"));
    for (fresh, sources) in [
        (true, ["dns:none.example/a", "dns:nas.example/hello"]),
        (false, ["dns:nas.example/hello", "dns:none.example/a"]),
    ] {
        let to = to.join(fresh.to_string());
        let by = ["--trust", "--dns", &dns, to.to_str().unwrap()];
        let ran = world.client.run(["get"].iter().chain(&sources).chain(&by)).expect(3);
        ran.says(&["no record of none.example", "1 of the hosts was not reached"]);
        assert_eq!(std::fs::read(to.join("hello")).unwrap(), b"hello");
    }
}

// spec: FIL-47
#[test]
fn a_long_ticket_is_several_strings_of_one_record() {
    let world = World::new();
    let at = world.serving.address();
    let mut args = vec!["ticket", "--public", "--dns", "nas.example", "--at", at];
    let others: Vec<String> = (0..20).map(|n| format!("[2001:db8::{n}]:7757")).collect();
    for other in &others {
        args.extend(["--at", other]);
    }
    let record = strings(&world.server.run(args).expect(0).out);
    assert!(
        record.len() > 1 && record.iter().all(|string| string.len() <= 255),
        "{record:?}"
    );
    world.zone.set("_sss.nas.example", vec![record]);
    world.ls("dns:nas.example", &["--trust"]).expect(0);
}
