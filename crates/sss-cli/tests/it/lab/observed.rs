//! An observer of all networks, who follows hosts that move by what they send: registration, leases, punching, the
//! relay, and the channel that is made with their help.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use sss_lab::{Kind, Lab};

use super::capture::{Capture, Packet};
use super::unless_skipped;
use super::world::{Failure, Running, command, text};

/// Bytes of a string that is long enough to be recognised by.
const LENGTH: usize = 8;
/// Bytes of type and version, in front of each long packet.
const CONSTANT: usize = 5;
/// First byte of a packet over the relay, and of the shortest and longest names of channels.
const RELAY: u8 = 0x08;
const SHORT: std::ops::RangeInclusive<u8> = 0x40..=0x7f;
/// Time in each network.
const STAY: Duration = Duration::from_millis(1600);

/// What an observer sees of a host at one of its addresses.
#[derive(Default)]
struct Place {
    packets: usize,
    relayed: usize,
    /// Packets of channels between the hosts alone.
    direct: usize,
    strings: HashSet<[u8; LENGTH]>,
    /// Names of channels, which are shorter. (Handles of relays may last: docs/security.md.)
    marks: HashSet<Vec<u8>>,
}

impl Place {
    /// Takes in what UDP carries.
    fn see(&mut self, payload: &[u8], is_of_server: bool) {
        self.packets += 1;
        let (inner, is_relayed) = match payload {
            [RELAY, _, _, _, _, inner @ ..] => (inner, true),
            _ => (payload, false),
        };
        if is_relayed {
            self.relayed += 1;
        }
        let constant = match inner {
            [first, id @ ..] if SHORT.contains(first) => {
                self.direct += usize::from(!is_relayed && !is_of_server);
                self.marks.extend(id.get(..4).map(<[u8]>::to_vec));
                1
            }
            _ => CONSTANT,
        };
        let strings = inner.get(constant..).unwrap_or_default().windows(LENGTH);
        let told = strings.filter_map(|string| string.first_chunk().copied());
        // Tokens that are not there, and padding, are zeros.
        self.strings
            .extend(told.filter(|string: &[u8; LENGTH]| !string.windows(3).any(|three| three == [0; 3])));
    }
}

/// What was captured at a host, and its addresses, the first first.
type Captured = (Vec<Packet>, Vec<IpAddr>);

/// What is seen of a host at each of its addresses.
fn places(packets: &[Packet], own: &[IpAddr], server: IpAddr) -> Vec<Place> {
    let mut places: HashMap<IpAddr, Place> = HashMap::new();
    for packet in packets.iter().filter(|packet| packet.ports.is_some()) {
        let here = own
            .iter()
            .find(|ip| packet.source == **ip || packet.destination == **ip);
        if let Some(here) = here {
            let is_of_server = [packet.source, packet.destination].contains(&server);
            places.entry(*here).or_default().see(packet.payload(), is_of_server);
        }
    }
    own.iter().map(|ip| places.remove(ip).unwrap_or_default()).collect()
}

/// Strings that were seen at two places.
fn repeated(places: &[Place]) -> Vec<Vec<u8>> {
    let mut again = Vec::new();
    for (n, place) in places.iter().enumerate() {
        for later in places.iter().skip(n + 1) {
            again.extend(place.strings.intersection(&later.strings).map(|string| string.to_vec()));
            again.extend(place.marks.intersection(&later.marks).cloned());
        }
    }
    again
}

/// The packets that have one of some strings, for people: their number, addresses, size and first bytes.
fn traces(packets: &[Packet], strings: &[Vec<u8>]) -> String {
    let has = |packet: &Packet| strings.iter().any(|string| packet.has(string));
    let at_fault = packets.iter().enumerate().filter(|(_, packet)| has(packet));
    let lines = at_fault.map(|(n, packet)| {
        let payload = packet.payload();
        let first = payload.get(..16).unwrap_or(payload);
        let (from, to, len) = (packet.source, packet.destination, payload.len());
        format!("{n}: {from} -> {to}, {len} bytes: {first:02x?}\n")
    });
    lines.collect()
}

