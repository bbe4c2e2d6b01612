//! A host in a network of IPv6 alone, with a translator to IPv4: NAT64 by `tayga`, and a resolver that knows of it,
//! `dnsmasq`, both of Debian's packages.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sss_lab::{Ipv6, Kind, Lab, Public, Site};

use super::unless_skipped;
use super::world::{Failure, Running, command, text};

const TRANSLATOR: &str = "/usr/sbin/tayga";
const RESOLVER: &str = "/usr/sbin/dnsmasq";
/// Where the translator has all of IPv4, and where it has it later.
const PREFIXES: [&str; 2] = ["2001:2:64:64::", "2001:2:64:65::"];

/// A caller without IPv4, a host behind a NAT of IPv4 that is called, and a server that has IPv4 alone.
struct Translated {
    // Processes end before the lab does.
    daemons: Vec<Running>,
    _server: Running,
    at: String,
    /// The directory that says whom the caller's programs ask for names.
    resolver: PathBuf,
    lab: Lab,
    homes: tempfile::TempDir,
}

impl Translated {
    fn start() -> Result<Self, Failure> {
        let mut caller = Site::new(Kind::Prc);
        caller.ipv6 = Ipv6::Open;
        let lab = Lab::builder().site("a", caller).site("b", Kind::Prc);
        // Of others the translator knows that they are reserved.
        let lab = lab.public(Public::Ordinary).build()?;
        let homes = tempfile::tempdir()?;
        let node = lab.node("server")?;
        let address = node.ipv4().ok_or("the server has no address")?;
        let mut server = command(&homes, node, Path::new(env!("CARGO_BIN_EXE_sss")));
        server.args(["rendezvous", "--relay", "--json", "--bind", &format!("{address}:7757")]);
        let mut server = Running::start(&mut server)?;
        let eid = text(&server.event("listening")?["eid"]);
        let resolver = PathBuf::from("/etc/netns").join(lab.node("a")?.namespace());
        let translated = Self {
            daemons: Vec::new(),
            _server: server,
            at: format!("{eid}@{address}:7757"),
            resolver,
            lab,
            homes,
        };
        translated.run("a", "ip -4 address flush dev e0")?;
        // There is nobody yet who answers.
        std::fs::create_dir_all(&translated.resolver)?;
        let resolver = format!("nameserver {}\n", translated.router()?);
        std::fs::write(translated.resolver.join("resolv.conf"), resolver)?;
        Ok(translated)
    }

    /// The address of the caller's router.
    fn router(&self) -> Result<String, Failure> {
        let way = self.run("a", "ip -6 route show default")?;
        Ok(way.split(' ').nth(2).ok_or("there is no way out")?.to_owned())
    }

    /// Starts the translator and the resolver in the caller's router, in place of those that there are.
    fn translate(&mut self, prefix: &str) -> Result<(), Failure> {
        if !self.daemons.is_empty() {
            self.daemons.clear();
            self.run("router-a", "ip link delete nat64")?;
        }
        let file = self.homes.path().join("translator");
        let configuration = format!(
            "tun-device nat64\nipv4-addr 192.168.255.1\nprefix {prefix}/96\ndynamic-pool 192.168.255.0/24\ndata-dir {}\n",
            self.homes.path().display()
        );
        std::fs::write(&file, configuration)?;
        let file = file.to_string_lossy().into_owned();
        self.run("router-a", &format!("{TRANSLATOR} -c {file} --mktun"))?;
        for change in [
            "ip link set nat64 up",
            "ip route add 192.168.255.0/24 dev nat64",
            &format!("ip -6 route add {prefix}/96 dev nat64"),
        ] {
            self.run("router-a", change)?;
        }
        let router = self.run("a", "ip -6 route show default")?;
        let router = router.split(' ').nth(2).ok_or("there is no way out")?.to_owned();
        // RFC 7050.
        let records = format!("--host-record=ipv4only.arpa,{prefix}c000:aa,0");
        let listen = format!("--listen-address={router}");
        for (program, words) in [
            (TRANSLATOR, vec!["-d", "-c", &file]),
            (
                RESOLVER,
                vec![
                    "-k",
                    "-R",
                    "-h",
                    "-C",
                    "/dev/null",
                    "--bind-interfaces",
                    &listen,
                    &records,
                ],
            ),
        ] {
            let mut daemon = self.lab.node("router-a")?.command(program);
            daemon.args(words).stderr(Stdio::null());
            self.daemons.push(Running::start(&mut daemon)?);
        }
        let until = Instant::now() + Duration::from_secs(10);
        while !self.run("router-a", "ss -Hlun")?.contains(":53 ") {
            assert!(Instant::now() < until, "the resolver does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Runs a command at a node, and returns what it says.
    fn run(&self, node: &str, words: &str) -> Result<String, Failure> {
        let mut words = words.split(' ');
        let program = words.next().unwrap_or_default();
        let output = self.lab.node(node)?.command(program).args(words).output()?;
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout)?),
            false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)).into()),
        }
    }

    fn command(&self, node: &str) -> Result<Command, Failure> {
        let mut command = command(&self.homes, self.lab.node(node)?, Path::new(env!("CARGO_BIN_EXE_sss")));
        command.env("SSS_SERVER", &self.at);
        Ok(command)
    }

    /// Serves behind the NAT of IPv4, and returns when that is registered.
    fn serve(&self) -> Result<(Running, String), Failure> {
        let mut serve = self.command("b")?;
        serve.args(["serve", "--public", "--json"]).arg(self.homes.path());
        let mut serve = Running::start(&mut serve)?;
        let eid = text(&serve.event("listening")?["eid"]);
        serve.event("registered")?;
        Ok((serve, eid))
    }
}

impl Drop for Translated {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.resolver);
    }
}

// spec: RCH-46
#[test]
fn a_host_of_ipv6_alone_reaches_those_of_ipv4_by_its_networks_translator() {
    for daemon in [TRANSLATOR, RESOLVER] {
        if !Path::new(daemon).exists() {
            eprintln!("SKIPPED: {daemon} is not there (Debian's packages tayga and dnsmasq-base)");
            return;
        }
    }
    let Some(mut translated) = unless_skipped(Translated::start()) else {
        return;
    };
    let (_serving, eid) = translated.serve().unwrap();
    let ping = |translated: &Translated, more: &[&str]| {
        let mut ping = translated.command("a").unwrap();
        ping.args(["ping", &eid, "--json", "-i", "0.2"]).args(more);
        ping.stderr(Stdio::null());
        ping
    };
    // Without a translator there is no way.
    let without = ping(&translated, &["-c", "1", "--timeout", "3"]).status().unwrap();
    assert_eq!(without.code(), Some(3));
    // What has begun before there is a resolver goes on when there is one.
    let mut early = Running::start(&mut ping(&translated, &["-c", "1", "--timeout", "25"])).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    translated.translate(PREFIXES[0]).unwrap();
    early.event("link").unwrap();
    let began = Instant::now();
    let mut long = Running::start(&mut ping(&translated, &["-c", "40"])).unwrap();
    let found = long.event("found").unwrap();
    println!("found after {:?}: {found}", began.elapsed());
    // The translator is another one from now on, though the host has the address that it had.
    translated.translate(PREFIXES[1]).unwrap();
    let link: Value = long.event("link").unwrap();
    // It says the address of IPv4, and not the translator's.
    let remote = text(&link["remote"]);
    let outside = translated.lab.outside(translated.lab.node("b").unwrap()).unwrap();
    assert_eq!(text(&link["route"]), "direct", "{link}");
    assert!(remote.starts_with(&outside.to_string()), "{remote}, {outside}");
}
