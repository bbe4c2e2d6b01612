//! Third parties: hosts that run nothing of this project, and that others would have honest hosts and servers send to.
//! What comes there is counted by their own firewalls (nftables).

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sss_attack::{Command as Attack, Disguise, Lies, Party, Report};
use sss_lab::{Kind, Lab, Node, Site};

use super::capture::Capture;
use super::unless_skipped;
use super::world::{Failure, Running, command, text};

/// Bytes of IP and UDP in front of each packet.
const HEADERS: u64 = 28;
/// Introductions in a second that a host acts upon (RCH-14).
const EACH_SECOND: u64 = 20;
/// Introductions that a host remembers for 10 s (RCH-13).
const REMEMBERED: u64 = 64;
/// Packets that a host sends for one: COOKIE, COOKIE_K, and six PUNCHes to the address and to its mapped port (RCH-14).
const EACH_PACKETS: u64 = 14;
/// Bytes of these.
const EACH_BYTES: u64 = 2_100;
/// Time after which all PUNCHes of an introduction were sent (RCH-15).
const SETTLING: Duration = Duration::from_millis(1900);

/// Two hosts and a third party in one LAN, a third party in the Internet, an attacker there, hosts elsewhere, and two
/// servers.
struct Thirds {
    lab: Lab,
    homes: tempfile::TempDir,
}

/// The rules of a third party. The first byte of what UDP carries tells what it is.
const FIREWALL: &str = r"
table inet third {
  counter everything { }
  counter datagrams { }
  counter relayed { }
  counter told { }
  counter low { }
  chain input { type filter hook input priority -300; policy accept;
    counter name everything
    meta l4proto udp counter name datagrams
    meta l4proto udp @th,64,8 0x08 counter name relayed
    meta l4proto udp @th,64,8 { 0x8f, 0x90 } counter name told
    udp dport < 1024 counter name low
  }
}
";

/// Rules that count what a host sends to itself, and to addresses that are not to be sent to.
const OUTGOING: &str = r#"
table inet own {
  counter nearer { }
  chain output { type filter hook output priority -300; policy accept;
    oifname "lo" meta l4proto udp counter name nearer
    ip daddr { 10.99.0.0/16, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/4, 255.255.255.255 } counter name nearer
  }
}
"#;

/// Addresses that no server may have a host send to: nearer ones than its own, and those of many.
const NEARER: [&str; 5] = [
    "127.0.0.1:9",
    "10.99.0.1:9",
    "169.254.1.1:9",
    "224.0.0.1:9",
    "255.255.255.255:9",
];

/// Packets and bytes, without headers.
type Count = (u64, u64);

impl Thirds {
    fn start() -> Result<Self, Failure> {
        let lan = Site {
            hosts: 3,
            ..Site::new(Kind::Prc)
        };
        let lab = Lab::builder()
            .site("a", lan)
            .site("third", Kind::Open)
            .site("c", Kind::Open)
            .site("d", Kind::Prc)
            .site("e", Kind::Symmetric)
            .servers(2)
            .build()?;
        let thirds = Self {
            lab,
            homes: tempfile::tempdir()?,
        };
        std::fs::write(thirds.homes.path().join("file"), [7; 1000])?;
        for node in ["third", "a3"] {
            thirds.rules(node, FIREWALL)?;
        }
        for node in ["a", "d", "e"] {
            thirds.rules(node, OUTGOING)?;
        }
        Ok(thirds)
    }

    fn node(&self, name: &str) -> &Node {
        self.lab.node(name).unwrap()
    }

    fn ip(&self, name: &str) -> Ipv4Addr {
        self.node(name).ipv4().unwrap()
    }

    fn rules(&self, node: &str, rules: &str) -> Result<(), Failure> {
        let mut nft = self.node(node).command("nft");
        let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
        nft.stdin.take().ok_or("no input")?.write_all(rules.as_bytes())?;
        match nft.wait()?.success() {
            true => Ok(()),
            false => Err("nft refuses the rules".into()),
        }
    }