/// The packets that have a part of an EID in them, in bytes, as text or in hexadecimal digits.
fn naming<'a>(packets: &'a [Packet], eids: &[String]) -> Vec<&'a Packet> {
    let mut parts = HashSet::new();
    for text in eids {
        let eid: sss::Eid = text.parse().unwrap();
        let hex: String = eid.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        for form in [&eid.as_bytes()[1..], text.as_bytes(), hex.as_bytes()] {
            let all = form.windows(LENGTH).filter_map(|part| part.first_chunk().copied());
            parts.extend::<HashSet<[u8; LENGTH]>>(all.collect());
        }
    }
    let has = |packet: &&Packet| {
        let mut all = packet.bytes.windows(LENGTH).filter_map(|part| part.first_chunk());
        all.any(|part: &[u8; LENGTH]| parts.contains(part))
    };
    packets.iter().filter(has).collect()
}

/// Two hosts, a server that relays, and more networks to go to.
struct Observed {
    // Processes end before the lab does.
    _server: Running,
    at: String,
    server: String,
    lab: Lab,
    homes: tempfile::TempDir,
}

impl Observed {
    fn start() -> Result<Self, Failure> {
        let lab = Lab::builder();
        let lab = ["a", "b", "c", "d", "e", "f"]
            .iter()
            .fold(lab, |lab, name| lab.site(name, Kind::Prc))
            .build()?;
        let homes = tempfile::tempdir()?;
        let node = lab.node("server")?;
        let address = node.ipv4().ok_or("the server has no address")?;
        let mut server = command(&homes, node, Path::new(env!("CARGO_BIN_EXE_sss")));
        server.args(["rendezvous", "--relay", "--json", "--bind", "0.0.0.0:7757"]);
        let mut running = Running::start(server.stderr(Stdio::null()))?;
        let server = text(&running.event("listening")?["eid"]);
        Ok(Self {
            _server: running,
            at: format!("{server}@{address}:7757"),
            server,
            lab,
            homes,
        })
    }

    fn sss(&self, node: &str, words: &[&str]) -> Command {
        let node = self.lab.node(node).unwrap();
        let mut sss = command(&self.homes, node, Path::new(env!("CARGO_BIN_EXE_sss")));
        sss.args(words).args(["--server", &self.at]).stderr(Stdio::null());
        sss
    }

    /// Has one host serve and another speak with it while both move twice. Returns what was captured at each, and the
    /// EIDs.
    fn watch(&mut self, more: &[&str]) -> Result<([Captured; 2], Vec<String>), Failure> {
        let captures = ["a", "b"].map(|node| Capture::start(self.lab.node(node).unwrap()).unwrap());
        let serve = ["serve", "--public", "--json", "--bind", "0.0.0.0:0"];
        let served = self.homes.path().to_owned();
        let mut serves = Running::start(self.sss("b", &serve).args(more).arg(served))?;
        let eid = text(&serves.event("listening")?["eid"]);
        serves.event("registered")?;
        let ping = ["ping", &eid, "--json", "-c", "95", "-i", "0.1"];
        let mut speaks = Running::start(self.sss("a", &ping).args(more))?;
        speaks.event("found")?;
        let mut addresses = ["a", "b"].map(|node| self.lab.node(node).unwrap().addresses().to_vec());
        for (n, host, site) in [(0, "a", "c"), (1, "b", "d"), (0, "a", "e"), (1, "b", "f")] {
            std::thread::sleep(STAY);
            self.lab.move_host(host, site)?;
            addresses[n].extend(self.lab.node(host)?.addresses());
        }
        let told = speaks.event("round_trips")?;
        println!("{told}");
        drop((speaks, serves));
        let mut seen = captures.map(Capture::stop).into_iter().zip(addresses);
        let seen = [seen.next().ok_or("none")?, seen.next().ok_or("none")?];
        let mut own = command(&self.homes, self.lab.node("a")?, Path::new(env!("CARGO_BIN_EXE_sss")));
        let own = String::from_utf8(own.arg("id").output()?.stdout)?;
        Ok((seen, vec![eid, own.trim().to_owned(), self.server.clone()]))
    }

