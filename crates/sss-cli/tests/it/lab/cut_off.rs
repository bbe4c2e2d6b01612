//! A machine without a network.

use std::path::Path;
use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sss_lab::{Kind, Lab};

use super::unless_skipped;
use super::world::{Failure, Running, command, text};

struct CutOff {
    lab: Lab,
    homes: tempfile::TempDir,
}

impl CutOff {
    fn start() -> Result<Self, Failure> {
        let lab = Lab::builder().site("a", Kind::Prc).build()?;
        let homes = tempfile::tempdir()?;
        let mut down = lab.node("a")?.command("ip");
        assert!(down.args(["link", "set", "e0", "down"]).status()?.success());
        Ok(Self { lab, homes })
    }

    fn command(&self, words: &[&str]) -> std::process::Command {
        let node = self.lab.node("a").unwrap();
        let mut sss = command(&self.homes, node, Path::new(env!("CARGO_BIN_EXE_sss")));
        sss.args(words).stdin(Stdio::null());
        sss
    }

    fn run(&self, words: &[&str]) -> (Output, String, String) {
        let output = self.command(words).output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (said(&output.stdout), said(&output.stderr));
        (output, out, err)
    }
}

#[test]
fn a_ticket_of_a_machine_without_a_network_is_said_to_lead_nobody_there() {
    let Some(cut_off) = unless_skipped(CutOff::start()) else {
        return;
    };
    let useless = "the ticket holds no address that others can use";
    let (output, out, err) = cut_off.run(&["ticket", "--public"]);
    assert!(output.status.success() && out.starts_with("ssst1"), "{out}{err}");
    assert!(err.contains(useless) && err.contains("-> "), "{err}");
    let (_, out, err) = cut_off.run(&["ticket", "--public", "--json"]);
    let note: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert!(text(&note["text"]).contains(useless), "{out}{err}");
    // What is named is meant.
    let (_, _, err) = cut_off.run(&["ticket", "--public", "--at", "127.0.0.1"]);
    assert_eq!(err, "");
    for (more, is_told) in [(&[][..], true), (&["--bind", "127.0.0.1"], false)] {
        let mut serve = cut_off.command(&[&["serve", ".", "--json", "--port", "0"], more].concat());
        let mut running = Running::start(serve.current_dir(cut_off.homes.path()).stderr(Stdio::null())).unwrap();
        assert!(text(&running.event("listening").unwrap()["ticket"]).starts_with("ssst1"));
        let pid = Pid::from_child(&running.child);
        kill_process(pid, Signal::INT).unwrap();
        let told = running.event("note").map(|note| text(&note["text"]));
        assert_eq!(told.is_ok_and(|told| told.contains(useless)), is_told, "{more:?}");
    }
}

// spec: FIL-48
#[cfg(feature = "dns")]
#[test]
fn without_a_network_it_is_not_the_dns_that_says_nothing() {
    use std::time::{Duration, Instant};

    let Some(cut_off) = unless_skipped(CutOff::start()) else {
        return;
    };
    let why = "this machine has no network that leads to 192.0.2.53";
    let named = ["dns:nas.example", "--dns", "192.0.2.53", "--timeout", "3"];
    let (output, _, err) = cut_off.run(&[&["ls"], &named[..]].concat());
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.contains(why) && err.contains("-> connect this machine"), "{err}");
    let begun = Instant::now();
    let (output, out, err) = cut_off.run(&[&["doctor"], &named[..]].concat());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(output.status.code(), Some(3), "{err}");
    let words = out.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in [
        "this machine is not connected",
        why,
        "-> connect this machine to a network",
    ] {
        assert!(words.contains(word), "{word:?}: {out}");
    }
    let (_, out, err) = cut_off.run(&[&["doctor", "--json"], &named[..]].concat());
    let told = out.lines().find(|line| line.contains("\"doctor\""));
    let told: Value = serde_json::from_str(told.unwrap_or_else(|| panic!("{out}{err}"))).unwrap();
    assert_eq!(told["dns"]["name"], "nas.example", "{told}");
    assert!(text(&told["dns"]["error"]).contains(why), "{told}");
}