    /// What a firewall has counted.
    fn counted(&self, node: &str, counter: &str) -> Count {
        let table = if counter == "nearer" { "own" } else { "third" };
        let mut nft = self.node(node).command("nft");
        let output = nft
            .args(["-j", "list", "counter", "inet", table, counter])
            .output()
            .unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        let all = told["nftables"].as_array().unwrap();
        let counted = all.iter().find_map(|one| one.get("counter")).unwrap();
        let read = |name: &str| counted[name].as_u64().unwrap();
        let packets = read("packets");
        (packets, read("bytes").saturating_sub(HEADERS * packets))
    }

    fn sss(&self, node: &str, words: &[&str]) -> Command {
        let mut sss = command(&self.homes, self.node(node), Path::new(env!("CARGO_BIN_EXE_sss")));
        sss.args(words).stderr(Stdio::null());
        sss
    }

    /// Serves as a host that is registered with a server.
    fn serve(&self, node: &str, server: &str) -> Result<(Running, String), Failure> {
        let mut serve = self.sss(node, &["serve", "--public", "--json", "--bind", "0.0.0.0:0"]);
        serve.args(["--server", server]).arg(self.homes.path());
        let mut running = Running::start(&mut serve)?;
        let eid = text(&running.event("listening")?["eid"]);
        running.event("registered")?;
        Ok((running, eid))
    }

    /// An honest server that relays, and how hosts name it.
    fn honest(&self) -> Result<(Running, String), Failure> {
        let mut server = self.sss("server", &["rendezvous", "--relay", "--json", "--bind", "0.0.0.0:7757"]);
        let mut server = Running::start(&mut server)?;
        let eid = text(&server.event("listening")?["eid"]);
        Ok((server, format!("{eid}@{}:7757", self.ip("server"))))
    }

    /// Reaches a host, by this node, and tells how long that took.
    ///
    /// # Errors
    /// If it is not reached in 30 s.
    fn reach(&self, node: &str, eid: &str, server: &str) -> Result<Duration, Failure> {
        let begun = Instant::now();
        let words = ["ping", eid, "--server", server, "--json", "-c", "1", "--timeout", "30"];
        Running::start(&mut self.sss(node, &words))?.event("found")?;
        Ok(begun.elapsed())
    }

    /// Attacks from a node, for so long. `meanwhile` is told how the server is named that lies, if one does.
    fn attack<T>(&self, node: &str, attack: Attack, time: Duration, meanwhile: impl FnOnce(&str) -> T) -> (Report, T) {
        let prepared = self.node(node).enter(|| attack.prepare()).unwrap().unwrap();
        let name = prepared.listening().unwrap().map(|target| target.to_string());
        let stop = prepared.stop();
        std::thread::scope(|scope| {
            let run = scope.spawn(move || prepared.run(time));
            let outcome = meanwhile(&name.unwrap_or_default());
            stop.stop();
            (run.join().unwrap().unwrap(), outcome)
        })
    }

    fn lies(&self, names: &[SocketAddr], candidates: &[SocketAddr], (callers, ways): (u32, u32)) -> Attack {
        Attack::Lies(Lies {
            bind: SocketAddr::from((self.ip("server2"), 7757)),
            names: names.to_vec(),
            candidates: candidates.to_vec(),
            callers,
            ways,
        })
    }

    /// A socket at the attacker with an address that is not its own, or is.
    fn masked(&self, address: Ipv4Addr) -> UdpSocket {
        let attacker = self.node("c");
        if attacker.ipv4() != Some(address) {
            let mut ip = attacker.command("ip");
            let mut ip = ip.args(["address", "add", &address.to_string(), "dev", "lo"]);
            ip = ip.stderr(Stdio::null());
            assert!(ip.status().unwrap().success());
        }
        attacker.enter(|| UdpSocket::bind((address, 7000))).unwrap().unwrap()
    }

    fn third(&self) -> SocketAddr {
        SocketAddr::from((self.ip("third"), 9))
    }
}

