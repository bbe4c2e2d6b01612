//! Hosts of which one is behind a NAT that takes another port for each peer, and ports are guessed.

use std::path::Path;

use serde_json::Value;
use sss_lab::{Kind, Link};

use super::pair::Pair;
use super::unless_skipped;

/// Calls after which it has to have worked: one of 60 finds no port, and a busy machine is late.
const TRIES: usize = 4;

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
