//! Hosts of which one is behind a NAT that takes another port for each peer, and ports are guessed.

use std::path::Path;

use serde_json::Value;
use sss_lab::{Kind, Link};

use super::pair::Pair;
use super::running::{Failure, Running};
use super::unless_skipped;

/// Calls after which it has to have worked: one of 60 finds no port, and a busy machine is late.
const TRIES: usize = 4;

impl Pair {
    /// The same by a program that may open so few files; and what it says on standard error.
    ///
    /// # Errors
    /// As [`Self::doctor`].
    fn doctor_limited(&self, eid: &str, files: u32) -> Result<(Value, String), Failure> {
        let tool = self.command("a")?;
        let mut limited = self.lab.node("a")?.command("sh");
        limited.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
        limited.args(["-c", &format!("ulimit -n {files} && exec \"$0\" doctor \"$1\" --json")]);
        let done = limited.arg(&self.program).arg(eid).output()?;
        let out = String::from_utf8(done.stdout)?;
        let fact = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let doctor = fact.into_iter().find(|fact| fact["event"] == "doctor");
        Ok((doctor.ok_or("no event")?, String::from_utf8(done.stderr)?))
    }

    /// Speaks with it for some seconds. Returns how it was found, and the first change of the route, if there was one;
    /// and the program, which still speaks.
    ///
    /// # Errors
    /// If that ends without a word.
    fn route_after_ping(&self, eid: &str) -> Result<Option<(Running, Value, Value)>, Failure> {
        let mut command = self.command("a")?;
        command.args(["ping", "-c", "40", "-i", "0.3", eid, "--json"]);
        let mut running = Running::start(&mut command)?;
        let found = running.event("found")?;
        let route = running.event("route").ok();
        Ok(route.map(|route| (running, found, route)))
    }
}

fn start(kinds: (Kind, Kind)) -> Option<Pair> {
    let link = Link::parse(["delay=10ms"]).unwrap();
    unless_skipped(Pair::start(Path::new(env!("CARGO_BIN_EXE_sss")), kinds, link))
}

// spec: RCH-29, RCH-30
#[test]
fn a_symmetric_nat_on_one_side_is_passed_directly() {
    for kinds in [(Kind::Symmetric, Kind::Prc), (Kind::EimRandom, Kind::Symmetric)] {
        let Some(pair) = start(kinds) else {
            return;
        };
        let is_direct =
            |told: &Value| told["peer"]["route"] == "direct" && told["peer"]["spraying"]["outcome"] == "direct";
        let mut all = Vec::new();
        while all.len() < TRIES && !all.last().is_some_and(is_direct) {
            let (mut callee, eid) = pair.callee(&[]).unwrap();
            all.push(pair.doctor(&eid, &[]).unwrap());
            callee.child.kill().unwrap();
        }
        assert!(all.last().is_some_and(is_direct), "{kinds:?}: {all:?}");
    }
}

// spec: RCH-29
#[test]
fn no_port_is_guessed_where_one_of_the_two_does_not_want_it() {
    let Some(pair) = start((Kind::Symmetric, Kind::Prc)) else {
        return;
    };
    for (one, other) in [(&["--no-spraying"][..], &[][..]), (&[], &["--no-spraying"])] {
        let (mut callee, eid) = pair.callee(other).unwrap();
        let told = pair.doctor(&eid, one).unwrap();
        assert_eq!(told["peer"]["route"], "relay", "{told}");
        assert!(
            told["peer"]["spraying"]["sent"].as_u64().unwrap_or_default() == 0,
            "{told}"
        );
        callee.child.kill().unwrap();
    }
}

// spec: RCH-29
#[test]
fn where_few_files_may_be_opened_that_is_said() {
    let Some(pair) = start((Kind::Symmetric, Kind::Prc)) else {
        return;
    };
    // Of a handful of sockets none is likely to meet a port; but one may, and is enough.
    let mut tried = (1..=TRIES).map(|_| {
        let (mut callee, eid) = pair.callee(&[]).unwrap();
        let all = pair.doctor_limited(&eid, 52).unwrap();
        callee.child.kill().unwrap();
        all
    });
    let missed = tried.find(|(told, _said)| told["peer"]["route"] == "relay");
    let (told, said) = missed.expect("each of these few tries met a port");
    let spraying = &told["peer"]["spraying"];
    assert!(spraying["sockets"].as_u64().unwrap() < 32, "{told}");
    assert_eq!(spraying["why"], "the system lets too few sockets be opened", "{told}");
    assert_eq!(said.matches("ulimit -n").count(), 1, "{said}");
}

// spec: MIG-29
#[test]
fn it_is_told_when_a_host_is_reached_directly_that_was_reached_through_the_relay() {
    let Some(pair) = start((Kind::Symmetric, Kind::Prc)) else {
        return;
    };
    for _ in 0..TRIES {
        let (mut callee, eid) = pair.callee(&[]).unwrap();
        let Some((_speaks, found, route)) = pair.route_after_ping(&eid).unwrap() else {
            continue;
        };
        assert_eq!(found["route"], "relay", "{found}");
        assert_eq!(
            (&route["route"], &route["eid"]),
            (&"direct".into(), &eid.as_str().into()),
            "{route}"
        );
        let logged = callee.event("route").unwrap();
        assert_eq!(logged["route"], "direct", "{logged}");
        assert!(logged["address"].is_string() && logged["eid"].is_string(), "{logged}");
        return;
    }
    panic!("in {TRIES} tries no port was met");
}