fn party(server: &str, callee: &str, (identities, rate): (u16, u32), candidates: &[SocketAddr]) -> Party {
    Party {
        server: server.parse().unwrap(),
        callee: callee.parse().unwrap(),
        identities,
        rate,
        candidates: candidates.to_vec(),
    }
}

/// Asserts that no more has come than for so many introductions.
#[track_caller]
fn within(what: &str, counted: Count, introductions: u64) {
    let bound = (introductions * EACH_PACKETS, introductions * EACH_BYTES);
    println!("{what}: {counted:?} of {bound:?}");
    assert!(
        counted.0 <= bound.0 && counted.1 <= bound.1,
        "{what}: {counted:?}, {bound:?}"
    );
}

/// Introductions that a host acts upon in this time, at most: in seconds of its clock.
fn acted_upon(time: Duration) -> u64 {
    (time.as_secs() + 2) * EACH_SECOND
}

const LONG: Duration = Duration::from_secs(60);

// spec: RCH-13, RCH-14, RCH-42
#[test]
fn threat_45_a_server_that_lies_has_a_host_send_no_more_to_a_third_party_than_the_bound() {
    let Some(thirds) = unless_skipped(Thirds::start()) else {
        return;
    };
    let nearer = NEARER.map(|text| text.parse().unwrap());
    let names = [&[thirds.third()], &nearer[..]].concat();
    // The host is said to be where its callers are said to be, so that candidates of its network count.
    let candidates = [
        SocketAddr::from((thirds.ip("a3"), 9999)),
        SocketAddr::from((thirds.ip("a3"), 53)),
        "127.0.0.1:9999".parse().unwrap(),
        "10.99.0.1:9999".parse().unwrap(),
    ];
    let attack = thirds.lies(&names, &candidates, (600, 0));
    let (report, times) = thirds.attack("server2", attack, LONG, |server| {
        let (_serves, _) = thirds.serve("a", server).unwrap();
        let begun = Instant::now();
        std::thread::sleep(Duration::from_millis(700));
        let first = (begun.elapsed(), thirds.counted("third", "datagrams"));
        std::thread::sleep(Duration::from_millis(3800));
        first
    });
    std::thread::sleep(SETTLING);
    let (all, udp) = (
        thirds.counted("third", "everything"),
        thirds.counted("third", "datagrams"),
    );
    println!("{report}");
    assert!(report.introduced > 1000, "{report:?}");
    assert_eq!(thirds.counted("a", "nearer"), (0, 0), "to itself, its network, or many");
    within("a third party in the first second", times.1, acted_upon(times.0));
    within("a third party in ten seconds", udp, REMEMBERED);
    assert!(udp.0 >= 400, "the attack is one: {udp:?}");
    assert_eq!(all.0, udp.0, "and nothing else");
    let (near, low) = (thirds.counted("a3", "datagrams"), thirds.counted("a3", "low"));
    println!("a third party in the LAN: {near:?}");
    assert!((1..=2 * REMEMBERED).contains(&near.0), "{near:?}");
    assert_eq!(low.0, 0, "services of other kinds");
}

// spec: RCH-14
#[test]
fn threat_45_a_server_that_lies_to_a_caller_has_it_send_no_more_than_it_has_asked() {
    let Some(thirds) = unless_skipped(Thirds::start()) else {
        return;
    };
    let nearer = NEARER.map(|text| text.parse().unwrap());
    let names = [&[thirds.third(), thirds.third()], &nearer[..]].concat();
    let attack = thirds.lies(&names, &[], (0, 700));
    let (report, _) = thirds.attack("server2", attack, LONG, |server| {
        let (serves, eid) = thirds.serve("a", server).unwrap();
        // Its host is suspended: the attempt goes on.
        let pid = rustix::process::Pid::from_raw(i32::try_from(serves.child.id()).unwrap()).unwrap();
        let before = thirds.counted("third", "datagrams");
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        let words = [
            "get",
            &format!("{eid}/file"),
            "got",
            "--server",
            server,
            "--timeout",
            "4",
        ];
        let got = thirds.sss("d", &words).status().unwrap();
        assert!(!got.success());
        std::thread::sleep(SETTLING);
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
        assert_eq!(before, (0, 0));
    });
    let udp = thirds.counted("third", "datagrams");
    println!("{report}; {udp:?}");
    assert!(report.introduced > 500, "{report:?}");
    assert!(udp.0 >= 6, "the attack is one: {udp:?}");
    // One CONNECT behind REGISTER, and then after 0.3, 0.6, 1, 1 .. s (RCH-11).
    within("a third party, by a caller", udp, 9);
    assert_eq!(thirds.counted("d", "nearer"), (0, 0));
}