    fn check(&mut self, more: &[&str], is_right: impl Fn(&Place) -> bool) {
        let (seen, eids) = self.watch(more).unwrap();
        for (packets, own) in &seen {
            assert_eq!(own.len(), 3);
            let server = self.lab.node("server").unwrap().addresses()[0];
            let places = places(packets, own, server);
            for (place, ip) in places.iter().zip(own) {
                let Place {
                    packets,
                    relayed,
                    direct,
                    ..
                } = place;
                let strings = place.strings.len();
                println!("{ip}: {packets} packets, {relayed} relayed, {direct} direct, {strings} strings");
                assert!(*packets >= 8 && strings > 2000 && is_right(place));
            }
            let again = repeated(&places);
            assert!(again.is_empty(), "{}", traces(packets, &again));
            let naming = naming(packets, &eids);
            assert!(naming.is_empty(), "{naming:02x?}");
            notices(packets, own, &eids);
        }
    }
}

/// Controls that the observer notices what there is to notice: in packets of one place that are seen at another too, in
/// parts of eight bytes, and in EIDs.
fn notices(packets: &[Packet], own: &[IpAddr], eids: &[String]) {
    let of = |first: u8, ip: IpAddr| {
        let mut all = packets
            .iter()
            .filter(|packet| packet.source == ip && packet.ports.is_some());
        all.find(|packet| packet.payload().first() == Some(&first))
    };
    // LEASE, whose token is of the address before.
    let lease = of(0x8b, own[0]).expect("a LEASE");
    let moved = |bytes: Vec<u8>| Packet {
        source: own[1],
        bytes,
        ..lease.clone()
    };
    let all = |planted: Packet| [packets, &[planted]].concat();
    let is_seen = |planted: Packet| !repeated(&places(&all(planted), own, lease.destination)).is_empty();
    assert!(is_seen(moved(lease.bytes.clone())), "a token that is used twice");
    let mut other: Vec<u8> = lease.bytes.iter().map(|byte| !byte).collect();
    let at = lease.bytes.len() - lease.payload().len();
    other[..at].copy_from_slice(&lease.bytes[..at]);
    assert!(!is_seen(moved(other.clone())), "what was never seen");
    let part = at + 40..at + 40 + LENGTH;
    other[part.clone()].copy_from_slice(&lease.bytes[part]);
    assert!(is_seen(moved(other.clone())), "eight bytes");
    for text in eids {
        let eid: sss::Eid = text.parse().unwrap();
        other[at + 40..at + 72].copy_from_slice(eid.public_key());
        assert_eq!(naming(&all(moved(other.clone())), eids).len(), 1, "a key");
    }
}

// Threat 26: an observer of all paths follows hosts that are registered, and that move, twice.
// spec: RCH-5, MIG-13
#[test]
fn threat_26_nothing_that_hosts_send_with_the_help_of_a_server_tells_who_they_are_or_is_seen_in_two_networks() {
    if let Some(mut observed) = unless_skipped(Observed::start()) {
        observed.check(&[], |place| place.direct > 0);
    }
}

// spec: RCH-5, RCH-40
#[test]
fn threat_26_nothing_that_hosts_of_relays_send_tells_who_they_are_or_is_seen_in_two_networks() {
    if let Some(mut observed) = unless_skipped(Observed::start()) {
        observed.check(&["--relay-only"], |place| place.relayed > 20 && place.direct == 0);
    }
}
