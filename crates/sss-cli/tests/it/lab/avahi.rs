//! Hosts beside avahi, which announces and browses for other programs (of Debian's packages `avahi-daemon` and
//! `avahi-utils`).

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::lan::{Lan, Served};
use super::unless_skipped;
use super::world::Failure;

const DAEMON: &str = "/usr/sbin/avahi-daemon";
const BROWSE: &str = "/usr/bin/avahi-browse";
const BUS: &str = "/usr/bin/dbus-daemon";

const BUS_CONFIGURATION: &str = r#"<busconfig><type>system</type><listen>unix:path=PATH</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
<allow user="*"/></policy></busconfig>"#;

/// Avahi at a node, and its bus. Both end with the lab.
struct Avahi<'a> {
    lan: &'a Lan,
    node: &'static str,
    bus: String,
}

impl<'a> Avahi<'a> {
    fn start(lan: &'a Lan, node: &'static str) -> Result<Self, Failure> {
        let path = lan.file("bus");
        let configuration = lan.file("bus.conf");
        std::fs::write(&configuration, BUS_CONFIGURATION.replace("PATH", &path))?;
        let avahi = Self {
            lan,
            node,
            bus: format!("unix:path={path}"),
        };
        let mut bus = avahi.command(BUS);
        bus.args(["--nofork", "--nopidfile", "--config-file", &configuration]);
        lan.keep(bus.spawn()?);
        wait("the bus", || Path::new(&path).exists());
        // Its own place for what tells that it runs: another one may run on this machine.
        let script = format!(
            "mkdir -p /run/avahi-daemon && mount -t tmpfs none /run/avahi-daemon && exec {DAEMON} --no-drop-root --no-chroot --no-rlimits"
        );
        let mut daemon = avahi.command("unshare");
        daemon.args(["--mount", "sh", "-c", &script]);
        lan.keep(daemon.spawn()?);
        wait("avahi", || avahi.browse("_sss._udp").is_ok());
        Ok(avahi)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.lan.node(self.node).command(program);
        command
            .env("DBUS_SYSTEM_BUS_ADDRESS", &self.bus)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        command
    }

    /// All instances of a type, resolved, in the form for programs.
    fn browse(&self, kind: &str) -> Result<String, Failure> {
        let mut browse = self.command(BROWSE);
        browse
            .args(["-p", "-r", "-t", kind])
            .stdout(std::process::Stdio::piped());
        let output = browse.output()?;
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout)?),
            false => Err("avahi is not there".into()),
        }
    }
}

fn wait(what: &str, is_there: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is_there() {
        assert!(Instant::now() < until, "{what} does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
}

// spec: RCH-33, RCH-35
#[test]
fn avahi_sees_hosts_and_what_it_announces_itself_is_left_alone() {
    for program in [DAEMON, BROWSE, BUS] {
        if !Path::new(program).exists() {
            eprintln!("SKIPPED: {program} is not there (apt-get install avahi-daemon avahi-utils dbus)");
            return;
        }
    }
    let Some(lan) = unless_skipped(Lan::start()) else {
        return;
    };
    let avahi = Avahi::start(&lan, "a3").unwrap();
    assert_eq!(avahi.browse("_sss._udp").unwrap(), "");
    let Served { running, eid, .. } = lan.serve("a", &["--mdns"]).unwrap();
    let is_seen = || {
        let seen = avahi.browse("_sss._udp").unwrap();
        let resolved = seen
            .lines()
            .find(|line| line.starts_with("=;") && line.contains(";IPv4;"))?;
        Some(resolved.split(';').map(str::to_owned).collect::<Vec<_>>())
    };
    let seen = is_seen().expect("avahi sees the host");
    // Interface, family, name, type, domain, host, address, port, text.
    let (name, host, address, port, text) = (&seen[3], &seen[6], &seen[7], &seen[8], &seen[9]);
    assert_eq!(name.len(), 32, "{seen:?}");
    assert_eq!(*host, format!("{name}.local"));
    assert_eq!(address, &lan.node("a").ipv4().unwrap().to_string());
    assert_eq!(port, "7757");
    assert!(text.starts_with("\"t=") && text.len() == 36, "{text}");
    let types = avahi.browse("_services._dns-sd._udp");
    assert!(types.is_ok(), "{types:?}");
    // What others announce under the same type means nothing, and does no harm; also beside avahi on one machine.
    let mut publish = avahi.command("/usr/bin/avahi-publish");
    publish.args(["-s", "My Files", "_sss._udp", "9", "path=/", "t=nonsense"]);
    lan.keep(publish.spawn().unwrap());
    wait("what avahi announces", || {
        avahi.browse("_sss._udp").unwrap().contains("My\\032Files")
    });
    for node in ["a2", "a3"] {
        let told = lan
            .event(node, &["doctor", &eid, "--mdns", "--json"], "doctor")
            .unwrap();
        assert_eq!(told["peer"]["route"], "direct", "{told}");
        assert_eq!(
            told["mdns"]["found"].as_array().map(Vec::is_empty),
            Some(false),
            "{told}"
        );
    }
    super::lan::stop(running).unwrap();
    wait("the farewell", || is_seen().is_none_or(|seen| seen[3] != *name));
}