// spec: RCH-31
#[test]
fn threat_45_a_server_that_lies_has_two_hosts_guess_the_ports_of_a_third_party_once_an_hour() {
    let Some(thirds) = unless_skipped(Thirds::start()) else {
        return;
    };
    let (report, (first, second)) =
        thirds.attack("server2", thirds.lies(&[thirds.third()], &[], (0, 0)), LONG, |server| {
            let (_serves, eid) = thirds.serve("a", server).unwrap();
            let doctor = || {
                let words = ["doctor", &eid, "--server", server, "--json"];
                let told = Running::start(&mut thirds.sss("e", &words))
                    .unwrap()
                    .event("doctor")
                    .unwrap();
                assert_eq!(told["peer"]["route"], "relay", "{told}");
                (told["peer"]["spraying"].clone(), thirds.counted("third", "datagrams"))
            };
            (doctor(), doctor())
        });
    println!("{report}: {} introductions; {first:?}, {second:?}", report.introduced);
    // 1,024 of each of the two, and what is sent for introductions, by both sides.
    let (bound, sides) = (2 * 1024, 2 * report.introduced);
    assert!((900..=bound + sides * EACH_PACKETS).contains(&second.1.0), "{first:?}");
    assert!(second.1.1 <= bound * 45 + sides * EACH_BYTES, "{second:?}");
    // The second caller is another program of the same identity; the host that serves has agreed already.
    let more = second.1.0 - first.1.0;
    assert!(more < 256, "{first:?}, {second:?}");
}

// spec: RCH-42
#[test]
fn threat_45_a_peer_that_names_others_as_itself_has_a_host_send_them_two_packets_each_time() {
    let Some(thirds) = unless_skipped(Thirds::start()) else {
        return;
    };
    let (_server, server) = thirds.honest().unwrap();
    let (_serves, eid) = thirds.serve("a", &server).unwrap();
    let candidates = [
        SocketAddr::from((thirds.ip("a3"), 9999)),
        SocketAddr::from((thirds.ip("a3"), 53)),
        "10.99.0.1:9999".parse().unwrap(),
        thirds.third(),
    ];
    let attack = Attack::Calls(party(&server, &eid, (1, 200), &candidates));
    let (report, ()) = thirds.attack("a2", attack, LONG, |_| std::thread::sleep(Duration::from_secs(3)));
    std::thread::sleep(SETTLING);
    let near = thirds.counted("a3", "datagrams");
    println!("{report}; {near:?}");
    assert!(report.introduced >= 20, "{report:?}");
    // COOKIE and COOKIE_K.
    assert!((2..=2 * report.introduced).contains(&near.0), "{near:?}, {report:?}");
    // As the network carries them: 266 and 1179 bytes, and the headers of IP and UDP.
    let each = 266 + 1179 + 2 * 28;
    assert!(near.1 <= report.introduced * each, "{near:?}, {report:?}");
    assert_eq!(thirds.counted("a3", "low").0, 0);
    assert_eq!(thirds.counted("third", "everything"), (0, 0));
    assert_eq!(thirds.counted("a", "nearer"), (0, 0));
}

// spec: RCH-9, RCH-10, RCH-17
#[test]
fn threat_45_what_is_sent_in_the_name_of_a_third_party_brings_it_no_more_than_that_and_nothing_relayed() {
    let Some(thirds) = unless_skipped(Thirds::start()) else {
        return;
    };
    let (mut running, server) = thirds.honest().unwrap();
    let (_serves, eid) = thirds.serve("a", &server).unwrap();
    // What the two hosts send to the server is recorded, and sent again from elsewhere.
    let captures = ["a", "d"].map(|node| Capture::start(thirds.node(node)).unwrap());
    thirds.reach("d", &eid, &server).unwrap();
    let leases: Vec<Vec<u8>> = captures
        .into_iter()
        .flat_map(Capture::stop)
        .filter(|packet| packet.ports.is_some_and(|(_, to)| to == 7757))
        .map(|packet| packet.payload().to_vec())
        .filter(|packet| matches!(packet.first(), Some(0x8b | 0x8d | 0x90)))
        .collect();
    assert!(leases.len() >= 2, "{}", leases.len());
    let to = SocketAddr::from((thirds.ip("server"), 7757));
    let masks = ["third", "c"].map(|node| thirds.masked(thirds.ip(node)));
    for packet in leases.iter().cycle().take(200) {
        for mask in &masks {
            mask.send_to(packet, to).unwrap();
        }
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(
        thirds.counted("third", "everything"),
        (0, 0),
        "nothing that is repeated is answered"
    );

    let attack = Attack::Leases(Disguise {
        party: party(&server, &eid, (2, 200), &[]),
        from: SocketAddr::from((thirds.ip("third"), 7001)),
    });
    let (report, reached) = thirds.attack("c", attack, LONG, |_| {
        std::thread::sleep(Duration::from_secs(2));
        thirds.reach("d", &eid, &server)
    });
    let all = thirds.counted("third", "datagrams");
    println!("{report}; forged {}, {all:?}, reached {reached:?}", report.forged);
    assert!(report.forged > 500_000, "{report:?}");
    assert!((1..=report.forged).contains(&all.1), "{all:?}, {report:?}");
    assert_eq!(thirds.counted("third", "relayed").0, 0, "nothing relayed");
    assert_eq!(thirds.counted("third", "told").0, 0, "no NOTIFY, no LEG");
    assert!(
        report.answered > 100_000,
        "the accomplice's flood is relayed: {report:?}"
    );
    assert!(reached.unwrap() < Duration::from_secs(10));
    assert!(matches!(running.child.try_wait(), Ok(None)));
}

// spec: RCH-3, RCH-13
#[test]
fn threat_45_seven_that_call_without_end_keep_no_eighth_out() {
    let Some(thirds) = unless_skipped(Thirds::start()) else {
        return;
    };
    let (_server, server) = thirds.honest().unwrap();
    let (_serves, eid) = thirds.serve("a", &server).unwrap();
    let (_other, other) = thirds.serve("e", &server).unwrap();
    let alone = thirds.reach("d", &eid, &server).unwrap();
    let attack = Attack::Calls(party(&server, &eid, (7, 50), &[]));
    let begun = Instant::now();
    let (report, (elsewhere, beside, others)) = thirds.attack("c", attack, LONG, |_| {
        std::thread::sleep(Duration::from_secs(3));
        let reach = |node: &str, eid: &str| {
            let times = (0..3).map(|_| thirds.reach(node, eid, &server));
            times.collect::<Vec<_>>()
        };
        (reach("d", &eid), reach("c", &eid), reach("d", &other))
    });
    println!("{report}: alone {alone:?}, from elsewhere {elsewhere:?}, beside them {beside:?}, others {others:?}");
    let most = 20 + 20 * (begun.elapsed().as_secs() + 1);
    assert!((40..=most).contains(&report.introduced), "{report:?}, {most}");
    for (all, most) in [(elsewhere, 5), (beside, 20), (others, 3)] {
        for time in all {
            assert!(time.unwrap() < Duration::from_secs(most));
        }
    }
}
